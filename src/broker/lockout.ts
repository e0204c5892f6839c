/**
 * Who guesses passwords waits: five wrong ones and the next are not even looked at, for a minute, then two, then four, to an hour.
 * What is open stays open, and what proves itself by a certificate guesses nothing and is never held up.
 */
import { isIP } from 'node:net'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'

/** [IEC 62443-4-2 CR 1.11] */
export interface Lockout {
  /** Whether an attempt is refused without a look at its password. */
  locked(identity: string, address: string | undefined): boolean
  /** Notes a failure. True when it locks somebody out. */
  failed(identity: string, address: string | undefined): boolean
  passed(identity: string, address: string | undefined): void
}

export interface LockoutOptions {
  readonly monotonic: () => number
  readonly failures?: number | undefined
  readonly lockMs?: number | undefined
  readonly lockMaxMs?: number | undefined
  /** Entries of each table; the one seen longest ago is forgotten first. */
  readonly entries?: number | undefined
}

/**
 * Counts three things: an identity from one address, an identity from wherever, and an address. An address counts identities, not
 * attempts: a depot behind one address is not shut out by the one terminal in it that was given a wrong password. Who came in before
 * from an address is held up only by failures of the same identity from the same address, not by what others try elsewhere or beside it.
 */
export function createLockout(options: LockoutOptions): Lockout {
  const { monotonic, failures = LIMITS.loginFailures, lockMs = LIMITS.loginLockMs, lockMaxMs = LIMITS.loginLockMaxMs, entries = LIMITS.loginEntries } = options
  const pairs = new LRUCache<string, Entry>({ max: entries })
  const identities = new LRUCache<string, Entry>({ max: entries })
  const addresses = new LRUCache<string, Entry>({ max: entries })
  const known = new LRUCache<string, true>({ max: entries })

  function isLocked(entry: Entry | undefined): boolean {
    return entry !== undefined && monotonic() < entry.untilMs
  }

  /** @param who  the same one counts once */
  function fail(table: LRUCache<string, Entry>, key: string, who: string | undefined): boolean {
    const now = monotonic()
    let entry = table.get(key)
    if (entry === undefined || now - entry.lastMs > lockMaxMs * 2) table.set(key, (entry = { failures: 0, seen: new Set(), locks: 0, untilMs: 0, lastMs: now }))
    entry.lastMs = now
    if (who === undefined) entry.failures++
    else entry.failures = entry.seen.add(who).size
    if (entry.failures < failures) return false
    entry.untilMs = now + Math.min(lockMs * 2 ** entry.locks, lockMaxMs)
    entry.locks++
    entry.failures = 0
    entry.seen.clear()
    return true
  }

  return {
    locked(identity, from) {
      const address = neighbourhood(from)
      const pair = `${address}\u0000${identity}`
      if (isLocked(pairs.get(pair))) return true
      return !known.has(pair) && (isLocked(identities.get(identity)) || isLocked(addresses.get(address)))
    },
    failed(identity, from) {
      const address = neighbourhood(from)
      const all = [fail(pairs, `${address}\u0000${identity}`, undefined), fail(identities, identity, undefined), fail(addresses, address, identity)]
      return all.includes(true)
    },
    passed(identity, from) {
      const pair = `${neighbourhood(from)}\u0000${identity}`
      known.set(pair, true)
      pairs.delete(pair)
    },
  }
}

interface Entry {
  failures: number
  readonly seen: Set<string>
  locks: number
  untilMs: number
  lastMs: number
}

/** An IPv6 host has a whole /64 to itself, so that is what counts as one address. [RFC 4291, 2.5.4] */
export function neighbourhood(address: string | undefined): string {
  const plain = (address ?? '').replace(/^::ffff:/i, '').replace(/%.*$/, '')
  if (isIP(plain) !== 6) return plain
  const [head = '', tail] = plain.split('::')
  const groups = head.split(':').filter((group) => group !== '')
  const absent = tail === undefined ? 0 : 8 - groups.length - tail.split(':').filter((group) => group !== '').length
  return [...groups, ...Array.from({ length: absent }, () => '0'), ...(tail ?? '').split(':')].slice(0, 4).join(':')
}
