import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Books } from '../../src/consent/books.ts'
import type { OperatorEntry } from '../../src/consent/identities.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import type { Identity, Machine } from '../../src/domain/ports.ts'
import { bytesOf, clockAt, DAY, folder, HOUR, machine, MINUTE, op, open, policy, register, says, type TestClock } from './fixture.ts'

/**
 * Situations on a shared machine, to be read by whoever knows the work and the law.
 *
 * Happens: `8:00 Ada on` = Ada signs on at eight and the gateway hears it at once; `8:00>9:30 Ada on` = it hears it at half past nine.
 *   Ada, Ben and Cem have cards of their own; `code` is the depot's shared PIN, `master` the technician's service code,
 *   `stranger` an unknown card, `somebody` a sign-off that names nobody. `restart` restarts the gateway, `off` and `on` set the
 *   machine's switch for operator data, `erase Ben` erases him everywhere, and `destroy Ben` ends his keys only, as when the
 *   gateway stops in the middle of erasing.
 * Then: `8:05 Ada` = data measured at 8:05 are Ada's, with her consent; `nobody` = nobody is known. `8:05>15:00 Ada` = measured at
 *   8:05 and arriving at 15:00. Days: `2/8:05` is the second day. A session ends after 12 h, a hand-over makes 2 min of quarantine,
 *   data may arrive 7 days late.
 */
