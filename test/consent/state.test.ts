import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { receiptOf } from '../../src/consent/receipts.ts'
import { nobody, type ConsentState, type Decision } from '../../src/domain/consent.ts'
import type { Books } from '../../src/consent/books.ts'
import { clockAt, DAY, folder, HOUR, MINUTE, op, open, policy, purpose, register, says, type TestClock } from './fixture.ts'

/** What the table says for Ada about one purpose: yes, site (only on site), no, or nothing. */
function answer(books: Books, clock: TestClock, about = 'improve.statistics', who = 'op-ada'): 'yes' | 'site' | 'no' | 'nothing' | 'unknown' {
  const into = nobody()
  if (!books.states.fill(op(who), clock.ms, clock.ms, into)) return 'unknown'
  return read(into, ['service.operate', 'improve.statistics', 'personalise'].indexOf(about))
}

function read(into: Decision, index: number): 'yes' | 'site' | 'no' | 'nothing' {
  const bit = 1 << index
  expect(into.siteYes & into.yes).toBe(into.yes)
  expect(into.no & into.siteYes).toBe(0)
  if ((into.yes & bit) !== 0) return 'yes'
  if ((into.siteYes & bit) !== 0) return 'site'
  return (into.no & bit) !== 0 ? 'no' : 'nothing'
}

function started(): { books: Books; clock: TestClock; path: string } {
  const path = folder()
  const clock = clockAt()
  const books = open(path, clock)
  register(books)
  books.usePolicy(policy())
  return { books, clock, path }
}

/** What was said in this order, and what it comes to: the state shown, and what the hot path allows. */
const table: readonly (readonly [said: readonly ConsentState[], state: ConsentState, allows: 'yes' | 'site' | 'no' | 'nothing'])[] = [
  [[], 'not_set', 'nothing'],
  [['requested'], 'requested', 'nothing'],
  [['granted'], 'granted', 'yes'],
  [['local_only'], 'local_only', 'site'],
  [['refused'], 'refused', 'no'],
  [['objected'], 'objected', 'no'],
  [['withdrawn'], 'withdrawn', 'no'],
  [['requested', 'granted'], 'granted', 'yes'],
  [['requested', 'refused'], 'refused', 'no'],
  [['granted', 'withdrawn'], 'withdrawn', 'no'],
  [['granted', 'withdrawn', 'granted'], 'granted', 'yes'],
  [['granted', 'local_only'], 'local_only', 'site'],
  [['local_only', 'granted'], 'granted', 'yes'],
  [['local_only', 'withdrawn'], 'withdrawn', 'no'],
  [['refused', 'granted'], 'granted', 'yes'],
  [['objected', 'granted'], 'granted', 'yes'],
  [['granted', 'objected'], 'objected', 'no'],
  // Asking again changes no answer.
  [['refused', 'requested'], 'refused', 'no'],
  [['withdrawn', 'requested'], 'withdrawn', 'no'],
  [['objected', 'requested'], 'objected', 'no'],
  [['granted', 'requested'], 'granted', 'yes'],
  [['local_only', 'requested'], 'local_only', 'site'],
]

