/** Learn mode through a real gateway: a new firmware sends what no schema has, an engineer sees where, and nobody sees what. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { testIo } from '../cli/io.ts'
import { bytes, delimited, varint } from '../watch/fixture.ts'
import { encode, Stage } from './stage.ts'

const CANARY = 'CANARY-firmware-4711'

let stage: Stage
const tokens = new Map<string, string>()

beforeAll(async () => {
  stage = await Stage.open()
  for (const role of ['viewer', 'engineer', 'privacy']) tokens.set(role, (await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: `the-${role}`, role })).token)
})
afterAll(() => stage.close())

async function parapet(role: string, line: string): Promise<{ code: number; out: string; err: string }> {
  const { host, port } = stage.gateway.addresses.admin
  const io = testIo('', { PARAPET_URL: `http://${host}:${port}`, PARAPET_TOKEN: tokens.get(role) as string })
  const code = await runCommand(line.split(' '), io)
  return { code, out: io.out(), err: io.err() }
}

/** What a terminal with a newer firmware than the schemas sends. */
async function sendAll(machine: string): Promise<void> {
  const terminal = await stage.terminal(machine)
  const status = encode('status', { machine_id: machine, time_ms: Date.now(), key_on: true, hour_meter_s: 4_521_780 })
  await terminal.send('status', Buffer.concat([status, bytes(delimited(900, CANARY), varint(901, 823_471_144))]))
  await terminal.publish(`up/demo/${machine}/${CANARY}`, bytes([1, 2, 3]))
}

describe('parapet learn', () => {
  test('needs a role that may, and refuses what is out of bounds', async () => {
    expect(await parapet('viewer', 'learn')).toMatchObject({ code: 1, err: expect.stringContaining('learn:run') as string })
    expect(await parapet('engineer', 'learn --stop')).toMatchObject({ code: 1, err: expect.stringContaining('Learn mode is not on') as string })
    expect(await parapet('engineer', 'learn --for 8d')).toMatchObject({ code: 2, err: expect.stringContaining('at most 7d') as string })
    await expect(stage.admin('POST', '/v1/learning', { seconds: 691_200 }, tokens.get('engineer'))).rejects.toThrow(/: 4\d\d /)
    expect(await parapet('engineer', 'learn --for soon')).toMatchObject({ code: 2 })
    expect(await parapet('engineer', 'learn --stop --for 1h')).toMatchObject({ code: 2 })
    expect(await parapet('engineer', 'learn --stream nowhere')).toMatchObject({ code: 1, err: expect.stringContaining('no stream of this name') as string })
  })

  test('says what arrives that nobody knows, what to do, and nothing of what it holds', async () => {
    expect((await parapet('engineer', 'learn --for 10m')).out).toMatch(/^Learn mode is on until .*, for all streams; messages since .*: 0 read\.\nNothing unknown was seen\.\n$/)
    expect(await parapet('engineer', 'learn --for 10m')).toMatchObject({ code: 1, err: expect.stringContaining('Learn mode is on already') as string })
    await sendAll('SN-1001')
    await sendAll('SN-1003')
    const { code, out } = await parapet('engineer', 'learn')
    expect(code).toBe(0)
    expect(out).toMatch(/status +awp\.v1\.Status 900 +a field number that the schema does not have +length-delimited +20 +2 +2 /)
    expect(out).toMatch(/status +awp\.v1\.Status 901 +a field number that the schema does not have +varint +5 +2 +2 /)
    expect(out).toMatch(/- +up\/\{fleet\}\/\{machine\}\/\{word\} +a topic that no stream has +- +3 +2 +2 /)
    expect(out).toContain('.proto: uint64 field_901 = 901;')
    expect(out).toContain('It never leaves until an output names it.')
    const json = (await parapet('privacy', 'learn --format json')).out
    expect(JSON.parse(json)).toMatchObject({ running: true, rows: [{ kind: 'field', at: '900' }, { kind: 'field', at: '901' }, { kind: 'topic' }], more: 0 })
    expect((await parapet('engineer', 'learn --stream status --format json')).out).not.toContain('topic')
    expect((await parapet('engineer', 'learn --stop')).out).toMatch(/^Learn mode ended at .* \(asked\)/)
    for (const text of [out, json, ...stage.logged]) expect(text).not.toMatch(/CANARY|823471144|SN-100/)
    const { events } = await stage.admin<{ events: { type: string }[] }>('GET', '/v1/ledger/events?type=disclosure.')
    expect(events.map(({ type }) => type).filter((type) => /learning$|learning_/i.test(type))).toEqual(['disclosure.refused_stopLearning', 'disclosure.refused_startLearning', 'disclosure.learning_started', 'disclosure.refused_startLearning', 'disclosure.learning_stopped'])
  })

  test('is no hindrance: what is known went on', async () => {
    const forwarded = (await stage.admin<{ outputs: { forwarded: number; withheld: Record<string, number> }[] }>('GET', '/v1/outputs')).outputs
    expect(forwarded.some((output) => output.forwarded > 0 || (output.withheld['no_subscriber'] ?? 0) > 0)).toBe(true)
  })
})
