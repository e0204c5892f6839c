/** Legal holds and the clock: both outlive the process that first knew of them. */
import { describe, expect, it } from 'vitest'
import type { Books } from '../../src/consent/books.ts'
import { nobody } from '../../src/domain/consent.ts'
import { clockAt, copyOf, DAY, folder, HOUR, machine, MINUTE, MORNING, op, open, policy, register, says, type TestClock } from './fixture.ts'

const ADA = op('op-ada')

function started(path = folder(), clock = clockAt()): { books: Books; path: string; clock: TestClock } {
  const books = open(path, clock)
  register(books)
  books.usePolicy(policy())
  return { books, path, clock }
}

describe('a legal hold', () => {
  it('outlives a restart: nothing about the person is destroyed, sessions stay, until the last case is released', () => {
    const first = started()
    const { clock, path } = first
    first.books.sessions.signOn(machine('SN-1'), first.books.identities.find('CARD-1111', clock.ms), clock.ms, clock.ms)
    first.books.hold(ADA, 'case 7', 'privacy-desk')
    first.books.hold(ADA, 'case 8', 'privacy-desk')
    first.books.close()

    clock.ms += 60 * DAY
    const { books } = started(path, clock)
    expect([...books.holds]).toEqual([['op-ada', new Set(['case 7', 'case 8'])]])
    books.sweep(clock.ms)
    expect(books.sessions.locate(ADA).records).toBe(1)
    for (const store of books.stores) expect(store.erase(ADA).erased, store.name).toBe(0)
    expect(books.states.show(ADA).history).toBeDefined()

    books.release(ADA, 'case 7', 'privacy-desk')
    expect(books.keys.erase(ADA).erased).toBe(0)
    books.release(ADA, 'case 8', 'privacy-desk')
    books.release(ADA, 'case 9', 'privacy-desk')
    expect([...books.holds]).toEqual([])
    books.close()

    const again = started(path, clock).books
    expect([...again.holds]).toEqual([])
    again.sweep(clock.ms)
    expect(again.sessions.locate(ADA).records).toBe(0)
    expect(again.keys.erase(ADA).erased).toBeGreaterThan(0)
  })

  it('is in the ledger, sealed under the person', () => {
    const { books } = started()
    books.hold(ADA, 'case 7', 'privacy-desk')
    books.release(ADA, 'case 7', 'privacy-desk')
    const events = [...books.ledger.events({ subject: { type: 'operator', id: ADA }, type: 'hold.' })]
    expect(events.map(({ type, body }) => [type, body?.['case'], body?.['by']])).toEqual([['hold.placed', 'case 7', 'privacy-desk'], ['hold.released', 'case 7', 'privacy-desk']])
  })

  it('of somebody unknown is refused', () => {
    const { books } = started()
    expect(() => books.hold(op('op-nobody'), 'case 7', undefined)).toThrow(expect.objectContaining({ code: 'UNKNOWN-OPERATOR' }) as Error)
  })
})

describe('a clock that steps back', () => {
  const allows = (books: Books, eventMs: number, nowMs: number): number => {
    const into = nobody()
    expect(books.states.fill(ADA, eventMs, nowMs, into)).toBe(true)
    return into.yes
  }

  it('revives nothing that had expired unnoticed: somebody else\'s message showed the time', () => {
    const { books, clock } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: MORNING + HOUR }))
    books.states.change(says('op-ben', 'improve.statistics', 'granted'))
    clock.ms = MORNING + 2 * HOUR
    books.states.fill(op('op-ben'), clock.ms, clock.ms, nobody())
    clock.ms = MORNING + 10 * MINUTE
    expect(allows(books, clock.ms, clock.ms)).toBe(0)
  })

  it('nor over a restart, nor with an older copy of the ledger\'s folder but keys.db', () => {
    const { books, clock, path } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted', { expiresAtMs: MORNING + HOUR }))
    clock.ms = MORNING + 30 * MINUTE
    books.sweep(clock.ms)
    const at = books.states.seenMs
    expect(at).toBe(clock.ms)
    books.close()
    const later = open(path, clock)
    later.usePolicy(policy())
    clock.ms = MORNING + 59 * MINUTE
    expect(allows(later, clock.ms, clock.ms)).toBe(2)
    // Seen by the sweep of somebody who is not there any more, and nothing has looked at Ada since.
    later.states.fill(op('op-ben'), MORNING + 2 * HOUR, MORNING + 2 * HOUR, nobody())
    later.close()
    clock.ms = MORNING + 45 * MINUTE
    const again = open(copyOf(path), clock)
    again.usePolicy(policy())
    expect(again.states.seenMs).toBe(MORNING + 2 * HOUR)
    expect(allows(again, clock.ms, clock.ms)).toBe(0)
  })

  it('backdates no yes: what was acquired under an earlier grant stays covered by nothing', () => {
    const { books, clock } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    const acquired = MORNING + HOUR
    clock.ms = acquired + MINUTE
    books.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    clock.ms = MORNING + 10 * MINUTE
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    expect(allows(books, acquired, clock.ms)).toBe(0)
    expect(allows(books, acquired + 2 * MINUTE, clock.ms)).toBe(2)
  })
})
