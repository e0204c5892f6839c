/**
 * The airlock: whatever anybody subscribes to, wills, retains or waits for, a raw byte reaches no client. Each raw message carries
 * a canary, and every byte that any client of either broker receives is searched for it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RecipientId } from '../../src/domain/ids.ts'
import { RawClient, pause, publishPacket, record, startEgress, startIngress, until } from './stage.ts'
import type { EgressStage, IngressStage } from './stage.ts'

const CANARY = 'raw-canary-4711'
const TOPIC = `up/north/SN-1/status`
const FILTERS = [
  '#', '+', '+/#', '/#', 'up/#', 'up/+/+/+', '+/+/+/+', TOPIC, 'up/north/SN-1/#', 'sink', '+/', '$SYS/#', '$SYS/+/new/clients', '$SYS/+/+/#', '$share/g/#', '$share/g/up/#',
  '$queue/#', '$present', 'down/#', 'down/+/+/#', 'down/north/SN-1/#', 'out/#', 'out/+/+', 'out/planning/+', 'out/planning/#', 'last/will',
]

interface Received {
  readonly who: string
  readonly client: RawClient
  readonly bytes: () => Buffer
}

let ingress: IngressStage
let egress: EgressStage
const received: Received[] = []
const granted = new Map<string, string[]>()

/** A client that asks for everything, one filter at a time, so that one refusal does not hide another. */
async function listener(who: string, port: number, username: string | undefined, more: { clean?: boolean; will?: unknown } = {}): Promise<RawClient> {
  const client = new RawClient(port)
  const chunks: Buffer[] = []
  client.socket.on('data', (chunk: Buffer) => void chunks.push(chunk))
  received.push({ who, client, bytes: () => Buffer.concat(chunks) })
  client.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: who, keepalive: 0, ...(username === undefined ? {} : { username }), ...more } as never)
  const { returnCode } = await client.next('connack') as unknown as { returnCode: number }
  if (returnCode !== 0) {
    granted.set(who, [`refused ${returnCode}`])
    return client
  }
  const list: string[] = []
  for (const [index, topic] of FILTERS.entries()) {
    client.send({ cmd: 'subscribe', messageId: index + 1, subscriptions: [{ topic, qos: 2 }] })
    const answer = await client.next('suback') as unknown as { granted: number[] }
    if (answer.granted[0] !== 128) list.push(topic)
  }
  // All in one packet too: the engine stores a packet's filters as a whole when one of them is granted.
  client.send({ cmd: 'subscribe', messageId: 900, subscriptions: FILTERS.map((topic) => ({ topic, qos: 1 as const })) })
  await client.next('suback')
  granted.set(who, list)
  return client
}

const listeners: readonly [string, 'ingress' | 'egress', string | undefined][] = [
  ['the terminal itself', 'ingress', 'SN-1'], ['another terminal', 'ingress', 'SN-2'], ['an unknown terminal', 'ingress', 'SN-404'],
  ['a recipient at the wrong door', 'ingress', 'oem-cloud'], ['a recipient', 'egress', 'oem-cloud'], ['another recipient', 'egress', 'planner-co'],
  ['a terminal at the wrong door', 'egress', 'SN-1'], ['anonymous', 'egress', undefined], ['nobody', 'ingress', undefined],
]

