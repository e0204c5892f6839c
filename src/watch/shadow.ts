/**
 * A shadow run: a candidate set of rules is performed beside the active one on sampled live traffic, and what either makes of each
 * message is compared field by field. It keeps counts, never a value. Both are performed with the decision of
 * the message, purpose by purpose, as if nobody had to be asked anew, and without a memory of earlier messages (sticky cells, `emit`).
 */
import { shownFields, shownLeaves } from '../comparison.ts'
import { nobody, type Decision } from '../domain/consent.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Ending } from '../domain/live.ts'
import type { Output, Policy, Stream } from '../domain/policy.ts'
import type { Clock, Machine, Publish } from '../domain/ports.ts'
import { isRefusal, verdictName } from '../domain/verdict.ts'
import { hangsOnPerson } from '../explanation.ts'
import type { Schemas } from '../minimise/descriptor.ts'
import type { PseudonymKeys } from '../minimise/pseudonym.ts'
import { createRehearsal, type OutputPerformance, type Performance, type Rehearsal } from '../rehearsal.ts'
import { Backlog } from './backlog.ts'
import type { Observer } from './observer.ts'

export interface RuleSet {
  readonly policy: Policy
  readonly schemas: Schemas
}

export interface ShadowParts {
  readonly clock: Clock
  /** Of the registry; undefined when it is not there any more. */
  readonly machine: (id: string) => Machine | undefined
  /** Those of the gateway, so that pseudonyms can be compared. */
  readonly keys: PseudonymKeys
  /** Which streams a topic belongs to under a set, and the machine and fleet that it names. */
  readonly matcher: (streams: readonly Stream[]) => (topic: string) => { readonly streams: readonly Stream[]; readonly machine: string | undefined; readonly fleet: string | undefined } | undefined
  /** Takes the run off the traffic: its time is over, or it threw. */
  readonly end: (shadow: Shadow, why: Ending, error?: unknown) => void
  /** Told once, at the end. */
  readonly ended: (report: ShadowReport) => void
  readonly defer?: (work: () => void) => void
}

export interface ShadowRequest {
  readonly active: RuleSet
  readonly candidate: RuleSet
  /** 1 to 100. */
  readonly samplePercent: number
  readonly forMs: number
  /** Judged as if nobody were known, so that no count hangs on what a person said: a candidate could be written to ask for it. */
  readonly asNobody: boolean
  /** Name of the token. */
  readonly by: string
  /** `2 widened, 1 narrowed, 0 changed`. */
  readonly difference: string
  /** Purposes whose yes would end with the candidate, because it is wider than what was granted. */
  readonly asksAgain: readonly string[]
}

export interface ShadowReport {
  readonly candidate: { readonly hash: string; readonly policy: string }
  readonly active: { readonly hash: string; readonly policy: string }
  readonly by: string
  readonly stoppedBy: string | undefined
  readonly samplePercent: number
  readonly asNobody: boolean
  readonly startedAtMs: number
  readonly endsAtMs: number
  readonly endedAtMs: number | undefined
  readonly ended: Ending | undefined
  /** Messages that came, those that were compared, and those of the sample for which there was no time. */
  readonly seen: number
  readonly compared: number
  readonly skipped: number
  /** The most frequent first within an output and stream. */
  readonly rows: readonly ShadowRow[]
  /** Differences in places for which there was no line left. */
  readonly further: number
  readonly difference: string
  readonly asksAgain: readonly string[]
  /** A notice is for one policy: with another id in the candidate it counts as not given until it is. */
  readonly noticeAgain: boolean
}

/** How often something happened in one place. `machines` counts up to 5. */
export interface ShadowRow {
  /** Empty for what becomes of the whole message. */
  readonly output: string
  readonly stream: string
  /** Path of a field or name of a point; empty when it is about the whole message. */
  readonly field: string
  readonly what: ShadowFinding
  /** Why the other set did not send it, as a verdict; empty where that says nothing. */
  readonly reason: string
  readonly count: number
  readonly machines: number
  /** It could tell what a person said. */
  readonly hangsOnPerson: boolean
}

/** Of messages: `same`, `changed`, `only_active`, `only_candidate`, `other_topic`, `refused_by_…`. Of fields: `only_…`, `different`. */
export type ShadowFinding = 'same' | 'changed' | 'only_active' | 'only_candidate' | 'other_topic' | 'different' | 'refused_by_active' | 'refused_by_candidate'

