/** What a terminal says that its operator chose: who is heard, what beats what, and what the same message again does. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Books } from '../../src/consent/books.ts'
import type { ChoiceResult, TerminalChoice } from '../../src/consent/choices.ts'
import { nobody, type ConsentState } from '../../src/domain/consent.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import type { Choice } from '../../src/domain/policy.ts'
import { clockAt, DAY, folder, HOUR, machine, MINUTE, MORNING, op, open, policy, purpose, register, says, type TestClock } from './fixture.ts'

const LIFT = machine('SN-1')
const OTHER = machine('SN-2')
const ABOUT = 'improve.statistics'

interface Say {
  readonly says?: Choice | undefined
  readonly card?: string
  /** Minutes after 06:00 at which it was chosen; default now. */
  readonly at?: number
  readonly on?: typeof LIFT
  readonly about?: string
  readonly policy?: string | undefined
  readonly supersedes?: string
  readonly payload?: string
}

class Depot {
  readonly path = folder()
  readonly clock: TestClock = clockAt()
  books: Books
  #messages = 0

  constructor() {
    this.books = open(this.path, this.clock)
    register(this.books)
    this.books.usePolicy(policy())
  }

  at(minute: number): this {
    this.clock.ms = MORNING + minute * MINUTE
    return this
  }

  signOn(card: string, on = LIFT): this {
    this.books.sessions.signOn(on, this.books.identities.find(card, this.clock.ms), this.clock.ms, this.clock.ms)
    return this
  }

  signOff(card: string, on = LIFT): this {
    this.books.sessions.signOff(on, this.books.identities.find(card, this.clock.ms), this.clock.ms, this.clock.ms)
    return this
  }

  /** As the pipeline does: who is signed on comes from the session at the time of the choice. */
  say(say: Say): ChoiceResult {
    return this.books.choices.take(this.message(say)).result
  }

  message(say: Say): TerminalChoice {
    const on = say.on ?? LIFT
    const eventMs = say.at === undefined ? this.clock.ms : MORNING + say.at * MINUTE
    const decision = nobody()
    this.books.sessions.decide(on, eventMs, this.clock.ms, decision)
    return {
      machine: on, signedOn: decision.known ? decision.operator : undefined, card: say.card ?? 'CARD-1111', purpose: say.about ?? ABOUT,
      says: 'says' in say ? say.says : 'granted', policy: 'policy' in say ? say.policy : 'awp-2026-11', language: 'de', supersedes: say.supersedes ?? '', evidence: '',
      eventMs, receivedMs: this.clock.ms, lateLimitMs: 7 * DAY, payload: Buffer.from(say.payload ?? `message ${++this.#messages}`),
    }
  }

  portal(state: 'granted' | 'withdrawn' | 'refused' | 'local_only', who = 'op-ada'): this {
    this.books.states.change(says(who, ABOUT, state))
    return this
  }

  agent(state: 'withdrawn' | 'refused'): this {
    this.books.states.change(says('op-ada', ABOUT, state, { source: 'agent' }))
    return this
  }

  state(who = 'op-ada', about = ABOUT): ConsentState {
    return this.books.states.standing(op(who), purpose(about))?.state ?? 'not_set'
  }

  seq(who = 'op-ada'): number {
    return this.books.states.standing(op(who), purpose(ABOUT))?.seq ?? 0
  }

  receipt(): string {
    return this.books.states.show(op('op-ada')).history.at(-1)!.uuid
  }
}

type Row = readonly [situation: string, play: (depot: Depot) => ChoiceResult, result: ChoiceResult, state: ConsentState]

