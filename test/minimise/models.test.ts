/**
 * Random plans of what the differential test does not draw - tracks with memory, key-value lists of bits and sealed names, noise -
 * against models written from the rules language (random/tracks.ts, random/transforms.ts). Bytes are compared, from both engines.
 *
 * `PARAPET_RUNS=1000000 npx vitest run test/minimise/models.test.ts` is the long form; PARAPET_SEED repeats a run.
 */
import fc from 'fast-check'
import protobuf from 'protobufjs'
import { describe, expect, test } from 'vitest'
import type { OutputId } from '../../src/domain/ids.ts'
import type { Branch, FieldRule, Point, Transform } from '../../src/domain/policy.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { isRefusal } from '../../src/domain/verdict.ts'
import { createCells, type Cells } from '../../src/minimise/cells.ts'
import { compilePlan, type Minimiser } from '../../src/minimise/compile.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext, type Context } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { verify } from '../../src/minimise/verify.ts'
import { outputOf, ruleFor, streamOf } from './fixture.ts'
import { createDice } from './random/dice.ts'
import { expectedTrack, randomTrack, randomTrackModel, type Memory, type TrackValue } from './random/tracks.ts'
import { ENTRY, MEMBERS, expectedList, randomEntries, randomList, type Entry } from './random/transforms.ts'

const runs = Number(process.env.PARAPET_RUNS ?? 1_000)
const seed = process.env.PARAPET_SEED === undefined ? {} : { seed: Number(process.env.PARAPET_SEED) }
const root = Buffer.from('7a9a4c7be1f0586339a7d4c2b8e61f05a4d3c2b1e0f9887766554433221100ff', 'hex')
const keys = { root, tenant: 'ténant', rows: derivedRows(root, 'ténant') }

const TRACKS = `message Track { sint32 lat = 1; sint32 lon = 2; repeated sint32 dlat = 3; repeated sint32 dlon = 4; repeated uint32 dt = 5; }
message WideTrack { sint64 lat = 1; sint64 lon = 2; repeated sint64 dlat = 3; repeated sint64 dlon = 4; repeated uint32 dt = 5; }`
const TEXT = `syntax = "proto3"; package m; ${TRACKS} ${ENTRY} message List { repeated Entry s = 1; } message Load { sint32 load = 1; uint32 small = 2; sint64 far = 3; }`
const schemas = schemasFromText({ 'm.proto': TEXT })
const library = protobuf.parse(TEXT.replaceAll(/ \[\(parapet[^\]]*\]/g, ''), { keepCase: true }).root

function shapeOf(name: string): MessageShape {
  return schemas.message(`m.${name}`) as MessageShape
}

/** Without defaults; bigints as the library's longs. */
function encoded(name: string, value: object): Uint8Array {
  const plain = (one: unknown): unknown => {
    if (typeof one === 'bigint') return BigInt.asIntN(53, one) === one ? Number(one) : { low: Number(BigInt.asIntN(32, one)), high: Number(BigInt.asIntN(32, one >> 32n)), unsigned: one >= 0n }
    if (Array.isArray(one)) return one.map(plain)
    return typeof one === 'object' && one !== null && !(one instanceof Uint8Array) ? Object.fromEntries(Object.entries(one).map(([key, inner]) => [key, plain(inner)])) : one
  }
  return library.lookupType(`m.${name}`).encode(plain(value) as protobuf.Message).finish()
}

function both(chain: Branch): Pick<FieldRule, 'consent' | 'noConsent' | 'pair' | 'line'> {
  return { consent: chain, noConsent: chain, pair: false, line: 1 }
}

/** Hex of what leaves; empty when nothing does. Never a refusal: the messages are right. */
function run({ plan, run: minimise }: Minimiser, bytes: Uint8Array, context: Partial<Context>): string {
  const scratch = Buffer.alloc(bytes.length * 3 + 8_192)
  scratch.set(bytes)
  const end = minimise(scratch, 0, bytes.length, scratch, bytes.length + 16, { ...createContext(), ...context })
  expect(isRefusal(end)).toBe(false)
  if (end < 0) return ''
  expect(verify(plan, scratch.subarray(bytes.length + 16, end))).toBeUndefined()
  return scratch.toString('hex', bytes.length + 16, end)
}

