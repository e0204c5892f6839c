/**
 * Encryption at rest of what waits in the outbox file: payloads with their variants, and whatever of an envelope or a window names a
 * machine or a person. [GDPR Art. 32(1)(a)]
 *
 * Each opening of the file has a random key of its own (a row of `seals`, wrapped under the root key), so that places in its key
 * stream are never used twice, whatever becomes of counters, copies and restored backups. A new root key wraps the rows of `seals` anew.
 *
 * Made for many small records: an AES-GCM object of OpenSSL takes 4 us, more than all the rest of a record. So
 * - AES-256 in counter mode, the key stream made in pieces of 64 KiB that neighbours share [NIST SP 800-38A 6.5];
 * - HMAC-SHA-256 cut to 128 bits [RFC 2104] over the ciphertext and all that decides whether, where and until when the record leaves,
 *   made of two calls of the hash on buffers that are ready: an Hmac object of OpenSSL takes three times as long.
 *
 * Sealed bytes: ciphertext || place in the key stream (6, blocks of 16, big-endian) || tag (16).
 *
 * Without keys (tests of other things) everything is stored in clear, with a checksum.
 */
import { createCipheriv, createHmac, createSecretKey, hash, hkdfSync, randomBytes, type KeyObject } from 'node:crypto'
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { GatewayError } from '../domain/errors.ts'
import type { OutboxRecord, StorageKeys } from '../domain/ports.ts'
import { Column, entryOf, isWhole, onWithdrawalOf, OVERHEAD, seedOf, type Entry, type Row } from './entry.ts'
import type { Envelope } from './envelopes.ts'
import { OnWithdrawal } from './selector.ts'

/** What is stored of a record and must not be changed. */
export type Stored = Pick<OutboxRecord, 'id' | 'machineOrder' | 'acquiredAtMs' | 'receivedAtMs' | 'expiresAtMs' | 'payload' | 'payloadIfWithdrawn'>

export class Vault {
  /** What `protect` made of the last record: to be bound before the next call. */
  payload: Uint8Array = NOTHING
  variant: Uint8Array | null = null
  crc = 0
  withdrawnCrc: number | null = null

  /** Column `sealed` of what is stored now; 0 = in clear. */
  readonly sealed: number = 0
  readonly #keys = new Map<number, OpeningKeys>()
  readonly #own: OpeningKeys | undefined
  readonly #index: Uint8Array | undefined
  readonly #place = { blocks: 0 }
  readonly #forPayload = new Work()
  readonly #forVariant = new Work()

