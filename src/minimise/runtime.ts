/**
 * What generated functions call by name. Small functions with plain arguments; they read and write bytes only inside the ranges they are given.
 */
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Scope } from './condition.ts'
import { COSINES, type Cell } from './grid.ts'
import { floorNumber, roundInteger } from './number.ts'
import { wireTypeOf } from './tree.ts'
import { decodeUtf8 } from './wire.ts'

/** Result of the last point that was moved: wire values, which are degrees times 1e7 in most schemas. */
const moved: Cell = { latE7: 0, lonE7: 0 }

const numbers = new DataView(new ArrayBuffer(8))

function readFloat(s: Uint8Array, p: number): number {
  for (let at = 0; at < 4; at++) numbers.setUint8(at, s[p + at]!)
  return numbers.getFloat32(0, true)
}

function readDouble(s: Uint8Array, p: number): number {
  for (let at = 0; at < 8; at++) numbers.setUint8(at, s[p + at]!)
  return numbers.getFloat64(0, true)
}

function readFixed32(s: Uint8Array, p: number): number {
  return (s[p]! | (s[p + 1]! << 8) | (s[p + 2]! << 16) | (s[p + 3]! << 24)) >>> 0
}

function readSfixed32(s: Uint8Array, p: number): number {
  return s[p]! | (s[p + 1]! << 8) | (s[p + 2]! << 16) | (s[p + 3]! << 24)
}

/** NaN where a double cannot hold it exactly: the interpreter takes those. */
function readFixed64(s: Uint8Array, p: number): number {
  const value = readFixed32(s, p + 4) * 4_294_967_296 + readFixed32(s, p)
  return value <= Number.MAX_SAFE_INTEGER ? value : Number.NaN
}

function readSfixed64(s: Uint8Array, p: number): number {
  const value = readSfixed32(s, p + 4) * 4_294_967_296 + readFixed32(s, p)
  return Math.abs(value) <= Number.MAX_SAFE_INTEGER ? value : Number.NaN
}

function writeFloat(t: Uint8Array, o: number, value: number): number {
  numbers.setFloat32(0, value, true)
  if (Number.isNaN(value)) numbers.setUint32(0, 0x7fc0_0000, true)
  for (let at = 0; at < 4; at++) t[o + at] = numbers.getUint8(at)
  return o + 4
}

function writeDouble(t: Uint8Array, o: number, value: number): number {
  numbers.setFloat64(0, value, true)
  if (Number.isNaN(value)) numbers.setBigUint64(0, 0x7ff8_0000_0000_0000n, true)
  for (let at = 0; at < 8; at++) t[o + at] = numbers.getUint8(at)
  return o + 8
}

function writeFixed32(t: Uint8Array, o: number, value: number): number {
  numbers.setUint32(0, value, true)
  for (let at = 0; at < 4; at++) t[o + at] = numbers.getUint8(at)
  return o + 4
}

function writeFixed64(t: Uint8Array, o: number, value: number): number {
  numbers.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true)
  for (let at = 0; at < 8; at++) t[o + at] = numbers.getUint8(at)
  return o + 8
}

/** Ten bytes of a negative int32, int64 or enum. */
function writeNegative(t: Uint8Array, o: number, value: number): number {
  let rest = BigInt.asUintN(64, BigInt(value))
  let at = o
  while (rest > 0x7fn) {
    t[at++] = Number(rest & 0x7fn) | 0x80
    rest >>= 7n
  }
  t[at++] = Number(rest)
  return at
}

function isUtf8(s: Uint8Array, from: number, to: number): boolean {
  return decodeUtf8(s.subarray(from, to)) !== undefined
}

function roundUnsigned(x: number, step: number): number {
  const rest = x % step
  return rest * 2 >= step ? x - rest + step : x - rest
}

/** Exact for 0 <= x < 2^53: the quotient may come out one too large by rounding, never more. */
function floorUnsigned(x: number, d: number): number {
  const down = Math.floor(x / d) * d
  return down > x ? down - d : down
}

