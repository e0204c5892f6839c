/**
 * What generated functions call by name. Small functions with plain arguments; they read and write bytes only inside the ranges they are given.
 */
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Scope } from './condition.ts'
import { floorNumber, roundInteger } from './number.ts'
import { wireTypeOf } from './tree.ts'
import { decodeUtf8 } from './wire.ts'

/** Result of the last point that was moved: wire values. */
const moved = { lat: 0, lon: 0 }

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
 * `p` lies behind the tag. Returns the end, or -1: the interpreter decides.
 */
function stepOver(field: FieldShape, s: Uint8Array, p: number, end: number): number {
  return checkField(field, s, p, end, 0)
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

/** Whether a copied run holds a field that is no header field. */
function holdsContent(s: Uint8Array, from: number, to: number, header: readonly number[]): boolean {
  let at = from
  while (at < to) {
    const body = varintEnd(s, at, to)
    let tag = 0
    for (let back = body - 1; back >= at; back--) tag = tag * 128 + (s[back]! & 127)
    if (!header.includes(tag >>> 3)) return true
    at = skipValue(s, body, to, tag & 7)
  }
  return false
}

/** Names that generated text may use; compile.ts passes them as the factory's parameters. */
export const RUNTIME = {
  moved, readFloat, readDouble, readFixed32, readSfixed32, readFixed64, readSfixed64, writeFloat, writeDouble, writeFixed32, writeFixed64,
  writeNegative, isUtf8, roundUnsigned, roundInteger, floorNumber, floorUnsigned, writeHalves, labelOf, skipUnknown, stepOver, holdsContent,
} as const
