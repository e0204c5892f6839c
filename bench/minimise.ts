/**
 * The minimiser beside what one would otherwise write: five messages from 34 bytes to 5 KB, for 1, 3 and 10 outputs.
 * The baseline is protobufjs written well (baseline.ts) and gives the same bytes; that is checked before anything is timed.
 * Ratios of rows with several outputs are against as many runs of what they are compared with.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import protobuf from 'protobufjs'
import { Bench } from 'tinybench'
import type { FieldRule, Point, Transform } from '../src/domain/policy.ts'
import type { MessageShape } from '../src/domain/schema.ts'
import { compilePlan } from '../src/minimise/compile.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import { createContext, type Run } from '../src/minimise/interpret.ts'
import { planFor, type Plan } from '../src/minimise/plan.ts'
import { derivedRows, type PseudonymKeys } from '../src/minimise/pseudonym.ts'
import { outputOf, ruleFor, streamOf } from '../test/minimise/fixture.ts'
import { createBaseline } from './baseline.ts'
import { precise, spreadOf, type Spread } from './figures.ts'
import type { BenchOptions } from './options.ts'
import type { Sheet } from './sheet.ts'

const PROTO = join(import.meta.dirname, '..', 'proto')
const ROOT = Buffer.from('9d3c1f5ab07e4462c8aa51ee03b7946d5f20c1e84b97a36d', 'hex')
export const KEYS: PseudonymKeys = { root: ROOT, tenant: 'bench', rows: derivedRows(ROOT, 'bench') }
export const EVENT_MS = 1_763_888_864_000

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

/** The message of the gateway's benchmarks, too. */
export const STATUS = CASES.find(({ name }) => name === 'status') as Case

const POSITION: Point = { name: 'position', kind: 'plain', lat: 'lat_e7', lon: 'lon_e7', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined }

/** Everything a case needs, once. */
interface Prepared {
  readonly name: string
  readonly plan: Plan
  readonly bytes: Buffer
  readonly scratch: Buffer
  readonly fast: readonly Run[]
  readonly slow: Run
  readonly baseline: ReturnType<typeof createBaseline>
}

/** What is timed: the call, and how many messages it makes, so that ratios stay those of one message. */
interface Timed {
  readonly label: string
  readonly outputs: number
  readonly call: () => void
}

export async function run({ sheet, timeMs, isShort }: BenchOptions): Promise<void> {
  const types = protobufTypes()
  for (const one of isShort ? [STATUS] : CASES) {
    const prepared = prepare(one, types.lookupType(one.message))
    report('minimise', prepared, await measure(timed(prepared), timeMs), sheet)
    if (one.name === 'status' && !isShort) report('minimise', prepared, await besideOthers(prepared, timeMs), sheet)
  }
}

const OUT = 16_384
const ROUNDS = 7
export const PROTOBUFJS = 'protobufjs decode-edit-encode'
export const COPY = 'Buffer.copy'

let sink = 0

export function timed({ bytes, scratch, fast, slow, baseline }: Prepared): Timed[] {
  const cx = { ...createContext(), eventMs: EVENT_MS }
  const { length } = bytes
  const copy = Buffer.alloc(OUT)
  const minimise = (outputs: number) => (): void => {
    let at = OUT
    for (let i = 0; i < outputs; i++) at = fast[i]!(scratch, 0, length, scratch, at, cx)
    sink = (sink + at) | 0
  }
  const one = minimise(1)
  return [
    { label: COPY, outputs: 1, call: () => void (sink = (sink + bytes.copy(copy)) | 0) },
    { label: 'minimiser', outputs: 1, call: one },
    {
      label: 'minimiser with an owned copy', outputs: 1, call: () => {
        bytes.copy(scratch)
        scratch[length] = 0
        one()
      },
    },
    { label: 'minimiser, 3 outputs', outputs: 3, call: minimise(3) },
    { label: 'minimiser, 10 outputs', outputs: 10, call: minimise(10) },
    { label: 'interpreter', outputs: 1, call: () => void (sink = (sink + slow(scratch, 0, length, scratch, OUT, cx)) | 0) },
    { label: PROTOBUFJS, outputs: 1, call: () => void (sink = (sink + baseline.decodeEditEncode(bytes).length) | 0) },
    { label: 'protobufjs decode only', outputs: 1, call: () => void (sink = (sink + (baseline.decodeOnly(bytes) === undefined ? 0 : 1)) | 0) },
  ]
}

