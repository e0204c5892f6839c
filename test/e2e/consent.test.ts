/**
 * What people say is in force at once, reaches back into queues, and outlives a restart; the same for the device setting of a machine,
 * and for rules files that are replaced while the gateway runs.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { IClientOptions } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RawClient } from '../broker/stage.ts'
import { Folder, OWN_TOPICS, Stage, encode, pause, until, type Recipient, type Terminal } from './stage.ts'

/** Every machine here stands in Lyon; see the arithmetic in shift.test.ts. */
const LYON = { lat_e7: 457_640_430, lon_e7: 48_356_590 }
const LATITUDES: Readonly<Record<number, string>> = { 457_689_500: '10 km', 457_644_600: '1 km', 457_622_200: '500 m' }

let folder: Folder
let stage: Stage
let live: Record<string, Recipient>
const terminals = new Map<string, Terminal>()

beforeAll(async () => {
  folder = new Folder()
  // A second machine in the United States, so that nobody has to hand over.
  folder.edit('machines.yaml', (text) => `${text}SN-1011: { fleet: demo, model: boom-BL26, labels: { site: austin-1 }, country: US-TX, operator_collection: on }\n`)
  // And a field that may be large, for a recipient that does not read.
  folder.edit('rules/awp.yaml', (text) => text.replace('keep: [passed, list_version]', 'keep: [passed, list_version, items]'))
  await start()
})

afterAll(() => stage.close())

async function start(): Promise<void> {
  stage = await Stage.open({ folder })
  live = Object.fromEntries(await Promise.all(Object.entries(OWN_TOPICS).map(async ([name, filter]) => [name, await stage.recipient(name, [filter])] as const)))
  terminals.clear()
}

/** Says it, and takes connections up again that were reset because they still held something of it: on a busy machine a recipient may not have answered for everything. */
async function consent(...said: Parameters<Stage['consent']>): ReturnType<Stage['consent']> {
  const receipts = await stage.consent(...said)
  await pause(20)
  for (const [name, recipient] of Object.entries(live)) if (!recipient.client.connected) live[name] = await stage.recipient(name, [OWN_TOPICS[name] as string])
  return receipts
}

async function at(machine: string): Promise<Terminal> {
  const known = terminals.get(machine)
  if (known !== undefined) return known
  const terminal = await stage.terminal(machine)
  terminals.set(machine, terminal)
  return terminal
}

async function signOn(machine: string, card: string): Promise<void> {
  await (await at(machine)).send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: card })
  await seen()
}

async function sendStatus(machine: string, card: string): Promise<void> {
  await (await at(machine)).send('status', { time_ms: Date.now(), operator_id: card, ...LYON, fix: 3, key_on: true, soc_pct_x10: 825, hour_meter_s: 4_521_780 })
}

/** What the live recipients have got since the last time: the cell where there is one, else the hour meter, else a word. */
async function seen(): Promise<Record<string, string[]>> {
  await stage.settled(Object.values(live))
  return Object.fromEntries(Object.values(live).flatMap((recipient) => {
    const said = recipient.takeSaid().map(describeMessage)
    return said.length === 0 ? [] : [[recipient.name, said]]
  }))
}

function describeMessage({ message }: { readonly message: Record<string, unknown> }): string {
  if (message['lat_e7'] !== undefined) return LATITUDES[Number(message['lat_e7'])] ?? `latitude ${String(message['lat_e7'])}`
  if (message['hour_meter_s'] !== undefined) return `${String(message['hour_meter_s'])} s`
  return message['operator_id'] === undefined ? 'nameless' : 'named'
}

async function after(machine: string, card: string): Promise<Record<string, string[]>> {
  await sendStatus(machine, card)
  return seen()
}

/** A status when the person has said nothing that counts. */
const BASIC = { 'oem-cloud': ['10 km'], 'rental-company': ['4521960 s'] }

/** A session that outlives its connection: subscribed once, then away. */
async function absent(name: string, clientId: string): Promise<{ back(): Promise<string[]> }> {
  const filters = [OWN_TOPICS[name] as string]
  const options: IClientOptions = { clean: false, clientId }
  await (await stage.recipient(name, filters, options)).client.endAsync()
  await until(() => connections() === Object.keys(live).length, 'the absent one to be gone')
  return {
    async back() {
      const again = await stage.recipient(name, filters, options)
      await again.fence()
      const said = again.takeSaid().map(describeMessage)
      await again.client.endAsync()
      return said
    },
  }
}