const table: readonly (readonly [situation: string, happens: string, then: string])[] = [
  ['nobody signed on', '', '8:00 nobody'],
  ['signed on', '8:00 Ada on', '7:59 nobody, 8:00 Ada, 8:05 Ada, 19:59 Ada'],
  ['signed on and off', '8:00 Ada on; 16:00 Ada off', '8:05 Ada, 15:59 Ada, 16:00 nobody, 17:00 nobody'],
  ['a sign-off that names nobody (key turned off)', '8:00 Ada on; 16:00 somebody off', '15:59 Ada, 16:00 nobody'],
  ['forgotten logout: the session ends by itself', '8:00 Ada on', '19:59 Ada, 20:00 nobody, 22:00 nobody'],
  ['forgotten logout, and on again the next day', '8:00 Ada on; 2/7:00 Ada on', '20:00 nobody, 2/6:59 nobody, 2/7:00 Ada, 2/18:59 Ada, 2/19:00 nobody'],
  ['on again during the shift: no quarantine, the time begins anew', '8:00 Ada on; 12:00 Ada on', '12:00 Ada, 12:01 Ada, 23:59 Ada, 2/0:00 nobody'],
  ['hand-over without a sign-off', '8:00 Ada on; 12:00 Ben on', '11:59 Ada, 12:00 nobody, 12:01 nobody, 12:02 Ben, 13:00 Ben'],
  ['hand-over with a sign-off a moment before', '8:00 Ada on; 11:59 Ada off; 12:00 Ben on', '11:58 Ada, 11:59 nobody, 12:00 nobody, 12:01 nobody, 12:02 Ben'],
  ['the next person comes after a pause: no quarantine', '8:00 Ada on; 11:00 Ada off; 12:00 Ben on', '11:30 nobody, 12:00 Ben'],
  ['hand-over exactly after the quarantine time', '8:00 Ada on; 11:58 Ada off; 12:00 Ben on', '11:58 nobody, 12:00 Ben'],
  ['two hand-overs in two minutes', '8:00 Ada on; 12:00 Ben on; 12:01 Cem on', '12:00 nobody, 12:02 nobody, 12:03 Cem'],
  ['handed over and back', '8:00 Ada on; 12:00 Ben on; 12:30 Ada on', '12:29 Ben, 12:30 nobody, 12:32 Ada'],
  ['two cards at once: the second is a hand-over, the first one\'s sign-off ends nothing but makes a new quarantine', '8:00 Ada on; 12:00 Ben on; 12:10 Ada off', '12:09 Ben, 12:10 nobody, 12:11 nobody, 12:12 Ben, 13:00 Ben'],
  ['two cards at once, the second signs off', '8:00 Ada on; 12:00 Ben on; 12:10 Ben off', '12:09 Ben, 12:10 nobody, 13:00 nobody'],
  ['ground rescue: somebody else signs on below while Ada is in the basket, and hands back', '8:00 Ada on; 9:00 Ben on; 9:01 Ada on', '8:59 Ada, 9:00 nobody, 9:02 nobody, 9:03 Ada'],
  ['trainer and trainee change every few minutes', '8:00 Ada on; 8:10 Ben on; 8:20 Ada on; 8:30 Ben on', '8:09 Ada, 8:11 nobody, 8:15 Ben, 8:21 nobody, 8:25 Ada, 8:35 Ben'],
  ['an unknown card ends what is known', '8:00 Ada on; 9:00 stranger on', '8:59 Ada, 9:00 nobody, 9:30 nobody, 15:00 nobody'],
  ['a stranger fails to sign on and Ada signs on again', '8:00 Ada on; 9:00 stranger on; 9:10 Ada on', '9:05 nobody, 9:10 Ada'],
  ['a stranger a moment before: quarantine', '9:00 stranger on; 9:01 Ada on', '9:01 nobody, 9:02 nobody, 9:03 Ada'],
  ['a shared code is nobody', '8:00 code on', '8:00 nobody, 9:00 nobody'],
  ['a shared code after Ada: nobody', '8:00 Ada on; 9:00 code on', '8:59 Ada, 9:00 nobody, 10:00 nobody'],
  ['the technician\'s master code is nobody', '8:00 Ada on; 9:00 master on; 9:30 master off', '8:59 Ada, 9:10 nobody, 9:40 nobody'],
  ['sign-off without sign-on', '8:00 Ada off', '7:00 nobody, 8:00 nobody, 9:00 nobody'],
  ['sign-off by somebody who was never on', '8:00 Ada on; 9:00 Ben off', '8:59 Ada, 9:00 nobody, 9:01 nobody, 9:02 Ada'],
  ['sign-off twice', '8:00 Ada on; 16:00 Ada off; 16:01 Ada off', '15:59 Ada, 16:00 nobody'],
  ['a sign-on sent twice (lost acknowledgement)', '8:00 Ada on; 8:00>8:01 Ada on; 16:00 Ada off', '8:05 Ada, 16:00 nobody'],
  ['a sign-on sent again after the sign-off changes nothing', '8:00 Ada on; 9:00 Ada off; 8:00>9:30 Ada on', '8:30 Ada, 9:00 nobody, 9:40 nobody'],
  ['late data of the same session', '8:00 Ada on; 16:00 Ada off', '8:05>18:00 Ada, 16:05>18:00 nobody'],
  ['late data from before a hand-over are those of who was there then', '8:00 Ada on; 12:00 Ben on', '11:00>15:00 Ada, 12:01>15:00 nobody, 12:30>15:00 Ben'],
  ['data later than seven days are nobody\'s', '8:00 Ada on; 16:00 Ada off', '9:00>8/8:59 Ada, 9:00>8/9:01 nobody'],
  ['the sign-on itself arrives late, with the data', '8:00>12:00 Ada on; 9:00>12:00 Ada off', '8:30>12:01 Ada, 9:30>12:01 nobody'],
  ['events out of order: the sign-off arrives first', '9:00 Ada off; 8:00>9:05 Ada on', '8:30>9:10 Ada, 9:00>9:10 nobody, 9:30 nobody'],
  ['events out of order: the hand-over arrives before the first sign-on', '12:00 Ben on; 8:00>12:05 Ada on', '11:00>12:10 Ada, 12:01>12:10 nobody, 12:02>12:10 Ben'],
  ['a hand-over that comes to light later is respected at once', '8:00 Ada on; 10:00>14:00 Ben on', '9:00>14:01 Ada, 10:01>14:01 nobody, 11:00>14:01 Ben, 14:01 Ben'],
  ['a terminal whose clock stands in 1970 signs on: who was there may have gone', '8:00 Ada on; 1970>9:00 Ben on', '8:59 Ada, 9:00 nobody, 9:05 nobody'],
  ['a terminal whose clock is ahead signs on', '8:00 Ada on; 2/8:00>9:00 Ben on', '8:59 Ada, 9:05 nobody, 2/9:00 nobody'],
  ['a sign-off with an impossible time', '8:00 Ada on; 1970>9:00 Ada off', '8:59 Ada, 9:05 nobody'],
  ['data with an impossible time', '8:00 Ada on', '1970>9:00 nobody, 9:06>9:00 nobody, 9:04>9:00 Ada, never>9:00 nobody'],
  ['the gateway restarts in the middle of a shift', '8:00 Ada on; restart', '8:05 Ada, 7:00 nobody, 19:59 Ada, 20:00 nobody'],
  ['the gateway restarts in a quarantine', '8:00 Ada on; 12:00 Ben on; restart', '11:00>12:01 Ada, 12:01 nobody, 12:02 Ben'],
  ['the gateway restarts after a stranger\'s card', '8:00 Ada on; 9:00 stranger on; restart', '8:30>9:05 Ada, 9:05 nobody'],
  ['the gateway restarts after a sign-off', '8:00 Ada on; 9:00 Ada off; restart', '9:05 nobody'],
  ['the switch for operator data is off', 'off; 8:00 Ada on', '8:05 nobody'],
  ['it is switched off during a session: the past is forgotten as well', '8:00 Ada on; off', '8:05 nobody, 9:00 nobody'],
  ['switched off and on again: somebody must sign on anew', '8:00 Ada on; off; on', '8:05>9:00 nobody, 9:00 nobody'],
  ['switched off and on again, then a restart', '8:00 Ada on; off; on; restart', '8:05>9:00 nobody, 9:00 nobody'],
  ['an erased person was nobody; who came after is who they were', '8:00 Ada on; 12:00 Ben on; erase Ada', '8:05>13:00 nobody, 11:59>13:00 nobody, 12:01>13:00 nobody, 12:02>13:00 Ben'],
  ['erasing who took over gives nothing back to who was there before', '8:00 Ada on; 9:00 Ben on; erase Ben', '8:30>10:00 Ada, 9:05>10:00 nobody, 10:00 nobody, 19:00 nobody'],
  ['the same after a restart', '8:00 Ada on; 9:00 Ben on; erase Ben; restart', '8:30>10:00 Ada, 9:05>10:00 nobody, 10:00 nobody, 19:00 nobody'],
  ['the same when only the keys were destroyed before the restart', '8:00 Ada on; 9:00 Ben on; destroy Ben; restart', '8:30>10:00 Ada, 9:05>10:00 nobody, 10:00 nobody, 19:00 nobody'],
  ['erased after signing off: who comes next keeps the quarantine', '8:00 Ben on; 11:59 Ben off; 12:00 Ada on; erase Ben; restart', '12:01 nobody, 12:02 Ada'],
  ['the erased person\'s sign-off beside who is signed on still makes a quarantine', '8:00 Ada on; 9:00 Ben off; erase Ben; restart', '8:59>10:00 Ada, 9:01>10:00 nobody, 9:02>10:00 Ada'],
  ['two people erased', '8:00 Ada on; 9:00 Ben on; 10:00 Cem on; erase Ben; erase Cem; restart', '8:30>11:00 Ada, 9:30>11:00 nobody, 10:30>11:00 nobody, 19:59 nobody'],
  ['an erased person\'s session ends with the next sign-on', '8:00 Ben on; 9:00 Ada on; erase Ben; restart', '8:30>10:00 nobody, 9:01>10:00 nobody, 9:02>10:00 Ada'],
  ['switched off, on, and signed on anew', '8:00 Ada on; off; on; 10:00 Ada on; restart', '8:05>11:00 nobody, 10:30 Ada'],
]

