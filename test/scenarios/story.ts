/**
 * How a scenario is written: one line for each thing that happens, in plain words, with its time; below a message, after an arrow,
 * what leaves because of it. The grammar is strict: a line that it does not know is an error, so that no expectation is lost by a
 * typing mistake.
 *
 *   08:00 Anna signs on at Lyon-1                 the gateway's clock shows eight (UTC); `day 2 08:00` is the next day, 08:00:30 has seconds
 *   12:00 Lyon-1 sends a status dated 08:05       the gateway gets it at noon; the terminal measured it at five past eight
 *         -> service-cloud: 10 km cell; site-planning: 500 m cell
 *
 * An output that is not named after the arrow gets nothing. What is not named of an output is not in it: `service-cloud: 10 km cell`
 * has no operator. Of pseudonyms only it counts whether they are the same: `operator a` is the same wherever it stands in one scenario
 * and output, and another than `operator b`. Where there is no arrow, nothing is asked.
 */
import type { ConsentState } from '../../src/domain/consent.ts'

export interface Story {
  readonly day: number
  readonly lines: readonly Line[]
}

export interface Line {
  readonly text: string
  readonly atMs: number
  readonly act: Act
  /** Undefined: nothing is asked. */
  readonly expect: readonly Expected[] | 'refused' | undefined
}

/** What one output gets: for every message the terms that describe it, in the order of the words in TERM. */
export interface Expected {
  readonly output: string
  readonly messages: readonly (readonly string[])[]
}

export type Person = 'Anna' | 'Ben' | 'Carla' | 'Tom' | 'Feng'

export type Act =
  | { readonly do: 'sign'; readonly op: 'SIGN_ON' | 'SIGN_OFF' | 'KEY_OFF' | 'SIGN_ON_FAILED'; readonly card: string; readonly machine: string; readonly datedMs: number | undefined; readonly isTimeless: boolean }
  | { readonly do: 'send'; readonly what: 'status' | 'charge' | 'track' | 'tilt' | 'trapped'; readonly machine: string; readonly claims: string | undefined; readonly card: string; readonly datedMs: number | undefined; readonly untilMs: number | undefined; readonly isTimeless: boolean }
  | { readonly do: 'say'; readonly person: Person; readonly purpose: string; readonly state: Said; readonly by: 'person' | 'agent'; readonly untilMs: number | undefined; readonly givenMs: number | undefined; readonly names: 'newest' | 'older' | undefined }
  | { readonly do: 'choose'; readonly choice: string; readonly card: string; readonly purpose: string; readonly machine: string }
  | { readonly do: 'notice'; readonly person: Person }
  | { readonly do: 'setting'; readonly machine: string; readonly to: 'on' | 'off' | 'unknown' }
  | { readonly do: 'country'; readonly machine: string; readonly to: string | undefined }
  | { readonly do: 'remove'; readonly machine: string }
  | { readonly do: 'card'; readonly card: string; readonly to: Person | undefined }
  | { readonly do: 'rules'; readonly which: RulesName }
  | { readonly do: 'restart' | 'damage' | 'away' | 'back' | 'clock' }
  | { readonly do: 'erase'; readonly person: Person }

type Said = Extract<ConsentState, 'granted' | 'local_only' | 'refused' | 'withdrawn' | 'objected' | 'requested'>
export type RulesName = 'first' | 'wider' | 'coarser' | 'next'

/** All machines of the scenarios, by where they are registered. */
export const MACHINES: Readonly<Record<string, string | undefined>> = {
  'Lyon-1': 'FR', 'Lyon-2': 'FR', Munich: 'DE', Leeds: 'GB', Austin: 'US-TX', Hollywood: 'US-CA', Changsha: 'CN',
  /** Nobody said where it is. */
  Yard: undefined,
  /** A country that the rules have no entry for. */
  Recife: 'BR',
}

/** All people and where they are employed. */
export const PEOPLE: Readonly<Record<Person, string>> = { Anna: 'FR', Ben: 'DE', Carla: 'US-CA', Tom: 'US-TX', Feng: 'CN' }

const PURPOSES: Readonly<Record<string, string>> = { service: 'service.operate', statistics: 'improve.statistics', feedback: 'personalise', security: 'security.fraud' }

const CARD = String.raw`(Anna|Ben|Carla|Tom|Feng|card \w+|the depot code|the technician|a stranger)`
const PERSON = String.raw`(Anna|Ben|Carla|Tom|Feng)`
const MACHINE = String.raw`([A-Z][a-z]+(?:-\d)?)`
const PURPOSE = String.raw`(service|statistics|feedback|security)`
const TIME = String.raw`((?:day \d+ )?\d\d:\d\d(?::\d\d)?|1970)`

type Read = (found: readonly (string | undefined)[], time: (text: string) => number) => Act