test(`tracks: ${runs} random ones`, () => {
  const tally = { left: 0, nothing: 0, unsure: 0, shorter: 0 }
  fc.assert(fc.property(fc.noShrink(fc.nat({ max: 2 ** 31 - 1 })), (number) => {
    const dice = createDice(number)
    const model = randomTrackModel(dice)
    const name = model.wide ? 'WideTrack' : 'Track'
    const point: Point = { name: 'track', kind: 'delta', lat: 'lat', lon: 'lon', dlat: 'dlat', dlon: 'dlon', dt: model.timed ? 'dt' : undefined, scale: model.e7 * 1e-7, valid: undefined }
    const source = streamOf(shapeOf(name), [{ path: 'track', target: { kind: 'point', point }, ...both({ kind: 'chain', chain: model.chain }) }])
    const plan = planFor(outputOf('out', [source]), source, { consent: false, operatorFields: true })
    const engines = (['generated', 'interpreted'] as const).map((engine) => ({ minimiser: compilePlan(plan, { keys, engine }), cells: createCells(64) as Cells }))
    const memory: Memory = new Map()
    // Several messages of two machines, so that cells have something to remember.
    for (let turn = 0; turn < 4; turn++) {
      const machine = dice.pick(['SN-1', 'SN-2'])
      const value = randomTrack(dice, model)
      const expected = expectedTrack(model, value, memory, machine)
      tally[expected.kind]++
      if (expected.kind === 'unsure') return
      if (expected.kind === 'left' && expected.track.dlat.length < value.dlat.length) tally.shorter++
      const bytes = encoded(name, written(value))
      const wanted = expected.kind === 'nothing' ? '' : Buffer.from(encoded(name, written(expected.track))).toString('hex')
      for (const { minimiser, cells } of engines) expect(run(minimiser, bytes, { machine, cells }), `seed ${number}, message ${turn}`).toBe(wanted)
    }
  }), { numRuns: Math.ceil(runs / 4), ...seed })
  const all = tally.left + tally.nothing + tally.unsure
  if (runs < 1_000) return
  expect(tally.left / all).toBeGreaterThan(0.5)
  expect(tally.nothing / all).toBeGreaterThan(0.02)
  expect(tally.unsure / all).toBeLessThan(0.2)
  expect(tally.shorter / all).toBeGreaterThan(0.1)
}, 60_000 + runs * 5)

function written({ lat, lon, ...lists }: TrackValue): object {
  return { ...(lat === 0n ? {} : { lat }), ...(lon === 0n ? {} : { lon }), ...lists }
}

test(`key-value lists of bits, bytes and sealed names: ${runs} random ones`, () => {
  const tally = { all: 0, left: 0, members: 0 }
  const shape = shapeOf('List')
  fc.assert(fc.property(fc.noShrink(fc.nat({ max: 2 ** 31 - 1 })), (number) => {
    const dice = createDice(number)
    const model = randomList(dice)
    const branch: Branch = { kind: 'keyed', keyed: { by: { member: 'id', fn: model.pgn ? 'j1939_pgn' : 'none' }, with: model.with, only: model.only } }
    const source = streamOf(shape, [{ path: 's', target: { kind: 'field', fields: [shape.byName.get('s') as FieldShape] }, ...both(branch) }])
    const plan = planFor(outputOf('out', [source], { id: 'rnd' as OutputId }), source, { consent: true, operatorFields: true })
    const engines = (['generated', 'interpreted'] as const).map((engine) => compilePlan(plan, { keys, engine }))
    for (let turn = 0; turn < 4; turn++) {
      const entries = randomEntries(dice, model)
      const left = expectedList(model, entries, { root, tenant: 'ténant', output: 'rnd' })
      tally.all += entries.length
      tally.left += left.length
      tally.members += left.reduce((sum, one) => sum + Object.keys(one).length, 0)
      const bytes = encoded('List', { s: entries.map(wire) })
      const wanted = left.length === 0 ? '' : Buffer.from(encoded('List', { s: left.map(wire) })).toString('hex')
      for (const one of engines) expect(run(one, bytes, {}), `seed ${number}, message ${turn}`).toBe(wanted)
    }
  }), { numRuns: Math.ceil(runs / 4), ...seed })
  expect(tally.left / tally.all).toBeGreaterThan(0.4)
  expect(tally.members / tally.left).toBeGreaterThan(1)
}, 60_000 + runs * 5)

