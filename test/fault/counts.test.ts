/**
 * The short form of counts.ts: one kill for each QoS. `node test/fault/counts.ts 100` is the long one.
 */
import { expect, it } from 'vitest'
import { counts } from './counts.ts'

const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it('disclosure counts equal what was received over every way out, and are never fewer after a kill', async () => {
  const { violations, quiet } = await counts({ kills: 3, seed })
  expect(violations, `seed ${seed}`).toEqual([])
  for (const [way, { seen }] of Object.entries(quiet)) if (way !== 'unknown') expect(seen, way).toBeGreaterThan(0)
}, 180_000)
