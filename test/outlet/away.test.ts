/** Retained messages at a cloud: cleared by a withdrawal, also when the link is down, the process dies or the output is closed by then. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Aedes } from 'aedes'
import { createServer, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LIMITS } from '../../src/domain/limits.ts'
import type { MachineId, OperatorId, OutputId, PurposeId } from '../../src/domain/ids.ts'
import type { OutboxRecord, PurgeReason, PurgeSelector } from '../../src/domain/ports.ts'
import { createBridge } from '../../src/outlet/bridge.ts'
import { openOutbox } from '../../src/outlet/outbox.ts'
import type { DurableOutbox, OutboxOptions } from '../../src/outlet/outbox.ts'
import { record, TestOutlet, turns } from '../contract/records.ts'
import { until } from '../e2e/stage.ts'
import { Cloud } from './cloud.ts'

const ada = 'op-ada' as OperatorId
const WITHDRAWAL: PurgeSelector = { subject: ada, purpose: 'improve.statistics' as PurposeId }
const TOPIC = 'out/planning/p-1'

let folders: string[]
let closing: (() => unknown)[]

beforeEach(() => {
  folders = []
  closing = []
})

afterEach(async () => {
  for (const close of closing.reverse()) await close()
  for (const folder of folders) rmSync(folder, { recursive: true })
})

function folderOf(from?: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-away-'))
  folders.push(folder)
  // As kill -9 at this instant would leave it.
  if (from !== undefined) cpSync(from, folder, { recursive: true })
  return folder
}

function open(folder: string, options: Partial<OutboxOptions> = {}): DurableOutbox {
  const outbox = openOutbox({ file: join(folder, 'outbox.db'), sweepMs: 0, retryMs: 1, ...options })
  closing.push(() => outbox.close())
  return outbox
}

const retained = (payload: string, of: Parameters<typeof record>[0] = {}): OutboxRecord => record({ payload, topic: TOPIC, retain: true, variant: null, ...of })
/** `topic=payload`, with an empty payload for what clears. */
const said = (outlet: TestOutlet): string[] => outlet.sent.map(({ topic, payload }) => `${topic}=${payload}`)

describe('the outbox', () => {
  interface Case {
    readonly what: string
    readonly record: OutboxRecord
    readonly selector?: PurgeSelector
    readonly reason?: PurgeReason
    readonly clears: boolean
  }
  const cases: readonly Case[] = [
    { what: 'a retained message that rests on the yes', record: retained('mine'), clears: true },
    { what: 'one with a variant without consent: the next message restores it', record: retained('exact', { variant: 'coarse' }), clears: true },
    { what: 'one of another person', record: retained('his', { subjects: ['op-bo'] as OperatorId[] }), clears: false },
    { what: 'one that a withdrawal does not touch', record: retained('contract', { variant: undefined }), clears: false },
    { what: 'a message that is not retained', record: record({ payload: 'mine', topic: TOPIC, variant: null }), clears: false },
    { what: 'at an erasure also what rests on no yes', record: retained('contract', { variant: undefined }), selector: { subject: ada }, reason: 'erasure', clears: true },
    { what: 'at a device setting what is about somebody', record: retained('contract', { variant: undefined }), selector: { machine: 'SN-1' as MachineId }, reason: 'device_setting', clears: true },
    { what: 'not for the room', record: retained('mine'), selector: { output: 'planner' as OutputId, atLeastBytes: 1 }, reason: 'quota', clears: false },
    { what: 'QoS 0', record: retained('mine', { qos: 0 }), clears: true },
  ]
  test.each(cases)('clears: $what', async ({ record: one, selector = WITHDRAWAL, reason = 'withdrawal', clears }) => {
    const outbox = open(folderOf())
    const [cloud, local] = [new TestOutlet('cloud', true), new TestOutlet('local', true)]
    outbox.attach(cloud)
    outbox.attach(local)
    outbox.accept({ ...one, via: ['cloud', 'local'] })
    await turns()
    outbox.purge(selector, reason)
    await turns()
    expect(said(cloud).slice(1)).toEqual(clears ? [`${TOPIC}=`] : [])
    expect(said(local).length).toBe(1)
    outbox.purge(selector, reason)
    await turns()
    expect([said(cloud).length, outbox.depth, outbox.bytes]).toEqual([clears ? 2 : 1, 0, 0])
  })

  test('clears after a crash and an outage of the link, behind what waits, and once', async () => {
    const folder = folderOf()
    const outbox = open(folder)
    outbox.attach(new TestOutlet('cloud', true))
    outbox.accept(retained('mine'))
    await turns()
    outbox.detach('cloud')
    const between = folderOf(folder)
    outbox.accept(retained('waits', { topic: 'out/planning/p-2', subjects: [] as OperatorId[], variant: undefined }))
    await turns()
    outbox.purge(WITHDRAWAL, 'withdrawal')
    const after = folderOf(folder)

    // A crash between the message and the withdrawal.
    const second = open(between)
    second.purge(WITHDRAWAL, 'withdrawal')
    const later = new TestOutlet('cloud', true)
    second.attach(later)
    await turns()
    expect(said(later)).toEqual([`${TOPIC}=`])
    // A crash right after it.
    const third = open(after)
    const last = new TestOutlet('cloud', true)
    third.attach(last)
    await turns()
    expect(said(last)).toEqual(['out/planning/p-2=waits', `${TOPIC}=`])
    third.purge(WITHDRAWAL, 'withdrawal')
    await turns()
    expect([said(last).length, third.depth]).toEqual([2, 0])
  })

  test('says what was handed out last: the message of somebody else in its place is not cleared', async () => {
    const outbox = open(folderOf())
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    outbox.accept(retained('mine'))
    outbox.accept(retained('his', { subjects: ['op-bo'] as OperatorId[] }))
    await turns()
    outbox.purge(WITHDRAWAL, 'withdrawal')
    await turns()
    expect(cloud.payloads).toEqual(['mine', 'his'])
  })

  test('is about nobody, and no envelope of the person stays behind', async () => {
    const folder = folderOf()
    const outbox = open(folder)
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    outbox.accept(retained('mine'))
    await turns()
    cloud.answer()
    await turns()
    outbox.purge(WITHDRAWAL, 'withdrawal')
    await turns()
    expect(cloud.open[0]!.record).toMatchObject({ subjects: [], consentSeq: [], payloadIfWithdrawn: undefined, retain: true, qos: 1, via: ['cloud'] })
    expect(outbox.machinesWithSubjects()).toEqual([])
  })

  test('at its bound clears the oldest at once, as nobody could later', async () => {
    const outbox = open(folderOf())
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    for (let i = 0; i <= LIMITS.retained; i++) outbox.accept(retained('mine', { topic: `out/planning/p-${i}` }))
    await until(() => cloud.sent.length === LIMITS.retained + 2, 'all to be sent')
    expect(said(cloud).at(-1)).toBe('out/planning/p-0=')
    await until(() => outbox.depth === 0, 'the outbox to be empty')
  })
})

