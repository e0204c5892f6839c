/**
 * Key-value lists from the rules file to the bytes: numbered signals, and frames of a CAN bus by their J1939 parameter group. The trial
 * on recorded frames runs where the recording is: PARAPET_DATA names the folder with jd5055e_j1939/frames.csv.gz
 * (session,t_ms,pgn,priority,source,destination,data_hex).
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import protobuf from 'protobufjs'
import { describe, expect, test } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import { isRefusal, verdictName } from '../../src/domain/verdict.ts'
import { compilePlan } from '../../src/minimise/compile.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext, pgnOf } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { verify } from '../../src/minimise/verify.ts'
import { ENGINES } from '../engine.ts'

const root = Buffer.from('5c1f3c7d5e2a4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8', 'hex')
const keys = { root, tenant: 'keyed', rows: derivedRows(root, 'keyed') }

const PROTO = `syntax = "proto3"; package k.v1;
message Signal { uint32 id = 1 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; sint64 v = 2 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: LINKABLE }];
  uint32 dt_ms = 3 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "ms" }]; string note = 4 [(parapet.v1.privacy) = { category: "free_text", class: ADDITIONAL, personal: ALWAYS }]; }
message SignalBatch { repeated Signal s = 8 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: LINKABLE }]; }
message CanFrame { fixed32 id = 1 [(parapet.v1.privacy) = { category: "can_raw", class: ADDITIONAL, personal: LINKABLE }]; bytes data = 2 [(parapet.v1.privacy) = { category: "can_raw", class: ADDITIONAL, personal: ALWAYS }];
  uint32 dt_us = 3 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "us" }]; }
message CanBatch { repeated CanFrame f = 8 [(parapet.v1.privacy) = { category: "can_raw", class: ADDITIONAL, personal: ALWAYS }]; uint32 bus = 9 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; }
`
const schemas = schemasFromText({ 'k.proto': PROTO })

/** What the language's page shows for both kinds of list. */
const SIGNALS = '{ by: id, with: { id: keep, dt_ms: keep }, only: { 101: { v: { round: 100 } }, 102: { v: keep } } }'
const FRAMES = '{ by: "j1939_pgn(id)", with: { id: keep, dt_us: keep }, only: { 61444: { data: keep }, 65253: { data: { keep_bytes: [0, 3] } } } }'

type Minimise = (bytes: Uint8Array) => Uint8Array | string

/** Both engines of one output with one list; the same bytes from both. */
function minimiserOf(stream: 'signals' | 'can', list: string): Minimise {
  const [message, field] = stream === 'signals' ? ['k.v1.SignalBatch', 's'] : ['k.v1.CanBatch', 'f']
  const text = `version: 1
streams: { ${stream}: { topic: "up/{machine}/x", message: ${message} } }
outputs: { planner: { recipient: { id: cloud, role: controller, region: EU }, purpose: p, basis: consent, to: { topic: out }, streams: { ${stream}: { fields: { ${field}: ${list} } } } } }
`
  const { policy, findings } = loadRules('keyed.yaml', text, { schemas, today: '2026-11-23' })
  expect(findings.filter((one) => one.severity === 'error')).toEqual([])
  const [output] = policy?.outputs ?? []
  const [source] = output?.streams ?? []
  if (output === undefined || source === undefined) throw new Error('no output')
  const plan = planFor(output, source, { consent: true, operatorFields: true })
  const engines = ENGINES.map((engine) => compilePlan(plan, { keys, engine }))
  return (bytes) => {
    const [a, b] = engines.map(({ run }) => {
      const scratch = Buffer.alloc(bytes.length * 2 + 256)
      scratch.set(bytes)
      const end = run(scratch, 0, bytes.length, scratch, bytes.length + 16, createContext())
      return end < 0 ? `${isRefusal(end) ? 'refused' : 'withheld'}: ${verdictName(end)}` : scratch.subarray(bytes.length + 16, end)
    }) as [Uint8Array | string, Uint8Array | string]
    if (typeof a === 'string' || typeof b === 'string') {
      expect(a).toBe(b)
      return a
    }
    if (Buffer.compare(a, b) !== 0) expect(Buffer.from(a).toString('hex')).toBe(Buffer.from(b).toString('hex'))
    const problem = verify(plan, a)
    if (problem !== undefined) throw new Error(problem)
    return a
  }
}

const library = protobuf.parse(PROTO.replaceAll(/ \[\(parapet[^\]]*\]/g, ''), { keepCase: true }).root

function encoded(message: string, value: object): Buffer {
  return Buffer.from(library.lookupType(`k.v1.${message}`).encode(value as protobuf.Message).finish())
}

describe('signals', () => {
  const minimise = minimiserOf('signals', SIGNALS)
  const leaves = (s: readonly object[]): unknown => {
    const made = minimise(encoded('SignalBatch', { s }))
    return typeof made === 'string' ? made : library.lookupType('k.v1.SignalBatch').toObject(library.lookupType('k.v1.SignalBatch').decode(made), { longs: Number }).s
  }
  test('only listed keys, and of them only listed members, in their order', () => {
    expect(leaves([
      { id: 102, v: 149, dt_ms: 10, note: 'Ada' }, { id: 100, v: 1 }, { id: 101, v: 149, dt_ms: 20, note: 'Ada' }, { id: 103, v: 7 }, { id: 101, v: 150 }, { id: 102, v: -3 },
    ])).toEqual([{ id: 102, v: 149, dt_ms: 10 }, { id: 101, v: 100, dt_ms: 20 }, { id: 101, v: 200 }, { id: 102, v: -3 }])
  })
  test('an entry without a key has the key zero', () => expect(minimiserOf('signals', '{ by: id, only: { 0: { v: keep } } }')(encoded('SignalBatch', { s: [{ v: 4 }, { id: 1, v: 5 }] }))).toEqual(encoded('SignalBatch', { s: [{ v: 4 }] })))
  test('no listed key: nothing is sent', () => expect(leaves([{ id: 5, v: 1 }])).toBe('withheld: empty'))
  test('what the entry says of itself wins over `with`', () => {
    const made = minimiserOf('signals', '{ by: id, with: { v: keep }, only: { 1: { v: drop, id: keep }, 2: {} } }')(encoded('SignalBatch', { s: [{ id: 1, v: 9 }, { id: 2, v: 9 }] }))
    expect(made).toEqual(encoded('SignalBatch', { s: [{ id: 1 }, { v: 9 }] }))
  })
})

