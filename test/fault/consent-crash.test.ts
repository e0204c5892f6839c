/** The short form of consent-crash.ts; `npm run crash` is the long one. */
import { expect, test } from 'vitest'
import { crash } from './consent-crash.ts'

const KILLS = 6
const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

test(`${KILLS} times kill -9 while people change their minds: what was answered is in force, nothing is half`, async () => {
  const result = await crash({ kills: KILLS, seed })
  expect(result.violations, `seed ${seed}`).toEqual([])
  expect(result.answered).toBeGreaterThanOrEqual(KILLS)
  expect(result.published).toBeGreaterThan(0)
}, 180_000)
