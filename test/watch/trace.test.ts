/** Traces: what they explain, to whom they show what, and what they forget. The rules are the shipped ones. */
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import { nobody, type ConsentState, type Decision } from '../../src/domain/consent.ts'
import type { OperatorId } from '../../src/domain/ids.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import type { Ending, TraceEntry, TraceOutput } from '../../src/domain/live.ts'
import type { Policy, Stream } from '../../src/domain/policy.ts'
import type { Machine, Publish } from '../../src/domain/ports.ts'
import { Verdict } from '../../src/domain/verdict.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { decisionFor, machineOf, offlineKeys } from '../../src/rehearsal.ts'
import { Observers } from '../../src/watch/observer.ts'
import type { RuleSet } from '../../src/watch/shadow.ts'
import { Traces, type TraceRequest } from '../../src/watch/trace.ts'

const root = resolve(import.meta.dirname, '../..')
const schemas = loadSchemas([join(root, 'proto')])
const shipped = readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8')
const POLICY = loadRules('awp.yaml', shipped.slice(0, shipped.indexOf('\ntests:') + 1), { schemas }).policy as Policy
const AT = 1_763_888_864_000
const MINUTE = 60_000
const MACHINES = new Map<string, Machine>(['SN-1', 'SN-2', 'SN-3'].map((id) => [id, machineOf({ id, fleet: 'demo', country: 'FR', operatorCollection: id === 'SN-3' ? 'off' : 'on' })]))
const ADA = 'op-ada' as OperatorId
const BEN = 'op-ben' as OperatorId

/** Values that must not be seen. The hours and the place are rounded by every output. */
const STATUS = { machine_id: 'SN-1', operator_id: 'CARD-77123', time_ms: AT, lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, soc_pct_x10: 837, hour_meter_s: 4_521_901 }
const VALUES = ['CARD-77123', '457640430', '45.764', '48356590', '4521901', '837']

interface Stage {
  readonly traces: Traces
  readonly observers: Observers
  readonly clock: { ms: number; cpu: number; readonly now: () => number; readonly monotonic: () => number }
  readonly endings: string[]
  readonly rules: { set: RuleSet | undefined }
  readonly later: (() => void)[]
}

function stage({ later: isLater = false }: { readonly later?: boolean } = {}): Stage {
  const clock = { ms: AT, cpu: 0, now: () => clock.ms, monotonic: () => clock.cpu }
  const [endings, later]: [string[], (() => void)[]] = [[], []]
  const rules: Stage['rules'] = { set: { policy: POLICY, schemas } }
  const observers = new Observers(() => undefined)
  const traces = new Traces({
    clock, machine: (id) => MACHINES.get(id), keys: offlineKeys(), rules: () => rules.set, observers, failed: () => undefined,
    ended: ({ by }: TraceRequest, why: Ending) => void endings.push(`${by}: ${why}`),
    defer: isLater ? (work) => void later.push(work) : (work) => work(),
  })
  return { traces, observers, clock, endings, rules, later }
}

const DPO = { by: 'dpo', role: 'privacy' }
const TUNER = { by: 'tuner', role: 'engineer' }

function request(given: Partial<TraceRequest> = {}): TraceRequest {
  return { machine: 'SN-1', operator: undefined, forMs: 10 * MINUTE, values: false, personal: true, ...DPO, ...given }
}

interface Sent {
  readonly stream?: string
  readonly machine?: string
  readonly message?: Readonly<Record<string, unknown>>
  readonly operator?: string | undefined
  readonly consent?: Readonly<Record<string, ConsentState>>
  readonly decision?: Decision
}

function decided(on: Stage, sent: Sent = {}): void {
  const stream = POLICY.streams.find(({ id }) => id === (sent.stream ?? 'status')) as Stream
  const machine = sent.machine ?? 'SN-1'
  const decision = sent.decision ?? decisionFor(POLICY, { operator: 'operator' in sent ? sent.operator : ADA, consent: new Map(Object.entries(sent.consent ?? {})), notice: true, country: undefined, session: '' })
  on.observers.decided(publishOf(machine, stream.id, schemas.encode(stream.message.name, { ...(sent.message ?? STATUS), machine_id: machine })), stream, decision)
}

function publishOf(machine: string, stream: string, payload: Uint8Array): Publish {
  return { topic: `up/demo/${machine}/${stream}`, payload, qos: 1, machine, receivedAtMs: AT, isWill: false }
}

function entries(on: Stage, who = DPO): readonly TraceEntry[] {
  return on.traces.read(who, 0).entries
}

function outputOf(entry: TraceEntry | undefined, id: string): TraceOutput {
  return entry?.outputs.find(({ output }) => output === id) as TraceOutput
}

