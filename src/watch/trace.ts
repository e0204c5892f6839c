/**
 * A trace: for one machine or one operator and a limited time, what became of each message and why, field by field. Values are kept only
 * where they were asked for by a role that may read consent, and forgotten with the consent of the person they are about.
 *
 * To everybody else a message is explained as if nobody were known at the machine, with what would be done with a yes beside it. That is
 * made of the message and the rules alone, so nothing in it can tell what the person said, or whether there is one.
 *
 * Shown is what is made of each message: what `emit`, a quota or a missing subscriber does to it afterwards is not.
 */
import { shownFields } from '../comparison.ts'
import type { Decision } from '../domain/consent.ts'
import { GatewayError } from '../domain/errors.ts'
import type { OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Ending, TraceEntry, TraceField, TraceOutput, TracePage, TraceView } from '../domain/live.ts'
import type { Stream } from '../domain/policy.ts'
import type { Clock, Machine, Publish, SubjectStore } from '../domain/ports.ts'
import { Verdict, verdictName } from '../domain/verdict.ts'
import { actionOf, changes, gateText, hangsOnPerson, planLines, ruleAt, type Change, type Pair, type Standing } from '../explanation.ts'
import type { PseudonymKeys } from '../minimise/pseudonym.ts'
import { createRehearsal, type OutputPerformance, type Rehearsal } from '../rehearsal.ts'
import { Backlog } from './backlog.ts'
import type { Observer, Observers } from './observer.ts'
import { nobodyAt, type RuleSet } from './shadow.ts'

export interface TraceParts {
  readonly clock: Clock
  readonly machine: (id: string) => Machine | undefined
  /** Those of the gateway: a pseudonym is shown as it leaves. */
  readonly keys: PseudonymKeys
  /** What is in force. */
  readonly rules: () => RuleSet | undefined
  readonly observers: Observers
  readonly failed: (error: unknown) => void
  /** Told once for each trace, however it ends. */
  readonly ended: (trace: TraceRequest, why: Ending) => void
  readonly defer?: (work: () => void) => void
}

export interface TraceRequest {
  /** Whose messages; one of the two. */
  readonly machine: string | undefined
  readonly operator: OperatorId | undefined
  readonly forMs: number
  readonly values: boolean
  /** Name and role of the token, which has at most one trace. */
  readonly by: string
  readonly role: string
  /** Whether the role may read consent. Values, and traces of an operator, need it. */
  readonly personal: boolean
}

/** All traces of a gateway, at most four. Holds what it saw in memory alone, for the hour that a trace may last and a minute more. */
export class Traces implements SubjectStore {
  readonly name = 'traces'
  readonly #parts: TraceParts
  #all: readonly Trace[] = []
  #lastId = 0
  /** Of the rules in force; made for the first trace, gone with the last. */
  #stage: { readonly set: RuleSet; readonly rehearsal: Rehearsal } | undefined

  constructor(parts: TraceParts) {
    this.#parts = parts
  }