describe('consent of one person for one purpose', () => {
  it.each(table)('%j is %s, allows %s', (said, state, allows) => {
    const { books, clock, path } = started()
    for (const word of said) {
      clock.ms += MINUTE
      books.states.change(says('op-ada', 'improve.statistics', word as 'granted'))
    }
    const check = (at: Books): void => {
      expect(answer(at, clock)).toBe(allows)
      expect(at.states.show(op('op-ada')).rows.find((row) => row.purpose === 'improve.statistics')?.state ?? 'not_set').toBe(state)
      // Nobody else and nothing else is touched.
      expect(answer(at, clock, 'personalise')).toBe('nothing')
      expect(answer(at, clock, 'improve.statistics', 'op-ben')).toBe('nothing')
    }
    check(books)
    books.close()
    const again = open(path, clock)
    again.usePolicy(policy())
    check(again)
  })

  it('is in force and on disk when `change` returns', () => {
    const { books, clock, path } = started()
    const { seq, previous } = books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    expect(previous).toBe('not_set')
    expect(books.states.change(says('op-ada', 'improve.statistics', 'withdrawn')).previous).toBe('granted')
    expect(seq).toBe(4)
    // Not closed, as after a kill.
    const other = open(path, clock)
    other.usePolicy(policy())
    expect(answer(other, clock)).toBe('no')
  })

  it('expires at its time, and stays expired when the clock steps back', () => {
    const { books, clock, path } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: clock.ms + DAY }))
    books.states.change(says('op-ada', 'personalise', 'granted', { expiresAtMs: clock.ms + 2 * DAY }))
    books.states.change(says('op-ada', 'service.operate', 'granted'))
    clock.ms += DAY - 1
    expect(answer(books, clock)).toBe('yes')
    clock.ms += 1
    expect(answer(books, clock)).toBe('nothing')
    expect(answer(books, clock, 'personalise')).toBe('yes')
    expect(answer(books, clock, 'service.operate')).toBe('yes')
    clock.ms -= HOUR
    expect(answer(books, clock)).toBe('nothing')
    books.close()
    const again = open(path, clock)
    again.usePolicy(policy())
    expect(answer(again, clock)).toBe('nothing')
    expect(again.states.show(op('op-ada')).rows.map((row) => [row.purpose, row.state])).toEqual([['improve.statistics', 'expired'], ['personalise', 'granted'], ['service.operate', 'granted']])
    clock.ms += 2 * DAY
    again.sweep(clock.ms)
    expect(answer(again, clock, 'personalise')).toBe('nothing')
    expect(answer(again, clock, 'service.operate')).toBe('yes')
  })

  it('does not cover what was acquired before it was given, also after a withdrawal in between', () => {
    const { books, clock } = started()
    const start = clock.ms
    const at = (eventMs: number): string => {
      const into = nobody()
      expect(books.states.fillRow(books.states.rowOf(op('op-ada')), eventMs, clock.ms, into)).toBe(true)
      const byName = nobody()
      expect(books.states.fill(op('op-ada'), eventMs, clock.ms, byName)).toBe(true)
      expect(byName).toEqual(into)
      return read(into, 1)
    }
    clock.ms = start + 10 * MINUTE
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    expect([at(start), at(start + 10 * MINUTE - 1), at(start + 10 * MINUTE), at(start + HOUR)]).toEqual(['nothing', 'nothing', 'yes', 'yes'])
    clock.ms = start + 20 * MINUTE
    books.states.change(says('op-ada', 'personalise', 'granted'))
    expect(at(start + 10 * MINUTE)).toBe('yes')
    books.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    expect(at(start + 15 * MINUTE)).toBe('no')
    clock.ms = start + 30 * MINUTE
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    // Data of the first grant, still buffered on the machine: another grant than the one that holds now.
    expect(at(start + 15 * MINUTE)).toBe('nothing')
    expect(at(start + 30 * MINUTE)).toBe('yes')
    expect(at(Number.NaN)).toBe('nothing')
  })

  it('a late yes must name what it replaces; a late no always counts', () => {
    const { books, clock } = started()
    const early = clock.ms - HOUR
    const { seq } = books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    const withdrawal = books.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    const late = (more: object): unknown => books.states.change(says('op-ada', 'improve.statistics', 'granted', { source: 'terminal', givenAtMs: early, ...more }))
    expect(() => late({})).toThrow(expect.objectContaining({ code: 'STALE-GRANT' }))
    expect(() => late({ supersedes: seq })).toThrow(/Ask the person again/)
    expect(answer(books, clock)).toBe('no')
    late({ supersedes: withdrawal.seq })
    expect(answer(books, clock)).toBe('yes')
    books.states.change(says('op-ada', 'improve.statistics', 'withdrawn', { source: 'terminal', givenAtMs: early, supersedes: 1 }))
    expect(answer(books, clock)).toBe('no')
  })

  it('errors tell what to do and name nobody', () => {
    const { books, clock } = started()
    const fails = (code: string, change: ReturnType<typeof says>): void => {
      expect(() => books.states.change(change)).toThrow(expect.objectContaining({ code, mend: expect.stringMatching(/\w/) as string }))
    }
    fails('UNKNOWN-OPERATOR', says('op-zoe', 'improve.statistics', 'granted'))
    fails('UNKNOWN-PURPOSE', says('op-ada', 'improve.everything', 'granted'))
    fails('UNKNOWN-PURPOSE', says('op-ada', 'improve.everything', 'refused'))
    fails('EXPIRY-PAST', says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: clock.ms }))
    expect(() => books.states.giveNotice(op('op-zoe'), 'awp-2026-11', 'de', undefined)).toThrow(/operators.yaml/)
    expect(books.states.operators).toBe(1)
    expect(books.ledger.head.seq).toBe(3)
    expect(answer(books, clock, 'improve.statistics', 'op-zoe')).toBe('unknown')
  })

  it('before any rules nobody can grant', () => {
    const books = open(folder(), clockAt())
    register(books)
    expect(() => books.states.change(says('op-ada', 'improve.statistics', 'granted'))).toThrow(expect.objectContaining({ code: 'NO-RULES' }))
  })

  it('a receipt can be found in the ledger', () => {
    const { books } = started()
    const change = says('op-ada', 'improve.statistics', 'withdrawn')
    const receipt = receiptOf(books.ledger, change, books.states.change(change), { purged: 3, swapped: 1, onTheWire: 2 })
    expect(receipt).toMatchObject({ operator: 'op-ada', purpose: 'improve.statistics', state: 'withdrawn', seq: 4, at: '2026-11-23T06:00:00.000Z', policy: 'awp-2026-11', purged: 3, swapped: 1, onTheWire: 2 })
    expect([...books.ledger.events()].find((event) => event.uuid === receipt.receipt)?.seq).toBe(4)
  })

  it('a damaged ledger knows nobody', () => {
    const { books, clock } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    Object.defineProperty(books.ledger, 'healthy', { get: () => false })
    expect(answer(books, clock)).toBe('unknown')
  })
})

