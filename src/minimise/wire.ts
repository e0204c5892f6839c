/**
 * The protobuf wire format, readable: a cursor for the interpreter, the verifier and the tools, and a writer with canonical output.
 * The generated functions carry their own inlined copies of the reading part; tests hold both against each other.
 * Source: protobuf.dev "Encoding".
 */
import { Verdict } from '../domain/verdict.ts'
import { LIMITS } from '../domain/limits.ts'

export const Wire = { varint: 0, fixed64: 1, bytes: 2, startGroup: 3, endGroup: 4, fixed32: 5 } as const

/** Thrown inside minimise/ only, and caught at its border: the message is refused with this code. */
export class Malformed extends Error {
  readonly code: number
  constructor(code: number) {
    super('malformed protobuf')
    this.code = code
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text of UTF-8 bytes, or undefined when they are not valid UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

/** Reads one message between two offsets; every read is bounded by `end`. */
export class Cursor {
  readonly bytes: Uint8Array
  readonly view: DataView
  private readonly chars: Buffer
  at: number
  end: number

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.chars = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = start
    this.end = end
  }

  /** A varint of 64 bits; overlong encodings are read, more than ten bytes are not. */
  varint(): bigint {
    const from = this.at
    this.skipVarint()
    const { bytes, at } = this
    // In pieces of 28 bits, because numbers are faster than bigints: four bytes, four, and the rest.
    const low = piece(bytes, from, Math.min(at, from + 4))
    if (at - from <= 4) return BigInt(low)
    const middle = piece(bytes, from + 4, Math.min(at, from + 8))
    if (at - from <= 7) return BigInt(middle * 0x1000_0000 + low)
    const high = at - from > 8 ? piece(bytes, from + 8, at) & 0xff : 0
    return (BigInt(high) << 56n) | (BigInt(middle) << 28n) | BigInt(low)
  }

  /** The low 32 bits of a varint, unsigned. */
  varint32(): number {
    const first = this.at < this.end ? this.bytes[this.at]! : 0x80
    if (first < 0x80) {
      this.at++
      return first
    }
    const from = this.at
    this.skipVarint()
    const { bytes, at } = this
    const low = piece(bytes, from, Math.min(at, from + 4))
    return at - from > 4 ? (low | (bytes[from + 4]! << 28)) >>> 0 : low
  }

  skipVarint(): void {
    const { bytes, end } = this
    const last = this.at + 10
    while (this.at < last) {
      if (this.at >= end) throw new Malformed(Verdict.truncated.code)
      if (bytes[this.at++]! < 0x80) return
    }
    throw new Malformed(Verdict.bad_varint.code)
  }

  /** Field number * 8 + wire type. A tag is a 32-bit number; zero and reserved wire types are malformed. */
  tag(): number {
    const number = this.small()
    if (number > 0xffff_ffff || number < 8 || (number & 7) > 5) throw new Malformed(Verdict.bad_tag.code)
    return number
  }

  /** A varint of which only small values make sense: exact below 2^53. */
  private small(): number {
    const first = this.at < this.end ? this.bytes[this.at]! : 0x80
    if (first >= 0x80) return Number(this.varint())
    this.at++
    return first
  }

  fixed32(): number {
    this.need(4)
    const value = this.view.getUint32(this.at, true)
    this.at += 4
    return value
  }

  fixed64(): bigint {
    this.need(8)
    const value = this.view.getBigUint64(this.at, true)
    this.at += 8
    return value
  }

  float(): number {
    this.need(4)
    this.at += 4
    return this.view.getFloat32(this.at - 4, true)
  }

  double(): number {
    this.need(8)
    this.at += 8
    return this.view.getFloat64(this.at - 8, true)
  }

  /** End offset of a length-delimited field whose length is read here. */
  length(): number {
    const length = this.small()
    if (length > this.end - this.at) throw new Malformed(Verdict.truncated.code)
    return this.at + length
  }

  /** Text up to an offset, which becomes the place in hand; undefined when it is not valid UTF-8. */
  text(end: number): string | undefined {
    const from = this.at
    this.at = end
    for (let at = from; at < end; at++) if (this.bytes[at]! > 0x7f) return decodeUtf8(this.bytes.subarray(from, end))
    return this.chars.toString('latin1', from, end)
  }

  /** Steps over a field whose tag was read. Groups may nest to the depth limit. */
  skip(tag: number, depth: number): void {
    switch (tag & 7) {
      case Wire.varint:
        this.skipVarint()
        return
      case Wire.fixed64:
        this.need(8)
        this.at += 8
        return
      case Wire.bytes:
        this.at = this.length()
        return
      case Wire.startGroup: {
        if (depth >= LIMITS.depth) throw new Malformed(Verdict.too_deep.code)
        for (;;) {
          if (this.at >= this.end) throw new Malformed(Verdict.bad_group.code)
          const inner = this.tag()
          if ((inner & 7) === Wire.endGroup) {
            if (inner >>> 3 !== tag >>> 3) throw new Malformed(Verdict.bad_group.code)
            return
          }
          this.skip(inner, depth + 1)
        }
      }
      case Wire.endGroup:
        throw new Malformed(Verdict.bad_group.code)
      default:
        this.need(4)
        this.at += 4
    }
  }

  private need(count: number): void {
    if (this.end - this.at < count) throw new Malformed(Verdict.truncated.code)
  }
}

/** Up to four bytes of a varint. */
function piece(bytes: Uint8Array, from: number, to: number): number {
  let value = 0
  for (let at = to - 1; at >= from; at--) value = (value << 7) | (bytes[at]! & 0x7f)
  return value
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER)

/** Appends canonical wire format to a growing buffer. */
export class Writer {
  private bytes = Buffer.alloc(512)
  private view = new DataView(this.bytes.buffer, this.bytes.byteOffset)
  private at = 0

