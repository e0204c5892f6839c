/**
 * The bridge over real sockets: against a broker that does what the test says (cloud.ts), against aedes, and against mosquitto when
 * PARAPET_MOSQUITTO names its binary. The outbox behind it is the real one wherever loss and order are at stake.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as netConnect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import { Aedes } from 'aedes'
import { connect } from 'mqtt'
import protobuf from 'protobufjs'
import { afterEach, describe, expect, test } from 'vitest'
import type { MachineId, OperatorId, OutputId } from '../../src/domain/ids.ts'
import type { Clock, OutboxRecord } from '../../src/domain/ports.ts'
import { ANSWERS, createBridge, type Bridge, type BridgeCount, type BridgeOptions } from '../../src/outlet/bridge.ts'
import { openOutbox, type DurableOutbox } from '../../src/outlet/outbox.ts'
import { makeCertificate } from '../broker/certificates.ts'
import { record, turns } from '../contract/records.ts'
import { until, pause } from '../e2e/stage.ts'
import { acknowledge, Cloud, type Arrived, type CloudOptions, type Line } from './cloud.ts'

/** Withdrawals during a busy stream; PARAPET_RUNS=1000 is the long form. */
const rounds = Number(process.env['PARAPET_RUNS'] ?? 8)
/** Pauses of the real bridge, a hundred times shorter. */
const QUICK = { backOffMs: 10, backOffMaxMs: 600, stableMs: 300, connectMs: 1_000, delayedMs: 60_000, graceMs: 1_000 }
/** What a disk does is tested elsewhere; here an fsync would only take time. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
const CLOCK: Clock = { now: Date.now, monotonic: () => performance.now() }

const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

async function cloudOf(options: CloudOptions = {}): Promise<Cloud> {
  const cloud = await Cloud.open(options)
  open.push(() => cloud.stop())
  return cloud
}

interface Rig {
  readonly outbox: DurableOutbox
  readonly bridge: Bridge
  readonly counts: Partial<Record<BridgeCount, number>>
  readonly logged: string[]
  /** Records that may leave; changed by tests. */
  readonly gate: { open: (record: OutboxRecord) => boolean }
  readonly folder: string
  stop(): Promise<void>
}

/** A bridge behind an outbox, wired as in the gateway. */
function rigOf(url: string, options: Partial<BridgeOptions> = {}, folder = mkdtempSync(join(MEMORY, 'parapet-bridge-'))): Rig {
  const counts: Partial<Record<BridgeCount, number>> = {}
  const logged: string[] = []
  const gate = { open: (_record: OutboxRecord): boolean => true }
  const outbox = openOutbox({ file: join(folder, 'outbox.db'), retryMs: 10, sweepMs: 0 })
  const log = (text: string, fields: unknown): void => void logged.push(`${text} ${JSON.stringify(fields)}`)
  const bridge = createBridge({
    name: 'cloud', url, protocol: 5, window: 16, clientId: 'depot-7-cloud', credentialsFile: undefined, tls: {}, clock: CLOCK, gate: (one) => gate.open(one),
    retentionMs: () => 2_592_000_000, onDelivered: outbox.onDelivered, onUp: (room) => outbox.attach(bridge, room), onDown: () => outbox.detach('cloud'),
    count: (what, by = 1) => void (counts[what] = (counts[what] ?? 0) + by), log: { info: log, warn: log }, timing: QUICK, ...options,
  })
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => (stopped ??= bridge.close().then(() => outbox.close()))
  open.push(async () => {
    await stop()
    rmSync(folder, { recursive: true, force: true })
  })
  bridge.open()
  return { outbox, bridge, counts, logged, gate, folder, stop }
}

const MACHINES = ['SN-1', 'SN-2', 'SN-3'] as const
let serial = 0
/** So many records of three machines in turn; the payload says which and where in its machine's order. */
function fill(outbox: DurableOutbox, count: number, of: Parameters<typeof record>[0] = {}): string[] {
  return Array.from({ length: count }, () => {
    const machine = MACHINES[++serial % 3] as MachineId
    const payload = `${machine} ${serial}`
    outbox.accept(record({ payload, machine, topic: `out/planning/${machine}`, receivedAtMs: Date.now(), acquiredAtMs: Date.now(), ...of }))
    return payload
  })
}

/** The last time that each message came, in order: what a cloud is left with that drops earlier copies. */
function finally_(texts: readonly string[]): string[] {
  return [...new Set([...texts].reverse())].reverse()
}

const drained = (rig: Rig, timeoutMs = 8_000): Promise<void> => until(() => rig.outbox.depth === 0, 'the outbox to be empty', timeoutMs)
const counted = (outbox: DurableOutbox): number => outbox.counts().reduce((sum, { count }) => sum + count, 0)

