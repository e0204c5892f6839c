/** Dead letters: what a destination refused for good is kept aside, can be looked at, sent again or dropped, and is in nobody's way. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { UndeliverableError } from '../../src/domain/errors.ts'
import type { OperatorId, OutputId } from '../../src/domain/ids.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'
import { openOutbox } from '../../src/outlet/outbox.ts'
import type { DurableOutbox, OutboxOptions } from '../../src/outlet/outbox.ts'
import { NOW, record, TestOutlet, turns } from '../contract/records.ts'

const DAY = 86_400_000
const ada = 'op-ada' as OperatorId

let folder: string
let folders: string[]
let opened: DurableOutbox[]
let nowMs: number

function open(options: Partial<OutboxOptions> = {}, at = folder): DurableOutbox {
  const outbox = openOutbox({ file: join(at, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs }, sweepMs: 0, retryMs: 1, ...options })
  opened.push(outbox)
  return outbox
}

/** As kill -9 at this instant would leave it. */
function crashed(options: Partial<OutboxOptions> = {}): DurableOutbox {
  const copy = mkdtempSync(join(tmpdir(), 'parapet-dead-'))
  folders.push(copy)
  cpSync(folder, copy, { recursive: true })
  return open(options, copy)
}

/** Records that the cloud refuses, with a reason code. */
async function refused(outbox: DurableOutbox, records: readonly OutboxRecord[], code = '0x99'): Promise<TestOutlet> {
  const cloud = new TestOutlet('cloud')
  outbox.attach(cloud)
  for (const one of records) outbox.accept(one)
  await turns()
  cloud.answer(new UndeliverableError(code))
  await turns()
  return cloud
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-dead-'))
  folders = [folder]
  opened = []
  nowMs = NOW
})

afterEach(async () => {
  for (const outbox of opened) await outbox.close()
  for (const one of folders) rmSync(one, { recursive: true })
})

