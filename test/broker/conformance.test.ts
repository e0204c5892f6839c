import fc from 'fast-check'
import { generate } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { describe, expect, it } from 'vitest'
import { connectFacts, packetFault } from '../../src/broker/conformance.ts'

/** A packet from its first byte and its body, with the remaining length worked out. */
function packet(first: number, ...body: (number | string | Buffer)[]): Buffer {
  const rest = Buffer.concat(body.map((part) => (typeof part === 'number' ? Buffer.from([part]) : Buffer.from(part))))
  if (rest.length > 127) throw new Error('write a longer header')
  return Buffer.concat([Buffer.from([first, rest.length]), rest])
}

/** [MQTT-1.5.3] A string with its length. */
function text(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes])
}

const fault = (bytes: Buffer) => packetFault(bytes, 0, 2, bytes.length)
const id = Buffer.from([0, 7])
const noId = Buffer.from([0, 0])

describe('packets after CONNECT', () => {
  it.each<[string, string, Buffer, string | undefined]>([
    ['PUBLISH QoS 0', '3.3', packet(0x30, text('a/b'), 'x'), undefined],
    ['PUBLISH without payload', '3.3.3', packet(0x30, text('a')), undefined],
    ['PUBLISH QoS 1', '3.3', packet(0x32, text('a'), id, 'x'), undefined],
    ['PUBLISH QoS 2, DUP, RETAIN', '3.3', packet(0x3d, text('a'), id, 'x'), undefined],
    ['PUBLISH QoS 3', 'MQTT-3.3.1-4', packet(0x36, text('a'), id, 'x'), 'malformed'],
    ['PUBLISH QoS 0 with DUP', 'MQTT-3.3.1-2', packet(0x38, text('a'), 'x'), 'malformed'],
    ['PUBLISH with packet id 0', 'MQTT-2.3.1-1', packet(0x32, text('a'), noId, 'x'), 'malformed'],
    ['PUBLISH with half a packet id', '3.3.2.2', packet(0x32, text('a'), 1), 'malformed'],
    ['PUBLISH with an empty topic', 'MQTT-4.7.3-1', packet(0x30, text(''), 'x'), 'malformed'],
    ['PUBLISH with a wildcard', 'MQTT-3.3.2-2', packet(0x30, text('a/+'), 'x'), 'malformed'],
    ['PUBLISH with NUL in the topic', 'MQTT-4.7.3-2', packet(0x30, text('a\u0000b'), 'x'), 'malformed'],
    ['PUBLISH with a surrogate in the topic', 'MQTT-1.5.3-1', packet(0x30, text(Buffer.from([0x61, 0xed, 0xa0, 0x80]))), 'malformed'],
    ['PUBLISH with an overlong form', 'MQTT-1.5.3-1', packet(0x30, text(Buffer.from([0xc0, 0xaf]))), 'malformed'],
    ['PUBLISH with a topic past the end', '3.3.2.1', packet(0x30, 0, 9, 'ab'), 'malformed'],
    ['PUBLISH of one byte', '3.3.2.1', packet(0x30, 0), 'malformed'],
    ['PUBACK', '3.4', packet(0x40, id), undefined],
    ['PUBACK with flags', 'MQTT-2.2.2-1', packet(0x42, id), 'malformed'],
    ['PUBACK too short', '3.4.1', packet(0x40, 0), 'malformed'],
    ['PUBACK too long', '3.4.1', packet(0x40, id, 0), 'malformed'],
    ['PUBACK with id 0', 'MQTT-2.3.1-1', packet(0x40, noId), 'malformed'],
    ['PUBREC', '3.5', packet(0x50, id), undefined],
    ['PUBREL', '3.6', packet(0x62, id), undefined],
    ['PUBREL without its flag', 'MQTT-3.6.1-1', packet(0x60, id), 'malformed'],
    ['PUBREL with id 0', 'MQTT-2.3.1-1', packet(0x62, noId), 'malformed'],
    ['PUBCOMP', '3.7', packet(0x70, id), undefined],
    ['SUBSCRIBE', '3.8', packet(0x82, id, text('a/+/#'), 1, text('#'), 2), undefined],
    ['SUBSCRIBE without its flag', 'MQTT-3.8.1-1', packet(0x80, id, text('a'), 0), 'malformed'],
    ['SUBSCRIBE with id 0', 'MQTT-2.3.1-1', packet(0x82, noId, text('a'), 0), 'malformed'],
    ['SUBSCRIBE without a filter', 'MQTT-3.8.3-3', packet(0x82, id), 'malformed'],
    ['SUBSCRIBE without a QoS', '3.8.3', packet(0x82, id, text('a')), 'malformed'],
    ['SUBSCRIBE with QoS 3', 'MQTT-3.8.3-4', packet(0x82, id, text('a'), 3), 'malformed'],
    ['SUBSCRIBE with a reserved bit', 'MQTT-3.8.3-4', packet(0x82, id, text('a'), 4), 'malformed'],
    ['SUBSCRIBE to a/#/b', 'MQTT-4.7.1-2', packet(0x82, id, text('a/#/b'), 0), 'malformed'],
    ['SUBSCRIBE to a+', 'MQTT-4.7.1-3', packet(0x82, id, text('a+'), 0), 'malformed'],
    ['SUBSCRIBE with bad UTF-8', 'MQTT-3.8.3-1', packet(0x82, id, text(Buffer.from([0xff])), 0), 'malformed'],
    ['UNSUBSCRIBE', '3.10', packet(0xa2, id, text('a')), undefined],
    ['UNSUBSCRIBE without a filter', 'MQTT-3.10.3-2', packet(0xa2, id), 'malformed'],
    ['PINGREQ', '3.12', packet(0xc0), undefined],
    ['PINGREQ with a body', '3.12', packet(0xc0, 0), 'malformed'],
    ['DISCONNECT', '3.14', packet(0xe0), undefined],
    ['DISCONNECT with flags', 'MQTT-3.14.1-1', packet(0xe1), 'malformed'],
    ['a second CONNECT', 'MQTT-3.1.0-2', packet(0x10, text('MQTT'), 4, 2, 0, 0, text('a')), 'protocol'],
    ['CONNACK', '2.2.1', packet(0x20, 0, 0), 'protocol'],
    ['SUBACK', '2.2.1', packet(0x90, id, 0), 'protocol'],
    ['UNSUBACK', '2.2.1', packet(0xb0, id), 'protocol'],
    ['PINGRESP', '2.2.1', packet(0xd0), 'protocol'],
    ['type 0', '2.2.1', packet(0x00), 'protocol'],
    ['type 15 (AUTH of MQTT 5)', '2.2.1', packet(0xf0), 'protocol'],
  ])('%s (%s)', (_what, _clause, bytes, expected) => expect(fault(bytes)).toBe(expected))

  it('a topic that is too deep or too long is a limit of ours, not a malformed packet', () => {
    expect(fault(packet(0x30, text(Array.from({ length: 33 }, () => 'x').join('/'))))).toBe('topic')
  })
})

