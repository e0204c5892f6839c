/**
 * Retained copies: the last message of each topic, for outputs that ask for it, per recipient.
 */
import type { PublishPacket } from 'aedes'
import type { OutputId } from '../domain/ids.ts'
import type { OutboxRecord, SessionStore } from '../domain/ports.ts'
import type { Count } from './counts.ts'
import { recordOf } from './handover.ts'
import { filterMatches } from './topics.ts'
import type { FateOf } from './waiting.ts'

export class RetainedCopies {
  readonly #copies = new Map<string, { readonly packet: PublishPacket; readonly record: OutboxRecord }>()
  readonly #max: number
  readonly #count: Count
  readonly #store: SessionStore | undefined
  readonly #lost: (packet: PublishPacket) => void

  /** @param lost  a copy is about to go, other than for a newer one */
  constructor(max: number, count: Count, store: SessionStore | undefined, lost: (packet: PublishPacket) => void) {
    this.#max = max
    this.#count = count
    this.#store = store
    this.#lost = lost
  }

  set(record: OutboxRecord, packet: PublishPacket): void {
    const key = `${record.recipient}/${record.topic}`
    this.#copies.delete(key)
    this.#copies.set(key, { packet, record })
    if (this.#copies.size <= this.#max) return
    this.#drop(this.#copies.keys().next().value!)
    this.#count('deliver.retained_full')
  }

  #drop(key: string): void {
    const copy = this.#copies.get(key)
    if (copy === undefined) return
    this.#lost(copy.packet)
    this.#copies.delete(key)
    this.#store?.unretain(copy.record.recipient, copy.record.topic)
  }

  *matching(filters: readonly string[]): Generator<PublishPacket> {
    for (const { packet } of this.#copies.values()) {
      if (filters.some((filter) => filterMatches(filter, packet.topic))) yield packet
    }
  }

  /** Lets go of the copies of outputs that are no more: nobody could be given them. Returns how many there were. */
  keepOnly(knows: (output: OutputId) => boolean): number {
    const foreign = [...this.#copies].filter(([, { record }]) => !knows(record.output))
    for (const [key] of foreign) this.#drop(key)
    return foreign.length
  }

  purge(fateOf: FateOf): void {
    for (const [key, { packet, record }] of this.#copies) {
      const fate = fateOf(packet)
      if (fate === null) {
        this.#drop(key)
      } else if (fate !== undefined) {
        packet.payload = fate
        this.#store?.retain({ ...recordOf(record), payload: fate, payloadIfWithdrawn: undefined })
      }
    }
  }
}
