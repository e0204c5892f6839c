/** Opens everything of this room over one data folder, in the order in which one part needs the other. */
import { GatewayError } from '../domain/errors.ts'
import type { OperatorId } from '../domain/ids.ts'
import type { Clock, LedgerType, Random, SubjectStore } from '../domain/ports.ts'
import type { Policy } from '../domain/policy.ts'
import { TerminalChoices } from './choices.ts'
import { SqliteIdentities } from './identities.ts'
import { SqliteLedger } from './ledger.ts'
import type { RootKey } from './root.ts'
import { SessionTracks } from './sessions.ts'
import { ConsentTable, type ConsentTableOptions } from './state.ts'
import { SqliteSubjectKeys } from './subjects.ts'

/** [GDPR Art. 17(3)(e), 18(1)] What is kept although its time is over: person -> cases that ask for it. */
export type Holds = ReadonlyMap<OperatorId, ReadonlySet<string>>

export interface BooksOptions extends Pick<ConsentTableOptions, 'scopeOf' | 'wider' | 'onEnded'> {
  /** The data folder; made 0700 when missing. */
  readonly folder: string
  readonly root: RootKey
  readonly tenant: string
  readonly gateway: string
  readonly clock: Clock
  readonly random?: Random
  readonly onDamage?: (reason: string) => void
}

export interface Books {
  readonly keys: SqliteSubjectKeys
  readonly identities: SqliteIdentities
  readonly ledger: SqliteLedger
  readonly states: ConsentTable
  readonly sessions: SessionTracks
  /** What terminals say that their operators chose. */
  readonly choices: TerminalChoices
  readonly holds: Holds
  /**
   * Begins a legal hold: nothing about the person is destroyed until every case is released. Durable and in force when it returns.
   * @throws GatewayError UNKNOWN-OPERATOR, LEDGER-DAMAGED
   */
  hold(subject: OperatorId, caseId: string, by: string | undefined): void
  /** Ends one case. Of what came due meanwhile nothing is destroyed here: whoever releases asks for it again. */
  release(subject: OperatorId, caseId: string, by: string | undefined): void
  /** Everything here that holds something about a person, in the order of erasing: the keys first, then what they end. */
  readonly stores: readonly SubjectStore[]
  usePolicy(policy: Policy): void
  /** Expiry, old sessions. Every minute. */
  sweep(nowMs: number): void
  close(): void
}

/** The newest clock time seen, in keys.db, which is never restored from an ordinary backup. */
const CLOCK_FACT = 'clock'

/**
 * Opens or makes the books. A damaged ledger does not throw (see `ledger.healthy`); unusable keys do.
 * @throws GatewayError of SqliteSubjectKeys and openDatabase
 */
export function openBooks(options: BooksOptions): Books {
  const { folder, root, tenant, gateway, clock } = options
  const random = options.random === undefined ? {} : { random: options.random }
  const keys = new SqliteSubjectKeys({ folder, root, tenant, ...random })
  try {
    const identities = new SqliteIdentities({ folder, keys, clock, ...random })
    const ledger = new SqliteLedger({ folder, keys, gateway, clock, ...random, ...(options.onDamage === undefined ? {} : { onDamage: options.onDamage }) })
    const states = new ConsentTable({
      ledger,
      clock,
      knows: (operator: OperatorId) => identities.knows(operator),
      ...(options.scopeOf === undefined ? {} : { scopeOf: options.scopeOf }),
      ...(options.wider === undefined ? {} : { wider: options.wider }),
      ...(options.onEnded === undefined ? {} : { onEnded: options.onEnded }),
      seenMs: Number(keys.fact(CLOCK_FACT) ?? '0'),
    })
    const sessions = new SessionTracks({ ledger, states, clock, ...random })
    const stores: readonly SubjectStore[] = [keys, identities, ledger, sessions, states]
    const holds = new Map<OperatorId, Set<string>>()
    const applyHold = (subject: OperatorId, caseId: string, isPlaced: boolean): void => {
      const cases = holds.get(subject) ?? new Set()
      if (isPlaced) cases.add(caseId)
      else cases.delete(caseId)
      if (cases.size === 0) holds.delete(subject)
      else holds.set(subject, cases)
    }
    const put = (subject: OperatorId): void => {
      const [first] = holds.get(subject) ?? []
      for (const store of stores) store.hold(subject, first)
    }
    const note = (type: LedgerType, subject: OperatorId, caseId: string, by: string | undefined): void => {
      ledger.append({ type, subject: { type: 'operator', id: subject }, body: { operator: subject, case: caseId, by } })
      applyHold(subject, caseId, type === 'hold.placed')
      put(subject)
    }
    // A hold lasts longer than a process: what the ledger says of it is told to everybody again.
    const named = new Set<OperatorId>()
    for (const { type, body } of ledger.healthy ? ledger.events({ type: ['hold.placed', 'hold.released'] }) : []) {
      if (body === undefined) continue
      named.add(body['operator'] as OperatorId)
      applyHold(body['operator'] as OperatorId, String(body['case']), type === 'hold.placed')
    }
    for (const subject of named) put(subject)
    let clockMs = states.seenMs
    const noteClock = (): void => {
      if (states.seenMs <= clockMs) return
      clockMs = states.seenMs
      try {
        keys.setFact(CLOCK_FACT, String(clockMs))
      } catch {
        // A full disk: what has expired is in the ledger, and is written there with every end that is noticed.
      }
    }
    return {
      keys, identities, ledger, states, sessions, stores, holds,
      choices: new TerminalChoices({ ledger, states, sessions, identities }),
      hold: (subject, caseId, by) => {
        if (!identities.knows(subject)) throw new GatewayError('UNKNOWN-OPERATOR', 'This operator is not registered.', 'Ids are those of operators.yaml, never a card or PIN.')
        note('hold.placed', subject, caseId, by)
      },
      release: (subject, caseId, by) => {
        if (holds.get(subject)?.has(caseId) === true) note('hold.released', subject, caseId, by)
      },
      usePolicy(policy) {
        states.usePolicy(policy)
        sessions.useRules(policy.subject)
      },
      sweep(nowMs) {
        states.sweep(nowMs)
        sessions.sweep(nowMs)
        noteClock()
      },
      close() {
        noteClock()
        ledger.close()
        identities.close()
        keys.close()
      },
    }
  } catch (error) {
    keys.close()
    throw error
  }
}
