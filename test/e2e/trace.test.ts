/** `parapet trace` against a running gateway: who sees what, what is forgotten with a withdrawal, and what is on record. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { testIo } from '../cli/io.ts'
import { Stage, until, type Terminal } from './stage.ts'

const STATUS = { key_on: true, hour_meter_s: 4_521_901, soc_pct_x10: 837, fix: 3, lat_e7: 481_371_540, lon_e7: 115_761_240, operator_id: 'A-1001' }
const VALUES = ['4521901', '4521960', '481371540', '48.137', 'A-1001']

interface Entry { readonly seq: number; readonly stream?: string; readonly person?: string; readonly refused?: string; readonly outputs: readonly { readonly output: string; readonly result: string; readonly why: string; readonly fields: readonly { readonly path: string; readonly before?: string; readonly after?: string }[] }[] }
interface Page { readonly entries: readonly Entry[]; readonly ending?: string }

let stage: Stage
let terminal: Terminal
const tokens = new Map<string, string>()

async function parapet(role: string, ...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const { host, port } = stage.gateway.addresses.admin
  const io = testIo('', { PARAPET_URL: `http://${host}:${port}`, PARAPET_TOKEN: tokens.get(role) as string })
  const code = await runCommand(argv, io)
  return { code, out: io.out(), err: io.err() }
}

const asked = <Answer>(role: string, method: 'GET' | 'POST', path: string, body?: unknown): Promise<Answer> => stage.admin<Answer>(method, path, body, tokens.get(role))
const send = (stream = 'status'): Promise<void> => terminal.send(stream, stream === 'status' ? { ...STATUS, time_ms: Date.now() } : { time_ms: Date.now() })
const recorded = async (): Promise<string[]> => (await stage.admin<{ events: { type: string }[] }>('GET', '/v1/ledger/events?type=disclosure.&limit=1000')).events.map(({ type }) => type.slice('disclosure.'.length)).filter((type) => type.startsWith('trace'))

async function seen(role: string, count: number): Promise<Page> {
  let page: Page = { entries: [] }
  await until(async () => (page = await asked<Page>(role, 'GET', '/v1/trace')).entries.length >= count, `${count} messages in the trace`)
  return page
}

describe('a running gateway', () => {
  beforeEach(async () => {
    stage = await Stage.open()
    for (const role of ['viewer', 'engineer', 'privacy']) tokens.set(role, (await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: `the-${role}`, role })).token)
    terminal = await stage.terminal('SN-1001')
    await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
  })
  afterEach(() => stage.close())

  test('the command follows a machine, prints why, and ends the trace', async () => {
    const following = parapet('privacy', 'trace', '--machine', 'SN-1001', '--for', '1m', '--count', '2')
    await until(async () => (await recorded()).includes('trace_started'), 'the trace to begin')
    await send()
    await terminal.publish('up/demo/SN-1001/status', Uint8Array.of(10, 9))
    const { code, out, err } = await following
    expect([code, err]).toEqual([0, expect.stringMatching(/^Tracing machine SN-1001 until .* or Ctrl-C\n$/)])
    expect(out).toContain('a known person is signed on')
    expect(out).toContain('rental-billing: open on contract in FR, without a yes of the operator')
    expect(out).toMatch(/hour_meter_s\s+round to 360\s+line \d+/)
    expect(out).toContain('refused: truncated; the message ends inside a field')
    await expect(asked('privacy', 'GET', '/v1/trace')).rejects.toThrow('UNKNOWN-TRACE')
    expect(await recorded()).toEqual(['trace_started', 'trace_ended'])
    for (const value of VALUES) expect(out + stage.logged.join('')).not.toContain(value)
  })

  test('--format json is one object in one line', async () => {
    const following = parapet('privacy', 'trace', '--machine', 'SN-1001', '--count', '2', '--format', 'json', '--values')
    await until(async () => (await recorded()).includes('trace_started'), 'the trace to begin')
    await send()
    await send()
    const lines = (await following).out.trimEnd().split('\n').map((line) => JSON.parse(line) as Entry)
    expect(lines.map(({ seq, stream }) => [seq, stream])).toEqual([[1, 'status'], [2, 'status']])
    expect(lines[0]?.outputs.find(({ output }) => output === 'rental-billing')?.fields.find(({ path }) => path === 'hour_meter_s')).toMatchObject({ before: '4521901', after: '4521960' })
  })

  test('who may see what', async () => {
    expect(await parapet('viewer', 'trace', '--machine', 'SN-1001')).toMatchObject({ code: 1, err: expect.stringContaining('trace:run') as string })
    for (const more of [['--machine', 'SN-1001', '--values'], ['--operator', 'op-anna']]) expect(await parapet('engineer', 'trace', ...more)).toMatchObject({ code: 1, err: expect.stringContaining('privacy, admin') as string })
    expect(await parapet('privacy', 'trace', '--machine', 'SN-77')).toMatchObject({ code: 1, err: expect.stringContaining('no such machine') as string })
    expect(await parapet('privacy', 'trace', '--operator', 'op-nobody')).toMatchObject({ code: 1, err: expect.stringContaining('No operator has this id') as string })
    await stage.consent('op-anna', 'refused', 'improve.statistics')

    await asked('engineer', 'POST', '/v1/trace', { machine: 'SN-1001' })
    await asked('privacy', 'POST', '/v1/trace', { operator: 'op-anna', minutes: 1 })
    await send()
    const [engineer, privacy] = [await seen('engineer', 1), await seen('privacy', 1)]
    const planning = (page: Page): unknown => page.entries[0]?.outputs.find(({ output }) => output === 'site-planning')
    expect(planning(privacy)).toMatchObject({ result: 'closed', why: 'closed: consent in FR, and the operator said no', if_nobody_known: false })
    expect(planning(engineer)).toMatchObject({ result: 'closed', why: 'closed: consent in FR, and nobody is known', if_nobody_known: true })
    expect(privacy.entries[0]?.person).toBe('a known person is signed on')
    expect(engineer.entries[0]).not.toHaveProperty('person')
    for (const value of VALUES) expect(JSON.stringify([engineer, privacy])).not.toContain(value)
  })

  test('a withdrawal takes with it what was seen of the person; each look at values is theirs to see', async () => {
    await stage.consent('op-anna', 'granted', 'improve.statistics')
    await asked('privacy', 'POST', '/v1/trace', { machine: 'SN-1001', values: true })
    await send()
    const page = await seen('privacy', 1)
    expect(JSON.stringify(page)).toContain('4521901')
    const { looks } = await stage.admin<{ looks: { action: string }[] }>('GET', '/v1/operators/op-anna/consent')
    expect(looks.map(({ action }) => action)).toContain('trace_shown')

    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    expect((await asked<Page>('privacy', 'GET', '/v1/trace')).entries).toEqual([])
    await send()
    expect((await seen('privacy', 1)).entries[0]?.outputs.find(({ output }) => output === 'site-planning')).toMatchObject({ result: 'closed', why: 'closed: consent in FR, and the operator said no' })
    expect(stage.logged.join('')).not.toContain('4521901')

    await stage.stop()
    expect(stage.logged.join('')).not.toContain('failed')
  })

  test('a consent that the person gives at the display is not in the trace of those who may not read it', async () => {
    await asked('engineer', 'POST', '/v1/trace', { machine: 'SN-1001' })
    await terminal.send('consent', { time_ms: Date.now(), operator_id: 'A-1001', purpose: 'improve.statistics', choice: 'REFUSE' })
    await send()
    expect((await seen('engineer', 1)).entries.map(({ stream }) => stream)).toEqual(['status'])
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
    [[],                                                     'one of the two'],
    [['--machine', 'SN-1001', '--operator', 'op-anna'],       'one of the two'],
    [['--machine', 'SN-1001', '--for', '2h'],                '--for'],
    [['--machine', 'SN-1001', '--count', 'many'],            '--count'],
  ])('trace %s is wrong usage', async (words, what) => {
    expect(await misused('trace', ...words)).toMatchObject({ code: 2, err: expect.stringContaining(what) as string })
  })
})
