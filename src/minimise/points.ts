/**
 * Points: positions made of fields, single or as a track of steps, and how they are read, moved and written again.
 */
import type { FieldShape } from '../domain/schema.ts'
import { evaluate, type Scope } from './condition.ts'
import type { Cell } from './grid.ts'
import { RANGES, roundHalfAway } from './number.ts'
import type { PlanPoint } from './plan.ts'
import { specOf, type Moment, type Move, type Services } from './transforms.ts'
import { emptyTree, isTree, slotAt, type Tree } from './tree.ts'
import { isZero, zeroOf, type Value } from './value.ts'

/** What became of a point: `dropped` when a transform could not be applied or hides it. */
export type PointEnd = 'absent' | 'placed' | 'dropped'

/** What a point reads of the moment beside its fields. */
export interface PointMoment extends Moment {
  readonly scope: Scope
}

/** Reads a point from a message, moves it through its chain and writes it into the result. */
export function applyPoint(step: PlanPoint, moves: readonly Move[], from: Tree, into: Tree, moment: PointMoment): PointEnd {
  if (!isPresent(step, from, moment.scope)) return 'absent'
  const lat = scalarAt(from, step.lat)
  const lon = scalarAt(from, step.lon)
  if (step.track !== undefined) return applyTrack(step, step.track, moves, { lat: lat as Sum, lon: lon as Sum }, from, into, moment) ? 'placed' : 'dropped'
  if (step.chain.length === 0) {
    place(into, step.lat, lat)
    place(into, step.lon, lon)
    return 'placed'
  }
  const { scale } = step.point
  cell.latE7 = toE7(Number(lat), scale)
  cell.lonE7 = toE7(Number(lon), scale)
  if (!moveOn(moves, moment)) return 'dropped'
  const [y, x] = [fromE7(cell.latE7, scale, leafOf(step.lat)), fromE7(cell.lonE7, scale, leafOf(step.lon))]
  if (held(y as Sum, leafOf(step.lat)) === undefined || held(x as Sum, leafOf(step.lon)) === undefined) return 'dropped'
  place(into, step.lat, y)
  place(into, step.lon, x)
  return 'placed'
}

export function bindMoves(step: PlanPoint, services: Services): readonly Move[] {
  return step.chain.map((one) => {
    const move = specOf(one).move?.(one.params, step.point.name, services)
    if (move === undefined) throw new Error(`${one.name} does not fit a point`)
    return move
  })
}

const cell: Cell = { latE7: 0, lonE7: 0 }

function moveOn(moves: readonly Move[], moment: Moment): boolean {
  for (const move of moves) if (!move(cell, moment)) return false
  return true
}

function leafOf(path: readonly FieldShape[]): FieldShape {
  return path[path.length - 1] as FieldShape
}

function scalarAt(from: Tree, path: readonly FieldShape[]): Value {
  return (slotAt(from, path) as Value | undefined) ?? zeroOf(leafOf(path))
}

/** [rules-language 4.4] all parts zero, or `valid` false or in error: there is no position. */
function isPresent(step: PlanPoint, from: Tree, scope: Scope): boolean {
  const isNothing = (path: readonly FieldShape[]): boolean => {
    const slot = slotAt(from, path) as Value | undefined
    return slot === undefined || isZero(slot)
  }
  if (isNothing(step.lat) && isNothing(step.lon)) return false
  return step.point.valid === undefined || evaluate(step.point.valid, from, scope) === true
}

type Track = NonNullable<PlanPoint['track']>

/**
 * A delta track: a base, which is where the machine was at the stream's time, then steps in place and time. The points are summed up,
 * thinned, moved one by one and written as differences of what leaves, so that no remainder of a finer position stays in a step.
 *
 * A point that cannot be moved (hidden, off the earth) or whose step its field cannot hold stays behind; the step to the next one
 * spans the time between. When the first points stay behind, the base is the first point that leaves, followed by a step of no length
 * that lasts until that point's time: so the times of all later points stay right beside the stream's time, which is a field of its
 * own, and the result tells how long nothing was shown, not how many points that were. The base itself is then shown too early, by
 * that first step.
 *
 *   base 10°, steps +1° after 60 s, +1° after 60 s, +1° after 30 s; all below 12° hidden:   12°, step 0° after 120 s, +1° after 30 s
 *
 * Under `keep` alone the fields leave as they are. Sums are exact: whole numbers of any width in integers.
 */