beforeAll(async () => {
  // Somebody may send any command to any machine, which must make no difference to what terminals send.
  const anything = { filters: ['down/+/+/#'], qos: 1, payloadBytes: 10_000, ttlMs: 60_000 } as const
  ingress = await startIngress({ perIdentity: 100, downlink: { rights: new Map([['oem-cloud' as RecipientId, anything]]) } })
  egress = await startEgress({ perIdentity: 100, downlink: (machine, command, done) => ingress.ingress.downlink(machine, command, done) })
  const port = { ingress: ingress.port, egress: egress.port }
  for (const [who, door, username] of listeners) {
    await listener(who, port[door], username)
    await listener(`${who}, persistent`, port[door], username, { clean: false })
  }

  // Persistent sessions go away before the messages come, and come back after.
  const absent = received.filter(({ who }) => who.endsWith('persistent'))
  for (const { client } of absent) client.destroy()
  await pause(50)

  const terminal = new RawClient(ingress.port)
  await terminal.connect('SN-1', { clientId: 'sender', will: { topic: 'last/will', payload: Buffer.from(CANARY), qos: 2, retain: true } })
  let id = 0
  for (const topic of [TOPIC, 'sink', 'out/planning/x', 'down/north/SN-1/cmd', `up/north/${CANARY}/status`, '$SYS/x', 'last/will']) {
    for (const qos of [0, 1, 2] as const) {
      for (const retain of [false, true]) terminal.send(publishPacket(topic, `${CANARY} ${topic}`, qos, ++id, { retain }))
    }
  }
  await until(() => ingress.seen.length === id)
  terminal.destroy()

  // A recipient that publishes, and one whose will would.
  for (const qos of [0, 1, 2] as const) {
    const recipient = new RawClient(egress.port)
    await recipient.connect('oem-cloud', { clientId: `sender-${qos}` })
    recipient.send(publishPacket('out/planning/x', CANARY, qos, 1, { retain: true }))
    await recipient.closed
  }
  const dying = new RawClient(egress.port)
  await dying.connect('oem-cloud', { clientId: 'dying', will: { topic: 'out/planning/x', payload: Buffer.from(CANARY), qos: 1, retain: true } })
  dying.destroy()

  for (const { who } of absent) {
    const [name, door, username] = listeners.find(([text]) => who.startsWith(`${text},`)) ?? ['', 'ingress' as const, undefined]
    await listener(`${name}, back again`, port[door], username, { clean: false })
  }
  await pause(100)
}, 30_000)

afterAll(async () => {
  for (const { client } of received) client.destroy()
  await ingress.close()
  await egress.close()
})

describe('the airlock', () => {
  it('the messages did come in, so that the rest means something', () => {
    expect(ingress.seen.length).toBe(42)
    expect(ingress.seen.every(({ payload }) => String(payload).startsWith(CANARY))).toBe(true)
  })

  it('no client of any kind received a raw byte', () => {
    expect(received.length).toBe(listeners.length * 3)
    for (const { who, bytes } of received) expect([who, bytes().includes(CANARY)]).toEqual([who, false])
  })

  it('nobody received any PUBLISH at all', () => {
    for (const { who, client } of received) expect([who, client.packets.filter(({ cmd }) => cmd === 'publish')]).toEqual([who, []])
  })

  it('terminals are granted their own downlink, recipients their own outputs, others nothing', () => {
    const own = ['down/north/SN-1/#']
    const cloud = ['out/+/+', 'out/planning/+']
    const planner = ['out/planning/+']
    const expected: Record<string, string[]> = {
      'the terminal itself': own, 'another terminal': [], 'an unknown terminal': [], 'a recipient at the wrong door': [], nobody: [],
      'a recipient': cloud, 'another recipient': planner, 'a terminal at the wrong door': ['refused 5'], anonymous: ['refused 2'],
    }
    for (const [who, list] of granted) {
      const kind = who.replace(/, .*/, '')
      // Without a user name the client id is the identity of a terminal; an MQTT client id may hold spaces.
      expect([who, list]).toEqual([who, expected[kind]])
    }
  })

  it('and a record reaches exactly the recipient it is for', async () => {
    expect(await egress.publish(record('planner-co', 'out/planning/q8Zk', 'minimised'))).toBeGreaterThan(0)
    await pause(50)
    const got = received.filter(({ client }) => client.packets.some(({ cmd }) => cmd === 'publish')).map(({ who }) => who.replace(/, .*/, ''))
    // The other recipient's filter out/+/+ matches the topic, too.
    expect(new Set(got)).toEqual(new Set(['another recipient']))
  })

  it('the counters tell what was dropped', () => {
    expect([ingress.of('will'), egress.of('kill.unauthorised')]).toEqual([1, 3])
  })
})
