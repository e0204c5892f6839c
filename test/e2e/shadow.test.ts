/** `parapet rules shadow` against a running gateway: what a candidate would change is counted, nothing of it leaves, and the end is on record. */
import { writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { testIo } from '../cli/io.ts'
import { OWN_TOPICS, Stage, until, type Terminal } from './stage.ts'

const FINER = ['hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: 1 min }'] as const
/** 12560.84 steps of 6 min, 75365.02 of 1 min. */
const STATUS = { key_on: true, hour_meter_s: 4_521_901, soc_pct_x10: 837, fix: 3, lat_e7: 481_371_540, lon_e7: 115_761_240, operator_id: 'A-1001' }
const VALUES = ['4521901', '4521900', '4521960', '837', '481371540', 'A-1001', 'SN-1001']

let stage: Stage
let terminal: Terminal
const tokens = new Map<string, string>()

async function parapet(role: string, ...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const { host, port } = stage.gateway.addresses.admin
  const io = testIo('', { PARAPET_URL: `http://${host}:${port}`, PARAPET_TOKEN: tokens.get(role) as string }, stage.folder.file('.'))
  const code = await runCommand(argv, io)
  return { code, out: io.out(), err: io.err() }
}

interface Report { readonly seen: number; readonly compared: number; readonly ending?: string; readonly rows: readonly { readonly output?: string; readonly field?: string; readonly what: string; readonly count: number }[] }
const report = async (role = 'viewer'): Promise<Report> => JSON.parse((await parapet(role, 'rules', 'shadow', '--format', 'json')).out) as Report
const recorded = async (): Promise<string[]> => (await stage.admin<{ events: { type: string }[] }>('GET', '/v1/ledger/events?type=rules.&limit=1000')).events.map(({ type }) => type)

async function send(count: number): Promise<void> {
  const before = (await report()).seen
  for (let n = 0; n < count; n++) await terminal.send('status', { ...STATUS, time_ms: Date.now() })
  await until(async () => (await report()).compared >= before + count, 'the messages to be compared')
}

describe('a running gateway', () => {
  beforeEach(async () => {
    stage = await Stage.open({ set: ['trial=false'] })
    const { staged } = await stage.admin<{ staged: { hash: string } }>('GET', '/v1/rules')
    await stage.admin('POST', '/v1/rules/activate', { hash: staged.hash, approve_widening: 'assessment 7' })
    for (const role of ['viewer', 'engineer', 'privacy']) tokens.set(role, (await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: `the-${role}`, role })).token)
    terminal = await stage.terminal('SN-1001')
    writeFileSync(stage.folder.file('next.yaml'), stage.folder.read('rules/awp.yaml').replace(...FINER))
  })
  afterEach(() => stage.close())

  test('from the start to the end, by whoever may', async () => {
    expect((await parapet('viewer', 'rules', 'shadow')).err).toContain('No candidate has run')
    expect(await parapet('viewer', 'rules', 'shadow', 'next.yaml')).toMatchObject({ code: 1, err: expect.stringContaining('shadow:run') as string })

    const begun = await parapet('engineer', 'rules', 'shadow', 'next.yaml', '--sample', '100%', '--for', '1h')
    expect(begun).toMatchObject({ code: 0, err: '' })
    expect(begun.out).toContain('1 widened, 0 narrowed, 0 changed')
    expect(begun.out).toContain('Next: parapet rules activate next.yaml, or end the run: parapet rules shadow --stop')
    expect(await parapet('engineer', 'rules', 'shadow', 'next.yaml')).toMatchObject({ code: 1, err: expect.stringContaining('runs beside the active set already') as string })

    const renter = await stage.recipient('rental-company', [OWN_TOPICS['rental-company'] as string])
    await send(3)
    await stage.settled([renter])
    // What leaves is what left before.
    expect(renter.takeSaid().map(({ message }) => message['hour_meter_s'])).toEqual([4_521_960, 4_521_960, 4_521_960])

    const { rows } = await report()
    // As if nobody were known: the same rows whatever the person said.
    expect(rows).toEqual([
      { output: 'service-cloud', stream: 'status', what: 'same', count: 3, machines: 1 },
      { output: 'rental-billing', stream: 'status', what: 'changed', count: 3, machines: 1 },
      { output: 'rental-billing', stream: 'status', field: 'hour_meter_s', what: 'different', count: 3, machines: 1 },
    ])
    expect((await report('privacy')).rows.map(({ output, what }) => `${output}: ${what}`)).toContain('service-cloud: same')
    const shown = await parapet('viewer', 'rules', 'shadow')
    expect(shown.out).toMatch(/rental-billing\s+status\s+hour_meter_s\s+3\s+another value/)

    expect((await parapet('viewer', 'rules', 'shadow', '--stop')).code).toBe(1)
    expect((await parapet('engineer', 'rules', 'shadow', '--stop')).out).toContain('; ended')
    expect(await report()).toMatchObject({ ending: 'asked', rows: [{ count: 3 }, { count: 3 }, { count: 3 }] })
    await terminal.send('status', { ...STATUS, time_ms: Date.now() })
    expect(await report()).toMatchObject({ seen: 3 })
    expect((await parapet('engineer', 'rules', 'shadow', '--stop')).code).toBe(1)
    expect((await recorded()).slice(-2)).toEqual(['rules.shadow_started', 'rules.shadow_ended'])

    const text = [...stage.logged, JSON.stringify(await report('privacy')), shown.out].join('\n')
    for (const value of VALUES) expect(text).not.toContain(value)
  })

  test('a consent given or taken away meanwhile counts with the next message', async () => {
    writeFileSync(stage.folder.file('next.yaml'), stage.folder.read('rules/awp.yaml').replace('position: { consent: { grid: 500m }, no_consent: { grid: 10km } }', 'position: { consent: { grid: 1km }, no_consent: { grid: 10km } }'))
    await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
    await parapet('privacy', 'rules', 'shadow', 'next.yaml', '--sample', '100')
    await send(1)
    await stage.consent('op-anna', 'granted', 'improve.statistics')
    await send(2)
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    await send(1)
    const different = (await report('privacy')).rows.filter(({ output, field }) => output === 'site-planning' && field === 'position')
    expect(different).toMatchObject([{ what: 'different', count: 2 }])
    // Nothing of it is for those who tune rules.
    expect((await report('engineer')).rows.filter(({ output }) => output === 'site-planning')).toEqual([])
  })

  test('rules with errors do not run, and all findings are shown; other active rules end a run', async () => {
    writeFileSync(stage.folder.file('wrong.yaml'), stage.folder.read('rules/awp.yaml').replace('round: 6 min', 'ruond: 6 min').replace('grid: 500m', 'gird: 500m'))
    const wrong = await parapet('engineer', 'rules', 'shadow', 'wrong.yaml')
    expect(wrong.code).toBe(1)
    expect(wrong.err.match(/wrong\.yaml:\d+:\d+ error UNKNOWN-TRANSFORM/g)).toHaveLength(2)

    await parapet('engineer', 'rules', 'shadow', 'next.yaml')
    stage.folder.edit('rules/awp.yaml', (text) => text.replace('hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: 18 min }'))
    await until(async () => (await report()).ending !== undefined, 'the run to end')
    expect(await report()).toMatchObject({ ending: 'rules' })
    expect((await parapet('viewer', 'rules', 'shadow')).out).toContain('ended, because other rules are in force')
  })
})

describe('wrong usage', () => {
  /** Said before any gateway is asked. */
  async function misused(...argv: string[]): Promise<{ code: number; err: string }> {
    const io = testIo()
    return { code: await runCommand(argv, io), err: io.err() }
  }

  // prettier-ignore
  test.each([
    [['next.yaml', '--sample', '0'],           '--sample'],
    [['next.yaml', '--sample', '101%'],        '--sample'],
    [['next.yaml', '--for', '25h'],            '--for'],
    [['next.yaml', '--for', 'long'],           '--for'],
    [['next.yaml', '--stop'],                  '--stop'],
    [['--sample', '10%'],                      'needs a rules file'],
    [['--approve-widening', 'because'],        'needs no approval'],
  ])('rules shadow %s is wrong usage', async (words, what) => {
    expect(await misused('rules', 'shadow', ...words)).toMatchObject({ code: 2, err: expect.stringContaining(what) as string })
  })

  test('what belongs to shadow is wrong usage elsewhere', async () => {
    expect(await misused('rules', 'list', '--sample', '10%')).toMatchObject({ code: 2, err: expect.stringContaining('--sample goes with rules shadow') as string })
  })
})
