/**
 * Commands to machines, over real sockets on both sides: who may send what to whom, who gets it, what waits and for how long. What is
 * allowed is judged by tables and by a reading of the topic that is not the code's.
 */
import fc from 'fast-check'
import type { Packet } from 'mqtt-packet'
import { afterEach, describe, expect, it } from 'vitest'
import { Downlink, Turns, addressOf } from '../../src/broker/downlink.ts'
import type { CommandResult } from '../../src/broker/downlink.ts'
import { clientKey } from '../../src/broker/identify.ts'
import type { FleetId, MachineId, RecipientId } from '../../src/domain/ids.ts'
import type { Clock, Command, CommandStore, DownlinkRight, StoredCommand, StoredTerminal } from '../../src/domain/ports.ts'
import { RawClient, account, machine, pause, publishPacket, record, startEgress, startIngress, until } from './stage.ts'
import type { EgressStage, IngressStage } from './stage.ts'

const cleanups: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const right = (filters: readonly string[], more: Partial<DownlinkRight> = {}): DownlinkRight => ({ filters, qos: 1, payloadBytes: 100, ttlMs: 60_000, ...more })
const rights = (more: Readonly<Record<string, DownlinkRight>> = {}): Map<RecipientId, DownlinkRight> => new Map(Object.entries({
  'oem-cloud': right(['down/+/+/settings/#', 'down/north/+/clock']), 'planner-co': right(['down/north/SN-1/message'], { qos: 0 }), ...more,
})) as never

/** A store that a test can stop, and that outlives the broker. Commits when told, or at once. */
class Shelf implements CommandStore {
  readonly kept = new Map<string, { machine: MachineId; filters: ReadonlyMap<string, 0 | 1 | 2> }>()
  readonly commands = new Map<string, Map<number, StoredCommand>>()
  /** Held back until `commit`. */
  isSlow = false
  failure: Error | undefined
  readonly #waiting: (() => void)[] = []

  terminals(): readonly StoredTerminal[] {
    return [...this.kept].map(([key, one]) => ({ key, ...one, waiting: [...(this.commands.get(key)?.values() ?? [])] }))
  }

  save({ key, machine: id, filters }: Omit<StoredTerminal, 'waiting'>, stored: (error: Error | undefined) => void): void {
    if (this.failure === undefined) this.kept.set(key, { machine: id, filters: new Map(filters) })
    setImmediate(() => stored(this.failure))
  }

  forget(key: string): void {
    this.kept.delete(key)
    this.commands.delete(key)
  }

  put(key: string, command: StoredCommand, stored?: (error: Error | undefined) => void): void {
    const done = (): void => {
      if (this.failure === undefined) (this.commands.get(key) ?? this.commands.set(key, new Map()).get(key)!).set(command.place, command)
      stored?.(this.failure)
    }
    if (this.isSlow) this.#waiting.push(done)
    else setImmediate(done)
  }

  remove(key: string, place: number): void {
    this.commands.get(key)?.delete(place)
  }

  commit(): void {
    for (const done of this.#waiting.splice(0)) done()
  }

  get size(): number {
    return [...this.commands.values()].reduce((sum, { size }) => sum + size, 0)
  }
}

interface DownStage {
  readonly ingress: IngressStage
  readonly egress: EgressStage
  readonly shelf: Shelf
  readonly of: (name: string) => number
}

async function stage(options: { readonly shelf?: Shelf; readonly rights?: ReturnType<typeof rights>; readonly clock?: Clock; readonly limits?: object } = {}): Promise<DownStage> {
  const shelf = options.shelf ?? new Shelf()
  const ingress = await startIngress({ downlink: { rights: options.rights ?? rights(), store: shelf, ...(options.limits === undefined ? {} : { limits: options.limits as never }) }, ...(options.clock === undefined ? {} : { clock: options.clock }), connectsPerMinute: 100_000 })
  const egress = await startEgress({ downlink: (id, command, done) => ingress.ingress.downlink(id, command, done), connectsPerMinute: 100_000 })
  ingress.machines.set('SN-3', machine('SN-3', { fleet: 'south' as FleetId }))
  cleanups.push(async () => {
    await Promise.all([egress.close(), ingress.close()])
  })
  return { ingress, egress, shelf, of: (name) => ingress.of(name) + egress.of(name) }
}

async function terminal({ ingress }: DownStage, id: string, filters: readonly (readonly [string, 0 | 1 | 2])[], more: { readonly clean?: boolean; readonly clientId?: string } = {}): Promise<RawClient> {
  const client = new RawClient(ingress.port)
  cleanups.push(() => client.destroy())
  expect(await client.connect(id, more)).toBe(0)
  for (const [index, [topic, qos]] of filters.entries()) {
    client.send({ cmd: 'subscribe', messageId: index + 1, subscriptions: [{ topic, qos }] })
    expect(((await client.next('suback')) as unknown as { granted: number[] }).granted).toEqual([qos])
  }
  return client
}

async function recipient({ egress }: DownStage, id = 'oem-cloud'): Promise<RawClient> {
  const client = new RawClient(egress.port)
  cleanups.push(() => client.destroy())
  expect(await client.connect(id)).toBe(0)
  return client
}

const texts = (client: RawClient): string[] => client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [`${packet.topic} ${String(packet.payload)} q${packet.qos}${packet.dup ? ' dup' : ''}${packet.retain ? ' retain' : ''}`] : []))
const acknowledge = (client: RawClient): void => {
  for (const packet of client.packets) if (packet.cmd === 'publish' && packet.qos === 1) client.send({ cmd: 'puback', messageId: packet.messageId ?? 0 } as Packet)
}