/** A varint of 0 <= n < 2^53 in two halves of 28 and 25 bits: modulo on doubles is slow, and doubles as arguments are allocated. */
function writeHalves(t: Uint8Array, o: number, low: number, high: number): number {
  let at = o
  let rest = low
  if (high > 0) {
    t[at++] = (low & 127) | 128
    t[at++] = ((low >>> 7) & 127) | 128
    t[at++] = ((low >>> 14) & 127) | 128
    t[at++] = (low >>> 21) | 128
    rest = high
  }
  while (rest > 127) {
    t[at++] = (rest & 127) | 128
    rest >>>= 7
  }
  t[at++] = rest
  return at
}

function labelOf(scope: Scope, name: string): string {
  return Object.hasOwn(scope.labels, name) ? (scope.labels[name] as string) : ''
}

/** End of a varint of at most ten bytes that starts at p, or -1. */
function varintEnd(s: Uint8Array, p: number, end: number): number {
  const last = p + 10 < end ? p + 10 : end
  for (let at = p; at < last; at++) if (s[at]! < 128) return at + 1
  return -1
}

/**
 * Steps over fields with numbers above `last` only. Returns `end`, or -1 where something else comes (a known field out of order,
 * a malformed tag, a group): then the interpreter decides.
 */
function skipUnknown(s: Uint8Array, p: number, end: number, last: number): number {
  let at = p
  if (!(at < end)) return -1
  while (at < end) {
    let tag = 0
    let shift = 1
    let byte: number
    do {
      if (at >= end || shift > 268_435_456) return -1
      byte = s[at++]!
      tag += (byte & 127) * shift
      shift *= 128
    } while (byte > 127)
    if (tag > 4_294_967_295 || Math.floor(tag / 8) <= last) return -1
    at = skipValue(s, at, end, tag % 8)
    if (at < 0 || at > end) return -1
  }
  return at
}

function skipValue(s: Uint8Array, p: number, end: number, wire: number): number {
  switch (wire) {
    case 0: return varintEnd(s, p, end)
    case 1: return p + 8
    case 5: return p + 4
    case 2: {
      const body = varintEnd(s, p, end)
      if (body < 0 || body - p > 4) return -1
      let length = 0
      for (let at = body - 1; at >= p; at--) length = length * 128 + (s[at]! & 127)
      return body + length
    }
    default: return -1
  }
}

/**
 * Steps over a known message or repeated field that does not leave, checking it as strictly as the interpreter reads it.
 * `p` lies behind the tag, in a message that itself lies `depth` deep. Returns the end, or -1: the interpreter decides.
 */
function stepOver(field: FieldShape, s: Uint8Array, p: number, end: number, depth: number): number {
  return checkField(field, s, p, end, depth)
}

function checkField(field: FieldShape, s: Uint8Array, p: number, end: number, depth: number): number {
  if (field.type === 'group') return -1
  const wire = field.packed ? 2 : wireTypeOf(field)
  const to = skipValue(s, p, end, wire)
  if (to < 0 || to > end) return -1
  if (wire !== 2) return to
  const body = varintEnd(s, p, end)
  if (field.message !== undefined) return checkMessage(field.message, s, body, to, depth + 1) ? to : -1
  if (field.packed) return checkPacked(field, s, body, to) ? to : -1
  if (field.type === 'string' && !isAscii(s, body, to) && !isUtf8(s, body, to)) return -1
  return to
}

function isAscii(s: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (s[at]! > 127) return false
  return true
}

function checkPacked(field: FieldShape, s: Uint8Array, from: number, to: number): boolean {
  const wire = wireTypeOf(field)
  if (wire === 1) return (to - from) % 8 === 0
  if (wire === 5) return (to - from) % 4 === 0
  for (let at = from; at < to;) {
    at = varintEnd(s, at, to)
    if (at < 0) return false
  }
  return true
}

function checkMessage(shape: MessageShape, s: Uint8Array, from: number, to: number, depth: number): boolean {
  if (depth >= LIMITS.depth) return false
  let at = from
  while (at < to) {
    const body = varintEnd(s, at, to)
    if (body < 0 || body - at > 4) return false
    let tag = 0
    for (let back = body - 1; back >= at; back--) tag = tag * 128 + (s[back]! & 127)
    const field = shape.byNumber.get(tag >>> 3)
    if (tag < 8) return false
    if (field === undefined) at = skipValue(s, body, to, tag & 7)
    // Another wire type than the field's own: unknown to a reader, and for the interpreter to judge.
    else if ((tag & 7) !== (field.packed ? 2 : wireTypeOf(field))) return false
    else at = checkField(field, s, body, to, depth)
    if (at < 0 || at > to) return false
  }
  return true
}

