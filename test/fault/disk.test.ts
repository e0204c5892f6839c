/**
 * The short form of disk.ts.
 */
import { expect, it } from 'vitest'
import { disk } from './disk.ts'

it('D1, D2, D4: a disk that is full or fails, and a full quota: no acknowledgement for what is not stored, and on it goes when it can', async () => {
  const { violations, cases } = await disk({ rounds: 1, seed: 0 })
  expect(violations, JSON.stringify(cases)).toEqual([])
}, 180_000)
