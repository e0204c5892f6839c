/**
 * Random rows per subject, the shredding handle of everything personal: what is sealed, tagged or pseudonymised under a row
 * is dead once the row is destroyed. Rows are wrapped under the root key; ids are stored only as HMACs.
 *
 * keys.db     rows of subjects, of the gateway itself and of days; never part of ordinary backups
 * tombstones  append-only text, written and fsynced before a row goes, re-applied at every start, so that a restored
 *             keys.db brings nobody back
 */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../domain/errors.ts'
import type { OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { KeyUse, Random, SubjectKeys, SubjectStore, SubjectType } from '../domain/ports.ts'
import { inTransaction, openDatabase, truncateLog } from './database.ts'
import { syncFolder, type RootKey } from './root.ts'
import { frame, seal, tag, unseal } from './sealing.ts'

export interface SubjectKeysOptions {
  /** The data folder. */
  readonly folder: string
  readonly root: RootKey
  readonly tenant: string
  readonly random?: Random
  /** Looks only: for `ledger verify` beside a running gateway. */
  readonly readOnly?: boolean
}

const SCHEMA = `
CREATE TABLE IF NOT EXISTS subject_row (
  subject BLOB NOT NULL,
  kind    TEXT NOT NULL CHECK (kind IN ('operator', 'machine', 'customer')),
  use     TEXT NOT NULL CHECK (use IN ('pseudonym', 'sealed_field', 'ledger', 'evidence', 'legal')),
  wrapped BLOB NOT NULL,
  key_id  TEXT NOT NULL,
  state   TEXT NOT NULL CHECK (state IN ('active', 'held', 'destroyed')),
  hold    TEXT,
  PRIMARY KEY (subject, use)
) STRICT;
CREATE TABLE IF NOT EXISTS gateway_row (
  name    TEXT PRIMARY KEY,
  wrapped BLOB NOT NULL,
  key_id  TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS period_row (
  period  TEXT PRIMARY KEY,
  wrapped BLOB NOT NULL,
  key_id  TEXT NOT NULL,
  state   TEXT NOT NULL CHECK (state IN ('active', 'destroyed'))
) STRICT;
CREATE TABLE IF NOT EXISTS fact (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
`

/** Rows of the gateway itself; random like all others, so that a new root key only re-wraps them. */
const GATEWAY_ROWS = ['subject-tag', 'tombstone', 'identity', 'ledger-body', 'ledger-index', 'ledger-head'] as const
export type GatewayRow = (typeof GATEWAY_ROWS)[number]

export class SqliteSubjectKeys implements SubjectKeys, SubjectStore {
  readonly name = 'subject keys'
  generation = 0

  readonly #random: Random
  readonly #db: DatabaseSync
  readonly #select: StatementSync
  readonly #insert: StatementSync
  readonly #selectPeriod: StatementSync
  readonly #wrapKeys = new Map<string, Uint8Array>()
  readonly #keyId: string
  readonly #gateway = new Map<GatewayRow, Uint8Array>()
  // By size, not by number: the latter makes room for all of them at once, which costs 20 ms at the start.
  readonly #cache = new LRUCache<string, Uint8Array>({ maxSize: LIMITS.subjectRowCache, sizeCalculation: () => 1 })
  readonly #periods = new LRUCache<string, Uint8Array>({ max: 64 })
  readonly #tombstones: Tombstones

  /**
   * @throws GatewayError KEYS-MISSING (tombstones without their keys.db), ROOT-KEY-UNKNOWN, TOMBSTONES-DAMAGED and those of openDatabase
   */
  constructor(options: SubjectKeysOptions) {
    this.#random = options.random ?? randomBytes
    const path = join(options.folder, 'keys.db')
    const graves = join(options.folder, 'tombstones')
    const fresh = !existsSync(path)
    if (fresh && (options.readOnly === true || existsSync(graves))) {
      throw new GatewayError('KEYS-MISSING', `${path} is missing.`, 'Restore it, or move the whole data folder away and start anew.')
    }
    for (const root of [options.root, ...options.root.former]) this.#wrapKeys.set(root.id, root.deriveKey('parapet/v1|wrap|subject-rows', options.tenant))
    this.#keyId = options.root.id
    this.#db = openDatabase(path, SCHEMA, { readOnly: options.readOnly === true })
    try {
      this.#select = this.#db.prepare('SELECT kind, wrapped, key_id, state FROM subject_row WHERE subject = ? AND use = ?')
      this.#insert = this.#db.prepare("INSERT INTO subject_row (subject, kind, use, wrapped, key_id, state) VALUES (?, ?, ?, ?, ?, 'active')")
      this.#selectPeriod = this.#db.prepare('SELECT wrapped, key_id, state FROM period_row WHERE period = ?')
      if (options.readOnly === true) this.#loadGatewayRows()
      else inTransaction(this.#db, () => this.#loadGatewayRows())
      this.#tombstones = new Tombstones(graves, this.gatewayRow('tombstone'), Number(this.fact('tombstones') ?? '0'), options.readOnly === true)
      if (options.readOnly !== true) this.#reapply()
    } catch (error) {
      this.#db.close()
      throw error
    }
  }

  row(type: SubjectType, subject: string, use: KeyUse): Uint8Array | undefined {
    const cached = `${type} ${use} ${subject}`
    const ready = this.#cache.get(cached)
    if (ready !== undefined) return ready
    const row = this.rowByTag(this.tagOf(type, subject), type, use)
    if (row !== undefined) this.#cache.set(cached, row)
    return row
  }

  ensure(type: SubjectType, subject: string, use: KeyUse): Uint8Array {
    this.ensureMany(type, [subject], [use])
    return this.row(type, subject, use)!
  }

  /** Makes the rows that are missing, in one transaction. Throws SUBJECT-ENDED, and makes none, when one of the subjects has a tombstone. */
  ensureMany(type: SubjectType, subjects: Iterable<string>, uses: readonly KeyUse[]): void {
    const missing: { readonly subject: Uint8Array; readonly use: KeyUse }[] = []
    for (const subject of subjects) {
      let ended: boolean | undefined
      for (const use of uses) {
        if (this.#cache.has(`${type} ${use} ${subject}`)) continue
        const mark = this.tagOf(type, subject)
        ended ??= this.ended(mark)
        if (ended) throw new GatewayError('SUBJECT-ENDED', `This ${type} was erased and cannot come back under the same id.`, `Register the ${type} under a new id.`)
        if (this.#select.get(mark, use) === undefined) missing.push({ subject: mark, use })
      }
    }
    if (missing.length === 0) return
    inTransaction(this.#db, () => {
      for (const { subject, use } of missing) this.#insert.run(subject, type, use, this.#wrap(this.#random(32), [subject, type, use]), this.#keyId)
    })
  }

  destroy(type: SubjectType, subject: string): number {
    const mark = this.tagOf(type, subject)
    const held = this.#db.prepare("SELECT count(*) AS n FROM subject_row WHERE subject = ? AND state = 'held'").get(mark)?.['n']
    // A legal hold keeps the person's rows; whoever lifts it calls again.
    if (held !== 0) return 0
    if (!this.ended(mark)) this.#tombstones.add(`subject ${hexOf(mark)}`)
    const destroyed = this.#bury(mark)
    truncateLog(this.#db)
    this.#cache.clear()
    this.generation++
    return destroyed
  }

  /** A subject's name in every stored file: HMAC of kind and id, 32 bytes. */
  tagOf(type: SubjectType, subject: string): Uint8Array {
    return tag(this.gatewayRow('subject-tag'), type, subject)
  }

  /** As `row`, by the stored name. */
  rowByTag(subject: Uint8Array, type: SubjectType, use: KeyUse): Uint8Array | undefined {
    if (this.ended(subject)) return undefined
    const stored = this.#select.get(subject, use)
    if (stored === undefined || stored['state'] === 'destroyed' || stored['kind'] !== type) return undefined
    return this.#unwrap(stored['wrapped'] as Uint8Array, String(stored['key_id']), [subject, type, use])
  }

  /** Kind of a subject that has a row for this use. */
  kindOf(subject: Uint8Array, use: KeyUse): SubjectType | undefined {
    return this.#select.get(subject, use)?.['kind'] as SubjectType | undefined
  }

  /** All live rows of a use, by stored name; for rebuilding an index. */
  *rows(use: KeyUse): Iterable<{ readonly subject: Uint8Array; readonly type: SubjectType; readonly row: Uint8Array }> {
    for (const { subject, kind } of this.#db.prepare("SELECT subject, kind FROM subject_row WHERE use = ? AND state <> 'destroyed'").all(use)) {
      const row = this.rowByTag(subject as Uint8Array, kind as SubjectType, use)
      if (row !== undefined) yield { subject: subject as Uint8Array, type: kind as SubjectType, row }
    }
  }

  /** Whether a subject has a tombstone. */
  ended(subject: Uint8Array): boolean {
    return this.#tombstones.size > 0 && this.#tombstones.has(`subject ${hexOf(subject)}`)
  }

  gatewayRow(name: GatewayRow): Uint8Array {
    return this.#gateway.get(name)!
  }

  /** The row of a day under which new short-lived events are sealed, with the name to find it by: a day that has ended gets another row. */
  openPeriod(day: string): { readonly period: string; readonly row: Uint8Array } {
    for (let n = 0; ; n++) {
      const period = n === 0 ? day : `${day}.${n}`
      const ready = this.periodRow(period)
      if (ready !== undefined) return { period, row: ready }
      if (this.periodEnded(period)) continue
      const row = this.#random(32)
      this.#db.prepare("INSERT INTO period_row (period, wrapped, key_id, state) VALUES (?, ?, ?, 'active')").run(period, this.#wrap(row, ['period', period]), this.#keyId)
      this.#periods.set(period, row)
      return { period, row }
    }
  }

  periodRow(period: string): Uint8Array | undefined {
    const ready = this.#periods.get(period)
    if (ready !== undefined) return ready
    const stored = this.#selectPeriod.get(period)
    if (stored === undefined || stored['state'] === 'destroyed' || this.periodEnded(period)) return undefined
    const row = this.#unwrap(stored['wrapped'] as Uint8Array, String(stored['key_id']), ['period', period])
    this.#periods.set(period, row)
    return row
  }

  periodEnded(period: string): boolean {
    return this.#tombstones.has(`period ${period}`)
  }

  /** Destroys the rows of all days before one: what was sealed under them is gone for everybody. Returns the days. */
  destroyPeriods(before: string): readonly string[] {
    const old = this.#db.prepare("SELECT period FROM period_row WHERE period < ? AND state = 'active'").all(before).map((row) => String(row['period']))
    if (old.length === 0) return old
    for (const period of old) this.#tombstones.add(`period ${period}`)
    inTransaction(this.#db, () => {
      for (const period of old) this.#buryPeriod(period)
      this.#countTombstones()
    })
    truncateLog(this.#db)
    this.#periods.clear()
    return old
  }

  /** A small fact that must survive a restored backup of the other files, such as the ledger's newest head. */
  fact(name: string): string | undefined {
    const value = this.#db.prepare('SELECT value FROM fact WHERE name = ?').get(name)?.['value']
    return value === undefined ? undefined : String(value)
  }

  setFact(name: string, value: string): void {
    this.#db.prepare('INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value').run(name, value)
  }

  /** Wraps every row anew under the root key in use; afterwards the former ones can be removed from the root key file. Returns how many. */
  rewrap(): number {
    const count = inTransaction(this.#db, () => {
      let count = 0
      const subjects = this.#db.prepare("SELECT subject, kind, use, wrapped, key_id FROM subject_row WHERE key_id <> ? AND state <> 'destroyed'").all(this.#keyId)
      for (const { subject, kind, use, wrapped, key_id } of subjects) {
        const context = [subject as Uint8Array, String(kind), String(use)]
        const row = this.#unwrap(wrapped as Uint8Array, String(key_id), context)
        this.#db.prepare('UPDATE subject_row SET wrapped = ?, key_id = ? WHERE subject = ? AND use = ?').run(this.#wrap(row, context), this.#keyId, subject as Uint8Array, String(use))
        count++
      }
      for (const [table, column] of [['gateway_row', 'name'], ['period_row', 'period']] as const) {
        for (const stored of this.#db.prepare(`SELECT ${column} AS name, wrapped, key_id FROM ${table} WHERE key_id <> ? AND length(wrapped) > 0`).all(this.#keyId)) {
          const context = [table === 'gateway_row' ? 'gateway' : 'period', String(stored['name'])]
          const row = this.#unwrap(stored['wrapped'] as Uint8Array, String(stored['key_id']), context)
          this.#db.prepare(`UPDATE ${table} SET wrapped = ?, key_id = ? WHERE ${column} = ?`).run(this.#wrap(row, context), this.#keyId, String(stored['name']))
          count++
        }
      }
      return count
    })
    truncateLog(this.#db)
    return count
  }

  locate(subject: OperatorId): { readonly records: number } {
    const count = this.#db.prepare("SELECT count(*) AS n FROM subject_row WHERE subject = ? AND state <> 'destroyed'").get(this.tagOf('operator', subject))?.['n']
    return { records: Number(count) }
  }

  /** Rows are secrets of the gateway, not the person's data: only what they are for is told. */
  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    for (const row of this.#db.prepare('SELECT use, state FROM subject_row WHERE subject = ?').all(this.tagOf('operator', subject))) {
      yield { use: row['use'], state: row['state'] }
    }
  }

  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    const erased = this.destroy('operator', subject)
    return { erased, held: this.ended(this.tagOf('operator', subject)) ? 0 : this.locate(subject).records }
  }

  hold(subject: OperatorId, caseId: string | undefined): void {
    this.#db.prepare("UPDATE subject_row SET state = ?, hold = ? WHERE subject = ? AND state <> 'destroyed'")
      .run(caseId === undefined ? 'active' : 'held', caseId ?? null, this.tagOf('operator', subject))
  }

  close(): void {
    this.#tombstones.close()
    this.#cache.clear()
    if (this.#db.isOpen) this.#db.close()
  }

  #loadGatewayRows(): void {
    const select = this.#db.prepare('SELECT wrapped, key_id FROM gateway_row WHERE name = ?')
    for (const name of GATEWAY_ROWS) {
      const stored = select.get(name)
      if (stored !== undefined) {
        this.#gateway.set(name, this.#unwrap(stored['wrapped'] as Uint8Array, String(stored['key_id']), ['gateway', name]))
        continue
      }
      const row = this.#random(32)
      this.#db.prepare('INSERT INTO gateway_row (name, wrapped, key_id) VALUES (?, ?, ?)').run(name, this.#wrap(row, ['gateway', name]), this.#keyId)
      this.#gateway.set(name, row)
    }
  }

  /** A row is bound to its place, so that rows cannot be exchanged inside the file. */
  #wrap(row: Uint8Array, context: readonly (Uint8Array | string)[]): Uint8Array {
    return seal(this.#wrapKeys.get(this.#keyId)!, row, frame('parapet/v1|row', ...context), this.#random)
  }

  #unwrap(wrapped: Uint8Array, keyId: string, context: readonly (Uint8Array | string)[]): Uint8Array {
    const key = this.#wrapKeys.get(keyId)
    const row = key === undefined ? undefined : unseal(key, wrapped, frame('parapet/v1|row', ...context))
    if (row === undefined) {
      throw new GatewayError('ROOT-KEY-UNKNOWN', `keys.db was sealed under another root key or tenant (key ${keyId}), or is damaged.`, 'Put the root key that belongs to this data folder in place, and the tenant it was started with.')
    }
    return row
  }

  /** Rows that a restored keys.db brought back are destroyed again before anything is served. */
  #reapply(): void {
    for (const entry of this.#tombstones.entries()) {
      const [kind, what] = entry.split(' ') as [string, string]
      if (kind === 'subject') this.#bury(Buffer.from(what, 'hex'))
      else this.#buryPeriod(what)
    }
    this.#countTombstones()
  }

  #bury(subject: Uint8Array): number {
    return inTransaction(this.#db, () => {
      const { changes } = this.#db.prepare("UPDATE subject_row SET wrapped = x'', state = 'destroyed', hold = NULL WHERE subject = ? AND state <> 'destroyed'").run(subject)
      this.#countTombstones()
      return Number(changes)
    })
  }

  #buryPeriod(period: string): void {
    this.#db.prepare("UPDATE period_row SET wrapped = x'', state = 'destroyed' WHERE period = ? AND state <> 'destroyed'").run(period)
  }

  #countTombstones(): void {
    const count = String(this.#tombstones.size)
    if (this.fact('tombstones') !== count) this.setFact('tombstones', count)
  }
}

