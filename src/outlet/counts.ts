/**
 * Disclosure counts: how often something about whom left, to whom, for what, under which rules. [GDPR Art. 15(1)(c), Art. 30]
 *
 * Every exit passes `note`; `write` runs inside the transaction that deletes the delivered records, so that a count is never
 * behind a deletion. Nothing of a payload is kept. Counting happens in memory between two commits, and a tally remembers its
 * row, so that a delivery costs an addition and a commit costs one short UPDATE per tally that moved.
 *
 * What was stored is counted again after a crash that leaves its outcome unknown. Of an exit that nothing on disk speaks of (QoS 0, a
 * retained copy) the count is written ahead: a tally may move only as far as was reserved for it, and what a crash leaves reserved counts
 * as disclosed. So a count is never too small, and after a crash at most so much too large.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { OperatorId } from '../domain/ids.ts'
import type { Envelope } from './envelopes.ts'

/** One row as a report reads it. `subject` is what `tag` made of the operator, empty when nobody was known. */
export interface DisclosureCount {
  readonly subject: string
  /** UTC, `2026-11`. */
  readonly month: string
  readonly output: string
  readonly recipient: string
  readonly credential: string
  readonly purpose: string
  readonly basis: string
  readonly categories: number
  readonly policy: string
  readonly rulesHash: string
  readonly keyId: string
  readonly firstMs: number
  readonly lastMs: number
  readonly count: number
}

/** Credential of a count whose outcome a crash left unknown: it counts as disclosed. */
export const UNKNOWN_CREDENTIAL = 'unknown'

/** Months that a count is kept, the current one included. */
export const COUNT_MONTHS = 24

export class DisclosureCounts {
  readonly #tag: (subject: OperatorId) => string
  readonly #upsert: StatementSync
  readonly #update: StatementSync
  readonly #prune: StatementSync
  readonly #read: StatementSync
  readonly #reserve: StatementSync
  readonly #release: StatementSync
  #tallies = new Map<string, Tally>()
  /** Tallies for which something is reserved on disk, and those of them that give it back. */
  readonly #ahead = new Set<Tally>()
  #idle: Tally[] = []
  #ids = 0
  #moved: Tally[] = []
  #month = ''
  #monthFromMs = 0
  #monthToMs = 0

  /** Makes its table when there is none. `db` is the outbox's own connection. */
  constructor(db: DatabaseSync, tag: (subject: OperatorId) => string) {
    this.#tag = tag
    db.exec(TABLE)
    this.#upsert = db.prepare(UPSERT)
    this.#update = db.prepare('UPDATE disclosure_counts SET last_ms = max(last_ms, ?), count = count + ? WHERE row = ?')
    db.exec(FOLD)
    this.#reserve = db.prepare('INSERT OR REPLACE INTO disclosure_ahead (tally, row, reserved) VALUES (?, ?, ?)')
    this.#release = db.prepare('DELETE FROM disclosure_ahead WHERE tally = ?')
    this.#prune = db.prepare('DELETE FROM disclosure_counts WHERE month < ?')
    this.#read = db.prepare('SELECT * FROM disclosure_counts ORDER BY month, subject, output, recipient, credential, row')
  }

  /** Something waits for `write`. */
  get pending(): boolean {
    return this.#moved.length > 0 || this.#idle.length > 0
  }