describe('delivery', () => {
  test('in order, each once, acknowledged, counted once', async () => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url)
    const sent = fill(rig.outbox, 200)
    await drained(rig)
    expect(cloud.texts).toEqual(sent)
    expect(rig.counts).toMatchObject({ sent: 200, acked: 200 })
    await rig.stop()
    const again = openOutbox({ file: join(rig.folder, 'outbox.db') })
    expect([counted(again), again.counts()[0]?.credential]).toEqual([200, 'cloud'])
    await again.close()
  })

  test.each<[string, 0 | 1 | 2]>([['QoS 1 waits for PUBACK', 1], ['QoS 2 for PUBCOMP', 2]])('%s before the record is deleted', async (_, qos) => {
    const cloud = await cloudOf({ answer: () => undefined })
    const rig = rigOf(cloud.url)
    fill(rig.outbox, 3, { qos })
    await until(() => cloud.got.length === 3, 'the messages')
    await pause(50)
    expect([rig.outbox.depth, rig.counts.acked]).toEqual([3, undefined])
    for (const arrived of cloud.got) acknowledge(cloud.lines[0] as Line, arrived)
    await drained(rig)
    expect(cloud.got.map((one) => one.qos)).toEqual([qos, qos, qos])
  })

  test('QoS 0 is done when it is written; without a connection it is lost and counted', async () => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url)
    fill(rig.outbox, 1, { qos: 0 })
    expect(rig.outbox.stats.straightLost).toBe(1)
    await until(() => rig.bridge.state.connected, 'the connection')
    fill(rig.outbox, 5, { qos: 0 })
    await until(() => cloud.got.length === 5, 'the messages')
    await pause(80)
    expect(counted(rig.outbox)).toBe(5)
  })

  test.each([[1, 16, 1], [3, 16, 3], [100, 16, 16], [undefined, 4, 4]])('with Receive Maximum %s and a window of %s at most %s are on the way', async (receiveMaximum, window, most) => {
    const waiting: [Line, Arrived][] = []
    const cloud = await cloudOf({
      connack: receiveMaximum === undefined ? {} : { properties: { receiveMaximum } },
      answer: (arrived, _nth, line) => {
        waiting.push([line, arrived])
        if (waiting.length === 1) setTimeout(() => waiting.splice(0).forEach(([to, one]) => acknowledge(to, one)), 5)
        return undefined
      },
    })
    const rig = rigOf(cloud.url, { window })
    const sent = fill(rig.outbox, 40)
    await drained(rig)
    expect(cloud.mostUnanswered).toBe(most)
    expect(cloud.texts).toEqual(sent)
  })

  test('acknowledgements out of order are each for their own message', async () => {
    const held: Arrived[] = []
    const cloud = await cloudOf({
      answer: (arrived, _nth, line) => {
        held.push(arrived)
        if (held.length === 8) for (const one of held.splice(0).reverse()) acknowledge(line, one)
        return undefined
      },
    })
    const rig = rigOf(cloud.url)
    const sent = fill(rig.outbox, 64)
    await drained(rig)
    expect(cloud.texts).toEqual(sent)
  })

  test('a slow cloud slows the bridge and nothing else', async () => {
    const cloud = await cloudOf({
      answer: (arrived, _nth, line) => {
        setTimeout(() => acknowledge(line, arrived), 60)
        return undefined
      },
    })
    const rig = rigOf(cloud.url, { window: 8 })
    const local: string[] = []
    rig.outbox.attach({ name: 'local', send: (one, done) => { local.push(Buffer.from(one.payload).toString()); done(undefined) }, cut: async () => ({ dropped: 0, onTheWire: 0 }), close: async () => undefined })
    const sent = fill(rig.outbox, 100, { via: ['local', 'cloud'] })
    await until(() => local.length === 100, 'the local subscriber', 700)
    expect([local, rig.outbox.depth > 50]).toEqual([sent, true])
    await drained(rig)
    expect(cloud.texts).toEqual(sent)
  })
})