  /**
   * Starts a trace; one that the same token has already ends.
   * @throws GatewayError TRACE-LIMIT  four others run
   */
  start(request: TraceRequest): TraceView {
    this.sweep()
    const own = this.#all.find((trace) => isOwn(trace, request))
    if (own !== undefined) this.#remove(own)
    if (this.#all.filter((trace) => trace.ending === undefined).length >= LIMITS.traces) throw new GatewayError('TRACE-LIMIT', `${LIMITS.traces} traces run already.`, 'Wait for one to end: each lasts an hour at most.')
    const over = this.#all.filter((trace) => trace.ending !== undefined)
    for (const old of over.slice(0, Math.max(0, over.length - LIMITS.traces + 1))) this.#remove(old)
    const trace = new Trace(++this.#lastId, request, this.#parts, () => this.#staged())
    this.#all = [...this.#all, trace]
    // What the first message would wait for is made now.
    this.#staged()
    this.#parts.observers.add(trace)
    return trace.view()
  }

  /** What a token's trace saw after a sequence number, at most 100 messages. @throws GatewayError UNKNOWN-TRACE */
  read(who: Pick<TraceRequest, 'by' | 'role'>, after: number): TracePage {
    this.sweep()
    return this.#ownOf(who).page(after)
  }

  /** Ends a token's trace and forgets what it saw. @throws GatewayError UNKNOWN-TRACE */
  stop(who: Pick<TraceRequest, 'by' | 'role'>): void {
    this.#remove(this.#ownOf(who))
  }

  /** Ends what is over, and forgets what nobody has fetched since. Every second or so. */
  sweep(): void {
    for (const trace of this.#all) {
      trace.endIfOver()
      if (trace.isStale()) this.#remove(trace)
    }
  }

  /** [GDPR Art. 7(3)] What was seen of a person goes; a trace goes on with what comes. */
  forget(about: { readonly operator?: OperatorId; readonly machine?: string }): number {
    return this.#all.reduce((sum, trace) => sum + trace.forget(about), 0)
  }

  locate(subject: OperatorId): { readonly records: number } {
    return { records: this.#all.reduce((sum, trace) => sum + trace.about(subject).length, 0) }
  }

  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    for (const trace of this.#all) for (const entry of trace.about(subject)) yield { store: this.name, ...entry }
  }

  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    return { erased: this.forget({ operator: subject }), held: 0 }
  }

  /** Nothing is held here: these are copies, and they go within the hour in any case. */
  hold(): void {}

  #ownOf(who: Pick<TraceRequest, 'by' | 'role'>): Trace {
    const own = this.#all.find((trace) => isOwn(trace, who))
    if (own === undefined) throw new GatewayError('UNKNOWN-TRACE', 'No trace of this token runs.', 'Start one: POST /v1/trace, or parapet trace --machine M.')
    return own
  }

  #remove(trace: Trace): void {
    this.#parts.observers.end(trace, 'asked')
    trace.forget({})
    this.#all = this.#all.filter((one) => one !== trace)
    if (this.#all.length === 0) this.#stage = undefined
  }

  #staged(): { readonly set: RuleSet; readonly rehearsal: Rehearsal } | undefined {
    const set = this.#parts.rules()
    if (set === undefined) return undefined
    if (this.#stage?.set.policy !== set.policy) this.#stage = { set, rehearsal: createRehearsal(set.policy, { keys: this.#parts.keys, engine: 'interpreted' }) }
    return this.#stage
  }
}

function isOwn({ request }: Trace, { by, role }: Pick<TraceRequest, 'by' | 'role'>): boolean {
  // A token that was ended and made again with another role does not read what the first one could.
  return request.by === by && request.role === role
}

/** So many messages in one answer. */
const PAGE = 100

interface Seen {
  readonly publish: Pick<Publish, 'payload' | 'receivedAtMs'>
  readonly machine: Machine
  readonly stream: Stream | undefined
  readonly decision: Decision
  readonly code: number
}

interface Kept {
  readonly entry: TraceEntry
  readonly bytes: number
  readonly machine: string
  readonly about: readonly OperatorId[]
}

class Trace implements Observer {
  readonly request: TraceRequest
  readonly #id: number
  readonly #parts: TraceParts
  readonly #staged: () => { readonly set: RuleSet; readonly rehearsal: Rehearsal } | undefined
  readonly #backlog: Backlog<Seen>
  readonly #endsAtMs: number
  #ring: Kept[] = []
  #bytes = 0
  #seq = 0
  #skipped = 0
  /** Sequence numbers up to which entries went unread. */
  #goneUpTo = 0
  ending: Ending | undefined
  #endedAtMs = 0

