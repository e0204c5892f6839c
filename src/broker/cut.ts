/**
 * What a withdrawal, an erasure or an expiry does at the recipients' broker [G4]: first everything that it covers is let go of, at
 * once; then the connections on which some of it is still out are reset.
 */
import type { PublishPacket } from 'aedes'
import type { Clock, OutboxRecord, PurgeReason } from '../domain/ports.ts'
import { hasMoved, swappedOf } from './handover.ts'
import type { Handover, Handovers } from './handover.ts'
import type { RetainedCopies } from './retained.ts'
import { dropRead, flightsOf } from './subscribers.ts'
import type { Flight, Seat, Subscribers } from './subscribers.ts'

export interface CutParts {
  readonly handovers: Handovers
  readonly retained: RetainedCopies
  readonly subscribers: Subscribers
  readonly seats: () => Iterable<Seat>
  /** A legal hold asks for it: kept by the store, and no variant of it takes its place. */
  readonly isHeld: (record: OutboxRecord) => boolean
  readonly clock: Clock
}

export interface Purged {
  /** Messages that the outbox does not know any more; it counts the others itself. */
  readonly purged: number
  readonly swapped: number
  /** Kept by the store for a legal hold; they never leave. */
  readonly held: number
  /**
   * Waits until what was handed over before has passed and, for a moment, for acknowledgements; then resets the connections that still hold any of
   * it, unwritten or unacknowledged. Resolves with the frames that were out when the purge began: at most so many may have left.
   */
  readonly cut: () => Promise<number>
}

export function purge(parts: CutParts, covers: (record: OutboxRecord) => boolean, reason: PurgeReason): Purged {
  const { handovers, retained, subscribers } = parts
  const gone = new Set<Handover>()
  const instead = new Map<Handover, Buffer>()
  const swaps = reason === 'withdrawal' || reason === 'device_setting'

  function isCovered(handover: Handover): boolean {
    if (!gone.has(handover) && (handover.gone || hasMoved(handover) || covers(handover.record))) {
      handover.gone = true
      gone.add(handover)
    }
    return handover.gone
  }

  /** What becomes of a packet: it stays (undefined), it goes (null), or its payload is replaced. */
  function fate(packet: PublishPacket): Buffer | null | undefined {
    const handover = handovers.of(packet)
    if (handover === undefined) return null
    if (!isCovered(handover)) return undefined
    const variant = handover.swapped ? undefined : handover.variant
    if (!swaps || variant === undefined || variant === null || parts.isHeld(handover.record)) return null
    let other = instead.get(handover)
    if (other === undefined) {
      other = Buffer.from(variant)
      handovers.set(other, swappedOf(handover, other))
      instead.set(handover, other)
    }
    return other
  }

  retained.purge(fate)
  for (const { queue } of subscribers.all()) queue.purge(fate)
  const out = new Set<Flight>()
  for (const seat of parts.seats()) {
    dropRead(seat)
    for (const { handover } of flightsOf(seat)) isCovered(handover)
    for (const flight of flightsOf(seat)) if (gone.has(flight.handover)) out.add(flight)
  }
  const forgotten = [...gone].filter(({ answered }) => answered)
  const held = [...gone].filter(({ frozen }) => frozen).length
  return {
    purged: forgotten.filter((handover) => !instead.has(handover) && !handover.frozen).length,
    swapped: forgotten.filter((handover) => instead.has(handover)).length,
    held,
    cut: () => reset(parts, gone, out),
  }
}

async function reset({ seats, clock }: CutParts, gone: ReadonlySet<Handover>, out: Set<Flight>): Promise<number> {
  const until = clock.monotonic() + CUT_MS
  let holding: Seat[] = []
  for (let turn = 1; turn <= 2 || (holding.length > 0 && turn <= CUT_TURNS && clock.monotonic() < until); turn++) {
    await new Promise((resolve) => void setImmediate(resolve))
    holding = []
    for (const seat of seats()) {
      dropRead(seat)
      const mine = [...flightsOf(seat)].filter(({ handover }) => gone.has(handover))
      for (const flight of mine) out.add(flight)
      if (mine.length > 0) holding.push(seat)
    }
  }
  for (const { guard } of holding) guard.kill('withdrawal')
  return out.size
}

/**
 * How long a purge waits for acknowledgements before it resets connections: at most so many turns of the event loop, and so long. A reset
 * is dearer than the wait: all that was on that connection is sent again, and who withdraws next waits for that.
 */
const CUT_TURNS = 200
const CUT_MS = 20
