import { describe, expect, test } from 'vitest'
import { loadRules } from '../../src/config/rules.ts'
import type { FieldRule, Policy } from '../../src/domain/policy.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { GOOD, SCHEMAS, load } from './fixture.ts'

/** A file with one stream and one output; the arguments are what stands in it. */
function small(parts: { readonly stream?: string; readonly output?: string; readonly streams?: string; readonly more?: string; readonly basis?: string; readonly topic?: string }): string {
  return `version: 1
streams:
  status:
    topic: "up/{fleet}/{machine}/status"
    message: lift.v1.Status
    time: { field: time_ms, unit: ms }
${parts.stream ?? ''}
outputs:
  out:
    recipient: { id: cloud, role: controller, region: EU }
    purpose: service.operate
    basis: ${parts.basis ?? 'contract'}
    to: { topic: "${parts.topic ?? 'out/{stream}'}" }
${parts.output ?? ''}
    streams:
      ${parts.streams ?? 'status: { keep: not_personal }'}
${parts.more ?? ''}
`
}

function policyOf(text: string, options: Parameters<typeof load>[1] = {}): Policy {
  const loaded = load(text, options)
  expect(loaded.findings.filter((finding) => finding.severity === 'error').map((finding) => `${finding.place.line}: ${finding.code} ${finding.text}`)).toEqual([])
  return loaded.policy as Policy
}

function rulesOf(text: string, options: Parameters<typeof load>[1] = {}): readonly FieldRule[] {
  return policyOf(text, options).outputs[0]?.streams[0]?.fields ?? []
}

const paths = (text: string): string[] => rulesOf(text).map((rule) => rule.path)
const codes = (text: string, options: Parameters<typeof load>[1] = {}): string[] => [...new Set(load(text, options).findings.filter((finding) => finding.severity === 'error').map((finding) => finding.code))]

const POSITION = '    points: { position: { lat: lat_e7, lon: lon_e7, unit: e7 } }'

describe('which fields an output names', () => {
  const never = ['fix', 'key_on', 'soc_pct_x10', 'mode', 'temp_c', 'cells', 'header.firmware']

  test.each<[string, string, string[]]>([
    ['not_personal: what the schema says is never personal, down to the leaves', small({}), never],
    ['what is written out wins', small({ streams: 'status: { keep: not_personal, fields: { fix: drop, machine_id: keep } }' }), ['machine_id', ...never]],
    ['a message that is dropped takes its fields along', small({ streams: 'status: { keep: not_personal, fields: { header: drop } }' }), [...never.slice(0, -1), 'header']],
    ['a list', small({ streams: 'status: { keep: [mode, fix] }' }), ['fix', 'mode']],
    ['for all streams, where the field exists', small({ output: '    fields: { seq: keep }', streams: 'status: { keep: [mode] }' }), ['seq', 'mode']],
    ['a point stands where its latitude stands', small({ stream: POSITION, streams: 'status: { keep: [mode, seq], fields: { position: { consent: { grid: 1km }, no_consent: { grid: 10km } } } }' }), ['seq', 'position', 'mode']],
  ])('%s', (_, text, expected) => {
    expect(paths(text)).toEqual(expected)
  })

  test('a stream\'s own entry wins over the one for all streams', () => {
    const [rule] = rulesOf(small({ output: '    fields: { soc_pct_x10: keep }', streams: 'status: { fields: { soc_pct_x10: { round: 5 % } } }' }))
    expect(rule?.consent).toEqual({ kind: 'chain', chain: [{ name: 'round', params: { step: 50 } }] })
  })

  test('a rule knows its line', () => {
    const text = small({ streams: 'status:\n        fields:\n          mode: keep\n          fix: keep' })
    expect(rulesOf(text).map((rule) => [rule.path, text.split('\n')[rule.line - 1]?.trim()])).toEqual([['fix', 'fix: keep'], ['mode', 'mode: keep']])
  })

  test('numbers with units are in wire units, durations in milliseconds', () => {
    const rules = rulesOf(small({ streams: 'status: { fields: { soc_pct_x10: [{ clamp: [0 %, 100 %] }, { round: 5 % }], time_ms: { round_time: 15m } } }', output: '    arrival_visible: true' }))
    expect(rules.map((rule) => rule.consent)).toEqual([
      { kind: 'chain', chain: [{ name: 'round_time', params: { ms: 900_000, wire: 900_000 } }] },
      { kind: 'chain', chain: [{ name: 'clamp', params: { lo: 0, hi: 1000 } }, { name: 'round', params: { step: 50 } }] },
    ])
  })
})

