/**
 * The short form of windows.ts: six windows of a second, one kill. `node test/fault/windows.ts 40` is the long one.
 */
import { expect, it } from 'vitest'
import { windows } from './windows.ts'

const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it('of each window one message leaves, at its end, and neither when nor after whom tells when it was measured', async () => {
  const { violations, arrived } = await windows({ windows: 6, seed, killEvery: 5, everyS: 1 })
  expect(violations, `seed ${seed}`).toEqual([])
  expect(arrived).toBeGreaterThan(40)
}, 180_000)
