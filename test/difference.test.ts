/**
 * The difference of two sets of rules against brute force: for random pairs of rules every message in every situation and country goes
 * through both, and whatever the newer one tells more must have been said. What was said and not found is counted.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadRules } from '../src/config/rules.ts'
import { Gate, gate, operatorFieldsAllowed } from '../src/domain/basis.ts'
import { nobody, type Decision } from '../src/domain/consent.ts'
import { BASES, type BasisEntry, type Output, type Policy } from '../src/domain/policy.ts'
import { differenceOf, SITUATIONS, textOfDifference, type Accepted, type Change, type Difference } from '../src/difference.ts'
import { loadSchemas, schemasFromText, type Schemas } from '../src/minimise/descriptor.ts'
import { createRehearsal, machineOf, offlineKeys, type Rehearsal } from '../src/rehearsal.ts'
import { createDice, type Dice } from './minimise/random/dice.ts'
import { GOOD, load, SCHEMAS } from './config/fixture.ts'

const RUNS = Number(process.env['PARAPET_RUNS'] ?? 1)
const SEED = Number(process.env['PARAPET_SEED'] ?? 20_261_123)

function accepted(text: string, schemas: Schemas = SCHEMAS): Accepted {
  const { draft, accepted: waived, findings } = load(text, { schemas })
  if (draft === undefined) throw new Error(JSON.stringify(findings))
  return { policy: draft, accepted: waived }
}

const brief = ({ verdict, comparable, where, before, after }: Change): string => `${verdict}${comparable ? '' : '?'} ${where}: ${before} -> ${after}`

describe('what is said of a change', () => {
  test('the same rules in another form have no difference', () => {
    expect(differenceOf(accepted(GOOD), accepted(GOOD.replace(/^ +- name: no app\n.*\n.*\n/m, '').replace('# nothing', '').replace('soc_pct_x10: [{ clamp: [0 %, 100 %] }, { round: 5 % }]', 'soc_pct_x10: [{ clamp: [0, 1000] }, { round: 50 }]')))).toMatchObject({ changes: [], widened: 0 })
    expect(textOfDifference(differenceOf(accepted(GOOD), accepted(GOOD)))).toEqual(['No difference in what leaves.'])
  })

  // Edit of the good file -> what is said of it, without the cases.
  const cases: readonly (readonly [name: string, from: string, to: string, said: readonly string[]])[] = [
    ['a finer grid', '{ grid: 500m }', '{ grid: 100m }', ['widened outputs.planning.streams.status.fields.position: 500 m grid -> 100 m grid']],
    ['a coarser grid', '{ grid: 500m }', '{ grid: 1km }', ['narrowed outputs.planning.streams.status.fields.position: 500 m grid -> 1 km grid']],
    ['a step three times as wide', 'round: 5 %', 'round: 15 %', ['narrowed outputs.planning.streams.status.fields.soc_pct_x10: clamp 0 to 1000, then round to 50 -> clamp 0 to 1000, then round to 150']],
    ['a step twice as wide has other borders', 'round: 5 %', 'round: 10 %', ['widened? outputs.planning.streams.status.fields.soc_pct_x10: clamp 0 to 1000, then round to 50 -> clamp 0 to 1000, then round to 100']],
    ['a pseudonym that no longer changes', 'rotate: 7d', 'rotate: never', ['widened outputs.planning.streams.status.fields.machine_id: pseudonym of the machine, changes every 7d -> pseudonym of the machine, never changes']],
    ['a field more', 'keep: [mode]', 'keep: [mode, seq]', ['widened outputs.planning.streams.status.fields.seq: nothing -> keep']],
    ['a field less', 'keep: [mode]', 'keep: []', ['narrowed outputs.planning.streams.status.fields.mode: keep -> nothing']],
    ['a finer time', 'round_time: 15m', 'round_time: 5m', ['widened outputs.planning.streams.status.fields.time_ms: round time down to 15m -> round time down to 5m']],
    ['without a condition', `        when: "msg.key_on && machine.label.site != 'test'"\n`, '', [`widened outputs.planning.streams.status.when: msg.key_on && machine.label.site != 'test' -> every message`]],
    ['another condition', 'msg.key_on &&', 'msg.fix > 0 &&', [`widened? outputs.planning.streams.status.when: msg.key_on && machine.label.site != 'test' -> msg.fix > 0 && machine.label.site != 'test'`]],
    ['without a needed position', '        require: [position]\n', '', ['widened outputs.planning.streams.status.require: position -> nothing']],
    ['thinned out', '        require: [position]\n', '        require: [position]\n        emit: { every: 15m, take: last, hold: true }\n', ['narrowed outputs.planning.streams.status.emit: every message -> { every: 15m, hold: true, on_change: [], take: last }']],
    ['kept for longer', 'recipient_keeps: 30d', 'recipient_keeps: 60d', ['widened outputs.service.recipient_keeps: 30d -> 60d']],
    ['no promise how long', '    recipient_keeps: 30d\n', '', ['widened outputs.service.recipient_keeps: 30d -> not stated']],
    ['waits for longer', 'send_within: 24h', 'send_within: 48h', ['widened outputs.service.to.send_within: 1d -> 2d']],
    ['another region', 'planner: { role: processor, region: EU }', 'planner: { role: processor, region: US, transfers: { EEA: scc } }', ['widened? recipients.planner.region: EU -> US', 'widened recipients.planner.transfers.EEA: nothing -> scc']],
    ['another role', 'planner: { role: processor', 'planner: { role: controller', ['widened? recipients.planner.role: processor -> controller']],
    ['another recipient', 'recipient: planner', 'recipient: app', ['widened? outputs.planning.recipient: planner -> app']],
    ['another purpose', 'purpose: improve.statistics\n', 'purpose: service.operate\n', ['widened? outputs.planning.purpose: improve.statistics -> service.operate']],
    ['somebody counts as signed on for longer', 'session_max: 12h', 'session_max: 16h', ['widened subject.session_max: 12h -> 16h']],
    ['a shorter quarantine', 'handover_quarantine: 2m', 'handover_quarantine: 1m', ['widened subject.handover_quarantine: 2m -> 1m']],
    ['another sign-off', 'msg.op in [SIGN_OFF, KEY_OFF]', 'msg.op == SIGN_OFF', ['widened? subject.sessions: { operatorField: operator_id, signOff: msg.op in [SIGN_OFF, KEY_OFF], signOn: msg.op == SIGN_ON, stream: operator } -> { operatorField: operator_id, signOff: msg.op == SIGN_OFF, signOn: msg.op == SIGN_ON, stream: operator }']],
    ['a point that is always valid', ', valid: "msg.fix > 0"', '', ['widened? outputs.service.streams.status.fields.position']],
    ['another topic', 'topic: "out/planning/{machine_id}"', 'topic: "out/plan/{machine_id}"', ['changed outputs.planning.to.topic: out/planning/{machine_id} -> out/plan/{machine_id}']],
    ['another law', 'assessment: LIA-3', 'assessment: LIA-4', ['changed legal_basis.improve.statistics: legitimate_interest (LIA-3) -> legitimate_interest (LIA-4)']],
    ['a stream that takes some of another', 'subject:\n', '  every: { topic: "up/{fleet}/{machine}/{kind}", message: lift.v1.OperatorEvent }\nsubject:\n', ['widened? streams.every: nothing -> lift.v1.OperatorEvent on up/{fleet}/{machine}/{kind}']],
    ['a reason to waive a lint', 'tests:\n', 'accept:\n  - { code: arrival-tells-time, at: outputs.planning, why: a reason }\ntests:\n', []],
  ]
  test.each(cases)('%s', (_name, from, to, said) => {
    expect(GOOD).toContain(from)
    const list = differenceOf(accepted(GOOD), accepted(GOOD.replace(from, to))).changes.map(brief)
    for (const one of said) expect(list.some((line) => line.startsWith(one)), `${one}\nin\n${list.join('\n')}`).toBe(true)
    const worst = (lines: readonly string[]): boolean => lines.some((line) => line.startsWith('widened'))
    expect(worst(list), list.join('\n')).toBe(worst(said))
  })

  test('countries and operators are named: opt_out made open in the US', () => {
    const { changes } = differenceOf(accepted(GOOD), accepted(GOOD.replace('improve.statistics: opt_out', 'improve.statistics: { basis: legitimate_interest, assessment: LIA-3 }')))
    expect(changes.find((one) => one.stream === 'status')).toMatchObject({ verdict: 'widened', before: 'nothing', countries: ['US'], consent: ['yes without the notice', 'notice not given', 'nobody known', 'device setting off'] })
  })

  test('a new field of the schema slips into `keep: not_personal` and is named as that', () => {
    const files = Object.fromEntries(Object.entries(SCHEMAS.files).map(([name, text]) => [name, text.replace('  string mystery     = 18;', '  string mystery = 18;\n  uint32 tilt = 19 [(parapet.v1.privacy) = { category: "posture", class: BASIC, personal: NEVER }];')]))
    const { changes } = differenceOf(accepted(GOOD), accepted(GOOD, schemasFromText(files)))
    expect(changes.map((one) => [one.verdict, one.where, one.why])).toEqual([
      ['widened', 'outputs.service.streams.status.fields.tilt', 'new in the schema'],
      ['changed', 'schema.lift.v1.Status.tilt', 'a new field'],
    ])
  })

  test('a field that is no longer personal slips in, too', () => {
    const files = Object.fromEntries(Object.entries(SCHEMAS.files).map(([name, text]) => [name, text.replace(/(uint32 seq .*)LINKABLE/, '$1NEVER')]))
    expect(differenceOf(accepted(GOOD), accepted(GOOD, schemasFromText(files))).changes.map(brief)).toEqual([
      'widened outputs.service.streams.status.fields.seq: nothing -> keep',
      'changed schema.lift.v1.Status.seq: uint32 = 3, sequence, basic, linkable -> uint32 = 3, sequence, basic, never',
    ])
  })

  test('a number that the schema uses for another field is not taken for the old one', () => {
    const files = Object.fromEntries(Object.entries(SCHEMAS.files).map(([name, text]) => [name, text.replace('bool   key_on      = 8', 'bool   asleep      = 8')]))
    const text = GOOD.replace("msg.key_on && machine", "machine")
    expect(differenceOf(accepted(text), accepted(text, schemasFromText(files))).changes.map(brief)).toContain('widened? outputs.service.streams.status.fields.asleep: keep of bool key_on -> keep of bool asleep')
  })

  test('a zone that shrinks gives places back; one that grows does not', () => {
    const zoned = (radius: string): Accepted => accepted(GOOD.replace('outputs:\n', `zones: { depots: { circle: { at: [48.1, 11.5], radius: ${radius} } } }\noutputs:\n`).replace('{ consent: { grid: 1km }, no_consent: { grid: 10km } }', '{ consent: [{ hide_in: [depots] }, { grid: 1km }], no_consent: drop }'))
    expect(differenceOf(zoned('500m'), zoned('400m')).widened).toBeGreaterThan(0)
    expect(differenceOf(zoned('400m'), zoned('500m'))).toMatchObject({ widened: 0, narrowed: 2 })
  })

  test('without an old set everything is new', () => {
    const { widened, changes, before } = differenceOf(undefined, accepted(GOOD))
    expect(before).toBeUndefined()
    expect(widened).toBe(5)
    expect(changes.filter((one) => one.verdict !== 'widened').map((one) => one.where)).toEqual(['streams.status', 'streams.operator'])
    expect(new Set(changes.flatMap((one) => one.output ?? []))).toEqual(new Set(['service', 'planning', 'shift']))
  })
})

describe('situations', () => {
  test('are all that a gate can tell apart, on every basis', () => {
    const outputs = (['any', 'site'] as const).flatMap((reach) => [undefined, 'a law'].map((despiteDeviceSetting) => ({ purpose: { index: 0 }, reach, despiteDeviceSetting }) as unknown as Output))
    const seen = (decision: Decision): string => outputs.flatMap((output) => BASES.map((basis) => {
      const entry = { basis } as BasisEntry
      const state = gate(output, entry, decision)
      return state === Gate.closed ? 'x' : `${state}${operatorFieldsAllowed(output, entry, decision) ? 'o' : ''}`
    })).join()
    const known = new Set(SITUATIONS.map(({ decision }) => seen(decision(1))))
    for (let bits = 0; bits < 64; bits++) {
      const [isKnown, yes, site, no, notice, collection] = [1, 2, 4, 8, 16, 32].map((bit) => (bits & bit) !== 0)
      // A person has one answer; nobody is known where the device setting is off.
      if ((yes && (!site || no)) || (site && no) || (isKnown && !collection) || (!isKnown && yes) || (!collection && (no || site || notice))) continue
      const decision = { ...nobody(), known: isKnown === true, yes: yes ? 1 : 0, siteYes: site ? 1 : 0, no: no ? 1 : 0, notice: notice ? 1 : 0, collection: collection === true }
      expect(known, JSON.stringify(decision)).toContain(seen(decision))
    }
  })
})

// -------------------------------------------------------------------------------------------------------------- brute force

const SMALL = schemasFromText({ 'x.proto': `
syntax = "proto3";
package x;
enum Mode { OFF = 0; DRIVE = 1; LIFT = 2; }
message Pair { uint32 id = 1 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; uint32 v = 2 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; }
message Head { string firmware = 1 [(parapet.v1.privacy) = { category: "software", class: BASIC, personal: NEVER }]; uint32 hours = 2 [(parapet.v1.privacy) = { category: "counter", class: BASIC, personal: LINKABLE }]; }
message M {
  string machine = 1 [(parapet.v1.privacy) = { category: "machine_identity", class: BASIC, personal: LINKABLE, subject: MACHINE }];
  uint64 at      = 2 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "ms" }];
  uint32 a       = 3 [(parapet.v1.privacy) = { category: "battery", class: BASIC, personal: NEVER }];
  sint32 b       = 4 [(parapet.v1.privacy) = { category: "motion", class: BASIC, personal: LINKABLE }];
  string op      = 5 [(parapet.v1.privacy) = { category: "identity", class: ADDITIONAL, personal: ALWAYS, subject: OPERATOR }];
  sint32 lat     = 6 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE }];
  sint32 lon     = 7 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE }];
  bool   on      = 8 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }];
  string note    = 9 [(parapet.v1.privacy) = { category: "free_text", class: BASIC, personal: NEVER }];
  Mode   mode    = 10 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }];
  repeated Pair s = 11 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }];
  Head   head    = 12 [(parapet.v1.privacy) = { category: "software", class: BASIC, personal: NEVER }];
}` })

/** Field -> ways to treat it; the first leaves it out. */
const TREATMENTS: Readonly<Record<string, readonly string[]>> = {
  machine: ['', 'keep', '{ pseudonym: { rotate: never } }', '{ pseudonym: { rotate: 7d } }', '{ pseudonym: { rotate: 1d } }'],
  at: ['', 'keep', '{ round_time: 15m }', '{ round_time: 30m }', '{ round_time: 1h }', '{ round_time: 45m }'],
  a: ['', 'keep', '{ round: 5 }', '{ round: 10 }', '{ round: 15 }', '{ bucket: [0, 10, 30] }', '{ bucket: [0, 30] }', '{ clamp: [5, 30] }', '{ clamp: [10, 25] }', '{ constant: 3 }', '[{ clamp: [5, 30] }, { round: 5 }]', '[{ clamp: [5, 30] }, { round: 15 }]', '{ flags: { bits: [0, 1] } }', '{ flags: { bits: [0] } }'],
  b: ['', 'keep', '{ round: 10 }', '{ round: 30 }', '{ consent: keep, no_consent: { round: 30 } }', '{ consent: { round: 10 }, no_consent: drop }', '{ consent: keep, no_consent: drop }'],
  op: ['', '{ consent: keep, no_consent: drop }', '{ consent: { pseudonym: { rotate: 30d } }, no_consent: drop }', '{ pseudonym: {} }'],
  position: ['', '{ grid: 100m }', '{ consent: { grid: 100m }, no_consent: { grid: 10km } }', '{ consent: { grid: 500m }, no_consent: { grid: 10km } }', '{ consent: { grid: 1km }, no_consent: drop }', '{ grid: 10km }', '[{ hide_in: [depot] }, { grid: 100m }]'],
  on: ['', 'keep'],
  note: ['', 'keep', '{ truncate: 1 }', '{ truncate: 3 }', '{ mask: { keep_first: 1 } }', '{ mask: { keep_first: 2 } }'],
  mode: ['', 'keep', '{ map: { DRIVE: LIFT, LIFT: LIFT, else: drop } }', '{ map: { OFF: OFF, else: LIFT } }'],
  s: ['', 'keep', '{ by: id, with: { id: keep }, only: { 1: { v: keep } } }', '{ by: id, with: { id: keep }, only: { 1: { v: { round: 10 } }, 2: {} } }', '{ by: id, only: { 1: { v: keep }, 2: { v: keep } } }'],
  'head.firmware': ['', 'keep', '{ truncate: 2 }'],
  'head.hours': ['', 'keep', '{ round: 10 }'],
}
const WHEN = ['', 'msg.on', 'msg.a > 10', "msg.on && machine.label.site != 'test'"]
const REQUIRE = ['', 'a', 'position', 'a, position']
const REST: readonly string[] = [...BASES]
const PLACES = ['EEA', 'DE', 'US', 'default']