describe('personal fields', () => {
  test.each<[string, Parameters<typeof small>[0], string[]]>([
    ['a message with a personal field inside is personal as a whole', { streams: 'status: { keep: [header] }', basis: 'opt_out' }, ['PAIR-MISSING']],
    ['and identifies the operator under a contract', { streams: 'status: { keep: [header] }' }, ['CONTRACT-OPERATOR']],
    ['dropping needs no pair', { streams: 'status: { keep: [mode], fields: { photo: drop, header: drop } }', basis: 'opt_out' }, []],
    ['consent needs no pair', { streams: 'status: { keep: [mode, photo] }', basis: 'consent' }, []],
    ['a legal obligation needs no pair', { streams: 'status: { keep: [mode, photo] }', basis: '{ basis: legal_obligation, law: L }' }, []],
    ['public interest needs one', { streams: 'status: { keep: [mode, photo] }', basis: 'public_interest' }, ['PAIR-MISSING']],
    ['a constant is a generalisation', { streams: 'status: { keep: [mode], fields: { mystery: { consent: keep, no_consent: { constant: x } } } }', basis: 'opt_out' }, []],
    ['a mask is none', { streams: 'status: { keep: [mode], fields: { mystery: { consent: keep, no_consent: { mask: {} } } } }', basis: 'opt_out' }, ['PAIR-NOT-GENERAL']],
    ['a basic field may be rounded as finely as one likes', { streams: 'status: { keep: [mode], fields: { operator_id: { consent: keep, no_consent: drop }, time_ms: { consent: keep, no_consent: { round_time: 14m } } } }', basis: 'opt_out', output: '    arrival_visible: true' }, []],
  ])('%s', (_, parts, expected) => {
    expect(codes(small(parts))).toEqual(expected)
  })

  test('a field may not be a part of two outputs\' topic and dropped for want of an operator', () => {
    const streams = 'status: { keep: [mode], fields: { operator_id: { consent: { pseudonym: { rotate: 7d } }, no_consent: { pseudonym: { rotate: 7d } } } } }'
    expect(codes(small({ streams, basis: 'legitimate_interest', topic: 'out/{operator_id}' }))).toContain('TOPIC-FIELD')
    expect(codes(small({ streams: 'status: { keep: [mode], fields: { operator_id: { pseudonym: { rotate: 7d } } } }', basis: 'consent', topic: 'out/{operator_id}' }))).toEqual([])
  })
})

