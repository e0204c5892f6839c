/**
 * The stored form of the ledger: its tables, what is hashed, and the walk over the whole chain. Nothing here needs a key, so
 * that the chain of an erased person, or of a gateway whose keys are gone, can still be checked by anybody.
 */
import { hash } from 'node:crypto'
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import { LIMITS } from '../domain/limits.ts'
import { frame, sha256 } from './sealing.ts'

/** Version of the stored form: framing, sealing, names of keys. */
export const LEDGER_SCHEMA = 1

export const LEDGER_TABLES = `
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

/** What stands in clear in an event and is bound to its sealed body. */
export interface Clear {
  readonly seq: number
  readonly uuid: Uint8Array
  readonly type: string
  readonly schema: number
  readonly gateway: string
  readonly day: string
  readonly tag: Uint8Array | undefined
  readonly keyId: string
}

/** An event as stored, with its entry in the index. The bytes are views of one buffer. */
export interface Row extends Clear {
  readonly body: Uint8Array
  readonly prev: Uint8Array
  readonly hash: Uint8Array
  /** Undefined: no entry. Empty: the entry of somebody erased, or of a day that is over. */
  readonly subject: Uint8Array | undefined
  readonly mac: Uint8Array | undefined
}

/** One blob instead of seven, and rows as arrays: in a scan the values cost, not their bytes (a third of the time). For `rowOf`. */
export const ROW_COLUMNS = `event.seq, event.type, event.schema, event.gateway, event.day, event.key_id,
  length(event.uuid), length(event.subject_tag), length(event.body), length(event.prev), length(event.hash), length(subject_event.subject),
  CAST(event.uuid || ifnull(event.subject_tag, x'') || event.body || event.prev || event.hash || ifnull(subject_event.subject, x'') || ifnull(subject_event.mac, x'') AS BLOB)`

/** Rows of a page: the statement's columns are ROW_COLUMNS. */
export function pageOf(db: DatabaseSync, sql: string): (...parameters: (string | number | Uint8Array)[]) => Row[] {
  const statement = db.prepare(sql)
  statement.setReturnArrays(true)
  return (...parameters) => (statement.all(...parameters) as unknown as SQLOutputValue[][]).map(rowOf)
}

function rowOf(stored: readonly SQLOutputValue[]): Row {
  const bytes = stored[12] as Uint8Array
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  let at = 0
  const next = (length: SQLOutputValue | undefined): Buffer => whole.subarray(at, (at += Number(length)))
  const isTagged = stored[7] !== null
  const isIndexed = stored[11] !== null
  return {
    seq: stored[0] as number, type: stored[1] as string, schema: stored[2] as number, gateway: stored[3] as string, day: stored[4] as string, keyId: stored[5] as string,
    uuid: next(stored[6]),
    tag: isTagged ? next(stored[7]) : undefined,
    body: next(stored[8]),
    prev: next(stored[9]),
    hash: next(stored[10]),
    subject: isIndexed ? next(stored[11]) : undefined,
    mac: isIndexed ? whole.subarray(at) : undefined,
  }
}

/** The hash before the first event. */
export function genesisOf(ledger: string): Uint8Array {
  return sha256(frame('parapet/v1|ledger|genesis', ledger))
}

/** Frames events for sealing and hashing, in one buffer that is used again and again. */
export class StoredForm {
  #bytes = Buffer.allocUnsafe(4_096)
  #end = 0

  /** What a body is bound to, as `frame` would write it. Valid until the next call. */
  clear(row: Clear): Uint8Array {
    // Room for the length under which the whole is framed once more in `hash`.
    this.#end = 4
    this.#text('parapet/v1|ledger|event')
    this.#number(row.seq)
    this.#put(row.uuid)
    this.#text(row.type)
    this.#number(row.schema)
    this.#text(row.gateway)
    this.#text(row.day)
    this.#put(row.tag ?? NONE)
    this.#text(row.keyId)
    this.#bytes.writeUInt32BE(this.#end - 4, 0)
    return this.#bytes.subarray(4, this.#end)
  }

  /** SHA-256 over the stored bytes: clear part, sealed body, hash of the event before; hex. */
  hash(row: Clear & Pick<Row, 'body' | 'prev'>): string {
    this.clear(row)
    this.#put(row.body)
    this.#put(row.prev)
    return hash('sha256', this.#bytes.subarray(0, this.#end), 'hex')
  }

  #text(text: string): void {
    this.#room(4 + text.length * 3)
    const length = this.#bytes.write(text, this.#end + 4)
    this.#bytes.writeUInt32BE(length, this.#end)
    this.#end += 4 + length
  }

  #number(value: number): void {
    this.#room(12)
    this.#bytes.writeUInt32BE(8, this.#end)
    this.#bytes.writeUInt32BE(Math.floor(value / 0x1_0000_0000), this.#end + 4)
    this.#bytes.writeUInt32BE(value % 0x1_0000_0000, this.#end + 8)
    this.#end += 12
  }

  #put(bytes: Uint8Array): void {
    this.#room(4 + bytes.length)
    this.#bytes.writeUInt32BE(bytes.length, this.#end)
    this.#bytes.set(bytes, this.#end + 4)
    this.#end += 4 + bytes.length
  }

  #room(more: number): void {
    if (this.#end + more <= this.#bytes.length) return
    const grown = Buffer.allocUnsafe((this.#end + more) * 2)
    this.#bytes.copy(grown, 0, 0, this.#end)
    this.#bytes = grown
  }
}

const NONE = new Uint8Array(0)

/** A place that the chain must have passed: from the signed head, from keys.db, or noted elsewhere by a person. */
export interface Waypoint {
  readonly seq: number
  /** Hex. */
  readonly hash: string
  /** As in "the signed head". */
  readonly from: string
}

export interface WalkOptions {
  readonly ledger: string
  readonly waypoints: readonly Waypoint[]
  /** Whether an entry of the index is as it was written; without it the index is not looked at. */
  readonly isIndexEntry?: (seq: number, subject: Uint8Array, mac: Uint8Array) => boolean
}

/** How far a walk came. `reason` is undefined when every event is there, unchanged and in order. */
export interface Walked {
  readonly events: number
  /** Hash of the last event that holds, hex. */
  readonly hash: string
  readonly brokenAt: number | undefined
  readonly reason: string | undefined
  /** Events about somebody without an entry in the index; the gateway finds them again at its next start. */
  readonly unindexed: number
  readonly types: Readonly<Record<string, number>>
  readonly days: { readonly first: string; readonly last: string } | undefined
}

const TAG_BYTES = 32

/** Walks the chain from its first event, a page between two yields, so that who cannot stand still may do something else in between. */
export function* walk(db: DatabaseSync, options: WalkOptions): Generator<void, Walked> {
  const genesis = Buffer.from(genesisOf(options.ledger)).toString('hex')
  const form = new StoredForm()
  const types: Record<string, number> = {}
  let seq = 0
  let last = genesis
  let unindexed = 0
  let first: string | undefined
  let day = ''
  const end = (brokenAt?: number, reason?: string): Walked => ({ events: seq, hash: last, brokenAt, reason, unindexed, types, days: first === undefined ? undefined : { first, last: day } })
  const waypoints = new Map<number, Waypoint[]>()
  for (const point of options.waypoints) waypoints.set(point.seq, [...(waypoints.get(point.seq) ?? []), point])
  const missed = (): string | undefined => {
    const point = waypoints.get(seq)?.find(({ hash: named }) => named !== last)
    return point === undefined ? undefined : `event ${seq} is not the one that ${point.from} names`
  }
  try {
    const wrong = missed()
    if (wrong !== undefined) return end(undefined, wrong)
    // Rows below 1 would be outside the walk.
    if (db.prepare('SELECT 1 FROM event WHERE seq < 1').get() !== undefined) return end(0, 'there is an event before the first one')
    const page = pageOf(db, `SELECT ${ROW_COLUMNS} FROM event LEFT JOIN subject_event USING (seq) WHERE event.seq > ? ORDER BY event.seq LIMIT ${LIMITS.ledgerPage}`)
    for (;;) {
      const rows = page(seq)
      for (const row of rows) {
        const { subject, mac, tag } = row
        if (row.seq !== seq + 1) return end(seq + 1, `event ${seq + 1} is missing`)
        if (hexOf(row.prev) !== last) return end(row.seq, `event ${row.seq} does not follow the one before it`)
        const found = form.hash(row)
        // No tag and an empty one are hashed alike, and only one of them says that nobody is meant.
        if (found !== hexOf(row.hash) || (tag !== undefined && tag.length !== TAG_BYTES)) return end(row.seq, `event ${row.seq} was changed`)
        if (options.isIndexEntry !== undefined && subject !== undefined && !options.isIndexEntry(row.seq, subject, mac!)) return end(row.seq, `the index entry of event ${row.seq} was changed`)
        if (tag !== undefined && subject === undefined) unindexed++
        last = found
        seq = row.seq
        types[row.type] = (types[row.type] ?? 0) + 1
        first ??= row.day
        day = row.day
        if (waypoints.size > 0 && waypoints.has(seq)) {
          const wrong = missed()
          if (wrong !== undefined) return end(seq, wrong)
        }
      }
      if (rows.length < LIMITS.ledgerPage) break
      yield
    }
  } catch {
    return end(seq + 1, `the database is damaged behind event ${seq}`)
  }
  const ahead = options.waypoints.reduce<Waypoint | undefined>((far, point) => (point.seq > (far?.seq ?? seq) ? point : far), undefined)
  if (ahead !== undefined) return end(seq + 1, `the ledger ends at event ${seq}, ${ahead.from} at ${ahead.seq}: events were cut off or an old copy was restored`)
  return end()
}

/** Runs a walk to its end. */
export function wholeWalk(steps: Generator<void, Walked>): Walked {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

function hexOf(bytes: Uint8Array): string {
  return (bytes as Buffer).toString('hex')
}
