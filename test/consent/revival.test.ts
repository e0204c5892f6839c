/**
 * A withdrawal stays one: whatever is put back from yesterday's backup, however the clock steps, whatever is sent again.
 * The other half of the answer, a ledger that was tampered with, is in ledger.test.ts.
 */
import { copyFileSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Books } from '../../src/consent/books.ts'
import type { TerminalChoice } from '../../src/consent/choices.ts'
import { nobody } from '../../src/domain/consent.ts'
import type { Choice } from '../../src/domain/policy.ts'
import { clockAt, copyOf, DAY, folder, HOUR, machine, MINUTE, op, open, policy, register, says, type TestClock } from './fixture.ts'

const ABOUT = 'improve.statistics'

/** What the hot path allows for Ada: yes, no, nothing, or nobody is known at all. */
function allows(books: Books, clock: TestClock, eventMs = clock.ms): 'yes' | 'no' | 'nothing' | 'nobody' {
  const into = nobody()
  if (!books.states.fill(op('op-ada'), eventMs, clock.ms, into)) return 'nobody'
  return (into.yes & 2) !== 0 ? 'yes' : (into.no & 2) !== 0 ? 'no' : 'nothing'
}

function opened(path: string, clock: TestClock): Books {
  const books = open(path, clock)
  books.usePolicy(policy())
  return books
}

/** A folder with Ada's withdrawal of today, and yesterday's copy of it, in which she says yes. */
function yesterdayAndToday(clock: TestClock, today: (books: Books) => void): { readonly path: string; readonly backup: string } {
  const path = folder()
  const books = open(path, clock)
  register(books)
  books.usePolicy(policy())
  books.states.change(says('op-ada', ABOUT, 'granted'))
  books.close()
  const backup = copyOf(path)
  clock.ms += DAY
  const later = opened(path, clock)
  today(later)
  later.close()
  return { path, backup }
}

/** A database is restored with its log, and without the log that does not belong to it. */
function putBack(backup: string, path: string, names: readonly string[]): void {
  for (const name of names.flatMap((one) => (one.endsWith('.db') ? [one, `${one}-wal`, `${one}-shm`] : [one]))) {
    rmSync(join(path, name), { force: true })
    if (existsSync(join(backup, name))) copyFileSync(join(backup, name), join(path, name))
  }
}

const EVERYTHING = ['ledger.db', 'ledger.head', 'keys.db', 'identities.db', 'tombstones'] as const

describe('yesterday\'s backup', () => {
  const table: readonly (readonly [what: string, names: readonly string[], allows: 'yes' | 'no' | 'nobody'])[] = [
    ['nothing', [], 'no'],
    ['the ledger', ['ledger.db'], 'nobody'],
    ['the ledger and its head', ['ledger.db', 'ledger.head'], 'nobody'],
    ['the ledger and the keys', ['ledger.db', 'keys.db'], 'nobody'],
    ['the head', ['ledger.head'], 'nobody'],
    ['the keys', ['keys.db'], 'no'],
    ['the keys and the head', ['keys.db', 'ledger.head'], 'no'],
    ['the identities', ['identities.db'], 'no'],
    ['what an ordinary backup holds: everything but the keys and the tombstones', ['ledger.db', 'ledger.head', 'identities.db'], 'nobody'],
    // Nothing inside the folder can tell. So the keys are in no ordinary backup, and heads are kept elsewhere: the next case.
    ['the whole folder', EVERYTHING, 'yes'],
  ]

  it.each(table)('with %s put back', (_, names, expected) => {
    const clock = clockAt()
    const { path, backup } = yesterdayAndToday(clock, (books) => books.states.change(says('op-ada', ABOUT, 'withdrawn')))
    putBack(backup, path, names)
    const restored = opened(path, clock)
    expect(allows(restored, clock)).toBe(expected)
    expect(restored.ledger.healthy).toBe(expected !== 'nobody')
  })

  it('of the whole folder is found with a head that was kept elsewhere', () => {
    const clock = clockAt()
    const { path, backup } = yesterdayAndToday(clock, (books) => books.states.change(says('op-ada', ABOUT, 'withdrawn')))
    const elsewhere = join(folder(), 'ledger.head')
    copyFileSync(join(path, 'ledger.head'), elsewhere)
    putBack(backup, path, EVERYTHING)
    copyFileSync(elsewhere, join(path, 'ledger.head'))
    const restored = opened(path, clock)
    expect(restored.ledger.damage).toMatch(/an old copy was restored/)
    expect(allows(restored, clock)).toBe('nobody')
  })

  it('of the whole folder revives nobody who was erased, when the tombstones were kept elsewhere', () => {
    const clock = clockAt()
    const { path, backup } = yesterdayAndToday(clock, (books) => books.stores.forEach((store) => store.erase(op('op-ada'))))
    putBack(backup, path, EVERYTHING.filter((name) => name !== 'tombstones'))
    const restored = opened(path, clock)
    expect(allows(restored, clock)).toBe('nobody')
    expect(restored.identities.find('CARD-1111', clock.ms)).toBeUndefined()
  })

  it('the names of the files are those that there are', () => {
    const clock = clockAt()
    const { path } = yesterdayAndToday(clock, (books) => books.stores.forEach((store) => store.erase(op('op-ada'))))
    const files = new Set(readdirSync(path).map((name) => name.replace(/-(wal|shm)$/, '')))
    expect(files).toEqual(new Set(EVERYTHING))
  })
})

