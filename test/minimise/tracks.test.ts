/**
 * Delta tracks: a base and steps in, a base and steps out. The tables are computed by hand, in degrees and seconds; the random cases
 * hold the absolute points of the result against each absolute point of the input moved by itself, with arithmetic written out here.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Point, Transform } from '../../src/domain/policy.ts'
import type { MessageShape } from '../../src/domain/schema.ts'
import { isRefusal, verdictName } from '../../src/domain/verdict.ts'
import { createCells } from '../../src/minimise/cells.ts'
import { compilePlan } from '../../src/minimise/compile.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext, type Context } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { verify } from '../../src/minimise/verify.ts'
import { ENGINES } from '../engine.ts'
import { outputOf, streamOf } from './fixture.ts'

const root = Buffer.from('9b1f3c7d5e2a4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8', 'hex')
const keys = { root, tenant: 'tracks', rows: derivedRows(root, 'tracks') }

const schemas = schemasFromText({
  't.proto': `syntax = "proto3"; package t;
  message Small { sint32 lat = 1; sint32 lon = 2; repeated sint32 dlat = 3; repeated sint32 dlon = 4; repeated uint32 dt = 5; }
  message Wide { sint64 lat = 1; int64 lon = 2; repeated sint64 dlat = 3; repeated sfixed64 dlon = 4; repeated uint64 dt = 5; }
  message Degrees { double lat = 1; float lon = 2; repeated double dlat = 3; repeated float dlon = 4; repeated sint32 dt = 5; }
  message Untimed { sint32 lat = 1; sint32 lon = 2; repeated sint32 dlat = 3; repeated sint32 dlon = 4; }
  message Mixed { sint32 lat = 1; sint32 lon = 2; repeated sint64 dlat = 3; repeated sint64 dlon = 4; repeated double dt = 5; }`,
})

interface Track {
  readonly lat: number
  readonly lon: number
  readonly dlat?: readonly number[]
  readonly dlon?: readonly number[]
  readonly dt?: readonly number[]
}

interface Setting {
  readonly message?: 'Small' | 'Wide' | 'Degrees' | 'Untimed' | 'Mixed'
  /** Made anew for each engine: sticky cells remember. */
  readonly context?: () => Partial<Context>
  readonly scale?: number
}

/** The track that leaves, as plain numbers, or the reason why none does. */
function leave(chain: readonly Transform[], track: Track, { message = 'Small', context = () => ({}), scale = message === 'Degrees' ? 1 : 1e-7 }: Setting = {}): Track | string {
  const shape = schemas.message(`t.${message}`) as MessageShape
  const point: Point = { name: 'track', kind: 'delta', lat: 'lat', lon: 'lon', dlat: 'dlat', dlon: 'dlon', dt: message === 'Untimed' ? undefined : 'dt', scale, valid: undefined }
  const branch = { kind: 'chain', chain } as const
  const source = streamOf(shape, [{ path: 'track', target: { kind: 'point', point }, consent: branch, noConsent: branch, pair: false, line: 1 }])
  const plan = planFor(outputOf('out', [source]), source, { consent: false, operatorFields: true })
  const bytes = schemas.encode(`t.${message}`, { ...track })
  const results = ENGINES.map((engine) => {
    const scratch = Buffer.alloc(bytes.length * 2 + 8_192)
    scratch.set(bytes)
    const end = compilePlan(plan, { keys, engine }).run(scratch, 0, bytes.length, scratch, bytes.length + 1, { ...createContext(), ...context() })
    return end < 0 ? `${isRefusal(end) ? 'refused' : 'withheld'}: ${verdictName(end)}` : scratch.toString('hex', bytes.length + 1, end)
  })
  expect(results[0]).toBe(results[1])
  const [result] = results as [string]
  if (result.includes(':')) return result
  const made = Buffer.from(result, 'hex')
  expect(verify(plan, made)).toBeUndefined()
  const read = schemas.decode(`t.${message}`, made)
  const list = (name: string): number[] => ((read[name] as unknown[] | undefined) ?? []).map(Number)
  return { lat: Number(read.lat ?? 0), lon: Number(read.lon ?? 0), dlat: list('dlat'), dlon: list('dlon'), dt: list('dt') }
}

const KEEP: readonly Transform[] = [{ name: 'keep', params: {} }]
const HOME = { name: 'hide_in', params: { names: ['home'], zones: [{ kind: 'polygon', corners: [[-1, -1], [-1, 1], [1, 1], [1, -1]] }] } }
const grid = (size: number, sticky = false): Transform => ({ name: 'grid', params: { size, sticky } })
const thin = (wire: number): Transform => ({ name: 'thin', params: { ms: wire, wire } })
/** Degrees to the wire of the e7 messages. */
const e7 = (...degrees: number[]): number[] => degrees.map((one) => Math.round(one * 1e7))

