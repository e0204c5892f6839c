import { Duplex } from 'node:stream'
import { generate } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { OperatorId } from '../../src/domain/ids.ts'
import type { OutboxRecord, SessionStore } from '../../src/domain/ports.ts'
import { RawClient, account, client, pause, publishPacket, record, startEgress, until } from './stage.ts'
import type { EgressStage } from './stage.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0)) await each.close()
})

async function stage(...given: Parameters<typeof startEgress>): Promise<EgressStage> {
  const made = await startEgress(...given)
  open.push(made)
  return made
}

interface Subscription {
  readonly topic: string
  readonly qos: 0 | 1 | 2
}

async function subscriber(port: number, who: string, subscriptions: Subscription[], more: { clean?: boolean; clientId?: string } = {}): Promise<RawClient> {
  const made = new RawClient(port)
  open.push({ close: () => made.destroy() })
  expect(await made.connect(who, more)).toBe(0)
  if (subscriptions.length > 0) {
    made.send({ cmd: 'subscribe', messageId: 1, subscriptions })
    await made.next('suback')
  }
  return made
}

const got = (client: RawClient) => client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [`${packet.topic} ${String(packet.payload)} q${packet.qos}${packet.dup ? ' dup' : ''}${packet.retain ? ' retain' : ''}`] : []))
const PLANNING = 'out/planning/q8Zk'

/** Turns of the event loop. */
async function turnsUntil(isSo: () => boolean): Promise<number> {
  let turns = 0
  const count = (): void => {
    turns++
    if (!isSo()) setImmediate(count)
  }
  count()
  await until(isSo)
  return turns
}

describe('delivery', () => {
  it.each<[0 | 1 | 2, 0 | 1 | 2, 0 | 1 | 2]>([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [2, 1, 1], [1, 2, 1], [2, 2, 2]])(
    'a record of QoS %i to a subscription of QoS %i leaves at QoS %i [MQTT-3.8.4-6]', async (sent, wanted, expected) => {
      const { port, publish, delivered } = await stage()
      const recipient = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: wanted }])
      const given = record('planner-co', PLANNING, 'm', { qos: sent })
      expect(await publish(given)).toBe(1)
      await until(() => got(recipient).length === 1)
      expect(got(recipient)).toEqual([`${PLANNING} m q${expected}`])
      expect(delivered).toEqual([{ record: given, credential: 'planner-co' }])
    })

  it('goes to every session of the recipient once, also with overlapping filters, and to nobody else', async () => {
    const { port, publish, delivered } = await stage()
    const one = await subscriber(port, 'oem-cloud', [{ topic: 'out/+/+', qos: 0 }, { topic: 'out/+/q8Zk', qos: 1 }], { clientId: 'a' })
    const two = await subscriber(port, 'oem-cloud', [{ topic: 'out/+/+', qos: 0 }], { clientId: 'b' })
    const other = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }])
    expect(await publish(record('oem-cloud', PLANNING, 'm'))).toBe(2)
    await pause(30)
    expect([got(one), got(two), got(other)]).toEqual([[`${PLANNING} m q1`], [`${PLANNING} m q0`], []])
    expect(delivered.length).toBe(2)
  })

  it('0 sessions when nobody subscribes', async () => {
    const { port, publish } = await stage()
    expect(await publish(record('planner-co', PLANNING, 'm'))).toBe(0)
    await subscriber(port, 'planner-co', [])
    expect(await publish(record('planner-co', PLANNING, 'm'))).toBe(0)
    expect(await publish(record('nobody-gmbh', PLANNING, 'm'))).toBe(0)
  })

  it.each([0, 1, 2] as const)('QoS %i: the payload may be written over as soon as publish returns', async (qos) => {
    const { port, egress } = await stage()
    const recipient = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos }])
    const scratch = Buffer.from('minimised')
    for (let index = 0; index < 3; index++) {
      egress.publish({ ...record('planner-co', PLANNING, '', { qos }), payload: scratch.subarray(0, 9) }, () => undefined)
    }
    scratch.fill('X')
    await until(() => got(recipient).length === 3)
    expect(got(recipient)).toEqual(Array.from({ length: 3 }, () => `${PLANNING} minimised q${qos}`))
  })

  it('5,000 records arrive in order, and mqtt.js agrees that they are well formed', async () => {
    const { port, egress } = await stage()
    const recipient = await client(port, { username: 'planner-co', clientId: 'a' })
    const seen: number[] = []
    recipient.on('message', (_topic, payload) => void seen.push(Number(String(payload))))
    await recipient.subscribeAsync('out/planning/+', { qos: 1 })
    for (let index = 0; index < 5_000; index++) egress.publish(record('planner-co', PLANNING, String(index), { qos: 1 }), () => undefined)
    await until(() => seen.length === 5_000)
    expect(seen).toEqual(Array.from({ length: 5_000 }, (_, index) => index))
    await recipient.endAsync()
  })

  it.each([0, 1, 126, 127, 128, 16_000, 16_384, 100_000])('a payload of %i bytes', async (size) => {
    const { port, publish } = await stage()
    const recipient = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 0 }])
    await publish(record('planner-co', 'out/planning/Grün', Buffer.alloc(size, 7), { qos: 0 }))
    const packet = await recipient.next('publish') as unknown as { topic: string; payload: Buffer }
    expect([packet.topic, packet.payload.equals(Buffer.alloc(size, 7))]).toEqual(['out/planning/Grün', true])
  })

  it('a recipient that does not read is closed, and the others do not wait for it', async () => {
    const { port, egress, of } = await stage({ limits: { drainTimeMs: 300 } })
    const frozen = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 0 }], { clientId: 'frozen' })
    const good = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 0 }], { clientId: 'good' })
    frozen.socket.pause()
    const total = 2_000
    for (let index = 0; index < total; index++) {
      egress.publish(record('planner-co', PLANNING, Buffer.alloc(5_000), { qos: 0 }), () => undefined)
      if (index % 10 === 9) await pause(0)
    }
    await until(() => got(good).length === total)
    expect(of('deliver.dropped_qos0')).toBeGreaterThan(0)
    await until(() => of('kill.slow_reader') === 1)
  })
})

