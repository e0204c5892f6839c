/**
 * Sessions of recipients in the outbox's file: who subscribed to what, what waits for whom, and retained copies. It keeps what the
 * recipients' broker tells it and gives it back at the next start; the broker has all of it in memory as well.
 *
 * Nothing is written at once: what comes and goes between two commits (a message that is acknowledged within a few milliseconds)
 * never touches the disk. `write` is called inside each of the outbox's transactions and `settle` after its commit.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { RecipientId } from '../domain/ids.ts'
import type { OutboxRecord, SessionStore, StoredDelivery, StoredSession } from '../domain/ports.ts'
import { Column, onWithdrawalOf, type Row } from './entry.ts'
import type { Envelope, Envelopes } from './envelopes.ts'
import type { Vault } from './vault.ts'

export interface SessionOutbox {
  readonly db: DatabaseSync
  readonly envelopes: Envelopes
  readonly vault: Vault
  /** There is something to write, soon. */
  due(): void
  /** Somebody waits for it. Throws GatewayError when the disk refuses. */
  dueNow(): void
  /** Keeps a record, frozen, from the next transaction on: that in which its row here goes, or one before. */
  hold(record: OutboxRecord): void
}

export class Sessions implements SessionStore {
  readonly #outbox: SessionOutbox
  readonly #put: StatementSync
  readonly #remove: StatementSync
  readonly #removeAll: StatementSync
  readonly #save: StatementSync
  readonly #forget: StatementSync
  /** Rows of the file: holder -> place -> number of the envelope. */
  readonly #stored = new Map<string, Map<Place, Envelope>>()
  /** To be written: a row, or null for one that goes. */
  readonly #pending = new Map<string, Map<Place, Waiting | null>>()
  readonly #saves = new Map<string, Omit<StoredSession, 'waiting'> | null>()
  /** Who waits for `#saves`. */
  #savers: ((error: Error | undefined) => void)[] = []
  readonly #loaded: { readonly sessions: StoredSession[]; readonly retained: OutboxRecord[] } = { sessions: [], retained: [] }
  /** Rows that failed their checksum: nobody can tell what they hold, so they go. */
  damaged = 0

  constructor(outbox: SessionOutbox) {
    this.#outbox = outbox
    const { db } = outbox
    db.exec(TABLES)
    this.#put = db.prepare(`INSERT OR REPLACE INTO waiting (holder, place, envelope, machine_order, acquired_ms, received_ms, expires_ms, crc, id, payload,
      on_withdrawal, payload_if_withdrawn, withdrawn_crc, qos, message_id, released, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
    this.#remove = db.prepare('DELETE FROM waiting WHERE holder = ? AND place = ?')
    this.#removeAll = db.prepare('DELETE FROM waiting WHERE holder = ?')
    this.#save = db.prepare('INSERT OR REPLACE INTO sessions (session, user, recipient, filters) VALUES (?, ?, ?, ?)')
    this.#forget = db.prepare('DELETE FROM sessions WHERE session = ?')
    this.#open()
  }

  sessions(): readonly StoredSession[] {
    return this.#loaded.sessions.splice(0)
  }

  retained(): readonly OutboxRecord[] {
    return this.#loaded.retained.splice(0)
  }

  save(session: Omit<StoredSession, 'waiting'>, stored: (error: Error | undefined) => void): void {
    this.#saves.set(session.key, { ...session, filters: new Map(session.filters) })
    try {
      this.#outbox.dueNow()
    } catch (error) {
      return stored(error as Error)
    }
    this.#savers.push(stored)
  }

  hold(record: OutboxRecord): void {
    this.#outbox.hold(record)
  }