describe('what travels with a message', () => {
  test('in MQTT 5: id, policy, rules, purpose, retention, expiry, content type', async () => {
    const cloud = await cloudOf({ connack: { properties: { topicAliasMaximum: 1 } } })
    const rig = rigOf(cloud.url)
    const one = record({ topic: 'out/a/1', receivedAtMs: Date.now(), expiresAtMs: Date.now() + 3_600_000 })
    rig.outbox.accept(one)
    rig.outbox.accept(record({ topic: 'out/a/1', receivedAtMs: Date.now() - 120_000 }))
    rig.outbox.accept(record({ topic: 'out/a/2', receivedAtMs: Date.now() }))
    await drained(rig)
    const [first, second, third] = cloud.got
    expect(first).toMatchObject({
      topic: 'out/a/1', contentType: 'application/x-protobuf', retain: false,
      user: { 'parapet-id': Buffer.from(one.id).toString('hex'), 'parapet-policy': 'awp-2026-11', 'parapet-rules': 'c0ffee', 'parapet-purpose': 'improve.statistics', 'parapet-retention': 'P30D' },
    })
    expect(first?.expirySeconds).toBeGreaterThan(3_590)
    expect(first?.user).not.toHaveProperty('parapet-delayed')
    expect(second?.user['parapet-delayed']).toBe('true')
    // One alias is allowed: the first topic has it, the second does without.
    expect([first?.alias, second?.alias, third?.alias, second?.topic]).toEqual([1, 1, undefined, 'out/a/1'])
    expect(cloud.lines[0]?.connect).toMatchObject({ clean: true, clientId: 'depot-7-cloud', protocolVersion: 5 })
  })

  test('in MQTT 3.1.1 the same stands in the envelope', async () => {
    const cloud = await cloudOf({ protocol: 4 })
    const rig = rigOf(cloud.url, { protocol: 4, envelope: true })
    const one = record({ payload: 'minimised', receivedAtMs: Date.now() - 120_000 })
    rig.outbox.accept(one)
    await drained(rig)
    const type = (await protobuf.load(join(import.meta.dirname, '../../proto/parapet/v1/envelope.proto'))).lookupType('parapet.v1.Envelope')
    expect(type.toObject(type.decode(cloud.got[0]?.payload as Buffer), { longs: Number, bytes: String })).toEqual({
      id: Buffer.from(one.id).toString('base64'), policy: 'awp-2026-11', rulesHash: 'c0ffee', purpose: 'improve.statistics', retentionS: 2_592_000, delayed: true,
      payload: Buffer.from('minimised').toString('base64'),
    })
  })

  test('what the broker cannot do is not asked for', async () => {
    const cloud = await cloudOf({ connack: { properties: { maximumQoS: 1, retainAvailable: false, maximumPacketSize: 400 } } })
    const rig = rigOf(cloud.url)
    rig.outbox.accept(record({ payload: 'small', qos: 2, retain: true }))
    rig.outbox.accept(record({ payload: 'x'.repeat(400) }))
    await until(() => rig.counts.dead === 1 && rig.counts.acked === 1, 'both')
    expect(cloud.got.map(({ text, qos, retain }) => [text, qos, retain])).toEqual([['small', 1, false]])
    expect(counted(rig.outbox)).toBeLessThanOrEqual(1)
  })

  test.each(['zstd', 'none'] as const)('batches (%s): formed at sending, delimited, with the ids in order', async (compress) => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url, { batch: { messages: 10, withinMs: 30, compress } })
    const secret = fill(rig.outbox, 75)
    rig.gate.open = ({ machine }) => machine !== 'SN-2'
    await drained(rig)
    const texts = cloud.got.flatMap(({ payload }) => delimited(compress === 'zstd' ? zstdDecompressSync(payload) : payload))
    for (const machine of ['SN-1', 'SN-3']) expect(texts.filter((text) => text.startsWith(machine))).toEqual(secret.filter((text) => text.startsWith(machine)))
    expect(texts.filter((text) => text.startsWith('SN-2'))).toEqual([])
    expect(new Set(cloud.got.map(({ contentType }) => contentType))).toEqual(new Set([`application/x-protobuf-delimited${compress === 'zstd' ? '+zstd' : ''}`]))
    expect(cloud.got.every(({ user, payload }) => Buffer.from(user['parapet-ids'] ?? '', 'base64url').length / 16 === delimited(compress === 'zstd' ? zstdDecompressSync(payload) : payload).length)).toBe(true)
    expect([rig.counts.acked, rig.counts.gated, cloud.got.length <= 8]).toEqual([50, 25, true])
  })
})

