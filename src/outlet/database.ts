/**
 * The outbox file: how it is opened and checked, its tables, and every statement on its records.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { StatementSync } from 'node:sqlite'
import { GatewayError } from '../domain/errors.ts'
import { State } from './entry.ts'
import { OnWithdrawal } from './selector.ts'

/**
 * Opens and checks the file. Throws GatewayError: OUTBOX-SQLITE (the library has a bug that damages files), OUTBOX-LOCKED
 * (another process has it), OUTBOX-NOT-WAL, OUTBOX-DAMAGED (quick_check), OUTBOX-FORMAT (not ours, or of a newer version).
 */
export function openDatabase(file: string, pages: number): DatabaseSync {
  checkSqlite(process.versions['sqlite'] ?? '0')
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  // SQLite would make it readable for others; its -wal file takes over the mode.
  closeSync(openSync(file, 'a', 0o600))
  const db = new DatabaseSync(file, { timeout: 0 })
  try {
    // One owner: a second gateway on the same data must not start. [sqlite.org/pragma.html#pragma_locking_mode]
    db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = ${PAGE_BYTES}`)
    // Looked at before anything is written: a file that is not ours stays as it is.
    const id = db.prepare('PRAGMA application_id').get()?.['application_id']
    const version = db.prepare('PRAGMA user_version').get()?.['user_version']
    const empty = db.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'] === 0
    if (!empty && (id !== APPLICATION_ID || (version !== FORMAT && version !== FORMER))) {
      throw new GatewayError('OUTBOX-FORMAT', `${file} is not an outbox of this version.`, 'Name another data folder, or use the version that made it.')
    }
    const mode = db.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode']
    if (mode !== 'wal') throw new GatewayError('OUTBOX-NOT-WAL', `The outbox needs a write-ahead log, SQLite offers ${String(mode)}.`, 'Put the data folder on a local file system.')
    db.exec('PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY')
    db.exec('PRAGMA cache_size = -8192; PRAGMA journal_size_limit = 67108864; BEGIN IMMEDIATE; COMMIT')
    const check = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (check !== 'ok') throw damaged(11)
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${FORMAT}; PRAGMA max_page_count = ${pages}`)
    db.exec(TABLES)
    return db
  } catch (cause) {
    db.close()
    const code = codeOf(cause)
    if (code === undefined) throw cause
    if ((code & 0xff) === 5 || (code & 0xff) === 6) throw new GatewayError('OUTBOX-LOCKED', `Another process has ${file} open.`, 'Stop the other gateway, or name another data folder.')
    throw damaged(code)
  }
}

/** Throws GatewayError OUTBOX-SQLITE for a version that damages files. @param version e.g. `3.53.4` */
export function checkSqlite(version: string): void {
  const parts = version.split('.').map(Number)
  for (const [i, least] of SQLITE_MIN.entries()) {
    const part = parts[i] ?? 0
    if (part > least) return
    if (part < least) throw new GatewayError('OUTBOX-SQLITE', `SQLite ${version} can damage a write-ahead log.`, `Use a Node with SQLite ${SQLITE_MIN.join('.')} or newer.`)
  }
}

/** @param code  result code of SQLite */
export function damaged(code: number): GatewayError {
  return new GatewayError('OUTBOX-DAMAGED', `The outbox file cannot be trusted (SQLite code ${code}).`, 'Move it away and keep it for recovery; a new one is made at the next start.')
}

/** Extended result code of SQLite; undefined when something else went wrong. */
export function codeOf(cause: unknown): number | undefined {
  return typeof cause === 'object' && cause !== null && 'errcode' in cause && typeof cause.errcode === 'number' ? cause.errcode : undefined
}

/**
 * Never retried, never trusted again: a failed fsync may have dropped pages that count as clean from then on; a damaged file;
 * and a fault of the program, of which nobody knows what it left behind.
 */
export function isFatal(code: number | undefined): boolean {
  return code === undefined || FATAL.has(code) || FATAL.has(code & 0xff)
}

/** A file of an earlier build gets the column; its rows have NULL there. */
export function addColumn(db: DatabaseSync, table: 'records' | 'windows' | 'kept' | 'envelopes', column: string, type: 'INTEGER' | 'TEXT' | 'BLOB'): void {
  const known = db.prepare('SELECT 1 FROM pragma_table_info(?) WHERE name = ?').get(table, column)
  if (known === undefined) db.exec(`ALTER TABLE ${table} ADD COLUMN ${column} ${type}`)
}