const SAYINGS: readonly (readonly [string, Said])[] = [
  [`${PERSON} refuses ${PURPOSE}`, 'refused'],
  [`${PERSON} withdraws ${PURPOSE}`, 'withdrawn'],
  [`${PERSON} objects to ${PURPOSE}`, 'objected'],
  [`${PERSON} is asked about ${PURPOSE}`, 'requested'],
]

const GRAMMAR: readonly (readonly [RegExp, Read])[] = [
  rule(`${CARD} signs on at ${MACHINE}(?: dated ${TIME})?`, ([card, machine, dated], time) => sign('SIGN_ON', card!, machine!, dated, time)),
  rule(`${CARD} signs on at ${MACHINE} without a time`, ([card, machine], time) => ({ ...sign('SIGN_ON', card!, machine!, undefined, time), isTimeless: true })),
  rule(`${CARD} signs off at ${MACHINE}(?: dated ${TIME})?`, ([card, machine, dated], time) => sign('SIGN_OFF', card!, machine!, dated, time)),
  rule(`${CARD} fails to sign on at ${MACHINE}`, ([card, machine], time) => sign('SIGN_ON_FAILED', card!, machine!, undefined, time)),
  rule(`the key of ${MACHINE} is turned off(?: dated ${TIME})?`, ([machine, dated], time) => sign('KEY_OFF', '', machine!, dated, time)),
  rule(`${MACHINE} sends a (status|charging record)(?: naming ${CARD})?(?: as ${MACHINE})?(?:( without a time)| dated ${TIME})?`, ([machine, what, card, claims, timeless, dated], time) => ({
    do: 'send', what: what === 'status' ? 'status' : 'charge', machine: machine!, claims, card: cardOf(card ?? ''), datedMs: dated === undefined ? undefined : time(dated), untilMs: undefined, isTimeless: timeless !== undefined,
  })),
  rule(`${MACHINE} sends a track from ${TIME} to ${TIME}`, ([machine, from, to], time) => ({ do: 'send', what: 'track', machine: machine!, claims: undefined, card: '', datedMs: time(from!), untilMs: time(to!), isTimeless: false })),
  rule(`${MACHINE} raises the alarm: (tilt|somebody is trapped)(?: naming ${CARD})?(?: dated ${TIME})?`, ([machine, kind, card, dated], time) => ({
    do: 'send', what: kind === 'tilt' ? 'tilt' : 'trapped', machine: machine!, claims: undefined, card: cardOf(card ?? ''), datedMs: dated === undefined ? undefined : time(dated), untilMs: undefined, isTimeless: false,
  })),
  rule(`${PERSON} says yes to ${PURPOSE}(?: until ${TIME})?( on this site only)?`, ([person, purpose, until, local], time) => ({
    do: 'say', person: person as Person, purpose: PURPOSES[purpose!]!, state: local === undefined ? 'granted' : 'local_only', by: 'person',
    untilMs: until === undefined ? undefined : time(until), givenMs: undefined, names: undefined,
  })),
  rule(`a yes of ${PERSON} to ${PURPOSE} arrives, given at ${TIME}(?:, naming (what it replaces|an older state))?`, ([person, purpose, given, names], time) => ({
    do: 'say', person: person as Person, purpose: PURPOSES[purpose!]!, state: 'granted', by: 'person', untilMs: undefined, givenMs: time(given!),
    names: names === undefined ? undefined : names === 'an older state' ? 'older' : 'newest',
  })),
  ...SAYINGS.flatMap(([text, state]) => [
    rule(text, ([person, purpose]) => ({ do: 'say', person: person as Person, purpose: PURPOSES[purpose!]!, state, by: 'person', untilMs: undefined, givenMs: undefined, names: undefined })),
    rule(`an agent writes down that ${text}`, ([person, purpose]) => ({ do: 'say', person: person as Person, purpose: PURPOSES[purpose!]!, state, by: 'agent', untilMs: undefined, givenMs: undefined, names: undefined })),
  ]),
  rule(`${CARD} chooses (yes|no) to ${PURPOSE} on the terminal of ${MACHINE}`, ([card, choice, purpose, machine]) => ({ do: 'choose', choice: choice === 'yes' ? 'GRANT' : 'REFUSE', card: cardOf(card!), purpose: PURPOSES[purpose!]!, machine: machine! })),
  rule(`${PERSON} is given the notice`, ([person]) => ({ do: 'notice', person: person as Person })),
  rule(`the device setting of ${MACHINE} becomes (on|off|unknown)`, ([machine, to]) => ({ do: 'setting', machine: machine!, to: to as 'on' })),
  rule(`${MACHINE} is registered in ([A-Z]{2}(?:-[A-Z]+)?|no country)`, ([machine, to]) => ({ do: 'country', machine: machine!, to: to === 'no country' ? undefined : to })),
  rule(`${MACHINE} is struck off the registry`, ([machine]) => ({ do: 'remove', machine: machine! })),
  rule(`(card \\w+) belongs to ${PERSON} from now on`, ([card, to]) => ({ do: 'card', card: cardOf(card!), to: to as Person })),
  rule('(card \\w+) is lost', ([card]) => ({ do: 'card', card: cardOf(card!), to: undefined })),
  rule('the (first|wider|coarser|next) rules become active', ([which]) => ({ do: 'rules', which: which as RulesName })),
  rule('the gateway restarts', () => ({ do: 'restart' })),
  rule('somebody changes a byte of the ledger, and the gateway restarts', () => ({ do: 'damage' })),
  rule('all recipients go away', () => ({ do: 'away' })),
  rule('all recipients come back', () => ({ do: 'back' })),
  rule('the gateway\'s clock has been set to this time', () => ({ do: 'clock' })),
  rule(`${PERSON} is erased`, ([person]) => ({ do: 'erase', person: person as Person })),
]

