/**
 * What the pipeline must know of a message before it may decide: event time, the machine and operator it names, and which oneof
 * member it carries. One walk over the top level; last one wins, as everywhere. Paths that lead into messages take the tree.
 */
import type { Stream, TimeRef } from '../domain/policy.ts'
import { classificationOf, type FieldShape, type MessageShape } from '../domain/schema.ts'
import { Verdict } from '../domain/verdict.ts'
import { decodeScalar, decodeTree, isTree, pathOf, slotAt, wireTypeOf, type Tree } from './tree.ts'
import { millisecondsOf } from './quantity.ts'
import { textOf, type Value } from './value.ts'
import { Cursor, Malformed, Wire } from './wire.ts'

/** Filled by a probe; reused. */
export interface Facts {
  /** Event time in ms since the epoch, NaN when the message has none. */
  eventMs: number
  /** Of a batch the first and last instant it speaks of, else the event time. Infinite where that cannot be told. */
  startMs: number
  endMs: number
  /** What the payload names; empty when it does not. */
  machine: string
  operator: string
  /** False when the stream's `case` is not the member that is set. */
  caseHolds: boolean
}

export function createFacts(): Facts {
  return { eventMs: Number.NaN, startMs: Number.NaN, endMs: Number.NaN, machine: '', operator: '', caseHolds: true }
}

/** 0, or a refusal code. */
export type Probe = (source: Uint8Array, start: number, end: number, into: Facts) => number

export function createProbe(stream: Stream): Probe {
  const wanted = [stream.machineField, stream.operatorField, stream.time?.field, stream.case]
  const paths = wanted.map((path) => (path === undefined ? undefined : pathOf(stream.message, path)))
  const types = wireTypesOf(stream.message)
  const isBatch = holdsTimes(stream)
  const isFlat = paths.every((path) => path === undefined || path.length === 1) && stream.case === undefined && stream.time?.unit !== 'timestamp' && !isBatch
  return isFlat ? flatProbe(stream, paths.map((path) => path?.[0]), types) : treeProbe(stream, paths, types, isBatch)
}

/** Field number -> bits of the wire types it may have. A message of another type than its stream nearly always breaks this table. */
type WireTypes = (number: number) => number

const ANY = 0xff

function wireTypesOf(message: MessageShape): WireTypes {
  const low = new Uint8Array(256).fill(ANY)
  const high = new Map<number, number>()
  for (const field of message.fields) {
    const isPackable = field.repeated && field.message === undefined && field.type !== 'string' && field.type !== 'bytes'
    const bits = (1 << wireTypeOf(field)) | (isPackable ? 1 << Wire.bytes : 0)
    if (field.number < low.length) low[field.number] = bits
    else high.set(field.number, bits)
  }
  return (number) => (number < 256 ? low[number]! : (high.get(number) ?? ANY))
}

/** Event time of a wire value in milliseconds; NaN when it is no time after the epoch. */
export function toMs(value: number | bigint, unit: TimeRef['unit']): number {
  const number = Number(value)
  const ms = unit === 's' ? number * 1_000 : unit === 'ms' ? number : unit === 'us' ? Math.floor(number / 1_000) : Math.floor(number / 1_000_000)
  return ms > 0 && ms < 8.64e15 ? ms : Number.NaN
}

function reset(into: Facts): void {
  into.eventMs = Number.NaN
  into.startMs = Number.NaN
  into.endMs = Number.NaN
  into.machine = ''
  into.operator = ''
  into.caseHolds = true
}