describe('a clock that steps', () => {
  it('makes no withdrawal undone, over restarts, with or without a proper stop', () => {
    const clock = clockAt()
    const start = clock.ms
    const path = folder()
    let books = open(path, clock)
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-ada', ABOUT, 'granted', { expiresAtMs: start + 20 * 365 * DAY }))
    clock.ms += MINUTE
    books.states.change(says('op-ada', ABOUT, 'withdrawn'))
    for (const [at, step] of [-10 * 365 * DAY, 10 * 365 * DAY, -DAY, 1, -HOUR, DAY, -1, HOUR].entries()) {
      clock.ms += step
      books.sweep(clock.ms)
      for (const eventMs of [0, start, start + MINUTE - 1, clock.ms - HOUR, clock.ms]) expect(allows(books, clock, eventMs), `step ${at}`).toBe('no')
      // Every second time as after a kill: the files stay as they are.
      if (at % 2 === 0) books.close()
      books = opened(path, clock)
      expect(allows(books, clock), `restart after step ${at}`).toBe('no')
    }
  })

  it('makes no later yes cover what was acquired before it', () => {
    const clock = clockAt()
    const start = clock.ms
    const path = folder()
    const books = open(path, clock)
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-ada', ABOUT, 'granted'))
    clock.ms = start + HOUR
    books.states.change(says('op-ada', ABOUT, 'withdrawn'))
    // Set back to before the first yes, and then she says yes again.
    clock.ms = start - HOUR
    books.states.change(says('op-ada', ABOUT, 'granted'))
    const check = (at: Books): void => {
      for (const minute of [-60, -30, 0, 30, 59]) expect(allows(at, clock, start + minute * MINUTE), `minute ${minute}`).toBe('nothing')
      expect(allows(at, clock, start + HOUR)).toBe('yes')
    }
    check(books)
    check(opened(path, clock))
  })
})

describe('what is sent again', () => {
  const LIFT = machine('SN-1')

  function choice(says: Choice, eventMs: number, clock: TestClock, supersedes: string): TerminalChoice {
    return {
      machine: LIFT, signedOn: op('op-ada'), card: 'CARD-1111', purpose: ABOUT, says, policy: 'awp-2026-11', language: 'de', supersedes, evidence: '',
      eventMs, receivedMs: clock.ms, lateLimitMs: 7 * DAY, payload: Buffer.from(`${says} ${eventMs} ${supersedes}`),
    }
  }

  it('a terminal\'s messages, all of them, in any order, at any later time and over a restart, make no withdrawal undone', () => {
    const word = fc.constantFrom<Choice>('granted', 'granted', 'local_only', 'withdrawn', 'refused')
    const said = fc.array(fc.record({ word, names: fc.boolean(), after: fc.integer({ min: 1, max: 90 }) }), { minLength: 1, maxLength: 5 })
    fc.assert(fc.property(said, fc.array(fc.nat(), { minLength: 8, maxLength: 8 }), fc.constantFrom(0, 1, 30 * MINUTE, 3 * DAY), fc.constantFrom('portal', 'terminal'), (messages, order, later, who) => {
      const clock = clockAt()
      const path = folder()
      let books = open(path, clock)
      register(books)
      books.usePolicy(policy())
      books.sessions.signOn(LIFT, books.identities.find('CARD-1111', clock.ms), clock.ms, clock.ms)
      const sent: TerminalChoice[] = []
      for (const { word, names, after } of messages) {
        clock.ms += after * MINUTE
        const message = choice(word, clock.ms, clock, names ? String(books.states.standing(op('op-ada'), ABOUT as never)?.seq ?? 0) : '')
        books.choices.take(message)
        sent.push(message)
      }
      clock.ms += MINUTE
      if (who === 'portal') books.states.change(says('op-ada', ABOUT, 'withdrawn'))
      else books.choices.take(choice('withdrawn', clock.ms, clock, ''))
      expect(allows(books, clock)).toBe('no')
      clock.ms += later
      books.close()
      books = opened(path, clock)
      for (const key of order) {
        const again = sent[key % sent.length]!
        books.choices.take({ ...again, receivedMs: clock.ms })
        expect(allows(books, clock), JSON.stringify({ messages, again: again.payload.toString() })).toBe('no')
      }
      // Nor does the same thing said again in other bytes, as a terminal that numbers its messages anew would send it.
      for (const again of sent) {
        books.choices.take({ ...again, receivedMs: clock.ms, payload: Buffer.from(`anew ${again.payload.toString()}`) })
        expect(allows(books, clock), `anew ${JSON.stringify({ messages, again: again.payload.toString() })}`).toBe('no')
      }
      books.close()
    }), { numRuns: Number(process.env['PARAPET_RUNS'] ?? 10) })
  })
})
