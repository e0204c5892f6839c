/**
 * The short form of network.ts: seconds of outage, two flaps. `node test/fault/network.ts 20` is the long one.
 */
import { expect, it } from 'vitest'
import { network } from './network.ts'

const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it('N1 to N5: a cloud that is away, slow, flapping, silent or refusing costs nothing that was acknowledged', async () => {
  const { violations, cases } = await network({ scale: 1, seed })
  expect(violations, `seed ${seed} ${JSON.stringify(cases)}`).toEqual([])
}, 180_000)
