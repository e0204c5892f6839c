/**
 * The readable engine: decode to a tree, apply the plan, encode canonically. It takes everything that is valid protobuf and is
 * the meaning of a plan; the generated function is the fast path for the canonical input and must give the same bytes.
 */
import type { Transform } from '../domain/policy.ts'
import type { FieldShape } from '../domain/schema.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { Verdict } from '../domain/verdict.ts'
import { NO_SCOPE, evaluate, type Scope } from './condition.ts'
import type { Cell } from './grid.ts'
import { floorBig, roundHalfAway } from './number.ts'
import type { Plan, PlanNode, PlanPoint, PlanStep } from './plan.ts'
import { specOf, type Apply, type Moment, type Move, type Services } from './transforms.ts'
import { decodeTree, emptyTree, encodeTree, isTree, slotAt, type Single, type Slot, type Tree } from './tree.ts'
import { isZero, textOf, zeroOf, type Value } from './value.ts'
import { Malformed } from './wire.ts'

/** What a minimiser reads beside the bytes, and where it leaves the topic. Reused from message to message. */
export interface Context extends Moment {
  scope: Scope
  /** Receives the topic of the result. */
  topic: string
  /** The output's basis here is a legal obligation: a condition in error counts as true, for `personal: never` fields only. */
  legal: boolean
  /** Counts fields that were dropped because a transform could not be applied. */
  failures: number
}

export function createContext(): Context {
  return { eventMs: Number.NaN, session: '', scope: NO_SCOPE, cells: undefined, machine: '', topic: '', legal: false, failures: 0 }
}

/**
 * Minimises the message in `source[start, end)` into `target` from `at`.
 * Returns the new end in `target` (>= at), or a negative Verdict code. Never throws on hostile input.
 */
export type Run = (source: Uint8Array, start: number, end: number, target: Uint8Array, at: number, cx: Context) => number

export function createInterpreter(plan: Plan, services: Services): Run {
  const bound = bind(plan, services)
  return (source, start, end, target, at, cx) => {
    try {
      return interpret(bound, decodeTree(plan.message, source, start, end), target, at, cx)
    } catch (error) {
      if (error instanceof Malformed) return error.code
      throw error
    }
  }
}

/** The plan with its transforms' code attached; built once. */
interface Bound {
  readonly plan: Plan
  readonly chains: ReadonlyMap<PlanStep, readonly Apply[]>
  readonly moves: ReadonlyMap<PlanPoint, readonly Move[]>
  readonly require: ReadonlySet<string>
  readonly onError: Bound | undefined
}

function bind(plan: Plan, services: Services): Bound {
  const chains = new Map<PlanStep, readonly Apply[]>()
  const visit = (node: PlanNode): void => {
    for (const step of node.steps) {
      if (step.kind === 'value' || step.kind === 'timestamp') chains.set(step, bindChain(step.chain, step.field, services))
      else if (step.kind === 'node') visit(step.node)
      else for (const inner of step.keyed.nodes.values()) visit(inner)
    }
  }
  visit(plan.root)
  const moves = new Map(plan.points.map((point) => [point, bindMoves(point, services)]))
  return { plan, chains, moves, require: new Set(plan.require), onError: plan.onError === undefined ? undefined : bind(plan.onError, services) }
}

export function bindChain(chain: readonly Transform[], field: FieldShape, services: Services): readonly Apply[] {
  return chain.map((one) => specOf(one).bind(one.params, field, services))
}

export function bindMoves(step: PlanPoint, services: Services): readonly Move[] {
  return step.chain.map((one) => {
    const move = specOf(one).move?.(one.params, step.point.name, services)
    if (move === undefined) throw new Error(`${one.name} does not fit a point`)
    return move
  })
}

