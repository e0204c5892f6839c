/** A shadow run beside live traffic: what it counts, what it never holds, and when it stops. The sets are the shipped rules and edits of them. */
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createTopicMatcher } from '../../src/broker/topics.ts'
import { loadRules } from '../../src/config/rules.ts'
import type { ConsentState, Decision } from '../../src/domain/consent.ts'
import type { PurposeId } from '../../src/domain/ids.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import type { Ending } from '../../src/domain/live.ts'
import type { Policy, Stream } from '../../src/domain/policy.ts'
import type { Machine } from '../../src/domain/ports.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { decisionFor, machineOf, offlineKeys } from '../../src/rehearsal.ts'
import { decisionMap, Shadow, type RuleSet, type ShadowReport, type ShadowRequest } from '../../src/watch/shadow.ts'

const root = resolve(import.meta.dirname, '../..')
const schemas = loadSchemas([join(root, 'proto')])
const shipped = readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8')
const keys = offlineKeys()
const AT = 1_763_888_864_000
const MACHINES = new Map<string, Machine>(Array.from({ length: 10 }, (_, n) => machineOf({ id: `SN-${n + 1}`, fleet: 'demo', country: 'FR' })).map((machine) => [machine.id, machine]))

/** Values that must be nowhere: a place, a card and hours that occur in no other number. */
const CANARY = { machine_id: 'SN-1', operator_id: 'CARD-77123', lat_e7: 457_640_430, lon_e7: 48_356_590, hour_meter_s: 4_521_901 }
const STATUS = { ...CANARY, time_ms: AT, fix: 3, key_on: true, soc_pct_x10: 833, mode: 'MODE_DRIVE' }

function setOf(...edits: readonly (readonly [string, string])[]): RuleSet {
  const text = edits.reduce((all, [from, to]) => {
    if (!all.includes(from)) throw new Error(`the edit finds nothing: ${from}`)
    return all.replace(from, to)
  }, shipped.slice(0, shipped.indexOf('\ntests:') + 1))
  const loaded = loadRules('awp.yaml', text, { schemas })
  const policy = loaded.policy ?? loaded.draft
  if (policy === undefined) throw new Error(JSON.stringify(loaded.findings))
  return { policy, schemas: loaded.schemas }
}

const ACTIVE = setOf()

class Clock {
  ms = AT
  cpu = 0
  /** Each look at the clock takes so long. */
  step = 0
  now = (): number => this.ms
  monotonic = (): number => (this.cpu += this.step)
}

interface Run {
  readonly shadow: Shadow
  readonly clock: Clock
  readonly endings: Ending[]
  readonly reports: ShadowReport[]
  readonly later: (() => void)[]
}

function run(candidate: RuleSet, options: Partial<ShadowRequest> & { readonly later?: boolean } = {}): Run {
  const [endings, reports, later]: [Ending[], ShadowReport[], (() => void)[]] = [[], [], []]
  const clock = new Clock()
  const shadow = new Shadow({ active: ACTIVE, candidate, samplePercent: 100, forMs: 3_600_000, asNobody: false, by: 'tuning', difference: '', asksAgain: [], ...options }, {
    clock, keys, machine: (id) => MACHINES.get(id),
    matcher: (streams: readonly Stream[]) => {
      const matcher = createTopicMatcher(streams)
      return (topic) => matcher.match(topic)
    },
    end: (one, why) => {
      endings.push(why)
      one.ended(why)
    },
    ended: (report) => void reports.push(report),
    defer: options.later === true ? (work) => void later.push(work) : (work) => work(),
  })
  return { shadow, clock, endings, reports, later }
}

interface Sent {
  readonly stream?: string
  readonly machine?: string
  readonly message?: Readonly<Record<string, unknown>>
  readonly payload?: Uint8Array
  readonly consent?: Readonly<Record<string, ConsentState>>
  readonly operator?: string | undefined
}