const OWN = [['down/north/SN-1/#', 1]] as const
const SETTINGS = 'down/north/SN-1/settings/lights'

// ---------------------------------------------------------------------------------------------------------------------------------

describe('a recipient\'s PUBLISH', () => {
  it.each<[string, string, { qos?: 0 | 1 | 2; payload?: string; retain?: boolean; from?: string }, CommandResult]>([
    ['what it may send', SETTINGS, {}, 'stored'],
    ['below a #', 'down/north/SN-1/settings/a/b/c', {}, 'stored'],
    ['at the # itself', 'down/north/SN-1/settings', {}, 'stored'],
    ['for a fleet that is named', 'down/north/SN-1/clock', {}, 'stored'],
    ['QoS 0', SETTINGS, { qos: 0 }, 'sent'],
    ['to the one machine it may reach', 'down/north/SN-1/message', { from: 'planner-co', qos: 0 }, 'sent'],
    ['another topic of the machine', 'down/north/SN-1/firmware', {}, 'not_allowed'],
    ['another fleet than the one named', 'down/south/SN-3/clock', {}, 'not_allowed'],
    ['another recipient\'s commands', 'down/north/SN-1/message', {}, 'not_allowed'],
    ['what another may send', SETTINGS, { from: 'planner-co', qos: 0 }, 'not_allowed'],
    ['another machine than the one named', 'down/north/SN-2/message', { from: 'planner-co', qos: 0 }, 'not_allowed'],
    ['the machine and nothing more', 'down/north/SN-1', {}, 'not_allowed'],
    ['an empty machine', 'down/north//settings/x', {}, 'not_allowed'],
    ['an empty fleet', 'down//SN-1/settings/x', {}, 'not_allowed'],
    ['a slash in front', `/${SETTINGS}`, {}, 'not_allowed'],
    ['other letters', 'DOWN/north/SN-1/settings/x', {}, 'not_allowed'],
    ['what a terminal would send', 'up/north/SN-1/status', {}, 'not_allowed'],
    ['its own output', 'out/planning/x', {}, 'not_allowed'],
    ['a broker\'s own', '$SYS/x', {}, 'not_allowed'],
    ['retained', SETTINGS, { retain: true }, 'retained'],
    ['QoS 2', SETTINGS, { qos: 2 }, 'qos'],
    ['QoS 1 where 0 is the highest', 'down/north/SN-1/message', { from: 'planner-co' }, 'qos'],
    ['a byte too much', SETTINGS, { payload: 'x'.repeat(101) }, 'too_big'],
    ['to a machine that nobody knows', 'down/north/SN-404/settings/x', {}, 'unknown_machine'],
    ['to a machine of another fleet', 'down/north/SN-3/settings/x', {}, 'foreign_fleet'],
    ['to a machine in a fleet that is none', 'down/east/SN-1/settings/x', {}, 'foreign_fleet'],
    ['to a machine that never subscribed', 'down/north/SN-2/settings/x', {}, 'not_subscribed'],
  ])('%s', async (_what, topic, { qos = 1, payload = 'p', retain = false, from = 'oem-cloud' }, expected) => {
    const made = await stage()
    const here = await terminal(made, 'SN-1', OWN, { clean: false })
    const other = await terminal(made, 'SN-3', [['down/south/SN-3/#', 1]])
    const sender = await recipient(made, from)
    sender.send(publishPacket(topic, payload, qos, 7, { retain }))
    if (expected === 'stored' || expected === 'sent') {
      await until(() => texts(here).length === 1)
      expect(texts(here)).toEqual([`${topic} ${payload} q${qos}`])
    }
    // As before there were commands: it is cut off, for MQTT 3.1.1 has no other way to say no.
    const isCut = ['not_allowed', 'retained', 'qos', 'too_big'].includes(expected)
    if (isCut) await sender.closed
    else if (qos > 0) expect(await sender.next('puback')).toMatchObject({ messageId: 7 })
    expect([made.of(`downlink.${expected}`) > 0, made.of('kill.unauthorised'), sender.socket.destroyed]).toEqual([true, isCut ? 1 : 0, isCut])
    if (expected !== 'stored' && expected !== 'sent') {
      await pause(30)
      expect([texts(here), made.shelf.size]).toEqual([[], 0])
    }
    expect([texts(other), sender.packets.filter(({ cmd }) => cmd === 'publish')]).toEqual([[], []])
    // Nothing came in on the terminals' side either.
    expect(made.ingress.seen).toEqual([])
  })

  it('ends the connection where nobody may send commands, as ever', async () => {
    const egress = await startEgress()
    cleanups.push(egress.close)
    const sender = new RawClient(egress.port)
    await sender.connect('oem-cloud')
    sender.send(publishPacket(SETTINGS, 'p', 1))
    await sender.closed
    expect([egress.of('kill.unauthorised'), sender.ids('puback')]).toEqual([1, []])
  })

  it('topics with a NUL or a wildcard never get so far', async () => {
    const made = await stage()
    for (const topic of ['down/north/SN-1/settings/\u0000', 'down/north/+/settings/x', 'down/north/SN-1/settings/#']) {
      const sender = await recipient(made)
      // The codec of the test would not write it.
      const bytes = Buffer.from(topic)
      sender.write(Buffer.concat([Buffer.from([0x30, bytes.length + 3, 0, bytes.length]), bytes, Buffer.from('p')]))
      await sender.closed
    }
    expect(made.of('downlink.sent')).toBe(0)
  })

  it('is acknowledged in its order, whatever is stored first [MQTT-4.6.0-2]', async () => {
    const made = await stage()
    const away = await terminal(made, 'SN-1', OWN, { clean: false })
    const sender = await recipient(made)
    made.shelf.isSlow = true
    // The first waits for the disk, the others for nothing but it.
    sender.send(publishPacket(SETTINGS, 'slow', 1, 1), publishPacket('down/north/SN-2/settings/x', 'unsubscribed', 1, 2), publishPacket('ctl/oem-cloud/ack', 'n', 1, 3))
    await until(() => made.of('ctl.unused') === 1)
    await pause(30)
    expect([sender.ids('puback'), texts(away)]).toEqual([[], []])
    made.shelf.commit()
    await until(() => sender.ids('puback').length === 3)
    expect(sender.ids('puback')).toEqual([1, 2, 3])
  })

  it('is not acknowledged when it cannot be stored: it is sent again', async () => {
    const made = await stage()
    await terminal(made, 'SN-1', OWN, { clean: false })
    const sender = await recipient(made)
    made.shelf.failure = new Error('the disk refuses')
    sender.send(publishPacket(SETTINGS, 'p', 1, 1))
    await sender.closed
    expect([sender.ids('puback'), made.of('kill.outbox'), made.shelf.size]).toEqual([[], 1, 0])
  })

  it('may be a hundred in one go, and more than may be in work', async () => {
    const made = await stage()
    const here = await terminal(made, 'SN-1', OWN)
    const sender = await recipient(made)
    for (let id = 1; id <= 150; id++) sender.send(publishPacket(SETTINGS, String(id), 1, id))
    await until(() => texts(here).length === 150)
    await until(() => sender.ids('puback').length === 150)
    expect(texts(here)).toEqual(Array.from({ length: 150 }, (_, index) => `${SETTINGS} ${index + 1} q1`))
  })
})

