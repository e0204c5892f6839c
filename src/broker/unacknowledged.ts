/**
 * What went out on one connection and waits for an answer, read from the bytes as they leave. The engine takes any acknowledgement
 * for any message; with this the guard knows which one is due.
 */
import { Shelf } from '../domain/shelf.ts'
import { Packet } from './conformance.ts'

export class Unacknowledged {
  /** Packet id -> kind of the packet that is due. At most as many as there are ids: 65,535. */
  readonly #due = new Shelf<number>()

  // Where the reader is in the packet that is leaving.
  #part: Part = Part.first
  #first = 0
  #shift = 0
  /** Of the packet, from the packet id on. */
  #rest = 0
  #skip = 0
  /** First byte of a number of two. */
  #high = 0

  /** Bytes that are handed to the socket: whole packets one after another, cut anywhere. */
  left(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#skip > 0) {
        const size = Math.min(this.#skip, bytes.length - at)
        this.#skip -= size
        at += size
      } else {
        this.#read(bytes[at++]!)
      }
    }
  }

  /**
   * [MQTT-4.3.2] [MQTT-4.3.3] Whether a PUBACK, PUBREC or PUBCOMP answers what was sent under its id. One under an id that waits for nothing
   * answers something of an earlier connection, or a second time: it does no harm.
   */
  answers(type: number, id: number): boolean {
    const due = this.#due.get(id)
    if (due === undefined) return true
    if (type === due) {
      // A PUBREC is followed by our PUBREL, which takes its place.
      if (type !== Packet.pubrec) this.#due.delete(id)
      return true
    }
    // The PUBREL has left, and the PUBREC came once more.
    return type === Packet.pubrec && due === Packet.pubcomp
  }

  #read(byte: number): void {
    switch (this.#part) {
      case Part.first:
        this.#first = byte
        this.#rest = this.#shift = 0
        this.#part = Part.length
        return
      case Part.length:
        this.#rest |= (byte & 0x7f) << this.#shift
        this.#shift += 7
        if (byte < 0x80) this.#begin()
        return
      case Part.topicHigh:
        this.#high = byte
        this.#part = Part.topicLow
        return
      case Part.topicLow:
        this.#skip = (this.#high << 8) | byte
        this.#rest -= 2 + this.#skip
        this.#part = Part.idHigh
        return
      case Part.idHigh:
        this.#high = byte
        this.#part = Part.idLow
        return
      default:
        this.#note((this.#high << 8) | byte)
        this.#skip = this.#rest - 2
        this.#part = Part.first
    }
  }

  /** Of the packets that leave, a PUBLISH with QoS 1 or 2 and a PUBREL wait for an answer. */
  #begin(): void {
    const type = this.#first >> 4
    if (type === Packet.publish && (this.#first & 0x06) !== 0) {
      this.#part = Part.topicHigh
    } else if (type === Packet.pubrel) {
      this.#part = Part.idHigh
    } else {
      this.#skip = this.#rest
      this.#part = Part.first
    }
  }

  #note(id: number): void {
    if (this.#first >> 4 === Packet.pubrel) this.#due.set(id, Packet.pubcomp)
    else this.#due.set(id, (this.#first & 0x04) === 0 ? Packet.puback : Packet.pubrec)
  }
}

const Part = { first: 0, length: 1, topicHigh: 2, topicLow: 3, idHigh: 4, idLow: 5 } as const
type Part = (typeof Part)[keyof typeof Part]
