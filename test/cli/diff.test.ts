/** `parapet diff` with two files: exit codes, text, JSON, schemas of then. The differences themselves are in test/difference.test.ts. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { parapet } from './run.ts'

const lift = resolve(import.meta.dirname, 'lift')
const text = readFileSync(join(lift, 'rules.yaml'), 'utf8')
const folder = mkdtempSync(join(tmpdir(), 'parapet-diff-'))
const run = (...argv: readonly string[]): ReturnType<typeof parapet> => parapet(['diff', ...argv], { cwd: folder })

function written(name: string, content: string): string {
  writeFileSync(join(folder, name), content)
  return name
}

/** An edit that found nothing is a mistake of the test. */
function edited(from: string, to: string): string {
  expect(text).toContain(from)
  return text.replace(from, to)
}

beforeAll(() => {
  cpSync(join(lift, 'proto'), join(folder, 'proto'), { recursive: true })
  written('old.yaml', text)
})

describe('exit codes', () => {
  test('0: nothing is widened, be it only words', async () => {
    expect(await run('old.yaml', written('same.yaml', `# a comment\n${text}`))).toEqual({ code: 0, out: 'No difference in what leaves.\n', err: '', bytes: expect.anything() as Buffer })
    const { code, out } = await run('old.yaml', written('coarser.yaml', edited('truncate: 3', 'truncate: 2')))
    expect(code).toBe(0)
    expect(out).toMatch(/^narrowed {2}outputs\.[^:]+: first 3 -> first 2 .*\n\n0 widened, [1-9]\d* narrowed, 0 changed\n$/s)
  })

  test('3: something is widened, and each line says what, for whom and where', async () => {
    const { code, out } = await run('old.yaml', written('finer.yaml', edited('truncate: 3', 'truncate: 4')))
    expect(code).toBe(3)
    expect(out).toMatch(/^widened {3}outputs\.[^:]+: first 3 -> first 4 \([^)]+\)\n/)
  })

  test('1: a file with errors, which are printed; 2: wrong words', async () => {
    const bad = await run('old.yaml', written('bad.yaml', edited('truncate: 3', 'truncat: 3')))
    expect(bad).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/bad\.yaml:\d+:\d+ error UNKNOWN-TRANSFORM/) as string })
    expect(await run('bad.yaml', 'old.yaml')).toMatchObject({ code: 1 })
    expect(await run('old.yaml')).toMatchObject({ code: 2 })
    expect(await run('old.yaml', 'same.yaml', '--active')).toMatchObject({ code: 2 })
    expect(await run('--active', 'old.yaml', '--url', 'http://127.0.0.1:9', '--token-file', written('token', 'x'))).toMatchObject({ code: 1 })
  })
})

test('--format json is the rows as data', async () => {
  const { code, out } = await run('old.yaml', 'finer.yaml', '--format', 'json')
  const { widened, changes, before, after } = JSON.parse(out) as { widened: number; changes: readonly Record<string, unknown>[]; before: { hash: string }; after: { hash: string } }
  expect(code).toBe(3)
  expect(changes.filter((one) => one['verdict'] === 'widened')).toHaveLength(widened)
  expect(changes[0]).toMatchObject({ comparable: true, before: 'first 3', after: 'first 4', consent: expect.any(Array) as string[], countries: expect.any(Array) as string[] })
  expect(before.hash).not.toBe(after.hash)
})

test('--old-proto: the same rules with the schemas of yesterday', async () => {
  mkdirSync(join(folder, 'yesterday'))
  const schema = readFileSync(join(lift, 'proto/lift.proto'), 'utf8')
  const name = /string (\w+) = \d+[^;]*;\s*\}/.exec(schema)?.[1] ?? ''
  writeFileSync(join(folder, 'yesterday/lift.proto'), schema.replace(/ *string \w+ = \d+[^;]*;(\s*\})/, '$1'))
  const { code, out } = await run('old.yaml', 'old.yaml', '--old-proto', 'yesterday')
  expect(code).toBe(0)
  expect(out).toContain(`.${name}: nothing -> string`)
})
