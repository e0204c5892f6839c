/**
 * Numbers with units as the rules file writes them: `15m` (a duration), `500m` (metres of a grid), `5 %` (a value in a field's unit).
 */
import { classificationOf, type FieldShape } from '../domain/schema.ts'

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** `7d`, `15m`, `30s`, `500ms` -> milliseconds; undefined when it is no duration. At most 100 years. */
export function parseDuration(text: unknown): number | undefined {
  if (typeof text !== 'string') return undefined
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)$/.exec(text.trim())
  if (match === null) return undefined
  const ms = Number(match[1]) * MS[match[2] as string]!
  return Number.isInteger(ms) && ms > 0 && ms <= 36_525 * 86_400_000 ? ms : undefined
}

/** The shortest way to write a duration: 900000 -> `15m`. */
export function formatDuration(ms: number): string {
  for (const [unit, size] of [['d', 86_400_000], ['h', 3_600_000], ['m', 60_000], ['s', 1_000]] as const) {
    if (ms % size === 0) return `${ms / size}${unit}`
  }
  return `${ms}ms`
}

/** `500m`, `10km`, `500 m` or a bare number of metres -> metres; undefined when it is none. */
export function parseMetres(value: unknown): number | undefined {
  if (typeof value === 'number') return value
  if (typeof value !== 'string') return undefined
  const match = /^(\d+(?:\.\d+)?)\s*(m|km)$/.exec(value.trim())
  return match === null ? undefined : Number(match[1]) * (match[2] === 'km' ? 1_000 : 1)
}

/** Units of one family with their size in the family's base unit. Only linear scales: no offsets, so °C converts to nothing else. */
const FAMILIES: readonly Readonly<Record<string, number>>[] = [
  { ns: 1e-9, us: 1e-6, ms: 1e-3, s: 1, min: 60, h: 3_600, d: 86_400 },
  { mm: 1e-3, cm: 1e-2, dm: 1e-1, m: 1, km: 1e3 },
  { 'mm/s': 1e-3, 'cm/s': 1e-2, 'm/s': 1, 'km/h': 1 / 3.6 },
  { g: 1e-3, kg: 1, t: 1e3 },
  { mV: 1e-3, V: 1, kV: 1e3 },
  { mA: 1e-3, A: 1 },
  { Wh: 1, kWh: 1e3 },
  { W: 1, kW: 1e3 },
  { mg: 1e-3, gn: 1 },
  { deg: 1, '°': 1 },
  { '%': 1 },
  { C: 1, '°C': 1, degC: 1 },
  { dB: 1 }, { dBm: 1 }, { kB: 1 }, { rpm: 1 },
]

export type Quantity = { readonly wire: number } | { readonly problem: string }

/**
 * A parameter in a field's wire unit. A bare number is in wire units already; a number with a unit is converted with the
 * field's unit and scale: `5 %` on a field of unit % and scale 0.1 is 50.
 * @param value  number or text
 * @param unit   unit of the field's physical value, from its classification; may be empty
 * @param scale  physical = wire * scale
 */
export function parseQuantity(value: unknown, unit: string, scale: number): Quantity {
  if (typeof value === 'number') return Number.isFinite(value) ? { wire: value } : { problem: 'is not a finite number' }
  if (typeof value !== 'string') return { problem: 'is neither a number nor a number with a unit' }
  const match = /^([+-]?\d+(?:\.\d+)?)\s*([^\d\s].*)$/.exec(value.trim())
  if (match === null) return { problem: `"${value}" is neither a number nor a number with a unit` }
  const given = (match[2] as string).trim()
  if (unit === '') return { problem: `has the unit "${given}", but the schema states no unit for this field; write the number in wire units` }
  const family = FAMILIES.find((units) => unit in units)
  const factor = given === unit ? 1 : family !== undefined && given in family ? family[given]! / family[unit]! : undefined
  if (factor === undefined) return { problem: `has the unit "${given}", but the field is in "${unit}"` }
  const wire = (Number(match[1]) * factor) / scale
  const whole = Math.round(wire)
  // 5 / 0.1 is not exactly 50 in binary; a wire value that close to a whole number was meant to be one.
  return { wire: Math.abs(wire - whole) < 1e-9 * Math.max(1, Math.abs(whole)) ? whole : wire }
}

const UNIT_MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, ms: 1, s: 1_000, min: 60_000, h: 3_600_000 }

/** Milliseconds in one of a field: by its schema; milliseconds when neither the schema nor the end of the name states another unit. */
export function millisecondsOf(field: FieldShape): number | undefined {
  const { unit, scale } = classificationOf(field)
  if (unit !== '') return UNIT_MS[unit] === undefined ? undefined : UNIT_MS[unit] * scale
  const ending = /_(ns|us|ms|s|sec|secs|seconds|min|minutes|h|hours|m|d|days|ticks)$/i.exec(field.name)
  return ending === null || ending[1]?.toLowerCase() === 'ms' ? 1 : undefined
}