describe('who was there', () => {
  it.each(table)('%s', (_, happens, then) => {
    const scene = new Scene()
    scene.play(happens)
    for (const question of then.split(', ')) {
      const [when, who] = question.split(' ') as [string, string]
      expect(`${when} ${scene.ask(when)}`).toBe(`${when} ${who}`)
    }
  })
})

class Scene {
  readonly clock = clockAt(Date.UTC(2026, 10, 23))
  readonly path = folder()
  books: Books
  machine = machine('SN-1')

  constructor() {
    this.books = this.#open()
    register(this.books)
    for (const who of ['op-ada', 'op-ben', 'op-cem']) this.books.states.change(says(who, 'improve.statistics', 'granted'))
  }

  play(happens: string): void {
    for (const event of happens.split('; ').filter((text) => text !== '')) {
      if (event === 'restart') {
        this.books.close()
        this.books = this.#open()
      } else if (event === 'off' || event === 'on') {
        this.machine = { ...this.machine, operatorCollection: event }
        if (event === 'off') this.books.sessions.forget(this.machine.id)
      } else if (event.startsWith('erase ') || event.startsWith('destroy ')) {
        const [what, who] = event.split(' ') as [string, string]
        const subject = op(`op-${who.toLowerCase()}`)
        if (what === 'destroy') this.books.keys.destroy('operator', subject)
        else for (const store of this.books.stores) store.erase(subject)
      } else {
        const [when, who, what] = event.split(' ') as [string, string, string]
        const [at, received] = times(when)
        this.clock.ms = received
        if (what === 'on') this.books.sessions.signOn(this.machine, this.identity(who, at), at, received)
        else this.books.sessions.signOff(this.machine, this.identity(who, at), at, received)
      }
    }
  }

  ask(when: string): string {
    const [at, received] = times(when)
    this.clock.ms = received
    const into = nobody()
    this.books.sessions.decide(this.machine, at, received, into)
    if (!into.known) {
      expect(into).toMatchObject({ operator: undefined, session: '' })
      return 'nobody'
    }
    expect(into.session).toMatch(/^[0-9a-f]{32}$/)
    expect(into.yes).toBe(0b010)
    return { 'op-ada': 'Ada', 'op-ben': 'Ben', 'op-cem': 'Cem' }[into.operator as string]!
  }

  identity(who: string, at: number): Identity | undefined {
    const card = { Ada: 'CARD-1111', Ben: 'PIN-77', Cem: 'CARD-3333', code: '0000', master: 'MASTER-9', stranger: 'CARD-9999', somebody: '' }[who]!
    return this.books.identities.find(card, at)
  }

  #open(): Books {
    const books = open(this.path, this.clock)
    books.usePolicy(policy())
    return books
  }
}

/** `8:05`, `2/8:05`, `8:05>9:00`, `1970`, `never`: when it happened and when the gateway heard of it. */
function times(text: string): readonly [at: number, received: number] {
  const [at, received] = text.split('>') as [string, string | undefined]
  return [timeOf(at), timeOf(received ?? at)]
}

function timeOf(text: string): number {
  if (text === '1970') return 1_000
  if (text === 'never') return Number.NaN
  const [, day, hour, minute] = /^(?:(\d+)\/)?(\d+):(\d+)$/.exec(text)!
  return Date.UTC(2026, 10, 23) + (Number(day ?? '1') - 1) * DAY + Number(hour) * HOUR + Number(minute) * MINUTE
}

function started(path = folder()): { books: Books; clock: TestClock; signOn: (who: string, at: number, on?: Machine) => void; decide: (at: number, now?: number, on?: Machine) => Decision } {
  const clock = clockAt()
  const books = open(path, clock)
  register(books)
  books.usePolicy(policy())
  const box = machine('SN-1')
  const cards: Record<string, string> = { ada: 'CARD-1111', ben: 'CARD-2222', cem: 'CARD-3333', stranger: 'CARD-9999' }
  return {
    books, clock,
    signOn: (who, at, on = box) => books.sessions.signOn(on, books.identities.find(cards[who]!, at), at, at),
    decide: (at, now = at, on = box) => {
      const into = nobody()
      books.sessions.decide(on, at, now, into)
      return into
    },
  }
}