describe('refusals', () => {
  test.each(Object.entries(ANSWERS).map(([code, meaning]) => [`0x${Number(code).toString(16).padStart(2, '0')}`, Number(code), meaning] as const))(
    'PUBACK %s: %s is %s', async (_, code, meaning) => {
      const cloud = await cloudOf({ answer: ({ text }) => (text.endsWith('!') && cloud.texts.filter((one) => one === text).length < 3 ? code : 0) })
      const rig = rigOf(cloud.url, { window: 1 })
      rig.outbox.accept(record({ payload: 'before' }))
      rig.outbox.accept(record({ payload: 'refused!' }))
      rig.outbox.accept(record({ payload: 'after' }))
      await until(() => cloud.texts.includes('after') && rig.outbox.depth === (meaning === 'never' ? 1 : 0), 'all answers')
      expect(cloud.texts).toEqual(meaning === 'again' || meaning === 'later' ? ['before', 'refused!', 'refused!', 'refused!', 'after'] : ['before', 'refused!', 'after'])
      expect([rig.counts.retried, rig.counts.dead, rig.outbox.stats.dead]).toEqual(
        meaning === 'taken' ? [undefined, undefined, 0] : meaning === 'never' ? [undefined, 1, 1] : [2, undefined, 0])
      expect(counted(rig.outbox)).toBeGreaterThanOrEqual(2)
    })

  test.each([0x95, 0x99, 0x9a, 0x9b, 0x90])('DISCONNECT with %i over one message: they go one by one until it is found', async (code) => {
    const cloud = await cloudOf({
      answer: ({ text }, _nth, line) => {
        if (text !== 'too large') return 0
        line.send({ cmd: 'disconnect', reasonCode: code })
        line.socket.end()
        return undefined
      },
    })
    const rig = rigOf(cloud.url)
    const sent = [...fill(rig.outbox, 5)]
    rig.outbox.accept(record({ payload: 'too large' }))
    sent.push(...fill(rig.outbox, 5))
    await until(() => rig.counts.dead === 1 && rig.outbox.depth === 1, 'all but one')
    expect(finally_(cloud.texts).filter((text) => text !== 'too large')).toEqual(sent)
  })

  test('an acknowledgement that is none ends the connection and loses nothing', async () => {
    const cloud = await cloudOf({ answer: (_arrived, nth, line) => (line.number === 1 && nth === 3 ? 0x89 : 0) })
    const rig = rigOf(cloud.url)
    const sent = fill(rig.outbox, 20)
    await drained(rig)
    expect([finally_(cloud.texts), cloud.lines.length]).toEqual([sent, 2])
  })

  test('QoS 2 is refused in PUBREC', async () => {
    const cloud = await cloudOf({ answer: ({ text }) => (text === 'no' ? 0x99 : 0) })
    const rig = rigOf(cloud.url)
    rig.outbox.accept(record({ payload: 'no', qos: 2 }))
    rig.outbox.accept(record({ payload: 'yes', qos: 2 }))
    await until(() => rig.counts.dead === 1 && rig.counts.acked === 1, 'both answers')
  })

  test('after a refusal what followed it of the same machine goes again behind it; counted once', async () => {
    const cloud = await cloudOf({ answer: () => undefined })
    const rig = rigOf(cloud.url)
    for (const [payload, machine] of [['a1', 'SN-1'], ['b1', 'SN-2'], ['a2', 'SN-1'], ['b2', 'SN-2'], ['b3', 'SN-2']] as const) rig.outbox.accept(record({ payload, machine: machine as MachineId }))
    await until(() => cloud.got.length === 5, 'all of them')
    cloud.answer = () => 0
    for (const [text, code] of [['b1', 0x80], ['a1', 0], ['b3', 0], ['a2', 0], ['b2', 0]] as const) acknowledge(cloud.lines[0] as Line, cloud.got.find((one) => one.text === text) as Arrived, code)
    await drained(rig)
    expect(cloud.texts).toEqual(['a1', 'b1', 'a2', 'b2', 'b3', 'b1', 'b2', 'b3'])
    expect(finally_(cloud.texts)).toEqual(['a1', 'a2', 'b1', 'b2', 'b3'])
    await pause(80)
    expect(counted(rig.outbox)).toBe(5)
  })

  test('a message that is refused for now again and again becomes a dead letter, so that others are not held up', async () => {
    const cloud = await cloudOf({ answer: ({ text }) => (text === 'poison' ? 0x80 : 0) })
    const rig = rigOf(cloud.url, { timing: { ...QUICK, backOffMaxMs: 20 } })
    rig.outbox.accept(record({ payload: 'poison' }))
    rig.outbox.accept(record({ payload: 'fine' }))
    await until(() => rig.counts.dead === 1 && rig.counts.acked === 1, 'the end of patience')
    expect(cloud.texts.filter((text) => text === 'poison')).toHaveLength(10)
    expect(rig.logged.join()).not.toContain('poison')
  })

  test('a dead letter is kept aside over a restart, is not sent, and can be erased', async () => {
    const cloud = await cloudOf({ answer: () => 0x87 })
    const rig = rigOf(cloud.url)
    fill(rig.outbox, 3)
    await until(() => rig.outbox.stats.dead === 3, 'the refusals')
    await rig.stop()
    cloud.answer = () => 0
    const back = rigOf(cloud.url, {}, rig.folder)
    fill(back.outbox, 1)
    await until(() => back.counts.acked === 1, 'the new one')
    expect([cloud.got.length, back.outbox.depth]).toEqual([4, 3])
    expect(back.outbox.purge({ subject: 'op-ada' as OperatorId }, 'erasure').purged).toBe(3)
    expect(back.outbox.depth).toBe(0)
  })

  test('Receive Maximum exceeded (DISCONNECT 0x93) halves the window', async () => {
    const cloud = await cloudOf({
      answer: (_arrived, nth, line) => {
        if (nth < 9 || line.number > 1) return line.number > 1 ? 0 : undefined
        line.send({ cmd: 'disconnect', reasonCode: 0x93 })
        line.socket.end()
        return undefined
      },
    })
    const rig = rigOf(cloud.url)
    const sent = fill(rig.outbox, 60)
    await until(() => cloud.lines.length === 2 && rig.bridge.state.connected, 'the second connection')
    expect(rig.bridge.state.window).toBe(8)
    await drained(rig)
    expect(finally_(cloud.texts)).toEqual(sent)
  })
})

