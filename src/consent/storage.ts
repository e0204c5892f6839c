/**
 * The root key as it serves what is stored outside of this room: it wraps the random keys of the outbox, so that a new root key means
 * to wrap those anew and not to write everything that waits once more.
 */
import { randomBytes } from 'node:crypto'
import type { Random, StorageKeys } from '../domain/ports.ts'
import type { RootKey } from './root.ts'
import { frame, seal, unseal } from './sealing.ts'

/** @param tenant  of the gateway file: data of another tenant does not open */
export function storageKeys(root: RootKey, tenant: string, random: Random = randomBytes): StorageKeys {
  const keys = new Map([root, ...root.former].map((one) => [one.id, one.deriveKey('parapet/v1|wrap|storage', tenant)]))
  return {
    id: root.id,
    knows: (id) => keys.has(id),
    wrap: (key, context) => seal(keys.get(root.id)!, key, frame('parapet/v1|storage', context), random),
    unwrap(id, wrapped, context) {
      const key = keys.get(id)
      return key === undefined ? undefined : unseal(key, wrapped, frame('parapet/v1|storage', context))
    },
  }
}
