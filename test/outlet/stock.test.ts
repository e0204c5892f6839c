import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Stock } from '../../src/outlet/stock.ts'

describe('the stock', () => {
  test('finds what a plain map finds, over chunks that come and go (property)', () => {
    const seq = fc.integer({ min: 1, max: 20_000 })
    const step = fc.oneof(
      fc.record({ do: fc.constant('add' as const), seq, envelope: fc.integer({ min: 1, max: 4 }), expires: fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }) }),
      fc.record({ do: fc.constant('remove' as const), seq }),
    )
    fc.assert(fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 100 }), (steps, atMs) => {
      const stock = new Stock()
      const plain = new Map<number, { envelope: number; expires: number | undefined }>()
      for (const one of steps) {
        if (one.do === 'add') {
          stock.add(one.seq, one.envelope, one.expires)
          plain.set(one.seq, { envelope: one.envelope, expires: one.expires })
        } else {
          // Half of the removals shall meet something.
          const victim = one.seq % 2 === 0 ? one.seq : [...plain.keys()][one.seq % (plain.size || 1)] ?? one.seq
          expect(stock.remove(victim)).toBe(plain.delete(victim))
        }
      }
      expect(stock.size).toBe(plain.size)
      expect([...stock.envelopes()].sort()).toEqual([...new Set([...plain.values()].map((one) => one.envelope))].sort())
      const wanted = new Set([1, 3])
      expect(stock.inEnvelopes(wanted)).toEqual([...plain].filter(([, one]) => wanted.has(one.envelope)).map(([seq]) => seq).sort((one, other) => one - other))
      const ranges = stock.expired(atMs)
      for (const [seq, one] of plain) {
        if (one.expires !== undefined && one.expires <= atMs) expect(ranges.some(({ from, to }) => from <= seq && seq <= to), 'an expired record lies in no range').toBe(true)
      }
    }))
  })
})
