/** What only the pipeline itself decides: a violation found by the verifier stops the whole output, and only that one. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { verdictName } from '../src/domain/verdict.ts'
import { loadRules } from '../src/config/rules.ts'
import { nobody, type Decision } from '../src/domain/consent.ts'
import type { OutputId, StreamId } from '../src/domain/ids.ts'
import type { OutboxRecord } from '../src/domain/ports.ts'
import type { Emit, Policy } from '../src/domain/policy.ts'
import type { MessageShape } from '../src/domain/schema.ts'
import { createEmission } from '../src/emission.ts'
import { createMetrics } from '../src/metrics.ts'
import { createCells } from '../src/minimise/cells.ts'
import { loadSchemas, schemasFromText } from '../src/minimise/descriptor.ts'
import type { Run } from '../src/minimise/interpret.ts'
import { createPipeline, type PipelineParts } from '../src/pipeline.ts'
import { machineOf, offlineKeys } from '../src/rehearsal.ts'
import { buildSnapshot, type OutputEntry } from '../src/snapshot.ts'
import { ENGINE } from './engine.ts'
import { streamOf } from './minimise/fixture.ts'

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
  ;(broken as { made: OutputEntry['made'] }).made = broken.made.map((one) => (one === undefined ? undefined : { ...one, run: smuggle(one.run) }))
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

test('on_change tells lists apart however their texts run together, and absent from empty', () => {
  const shape = schemasFromText({ 'p.proto': 'syntax = "proto3"; package p; message M { repeated string tags = 1; optional string note = 2; }' }).message('p.M') as MessageShape
  const source = streamOf(shape, [], { emit: { everyMs: undefined, take: 'first', onChange: ['tags', 'note'], hold: false } })
  const marks = ['0a0161 0a0162', '0a03612c62', '0a0161 0a0162 0a00', '', '0a00', '1200'].map((hex) => {
    const emission = createEmission('o', source, source.emit as Emit, { kept: () => undefined, mark: () => undefined })
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex')
    emission.offer('SN-1', at, at, bytes, 0, bytes.length)
    return emission.slot?.mark
  })
  expect(new Set(marks).size).toBe(marks.length)
})

describe('one output does not decide over another', () => {
  const plain = '[(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]'
  const position = '[(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: LINKABLE }]'
  const own = schemasFromText({ 'p.proto': `syntax = "proto3"; package p; message M { string note = 1 ${plain}; optional int32 n = 2 ${plain}; sint32 la = 3 ${position}; sint32 lo = 4 ${position}; }` })

  function running(outputs: string, room: () => boolean = () => true, metrics = createMetrics()): (body: Record<string, unknown>) => { said: string[]; sent: OutboxRecord[] } {
    const { policy: small, findings } = loadRules('p.yaml', `
version: 1
policy: { id: p, effective: 2026-01-01, notice: "https://example.com/privacy" }
streams: { s: { topic: "up/{machine}/s", message: p.M, points: { pos: { lat: la, lon: lo, unit: e7 } } } }
purposes: { operate: { about: "work", clause: P10 } }
outputs:
${outputs}`, { schemas: own })
    if (small === undefined) throw new Error(findings.map(({ text }) => text).join('\n'))
    const said: string[] = []
    const sent: OutboxRecord[] = []
    metrics.useRules(small.outputs.map(({ id }) => id), small.streams.map(({ id }) => id))
    const pipeline = createPipeline({
      random: () => new Uint8Array(16), machines: () => ({ get: () => machine, size: 1, all: () => [] }),
      sessions: { decide: () => {} }, consent: {}, identities: { find: () => undefined },
      outbox: { room, accept: (record: OutboxRecord) => void sent.push({ ...record, payload: Buffer.from(record.payload) }) },
      cells: createCells(), metrics, ledgerHealthy: () => true, onVerdict: (_machine: unknown, _stream: unknown, output: { output: { id: string } } | undefined, code: number) => void said.push(`${output?.output.id ?? ''} ${code === 0 ? 'sent' : verdictName(code)}`),
    } as unknown as PipelineParts)
    pipeline.swap(buildSnapshot(small, {
      keys: offlineKeys(), engine: ENGINE, keyId: '', metrics, sessions: { signOn: () => {}, signOff: () => {} },
      matcher: (streams) => () => ({ streams, machine: undefined, fleet: undefined }),
    }))
    return (body) => {
      said.length = sent.length = 0
      pipeline.handle({ topic: 'up/SN-1/s', payload: own.encode('p.M', body), qos: 1, machine: 'SN-1', receivedAtMs: at, isWill: false })
      return { said: [...said], sent: [...sent] }
    }
  }
  const output = (id: string, rest: string): string => `  ${id}: { recipient: { id: r-${id}, role: controller, region: EU }, purpose: operate, basis: contract, to: { topic: "${id}/x" }, streams: { s: ${rest} } }\n`

  test('a message that there is no room for counts once, however often it is tried', () => {
    let full = true
    const metrics = createMetrics()
    const publish = running(output('a', '{ keep: [note] }') + output('b', '{ require: [n], keep: [n] }'), () => !full, metrics)
    for (let n = 0; n < 3; n++) expect(() => publish({ note: 'x' })).toThrow('no room')
    full = false
    expect(publish({ note: 'x' }).said).toEqual(['b required_missing', 'a sent'])
    expect([metrics.output('a' as OutputId).forwarded.value, metrics.output('b' as OutputId).reasons()]).toEqual([1, { required_missing: 1 }])
    expect(metrics.stream('s' as StreamId).value).toBe(1)
    expect(metrics.counter('received_bytes_total').value).toBe(3)
  })

  test('what is too long for one is withheld from that one', () => {
    const publish = running(output('a', '{ fields: { note: { mask: { with: "\u{1F600}" } } } }') + output('b', '{ keep: [note] }') + output('c', '{ keep: [n] }'))
    expect(publish({ note: 'x'.repeat(255_000), n: 5 }).said).toEqual(['a result_too_big', 'b sent', 'c sent'])
    expect(publish({ note: 'x'.repeat(100), n: 5 }).said).toEqual(['a sent', 'b sent', 'c sent'])
  })

  test('many outputs of a large message all have room', () => {
    const ids = Array.from({ length: 12 }, (_, at) => `o${at}`)
    const publish = running(ids.map((id) => output(id, '{ keep: [note] }')).join(''))
    const { sent } = publish({ note: 'x'.repeat(250_000) })
    expect(sent.map(({ payload }) => payload.length)).toEqual(ids.map(() => 250_004))
    expect(publish({ note: 'y' }).sent).toHaveLength(12)
  })

  test('a message that did not leave moves no sticky cell', () => {
    const shown = [undefined, 200_000].map((before) => {
      const publish = running(output('a', '{ require: [n], fields: { pos: { grid: 1km }, n: keep } }'))
      if (before !== undefined) expect(publish({ la: before, lo: 1_000 }).said).toEqual(['a required_missing'])
      return Buffer.from(publish({ n: 5, la: 95_000, lo: 1_000 }).sent[0]!.payload).toString('hex')
    })
    expect(shown[1]).toBe(shown[0])
  })
})

test('without operator sessions a batch names nobody when its card changed hands within it', () => {
  const schema = schemasFromText({
    'q.proto': `syntax = "proto3"; package q;
      message One { uint32 dt_ms = 1 [(parapet.v1.privacy) = { category: "time", unit: "ms" }]; }
      message M { uint64 time_ms = 1 [(parapet.v1.privacy) = { category: "time", unit: "ms" }]; string card = 2 [(parapet.v1.privacy) = { subject: OPERATOR, personal: ALWAYS }];
        repeated One e = 3; uint32 n = 4 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; }`,
  })
  const { policy: small, findings } = loadRules('q.yaml', `
version: 1
policy: { id: q, effective: 2026-01-01, notice: "https://example.com/privacy" }
streams: { s: { topic: "up/{machine}/s", message: q.M, operator: card, time: { field: time_ms, unit: ms } } }
purposes: { operate: { about: "work", clause: P10 } }
outputs:
  a: { recipient: { id: r, role: controller, region: EU }, purpose: operate, basis: contract, to: { topic: "a/x" }, streams: { s: { keep: [n] } } }
`, { schemas: schema })
  expect(findings.filter(({ severity }) => severity === 'error')).toEqual([])
  const decided: unknown[] = []
  const metrics = createMetrics()
  const pipeline = createPipeline({
    random: () => new Uint8Array(16), machines: () => ({ get: () => ({ ...machine, operatorCollection: 'on' }), size: 1, all: () => [] }),
    sessions: {}, consent: { fill: () => true }, identities: { find: (_card: string, atMs: number) => ({ operator: atMs < at + 5_000 ? 'op-ada' : 'op-ben', kind: 'personal', country: undefined }) },
    outbox: { room: () => true, accept: () => {} }, cells: createCells(), metrics, ledgerHealthy: () => true,
    onDecision: (_stream: unknown, { known, operator }: Decision) => void decided.push([known, operator]),
  } as unknown as PipelineParts)
  pipeline.swap(buildSnapshot(small as Policy, {
    keys: offlineKeys(), engine: ENGINE, keyId: '', metrics, sessions: { signOn: () => {}, signOff: () => {} },
    matcher: (streams) => () => ({ streams, machine: undefined, fleet: undefined }),
  }))
  for (const dt of [4_000, 6_000]) {
    pipeline.handle({ topic: 'up/SN-1/s', payload: schema.encode('q.M', { time_ms: String(at), card: 'K7', n: 5, e: [{ dt_ms: dt }] }), qos: 1, machine: 'SN-1', receivedAtMs: at + 10_000, isWill: false })
  }
  expect(decided).toEqual([[true, 'op-ada'], [false, undefined]])
})
