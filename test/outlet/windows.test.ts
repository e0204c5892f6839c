/** Windows of down-sampled outputs: at most one record of each leaves, whatever crashes, withdrawals and refusals of the disk happen. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StatementSync } from 'node:sqlite'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { MachineId, OperatorId, PurposeId } from '../../src/domain/ids.ts'
import type { OutboxRecord, Slot } from '../../src/domain/ports.ts'
import { openOutbox, type DurableOutbox } from '../../src/outlet/outbox.ts'
import { NOW, record, TestOutlet, text, turns } from '../contract/records.ts'

const QUARTER = 900_000
const slotOf = (window: number, mark?: string): Slot => ({ key: `planner|status|SN-1|${QUARTER}`, window, everyMs: QUARTER, mark })

let folder: string
let nowMs: number
let opened: DurableOutbox[]

function open(at = folder): { outbox: DurableOutbox; cloud: TestOutlet } {
  const outbox = openOutbox({ file: join(at, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs }, sweepMs: 0 })
  const cloud = new TestOutlet('cloud', true)
  outbox.attach(cloud)
  opened.push(outbox)
  return { outbox, cloud }
}

/** As the power failure of this moment would leave it. */
function crashed(outbox: DurableOutbox): { outbox: DurableOutbox; cloud: TestOutlet } {
  void outbox
  const copy = mkdtempSync(join(tmpdir(), 'parapet-windows-copy-'))
  cpSync(folder, copy, { recursive: true })
  folders.push(copy)
  return open(copy)
}

let folders: string[]
const commit = (outbox: DurableOutbox): Promise<Error | undefined> => new Promise((resolve) => outbox.committed(resolve))
const keep = (payload: string, window = 1, rest: Partial<Omit<OutboxRecord, 'payload' | 'payloadIfWithdrawn'>> & { variant?: string | null } = {}): OutboxRecord =>
  ({ ...record({ payload, ...rest }), slot: slotOf(window), untilMs: (window + 1) * QUARTER })

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-windows-'))
  folders = [folder]
  nowMs = NOW
  opened = []
})

afterEach(async () => {
  for (const outbox of opened) await outbox.close()
  for (const one of folders) rmSync(one, { recursive: true })
})

describe('a record that is kept', () => {
  test('leaves at the end of its window and not before; the last one counts', async () => {
    const { outbox, cloud } = open()
    nowMs = QUARTER * 1.5
    for (const payload of ['first', 'second', 'third']) outbox.accept(keep(payload))
    expect(await commit(outbox)).toBeUndefined()
    expect(outbox.depth).toBe(1)
    nowMs = QUARTER * 2 - 1
    expect(outbox.release()).toBe(0)
    nowMs = QUARTER * 2
    expect(outbox.release()).toBe(1)
    await turns()
    expect(cloud.payloads).toEqual(['third'])
    expect(outbox.kept(slotOf(1))).toBeNull()
    expect(outbox.release()).toBe(0)
    await turns()
    expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
  })

  test('has bytes of its own: a small one does not hold on to what came beside it', async () => {
    const { outbox } = open()
    outbox.accept(record({ payload: 'x'.repeat(1_000) }))
    outbox.accept(keep('fine', 1, { variant: 'coarse' }))
    await commit(outbox)
    const { id, payload, payloadIfWithdrawn } = outbox.kept(slotOf(1))!
    expect([id, payload, payloadIfWithdrawn!].map(({ buffer }) => buffer.byteLength)).toEqual([16, 4, 6])
  })

  test('of an output at QoS 0 is bounded too, however many windows the event times name', () => {
    const { outbox } = open()
    const one = { ...record({ payload: 'p' }), qos: 0 as const, untilMs: nowMs + QUARTER }
    for (let window = 0; window < 70_000; window++) outbox.accept({ ...one, slot: slotOf(window) })
    expect([outbox.depth, outbox.stats.straightLost]).toEqual([65_536, 70_000 - 65_536])
    outbox.accept({ ...one, slot: slotOf(5), payload: Buffer.from('later') })
    expect(text(outbox.kept(slotOf(5))!.payload)).toBe('later')
  })

  test('is durable when it is acknowledged, and its window is over after a crash too', async () => {
    const { outbox } = open()
    outbox.accept(keep('only'))
    await commit(outbox)
    const second = crashed(outbox)
    expect(text(second.outbox.kept(slotOf(1))!.payload)).toBe('only')
    nowMs = QUARTER * 2
    second.outbox.release()
    await turns()
    expect(second.cloud.payloads).toEqual(['only'])

    outbox.release()
    await turns()
    const third = crashed(outbox)
    expect(third.outbox.kept(slotOf(1))).toBeNull()
    expect(third.outbox.kept(slotOf(2))).toBeUndefined()
  })

  test('answers for its window before it is committed, and frees it when a purge takes it', async () => {
    const { outbox } = open()
    outbox.accept(keep('mine', 1, { subjects: ['op-ada' as OperatorId], variant: null }))
    expect(text(outbox.kept(slotOf(1))!.payload)).toBe('mine')
    expect(outbox.purge({ subject: 'op-ada' as OperatorId, purpose: 'improve.statistics' as PurposeId }, 'withdrawal').purged).toBe(1)
    expect(outbox.kept(slotOf(1))).toBeUndefined()
    await commit(outbox)
    expect(outbox.depth).toBe(0)
  })

  test.each([['kept', 0], ['on its way out', 1]] as const)('a withdrawal reaches it while it is %s', async (_, released) => {
    const { outbox, cloud } = open()
    outbox.accept(keep('fine', 1, { subjects: ['op-ada' as OperatorId], variant: 'coarse' }))
    outbox.accept(keep('gone', 2, { subjects: ['op-ada' as OperatorId], variant: null }))
    outbox.accept(keep('other', 3, { subjects: ['op-bo' as OperatorId], variant: null }))
    await commit(outbox)
    nowMs = QUARTER * 9
    if (released === 1) expect(outbox.release()).toBe(3)
    expect(outbox.purge({ subject: 'op-ada' as OperatorId, purpose: 'improve.statistics' as PurposeId }, 'withdrawal')).toEqual({ purged: 1, swapped: 1, held: 0 })
    const after = crashed(outbox)
    after.outbox.release()
    outbox.release()
    await turns()
    expect(cloud.payloads).toEqual(['coarse', 'other'])
    expect(after.cloud.payloads).toEqual(['coarse', 'other'])
    expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
  })

  test('expires like any other', async () => {
    const { outbox, cloud } = open()
    outbox.accept(keep('old', 1, { expiresAtMs: NOW + 1_000 }))
    await commit(outbox)
    nowMs = NOW + 1_000
    expect(outbox.sweep().purged).toBe(1)
    outbox.release()
    await turns()
    expect(cloud.payloads).toEqual([])
  })

  test('of a QoS 0 output is in memory only', async () => {
    const { outbox, cloud } = open()
    outbox.accept(keep('light', 1, { qos: 0 }))
    expect(text(outbox.kept(slotOf(1))!.payload)).toBe('light')
    expect(crashed(outbox).outbox.kept(slotOf(1))).toBeUndefined()
    nowMs = QUARTER * 2
    outbox.release()
    expect(cloud.payloads).toEqual(['light'])
    expect(outbox.kept(slotOf(1))).toBeNull()
  })
})

