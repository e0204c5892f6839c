/**
 * A person's consent read from the ledger, purpose by purpose: what `consent show` prints, and what the decision table asks
 * when an answer needs more than its bits (late messages, expiry).
 */
import type { ConsentSource, ConsentState } from '../domain/consent.ts'
import type { PurposeId } from '../domain/ids.ts'
import type { ConsentRow, StoredEvent } from '../domain/ports.ts'

export type History = Map<PurposeId, ConsentRow>

/** A purpose became wider at a sequence: every yes before it is invalidated (rules-language 3.3). */
export interface Widening {
  readonly seq: number
  readonly purpose: PurposeId
  readonly atMs: number
}

/** Plays a person's events and the widenings in the order of their sequence numbers; times decide nothing here. */
export function historyOf(events: Iterable<StoredEvent>, widenings: readonly Widening[]): History {
  const history: History = new Map()
  let next = 0
  for (const event of events) {
    while (next < widenings.length && widenings[next]!.seq < event.seq) invalidate(history, widenings[next++]!)
    play(history, event)
  }
  while (next < widenings.length) invalidate(history, widenings[next++]!)
  return history
}

export function isYes(state: ConsentState): boolean {
  return state === 'granted' || state === 'local_only'
}

export function isNo(state: ConsentState): boolean {
  return state === 'refused' || state === 'withdrawn' || state === 'objected'
}

/** The state a consent event leads to. Asking again changes no answer: neither a yes nor a no. */
export function stateAfter(previous: ConsentState, asked: ConsentState): ConsentState {
  if (asked === 'requested') return isYes(previous) || isNo(previous) ? previous : 'requested'
  // Only a yes can expire or be invalidated.
  if (asked === 'expired' || asked === 'invalidated') return isYes(previous) ? asked : previous
  return asked
}

function play(history: History, event: StoredEvent): void {
  if (event.body === undefined || !event.type.startsWith('consent.')) return
  const purpose = event.body['purpose'] as PurposeId
  const before = history.get(purpose)
  const state = stateAfter(before?.state ?? 'not_set', event.type.slice('consent.'.length) as ConsentState)
  if (before !== undefined && state === before.state && event.type === 'consent.requested') return
  history.set(purpose, {
    purpose,
    state,
    sinceMs: Number(event.body['at']),
    expiresAtMs: isYes(state) ? (event.body['expires_at'] as number | undefined) : undefined,
    policy: event.body['policy'] as string | undefined,
    source: event.body['source'] as ConsentSource | undefined,
    seq: event.seq,
  })
}

function invalidate(history: History, widening: Widening): void {
  const before = history.get(widening.purpose)
  if (before === undefined || !isYes(before.state)) return
  history.set(widening.purpose, { ...before, state: 'invalidated', sinceMs: widening.atMs, expiresAtMs: undefined, seq: widening.seq })
}
