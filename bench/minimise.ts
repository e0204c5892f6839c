/**
 * The minimiser beside what one would otherwise write: five messages from 40 bytes to 5 KB, for 1, 3 and 10 outputs.
 * The baseline is protobufjs written well (baseline.ts) and gives the same bytes; that is checked before anything is timed.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import { Bench } from 'tinybench'
import type { FieldRule, Point, Transform } from '../src/domain/policy.ts'
import type { MessageShape } from '../src/domain/schema.ts'
import { compilePlan } from '../src/minimise/compile.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import { createContext, type Run } from '../src/minimise/interpret.ts'
import { planFor } from '../src/minimise/plan.ts'
import { derivedRows, type PseudonymKeys } from '../src/minimise/pseudonym.ts'
import { outputOf, ruleFor, streamOf } from '../test/minimise/fixture.ts'
import { createBaseline } from './baseline.ts'
import type { BenchOptions } from './run.ts'

const PROTO = join(import.meta.dirname, '..', 'proto')
const ROOT = Buffer.from('9d3c1f5ab07e4462c8aa51ee03b7946d5f20c1e84b97a36d', 'hex')
const KEYS: PseudonymKeys = { root: ROOT, tenant: 'bench', rows: derivedRows(ROOT, 'bench') }
const EVENT_MS = 1_763_888_864_000

interface Case {
  readonly name: string
  readonly message: string
  readonly json: Record<string, unknown>
  readonly dropped: readonly string[]
}

const header = { machine_id: 'SN-1042', time_ms: String(EVENT_MS), seq: 123_456, boot: 3, operator_id: 'A-10017', session_ref: '998877665544' }
const HEADER_DROPPED = ['seq', 'boot', 'historical', 'operator_id', 'session_ref']

export const CASES: readonly Case[] = [
  { name: 'fault', message: 'awp.v1.Fault', dropped: HEADER_DROPPED, json: { ...header, operator_id: undefined, session_ref: undefined, spn: 520_192, fmi: 4, source_address: 39, occurrences: 2, active: true } },
  {
    // 25 fields: 6 dropped, a pseudonym, a grid, round_time, the rest kept.
    name: 'status', message: 'awp.v1.Status', dropped: [...HEADER_DROPPED, 'drive_speed_mm_s', 'display_text'],
    json: {
      ...header, lat_e7: 481_371_540, lon_e7: 115_761_240, fix: 3, key_on: true, mode: 'MODE_LIFT', soc_pct_x10: 833, platform_height_mm: 7_400, drive_speed_mm_s: 200, pack_mv: 48_200,
      pack_current_da: -120, pack_temp_dc: 251, platform_load_kg: 180, pitch_cdeg: 12, roll_cdeg: -7, wind_cm_s: 320, flags: 129, hour_meter_s: 4_444_444,
      site_code: 'DEPOT-7-NORTH-YARD-12, GATE 3 EAST HALL', display_text: 'ready for operation; daily check due in 3 h',
    },
  },
  { name: 'charge', message: 'awp.v1.ChargeRecord', dropped: HEADER_DROPPED, json: { ...header, out_mv: 52_100, out_ma: 30_000, soc_start_pct_x10: 210, soc_end_pct_x10: 640, soh_pct: 97, cycles: 412, cell_mv: Array.from({ length: 16 }, (_, i) => 3_250 + i), cell_temp_dc: Array.from({ length: 9 }, (_, i) => 220 + i) } },
  { name: 'signals', message: 'awp.v1.SignalBatch', dropped: HEADER_DROPPED, json: { ...header, s: Array.from({ length: 90 }, (_, i) => ({ id: 100 + i, v: String((i * 7_919) % 5_000), dt_ms: i * 10 + 1 })) } },
  { name: 'can', message: 'awp.v1.CanBatch', dropped: HEADER_DROPPED, json: { ...header, bus: 1, t0_us: String(EVENT_MS * 1_000), f: Array.from({ length: 220 }, (_, i) => ({ id: 0x0cf0_0400 + i, dt_us: i * 3_800 + 1, data: Buffer.from([i % 256, 1, 2, 3, 4, 5, 6, 7]).toString('base64') })) } },
]

const POSITION: Point = { name: 'position', kind: 'plain', lat: 'lat_e7', lon: 'lon_e7', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined }

/** Everything a case needs, once. */
interface Prepared {
  readonly name: string
  readonly bytes: Buffer
  readonly scratch: Buffer
  readonly fast: readonly Run[]
  readonly slow: Run
  readonly baseline: ReturnType<typeof createBaseline>
}

export async function run({ json, timeMs }: BenchOptions): Promise<void> {
  const types = protobufTypes()
  for (const one of CASES) {
    const prepared = prepare(one, types.lookupType(one.message))
    await measure(prepared, json, timeMs)
  }
}

const OUT = 16_384
const CALLS = 64

