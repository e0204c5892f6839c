/**
 * Windows of down-sampled outputs (`emit`, rules-language 4.8): the record that is kept for a window until its end, and which windows
 * are over. Both are written with the outbox's own transactions, so that after any crash a window has sent at most one record and
 * a record that was acknowledged is still there to be sent.
 *
 * Records kept are in memory as well as in the file: one for each machine, output and open window. A purge walks them all.
 */
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'
import type { Slot } from '../domain/ports.ts'
import { Column, onWithdrawalOf, State, type Entry, type Row } from './entry.ts'
import { addColumn } from './database.ts'
import type { Envelope } from './envelopes.ts'
import { Content, type Vault } from './vault.ts'

export class Windows {
  readonly #vault: Vault
  readonly #put: StatementSync
  readonly #remove: StatementSync
  readonly #finish: StatementSync
  readonly #forget: StatementSync
  /** Records kept, by slot, as committed. Those of QoS 0 outputs are here only. */
  readonly #kept = new Map<string, Entry>()
  /** Windows that are over, by key. */
  readonly #over = new Map<string, Over>()
  /** Accepted, not committed: what the next message of a window must see already. */
  readonly #newest = new Map<string, Entry>()
  readonly #finishing = new Map<string, Entry>()
  readonly #marks = new Map<string, Entry>()
  /** Written in the open transaction, and what `#over` was before it. */
  #written: [Entry, Slot][] = []
  readonly #before = new Map<string, Over | undefined>()

  constructor(db: DatabaseSync, vault: Vault) {
    this.#vault = vault
    db.exec(TABLES)
    addColumn(db, 'windows', 'used_ms', 'INTEGER')
    // NULL in files of an earlier version: then the row is in clear.
    addColumn(db, 'windows', 'sealed', 'INTEGER')
    addColumn(db, 'windows', 'body', 'BLOB')
    addColumn(db, 'kept', 'body', 'BLOB')
    this.#put = db.prepare(`INSERT OR REPLACE INTO kept (slot, key, window, every_ms, until_ms, envelope, machine_order, acquired_ms, received_ms, expires_ms,
      crc, id, payload, state, on_withdrawal, payload_if_withdrawn, withdrawn_crc, mark, sealed, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
    this.#remove = db.prepare('DELETE FROM kept WHERE slot = ?')
    this.#finish = db.prepare('INSERT OR REPLACE INTO windows (key, every_ms, ranges, mark, used_ms, sealed, body) VALUES (?, ?, ?, ?, ?, ?, ?)')
    this.#forget = db.prepare('DELETE FROM windows WHERE key = ?')
  }

