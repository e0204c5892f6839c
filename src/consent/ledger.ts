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
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../domain/errors.ts'
import type { ClearEvent } from '../domain/history.ts'
import type { OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, EventFilter, Ledger, LedgerEvent, Random, StoredEvent, SubjectStore, SubjectType } from '../domain/ports.ts'
import { genesisOf, LEDGER_SCHEMA, LEDGER_TABLES, pageOf, ROW_COLUMNS, StoredForm, walk, wholeWalk, type Row, type Walked, type Waypoint } from './chain.ts'
import { openDatabase, truncateLog } from './database.ts'
import { syncFolder } from './root.ts'
import { expand, frame, macUnder, padded, seal, tag, u64, unpadded, unseal } from './sealing.ts'
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

/** A head that somebody noted elsewhere: the chain must have passed it, whatever was restored since. */
export type NotedHead = Pick<Waypoint, 'seq' | 'hash'>

/** What `ledger verify` says. */
export interface LedgerReport extends Verification {
  /** The last event that holds. */
  readonly head: { readonly seq: number; readonly hash: string }
  /** The newest head outside the database whose signature is right. */
  readonly signed: { readonly seq: number; readonly hash: string; readonly day: string } | undefined
  readonly unindexed: number
  readonly types: Readonly<Record<string, number>>
  readonly days: { readonly first: string; readonly last: string } | undefined
}