describe('what a decision says', () => {
  it('is the person\'s consent, country, session and newest consent event', () => {
    const { books, clock, signOn, decide } = started()
    const { seq } = books.states.change(says('op-ben', 'improve.statistics', 'granted'))
    books.states.change(says('op-ada', 'improve.statistics', 'objected'))
    books.states.giveNotice(op('op-ben'), 'awp-2026-11', 'fr', undefined)
    signOn('ben', clock.ms)
    const session = decide(clock.ms).session
    expect(decide(clock.ms)).toEqual({ known: true, yes: 2, siteYes: 2, no: 0, notice: 7, operator: 'op-ben', country: 'FR', session, seq, collection: true })
    // Another session, another name for it.
    signOn('ben', clock.ms + HOUR)
    expect(decide(clock.ms + HOUR).session).not.toBe(session)
    expect(decide(clock.ms + HOUR - 1, clock.ms + HOUR).session).toBe(session)
    books.states.change(says('op-ben', 'improve.statistics', 'withdrawn'))
    expect(decide(clock.ms + HOUR)).toMatchObject({ known: true, yes: 0, no: 2 })
  })

  it('in a quarantine is what both allow, for nobody', () => {
    const { books, clock, signOn, decide } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.states.change(says('op-ada', 'personalise', 'objected'))
    books.states.change(says('op-ada', 'service.operate', 'local_only'))
    books.states.change(says('op-ben', 'improve.statistics', 'granted'))
    const { seq } = books.states.change(says('op-ben', 'service.operate', 'refused'))
    signOn('ada', clock.ms)
    signOn('ben', clock.ms + HOUR)
    expect(decide(clock.ms + HOUR + MINUTE)).toEqual({ known: false, yes: 2, siteYes: 2, no: 5, notice: 0, operator: undefined, country: 'FR', otherCountry: 'DE', furtherCountries: undefined, concerned: ['op-ben', 'op-ada'], session: '', seq, collection: true })
    // A stranger after Ben: what Ben refused still counts for a while.
    signOn('stranger', clock.ms + 2 * HOUR)
    expect(decide(clock.ms + 2 * HOUR + MINUTE)).toMatchObject({ known: false, yes: 0, no: 1, country: 'FR', otherCountry: undefined })
    expect(decide(clock.ms + 2 * HOUR + 2 * MINUTE)).toEqual({ ...nobody(), collection: true })
  })

  it('hears the refusal of who signs off beside the person signed on, for the time of the quarantine', () => {
    const { books, clock, signOn, decide } = started()
    books.states.change(says('op-cem', 'personalise', 'objected'))
    signOn('ada', clock.ms)
    books.sessions.signOff(machine('SN-1'), books.identities.find('CARD-3333', clock.ms), clock.ms + HOUR, clock.ms + HOUR)
    expect(decide(clock.ms + HOUR - 1)).toMatchObject({ known: true, no: 0 })
    expect(decide(clock.ms + HOUR + MINUTE)).toMatchObject({ known: false, no: 4 })
    expect(decide(clock.ms + HOUR + 2 * MINUTE)).toMatchObject({ known: true, operator: 'op-ada', no: 0 })
  })

  it('in a quarantine names the countries of all who may have been there, each once', () => {
    const { books, clock, signOn, decide } = started()
    const entry = (id: string, country: string | undefined): OperatorEntry => ({ id: op(id), kind: 'personal', country, validFromMs: undefined, validToMs: undefined, cards: [id] })
    books.identities.load([entry('op-ada', 'DE'), entry('op-dev', 'DE'), entry('op-ben', 'FR'), entry('op-cem', undefined), entry('op-eve', 'US-CA')])
    const on = (who: string, minute: number): void => books.sessions.signOn(machine('SN-1'), books.identities.find(`op-${who}`, clock.ms), clock.ms + minute * MINUTE, clock.ms + minute * MINUTE)
    const countries = (minute: number): unknown[] => {
      const { known, country, otherCountry, furtherCountries } = decide(clock.ms + minute * MINUTE)
      return [known, country, otherCountry, furtherCountries]
    }
    on('ada', 0)
    expect(countries(1)).toEqual([true, 'DE', undefined, undefined])
    on('dev', 10)
    expect(countries(11)).toEqual([false, 'DE', undefined, undefined])
    expect(countries(12)).toEqual([true, 'DE', undefined, undefined])
    on('ben', 20)
    expect(countries(21)).toEqual([false, 'FR', 'DE', undefined])
    expect(countries(22)).toEqual([true, 'FR', undefined, undefined])
    // Whoever has no country of their own adds none, and takes none away.
    on('cem', 30)
    expect(countries(31)).toEqual([false, 'FR', undefined, undefined])
    expect(countries(32)).toEqual([true, undefined, undefined, undefined])
    on('ada', 40)
    on('ben', 40.5)
    on('eve', 41)
    expect(countries(42)).toEqual([false, 'US-CA', 'DE', ['FR']])
    signOn('stranger', clock.ms + 50 * MINUTE)
    expect(countries(51)).toEqual([false, 'US-CA', undefined, undefined])
    // Nothing of it is left in the next decision.
    const into = decide(clock.ms + 42 * MINUTE)
    books.sessions.decide(machine('SN-other'), clock.ms, clock.ms, into)
    expect(into).toEqual({ ...nobody(), collection: true })
    // A batch over a hand-over concerns both.
    books.sessions.decideSpan(machine('SN-1'), clock.ms, clock.ms + 25 * MINUTE, clock.ms + 25 * MINUTE, into)
    expect(into).toMatchObject({ known: false, country: 'DE', otherCountry: 'FR', furtherCountries: undefined })
  })

  it('one card at two machines is the same person at both', () => {
    const { clock, signOn, decide } = started()
    const other = machine('SN-2')
    signOn('ada', clock.ms)
    signOn('ada', clock.ms + MINUTE, other)
    expect(decide(clock.ms + HOUR).operator).toBe('op-ada')
    expect(decide(clock.ms + HOUR, undefined, other).operator).toBe('op-ada')
    expect(decide(clock.ms + HOUR).session).not.toBe(decide(clock.ms + HOUR, undefined, other).session)
  })

  it('with the switch off or unknown is nobody, and no session is kept', () => {
    for (const setting of ['off', 'unknown'] as const) {
      const { books, clock, signOn, decide } = started()
      const before = books.ledger.head.seq
      signOn('ada', clock.ms, machine('SN-1', setting))
      expect(decide(clock.ms, clock.ms, machine('SN-1', setting))).toEqual(nobody())
      expect(decide(clock.ms)).toEqual({ ...nobody(), collection: true })
      expect(books.sessions.size).toBe(0)
      expect(books.ledger.head.seq).toBe(before)
    }
  })

  it('with a damaged ledger is nobody', () => {
    const { books, clock, signOn, decide } = started()
    signOn('ada', clock.ms)
    expect(decide(clock.ms).known).toBe(true)
    Object.defineProperty(books.ledger, 'healthy', { get: () => false })
    expect(decide(clock.ms)).toEqual({ ...nobody(), collection: true })
    const crossing = nobody()
    books.sessions.decideSpan(machine('SN-1'), clock.ms, clock.ms + 1, clock.ms + 1, crossing)
    expect(crossing).toEqual({ ...nobody(), collection: true })
  })

  it('leaves nothing of the decision before', () => {
    const { books, clock, signOn, decide } = started()
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    signOn('ada', clock.ms)
    const into = decide(clock.ms)
    expect(into.known).toBe(true)
    books.sessions.decide(machine('SN-other'), clock.ms, clock.ms, into)
    expect(into).toEqual({ ...nobody(), collection: true })
    books.sessions.decide(machine('SN-other', 'off'), clock.ms, clock.ms, into)
    expect(into).toEqual(nobody())
  })

  it('for a batch holds over its whole time, or nobody is known', () => {
    const { books, clock, signOn } = started()
    const start = clock.ms
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.states.change(says('op-ben', 'personalise', 'objected'))
    signOn('ada', start)
    signOn('ben', start + HOUR)
    const span = (from: number, to: number, now = start + 2 * HOUR): Decision => {
      const into = nobody()
      books.sessions.decideSpan(machine('SN-1'), from, to, now, into)
      return into
    }
    expect(span(start, start + HOUR - 1)).toMatchObject({ known: true, operator: 'op-ada', yes: 2 })
    expect(span(start, start + HOUR)).toMatchObject({ known: false, yes: 0, no: 4, operator: undefined })
    expect(span(start + HOUR + MINUTE, start + HOUR + 3 * MINUTE)).toMatchObject({ known: false, no: 4 })
    expect(span(start + HOUR + 2 * MINUTE, start + HOUR + 3 * MINUTE)).toMatchObject({ known: true, operator: 'op-ben' })
    expect(span(start - 1, start + 1)).toMatchObject({ known: false, yes: 0 })
    // Backwards, or into the future: nobody.
    expect(span(start + 2, start + 1).known).toBe(false)
    expect(span(start + 2 * HOUR - 1, start + 3 * HOUR).known).toBe(false)
  })
})

