/**
 * The runner of rules tests: passes what is right, fails what is not, and plays sign-ons, hand-overs and withdrawals as a gateway does.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { loadRules } from '../src/config/rules.ts'
import type { Policy, RuleTest } from '../src/domain/policy.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import { runTests, type Failure } from '../src/rule-tests.ts'

const root = resolve(import.meta.dirname, '..')
const schemas = loadSchemas([join(root, 'proto')])
const shipped = loadRules('awp.yaml', readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8'), { schemas })
const awp = shipped.policy as Policy

/** Runs tests written as in a rules file, over the shipped rules. */
function run(tests: readonly Partial<RuleTest>[], policy: Policy = awp): ReturnType<typeof runTests> {
  const whole = tests.map((one, index): RuleTest => ({ name: `test ${index}`, line: index + 1, given: undefined, expect: undefined, steps: undefined, others: undefined, neverContains: [], ...one }))
  return runTests({ ...policy, tests: whole }, shipped.schemas)
}

function failuresOf(one: Partial<RuleTest>, policy: Policy = awp): readonly Failure[] {
  return run([one], policy).tests[0]?.failures ?? []
}

describe('the shipped rules', () => {
  const report = runTests(awp, shipped.schemas)

  test('pass all their tests', () => {
    expect(report.tests.filter((one) => one.failures.length > 0)).toEqual([])
    expect(report.passed).toBe(awp.tests.length)
    expect(report.passed).toBeGreaterThanOrEqual(40)
  })

  test('and every one of these tests fails when any value that it expects is another', () => {
    const mutants: Partial<RuleTest>[] = []
    for (const one of awp.tests) {
      for (const [output, expected] of Object.entries(one.expect ?? {})) {
        const expecting = (fields: unknown): void => void mutants.push({ ...one, name: `${one.name}: ${output} ${stringify(fields)}`, expect: { ...one.expect, [output]: fields } })
        if (expected === 'nothing') {
          expecting({ machine_id: '$any', $rest: 'any' })
          continue
        }
        expecting('nothing')
        for (const [field, value] of Object.entries(expected as Record<string, unknown>)) {
          const { [field]: _, ...others } = expected as Record<string, unknown>
          expecting(others)
          expecting({ ...others, [field]: 'nothing' })
          if (value !== '$any') expecting({ ...others, [field]: another(value) })
        }
      }
      if (one.others === 'nothing' && Object.values(one.expect ?? {}).some((expected) => expected !== 'nothing')) mutants.push({ ...one, name: `${one.name}: others`, expect: {} })
    }
    expect(mutants.length).toBeGreaterThan(300)
    // What passes all the same is a mutant that no test can tell from the original.
    const survivors = run(mutants).tests.filter((one) => one.failures.length === 0).map((one) => one.name)
    expect(survivors).toEqual([])
  })
})

/** A near miss. */
function another(value: unknown): unknown {
  if (typeof value === 'number') return value + 1
  if (typeof value === 'boolean') return !value
  if (Array.isArray(value)) return value.slice(1)
  if (typeof value === 'object' && value !== null) return { ...value, lat: (value as { lat: number }).lat + 0.00001 }
  return value === 'MODE_LIFT' ? 'MODE_DRIVE' : `${String(value)}x`
}

// ------------------------------------------------------------------------------------------------- what a test can expect

const parked = { machine_id: 'SN-1', time_ms: 1_763_888_864_000, key_on: true, mode: 'MODE_LIFT', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, hour_meter_s: 540 }
const given = { stream: 'status', country: 'FR', operator: null, message: parked }
const all = { machine_id: '$any', time_ms: 1_763_888_820_000, position: { lat: 45.76895, lon: 4.79463 }, fix: 3, key_on: true, mode: 'MODE_LIFT', hour_meter_s: 540 }