describe('the gate', () => {
  it.each([0, 1, 2] as const)('QoS %i: what it refuses does not leave', async (qos) => {
    let closed = false
    const { port, publish, of, delivered } = await stage({ gate: () => !closed })
    const recipient = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos }])
    await publish(record('planner-co', PLANNING, 'before', { qos }))
    closed = true
    await publish(record('planner-co', PLANNING, 'after', { qos }))
    await pause(30)
    expect(got(recipient)).toEqual([`${PLANNING} before q${qos}`])
    expect([of('deliver.gated'), delivered.length]).toEqual([1, 1])
  })

  it('is asked again for what waited for an absent session', async () => {
    const refused = new Set<OutboxRecord>()
    const { port, publish } = await stage({ gate: (given) => !refused.has(given) })
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    const [one, two, three] = ['one', 'two', 'three'].map((payload) => record('planner-co', PLANNING, payload))
    for (const each of [one!, two!, three!]) expect(await publish(each)).toBe(1)
    refused.add(two!)
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    await until(() => got(again).length === 2)
    expect(got(again)).toEqual([`${PLANNING} one q1`, `${PLANNING} three q1`])
  })
})

describe('persistent sessions', () => {
  it('get what came while they were away, in order, before what comes live', async () => {
    const { port, publish, egress, of } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    for (let index = 0; index < 200; index++) await publish(record('planner-co', PLANNING, String(index)))
    expect(of('deliver.queued')).toBe(200)
    const again = new RawClient(port)
    open.push({ close: () => again.destroy() })
    const connected = again.connect('planner-co', { clean: false })
    for (let index = 200; index < 300; index++) {
      egress.publish(record('planner-co', PLANNING, String(index)), () => undefined)
      await pause(0)
    }
    await connected
    await until(() => got(again).length >= 300)
    await pause(30)
    expect(got(again)).toEqual(Array.from({ length: 300 }, (_, index) => `${PLANNING} ${index} q1`))
  })

  it('get thousands that waited in a few turns of the loop: one a turn would never end beside what a busy gateway adds', async () => {
    const { port, publish } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    for (let index = 0; index < 3_000; index++) await publish(record('planner-co', PLANNING, String(index)))
    const again = new RawClient(port)
    open.push({ close: () => again.destroy() })
    await again.connect('planner-co', { clean: false })
    expect(await turnsUntil(() => got(again).length >= 3_000)).toBeLessThan(1_000)
    expect(got(again)).toEqual(Array.from({ length: 3_000 }, (_, index) => `${PLANNING} ${index} q1`))
  })

  it('catch up beside what comes in turns that have become long: 400 in each', async () => {
    const { port, publish, of } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    for (let index = 0; index < 2_000; index++) await publish(record('planner-co', PLANNING, String(index)))
    const again = new RawClient(port)
    open.push({ close: () => again.destroy() })
    const connected = again.connect('planner-co', { clean: false })
    for (let turn = 0; turn < 60; turn++) {
      for (let index = 0; index < 400; index++) void publish(record('planner-co', PLANNING, String(2_000 + turn * 400 + index)))
      await new Promise((resolve) => void setImmediate(resolve))
    }
    await connected
    const queued = of('deliver.queued')
    await until(() => got(again).length === 26_000)
    expect(got(again)).toEqual(Array.from({ length: 26_000 }, (_, index) => `${PLANNING} ${index} q1`))
    // Most of it was delivered at once.
    expect(queued).toBeLessThan(16_000)
  })

  it('get again, in a few turns as well, what they were sent and did not acknowledge: under its ids, in its order, before what came meanwhile', async () => {
    const { port, publish } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    await Promise.all(Array.from({ length: 3_000 }, (_, index) => publish(record('planner-co', PLANNING, String(index)))))
    await until(() => got(first).length === 3_000)
    const idsOf = (client: RawClient): unknown[] => client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [packet.messageId] : []))
    const ids = idsOf(first)
    first.destroy()
    await pause(30)
    for (let index = 3_000; index < 3_010; index++) await publish(record('planner-co', PLANNING, String(index)))
    const again = new RawClient(port)
    open.push({ close: () => again.destroy() })
    await again.connect('planner-co', { clean: false })
    expect(await turnsUntil(() => got(again).length >= 3_010)).toBeLessThan(1_000)
    expect(got(again)).toEqual(Array.from({ length: 3_010 }, (_, index) => `${PLANNING} ${index} q1${index < 3_000 ? ' dup' : ''}`))
    expect(idsOf(again).slice(0, 3_000)).toEqual(ids)
    expect(new Set(idsOf(again)).size).toBe(3_010)
  })

  it('do not get again what may not leave any more, and forget it; the rest comes at its QoS', async () => {
    const refused = new Set<string>()
    const { port, publish, egress } = await stage({ gate: ({ payload }) => !refused.has(Buffer.from(payload).toString()) })
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 2 }], { clean: false })
    const records = ([['one', 1], ['two', 2], ['three', 1], ['four', 2]] as const).map(([payload, qos]) => record('planner-co', PLANNING, payload, { qos }))
    await Promise.all(records.map((each) => publish(each)))
    await until(() => got(first).length === 4)
    first.destroy()
    await pause(30)
    for (const payload of ['one', 'two']) refused.add(payload)
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    await until(() => got(again).length >= 2)
    await pause(30)
    expect(got(again)).toEqual([`${PLANNING} three q1 dup`, `${PLANNING} four q2 dup`])
    expect(egress.waiting().map(({ records: waiting }) => waiting)).toEqual([2])
  })

  it('take no room from others while they catch up: what came meanwhile goes into the store, and the outbox has its answer', async () => {
    const stored = new Set<number>()
    const store: SessionStore = {
      sessions: () => [], retained: () => [], save: (_session, done) => done(undefined), forget: () => undefined, hold: () => undefined, retain: () => undefined, unretain: () => undefined,
      put: (_key, { place }) => void stored.add(place), remove: (_key, place) => void stored.delete(place),
    }
    const { port, publish } = await stage({ store, limits: { drainTimeMs: 60_000 } })
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    // More than the system's buffers hold for who does not read.
    for (let index = 0; index < 60; index++) await publish(record('planner-co', PLANNING, Buffer.alloc(250_000)))
    const again = new RawClient(port)
    open.push({ close: () => again.destroy() })
    await again.connect('planner-co', { clean: false })
    again.socket.pause()
    await pause(100)
    expect(await Promise.race([publish(record('planner-co', PLANNING, 'late')), pause(6_000).then(() => 'no answer')])).toBe(1)
    expect(stored.size).toBeGreaterThan(0)
  })

  it('get what comes just as the last waiting message is being sent', async () => {
    let more = 3
    const made: EgressStage = await stage({
      onDelivered: () => {
        if (more > 0) made.egress.publish(record('planner-co', PLANNING, `late ${more--}`), () => undefined)
      },
    })
    const first = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    await made.publish(record('planner-co', PLANNING, 'waiting'))
    const again = await subscriber(made.port, 'planner-co', [], { clean: false })
    await until(() => got(again).length === 4)
    expect(got(again)).toEqual(['waiting', 'late 3', 'late 2', 'late 1'].map((text) => `${PLANNING} ${text} q1`))
  })

  it('get again what they did not acknowledge, marked as such, and not what they did', async () => {
    const { port, publish, delivered } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    await publish(record('planner-co', PLANNING, 'one'))
    await publish(record('planner-co', PLANNING, 'two'))
    const { messageId } = await first.next('publish')
    first.send({ cmd: 'puback', messageId: messageId! })
    await pause(30)
    first.destroy()
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    await until(() => got(again).length === 1)
    await pause(30)
    expect(got(again)).toEqual([`${PLANNING} two q1 dup`])
    expect(delivered.length).toBe(2)
  })

  it('QoS 2 goes on where it stopped: a PUBREL after a PUBREC', async () => {
    const { port, publish } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 2 }], { clean: false })
    await publish(record('planner-co', PLANNING, 'one', { qos: 2 }))
    const { messageId } = await first.next('publish')
    first.send({ cmd: 'pubrec', messageId: messageId! })
    await first.next('pubrel')
    first.destroy()
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    expect((await again.next('pubrel')).messageId).toBe(messageId)
    again.send({ cmd: 'pubcomp', messageId: messageId! })
    await pause(30)
    again.destroy()
    const third = await subscriber(port, 'planner-co', [], { clean: false })
    await pause(30)
    expect(third.packets).toEqual([])
  })

  it('packet ids of new messages do not meet those of replayed ones', async () => {
    // The engine starts each connection at a random id: let it be the same one.
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.5)
    open.push({ close: () => random.mockRestore() })
    const { port, publish, egress } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    for (let index = 0; index < 50; index++) await publish(record('planner-co', PLANNING, String(index)))
    first.destroy()
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    for (let index = 0; index < 50; index++) egress.publish(record('planner-co', PLANNING, String(50 + index)), () => undefined)
    await until(() => got(again).length === 100)
    expect(new Set(again.ids('publish')).size).toBe(100)
  })

  it('hold no more than their bound; the oldest goes first and is counted', async () => {
    const { port, publish, of } = await stage({ queueMessages: 10 })
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    for (let index = 0; index < 15; index++) await publish(record('planner-co', PLANNING, String(index)))
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    await until(() => got(again).length === 10)
    expect([got(again)[0], of('deliver.queue_full')]).toEqual([`${PLANNING} 5 q1`, 5])
  })

  it('tell how much waits for the recipient and since when, acknowledged messages not, and not for whom', async () => {
    const { port, egress, publish } = await stage()
    expect(egress.waiting()).toEqual([])
    await subscriber(port, 'oem-cloud', [{ topic: 'out/+/+', qos: 1 }])
    const away = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false, clientId: 'away' })
    const there = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false, clientId: 'there' })
    away.destroy()
    await until(() => egress.waiting()[0]?.connected === 1)
    for (const receivedAtMs of [7, 8]) await publish(record('planner-co', PLANNING, 'twelve bytes', { receivedAtMs }))
    await until(() => got(there).length === 2)
    const each = 12 + PLANNING.length + 64
    expect(egress.waiting()).toEqual([{ recipient: 'planner-co', sessions: 2, connected: 1, records: 4, bytes: 4 * each, oldestAtMs: 7 }])
    there.send(...there.packets.flatMap((packet): Packet[] => (packet.cmd === 'publish' ? [{ cmd: 'puback', messageId: packet.messageId! }] : [])))
    await until(() => egress.waiting()[0]?.records === 2)
    egress.purge((one) => one.receivedAtMs === 7)
    expect(egress.waiting()).toMatchObject([{ records: 1, bytes: each, oldestAtMs: 8 }])
  })

  it('are purged by one call, retained copies as well', async () => {
    const { port, publish, egress } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    const covered = record('planner-co', PLANNING, 'covered', { retain: true })
    await publish(covered)
    await publish(record('planner-co', PLANNING, 'free'))
    expect(egress.purge((given) => given === covered)).toMatchObject({ purged: 1, swapped: 0 })
    const again = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    await until(() => got(again).length === 1)
    await pause(30)
    expect(got(again)).toEqual([`${PLANNING} free q1`])
  })

  it('end with a clean session', async () => {
    const { port, publish } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    await publish(record('planner-co', PLANNING, 'm'))
    const clean = await subscriber(port, 'planner-co', [])
    clean.destroy()
    await pause(30)
    const third = await subscriber(port, 'planner-co', [], { clean: false })
    await pause(30)
    expect(got(third)).toEqual([])
    expect(await publish(record('planner-co', PLANNING, 'm'))).toBe(0)
  })

  it('a refused filter beside a granted one is not remembered', async () => {
    const { port, publish } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }, { topic: '#', qos: 1 }, { topic: 'out/service/+/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(30)
    expect(await publish(record('planner-co', 'out/service/a/b', 'not for a subscription'))).toBe(0)
  })
})