/** As the gateway tells of a message that was decided under the active set. */
function decided(on: Run, sent: Sent = {}): void {
  const stream = ACTIVE.policy.streams.find(({ id }) => id === (sent.stream ?? 'status')) as Stream
  const machine = sent.machine ?? 'SN-1'
  const payload = sent.payload ?? schemas.encode(stream.message.name, { ...(sent.message ?? STATUS), machine_id: machine })
  const decision = decisionFor(ACTIVE.policy, { operator: 'operator' in sent ? sent.operator : 'op-ada', consent: new Map(Object.entries(sent.consent ?? {})), notice: true, country: undefined, session: '' })
  on.shadow.decided({ topic: `up/demo/${machine}/${stream.id}`, payload, qos: 1, machine, receivedAtMs: AT, isWill: false }, stream, decision)
}

/** `output stream field: what count`, without what stays the same. */
function changes({ rows }: ShadowReport): string[] {
  return rows.filter(({ what }) => what !== 'same').map(({ output, stream, field, what, reason, count }) => `${output} ${stream}${field === '' ? '' : ` ${field}`}: ${what}${reason === '' ? '' : ` (${reason})`} ${count}`)
}

const YES = { 'improve.statistics': 'granted', 'personalise': 'granted' } as const

describe('what a candidate would change', () => {
  // prettier-ignore
  test.each<[string, readonly (readonly [string, string])[], Sent, readonly string[]]>([
    // what, edits, the message, expected
    ['nothing',                         [], { consent: YES }, []],
    ['a comment is no change',          [['# The manufacturer', '# Our manufacturer']], { consent: YES }, []],
    ['a finer value',                   [['round: 6 min', 'round: 1 min']], {}, ['rental-billing status: changed 1', 'rental-billing status hour_meter_s: different 1']],
    ['a field more',                    [['fields: { hour_meter_s: { round: 6 min } }', 'fields: { hour_meter_s: { round: 6 min }, soc_pct_x10: { round: 5 % } }']], {}, ['rental-billing status: changed 1', 'rental-billing status soc_pct_x10: only_candidate 1']],
    ['a field less',                    [['        keep: [mode]\n', '']], { consent: YES }, ['site-planning status: changed 1', 'site-planning status mode: only_active 1']],
    ['a coarser place is one field',    [['position: { consent: { grid: 500m }', 'position: { consent: { grid: 1km }']], { consent: YES }, ['site-planning status: changed 1', 'site-planning status position: different 1']],
    ['another topic',                   [['out/billing/{stream}', 'out/bills/{stream}']], {}, ['rental-billing status: changed 1', 'rental-billing status: other_topic 1']],
    ['a condition that does not hold',  [['when: "msg.key_on"\n        require: [position]', 'when: "!msg.key_on"\n        require: [position]']], { consent: YES }, ['site-planning status: only_active (when_false) 1']],
    ['a purpose without a yes closes',  [['purpose: service.operate\n    to: { topic: "out/billing', 'purpose: improve.statistics\n    to: { topic: "out/billing']], {}, ['rental-billing status: only_active (closed) 1']],
    ['an output is gone',               [['  rental-billing:\n', '  hours:\n']], {}, ['rental-billing status: only_active 1', 'hours status: only_candidate 1']],
    ['no answer, no difference',        [['position: { consent: { grid: 500m }', 'position: { consent: { grid: 1km }']], {}, []],
  ])('%s', (_name, edits, sent, expected) => {
    const on = run(setOf(...edits))
    decided(on, sent)
    expect(changes(on.shadow.report())).toEqual(expected)
    expect(on.shadow.report()).toMatchObject({ seen: 1, compared: 1, skipped: 0 })
  })

  test('the order of the purposes is no difference, though their bits are others', () => {
    const [first, second] = ['  service.operate:        { about: "dispatch, maintenance, battery, hours for the rental bill", clause: "P10, P11", dpv: TechnicalServiceProvision }\n', '  improve.statistics:     { about: "where and how machines work, per quarter hour", clause: P14, dpv: ServiceUsageAnalytics }\n']
    const on = run(setOf([first, ''], [second, second + first]))
    for (const consent of [YES, {}, { 'improve.statistics': 'refused' } as const]) decided(on, { consent })
    expect(changes(on.shadow.report())).toEqual([])
    expect(on.shadow.report().rows.find(({ output }) => output === 'site-planning')).toMatchObject({ what: 'same', count: 1 })
  })

  test('a stream that only the candidate has is found by its topic, and stands as if nobody were known', () => {
    const on = run(setOf(['streams:\n', 'streams:\n  extra: { topic: "up/{fleet}/{machine}/extra", message: awp.v1.Status }\n'], ['      status:\n        fields: { hour_meter_s: { round: 6 min } }', '      extra: { fields: { hour_meter_s: keep } }\n      status:\n        fields: { hour_meter_s: { round: 6 min } }']))
    const payload = schemas.encode('awp.v1.Status', STATUS)
    const publish = { payload, qos: 1, receivedAtMs: AT, isWill: false } as const
    on.shadow.refused({ ...publish, topic: 'up/demo/SN-1/extra', machine: 'SN-1' }, undefined)
    // Another machine's or fleet's topic, a topic of nobody and a machine of nobody stay refused.
    on.shadow.refused({ ...publish, topic: 'up/demo/SN-1/extra', machine: 'SN-2' }, undefined)
    on.shadow.refused({ ...publish, topic: 'up/other/SN-1/extra', machine: 'SN-1' }, undefined)
    on.shadow.refused({ ...publish, topic: 'up/demo/SN-1/nothing', machine: 'SN-1' }, undefined)
    on.shadow.refused({ ...publish, topic: 'up/demo/SN-99/extra', machine: 'SN-99' }, undefined)
    expect(changes(on.shadow.report())).toEqual([' extra: refused_by_active (no_stream) 1', 'rental-billing extra: only_candidate (no_stream) 1'])
    expect(on.shadow.report()).toMatchObject({ seen: 5, compared: 1 })
  })

  test('a message that both refuse is compared and is no difference; one that only the candidate refuses is', () => {
    const same = run(setOf())
    same.shadow.refused({ topic: 'up/demo/SN-1/status', payload: Uint8Array.of(0x0a, 9, 1), qos: 1, machine: 'SN-1', receivedAtMs: AT, isWill: false }, ACTIVE.policy.streams.find(({ id }) => id === 'status'))
    expect([changes(same.shadow.report()), same.shadow.report().compared]).toEqual([[], 1])

    const moved = run(setOf(['topic: "up/{fleet}/{machine}/status"', 'topic: "up/{fleet}/{machine}/state"']))
    decided(moved)
    expect(changes(moved.shadow.report())).toEqual([' status: refused_by_candidate (no_stream) 1', 'service-cloud status: only_active (no_stream) 1', 'rental-billing status: only_active (no_stream) 1'])
  })
})