describe('notices', () => {
  it('a recipient may listen to its own, and to nobody else\'s', async () => {
    const made = await stage()
    const client = await recipient(made)
    for (const [topic, granted] of [['ctl/oem-cloud/#', 1], ['ctl/oem-cloud/expiry', 1], ['ctl/planner-co/#', 128], ['ctl/#', 128], ['ctl/+/ack', 128], ['ctl/oem-cloud-2/#', 128], ['down/#', 128], ['down/north/SN-1/#', 128]] as const) {
      client.send({ cmd: 'subscribe', messageId: 5, subscriptions: [{ topic, qos: 1 }] })
      expect([topic, ((await client.next('suback')) as unknown as { granted: number[] }).granted[0]]).toEqual([topic, granted])
    }
    // A reload takes back what is not its own any more, and these are.
    made.egress.egress.recheck()
    expect(made.of('subscribe.revoked')).toBe(0)
  })

  it.each<[string, 0 | 1 | 2, boolean]>([['ctl/oem-cloud/ack', 0, true], ['ctl/oem-cloud/ack', 1, true], ['ctl/oem-cloud/ack', 2, false], ['ctl/planner-co/ack', 1, false], ['ctl/oem-cloud/other', 1, false], ['ctl/oem-cloud/ack/x', 1, false]])('%s at QoS %i: acknowledged and counted = %s', async (topic, qos, isTaken) => {
    const made = await stage()
    const client = await recipient(made)
    client.send(publishPacket(topic, 'n', qos, 9))
    if (!isTaken) await client.closed
    else await until(() => made.of('ctl.unused') === 1)
    if (isTaken && qos === 1) expect(await client.next('puback')).toMatchObject({ messageId: 9 })
    expect([made.of('ctl.unused'), made.of('kill.unauthorised')]).toEqual(isTaken ? [1, 0] : [0, 1])
  })
})

