/**
 * The outbox's own copies of what it is given: the caller reuses its buffers. Small ones share a larger piece of memory, which goes
 * when the last of them does.
 */
export class Arena {
  #bytes = Buffer.alloc(0)
  #used = 0

  /** @param isAlone  what outlives its neighbours would hold on to all of them */
  keep(bytes: Uint8Array, isAlone: boolean): Buffer {
    const length = bytes.length
    if (isAlone || length > ARENA_BYTES / 4) return ownBytes(bytes)
    if (this.#used + length > this.#bytes.length) {
      this.#bytes = Buffer.allocUnsafeSlow(ARENA_BYTES)
      this.#used = 0
    }
    const from = this.#used
    this.#used += length
    this.#bytes.set(bytes, from)
    return this.#bytes.subarray(from, this.#used)
  }
}

const ARENA_BYTES = 32_768

function ownBytes(bytes: Uint8Array): Buffer {
  const own = Buffer.allocUnsafeSlow(bytes.length)
  own.set(bytes)
  return own
}
