/**
 * Random messages as trees of wire records, so that they can be changed at any level in the ways that protobuf allows and in those
 * that it does not, and written out by a writer of their own.
 * Source: protobuf.dev "Encoding".
 */
import type { Dice } from './dice.ts'
import type { FieldModel, MessageModel, Scalar } from './schema.ts'

/** One field on the wire. */
export interface WireRecord {
  readonly number: number
  readonly wire: 0 | 1 | 2 | 3 | 5
  /** A varint's value, raw bytes, or the records inside a message or group. */
  readonly body: bigint | Uint8Array | readonly WireRecord[]
  /** Needless bytes in the tag, in a varint's value, and in a length. */
  readonly pad: { readonly tag: number; readonly value: number; readonly length: number }
}

const MINIMAL = { tag: 0, value: 0, length: 0 }

/** How far from canonical a message is. */
export interface Wildness {
  /** Chance of each change at each place; 0 is canonical. */
  readonly odd: number
  /** Chance that a value sits on a border of its type. */
  readonly edge: number
}

const FIXED64: ReadonlySet<string> = new Set(['double', 'fixed64', 'sfixed64'])
const FIXED32: ReadonlySet<string> = new Set(['float', 'fixed32', 'sfixed32'])

export function wireOf(type: Scalar | 'enum'): 0 | 1 | 2 | 5 {
  return FIXED64.has(type) ? 1 : FIXED32.has(type) ? 5 : type === 'string' || type === 'bytes' ? 2 : 0
}

/** Bytes that a terminal must never see again on the other side; sits in everything that no plan names. */
export const CANARY = 'kanari-7f3a'

export function randomMessage(dice: Dice, model: MessageModel, wild: Wildness, depth = 0): WireRecord[] {
  const records: WireRecord[] = []
  const taken = new Set<string>()
  for (const field of model.fields) {
    if (field.type === 'message' && depth >= 6) continue
    if (!dice.chance(depth > 3 && field.type === 'message' ? 0.2 : 0.75)) continue
    if (field.oneof !== undefined) {
      if (taken.has(field.oneof) && !dice.chance(wild.odd)) continue
      taken.add(field.oneof)
    }
    if (field.label === 'singular') records.push(...single(dice, field, wild, depth))
    else if (field.label === 'map') records.push(...mapRecords(dice, field, wild, depth))
    else records.push(...listRecords(dice, field, wild, depth))
  }
  return wild.odd === 0 ? records : distort(dice, model, records, wild, depth)
}

function single(dice: Dice, field: FieldModel, wild: Wildness, depth: number): WireRecord[] {
  if (field.message !== undefined) return [messageRecord(dice, field, wild, depth)]
  const body = scalarBody(dice, field, field.type as Scalar | 'enum', wild)
  // In canonical form a field without presence is not written when it is the default.
  if (!field.presence && isDefault(body) && !dice.chance(wild.odd)) return []
  return [{ number: field.number, wire: wireOf(field.type as Scalar | 'enum'), body, pad: padding(dice, wild, body) }]
}

function messageRecord(dice: Dice, field: FieldModel, wild: Wildness, depth: number): WireRecord {
  const body = field.message?.name === 'google.protobuf.Timestamp' && dice.chance(0.8) ? timestamp(dice) : randomMessage(dice, field.message as MessageModel, wild, depth + 1)
  return { number: field.number, wire: field.group ? 3 : 2, body, pad: padding(dice, wild, body) }
}

function timestamp(dice: Dice): WireRecord[] {
  const seconds = dice.chance(0.1) ? dice.big(64) : BigInt(1_700_000_000 + dice.below(100_000_000))
  const nanos = BigInt.asUintN(64, BigInt(dice.pick([0, 1, 500_000_000, 999_999_999, 1_000_000_000, -1])))
  return [{ number: 1, wire: 0 as const, body: seconds, pad: MINIMAL }, { number: 2, wire: 0 as const, body: nanos, pad: MINIMAL }].filter((one) => one.body !== 0n)
}