function flatProbe(stream: Stream, [machine, operator, time]: readonly (FieldShape | undefined)[], types: WireTypes): Probe {
  const unit = stream.time?.unit ?? 'ms'
  const machineNumber = machine?.number ?? 0
  const operatorNumber = operator?.number ?? 0
  const timeNumber = time?.number ?? 0
  const machineIsText = machine?.type === 'string'
  const operatorIsText = operator?.type === 'string'
  const timeIsVarint = time !== undefined && (time.type === 'uint64' || time.type === 'int64' || time.type === 'uint32')
  return (source, start, end, into) => {
    reset(into)
    let at = start
    while (at < end) {
      // One- and two-byte tags are all that ordinary schemas use; the rest goes to the cursor.
      let tag = source[at]!
      let body = at + 1
      if (tag > 127) {
        const high = source[body]!
        if (body >= end || high > 127) return slow(source, at, end, into)
        tag = (tag & 127) | (high << 7)
        body++
      }
      const number = tag >>> 3
      if ((tag & 7) < 6 && ((types(number) >> (tag & 7)) & 1) === 0) return Verdict.wrong_type.code
      const isWanted = number !== 0 && (number === machineNumber || number === operatorNumber || number === timeNumber)
      if (isWanted && number === timeNumber && timeIsVarint && (tag & 7) === Wire.varint) {
        let value = 0
        let factor = 1
        let byte: number
        do {
          if (body >= end) return Verdict.truncated.code
          byte = source[body++]!
          value += (byte & 127) * factor
          factor *= 128
        } while (byte > 127 && factor < 2 ** 63)
        // Of a 32-bit time only the low half counts, as for every reader.
        if (byte > 127 || (value > 0xffff_ffff && time.type === 'uint32')) return slow(source, at, end, into)
        into.eventMs = toMs(value, unit)
        at = body
        continue
      }
      if (isWanted && (tag & 7) === Wire.bytes && number !== timeNumber && source[body]! < 128 && (number === machineNumber ? machineIsText : operatorIsText)) {
        const to = body + 1 + source[body]!
        if (to > end) return Verdict.truncated.code
        const text = asText(source, body + 1, to)
        if (number === machineNumber) into.machine = text
        else into.operator = text
        at = to
        continue
      }
      if (isWanted || number === 0) return slow(source, at, end, into)
      at = skip(source, body, end, tag & 7)
      if (at < 0) return slow(source, start, end, into)
    }
    return at === end ? 0 : Verdict.truncated.code
  }

  /** From an offset on with the readable cursor; the result is the same, with exact refusal codes. */
  function slow(source: Uint8Array, from: number, end: number, into: Facts): number {
    try {
      const cursor = new Cursor(source, from, end)
      while (cursor.at < end) {
        const tag = cursor.tag()
        const number = tag >>> 3
        if ((tag & 7) < 6 && ((types(number) >> (tag & 7)) & 1) === 0) return Verdict.wrong_type.code
        const field = number === machineNumber ? machine : number === operatorNumber ? operator : number === timeNumber ? time : undefined
        const value = field === undefined ? undefined : scalarOf(field, tag & 7, cursor)
        if (value === undefined) cursor.skip(tag, 0)
        else if (field === time) into.eventMs = toMs(value as bigint, unit)
        else if (field === machine) into.machine = nameOf(value)
        else into.operator = nameOf(value)
      }
      return 0
    } catch (error) {
      if (error instanceof Malformed) return error.code
      throw error
    }
  }
}

const SCALAR_WIRE: Readonly<Record<string, number>> = { string: 2, bytes: 2, fixed64: 1, sfixed64: 1, double: 1, fixed32: 5, sfixed32: 5, float: 5 }

/** A value when the wire type is the field's own; otherwise undefined, and the cursor has not moved. */
function scalarOf(field: FieldShape, wire: number, cursor: Cursor): Value | undefined {
  return (SCALAR_WIRE[field.type] ?? Wire.varint) === wire && field.message === undefined ? decodeScalar(field, cursor) : undefined
}

function treeProbe(stream: Stream, [machine, operator, time, member]: readonly (readonly FieldShape[] | undefined)[], types: WireTypes, isBatch: boolean): Probe {
  const steps = stream.points.flatMap(({ kind, dt }) => (kind === 'delta' && dt !== undefined ? [pathOf(stream.message, dt) as FieldShape[]] : []))
  return (source, start, end, into) => {
    reset(into)
    let tree: Tree
    try {
      const cursor = new Cursor(source, start, end)
      while (cursor.at < end) {
        const tag = cursor.tag()
        if ((tag & 7) < 6 && ((types(tag >>> 3) >> (tag & 7)) & 1) === 0) return Verdict.wrong_type.code
        cursor.skip(tag, 0)
      }
      tree = decodeTree(stream.message, source, start, end)
    } catch (error) {
      if (error instanceof Malformed) return error.code
      throw error
    }
    into.machine = textAt(tree, machine)
    into.operator = textAt(tree, operator)
    into.caseHolds = member === undefined || slotAt(tree, member) !== undefined
    const slot = time === undefined ? undefined : slotAt(tree, time)
    if (isTree(slot)) into.eventMs = toMs((((slot.slots.get(1) as bigint | undefined) ?? 0n) * 1_000_000_000n + BigInt((slot.slots.get(2) as number | undefined) ?? 0)) / 1_000_000n, 'ms')
    else if (slot !== undefined && !Array.isArray(slot)) into.eventMs = toMs(slot as bigint, stream.time?.unit ?? 'ms')
    if (isBatch) spanOf(tree, steps, stream.time !== undefined, into)
    return 0
  }
}

// ---------------------------------------------------------------------------------------------------------------- batches

