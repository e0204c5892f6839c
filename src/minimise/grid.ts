/**
 * The position grid (rules-language 5): metric cells whose row cosine is that of the coarsest row (100 km), so that sizes
 * which divide one another nest exactly. Everything up to the cell index is exact in integers.
 */

/** Metres in a degree of latitude, fixed by the rules language. */
export const M = 111_320
const ROW = 100_000
/** lat_e7 * M reaches 9e8 * 1.1e5 = 1e14, below 2^53: exact in doubles. */
const E7 = 10_000_000

/** Cosines of the 100 km rows, -101 … 101; the poles are bounded at 0.01. */
export const COSINES = new Float64Array(203)
for (let row = -101; row <= 101; row++) {
  COSINES[row + 101] = Math.max(0.01, Math.cos((((row + 0.5) * ROW) / M) * (Math.PI / 180)))
}

export interface Cell {
  latE7: number
  lonE7: number
}

/** True when a grid of this size may be used: whole metres, at least 5, dividing 100,000. */
export function isGridSize(size: number): boolean {
  return Number.isInteger(size) && size >= 5 && ROW % size === 0
}

/**
 * Centre of the cell that holds a position.
 * @param latE7 degrees times 1e7, whole, within ±900,000,000 (the caller checks)
 * @param lonE7 degrees times 1e7, whole, within ±1,800,000,000
 * @param size  metres, `isGridSize`
 * @param into  receives the centre, degrees times 1e7, on multiples of 100 (5 decimals)
 */
export function snap(latE7: number, lonE7: number, size: number, into: Cell): void {
  const i = floorDivide(latE7 * M, size * E7)
  // Sizes divide the row height, so the row of the cell is the row of the position.
  const c = COSINES[Math.floor(i / (ROW / size)) + 101]!
  const j = Math.floor(((lonE7 / E7) * M * c) / size)
  const lat = ((i + 0.5) * size) / M
  const lon = ((j + 0.5) * size) / (M * c)
  into.latE7 = fiveDecimals(lat > 90 ? 90 : lat < -90 ? -90 : lat)
  into.lonE7 = fiveDecimals(lon > 180 ? 180 : lon < -180 ? -180 : lon)
}

/** Row cosine for a latitude; sticky cells need it to measure how far beyond a border a position lies. */
export function rowCosine(latE7: number): number {
  return COSINES[floorDivide(latE7 * M, ROW * E7) + 101]!
}

/** floor(a / b) for integers below 2^53, b > 0: the quotient is put right by exact products, because rounding may miss by one. */
function floorDivide(a: number, b: number): number {
  const quotient = Math.floor(a / b)
  return quotient * b > a ? quotient - 1 : (quotient + 1) * b <= a ? quotient + 1 : quotient
}

/** Degrees rounded to 5 decimals, halves away from zero, as an e7 integer. */
function fiveDecimals(degrees: number): number {
  const scaled = degrees * 100_000
  return (scaled < 0 ? -Math.floor(0.5 - scaled) : Math.floor(scaled + 0.5)) * 100
}
