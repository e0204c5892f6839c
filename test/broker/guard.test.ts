import { connect as connectSocket, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Duplex } from 'node:stream'
import fc from 'fast-check'
import { generate, parser } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { describe, expect, it } from 'vitest'
import { GUARD_LIMITS, Guard, Watch } from '../../src/broker/guard.ts'
import type { GuardLimits, HeldBudget } from '../../src/broker/guard.ts'
import { Unacknowledged } from '../../src/broker/unacknowledged.ts'
import { RawClient, pause, publishPacket, record, startEgress, startIngress, until } from './stage.ts'

const CONNECT = generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: 'x', keepalive: 0, username: 'SN-1' })
const monotonic = (): number => performance.now()
const SHORT: Partial<GuardLimits> = { connectTimeMs: 250, packetTimeMs: 250 }

describe.concurrent('connections that are closed, and why', () => {
  it.each<[string, (client: RawClient) => unknown, Partial<GuardLimits>, string]>([
    ['HTTP', (client) => client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), {}, 'protocol'],
    ['TLS on the plain port', (client) => client.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00])), {}, 'malformed'],
    ['PINGREQ before CONNECT', (client) => client.write(Buffer.from([0xc0, 0])), {}, 'protocol'],
    ['CONNECT of 256 MiB', (client) => client.write(Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])), {}, 'connect_too_big'],
    ['CONNECT over the limit', (client) => client.write(Buffer.from([0x10, 0x80, 0x80, 0x02])), {}, 'connect_too_big'],
    ['a length of five bytes', (client) => client.write(Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x01])), {}, 'malformed'],
    ['nothing at all', () => undefined, SHORT, 'connect_late'],
    ['half a CONNECT', (client) => client.write(CONNECT.subarray(0, 9)), SHORT, 'connect_late'],
    ['a CONNECT byte by byte', async (client) => {
      for (const byte of CONNECT) {
        client.write(Buffer.from([byte]))
        await pause(25)
      }
    }, SHORT, 'connect_late'],
    ['half a PUBLISH', (client) => client.write(Buffer.concat([CONNECT, Buffer.from([0x30, 100, 0, 1, 0x61])])), SHORT, 'packet_too_slow'],
    ['a header without its length', (client) => client.write(Buffer.concat([CONNECT, Buffer.from([0x30])])), SHORT, 'packet_too_slow'],
    ['PUBLISH over the limit', (client) => client.write(Buffer.concat([CONNECT, Buffer.from([0x30, 0xff, 0xff, 0x7f])])), {}, 'packet_too_big'],
    ['a second CONNECT', (client) => client.write(Buffer.concat([CONNECT, CONNECT])), {}, 'protocol'],
    ['PUBLISH with QoS 3', (client) => client.write(Buffer.concat([CONNECT, Buffer.from([0x36, 5, 0, 1, 0x61, 0, 1])])), {}, 'malformed'],
    ['a topic of 40 levels', (client) => client.write(Buffer.concat([CONNECT, generate(publishPacket('a/'.repeat(40), 'x'))])), {}, 'topic'],
    ['1,000 PINGREQs in a moment', (client) => client.write(Buffer.concat([CONNECT, Buffer.alloc(2_000, Buffer.from([0xc0, 0]))])), { controlPerSecond: 500 }, 'rate'],
    ['silence past one and a half keep alives', async (client) => client.connect('SN-1', { keepalive: 1 }), {}, 'keepalive'],
  ])('%s', async (_what, act, limits, reason) => {
    await using stage = await startIngress({ limits })
    const { port, of, counts, lines } = stage
    using client = new RawClient(port)
    await act(client)
    await client.closed
    expect([...counts].filter(([name]) => name.startsWith('kill.'))).toEqual([[`kill.${reason}`, 1]])
    expect(of(`kill.${reason}`)).toBe(1)
    expect(lines).toContainEqual({ text: 'connection closed', fields: { listener: 'terminals', reason } })
  })

  it('a packet at the limit passes, in pieces of any size', async () => {
    await using stage = await startIngress({ limits: { packetBytes: 100_000 } })
    const { port, seen } = stage
    using client = new RawClient(port)
    await client.connect('SN-1')
    const payload = Buffer.alloc(100_000 - 4 - 2 - 1 - 2, 7)
    const bytes = generate(publishPacket('a', payload, 1, 9))
    expect(bytes.length).toBe(100_000)
    for (const [from, to] of [[0, 1], [1, 2], [2, 4], [4, 5_000], [5_000, 5_001], [5_001, 99_999], [99_999, 100_000]]) {
      client.write(bytes.subarray(from, to))
      await pause(3)
    }
    await client.next('puback')
    expect(payload.equals(seen[0]!.payload)).toBe(true)
  })

  it('a peer that does not read is closed', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
    const reasons: string[] = []
    const made = new Promise<Guard<unknown>>((resolve) => {
      server.once('connection', (socket) => resolve(guardOn(socket, { drainTimeMs: 200 }, reasons)))
    })
    const peer = connectSocket((server.address() as AddressInfo).port, '127.0.0.1').pause()
    const guard = await made
    while (guard.unwritten < 500_000) {
      guard.write(Buffer.alloc(100_000))
      await pause(0)
    }
    await until(() => guard.destroyed)
    peer.destroy()
    server.close()
    expect(reasons).toEqual(['slow_reader'])
  })
})