describe('foreign schemas', () => {
  const foreign = (more: string, streams = 'alarm: { keep: not_personal }'): string => `version: 1
streams:
  alarm: { topic: "acme/{machine}/tlm", message: acme.v3.Envelope, case: body.alarm, machine: machine, time: { field: at } }
  note: { topic: "acme/{machine}/tlm", message: acme.v3.Envelope, case: note }
fields:
  acme.v3.Alarm.cause: { class: basic, personal: never, unit: "%", scale: 0.1 }
  acme.v3.Note.text: { class: basic, personal: never }
  acme.v3.Envelope.at: { class: basic, personal: linkable, category: time }
outputs:
  out:
    recipient: { id: cloud, role: controller, region: EU }
    purpose: p
    basis: contract
    arrival_visible: true
    to: { topic: "out/{stream}" }
    streams:
      ${streams}
${more}`

  test('streams may share a topic if they differ in their case', () => {
    const policy = policyOf(foreign(''))
    expect(policy.streams.map((stream) => [stream.id, stream.case, stream.time])).toEqual([['alarm', 'alarm', { field: 'at', unit: 'timestamp' }], ['note', 'note', undefined]])
  })

  test('fields classified in the file are known; other members of the oneof never occur', () => {
    expect(paths(foreign(''))).toEqual(['alarm.cause'])
    expect(paths(foreign('', 'note: { keep: not_personal }'))).toEqual(['note.text'])
  })

  test('a timestamp is rounded as a whole', () => {
    expect(codes(foreign('', 'alarm: { keep: not_personal, fields: { at: { round_time: 15m } } }'))).toEqual([])
    expect(codes(foreign('', 'alarm: { keep: not_personal, fields: { at.seconds: keep } }'))).toEqual(['PART-ADDRESSED'])
  })

  test('units of the classification count', () => {
    expect(rulesOf(foreign('', 'alarm: { fields: { alarm.cause: { round: 5 % } } }'))[0]?.consent).toEqual({ kind: 'chain', chain: [{ name: 'round', params: { step: 50 } }] })
  })

  test('what nobody classified counts as personal', () => {
    expect(codes(foreign('', 'alarm: { keep: [alarm.remark] }'))).toEqual(['PAIR-MISSING'])
    expect(codes(foreign('', 'alarm: { keep: [alarm.speed] }'))).toEqual(['PAIR-MISSING'])
  })

  test.each([
    ['fields: { acme.v3.Alarm.caus: { class: basic, personal: never } }', 'UNKNOWN-FIELD'],
    ['fields: { acme.v3.Alrm.cause: { class: basic, personal: never } }', 'UNKNOWN-MESSAGE'],
  ])('%s', (line, code) => {
    expect(codes(foreign('').replace(/^fields:\n(.*\n){3}/m, `${line}\n`))).toContain(code)
  })

  test('a .proto file with a mistake refuses the rules', () => {
    const schemas = schemasFromText({ 'a.proto': 'syntax = "proto3"; message A { string x = 1 }' })
    expect(codes(GOOD, { schemas })).toContain('SCHEMA-PROBLEM')
  })
})