/** A small rules file as choices, so that a neighbour of it differs in one or two. */
type Choices = Readonly<Record<string, number>>

function choose(dice: Dice): Choices {
  const choices: Record<string, number> = { ownBasis: dice.below(6) === 0 ? 1 + dice.below(REST.length) : 0, when: dice.below(3) === 0 ? dice.below(WHEN.length) : 0, require: dice.below(3) === 0 ? dice.below(REQUIRE.length) : 0, reach: dice.below(4) === 0 ? 1 : 0, despite: dice.below(4) === 0 ? 1 : 0, valid: dice.below(4) === 0 ? 1 : 0, radius: dice.below(2) }
  for (const [field, ways] of Object.entries(TREATMENTS)) choices[field] = dice.below(2) === 0 ? 0 : dice.below(ways.length)
  for (const place of PLACES) choices[place] = dice.below(REST.length + 1)
  return choices
}

function neighbour(dice: Dice, choices: Choices): Choices {
  const other = choose(dice)
  const names = Object.keys(choices)
  const changed = new Set(Array.from({ length: 1 + dice.below(3) }, () => names[dice.below(names.length)] as string))
  return Object.fromEntries(names.map((name) => [name, (changed.has(name) ? other : choices)[name] as number]))
}

function basisText(basis: string): string {
  return `{ basis: ${basis}, law: L, assessment: A, employee_consent: E }`
}

