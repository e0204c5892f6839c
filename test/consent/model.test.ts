/**
 * Everything that can happen to a person's consent on a shared machine, at random and together, against the reference model: after
 * each step the whole decision of both machines, for new and for late data.
 *
 * `PARAPET_RUNS=10000 npx vitest run test/consent/model.test.ts` is the long form; PARAPET_SEED repeats a run.
 */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBooks, type Books } from '../../src/consent/books.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import { clockAt, DAY, HOUR, machine, MINUTE, MORNING, op, policy, register, ROOT, says } from './fixture.ts'
import { ReferenceModel, type Expected, type ModelRules, type Word } from './model.ts'

const runs = Number(process.env['PARAPET_RUNS'] ?? 200)
const seed = process.env['PARAPET_SEED'] === undefined ? {} : { seed: Number(process.env['PARAPET_SEED']) }

const PURPOSES = ['service.operate', 'improve.statistics', 'personalise'] as const
const MACHINES = ['SN-1', 'SN-2'] as const
const POLICIES = ['awp-2026-11', 'awp-2027-05'] as const
/** Card -> who it is; undefined = nobody who could be known. */
const CARDS: Readonly<Record<string, string | undefined>> = {
  'CARD-1111': 'op-ada', 'CARD-2222': 'op-ben', 'PIN-77': 'op-ben', 'CARD-3333': 'op-cem', '0000': undefined, 'MASTER-9': undefined, 'CARD-9999': undefined, '': undefined,
}
const RULES: ModelRules = { id: POLICIES[0], purposes: PURPOSES, recipients: ['cloud'], keepsMs: 30 * DAY }

const people = fc.constantFrom('op-ada', 'op-ben', 'op-cem')
const cards = fc.constantFrom('CARD-1111', 'CARD-1111', 'CARD-2222', 'PIN-77', 'CARD-3333', '0000', 'MASTER-9', 'CARD-9999', '')
/** How long before the gateway hears of it something happened. */
const lateness = fc.constantFrom(0, 0, 0, 1, 30_000, MINUTE, 5 * MINUTE, HOUR, 8 * DAY, -MINUTE, -HOUR)

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('say' as const), who: people, about: fc.constantFrom(...PURPOSES), word: fc.constantFrom<Word>('granted', 'granted', 'granted', 'local_only', 'refused', 'withdrawn', 'objected', 'requested'), lasts: fc.constantFrom(undefined, undefined, 90_000, HOUR), late: fc.constantFrom(undefined, undefined, undefined, 'names nothing' as const, 'names the newest' as const, 'names another' as const) }) },
  { weight: 7, arbitrary: fc.record({ do: fc.constant('card' as const), on: fc.constantFrom(...MACHINES), card: cards, kind: fc.constantFrom('on', 'on', 'off'), ago: lateness }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 10_000, MINUTE, 2 * MINUTE, 30 * MINUTE, 13 * HOUR) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('clock steps' as const), ms: fc.constantFrom(-HOUR, -5 * MINUTE, -1, 2 * HOUR) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('rules' as const), id: fc.constantFrom(...POLICIES), purposes: fc.shuffledSubarray([...PURPOSES], { minLength: 1 }), recipients: fc.subarray(['cloud', 'insurer'], { minLength: 1 }), keepsMs: fc.constantFrom(10 * DAY, 30 * DAY, 60 * DAY) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('notice' as const), who: people, id: fc.constantFrom(...POLICIES) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('setting' as const), of: fc.constantFrom(...MACHINES), is: fc.constantFrom('on' as const, 'on' as const, 'off' as const, 'unknown' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('sweep' as const) }) },
)
type Step = typeof step extends fc.Arbitrary<infer One> ? One : never

/** Books in which everybody is registered, to be copied for each history: making them takes longer than most histories. */
const fresh = mkdtempSync(join(tmpdir(), 'parapet-model-'))

function booksIn(path: string, clock: ReturnType<typeof clockAt>): Books {
  return openBooks({ folder: path, root: ROOT, tenant: 'demo', gateway: 'depot-7', clock })
}

beforeAll(() => {
  const books = booksIn(fresh, clockAt())
  register(books)
  books.close()
})
afterAll(() => rmSync(fresh, { recursive: true, force: true }))

test(`${runs} random histories`, () => {
  let known = 0
  let doubtful = 0
  let asked = 0
  fc.assert(fc.property(fc.array(step, { minLength: 5, maxLength: 24 }), (steps) => {
    using scene = new Scene()
    for (const [at, one] of steps.entries()) {
      scene.play(one)
      for (const { of, eventMs, is, should } of scene.ask()) {
        asked++
        if (should.who !== undefined) known++
        else if (should.no.size > 0) doubtful++
        // What agrees, as nearly all does, is not put into words.
        if (!agree(is, should)) expect(is, `step ${at}: ${of}, acquired ${scene.nowMs - eventMs} ms ago`).toEqual(should)
      }
    }
    scene.verify()
  }), { numRuns: runs, ...seed })
  // Without enough of each the agreement would say little.
  if (runs < 100) return
  expect(known / asked).toBeGreaterThan(0.03)
  expect(doubtful / asked).toBeGreaterThan(0.002)
}, 60_000 + runs * 200)