/**
 * The same minimiser again, with a thousand minimisers for other streams in the same process, all of them in use: what they cost it is
 * the difference from its own row.
 */
async function besideOthers(prepared: Prepared, timeMs: number): Promise<Measured[]> {
  const cx = { ...createContext(), eventMs: EVENT_MS }
  const fault = loadSchemas([PROTO]).message('awp.v1.Fault') as MessageShape
  for (let i = 0; i < OTHERS; i++) {
    const kept = fault.fields.filter((field, at) => field.name !== 'operator_id' && field.name !== 'session_ref' && ((i >> at % 10) & 1) === 0).map((field) => ruleFor(fault, field.name, [{ name: 'keep', params: {} }]))
    const source = streamOf(fault, kept)
    const other = compilePlan(planFor(outputOf('out/{stream}', [source], { id: `x${i}` as never }), source, { consent: false, operatorFields: false }), { keys: KEYS, engine: 'generated' }).run
    for (let call = 0; call < 20; call++) sink = (sink + other(prepared.scratch, 0, prepared.bytes.length, prepared.scratch, OUT, cx)) | 0
  }
  const needed = [COPY, 'minimiser', PROTOBUFJS]
  const rows = await measure(timed(prepared).filter(({ label }) => needed.includes(label)), timeMs)
  return rows.map((row) => ({ ...row, label: `${row.label}, with rules for 1,000 other streams` }))
}

const OTHERS = 1_000

// ----------------------------------------------------------------------------------------------------------------- figures

interface Measured {
  readonly label: string
  readonly ns: number
  readonly vsProtobufjs: Spread
  readonly vsCopy: Spread
  readonly allocated: number
}

/**
 * Several short rounds, the cases by turns, so that whatever else the machine does falls on all of them. Of each round the median of
 * its samples counts; of the rounds the quickest for the time, since others on the machine can only make it longer, and the median for
 * ratios, which are taken within a round and for as many outputs: a row of several outputs shows whether they cost more than one by one.
 */
export async function measure(all: readonly Timed[], timeMs: number): Promise<Measured[]> {
  const figures = all.map((): number[] => [])
  await warm(all, timeMs)
  for (let round = 0; round < ROUNDS; round++) {
    const bench = new Bench({ time: timeMs / ROUNDS, warmup: false, iterations: 4 })
    const calls = all.map(({ call }) => callsPerSample(call))
    all.forEach(({ label, call }, at) => bench.add(label, () => { for (let i = 0; i < calls[at]!; i++) call() }))
    await bench.run()
    bench.tasks.forEach(({ result }, at) => { if (result.state === 'completed') figures[at]!.push((result.latency.p50 * 1e6) / calls[at]!) })
  }
  const of = (label: string): readonly number[] => figures[all.findIndex((one) => one.label === label)]!
  const ratio = (a: readonly number[], b: readonly number[], by: number): Spread => {
    const { median: middle, min, max } = spreadOf(a.map((value, round) => (value / b[round]!) * by), 6)
    return { median: precise(middle), min: precise(min), max: precise(max) }
  }
  return all.map(({ label, outputs, call }, at) => ({
    label, ns: Math.round(Math.min(...figures[at]!)), vsProtobufjs: ratio(of(PROTOBUFJS), figures[at]!, outputs), vsCopy: ratio(figures[at]!, of(COPY), 1 / outputs),
    allocated: Math.round(allocated(call) / outputs),
  }))
}

/**
 * Long enough for the engine to have compiled what is called. Counted in this process's own time, as others on the machine take theirs;
 * between two parts the threads that compile get a chance to end.
 */
async function warm(all: readonly Timed[], timeMs: number): Promise<void> {
  for (let part = 0; part < 2; part++) {
    for (const { call } of all) {
      const began = process.cpuUsage().user
      for (let calls = 0; calls < 20_000 && (calls % 64 !== 0 || process.cpuUsage().user - began < timeMs * 1_000); calls++) call()
    }
    await setTimeout(timeMs / 2)
  }
}

