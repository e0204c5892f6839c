/**
 * `zones:` of the rules file -> Zone by name.
 */
import type { Zone } from '../domain/policy.ts'
import { parseMetres } from '../minimise/quantity.ts'
import type { Findings } from './findings.ts'
import type { RulesFile, ZoneText } from './rules-file.ts'
import type { Path } from './yaml.ts'

/** Radius in metres: below it a fix cannot be told to lie inside, above it degrees are no plane any more. */
const RADIUS_MIN = 10
const RADIUS_MAX = 50_000

export function readZones(rules: RulesFile, findings: Findings): ReadonlyMap<string, Zone> {
  const zones = new Map<string, Zone>()
  for (const [name, text] of Object.entries(rules.zones ?? {})) zones.set(name, readZone(text, ['zones', name], findings))
  return zones
}

function readZone(text: ZoneText, where: Path, findings: Findings): Zone {
  if (text.circle !== undefined) {
    const [lat, lon] = text.circle.at
    const radiusM = parseMetres(text.circle.radius) ?? 0
    checkCorner(text.circle.at, [...where, 'circle', 'at'], findings)
    if (radiusM < RADIUS_MIN || radiusM > RADIUS_MAX) findings.add('ZONE', { path: [...where, 'circle', 'radius'] }, `A radius of ${text.circle.radius} lies outside ${RADIUS_MIN} m to ${RADIUS_MAX / 1000} km.`)
    return { kind: 'circle', lat, lon, radiusM }
  }
  const corners = text.polygon ?? []
  for (const [index, corner] of corners.entries()) checkCorner(corner, [...where, 'polygon', index], findings)
  return { kind: 'polygon', corners }
}

function checkCorner([lat]: readonly [number, number], path: Path, findings: Findings): void {
  if (Math.abs(lat) > 90) findings.add('ZONE', { path }, `There is no latitude ${lat}.`, 'Write latitude first, then longitude: [48.137, 11.575].')
}