describe('a terminal', () => {
  it.each<[string, readonly (readonly [string, 0 | 1 | 2])[], string | undefined]>([
    ['its whole downlink', OWN, 'q1'], ['one level', [['down/north/SN-1/settings/+', 1]], 'q1'], ['the topic', [[SETTINGS, 1]], 'q1'], ['another topic', [['down/north/SN-1/clock', 1]], undefined],
    ['at QoS 0', [['down/north/SN-1/#', 0]], 'q0'], ['at QoS 2', [['down/north/SN-1/#', 2]], 'q1'], ['twice, once is enough [MQTT-3.3.5-1]', [['down/north/SN-1/#', 0], ['down/north/SN-1/settings/#', 1]], 'q1'],
    ['the topic itself at QoS 0 beside a wider filter', [['down/north/SN-1/#', 1], [SETTINGS, 0]], 'q0'], ['nothing', [], undefined],
  ])('that subscribed to %s', async (_what, filters, qos) => {
    for (const clean of [true, false]) {
      const made = await stage()
      const client = await terminal(made, 'SN-1', filters, { clean })
      const sender = await recipient(made)
      sender.send(publishPacket(SETTINGS, 'p', 1, 1))
      await sender.next('puback')
      if (qos === undefined) expect(made.of('downlink.not_subscribed')).toBe(1)
      else await until(() => texts(client).length === 1)
      expect([clean, texts(client)]).toEqual([clean, qos === undefined ? [] : [`${SETTINGS} p ${qos}`]])
    }
  })

  it('of another identity gets nothing, nor does one that is not in the registry', async () => {
    const made = await stage()
    const here = await terminal(made, 'SN-1', OWN)
    const other = await terminal(made, 'SN-2', [['down/north/SN-2/#', 1]])
    const stranger = new RawClient(made.ingress.port)
    cleanups.push(() => stranger.destroy())
    await stranger.connect('SN-404')
    stranger.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'down/north/SN-1/#', qos: 1 }] })
    expect(((await stranger.next('suback')) as unknown as { granted: number[] }).granted).toEqual([128])
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'p', 1, 1))
    await until(() => texts(here).length === 1)
    await pause(30)
    expect([texts(other), texts(stranger)]).toEqual([[], []])
  })

  it('cannot send itself a command, nor to another: what it publishes goes to the pipeline and nowhere else', async () => {
    const made = await stage()
    const here = await terminal(made, 'SN-1', OWN, { clean: false })
    const other = await terminal(made, 'SN-2', [['down/north/SN-2/#', 1]])
    for (const [id, topic] of [SETTINGS, 'down/north/SN-2/settings/x', 'ctl/oem-cloud/ack', 'up/north/SN-1/status'].entries()) here.send(publishPacket(topic, 'raw', 1, id + 1))
    await until(() => here.ids('puback').length === 4)
    expect([made.ingress.seen.length, texts(here), texts(other), made.shelf.size]).toEqual([4, [], [], 0])
  })

  it('that is absent, with a session: QoS 1 waits in order, QoS 0 does not', async () => {
    const made = await stage()
    const first = await terminal(made, 'SN-1', OWN, { clean: false })
    first.destroy()
    await until(() => made.ingress.ingress.connections === 0)
    const sender = await recipient(made)
    for (let id = 1; id <= 20; id++) sender.send(publishPacket(SETTINGS, `c${id}`, id % 5 === 0 ? 0 : 1, id))
    await until(() => sender.ids('puback').length === 16)
    await until(() => made.of('downlink.absent') === 4)
    expect([made.of('downlink.stored'), made.shelf.size]).toEqual([16, 16])
    const back = new RawClient(made.ingress.port)
    cleanups.push(() => back.destroy())
    await back.connect('SN-1', { clean: false })
    await until(() => texts(back).length === 16)
    expect(texts(back)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1).filter((id) => id % 5 !== 0).map((id) => `${SETTINGS} c${id} q1`))
    acknowledge(back)
    await until(() => made.of('downlink.acknowledged') === 16)
    expect(made.shelf.size).toBe(0)
  })

  it('that comes back before a command is stored gets it once it is, once', async () => {
    const made = await stage()
    const first = await terminal(made, 'SN-1', OWN, { clean: false })
    first.destroy()
    await until(() => made.ingress.ingress.connections === 0)
    made.shelf.isSlow = true
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'c1', 1, 1), publishPacket(SETTINGS, 'c2', 1, 2))
    await pause(50)
    const back = await terminal(made, 'SN-1', [], { clean: false })
    await pause(50)
    // What is seen and then lost in a crash would come again as another one.
    expect([texts(back), sender.ids('puback')]).toEqual([[], []])
    made.shelf.isSlow = false
    made.shelf.commit()
    await until(() => texts(back).length === 2)
    await pause(30)
    expect([texts(back), sender.ids('puback')]).toEqual([[`${SETTINGS} c1 q1`, `${SETTINGS} c2 q1`], [1, 2]])
  })

  it('that does not acknowledge gets them again, under the same ids, marked [MQTT-3.3.1-1] [MQTT-4.4.0-1]', async () => {
    const made = await stage()
    const first = await terminal(made, 'SN-1', OWN, { clean: false })
    const sender = await recipient(made)
    for (const id of [1, 2, 3]) sender.send(publishPacket(SETTINGS, `c${id}`, 1, id))
    await until(() => texts(first).length === 3)
    const ids = first.ids('publish')
    first.send({ cmd: 'puback', messageId: ids[1] ?? 0 } as Packet)
    await until(() => made.of('downlink.acknowledged') === 1)
    first.destroy()
    await until(() => made.ingress.ingress.connections === 0)
    const back = await terminal(made, 'SN-1', [], { clean: false })
    sender.send(publishPacket(SETTINGS, 'c4', 1, 4))
    await until(() => texts(back).length === 3)
    expect(texts(back)).toEqual([`${SETTINGS} c1 q1 dup`, `${SETTINGS} c3 q1 dup`, `${SETTINGS} c4 q1`])
    expect(back.ids('publish').slice(0, 2)).toEqual([ids[0], ids[2]])
    expect(new Set(back.ids('publish')).size).toBe(3)
  })

  it('with a clean session gets nothing of before, and what waited for the old one goes [MQTT-3.1.2-6]', async () => {
    const made = await stage()
    const first = await terminal(made, 'SN-1', OWN, { clean: false })
    first.destroy()
    await until(() => made.ingress.ingress.connections === 0)
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'c', 1, 1))
    await sender.next('puback')
    const back = await terminal(made, 'SN-1', OWN, { clean: true })
    await pause(30)
    expect([texts(back), made.shelf.size, made.shelf.kept.size, made.of('downlink.dropped')]).toEqual([[], 0, 0, 1])
  })

  it('with two boxes gets it at each that asked for it', async () => {
    const made = await stage()
    const [one, two] = [await terminal(made, 'SN-1', OWN, { clean: false, clientId: 'a' }), await terminal(made, 'SN-1', OWN, { clientId: 'b' })]
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'p', 1, 1))
    await until(() => texts(one).length === 1 && texts(two).length === 1)
    expect(made.shelf.size).toBe(1)
  })

  it('whose connection takes over its own session goes on where that was', async () => {
    const made = await stage()
    const first = await terminal(made, 'SN-1', OWN, { clean: false })
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'one', 1, 1))
    await until(() => texts(first).length === 1)
    const second = await terminal(made, 'SN-1', [], { clean: false })
    await first.closed
    sender.send(publishPacket(SETTINGS, 'two', 1, 2))
    await until(() => texts(second).length === 2)
    expect(texts(second)).toEqual([`${SETTINGS} one q1 dup`, `${SETTINGS} two q1`])
  })

  it('that takes back its subscription gets no more', async () => {
    const made = await stage()
    const client = await terminal(made, 'SN-1', OWN, { clean: false })
    client.send({ cmd: 'unsubscribe', messageId: 8, unsubscriptions: ['down/north/SN-1/#'] } as Packet)
    await client.next('unsuback')
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'p', 1, 1))
    await sender.next('puback')
    expect([made.of('downlink.not_subscribed'), [...made.shelf.kept.values()].map(({ filters }) => filters.size)]).toEqual([1, [0]])
  })

  it('whose subscription cannot be stored is not promised it', async () => {
    const shelf = new Shelf()
    shelf.failure = new Error('the disk refuses')
    const made = await stage({ shelf })
    const client = await terminal(made, 'SN-1', [], { clean: false })
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'down/north/SN-1/#', qos: 1 }] })
    expect(((await client.next('suback')) as unknown as { granted: number[] }).granted).toEqual([128])
    expect(made.of('subscribe.refused')).toBe(1)
  })

  it('that leaves the registry, or its fleet, loses what waits for it', async () => {
    for (const change of [(machines: Map<string, unknown>) => machines.delete('SN-1'), (machines: Map<string, unknown>) => machines.set('SN-1', machine('SN-1', { fleet: 'south' as FleetId }))]) {
      const made = await stage()
      const client = await terminal(made, 'SN-1', OWN, { clean: false })
      client.destroy()
      await until(() => made.ingress.ingress.connections === 0)
      const sender = await recipient(made)
      sender.send(publishPacket(SETTINGS, 'p', 1, 1))
      await sender.next('puback')
      change(made.ingress.machines)
      made.ingress.ingress.recheck()
      expect([made.shelf.size, made.shelf.kept.size, made.of('downlink.dropped')]).toEqual([0, 0, 1])
    }
  })
})

