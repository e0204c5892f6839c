/** Bytes that nobody means well with. Whatever comes, both brokers go on serving, and the bad connection is closed or answered. */
import { connect as connectSocket } from 'node:net'
import fc from 'fast-check'
import { generate } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { expect, it } from 'vitest'
import { RawClient, pause, publishPacket, record, startEgress, startIngress, until } from './stage.ts'

const SESSION: readonly Packet[] = [
  { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId: 'a', keepalive: 10, username: 'SN-1', will: { topic: 'w', payload: Buffer.from('x'), qos: 1, retain: true } },
  { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'down/north/SN-1/#', qos: 1 }, { topic: 'out/planning/+', qos: 2 }] },
  publishPacket('up/north/SN-1/status', 'x', 0), publishPacket('up/north/SN-1/status', 'x', 1, 2), publishPacket('up/north/SN-1/status', 'x', 2, 3),
  { cmd: 'pubrel', messageId: 3 }, { cmd: 'puback', messageId: 4 }, { cmd: 'pubrec', messageId: 5 }, { cmd: 'pubcomp', messageId: 6 },
  { cmd: 'pingreq' }, { cmd: 'unsubscribe', messageId: 7, unsubscriptions: ['out/planning/+'] }, { cmd: 'disconnect' },
]

type Damage = readonly { readonly at: number; readonly byte: number; readonly how: 'set' | 'flip' | 'drop' | 'insert' }[]

/** A recorded session, some packets left out or repeated, a few bytes damaged, cut anywhere. */
const attacks = fc.record({
  username: fc.constantFrom('SN-1', 'planner-co', 'constructor', '__proto__', 'SN-404'),
  order: fc.array(fc.nat(SESSION.length - 1), { maxLength: 20 }),
  begins: fc.boolean(),
  damage: fc.array(fc.record({ at: fc.nat(400), byte: fc.nat(255), how: fc.constantFrom('set', 'flip', 'drop', 'insert') }), { maxLength: 3 }),
  cut: fc.nat(600),
})

function bytesOf({ username, order, begins, damage, cut }: { username: string; order: number[]; begins: boolean; damage: Damage; cut: number }): Buffer {
  const packets = [...(begins ? [SESSION[0]!] : []), ...order.map((index) => SESSION[index]!)]
  const bytes = [...Buffer.concat(packets.map((packet) => generate(packet.cmd === 'connect' ? { ...packet, username, clientId: username } : packet)))]
  for (const { at, byte, how } of damage) {
    const place = bytes.length === 0 ? 0 : at % bytes.length
    if (how === 'set') bytes[place] = byte
    else if (how === 'flip') bytes[place] = (bytes[place] ?? 0) ^ (1 << (byte & 7))
    else if (how === 'drop') bytes.splice(place, 1)
    else bytes.splice(place, 0, byte)
  }
  return Buffer.from(bytes.slice(0, Math.max(1, cut)))
}

it('1,200 damaged sessions at both doors', async () => {
  await using ingress = await startIngress({ perIdentity: 10_000, limits: { packetTimeMs: 300, connectTimeMs: 300 } })
  const egress = await startEgress({ perIdentity: 10_000, limits: { packetTimeMs: 300, connectTimeMs: 300 } })
  const samples = fc.sample(attacks, { numRuns: 600, seed: 20_261_123 })
  const attack = (port: number, bytes: Buffer): Promise<void> => new Promise((resolve) => {
    const socket = connectSocket(port, '127.0.0.1', () => void socket.end(bytes))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
    socket.resume()
  })
  for (let from = 0; from < samples.length; from += 50) {
    await Promise.all(samples.slice(from, from + 50).flatMap((sample) => [attack(ingress.port, bytesOf(sample)), attack(egress.port, bytesOf(sample))]))
  }
  await until(() => ingress.ingress.connections === 0 && egress.egress.connections === 0)
  expect(ingress.lines.concat(egress.lines).map(({ text }) => text)).not.toContain('broker reported an error')
  // The attacks were no mere noise: many got in, and many were told apart.
  expect(ingress.of('connect.admitted')).toBeGreaterThan(50)
  expect(ingress.of('kill.malformed')).toBeGreaterThan(10)

  using terminal = new RawClient(ingress.port)
  expect(await terminal.connect('SN-1')).toBe(0)
  terminal.send(publishPacket('up/north/SN-1/status', 'good', 2, 1))
  await terminal.next('pubrec')
  using recipient = new RawClient(egress.port)
  expect(await recipient.connect('planner-co')).toBe(0)
  recipient.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'out/planning/+', qos: 1 }] })
  await recipient.next('suback')
  await egress.publish(record('planner-co', 'out/planning/x', 'good'))
  expect(String((await recipient.next('publish') as { payload?: Buffer }).payload)).toBe('good')
  await pause(10)
  await egress.close()
})
