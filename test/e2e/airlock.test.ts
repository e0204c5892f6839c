/**
 * The airlock, through a whole gateway: whoever subscribes to whatever, at whichever door, with wills, retained messages and sessions
 * that outlive their connection, a byte of what a terminal sent reaches nobody, and a recipient gets its own outputs only. Every byte
 * that any client receives is kept and searched.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RawClient, publishPacket } from '../broker/stage.ts'
import { Folder, Stage, encode, pause, until } from './stage.ts'

/** Stands in every text that no output of the rules lets through, in an unknown field, and in topics. */
const CANARY = 'raw-canary-4711'
const CARD = `card-${CANARY}`

const OWN: Readonly<Record<string, readonly string[]>> = {
  'oem-cloud': ['out/service/+/+', 'out/service/status/+'],
  'site-planner': ['out/planning/+/+'],
  'rental-company': ['out/billing/+', 'out/billing/status'],
  'security-desk': ['out/security/+'],
  'safety-archive': ['out/safety/+'],
  'my-app': ['out/app/+'],
}
const TERMINALS_OWN = ['down/demo/SN-1001/#', 'down/demo/SN-1001/cmd']
const FILTERS = [
  '#', '+', '+/#', '/#', '+/+', '+/+/+', '+/+/+/+', 'sink', '$present', '$queue/#',
  'up/#', 'up/+/+/+', 'up/demo/SN-1001/#', 'up/demo/SN-1001/status', '$share/g/#', '$share/g/up/#', '$share/g/out/billing/+', '$SYS/#', '$SYS/+/new/clients', '$SYS/+/+/#',
  'down/#', 'down/+/+/#', 'down/demo/+/#', 'out/#', 'out/+', 'out/+/+', 'out/+/+/+', 'out/service/#', 'out/billing/#', 'last/will',
  ...TERMINALS_OWN, ...Object.values(OWN).flat(),
]

type Door = 'terminals' | 'recipients'
interface Kind {
  readonly who: string
  readonly door: Door
  readonly username: string | undefined
  /** What is granted; a number is the return code of a CONNECT that is refused. */
  readonly granted: readonly string[] | number
}

const KINDS: readonly Kind[] = [
  { who: 'the terminal itself', door: 'terminals', username: 'SN-1001', granted: TERMINALS_OWN },
  { who: 'another terminal', door: 'terminals', username: 'SN-1002', granted: [] },
  { who: 'an unknown terminal', door: 'terminals', username: 'SN-404', granted: [] },
  { who: 'nobody at the terminals\' door', door: 'terminals', username: undefined, granted: [] },
  { who: 'a terminal at the recipients\' door', door: 'recipients', username: 'SN-1001', granted: 5 },
  { who: 'nobody at the recipients\' door', door: 'recipients', username: undefined, granted: 2 },
  ...Object.entries(OWN).map(([username, granted]): Kind => ({ who: username, door: 'recipients', username, granted })),
  ...Object.keys(OWN).map((username): Kind => ({ who: `${username} at the terminals' door`, door: 'terminals', username, granted: [] })),
]

interface Guest {
  readonly kind: Kind
  readonly how: 'there' | 'absent' | 'back'
  readonly client: RawClient
  readonly bytes: Buffer[]
}

let stage: Stage
const guests: Guest[] = []
const granted = new Map<string, readonly string[] | number>()

function enter(kind: Kind, how: Guest['how']): Guest {
  const client = new RawClient(stage.gateway.addresses[kind.door].port)
  const guest: Guest = { kind, how, client, bytes: [] }
  client.socket.setNoDelay(true)
  client.socket.on('data', (chunk: Buffer) => void guest.bytes.push(chunk))
  guests.push(guest)
  return guest
}

async function connect({ kind, how, client }: Guest): Promise<number> {
  const clientId = `${kind.who} ${how === 'there' ? 'there' : 'persistent'}`
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: how === 'there', clientId, keepalive: 0, ...(kind.username === undefined ? {} : { username: kind.username }) } as never)
  return (await client.next('connack') as unknown as { returnCode: number }).returnCode
}