/**
 * One line each: `v1 subject HEX MAC` or `v1 period DAY MAC`; the MAC chains over all lines before it.
 * keys.db knows how many there were: fewer means that lines were cut off.
 */
class Tombstones {
  readonly #key: Uint8Array
  #file: number | undefined
  readonly #entries = new Set<string>()
  #chain = 'parapet/v1|tombstones'

  constructor(path: string, key: Uint8Array, expected: number, readOnly: boolean) {
    this.#key = key
    const text = existsSync(path) ? readFileSync(path, 'utf8') : ''
    const whole = text.lastIndexOf('\n') + 1
    for (const line of text.slice(0, whole).split('\n').slice(0, -1)) {
      const [version, kind, what, mac] = line.split(' ')
      const entry = `${kind} ${what}`
      if (version !== 'v1' || mac !== this.#next(entry)) throw tombstonesDamaged(path)
      this.#chain = mac
      this.#entries.add(entry)
    }
    if (this.#entries.size < expected) throw tombstonesDamaged(path)
    if (readOnly) return
    const isNew = !existsSync(path)
    this.#file = openSync(path, 'a', 0o600)
    // A line without its end was never acted upon: the row goes only after the fsync.
    if (whole < text.length) ftruncateSync(this.#file, Buffer.byteLength(text.slice(0, whole)))
    if (isNew) syncFolder(join(path, '..'))
  }

  get size(): number {
    return this.#entries.size
  }

  has(entry: string): boolean {
    return this.#entries.has(entry)
  }

  entries(): Iterable<string> {
    return this.#entries
  }

  /** Durable when it returns. */
  add(entry: string): void {
    if (this.#file === undefined) throw new GatewayError('READ-ONLY', 'The data folder was opened to be looked at only.')
    if (this.#entries.has(entry)) return
    const mac = this.#next(entry)
    writeSync(this.#file, `v1 ${entry} ${mac}\n`)
    fsyncSync(this.#file)
    this.#chain = mac
    this.#entries.add(entry)
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }

  #next(entry: string): string {
    return tag(this.#key, this.#chain, entry).subarray(0, 16).toString('hex')
  }
}

function tombstonesDamaged(path: string): GatewayError {
  return new GatewayError('TOMBSTONES-DAMAGED', `${path} was changed or cut off: erased persons could come back.`, 'Restore the newest copy of this file; it is the one file of the data folder that must never be older than the others.')
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
}
