/**
 * Who was signed on at which machine when, and what their consent allows. Attributed by event time from a short history per
 * machine; whenever there is any doubt, nobody is known (rules-language 3.4).
 *
 * A mark is one sign-on, sign-off or loss of knowledge as it was reported; intervals are what follows from the marks in the
 * order of their times, computed anew with every mark, so that marks may arrive late and out of order.
 *
 * In the ledger every mark of a person stands twice: before the event that names the person stands one that does not. When the
 * person is erased only the second can be read, so that somebody's sign-on still ends the session of who was there before.
 */
import { randomBytes } from 'node:crypto'
import { clear, type Decision } from '../domain/consent.ts'
import type { MachineId, OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { SubjectRules } from '../domain/policy.ts'
import type { Clock, Identity, LedgerEvent, Machine, Random, Sessions, StoredEvent, SubjectStore } from '../domain/ports.ts'
import { dayOf, type SqliteLedger } from './ledger.ts'
import type { ConsentTable } from './state.ts'

export interface SessionTracksOptions {
  readonly ledger: SqliteLedger
  readonly states: ConsentTable
  readonly clock: Clock
  readonly random?: Random
  /** Until the first rules are in use: the strictest of what rules usually say. */
  readonly rules?: Pick<SubjectRules, 'sessionMaxMs' | 'quarantineMs' | 'lateLimitMs'>
}

const DEFAULTS = { sessionMaxMs: 12 * 3_600_000, quarantineMs: 120_000, lateLimitMs: 7 * 86_400_000 } as const
const HOUR_MS = 3_600_000
const DAY_MS = 86_400_000
/** Row of who has none. */
const NOBODY = -1
/** Numbers per machine in the table of newest sessions: from, to, row of the person; half a line of the processor's cache. */
const TIMES = 4
const FROM = 0
const TO = 1
const ROW = 2
/** Names per machine: operator, country, session. */
const NAMES = 4

export class SessionTracks implements Sessions, SubjectStore {
  readonly name = 'sessions'

  readonly #ledger: SqliteLedger
  readonly #states: ConsentTable
  readonly #clock: Clock
  readonly #random: Random
  readonly #slots = new Map<MachineId, number>()
  readonly #tracks: (Track | undefined)[] = []
  readonly #free: number[] = []
  /** What nearly every decision needs, the newest session of each machine, side by side in memory. */
  #times = new Float64Array(64 * TIMES)
  readonly #names: (string | undefined)[] = []
  readonly #held = new Set<OperatorId>()
  #sessionMaxMs: number
  #quarantineMs: number
  #lateLimitMs: number
  #order = 0
  /** Up to here marks may be missing that nobody can read any more: nobody is known before it, and no session goes on over it. */
  #lostMs = Number.NEGATIVE_INFINITY

  /** Rebuilds the sessions that still count from the ledger, so that a restart in the middle of a shift changes nothing. */
  constructor(options: SessionTracksOptions) {
    this.#ledger = options.ledger
    this.#states = options.states
    this.#clock = options.clock
    this.#random = options.random ?? randomBytes
    const rules = options.rules ?? DEFAULTS
    this.#sessionMaxMs = rules.sessionMaxMs
    this.#quarantineMs = rules.quarantineMs
    this.#lateLimitMs = rules.lateLimitMs
    let unnamed: ReadMark | undefined
    for (const event of this.#ledger.events({ type: 'session.' })) unnamed = this.#replay(event, unnamed)
    if (unnamed !== undefined) this.#restore(unnamed)
    for (const event of this.#ledger.events({ type: 'device.forgotten' })) this.#replayForgotten(event)
    this.#settleAll()
  }

  get size(): number {
    return this.#slots.size
  }

  /** Takes over the limits of newly activated rules, for what is already known too. */
  useRules(rules: Pick<SubjectRules, 'sessionMaxMs' | 'quarantineMs' | 'lateLimitMs'>): void {
    if (rules.sessionMaxMs === this.#sessionMaxMs && rules.quarantineMs === this.#quarantineMs && rules.lateLimitMs === this.#lateLimitMs) return
    this.#sessionMaxMs = rules.sessionMaxMs
    this.#quarantineMs = rules.quarantineMs
    this.#lateLimitMs = rules.lateLimitMs
    this.#settleAll()
  }

  signOn(machine: Machine, identity: Identity | undefined, eventMs: number, receivedMs: number): void {
    if (machine.operatorCollection !== 'on') return this.forget(machine.id)
    // A code that several people share tells of nobody, and neither does a technician's master code.
    const personal = identity?.kind === 'personal' && this.#states.rowOf(identity.operator) >= 0 ? identity : undefined
    if (!this.#isPlausible(eventMs, receivedMs)) return this.#mark(machine.id, 'nobody', undefined, receivedMs, receivedMs)
    this.#mark(machine.id, personal === undefined ? 'nobody' : 'on', personal, eventMs, receivedMs)
  }

  signOff(machine: Machine, identity: Identity | undefined, eventMs: number, receivedMs: number): void {
    if (machine.operatorCollection !== 'on') return this.forget(machine.id)
    if (!this.#isPlausible(eventMs, receivedMs)) return this.#mark(machine.id, 'nobody', undefined, receivedMs, receivedMs)
    const personal = identity?.kind === 'personal' && this.#states.rowOf(identity.operator) >= 0 ? identity : undefined
    this.#mark(machine.id, 'off', personal, eventMs, receivedMs)
  }

  decide(machine: Machine, eventMs: number, nowMs: number, into: Decision): void {
    clear(into)
    if (machine.operatorCollection !== 'on') return
    into.collection = true
    if (!this.#ledger.healthy) return
    const slot = this.#slots.get(machine.id)
    if (slot === undefined) return
    // Written so that a time that is not a number is out of bounds.
    if (!(eventMs >= nowMs - this.#lateLimitMs && eventMs <= nowMs + LIMITS.eventAheadMs)) return
    const times = this.#times
    const at = slot * TIMES
    if (eventMs >= times[at + FROM]! && eventMs < times[at + TO]!) {
      if (!this.#states.fillRow(times[at + ROW]!, eventMs, nowMs, into)) return
      const names = this.#names
      into.known = true
      into.operator = names[slot * NAMES] as OperatorId | undefined
      into.country = names[slot * NAMES + 1]
      into.session = names[slot * NAMES + 2]!
      return
    }
    this.#decideFromHistory(this.#tracks[slot]!, eventMs, nowMs, into)
  }

  #decideFromHistory(track: Track, eventMs: number, nowMs: number, into: Decision): void {
    if (eventMs < Math.max(track.floorMs, this.#lostMs)) return
    const { intervals } = track
    for (let i = intervals.length - 1; i >= 0; i--) {
      const interval = intervals[i]!
      if (eventMs < interval.fromMs) continue
      if (eventMs >= interval.toMs) return
      if (eventMs < interval.quarantineMs) return this.#restrict(interval, eventMs, nowMs, into)
      if (interval.row === NOBODY || !this.#states.fillRow(interval.row, eventMs, nowMs, into)) return
      into.known = true
      into.operator = interval.operator
      into.country = interval.country
      into.session = interval.session
      return
    }
  }

  /**
   * As `decide` for a message that spans a time (batches): when who is there changes inside, nobody is known, and the
   * refusals of all of them count (rules-language 4.9).
   */
  decideSpan(machine: Machine, fromMs: number, toMs: number, nowMs: number, into: Decision): void {
    // The earlier instant is the one that the newest yes may not cover.
    this.decide(machine, fromMs, nowMs, into)
    if (fromMs === toMs || !into.collection) return
    const crossed = this.#trackAt(machine.id)?.intervals.filter((interval) => interval.toMs > fromMs && interval.fromMs <= toMs) ?? []
    const isOne = crossed.length === 1 && crossed[0]!.fromMs <= fromMs && crossed[0]!.toMs > toMs
    if (isOne && fromMs <= toMs && toMs <= nowMs + LIMITS.eventAheadMs) return
    clear(into)
    into.collection = true
    if (!this.#ledger.healthy) return
    for (const interval of crossed) this.#restrict(interval, fromMs, nowMs, into)
    into.yes = into.siteYes = into.notice = 0
  }

  current(machine: MachineId): { readonly operator: OperatorId; readonly sinceMs: number } | undefined {
    const now = this.#clock.now()
    const interval = this.#trackAt(machine)?.intervals.findLast((interval) => now >= interval.fromMs)
    if (interval === undefined || interval.operator === undefined || now >= interval.toMs) return undefined
    return { operator: interval.operator, sinceMs: interval.fromMs }
  }

  /** Whether a person signed on at a machine since a time. */
  visited(machine: MachineId, operator: OperatorId, sinceMs: number): boolean {
    return this.#trackAt(machine)?.marks.some((mark) => mark.kind === 'on' && mark.operator === operator && mark.atMs >= sinceMs) ?? false
  }

  /** Who is signed on now, everywhere. */
  *list(): Iterable<{ readonly machine: MachineId; readonly operator: OperatorId; readonly sinceMs: number }> {
    for (const machine of this.#slots.keys()) {
      const session = this.current(machine)
      if (session !== undefined) yield { machine, ...session }
    }
  }

  forget(machine: MachineId): void {
    const track = this.#trackAt(machine)
    if (track === undefined) return
    this.#drop(machine)
    if (track.marks.length > 0) this.#write({ type: 'device.forgotten', body: { machine } })
  }

  /** Drops what no late message can ask for any more, and the keys that its events in the ledger were sealed under. Call it every minute. */
  sweep(nowMs: number): void {
    const oldest = nowMs - this.#lateLimitMs - this.#sessionMaxMs
    for (const [machine, slot] of this.#slots) {
      const track = this.#tracks[slot]!
      const kept = track.marks.filter((mark) => mark.atMs >= oldest || (mark.operator !== undefined && this.#held.has(mark.operator)))
      if (kept.length === 0 && nowMs >= track.floodedUntilMs) this.#drop(machine)
      else if (kept.length < track.marks.length) {
        track.marks = kept
        this.#settle(track)
      }
    }
    // A hold on a person keeps the days as a whole; there is no smaller unit.
    if (this.#held.size === 0 && this.#ledger.healthy) this.#ledger.endDays(dayOf(Math.max(0, oldest - DAY_MS)))
  }

  locate(subject: OperatorId): { readonly records: number } {
    let records = 0
    for (const track of this.#tracks) records += track?.marks.filter((mark) => mark.operator === subject).length ?? 0
    return { records }
  }

  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    for (const [machine, slot] of this.#slots) {
      for (const mark of this.#tracks[slot]!.marks) if (mark.operator === subject) yield { machine, event: mark.kind === 'on' ? 'signed on' : 'signed off', atMs: mark.atMs }
    }
  }

  /** Where the person was, somebody was: nobody's session becomes longer by it. */
  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    const { records } = this.locate(subject)
    if (this.#held.has(subject)) return { erased: 0, held: records }
    for (const track of this.#tracks) {
      if (track === undefined || !track.marks.some((mark) => mark.operator === subject)) continue
      track.marks = track.marks.map((mark) => (mark.operator === subject ? unnamedOf(mark) : mark))
      this.#settle(track)
    }
    return { erased: records, held: 0 }
  }

  hold(subject: OperatorId, caseId: string | undefined): void {
    if (caseId === undefined) this.#held.delete(subject)
    else this.#held.add(subject)
  }

  #isPlausible(eventMs: number, receivedMs: number): boolean {
    return eventMs >= receivedMs - this.#lateLimitMs && eventMs <= receivedMs + LIMITS.eventAheadMs
  }

  #mark(machine: MachineId, kind: Mark['kind'], identity: Identity | undefined, atMs: number, receivedMs: number): void {
    const track = this.#trackOf(machine)
    if (track === undefined) return
    // A terminal that sends again what it sent before changes nothing.
    if (track.marks.some((mark) => mark.kind === kind && mark.atMs === atMs && mark.operator === identity?.operator && !mark.isErased)) return
    if (this.#isFlooded(machine, track, receivedMs)) return
    const mark: Mark = {
      kind, atMs, order: this.#order++, operator: identity?.operator, country: identity?.country, isErased: false,
      session: kind === 'on' ? Buffer.from(this.#random(16)).toString('hex') : '',
    }
    // The ledger gets what the decision rests on; nobody's marks are sealed under the gateway's own row.
    const type = kind === 'on' ? 'session.on' : 'session.off'
    const body = { machine, kind, event_ms: atMs, received_ms: receivedMs }
    if (identity === undefined) {
      this.#write({ type, body })
      return this.#insert(track, mark)
    }
    // Its day's key ends both; the person's key ends the second only.
    this.#write({ type, body: { ...body, names: 'next' } })
    const isWritten = this.#write({
      type, subject: { type: 'operator', id: identity.operator },
      body: { ...body, operator: identity.operator, country: identity.country, session: mark.session },
    })
    this.#insert(track, isWritten ? mark : unnamedOf(mark))
  }

  #trackAt(machine: MachineId): Track | undefined {
    const slot = this.#slots.get(machine)
    return slot === undefined ? undefined : this.#tracks[slot]
  }

  /** The machine's track, made when there is none; undefined at the bound of machines: then nobody is known there. */
  #trackOf(machine: MachineId): Track | undefined {
    const known = this.#trackAt(machine)
    if (known !== undefined || this.#slots.size >= LIMITS.sessionMachines) return known
    const slot = this.#free.pop() ?? this.#tracks.length
    const track: Track = { slot, marks: [], intervals: [], floorMs: 0, hourMs: 0, hourMarks: 0, floodedUntilMs: 0 }
    this.#slots.set(machine, slot)
    this.#tracks[slot] = track
    if ((slot + 1) * TIMES > this.#times.length) {
      const grown = new Float64Array(this.#times.length * 2)
      grown.set(this.#times)
      this.#times = grown
    }
    this.#bringForward(track)
    return track
  }

  #drop(machine: MachineId): void {
    const slot = this.#slots.get(machine)
    if (slot === undefined) return
    this.#slots.delete(machine)
    this.#tracks[slot] = undefined
    this.#free.push(slot)
  }

  #insert(track: Track, mark: Mark): void {
    track.marks.push(mark)
    this.#settle(track)
  }

  /** A terminal that signs people on and off all the time is broken or hostile: its history is worth nothing. */
  #isFlooded(machine: MachineId, track: Track, receivedMs: number): boolean {
    if (receivedMs < track.floodedUntilMs) return true
    if (!(receivedMs < track.hourMs + HOUR_MS && receivedMs >= track.hourMs)) {
      track.hourMs = receivedMs
      track.hourMarks = 0
    }
    track.hourMarks++
    if (track.hourMarks <= LIMITS.sessionMarksPerHour) return false
    track.floodedUntilMs = track.hourMs + HOUR_MS
    track.marks = []
    this.#settle(track)
    this.#write({ type: 'device.forgotten', body: { machine } })
    return true
  }

  #write(event: LedgerEvent): boolean {
    try {
      this.#ledger.enqueue(event)
      return true
    } catch {
      // The ledger says so itself: it is not healthy, and nobody is known until it is. Or the person was erased just now.
      return false
    }
  }

  /**
   * One session event.
   * @param unnamed  the event before, when it leaves the name to this one: it counts only when this one cannot be read
   * @returns the same for the next event
   */
  #replay(event: StoredEvent, unnamed: ReadMark | undefined): ReadMark | undefined {
    const read = readMark(event)
    const isNext = unnamed !== undefined && unnamed.mark.seq === event.seq - 1
    const isNamed = isNext && read !== undefined && read.mark.operator !== undefined
      && read.machine === unnamed.machine && read.mark.kind === unnamed.mark.kind && read.mark.atMs === unnamed.mark.atMs
    if (unnamed !== undefined && !isNamed) this.#restore(unnamed)
    if (read?.mark.isErased === true) return read
    if (read !== undefined) this.#restore(read)
    else if (!isNext) this.#lose(event.day)
    return undefined
  }

  #restore({ machine, mark }: ReadMark): void {
    const track = this.#trackOf(machine)
    if (track === undefined) return
    if (track.marks.length >= 2 * LIMITS.sessionMarks) this.#trim(track)
    track.marks.push({ ...mark, order: this.#order++ })
  }

  /**
   * A mark that nobody can read and that no other stands beside: it may have ended a session at any machine, at any time up to
   * the end of its day. Days whose keys were ended by `sweep` are so old that this changes nothing.
   */
  #lose(day: string): void {
    const fromMs = Date.parse(day)
    const now = this.#clock.now()
    const toMs = now >= fromMs ? Math.min(now, fromMs + DAY_MS) : fromMs + DAY_MS
    this.#lostMs = Math.max(this.#lostMs, toMs + LIMITS.eventAheadMs)
  }

  /** What was forgotten stays forgotten. */
  #replayForgotten(event: StoredEvent): void {
    const machine = event.body?.['machine'] as MachineId | undefined
    const track = machine === undefined ? undefined : this.#trackAt(machine)
    if (track === undefined) return
    track.marks = track.marks.filter((mark) => (mark.seq ?? 0) > event.seq)
    if (track.marks.length === 0) this.#drop(machine!)
  }

  #settleAll(): void {
    for (const track of this.#tracks) if (track !== undefined) this.#settle(track)
  }

  /** Computes the intervals of a machine from its marks. */
  #settle(track: Track): void {
    this.#trim(track)
    track.intervals = intervalsOf(this.#lostMs > 0 ? withLost(track.marks, this.#lostMs) : track.marks, this.#sessionMaxMs, this.#quarantineMs, (operator) => this.#states.rowOf(operator))
    this.#bringForward(track)
  }

  /** Sorts the marks, and forgets the oldest at the bound. Whether the first one left was a hand-over is forgotten too: nobody is known in its quarantine. */
  #trim(track: Track): void {
    track.marks.sort(byTime)
    if (track.marks.length <= LIMITS.sessionMarks) return
    track.marks = track.marks.slice(-LIMITS.sessionMarks)
    track.floorMs = Math.max(track.floorMs, track.marks[0]!.atMs + this.#quarantineMs)
  }

  /** Puts the time in which the newest session knows its person into the table that `decide` reads first. */
  #bringForward(track: Track): void {
    const { slot } = track
    const newest = track.intervals.at(-1)
    const isKnown = newest !== undefined && newest.row !== NOBODY
    this.#times[slot * TIMES + FROM] = isKnown ? Math.max(newest.fromMs, newest.quarantineMs, track.floorMs, this.#lostMs) : Number.POSITIVE_INFINITY
    this.#times[slot * TIMES + TO] = isKnown ? newest.toMs : Number.NEGATIVE_INFINITY
    this.#times[slot * TIMES + ROW] = isKnown ? newest.row : NOBODY
    this.#names[slot * NAMES] = newest?.operator
    this.#names[slot * NAMES + 1] = newest?.country
    this.#names[slot * NAMES + 2] = newest?.session ?? ''
    this.#names[slot * NAMES + 3] = undefined
  }

  /**
   * Nobody is known, but everybody who may have been there is heard: what all of them allow, what any of them refused, and
   * where they come from. What an erased person refused is not known any more, so everything counts as refused.
   */
  #restrict(interval: Interval, eventMs: number, nowMs: number, into: Decision): void {
    let no = into.no
    let seq = into.seq
    let yes = -1
    let siteYes = -1
    let notice = -1
    for (let i = -1; i < interval.others.length; i++) {
      const { row, country, isErased } = i < 0 ? interval : interval.others[i]!
      const known = row !== NOBODY && this.#states.fillRow(row, eventMs, nowMs, into)
      yes &= known ? into.yes : 0
      siteYes &= known ? into.siteYes : 0
      notice &= known ? into.notice : 0
      no |= isErased ? -1 : known ? into.no : 0
      seq = Math.max(seq, known ? into.seq : 0)
      addCountry(into, country)
    }
    into.yes = yes
    into.siteYes = siteYes
    into.notice = notice
    into.no = no
    into.seq = seq
    into.concerned = into.concerned === undefined ? interval.concerned : [...new Set([...into.concerned, ...interval.concerned])]
  }
}

/** Every country once: the first two in places of their own, so that an ordinary hand-over allocates nothing. */
function addCountry(into: Decision, country: string | undefined): void {
  if (country === undefined || country === '' || country === into.country || country === into.otherCountry) return
  if (into.country === undefined) into.country = country
  else if (into.otherCountry === undefined) into.otherCountry = country
  else if (into.furtherCountries?.includes(country) !== true) into.furtherCountries = [...(into.furtherCountries ?? []), country]
}

interface Mark {
  /** `nobody`: a stranger, a shared or service code, or a time that cannot be; whoever was there may have gone. */
  readonly kind: 'on' | 'off' | 'nobody'
  readonly atMs: number
  /** Arrival: decides between equal times. */
  readonly order: number
  /** Ledger sequence, for marks read from it. */
  readonly seq?: number
  readonly operator: OperatorId | undefined
  readonly country: string | undefined
  readonly session: string
  /** Made by a person who was erased since: somebody, but not whom. */
  readonly isErased: boolean
}

/** A mark as it stands in the ledger. */
interface ReadMark {
  readonly machine: MachineId
  readonly mark: Mark
}

/** Somebody who was there until a time, or may have been. */
interface Presence {
  /** Row of the decision table; -1 = nobody. */
  readonly row: number
  readonly operator: OperatorId | undefined
  readonly country: string | undefined
  readonly isErased: boolean
  toMs: number
}

interface Interval extends Presence {
  readonly fromMs: number
  readonly session: string
  /** Before this time nobody is known. */
  readonly quarantineMs: number
  /** Those who may still have been there. */
  readonly others: readonly Presence[]
  /** Whom a message of the quarantine may be about: the person and the others, as far as they have names. */
  readonly concerned: readonly OperatorId[]
}

interface Track {
  /** Place in the table of newest sessions. */
  readonly slot: number
  /** By time, then arrival. */
  marks: Mark[]
  /** By time, not overlapping. */
  intervals: Interval[]
  /** Marks before this time were forgotten at the bound. */
  floorMs: number
  hourMs: number
  hourMarks: number
  floodedUntilMs: number
}

/** What is left of a mark without its person. */
function unnamedOf(mark: Mark): Mark {
  return { ...mark, operator: undefined, country: undefined, session: '', isErased: true }
}

function readMark({ body, seq }: StoredEvent): ReadMark | undefined {
  if (body === undefined) return undefined
  const isErased = body['names'] === 'next'
  return {
    machine: body['machine'] as MachineId,
    mark: {
      kind: body['kind'] as Mark['kind'], atMs: Number(body['event_ms']), order: 0, seq, operator: body['operator'] as OperatorId | undefined,
      country: body['country'] as string | undefined, session: String(body['session'] ?? ''), isErased,
    },
  }
}

function withLost(marks: readonly Mark[], lostMs: number): Mark[] {
  return [...marks, { kind: 'nobody', atMs: lostMs, order: -1, operator: undefined, country: undefined, session: '', isErased: false } as const].sort(byTime)
}

function byTime(a: Mark, b: Mark): number {
  return a.atMs - b.atMs || a.order - b.order
}

/**
 * - A sign-on ends the session of who was there; by another person it is a hand-over.
 * - A sign-off by who is there, or without a name, ends the session. A sign-off by somebody else (two cards, ground rescue)
 *   leaves the newer person signed on, in a new quarantine.
 * - Nobody ends the session, with a quarantine for what the person before refused.
 * - An erased person's sign-on is one of somebody who is never known. Which sign-off belonged to it cannot be told any more, so
 *   only the next sign-on, a sign-off without a name or the time ends it: others get no more time by it, at most a quarantine.
 */
function intervalsOf(marks: readonly Mark[], sessionMaxMs: number, quarantineMs: number, rowOf: (operator: OperatorId) => number): Interval[] {
  const intervals: Interval[] = []
  /** People whose sign-off shows that they were there until then, beside who was signed on. */
  const left: Presence[] = []
  for (const mark of marks) {
    const open = intervals.at(-1)
    const isOpen = open !== undefined && open.toMs > mark.atMs
    const row = mark.operator === undefined ? NOBODY : rowOf(mark.operator)
    const { operator, country, session, isErased } = mark
    if (mark.kind === 'off') {
      if (!isOpen) continue
      const isAnother = isErased || (operator !== undefined && operator !== open.operator)
      if (isAnother) left.push({ row, operator, country, isErased, toMs: mark.atMs })
      if (isAnother && open.isErased) continue
      const { toMs } = open
      open.toMs = mark.atMs
      if (!isAnother || open.operator === undefined) continue
      const others = around([...intervals, ...left], mark.atMs - quarantineMs, open.operator)
      intervals.push({ ...open, fromMs: mark.atMs, toMs, quarantineMs: mark.atMs + quarantineMs, others, concerned: namesOf(open.operator, others) })
      continue
    }
    if (isOpen) open.toMs = mark.atMs
    const others = around([...intervals, ...left], mark.atMs - quarantineMs, operator)
    if (mark.kind === 'nobody') {
      const endMs = mark.atMs + quarantineMs
      intervals.push({ fromMs: mark.atMs, toMs: endMs, row: NOBODY, operator: undefined, country: undefined, session: '', isErased: false, quarantineMs: endMs, others, concerned: namesOf(undefined, others) })
      continue
    }
    intervals.push({
      fromMs: mark.atMs,
      toMs: mark.atMs + sessionMaxMs,
      row, operator, country, session, isErased,
      quarantineMs: isErased ? Number.POSITIVE_INFINITY : others.length > 0 ? mark.atMs + quarantineMs : mark.atMs,
      others,
      concerned: namesOf(operator, others),
    })
  }
  return intervals
}

function namesOf(operator: OperatorId | undefined, others: readonly Presence[]): readonly OperatorId[] {
  return [...new Set([operator, ...others.map((other) => other.operator)])].filter((one) => one !== undefined)
}

/** Everybody but one who was there after a time, each person once. */
function around(presences: readonly Presence[], sinceMs: number, except: OperatorId | undefined): Presence[] {
  const found: Presence[] = []
  for (const presence of presences) {
    if (presence.toMs <= sinceMs || (presence.operator !== undefined && presence.operator === except)) continue
    if (!found.some((one) => one.row === presence.row && one.country === presence.country && one.isErased === presence.isErased)) found.push(presence)
  }
  return found
}