describe('retained copies', () => {
  it('only for outputs that ask for it, the last of each topic, to later subscribers of the same recipient', async () => {
    const { port, publish } = await stage()
    await publish(record('planner-co', PLANNING, 'old', { retain: true }))
    await publish(record('planner-co', PLANNING, 'new', { retain: true }))
    await publish(record('planner-co', 'out/planning/other', 'not retained'))
    const own = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }])
    const other = await subscriber(port, 'oem-cloud', [{ topic: 'out/+/+', qos: 1 }])
    await until(() => got(own).length === 1)
    await pause(30)
    expect([got(own), got(other)]).toEqual([[`${PLANNING} new q1 retain`], []])
  })

  it('a subscription of QoS 0 gets them at QoS 0, and a live one without the flag', async () => {
    const { port, publish } = await stage()
    await publish(record('planner-co', PLANNING, 'first', { retain: true }))
    const own = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 0 }])
    await until(() => got(own).length === 1)
    await publish(record('planner-co', PLANNING, 'second', { retain: true }))
    await until(() => got(own).length === 2)
    expect(got(own)).toEqual([`${PLANNING} first q0 retain`, `${PLANNING} second q0`])
  })
})

describe('what a recipient may not', () => {
  it.each([0, 1, 2] as const)('publish at QoS %i: the connection is closed without an acknowledgement', async (qos) => {
    const { port, of } = await stage()
    const recipient = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }])
    recipient.send(publishPacket(PLANNING, 'x', qos, 5))
    await recipient.closed
    expect([recipient.packets, of('kill.unauthorised')]).toEqual([[], 1])
  })

  it('connect with a will: code 5', async () => {
    const { port } = await stage()
    expect(await new RawClient(port).connect('planner-co', { will: { topic: PLANNING, payload: Buffer.from('x'), qos: 0, retain: false } })).toBe(5)
  })

  it('take over another recipient\'s session with its client id', async () => {
    const { port, publish } = await stage()
    const own = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clientId: 'x', clean: false })
    const other = await subscriber(port, 'oem-cloud', [], { clientId: 'x', clean: false })
    await publish(record('planner-co', PLANNING, 'm'))
    await until(() => got(own).length === 1)
    expect([got(other), other.socket.destroyed]).toEqual([[], false])
  })
})

