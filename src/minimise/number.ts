/**
 * Exact arithmetic of the numeric transforms (rules-language 5), for numbers and for 64-bit integers as bigint.
 * The generated function inlines the same formulas; tests hold both against each other.
 */

/** Nearest whole number, halves away from zero. */
export function roundHalfAway(x: number): number {
  const whole = Math.trunc(x)
  return Math.abs(x - whole) >= 0.5 ? whole + Math.sign(x) : whole
}

/** Nearest multiple of a fractional or whole step for floating point fields; computed as round(x*n)/n when 1/step is a whole n. */
export function roundFloat(x: number, step: number): number {
  const n = Math.round(1 / step)
  if (n >= 1 && Math.abs(1 / step - n) < 1e-9) return roundHalfAway(x * n) / n
  return roundHalfAway(x / step) * step
}

/** Nearest multiple of a whole step, halves away from zero, exact for |x| below 2^53. */
export function roundInteger(x: number, step: number): number {
  const rest = x % step
  const down = x - rest
  return Math.abs(rest) * 2 >= step ? down + (x < 0 ? -step : step) : down
}

export function roundBig(x: bigint, step: bigint): bigint {
  const rest = x % step
  const down = x - rest
  const size = rest < 0n ? -rest : rest
  return size * 2n >= step ? down + (x < 0n ? -step : step) : down
}

/** floor(x / d) * d */
export function floorNumber(x: number, d: number): number {
  const rest = x % d
  return rest === 0 ? x : rest < 0 ? x - rest - d : x - rest
}

export function floorBig(x: bigint, d: bigint): bigint {
  const rest = x % d
  return rest === 0n ? x : rest < 0n ? x - rest - d : x - rest
}

/** Largest bound <= x; below the first bound the first. `bounds` ascending. */
export function bucketOf<T extends number | bigint>(x: T, bounds: readonly T[]): T {
  let found = bounds[0] as T
  for (const bound of bounds) {
    if (bound > x) break
    found = bound
  }
  return found
}

/** Closed value ranges of the integer types, as bigint; a result outside is "out of range": the field is dropped. */
export const RANGES: Readonly<Record<string, readonly [bigint, bigint]>> = {
  int32: [-(2n ** 31n), 2n ** 31n - 1n], sint32: [-(2n ** 31n), 2n ** 31n - 1n], sfixed32: [-(2n ** 31n), 2n ** 31n - 1n], enum: [-(2n ** 31n), 2n ** 31n - 1n],
  uint32: [0n, 2n ** 32n - 1n], fixed32: [0n, 2n ** 32n - 1n],
  int64: [-(2n ** 63n), 2n ** 63n - 1n], sint64: [-(2n ** 63n), 2n ** 63n - 1n], sfixed64: [-(2n ** 63n), 2n ** 63n - 1n],
  uint64: [0n, 2n ** 64n - 1n], fixed64: [0n, 2n ** 64n - 1n],
}
