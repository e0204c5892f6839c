/** Of a batch: the first and last instant that it speaks of. Whatever cannot be told must make the span endless (rules-language 4.9). */
import { expect, test } from 'vitest'
import type { Point } from '../../src/domain/policy.ts'
import type { MessageShape } from '../../src/domain/schema.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createFacts, createProbe } from '../../src/minimise/probe.ts'
import { streamOf } from './fixture.ts'

const schemas = schemasFromText({
  'b.proto': `syntax = "proto3"; package b; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
    message One { sint64 dt_ms = 1 [(parapet.v1.privacy) = { category: "time", unit: "ms" }]; uint32 n = 2; google.protobuf.Timestamp at = 3; google.protobuf.Duration after = 4; One more = 5; }
    message Body { repeated One e = 1; }
    message Batch { uint64 time_ms = 1 [(parapet.v1.privacy) = { category: "time", unit: "ms" }]; repeated One e = 2; Body b = 3;
      repeated sint32 offsets_s = 4 [(parapet.v1.privacy) = { category: "time", unit: "s" }]; sint32 lat = 5; sint32 lon = 6; repeated sint32 dlat = 7; repeated sint32 dlon = 8; repeated sint32 dt = 9;
      map<string, One> by_name = 10; }
    message Plain { uint64 time_ms = 1 [(parapet.v1.privacy) = { category: "time", unit: "ms" }]; repeated uint32 n = 2; }`,
})
const shape = (name: string): MessageShape => schemas.message(`b.${name}`) as MessageShape
const track: Point = { name: 'track', kind: 'delta', lat: 'lat', lon: 'lon', dlat: 'dlat', dlon: 'dlon', dt: 'dt', scale: 1e-7, valid: undefined }
const NOON = Date.UTC(2026, 10, 23, 12)
const MINUTE = 60_000
const iso = (ms: number): string => new Date(ms).toISOString()

function span(body: Record<string, unknown>, { points = [] as readonly Point[], timed = true } = {}): readonly [number, number] {
  const { stream } = streamOf(shape('Batch'), [])
  const probe = createProbe({ ...stream, points, time: timed ? { field: 'time_ms', unit: 'ms' } : undefined })
  const bytes = schemas.encode('b.Batch', { time_ms: String(NOON), ...body })
  const facts = createFacts()
  expect(probe(bytes, 0, bytes.length, facts)).toBe(0)
  return [(facts.startMs - NOON) / MINUTE, (facts.endMs - NOON) / MINUTE]
}

test.each<[string, Record<string, unknown>, readonly [number, number]]>([
  ['nothing listed', {}, [0, 0]],
  ['offsets', { e: [{ dt_ms: 0 }, { dt_ms: 10 * MINUTE }, { dt_ms: 5 * MINUTE }] }, [0, 10]],
  ['offsets before the event time', { e: [{ dt_ms: -10 * MINUTE }, { n: 4 }] }, [-10, 0]],
  ['times of day instead of offsets', { e: [{ dt_ms: NOON + 3 * MINUTE }, { dt_ms: NOON - 2 * MINUTE }] }, [-2, 3]],
  ['a time of another century', { e: [{ dt_ms: String(2 ** 50) }] }, [0, Infinity]],
  ['a Timestamp in an element', { e: [{ at: iso(NOON + 7 * MINUTE) }] }, [0, 7]],
  ['a Duration in an element', { e: [{ after: '240s' }] }, [0, 4]],
  ['a time within an element\'s own message', { e: [{ more: { more: { dt_ms: -MINUTE } } }] }, [-1, 0]],
  ['a list within a message', { b: { e: [{ dt_ms: MINUTE }] } }, [0, 1]],
  ['a list of times itself', { offsets_s: [60, -120, 0] }, [-2, 1]],
  ['values of a map', { by_name: { a: { dt_ms: 2 * MINUTE } } }, [0, 2]],
])('%s', (_, body, expected) => {
  expect(span(body)).toEqual(expected)
})

test.each<[string, number[], readonly [number, number]]>([
  ['forth', [MINUTE, 2 * MINUTE], [0, 3]],
  ['back', [-MINUTE, -2 * MINUTE], [-3, 0]],
  ['forth and back', [10 * MINUTE, -10 * MINUTE], [0, 10]],
  ['a junk step of a month and back', [2 ** 31 - 1, -(2 ** 31 - 1), MINUTE], [0, (2 ** 31 - 1) / MINUTE]],
])('the steps of a track: %s', (_, dt, expected) => {
  expect(span({ lat: 1, lon: 1, dlat: dt.map(() => 1), dlon: dt.map(() => 1), dt }, { points: [track] })).toEqual(expected)
})

test('steps whose sum passes a year cannot be told', () => {
  const dt = Array.from({ length: 20 }, () => 2 ** 31 - 1)
  expect(span({ lat: 1, lon: 1, dlat: dt.map(() => 1), dlon: dt.map(() => 1), dt }, { points: [track] })[1]).toBe(Infinity)
})

test('without an event time a batch has no beginning to count from', () => {
  const { stream } = streamOf(shape('Batch'), [])
  const facts = createFacts()
  for (const time of [undefined, { field: 'time_ms', unit: 'ms' } as const]) {
    const bytes = schemas.encode('b.Batch', { e: [{ dt_ms: MINUTE }] })
    expect(createProbe({ ...stream, time })(bytes, 0, bytes.length, facts)).toBe(0)
    expect(facts.endMs).toBe(Infinity)
  }
})

test('a message with lists of other things keeps the quick way', () => {
  const { stream } = streamOf(shape('Plain'), [])
  const facts = createFacts()
  const bytes = schemas.encode('b.Plain', { time_ms: String(NOON), n: [1, 2] })
  expect(createProbe({ ...stream, time: { field: 'time_ms', unit: 'ms' } })(bytes, 0, bytes.length, facts)).toBe(0)
  expect([facts.eventMs, facts.endMs]).toEqual([NOON, Number.NaN])
})
