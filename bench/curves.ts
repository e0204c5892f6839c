/**
 * What a message costs in the pipeline, from its bytes to the record for the outbox, as the rules grow: with more fields and streams that
 * do not concern it the cost must stay as it is, with more outputs and more bytes it may grow as they do. The rules file is read, checked
 * and compiled as the gateway does it; the outbox, the sessions and the ledger are stand-ins that take no time.
 *
 * (The cost by operators is in decide.ts; what many different streams in use at once cost the processor's caches, in minimise.ts.)
 */
import { join } from 'node:path'
import { Bench } from 'tinybench'
import { createTopicMatcher } from '../src/broker/topics.ts'
import { loadRules } from '../src/config/rules.ts'
import { LIMITS } from '../src/domain/limits.ts'
import { createMetrics } from '../src/metrics.ts'
import { createCells } from '../src/minimise/cells.ts'
import { loadSchemas, type Schemas } from '../src/minimise/descriptor.ts'
import { createPipeline, type Pipeline, type PipelineParts } from '../src/pipeline.ts'
import { machineOf, offlineKeys } from '../src/rehearsal.ts'
import { buildSnapshot } from '../src/snapshot.ts'
import { median } from './figures.ts'
import type { BenchOptions } from './options.ts'

const NOW_MS = 1_763_888_864_000
const MACHINE = 'SN-1'
const ROUNDS = 5
/** Messages a sample: the clock itself costs tens of nanoseconds. */
const CALLS = 200

interface Trial {
  readonly rules: string
  readonly topic: string
  readonly payload: Uint8Array
  /** Records that the message must make. */
  readonly records: number
}

interface Series {
  readonly name: string
  readonly x: string
  readonly line: string
  readonly log: 'x' | 'both'
  readonly expected: 'flat' | 'linear'
  readonly sizes: readonly number[]
  trial(size: number, schemas: Schemas): Trial
}

/** Ten fields, so that 10,000 of them are 1,000 streams. */
const TEN = ['time_ms', 'key_on', 'soc_pct_x10', 'platform_height_mm', 'pack_mv', 'pack_current_da', 'pack_temp_dc', 'pitch_cdeg', 'roll_cdeg', 'wind_cm_s'] as const
const VALUES = { key_on: true, soc_pct_x10: 833, platform_height_mm: 7_400, pack_mv: 48_200, pack_current_da: -120, pack_temp_dc: 251, pitch_cdeg: 12, roll_cdeg: -7, wind_cm_s: 320 } as const

const SERIES: readonly Series[] = [
  {
    name: 'Rules', x: 'fields named in the rules', line: 'pipeline', log: 'x', expected: 'flat', sizes: [10, 100, 1_000, 10_000],
    trial: (size, schemas) => statusTrial(schemas, size / TEN.length, 1, TEN),
  },
  {
    name: 'Streams', x: 'streams', line: 'pipeline', log: 'x', expected: 'flat', sizes: [1, 10, 100, LIMITS.streams],
    trial: (size, schemas) => statusTrial(schemas, size, 1, TEN.slice(0, 3)),
  },
  {
    name: 'Outputs', x: 'outputs of the stream', line: 'pipeline', log: 'both', expected: 'linear', sizes: [1, 3, 10, 30, 100],
    trial: (size, schemas) => statusTrial(schemas, 1, size, TEN),
  },
  {
    name: 'Message bytes', x: 'bytes of the message', line: 'pipeline', log: 'both', expected: 'linear', sizes: [5, 20, 80, 320, 1_280, 3_200],
    trial: (size, schemas) => batchTrial(schemas, size),
  },
]

export async function run({ sheet, timeMs, isShort, only }: BenchOptions): Promise<void> {
  const schemas = loadSchemas([join(import.meta.dirname, '..', 'proto')])
  sheet.head('pipeline: from the bytes of a message to the records for the outbox')
  for (const series of SERIES) {
    const { name, x, line, log, expected, sizes } = series
    if (only !== undefined && !name.includes(only)) continue
    const points: (readonly [number, number])[] = []
    for (const size of isShort ? [sizes[0]!, sizes.at(-2)!] : sizes) {
      const made = series.trial(size, schemas)
      const ns = await measure(made, schemas, timeMs, timeMs / 2 + (isShort ? 0 : WARM_MS_EACH * made.records))
      const at = name === 'Message bytes' ? made.payload.length : size
      points.push([at, median(ns)])
      const row = { bench: 'pipeline', case: `${at} ${x}`, ns: median(ns), ns_min: Math.min(...ns), ns_max: Math.max(...ns), bytes: made.payload.length, records: made.records }
      sheet.row(row, `${row.case.padEnd(44)} ${String(row.ns).padStart(8)} ns a message (${row.ns_min} to ${row.ns_max}), ${row.bytes} bytes, ${row.records} records`)
    }
    sheet.curve({ name, x, y: 'ns a message', log, expected, lines: [{ name: line, points }] })
  }
}

/** Each output has a function of its own, and the engine compiles one after the other beside the work: until then it takes three times as long. */
const WARM_MS_EACH = 300

