/** A purpose under a new name: what was refused stays refused, what was granted is asked for again. */
import { describe, expect, it } from 'vitest'
import type { Books } from '../../src/consent/books.ts'
import { nobody, type ConsentState } from '../../src/domain/consent.ts'
import type { Policy } from '../../src/domain/policy.ts'
import { clockAt, folder, MINUTE, op, open, policy, purpose, register, says } from './fixture.ts'

const OLD = 'improve.statistics'
const NEW = 'improve.planning'

/** The rules before; and after, with the purpose under its new name. */
const BEFORE = policy({ purposes: ['service.operate', OLD] })
const AFTER: Policy = renamed(policy({ id: 'awp-2027-01', purposes: ['service.operate', NEW] }), [OLD])

function renamed(rules: Policy, replaces: readonly string[]): Policy {
  return { ...rules, purposes: rules.purposes.map((one) => (one.id === NEW ? { ...one, replaces: replaces.map((id) => purpose(id)) } : one)) }
}

function allows(books: Books, rules: Policy, about: string): 'yes' | 'site' | 'no' | 'nothing' {
  const into = nobody()
  expect(books.states.fill(op('op-ada'), Number.MAX_SAFE_INTEGER / 4, 0, into)).toBe(true)
  const bit = 1 << rules.purposes.findIndex(({ id }) => id === about)
  return (into.yes & bit) !== 0 ? 'yes' : (into.siteYes & bit) !== 0 ? 'site' : (into.no & bit) !== 0 ? 'no' : 'nothing'
}

type Said = readonly (readonly [about: string, state: ConsentState])[]

/** Said before the renaming (the new name may have been known from an earlier try), and what the new name then has. */
const TABLE: readonly (readonly [situation: string, said: Said, state: ConsentState, allows: 'yes' | 'site' | 'no' | 'nothing'])[] = [
  ['nothing was said', [], 'not_set', 'nothing'],
  ['refused', [[OLD, 'refused']], 'refused', 'no'],
  ['withdrawn', [[OLD, 'granted'], [OLD, 'withdrawn']], 'withdrawn', 'no'],
  ['objected', [[OLD, 'objected']], 'objected', 'no'],
  ['refused, then asked again', [[OLD, 'refused'], [OLD, 'requested']], 'refused', 'no'],
  ['granted: a yes is never taken over', [[OLD, 'granted']], 'not_set', 'nothing'],
  ['for the site: neither', [[OLD, 'local_only']], 'not_set', 'nothing'],
  ['refused, then granted: no no is left', [[OLD, 'refused'], [OLD, 'granted']], 'not_set', 'nothing'],
  ['only asked', [[OLD, 'requested']], 'not_set', 'nothing'],
  ['the new one was granted, the old one refused later', [[NEW, 'granted'], [OLD, 'refused']], 'refused', 'no'],
  ['the new one was granted after the old one was refused', [[OLD, 'refused'], [NEW, 'granted']], 'granted', 'yes'],
  ['the new one was refused itself', [[NEW, 'objected'], [OLD, 'refused']], 'objected', 'no'],
  ['the new one was only asked for', [[NEW, 'requested'], [OLD, 'refused']], 'refused', 'no'],
]

describe('a purpose that replaces another', () => {
  it.each(TABLE)('%s', (_, said, state, expected) => {
    const path = folder()
    const clock = clockAt()
    const books = open(path, clock)
    register(books)
    books.usePolicy(policy({ purposes: ['service.operate', OLD, NEW] }))
    for (const [about, word] of said) {
      clock.ms += MINUTE
      books.states.change(says('op-ada', about, word as 'granted'))
    }
    const check = (at: Books): void => {
      expect(at.states.standing(op('op-ada'), purpose(NEW))?.state ?? 'not_set').toBe(state)
      expect(allows(at, AFTER, NEW)).toBe(expected)
      expect(at.states.standing(op('op-ben'), purpose(NEW))).toBeUndefined()
    }
    books.usePolicy(AFTER)
    check(books)
    // The same rules again write nothing; a restart reads the same out of the ledger.
    const { seq } = books.ledger.head
    books.usePolicy(AFTER)
    expect(books.ledger.head.seq).toBe(seq)
    books.close()
    const again = open(path, clock)
    again.usePolicy(AFTER)
    check(again)
    expect(again.ledger.head.seq).toBe(seq)
    // Rules that no longer say it take nothing back.
    again.usePolicy(renamed(AFTER, []))
    check(again)
  })

  function started(): Books {
    const books = open(folder(), clockAt())
    register(books)
    books.usePolicy(BEFORE)
    return books
  }

  it('the one event of the ledger names nobody, and the person sees where the no comes from', () => {
    const books = started()
    books.states.change(says('op-ada', OLD, 'refused'))
    books.states.change(says('op-ben', OLD, 'objected'))
    books.usePolicy(AFTER)
    const events = [...books.ledger.events({ type: 'policy.replaces' })]
    expect(events.map(({ body }) => body)).toEqual([expect.objectContaining({ purpose: NEW, replaces: OLD, policy: 'awp-2027-01' })])
    expect(JSON.stringify(events)).not.toMatch(/op-ada|op-ben/)
    expect(books.states.standing(op('op-ada'), purpose(NEW))).toMatchObject({ state: 'refused', inheritedFrom: OLD, seq: events[0]!.seq })
  })

  it('a later yes to the new name is the person\'s own', () => {
    const books = started()
    books.states.change(says('op-ada', OLD, 'refused'))
    books.usePolicy(AFTER)
    books.states.change(says('op-ada', NEW, 'granted'))
    books.usePolicy(AFTER)
    expect(allows(books, AFTER, NEW)).toBe('yes')
  })

  it('a no under the old name still counts, for both; a yes does not', () => {
    const books = started()
    books.usePolicy(AFTER)
    books.states.change(says('op-ada', NEW, 'granted'))
    expect(books.states.change(says('op-ada', OLD, 'withdrawn')).purposes).toEqual([OLD, NEW])
    expect(allows(books, AFTER, NEW)).toBe('no')
    expect(() => books.states.change(says('op-ada', OLD, 'granted'))).toThrow(expect.objectContaining({ code: 'UNKNOWN-PURPOSE' }) as Error)
  })

  it('back to the old rules, a no there, and on again: it is taken over again', () => {
    const books = started()
    books.states.change(says('op-ada', OLD, 'granted'))
    books.usePolicy(AFTER)
    books.states.change(says('op-ada', NEW, 'granted'))
    books.usePolicy(BEFORE)
    books.states.change(says('op-ada', OLD, 'withdrawn'))
    const ended: string[] = []
    books.usePolicy(AFTER)
    expect(ended).toEqual([])
    expect(allows(books, AFTER, NEW)).toBe('no')
  })

  it('a yes to the new name that the renaming ends is told, so that what waits under it goes', () => {
    const ended: unknown[] = []
    const books = open(folder(), clockAt(), { onEnded: (...what) => void ended.push(what) })
    register(books)
    books.usePolicy(policy({ purposes: ['service.operate', OLD, NEW] }))
    books.states.change(says('op-ada', NEW, 'granted'))
    books.states.change(says('op-ada', OLD, 'refused'))
    books.usePolicy(AFTER)
    expect(ended).toEqual([['op-ada', NEW, 'invalidated', books.ledger.head.seq]])
  })
})
