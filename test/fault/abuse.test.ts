/**
 * The short form of abuse.ts: a second and two instead of five and ten, 600 damaged connections. `node test/fault/abuse.ts` is the long one.
 */
import { expect, it } from 'vitest'
import { abuse } from './abuse.ts'

const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it('S1 to S6, F1: who abuses the doors is cut in time, costs little, and nobody beside notices', async () => {
  const { violations, cases } = await abuse({ connections: 600, seed, isShort: true })
  expect(violations, `seed ${seed} ${JSON.stringify(cases)}`).toEqual([])
}, 180_000)