  forget(key: string): void {
    const holder = SESSION + key
    this.#saves.set(key, null)
    this.#pending.delete(holder)
    for (const place of this.#stored.get(holder)?.keys() ?? []) this.#pendingOf(holder).set(place, null)
    this.#outbox.due()
  }

  put(key: string, { place, record, qos, messageId, released }: StoredDelivery): void {
    this.#wait(SESSION + key, place, record, qos, messageId, released)
  }

  remove(key: string, place: number): void {
    this.#drop(SESSION + key, place)
  }

  retain(record: OutboxRecord): void {
    this.#wait(RETAINED + record.recipient, record.topic, record, record.qos, undefined, false)
  }

  unretain(recipient: RecipientId, topic: string): void {
    this.#drop(RETAINED + recipient, topic)
  }

  #wait(holder: string, place: Place, record: OutboxRecord, qos: number, messageId: number | undefined, released: boolean): void {
    const { id, machineOrder, acquiredAtMs, receivedAtMs, expiresAtMs } = record
    this.#pendingOf(holder).set(place, {
      // The record may be the outbox's own, which it empties when it purges: what is needed is taken out of it now.
      envelope: this.#outbox.envelopes.of(record), id, machineOrder, acquiredAtMs, receivedAtMs, expiresAtMs,
      payload: released ? NOTHING : record.payload, payloadIfWithdrawn: released ? undefined : record.payloadIfWithdrawn, qos, messageId, released,
    })
    this.#outbox.due()
  }

  #drop(holder: string, place: Place): void {
    if (this.#stored.get(holder)?.has(place) === true) {
      this.#pendingOf(holder).set(place, null)
      this.#outbox.due()
      return
    }
    // It came and went between two commits.
    const pending = this.#pending.get(holder)
    if (pending?.delete(place) === true && pending.size === 0) this.#pending.delete(holder)
  }

  #pendingOf(holder: string): Map<Place, Waiting | null> {
    let pending = this.#pending.get(holder)
    if (pending === undefined) this.#pending.set(holder, (pending = new Map()))
    return pending
  }

  // --------------------------------------------------------------------------------------------------- for the outbox

  /** Whether a transaction is worth its while. */
  get isDue(): boolean {
    return this.#pending.size > 0 || this.#saves.size > 0
  }

  /** Inside a transaction. */
  write(): void {
    for (const [key, session] of this.#saves) {
      if (session === null) {
        this.#forget.run(key)
        this.#removeAll.run(SESSION + key)
      } else {
        this.#save.run(key, session.user, session.recipient, JSON.stringify([...session.filters]))
      }
    }
    for (const [holder, rows] of this.#pending) {
      for (const [place, row] of rows) {
        if (row === null) this.#remove.run(holder, this.#stand(place))
        else this.#insert(holder, place, row)
      }
    }
  }

  #insert(holder: string, place: Place, row: Waiting): void {
    const { envelope } = row
    const { vault, envelopes } = this.#outbox
    if (envelope.id === 0) envelopes.store(envelope)
    vault.protect(row, envelope)
    this.#put.run(
      holder, this.#stand(place), envelope.id, row.machineOrder, row.acquiredAtMs, row.receivedAtMs, row.expiresAtMs ?? null, vault.crc, row.id, vault.payload,
      onWithdrawalOf(row.payloadIfWithdrawn), vault.variant, vault.withdrawnCrc, row.qos, row.messageId ?? null, row.released ? 1 : 0, vault.sealed,
    )
  }

  /** A place as the file has it: a topic may name a machine. */
  #stand(place: Place): Place {
    return typeof place === 'string' ? this.#outbox.vault.tag(place) : place
  }

  /** After COMMIT. True when somebody waited for it. */
  settle(): boolean {
    // After nearly every group there is nothing, and to clear an empty Map makes a table for it, among the old objects.
    if (!this.isDue && this.#savers.length === 0) return false
    const isAwaited = this.#savers.length > 0
    this.#answer(undefined)
    for (const [key, session] of this.#saves) if (session === null) this.#stored.delete(SESSION + key)
    this.#saves.clear()
    for (const [holder, rows] of this.#pending) {
      let stored = this.#stored.get(holder)
      if (stored === undefined) this.#stored.set(holder, (stored = new Map()))
      for (const [place, row] of rows) {
        if (row === null) stored.delete(place)
        else stored.set(place, row.envelope)
      }
      if (stored.size === 0) this.#stored.delete(holder)
    }
    this.#pending.clear()
    return isAwaited
  }

  /** After ROLLBACK. Everything is still to be written, but nobody is promised it. */
  refuse(error: Error): void {
    this.#answer(error)
  }

  /** Not at once: who is answered may ask the outbox for something, which is in the middle of its own. */
  #answer(error: Error | undefined): void {
    const savers = this.#savers
    this.#savers = []
    for (const stored of savers) queueMicrotask(() => stored(error))
  }

  /** Numbers of the envelopes that rows lie in, also of those that are about to be written. */
  *envelopes(): Generator<number> {
    for (const places of this.#stored.values()) for (const envelope of places.values()) yield envelope.id
    for (const rows of this.#pending.values()) for (const row of rows.values()) if (row !== null) yield row.envelope.id
  }

  get size(): number {
    let size = 0
    for (const places of this.#stored.values()) size += places.size
    return size
  }

  // ---------------------------------------------------------------------------------------------------------------- start

  #open(): void {
    const { db, envelopes, vault } = this.#outbox
    const waiting = new Map<string, StoredDelivery[]>()
    const torn: [string, Place][] = []
    const rows = db.prepare(SELECT)
    rows.setReturnArrays(true)
    for (const row of rows.iterate() as unknown as Iterable<Row>) {
      const envelope = envelopes.byId(Number(row[1]))
      const record = envelope === undefined ? undefined : vault.restore(row, envelope)
      const holder = String(row[14])
      const stands = typeof row[15] === 'string' ? row[15] : Number(row[15])
      if (envelope === undefined || record === undefined || (typeof stands === 'string' && row[Column.sealed] !== 0 && stands !== this.#stand(record.topic))) {
        this.damaged++
        torn.push([holder, stands])
        continue
      }
      const place = typeof stands === 'string' ? record.topic : stands
      const [qos, messageId, released] = [row[16] === 2 ? 2 : 1, row[17] === null ? undefined : Number(row[17]), row[18] === 1] as const
      // Left in clear by an earlier version.
      if (vault.isOn && row[Column.sealed] === 0) {
        torn.push([holder, stands])
        this.#pendingOf(holder).set(place, { envelope, ...fieldsOf(record), qos, messageId, released })
      }
      let stored = this.#stored.get(holder)
      if (stored === undefined) this.#stored.set(holder, (stored = new Map()))
      stored.set(place, envelope)
      if (typeof place === 'string') {
        this.#loaded.retained.push(record)
        continue
      }
      let mine = waiting.get(holder)
      if (mine === undefined) waiting.set(holder, (mine = []))
      mine.push({ place, record, qos, messageId, released })
    }
    for (const [holder, stands] of torn) this.#remove.run(holder, stands)
    this.write()
    this.settle()
    for (const row of db.prepare('SELECT session, user, recipient, filters FROM sessions').all()) {
      const key = String(row['session'])
      this.#loaded.sessions.push({
        key, user: String(row['user']), recipient: String(row['recipient']) as RecipientId,
        filters: new Map(JSON.parse(String(row['filters'])) as [string, 0 | 1 | 2][]), waiting: waiting.get(SESSION + key) ?? [],
      })
    }
  }
}

/** A session's messages have numbers, retained copies their topics. */
type Place = number | string

interface Waiting {
  readonly envelope: Envelope
  readonly id: Uint8Array
  readonly machineOrder: number
  readonly acquiredAtMs: number
  readonly receivedAtMs: number
  readonly expiresAtMs: number | undefined
  readonly payload: Uint8Array
  readonly payloadIfWithdrawn: Uint8Array | null | undefined
  readonly qos: number
  readonly messageId: number | undefined
  readonly released: boolean
}

function fieldsOf({ id, machineOrder, acquiredAtMs, receivedAtMs, expiresAtMs, payload, payloadIfWithdrawn }: OutboxRecord): Omit<Waiting, 'envelope' | 'qos' | 'messageId' | 'released'> {
  return { id, machineOrder, acquiredAtMs, receivedAtMs, expiresAtMs, payload, payloadIfWithdrawn }
}

const SESSION = 's:'
const RETAINED = 'r:'
const NOTHING = Buffer.alloc(0)

const SELECT = `SELECT 0, envelope, machine_order, acquired_ms, received_ms, expires_ms, crc, id, payload, 0, on_withdrawal, payload_if_withdrawn, withdrawn_crc, sealed,
  holder, place, qos, message_id, released FROM waiting ORDER BY holder, place`

const TABLES = `
CREATE TABLE IF NOT EXISTS sessions (session TEXT PRIMARY KEY, user TEXT NOT NULL, recipient TEXT NOT NULL, filters TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS waiting (
  holder TEXT NOT NULL, place ANY NOT NULL, envelope INTEGER NOT NULL, machine_order INTEGER NOT NULL, acquired_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,
  expires_ms INTEGER, crc INTEGER NOT NULL, id BLOB NOT NULL, payload BLOB NOT NULL, on_withdrawal INTEGER NOT NULL, payload_if_withdrawn BLOB, withdrawn_crc INTEGER,
  qos INTEGER NOT NULL, message_id INTEGER, released INTEGER NOT NULL, sealed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (holder, place)
) STRICT, WITHOUT ROWID;`
