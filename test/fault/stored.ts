/**
 * Reads the outbox file of a gateway as somebody does who holds root.key: with nothing but the formats that are written down (RFC 5869,
 * AES-256-GCM, AES-256 in counter mode) and none of the program's own code, so that what is found there does not depend on it.
 */
import { createDecipheriv, hkdfSync } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

export interface StoredOutbox {
  readonly db: DatabaseSync
  /** A payload or variant of a row with its column `sealed`, as it was given. */
  plain(bytes: unknown, sealed: unknown): Uint8Array
  /** Whom the records of an envelope are about. */
  subjectsOf(envelope: unknown): readonly string[]
  close(): void
}

/** A copy of the outbox of a data folder, that of a stopped or killed gateway. */
export function storedOutbox(data: string, tenant: string): StoredOutbox {
  const copy = mkdtempSync(join(tmpdir(), 'parapet-stored-'))
  for (const name of ['outbox.db', 'outbox.db-wal']) if (existsSync(join(data, name))) cpSync(join(data, name), join(copy, name))
  const db = new DatabaseSync(join(copy, 'outbox.db'))
  const secrets = new Map(db.prepare('SELECT number, wrapped FROM seals').all().map((row) => [Number(row['number']), unwrap(data, tenant, Number(row['number']), row['wrapped'] as Uint8Array)]))

  function plain(bytes: unknown, sealed: unknown): Uint8Array {
    if (!(bytes instanceof Uint8Array) || sealed === 0 || sealed === null) return bytes instanceof Uint8Array ? bytes : new Uint8Array(0)
    const secret = secrets.get(Number(sealed))
    if (secret === undefined) throw new Error(`the outbox has no key ${String(sealed)}`)
    const length = bytes.length - 22
    const counter = Buffer.alloc(16)
    counter.set(bytes.subarray(length, length + 6), 10)
    return createDecipheriv('aes-256-ctr', Buffer.from(hkdfSync('sha256', secret, '', 'parapet/v1|at-rest|cipher', 32)), counter).update(bytes.subarray(0, length))
  }

  return {
    db,
    plain,
    subjectsOf(envelope) {
      const row = db.prepare('SELECT subjects, sealed, body FROM envelopes WHERE envelope = ?').get(Number(envelope))
      if (row === undefined) return []
      if (row['sealed'] === null) return JSON.parse(String(row['subjects'])) as string[]
      return (JSON.parse(Buffer.from(plain(row['body'], row['sealed'])).toString('utf8')) as unknown[])[8] as string[]
    },
    close() {
      db.close()
      rmSync(copy, { recursive: true, force: true })
    },
  }
}

function unwrap(data: string, tenant: string, number: number, wrapped: Uint8Array): Uint8Array {
  const roots = readFileSync(join(data, 'root.key'), 'utf8').split('\n').filter((line) => line !== '' && !/^(#|pseudonym)/.test(line)).map((line) => Buffer.from(line.replace('storage ', ''), 'base64url'))
  for (const root of roots) {
    const decipher = createDecipheriv('aes-256-gcm', Buffer.from(hkdfSync('sha256', root, tenant, 'parapet/v1|wrap|storage', 32)), wrapped.subarray(0, 12))
    decipher.setAAD(framed('parapet/v1|storage', `outbox ${number}`))
    decipher.setAuthTag(wrapped.subarray(-16))
    try {
      return Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()])
    } catch {
      // Wrapped under another one.
    }
  }
  throw new Error('no key of root.key opens the outbox')
}

function framed(...parts: readonly string[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(part.length)
    return [length, Buffer.from(part)]
  }))
}