function rulesOf(choices: Choices): string {
  const fields = Object.entries(TREATMENTS).flatMap(([field, ways]) => {
    const way = ways[choices[field] as number] as string
    return way === '' ? [] : [`          ${field}: ${way}`]
  })
  const named = new Set(Object.keys(TREATMENTS).filter((field) => choices[field] !== 0))
  const require = (REQUIRE[choices['require'] as number] as string).split(', ').filter((name) => named.has(name))
  const when = WHEN[choices['when'] as number] as string
  const own = choices['ownBasis'] as number
  return `version: 1
policy: { id: p }
streams:
  m:
    topic: "up/{fleet}/{machine}/m"
    message: x.M
    time: { field: at, unit: ms }
    points: { position: { lat: lat, lon: lon, unit: e5${choices['valid'] === 1 ? ', valid: "msg.on"' : ''} } }
subject: { late_limit: 60d }
purposes: { use: { about: x, clause: P1 } }
legal_basis:
${PLACES.map((place) => `  ${place}: { ${choices[place] === 0 ? '' : `use: ${basisText(REST[(choices[place] as number) - 1] as string)}`} }`).join('\n')}
recipients: { r: { role: processor, region: EU, on_site: true } }
zones: { depot: { circle: { at: [48.1, 11.5], radius: ${choices['radius'] === 0 ? 300 : 900}m } } }
outputs:
  out:
    recipient: r
    purpose: use
${own === 0 ? '' : `    basis: ${basisText(REST[own - 1] as string)}\n`}    to: { topic: out/x }
${choices['reach'] === 1 ? '    reach: site\n' : ''}${choices['despite'] === 1 ? '    despite_device_setting: L\n' : ''}    streams:
      m:
${when === '' ? '' : `        when: "${when}"\n`}${require.length === 0 ? '' : `        require: [${require.join(', ')}]\n`}        fields:
${fields.length === 0 ? '          on: keep' : fields.join('\n')}
`
}