  /** What was written, until the next write. */
  finish(): Uint8Array {
    return this.bytes.subarray(0, this.at)
  }

  /** Begins anew in the same buffer. */
  reset(): this {
    this.at = 0
    return this
  }

  get length(): number {
    return this.at
  }

  tag(number: number, wire: number): void {
    this.varint32(number * 8 + wire)
  }

  varint(value: bigint): void {
    if (value >= 0n && value <= 0xffff_ffffn) {
      this.varint32(Number(value))
      return
    }
    this.room(10)
    const isSafe = value > 0n && value <= MAX_SAFE
    const whole = isSafe ? Number(value) : 0
    let low = isSafe ? whole % 0x1000_0000 : Number(BigInt.asUintN(28, value))
    let high = isSafe ? Math.floor(whole / 0x1000_0000) : Number(BigInt.asUintN(64, value) >> 28n)
    // Four groups of seven bits; what lies above them is at most 36 bits, more than shifts can take.
    for (let group = 0; group < 4; group++, low >>>= 7) this.bytes[this.at++] = (low & 0x7f) | 0x80
    while (high > 0x7f) {
      this.bytes[this.at++] = (high % 0x80) | 0x80
      high = Math.floor(high / 0x80)
    }
    this.bytes[this.at++] = high
  }

  /** A whole number of at most 32 bits, unsigned. */
  varint32(value: number): void {
    this.room(5)
    let rest = value
    while (rest > 0x7f) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.bytes[this.at++] = rest
  }

  fixed32(value: number): void {
    this.room(4)
    this.view.setUint32(this.at, value, true)
    this.at += 4
  }

  fixed64(value: bigint): void {
    this.room(8)
    this.view.setBigUint64(this.at, BigInt.asUintN(64, value), true)
    this.at += 8
  }

  float(value: number): void {
    this.room(4)
    // One form for every NaN: what lies in its other bits is unspecified in JavaScript, and room for smuggling.
    if (Number.isNaN(value)) this.view.setUint32(this.at, 0x7fc0_0000, true)
    else this.view.setFloat32(this.at, value, true)
    this.at += 4
  }

  double(value: number): void {
    this.room(8)
    if (Number.isNaN(value)) this.view.setBigUint64(this.at, 0x7ff8_0000_0000_0000n, true)
    else this.view.setFloat64(this.at, value, true)
    this.at += 8
  }

  delimited(bytes: Uint8Array): void {
    this.varint32(bytes.length)
    this.raw(bytes)
  }

  text(value: string): void {
    const length = Buffer.byteLength(value, 'utf8')
    this.varint32(length)
    this.room(length)
    this.bytes.write(value, this.at, length, 'utf8')
    this.at += length
  }

  raw(bytes: Uint8Array): void {
    this.room(bytes.length)
    this.bytes.set(bytes, this.at)
    this.at += bytes.length
  }

  /** Begins something whose length is written in front of it when it ends; returns what `close` needs. One byte is left for the length. */
  open(): number {
    this.room(1)
    return ++this.at
  }

  /** Ends what was begun, and moves it on when its length takes more than the byte that was left. */
  close(from: number): void {
    const length = this.at - from
    const size = length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4
    this.room(size)
    if (size > 1) this.bytes.copyWithin(from - 1 + size, from, this.at)
    this.at = from - 1
    this.varint32(length)
    this.at += length
  }

  private room(count: number): void {
    if (this.at + count <= this.bytes.length) return
    const larger = Buffer.alloc(Math.max(this.bytes.length * 2, this.at + count))
    larger.set(this.bytes.subarray(0, this.at))
    this.bytes = larger
    this.view = new DataView(larger.buffer, larger.byteOffset)
  }
}
