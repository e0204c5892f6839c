/**
 * Single cases worth remembering: each was once read differently by one of the engines, or by both and the rules language.
 * Bytes are written out, and so is what must leave of them.
 */
import { describe, expect, test } from 'vitest'
import type { Branch, Condition, FieldRule, Point, Transform } from '../../src/domain/policy.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { isRefusal, verdictName } from '../../src/domain/verdict.ts'
import { compilePlan } from '../../src/minimise/compile.ts'
import { parseCondition } from '../../src/minimise/condition.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext, type Context } from '../../src/minimise/interpret.ts'
import { planFor, type Plan, type PlanNode } from '../../src/minimise/plan.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { verify } from '../../src/minimise/verify.ts'
import { outputOf, ruleFor, streamOf } from './fixture.ts'

const root = Buffer.from('3f1b9c7d5e2a4f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8', 'hex')
const keys = { root, tenant: 'cases', rows: derivedRows(root, 'cases') }

const proto3 = shapeOf(`
  syntax = "proto3"; package c;
  import "google/protobuf/timestamp.proto";
  message Inner { uint32 x = 1; string who = 2; float f = 3; }
  message M {
    string machine_id = 1 [(parapet.v1.privacy) = { subject: MACHINE }]; uint32 n = 2; double d = 3; float f = 4; repeated double ds = 5; repeated float fs = 6 [packed = false];
    map<string, uint32> counts = 7; google.protobuf.Timestamp at = 8; repeated google.protobuf.Timestamp ats = 9; bytes b = 10; bool on = 11; sint32 lat = 12; sint32 lon = 13;
    repeated Inner list = 14; Inner inner = 15; double lat_deg = 16; float lon_deg = 17; string note = 18; int64 wide = 19; float f32 = 20;
  }`)
const proto2 = shapeOf(`
  syntax = "proto2"; package c;
  enum Kind { NONE = 0; ONE = 1; }
  message M { map<string, Kind> kinds = 1; optional string text = 2; oneof pick { string a = 3; uint32 b = 4; } repeated string texts = 5; optional group Part = 6 { optional uint32 x = 1; } optional uint32 n = 7; }`)

function shapeOf(text: string): MessageShape {
  const schemas = schemasFromText({ 'c.proto': text })
  expect(schemas.problems).toEqual([])
  return schemas.message('c.M') as MessageShape
}

const KEEP: readonly Transform[] = [{ name: 'keep', params: {} }]
const one = (name: string, params: Record<string, unknown>): readonly Transform[] => [{ name, params }]

interface Setting {
  readonly keep?: readonly string[]
  readonly rules?: readonly FieldRule[]
  readonly when?: string
  readonly topic?: string
  readonly point?: Point
  readonly require?: readonly string[]
  readonly context?: Partial<Context>
}

function planOf(shape: MessageShape, { keep = [], rules = [], when, topic = 'out/{stream}', point, require = [] }: Setting): Plan {
  const placed: FieldRule[] = point === undefined ? [] : [{ path: point.name, target: { kind: 'point', point }, ...same({ kind: 'chain', chain: KEEP }) }]
  const source = streamOf(shape, [...keep.map((path) => ruleFor(shape, path, KEEP)), ...rules, ...placed], { require, when: when === undefined ? undefined : condition(shape, when) })
  return planFor(outputOf(topic, [source]), source, { consent: false, operatorFields: true })
}

function same(branch: Branch): { consent: Branch; noConsent: Branch; pair: boolean; line: number } {
  return { consent: branch, noConsent: branch, pair: false, line: 1 }
}

function condition(shape: MessageShape, text: string): Condition {
  const parsed = parseCondition(text, { msg: shape, points: [], machine: true, country: true })
  if ('problem' in parsed) throw new Error(parsed.problem)
  return parsed.condition
}

/** Hex of what leaves, or the verdict; the same from both engines. Failed transforms are told behind a `!`. */
function minimise(shape: MessageShape, setting: Setting, message: string): string {
  const plan = planOf(shape, setting)
  const bytes = Buffer.from(message.replaceAll(' ', ''), 'hex')
  const results = (['generated', 'interpreted'] as const).map((engine) => {
    const scratch = Buffer.alloc(bytes.length + 8_192)
    scratch.set(bytes)
    const cx = { ...createContext(), eventMs: 1_763_888_864_000, ...setting.context }
    const end = compilePlan(plan, { keys, engine }).run(scratch, 0, bytes.length, scratch, bytes.length + 1, cx)
    if (end < 0) return `${isRefusal(end) ? 'refused' : 'withheld'}: ${verdictName(end)}`
    return `${scratch.subarray(bytes.length + 1, end).toString('hex')}${cx.failures === 0 ? '' : `!${cx.failures}`}`
  })
  expect(results[0]).toBe(results[1])
  return results[1] as string
}

