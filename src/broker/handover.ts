/**
 * A record on its way through the recipients' broker: as it was when it came, and what has become of it since. The outbox changes its
 * own object when it purges or swaps, and packets are wrapped again and again: what stays the same is the payload's buffer.
 */
import type { PublishPacket } from 'aedes'
import type { OutboxRecord } from '../domain/ports.ts'

/** A record as it was handed over. */
export interface Handover {
  /** What leaves: asked for at the gate and counted. */
  record: OutboxRecord
  /** The outbox's own object, its revision at the hand-over, and what it said of a withdrawal then. */
  source: OutboxRecord
  revision: number
  variant: Uint8Array | null | undefined
  /** The variant has taken the place of the payload here; in the outbox it does so too. */
  readonly swapped: boolean
  /** Purged: nothing of it may be written any more. */
  gone: boolean
  /** The outbox has its answer, and has forgotten it. */
  answered: boolean
  /** Connected persistent sessions that have neither acknowledged it nor put it into the store. */
  held: number
  /** To be called when there is none any more. */
  finish: (() => void) | undefined
  /** A legal hold asked for it when it was let go of: the store keeps it, once, and it never leaves. */
  frozen: boolean
}

/**
 * What payloads belong to. It stands on the payload itself: what a weak map holds outlives every quick collection when it points back at
 * its key, as this does, and each message would then grow old.
 */
export class Handovers {
  readonly #handover = Symbol('handover')

  of({ payload }: { readonly payload?: string | Buffer }): Handover | undefined {
    return typeof payload === 'object' ? (payload as Marked)[this.#handover] : undefined
  }

  set(payload: Buffer, handover: Handover): void {
    (payload as Marked)[this.#handover] = handover
  }
}

type Marked = Buffer & Record<symbol, Handover | undefined>

export function handoverOf(record: OutboxRecord): Handover {
  return { record, source: record, revision: record.revision ?? 0, variant: record.payloadIfWithdrawn, swapped: false, gone: false, answered: false, held: 0, finish: undefined, frozen: false }
}

/** The outbox has done with it: what still waits here has bytes of its own, and holds on to none of the outbox's. */
export function letGoOf(handover: Handover, payload: Buffer): void {
  if (hasMoved(handover)) return
  const variant = handover.variant === undefined || handover.variant === null ? handover.variant : Buffer.from(handover.variant)
  handover.record = handover.source = { ...recordOf(handover.record), payload, payloadIfWithdrawn: variant }
  handover.revision = 0
  handover.variant = variant
}

/** What is left of a hand-over after a withdrawal. Nothing in it rests on a yes any more. */
export function swappedOf({ record, source, revision, variant, answered }: Handover, payload: Buffer): Handover {
  const rest: OutboxRecord = { ...recordOf(record), payload, payloadIfWithdrawn: undefined }
  return { record: rest, source, revision, variant, swapped: true, gone: false, answered, held: 0, finish: undefined, frozen: false }
}

/** A record of its own: the outbox's object answers by getters, which a spread would not see. */
export function recordOf(record: OutboxRecord): OutboxRecord {
  const {
    id, output, recipient, stream, topic, qos, retain, machine, holder, subjects, machineOrder, acquiredAtMs, receivedAtMs, purpose, basis, country, consentSeq,
    policy, rulesHash, plan, keyId, storageClass, expiresAtMs, categories, via, payload, payloadIfWithdrawn,
  } = record
  return {
    id, output, recipient, stream, topic, qos, retain, machine, holder, subjects, machineOrder, acquiredAtMs, receivedAtMs, purpose, basis, country, consentSeq,
    policy, rulesHash, plan, keyId, storageClass, expiresAtMs, categories, via, payload, payloadIfWithdrawn,
  }
}

/** The outbox has purged or swapped the record since. A swap that was made here too is not news. */
export function hasMoved({ source, revision, variant, swapped }: Handover): boolean {
  return (source.revision ?? 0) !== revision && !(swapped && source.payload === variant)
}

/** Whether there is anybody whose withdrawal, erasure or device setting could concern it. */
export function isTracked({ variant, record }: Handover): boolean {
  return variant !== undefined || record.subjects.length > 0
}

export function packetOf({ topic }: OutboxRecord, payload: Buffer, qos: 0 | 1 | 2, retain: boolean): PublishPacket {
  return { cmd: 'publish', topic, payload, qos, retain, dup: false }
}

/** [MQTT-3.3] A whole PUBLISH at QoS 0; retain is 1 only for a copy that a new subscription brings [MQTT-3.3.1-8, MQTT-3.3.1-9]. */
export function publishFrame(topic: string, payload: Uint8Array, retain: boolean): Buffer {
  return frameOf(retain ? 0x31 : 0x30, topic, undefined, payload)
}

/** [MQTT-3.3] [MQTT-3.6] What a session is sent under a packet id: a whole PUBLISH at QoS 1 or 2, or a PUBREL. */
export function numberedFrame({ cmd, topic, payload, qos, dup }: Pick<PublishPacket, 'topic' | 'payload' | 'qos' | 'dup'> & { readonly cmd: string }, id: number): Buffer {
  return cmd === 'pubrel' ? Buffer.from([0x62, 2, id >> 8, id & 0xff]) : frameOf(0x30 | (dup ? 8 : 0) | (qos << 1), topic, id, payload as Buffer)
}

function frameOf(first: number, topic: string, id: number | undefined, payload: Uint8Array): Buffer {
  const topicBytes = Buffer.byteLength(topic)
  const length = 2 + topicBytes + (id === undefined ? 0 : 2) + payload.length
  const lengthBytes = length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4
  const frame = Buffer.allocUnsafe(1 + lengthBytes + length)
  let at = 0
  frame[at++] = first
  for (let rest = length; ; rest >>>= 7) {
    if (rest < 0x80) {
      frame[at++] = rest
      break
    }
    frame[at++] = (rest & 0x7f) | 0x80
  }
  at = frame.writeUInt16BE(topicBytes, at)
  at += frame.write(topic, at)
  if (id !== undefined) at = frame.writeUInt16BE(id, at)
  frame.set(payload, at)
  return frame
}
