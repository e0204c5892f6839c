/**
 * Seeded random numbers for the simulation: the same seed gives the same shift on every machine and Node version.
 * Not for anything secret. The generator is xoshiro128** (Blackman and Vigna), seeded from an FNV-1a hash of the text.
 */
export interface Chance {
  /** From 0 (inclusive) to 1 (exclusive). */
  next(): number
  /** From `low` to `high`. */
  between(low: number, high: number): number
  /** A whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number
  /** True in `share` of the calls. */
  happens(share: number): boolean
  pick<Item>(items: readonly Item[]): Item
  /** Mean 0, deviation 1 (Irwin-Hall with twelve terms: bounded at 6). */
  normal(): number
  digits(count: number): string
  bytes(count: number): Uint8Array
}

/** @param seed  any text; two different texts give unrelated numbers */
export function chance(seed: string): Chance {
  const state = new Uint32Array([hash(seed, 0x811c9dc5), hash(seed, 0x9e3779b9), hash(seed, 0x85ebca6b), hash(seed, 0xc2b2ae35) | 1])

  function word(): number {
    const second = state[1]!
    const result = Math.imul(rotated(Math.imul(second, 5), 7), 9) >>> 0
    state[2]! ^= state[0]!
    state[3]! ^= second
    state[1]! ^= state[2]!
    state[0]! ^= state[3]!
    state[2]! ^= second << 9
    state[3] = rotated(state[3]!, 11)
    return result
  }
  // The first words still show the seed.
  for (let i = 0; i < 16; i++) word()

  const next = (): number => word() / 0x1_0000_0000
  const whole = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1))
  return {
    next,
    between: (low, high) => low + next() * (high - low),
    whole,
    happens: (share) => next() < share,
    pick: <Item>(items: readonly Item[]): Item => {
      const item = items[whole(0, items.length - 1)]
      if (item === undefined) throw new RangeError('nothing to pick from')
      return item
    },
    normal: () => {
      let sum = -6
      for (let i = 0; i < 12; i++) sum += next()
      return sum
    },
    digits: (count) => Array.from({ length: count }, () => whole(0, 9)).join(''),
    bytes: (count) => Uint8Array.from({ length: count }, () => whole(0, 255)),
  }
}

function hash(text: string, basis: number): number {
  let value = basis
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value >>> 0
}

function rotated(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by))
}
