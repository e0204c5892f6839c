/**
 * What every outbox must do, whatever it is made of. A test file calls `outboxContract` with a way to open one in a folder.
 *
 * The oracle of "it is durable" is a copy of the folder, taken while the outbox runs: what a crash at this moment would leave.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { MachineId, OperatorId, OutputId, PurposeId } from '../../src/domain/ids.ts'
import type { Clock, OnDelivered, Outbox, OutboxRecord, Outlet, PurgeReason, PurgeSelector } from '../../src/domain/ports.ts'
import { NOW, record, TestOutlet, text, turns } from './records.ts'

export interface Settings {
  readonly folder: string
  readonly clock: Clock
  readonly quotaBytes?: number
  readonly held?: (record: OutboxRecord) => boolean
}

/** What the suite needs beyond the port. */
export interface OutboxUnderTest extends Outbox {
  attach(outlet: Outlet, window?: { readonly records?: number; readonly bytes?: number }): void
  detach(name: string): void
  sweep(nowMs?: number): { readonly purged: number; readonly held: number }
  readonly onDelivered: OnDelivered
  readonly healthy: boolean
  counts(): readonly { readonly subject: string; readonly output: string; readonly credential: string; readonly count: number }[]
}

export type OpenOutbox = (settings: Settings) => OutboxUnderTest

