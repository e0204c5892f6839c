/**
 * What is told of the ledger: the course of a person's consent, and the clear columns of events, which tell of nobody.
 */
import type { ConsentSource, ConsentState } from './consent.ts'
import type { PurposeId } from './ids.ts'

/** One line of the history: what was said, by whom it came in, and what was in force before and after. */
export interface HistoryEntry {
  readonly seq: number
  /** Number of the event; for an answer, that of the receipt given for it. */
  readonly id: string
  readonly day: string
  readonly type: string
  /** Undefined, with all that follows, when the key of the event was destroyed. */
  readonly atMs: number | undefined
  readonly purpose?: PurposeId
  readonly before?: ConsentState
  readonly after?: ConsentState
  readonly source?: ConsentSource
  /** Who asked: the person, a role of the admin API, or the rules. */
  readonly role?: 'person' | 'privacy' | 'admin' | 'rules'
  /** The token that was used; never a name. */
  readonly by?: string
  /** The policy in force then. */
  readonly policy?: string
  readonly language?: string
  readonly evidence?: string
  readonly expiresAtMs?: number
  readonly givenAtMs?: number
  readonly machine?: string
  readonly country?: string
  /** Who was to get what under the yes, as far as the ledger has it. */
  readonly recipients?: readonly string[]
  /** All that is stored of the person's own event. */
  readonly body?: Readonly<Record<string, unknown>>
}

/** The clear columns of an event, bytes as hex: nothing in it tells of whom, why or where. */
export interface ClearEvent {
  readonly seq: number
  readonly uuid: string
  readonly type: string
  readonly schema: number
  readonly gateway: string
  readonly day: string
  readonly subjectTag: string | undefined
  readonly keyId: string
  readonly prev: string
  readonly hash: string
}