async function measure({ rules, topic, payload, records }: Trial, schemas: Schemas, timeMs: number, warmupTime: number): Promise<number[]> {
  let accepted = 0
  const pipeline = pipelineOf(rules, schemas, () => { accepted++ })
  const publish = { topic, payload, qos: 1 as const, machine: MACHINE, receivedAtMs: NOW_MS, isWill: false }
  const taken = pipeline.handle(publish)
  if (taken !== records || accepted !== records) throw new Error(`the message made ${accepted} records (${taken}), not ${records}`)
  const calls = Math.max(1, Math.ceil(CALLS / records / Math.ceil(payload.length / 1_000)))
  const rounds: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const bench = new Bench({ time: timeMs / ROUNDS, warmup: round === 0, warmupTime })
    bench.add('pipeline', () => { for (let i = 0; i < calls; i++) pipeline.handle(publish) })
    await bench.run()
    const { result } = bench.tasks[0]!
    if (result.state !== 'completed') throw new Error('nothing was measured')
    rounds.push(Math.round((result.latency.p50 * 1e6) / calls))
  }
  return rounds
}

function pipelineOf(text: string, schemas: Schemas, accept: () => void): Pipeline {
  const { policy, findings } = loadRules('bench.yaml', text, { schemas })
  if (policy === undefined) throw new Error(findings.filter(({ severity }) => severity === 'error').slice(0, 3).map((one) => `${one.code} ${one.text}`).join('\n'))
  const metrics = createMetrics()
  metrics.useRules(policy.outputs.map(({ id }) => id), policy.streams.map(({ id }) => id))
  const machine = machineOf({ id: MACHINE, fleet: 'demo', country: 'FR' })
  const id = new Uint8Array(16)
  const pipeline = createPipeline({
    random: () => id, machines: () => ({ get: () => machine, size: 1, all: () => [] }), sessions: { decide: () => undefined }, consent: {}, identities: { find: () => undefined },
    outbox: { room: () => true, accept }, cells: createCells(), metrics, ledgerHealthy: () => true,
  } as unknown as PipelineParts)
  pipeline.swap(buildSnapshot(policy, {
    keys: offlineKeys(), engine: 'generated', keyId: '', metrics, sessions: { signOn: () => undefined, signOff: () => undefined },
    matcher: (streams) => {
      const matcher = createTopicMatcher(streams)
      return (topic) => matcher.match(topic)
    },
  }))
  return pipeline
}

function statusTrial(schemas: Schemas, streams: number, outputs: number, fields: readonly string[]): Trial {
  const names = Array.from({ length: streams }, (_, n) => `s${n}`)
  const own = `machine_id: { pseudonym: {} }, ${fields.map((name) => `${name}: keep`).join(', ')}`
  return {
    rules: rulesOf(
      names.map((name) => `  ${name}: { topic: "up/{fleet}/{machine}/${name}", message: awp.v1.Status, machine: machine_id, time: { field: time_ms, unit: ms } }`),
      Array.from({ length: outputs }, (_, n) => [`o${n}`, names.map((name) => `      ${name}: { fields: { ${own} } }`)] as const),
    ),
    topic: `up/demo/${MACHINE}/${names[streams >> 1]!}`, records: outputs,
    payload: schemas.encode('awp.v1.Status', { machine_id: MACHINE, time_ms: String(NOW_MS), seq: 123_456, ...VALUES }),
  }
}

/** A batch of so many readings, each of which is looked at. */
function batchTrial(schemas: Schemas, readings: number): Trial {
  return {
    rules: rulesOf(
      ['  signals: { topic: "up/{fleet}/{machine}/signals", message: awp.v1.SignalBatch, machine: machine_id, time: { field: time_ms, unit: ms } }'],
      [['o0', ['      signals: { fields: { machine_id: { pseudonym: {} }, time_ms: keep, s: { by: id, with: { id: keep, dt_ms: keep }, only: { 101: { v: keep }, 102: { v: keep } } } } }']]],
    ),
    topic: `up/demo/${MACHINE}/signals`, records: 1,
    payload: schemas.encode('awp.v1.SignalBatch', { machine_id: MACHINE, time_ms: String(NOW_MS), s: Array.from({ length: readings }, (_, i) => ({ id: 101 + (i % 2), v: String((i * 7_919) % 5_000), dt_ms: i * 10 + 1 })) }),
  }
}

function rulesOf(streams: readonly string[], outputs: readonly (readonly [id: string, streams: readonly string[]])[]): string {
  const output = ([id, own]: readonly [string, readonly string[]]): string => `  ${id}:
    recipient: oem-cloud
    purpose: service.operate
    to: { topic: "out/${id}/{stream}/{machine_id}", via: [local] }
    recipient_keeps: 30d
    arrival_visible: true
    streams:
${own.join('\n')}`
  return `version: 1
policy: { id: bench, effective: 2026-01-01, notice: "https://example.com/privacy" }
streams:
${streams.join('\n')}
purposes: { service.operate: { about: "service", clause: P10, dpv: TechnicalServiceProvision } }
legal_basis: { default: { service.operate: contract } }
recipients:
  oem-cloud: { role: controller, group: affiliate, region: EU, transfers: { EEA: domestic }, privacy_contact: "dpo@example.com" }
outputs:
${outputs.map(output).join('\n')}
`
}