  /**
   * One exit. Hot path: no allocation once the envelope has left through this credential in this month.
   * @param isUnrecorded  nothing on disk would tell after a crash that it left
   * @returns true when it may not leave before a `write` is committed
   */
  note(envelope: Envelope, credential: string, nowMs: number, isUnrecorded = false): boolean {
    let mustWrite = false
    if (nowMs >= this.#monthToMs || nowMs < this.#monthFromMs) this.#turnMonth(nowMs)
    const tallies = this.#talliesOf(envelope, credential)
    for (const tally of tallies) {
      if (tally.count === 0) {
        tally.firstMs = nowMs
        this.#moved.push(tally)
      }
      tally.count++
      tally.lastMs = nowMs
      if (!isUnrecorded) continue
      tally.isAhead = true
      tally.isCalm = false
      tally.ahead--
      if (tally.ahead < 0) mustWrite = true
    }
    return mustWrite
  }

  /** Inside a transaction. Throws what SQLite throws; `settle` or `undo` follows. */
  write(): void {
    for (const tally of this.#moved) {
      // A row may have been pruned or erased since: then it starts anew.
      if (tally.row === 0 || this.#update.run(tally.lastMs, tally.count, tally.row).changes === 0) {
        const row = this.#upsert.get(
          tally.subject, tally.month, tally.output, tally.recipient, tally.credential, tally.purpose, tally.basis,
          tally.categories, tally.policy, tally.rulesHash, tally.keyId, tally.firstMs, tally.lastMs, tally.count,
        )
        tally.row = Number(row?.['row'])
      }
      if (tally.isAhead) this.#reserve.run((tally.id ||= ++this.#ids), tally.row, reserveOf(tally))
    }
    for (const tally of this.#idle) this.#release.run(tally.id)
  }

  /** After COMMIT. */
  settle(): void {
    for (const tally of this.#moved) {
      if (tally.isAhead) {
        tally.ahead = reserveOf(tally)
        this.#ahead.add(tally)
      }
      tally.isAhead = false
      tally.count = 0
    }
    this.#moved.length = 0
    for (const tally of this.#idle) this.#ahead.delete(tally)
    this.#idle = []
    if (this.#tallies.size > TALLIES_CACHED) this.#tallies = new Map()
  }

  /** After ROLLBACK: the rows may not exist, the counts are still owed. */
  undo(): void {
    this.#idle = []
    for (const tally of this.#moved) tally.row = 0
  }

  /** What did not move since the last call needs nothing reserved: given back with the next `write`. `all`: the outbox closes. */
  calm(all = false): void {
    this.#idle = [...this.#ahead].filter((tally) => all || tally.isCalm)
    for (const tally of this.#ahead) tally.isCalm = true
    for (const tally of this.#idle) tally.ahead = 0
  }

  /** Deletes what is older than COUNT_MONTHS. */
  prune(nowMs: number): void {
    const now = new Date(nowMs)
    this.#prune.run(monthOf(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - COUNT_MONTHS + 1)))
  }

  /** All rows that are committed. For reports: not for the hot path. */
  rows(): DisclosureCount[] {
    return this.#read.all().map((row) => ({
      subject: String(row['subject']), month: String(row['month']), output: String(row['output']), recipient: String(row['recipient']),
      credential: String(row['credential']), purpose: String(row['purpose']), basis: String(row['basis']),
      categories: Number(row['categories']), policy: String(row['policy']), rulesHash: String(row['rules_hash']),
      keyId: String(row['key_id']), firstMs: Number(row['first_ms']), lastMs: Number(row['last_ms']), count: Number(row['count']),
    }))
  }

  #talliesOf(envelope: Envelope, credential: string): readonly Tally[] {
    for (const known of envelope.exits) if (known.credential === credential && known.month === this.#month) return known.tallies
    const subjects = envelope.subjects.length === 0 ? [''] : envelope.subjects.map(this.#tag)
    const exit = { credential, month: this.#month, tallies: subjects.map((subject) => this.#tally(envelope, credential, subject)) }
    if (envelope.exits.length >= EXITS_CACHED) envelope.exits.length = 0
    envelope.exits.push(exit)
    return exit.tallies
  }

  #tally(envelope: Envelope, credential: string, subject: string): Tally {
    const key = [
      subject, this.#month, envelope.output, envelope.recipient, credential, envelope.purpose, envelope.basis,
      envelope.categories, envelope.policy, envelope.rulesHash, envelope.keyId,
    ].join('\u0000')
    let tally = this.#tallies.get(key)
    if (tally === undefined) {
      tally = {
        row: 0, subject, month: this.#month, output: envelope.output, recipient: envelope.recipient, credential,
        purpose: envelope.purpose, basis: envelope.basis, categories: envelope.categories, policy: envelope.policy,
        rulesHash: envelope.rulesHash, keyId: envelope.keyId, firstMs: 0, lastMs: 0, count: 0, id: 0, ahead: 0, isAhead: false, isCalm: false,
      }
      this.#tallies.set(key, tally)
    }
    return tally
  }

  #turnMonth(nowMs: number): void {
    const now = new Date(nowMs)
    this.#monthFromMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth())
    this.#monthToMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)
    this.#month = monthOf(nowMs)
    this.#tallies = new Map()
  }
}

/** Counts since the last commit, and where they go. */
interface Tally extends Omit<DisclosureCount, 'firstMs' | 'lastMs' | 'count'> {
  /** Row number, 0 = not known yet. */
  row: number
  firstMs: number
  lastMs: number
  /** Not yet committed; 0 = did not move. */
  count: number
  /** Of its reservation; two tallies may go into one row. */
  id: number
  /** Exits that the disk has reserved and that did not happen yet. */
  ahead: number
  /** Moved by an exit of which nothing on disk speaks, since the last commit. */
  isAhead: boolean
  /** Did not move so since the last `calm`. */
  isCalm: boolean
}

/** Twice as many as came since the last commit, so that under load a regular commit is always early enough. */
function reserveOf(tally: Tally): number {
  return Math.max(RESERVED, tally.count * 2)
}

/** The tallies that a delivery of an envelope through a credential moves; kept on the envelope. */
export interface Exit {
  readonly credential: string
  readonly month: string
  readonly tallies: readonly Tally[]
}

/** At it the cache starts empty; the rows are found again by their key. */
const TALLIES_CACHED = 65_536
const EXITS_CACHED = 16
const RESERVED = 64

const TABLE = `
CREATE TABLE IF NOT EXISTS disclosure_counts (
  row INTEGER PRIMARY KEY,
  subject TEXT NOT NULL, month TEXT NOT NULL, output TEXT NOT NULL, recipient TEXT NOT NULL, credential TEXT NOT NULL,
  purpose TEXT NOT NULL, basis TEXT NOT NULL, categories INTEGER NOT NULL, policy TEXT NOT NULL, rules_hash TEXT NOT NULL, key_id TEXT NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, count INTEGER NOT NULL,
  UNIQUE (subject, month, output, recipient, credential, purpose, basis, categories, policy, rules_hash, key_id)
) STRICT;
CREATE TABLE IF NOT EXISTS disclosure_ahead (tally INTEGER PRIMARY KEY, row INTEGER NOT NULL, reserved INTEGER NOT NULL) STRICT;`

/** What a crash left reserved may have left. */
const FOLD = `
BEGIN IMMEDIATE;
UPDATE disclosure_counts SET count = count + (SELECT sum(reserved) FROM disclosure_ahead a WHERE a.row = disclosure_counts.row)
  WHERE row IN (SELECT row FROM disclosure_ahead);
DELETE FROM disclosure_ahead;
COMMIT;`

const UPSERT = `
INSERT INTO disclosure_counts (subject, month, output, recipient, credential, purpose, basis, categories, policy, rules_hash, key_id, first_ms, last_ms, count)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms), count = count + excluded.count
RETURNING row`

function monthOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 7)
}
