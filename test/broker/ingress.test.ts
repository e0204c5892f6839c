import { Socket } from 'node:net'
import { GatewayError } from '../../src/domain/errors.ts'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { ReceiveIds } from '../../src/broker/ingress.ts'
import fc from 'fast-check'
import { RawClient, client, machine, pause, publishPacket, startIngress, until } from './stage.ts'
import type { IngressStage } from './stage.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0)) await each.close()
})

async function stage(...given: Parameters<typeof startIngress>): Promise<IngressStage> {
  const made = await startIngress(...given)
  open.push(made)
  return made
}

function raw(port: number): RawClient {
  const made = new RawClient(port)
  open.push({ close: () => made.destroy() })
  return made
}

const TOPIC = 'up/north/SN-1/status'

describe('a message from a terminal', () => {
  it.each([0, 1, 2] as const)('QoS %i is handled once, with the identity of the connection', async (qos) => {
    const { port, seen } = await stage()
    const terminal = await client(port, { username: 'SN-1', clientId: 'modem' })
    await terminal.publishAsync(TOPIC, 'hello', { qos, retain: true })
    await terminal.endAsync()
    await until(() => seen.length === 1)
    expect({ ...seen[0], payload: String(seen[0]?.payload), receivedAtMs: 0 }).toEqual({ topic: TOPIC, payload: 'hello', qos, machine: 'SN-1', receivedAtMs: 0, isWill: false })
  })

  it.each([0, 1] as const)('20,000 of QoS %i in one burst, cut by the network where it likes', async (qos) => {
    const { port, seen } = await stage()
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(...Array.from({ length: 20_000 }, (_, index) => publishPacket(TOPIC, String(index), qos, index + 1)))
    await until(() => seen.length === 20_000)
    expect(seen.every(({ payload }, index) => String(payload) === String(index))).toBe(true)
  })

  it('5,000 of QoS 2 on one connection, all sent before the first answer is read', async () => {
    const { port, seen, ingress } = await stage()
    const terminal = await client(port, { username: 'SN-1', clientId: 'modem' })
    await Promise.all(Array.from({ length: 5_000 }, (_, index) => terminal.publishAsync(TOPIC, String(index), { qos: 2 })))
    await terminal.endAsync()
    expect(seen.map(({ payload }) => Number(String(payload)))).toEqual(Array.from({ length: 5_000 }, (_, index) => index))
    await until(() => ingress.connections === 0)
  })

  it('5,000 of QoS 2 whose PUBREL comes after all PUBLISHes', async () => {
    const { port, seen } = await stage()
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(...Array.from({ length: 5_000 }, (_, index) => publishPacket(TOPIC, 'x', 2, index + 1)))
    await until(() => terminal.ids('pubrec').length === 5_000)
    terminal.send(...Array.from({ length: 5_000 }, (_, index) => ({ cmd: 'pubrel' as const, messageId: index + 1 })))
    await until(() => terminal.ids('pubcomp').length === 5_000)
    expect(seen.length).toBe(5_000)
    // All ids are free again.
    terminal.send(publishPacket(TOPIC, 'again', 2, 1))
    await until(() => seen.length === 5_001)
  })

  it('is acknowledged though the pipeline throws, and goes nowhere', async () => {
    const { port, of } = await stage({ handle: () => { throw new Error('a fault') } })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', 1, 7))
    await terminal.next('puback')
    expect(of('handle.failed')).toBe(1)
  })

  it.each([1, 2] as const)('that the disk refuses stays unacknowledged at QoS %i, and the connection ends', async (qos) => {
    const { port, of } = await stage({ handle: () => { throw new GatewayError('OUTBOX-UNHEALTHY', 'no disk') } })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', qos, 7))
    await until(() => of('kill.outbox') === 1)
    expect([...terminal.ids('puback'), ...terminal.ids('pubrec')]).toEqual([])
    expect(of('handle.no_room')).toBe(1)
  })

  it.each([1, 2] as const)('that the outbox has no room for waits at QoS %i with all behind it, in order, and the connection lives', async (qos) => {
    let full = true
    const taken: string[] = []
    const { port, of } = await stage({
      handle: ({ payload }) => {
        const text = Buffer.from(payload).toString()
        if (full && text !== 'before') throw new GatewayError('OUTBOX-FULL', 'no room')
        taken.push(text)
        return undefined
      },
    })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    const ack = qos === 1 ? 'puback' : 'pubrec'
    terminal.send(publishPacket(TOPIC, 'before', qos, 1), ...[2, 3, 4].map((id) => publishPacket(TOPIC, `m${id}`, qos, id)), ...(qos === 2 ? [publishPacket(TOPIC, 'm3', 2, 3)] : []))
    await until(() => of('handle.no_room') === 1)
    terminal.send({ cmd: 'pingreq' })
    await terminal.next('pingresp')
    await pause(700)
    expect(terminal.ids(ack)).toEqual([1])
    expect(of('kill.outbox')).toBe(0)
    full = false
    await until(() => terminal.ids(ack).length === (qos === 2 ? 5 : 4))
    expect(terminal.ids(ack)).toEqual(qos === 2 ? [1, 2, 3, 4, 3] : [1, 2, 3, 4])
    expect(taken).toEqual(['before', 'm2', 'm3', 'm4'])
  })

  it.each([1, 2] as const)('says how long each waited for its acknowledgement at QoS %i, for the commit and for room; at QoS 0 there is none', async (qos) => {
    let full = false
    const waited: [ms: number, messages: number][] = []
    const { port, of } = await stage({
      handle: () => {
        if (full) throw new GatewayError('OUTBOX-FULL', 'no room')
        return undefined
      },
      committed: (callback) => void setTimeout(callback, 40, undefined),
      onAcknowledged: (ms, messages) => void waited.push([ms, messages]),
    })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    const ack = qos === 1 ? 'puback' : 'pubrec'
    terminal.send(publishPacket(TOPIC, 'x', 0), ...[1, 2, 3].map((id) => publishPacket(TOPIC, 'x', qos, id)))
    await until(() => terminal.ids(ack).length === 3)
    expect(waited.reduce((sum, [, messages]) => sum + messages, 0)).toBe(3)
    for (const [ms] of waited.splice(0)) expect([ms >= 39, ms < 400]).toEqual([true, true])
    full = true
    terminal.send(publishPacket(TOPIC, 'x', qos, 4), publishPacket(TOPIC, 'x', qos, 5))
    await until(() => of('handle.no_room') === 1)
    await pause(300)
    full = false
    await until(() => terminal.ids(ack).length === 5)
    expect(waited.map(([, messages]) => messages)).toEqual([1, 1])
    for (const [ms] of waited) expect(ms).toBeGreaterThanOrEqual(339)
  })

  it('at QoS 0 that the outbox has no room for is lost, and counted', async () => {
    const { port, of } = await stage({
      handle: () => {
        throw new GatewayError('OUTBOX-FULL', 'no room')
      },
    })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', 0, 0), publishPacket(TOPIC, 'y', 0, 0))
    await until(() => of('handle.no_room') === 2)
    expect(of('kill.outbox')).toBe(0)
  })

  it.each([1, 2] as const)('of safety passes those that wait for room at QoS %i, and is acknowledged in its turn [MQTT-4.6.0-2]', async (qos) => {
    let full = true
    const taken: string[] = []
    const { port, of } = await stage({
      handle: ({ payload }, urgentOnly) => {
        const text = Buffer.from(payload).toString()
        if (full && text !== 'alarm') throw new GatewayError('OUTBOX-FULL', 'no room')
        taken.push(`${text}${urgentOnly ? ' urgent' : ''}`)
        return undefined
      },
    })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    const ack = qos === 1 ? 'puback' : 'pubrec'
    terminal.send(publishPacket(TOPIC, 'm1', qos, 1), publishPacket(TOPIC, 'alarm', qos, 2), publishPacket(TOPIC, 'm3', qos, 3))
    await until(() => taken.length === 1)
    expect(taken).toEqual(['alarm urgent'])
    await pause(50)
    expect(terminal.ids(ack)).toEqual([])
    full = false
    await until(() => terminal.ids(ack).length === 3)
    expect(terminal.ids(ack)).toEqual([1, 2, 3])
    expect(taken).toEqual(['alarm urgent', 'm1', 'm3'])
    expect(of('kill.outbox')).toBe(0)
  })

  it('of safety that passed, but was not committed, is not acknowledged when its turn comes', async () => {
    let full = true
    const commits: ((error: Error | undefined) => void)[] = []
    const { port, of } = await stage({
      handle: ({ payload }) => {
        if (full && Buffer.from(payload).toString() !== 'alarm') throw new GatewayError('OUTBOX-FULL', 'no room')
        return undefined
      },
      committed: (callback) => void (full ? commits.push(callback) : callback(undefined)),
    })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'm1', 1, 1), publishPacket(TOPIC, 'alarm', 1, 2))
    await until(() => commits.length === 1)
    commits[0]!(new Error('the disk refused'))
    full = false
    await until(() => of('kill.outbox') === 1)
    expect(terminal.ids('puback')).not.toContain(2)
  })

  it('from a machine that nobody knows is handled too, and the terminal stays connected', async () => {
    const { port, seen } = await stage()
    const terminal = raw(port)
    expect(await terminal.connect('SN-404')).toBe(0)
    terminal.send(publishPacket('up/north/SN-404/status', 'x', 1, 7))
    await terminal.next('puback')
    expect(seen[0]?.machine).toBe('SN-404')
  })
})