/** Defaults are not written; bytes from their hex digits. */
function wire(entry: Entry): object {
  return Object.fromEntries(MEMBERS.flatMap((member): (readonly [string, unknown])[] => {
    const value = entry[member]
    if (value === undefined || value === 0n || value === '') return []
    if (typeof value === 'string') return [[member, member === 'name' ? Buffer.from(value, 'hex').toString('utf8') : Buffer.from(value, 'hex')]]
    return [[member, member === 'wide' || member === 'far' ? value : Number(value)]]
  }))
}

// ------------------------------------------------------------------------------------------------------------------- noise

describe('noise', () => {
  const shape = shapeOf('Load')
  const DAY = 86_400_000
  const noisy = (field: 'load' | 'small' | 'far', spread: number, output = 'cloud'): ((value: number, machine: string, eventMs: number) => number | undefined) => {
    const chain: readonly Transform[] = [{ name: 'noise', params: { spread, path: field } }]
    const source = streamOf(shape, [ruleFor(shape, field, chain)])
    const plan = planFor(outputOf('out', [source], { id: output as OutputId }), source, { consent: true, operatorFields: true })
    const engines = (['generated', 'interpreted'] as const).map((engine) => compilePlan(plan, { keys, engine }))
    return (value, machine, eventMs) => {
      const bytes = encoded('Load', value === 0 ? {} : { [field]: value })
      const [a, b] = engines.map((one) => run(one, bytes, { machine, eventMs }))
      expect(a).toBe(b)
      if (a === '') return undefined
      return Number((library.lookupType('m.Load').decode(Buffer.from(a as string, 'hex')) as unknown as Record<string, unknown>)[field])
    }
  }

  test('is remembered: one machine, day and value have one result, whenever and how often they come', () => {
    const add = noisy('load', 20)
    const again = noisy('load', 20)
    fc.assert(fc.property(fc.integer({ min: -1_000, max: 1_000 }), fc.nat({ max: 20_000 }), fc.nat({ max: DAY - 1 }), fc.nat({ max: DAY - 1 }), (value, day, early, late) => {
      const first = add(value, 'SN-1', day * DAY + early + 1)
      expect(again(value, 'SN-1', Math.floor((day * DAY + early + 1) / DAY) * DAY + Math.max(1, late))).toBe(first)
    }), { numRuns: 100 })
  })

  test('differs with the machine, the day, the value, the field and the output', () => {
    const draws = (add: ReturnType<typeof noisy>, machine: string, day: number): string => Array.from({ length: 40 }, (_, value) => (add(value + 100, machine, day * DAY + 1) ?? 0) - value).join()
    const all = [draws(noisy('load', 20), 'SN-1', 20_000), draws(noisy('load', 20), 'SN-2', 20_000), draws(noisy('load', 20), 'SN-1', 20_001), draws(noisy('far', 20), 'SN-1', 20_000), draws(noisy('load', 20, 'planner'), 'SN-1', 20_000)]
    expect(new Set(all).size).toBe(all.length)
    expect(new Set((all[0] as string).split(',')).size).toBeGreaterThan(10)
  })

  test('without machine or time there is none, so the field is dropped', () => {
    expect(noisy('load', 20)(5, '', DAY)).toBeUndefined()
    expect(noisy('load', 20)(5, 'SN-1', Number.NaN)).toBeUndefined()
    expect(noisy('load', 20)(5, 'SN-1', 0)).toBeUndefined()
  })

  test('a result that the field cannot hold is dropped', () => {
    const add = noisy('small', 20)
    const results = Array.from({ length: 200 }, (_, day) => add(1, 'SN-1', (day + 1) * DAY))
    expect(results.filter((one) => one === undefined).length).toBeGreaterThan(40)
    expect(results.every((one) => one === undefined || one > 0)).toBe(true)
  })

  // P(k) = (1-q)/(1+q) q^|k|, q = exp(-1/spread); variance 2q/(1-q)^2. The draws are fixed by the key, so this cannot flake.
  test.each([1, 5, 20])('of a spread of %i follows the two-sided geometric distribution', (spread) => {
    const add = noisy('far', spread)
    const q = Math.exp(-1 / spread)
    const count = 4_000
    const draws = Array.from({ length: count }, (_, at) => (add(1_000_000 + at, 'SN-1', 20_000 * DAY + 1) as number) - 1_000_000 - at)
    const edge = Math.ceil(spread * 2)
    let chi = 0
    for (let k = -edge; k <= edge; k++) {
      const isTail = Math.abs(k) === edge
      const probability = isTail ? q ** edge / (1 + q) : ((1 - q) / (1 + q)) * q ** Math.abs(k)
      const seen = draws.filter((draw) => (isTail ? (k < 0 ? draw <= k : draw >= k) : draw === k)).length
      chi += (seen - count * probability) ** 2 / (count * probability)
    }
    // 2·edge degrees of freedom: mean 2·edge, deviation sqrt(4·edge); four deviations above.
    expect(chi).toBeLessThan(2 * edge + 4 * Math.sqrt(4 * edge))
    const variance = draws.reduce((sum, draw) => sum + draw ** 2, 0) / count
    expect(variance / ((2 * q) / (1 - q) ** 2)).toBeGreaterThan(0.85)
    expect(variance / ((2 * q) / (1 - q) ** 2)).toBeLessThan(1.15)
  })
})

