/**
 * A password for a terminal or recipient that has no certificate. It is made by us, shown once, and only its scrypt record is kept.
 */
import { randomBytes, scrypt } from 'node:crypto'

export interface Credential {
  /** 24 random bytes as base64url, 32 characters. */
  readonly password: string
  /** `scrypt$N$r$p$salt$hash`, salt and hash as base64url. */
  readonly record: string
}

/** [RFC 7914] N = 2^14, r = 8, p = 1: 16 MiB and some 50 ms for one check, off the main thread. */
const COST = { N: 16_384, r: 8, p: 1 } as const

export async function makeCredential(): Promise<Credential> {
  const password = randomBytes(24).toString('base64url')
  const salt = randomBytes(16)
  const hash = await new Promise<Buffer>((resolve, reject) => {
    scrypt(password, salt, 32, COST, (error, key) => (error === null ? resolve(key) : reject(error)))
  })
  return { password, record: `scrypt$${COST.N}$${COST.r}$${COST.p}$${salt.toString('base64url')}$${hash.toString('base64url')}` }
}
