/**
 * What a set of rules tells that another does not, found by playing messages and looking at what leaves. It shares nothing with
 * difference.ts: two results of one output are compared as maps from messages, and the settings that no message shows one by one.
 */
import { Gate, gate, operatorFieldsAllowed } from '../../src/domain/basis.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import type { Emit, Output, Policy, Stream } from '../../src/domain/policy.ts'
import { decodeTree, isTree, type Tree } from '../../src/minimise/tree.ts'
import { createRehearsal, machineOf, offlineKeys, type Rehearsal } from '../../src/rehearsal.ts'
import { basisOf, PEOPLE } from './tables.ts'
import { NOON } from './messages.ts'

/** What one output sent of one message: its topic and bytes. Undefined = nothing. */
export type Sent = string | undefined

export interface Case {
  readonly country: string | undefined
  readonly operatorCountry: string | undefined
  readonly person: string
  readonly labels: Readonly<Record<string, string>>
  decision(policy: Policy): Decision
}

/** Every person in every country, at machines with and without labels; operators at home and from elsewhere. */
export function casesIn(countries: readonly (string | undefined)[]): readonly Case[] {
  return countries.flatMap((country) => [undefined, ...countries.slice(0, 2)].flatMap((operatorCountry) => PEOPLE.flatMap(({ name, decision }) => [{}, { site: 'test' }].map((labels) => ({
    country, operatorCountry, person: name, labels,
    decision: ({ purposes }: Policy): Decision => {
      const all = (set: number): number => (set === 0 ? 0 : purposes.reduce((bits, { index }) => bits | (1 << index), 0))
      const bits = { yes: all(decision.yes), siteYes: all(decision.siteYes), no: all(decision.no), notice: all(decision.notice) }
      return { ...nobody(), ...decision, ...bits, ...(decision.known ? { operator: 'P7' as never, session: '0123456789abcdef0123456789abcdef', country: operatorCountry } : {}) }
    },
  })))))
}

export class Stage {
  readonly policy: Policy
  readonly #rehearsal: Rehearsal
  readonly #results = new Map<string, ReadonlyMap<string, readonly Sent[]>>()

  constructor(policy: Policy) {
    this.policy = policy
    this.#rehearsal = createRehearsal(policy, { keys: offlineKeys(), engine: 'interpreted' })
  }

  /** Output -> what it sent of each message. */
  sent(stream: Stream, payloads: readonly Uint8Array[], one: Case): ReadonlyMap<string, readonly Sent[]> {
    const key = `${stream.id}|${this.acts(one)}`
    let results = this.#results.get(key)
    if (results === undefined) this.#results.set(key, (results = this.#play(stream, payloads, one)))
    return results
  }

  #play(stream: Stream, payloads: readonly Uint8Array[], one: Case): ReadonlyMap<string, readonly Sent[]> {
    const decision = one.decision(this.policy)
    const machine = machineOf({ id: 'SN-1', labels: one.labels, country: one.country, operatorCollection: decision.collection ? 'on' : 'off' })
    const all = new Map<string, Sent[]>(this.policy.outputs.map((output) => [output.id, []]))
    for (const payload of payloads) {
      const played = this.#rehearsal.perform({ stream: stream.id, payload, machine, receivedAtMs: NOON + 3_600_000, decision: { ...decision } })
      const sent = new Map(played.outputs.map((made) => [made.output.id as string, made.sent]))
      for (const [output, list] of all) {
        const made = sent.get(output)
        list.push(made === undefined ? undefined : `${made.topic} ${Buffer.from(made.bytes).toString('hex')}`)
      }
    }
    return all
  }

  /** All that a case can change: how each output stands, and what conditions read of the machine. Cases that are alike are played once. */
  acts(one: Case): string {
    const decision = one.decision(this.policy)
    const machine = this.policy.outputs.some((output) => output.streams.some((source) => /\b(machine|country)\b/.test(source.when?.text ?? '')))
    return `${machine ? `${one.country} ${JSON.stringify(one.labels)}` : ''} ${this.policy.outputs.map((output) => {
      const entry = output.basis ?? basisOf(this.policy.basis, output.purpose.id, one.country, decision.known ? one.operatorCountry : undefined)
      const state = gate(output, entry, decision)
      return state === Gate.closed || entry === undefined ? 'x' : `${state}${operatorFieldsAllowed(output, entry, decision) ? 'o' : ''}${entry.basis === 'legal_obligation' ? 'l' : ''}`
    }).join()} ${decision.known} ${decision.collection}`
  }
}

/**
 * Why `now` tells more than `old` did, or undefined. It tells nothing more when each message that leaves did so before, whatever was
 * alike is alike (so that `now` can be worked out from `old`), and no field is there that never was.
 * @param named  top-level numbers of fields that the old rules name: of a zero nothing is written, and a constant's first sight is no news
 */
