/**
 * What is wrong goes nowhere: no recipient gets anything, a counter says why, the terminal keeps its connection unless it breaks MQTT
 * itself, and the log, at its most talkative, holds nothing of what came in. Every name, id, card, topic and text here says CANARY.
 */
import { connect as connectSocket } from 'node:net'
import { generate } from 'mqtt-packet'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Folder, OWN_TOPICS, Stage, encode, pause, until, type Recipient, type Terminal } from './stage.ts'

const MACHINE = 'SN-CANARY-7f3a'
const CARD = 'CARD-CANARY-5b2e'
const OWN = `up/demo/${MACHINE}`

let stage: Stage
let terminal: Terminal
let recipients: Recipient[]

beforeAll(async () => {
  const folder = new Folder()
  folder.edit('machines.yaml', (text) => `${text}${MACHINE}: { fleet: demo, model: boom-BL26, labels: { site: CANARY-yard }, country: FR, operator_collection: on, holder: CANARY-rental }\n`)
  folder.edit('operators.yaml', (text) => `${text}- { id: op-CANARY, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["${CARD}"] }\n`)
  stage = await Stage.open({ folder })
  recipients = await Promise.all(Object.entries(OWN_TOPICS).map(([name, filter]) => stage.recipient(name, [filter])))
  terminal = await stage.terminal(MACHINE, { clientId: 'CANARY-modem' })
  await stage.consent('op-CANARY', 'granted', 'service.operate', 'security.fraud', 'improve.statistics', 'personalise')
  await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: CARD })
  await arrived()
})

afterAll(() => stage.close())

/** A message with which nothing is wrong: five of the six outputs would get something of it. */
function status(more: Record<string, unknown> = {}): Buffer {
  return encode('status', {
    machine_id: MACHINE, time_ms: Date.now(), operator_id: CARD, lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, soc_pct_x10: 825, hour_meter_s: 4_521_780,
    site_code: 'CANARY-site', display_text: 'Bonjour CANARY', ...more,
  })
}

/** Everything that came at any recipient since the last time, by recipient. */
async function arrived(): Promise<Record<string, string[]>> {
  await stage.settled(recipients)
  return Object.fromEntries(recipients.flatMap((recipient) => {
    const topics = recipient.take().map(({ topic }) => topic)
    return topics.length === 0 ? [] : [[recipient.name, topics]]
  }))
}

async function count(line: string): Promise<number> {
  return (await stage.counters()).get(line) ?? 0
}

const refused = (reason: string): string => `parapet_messages_refused_total{reason="${reason}"}`

describe('the control: the same terminal with nothing wrong', () => {
  it('reaches the recipients that its operator allows', async () => {
    await terminal.send('status', status())
    expect(Object.keys(await arrived()).sort()).toEqual(['my-app', 'oem-cloud', 'rental-company', 'site-planner'])
  })
})

// ----------------------------------------------------------------------------------------------------------------- messages