describe('bounds', () => {
  it('keeps the newest marks of a machine; what lies before is nobody\'s', () => {
    const { books, clock, signOn, decide } = started()
    const start = clock.ms
    for (let i = 0; i < LIMITS.sessionMarks + 10; i++) {
      clock.ms = start + i * HOUR
      signOn(i % 2 === 0 ? 'ada' : 'ben', clock.ms)
    }
    const now = clock.ms
    expect(decide(now + 10 * MINUTE).known).toBe(true)
    expect(decide(start + 40 * HOUR + 10 * MINUTE, now).operator).toBe('op-ada')
    expect(decide(start + 11 * HOUR + 10 * MINUTE, now).known).toBe(true)
    for (let i = 0; i < 10; i++) expect(decide(start + i * HOUR + 10 * MINUTE, now).known).toBe(false)
    expect(decide(start + 10 * HOUR + MINUTE, now).known).toBe(false)
    expect(books.sessions.locate(op('op-ada')).records + books.sessions.locate(op('op-ben')).records).toBe(LIMITS.sessionMarks)
  })

  it('a machine that signs people on all the time has nobody for the rest of the hour', () => {
    const { books, clock, signOn, decide } = started()
    for (let i = 0; i <= LIMITS.sessionMarksPerHour + 50; i++) signOn(i % 2 === 0 ? 'ada' : 'ben', clock.ms + i * 1_000)
    const { seq } = books.ledger.head
    expect(seq).toBeLessThan(2 * LIMITS.sessionMarksPerHour + 10)
    const at = clock.ms + 10 * MINUTE
    signOn('ada', at)
    expect(decide(at + 5 * MINUTE).known).toBe(false)
    signOn('ada', clock.ms + HOUR)
    expect(decide(clock.ms + HOUR).operator).toBe('op-ada')
  })

  it('forgets what no late message can ask for', () => {
    const { books, clock, signOn } = started()
    signOn('ada', clock.ms)
    books.sweep(clock.ms + 7 * DAY)
    expect(books.sessions.size).toBe(1)
    books.sweep(clock.ms + 7 * DAY + 12 * HOUR + 1)
    expect(books.sessions.size).toBe(0)
    expect(books.sessions.locate(op('op-ada')).records).toBe(0)
  })

  it('leaves nothing on the disk: the key under which their day was sealed is in no file, and nobody reads them again', () => {
    const path = folder()
    const { books, clock, signOn } = started(path)
    signOn('ada', clock.ms)
    books.ledger.flush()
    const keys = new DatabaseSync(join(path, 'keys.db'), { readOnly: true })
    const wrapped = Buffer.from(keys.prepare("SELECT wrapped FROM period_row WHERE period = '2026-11-23'").get()!['wrapped'] as Uint8Array)
    keys.close()
    const kept = (): string[] => [...bytesOf(path)].filter(([, bytes]) => bytes.includes(wrapped)).map(([name]) => name)
    const readable = (from: Books): number => [...from.ledger.events({ type: 'session.' })].filter((event) => event.body !== undefined).length
    expect(wrapped.length).toBeGreaterThan(32)
    expect(kept()).not.toEqual([])
    // As long as a late message may ask for it, it is there.
    clock.ms += 7 * DAY
    books.sweep(clock.ms)
    expect([readable(books), kept().length > 0]).toEqual([2, true])
    clock.ms += 3 * DAY
    books.sweep(clock.ms)
    expect(readable(books)).toBe(0)
    books.close()
    expect(kept()).toEqual([])
    const again = open(path, clock)
    expect([again.ledger.healthy, readable(again), again.sessions.size, again.sessions.locate(op('op-ada')).records]).toEqual([true, 0, 0, 0])
  })

  it('asks as long as the rules say: a shorter limit ends the days sooner', () => {
    const path = folder()
    const { books, clock, signOn } = started(path)
    const readable = (): number => [...books.ledger.events({ type: 'session.' })].filter((event) => event.body !== undefined).length
    signOn('ada', clock.ms)
    clock.ms += 3 * DAY
    books.sweep(clock.ms)
    expect(readable()).toBe(2)
    books.sessions.useRules({ sessionMaxMs: 12 * HOUR, quarantineMs: 2 * MINUTE, lateLimitMs: HOUR })
    books.sweep(clock.ms)
    expect([readable(), books.sessions.size]).toEqual([0, 0])
  })

  it('takes over new limits for what is already known', () => {
    const { books, clock, signOn, decide } = started()
    signOn('ada', clock.ms)
    signOn('ben', clock.ms + HOUR)
    const at = clock.ms + HOUR + 5 * MINUTE
    expect(decide(at).operator).toBe('op-ben')
    const rules = policy()
    books.usePolicy({ ...rules, subject: { ...rules.subject, quarantineMs: 10 * MINUTE, sessionMaxMs: 2 * HOUR } })
    expect(decide(at).known).toBe(false)
    expect(decide(clock.ms + HOUR + 10 * MINUTE).operator).toBe('op-ben')
    expect(decide(clock.ms + 3 * HOUR).known).toBe(false)
  })

  it('says who is on now', () => {
    const { books, clock, signOn } = started()
    signOn('ada', clock.ms)
    expect(books.sessions.current(machine('SN-1').id)).toEqual({ operator: 'op-ada', sinceMs: clock.ms })
    expect([...books.sessions.list()]).toEqual([{ machine: 'SN-1', operator: 'op-ada', sinceMs: clock.ms }])
    expect(books.sessions.current(machine('SN-2').id)).toBeUndefined()
    clock.ms += 12 * HOUR
    expect([...books.sessions.list()]).toEqual([])
  })

  it('an erased person was nobody, everywhere, and stays so over a restart', () => {
    const path = folder()
    const { books, clock, signOn, decide } = started(path)
    signOn('ada', clock.ms)
    signOn('ben', clock.ms + HOUR)
    expect([...books.sessions.export(op('op-ada'))]).toEqual([{ machine: 'SN-1', event: 'signed on', atMs: clock.ms }])
    for (const store of books.stores) store.erase(op('op-ada'))
    const check = (now: number, ask: typeof decide): void => {
      expect(ask(clock.ms + MINUTE, now).known).toBe(false)
      expect(ask(clock.ms + HOUR + 3 * MINUTE, now).operator).toBe('op-ben')
    }
    check(clock.ms + 2 * HOUR, decide)
    books.close()
    const again = open(path, clock)
    again.usePolicy(policy())
    const into = nobody()
    again.sessions.decide(machine('SN-1'), clock.ms + MINUTE, clock.ms + 2 * HOUR, into)
    expect(into.known).toBe(false)
    again.sessions.decide(machine('SN-1'), clock.ms + HOUR + 3 * MINUTE, clock.ms + 2 * HOUR, into)
    expect(into.operator).toBe('op-ben')
    expect(again.ledger.healthy).toBe(true)
  })
})

