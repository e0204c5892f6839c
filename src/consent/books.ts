/** Opens everything of this room over one data folder, in the order in which one part needs the other. */
import type { OperatorId } from '../domain/ids.ts'
import type { Clock, Random, SubjectStore } from '../domain/ports.ts'
import type { Policy } from '../domain/policy.ts'
import { SqliteIdentities } from './identities.ts'
import { SqliteLedger } from './ledger.ts'
import type { RootKey } from './root.ts'
import { SessionTracks } from './sessions.ts'
import { ConsentTable, type ConsentTableOptions } from './state.ts'
import { SqliteSubjectKeys } from './subjects.ts'

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
  /** Everything here that holds something about a person, in the order of erasing: the keys first, then what they end. */
  readonly stores: readonly SubjectStore[]
  usePolicy(policy: Policy): void
  /** Expiry, old sessions. Every minute. */
  sweep(nowMs: number): void
  close(): void
}

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
    })
    const sessions = new SessionTracks({ ledger, states, clock, ...random })
    return {
      keys, identities, ledger, states, sessions,
      stores: [keys, identities, ledger, sessions, states],
      usePolicy(policy) {
        states.usePolicy(policy)
        sessions.useRules(policy.subject)
      },
      sweep(nowMs) {
        states.sweep(nowMs)
        sessions.sweep(nowMs)
      },
      close() {
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
