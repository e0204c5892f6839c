/**
 * `tests:` of the rules file -> RuleTest[]. Only names are checked here; what a test expects is judged when it runs.
 */
import { LIMITS } from '../domain/limits.ts'
import type { Output, Purpose, RuleTest, Stream } from '../domain/policy.ts'
import type { Findings } from './findings.ts'
import { suggestion } from './nearest.ts'
import { placeHint, readPlace } from './places.ts'
import type { Named, RulesFile, TestText } from './rules-file.ts'
import { fieldNames } from './streams.ts'
import { placedAt, type Path } from './yaml.ts'

export interface Known {
  readonly rules: RulesFile
  readonly streams: readonly Stream[]
  readonly purposes: readonly Purpose[]
  readonly outputs: readonly Output[]
}

/** @returns the tests with `others` and `operator` in one form */
export function readTests(known: Known, findings: Findings): RuleTest[] {
  const names = new Set<string>()
  const values = new Set<string>()
  return (known.rules.tests ?? []).map((written, index) => {
    const text = normal(written as TestText & Named<unknown>, known)
    const path: Path = ['tests', index]
    if (names.has(text.name)) findings.add('DUPLICATE', { path: [...path, 'name'] }, `Another test is called "${text.name}" too.`, 'Give each test a name of its own.')
    names.add(text.name)
    if ((text.given === undefined) === (text.steps === undefined)) {
      findings.add('TEST', { path }, text.given === undefined ? 'The test says neither `given` nor `steps`.' : 'The test says both `given` and `steps`.', 'Write `given` and `expect`, or `steps`.')
    } else if (text.given !== undefined && text.expect === undefined && text.others === undefined && text.never_contains === undefined) {
      findings.add('TEST', { path }, 'The test expects nothing, so it cannot fail.', 'Add `expect: { OUTPUT: nothing }`, or what is sent.')
    }
    for (const name of Object.keys(text.params ?? {})) {
      if (!Object.hasOwn(known.rules.params ?? {}, name)) findings.add('UNKNOWN-PARAM', { path: [...path, 'params', name], of: 'key' }, `There is no parameter "${name}".`, known.rules.params === undefined ? undefined : suggestion(name, Object.keys(known.rules.params)))
    }
    if (text.params !== undefined) values.add(JSON.stringify(Object.entries(text.params).sort(([a], [b]) => (a < b ? -1 : 1))))
    if (values.size > LIMITS.testParams) findings.add('LIMIT', { path: [...path, 'params'] }, `The tests run under more than ${LIMITS.testParams} different sets of values.`, 'Use the same values in several tests.')
    checkPoint(text.given, [...path, 'given'], known, findings)
    checkExpect(text.expect, text.given?.stream, [...path, 'expect'], known, findings)
    for (const [at, one] of (text.steps ?? []).entries()) checkStep(one, [...path, 'steps', at], known, findings)
    return {
      name: text.name,
      ...placedAt(findings.yaml, findings.yaml.place(path)),
      ...(text.params === undefined ? {} : { params: text.params }),
      given: text.given,
      expect: text.expect,
      steps: text.steps,
      others: text.others,
      neverContains: (text.never_contains ?? []).map(String),
    }
  })
}

/** `others: nothing` may stand beside `expect` or in it; `operator: none` is nobody, as on the command line. */
function normal<T extends Named<unknown>>(text: T, known: Known): T {
  const made: Record<string, unknown> = { ...text }
  const expect = text.expect as Named<unknown> | undefined
  if (expect?.others === 'nothing' && !('others' in known.rules.outputs)) {
    const { others, ...rest } = expect
    made.expect = rest
    made.others = others
  }
  if (text.operator === 'none') made.operator = null
  if (text.given !== undefined) made.given = normal(text.given as Named<unknown>, known)
  if (Array.isArray(text.steps)) made.steps = text.steps.map((step: Named<unknown>) => normal(step, known))
  return made as T
}

function checkStep(step: Named<unknown>, path: Path, known: Known, findings: Findings): void {
  if ((step.stream === undefined) !== (step.message === undefined)) findings.add('TEST', { path }, 'A message needs a stream, and a stream a message.', 'Write both, or neither.')
  if (step.message === undefined && step.expect !== undefined) findings.add('TEST', { path: [...path, 'expect'] }, 'A step without a message sends nothing.', 'Add `stream` and `message`.')
  const { consent, ...rest } = step
  checkPoint(rest, path, known, findings)
  for (const [operator, states] of Object.entries((consent as Named<Named<unknown>> | undefined) ?? {})) {
    checkPurposes(states, [...path, 'consent', operator], known, findings)
  }
  checkExpect(step.expect as Named<unknown> | undefined, step.stream, [...path, 'expect'], known, findings)
}

function checkPoint(given: Named<unknown> | undefined, path: Path, known: Known, findings: Findings): void {
  if (given === undefined) return
  const { stream } = given
  if (typeof stream === 'string' && !(stream in known.rules.streams)) {
    findings.add('UNKNOWN-STREAM', { path: [...path, 'stream'] }, `There is no stream "${stream}".`, suggestion(stream, Object.keys(known.rules.streams)))
  }
  for (const key of ['country', 'operator_country']) {
    const country = given[key]
    if (typeof country === 'string' && readPlace(country) === undefined) findings.add('UNKNOWN-PLACE', { path: [...path, key] }, `"${country}" is no ISO 3166 code.`, placeHint(country))
  }
  checkPurposes((given.consent as Named<unknown> | undefined) ?? {}, [...path, 'consent'], known, findings)
}

function checkPurposes(states: Named<unknown>, path: Path, known: Known, findings: Findings): void {
  for (const purpose of Object.keys(states)) {
    if (known.purposes.some((one) => one.id === purpose)) continue
    findings.add('UNKNOWN-PURPOSE', { path: [...path, purpose], of: 'key' }, `There is no purpose "${purpose}".`, suggestion(purpose, known.purposes.map((one) => one.id)))
  }
}

function checkExpect(expect: Named<unknown> | undefined, streamId: unknown, path: Path, known: Known, findings: Findings): void {
  const stream = known.streams.find((one) => one.id === streamId)
  for (const [id, fields] of Object.entries(expect ?? {})) {
    if (!(id in known.rules.outputs)) {
      findings.add('UNKNOWN-OUTPUT', { path: [...path, id], of: 'key' }, `There is no output "${id}".`, suggestion(id, Object.keys(known.rules.outputs)))
      continue
    }
    if (fields === 'nothing' || stream === undefined) continue
    for (const name of Object.keys(fields as Named<unknown>)) {
      const first = name.split('.')[0] as string
      if (name === '$rest' || stream.points.some((point) => point.name === name) || stream.message.byName.has(first)) continue
      findings.add('UNKNOWN-FIELD', { path: [...path, id, name], of: 'key' }, `The message ${stream.message.name} has no field "${name}".`, suggestion(name, [...stream.points.map((point) => point.name), ...fieldNames(stream.message)]))
    }
  }
}