// ------------------------------------------------------------------------------------------------------------------ circles

test('a circle hides all that it covers, nothing far from it, and between them what its machine\'s secret says', () => {
  const shape = shapeOf('Track')
  const point: Point = { name: 'track', kind: 'plain', lat: 'lat', lon: 'lon', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined }
  const between = { hidden: 0, shown: 0 }
  fc.assert(fc.property(fc.integer({ min: -60, max: 60 }), fc.integer({ min: -170, max: 170 }), fc.constantFrom(100, 500, 5_000), fc.integer({ min: 0, max: 300 }).map((one) => one / 100), fc.integer({ min: 0, max: 628 }).map((one) => one / 100), fc.constantFrom('SN-1', 'SN-2', 'SN-3', ''), (lat, lon, radiusM, far, angle, machine) => {
    const chain: readonly Transform[] = [{ name: 'hide_in', params: { names: ['home'], zones: [{ kind: 'circle', lat, lon, radiusM }] } }]
    const source = streamOf(shape, [{ path: 'track', target: { kind: 'point', point }, ...both({ kind: 'chain', chain }) }])
    const minimiser = compilePlan(planFor(outputOf('out', [source]), source, { consent: false, operatorFields: true }), { keys, engine: 'interpreted' })
    const north = Math.round(((far * radiusM * Math.cos(angle)) / 111_320 + lat) * 1e7)
    const east = Math.round(((far * radiusM * Math.sin(angle)) / (111_320 * Math.cos((lat * Math.PI) / 180)) + lon) * 1e7)
    if (north === 0 && east === 0) return
    const hidden = run(minimiser, encoded('Track', { ...(north === 0 ? {} : { lat: north }), ...(east === 0 ? {} : { lon: east }) }), { machine }) === ''
    // Moved by up to a third of the radius, widened by as much and up to a fifth more; twice the size where there is no secret.
    if (far < 0.99) expect(hidden).toBe(true)
    else if (far > 2.01 || (machine !== '' && far > 1.88)) expect(hidden).toBe(false)
    else if (machine !== '') between[hidden ? 'hidden' : 'shown']++
    // The same place of the same machine is always the same.
    expect(run(minimiser, encoded('Track', { ...(north === 0 ? {} : { lat: north }), ...(east === 0 ? {} : { lon: east }) }), { machine }) === '').toBe(hidden)
  }), { numRuns: 400, ...seed })
  expect(between.hidden).toBeGreaterThan(5)
  expect(between.shown).toBeGreaterThan(5)
})
