/**
 * [P31] Every basic function works with all additional consent refused, and [P63] refusing changes no priority, rate or safety record.
 * The shipped rules, the real pipeline; what the functions are is written here by hand, and held against the rules.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import { outputBasis } from '../../src/domain/basis.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import type { OperatorId } from '../../src/domain/ids.ts'
import type { Policy } from '../../src/domain/policy.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'
import { createMetrics } from '../../src/metrics.ts'
import { createCells } from '../../src/minimise/cells.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { createPipeline, type PipelineParts } from '../../src/pipeline.ts'
import { machineOf, offlineKeys } from '../../src/rehearsal.ts'
import { buildSnapshot } from '../../src/snapshot.ts'
import { decode, encode, PROJECT } from '../e2e/stage.ts'

/** The functions that need nobody's yes, as the notice describes them. Storage class is the priority with which a message is kept. */
const FUNCTIONS: readonly { readonly name: string; readonly output: string; readonly streams: readonly string[]; readonly storage: OutboxRecord['storageClass'] }[] = [
  { name: 'service: hours, faults, battery, diagnosis', output: 'service-cloud', streams: ['status', 'fault', 'safety', 'charge', 'comms', 'diag', 'device'], storage: 'ordinary' },
  { name: 'the rental bill', output: 'rental-billing', streams: ['status'], storage: 'ordinary' },
  { name: 'the safety record', output: 'safety-record', streams: ['safety', 'fault', 'precheck'], storage: 'legal' },
]

/** Fields that a yes makes finer; without it they are there all the same. */
const FINER: Readonly<Record<string, readonly string[]>> = { 'service-cloud status': ['lat_e7', 'lon_e7'] }

/** What the law wants kept of each message, by name, whatever anybody chose. */
const SAFETY_FIELDS: Readonly<Record<string, readonly string[]>> = {
  safety: ['acc_mg', 'duration_ms', 'kind', 'lat_e7', 'lon_e7', 'machine_id', 'severity', 'time_ms', 'value'],
  fault: ['active', 'fmi', 'lamp', 'machine_id', 'source_address', 'spn', 'time_ms'],
  precheck: ['items', 'list_version', 'machine_id', 'passed', 'time_ms'],
}

const COUNTRIES = ['FR', 'DE', 'GB', 'US', 'US-CA', 'CN', undefined] as const

const START = Date.UTC(2026, 10, 23, 9)
const MESSAGES = 20

const { policy, findings } = loadRules('awp.yaml', readFileSync(join(PROJECT, 'config/rules/awp.yaml'), 'utf8'), { schemas: loadSchemas([join(PROJECT, 'proto')]) })
if (policy === undefined) throw new Error(JSON.stringify(findings))

/** A second of a working machine; `n` makes each message another one. */
function messages(n: number): [stream: string, message: Record<string, unknown>][] {
  const head = { machine_id: 'SN-1', time_ms: START + n * 1_000, operator_id: 'A-1001', session_ref: 88, seq: n }
  const place = { lat_e7: 457_640_430, lon_e7: 48_356_590 }
  return [
    ['status', { ...head, ...place, fix: 3, key_on: true, mode: 'MODE_LIFT', soc_pct_x10: 825, platform_load_kg: 125, hour_meter_s: 4_521_780 + n }],
    ['fault', { ...head, spn: 168, fmi: 1, source_address: 39, occurrences: 7, active: true, lamp: 4 }],
    ['safety', { ...head, ...place, kind: 'SAFETY_OVERLOAD', severity: 'SEVERITY_ALARM', value: 104, duration_ms: 2_300, acc_mg: [12, -3, 1_004] }],
    ['precheck', { ...head, passed: true, items: ['CHECK_OK', 'CHECK_DEFECT'], list_version: 3 }],
    ['charge', { ...head, state: 'CHARGE_BULK', out_mv: 54_200, cycles: 612 }],
    ['comms', { ...head, ip: '192.0.2.17', tx_kb: 812, rssi_dbm: -87 }],
    ['diag', { ...head, level: 'DIAG_WARN', component: 'bms', text: 'card of Anna rejected' }],
    ['device', { ...head, serial: 'SN-1', model: 'EL-26', firmware: '4.2.1' }],
  ]
}

interface Left {
  readonly during: number
  readonly record: OutboxRecord
}

/** Everything that leaves of some seconds of work under one decision. */
function work(rules: Policy, country: string | undefined, decision: Decision): readonly Left[] {
  const left: Left[] = []
  let during = 0
  const metrics = createMetrics()
  const machine = machineOf({ id: 'SN-1', fleet: 'demo', country, operatorCollection: 'on' })
  const pipeline = createPipeline({
    random: () => new Uint8Array(16),
    machines: () => ({ get: () => machine, size: 1, all: () => [machine] }),
    sessions: { decide: (_machine: unknown, _eventMs: unknown, _nowMs: unknown, into: Decision) => void Object.assign(into, decision) },
    consent: {}, identities: { find: () => ({ operator: decision.operator, kind: 'personal' }) },
    outbox: { room: () => true, accept: (record: OutboxRecord) => void left.push({ during, record: { ...record, payload: Uint8Array.from(record.payload) } }), kept: () => undefined, mark: () => undefined },
    cells: createCells(), metrics, verifyEvery: 1, ledgerHealthy: () => true,
  } as unknown as PipelineParts)
  pipeline.swap(buildSnapshot(rules, {
    keys: offlineKeys(), engine: 'interpreted', keyId: '', metrics,
    sessions: { signOn: () => {}, signOff: () => {} },
    matcher: (streams) => (topic) => ({ streams: streams.filter(({ id }) => topic.endsWith(`/${id}`)), machine: undefined, fleet: undefined }),
  }))
  for (let n = 0; n < MESSAGES; n++) {
    for (const [stream, message] of messages(n)) {
      pipeline.handle({ topic: `up/demo/SN-1/${stream}`, payload: encode(stream, message), qos: 1, machine: 'SN-1', receivedAtMs: START + n * 1_000 + 500, isWill: false })
      during++
    }
  }
  return left
}

