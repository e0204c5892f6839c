/**
 * Puts a rotated root key to use. `parapet keys rotate` changes the key file alone; the next start of the gateway wraps anew what the
 * former key wrapped, writes down in the ledger that it did, and forgets the former key. Each step may be the last before a kill: the
 * next start finds the file as it was and goes on.
 */
import { rmSync } from 'node:fs'
import type { SqliteLedger } from './ledger.ts'
import { forgetFormer, type RootKey } from './root.ts'
import type { SqliteSubjectKeys } from './subjects.ts'

export interface RotationParts {
  readonly keys: SqliteSubjectKeys
  readonly ledger: SqliteLedger
  readonly root: RootKey
  /** Of the root key file. */
  readonly path: string
}

export interface Rotation {
  /** What keys.db had wrapped under a former key. */
  readonly rewrapped: number
  /** Which keys are new since the last start. */
  readonly changed: readonly RootUse[]
  /** Why the former keys are still in the file; undefined when they are not. */
  readonly kept: unknown
}

export type RootUse = 'storage' | 'pseudonyms'

/**
 * To be called after everything else that was sealed under the root key has been opened, and wrapped anew, by its owner (the outbox).
 * A damaged ledger takes no entry: then the former keys stay until it does.
 */
export function settleRotation({ keys, ledger, root, path }: RotationParts): Rotation {
  const rewrapped = root.former.length === 0 ? 0 : keys.rewrap()
  // A data folder of an earlier version does not say which key it was used with last.
  const oldest = root.former.at(-1)?.id
  const now: Readonly<Record<RootUse, string>> = { storage: root.id, pseudonyms: root.pseudonymId }
  const changed: RootUse[] = []
  for (const use of ['storage', 'pseudonyms'] as const) {
    const known = keys.fact(`key-${use}`)
    const before = known ?? oldest ?? now[use]
    if (known === now[use]) continue
    if (!ledger.healthy) return { rewrapped, changed, kept: root.former.length === 0 ? undefined : 'ledger' }
    if (before !== now[use]) {
      note(ledger, use, before, now[use])
      changed.push(use)
    }
    keys.setFact(`key-${use}`, now[use])
  }
  try {
    // What a kill left of a file that was about to take the place of the old one.
    rmSync(`${path}.new`, { force: true })
    forgetFormer(path, root)
    return { rewrapped, changed, kept: undefined }
  } catch (error) {
    // A folder that is mounted read-only: everything is wrapped anew, and the former keys open nothing of it.
    return { rewrapped, changed, kept: error }
  }
}

/** Once for each change: a kill may have come between the entry and the fact. */
function note(ledger: SqliteLedger, use: RootUse, from: string, to: string): void {
  let last: Readonly<Record<string, unknown>> | undefined
  for (const { body } of ledger.events({ type: 'key.rotated' })) if (body?.['use'] === use) last = body
  if (last?.['from'] === from && last['to'] === to) return
  ledger.append({ type: 'key.rotated', body: { use, from, to } })
}