describe('erasing', () => {
  it('leaves all that was refused refused while the erased person may have been there', () => {
    const { books, clock, signOn, decide } = started()
    books.states.change(says('op-ben', 'personalise', 'objected'))
    signOn('ada', clock.ms)
    signOn('ben', clock.ms + HOUR)
    signOn('cem', clock.ms + 2 * HOUR)
    const now = clock.ms + 3 * HOUR
    for (const minute of [61, 90, 121]) expect(decide(clock.ms + minute * MINUTE, now).no & 4, `minute ${minute}`).toBe(4)
    for (const store of books.stores) store.erase(op('op-ben'))
    for (const minute of [61, 90, 121]) expect(decide(clock.ms + minute * MINUTE, now), `minute ${minute}`).toMatchObject({ known: false, yes: 0, no: -1 })
    expect(decide(clock.ms + 125 * MINUTE, now)).toMatchObject({ known: true, no: 0 })
  })

  it('a sign-off at the moment of an erased one is no repetition of it', () => {
    const { books, clock, signOn, decide } = started()
    signOn('ada', clock.ms)
    books.sessions.signOff(machine('SN-1'), books.identities.find('CARD-2222', clock.ms), clock.ms + HOUR, clock.ms + HOUR)
    for (const store of books.stores) store.erase(op('op-ben'))
    expect(decide(clock.ms + HOUR + 5 * MINUTE).operator).toBe('op-ada')
    books.sessions.signOff(machine('SN-1'), undefined, clock.ms + HOUR, clock.ms + HOUR)
    expect(decide(clock.ms + HOUR + 5 * MINUTE).known).toBe(false)
  })

  it('a mark that cannot be read and has no other beside it makes nobody known anywhere up to then', () => {
    const path = folder()
    const { books, clock, signOn, decide } = started(path)
    const start = clock.ms
    signOn('ada', start)
    clock.ms = start + HOUR
    // As an earlier version wrote it: with the person, and nothing else.
    books.ledger.append({
      type: 'session.on', subject: { type: 'operator', id: 'op-ben' },
      body: { machine: 'SN-1', kind: 'on', operator: 'op-ben', country: 'FR', session: '00', event_ms: clock.ms, received_ms: clock.ms },
    })
    expect(decide(start + 30 * MINUTE, clock.ms).operator).toBe('op-ada')
    for (const store of books.stores) store.erase(op('op-ben'))
    books.close()
    clock.ms = start + 2 * HOUR
    const restarted = open(path, clock)
    restarted.usePolicy(policy())
    const who = (at: number, now = clock.ms): string | undefined => {
      const into = nobody()
      restarted.sessions.decide(machine('SN-1'), at, now, into)
      return into.operator
    }
    for (let minute = 0; minute <= 120; minute += 5) expect(who(start + minute * MINUTE)).toBeUndefined()
    for (let hour = 2; hour <= 13; hour++) expect(who(start + hour * HOUR, start + hour * HOUR)).toBeUndefined()
    // From then on everything is as ever.
    const at = start + 14 * HOUR
    restarted.sessions.signOn(machine('SN-1'), restarted.identities.find('CARD-1111', at), at, at)
    expect(who(at + MINUTE, at + MINUTE)).toBe('op-ada')
  })

  it('days that are over make nobody unknown', () => {
    const path = folder()
    const { books, clock, signOn } = started(path)
    signOn('ada', clock.ms)
    clock.ms += 10 * DAY
    books.sweep(clock.ms)
    signOn('ben', clock.ms)
    books.close()
    const again = open(path, clock)
    again.usePolicy(policy())
    const into = nobody()
    again.sessions.decide(machine('SN-1'), clock.ms, clock.ms, into)
    expect(into.operator).toBe('op-ben')
  })

  const events = fc.array(fc.record({
    minute: fc.integer({ min: 0, max: 40 }),
    who: fc.constantFrom('ada', 'ben', 'cem', 'stranger', 'somebody'),
    off: fc.boolean(),
    box: fc.constantFrom('SN-1', 'SN-1', 'SN-2'),
  }), { minLength: 1, maxLength: 14 })

  it('gives nobody else any time, any yes or any forgotten no; and a restart changes nothing', () => {
    fc.assert(fc.property(events, fc.constantFrom(['op-ben'], ['op-ben', 'op-cem']), fc.boolean(), (list, erased, keysOnly) => {
      const path = folder()
      const { books, clock } = started(path)
      const start = clock.ms
      const now = start + 2 * HOUR
      for (const who of ['op-ada', 'op-ben', 'op-cem']) books.states.change(says(who, 'improve.statistics', 'granted'))
      books.states.change(says('op-ben', 'personalise', 'objected'))
      books.states.change(says('op-ada', 'service.operate', 'refused'))
      for (const { minute, who, off, box } of list) {
        const at = start + minute * MINUTE
        const identity = books.identities.find({ ada: 'CARD-1111', ben: 'CARD-2222', cem: 'CARD-3333', stranger: 'x', somebody: '' }[who]!, at)
        if (off) books.sessions.signOff(machine(box), identity, at, now)
        else books.sessions.signOn(machine(box), identity, at, now)
      }
      const times = ['SN-1', 'SN-2'].flatMap((box) => Array.from({ length: 180 }, (_, i) => ({ box, at: start + i * MINUTE / 2 })))
      const ask = (from: Books): Decision[] => times.map(({ box, at }) => {
        const into = nobody()
        from.sessions.decide(machine(box), at, now, into)
        return into
      })
      const before = ask(books)
      const during = keysOnly ? undefined : (erased.forEach((who) => books.stores.forEach((store) => store.erase(op(who)))), ask(books))
      if (keysOnly) for (const who of erased) books.keys.destroy('operator', who)
      books.close()
      const restarted = open(path, clock)
      restarted.usePolicy(policy())
      const after = ask(restarted)
      if (during !== undefined) expect(after).toEqual(during)
      for (const [i, one] of after.entries()) {
        const was = before[i]!
        const where = `${times[i]!.box} at minute ${i % 180 / 2} of ${JSON.stringify(list)}`
        if (one.known) expect(one.operator, where).toBe(was.known ? was.operator : 'nobody')
        expect(one.yes & ~was.yes, where).toBe(0)
        expect(was.no & ~one.no, where).toBe(0)
        if (one.known) expect(erased, where).not.toContain(one.operator)
      }
      restarted.close()
    }), { numRuns: Number(process.env['RUNS'] ?? 40) })
  })
})