describe('maps', () => {
  test('both parts of an entry are written, be they default', () => expect(minimise(proto3, { keep: ['counts'] }, '3a 04 0a 00 10 00')).toBe('3a040a001000'))
  test('a missing part is the default', () => expect(minimise(proto3, { keep: ['counts'] }, '3a 00')).toBe('3a040a001000'))
  test('a value whose transform cannot be applied takes its key along', () => {
    const rules = [ruleFor(proto3, 'counts', one('map', { table: new Map([[1, 2]]), else: undefined }))]
    expect(minimise(proto3, { rules }, '3a050a01611001 3a050a01621005')).toBe('3a050a01611002!1')
  })
  test('the last entry of a key wins and stands where it came', () => expect(minimise(proto3, { keep: ['counts'] }, '3a050a01611001 3a050a01621002 3a050a01611003')).toBe('3a050a016210023a050a01611003'))
  test('an entry with a number that its closed enum does not have is unknown as a whole', () => {
    expect(minimise(proto2, { keep: ['kinds', 'n'] }, '0a050a01611001 0a050a01621009 3801')).toBe('0a050a016110013801')
    // The last number of the entry counts.
    expect(minimise(proto2, { keep: ['kinds', 'n'] }, '0a070a016110091001 0a070a016210011009')).toBe('0a050a01611001')
  })
})

describe('texts that are not UTF-8', () => {
  test('refuse a message whose schema forbids them, kept or not', () => {
    expect(minimise(proto3, { keep: ['n'] }, '1001 92 01 01 ff')).toBe('refused: bad_utf8')
    expect(minimise(proto3, { keep: ['n', 'list'] }, '1001 72 03 12 01 c0')).toBe('refused: bad_utf8')
  })
  test('read as absent elsewhere, and the last one counts', () => {
    expect(minimise(proto2, { keep: ['text', 'n'] }, '12 01 61 12 01 ff 38 01')).toBe('3801')
    expect(minimise(proto2, { keep: ['text', 'n'] }, '12 01 ff 12 01 61 38 01')).toBe('1201613801')
    expect(minimise(proto2, { keep: ['texts'] }, '2a 01 61 2a 01 ff 2a 01 62')).toBe('2a01612a0162')
  })
  test('end the other members of their oneof', () => expect(minimise(proto2, { keep: ['a', 'b', 'n'] }, '20 05 1a 01 ff 38 01')).toBe('3801'))
})

describe('numbers that are none', () => {
  const nan64 = '000000000000f87f'
  const nan32 = '0000c07f'
  test.each([
    ['a kept double', ['d'], '19 010000000000f47f', `19${nan64}`],
    ['a kept float', ['f'], '25 0100a07f', `25${nan32}`],
    ['packed doubles', ['ds'], '2a 10 010000000000f4ff 000000000000f03f', `2a10${nan64}000000000000f03f`],
    ['floats one by one', ['fs'], '35 3412c0ff', `35${nan32}`],
    ['a float in a kept message', ['list'], '72 05 1d 3412c0ff', `72051d${nan32}`],
  ])('%s has one form of NaN', (_name, keep, message, expected) => expect(minimise(proto3, { keep }, message)).toBe(expected))

  test('infinity stays', () => expect(minimise(proto3, { keep: ['d', 'f'] }, '19 000000000000f0ff 25 0000807f')).toBe('19000000000000f0ff250000807f'))
  test('a kept position has one form of NaN', () => {
    const point: Point = { name: 'position', kind: 'plain', lat: 'lat_deg', lon: 'lon_deg', dlat: undefined, dlon: undefined, dt: undefined, scale: 1, valid: undefined }
    expect(minimise(proto3, { point }, '8101 010000000000f47f 8d01 3412c0ff')).toBe(`8101${nan64}8d01${nan32}`)
  })
  test('rounding beyond what the type holds drops the field', () => {
    expect(minimise(proto3, { keep: ['n'], rules: [ruleFor(proto3, 'd', one('round', { step: 0.5 }))] }, '1001 19 763b7730d142eeff')).toBe('1001!1')
    expect(minimise(proto3, { keep: ['n'], rules: [ruleFor(proto3, 'f32', one('round', { step: 2 ** 127 * 1.2 }))] }, '1001 a501 ffff7f7f')).toBe('1001!1')
  })
})