  constructor(id: number, request: TraceRequest, parts: TraceParts, staged: () => { readonly set: RuleSet; readonly rehearsal: Rehearsal } | undefined) {
    this.#id = id
    this.request = request
    this.#parts = parts
    this.#staged = staged
    this.#endsAtMs = parts.clock.now() + request.forMs
    this.#backlog = new Backlog<Seen>({
      monotonic: () => parts.clock.monotonic(), work: (seen) => this.#explain(seen), defer: parts.defer,
      failed: (error) => {
        parts.failed(error)
        parts.observers.end(this, 'failed')
      },
    })
  }

  decided(publish: Publish, stream: Stream, decision: Readonly<Decision>): void {
    const { machine, operator } = this.request
    if (this.endIfOver()) return
    if (machine !== undefined ? publish.machine !== machine : decision.operator !== operator && decision.concerned?.includes(operator as OperatorId) !== true) return
    this.#take(publish, stream, decision, 0)
  }

  refused(publish: Publish, stream: Stream | undefined, code: number): void {
    if (this.endIfOver() || publish.machine !== this.request.machine) return
    this.#take(publish, stream, undefined, code)
  }

  ended(why: Ending): void {
    this.#backlog.close()
    this.ending = why
    this.#endedAtMs = this.#parts.clock.now()
    this.#parts.ended(this.request, why)
  }

  endIfOver(): boolean {
    if (this.ending !== undefined) return true
    if (this.#parts.clock.now() < this.#endsAtMs) return false
    this.#parts.observers.end(this, 'over')
    return true
  }

  isStale(): boolean {
    return this.ending !== undefined && this.#parts.clock.now() >= this.#endedAtMs + LIMITS.traceKeptMs
  }

  view(): TraceView {
    const { machine, operator, values, personal } = this.request
    return { id: this.#id, machine, operator, values, personal, endsAtMs: this.#endsAtMs, ended: this.ending, skipped: this.#skipped, dropped: 0 }
  }

  page(after: number): TracePage {
    const kept = this.#ring.filter(({ entry }) => entry.seq > after).slice(0, PAGE)
    const about = this.request.values ? [...new Set(kept.flatMap((one) => one.about))] : []
    return { ...this.view(), dropped: Math.max(0, this.#goneUpTo - after), entries: kept.map(({ entry }) => entry), about }
  }

  about(subject: OperatorId): TraceEntry[] {
    return this.#ring.filter((one) => one.about.includes(subject)).map(({ entry }) => entry)
  }

  /** Without a name everything. */
  forget({ operator, machine }: { readonly operator?: OperatorId; readonly machine?: string }): number {
    const goes = (subjects: readonly OperatorId[], at: string): boolean => (operator === undefined || subjects.includes(operator)) && (machine === undefined || (at === machine && subjects.length > 0))
    this.#backlog.drop((seen) => goes(peopleOf(seen.decision), seen.machine.id))
    const kept = this.#ring.filter((one) => !goes(one.about, one.machine))
    const gone = this.#ring.length - kept.length
    this.#ring = kept
    this.#bytes = kept.reduce((sum, one) => sum + one.bytes, 0)
    return gone
  }

  #take(publish: Publish, stream: Stream | undefined, decision: Readonly<Decision> | undefined, code: number): void {
    const { personal } = this.request
    const set = this.#parts.rules()
    // That somebody chose something is told to nobody who may not read consent, not even by its length.
    if (!personal && stream !== undefined && set?.policy.subject.consent?.stream === stream.id) return
    const machine = this.#parts.machine(publish.machine)
    if (machine === undefined) return
    if (!this.#backlog.hasRoom) {
      this.#skipped++
      return
    }
    // Whom a message is about is kept beside it, so that it can be forgotten; where no person is shown, nothing may go with one either.
    const known = decision === undefined || !personal ? nobodyAt(machine) : { ...decision }
    this.#backlog.add({ publish: { payload: Uint8Array.from(publish.payload), receivedAtMs: publish.receivedAtMs }, machine, stream, decision: known, code })
  }

  #explain(seen: Seen): void {
    const { publish, machine, stream, code } = seen
    const staged = this.#staged()
    const head = { seq: ++this.#seq, atMs: publish.receivedAtMs, machine: machine.id, stream: stream?.id, bytes: publish.payload.length }
    // What only a minimiser finds wrong is found where an output is open, and that may be a yes: where no person is shown it is looked at anew.
    if (stream === undefined || staged === undefined || (code < 0 && this.request.personal)) {
      this.#keep(seen, { ...head, refused: code < 0 ? verdictName(code) : 'no_rules', person: undefined, outputs: [], furtherOutputs: 0 })
      return
    }
    const { set, rehearsal } = staged
    // Rules may have changed since the message came; a stream that they no longer have is not explained by them.
    if (!set.policy.streams.includes(stream)) return
    const performance = rehearsal.perform({ stream: stream.id, payload: publish.payload, machine, receivedAtMs: publish.receivedAtMs, decision: seen.decision })
    const before = readable(set, stream, publish.payload)
    const shown = performance.outputs.slice(0, LIMITS.traceOutputs)
    this.#keep(seen, {
      ...head,
      refused: performance.code < 0 ? verdictName(performance.code) : undefined,
      person: this.request.personal ? personText(performance.decision) : undefined,
      outputs: shown.map((result) => this.#output(result, { set, stream, machine, before, decision: performance.decision })),
      furtherOutputs: performance.outputs.length - shown.length,
    })
  }

  #output(result: OutputPerformance, { set, stream, machine, before, decision }: Message): TraceOutput {
    const { personal, values } = this.request
    const { output, gate, basis, plan, sent } = result
    const pair: Pair = { output, source: output.streams.find((source) => source.stream === stream) as Pair['source'] }
    const why = gateText(output, gate, basis, decision, machine.country)
    const standing: Standing = { pair, gate, basis, plan, why }
    const after = sent === undefined ? {} : readable(set, stream, sent.bytes)
    const lines = changes(planLines(standing, decision), before, after, result)
    const name = result.code === 0 ? 'sent' : verdictName(result.code)
    const ifNobodyKnown = !personal && hangsOnPerson(set.policy, output)
    return {
      output: output.id, result: name, text: name === 'sent' ? 'made for this output' : Verdict[name].text, why,
      bytes: sent?.bytes.length, topic: values ? sent?.topic : undefined, ifNobodyKnown, thinned: sent !== undefined && pair.source.emit !== undefined,
      fields: lines.slice(0, LIMITS.traceFields).map((line) => this.#field(line, pair, ifNobodyKnown)), furtherFields: Math.max(0, lines.length - LIMITS.traceFields),
    }
  }

  #field({ path, action, why, before, after }: Change, { source }: Pair, ifNobodyKnown: boolean): TraceField {
    const { values } = this.request
    const rule = ifNobodyKnown ? ruleAt(source, path) : undefined
    return {
      path, action, why, withYes: rule === undefined ? undefined : actionOf(rule.consent),
      before: values ? shortOf(before) : undefined, after: values ? shortOf(after) : undefined,
    }
  }

  #keep(seen: Seen, entry: TraceEntry): void {
    const bytes = JSON.stringify(entry).length
    this.#ring.push({ entry, bytes, machine: seen.machine.id, about: peopleOf(seen.decision) })
    this.#bytes += bytes
    while (this.#ring.length > LIMITS.traceMessages || (this.#bytes > LIMITS.traceBytes && this.#ring.length > 1)) {
      const [gone] = this.#ring.splice(0, 1)
      this.#bytes -= gone?.bytes ?? 0
      this.#goneUpTo = gone?.entry.seq ?? this.#goneUpTo
    }
  }
}

interface Message {
  readonly set: RuleSet
  readonly stream: Stream
  readonly machine: Machine
  readonly before: Readonly<Record<string, unknown>>
  readonly decision: Readonly<Decision>
}

function readable({ schemas }: RuleSet, stream: Stream, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    return shownFields(schemas.decode(stream.message.name, bytes), stream)
  } catch (error) {
    // Valid for a minimiser, but not for the library that makes it readable: then it is explained without its fields.
    if (error instanceof GatewayError) return {}
    throw error
  }
}

function peopleOf({ operator, concerned = [] }: Readonly<Decision>): readonly OperatorId[] {
  return operator === undefined ? concerned : [operator, ...concerned.filter((one) => one !== operator)]
}

/** Who was there, as far as it counts; what they said is in the line of each output. */
function personText(decision: Readonly<Decision>): string {
  if (!decision.collection) return 'nobody: the device setting is off'
  return decision.known ? 'a known person is signed on' : 'nobody is known'
}

function shortOf(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined
  const text = JSON.stringify(value)
  return text.length > LIMITS.traceValue ? `${text.slice(0, LIMITS.traceValue - 1)}…` : text
}