/** Whether the body of a message field, in [from, to), is well-formed all the way down. */
function isMessage(field: FieldShape, s: Uint8Array, from: number, to: number): boolean {
  return checkMessage(field.message as MessageShape, s, from, to, 1)
}

/** End of a minimal varint of 32 bits without a sign whose third byte lies at `p`, or -1. */
function restOf(s: Uint8Array, p: number): number {
  let at = p
  let byte = s[at++]!
  if (byte > 127) {
    byte = s[at++]!
    if (byte > 127) {
      byte = s[at++]!
      if (byte > 15) return -1
    }
  }
  return byte === 0 ? -1 : at
}

/** The same for int32 and enums, whose negative numbers take ten bytes: the sign fills the fifth to the ninth. */
function restOfSigned(s: Uint8Array, p: number): number {
  if (s[p]! < 128 || s[p + 1]! < 128 || s[p + 2]! < 8) return restOf(s, p)
  return s[p + 2]! > 247 && s[p + 3] === 255 && s[p + 4] === 255 && s[p + 5] === 255 && s[p + 6] === 255 && s[p + 7] === 1 ? p + 8 : -1
}

/** End of a minimal varint of 64 bits whose third byte lies at `p`, or -1. */
function restOfLong(s: Uint8Array, p: number): number {
  let at = p
  const last = p + 8
  let byte: number
  do byte = s[at++]!
  while (byte > 127 && at < last)
  return byte > 0 && byte < (at === last ? 2 : 128) ? at : -1
}

/** Starts and ends of keys seen in one map. Maps of more entries are left to the interpreter, so that a message costs no more than its length. */
const keys = new Int32Array(2 * 32)

/** Whether two entries of a map in [from, to) have the same key, or there are too many to tell, or one has no key. Entries lie within [from, to). */
function repeatsKey(s: Uint8Array, from: number, to: number, tagBytes: number): boolean {
  let count = 0
  for (let at = from; at < to;) {
    const body = varintEnd(s, at + tagBytes, to)
    const next = skipValue(s, at + tagBytes, to, 2)
    if (count === keys.length || body < 0 || next < 0) return true
    // A key that is a text or a number: its tag is one byte, its bytes are its value.
    const end = skipValue(s, body + 1, next, s[body]! & 7)
    // A key that ends beyond its entry would be compared as far as its length says.
    if (end < 0 || end > next) return true
    for (let k = 0; k < count; k += 2) if (isSame(s, keys[k]!, keys[k + 1]!, body, end)) return true
    keys[count] = body
    keys[count + 1] = end
    count += 2
    at = next
  }
  return false
}

function isSame(s: Uint8Array, a: number, aEnd: number, b: number, bEnd: number): boolean {
  if (aEnd - a !== bEnd - b) return false
  for (let i = 0; a + i < aEnd; i++) if (s[a + i] !== s[b + i]) return false
  return true
}

/** Writes the length of a body in [o + 1, end) before it; where one byte is not enough, the body moves on. Returns the new end. */
function closeLength(t: Uint8Array, o: number, end: number): number {
  const length = end - o - 1
  if (length < 128) {
    t[o] = length
    return end
  }
  const size = length < 16_384 ? 2 : length < 2_097_152 ? 3 : 4
  if (end + size > t.length) return t.length + 1
  t.copyWithin(o + size, o + 1, end)
  writeHalves(t, o, length, 0)
  return end + size - 1
}

/**
 * The body of a google.protobuf.Timestamp in [p, end), floored to a multiple of `ms`, without its length. Returns the new end in the
 * target, or -1: a time before 1970, one that a double cannot hold, or one that is not canonical.
 */