const NOON = Date.UTC(2026, 10, 23, 12, 7)

/** Few values of each field, so that messages meet in the output of any rule that makes them alike. */
const MESSAGES: readonly Record<string, unknown>[] = (() => {
  const dice = createDice(7)
  const one = <T>(...values: readonly T[]): T => values[dice.below(values.length)] as T
  const base = { machine: 'SN-1', at: NOON, a: 12, b: 14, op: 'P7', lat: 4_810_500, lon: 1_150_500, on: true, note: 'abcd', mode: 1, s: [{ id: 1, v: 12 }, { id: 2, v: 3 }], head: { firmware: '1.2.3', hours: 12 } }
  // One thing at a time, and then mixtures.
  const steps: Record<string, readonly unknown[]> = {
    machine: ['SN-2'], at: [NOON + 180_000, NOON + 12 * 60_000, NOON + 25 * 60_000, NOON - 86_400_000, NOON - 3 * 86_400_000], a: [0, 1, 2, 3, 4, 7, 8, 11, 13, 16, 22, 23, 24, 28, 29, 31, 40], b: [0, 4, 5, 9, 16, 44, -3, -14],
    op: ['', 'P8'], lat: [4_810_000, 4_810_300, 4_810_900, 4_812_000, 4_890_000, 0], lon: [1_150_000, 1_151_000], on: [false], note: ['', 'a', 'abce', 'abde', 'xbcd'], mode: [0, 2],
    s: [[], [{ id: 1, v: 13 }], [{ id: 1, v: 12 }], [{ id: 2, v: 4 }], [{ id: 3, v: 1 }]], head: [{}, { firmware: '1.3', hours: 12 }, { firmware: '1.2.4', hours: 13 }, { hours: 22 }],
  }
  const alone = Object.entries(steps).flatMap(([field, values]) => values.map((value) => ({ ...base, [field]: value })))
  const mixed = Array.from({ length: 12 }, () => Object.fromEntries(Object.entries(base).map(([field, value]) => [field, dice.below(2) === 0 ? value : one(...(steps[field] as readonly unknown[]))])))
  return [base, { ...base, lat: 0, lon: 0 }, { ...base, on: false, a: 3 }, ...alone, ...mixed]
})()
const PAYLOADS = MESSAGES.map((message) => SMALL.encode('x.M', message))

