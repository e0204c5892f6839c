/**
 * A message as a tree of known fields: the readable engine's form. Decoding resolves everything a terminal may legally do
 * (any order, duplicates: last wins, split sub-messages: merged, packed and unpacked mixed, overlong varints), so that the
 * gateway's reading and the cloud's cannot differ; unknown fields, unknown members and wrong wire types do not enter the tree.
 */
import { LIMITS } from '../domain/limits.ts'
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { Verdict } from '../domain/verdict.ts'
import { isZero, textOf, zeroOf, type Value } from './value.ts'
import { Cursor, Malformed, Wire, Writer, decodeUtf8 } from './wire.ts'

export interface Tree {
  readonly shape: MessageShape
  /** By field number. Repeated and map fields are lists; map entries are trees with fields 1 and 2, one per key. */
  readonly slots: Map<number, Slot>
  /** While decoding: entries of map fields by key. */
  places?: Map<number, Map<string, Tree>>
}

export type Single = Value | Tree
export type Slot = Single | Single[]

export function isTree(slot: Slot | undefined): slot is Tree {
  return typeof slot === 'object' && !(slot instanceof Uint8Array) && !Array.isArray(slot)
}

export function emptyTree(shape: MessageShape): Tree {
  return { shape, slots: new Map() }
}

/** Reads a whole message. Throws Malformed with a refusal code. */
export function decodeTree(shape: MessageShape, bytes: Uint8Array, start = 0, end = bytes.length): Tree {
  const tree = emptyTree(shape)
  decodeInto(tree, new Cursor(bytes, start, end), 0, 0)
  closeMaps(tree)
  return tree
}

/** Turns collected map entries into lists. */
function closeMaps(tree: Tree): void {
  for (const [number, byKey] of tree.places ?? []) tree.slots.set(number, [...byKey.values()])
  delete tree.places
  for (const field of tree.shape.fields) {
    if (field.message === undefined) continue
    const slot = tree.slots.get(field.number)
    for (const one of Array.isArray(slot) ? slot : [slot]) if (isTree(one)) closeMaps(one)
  }
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
function decodeInto(tree: Tree, cursor: Cursor, depth: number, group: number): void {
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

function decodeField(tree: Tree, field: FieldShape, tag: number, cursor: Cursor, depth: number): void {
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
    while (cursor.at < cursor.end) {
      const value = decodeScalar(field, cursor)
      if (value !== undefined) put(tree, field, value)
    }
    cursor.end = outer
    return
  }
  cursor.skip(tag, depth)
}

function decodeMessage(tree: Tree, field: FieldShape, shape: MessageShape, cursor: Cursor, depth: number): void {
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
    putEntry(tree, field, child)
  } else {
    put(tree, field, child)
  }
}

/** Stands in an entry for a number that its closed enum does not have. */
const NO_MEMBER = new Uint8Array(0)

function putEntry(tree: Tree, field: FieldShape, entry: Tree): void {
  if (entry.slots.get(2) === NO_MEMBER) return
  for (const part of entry.shape.fields) {
    if (!entry.slots.has(part.number)) entry.slots.set(part.number, part.message === undefined ? zeroOf(part) : emptyTree(part.message))
  }
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
    for (const other of tree.shape.fields) {
      if (other.oneof === field.oneof && other !== field) tree.slots.delete(other.number)
    }
  }
  tree.slots.set(field.number, value)
}

/** One scalar without its tag. Undefined for a number that is no member of a closed enum: it counts as unknown. */
export function decodeScalar(field: FieldShape, cursor: Cursor): Value | undefined {
  switch (field.type) {
    case 'int32': return Number(BigInt.asIntN(32, cursor.varint()))
    case 'uint32': return Number(BigInt.asUintN(32, cursor.varint()))
    case 'sint32': return Number(unzigzag(BigInt.asUintN(32, cursor.varint())))
    case 'int64': return BigInt.asIntN(64, cursor.varint())
    case 'uint64': return cursor.varint()
    case 'sint64': return unzigzag(cursor.varint())
    case 'bool': return cursor.varint() !== 0n
    case 'enum': {
      const number = Number(BigInt.asIntN(32, cursor.varint()))
      return field.enum?.closed === true && !field.enum.names.has(number) ? undefined : number
    }
    case 'fixed32': return cursor.fixed32()
    case 'sfixed32': return cursor.fixed32() | 0
    case 'fixed64': return cursor.fixed64()
    case 'sfixed64': return BigInt.asIntN(64, cursor.fixed64())
    case 'float': {
      cursor.fixed32()
      return cursor.view.getFloat32(cursor.at - 4, true)
    }
    case 'double': {
      cursor.fixed64()
      return cursor.view.getFloat64(cursor.at - 8, true)
    }
    default: {
      const end = cursor.length()
      const bytes = cursor.bytes.subarray(cursor.at, end)
      cursor.at = end
      if (field.type === 'bytes') return bytes
      const text = decodeUtf8(bytes)
      if (text !== undefined) return text
      if (field.utf8) throw new Malformed(Verdict.bad_utf8.code)
      // proto2 lets such a text through; here no kept text may be invalid, so the field reads as absent.
      return undefined
    }
  }
}

function unzigzag(value: bigint): bigint {
  return (value >> 1n) ^ -(value & 1n)
}

function zigzag(value: bigint, bits: bigint): bigint {
  return BigInt.asUintN(Number(bits), (value << 1n) ^ (value >> (bits - 1n)))
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
  const packed = new Writer()
  for (const one of list) encodeScalar(packed, field, one as Value)
  writer.tag(field.number, Wire.bytes)
  writer.delimited(packed.finish())
}

/** `always`: list elements are written even when zero. */
function encodeSingle(writer: Writer, field: FieldShape, value: Single, always: boolean): void {
  if (isTree(value)) {
    writer.tag(field.number, wireTypeOf(field))
    if (field.type === 'group') {
      encodeTree(value, writer)
      writer.tag(field.number, Wire.endGroup)
    } else {
      writer.delimited(encodeTree(value).finish())
    }
    return
  }
  if (!always && !field.presence && isZero(value as Value)) return
  writer.tag(field.number, wireTypeOf(field))
  encodeScalar(writer, field, value as Value)
}

function encodeScalar(writer: Writer, field: FieldShape, value: Value): void {
  switch (field.type) {
    case 'sint32': writer.varint(zigzag(BigInt(value as number), 32n)); return
    case 'sint64': writer.varint(zigzag(value as bigint, 64n)); return
    case 'int64': case 'uint64': writer.varint(value as bigint); return
    case 'bool': writer.varint(value === true ? 1n : 0n); return
    case 'fixed32': case 'sfixed32': writer.fixed32((value as number) >>> 0); return
    case 'fixed64': case 'sfixed64': writer.fixed64(value as bigint); return
    case 'float': writer.float(value as number); return
    case 'double': writer.double(value as number); return
    case 'string': writer.delimited(Buffer.from(value as string, 'utf8')); return
    case 'bytes': writer.delimited(value as Uint8Array); return
    default: writer.varint(BigInt(value as number))
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
