/**
 * Sessions of terminals with the commands that wait for them, in the outbox's file. It keeps what the terminals' broker tells it and gives
 * it back at the next start; the broker has all of it in memory as well.
 *
 * As with the sessions of recipients nothing is written at once: a command that is acknowledged between two commits and that nobody was
 * promised never touches the disk. `write` is called inside each of the outbox's transactions and `settle` after its commit.
 */
import { crc32 } from 'node:zlib'
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'
import type { MachineId } from '../domain/ids.ts'
import type { CommandStore, StoredCommand, StoredTerminal } from '../domain/ports.ts'
import { Content, type Vault } from './vault.ts'

export interface CommandOutbox {
  readonly db: DatabaseSync
  readonly vault: Vault
  /** There is something to write, soon. */
  due(): void
  /** Somebody waits for it. Throws GatewayError when the disk refuses. */
  dueNow(): void
}

type Stored = (error: Error | undefined) => void

export class Commands implements CommandStore {
  readonly #outbox: CommandOutbox
  readonly #put: StatementSync
  readonly #remove: StatementSync
  readonly #removeAll: StatementSync
  readonly #save: StatementSync
  readonly #forget: StatementSync
  /** Rows of the file: session -> places; and sessions by themselves. */
  readonly #stored = new Map<string, Set<number>>()
  readonly #known = new Set<string>()
  /** To be written; null = it goes. */
  readonly #pending = new Map<string, Map<number, StoredCommand | null>>()
  readonly #saves = new Map<string, Omit<StoredTerminal, 'waiting'> | null>()
  /** Who waits for the next commit. */
  #waiters: Stored[] = []
  #loaded: StoredTerminal[] = []
  /** Rows that nobody can tell what they hold: they go. */
  damaged = 0

  constructor(outbox: CommandOutbox) {
    this.#outbox = outbox
    const { db } = outbox
    db.exec(TABLES)
    this.#put = db.prepare('INSERT OR REPLACE INTO commands (terminal, place, sealed, crc, body) VALUES (?, ?, ?, ?, ?)')
    this.#remove = db.prepare('DELETE FROM commands WHERE terminal = ? AND place = ?')
    this.#removeAll = db.prepare('DELETE FROM commands WHERE terminal = ?')
    this.#save = db.prepare('INSERT OR REPLACE INTO terminals (terminal, sealed, crc, body) VALUES (?, ?, ?, ?)')
    this.#forget = db.prepare('DELETE FROM terminals WHERE terminal = ?')
    this.#open()
  }

  terminals(): readonly StoredTerminal[] {
    return this.#loaded.splice(0)
  }

  save(terminal: Omit<StoredTerminal, 'waiting'>, stored: Stored): void {
    const { key, machine, filters } = terminal
    this.#saves.set(key, { key, machine, filters: new Map(filters) })
    this.#await(stored)
  }