describe('acknowledgements', () => {
  it('wait for the commit', async () => {
    const waiting: (() => void)[] = []
    const { port, seen } = await stage({ committed: (callback) => void waiting.push(() => callback(undefined)) })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'a', 1, 11), publishPacket(TOPIC, 'b', 2, 12), publishPacket(TOPIC, 'c', 0))
    await until(() => seen.length === 3)
    await pause(50)
    expect(terminal.packets).toEqual([])
    for (const commit of waiting) commit()
    await terminal.next('puback')
    await terminal.next('pubrec')
  })

  it('leave with their commit, before the loop turns and takes in more', async () => {
    const waiting: (() => void)[] = []
    const { port, seen } = await stage({ committed: (callback) => void waiting.push(() => callback(undefined)) })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(...Array.from({ length: 5 }, (_, index) => publishPacket(TOPIC, 'a', 1, 11 + index)))
    await until(() => seen.length === 5)
    const write = vi.spyOn(Socket.prototype, 'write')
    for (const commit of waiting) commit()
    const written = write.mock.calls.map(([bytes]) => Buffer.from(bytes as Uint8Array).toString('hex'))
    write.mockRestore()
    expect(written).toEqual(['4002000b4002000c4002000d4002000e4002000f'])
    await until(() => terminal.ids('puback').length === 5)
  })

  it('leave in the order of the messages, even when commits call back in any order [MQTT-4.6.0-2]', async () => {
    let seed = 7
    const { port } = await stage({
      committed: (callback) => {
        seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
        setTimeout(callback, seed % 20, undefined)
      },
    })
    const terminal = raw(port)
    terminal.socket.setNoDelay(true)
    await terminal.connect('SN-1')
    for (let id = 1; id <= 100; id++) {
      terminal.send(publishPacket(TOPIC, 'x', 1, id))
      if (id % 5 === 0) await pause(1)
    }
    await until(() => terminal.ids('puback').length === 100)
    expect(terminal.ids('puback')).toEqual(Array.from({ length: 100 }, (_, index) => index + 1))
  })

  it.each([1, 2] as const)('QoS %i: a commit that fails closes the connection without one, and the message is taken again', async (qos) => {
    let fail = true
    const { port, seen, of } = await stage({ committed: (callback) => callback(fail ? new Error('disk full') : undefined) })
    const first = raw(port)
    await first.connect('SN-1', { clean: false })
    first.send(publishPacket(TOPIC, 'x', qos, 9))
    await first.closed
    expect([first.packets, of('kill.outbox')]).toEqual([[], 1])

    fail = false
    const second = raw(port)
    await second.connect('SN-1', { clean: false })
    second.send(publishPacket(TOPIC, 'x', qos, 9, { dup: true }))
    await second.next(qos === 1 ? 'puback' : 'pubrec')
    expect(seen.length).toBe(2)
  })

  it('do not come for what was handed over when the connection is gone', async () => {
    const waiting: ((error: Error | undefined) => void)[] = []
    const { port, seen, ingress, lines } = await stage({ committed: (callback) => void waiting.push(callback) })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', 1, 9))
    await until(() => seen.length === 1)
    terminal.socket.resetAndDestroy()
    await until(() => ingress.connections === 0)
    for (const commit of waiting) commit(undefined)
    await pause(20)
    expect(lines.map(({ text }) => text)).toEqual(['listening'])
  })

  it('come to a terminal that has closed its half', async () => {
    const { port } = await stage({ committed: (callback) => void setTimeout(callback, 50, undefined) })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', 1, 9))
    terminal.socket.end()
    await terminal.next('puback')
    await terminal.closed
  })

  it('an orderly stop answers what was handed over', async () => {
    const waiting: ((error: Error | undefined) => void)[] = []
    const { port, seen, ingress, listener } = await startIngress({ committed: (callback) => void waiting.push(callback), limits: { unanswered: 2 } })
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', 1, 1), publishPacket(TOPIC, 'y', 1, 2), publishPacket(TOPIC, 'z', 1, 3))
    await until(() => seen.length === 2)
    const stopping = Promise.all([listener.close(2_000), ingress.close(1_000)])
    await pause(30)
    for (const commit of waiting) commit(undefined)
    await Promise.all([stopping, terminal.closed])
    expect([terminal.ids('puback'), seen.length]).toEqual([[1, 2], 2])
  })
})