export function toldMore(old: readonly Sent[], now: readonly Sent[], stream: Stream, named: ReadonlySet<number>): string | undefined {
  const images = new Map<Sent, { readonly result: Sent; readonly at: number }>()
  const before = new Set<string>()
  for (const result of new Set(old)) for (const path of pathsIn(result, stream)) before.add(path)
  for (const [at, result] of now.entries()) {
    const was = old[at]
    if (was === undefined && result !== undefined) return `message ${at} leaves and did not`
    const image = images.get(was)
    if (image === undefined) images.set(was, { result, at })
    else if (image.result !== result) return `messages ${image.at} and ${at} were alike and are not`
    for (const path of pathsIn(result, stream)) if (!before.has(path) && !named.has(Number(path.split('.')[0]))) return `message ${at} has the field ${path}`
  }
  return undefined
}

const pathsBySent = new Map<string, readonly string[]>()

/** Numbers of the fields on the wire, `5.2` for one inside a message. */
function pathsIn(sent: Sent, { message }: Stream): readonly string[] {
  if (sent === undefined) return []
  const hex = sent.slice(sent.lastIndexOf(' ') + 1)
  const key = `${message.name} ${hex}`
  let paths = pathsBySent.get(key)
  if (paths === undefined) {
    if (pathsBySent.size > 50_000) pathsBySent.clear()
    const bytes = Buffer.from(hex, 'hex')
    paths = [...walk(decodeTree(message, bytes, 0, bytes.length), '')]
    pathsBySent.set(key, paths)
  }
  return paths
}

function* walk(tree: Tree, prefix: string): Iterable<string> {
  for (const [number, slot] of tree.slots) {
    yield `${prefix}${number}`
    for (const one of Array.isArray(slot) ? slot : [slot]) if (isTree(one as Tree)) yield* walk(one as Tree, `${prefix}${number}.`)
  }
}

/** Numbers of the fields that an output names of a stream, in any branch. */
export function namedBy(policy: Policy, output: string, stream: Stream): ReadonlySet<number> {
  const source = policy.outputs.find((one) => one.id === output)?.streams.find((one) => one.stream.id === stream.id)
  return new Set((source?.fields ?? []).flatMap((rule) => {
    const paths = rule.target.kind === 'field' ? [rule.path] : [rule.target.point.lat, rule.target.point.lon, rule.target.point.dlat, rule.target.point.dlon, rule.target.point.dt]
    return paths.flatMap((path) => (path === undefined ? [] : [stream.message.byName.get(path.split('.')[0] as string)?.number ?? -1]))
  }))
}

// ---------------------------------------------------------------------------------------------------------------- settings

/** What is wider in the settings around the messages: who, how long, which way, who counts as there. Undefined = nothing. */
export function settingsWider(old: Policy, next: Policy): string | undefined {
  const [was, is] = [old.subject, next.subject]
  if (is.sessionMaxMs > was.sessionMaxMs) return 'subject.session_max is longer'
  if (is.sessionMaxMs < was.sessionMaxMs && next.outputs.some((output) => opensWithNobody(next, output))) return 'subject.session_max is shorter, and a no is forgotten'
  if (is.lateLimitMs > was.lateLimitMs) return 'subject.late_limit is longer'
  if (is.quarantineMs < was.quarantineMs) return 'subject.handover_quarantine is shorter'
  for (const part of ['sessions', 'consent'] as const) if (plain(was[part]) !== plain(is[part])) return `subject.${part} is another`
  for (const purpose of old.purposes) {
    const after = next.purposes.find((one) => one.id === purpose.id)
    if (after !== undefined && (purpose.replaces ?? []).some((one) => after.replaces?.includes(one) !== true)) return `${purpose.id} forgets a no`
  }
  for (const stream of next.streams) {
    const before = old.streams.find((one) => one.id === stream.id)
    if (before === undefined || !next.outputs.some((output) => output.streams.some((one) => one.stream.id === stream.id))) continue
    const parts = ({ topic, message, case: member, operatorField, time }: Stream): string => plain({ topic, message: message.name, member, operatorField, time })
    if (parts(before) !== parts(stream)) return `the stream ${stream.id} takes other messages, or reads them otherwise`
    if (before.machineField !== undefined && stream.machineField !== before.machineField) return `the stream ${stream.id} refuses fewer machines`
  }
  for (const output of next.outputs) {
    const before = old.outputs.find((one) => one.id === output.id)
    const wider = before === undefined ? (canSend(output, next) ? 'is new' : undefined) : outputWider(before, output)
    if (wider !== undefined) return `${output.id}: ${wider}`
  }
  return undefined
}

