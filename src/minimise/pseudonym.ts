/**
 * Keyed pseudonyms (rules-language 5):
 *   HMAC-SHA256(K, lp(R) || lp(value)), first 16 bytes
 *   K = HKDF-SHA256(ikm = root key, salt = tenant, info = "parapet/v1|pseudonym|AS|OUTPUT|EPOCH", 32 bytes)   [RFC 5869]
 * R is the random row of the subject whose id is in the field; deleting the row ends the pseudonym for good.
 * An HMAC costs microseconds, a cache hit tens of nanoseconds, so results are kept, bounded, and dropped when a row is destroyed.
 */
import { createHmac, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { SubjectKind } from '../domain/schema.ts'
import { LIMITS } from '../domain/limits.ts'

/** Where rows come from: the gateway's key file, a `--rows` file, or derived ones for `filter` and tests. */
export interface Rows {
  /** 32 bytes, or undefined: then the field is dropped. */
  row(kind: 'machine' | 'operator' | 'customer', value: string, as: string, eventMs: number): Uint8Array | undefined
  /** Names the rows that serve an event time: differs whenever a row was destroyed or made, or a value stands for another subject. */
  generationAt(eventMs: number): number
}

export interface PseudonymKeys {
  readonly root: Uint8Array
  readonly tenant: string
  readonly rows: Rows
}

/** Rotation of one pseudonym: a period in milliseconds, never, or with the operator session. */
export type Rotate = number | 'never' | 'session'

/** The key space of one pseudonymised field in one output. */
export interface PseudonymDomain {
  readonly as: string
  readonly output: string
  readonly rotate: Rotate
  /** What the schema says the field identifies: decides whether a row is needed. */
  readonly subject: SubjectKind
}

export interface Pseudonymiser {
  /** Length of an epoch in ms, Infinity for never, 0 where the session decides; for caches of ready results. */
  readonly period: number
  /** See Rows.generationAt. */
  generationAt(eventMs: number): number
  /**
   * First 16 bytes of the HMAC, or undefined when there is no epoch or no row: then the field is dropped.
   * @param value    by which the row is found: UTF-8 text, decimal digits, or with `raw` the hex digits of the bytes, as a registry writes them
   * @param eventMs  event time, NaN when the message has none
   * @param session  hex of the session's random 16 bytes, empty when there is none
   */
  of(value: string, eventMs: number, session: string, raw?: Uint8Array): Uint8Array | undefined
}

export function createPseudonymiser(keys: PseudonymKeys, domain: PseudonymDomain): Pseudonymiser {
  const epochs = new LRUCache<string, KeyObject>({ max: 64 })
  const ready = new LRUCache<string, Uint8Array>({ maxSize: LIMITS.pseudonymCache, sizeCalculation: () => 1 })

  function epochKey(epoch: string): KeyObject {
    let key = epochs.get(epoch)
    if (key === undefined) {
      key = createSecretKey(Buffer.from(pseudonymKey(keys, domain, epoch)))
      epochs.set(epoch, key)
    }
    return key
  }

  return {
    period: domain.rotate === 'never' ? Number.POSITIVE_INFINITY : domain.rotate === 'session' ? 0 : domain.rotate,
    generationAt: (eventMs) => keys.rows.generationAt(eventMs),
    of(value, eventMs, session, raw) {
      // An empty value names nobody, so there is nobody whose row it could stand under.
      if (value === '') return undefined
      const epoch = epochOf(domain.rotate, eventMs, session)
      if (epoch === undefined) return undefined
      // Bytes and texts that look alike are different values.
      const cached = `${keys.rows.generationAt(eventMs)}|${epoch}|${raw === undefined ? 't' : 'b'}|${value}`
      let made = ready.get(cached)
      if (made === undefined) {
        const row = rowFor(keys.rows, domain, value, eventMs)
        if (row === undefined) return undefined
        const bytes = raw ?? Buffer.from(value, 'utf8')
        made = createHmac('sha256', epochKey(epoch)).update(lp(row)).update(lp(bytes)).digest().subarray(0, 16)
        ready.set(cached, made)
      }
      return made
    },
  }
}

/** 32-byte key of one domain and epoch. */
export function pseudonymKey(keys: Pick<PseudonymKeys, 'root' | 'tenant'>, domain: Pick<PseudonymDomain, 'as' | 'output'>, epoch: string): Uint8Array {
  const info = `parapet/v1|pseudonym|${domain.as}|${domain.output}|${epoch}`
  return new Uint8Array(hkdfSync('sha256', keys.root, Buffer.from(keys.tenant, 'utf8'), Buffer.from(info, 'utf8'), 32))
}

/** Epoch label, or undefined when it cannot be told: no valid event time, no session. */
export function epochOf(rotate: Rotate, eventMs: number, session: string): string | undefined {
  if (rotate === 'never') return 'never'
  if (rotate === 'session') return session === '' ? undefined : `s:${session}`
  // A valid event time lies after the epoch; terminals without a clock send zero.
  return eventMs > 0 ? String(Math.floor(eventMs / rotate)) : undefined
}

const NO_ROW = new Uint8Array(0)

/** Only a machine, operator or customer has a row; anything else is framed with an empty one (`lp` of nothing). */
function rowFor(rows: Rows, domain: PseudonymDomain, value: string, eventMs: number): Uint8Array | undefined {
  const { subject } = domain
  return subject === 'machine' || subject === 'operator' || subject === 'customer' ? rows.row(subject, value, domain.as, eventMs) : NO_ROW
}

/** 4-byte big-endian length, then the bytes: so that "ab"+"c" is not "a"+"bc". */
function lp(bytes: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(4 + bytes.length)
  framed.writeUInt32BE(bytes.length, 0)
  framed.set(bytes, 4)
  return framed
}

/**
 * Rows for `filter` and tests, where no key file is at hand: HKDF(root, tenant, "parapet/v1|filter-row|AS|value").
 * A running gateway never uses these: its rows are random and cannot be recomputed from the root.
 */
export function derivedRows(root: Uint8Array, tenant: string, given?: ReadonlyMap<string, Uint8Array>): Rows {
  return {
    generationAt: () => 0,
    row(kind, value, as) {
      if (given !== undefined) return given.get(`${kind}:${value}`)
      const info = `parapet/v1|filter-row|${as}|${value}`
      // Longer than Node's HKDF takes, and than any name: there is no such subject.
      if (Buffer.byteLength(info) > 1_024) return undefined
      return new Uint8Array(hkdfSync('sha256', root, Buffer.from(tenant, 'utf8'), Buffer.from(info, 'utf8'), 32))
    },
  }
}

/** The 8-byte form for uint64 and fixed64 fields: little-endian; zero becomes 1, because zero would read as absent. */
export function pseudonymNumber(pseudonym: Uint8Array): bigint {
  const value = Buffer.from(pseudonym.buffer, pseudonym.byteOffset, 8).readBigUInt64LE(0)
  return value === 0n ? 1n : value
}