/** Ada is op-ada with CARD-1111, Ben op-ben with CARD-2222. Minutes count from 06:00; the state is Ada's for improve.statistics. */
const WHO: readonly Row[] = [
  ['Ada is signed on and says yes', (d) => d.signOn('CARD-1111').at(5).say({}), 'recorded', 'granted'],
  ['the message names nobody: it is whoever is signed on', (d) => d.signOn('CARD-1111').at(5).say({ card: '' }), 'recorded', 'granted'],
  ['nobody is signed on', (d) => d.at(5).say({}), 'nobody', 'not_set'],
  ['Ada is signed on at another machine', (d) => d.signOn('CARD-1111', OTHER).at(5).say({}), 'nobody', 'not_set'],
  ['Ben is signed on, the message names Ada', (d) => d.signOn('CARD-2222').at(5).say({}), 'nobody', 'not_set'],
  ['Ada has signed off', (d) => d.signOn('CARD-1111').at(5).signOff('CARD-1111').at(6).say({}), 'nobody', 'not_set'],
  ['in the quarantine after a hand-over nobody says yes', (d) => d.signOn('CARD-2222').at(5).signOn('CARD-1111').at(6).say({}), 'nobody', 'not_set'],
  ['after it Ada does', (d) => d.signOn('CARD-2222').at(5).signOn('CARD-1111').at(8).say({}), 'recorded', 'granted'],
  ['an unknown card', (d) => d.signOn('CARD-1111').at(5).say({ card: 'CARD-9999' }), 'nobody', 'not_set'],
  ['a shared code is never a yes', (d) => d.signOn('0000').at(5).say({ card: '0000' }), 'nobody', 'not_set'],
  ['nor is a technician\'s master code', (d) => d.signOn('MASTER-9').at(5).say({ card: 'MASTER-9' }), 'nobody', 'not_set'],
  ['a session that lasted too long', (d) => d.signOn('CARD-1111').at(12 * 60 + 1).say({}), 'nobody', 'not_set'],
  ['a yes from a time to come', (d) => d.signOn('CARD-1111').at(5).say({ at: 15 }), 'nobody', 'not_set'],
  ['a yes that does not say when', (d) => d.signOn('CARD-1111').at(5).say({ at: Number.NaN }), 'nobody', 'not_set'],
  ['the device setting is off', (d) => d.signOn('CARD-1111').at(5).say({ on: machine('SN-1', 'off') }), 'nobody', 'not_set'],
  ['the device setting is unknown', (d) => d.signOn('CARD-1111').at(5).say({ on: machine('SN-1', 'unknown') }), 'nobody', 'not_set'],
  ['a choice that the rules do not know', (d) => d.signOn('CARD-1111').at(5).say({ says: undefined }), 'not_understood', 'not_set'],
  ['a purpose that there is not', (d) => d.signOn('CARD-1111').at(5).say({ about: 'improve.everything' }), 'unknown_purpose', 'not_set'],
  ['a purpose that is no name', (d) => d.signOn('CARD-1111').at(5).say({ about: 'improve statistics' }), 'unknown_purpose', 'not_set'],
  ['a yes to last year\'s notice', (d) => d.signOn('CARD-1111').at(5).say({ policy: 'awp-2025-11' }), 'other_notice', 'not_set'],
  ['a yes that does not say to which notice', (d) => d.signOn('CARD-1111').at(5).say({ policy: '' }), 'other_notice', 'not_set'],
  ['rules without a field for the notice', (d) => d.signOn('CARD-1111').at(5).say({ policy: undefined }), 'recorded', 'granted'],
  ['for this site only', (d) => d.signOn('CARD-1111').at(5).say({ says: 'local_only' }), 'recorded', 'local_only'],
]

