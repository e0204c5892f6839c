import { readFileSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { CODES, type Code } from '../../src/config/codes.ts'
import { LINTS } from '../../src/config/lint.ts'
import { MISTAKES } from './mistakes.ts'

const texts = (folder: URL, without: string): string =>
  readdirSync(folder).filter((name) => name.endsWith('.ts') && name !== without).map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n')

const SOURCE = texts(new URL('../../src/config/', import.meta.url), 'codes.ts') + texts(new URL('../../src/', import.meta.url), '')
const TESTS = texts(new URL('./', import.meta.url), 'codes.test.ts')

test.each(Object.keys(CODES))('%s is documented, given somewhere, and reached by a test', (code) => {
  const entry = CODES[code as Code]
  expect(entry.sentence).toMatch(/^[A-Z`].+\.$/)
  expect(entry.mend).toMatch(/^[A-Z`].+\.$/)
  expect(SOURCE.includes(`'${code}'`), 'no finding has it').toBe(true)
  // Run by the rules' own tests, outside of this room.
  if (code === 'TEST-FAILED' || code === 'NOT-COMPILED') return
  expect(new RegExp(`\\b${code}'`).test(TESTS), 'no test expects it').toBe(true)
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