/** Asks for everything, one filter at a time so that a refusal hides nothing, and then for all of it in one packet. */
async function askForAll(guest: Guest): Promise<void> {
  const name = `${guest.kind.who}, ${guest.how}`
  const returnCode = await connect(guest)
  if (returnCode !== 0) return void granted.set(name, returnCode)
  const yes = new Set<string | undefined>()
  for (const [index, topic] of FILTERS.entries()) guest.client.send({ cmd: 'subscribe', messageId: index + 1, subscriptions: [{ topic, qos: 2 }] })
  for (let n = 0; n < FILTERS.length; n++) {
    const answer = await guest.client.next('suback') as unknown as { messageId: number; granted: number[] }
    if (answer.granted[0] !== 128) yes.add(FILTERS[answer.messageId - 1])
  }
  guest.client.send({ cmd: 'subscribe', messageId: 900, subscriptions: FILTERS.map((topic) => ({ topic, qos: 1 as const })) })
  await guest.client.next('suback')
  granted.set(name, FILTERS.filter((filter) => yes.has(filter)))
}

/** A message that reaches all six recipients in part, and has the canary in every other part. */
function messages(machine: string): readonly (readonly [stream: string, payload: Buffer])[] {
  const head = { machine_id: machine, time_ms: Date.now(), operator_id: CARD }
  const unknown = Buffer.concat([Buffer.from([0xc2, 0x3e, CANARY.length]), Buffer.from(CANARY)])
  return ([
    ['status', { lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, soc_pct_x10: 833, hour_meter_s: 4_521_987, site_code: CANARY, display_text: CANARY }],
    ['operator', { op: 'LOCK', display_name: CANARY, certificate_no: CANARY, employer: CANARY, card_uid: Buffer.from(CANARY) }],
    ['safety', { kind: 'SAFETY_TILT', lat_e7: 457_640_430, lon_e7: 48_356_590 }],
    ['precheck', { passed: true, remark: CANARY, photo_sha256: Buffer.from(CANARY) }],
    ['diag', { level: 'DIAG_WARN', text: CANARY, blob: Buffer.from(CANARY) }],
    ['fault', { spn: 168, lamp: 4, oem_code: CANARY }],
    ['device', { serial: CANARY, pin: CANARY, model: 'EL-26' }],
    ['can', { f: [{ id: 1, data: Buffer.from(CANARY) }] }],
    ['consent', { purpose: CANARY, evidence: Buffer.from(CANARY) }],
  ] as const).map(([stream, message]) => [stream, Buffer.concat([encode(stream, { ...head, ...message }), unknown])])
}

const published = { raw: 0 }

/** Everything that a terminal can do with a message. */
async function sendAll(machine: string): Promise<void> {
  const terminal = new RawClient(stage.gateway.addresses.terminals.port)
  await terminal.connect(machine, { clientId: `sender ${machine}`, will: { topic: 'out/billing/status', payload: Buffer.from(CANARY), qos: 2, retain: true } })
  let id = 0
  const send = (topic: string, payload: Buffer, qos: 0 | 1 | 2, retain: boolean): void => {
    terminal.send(publishPacket(topic, payload, qos, ++id, { retain }))
    published.raw++
  }
  for (const qos of [0, 1, 2] as const) {
    for (const [stream, payload] of messages(machine)) send(`up/demo/${machine}/${stream}`, payload, qos, qos === 1)
    for (const topic of ['sink', 'out/billing/status', 'out/service/status/x', 'out/app/status', 'down/demo/SN-1001/cmd', `up/demo/${machine}/${CANARY}`, `${CANARY}/x`, '$SYS/x', 'last/will', '$share/g/up']) {
      send(topic, Buffer.from(`${CANARY} ${topic}`), qos, true)
    }
  }
  // The last acknowledgements are there when everything has been handled.
  await until(() => terminal.ids('puback').length + terminal.ids('pubrec').length === (id * 2) / 3, 'the acknowledgements')
  terminal.destroy()
}