describe('a message explained to a role that may read consent', () => {
  // prettier-ignore
  test.each<[string, Sent, string, string, string, string]>([
    // what, the message, who is there, output, result, why
    ['a yes',                  { consent: { 'improve.statistics': 'granted' } },  'a known person is signed on', 'site-planning',  'sent',   'open on consent in FR, with the operator\'s yes'],
    ['not asked',              {},                                                'a known person is signed on', 'site-planning',  'closed', 'closed: consent in FR, and there is no valid yes of the operator'],
    ['a no',                   { consent: { 'improve.statistics': 'refused' } },  'a known person is signed on', 'site-planning',  'closed', 'closed: consent in FR, and the operator said no'],
    ['nobody',                 { operator: undefined },                           'nobody is known',             'site-planning',  'closed', 'closed: consent in FR, and nobody is known'],
    ['contract needs nobody',  { operator: undefined },                           'nobody is known',             'rental-billing', 'sent',   'open on contract in FR, without a yes of the operator'],
  ])('%s', (_name, sent, person, output, result, why) => {
    const on = stage()
    on.traces.start(request())
    decided(on, sent)
    const [entry] = entries(on)
    expect(entry).toMatchObject({ seq: 1, atMs: AT, machine: 'SN-1', stream: 'status', refused: undefined, person })
    expect(outputOf(entry, output)).toMatchObject({ result, why, ifNobodyKnown: false })
  })

  test('the device setting off is said', () => {
    const on = stage()
    on.traces.start(request({ machine: 'SN-3' }))
    decided(on, { machine: 'SN-3', decision: nobody() })
    expect(entries(on)[0]?.person).toBe('nobody: the device setting is off')
  })

  test('each field with its action and its line in the rules; no value and no topic unless they were asked for', () => {
    const on = stage()
    on.traces.start(request())
    decided(on, { consent: { 'improve.statistics': 'granted' } })
    const billing = outputOf(entries(on)[0], 'rental-billing')
    const line = shipped.split('\n').findIndex((text) => text.includes('hour_meter_s: { round: 6 min }')) + 1
    expect(billing.fields.find(({ path }) => path === 'hour_meter_s')).toEqual({ path: 'hour_meter_s', action: 'round to 360', why: `line ${line}`, withYes: undefined, before: undefined, after: undefined })
    expect(billing.fields.find(({ path }) => path === 'soc_pct_x10')).toMatchObject({ action: 'drop', why: 'the output does not name it' })
    expect(billing).toMatchObject({ topic: undefined, bytes: expect.any(Number) as number })
    const text = JSON.stringify(on.traces.read(DPO, 0).entries)
    for (const value of VALUES) expect(text).not.toContain(value)
    expect(text).not.toContain(ADA)
  })

  test('values before and after, when they were asked for', () => {
    const on = stage()
    on.traces.start(request({ values: true }))
    decided(on, { consent: { 'improve.statistics': 'granted' } })
    const entry = entries(on)[0]
    expect(outputOf(entry, 'rental-billing').fields.find(({ path }) => path === 'hour_meter_s')).toMatchObject({ before: '4521901', after: '4521960' })
    expect(outputOf(entry, 'site-planning').fields.find(({ path }) => path === 'position')).toMatchObject({ before: '{"lat":45.764043,"lon":4.835659}', action: '500 m grid' })
    expect(outputOf(entry, 'rental-billing').topic).toBe('out/billing/status')
    expect(on.traces.read(DPO, 0).about).toEqual([ADA])
  })

  test('a long value is cut', () => {
    const on = stage()
    on.traces.start(request({ values: true }))
    decided(on, { stream: 'diag', message: { time_ms: AT, component: 'x'.repeat(5_000) } })
    const before = outputOf(entries(on)[0], 'service-cloud').fields.find(({ path }) => path === 'component')?.before
    expect([before?.length, before?.at(-1)]).toEqual([LIMITS.traceValue, '…'])
  })

  test('refused messages of the machine, by their code; not those of another', () => {
    const on = stage()
    on.traces.start(request())
    const stream = POLICY.streams.find(({ id }) => id === 'status')
    on.observers.refused(publishOf('SN-1', 'status', Uint8Array.of(10, 9)), stream, Verdict.truncated.code)
    on.observers.refused(publishOf('SN-1', 'nothing', Uint8Array.of(10, 9)), undefined, Verdict.no_stream.code)
    on.observers.refused(publishOf('SN-2', 'status', Uint8Array.of(10, 9)), stream, Verdict.truncated.code)
    decided(on, { machine: 'SN-2' })
    expect(entries(on).map(({ stream: id, refused, bytes }) => [id, refused, bytes])).toEqual([['status', 'truncated', 2], [undefined, 'no_stream', 2]])
  })
})

