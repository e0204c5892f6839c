/**
 * The short form of damage.ts: one flipped bit in every sixth block of 512 bytes. `node test/fault/damage.ts 16` is the long one.
 */
import { expect, it } from 'vitest'
import { damage } from './damage.ts'

const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

it('D3: a damaged outbox is refused or says so; nothing leaves changed', async () => {
  const { violations, flips, refused, noticed, harmless } = await damage({ flips: 0, seed })
  expect(violations, `seed ${seed}`).toEqual([])
  expect([flips > 50, refused > 0, noticed > 0, harmless > 0]).toEqual([true, true, true, true])
}, 180_000)