function interpret(bound: Bound, tree: Tree, target: Uint8Array, at: number, cx: Context): number {
  const { plan } = bound
  if (plan.when !== undefined) {
    const holds = evaluate(plan.when, tree, cx.scope)
    if (holds === undefined) return bound.onError === undefined || !cx.legal ? Verdict.when_error.code : interpret(bound.onError, tree, target, at, cx)
    if (!holds) return Verdict.when_false.code
  }
  const state: State = { bound, cx, dropped: new Set(), content: 0 }
  const result = emptyTree(plan.message)
  applyNode(plan.root, tree, result, state)
  for (const point of plan.points) applyPoint(point, tree, result, state)

  // [rules-language 4.6] a required field is missing when it was absent or its transform could not be applied.
  for (const path of bound.require) if (isMissing(path, plan, result, state)) return Verdict.required_missing.code
  if (state.content === 0) return Verdict.empty.code

  const topic = topicOf(plan, result, state.dropped)
  if (topic === undefined) return Verdict.bad_topic_value.code
  const bytes = encodeTree(result).finish()
  if (at + bytes.length > target.length) return Verdict.too_big.code
  target.set(bytes, at)
  cx.topic = topic
  return at + bytes.length
}

interface State {
  readonly bound: Bound
  readonly cx: Context
  /** Paths whose transform gave nothing. */
  readonly dropped: Set<string>
  /** Fields written that are neither machine, time nor topic. */
  content: number
}

function applyNode(node: PlanNode, from: Tree, into: Tree, state: State): void {
  for (const step of node.steps) {
    const slot = from.slots.get(step.field.number)
    switch (step.kind) {
      case 'value': applyValue(step, slot, from, into, state); break
      case 'node': if (slot !== undefined) applyMessages(step, slot, into, state); break
      case 'timestamp': if (isTree(slot)) applyTimestamp(step, slot, into, state); break
      case 'keyed': if (Array.isArray(slot)) applyKeyed(step, slot as Tree[], into, state); break
    }
  }
}

function applyValue(step: PlanStep & { kind: 'value' }, slot: Slot | undefined, from: Tree, into: Tree, state: State): void {
  const { field } = step
  const chain = state.bound.chains.get(step) as readonly Apply[]
  if (field.repeated) {
    if (!Array.isArray(slot)) return
    const list: Single[] = []
    for (const one of slot) {
      const value = applyChain(chain, one as Value, state.cx)
      if (value === undefined) state.cx.failures++
      else list.push(value)
    }
    if (list.length > 0) set(into, step, list, state)
    return
  }
  // [rules-language 4.4] absent and default are the same without presence; a field with presence is never made up.
  if (slot === undefined && (field.presence || from.shape.entry === true)) return
  const value = applyChain(chain, (slot as Value | undefined) ?? zeroOf(field), state.cx)
  if (value === undefined) {
    state.cx.failures++
    state.dropped.add(step.path)
    return
  }
  // Both parts of a map entry are always written.
  if (!field.presence && isZero(value) && from.shape.entry !== true) return
  set(into, step, value, state)
}

function applyChain(chain: readonly Apply[], value: Value, moment: Moment): Value | undefined {
  let result: Value | undefined = value
  for (const apply of chain) {
    result = apply(result, moment)
    if (result === undefined) return undefined
  }
  return result
}

function set(into: Tree, step: PlanStep, slot: Slot, state: State): void {
  into.slots.set(step.field.number, slot)
  if (!state.bound.plan.header.has(step.path)) state.content++
}

function applyMessages(step: PlanStep & { kind: 'node' }, slot: Slot, into: Tree, state: State): void {
  const { field, node } = step
  if (isTree(slot)) {
    const result = emptyTree(node.shape)
    applyNode(node, slot, result, state)
    // A message of which nothing is left would tell that hidden fields were there.
    if (result.slots.size > 0) into.slots.set(field.number, result)
    return
  }
  const list: Tree[] = []
  for (const one of slot as Tree[]) {
    if (!field.map) {
      const result = emptyTree(node.shape)
      applyNode(node, one, result, state)
      list.push(result)
      continue
    }
    const entry = emptyTree(one.shape)
    const key = one.slots.get(1)
    if (key !== undefined) entry.slots.set(1, key)
    const value = one.slots.get(2)
    if (isTree(value)) {
      const result = emptyTree(node.shape)
      applyNode(node, value, result, state)
      entry.slots.set(2, result)
    } else {
      applyNode(node, one, entry, state)
      // A value that could not be transformed takes its key along; alone the key would read as a zero value.
      if (!entry.slots.has(2)) continue
    }
    list.push(entry)
  }
  if (list.length > 0) {
    set(into, step, list, state)
  }
}