function applyTrack(step: PlanPoint, track: Track, moves: readonly Move[], base: Place, from: Tree, into: Tree, moment: Moment): boolean {
  const lists: TrackLists = { lat: listAt(from, track.dlat), lon: listAt(from, track.dlon), time: track.dt === undefined ? undefined : listAt(from, track.dt) }
  // Steps that do not belong together cannot be summed up.
  if (lists.lat.length !== lists.lon.length || (lists.time !== undefined && lists.time.length !== lists.lat.length)) return false
  const writer = new TrackWriter(step, track)
  if (step.chain.length === 0) return writer.copy(base, lists, into)
  const spacing = step.chain.find((one) => one.name === 'thin')?.params.wire as number | undefined
  const isOnlyThinned = step.chain.every((one) => one.name === 'thin')
  let { lat, lon } = base
  let time: Sum = 0
  let kept: Sum | undefined
  for (let at = 0; at <= lists.lat.length; at++) {
    if (at > 0) {
      lat = plus(lat, lists.lat[at - 1] as Sum)
      lon = plus(lon, lists.lon[at - 1] as Sum)
      time = plus(time, lists.time?.[at - 1] ?? 0)
    }
    if (spacing !== undefined && kept !== undefined && Number(minus(time, kept)) < spacing) continue
    const here = isOnlyThinned ? { lat, lon } : movePlace(step, moves, lat, lon, moment)
    if (here !== undefined && writer.add(here, time)) kept = time
  }
  return writer.finish(into)
}

interface Place {
  readonly lat: Sum
  readonly lon: Sum
}

interface TrackLists {
  readonly lat: readonly Sum[]
  readonly lon: readonly Sum[]
  readonly time: readonly Sum[] | undefined
}

/** What is summed up: 32-bit and floating point numbers as numbers (a message is too short for them to leave 2^53), 64-bit ones as bigints. */
type Sum = number | bigint

function plus(sum: Sum, more: Sum): Sum {
  if (typeof sum === typeof more) return typeof sum === 'bigint' ? sum + (more as bigint) : sum + (more as number)
  const [wide, other] = typeof sum === 'bigint' ? [sum, Number(more)] : [more as bigint, sum as number]
  return Number.isInteger(other) ? wide + BigInt(other) : Number(wide) + other
}

function minus(sum: Sum, less: Sum): Sum {
  return plus(sum, typeof less === 'bigint' ? -less : 0 - less)
}

function movePlace(step: PlanPoint, moves: readonly Move[], lat: Sum, lon: Sum, moment: Moment): Place | undefined {
  const { scale } = step.point
  cell.latE7 = toE7(Number(lat), scale)
  cell.lonE7 = toE7(Number(lon), scale)
  if (!moveOn(moves, moment)) return undefined
  return { lat: fromE7(cell.latE7, scale, leafOf(step.lat)) as Sum, lon: fromE7(cell.lonE7, scale, leafOf(step.lon)) as Sum }
}

function listAt(from: Tree, path: readonly FieldShape[]): readonly Sum[] {
  return (slotAt(from, path) as Sum[] | undefined) ?? []
}

/** Turns the points that leave into a base and steps, following what a reader of them adds up: floating point steps do not drift apart. */
class TrackWriter {
  private readonly step: PlanPoint
  private readonly track: Track
  private steps: { lat: Sum[]; lon: Sum[]; time: Sum[] } = { lat: [], lon: [], time: [] }
  private base: Place | undefined
  /** What a reader has added up so far. */
  private read: Place & { readonly time: Sum } = { lat: 0, lon: 0, time: 0 }

  constructor(step: PlanPoint, track: Track) {
    this.step = step
    this.track = track
  }

