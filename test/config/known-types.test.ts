/** Transforms of the well-known types: which of them the rules file takes, and in which units. */
import { describe, expect, test } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'

const schemas = schemasFromText({
  'k.proto': `syntax = "proto3"; package k; import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/wrappers.proto"; import "parapet/v1/privacy.proto";
    message Part { uint32 x = 1; }
    message M {
      google.protobuf.Timestamp at = 1; repeated google.protobuf.Timestamp ats = 2; map<string, google.protobuf.Timestamp> times = 3; google.protobuf.Duration wait = 4; repeated google.protobuf.Duration waits = 5;
      google.protobuf.UInt32Value soc = 6 [(parapet.v1.privacy) = { category: "battery", class: BASIC, personal: NEVER, unit: "%", scale: 0.1 }]; google.protobuf.DoubleValue factor = 7; google.protobuf.Int64Value at_ms = 8 [(parapet.v1.privacy) = { category: "time", unit: "ms", scale: 1 }];
      google.protobuf.StringValue name = 9; Part part = 10; map<string, google.protobuf.DoubleValue> factors = 11; google.protobuf.BoolValue on = 12;
    }`,
  'parapet/v1/privacy.proto': 'syntax = "proto3"; package parapet.v1;',
})

function read(field: string, transform: string): unknown {
  const text = `version: 1
streams:
  s: { topic: "up/{fleet}/{machine}/s", message: k.M }
outputs:
  out:
    recipient: { id: cloud, role: controller, region: EU }
    purpose: p
    basis: { basis: legal_obligation, law: L }
    arrival_visible: true
    to: { topic: "out/{stream}" }
    streams: { s: { fields: { ${field}: ${transform} } } }
`
  const { policy, findings } = loadRules('k.yaml', text, { schemas })
  const found = findings.filter(({ code }) => code.startsWith('TRANSFORM-')).map(({ text: sentence }) => sentence)
  const branch = policy?.outputs[0]?.streams[0]?.fields[0]?.consent
  return found.length > 0 ? found[0] : branch?.kind === 'chain' ? branch.chain[0]?.params : findings.map(({ code }) => code)
}

describe('well-known types take', () => {
  test.each([
    ['at', '{ round_time: 15m }', { ms: 900_000, wire: 900_000 }],
    ['ats', '{ round_time: 15m }', { ms: 900_000, wire: 900_000 }],
    ['times', '{ round_time: 1h }', { ms: 3_600_000, wire: 3_600_000 }],
    ['wait', '{ round_time: 15m }', { ms: 900_000, wire: 900_000 }],
    ['wait', '{ round: 5 min }', { step: 300 }],
    ['waits', '{ round: 500 ms }', { step: 0.5 }],
    ['wait', '{ round: 2 }', { step: 2 }],
    ['wait', '{ round: 1 ns }', { step: 1e-9, keeps: true }],
    ['soc', '{ round: 5 % }', { step: 50 }],
    ['soc', '{ clamp: [0 %, 100 %] }', { lo: 0, hi: 1000 }],
    ['factor', '{ round: 0.5 }', { step: 0.5 }],
    ['factors', '{ round: 0.5 }', { step: 0.5 }],
    ['at_ms', '{ round_time: 15m }', { ms: 900_000, wire: 900_000 }],
    ['name', '{ truncate: 3 }', { length: 3 }],
    ['on', '{ constant: true }', { value: true }],
  ])('%s: %s', (field, transform, expected) => expect(read(field, transform)).toEqual(expected))

  test.each([
    ['at', '{ round: 5 min }', 'a Timestamp takes round_time'],
    ['wait', '{ round: 0 }', 'needs a step of whole nanoseconds above zero'],
    ['wait', '{ round: 0.0000000001 }', 'needs a step of whole nanoseconds above zero'],
    ['wait', '{ round: 5 kg }', 'the field is in "s"'],
    ['wait', '{ clamp: [0, 5] }', '"clamp" does not fit "wait"'],
    ['soc', '{ round: 0.5 }', 'no whole number as the field needs'],
    ['soc', '{ truncate: 3 }', '"truncate" does not fit "soc", which is a whole number'],
    ['factor', '{ round_time: 15m }', 'needs a field whose unit is s, ms, us or ns'],
    ['part', '{ round: 5 }', 'fits numbers and google.protobuf.Duration only'],
    ['part', '{ round_time: 15m }', 'fits numbers, google.protobuf.Timestamp and google.protobuf.Duration only'],
  ])('but not %s: %s', (field, transform, expected) => expect(read(field, transform)).toContain(expected))
})
