/**
 * The generated function, the interpreter and protobufjs must agree: on random rules over random messages, and on everything a
 * terminal may legally or illegally do to the bytes.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { FieldRule, Output, OutputStream, Point, Transform } from '../../src/domain/policy.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { isRefusal } from '../../src/domain/verdict.ts'
import { compilePlan } from '../../src/minimise/compile.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { derivedRows, type PseudonymKeys } from '../../src/minimise/pseudonym.ts'
import { kindOf } from '../../src/minimise/value.ts'
import { ENGINE } from '../engine.ts'
import { outputOf, ruleFor, streamOf } from './fixture.ts'

const schemas = schemasFromText({
  'm.proto': `
    syntax = "proto3";
    package t;
    message Inner { int32 x = 1; string y = 2; repeated uint32 z = 3; }
    enum Mode { OFF = 0; DRIVE = 1; LIFT = 2; }
    message All {
      string machine_id = 1; uint64 time_ms = 2; uint32 seq = 3; bool key_on = 4;
      sint32 lat_e7 = 5; sint32 lon_e7 = 6; uint32 soc = 7; sint32 tilt = 8; int32 load = 9; Mode mode = 10;
      double temp = 11; float wind = 12; fixed32 code = 13; sfixed64 big = 14; bytes blob = 15; string note = 16;
      optional uint32 height = 17; oneof pick { uint32 a = 18; string b = 19; } Inner inner = 20; repeated int32 list = 21;
      int64 total = 22; sint64 drift = 23; fixed64 serial = 24; repeated Inner more = 25;
    }`,
})
const shape = schemas.message('t.All') as MessageShape
const root = Buffer.from('b5c7d1e97a3f40218896aa5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f', 'hex')
const keys: PseudonymKeys = { root, tenant: 'demo', rows: derivedRows(root, 'demo') }
const point: Point = { name: 'position', kind: 'plain', lat: 'lat_e7', lon: 'lon_e7', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined }

/** PARAPET_RUNS=1000000 is the long form. */
const runs = Number(process.env.PARAPET_RUNS ?? 3000)

const message = fc.record({
  machine_id: fc.constantFrom('', 'SN-1', 'Müller-7', 'a'.repeat(140)),
  time_ms: fc.oneof(fc.constant('0'), fc.bigInt(0n, 2n ** 64n - 1n).map(String), fc.integer({ min: 1_700_000_000_000, max: 1_800_000_000_000 }).map(String)),
  seq: fc.nat(), key_on: fc.boolean(),
  lat_e7: fc.oneof(fc.constant(0), fc.integer({ min: -950_000_000, max: 950_000_000 })), lon_e7: fc.oneof(fc.constant(0), fc.integer({ min: -1_900_000_000, max: 1_900_000_000 })),
  soc: fc.integer({ min: 0, max: 2 ** 32 - 1 }), tilt: fc.integer(), load: fc.integer(), mode: fc.integer({ min: 0, max: 3 }),
  temp: fc.double(), wind: fc.float(), code: fc.integer({ min: 0, max: 2 ** 32 - 1 }), big: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String),
  blob: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString('base64')), note: fc.string({ unit: 'grapheme', maxLength: 12 }),
  height: fc.nat(), a: fc.nat(), inner: fc.record({ x: fc.integer(), y: fc.string({ maxLength: 5 }), z: fc.array(fc.nat(), { maxLength: 3 }) }, { requiredKeys: [] }),
  list: fc.array(fc.integer(), { maxLength: 4 }), total: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String), drift: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String),
  serial: fc.bigInt(0n, 2n ** 64n - 1n).map(String), more: fc.array(fc.record({ x: fc.integer() }), { maxLength: 2 }),
}, { requiredKeys: [] })

