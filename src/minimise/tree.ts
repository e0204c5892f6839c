/**
 * A message as a tree of known fields: the readable engine's form. Decoding resolves everything a terminal may legally do
 * (any order, duplicates: last wins, split sub-messages: merged, packed and unpacked mixed, overlong varints), so that the
 * gateway's reading and the cloud's cannot differ; unknown fields, unknown members and wrong wire types do not enter the tree.
 */
import { LIMITS } from '../domain/limits.ts'
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { Verdict } from '../domain/verdict.ts'
import { isZero, textOf, zeroOf, type Value } from './value.ts'
import { Cursor, Malformed, Wire, Writer } from './wire.ts'

export interface Tree {
  readonly shape: MessageShape
  /** By field number. Repeated and map fields are lists; map entries are trees with fields 1 and 2, one per key. */
  readonly slots: Map<number, Slot>
  /** While decoding: entries of map fields by key. */
  places?: Map<number, Map<string, Tree>> | undefined
}

export type Single = Value | Tree
export type Slot = Single | Single[]

export function isTree(slot: Slot | undefined): slot is Tree {
  return typeof slot === 'object' && !(slot instanceof Uint8Array) && !Array.isArray(slot)
}

export function emptyTree(shape: MessageShape): Tree {
  return { shape, slots: new Map(), places: undefined }
}

/** Reads a whole message. Throws Malformed with a refusal code. */
export function decodeTree(shape: MessageShape, bytes: Uint8Array, start = 0, end = bytes.length): Tree {
  const tree = emptyTree(shape)
  const reader = new TreeReader(bytes, start, end)
  decodeInto(tree, reader, 0, 0)
  for (const one of reader.withMaps) closeMaps(one)
  return tree
}

class TreeReader extends Cursor {
  /** Messages with maps: their entries are put in lists at the very end, for a message may come in pieces. */
  readonly withMaps: Tree[] = []
}

/** Turns collected map entries into lists. */
function closeMaps(tree: Tree): void {
  for (const [number, byKey] of tree.places ?? []) tree.slots.set(number, [...byKey.values()])
  tree.places = undefined
}

/** The wire type a scalar has outside packed form. */
export function wireTypeOf(field: FieldShape): number {
  switch (field.type) {
    case 'double': case 'fixed64': case 'sfixed64': return Wire.fixed64
    case 'float': case 'fixed32': case 'sfixed32': return Wire.fixed32
    case 'string': case 'bytes': case 'message': return Wire.bytes
    case 'group': return Wire.startGroup
    default: return Wire.varint
  }
}

/** Reads fields into a tree until the cursor's end, or until the end tag of `group`. */
function decodeInto(tree: Tree, cursor: TreeReader, depth: number, group: number): void {
  while (cursor.at < cursor.end) {
    const tag = cursor.tag()
    if ((tag & 7) === Wire.endGroup) {
      if (group !== 0 && tag >>> 3 === group) return
      throw new Malformed(Verdict.bad_group.code)
    }
    const field = tree.shape.byNumber.get(tag >>> 3)
    if (field === undefined) cursor.skip(tag, depth)
    else decodeField(tree, field, tag, cursor, depth)
  }
  if (group !== 0) throw new Malformed(Verdict.bad_group.code)
}

function decodeField(tree: Tree, field: FieldShape, tag: number, cursor: TreeReader, depth: number): void {
  const wire = tag & 7
  const expected = wireTypeOf(field)
  if (field.message !== undefined) {
    if (wire !== expected) cursor.skip(tag, depth)
    else decodeMessage(tree, field, field.message, cursor, depth)
    return
  }
  if (wire === expected) {
    const value = decodeScalar(field, cursor)
    // A text that reads as absent is still the last of its name: it ends what came before it.
    if (value !== undefined || (field.type === 'string' && !field.repeated)) put(tree, field, value ?? '')
    if (value === undefined && field.type === 'string' && !field.repeated) tree.slots.delete(field.number)
    if (value === undefined && field.enum !== undefined && tree.shape.entry === true) tree.slots.set(field.number, NO_MEMBER)
    return
  }
  if (wire === Wire.bytes && field.repeated && field.type !== 'string' && field.type !== 'bytes') {
    const outer = cursor.end
    cursor.end = cursor.length()
    let list = tree.slots.get(field.number) as Single[] | undefined
    while (cursor.at < cursor.end) {
      const value = decodeScalar(field, cursor)
      if (value === undefined) continue
      if (list === undefined) tree.slots.set(field.number, (list = []))
      list.push(value)
    }
    cursor.end = outer
    return
  }
  cursor.skip(tag, depth)
}