describe('QoS 2', () => {
  it.each([true, false])('the same id before PUBREL is the same message (DUP %s)', async (dup) => {
    const { port, seen, of } = await stage()
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send(publishPacket(TOPIC, 'x', 2, 5), publishPacket(TOPIC, 'x', 2, 5, { dup }))
    await until(() => terminal.ids('pubrec').length === 2)
    terminal.send(publishPacket(TOPIC, 'x', 2, 5, { dup }))
    await until(() => terminal.ids('pubrec').length === 3)
    expect([seen.length, of('received.duplicate')]).toEqual([1, 2])
    terminal.send({ cmd: 'pubrel', messageId: 5 })
    await terminal.next('pubcomp')
    terminal.send(publishPacket(TOPIC, 'new', 2, 5))
    await until(() => seen.length === 2)
  })

  it('an id is remembered over a reconnect of a persistent session, which is then present', async () => {
    const { port, seen } = await stage()
    const first = raw(port)
    await first.connect('SN-1', { clean: false })
    first.send(publishPacket(TOPIC, 'x', 2, 5))
    await first.next('pubrec')
    first.destroy()

    const second = raw(port)
    second.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId: 'SN-1', keepalive: 0, username: 'SN-1' })
    expect(await second.next('connack')).toMatchObject({ returnCode: 0, sessionPresent: true })
    second.send(publishPacket(TOPIC, 'x', 2, 5, { dup: true }))
    await second.next('pubrec')
    expect(seen.length).toBe(1)
    second.send({ cmd: 'pubrel', messageId: 5 })
    await second.next('pubcomp')
  })

  it('an id is forgotten with a clean session, so that a new message under it is not lost [MQTT-3.1.2-6]', async () => {
    const { port, seen } = await stage()
    for (const clean of [false, true, false]) {
      const terminal = raw(port)
      await terminal.connect('SN-1', { clean })
      terminal.send(publishPacket(TOPIC, 'x', 2, 5))
      await terminal.next('pubrec')
      terminal.destroy()
    }
    expect(seen.length).toBe(3)
  })

  it('a copy that comes while the first is being committed is answered only when that succeeded', async () => {
    const waiting: ((error: Error | undefined) => void)[] = []
    const { port, seen, of } = await stage({ committed: (callback) => void waiting.push(callback) })
    const first = raw(port)
    await first.connect('SN-1', { clean: false })
    first.send(publishPacket(TOPIC, 'x', 2, 5))
    await until(() => waiting.length === 1)
    first.destroy()

    const second = raw(port)
    await second.connect('SN-1', { clean: false })
    second.send(publishPacket(TOPIC, 'x', 2, 5, { dup: true }))
    await until(() => waiting.length === 2)
    waiting[0]!(new Error('disk full'))
    waiting[1]!(undefined)
    await second.closed
    expect([second.ids('pubrec'), of('kill.outbox'), seen.length]).toEqual([[], 1, 1])
  })

  it('absent sessions are remembered up to a bound', async () => {
    const { port, of } = await stage({ sessions: 3, perIdentity: 100 })
    for (let index = 0; index < 5; index++) {
      const terminal = raw(port)
      await terminal.connect('SN-1', { clean: false, clientId: `c${index}` })
      terminal.send(publishPacket(TOPIC, 'x', 2, 5))
      await terminal.next('pubrec')
      terminal.destroy()
      await pause(10)
    }
    await until(() => of('session.evicted') === 2)
  })

  it('ids are a map from 65,535 numbers to three states', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom(0, 1, 2)), { maxLength: 200 }), (steps) => {
      const ids = new ReceiveIds()
      const model = new Map<number, number>()
      for (const [id, state] of steps) {
        ids.set(id, state)
        if (state === 0) model.delete(id)
        else model.set(id, state)
        expect([ids.get(id), ids.size]).toEqual([model.get(id) ?? 0, model.size])
      }
      for (const [id] of steps) expect(ids.get(id)).toBe(model.get(id) ?? 0)
    }))
  })
})