describe('a first answer', () => {
  it('that is still on its way at the first look is no sign of a peer that does not read', async () => {
    const reasons: string[] = []
    // TLS takes its time with every write; so does a full machine.
    const slow = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => void setTimeout(done, 120) })
    const guard = guardOn(slow, { drainTimeMs: 300, connectTimeMs: 400 }, reasons)
    guard.write(Buffer.from([0x20, 2, 0, 0]))
    await pause(300)
    expect(reasons).toEqual([])
    guard.destroy()
  })
})

describe('acknowledgements', () => {
  const [puback, pubrec, pubcomp] = [4, 5, 7]
  const out = (qos: 0 | 1 | 2, id: number, size = 3) => generate(publishPacket('out/a', Buffer.alloc(size), qos, id))
  const pubrel = (id: number) => generate({ cmd: 'pubrel', messageId: id })

  it.each<[string, string, Buffer[], number, boolean]>([
    ['PUBACK for QoS 1', 'MQTT-4.3.2-2', [out(1, 7)], puback, true],
    ['PUBREC for QoS 1', 'MQTT-4.3.2-2', [out(1, 7)], pubrec, false],
    ['PUBCOMP for QoS 1', 'MQTT-4.3.2-2', [out(1, 7)], pubcomp, false],
    ['PUBREC for QoS 2', 'MQTT-4.3.3-2', [out(2, 7)], pubrec, true],
    ['PUBACK for QoS 2', 'MQTT-4.3.3-2', [out(2, 7)], puback, false],
    ['PUBCOMP for QoS 2 before PUBREL', 'MQTT-4.3.3-1', [out(2, 7)], pubcomp, false],
    ['PUBCOMP for PUBREL', 'MQTT-4.3.3-2', [out(2, 7), pubrel(7)], pubcomp, true],
    ['PUBREC once more after PUBREL', 'MQTT-4.3.3-1', [out(2, 7), pubrel(7)], pubrec, true],
    ['PUBACK for PUBREL', 'MQTT-4.3.3-2', [out(2, 7), pubrel(7)], puback, false],
    ['PUBCOMP for the PUBREL of an earlier connection', 'MQTT-4.4.0-1', [pubrel(7)], pubcomp, true],
    ['PUBREC under an id that waits for nothing', '4.8', [out(1, 8), out(0, 0)], pubrec, true],
    ['PUBREC for QoS 1, behind a long message', 'MQTT-4.3.2-2', [out(0, 0, 20_000), out(1, 7, 300)], pubrec, false],
  ])('%s (%s)', (_what, _clause, sent, type, expected) => {
    const unacknowledged = new Unacknowledged()
    for (const bytes of sent) unacknowledged.left(bytes)
    expect(unacknowledged.answers(type, 7)).toBe(expected)
  })

  it('what is due does not depend on how the bytes were cut', () => {
    const packet = fc.oneof(
      fc.record({ qos: fc.constantFrom<0 | 1 | 2>(0, 1, 2), id: fc.integer({ min: 1, max: 9 }), size: fc.constantFrom(0, 1, 117, 118, 130, 17_000) }).map(({ qos, id, size }) => out(qos, id, size)),
      fc.integer({ min: 1, max: 9 }).map(pubrel),
      fc.constantFrom<Packet>({ cmd: 'pingresp' }, { cmd: 'puback', messageId: 3 }, { cmd: 'suback', messageId: 3, granted: [1] }).map((other) => generate(other)),
    )
    fc.assert(fc.property(fc.array(packet, { maxLength: 12 }), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 }), (sent, cuts) => {
      const [whole, cut] = [new Unacknowledged(), new Unacknowledged()]
      for (const bytes of sent) whole.left(bytes)
      const all = Buffer.concat(sent)
      for (let at = 0, turn = 0; at < all.length; turn++) {
        const size = turn % 5 === 4 ? 5_000 : cuts[turn % cuts.length]!
        cut.left(all.subarray(at, at + size))
        at += size
      }
      for (let id = 1; id <= 9; id++) {
        // The one that is due is taken out by it: asked last.
        const asked = [pubrec, pubcomp, puback].map((type) => [whole.answers(type, id), cut.answers(type, id)])
        expect(asked.map(([one]) => one)).toEqual(asked.map(([, other]) => other))
      }
    }), { numRuns: 200 })
  })

  it.each<[1 | 2, Packet['cmd']]>([[1, 'pubrec'], [1, 'pubcomp'], [2, 'puback'], [2, 'pubcomp']])('QoS %i: %s ends the connection of a recipient [MQTT-4.8.0-1]', async (qos, cmd) => {
    const stage = await startEgress()
    using client = new RawClient(stage.port)
    await client.connect('planner-co')
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'out/planning/+', qos }] })
    await client.next('suback')
    void stage.publish(record('planner-co', 'out/planning/m1', 'x', { qos }))
    const { messageId } = await client.next('publish')
    client.send({ cmd, messageId } as Packet)
    await client.closed
    expect(stage.of('kill.protocol')).toBe(1)
    await stage.close()
  })
})