describe('over a restart', () => {
  it('sessions and what waits for them are there, in order, and nothing that was acknowledged', async () => {
    const shelf = new Shelf()
    const before = await stage({ shelf })
    const client = await terminal(before, 'SN-1', OWN, { clean: false })
    const sender = await recipient(before)
    for (const id of [1, 2, 3]) sender.send(publishPacket(SETTINGS, `c${id}`, 1, id))
    await until(() => texts(client).length === 3)
    client.send({ cmd: 'puback', messageId: client.ids('publish')[0] ?? 0 } as Packet)
    await until(() => before.of('downlink.acknowledged') === 1)
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()

    const after = await stage({ shelf })
    const again = await recipient(after)
    again.send(publishPacket(SETTINGS, 'c4', 1, 1))
    await again.next('puback')
    const back = new RawClient(after.ingress.port)
    cleanups.push(() => back.destroy())
    back.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId: 'SN-1', keepalive: 0, username: 'SN-1' })
    // [MQTT-3.2.2-2]
    expect(await back.next('connack')).toMatchObject({ sessionPresent: true })
    await until(() => texts(back).length === 3)
    // Sent before under an id, so marked.
    expect(texts(back)).toEqual([`${SETTINGS} c2 q1 dup`, `${SETTINGS} c3 q1 dup`, `${SETTINGS} c4 q1`])
  })

  it('a machine that is in another fleet now gets nothing that was sent to it in the former', async () => {
    const key = clientKey('SN-3', 'SN-3')
    const left = (fleet: string): Shelf => {
      const shelf = new Shelf()
      shelf.kept.set(key, { machine: 'SN-3' as MachineId, filters: new Map([[`down/${fleet}/SN-3/#`, 1]]) })
      shelf.commands.set(key, new Map([[1, { place: 1, topic: `down/${fleet}/SN-3/settings/lights`, payload: Buffer.from('old'), expiresAtMs: Date.now() + 60_000, messageId: undefined }]]))
      return shelf
    }
    for (const [fleet, expected] of [['north', [[], 0, 1]], ['south', [['down/south/SN-3/settings/lights old q1'], 1, 0]]] as const) {
      const shelf = left(fleet)
      const ingress = await startIngress({ downlink: { rights: rights(), store: shelf }, directory: { machine: (id) => (id === 'SN-3' ? machine(id, { fleet: 'south' as FleetId }) : undefined), machineByCertificate: () => undefined } })
      cleanups.push(ingress.close)
      const client = new RawClient(ingress.port)
      cleanups.push(() => client.destroy())
      expect(await client.connect('SN-3', { clean: false })).toBe(0)
      await pause(30)
      expect([texts(client), shelf.size, ingress.of('downlink.dropped')]).toEqual(expected)
    }
  })

  it('what nobody may send any more is not sent', async () => {
    const shelf = new Shelf()
    shelf.kept.set(clientKey('SN-1', 'SN-1'), { machine: 'SN-1' as MachineId, filters: new Map(OWN) })
    shelf.commands.set(clientKey('SN-1', 'SN-1'), new Map([[1, { place: 1, topic: 'down/north/SN-1/firmware', payload: Buffer.from('old'), expiresAtMs: Date.now() + 60_000, messageId: undefined }]]))
    const made = await stage({ shelf })
    const client = await terminal(made, 'SN-1', [], { clean: false })
    await pause(30)
    expect([texts(client), shelf.size, made.of('downlink.dropped')]).toEqual([[], 0, 1])
  })
})

