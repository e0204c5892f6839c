/** A minimiser is kept and used again for an equal plan over the same message: whatever makes another result must make another plan. */
import { describe, expect, test } from 'vitest'
import type { Condition, Output, OutputStream, Point, Transform } from '../../src/domain/policy.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { compilePlan } from '../../src/minimise/compile.ts'
import { parseCondition } from '../../src/minimise/condition.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { planFor, VARIANTS, type Plan } from '../../src/minimise/plan.ts'
import { derivedRows, type PseudonymKeys } from '../../src/minimise/pseudonym.ts'
import { outputOf, ruleFor, streamOf } from './fixture.ts'

const TEXT = `
  syntax = "proto3";
  package t;
  message Part { uint32 id = 1; uint32 v = 2; }
  message All { string machine_id = 1; uint64 time_ms = 2; double temp = 3; sint64 big = 4; uint32 soc = 5; sint32 lat = 6; sint32 lon = 7; string note = 8; repeated Part parts = 9; bytes raw = 10; }`
const shape = schemasFromText({ 'm.proto': TEXT }).message('t.All') as MessageShape
const root = Buffer.from('b5c7d1e97a3f40218896aa5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f', 'hex')
const keys: PseudonymKeys = { root, tenant: 'demo', rows: derivedRows(root, 'demo') }

interface Change {
  readonly field?: string
  readonly chain?: readonly Transform[]
  readonly source?: Partial<OutputStream>
  readonly stream?: Partial<OutputStream['stream']>
  readonly output?: Partial<Output>
  readonly topic?: string
  readonly variant?: number
  readonly point?: Partial<Point>
  readonly moves?: readonly Transform[]
}

const KEEP: readonly Transform[] = [{ name: 'keep', params: {} }]

function planOf({ field = 'temp', chain = KEEP, source = {}, stream = {}, output = {}, topic = 'out/x', variant = 0, point, moves = of('grid', { size: 500, sticky: true }) }: Change, message = shape): Plan {
  const fields = [ruleFor(message, field, chain), ruleFor(message, 'note', KEEP), ruleFor(message, 'soc', KEEP)]
  const where: Point = { name: 'position', kind: 'plain', lat: 'lat', lon: 'lon', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined, ...point }
  const branch = { kind: 'chain', chain: moves } as const
  if (point !== undefined) fields.push({ path: 'position', target: { kind: 'point', point: where }, consent: branch, noConsent: branch, pair: false, line: 1 })
  const made = streamOf(message, fields, source)
  const whole = { ...made, stream: { ...made.stream, ...stream } }
  return planFor(outputOf(topic, [whole], output), whole, VARIANTS[variant] as Plan['variant'])
}

function of(name: string, params: Record<string, unknown>): readonly Transform[] {
  return [{ name, params }]
}

function when(text: string): Condition {
  const parsed = parseCondition(text, { msg: shape, points: [], machine: true, country: true })
  if ('problem' in parsed) throw new Error(parsed.problem)
  return parsed.condition
}

function resultOf(plan: Plan, engine: 'generated' | 'interpreted', bytes: readonly number[] = [0x42, 0x01, 0x31]): string {
  const buffer = Buffer.alloc(4_096)
  buffer.set(bytes)
  const end = compilePlan(plan, { keys, engine }).run(buffer, 0, bytes.length, buffer, 1_024, createContext())
  return end < 0 ? String(end) : buffer.subarray(1_024, end).toString('hex')
}

const zone = (radiusM: number): Record<string, unknown> => ({ names: ['depot'], zones: [{ kind: 'circle', lat: 48, lon: 11, radiusM }] })

