/**
 * Streams of messages in files and pipes: each behind its length as a varint, or one JSON object a line. Memory stays bounded
 * by the largest message, whatever the length of the input.
 */
import type { Readable } from 'node:stream'
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'

/** A message that is longer than any gateway takes; its bytes were passed over. */
export const TOO_BIG = Symbol('too big')

const LINE_MAX = 4 * LIMITS.packetBytes

/**
 * Length-delimited messages, in lists of those that arrived together.
 * @throws GatewayError INPUT-LENGTH  a length of more than ten bytes
 * @throws GatewayError INPUT-TRUNCATED  the input ends inside a message; all whole ones were handed out before
 */
export async function* delimited(input: Readable): AsyncGenerator<readonly (Uint8Array | typeof TOO_BIG)[]> {
  let rest: Buffer = Buffer.alloc(0)
  let offset = 0
  let count = 0
  let passOver = 0
  for await (const piece of input) {
    let chunk: Buffer = Buffer.from(piece as Uint8Array)
    if (passOver > 0) {
      const passed = Math.min(passOver, chunk.length)
      passOver -= passed
      offset += passed
      chunk = chunk.subarray(passed)
    }
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    const found: (Uint8Array | typeof TOO_BIG)[] = []
    let at = 0
    while (at < bytes.length) {
      const head = lengthAt(bytes, at)
      if (head === undefined) {
        if (bytes.length - at >= 10) throw new GatewayError('INPUT-LENGTH', `There is no message length at byte ${offset + at} of the input.`, 'Each message stands behind its length as a varint; use --format json for lines of JSON.')
        break
      }
      const end = head.at + head.length
      if (head.length > LIMITS.packetBytes) {
        found.push(TOO_BIG)
        passOver = Math.max(0, end - bytes.length)
        at = Math.min(end, bytes.length)
      } else if (end > bytes.length) {
        break
      } else {
        found.push(bytes.subarray(head.at, end))
        at = end
      }
      count++
    }
    rest = Buffer.from(bytes.subarray(at))
    offset += at
    if (found.length > 0) yield found
  }
  if (rest.length > 0 || passOver > 0) throw new GatewayError('INPUT-TRUNCATED', `The input ends inside message ${passOver > 0 ? count : count + 1}, which begins at byte ${offset}.`, 'The messages before it were handled.')
}

/** Start and length of the message whose length begins at an offset; undefined while the length is not whole. */
function lengthAt(bytes: Uint8Array, offset: number): { readonly at: number; readonly length: number } | undefined {
  let length = 0
  for (let i = 0; i < 10 && offset + i < bytes.length; i++) {
    const byte = bytes[offset + i] as number
    length += (byte & 127) * 2 ** (7 * i)
    if (byte < 128) return { at: offset + i + 1, length }
  }
  return undefined
}

/** A message behind its length. */
export function framed(message: Uint8Array): Uint8Array {
  const head: number[] = []
  for (let left = message.length; ; left >>>= 7) {
    if (left < 128) {
      head.push(left)
      break
    }
    head.push((left & 127) | 128)
  }
  return Buffer.concat([Uint8Array.from(head), message])
}

/**
 * Lines of text with their numbers, in lists of those that arrived together; empty lines are left out.
 * @throws GatewayError INPUT-LINE  a line longer than any message could be
 */
export async function* lines(input: Readable): AsyncGenerator<readonly { readonly number: number; readonly text: string }[]> {
  let rest: Buffer = Buffer.alloc(0)
  let number = 0
  const line = (bytes: Buffer): { readonly number: number; readonly text: string }[] => {
    number++
    const text = bytes.toString('utf8').trim()
    return text === '' ? [] : [{ number, text }]
  }
  for await (const piece of input) {
    const bytes: Buffer = Buffer.concat([rest, Buffer.from(piece as Uint8Array)])
    const found: { readonly number: number; readonly text: string }[] = []
    let at = 0
    for (let end = bytes.indexOf(10, at); end >= 0; end = bytes.indexOf(10, at)) {
      found.push(...line(bytes.subarray(at, end)))
      at = end + 1
    }
    rest = Buffer.from(bytes.subarray(at))
    if (rest.length > LINE_MAX) throw new GatewayError('INPUT-LINE', `Line ${number + 1} of the input is longer than ${LINE_MAX} bytes.`, 'Write one message a line.')
    if (found.length > 0) yield found
  }
  const last = rest.length > 0 ? line(rest) : []
  if (last.length > 0) yield last
}