describe('bounds', () => {
  const command = (topic: string, more: Partial<Command> = {}): Command => ({ from: 'oem-cloud' as RecipientId, topic, payload: Buffer.from('12345'), qos: 1, retain: false, ...more })

  /** The function by itself, with as many sessions as named. */
  function desk(boxes: readonly string[], limits: object = {}, now = { ms: 0 }): { downlink: Downlink; send: (id: string, more?: Partial<Command>) => CommandResult | Error | undefined; counts: Map<string, number>; now: { ms: number } } {
    const counts = new Map<string, number>()
    const downlink = new Downlink({
      rights: rights(), machine: (id) => machine(id), clock: { now: () => now.ms, monotonic: () => now.ms }, limits: limits as never,
      count: (name, by = 1) => void counts.set(name, (counts.get(name) ?? 0) + by),
    })
    cleanups.push(() => downlink.stop())
    for (const id of boxes) downlink.open(`${id}/x`, id as MachineId, true, new Map([[`down/north/${id}/#`, 1]]))
    return {
      downlink, counts, now,
      send(id, more = {}) {
        let answer: CommandResult | Error | undefined
        downlink.downlink(id, command(`down/north/${id}/settings/x`, more), (result) => void (answer = result))
        return answer
      },
    }
  }

  it('of one machine: number and bytes', () => {
    const { send, counts } = desk(['SN-1', 'SN-2'], { machineCommands: 3 })
    expect([1, 2, 3, 4].map(() => send('SN-1'))).toEqual(['stored', 'stored', 'stored', 'full'])
    expect([send('SN-2'), counts.get('downlink.full')]).toEqual(['stored', 1])
    const size = 'down/north/SN-1/settings/x'.length + 5
    const bytes = desk(['SN-1'], { machineCommandBytes: size * 2 })
    expect([1, 2, 3].map(() => bytes.send('SN-1'))).toEqual(['stored', 'stored', 'full'])
  })

  it('of all: number and bytes', () => {
    const { send } = desk(['SN-1', 'SN-2'], { commands: 3 })
    expect([send('SN-1'), send('SN-2'), send('SN-1'), send('SN-2')]).toEqual(['stored', 'stored', 'stored', 'full'])
    const size = 'down/north/SN-1/settings/x'.length + 5
    const bytes = desk(['SN-1', 'SN-2'], { commandBytes: size + 3 })
    expect([bytes.send('SN-1'), bytes.send('SN-2')]).toEqual(['stored', 'full'])
  })

  it('a time to live: at its end a command is gone and counted, and makes room', () => {
    const { send, counts, now, downlink } = desk(['SN-1'], { machineCommands: 1 })
    expect([send('SN-1'), send('SN-1')]).toEqual(['stored', 'full'])
    now.ms = 59_999
    downlink.sweep()
    expect([send('SN-1'), downlink.size]).toEqual(['full', 1])
    now.ms = 60_000
    downlink.sweep()
    expect([downlink.size, counts.get('downlink.expired'), send('SN-1')]).toEqual([0, 1, 'stored'])
  })

  it('what has expired is not sent to a terminal that comes back between two looks', async () => {
    const now = { ms: Date.now() }
    const made = await stage({ clock: { now: () => now.ms, monotonic: () => performance.now() } })
    const client = await terminal(made, 'SN-1', OWN, { clean: false })
    client.destroy()
    await until(() => made.ingress.ingress.connections === 0)
    const sender = await recipient(made)
    sender.send(publishPacket(SETTINGS, 'old', 1, 1))
    await sender.next('puback')
    now.ms += 60_001
    sender.send(publishPacket(SETTINGS, 'new', 1, 2))
    await sender.next('puback')
    const back = await terminal(made, 'SN-1', [], { clean: false })
    await until(() => texts(back).length === 1)
    expect([texts(back), made.of('downlink.expired'), made.shelf.size]).toEqual([[`${SETTINGS} new q1`], 1, 1])
  })

  it('a bridge is held to what it was told to take', () => {
    const { send } = desk(['SN-1'])
    expect([send('SN-1', { within: ['down/+/+/settings/+'] }), send('SN-1', { within: ['down/+/+/clock'] }), send('SN-1', { within: [] })]).toEqual(['stored', 'not_allowed', 'not_allowed'])
  })

  it('the machine of the call and that of the topic are the same', () => {
    const { downlink } = desk(['SN-1', 'SN-2'])
    let answer: CommandResult | Error | undefined
    downlink.downlink('SN-2', command(SETTINGS), (result) => void (answer = result))
    expect(answer).toBe('not_allowed')
  })
})