describe('times', () => {
  const rules = [ruleFor(proto3, 'at', one('round_time', { ms: 900_000, wire: 900_000 }))]
  test('before all times are dropped', () => expect(minimise(proto3, { keep: ['n'], rules }, '1001 420b 0880808080808080808001')).toBe('1001!1'))
  test('with parts out of range are dropped', () => expect(minimise(proto3, { keep: ['n'], rules }, '1001 4206 108094ebdc03')).toBe('1001!1'))
  test('in the first window of the epoch leave nothing', () => expect(minimise(proto3, { keep: ['n'], rules }, '1001 4202 0805')).toBe('1001'))
})

describe('conditions', () => {
  test('has() of bytes that are there and empty is false without presence', () => expect(minimise(proto3, { keep: ['n'], when: 'has(msg.b)' }, '1001 5200')).toBe('withheld: when_false'))
  test('a legal record whose condition fails sends no personal member of a key-value list', () => {
    const shape = shapeOf(`syntax = "proto3"; package c; message E { uint32 id = 1 [(parapet.v1.privacy) = { personal: NEVER }]; uint32 v = 2 [(parapet.v1.privacy) = { personal: ALWAYS }]; }
      message M { repeated E s = 1 [(parapet.v1.privacy) = { personal: NEVER }]; uint32 zero = 2; }`)
    const branch = same({ kind: 'keyed', keyed: { by: { member: 'id', fn: 'none' }, with: new Map([['id', KEEP]]), only: new Map([[7, new Map([['v', KEEP]])]]) } })
    const rule: FieldRule = { path: 's', target: { kind: 'field', fields: [shape.byName.get('s') as FieldShape] }, ...branch }
    const message = '0a 04 08 07 10 2a'
    expect(minimise(shape, { rules: [rule] }, message)).toBe('0a040807102a')
    expect(minimise(shape, { rules: [rule], when: '1 / msg.zero > 0', context: { legal: true } }, message)).toBe('0a020807')
    expect(minimise(shape, { rules: [rule], when: '1 / msg.zero > 0' }, message)).toBe('withheld: when_error')
  })
})

describe('topics', () => {
  test('a field that this variant drops fills no topic, not even with its default', () => {
    const drop = { kind: 'chain', chain: [] } as const
    const rule = { ...ruleFor(proto3, 'n', KEEP), noConsent: drop, pair: true }
    expect(minimise(proto3, { keep: ['on'], rules: [rule], topic: 'out/{n}' }, '1005 5801')).toBe('withheld: bad_topic_value')
  })
})

describe('zones', () => {
  test('a plan with a circle has an id as any other', () => {
    const point: Point = { name: 'position', kind: 'plain', lat: 'lat', lon: 'lon', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined }
    const zones = [{ kind: 'circle', lat: 48, lon: 11, radiusM: 500 }] as const
    const rule: FieldRule = { path: 'position', target: { kind: 'point', point }, ...same({ kind: 'chain', chain: one('hide_in', { names: ['depot'], zones }) }) }
    // 48.0 and 11.0 degrees, then 49.0 and 11.0.
    expect(minimise(proto3, { keep: ['n'], rules: [rule] }, '1001 60 80e0e1c903 68 80def368')).toBe('1001!1')
    expect(minimise(proto3, { keep: ['n'], rules: [rule] }, '1001 60 80baa6d303 68 80def368')).toBe('1001 6080baa6d303 6880def368'.replaceAll(' ', ''))
  })
})

describe('bounds', () => {
  test('a name of more than a kilobyte has no row: it is dropped, and nothing throws', () => {
    const rules = [ruleFor(proto3, 'machine_id', one('pseudonym', { rotate: 'never', as: 'machine', subject: 'machine' }))]
    expect(minimise(proto3, { keep: ['n'], rules }, `0a 8010 ${'61'.repeat(2_048)} 1001`)).toBe('1001!1')
  })

  const deep = (levels: number): string => Array.from({ length: levels }).reduce((inner: string) => {
    const length = inner.length / 2
    return `12${(length < 128 ? [length] : [(length % 128) + 128, length >> 7]).map((byte) => byte.toString(16).padStart(2, '0')).join('')}${inner}`
  }, '0801')
  const nested = shapeOf('syntax = "proto3"; package c; message M { uint32 x = 1; M inner = 2; }')
  test('messages nest to depth 32 and no deeper', () => {
    expect(minimise(nested, { keep: ['inner.x'] }, deep(31))).toBe('withheld: empty')
    expect(minimise(nested, { keep: ['inner.x'] }, deep(32))).toBe('refused: too_deep')
  })
  test('unknown groups do not nest without end', () => {
    expect(minimise(nested, { keep: ['x'] }, `0801 ${'1b'.repeat(20)}${'1c'.repeat(20)}`)).toBe('0801')
    expect(minimise(nested, { keep: ['x'] }, `0801 ${'1b'.repeat(40)}${'1c'.repeat(40)}`)).toBe('refused: too_deep')
  })
})

