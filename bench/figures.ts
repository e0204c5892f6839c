/** Medians, spreads, and how a cost grows. */

/** Of several rounds: the middle one, the smallest and the largest. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spreadOf(values: readonly number[], digits = 2): Spread {
  return { median: rounded(median(values), digits), min: rounded(Math.min(...values), digits), max: rounded(Math.max(...values), digits) }
}

/** `NAME`, `NAME_min` and `NAME_max` of a row. */
export function figure(name: string, values: readonly number[], digits = 2): Readonly<Record<string, number>> {
  const { median: middle, min, max } = spreadOf(values, digits)
  return { [name]: middle, [`${name}_min`]: min, [`${name}_max`]: max }
}

export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? Number.NaN
}

export function rounded(value: number, digits = 2): number {
  return Math.round(value * 10 ** digits) / 10 ** digits
}

/** To so many digits, so that small ratios say something. */
export function precise(value: number, digits = 3): number {
  return Number(value.toPrecision(digits))
}

export type Growth = 'flat' | 'less than linear' | 'linear' | 'more than linear'

export interface Growing {
  readonly growth: Growth
  /** b of y = a x^b: 0 is flat, 1 is linear. */
  readonly exponent: number
  /** Of the straight line y = start + each x. */
  readonly each: number
  readonly start: number
  /** How much of the differences the straight line explains; 1 = all. */
  readonly fit: number
}

/** A curve is flat when a tenfold size costs at most so many times as much (b = 0.08). */
const FLAT_TENFOLD = 1.2
const LINEAR_FIT = 0.98
const LINEAR_AT_MOST = 1.1

/**
 * How a cost grows with a size, over at least two sizes: by least squares, of the logarithms for the exponent, and of the values for the line.
 * The line's weights are 1/y², so that the small sizes count as much as the large ones.
 */
export function growthOf(points: readonly (readonly [x: number, y: number])[]): Growing {
  const exponent = lineThrough(points.map(([x, y]) => [Math.log(x), Math.log(y), 1] as const)).each
  const line = lineThrough(points.map(([x, y]) => [x, y, 1 / y ** 2] as const))
  const growth = 10 ** exponent <= FLAT_TENFOLD ? 'flat'
    : line.fit >= LINEAR_FIT && exponent <= LINEAR_AT_MOST ? 'linear'
    : exponent < 1 ? 'less than linear' : exponent <= LINEAR_AT_MOST ? 'linear' : 'more than linear'
  return { growth, exponent: rounded(exponent, 3), each: precise(line.each), start: precise(line.start), fit: rounded(line.fit, 3) }
}

function lineThrough(points: readonly (readonly [x: number, y: number, weight: number])[]): { readonly each: number; readonly start: number; readonly fit: number } {
  const sum = (of: (x: number, y: number, weight: number) => number): number => points.reduce((total, [x, y, weight]) => total + of(x, y, weight), 0)
  const all = sum((_x, _y, weight) => weight)
  const [middleX, middleY] = [sum((x, _y, weight) => x * weight) / all, sum((_x, y, weight) => y * weight) / all]
  const [xx, xy, yy] = [sum((x, _y, weight) => weight * (x - middleX) ** 2), sum((x, y, weight) => weight * (x - middleX) * (y - middleY)), sum((_x, y, weight) => weight * (y - middleY) ** 2)]
  const each = xx === 0 ? 0 : xy / xx
  return { each, start: middleY - each * middleX, fit: xx === 0 || yy === 0 ? 1 : xy ** 2 / (xx * yy) }
}
