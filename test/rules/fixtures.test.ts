/**
 * Ten small rules files, one for each thing that the language can say. Each is checked and tested by the commands that an engineer
 * types, must look at every output under a yes, a no and neither, must turn red when its rules are loosened, and is held against bytes
 * that were worked out here by other means.
 */
import { hkdfSync } from 'node:crypto'
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { aessiv } from '@noble/ciphers/aes.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createEmission } from '../../src/emission.ts'
import { loadRulesFile } from '../../src/config/rules.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { gridE7, pseudonym } from '../cli/lift/oracle.ts'
import { parapet } from '../cli/run.ts'
import { encode, framed, unframed } from './oracle.ts'

const home = resolve(import.meta.dirname, '../..')
const at = 1_763_888_864_000 // 2025-11-23 09:07:44 UTC
const ROOT = Uint8Array.from({ length: 32 }, (_, index) => index)

interface Fixture {
  readonly file: string
  /** Codes of warnings that the file is meant to have. */
  readonly warnings?: readonly string[]
  /** What is loosened in the rules, so that at least one of the file's own tests must fail. */
  readonly loosened: readonly (readonly [from: string, to: string])[]
  readonly oracle: readonly Case[]
}

interface Case {
  readonly name: string
  readonly output: string
  readonly stream: string
  readonly message: string
  readonly options: readonly string[]
  readonly given: Readonly<Record<string, unknown>>
  /** Undefined = nothing leaves. */
  readonly leaves: Readonly<Record<string, unknown>> | undefined
}

/** Pseudonym of an output by HKDF and HMAC, with rows derived as the page of the language says for use without a gateway. */
const named = (as: string, output: string, epoch: string, value: string): string =>
  pseudonym({ root: ROOT, tenant: 'demo', as, output, epoch, value: Buffer.from(value), row: undefined }).toString('base64url')

/** [RFC 5297] under the row of the customer. */
function sealed(output: string, value: string): string {
  const row = hkdfSync('sha256', ROOT, 'demo', `parapet/v1|filter-row|customer|${value}`, 32)
  return Buffer.from(aessiv(new Uint8Array(hkdfSync('sha256', new Uint8Array(row), '', `parapet/v1|sealed|${output}`, 64))).encrypt(Buffer.from(value))).toString('base64url')
}

const session = (operator: string): string => Buffer.from(hkdfSync('sha256', ROOT, 'demo', `parapet/v1|filter-session|${operator}`, 16)).toString('hex')

const cell = (lat: number, lon: number, size: number): { readonly lat_e7: number; readonly lon_e7: number } => ({ lat_e7: gridE7(lat, lon, size).lat, lon_e7: gridE7(lat, lon, size).lon })

/** A track as the differences of its cells. */
function track(places: readonly (readonly [lat: number, lon: number])[], size: number, dt: readonly number[]): Record<string, unknown> {
  const cells = places.map(([lat, lon]) => gridE7(lat, lon, size))
  const steps = (part: 'lat' | 'lon'): number[] => cells.slice(1).map((here, index) => here[part] - cells[index]![part])
  return { lat0_e7: cells[0]!.lat, lon0_e7: cells[0]!.lon, dlat_e7: steps('lat'), dlon_e7: steps('lon'), dt_ms: dt }
}

const lift = { machine_id: 'SN-1', time_ms: at, operator_id: 'P7', lat_e7: 481_371_540, lon_e7: 115_761_240, fix: 3, key_on: true, platform_height_mm: 9_300, site_code: '2741' }
const yes = (...purposes: string[]): string[] => ['--consent', purposes.join(',')]
const no = (...purposes: string[]): string[] => ['--refused', purposes.join(',')]

