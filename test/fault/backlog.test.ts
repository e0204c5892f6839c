/**
 * The short form of backlog.ts: order and completeness. Time and rate are what `node test/fault/backlog.ts` measures, with a million records.
 */
import { expect, it } from 'vitest'
import { backlog } from './backlog.ts'

it('a backlog leaves in order while new messages come in', async () => {
  const { violations, lost, records } = await backlog({ records: 20_000, ingest: 300 })
  expect({ violations, lost, records }).toEqual({ violations: [], lost: 0, records: 20_000 })
}, 180_000)