function agree(one: Expected, other: Expected): boolean {
  const same = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean => a.size === b.size && a.isSubsetOf(b)
  return one.who === other.who && one.notice === other.notice && one.collection === other.collection && same(one.yes, other.yes) && same(one.siteYes, other.siteYes) && same(one.no, other.no)
}

class Scene {
  readonly #clock = clockAt()
  readonly #path = mkdtempSync(join(tmpdir(), 'parapet-model-'))
  readonly #model = new ReferenceModel()
  readonly #machines = new Map<string, ReturnType<typeof machine>>(MACHINES.map((id) => [id, machine(id)]))
  #rules = RULES
  #books: Books

  constructor() {
    cpSync(fresh, this.#path, { recursive: true })
    this.#books = booksIn(this.#path, this.#clock)
    this.#activate()
  }

  get nowMs(): number {
    return this.#clock.ms
  }

  play(one: Step): void {
    const clock = this.#clock
    const model = this.#model
    model.clock(clock.ms)
    switch (one.do) {
      case 'clock steps':
        // The gateway looks at the clock every minute: what it said before it was set back has been seen.
        this.#books.sweep(clock.ms)
        clock.ms += one.ms
        return
      case 'wait':
        clock.ms += one.ms
        return
      case 'say':
        return this.#say(one)
      case 'card': {
        const at = clock.ms - one.ago
        const identity = this.#books.identities.find(one.card, at)
        if (one.kind === 'on') this.#books.sessions.signOn(this.#machines.get(one.on)!, identity, at, clock.ms)
        else this.#books.sessions.signOff(this.#machines.get(one.on)!, identity, at, clock.ms)
        return model.mark(one.on, one.kind as 'on' | 'off', CARDS[one.card], at, clock.ms)
      }
      case 'rules':
        this.#rules = one
        return this.#activate()
      case 'notice':
        this.#books.states.giveNotice(op(one.who), one.id, 'de', undefined)
        return model.notice(one.who, one.id)
      case 'setting':
        this.#machines.set(one.of, machine(one.of, one.is))
        // What the gateway does when it reads the registry.
        if (one.is !== 'on') this.#books.sessions.forget(machine(one.of).id)
        return model.setting(one.of, one.is === 'on')
      case 'restart':
        this.#books.close()
        this.#books = booksIn(this.#path, this.#clock)
        return this.#activate()
      default:
        return this.#books.sweep(clock.ms)
    }
  }

  *ask(): Generator<{ readonly of: string; readonly eventMs: number; readonly is: Expected; readonly should: Expected }> {
    const now = this.#clock.ms
    for (const of of MACHINES) {
      for (const ago of [0, 1, 45_000, 3 * MINUTE, HOUR, now - MORNING, 8 * DAY, -4 * MINUTE, -6 * MINUTE]) {
        const eventMs = now - ago
        const into = nobody()
        this.#books.sessions.decide(this.#machines.get(of)!, eventMs, now, into)
        yield { of, eventMs, is: this.#read(into), should: this.#model.decide(of, eventMs, now) }
      }
    }
  }

  verify(): void {
    expect(this.#books.ledger.verify().ok).toBe(true)
  }

  [Symbol.dispose](): void {
    this.#books.close()
    rmSync(this.#path, { recursive: true, force: true })
  }

  #say({ who, about, word, lasts, late }: Extract<Step, { do: 'say' }>): void {
    if (!this.#rules.purposes.includes(about)) return
    const yes = word === 'granted' || word === 'local_only'
    const untilMs = yes && lasts !== undefined ? this.#clock.ms + lasts : Infinity
    // Its end would lie behind the latest time seen, when the clock was set back.
    if (untilMs <= this.#latestMs) return
    const counts = this.#model.say(who, about, word, untilMs, late)
    const standing = this.#books.states.show(op(who)).rows.find((row) => row.purpose === about)?.seq ?? 0
    const supersedes = late === 'names the newest' ? standing : late === 'names another' ? standing + 1_000_000 : undefined
    const change = says(who, about, word, {
      expiresAtMs: untilMs === Infinity ? undefined : untilMs,
      ...(late === undefined ? {} : { source: 'terminal', givenAtMs: MORNING - DAY, ...(supersedes === undefined ? {} : { supersedes }) }),
    })
    if (counts) this.#books.states.change(change)
    else expect(() => this.#books.states.change(change)).toThrow(expect.objectContaining({ code: 'STALE-GRANT' }))
  }

  get #latestMs(): number {
    return this.#books.states.seenMs
  }

  #activate(): void {
    const { id, purposes, recipients, keepsMs } = this.#rules
    this.#books.usePolicy(policy({ id, purposes, recipients: Object.fromEntries(recipients.map((one) => [one, 'EU'])), keepsMs }))
    this.#model.activate(this.#rules)
  }

  #read({ known, operator, yes, siteYes, no, notice, collection }: Decision): Expected {
    const set = (bits: number): Set<string> => new Set(this.#rules.purposes.filter((_, index) => (bits & (1 << index)) !== 0))
    expect(known).toBe(operator !== undefined)
    return { who: operator, yes: set(yes), siteYes: set(siteYes), no: set(no), notice: notice !== 0, collection }
  }
}