describe('properties', () => {
  it('1,000 PUBLISHes of recipients, whatever their topics, never reach a machine outside of the list', async () => {
    const made = await stage({ rights: rights({ 'planner-co': right(['down/north/SN-1/message', 'down/south/+/a/+'], { qos: 1 }) }) })
    const ids = ['SN-1', 'SN-2', 'SN-3']
    const fleetOf: Record<string, string> = { 'SN-1': 'north', 'SN-2': 'north', 'SN-3': 'south' }
    const terminals = new Map<string, RawClient>()
    for (const id of ids) terminals.set(id, await terminal(made, id, [[`down/${fleetOf[id]}/${id}/#`, 1]]))
    const senders = new Map<string, RawClient>()
    const level = fc.constantFrom('down', 'up', 'out', 'ctl', 'north', 'south', ...ids, 'SN-404', 'settings', 'clock', 'message', 'a', 'b', '', '$SYS', 'ack', 'oem-cloud')
    const near = fc.tuple(fc.constant('down'), fc.constantFrom('north', 'south'), fc.constantFrom(...ids), fc.constantFrom('settings', 'settings', 'clock', 'message', 'a', 'firmware'), fc.option(level, { nil: undefined })).map((levels) => levels.filter((one) => one !== undefined))
    const topics = fc.oneof({ weight: 4, arbitrary: near }, { weight: 1, arbitrary: fc.array(level, { minLength: 1, maxLength: 6 }) }).map((levels) => levels.join('/')).filter((topic) => topic !== '')
    const lists: Record<string, RegExp> = { 'oem-cloud': /^down\/(?:[^/]+\/[^/]+\/settings(?:\/.*)?|north\/[^/]+\/clock)$/, 'planner-co': /^down\/(?:north\/SN-1\/message|south\/[^/]+\/a\/[^/]*)$/ }
    const expected = new Map(ids.map((id) => [id, [] as string[]]))
    let nth = 0
    const runs = Number(process.env['PARAPET_RUNS'] ?? 1_000)
    await fc.assert(fc.asyncProperty(fc.constantFrom('oem-cloud', 'planner-co'), topics, async (who, topic) => {
      let sender = senders.get(who)
      if (sender === undefined || sender.socket.destroyed) senders.set(who, (sender = await recipient(made, who)))
      const text = `m${++nth}`
      sender.send(publishPacket(topic, text, 1, (nth % 60_000) + 1))
      await Promise.race([sender.next('puback').catch(() => undefined), sender.closed])
      const [, fleet, id = ''] = topic.split('/')
      if (lists[who]?.test(topic) === true && fleetOf[id] === fleet) expected.get(id)?.push(`${topic} ${text} q1`)
      else expect(sender.socket.destroyed || lists[who]?.test(topic) === true || topic === `ctl/${who}/ack`).toBe(true)
    }), { numRuns: runs })
    const sum = [...expected.values()].reduce((all, { length }) => all + length, 0)
    await until(() => [...terminals.values()].reduce((all, client) => all + texts(client).length, 0) >= sum)
    await pause(30)
    for (const id of ids) expect(texts(terminals.get(id)!)).toEqual(expected.get(id))
    // Both kinds did occur, so that the rest means something.
    expect(sum).toBeGreaterThan(runs / 50)
    expect(made.of('kill.unauthorised')).toBeGreaterThan(runs / 50)
  }, 60_000)

  it('a terminal that comes and goes gets every command at least once, in order, and not again once it has acknowledged', async () => {
    const step = fc.oneof({ weight: 4, arbitrary: fc.constant('send' as const) }, { weight: 2, arbitrary: fc.constant('ack' as const) }, { weight: 1, arbitrary: fc.constant('drop' as const) }, { weight: 1, arbitrary: fc.constant('back' as const) })
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const made = await stage()
      const sender = await recipient(made)
      let client = await terminal(made, 'SN-1', OWN, { clean: false })
      const got: string[] = []
      const acknowledged = new Set<string>()
      let sent = 0
      const take = (): void => {
        for (const packet of client.packets.splice(0)) {
          if (packet.cmd !== 'publish') continue
          const text = String(packet.payload)
          expect(acknowledged.has(text)).toBe(false)
          got.push(text)
          lastIds.set(text, packet.messageId ?? 0)
        }
      }
      const lastIds = new Map<string, number>()
      const back = async (): Promise<void> => {
        client.destroy()
        await until(() => made.ingress.ingress.connections === 0)
        lastIds.clear()
        client = await terminal(made, 'SN-1', [], { clean: false })
      }
      for (const what of steps) {
        if (what === 'send') {
          sender.send(publishPacket(SETTINGS, `c${++sent}`, 1, sent))
          await sender.next('puback')
        } else if (what === 'drop') {
          take()
          client.destroy()
          await until(() => made.ingress.ingress.connections === 0)
          lastIds.clear()
        } else if (what === 'back') {
          take()
          await back()
        } else {
          take()
          const next = [...lastIds].find(([text]) => !acknowledged.has(text))
          if (next === undefined || client.socket.destroyed) continue
          const before = made.of('downlink.acknowledged')
          client.send({ cmd: 'puback', messageId: next[1] } as Packet)
          await until(() => made.of('downlink.acknowledged') > before)
          acknowledged.add(next[0])
        }
      }
      take()
      await back()
      const left = sent - acknowledged.size
      await until(() => client.packets.filter(({ cmd }) => cmd === 'publish').length >= left)
      await pause(10)
      const last = client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [String(packet.payload)] : []))
      expect(last).toEqual(Array.from({ length: sent }, (_, index) => `c${index + 1}`).filter((text) => !acknowledged.has(text)))
      for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
    }), { numRuns: Number(process.env['PARAPET_RUNS'] ?? 15) })
  }, 60_000)

  it('answers come in their turn', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 12 }).chain((length) => fc.shuffledSubarray(Array.from({ length }, (_, index) => index), { minLength: length })), (order) => {
      const turns = new Turns()
      const given: number[] = []
      const takers = order.map(() => turns.take())
      for (const index of order) takers[index]?.(() => void given.push(index))
      expect(given).toEqual(order.map((_, index) => index))
    }))
  })

  it('an address is what the topic says, or none', () => {
    expect(['down/f/m/x', 'down/f/m/', 'down/f/m', 'down//m/x', 'down/f//x', 'up/f/m/x', ''].map(addressOf)).toEqual([{ fleet: 'f', machine: 'm' }, { fleet: 'f', machine: 'm' }, undefined, undefined, undefined, undefined, undefined])
  })
})

describe('beside commands', () => {
  it('a recipient still gets its records, over the same connection', async () => {
    const made = await stage()
    const client = await recipient(made)
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'out/planning/+', qos: 1 }] })
    await client.next('suback')
    client.send(publishPacket('down/north/SN-2/settings/x', 'p', 1, 5))
    await client.next('puback')
    expect(await made.egress.publish(record('oem-cloud', 'out/planning/x', 'm'))).toBe(1)
    expect(await client.next('publish')).toMatchObject({ topic: 'out/planning/x' })
    made.egress.accounts.set('oem-cloud', account('oem-cloud', { credential: 'scrypt$1' }))
  })
})
