/** What learn mode tells of unknown things, and that it never tells a value. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { StreamId } from '../../src/domain/ids.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import type { LearnReport } from '../../src/domain/live.ts'
import type { Stream } from '../../src/domain/policy.ts'
import { Verdict } from '../../src/domain/verdict.ts'
import { Learner } from '../../src/watch/learning.ts'
import { Observers } from '../../src/watch/observer.ts'
import { bare, bytes, decisionOf, delimited, machineOf, publishOf, streamOf, varint } from './fixture.ts'

const NOON = Date.parse('2026-11-23T12:34:56Z')
const RUNS = Number(process.env['PARAPET_RUNS'] ?? '100')

function open({ streams = [streamOf('report', 'up/{fleet}/{machine}/report')], stream, forMs = 3_600_000 }: { readonly streams?: readonly Stream[]; readonly stream?: string; readonly forMs?: number } = {}) {
  const clock = { ms: NOON, now: () => clock.ms }
  const failures: unknown[] = []
  const observers = new Observers((error) => failures.push(error))
  const machines = new Map(['SN-1', 'SN-2', 'SN-3'].map((id) => [id, machineOf(id)]))
  const learner = new Learner({ clock, observers, streams: () => streams, streamsAt: () => streams, machine: (id) => machines.get(id) })
  learner.start({ stream: stream as StreamId | undefined, forMs })
  const first = streams[0] as Stream
  return {
    clock, observers, learner, failures,
    report: (): LearnReport => learner.report() as LearnReport,
    send: (payload: Uint8Array, machine = 'SN-1', of = first) => observers.decided(publishOf(machine, `up/north/${machine}/report`, payload, clock.ms), of, decisionOf(undefined)),
    refuse: (payload: Uint8Array, code: number, topic = 'up/north/SN-1/report', of: Stream | undefined = first, machine = 'SN-1') => observers.refused(publishOf(machine, topic, payload, clock.ms), of, code),
    rows: () => (learner.report() as LearnReport).rows.map(({ kind, at, wire, smallest, largest, count, machines: seen }) => [kind, at, wire, smallest, largest, count, seen]),
  }
}

describe('what is found', () => {
  // prettier-ignore
  test.each<[string, Uint8Array, readonly unknown[]]>([
    ['a number that the schema does not have',     bytes(varint(99, 300)),                                    ['field', '99', 'varint', 2, 2]],
    ['one in a message inside',                    bytes(delimited(1, varint(77, 1))),                        ['field', 'header/77', 'varint', 1, 1]],
    ['a text or message of unknown kind',          bytes(delimited(98, 'Anna')),                              ['field', '98', 'length-delimited', 4, 4]],
    ['a long one, whose length takes two bytes',   bytes(delimited(98, 'x'.repeat(200))),                     ['field', '98', 'length-delimited', 200, 200]],
    ['four bytes',                                 bytes(bare(97 * 8 + 5), [1, 2, 3, 4]),                     ['field', '97', '32 bits', 4, 4]],
    ['eight bytes',                                bytes(bare(96 * 8 + 1), [1, 2, 3, 4, 5, 6, 7, 8]),         ['field', '96', '64 bits', 8, 8]],
    ['in an entry of a map',                       bytes(delimited(6, delimited(2, varint(9, 1)))),           ['field', 'loads.value/9', 'varint', 1, 1]],
    ['a known field in another wire type',         bytes(varint(5, 7)),                                       ['wire_type', 'counter', 'varint', 1, 1]],
    ['a number that the enum does not have',       bytes(varint(2, 7)),                                       ['enum', 'mode = 7', 'varint', 1, 1]],
    ['one in a packed list',                       bytes(delimited(4, [1, 9, 2])),                            ['enum', 'modes = 9', 'varint', 1, 1]],
    ['one of a field that always names a person',  bytes(varint(3, 7)),                                       ['enum', 'reason = hidden', 'varint', 1, 1]],
    ['one that is too large for a member',         bytes(varint(2, 4_711_000)),                               ['enum', 'mode = hidden', 'varint', 4, 4]],
  ])('%s', (_what, payload, row) => {
    const { send, rows } = open()
    send(payload)
    expect(rows()).toEqual([[...row, 1, 1]])
  })

  test('nothing in a message that the schema knows whole', () => {
    const { send, report } = open()
    send(bytes(delimited(1, [...delimited(1, 'SN-1'), ...varint(2, NOON)]), varint(2, 1), varint(3, 1), delimited(4, [1, 2]), bare(5 * 8 + 5), [1, 2, 3, 4], delimited(6, delimited(2, varint(1, 5))), delimited(10, varint(1, 5))))
    expect(report()).toMatchObject({ rows: [], messages: { read: 1, unreadable: 0 } })
  })

  test('sizes from the smallest to the largest, messages, machines, hours', () => {
    const { send, report, clock } = open()
    for (const [index, machine] of ['SN-1', 'SN-1', 'SN-2', 'SN-3'].entries()) {
      clock.ms = NOON + index * 600_000
      send(bytes(delimited(98, 'x'.repeat(index + 1)), delimited(98, 'yy')), machine)
    }
    expect(report().rows).toMatchObject([{ smallest: 1, largest: 4, count: 4, machines: 3, firstMs: Date.parse('2026-11-23T12:00:00Z'), lastMs: Date.parse('2026-11-23T13:00:00Z') }])
  })

  test('what to write: a line for the schema, one for the rules, and that it never leaves', () => {
    const { send, report } = open()
    send(bytes(delimited(1, varint(77, 1)), varint(2, 7)))
    expect(report().rows).toMatchObject([
      { message: 'lift.v1.Header', proto: 'uint64 field_77 = 77;', rules: 'fields: { "lift.v1.Header.field_77": { class: additional, personal: always } }', next: expect.stringMatching(/never leaves until an output names it/) as string },
      { proto: 'MODE_7 = 7;', next: expect.stringMatching(/Add a member to the enum/) as string },
    ])
  })

  test('a member that no stream names, and not one that another names', () => {
    const streams = [streamOf('alarms', 'up/{fleet}/{machine}/report', 'alarm'), streamOf('speeds', 'up/{fleet}/{machine}/report', 'speed')]
    const { refuse, rows } = open({ streams })
    refuse(bytes(delimited(12, varint(1, 80))), Verdict.no_case.code)
    refuse(bytes(delimited(11, [])), Verdict.no_case.code)
    expect(rows()).toEqual([['case', 'load', undefined, 4, 4, 1, 1]])
  })

  // prettier-ignore
  test.each([
    ['up/north/SN-1/report/extra',     'up/{fleet}/{machine}/report/{word}'],
    ['up/north/SN-2/report',           'up/{fleet}/{machine}/report'],
    ['up/south/SN-9/Anna-Lindqvist',   'up/{word}/{word}/{word}'],
    ['up/{fleet}/x',                   'up/{word}/{word}'],
    ['a/b/c/d/e/f/g/h/i/j',            '{word}/{word}/{word}/{word}/{word}/{word}/{word}/{word}/…'],
  ])('the topic %s as %s', (topic, shape) => {
    const { observers, rows } = open()
    observers.refused(publishOf('SN-1', topic, bytes([1, 2]), NOON), undefined, Verdict.no_stream.code)
    expect(rows()).toEqual([['topic', shape, undefined, 2, 2, 1, 1]])
  })

  test('of a message of another type only what does not fit, of a malformed one nothing', () => {
    const { refuse, report } = open()
    refuse(bytes(varint(5, 7), varint(55, 1), delimited(98, 'Anna')), Verdict.wrong_type.code)
    refuse(bytes(varint(77, 1), [0x0a]), Verdict.truncated.code)
    expect(report()).toMatchObject({ rows: [{ kind: 'wire_type', at: 'counter' }], messages: { read: 1, unreadable: 1 } })
  })
})

describe('bounds', () => {
  test('one stream alone, without topics', () => {
    const streams = [streamOf('report', 'a'), streamOf('other', 'b')]
    const { send, observers, rows } = open({ streams, stream: 'other' })
    send(bytes(varint(99, 1)), 'SN-1', streams[0])
    send(bytes(varint(98, 1)), 'SN-1', streams[1])
    observers.refused(publishOf('SN-1', 'c', bytes([1]), NOON), undefined, Verdict.no_stream.code)
    expect(rows()).toEqual([['field', '98', 'varint', 1, 1, 1, 1]])
  })

  test('a second has its end, a message its number of findings, the table its rows', () => {
    const { send, report, clock } = open()
    for (let count = 0; count < LIMITS.learnPerSecond + 3; count++) send(bytes(varint(99, 1)))
    expect(report()).toMatchObject({ messages: { read: LIMITS.learnPerSecond, passedOver: 3 }, rows: [{ count: LIMITS.learnPerSecond }] })
    for (let first = 1_000; first < 1_000 + LIMITS.learnRows + 128; first += LIMITS.learnPerMessage) {
      clock.ms += 1_000
      send(bytes(...Array.from({ length: LIMITS.learnPerMessage + 1 }, (_, index) => varint(first + index, 1))))
    }
    expect(report().rows).toHaveLength(LIMITS.learnRows)
    expect(report().more).toBeGreaterThan(100)
    expect(report().messages.cut).toBeGreaterThan(10)
  })

  test('a hundred machines or more', () => {
    const { send, report, clock } = open()
    for (let count = 0; count < 130; count++) {
      clock.ms += 100
      send(bytes(varint(99, 1)), `SN-${1_000 + count}`)
    }
    expect(report().rows).toMatchObject([{ count: 130, machines: LIMITS.learnMachines }])
  })

  test('ends by the clock, by request and with the gateway; the report stays; one at a time', () => {
    const { learner, observers, send, report, clock } = open({ forMs: 60_000 })
    expect(() => learner.start({ stream: undefined, forMs: 60_000 })).toThrow(/Learn mode is on already/)
    clock.ms += 60_000
    send(bytes(varint(99, 1)))
    expect(report()).toMatchObject({ running: false, ended: 'over', rows: [] })
    expect(() => learner.stop()).toThrow(/not on/)

    learner.start({ stream: undefined, forMs: 60_000 })
    send(bytes(varint(99, 1)))
    expect(learner.stop()).toMatchObject({ running: false, ended: 'asked', rows: [{ at: '99' }] })
    send(bytes(varint(98, 1)))
    expect(report().rows).toHaveLength(1)

    learner.start({ stream: undefined, forMs: 60_000 })
    observers.close()
    expect(report()).toMatchObject({ ended: 'closing', rows: [] })
  })

  test('other rules begin the report anew', () => {
    const { observers, send, report, clock } = open()
    send(bytes(varint(99, 1)))
    clock.ms += 5_000
    observers.rulesChanged()
    expect(report()).toMatchObject({ running: true, rows: [], sinceMs: NOON + 5_000 })
  })

  test.each([['0 s', 0], ['eight days', 8 * 86_400_000], ['no number', Number.NaN]])('a time of %s is refused', (_text, forMs) => {
    expect(() => open({ forMs })).toThrow(/between a second and seven days/)
  })
})

describe('values', () => {
  test('no text of a payload, topic or machine is in the report, whatever is sent', () => {
    const canary = 'CANARY4711'
    const part = fc.oneof(
      fc.nat(200).map((number) => delimited(number + 1, canary)),
      fc.tuple(fc.nat(200), fc.nat(200)).map(([outer, inner]) => delimited(outer + 1, delimited(inner + 1, canary))),
      fc.tuple(fc.nat(200), fc.constant(823_471_144)).map(([number, value]) => varint(number + 1, value)),
      fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 12 }),
    )
    fc.assert(fc.property(fc.array(part, { maxLength: 8 }), fc.constantFrom(Verdict.no_stream.code, Verdict.no_case.code, Verdict.wrong_type.code, Verdict.failed.code, 0), (parts, code) => {
      const { send, refuse, report, failures } = open({ streams: [streamOf('report', 'up/{fleet}/{machine}/report', 'alarm')] })
      if (code === 0) send(bytes(...parts))
      else refuse(bytes(...parts), code, `up/${canary}/SN-1/${canary}`, undefined, canary)
      expect(failures).toEqual([])
      const told = JSON.stringify(report())
      expect(told).not.toContain('CANARY')
      expect(told).not.toContain('823471144')
    }), { numRuns: RUNS })
  })
})