describe('bits of a decision in the places of another policy', () => {
  const purposes = (ids: readonly string[], replaces: Readonly<Record<string, readonly string[]>> = {}): Policy => ({ ...ACTIVE.policy, purposes: ids.map((id, index) => ({ id: id as PurposeId, index, about: '', clause: undefined, dpv: undefined, ...(replaces[id] === undefined ? {} : { replaces: replaces[id] as readonly PurposeId[] }) })) })
  const empty: Decision = decisionFor(ACTIVE.policy, { operator: 'op-ada', consent: new Map(), notice: false, country: undefined, session: '' })

  test('by the names of the purposes, for any order of any of them', () => {
    const names = Array.from({ length: LIMITS.purposes }, (_, n) => `p${n}`)
    const some = fc.shuffledSubarray(names, { minLength: 1 })
    fc.assert(fc.property(some, some, fc.array(fc.nat({ max: 2 ** 30 - 1 }), { minLength: 3, maxLength: 3 }), (before, after, [yes = 0, site = 0, no = 0]) => {
      const given = { ...empty, yes, siteYes: yes | site, no, notice: 2 ** before.length - 1 }
      const mapped = decisionMap(purposes(before), purposes(after))(given)
      const said = (bits: number, list: readonly string[], name: string): boolean => list.includes(name) && Math.floor(bits / 2 ** list.indexOf(name)) % 2 === 1
      for (const name of after) {
        for (const set of ['yes', 'siteYes', 'no'] as const) expect(said(mapped[set], after, name)).toBe(said(given[set], before, name))
        expect(said(mapped.notice, after, name)).toBe(true)
      }
      expect([mapped.known, mapped.operator]).toEqual([true, 'op-ada'])
    }), { numRuns: Number(process.env['PARAPET_RUNS'] ?? 200) })
  })

  test('what replaces another purpose has every no that was said to it, and no yes', () => {
    const map = decisionMap(purposes(['old', 'other']), purposes(['new', 'other'], { new: ['old'] }))
    expect(map({ ...empty, yes: 0b01, siteYes: 0b01 })).toMatchObject({ yes: 0, siteYes: 0, no: 0 })
    expect(map({ ...empty, no: 0b01 })).toMatchObject({ no: 0b01 })
    expect(map({ ...empty, no: 0b10 })).toMatchObject({ no: 0b10 })
  })
})