/** These fail today; vitest tells when one of them is mended and the mark can go. */
describe('open', () => {
  test('the verifier knows groups', () => {
    const plan = planOf(proto2, { keep: ['part'] })
    expect(verify(plan, Buffer.from('33080134', 'hex'))).toBeUndefined()
  })

  test.fails('each time of a repeated Timestamp is rounded', () => {
    const rules = [ruleFor(proto3, 'ats', one('round_time', { ms: 900_000, wire: 900_000 }))]
    expect(minimise(proto3, { rules }, '4a 03 088907')).toBe('4a03088407')
  })

  test.fails('the plan of a type that holds itself three times grows with its depth, not with its branches', () => {
    const shape = shapeOf('syntax = "proto3"; package c; message M { uint32 x = 1; M a = 2; M b = 3; M c = 4; }')
    const nodes = new Set<PlanNode>()
    const walk = (node: PlanNode): void => {
      if (nodes.has(node)) return
      nodes.add(node)
      for (const step of node.steps) if (step.kind === 'node') walk(step.node)
    }
    walk(planOf(shape, { keep: ['a', 'b', 'c'] }).root)
    expect(nodes.size).toBeLessThan(1_000)
  })

  test.fails('machine and time fields are no content where a message holds them', () => {
    const shape = shapeOf('syntax = "proto3"; package c; message Header { string machine_id = 1 [(parapet.v1.privacy) = { subject: MACHINE }]; uint64 time = 2 [(parapet.v1.privacy) = { category: "time" }]; } message M { Header header = 1; uint32 n = 2; }')
    expect(minimise(shape, { keep: ['header', 'n'] }, '0a 05 0a 01 61 10 05')).toBe('withheld: empty')
  })

  test.fails('a field without presence in a message that is absent is missing', () => {
    expect(minimise(proto3, { keep: ['inner.x', 'n'], require: ['inner.x'] }, '1001')).toBe('withheld: required_missing')
  })

  test.fails('an absent field of proto2 reads as the default that its schema gives', () => {
    const shape = shapeOf('syntax = "proto2"; package c; message M { optional uint32 level = 1 [default = 5]; optional uint32 n = 2; }')
    expect(minimise(shape, { keep: ['n'], when: 'msg.level == 5' }, '1001')).toBe('1001')
  })

  test.fails('a track whose first points stay behind keeps the times of the others', () => {
    const schemas = schemasFromText({ 'c.proto': 'syntax = "proto3"; package c; message M { sint32 lat = 1; sint32 lon = 2; repeated sint32 dlat = 3; repeated sint32 dlon = 4; repeated uint32 dt = 5; }' })
    const shape = schemas.message('c.M') as MessageShape
    const point: Point = { name: 'track', kind: 'delta', lat: 'lat', lon: 'lon', dlat: 'dlat', dlon: 'dlon', dt: 'dt', scale: 1e-7, valid: undefined }
    const zones = [{ kind: 'polygon', corners: [[-1, -1], [-1, 1], [1, 1], [1, -1]] }] as const
    const source = streamOf(shape, [{ path: 'track', target: { kind: 'point', point }, ...same({ kind: 'chain', chain: one('hide_in', { names: ['home'], zones }) }) }])
    const plan = planFor(outputOf('out', [source]), source, { consent: false, operatorFields: true })
    // Hidden at 0.5 degrees; after 60 s at 2.5, after 60 s more at 2.6.
    const bytes = schemas.encode('c.M', { lat: 5_000_000, lon: 5_000_000, dlat: [20_000_000, 1_000_000], dlon: [20_000_000, 1_000_000], dt: [60_000, 60_000] })
    const scratch = Buffer.alloc(8_192)
    scratch.set(bytes)
    const end = compilePlan(plan, { keys, engine: 'interpreted' }).run(scratch, 0, bytes.length, scratch, bytes.length + 1, createContext())
    const left = schemas.decode('c.M', scratch.subarray(bytes.length + 1, end))
    expect(left).toMatchObject({ lat: 25_000_000, lon: 25_000_000, dlat: [1_000_000], dlon: [1_000_000] })
    // The base's time is a field of its own: as it is, a reader takes the first point to be a minute older than it was.
    expect(left.dt).not.toEqual([60_000])
  })
})
