/** check, test, explain, decode and transforms: what they print, and when they fail. */
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { TRANSFORMS } from '../../src/minimise/transforms.ts'
import { encode } from './lift/oracle.ts'
import { parapet } from './run.ts'

const root = resolve(import.meta.dirname, '../..')
const lift = resolve(import.meta.dirname, 'lift')
const text = readFileSync(join(lift, 'rules.yaml'), 'utf8')
const folder = mkdtempSync(join(tmpdir(), 'parapet-rules-'))

const tests = `tests:
  - name: a lift at work in Germany
    given: { stream: report, country: DE, operator: P7, consent: {}, message: { machine: SN-1, at_s: 1763888864, load_kg: 137, fix: 1, lat_e7: 481371540, lon_e7: 115761240 } }
    expect: { planner: { machine: $any, at_s: 1763888400, load_kg: 150, position: { lat: 48.10456, lon: 11.62612 } } }
  - name: nobody in France
    given: { stream: report, country: FR, operator: null, message: { machine: SN-1, at_s: 1763888864, load_kg: 137 } }
    expect: { planner: nothing }
`

/** A rules file beside the schemas of the lift. */
function written(name: string, content: string): string {
  writeFileSync(join(folder, name), content)
  return name
}

beforeAll(() => {
  mkdirSync(join(folder, 'proto'))
  writeFileSync(join(folder, 'proto/lift.proto'), readFileSync(join(lift, 'proto/lift.proto')))
})

const run = (...argv: readonly string[]): ReturnType<typeof parapet> => parapet(argv, { cwd: folder })
const message = { machine: 'SN-1', at_s: 1_763_888_864, driver: 'P7', load_kg: 137, fix: 1, lat_e7: 481_371_540, lon_e7: 115_761_240, secret: 'x' }

describe('parapet check', () => {
  test('accepts a good file: one line, exit 0', async () => {
    const { code, out } = await run('check', written('good.yaml', text + tests))
    expect(code).toBe(0)
    expect(out).toMatch(/^(good\.yaml:\d+:\d+ warning .*\n)*0 errors, \d+ warnings?, 2 tests passed: accepted as [0-9a-f]{16}\n$/)
  })

  test('the shipped rules are accepted without a word', async () => {
    const { code, out } = await parapet(['check', 'config/rules/awp.yaml'], { cwd: root })
    expect(out).toMatch(/^0 errors, 0 warnings, \d+ tests passed: accepted as [0-9a-f]{16}\n$/)
    expect(code).toBe(0)
  })

  test('names file, line and column of a mistake; its tests are not run', async () => {
    const { code, out } = await run('check', written('typo.yaml', (text + tests).replace('truncate: 3', 'truncat: 3')))
    const line = text.split('\n').findIndex((one) => one.includes('truncate: 3')) + 1
    expect(code).toBe(1)
    expect(out).toMatch(new RegExp(`^typo\\.yaml:${line}:\\d+ error UNKNOWN-TRANSFORM .*Did you mean "truncate"\\?`))
    expect(out).toContain('tests not run: refused')
  })

  test('a file whose own test fails is refused, at the line of the test', async () => {
    const { code, out } = await run('check', written('failing.yaml', (text + tests).replace('load_kg: 150', 'load_kg: 151')))
    const line = text.split('\n').length + 1
    expect(code).toBe(1)
    expect(out).toContain(`failing.yaml:${line}:1 error TEST-FAILED The test "a lift at work in Germany" fails: load_kg in planner is not as expected.`)
    expect(out).toMatch(/expected {2}151\n +got {7}150\n/)
    expect(out).toMatch(/1 error, \d+ warnings?, 1 test passed, 1 failed: refused\n$/)
  })

  test('--format json holds findings, tests and hash', async () => {
    const good = JSON.parse((await run('check', 'good.yaml', '--format', 'json')).out) as { accepted: boolean; hash: string; tests: { passed: number } }
    expect([good.accepted, good.tests.passed]).toEqual([true, 2])
    const bad = JSON.parse((await run('check', 'failing.yaml', '--format', 'json')).out) as { accepted: boolean; hash?: string; findings: { code: string; place: { line: number } }[] }
    expect(bad.accepted).toBe(false)
    expect(bad.hash).toBe(undefined)
    expect(bad.findings.map((one) => one.code)).toContain('TEST-FAILED')
  })

  test('--config checks what stands around the rules too', async () => {
    written('machines.yaml', 'SN-1: { fleet: demo, model: scissor, countri: FR }\n')
    written('gateway.yaml', 'rules: ./good.yaml\nproto: [./proto]\nmachines: ./machines.yaml\n')
    const bad = await run('check', 'good.yaml', '--config', 'gateway.yaml')
    expect(bad.code).toBe(1)
    expect(bad.out).toMatch(/^machines\.yaml:1:\d+ error UNKNOWN-KEY /m)
    expect(bad.out).toMatch(/2 tests passed: refused\n$/)
    written('machines.yaml', 'SN-1: { fleet: demo, model: scissor, country: FR }\n')
    expect(await run('check', 'good.yaml', '--config', 'gateway.yaml')).toMatchObject({ code: 0 })
    expect((await run('check', 'failing.yaml', '--config', 'gateway.yaml')).out).toMatch(/failing\.yaml:\d+:1 error TEST-FAILED/)
  })

  test('a missing file and a missing folder of .proto files are said so', async () => {
    expect((await run('check', 'nowhere.yaml')).err).toContain('does not exist')
    expect((await run('check', 'good.yaml', '--proto', 'protos')).err).toContain('The folder protos of --proto does not exist.')
  })

  test('.proto files are found above the rules file, beside the caller and in --proto', async () => {
    mkdirSync(join(folder, 'config/rules'), { recursive: true })
    written('config/rules/deep.yaml', text + tests)
    expect((await parapet(['check', join(folder, 'config/rules/deep.yaml')], { cwd: tmpdir() })).code).toBe(0)
    const apart = mkdtempSync(join(tmpdir(), 'parapet-apart-'))
    writeFileSync(join(apart, 'rules.yaml'), text + tests)
    expect((await parapet(['check', 'rules.yaml'], { cwd: apart })).out).toContain('UNKNOWN-MESSAGE')
    expect((await parapet(['check', 'rules.yaml', '--proto', join(folder, 'proto')], { cwd: apart })).code).toBe(0)
    expect((await parapet(['check', join(apart, 'rules.yaml')], { cwd: folder })).code).toBe(0)
  })
})

