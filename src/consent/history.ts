/**
 * A person's consent read from the ledger, purpose by purpose: what `consent show` prints, and what the decision table asks
 * when an answer needs more than its bits (late messages, expiry).
 */
import type { ConsentSource, ConsentState } from '../domain/consent.ts'
import type { MachineId, PurposeId } from '../domain/ids.ts'
import type { ConsentRow, StoredEvent } from '../domain/ports.ts'

export type History = Map<PurposeId, ConsentRow>

/**
 * What a change of the rules did to everybody's answers at a sequence: the purpose became wider, so every yes before it is
 * invalidated (rules-language 3.3); or it stands for a replaced one, so every no said to that is one to it.
 */
export interface RulesTurn {
  readonly seq: number
  readonly purpose: PurposeId
  readonly atMs: number
  /** The purpose whose refusals are taken over; undefined = a widening. */
  readonly replaced?: PurposeId
}

/** Plays a person's events and the turns of the rules in the order of their sequence numbers; times decide nothing here. */
export function historyOf(events: Iterable<StoredEvent>, turns: readonly RulesTurn[]): History {
  const history: History = new Map()
  let next = 0
  for (const event of events) {
    while (next < turns.length && turns[next]!.seq < event.seq) turn(history, turns[next++]!)
    play(history, event)
  }
  while (next < turns.length) turn(history, turns[next++]!)
  return history
}

/**
 * Whether a no to a replaced purpose is one to its heir: always, unless the person answered the heir itself later.
 * @param own  the answer to the heir
 */
export function passesOn(replaced: ConsentRow | undefined, own: ConsentRow | undefined): boolean {
  if (replaced === undefined || !isNo(replaced.state)) return false
  return own === undefined || (!isNo(own.state) && !(isYes(own.state) && own.seq > replaced.seq))
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

/** One event more, behind all that the history has. */
export function play(history: History, event: Pick<StoredEvent, 'seq' | 'type' | 'body'>): void {
  if (event.body === undefined || !event.type.startsWith('consent.')) return
  const purpose = event.body['purpose'] as PurposeId
  const before = history.get(purpose)
  const state = stateAfter(before?.state ?? 'not_set', event.type.slice('consent.'.length) as ConsentState)
  if (before !== undefined && state === before.state && event.type === 'consent.requested') return
  const at = Number(event.body['at'])
  history.set(purpose, {
    purpose,
    state,
    sinceMs: at,
    // A grant that is narrowed to the site goes on without a break there.
    coversMs: !isYes(state) ? undefined : state === 'local_only' && before?.state === 'granted' ? before.coversMs : at,
    expiresAtMs: isYes(state) ? (event.body['expires_at'] as number | undefined) : undefined,
    policy: event.body['policy'] as string | undefined,
    source: event.body['source'] as ConsentSource | undefined,
    seq: event.seq,
    machine: event.body['machine'] as MachineId | undefined,
  })
}

function turn(history: History, { seq, purpose, atMs, replaced }: RulesTurn): void {
  const own = history.get(purpose)
  if (replaced !== undefined) {
    const before = history.get(replaced)
    if (before !== undefined && passesOn(before, own)) history.set(purpose, { ...before, purpose, seq, inheritedFrom: replaced })
  } else if (own !== undefined && isYes(own.state)) {
    history.set(purpose, { ...own, state: 'invalidated', sinceMs: atMs, coversMs: undefined, expiresAtMs: undefined, seq })
  }
}