/** Frame of a group: priority 6, from the engine. */
const id = (pgn: number): number => 6 * 2 ** 26 + pgn * 256
const frames = [
  { id: id(61_444), dt_us: 1, data: Buffer.from([0xf0, 0x7d, 0x87, 0x80, 0x16, 0xf0, 0x64, 0xff]) },
  { id: id(65_253), dt_us: 2, data: Buffer.from([0x40, 0x0d, 0x03, 0x00, 0xff, 0xff, 0xff, 0xff]) },
  { id: id(65_262), dt_us: 3, data: Buffer.from([0x79, 0xff]) },
  { id: id(65_271), dt_us: 4, data: Buffer.from([0xff, 0xff, 0xff, 0xff, 0x08, 0x02, 0xff, 0xff]) },
  { id: id(65_260), dt_us: 5, data: Buffer.from('SN-1') },
  { id: id(61_184), dt_us: 6, data: Buffer.from([1, 2, 3]) },
]

const ways = [[481_371_540, 115_761_240], [481_431_540, 115_821_240], [481_491_540, 115_881_240], [481_551_540, 115_941_240]] as const
const shift = { machine_id: 'SN-1', time_ms: at, operator_id: 'P7', op: 'SIGN_ON', method: 'METHOD_CARD', card_uid: Buffer.from('04A1'), display_name: 'Anna', employer: 'Example Rental' }
const stop = { machine_id: 'SN-1', time_ms: at, operator_id: 'P7', session_ref: 88, kind: 'SAFETY_ESTOP', severity: 'SEVERITY_STOP', duration_ms: 1_200, lat_e7: 282_280_000, lon_e7: 1_129_380_000 }
const { display_text, ...plain } = { ...lift, display_text: 'Hello Anna' }

