/**
 * Section 3 of the rules language as a model: who is known, what they allow and what they refused, for one message. Written from
 * the page and from the table of situations (sessions.test.ts), not from the code: it keeps every event for ever and works out each
 * answer from all of them, by asking who was at the machine.
 */
export const MODEL = { sessionMaxMs: 12 * 3_600_000, quarantineMs: 120_000, lateLimitMs: 7 * 86_400_000, aheadMs: 300_000 } as const

/** What a decision is compared by. Sets of purposes. */
export interface Expected {
  readonly who: string | undefined
  readonly yes: ReadonlySet<string>
  readonly siteYes: ReadonlySet<string>
  readonly no: ReadonlySet<string>
  readonly notice: boolean
  readonly collection: boolean
}

export type Word = 'granted' | 'local_only' | 'refused' | 'withdrawn' | 'objected' | 'requested'

/** The rules in force, as far as they matter: purposes, and what a purpose lets out. */
export interface ModelRules {
  readonly id: string
  readonly purposes: readonly string[]
  readonly recipients: readonly string[]
  readonly keepsMs: number
}

interface Cell { word: Word | 'ended'; sinceMs: number; untilMs: number }
interface Mark { readonly kind: 'on' | 'off'; /** Undefined: nobody can say who. */ readonly who: string | undefined; readonly atMs: number; readonly order: number }
interface Stay { readonly who: string | undefined; readonly fromMs: number; toMs: number }
interface Doubt { readonly fromMs: number; readonly toMs: number; readonly people: readonly (string | undefined)[] }

export class ReferenceModel {
  readonly #cells = new Map<string, Cell>()
  readonly #notices = new Set<string>()
  readonly #scopes = new Map<string, ModelRules>()
  readonly #marks = new Map<string, Mark[]>()
  readonly #off = new Set<string>()
  #rules: ModelRules | undefined
  /** A clock that steps back revives nothing: what counts is the latest time ever seen. */
  #timeMs = 0

  clock(nowMs: number): void {
    this.#timeMs = Math.max(this.#timeMs, nowMs)
  }

