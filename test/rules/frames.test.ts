/** Frames of a bus in a schema that classifies nothing: what they are is told from their form. Groups that name a machine or a driver stay. */
import { describe, expect, test } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'

const proto = `syntax = "proto3"; package bus.v1;
  message CanFrame { uint32 can_id = 1; bytes data = 2; uint32 dt = 3; }
  message Second { string machine = 1; repeated CanFrame frames = 2; CanFrame last = 3; repeated Sample samples = 4; }
  message Sample { uint32 id = 1; bytes data = 2; }`
const schemas = schemasFromText({ 'bus.proto': proto })

function findings(fields: string): string[] {
  const text = `version: 1
streams: { second: { topic: "up/{machine}/can", message: bus.v1.Second } }
purposes: { study: { about: "how engines are used", clause: P14 } }
outputs:
  study:
    recipient: { id: engine-maker, role: controller, region: EU }
    purpose: study
    basis: { basis: consent, employee_consent: EC-1 }
    to: { topic: "out/study" }
    streams: { second: { fields: { ${fields} } } }
`
  return loadRules('rules.yaml', text, { schemas, today: '2026-11-23' }).findings.filter(({ severity }) => severity === 'error').map(({ code, place, text: said }) => `${code} at ${text.split('\n')[place.line - 1]?.slice(place.col - 1).split(/[:,\s]/)[0]}: ${said.split('. ')[0]}`)
}

const every = (path: string): string => `"${path}" leaves of every frame on the bus, so also of those that name a machine, a driver or a place`
const personal = (pgn: number): string => `PGN ${pgn} names a machine, a driver or a place, or carries other frames in pieces`

describe('frames that nobody classified', () => {
  test.each<[string, string[]]>([
    ['frames: keep', [`PGN-PERSONAL at frames: ${every('frames.data')}`]],
    ['frames.data: { keep_bytes: [0, 2] }', [`PGN-PERSONAL at frames.data: ${every('frames.data')}`]],
    ['last: keep', [`PGN-PERSONAL at last: ${every('last.data')}`]],
    ['last.data: keep', [`PGN-PERSONAL at last.data: ${every('last.data')}`]],
    ['frames.can_id: keep', []],
    ['frames.data: drop, frames.dt: keep', []],
    // An identifier and bytes alone are no frame.
    ['samples: keep', []],
    ['samples: { by: id, only: { 419359744: { data: keep } } }', []],
    ['frames: { by: "j1939_pgn(can_id)", only: { 61444: { data: keep } } }', []],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0xF004: { data: keep } } }', []],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0xF004: { data: keep }, 0xFEEC: { data: keep } } }', [`PGN-PERSONAL at 0xFEEC: ${personal(65_260)}`]],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0xFEEC: { data: drop }, 0xF004: { data: keep } } }', []],
    // The same by the whole identifier: priority 6, PGN 65132, source 0x17.
    ['frames: { by: can_id, only: { 0x18FE6C17: { data: keep } } }', [`PGN-PERSONAL at 0x18FE6C17: ${personal(65_132)}`]],
    ['frames: { by: can_id, only: { 419326999: { data: keep } } }', [`PGN-PERSONAL at 419326999: ${personal(65_132)}`]],
    ['frames: { by: can_id, only: { 0x18FEF700: { data: keep } } }', []],
    ['frames: { by: can_id, only: { 0x123: { data: keep } } }', []],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0x18FEF700: { data: keep } } }', ['KEYED at 0x18FEF700: "0x18FEF700" is no PGN: these have 18 bits']],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0xEA01: { data: keep } } }', ['KEYED at 0xEA01: "0xEA01" is no PGN: its low byte would be the address that a frame goes to']],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0xF004: { data: keep }, 61444: { dt: keep } } }', ['DUPLICATE at 0xF004: "0xF004" and "61444" are the same key, 61444']],
    ['frames: { by: "j1939_pgn(can_id)", only: { F004: { data: keep } } }', ['BAD-NAME at F004: "F004" cannot be a name here']],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0x: { data: keep } } }', ['BAD-NAME at 0x: "0x" cannot be a name here']],
    ['frames: { by: "j1939_pgn(can_id)", only: { 0o170004: { data: keep } } }', ['BAD-NAME at 0o170004: "0o170004" cannot be a name here']],
    ['frames: { by: can_id, only: { 0x1FFFFFFFF: { data: keep } } }', ['BAD-NAME at 0x1FFFFFFFF: "0x1FFFFFFFF" cannot be a name here']],
  ])('%s', (fields, expected) => {
    expect(findings(fields)).toEqual(expected)
  })
})
