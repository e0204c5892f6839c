/**
 * The short form of soak.ts: ten seconds, with the line cut six times. `node test/fault/soak.ts` takes half an hour.
 */
import { expect, it } from 'vitest'
import { soak } from './soak.ts'

it('a gateway whose line is cut again and again loses nothing', async () => {
  const { violations, lost, cuts } = await soak({ minutes: 0.12, perSecond: 200 })
  expect(violations).toEqual([])
  expect([lost, cuts > 2]).toEqual([0, true])
}, 240_000)