const NO: readonly Row[] = [
  ['Ada refuses at the machine', (d) => d.signOn('CARD-1111').at(5).say({ says: 'refused' }), 'recorded', 'refused'],
  ['she objects', (d) => d.signOn('CARD-1111').at(5).say({ says: 'objected' }), 'recorded', 'objected'],
  ['she withdraws what the portal has', (d) => d.portal('granted').signOn('CARD-1111').at(5).say({ says: 'withdrawn' }), 'recorded', 'withdrawn'],
  ['also under an older notice', (d) => d.portal('granted').signOn('CARD-1111').at(5).say({ says: 'withdrawn', policy: 'awp-2025-11' }), 'recorded', 'withdrawn'],
  ['also after she has signed off', (d) => d.portal('granted').signOn('CARD-1111').at(5).signOff('CARD-1111').at(20).say({ says: 'withdrawn' }), 'recorded', 'withdrawn'],
  ['also in the quarantine', (d) => d.portal('granted').signOn('CARD-2222').at(5).signOn('CARD-1111').at(6).say({ says: 'withdrawn' }), 'recorded', 'withdrawn'],
  ['also while Ben is signed on, if she was there', (d) => d.portal('granted').signOn('CARD-1111').at(60).signOn('CARD-2222').at(90).say({ says: 'withdrawn' }), 'recorded', 'withdrawn'],
  ['also buffered for three days', (d) => d.portal('granted').signOn('CARD-1111').at(3 * 24 * 60).say({ says: 'withdrawn', at: 10 }), 'recorded', 'withdrawn'],
  ['also by a terminal whose clock stands in 1970', (d) => d.portal('granted').signOn('CARD-1111').at(5).say({ says: 'withdrawn', at: -MORNING / MINUTE }), 'recorded', 'withdrawn'],
  ['also when it names a state that is long gone', (d) => d.portal('granted').signOn('CARD-1111').at(5).say({ says: 'withdrawn', supersedes: '99999' }), 'recorded', 'withdrawn'],
  ['not at a machine where she never was', (d) => d.portal('granted').signOn('CARD-1111', OTHER).at(5).say({ says: 'withdrawn' }), 'nobody', 'granted'],
  ['not where she was too long ago', (d) => d.portal('granted').signOn('CARD-1111').at(8 * 24 * 60).say({ says: 'withdrawn' }), 'nobody', 'granted'],
  ['Ben cannot withdraw for her', (d) => d.portal('granted').signOn('CARD-2222').at(5).say({ says: 'withdrawn', card: 'CARD-2222' }), 'recorded', 'granted'],
  ['a second no of the same kind is the first', (d) => { d.signOn('CARD-1111').at(5).say({ says: 'refused' }); return d.at(6).say({ says: 'refused' }) }, 'repeated', 'refused'],
  ['an objection after a refusal is one of its own', (d) => { d.signOn('CARD-1111').at(5).say({ says: 'refused' }); return d.at(6).say({ says: 'objected' }) }, 'recorded', 'objected'],
]

/** [P32] More than one source: what restricts wins, unless the yes is the same person's newer choice for certain. */
const CONFLICT: readonly Row[] = [
  ['withdrawn in the portal at 07:00, yes at the machine at 08:00', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(120).say({}), 'recorded', 'granted'],
  ['withdrawn in the portal at 07:00, a yes of 07:01 (two clocks)', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(61).say({}), 'stale', 'withdrawn'],
  ['the same, naming the withdrawal by its sequence', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(61).say({ supersedes: String(d.seq()) }), 'recorded', 'granted'],
  ['the same, naming the withdrawal by its receipt', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(61).say({ supersedes: d.receipt() }), 'recorded', 'granted'],
  ['naming a receipt of nobody', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(90).say({ supersedes: '0190b6c4-0000-7000-8000-000000000000' }), 'stale', 'withdrawn'],
  ['no and yes at the same machine a second later: in the order of its connection', (d) => { d.signOn('CARD-1111').at(60).say({ says: 'refused' }); return d.at(60.02).say({}) }, 'recorded', 'granted'],
  ['no at one machine, yes at another a minute later', (d) => { d.signOn('CARD-1111').signOn('CARD-1111', OTHER).at(60).say({ says: 'refused' }); return d.at(61).say({ on: OTHER }) }, 'stale', 'refused'],
  ['refused by customer service, yes at the machine an hour later', (d) => d.signOn('CARD-1111').at(60).agent('refused').at(120).say({}), 'recorded', 'granted'],
  ['a yes of 06:10, buffered, arrives at 08:00; withdrawn at 07:00', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(120).say({ at: 10 }), 'stale', 'withdrawn'],
  ['a yes of 07:10, buffered, arrives at 08:00; withdrawn at 07:00', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(120).say({ at: 70 }), 'stale', 'withdrawn'],
  ['the same, naming the withdrawal', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(120).say({ at: 70, supersedes: String(d.seq()) }), 'recorded', 'granted'],
  ['naming the grant before the withdrawal', (d) => { const old = d.portal('granted').seq(); return d.signOn('CARD-1111').at(60).portal('withdrawn').at(120).say({ at: 70, supersedes: String(old) }) }, 'stale', 'withdrawn'],
  ['buffered, and nothing was ever said: nothing is undone by it', (d) => d.signOn('CARD-1111').at(120).say({ at: 10 }), 'recorded', 'granted'],
  ['buffered, and she was only asked in between', (d) => { d.signOn('CARD-1111').at(60).books.states.change(says('op-ada', ABOUT, 'requested')); return d.at(120).say({ at: 10 }) }, 'recorded', 'granted'],
  ['buffered beyond the late limit', (d) => d.signOn('CARD-1111').at(8 * 24 * 60).say({ at: 10 }), 'nobody', 'not_set'],
  ['a yes for less is no withdrawal of a no', (d) => d.signOn('CARD-1111').at(60).portal('withdrawn').at(61).say({ says: 'local_only' }), 'stale', 'withdrawn'],
]