describe('writing', () => {
  it('what the engine delivers in one turn of the loop, each from an immediate of its own, leaves in one write', async () => {
    const writes: string[] = []
    const socket = new Duplex({
      read: () => undefined,
      write(chunk: Buffer, _encoding, done) {
        writes.push(String(chunk))
        done()
      },
    })
    const guard = guardOn(socket as ConstructorParameters<typeof Guard>[0], {}, [])
    for (const word of ['one ', 'two ', 'three ']) setImmediate(() => guard.write(word))
    await pause(20)
    expect(writes).toEqual(['one two three '])
    guard.destroy()
  })
})

describe('memory', () => {
  it('announcing much costs no memory', async () => {
    await using stage = await startIngress()
    const { port } = stage
    const clients = await Promise.all(Array.from({ length: 8 }, async () => {
      const client = new RawClient(port)
      await client.connect('SN-1', { clientId: String(Math.random()) })
      return client
    }))
    const before = process.memoryUsage().arrayBuffers
    for (const client of clients) client.write(Buffer.from([0x30, 0xf0, 0xff, 0x0f, 0, 1, 0x61]))
    await pause(50)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000)
    for (const client of clients) client.destroy()
  })
})

function guardOn(socket: ConstructorParameters<typeof Guard>[0], limits: Partial<GuardLimits>, reasons: string[], budget: HeldBudget = { used: 0, max: 1e9 }): Guard<unknown> {
  const all = { ...GUARD_LIMITS, messagesPerSecond: Infinity, controlPerSecond: Infinity, ...limits }
  const watch = new Watch(all, monotonic)
  return new Guard(socket, { limits: all, watch, budget, monotonic, onKill: (reason) => void reasons.push(reason) })
}

/** Commits that happen when the test says so. */
function stalledOutbox() {
  const waiting: ((error: Error | undefined) => void)[] = []
  return {
    committed: (callback: (error: Error | undefined) => void): void => void waiting.push(callback),
    commit: (error?: Error): void => {
      for (const callback of waiting.splice(0)) callback(error)
    },
  }
}