/** All statements on records, marks and the probe, prepared once. Throws what SQLite throws. */
export function prepare(db: DatabaseSync) {
  const rows = (sql: string): StatementSync => {
    const statement = db.prepare(sql)
    statement.setReturnArrays(true)
    return statement
  }
  return {
    begin: db.prepare('BEGIN IMMEDIATE'),
    commit: db.prepare('COMMIT'),
    rollback: db.prepare('ROLLBACK'),
    nextEpoch: db.prepare('UPDATE outbox_state SET epoch = epoch + 1 RETURNING epoch'),
    // `sealed` names the key under which the payload columns are encrypted at rest (vault.ts); 0 = they are not.
    insert: db.prepare(`INSERT INTO records (seq, envelope, via, machine_order, acquired_ms, received_ms, expires_ms, crc, id, payload,
      sealed, on_withdrawal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    insertWhole: db.prepare(`INSERT INTO records (seq, envelope, via, machine_order, acquired_ms, received_ms, expires_ms, crc, id, payload,
      sealed, state, on_withdrawal, payload_if_withdrawn, withdrawn_crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    inClear: rows(`${SELECT_RECORD} WHERE seq > ? AND sealed = 0 AND state <> ${State.damaged} ORDER BY seq LIMIT ?`),
    reseal: db.prepare('UPDATE records SET payload = ?, crc = ?, payload_if_withdrawn = ?, withdrawn_crc = ?, sealed = ? WHERE seq = ?'),
    deleteRange: db.prepare('DELETE FROM records WHERE seq BETWEEN ? AND ?'),
    read: rows(`${SELECT_RECORD} WHERE seq BETWEEN ? AND ? AND via & ? <> 0 AND state = ${State.waiting} ORDER BY seq LIMIT ?`),
    byNumber: rows(`${SELECT_RECORD} WHERE seq = ?`),
    expired: rows('SELECT seq FROM records WHERE seq BETWEEN ? AND ? AND expires_ms <= ?'),
    nextExpiry: rows('SELECT min(expires_ms) FROM records WHERE seq BETWEEN ? AND ? AND expires_ms > ?'),
    remove: db.prepare('DELETE FROM records WHERE seq = ?'),
    swap: db.prepare(`UPDATE records SET payload = payload_if_withdrawn, crc = withdrawn_crc, payload_if_withdrawn = NULL, withdrawn_crc = NULL,
      on_withdrawal = ${OnWithdrawal.nothing} WHERE seq = ?`),
    setState: db.prepare('UPDATE records SET state = ? WHERE seq = ?'),
    oldest: rows(`SELECT seq, received_ms FROM records WHERE seq >= ? AND state = ${State.waiting} ORDER BY seq LIMIT 1`),
    oldestOf: rows(`SELECT seq, received_ms FROM records WHERE seq BETWEEN ? AND ? AND via & ? <> 0 AND state = ${State.waiting} ORDER BY seq LIMIT 1`),
    mark: db.prepare('UPDATE destinations SET done_through = ?, handed_through = ? WHERE number = ?'),
    probe: db.prepare('INSERT INTO probe VALUES (zeroblob(65536))'),
    probeEnd: db.prepare('DELETE FROM probe'),
  }
}
export type Statements = ReturnType<typeof prepare>

/** Measured: 8 KiB takes a fifth less time per record than 4 KiB; 16 KiB no less, and writes more when it is quiet. */
export const PAGE_BYTES = 8_192
/** For envelopes, counts and the probe. */
export const SPARE_PAGES = 8_192

/** SQLite result codes: fsync failed (1034, 1290), the file is damaged (11) or no database (26). [sqlite.org/rescode.html] */
const FATAL: ReadonlySet<number> = new Set([1034, 1290, 11, 26])

/** "PPBX" */
const APPLICATION_ID = 0x50504258
const FORMAT = 3
/** Nothing in it is encrypted; what is found in clear is encrypted after the start. */
const FORMER = 2

/** The WAL-reset bug that damages databases is in 3.7.0 to 3.51.2. [sqlite.org/wal.html] */
const SQLITE_MIN = [3, 51, 3] as const

const TABLES = `
CREATE TABLE IF NOT EXISTS outbox_state (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO outbox_state VALUES (1, 0);
CREATE TABLE IF NOT EXISTS probe (bytes BLOB) STRICT;
CREATE TABLE IF NOT EXISTS destinations (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, done_through INTEGER NOT NULL, handed_through INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS records (
  seq INTEGER PRIMARY KEY,
  envelope INTEGER NOT NULL,
  via INTEGER NOT NULL,
  machine_order INTEGER NOT NULL,
  acquired_ms INTEGER NOT NULL,
  received_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  crc INTEGER NOT NULL,
  id BLOB NOT NULL,
  payload BLOB NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  sealed INTEGER NOT NULL DEFAULT 0,
  on_withdrawal INTEGER NOT NULL DEFAULT 0,
  payload_if_withdrawn BLOB,
  withdrawn_crc INTEGER
) STRICT;`

const SELECT_RECORD = `
SELECT seq, envelope, machine_order, acquired_ms, received_ms, expires_ms, crc, id, payload, state, on_withdrawal, payload_if_withdrawn, withdrawn_crc, sealed FROM records`
