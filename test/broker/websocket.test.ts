/**
 * MQTT over WebSocket [MQTT 3.1.1, 6]: the recipients' broker behind it is the one of the bare sockets, so only what is different is looked
 * at here. The other side is mqtt.js where a client does what clients do, and bytes written by hand where none would.
 */
import { connect as connectSocket } from 'node:net'
import type { Socket } from 'node:net'
import { createHash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { generate, parser } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { afterEach, describe, expect, it } from 'vitest'
import { listen } from '../../src/broker/listener.ts'
import { createWeb } from '../../src/broker/websocket.ts'
import type { WebOptions } from '../../src/broker/websocket.ts'
import { makeCertificate } from './certificates.ts'
import { pause, record, startEgress, until } from './stage.ts'
import type { EgressStage } from './stage.ts'

interface WebStage extends EgressStage {
  readonly web: number
}

const cleanups: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

async function stage(options: Partial<WebOptions> = {}, overrides: Parameters<typeof startEgress>[0] = {}): Promise<WebStage> {
  const egress = await startEgress(overrides)
  const web = createWeb({ accept: egress.egress.accept, count: egress.count, ...options })
  const listener = await listen({ name: 'recipients_ws', host: '127.0.0.1', port: 0, accept: web.accept, count: egress.count, log: egress.log })
  cleanups.push(async () => {
    web.close()
    await Promise.all([listener.close(500), egress.close()])
  })
  return { ...egress, web: listener.port }
}

async function mqttClient(port: number, path = ''): Promise<MqttClient> {
  const made = await connectAsync(`ws://127.0.0.1:${port}${path}`, { protocolVersion: 4, reconnectPeriod: 0, username: 'planner-co', clientId: 'browser', connectTimeout: 5_000 })
  cleanups.push(() => made.endAsync(true))
  return made
}

const PLANNING = 'out/planning/q8Zk'

/** [RFC 6455, 4.1] The client's side of the handshake, by hand. */
async function handshake(port: number, headers: Readonly<Record<string, string>> = {}, line = 'GET / HTTP/1.1'): Promise<{ socket: Socket; status: string; head: string; key: string }> {
  const socket = connectSocket({ host: '127.0.0.1', port })
  cleanups.push(() => void socket.destroy())
  socket.on('error', () => undefined)
  const key = randomBytes(16).toString('base64')
  const all: Record<string, string> = {
    Host: 'localhost', Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key, 'Sec-WebSocket-Protocol': 'mqtt', ...headers,
  }
  socket.write(`${line}\r\n${Object.entries(all).filter(([, value]) => value !== '').map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`)
  let head = ''
  await new Promise<void>((resolve) => {
    const take = (chunk: Buffer): void => {
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      socket.off('data', take)
      resolve()
    }
    socket.on('data', take)
    socket.once('close', () => resolve())
  })
  return { socket, status: head.split('\r\n', 1)[0] ?? '', head, key }
}

/** [RFC 6455, 5.2] One masked frame of a client. */
function frame(payload: Buffer, { opcode = 2, fin = true }: { readonly opcode?: number; readonly fin?: boolean } = {}): Buffer {
  const mask = randomBytes(4)
  const length = payload.length < 126 ? Buffer.from([0x80 | payload.length]) : payload.length < 65_536 ? Buffer.from([0xfe, payload.length >> 8, payload.length & 255]) : undefined
  const size = length ?? Buffer.concat([Buffer.from([0xff, 0, 0, 0, 0]), Buffer.from([payload.length >>> 24, (payload.length >> 16) & 255, (payload.length >> 8) & 255, payload.length & 255])])
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | opcode]), size, mask, payload.map((byte, at) => byte ^ mask[at & 3]!)])
}