  /**
   * Makes its table when there is none, and this opening's key; wraps what a former root key wrapped. Inside a transaction, or with one
   * commit each.
   * @throws GatewayError OUTBOX-KEY, and has changed nothing then
   */
  constructor(db: DatabaseSync, keys: StorageKeys | undefined) {
    db.exec(TABLE)
    const rows = db.prepare('SELECT number, key_id, wrapped FROM seals').all()
    if (keys === undefined && rows.length > 0) throw new GatewayError('OUTBOX-KEY', 'The outbox is encrypted, and there is no key.', MEND)
    if (keys === undefined) return
    const unknown = rows.map((row) => String(row['key_id'])).find((id) => !keys.knows(id))
    if (unknown !== undefined) throw new GatewayError('OUTBOX-KEY', `The outbox needs the root key ${unknown.replace(/[^0-9a-f]/g, '').slice(0, 8)}, and root.key holds ${keys.id}.`, MEND)
    const opened = rows.map((row) => {
      const [number, id] = [Number(row['number']), String(row['key_id'])]
      const secret = keys.unwrap(id, row['wrapped'] as Uint8Array, contextOf(number))
      if (secret === undefined) throw new GatewayError('OUTBOX-KEY', `A key of the outbox does not open with the root key ${keys.id}: it is of another tenant, or damaged.`, MEND)
      return { number, id, secret }
    })
    const rewrap = db.prepare('UPDATE seals SET key_id = ?, wrapped = ? WHERE number = ?')
    for (const { number, id, secret } of opened) if (id !== keys.id) rewrap.run(keys.id, keys.wrap(secret, contextOf(number)), number)
    const add = db.prepare('INSERT INTO seals (number, key_id, wrapped) VALUES (?, ?, ?)')
    const addNew = (number: number): Uint8Array => {
      const secret = randomBytes(32)
      add.run(number, keys.id, keys.wrap(secret, contextOf(number)))
      return secret
    }
    for (const { number, secret } of opened) if (number !== INDEX) this.#keys.set(number, new OpeningKeys(secret))
    this.#index = opened.find(({ number }) => number === INDEX)?.secret ?? addNew(INDEX)
    // Not the highest there is: a row that nothing refers to any more is deleted, and its number must not come back.
    const last = Number(db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'seals'").get()?.['seq'] ?? 0)
    this.sealed = Math.max(last, INDEX) + 1
    this.#own = new OpeningKeys(addNew(this.sealed))
    this.#keys.set(this.sealed, this.#own)
  }

  /** Whether what is stored is encrypted. */
  get isOn(): boolean {
    return this.#own !== undefined
  }

  /** A record as it goes into the file, left in the fields above. Hot path. */
  protect(record: Stored, envelope: Envelope): void {
    const { payload, payloadIfWithdrawn: variant } = record
    const onWithdrawal = onWithdrawalOf(variant)
    const hasVariant = variant !== undefined && variant !== null
    if (this.#own === undefined) {
      this.payload = payload
      this.crc = crc32(payload, seedOf(record, envelope, onWithdrawal))
      this.variant = variant ?? null
      this.withdrawnCrc = hasVariant ? crc32(variant, seedOf(record, envelope, OnWithdrawal.nothing)) : null
      return
    }
    this.payload = this.#seal(this.#forPayload.about(record, envelope, onWithdrawal), payload)
    if (!hasVariant) {
      this.variant = null
      this.withdrawnCrc = null
      return
    }
    // After a withdrawal it takes the place of the payload, and nothing is left to lose.
    this.variant = this.#seal(this.#forVariant.about(record, envelope, OnWithdrawal.nothing), variant)
    this.withdrawnCrc = 0
  }

  /** The record that a row holds; undefined when it is not as it was stored. */
  restore(row: Row, envelope: Envelope): Entry | undefined {
    const entry = entryOf(row, envelope)
    const sealed = Number(row[Column.sealed])
    if (sealed === 0) return isWhole(entry, envelope, row[Column.crc], row[Column.withdrawnCrc]) ? entry : undefined
    const keys = this.#keys.get(sealed)
    if (keys === undefined) return undefined
    const payload = this.#open(keys, this.#forPayload.about(entry, envelope, onWithdrawalOf(entry.payloadIfWithdrawn)), entry.payload)
    if (payload === undefined) return undefined
    entry.payload = payload
    const variant = entry.payloadIfWithdrawn
    if (variant === undefined || variant === null) return entry
    const opened = this.#open(keys, this.#forVariant.about(entry, envelope, OnWithdrawal.nothing), variant)
    if (opened === undefined) return undefined
    entry.payloadIfWithdrawn = opened
    return entry
  }

  /** A value that JSON can hold, sealed; null when nothing is encrypted. @param what  it opens for nothing else */
  sealValue(what: Content, value: unknown): Uint8Array | null {
    return this.#own === undefined ? null : Uint8Array.from(this.#seal(this.#forPayload.aboutValue(what), Buffer.from(JSON.stringify(value), 'utf8')))
  }

  /** What `sealValue` sealed; undefined when it is damaged. */
  openValue(what: Content, sealed: SQLOutputValue | undefined, bytes: SQLOutputValue | undefined): unknown {
    const keys = this.#keys.get(Number(sealed))
    const plain = keys === undefined || !(bytes instanceof Uint8Array) ? undefined : this.#open(keys, this.#forPayload.aboutValue(what), bytes)
    return plain === undefined ? undefined : JSON.parse(plain.toString('utf8'))
  }

  /** What stands for a name in a column that is searched: the same in this file as long as it lives. The name itself when nothing is encrypted. */
  tag(name: string): string {
    return this.#index === undefined ? name : createHmac('sha256', this.#index).update(name).digest('hex').slice(0, 32)
  }

  /** Forgets the keys of former openings, inside a transaction. @param referred  numbers that some row has */
  prune(db: DatabaseSync, referred: ReadonlySet<number>): void {
    const remove = db.prepare('DELETE FROM seals WHERE number = ?')
    for (const number of this.#keys.keys()) {
      if (number === this.sealed || referred.has(number)) continue
      remove.run(number)
      this.#keys.delete(number)
    }
  }

  #seal(work: Work, plain: Uint8Array): Uint8Array {
    const own = this.#own!
    const length = plain.length
    const place = this.#place.blocks
    // 2^48 blocks are 4 PB: more than any disk takes between two starts.
    this.#place.blocks += (length + 15) >>> 4
    work.fit(length)
    work.bytes.set(plain, BODY)
    own.ahead.apply(work, place, length)
    work.place(place, length)
    work.bytes.write(work.tagUnder(own.mac, place, length), BODY + length + PLACE, 'latin1')
    return work.bytes.subarray(BODY, BODY + length + OVERHEAD)
  }

