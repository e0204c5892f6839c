import { readFileSync, readdirSync } from 'node:fs'
import { expect, test, vi } from 'vitest'
import { acceptRules } from '../../src/acceptance.ts'
import { CODES, type Code } from '../../src/config/codes.ts'
import { LINTS } from '../../src/config/lint.ts'
import { COUNTRIES } from '../../src/config/places.ts'
import { GOOD, SCHEMAS } from './fixture.ts'
import { MISTAKES } from './mistakes.ts'

const texts = (folder: URL, without: string): string =>
  readdirSync(folder).filter((name) => name.endsWith('.ts') && name !== without).map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n')

const SOURCE = texts(new URL('../../src/config/', import.meta.url), 'codes.ts') + texts(new URL('../../src/', import.meta.url), '')
const TESTS = texts(new URL('./', import.meta.url), 'mistakes.ts')

// A generated function that does not compile is a fault of ours that nobody knows how to make.
vi.mock('../../src/minimise/compile.ts', async (original) => ({
  ...(await original<typeof import('../../src/minimise/compile.ts')>()),
  compilePlan: () => { throw new Error('unexpected token') },
}))

test.each(Object.keys(CODES))('%s is documented, given somewhere, and reached by a test', (code) => {
  const entry = CODES[code as Code]
  expect(entry.sentence).toMatch(/^[A-Z`].+\.$/)
  expect(entry.mend).toMatch(/^[A-Z`].+\.$/)
  expect(SOURCE.includes(`'${code}'`), 'no finding has it').toBe(true)
  // A mistake that has it is run; what no single mistake in a rules file can show is expected by name beside it.
  const isReached = MISTAKES.some((mistake) => mistake.code === code) || new RegExp(`\\b${code}'`).test(TESTS)
  expect(isReached, 'no test expects it').toBe(true)
})

test('codes are upper case with hyphens', () => {
  for (const code of Object.keys(CODES)) expect(code).toMatch(/^[A-Z]+(-[A-Z]+)*$/)
})

test('the lints are the codes that can be waived', () => {
  expect(LINTS.map((lint) => lint.code).sort()).toEqual(Object.keys(CODES).filter((code) => CODES[code as Code].kind === 'lint').sort())
})

test('every lint but that of the gateway file has a mistake that triggers it', () => {
  const triggered = new Set(MISTAKES.map((mistake) => mistake.code))
  // These need options or parts of the language that come later; rules.test.ts has them.
  const elsewhere = new Set(['BRIDGE-RECIPIENT', 'PGN-PERSONAL', 'PURPOSES-NOT-DECLARED'])
  expect(LINTS.map((lint) => lint.code).filter((code) => !triggered.has(code) && !elsewhere.has(code))).toEqual([])
})

test('a minimiser that cannot be made refuses the file, stream by stream', async () => {
  const { policy, report, findings } = await acceptRules('rules.yaml', { schemas: SCHEMAS, text: GOOD })
  expect([policy, report]).toEqual([undefined, undefined])
  expect([...new Set(findings.map((finding) => finding.code))]).toEqual(['NOT-COMPILED'])
  expect(findings.map((finding) => finding.path)).toEqual(['outputs.service.streams.status', 'outputs.planning.streams.status', 'outputs.shift.streams.operator'])
})

test('a test that fails refuses the file', async () => {
  vi.doUnmock('../../src/minimise/compile.ts')
  vi.resetModules()
  const { acceptRules: accept } = await import('../../src/acceptance.ts')
  const { findings } = await accept('rules.yaml', { schemas: SCHEMAS, text: GOOD.replace('expect: { shift: nothing }', 'expect: { shift: { op: SIGN_ON } }') })
  expect(findings.map((finding) => [finding.code, finding.place.line])).toContainEqual(['TEST-FAILED', GOOD.split('\n').findIndex((line) => line.includes('- name: no app')) + 1])
})

test.each(['README.md', 'config/README.md', 'bench/README.md'])('%s names no code that there is not', (name) => {
  const documented = [...readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8').matchAll(/`([A-Z]+(?:-[A-Z]+)+)`/g)].map((match) => match[1] as string)
  const thrown = new Set([...sources().matchAll(/GatewayError\('([A-Z]+(?:-[A-Z]+)+)'/g)].map((match) => match[1]))
  // Parts of countries look like codes.
  expect(documented.filter((code) => !Object.hasOwn(CODES, code) && !thrown.has(code) && !COUNTRIES.has(code.slice(0, 2)))).toEqual([])
})

function sources(): string {
  const root = new URL('../../src/', import.meta.url)
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => readFileSync(new URL(name, root), 'utf8')).join('\n')
}