describe('the connection', () => {
  test('an outage: nothing is lost, order is kept, what comes twice is a suffix sent again', async () => {
    const cloud = await cloudOf({
      answer: (arrived, _nth, line) => {
        setTimeout(() => acknowledge(line, arrived), 1)
        return undefined
      },
    })
    const rig = rigOf(cloud.url)
    const sent: string[] = []
    for (let round = 0; round < 4; round++) {
      sent.push(...fill(rig.outbox, 150))
      await until(() => cloud.got.length > round * 150 + 20, 'some')
      await cloud.stop()
      sent.push(...fill(rig.outbox, 20))
      await pause(20)
      await cloud.start()
    }
    await drained(rig)
    expect(finally_(cloud.texts)).toEqual(sent)
    for (const text of new Set(cloud.texts)) {
      const came = cloud.got.filter((one) => one.text === text)
      expect(new Set(came.map(({ user }) => user['parapet-id'])).size).toBe(1)
      expect(new Set(came.map(({ connection }) => connection)).size).toBe(came.length)
    }
    // Each connection is a run without gaps of what was sent.
    for (const { number } of cloud.lines) {
      const run = cloud.got.filter(({ connection }) => connection === number).map(({ text }) => text)
      expect(run).toEqual(sent.slice(sent.indexOf(run[0] ?? ''), sent.indexOf(run[0] ?? '') + run.length))
    }
    // At most the window comes again, per connection.
    expect(cloud.texts.length - sent.length).toBeLessThanOrEqual(16 * 4)
    expect(counted(rig.outbox)).toBe(sent.length)
  })

  test('a broker that ends the connection at the third message, for ever: all arrive, and the pauses grow', async () => {
    const cloud = await cloudOf({
      answer: (_arrived, nth, line) => {
        if (nth < 3) return 0
        line.socket.destroy()
        return undefined
      },
    })
    const rig = rigOf(cloud.url, { random: () => 0.5, timing: { ...QUICK, stableMs: 60_000 } })
    const sent = fill(rig.outbox, 10)
    await drained(rig)
    expect(finally_(cloud.texts)).toEqual(sent)
    // The middle of 10 to 20, 10 to 40, 10 to 80, … ms.
    const pauses = rig.logged.filter((line) => line.includes('not connected')).map((line) => Number(/"ms":(\d+)/.exec(line)?.[1]))
    expect(pauses.slice(0, 4)).toEqual([15, 25, 45, 85])
    for (const [index, at] of cloud.connects.slice(1).entries()) expect(at - (cloud.connects[index] as number)).toBeGreaterThanOrEqual((pauses[index] as number) - 1)
  })

  test('the pause is drawn between a floor and a bound that doubles, up to the last', async () => {
    const port = await freePort()
    const draws: number[] = []
    const rig = rigOf(`mqtt://127.0.0.1:${port}`, { random: () => { draws.push(1); return 0.999 }, timing: { ...QUICK, backOffMs: 2, backOffMaxMs: 40 } })
    await until(() => draws.length >= 8, 'eight attempts')
    expect(rig.bridge.state).toMatchObject({ connected: false, reason: 'refused', code: 'ECONNREFUSED' })
    expect(rig.bridge.state.mend).toContain('check host and port')
    // News once, not at every attempt.
    expect(rig.logged).toHaveLength(1)
  })

  test.each<[string, CloudOptions['connack'], string]>([
    ['a wrong password', { reasonCode: 0x86 }, 'login'],
    ['no right to connect', { reasonCode: 0x87 }, 'login'],
    ['a client id it does not like', { reasonCode: 0x85 }, 'client_id'],
    ['no such version', { reasonCode: 0x84 }, 'protocol'],
    ['a broker that is busy', { reasonCode: 0x89 }, 'unavailable'],
    ['a broker for QoS 0 only', { properties: { maximumQoS: 0 } }, 'qos'],
  ])('%s', async (_, connack, reason) => {
    const cloud = await cloudOf({ connack: connack ?? {} })
    const rig = rigOf(cloud.url)
    const sent = fill(rig.outbox, 3)
    await until(() => rig.bridge.state.reason === reason, reason)
    expect([rig.outbox.depth, cloud.got]).toEqual([3, []])
    cloud.connack = {}
    await drained(rig)
    expect(cloud.texts).toEqual(sent)
  })

  test('the password comes from its file at each attempt, and stands in no log', async () => {
    const cloud = await cloudOf({ protocol: 4 })
    const folder = mkdtempSync(join(tmpdir(), 'parapet-bridge-'))
    const file = join(folder, 'cloud')
    const rig = rigOf(cloud.url, { protocol: 4, credentialsFile: file }, folder)
    await until(() => rig.bridge.state.reason === 'credentials', 'the missing file')
    writeFileSync(file, 'depot-7\nhunter2\n', { mode: 0o600 })
    await until(() => rig.bridge.state.connected, 'the connection')
    expect([cloud.lines[0]?.connect.username, String(cloud.lines[0]?.connect.password)]).toEqual(['depot-7', 'hunter2'])
    expect(rig.logged.join() + JSON.stringify(rig.bridge.state)).not.toMatch(/hunter2|depot-7"/)
  })

  test('a broker that is there and says nothing is given up after one and a half keep alives', async () => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url, { keepaliveMs: 1_000 })
    await until(() => rig.bridge.state.connected, 'the connection')
    // Half open: it neither reads nor closes.
    cloud.lines[0]?.socket.pause()
    const began = performance.now()
    const sent = fill(rig.outbox, 5)
    await until(() => cloud.lines.length === 2, 'the next connection')
    expect(performance.now() - began).toBeLessThan(4_000)
    await drained(rig)
    expect(finally_(cloud.texts)).toEqual(sent)
  })

  test('no CONNACK: given up in time', async () => {
    const silent = createServer((socket) => void socket.on('error', () => undefined))
    await new Promise<void>((done) => void silent.listen(0, '127.0.0.1', done))
    const rig = rigOf(`mqtt://127.0.0.1:${(silent.address() as AddressInfo).port}`, { timing: { ...QUICK, connectMs: 100 } })
    await until(() => rig.bridge.state.reason === 'silent', 'the end of patience')
    await rig.stop()
    await new Promise((done) => void silent.close(done))
  })

  test('a broker that publishes to a bridge, which has subscribed to nothing, is no broker', async () => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url)
    await until(() => rig.bridge.state.connected, 'the connection')
    cloud.lines[0]?.send({ cmd: 'publish', topic: 'x', payload: 'y', qos: 0, retain: false, dup: false })
    await until(() => rig.bridge.state.reason === 'intruder' || cloud.lines.length > 1, 'the end')
    expect(rig.logged.some((line) => line.includes('intruder'))).toBe(true)
  })

  describe('TLS', () => {
    const authority = makeCertificate({ names: ['authority'], ca: true })
    const server = makeCertificate({ names: ['cloud'], issuer: authority, ip: [127, 0, 0, 1] })
    const other = makeCertificate({ names: ['another authority'], ca: true })
    const client = makeCertificate({ names: ['depot-7'], issuer: authority })
    const tls = { cert: server.cert, key: server.key, ca: authority.cert, requestCert: true }

    test('with the right authority and our own certificate; a withdrawal resets it through TLS, too', async () => {
      const cloud = await cloudOf({ tls, answer: () => undefined })
      const rig = rigOf(cloud.url, { tls: { ca: authority.cert, cert: client.cert, key: client.key } })
      fill(rig.outbox, 2)
      await until(() => cloud.got.length === 2, 'the messages')
      let ended = ''
      cloud.lines[0]?.socket.on('error', (error: NodeJS.ErrnoException) => (ended = error.code ?? ''))
      cloud.lines[0]?.socket.on('close', () => (ended ||= 'closed'))
      rig.gate.open = () => false
      rig.outbox.purge({ subject: 'op-ada' as OperatorId }, 'erasure')
      expect(await rig.bridge.cut({ subject: 'op-ada' as OperatorId })).toEqual({ dropped: 0, onTheWire: 2 })
      await until(() => ended !== '', 'the end of the connection')
      expect(ended).toBe('ECONNRESET')
    })

    test.each<[string, BridgeOptions['tls']]>([
      ['another authority', { ca: other.cert }],
      ['no authority of ours', {}],
      ['another server name', { ca: authority.cert, serverName: 'mqtt.example.com' }],
    ])('%s: nothing is sent, and the reason is named', async (_, wrong) => {
      const cloud = await cloudOf({ tls })
      const rig = rigOf(cloud.url, { tls: { cert: client.cert, key: client.key, ...wrong } })
      fill(rig.outbox, 1)
      await until(() => rig.bridge.state.reason !== undefined, 'a reason')
      expect([rig.bridge.state.reason, cloud.lines.length, rig.outbox.depth]).toEqual(['tls', 0, 1])
    })
  })

  test('a url that is none says how to write it', () => {
    for (const url of ['cloud', 'http://127.0.0.1', 'mqtt://user:pw@127.0.0.1']) {
      expect(() => createBridge({ url } as BridgeOptions)).toThrow(/Write mqtts:\/\/host:port/)
    }
  })
})