describe('bounds', () => {
  test('a tenth is a tenth, and every machine is in it, whatever the rhythm in which they send', () => {
    const on = run(ACTIVE, { samplePercent: 10 })
    const met = new Map<string, number>()
    for (let n = 0; n < 2_000; n++) {
      const before = on.shadow.report().compared
      decided(on, { machine: `SN-${(n % 10) + 1}`, message: { time_ms: AT, hour_meter_s: 3_600 } })
      if (on.shadow.report().compared > before) met.set(`SN-${(n % 10) + 1}`, (met.get(`SN-${(n % 10) + 1}`) ?? 0) + 1)
    }
    expect(Math.abs(on.shadow.report().compared - 200)).toBeLessThan(5)
    expect([...met.keys()].length).toBe(10)
    for (const count of met.values()) expect(Math.abs(count - 20)).toBeLessThan(6)
  })

  test('what takes more than its share of a second is passed over, and counted; the next second goes on', () => {
    const on = run(ACTIVE)
    on.clock.step = 3
    for (let n = 0; n < 30; n++) decided(on)
    const { compared, skipped } = on.shadow.report()
    expect([compared, compared + skipped]).toEqual([Math.ceil(LIMITS.watchMsPerSecond / 3), 30])
    on.clock.cpu += 1_000
    decided(on)
    expect(on.shadow.report().compared).toBe(compared + 1)
    // However long each takes, a few are taken.
    on.clock.cpu += 1_000
    on.clock.step = 20
    for (let n = 0; n < 25; n++) decided(on)
    expect(on.shadow.report().compared).toBe(compared + 1 + LIMITS.watchLeast)
  })

  test('no message waits for it: nothing is done before the message is answered, and only so many are kept', () => {
    const on = run(ACTIVE, { later: true })
    for (let n = 0; n < LIMITS.watchWaiting + 5; n++) decided(on)
    expect(on.shadow.report()).toMatchObject({ compared: 0, skipped: 5, seen: LIMITS.watchWaiting + 5 })
    for (let work = on.later.shift(); work !== undefined; work = on.later.shift()) work()
    expect(on.shadow.report().compared).toBe(LIMITS.watchWaiting)
  })

  test('the message may change after it was handed over: a copy is compared', () => {
    const on = run(ACTIVE, { later: true })
    const payload = schemas.encode('awp.v1.Status', STATUS)
    decided(on, { payload })
    payload.fill(0xff)
    on.later.shift()?.()
    expect(changes(on.shadow.report())).toEqual([])
    expect(on.shadow.report().rows.length).toBeGreaterThan(0)
  })

  test.each<[string, (on: Run) => void, Ending]>([
    ['its time is over and a message comes', (on) => {
      on.clock.ms += 3_600_000
      decided(on)
    }, 'over'],
    ['its time is over and nothing comes', (on) => {
      on.clock.ms += 3_600_000
      on.shadow.endIfOver()
    }, 'over'],
    ['other rules are in force', (on) => on.shadow.rulesChanged(), 'rules'],
  ])('it ends when %s, and what waits goes', (_name, act, why) => {
    const on = run(ACTIVE, { later: true })
    decided(on)
    act(on)
    for (let work = on.later.shift(); work !== undefined; work = on.later.shift()) work()
    expect(on.endings).toEqual([why])
    expect(on.reports).toMatchObject([{ ended: why, seen: 1, compared: 0 }])
    expect(on.shadow.endIfOver()).toBe(false)
  })

  test('an error ends it, and is nobody else\'s', () => {
    const { policy } = setOf(['round: 6 min', 'round: 1 min'])
    const on = run({ policy, schemas: { ...schemas, decode: () => {
      throw new Error('CANARY')
    } } })
    expect(() => decided(on)).not.toThrow()
    expect(on.endings).toEqual(['failed'])
  })
})

