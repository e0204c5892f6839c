/**
 * Random edits of good rules files: each is refused, or what leaves can be worked out from what left before, or `diff` says that it is
 * wider. The judge is oracle.ts, which plays messages and knows nothing of difference.ts.
 *
 * `PARAPET_RUNS=10 npx vitest run test/rules-change/edits.test.ts` is the long form; PARAPET_SEED repeats a run.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseYaml } from '../../src/config/yaml.ts'
import { differenceOf, textOfDifference } from '../../src/difference.ts'
import type { Policy } from '../../src/domain/policy.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { GOOD, SCHEMAS } from '../config/fixture.ts'
import { createDice } from '../minimise/random/dice.ts'
import { edited, type Node } from './edits.ts'
import { Judge, untested, type Good } from './judge.ts'

const RUNS = Number(process.env['PARAPET_RUNS'] ?? 1)
const SEED = Number(process.env['PARAPET_SEED'] ?? 20_261_123)

const root = resolve(import.meta.dirname, '../..')
const shipped = loadSchemas([join(root, 'proto')])
const text = (file: string): string => readFileSync(join(root, file), 'utf8')

const FILES: readonly Good[] = [
  { name: 'the shipped rules', text: text('config/rules/awp.yaml'), schemas: shipped },
  { name: 'the rules of the scenarios', text: text('test/scenarios/rules.yaml'), schemas: shipped },
  { name: 'the rules of the lifts', text: text('test/cli/lift/rules.yaml'), schemas: loadSchemas([join(root, 'test/cli/lift')]) },
  { name: 'a small good file', text: GOOD, schemas: SCHEMAS },
]

const MYSTERY = ['recipients:\n', 'fields: { lift.v1.Status.mystery: { class: basic, personal: never } }\nrecipients:\n'] as const

// What random edits found to widen without a word, each on its smallest file.
describe('an edit that looks narrower and is not', () => {
  const TOPIC = 'topic: "out/planning/{machine_id}"'
  const rows: readonly (readonly [name: string, old: readonly (readonly [from: string, to: string])[], edit: readonly [from: string, to: string], wider: RegExp])[] = [
    ['a constant instead of a needed pseudonym: messages that name nobody leave', [['require: [position]\n        keep: [mode]\n        fields:\n', 'require: [operator_id]\n        keep: [mode]\n        fields:\n          operator_id: { consent: { pseudonym: { rotate: 30d } }, no_consent: drop }\n']], ['consent: { pseudonym: { rotate: 30d } }, no_consent: drop', 'consent: { constant: x }, no_consent: drop'], /leaves and did not/],
    ['a constant instead of a pseudonym that fills the topic', [], ['machine_id: { pseudonym: { rotate: never } }', 'machine_id: { constant: x }'], /leaves and did not/],
    ['a constant instead of a map that drops', [[TOPIC, 'topic: "out/planning/{mode}"'], ['keep: [mode]\n        fields:\n', 'fields:\n          mode: { map: { MODE_LIFT: MODE_LIFT } }\n']], ['{ map: { MODE_LIFT: MODE_LIFT } }', '{ constant: MODE_LIFT }'], /leaves and did not/],
    ['a shorter text fits into the topic where a longer one did not', [[TOPIC, 'topic: "out/planning/{mystery}"'], ['keep: [mode]\n        fields:\n', 'keep: [mode]\n        fields:\n          mystery: { truncate: 3 }\n'], MYSTERY], ['{ truncate: 3 }', '{ truncate: 1 }'], /leaves and did not/],
    ['so does a pseudonym of a text that was kept', [[TOPIC, 'topic: "out/planning/{mystery}"'], ['keep: [mode]\n', 'keep: [mode, mystery]\n'], MYSTERY], ['keep: [mode, mystery]\n        fields:\n', 'keep: [mode]\n        fields:\n          mystery: { pseudonym: {} }\n'], /leaves and did not/],
    ['a shorter late limit: nobody is known, so no objection counts', [], ['late_limit: 7d', 'late_limit: 1d'], /leaves and did not/],
    ['a shorter session: the rest of the shift has nobody who objected', [], ['session_max: 12h', 'session_max: 8h'], /session_max is shorter/],
    ['a shorter session: nor does the law of the operator\'s country count', [['improve.statistics: { basis: legitimate_interest, assessment: LIA-3 }', 'improve.statistics: { basis: consent, employee_consent: E }'], ['improve.statistics: opt_out', 'improve.statistics: contract']], ['session_max: 12h', 'session_max: 8h'], /session_max is shorter/],
  ]
  test.each(rows)('%s', (_, old, [from, to], wider) => {
    const rules = old.reduce((made, [was, is]) => replaced(made, was, is), untested(GOOD))
    const judge = new Judge({ name: 'rules', text: rules, schemas: SCHEMAS })
    const next = judge.load(parseYaml('rules.yaml', replaced(rules, from, to)).value as Node)
    if (next === undefined) throw new Error('the edit is refused')
    expect(judge.wider(next.policy)).toMatch(wider)
    expect(differenceOf(judge.good, next).widened).toBeGreaterThan(0)
  })

  test('a shorter session forgets nothing where nobody known opens nothing', () => {
    const rules = replaced(replaced(untested(GOOD), 'improve.statistics: { basis: legitimate_interest, assessment: LIA-3 }', 'improve.statistics: { basis: consent, employee_consent: E }'), 'improve.statistics: opt_out', 'improve.statistics: consent')
    const judge = new Judge({ name: 'rules', text: rules, schemas: SCHEMAS })
    const next = judge.load(parseYaml('rules.yaml', replaced(rules, 'session_max: 12h', 'session_max: 8h')).value as Node)
    expect(next === undefined ? undefined : differenceOf(judge.good, next)).toMatchObject({ widened: 0, narrowed: 1 })
    expect(next === undefined ? 'refused' : judge.wider(next.policy)).toBeUndefined()
  })
})

describe('random edits', () => {
  const edits = RUNS > 1 ? 50 * RUNS : 15

  test.each(FILES)(`of $name, ${edits} of them`, { timeout: 120_000 * RUNS }, (file) => {
    const judge = new Judge(file)
    const tally = { refused: 0, said: 0, silent: 0 }
    for (let at = 0; at < edits; at++) {
      const seed = SEED + at
      const made = edited(createDice(seed), judge.tree, judge.good.policy)
      const next = judge.load(made.tree)
      if (next === undefined) {
        tally.refused++
        continue
      }
      const difference = differenceOf(judge.good, next)
      if (difference.widened > 0) {
        tally.said++
        continue
      }
      tally.silent++
      const found = judge.wider(next.policy)
      expect(found, `seed ${seed}: ${made.edits.join('; ')}\n${textOfDifference(difference).join('\n')}`).toBeUndefined()
    }
    process.stdout.write(`edits of ${file.name}: ${JSON.stringify(tally)}\n`)
    expect(tally.refused).toBeGreaterThan(0)
    // A short run may lack one kind, but judges some.
    expect(tally.said + tally.silent).toBeGreaterThan(0)
    if (edits < 50) return
    expect(tally.said).toBeGreaterThan(0)
    expect(tally.silent).toBeGreaterThan(0)
  })

})

function replaced(rules: string, from: string, to: string): string {
  expect(rules).toContain(from)
  return rules.replace(from, to)
}

describe('the judge', () => {
  test('the judge sees what an edit lets out', () => {
    const judge = new Judge(FILES[3] as Good)
    const by = (from: string, to: string): string | undefined => judge.wider(judge.load(parseYaml('r.yaml', untested(GOOD).replace(from, to)).value as Node)?.policy as Policy)
    expect(by('', '')).toBeUndefined()
    expect(by('{ grid: 500m }', '{ grid: 1km }')).toBeUndefined()
    expect(by('{ grid: 500m }', '{ grid: 100m }')).toMatch(/^planning, status.*were alike and are not$/)
    expect(by('keep: [mode]', 'keep: [mode, fix]')).toMatch(/^planning, status/)
    expect(by('round: 5 %', 'round: 10 %')).toMatch(/^planning, status.*were alike/)
    expect(by("msg.key_on && machine.label.site != 'test'", "machine.label.site != 'test'")).toMatch(/leaves and did not$/)
    expect(by('improve.statistics: opt_out', 'improve.statistics: { basis: legitimate_interest, assessment: A }')).toMatch(/leaves and did not$/)
    expect(by('region: CN', 'region: US')).toBe('service: somebody else gets it')
    expect(by('late_limit: 7d', 'late_limit: 8d')).toBe('subject.late_limit is longer')
    expect(by('require: [position]', 'require: [position]\n        emit: { every: 15m }')).toBeUndefined()
  })
})
