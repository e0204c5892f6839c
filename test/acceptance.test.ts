/** What makes a rules file acceptable, and what of it survives when it is not. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { acceptRules } from '../src/acceptance.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import type { PseudonymKeys } from '../src/minimise/pseudonym.ts'

const root = resolve(import.meta.dirname, '..')
const file = join(root, 'config/rules/awp.yaml')
const text = readFileSync(file, 'utf8')
const schemas = loadSchemas([join(root, 'proto')])

describe('acceptRules', () => {
  test('reads the file by itself, or takes the text it is given, with the same hash', async () => {
    const [fromDisk, given] = [await acceptRules(file, { schemas }), await acceptRules('awp.yaml', { schemas, text })]
    expect(fromDisk.findings).toEqual([])
    expect(fromDisk.policy?.hash).toBe(given.policy?.hash)
    expect([fromDisk.text, given.text]).toEqual([text, text])
    expect(given.report?.failed).toBe(0)
  })

  test('a failing test refuses the file; what could be built stays for previews', async () => {
    const { policy, draft, findings } = await acceptRules('awp.yaml', { schemas, text: text.replace('platform_load_kg: 150', 'platform_load_kg: 151') })
    expect(policy).toBe(undefined)
    expect(draft).toBeDefined()
    expect(findings.map((one) => [one.severity, one.code])).toEqual(findings.map(() => ['error', 'TEST-FAILED']))
    expect(findings.length).toBeGreaterThan(0)
    const line = text.split('\n').findIndex((one) => one.includes('platform_load_kg: 150'))
    expect(findings[0]?.place.line).toBeLessThan(line)
  })

  test('with a lint against it the tests still run, so that everything is seen at once', async () => {
    const { policy, findings, report } = await acceptRules('awp.yaml', { schemas, text: text.replaceAll('arrival_visible: true', 'arrival_visible: false').replace('platform_load_kg: 150', 'platform_load_kg: 151') })
    expect(policy).toBe(undefined)
    expect(new Set(findings.map((one) => one.code))).toEqual(new Set(['ARRIVAL-TELLS-TIME', 'TEST-FAILED']))
    expect(report?.passed).toBeGreaterThan(30)
  })

  test('the keys of a gateway do not change what the tests give', async () => {
    const keys: PseudonymKeys = { root: Buffer.alloc(32, 0x5a), tenant: 'acme', rows: { generationAt: () => 0, row: () => undefined } }
    expect((await acceptRules('awp.yaml', { schemas, text, keys })).policy).toBeDefined()
  })

  test.each([
    ['nothing', ''], ['no YAML', ': ['], ['another file', 'listen: {}'], ['a list', '- 1'], ['bytes', '\u0000\u0001'],
  ])('%s is refused with a finding, not with an exception', async (_name, wrong) => {
    const { policy, findings, report } = await acceptRules('x.yaml', { schemas, text: wrong })
    expect([policy, report]).toEqual([undefined, undefined])
    expect(findings.some((one) => one.severity === 'error' && one.place.file === 'x.yaml')).toBe(true)
  })

  test('a file that is not there is a finding too', async () => {
    expect((await acceptRules(join(root, 'nowhere.yaml'), { schemas })).findings.map((one) => one.code)).toEqual(['FILE-UNREADABLE'])
  })
})