describe('notice', () => {
  it('counts for the policy in force only, whatever came before or is announced', () => {
    const { books, clock, path } = started()
    const given = (at: Books): number => {
      const into = nobody()
      at.states.fill(op('op-ada'), clock.ms, clock.ms, into)
      return into.notice
    }
    expect(given(books)).toBe(0)
    books.states.giveNotice(op('op-ada'), 'awp-2025-03', 'de', undefined)
    expect(given(books)).toBe(0)
    books.states.giveNotice(op('op-ada'), 'awp-2026-11', 'de', undefined)
    expect(given(books)).toBe(0b111)
    // The next policy is announced before it comes into force: the notice of this one still counts.
    books.states.giveNotice(op('op-ada'), 'awp-2027-01', 'de', undefined)
    expect(given(books)).toBe(0b111)
    books.usePolicy(policy({ id: 'awp-2027-05' }))
    expect(given(books)).toBe(0)
    books.usePolicy(policy({ id: 'awp-2027-01' }))
    expect(given(books)).toBe(0b111)
    expect(books.states.show(op('op-ada')).notice).toEqual({ policy: 'awp-2027-01', atMs: clock.ms, language: 'de' })
    books.close()
    const again = open(path, clock)
    again.usePolicy(policy({ id: 'awp-2026-11' }))
    expect(given(again)).toBe(0b111)
  })

  it('remembers the newest thirty policies and forgets older notices', () => {
    const { books, clock } = started()
    for (let i = 0; i < 40; i++) books.states.giveNotice(op('op-ada'), `p-${i}`, undefined, undefined)
    const into = nobody()
    for (const [id, notice] of [['p-39', 0b111], ['p-15', 0b111], ['p-0', 0]] as const) {
      books.usePolicy(policy({ id }))
      books.states.fill(op('op-ada'), clock.ms, clock.ms, into)
      expect(into.notice, id).toBe(notice)
    }
  })
})

