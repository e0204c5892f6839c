/**
 * Envelopes: everything about a record that its neighbours share (output, recipient, topic, machine, subjects, policy, …), kept
 * once and referred to by number. A wide row with all of it costs twice the time and twice the disk of a narrow one.
 *
 * An envelope names a machine and people. It is deleted when nothing refers to it any more: with the purge that took the last
 * record of a person, else by `collect`.
 */
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { GatewayError } from '../domain/errors.ts'
import type { MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../domain/ids.ts'
import type { OutboxRecord, PurgeSelector } from '../domain/ports.ts'
import type { Exit } from './counts.ts'
import { addColumn } from './database.ts'
import { Content, type Vault } from './vault.ts'

/** What records may share. */
export type Shared = Omit<Envelope, 'id' | 'mask' | 'seal' | 'exits' | 'used' | 'older'>

/** The shared part of records. Field by field what OutboxRecord says. */
export interface Envelope {
  /** Row number; 0 = not stored (yet). */
  id: number
  /** Destinations as bits, see `Destinations`. */
  readonly mask: number
  readonly output: OutputId
  readonly recipient: RecipientId
  readonly stream: StreamId
  readonly topic: string
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly machine: MachineId
  readonly holder: string | undefined
  readonly subjects: readonly OperatorId[]
  readonly purpose: PurposeId
  readonly basis: string
  readonly country: string | undefined
  readonly consentSeq: readonly number[]
  readonly policy: string
  readonly rulesHash: string
  readonly plan: string
  readonly keyId: string
  readonly storageClass: OutboxRecord['storageClass']
  readonly categories: number
  readonly via: readonly string[]
  /** Checksum of all of this; those of the records that lie in it start from it (entry.ts). */
  readonly seal: number
  /** Where its deliveries are counted (counts.ts). */
  readonly exits: Exit[]
  /** Round of `collect` in which it was used last. */
  used: number
  /** Another envelope of the same machine, output and stream. */
  older: Envelope | undefined
}

export class Envelopes {
  readonly #maskOf: (via: readonly string[]) => number
  readonly #insert: StatementSync
  readonly #insertSubject: StatementSync
  readonly #select: StatementSync
  readonly #ids: StatementSync
  readonly #delete: StatementSync
  readonly #db: DatabaseSync
  readonly #vault: Vault
  /** Newest first per machine and (output, stream). */
  #byMachine = new Map<MachineId, (Envelope | undefined)[]>()
  #byId = new Map<number, Envelope>()
  readonly #kinds = new Map<OutputId, Map<StreamId, number>>()
  #kindCount = 0
  #made = 0
  #round = 0
  /** Stored in the open transaction. */
  readonly #fresh: Envelope[] = []

  constructor(db: DatabaseSync, vault: Vault, maskOf: (via: readonly string[]) => number) {
    this.#db = db
    this.#vault = vault
    this.#maskOf = maskOf
    db.exec(TABLES)
    // NULL in files of an earlier version: then the row is in clear.
    addColumn(db, 'envelopes', 'sealed', 'INTEGER')
    addColumn(db, 'envelopes', 'body', 'BLOB')
    this.#insert = db.prepare(INSERT)
    this.#insertSubject = db.prepare('INSERT OR IGNORE INTO envelope_subjects (subject, envelope) VALUES (?, ?)')
    this.#select = db.prepare('SELECT * FROM envelopes WHERE envelope = ?')
    this.#ids = db.prepare('SELECT envelope FROM envelopes')
    this.#ids.setReturnArrays(true)
    this.#delete = db.prepare('DELETE FROM envelopes WHERE envelope = ?')
  }

  /** The envelope of a record. Hot path: no allocation when the machine sent the same kind of record lately. */
  of(record: Shared): Envelope {
    const kinds = this.#kinds.get(record.output)
    const kind = kinds?.get(record.stream) ?? this.#newKind(record)
    const shelf = this.#byMachine.get(record.machine)
    const newest = shelf?.[kind]
    for (let envelope = newest; envelope !== undefined; envelope = envelope.older) {
      if (same(envelope, record)) {
        envelope.used = this.#round
        return envelope
      }
    }
    return this.#make(record, kind)
  }

  /** The envelope with a number; undefined when there is none or it is damaged. */
  byId(id: number): Envelope | undefined {
    const known = this.#byId.get(id)
    if (known !== undefined) return known
    const row = this.#select.get(id)
    if (row === undefined) return undefined
    const envelope = this.#fromRow(row)
    if (envelope !== undefined) this.#remember(envelope)
    return envelope
  }

  /** Writes an envelope that has no number yet, inside a transaction; `settle` or `undo` follows. */
  store(envelope: Envelope): void {
    envelope.id = this.#write(envelope, null)
    this.#fresh.push(envelope)
  }

  /** Encrypts what an earlier version left in clear, inside a transaction. */
  migrate(): void {
    if (!this.#vault.isOn) return
    const inClear = this.#db.prepare('SELECT * FROM envelopes WHERE sealed IS NULL')
    for (const row of inClear.all()) {
      const envelope = this.#fromRow(row)
      // Nobody can tell what a damaged one says; its records are found damaged.
      this.#delete.run(Number(row['envelope']))
      if (envelope !== undefined) this.#write(envelope, envelope.id)
    }
  }

  /**
   * A withdrawal finds what is about a person by rows that no checksum covers: those that are missing are written again, inside a
   * transaction. Returns how many there were.
   */
  mendSubjects(): number {
    let missing = 0
    for (const [id = 0] of this.#ids.all() as unknown as number[][]) {
      for (const subject of this.byId(id)?.subjects ?? []) missing += Number(this.#insertSubject.run(this.#vault.tag(subject), id).changes)
    }
    return missing
  }

  /** What names a machine or a person stands in `body`; in its column a tag by which it is found, or nothing. */
  #write(envelope: Shared, id: number | null): number {
    const { topic, machine, holder, subjects, country, consentSeq } = envelope
    const body = this.#vault.sealValue(Content.envelope, partsOf(envelope))
    const isSealed = body !== null
    const { lastInsertRowid } = this.#insert.run(
      id, envelope.output, envelope.recipient, envelope.stream, isSealed ? '' : topic, envelope.qos, envelope.retain ? 1 : 0,
      this.#vault.tag(machine), isSealed ? null : (holder ?? null), isSealed ? '[]' : JSON.stringify(subjects), envelope.purpose, envelope.basis, isSealed ? null : (country ?? null),
      isSealed ? '[]' : JSON.stringify(consentSeq), envelope.policy, envelope.rulesHash, envelope.plan, envelope.keyId,
      envelope.storageClass, envelope.categories, JSON.stringify(envelope.via), isSealed ? this.#vault.sealed : null, body,
    )
    for (const subject of subjects) this.#insertSubject.run(this.#vault.tag(subject), Number(lastInsertRowid))
    return Number(lastInsertRowid)
  }

  /** After COMMIT. */
  settle(): void {
    for (const envelope of this.#fresh) this.#remember(envelope)
    this.#fresh.length = 0
  }

  /** After ROLLBACK. */
  undo(): void {
    for (const envelope of this.#fresh) envelope.id = 0
    this.#fresh.length = 0
  }

  /** Numbers of the stored envelopes that fit subject, purpose, machine and output of a selector. */
  matching(selector: PurgeSelector): Set<number> {
    const conditions: string[] = []
    const values: string[] = []
    if (selector.subject !== undefined) {
      conditions.push('envelope IN (SELECT envelope FROM envelope_subjects WHERE subject = ?)')
      values.push(this.#vault.tag(selector.subject))
    }
    for (const column of ['machine', 'purpose', 'output'] as const) {
      const value = selector[column]
      if (value === undefined) continue
      conditions.push(`${column} = ?`)
      values.push(column === 'machine' ? this.#vault.tag(value) : value)
    }
    const statement = this.#db.prepare(`SELECT envelope FROM envelopes WHERE ${conditions.join(' AND ')}`)
    statement.setReturnArrays(true)
    return new Set((statement.all(...values) as unknown as number[][]).map((row) => row[0]!))
  }

  /** Machines of which a record about a person is stored, or was until lately. */
  machinesWithSubjects(): MachineId[] {
    // Of each machine one will do.
    const statement = this.#db.prepare('SELECT min(envelope) FROM envelopes WHERE envelope IN (SELECT envelope FROM envelope_subjects) GROUP BY machine')
    statement.setReturnArrays(true)
    return (statement.all() as unknown as number[][]).flatMap((row) => this.byId(row[0]!)?.machine ?? [])
  }

  /** Deletes envelopes, inside a transaction; call `forget` after COMMIT. */
  delete(ids: Iterable<number>): void {
    for (const id of ids) this.#delete.run(id)
  }

  /** Drops deleted envelopes from memory. Whoever still has one in hand will store it again. */
  forget(ids: Iterable<number>): void {
    for (const id of ids) {
      const envelope = this.#byId.get(id)
      if (envelope === undefined) continue
      this.#byId.delete(id)
      envelope.id = 0
      this.#unlink(envelope)
    }
  }

  /** Numbers that nothing refers to and that were not used since the last round: ready for `delete` and `forget`. */
  collect(referred: ReadonlySet<number>): number[] {
    const idle: number[] = []
    for (const [id] of this.#ids.all() as unknown as number[][]) {
      if (id !== undefined && !referred.has(id) && this.#byId.get(id)?.used !== this.#round) idle.push(id)
    }
    this.#round++
    return idle
  }

  #make(record: Shared, kind: number): Envelope {
    if (this.#made >= ENVELOPES_CACHED) this.#empty()
    const envelope: Envelope = {
      id: 0, seal: sealOf(record), mask: this.#maskOf(record.via), output: record.output, recipient: record.recipient, stream: record.stream, topic: record.topic,
      qos: record.qos, retain: record.retain, machine: record.machine, holder: record.holder, subjects: [...record.subjects], purpose: record.purpose,
      basis: record.basis, country: record.country, consentSeq: [...record.consentSeq], policy: record.policy, rulesHash: record.rulesHash,
      plan: record.plan, keyId: record.keyId, storageClass: record.storageClass, categories: record.categories, via: [...record.via],
      exits: [], used: this.#round, older: undefined,
    }
    this.#made++
    let shelf = this.#byMachine.get(record.machine)
    if (shelf === undefined) this.#byMachine.set(record.machine, shelf = [])
    while (shelf.length <= kind) shelf.push(undefined)
    envelope.older = shelf[kind]
    shelf[kind] = envelope
    // A topic that changes with every message must not grow a chain.
    let last: Envelope = envelope
    for (let depth = 1; last.older !== undefined && depth < CHAIN; depth++) last = last.older
    last.older = undefined
    return envelope
  }

  #newKind(record: Shared): number {
    let kinds = this.#kinds.get(record.output)
    if (kinds === undefined) this.#kinds.set(record.output, kinds = new Map())
    const kind = this.#kindCount++
    kinds.set(record.stream, kind)
    return kind
  }

  #remember(envelope: Envelope): void {
    if (this.#byId.size >= ENVELOPES_CACHED) this.#empty()
    this.#byId.set(envelope.id, envelope)
  }

  /**
   * Both caches go at once, so that whatever `of` finds with a number is also found by that number: `forget` relies on it.
   * Envelopes in use live on in their records.
   */
  #empty(): void {
    this.#byMachine = new Map()
    this.#byId = new Map()
    this.#made = 0
  }

  #unlink(envelope: Envelope): void {
    const kind = this.#kinds.get(envelope.output)?.get(envelope.stream)
    const shelf = this.#byMachine.get(envelope.machine)
    if (kind === undefined || shelf === undefined) return
    if (shelf[kind] === envelope) shelf[kind] = envelope.older
    for (let one = shelf[kind]; one !== undefined; one = one.older) if (one.older === envelope) one.older = envelope.older
    if (shelf.every((one) => one === undefined)) this.#byMachine.delete(envelope.machine)
  }

  #fromRow(row: Readonly<Record<string, unknown>>): Envelope | undefined {
    if (row['sealed'] !== null) return this.#fromBody(row)
    try {
      const via = JSON.parse(String(row['via'])) as string[]
      const fields: Omit<Envelope, 'seal'> = {
        id: Number(row['envelope']), mask: this.#maskOf(via), output: String(row['output']) as OutputId, recipient: String(row['recipient']) as RecipientId,
        stream: String(row['stream']) as StreamId, topic: String(row['topic']), qos: Number(row['qos']) as 0 | 1 | 2, retain: row['retain'] === 1,
        machine: String(row['machine']) as MachineId, holder: textOr(row['holder']), subjects: JSON.parse(String(row['subjects'])) as OperatorId[],
        purpose: String(row['purpose']) as PurposeId, basis: String(row['basis']), country: textOr(row['country']),
        consentSeq: JSON.parse(String(row['consent_seq'])) as number[], policy: String(row['policy']), rulesHash: String(row['rules_hash']),
        plan: String(row['plan']), keyId: String(row['key_id']), storageClass: String(row['storage_class']) as OutboxRecord['storageClass'],
        categories: Number(row['categories']), via, exits: [], used: this.#round, older: undefined,
      }
      return { ...fields, seal: sealOf(fields) }
    } catch (cause) {
      if (cause instanceof SyntaxError) return undefined
      throw cause
    }
  }

  /** Undefined as well when the columns by which it is found are not its own: a purge would pass it by. */
  #fromBody(row: Readonly<Record<string, unknown>>): Envelope | undefined {
    const parts = this.#vault.openValue(Content.envelope, Number(row['sealed']), row['body'] as SQLOutputValue) as Parts | undefined
    if (parts === undefined) return undefined
    const [
      output, recipient, stream, topic, qos, retain, machine, holder, subjects, purpose, basis, country, consentSeq, policy, rulesHash, plan, keyId, storageClass, categories, via,
    ] = parts
    if (row['output'] !== output || row['purpose'] !== purpose || row['machine'] !== this.#vault.tag(machine)) return undefined
    const shared: Shared = {
      output, recipient, stream, topic, qos, retain, machine, holder: holder ?? undefined, subjects, purpose, basis, country: country ?? undefined, consentSeq,
      policy, rulesHash, plan, keyId, storageClass, categories, via,
    }
    return { ...shared, id: Number(row['envelope']), mask: this.#maskOf(via), seal: sealOf(shared), exits: [], used: this.#round, older: undefined }
  }
}

/**
 * The destinations that this outbox knows, each with a bit. A name keeps its bit for the life of the file.
 */
export class Destinations {
  readonly #bits = new Map<string, number>()
  readonly #add: (name: string, number: number) => void

  /** @param add  called with a name that is new; stores it before it returns */
  constructor(known: Iterable<{ readonly name: string; readonly bit: number }>, add: (name: string, number: number) => void) {
    this.#add = add
    for (const { name, bit } of known) this.#bits.set(name, bit)
  }

  bit(name: string): number {
    const known = this.#bits.get(name)
    if (known !== undefined) return known
    const number = this.#bits.size
    if (number >= DESTINATIONS) {
      throw new GatewayError('OUTBOX-DESTINATIONS', `The outbox knows ${DESTINATIONS} destinations already.`, 'Name fewer bridges, or start with an empty outbox file.')
    }
    this.#add(name, number)
    this.#bits.set(name, 1 << number)
    return 1 << number
  }
}

/** Bits of a 32-bit number that stay clear of the sign. */
const DESTINATIONS = 30
const ENVELOPES_CACHED = 65_536
/** Envelopes kept at hand per machine, output and stream: operators that take turns, topics before and after a rotation. */
const CHAIN = 4

const TABLES = `
CREATE TABLE IF NOT EXISTS envelopes (
  envelope INTEGER PRIMARY KEY AUTOINCREMENT,
  output TEXT NOT NULL, recipient TEXT NOT NULL, stream TEXT NOT NULL, topic TEXT NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,
  machine TEXT NOT NULL, holder TEXT, subjects TEXT NOT NULL, purpose TEXT NOT NULL, basis TEXT NOT NULL, country TEXT,
  consent_seq TEXT NOT NULL, policy TEXT NOT NULL, rules_hash TEXT NOT NULL, plan TEXT NOT NULL, key_id TEXT NOT NULL,
  storage_class TEXT NOT NULL, categories INTEGER NOT NULL, via TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS envelopes_by_machine ON envelopes (machine);
CREATE TABLE IF NOT EXISTS envelope_subjects (
  subject TEXT NOT NULL, envelope INTEGER NOT NULL,
  PRIMARY KEY (subject, envelope)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS envelope_subjects_by_envelope ON envelope_subjects (envelope);
CREATE TRIGGER IF NOT EXISTS envelopes_deleted AFTER DELETE ON envelopes BEGIN
  DELETE FROM envelope_subjects WHERE envelope = old.envelope;
END`

const INSERT = `
INSERT INTO envelopes (envelope, output, recipient, stream, topic, qos, retain, machine, holder, subjects, purpose, basis, country,
  consent_seq, policy, rules_hash, plan, key_id, storage_class, categories, via, sealed, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

function same(envelope: Envelope, record: Shared): boolean {
  return envelope.topic === record.topic && envelope.policy === record.policy && envelope.rulesHash === record.rulesHash
    && envelope.plan === record.plan && envelope.basis === record.basis && envelope.country === record.country
    && envelope.holder === record.holder && envelope.qos === record.qos && envelope.retain === record.retain
    && envelope.recipient === record.recipient && envelope.purpose === record.purpose && envelope.keyId === record.keyId
    && envelope.storageClass === record.storageClass && envelope.categories === record.categories
    && sameList(envelope.subjects, record.subjects) && sameList(envelope.consentSeq, record.consentSeq) && sameList(envelope.via, record.via)
}

function sealOf(of: Shared): number {
  return crc32(JSON.stringify(partsOf(of)))
}

/** In an order that never changes: it is stored. */
function partsOf(of: Shared) {
  return [
    of.output, of.recipient, of.stream, of.topic, of.qos, of.retain, of.machine, of.holder, of.subjects, of.purpose, of.basis, of.country, of.consentSeq,
    of.policy, of.rulesHash, of.plan, of.keyId, of.storageClass, of.categories, of.via,
  ] as const
}
/** As JSON gives them back: null for what there is none of. */
type Parts = { [Place in keyof ReturnType<typeof partsOf>]: ReturnType<typeof partsOf>[Place] | (undefined extends ReturnType<typeof partsOf>[Place] ? null : never) }

function sameList<Item>(one: readonly Item[], other: readonly Item[]): boolean {
  if (one.length !== other.length) return false
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false
  return true
}

function textOr(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