describe('withdrawal', () => {
  const ADA = { subject: 'op-ada' as OperatorId }
  const withdraw = async (rig: Rig): Promise<{ purged: number; dropped: number; onTheWire: number }> => {
    rig.gate.open = ({ payloadIfWithdrawn, subjects }) => payloadIfWithdrawn === undefined || !subjects.includes(ADA.subject)
    const { purged } = rig.outbox.purge(ADA, 'withdrawal')
    return { purged, ...await rig.bridge.cut(ADA) }
  }

  test('while the cloud is away: nothing of it ever leaves', async () => {
    const cloud = await cloudOf()
    await cloud.stop()
    const rig = rigOf(cloud.url)
    fill(rig.outbox, 20, { payload: 'Ada', variant: null })
    fill(rig.outbox, 20, { payload: 'Ada, fine', variant: 'coarse' })
    const others = fill(rig.outbox, 20, { subjects: ['op-bob' as OperatorId], variant: null })
    await pause(20)
    expect(await withdraw(rig)).toEqual({ purged: 20, dropped: 0, onTheWire: 0 })
    await cloud.start()
    await drained(rig)
    expect(cloud.texts).toEqual([...Array.from({ length: 20 }, () => 'coarse'), ...others])
    expect(counted(rig.outbox)).toBe(40)
  })

  test('while it is in the window: the connection is reset, what was out is counted, the rest goes on', async () => {
    const cloud = await cloudOf({ answer: () => undefined })
    const rig = rigOf(cloud.url, { window: 4 })
    fill(rig.outbox, 2, { payload: 'Ada', variant: null })
    const others = fill(rig.outbox, 2, { subjects: ['op-bob' as OperatorId], variant: null })
    fill(rig.outbox, 10, { payload: 'Ada later', variant: null })
    fill(rig.outbox, 3, { payload: 'fine', variant: 'coarse' })
    await until(() => cloud.got.length === 4, 'the window')
    const seen = cloud.got.length
    cloud.answer = () => 0
    expect(await withdraw(rig)).toEqual({ purged: 12, dropped: 10, onTheWire: 2 })
    await until(() => rig.outbox.depth === 0, 'the rest')
    expect(cloud.texts.slice(seen)).toEqual([...others, 'coarse', 'coarse', 'coarse'])
    expect(cloud.lines).toHaveLength(2)
    await pause(80)
    // 2 of Ada that may have arrived, 2 of Bob once each, 3 coarse ones.
    expect(counted(rig.outbox)).toBe(7)
  })

  test('what was acknowledged before needs no reset', async () => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url)
    fill(rig.outbox, 5, { variant: null })
    await until(() => rig.counts.acked === 5, 'the acknowledgements')
    expect(await withdraw(rig)).toMatchObject({ dropped: 0, onTheWire: 0 })
    expect(cloud.lines).toHaveLength(1)
  })

  test('to a peer that stopped reading: what waits in the process and in the kernel does not arrive', async () => {
    const cloud = await cloudOf({ answer: () => undefined })
    const rig = rigOf(cloud.url, { window: 64 })
    await until(() => rig.bridge.state.connected, 'the connection')
    const { socket } = cloud.lines[0] as Line
    socket.pause()
    fill(rig.outbox, 60, { payload: `Ada ${'x'.repeat(200_000)}`, variant: null })
    await until(() => (rig.counts.sent ?? 0) > 3, 'a full socket')
    await pause(30)
    const receipt = await withdraw(rig)
    expect(receipt.onTheWire).toBe(rig.counts.sent)
    expect(receipt.onTheWire).toBeLessThan(60)
    const before = cloud.got.length
    socket.resume()
    await pause(50)
    expect(cloud.got.length - before).toBeLessThanOrEqual(receipt.onTheWire)
    expect(rig.outbox.depth).toBe(0)
  })

  test('QoS 0 that is still in the process', async () => {
    const cloud = await cloudOf()
    const rig = rigOf(cloud.url, { window: 64 })
    await until(() => rig.bridge.state.connected, 'the connection')
    cloud.lines[0]?.socket.pause()
    for (let n = 0; n < 100; n++) {
      fill(rig.outbox, 1, { qos: 0, payload: 'x'.repeat(200_000), variant: null })
      await turns(3)
    }
    const sent = rig.counts.sent ?? 0
    const { onTheWire } = await withdraw(rig)
    expect(onTheWire).toBeGreaterThan(0)
    expect([onTheWire <= sent, sent < 100, (rig.counts.dropped_qos0 ?? 0) > 0]).toEqual([true, true, true])
  })

  test('at any moment of a busy stream: no frame of hers after the answer', async () => {
    const cloud = await cloudOf({
      answer: (arrived, _nth, line) => {
        setImmediate(() => acknowledge(line, arrived))
        return undefined
      },
    })
    const rig = rigOf(cloud.url, { timing: { ...QUICK, backOffMs: 1, backOffMaxMs: 2 } })
    for (let round = 0; round < rounds; round++) {
      rig.gate.open = () => true
      for (let n = 0; n < 40; n++) {
        fill(rig.outbox, 1, n % 2 === 0 ? { payload: `Ada ${round}`, variant: null } : { subjects: ['op-bob' as OperatorId] })
        if (n % 10 === 0) await pause(round % 4)
      }
      const { onTheWire } = await withdraw(rig)
      expect(onTheWire).toBeLessThanOrEqual(16)
      const before = cloud.texts.filter((text) => text === `Ada ${round}`).length
      await drained(rig)
      // What the kernel of the other side already had may still be read there: it was counted.
      expect(cloud.texts.filter((text) => text === `Ada ${round}`).length - before).toBeLessThanOrEqual(onTheWire)
    }
    expect(cloud.got.filter(({ text }) => text.startsWith('SN')).length).toBeGreaterThanOrEqual(rounds * 20)
  })
})