/** A connection whose far side takes nothing once it is held: what is written stays in the gateway until `release`. */
class Pipe extends Duplex {
  arrived = ''
  held = false
  #release: () => void = () => undefined

  constructor() {
    super({ writableHighWaterMark: 1_024 })
    this.on('error', () => undefined)
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const take = (): void => {
      this.arrived += chunk.toString('latin1')
      done()
    }
    if (this.held) this.#release = take
    else take()
  }

  release(): void {
    this.held = false
    this.#release()
  }
}

async function slowReader({ egress }: EgressStage, qos: 0 | 1 | 2, clean: boolean): Promise<Pipe> {
  const pipe = new Pipe()
  open.push({ close: () => pipe.destroy() })
  egress.accept(pipe, { plain: true, certificate: undefined })
  const say = async (packet: unknown): Promise<void> => {
    pipe.push(generate(packet as Packet))
    await pause(10)
  }
  await say({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean, clientId: 'slow', keepalive: 0, username: 'planner-co' })
  await say({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'out/planning/+', qos }] })
  pipe.held = true
  return pipe
}

type Tracked = OutboxRecord & { payload: Buffer; payloadIfWithdrawn: Buffer | null | undefined; revision: number }

/** Like a record of the outbox, which changes its own object: `dropped` and `swapped` are what a purge there does to it. */
function ofAnna(payload: string, payloadIfWithdrawn: Buffer | null, more: Partial<OutboxRecord> = {}): Tracked {
  return { ...record('planner-co', PLANNING, payload, { subjects: ['op-anna' as OperatorId], basis: 'consent', ...more }), payloadIfWithdrawn, revision: 0 } as Tracked
}