/** Packets out of the unmasked frames of the server, wherever frames end; frames that are no data by their opcode. */
function reader(socket: Socket): { readonly packets: Packet[]; readonly others: number[]; readonly opcodes: Set<number>; readonly closed: Promise<void> } {
  const packets: Packet[] = []
  const others: number[] = []
  const opcodes = new Set<number>()
  const read = parser({ protocolVersion: 4 })
  read.on('packet', (packet) => void packets.push(packet))
  let bytes = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    for (;;) {
      if (bytes.length < 2) return
      let [size, from] = [bytes[1]! & 0x7f, 2]
      if (size === 126) [size, from] = [bytes.length < 4 ? Infinity : bytes.readUInt16BE(2), 4]
      else if (size === 127) [size, from] = [bytes.length < 10 ? Infinity : Number(bytes.readBigUInt64BE(2)), 10]
      if (bytes.length < from + size) return
      const opcode = bytes[0]! & 15
      if (opcode === 0 || opcode === 2) read.parse(bytes.subarray(from, from + size))
      else others.push(opcode)
      opcodes.add(opcode)
      bytes = bytes.subarray(from + size)
    }
  })
  return { packets, others, opcodes, closed: new Promise((resolve) => void socket.once('close', () => resolve())) }
}

const CONNECT = generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: 'page', keepalive: 0, username: 'planner-co' })
const SUBSCRIBE = generate({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic: 'out/planning/+', qos: 1 }] })

describe('mqtt.js over ws://', () => {
  it.each(['', '/', '/mqtt', '/mqtt?room=2'])('subscribes and receives on path "%s"', async (path) => {
    const { web, publish } = await stage()
    const client = await mqttClient(web, path)
    const got: string[] = []
    client.on('message', (topic, payload) => void got.push(`${topic} ${String(payload)}`))
    expect(await client.subscribeAsync('out/planning/+', { qos: 1 })).toMatchObject([{ qos: 1 }])
    for (const qos of [0, 1] as const) await publish(record('planner-co', PLANNING, `at ${qos}`, { qos }))
    await until(() => got.length === 2)
    expect(got).toEqual([`${PLANNING} at 0`, `${PLANNING} at 1`])
  })

  it('keeps its session over connections of either kind', async () => {
    const { web, port, publish } = await stage()
    const options = { protocolVersion: 4, reconnectPeriod: 0, username: 'planner-co', clientId: 'office', clean: false } as const
    const first = await connectAsync(`ws://127.0.0.1:${web}`, options)
    await first.subscribeAsync('out/planning/+', { qos: 1 })
    await first.endAsync()
    await pause(50)
    await publish(record('planner-co', PLANNING, 'while away'))
    const got: string[] = []
    const second = await connectAsync(`mqtt://127.0.0.1:${port}`, options, false).then((client) => client.on('message', (_topic, payload) => void got.push(String(payload))))
    cleanups.push(() => second.endAsync(true))
    await until(() => got.length === 1)
    expect(got).toEqual(['while away'])
  })

  it('a megabyte arrives whole', async () => {
    const { web, publish } = await stage()
    const client = await mqttClient(web)
    const body = randomBytes(1_000_000)
    const arrived = new Promise<Buffer>((resolve) => void client.once('message', (_topic, payload) => resolve(payload)))
    await client.subscribeAsync('out/planning/+', { qos: 1 })
    await publish(record('planner-co', PLANNING, body))
    expect((await arrived).equals(body)).toBe(true)
  })

  it('a wrong password is a CONNACK, as on a bare socket', async () => {
    const { web, of } = await stage()
    await expect(connectAsync(`ws://127.0.0.1:${web}`, { protocolVersion: 4, reconnectPeriod: 0, username: 'nobody-gmbh', clientId: 'x' }, false)).rejects.toThrow('Not authorized')
    expect(of('connect.refused')).toBe(1)
  })
})

