/**
 * Work beside the data path: it is done in a later turn, so that no message waits for it, within a share of the processor's time. What
 * comes when too much waits already, or the share of the second is used up, is passed over.
 */
import { LIMITS } from '../domain/limits.ts'

export interface BacklogParts<Item> {
  readonly monotonic: () => number
  readonly work: (item: Item) => void
  /** The work threw: nothing more is done. */
  readonly failed: (error: unknown) => void
  /** Calls back in a later turn; tests call back at once. */
  readonly defer?: ((work: () => void) => void) | undefined
}

export class Backlog<Item> {
  readonly #parts: BacklogParts<Item>
  readonly #waiting: Item[] = []
  #isDue = false
  #isClosed = false
  #secondBegan = Number.NEGATIVE_INFINITY
  #usedMs = 0
  #taken = 0

  constructor(parts: BacklogParts<Item>) {
    this.#parts = parts
  }

  /** Whether an item would be taken now; asked before it is copied. */
  get hasRoom(): boolean {
    const now = this.#parts.monotonic()
    if (now - this.#secondBegan >= 1_000) {
      this.#secondBegan = now
      this.#usedMs = 0
      this.#taken = 0
    }
    return !this.#isClosed && this.#waiting.length < LIMITS.watchWaiting && (this.#usedMs < LIMITS.watchMsPerSecond || this.#taken < LIMITS.watchLeast)
  }

  /** Puts an item behind the others; only while there is room. */
  add(item: Item): void {
    this.#taken++
    this.#waiting.push(item)
    this.#arrange()
  }

  /** Takes out what waits and answers to something. */
  drop(which: (item: Item) => boolean): void {
    const kept = this.#waiting.filter((item) => !which(item))
    this.#waiting.splice(0, this.#waiting.length, ...kept)
  }

  close(): void {
    this.#isClosed = true
    this.#waiting.length = 0
  }

  #arrange(): void {
    if (this.#isDue || this.#waiting.length === 0) return
    this.#isDue = true
    ;(this.#parts.defer ?? setImmediate)(() => this.#one())
  }

  /** One item a turn: what a message needs comes in between. */
  #one(): void {
    this.#isDue = false
    const item = this.#waiting.shift()
    if (item === undefined || this.#isClosed) return
    const began = this.#parts.monotonic()
    try {
      this.#parts.work(item)
    } catch (error) {
      this.close()
      this.#parts.failed(error)
      return
    }
    this.#usedMs += this.#parts.monotonic() - began
    this.#arrange()
  }
}
