/** The short form of withdrawal-race.ts; `npm run race` is the long one. */
import { expect, test } from 'vitest'
import { percentiles, race } from './withdrawal-race.ts'

const WITHDRAWALS = 20
const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

test(`${WITHDRAWALS} withdrawals under load, over a kill and a stop: no covered frame is written after the answer`, async () => {
  const result = await race({ withdrawals: WITHDRAWALS, seed, people: 6, restarts: 2 })
  expect(result.violations, `seed ${seed}; answers ${percentiles(result.gatewayMs)}`).toEqual([])
  // Without withdrawals that met something, nothing would have been shown.
  expect(result.withdrawals).toBeGreaterThanOrEqual(WITHDRAWALS)
  expect(result.restarts).toBe(2)
  expect(result.frames).toBeGreaterThan(20)
  expect(result.receipts).toBeGreaterThan(0)
}, 180_000)
