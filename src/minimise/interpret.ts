/**
 * The readable engine: decode to a tree, apply the plan, encode canonically. It takes everything that is valid protobuf and is
 * the meaning of a plan; the generated function is the fast path for the canonical input and must give the same bytes.
 */
import type { Transform } from '../domain/policy.ts'
import type { FieldShape } from '../domain/schema.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { Verdict } from '../domain/verdict.ts'
import { NO_SCOPE, evaluate, type Scope } from './condition.ts'
import { bindKnown, type ApplyKnown } from './known.ts'
import { nodesOf, stepsAlong, type Plan, type PlanNode, type PlanPoint, type PlanStep } from './plan.ts'
import { applyPoint, bindMoves } from './points.ts'
import { specOf, type Apply, type Moment, type Move, type Services } from './transforms.ts'
import { decodeTree, emptyTree, encodeTree, isTree, slotAt, type Single, type Slot, type Tree } from './tree.ts'
import { isZero, textOf, zeroOf, type Value } from './value.ts'
import { Malformed, Writer } from './wire.ts'

/** What a minimiser reads beside the bytes, and where it leaves the topic. Reused from message to message. */
export interface Context extends Moment {
  scope: Scope
  /** Receives the topic of the result. */
  topic: string
  /** The output's basis here is a legal obligation: a condition in error counts as true, for `personal: never` fields only. */
  legal: boolean
  /** Counts fields that were dropped because a transform could not be applied. */
  failures: number
  /** Number of the message in hand. While it stays the same, so does the message, and it is decoded once for all outputs; 0 = nothing is shared. */
  message: number
  /** The message in hand as it was decoded; belongs to the interpreter. */
  decoded: Decoded | undefined
}

interface Decoded {
  readonly message: number
  readonly start: number
  readonly end: number
  readonly tree: Tree
}

export function createContext(): Context {
  return { eventMs: Number.NaN, session: '', scope: NO_SCOPE, cells: undefined, machine: '', topic: '', legal: false, failures: 0, message: 0, decoded: undefined }
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
      return interpret(bound, treeOf(plan, source, start, end, cx), target, at, cx)
    } catch (error) {
      if (error instanceof Malformed) return error.code
      throw error
    }
  }
}

/** Results are read from the tree and never written to it, so that outputs can share it. A generated function may ask for a part of the message. */
function treeOf({ message: shape }: Plan, source: Uint8Array, start: number, end: number, cx: Context): Tree {
  const { message, decoded } = cx
  if (decoded !== undefined && message !== 0 && decoded.message === message && decoded.tree.shape === shape && decoded.start === start && decoded.end === end) return decoded.tree
  const tree = decodeTree(shape, source, start, end)
  if (message !== 0) cx.decoded = { message, start, end, tree }
  return tree
}

/** The plan with its transforms' code attached and its paths resolved; built once. */
interface Bound {
  readonly plan: Plan
  readonly chains: ReadonlyMap<PlanStep, readonly Apply[]>
  readonly known: ReadonlyMap<PlanStep, ApplyKnown>
  readonly moves: ReadonlyMap<PlanPoint, readonly Move[]>
  readonly require: readonly Required[]
  /** Texts, and the steps to a field. */
  readonly topic: readonly (string | Located | undefined)[]
  readonly onError: Bound | undefined
}

/** What a path leads to: the steps on the way, the last of which is the field's own. */
type Located = readonly PlanStep[]
/** Undefined is a path that this plan drops. */
type Required = PlanPoint | Located | undefined

function bind(plan: Plan, services: Services): Bound {
  const chains = new Map<PlanStep, readonly Apply[]>()
  const known = new Map<PlanStep, ApplyKnown>()
  for (const { steps } of nodesOf(plan.root)) {
    for (const step of steps) {
      if (step.kind === 'value') chains.set(step, bindChain(step.chain, step.field, services))
      else if (step.kind === 'known') known.set(step, bindKnown(step.chain, step.field, services))
    }
  }
  return {
    plan, chains, known,
    moves: new Map(plan.points.map((point) => [point, bindMoves(point, services)])),
    require: [...new Set(plan.require)].map((path) => plan.points.find((one) => one.point.name === path) ?? stepsAlong(plan.root, path)),
    topic: plan.topic.map((piece) => ('text' in piece ? piece.text : stepsAlong(plan.root, piece.path))),
    onError: plan.onError === undefined ? undefined : bind(plan.onError, services),
  }
}