/** Machines of a row are counted so far. */
export const FEW_MACHINES = 5

export class Shadow implements Observer {
  readonly #parts: ShadowParts
  readonly #request: ShadowRequest
  readonly #active: Side
  readonly #candidate: Side
  readonly #map: (decision: Readonly<Decision>) => Decision
  readonly #personal: ReadonlySet<string>
  readonly #backlog: Backlog<Sample>
  readonly #rows = new Map<string, Row>()
  readonly #startedAtMs: number
  #endedAtMs: number | undefined
  #ended: Ending | undefined
  #stoppedBy: string | undefined
  #phase = 0
  #seen = 0
  #compared = 0
  #skipped = 0
  #further = 0

  constructor(request: ShadowRequest, parts: ShadowParts) {
    this.#parts = parts
    this.#request = request
    this.#startedAtMs = parts.clock.now()
    this.#active = sideOf(request.active, parts)
    this.#candidate = sideOf(request.candidate, parts)
    this.#map = decisionMap(request.active.policy, request.candidate.policy)
    this.#personal = new Set(request.asNobody ? [] : [request.active.policy, request.candidate.policy].flatMap((policy) => policy.outputs.filter((output) => hangsOnPerson(policy, output)).map(({ id }) => id)))
    this.#backlog = new Backlog<Sample>({ monotonic: () => parts.clock.monotonic(), work: (sample) => this.#compare(sample), failed: (error) => parts.end(this, 'failed', error), defer: parts.defer })
  }

  decided(publish: Publish, stream: Stream, decision: Readonly<Decision>): void {
    this.#sample(publish, stream, decision)
  }

  refused(publish: Publish, stream: Stream | undefined): void {
    // What one set refuses the other may take. Whose it is was not decided, so both are performed as if nobody were known.
    this.#sample(publish, stream, undefined)
  }

  rulesChanged(): void {
    this.#parts.end(this, 'rules')
  }

  ended(why: Ending): void {
    this.#backlog.close()
    this.#ended = why
    this.#endedAtMs = this.#parts.clock.now()
    this.#parts.ended(this.report())
  }

  /** Who ends it, told before it is ended. */
  stoppedBy(name: string): void {
    this.#stoppedBy = name
  }

  /** Ends by itself when its time is over; asked now and then, too, when nothing comes. */
  endIfOver(): boolean {
    const isOver = this.#ended === undefined && this.#parts.clock.now() >= this.#startedAtMs + this.#request.forMs
    if (isOver) this.#parts.end(this, 'over')
    return isOver
  }