describe('wss://', () => {
  const ca = makeCertificate({ names: ['Trial CA'], ca: true })
  const server = makeCertificate({ names: ['gateway'], issuer: ca, ip: [127, 0, 0, 1] })

  async function secured(): Promise<EgressStage & { readonly web: number }> {
    const egress = await startEgress()
    const web = createWeb({ accept: egress.egress.accept, count: egress.count })
    const listener = await listen({ name: 'recipients_ws', host: '127.0.0.1', port: 0, tls: { cert: server.cert, key: server.key, ca: ca.cert }, accept: web.accept, count: egress.count, log: egress.log })
    cleanups.push(async () => {
      web.close()
      await Promise.all([listener.close(500), egress.close()])
    })
    return { ...egress, web: listener.port }
  }

  it('the certificate says who it is, whatever the user name says', async () => {
    const { web, publish } = await secured()
    const mine = makeCertificate({ names: ['planner-co'], issuer: ca })
    const client = await connectAsync(`wss://127.0.0.1:${web}`, { protocolVersion: 4, reconnectPeriod: 0, username: 'oem-cloud', clientId: 'x', ca: ca.cert, cert: mine.cert, key: mine.key })
    cleanups.push(() => client.endAsync(true))
    const arrived = new Promise<string>((resolve) => void client.once('message', (_topic, payload) => resolve(String(payload))))
    await client.subscribeAsync('out/planning/+', { qos: 1 })
    await publish(record('planner-co', PLANNING, 'm'))
    expect(await arrived).toBe('m')
  })

  it('nobody comes in without one, and nobody on a listener without TLS that others can reach', async () => {
    const { web, of } = await secured()
    await expect(connectAsync(`wss://127.0.0.1:${web}`, { protocolVersion: 4, reconnectPeriod: 0, username: 'planner-co', clientId: 'x', ca: ca.cert, connectTimeout: 3_000 }, false)).rejects.toThrow()
    expect(of('connection')).toBe(0)
    const { count, log } = await startEgress().then((egress) => {
      cleanups.push(egress.close)
      return egress
    })
    await expect(listen({ name: 'recipients_ws', host: '0.0.0.0', port: 0, accept: () => undefined, count, log })).rejects.toThrow('without TLS')
  })
})