/** Transforms that fit a field, with settings in wire units. */
function chainFor(field: FieldShape): fc.Arbitrary<readonly Transform[]> {
  const one = (name: string, params: Record<string, unknown>): readonly Transform[] => [{ name, params }]
  const options: fc.Arbitrary<readonly Transform[]>[] = [fc.constant([]), fc.constant([{ name: 'keep', params: {} }])]
  const kind = kindOf(field)
  if (field.repeated || kind === 'message') return fc.oneof(...options)
  if (kind === 'integer' || kind === 'big') {
    options.push(fc.integer({ min: 1, max: 5000 }).map((step) => one('round', { step })), fc.constant(one('clamp', { lo: 0, hi: 1000 })), fc.constant(one('bucket', { bounds: [0, 10, 500, 100_000] })), fc.constant([...one('clamp', { lo: 0, hi: 900 }), ...one('round', { step: 50 })]))
    if (field.name === 'time_ms') options.push(fc.constant(one('round_time', { ms: 900_000, wire: 900_000 })))
    options.push(fc.constant(one('constant', { value: 7 })), fc.constant(one('flags', { mask: 0b1011n })))
  }
  if (kind === 'float') options.push(fc.constantFrom(0.5, 0.1, 3, 2.5).map((step) => one('round', { step })), fc.constant(one('clamp', { lo: -5, hi: 5 })))
  if (kind === 'string') options.push(fc.nat({ max: 5 }).map((length) => one('truncate', { length })), fc.constant(one('mask', { first: 1, last: 1, with: '*' })))
  if (kind === 'bytes') options.push(fc.constant(one('keep_bytes', { from: 1, to: 4 })))
  if (field.name === 'machine_id') options.push(fc.constantFrom('never', 604_800_000).map((rotate) => one('pseudonym', { rotate, as: 'machine', subject: 'machine' })))
  if (field.type === 'fixed64' || field.type === 'uint64') options.push(fc.constant(one('pseudonym', { rotate: 'never', as: 'x', subject: 'none' })))
  return fc.oneof(...options)
}

const rules: fc.Arbitrary<FieldRule[]> = fc
  .tuple(...shape.fields.filter((field) => field.name !== 'lat_e7' && field.name !== 'lon_e7').map((field) => fc.option(chainFor(field).map((chain) => ruleFor(shape, field.name, chain)), { nil: undefined })),
    fc.option(fc.constantFrom<readonly Transform[]>([], [{ name: 'grid', params: { size: 500, sticky: false } }], [{ name: 'grid', params: { size: 10_000, sticky: false } }]).map((chain): FieldRule => ({ ...ruleFor(shape, 'lat_e7', chain.length === 0 ? [{ name: 'keep', params: {} }] : chain), path: 'position', target: { kind: 'point', point } })), { nil: undefined }))
  .map((all) => all.filter((rule): rule is FieldRule => rule !== undefined))

function run(output: Output, source: OutputStream, bytes: Uint8Array, engine: 'generated' | 'interpreted'): { code: number; hex: string; topic: string } {
  const minimiser = compilePlan(planFor(output, source, { consent: false, operatorFields: true }), { keys, engine })
  const cx = createContext()
  cx.eventMs = 1_763_888_864_000
  const scratch = Buffer.alloc(65_536, 0xee)
  scratch.set(bytes)
  scratch[bytes.length] = 0
  const from = bytes.length + 1
  const end = minimiser.run(scratch, 0, bytes.length, scratch, from, cx)
  return { code: end < 0 ? end : 0, hex: end < 0 ? '' : scratch.subarray(from, end).toString('hex'), topic: end < 0 ? '' : cx.topic }
}

/** Things that keep the bytes valid or break them. */
const mutation = fc.oneof(
  { weight: 4, arbitrary: fc.constant((bytes: Uint8Array) => bytes) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 6 }).map((tail) => (bytes: Uint8Array) => Buffer.concat([bytes, tail])) },
  { weight: 1, arbitrary: fc.nat().map((at) => (bytes: Uint8Array) => bytes.subarray(0, at % (bytes.length + 1))) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(), fc.nat({ max: 255 })).map(([at, value]) => (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === at % (bytes.length || 1) ? value : byte))) },
  { weight: 1, arbitrary: fc.constant((bytes: Uint8Array) => Buffer.concat([bytes, bytes])) },
  { weight: 1, arbitrary: fc.constant((bytes: Uint8Array) => Buffer.concat([bytes, Buffer.from('f2060663616e617279', 'hex')])) },
)

