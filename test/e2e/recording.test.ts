/** Recordings through a real gateway: who may, that the gateway keeps nothing readable, that a preview equals what left, and that a no ends it. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { testIo } from '../cli/io.ts'
import { PROJECT, Stage, type Recipient } from './stage.ts'

const CANARY = 'CANARY-display-4711'

let stage: Stage
let billing: Recipient
let desk: string
const tokens = new Map<string, string>()

beforeAll(async () => {
  stage = await Stage.open()
  for (const role of ['viewer', 'engineer', 'privacy', 'admin']) tokens.set(role, (await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: `the-${role}`, role })).token)
  billing = await stage.recipient('rental-company', ['out/billing/+'])
  // Where the privacy role works: the private key is here, and not in the data folder.
  desk = testIo().cwd
})
afterAll(() => stage.close())

async function parapet(role: string, ...argv: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const { host, port } = stage.gateway.addresses.admin
  const io = testIo('', { PARAPET_URL: `http://${host}:${port}`, PARAPET_TOKEN: tokens.get(role) as string }, desk)
  const code = await runCommand(argv, io)
  return { code, out: io.out(), err: io.err() }
}

interface Shown {
  readonly id: string
  readonly file: string
  readonly messages: number
  readonly people: number
  readonly left_out: { readonly no: number; readonly device_setting: number }
}

const START = ['record', 'start', '--to', 'dpo.key.pub', '--reason', 'preview of rules 8'] as const

async function start(...options: readonly string[]): Promise<Shown> {
  const { code, out, err } = await parapet('privacy', ...START, '--format', 'json', ...options)
  expect([code, err]).toEqual([0, ''])
  return JSON.parse(out) as Shown
}

async function stop(): Promise<Shown> {
  return JSON.parse((await parapet('privacy', 'record', 'stop', '--format', 'json')).out) as Shown
}

async function shift(machine: string, card: string, meters: readonly number[]): Promise<void> {
  const terminal = await stage.terminal(machine)
  await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: card })
  for (const meter of meters) await terminal.send('status', { time_ms: Date.now(), operator_id: card, key_on: true, hour_meter_s: meter, display_text: CANARY })
}

async function ledger(): Promise<string[]> {
  return (await stage.admin<{ events: { type: string }[] }>('GET', '/v1/ledger/events?type=disclosure.&limit=1000')).events.map(({ type }) => type.slice('disclosure.'.length)).filter((type) => type.startsWith('recording_'))
}

describe('parapet record', () => {
  test('a key pair: the private half for one user alone, none replaced', async () => {
    expect((await parapet('privacy', 'record', 'keygen', 'dpo.key')).out).toMatch(/^Key [0-9a-f]{16}: the private half is in dpo\.key \(mode 0600\)/)
    if (process.platform !== 'win32') expect(statSync(join(desk, 'dpo.key')).mode & 0o777).toBe(0o600)
    expect(readFileSync(join(desk, 'dpo.key.pub'), 'utf8')).toContain('BEGIN PUBLIC KEY')
    expect(await parapet('privacy', 'record', 'keygen', 'dpo.key')).toMatchObject({ code: 1, err: expect.stringContaining('already') as string })
  })

  // prettier-ignore
  test.each<[number, string, string, readonly string[]]>([
    [1, 'engineer', 'recordings:write',                  START],
    [1, 'viewer',   'recordings:write',                  START],
    [1, 'engineer', 'recordings:write',                  ['record', 'list']],
    [1, 'privacy',  'private key',                       ['record', 'start', '--to', 'dpo.key', '--reason', 'preview']],
    [2, 'privacy',  'needs --reason',                    ['record', 'start', '--to', 'dpo.key.pub']],
    [2, 'privacy',  'needs --to',                        ['record', 'start', '--reason', 'preview']],
    [1, 'privacy',  'no stream of this name',            [...START, '--stream', 'nowhere']],
    [1, 'privacy',  'no such machine',                   [...START, '--machine', 'SN-9']],
    [2, 'privacy',  '--for is a time',                   [...START, '--for', 'long']],
    [2, 'privacy',  '--size is a size',                  [...START, '--size', 'big']],
    [2, 'privacy',  '--key does not go with',            ['record', 'list', '--key', 'dpo.key']],
    [2, 'privacy',  'one word too many',                 ['record', 'stop', 'r-1']],
    [2, 'privacy',  'needs ID',                          ['record', 'delete']],
    [1, 'privacy',  'No recording is running',           ['record', 'stop']],
    [1, 'privacy',  'no recording of this id',           ['record', 'delete', 'r-0123456789abcdef']],
    [1, 'privacy',  'cannot be read',                    ['record', 'open', 'nowhere.rec', '--key', 'dpo.key']],
  ])('exit %i for %s: %s', async (code, role, error, argv) => {
    expect(await parapet(role, ...argv)).toMatchObject({ code, err: expect.stringContaining(error) as string })
  })

  test('from start to preview to deletion', async () => {
    const { id, file } = await start('--for', '10m')
    await shift('SN-1001', 'A-1001', [3_600, 7_200])
    await shift('SN-1004', 'A-1002', [10_800])
    await stage.settled([billing])
    expect(await parapet('privacy', ...START)).toMatchObject({ code: 1, err: expect.stringContaining('A recording is running') as string })
    expect(await stop()).toMatchObject({ id, messages: 3, people: 1, left_out: { no: 0, device_setting: 2 } })
    expect((await parapet('admin', 'record', 'list')).out).toMatch(new RegExp(`${id} +ended: asked .* 3 +\\d+ +1 `))

    // Nothing of it can be read with what the gateway has.
    const stored = readdirSync(stage.folder.data, { recursive: true, withFileTypes: true }).filter((one) => one.isFile()).map((one) => readFileSync(join(one.parentPath, one.name)).toString('latin1'))
    for (const text of [...stored, ...stage.logged]) expect(text.includes(CANARY)).toBe(false)
    expect(file.startsWith(stage.folder.data)).toBe(true)

    const opened = await parapet('privacy', 'record', 'open', file, '--key', 'dpo.key', '--stream', 'status', '--format', 'json', '--proto', join(PROJECT, 'proto'))
    expect([opened.code, opened.err]).toEqual([0, '{"read":2}\n'])
    expect(opened.out.trim().split('\n').map((line) => JSON.parse(line) as unknown)).toMatchObject([{ display_text: CANARY, hour_meter_s: 3_600 }, { display_text: CANARY, hour_meter_s: 7_200 }])
    expect(await parapet('privacy', 'record', 'open', file, '--key', 'dpo.key')).toMatchObject({ code: 2, err: expect.stringContaining('name one with --stream') as string })

    // A preview with the rules in force gives what left, from the machine and the decision of each message.
    const preview = await parapet('privacy', 'filter', stage.folder.file('rules/awp.yaml'), '--output', 'rental-billing', '--stream', 'status', '--recording', file, '--key', 'dpo.key', '--format', 'json')
    const left = billing.takeSaid().filter(({ message }) => message['machine_id'] === 'SN-1001').map(({ message }) => message)
    const previewed = preview.out.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(left.length).toBe(2)
    expect(previewed.map((one) => ({ ...one, time_ms: Number(one['time_ms']) }))).toEqual(left)
    expect(JSON.parse(preview.err)).toEqual({ read: 2, written: 2, empty: 0, refused: {} })
    for (const [surplus, error] of [[['--consent', 'none'], 'what --consent would assume'], [['--country', 'FR'], 'what --country would assume']] as const) {
      expect(await parapet('privacy', 'filter', stage.folder.file('rules/awp.yaml'), '--output', 'rental-billing', '--stream', 'status', '--recording', file, '--key', 'dpo.key', ...surplus)).toMatchObject({ code: 2, err: expect.stringContaining(error) as string })
    }

    expect((await parapet('privacy', 'record', 'delete', id)).out).toBe('The recording is deleted.\n')
    expect(existsSync(file)).toBe(false)
    expect(await ledger()).toEqual(['recording_started', 'recording_stopped', 'recording_ended', 'recording_deleted'])
  })

  test('a no of somebody in it, through the API: gone before it is acknowledged; who said no is not in the next one', async () => {
    const { file } = await start()
    await shift('SN-1001', 'A-1001', [3_600])
    expect(existsSync(file)).toBe(true)
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    expect(existsSync(file)).toBe(false)
    expect((await parapet('privacy', 'record', 'list')).out).toBe('There are no recordings.\n')

    await start()
    await shift('SN-1001', 'A-1001', [3_600])
    expect(await stop()).toMatchObject({ messages: 0, people: 0, left_out: { no: 2, device_setting: 0 } })
  })

  test('a device setting that is turned off', async () => {
    const { file } = await start()
    const terminal = await stage.terminal('SN-1005')
    await terminal.send('status', { time_ms: Date.now(), key_on: true, hour_meter_s: 60 })
    await stop()
    stage.folder.edit('machines.yaml', (text) => text.replace(/(SN-1005: .*operator_collection: )on/, '$1off'))
    await stage.gateway.reload()
    expect(existsSync(file)).toBe(false)
  })

  test('other rules end it, and the file stays', async () => {
    const { id, file } = await start()
    stage.folder.edit('rules/awp.yaml', (text) => text.replace(/hour_meter_s: .*\n/, (line) => `${line.trimEnd()} # other rules\n`))
    await stage.gateway.reload()
    const { recordings } = JSON.parse((await parapet('privacy', 'record', 'list', '--format', 'json')).out) as { recordings: { id: string; ended?: string }[] }
    expect(recordings.find((one) => one.id === id)?.ended).toMatch(/rules/)
    expect(existsSync(file)).toBe(true)
  })

  test('what a process that was killed after a no left is gone at the next start, the rest is not', async () => {
    const { id: other } = await start()
    await shift('SN-1003', 'A-1003', [60])
    await stop()
    const { id } = await start()
    await shift('SN-1003', 'A-1002', [60])
    await stop()
    const folder = join(stage.folder.data, 'recordings')
    const names = readdirSync(folder).filter((name) => name.startsWith(id))
    const before = names.map((name) => readFileSync(join(folder, name)))
    await stage.consent('op-ben', 'refused', 'improve.statistics')
    expect(readdirSync(folder).filter((name) => name.startsWith(id))).toEqual([])
    await stage.stop()
    for (const [index, name] of names.entries()) writeFileSync(join(folder, name), before[index] as Buffer, { mode: 0o600 })
    stage = await Stage.open({ folder: stage.folder })
    expect(readdirSync(folder).filter((name) => name.startsWith(id))).toEqual([])
    expect(readdirSync(folder).filter((name) => name.startsWith(other))).toHaveLength(3)
  })
})
