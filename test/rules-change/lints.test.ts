/** Lints go by what a transform does: one that bites only where no value lies counts as none. And what a schema can make endless is bounded. */
import { describe, expect, test } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { GOOD, load, TODAY } from '../config/fixture.ts'

function codes(from: string, to: string): readonly string[] {
  expect(GOOD).toContain(from)
  return load(GOOD.replace(from, to)).findings.map((one) => one.code)
}

describe('a transform that keeps nearly everything', () => {
  // Beside a pseudonym that changes weekly a counter must not leave as it is.
  const counter = (treatment: string): readonly string[] => codes('          soc_pct_x10: [', `          seq: ${treatment}\n          soc_pct_x10: [`)
  test.each<[string, string, boolean]>([
    ['kept', 'keep', true],
    ['clamped to all that its type holds', '{ clamp: [0, 4294967295] }', true],
    ['clamped to nearly all', '{ clamp: [1, 4294967294] }', true],
    ['in buckets of one', `{ bucket: [${Array.from({ length: 200 }, (_, at) => at).join(', ')}] }`, true],
    ['with all bits that it uses', '{ flags: { bits: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] } }', true],
    ['mapped to itself', '{ map: { 1: 1, 2: 2, else: 3 } }', true],
    ['two that keep', '[{ clamp: [0, 1000000] }, { flags: { bits: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] } }]', true],
    ['rounded', '{ round: 1000 }', false],
    ['in wide buckets', '{ bucket: [0, 1000, 10000] }', false],
    ['clamped to little', '{ clamp: [0, 10] }', false],
    ['one bit', '{ flags: { bits: [0] } }', false],
    ['clamped, then rounded', '[{ clamp: [0, 1000000] }, { round: 1000 }]', false],
  ])('a counter %s', (_, treatment, isFound) => {
    expect(counter(treatment).includes('COUNTER-BESIDE-PSEUDONYM')).toBe(isFound)
  })

  // The site is linkable, and must not stand in a topic as it is.
  const TOPIC = GOOD.replace('"out/planning/{machine_id}"', '"out/planning/{site}"')
  const topic = (treatment: string): readonly string[] => load(TOPIC.replace('          soc_pct_x10: [', `          site: ${treatment}\n          soc_pct_x10: [`)).findings.map((one) => one.code)
  test.each<[string, string, boolean]>([
    ['kept', 'keep', true],
    ['cut beyond its end', '{ truncate: 65536 }', true],
    ['masked with nothing left to mask', '{ mask: { keep_first: 16, keep_last: 16 } }', true],
    ['cut', '{ truncate: 3 }', false],
    ['masked', '{ mask: { keep_first: 2 } }', false],
    ['under a pseudonym', '{ pseudonym: { rotate: 7d } }', false],
  ])('a text in the topic %s', (_, treatment, isFound) => {
    expect(topic(treatment).includes('RAW-PERSONAL-TOPIC')).toBe(isFound)
  })
})

describe('a person under a name that lasts', () => {
  test.each<[string, string, boolean]>([
    ['a pseudonym that never changes', '{ pseudonym: {} }', true],
    ['sealed, which gives the same text each time', 'encrypt', true],
    ['a pseudonym that changes', '{ pseudonym: { rotate: 30d } }', false],
  ])('%s', (_, treatment, isFound) => {
    expect(codes('operator_id: { pseudonym: { rotate: 30d } }', `operator_id: ${treatment}`).includes('ROTATE-NEVER-PERSON')).toBe(isFound)
  })
})

describe('messages that contain one another', () => {
  // Each of them holds all the others: eight levels deep there are more paths than a box at a depot can list.
  const names = Array.from({ length: 14 }, (_, at) => `N${at}`)
  const schemas = schemasFromText({ 'knot.proto': `syntax = "proto3"; package knot;\n${names.map((name) => `message ${name} {
    uint32 level = 1 [(parapet.v1.privacy) = { category: "battery", class: BASIC, personal: NEVER }];
    string who = 2 [(parapet.v1.privacy) = { category: "identity", class: ADDITIONAL, personal: ALWAYS, subject: OPERATOR }];
    ${names.map((other, at) => `${other} ${other.toLowerCase()} = ${at + 3};`).join(' ')} }`).join('\n')}` })
  const rules = (fields: string): string => `version: 1
streams: { knot: { topic: "up/{fleet}/{machine}/knot", message: knot.N0 } }
outputs: { out: { recipient: { id: r, role: processor, region: EU }, purpose: use, basis: contract, to: { topic: out/knot }, streams: { knot: { ${fields} } } } }
`
  test('are looked into for people, and not for ever', () => {
    const start = performance.now()
    const { findings } = loadRules('r.yaml', rules('fields: { n1: keep, n2: keep, level: keep }'), { schemas, today: TODAY })
    expect(findings.map((one) => one.code)).toContain('CONTRACT-OPERATOR')
    expect(performance.now() - start).toBeLessThan(5_000)
  })

  test('are too many to stand behind one word', () => {
    const { findings } = loadRules('r.yaml', rules('keep: not_personal'), { schemas, today: TODAY })
    expect(findings.filter((one) => one.severity === 'error').map((one) => [one.code, one.path])).toEqual([['LIMIT', 'outputs.out.streams.knot.keep']])
  })
})
