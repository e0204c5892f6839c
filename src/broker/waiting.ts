/**
 * What one session of a recipient has not acknowledged.
 */
import type { PublishPacket } from 'aedes'
import type { SessionStore } from '../domain/ports.ts'
import { Shelf } from '../domain/shelf.ts'
import type { Count } from './counts.ts'
import type { OutgoingPacket } from './engine.ts'
import { hasMoved, recordOf } from './handover.ts'
import type { Handover, Handovers } from './handover.ts'

/**
 * What one session has not acknowledged: PUBLISHes in order, a PUBREL in the place of its PUBLISH. Bounded by number and bytes.
 * A packet is either held (a connected session has it, and the outbox has its record) or kept (it is in the store).
 */
export class OutgoingQueue {
  readonly #desk: QueueDesk
  readonly #session: string
  readonly #packets = new Shelf<QueuedPacket>()
  /** Packet id -> key in #packets. */
  readonly #byId = new Shelf<number>()
  /** By key in #packets: held, and for how many rounds of `keepOld`. */
  readonly #held = new Shelf<{ readonly handover: Handover; isOld: boolean }>()
  /** Kept, but under no packet id yet: it is written when the session leaves. */
  readonly #unnumbered = new Set<number>()
  /** Record id -> key in #packets, of what a former run left. */
  readonly #restored = new Map<string, number>()
  #bytes = 0

  constructor(desk: QueueDesk, session: string) {
    this.#desk = desk
    this.#session = session
  }

  get size(): number {
    return this.#packets.size
  }

  get bytes(): number {
    return this.#bytes
  }

  /** When the message that waits longest was received, in ms since the epoch. */
  get oldestAtMs(): number | undefined {
    for (const packet of this.#packets.values()) {
      const handover = this.#desk.handovers.of(packet)
      if (handover !== undefined) return handover.record.receivedAtMs
    }
    return undefined
  }

  /** The packet id after the one given last, when any is in use. */
  get freeId(): number | undefined {
    const last = this.#byId.lastKey
    return last === undefined ? undefined : (last % 65_535) + 1
  }

  /** @param absent  nobody is connected: it goes into the store at once */
  push(packet: QueuedPacket, absent = false): void {
    const key = packet.brokerCounter ?? 0
    if (this.#packets.has(key)) return
    this.#add(key, packet)
    if (this.#desk.store !== undefined) {
      const handover = this.#desk.handovers.of(packet)
      if (absent) this.#keep(key, packet)
      else if (handover !== undefined) {
        handover.held++
        this.#held.set(key, { handover, isOld: false })
      }
    }
    while (this.#packets.size > this.#desk.max || (this.#bytes > this.#desk.maxBytes && this.#packets.size > 1)) {
      this.#lose(this.#packets.keys().next().value!)
      this.#desk.count('deliver.queue_full')
    }
  }

  /** A packet that the store gave back. */
  restore(packet: QueuedPacket): void {
    const key = packet.brokerCounter ?? 0
    this.#add(key, packet)
    if (packet.messageId !== undefined) this.#byId.set(packet.messageId, key)
    const handover = this.#desk.handovers.of(packet)
    if (handover !== undefined) this.#restored.set(idOf(handover.record.id), key)
  }

  /** Whether a former run left this record here, and it waits still. */
  holds(id: Uint8Array): boolean {
    return this.#restored.size > 0 && this.#packets.get(this.#restored.get(idOf(id)) ?? -1)?.cmd === 'publish'
  }

  #add(key: number, packet: QueuedPacket): void {
    this.#packets.set(key, packet)
    this.#bytes += sizeOf(packet)
  }

  /** The session has left: everything goes into the store, under the ids that it was sent under. */
  keep(): void {
    for (const key of [...this.#held.keys(), ...this.#unnumbered]) {
      const packet = this.#packets.get(key)
      if (packet !== undefined) this.#keep(key, packet)
    }
    this.#unnumbered.clear()
  }

  /** What was not acknowledged since the last call goes into the store, and the outbox may forget it. */
  keepOld(): void {
    for (const [key, held] of this.#held) {
      const packet = this.#packets.get(key)
      if (held.isOld && packet !== undefined) this.#keep(key, packet)
      held.isOld = true
    }
  }

  #keep(key: number, packet: QueuedPacket): void {
    // That of the payload: after a withdrawal it is not the one that was handed over first.
    const handover = this.#desk.handovers.of(packet)
    // What the outbox has purged meanwhile has lost what it said of a withdrawal: kept like that it would rest on nobody's yes.
    if (packet.cmd === 'publish' && handover !== undefined && !handover.gone && !hasMoved(handover)) {
      const record = { ...recordOf(handover.record), payload: packet.payload as Buffer }
      this.#desk.store?.put(this.#session, { place: key, record, qos: packet.qos === 2 ? 2 : 1, messageId: packet.messageId, released: false })
      if (packet.messageId === undefined) this.#unnumbered.add(key)
    }
    this.#letGo(key)
  }

