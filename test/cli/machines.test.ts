/** Many machines at once: `machines import` into each kind of registry, and a large one that is read again without holding up others. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { checkCredential } from '../../src/broker/identify.ts'
import { runCommand } from '../../src/cli/command.ts'
import { loadMachines, loadMachinesAside } from '../../src/config/machines.ts'
import { testIo } from './io.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-machines-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const at = (name: string): string => join(folder, name)
const table = { machines: () => import('../../src/cli/machines.ts') }

async function machines(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = testIo('', {}, folder)
  const code = await runCommand(['machines', ...words], io, table)
  return { code, out: io.out(), err: io.err() }
}

const FLEET = [
  'id,fleet,model,country,operator_collection,holder,credential,certificate,label.site,label.note',
  'SN-1,north,Boom 18m,FR,on,rental-1,,,Lyon,"says ""hi"", twice"',
  'SN-2,north,Scissor,US-CA,off,,,urn:example:2,,',
  '"7,5",south,Boom,,,,scrypt$1024$8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA,,,',
  '',
].join('\n')

describe('machines import', () => {
  test.each([
    ['a YAML file', 'machines.yaml', 'machines:\n  SN-0: { fleet: old, model: m }\n# the end\n'],
    ['a YAML file without a key', 'machines.yaml', 'SN-0: { fleet: old, model: m }\n'],
    ['a CSV file', 'registry.csv', 'id;fleet;model\nSN-0;old;m\n'],
    ['a folder', 'registry', 'SN-0: { fleet: old, model: m }\n'],
  ])('%s then holds what was there and what the CSV file says', async (_what, name, before) => {
    if (name === 'registry') mkdirSync(at(name))
    writeFileSync(at(name === 'registry' ? 'registry/old.yaml' : name), before)
    writeFileSync(at('new.csv'), FLEET)
    expect(await machines('import', 'new.csv', '--file', name)).toMatchObject({ code: 0, err: '', out: expect.stringContaining('3 machines') as string })

    const { machines: after, findings } = loadMachines(at(name))
    expect(findings).toEqual([])
    const expected = new Map([...loadMachines(at('new.csv')).machines!])
    expect([...after!.keys()].toSorted()).toEqual(['7,5', 'SN-0', 'SN-1', 'SN-2'])
    for (const [id, machine] of expected) expect(after!.get(id)).toEqual(machine)
    // Once more: nothing is added twice.
    writeFileSync(at('again.csv'), FLEET)
    expect(await machines('import', 'again.csv', '--file', name)).toMatchObject({ code: 1, err: expect.stringContaining('3 of 3 machines are in the registry already') as string })
  })

  test('makes passwords for those that have nothing to prove themselves by', async () => {
    writeFileSync(at('registry.csv'), 'id,fleet,model\n')
    writeFileSync(at('new.csv'), FLEET)
    expect((await machines('import', 'new.csv', '--file', 'registry.csv', '--passwords', 'secret.csv')).code).toBe(0)
    const [head, ...rows] = readFileSync(at('secret.csv'), 'utf8').trim().split('\n').map((line) => line.split(','))
    expect([head, rows.map(([id]) => id), statSync(at('secret.csv')).mode & 0o777]).toEqual([['id', 'password'], ['SN-1'], 0o600])
    const after = loadMachines(at('registry.csv')).machines!
    expect(await checkCredential(rows[0]![1]!, after.get('SN-1')!.credential!)).toBe(true)
    expect(after.get('SN-2')!.credential).toBeUndefined()
  })

  test.each([
    ['a wrong country', 'id,fleet,model,country\nSN-1,north,m,Atlantis\n', /new\.csv:2:14 error UNKNOWN-PLACE/],
    ['a line too short', 'id,fleet,model\nSN-1,north\n', /BAD-CSV/],
    ['no fleet', 'id,model\nSN-1,m\n', /MISSING-KEY/],
  ])('%s is said with its place, and nothing is added', async (_what, text, words) => {
    writeFileSync(at('registry.csv'), 'id,fleet,model\n')
    writeFileSync(at('new.csv'), text)
    expect(await machines('import', 'new.csv', '--file', 'registry.csv')).toMatchObject({ code: 1, err: expect.stringMatching(words) as string })
    expect(readFileSync(at('registry.csv'), 'utf8')).toBe('id,fleet,model\n')
  })

  test('takes a CSV file and nothing else', async () => {
    expect((await machines('import', 'new.yaml')).code).toBe(2)
    expect((await machines('import')).code).toBe(2)
  })
})

describe('a large registry', () => {
  const rows = 20_000
  const write = (): void => writeFileSync(at('m.csv'), `id,fleet,model,country,operator_collection\n${Array.from({ length: rows }, (_, index) => `SN-${index},fleet-${index % 9},Boom,FR,on\n`).join('')}`)

  test('is read aside, to the same result, while others have their turn', async () => {
    write()
    let turns = 0
    let longest = 0
    let last = performance.now()
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
      turns++
    }, 1)
    const began = performance.now()
    const { machines: read, findings } = await loadMachinesAside(at('m.csv'), new AbortController().signal)
    const took = performance.now() - began
    clearInterval(timer)
    expect([read?.size, findings]).toEqual([rows, []])
    expect(read).toEqual(loadMachines(at('m.csv')).machines)
    // A reading in this thread would leave one turn, as long as all of it.
    expect(turns).toBeGreaterThan(20)
    expect(longest).toBeLessThan(took / 2)
  })

  test('with a mistake is refused with its place, and one that is not wanted any more is given up', async () => {
    write()
    writeFileSync(at('m.csv'), `${readFileSync(at('m.csv'), 'utf8')}SN-1,again,Boom,FR,on\n`)
    expect(await loadMachinesAside(at('m.csv'), new AbortController().signal)).toMatchObject({ machines: undefined, findings: [{ code: 'DUPLICATE-ID', place: { line: rows + 2, col: 1 } }] })
    expect(await loadMachinesAside(at('m.csv'), AbortSignal.abort())).toEqual({ machines: undefined, findings: [] })
  })
})
