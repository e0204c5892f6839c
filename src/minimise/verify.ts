/**
 * An independent walk over a result's bytes that asserts that nothing outside the plan survived: known fields of the plan only,
 * exact wire types, ascending numbers, minimal varints. It shares no code with the engines that wrote the bytes (pair assertion):
 * on in tests and in `check`, sampled in production.
 */
import type { FieldShape } from '../domain/schema.ts'
import type { Plan, PlanNode, PlanStep } from './plan.ts'

/** Undefined when the bytes hold nothing that the plan does not name; otherwise what was found, by field number only. */
export function verify(plan: Plan, bytes: Uint8Array, start = 0, end = bytes.length): string | undefined {
  return walk(allowedBy(plan), bytes, start, end)
}

/** Field number -> what may stand there. */
interface Allowed {
  readonly fields: ReadonlyMap<number, { readonly field: FieldShape; readonly inner: Allowed | undefined }>
}

const cache = new WeakMap<Plan, Allowed>()

function allowedBy(plan: Plan): Allowed {
  let known = cache.get(plan)
  if (known === undefined) {
    known = allowedNode(plan.root, new Map())
    for (const { lat, lon, track } of plan.points) {
      for (const path of [lat, lon, track?.dlat, track?.dlon, track?.dt]) if (path !== undefined) known = withPath(known, path)
    }
    cache.set(plan, known)
  }
  return known
}

function withPath(allowed: Allowed, path: readonly FieldShape[]): Allowed {
  const field = path[0] as FieldShape
  const fields = new Map(allowed.fields)
  const inner = path.length === 1 ? undefined : withPath(fields.get(field.number)?.inner ?? { fields: new Map() }, path.slice(1))
  fields.set(field.number, { field, inner })
  return { fields }
}

/** A node that leads back to itself allows what it allows at any depth. */
function allowedNode(node: PlanNode, seen: Map<PlanNode, Allowed>): Allowed {
  const known = seen.get(node)
  if (known !== undefined) return known
  const fields = new Map<number, { field: FieldShape; inner: Allowed | undefined }>()
  const allowed = { fields }
  seen.set(node, allowed)
  for (const step of node.steps) fields.set(step.field.number, { field: step.field, inner: innerOf(step, seen) })
  return allowed
}

function innerOf(step: PlanStep, seen: Map<PlanNode, Allowed>): Allowed | undefined {
  const { field } = step
  if (step.kind === 'value') return undefined
  if (step.kind === 'known') return field.map ? entry(field, everything(field.message!.byNumber.get(2)!)) : everything(field)
  if (step.kind === 'node') {
    const inner = allowedNode(step.node, seen)
    return field.map ? entry(field, inner) : inner
  }
  // Which key allows which member is the engines' business and tested there; here: nothing that no key allows.
  const fields = new Map<number, { field: FieldShape; inner: Allowed | undefined }>()
  for (const node of step.keyed.nodes.values()) for (const [number, one] of allowedNode(node, seen).fields) fields.set(number, one)
  return { fields }
}

/** Both parts of a map's entry. */
function entry(field: FieldShape, inner: Allowed): Allowed {
  const [key, value] = field.message!.fields
  return { fields: new Map([[1, { field: key!, inner: undefined }], [2, { field: value!, inner: value!.message === undefined ? undefined : inner }]]) }
}

function everything(field: FieldShape): Allowed {
  return { fields: new Map((field.message?.fields ?? []).map((one) => [one.number, { field: one, inner: undefined }])) }
}

const TYPES: Readonly<Record<string, number>> = {
  double: 1, fixed64: 1, sfixed64: 1, float: 5, fixed32: 5, sfixed32: 5, string: 2, bytes: 2, message: 2, group: 3,
}

function walk(allowed: Allowed, bytes: Uint8Array, start: number, end: number): string | undefined {
  let at = start
  let last = 0
  while (at < end) {
    const tag = minimal(bytes, at, end)
    if (tag === undefined) return `a tag behind field ${last} is not canonical`
    at = tag.end
    const number = Number(tag.value >> 3n)
    const wire = Number(tag.value & 7n)
    const found = allowed.fields.get(number)
    if (found === undefined) return `field ${number} is not in the plan`
    const { field, inner } = found
    if (wire !== (field.packed ? 2 : (TYPES[field.type] ?? 0))) return `field ${number} has wire type ${wire}`
    if (number < last || (number === last && !(field.repeated && !field.packed))) return `field ${number} is out of order or repeated`
    last = number
    if (wire === 0) {
      const value = minimal(bytes, at, end)
      if (value === undefined) return `the varint of field ${number} is not minimal`
      at = value.end
    } else if (wire === 1) at += 8
    else if (wire === 5) at += 4
    else if (wire === 2) {
      const length = minimal(bytes, at, end)
      if (length === undefined || length.value > BigInt(end - length.end)) return `the length of field ${number} is wrong`
      at = length.end + Number(length.value)
      if (field.message !== undefined) {
        const problem = inner === undefined ? 'is not in the plan' : walk(inner, bytes, length.end, at)
        if (problem !== undefined) return `in field ${number}: ${problem}`
      }
    } else if (wire === 3) {
      const inside = groupEnd(bytes, at, end)
      if (inside === undefined) return `the group of field ${number} has no end`
      const problem = inner === undefined ? 'is not in the plan' : walk(inner, bytes, at, inside.from)
      if (problem !== undefined) return `in field ${number}: ${problem}`
      at = inside.to
    }
    if (at > end) return `field ${number} runs past the end`
  }
  return undefined
}

/** Where the end tag of a group begins and ends; groups inside it have ends of their own. */
function groupEnd(bytes: Uint8Array, start: number, end: number): { readonly from: number; readonly to: number } | undefined {
  let at = start
  let depth = 0
  while (at < end) {
    const from = at
    const tag = minimal(bytes, at, end)
    if (tag === undefined) return undefined
    at = tag.end
    const wire = Number(tag.value & 7n)
    if (wire === 4) {
      if (depth === 0) return { from, to: at }
      depth--
    } else if (wire === 3) depth++
    else if (wire === 1) at += 8
    else if (wire === 5) at += 4
    else {
      const value = minimal(bytes, at, end)
      if (value === undefined) return undefined
      at = wire === 2 ? value.end + Number(value.value) : value.end
    }
  }
  return undefined
}

function minimal(bytes: Uint8Array, at: number, end: number): { value: bigint; end: number } | undefined {
  let value = 0n
  for (let i = 0; i < 10 && at + i < end; i++) {
    const byte = bytes[at + i]!
    value |= BigInt(byte & 127) << BigInt(7 * i)
    if (byte < 128) return i > 0 && byte === 0 ? undefined : { value, end: at + i + 1 }
  }
  return undefined
}