function dropped(given: Tracked): void {
  given.payload = Buffer.alloc(0)
  given.payloadIfWithdrawn = undefined
  given.revision++
}

function swapped(given: Tracked): void {
  given.payload = given.payloadIfWithdrawn ?? given.payload
  given.payloadIfWithdrawn = undefined
  given.revision++
}

const annas = (given: OutboxRecord): boolean => given.subjects.includes('op-anna' as OperatorId) && given.payloadIfWithdrawn !== undefined
/** The gateway's gate before it has heard of a withdrawal: what a purge must do, it does here without its help. */
const openGate = { gate: () => true } as const

describe('a withdrawal', () => {
  it.each([0, 1, 2] as const)('QoS %i: nothing covered reaches a live reader that was slow, and its connection is reset', async (qos) => {
    const made = await stage(openGate)
    const slow = await slowReader(made, qos, true)
    for (let index = 0; index < 5; index++) made.egress.publish(ofAnna(`SECRET-${index} ${'x'.repeat(2_000)}`, null, { qos }), () => undefined)
    await pause(20)
    const { cut } = made.egress.purge(annas)
    expect(await cut()).toBe(5)
    slow.release()
    await pause(20)
    // The piece that the far side was just being given when the purge began is on the wire; nothing after it comes.
    expect(slow.arrived.match(/SECRET-\d/g)?.length ?? 0).toBeLessThanOrEqual(1)
    expect([slow.destroyed, made.of('kill.withdrawal')]).toEqual([true, 1])
  })

  it('leaves connections alone that hold nothing of it, and those that acknowledge in time', async () => {
    const made = await stage(openGate)
    const prompt = await client(made.port, { username: 'planner-co', clientId: 'prompt' })
    await prompt.subscribeAsync('out/planning/+', { qos: 1 })
    const slow = await slowReader(made, 1, true)
    const other = await subscriber(made.port, 'oem-cloud', [{ topic: 'out/+/+', qos: 1 }])
    made.egress.publish(record('oem-cloud', PLANNING, 'free'), () => undefined)
    made.egress.publish(ofAnna('covered', null), () => undefined)
    // Out to both, acknowledged by neither.
    expect(await made.egress.purge(annas).cut()).toBe(2)
    expect([prompt.connected, other.socket.destroyed, slow.destroyed]).toEqual([true, false, true])
    await prompt.endAsync()
  })

  it('knows what a connection was sent again, too', async () => {
    const { port, publish, egress } = await stage()
    const first = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    await publish(ofAnna('one', null))
    await until(() => got(first).length === 1)
    first.destroy()
    await pause(30)
    const again = await subscriber(port, 'planner-co', [], { clean: false })
    await until(() => got(again).length === 1)
    const { purged, cut } = egress.purge(({ subjects }) => subjects.includes('op-anna' as OperatorId))
    expect([purged, await cut()]).toEqual([1, 1])
    await again.closed
  })

  it('takes nothing from a persistent session that is not covered: it comes back to the rest', async () => {
    const made = await stage(openGate)
    const first = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    await made.publish(record('planner-co', PLANNING, 'one'))
    const [purge, swap] = [ofAnna('precise', null), ofAnna('fine', Buffer.from('coarse'))]
    for (const each of [purge, swap]) await made.publish(each)
    await made.publish(record('planner-co', PLANNING, 'two'))
    await until(() => got(first).length === 4)
    const gone = made.egress.purge(annas)
    dropped(purge)
    swapped(swap)
    expect([gone.purged, gone.swapped, await gone.cut()]).toEqual([1, 1, 2])
    await first.closed
    const again = await subscriber(made.port, 'planner-co', [], { clean: false })
    await until(() => got(again).length === 3)
    await pause(20)
    expect(got(again)).toEqual([`${PLANNING} one q1 dup`, `${PLANNING} coarse q1 dup`, `${PLANNING} two q1 dup`])
  })

  it('reaches what is between the gate and the socket', async () => {
    const made = await stage(openGate)
    const first = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    made.egress.publish(ofAnna('covered', null), () => undefined)
    // The engine has asked for it and writes it in a later turn.
    await Promise.resolve()
    await Promise.resolve()
    expect(made.delivered.length).toBe(1)
    await made.egress.purge(annas).cut()
    await first.closed
    const again = await subscriber(made.port, 'planner-co', [], { clean: false })
    await pause(20)
    expect(got(again)).toEqual([])
  })

  it.each<['purged' | 'swapped', (given: Tracked) => void]>([['purged', dropped], ['swapped', swapped]])('what the outbox has %s since does not leave, even if nobody else says so', async (_, change) => {
    const made = await stage(openGate)
    const absent = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    absent.destroy()
    await pause(20)
    const given = ofAnna('fine', Buffer.from('coarse'), { retain: true })
    await made.publish(given)
    change(given)
    const again = await subscriber(made.port, 'planner-co', [], { clean: false })
    const later = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clientId: 'later' })
    await pause(20)
    expect([got(again), got(later)]).toEqual([[], []])
  })

  it('puts the coarse variant in its place: for an absent session and in the retained copy', async () => {
    const made = await stage({ gate: (given) => given.payloadIfWithdrawn === undefined })
    const absent = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    absent.destroy()
    await pause(20)
    const given = ofAnna('fine', Buffer.from('coarse'), { retain: true })
    await made.publish(given)
    made.egress.purge(annas)
    swapped(given)
    const again = await subscriber(made.port, 'planner-co', [], { clean: false })
    const later = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 0 }], { clientId: 'later' })
    await until(() => got(again).length === 1 && got(later).length === 1)
    expect([got(again), got(later)]).toEqual([[`${PLANNING} coarse q1`], [`${PLANNING} coarse q0 retain`]])
  })

  it('erasure leaves no variant behind', async () => {
    const made = await stage(openGate)
    const absent = await subscriber(made.port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    absent.destroy()
    await pause(20)
    await made.publish(ofAnna('fine', Buffer.from('coarse')))
    expect(made.egress.purge(annas, 'erasure')).toMatchObject({ purged: 1, swapped: 0 })
    const again = await subscriber(made.port, 'planner-co', [], { clean: false })
    await pause(20)
    expect(got(again)).toEqual([])
  })
})