describe('what leaves of a track, by hand: degrees, and seconds after the base', () => {
  test.each([
    // name, transforms, latitudes, times in; latitudes, times out. The zone is all below 1°.
    ['nothing hidden', [HOME], [2, 3, 4], [0, 60, 90], [2, 3, 4], [0, 60, 90]],
    ['the base hidden: a step of no length until the first that leaves', [HOME], [0.5, 2.5, 2.6], [0, 60, 120], [2.5, 2.5, 2.6], [0, 60, 120]],
    ['the first three hidden: how many they were is not told', [HOME], [0.5, 0.6, 0.7, 2.5], [0, 10, 20, 60], [2.5, 2.5], [0, 60]],
    ['the first one hidden as long', [HOME], [0.5, 2.5], [0, 60], [2.5, 2.5], [0, 60]],
    ['hidden in the middle: the next step spans the time', [HOME], [2, 0.5, 0.6, 3], [0, 10, 20, 30], [2, 3], [0, 30]],
    ['hidden at the end', [HOME], [2, 3, 0.5], [0, 10, 20], [2, 3], [0, 10]],
    ['hidden at the base, at the same moment as the next: no step needed', [HOME], [0.5, 2.5, 3], [0, 0, 5], [2.5, 3], [0, 5]],
    ['in and out again', [HOME], [0.5, 2, 0.5, 3], [0, 10, 20, 30], [2, 2, 3], [0, 10, 30]],
    ['a base alone', [HOME], [2], [0], [2], [0]],
    ['thinned to thirty seconds', [thin(30)], [2, 3, 4, 5, 6], [0, 10, 30, 59, 61], [2, 4, 6], [0, 30, 61]],
    ['thinned, counted from the first that leaves', [HOME, thin(30)], [0.5, 2, 3, 4, 5], [0, 10, 20, 40, 50], [2, 2, 4], [0, 10, 40]],
    ['a clock that goes back is not later', [thin(30)], [2, 3, 4], [0, 40, 40], [2, 3], [0, 40]],
    ['a cell of 100 km each', [grid(100_000)], [0.1, 0.8, 1], [0, 10, 20], [0.44916, 0.44916, 1.34747], [0, 10, 20]],
  ] as const)('%s', (_name, chain, lats, times, expectedLats, expectedTimes) => {
    const steps = (list: readonly number[]): number[] => list.slice(1).map((one, at) => one - (list[at] as number))
    const [lat, ...dlat] = [lats[0] * 1e7, ...steps(e7(...lats))] as const
    const left = leave(chain, { lat, lon: 5_000_000, dlat, dlon: dlat.map(() => 0), dt: steps(times) }) as Required<Track>
    expect(typeof left === 'string' ? left : absolute(left).map((one) => one.lat)).toEqual(e7(...expectedLats))
    expect(absolute(left).map((one) => one.time)).toEqual(expectedTimes)
    expect(left.dt).toHaveLength(expectedTimes.length - 1)
  })

  test('everything hidden: no track', () => expect(leave([HOME], { lat: 1, lon: 1, dlat: [5, 5], dlon: [5, 5], dt: [1, 1] })).toBe('withheld: empty'))
  test('steps of different number do not belong together, kept or not', () => {
    for (const chain of [KEEP, [thin(1)], [grid(500)]]) {
      expect(leave(chain, { lat: 20_000_000, lon: 1, dlat: [5, 5], dlon: [5], dt: [1, 1] })).toBe('withheld: empty')
      expect(leave(chain, { lat: 20_000_000, lon: 1, dlat: [5, 5], dlon: [5, 5], dt: [1] })).toBe('withheld: empty')
      expect(leave(chain, { lat: 20_000_000, lon: 1, dt: [1] })).toBe('withheld: empty')
    }
  })
  test('without times a hidden start leaves only places', () => {
    expect(leave([HOME], { lat: 5_000_000, lon: 0, dlat: [20_000_000, 1_000_000], dlon: [0, 0] }, { message: 'Untimed' })).toEqual({ lat: 25_000_000, lon: 0, dlat: [1_000_000], dlon: [0], dt: [] })
  })
  test('kept, the fields leave as they are', () => {
    const track = { lat: 900_000_001, lon: -7, dlat: [2_147_483_647, -2_147_483_648], dlon: [0, 1], dt: [4_294_967_295, 0] }
    expect(leave(KEEP, track)).toEqual(track)
    expect(leave(KEEP, { lat: 0.1234567890123, lon: 0.5, dlat: [1e-12], dlon: [0.25], dt: [3] }, { message: 'Degrees' })).toEqual({ lat: 0.1234567890123, lon: 0.5, dlat: [1e-12], dlon: [0.25], dt: [3] })
  })
})