describe.concurrent('back-pressure', () => {
  it.each([1, 2] as const)('QoS %i: no more than so many unanswered, PINGREQ is answered meanwhile, nothing is lost', async (qos) => {
    const outbox = stalledOutbox()
    await using stage = await startIngress({ committed: outbox.committed, limits: { unanswered: 16 } })
    const { port, seen } = stage
    using client = new RawClient(port)
    await client.connect('SN-1', { keepalive: 1 })
    const total = 500
    client.send(...Array.from({ length: total }, (_, index) => publishPacket('up/north/SN-1/status', `m${index}`, qos, index + 1)))
    // QoS 1: past the second at which the keep alive would end the connection.
    for (let round = 0; round < (qos === 1 ? 3 : 1); round++) {
      await pause(600)
      client.send({ cmd: 'pingreq' })
      await client.next('pingresp', 500)
      expect(seen.length).toBe(16)
      expect(client.ids(qos === 1 ? 'puback' : 'pubrec')).toEqual([])
    }
    const working = setInterval(() => outbox.commit(), 1)
    await until(() => client.ids(qos === 1 ? 'puback' : 'pubrec').length === total)
    clearInterval(working)
    expect(seen.map(({ payload }) => String(payload))).toEqual(Array.from({ length: total }, (_, index) => `m${index}`))
    expect(client.ids(qos === 1 ? 'puback' : 'pubrec')).toEqual(Array.from({ length: total }, (_, index) => index + 1))
  }, 20_000)

  it('holds with one packet per segment, too', async () => {
    const outbox = stalledOutbox()
    await using stage = await startIngress({ committed: outbox.committed, limits: { unanswered: 8 } })
    const { port, seen } = stage
    using client = new RawClient(port)
    client.socket.setNoDelay(true)
    await client.connect('SN-1')
    for (let index = 1; index <= 60; index++) {
      client.send(publishPacket('a', String(index), 1, index))
      await pause(1)
    }
    await pause(20)
    expect(seen.length).toBe(8)
    const working = setInterval(() => outbox.commit(), 1)
    await until(() => seen.length === 60)
    clearInterval(working)
  })

  it('leaves the socket unread past its bound, does not take that for silence, and loses nothing', async () => {
    const outbox = stalledOutbox()
    await using stage = await startIngress({ committed: outbox.committed, limits: { unanswered: 4, heldBytes: 50_000 } })
    const { port, seen, of } = stage
    using client = new RawClient(port)
    await client.connect('SN-1', { keepalive: 1 })
    const total = 600
    // 6 MB do not fit into what is held and the kernel's buffers together.
    client.send(...Array.from({ length: total }, (_, index) => publishPacket('a', Buffer.alloc(10_000, index), 1, index + 1)))
    await pause(1_900)
    expect([seen.length, of('kill.keepalive')]).toEqual([4, 0])
    const working = setInterval(() => outbox.commit(), 1)
    await until(() => client.ids('puback').length === total, 10_000)
    clearInterval(working)
    expect(seen.every(({ payload }, index) => payload.length === 10_000 && payload[0] === index % 256)).toBe(true)
  }, 20_000)

  it('DISCONNECT and the end of the stream wait behind held messages', async () => {
    await using stage = await startIngress({ limits: { messagesPerSecond: 100 } })
    const { port, seen } = stage
    using client = new RawClient(port)
    await client.connect('SN-1')
    client.send(...Array.from({ length: 120 }, (_, index) => publishPacket('a', String(index))), { cmd: 'disconnect' })
    client.socket.end()
    await client.closed
    expect(seen.length).toBe(120)
  })

  it('messages sent together with CONNECT wait for CONNACK, however many', async () => {
    await using stage = await startIngress()
    const { port, seen } = stage
    using client = new RawClient(port)
    client.write(Buffer.concat([CONNECT, ...Array.from({ length: 90 }, (_, index) => generate(publishPacket('a', String(index)))), generate({ cmd: 'disconnect' })]))
    await client.closed
    expect(seen.map(({ payload }) => Number(String(payload)))).toEqual(Array.from({ length: 90 }, (_, index) => index))
  })

  it('slows a terminal that sends too fast, and does not cut it', async () => {
    await using stage = await startIngress({ limits: { messagesPerSecond: 200 } })
    const { port, seen, counts } = stage
    using client = new RawClient(port)
    await client.connect('SN-1')
    const from = performance.now()
    client.send(...Array.from({ length: 300 }, (_, index) => publishPacket('a', 'x', 1, index + 1)))
    await until(() => client.ids('puback').length === 300)
    // 200 at once, the other 100 at 200 a second.
    expect(performance.now() - from).toBeGreaterThan(300)
    expect([seen.length, [...counts.keys()].filter((name) => name.startsWith('kill.'))]).toEqual([300, []])
  })

  it('all connections together hold no more than the budget', async () => {
    const outbox = stalledOutbox()
    await using stage = await startIngress({ committed: outbox.committed, limits: { unanswered: 1 }, heldBytesAll: 100_000 })
    const { port, seen } = stage
    const clients = await Promise.all(Array.from({ length: 4 }, async (_, index) => {
      const client = new RawClient(port)
      await client.connect('SN-1', { clientId: `c${index}` })
      client.send(...Array.from({ length: 100 }, (_each, number) => publishPacket('a', Buffer.alloc(10_000), 1, number + 1)))
      return client
    }))
    const working = setInterval(() => outbox.commit(), 1)
    await until(() => clients.every((client) => client.ids('puback').length === 100), 15_000)
    clearInterval(working)
    expect(seen.length).toBe(400)
    for (const client of clients) client.destroy()
  }, 20_000)
})