const COUNTRIES: readonly (readonly [label: string, country: string | undefined])[] = [['DE', 'DE'], ['EEA', 'FR'], ['US', 'US'], ['not listed', 'BR'], ['unknown', undefined]]

interface Rules extends Accepted {
  readonly rehearsal: Rehearsal
}

function rulesFrom(text: string): Rules | undefined {
  const { draft, accepted: waived } = loadRules('r.yaml', text, { schemas: SMALL, today: '2026-11-23' })
  return draft === undefined ? undefined : { policy: draft, accepted: waived, rehearsal: createRehearsal(draft, { keys: offlineKeys(), engine: 'interpreted' }) }
}

/** What an output sent of each message, as text; undefined = nothing. */
function sentBy({ rehearsal }: Rules, decision: Decision, country: string | undefined): readonly (string | undefined)[] {
  const machine = machineOf({ id: 'SN-1', country, operatorCollection: decision.collection ? 'on' : 'off' })
  return PAYLOADS.map((payload) => {
    const sent = rehearsal.perform({ stream: 'm' as never, payload, machine, receivedAtMs: NOON + 3_600_000, decision }).outputs[0]?.sent
    return sent === undefined ? undefined : Buffer.from(sent.bytes).toString('hex')
  })
}

/** Why the new results tell more than the old ones, or undefined: they are a function of the old ones and leave only where those did. */
function more(old: readonly (string | undefined)[], now: readonly (string | undefined)[], named: ReadonlySet<string>): string | undefined {
  const images = new Map<string, { readonly result: string | undefined; readonly at: number }>()
  for (const [at, result] of now.entries()) {
    const was = old[at]
    if (was === undefined && result !== undefined) return `message ${at} leaves and did not`
    const image = images.get(was ?? '')
    if (image === undefined) images.set(was ?? '', { result, at })
    else if (image.result !== result) return `messages ${image.at} and ${at} were alike and are not`
    // A field of which the old rules make a zero is not on the wire, and still no news.
    const before = namesIn(was)
    const fresh = namesIn(result).find((name) => !before.includes(name) && !named.has(name))
    if (fresh !== undefined) return `message ${at} has ${fresh}`
  }
  return undefined
}

