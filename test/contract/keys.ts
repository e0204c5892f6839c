/** What wraps the keys of an outbox in tests. A key file that held this root key would be refused. */
import { createHash } from 'node:crypto'
import { rootKeyOf, type RootKey } from '../../src/consent/root.ts'
import { storageKeys } from '../../src/consent/storage.ts'
import type { StorageKeys } from '../../src/domain/ports.ts'

export const STORAGE_ROOT: RootKey = rootKeyOf(createHash('sha256').update('root key of the outbox tests').digest())
export const STORAGE_KEYS: StorageKeys = storageKeys(STORAGE_ROOT, 'demo')