describe('what may not leave when its turn comes', () => {
  test('gate and expiry are looked at right before the write', async () => {
    const cloud = await cloudOf({ answer: () => undefined })
    const rig = rigOf(cloud.url, { window: 1 })
    rig.outbox.accept(record({ payload: 'first' }))
    rig.outbox.accept(record({ payload: 'closed', output: 'closed' as OutputId }))
    rig.outbox.accept(record({ payload: 'late', expiresAtMs: Date.now() + 40 }))
    rig.outbox.accept(record({ payload: 'last' }))
    await until(() => cloud.got.length === 1, 'the first')
    rig.gate.open = ({ output }) => output !== 'closed'
    await pause(60)
    cloud.answer = () => 0
    acknowledge(cloud.lines[0] as Line, cloud.got[0] as Arrived)
    await drained(rig)
    expect(cloud.texts).toEqual(['first', 'last'])
    expect([rig.counts.gated, rig.counts.expired]).toEqual([1, 1])
  })
})

describe('restart', () => {
  test('with a backlog: it goes on where it was, oldest first', async () => {
    const cloud = await cloudOf()
    await cloud.stop()
    const rig = rigOf(cloud.url)
    const sent = fill(rig.outbox, 3_000)
    await new Promise((done) => {
      rig.outbox.committed(done)
    })
    await rig.stop()
    await cloud.start()
    const back = rigOf(cloud.url, { window: 256 }, rig.folder)
    expect(back.outbox.waiting('cloud')).toBe(3_000)
    sent.push(...fill(back.outbox, 10))
    await drained(back)
    expect(cloud.texts).toEqual(sent)
    expect(back.outbox.waiting('cloud')).toBe(0)
    // Nothing was handed out before: nothing of it counts as unknown.
    expect(counted(back.outbox)).toBe(3_010)
  })

  test('close waits for what is on the way', async () => {
    const cloud = await cloudOf({
      answer: (arrived, _nth, line) => {
        setTimeout(() => acknowledge(line, arrived), 700)
        return undefined
      },
    })
    const rig = rigOf(cloud.url)
    fill(rig.outbox, 8)
    await until(() => cloud.got.length === 8, 'the messages')
    await rig.stop()
    expect(rig.counts.acked).toBe(8)
    const again = openOutbox({ file: join(rig.folder, 'outbox.db') })
    expect([again.depth, counted(again)]).toEqual([0, 8])
    await again.close()
  })
})

