/**
 * The short form of crash-points.ts: twenty kills at each point where CI is set (four minutes), one at a desk.
 * `node test/fault/crash-points.ts 200` is the long one.
 */
import { expect, it } from 'vitest'
import { crashPoints, POINTS } from './crash-points.ts'

const kills = Number(process.env['PARAPET_KILLS'] ?? (process.env['CI'] === undefined ? 1 : 20))
const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it('kill -9 at each of thirteen points: nothing acknowledged is lost, nothing unfiltered leaves, every database is whole', async () => {
  const names = Object.keys(POINTS)
  // Two gateways at a time: most of a kill is the start after it.
  const halves = [names.filter((_, n) => n % 2 === 0), names.filter((_, n) => n % 2 === 1)]
  const results = await Promise.all(halves.map((points, n) => crashPoints({ kills, seed: seed + n, points })))
  for (const { violations, lost, unfiltered } of results) expect({ violations, lost, unfiltered }, `seed ${seed}`).toEqual({ violations: [], lost: 0, unfiltered: 0 })
  expect(results.reduce((sum, { kills }) => sum + kills, 0)).toBe(names.length * kills)
  for (const { acknowledged } of results) expect(acknowledged).toBeGreaterThan(100)
}, 600_000)