describe('a change of the rules', () => {
  it('moves states with their purposes, whatever their places in the file', () => {
    const { books, clock, path } = started()
    books.states.change(says('op-ada', 'service.operate', 'granted'))
    books.states.change(says('op-ada', 'improve.statistics', 'refused'))
    books.states.change(says('op-ada', 'personalise', 'local_only'))
    const sets = (purposes: readonly string[], at = books): string[] => {
      at.usePolicy(policy({ purposes }))
      const into = nobody()
      at.states.fill(op('op-ada'), clock.ms, clock.ms, into)
      return purposes.map((_, index) => read(into, index))
    }
    expect(sets(['personalise', 'service.operate', 'improve.statistics'])).toEqual(['site', 'yes', 'no'])
    expect(sets(['a', 'improve.statistics', 'b'])).toEqual(['nothing', 'no', 'nothing'])
    expect(sets(['service.operate', 'a', 'personalise', 'improve.statistics'])).toEqual(['yes', 'nothing', 'site', 'no'])
    books.close()
    const again = open(path, clock)
    expect(sets(['improve.statistics', 'c', 'service.operate'], again)).toEqual(['no', 'nothing', 'yes'])
    expect(sets(['personalise'], again)).toEqual(['site'])
    // A purpose that the rules no longer have can still be withdrawn.
    again.states.change(says('op-ada', 'service.operate', 'withdrawn'))
    expect(() => again.states.change(says('op-ada', 'service.operate', 'granted'))).toThrow(/no such purpose/)
    expect(sets(['service.operate'], again)).toEqual(['no'])
  })

  const wider: readonly (readonly [what: string, change: Parameters<typeof policy>[0], holds: boolean])[] = [
    ['nothing but its name changes', { id: 'awp-2027-01' }, true],
    ['a recipient is added', { recipients: { 'oem-cloud': 'EU', insurer: 'EU' } }, false],
    ['a recipient moves to another region', { recipients: { 'oem-cloud': 'CN' } }, false],
    ['a recipient goes', { recipients: {} }, true],
    ['data are kept shorter', { keepsMs: 10 * DAY }, true],
    ['data are kept longer', { keepsMs: 60 * DAY }, false],
    ['another purpose is added', { purposes: ['service.operate', 'improve.statistics', 'personalise', 'more'] }, true],
  ]
  it.each(wider)('%s', (_, change, holds) => {
    const { books, clock, path } = started()
    const first = policy({ keepsMs: 30 * DAY })
    books.usePolicy(first)
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.states.change(says('op-ben', 'improve.statistics', 'objected'))
    books.usePolicy(policy({ keepsMs: 30 * DAY, ...change }))
    expect(answer(books, clock)).toBe(holds ? 'yes' : 'nothing')
    expect(answer(books, clock, 'improve.statistics', 'op-ben')).toBe('no')
    expect(books.states.show(op('op-ada')).rows[0]!.state).toBe(holds ? 'granted' : 'invalidated')
    // Going back does not bring it back; the person must say yes again.
    books.usePolicy(first)
    if (!holds) expect(answer(books, clock)).toBe('nothing')
    books.close()
    const again = open(path, clock)
    again.usePolicy(first)
    if (!holds) expect(answer(again, clock)).toBe('nothing')
    again.states.change(says('op-ada', 'improve.statistics', 'granted'))
    expect(answer(again, clock)).toBe('yes')
    expect(again.states.show(op('op-ada')).rows[0]!.state).toBe('granted')
  })

  it('a widening while the gateway was down is found at the start', () => {
    const { books, clock, path } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.close()
    const again = open(path, clock)
    again.usePolicy(policy({ recipients: { 'oem-cloud': 'EU', insurer: 'EU' } }))
    expect(answer(again, clock)).toBe('nothing')
  })

  it('another judge of what is wider can be used', () => {
    const clock = clockAt()
    let precision = 500
    const books = open(folder(), clock, { scopeOf: (id) => ({ [id]: 1 / precision }), wider: (granted, now) => Object.values(now as object)[0] > Object.values(granted as object)[0] })
    register(books)
    books.usePolicy(policy())
    const { seq } = books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    expect([...books.ledger.events({ afterSeq: seq - 1 })][0]!.body).toMatchObject({ scope: { 'improve.statistics': 1 / 500 } })
    precision = 1_000
    books.usePolicy(policy())
    expect(answer(books, clock)).toBe('yes')
    precision = 100
    books.usePolicy(policy())
    expect(answer(books, clock)).toBe('nothing')
  })
})

