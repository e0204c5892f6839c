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
import { nodesOf, planFor, type Plan } from '../../src/minimise/plan.ts'
import { createFacts, createProbe } from '../../src/minimise/probe.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { RUNTIME } from '../../src/minimise/runtime.ts'
import { TRANSFORMS } from '../../src/minimise/transforms.ts'
import { verify } from '../../src/minimise/verify.ts'
import { ENGINES } from '../engine.ts'
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
const knownSchemas = schemasFromText({ 'c.proto': `
  syntax = "proto3"; package c; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto";
  message M { map<string, google.protobuf.Timestamp> times = 1; google.protobuf.Duration wait = 2; google.protobuf.UInt32Value count = 3; google.protobuf.DoubleValue factor = 4; google.protobuf.Int64Value at_s = 5; }` })
const known = knownSchemas.message('c.M') as MessageShape
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
  readonly operatorFields?: boolean
}

function planOf(shape: MessageShape, { keep = [], rules = [], when, topic = 'out/{stream}', point, require = [], operatorFields = true }: Setting): Plan {
  const placed: FieldRule[] = point === undefined ? [] : [{ path: point.name, target: { kind: 'point', point }, ...same({ kind: 'chain', chain: KEEP }) }]
  const source = streamOf(shape, [...keep.map((path) => ruleFor(shape, path, KEEP)), ...rules, ...placed], { require, when: when === undefined ? undefined : condition(shape, when) })
  return planFor(outputOf(topic, [source]), source, { consent: false, operatorFields })
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
  const results = ENGINES.map((engine) => {
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

describe('whole numbers have one zero', () => {
  test.each([
    ['clamp', [-0, 5]], ['constant', -0], ['bucket', [-0, 5]], ['map', { '-3': -0 }],
  ])('%s to -0 leaves a field without presence out', (name, argument) => {
    const spec = TRANSFORMS.get(name)
    const read = spec?.read(argument, { field: proto3.byName.get('lat'), point: false, timeUnit: undefined, path: 'lat' })
    expect(read).toHaveProperty('params')
    if (read === undefined || 'problem' in read) return
    expect(minimise(proto3, { keep: ['n'], rules: [ruleFor(proto3, 'lat', [{ name, params: read.params }])] }, '1001 6005')).toBe('1001')
  })
})

describe('a position beyond what its field holds', () => {
  test.each([['sint32', '08d00f 10feffffff0f'], ['int32', '08e807 10ffffffff07'], ['sfixed32', '0de8030000 15ffffff7f']])('is dropped and counted: %s of 1e-9 degrees', (type, message) => {
    const shape = shapeOf(`syntax = "proto3"; package c; message M { ${type} lat = 1; ${type} lon = 2; uint32 n = 3; }`)
    const point: Point = { name: 'position', kind: 'plain', lat: 'lat', lon: 'lon', dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-9, valid: undefined }
    const rule: FieldRule = { path: 'position', target: { kind: 'point', point }, ...same({ kind: 'chain', chain: one('grid', { size: 100_000, sticky: false }) }) }
    expect(minimise(shape, { keep: ['n'], rules: [rule] }, `${message} 1801`)).toBe('1801!1')
  })
})

describe('a time of 32 bits', () => {
  test('counts by its low half, as for whoever reads the result', () => {
    const stream = { ...streamOf(proto3, []).stream, time: { field: 'n', unit: 's' } as const }
    const facts = createFacts()
    for (const bytes of ['10 e09d8bc906', '10 e09d8bc9f603']) {
      const message = Buffer.from(bytes.replaceAll(' ', ''), 'hex')
      expect(createProbe(stream)(Buffer.concat([message, Buffer.alloc(8)]), 0, message.length, facts)).toBe(0)
      expect(facts.eventMs).toBe(1_763_888_864_000)
    }
  })
})

describe('chains', () => {
  test('a step whose result the type cannot hold drops the field, whatever follows', () => {
    const chain = [...one('round', { step: 50 }), ...one('clamp', { lo: 0, hi: 900_000 })]
    expect(minimise(proto3, { keep: ['on'], rules: [ruleFor(proto3, 'n', chain)] }, '10feffffff0f 5801')).toBe('5801!1')
    expect(minimise(proto3, { keep: ['on'], rules: [ruleFor(proto3, 'n', chain)] }, '10cd02 5801')).toBe('10de025801')
  })
})

describe('times', () => {
  const quarter = one('round_time', { ms: 900_000, wire: 900_000 })
  const rules = [ruleFor(proto3, 'at', quarter)]
  test('before all times are dropped', () => expect(minimise(proto3, { keep: ['n'], rules }, '1001 420b 0880808080808080808001')).toBe('1001!1'))
  test('with parts out of range are dropped', () => expect(minimise(proto3, { keep: ['n'], rules }, '1001 4206 108094ebdc03')).toBe('1001!1'))
  test('in the first window of the epoch are the epoch, and still there', () => expect(minimise(proto3, { keep: ['n'], rules }, '1001 4202 0805')).toBe('10014200'))
  test('in a list are rounded one by one; what is no time goes alone', () => {
    expect(minimise(proto3, { rules: [ruleFor(proto3, 'ats', quarter)] }, '4a 03 088907')).toBe('4a03088407')
    expect(minimise(proto3, { rules: [ruleFor(proto3, 'ats', quarter)] }, '4a03088907 4a06108094ebdc03 4a020801')).toBe('4a030884074a00!1')
  })
  test('in a map are rounded; what is no time takes its key along', () => {
    expect(minimise(known, { rules: [ruleFor(known, 'times', quarter)] }, '0a08 0a0161 1203088907 0a0b 0a0162 1206108094ebdc03')).toBe('0a080a01611203088407!1')
  })
  test('of nothing but header fields are no content', () => {
    const shape = shapeOf(`syntax = "proto3"; package c; import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp at = 1 [(parapet.v1.privacy) = { category: "time" }]; uint32 n = 2; }`)
    expect(minimise(shape, { keep: ['at', 'n'] }, '0a03088907')).toBe('withheld: empty')
    expect(minimise(shape, { keep: ['at', 'n'] }, '0a03088907 1001')).toBe('0a030889071001')
  })
})

describe('lengths of time and wrappers', () => {
  const seconds = (value: number, nanos = 0): string => Buffer.from(knownSchemas.encode('c.M', { wait: { seconds: value, nanos } })).toString('hex')
  const waits = (chain: readonly Transform[], from: string): string => minimise(known, { rules: [ruleFor(known, 'wait', chain)] }, from)
  test.each([
    [700, 600], [-700, -600], [450, 600], [-450, -600], [449, 300], [149, 0],
  ])('round: 5 min of %s s is %s s, halves away from zero', (given, wanted) => expect(waits(one('round', { step: 300 }), seconds(given))).toBe(wanted === 0 ? '1200' : seconds(wanted)))
  test.each([
    [1_000, 900], [-1, -900], [899, 0],
  ])('round_time: 15m of %s s is %s s', (given, wanted) => expect(waits(one('round_time', { ms: 900_000, wire: 900_000 }), seconds(given))).toBe(wanted === 0 ? '1200' : seconds(wanted)))
  test('parts of a second have the sign of the whole', () => expect(waits(one('round', { step: 0.5 }), seconds(-1, -300_000_000))).toBe(seconds(-1, -500_000_000)))
  test('parts of two signs, and more than ten thousand years, are no length of time', () => {
    expect(minimise(known, { keep: ['count'], rules: [ruleFor(known, 'wait', one('round', { step: 1 }))] }, `${seconds(1, -1)} 1a020801`)).toBe('1a020801!1')
    expect(minimise(known, { keep: ['count'], rules: [ruleFor(known, 'wait', one('round', { step: 1 }))] }, `${seconds(315_576_000_001)} 1a020801`)).toBe('1a020801!1')
  })
  test('a wrapped number is rounded as it is outside, and is there when it becomes zero', () => {
    expect(minimise(known, { rules: [ruleFor(known, 'count', one('round', { step: 10 }))] }, '1a020807')).toBe('1a02080a')
    expect(minimise(known, { rules: [ruleFor(known, 'count', one('round', { step: 10 }))] }, '1a020804')).toBe('1a00')
    expect(minimise(known, { rules: [ruleFor(known, 'count', one('round', { step: 10 }))] }, '1a00')).toBe('1a00')
    expect(minimise(known, { keep: ['wait'], rules: [ruleFor(known, 'count', one('round', { step: 10 }))] }, '1200')).toBe('1200')
    expect(minimise(known, { rules: [ruleFor(known, 'factor', one('round', { step: 0.5 }))] }, '22 09 09 6666666666660240')).toBe('2209090000000000000440')
    expect(minimise(known, { rules: [ruleFor(known, 'at_s', one('round_time', { ms: 900_000, wire: 900 }))] }, '2a03088907')).toBe('2a03088407')
  })
  test('what cannot be rounded takes its wrapper along', () => expect(minimise(known, { keep: ['wait'], rules: [ruleFor(known, 'factor', one('round', { step: 0.5 }))] }, '1200 22 09 09 000000000000f87f')).toBe('1200!1'))
  test('no transform that does not fit is let through', () => {
    expect(() => compilePlan(planOf(known, { rules: [ruleFor(known, 'wait', one('truncate', { length: 1 }))] }), { keys, engine: 'interpreted' })).toThrow('truncate does not fit google.protobuf.Duration')
    expect(() => compilePlan(planOf(proto3, { rules: [ruleFor(proto3, 'inner', one('round', { step: 1 }))] }), { keys, engine: 'generated' })).toThrow('round does not fit c.Inner')
  })
})

describe('messages of which nothing is left', () => {
  const keepAll = { keep: ['inner', 'n'] }
  test('leave when every field of theirs is kept, be they named whole or one by one', () => {
    expect(minimise(proto3, keepAll, '7a00')).toBe('7a00')
    expect(minimise(proto3, { keep: ['inner.x', 'inner.who', 'inner.f'] }, '7a00')).toBe('7a00')
    // Unknown fields are nothing.
    expect(minimise(proto3, keepAll, '7a03 a00607')).toBe('7a00')
  })
  test('do not leave when a field of theirs is not named, or changed, so that nobody sees that it was there', () => {
    const rules = [ruleFor(proto3, 'inner.x', one('round', { step: 100 }))]
    for (const message of ['1001 7a00', '1001 7a020801', '1001 7a03120161', '1001']) {
      expect(minimise(proto3, { keep: ['inner.x', 'n'] }, message)).toBe(message.includes('0801') ? '10017a020801' : '1001')
      expect(minimise(proto3, { keep: ['inner.who', 'inner.f', 'n'], rules }, message)).toBe(message.includes('120161') ? '10017a03120161' : '1001')
    }
  })
  test('do not leave when a field that names the operator may not', () => {
    const shape = shapeOf(`syntax = "proto3"; package c; message Part { string who = 1 [(parapet.v1.privacy) = { subject: OPERATOR }]; uint32 x = 2; Part again = 3; } message M { Part part = 1; uint32 n = 2; }`)
    const leaves = (operatorFields: boolean, message: string): string => minimise(shape, { keep: ['part', 'n'], operatorFields }, message)
    for (const message of ['0a00 1001', '0a030a0161 1001', '0a021a00 1001', '0a051a030a0161 1001']) {
      expect(leaves(false, message)).toBe('1001')
      expect(leaves(true, message)).toBe(message.replaceAll(' ', ''))
    }
    expect(leaves(false, '0a07 0a0161 1a02 1005 1001')).toBe('0a041a0210051001')
  })
  test('keep the case of a oneof', () => {
    const shape = shapeOf('syntax = "proto3"; package c; message Stop {} message Go { uint32 speed = 1; } message M { oneof what { Stop stop = 1; Go go = 2; } }')
    expect(minimise(shape, { keep: ['stop', 'go'] }, '0a00')).toBe('0a00')
    expect(minimise(shape, { keep: ['stop', 'go'] }, '12020801 0a00')).toBe('0a00')
    expect(minimise(shape, { keep: ['stop', 'go'] }, '0a00 1200')).toBe('1200')
  })
})

describe('header fields', () => {
  const shape = shapeOf(`syntax = "proto3"; package c; message Header { string machine_id = 1 [(parapet.v1.privacy) = { subject: MACHINE }]; uint64 time = 2 [(parapet.v1.privacy) = { category: "time" }]; }
    message Origin { string id = 1; uint32 kind = 2; } message M { Header header = 1; uint32 n = 2; Origin origin = 3; Origin other = 4; repeated Header parts = 5; }`)
  test('are no content where a message holds them', () => {
    expect(minimise(shape, { keep: ['header', 'n'] }, '0a 05 0a 01 61 10 05')).toBe('withheld: empty')
    expect(minimise(shape, { keep: ['header', 'n'] }, '0a00')).toBe('withheld: empty')
    expect(minimise(shape, { keep: ['header', 'n'] }, '0a050a01611005 1001')).toBe('0a050a016110051001')
    expect(minimise(shape, { keep: ['header.machine_id', 'header.time'] }, '0a050a01611005')).toBe('withheld: empty')
  })
  test('are those of one place, not of every message of the type', () => {
    const setting = { keep: ['origin', 'other'], topic: 'out/{origin.id}' }
    expect(minimise(shape, setting, '1a030a0161')).toBe('withheld: empty')
    expect(minimise(shape, setting, '1a030a0161 22030a0161')).toBe('1a030a016122030a0161')
    expect(minimise(shape, setting, '1a050a01611001')).toBe('1a050a01611001')
  })
  test('in a list are content: how many there are is told', () => expect(minimise(shape, { keep: ['parts'] }, '2a030a0161')).toBe('2a030a0161'))
})

describe('required fields', () => {
  test('of a message that does not leave are missing', () => {
    expect(minimise(proto3, { keep: ['inner.x', 'n'], require: ['inner.x'] }, '1001')).toBe('withheld: required_missing')
    // No difference between a message that is absent and one that holds only what is not named.
    expect(minimise(proto3, { keep: ['inner.x', 'n'], require: ['inner.x'] }, '1001 7a03120161')).toBe('withheld: required_missing')
  })
  test('without presence are there when their message is', () => {
    expect(minimise(proto3, { keep: ['inner', 'n'], require: ['inner.x'] }, '1001 7a03120161')).toBe('10017a03120161')
    expect(minimise(proto3, { keep: ['inner', 'n'], require: ['inner.x'] }, '1001 7a00')).toBe('10017a00')
  })
  test('in a list are missing', () => expect(minimise(proto3, { keep: ['list.x', 'n'], require: ['list.x'] }, '1001 72020801')).toBe('withheld: required_missing'))
  test('a topic takes no value from a message that is not there', () => {
    expect(minimise(proto3, { keep: ['inner.x', 'inner.who', 'n'], topic: 'out/{inner.x}' }, '1001')).toBe('withheld: bad_topic_value')
    expect(minimise(proto3, { keep: ['inner.x', 'inner.who', 'n'], topic: 'out/{inner.x}' }, '1001 7a03120161')).toBe('10017a03120161')
  })
})

describe('absent fields of proto2', () => {
  const shape = shapeOf(`syntax = "proto2"; package c; enum Mode { DRIVE = 3; OFF = 0; }
    message M { optional uint32 level = 1 [default = 5]; optional uint32 n = 2; optional Mode mode = 3; map<string, Mode> modes = 4; optional string name = 5 [default = "none"]; optional int64 wide = 6 [default = -9007199254740993];
      repeated E s = 7; optional double d = 8 [default = -inf]; }
    message E { optional uint32 id = 1 [default = 7]; optional uint32 v = 2; }`)
  test.each([
    ['msg.level == 5'], ['!has(msg.level)'], ['msg.mode == DRIVE'], ["msg.name.startsWith('no')"], ['msg.wide == -9007199254740993'], ['msg.d < 0.0'], ['msg.level + 1 == 6'],
  ])('read as their default: %s', (when) => expect(minimise(shape, { keep: ['n'], when }, '1001')).toBe('1001'))
  test('never leave', () => expect(minimise(shape, { keep: ['n', 'mode', 'name', 'wide', 'd'], rules: [ruleFor(shape, 'level', one('round', { step: 2 }))] }, '1001')).toBe('1001'))
  test('are there when their zero is written', () => expect(minimise(shape, { keep: ['level'], when: 'msg.level == 0' }, '0800')).toBe('0800'))
  test('an entry without a value has the first member of its enum', () => expect(minimise(shape, { keep: ['modes'] }, '22030a0161')).toBe('22050a01611003'))
  test('a key that is absent is the default one', () => {
    const branch = same({ kind: 'keyed', keyed: { by: { member: 'id', fn: 'none' }, with: new Map([['id', KEEP]]), only: new Map([[7, new Map([['v', KEEP]])]]) } })
    expect(minimise(shape, { rules: [{ path: 's', target: { kind: 'field', fields: [shape.byName.get('s') as FieldShape] }, ...branch }] }, '3a021001 3a0408001002')).toBe('3a021001')
  })
})

describe('types that contain themselves', () => {
  const shape = shapeOf('syntax = "proto3"; package c; message M { uint32 x = 1; M a = 2; M b = 3; M c = 4; Other other = 5; map<string, M> more = 6; repeated M list = 7; } message Other { M m = 1; Other o = 2; bytes data = 3; }')
  const plan = planOf(shape, { keep: ['a', 'b', 'c', 'other', 'more', 'list'] })
  const wrap = (levels: number, inner: string): string => Array.from({ length: levels }).reduce((text: string) => `1a${(text.length / 2).toString(16).padStart(2, '0')}${text}`, inner)

  test('have one node for each type, and plans of equal content have equal ids', () => {
    expect(nodesOf(plan.root)).toHaveLength(3)
    expect(planOf(shape, { keep: ['a', 'b', 'c', 'other', 'more', 'list'] }).id).toBe(plan.id)
    expect(planOf(shape, { keep: ['a', 'b', 'other', 'more', 'list'] }).id).not.toBe(plan.id)
  })
  test('leave to any depth that messages may have', () => {
    const message = wrap(30, '0801')
    expect(minimise(shape, { keep: ['a', 'b', 'c'] }, message)).toBe(message)
    expect(minimise(shape, { keep: ['a', 'b', 'c'] }, wrap(31, '0801'))).toBe(wrap(31, '0801'))
    expect(minimise(shape, { keep: ['a', 'b', 'c'] }, wrap(32, '0801'))).toBe('refused: too_deep')
  })
  test('the verifier walks them, and sees what is not theirs at any depth', () => {
    expect(verify(plan, Buffer.from(wrap(30, '0801'), 'hex'))).toBeUndefined()
    expect(verify(plan, Buffer.from(wrap(30, '4001'), 'hex'))).toContain('field 8 is not in the plan')
  })
  test('a field that may not leave stays behind wherever it is', () => {
    const personal = shapeOf('syntax = "proto3"; package c; message M { uint32 x = 1; M a = 2; string who = 3 [(parapet.v1.privacy) = { subject: SESSION }]; }')
    expect(minimise(personal, { keep: ['a'], operatorFields: false }, '120b 1209 0801 1a0161 1202 0802')).toBe('12081206080112020802')
  })
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
  test('a legal record whose condition fails sends nothing out of a message that says of itself that it is personal', () => {
    const shape = shapeOf(`syntax = "proto3"; package c; message D { uint32 v = 1 [(parapet.v1.privacy) = { personal: NEVER }]; }
      message M { D driver = 1 [(parapet.v1.privacy) = { personal: ALWAYS }]; uint32 zero = 2; D engine = 3; }`)
    const legal = { keep: ['driver.v', 'engine.v'], when: '1 / msg.zero > 0', context: { legal: true } }
    expect(minimise(shape, legal, '0a020805 1a020806')).toBe('1a020806')
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

describe('groups', () => {
  test('are known to the verifier', () => expect(verify(planOf(proto2, { keep: ['part'] }), Buffer.from('33080134', 'hex'))).toBeUndefined())
})

describe('bounds', () => {
  test('keys of a map are compared within their entries, whatever length they state', () => {
    // Each key says that it is 256 MiB long, and all that follows repeats the same bytes.
    const bytes = Buffer.alloc(7 * 4_000, Buffer.from('0a050affffff7f', 'hex'))
    let reads = 0
    const counted = new Proxy(bytes, { get: (target, name) => (reads++, Reflect.get(target, name) as unknown) })
    RUNTIME.repeatsKey(counted, 0, 7 * 32, 1)
    expect(reads).toBeLessThan(7 * 32 * 4)
  })
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
