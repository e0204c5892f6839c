/** What only the pipeline itself decides: a violation found by the verifier stops the whole output, and only that one. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { loadRules } from '../src/config/rules.ts'
import { nobody, type Decision } from '../src/domain/consent.ts'
import type { OutboxRecord } from '../src/domain/ports.ts'
import type { Policy } from '../src/domain/policy.ts'
import { createMetrics } from '../src/metrics.ts'
import { createCells } from '../src/minimise/cells.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import type { Run } from '../src/minimise/interpret.ts'
import { createPipeline, type PipelineParts } from '../src/pipeline.ts'
import { machineOf, offlineKeys } from '../src/rehearsal.ts'
import { buildSnapshot } from '../src/snapshot.ts'
import { ENGINE } from './engine.ts'

const root = resolve(import.meta.dirname, '..')
const { policy, schemas } = loadRules('awp.yaml', readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8'), { schemas: loadSchemas([join(root, 'proto')]) })
const machine = machineOf({ id: 'SN-1', fleet: 'demo', country: 'FR' })
const at = 1_763_888_864_000

test('a field outside the plan stops its output for every stream; the others go on', () => {
  const sent: string[] = []
  const metrics = createMetrics()
  const snapshot = buildSnapshot(policy as Policy, {
    keys: offlineKeys(), engine: ENGINE, keyId: '', metrics,
    sessions: { signOn: () => {}, signOff: () => {} },
    matcher: (streams) => (topic) => ({ streams: streams.filter(({ id }) => topic.endsWith(`/${id}`)), machine: undefined, fleet: undefined }),
  })
  const pipeline = createPipeline({
    random: () => new Uint8Array(16),
    machines: () => ({ get: () => machine, size: 1, all: () => [] }),
    sessions: { decide: () => {} }, consent: {}, identities: { find: () => undefined },
    outbox: { room: () => true, accept: (record: OutboxRecord) => void sent.push(`${record.output} ${record.stream}`) },
    cells: createCells(), metrics, verifyEvery: 1, ledgerHealthy: () => true,
  } as unknown as PipelineParts)
  pipeline.swap(snapshot)
  const publish = (stream: string, body: Record<string, unknown>): string[] => {
    sent.length = 0
    const payload = schemas.encode(`awp.v1.${stream === 'status' ? 'Status' : 'Fault'}`, { machine_id: 'SN-1', time_ms: String(at), ...body })
    pipeline.handle({ topic: `up/demo/SN-1/${stream}`, payload, qos: 1, machine: 'SN-1', receivedAtMs: at, isWill: false })
    return [...sent]
  }
  const status = { key_on: true, hour_meter_s: 3_600 }
  const fault = { spn: 168, fmi: 1, active: true }
  expect(publish('status', status)).toEqual(['service-cloud status', 'rental-billing status'])
  expect(publish('fault', fault)).toContain('service-cloud fault')

  // A fault of the engine: one varint field more than the plan has.
  const broken = snapshot.streams.find(({ stream }) => stream.id === 'status')!.outputs.find(({ output }) => output.id === 'service-cloud')!
  const smuggle = (run: Run): Run => (source, start, end, target, from, cx) => {
    const to = run(source, start, end, target, from, cx)
    if (to < 0) return to
    target.set([0xf8, 0x01, 0x01], to)
    return to + 3
  }
  ;(broken as { run: readonly Run[] }).run = broken.run.map(smuggle)
  expect(publish('status', status)).toEqual(['rental-billing status'])
  expect(publish('status', status)).toEqual(['rental-billing status'])
  expect(publish('fault', fault)).not.toContain('service-cloud fault')
  expect(broken.stopped).toBe('field 31 is not in the plan')
})

test('in a quarantine a record names everybody it may be about, and what an objection of one of them does to it', () => {
  const sent: OutboxRecord[] = []
  const metrics = createMetrics()
  const snapshot = buildSnapshot(policy as Policy, {
    keys: offlineKeys(), engine: ENGINE, keyId: '', metrics,
    sessions: { signOn: () => {}, signOff: () => {} },
    matcher: (streams) => (topic) => ({ streams: streams.filter(({ id }) => topic.endsWith(`/${id}`)), machine: undefined, fleet: undefined }),
  })
  let concerned: readonly string[] | undefined
  const pipeline = createPipeline({
    random: () => new Uint8Array(16),
    machines: () => ({ get: () => machine, size: 1, all: () => [] }),
    sessions: { decide: (_machine: unknown, _event: number, _now: number, into: Decision) => void Object.assign(into, nobody(), { collection: true, seq: 7, concerned }) },
    consent: {}, identities: { find: () => undefined },
    outbox: { room: () => true, accept: (record: OutboxRecord) => void sent.push(record) },
    cells: createCells(), metrics, ledgerHealthy: () => true,
  } as unknown as PipelineParts)
  pipeline.swap(snapshot)
  const records = (people: readonly string[] | undefined): unknown[] => {
    concerned = people
    sent.length = 0
    for (const [stream, type, body] of [['operator', 'OperatorEvent', { op: 'LOCK' }], ['status', 'Status', { key_on: true, hour_meter_s: 3_600 }]] as const) {
      const payload = schemas.encode(`awp.v1.${type}`, { machine_id: 'SN-1', time_ms: String(at), ...body })
      pipeline.handle({ topic: `up/demo/SN-1/${stream}`, payload, qos: 1, machine: 'SN-1', receivedAtMs: at, isWill: false })
    }
    return sent.filter(({ output }) => output !== 'rental-billing').map(({ output, basis, subjects, consentSeq, payloadIfWithdrawn }) => [output, basis, subjects, consentSeq, payloadIfWithdrawn])
  }
  // Legitimate interest closes with an objection; what rests on the contract was made for nobody and needs no other form.
  expect(records(['op-ada', 'op-ben'])).toEqual([
    ['security-log', 'legitimate_interest', ['op-ada', 'op-ben'], [7], null],
    ['service-cloud', 'contract', ['op-ada', 'op-ben'], [7], undefined],
  ])
  expect(records(undefined)).toEqual([
    ['security-log', 'legitimate_interest', [], [], undefined],
    ['service-cloud', 'contract', [], [], undefined],
  ])
})
