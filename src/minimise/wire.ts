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
  at: number
  end: number

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = start
    this.end = end
  }

  /** Low and high 32 bits of a varint; overlong encodings are read, more than ten bytes are not. */
  varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.at >= this.end) throw new Malformed(Verdict.truncated.code)
      const byte = this.bytes[this.at++]!
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new Malformed(Verdict.bad_varint.code)
  }

  /** Field number * 8 + wire type. A tag is a 32-bit number; zero and reserved wire types are malformed. */
  tag(): number {
    const tag = this.varint()
    if (tag > 0xffff_ffffn) throw new Malformed(Verdict.bad_tag.code)
    const number = Number(tag)
    if (number < 8 || (number & 7) > 5) throw new Malformed(Verdict.bad_tag.code)
    return number
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

  /** End offset of a length-delimited field whose length is read here. */
  length(): number {
    const length = this.varint()
    if (length > BigInt(this.end - this.at)) throw new Malformed(Verdict.truncated.code)
    return this.at + Number(length)
  }

  /** Steps over a field whose tag was read. Groups may nest to the depth limit. */
  skip(tag: number, depth: number): void {
    switch (tag & 7) {
      case Wire.varint:
        this.varint()
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

/** Appends canonical wire format to a growing buffer. */
export class Writer {
  private bytes = new Uint8Array(512)
  private view = new DataView(this.bytes.buffer)
  private at = 0

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.at)
  }

  get length(): number {
    return this.at
  }

  tag(number: number, wire: number): void {
    this.varint((BigInt(number) << 3n) | BigInt(wire))
  }

  varint(value: bigint): void {
    this.room(10)
    let rest = BigInt.asUintN(64, value)
    while (rest > 0x7fn) {
      this.bytes[this.at++] = Number(rest & 0x7fn) | 0x80
      rest >>= 7n
    }
    this.bytes[this.at++] = Number(rest)
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
    this.view.setUint32(this.at, 0x7fc0_0000, true)
    if (!Number.isNaN(value)) this.view.setFloat32(this.at, value, true)
    this.at += 4
  }

  double(value: number): void {
    this.room(8)
    this.view.setBigUint64(this.at, 0x7ff8_0000_0000_0000n, true)
    if (!Number.isNaN(value)) this.view.setFloat64(this.at, value, true)
    this.at += 8
  }

  delimited(bytes: Uint8Array): void {
    this.varint(BigInt(bytes.length))
    this.raw(bytes)
  }

  raw(bytes: Uint8Array): void {
    this.room(bytes.length)
    this.bytes.set(bytes, this.at)
    this.at += bytes.length
  }

  private room(count: number): void {
    if (this.at + count <= this.bytes.length) return
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.at + count))
    larger.set(this.bytes.subarray(0, this.at))
    this.bytes = larger
    this.view = new DataView(larger.buffer)
  }
}