describe('CONNECT', () => {
  const connect = (flags: number, ...payload: (number | string | Buffer)[]) => packet(0x10, text('MQTT'), 4, flags, 0, 60, ...payload)
  const facts = (bytes: Buffer) => connectFacts(bytes, 0, 2, bytes.length)

  it.each<[string, string, Buffer, string | undefined, string | undefined]>([
    ['clean session', '3.1', connect(0x02, text('a')), undefined, undefined],
    ['everything', '3.1', connect(0xf6, text('a'), text('w'), text('bye'), text('user'), text('secret')), undefined, undefined],
    ['empty client id, clean', 'MQTT-3.1.3-6', connect(0x02, text('')), undefined, undefined],
    ['empty client id, not clean', 'MQTT-3.1.3-8', connect(0x00, text('')), 'protocol', '20020002'],
    ['MQTT 3.1', '3.1.2.2', packet(0x10, text('MQIsdp'), 3, 2, 0, 60, text('a')), undefined, undefined],
    ['MQTT 5', 'MQTT-3.1.2-2', packet(0x10, text('MQTT'), 5, 2, 0, 60, 0, text('a')), 'protocol', '2003008400'],
    ['level 6', 'MQTT-3.1.2-2', packet(0x10, text('MQTT'), 6, 2, 0, 60, text('a')), 'protocol', '20020001'],
    ['a bridge', 'MQTT-3.1.2-2', packet(0x10, text('MQTT'), 0x84, 2, 0, 60, text('a')), 'protocol', '20020001'],
    ['another name', 'MQTT-3.1.2-1', packet(0x10, text('mqtt'), 4, 2, 0, 60, text('a')), 'protocol', undefined],
    ['reserved header flag', 'MQTT-2.2.2-1', packet(0x11, text('MQTT'), 4, 2, 0, 60, text('a')), 'malformed', undefined],
    ['reserved flag', 'MQTT-3.1.2-3', connect(0x03, text('a')), 'malformed', undefined],
    ['will QoS 3', 'MQTT-3.1.2-14', connect(0x1e, text('a'), text('w'), text('x')), 'malformed', undefined],
    ['will QoS without will', 'MQTT-3.1.2-13', connect(0x0a, text('a')), 'malformed', undefined],
    ['will retain without will', 'MQTT-3.1.2-15', connect(0x22, text('a')), 'malformed', undefined],
    ['will flag without will', 'MQTT-3.1.2-9', connect(0x06, text('a')), 'malformed', undefined],
    ['will topic with a wildcard', 'MQTT-3.1.3-10', connect(0x06, text('a'), text('w/#'), text('x')), 'malformed', undefined],
    ['user flag without user', 'MQTT-3.1.2-19', connect(0x82, text('a')), 'malformed', undefined],
    ['user without user flag', 'MQTT-3.1.2-18', connect(0x02, text('a'), text('user')), 'malformed', undefined],
    ['password without user', 'MQTT-3.1.2-22', connect(0x42, text('a'), text('secret')), 'malformed', undefined],
    ['password flag without password', 'MQTT-3.1.2-21', connect(0xc2, text('a'), text('user')), 'malformed', undefined],
    ['NUL in the client id', 'MQTT-1.5.3-2', connect(0x02, text('a\u0000')), 'malformed', undefined],
    ['surrogate in the user name', 'MQTT-1.5.3-1', connect(0x82, text('a'), text(Buffer.from([0xed, 0xa0, 0x80]))), 'malformed', undefined],
    ['a byte too many', '3.1.3', connect(0x02, text('a'), 0), 'malformed', undefined],
    ['nothing', '3.1', packet(0x10), 'malformed', undefined],
    ['only the name', '3.1', packet(0x10, text('MQTT')), 'malformed', undefined],
  ])('%s (%s)', (_what, _clause, bytes, expected, answer) => {
    const found = facts(bytes)
    expect([found.fault, found.answer?.toString('hex')]).toEqual([expected, answer])
  })

  it('tells the keep alive', () => expect(facts(packet(0x10, text('MQTT'), 4, 2, 0x01, 0x2c, text('a'))).keepalive).toBe(300))

  it('refuses a client id of more than 256 bytes with code 2', () => {
    const bytes = generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: 'x'.repeat(257), keepalive: 0 })
    expect(connectFacts(bytes, 0, 3, bytes.length).answer?.toString('hex')).toBe('20020002')
  })
})