function listRecords(dice: Dice, field: FieldModel, wild: Wildness, depth: number): WireRecord[] {
  const count = dice.below(4)
  if (count === 0) return []
  if (field.message !== undefined) return Array.from({ length: count }, () => messageRecord(dice, field, wild, depth))
  const type = field.type as Scalar | 'enum'
  const wire = wireOf(type)
  const bodies = Array.from({ length: count }, () => scalarBody(dice, field, type, wild))
  if (wire === 2) return bodies.map((body) => ({ number: field.number, wire, body, pad: padding(dice, wild, body) }))
  // Packed in one or several pieces, or not packed, whatever the schema says.
  const records: WireRecord[] = []
  let packed = field.packed
  let open: Uint8Array[] = []
  const close = (): void => {
    if (open.length > 0) records.push({ number: field.number, wire: 2, body: Buffer.concat(open), pad: padding(dice, wild, open[0]!) })
    open = []
  }
  for (const body of bodies) {
    if (dice.chance(wild.odd)) {
      close()
      packed = !packed
    }
    if (packed) open.push(typeof body === 'bigint' ? varint(body, padding(dice, wild, body).value) : (body as Uint8Array))
    else records.push({ number: field.number, wire, body, pad: padding(dice, wild, body) })
  }
  close()
  return records
}

function mapRecords(dice: Dice, field: FieldModel, wild: Wildness, depth: number): WireRecord[] {
  const keyField = { ...field, type: field.key as Scalar, message: undefined, enum: undefined }
  const used = new Set<string>()
  const records: WireRecord[] = []
  for (let at = dice.below(4); at > 0; at--) {
    const keyBody = scalarBody(dice, keyField, field.key as Scalar, { ...wild, edge: 0.1 })
    const name = typeof keyBody === 'bigint' ? String(keyBody) : Buffer.from(keyBody as Uint8Array).toString('hex')
    if (used.has(name) && !dice.chance(wild.odd)) continue
    used.add(name)
    const parts: WireRecord[] = [{ number: 1, wire: wireOf(field.key as Scalar), body: keyBody, pad: padding(dice, wild, keyBody) }]
    if (field.message !== undefined) parts.push({ ...messageRecord(dice, field, wild, depth), number: 2, wire: 2 })
    else {
      const body = scalarBody(dice, field, field.type as Scalar | 'enum', wild)
      parts.push({ number: 2, wire: wireOf(field.type as Scalar | 'enum'), body, pad: padding(dice, wild, body) })
    }
    const changed = dice.chance(wild.odd) ? dice.shuffle(parts).slice(dice.below(2)) : parts
    const inner = dice.chance(wild.odd) ? [...changed, randomUnknown(dice, 3)] : changed
    records.push({ number: field.number, wire: 2, body: inner, pad: padding(dice, wild, inner) })
  }
  return records
}

// ------------------------------------------------------------------------------------------------------------------ values

const FLOATS = [0, -0, 1, -1, 0.5, 2.5, -2.5, 0.1, 1e-310, 1.7e308, -1.7e308, 3.4e38, Infinity, -Infinity, Number.NaN, 48.137, -11.575, 90, -90, 180, 91, 1e-45, 481_371_540]

