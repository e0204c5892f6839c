/**
 * The short form of peers.ts. `node test/fault/peers.ts 200` is the long one.
 */
import { expect, it } from 'vitest'
import { peers } from './peers.ts'

const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it.each(['S7', 'Q1', 'W1', 'C1'])('%s', async (name) => {
  const { violations, cases } = await peers({ rounds: 1, seed, cases: [name] })
  expect(violations, `seed ${seed} ${JSON.stringify(cases)}`).toEqual([])
}, 180_000)
