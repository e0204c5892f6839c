/**
 * The outlet `local`: records go to the recipients' broker of this gateway.
 *
 * What counts as done is the broker's to say, through the port: the record is written to every live subscriber, and safe in the session
 * store (sessions.ts) for every persistent session that is away or has not acknowledged it in time. With nobody there the record is done
 * and counted `no_subscriber`: a missing subscriber must not fill the outbox.
 */
import type { OutboxRecord, Outlet, PurgeSelector } from '../domain/ports.ts'
import { Shelf } from '../domain/shelf.ts'
import { isCut } from './selector.ts'

/** What the local outlet needs of the recipients' broker. */
export interface LocalPort {
  /**
   * Publishes one record. Calls back exactly once: with an error when it is not in every hand it should be in (the outbox then
   * sends it again), else with the number of subscribers that have it. The broker counts each exit with `onDelivered` itself, as
   * it knows the log-ins. Right before it writes it compares `record.revision` with the one at the call.
   */
  publish(record: OutboxRecord, callback: (error: Error | undefined, deliveredTo: number) => void): void
  /** Drops what the selector covers from every queue, resets the sockets that hold covered bytes, resolves when that is so. */
  cut?(selector: PurgeSelector): Promise<{ readonly dropped: number; readonly onTheWire: number }>
}

export interface LocalOptions {
  /** Called for a record that nobody subscribed to: a counter. */
  readonly onNoSubscriber?: (record: OutboxRecord) => void
}

/** Makes the outlet. It keeps no queue: what it holds is what the broker has not answered for. */
export function localOutlet(port: LocalPort, options: LocalOptions = {}): Outlet {
  const held = new Shelf<Held>()
  let sent = 0

  return {
    name: 'local',

    send(record, done) {
      const one: Held = { record, revision: record.revision ?? 0, done }
      const place = ++sent
      held.set(place, one)
      const answer = (error: Error | undefined, deliveredTo: number): void => {
        // Answered already, or cut: the outbox has its answer.
        if (!held.delete(place)) return
        if (error === undefined && deliveredTo === 0) options.onNoSubscriber?.(record)
        done(error)
      }
      try {
        port.publish(record, answer)
      } catch (cause) {
        answer(cause instanceof Error ? cause : new Error('The recipients\' broker failed.'), 0)
      }
    },

    async cut(selector) {
      // The broker swaps and drops in its queues, and still answers for every record: to fail one here would send it a second time.
      if (port.cut !== undefined) return port.cut(selector)
      // A port that cannot look into its queues has let all of them go: on the safe side they count as on the wire.
      let mine = 0
      for (const [place, one] of held) {
        if (!isCut(one.record, one.revision, selector)) continue
        mine++
        held.delete(place)
        // A purged record is gone from the outbox and the answer is ignored; a swapped one is sent again without what was withdrawn.
        one.done(CUT)
      }
      return { dropped: 0, onTheWire: mine }
    },

    async close() {
      for (const one of held.values()) one.done(CLOSED)
      held.clear()
    },
  }
}

interface Held {
  readonly record: OutboxRecord
  readonly revision: number
  readonly done: (error: Error | undefined) => void
}

const CUT = new Error('Cut by a purge.')
const CLOSED = new Error('The outlet is closed.')