const FIXTURES: readonly Fixture[] = [
  {
    file: 'smallest.yaml',
    // It is the smallest on purpose.
    warnings: ['PURPOSES-NOT-DECLARED'],
    loosened: [['machine_id: { pseudonym: {} }', 'machine_id: { pseudonym: { as: truck } }, site_code: keep']],
    oracle: [{
      name: 'what is never personal, and the pseudonym', output: 'cloud', stream: 'status', message: 'awp.v1.Status', options: ['--operator', 'none'], given: { ...plain, display_text },
      leaves: { machine_id: named('machine', 'cloud', 'never', 'SN-1'), time_ms: at, fix: 3, key_on: true, platform_height_mm: 9_300 },
    }],
  },
  {
    file: 'envelope.yaml',
    loosened: [['no_consent: drop', 'no_consent: { constant: x }'], ['at: { round_time: 1h }', 'at: { round_time: 1s }']],
    oracle: [
      { name: 'the statistics get the hour and the cause', output: 'causes', stream: 'alarm', message: 'acme.v3.Envelope', options: ['--country', 'FR'], given: { serial: 'SN-1', at: { seconds: at / 1_000, nanos: 5 }, seq: 9, alarm: { cause: 'CAUSE_TILT', load_permille: 400, remark: 'called Anna' } }, leaves: { at: { seconds: at / 1_000 - 464 }, alarm: { cause: 'CAUSE_TILT' } } },
      { name: 'and with a yes twelve letters of the remark', output: 'causes', stream: 'alarm', message: 'acme.v3.Envelope', options: ['--country', 'FR', ...yes('improve.statistics')], given: { serial: 'SN-1', at: { seconds: at / 1_000 }, alarm: { remark: 'Ännchen von Tharau' } }, leaves: { at: { seconds: at / 1_000 - 464 }, alarm: { remark: 'Ännchen von ' } } },
      { name: 'hours to the next tenth', output: 'workshop', stream: 'meter', message: 'acme.v3.Envelope', options: [], given: { serial: 'SN-1', seq: 3, meter: { hours_milli: 1_234_567, soc_permille: -1 } }, leaves: { serial: 'SN-1', meter: { hours_milli: 1_234_600, soc_permille: -1 } } },
      { name: 'a log-in leaves on no stream', output: 'workshop', stream: 'meter', message: 'acme.v3.Envelope', options: [], given: { serial: 'SN-1', login: { card: '04A1B2' } }, leaves: undefined },
    ],
  },
  {
    file: 'signals.yaml',
    loosened: [['202: { v: { round: 50 } }', '202: { v: { round: 10 } }'], ['only: { 101:', 'with: { id: keep }, only: { 101:']],
    oracle: [
      { name: 'steps without a word', output: 'battery', stream: 'signals', message: 'awp.v1.SignalBatch', options: [], given: { machine_id: 'SN-1', time_ms: at, s: [{ id: 201, v: 475, dt_ms: 9 }, { id: 301, v: 1 }, { id: 202, v: -25 }, { id: 101, v: 1 }] }, leaves: { machine_id: 'SN-1', time_ms: at, s: [{ id: 201, v: 500 }, { id: 202, v: -50 }] } },
      { name: 'exact with a yes, and the time within the second', output: 'battery', stream: 'signals', message: 'awp.v1.SignalBatch', options: yes('service.operate'), given: { machine_id: 'SN-1', time_ms: at, s: [{ id: 202, v: -25, dt_ms: 7 }] }, leaves: { machine_id: 'SN-1', time_ms: at, s: [{ id: 202, v: -25, dt_ms: 7 }] } },
      { name: 'classes of height', output: 'heights', stream: 'signals', message: 'awp.v1.SignalBatch', options: yes('improve.statistics'), given: { machine_id: 'SN-1', time_ms: at, s: [{ id: 101, v: 7_999 }, { id: 101, v: 12_000 }, { id: 201, v: 5 }] }, leaves: { s: [{ v: 4_000 }, { v: 12_000 }] } },
    ],
  },
  {
    file: 'frames.yaml',
    loosened: [['data: { keep_bytes: [3, 5] }', 'data: { keep_bytes: [3, 6] }']],
    oracle: [
      {
        name: 'the bytes of three values', output: 'workshop', stream: 'can', message: 'awp.v1.CanBatch', options: yes('service.operate'), given: { machine_id: 'SN-1', time_ms: at, bus: 1, f: frames },
        leaves: { machine_id: 'SN-1', time_ms: at, f: [{ ...frames[1], data: Buffer.from([0x40, 0x0d, 0x03, 0x00]) }, { ...frames[2], data: Buffer.from([0x79]) }, { ...frames[3], data: Buffer.from([0x08, 0x02]) }] },
      },
      { name: 'engine speed alone', output: 'engine-study', stream: 'can', message: 'awp.v1.CanBatch', options: yes('improve.statistics'), given: { machine_id: 'SN-1', time_ms: at, bus: 1, f: frames }, leaves: { bus: 1, f: [{ dt_us: 1, data: Buffer.from([0x80, 0x16]) }] } },
      { name: 'no frame without a yes', output: 'workshop', stream: 'can', message: 'awp.v1.CanBatch', options: [], given: { machine_id: 'SN-1', time_ms: at, bus: 1, f: frames }, leaves: undefined },
    ],
  },
  {
    file: 'track.yaml',
    loosened: [['no_consent: { grid: 10km }', 'no_consent: { grid: 1km }'], ['{ thin: 1m }', '{ thin: 30s }']],
    oracle: [
      { name: 'cells of 10 km', output: 'service', stream: 'track', message: 'awp.v1.PositionBatch', options: [], given: { machine_id: 'SN-1', time_ms: at, lat0_e7: ways[0][0], lon0_e7: ways[0][1], dlat_e7: [60_000, 60_000, 60_000], dlon_e7: [60_000, 60_000, 60_000], dt_ms: [40_000, 40_000, 40_000], speed_cm_s: [1, 2, 3] }, leaves: { machine_id: named('machine', 'service', 'never', 'SN-1'), ...track(ways, 10_000, [40_000, 40_000, 40_000]) } },
      { name: 'cells of 1 km', output: 'service', stream: 'track', message: 'awp.v1.PositionBatch', options: yes('service.operate'), given: { machine_id: 'SN-1', time_ms: at, lat0_e7: ways[0][0], lon0_e7: ways[0][1], dlat_e7: [60_000, 60_000, 60_000], dlon_e7: [60_000, 60_000, 60_000], dt_ms: [40_000, 40_000, 40_000] }, leaves: { machine_id: named('machine', 'service', 'never', 'SN-1'), ...track(ways, 1_000, [40_000, 40_000, 40_000]) } },
      // 0, 40, 80 and 120 s: after the first only the third is a minute later.
      { name: 'one fix a minute in cells of 500 m', output: 'ways', stream: 'track', message: 'awp.v1.PositionBatch', options: yes('improve.statistics'), given: { machine_id: 'SN-1', time_ms: at, lat0_e7: ways[0][0], lon0_e7: ways[0][1], dlat_e7: [60_000, 60_000, 60_000], dlon_e7: [60_000, 60_000, 60_000], dt_ms: [40_000, 40_000, 40_000] }, leaves: track([ways[0], ways[2]], 500, [80_000]) },
    ],
  },
  {
    file: 'countries.yaml',
    loosened: [['DE: { improve.statistics: { basis: consent, employee_consent: "works agreement WA-1" } }', 'IE: { improve.statistics: { basis: legitimate_interest, assessment: LIA-3 } }'], ['US-CA: { improve.statistics: opt_out }', 'US-NY: { improve.statistics: opt_out }']],
    // Rows of country, what was said, size of the cell; the rest is the same everywhere.
    oracle: ([
      ['FR', [], 100_000], ['FR', yes('improve.statistics'), 1_000], ['FR', no('improve.statistics'), 0], ['FR', ['--operator', 'none'], 100_000],
      ['DE', [], 0], ['DE', yes('improve.statistics'), 1_000], ['GB', [], 0], ['GB', yes('improve.statistics'), 1_000],
      ['US-CA', [], 100_000], ['US-CA', ['--no-notice'], 0], ['US-CA', no('improve.statistics'), 0], ['US-CA', ['--operator', 'none'], 0], ['US-CA', yes('improve.statistics'), 1_000],
      ['US', ['--operator', 'none'], 100_000], ['CN', [], 0], ['CN', yes('improve.statistics'), 1_000], ['BR', [], 0], ['BR', yes('improve.statistics'), 1_000], ['', [], 0],
      ['FR', ['--operator-country', 'DE'], 0],
    ] as const).map(([country, options, size]) => ({
      name: `${country === '' ? 'unknown' : country} ${options.join(' ')}`.trim(), output: 'planning', stream: 'status', message: 'awp.v1.Status', options: [...(country === '' ? [] : ['--country', country]), ...options], given: lift,
      leaves: size === 0 ? undefined : cell(lift.lat_e7, lift.lon_e7, size),
    })),
  },
  {
    file: 'windows.yaml',
    loosened: [['time_ms: { round_time: 15m }', 'time_ms: { round_time: 5m }'], ['when: "msg.key_on"\n', '\n']],
    oracle: [
      { name: 'the quarter hour', output: 'planning', stream: 'status', message: 'awp.v1.Status', options: ['--country', 'FR'], given: lift, leaves: { machine_id: named('machine', 'planning', String(Math.floor(at / 604_800_000)), 'SN-1'), time_ms: at - (at % 900_000), ...cell(lift.lat_e7, lift.lon_e7, 10_000) } },
      { name: 'the height to a metre', output: 'peaks', stream: 'status', message: 'awp.v1.Status', options: [], given: { ...lift, platform_height_mm: 9_500 }, leaves: { machine_id: 'SN-1', time_ms: at - (at % 3_600_000), platform_height_mm: 10_000 } },
    ],
  },
  {
    file: 'pseudonyms.yaml',
    loosened: [['operator_id: { pseudonym: { rotate: session } }', 'operator_id: { pseudonym: { rotate: 30d } }'], ['employer: { consent: encrypt', 'employer: { consent: { pseudonym: { rotate: 30d } }']],
    oracle: [
      { name: 'the machine, always the same', output: 'door', stream: 'operator', message: 'awp.v1.OperatorEvent', options: [], given: shift, leaves: { machine_id: named('machine', 'door', 'never', 'SN-1'), time_ms: at, op: 'SIGN_ON', method: 'METHOD_CARD' } },
      { name: 'the person of a session', output: 'shifts', stream: 'operator', message: 'awp.v1.OperatorEvent', options: yes('improve.statistics'), given: shift, leaves: { time_ms: at, operator_id: named('operator', 'shifts', `s:${session('P7')}`, 'P7'), op: 'SIGN_ON' } },
      { name: 'the person of a month, and the sealed employer', output: 'log', stream: 'operator', message: 'awp.v1.OperatorEvent', options: yes('security.fraud'), given: shift, leaves: { time_ms: at, operator_id: named('operator', 'log', String(Math.floor(at / 2_592_000_000)), 'P7'), op: 'SIGN_ON', employer: sealed('log', 'Example Rental') } },
      { name: 'nobody without a word', output: 'log', stream: 'operator', message: 'awp.v1.OperatorEvent', options: [], given: shift, leaves: { time_ms: at, op: 'SIGN_ON' } },
    ],
  },
  {
    file: 'zones.yaml',
    loosened: [['hide_in: [depot, canteen]', 'hide_in: [depot]'], ['    reach: site\n', '']],
    oracle: [
      ...([[482_005_000, 115_000_001, true], [482_005_000, 114_999_999, false], [482_009_999, 115_010_000, true], [482_010_001, 115_010_000, false]] as const).map(([lat, lon, inside]) => ({
        name: `${lat} ${lon} is ${inside ? 'in' : 'beside'} the canteen`, output: 'board', stream: 'status', message: 'awp.v1.Status', options: yes('improve.statistics'), given: { ...lift, lat_e7: lat, lon_e7: lon },
        leaves: inside ? undefined : { ...cell(lat, lon, 100), key_on: true },
      })),
      // A circle is moved and widened for each machine, by at most 1.2 of its radius in all: 400 m are inside, 1,100 m outside for every machine. A degree is 111,320 m.
      ...Array.from({ length: 12 }, (_, index) => index).flatMap((index) => ([[400, false], [1_100, true]] as const).map(([metres, visible]) => {
        const lat = 481_370_000 + Math.round((Math.cos(index) * metres * 1e7) / 111_320)
        const lon = 115_750_000 + Math.round((Math.sin(index) * metres * 1e7) / 111_320 / Math.cos((48.137 * Math.PI) / 180))
        return {
          name: `machine ${index}, ${metres} m from the depot`, output: 'planning', stream: 'status', message: 'awp.v1.Status', options: [...yes('improve.statistics'), '--machine', `SN-${index}`],
          given: { ...lift, machine_id: `SN-${index}`, lat_e7: lat, lon_e7: lon }, leaves: { ...(visible ? cell(lat, lon, 1_000) : {}), key_on: true },
        }
      })),
    ],
  },
  {
    file: 'law.yaml',
    loosened: [["SEVERITY_STOP] && machine.label.site != 'test'", 'SEVERITY_STOP]'], ['    despite_device_setting: "Work Safety Law of the PRC"\n', ''], ['[SEVERITY_ALARM, SEVERITY_STOP]', '[SEVERITY_WARN, SEVERITY_STOP]']],
    oracle: [
      ...([[[]], [no('legal.obligation')], [['--operator-collection', 'off']]] as const).map(([options]) => ({
        name: `recorded ${options.join(' ')}`.trim(), output: 'record', stream: 'safety', message: 'awp.v1.SafetyEvent', options: ['--country', 'CN', ...options], given: stop,
        leaves: { machine_id: 'SN-1', time_ms: at, operator_id: 'P7', kind: 'SAFETY_ESTOP', severity: 'SEVERITY_STOP', duration_ms: 1_200, ...cell(282_280_000, 1_129_380_000, 100) },
      })),
      { name: 'no record of a warning', output: 'record', stream: 'safety', message: 'awp.v1.SafetyEvent', options: ['--country', 'CN'], given: { ...stop, severity: 'SEVERITY_WARN' }, leaves: undefined },
      { name: 'no record from the test ground', output: 'record', stream: 'safety', message: 'awp.v1.SafetyEvent', options: ['--country', 'CN', '--label', 'site=test'], given: stop, leaves: undefined },
      { name: 'no person at the workshop', output: 'service', stream: 'safety', message: 'awp.v1.SafetyEvent', options: ['--country', 'CN', ...yes('service.operate')], given: stop, leaves: { machine_id: 'SN-1', time_ms: at, kind: 'SAFETY_ESTOP', severity: 'SEVERITY_STOP' } },
    ],
  },
]

