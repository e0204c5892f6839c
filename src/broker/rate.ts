/**
 * How often somebody may: a bucket for each, which fills by the second and empties by the deed.
 */
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'

export interface RateOptions {
  readonly perSecond: number
  /** At once, after a long rest. */
  readonly burst: number
  /** Buckets kept; one that is forgotten is full again. */
  readonly entries?: number | undefined
  readonly monotonic: () => number
}

export class Rate {
  readonly #options: RateOptions
  readonly #buckets: LRUCache<string, Bucket>

  constructor(options: RateOptions) {
    this.#options = options
    this.#buckets = new LRUCache({ max: options.entries ?? LIMITS.loginEntries })
  }

  /** False: too often, and nothing was taken. */
  take(key: string): boolean {
    const { perSecond, burst, monotonic } = this.#options
    const now = monotonic()
    let bucket = this.#buckets.get(key)
    if (bucket === undefined) this.#buckets.set(key, (bucket = { left: burst, atMs: now }))
    bucket.left = Math.min(burst, bucket.left + ((now - bucket.atMs) / 1_000) * perSecond)
    bucket.atMs = now
    if (bucket.left < 1) return false
    bucket.left--
    return true
  }
}

interface Bucket {
  left: number
  atMs: number
}