const CASES: readonly { readonly what: string; readonly topic?: string; readonly payload: () => Uint8Array; readonly reason: string }[] = [
  // whose it is
  { what: 'a topic that no stream has', topic: 'acme/CANARY/telemetry', payload: status, reason: 'no_stream' },
  { what: 'a stream that does not exist', topic: `${OWN}/CANARY`, payload: status, reason: 'no_stream' },
  { what: 'one level too many', topic: `${OWN}/status/CANARY`, payload: status, reason: 'no_stream' },
  { what: 'the topic of a recipient', topic: 'out/billing/status', payload: status, reason: 'no_stream' },
  { what: 'a $ topic', topic: '$SYS/CANARY', payload: status, reason: 'no_stream' },
  { what: 'the topic of another machine', topic: 'up/demo/SN-1002/status', payload: status, reason: 'foreign_machine' },
  { what: 'the topic of a machine that is not in the register', topic: 'up/demo/SN-CANARY-9/status', payload: status, reason: 'foreign_machine' },
  { what: 'the topic of another fleet', topic: `up/CANARY-fleet/${MACHINE}/status`, payload: status, reason: 'foreign_fleet' },
  { what: 'a payload that names another machine', payload: () => status({ machine_id: 'SN-1002' }), reason: 'foreign_machine' },
  // what it is
  { what: 'an empty payload', payload: () => Buffer.alloc(0), reason: 'empty_payload' },
  { what: 'a message cut off inside its last field', payload: () => status().subarray(0, -1), reason: 'truncated' },
  { what: 'a message cut off inside a number', payload: () => Buffer.concat([status(), Buffer.from([0x68, 0x80])]), reason: 'truncated' },
  { what: 'a length that goes beyond the end', payload: () => Buffer.concat([status(), Buffer.from([0xea, 0x01, 0x7f, 0x43])]), reason: 'truncated' },
  { what: 'field number zero', payload: () => Buffer.concat([status(), Buffer.from([0x00, 0x01])]), reason: 'bad_tag' },
  { what: 'a wire type that does not exist', payload: () => Buffer.concat([status(), Buffer.from([0x0f, 0x01])]), reason: 'bad_tag' },
  { what: 'a number of eleven bytes', payload: () => Buffer.concat([status(), Buffer.from([0x68]), Buffer.alloc(10, 0xff), Buffer.from([0x01])]), reason: 'bad_varint' },
  { what: 'a group that is closed and was never open', payload: () => Buffer.concat([status(), Buffer.from([0xa4, 0x06])]), reason: 'bad_group' },
  { what: 'a text that is not UTF-8', payload: () => Buffer.concat([status(), Buffer.from([0xe2, 0x01, 0x02, 0xc3, 0x28])]), reason: 'bad_utf8' },
  { what: 'plain text, which begins like a field of 109 bytes', payload: () => Buffer.from('{"machine":"CANARY","soc":83}'), reason: 'wrong_type' },
]

describe.each([0, 1, 2] as const)('at QoS %i', (qos) => {
  it.each(CASES)('$what: $reason', async ({ topic, payload, reason }) => {
    const before = await count(refused(reason))
    await terminal.publish(topic ?? `${OWN}/status`, payload(), { qos, retain: qos === 1 })
    await until(async () => await count(refused(reason)) === before + 1, `a count of ${reason}`)
    expect(await arrived()).toEqual({})
    expect(terminal.client.connected).toBe(true)
  })
})

describe('a terminal that is not in the register', () => {
  it('stays connected, so that it does not come back again and again, and is heard by nobody', async () => {
    const before = await count(refused('unknown_machine'))
    const stranger = await stage.terminal('SN-CANARY-404')
    for (const qos of [0, 1, 2] as const) await stranger.publish('up/demo/SN-CANARY-404/status', status({ machine_id: 'SN-CANARY-404' }), { qos })
    await stranger.publish(`${OWN}/status`, status())
    await until(async () => await count(refused('unknown_machine')) === before + 4, 'a count of unknown_machine')
    expect(await arrived()).toEqual({})
    expect(stranger.client.connected).toBe(true)
  })
})