function applyTimestamp(step: PlanStep & { kind: 'timestamp' }, from: Tree, into: Tree, state: State): void {
  let seconds = (from.slots.get(1) as bigint | undefined) ?? 0n
  let nanos = BigInt((from.slots.get(2) as number | undefined) ?? 0)
  const isTime = nanos >= 0n && nanos <= 999_999_999n
  for (const one of step.chain) {
    const total = floorBig(seconds * 1_000_000_000n + nanos, BigInt(one.params.ms as number) * 1_000_000n)
    seconds = floorBig(total, 1_000_000_000n) / 1_000_000_000n
    nanos = total - seconds * 1_000_000_000n
  }
  if (!isTime || BigInt.asIntN(64, seconds) !== seconds) {
    state.cx.failures++
    state.dropped.add(step.path)
    return
  }
  const result = emptyTree(from.shape)
  if (seconds !== 0n) result.slots.set(1, seconds)
  if (nanos !== 0n) result.slots.set(2, Number(nanos))
  if (result.slots.size > 0) set(into, step, result, state)
}

/** Key-value lists: an element leaves only when its key is listed, and then only its listed members. */
function applyKeyed(step: PlanStep & { kind: 'keyed' }, elements: readonly Tree[], into: Tree, state: State): void {
  const { by, key, nodes } = step.keyed
  const list: Tree[] = []
  for (const element of elements) {
    const raw = Number((element.slots.get(key.number) as Value | undefined) ?? 0)
    const node = nodes.get(by.fn === 'j1939_pgn' ? pgnOf(raw) : raw)
    if (node === undefined) continue
    const result = emptyTree(element.shape)
    applyNode(node, element, result, state)
    list.push(result)
  }
  if (list.length > 0) set(into, step, list, state)
}

/** [SAE J1939-21] PGN of a 29-bit identifier: PDU1 formats (below 240) carry a destination in the low byte, which is no part of it. */
export function pgnOf(id: number): number {
  const format = (id >>> 16) & 0xff
  const page = (id >>> 24) & 0x03
  return (page << 16) | (format << 8) | (format < 240 ? 0 : (id >>> 8) & 0xff)
}

// ------------------------------------------------------------------------------------------------------------------ points

const cell: Cell = { latE7: 0, lonE7: 0 }

function applyPoint(step: PlanPoint, from: Tree, into: Tree, state: State): void {
  if (!isPresent(step, from, state.cx.scope)) return
  const latField = leafOf(step.lat)
  const lonField = leafOf(step.lon)
  const lat = scalarAt(from, step.lat)
  const lon = scalarAt(from, step.lon)
  if (step.track !== undefined) {
    if (applyTrack(step, step.track, Number(lat), Number(lon), from, into, state)) state.content++
    else drop(step, state)
    return
  }
  if (step.chain.length === 0) {
    place(into, step.lat, lat)
    place(into, step.lon, lon)
    state.content++
    return
  }
  if (!moveCell(step, Number(lat), Number(lon), state)) {
    drop(step, state)
    return
  }
  place(into, step.lat, fromE7(cell.latE7, step.point.scale, latField))
  place(into, step.lon, fromE7(cell.lonE7, step.point.scale, lonField))
  state.content++
}