const namesOf = new Map<string, readonly string[]>()
function namesIn(hex: string | undefined): readonly string[] {
  if (hex === undefined) return []
  let names = namesOf.get(hex)
  if (names === undefined) namesOf.set(hex, (names = Object.keys(SMALL.decode('x.M', Buffer.from(hex, 'hex')))))
  return names
}

function isSaid({ changes }: Difference, country: string, situation: string): boolean {
  return changes.some((one) => one.verdict === 'widened' && (one.consent.length === 0 || one.consent.includes(situation)) && (one.countries.length === 0 || one.countries.includes('everywhere') || one.countries.includes(country)))
}

describe('brute force', () => {
  const pairs = 40 * RUNS
  test(`${pairs} random pairs of rules, ${PAYLOADS.length} messages each in every situation and country`, { timeout: 60_000 * RUNS }, () => {
    const tally = { pairs: 0, cases: 0, widened: 0, saidOnly: 0, silent: 0 }
    for (let at = 0; tally.pairs < pairs; at++) {
      const random = createDice(SEED + at)
      const choices = choose(random)
      const [oldText, nextText] = [rulesOf(choices), rulesOf(at % 4 === 0 ? choose(random) : neighbour(random, choices))]
      const [old, next] = [rulesFrom(oldText), rulesFrom(nextText)]
      if (old === undefined || next === undefined || oldText === nextText) continue
      tally.pairs++
      const difference = differenceOf(old, next)
      const named = new Set(old.policy.outputs.flatMap((output) => output.streams.flatMap((source) => source.fields.map((rule) => rule.path))))
      for (const [label, country] of COUNTRIES) {
        for (const { name, decision } of SITUATIONS) {
          const decided = { ...decision(1), operator: 'P7' as never, session: '00'.repeat(16) }
          const found = more(sentBy(old, decided, country), sentBy(next, decided, country), named)
          const said = isSaid(difference, label, name)
          tally.cases++
          if (found !== undefined) tally.widened++
          else if (said) tally.saidOnly++
          else tally.silent++
          if (found !== undefined && !said) throw new Error(`seed ${SEED + at}: ${label}, ${name}: ${found}\n${textOfDifference(difference).join('\n')}\n--- old\n${oldText}\n--- new\n${nextText}\n${JSON.stringify(MESSAGES[Number(/\d+/.exec(found)?.[0] ?? 0)])}`)
        }
      }
    }
    process.stdout.write(`difference: ${JSON.stringify(tally)}\n`)
    // A comparison that says "widened" of everything would pass; at least half of what it says must be found.
    expect(tally.widened).toBeGreaterThan(tally.cases / 20)
    expect(tally.silent).toBeGreaterThan(tally.cases / 20)
    expect(tally.saidOnly).toBeLessThan(tally.widened)
  })
})

