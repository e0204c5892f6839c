/** What is read of .proto files beyond plain fields, and the JSON form of messages (protobuf.dev "ProtoJSON Format"). */
import { describe, expect, test } from 'vitest'
import { schemasFromText } from '../../src/minimise/descriptor.ts'

describe('what an absent field reads as', () => {
  const schemas = schemasFromText({
    'd.proto': `syntax = "proto2"; package d;
      enum Mode { LIFT = 3; OFF = 0; }
      message M {
        optional int64 low = 1 [default = -9007199254740993]; optional uint64 high = 2 [deprecated = true, default = 0xFFFFFFFFFFFFFFF1]; optional int32 hex = 3 [default = -0x10];
        optional double least = 4 [default = -inf]; optional float tenth = 5 [default = 0.1]; optional Mode mode = 6; optional Mode off = 7 [default = OFF]; map<string, Mode> modes = 8;
        optional string text = 9 [default = "a\\tb"]; optional bool on = 10 [default = true]; repeated Mode list = 11; optional uint32 plain = 12; oneof pick { uint32 one = 13 [default = 4]; }
      }`,
    'e.proto': 'edition = "2023"; package e; enum Open { ZERO = 0; ONE = 1; } message M { int32 stated = 1 [default = 7]; int32 implicit = 2 [features.field_presence = IMPLICIT]; Open open = 3; Open one = 4 [default = ONE]; }',
    'p.proto': 'syntax = "proto3"; package p; message M { uint32 n = 1; optional uint32 m = 2; }',
  })
  test.each([
    ['d.M.low', -9_007_199_254_740_993n], ['d.M.high', 18_446_744_073_709_551_601n], ['d.M.hex', -16], ['d.M.least', Number.NEGATIVE_INFINITY], ['d.M.tenth', Math.fround(0.1)],
    ['d.M.mode', 3], ['d.M.off', undefined], ['d.M.text', 'a\tb'], ['d.M.on', true], ['d.M.list', undefined], ['d.M.plain', undefined], ['d.M.one', 4],
    ['e.M.stated', 7], ['e.M.implicit', undefined], ['e.M.open', undefined], ['e.M.one', 1], ['p.M.n', undefined], ['p.M.m', undefined],
  ])('%s: %s', (path, expected) => {
    expect(schemas.problems).toEqual([])
    expect(schemas.message(path.slice(0, 3))?.byName.get(path.slice(4))?.initial).toBe(expected)
  })
  test('the value of a map entry begins with the first member too', () => expect(schemas.message('d.M')?.byName.get('modes')?.message?.byNumber.get(2)?.initial).toBe(3))
})

test('two sets of files have one hash only if both are the same, or one is refused', () => {
  const [a, b] = ['syntax = "proto3"; package t; message M { string note = 1; } //', 'syntax = "proto3"; package t; message N { string note = 1; }']
  const two = schemasFromText({ 'a.proto': a, 'b.proto': b })
  const one = schemasFromText({ 'a.proto': `${a}\u0000b.proto\u0000${b}` })
  const own = (names: readonly string[]): readonly string[] => names.filter((name) => name.startsWith('t.'))
  expect([own(two.messages), two.problems, own(one.messages)]).toEqual([['t.M', 't.N'], [], ['t.M']])
  expect(one.hash).toBe(two.hash)
  expect(one.problems).toEqual(['a.proto: a NUL character stands in it, which no .proto file has.'])
})

describe('JSON of well-known types', () => {
  const schemas = schemasFromText({
    'k.proto': `syntax = "proto3"; package k; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto";
      message M { google.protobuf.Timestamp at = 1; google.protobuf.Duration wait = 2; repeated google.protobuf.Duration waits = 3; google.protobuf.DoubleValue d = 4; google.protobuf.StringValue s = 5;
        google.protobuf.Int64Value wide = 6; google.protobuf.BoolValue on = 7; map<string, google.protobuf.UInt32Value> counts = 8; }`,
  })
  const json = {
    at: '2025-11-23T08:00:00.250Z', wait: '-1.500s', waits: ['0s', '3s', '0.000000001s', '-315576000000.999999999s'], d: 1.5, s: 'word', wide: '-9007199254740993', on: true, counts: { a: 3, b: 0 },
  }
  test('comes back as it went in', () => expect(schemas.decode('k.M', schemas.encode('k.M', json))).toEqual(json))
  test('an empty one is its zero', () => {
    expect(schemas.decode('k.M', Buffer.from('220012002a003200 3a00'.replaceAll(' ', ''), 'hex'))).toEqual({ d: 0, wait: '0s', s: '', wide: '0', on: false })
  })
})
