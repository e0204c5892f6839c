/**
 * Sessions of recipients over crashes: the recipients' broker and the outbox together, real sockets, and as the crash a copy of the
 * folder taken while everything runs.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { OperatorId, OutputId, PurposeId, RecipientId } from '../../src/domain/ids.ts'
import type { OutboxRecord, PurgeReason, PurgeSelector } from '../../src/domain/ports.ts'
import { localOutlet } from '../../src/outlet/local.ts'
import { openOutbox, type DurableOutbox } from '../../src/outlet/outbox.ts'
import { covers } from '../../src/outlet/selector.ts'
import { RawClient, pause, startEgress, until, type EgressStage } from '../broker/stage.ts'
import { record } from '../contract/records.ts'

interface House {
  readonly folder: string
  readonly outbox: DurableOutbox
  readonly egress: EgressStage
}

let open: { close(): unknown }[]
let folders: string[]

beforeEach(() => {
  open = []
  folders = []
})

afterEach(async () => {
  for (const one of open.reverse()) await one.close()
  for (const folder of folders) rmSync(folder, { recursive: true })
})

interface Terms {
  readonly held?: (record: OutboxRecord) => boolean
  readonly knows?: (output: OutputId) => boolean
}

async function house(from?: House, terms: Terms = {}): Promise<House> {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-sessions-'))
  folders.push(folder)
  // What kill -9 at this instant would leave.
  if (from !== undefined) cpSync(from.folder, folder, { recursive: true })
  const { held, knows } = terms
  const outbox = openOutbox({ file: join(folder, 'outbox.db'), ...(held === undefined ? {} : { held }) })
  const egress = await startEgress({ store: outbox.sessions, onDelivered: outbox.onDelivered, held, knows })
  outbox.attach(localOutlet({
    publish: (one, done) => egress.egress.publish(one, (sessions) => done(undefined, sessions)),
    cut: async (selector) => {
      const { purged, swapped, cut } = egress.egress.purge((one) => covers(selector, one))
      return { dropped: purged + swapped, onTheWire: await cut() }
    },
  }))
  open.push({ close: () => outbox.close() }, egress)
  return { folder, outbox, egress }
}

async function planner({ egress }: House, filters: readonly string[] = [], qos: 1 | 2 = 1): Promise<RawClient> {
  const client = new RawClient(egress.port)
  open.push({ close: () => client.destroy() })
  expect(await client.connect('planner-co', { clean: false, clientId: 'ingestion' })).toBe(0)
  if (filters.length > 0) {
    client.send({ cmd: 'subscribe', messageId: 1, subscriptions: filters.map((topic) => ({ topic, qos })) })
    await client.next('suback')
  }
  return client
}

const FILTER = 'out/planning/+'
async function send({ outbox }: House, ...payloads: readonly string[]): Promise<void> {
  for (const payload of payloads) outbox.accept(record({ payload, recipient: 'planner-co' as RecipientId, topic: 'out/planning/q8Zk', via: ['local'], variant: payload.startsWith('fine') ? payload.replace('fine', 'coarse') : null }))
  expect(await new Promise((resolve) => outbox.committed(resolve))).toBeUndefined()
}
const publishes = (client: RawClient) => client.packets.flatMap((packet) => (packet.cmd === 'publish' ? [packet] : []))
const payloads = (client: RawClient): string[] => publishes(client).map(({ payload }) => String(payload))
const gone = async (client: RawClient): Promise<void> => {
  client.destroy()
  await client.closed
  await pause(30)
}

describe('a persistent session', () => {
  test('is there again after a crash, with what waits for it, in order', async () => {
    const first = await house()
    await gone(await planner(first, [FILTER]))
    await send(first, 'one', 'two')
    await send(first, 'three')
    await until(() => first.outbox.depth === 0)
    await pause(80)
    const second = await house(first)
    const client = await planner(second)
    await until(() => payloads(client).length === 3)
    expect(payloads(client)).toEqual(['one', 'two', 'three'])
    await send(second, 'four')
    await until(() => payloads(client).length === 4)
  })

  test('loses nothing that it has not acknowledged, and hears nothing again that it has', async () => {
    const first = await house()
    const client = await planner(first, [FILTER])
    await send(first, 'one', 'two', 'three', 'four')
    await until(() => publishes(client).length === 4)
    const [one, two] = publishes(client)
    client.send({ cmd: 'puback', messageId: one!.messageId! }, { cmd: 'puback', messageId: two!.messageId! })
    await until(() => first.outbox.depth === 2)
    await pause(80)
    const second = await house(first)
    const again = await planner(second)
    await until(() => payloads(again).length >= 2)
    await pause(50)
    expect(payloads(again)).toEqual(['three', 'four'])
  })

  test('that does not acknowledge holds up nobody: after a moment its messages are kept for it alone', async () => {
    const first = await house()
    const slow = await planner(first, [FILTER])
    await send(first, 'one', 'two')
    await until(() => publishes(slow).length === 2)
    expect(first.outbox.depth).toBe(2)
    await until(() => first.outbox.depth === 0, 5_000)
    const second = await house(first)
    const again = await planner(second)
    await until(() => payloads(again).length === 2)
    expect(payloads(again)).toEqual(['one', 'two'])
  })

  test('keeps nothing that the outbox has purged under it: after a crash it would rest on nobody\'s yes', async () => {
    const first = await house()
    const slow = await planner(first, [FILTER])
    await send(first, 'fine position', 'oldest')
    await until(() => publishes(slow).length === 2)
    // As an output at its quota does that lets its oldest go, and as the sweep of what has expired does.
    first.outbox.purge({ output: 'planner' as OutputId, atLeastBytes: 1 }, 'quota')
    await until(() => first.outbox.depth === 0, 5_000)
    await pause(80)
    const second = await house(first)
    second.egress.egress.purge((one) => one.payloadIfWithdrawn !== undefined)
    const again = await planner(second)
    await pause(100)
    expect(payloads(again)).toEqual([])
  })

  test('is not given what has expired while it was away, and no retained copy of it either', async () => {
    const first = await house()
    await gone(await planner(first, [FILTER]))
    for (const retain of [false, true]) first.outbox.accept(record({ payload: 'of yesterday', recipient: 'planner-co' as RecipientId, topic: 'out/planning/q8Zk', via: ['local'], retain, expiresAtMs: Date.now() + 150 }))
    await send(first, 'of today')
    await until(() => first.outbox.depth === 0)
    await pause(200)
    const client = await planner(first, [FILTER])
    await until(() => payloads(client).length === 1)
    const other = await planner(await house(first), [FILTER])
    await until(() => payloads(other).length === 1)
    await pause(50)
    expect([payloads(client), payloads(other)]).toEqual([['of today'], ['of today']])
  })

  test('that subscribes to the same again and again costs no commit each time', async () => {
    const first = await house()
    const client = await planner(first, [FILTER])
    const { commits } = first.outbox.stats
    for (let i = 0; i < 50; i++) client.send({ cmd: 'subscribe', messageId: 2 + i, subscriptions: [{ topic: FILTER, qos: 1 }] })
    for (let i = 0; i < 50; i++) await client.next('suback')
    expect(first.outbox.stats.commits - commits).toBeLessThan(5)
  })

  test('that subscribes and unsubscribes by turns shares commits, and what it said last is on the disk when it is answered', async () => {
    const first = await house()
    const client = await planner(first, [FILTER])
    const { commits } = first.outbox.stats
    const began = performance.now()
    for (let i = 0; i < 10; i++) {
      client.send({ cmd: 'unsubscribe', messageId: 2 + 2 * i, unsubscriptions: [FILTER] }, { cmd: 'subscribe', messageId: 3 + 2 * i, subscriptions: [{ topic: FILTER, qos: 1 }] })
      await client.next('suback')
    }
    // At most one each 50 ms, however fast it asks; without that it would be 20 within a few milliseconds.
    const slots = Math.ceil((performance.now() - began) / 50) + 2
    expect(first.outbox.stats.commits - commits).toBeLessThanOrEqual(slots)
    client.send({ cmd: 'unsubscribe', messageId: 99, unsubscriptions: [FILTER] })
    await until(() => client.ids('unsuback').includes(99))
    const second = await house(first)
    await send(second, 'one')
    const again = await planner(second)
    await pause(50)
    expect(payloads(again)).toEqual([])
  })

  test('that left in good order finds its messages under their ids, marked as sent before [MQTT-4.4.0-1]', async () => {
    const first = await house()
    const client = await planner(first, [FILTER])
    await send(first, 'one')
    await until(() => publishes(client).length === 1)
    const id = publishes(client)[0]!.messageId
    await gone(client)
    await pause(80)
    const again = await planner(await house(first))
    await until(() => publishes(again).length === 1)
    expect(publishes(again)[0]).toMatchObject({ messageId: id, dup: true })
  })

  test('of a QoS 2 message that it has received hears only the PUBREL', async () => {
    const first = await house()
    const client = await planner(first, [FILTER], 2)
    const { outbox } = first
    outbox.accept({ ...record({ payload: 'exactly once', recipient: 'planner-co' as RecipientId, topic: 'out/planning/q8Zk', via: ['local'] }), qos: 2 })
    await until(() => publishes(client).length === 1)
    const id = publishes(client)[0]!.messageId!
    client.send({ cmd: 'pubrec', messageId: id })
    await client.next('pubrel')
    await until(() => outbox.depth === 0)
    await pause(80)
    const again = await planner(await house(first), [], 2)
    expect(await again.next('pubrel')).toMatchObject({ messageId: id })
    await pause(30)
    expect(payloads(again)).toEqual([])
  })

  test('that a clean session has ended is gone, with everything that waited', async () => {
    const first = await house()
    await gone(await planner(first, [FILTER]))
    await send(first, 'one')
    const clean = new RawClient(first.egress.port)
    open.push({ close: () => clean.destroy() })
    await clean.connect('planner-co', { clean: true, clientId: 'ingestion' })
    await pause(80)
    const again = await planner(await house(first))
    await pause(50)
    expect(payloads(again)).toEqual([])
  })

  test('that has taken back its subscription stays so', async () => {
    const first = await house()
    const client = await planner(first, [FILTER])
    client.send({ cmd: 'unsubscribe', messageId: 2, unsubscriptions: [FILTER] })
    await client.next('unsuback')
    const second = await house(first)
    await send(second, 'one')
    const again = await planner(second)
    await pause(50)
    expect(payloads(again)).toEqual([])
  })
})

describe('a withdrawal', () => {
  const selector: PurgeSelector = { subject: 'op-ada' as OperatorId, purpose: 'improve.statistics' as PurposeId }

  test.each([['absent', true], ['connected, nothing acknowledged', false]] as const)('reaches what waits for a session that is %s, on the disk too', async (_, leaves) => {
    const first = await house()
    const client = await planner(first, [FILTER])
    if (leaves) await gone(client)
    await send(first, 'mine', 'fine position')
    await pause(80)
    const { cut } = first.egress.egress.purge((one) => covers(selector, one))
    first.outbox.purge(selector, 'withdrawal')
    // The transaction of the purge: a crash right after it.
    const second = await house(first)
    await cut()
    const again = await planner(second)
    await until(() => payloads(again).length > 0)
    await pause(50)
    expect(payloads(again)).toEqual(['coarse position'])
    expect(second.outbox.depth).toBe(0)
  })
})

describe('a legal hold', () => {
  const ada = 'op-ada' as OperatorId
  let isHeld: boolean
  const terms: Terms = { held: (one) => isHeld && one.subjects.includes(ada) }

  beforeEach(() => {
    isHeld = true
  })

  /** What lies in the outbox's file about somebody: `state payload`. 1 = held. */
  function stored({ folder }: House): string[] {
    const copy = mkdtempSync(join(tmpdir(), 'parapet-sessions-'))
    folders.push(copy)
    cpSync(folder, copy, { recursive: true })
    const db = new DatabaseSync(join(copy, 'outbox.db'))
    const rows = db.prepare('SELECT state, payload FROM records UNION ALL SELECT \'waits\', payload FROM waiting ORDER BY 2').all()
    db.close()
    return rows.map((row) => `${String(row['state'])} ${Buffer.from(row['payload'] as Uint8Array).toString()}`)
  }
  const withdraw = (of: House, selector: PurgeSelector, reason: PurgeReason): { held: number } => {
    const gone = of.egress.egress.purge((one) => covers(selector, one), reason)
    const { held } = of.outbox.purge(selector, reason)
    return { held: held + gone.held }
  }

  const reasons: readonly PurgeReason[] = ['withdrawal', 'erasure', 'device_setting', 'expiry']
  test.each(reasons.flatMap((reason) => [[reason, 'absent', true], [reason, 'connected', false]] as const))('keeps what %s covers of what waits for a session that is %s: on the disk, and nothing of it leaves', async (reason, _, leaves) => {
    const first = await house(undefined, terms)
    const client = await planner(first, [FILTER])
    if (leaves) await gone(client)
    await send(first, 'mine', 'fine position')
    if (leaves) await until(() => first.outbox.depth === 0)
    else await until(() => publishes(client).length === 2)
    await pause(80)
    expect(withdraw(first, { subject: ada }, reason).held).toBe(2)
    client.destroy()
    await pause(30)
    const again = await planner(first)
    await pause(80)
    expect(stored(first)).toEqual(['1 fine position', '1 mine'])
    const second = await house(first, terms)
    const later = await planner(second)
    await pause(80)
    expect([payloads(again), payloads(later), second.outbox.depth]).toEqual([[], [], 2])

    isHeld = false
    expect(second.outbox.purge({ subject: ada }, 'erasure').purged).toBe(2)
    expect(stored(second)).toEqual([])
  })

  test('keeps one copy of what waits for several sessions, and the retained one is that', async () => {
    const first = await house(undefined, terms)
    await gone(await planner(first, [FILTER]))
    const other = new RawClient(first.egress.port)
    open.push({ close: () => other.destroy() })
    await other.connect('planner-co', { clean: false, clientId: 'second' })
    other.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: FILTER, qos: 1 }] })
    await other.next('suback')
    await gone(other)
    first.outbox.accept({ ...record({ payload: 'mine', recipient: 'planner-co' as RecipientId, topic: 'out/planning/q8Zk', via: ['local'], variant: null }), retain: true })
    await until(() => first.outbox.depth === 0)
    await pause(80)
    const second = await house(first, terms)
    expect(withdraw(second, { subject: ada }, 'withdrawal').held).toBe(1)
    await pause(80)
    expect(stored(second)).toEqual(['1 mine'])
  })

  test('leaves what it does not ask for to the withdrawal', async () => {
    const first = await house(undefined, { held: () => false })
    await gone(await planner(first, [FILTER]))
    await send(first, 'mine', 'fine position')
    await until(() => first.outbox.depth === 0)
    expect(withdraw(first, { subject: ada }, 'withdrawal').held).toBe(0)
    await pause(80)
    expect(stored(first)).toEqual(['waits coarse position'])
  })

  test('keeps what a session that ends had not received', async () => {
    const first = await house(undefined, terms)
    await gone(await planner(first, [FILTER]))
    await send(first, 'mine')
    await until(() => first.outbox.depth === 0)
    const clean = new RawClient(first.egress.port)
    open.push({ close: () => clean.destroy() })
    await clean.connect('planner-co', { clean: true, clientId: 'ingestion' })
    await pause(80)
    expect(stored(first)).toEqual(['1 mine'])
  })

  test('keeps nothing of what was received', async () => {
    const first = await house(undefined, terms)
    const client = await planner(first, [FILTER])
    await send(first, 'mine')
    await until(() => publishes(client).length === 1)
    client.send({ cmd: 'puback', messageId: publishes(client)[0]!.messageId! })
    await until(() => first.outbox.depth === 0)
    await pause(80)
    withdraw(first, { subject: ada }, 'withdrawal')
    await pause(80)
    expect(stored(first)).toEqual([])
  })
})