describe('brokers of others', () => {
  test.each([1, 2] as const)('aedes (MQTT 3.1.1, QoS %s): an outage in the middle, all arrive', async (qos) => {
    const aedes = await Aedes.createBroker()
    const got: string[] = []
    aedes.on('publish', (packet, client) => {
      if (client !== null) got.push(String(packet.payload))
    })
    const server = createServer((socket) => aedes.handle(socket))
    const sockets = new Set<Socket>()
    server.on('connection', (socket) => sockets.add(socket))
    await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
    const rig = rigOf(`mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, { protocol: 4 })
    const sent = fill(rig.outbox, 300, { qos })
    await until(() => got.length > 50, 'some')
    for (const socket of sockets) socket.destroy()
    sent.push(...fill(rig.outbox, 100, { qos }))
    await drained(rig)
    expect(finally_(got)).toEqual(sent)
    await rig.stop()
    await new Promise<void>((done) => {
      aedes.close(done)
    })
    await new Promise((done) => void server.close(done))
  })

  const mosquitto = process.env['PARAPET_MOSQUITTO']
  test.skipIf(mosquitto === undefined)('mosquitto (MQTT 5; set PARAPET_MOSQUITTO to its binary): outage and return', async () => {
    const port = await freePort()
    const start = (): ChildProcess => spawn(mosquitto as string, ['-p', String(port)], { stdio: 'ignore' })
    let broker = start()
    open.push(async () => void broker.kill('SIGKILL'))
    const got: string[] = []
    // The recorder keeps its subscription over the outage by coming back to it.
    const recorder = connect({ host: '127.0.0.1', port, protocolVersion: 5, reconnectPeriod: 20, clean: true, clientId: 'recorder' })
    recorder.on('message', (_topic, payload) => got.push(String(payload)))
    await new Promise<void>((done) => void recorder.once('connect', () => done()))
    await recorder.subscribeAsync('out/#', { qos: 1 })
    // The way to it, which opens again only when the recorder is back: mosquitto keeps nothing for that one over a kill.
    const sockets = new Set<Socket>()
    const way = createServer((socket) => {
      const onward = netConnect({ host: '127.0.0.1', port })
      for (const [from, to] of [[socket, onward], [onward, socket]] as const) {
        sockets.add(from)
        from.on('error', () => undefined)
        from.on('close', () => to.destroy())
        from.pipe(to)
      }
    })
    await new Promise<void>((done) => void way.listen(0, '127.0.0.1', done))
    const { port: entrance } = way.address() as AddressInfo
    const rig = rigOf(`mqtt://127.0.0.1:${entrance}`, { window: 256 })
    const sent = fill(rig.outbox, 500)
    await until(() => got.length >= 500, 'the first part')
    const gone = new Promise((done) => void broker.once('exit', done))
    const shut = new Promise((done) => void way.close(done))
    broker.kill('SIGKILL')
    await gone
    for (const socket of sockets) socket.destroy()
    await shut
    sent.push(...fill(rig.outbox, 500))
    await until(() => !rig.bridge.state.connected, 'the outage')
    const back = new Promise<void>((done) => void recorder.once('connect', () => done()))
    broker = start()
    await back
    await recorder.subscribeAsync('out/#', { qos: 1 })
    await new Promise<void>((done) => void way.listen(entrance, '127.0.0.1', done))
    await drained(rig)
    await until(() => new Set(got).size === 1_000, 'the rest')
    expect(finally_(got)).toEqual(sent)
    recorder.end(true)
    await rig.stop()
    broker.kill('SIGKILL')
    way.close()
  })
})

/** Length-delimited messages, read without the code under test. */
function delimited(bytes: Uint8Array): string[] {
  const reader = protobuf.Reader.create(bytes)
  const texts: string[] = []
  while (reader.pos < reader.len) texts.push(Buffer.from(reader.bytes()).toString())
  return texts
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => void server.close(done))
  return port
}
