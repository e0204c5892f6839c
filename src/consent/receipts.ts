/** The answer to a consent change: what the person can keep and later hold against the ledger. */
import type { ConsentChange, ConsentReceipt, Ledger } from '../domain/ports.ts'
import type { Changed } from './state.ts'

/** What a withdrawal did to messages on their way (G4). */
export interface Cut {
  readonly purged: number
  readonly swapped: number
  readonly onTheWire: number
}

const NOTHING_CUT: Cut = { purged: 0, swapped: 0, onTheWire: 0 }

/**
 * The receipt of a change that is durable and in force. Its number is the uuid of the ledger event, so that it can be
 * looked up; times are ISO 8601 UTC.
 */
export function receiptOf(ledger: Ledger, change: ConsentChange, changed: Changed, cut: Cut = NOTHING_CUT): ConsentReceipt {
  const subject = { type: 'operator', id: change.operator } as const
  let receipt = ''
  for (const event of ledger.events({ subject, afterSeq: changed.seq - 1 })) {
    if (event.seq === changed.seq) receipt = event.uuid
    break
  }
  return {
    receipt,
    operator: change.operator,
    purpose: change.purpose,
    state: changed.state,
    seq: changed.seq,
    at: new Date(changed.atMs).toISOString(),
    policy: changed.policy,
    purged: cut.purged,
    swapped: cut.swapped,
    onTheWire: cut.onTheWire,
  }
}