test('a retained copy of an output that the rules do not have any more goes, at the start and after a reload', async () => {
  let outputs = ['planner']
  const terms: Terms = { knows: (output) => outputs.includes(output) }
  const retain = async (at: House, topic: string, output: string): Promise<void> => {
    at.outbox.accept({ ...record({ payload: topic, output: output as OutputId, recipient: 'planner-co' as RecipientId, topic, via: ['local'] }), retain: true })
    await until(() => at.outbox.depth === 0)
  }
  const first = await house()
  for (const [topic, output] of [['out/planning/a', 'planner'], ['out/planning/b', 'former']] as const) await retain(first, topic, output)
  await pause(80)
  const second = await house(first, terms)
  expect([second.egress.of('deliver.retained_gone'), second.outbox.sessions.size]).toEqual([1, 2])
  await pause(80)
  expect(second.outbox.sessions.size).toBe(1)
  outputs = []
  second.egress.egress.recheck()
  await pause(80)
  expect([second.egress.of('deliver.retained_gone'), second.outbox.sessions.size]).toEqual([2, 0])
})

test('a retained copy is there again after a crash, until it is withdrawn', async () => {
  const first = await house()
  first.outbox.accept({ ...record({ payload: 'mine', recipient: 'planner-co' as RecipientId, topic: 'out/planning/q8Zk', via: ['local'], variant: null }), retain: true })
  await until(() => first.outbox.depth === 0)
  await pause(80)
  const second = await house(first)
  const client = await planner(second, [FILTER])
  await until(() => payloads(client).length === 1)
  const selector: PurgeSelector = { subject: 'op-ada' as OperatorId }
  await second.egress.egress.purge((one) => covers(selector, one)).cut()
  second.outbox.purge(selector, 'withdrawal')
  const third = await house(second)
  const other = await planner(third, [FILTER])
  await pause(50)
  expect(payloads(other)).toEqual([])
})