describe('what the engine reads', () => {
  const topic = fc.constantFrom('a', 'a/b', 'ü/x')
  const packets: fc.Arbitrary<Packet> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ topic, size: fc.nat(300), qos: fc.constantFrom<0 | 1 | 2>(0, 1, 2), id: fc.integer({ min: 1, max: 999 }) }).map(({ topic: name, size, qos, id }) => publishPacket(name, Buffer.alloc(size, 1), qos, id)) },
    { weight: 1, arbitrary: fc.constantFrom<Packet>({ cmd: 'pingreq' }, { cmd: 'pubrel', messageId: 5 }, { cmd: 'unsubscribe', messageId: 6, unsubscriptions: ['x'] }) },
  )

  it('is every packet, whole and in order, however the bytes are cut and however slowly they are answered', async () => {
    await fc.assert(fc.asyncProperty(fc.array(packets, { maxLength: 40 }), fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 5 }), async (given, cuts, window) => {
      const { PassThrough } = await import('node:stream')
      const socket = new PassThrough()
      const reasons: string[] = []
      const budget: HeldBudget = { used: 0, max: 1e9 }
      const guard = guardOn(socket, { unanswered: window }, reasons, budget)
      const read = parser({ protocolVersion: 4 })
      const publishes: Packet[] = []
      const others: Packet[] = []
      let most = 0
      read.on('packet', (packet) => {
        if (packet.cmd === 'connect') guard.open()
        else (packet.cmd === 'publish' ? publishes : others).push(packet)
        most = Math.max(most, guard.unanswered)
        // The engine asks from within its parser, which cannot take more just then.
        expect(guard.read()).toBeNull()
      })
      guard.on('readable', () => {
        const chunk = guard.read()
        // Only whole packets are handed over: the parser keeps nothing.
        if (chunk !== null) expect(read.parse(chunk)).toBe(0)
      })
      const bytes = Buffer.concat([CONNECT, ...given.map((packet) => generate(packet))])
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = cuts[turn % cuts.length]!
        socket.emit('data', bytes.subarray(at, at + size))
        at += size
        if (turn % 3 === 0) await Promise.resolve()
      }
      for (let patience = 0; patience < 1_000 && (patience === 0 || guard.unanswered > 0 || guard.held > 0); patience++) {
        await Promise.resolve()
        guard.answered(Math.min(1, guard.unanswered))
      }
      await new Promise(setImmediate)
      const of = (list: readonly Packet[]) => list.map((packet) => generate(packet).toString('hex'))
      expect(reasons).toEqual([])
      expect(of(publishes)).toEqual(of(given.filter(({ cmd }) => cmd === 'publish')))
      expect(of(others)).toEqual(of(given.filter(({ cmd }) => cmd !== 'publish')))
      expect(most).toBeLessThanOrEqual(window)
      expect([guard.held, budget.used]).toEqual([0, 0])
      guard.destroy()
    }), { numRuns: 200 })
  })
})