async function measure({ name, bytes, scratch, fast, slow, baseline }: Prepared, json: boolean, timeMs: number): Promise<void> {
  const cx = { ...createContext(), eventMs: EVENT_MS }
  const { length } = bytes
  const copy = Buffer.alloc(OUT)
  let sink = 0
  const bench = new Bench({ time: timeMs, warmupTime: timeMs / 3 })
  const minimise = (outputs: number): (() => void) => () => {
    let at = OUT
    for (let i = 0; i < outputs; i++) at = fast[i]!(scratch, 0, length, scratch, at, cx)
    sink = at
  }
  // Many calls a sample: the clock itself costs tens of nanoseconds.
  const add = (label: string, call: () => void): void => void bench.add(label, () => { for (let i = 0; i < CALLS; i++) call() })
  add('Buffer.copy', () => void (sink += bytes.copy(copy)))
  add('minimiser', minimise(1))
  add('minimiser with an owned copy', () => {
    bytes.copy(scratch)
    scratch[length] = 0
    minimise(1)()
  })
  add('minimiser, 3 outputs', minimise(3))
  add('minimiser, 10 outputs', minimise(10))
  add('interpreter', () => void (sink += slow(scratch, 0, length, scratch, OUT, cx)))
  add('protobufjs decode-edit-encode', () => void (sink += baseline.decodeEditEncode(bytes).length))
  add('protobufjs decode only', () => void (sink += baseline.decodeOnly(bytes) === undefined ? 0 : 1))
  await bench.run()
  const ns = new Map(bench.tasks.map((task) => [task.name, task.result.state === 'completed' ? (task.result.latency.p50 * 1e6) / CALLS : Number.NaN]))
  const rows = [...ns].map(([label, value]) => ({
    bench: 'minimise', case: `${name} ${length} B: ${label}`, ns: Math.round(value), vs_protobufjs: ratio(ns.get('protobufjs decode-edit-encode')!, value), vs_copy: ratio(value, ns.get('Buffer.copy')!),
    allocated_bytes_per_message: label.startsWith('minimiser') ? allocated(minimise(1)) : undefined,
  }))
  if (sink === 0) throw new Error('nothing was measured')
  if (json) for (const row of rows) process.stdout.write(`${JSON.stringify(row)}\n`)
  else {
    process.stdout.write(`\n${name}, ${length} bytes\n`)
    for (const row of rows) process.stdout.write(`  ${row.case.split(': ')[1]!.padEnd(32)} ${String(row.ns).padStart(8)} ns  ${String(row.vs_protobufjs).padStart(6)}x protobufjs  ${String(row.vs_copy).padStart(7)}x copy${row.allocated_bytes_per_message === undefined ? '' : `  ${row.allocated_bytes_per_message} B allocated`}\n`)
  }
}

/** Heap growth per call over many calls; what a garbage collection in between would hide makes it negative and is tried again. */
function allocated(call: () => void): number {
  const calls = 20_000
  for (let tries = 0; tries < 5; tries++) {
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < calls; i++) call()
    const grown = process.memoryUsage().heapUsed - before
    if (grown >= 0) return Math.round((grown / calls) * 10) / 10
  }
  return Number.NaN
}

function ratio(a: number, b: number): number {
  return Math.round((a / b) * 10) / 10
}

function prepare(one: Case, type: protobuf.Type): Prepared {
  const schemas = loadSchemas([PROTO])
  const shape = schemas.message(one.message) as MessageShape
  const bytes = Buffer.from(schemas.encode(one.message, JSON.parse(JSON.stringify(one.json))))
  const hasPosition = shape.byName.has('lat_e7')
  const rules = rulesFor(shape, one.dropped, hasPosition)
  const source = streamOf(shape, rules)
  const outputs = Array.from({ length: 10 }, (_, i) => outputOf('out/{stream}', [source], { id: `o${i}` as never }))
  const compile = (at: number, engine: 'generated' | 'interpreted'): Run => compilePlan(planFor(outputs[at]!, source, { consent: false, operatorFields: false }), { keys: KEYS, engine }).run
  const fast = outputs.map((_, i) => compile(i, 'generated'))
  const scratch = Buffer.alloc(1_048_576)
  bytes.copy(scratch)
  const end = fast[0]!(scratch, 0, bytes.length, scratch, OUT, { ...createContext(), eventMs: EVENT_MS })
  if (end < 0) throw new Error(`the minimiser refused ${one.name}: ${end}`)
  const result = Buffer.from(scratch.subarray(OUT, end))
  const pseudonym = (schemas.decode(one.message, result) as { machine_id: string }).machine_id
  const baseline = createBaseline(type, one.dropped, () => pseudonym)
  if (Buffer.compare(Buffer.from(baseline.decodeEditEncode(bytes)), result) !== 0) throw new Error(`the baseline gives other bytes for ${one.name}`)
  return { name: one.name, bytes, scratch, fast, slow: compile(0, 'interpreted'), baseline }
}

function rulesFor(shape: MessageShape, dropped: readonly string[], hasPosition: boolean): FieldRule[] {
  const chains: Readonly<Record<string, readonly Transform[]>> = {
    machine_id: [{ name: 'pseudonym', params: { rotate: 604_800_000, as: 'machine', subject: 'machine' } }],
    time_ms: [{ name: 'round_time', params: { ms: 900_000, wire: 900_000 } }],
  }
  const rules = shape.fields
    .filter((field) => !dropped.includes(field.name) && !(hasPosition && (field.name === 'lat_e7' || field.name === 'lon_e7')))
    .map((field) => ruleFor(shape, field.name, chains[field.name] ?? [{ name: 'keep', params: {} }]))
  if (hasPosition) rules.push({ ...ruleFor(shape, 'lat_e7', [{ name: 'grid', params: { size: 500, sticky: false } }]), path: 'position', target: { kind: 'point', point: POSITION } })
  return rules
}

function protobufTypes(): protobuf.Root {
  const root = new protobuf.Root()
  root.addJSON({ google: { nested: { protobuf: { nested: { FieldOptions: { fields: {}, extensions: [[1000, 536_870_911]] } } } } } })
  for (const folder of ['parapet/v1', 'awp/v1']) {
    for (const file of readdirSync(join(PROTO, folder))) protobuf.parse(readFileSync(join(PROTO, folder, file), 'utf8'), root, { keepCase: true })
  }
  root.resolveAll()
  return root
}
