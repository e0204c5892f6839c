/**
 * The last verdicts per machine and output, for `why`. Bounded: the machines heard of most recently, and a ring of results each.
 * Holds no value from any message.
 */
import { LRUCache } from 'lru-cache'
import type { StreamId } from './domain/ids.ts'

export interface Remembered {
  readonly atMs: number
  readonly stream: StreamId | undefined
  /** 0 = forwarded, else a verdict code. */
  readonly code: number
}

const RING = 32
const MACHINES = 2_048

export class Recollection {
  readonly #rings = new LRUCache<string, Ring>({ max: MACHINES })

  /** `output` undefined: the verdict holds for all outputs. Overwrites in place; allocates on the first message of a machine only. */
  note(machine: string, stream: StreamId | undefined, output: string | undefined, code: number, atMs: number): void {
    let ring = this.#rings.get(machine)
    if (ring === undefined) {
      ring = { next: 0, entries: Array.from({ length: RING * 4 }, () => ({ atMs: 0, stream: undefined, output: undefined, code: 0 })) }
      this.#rings.set(machine, ring)
    }
    const entry = ring.entries[ring.next] as Entry
    ring.next = (ring.next + 1) % ring.entries.length
    entry.atMs = atMs
    entry.stream = stream
    entry.output = output
    entry.code = code
  }

  /** Oldest first. */
  of(machine: string, output: string): readonly Remembered[] {
    const ring = this.#rings.get(machine)
    if (ring === undefined) return []
    const ordered = [...ring.entries.slice(ring.next), ...ring.entries.slice(0, ring.next)]
    return ordered.filter((one) => one.atMs > 0 && (one.output === undefined || one.output === output)).slice(-RING).map(({ atMs, stream, code }) => ({ atMs, stream, code }))
  }
}

interface Ring {
  next: number
  readonly entries: Entry[]
}

interface Entry {
  atMs: number
  stream: StreamId | undefined
  output: string | undefined
  code: number
}
