/**
 * Which person a card, PIN or number stands for, and when. Cards are kept as HMACs only; what belongs to a person is sealed
 * under the person's own row, so that erasing the person ends it in every copy. An unknown card leaves nothing behind.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../domain/errors.ts'
import { NAME, cardText, type OperatorId } from '../domain/ids.ts'
import type { Clock, Identity, IdentityKind, IdentityRegister, Random, SubjectStore } from '../domain/ports.ts'
import { inTransaction, openDatabase, truncateLog } from './database.ts'
import { expand, frame, padded, seal, tag, unpadded, unseal } from './sealing.ts'
import type { SqliteSubjectKeys } from './subjects.ts'

/** Cards kept ready; at it the one unseen longest goes and is looked up again. */
const READY_CARDS = 8_192

export interface IdentitiesOptions {
  /** The data folder. */
  readonly folder: string
  readonly keys: SqliteSubjectKeys
  readonly clock: Clock
  readonly random?: Random
}

/** One entry of operators.yaml. A card may pass from one person to another: then both entries have times. */
export interface OperatorEntry {
  readonly id: OperatorId
  readonly kind: IdentityKind
  readonly country: string | undefined
  /** Undefined: from the moment the gateway first reads the entry, or ever since for a card nobody had before. */
  readonly validFromMs: number | undefined
  readonly validToMs: number | undefined
  /** Cards, PINs, numbers; as the terminal sends them. */
  readonly cards: readonly string[]
}

export interface LoadResult {
  readonly operators: number
  readonly cards: number
  /** Cards whose person changed or that left the list: they stand for the old person up to now. */
  readonly closed: number
  /** Entries of erased persons, which stay erased. */
  readonly ended: number
}

const SCHEMA = `
CREATE TABLE IF NOT EXISTS operator (
  subject BLOB PRIMARY KEY,
  sealed  BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS credential (
  card    BLOB NOT NULL,
  subject BLOB NOT NULL,
  sealed  BLOB NOT NULL,
  PRIMARY KEY (card, subject)
) STRICT;
CREATE INDEX IF NOT EXISTS credential_by_subject ON credential (subject);
`

/** Beyond every time there is, for "no end". */
const FOREVER = Number.MAX_SAFE_INTEGER

export class SqliteIdentities implements IdentityRegister, SubjectStore {
  readonly name = 'identities'

  readonly #keys: SqliteSubjectKeys
  readonly #clock: Clock
  readonly #random: Random
  readonly #db: DatabaseSync
  readonly #selectCards: StatementSync
  readonly #selectOperator: StatementSync
  readonly #putCard: StatementSync
  readonly #putOperator: StatementSync
  /** Cards that messages named lately, in memory alone; empty after every change of the register and every erasure. */
  readonly #ready = new LRUCache<string, readonly Identity[]>({ maxSize: READY_CARDS, sizeCalculation: () => 1 })
  #readyAt = -1

  constructor(options: IdentitiesOptions) {
    this.#keys = options.keys
    this.#clock = options.clock
    this.#random = options.random ?? randomBytes
    this.#db = openDatabase(join(options.folder, 'identities.db'), SCHEMA)
    this.#selectCards = this.#db.prepare('SELECT subject, sealed FROM credential WHERE card = ?')
    this.#selectOperator = this.#db.prepare('SELECT sealed FROM operator WHERE subject = ?')
    this.#putCard = this.#db.prepare('INSERT INTO credential (card, subject, sealed) VALUES (?, ?, ?) ON CONFLICT (card, subject) DO UPDATE SET sealed = excluded.sealed')
    this.#putOperator = this.#db.prepare('INSERT INTO operator (subject, sealed) VALUES (?, ?) ON CONFLICT (subject) DO UPDATE SET sealed = excluded.sealed')
  }

