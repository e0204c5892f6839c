/** What a yes covers, for key-value lists: a grant is stored as JSON, and rules that let out more than it says end it. */
import { describe, expect, test } from 'vitest'
import type { PurposeId } from '../src/domain/ids.ts'
import type { Policy } from '../src/domain/policy.ts'
import { grantedScope, isScopeWider } from '../src/scope.ts'
import { load } from './config/fixture.ts'

function policyWith(rule: string): Policy {
  const loaded = load(`version: 1
streams: { signals: { topic: "up/{machine}/s", message: lift.v1.Signals }, frames: { topic: "up/{machine}/f", message: lift.v1.Frames }, track: { topic: "up/{machine}/t", message: lift.v1.Track, points: { track: { kind: delta, lat: lat0_e7, lon: lon0_e7, dlat: dlat_e7, dlon: dlon_e7, dt: dt_ms, unit: e7 } } } }
outputs: { out: { recipient: { id: cloud, role: controller, region: EU }, purpose: p, basis: consent, to: { topic: "out/{stream}" }, streams: { ${rule} } } }
`)
  expect(loaded.findings.filter((one) => one.severity === 'error').map((one) => one.text)).toEqual([])
  return loaded.policy as Policy
}

/** Whether a yes given under the first rule ends under the second. */
function ends(before: string, after: string): boolean {
  const scope = (rule: string): unknown => JSON.parse(JSON.stringify(grantedScope(policyWith(rule), 'p' as PurposeId)))
  return isScopeWider(scope(before), grantedScope(policyWith(after), 'p' as PurposeId))
}

const signals = (list: string): string => `signals: { fields: { s: ${list} } }`
const list = signals('{ by: id, with: { id: keep }, only: { 101: { v: { round: 10 } }, 102: { v: keep } } }')

describe('a yes to a key-value list', () => {
  test.each([
    ['the same', list, false],
    ['another order', signals('{ by: id, with: { id: keep }, only: { 102: { v: keep }, 101: { v: { round: 10 } } } }'), false],
    ['a key less', signals('{ by: id, with: { id: keep }, only: { 102: { v: keep } } }'), false],
    ['a key more', signals('{ by: id, with: { id: keep }, only: { 101: { v: { round: 10 } }, 102: { v: keep }, 103: { v: { round: 1000 } } } }'), true],
    ['a key more of which nothing but the key leaves', signals('{ by: id, with: { id: keep }, only: { 101: { v: { round: 10 } }, 102: { v: keep }, 103: {} } }'), true],
    ['a member coarser', signals('{ by: id, with: { id: keep }, only: { 101: { v: { round: 30 } }, 102: { v: keep } } }'), false],
    ['a member finer', signals('{ by: id, with: { id: keep }, only: { 101: { v: { round: 5 } }, 102: { v: keep } } }'), true],
    ['a member rounded to what does not nest', signals('{ by: id, with: { id: keep }, only: { 101: { v: { round: 20 } }, 102: { v: keep } } }'), true],
    ['a member less for all', signals('{ by: id, only: { 101: { v: { round: 10 } }, 102: { v: keep } } }'), false],
    ['a member more for all', signals('{ by: id, with: { id: keep, v: keep }, only: { 101: {}, 102: {} } }'), true],
    ['everything', signals('keep'), true],
    ['nothing', signals('drop'), false],
    ['another list', 'frames: { fields: { f: { by: id, only: { 7: { data: keep } } } } }', true],
  ])('%s', (_name, after, expected) => expect(ends(list, after)).toBe(expected))

  test('by group instead of by identifier is not comparable', () => {
    expect(ends('frames: { fields: { f: { by: id, only: { 61444: { data: keep } } } } }', 'frames: { fields: { f: { by: "j1939_pgn(id)", only: { 61444: { data: keep } } } } }')).toBe(true)
  })
  test('a yes to the whole list covers each of its keys', () => expect(ends(signals('keep'), list)).toBe(false))
  test('settings that are no JSON are compared by their text', () => {
    const mapped = (to: number): string => signals(`{ by: id, only: { 101: { v: { map: { 1: ${to}, else: drop } } } } }`)
    expect(ends(mapped(2), mapped(2))).toBe(false)
    expect(ends(mapped(2), mapped(3))).toBe(true)
  })
})

describe('a yes to a track', () => {
  const track = (chain: string): string => `track: { fields: { track: ${chain} } }`
  test.each([
    ['the same points', '[{ thin: 5m }, { grid: 500m }]', '[{ thin: 5m }, { grid: 500m }]', false],
    ['a coarser cell for them', '[{ thin: 5m }, { grid: 500m }]', '[{ thin: 5m }, { grid: 10km }]', false],
    ['other points, though fewer', '[{ thin: 5m }, { grid: 500m }]', '[{ thin: 10m }, { grid: 500m }]', true],
    ['fewer of all', '{ grid: 500m }', '[{ grid: 500m }, { thin: 10m }]', false],
  ])('%s', (_name, before, after, expected) => expect(ends(track(before), track(after))).toBe(expected))
})