// prettier-ignore
const DIFFERENT: readonly (readonly [string, readonly Change[]])[] = [
  ['a constant, with either zero',     [{ chain: of('constant', { value: 0 }) }, { chain: of('constant', { value: -0 }) }, { chain: of('constant', { value: 1 }) }]],
  ['an end of a clamp',                [{ chain: of('clamp', { lo: 0, hi: 9 }) }, { chain: of('clamp', { lo: -0, hi: 9 }) }, { chain: of('clamp', { lo: 0, hi: 8 }) }]],
  ['a bound of a bucket',              [{ chain: of('bucket', { bounds: [0, 5] }) }, { chain: of('bucket', { bounds: [-0, 5] }) }, { chain: of('bucket', { bounds: [0, 5, 6] }) }]],
  ['a table, in keys and in values',   [[1n, 2n], [1n, 3n], [2n, 2n]].map(([from, to]) => ({ field: 'big', chain: of('map', { table: new Map([[from, to]]), else: undefined }) }))],
  ['what a table does not name',       [undefined, 0n, 5n].map((other) => ({ field: 'big', chain: of('map', { table: new Map([[1n, 2n]]), else: other }) }))],
  ['bits',                             [1n, 2n, 2n ** 63n].map((mask) => ({ field: 'big', chain: of('flags', { mask }) }))],
  ['the order of a chain',             [[0, 1], [1, 0]].map((order) => ({ chain: order.map((at) => [...of('round', { step: 5 }), ...of('clamp', { lo: 0, hi: 9 })][at] as Transform) }))],
  ['what a pseudonym stands for',      ['machine', 'operator'].map((subject) => ({ field: 'machine_id', chain: of('pseudonym', { rotate: 'never', as: 'x', subject }) }))],
  ['how long a pseudonym lasts',       ['never', 'session', 86_400_000].map((rotate) => ({ field: 'machine_id', chain: of('pseudonym', { rotate, as: 'x', subject: 'machine' }) }))],
  ['the sign of a mask',               ['*', '#'].map((sign) => ({ field: 'machine_id', chain: of('mask', { first: 1, last: 1, with: sign }) }))],
  ['the field',                        [{ field: 'temp' }, { field: 'lat' }, { field: 'raw' }]],
  ['the condition',                    [{}, { source: { when: when('msg.soc > 1') } }, { source: { when: when('msg.soc > 2') } }]],
  ['what is required',                 [{}, { source: { require: ['note'] } }, { source: { require: ['soc'] } }]],
  ['the topic',                        [{}, { topic: 'out/y' }, { topic: 'out/{note}' }]],
  ['the variant',                      [{ variant: 0 }, { variant: 1 }, { variant: 2 }, { variant: 3 }]],
  ['what counts as a header',          [{}, { stream: { machineField: 'note' } }, { stream: { machineField: 'soc' } }, { stream: { time: { field: 'time_ms', unit: 'ms' } } }, { stream: { time: { field: 'time_ms', unit: 's' } } }]],
  ['output and stream',                [{}, { output: { id: 'other' as Output['id'] } }, { stream: { id: 'other' as OutputStream['stream']['id'] } }]],
  ['a zone',                           [500, 600].map((radiusM) => ({ point: {}, moves: of('hide_in', zone(radiusM)) }))],
  ['a cell, and its memory',           [[500, true], [1000, true], [500, false]].map(([size, sticky]) => ({ point: {}, moves: of('grid', { size, sticky }) }))],
  ['the point',                        [{ point: {} }, { point: { scale: 1e-6 } }, { point: { valid: when('msg.soc > 1') } }, { point: { lat: 'lon', lon: 'lat' } }, { point: { name: 'other' } }]],
]

describe('another plan has another digest', () => {
  test.each(DIFFERENT)('%s', (_what, changes) => {
    const digests = changes.map((change) => planOf(change).digest)
    expect(new Set(digests).size).toBe(digests.length)
    expect(digests.every((digest) => /^[0-9a-f]{64}$/.test(digest))).toBe(true)
    expect(changes.map((change) => planOf(change).digest)).toEqual(digests)
  })

  test('members and keys of a key-value list', () => {
    const part = (shape.byName.get('parts') as FieldShape).message as MessageShape
    const keyed = (keptKeys: readonly number[], members: readonly string[], fn: 'none' | 'j1939_pgn' = 'none'): Plan => {
      const branch = { kind: 'keyed', keyed: { by: { member: 'id', fn }, with: new Map(), only: new Map(keptKeys.map((key) => [key, new Map(members.map((member) => [member, KEEP]))])) } } as const
      const source = streamOf(shape, [{ ...ruleFor(shape, 'parts', []), consent: branch, noConsent: branch }])
      return planFor(outputOf('out/x', [source]), source, VARIANTS[0] as Plan['variant'])
    }
    expect(part.fields).toHaveLength(2)
    const digests = [keyed([1], ['v']), keyed([2], ['v']), keyed([1, 2], ['v']), keyed([1], ['id', 'v']), keyed([1], ['v'], 'j1939_pgn')].map((plan) => plan.digest)
    expect(new Set(digests).size).toBe(digests.length)
  })
})

describe('what is kept', () => {
  test.each(['generated', 'interpreted'] as const)('the zero that is written and the one that is not, whichever came first (%s)', (engine) => {
    const plain = planOf({ chain: of('constant', { value: 0 }) })
    const minus = planOf({ chain: of('constant', { value: -0 }) })
    // [IEEE 754] the sign is the highest bit of the last byte.
    expect([resultOf(plain, engine), resultOf(minus, engine), resultOf(plain, engine)]).toEqual(['420131', '190000000000000080420131', '420131'])
  })

  test('a plan does not get the minimiser of another one that has the same short id', () => {
    const other = planOf({ chain: of('constant', { value: 7 }) })
    const forged: Plan = { ...planOf({ chain: of('constant', { value: 8 }) }), id: other.id }
    expect(resultOf(other, 'generated')).not.toBe(resultOf(forged, 'generated'))
    expect(compilePlan(other, { keys, engine: 'generated' })).toBe(compilePlan(planOf({ chain: of('constant', { value: 7 }) }), { keys, engine: 'generated' }))
  })

  test('an equal plan over a message that only looks the same has its own', () => {
    const renamed = schemasFromText({ 'm.proto': TEXT.replace('uint32 soc = 5', 'uint32 soc = 5 [packed = true]').replace('string note = 8', 'optional string note = 8') }).message('t.All') as MessageShape
    const [one, two] = [planOf({}), planOf({}, renamed)]
    expect(one.digest).toBe(two.digest)
    expect(compilePlan(one, { keys, engine: 'generated' })).not.toBe(compilePlan(two, { keys, engine: 'generated' }))
  })
})