describe('any bytes', () => {
  const topic = fc.string({ minLength: 1, maxLength: 12, unit: fc.constantFrom('a', 'b', '/', 'ü', '日') })
  const messageId = fc.integer({ min: 1, max: 65_535 })
  const qos = fc.constantFrom<0 | 1 | 2>(0, 1, 2)

  it('what an independent encoder makes is accepted', () => {
    const packets: fc.Arbitrary<Packet> = fc.oneof(
      fc.record({ cmd: fc.constant('publish' as const), topic, payload: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)), qos, dup: fc.constant(false), retain: fc.boolean(), messageId }),
      fc.record({ cmd: fc.constantFrom('puback' as const, 'pubrec' as const, 'pubrel' as const, 'pubcomp' as const), messageId }),
      fc.record({ cmd: fc.constant('subscribe' as const), messageId, subscriptions: fc.array(fc.record({ topic, qos }), { minLength: 1, maxLength: 3 }) }),
      fc.record({ cmd: fc.constant('unsubscribe' as const), messageId, unsubscriptions: fc.array(topic, { minLength: 1, maxLength: 3 }) }),
      fc.constantFrom<Packet>({ cmd: 'pingreq' }, { cmd: 'disconnect' }),
    )
    fc.assert(fc.property(packets, (given) => {
      const bytes = generate(given)
      const body = bytes[1]! < 128 ? 2 : 3
      expect(packetFault(bytes, 0, body, bytes.length)).toBeUndefined()
    }), { numRuns: 500 })
  })

  it('garbage never throws, and what lies behind the packet changes nothing', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 2, maxLength: 60 }), fc.uint8Array({ maxLength: 20 }), (given, behind) => {
      const alone = Buffer.from(given)
      const followed = Buffer.concat([alone, Buffer.from(behind)])
      expect(packetFault(followed, 0, 2, alone.length)).toBe(packetFault(alone, 0, 2, alone.length))
      expect(connectFacts(followed, 0, 2, alone.length)).toEqual(connectFacts(alone, 0, 2, alone.length))
    }), { numRuns: 2_000 })
  })
})
