/** Transforms of positions: grid, hide_in, thin. */
import type { Zone } from '../../domain/policy.ts'
import { M, isGridSize, snap, type Cell } from '../grid.ts'
import { formatDuration, millisecondsOf, parseDuration, parseMetres } from '../quantity.ts'
import { isMultiple, never, type TransformSpec } from './spec.ts'

export const grid: TransformSpec = {
  name: 'grid',
  summary: 'The centre of the metric cell that holds the position. Sizes that divide one another nest exactly. A machine keeps its cell until it is 15 % beyond the border, unless `sticky: false`.',
  technique: 'generalisation (rounding)',
  argument: {
    anyOf: [
      { type: ['string', 'number'], description: 'size such as 500m or 10km' },
      { type: 'object', additionalProperties: false, required: ['size'], properties: { size: { type: ['string', 'number'] }, sticky: { type: 'boolean' } } },
    ],
  },
  bare: false,
  fits: ['point'],
  example: 'grid: 500m',
  rank: 'coarse',
  generalises: (params) => (params.size as number) >= 1_000,
  // Without memory a cell tells when a border was crossed, which a cell with memory hides.
  coarser: (a, b) => isMultiple(a.size as number, b.size as number) && (a.sticky === true || b.sticky !== true),
  read(argument) {
    const given = typeof argument === 'object' && argument !== null ? (argument as { size: unknown; sticky?: boolean }) : { size: argument }
    const size = parseMetres(given.size)
    if (size === undefined || !isGridSize(size)) return { problem: 'needs a size in whole metres, at least 5 m, that divides 100 km: 5m, 100m, 500m, 1km, 10km, …' }
    return { params: { size, sticky: given.sticky ?? true } }
  },
  text: (params) => `${(params.size as number) >= 1000 ? `${(params.size as number) / 1000} km` : `${String(params.size)} m`} grid`,
  bind: () => () => undefined,
  move: (params, point, services) => {
    const size = params.size as number
    const isSticky = params.sticky === true
    const place = `${services.output}\u0000${point}\u0000${size}`
    return (cell, moment) => {
      if (!isOnEarth(cell)) return false
      if (isSticky && moment.cells !== undefined) moment.cells.snap(place, moment.machine, cell.latE7, cell.lonE7, size, cell)
      else snap(cell.latE7, cell.lonE7, size, cell)
      return true
    }
  },
}

export const hideIn: TransformSpec = {
  name: 'hide_in',
  summary: 'No position inside the named zones. A circle is moved and widened a little for each machine, and still covers the place, so that the visible ends of trips do not give away its centre.',
  technique: 'suppression (local)',
  argument: { type: 'array', minItems: 1, maxItems: 64, uniqueItems: true, items: { type: 'string' } },
  bare: false,
  fits: ['point'],
  example: 'hide_in: [depots]',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => (b.names as string[]).every((name) => (a.names as string[]).includes(name)),
  read(argument, subject) {
    const names = argument as string[]
    const missing = names.find((name) => subject.zones?.has(name) !== true)
    if (missing !== undefined) return { problem: `names the zone "${missing}", which does not exist`, mend: `Define it under \`zones:\`, e.g. ${missing}: { circle: { at: [48.137, 11.575], radius: 500m } }.` }
    return { params: { names, zones: names.map((name) => subject.zones?.get(name) as Zone) } }
  },
  text: (params) => `hidden in ${(params.names as string[]).join(', ')}`,
  bind: () => () => undefined,
  move: (params, _point, services) => {
    const names = params.names as readonly string[]
    const zones = params.zones as readonly Zone[]
    return (cell, moment) => isOnEarth(cell) && zones.every((zone, at) => {
      if (zone.kind === 'polygon') return !isInPolygon(zone.corners, cell.latE7 / 1e7, cell.lonE7 / 1e7)
      const secret = services.secret(moment.machine, `zone|${names[at]}`)
      // Without a secret the circle would stand where it is written; twice the size hides at least as much.
      const shift = secret === undefined ? { north: 0, east: 0, radius: zone.radiusM * 2 } : shiftOf(secret, zone.radiusM)
      const north = (cell.latE7 / 1e7 - zone.lat) * M - shift.north
      const east = wrapped(cell.lonE7 / 1e7 - zone.lon) * M * Math.cos((zone.lat * Math.PI) / 180) - shift.east
      return north * north + east * east > shift.radius * shift.radius
    })
  },
}

/** False for NaN too: what is no position is not hidden, it is dropped. */
function isOnEarth({ latE7, lonE7 }: Cell): boolean {
  return Math.abs(latE7) <= 900_000_000 && Math.abs(lonE7) <= 1_800_000_000
}

/** A difference of longitudes by the shorter way round. */
function wrapped(degrees: number): number {
  return degrees > 180 ? degrees - 360 : degrees < -180 ? degrees + 360 : degrees
}

/** A circle's offset for one machine: up to a third of the radius in a secret direction, widened by as much and up to a fifth more. */
function shiftOf(secret: Uint8Array, radiusM: number): { north: number; east: number; radius: number } {
  const share = (at: number): number => ((secret[at]! << 8) | secret[at + 1]!) / 65_536
  const distance = (radiusM / 3) * share(0)
  const angle = 2 * Math.PI * share(2)
  return { north: distance * Math.cos(angle), east: distance * Math.sin(angle), radius: radiusM + distance + (radiusM / 5) * share(4) }
}

/** Even-odd rule; zones are small, so degrees are a plane. */
function isInPolygon(corners: readonly (readonly [number, number])[], lat: number, lon: number): boolean {
  let inside = false
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [aLat, aLon] = corners[i]!
    const [bLat, bLon] = corners[j]!
    if (aLat > lat !== bLat > lat && lon < ((bLon - aLon) * (lat - aLat)) / (bLat - aLat) + aLon) inside = !inside
  }
  return inside
}

export const thin: TransformSpec = {
  name: 'thin',
  summary: 'Of a delta track only points that are at least so far apart in time, counted from the first that leaves. The unit of `dt` is the one its schema states; without one it is ms, unless the field\'s name says otherwise.',
  technique: 'sampling',
  argument: { type: 'string', description: 'a duration such as 5m' },
  bare: false,
  fits: ['point'],
  example: 'thin: 5m',
  rank: 'coarse',
  generalises: never,
  // Points ten minutes apart are not a part of those five minutes apart: of 0, 6 and 10 minutes the former has the last, the latter not.
  coarser: (a, b) => a.wire === b.wire,
  read(argument, subject) {
    const ms = parseDuration(argument)
    if (ms === undefined) return { problem: 'needs a duration such as 30s or 5m' }
    if (subject.track !== true) return { problem: 'fits delta tracks only (`points: { …: { kind: delta, … dt: … } }`)' }
    if (subject.dt === undefined) return { problem: 'needs the times between the points: name their field as `dt` of the point' }
    const unitMs = millisecondsOf(subject.dt)
    if (unitMs === undefined) return { problem: `needs to know the unit of "${subject.dt.name}": classify the field with the unit s, ms, us or ns` }
    return { params: { ms, wire: ms / unitMs } }
  },
  text: (params) => `one point every ${formatDuration(params.ms as number)}`,
  bind: () => () => undefined,
  // Points are taken out of the track before the others are moved; a single one passes.
  move: () => () => true,
}