  find(credential: string, atMs: number): Identity | undefined {
    const card = cardText(credential)
    if (card === '') return undefined
    if (this.#readyAt !== this.#keys.generation) this.#forgetReady()
    let holders = this.#ready.get(card)
    if (holders === undefined) this.#ready.set(card, (holders = this.#holdersOf(card)))
    return holders.find(({ validFromMs, validToMs }) => atMs >= validFromMs && atMs < validToMs)
  }

  /** Everybody for whom a card stands or stood. */
  #holdersOf(card: string): readonly Identity[] {
    return this.#selectCards.all(this.#cardTag(card)).flatMap(({ subject, sealed }) => {
      const times = this.#times(subject as Uint8Array, sealed as Uint8Array)
      const person = times === undefined ? undefined : this.#person(subject as Uint8Array)
      return times === undefined || person === undefined ? [] : [{ operator: person.operator, kind: person.kind, country: person.country, validFromMs: times.from, validToMs: times.to }]
    })
  }

  #forgetReady(): void {
    this.#ready.clear()
    this.#readyAt = this.#keys.generation
  }

  /** Whether a person of this id is registered and not erased, also one without a card. */
  knows(operator: OperatorId): boolean {
    const subject = this.#keys.tagOf('operator', operator)
    return !this.#keys.ended(subject) && this.#selectOperator.get(subject) !== undefined
  }

  /** Kind and country of a person. */
  who(operator: OperatorId): { readonly kind: IdentityKind; readonly country: string | undefined } | undefined {
    const person = this.#person(this.#keys.tagOf('operator', operator))
    return person === undefined ? undefined : { kind: person.kind, country: person.country }
  }

  /**
   * Takes over a list (operators.yaml): it is the whole truth about cards from now on. What a card stood for earlier is kept,
   * so that late messages are still attributed rightly.
   * @throws GatewayError OPERATOR-ID, OPERATOR-TWICE, CARD-TWICE, CARD-EMPTY; nothing is changed then
   */
  load(operators: readonly OperatorEntry[]): LoadResult {
    const now = this.#clock.now()
    check(operators)
    this.#forgetReady()
    const living = operators.filter((entry) => !this.#keys.ended(this.#keys.tagOf('operator', entry.id)))
    this.#keys.ensureMany('operator', living.map((entry) => entry.id), ['ledger'])
    return inTransaction(this.#db, () => {
      const wanted = new Map<string, Set<string>>()
      for (const entry of living) {
        for (const card of entry.cards) {
          const key = keyOf(this.#cardTag(cardText(card)))
          const subjects = wanted.get(key) ?? new Set()
          wanted.set(key, subjects.add(keyOf(this.#keys.tagOf('operator', entry.id))))
        }
      }
      let closed = 0
      for (const { card, subject, sealed } of this.#db.prepare('SELECT card, subject, sealed FROM credential').all()) {
        if (wanted.get(keyOf(card as Uint8Array))?.has(keyOf(subject as Uint8Array)) === true) continue
        const times = this.#times(subject as Uint8Array, sealed as Uint8Array)
        if (times === undefined || times.to <= now) continue
        this.#putCard.run(card!, subject!, this.#seal(subject as Uint8Array, { from: Math.min(times.from, now), to: now }, 'card'))
        closed++
      }
      let cards = 0
      for (const entry of living) cards += this.#put(entry, now)
      return { operators: living.length, cards, closed, ended: operators.length - living.length }
    })
  }

  /**
   * Adds or changes one person (admin API). Cards that somebody else holds at the same time are refused.
   * @throws GatewayError CARD-TWICE, SUBJECT-ENDED and those of `load`
   */
  add(entry: OperatorEntry): void {
    const now = this.#clock.now()
    check([entry])
    this.#forgetReady()
    this.#keys.ensure('operator', entry.id, 'ledger')
    const own = this.#keys.tagOf('operator', entry.id)
    inTransaction(this.#db, () => {
      for (const card of entry.cards) {
        const others = this.#holders(this.#cardTag(cardText(card)), own)
        if (others.some((times) => times.to > (entry.validFromMs ?? now) && times.from < (entry.validToMs ?? FOREVER))) throw cardTwice()
      }
      this.#put(entry, now)
    })
  }

  /**
   * Times at which a card began or ceased to stand for somebody, ascending: between two of them every card stands for the same.
   * Those of the lists read so far, written in them or made by reading them. Read it anew after `load`, `add` and `erase`.
   * @param max  at it the oldest are left out
   */
  borders(max: number): readonly number[] {
    const times = new Set<number>()
    for (const { subject, sealed } of this.#db.prepare('SELECT subject, sealed FROM credential').iterate()) {
      const { from, to } = this.#times(subject as Uint8Array, sealed as Uint8Array) ?? { from: 0, to: FOREVER }
      if (from > 0) times.add(from)
      if (to < FOREVER) times.add(to)
    }
    return [...times].sort((a, b) => a - b).slice(-max)
  }

  locate(subject: OperatorId): { readonly records: number } {
    const mark = this.#keys.tagOf('operator', subject)
    const cards = this.#db.prepare('SELECT count(*) AS n FROM credential WHERE subject = ?').get(mark)?.['n']
    return { records: Number(cards) + (this.#selectOperator.get(mark) === undefined ? 0 : 1) }
  }

  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    const mark = this.#keys.tagOf('operator', subject)
    const person = this.#person(mark)
    if (person !== undefined) yield { kind: person.kind, country: person.country }
    for (const { sealed } of this.#db.prepare('SELECT sealed FROM credential WHERE subject = ?').all(mark)) {
      const times = this.#times(mark, sealed as Uint8Array)
      if (times !== undefined) yield { card: 'kept as a keyed hash only', validFromMs: times.from, validToMs: times.to === FOREVER ? undefined : times.to }
    }
  }

  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    const mark = this.#keys.tagOf('operator', subject)
    const { records } = this.locate(subject)
    if (!this.#keys.ended(mark) && this.#keys.locate(subject).records > 0) return { erased: 0, held: records }
    this.#forgetReady()
    inTransaction(this.#db, () => {
      this.#db.prepare('DELETE FROM credential WHERE subject = ?').run(mark)
      this.#db.prepare('DELETE FROM operator WHERE subject = ?').run(mark)
    })
    truncateLog(this.#db)
    return { erased: records, held: 0 }
  }

  /** A hold is kept with the subject keys, without which nothing here is erased. */
  hold(): void {}

  close(): void {
    if (this.#db.isOpen) this.#db.close()
  }

  #put(entry: OperatorEntry, now: number): number {
    const subject = this.#keys.tagOf('operator', entry.id)
    this.#putOperator.run(subject, this.#seal(subject, { operator: entry.id, kind: entry.kind, country: entry.country }, 'operator'))
    for (const text of entry.cards) {
      const card = this.#cardTag(cardText(text))
      // A card that somebody else had stands for the new person only from when the other's time ended.
      const before = this.#holders(card, subject).reduce((latest, times) => (times.from <= (entry.validFromMs ?? now) ? Math.max(latest, times.to) : latest), 0)
      const known = this.#selectCards.all(card).find((row) => keyOf(row['subject'] as Uint8Array) === keyOf(subject))
      const old = known === undefined ? undefined : this.#times(subject, known['sealed'] as Uint8Array)
      // Whoever gets a card back has it from now: what lay between was somebody else's or nobody's.
      const returned = old !== undefined && old.to <= now && entry.validFromMs === undefined
      const from = Math.max(entry.validFromMs ?? (returned ? now : (old?.from ?? 0)), before)
      this.#putCard.run(card, subject, this.#seal(subject, { from, to: entry.validToMs ?? FOREVER }, 'card'))
    }
    return entry.cards.length
  }

  /** When others than this person hold or held a card. */
  #holders(card: Uint8Array, except: Uint8Array): Times[] {
    return this.#selectCards.all(card)
      .filter((row) => keyOf(row['subject'] as Uint8Array) !== keyOf(except))
      .map((row) => this.#times(row['subject'] as Uint8Array, row['sealed'] as Uint8Array))
      .filter((times) => times !== undefined)
  }

  #person(subject: Uint8Array): Person | undefined {
    const sealed = this.#selectOperator.get(subject)?.['sealed']
    return sealed === undefined ? undefined : (this.#open(subject, sealed as Uint8Array, 'operator') as Person | undefined)
  }

  #seal(subject: Uint8Array, value: Times | Person, table: string): Uint8Array {
    const row = this.#keys.rowByTag(subject, 'operator', 'ledger')
    if (row === undefined) throw new GatewayError('SUBJECT-ENDED', 'This operator was erased.')
    return seal(expand(row, 'parapet/v1|identity'), padded(value), frame('parapet/v1|identity', table, subject), this.#random)
  }

  #times(subject: Uint8Array, sealed: Uint8Array): Times | undefined {
    return this.#open(subject, sealed, 'card') as Times | undefined
  }

  /** Undefined for an erased person: also when a restored copy of this file still has the entry. */
  #open(subject: Uint8Array, sealed: Uint8Array, table: string): unknown {
    const row = this.#keys.rowByTag(subject, 'operator', 'ledger')
    const plain = row === undefined ? undefined : unseal(expand(row, 'parapet/v1|identity'), sealed, frame('parapet/v1|identity', table, subject))
    return plain === undefined ? undefined : unpadded(plain)
  }

  #cardTag(card: string): Uint8Array {
    return tag(this.#keys.gatewayRow('identity'), 'card', card)
  }
}

interface Times {
  readonly from: number
  readonly to: number
}

interface Person {
  readonly operator: OperatorId
  readonly kind: IdentityKind
  readonly country: string | undefined
}

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

/** Sentences name positions in the list, never ids or cards. */
function check(operators: readonly OperatorEntry[]): void {
  const ids = new Set<string>()
  const cards = new Map<string, OperatorEntry[]>()
  for (const [i, entry] of operators.entries()) {
    const where = `Operator ${i + 1} of the list`
    if (!NAME.test(entry.id) || entry.id.length > 128) throw new GatewayError('OPERATOR-ID', `${where} has no usable id.`, 'Use letters, digits, dot, dash and underscore.')
    if (ids.has(entry.id)) throw new GatewayError('OPERATOR-TWICE', `${where} has an id that an earlier one has.`, 'Give each person one entry with all cards, or another id.')
    ids.add(entry.id)
    const [from, to] = timesOf(entry)
    if (!(from < to)) throw new GatewayError('OPERATOR-TIMES', `${where} is valid to a time before it is valid from.`, 'Exchange the two times.')
    for (const text of new Set(entry.cards.map(cardText))) {
      if (text === '') throw new GatewayError('CARD-EMPTY', `${where} has an empty card.`, 'Remove it, or write the number in quotes.')
      const others = cards.get(text) ?? []
      if (others.some((other) => timesOf(other)[0] < to && from < timesOf(other)[1])) throw cardTwice(where)
      cards.set(text, [...others, entry])
    }
  }
}

function timesOf(entry: OperatorEntry): readonly [number, number] {
  return [entry.validFromMs ?? 0, entry.validToMs ?? FOREVER]
}

function cardTwice(where = 'This operator'): GatewayError {
  return new GatewayError('CARD-TWICE', `${where} has a card that another person has at the same time.`, 'Say with valid_from and valid_to who has it when, or give the entry kind shared.')
}
