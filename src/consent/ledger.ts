/**
 * The ledger: what happened to consent, notices, sessions, devices, rules and rights; appended, never changed.
 *
 * In clear: sequence, uuid, type, schema version, gateway, day, subject tag, key name, hash. Everything else is sealed under the
 * subject's own row, so that destroying the row leaves the chain whole and the event unreadable. Session events are sealed
 * (and tagged) under the person's row and the day's row together: they die with either, the day's after the late limit.
 *
 * ledger.db    events, and beside the chain an index subject -> sequences that can be deleted
 * ledger.head  the newest sequence and hash, signed; two slots written in turn, so that a torn write leaves the other
 * keys.db      keeps the same head: restoring yesterday's ledger.db together with its head is found as well
 */
import { createPrivateKey, createPublicKey, randomBytes, sign, verify, type KeyObject } from 'node:crypto'
import { closeSync, existsSync, fdatasyncSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../domain/errors.ts'
import type { OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, EventFilter, Ledger, LedgerEvent, Random, StoredEvent, SubjectStore, SubjectType } from '../domain/ports.ts'
import { openDatabase, truncateLog } from './database.ts'
import { syncFolder } from './root.ts'
import { expand, frame, padded, seal, sha256, tag, u64, unpadded, unseal } from './sealing.ts'
import type { SqliteSubjectKeys } from './subjects.ts'

export interface LedgerOptions {
  /** The data folder. */
  readonly folder: string
  readonly keys: SqliteSubjectKeys
  /** Name of the gateway, in clear in every event. */
  readonly gateway: string
  readonly clock: Clock
  readonly random?: Random
  /** Looks only: for `ledger verify` beside a running gateway. */
  readonly readOnly?: boolean
  /** Called once when the ledger stops being trustworthy. The reason names no person. */
  readonly onDamage?: (reason: string) => void
}

export interface Verification {
  readonly ok: boolean
  readonly events: number
  readonly brokenAt: number | undefined
  readonly reason: string | undefined
}

/** Version of the stored form: framing, sealing, names of keys. */
export const LEDGER_SCHEMA = 1

const SCHEMA = `
CREATE TABLE IF NOT EXISTS ledger (
  id TEXT PRIMARY KEY
) STRICT;
CREATE TABLE IF NOT EXISTS event (
  seq         INTEGER PRIMARY KEY,
  uuid        BLOB NOT NULL,
  type        TEXT NOT NULL,
  schema      INTEGER NOT NULL,
  gateway     TEXT NOT NULL,
  day         TEXT NOT NULL,
  subject_tag BLOB,
  key_id      TEXT NOT NULL,
  body        BLOB NOT NULL,
  prev        BLOB NOT NULL,
  hash        BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS event_is_final BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS event_stays BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TABLE IF NOT EXISTS subject_event (
  seq     INTEGER PRIMARY KEY,
  subject BLOB NOT NULL,
  mac     BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS subject_event_by_subject ON subject_event (subject, seq);
`

const HEAD_SLOT = 512
/** A head is written with every `append`, and at the latest after so many enqueued events or so long. */
const HEAD_EVENTS = 256
const HEAD_MS = 10_000
/** In the index instead of a subject that was erased or whose day is over. */
const NOBODY = new Uint8Array(0)

export class SqliteLedger implements Ledger, SubjectStore {
  readonly name = 'ledger'

  readonly #options: LedgerOptions
  readonly #keys: SqliteSubjectKeys
  readonly #random: Random
  readonly #readOnly: boolean
  readonly #headPath: string
  readonly #signer: KeyObject
  readonly #verifier: KeyObject
  readonly #openers = new LRUCache<string, Sealer>({ max: 4_096 })
  #generation: number
  #db: DatabaseSync | undefined
  #insert: StatementSync | undefined
  #insertIndex: StatementSync | undefined
  #id = ''
  #seq = 0
  #hash: Uint8Array = new Uint8Array(32)
  #pending = 0
  #timer: NodeJS.Immediate | undefined
  #headSeq = 0
  #headAtMs = 0
  #headCounter = 0
  #damage: string | undefined

  /** Verifies the whole chain. Damage does not throw: the ledger is then not `healthy` and refuses to append (G3). */
  constructor(options: LedgerOptions) {
    this.#options = options
    this.#keys = options.keys
    this.#random = options.random ?? randomBytes
    this.#readOnly = options.readOnly === true
    this.#headPath = join(options.folder, 'ledger.head')
    this.#generation = options.keys.generation
    // [RFC 8410] an Ed25519 private key of 32 bytes in PKCS #8.
    const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), options.keys.gatewayRow('ledger-head')])
    this.#signer = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
    this.#verifier = createPublicKey(this.#signer)
    try {
      this.#db = openDatabase(join(options.folder, 'ledger.db'), SCHEMA, { readOnly: this.#readOnly })
      this.#start(this.#db)
    } catch (error) {
      this.#break(error instanceof GatewayError ? error.message : 'the ledger cannot be read')
    }
  }

  get healthy(): boolean {
    return this.#damage === undefined
  }

  /** Why the ledger is not healthy. */
  get damage(): string | undefined {
    return this.#damage
  }

  get head(): { readonly seq: number; readonly hash: string } {
    return { seq: this.#seq, hash: Buffer.from(this.#hash).toString('hex') }
  }

  /** SPKI of the key that signs heads, base64: a data protection officer keeps it to check heads elsewhere. */
  get headKey(): string {
    return this.#verifier.export({ format: 'der', type: 'spki' }).toString('base64')
  }

  append(event: LedgerEvent): number {
    const seq = this.enqueue(event)
    this.flush()
    this.#writeHead()
    return seq
  }

  enqueue(event: LedgerEvent): number {
    const db = this.#writable()
    const at = this.#options.clock.now()
    const day = dayOf(at)
    const plain = padded('at' in event.body ? event.body : { ...event.body, at })
    if (plain.length > LIMITS.ledgerBodyBytes) throw new GatewayError('LEDGER-BODY', `The body of ${event.type} is longer than ${LIMITS.ledgerBodyBytes} bytes.`)
    // Keys first: what they refuse must not leave a transaction open.
    const { sealer, keyId, subject } = this.#keysFor(event, day)
    const seq = this.#seq + 1
    const row: Row = {
      seq, uuid: this.#uuid(), type: event.type, schema: LEDGER_SCHEMA, gateway: this.#options.gateway, day,
      tag: subject === undefined ? undefined : tagAt(sealer, seq), keyId, body: NOBODY, prev: this.#hash, hash: NOBODY,
    }
    const body = seal(sealer.body, plain, clearPart(row), this.#random)
    const hash = hashOf({ ...row, body })
    this.#guarded(() => {
      if (this.#pending === 0) db.exec('BEGIN IMMEDIATE')
      this.#insert!.run(seq, row.uuid, row.type, row.schema, row.gateway, day, row.tag ?? null, keyId, body, row.prev, hash)
      if (subject !== undefined) this.#insertIndex!.run(seq, subject, this.#indexMac(seq, subject))
    })
    this.#seq = seq
    this.#hash = hash
    this.#pending++
    if (this.#pending >= LIMITS.commitRecords) this.flush()
    else this.#timer ??= setImmediate(() => this.#flushLater())
    return seq
  }

  flush(): void {
    clearImmediate(this.#timer)
    this.#timer = undefined
    if (this.#pending === 0) return
    const db = this.#writable()
    this.#guarded(() => db.exec('COMMIT'))
    this.#pending = 0
    if (this.#seq - this.#headSeq >= HEAD_EVENTS || this.#options.clock.monotonic() - this.#headAtMs >= HEAD_MS) this.#writeHead()
  }

  *events(filter: EventFilter = {}): Iterable<StoredEvent> {
    const db = this.#db
    if (db === undefined) return
    const subject = filter.subject === undefined ? null : this.#keys.tagOf(filter.subject.type, filter.subject.id)
    const types = filter.type === undefined ? [] : [filter.type].flat()
    // A beginning ends with a dot; `/` is the character after it.
    const isWanted = types.map((type) => (type.endsWith('.') ? '(type >= ? AND type < ?)' : 'type = ?')).join(' OR ')
    const wanted = types.flatMap((type) => (type.endsWith('.') ? [type, `${type.slice(0, -1)}/`] : [type]))
    const select = db.prepare(`
      SELECT event.*, subject_event.subject FROM event ${subject === null ? 'LEFT JOIN' : 'JOIN'} subject_event USING (seq)
      WHERE event.seq > ? ${subject === null ? '' : 'AND subject_event.subject = ?'} ${isWanted === '' ? '' : `AND (${isWanted})`}
      ORDER BY event.seq LIMIT ${LIMITS.ledgerPage}`)
    let after = filter.afterSeq ?? 0
    for (;;) {
      const page = select.all(after, ...(subject === null ? [] : [subject]), ...wanted)
      for (const stored of page) {
        const row = rowOf(stored)
        yield {
          seq: row.seq, uuid: uuidText(row.uuid), type: row.type, schema: row.schema, gateway: row.gateway, day: row.day,
          body: this.#open(row, stored['subject'] as Uint8Array | null),
        }
      }
      if (page.length < LIMITS.ledgerPage) return
      after = Number(page.at(-1)!['seq'])
    }
  }

  verify(): Verification {
    const result = this.#walk()
    if (!result.ok) this.#break(result.reason ?? 'the chain does not verify')
    return result
  }

  /** Ends the days before one for good: their session events can be read, and tied to a person, by nobody. Returns how many events left the index. */
  endDays(before: string): number {
    this.flush()
    const days = this.#keys.destroyPeriods(before)
    this.#openers.clear()
    if (days.length === 0) return 0
    const db = this.#writable()
    return days.map((day) => {
      // key_id of an event that dies with its day ends with the day's name.
      const seqs = db.prepare("SELECT seq FROM event JOIN subject_event USING (seq) WHERE key_id = ? AND length(subject) > 0").all(`row+${day}`)
      return this.#forgetIndex(seqs.map((row) => Number(row['seq'])))
    }).reduce((sum, count) => sum + count, 0)
  }

  locate(subject: OperatorId): { readonly records: number } {
    const count = this.#db?.prepare('SELECT count(*) AS n FROM subject_event WHERE subject = ?').get(this.#keys.tagOf('operator', subject))?.['n']
    return { records: Number(count ?? 0) }
  }

  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    for (const event of this.events({ subject: { type: 'operator', id: subject } })) yield { seq: event.seq, uuid: event.uuid, type: event.type, day: event.day, ...event.body }
  }

  /** Removes the person from the index. What makes the events unreadable is that the subject keys are destroyed, which comes first. */
  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    const mark = this.#keys.tagOf('operator', subject)
    const { records } = this.locate(subject)
    if (!this.#keys.ended(mark)) return { erased: 0, held: records }
    this.flush()
    const seqs = this.#db?.prepare('SELECT seq FROM subject_event WHERE subject = ?').all(mark) ?? []
    return { erased: this.#forgetIndex(seqs.map((row) => Number(row['seq']))), held: 0 }
  }

  /** A hold is kept with the subject keys; while it lasts nothing here can become unreadable. */
  hold(): void {}

  close(): void {
    if (this.#db === undefined || !this.#db.isOpen) return
    if (!this.#readOnly && this.healthy) {
      this.flush()
      if (this.#headSeq !== this.#seq) this.#writeHead()
    }
    clearImmediate(this.#timer)
    this.#db.close()
  }

  #start(db: DatabaseSync): void {
    let id = db.prepare('SELECT id FROM ledger').get()?.['id']
    if (id === undefined && !this.#readOnly) {
      id = uuidText(this.#uuid())
      db.prepare('INSERT INTO ledger (id) VALUES (?)').run(id)
    }
    this.#id = String(id)
    this.#insert = db.prepare('INSERT INTO event (seq, uuid, type, schema, gateway, day, subject_tag, key_id, body, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
    this.#insertIndex = db.prepare('INSERT INTO subject_event (seq, subject, mac) VALUES (?, ?, ?)')
    this.#hash = this.#genesis()
    if (!this.#readOnly && this.#isNew(db)) this.#writeHead()
    const result = this.#walk()
    if (!result.ok) return this.#break(result.reason ?? 'the chain does not verify')
    if (!this.#readOnly) this.#mendIndex(db)
    if (!this.#readOnly && this.#headSeq !== this.#seq) this.#writeHead()
  }

  /** Nothing was ever appended: then neither the head nor keys.db knows of an event. A stop between the first steps ends here, too. */
  #isNew(db: DatabaseSync): boolean {
    if (db.prepare('SELECT 1 FROM event LIMIT 1').get() !== undefined) return false
    const known = this.#readHead(this.#keys.fact('ledger-head') ?? '')
    return known === undefined ? !existsSync(this.#headPath) : known.seq === 0 && known.ledger === this.#id
  }

  /** Chain, index and heads. Takes over the newest sequence and hash. */
  #walk(): Verification {
    let seq = 0
    let hash = this.#genesis()
    const fail = (at: number | undefined, reason: string): Verification => ({ ok: false, events: seq, brokenAt: at, reason })
    const db = this.#db
    if (db === undefined) return fail(undefined, this.#damage ?? 'the ledger cannot be read')
    const heads = this.#heads()
    if (typeof heads === 'string') return fail(undefined, heads)
    const check = (): string | undefined => {
      const wrong = heads.some((head) => head.seq === seq && head.hash !== Buffer.from(hash).toString('hex'))
      return wrong ? `event ${seq} is not the one that the signed head names` : undefined
    }
    try {
      const wrong = check()
      if (wrong !== undefined) return fail(undefined, wrong)
      const select = db.prepare(`SELECT event.*, subject_event.subject, subject_event.mac FROM event LEFT JOIN subject_event USING (seq) WHERE event.seq > ? ORDER BY event.seq LIMIT ${LIMITS.ledgerPage}`)
      // Rows below 1 would be outside the walk.
      if (db.prepare('SELECT 1 FROM event WHERE seq < 1').get() !== undefined) return fail(0, 'there is an event before the first one')
      for (;;) {
        const page = select.all(seq)
        for (const stored of page) {
          const row = rowOf(stored)
          if (row.seq !== seq + 1) return fail(seq + 1, `event ${seq + 1} is missing`)
          if (!same(row.prev, hash)) return fail(row.seq, `event ${row.seq} does not follow the one before it`)
          if (!same(row.hash, hashOf(row))) return fail(row.seq, `event ${row.seq} was changed`)
          const subject = stored['subject'] as Uint8Array | null
          if (subject !== null && !same(stored['mac'] as Uint8Array, this.#indexMac(row.seq, subject))) return fail(row.seq, `the index entry of event ${row.seq} was changed`)
          hash = row.hash
          seq = row.seq
          const wrong = check()
          if (wrong !== undefined) return fail(seq, wrong)
        }
        if (page.length < LIMITS.ledgerPage) break
      }
    } catch {
      return fail(seq + 1, `the database is damaged behind event ${seq}`)
    }
    const newest = Math.max(...heads.map((head) => head.seq))
    if (newest > seq) return fail(seq + 1, `the ledger ends at event ${seq}, the signed head at ${newest}: events were cut off or an old copy was restored`)
    if (this.#seq === 0) {
      this.#seq = seq
      this.#hash = hash
    } else if (seq !== this.#seq || !same(hash, this.#hash)) return fail(Math.min(seq, this.#seq) + 1, 'the file no longer holds what this process wrote')
    return { ok: true, events: seq, brokenAt: undefined, reason: undefined }
  }

  /** The head file's and keys.db's head, or why there is none that can be trusted. */
  #heads(): readonly Head[] | string {
    const kept = this.#readHead(this.#keys.fact('ledger-head') ?? '')
    if (kept === undefined) return 'keys.db does not know this ledger: one of the two was replaced'
    let text: string
    try {
      text = readFileSync(this.#headPath, 'latin1')
    } catch {
      return 'the signed head is missing'
    }
    const slots = [this.#readHead(text.slice(0, HEAD_SLOT)), this.#readHead(text.slice(HEAD_SLOT))].filter((head) => head !== undefined)
    if (slots.length === 0) return 'the signed head was changed'
    const heads = [...slots, kept]
    if (heads.some((head) => head.ledger !== this.#id)) return 'the signed head belongs to another ledger'
    this.#headCounter = Math.max(...heads.map((head) => head.counter))
    this.#headSeq = Math.max(...slots.map((head) => head.seq))
    // A writer beside this reader may be ahead; the newest head of each place counts.
    return heads
  }

  #readHead(text: string): Head | undefined {
    const line = text.trim()
    const end = line.lastIndexOf(' ')
    if (end < 0) return undefined
    const signature = Buffer.from(line.slice(end + 1), 'base64url')
    if (!verify(null, Buffer.from(line.slice(0, end), 'utf8'), this.#verifier, signature)) return undefined
    const [, ledger, seq, hash, counter] = line.split(' ')
    return { ledger: ledger!, seq: Number(seq), hash: hash!, counter: Number(counter) }
  }

  /** `parapet-ledger-head/1 LEDGER SEQ HASH COUNTER DAY SIGNATURE` */
  #writeHead(): void {
    if (this.#readOnly || !this.healthy) return
    this.#headCounter++
    const text = `parapet-ledger-head/1 ${this.#id} ${this.#seq} ${Buffer.from(this.#hash).toString('hex')} ${this.#headCounter} ${dayOf(this.#options.clock.now())}`
    const line = `${text} ${sign(null, Buffer.from(text, 'utf8'), this.#signer).toString('base64url')}`
    this.#guarded(() => {
      const isNew = !existsSync(this.#headPath)
      // The file first: keys.db must never know of a head that the file does not.
      const file = openSync(this.#headPath, isNew ? 'w' : 'r+', 0o600)
      try {
        if (isNew) writeSync(file, ' '.repeat(HEAD_SLOT * 2), 0)
        writeSync(file, `${line.padEnd(HEAD_SLOT - 1)}\n`, (this.#headCounter % 2) * HEAD_SLOT)
        if (isNew) fsyncSync(file)
        else fdatasyncSync(file)
      } finally {
        closeSync(file)
      }
      if (isNew) syncFolder(this.#options.folder)
      this.#keys.setFact('ledger-head', line)
    })
    this.#headSeq = this.#seq
    this.#headAtMs = this.#options.clock.monotonic()
  }

  #genesis(): Uint8Array {
    return sha256(frame('parapet/v1|ledger|genesis', this.#id))
  }

  /** As `#sealerFor`. A key that cannot be made or read (a full disk) loses an event just as a failed write does; an erased person is no damage. */
  #keysFor(event: LedgerEvent, day: string): SealerFor {
    try {
      return this.#sealerFor(event, day)
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'SUBJECT-ENDED') throw error
      return this.#fail(error)
    }
  }

  /** Which keys seal an event of this kind, and the subject's stored name. */
  #sealerFor(event: LedgerEvent, day: string): SealerFor {
    const { subject } = event
    const period = isShortLived(event.type) ? this.#keys.openPeriod(day).period : undefined
    const base = subject === undefined ? 'gateway' : 'row'
    const keyId = period === undefined ? base : `${base}+${period}`
    if (subject === undefined) return { sealer: this.#sealer(undefined, undefined, keyId)!, keyId, subject: undefined }
    this.#keys.ensure(subject.type, subject.id, 'ledger')
    const mark = this.#keys.tagOf(subject.type, subject.id)
    return { sealer: this.#sealer(mark, subject.type, keyId)!, keyId, subject: mark }
  }

  /** The keys that belong to a key name, or undefined when a row they need is gone. */
  #sealer(subject: Uint8Array | undefined, type: SubjectType | undefined, keyId: string): Sealer | undefined {
    if (this.#generation !== this.#keys.generation) {
      this.#openers.clear()
      this.#generation = this.#keys.generation
    }
    const cached = `${subject === undefined ? '' : Buffer.from(subject.buffer, subject.byteOffset, subject.length).toString('latin1')} ${keyId}`
    const ready = this.#openers.get(cached)
    if (ready !== undefined) return ready
    const plus = keyId.indexOf('+')
    const base = plus < 0 ? keyId : keyId.slice(0, plus)
    let row: Uint8Array | undefined
    if (base === 'gateway') row = this.#keys.gatewayRow('ledger-body')
    else if (base === 'row' && subject !== undefined) row = this.#keys.rowByTag(subject, type ?? this.#keys.kindOf(subject, 'ledger') ?? 'operator', 'ledger')
    if (row === undefined) return undefined
    if (plus >= 0) {
      const period = this.#keys.periodRow(keyId.slice(plus + 1))
      if (period === undefined) return undefined
      row = tag(row, 'parapet/v1|ledger|day', period)
    }
    const sealer = { row, body: expand(row, 'parapet/v1|ledger|body') }
    this.#openers.set(cached, sealer)
    return sealer
  }

  /**
   * The body, or undefined when its row was destroyed. A body that should open and does not is damage: an unreadable
   * withdrawal must never look like none.
   */
  #open(row: Row, subject: Uint8Array | null): Readonly<Record<string, unknown>> | undefined {
    if (this.#isEnded(row, subject)) return undefined
    const sealer = this.#sealer(subject === null || subject.length === 0 ? undefined : subject, undefined, row.keyId)
    const plain = sealer === undefined ? undefined : unseal(sealer.body, row.body, clearPart(row))
    const body = plain === undefined ? undefined : unpadded(plain)
    if (body === undefined) this.#break(`event ${row.seq} cannot be opened although nobody ended its keys`)
    return body
  }

  #isEnded(row: Row, subject: Uint8Array | null): boolean {
    const plus = row.keyId.indexOf('+')
    if (plus >= 0 && this.#keys.periodEnded(row.keyId.slice(plus + 1))) return true
    if (row.tag === undefined) return false
    return subject === null || subject.length === 0 || this.#keys.ended(subject)
  }

  /**
   * Events that have a subject but no index entry (the index was deleted, or lost): matched against every live row.
   * What matches none belongs to somebody erased, or to a day that is over.
   */
  #mendIndex(db: DatabaseSync): void {
    const lost = db.prepare('SELECT event.* FROM event LEFT JOIN subject_event USING (seq) WHERE subject_tag IS NOT NULL AND subject_event.seq IS NULL').all().map(rowOf)
    if (lost.length === 0) return
    const subjects = [...this.#keys.rows('ledger')]
    db.exec('BEGIN IMMEDIATE')
    for (const row of lost) {
      const owner = subjects.find(({ subject, type }) => {
        const sealer = this.#sealer(subject, type, row.keyId)
        return sealer !== undefined && same(tagAt(sealer, row.seq), row.tag!)
      })
      const subject = owner?.subject ?? NOBODY
      this.#insertIndex!.run(row.seq, subject, this.#indexMac(row.seq, subject))
    }
    db.exec('COMMIT')
  }

  #forgetIndex(seqs: readonly number[]): number {
    if (seqs.length === 0) return 0
    const db = this.#writable()
    const update = db.prepare('UPDATE subject_event SET subject = ?, mac = ? WHERE seq = ?')
    this.#guarded(() => {
      db.exec('BEGIN IMMEDIATE')
      for (const seq of seqs) update.run(NOBODY, this.#indexMac(seq, NOBODY), seq)
      db.exec('COMMIT')
      truncateLog(db)
    })
    return seqs.length
  }

  /** Without it, pointing a withdrawal's entry to nobody would hide the withdrawal. */
  #indexMac(seq: number, subject: Uint8Array): Uint8Array {
    return tag(this.#keys.gatewayRow('ledger-index'), this.#id, u64(seq), subject).subarray(0, 16)
  }

  #writable(): DatabaseSync {
    if (this.#readOnly) throw new GatewayError('READ-ONLY', 'The ledger was opened to be looked at only.')
    if (this.#damage !== undefined || this.#db === undefined) throw this.#damaged()
    return this.#db
  }

  #damaged(): GatewayError {
    return new GatewayError('LEDGER-DAMAGED', `The ledger takes no entries: ${this.#damage ?? 'it is not open'}.`, 'Run `parapet ledger verify`, and restore the data folder from a copy that verifies.')
  }

  /** A failed write or fsync is never retried and trusted: what the kernel did with the pages is unknown. */
  #guarded(write: () => void): void {
    try {
      write()
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Not healthy first, then LEDGER-DAMAGED, whatever else fails. */
  #fail(error: unknown): never {
    const code = error instanceof Error && 'errcode' in error ? ` (SQLite code ${String(error.errcode)})` : ''
    this.#break(`a write failed${code}`)
    try {
      if (this.#db?.isTransaction === true) this.#db.exec('ROLLBACK')
    } catch {
      // What is open now is rolled back when the file is opened again.
    }
    throw this.#damaged()
  }

  #break(reason: string): void {
    if (this.#damage !== undefined) return
    this.#damage = reason
    this.#options.onDamage?.(reason)
  }

  #flushLater(): void {
    this.#timer = undefined
    try {
      this.flush()
    } catch {
      // `healthy` says it; whoever waits for `flush` gets the error there.
    }
  }

  /** [RFC 9562 5.4] */
  #uuid(): Uint8Array {
    const bytes = Uint8Array.from(this.#random(16))
    bytes[6] = (bytes[6]! & 0x0f) | 0x40
    bytes[8] = (bytes[8]! & 0x3f) | 0x80
    return bytes
  }
}

interface Row {
  readonly seq: number
  readonly uuid: Uint8Array
  readonly type: string
  readonly schema: number
  readonly gateway: string
  readonly day: string
  readonly tag: Uint8Array | undefined
  readonly keyId: string
  readonly body: Uint8Array
  readonly prev: Uint8Array
  readonly hash: Uint8Array
}

interface SealerFor {
  readonly sealer: Sealer
  readonly keyId: string
  readonly subject: Uint8Array | undefined
}

interface Head {
  readonly ledger: string
  readonly seq: number
  readonly hash: string
  readonly counter: number
}

/** Keys of one subject (or the gateway), for good or for one day. */
interface Sealer {
  /** Tags: HMAC(row, sequence). */
  readonly row: Uint8Array
  readonly body: Uint8Array
}

/** Types whose events are worth something only as long as late messages are accepted. */
function isShortLived(type: string): boolean {
  return type.startsWith('session.') || type === 'device.forgotten'
}

function tagAt(sealer: Sealer, seq: number): Uint8Array {
  return tag(sealer.row, u64(seq))
}

/** What stands in clear in an event: bound to the sealed body, and the first part of what is hashed. */
function clearPart(row: Row): Buffer {
  return frame('parapet/v1|ledger|event', u64(row.seq), row.uuid, row.type, u64(row.schema), row.gateway, row.day, row.tag ?? '', row.keyId)
}

/** SHA-256 over the stored bytes: clear part, sealed body, hash of the event before. Needs no key. */
function hashOf(row: Row): Uint8Array {
  return sha256(frame(clearPart(row), row.body, row.prev))
}

function rowOf(stored: Record<string, SQLOutputValue>): Row {
  return {
    seq: Number(stored['seq']),
    uuid: stored['uuid'] as Uint8Array,
    type: String(stored['type']),
    schema: Number(stored['schema']),
    gateway: String(stored['gateway']),
    day: String(stored['day']),
    tag: (stored['subject_tag'] as Uint8Array | null) ?? undefined,
    keyId: String(stored['key_id']),
    body: stored['body'] as Uint8Array,
    prev: stored['prev'] as Uint8Array,
    hash: stored['hash'] as Uint8Array,
  }
}

function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** UTC day of a time, `2026-11-23`. */
export function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}