  /** The plain bytes, in memory of their own. */
  #open(keys: OpeningKeys, work: Work, sealed: Uint8Array): Buffer | undefined {
    const length = sealed.length - OVERHEAD
    if (length < 0) return undefined
    work.fit(length)
    work.bytes.set(sealed, BODY)
    const place = work.bytes.readUIntBE(BODY + length, PLACE)
    const tag = work.bytes.toString('latin1', BODY + length + PLACE, BODY + length + OVERHEAD)
    if (work.tagUnder(keys.mac, place, length) !== tag) return undefined
    keys.behind.apply(work, place, length)
    const plain = Buffer.allocUnsafeSlow(length)
    plain.set(work.bytes.subarray(BODY, BODY + length))
    return plain
  }
}

/** What a sealed value is, so that one is not taken for another. */
export const Content = { envelope: 16, window: 17, kept: 18, terminal: 19, command: 20 } as const
export type Content = (typeof Content)[keyof typeof Content]

/** Keys of one opening of the file. */
class OpeningKeys {
  readonly mac: MacKey
  /** Key stream for what is written, one after the other, and for what is read, anywhere. */
  readonly ahead: KeyStream
  readonly behind: KeyStream

  constructor(secret: Uint8Array) {
    const part = (name: string): Buffer => Buffer.from(hkdfSync('sha256', secret, NOTHING, `parapet/v1|at-rest|${name}`, 32))
    const cipher = createSecretKey(part('cipher'))
    this.mac = new MacKey(part('tag'))
    this.ahead = new KeyStream(cipher, AHEAD_BYTES)
    this.behind = new KeyStream(cipher, BEHIND_BYTES)
  }
}

/** [RFC 2104] A key of 32 bytes as the first block of the inner hash, and the outer one with room for the inner. */
class MacKey {
  readonly inner = Buffer.alloc(HASH_BLOCK, 0x36)
  readonly outer = Buffer.alloc(HASH_BLOCK + HASH_BYTES, 0x5c)

  constructor(key: Uint8Array) {
    for (let n = 0; n < key.length; n++) {
      this.inner[n]! ^= key[n]!
      this.outer[n]! ^= key[n]!
    }
  }
}

/** The key stream of one key, a piece of it at a time. */
class KeyStream {
  readonly #key: KeyObject
  readonly #zeros: Buffer
  #words = new Uint32Array(0)
  #from = 0
  #blocks = 0

  constructor(key: KeyObject, bytes: number) {
    this.#key = key
    this.#zeros = bytes === AHEAD_BYTES ? ZEROS : ZEROS.subarray(0, bytes)
  }

