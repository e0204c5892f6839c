/**
 * Dead letters: records that a destination refused for good. They are kept aside for somebody to look at, seven days at most, and
 * have a bound of their own: a broker that objects to everything takes no room from what its output still has to send.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { DeadLetter } from '../domain/ports.ts'
import { addColumn } from './database.ts'
import { OVERHEAD, State } from './entry.ts'
import type { Entry } from './entry.ts'
import type { Envelope } from './envelopes.ts'

export class DeadLetters {
  readonly #set: StatementSync
  readonly #select: StatementSync
  readonly #maxBytes: number
  /** By sequence number. */
  readonly #letters = new Map<number, { bytes: number; readonly untilMs: number }>()
  /** To be written with the next group. */
  readonly #fresh: Entry[] = []
  #bytes = 0

  /** @param maxBytes  bytes of all; past it, and past 10,000, a further one is deleted and counted */
  constructor(db: DatabaseSync, maxBytes: number) {
    addColumn(db, 'records', 'dead_ms', 'INTEGER')
    addColumn(db, 'records', 'dead_code', 'TEXT')
    this.#set = db.prepare(`UPDATE records SET state = ${State.dead}, via = ?, dead_ms = ?, dead_code = ? WHERE seq = ?`)
    this.#select = db.prepare(`SELECT envelope, via, dead_ms, dead_code, length(payload) - iif(sealed = 0, 0, ${OVERHEAD}) AS bytes, received_ms FROM records WHERE seq = ?`)
    this.#maxBytes = maxBytes
  }

  get size(): number {
    return this.#letters.size
  }

  get bytes(): number {
    return this.#bytes
  }

  has(seq: number): boolean {
    return this.#letters.has(seq)
  }

  /** False at the bound. */
  take(entry: Entry, nowMs: number): boolean {
    if (this.#letters.size >= DEAD_RECORDS || this.#bytes + entry.size > this.#maxBytes) return false
    this.restore(entry.seq, entry.size, nowMs + DEAD_MS)
    this.#fresh.push(entry)
    return true
  }

  /** One that a former run left. */
  restore(seq: number, bytes: number, untilMs: number): void {
    this.#letters.set(seq, { bytes, untilMs })
    this.#bytes += bytes
  }

  /** Inside a transaction. */
  write(): void {
    for (const { seq, refusedBy, refusal } of this.#fresh) this.#set.run(refusedBy, this.#letters.get(seq)?.untilMs ?? 0, refusal, seq)
  }

  /** After COMMIT. */
  settle(): void {
    this.#fresh.length = 0
  }

  /** It is no dead letter any more, or has got smaller by so many bytes. Returns the bytes that it took, or gave up. */
  remove(seq: number, less?: number): number {
    const letter = this.#letters.get(seq)
    if (letter === undefined) return 0
    const bytes = less ?? letter.bytes
    letter.bytes -= bytes
    this.#bytes -= bytes
    if (less === undefined) this.#letters.delete(seq)
    return bytes
  }

  /** Those whose time has come. */
  due(nowMs: number): number[] {
    const due: number[] = []
    for (const [seq, { untilMs }] of this.#letters) if (untilMs <= nowMs) due.push(seq)
    return due
  }

  /** In the order in which they were received. */
  numbers(): number[] {
    return [...this.#letters.keys()].sort((one, other) => one - other)
  }

  /** Undefined when there is none of this number, or its envelope is damaged. @param namesOf  destinations by their bits */
  letter(number: number, envelopeOf: (id: number) => Envelope | undefined, namesOf: (mask: number) => string[]): DeadLetter | undefined {
    const row = this.#letters.has(number) ? this.#select.get(number) : undefined
    const envelope = row === undefined ? undefined : envelopeOf(Number(row['envelope']))
    if (row === undefined || envelope === undefined) return undefined
    const { output, recipient, stream } = envelope
    return {
      number, output, recipient, stream, refusedBy: namesOf(Number(row['via'])), code: String(row['dead_code'] ?? ''), bytes: Number(row['bytes']),
      receivedAtMs: Number(row['received_ms']), untilMs: Number(row['dead_ms']),
    }
  }
}

const DEAD_RECORDS = 10_000
const DEAD_MS = 604_800_000