describe('a log-in with a user name of its own', () => {
  it('is left alone by a reload that changes nothing, and keeps its session', async () => {
    const { port, accounts, egress, publish, of } = await stage()
    accounts.set('night-shift', account('planner-co', { user: 'night-shift' }))
    accounts.delete('planner-co')
    const live = await subscriber(port, 'night-shift', [{ topic: 'out/planning/+', qos: 1 }], { clientId: 'live' })
    const absent = await subscriber(port, 'night-shift', [{ topic: 'out/planning/+', qos: 1 }], { clientId: 'absent', clean: false })
    absent.destroy()
    await pause(20)
    egress.recheck()
    expect(await publish(record('planner-co', PLANNING, 'm'))).toBe(2)
    await until(() => got(live).length === 1)
    const again = await subscriber(port, 'night-shift', [], { clientId: 'absent', clean: false })
    await until(() => got(again).length === 1)
    expect([got(again), of('kill.revoked')]).toEqual([[`${PLANNING} m q1`], 0])
  })

  it('gets again what it did not acknowledge', async () => {
    const { port, accounts, publish } = await stage()
    accounts.set('night-shift', account('planner-co', { user: 'night-shift' }))
    accounts.delete('planner-co')
    const first = await subscriber(port, 'night-shift', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    await publish(record('planner-co', PLANNING, 'm'))
    await first.next('publish')
    first.destroy()
    const again = await subscriber(port, 'night-shift', [], { clean: false })
    await until(() => got(again).length === 1)
    expect(got(again)).toEqual([`${PLANNING} m q1 dup`])
  })

  it('that is removed takes its own sessions along, and not those of the recipient\'s other log-ins', async () => {
    const { port, accounts, egress, publish } = await stage()
    accounts.set('night-shift', account('planner-co', { user: 'night-shift' }))
    for (const user of ['night-shift', 'planner-co']) {
      const one = await subscriber(port, user, [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
      one.destroy()
    }
    await pause(20)
    accounts.delete('night-shift')
    egress.recheck()
    expect(await publish(record('planner-co', PLANNING, 'm'))).toBe(1)
  })

  it('that serves another recipient after a reload brings nothing of the first one along', async () => {
    const { port, accounts, egress, publish } = await stage()
    accounts.set('night-shift', account('planner-co', { user: 'night-shift' }))
    const first = await subscriber(port, 'night-shift', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    first.destroy()
    await pause(20)
    await publish(record('planner-co', PLANNING, 'm'))
    accounts.set('night-shift', account('oem-cloud', { user: 'night-shift' }))
    egress.recheck()
    const again = await subscriber(port, 'night-shift', [], { clean: false })
    await pause(20)
    expect([got(again), await publish(record('planner-co', PLANNING, 'n'))]).toEqual([[], 0])
  })
})

describe('a reload', () => {
  it('of the rules takes back what is no longer the recipient\'s, live and absent, and leaves the rest', async () => {
    const { port, publish, topics, egress, of } = await stage()
    topics.set('planner-co', ['out/planning/{machine_id}', 'out/old/{machine_id}'])
    const live = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }, { topic: 'out/old/+', qos: 1 }], { clientId: 'live' })
    const absent = await subscriber(port, 'planner-co', [{ topic: 'out/old/+', qos: 1 }], { clientId: 'absent', clean: false })
    absent.destroy()
    await pause(30)
    expect(await publish(record('planner-co', 'out/old/x', 'before'))).toBe(2)
    topics.set('planner-co', ['out/planning/{machine_id}'])
    egress.recheck()
    expect(await publish(record('planner-co', 'out/old/x', 'after'))).toBe(0)
    expect(await publish(record('planner-co', PLANNING, 'kept'))).toBe(1)
    await until(() => got(live).length === 2)
    expect(got(live)).toEqual(['out/old/x before q1', `${PLANNING} kept q1`])
    expect(of('subscribe.revoked')).toBe(2)
    // Widened again: it has to subscribe anew.
    topics.set('planner-co', ['out/planning/{machine_id}', 'out/old/{machine_id}'])
    expect(await publish(record('planner-co', 'out/old/x', 'later'))).toBe(0)
    live.send({ cmd: 'subscribe', messageId: 2, subscriptions: [{ topic: 'out/old/+', qos: 1 }] })
    await live.next('suback')
    expect(await publish(record('planner-co', 'out/old/x', 'again'))).toBe(1)
  })

  it('of the accounts closes those that are gone or have another credential', async () => {
    const { port, accounts, egress, of, publish } = await stage()
    const gone = await subscriber(port, 'planner-co', [{ topic: 'out/planning/+', qos: 1 }], { clean: false })
    const changed = await subscriber(port, 'oem-cloud', [])
    accounts.delete('planner-co')
    accounts.set('oem-cloud', account('oem-cloud', { credential: 'scrypt$…' }))
    egress.recheck()
    await Promise.all([gone.closed, changed.closed])
    await pause(20)
    expect([of('kill.revoked'), await publish(record('planner-co', PLANNING, 'm'))]).toEqual([2, 0])
  })
})