  /** 3.3: a yes holds while the rules are not wider than they were. A purpose that the rules do not have lets out nothing. */
  activate(rules: ModelRules): void {
    this.#rules = rules
    for (const purpose of rules.purposes) {
      const before = this.#scopes.get(purpose)
      this.#scopes.set(purpose, rules)
      const isWider = before !== undefined && (rules.recipients.some((one) => !before.recipients.includes(one)) || (rules.recipients.length > 0 && before.recipients.length > 0 && rules.keepsMs > before.keepsMs))
      if (isWider) for (const [key, cell] of this.#cells) if (key.endsWith(` ${purpose}`) && isYes(cell)) cell.word = 'ended'
    }
  }

  /**
   * Puts in force what a person says. Returns whether it counts: a no always does, a yes that was buffered only if it names the state
   * that it replaces, or if there is nothing yet that it could undo.
   */
  say(who: string, purpose: string, word: Word, untilMs: number, late?: 'names nothing' | 'names the newest' | 'names another'): boolean {
    this.#expire()
    const key = `${who} ${purpose}`
    const before = this.#cells.get(key)
    if (word === 'granted' || word === 'local_only') {
      if (late === 'names another' || (late === 'names nothing' && before !== undefined && before.word !== 'requested')) return false
    }
    // To keep it to the site is less than the yes before: there what was acquired under that stays covered without a break.
    const sinceMs = word === 'local_only' && before?.word === 'granted' ? before.sinceMs : this.#timeMs
    // To be asked is no answer and changes none.
    if (word !== 'requested' || before === undefined || before.word === 'ended') this.#cells.set(key, { word, sinceMs, untilMs })
    return true
  }

  notice(who: string, policy: string): void {
    this.#notices.add(`${who} ${policy}`)
  }

  /** 3.5: off or unknown, no session is kept; what was kept is forgotten. */
  setting(machine: string, isOn: boolean): void {
    if (isOn) return void this.#off.delete(machine)
    this.#off.add(machine)
    this.#marks.delete(machine)
  }

  /** @param who  undefined: an unknown or shared card, a service code, a sign-off without a name */
  mark(machine: string, kind: 'on' | 'off', who: string | undefined, atMs: number, receivedMs: number): void {
    if (this.#off.has(machine)) return
    const marks = this.#marks.get(machine) ?? []
    // A time that cannot be tells only that somebody did something, when it was heard.
    const isPlausible = atMs >= receivedMs - MODEL.lateLimitMs && atMs <= receivedMs + MODEL.aheadMs
    const mark: Mark = isPlausible ? { kind, who, atMs, order: marks.length } : { kind: 'on', who: undefined, atMs: receivedMs, order: marks.length }
    // What is sent twice happened once.
    if (marks.some((one) => one.kind === mark.kind && one.who === mark.who && one.atMs === mark.atMs)) return
    this.#marks.set(machine, [...marks, mark])
  }

  decide(machine: string, eventMs: number, nowMs: number): Expected {
    this.clock(nowMs)
    this.#expire()
    if (this.#off.has(machine)) return { ...NOBODY, collection: false }
    if (!(eventMs >= nowMs - MODEL.lateLimitMs && eventMs <= nowMs + MODEL.aheadMs)) return NOBODY
    const people = this.#there(machine, eventMs)
    if (people.length === 0) return NOBODY
    const each = people.map((who) => this.#allows(who, eventMs))
    // 3.4: who may be there beside others is not known; what all allow is allowed, what one refused is refused.
    const all = (of: (one: Allowed) => ReadonlySet<string>): ReadonlySet<string> => each.map(of).reduce((a, b) => a.intersection(b))
    return {
      who: people.length === 1 ? people[0] : undefined,
      yes: all(({ yes }) => yes), siteYes: all(({ siteYes }) => siteYes), no: each.map(({ no }) => no).reduce((a, b) => a.union(b)),
      notice: each.every(({ notice }) => notice), collection: true,
    }
  }

  /** Everybody who may have been at the machine; empty when the session is over or none began. */
  #there(machine: string, atMs: number): readonly (string | undefined)[] {
    const stays: Stay[] = []
    const leavers: Stay[] = []
    const doubts: Doubt[] = []
    const near = (whenMs: number, but: string | undefined): (string | undefined)[] =>
      [...new Set([...stays, ...leavers].filter((stay) => stay.toMs > whenMs - MODEL.quarantineMs && (but === undefined || stay.who !== but)).map(({ who }) => who))]
    for (const mark of [...(this.#marks.get(machine) ?? [])].sort((a, b) => a.atMs - b.atMs || a.order - b.order)) {
      const here = stays.findLast((stay) => stay.toMs > mark.atMs)
      if (mark.kind === 'off') {
        if (here === undefined) continue
        const isOther = mark.who !== undefined && mark.who !== here.who
        if (isOther) leavers.push({ who: mark.who, fromMs: mark.atMs, toMs: mark.atMs })
        if (!isOther || here.who === undefined) here.toMs = mark.atMs
        else doubts.push({ fromMs: mark.atMs, toMs: mark.atMs + MODEL.quarantineMs, people: [here.who, ...near(mark.atMs, here.who)] })
        continue
      }
      if (here !== undefined) here.toMs = mark.atMs
      const others = near(mark.atMs, mark.who)
      // A stranger is nobody for good; only whom they replaced is remembered for a while.
      stays.push({ who: mark.who, fromMs: mark.atMs, toMs: mark.atMs + (mark.who === undefined ? MODEL.quarantineMs : MODEL.sessionMaxMs) })
      if (others.length > 0 || mark.who === undefined) doubts.push({ fromMs: mark.atMs, toMs: mark.atMs + MODEL.quarantineMs, people: [mark.who, ...others] })
    }
    const here = stays.findLast((stay) => stay.fromMs <= atMs && atMs < stay.toMs)
    if (here === undefined) return []
    const doubt = doubts.findLast((one) => one.fromMs <= atMs && one.fromMs >= here.fromMs)
    return doubt !== undefined && atMs < doubt.toMs ? doubt.people : [here.who]
  }

  #allows(who: string | undefined, eventMs: number): Allowed {
    const yes = new Set<string>()
    const siteYes = new Set<string>()
    const no = new Set<string>()
    if (who === undefined || this.#rules === undefined) return { yes, siteYes, no, notice: false }
    for (const purpose of this.#rules.purposes) {
      const cell = this.#cells.get(`${who} ${purpose}`)
      if (cell === undefined) continue
      if (cell.word === 'refused' || cell.word === 'withdrawn' || cell.word === 'objected') no.add(purpose)
      // The same grant from acquisition on.
      if (!isYes(cell) || eventMs < cell.sinceMs) continue
      siteYes.add(purpose)
      if (cell.word === 'granted') yes.add(purpose)
    }
    return { yes, siteYes, no, notice: this.#notices.has(`${who} ${this.#rules.id}`) }
  }

  #expire(): void {
    for (const cell of this.#cells.values()) if (isYes(cell) && this.#timeMs >= cell.untilMs) cell.word = 'ended'
  }
}

type Allowed = Pick<Expected, 'yes' | 'siteYes' | 'no' | 'notice'>

const NOBODY: Expected = { who: undefined, yes: new Set(), siteYes: new Set(), no: new Set(), notice: false, collection: true }

function isYes(cell: Cell): boolean {
  return cell.word === 'granted' || cell.word === 'local_only'
}