beforeAll(async () => {
  const folder = new Folder()
  folder.edit('operators.yaml', (text) => `${text}- { id: op-canary, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["${CARD}"] }\n`)
  stage = await Stage.open({ folder })
  await stage.consent('op-canary', 'granted', 'service.operate', 'security.fraud', 'improve.statistics', 'personalise')
  const terminal = await stage.terminal('SN-1001', { clientId: 'keypad' })
  await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: CARD })
  await stage.drained()

  // Those who stay, and those who come, subscribe and go away before the messages.
  await Promise.all(KINDS.map((kind) => askForAll(enter(kind, 'there'))))
  await Promise.all(KINDS.map((kind) => askForAll(enter(kind, 'absent'))))
  for (const { how, client } of guests) if (how === 'absent') client.destroy()
  await until(() => stage.gateway.control.status().listeners.every(({ name, connections }) => name === 'admin' || connections === (name === 'terminals' ? 11 : 6)), 'the absent to be gone')

  await sendAll('SN-1001')
  await sendAll('SN-1002')

  // A recipient that publishes, one whose will would, and one that never said who it is.
  for (const qos of [0, 1, 2] as const) {
    const talker = enter({ who: 'a recipient that publishes', door: 'recipients', username: 'rental-company', granted: [] }, 'there')
    await talker.client.connect('rental-company', { clientId: `talker ${qos}` })
    talker.client.send(publishPacket('out/billing/status', CANARY, qos, 1, { retain: true }))
    await talker.client.closed
  }
  const dying = enter({ who: 'a recipient with a will', door: 'recipients', username: 'my-app', granted: 5 }, 'there')
  granted.set('a recipient with a will', await dying.client.connect('my-app', { clientId: 'dying', will: { topic: 'out/app/status', payload: Buffer.from(CANARY), qos: 1, retain: true } }))
  dying.client.destroy()

  // Those who went away come back to their sessions, and newcomers ask for what may have been retained.
  await stage.drained()
  await Promise.all(KINDS.map((kind) => connect(enter(kind, 'back'))))
  for (const kind of KINDS.filter(({ username }) => username === 'oem-cloud' || username === 'rental-company')) await askForAll(enter({ ...kind, who: `${kind.who}, later` }, 'there'))
  await stage.drained()
  await pause(150)
})

afterAll(async () => {
  for (const { client } of guests) client.destroy()
  await stage.close()
})

/** Topics of what a guest received. */
function topicsOf({ client }: Guest): string[] {
  return client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [packet.topic] : []))
}

describe('the airlock', () => {
  it('messages went in, so that the rest means something', async () => {
    expect(published.raw).toBe(2 * 3 * (9 + 10))
    const counters = await stage.counters()
    // Nine streams of each terminal at three qualities; the other ten topics are nobody's.
    expect([...counters].filter(([line]) => line.startsWith('parapet_messages_received_total')).reduce((sum, [, value]) => sum + value, 0)).toBe(2 * 3 * 9 + 1)
    expect(counters.get('parapet_messages_refused_total{reason="no_stream"}')).toBe(2 * 3 * 10)
    expect([counters.get('parapet_wills_discarded_total'), counters.get('parapet_kills_total{reason="unauthorised"}'), granted.get('a recipient with a will')]).toEqual([2, 3, 5])
  })

  it('no client of any kind, at either door, received a raw byte', () => {
    expect(guests.length).toBe(3 * KINDS.length + 3 + 1 + 4)
    for (const { kind, how, bytes } of guests) expect([kind.who, how, Buffer.concat(bytes).includes(CANARY)]).toEqual([kind.who, how, false])
  })

  it('terminals, strangers and recipients at the wrong door received no PUBLISH at all', () => {
    for (const guest of guests.filter(({ kind }) => kind.door === 'terminals' || !(kind.username !== undefined && kind.username in OWN))) {
      expect([guest.kind.who, guest.how, topicsOf(guest)]).toEqual([guest.kind.who, guest.how, []])
    }
  })

  const PREFIX: Readonly<Record<string, string>> = {
    'oem-cloud': 'out/service/', 'site-planner': 'out/planning/', 'rental-company': 'out/billing/', 'security-desk': 'out/security/', 'safety-archive': 'out/safety/', 'my-app': 'out/app/',
  }

  it.each(Object.keys(OWN))('%s received its own outputs, on the spot and after it came back, and nobody else\'s', (recipient) => {
    const own = guests.filter(({ kind }) => kind.who === recipient)
    const counts = Object.fromEntries(own.map((guest) => [guest.how, topicsOf(guest).length]))
    expect([counts['there']! > 0, counts['absent'], counts['back']! > 0]).toEqual([true, 0, true])
    for (const guest of own) expect(topicsOf(guest).filter((topic) => !topic.startsWith(PREFIX[recipient] as string))).toEqual([])
  })

  it('nothing is retained for newcomers', () => {
    for (const guest of guests.filter(({ kind }) => kind.who.endsWith('later'))) expect([guest.kind.who, topicsOf(guest)]).toEqual([guest.kind.who, []])
  })

  it('each was granted exactly its own', () => {
    for (const kind of KINDS) {
      for (const how of ['there', 'absent']) expect([kind.who, how, granted.get(`${kind.who}, ${how}`)]).toEqual([kind.who, how, typeof kind.granted === 'number' ? kind.granted : FILTERS.filter((filter) => (kind.granted as readonly string[]).includes(filter))])
    }
  })
})