describe('key-value lists', () => {
  const signals = (rule: string, basis = 'contract'): string => `version: 1
streams:
  signals: { topic: "up/{machine}/s", message: lift.v1.Signals }
  frames: { topic: "up/{machine}/f", message: lift.v1.Frames }
outputs:
  out:
    recipient: { id: cloud, role: controller, region: EU }
    purpose: p
    basis: ${basis}
    to: { topic: "out/{stream}" }
    streams:
      ${rule}
`

  test('are read key by key', () => {
    const text = signals('signals: { fields: { s: { by: id, with: { id: keep }, only: { 101: { v: { round: 100 } }, 102: { v: keep } } } } }')
    expect(codes(text)).toEqual([])
    const [rule] = rulesOf(text)
    expect(rule?.consent).toEqual({
      kind: 'keyed',
      keyed: {
        by: { member: 'id', fn: 'none' },
        with: new Map([['id', [{ name: 'keep', params: {} }]]]),
        only: new Map([[101, new Map([['v', [{ name: 'round', params: { step: 100 } }]]])], [102, new Map([['v', [{ name: 'keep', params: {} }]]])]]),
      },
    })
  })

  test('as the page of the language writes them for frames of a CAN bus', () => {
    const [rule] = rulesOf(signals('frames: { fields: { f: { by: "j1939_pgn(id)", with: { id: keep }, only: { 61444: { data: keep }, 65253: { data: { keep_bytes: [0, 3] } } } } } }'))
    expect(rule?.consent).toMatchObject({ kind: 'keyed', keyed: { by: { member: 'id', fn: 'j1939_pgn' }, only: new Map([[61_444, new Map([['data', [{ name: 'keep', params: {} }]]])], [65_253, new Map([['data', [{ name: 'keep_bytes', params: { from: 0, to: 3 } }]]])]]) } })
  })

  test.each([
    ['frames: { fields: { f: { by: "j1939_pgn(id)", with: { id: keep }, only: { 61444: { data: keep } } } } }', []],
    ['frames: { fields: { f: { by: "j1939_pgn(id)", with: { id: keep }, only: { 65260: { data: keep } } } } }', ['PGN-PERSONAL']],
    ['frames: { fields: { f: { by: "j1939_pgn(id)", only: { 65260: { data: drop } } } } }', []],
    // What `with` lets out leaves of every group that is named.
    ['frames: { fields: { f: { by: "j1939_pgn(id)", with: { data: keep }, only: { 65260: {} } } } }', ['PGN-PERSONAL']],
    ['frames: { fields: { f: { by: "j1939_pgn(id)", with: { data: keep }, only: { 65260: { data: drop } } } } }', []],
    // The same group by the whole identifier: priority 6, PGN 65260, source 0.
    ['frames: { fields: { f: { by: id, only: { 419359744: { data: keep } } } } }', ['PGN-PERSONAL']],
    ['frames: { fields: { f: { by: id, only: { 291: { data: keep } } } } }', []],
    // Every group: what is not named by group cannot leave these out.
    ['frames: { keep: [f] }', ['PGN-PERSONAL']],
    ['frames: { fields: { f.data: { keep_bytes: [0, 2] } } }', ['PGN-PERSONAL']],
    ['frames: { fields: { f.id: keep } }', []],
    ['frames: { fields: { f: { by: "j1939_pgn(id)", only: { 300000: { data: keep } } } } }', ['KEYED']],
    ['frames: { fields: { f: { by: "j1939_pgn(id)", only: { 59905: { data: keep } } } } }', ['KEYED']],
    ['frames: { fields: { f: { by: id, only: { 4294967296: { data: keep } } } } }', ['KEYED']],
    ['frames: { fields: { f: { by: id, only: { 007: { data: keep } } } } }', ['BAD-NAME']],
    ['frames: { fields: { f: { by: data, only: { 1: { id: keep } } } } }', ['KEYED']],
    ['frames: { fields: { machine_id: { by: id, only: { 1: { id: keep } } } } }', ['KEYED']],
    ['frames: { fields: { f: { by: id, only: { 1: { dta: keep } } } } }', ['UNKNOWN-FIELD']],
    ['frames: { fields: { f: { by: id, only: { 1: { data: keep } } }, f.data: keep } }', ['FIELD-OVERLAP']],
    ['signals: { fields: { s: { by: id, only: { 1: { v: { consent: keep, no_consent: drop } } } } } }', ['BAD-VALUE', 'UNKNOWN-TRANSFORM']],
    ['signals: { fields: { s: { consent: { by: id, only: { 1: { v: keep } } }, no_consent: { by: id, only: { 1: { v: { round: 10 } } } } } } }', []],
    ['signals: { fields: { s: { consent: keep, no_consent: { by: id, only: { 1: { v: keep } } } } } }', []],
    ['signals: { fields: { s: { consent: { by: id, only: { 1: { v: keep } } }, no_consent: keep } } }', ['PAIR-NOT-COARSER']],
    ['signals: { fields: { s: { consent: { by: id, only: { 1: { v: { round: 10 } } } }, no_consent: { by: id, only: { 1: { v: keep } } } } } }', ['PAIR-NOT-COARSER']],
    ['signals: { fields: { s: { consent: { by: id, only: { 1: { v: keep } } }, no_consent: { by: id, only: { 2: { v: keep } } } } } }', ['PAIR-NOT-COARSER']],
    ['signals: { fields: { s: { consent: { by: id, only: { 1: { v: keep } } }, no_consent: { by: id, with: { id: keep }, only: { 1: { v: keep } } } } } }', ['PAIR-NOT-COARSER']],
  ])('%s', (rule, expected) => {
    expect(codes(signals(rule))).toEqual(expected)
  })

  test('a member about a person follows the same rules as any other field', () => {
    const proto = `syntax = "proto3"; package k.v1;
      message Entry { uint32 id = 1 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; string who = 2 [(parapet.v1.privacy) = { category: "identity", class: ADDITIONAL, personal: ALWAYS, subject: OPERATOR }];
        bytes note = 3 [(parapet.v1.privacy) = { category: "free_text", class: ADDITIONAL, personal: ALWAYS }]; }
      message List { repeated Entry s = 1 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; }`
    const schemas = schemasFromText({ 'k.proto': proto })
    const of = (rule: string, basis: string): string[] => codes(signals(`signals: { fields: { s: ${rule} } }`, basis).replace('lift.v1.Signals', 'k.v1.List').replace(/ {2}frames: .*\n/, ''), { schemas })
    const kept = (members: string): string => `{ by: id, with: { id: keep }, only: { 7: { ${members} } } }`
    expect(of(kept('who: keep'), 'contract')).toEqual(['CONTRACT-OPERATOR'])
    expect(of('{ by: id, with: { who: keep }, only: { 7: {} } }', 'contract')).toEqual(['CONTRACT-OPERATOR'])
    expect(of(kept('note: keep'), 'contract')).toEqual(['PAIR-MISSING'])
    expect(of('{ by: id, with: { note: { truncate: 3 } }, only: { 7: {} } }', 'contract')).toEqual(['PAIR-MISSING'])
    expect(of(`{ consent: ${kept('note: keep')}, no_consent: ${kept('note: { truncate: 3 }')} }`, 'contract')).toEqual(['PAIR-NOT-GENERAL'])
    expect(of(`{ consent: ${kept('note: keep')}, no_consent: ${kept('note: drop')} }`, 'contract')).toEqual([])
    expect(of(kept('note: keep'), 'consent')).toEqual([])
  })
})