export function bindChain(chain: readonly Transform[], field: FieldShape, services: Services): readonly Apply[] {
  return chain.map((one) => specOf(one).bind(one.params, field, services))
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
  for (const point of plan.points) placePoint(point, tree, result, state)

  // [rules-language 4.6] a required field is missing when it was absent or its transform could not be applied.
  for (const one of bound.require) if (isMissing(one, result, state)) return Verdict.required_missing.code
  if (state.content === 0) return Verdict.empty.code

  const topic = topicOf(bound, result, state)
  if (topic === undefined) return Verdict.bad_topic_value.code
  const bytes = encodeTree(result, writer.reset()).finish()
  if (at + bytes.length > target.length) return Verdict.too_big.code
  target.set(bytes, at)
  cx.topic = topic
  return at + bytes.length
}

/** Reused: a result is copied out before the next one is made. */
const writer = new Writer()

interface State {
  readonly bound: Bound
  readonly cx: Context
  /** What a transform gave nothing of. Only steps with a chain can be here, and those belong to one place in the plan. */
  readonly dropped: Set<PlanStep | PlanPoint>
  /** Fields written that are neither machine, time nor topic. */
  content: number
}

function applyNode(node: PlanNode, from: Tree, into: Tree, state: State): void {
  for (const step of node.steps) {
    const slot = from.slots.get(step.field.number)
    switch (step.kind) {
      case 'value': applyValue(step, slot, from, into, state); break
      case 'node': if (slot !== undefined) applyMessages(step, slot, into, state); break
      case 'known': if (slot !== undefined) applyKnown(step, slot, into, state); break
      case 'keyed': if (Array.isArray(slot)) applyKeyed(step, slot as Tree[], into, state); break
    }
  }
}