  /** False when a field cannot hold it: the point stays behind. */
  add(at: Place, time: Sum): boolean {
    const { track, read, steps } = this
    const isFirst = this.base === undefined
    const lat = held(isFirst ? at.lat : minus(at.lat, read.lat), leafOf(isFirst ? this.step.lat : track.dlat))
    const lon = held(isFirst ? at.lon : minus(at.lon, read.lon), leafOf(isFirst ? this.step.lon : track.dlon))
    const lasts = track.dt === undefined ? 0 : held(minus(time, read.time), leafOf(track.dt))
    if (lat === undefined || lon === undefined || lasts === undefined) return false
    if (isFirst) this.base = { lat, lon }
    // The base stands for the stream's time, so a later first point needs a step of its own to say when it was.
    const isLate = isFirst && track.dt !== undefined && Number(lasts) !== 0
    if (!isFirst || isLate) {
      steps.lat.push(isFirst ? (zeroOf(leafOf(track.dlat)) as Sum) : lat)
      steps.lon.push(isFirst ? (zeroOf(leafOf(track.dlon)) as Sum) : lon)
      steps.time.push(lasts)
    }
    this.read = { lat: plus(read.lat, lat), lon: plus(read.lon, lon), time: plus(read.time, lasts) }
    return true
  }

  /** The fields as they came. */
  copy(base: Place, lists: TrackLists, into: Tree): boolean {
    this.base = base
    this.steps = { lat: [...lists.lat], lon: [...lists.lon], time: [...(lists.time ?? [])] }
    return this.finish(into)
  }

  /** Writes what has been added; false when nothing has. */
  finish(into: Tree): boolean {
    const { base, steps, step, track } = this
    if (base === undefined) return false
    place(into, step.lat, base.lat)
    place(into, step.lon, base.lon)
    if (steps.lat.length === 0) return true
    placeList(into, track.dlat, steps.lat)
    placeList(into, track.dlon, steps.lon)
    if (track.dt !== undefined) placeList(into, track.dt, steps.time)
    return true
  }
}

/** A number as its field holds it, or undefined when it is out of the field's range. */
export function held(number: number | bigint, field: FieldShape): Sum | undefined {
  const range = RANGES[field.type]
  if (range === undefined) {
    const value = field.type === 'float' ? Math.fround(Number(number)) : Number(number)
    return Number.isFinite(value) ? value : undefined
  }
  if (typeof number === 'number' && !Number.isSafeInteger(number)) return undefined
  const whole = BigInt(number)
  if (whole < range[0] || whole > range[1]) return undefined
  return field.type.endsWith('64') ? whole : Number(whole)
}

/** Wire value -> degrees times 1e7, whole. */
export function toE7(value: number, scale: number): number {
  return roundHalfAway(value * Math.round(scale * 1e7 * 1e6) / 1e6)
}

/** Degrees times 1e7 -> wire value of the field. */
export function fromE7(e7: number, scale: number, field: FieldShape): Value {
  if (field.type === 'double' || field.type === 'float') return scale === 1 ? e7 / 100 / 1e5 : e7 / 1e7 / scale
  const wire = roundHalfAway(e7 / Math.round(scale * 1e7 * 1e6) * 1e6)
  return field.type.endsWith('64') ? BigInt(wire) : wire
}

function placeList(into: Tree, path: readonly FieldShape[], list: readonly Value[]): void {
  messageAt(into, path).slots.set(leafOf(path).number, [...list])
}

/** Sets a value at a path, making the messages on the way; defaults of fields without presence are left out. */
function place(into: Tree, path: readonly FieldShape[], value: Value): void {
  const leaf = path[path.length - 1] as FieldShape
  if (!leaf.presence && isZero(value)) return
  messageAt(into, path).slots.set(leaf.number, value)
}

function messageAt(into: Tree, path: readonly FieldShape[]): Tree {
  let here = into
  for (const field of path.slice(0, -1)) {
    let child = here.slots.get(field.number)
    if (!isTree(child)) {
      child = emptyTree(field.message as NonNullable<FieldShape['message']>)
      here.slots.set(field.number, child)
    }
    here = child as Tree
  }
  return here
}
