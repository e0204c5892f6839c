/**
 * The way out to a destination that the gateway file does not name any more: a bridge that was removed. What still waits for it is
 * done with, counted; other destinations of the same records are not concerned.
 */
import type { OutboxRecord, Outlet } from '../domain/ports.ts'

/** @param onRecord  called for each before it is given up */
export function goneOutlet(name: string, onRecord: (record: OutboxRecord) => void): Outlet {
  return {
    name,
    send(record, done) {
      onRecord(record)
      done(undefined)
    },
    async cut() {
      return { dropped: 0, onTheWire: 0 }
    },
    async close() {
      // It holds nothing.
    },
  }
}
