/**
 * The MQTT 3.1.1 rules that the protocol engine does not check, looked at on the raw bytes before it sees them.
 * One pass, no allocation for a well-formed packet. Nothing here keeps state: the guard does.
 */
import { isUtf8 } from 'node:buffer'
import { filterFault, topicBytesFault } from './topics.ts'

/** [MQTT-2.2.1] Control packet types, as the upper four bits of the first byte. */
export const Packet = {
  connect: 1, connack: 2, publish: 3, puback: 4, pubrec: 5, pubrel: 6, pubcomp: 7,
  subscribe: 8, suback: 9, unsubscribe: 10, unsuback: 11, pingreq: 12, pingresp: 13, disconnect: 14,
} as const

/** `malformed` the bytes break a rule; `protocol` the packet may not come here; `topic` a topic is longer or deeper than we take. */
export type Fault = 'malformed' | 'protocol' | 'topic'

/** Filters of one SUBSCRIBE or UNSUBSCRIBE. */
const FILTERS_MAX = 256
/** Bytes of a client id. [MQTT-3.1.3-5] asks for 23, real ones are longer. */
const CLIENT_ID_BYTES = 256

/**
 * What is wrong with a packet other than CONNECT, if anything.
 * @param from first byte of the fixed header
 * @param body first byte after the fixed header
 * @param to   end of the packet
 */
export function packetFault(bytes: Buffer, from: number, body: number, to: number): Fault | undefined {
  const first = bytes[from]!
  const flags = first & 0x0f
  switch (first >> 4) {
    case Packet.publish:
      return publishFault(bytes, flags, body, to)
    case Packet.puback:
    case Packet.pubrec:
    case Packet.pubcomp:
      return flags === 0 ? identifierFault(bytes, body, to) : 'malformed'
    case Packet.pubrel:
      return flags === 2 ? identifierFault(bytes, body, to) : 'malformed' // [MQTT-3.6.1-1]
    case Packet.subscribe:
      return flags === 2 ? filtersFault(bytes, body, to, true) : 'malformed' // [MQTT-3.8.1-1]
    case Packet.unsubscribe:
      return flags === 2 ? filtersFault(bytes, body, to, false) : 'malformed' // [MQTT-3.10.1-1]
    case Packet.pingreq:
    case Packet.disconnect:
      return flags === 0 && body === to ? undefined : 'malformed' // [MQTT-3.14.1-1]
    default:
      // A second CONNECT [MQTT-3.1.0-2], a packet that only a server sends, or a reserved type.
      return 'protocol'
  }
}

/** QoS of a PUBLISH from its first byte. */
export function qosOf(first: number): number {
  return (first >> 1) & 3
}

function publishFault(bytes: Buffer, flags: number, body: number, to: number): Fault | undefined {
  const qos = (flags >> 1) & 3
  if (qos === 3) return 'malformed' // [MQTT-3.3.1-4]
  if (qos === 0 && (flags & 8) !== 0) return 'malformed' // [MQTT-3.3.1-2]
  if (to - body < 2) return 'malformed'
  const topicEnd = body + 2 + uint16(bytes, body)
  const identifierEnd = qos === 0 ? topicEnd : topicEnd + 2
  if (identifierEnd > to) return 'malformed'
  if (qos !== 0 && uint16(bytes, topicEnd) === 0) return 'malformed' // [MQTT-2.3.1-1]
  const fault = topicBytesFault(bytes, body + 2, topicEnd)
  if (fault === undefined) return undefined
  return fault === 'too_long' || fault === 'too_deep' ? 'topic' : 'malformed'
}

function identifierFault(bytes: Buffer, body: number, to: number): Fault | undefined {
  return to - body === 2 && uint16(bytes, body) !== 0 ? undefined : 'malformed'
}

function filtersFault(bytes: Buffer, body: number, to: number, withQos: boolean): Fault | undefined {
  if (to - body < 2 || uint16(bytes, body) === 0) return 'malformed' // [MQTT-2.3.1-1]
  let at = body + 2
  let count = 0
  while (at < to) {
    if (++count > FILTERS_MAX) return 'topic'
    if (to - at < 2) return 'malformed'
    const end = at + 2 + uint16(bytes, at)
    if (end + (withQos ? 1 : 0) > to) return 'malformed'
    if (!isText(bytes, at + 2, end)) return 'malformed' // [MQTT-3.8.3-1]
    const fault = filterFault(bytes.toString('utf8', at + 2, end))
    if (fault !== undefined) return fault === 'too_long' || fault === 'too_deep' ? 'topic' : 'malformed'
    at = end
    if (withQos) {
      if (bytes[at]! > 2) return 'malformed' // [MQTT-3.8.3-4]
      at++
    }
  }
  return count > 0 ? undefined : 'malformed' // [MQTT-3.8.3-3] [MQTT-3.10.3-2]
}