describe('what does not fit stays behind', () => {
  test('a step over the date line that its field cannot hold', () => {
    // 179° east, then by two steps to 179° west, of which the first is hidden: 358° do not fit an sint32 of 1e-7 degrees.
    const track = { lat: 20_000_000, lon: 1_790_000_000, dlat: [-20_000_000, 20_000_000, 0], dlon: [-1_790_000_000, -1_790_000_000, 1_800_000_000], dt: [5, 5, 5] }
    expect(leave([HOME], track)).toEqual({ lat: 20_000_000, lon: 1_790_000_000, dlat: [0], dlon: [-1_780_000_000], dt: [15] })
  })
  test('a position beyond 180 degrees is dropped, and the way back is right again', () => {
    expect(leave([HOME], { lat: 20_000_000, lon: 1_799_999_999, dlat: [0, 0], dlon: [2, -4], dt: [5, 5] })).toEqual({ lat: 20_000_000, lon: 1_799_999_999, dlat: [0], dlon: [-2], dt: [10] })
  })
  test('more time than the field can hold', () => {
    expect(leave([HOME], { lat: 20_000_000, lon: 1, dlat: [-20_000_000, 20_000_001], dlon: [0, 0], dt: [4_000_000_000, 4_000_000_000] })).toEqual({ lat: 20_000_000, lon: 1, dlat: [], dlon: [], dt: [] })
    expect(leave([HOME], { lat: 1, lon: 1, dlat: [0, 20_000_000], dlon: [0, 0], dt: [4_000_000_000, 4_000_000_000] })).toBe('withheld: empty')
  })
  test('numbers beyond 2^53 are summed exactly', () => {
    const far = 2 ** 60
    expect(leave([HOME], { lat: 20_000_000, lon: 1, dlat: [far, -far], dlon: [far, -far], dt: [7, 7] }, { message: 'Wide' })).toEqual({ lat: 20_000_000, lon: 1, dlat: [0], dlon: [0], dt: [14] })
  })
  test('a step that is no number', () => {
    expect(leave([grid(1_000)], { lat: 48.1, lon: 11.5, dlat: [Number.NaN, 0], dlon: [0, 0], dt: [1, 1] }, { message: 'Degrees' })).toMatchObject({ dlat: [], dt: [] })
  })
  test('a hundred thousand steps are no trouble', () => {
    const list = Array.from({ length: 100_000 }, () => 1)
    const track = { lat: 20_000_000, lon: 1, dlat: list, dlon: list, dt: list }
    expect(leave(KEEP, track)).toEqual(track)
    expect(leave([thin(60_000)], track)).toEqual({ lat: 20_000_000, lon: 1, dlat: [60_000], dlon: [60_000], dt: [60_000] })
  })
})

// ------------------------------------------------------------------------------------------------------------ absolute points

interface Absolute {
  readonly lat: number
  readonly lon: number
  readonly time: number
}

/** What a reader of a track adds up. */
function absolute({ lat, lon, dlat = [], dlon = [], dt = [] }: Track): Absolute[] {
  const points = [{ lat, lon, time: 0 }]
  for (const [at, step] of dlat.entries()) {
    const last = points[at] as Absolute
    points.push({ lat: last.lat + step, lon: last.lon + (dlon[at] as number), time: last.time + (dt[at] ?? 0) })
  }
  return points
}

/** [rules-language 5, grid] with big integers for the row, degrees times 1e7 in and out. Undefined off the earth. */
function cellOf(lat: number, lon: number, size: number): { readonly lat: number; readonly lon: number } | undefined {
  if (Math.abs(lat) > 900_000_000 || Math.abs(lon) > 1_800_000_000) return undefined
  const floor = (a: bigint, b: bigint): bigint => (a % b < 0n ? a / b - 1n : a / b)
  const i = Number(floor(BigInt(lat) * 111_320n, BigInt(size) * 10_000_000n))
  const row = Number(floor(BigInt(lat) * 111_320n, 1_000_000_000_000n))
  const c = Math.max(0.01, Math.cos(((((row + 0.5) * 100_000) / 111_320) * Math.PI) / 180))
  const j = Math.floor(((lon / 1e7) * 111_320 * c) / size)
  const decimals = (degrees: number, most: number): number => {
    const bounded = Math.min(most, Math.max(-most, degrees))
    return Math.sign(bounded) * Math.floor(Math.abs(bounded) * 1e5 + 0.5) * 100
  }
  return { lat: decimals(((i + 0.5) * size) / 111_320, 90), lon: decimals(((j + 0.5) * size) / (111_320 * c), 180) }
}