// ------------------------------------------------------------------------------------------------------------- legal basis

describe('removing an entry of legal_basis', () => {
  const runs = 40 * RUNS
  test(`never widens a country, except back to what its own group says (${runs} random tables)`, () => {
    let removed = 0
    for (let at = 0; at < runs; at++) {
      const random = createDice(SEED + 5_000 + at)
      const choices: Record<string, number> = { ...choose(random), ownBasis: 0, require: 0, when: 0 }
      // A legitimate interest counts as open among the entries, so a default that is a contract may stand beside it; it is left out here.
      for (const place of PLACES) if (choices[place] !== 0) choices[place] = 1 + BASES.indexOf(random.pick(['legitimate_interest', 'opt_out', 'consent', 'forbidden'] as const))
      const text = rulesOf(choices)
      const old = loadRules('r.yaml', text, { schemas: SMALL })
      if (old.draft === undefined || old.findings.some((one) => ['BASIS-WEAKER', 'BASIS-DEFAULT-WEAKER', 'CONTRACT-OPERATOR'].includes(one.code))) continue
      for (const place of PLACES) {
        const next = loadRules('r.yaml', text.replace(new RegExp(`^  ${place}: .*\n`, 'm'), ''), { schemas: SMALL })
        if (next.draft === undefined) continue
        removed++
        // Consent asks for a yes, opt-out for the notice: who said yes without it gets more under consent, and asked for it.
        const wider = differenceOf({ policy: old.draft, accepted: [] }, { policy: next.draft, accepted: [] }).changes.filter((one) => one.verdict === 'widened' && one.stream !== undefined && one.consent.some((name) => !/^yes.* without the notice$/.test(name)))
        expect(wider.filter((one) => place !== 'DE' || one.countries.some((country) => !/^DE$|^DE with | of DE$/.test(country))).map(brief), `seed ${SEED + 5_000 + at}, without ${place}\n${text}`).toEqual([])
      }
    }
    expect(removed).toBeGreaterThan(5)
  })
})

// ------------------------------------------------------------------------------------------------------------------ mutations

describe('random edits of the shipped rules', () => {
  const root = resolve(import.meta.dirname, '..')
  const schemas = loadSchemas([join(root, 'proto')])
  const whole = readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8')
  const text = whole.slice(0, whole.indexOf('\ntests:') + 1)
  const runs = RUNS > 1 ? 500 : 60

  test(`${runs} edits are refused, or let out nothing that the good file does not, or are said to widen`, { timeout: 60_000 * RUNS }, () => {
    const good = loadRules('awp.yaml', text, { schemas })
    const policy = good.policy as Policy
    const tally = { refused: 0, widened: 0, same: 0, subset: 0 }
    for (let at = 0; at < runs; at++) {
      const edited = mutated(createDice(SEED + 9_000 + at), text)
      const next = loadRules('awp.yaml', edited, { schemas })
      if (next.policy === undefined) {
        tally.refused++
        continue
      }
      const difference = differenceOf({ policy, accepted: good.accepted }, { policy: next.policy, accepted: next.accepted })
      if (difference.widened > 0) tally.widened++
      else {
        const changes = difference.narrowed > 0
        tally[changes ? 'subset' : 'same']++
        expect(leak(policy, next.policy, schemas, at), `seed ${SEED + 9_000 + at}\n${changedLines(text, edited)}`).toBeUndefined()
      }
    }
    process.stdout.write(`mutations: ${JSON.stringify(tally)}\n`)
    expect(tally.refused).toBeGreaterThan(0)
    expect(tally.widened).toBeGreaterThan(0)
    expect(tally.subset + tally.same).toBeGreaterThan(0)
  })
})

function changedLines(one: string, other: string): string {
  const known = new Set(one.split('\n'))
  return other.split('\n').filter((line) => !known.has(line)).join('\n')
}

/** One edit of the kind that people make: a line gone or twice, a number, a word or a list entry changed, two words swapped. */
function mutated(dice: Dice, text: string): string {
  for (;;) {
    const edited = editedAt(dice, text)
    if (edited !== text) return edited
  }
}

