/**
 * Opens a SQLite file the way every book of this room needs it: write-ahead log, an fsync for every commit, private to its
 * owner, and refused when the engine is too old, the file is damaged or its tables are not ours.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { GatewayError } from '../domain/errors.ts'

export interface OpenOptions {
  /** Looks only: nothing is created or changed. */
  readonly readOnly?: boolean
}

/**
 * @param path    the database file; created 0600 in a folder made 0700
 * @param schema  CREATE statements with IF NOT EXISTS; what is in the file must equal what they make
 * @throws GatewayError SQLITE-TOO-OLD, DATABASE-NOT-WAL, DATABASE-DAMAGED, DATABASE-FOREIGN
 */
export function openDatabase(path: string, schema: string, options: OpenOptions = {}): DatabaseSync {
  checkEngine()
  const readOnly = options.readOnly === true
  if (!readOnly) createPrivate(path)
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path, { readOnly, timeout: 2_000 })
    if (!readOnly) {
      const mode = database.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode']
      if (mode !== 'wal') throw new GatewayError('DATABASE-NOT-WAL', `${path} cannot use a write-ahead log (got ${String(mode)}).`, 'Put the data folder on a local disk.')
      // FULL: a commit has reached the disk when it returns. secure_delete: freed pages are overwritten with zeros.
      database.exec('PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF')
      database.exec(schema)
    }
    const check = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (check !== 'ok') throw damaged(path)
    if (shapeOf(database) !== wantedShape(schema)) {
      throw new GatewayError('DATABASE-FOREIGN', `${path} has other tables or triggers than this version makes.`, 'Use the version that made it, or restore the file from a backup.')
    }
    return database
  } catch (error) {
    database?.close()
    if (error instanceof GatewayError) throw error
    // SQLite's own messages may quote stored values; the code is enough.
    throw damaged(path)
  }
}

/** Writes all pages into the database file and empties the log, so that nothing deleted lingers in it. */
export function truncateLog(database: DatabaseSync): void {
  database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()
}

/** Runs `work` in one transaction; it is durable when this returns, or has not happened. */
export function inTransaction<Result>(database: DatabaseSync, work: () => Result): Result {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    database.exec('COMMIT')
    return result
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

/** SQLite before 3.51.3 can corrupt a write-ahead log when it is reset. */
const OLDEST = [3, 51, 3] as const
let engineChecked = false

function checkEngine(): void {
  if (engineChecked) return
  const memory = new DatabaseSync(':memory:')
  const version = String(memory.prepare('SELECT sqlite_version() AS version').get()?.['version'])
  memory.close()
  if (!atLeast(version)) {
    throw new GatewayError('SQLITE-TOO-OLD', `This Node carries SQLite ${version}.`, `Use a Node with SQLite ${OLDEST.join('.')} or newer: run it through the npm scripts.`)
  }
  engineChecked = true
}

/** Exported for its test: versions compare as numbers, not as text. */
export function atLeast(version: string): boolean {
  const parts = version.split('.').map(Number)
  for (const [i, oldest] of OLDEST.entries()) {
    const part = parts[i] ?? 0
    if (part !== oldest) return part > oldest
  }
  return true
}

function createPrivate(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  closeSync(openSync(path, 'a', 0o600))
  chmodSync(path, 0o600)
}

function damaged(path: string): GatewayError {
  return new GatewayError('DATABASE-DAMAGED', `${path} is damaged or no database.`, 'Stop the gateway and restore the file from a backup.')
}

function shapeOf(database: DatabaseSync): string {
  return JSON.stringify(database.prepare("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name").all())
}

function wantedShape(schema: string): string {
  const memory = new DatabaseSync(':memory:')
  memory.exec(schema)
  const shape = shapeOf(memory)
  memory.close()
  return shape
}