test('an operator is followed over all machines, and where it is not sure who was there', () => {
  const on = stage()
  on.traces.start(request({ machine: undefined, operator: ADA }))
  decided(on)
  decided(on, { machine: 'SN-2' })
  decided(on, { operator: BEN })
  decided(on, { decision: { ...nobody(), collection: true, concerned: [BEN, ADA] } })
  on.observers.refused(publishOf('SN-1', 'status', Uint8Array.of(10, 9)), undefined, Verdict.truncated.code)
  expect(entries(on).map(({ machine, person }) => [machine, person])).toEqual([['SN-1', 'a known person is signed on'], ['SN-2', 'a known person is signed on'], ['SN-1', 'nobody is known']])
})

describe('what is shown to those who may not read consent', () => {
  const states = fc.constantFrom<ConsentState>('not_set', 'granted', 'local_only', 'refused', 'withdrawn', 'objected')
  const decisions = fc.record({
    operator: fc.constantFrom(ADA, BEN, undefined), consent: fc.dictionary(fc.constantFrom(...POLICY.purposes.map(({ id }) => id as string)), states), notice: fc.boolean(), country: fc.constantFrom(undefined, 'DE', 'US', 'CN', 'KE'),
  })

  test('is the same whoever is there and whatever they said', () => {
    const seen = (decision: Decision): string => {
      const on = stage()
      on.traces.start(request({ personal: false, ...TUNER }))
      for (const stream of ['status', 'comms', 'safety', 'consent']) decided(on, { stream, decision, message: stream === 'status' ? STATUS : { time_ms: AT, operator_id: 'CARD-77123', ...(stream === 'consent' ? {} : { seq: 7 }) } })
      // Whoever withdraws takes nothing out of it, which would tell that they did.
      on.traces.erase(ADA)
      return JSON.stringify(on.traces.read(TUNER, 0))
    }
    const alone = seen({ ...nobody(), collection: true })
    expect(alone).toContain('"ifNobodyKnown":true')
    expect(alone).toContain('"ifNobodyKnown":false')
    fc.assert(fc.property(decisions, ({ consent, ...assumed }) => {
      expect(seen(decisionFor(POLICY, { ...assumed, consent: new Map(Object.entries(consent)), session: 'ab'.repeat(16) }))).toBe(alone)
    }), { numRuns: Number(process.env['PARAPET_RUNS'] ?? 25) })
  })

  test('is the same for a message that is refused only where a yes opens an output', () => {
    // The stream `position` has an output on consent alone. [RFC 3629] No UTF-8 text holds 0xff: here the operator's id.
    const payload = Buffer.concat([schemas.encode('awp.v1.Position', { machine_id: 'SN-1', time_ms: AT }), Buffer.from([0x32, 0x01, 0xff])])
    const stream = POLICY.streams.find(({ id }) => id === 'position') as Stream
    const seen = (tell: (on: Stage) => void, given: Partial<TraceRequest>): readonly TraceEntry[] => {
      const on = stage()
      on.traces.start(request(given))
      tell(on)
      return on.traces.read({ ...DPO, ...given }, 0).entries
    }
    const withYes = (on: Stage): void => on.observers.refused(publishOf('SN-1', 'position', payload), stream, Verdict.bad_utf8.code)
    const without = (on: Stage): void => on.observers.decided(publishOf('SN-1', 'position', payload), stream, { ...nobody(), collection: true })
    expect(seen(withYes, { personal: false, ...TUNER })).toEqual(seen(without, { personal: false, ...TUNER }))
    expect(seen(withYes, {})).toMatchObject([{ refused: 'bad_utf8' }])
  })

  test('says what a yes would do instead, and nothing of what was chosen at the display', () => {
    const on = stage()
    on.traces.start(request({ personal: false, ...TUNER }))
    decided(on, { consent: { 'service.operate': 'granted' } })
    decided(on, { stream: 'consent', message: { time_ms: AT, operator_id: 'CARD-77123', choice: 'WITHDRAW', purpose: 'improve.statistics' } })
    const [entry, ...more] = entries(on, TUNER)
    expect(more).toEqual([])
    expect(entry?.person).toBeUndefined()
    expect(outputOf(entry, 'service-cloud').fields.find(({ path }) => path === 'position')).toMatchObject({ action: '10 km grid', withYes: '1 km grid' })
    expect(outputOf(entry, 'rental-billing')).toMatchObject({ ifNobodyKnown: false, result: 'sent' })
  })
})