export function outboxContract(name: string, openIn: OpenOutbox): void {
  describe(`${name}: the outbox contract`, () => {
    let folder: string
    let nowMs: number
    let opened: OutboxUnderTest[]
    const clock: Clock = { now: () => nowMs, monotonic: () => nowMs }

    function open(settings: Partial<Settings> = {}): OutboxUnderTest {
      const outbox = openIn({ folder, clock, ...settings })
      opened.push(outbox)
      return outbox
    }

    let images = 0
    /** The outbox as it would come back if the power failed now, with everything it sends out by itself. */
    async function afterCrash(): Promise<{ outbox: OutboxUnderTest; cloud: TestOutlet; local: TestOutlet }> {
      const copy = join(folder, `../${folder.split('/').pop()}-${++images}`)
      cpSync(folder, copy, { recursive: true })
      const outbox = openIn({ folder: copy, clock })
      opened.push(outbox)
      const cloud = new TestOutlet('cloud')
      const local = new TestOutlet('local')
      outbox.attach(cloud)
      outbox.attach(local)
      await turns()
      return { outbox, cloud, local }
    }

    const committed = (outbox: Outbox): Promise<Error | undefined> => new Promise((resolve) => outbox.committed(resolve))

    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'parapet-outbox-'))
      nowMs = NOW
      images = 0
      opened = []
    })

    afterEach(async () => {
      for (const outbox of opened) await outbox.close()
      rmSync(folder, { recursive: true })
      for (let i = 1; i <= images; i++) rmSync(`${folder}-${i}`, { recursive: true })
    })

    describe('accept and commit', () => {
      test('a record is durable when its callback comes, and not acknowledged before', async () => {
        const outbox = open()
        outbox.accept(record({ payload: 'first' }))
        let called = false
        const durable = new Promise<void>((resolve) => outbox.committed((error) => {
          expect(error).toBeUndefined()
          called = true
          resolve()
        }))
        expect(called).toBe(false)
        await durable
        const { cloud } = await afterCrash()
        expect(cloud.payloads).toEqual(['first'])
      })

      test('nothing is sent before it is durable', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record({ payload: 'not yet' }))
        expect(cloud.sent).toEqual([])
        await committed(outbox)
        await turns()
        expect(cloud.payloads).toEqual(['not yet'])
      })

      test('callbacks come in the order of the calls, whoever accepts in between', async () => {
        const outbox = open()
        const order: string[] = []
        outbox.committed(() => order.push('before anything'))
        for (const machine of ['A', 'B', 'C']) {
          outbox.accept(record())
          outbox.committed(() => {
            order.push(machine)
            if (machine === 'A') {
              outbox.accept(record())
              outbox.committed(() => order.push('A again'))
            }
          })
        }
        outbox.committed(() => order.push('nothing of its own'))
        await turns()
        expect(order).toEqual(['before anything', 'A', 'B', 'C', 'nothing of its own', 'A again'])
      })

      test('with nothing waiting the callback comes at once', () => {
        let called = false
        open().committed((error) => { called = error === undefined })
        expect(called).toBe(true)
      })

      test('2,500 records of one turn all arrive, in order', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud', true)
        outbox.attach(cloud)
        const expected = Array.from({ length: 2_500 }, (_, i) => `n ${i}`)
        for (const payload of expected) outbox.accept(record({ payload }))
        expect(outbox.depth).toBe(2_500)
        await committed(outbox)
        // More than it hands out in a turn.
        for (let n = 0; n < 100 && outbox.depth > 0; n++) await turns()
        expect(cloud.payloads).toEqual(expected)
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
      })

      test('a destination that is behind catches up beside groups of any size', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud', true)
        for (let n = 0; n < 1_000; n++) outbox.accept(record({ payload: `old ${n}` }))
        await committed(outbox)
        outbox.attach(cloud)
        for (let group = 0; group < 40; group++) {
          for (let n = 0; n < 200; n++) outbox.accept(record({ payload: `new ${group} ${n}` }))
          // At once the next: with a turn to itself in between it could catch up as it liked.
          await committed(outbox)
        }
        expect(cloud.payloads.length).toBeGreaterThanOrEqual(8_800)
      })

      test('the caller may overwrite its buffers and its record after accept', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        const scratch = { ...record({ payload: 'payload', variant: 'variant' }), subjects: ['op-ada' as OperatorId], topic: 'out/one' }
        const id = text(scratch.id)
        outbox.accept(scratch)
        scratch.payload.fill(0x58)
        scratch.payloadIfWithdrawn?.fill(0x58)
        scratch.id.fill(0x58)
        scratch.subjects[0] = 'op-bob' as OperatorId
        scratch.topic = 'out/two'
        await turns()
        const [one] = cloud.open
        expect([text(one!.record.payload), text(one!.record.id), one!.record.topic, one!.record.subjects]).toEqual(['payload', id, 'out/one', ['op-ada']])
        expect(text(one!.record.payloadIfWithdrawn!)).toBe('variant')
      })

      test('every field of a record survives a crash', async () => {
        const outbox = open()
        const whole = record({
          payload: 'all of it', variant: 'less of it', holder: 'customer-9', subjects: ['op-ada', 'op-bob'] as OperatorId[], consentSeq: [3, 99], qos: 2, retain: true,
          expiresAtMs: NOW + 1, machineOrder: 2 ** 40 + 5, storageClass: 'safety', via: ['cloud', 'local'], country: undefined,
        })
        outbox.accept(whole)
        await committed(outbox)
        const { cloud } = await afterCrash()
        const kept = cloud.open[0]!.record
        for (const field of Object.keys(whole) as (keyof OutboxRecord)[]) {
          const value = kept[field]
          expect(value instanceof Uint8Array ? text(value) : value, field).toEqual(whole[field] instanceof Uint8Array ? text(whole[field]) : whole[field])
        }
      })

      test.each([
        ['an id of 15 bytes', { id: Buffer.alloc(15) }],
        ['no destination', { via: [] }],
        ['a machine order that is not a number', { machineOrder: Number.NaN }],
        ['a time that is not a number', { receivedAtMs: Number.NaN }],
      ])('a record with %s is refused, and its neighbours are not', async (_, wrong) => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record({ payload: 'before' }))
        expect(() => outbox.accept(record(wrong))).toThrow(expect.objectContaining({ code: 'OUTBOX-RECORD' }))
        outbox.accept(record({ payload: 'after' }))
        expect(await committed(outbox)).toBeUndefined()
        await turns()
        expect(cloud.payloads).toEqual(['before', 'after'])
      })

      test('QoS 0 goes straight to the outlet and is never stored', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        const scratch = record({ qos: 0, payload: 'fleeting' })
        outbox.accept(scratch)
        scratch.payload.fill(0)
        expect(cloud.payloads).toEqual(['fleeting'])
        expect(text(cloud.open[0]!.record.payload)).toBe('fleeting')
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
        outbox.onDelivered(cloud.open[0]!.record, 'cloud-login')
        cloud.answer()
        await turns()
        expect((await afterCrash()).cloud.sent).toEqual([])
      })

      test('after close everything accepted is still there', async () => {
        const outbox = open()
        outbox.accept(record({ payload: 'late' }))
        let error: Error | undefined | 'never called' = 'never called'
        outbox.committed((result) => { error = result })
        await outbox.close()
        expect(error).toBeUndefined()
        expect(() => outbox.accept(record())).toThrow(expect.objectContaining({ code: 'OUTBOX-CLOSED' }))
        expect((await afterCrash()).cloud.payloads).toEqual(['late'])
      })
    })

    describe('delivery', () => {
      test('a record is deleted when all its destinations have answered', async () => {
        const outbox = open()
        const [cloud, local] = [new TestOutlet('cloud'), new TestOutlet('local')]
        outbox.attach(cloud)
        outbox.attach(local)
        outbox.accept(record({ via: ['cloud', 'local'] }))
        await turns()
        local.answer()
        await turns()
        expect(outbox.depth).toBe(1)
        cloud.answer()
        await turns()
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
        const { cloud: again } = await afterCrash()
        expect(again.sent).toEqual([])
      })

      test('a destination that is away does not hold up another one', async () => {
        const outbox = open()
        const local = new TestOutlet('local', true)
        outbox.attach(local)
        for (let i = 0; i < 50; i++) outbox.accept(record({ payload: `n ${i}`, via: i % 2 === 0 ? ['cloud', 'local'] : ['local'] }))
        await turns()
        expect(local.sent).toHaveLength(50)
        expect(outbox.depth).toBe(25)
        const cloud = new TestOutlet('cloud', true)
        outbox.attach(cloud)
        await turns()
        expect(cloud.payloads).toEqual(Array.from({ length: 25 }, (_, i) => `n ${2 * i}`))
        expect(local.sent).toHaveLength(50)
        expect(outbox.depth).toBe(0)
      })

      test('a destination never holds more than its window, and gets the rest in order', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud, { records: 8 })
        const expected = Array.from({ length: 100 }, (_, i) => `n ${i}`)
        let most = 0
        for (const payload of expected) {
          outbox.accept(record({ payload }))
          if (cloud.sent.length < 40) cloud.open.shift()?.done(undefined)
          await turnOfTheLoop()
          most = Math.max(most, cloud.open.length)
        }
        while (cloud.open.length > 0) {
          cloud.open.shift()!.done(undefined)
          await turns(3)
          most = Math.max(most, cloud.open.length)
        }
        expect(most).toBe(8)
        expect(cloud.payloads).toEqual(expected)
        expect(outbox.depth).toBe(0)
      })

      test('a window of bytes is given back with every answer', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud, { bytes: 1_000 })
        for (let i = 0; i < 40; i++) outbox.accept(record({ payload: 'x'.repeat(300) }))
        for (let round = 0; round < 60 && outbox.depth > 0; round++) {
          await turns(3)
          // The one that passes the bound is still let in, so that a big record is not stuck for ever.
          expect(cloud.open.length).toBeLessThanOrEqual(3)
          cloud.answer()
        }
        expect([cloud.sent.length, outbox.depth]).toEqual([40, 0])
      })

      test('the pause after a failure grows only while nothing succeeds', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        for (let round = 0; round < 14; round++) {
          outbox.accept(record())
          await expect.poll(() => cloud.open.length, { interval: 1 }).toBe(1)
          cloud.answer(new Error('connection lost'))
          await expect.poll(() => cloud.open.length, { interval: 1 }).toBe(1)
          cloud.answer()
        }
        await turns()
        expect(outbox.depth).toBe(0)
      })

      test('after a failure everything from the failed record on is sent again, in order', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        for (const payload of ['a', 'b', 'c', 'd']) outbox.accept(record({ payload }))
        await turns()
        const [a, b, c, d] = cloud.open.splice(0)
        a!.done(undefined)
        b!.done(new Error('connection lost'))
        c!.done(new Error('connection lost'))
        await turns()
        // Not before the last one is answered: it may still be on its way.
        expect(cloud.sent).toHaveLength(4)
        d!.done(new Error('connection lost'))
        outbox.accept(record({ payload: 'e' }))
        await expect.poll(() => cloud.payloads).toEqual(['a', 'b', 'c', 'd', 'b', 'c', 'd', 'e'])
        cloud.answer()
        await turns()
        expect(outbox.depth).toBe(0)
      })

      test('the stable id is the same when a record is sent again, and other for every record', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record())
        outbox.accept(record())
        await turns()
        cloud.answer(new Error('connection lost'))
        await expect.poll(() => cloud.sent.length).toBe(4)
        const ids = cloud.sent.map((one) => one.id)
        expect(ids.slice(2)).toEqual(ids.slice(0, 2))
        expect(new Set(ids).size).toBe(2)
      })

      test('an outlet that throws is one that failed', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        let broken = true
        const flaky: Outlet = {
          name: 'cloud',
          send: (one, done) => {
            if (broken) throw new Error('broken')
            cloud.send(one, done)
          },
          cut: () => cloud.cut(), close: () => cloud.close(),
        }
        outbox.attach(flaky)
        outbox.accept(record({ payload: 'stubborn' }))
        await turns()
        broken = false
        await expect.poll(() => cloud.payloads).toEqual(['stubborn'])
      })

      test('a second answer, and an answer after detach, change nothing', async () => {
        const outbox = open()
        const [cloud, local] = [new TestOutlet('cloud'), new TestOutlet('local')]
        outbox.attach(cloud)
        outbox.attach(local)
        outbox.accept(record({ via: ['cloud', 'local'] }))
        await turns()
        const [one] = cloud.open
        one!.done(undefined)
        one!.done(undefined)
        one!.done(new Error('what now'))
        outbox.detach('local')
        local.answer()
        await turns()
        expect(outbox.depth).toBe(1)
        const again = new TestOutlet('local', true)
        outbox.attach(again)
        await turns()
        expect(again.sent).toHaveLength(1)
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
      })

      test('per machine, each destination sees the order of accept, whatever the outlets do (property)', async () => {
        await fc.assert(fc.asyncProperty(
          fc.array(fc.record({ machine: fc.integer({ min: 0, max: 2 }), via: fc.constantFrom(['cloud'], ['local'], ['cloud', 'local']), pause: fc.boolean() }), { maxLength: 40 }),
          fc.array(fc.constantFrom('ok', 'ok last', 'fail'), { maxLength: 40 }), fc.integer({ min: 1, max: 9 }),
          async (steps, answers, window) => {
            const copy = mkdtempSync(join(tmpdir(), 'parapet-outbox-order-'))
            const outbox = openIn({ folder: copy, clock })
            const outlets = [new TestOutlet('cloud'), new TestOutlet('local')]
            for (const outlet of outlets) outbox.attach(outlet, { records: window })
            const orders = [0, 0, 0]
            const expected = new Map<string, number[]>()
            const delivered = new Map<string, number[]>()
            const note = (map: Map<string, number[]>, key: string, order: number): void => void map.set(key, [...(map.get(key) ?? []), order])
            const rest = [...answers]
            const answer = (): void => {
              for (const outlet of outlets) {
                const how = rest.shift() ?? 'ok'
                if (how === 'fail') outlet.answer(new Error('no'))
                else {
                  const one = how === 'ok' ? outlet.open.shift() : outlet.open.pop()
                  if (one !== undefined) {
                    note(delivered, `${outlet.name} ${one.record.machine}`, one.record.machineOrder)
                    one.done(undefined)
                  }
                }
              }
            }
            for (const { machine, via, pause } of steps) {
              const order = ++orders[machine]!
              outbox.accept(record({ machine: `SN-${machine}` as MachineId, machineOrder: order, via }))
              for (const to of via) note(expected, `${to} SN-${machine}`, order)
              if (pause) {
                await turnOfTheLoop()
                answer()
              }
            }
            for (let i = 0; i < 2_000 && outbox.depth > 0; i++) {
              await turnOfTheLoop()
              answer()
              if (i % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 2))
            }
            expect(outbox.depth).toBe(0)
            for (const outlet of outlets) {
              for (const machine of [0, 1, 2]) {
                const key = `${outlet.name} SN-${machine}`
                // What was sent, read without the repetitions: each record first appears in order; a repetition starts a suffix.
                const sent = outlet.sent.filter((one) => one.machine === `SN-${machine}`).map((one) => one.order)
                expect([...new Set(sent)], key).toEqual(expected.get(key) ?? [])
                for (const [i, order] of sent.entries()) {
                  const repeated = sent.slice(0, i).includes(order)
                  if (!repeated && i > 0) expect(order, `${key}: a new one follows only the newest`).toBeGreaterThan(sent[i - 1]!)
                }
                // Each was delivered: once, or again in the suffix after a failure.
                expect([...new Set(delivered.get(key))].sort((one, other) => one - other), key).toEqual(expected.get(key) ?? [])
              }
            }
            await outbox.close()
            rmSync(copy, { recursive: true })
          }), { numRuns: 25 })
      })
    })

    describe('purge', () => {
      const withdrawal: PurgeSelector = { subject: 'op-ada' as OperatorId, purpose: 'improve.statistics' as PurposeId }

      /** Brings an outbox to a stage with these records in it, and says how to look at what leaves afterwards. */
      const stages: Record<string, (outbox: OutboxUnderTest, records: readonly OutboxRecord[]) => Promise<TestOutlet>> = {
        'accepted, not committed': async (outbox, records) => {
          const cloud = new TestOutlet('cloud')
          outbox.attach(cloud)
          await turns()
          for (const one of records) outbox.accept(one)
          return cloud
        },
        'committed, destination away': async (outbox, records) => {
          for (const one of records) outbox.accept(one)
          await committed(outbox)
          return new TestOutlet('cloud')
        },
        'committed, behind the window': async (outbox, records) => {
          const cloud = new TestOutlet('cloud')
          outbox.attach(cloud, { records: 1 })
          outbox.accept(record({ payload: 'first', subjects: [] }))
          await turns()
          for (const one of records) outbox.accept(one)
          await turns()
          expect(cloud.payloads).toEqual(['first'])
          cloud.sent.length = 0
          return cloud
        },
      }

      const covered = (): OutboxRecord[] => [
        record({ payload: 'goes', variant: null }),
        record({ payload: 'exact', variant: 'coarse' }),
        record({ payload: 'stays: no consent in it', variant: undefined }),
        record({ payload: 'stays: other person', variant: null, subjects: ['op-bob'] as OperatorId[] }),
        record({ payload: 'stays: other purpose', variant: null, purpose: 'personalise' as PurposeId }),
      ]
      const left = ['coarse', 'stays: no consent in it', 'stays: other person', 'stays: other purpose']

      for (const [stage, bring] of Object.entries(stages)) {
        test(`withdrawal of records ${stage}: deletes, swaps or leaves each`, async () => {
          const outbox = open()
          const cloud = await bring(outbox, covered())
          const result = outbox.purge(withdrawal, 'withdrawal')
          expect(result).toEqual({ purged: 1, swapped: 1, held: 0 })
          expect(await committed(outbox)).toBeUndefined()
          const image = await afterCrash()
          expect(image.cloud.payloads.filter((payload) => payload !== 'first')).toEqual(left)
          if (stage === 'committed, destination away') outbox.attach(cloud)
          cloud.automatic = true
          cloud.answer()
          await turns(20)
          expect(cloud.payloads).toEqual(left)
          expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
        })
      }

      test('withdrawal of records handed to an outlet: what it holds moves on, and no answer brings it back', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        for (const one of covered()) outbox.accept(one)
        await turns()
        expect(outbox.purge(withdrawal, 'withdrawal')).toEqual({ purged: 1, swapped: 1, held: 0 })
        const [goes, swapped, ...rest] = cloud.open
        expect(goes!.record.revision).not.toBe(goes!.revision)
        expect(goes!.record.payload).toHaveLength(0)
        expect(swapped!.record.revision).not.toBe(swapped!.revision)
        expect(text(swapped!.record.payload)).toBe('coarse')
        for (const one of rest) expect(one.record.revision).toBe(one.revision)
        expect((await afterCrash()).cloud.payloads).toEqual(left)
        // As an outlet does after `cut`: it lets go of both.
        cloud.sent.length = 0
        cloud.answer(new Error('cut'))
        await expect.poll(() => cloud.payloads).toEqual(left)
        cloud.answer()
        await turns()
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
      })

      test('a withdrawal while callbacks and hand-outs are under way reaches what was about to be handed out', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record({ payload: 'goes', variant: null }))
        outbox.committed(() => void outbox.purge(withdrawal, 'withdrawal'))
        await turns()
        expect(cloud.sent).toEqual([])
        expect(outbox.depth).toBe(0)
      })

      test('a purged record does not hold up its terminal: the callback says it is dealt with', async () => {
        const outbox = open()
        outbox.accept(record({ variant: null }))
        const answer = committed(outbox)
        outbox.purge(withdrawal, 'withdrawal')
        expect(await answer).toBeUndefined()
      })

      const fleet: readonly (readonly [string, Omit<Partial<OutboxRecord>, 'payload'>])[] = [
        ['ada 1 planner', {}],
        ['bob 1 planner', { subjects: ['op-bob'] as OperatorId[] }],
        ['nobody 2 planner', { subjects: [], machine: 'SN-2' as MachineId }],
        ['ada 2 safety', { machine: 'SN-2' as MachineId, output: 'safety' as OutputId, purpose: 'legal.obligation' as PurposeId }],
        ['ada+bob 3 planner', { subjects: ['op-ada', 'op-bob'] as OperatorId[], machine: 'SN-3' as MachineId }],
      ]
      const table: readonly (readonly [PurgeSelector, PurgeReason, readonly string[]])[] = [
        [{ subject: 'op-ada' as OperatorId }, 'erasure', ['bob 1 planner', 'nobody 2 planner']],
        [{ machine: 'SN-2' as MachineId }, 'erasure', ['ada 1 planner', 'bob 1 planner', 'ada+bob 3 planner']],
        [{ output: 'safety' as OutputId }, 'rules', ['ada 1 planner', 'bob 1 planner', 'nobody 2 planner', 'ada+bob 3 planner']],
        [{ purpose: 'improve.statistics' as PurposeId }, 'rules', ['ada 2 safety']],
        [{ subject: 'op-bob' as OperatorId, machine: 'SN-3' as MachineId }, 'erasure', ['ada 1 planner', 'bob 1 planner', 'nobody 2 planner', 'ada 2 safety']],
        [{ machine: 'SN-2' as MachineId }, 'device_setting', ['ada 1 planner', 'bob 1 planner', 'nobody 2 planner', 'ada+bob 3 planner']],
        [{ subject: 'op-ada' as OperatorId }, 'withdrawal', ['ada 1 planner', 'bob 1 planner', 'nobody 2 planner', 'ada 2 safety', 'ada+bob 3 planner']],
        [{ subject: 'op-nobody-knows' as OperatorId }, 'erasure', ['ada 1 planner', 'bob 1 planner', 'nobody 2 planner', 'ada 2 safety', 'ada+bob 3 planner']],
      ]
      test.each(table.map(([selector, reason, stay]) => [JSON.stringify(selector), reason, selector, stay] as const))('%s for %s', async (_, reason, selector, stay) => {
        const outbox = open()
        for (const [payload, of] of fleet) outbox.accept(record({ payload, ...of }))
        await committed(outbox)
        expect(outbox.purge(selector, reason).purged).toBe(fleet.length - stay.length)
        expect((await afterCrash()).cloud.payloads).toEqual(stay)
      })

      for (const [stage, bring] of Object.entries(stages)) {
        test(`of what a selector covers, records ${stage}: only those that a question of the caller's names`, async () => {
          const outbox = open()
          const cloud = await bring(outbox, [
            record({ payload: 'goes', variant: null, consentSeq: [7] }), record({ payload: 'exact', variant: 'coarse', consentSeq: [7] }),
            record({ payload: 'stays: a newer grant', variant: null, consentSeq: [9] }),
          ])
          const only = (one: OutboxRecord): boolean => one.consentSeq.every((seq) => seq < 9)
          expect(outbox.purge({ ...withdrawal, only }, 'withdrawal')).toEqual({ purged: 1, swapped: 1, held: 0 })
          expect(outbox.purge({ ...withdrawal, only: () => false }, 'withdrawal')).toEqual({ purged: 0, swapped: 0, held: 0 })
          expect(await committed(outbox)).toBeUndefined()
          if (stage === 'committed, destination away') outbox.attach(cloud)
          cloud.automatic = true
          cloud.answer()
          await turns(20)
          expect(cloud.payloads).toEqual(['coarse', 'stays: a newer grant'])
        })
      }

      test('a selector that names nothing is refused', () => {
        expect(() => open().purge({}, 'erasure')).toThrow(expect.objectContaining({ code: 'OUTBOX-SELECTOR' }))
      })

      test('a legal hold keeps a record, frozen; when it ends the next purge takes it', async () => {
        let hold = true
        const held = (one: OutboxRecord): boolean => hold && one.storageClass === 'legal'
        const outbox = open({ held })
        outbox.accept(record({ payload: 'evidence', variant: null, storageClass: 'legal' }))
        await committed(outbox)
        outbox.accept(record({ payload: 'evidence, not committed', variant: 'less', storageClass: 'legal' }))
        outbox.accept(record({ payload: 'ordinary', variant: null }))
        expect(outbox.purge(withdrawal, 'withdrawal')).toEqual({ purged: 1, swapped: 0, held: 2 })
        await committed(outbox)
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        await turns()
        expect(cloud.sent).toEqual([])
        expect(outbox.depth).toBe(2)
        expect((await afterCrash()).cloud.sent).toEqual([])
        hold = false
        expect(outbox.purge({ subject: 'op-ada' as OperatorId }, 'erasure')).toEqual({ purged: 2, swapped: 0, held: 0 })
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
      })

      test('a legal hold on a record that waits for its commit: stored, and not sent to an outlet that stands ready', async () => {
        const outbox = open({ held: () => true })
        const cloud = new TestOutlet('cloud', true)
        outbox.attach(cloud)
        outbox.accept(record({ payload: 'before', subjects: [] }))
        await turns()
        outbox.accept(record({ payload: 'evidence', variant: null }))
        outbox.accept(record({ payload: 'after', subjects: [] }))
        expect(outbox.purge(withdrawal, 'withdrawal').held).toBe(1)
        await turns()
        expect(cloud.payloads).toEqual(['before', 'after'])
        expect(outbox.depth).toBe(1)
        expect((await afterCrash()).outbox.depth).toBe(1)
      })

      test('a legal hold also takes a record out of the hands of an outlet', async () => {
        const outbox = open({ held: () => true })
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record({ variant: null }))
        await turns()
        expect(outbox.purge(withdrawal, 'withdrawal')).toEqual({ purged: 0, swapped: 0, held: 1 })
        expect(cloud.open[0]!.record.revision).not.toBe(cloud.open[0]!.revision)
        cloud.answer(new Error('cut'))
        await turns()
        expect([cloud.sent.length, outbox.depth]).toEqual([1, 1])
      })
    })

    describe('bounds', () => {
      test('expiry: a record expires at its instant; before it is sent, after it is not', async () => {
        const outbox = open()
        outbox.accept(record({ payload: 'short', expiresAtMs: NOW + 1_000 }))
        outbox.accept(record({ payload: 'long', expiresAtMs: NOW + 2_000 }))
        outbox.accept(record({ payload: 'for ever' }))
        await committed(outbox)
        nowMs = NOW + 999
        expect(outbox.sweep().purged).toBe(0)
        nowMs = NOW + 1_000
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        await turns()
        // Expired records do not leave, swept or not.
        expect(cloud.payloads).toEqual(['long', 'for ever'])
        expect(outbox.sweep().purged).toBe(1)
        cloud.answer()
        await turns()
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
      })

      test('expiry of what is waiting and of what an outlet holds', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record({ expiresAtMs: NOW + 1_000 }))
        await turns()
        outbox.accept(record({ expiresAtMs: NOW + 1_000 }))
        nowMs = NOW + 1_000
        expect(outbox.sweep().purged).toBe(2)
        expect(cloud.open[0]!.record.revision).not.toBe(cloud.open[0]!.revision)
        await turns()
        expect([cloud.sent.length, outbox.depth, outbox.bytes]).toEqual([1, 0, 0])
      })

      test('the quota: at it accept refuses and nothing of the refused record is stored; delivery makes room', async () => {
        const outbox = open({ quotaBytes: 2_000 })
        let accepted = 0
        for (;;) {
          try {
            outbox.accept(record({ payload: 'x'.repeat(100) }))
            accepted++
          } catch (cause) {
            expect(cause).toMatchObject({ code: 'OUTBOX-FULL' })
            break
          }
        }
        expect(accepted).toBeGreaterThan(3)
        expect(outbox.bytes).toBeLessThanOrEqual(2_000)
        expect(outbox.room('planner' as OutputId, 'ordinary', 100)).toBe(false)
        expect(await committed(outbox)).toBeUndefined()
        expect((await afterCrash()).cloud.sent).toHaveLength(accepted)
        const cloud = new TestOutlet('cloud', true)
        outbox.attach(cloud)
        await turns()
        expect([outbox.room('planner' as OutputId, 'ordinary', 100), outbox.bytes]).toEqual([true, 0])
        outbox.accept(record({ payload: 'again' }))
        await turns()
        expect(cloud.payloads.at(-1)).toBe('again')
      })

      test('the quota counts what a restart finds', async () => {
        const outbox = open()
        for (let i = 0; i < 10; i++) outbox.accept(record({ payload: 'x'.repeat(100), variant: 'y'.repeat(50) }))
        await committed(outbox)
        const { bytes: before, depth } = outbox
        const image = await afterCrash()
        expect([image.outbox.bytes, image.outbox.depth]).toEqual([before, depth])
      })
    })

    describe('restart', () => {
      test('what was not answered for is sent again, in order, before what is new', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        for (const payload of ['a', 'b', 'c']) outbox.accept(record({ payload }))
        await turns()
        cloud.open.shift()!.done(undefined)
        await turns()
        await outbox.close()
        const again = open()
        again.accept(record({ payload: 'd' }))
        const next = new TestOutlet('cloud')
        again.attach(next)
        await turns()
        expect(next.payloads).toEqual(['b', 'c', 'd'])
      })

      test('a destination that has answered is not asked again although another one still waits', async () => {
        const outbox = open()
        const local = new TestOutlet('local', true)
        outbox.attach(local)
        for (const payload of ['a', 'b', 'c']) outbox.accept(record({ payload, via: ['cloud', 'local'] }))
        await turns()
        expect(local.sent).toHaveLength(3)
        const image = await afterCrash()
        expect(image.local.sent).toEqual([])
        expect(image.cloud.payloads).toEqual(['a', 'b', 'c'])
      })
    })

    describe('disclosure counts', () => {
      const counted = (outbox: OutboxUnderTest): string[] => outbox.counts().map((row) => `${row.subject || '-'} ${row.output} ${row.credential} ${row.count}`)

      test('each exit is counted per person and log-in, in the transaction that deletes the record', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record())
        outbox.accept(record())
        outbox.accept(record({ subjects: ['op-ada', 'op-bob'] as OperatorId[] }))
        outbox.accept(record({ subjects: [] }))
        await turns()
        for (const one of cloud.open) outbox.onDelivered(one.record, 'cloud-login')
        outbox.onDelivered(cloud.open[0]!.record, 'second-login')
        cloud.answer()
        expect(counted(outbox)).toEqual([])
        expect((await afterCrash()).cloud.sent).toHaveLength(4)
        await turns()
        expect((await afterCrash()).cloud.sent).toHaveLength(0)
        expect(counted(outbox)).toEqual([
          '- planner cloud-login 1', 'op-ada planner cloud-login 3', 'op-ada planner second-login 1', 'op-bob planner cloud-login 1',
        ])
      })

      test('an unknown outcome after a crash counts as disclosed; the delivery after it counts again', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud, { records: 2 })
        for (let i = 0; i < 4; i++) outbox.accept(record())
        await turns()
        // Two are out, two were never handed to anybody.
        expect(cloud.sent).toHaveLength(2)
        const image = await afterCrash()
        expect(counted(image.outbox)).toEqual(['op-ada planner unknown 2'])
        expect(image.cloud.sent).toHaveLength(4)
        for (const one of image.cloud.open) image.outbox.onDelivered(one.record, 'cloud-login')
        image.cloud.answer()
        await turns()
        expect(counted(image.outbox)).toEqual(['op-ada planner cloud-login 4', 'op-ada planner unknown 2'])
      })

      test('what a restart counted as unknown is not counted again by the next, as long as nothing was handed out', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        outbox.accept(record())
        await turns()
        await outbox.close()
        await open().close()
        await open().close()
        expect(counted(open())).toEqual(['op-ada planner unknown 1'])
      })

      test('counts add up from group to group', async () => {
        const outbox = open()
        const cloud = new TestOutlet('cloud')
        outbox.attach(cloud)
        for (let round = 1; round <= 4; round++) {
          outbox.accept(record())
          await turns()
          outbox.onDelivered(cloud.open[0]!.record, 'cloud-login')
          cloud.answer()
          await turns()
          expect(counted(outbox)).toEqual([`op-ada planner cloud-login ${round}`])
        }
      })

      test('counts add up over restarts', async () => {
        for (let round = 0; round < 3; round++) {
          const outbox = open()
          const cloud = new TestOutlet('cloud')
          outbox.attach(cloud)
          outbox.accept(record())
          await turns()
          outbox.onDelivered(cloud.open[0]!.record, 'cloud-login')
          cloud.answer()
          await turns()
          await outbox.close()
        }
        expect(counted(open())).toEqual(['op-ada planner cloud-login 3'])
      })
    })

    test('whatever happens, every acknowledged record is delivered, stored or purged for a reason, and nothing withdrawn leaves (property)', async () => {
      const people = ['op-ada', 'op-bob'] as OperatorId[]
      const step = fc.oneof(
        { weight: 6, arbitrary: fc.record({ do: fc.constant('accept' as const), person: fc.integer({ min: 0, max: 1 }), variant: fc.constantFrom(undefined, null, 'coarse'), via: fc.constantFrom(['cloud'], ['cloud', 'local']) }) },
        { weight: 4, arbitrary: fc.constant({ do: 'turn' as const }) },
        { weight: 3, arbitrary: fc.record({ do: fc.constant('answer' as const), to: fc.integer({ min: 0, max: 1 }), ok: fc.boolean(), howMany: fc.integer({ min: 1, max: 5 }) }) },
        { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const), person: fc.integer({ min: 0, max: 1 }) }) },
        { weight: 1, arbitrary: fc.record({ do: fc.constant('crash' as const) }) },
      )
      await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), fc.integer({ min: 1, max: 6 }), async (steps, window) => {
        let here = mkdtempSync(join(tmpdir(), 'parapet-outbox-all-'))
        const folders = [here]
        let outbox = openIn({ folder: here, clock })
        let outlets = [new TestOutlet('cloud'), new TestOutlet('local')]
        for (const outlet of outlets) outbox.attach(outlet, { records: window })
        interface Known { acked: boolean; withdrawn: boolean; readonly person: OperatorId; readonly variant: string | null | undefined; readonly via: readonly string[]; readonly done: Set<string> }
        const known = new Map<string, Known>()
        let n = 0
        const check = (): void => {
          for (const outlet of outlets) {
            for (const one of outlet.open) {
              const content = text(one.record.payload)
              if (content === '') continue
              const about = known.get(content.split('|')[0]!)!
              if (about.withdrawn && about.variant !== undefined) expect(content, 'withdrawn, yet in the hands of an outlet').toContain('|coarse')
            }
          }
        }
        for (const one of steps) {
          if (one.do === 'accept') {
            const key = `r${n++}`
            const person = people[one.person]!
            const about: Known = { acked: false, withdrawn: false, person, variant: one.variant, via: one.via, done: new Set() }
            known.set(key, about)
            outbox.accept(record({ payload: `${key}|exact`, variant: typeof one.variant === 'string' ? `${key}|coarse` : one.variant, subjects: [person], machineOrder: n, via: one.via }))
            outbox.committed((error) => { about.acked = error === undefined })
          } else if (one.do === 'turn') {
            await turnOfTheLoop()
          } else if (one.do === 'answer') {
            const outlet = outlets[one.to]!
            for (const { record: sent, revision, done } of outlet.open.splice(0, one.howMany)) {
              const cut = (sent.revision ?? 0) !== revision
              if (one.ok && !cut) known.get(text(sent.payload).split('|')[0]!)!.done.add(outlet.name)
              done(one.ok && !cut ? undefined : new Error('no'))
            }
          } else if (one.do === 'withdraw') {
            outbox.purge({ subject: people[one.person]! }, 'withdrawal')
            for (const about of known.values()) if (about.person === people[one.person]) about.withdrawn = true
          } else {
            const copy = mkdtempSync(join(tmpdir(), 'parapet-outbox-all-'))
            folders.push(copy)
            cpSync(here, copy, { recursive: true })
            // What nobody was told about may be lost.
            for (const [key, about] of known) if (!about.acked) known.delete(key)
            await outbox.close()
            here = copy
            outbox = openIn({ folder: here, clock })
            outlets = [new TestOutlet('cloud'), new TestOutlet('local')]
            for (const outlet of outlets) outbox.attach(outlet, { records: window })
          }
          check()
        }
        for (let i = 0; i < 3_000 && outbox.depth > 0; i++) {
          await turnOfTheLoop()
          check()
          for (const outlet of outlets) {
            for (const { record: sent, revision, done } of outlet.open.splice(0)) {
              const cut = (sent.revision ?? 0) !== revision
              if (!cut) known.get(text(sent.payload).split('|')[0]!)?.done.add(outlet.name)
              done(cut ? new Error('cut') : undefined)
            }
          }
          if (i % 20 === 19) await new Promise((resolve) => setTimeout(resolve, 1))
        }
        expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
        for (const [key, about] of known) {
          const purged = about.withdrawn && about.variant === null
          if (about.acked && !purged) expect([...about.done].sort(), `${key} is lost`).toEqual([...about.via].sort())
        }
        await outbox.close()
        for (const one of folders) rmSync(one, { recursive: true })
      }), { numRuns: 40 })
    })
  })
}