  /** The outbox need not keep it for this session any more. */
  #letGo(key: number): void {
    const handover = this.#held.get(key)?.handover
    if (handover === undefined) return
    this.#held.delete(key)
    if (--handover.held > 0) return
    const { finish } = handover
    handover.finish = undefined
    finish?.()
  }

  /** A packet got its id, or a PUBREL takes the place of the PUBLISH with the same id. */
  update(packet: OutgoingPacket): void {
    const id = packet.messageId ?? 0
    if (packet.cmd === 'pubrel') {
      const key = this.#byId.get(id)
      const published = key === undefined ? undefined : this.#packets.get(key)
      if (key === undefined || published === undefined) return
      this.#bytes -= sizeOf(published)
      const record = published.cmd === 'publish' ? this.#desk.handovers.of(published)?.record : undefined
      this.#packets.set(key, { cmd: 'pubrel', messageId: id } as unknown as QueuedPacket)
      this.#unnumbered.delete(key)
      // [MQTT-4.3.3-1] Received: after a restart only the PUBREL is sent again.
      // It tells of nobody any more: an erasure need not find it.
      if (record !== undefined) this.#desk.store?.put(this.#session, { place: key, record: { ...recordOf(record), subjects: [], consentSeq: [], payloadIfWithdrawn: undefined }, qos: 2, messageId: id, released: true })
      this.#letGo(key)
      return
    }
    const queued = this.#packets.get(packet.brokerCounter ?? 0)
    if (queued === undefined) return
    queued.messageId = id
    this.#byId.set(id, packet.brokerCounter ?? 0)
  }

  /** Acknowledged, or refused at the gate. */
  clear(packet: OutgoingPacket): QueuedPacket | undefined {
    const key = packet.messageId === undefined ? packet.brokerCounter : this.#byId.get(packet.messageId)
    if (key === undefined) return undefined
    return packet.cmd === 'publish' ? this.#lose(key) : this.#remove(key)
  }

  /** The session has ended. */
  end(): void {
    for (const key of [...this.#packets.keys()]) this.#lose(key)
  }

  /**
   * What was sent before, marked as sent again [MQTT-3.3.1-1], and what stands in between: after a crash nobody knows the ids of some that
   * were sent, and they are not to come behind those whose ids are known. [G5]
   */
  *sent(): Generator<QueuedPacket> {
    let last = -1
    for (const key of this.#byId.values()) last = Math.max(last, key)
    for (const [key, packet] of this.#packets) {
      if (key > last) return
      if (packet.cmd === 'publish' && packet.messageId !== undefined) packet.dup = true
      yield packet
    }
  }

  /** What has no id yet, also what is added while it is being sent. */
  *unsent(): Generator<QueuedPacket> {
    for (const packet of this.#packets.values()) if (packet.cmd === 'publish' && packet.messageId === undefined) yield packet
  }

  purge(fateOf: FateOf): void {
    for (const [key, packet] of this.#packets) {
      if (packet.cmd !== 'publish') continue
      const fate = fateOf(packet)
      if (fate === undefined) continue
      if (fate === null) {
        this.#lose(key)
      } else {
        // In its place, so that a machine's messages keep their order.
        this.#bytes += fate.length - packet.payload.length
        packet.payload = fate
        if (!this.#held.has(key)) this.#keep(key, packet)
      }
    }
  }

  /** It goes without having arrived. */
  #lose(key: number): QueuedPacket | undefined {
    const packet = this.#packets.get(key)
    if (packet?.cmd === 'publish') this.#desk.lost(packet)
    return this.#remove(key)
  }

  #remove(key: number): QueuedPacket | undefined {
    const packet = this.#packets.get(key)
    if (packet === undefined) return undefined
    this.#packets.delete(key)
    if (packet.messageId !== undefined) this.#byId.delete(packet.messageId)
    this.#bytes -= sizeOf(packet)
    this.#unnumbered.delete(key)
    const handover = this.#restored.size === 0 ? undefined : this.#desk.handovers.of(packet)
    if (handover !== undefined) this.#restored.delete(idOf(handover.record.id))
    this.#desk.store?.remove(this.#session, key)
    this.#letGo(key)
    return packet
  }
}

/** What all queues share. */
export interface QueueDesk {
  /** Messages and bytes of one queue; past them the oldest goes and is counted. */
  readonly max: number
  readonly maxBytes: number
  readonly handovers: Handovers
  readonly store: SessionStore | undefined
  readonly count: Count
  /** A message is about to go without having arrived. */
  readonly lost: (packet: PublishPacket) => void
}

export type QueuedPacket = PublishPacket & OutgoingPacket

/** What becomes of a packet: it stays (undefined), it goes (null), or its payload is replaced. */
export type FateOf = (packet: PublishPacket) => Buffer | null | undefined

function idOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1')
}

function sizeOf(packet: QueuedPacket): number {
  return packet.cmd === 'publish' ? packet.payload.length + packet.topic.length + 64 : 0
}