const run = (argv: readonly string[], stdin?: Uint8Array): ReturnType<typeof parapet> => parapet(argv, { cwd: home, ...(stdin === undefined ? {} : { stdin }) })
const pathOf = (file: string): string => join(import.meta.dirname, file)

test('these are all the files, and there are ten', () => {
  expect(readdirSync(import.meta.dirname).filter((name) => name.endsWith('.yaml')).toSorted()).toEqual(FIXTURES.map(({ file }) => file).toSorted())
  expect(FIXTURES).toHaveLength(10)
})

describe.each(FIXTURES)('$file', ({ file, warnings = [], loosened, oracle }) => {
  test('begins by saying what it is', () => {
    expect(readFileSync(pathOf(file), 'utf8')).toMatch(/^# [\s\S]*?[a-z]\n?.*\.\nversion: 1\n/)
  })

  test('`check` has nothing against it', async () => {
    const said = await run(['check', pathOf(file), '--format', 'json'])
    const { accepted, findings, waived, tests } = JSON.parse(said.out) as { accepted: boolean; findings: { code: string; severity: string }[]; waived: unknown[]; tests: { passed: number; failed: number } }
    expect(findings.map((finding) => `${finding.severity} ${finding.code}`)).toEqual(warnings.map((code) => `warning ${code}`))
    expect([said.code, accepted, waived.length, tests.failed]).toEqual([0, true, 0, 0])
    expect(tests.passed).toBeGreaterThan(2)
  })

  test('`test` is green and looks at every output under a yes, a no and neither', async () => {
    const said = await run(['test', pathOf(file), '--coverage', '100', '--format', 'json'])
    const { failed, coverage } = JSON.parse(said.out) as { failed: number; coverage: { outputs: { output: string; yes: number; no: number; notSet: number }[]; percent: number } }
    expect([said.code, failed, coverage.percent]).toEqual([0, 0, 100])
    expect(coverage.outputs.filter((one) => one.yes === 0 || one.no === 0 || one.notSet === 0)).toEqual([])
  })

  test.each(loosened)('its own tests object to %s -> %s', async (from, to) => {
    const text = readFileSync(pathOf(file), 'utf8')
    expect(text.split(from).length, 'must stand in the file once').toBe(2)
    const copy = join(mkdtempSync(join(tmpdir(), 'parapet-rules-')), file)
    writeFileSync(copy, text.replace(from, () => to))
    const said = await run(['check', copy, '--proto', pathOf('proto'), '--format', 'json'])
    const { findings } = JSON.parse(said.out) as { findings: { code: string }[] }
    expect([said.code, findings.some(({ code }) => code === 'TEST-FAILED')]).toEqual([1, true])
  })

  test.each(oracle)('$name', async ({ output, stream, message, options, given, leaves }) => {
    const said = await run(['filter', pathOf(file), '--output', output, '--stream', stream, ...options], framed([encode(message, given)]))
    expect(said.err.trimEnd().split('\n').at(-1)).toContain('"read":1')
    expect(unframed(said.bytes).map((bytes) => Buffer.from(bytes).toString('hex'))).toEqual(leaves === undefined ? [] : [Buffer.from(encode(message, leaves)).toString('hex')])
  })
})

describe('what the bytes of the frames say', () => {
  const u16 = (bytes: readonly number[]): number => bytes[0]! + 256 * bytes[1]!
  test.each([
    // [SAE J1939-71] with the scales that the head of the file names.
    ['720 rpm', u16([0x80, 0x16]) * 0.125, 720],
    ['10,000 h', (u16([0x40, 0x0d]) + 65_536 * 0x03) * 0.05, 10_000],
    ['81 degrees', 0x79 - 40, 81],
    ['26 V', u16([0x08, 0x02]) * 0.05, 26],
  ])('%s', (_, value, expected) => {
    expect(value).toBeCloseTo(expected, 9)
  })
})

describe('windows.yaml: which messages leave, and when', () => {
  const loaded = loadRulesFile(pathOf('windows.yaml'), { schemas: loadSchemas([join(home, 'proto')]) })
  const QUARTER = 900_000
  const HOUR = 3_600_000

  /** Offers readings one after the other; gives back what is sent and the instant at which it leaves (-1 = at once). */
  function play(output: string, readings: readonly { readonly at: number; readonly height: number; readonly mode: number }[]): string[] {
    const source = loaded.policy?.outputs.find((one) => one.id === output)?.streams[0]
    if (source?.emit === undefined) throw new Error('the output has no windows')
    const kept = new Map<number, { untilMs: number; payload: Uint8Array }>()
    const sent: string[] = []
    let mark: string | undefined
    const emission = createEmission(output, source, source.emit, { kept: (slot) => kept.get(slot.window) as OutboxRecord | undefined, mark: () => mark })
    for (const [index, reading] of readings.entries()) {
      const bytes = encode('awp.v1.Status', { machine_id: 'SN-1', mode: reading.mode, platform_height_mm: reading.height })
      if (!emission.offer('SN-1', reading.at, reading.at, bytes, 0, bytes.length)) continue
      if (emission.slot?.window === -1) sent.push(`${index} at once`)
      else kept.set(emission.slot?.window ?? 0, { untilMs: emission.untilMs ?? -1, payload: bytes })
      mark = emission.slot?.mark
    }
    for (const { untilMs, payload } of kept.values()) sent.push(`${Buffer.from(payload).toString('hex')} at ${untilMs}`)
    return sent
  }

  const readings = fc.array(fc.record({ gap: fc.integer({ min: 1, max: 1_500_000 }), height: fc.integer({ min: 1, max: 5 }), mode: fc.integer({ min: 1, max: 2 }) }), { minLength: 1, maxLength: 40 })
    .map((list) => list.reduce<{ at: number; height: number; mode: number }[]>((all, { gap, height, mode }) => [...all, { at: (all.at(-1)?.at ?? at) + gap, height, mode }], []))
  const line = ({ height, mode }: { readonly height: number; readonly mode: number }, until: number): string => `${Buffer.from(encode('awp.v1.Status', { machine_id: 'SN-1', mode, platform_height_mm: height })).toString('hex')} at ${until}`

  test('the last of each quarter hour, at its end', () => {
    fc.assert(fc.property(readings, (list) => {
      const wanted = new Map(list.map((one) => [Math.floor(one.at / QUARTER), one]))
      expect(play('planning', list)).toEqual([...wanted].map(([window, one]) => line(one, (window + 1) * QUARTER)))
    }), { numRuns: 60 })
  })

  test('the highest of each hour, of equals the later, at its end', () => {
    fc.assert(fc.property(readings, (list) => {
      const wanted = new Map<number, (typeof list)[number]>()
      for (const one of list) {
        const window = Math.floor(one.at / HOUR)
        if (one.height >= (wanted.get(window)?.height ?? 0)) wanted.set(window, one)
      }
      expect(play('peaks', list)).toEqual([...wanted].map(([window, one]) => line(one, (window + 1) * HOUR)))
    }), { numRuns: 60 })
  })

  test('every change of the mode, at once', () => {
    fc.assert(fc.property(readings, (list) => {
      expect(play('changes', list)).toEqual(list.flatMap((one, index) => (one.mode === list[index - 1]?.mode ? [] : [`${index} at once`])))
    }), { numRuns: 60 })
  })
})