describe('garbage', () => {
  it('200 messages of random bytes: nothing leaves, each is acknowledged', async () => {
    let state = 7
    const byte = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 24
    for (let n = 0; n < 200; n++) await terminal.publish(`${OWN}/status`, Buffer.from(Array.from({ length: 1 + (n % 90) }, byte)))
    expect(await arrived()).toEqual({})
    expect(terminal.client.connected).toBe(true)
  })

  it('200 messages with one byte changed: what leaves, if anything, holds no text of the terminal', async () => {
    let state = 11
    const next = (below: number): number => ((state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 8) % below
    for (let n = 0; n < 200; n++) {
      const message = status()
      message[next(message.length)] = next(256)
      await terminal.publish(`${OWN}/status`, message)
    }
    await stage.settled(recipients)
    const got = recipients.flatMap((recipient) => recipient.take().filter(({ payload }) => /CANARY/.test(payload.toString('latin1').replaceAll(MACHINE, ''))).map(({ topic }) => topic))
    expect(got).toEqual([])
    expect(terminal.client.connected).toBe(true)
  })
})

/**
 * Protobuf names no type on the wire. That a message is of another type than its topic shows where a field of the schema comes with
 * another wire type than the schema says: no version of a schema may change that, so such a message is not the stream's.
 */
describe('a message of another type than its topic', () => {
  const head = (): Record<string, unknown> => ({ machine_id: MACHINE, time_ms: Date.now(), operator_id: CARD })
  const OTHERS: readonly { readonly type: string; readonly on: string; readonly message: () => Buffer }[] = [
    { type: 'operator', on: 'status', message: () => encode('operator', { ...head(), op: 'LOCK', method: 'METHOD_CARD', certificate_valid: true, display_name: 'A. CANARY', certificate_no: 'CANARY-7' }) },
    { type: 'status', on: 'fault', message: () => status({ platform_height_mm: 9_300 }) },
    { type: 'status', on: 'operator', message: status },
    { type: 'comms', on: 'status', message: () => encode('comms', { ...head(), ip: '192.0.2.17', imei: '490154203237518', apn: 'iot.CANARY', mcc: 208, lac: 4_321, cell_id: 8_765 }) },
    { type: 'comms', on: 'diag', message: () => encode('comms', { ...head(), ip: '192.0.2.17', imei: '490154203237518' }) },
    { type: 'consent', on: 'safety', message: () => encode('consent', { ...head(), purpose: 'personalise', choice: 'WITHDRAW', policy_id: 'CANARY' }) },
  ]

  // Fails for now: a field with a wrong wire type counts as an unknown one, and the rest of the message is taken for the stream's.
  it.each(OTHERS)('$type on the topic of $on', async ({ on, message }) => {
    const refusals = async (): Promise<number> => [...await stage.counters()].filter(([line]) => line.startsWith('parapet_messages_refused_total')).reduce((sum, [, value]) => sum + value, 0)
    const before = await refusals()
    await terminal.publish(`${OWN}/${on}`, message())
    expect(await arrived()).toEqual({})
    expect(await refusals()).toBe(before + 1)
    expect(terminal.client.connected).toBe(true)
  })
})

// ------------------------------------------------------------------------------------------------------------------ the person

describe('an operator whom nobody knows', () => {
  it('counts as nobody: what needs a person is closed and counted so, what needs none goes on without one', async () => {
    await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'CARD-CANARY-unknown' })
    expect(Object.keys(await arrived())).toEqual(['security-desk'])
    const closed = ['site-planning', 'operator-app'].map((output) => `parapet_output_withheld_total{output="${output}",reason="closed"}`)
    const before = await Promise.all(closed.map(count))
    await terminal.send('status', status({ operator_id: 'CARD-CANARY-unknown' }))
    expect(Object.keys(await arrived()).sort()).toEqual(['oem-cloud', 'rental-company'])
    expect(await Promise.all(closed.map(count))).toEqual(before.map((value) => value + 1))
    expect(terminal.client.connected).toBe(true)
  })

  it('and no row is made for the card', () => {
    expect(stage.gateway.control.status().operators).toBeLessThanOrEqual(2)
    expect(stage.gateway.control.sessions()).toEqual([])
  })
})

// -------------------------------------------------------------------------------------------------------------------- envelope

describe('the envelope', () => {
  it('a will is accepted, counted and never sent', async () => {
    const before = await count('parapet_wills_discarded_total')
    const dying = await stage.terminal(MACHINE, { clientId: 'CANARY-dying', will: { topic: `${OWN}/status`, payload: status(), qos: 2, retain: true } })
    dying.client.stream.destroy()
    await until(async () => await count('parapet_wills_discarded_total') === before + 1, 'a count of the will')
    await until(() => !dying.client.connected, 'the end of the connection')
    await pause(50)
    expect(await arrived()).toEqual({})
  })

  it('a retain flag is not copied, and a subscriber who comes later gets nothing', async () => {
    await terminal.send('status', status(), { retain: true })
    await stage.settled(recipients)
    const cloud = recipients.find(({ name }) => name === 'oem-cloud') as Recipient
    expect(cloud.got.map(({ retain }) => retain)).toEqual([false])
    await arrived()
    const late = await stage.recipient('oem-cloud', ['out/service/+/+'], { clientId: 'late' })
    await late.fence()
    expect(late.got).toEqual([])
    await late.client.endAsync()
  })

  it.each([0, 1, 2] as const)('nothing else of it leaves: QoS %i in, the quality of the output out', async (qos) => {
    await terminal.send('status', status(), { qos })
    // QoS 0 has no answer: the next message has.
    await terminal.publish(`${OWN}/status`, Buffer.alloc(0))
    await stage.settled(recipients)
    const cloud = recipients.find(({ name }) => name === 'oem-cloud') as Recipient
    expect(cloud.got.map((packet) => [packet.qos, packet.dup, packet.retain, packet.properties])).toEqual([[1, false, false, undefined]])
    await arrived()
  })
})