// ---------------------------------------------------------------------------------------------------------------- CONNECT

/** CONNACK with a return code, for what is refused before the engine sees it. */
function connack(code: number): Buffer {
  return Buffer.from([0x20, 2, 0, code])
}

const UNACCEPTABLE_VERSION = connack(1)
const IDENTIFIER_REJECTED = connack(2)
/** [MQTT 5.0, 3.1.2.2] Reason 0x84, unsupported protocol version, in the form that a 5.0 client can read. */
const UNSUPPORTED_VERSION_5 = Buffer.from([0x20, 3, 0, 0x84, 0])

export interface ConnectFacts {
  readonly fault: Fault | undefined
  /** To be written before the connection is closed: the sender is told why. */
  readonly answer: Buffer | undefined
  /** Seconds; 0 = no keep alive. */
  readonly keepalive: number
}

function refused(fault: Fault, answer?: Buffer): ConnectFacts {
  return { fault, answer, keepalive: 0 }
}

/** Reads a whole CONNECT packet as strictly as [MQTT-3.1] asks. */
export function connectFacts(bytes: Buffer, from: number, body: number, to: number): ConnectFacts {
  if (bytes[from] !== 0x10) return refused('malformed') // [MQTT-2.2.2-2]
  const nameEnd = stringEnd(bytes, body, to)
  if (nameEnd === -1 || to - nameEnd < 4) return refused('malformed')
  const name = bytes.toString('latin1', body + 2, nameEnd)
  const level = bytes[nameEnd]!
  if (name !== 'MQTT' && name !== 'MQIsdp') return refused('protocol') // [MQTT-3.1.2-1]
  if (name === 'MQTT' && level === 5) return refused('protocol', UNSUPPORTED_VERSION_5)
  // [MQTT-3.1.2-2] 4 is 3.1.1, 3 is 3.1. A bridge sets bit 7 to ask for something of its own and tries again without it.
  if (level !== (name === 'MQTT' ? 4 : 3)) return refused('protocol', UNACCEPTABLE_VERSION)

  const flags = bytes[nameEnd + 1]!
  const will = (flags & 0x04) !== 0
  const user = (flags & 0x80) !== 0
  const password = (flags & 0x40) !== 0
  if ((flags & 0x01) !== 0) return refused('malformed') // [MQTT-3.1.2-3]
  if (will ? (flags & 0x18) === 0x18 : (flags & 0x38) !== 0) return refused('malformed') // [MQTT-3.1.2-11,13,14,15]
  if (password && !user) return refused('malformed') // [MQTT-3.1.2-22]
  const keepalive = uint16(bytes, nameEnd + 2)

  let at = nameEnd + 4
  let end = stringEnd(bytes, at, to)
  if (end === -1 || !isText(bytes, at + 2, end)) return refused('malformed') // [MQTT-3.1.3-4]
  const idBytes = end - at - 2
  at = end
  if (will) {
    end = stringEnd(bytes, at, to)
    if (end === -1 || topicBytesFault(bytes, at + 2, end) !== undefined) return refused('malformed') // [MQTT-3.1.3-10]
    at = end
    end = stringEnd(bytes, at, to)
    if (end === -1) return refused('malformed')
    at = end
  }
  if (user) {
    end = stringEnd(bytes, at, to)
    if (end === -1 || !isText(bytes, at + 2, end)) return refused('malformed') // [MQTT-3.1.3-11]
    at = end
  }
  if (password) {
    end = stringEnd(bytes, at, to)
    if (end === -1) return refused('malformed')
    at = end
  }
  if (at !== to) return refused('malformed') // [MQTT-3.1.2-18,20] payload and flags differ
  // [MQTT-3.1.3-8] An empty id needs a clean session; MQTT 3.1 knows no empty id at all.
  if (idBytes > CLIENT_ID_BYTES || (idBytes === 0 && ((flags & 0x02) === 0 || level === 3))) return refused('protocol', IDENTIFIER_REJECTED)
  return { fault: undefined, answer: undefined, keepalive }
}

/** End of a length-prefixed string or binary at `at`, or -1 when it does not fit. */
function stringEnd(bytes: Buffer, at: number, to: number): number {
  if (to - at < 2) return -1
  const end = at + 2 + uint16(bytes, at)
  return end <= to ? end : -1
}

/** [MQTT-1.5.3-1] [MQTT-1.5.3-2] Well-formed UTF-8 without NUL. */
function isText(bytes: Buffer, from: number, to: number): boolean {
  const text = bytes.subarray(from, to)
  return !text.includes(0) && isUtf8(text)
}

export function uint16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}