export interface ClearFilter {
  readonly afterSeq?: number
  /** A type, or the beginning of several when it ends with a dot. */
  readonly type?: string
  readonly day?: string
  /** At most so many; all when absent. */
  readonly limit?: number
}

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
  readonly #openers = new LRUCache<string, Sealer>({ maxSize: LIMITS.subjectRowCache, sizeCalculation: () => 1 })
  readonly #form = new StoredForm()
  readonly #macOfIndex: (message: Uint8Array) => string
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
    this.#macOfIndex = macUnder(options.keys.gatewayRow('ledger-index'))
    try {
      this.#db = openDatabase(join(options.folder, 'ledger.db'), LEDGER_TABLES, { readOnly: this.#readOnly })
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
    const clear = {
      seq, uuid: this.#uuid(), type: event.type, schema: LEDGER_SCHEMA, gateway: this.#options.gateway, day,
      tag: subject === undefined ? undefined : tagAt(sealer, seq), keyId,
    }
    const prev = this.#hash
    const body = seal(sealer.body, plain, this.#form.clear(clear), this.#random)
    const hash = Buffer.from(this.#form.hash({ ...clear, body, prev }), 'hex')
    this.#guarded(() => {
      if (this.#pending === 0) db.exec('BEGIN IMMEDIATE')
      this.#insert!.run(seq, clear.uuid, clear.type, clear.schema, clear.gateway, day, clear.tag ?? null, keyId, body, prev, hash)
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
    // Whoever asks is about to acknowledge something: also when nothing could be taken since the damage.
    if (this.#pending === 0 && this.#damage === undefined) return
    const db = this.#writable()
    this.#guarded(() => db.exec('COMMIT'))
    this.#pending = 0
    if (this.#seq - this.#headSeq >= HEAD_EVENTS || this.#options.clock.monotonic() - this.#headAtMs >= HEAD_MS) this.#writeHead()
  }

  *events(filter: EventFilter = {}): Iterable<StoredEvent> {
    const db = this.#db
    if (db === undefined) return
    const subject = filter.subject === undefined ? null : this.#keys.tagOf(filter.subject.type, filter.subject.id)
    const types = [filter.type ?? []].flat()
    const wanted = types.map(typeWanted)
    const isWanted = wanted.map(({ sql }) => sql).join(' OR ')
    const page = pageOf(db, `
      SELECT ${ROW_COLUMNS} FROM event ${subject === null ? 'LEFT JOIN' : 'JOIN'} subject_event USING (seq)
      WHERE event.seq > ? ${subject === null ? '' : 'AND subject_event.subject = ?'} ${isWanted === '' ? '' : `AND (${isWanted})`}
      ORDER BY event.seq LIMIT ${LIMITS.ledgerPage}`)
    let after = filter.afterSeq ?? 0
    for (;;) {
      const rows = page(after, ...(subject === null ? [] : [subject]), ...wanted.flatMap(({ values }) => values))
      for (const row of rows) {
        yield {
          seq: row.seq, uuid: uuidText(row.uuid), type: row.type, schema: row.schema, gateway: row.gateway, day: row.day,
          body: this.#open(row),
        }
      }
      if (rows.length < LIMITS.ledgerPage) return
      after = rows.at(-1)!.seq
    }
  }

  /** The clear columns, in the order of the sequence: what may be shown to somebody who may not know whom an event is about. */
  *clear(filter: ClearFilter = {}): Iterable<ClearEvent> {
    if (this.#db !== undefined) yield* clearEvents(this.#db, filter)
  }

  verify(): Verification {
    const { ok, events, brokenAt, reason } = this.report()
    return { ok, events, brokenAt, reason }
  }

  /** As `verify`, with what is in the ledger; and with heads noted elsewhere, which even a whole data folder put back from a backup must have passed. */
  report(noted: readonly NotedHead[] = []): LedgerReport {
    const start = this.#beginWalk(noted)
    return 'steps' in start ? this.#endWalk(wholeWalk(start.steps), start) : start.report
  }

  /** As `report`, for a gateway at work: stands still for one page of the ledger at a time, about two milliseconds. */
  async reportCalmly(): Promise<LedgerReport> {
    const start = this.#beginWalk([])
    if (!('steps' in start)) return start.report
    for (;;) {
      const step = start.steps.next()
      if (step.done === true) return this.#endWalk(step.value, start)
      await new Promise((resolve) => setImmediate(resolve))
    }
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
    this.#hash = genesisOf(this.#id)
    if (!this.#readOnly && this.#isNew(db)) this.#writeHead()
    if (!this.report().ok) return
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
  #beginWalk(noted: readonly NotedHead[]): Begun | { readonly report: LedgerReport } {
    const db = this.#db
    const heads = db === undefined ? (this.#damage ?? 'the ledger cannot be read') : this.#heads()
    if (db === undefined || typeof heads === 'string') {
      const reason = typeof heads === 'string' ? heads : ''
      if (db !== undefined) this.#break(reason)
      return { report: { ok: false, events: 0, brokenAt: undefined, reason, head: { seq: 0, hash: '' }, signed: undefined, unindexed: 0, types: {}, days: undefined } }
    }
    const waypoints = [...heads.map((head) => ({ seq: head.seq, hash: head.hash, from: 'the signed head' })), ...noted.map((head) => ({ ...head, from: 'the head noted elsewhere' }))]
    const signed = heads.reduce((newest, head) => (head.counter > newest.counter ? head : newest))
    const kept = heads.at(-1)!
    // The file is written first, so it never knows less than keys.db.
    const isPutBack = heads.every((head) => head === kept || head.counter < kept.counter)
    return { signed, isPutBack, steps: walk(db, { ledger: this.#id, waypoints, isIndexEntry: (seq, subject, mac) => hexOf(mac) === this.#indexMacText(seq, subject) }) }
  }

  #endWalk(walked: Walked, { signed, isPutBack }: Begun): LedgerReport {
    const hash = Buffer.from(walked.hash, 'hex')
    let { brokenAt, reason } = walked
    if (reason === undefined) {
      if (this.#seq === 0) {
        this.#seq = walked.events
        this.#hash = hash
      } else if (walked.events !== this.#seq || !same(hash, this.#hash)) {
        brokenAt = Math.min(walked.events, this.#seq) + 1
        reason = 'the file no longer holds what this process wrote'
      }
    }
    if (isPutBack) reason ??= 'the signed head is older than the one that keys.db knows: it was put back'
    if (reason !== undefined) this.#break(reason)
    return {
      ok: reason === undefined, events: walked.events, brokenAt, reason,
      head: { seq: walked.events, hash: walked.hash }, signed: { seq: signed.seq, hash: signed.hash, day: signed.day },
      unindexed: walked.unindexed, types: walked.types, days: walked.days,
    }
  }

  /** The head file's heads and, as the last one, that of keys.db; or why there is none that can be trusted. */
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
    return headOf(text, this.#verifier)
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
    let row: Uint8Array | undefined
    if (plus >= 0) {
      const base = this.#sealer(subject, type, keyId.slice(0, plus))
      const period = this.#keys.periodRow(keyId.slice(plus + 1))
      if (base !== undefined && period !== undefined) row = tag(base.row, 'parapet/v1|ledger|day', period)
    } else if (keyId === 'gateway') row = this.#keys.gatewayRow('ledger-body')
    else if (keyId === 'row' && subject !== undefined) row = this.#keys.rowByTag(subject, type ?? this.#keys.kindOf(subject, 'ledger') ?? 'operator', 'ledger')
    if (row === undefined) return undefined
    const sealer = { row, body: expand(row, 'parapet/v1|ledger|body') }
    this.#openers.set(cached, sealer)
    return sealer
  }

  /**
   * The body, or undefined when its row was destroyed. A body that should open and does not is damage: an unreadable
   * withdrawal must never look like none.
   */
  #open(row: Row): Readonly<Record<string, unknown>> | undefined {
    if (this.#isEnded(row)) return undefined
    const { subject } = row
    const sealer = this.#sealer(subject === undefined || subject.length === 0 ? undefined : subject, undefined, row.keyId)
    const plain = sealer === undefined ? undefined : unseal(sealer.body, row.body, this.#form.clear(row))
    const body = plain === undefined ? undefined : unpadded(plain)
    if (body === undefined) this.#break(`event ${row.seq} cannot be opened although nobody ended its keys`)
    return body
  }

  #isEnded({ keyId, tag: mark, subject }: Row): boolean {
    const plus = keyId.indexOf('+')
    if (plus >= 0 && this.#keys.periodEnded(keyId.slice(plus + 1))) return true
    if (mark === undefined) return false
    return subject === undefined || subject.length === 0 || this.#keys.ended(subject)
  }

  /**
   * Events that have a subject but no index entry (the index was deleted, or lost): matched against every live row.
   * What matches none belongs to somebody erased, or to a day that is over.
   */
  #mendIndex(db: DatabaseSync): void {
    const lost = pageOf(db, `SELECT ${ROW_COLUMNS} FROM event LEFT JOIN subject_event USING (seq) WHERE subject_tag IS NOT NULL AND subject_event.seq IS NULL`)()
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
    return Buffer.from(this.#indexMacText(seq, subject), 'hex')
  }

  #indexMacText(seq: number, subject: Uint8Array): string {
    return this.#macOfIndex(frame(this.#id, u64(seq), subject)).slice(0, 32)
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
  readonly day: string
}

interface Begun {
  readonly steps: Generator<void, Walked>
  readonly signed: Head
  /** Both heads of the file are older than that of keys.db. */
  readonly isPutBack: boolean
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

/** Reads one slot; undefined when it is empty, torn or not signed by this key. Without a key the signature is not looked at. */
function headOf(text: string, verifier: KeyObject | undefined): Head | undefined {
  const line = text.trim()
  const end = line.lastIndexOf(' ')
  if (end < 0) return undefined
  const signature = Buffer.from(line.slice(end + 1), 'base64url')
  if (verifier !== undefined && !verify(null, Buffer.from(line.slice(0, end), 'utf8'), verifier, signature)) return undefined
  const [kind, ledger, seq, hash, counter, day] = line.slice(0, end).split(' ')
  return kind === 'parapet-ledger-head/1' && day !== undefined ? { ledger: ledger!, seq: Number(seq), hash: hash!, counter: Number(counter), day } : undefined
}

/**
 * Checks a ledger without any secret: the chain and, against the head file, that nothing was cut off or put back. An auditor's
 * copy needs `ledger.db` and `ledger.head` alone. What it cannot see is somebody who rewrote the chain and the head file
 * together: for that it takes the signature (`headKey`), or a head noted elsewhere.
 * @param headKey  SPKI of the key that signs heads, base64, as `ledger verify` prints it
 */
export function auditChain(folder: string, headKey: string | undefined, noted: readonly NotedHead[] = []): LedgerReport {
  const none = { events: 0, brokenAt: undefined, head: { seq: 0, hash: '' }, signed: undefined, unindexed: 0, types: {}, days: undefined }
  const broken = (reason: string): LedgerReport => ({ ...none, ok: false, reason })
  const verifier = headKey === undefined ? undefined : headKeyOf(headKey)
  let db: DatabaseSync | undefined
  try {
    db = openDatabase(join(folder, 'ledger.db'), LEDGER_TABLES, { readOnly: true })
    const id = String(db.prepare('SELECT id FROM ledger').get()?.['id'])
    const file = join(folder, 'ledger.head')
    if (!existsSync(file)) return broken('the signed head is missing')
    const text = readFileSync(file, 'latin1')
    const heads = [headOf(text.slice(0, HEAD_SLOT), verifier), headOf(text.slice(HEAD_SLOT), verifier)].filter((head) => head !== undefined)
    if (heads.length === 0) return broken(verifier === undefined ? 'the signed head was changed' : 'the signed head was changed, or another key signed it')
    if (heads.some((head) => head.ledger !== id)) return broken('the signed head belongs to another ledger')
    const waypoints = [...heads.map((head) => ({ seq: head.seq, hash: head.hash, from: 'the signed head' })), ...noted.map((head) => ({ ...head, from: 'the head noted elsewhere' }))]
    const signed = heads.reduce((newest, head) => (head.counter > newest.counter ? head : newest))
    const { hash, ...walked } = wholeWalk(walk(db, { ledger: id, waypoints }))
    return { ...walked, ok: walked.reason === undefined, head: { seq: walked.events, hash }, signed: verifier === undefined ? undefined : { seq: signed.seq, hash: signed.hash, day: signed.day } }
  } catch (error) {
    return broken(error instanceof GatewayError ? error.message : 'the ledger cannot be read')
  } finally {
    db?.close()
  }
}

/**
 * The clear columns of a ledger file, without any key.
 * @throws GatewayError of openDatabase
 */
export function* clearFile(folder: string, filter: ClearFilter): Iterable<ClearEvent> {
  const db = openDatabase(join(folder, 'ledger.db'), LEDGER_TABLES, { readOnly: true })
  try {
    yield* clearEvents(db, filter)
  } finally {
    db.close()
  }
}

function headKeyOf(text: string): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(text, 'base64'), format: 'der', type: 'spki' })
  } catch {
    throw new GatewayError('HEAD-KEY', 'This is not the public key of a ledger\'s heads.', 'Copy it from `parapet ledger verify` of the gateway itself: one line of base64.')
  }
}

function* clearEvents(db: DatabaseSync, { afterSeq = 0, type, day, limit = Number.POSITIVE_INFINITY }: ClearFilter): Iterable<ClearEvent> {
  const wanted = type === undefined ? undefined : typeWanted(type)
  const page = pageOf(db, `
    SELECT ${ROW_COLUMNS} FROM event LEFT JOIN subject_event USING (seq)
    WHERE event.seq > ? ${day === undefined ? '' : 'AND event.day = ?'} ${wanted === undefined ? '' : `AND ${wanted.sql}`} ORDER BY event.seq LIMIT ?`)
  let after = afterSeq
  let left = limit
  while (left > 0) {
    const rows = page(after, ...(day === undefined ? [] : [day]), ...(wanted?.values ?? []), Math.min(left, LIMITS.ledgerPage))
    for (const row of rows) {
      yield {
        seq: row.seq, uuid: uuidText(row.uuid), type: row.type, schema: row.schema, gateway: row.gateway, day: row.day,
        subjectTag: row.tag === undefined ? undefined : hexOf(row.tag), keyId: row.keyId, prev: hexOf(row.prev), hash: hexOf(row.hash),
      }
    }
    if (rows.length < Math.min(left, LIMITS.ledgerPage)) return
    left -= rows.length
    after = rows.at(-1)!.seq
  }
}

/** A beginning ends with a dot; `/` is the character after it. */
function typeWanted(type: string): { readonly sql: string; readonly values: readonly string[] } {
  return type.endsWith('.') ? { sql: '(event.type >= ? AND event.type < ?)', values: [type, `${type.slice(0, -1)}/`] } : { sql: 'event.type = ?', values: [type] }
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}

function uuidText(bytes: Uint8Array): string {
  const hex = hexOf(bytes)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** UTC day of a time, `2026-11-23`. */
export function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}