function drop(step: PlanPoint, state: State): void {
  state.cx.failures++
  state.dropped.add(step.point.name)
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

/** Runs the chain of a point into `cell`. False when it cannot be applied. */
function moveCell(step: PlanPoint, lat: number, lon: number, state: State): boolean {
  cell.latE7 = toE7(lat, step.point.scale)
  cell.lonE7 = toE7(lon, step.point.scale)
  return moveOn(state.bound.moves.get(step) as readonly Move[], state.cx)
}

function moveOn(moves: readonly Move[], cx: Context): boolean {
  for (const move of moves) if (!move(cell, cx)) return false
  return true
}

/**
 * A delta track: base, then steps. Points are summed up, thinned, moved one by one and written as differences of what leaves, so that
 * no remainder of a finer position stays in a difference. Points that cannot be moved (hidden, out of range) are left out.
 */
function applyTrack(step: PlanPoint, track: NonNullable<PlanPoint['track']>, lat0: number, lon0: number, from: Tree, into: Tree, state: State): boolean {
  const list = (path: readonly FieldShape[] | undefined): readonly number[] => (path === undefined ? [] : (((slotAt(from, path) as Value[] | undefined) ?? []).map(Number)))
  const [dlat, dlon, dt] = [list(track.dlat), list(track.dlon), list(track.dt)]
  // Steps that do not belong together cannot be summed up.
  if (dlat.length !== dlon.length || (track.dt !== undefined && dt.length !== dlat.length)) return false
  const spacing = step.chain.find((one) => one.name === 'thin')?.params.ms as number | undefined
  const moves = state.bound.moves.get(step) as readonly Move[]
  const points: { lat: number; lon: number; time: number }[] = []
  let lat = lat0
  let lon = lon0
  let time = 0
  let kept = Number.NEGATIVE_INFINITY
  for (let i = 0; i <= dlat.length; i++) {
    if (i > 0) {
      lat += dlat[i - 1] as number
      lon += dlon[i - 1] as number
      time += dt[i - 1] ?? 0
    }
    if (spacing !== undefined && time - kept < spacing) continue
    cell.latE7 = toE7(lat, step.point.scale)
    cell.lonE7 = toE7(lon, step.point.scale)
    if (!moveOn(moves, state.cx)) continue
    kept = time
    points.push({ lat: Number(fromE7(cell.latE7, step.point.scale, leafOf(step.lat))), lon: Number(fromE7(cell.lonE7, step.point.scale, leafOf(step.lon))), time })
  }
  const first = points[0]
  if (first === undefined) return false
  place(into, step.lat, asValue(first.lat, leafOf(step.lat)))
  place(into, step.lon, asValue(first.lon, leafOf(step.lon)))
  const differences = (pick: (point: { lat: number; lon: number; time: number }) => number, path: readonly FieldShape[]): void => {
    if (points.length > 1) placeList(into, path, points.slice(1).map((point, at) => asValue(pick(point) - pick(points[at] as typeof point), leafOf(path))))
  }
  differences((point) => point.lat, track.dlat)
  differences((point) => point.lon, track.dlon)
  if (track.dt !== undefined) differences((point) => point.time, track.dt)
  return true
}

function asValue(number: number, field: FieldShape): Value {
  return field.type.endsWith('64') ? BigInt(number) : number
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

// ------------------------------------------------------------------------------------------------------- require and topic

function isMissing(path: string, plan: Plan, result: Tree, state: State): boolean {
  const point = plan.points.find((one) => one.point.name === path)
  if (point !== undefined) return slotAt(result, point.lat) === undefined && slotAt(result, point.lon) === undefined
  const found = findStep(plan.root, path)
  if (found === undefined || state.dropped.has(path)) return true
  if (found.kind === 'value' && !found.field.presence && !found.field.repeated) return false
  return slotAt(result, shapesOf(plan.root, path)) === undefined
}

export function findStep(node: PlanNode, path: string): PlanStep | undefined {
  for (const step of node.steps) {
    if (step.path === path) return step
    if (step.kind === 'node' && path.startsWith(`${step.path}.`)) return findStep(step.node, path)
  }
  return undefined
}

function shapesOf(node: PlanNode, path: string): FieldShape[] {
  for (const step of node.steps) {
    if (step.path === path) return [step.field]
    if (step.kind === 'node' && path.startsWith(`${step.path}.`)) return [step.field, ...shapesOf(step.node, path)]
  }
  return []
}

function topicOf(plan: Plan, result: Tree, dropped: ReadonlySet<string>): string | undefined {
  let topic = ''
  for (const piece of plan.topic) {
    if ('text' in piece) {
      topic += piece.text
      continue
    }
    const path = shapesOf(plan.root, piece.path)
    const leaf = path[path.length - 1]
    if (leaf === undefined || dropped.has(piece.path)) return undefined
    const value = (slotAt(result, path) as Value | undefined) ?? (leaf.presence ? undefined : zeroOf(leaf))
    const text = value === undefined ? undefined : leaf.enum !== undefined ? (leaf.enum.names.get(value as number) ?? String(value)) : textOf(value)
    if (text === undefined || !isTopicLevel(text)) return undefined
    topic += text
  }
  return topic
}