describe('dead letters', () => {
  test('tell where they come from, who refused them and why, and nothing of what they say or whom they are about', async () => {
    const outbox = open()
    await refused(outbox, [record({ payload: 'canary of ada', machine: 'SN-canary' as never })])
    const letters = outbox.deadLetters()
    expect(letters).toEqual([{
      number: 1, output: 'planner', recipient: 'oem-cloud', stream: 'status', refusedBy: ['cloud'], code: '0x99', bytes: 13, receivedAtMs: NOW + 40, untilMs: NOW + 7 * DAY,
    }])
    expect(JSON.stringify(letters)).not.toMatch(/canary|op-ada/)
  })

  test('are there after a crash, with their number, and listed page by page', async () => {
    await refused(open(), ['one', 'two', 'three'].map((payload) => record({ payload })))
    const again = crashed()
    expect(again.stats.dead).toBe(3)
    expect([again.deadLetters(0, 2), again.deadLetters(2, 2)].map((page) => page.map(({ number, code }) => `${number} ${code}`))).toEqual([['1 0x99', '2 0x99'], ['3 0x99']])
  })

  test('go after seven days, also when the gateway was away, and not before', async () => {
    await refused(open(), [record(), record({ expiresAtMs: NOW + DAY })])
    const again = crashed()
    nowMs = NOW + DAY
    expect(again.sweep().purged).toBe(1)
    nowMs = NOW + 7 * DAY - 1
    expect([again.sweep().purged, again.stats.dead]).toEqual([0, 1])
    nowMs++
    expect([again.sweep().purged, again.stats.dead, again.depth, again.bytes]).toEqual([1, 0, 0, 0])
  })

  test('sent again go to those who refused them and to nobody else, behind what waits', async () => {
    const outbox = open()
    const local = new TestOutlet('local', true)
    outbox.attach(local)
    const cloud = await refused(outbox, [record({ payload: 'refused', via: ['local', 'cloud'] })])
    outbox.accept(record({ payload: 'later' }))
    expect(outbox.retryDead()).toBe(1)
    await turns()
    cloud.answer()
    await turns()
    expect([local.payloads, cloud.payloads]).toEqual([['refused'], ['refused', 'later', 'refused']])
    expect(new Set(cloud.sent.filter(({ payload }) => payload === 'refused').map(({ id }) => id)).size).toBe(1)
    expect([outbox.deadLetters(), outbox.depth, outbox.bytes, outbox.stats.dead]).toEqual([[], 0, 0, 0])
    expect(crashed().depth).toBe(0)
  })

  test('one of several is sent again to those who refused that one', async () => {
    const outbox = open()
    const cloud = await refused(outbox, [record({ payload: 'by the cloud', via: ['cloud'] })])
    const second = new TestOutlet('second')
    outbox.attach(second)
    outbox.accept(record({ payload: 'by the second', via: ['second'] }))
    await turns()
    second.answer(new UndeliverableError('0x99'))
    await turns()
    const [, number = 0] = outbox.deadLetters().map((letter) => letter.number)
    expect(outbox.retryDead([number])).toBe(1)
    await turns()
    expect([cloud.payloads, second.payloads]).toEqual([['by the cloud'], ['by the second', 'by the second']])
  })

  test('sent again after a restart, and refused again, are dead letters again', async () => {
    await refused(open(), [record({ payload: 'refused' }), record({ payload: 'stays' })])
    const again = crashed()
    const cloud = new TestOutlet('cloud')
    again.attach(cloud)
    expect(again.retryDead([1, 1, 77])).toBe(1)
    await turns()
    expect(cloud.payloads).toEqual(['refused'])
    cloud.answer(new UndeliverableError('0x87'))
    await turns()
    expect(again.deadLetters().map(({ code }) => code)).toEqual(['0x99', '0x87'])
  })

  test('dropped by hand are gone from the disk; one that a legal hold asks for is kept, and is no dead letter any more', async () => {
    let isHeld = true
    const terms: Partial<OutboxOptions> = { held: (one) => isHeld && one.subjects.includes(ada) }
    const outbox = open(terms)
    await refused(outbox, [record({ payload: 'about ada' }), record({ payload: 'about nobody', subjects: [] })])
    expect(outbox.dropDead()).toBe(1)
    expect([outbox.stats.dead, outbox.stats.purged.dismissed, outbox.depth]).toEqual([0, 1, 1])
    const again = crashed(terms)
    expect([again.depth, again.deadLetters()]).toEqual([1, []])
    isHeld = false
    again.purge({ subject: ada }, 'erasure')
    expect([again.depth, again.bytes]).toEqual([0, 0])
  })

  test('are covered by a withdrawal: swapped or purged, and what is sent again is what is left', async () => {
    const outbox = open()
    const cloud = await refused(outbox, [record({ payload: 'exact', variant: 'coarse' }), record({ payload: 'mine', variant: null })])
    expect(outbox.purge({ subject: ada }, 'withdrawal')).toEqual({ purged: 1, swapped: 1, held: 0 })
    expect(outbox.retryDead()).toBe(1)
    await turns()
    expect(cloud.payloads.slice(2)).toEqual(['coarse'])
    cloud.answer()
    await turns()
    expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
  })

  test('take nothing of their output\'s share; past their own bound a further one is deleted and counted', async () => {
    const payload = 'x'.repeat(920)
    // A share of 50,000 bytes, and a sixteenth for dead letters: six of a thousand bytes each.
    const outbox = open({ quotaBytes: 100_000 })
    const cloud = await refused(outbox, Array.from({ length: 40 }, () => record({ payload })))
    expect([outbox.stats.dead, outbox.stats.deadDropped, outbox.bytes]).toEqual([6, 34, 6_000])
    for (let i = 0; i < 50; i++) outbox.accept(record({ payload }))
    expect(() => outbox.accept(record({ payload }))).toThrow(expect.objectContaining({ code: 'OUTBOX-FULL' }) as Error)
    await turns()
    cloud.answer()
    await turns()
    expect(outbox.bytes).toBe(6_000)
    expect(crashed({ quotaBytes: 100_000 }).room('planner' as OutputId, 'ordinary', 920, 43_000)).toBe(true)
  })

  test('do not stop the bound from being free again', async () => {
    const outbox = open({ quotaBytes: 100_000 })
    const cloud = await refused(outbox, Array.from({ length: 8 }, () => record({ payload: 'x'.repeat(920) })))
    expect(outbox.dropDead()).toBe(6)
    outbox.accept(record({ payload: 'x'.repeat(920) }))
    await turns()
    cloud.answer(new UndeliverableError('0x99'))
    await turns()
    expect([outbox.stats.dead, outbox.stats.deadDropped]).toEqual([1, 2])
  })
})