describe('down-sampling', () => {
  test.each([
    ['emit: { every: 15m, take: last, hold: true }', []],
    ['emit: { every: 15m, take: { max: soc_pct_x10 } }', []],
    ['emit: { on_change: [mode] }', []],
    ['emit: { take: last }', ['EMIT']],
    ['emit: { on_change: [mode], hold: true }', ['EMIT']],
    ['emit: { every: 15m, take: { max: mode } }', ['EMIT']],
    ['emit: { every: 15m, take: { max: sock } }', ['UNKNOWN-FIELD']],
  ])('%s', (emit, expected) => {
    const text = small({ streams: `status: { keep: [mode, soc_pct_x10], ${emit} }` })
    expect(codes(text)).toEqual(expected)
  })
})

describe('the accepted set', () => {
  test('its name is that of the file unless the policy has one', () => {
    expect(loadRules('/etc/parapet/depot.yaml', small({}), { schemas: SCHEMAS }).policy?.id).toBe('depot')
    expect(load(GOOD).policy?.id).toBe('demo-1')
  })

  test('its hash changes with every character of the rules and of the schemas', () => {
    const hash = load(GOOD).policy?.hash
    expect(hash).toMatch(/^[0-9a-f]{64}$/)
    expect(load(GOOD).policy?.hash).toBe(hash)
    expect(load(`${GOOD}# a comment\n`).policy?.hash).not.toBe(hash)
    const other = schemasFromText({ 'a.proto': 'syntax = "proto3"; package lift.v1; message Status { bool key_on = 1 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; uint64 time_ms = 2; }' })
    expect(load(small({}), { schemas: other }).policy?.hash).not.toBe(load(small({})).policy?.hash)
  })

  test('defaults', () => {
    const policy = policyOf(small({}))
    expect(policy.subject).toEqual({ sessions: undefined, sessionMaxMs: 43_200_000, quarantineMs: 120_000, lateLimitMs: 604_800_000 })
    expect(policy.outputs[0]).toMatchObject({ to: { qos: 1, via: ['local'], retain: false, sendWithinMs: undefined }, reach: 'any', arrivalVisible: false, basis: { basis: 'contract' } })
  })

  test('a file without purposes has those of its outputs, and is told that nobody can read them', () => {
    const loaded = load(small({}))
    expect(loaded.policy?.purposes).toEqual([{ id: 'service.operate', index: 0, about: '', clause: undefined, dpv: undefined }])
    expect(loaded.findings.map((finding) => [finding.severity, finding.code])).toEqual([['warning', 'UNTESTED'], ['warning', 'PURPOSES-NOT-DECLARED']])
  })

  test('a purpose is a bit in file order', () => {
    expect(policyOf(GOOD).purposes.map((purpose) => [purpose.index, purpose.id])).toEqual([[0, 'service.operate'], [1, 'improve.statistics'], [2, 'personalise']])
  })

  test('more purposes than bits are refused', () => {
    const outputs = Array.from({ length: 31 }, (_, index) => `  o${index}: { recipient: cloud, purpose: p${index}, basis: contract, to: { topic: "out/${index}" }, streams: { status: { keep: [mode] } } }`).join('\n')
    expect(codes(`version: 1\nstreams:\n  status: { topic: up, message: lift.v1.Status }\nrecipients: { cloud: { role: controller, region: EU } }\noutputs:\n${outputs}\n`)).toContain('LIMIT')
  })

  test('zones', () => {
    const text = GOOD.replace('recipients:\n', 'zones: { depot: { circle: { at: [48.137, 11.575], radius: 500m } }, yard: { polygon: [[1, 1], [1, 2], [2, 2]] } }\nrecipients:\n')
    expect([...(policyOf(text).zones ?? [])]).toEqual([
      ['depot', { kind: 'circle', lat: 48.137, lon: 11.575, radiusM: 500 }],
      ['yard', { kind: 'polygon', corners: [[1, 1], [1, 2], [2, 2]] }],
    ])
  })

  test('a delta track', () => {
    const text = `version: 1
streams:
  track:
    topic: "up/{machine}/track"
    message: lift.v1.Track
    points: { track: { kind: delta, lat: lat0_e7, lon: lon0_e7, dlat: dlat_e7, dlon: dlon_e7, dt: dt_ms, unit: e7 } }
outputs:
  out: { recipient: { id: cloud, role: controller, region: EU }, purpose: p, basis: consent, to: { topic: out }, streams: { track: { fields: { track: { grid: 100m } } } } }
`
    expect(policyOf(text).streams[0]?.points[0]).toEqual({ name: 'track', kind: 'delta', lat: 'lat0_e7', lon: 'lon0_e7', dlat: 'dlat_e7', dlon: 'dlon_e7', dt: 'dt_ms', scale: 1e-7, valid: undefined })
    expect(codes(text.replace('{ track: { grid: 100m } }', '{ dt_ms: keep }'))).toEqual(['PART-ADDRESSED'])
  })

  test.each([
    // The schema's word, then the end of the name, then milliseconds.
    ['dt_ms', 'unit: "ms"', { ms: 300_000, wire: 300_000 }],
    ['dt', 'unit: "s"', { ms: 300_000, wire: 300 }],
    ['dt', 'unit: "s", scale: 0.1', { ms: 300_000, wire: 3_000 }],
    ['dt', 'unit: "us"', { ms: 300_000, wire: 300_000_000 }],
    ['dt_s', 'unit: "ms"', { ms: 300_000, wire: 300_000 }],
    ['dt', 'class: BASIC', { ms: 300_000, wire: 300_000 }],
    ['dt_ms', 'class: BASIC', { ms: 300_000, wire: 300_000 }],
    ['dt_s', 'class: BASIC', undefined],
    ['step_ticks', 'class: BASIC', undefined],
    ['dt', 'unit: "m"', undefined],
  ])('thins by the unit of its times: %s with %s', (name, option, expected) => {
    const proto = `syntax = "proto3"; package t; message Track { sint32 lat = 1; sint32 lon = 2; repeated sint32 dlat = 3; repeated sint32 dlon = 4; repeated uint32 ${name} = 5 [(parapet.v1.privacy) = { ${option} }]; }`
    const text = `version: 1
streams: { track: { topic: "up/{machine}/track", message: t.Track, points: { track: { kind: delta, lat: lat, lon: lon, dlat: dlat, dlon: dlon, dt: ${name}, unit: e7 } } } }
outputs: { out: { recipient: { id: cloud, role: controller, region: EU }, purpose: p, basis: consent, to: { topic: out }, streams: { track: { fields: { track: { thin: 5m } } } } } }
`
    const loaded = load(text, { schemas: schemasFromText({ 't.proto': proto }) })
    if (expected === undefined) expect(loaded.findings.map((one) => `${one.code} ${one.text}`).join()).toMatch(/TRANSFORM-ARGUMENT .* needs to know the unit of/)
    else expect(loaded.policy?.outputs[0]?.streams[0]?.fields[0]?.consent).toMatchObject({ chain: [{ name: 'thin', params: expected }] })
  })

  test('without times cannot be thinned', () => {
    const text = `version: 1
streams: { track: { topic: "up/{machine}/track", message: lift.v1.Track, points: { track: { kind: delta, lat: lat0_e7, lon: lon0_e7, dlat: dlat_e7, dlon: dlon_e7, unit: e7 } } } }
outputs: { out: { recipient: { id: cloud, role: controller, region: EU }, purpose: p, basis: consent, to: { topic: out }, streams: { track: { fields: { track: { thin: 5m } } } } } }
`
    expect(load(text).findings.map((one) => one.text).join()).toContain('name their field as `dt`')
  })
})