describe('words for values', () => {
  // prettier-ignore
  const words: readonly (readonly [string, Record<string, unknown>, readonly string[]])[] = [
    ['exact fields',                     { 'service-cloud': all },                                                    []],
    ['$rest: any',                       { 'service-cloud': { fix: 3, $rest: 'any' } },                               []],
    ['a field that must be absent',      { 'service-cloud': { ...all, seq: 'nothing' } },                             []],
    ['a default that is not on the wire', { 'service-cloud': { ...all, seq: 0, pack_mv: 0 } },                        []],
    ['a 64-bit number as text',          { 'service-cloud': { ...all, time_ms: '1763888820000' } },                   []],
    ['an enum by number',                { 'service-cloud': { ...all, mode: 2 } },                                    []],
    ['$any of what is absent',           { 'service-cloud': { ...all, seq: '$any' } },                                ['seq']],
    ['one field too few',                { 'service-cloud': { ...all, fix: 'nothing' } },                             ['fix']],
    ['a place a metre away',             { 'service-cloud': { ...all, position: { lat: 45.76896, lon: 4.79463 } } },  ['position']],
    ['half a place',                     { 'service-cloud': { ...all, position: { lat: 45.76895 } } },                ['position']],
    ['a field that does not exist',      { 'service-cloud': { ...all, sec: 4 } },                                     ['sec']],
    ['a text for a number',              { 'service-cloud': { ...all, fix: 'three' } },                               ['fix']],
    ['$sealed of what is not encrypted', { 'service-cloud': { ...all, machine_id: '$sealed' } },                      ['machine_id']],
    ['nothing, but it is sent',          { 'service-cloud': 'nothing' },                                              ['']],
    ['something, but it is not sent',    { 'site-planning': { machine_id: '$any', $rest: 'any' } },                   ['']],
    ['an output of another stream',      { 'security-log': { op: 'SIGN_ON' } },                                       ['']],
    ['the same in two outputs',          { 'service-cloud': { machine_id: { $save: 'm' }, $rest: 'any' }, 'rental-billing': { machine_id: { $same: 'm' }, $rest: 'any' } }, ['machine_id']],
    ['a difference of two outputs',      { 'rental-billing': { machine_id: { $differs: 'm' }, $rest: 'any' }, 'service-cloud': { machine_id: { $save: 'm' }, $rest: 'any' } }, []],
    ['compared with nothing saved',      { 'service-cloud': { machine_id: { $same: 'n' }, $rest: 'any' } },           ['machine_id']],
  ]
  const { tests } = run(words.map(([name, expectation]) => ({ name, given, expect: expectation })))
  test.each(words)('%s', (name, _expectation, fields) => {
    expect(tests.find((one) => one.name === name)?.failures.map((one) => one.field)).toEqual(fields)
  })

  test('others: nothing names the output that sent all the same', () => {
    const failures = failuresOf({ given, expect: { 'service-cloud': all }, others: 'nothing' })
    expect(failures.map((one) => [one.output, one.note])).toEqual([['rental-billing', 'the test says `others: nothing`']])
  })

  // prettier-ignore
  test.each<[string, string[]]>([
    ['SN-1',       ['rental-billing']],           // raw only there
    ['MODE_LIFT',  ['service-cloud']],
    ['540',        ['service-cloud']],            // rounded to 720 for the bill
    ['Anna',       []],
  ])('never_contains: %s', (text, outputs) => {
    expect(failuresOf({ given, neverContains: [text] }).map((one) => one.output)).toEqual(outputs)
  })

  test('a refused message says why nothing came', () => {
    const [failure] = failuresOf({ given: { ...given, machine: 'SN-2' }, expect: { 'service-cloud': all } })
    expect(failure?.note).toBe('the message was refused: foreign_machine: the topic or payload names another machine than the connection belongs to')
  })

  test('a message that the schema does not allow is a failure, not a crash', () => {
    const [failure] = failuresOf({ given: { ...given, message: { machne_id: 'SN-1' } }, expect: {} })
    expect(failure?.note).toContain('awp.v1.Status has no field "machne_id"')
  })

  test('coverage counts what was looked at, not what was run', () => {
    const consent = { operator: 'P7', consent: { 'service.operate': 'granted' } }
    const { coverage } = run([{ given, expect: { 'rental-billing': 'nothing' } }, { given: { ...given, ...consent }, expect: { 'rental-billing': 'nothing' } }])
    expect(coverage.outputs.find((one) => one.output === 'rental-billing')).toEqual({ output: 'rental-billing', yes: 1, no: 0, notSet: 1 })
    expect(coverage.outputs.find((one) => one.output === 'service-cloud')).toEqual({ output: 'service-cloud', yes: 0, no: 0, notSet: 0 })
    expect(coverage.percent).toBe(Math.floor((2 * 100) / 18))
  })
})