// ------------------------------------------------------------------------------------------------------------ breaking MQTT

describe('what breaks MQTT ends the connection, and nothing leaves', () => {
  const LIMIT = 262_144
  it.each<{ what: string; bytes: () => Buffer; reason: string }>([
    { what: 'a packet above the limit', bytes: () => publish(`${OWN}/status`, Buffer.concat([status(), Buffer.alloc(LIMIT, 0x43)])), reason: 'packet_too_big' },
    { what: 'a wildcard in the topic', bytes: () => replaced(publish(`${OWN}/statuX`, status()), 'statuX', 'statu#'), reason: 'malformed' },
    { what: 'QoS 3', bytes: () => { const packet = publish(`${OWN}/status`, status()); packet[0] = 0x36; return packet }, reason: 'malformed' },
    { what: 'a request of another protocol', bytes: () => Buffer.from('GET /CANARY HTTP/1.1\r\n\r\n'), reason: 'protocol' },
  ])('$what', async ({ bytes, reason }) => {
    const line = `parapet_kills_total{reason="${reason}"}`
    const before = await count(line)
    const socket = connectSocket(stage.gateway.addresses.terminals.port, '127.0.0.1')
    socket.on('error', () => undefined)
    const closed = new Promise((done) => void socket.once('close', done))
    socket.resume()
    if (reason !== 'protocol') {
      socket.write(generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: 'CANARY-breaker', username: MACHINE, keepalive: 0 }))
      await new Promise((done) => void socket.once('data', done))
    }
    socket.write(bytes())
    await closed
    expect(await count(line)).toBe(before + 1)
    expect(await arrived()).toEqual({})
    expect(terminal.client.connected).toBe(true)
  })

  function publish(topic: string, payload: Buffer): Buffer {
    return Buffer.from(generate({ cmd: 'publish', topic, payload, qos: 1, messageId: 1, dup: false, retain: false }))
  }
  function replaced(packet: Buffer, from: string, to: string): Buffer {
    packet.write(to, packet.indexOf(from))
    return packet
  }
})

// ------------------------------------------------------------------------------------------------------------------- the log

describe('afterwards', () => {
  beforeEach(() => stage.drained())

  it('the same connection still works', async () => {
    await terminal.send('status', status())
    expect(Object.keys(await arrived()).sort()).toEqual(['oem-cloud', 'rental-company'])
  })

  it('the log holds no payload, id, card or topic, in no usual form', () => {
    const text = stage.logged.join('')
    expect(stage.logged.length).toBeGreaterThan(20)
    expect(text).toContain('"level":"debug"')
    const base64 = [0, 1, 2].map((shift) => Buffer.from(`${'x'.repeat(shift)}CANARY`).toString('base64').slice(shift === 0 ? 0 : 4, 8))
    for (const form of ['CANARY', 'canary', Buffer.from('CANARY').toString('hex'), ...base64, 'SN-1', 'up/demo', 'out/', 'A-1001', '490154203237518', '457640430']) expect([form, text.includes(form)]).toEqual([form, false])
  })

  it('nor do the metrics, and every refusal has a reason', async () => {
    const lines = [...(await stage.counters()).keys()].join('\n')
    expect(lines).not.toMatch(/CANARY|SN-|up\//i)
    expect(lines).not.toContain('reason="other"')
  })
})
