/**
 * A record as the outbox keeps it: in memory (`Entry`) and as a row of the file (`Row`, `entryOf`).
 */
import type { SQLOutputValue } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import type { OutboxRecord, Slot } from '../domain/ports.ts'
import type { Envelope } from './envelopes.ts'
import { OnWithdrawal } from './selector.ts'

/** A record in memory. Only what differs between neighbours is its own. */
export class Entry implements OutboxRecord {
  seq = 0
  readonly envelope: Envelope
  readonly id: Uint8Array
  readonly machineOrder: number
  readonly acquiredAtMs: number
  readonly receivedAtMs: number
  readonly expiresAtMs: number | undefined
  payload: Uint8Array
  payloadIfWithdrawn: Uint8Array | null | undefined
  /** Bytes against the quota. */
  size: number
  state: number = State.waiting
  /** Destinations that have not answered for it, as bits. */
  pending: number
  /** Destinations that hold it. */
  handed = 0
  /** Lanes that list it. */
  hands = 0
  revision = 0
  gone = false
  /** Destinations that will never take it, as bits, and what the last of them said. */
  refusedBy = 0
  refusal = ''
  /** Down-sampling (windows.ts): the window it stands for, until when it is kept, and that it is on its way out of there. */
  slot: Slot | undefined
  untilMs: number | undefined
  due = false

  constructor(
    envelope: Envelope, id: Uint8Array, machineOrder: number, acquiredAtMs: number, receivedAtMs: number, expiresAtMs: number | undefined,
    payload: Uint8Array, payloadIfWithdrawn: Uint8Array | null | undefined, size: number,
  ) {
    this.envelope = envelope
    this.id = id
    this.machineOrder = machineOrder
    this.acquiredAtMs = acquiredAtMs
    this.receivedAtMs = receivedAtMs
    this.expiresAtMs = expiresAtMs
    this.payload = payload
    this.payloadIfWithdrawn = payloadIfWithdrawn
    this.size = size
    this.pending = envelope.mask
  }

  get output(): OutboxRecord['output'] { return this.envelope.output }
  get recipient(): OutboxRecord['recipient'] { return this.envelope.recipient }
  get stream(): OutboxRecord['stream'] { return this.envelope.stream }
  get topic(): string { return this.envelope.topic }
  get qos(): 0 | 1 | 2 { return this.envelope.qos }
  get retain(): boolean { return this.envelope.retain }
  get machine(): OutboxRecord['machine'] { return this.envelope.machine }
  get holder(): string | undefined { return this.envelope.holder }
  get subjects(): OutboxRecord['subjects'] { return this.envelope.subjects }
  get purpose(): OutboxRecord['purpose'] { return this.envelope.purpose }
  get basis(): string { return this.envelope.basis }
  get country(): string | undefined { return this.envelope.country }
  get consentSeq(): readonly number[] { return this.envelope.consentSeq }
  get policy(): string { return this.envelope.policy }
  get rulesHash(): string { return this.envelope.rulesHash }
  get plan(): string { return this.envelope.plan }
  get keyId(): string { return this.envelope.keyId }
  get storageClass(): OutboxRecord['storageClass'] { return this.envelope.storageClass }
  get categories(): number { return this.envelope.categories }
  get via(): readonly string[] { return this.envelope.via }

  /** Purged: whoever still holds it finds no bytes. */
  drop(): void {
    this.payload = NOTHING
    this.payloadIfWithdrawn = undefined
    this.pending = 0
    this.handed = 0
    this.gone = true
    this.revision++
  }

  /** Withdrawn: the variant without consent takes the place of the payload. Returns by how many bytes the record got smaller. */
  swap(): number {
    const { payload, payloadIfWithdrawn: variant } = this
    if (variant === undefined || variant === null) return 0
    this.payload = variant
    this.payloadIfWithdrawn = undefined
    this.size -= payload.length
    this.revision++
    return payload.length
  }
}

/** Column `state`. */
export const State = { waiting: 0, held: 1, damaged: 2, dead: 3 } as const

