/**
 * What the withdrawal race looks at on both sides of a socket: MQTT packets in a stream of bytes, and in each PUBLISH the three
 * things that tell whether a withdrawal covers it: whose data it is, when it was acquired, and whether it is the form that only a
 * yes allows. Knows nothing of the gateway.
 */

/** Purposes of the race's rules, and the topics of their outputs. */
export const PURPOSES = ['improve.statistics', 'service.operate'] as const
export type RacePurpose = (typeof PURPOSES)[number]

/** One PUBLISH towards a recipient. */
export interface Copy {
  readonly purpose: RacePurpose
  /** Number of the person, as the message carries it in `seq`. */
  readonly operator: number
  readonly eventMs: number
  /** It rests on the person's yes: all of the statistics, and of the service data what has the exact height. */
  readonly covered: boolean
  readonly qos: number
  readonly packetId: number
}

/** The height that a yes lets through; without it the rules round it to 10 m. */
export const EXACT_HEIGHT_MM = 7_777

/** Cuts a stream into MQTT packets [MQTT-2.2.3]. `end` is the place behind the packet, counted from the beginning of the stream. */
export class Packets {
  readonly #each: (first: number, body: Buffer, end: number) => void
  #rest: Buffer = Buffer.alloc(0)
  #at = 0

  constructor(each: (first: number, body: Buffer, end: number) => void) {
    this.#each = each
  }

  push(chunk: Uint8Array): void {
    const bytes = this.#rest.length === 0 ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length) : Buffer.concat([this.#rest, chunk])
    let at = 0
    while (at < bytes.length) {
      let length = 0
      let body = at + 1
      let shift = 0
      for (; body < bytes.length; shift += 7) {
        const byte = bytes[body++]!
        length |= (byte & 0x7f) << shift
        if (byte < 0x80) break
      }
      if (body > bytes.length || bytes[body - 1]! >= 0x80 || body === at + 1 || body + length > bytes.length) break
      this.#each(bytes[at]!, bytes.subarray(body, body + length), this.#at + body + length)
      at = body + length
    }
    this.#at += at
    this.#rest = at === bytes.length ? NOTHING : Buffer.from(bytes.subarray(at))
  }
}

const NOTHING = Buffer.alloc(0)

/** A PUBLISH of one of the race's outputs; undefined for any other packet. */
export function copyOf(first: number, body: Buffer): Copy | undefined {
  if (first >> 4 !== 3) return undefined
  const qos = (first >> 1) & 3
  const topicEnd = 2 + body.readUInt16BE(0)
  const payload = topicEnd + (qos > 0 ? 2 : 0)
  const isService = body.toString('latin1', 6, 13) === 'service'
  let operator = 0
  let eventMs = 0
  let height = 0
  for (let at = payload; at < body.length;) {
    const [tag, value] = varint(body, at)
    const field = tag >>> 3
    if ((tag & 7) === 2) {
      const [length, from] = varint(body, value)
      at = from + length
      continue
    }
    const [number, next] = varint(body, value)
    if (field === 2) eventMs = number
    else if (field === 3) operator = number
    else if (field === 14) height = number
    at = next
  }
  return {
    purpose: isService ? 'service.operate' : 'improve.statistics', operator, eventMs, covered: !isService || height === EXACT_HEIGHT_MM, qos,
    packetId: qos > 0 ? body.readUInt16BE(topicEnd) : 0,
  }
}

/** [value, place behind it]; exact up to 2^53. */
function varint(bytes: Buffer, at: number): readonly [number, number] {
  let value = 0
  let scale = 1
  for (;;) {
    const byte = bytes[at++]!
    value += (byte & 0x7f) * scale
    if (byte < 0x80) return [value, at]
    scale *= 128
  }
}