describe('parapet test', () => {
  test('all pass', async () => {
    const { code, out } = await run('test', 'good.yaml')
    expect(code).toBe(0)
    expect(out).toContain('ok    a lift at work in Germany\nok    nobody in France\n')
    expect(out).toMatch(/planner +0 +0 +2\n/)
    expect(out).toMatch(/\n2 passed, 0 failed, coverage 33 %\n$/)
  })

  test('a failure shows expected and actual per field, exit 1', async () => {
    const { code, out } = await run('test', written('three.yaml', (text + tests).replace('load_kg: 150', 'load_kg: 151').replace('{ lat: 48.10456, lon: 11.62612 }', '{ lat: 48.10456, lon: 11.6 }').replace('expect: { planner: nothing }', 'expect: { planner: { machine: $any } }')))
    expect(code).toBe(1)
    expect(out).toContain([
      '      planner, load_kg', '        expected  151', '        got       150',
      '      planner, position', '        expected  { lat: 48.10456, lon: 11.6 }', '        got       { lat: 48.10456, lon: 11.62612 }',
    ].join('\n'))
    expect(out).toMatch(/planner\n +expected {2}\{ machine: \$any \}\n +got {7}nothing\n +because {3}closed: /)
    expect(out).toContain('0 passed, 2 failed')
  })

  // prettier-ignore
  test.each([
    ['33', 0], ['33%', 0], ['34', 1], ['0', 0], ['100', 1],
  ] as const)('--coverage %s exits %i', async (threshold, code) => {
    expect((await run('test', 'good.yaml', '--coverage', threshold)).code).toBe(code)
  })

  test('$sealed holds for what is encrypted, and for nothing else', async () => {
    const sealed = text.replace(/driver: \{ consent: .*\n/, 'driver: { consent: { encrypt: {} }, no_consent: drop }\n')
    const given = 'given: { stream: report, country: DE, operator: P7, consent: { plan: granted }, message: { machine: SN-1, at_s: 1763888864, driver: P7, load_kg: 137 } }'
    const expecting = (machine: string): string => `  - name: machine ${machine}\n    ${given}\n    expect: { planner: { machine: ${machine}, at_s: 1763888400, driver: $sealed, load_kg: 150 } }\n`
    const { out } = await run('test', written('sealed.yaml', `${sealed}accept: [{ code: rotate-never-person, at: planner.driver, why: the planner opens it }]\ntests:\n${expecting('$any')}${expecting('$sealed')}`))
    expect(out).toContain('ok    machine $any\nFAIL  machine $sealed')
    expect(out).toContain('because   the value is not encrypted')
  })

  test('a track is its first place and its steps', async () => {
    const track = `version: 1
streams:
  track:
    topic: "up/{fleet}/{machine}/track"
    message: awp.v1.PositionBatch
    points: { track: { kind: delta, lat: lat0_e7, lon: lon0_e7, dlat: dlat_e7, dlon: dlon_e7, dt: dt_ms, unit: e7 } }
purposes: { p: { about: research, clause: P1 } }
outputs:
  o:
    recipient: { id: r, role: controller, region: EU }
    purpose: p
    basis: { basis: consent, employee_consent: EC-1 }
    to: { topic: "out/{stream}", via: [local] }
    streams: { track: { fields: { track: { consent: keep, no_consent: drop } } } }
tests:
  - name: as it was
    given: &given { stream: track, operator: P7, consent: { p: granted }, message: { machine_id: SN-1, lat0_e7: 481371540, lon0_e7: 115761240, dlat_e7: [10, -20], dlon_e7: [0, 5], dt_ms: [1000, 1000] } }
    expect: { o: { track: { lat: 48.137154, lon: 11.576124, dlat: [10, -20], dlon: [0, 5], dt: [1000, 1000] } } }
  - name: another step
    given: *given
    expect: { o: { track: { lat: 48.137154, lon: 11.576124, dlat: [10, -21], dlon: [0, 5], dt: [1000, 1000] } } }
`
    const { out, err } = await parapet(['test', join(folder, written('track.yaml', track)), '--proto', join(root, 'proto')], { cwd: folder })
    expect(err).toBe('')
    expect(out).toContain('ok    as it was\nFAIL  another step')
  })

  test('--only and --format json', async () => {
    const report = JSON.parse((await run('test', 'three.yaml', '--only', 'France', '--format', 'json')).out) as { failed: number; tests: { name: string; line: number; failures: { output: string; expected: unknown; actual: unknown }[] }[] }
    expect(report.tests.map((one) => one.name)).toEqual(['nobody in France'])
    expect(report.tests[0]?.failures[0]).toMatchObject({ output: 'planner', expected: { machine: '$any' }, actual: 'nothing' })
  })

  test('wrong usage and wrong rules', async () => {
    expect((await run('test', 'good.yaml', '--coverage', 'much')).code).toBe(2)
    expect(await run('test', 'typo.yaml')).toMatchObject({ code: 1, out: '' })
    expect((await run('test', 'typo.yaml')).err).toContain('UNKNOWN-TRANSFORM')
  })
})

describe('parapet explain', () => {
  test('without options: every field of every output, with and without a yes', async () => {
    const { code, out } = await run('explain', 'good.yaml')
    expect(code).toBe(0)
    expect(out).toContain('planner: to planner for plan; legitimate interest in EEA; consent in FR, default; opt out in US')
    expect(out).toMatch(/position +position, additional, linkable +500 m grid \(without a yes: 10 km grid\)/)
    expect(out).toMatch(/driver .* names an operator +pseudonym of the operator, changes every 30d \(without a yes: drop\)/)
    expect(out).toMatch(/nowhere: .*\bfix\b.*\bsecret\b/)
  })

  test('the matrix as JSON names every field of every stream', async () => {
    const matrix = JSON.parse((await run('explain', 'good.yaml', '--format', 'json')).out) as { streams: { fields: { path: string; outputs: Record<string, { yes: string; no: string }> }[] }[] }
    const fields = new Map(matrix.streams[0]?.fields.map((one) => [one.path, one.outputs]))
    expect(fields.get('driver')).toEqual({ planner: { yes: 'pseudonym of the operator, changes every 30d', no: '-' } })
    expect(fields.get('secret')).toEqual({ planner: { yes: '-', no: '-' } })
    expect(fields.has('lat_e7')).toBe(false)
  })

  // prettier-ignore
  test.each([
    [['--country', 'DE'],                                   'open on legitimate interest in DE, without a yes of the operator', /driver .* drop +line \d+, without the operator's yes/],
    [['--country', 'DE', '--consent', 'plan'],              'open on legitimate interest in DE, with the operator\'s yes',      /driver .* pseudonym of the operator.* with the operator's yes/],
    [['--country', 'DE', '--operator', 'none'],             'open on legitimate interest in DE, without a yes of the operator', /driver .* drop +it identifies an operator, and nobody is known/],
    [['--country', 'DE', '--operator-collection', 'off'],   'open on legitimate interest in DE, without a yes of the operator', /driver .* drop +it identifies an operator, and the device setting is off/],
    [['--country', 'DE', '--refused', 'plan'],              'closed: legitimate interest in DE, and the operator said no',       /machine .* drop +the output is closed/],
    [['--country', 'FR'],                                   'closed: consent in FR, and there is no valid yes of the operator', /machine .* drop +the output is closed/],
    [['--country', 'US', '--no-notice'],                    'closed: opt out in US, and the operator was not given the notice', /machine .* drop/],
    [['--country', 'US', '--operator', 'none'],             'closed: opt out in US, and nobody is known',                        /machine .* drop/],
    [['--consent', 'plan'],                                 'open on consent in an unknown country, with the operator\'s yes',   /secret .* drop +the output does not name it/],
  ] as const)('%j', async (options, why, line) => {
    const { out } = await run('explain', 'good.yaml', '--output', 'planner', '--stream', 'report', ...options)
    expect(out.split('\n')[0]).toBe(`planner <- report: ${why}`)
    expect(out).toMatch(line)
    expect(out).toContain('(whoever receives it learns that load_kg made it true)')
  })

  test('one message before and after', async () => {
    const { out } = await run('explain', 'good.yaml', '--stream', 'report', '--country', 'DE', '--message', JSON.stringify(message))
    expect(out).toMatch(/^planner <- report: open on legitimate interest in DE/)
    expect(out).toMatch(/sent on out\/report\/[\w-]{22}: \d+ bytes came, \d+ leave/)
    expect(out).toMatch(/position +\{ lat: 48.137154, lon: 11.576124 \} +\{ lat: 48.10456, lon: 11.62612 \} +10 km grid/)
    expect(out).toMatch(/load_kg +137 +150 +clamp 0 to 500, then round to 50/)
    expect(out).toMatch(/secret +x +- +drop +the output does not name it/)
  })

  test('a message that is not sent says why', async () => {
    const heavy = await run('explain', 'good.yaml', '--stream', 'report', '--country', 'DE', '--message', JSON.stringify({ ...message, load_kg: 2000 }))
    expect(heavy.out).toContain('nothing is sent: the condition of the output is false')
    const foreign = await run('explain', 'good.yaml', '--stream', 'report', '--machine', 'SN-2', '--message', JSON.stringify(message))
    expect(foreign.out).toContain('refused: the topic or payload names another machine')
  })

  test('a message as JSON', async () => {
    const shown = JSON.parse((await run('explain', 'good.yaml', '--stream', 'report', '--country', 'DE', '--format', 'json', '--message', JSON.stringify(message))).out) as { outputs: { verdict: string; after: Record<string, unknown>; fields: { path: string; after: unknown }[] }[] }
    expect(shown.outputs[0]?.verdict).toBe('sent')
    expect(shown.outputs[0]?.after.load_kg).toBe(150)
    expect(shown.outputs[0]?.fields.find((one) => one.path === 'driver')?.after).toBe(null)
  })

  test('--code prints the generated function', async () => {
    const shipped = await parapet(['explain', 'config/rules/awp.yaml', '--output', 'rental-billing', '--stream', 'status', '--code'], { cwd: root })
    expect(shipped.out).toMatch(/^\/\/ rental-billing <- status: open on contract[\s\S]*return \(?function|^\/\/ rental-billing <- status/)
    expect(shipped.out.split('\n').length).toBeGreaterThan(50)
    const listed = await run('explain', 'good.yaml', '--output', 'planner', '--stream', 'report', '--code')
    expect(listed.out).toContain('function minimise(')
  })

  // prettier-ignore
  test.each([
    [['--output', 'planer'],                     'Did you mean "planner"?'],
    [['--stream', 'repot'],                      'Did you mean "report"?'],
    [['--message', '{}'],                        '--message needs --stream'],
    [['--stream', 'report', '--message', '{'],   '--message is no JSON'],
  ] as const)('wrong usage: %j', async (options, sentence) => {
    const { code, err } = await run('explain', 'good.yaml', ...options)
    expect([code, err]).toEqual([2, expect.stringContaining(sentence)])
  })
})

describe('parapet decode', () => {
  const payload = Buffer.from(encode(message))
  const capture = Buffer.concat([Buffer.from([payload.length]), payload, Buffer.from([payload.length]), payload])

  test.each([
    ['a payload', payload, 1], ['a capture', capture, 2],
  ])('%s', async (_name, bytes, messages) => {
    writeFileSync(join(folder, 'bytes.bin'), bytes)
    const { code, out } = await run('decode', 'bytes.bin', '--message', 'lift.v1.Report')
    expect(code).toBe(0)
    expect(out.split('lift.v1.Report').length - 1).toBe(messages)
    expect(out).toMatch(/1 +machine +"SN-1"/)
    expect(out).toMatch(/6 +lat_e7 +481371540/)
  })

  test('units and categories of our own schemas are shown, unknown fields only by size', async () => {
    const known = Buffer.from([0x0a, 0x04, ...Buffer.from('SN-1'), 0x68, 0xc1, 0x06, 0xfa, 0x3e, 0x03, 1, 2, 3])
    writeFileSync(join(folder, 'status.bin'), known)
    const { out } = await parapet(['decode', join(folder, 'status.bin'), '--message', 'awp.v1.Status'], { cwd: root })
    expect(out).toMatch(/13 +soc_pct_x10 +833 \(83.3 %\) +battery, basic, never/)
    expect(out).toMatch(/1007 +\(unknown\) +length-delimited, 4 bytes +never leaves/)
  })

  test('as JSON, one object a line, also from stdin', async () => {
    const { out } = await parapet(['decode', '-', '--message', 'lift.v1.Report', '--format', 'json'], { cwd: folder, stdin: capture })
    expect(out.trim().split('\n').map((line) => (JSON.parse(line) as { load_kg: number }).load_kg)).toEqual([137, 137])
  })

  test('what is no message is an error without its content', async () => {
    writeFileSync(join(folder, 'bad.bin'), payload.subarray(0, -1))
    const { code, err } = await run('decode', 'bad.bin', '--message', 'lift.v1.Report')
    expect([code, err]).toEqual([1, 'parapet: The input is no lift.v1.Report: the message ends inside a field.\n'])
    expect((await run('decode', 'bad.bin', '--message', 'lift.v1.Report', '--as', 'delimited')).err).toContain('Try --as single.')
    expect(await run('decode', 'bad.bin', '--message', 'lift.v1.Reprt')).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean "lift.v1.Report"?') as string })
  })
})

describe('parapet transforms', () => {
  test('lists every transform of the engine, with example and meaning', async () => {
    const { out } = await run('transforms')
    for (const { name, example, summary } of TRANSFORMS.values()) expect(out).toMatch(new RegExp(`^${name} .*${escaped(example)} .*${escaped(summary)}$`, 'm'))
  })

  test('one of them in detail', async () => {
    const { out } = await run('transforms', 'mask')
    expect(out).toContain('mask: All but the first and last characters')
    expect(out).toMatch(/keep_first +characters/)
    expect(out).toContain('ISO/IEC 20889')
  })

  test('markdown is a table, JSON the specs', async () => {
    const lines = (await run('transforms', '--format', 'markdown')).out.trim().split('\n')
    expect(lines).toHaveLength(TRANSFORMS.size + 2)
    expect(new Set(lines.map((line) => line.replaceAll('\\|', '').split('|').length))).toEqual(new Set([6]))
    expect((JSON.parse((await run('transforms', '--format', 'json')).out) as { name: string }[]).map((one) => one.name)).toEqual([...TRANSFORMS.keys()])
  })

  test('an unknown name', async () => {
    expect(await run('transforms', 'pseudonim')).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean "pseudonym"?') as string })
  })
})

function escaped(words: string): string {
  return words.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

describe('parapet init', () => {
  const messages = ['Status', 'Position', 'PositionBatch', 'SignalBatch', 'CanBatch', 'OperatorEvent', 'SessionSummary', 'Fault', 'SafetyEvent', 'PreUseCheck', 'ChargeRecord', 'CommsLog', 'DiagLog', 'DeviceInfo', 'ConsentChoice']
  test.each(messages)('a starter for awp.v1.%s names every field and passes the check', async (name) => {
    const { code, out } = await parapet(['init', '--message', `awp.v1.${name}`], { cwd: folder })
    expect(code).toBe(0)
    const schema = readdirSync(join(root, 'proto/awp/v1')).map((file) => readFileSync(join(root, 'proto/awp/v1', file), 'utf8')).join('\n')
    const fields = [...(new RegExp(`^message ${name} \\{([^]*?)^\\}`, 'm').exec(schema)?.[1] ?? '').matchAll(/^ {2,4}(?:optional |repeated )?[\w.]+ +(\w+) += +\d+/gm)].map(([, field]) => field as string)
    expect(fields.length).toBeGreaterThan(1)
    for (const field of fields) expect(out, field).toMatch(new RegExp(`\\b${field}\\b`))
    writeFileSync(join(folder, 'starter.yaml'), out)
    expect(await parapet(['check', 'starter.yaml', '--proto', join(root, 'proto')], { cwd: folder })).toMatchObject({ code: 0, out: expect.stringContaining('0 errors') as string })
  })

  test('of a schema without classifications nothing leaves as it is', async () => {
    const { code, out } = await run('init', '--proto', 'proto/lift.proto', '--message', 'lift.v1.Report')
    expect(code).toBe(0)
    expect(out).toMatch(/^ {10}# load_kg: .*not classified/m)
    writeFileSync(join(folder, 'starter.yaml'), out)
    expect(await run('check', 'starter.yaml')).toMatchObject({ code: 0 })
  })

  test('of a foreign schema: a point by its usual names, and what cannot be guessed as lines to fill in', async () => {
    writeFileSync(join(folder, 'proto/crane.proto'), 'syntax = "proto3";\npackage crane.v1;\nmessage Telemetry { string serial = 1; int64 ts = 2; double latitude = 3; double longitude = 4; float battery_pct = 5; }\n')
    const { out } = await run('init', '--proto', 'proto/crane.proto', '--message', 'crane.v1.Telemetry')
    expect(out).toContain('points: { position: { lat: latitude, lon: longitude, unit: deg } }')
    writeFileSync(join(folder, 'starter.yaml'), out)
    expect(await run('check', 'starter.yaml')).toMatchObject({ code: 0, out: expect.stringMatching(/0 errors, 0 warnings, 2 tests passed/) as string })
    const filled = out.replace('# machine: FIELD', 'machine: serial').replace('# time: { field: FIELD, unit: ms }', 'time: { field: ts, unit: s }').replace(/^fields: \{\}.*/m, 'fields:')
      .replace(/^ {2}# ("crane\.v1\.Telemetry\.battery_pct"): .*/m, '  $1: { category: battery, class: basic, personal: never }').replace(/^ {10}# battery_pct: .*?\}/m, '          battery_pct: keep')
    writeFileSync(join(folder, 'starter.yaml'), filled)
    expect((await run('check', 'starter.yaml')).out).toContain('0 errors')
    expect((await run('explain', 'starter.yaml', '--stream', 'telemetry', '--message', '{"serial":"SN-1","ts":1763888864,"battery_pct":81.5}')).out).toMatch(/sent on out\/telemetry: \d+ bytes came, \d+ leave\n[^]*battery_pct +81.5 +81.5 +keep/)
  })

  test('wrong words', async () => {
    expect(await run('init', '--message', 'awp.v1.Statu')).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean "awp.v1.Status"?') as string })
    expect(await run('init', '--proto', 'nowhere.proto', '--message', 'x.Y')).toMatchObject({ code: 1, err: expect.stringContaining('There is no file nowhere.proto') as string })
    expect(await run('init', '--proto', 'proto/lift.proto')).toMatchObject({ code: 2, err: expect.stringContaining('--message') as string })
  })
})