// --------------------------------------------------------------------------------------------------------------- in steps

const on = (operator: string, at: string): Record<string, unknown> => ({ at, stream: 'operator', country: 'FR', message: { op: 'SIGN_ON', operator_id: operator } })
const off = (operator: string, at: string): Record<string, unknown> => ({ at, stream: 'operator', country: 'FR', message: { op: 'SIGN_OFF', operator_id: operator } })
const say = (operator: string, purpose: string, state: string, at: string): Record<string, unknown> => ({ at, consent: { [operator]: { [purpose]: state } } })
const work = (at: string, expectation: Record<string, unknown>, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  at, stream: 'status', country: 'FR', message: { machine_id: 'SN-1', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, mode: 'MODE_LIFT' }, expect: expectation, ...more,
})
const SENT = { 'site-planning': { position: { lat: 45.76222, lon: 4.83618 }, $rest: 'any' } }
const SILENT = { 'site-planning': 'nothing' }
const yes = 'improve.statistics'

describe('steps play a shift', () => {
  // prettier-ignore
  const shifts: readonly (readonly [string, readonly Record<string, unknown>[]])[] = [
    ['sign-on, yes, work, withdrawal, work', [
      work('07:59', SILENT), on('P7', '08:00'), work('+1m', SILENT), say('P7', yes, 'granted', '+1s'), work('+5m', SENT), say('P7', yes, 'withdrawn', '+1s'), work('+1m', SILENT),
    ]],
    ['a yes before the sign-on holds', [say('P7', yes, 'granted', '07:00'), on('P7', '08:00'), work('+1m', SENT), off('P7', '+1h'), work('+1m', SILENT)]],
    ['the yes of one is not the yes of the next', [say('P7', yes, 'granted', '07:00'), on('P7', '08:00'), work('+1m', SENT), on('P8', '12:00'), work('+10m', SILENT), say('P8', yes, 'granted', '+1s'), work('+1m', SENT)]],
    ['nobody is known in the quarantine of a hand-over', [
      say('P7', yes, 'granted', '07:00'), say('P8', yes, 'granted', '07:00'), on('P7', '08:00'), work('+1m', SENT), on('P8', '12:00'), work('+30s', SILENT), work('+2m', SENT),
    ]],
    ['a session ends by itself', [say('P7', yes, 'granted', '07:00'), on('P7', '08:00'), work('19:59', SENT), work('20:00', SILENT)]],
    ['what was recorded before the yes is not covered by it', [
      on('P7', '08:00'), say('P7', yes, 'granted', '09:00'), work('+1s', SILENT, { message: { machine_id: 'SN-1', time_ms: Date.UTC(2026, 10, 1, 8, 30), lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true } }), work('+1s', SENT),
    ]],
    ['a machine whose setting is off knows nobody', [say('P7', yes, 'granted', '07:00'), { ...on('P7', '08:00'), operator_collection: 'off' }, work('+1m', SILENT, { operator_collection: 'off' })]],
    ['a message that names another operator knows nobody', [say('P7', yes, 'granted', '07:00'), on('P7', '08:00'), work('+1m', SILENT, { message: { machine_id: 'SN-1', operator_id: 'P8', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true } })]],
    ['a step may say itself who is there', [say('P7', yes, 'granted', '07:00'), work('08:00', SENT, { operator: 'P7' }), work('+1m', SILENT, { operator: null }), work('+1m', SILENT, { operator: 'P8' })]],
    ['a card that nobody has ends the session', [say('P7', yes, 'granted', '07:00'), on('P7', '08:00'), { ...on('X', '09:00'), operator: null }, work('+10m', SILENT)]],
    ['machines are apart', [say('P7', yes, 'granted', '07:00'), on('P7', '08:00'), work('+1m', SENT), work('+1m', SILENT, { machine: 'SN-2', message: { machine_id: 'SN-2', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true } })]],
    ['opt-out needs the notice', [on('P7', '08:00'), work('+1m', { 'site-planning': { position: '$any', $rest: 'any' } }, { country: 'US' }), work('+1m', SILENT, { country: 'US', notice: false })]],
    ['local_only is no yes for a planner elsewhere', [on('P7', '08:00'), say('P7', yes, 'local_only', '+1s'), work('+1m', SILENT), say('P7', yes, 'granted', '+1s'), work('+1m', SENT), say('P7', yes, 'expired', '+1s'), work('+1m', SILENT)]],
    ['the pseudonym of the planner changes within a fortnight, that of the service cloud does not', [
      on('P7', '2026-11-02T08:00:00Z'), say('P7', yes, 'granted', '+1s'),
      work('+1m', { 'site-planning': { machine_id: { $save: 'week' }, $rest: 'any' }, 'service-cloud': { machine_id: { $save: 'cloud' }, $rest: 'any' } }),
      work('+1m', { 'site-planning': { machine_id: { $same: 'week' }, $rest: 'any' } }),
      on('P7', '2026-11-16T08:00:00Z'), work('+1m', { 'site-planning': { machine_id: { $differs: 'week' }, $rest: 'any' }, 'service-cloud': { machine_id: { $same: 'cloud' }, $rest: 'any' } }),
    ]],
  ]
  const { tests } = run(shifts.map(([name, steps]) => ({ name, steps })))
  test.each(shifts)('%s', (name) => {
    expect(tests.find((one) => one.name === name)?.failures).toEqual([])
  })

  test('a failure names its step', () => {
    const failures = failuresOf({ steps: [on('P7', '08:00'), work('+1m', SENT)] })
    expect(failures.map((one) => [one.step, one.output, one.actual, one.note])).toEqual([[2, 'site-planning', 'nothing', 'closed: the legal basis is not met: no valid consent, an objection, or nobody known']])
  })

  test('one test leaves nothing behind for the next', () => {
    const report = run([{ steps: [on('P7', '08:00'), say('P7', yes, 'granted', '+1s'), work('+1m', SENT)] }, { steps: [work('08:05', SILENT)] }, { steps: [on('P7', '08:00'), work('+1m', SILENT)] }])
    expect(report.tests.flatMap((one) => one.failures)).toEqual([])
  })

  test.each(['noon', '25:00', '+5 parsecs'])('a step at "%s" fails with the mend', (at) => {
    expect(failuresOf({ steps: [work(at, SILENT)] })[0]?.note).toContain('Write "08:00", "+5m"')
  })
})

test('rules without operator sessions take the operator from the message', () => {
  const policy: Policy = { ...awp, subject: { ...awp.subject, sessions: undefined } }
  const message = { machine_id: 'SN-1', operator_id: 'P7', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true }
  expect(failuresOf({ steps: [say('P7', yes, 'granted', '08:00'), work('+1m', SENT, { message }), work('+1m', SILENT, { message: { ...message, operator_id: 'P8' } }), work('+1m', SILENT)] }, policy)).toEqual([])
  // With `given` the person is there because the test says so.
  expect(failuresOf({ given: { ...given, operator: 'P7', consent: { [yes]: 'granted' } }, expect: SENT }, policy)).toEqual([])
})