describe('J1939 parameter groups [SAE J1939-21]', () => {
  test.each([
    ['engine speed from the engine', 0x0cf00400, 61_444],
    ['the same at another priority and from another address', 0x18f00421, 61_444],
    ['hours, PDU2', 0x18fee500, 65_253],
    ['a request to address 0x21: the address is no part of it', 0x18ea2100, 59_904],
    ['a request to all', 0x18eaff00, 59_904],
    ['the highest format with a destination', 0x18efff00, 61_184],
    ['the lowest format without', 0x18f00000, 61_440],
    ['data page 1', 0x19fee500, 0x1fee5],
    ['the extended data page', 0x1afee500, 0x2fee5],
    ['with the flag of an extended frame', 0x8cf00400, 61_444],
  ])('%s', (_name, id, pgn) => expect(pgnOf(id)).toBe(pgn))

  test('is what the parts of an identifier say', () => {
    fc.assert(fc.property(fc.nat({ max: 7 }), fc.nat({ max: 3 }), fc.nat({ max: 255 }), fc.nat({ max: 255 }), fc.nat({ max: 255 }), (priority, page, format, specific, source) => {
      const id = identifier(priority, page * 65_536 + format * 256 + (format < 240 ? 0 : specific), source, specific)
      expect(pgnOf(id)).toBe(page * 65_536 + format * 256 + (format >= 240 ? specific : 0))
    }))
  })
})

/** Priority 3 bits, group 18 bits (PDU1: the destination in its low byte), source 8 bits. */
function identifier(priority: number, pgn: number, source: number, destination: number): number {
  const isAddressed = Math.floor(pgn / 256) % 256 < 240
  return priority * 2 ** 26 + (pgn + (isAddressed ? destination : 0)) * 256 + source
}

// --------------------------------------------------------------------------------------------------------- recorded frames

interface Row {
  readonly session: string
  readonly ms: number
  readonly pgn: number
  readonly id: number
  readonly data: Buffer
}

const recording = join(process.env.PARAPET_DATA ?? '../shared/data', 'jd5055e_j1939/frames.csv.gz')

function* batches(): Iterable<readonly Row[]> {
  let batch: Row[] = []
  for (const line of gunzipSync(readFileSync(recording)).toString('latin1').trimEnd().split('\n').slice(1)) {
    const [session = '', ms, pgn, priority, source, destination, data = ''] = line.trimEnd().split(',')
    const row = { session, ms: Number(ms), pgn: Number(pgn), id: identifier(Number(priority), Number(pgn), Number(source), Number(destination)), data: Buffer.from(data, 'hex') }
    if (batch.length === 260 || (batch.length > 0 && batch[0]?.session !== session)) {
      yield batch
      batch = []
    }
    batch.push(row)
  }
  if (batch.length > 0) yield batch
}

/** Without the defaults, which are not written. */
function frame(id: number, data: Buffer, dtUs: number): object {
  return { ...(id === 0 ? {} : { id }), ...(data.length === 0 ? {} : { data }), ...(dtUs === 0 ? {} : { dt_us: dtUs }) }
}

test.skipIf(!existsSync(recording))('of recorded frames exactly those of the named groups leave, with exactly the named bytes (skipped without PARAPET_DATA)', () => {
  const minimise = minimiserOf('can', FRAMES)
  const counts = { batches: 0, frames: 0, left: 0, engine: 0, hours: 0 }
  for (const rows of batches()) {
    const start = rows[0]?.ms ?? 0
    const made = minimise(encoded('CanBatch', { f: rows.map((row) => frame(row.id, row.data, (row.ms - start) * 1_000)), bus: 1 }))
    const expected = rows.flatMap((row) => (row.pgn === 61_444 ? [frame(row.id, row.data, (row.ms - start) * 1_000)] : row.pgn === 65_253 ? [frame(row.id, row.data.subarray(0, 3), (row.ms - start) * 1_000)] : []))
    counts.batches++
    counts.frames += rows.length
    counts.left += expected.length
    counts.engine += rows.filter((row) => row.pgn === 61_444).length
    counts.hours += rows.filter((row) => row.pgn === 65_253).length
    if (expected.length === 0) expect(made).toBe('withheld: empty')
    else if (typeof made === 'string' || Buffer.compare(made, encoded('CanBatch', { f: expected })) !== 0) expect(made).toEqual(encoded('CanBatch', { f: expected }))
  }
  expect(counts).toEqual({ batches: counts.batches, frames: 330_653, left: counts.engine + counts.hours, engine: counts.engine, hours: counts.hours })
  expect(counts.engine).toBeGreaterThan(1_000)
  expect(counts.hours).toBeGreaterThan(0)
}, 60_000)