function connections(): number {
  return stage.gateway.control.status().listeners.find(({ name }) => name === 'recipients')?.connections ?? 0
}

describe('a yes', () => {
  it('shows in the next message', async () => {
    await signOn('SN-1001', 'A-1001')
    expect(await after('SN-1001', 'A-1001')).toEqual(BASIC)
    await consent('op-anna', 'granted', 'improve.statistics')
    expect(await after('SN-1001', 'A-1001')).toEqual({ ...BASIC, 'site-planner': ['500 m'] })
    await consent('op-anna', 'granted', 'personalise', 'service.operate')
    expect(await after('SN-1001', 'A-1001')).toEqual({ 'oem-cloud': ['1 km'], 'rental-company': ['4521960 s'], 'site-planner': ['500 m'], 'my-app': ['named'] })
  })

  it('does not reach back to what was measured before it', async () => {
    await (await at('SN-1001')).send('position', { time_ms: Date.now() - 60_000, operator_id: 'A-1001', ...LYON, fix: 3 })
    expect(await seen()).toEqual({})
  })

  it('is not there for a person who was never told: statistics in California are closed', async () => {
    await signOn('SN-1006', 'A-1003')
    expect(await after('SN-1006', 'A-1003')).toEqual(BASIC)
    await stage.notice('op-carla')
    expect(await after('SN-1006', 'A-1003')).toEqual({ ...BASIC, 'site-planner': ['10 km'] })
  })

  it('for this site only opens nothing that goes elsewhere', async () => {
    await signOn('SN-1003', 'A-1002')
    await consent('op-ben', 'local_only', 'improve.statistics')
    expect(await after('SN-1003', 'A-1002')).toEqual(BASIC)
  })
})