describe('tests in the file', () => {
  const testsOf = (tests: string): Policy['tests'] => policyOf(`${GOOD.slice(0, GOOD.indexOf('tests:'))}tests:\n${tests}\n`).tests

  test('others may stand beside expect or in it, and nobody is null or none', () => {
    const [a, b, c] = testsOf(`
  - { name: a, given: { stream: status, operator: none, message: {} }, expect: { service: nothing }, others: nothing }
  - { name: b, given: { stream: status, operator: null, message: {} }, expect: { service: nothing, others: nothing } }
  - name: c
    steps:
      - { at: "08:00", stream: status, message: {}, expect: { others: nothing }, never_contains: [SN-1, 7] }
      - { at: "+1s", consent: { P7: { personalise: granted } } }`)
    expect([a?.given?.operator, a?.expect, a?.others]).toEqual([null, { service: 'nothing' }, 'nothing'])
    expect([b?.given?.operator, b?.expect, b?.others]).toEqual([null, { service: 'nothing' }, 'nothing'])
    expect(c?.steps?.[0]).toMatchObject({ expect: {}, others: 'nothing', never_contains: ['SN-1', 7] })
  })

  test.each([
    ['{ name: x, given: { stream: status, message: {} }, steps: [{ at: "08:00" }], expect: { service: nothing } }', 'TEST'],
    ['{ name: x, expect: { service: nothing } }', 'TEST'],
    ['{ name: x, steps: [{ at: "08:00", stream: status }] }', 'TEST'],
    ['{ name: x, steps: [{ at: "08:00", expect: { service: nothing } }] }', 'TEST'],
    ['{ name: x, steps: [{ at: "08:00", consent: { P7: { personalize: granted } } }] }', 'UNKNOWN-PURPOSE'],
    ['{ name: x, given: { stream: statsu, message: {} }, expect: { service: nothing } }', 'UNKNOWN-STREAM'],
    ['{ name: x, given: { stream: status, message: {} }, expect: { service: all } }', 'BAD-VALUE'],
    ['{ name: x, given: { stream: status, message: {}, consent: { personalise: yes } }, expect: { service: nothing } }', 'BAD-VALUE'],
  ])('%s', (text, code) => {
    expect(codes(`${GOOD.slice(0, GOOD.indexOf('tests:'))}tests:\n  - ${text}\n`)).toEqual([code])
  })
})