test('the report holds counts and names of the rules, no value, no machine and no person', () => {
  const on = run(setOf(['round: 6 min', 'round: 1 min'], ['position: { consent: { grid: 500m }', 'position: { consent: { grid: 1km }']))
  for (let n = 1; n <= 10; n++) decided(on, { consent: YES, machine: `SN-${n}` })
  const text = JSON.stringify(on.shadow.report())
  expect(changes(on.shadow.report())).toContain('rental-billing status hour_meter_s: different 10')
  for (const value of [...Object.values(CANARY).map(String), 'op-ada', '45.76', '833']) expect(text).not.toContain(value)
})

test('what hangs on a person is marked: everything but an output that gives the same for everybody', () => {
  const on = run(ACTIVE)
  for (const machine of ['SN-1', 'SN-1', 'SN-2']) decided(on, { consent: YES, machine })
  const { rows } = on.shadow.report()
  expect(Object.fromEntries(rows.map((row) => [row.output, [row.hangsOnPerson, row.machines]]))).toMatchObject({ 'rental-billing': [false, 2], 'service-cloud': [true, 2], 'site-planning': [true, 2] })
})

test('a run as nobody says the same whatever people said, and marks nothing', () => {
  const candidate = setOf(['position: { consent: { grid: 500m }', 'position: { consent: { grid: 1km }'], ['round: 6 min', 'round: 1 min'])
  const reports = [YES, {}, { 'improve.statistics': 'refused' as const }].map((consent) => {
    const on = run(candidate, { asNobody: true })
    for (let n = 1; n <= 10; n++) decided(on, { consent, machine: `SN-${n}` })
    return on.shadow.report()
  })
  expect(reports[1]).toEqual(reports[0])
  expect(reports[2]).toEqual(reports[0])
  expect(reports[0]!.compared).toBe(10)
  expect(reports[0]!.rows.some(({ hangsOnPerson }) => hangsOnPerson)).toBe(false)
})

test('a message that is refused only where an output is open, and so tells of a yes, is marked', () => {
  // The stream `position` has an output on consent alone. [RFC 3629] No UTF-8 text holds 0xff: here the operator's id.
  const broken = Buffer.concat([schemas.encode('awp.v1.Position', { machine_id: 'SN-1', time_ms: AT }), Buffer.from([0x32, 0x01, 0xff])])
  const candidate = setOf(['      position:\n        require: [position]\n        fields:\n          position: { consent: { grid: 500m }, no_consent: { grid: 10km } }\n', ''])
  const rows = (consent: Readonly<Record<string, ConsentState>>, payload: Uint8Array): readonly string[] => {
    const on = run(candidate)
    decided(on, { stream: 'position', payload, consent })
    return on.shadow.report().rows.map(({ what, reason, hangsOnPerson }) => `${what} (${reason}) ${String(hangsOnPerson)}`)
  }
  expect([rows({}, broken), rows(YES, broken)]).toEqual([[], ['refused_by_active (bad_utf8) true']])
})