describe('a purge of records that are kept', () => {
  test('that the disk refuses takes no more than it would have: made up for, each has the fate it should have', async () => {
    const outbox = openOutbox({ file: join(folder, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs }, sweepMs: 0, probeMs: 5, held: ({ machine }) => machine === 'SN-HELD' })
    opened.push(outbox)
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    const kept = (machine: string, payload: string, variant: string | null | undefined): Slot => {
      const slot = { ...slotOf(1), key: `planner|status|${machine}|${QUARTER}` }
      outbox.accept({ ...record({ payload, variant, machine: machine as MachineId }), slot, untilMs: QUARTER * 2 })
      return slot
    }
    nowMs = QUARTER
    const [swapped, legal, held, gone] = [kept('SN-SWAP', 'fine', 'coarse'), kept('SN-LEGAL', 'rests on a law', undefined), kept('SN-HELD', 'evidence', null), kept('SN-GONE', 'rests on the yes', null)]
    expect(await commit(outbox)).toBeUndefined()
    const run = Object.getOwnPropertyDescriptor(StatementSync.prototype, 'run')!.value as StatementSync['run']
    const disk = vi.spyOn(StatementSync.prototype, 'run').mockImplementation(function (this: StatementSync, ...values: Parameters<StatementSync['run']>) {
      if (this.sourceSQL === 'COMMIT') throw Object.assign(new Error('refused'), { errcode: 13 })
      return run.apply(this, values)
    } as StatementSync['run'])
    expect(() => outbox.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal')).toThrow(expect.objectContaining({ code: 'OUTBOX-UNHEALTHY' }))
    nowMs = QUARTER * 2
    expect(outbox.release()).toBe(0)
    disk.mockRestore()
    await expect.poll(() => outbox.healthy).toBe(true)
    for (const one of [outbox, crashed(outbox).outbox]) {
      expect([swapped, legal, held, gone].map((slot) => text(one.kept(slot)?.payload ?? Buffer.from('-')))).toEqual(['coarse', 'rests on a law', '-', '-'])
    }
    outbox.release()
    await turns()
    expect(cloud.payloads.toSorted()).toEqual(['coarse', 'rests on a law'])
    expect([outbox.depth, outbox.kept(held)]).toEqual([1, null])
  })

  test('leaves what is on legal hold, and no later message of the window takes its place', async () => {
    const outbox = openOutbox({ file: join(folder, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs }, sweepMs: 0, held: () => true })
    opened.push(outbox)
    outbox.accept(keep('evidence', 1, { variant: null }))
    await commit(outbox)
    expect(outbox.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal')).toMatchObject({ held: 1, purged: 0 })
    expect(outbox.kept(slotOf(1))).toBeNull()
    expect(crashed(outbox).outbox.kept(slotOf(1))).toBeNull()
  })
})

describe('a record that leaves at once', () => {
  test('ends its window with itself', async () => {
    const { outbox, cloud } = open()
    outbox.accept({ ...record({ payload: 'first' }), slot: slotOf(7) })
    expect(outbox.kept(slotOf(7))).toBeNull()
    await commit(outbox)
    await turns()
    expect(cloud.payloads).toEqual(['first'])
    expect(crashed(outbox).outbox.kept(slotOf(7))).toBeNull()
  })

  test('leaves its mark behind, for the next of its key', async () => {
    const { outbox } = open()
    const key = slotOf(-1).key
    outbox.accept({ ...record(), slot: slotOf(-1, 'working') })
    expect(outbox.mark(key)).toBe('working')
    await commit(outbox)
    expect(crashed(outbox).outbox.mark(key)).toBe('working')
    outbox.accept({ ...record(), slot: slotOf(-1, 'parked') })
    await commit(outbox)
    expect(outbox.mark(key)).toBe('parked')
  })
})

test('what left last of a machine that says nothing any more is forgotten after thirty days, also over restarts; of the others it is remembered', async () => {
  const DAYS = 86_400_000
  const changed = (machine: string, mark: string): OutboxRecord => ({ ...record({ machine: machine as MachineId, receivedAtMs: nowMs }), slot: { key: `planner|alarm|${machine}|0`, window: -1, everyMs: 0, mark } })
  const marks = (outbox: DurableOutbox): (string | undefined)[] => ['SN-1', 'SN-2'].map((machine) => outbox.mark(`planner|alarm|${machine}|0`))
  const first = open()
  for (const machine of ['SN-1', 'SN-2']) first.outbox.accept(changed(machine, 'red'))
  await commit(first.outbox)
  expect(marks(first.outbox)).toEqual(['red', 'red'])
  await first.outbox.close()
  nowMs += 20 * DAYS
  const second = open()
  second.outbox.accept(changed('SN-2', 'green'))
  await commit(second.outbox)
  await second.outbox.close()
  nowMs += 11 * DAYS
  const third = openOutbox({ file: join(folder, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs }, sweepMs: 1 })
  opened.push(third)
  expect(marks(third)).toEqual(['red', 'green'])
  await expect.poll(() => marks(third), { timeout: 5_000 }).toEqual([undefined, 'green'])
  await third.close()
  expect(marks(open().outbox)).toEqual([undefined, 'green'])
})

test('any order of messages, ends of windows, withdrawals and crashes: no window sends twice, nothing that was acknowledged and not withdrawn is missing', async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.oneof(
    fc.record({ do: fc.constant('message' as const), window: fc.integer({ min: 0, max: 9 }), of: fc.constantFrom('op-ada', 'op-bo') }),
    fc.record({ do: fc.constant('later' as const), by: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ do: fc.constant('withdraw' as const), of: fc.constantFrom('op-ada', 'op-bo') }),
    fc.record({ do: fc.constant('crash' as const) }),
  ), { minLength: 1, maxLength: 30 }), async (happens) => {
    rmSync(folder, { recursive: true })
    nowMs = 0
    let { outbox, cloud } = open()
    const sent: string[] = []
    /** Window -> who would be sent, and windows that are over: twenty lines of what the words say. */
    const kept = new Map<number, { of: string; payload: string; untilMs: number }>()
    const over = new Set<number>()
    const expected: string[] = []
    let serial = 0
    for (const one of happens) {
      if (one.do === 'message') {
        const slot = slotOf(one.window)
        const is = outbox.kept(slot)
        expect(is === null).toBe(over.has(one.window))
        if (is === null) continue
        const payload = `${one.of} ${one.window} ${++serial}`
        const end = (one.window + 1) * QUARTER
        const untilMs = end > nowMs ? end : (Math.floor(nowMs / QUARTER) + 1) * QUARTER
        outbox.accept({ ...record({ payload, subjects: [one.of as OperatorId], variant: null }), slot, untilMs })
        kept.set(one.window, { of: one.of, payload, untilMs })
        await commit(outbox)
      } else if (one.do === 'later') {
        nowMs += one.by * QUARTER
        outbox.release()
        await turns(3)
        for (const [window, { payload, untilMs }] of kept) {
          if (untilMs > nowMs) continue
          expected.push(payload)
          over.add(window)
          kept.delete(window)
        }
      } else if (one.do === 'withdraw') {
        outbox.purge({ subject: one.of as OperatorId, purpose: 'improve.statistics' as PurposeId }, 'withdrawal')
        for (const [window, { of }] of kept) if (of === one.of) kept.delete(window)
      } else {
        sent.push(...cloud.payloads)
        await outbox.close()
        ;({ outbox, cloud } = open())
      }
    }
    sent.push(...cloud.payloads)
    expect(sent.toSorted()).toEqual(expected.toSorted())
    expect(outbox.depth).toBe(kept.size)
    await outbox.close()
  }), { numRuns: 40 })
})