/** @param type given apart from the field, because a map's key and value share one */
function scalarBody(dice: Dice, field: FieldModel, type: Scalar | 'enum', wild: Wildness): bigint | Uint8Array {
  const isEdge = dice.chance(wild.edge)
  switch (type) {
    case 'double': case 'float': {
      const bytes = Buffer.alloc(type === 'double' ? 8 : 4)
      // Not-a-numbers of other kinds than the one that JavaScript writes.
      if (isEdge && dice.chance(0.05)) return type === 'double' ? Buffer.from('010000000000f47f', 'hex') : Buffer.from(dice.pick(['0100a07f', '3412c0ff']), 'hex')
      const value = isEdge ? dice.pick(FLOATS) : (dice.below(2_000_000) - 1_000_000) / dice.pick([1, 10, 100, 3])
      if (type === 'double') bytes.writeDoubleLE(value)
      else bytes.writeFloatLE(value)
      return bytes
    }
    case 'bool': return BigInt(dice.below(2))
    case 'enum': {
      const members = field.enum?.members ?? []
      const number = dice.chance(0.15) ? dice.pick([4, 77, -9, 2_147_483_646]) : dice.pick(members)[1]
      return BigInt.asUintN(64, BigInt(number))
    }
    case 'string': return isEdge && !field.utf8 && dice.chance(0.3) ? Uint8Array.from([...Buffer.from('ab'), dice.pick([0xff, 0xc0, 0xed])]) : Buffer.from(text(dice))
    case 'bytes': return dice.bytes(dice.pick([0, 1, 4, 9, 20]))
    case 'int32': case 'int64': case 'sint32': case 'sint64': case 'uint32': case 'uint64': {
      const bits = type.endsWith('32') ? 32 : 64
      const value = isEdge ? dice.big(bits) : position(dice, bits)
      if (type.startsWith('u')) return value
      const signed = BigInt.asIntN(bits, value)
      // Negative int32 are written with ten bytes, as their 64-bit form.
      return type.startsWith('s') ? BigInt.asUintN(bits, (signed << 1n) ^ (signed >> BigInt(bits - 1))) : BigInt.asUintN(64, signed)
    }
    default: {
      const bytes = Buffer.alloc(type.endsWith('32') ? 4 : 8)
      const value = isEdge ? dice.big(bytes.length * 8) : position(dice, bytes.length * 8)
      if (bytes.length === 4) bytes.writeUInt32LE(Number(BigInt.asUintN(32, value)))
      else bytes.writeBigUInt64LE(value)
      return bytes
    }
  }
}

/** Numbers as telemetry has them: small, degrees times 1e7, times in milliseconds, now and then negative. */
function position(dice: Dice, bits: number): bigint {
  const value = BigInt(dice.pick([dice.below(100), dice.below(5_000), 300_000_000 + dice.below(200_000_000), bits === 64 ? 1_763_888_864_000 + dice.below(1_000_000) : dice.below(70_000)]))
  return BigInt.asUintN(bits, dice.chance(0.25) ? -value : value)
}

function text(dice: Dice): string {
  return dice.pick(['', 'a', 'SN-1042', 'Müller', '😀b', 'P7', 'a/b', '#', 'x'.repeat(dice.below(160)), '__proto__', '￿', '�', '﻿bom'])
}

function isDefault(body: WireRecord['body']): boolean {
  if (typeof body === 'bigint') return body === 0n
  return (body as Uint8Array).every((byte) => byte === 0) && !(body as Uint8Array).some((byte) => byte !== 0)
}

function padding(dice: Dice, wild: Wildness, body: WireRecord['body']): WireRecord['pad'] {
  if (wild.odd === 0 || !dice.chance(wild.odd)) return MINIMAL
  // A tag or length of more than five bytes is where implementations differ: that is no part of these tests.
  return { tag: dice.chance(0.3) ? 1 : 0, value: typeof body === 'bigint' ? dice.below(4) : 0, length: dice.below(3) }
}

// --------------------------------------------------------------------------------------------------------- valid distortions

function distort(dice: Dice, model: MessageModel, records: readonly WireRecord[], wild: Wildness, depth: number): WireRecord[] {
  let all = [...records]
  const extra: WireRecord[] = []
  for (const record of records) {
    if (!dice.chance(wild.odd)) continue
    const field = model.fields.find((one) => one.number === record.number)
    if (field === undefined) continue
    const inner = insideOf(record)
    if (inner !== undefined && field.label === 'singular' && dice.chance(0.7)) {
      // A sub-message in two halves is one sub-message.
      const cut = dice.below(inner.length + 1)
      all = all.flatMap((one) => (one !== record ? [one] : [{ ...record, body: inner.slice(0, cut) }, { ...record, body: inner.slice(cut) }]))
    } else if (field.label === 'singular') {
      extra.push(...single(dice, field, wild, depth))
    } else {
      extra.push(record)
    }
  }
  // A known number with a wire type that is not its own is an unknown field.
  if (dice.chance(wild.odd) && model.fields.length > 0) {
    const field = dice.pick(model.fields)
    const own = field.message !== undefined || field.label === 'map' ? (field.group ? 3 : 2) : wireOf(field.type as Scalar)
    const other = dice.pick(([0, 1, 2, 5] as const).filter((wire) => wire !== own && !(wire === 2 && field.label === 'repeated')))
    extra.push({ ...randomUnknown(dice, field.number), wire: other, body: other === 0 ? 77n : other === 2 ? Buffer.from(CANARY) : Buffer.alloc(other === 1 ? 8 : 4, 0x5a) })
  }
  for (let at = dice.chance(wild.odd * 3) ? 1 + dice.below(3) : 0; at > 0; at--) extra.push(randomUnknown(dice, unknownNumber(dice, model)))
  for (const one of extra) all.splice(dice.below(all.length + 1), 0, one)
  return dice.chance(wild.odd) ? dice.shuffle(all) : all
}

