/**
 * Random delta tracks and what must leave of them, worked out point by point from rules-language 5: degrees as exact fractions of
 * metres, cells with memory, zones by winding number, times in a bigint. Nothing here comes from src/minimise.
 *
 * What the language leaves open and config/README.md decides: points that cannot be moved, and points whose step its field cannot
 * hold, stay behind; a late first point is the base and a step of no length with its time; under `keep` alone nothing changes.
 */
import type { Transform } from '../../../src/domain/policy.ts'
import type { Dice } from './dice.ts'

export interface TrackModel {
  /** Whether the fields are 64 bits wide. */
  readonly wide: boolean
  readonly timed: boolean
  /** Wire units in 1e-7 degrees: 1 for e7, 100 for e5. */
  readonly e7: 1 | 10 | 100
  readonly chain: readonly Transform[]
}

export interface TrackValue {
  readonly lat: bigint
  readonly lon: bigint
  readonly dlat: readonly bigint[]
  readonly dlon: readonly bigint[]
  readonly dt: readonly bigint[]
}

type Corner = readonly [lat: number, lon: number]

const ZONES: readonly (readonly Corner[])[] = [
  [[-1, -1], [-1, 1], [1, 1], [1, -1]],
  [[47, 10], [49, 10], [48, 13]],
  [[0, 0], [0, 60], [60, 60], [60, 50], [10, 50], [10, 0]],
]

export function randomTrackModel(dice: Dice): TrackModel {
  const timed = dice.chance(0.85)
  const steps: Transform[] = []
  if (timed && dice.chance(0.5)) steps.push({ name: 'thin', params: thin(dice.pick([1, 20, 60, 3_600])) })
  if (dice.chance(0.5)) steps.push({ name: 'hide_in', params: { names: ['zone'], zones: [{ kind: 'polygon', corners: dice.pick(ZONES) }] } })
  if (dice.chance(0.7)) steps.push({ name: 'grid', params: { size: dice.pick([5, 100, 500, 10_000, 100_000]), sticky: dice.chance(0.5) } })
  const chain = dice.shuffle(steps)
  return { wide: dice.chance(0.3), timed, e7: dice.pick([1, 1, 10, 100]), chain: chain.length === 0 ? [{ name: 'keep', params: {} }] : chain }
}

function thin(seconds: number): Transform['params'] {
  return { ms: seconds * 1_000, wire: seconds * 1_000 }
}

export function randomTrack(dice: Dice, model: TrackModel): TrackValue {
  const unit = BigInt(model.e7)
  const degrees = dice.pick([[0, 0], [48, 11.5], [-33, -70], [89.9999, 0.1], [0.5, 179.9999], [-89.99, -179.99], [30, 40]])
  const jitter = (): number => (dice.below(2_001) - 1_000) / dice.pick([1e3, 1e4, 1e6])
  const wire = (degree: number): bigint => BigInt(Math.round(degree * 1e7)) / unit
  const count = dice.pick([0, 1, 2, 5, 12, 40])
  const list = (make: () => bigint): bigint[] => Array.from({ length: count }, make)
  const step = (): bigint => (dice.chance(0.03) ? dice.pick(model.wide ? [1n << 62n, -(1n << 62n)] : [2_147_483_647n, -2_147_483_648n]) : wire(jitter()))
  const dlat = list(step)
  const dlon = list(step)
  const dt = model.timed ? list(() => BigInt(dice.chance(0.03) ? 4_294_967_295 : dice.pick([0, 1, 999, 1_000, 10_000, 60_000, 3_600_000]))) : []
  // Now and then steps that do not belong together.
  if (dice.chance(0.03)) dlat.push(1n)
  return { lat: wire((degrees[0] as number) + jitter()), lon: wire((degrees[1] as number) + jitter()), dlat, dlon, dt }
}

/** Cells by machine; lives as long as the gateway does. */
export type Memory = Map<string, Placed>

interface Placed {
  readonly i: number
  readonly j: number
  readonly c: number
}

/** What must leave: nothing, or a track. `unsure`: a point lies so near the edge of a remembered cell or of a zone that rounding decides. */
export type Left = { readonly kind: 'left'; readonly track: TrackValue } | { readonly kind: 'nothing' } | { readonly kind: 'unsure' }

const M = 111_320

export function expectedTrack(model: TrackModel, value: TrackValue, memory: Memory, machine: string): Left {
  const { lat, lon, dlat, dlon, dt } = value
  if (lat === 0n && lon === 0n) return { kind: 'nothing' }
  if (dlat.length !== dlon.length || (model.timed && dt.length !== dlat.length)) return { kind: 'nothing' }
  const chain = model.chain.filter((one) => one.name !== 'keep')
  if (chain.length === 0) return { kind: 'left', track: value }
  const spacing = chain.find((one) => one.name === 'thin')?.params.wire as number | undefined
  const moving = chain.filter((one) => one.name !== 'thin')
  const points: { lat: bigint; lon: bigint; time: bigint }[] = []
  let [y, x, time] = [lat, lon, 0n]
  for (let at = 0; at <= dlat.length; at++) {
    if (at > 0) [y, x, time] = [y + dlat[at - 1]!, x + dlon[at - 1]!, time + (dt[at - 1] ?? 0n)]
    const last = points[points.length - 1]
    if (spacing !== undefined && last !== undefined && time - last.time < BigInt(spacing)) continue
    const moved = moving.length === 0 ? { lat: y, lon: x } : move(moving, y * BigInt(model.e7), x * BigInt(model.e7), model, memory, machine)
    if (moved === 'unsure') return { kind: 'unsure' }
    if (moved === undefined || !fits(model, moved, time, last)) continue
    points.push({ ...moved, time })
  }
  const [first] = points
  if (first === undefined) return { kind: 'nothing' }
  const all = model.timed && first.time !== 0n ? [{ ...first, time: 0n }, ...points] : points
  const steps = (of: (point: { lat: bigint; lon: bigint; time: bigint }) => bigint): bigint[] => all.slice(1).map((point, at) => of(point) - of(all[at]!))
  return { kind: 'left', track: { lat: first.lat, lon: first.lon, dlat: steps((one) => one.lat), dlon: steps((one) => one.lon), dt: model.timed ? steps((one) => one.time) : [] } }
}

