import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { loadRootKey } from '../../src/consent/root.ts'

let folder: string
let file: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-keys-'))
  file = join(folder, 'data', 'root.key')
})
afterEach(() => rmSync(folder, { recursive: true }))

async function keys(...words: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const code = await runCommand(['keys', ...words], { stdin: new PassThrough(), stdout, stderr, env: {}, cwd: folder })
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') }
}

describe('parapet keys', () => {
  it('init makes a file that only its owner can read, and replaces none', async () => {
    const { code, out } = await keys('init', '--data', 'data')
    expect([code, out]).toEqual([0, expect.stringContaining(loadRootKey(file).id)])
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const before = readFileSync(file, 'utf8')
    expect(await keys('init', '--data', 'data')).toMatchObject({ code: 1, err: expect.stringMatching(/already/) })
    expect(readFileSync(file, 'utf8')).toBe(before)
  })

  it('rotate says which key is new, that pseudonyms stay, and when it takes effect; never the key', async () => {
    await keys('init', '--data', 'data')
    const before = loadRootKey(file)
    const { code, out } = await keys('rotate', '--data', 'data')
    const after = loadRootKey(file)
    expect(code).toBe(0)
    expect(out).toContain(after.id)
    expect(out).toContain(before.id)
    expect(out).toMatch(/Pseudonyms stay/)
    expect(out).toMatch(/next start/)
    for (const line of readFileSync(file, 'utf8').split('\n').filter((one) => one !== '' && !one.startsWith('#'))) expect(out).not.toContain(line.split(' ').at(-1))
    expect([after.bytes, after.former.map(({ id }) => id)]).toEqual([before.bytes, [before.id]])
  })

  it('rotate --pseudonyms says what it means', async () => {
    await keys('init', '--data', 'data')
    const before = loadRootKey(file)
    const { out } = await keys('rotate', '--pseudonyms', '--data', 'data')
    expect(out).toMatch(/every machine and person has another one/)
    expect(loadRootKey(file).pseudonymId).not.toBe(before.pseudonymId)
  })

  it('refuses what it cannot use, with the mend', async () => {
    expect(await keys('rotate', '--data', 'data')).toMatchObject({ code: 1, err: expect.stringMatching(/keys init/) })
    await keys('init', '--data', 'data')
    expect(await keys('init', '--pseudonyms', '--data', 'other')).toMatchObject({ code: 2 })
    writeFileSync(file, '00'.repeat(32), { mode: 0o600 })
    const { code, err } = await keys('rotate', '--data', 'data')
    expect([code, err]).toEqual([1, expect.stringMatching(/constant or count/)])
    expect(readFileSync(file, 'utf8')).toBe('00'.repeat(32))
  })
})