/** The clock itself costs tens of nanoseconds: a sample takes at least some 20 microseconds. */
function callsPerSample(call: () => void): number {
  const began = performance.now()
  call()
  return Math.min(256, Math.ceil(0.02 / Math.max(performance.now() - began, 0.000_05)))
}

/** The least of several tries: what it allocates shows in each of them, and what else goes on in the process does not. */
function allocated(call: () => void): number {
  return Math.min(...Array.from({ length: ALLOCATED_TRIES }, () => allocatedOnce(call)))
}

const ALLOCATED_TRIES = 3

/** Heap growth per call over many calls; a garbage collection in between makes it negative, and it is tried again with fewer. */
function allocatedOnce(call: () => void): number {
  const began = performance.now()
  call()
  const most = Math.min(20_000, Math.ceil(50 / Math.max(performance.now() - began, 0.000_1)))
  for (let calls = most; calls >= 2; calls = Math.floor(calls / 3)) {
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < calls; i++) call()
    const grown = process.memoryUsage().heapUsed - before
    // What the question itself takes.
    if (grown >= 0) return Math.max(0, grown - 16_384) / calls
  }
  return Number.NaN
}

export function report(bench: string, { name, bytes }: Prepared, rows: readonly Measured[], sheet: Sheet): void {
  if (sink === 0) throw new Error('nothing was measured')
  if (!rows.some(({ label }) => label.includes('other streams'))) sheet.head(`${name}, ${bytes.length} bytes`)
  for (const { label, ns, vsProtobufjs, vsCopy, allocated: bytesEach } of rows) {
    sheet.row(
      {
        bench, case: `${name} ${bytes.length} B: ${label}`, ns, vs_protobufjs: vsProtobufjs.median, vs_protobufjs_min: vsProtobufjs.min, vs_protobufjs_max: vsProtobufjs.max,
        vs_copy: vsCopy.median, vs_copy_min: vsCopy.min, vs_copy_max: vsCopy.max, allocated_bytes_per_message: bytesEach,
      },
      `${label.padEnd(62)} ${String(ns).padStart(8)} ns  ${String(vsProtobufjs.median).padStart(6)}x protobufjs  ${String(vsCopy.median).padStart(7)}x copy  ${String(bytesEach).padStart(6)} B allocated`,
    )
  }
}

// ------------------------------------------------------------------------------------------------------------------- cases

/** One of the cases, for other benchmarks. */
export function preparedCase(name: string): Prepared {
  const one = CASES.find((other) => other.name === name) as Case
  return prepare(one, protobufTypes().lookupType(one.message))
}

function prepare(one: Case, type: protobuf.Type): Prepared {
  const schemas = loadSchemas([PROTO])
  const shape = schemas.message(one.message) as MessageShape
  const bytes = Buffer.from(schemas.encode(one.message, JSON.parse(JSON.stringify(one.json))))
  const hasPosition = shape.byName.has('lat_e7')
  const rules = rulesFor(shape, one.dropped, hasPosition)
  const source = streamOf(shape, rules)
  const outputs = Array.from({ length: 10 }, (_, i) => outputOf('out/{stream}', [source], { id: `o${i}` as never }))
  const planOf = (at: number): Plan => planFor(outputs[at]!, source, { consent: false, operatorFields: false })
  const compile = (at: number, engine: 'generated' | 'interpreted'): Run => compilePlan(planOf(at), { keys: KEYS, engine }).run
  const fast = outputs.map((_, i) => compile(i, 'generated'))
  const scratch = Buffer.alloc(1_048_576)
  bytes.copy(scratch)
  const end = fast[0]!(scratch, 0, bytes.length, scratch, OUT, { ...createContext(), eventMs: EVENT_MS })
  if (end < 0) throw new Error(`the minimiser refused ${one.name}: ${end}`)
  const result = Buffer.from(scratch.subarray(OUT, end))
  const pseudonym = (schemas.decode(one.message, result) as { machine_id: string }).machine_id
  const baseline = createBaseline(type, one.dropped, () => pseudonym)
  if (Buffer.compare(Buffer.from(baseline.decodeEditEncode(bytes)), result) !== 0) throw new Error(`the baseline gives other bytes for ${one.name}`)
  return { name: one.name, plan: planOf(0), bytes, scratch, fast, slow: compile(0, 'interpreted'), baseline }
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