describe('who withdraws is forgotten', () => {
  test('in the ring and in what waits, and nobody else is', () => {
    const on = stage({ later: true })
    on.traces.start(request({ values: true }))
    decided(on)
    decided(on, { operator: BEN })
    decided(on, { operator: undefined })
    while (on.later.length > 0) on.later.shift()?.()
    decided(on)
    expect([on.traces.locate(ADA), on.traces.locate(BEN)]).toEqual([{ records: 1 }, { records: 1 }])
    expect([...on.traces.export(ADA)]).toMatchObject([{ store: 'traces', seq: 1 }])
    expect(on.traces.erase(ADA)).toEqual({ erased: 1, held: 0 })
    while (on.later.length > 0) on.later.shift()?.()
    expect(entries(on).map(({ seq }) => seq)).toEqual([2, 3])
    // It goes on: what comes afterwards is seen.
    decided(on)
    while (on.later.length > 0) on.later.shift()?.()
    expect(entries(on).map(({ seq }) => seq)).toEqual([2, 3, 4])
  })

  test('and with a machine whose device setting is turned off what is about anybody', () => {
    const on = stage()
    on.traces.start(request())
    decided(on)
    decided(on, { operator: undefined })
    on.traces.forget({ machine: 'SN-2' })
    expect(entries(on)).toHaveLength(2)
    on.traces.forget({ machine: 'SN-1' })
    expect(entries(on).map(({ person }) => person)).toEqual(['nobody is known'])
  })
})

describe('bounds', () => {
  test('four at a time, one a token; another role of the same name does not read it', () => {
    const on = stage()
    for (const by of ['a', 'b', 'c', 'd']) on.traces.start(request({ by }))
    expect(() => on.traces.start(request({ by: 'e' }))).toThrow(/4 traces run already/)
    expect(on.traces.start(request({ by: 'd', machine: 'SN-2' })).id).toBe(5)
    expect(on.endings).toEqual(['d: asked'])
    expect(() => on.traces.read({ by: 'a', role: 'engineer' }, 0)).toThrow(/No trace of this token/)
    on.traces.stop({ by: 'a', role: 'privacy' })
    on.traces.start(request({ by: 'e' }))
    expect(on.endings).toEqual(['d: asked', 'a: asked'])
  })

  test('it ends when its time is over, and what it saw can be fetched for a minute more', () => {
    const on = stage()
    on.traces.start(request())
    decided(on)
    on.clock.ms += 10 * MINUTE - 1
    decided(on)
    on.clock.ms += 1
    decided(on)
    expect(on.endings).toEqual(['dpo: over'])
    expect(on.traces.read(DPO, 0)).toMatchObject({ ended: 'over', entries: [{ seq: 1 }, { seq: 2 }] })
    on.clock.ms += LIMITS.traceKeptMs
    expect(() => on.traces.read(DPO, 0)).toThrow(/No trace/)
    expect(on.traces.locate(ADA)).toEqual({ records: 0 })
  })

  test('ended ones do not pile up either', () => {
    const on = stage()
    for (let n = 0; n < 12; n++) {
      on.traces.start(request({ by: `t${n}`, forMs: 1 }))
      decided(on)
      on.clock.ms += 1
    }
    on.traces.sweep()
    expect(on.traces.locate(ADA).records).toBeLessThanOrEqual(LIMITS.traces + 1)
    expect(on.endings).toHaveLength(12)
  })

  test('the newest 500 messages in pages of 100; how many were gone is said', () => {
    const on = stage()
    on.traces.start(request())
    for (let n = 0; n < LIMITS.traceMessages + 20; n++) decided(on, { stream: 'device', message: { time_ms: AT } })
    const first = on.traces.read(DPO, 0)
    expect([first.dropped, first.entries.length, first.entries[0]?.seq]).toEqual([20, 100, 21])
    const next = on.traces.read(DPO, 120)
    expect([next.dropped, next.entries[0]?.seq]).toEqual([0, 121])
    expect(on.traces.read(DPO, LIMITS.traceMessages + 20).entries).toEqual([])
  }, 60_000)

  test('what is over the share of processor time is passed over, and counted', () => {
    const on = stage({ later: true })
    on.traces.start(request())
    for (let n = 0; n < LIMITS.watchWaiting + 3; n++) decided(on)
    expect(on.traces.read(DPO, 0)).toMatchObject({ skipped: 3, entries: [] })
  })

  test('other rules explain what comes after them', () => {
    const on = stage()
    on.traces.start(request())
    decided(on)
    const policy = { ...POLICY, outputs: POLICY.outputs.filter(({ id }) => id === 'rental-billing') } as Policy
    on.rules.set = { policy, schemas }
    on.observers.rulesChanged()
    decided(on)
    on.rules.set = undefined
    decided(on)
    expect(entries(on).map(({ outputs }) => outputs.map(({ output }) => output as string))).toEqual([['service-cloud', 'site-planning', 'rental-billing', 'operator-app'], ['rental-billing'], []])
    expect(entries(on).map(({ refused }) => refused)).toEqual([undefined, undefined, 'no_rules'])
  })
})