function floorTime(s: Uint8Array, p: number, end: number, t: Uint8Array, o: number, ms: number): number {
  let at = p
  let seconds = 0
  let nanos = 0
  if (at < end && s[at] === 8) {
    const to = minimalEnd(s, at + 1, end)
    if (to < 0 || to - at > 7) return -1
    for (let back = to - 1; back > at; back--) seconds = seconds * 128 + (s[back]! & 127)
    at = to
  }
  if (at < end && s[at] === 16) {
    const to = minimalEnd(s, at + 1, end)
    if (to < 0 || to - at > 6) return -1
    for (let back = to - 1; back > at; back--) nanos = nanos * 128 + (s[back]! & 127)
    at = to
  }
  // 2^42 seconds in milliseconds stay below 2^53.
  if (at !== end || nanos > 999_999_999) return -1
  const floored = floorUnsigned(seconds * 1_000 + Math.floor(nanos / 1_000_000), ms)
  const whole = Math.floor(floored / 1_000)
  let to = o
  if (whole > 0) {
    t[to++] = 8
    const high = Math.floor(whole / 268_435_456)
    to = writeHalves(t, to, whole - high * 268_435_456, high)
  }
  const rest = (floored - whole * 1_000) * 1_000_000
  if (rest > 0) {
    t[to++] = 16
    const high = Math.floor(rest / 268_435_456)
    to = writeHalves(t, to, rest - high * 268_435_456, high)
  }
  return to
}

/** End of a minimal varint that is not zero, or -1. */
function minimalEnd(s: Uint8Array, p: number, end: number): number {
  const to = varintEnd(s, p, end)
  return to < 0 || s[to - 1] === 0 ? -1 : to
}

/** Where the length of a text lies in a canonical message, or -1: the field is not there, or the length takes more than a byte. */
export function lengthOf(t: Uint8Array, from: number, to: number, number: number): number {
  for (let at = from; at < to;) {
    let tag = t[at++]!
    if (tag > 127) {
      const end = varintEnd(t, at - 1, to)
      if (end < 0) return -1
      tag &= 127
      for (let shift = 128; at < end; shift *= 128) tag += (t[at++]! & 127) * shift
    }
    const found = Math.floor(tag / 8)
    if (found === number) return t[at]! < 128 ? at : -1
    if (found > number) return -1
    at = skipValue(t, at, to, tag % 8)
    if (at < 0) return -1
  }
  return -1
}

/**
 * Ready pseudonyms of one pseudonymiser: a direct-mapped table by a hash of the value's bytes. Words of a slot, little-endian: epoch and
 * generation (two doubles), length of the value, the value, filled up with zeros, and the 22 characters of the pseudonym.
 */
export const SLOT = { count: 4_096, words: 22, length: 4, value: 5, made: 16, valueBytes: 44 } as const

export interface Slots {
  readonly words: Int32Array
  readonly doubles: Float64Array
  readonly bytes: Uint8Array
}

export function createSlots(): Slots {
  const memory = new ArrayBuffer(SLOT.count * SLOT.words * 4)
  return { words: new Int32Array(memory), doubles: new Float64Array(memory).fill(Number.NaN), bytes: new Uint8Array(memory) }
}

/** A slot belongs to whoever came last; results never depend on what was cached. */
export function fillSlot({ words, doubles, bytes }: Slots, slot: number, epoch: number, generation: number, value: Uint8Array, made: Uint8Array): void {
  doubles[slot >> 1] = epoch
  doubles[(slot >> 1) + 1] = generation
  words[slot + SLOT.length] = value.length
  words.fill(0, slot + SLOT.value, slot + SLOT.made)
  bytes.set(value, (slot + SLOT.value) * 4)
  bytes.set(made, (slot + SLOT.made) * 4)
}

/** Names that generated text may use; compile.ts passes them as the factory's parameters. */
export const RUNTIME = {
  moved, cosines: COSINES, readFloat, readDouble, readFixed32, readSfixed32, readFixed64, readSfixed64, writeFloat, writeDouble, writeFixed32, writeFixed64,
  writeNegative, isUtf8, roundUnsigned, roundInteger, floorNumber, floorUnsigned, writeHalves, labelOf, skipUnknown, stepOver, isMessage,
  restOf, restOfSigned, restOfLong, repeatsKey, closeLength, floorTime,
} as const