describe('the bridge', () => {
  function bridgeOf(outbox: DurableOutbox, url: string, gate: () => boolean, envelope = false, protocol: 4 | 5 = 5): void {
    const bridge = createBridge({
      name: 'cloud', url, protocol, window: 16, clientId: 'depot-7-cloud', credentialsFile: undefined, tls: {}, clock: { now: Date.now, monotonic: () => performance.now() }, gate,
      envelope, batch: envelope ? { messages: 10, withinMs: 10_000, compress: 'none' } as never : undefined,
      retentionMs: () => undefined, onDelivered: outbox.onDelivered, onUp: (room) => outbox.attach(bridge, room), onDown: () => outbox.detach('cloud'),
      count: () => undefined, log: { info: () => undefined, warn: () => undefined }, timing: { backOffMs: 10, backOffMaxMs: 50 },
    })
    closing.push(() => bridge.close())
    bridge.open()
  }

  test('sends it bare, though messages are wrapped and batched and the output is closed by then; it counts as no disclosure', async () => {
    const cloud = await Cloud.open()
    closing.push(() => cloud.stop())
    let isOpen = true
    const outbox = open(folderOf())
    bridgeOf(outbox, cloud.url, () => isOpen, true)
    for (let i = 0; i < 10; i++) outbox.accept(retained(`mine ${i}`))
    await until(() => outbox.depth === 0, 'the batch to be acknowledged')
    isOpen = false
    outbox.purge(WITHDRAWAL, 'withdrawal')
    await until(() => outbox.depth === 0 && cloud.got.length === 2, 'the topic to be cleared')
    expect(cloud.got[1]).toMatchObject({ topic: TOPIC, retain: true, qos: 1, text: '' })
    expect(outbox.counts().reduce((sum, { count }) => sum + count, 0)).toBe(10)
  })

  test('a broker has nothing left for who subscribes later', async () => {
    const broker = await Aedes.createBroker()
    const server = createServer(broker.handle)
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
    closing.push(() => new Promise<void>((resolve) => {
      broker.close(() => server.close(() => resolve()))
    }))
    const outbox = open(folderOf())
    bridgeOf(outbox, `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, () => true, false, 4)
    const { persistence } = broker as unknown as { persistence: { createRetainedStream(pattern: string): AsyncIterable<{ topic: string; payload: Buffer }> } }
    const copies = async (): Promise<string[]> => {
      const found: string[] = []
      for await (const packet of persistence.createRetainedStream('out/#')) found.push(`${packet.topic}=${packet.payload.toString()}`)
      return found
    }
    outbox.accept(retained('mine'))
    outbox.accept(retained('of nobody', { topic: 'out/planning/p-2', subjects: [] as OperatorId[], variant: undefined }))
    await until(() => outbox.depth === 0, 'both to arrive')
    expect((await copies()).toSorted()).toEqual([`${TOPIC}=mine`, 'out/planning/p-2=of nobody'])
    outbox.purge(WITHDRAWAL, 'withdrawal')
    await until(() => outbox.depth === 0, 'the topic to be cleared')
    expect(await copies()).toEqual(['out/planning/p-2=of nobody'])
  })
})