/** Whether base or step fit the fields: sint32 or sint64 for places, uint32 for times. */
function fits(model: TrackModel, to: { readonly lat: bigint; readonly lon: bigint }, time: bigint, from: { readonly lat: bigint; readonly lon: bigint; readonly time: bigint } | undefined): boolean {
  const bits = model.wide ? 64 : 32
  const [north, east, lasts] = from === undefined ? [to.lat, to.lon, time] : [to.lat - from.lat, to.lon - from.lon, time - from.time]
  return BigInt.asIntN(bits, north) === north && BigInt.asIntN(bits, east) === east && (!model.timed || BigInt.asUintN(32, lasts) === lasts)
}

function move(chain: readonly Transform[], lat0: bigint, lon0: bigint, model: TrackModel, memory: Memory, machine: string): { lat: bigint; lon: bigint } | undefined | 'unsure' {
  let [lat, lon] = [lat0, lon0]
  for (const { name, params } of chain) {
    // Input outside ±90, ±180 is dropped.
    if (lat > 900_000_000n || lat < -900_000_000n || lon > 1_800_000_000n || lon < -1_800_000_000n) return undefined
    if (name === 'hide_in') {
      const [zone] = params.zones as readonly { readonly corners: readonly Corner[] }[]
      const side = sideOf(zone?.corners ?? [], Number(lat) / 1e7, Number(lon) / 1e7)
      if (side === 'edge') return 'unsure'
      if (side === 'inside') return undefined
      continue
    }
    const size = params.size as number
    const cell = cellFor(lat, lon, size, params.sticky === true ? { memory, key: `${machine} ${size}` } : undefined)
    if (cell === 'unsure') return 'unsure'
    lat = fiveDecimals(Math.min(90, Math.max(-90, ((cell.i + 0.5) * size) / M)))
    lon = fiveDecimals(Math.min(180, Math.max(-180, ((cell.j + 0.5) * size) / (M * cell.c))))
  }
  return { lat: nearest(lat, BigInt(model.e7)), lon: nearest(lon, BigInt(model.e7)) }
}

/** Halves away from zero. */
function nearest(value: bigint, unit: bigint): bigint {
  const size = value < 0n ? -value : value
  const whole = (size * 2n + unit) / (unit * 2n)
  return value < 0n ? -whole : whole
}

function fiveDecimals(degrees: number): bigint {
  return BigInt(Math.sign(degrees) * Math.floor(Math.abs(degrees) * 1e5 + 0.5)) * 100n
}

/** i = floor(lat_e7*M/(s*1e7)), exact in integers; c is the cosine of the 100 km row; j = floor(lon*M*c/s). */
function cellFor(lat: bigint, lon: bigint, size: number, sticky: { readonly memory: Memory; readonly key: string } | undefined): Placed | 'unsure' {
  const floor = (a: bigint, b: bigint): number => Number(a % b < 0n ? a / b - 1n : a / b)
  const row = floor(lat * BigInt(M), 1_000_000_000_000n)
  const c = Math.max(0.01, Math.cos(((((row + 0.5) * 100_000) / M) * Math.PI) / 180))
  const plain = { i: floor(lat * BigInt(M), BigInt(size) * 10_000_000n), j: Math.floor(((Number(lon) / 1e7) * M * c) / size), c }
  if (sticky === undefined) return plain
  const kept = sticky.memory.get(sticky.key)
  if (kept !== undefined) {
    // Metres beyond the border of the remembered cell, on either axis, against 15 % of its size. Its centre is known to five decimals: about a metre.
    const north = Math.abs((Number(lat) / 1e7) * M - (kept.i + 0.5) * size) - size / 2
    const east = Math.abs((Number(lon) / 1e7) * M * kept.c - (kept.j + 0.5) * size) - size / 2
    const beyond = Math.max(north, east) - 0.15 * size
    const clamped = Math.abs(((kept.i + 0.5) * size) / M) > 90 || Math.abs(((kept.j + 0.5) * size) / (M * kept.c)) > 180
    if (Math.abs(beyond) < 1.2 || clamped) return 'unsure'
    if (beyond < 0) return kept
  }
  sticky.memory.set(sticky.key, plain)
  return plain
}

/** By the angle that the corners turn around the place. */
function sideOf(corners: readonly Corner[], lat: number, lon: number): 'inside' | 'outside' | 'edge' {
  let turned = 0
  for (const [at, [aLat, aLon]] of corners.entries()) {
    const [bLat, bLon] = corners[(at + 1) % corners.length]!
    const [ay, ax, by, bx] = [aLat - lat, aLon - lon, bLat - lat, bLon - lon]
    const cross = ax * by - ay * bx
    const dot = ax * bx + ay * by
    if (Math.abs(cross) < 1e-7 && dot <= 0) return 'edge'
    turned += Math.atan2(cross, dot)
  }
  return Math.abs(turned) > Math.PI ? 'inside' : 'outside'
}