describe('a yes that ends without the person', () => {
  /** Books that write down what they are told has ended, and what the table says at that moment. */
  function listening(path: string, clock: TestClock): { books: Books; heard: string[] } {
    const heard: string[] = []
    const books: Books = open(path, clock, { onEnded: (operator, about, reason) => heard.push(`${operator} ${about} ${reason}, now ${answer(books, clock, about, operator)}`) })
    register(books)
    return { books, heard }
  }

  it('by its time is told once, whoever notices first', () => {
    const notices: Readonly<Record<string, (books: Books, clock: TestClock) => unknown>> = {
      'the hot path': (books, clock) => answer(books, clock),
      'the sweep': (books, clock) => books.sweep(clock.ms),
      'a look at the person': (books) => books.states.show(op('op-ada')),
      'another change': (books) => books.states.change(says('op-ada', 'service.operate', 'refused')),
      'a new yes': (books) => books.states.change(says('op-ada', 'improve.statistics', 'granted')),
    }
    for (const [what, notice] of Object.entries(notices)) {
      const clock = clockAt()
      const { books, heard } = listening(folder(), clock)
      books.usePolicy(policy())
      books.states.change(says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: clock.ms + HOUR }))
      books.states.change(says('op-ada', 'personalise', 'local_only', { expiresAtMs: clock.ms + 2 * HOUR }))
      clock.ms += HOUR - 1
      answer(books, clock)
      books.sweep(clock.ms)
      expect(heard, what).toEqual([])
      clock.ms += 1
      notice(books, clock)
      expect(heard, what).toEqual(['op-ada improve.statistics expired, now nothing'])
      clock.ms += HOUR
      books.sweep(clock.ms)
      books.sweep(clock.ms)
      expect(heard.slice(1), what).toEqual(['op-ada personalise expired, now nothing'])
      books.close()
    }
  })

  it('is told with the sequence that parts the decisions before from those after', () => {
    const clock = clockAt()
    const ends: number[] = []
    const books = open(folder(), clock, { onEnded: (_operator, _about, _reason, seq) => ends.push(seq) })
    register(books)
    books.usePolicy(policy({ keepsMs: 10 * DAY }))
    const seqNow = (): number => {
      const into = nobody()
      books.states.fill(op('op-ada'), clock.ms, clock.ms, into)
      return into.seq
    }
    books.states.change(says('op-ada', 'service.operate', 'granted'))
    books.states.change(says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: clock.ms + HOUR }))
    books.states.change(says('op-ada', 'personalise', 'granted', { expiresAtMs: clock.ms + HOUR }))
    const before = seqNow()
    clock.ms += HOUR
    const between = seqNow()
    expect(ends).toHaveLength(2)
    for (const end of ends) expect([before < end, between < end]).toEqual([true, false])
    books.usePolicy(policy({ keepsMs: 60 * DAY }))
    expect(ends).toHaveLength(3)
    expect([between < ends[2]!, seqNow() < ends[2]!]).toEqual([true, false])
  })

  it('because the rules became wider is told for everybody who had said yes', () => {
    const clock = clockAt()
    const { books, heard } = listening(folder(), clock)
    books.usePolicy(policy({ keepsMs: 30 * DAY }))
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.states.change(says('op-ben', 'improve.statistics', 'refused'))
    books.states.change(says('op-cem', 'improve.statistics', 'local_only'))
    books.usePolicy(policy({ keepsMs: 10 * DAY }))
    expect(heard).toEqual([])
    books.usePolicy(policy({ keepsMs: 60 * DAY }))
    expect(heard).toEqual(['op-ada improve.statistics invalidated, now nothing', 'op-cem improve.statistics invalidated, now nothing'])
  })

  it('while the gateway was down is told at the next look; what ended before it went down is not told again', () => {
    const path = folder()
    const clock = clockAt()
    const first = listening(path, clock)
    first.books.usePolicy(policy())
    first.books.states.change(says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: clock.ms + HOUR }))
    first.books.states.change(says('op-ben', 'improve.statistics', 'granted', { expiresAtMs: clock.ms + 3 * HOUR }))
    first.books.close()
    clock.ms += 2 * HOUR
    const second = listening(path, clock)
    second.books.usePolicy(policy())
    second.books.sweep(clock.ms)
    expect(second.heard).toEqual(['op-ada improve.statistics expired, now nothing'])
    second.books.usePolicy(policy({ recipients: { 'oem-cloud': 'EU', insurer: 'EU' } }))
    expect(second.heard.slice(1)).toEqual(['op-ben improve.statistics invalidated, now nothing'])
    second.books.close()
    const third = listening(path, clock)
    third.books.usePolicy(policy({ recipients: { 'oem-cloud': 'EU', insurer: 'EU' } }))
    third.books.sweep(clock.ms + DAY)
    expect(third.heard).toEqual([])
  })
})