describe('the handshake', () => {
  it('names the subprotocol [MQTT-6.0.0-4]', async () => {
    const { web } = await stage()
    const { status, head, key } = await handshake(web, { 'Sec-WebSocket-Protocol': 'chat, mqtt' })
    expect(status).toBe('HTTP/1.1 101 Switching Protocols')
    expect(head).toMatch(/^Sec-WebSocket-Protocol: mqtt\r$/m)
    expect(head).toContain(createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'))
  })

  it.each<[string, Record<string, string>, string, string]>([
    ['a plain HTTP request', { Connection: '', Upgrade: '' }, 'GET / HTTP/1.1', 'HTTP/1.1 426 Upgrade Required'],
    ['a POST', { Connection: '', Upgrade: '' }, 'POST / HTTP/1.1', 'HTTP/1.1 426 Upgrade Required'],
    ['another path', {}, 'GET /admin HTTP/1.1', 'HTTP/1.1 404 Not Found'],
    ['no subprotocol [MQTT-6.0.0-3]', { 'Sec-WebSocket-Protocol': '' }, 'GET / HTTP/1.1', 'HTTP/1.1 400 Bad Request'],
    ['another subprotocol', { 'Sec-WebSocket-Protocol': 'chat' }, 'GET / HTTP/1.1', 'HTTP/1.1 400 Bad Request'],
    ['MQTT 3.1 by its own name', { 'Sec-WebSocket-Protocol': 'mqttv3.1' }, 'GET / HTTP/1.1', 'HTTP/1.1 400 Bad Request'],
    ['an upgrade to something else', { Upgrade: 'h2c' }, 'GET / HTTP/1.1', 'HTTP/1.1 400 Bad Request'],
    ['no key', { 'Sec-WebSocket-Key': '' }, 'GET / HTTP/1.1', 'HTTP/1.1 400 Bad Request'],
    ['an old version', { 'Sec-WebSocket-Version': '7' }, 'GET / HTTP/1.1', 'HTTP/1.1 400 Bad Request'],
    ['a page of somebody\'s', { Origin: 'https://evil.example' }, 'GET / HTTP/1.1', 'HTTP/1.1 403 Forbidden'],
    ['a page without an origin of its own', { Origin: 'null' }, 'GET / HTTP/1.1', 'HTTP/1.1 403 Forbidden'],
    ['a page whose name begins like the right one', { Origin: 'https://planner.example.com.evil.example' }, 'GET / HTTP/1.1', 'HTTP/1.1 403 Forbidden'],
  ])('%s is refused', async (_what, headers, line, expected) => {
    const { web, of } = await stage({ origins: ['https://planner.example.com'] })
    const { socket, status } = await handshake(web, headers, line)
    expect(status).toBe(expected)
    expect([of('connect.refused'), of('connection')]).toEqual([1, 0])
    await until(() => socket.destroyed)
  })

  it('a page that the gateway file names is let in; by default none is', async () => {
    const { web } = await stage({ origins: ['https://planner.example.com'] })
    expect((await handshake(web, { Origin: 'https://planner.example.com' })).status).toContain('101')
    expect((await handshake((await stage()).web, { Origin: 'https://planner.example.com' })).status).toContain('403')
  })

  it.each<[string, string]>([['bytes that are no HTTP', '\u0010\u0010\u0000\u0004MQTT\u0004\u0002'], ['headers without end', `GET / HTTP/1.1\r\nX: ${'a'.repeat(20_000)}`]])('%s end the connection', async (_what, text) => {
    const { web, of } = await stage()
    const socket = connectSocket({ host: '127.0.0.1', port: web })
    socket.on('error', () => undefined)
    socket.write(text, 'latin1')
    await until(() => socket.destroyed)
    expect(of('connection')).toBe(0)
  })

  it('who says nothing is cut off', async () => {
    const { web, of } = await stage({ requestTimeMs: 100 })
    const socket = connectSocket({ host: '127.0.0.1', port: web })
    socket.resume().on('error', () => undefined)
    await until(() => socket.destroyed)
    expect(of('kill.connect_late')).toBe(1)
  })

  it('nor may a connection wait with its CONNECT once it is a WebSocket', async () => {
    const { web, of } = await stage({}, { limits: { connectTimeMs: 150 } })
    const { socket } = await handshake(web)
    socket.resume()
    await until(() => socket.destroyed)
    expect(of('kill.connect_late')).toBe(1)
  })
})

describe('frames', () => {
  it('packets may lie across frames and several in one, whatever the cut [MQTT-6.0.0-2]', async () => {
    const { web, publish } = await stage()
    const bytes = Buffer.concat([CONNECT, SUBSCRIBE, generate({ cmd: 'pingreq' })])
    await fc.assert(fc.asyncProperty(fc.array(fc.record({ size: fc.integer({ min: 0, max: 40 }), continued: fc.boolean() }), { maxLength: 12 }), async (cuts) => {
      const { socket } = await handshake(web)
      const { packets, opcodes } = reader(socket)
      let at = 0
      let isOpen = false
      for (const { size, continued } of [...cuts, { size: Infinity, continued: false }]) {
        const to = Math.min(bytes.length, at + size)
        socket.write(frame(bytes.subarray(at, to), { opcode: isOpen ? 0 : 2, fin: !continued }))
        isOpen = continued
        at = to
      }
      await until(() => packets.length >= 3)
      await publish(record('planner-co', PLANNING, 'm'))
      await until(() => packets.length >= 4)
      expect(packets.map(({ cmd }) => cmd).toSorted()).toEqual(['connack', 'pingresp', 'publish', 'suback'])
      // [MQTT-6.0.0-1]
      expect([...opcodes]).toEqual([2])
      socket.destroy()
    }), { numRuns: Number(process.env['PARAPET_RUNS'] ?? 25) })
  })

  it.each<[string, Buffer, string]>([
    ['a text frame [MQTT-6.0.0-1]', frame(CONNECT, { opcode: 1 }), 'kill.protocol'],
    ['a frame larger than a packet may be', frame(Buffer.alloc(70_000)), 'kill.packet_too_big'],
    ['a message of several frames that is', Buffer.concat([frame(Buffer.alloc(40_000), { fin: false }), frame(Buffer.alloc(40_000), { opcode: 0 })]), 'kill.packet_too_big'],
    ['a message of more frames than anybody needs, though they are empty', Buffer.concat([frame(Buffer.alloc(0), { fin: false }), ...Array.from({ length: 1_100 }, () => frame(Buffer.alloc(0), { opcode: 0, fin: false }))]), 'kill.malformed'],
    ['a frame that is not masked', Buffer.concat([Buffer.from([0x82, CONNECT.length]), CONNECT]), 'kill.malformed'],
    ['an opcode that does not exist', frame(CONNECT, { opcode: 5 }), 'kill.malformed'],
    ['bytes that are no MQTT', frame(Buffer.from('GET / HTTP/1.1')), 'kill.protocol'],
    ['a CONNECT of more than 16 KiB', frame(Buffer.concat([Buffer.from([0x10, 0xff, 0xff, 0x02]), Buffer.alloc(60_000)])), 'kill.connect_too_big'],
  ])('%s ends the connection', async (_what, bytes, reason) => {
    const { web, of } = await stage({ messageBytes: 65_536 })
    const { socket } = await handshake(web)
    socket.resume().write(bytes)
    await until(() => socket.destroyed)
    expect([reason, of(reason)]).toEqual([reason, 1])
  })

  it('a message that does not come to its end in time ends the connection', async () => {
    const { web, of } = await stage({ messageTimeMs: 100 })
    const { socket } = await handshake(web)
    const { packets } = reader(socket)
    socket.write(frame(CONNECT))
    await until(() => packets.length === 1)
    // Whoever is merely quiet stays.
    await pause(250)
    expect(socket.destroyed).toBe(false)
    socket.write(frame(SUBSCRIBE).subarray(0, 5))
    await until(() => socket.destroyed)
    expect(of('kill.packet_too_slow')).toBe(1)
  })

  it('who does not answer pings is cut off, who does stays', async () => {
    const { web, of } = await stage({ pingMs: 60 })
    const client = await mqttClient(web)
    const { socket } = await handshake(web)
    const { packets, others } = reader(socket)
    socket.write(frame(Buffer.concat([CONNECT])))
    await until(() => packets.length === 1)
    await until(() => socket.destroyed)
    expect(others).toContain(9)
    await pause(200)
    expect([of('kill.keepalive'), client.connected]).toEqual([1, true])
  })

  it('a recipient that does not read is cut off, and nobody waits for it', async () => {
    const { web, of, egress, publish } = await stage({}, { limits: { drainTimeMs: 300, unwrittenBytes: 8_388_608 } })
    const { socket } = await handshake(web)
    const { packets } = reader(socket)
    socket.write(frame(Buffer.concat([CONNECT, SUBSCRIBE])))
    await until(() => packets.length === 2)
    socket.pause()
    for (let sent = 0; sent < 60 && of('kill.slow_reader') === 0; sent++) {
      egress.publish(record('planner-co', PLANNING, Buffer.alloc(200_000)), () => undefined)
      await pause(20)
    }
    await until(() => of('kill.slow_reader') === 1)
    const client = await mqttClient(web)
    const arrived = new Promise<void>((resolve) => void client.once('message', () => resolve()))
    await client.subscribeAsync('out/planning/+', { qos: 1 })
    await publish(record('planner-co', PLANNING, 'm'))
    await arrived
  })

  it('a withdrawal resets a connection that holds what it covers', async () => {
    const { web, egress, of } = await stage()
    const { socket } = await handshake(web)
    const { packets, closed } = reader(socket)
    socket.write(frame(Buffer.concat([CONNECT, SUBSCRIBE])))
    await until(() => packets.length === 2)
    // Never acknowledged.
    egress.publish(record('planner-co', PLANNING, 'covered', { payloadIfWithdrawn: null }), () => undefined)
    await until(() => packets.length === 3)
    expect(await egress.purge(() => true).cut()).toBe(1)
    await closed
    expect(of('kill.withdrawal')).toBe(1)
  })
})