function applyValue(step: PlanStep & { kind: 'value' }, slot: Slot | undefined, from: Tree, into: Tree, state: State): void {
  const { field } = step
  const chain = state.bound.chains.get(step) as readonly Apply[]
  if (field.repeated) {
    if (!Array.isArray(slot)) return
    if (chain.length === 0) {
      set(into, step, slot, state)
      return
    }
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
    state.dropped.add(step)
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
  if (!step.header) state.content++
}

function applyMessages(step: PlanStep & { kind: 'node' }, slot: Slot, into: Tree, state: State): void {
  const { field, node } = step
  if (isTree(slot)) {
    const result = applied(node, slot, state)
    if (result.slots.size > 0) into.slots.set(field.number, result)
    // [rules-language 4.4] A message that is kept with all it may hold has presence. Of any other, an empty one would tell that hidden fields were there.
    else if (node.whole) {
      into.slots.set(field.number, result)
      if (!step.header && (node.steps.length === 0 || node.steps.some((one) => !one.header))) state.content++
    }
    return
  }
  // What leaves whole need not be copied.
  if (node.whole) {
    set(into, step, slot, state)
    return
  }
  const list: Tree[] = []
  for (const one of slot as Tree[]) {
    if (!field.map) {
      list.push(applied(node, one, state))
      continue
    }
    const value = one.slots.get(2)
    if (isTree(value)) {
      list.push(entryOf(one, applied(node, value, state)))
      continue
    }
    const entry = entryOf(one, undefined)
    applyNode(node, one, entry, state)
    // A value that could not be transformed takes its key along; alone the key would read as a zero value.
    if (entry.slots.has(2)) list.push(entry)
  }
  if (list.length > 0) set(into, step, list, state)
}

function applied(node: PlanNode, from: Tree, state: State): Tree {
  const result = emptyTree(node.shape)
  applyNode(node, from, result, state)
  return result
}

/** An entry of a map with the same key. */
function entryOf(from: Tree, value: Tree | undefined): Tree {
  const entry = emptyTree(from.shape)
  const key = from.slots.get(1)
  if (key !== undefined) entry.slots.set(1, key)
  if (value !== undefined) entry.slots.set(2, value)
  return entry
}

/** Well-known types under transforms. What cannot be transformed goes alone; what became zero stays, for it has presence. */
function applyKnown(step: PlanStep & { kind: 'known' }, slot: Slot, into: Tree, state: State): void {
  const apply = state.bound.known.get(step) as ApplyKnown
  if (isTree(slot)) {
    const result = apply(slot, state.cx)
    if (result !== undefined) {
      set(into, step, result, state)
      return
    }
    state.cx.failures++
    state.dropped.add(step)
    return
  }
  const list: Tree[] = []
  for (const one of slot as Tree[]) {
    const result = apply(step.field.map ? (one.slots.get(2) as Tree) : one, state.cx)
    if (result === undefined) state.cx.failures++
    else list.push(step.field.map ? entryOf(one, result) : result)
  }
  if (list.length > 0) set(into, step, list, state)
}

/** Key-value lists: an element leaves only when its key is listed, and then only its listed members. */
function applyKeyed(step: PlanStep & { kind: 'keyed' }, elements: readonly Tree[], into: Tree, state: State): void {
  const { by, key, nodes } = step.keyed
  const list: Tree[] = []
  for (const element of elements) {
    const raw = Number((element.slots.get(key.number) as Value | undefined) ?? zeroOf(key))
    const node = nodes.get(by.fn === 'j1939_pgn' ? pgnOf(raw) : raw)
    if (node === undefined) continue
    list.push(applied(node, element, state))
  }
  if (list.length > 0) set(into, step, list, state)
}

/** [SAE J1939-21] PGN of a 29-bit identifier: PDU1 formats (below 240) carry a destination in the low byte, which is no part of it. */
export function pgnOf(id: number): number {
  const format = (id >>> 16) & 0xff
  const page = (id >>> 24) & 0x03
  return (page << 16) | (format << 8) | (format < 240 ? 0 : (id >>> 8) & 0xff)
}

function placePoint(step: PlanPoint, from: Tree, into: Tree, state: State): void {
  const end = applyPoint(step, state.bound.moves.get(step) as readonly Move[], from, into, state.cx)
  if (end === 'placed') state.content++
  if (end !== 'dropped') return
  state.cx.failures++
  state.dropped.add(step)
}

// ------------------------------------------------------------------------------------------------------- require and topic

function isMissing(one: Required, result: Tree, state: State): boolean {
  if (one === undefined) return true
  if ('point' in one) return slotAt(result, one.lat) === undefined && slotAt(result, one.lon) === undefined
  return slotOf(one, result, state) === undefined
}

/**
 * The slot of a field in the result. Without presence a field has its zero value, as long as the message that holds it leaves; what
 * lies in a message that does not leave, in a list, or could not be transformed, is not there.
 */
function slotOf(steps: Located, result: Tree, state: State): Slot | undefined {
  const { field, kind } = steps[steps.length - 1] as PlanStep
  if (state.dropped.has(steps[steps.length - 1] as PlanStep)) return undefined
  const owner = slotAt(result, steps.slice(0, -1).map((step) => step.field))
  if (!isTree(owner)) return undefined
  return owner.slots.get(field.number) ?? (kind === 'value' && !field.presence && !field.repeated ? zeroOf(field) : undefined)
}

function topicOf({ topic }: Bound, result: Tree, state: State): string | undefined {
  let text = ''
  for (const piece of topic) {
    const level = typeof piece === 'string' ? piece : piece === undefined ? undefined : levelOf(piece, result, state)
    if (level === undefined) return undefined
    text += level
  }
  return text
}

/** The text that a field fills into a topic; undefined when it has none, or none that a topic can have. */
function levelOf(steps: Located, result: Tree, state: State): string | undefined {
  const value = slotOf(steps, result, state) as Value | undefined
  const { field } = steps[steps.length - 1] as PlanStep
  const text = value === undefined ? undefined : field.enum !== undefined ? (field.enum.names.get(value as number) ?? String(value)) : textOf(value)
  return text !== undefined && isTopicLevel(text) ? text : undefined
}