describe('both engines give the same result', () => {
  test('for random rules, messages and mutations', () => {
    fc.assert(fc.property(rules, message, mutation, (fields, json, mutate) => {
      const bytes = Uint8Array.from(mutate(schemas.encode('t.All', json)))
      const source = streamOf(shape, fields)
      Object.assign(source, { require: fields.slice(0, fields.length % 3).map((rule) => rule.path) })
      const output = outputOf(fields.some((rule) => rule.path === 'note' && rule.consent.kind === 'chain' && rule.consent.chain.length > 0) ? 'out/{stream}/{note}' : 'out/{stream}', [source])
      expect(run(output, source, bytes, ENGINE)).toEqual(run(output, source, bytes, 'interpreted'))
    }), { numRuns: runs })
  }, 60_000 + runs * 10)
})

describe('the result decodes to exactly what was named', () => {
  test('kept fields come back as protobufjs reads them, nothing else does', () => {
    fc.assert(fc.property(fc.subarray(shape.fields.filter((field) => kindOf(field) !== 'message').map((field) => field.name)), message, (names, json) => {
      const bytes = schemas.encode('t.All', json)
      const source = streamOf(shape, names.map((name) => ruleFor(shape, name, [{ name: 'keep', params: {} }])))
      const result = run(outputOf('out/{stream}', [source]), source, bytes, ENGINE)
      const whole = schemas.decode('t.All', bytes)
      // Defaults of fields without presence are not on the wire in canonical form, whatever the encoder did.
      const canonical = schemas.decode('t.All', bytes)
      const expected = Object.fromEntries(Object.entries(canonical).filter(([name, value]) => names.includes(name) && !isDefault(shape.byName.get(name) as FieldShape, value)))
      if (result.code < 0) expect(isRefusal(result.code)).toBe(false)
      else expect(schemas.decode('t.All', Buffer.from(result.hex, 'hex'))).toEqual(expected)
      expect(whole).toBeDefined()
    }), { numRuns: 1000 })
  })
})

function isDefault(field: FieldShape, value: unknown): boolean {
  if (field.presence) return false
  if (Array.isArray(value)) return value.length === 0
  return value === '' || value === false || value === '0' || Object.is(value, 0) || (field.enum !== undefined && value === 'OFF')
}

describe('outputs that the interpreter serves', () => {
  const source = streamOf(shape, [ruleFor(shape, 'note', [{ name: 'truncate', params: { length: 3 } }]), ...['list', 'more', 'inner'].map((name) => ruleFor(shape, name, [{ name: 'keep', params: {} }]))])
  const plan = planFor(outputOf('out', [source]), source, { consent: true, operatorFields: true })
  const [one, other] = [compilePlan(plan, { keys, engine: 'interpreted' }), compilePlan(plan, { keys, engine: 'interpreted' })]
  const json = { note: 'words', list: [1, 2], more: [{ x: 3 }, {}], inner: { x: 1, z: [4] } }

  test('share the message as it was decoded, as long as it is the same one', () => {
    const cx = createContext()
    const scratch = Buffer.alloc(4_096)
    const minimise = ({ run: go }: typeof one, length: number): string => scratch.subarray(1_024, go(scratch, 0, length, scratch, 1_024, cx)).toString('hex')
    const first = schemas.encode('t.All', json)
    scratch.set(first)
    cx.message = 1
    const result = minimise(one, first.length)
    expect(schemas.decode('t.All', Buffer.from(result, 'hex'))).toEqual({ ...json, note: 'wor' })
    // Nobody reads the bytes again, and no result spoils the next.
    scratch.fill(0xff, 0, first.length)
    expect([minimise(other, first.length), minimise(one, first.length)]).toEqual([result, result])
    const second = schemas.encode('t.All', { ...json, note: 'others' })
    scratch.set(second)
    cx.message = 2
    expect(minimise(other, second.length)).not.toBe(result)
    // Without a number nothing is shared.
    cx.message = 0
    scratch.set(first)
    expect(minimise(one, first.length)).toBe(result)
  })
})