  /** Reads what a former run left. Rows that fail their checksum go; returns how many. */
  open(db: DatabaseSync, envelopeOf: (id: number) => Envelope | undefined, nowMs: number): number {
    // Rows of an earlier build do not say when they were used last: their time begins now.
    db.prepare('UPDATE windows SET used_ms = ? WHERE used_ms IS NULL').run(nowMs)
    let damaged = 0
    const inClear: string[] = []
    for (const row of db.prepare('SELECT key, every_ms, ranges, mark, used_ms, sealed, body FROM windows').all()) {
      const stands = String(row['key'])
      const named = row['sealed'] === null ? [stands, textOr(row['mark'])] as const : this.#named(Content.window, row['sealed'], row['body'])
      const over: Over = { everyMs: Number(row['every_ms']), ranges: JSON.parse(String(row['ranges'])) as number[], mark: named?.[1], usedMs: Number(row['used_ms']) }
      if (named === undefined || (row['sealed'] !== null && stands !== this.#vault.tag(named[0]))) {
        damaged++
        this.#forget.run(stands)
        continue
      }
      this.#over.set(named[0], over)
      if (this.#vault.isOn && row['sealed'] === null) inClear.push(stands)
    }
    for (const key of inClear) {
      this.#forget.run(key)
      this.#writeOver(key, this.#over.get(key) as Over)
    }
    const rows = db.prepare(SELECT_KEPT)
    rows.setReturnArrays(true)
    const torn: string[] = []
    const lay: [Entry, Slot][] = []
    for (const row of rows.iterate() as unknown as Iterable<Row>) {
      const envelope = envelopeOf(Number(row[1]))
      const entry = envelope === undefined ? undefined : this.#vault.restore(row, envelope)
      const isSealed = row[Column.sealed] !== 0
      const named = isSealed ? this.#named(Content.kept, row[Column.sealed], row[20]) : [String(row[14]), textOr(row[18])] as const
      if (entry === undefined || named === undefined || (isSealed && row[14] !== this.#vault.tag(named[0]))) {
        damaged++
        torn.push(String(row[19]))
        continue
      }
      entry.seq = 0
      entry.slot = { key: named[0], window: Number(row[15]), everyMs: Number(row[16]), mark: named[1] }
      entry.untilMs = Number(row[17])
      this.#kept.set(nameOf(entry.slot), entry)
      if (this.#vault.isOn && !isSealed) {
        torn.push(String(row[19]))
        lay.push([entry, entry.slot])
      }
    }
    // Of the damaged ones nobody can tell what they hold, so no purge could be sure to reach them.
    for (const slot of torn) this.#remove.run(slot)
    for (const [entry, slot] of lay) this.rewrite(entry, slot)
    return damaged
  }

  /** Key and mark. */
  #named(what: Content, sealed: SQLOutputValue | undefined, body: SQLOutputValue | undefined): readonly [string, string | undefined] | undefined {
    const [key, mark] = (this.#vault.openValue(what, sealed, body) ?? []) as [string?, (string | null)?]
    return key === undefined ? undefined : [key, mark ?? undefined]
  }

  /** A slot as the file has it: its key names a machine. */
  #stand({ key, window }: Slot): string {
    return nameOf({ key: this.#vault.tag(key), window })
  }

  get size(): number {
    return this.#kept.size
  }

  /** What is kept for a window; null when the window is over; undefined when it is free. */
  of(slot: Slot): Entry | null | undefined {
    const name = nameOf(slot)
    const finishing = this.#finishing.get(name)
    if ((finishing !== undefined && !finishing.gone) || isOver(this.#over.get(slot.key), slot.window)) return null
    const newest = this.#newest.get(name)
    const kept = newest === undefined || newest.gone ? this.#kept.get(name) : newest
    if (kept === undefined || kept.gone) return undefined
    // A legal hold keeps it as it is: no later message takes its place.
    return kept.due || kept.state !== State.waiting ? null : kept
  }

  /** What was noted of the record that left last, or is on its way. */
  mark(key: string): string | undefined {
    const next = this.#marks.get(key)
    return next === undefined || next.gone ? this.#over.get(key)?.mark : next.slot?.mark
  }

  /** A record came: from now on `of` answers with it. */
  accepted(entry: Entry, slot: Slot): void {
    if (entry.untilMs === undefined) {
      if (slot.window >= 0) this.#finishing.set(nameOf(slot), entry)
      if (slot.mark !== undefined) this.#marks.set(slot.key, entry)
    } else {
      this.#newest.set(nameOf(slot), entry)
    }
  }

  // ---------------------------------------------------------------------------------------------- inside a transaction

  /** Writes a record that is kept, in place of the one before. */
  keep(entry: Entry, slot: Slot): void {
    const vault = this.#vault
    const body = vault.sealValue(Content.kept, [slot.key, slot.mark])
    vault.protect(entry, entry.envelope)
    this.#put.run(
      this.#stand(slot), vault.tag(slot.key), slot.window, slot.everyMs, entry.untilMs as number, entry.envelope.id, entry.machineOrder, entry.acquiredAtMs, entry.receivedAtMs,
      entry.expiresAtMs ?? null, vault.crc, entry.id, vault.payload, entry.state, onWithdrawalOf(entry.payloadIfWithdrawn), vault.variant,
      vault.withdrawnCrc, body === null ? (slot.mark ?? null) : null, vault.sealed, body,
    )
    this.#written.push([entry, slot])
  }

  /** The window's record leaves: nothing is kept for it any more and it is over. */
  finish(entry: Entry, slot: Slot): void {
    this.#remove.run(this.#stand(slot))
    const before = this.#over.get(slot.key)
    if (!this.#before.has(slot.key)) this.#before.set(slot.key, before)
    const over = added(before, slot, entry.receivedAtMs)
    this.#over.set(slot.key, over)
    this.#writeOver(slot.key, over)
    this.#written.push([entry, slot])
  }

  #writeOver(key: string, { everyMs, ranges, mark, usedMs }: Over): void {
    const body = this.#vault.sealValue(Content.window, [key, mark])
    this.#finish.run(this.#vault.tag(key), everyMs, JSON.stringify(ranges), body === null ? (mark ?? null) : null, usedMs, body === null ? null : this.#vault.sealed, body)
  }

  /** A purge takes a record that is kept; `drop` follows after the commit. */
  remove(slot: Slot): void {
    this.#remove.run(this.#stand(slot))
  }

  /** A purge changed a record that is kept. */
  rewrite(entry: Entry, slot: Slot): void {
    this.keep(entry, slot)
    this.#written.pop()
  }

  // -------------------------------------------------------------------------------------------------- after it, in memory

  /** @param freed  called for a record that gave its place to another */
  settle(freed: (entry: Entry) => void): void {
    for (const [entry, slot] of this.#written) {
      const name = nameOf(slot)
      const before = this.#kept.get(name)
      if (before !== undefined && before !== entry) freed(before)
      if (entry.untilMs === undefined || entry.due) {
        this.#kept.delete(name)
        entry.due = false
        this.#finishing.delete(name)
        if (this.#marks.get(slot.key) === entry) this.#marks.delete(slot.key)
      } else {
        this.#kept.set(name, entry)
        if (this.#newest.get(name) === entry) this.#newest.delete(name)
      }
    }
    if (this.#written.length > 0) this.#written = []
    if (this.#before.size > 0) this.#before.clear()
    for (const all of [this.#newest, this.#finishing, this.#marks]) for (const [name, entry] of all) if (entry.gone) all.delete(name)
  }

  /**
   * The transaction was rolled back and everything accepted is refused.
   * @param stays  called for a record that stays kept although it was in line
   */
  undo(stays: (entry: Entry) => void): void {
    for (const [key, over] of this.#before) {
      if (over === undefined) this.#over.delete(key)
      else this.#over.set(key, over)
    }
    this.#before.clear()
    this.#written = []
    this.#newest.clear()
    this.#finishing.clear()
    this.#marks.clear()
    for (const entry of this.#kept.values()) {
      if (!entry.due) continue
      entry.due = false
      if (!entry.gone) stays(entry)
    }
  }

  drop(slot: Slot): void {
    this.#kept.delete(nameOf(slot))
  }

  /** Everything that is kept. */
  entries(): Iterable<Entry> {
    return this.#kept.values()
  }

  someExpired(nowMs: number): boolean {
    for (const entry of this.#kept.values()) if (entry.expiresAtMs !== undefined && entry.expiresAtMs <= nowMs) return true
    return false
  }

  /** Records whose time has come; from now on they are on their way (`due`) until `settle` or `undo`. */
  release(nowMs: number): Entry[] {
    const due: Entry[] = []
    for (const entry of this.#kept.values()) {
      // A later record of this window, not committed yet, takes the place first and leaves next time.
      if ((entry.untilMs as number) > nowMs || entry.state !== State.waiting || entry.due || entry.gone || this.#newest.has(nameOf(entry.slot as Slot))) continue
      entry.due = true
      due.push(entry)
    }
    // In the order of the windows; within one the machines in no order at all, or who comes first would tell who measured first.
    const lots = new Map<string, number>()
    for (const { machine } of due) if (!lots.has(machine)) lots.set(machine, Math.random())
    const lot = (entry: Entry): number => lots.get(entry.machine) as number
    return due.sort((one, other) => (one.untilMs as number) - (other.untilMs as number) || lot(one) - lot(other) || one.acquiredAtMs - other.acquiredAtMs || one.machineOrder - other.machineOrder)
  }

  /** QoS 0: kept and over in memory only. */
  keepInMemory(entry: Entry, slot: Slot): void {
    this.#kept.set(nameOf(slot), entry)
  }

  finishInMemory(entry: Entry, slot: Slot): void {
    this.#over.set(slot.key, added(this.#over.get(slot.key), slot, entry.receivedAtMs))
    this.#kept.delete(nameOf(slot))
  }

  /** Inside a transaction: forgets windows that no message can be late for any more, and marks of which none came for as long. */
  prune(beforeMs: number): void {
    for (const [key, over] of this.#over) {
      const ranges: number[] = []
      for (let i = 0; i < over.ranges.length; i += 2) {
        if (((over.ranges[i + 1] as number) + 1) * over.everyMs > beforeMs) ranges.push(over.ranges[i] as number, over.ranges[i + 1] as number)
      }
      if (over.ranges.length === 0 ? over.usedMs > beforeMs : ranges.length === over.ranges.length) continue
      if (ranges.length === 0) {
        this.#forget.run(this.#vault.tag(key))
        this.#over.delete(key)
      } else {
        this.#writeOver(key, { ...over, ranges })
        this.#over.set(key, { ...over, ranges })
      }
    }
  }
}

/** Windows that are over: pairs of first and last, ascending, apart from each other. */
interface Over {
  readonly everyMs: number
  readonly ranges: readonly number[]
  /** Of the record that left last. */
  readonly mark: string | undefined
  /** When that was received. */
  readonly usedMs: number
}

/** Ranges of one key; past it the two oldest become one, and the windows between them count as over. */
const RANGES = 512

function nameOf(slot: Pick<Slot, 'key' | 'window'>): string {
  return `${slot.key}@${slot.window}`
}

function isOver(over: Over | undefined, window: number): boolean {
  if (over === undefined) return false
  const { ranges } = over
  // The newest ranges are asked for nearly always.
  for (let i = ranges.length - 2; i >= 0; i -= 2) {
    if (window > (ranges[i + 1] as number)) return false
    if (window >= (ranges[i] as number)) return true
  }
  return false
}

function added(over: Over | undefined, { window, everyMs, mark }: Slot, usedMs: number): Over {
  if (window < 0) return { everyMs, ranges: [], mark, usedMs }
  const ranges: number[] = []
  let first = window
  let last = window
  let placed = false
  for (let i = 0; i < (over?.ranges.length ?? 0); i += 2) {
    const [from, to] = [over?.ranges[i] as number, over?.ranges[i + 1] as number]
    if (to < first - 1) ranges.push(from, to)
    else if (from > last + 1) {
      if (!placed) ranges.push(first, last)
      placed = true
      ranges.push(from, to)
    } else {
      first = Math.min(first, from)
      last = Math.max(last, to)
    }
  }
  if (!placed) ranges.push(first, last)
  if (ranges.length > RANGES * 2) ranges.splice(1, 2)
  return { everyMs, ranges, mark, usedMs }
}

function textOr(value: SQLOutputValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

const SELECT_KEPT = `SELECT 0, envelope, machine_order, acquired_ms, received_ms, expires_ms, crc, id, payload, state, on_withdrawal, payload_if_withdrawn, withdrawn_crc,
  sealed, key, window, every_ms, until_ms, mark, slot, body FROM kept ORDER BY until_ms, acquired_ms`

const TABLES = `
CREATE TABLE IF NOT EXISTS kept (
  slot TEXT PRIMARY KEY, key TEXT NOT NULL, window INTEGER NOT NULL, every_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
  envelope INTEGER NOT NULL, machine_order INTEGER NOT NULL, acquired_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, expires_ms INTEGER,
  crc INTEGER NOT NULL, id BLOB NOT NULL, payload BLOB NOT NULL, state INTEGER NOT NULL DEFAULT 0, sealed INTEGER NOT NULL DEFAULT 0,
  on_withdrawal INTEGER NOT NULL DEFAULT 0, payload_if_withdrawn BLOB, withdrawn_crc INTEGER, mark TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS windows (key TEXT PRIMARY KEY, every_ms INTEGER NOT NULL, ranges TEXT NOT NULL, mark TEXT, used_ms INTEGER) STRICT;`