describe('subscriptions of a terminal', () => {
  it.each([
    ['down/north/SN-1/#', true], ['down/north/SN-1/cmd', true], ['down/north/SN-2/#', false], ['down/north/+/#', false], ['down/south/SN-1/#', false],
    ['#', false], ['up/#', false], ['$SYS/#', false], ['$share/g/down/north/SN-1/#', false], ['$present', false],
  ])('%s: %s', async (filter, granted) => {
    const { port } = await stage()
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send({ cmd: 'subscribe', messageId: 3, subscriptions: [{ topic: filter, qos: 1 }] })
    expect(await terminal.next('suback')).toMatchObject({ granted: [granted ? 1 : 128] })
  })

  it('an unknown machine has no downlink', async () => {
    const { port } = await stage()
    const terminal = raw(port)
    await terminal.connect('SN-404')
    terminal.send({ cmd: 'subscribe', messageId: 3, subscriptions: [{ topic: 'down/north/SN-404/#', qos: 1 }] })
    expect(await terminal.next('suback')).toMatchObject({ granted: [128] })
  })

  it('of a persistent session are there again, as far as they are still its own', async () => {
    const { port, machines } = await stage()
    const subscribe = async (topic: string): Promise<unknown> => {
      const terminal = raw(port)
      await terminal.connect('SN-1', { clean: false })
      terminal.send({ cmd: 'subscribe', messageId: 3, subscriptions: [{ topic, qos: 1 }] })
      const suback = await terminal.next('suback')
      terminal.destroy()
      return suback
    }
    await subscribe('down/north/SN-1/#')
    machines.set('SN-1', machine('SN-1', { fleet: 'south' as never }))
    const again = raw(port)
    again.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId: 'SN-1', keepalive: 0, username: 'SN-1' })
    expect(await again.next('connack')).toMatchObject({ returnCode: 0, sessionPresent: true })
  })

  it('are at most 16', async () => {
    const { port } = await stage()
    const terminal = raw(port)
    await terminal.connect('SN-1')
    terminal.send({ cmd: 'subscribe', messageId: 3, subscriptions: Array.from({ length: 20 }, (_, index) => ({ topic: `down/north/SN-1/${index}`, qos: 0 as const })) })
    expect(await terminal.next('suback')).toMatchObject({ granted: Array.from({ length: 20 }, (_, index) => (index < 16 ? 0 : 128)) })
  })
})