describe('a withdrawal', () => {
  it('ends it: after the answer nothing of it arrives, while messages keep coming', async () => {
    await signOn('SN-1005', 'A-1001')
    await consent('op-anna', 'granted', 'improve.statistics', 'personalise', 'service.operate')
    let sending = true
    const machines = ['SN-1001', 'SN-1005']
    for (const machine of machines) await at(machine)
    const flow = Promise.all(machines.map(async (machine) => {
      while (sending) {
        await sendStatus(machine, 'A-1001')
        await pause(5)
      }
    }))
    await until(() => (live['site-planner']?.got.length ?? 0) > 20, 'the flow')
    await consent('op-anna', 'withdrawn', 'improve.statistics', 'personalise', 'service.operate')
    // What was on the wire before the answer is read now; from here on nothing may come.
    await Promise.all(Object.values(live).map((recipient) => recipient.fence()))
    for (const recipient of Object.values(live)) recipient.take()
    await until(() => (live['rental-company']?.got.length ?? 0) > 20, 'the flow after the withdrawal')
    sending = false
    await flow
    const got = await seen()
    expect(Object.keys(got).sort()).toEqual(['oem-cloud', 'rental-company'])
    expect(new Set(got['oem-cloud'])).toEqual(new Set(['10 km']))
  })

  it('empties what waits for a recipient that is away', async () => {
    await consent('op-anna', 'granted', 'improve.statistics', 'personalise')
    const [planner, app] = [await absent('site-planner', 'planner-nightly'), await absent('my-app', 'app-nightly')]
    for (let n = 0; n < 3; n++) await sendStatus('SN-1001', 'A-1001')
    await seen()
    const [first, second] = await consent('op-anna', 'withdrawn', 'improve.statistics', 'personalise')
    expect([first?.purged, second?.purged]).toEqual([3, 3])
    expect(await planner.back()).toEqual([])
    expect(await app.back()).toEqual([])
  })

  it('without one, what waits is delivered: the control', async () => {
    await consent('op-anna', 'granted', 'improve.statistics')
    const planner = await absent('site-planner', 'planner-weekly')
    for (let n = 0; n < 3; n++) await sendStatus('SN-1001', 'A-1001')
    await seen()
    expect(await planner.back()).toEqual(['500 m', '500 m', '500 m'])
  })

  it('takes the finer position out of what waits', async () => {
    await consent('op-anna', 'granted', 'service.operate')
    const cloud = await absent('oem-cloud', 'cloud-nightly')
    await sendStatus('SN-1001', 'A-1001')
    await seen()
    await consent('op-anna', 'withdrawn', 'service.operate')
    expect((await cloud.back()).filter((cell) => cell !== '10 km')).toEqual([])
  })

  it('and leaves the rest of the message, which rests on the contract', async () => {
    await consent('op-anna', 'granted', 'service.operate')
    const cloud = await absent('oem-cloud', 'cloud-weekly')
    await sendStatus('SN-1001', 'A-1001')
    await seen()
    await consent('op-anna', 'withdrawn', 'service.operate')
    expect(await cloud.back()).toEqual(['10 km'])
  })

  it('reaches into what was handed to a connection and not yet written', async () => {
    await consent('op-anna', 'granted', 'personalise')
    const slow = new RawClient(stage.gateway.addresses.recipients.port)
    try {
      await slow.connect('my-app', { clientId: 'slow' })
      slow.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'out/app/precheck', qos: 1 }] })
      await slow.next('suback')
      slow.socket.pause()
      const large = encode('precheck', { machine_id: 'SN-1001', time_ms: Date.now(), operator_id: 'A-1001', passed: true, items: Array.from({ length: 200_000 }, () => 1) })
      for (let n = 0; n < 32; n++) await (await at('SN-1001')).send('precheck', large)
      const [receipt] = await consent('op-anna', 'withdrawn', 'personalise')
      slow.socket.resume()
      // It read nothing before the answer: all that comes now had been on the wire, and the receipt says how much that was.
      let bytes = -1
      while (!slow.socket.destroyed && slow.bytes > bytes) {
        bytes = slow.bytes
        await pause(200)
      }
      expect(slow.packets.filter(({ cmd }) => cmd === 'publish').length).toBeLessThanOrEqual(receipt?.on_the_wire ?? 0)
    } finally {
      slow.destroy()
      await until(() => connections() === Object.keys(live).length, 'the slow one to be gone')
      await stage.settled(Object.values(live))
      for (const recipient of Object.values(live)) recipient.take()
    }
  })

  it('may be taken back: what was acquired in between stays covered by nothing', async () => {
    const between = Date.now()
    await pause(5)
    await consent('op-anna', 'granted', 'improve.statistics')
    await (await at('SN-1001')).send('position', { time_ms: between, operator_id: 'A-1001', ...LYON, fix: 3 })
    expect(await seen()).toEqual({})
    expect(await after('SN-1001', 'A-1001')).toEqual({ ...BASIC, 'site-planner': ['500 m'] })
  })
})

describe('a yes with an end', () => {
  it('ends by itself, also for what waits', async () => {
    // In Texas: Anna is from France, the stricter of both countries counts, and there a yes is needed. In California: Carla did not opt out, so without a yes it is coarse.
    await signOn('SN-1011', 'A-1001')
    await signOn('SN-1006', 'A-1003')
    await stage.notice('op-anna')
    await stage.notice('op-carla')
    const planner = await absent('site-planner', 'planner-america')
    const ends = Date.now() + 1_200
    for (const operator of ['op-anna', 'op-carla']) {
      await stage.admin('POST', `/v1/operators/${operator}/consent`, { purpose: 'improve.statistics', state: 'granted', evidence: 'signed form 2026-115', expires: new Date(ends).toISOString() })
    }
    expect(await after('SN-1011', 'A-1001')).toEqual({ ...BASIC, 'site-planner': ['500 m'] })
    expect(await after('SN-1006', 'A-1003')).toEqual({ ...BASIC, 'site-planner': ['500 m'] })
    await pause(ends - Date.now() + 20)
    expect(await after('SN-1011', 'A-1001')).toEqual(BASIC)
    expect(await after('SN-1006', 'A-1003')).toEqual({ ...BASIC, 'site-planner': ['10 km'] })
    // Only what was coarse when it was made is left.
    expect(await planner.back()).toEqual(['10 km'])
  })
})