function decodeMessage(tree: Tree, field: FieldShape, shape: MessageShape, cursor: TreeReader, depth: number): void {
  if (depth + 1 >= LIMITS.depth) throw new Malformed(Verdict.too_deep.code)
  const earlier = tree.slots.get(field.number)
  const child = !field.repeated && isTree(earlier) ? earlier : emptyTree(shape)
  if (field.type === 'group') {
    decodeInto(child, cursor, depth + 1, field.number)
  } else {
    const outer = cursor.end
    cursor.end = cursor.length()
    decodeInto(child, cursor, depth + 1, 0)
    cursor.end = outer
  }
  if (field.map) {
    // A closed enum value that is no member makes the whole entry unknown; otherwise the last entry of a key wins.
    putEntry(tree, field, child, cursor)
  } else {
    put(tree, field, child)
  }
}

/** Stands in an entry for a number that its closed enum does not have. */
const NO_MEMBER = new Uint8Array(0)

function putEntry(tree: Tree, field: FieldShape, entry: Tree, { withMaps }: TreeReader): void {
  if (entry.slots.get(2) === NO_MEMBER) return
  for (const part of entry.shape.fields) {
    if (!entry.slots.has(part.number)) entry.slots.set(part.number, part.message === undefined ? zeroOf(part) : emptyTree(part.message))
  }
  if (tree.places === undefined) withMaps.push(tree)
  const places = (tree.places ??= new Map())
  let byKey = places.get(field.number)
  if (byKey === undefined) places.set(field.number, (byKey = new Map()))
  // A map from key to entry, so that a message of many entries costs no more than its length. Re-inserted: the last one stands last.
  const key = keyText(entry)
  byKey.delete(key)
  byKey.set(key, entry)
}

function keyText(entry: Tree): string {
  return String(textOf(entry.slots.get(1) as Value))
}

/** Sets a field; a oneof member ends the other members. */
function put(tree: Tree, field: FieldShape, value: Single): void {
  if (field.repeated) {
    const list = tree.slots.get(field.number) as Single[] | undefined
    if (list === undefined) tree.slots.set(field.number, [value])
    else list.push(value)
    return
  }
  if (field.oneof !== undefined) {
    for (const other of rivalsOf(field, tree.shape)) tree.slots.delete(other)
  }
  tree.slots.set(field.number, value)
}

const rivals = new WeakMap<MessageShape, Map<FieldShape, readonly number[]>>()

/** Numbers of the other members of a field's oneof, in this message: a shape may be made of some fields of another. */
function rivalsOf(field: FieldShape, shape: MessageShape): readonly number[] {
  let all = rivals.get(shape)
  if (all === undefined) rivals.set(shape, (all = new Map()))
  let known = all.get(field)
  if (known === undefined) all.set(field, (known = shape.fields.filter((other) => other.oneof === field.oneof && other !== field).map((other) => other.number)))
  return known
}