/** What must leave: every absolute point by itself, repeated points and all; the base of a late start comes first. */
function expectedOf(track: Track, size: number): Absolute[] {
  const moved = absolute(track).flatMap(({ lat, lon, time }) => {
    const cell = cellOf(lat, lon, size)
    return cell === undefined ? [] : [{ ...cell, time }]
  })
  const [first] = moved
  return first === undefined || first.time === 0 ? moved : [{ ...first, time: 0 }, ...moved]
}

const runs = Math.ceil(Number(process.env.PARAPET_RUNS ?? 300))

describe('a track under a grid is the grid of each of its points', () => {
  const step = fc.tuple(fc.oneof(fc.integer({ min: -40_000, max: 40_000 }), fc.integer({ min: -30_000_000, max: 30_000_000 })), fc.oneof(fc.integer({ min: -40_000, max: 40_000 }), fc.integer({ min: -30_000_000, max: 30_000_000 })), fc.nat({ max: 600_000 }))
  const anywhere = fc.tuple(fc.integer({ min: -899_000_000, max: 899_000_000 }), fc.integer({ min: -1_799_000_000, max: 1_799_000_000 }))
  // Near the poles, the date line and the point of no latitude and longitude.
  const corner = fc.tuple(fc.constantFrom(899_990_000, -899_990_000, 1, -1, 0), fc.constantFrom(1_799_990_000, -1_799_990_000, 1, -1))
  const tracks = fc.tuple(fc.oneof(anywhere, corner), fc.array(step, { maxLength: 30 })).map(([[lat, lon], steps]): Track => ({ lat, lon, dlat: steps.map(([one]) => one), dlon: steps.map(([, one]) => one), dt: steps.map(([, , one]) => one) }))

  test.each(['Small', 'Wide', 'Mixed'] as const)('in %s', (message) => {
    fc.assert(fc.property(tracks, fc.constantFrom(5, 500, 10_000, 100_000), (track, size) => {
      const expected = expectedOf(track, size)
      const left = leave([grid(size)], track, { message })
      if (expected.length === 0) expect(left).toBe('withheld: empty')
      else expect(absolute(left as Track)).toEqual(expected)
    }), { numRuns: runs })
  })

  test('in floating point degrees, to the width of a float', () => {
    fc.assert(fc.property(tracks, (track) => {
      const scaled = (list: readonly number[] | undefined): number[] => (list ?? []).map((one) => one / 1e7)
      const left = leave([grid(10_000)], { lat: track.lat / 1e7, lon: track.lon / 1e7, dlat: scaled(track.dlat), dlon: scaled(track.dlon), dt: track.dt ?? [] }, { message: 'Degrees' })
      if (typeof left === 'string') return
      // No remainder of the finer position: every place is a centre of a cell again, however many steps were added up.
      for (const { lat, lon } of absolute(left)) {
        const centre = cellOf(Math.round(lat * 1e7), Math.round(lon * 1e7), 10_000)
        if (centre === undefined) continue
        expect(Math.abs(centre.lat / 1e7 - lat)).toBeLessThan(1e-6)
        expect(Math.abs(centre.lon / 1e7 - lon)).toBeLessThan(3e-5)
      }
    }), { numRuns: runs })
  })

  test('sticky cells are kept from point to point', () => {
    // 1 km rows at 0: the border lies at 0.00898°, and 15 % of 1 km, 150 m, are 0.001347°.
    const border = 1_000 / 111_320
    const lats = [border - 0.0005, border + 0.0005, border + 0.00134, border + 0.00136, border - 0.0005]
    const [lat = 0, ...rest] = e7(...lats)
    const dlat = rest.map((one, at) => one - (e7(...lats)[at] as number))
    const left = leave([grid(1_000, true)], { lat, lon: 1, dlat, dlon: [0, 0, 0, 0], dt: [1, 1, 1, 1] }, { context: () => ({ cells: createCells(), machine: 'm' }) }) as Required<Track>
    expect(left.dlat.map((one) => Math.sign(one))).toEqual([0, 0, 1, 0])
  })
})