  report(): ShadowReport {
    const { active, candidate, by, samplePercent, asNobody, forMs, difference, asksAgain } = this.#request
    const order = new Map([...active.policy.outputs, ...candidate.policy.outputs].map(({ id }, index) => [id as string, index]))
    return {
      candidate: { hash: candidate.policy.hash, policy: candidate.policy.id }, active: { hash: active.policy.hash, policy: active.policy.id },
      by, stoppedBy: this.#stoppedBy, samplePercent, asNobody, startedAtMs: this.#startedAtMs, endsAtMs: this.#startedAtMs + forMs, endedAtMs: this.#endedAtMs, ended: this.#ended,
      seen: this.#seen, compared: this.#compared, skipped: this.#skipped,
      rows: [...this.#rows.values()].map(({ seenAt, ...row }): ShadowRow => ({ ...row, machines: seenAt.size }))
        .sort((a, b) => (order.get(a.output) ?? -1) - (order.get(b.output) ?? -1) || a.stream.localeCompare(b.stream) || Number(a.field !== '') - Number(b.field !== '') || b.count - a.count),
      further: this.#further, difference, asksAgain, noticeAgain: active.policy.id !== candidate.policy.id,
    }
  }

  // -------------------------------------------------------------------------------------------------------------- sampling

  #sample(publish: Publish, stream: Stream | undefined, decision: Readonly<Decision> | undefined): void {
    if (this.endIfOver() || publish.isWill) return
    this.#seen++
    // A counter in golden steps: no rhythm of the terminals can make it meet the same machine each time.
    this.#phase = (this.#phase + GOLDEN) % 1
    if (this.#phase >= this.#request.samplePercent / 100) return
    const machine = this.#parts.machine(publish.machine)
    if (machine === undefined) return
    if (!this.#backlog.hasRoom) {
      this.#skipped++
      return
    }
    this.#backlog.add({ topic: publish.topic, payload: Uint8Array.from(publish.payload), receivedAtMs: publish.receivedAtMs, machine, stream, decision: { ...(this.#request.asNobody || decision === undefined ? nobodyAt(machine) : decision) } })
  }

  // ------------------------------------------------------------------------------------------------------------- comparing

  #compare(sample: Sample): void {
    const { machine, decision } = sample
    const stream = sample.stream ?? streamIn(this.#active, sample)
    const other = streamIn(this.#candidate, sample)
    if (stream === undefined && other === undefined) return
    this.#compared++
    const before = stream === undefined ? undefined : performed(this.#active, stream, sample, decision)
    const after = other === undefined ? undefined : performed(this.#candidate, other, sample, this.#map(decision))
    const name = (stream ?? other)?.id as string
    const count = (what: ShadowFinding, at: Partial<Place> = {}, hangs?: boolean): void => this.#count({ output: '', stream: name, field: '', what, reason: '', ...at }, machine, hangs)
    const [out, into] = [refusalOf(before), refusalOf(after)]
    if (out !== into) {
      if (into !== '') count('refused_by_candidate', { reason: into }, this.#isByPerson(this.#candidate, other, sample))
      if (out !== '') count('refused_by_active', { reason: out }, this.#isByPerson(this.#active, stream, sample))
    }
    const results = new Map<string, [OutputPerformance | undefined, OutputPerformance | undefined]>()
    for (const result of before?.outputs ?? []) results.set(result.output.id, [result, undefined])
    for (const result of after?.outputs ?? []) results.set(result.output.id, [results.get(result.output.id)?.[0], result])
    for (const [output, [one, two]] of results) {
      const [left, leaves] = [one?.sent, two?.sent]
      if (left === undefined && leaves === undefined) continue
      if (left === undefined) count('only_candidate', { output, reason: reasonOf(one, out) })
      else if (leaves === undefined) count('only_active', { output, reason: reasonOf(two, into) })
      else if (left.topic === leaves.topic && Buffer.compare(left.bytes, leaves.bytes) === 0 && stream?.message.name === other?.message.name) count('same', { output })
      else {
        const fields = this.#fields(left.bytes, stream as Stream, leaves.bytes, other as Stream)
        count(fields.length === 0 && left.topic === leaves.topic ? 'same' : 'changed', { output })
        if (left.topic !== leaves.topic) count('other_topic', { output })
        for (const [field, what] of fields) count(what, { output, field })
      }
    }
  }

  #fields(left: Uint8Array, stream: Stream, leaves: Uint8Array, other: Stream): [string, ShadowFinding][] {
    const before = leavesIn(this.#active, left, stream)
    const after = leavesIn(this.#candidate, leaves, other)
    const found = [...after.keys()].filter((field) => !before.has(field)).map((field): [string, ShadowFinding] => [field, 'only_candidate'])
    for (const [field, value] of before) {
      if (!after.has(field)) found.push([field, 'only_active'])
      else if (JSON.stringify(value) !== JSON.stringify(after.get(field))) found.push([field, 'different'])
    }
    return found
  }

  /** What only a minimiser finds wrong is found where an output is open, and that may be a yes. What the look at the message before finds is there for everybody. */
  #isByPerson({ set, rehearsal }: Side, stream: Stream | undefined, { payload }: Sample): boolean {
    if (stream === undefined || rehearsal.probe(stream.id, payload).code < 0) return false
    return set.policy.outputs.some(({ id, streams }) => this.#personal.has(id) && streams.some((source) => source.stream.id === stream.id))
  }

  #count(place: Place, machine: Machine, hangsOnPerson = this.#personal.has(place.output)): void {
    const key = `${place.output}\n${place.stream}\n${place.field}\n${place.what}\n${place.reason}`
    let row = this.#rows.get(key)
    if (row === undefined) {
      if (this.#rows.size >= LIMITS.shadowRows) {
        this.#further++
        return
      }
      this.#rows.set(key, (row = { ...place, count: 0, hangsOnPerson, seenAt: new Set() }))
    }
    row.hangsOnPerson ||= hangsOnPerson
    row.count++
    if (row.seenAt.size < FEW_MACHINES) row.seenAt.add(machine.id)
  }
}

interface Sample {
  readonly topic: string
  readonly payload: Uint8Array
  readonly receivedAtMs: number
  readonly machine: Machine
  /** Under the active set; undefined when it was refused before that was known. */
  readonly stream: Stream | undefined
  readonly decision: Decision
}

type Place = Pick<ShadowRow, 'output' | 'stream' | 'field' | 'what' | 'reason'>
interface Row extends Place {
  count: number
  hangsOnPerson: boolean
  /** At most FEW_MACHINES. */
  readonly seenAt: Set<string>
}

const GOLDEN = (Math.sqrt(5) - 1) / 2

/** Nobody known, at a machine as it is set. */
export function nobodyAt(machine: Machine): Decision {
  return { ...nobody(), collection: machine.operatorCollection === 'on' }
}

/** One of the two sets on the stage. */
interface Side {
  readonly set: RuleSet
  readonly rehearsal: Rehearsal
  readonly match: ReturnType<ShadowParts['matcher']>
}

function sideOf(set: RuleSet, { keys, matcher }: ShadowParts): Side {
  // The readable engine gives the same bytes and needs nothing compiled, so that a start costs the traffic no pause.
  return { set, rehearsal: createRehearsal(set.policy, { keys, engine: 'interpreted' }), match: matcher(set.policy.streams) }
}

/** The stream that a message would be of: by its topic, as for any message, and by the oneof member that it carries. Undefined where the set would not know it, or not from this machine. */
function streamIn({ rehearsal, match }: Side, { topic, payload, machine }: Sample): Stream | undefined {
  const matched = match(topic)
  if (matched === undefined || (matched.machine ?? machine.id) !== machine.id || (matched.fleet ?? machine.fleet) !== machine.fleet) return undefined
  if (matched.streams.length === 1 && matched.streams[0]?.case === undefined) return matched.streams[0]
  return matched.streams.find((stream) => {
    const { code, facts } = rehearsal.probe(stream.id, payload)
    return code >= 0 && facts.caseHolds
  })
}

function performed({ rehearsal }: Side, stream: Stream, { payload, machine, receivedAtMs }: Sample, decision: Decision): Performance {
  return rehearsal.perform({ stream: stream.id, payload, machine, receivedAtMs, decision })
}

function refusalOf(performance: Performance | undefined): string {
  if (performance === undefined) return 'no_stream'
  return isRefusal(performance.code) ? verdictName(performance.code) : ''
}

function reasonOf(result: OutputPerformance | undefined, refusal: string): string {
  if (refusal !== '') return refusal
  return result === undefined ? '' : verdictName(result.code)
}

function leavesIn({ set }: Side, bytes: Uint8Array, stream: Stream): Map<string, unknown> {
  return shownLeaves(shownFields(set.schemas.decode(stream.message.name, bytes), stream), stream)
}

/**
 * Bits of a decision are numbered by the purposes of the active set: here they are put in the places of the candidate's. A purpose
 * that the candidate adds has no answer; one that replaces others has every no that was said to them, and no yes.
 */
export function decisionMap(active: Policy, candidate: Policy): (decision: Readonly<Decision>) => Decision {
  const index = new Map(active.purposes.map((purpose) => [purpose.id, purpose.index]))
  const maskOf = (ids: readonly Output['purpose']['id'][]): number => ids.reduce((mask, id) => mask | (index.has(id) ? 1 << (index.get(id) as number) : 0), 0)
  const places = candidate.purposes.map(({ id, index: bit, replaces = [] }) => ({ bit: 1 << bit, own: maskOf([id]), no: maskOf([id, ...replaces]) }))
  // Told of the notice or not is said of a policy as a whole, so it holds for purposes that are new as well.
  return (decision) => {
    const mapped = { ...decision, yes: 0, siteYes: 0, no: 0, notice: 0 }
    for (const { bit, own, no } of places) {
      if ((decision.yes & own) !== 0) mapped.yes |= bit
      if ((decision.siteYes & own) !== 0) mapped.siteYes |= bit
      if ((decision.no & no) !== 0) mapped.no |= bit
      if (own === 0 ? decision.notice !== 0 : (decision.notice & own) !== 0) mapped.notice |= bit
    }
    return mapped
  }
}