  /** Adds the key stream to the bytes in `work`; past their end up to three more are changed. */
  apply(work: Work, place: number, length: number): void {
    if (length > this.#zeros.length) {
      work.bytes.set(this.#make(place, work.bytes.subarray(BODY, BODY + length)), BODY)
      return
    }
    const blocks = (length + 15) >>> 4
    if (place < this.#from || place + blocks > this.#from + this.#blocks) {
      const piece = this.#make(place, this.#zeros)
      this.#words = new Uint32Array(Uint8Array.from(piece).buffer)
      this.#from = place
      this.#blocks = piece.length / 16
    }
    const from = (place - this.#from) * 4
    const words = this.#words
    const at = work.words
    for (let n = 0, end = (length + 3) >>> 2; n < end; n++) at[BODY_WORDS + n]! ^= words[from + n]!
  }

  #make(place: number, over: Uint8Array): Buffer {
    const counter = Buffer.alloc(16)
    counter.writeUIntBE(place, 10, PLACE)
    return createCipheriv('aes-256-ctr', this.#key, counter).update(over)
  }
}

/**
 * The input of the inner hash, with room for the ciphertext and what is stored behind it: the key's block (64 bytes), ten numbers
 * (64-bit floats), the record's id (16), the ciphertext. The first number is the length.
 */
class Work {
  bytes = Buffer.alloc(0)
  words: Uint32Array = new Uint32Array(0)
  #numbers: Float64Array = new Float64Array(0)
  #mac: MacKey | undefined

  constructor() {
    this.fit(WORK_BYTES)
  }

  /** Room for so many bytes; what is said of them stays. What one big message needed is not kept for good. */
  fit(length: number): void {
    const least = BODY + length + OVERHEAD + 4
    if (least <= this.bytes.length && (this.bytes.length <= WORK_BYTES * 2 || least > WORK_BYTES)) return
    // Of its own, not of a pool: it begins at a multiple of eight.
    const own = Buffer.from(new ArrayBuffer(Math.ceil(Math.max(least, WORK_BYTES * 2) / 8) * 8))
    own.set(this.bytes.subarray(0, Math.min(BODY, this.bytes.length)))
    this.bytes = own
    this.words = new Uint32Array(own.buffer)
    this.#numbers = new Float64Array(own.buffer)
  }

  about(record: Stored, envelope: Envelope, onWithdrawal: number): this {
    const numbers = this.#numbers
    numbers[9] = onWithdrawal
    numbers[10] = envelope.seal
    numbers[11] = record.machineOrder
    numbers[12] = record.acquiredAtMs
    numbers[13] = record.receivedAtMs
    numbers[14] = record.expiresAtMs ?? -1
    const { id } = record
    for (let n = 0; n < 16; n++) this.bytes[ID + n] = id[n]!
    return this
  }

  aboutValue(what: Content): this {
    this.bytes.fill(0, 72, BODY)
    this.#numbers[9] = what
    return this
  }

  place(place: number, length: number): void {
    this.bytes.writeUIntBE(place, BODY + length, PLACE)
  }

  /** 16 bytes as latin1. */
  tagUnder(mac: MacKey, place: number, length: number): string {
    if (this.#mac !== mac) {
      this.bytes.set(mac.inner, 0)
      this.#mac = mac
    }
    this.#numbers[8] = length
    this.#numbers[15] = place
    mac.outer.write(hash('sha256', this.bytes.subarray(0, BODY + length), 'latin1'), HASH_BLOCK, 'latin1')
    return hash('sha256', mac.outer, 'latin1').slice(0, 16)
  }
}

const PLACE = 6
/** Positions in `Work`. */
const ID = 128
const BODY = 144
const BODY_WORDS = BODY / 4
const WORK_BYTES = 4_096
const AHEAD_BYTES = 65_536
const BEHIND_BYTES = 8_192
const ZEROS = Buffer.alloc(AHEAD_BYTES)
const NOTHING = Buffer.alloc(0)
/** Of SHA-256. [FIPS 180-4] */
const HASH_BLOCK = 64
const HASH_BYTES = 32

/** The row whose key makes tags; the others are of openings. */
const INDEX = 1

function contextOf(number: number): string {
  return `outbox ${number}`
}

const MEND = 'Put the root.key (and the tenant) back that this data folder was used with: nothing is lost meanwhile. Without it move outbox.db away; what waits in it is then lost.'

const TABLE = 'CREATE TABLE IF NOT EXISTS seals (number INTEGER PRIMARY KEY AUTOINCREMENT, key_id TEXT NOT NULL, wrapped BLOB NOT NULL) STRICT;'