for (const [name, table] of [['who is heard', WHO], ['a no counts', NO], ['more than one source', CONFLICT]] as const) {
  describe(name, () => {
    it.each(table)('%s', (_, play, result, state) => {
      const depot = new Depot()
      expect(play(depot)).toBe(result)
      expect(depot.state()).toBe(state)
      // What counted is on disk, and what did not is nowhere.
      depot.books.close()
      depot.books = open(depot.path, depot.clock)
      depot.books.usePolicy(policy())
      expect(depot.state()).toBe(state)
    })
  })
}

describe('the same message again', () => {
  const again = 'the very same bytes'

  it('a yes is recorded once', () => {
    const depot = new Depot().signOn('CARD-1111').at(5)
    expect([depot.say({ payload: again }), depot.say({ payload: again })]).toEqual(['recorded', 'repeated'])
    expect(depot.books.states.show(op('op-ada')).history).toHaveLength(1)
  })

  it('a yes does not undo the withdrawal that came between, though the terminal is still fresh', () => {
    const depot = new Depot().signOn('CARD-1111').at(5)
    depot.say({ payload: again })
    depot.at(5.5).say({ says: 'withdrawn' })
    expect(depot.say({ payload: again, at: 5 })).toBe('repeated')
    expect(depot.state()).toBe('withdrawn')
  })

  it('a withdrawal does not undo the yes that came between, also after a restart', () => {
    const depot = new Depot().portal('granted').signOn('CARD-1111').at(5)
    depot.say({ says: 'withdrawn', payload: again })
    depot.at(60).portal('granted')
    depot.books.close()
    depot.books = open(depot.path, depot.clock)
    depot.books.usePolicy(policy())
    expect(depot.say({ says: 'withdrawn', payload: again, at: 5 })).toBe('repeated')
    expect(depot.state()).toBe('granted')
  })

  it('another withdrawal in other bytes does, whatever its clock says', () => {
    const depot = new Depot().portal('granted').signOn('CARD-1111').at(5)
    depot.say({ says: 'withdrawn', at: 5 })
    depot.at(60).portal('granted')
    expect(depot.say({ says: 'withdrawn', at: 5 })).toBe('recorded')
  })

  it('a repeated no is carried out again: its first copy may have been cut short', () => {
    const depot = new Depot().portal('granted').signOn('CARD-1111').at(5)
    const message = depot.message({ says: 'withdrawn', payload: again })
    expect(depot.books.choices.take(message).changed?.purposes).toEqual([ABOUT])
    expect(depot.books.choices.take(message)).toMatchObject({ result: 'repeated', change: { operator: 'op-ada', purpose: ABOUT, state: 'withdrawn' } })
  })
})

