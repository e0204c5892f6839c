/** A rehearsal is the pipeline without its surroundings: what it reports, and what it must not remember. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadRules } from '../src/config/rules.ts'
import { Gate } from '../src/domain/basis.ts'
import type { ConsentState } from '../src/domain/consent.ts'
import type { OutputId, StreamId } from '../src/domain/ids.ts'
import type { Policy } from '../src/domain/policy.ts'
import { verdictName } from '../src/domain/verdict.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import { verify } from '../src/minimise/verify.ts'
import { createRehearsal, decisionFor, machineOf, offlineKeys, offlineSession, OFFLINE_KEY, type OutputPerformance, type Performance } from '../src/rehearsal.ts'
import { weaknessOf } from '../src/consent/root.ts'

const root = resolve(import.meta.dirname, '..')
const { policy, schemas } = loadRules('awp.yaml', readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8'), { schemas: loadSchemas([join(root, 'proto')]) })
const awp = policy as Policy
const keys = offlineKeys()
const rehearsal = createRehearsal(awp, { keys })
const at = 1_763_888_864_000
const status = schemas.encode('awp.v1.Status', { machine_id: 'SN-1', time_ms: at, operator_id: 'P7', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, soc_pct_x10: 833, hour_meter_s: 4_521_987 })

interface Case {
  readonly country?: string | undefined
  readonly consent?: Readonly<Record<string, ConsentState>>
  readonly operator?: string | undefined
  readonly notice?: boolean
  readonly receivedAtMs?: number
  readonly payload?: Uint8Array
  readonly stream?: string
  readonly machine?: string
}

function perform(one: Case, on = rehearsal): Performance {
  const operator = 'operator' in one ? one.operator : 'P7'
  return on.perform({
    stream: (one.stream ?? 'status') as StreamId,
    payload: one.payload ?? status,
    machine: machineOf({ id: one.machine ?? 'SN-1', country: one.country }),
    receivedAtMs: one.receivedAtMs ?? at,
    decision: decisionFor(awp, { operator, consent: new Map(Object.entries(one.consent ?? {})), notice: one.notice ?? true, country: undefined, session: '' }),
  })
}

function output(performance: Performance, id: string): OutputPerformance {
  return performance.outputs.find((one) => one.output.id === id) as OutputPerformance
}

describe('each output says how it stands and what it did', () => {
  // prettier-ignore
  test.each<[string, Case, string, string, keyof typeof Gate, string]>([
    // what, the case, output, basis, gate, verdict
    ['contract, nobody asked',     { country: 'FR' },                                                            'service-cloud', 'contract', 'open',   'sent'],
    ['contract, with a yes',       { country: 'FR', consent: { 'service.operate': 'granted' } },                 'service-cloud', 'contract', 'yes',    'sent'],
    ['consent, not asked',         { country: 'FR' },                                                            'site-planning', 'consent',  'closed', 'closed'],
    ['consent, granted',           { country: 'FR', consent: { 'improve.statistics': 'granted' } },              'site-planning', 'consent',  'yes',    'sent'],
    ['consent, nobody known',      { country: 'FR', operator: undefined, consent: { 'improve.statistics': 'granted' } }, 'site-planning', 'consent', 'closed', 'closed'],
    ['opt-out, told',              { country: 'US-CA' },                                                         'site-planning', 'opt_out',  'open',   'sent'],
    ['opt-out, not told',          { country: 'US-CA', notice: false },                                          'site-planning', 'opt_out',  'closed', 'closed'],
    ['opt-out, objected',          { country: 'US-CA', consent: { 'improve.statistics': 'objected' } },          'site-planning', 'opt_out',  'closed', 'closed'],
    ['unknown country',            {},                                                                           'site-planning', 'consent',  'closed', 'closed'],
    ['too late to be attributed',  { country: 'FR', consent: { 'improve.statistics': 'granted' }, receivedAtMs: at + 8 * 86_400_000 }, 'site-planning', 'consent', 'closed', 'closed'],
  ])('%s', (_name, one, id, basis, gate, verdict) => {
    const result = output(perform(one), id)
    expect([result.basis?.basis, result.gate, result.code === 0 ? 'sent' : verdictName(result.code)]).toEqual([basis, Gate[gate], verdict])
    expect(result.sent !== undefined).toBe(verdict === 'sent')
    if (result.sent !== undefined) expect(verify(result.plan, result.sent.bytes)).toBe(undefined)
    expect(result.plan.variant.consent).toBe(gate === 'yes')
  })

  test('a refused message is refused for all, with its reason', () => {
    const performance = perform({ country: 'FR', payload: status.subarray(0, -1) })
    expect(verdictName(performance.code)).toBe('truncated')
    expect(performance.outputs.map((one) => [one.sent, verdictName(one.code)])).toEqual(performance.outputs.map(() => [undefined, 'truncated']))
    expect(performance.decision.known).toBe(false)
  })

  test('the topic holds transformed values only', () => {
    const { sent } = output(perform({ country: 'FR' }), 'service-cloud')
    expect(sent?.topic).toMatch(/^out\/service\/status\/[A-Za-z0-9_-]{22}$/)
  })
})

describe('one message leaves nothing behind for the next', () => {
  test('the order of messages does not show in results', () => {
    const cases: Case[] = [{ country: 'FR' }, { country: 'FR', payload: status.subarray(0, 9) }, { country: 'US', consent: { 'improve.statistics': 'granted' } }, { country: 'FR', operator: undefined }, { country: 'FR', machine: 'SN-2' }]
    const alone = cases.map((one) => perform(one, createRehearsal(awp, { keys })))
    const shared = createRehearsal(awp, { keys })
    const inRow = cases.map((one) => perform(one, shared))
    const backwards = cases.toReversed().map((one) => perform(one, shared)).toReversed()
    const seen = (all: readonly Performance[]): unknown => all.map(({ code, outputs }) => [code, outputs.map((one) => [one.code, one.sent?.topic, one.sent === undefined ? '' : Buffer.from(one.sent.bytes).toString('hex')])])
    expect(seen(inRow)).toEqual(seen(alone))
    expect(seen(backwards)).toEqual(seen(alone))
  })

  test('cells are not sticky: a step over the border shows at once', () => {
    const place = (lat: number): unknown => schemas.decode('awp.v1.Status', output(perform({ country: 'FR', payload: schemas.encode('awp.v1.Status', { machine_id: 'SN-1', time_ms: at, lat_e7: lat, lon_e7: 48_356_590, fix: 3, key_on: true, hour_meter_s: 1 }) }), 'service-cloud').sent!.bytes).lat_e7
    // Cells of 10 km: the border north of Lyon lies at 510 * 10,000 m / 111,320 m = 45.8138699… degrees.
    const border = Math.ceil((510 * 10_000 / 111_320) * 1e7)
    const [south, north, again] = [place(border - 1), place(border), place(border - 1)]
    expect(south).not.toBe(north)
    expect(again).toBe(south)
  })

  test('results are copies', () => {
    const first = output(perform({ country: 'FR' }), 'service-cloud').sent!.bytes
    const before = Buffer.from(first).toString('hex')
    perform({ country: 'DE', operator: undefined })
    expect(Buffer.from(first).toString('hex')).toBe(before)
  })
})

test('only one output may be tried, with the same result', () => {
  const alone = createRehearsal(awp, { keys, only: 'service-cloud' as OutputId })
  const { outputs } = perform({ country: 'FR' }, alone)
  expect(outputs.map((one) => one.output.id)).toEqual(['service-cloud'])
  expect(outputs[0]?.sent).toEqual(output(perform({ country: 'FR' }), 'service-cloud').sent)
})

test('both engines give the same', () => {
  const readable = createRehearsal(awp, { keys, engine: 'interpreted' })
  for (const consent of [{}, { 'improve.statistics': 'granted', 'service.operate': 'granted' }] as const) {
    expect(perform({ country: 'FR', consent }, readable).outputs.map((one) => one.sent)).toEqual(perform({ country: 'FR', consent }).outputs.map((one) => one.sent))
  }
})

describe('what is assumed', () => {
  // prettier-ignore
  test.each<[ConsentState, number, number, number]>([
    // state        yes siteYes no
    ['not_set',     0, 0, 0],
    ['requested',   0, 0, 0],
    ['granted',     1, 1, 0],
    ['local_only',  0, 1, 0],
    ['refused',     0, 0, 1],
    ['withdrawn',   0, 0, 1],
    ['objected',    0, 0, 1],
    ['expired',     0, 0, 0],
    ['invalidated', 0, 0, 0],
  ])('%s', (state, yes, siteYes, no) => {
    const purpose = awp.purposes[3]!
    const decision = decisionFor(awp, { operator: 'P7', consent: new Map([[purpose.id, state]]), notice: true, country: undefined, session: '' })
    const bit = (set: number): number => (set >> purpose.index) & 1
    expect([bit(decision.yes), bit(decision.siteYes), bit(decision.no)]).toEqual([yes, siteYes, no])
    expect(decision.notice).toBe(2 ** awp.purposes.length - 1)
    // Nothing is said for the other purposes.
    expect((decision.yes | decision.siteYes | decision.no) & ~(1 << purpose.index)).toBe(0)
  })

  test('nobody known allows nothing, whatever was consented to', () => {
    const decision = decisionFor(awp, { operator: undefined, consent: new Map([['improve.statistics', 'granted']]), notice: true, country: 'FR', session: 'aa' })
    expect(decision).toEqual({ known: false, yes: 0, siteYes: 0, no: 0, notice: 0, operator: undefined, country: undefined, session: '', seq: 0, collection: true })
  })

  test('no gateway takes the published key', () => {
    expect(weaknessOf(OFFLINE_KEY)).toBeDefined()
  })

  test('sessions of two people differ', () => {
    expect(offlineSession(keys, 'P7')).toMatch(/^[0-9a-f]{32}$/)
    expect(offlineSession(keys, 'P7')).not.toBe(offlineSession(keys, 'P8'))
  })
})