describe('bridges', () => {
  const text = GOOD.replace('"out/planning/{machine_id}" }', '"out/planning/{machine_id}", via: [local, plan] }')
  test.each([
    ['without the gateway file nobody knows', {}, []],
    ['the recipient\'s own', { bridges: new Map([['plan', { recipient: 'planner' }]]) }, []],
    ['none of that name', { bridges: new Map([['plans', { recipient: 'planner' }]]) }, ['UNKNOWN-BRIDGE']],
    ['another recipient\'s', { bridges: new Map([['plan', { recipient: 'cloud' }]]) }, ['BRIDGE-RECIPIENT']],
  ])('%s', (_, options, expected) => {
    expect(codes(text, options)).toEqual(expected)
  })
})

describe('accept', () => {
  const linted = GOOD.replace('keep: [mode]', 'keep: [mode, speed_mm_s, seq]')
  const waiver = (code: string, at: string, more = ''): string => `${linted}accept:\n  - { code: ${code}, at: ${at}, why: "theft recovery, assessment 7"${more} }\n`

  test('without it both lints refuse the file', () => {
    expect(codes(linted)).toEqual(['COUNTER-BESIDE-PSEUDONYM', 'PRECISE-BESIDE-HEADING'])
  })

  test.each([
    ['precise-beside-heading', 'planning.position'],
    ['PRECISE-BESIDE-HEADING', 'planning'],
    ['precise-beside-heading', 'outputs.planning.streams.status.fields.position'],
  ])('%s at %s waives one of them', (code, at) => {
    const loaded = load(waiver(code, at))
    expect(codes(waiver(code, at))).toEqual(['COUNTER-BESIDE-PSEUDONYM'])
    expect(loaded.accepted).toMatchObject([{ finding: { code: 'PRECISE-BESIDE-HEADING' }, why: 'theft recovery, assessment 7', until: undefined }])
    expect(loaded.policy).toBeUndefined()
  })

  test.each(['service.position', 'position.planning', 'plan'])('at %s it waives nothing', (at) => {
    expect(codes(waiver('precise-beside-heading', at))).toEqual(['COUNTER-BESIDE-PSEUDONYM', 'PRECISE-BESIDE-HEADING'])
    expect(load(waiver('precise-beside-heading', at)).findings.map((finding) => finding.code)).toContain('ACCEPT-UNUSED')
  })

  test('it holds on its last day and not on the next', () => {
    const text = waiver('precise-beside-heading', 'planning', ', until: 2026-11-23')
    expect(codes(text, { today: '2026-11-23' })).toEqual(['COUNTER-BESIDE-PSEUDONYM'])
    expect(codes(text, { today: '2026-11-24' })).toEqual(['COUNTER-BESIDE-PSEUDONYM', 'PRECISE-BESIDE-HEADING', 'ACCEPT-EXPIRED'])
    expect(codes(waiver('precise-beside-heading', 'planning', ', until: 2027-02-30'))).toContain('BAD-VALUE')
  })

  test('a file whose lints are all waived is accepted, and says which', () => {
    const text = `${waiver('precise-beside-heading', 'planning')}  - { code: counter-beside-pseudonym, at: planning.seq, why: "agreed with the planner" }\n`
    expect(load(text).policy).toBeDefined()
    expect(load(text).accepted.map((one) => one.finding.code)).toEqual(['PRECISE-BESIDE-HEADING', 'COUNTER-BESIDE-PSEUDONYM'])
  })
})

describe('what is refused is not half accepted', () => {
  test('lints leave a draft for previews, rules too, but never a policy', () => {
    const lint = load(GOOD.replace('keep: [mode]', 'keep: [mode, seq]'))
    expect([lint.policy, lint.draft === undefined]).toEqual([undefined, false])
    const name = load(GOOD.replace('keep: [mode]', 'keep: [mood]'))
    expect([name.policy, name.draft]).toEqual([undefined, undefined])
  })

  test('a flood of findings is cut, errors first, and says so', () => {
    const streams = Array.from({ length: 300 }, (_, index) => `  s${index}: { topic: "up/{machine}/${index}", message: lift.v1.Nothing }`).join('\n')
    const { findings } = load(`version: 1\nstreams:\n${streams}\noutputs: { o: { recipient: { id: c, role: controller, region: EU }, purpose: p, basis: contract, to: { topic: o }, streams: { s0: {} } } }\n`)
    expect(findings).toHaveLength(201)
    expect(findings.at(-1)).toMatchObject({ code: 'MORE', text: 'There are 100 findings more.' })
  })
})