describe('the notice at the machine', () => {
  it('is given once to who is signed on, and shows with its language', () => {
    const depot = new Depot().signOn('CARD-1111').at(5)
    expect([depot.say({ says: 'notice' }), depot.say({ says: 'notice' }), depot.say({ says: 'notice', policy: 'awp-2025-11' })]).toEqual(['recorded', 'repeated', 'other_notice'])
    const { notice, notices, history } = depot.books.states.show(op('op-ada'))
    expect(notice).toEqual({ policy: 'awp-2026-11', atMs: MORNING + 5 * MINUTE, language: 'de' })
    expect(notices).toEqual([notice])
    expect(history.map(({ type }) => type)).toEqual(['notice.given'])
    expect(depot.state()).toBe('not_set')
  })

  it('is given to nobody else', () => {
    expect(new Depot().at(5).say({ says: 'notice' })).toBe('nobody')
  })
})

describe('bounds', () => {
  it('a terminal that asks and asks is not heard for the rest of the hour, except for a no that ends a yes', () => {
    const depot = new Depot().portal('granted').signOn('CARD-1111').at(5)
    for (let i = 0; i < LIMITS.choicesPerHour; i++) depot.say({ about: 'improve.everything' })
    expect(depot.say({})).toBe('too_many')
    expect(depot.say({ says: 'withdrawn' })).toBe('recorded')
    expect(depot.say({ says: 'objected' })).toBe('too_many')
    expect(depot.say({ on: OTHER, says: 'withdrawn' })).toBe('nobody')
    depot.clock.ms += HOUR
    expect(depot.say({ says: 'objected' })).toBe('recorded')
  })

  it('one message that is tried again until the outbox has room counts once', () => {
    const depot = new Depot().signOn('CARD-1111').at(5)
    const message = depot.message({ says: 'refused' })
    for (let i = 0; i <= LIMITS.choicesPerHour; i++) depot.books.choices.take(message)
    depot.clock.ms += MINUTE
    expect(depot.say({ says: 'objected' })).toBe('recorded')
  })

  it('long evidence is kept as its hash, a language that is none is left out', () => {
    const depot = new Depot().signOn('CARD-1111').at(5)
    const taken = depot.books.choices.take({ ...depot.message({}), evidence: 'ab'.repeat(50_000), language: 'x'.repeat(200) })
    expect(taken).toMatchObject({ result: 'recorded', change: { evidence: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string, language: undefined } })
  })

  it('a damaged ledger takes nothing and says so: the message stays with the terminal', () => {
    const depot = new Depot().portal('granted').signOn('CARD-1111').at(5)
    depot.books.close()
    rmSync(join(depot.path, 'ledger.head'))
    depot.books = open(depot.path, depot.clock)
    expect(depot.books.ledger.healthy).toBe(false)
    for (const card of ['', 'CARD-1111']) {
      expect(() => depot.say({ says: 'withdrawn', card })).toThrow(expect.objectContaining({ code: 'LEDGER-DAMAGED' }) as Error)
    }
    // Whoever waits for what was enqueued learns it, too.
    expect(() => depot.books.ledger.flush()).toThrow(expect.objectContaining({ code: 'LEDGER-DAMAGED' }) as Error)
  })
})

describe('who may say yes for a person', () => {
  it.each([
    ['agent', undefined, 'EVIDENCE-MISSING'],
    ['agent', '  ', 'EVIDENCE-MISSING'],
    ['agent', 'signed form 2026-114', undefined],
    ['admin', undefined, 'EVIDENCE-MISSING'],
    ['admin', 'signed form 2026-114', undefined],
    ['portal', undefined, undefined],
    ['terminal', undefined, undefined],
  ] as const)('%s with evidence %s: %s', (source, evidence, code) => {
    const depot = new Depot()
    const change = (): unknown => depot.books.states.change(says('op-ada', ABOUT, 'granted', { source, evidence }))
    if (code === undefined) expect(change).not.toThrow()
    else expect(change).toThrow(expect.objectContaining({ code }) as Error)
    for (const state of ['refused', 'withdrawn', 'objected'] as const) expect(() => depot.books.states.change(says('op-ada', ABOUT, state, { source }))).not.toThrow()
  })
})
