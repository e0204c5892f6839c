/**
 * How many bytes wait, in all and per output, and what each may take. [G6]
 *
 * The quota of the outbox has three parts: an output may use its share (half of the quota unless the rules give it another), so that a
 * dead destination of one does not take the room of all; the last tenth is for safety and legal records alone; at its bound an output
 * either takes nothing more, and the terminal keeps the message, or lets its oldest records go (`at_quota: drop_oldest`), counted.
 */
import type { OutputId } from '../domain/ids.ts'
import type { OutboxRecord } from '../domain/ports.ts'

/** What the rules say of one output; undefined = a share by default, and `wait`. */
export interface Share {
  readonly bytes: number | undefined
  readonly dropOldest: boolean
}

export class Room {
  readonly #quota: number
  readonly #shareOf: (output: OutputId) => Share | undefined
  readonly #byOutput = new Map<OutputId, number>()
  total = 0

  constructor(quota: number, shareOf: (output: OutputId) => Share | undefined) {
    this.#quota = quota
    this.#shareOf = shareOf
  }

  /** @param bytes  more, or less when negative; `output` undefined = nobody knows any more whose they were */
  charge(output: OutputId | undefined, bytes: number): void {
    this.total += bytes
    if (output !== undefined) this.#byOutput.set(output, (this.#byOutput.get(output) ?? 0) + bytes)
  }

  of(output: OutputId): number {
    return this.#byOutput.get(output) ?? 0
  }

  /** Whether so many bytes of an output fit now, beside others that are about to come. */
  fits(output: OutputId, storageClass: OutboxRecord['storageClass'], bytes: number, besides = 0): boolean {
    const total = this.total + besides + bytes
    if (total > this.#quota) return false
    if (storageClass !== 'ordinary') return true
    return total <= this.#quota * (1 - RESERVE) && this.of(output) + bytes <= this.share(output)
  }

  /** Bytes that must go of an output's oldest records before so many more fit; 0 when it is not one that lets them go, or all of them would not do. */
  over(output: OutputId, bytes: number, besides = 0): number {
    if (this.#shareOf(output)?.dropOldest !== true) return 0
    const share = this.share(output)
    const over = Math.max(this.of(output) + bytes - share, this.total + besides + bytes - this.#quota * (1 - RESERVE))
    // A little more than is needed now, so that not every record is a transaction of its own.
    return over <= 0 || this.of(output) < over ? 0 : Math.min(this.of(output), over + share * SPARE)
  }

  share(output: OutputId): number {
    return Math.min(this.#shareOf(output)?.bytes ?? this.#quota * SHARE, this.#quota)
  }
}

const SHARE = 0.5
const RESERVE = 0.1
const SPARE = 0.05
