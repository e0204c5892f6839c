/** The demo: its picture, its story against the shipped rules, and the whole of it with a real gateway. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { filterOf, understand } from '../../src/cli/demo/recipients.ts'
import { createScene } from '../../src/cli/demo/scene.ts'
import type { Scene } from '../../src/cli/demo/scene.ts'
import { clock, frame, paint, painter, shownValue } from '../../src/cli/demo/screen.ts'
import type { View } from '../../src/cli/demo/screen.ts'
import { BEFORE, STATUS_OUTPUTS, STORY } from '../../src/cli/demo/story.ts'
import type { Stage } from '../../src/cli/demo/story.ts'
import type { Message } from '../../src/cli/simulate/machine.ts'
import { readRoster } from '../../src/cli/simulate/roster.ts'
import { readYaml } from '../../src/config/yaml.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { testIo } from './io.ts'

const root = resolve(import.meta.dirname, '../..')
const schemas = loadSchemas([join(root, 'proto')])
const status = schemas.message('awp.v1.Status')!
const NOW = Date.UTC(2026, 10, 23, 9, 7, 44)

const SENT = { machine_id: 'SN-1001', time_ms: NOW, operator_id: 'A-1001', lat_e7: 457640430, lon_e7: 48356590, soc_pct_x10: 833, hour_meter_s: 36_000, drive_speed_mm_s: 0, mode: 'MODE_LIFT', display_text: 'Hello Anna' }

function sentStatus(machine = 'SN-1001', atMs = NOW): Message {
  return { machine, stream: 'status', type: 'awp.v1.Status', topic: 'up/demo/x/status', qos: 1, atMs, body: { ...SENT, machine_id: machine } }
}

function sceneWithTwo(): Scene {
  return createScene('SN-1001', new Set(['SN-1001', 'SN-1002']), [{ output: 'service-cloud', recipient: 'oem-cloud' }, { output: 'rental-billing', recipient: 'rental-company' }])
}

function view(scene: Scene, nowMs = NOW + 50): View {
  return { scene, nowMs, elapsedS: 23, totalS: 60, person: 'Anna signed on with card A-1001', caption: { happens: 'Something happens.', look: 'the left side.', answer: 'It is so.' }, status }
}

function row(scene: Scene, field: string, nowMs?: number): string {
  return frame(view(scene, nowMs), 100, 40).map((line) => paint(line, 100, false)).find((line) => line.startsWith(` ${field} `)) ?? ''
}

describe('the picture', () => {
  test('says of every field what was sent and what each recipient got of it', () => {
    const scene = sceneWithTwo()
    scene.noteSent(sentStatus(), 120)
    scene.noteReceived({ output: 'service-cloud', recipient: 'oem-cloud', stream: 'status', bytes: 60, atMs: NOW + 10, body: { machine_id: 'p5eud0nym', time_ms: String(NOW - 44_000), lat_e7: 457689500, lon_e7: 47946300, soc_pct_x10: 833, mode: 'MODE_LIFT' } })
    expect(row(scene, 'machine_id').split(/ {2,}/)).toEqual([' machine_id', 'SN-1001', 'p5eud0nym', '·'])
    expect(row(scene, 'time_ms').split(/ {2,}/)).toEqual([' time_ms', '09:07:44', '09:07:00', '·'])
    expect(row(scene, 'lat_e7').split(/ {2,}/)).toEqual([' lat_e7', '45.76404', '45.76895', '·'])
    expect(row(scene, 'soc_pct_x10').split(/ {2,}/)).toEqual([' soc_pct_x10', '83.3 %', '83.3 %', '·'])
    expect(row(scene, 'operator_id').split(/ {2,}/)).toEqual([' operator_id', 'A-1001', '·', '·'])
    // Zero and absence cannot be told apart, so nothing is claimed.
    expect(row(scene, 'drive_speed_mm_s').split(/ {2,}/)).toEqual([' drive_speed_mm_s', '0.00 m/s'])
  })

  test('a changed value has another colour than one that was kept', () => {
    const scene = sceneWithTwo()
    scene.noteSent(sentStatus(), 120)
    scene.noteReceived({ output: 'service-cloud', recipient: 'oem-cloud', stream: 'status', bytes: 60, atMs: NOW, body: { machine_id: 'p', soc_pct_x10: 850, mode: 'MODE_LIFT' } })
    const styles = (field: string): unknown => frame(view(scene), 100, 40).find((line) => line[0]?.[0].startsWith(` ${field} `))?.[2]?.[1]
    expect([styles('soc_pct_x10'), styles('mode')]).toEqual(['changed', 'same'])
  })

  test('a recipient that does not get the newest message is seen to get nothing', () => {
    const scene = sceneWithTwo()
    const heads = (nowMs: number): string => frame(view(scene, nowMs), 100, 40).map((line) => paint(line, 100, false)).find((line) => /^\s+(?:receives|gets nothing)/.test(line))!.trim().replace(/ {2,}/g, ', ')
    scene.noteSent(sentStatus(), 120)
    scene.noteReceived({ output: 'rental-billing', recipient: 'rental-company', stream: 'status', bytes: 9, atMs: NOW + 5, body: { machine_id: 'SN-1001', hour_meter_s: 36_000 } })
    expect(heads(NOW + 500)).toBe('gets nothing, receives')
    // A parked machine reports rarely: what it last sent still stands.
    expect(heads(NOW + 60_000)).toBe('gets nothing, receives')
    scene.noteSent(sentStatus('SN-1001', NOW + 61_000), 120)
    expect(heads(NOW + 61_100)).toBe('gets nothing, receives')
    expect(heads(NOW + 62_000)).toBe('gets nothing, gets nothing')
  })

  test('other machines do not show in it, in clear or under a pseudonym', () => {
    const scene = sceneWithTwo()
    scene.noteSent(sentStatus(), 120)
    scene.noteReceived({ output: 'service-cloud', recipient: 'oem-cloud', stream: 'device', bytes: 60, atMs: NOW, body: { machine_id: 'mine' } })
    expect(scene.knows('service-cloud')).toBe(true)
    scene.noteSent(sentStatus('SN-1002'), 100)
    scene.noteReceived({ output: 'service-cloud', recipient: 'oem-cloud', stream: 'status', bytes: 60, atMs: NOW, body: { machine_id: 'other', soc_pct_x10: 1 } })
    scene.noteReceived({ output: 'rental-billing', recipient: 'rental-company', stream: 'status', bytes: 60, atMs: NOW, body: { machine_id: 'SN-1002', hour_meter_s: 1 } })
    expect(scene.columns.map(({ body }) => body)).toEqual([undefined, undefined])
    expect([scene.sent.get('status'), scene.received.get('service-cloud')]).toEqual([{ messages: 2, bytes: 220 }, { messages: 2, bytes: 120 }])
  })

  test('other messages stand with who received what of them', () => {
    const scene = sceneWithTwo()
    scene.noteSent(sentStatus(), 1)
    scene.noteSent({ ...sentStatus(), stream: 'safety', type: 'awp.v1.SafetyEvent', body: { machine_id: 'SN-1001', time_ms: NOW, kind: 'SAFETY_OVERLOAD', value: 108, operator_id: 'A-1001' } }, 50)
    const lines = (nowMs: number): string => frame(view(scene, nowMs), 100, 40).map((line) => paint(line, 100, false)).join('\n')
    expect(lines(NOW + 900)).toMatch(/09:07:44 safety {3}OVERLOAD value=108 by A-1001 +nobody/)
    scene.noteReceived({ output: 'rental-billing', recipient: 'rental-company', stream: 'safety', bytes: 9, atMs: NOW, body: { machine_id: 'SN-1001', kind: 'SAFETY_OVERLOAD' } })
    expect(lines(NOW + 900)).toMatch(/09:07:44 safety {3}OVERLOAD value=108 by A-1001 +rental-company: OVERLOAD/)
  })

  test('fits whatever the size of the terminal', () => {
    const scene = sceneWithTwo()
    for (let i = 0; i < 20; i++) scene.noteSent({ ...sentStatus(), stream: 'operator', body: { op: 'SIGN_ON', operator_id: 'A-1001', display_name: 'x'.repeat(80) } }, 1)
    scene.noteSent(sentStatus(), 1)
    fc.assert(fc.property(fc.integer({ min: 40, max: 240 }), fc.integer({ min: 5, max: 80 }), (width, height) => {
      const lines = frame(view(scene), width, height)
      expect(lines.length).toBeLessThanOrEqual(height)
      for (const line of lines) expect(paint(line, width, false).length).toBeLessThanOrEqual(width)
    }))
    expect(frame(view(scene), 100, 40)).toHaveLength(40)
  })

  test('colour never changes the text', () => {
    const scene = sceneWithTwo()
    scene.noteSent(sentStatus(), 1)
    for (const line of frame(view(scene), 100, 40)) {
      const plain = paint(line, 100, false)
      expect(plain).not.toContain('\u001B')
      // eslint-disable-next-line no-control-regex
      expect(paint(line, 100, true).replace(/\u001B\[\d+m/g, '').trimEnd()).toBe(plain)
    }
  })

  test('is drawn in one write on the alternate screen, at the size of the moment, and gives the terminal back', () => {
    const writes: string[] = []
    const screen = { columns: 50, rows: 10, write: (text: string) => writes.push(text) }
    const live = painter(screen, false)
    live.draw(Array.from({ length: 30 }, (_, at) => [[`line ${at} ${'x'.repeat(200)}`]]))
    screen.rows = 4
    live.draw(Array.from({ length: 30 }, (_, at) => [[`line ${at}`]]))
    live.close()
    live.close()
    expect(writes).toHaveLength(4)
    expect([writes[0], writes[3]]).toEqual(['\u001B[?1049h\u001B[?25l', '\u001B[?25h\u001B[?1049l'])
    expect(writes[1]!.split('\r\n')).toHaveLength(10)
    expect(writes[1]!.split('\r\n')[1]!.replace('\u001B[K', '')).toHaveLength(49)
    expect(writes[2]!.split('\r\n')).toHaveLength(4)
  })

  // prettier-ignore
  test.each([
    ['time_ms',            NOW,           '09:07:44'],
    ['lat_e7',             -340522340,    '-34.05223'],
    ['soc_pct_x10',        833,           '83.3 %'],
    ['platform_height_mm', 9300,          '9.30 m'],
    ['pack_mv',            48900,         '48.90 V'],
    ['platform_load_kg',   137,           '137 kg'],
    ['hour_meter_s',       36_000,        '10.00 h'],
    ['mode',               'MODE_LIFT',   'LIFT'],
    ['key_on',             true,          'true'],
    ['operator_id',        'A-1001',      'A-1001'],
  ])('%s %s reads %s', (field, value, text) => {
    expect(shownValue(status, field, value)).toBe(text)
  })

  test('a clock', () => {
    expect([0, 59.9, 60, 3599].map(clock)).toEqual(['0:00', '0:59', '1:00', '59:59'])
  })
})

describe('topics of outputs', () => {
  test('a template is a filter of its own topics', () => {
    expect(filterOf('out/service/{stream}/{machine_id}')).toBe('out/service/+/+')
  })

  test('a topic is understood by its template', () => {
    const outputs = [{ id: 'a', recipient: 'r', topic: 'out/a/{stream}' }, { id: 'b', recipient: 'r', topic: 'out/{machine_id}/b/{stream}' }]
    const payload = schemas.encode('awp.v1.Fault', { spn: 7 })
    expect(understand('out/a/fault', payload, outputs, schemas)).toEqual({ output: 'a', stream: 'fault', body: { spn: 7 } })
    expect(understand('out/x/b/fault', payload, outputs, schemas)?.output).toBe('b')
    expect(understand('out/a/unheard', payload, outputs, schemas)).toBeUndefined()
    expect(understand('else/a/fault', payload, outputs, schemas)).toBeUndefined()
  })
})

describe('the story', () => {
  interface Rules {
    readonly purposes: Readonly<Record<string, unknown>>
    readonly subject: { readonly handover_quarantine: string }
    readonly outputs: Readonly<Record<string, { readonly recipient: string; readonly streams: Readonly<Record<string, { readonly fields?: Readonly<Record<string, unknown>> }>> }>>
  }
  const rules = readYaml(join(root, 'config/rules/awp.yaml')).value as Rules

  test('speaks of purposes, people and recipients that the shipped configuration has', async () => {
    const asked: { operator: string; purpose: string }[] = [...BEFORE]
    const stage: Stage = { signOn: () => {}, signOff: () => {}, check: () => {}, overload: () => {}, consent: (operator, purpose) => Promise.resolve(String(asked.push({ operator, purpose }))) }
    for (const step of STORY) await step.act(stage)
    const people = readRoster(root, undefined, Date.now()).cards.map(({ operator }) => operator)
    for (const { operator, purpose } of asked) expect([people.includes(operator), Object.keys(rules.purposes).includes(purpose)]).toEqual([true, true])
    const recipients = new Set(Object.values(rules.outputs).map(({ recipient }) => recipient))
    const named = STORY.flatMap(({ caption }) => caption.look.match(/\b(?:oem-cloud|site-planner|rental-company|security-desk|safety-archive|my-app)\b/g) ?? [])
    expect(new Set(named).size).toBeGreaterThan(4)
    for (const name of named) expect(recipients).toContain(name)
  })

  test('shows the outputs that get Status, and all of them', () => {
    expect(Object.entries(rules.outputs).filter(([, { streams }]) => 'status' in streams).map(([name]) => name).toSorted()).toEqual([...STATUS_OUTPUTS].toSorted())
  })

  test('tells the sizes that the rules say', () => {
    const text = STORY.map(({ caption }) => `${caption.happens} ${caption.look}`).join(' ')
    expect(rules.outputs['service-cloud']!.streams['status']!.fields!['position']).toMatchObject({ consent: { grid: '1km' }, no_consent: { grid: '10km' } })
    expect(rules.outputs['site-planning']!.streams['status']!.fields!['position']).toMatchObject({ consent: { grid: '500m' } })
    expect(text).toMatch(/10 km cell to a 1 km cell/)
    expect(text).toMatch(/500 m cell, the quarter hour/)
    expect([rules.subject.handover_quarantine, /For two minutes after a hand-over/.test(text)]).toEqual(['2m', true])
  })

  test('begins at once, goes forward and ends within its minute', () => {
    const times = STORY.map(({ atS }) => atS)
    expect(times[0]).toBe(0)
    expect(times).toEqual(times.toSorted((one, other) => one - other))
    expect(times.at(-1)).toBeLessThan(58)
  })
})

describe('the whole', () => {
  const before = process.env['TMPDIR']
  const folder = mkdtempSync(join(tmpdir(), 'parapet-test-demo-'))
  beforeAll(() => {
    process.env['TMPDIR'] = folder
  })
  afterAll(() => {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
    rmSync(folder, { recursive: true })
  })
  const left = (): string[] => readdirSync(folder).filter((name) => name.startsWith('parapet-demo-'))
  const table = { demo: () => import('../../src/cli/demo.ts') }

  test('plays to its end without a terminal: pictures as lines, then the bill', async () => {
    const io = testIo()
    expect(await runCommand(['demo', '--seconds', '14'], io, table)).toBe(0)
    const out = io.out()
    expect([out.includes('\u001B'), io.err()]).toEqual([false, ''])
    const pictures = out.split(/^-{100}$/m)
    expect(pictures).toHaveLength(STORY.length + 1)
    const cells = (picture: string | undefined, field: string): string[] => (picture ?? '').split('\n').find((line) => line.startsWith(` ${field} `))?.trim().split(/ {2,}/) ?? []
    const at = (happens: RegExp): string | undefined => pictures.find((picture) => happens.test(picture))

    const signedOn = at(/Anna signs on/)
    expect(cells(signedOn, 'operator_id')).toEqual(['operator_id', 'A-1001', '·', '·', '·', '·'])
    expect(cells(signedOn, 'lat_e7').slice(2)).toEqual(['45.76895', '·', '·', '·'])
    // Yes to statistics: the planner's 500 m cell. Then the finer cell for service. Then, withdrawn, the planner's is gone.
    expect(cells(at(/yes to statistics \(/), 'lat_e7').slice(2)).toEqual(['45.76895', '45.76222', '·', '·'])
    expect(cells(at(/finer position/), 'lat_e7').slice(2)).toEqual(['45.76446', '45.76222', '·', '·'])
    expect(cells(at(/withdraws her yes/), 'lat_e7').slice(2)).toEqual(['45.76446', '·', '·', '·'])
    expect(at(/withdraws her yes/)).toMatch(/improve\.statistics\s+is\s+withdrawn,\s+in\s+the\s+ledger\s+as\s+event\s+\d+\s+and\s+in\s+force\s+after\s+\d+\s+ms/)
    expect(at(/platform is overloaded/)).toMatch(/safety-archive: OVERLOAD/)
    expect(cells(at(/Ben takes over/), 'operator_id')).toEqual(['operator_id', 'A-1002', '·', '·', '·', '·'])

    const bill = pictures.at(-1)!
    const [, acked, asked] = /(\d+) of (\d+) that ask for an acknowledgement have it/.exec(bill) ?? []
    expect([acked, Number(asked) > 30]).toEqual([asked, true])
    expect(bill).toMatch(/site-planner +site-planning +[1-9]\d* .*no valid yes/)
    expect(bill).toMatch(/safety-archive +safety-record +[1-9]/)
    expect(left()).toEqual([])
  })

  test('on a terminal Ctrl-C ends it: the screen is given back, the bill is shown, nothing is left behind', async () => {
    const script = `
      import { runCommand } from './src/cli/command.ts'
      const stdout = Object.assign(process.stdout, { isTTY: true, columns: 90, rows: 30 })
      process.exitCode = await runCommand(['demo'], { stdin: process.stdin, stdout, stderr: process.stderr, env: { NO_COLOR: '1' }, cwd: process.cwd() }, { demo: () => import('./src/cli/demo.ts') })
    `
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: folder } })
    let out = ''
    const seen = Promise.withResolvers<void>()
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
      if (out.includes('SIGN ON')) seen.resolve()
    })
    child.stderr.pipe(new PassThrough().on('data', (chunk: Buffer) => (out += chunk.toString())))
    await seen.promise
    child.kill('SIGINT')
    expect(await new Promise((ended) => child.once('exit', ended))).toBe(0)
    expect(out.indexOf('\u001B[?1049h')).toBe(0)
    const after = out.slice(out.indexOf('\u001B[?1049l'))
    expect(after).toContain('The terminals sent')
    expect(after).not.toContain('\u001B[?1049h')
    // NO_COLOR: cursor movements only.
    // eslint-disable-next-line no-control-regex
    expect(/\u001B\[\d+m/.test(out)).toBe(false)
    expect(left()).toEqual([])
  })

  test.each(['x', '4', '4000', ''])('--seconds "%s" is wrong usage', async (seconds) => {
    const io = testIo()
    expect(await runCommand(['demo', `--seconds=${seconds}`], io, table)).toBe(2)
    expect(io.err()).toContain('--seconds is a number from 5 to 3600.')
  })
})