/** One scalar without its tag. Undefined for a number that is no member of a closed enum: it counts as unknown. */
export function decodeScalar(field: FieldShape, cursor: Cursor): Value | undefined {
  switch (field.type) {
    case 'int32': return cursor.varint32() | 0
    case 'uint32': return cursor.varint32()
    case 'sint32': {
      const value = cursor.varint32()
      return (value >>> 1) ^ -(value & 1)
    }
    case 'int64': return BigInt.asIntN(64, cursor.varint())
    case 'uint64': return cursor.varint()
    case 'sint64': {
      const value = cursor.varint()
      return (value >> 1n) ^ -(value & 1n)
    }
    // All 64 bits count.
    case 'bool': return cursor.varint() !== 0n
    case 'enum': {
      const number = cursor.varint32() | 0
      return field.enum?.closed === true && !field.enum.names.has(number) ? undefined : number
    }
    case 'fixed32': return cursor.fixed32()
    case 'sfixed32': return cursor.fixed32() | 0
    case 'fixed64': return cursor.fixed64()
    case 'sfixed64': return BigInt.asIntN(64, cursor.fixed64())
    case 'float': return cursor.float()
    case 'double': return cursor.double()
    case 'bytes': {
      const end = cursor.length()
      const bytes = cursor.bytes.subarray(cursor.at, end)
      cursor.at = end
      return bytes
    }
    default: {
      const text = cursor.text(cursor.length())
      // proto2 lets a text through that is none; here no kept text may be invalid, so the field reads as absent.
      if (text === undefined && field.utf8) throw new Malformed(Verdict.bad_utf8.code)
      return text
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------- encoding

/** Canonical bytes: field-number order, minimal varints, rebuilt lengths, defaults of fields without presence left out. */
export function encodeTree(tree: Tree, writer: Writer = new Writer()): Writer {
  for (const field of tree.shape.fields) {
    const slot = tree.slots.get(field.number)
    if (slot === undefined) continue
    if (Array.isArray(slot)) encodeList(writer, field, slot)
    else encodeSingle(writer, field, slot, tree.shape.entry === true)
  }
  return writer
}

function encodeList(writer: Writer, field: FieldShape, list: readonly Single[]): void {
  if (list.length === 0) return
  if (!field.packed) {
    for (const one of list) encodeSingle(writer, field, one, true)
    return
  }
  writer.tag(field.number, Wire.bytes)
  const from = writer.open()
  for (const one of list) encodeScalar(writer, field, one as Value)
  writer.close(from)
}

/** `always`: list elements are written even when zero. */
function encodeSingle(writer: Writer, field: FieldShape, value: Single, always: boolean): void {
  if (isTree(value)) {
    writer.tag(field.number, wireTypeOf(field))
    if (field.type === 'group') {
      encodeTree(value, writer)
      writer.tag(field.number, Wire.endGroup)
    } else {
      const from = writer.open()
      encodeTree(value, writer)
      writer.close(from)
    }
    return
  }
  if (!always && !field.presence && isZero(value as Value)) return
  writer.tag(field.number, wireTypeOf(field))
  encodeScalar(writer, field, value as Value)
}

function encodeScalar(writer: Writer, field: FieldShape, value: Value): void {
  switch (field.type) {
    case 'uint32': writer.varint32(value as number); return
    case 'sint32': writer.varint32((((value as number) << 1) ^ ((value as number) >> 31)) >>> 0); return
    case 'sint64': writer.varint(((value as bigint) << 1n) ^ ((value as bigint) >> 63n)); return
    case 'int64': case 'uint64': writer.varint(value as bigint); return
    case 'bool': writer.varint32(value === true ? 1 : 0); return
    case 'fixed32': case 'sfixed32': writer.fixed32((value as number) >>> 0); return
    case 'fixed64': case 'sfixed64': writer.fixed64(value as bigint); return
    case 'float': writer.float(value as number); return
    case 'double': writer.double(value as number); return
    case 'string': writer.text(value as string); return
    case 'bytes': writer.delimited(value as Uint8Array); return
    // Negative numbers have ten bytes, as their 64-bit form.
    default: if ((value as number) >= 0) writer.varint32(value as number)
      else writer.varint(BigInt(value as number))
  }
}

/** The slot at a dotted path, without descending into lists. Undefined where something on the way is absent. */
export function slotAt(tree: Tree, path: readonly FieldShape[]): Slot | undefined {
  let here: Slot | undefined = tree
  for (const field of path) {
    if (!isTree(here)) return undefined
    here = here.slots.get(field.number)
  }
  return here
}

/** Field shapes along a dotted path, or undefined when one does not exist. */
export function pathOf(shape: MessageShape, path: string): FieldShape[] | undefined {
  const fields: FieldShape[] = []
  let here: MessageShape | undefined = shape
  for (const name of path.split('.')) {
    const field: FieldShape | undefined = here?.byName.get(name)
    if (field === undefined) return undefined
    fields.push(field)
    here = field.map ? field.message?.byName.get('value')?.message : field.message
  }
  return fields
}