  forget(key: string): void {
    this.#pending.delete(key)
    // The next session under its name may be saved in the same commit.
    for (const place of this.#stored.get(key) ?? []) this.#pendingOf(key).set(place, null)
    if (this.#known.has(key) || this.#stored.has(key)) this.#saves.set(key, null)
    else if (!this.#saves.delete(key)) return
    this.#outbox.due()
  }

  put(key: string, command: StoredCommand, stored?: Stored): void {
    this.#pendingOf(key).set(command.place, command)
    if (stored === undefined) this.#outbox.due()
    else this.#await(stored)
  }

  remove(key: string, place: number): void {
    if (this.#stored.get(key)?.has(place) === true) {
      this.#pendingOf(key).set(place, null)
      this.#outbox.due()
      return
    }
    const pending = this.#pending.get(key)
    if (pending?.delete(place) === true && pending.size === 0) this.#pending.delete(key)
  }

  #await(stored: Stored): void {
    try {
      this.#outbox.dueNow()
    } catch (error) {
      return stored(error as Error)
    }
    this.#waiters.push(stored)
    return undefined
  }

  #pendingOf(key: string): Map<number, StoredCommand | null> {
    let pending = this.#pending.get(key)
    if (pending === undefined) this.#pending.set(key, (pending = new Map()))
    return pending
  }

  // --------------------------------------------------------------------------------------------------- for the outbox

  /** Whether a transaction is worth its while. */
  get isDue(): boolean {
    return this.#pending.size > 0 || this.#saves.size > 0
  }

  /** Inside a transaction. */
  write(): void {
    for (const [key, terminal] of this.#saves) {
      const tag = this.#outbox.vault.tag(key)
      if (terminal === null) {
        this.#forget.run(tag)
        this.#removeAll.run(tag)
      } else {
        const { sealed, crc, body } = this.#close(Content.terminal, [key, terminal.machine, [...terminal.filters]])
        this.#save.run(tag, sealed, crc, body)
      }
    }
    for (const [key, rows] of this.#pending) {
      const tag = this.#outbox.vault.tag(key)
      for (const [place, row] of rows) {
        if (row === null) {
          this.#remove.run(tag, place)
          continue
        }
        const { sealed, crc, body } = this.#close(Content.command, [key, place, row.topic, Buffer.from(row.payload).toString('base64'), row.expiresAtMs, row.messageId ?? null])
        this.#put.run(tag, place, sealed, crc, body)
      }
    }
  }

  /** After COMMIT. True when somebody waited for it. */
  settle(): boolean {
    // After nearly every group there is nothing, and to clear an empty Map makes a table for it, among the old objects.
    if (!this.isDue && this.#waiters.length === 0) return false
    const isAwaited = this.#waiters.length > 0
    this.#answer(undefined)
    for (const [key, terminal] of this.#saves) {
      if (terminal !== null) {
        this.#known.add(key)
        continue
      }
      this.#known.delete(key)
      this.#stored.delete(key)
    }
    this.#saves.clear()
    for (const [key, rows] of this.#pending) {
      let stored = this.#stored.get(key)
      if (stored === undefined) this.#stored.set(key, (stored = new Set()))
      for (const [place, row] of rows) {
        if (row === null) stored.delete(place)
        else stored.add(place)
      }
      if (stored.size === 0) this.#stored.delete(key)
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
    const waiters = this.#waiters
    this.#waiters = []
    for (const stored of waiters) queueMicrotask(() => stored(error))
  }

  get size(): number {
    let size = 0
    for (const places of this.#stored.values()) size += places.size
    return size
  }

  // ---------------------------------------------------------------------------------------------------------------- start

  #close(what: Content, value: readonly unknown[]): { readonly sealed: number; readonly crc: number; readonly body: Uint8Array } {
    const { vault } = this.#outbox
    const body = vault.sealValue(what, value)
    if (body !== null) return { sealed: vault.sealed, crc: 0, body }
    const clear = Buffer.from(JSON.stringify(value))
    return { sealed: 0, crc: crc32(clear, what), body: clear }
  }

  /** Undefined when it is not as it was stored. */
  #read(what: Content, row: Readonly<Record<string, SQLOutputValue>>): readonly unknown[] | undefined {
    const { sealed, crc, body } = row
    if (Number(sealed) !== 0) return this.#outbox.vault.openValue(what, sealed, body) as readonly unknown[] | undefined
    return body instanceof Uint8Array && crc32(body, what) === crc ? (JSON.parse(Buffer.from(body).toString('utf8')) as readonly unknown[]) : undefined
  }

  #open(): void {
    const { db, vault } = this.#outbox
    const waiting = new Map<string, StoredCommand[]>()
    // What an earlier start left in clear is written anew, in the transaction of this start.
    const isClear = (row: Readonly<Record<string, SQLOutputValue>>): boolean => vault.isOn && row['sealed'] === 0
    const isOwn = (key: string, row: Readonly<Record<string, SQLOutputValue>>): boolean => row['terminal'] === (isClear(row) ? key : vault.tag(key))
    for (const row of db.prepare('SELECT terminal, place, sealed, crc, body FROM commands ORDER BY terminal, place').all()) {
      const value = this.#read(Content.command, row)
      const [key, place, topic, payload, expiresAtMs, messageId] = (value ?? []) as readonly [string, number, string, string, number, number | null]
      // A row that stands in the place of another one is as good as damaged.
      if (value === undefined || place !== row['place'] || !isOwn(key, row)) {
        this.damaged++
        this.#remove.run(row['terminal'] as string, row['place'] as number)
        continue
      }
      let mine = waiting.get(key)
      if (mine === undefined) waiting.set(key, (mine = []))
      mine.push({ place, topic, payload: Buffer.from(payload, 'base64'), expiresAtMs, messageId: messageId ?? undefined })
      let stored = this.#stored.get(key)
      if (stored === undefined) this.#stored.set(key, (stored = new Set()))
      stored.add(place)
      if (!isClear(row)) continue
      this.#remove.run(key, place)
      this.#pendingOf(key).set(place, mine.at(-1)!)
    }
    for (const row of db.prepare('SELECT terminal, sealed, crc, body FROM terminals').all()) {
      const value = this.#read(Content.terminal, row)
      const [key, machine, filters] = (value ?? []) as readonly [string, MachineId, [string, 0 | 1 | 2][]]
      if (value === undefined || !isOwn(key, row)) {
        this.damaged++
        this.#forget.run(row['terminal'] as string)
        continue
      }
      this.#known.add(key)
      const terminal = { key, machine, filters: new Map(filters) }
      this.#loaded.push({ ...terminal, waiting: waiting.get(key) ?? [] })
      if (!isClear(row)) continue
      this.#forget.run(key)
      this.#saves.set(key, terminal)
    }
    this.write()
    this.settle()
    // Without its session nobody would ever ask for it.
    for (const key of [...this.#stored.keys()]) if (!this.#known.has(key)) this.#saves.set(key, null)
  }
}

const TABLES = `
CREATE TABLE IF NOT EXISTS terminals (terminal TEXT PRIMARY KEY, sealed INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS commands (
  terminal TEXT NOT NULL, place INTEGER NOT NULL, sealed INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (terminal, place)
) STRICT, WITHOUT ROWID;`