function editedAt(dice: Dice, text: string): string {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => line.startsWith('subject:'))
  const worth = lines.flatMap((line, index) => (index > start && /^ +[^# ]/.test(line) ? [index] : []))
  const at = dice.pick(worth)
  const line = lines[at] as string
  const put = (...own: readonly string[]): string => [...lines.slice(0, at), ...own, ...lines.slice(at + 1)].join('\n')
  const numbers = [...line.matchAll(/\d+/g)]
  const words = [...line.matchAll(/[a-z_]{3,}/g)]
  switch (dice.below(6)) {
    case 0: return put()
    case 1: {
      const number = numbers[dice.below(numbers.length)]
      return number === undefined ? put() : put(line.slice(0, number.index) + String([Number(number[0]) * 2, Number(number[0]) * 3, Math.ceil(Number(number[0]) / 2), Number(number[0]) + 1][dice.below(4)]) + line.slice(number.index + number[0].length))
    }
    case 2: {
      const word = words[dice.below(words.length)]
      const by = ['keep', 'drop', 'contract', 'consent', 'opt_out', 'legitimate_interest', 'EU', 'position', 'machine_id', 'operator_id', 'seq', 'not_personal'][dice.below(12)] as string
      return word === undefined ? put() : put(line.slice(0, word.index) + by + line.slice(word.index + word[0].length))
    }
    case 3: return put(line.replace(/\{ ([^{},]+), /, '{ '))
    case 4: return put(line.replace(/\[([a-z_]+), /, '['))
    default: {
      const other = lines[dice.pick(worth)] as string
      return put(line, other)
    }
  }
}

/** Messages of each stream of an output through both; what the new one has beyond the old one, or undefined. */
function leak(old: Policy, next: Policy, schemas: Schemas, seed: number): string | undefined {
  const random = createDice(seed)
  const [was, is] = [old, next].map((policy) => createRehearsal(policy, { keys: offlineKeys(), engine: 'interpreted' })) as [Rehearsal, Rehearsal]
  for (const stream of next.streams) {
    if (!old.streams.some((one) => one.id === stream.id) || !next.outputs.some((output) => output.streams.some((one) => one.stream === stream))) continue
    const payload = schemas.encode(stream.message.name, filled(random, schemas, stream.message.name))
    for (const country of ['DE', 'FR', 'US', undefined]) {
      for (const { name, decision } of SITUATIONS) {
        const decisionOf = (policy: Policy): Decision => ({ ...decision(policy.purposes.reduce((bits, purpose) => bits | (1 << purpose.index), 0)), operator: 'P7' as never, session: '00'.repeat(16) })
        const perform = (rehearsal: Rehearsal, policy: Policy): ReadonlyMap<string, Record<string, unknown>> => new Map(rehearsal.perform({ stream: stream.id, payload, machine: machineOf({ id: 'SN-1', country, operatorCollection: name === 'device setting off' ? 'off' : 'on' }), receivedAtMs: NOON, decision: decisionOf(policy) }).outputs.flatMap(({ output, sent }) => (sent === undefined ? [] : [[output.id as string, schemas.decode(stream.message.name, sent.bytes)]])))
        const before = perform(was, old)
        for (const [output, message] of perform(is, next)) {
          const known = before.get(output)
          if (known === undefined) return `${output} gets ${stream.id} in ${country ?? 'an unknown country'} (${name})`
          const fresh = Object.keys(message).find((field) => !(field in known))
          if (fresh !== undefined) return `${output} gets ${fresh} of ${stream.id} in ${country ?? 'an unknown country'} (${name})`
        }
      }
    }
  }
  return undefined
}

/** A message in which every field says something. */
function filled(dice: Dice, schemas: Schemas, name: string): Record<string, unknown> {
  const shape = schemas.message(name)
  return Object.fromEntries((shape?.fields ?? []).flatMap((field): [string, unknown][] => {
    if (field.name === 'machine_id') return [[field.name, 'SN-1']]
    if (field.name === 'time_ms') return [[field.name, NOON]]
    if (field.message !== undefined || field.repeated) return []
    switch (field.type) {
      case 'string': return [[field.name, `t${dice.below(1_000)}`]]
      case 'bytes': return [[field.name, 'AQI=']]
      case 'bool': return [[field.name, true]]
      case 'enum': return [[field.name, [...(field.enum?.values.values() ?? [])].at(-1)]]
      default: return [[field.name, field.name.startsWith('lat') ? 481_371_540 : field.name.startsWith('lon') ? 115_761_240 : 1 + dice.below(100)]]
    }
  }))
}