describe('connections', () => {
  it('a will is accepted, dropped and counted', async () => {
    const { port, seen, of, ingress } = await stage()
    const terminal = raw(port)
    expect(await terminal.connect('SN-1', { will: { topic: TOPIC, payload: Buffer.from('gone'), qos: 2, retain: true } })).toBe(0)
    terminal.destroy()
    await until(() => ingress.connections === 0)
    expect([seen, of('will')]).toEqual([[], 1])
  })

  it('one identity may have eight; the same client id replaces the earlier one', async () => {
    const { port, ingress } = await stage()
    const terminals = await Promise.all(Array.from({ length: 8 }, async (_, index) => {
      const terminal = raw(port)
      await terminal.connect('SN-1', { clientId: `c${index}` })
      return terminal
    }))
    expect(await raw(port).connect('SN-1', { clientId: 'c8' })).toBe(3)
    expect(await raw(port).connect('SN-1', { clientId: 'c3' })).toBe(0)
    await terminals[3]!.closed
    expect(await raw(port).connect('SN-2', { clientId: 'c0' })).toBe(0)
    await pause(20)
    expect(terminals[0]!.socket.destroyed).toBe(false)
    await until(() => ingress.connections === 9)
  })

  it('a machine that is removed or gets another credential is closed; others stay', async () => {
    const { port, machines, ingress, of } = await stage()
    const [one, two] = [raw(port), raw(port)]
    await one.connect('SN-1')
    await two.connect('SN-2')
    machines.set('SN-1', machine('SN-1', { credential: 'scrypt$…' }))
    ingress.recheck()
    await one.closed
    two.send({ cmd: 'pingreq' })
    await two.next('pingresp')
    expect(of('kill.revoked')).toBe(1)
  })
})
