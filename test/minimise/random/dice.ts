/** A seeded source of choices: small, fast, and the same on every machine. Not for keys. */

export interface Dice {
  /** Whole number from 0 up to, not including, n. */
  below(n: number): number
  /** True with this probability. */
  chance(probability: number): boolean
  pick<T>(items: readonly T[]): T
  shuffle<T>(items: readonly T[]): T[]
  bytes(count: number): Uint8Array
  /** A whole number of up to `bits` bits, mostly small or near a border. */
  big(bits: number): bigint
}

/** mulberry32 over a 32-bit seed. */
export function createDice(seed: number): Dice {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  const below = (n: number): number => Math.floor((next() / 4_294_967_296) * n)
  const dice: Dice = {
    below,
    chance: (probability) => next() / 4_294_967_296 < probability,
    pick: (items) => items[below(items.length)]!,
    shuffle(items) {
      const mixed = [...items]
      for (let at = mixed.length - 1; at > 0; at--) {
        const other = below(at + 1)
        ;[mixed[at], mixed[other]] = [mixed[other]!, mixed[at]!]
      }
      return mixed
    },
    bytes: (count) => Uint8Array.from({ length: count }, () => below(256)),
    big(bits) {
      const top = 1n << BigInt(bits)
      const wide = (BigInt(next()) << 32n) | BigInt(next())
      switch (below(5)) {
        case 0: return BigInt(below(4))
        case 1: return BigInt(below(2_000))
        case 2: return BigInt.asUintN(bits, top - 1n - BigInt(below(3)))
        // A border of varint lengths, of 2^31, 2^53 and 2^63.
        case 3: return BigInt.asUintN(bits, (1n << BigInt(dice.pick([7, 14, 21, 28, 31, 32, 35, 53, 56, 63]))) + BigInt(below(3) - 1))
        default: return BigInt.asUintN(bits, wide >> BigInt(below(64)))
      }
    },
  }
  return dice
}