describe('a no', () => {
  it('closes statistics in California, which are open and coarse for a person who was told and said nothing', async () => {
    expect(await after('SN-1006', 'A-1003')).toEqual({ ...BASIC, 'site-planner': ['10 km'] })
    await consent('op-carla', 'refused', 'improve.statistics')
    expect(await after('SN-1006', 'A-1003')).toEqual(BASIC)
  })

  it('an objection closes what rests on legitimate interest, also what waits', async () => {
    const lock = async (): Promise<void> => (await at('SN-1003')).send('operator', { time_ms: Date.now(), op: 'LOCK', operator_id: 'A-1002' })
    await lock()
    expect(await seen()).toEqual({ 'security-desk': ['nameless'] })
    const desk = await absent('security-desk', 'desk-nightly')
    await lock()
    await seen()
    const [receipt] = await consent('op-ben', 'objected', 'security.fraud')
    expect(receipt?.purged).toBe(1)
    await lock()
    expect(await seen()).toEqual({})
    expect(await desk.back()).toEqual([])
  })

  it('no refusal of anything touches what needs nobody\'s yes', async () => {
    await consent('op-ben', 'refused', 'service.operate', 'improve.statistics', 'personalise', 'marketing', 'legal.obligation')
    expect(await after('SN-1003', 'A-1002')).toEqual(BASIC)
    await (await at('SN-1003')).send('safety', { time_ms: Date.now(), operator_id: 'A-1002', kind: 'SAFETY_TILT', ...LYON })
    expect(await seen()).toEqual({ 'oem-cloud': ['nameless'], 'safety-archive': ['500 m'] })
  })
})

describe('the device setting', () => {
  const off = (text: string): string => text.replace(/(SN-1005: .*operator_collection: )on/, '$1off')
  const on = (text: string): string => text.replace(/(SN-1005: .*operator_collection: )off/, '$1on')
  const setting = async (value: string): Promise<void> => until(() => stage.gateway.control.machines({ after: 'SN-1004', limit: 1 }).machines[0]?.operatorCollection === value, `the setting ${value}`)

  it('turned off while the gateway runs ends everything about the operator there, also what waits', async () => {
    await consent('op-anna', 'granted', 'improve.statistics', 'personalise', 'service.operate')
    await signOn('SN-1005', 'A-1001')
    const full = { 'oem-cloud': ['1 km'], 'rental-company': ['4521960 s'], 'site-planner': ['500 m'], 'my-app': ['named'] }
    expect(await after('SN-1005', 'A-1001')).toEqual(full)
    const app = await absent('my-app', 'app-of-leeds')
    await sendStatus('SN-1005', 'A-1001')
    await seen()
    folder.edit('machines.yaml', off)
    await setting('off')
    expect(await after('SN-1005', 'A-1001')).toEqual(BASIC)
    expect(await app.back()).toEqual([])
    expect((await stage.admin<{ sessions: { machine: string }[] }>('GET', '/v1/sessions')).sessions.map(({ machine }) => machine)).not.toContain('SN-1005')
    // Elsewhere nothing has changed.
    expect(await after('SN-1001', 'A-1001')).toEqual(full)
  })

  it('turned on again: nobody is known before the next sign-on', async () => {
    folder.edit('machines.yaml', on)
    await setting('on')
    expect(await after('SN-1005', 'A-1001')).toEqual(BASIC)
    await signOn('SN-1005', 'A-1001')
    expect(Object.keys(await after('SN-1005', 'A-1001')).sort()).toEqual(['my-app', 'oem-cloud', 'rental-company', 'site-planner'])
  })

  it('a registry with a mistake changes nothing', async () => {
    const whole = folder.read('machines.yaml')
    folder.edit('machines.yaml', (text) => `${off(text)}SN-1012: { fleet: demo, country: ATLANTIS }\n`)
    await until(() => stage.logged.some((line) => line.includes('a registry file was refused')), 'the refusal')
    expect(stage.gateway.control.machines({ after: 'SN-1004', limit: 1 }).machines[0]?.operatorCollection).toBe('on')
    writeFileSync(folder.file('machines.yaml'), whole)
  })
})