/** Whether a message of the stream may speak of several instants: a delta track with times, or times in a list. */
function holdsTimes(stream: Stream): boolean {
  const outside = new Set<MessageShape>()
  const inside = new Set<MessageShape>()
  const visit = (shape: MessageShape, isListed: boolean): boolean => {
    const seen = isListed ? inside : outside
    if (seen.has(shape)) return false
    seen.add(shape)
    if (isListed && isWellKnownTime(shape)) return true
    return shape.fields.some((field) => {
      const listed = isListed || field.repeated
      return field.message === undefined ? listed && isTime(field) : visit(field.message, listed)
    })
  }
  return stream.points.some(({ kind, dt }) => kind === 'delta' && dt !== undefined) || visit(stream.message, false)
}

function isTime(field: FieldShape): boolean {
  const { category, unit } = classificationOf(field)
  return category === 'time' && unit !== ''
}

function isWellKnownTime(shape: MessageShape): boolean {
  return shape.name === 'google.protobuf.Timestamp' || shape.name === 'google.protobuf.Duration'
}

/**
 * First and last instant of a batch [rules-language 4.9]. Times in lists count from the event time, those of a track from the step before;
 * what would lie more than a year away is a time of day of its own. Whatever cannot be told makes the span endless, and so nobody known.
 */
function spanOf(tree: Tree, steps: readonly (readonly FieldShape[])[], hasTime: boolean, into: Facts): void {
  let first = 0
  let last = 0
  const at = (offsetMs: number): void => {
    if (!(Math.abs(offsetMs) <= OFFSET_MAX_MS)) last = Number.POSITIVE_INFINITY
    else if (offsetMs < first) first = offsetMs
    else if (offsetMs > last) last = offsetMs
  }
  const visit = (one: Tree, isListed: boolean): void => {
    if (isListed && isWellKnownTime(one.shape)) {
      const ms = Number(one.slots.get(1) ?? 0) * 1_000 + Number(one.slots.get(2) ?? 0) / 1e6
      at(one.shape.name === 'google.protobuf.Duration' ? ms : ms - into.eventMs)
      return
    }
    for (const [number, slot] of one.slots) {
      const field = one.shape.byNumber.get(number) as FieldShape
      const listed = isListed || field.repeated
      if (field.message !== undefined) {
        if (Array.isArray(slot)) for (const each of slot) visit(each as Tree, true)
        else visit(slot as Tree, listed)
      } else if (listed && isTime(field)) {
        const unitMs = millisecondsOf(field) ?? 1
        for (const each of Array.isArray(slot) ? slot : [slot]) {
          const ms = Number(each as Value) * unitMs
          at(Math.abs(ms) > OFFSET_MAX_MS ? ms - into.eventMs : ms)
        }
      }
    }
  }
  visit(tree, false)
  for (const path of steps) {
    const unitMs = millisecondsOf(path.at(-1) as FieldShape) ?? 1
    const slot = slotAt(tree, path)
    let sum = 0
    for (const one of Array.isArray(slot) ? slot : []) at((sum += Number(one as Value) * unitMs))
  }
  // Counted from a moment that the rules do not name.
  if (!hasTime && last > first) last = Number.POSITIVE_INFINITY
  into.startMs = into.eventMs + first
  into.endMs = into.eventMs + last
  if (Number.isNaN(into.eventMs) && last > first) into.endMs = Number.POSITIVE_INFINITY
}

/** Beyond a year it is no offset. */
const OFFSET_MAX_MS = 366 * 86_400_000

function textAt(tree: Tree, path: readonly FieldShape[] | undefined): string {
  const slot = path === undefined ? undefined : slotAt(tree, path)
  return slot === undefined || isTree(slot) || Array.isArray(slot) ? '' : nameOf(slot)
}

/** What a machine or operator field says: its text, digits, or the hex of its bytes, as in the identity register. */
export function nameOf(value: Value): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : (textOf(value) ?? '')
}

/** Short ASCII texts without the cost of a decoder. */
function asText(source: Uint8Array, from: number, to: number): string {
  let text = ''
  for (let at = from; at < to; at++) {
    const byte = source[at]!
    if (byte > 127) return Buffer.from(source.buffer, source.byteOffset + from, to - from).toString('utf8')
    text += String.fromCharCode(byte)
  }
  return text
}

/** End of a value, or -1 for anything unusual. */
function skip(source: Uint8Array, at: number, end: number, wire: number): number {
  switch (wire) {
    case 0: {
      let here = at
      while (here < end && here - at < 10) if (source[here++]! < 128) return here
      return -1
    }
    case 1: return at + 8
    case 5: return at + 4
    case 2: {
      const first = source[at]!
      if (at >= end) return -1
      if (first < 128) return at + 1 + first
      const second = source[at + 1]!
      return at + 1 < end && second < 128 ? at + 2 + (first & 127) + second * 128 : -1
    }
    default: return -1
  }
}