const ANNA = { known: true, collection: true, operator: 'op-anna' as OperatorId, session: '00'.repeat(16), notice: -1 } as const
const everythingGranted: Decision = { ...nobody(), ...ANNA, yes: -1, siteYes: -1 }
/** A refusal of what rests on a legitimate interest is an objection, which closes it: that is no additional consent. */
function everythingRefused(rules: Policy, country: string | undefined): Decision {
  const additional = rules.purposes.filter(({ id }) => rules.outputs.some((output) => output.purpose.id === id && outputBasis(rules.basis, output, country, undefined)?.basis !== 'legitimate_interest'))
  return { ...nobody(), ...ANNA, no: additional.reduce((set, { index }) => set | (1 << index), 0) }
}
const notAsked: Decision = { ...nobody(), ...ANNA, notice: 0 }

describe.each(COUNTRIES.map((country) => [country ?? 'an unknown country', country] as const))('in %s', (_name, country) => {
  const granted = work(policy, country, everythingGranted)
  const others: readonly (readonly [string, readonly Left[]])[] = [
    ['everything refused', work(policy, country, everythingRefused(policy, country))],
    ['not asked', work(policy, country, notAsked)],
    ['nobody signed on', work(policy, country, { ...nobody(), collection: true })],
  ]

  it('the functions are those that the rules open without a yes', () => {
    const open = policy.outputs.filter((output) => ['contract', 'legal_obligation', 'vital_interest', 'public_interest'].includes(outputBasis(policy.basis, output, country, undefined)?.basis ?? ''))
      // In one country the law asks for the security log; no function of the machine rests on it.
      .filter(({ purpose }) => purpose.id !== 'security.fraud')
    expect(open.map(({ id }) => id as string).sort()).toEqual(FUNCTIONS.map(({ output }) => output).sort())
    for (const { output, streams } of FUNCTIONS) expect(policy.outputs.find(({ id }) => id === output)?.streams.map(({ stream }) => stream.id as string).sort()).toEqual([...streams].sort())
  })

  it('something is lost by refusing, so that the comparison is one', () => {
    for (const [, left] of others) expect(left.length).toBeLessThan(granted.length)
  })

  describe.each(FUNCTIONS)('$name', ({ output, streams, storage }) => {
    const of = (left: readonly Left[], stream: string): Left[] => left.filter(({ record }) => record.output === output && record.stream === stream)

    it.each(others)('keeps its messages, rate, priority and delivery: %s', (_who, left) => {
      for (const stream of streams) {
        const [fine, coarse] = [of(granted, stream), of(left, stream)]
        expect(fine.length, stream).toBe(MESSAGES)
        // Not one message less, and each with the message that brought it: none waits for another.
        expect(coarse.map(({ during }) => during), stream).toEqual(fine.map(({ during }) => during))
        for (const [i, { record }] of coarse.entries()) {
          const other = (fine[i] as Left).record
          expect([record.qos, record.retain, record.storageClass, record.via, record.topic, record.expiresAtMs]).toEqual([other.qos, other.retain, storage, other.via, other.topic, other.expiresAtMs])
          expect(record.qos).toBe(1)
        }
      }
    })

    it.each(others)('keeps its fields, and all but what a yes makes finer as they were: %s', (_who, left) => {
      for (const stream of streams) {
        const finer = FINER[`${output} ${stream}`] ?? []
        let differences = 0
        for (const [i, { record }] of of(left, stream).entries()) {
          const [without, withYes] = [decode(stream, record.payload), decode(stream, (of(granted, stream)[i] as Left).record.payload)]
          expect(Object.keys(without).sort(), stream).toEqual(Object.keys(withYes).sort())
          const different = Object.keys(without).filter((field) => JSON.stringify(without[field]) !== JSON.stringify(withYes[field]))
          differences += different.length
          expect(finer, `${output} ${stream}`).toEqual(expect.arrayContaining(different))
        }
        // What is said to become finer does.
        expect(differences > 0, `${output} ${stream}`).toBe(finer.length > 0)
      }
    })
  })

  it.each([['everything granted', granted] as const, ...others])('the safety record is byte for byte the same, with all its fields: %s', (_who, left) => {
    const records = (from: readonly Left[]): string[] => from.filter(({ record }) => record.output === 'safety-record').map(({ record }) => `${record.stream} ${record.topic} ${Buffer.from(record.payload).toString('hex')}`)
    expect(records(left)).toEqual(records(granted))
    expect(records(left)).toHaveLength(3 * MESSAGES)
    for (const { record } of left.filter((one) => one.record.output === 'safety-record')) expect(Object.keys(decode(record.stream, record.payload)).sort()).toEqual(SAFETY_FIELDS[record.stream])
  })
})