describe('against a model', () => {
  const events = fc.array(fc.record({
    minute: fc.integer({ min: 0, max: 60 }),
    who: fc.constantFrom('ada', 'ben', 'stranger'),
    off: fc.boolean(),
  }), { minLength: 1, maxLength: 10 })

  it('whoever is known signed on last, at that machine, not too long ago, and nobody else within the quarantine; in any order of arrival', () => {
    fc.assert(fc.property(events, fc.array(fc.nat({ max: 1000 }), { minLength: 10, maxLength: 10 }), (list, shuffle) => {
      const { books, clock } = started()
      const start = clock.ms
      const now = start + 2 * HOUR
      // One event a minute: ties are decided by arrival, which is what is shuffled here.
      const unique = [...new Map(list.map((event) => [event.minute, event])).values()]
      const arriving = unique.map((event, i) => ({ event, key: shuffle[i]! })).sort((a, b) => a.key - b.key).map(({ event }) => event)
      const box = machine('SN-1')
      for (const { minute, who, off } of arriving) {
        const at = start + minute * MINUTE
        const identity = books.identities.find({ ada: 'CARD-1111', ben: 'CARD-2222', stranger: 'x' }[who]!, at)
        if (off) books.sessions.signOff(box, identity, at, now)
        else books.sessions.signOn(box, identity, at, now)
      }
      const into = nobody()
      const sorted = unique.sort((a, b) => a.minute - b.minute)
      for (let half = 0; half <= 130; half++) {
        books.sessions.decide(box, start + half * MINUTE / 2, now, into)
        const expected = modelAt(sorted, half / 2)
        expect(into.known ? into.operator : undefined, `minute ${half / 2} of ${JSON.stringify(sorted)}`).toBe(expected)
      }
      books.close()
    }), { numRuns: Number(process.env['RUNS'] ?? 25) })
  })

  /** Plays minute by minute what a person at the machine would see; knows nothing of intervals. */
  function modelAt(events: readonly { minute: number; who: string; off: boolean }[], minute: number): string | undefined {
    let here: string | undefined
    const lastSeen = new Map<string, number>()
    let doubtUntil = -1
    for (let tick = 0; tick <= minute * 2; tick++) {
      const time = tick / 2
      const event = events.find((event) => event.minute === time)
      // Whatever happens next ends the doubt about a stranger's staying on.
      if (event !== undefined && lastSeen.has('stranger')) lastSeen.set('stranger', Math.min(time, lastSeen.get('stranger')!))
      if (event?.off === true) {
        if (event.who === 'stranger' || event.who === here) here = undefined
        else if (here !== undefined && here !== 'stranger') {
          doubtUntil = time + 2
          lastSeen.set(event.who, time)
        } else here = undefined
      } else if (event !== undefined) {
        const others = [...lastSeen].filter(([who, seen]) => who !== event.who && time - seen < 2)
        here = event.who
        doubtUntil = others.length > 0 ? time + 2 : time
      }
      // Somebody stays in mind until the moment they are gone; a stranger for the quarantine.
      if (here === 'stranger' && event?.off !== true && event !== undefined) lastSeen.set('stranger', time + 2)
      if (here !== undefined && here !== 'stranger') lastSeen.set(here, time + 0.5)
    }
    return here === undefined || here === 'stranger' || minute < doubtUntil ? undefined : `op-${here}`
  }
})