describe('a restart', () => {
  const everything = async (): Promise<unknown> => {
    const [anna, ben, carla] = [await after('SN-1001', 'A-1001'), await after('SN-1003', 'A-1002'), await after('SN-1006', 'A-1003')]
    await (await at('SN-1003')).send('operator', { time_ms: Date.now(), op: 'LOCK', operator_id: 'A-1002' })
    await (await at('SN-1001')).send('device', { time_ms: Date.now(), model: 'EL-26' })
    await stage.settled(Object.values(live))
    const names = live['oem-cloud']?.takeSaid().map(({ topic }) => topic)
    return { anna, ben, carla, desk: live['security-desk']?.take().length, names }
  }

  it('keeps who is signed on, what everybody said, the notices, and the pseudonyms', async () => {
    const before = await everything()
    expect(before).toEqual({
      anna: { 'oem-cloud': ['1 km'], 'rental-company': ['4521960 s'], 'site-planner': ['500 m'], 'my-app': ['named'] }, ben: BASIC, carla: BASIC, desk: 0,
      names: [expect.stringMatching(/^out\/service\/device\/[A-Za-z0-9_-]{22}$/)],
    })
    const consent = await stage.admin<{ purposes: unknown; notice: unknown }>('GET', '/v1/operators/op-carla/consent')
    await stage.stop()
    await start()
    expect(await everything()).toEqual(before)
    const again = await stage.admin<{ purposes: unknown; notice: unknown }>('GET', '/v1/operators/op-carla/consent')
    expect([again.purposes, again.notice]).toEqual([consent.purposes, consent.notice])
  })

  it('keeps what waits for a recipient that is away', async () => {
    const planner = await absent('site-planner', 'planner-monthly')
    await sendStatus('SN-1001', 'A-1001')
    await seen()
    await stage.stop()
    await start()
    expect(await planner.back()).toEqual(['500 m'])
  })
})

describe('rules that are replaced', () => {
  interface Readiness { readonly ready: boolean; readonly reasons: readonly { readonly code: string; readonly text: string }[] }
  const readiness = async (): Promise<Readiness> => stage.admin<Readiness>('GET', '/readyz')

  it('a wrong file leaves the old rules in force, and readyz says so', async () => {
    folder.edit('rules/awp.yaml', (text) => text.replace('hour_meter_s: { round: 6 min }', 'hour_metre_s: { round: 6 min }'))
    await until(async () => (await readiness()).reasons.some(({ code }) => code === 'RULES-REFUSED'), 'the refusal')
    expect(await readiness()).toMatchObject({ ready: true })
    const { refused } = await stage.admin<{ refused: { findings: { code: string; line: number; text: string }[] } }>('GET', '/v1/rules')
    const line = folder.read('rules/awp.yaml').split('\n').findIndex((one) => one.includes('hour_metre_s')) + 1
    expect(refused.findings[0]).toMatchObject({ line, text: expect.stringContaining('hour_meter_s') as string })
    expect((await after('SN-1001', 'A-1001'))['rental-company']).toEqual(['4521960 s'])
  })

  it('also over a restart', async () => {
    await stage.stop()
    await start()
    expect((await readiness()).reasons.map(({ code }) => code)).toEqual(['RULES-REFUSED'])
    expect((await after('SN-1001', 'A-1001'))['rental-company']).toEqual(['4521960 s'])
  })

  it('a right file takes their place: 4521780 s in steps of 12 min is 6280.25 * 720 -> 4521600 s', async () => {
    folder.edit('rules/awp.yaml', (text) => text.replace('hour_metre_s: { round: 6 min }', 'hour_meter_s: { round: 12 min }'))
    await until(async () => (await readiness()).reasons.length === 0, 'the good news')
    expect((await after('SN-1001', 'A-1001'))['rental-company']).toEqual(['4521600 s'])
  })

  it('a schema that cannot be read leaves the old ones in force, and does not stop the gateway', async () => {
    const file = join(folder.path, 'proto/awp/v1/status.proto')
    writeFileSync(file, 'syntax = "proto3"; message {')
    await until(async () => (await readiness()).reasons.length > 0, 'the refusal')
    expect((await after('SN-1001', 'A-1001'))['rental-company']).toEqual(['4521600 s'])
  })
})