describe('against a model', () => {
  const PURPOSES = ['service.operate', 'improve.statistics', 'personalise'] as const
  const PEOPLE = ['op-ada', 'op-ben', 'op-cem'] as const
  type Step =
    | { readonly do: 'say'; readonly who: string; readonly about: string; readonly state: 'granted' | 'local_only' | 'refused' | 'withdrawn' | 'objected' | 'requested'; readonly lasts: number | undefined }
    | { readonly do: 'wait'; readonly ms: number }
    | { readonly do: 'restart' }
    | { readonly do: 'reorder'; readonly purposes: readonly string[] }
    | { readonly do: 'sweep' }

  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('say' as const), who: fc.constantFrom(...PEOPLE), about: fc.constantFrom(...PURPOSES), state: fc.constantFrom('granted' as const, 'granted' as const, 'local_only' as const, 'refused' as const, 'withdrawn' as const, 'objected' as const, 'requested' as const), lasts: fc.option(fc.integer({ min: 1, max: 4 }).map((n) => n * MINUTE), { nil: undefined }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(0, 1, MINUTE - 1, MINUTE, 3 * MINUTE, DAY) }) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
    { weight: 1, arbitrary: fc.shuffledSubarray([...PURPOSES], { minLength: 1 }).map((purposes) => ({ do: 'reorder' as const, purposes })) },
    { weight: 1, arbitrary: fc.constant({ do: 'sweep' as const }) },
  )

  /** The whole model: one cell per person and purpose. */
  class Model {
    readonly cells = new Map<string, { word: string; since: number; until: number }>()
    say(key: string, word: string, now: number, until: number): void {
      const cell = this.at(key, now)
      if (word === 'requested' && cell.word !== 'nothing') return
      this.cells.set(key, { word: { granted: 'yes', local_only: 'site', requested: 'nothing' }[word] ?? 'no', since: now, until })
    }
    at(key: string, now: number): { word: string; since: number } {
      const cell = this.cells.get(key)
      if (cell === undefined) return { word: 'nothing', since: 0 }
      if ((cell.word === 'yes' || cell.word === 'site') && now >= cell.until) cell.word = 'nothing'
      return cell
    }
    /** For data acquired at a time before now. */
    covering(key: string, event: number, now: number): string {
      const { word, since } = this.at(key, now)
      return (word === 'yes' || word === 'site') && event < since ? 'nothing' : word
    }
  }

  it('random histories come to what the model says, for new and for late data', () => {
    fc.assert(fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const { books: first, clock, path } = started()
      let books = first
      let purposes: readonly string[] = PURPOSES
      const model = new Model()
      const begin = clock.ms
      for (const action of steps) {
        if (action.do === 'wait') clock.ms += action.ms
        else if (action.do === 'sweep') books.sweep(clock.ms)
        else if (action.do === 'reorder') books.usePolicy(policy({ purposes: purposes = action.purposes }))
        else if (action.do === 'restart') {
          books.close()
          books = open(path, clock)
          books.usePolicy(policy({ purposes }))
        } else if (purposes.includes(action.about)) {
          const expiresAtMs = action.lasts === undefined ? undefined : clock.ms + action.lasts
          books.states.change(says(action.who, action.about, action.state, { expiresAtMs }))
          model.say(`${action.who} ${action.about}`, action.state, clock.ms, expiresAtMs ?? Infinity)
        }
        const into = nobody()
        for (const who of PEOPLE) {
          for (const eventMs of [clock.ms, clock.ms - 1, clock.ms - 2 * MINUTE, begin]) {
            expect(books.states.fillRow(books.states.rowOf(op(who)), eventMs, clock.ms, into)).toBe(true)
            for (const [index, about] of purposes.entries()) expect(read(into, index)).toBe(model.covering(`${who} ${about}`, eventMs, clock.ms))
          }
        }
      }
      // The bits and the history that a person is shown say the same.
      for (const who of PEOPLE) {
        const rows = new Map(books.states.show(op(who)).rows.map((row) => [row.purpose, row.state]))
        for (const about of purposes) {
          const state = rows.get(purpose(about)) ?? 'not_set'
          const word = { granted: 'yes', local_only: 'site', refused: 'no', withdrawn: 'no', objected: 'no' }[state as string] ?? 'nothing'
          expect(word).toBe(model.at(`${who} ${about}`, clock.ms).word)
        }
      }
      expect(books.ledger.verify().ok).toBe(true)
      books.close()
    }), { numRuns: Number(process.env['RUNS'] ?? 20) })
  })

  it('refusal is monotone: a no takes away, and gives nothing to anybody (G7)', () => {
    fc.assert(fc.property(fc.array(step, { maxLength: 15 }), fc.constantFrom('refused' as const, 'withdrawn' as const, 'objected' as const), (steps, word) => {
      const { books, clock } = started()
      for (const action of steps) if (action.do === 'say') books.states.change(says(action.who, action.about, action.state))
      const before = nobody()
      const after = nobody()
      books.states.fill(op('op-ada'), clock.ms, clock.ms, before)
      books.states.change(says('op-ada', 'personalise', word))
      books.states.fill(op('op-ada'), clock.ms, clock.ms, after)
      expect(after.yes & ~before.yes).toBe(0)
      expect(after.siteYes & ~before.siteYes).toBe(0)
      expect(before.no & ~after.no).toBe(0)
      expect(after.notice).toBe(before.notice)
      books.close()
    }), { numRuns: 8 })
  })
})