/** Words that describe a message, in the order in which they are written. */
const TERM = /^(?:\d+ (?:m|km) cell|exact position|operator [a-z]|machine [a-z]|recorded)$/

/** Reads a story. Throws an Error that names the line which is not understood. */
export function readStory(text: string): Story {
  let day = Date.UTC(2026, 10, 23)
  const lines: Line[] = []
  let nowMs = Number.NEGATIVE_INFINITY
  for (const line of text.split('\n').map((one) => one.trim()).filter((one) => one !== '')) {
    const date = /^on (\d{4}-\d\d-\d\d):$/.exec(line)?.[1]
    if (date !== undefined && lines.length === 0) {
      day = Date.parse(date)
      continue
    }
    const before = lines.at(-1)
    if (line.startsWith('-> ')) {
      if (before === undefined || before.expect !== undefined) throw new Error(`An arrow needs an event of its own: ${line}`)
      lines[lines.length - 1] = { ...before, expect: readExpected(line.slice(3)) }
      continue
    }
    const [, when, what] = new RegExp(`^${TIME} (.+)$`).exec(line) ?? []
    if (when === undefined || what === undefined) throw new Error(`No time: ${line}`)
    const time = (one: string): number => timeOf(one, day)
    const act = readAct(what, time)
    const atMs = time(when)
    if (atMs < nowMs && act.do !== 'clock') throw new Error(`Time goes back: ${line}`)
    nowMs = atMs
    lines.push({ text: line, atMs, act, expect: undefined })
  }
  if (lines.every((line) => line.expect === undefined)) throw new Error('Nothing is expected.')
  return { day, lines }
}

function readAct(what: string, time: (text: string) => number): Act {
  for (const [pattern, read] of GRAMMAR) {
    const found = pattern.exec(what)
    if (found === null) continue
    const act = read(found.slice(1), time)
    if ('machine' in act && !(act.machine in MACHINES)) throw new Error(`No such machine: ${what}`)
    return act
  }
  throw new Error(`Not understood: ${what}`)
}

function readExpected(text: string): Line['expect'] {
  if (text === 'nothing') return []
  if (text === 'not accepted') return 'refused'
  return text.split('; ').map((one) => {
    const [, output, messages] = /^([a-z-]+): (.+)$/.exec(one) ?? []
    if (output === undefined || messages === undefined) throw new Error(`Not understood: ${one}`)
    return { output, messages: messages.split(' | ').map((message) => message.split(', ').map((term) => {
      if (!TERM.test(term)) throw new Error(`Not understood: ${term}`)
      return term
    })) }
  })
}

function timeOf(text: string, day: number): number {
  if (text === '1970') return 1_000
  const [, days, hour, minute, second] = /^(?:day (\d+) )?(\d\d):(\d\d)(?::(\d\d))?$/.exec(text)!
  return day + ((Number(days ?? 1) - 1) * 86_400 + Number(hour) * 3_600 + Number(minute) * 60 + Number(second ?? 0)) * 1_000
}

function sign(op: Extract<Act, { do: 'sign' }>['op'], card: string, machine: string, dated: string | undefined, time: (text: string) => number): Extract<Act, { do: 'sign' }> {
  return { do: 'sign', op, card: cardOf(card), machine, datedMs: dated === undefined ? undefined : time(dated), isTimeless: false }
}

/** What the keypad reads. Everybody has a card of their own from the start. */
export function cardOf(who: string): string {
  if (who === '') return ''
  if (who === 'the depot code') return 'PIN-0000'
  if (who === 'the technician') return 'MASTER-9'
  if (who === 'a stranger') return 'CARD-9999'
  return who.startsWith('card ') ? who.slice('card '.length) : `CARD-${who}`
}

function rule(pattern: string, read: Read): readonly [RegExp, Read] {
  return [new RegExp(`^${pattern}$`), read]
}
