/**
 * What lies in the outbox file, in memory: per stored record the number of its envelope, 4 bytes each, in chunks by sequence
 * number. It takes the place of two database indexes (by envelope and by expiry), each of which costs about 0.4 us on every
 * insert and delete, where a purge that walks a million of these numbers costs about 10 ms and is rare.
 */
export class Stock {
  readonly #chunks = new Map<number, Chunk>()
  #newest: Chunk | undefined
  #size = 0

  /** Records stored. */
  get size(): number {
    return this.#size
  }

  /** @param envelope  > 0 */
  add(seq: number, envelope: number, expiresAtMs: number | undefined): void {
    const chunk = this.#chunkFor(seq)
    const slot = seq % CHUNK
    if (chunk.envelopes[slot] === 0) {
      chunk.live++
      this.#size++
    }
    chunk.envelopes[slot] = envelope
    if (expiresAtMs !== undefined && expiresAtMs < chunk.expiresAtMs) chunk.expiresAtMs = expiresAtMs
  }

  /** False when there was no such record. */
  remove(seq: number): boolean {
    const number = Math.floor(seq / CHUNK)
    const chunk = this.#newest?.number === number ? this.#newest : this.#chunks.get(number)
    const slot = seq % CHUNK
    if (chunk === undefined || chunk.envelopes[slot] === 0) return false
    chunk.envelopes[slot] = 0
    this.#size--
    if (--chunk.live === 0) {
      chunk.expiresAtMs = Infinity
      // The newest chunk is about to be filled again: kept, so that a nearly empty outbox allocates nothing.
      if (chunk !== this.#newest) this.#chunks.delete(number)
    }
    return true
  }

  /** Sequence numbers, ascending, of the records that lie in one of these envelopes. */
  inEnvelopes(envelopes: ReadonlySet<number>): number[] {
    const found: number[] = []
    if (envelopes.size === 0) return found
    for (const chunk of this.#ascending()) {
      for (let slot = 0; slot < CHUNK; slot++) {
        const envelope = chunk.envelopes[slot]!
        if (envelope !== 0 && envelopes.has(envelope)) found.push(chunk.number * CHUNK + slot)
      }
    }
    return found
  }

  /** Records behind a sequence number whose envelope passes. */
  count(after: number, passes: (envelope: number) => boolean): number {
    let found = 0
    for (const { number, envelopes, live } of this.#chunks.values()) {
      if (live === 0 || (number + 1) * CHUNK <= after) continue
      for (let slot = Math.max(0, after + 1 - number * CHUNK); slot < CHUNK; slot++) {
        const envelope = envelopes[slot]!
        if (envelope !== 0 && passes(envelope)) found++
      }
    }
    return found
  }

  /** Envelopes that some record lies in. */
  envelopes(): Set<number> {
    const found = new Set<number>()
    for (const chunk of this.#chunks.values()) {
      if (chunk.live === 0) continue
      let last = 0
      for (const envelope of chunk.envelopes) {
        if (envelope === last) continue
        last = envelope
        if (envelope !== 0) found.add(envelope)
      }
    }
    return found
  }

  /** Ranges [from, to] of sequence numbers in which something may have expired. */
  expired(atMs: number): { from: number; to: number }[] {
    return this.#ascending().filter((chunk) => chunk.live > 0 && chunk.expiresAtMs <= atMs)
      .map((chunk) => ({ from: chunk.number * CHUNK, to: chunk.number * CHUNK + CHUNK - 1 }))
  }

  /** Tells when the next record of a range (as `expired` gave it) expires; undefined = none does. */
  expiresNext(from: number, atMs: number | undefined): void {
    const chunk = this.#chunks.get(Math.floor(from / CHUNK))
    if (chunk !== undefined) chunk.expiresAtMs = atMs ?? Infinity
  }

  #chunkFor(seq: number): Chunk {
    const number = Math.floor(seq / CHUNK)
    if (this.#newest?.number === number) return this.#newest
    let chunk = this.#chunks.get(number)
    if (chunk === undefined) {
      chunk = { number, envelopes: new Uint32Array(CHUNK), live: 0, expiresAtMs: Infinity }
      this.#chunks.set(number, chunk)
      const before = this.#newest
      if (before === undefined || before.number < number) {
        if (before !== undefined && before.live === 0) this.#chunks.delete(before.number)
        this.#newest = chunk
      }
    }
    return chunk
  }

  #ascending(): Chunk[] {
    return [...this.#chunks.values()].sort((one, other) => one.number - other.number)
  }
}

/** 16 KiB of envelope numbers. */
const CHUNK = 4_096

interface Chunk {
  readonly number: number
  /** By seq % CHUNK; 0 = nothing stored there. */
  readonly envelopes: Uint32Array
  live: number
  /** Not later than the earliest expiry in the chunk; Infinity = nothing expires. */
  expiresAtMs: number
}