/** The records inside a message or group. */
export function insideOf({ body }: WireRecord): readonly WireRecord[] | undefined {
  return typeof body === 'bigint' || body instanceof Uint8Array ? undefined : body
}

export function unknownNumber(dice: Dice, model: MessageModel): number {
  for (;;) {
    const number = dice.pick([1 + dice.below(40), 500 + dice.below(500), 536_870_911, 1_000_000 + dice.below(1_000)])
    if (!model.fields.some((field) => field.number === number)) return number
  }
}

/** A field that no schema names, with the canary in it where there is room. */
export function randomUnknown(dice: Dice, number: number, depth = 0): WireRecord {
  const wire = dice.pick([0, 1, 2, 2, 5, ...(depth < 3 ? [3 as const] : [])] as const)
  const body = wire === 0 ? dice.big(64) : wire === 1 ? Buffer.from('kanari-7') : wire === 5 ? Buffer.from('kana')
    : wire === 2 ? Buffer.from(CANARY) : Array.from({ length: dice.below(3) }, () => randomUnknown(dice, 1 + dice.below(20), depth + 1))
  return { number, wire, body, pad: MINIMAL }
}

// ------------------------------------------------------------------------------------------------------------------- bytes

export function varint(value: bigint, pad = 0): Uint8Array {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  for (let left = Math.min(pad, 10 - bytes.length); left > 0; left--) {
    bytes[bytes.length - 1]! |= 0x80
    bytes.push(0)
  }
  return Uint8Array.from(bytes)
}

function tagBytes(number: number, wire: number, pad: number): Uint8Array {
  const minimal = varint(BigInt(number) * 8n + BigInt(wire))
  return pad === 0 ? minimal : varint(BigInt(number) * 8n + BigInt(wire), Math.min(pad, 5 - minimal.length))
}

export function toBytes(records: readonly WireRecord[]): Uint8Array {
  return Buffer.concat(records.map(recordBytes))
}

export function recordBytes({ number, wire, body, pad }: WireRecord): Uint8Array {
  const tag = tagBytes(number, wire, pad.tag)
  if (typeof body === 'bigint') return Buffer.concat([tag, varint(body, pad.value)])
  const bytes = body instanceof Uint8Array ? body : toBytes(body)
  if (wire === 3) return Buffer.concat([tag, bytes, tagBytes(number, 4, 0)])
  if (wire !== 2) return Buffer.concat([tag, bytes])
  const length = varint(BigInt(bytes.length))
  return Buffer.concat([tag, varint(BigInt(bytes.length), Math.min(pad.length, 5 - length.length)), bytes])
}

/** Bytes after something happened to them that protobuf does not allow, or hardly ever. */
export function corrupt(dice: Dice, bytes: Uint8Array): Uint8Array {
  const at = dice.below(bytes.length + 1)
  switch (dice.below(8)) {
    case 0: return bytes.subarray(0, at)
    case 1: return Buffer.concat([bytes, dice.bytes(1 + dice.below(6))])
    case 2: return Uint8Array.from(bytes, (byte, i) => (i === at ? dice.below(256) : byte))
    case 3: return Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ (1 << dice.below(8)) : byte))
    case 4: return Buffer.concat([bytes.subarray(0, at), dice.bytes(1 + dice.below(3)), bytes.subarray(at)])
    case 5: return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + dice.below(3))])
    case 6: return Buffer.concat([bytes, Uint8Array.from(dice.pick([[0x00], [0x04], [0x0b], [0x0c], [0x0e], [0x0f], [0x80], [0x0a, 0x05], [0x08, ...Array.from({ length: 10 }, () => 0xff), 0x01]]))])
    default: return Buffer.concat([bytes.subarray(at), bytes.subarray(0, at)])
  }
}