/** Positions in SELECT_RECORD. */
export const Column = {
  seq: 0, envelope: 1, machineOrder: 2, acquired: 3, received: 4, expires: 5, crc: 6, id: 7, payload: 8, state: 9, onWithdrawal: 10, variant: 11, withdrawnCrc: 12,
  sealed: 13,
} as const
export type Row = readonly SQLOutputValue[]

/** What a row takes besides its payloads, roughly: counts against the quota. */
export const RECORD_BYTES = 80
/** What sealed bytes are longer than plain ones (vault.ts); the quota does not count it. */
export const OVERHEAD = 22
const NOTHING = Buffer.alloc(0)

/**
 * The checksum of a payload starts from all that decides whether, where and until when it leaves: the contents of its envelope, its id,
 * order and times, and what a withdrawal makes of it. A flipped bit in any of them is noticed like one in the payload; a yes must not
 * come out of damage.
 * @param onWithdrawal  of the payload that the checksum is for: a variant has nothing to lose any more
 */
export function seedOf(record: Pick<OutboxRecord, 'id' | 'machineOrder' | 'acquiredAtMs' | 'receivedAtMs' | 'expiresAtMs'>, { seal }: Envelope, onWithdrawal: number): number {
  let seed = mix(mix(mix(mix(seal ^ onWithdrawal, record.machineOrder), record.acquiredAtMs), record.receivedAtMs), record.expiresAtMs ?? -1)
  for (const byte of record.id) seed = Math.imul(seed ^ byte, 0x01000193)
  return seed >>> 0
}

/** Whether a record is as it was stored. */
export function isWhole(record: OutboxRecord, envelope: Envelope, crc: SQLOutputValue | undefined, withdrawnCrc: SQLOutputValue | undefined): boolean {
  const { payload, payloadIfWithdrawn: variant } = record
  if (crc32(payload, seedOf(record, envelope, onWithdrawalOf(variant))) !== crc) return false
  return variant === undefined || variant === null || crc32(variant, seedOf(record, envelope, OnWithdrawal.nothing)) === withdrawnCrc
}

/** Odd factors: two numbers that differ never give the same. */
function mix(seed: number, number: number): number {
  return Math.imul(Math.imul(seed ^ (number | 0), 0x9e3779b1) ^ Math.floor(number / 4_294_967_296), 0x85ebca6b)
}

/** The record that a row holds. Its bytes are the row's own copy; whether they are whole is for the caller to check. */
export function entryOf(row: Row, envelope: Envelope): Entry {
  const on = row[Column.onWithdrawal]
  const variant = on === OnWithdrawal.nothing ? undefined : on === OnWithdrawal.swap ? bytesOf(row[Column.variant]) : null
  const entry = new Entry(
    envelope, bytesOf(row[Column.id]), Number(row[Column.machineOrder]), Number(row[Column.acquired]), Number(row[Column.received]),
    numberOr(row[Column.expires]), bytesOf(row[Column.payload]), variant, sizeOf(row),
  )
  entry.seq = Number(row[Column.seq])
  entry.state = Number(row[Column.state])
  return entry
}

/** Value of the column `on_withdrawal`. */
export function onWithdrawalOf(variant: Uint8Array | null | undefined): number {
  return variant === undefined ? OnWithdrawal.nothing : variant === null ? OnWithdrawal.drop : OnWithdrawal.swap
}

/** A record expires at its instant, not after it. */
export function isExpired(record: OutboxRecord, nowMs: number): boolean {
  return record.expiresAtMs !== undefined && record.expiresAtMs <= nowMs
}

/** Bytes of a row against the quota. */
export function sizeOf(row: Row): number {
  return RECORD_BYTES + plainLength(row, Column.payload) + plainLength(row, Column.variant)
}

/** Bytes of a payload as it will leave. */
export function plainLength(row: Row, column: typeof Column.payload | typeof Column.variant): number {
  const value = row[column]
  return value instanceof Uint8Array ? Math.max(0, value.length - (row[Column.sealed] === 0 ? 0 : OVERHEAD)) : 0
}

function bytesOf(value: SQLOutputValue | undefined): Buffer {
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.length) : NOTHING
}

export function numberOr(value: SQLOutputValue | undefined): number | undefined {
  return value === null || value === undefined ? undefined : Number(value)
}
