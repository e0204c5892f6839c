import { join } from 'node:path'
import { openOutbox } from '../../src/outlet/outbox.ts'
import { outboxContract } from '../contract/outbox.ts'

outboxContract('node:sqlite', ({ folder, ...settings }) => openOutbox({ file: join(folder, 'outbox.db'), sweepMs: 0, retryMs: 1, ...settings }))