/** Whether an output is open with nobody known where it is closed for somebody who is known; no message shows that. */
function opensWithNobody({ basis }: Policy, output: Output): boolean {
  const own = { ...output, purpose: { ...output.purpose, index: 0 } }
  const places = ['DE', 'FR', 'US', 'US-CA', 'GB', 'CN', 'BR', undefined]
  return places.some((machine) => places.some((operator) => {
    const here = output.basis ?? basisOf(basis, output.purpose.id, machine, undefined)
    const theirs = output.basis ?? basisOf(basis, output.purpose.id, machine, operator)
    return gate(own, here, { ...nobody(), collection: true }) !== Gate.closed && PEOPLE.some(({ decision }) => decision.known && gate(own, theirs, decision) === Gate.closed)
  }))
}

function canSend(output: Output, { basis }: Policy): boolean {
  const bases = output.basis !== undefined ? [output.basis] : [...basis.entries.values()].flatMap((row) => row.get(output.purpose.id) ?? [])
  return bases.some((entry) => entry.basis !== 'forbidden')
}

function outputWider(old: Output, next: Output): string | undefined {
  const who = ({ id, role, region, group, onSite }: Output['recipient']): string => plain({ id, role, region, group }) + (onSite ? '' : ', away')
  if (who(old.recipient) !== who(next.recipient)) return 'somebody else gets it'
  if ([...next.recipient.transfers.keys()].some((place) => !old.recipient.transfers.has(place))) return 'a transfer more'
  if (next.purpose.id !== old.purpose.id) return 'it is for another purpose'
  const longer = (a: number | undefined, b: number | undefined): boolean => (b ?? Infinity) > (a ?? Infinity)
  if (longer(old.recipientKeepsMs, next.recipientKeepsMs)) return 'it is kept for longer'
  if (longer(old.to.sendWithinMs, next.to.sendWithinMs)) return 'it waits for longer'
  if (next.to.via.some((one) => !old.to.via.includes(one))) return 'it has one way more'
  if (next.to.retain && !old.to.retain) return 'it is retained'
  if (next.arrivalVisible && !old.arrivalVisible) return 'arrival tells the time'
  if (next.reach === 'any' && old.reach === 'site') return 'it leaves the site'
  for (const source of next.streams) {
    const before = old.streams.find((one) => one.stream.id === source.stream.id)
    if (before !== undefined && emitsMore(before.emit, source.emit)) return `${source.stream.id} is sent more often, or sooner`
  }
  return undefined
}

function plain(value: unknown): string {
  return JSON.stringify(value, (name, one: unknown) => (name === 'ast' ? undefined : one instanceof Map ? Object.fromEntries(one) : one)) ?? ''
}

// -------------------------------------------------------------------------------------------------------------------- emit

/** Event minute, and the value of every number and field that `emit` can name. Ties in the value and gaps in time occur. */
const EVENTS: readonly (readonly (readonly [minute: number, value: number])[])[] = [
  [[0, 1], [1, 3], [4, 3], [7, 2], [16, 2], [17, 5], [29, 1], [31, 1], [44, 4], [61, 4], [62, 0], [95, 2], [121, 2], [180, 1], [190, 7]],
  [[3, 5], [14, 4], [15, 3], [30, 2], [45, 1], [46, 1], [59, 1], [60, 9], [74, 1], [75, 9], [119, 3], [719, 3], [721, 1]],
  Array.from({ length: 60 }, (_, at) => [at * 3, (at * 7) % 5] as const),
]

/** Whether some message leaves under `next` that did not under `old`, or leaves at a finer moment. */
function emitsMore(old: Emit | undefined, next: Emit | undefined): boolean {
  if (plain(old) === plain(next)) return false
  return EVENTS.some((events) => {
    const before = emitted(old, events)
    return [...emitted(next, events)].some(([event, at]) => !before.has(event) || (at === events[event]?.[0] && before.get(event) !== at))
  })
}

/** [rules-language 4.8] Event -> minute at which it leaves. On a change of the one value, judged against what left last. */
function emitted(emit: Emit | undefined, events: readonly (readonly [minute: number, value: number])[]): ReadonlyMap<number, number> {
  const out = new Map<number, number>()
  if (emit === undefined) return new Map(events.map(([minute], at) => [at, minute]))
  const every = emit.everyMs === undefined ? undefined : emit.everyMs / 60_000
  let [last, window, kept]: [number | undefined, number, number | undefined] = [undefined, -1, undefined]
  for (const [at, [minute, value]] of events.entries()) {
    if (every === undefined) {
      if (last !== value) out.set(at, minute)
      last = value
      continue
    }
    const here = Math.floor(minute / every)
    if (here !== window) {
      if (kept !== undefined) last = events[kept]?.[1]
      kept = undefined
      window = here
    }
    if (emit.onChange.length > 0 && value === last && kept === undefined) continue
    const before = kept === undefined ? undefined : (events[kept] as readonly [number, number])
    if (before !== undefined && (emit.take === 'first' || (typeof emit.take === 'object' && before[1] > value))) continue
    if (kept !== undefined) out.delete(kept)
    kept = at
    out.set(at, emit.hold || emit.take !== 'first' ? (here + 1) * every : minute)
  }
  return out
}
