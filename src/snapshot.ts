/**
 * Everything the hot path reads of the rules, built beside the old one and swapped whole: compiled minimisers per output and variant,
 * the topic matcher, the basis of every output by country.
 */
import { outputBasis } from './domain/basis.ts'
import { atOnce, type Pieces } from './domain/pieces.ts'
import type { Machine, Outbox } from './domain/ports.ts'
import type { BasisEntry, Choice, ChoiceRule, Output, OutputStream, Policy, Stream } from './domain/policy.ts'
import { categoryBit, classificationOf, type FieldShape } from './domain/schema.ts'
import { createEmission, type Emission } from './emission.ts'
import type { Scope } from './minimise/condition.ts'
import { evaluate } from './minimise/condition.ts'
import { compilePlan, type CompileOptions } from './minimise/compile.ts'
import type { Run } from './minimise/interpret.ts'
import { VARIANTS, nodesOf, planFor, type Plan } from './minimise/plan.ts'
import { createProbe, nameOf, type Probe } from './minimise/probe.ts'
import { decodeTree, pathOf, slotAt, type Tree } from './minimise/tree.ts'
import type { Value } from './minimise/value.ts'
import { Malformed } from './minimise/wire.ts'
import type { Counter, Metrics, OutputCounters } from './metrics.ts'

export interface Snapshot {
  readonly policy: Policy
  readonly keyId: string
  /** Streams that a topic may belong to, with what its placeholders say. Undefined when no stream has the topic. */
  match(topic: string): Matched | undefined
  scopeOf(machine: Machine): Scope
  readonly streams: readonly StreamEntry[]
  /** Topic templates of a recipient's local outputs; what it may subscribe to. */
  topicsOf(recipient: string): readonly string[]
}

export interface Matched {
  readonly entries: readonly StreamEntry[]
  readonly machine: string | undefined
  readonly fleet: string | undefined
}

export interface StreamEntry {
  readonly stream: Stream
  readonly probe: Probe
  /** Reads sign-on and sign-off from a message of the session stream. */
  readonly session: SessionReader | undefined
  /** Reads what an operator chose from a message of the consent stream. */
  readonly choice: ChoiceReader | undefined
  readonly outputs: readonly OutputEntry[]
  readonly received: Counter
}

/** A sign-on counts for its own message. A sign-off ends the session for its own message too, but what that person refused still holds for it. */
export interface SessionReader {
  /** Applies a sign-on, notes a sign-off. Returns 0 or a refusal code. */
  before(source: Uint8Array, length: number, machine: Machine, eventMs: number, receivedMs: number): number
  /** Applies what `before` noted; true when somebody signed off. */
  after(machine: Machine, eventMs: number, receivedMs: number): boolean
}

/** Returns what the message says, or a refusal code. */
export type ChoiceReader = (source: Uint8Array, length: number) => ReadChoice | number

/** Texts are empty when the message does not have them; `policy` is undefined when the rules name no field for it. */
export interface ReadChoice {
  readonly card: string
  readonly purpose: string
  readonly says: Choice | undefined
  readonly policy: string | undefined
  readonly language: string
  readonly supersedes: string
  readonly evidence: string
}

export interface OutputEntry {
  readonly output: Output
  readonly source: OutputStream
  /** By `variantIndex`; undefined as long as nobody needed it, see `ready`. */
  readonly made: readonly (ReadyMinimiser | undefined)[]
  /** Makes the minimiser of a variant: beyond the first few thousand of a set only what messages ask for is made. */
  ready(variant: number): ReadyMinimiser
  readonly hasPairs: boolean
  basisFor(machineCountry: string | undefined, operatorCountry: string | undefined): BasisEntry | undefined
  readonly counters: OutputCounters
  readonly failures: Counter
  /** What the verifier found, by field number; from then on the output gets nothing more (fail closed, visibly). */
  stopped: string | undefined
  readonly bytes: Counter
  /** Down-sampling, where the rules ask for it. */
  readonly emission: Emission | undefined
}

export interface ReadyMinimiser {
  readonly run: Run
  readonly plan: Plan
  /** Category bits, for the disclosure count. */
  readonly categories: number
}

/** Applies a sign-on or sign-off; the card as the message carries it. */
export interface SessionSink {
  signOn(machine: Machine, card: string, eventMs: number, receivedMs: number): void
  signOff(machine: Machine, card: string, eventMs: number, receivedMs: number): void
}

export interface SnapshotParts extends CompileOptions {
  readonly keyId: string
  readonly metrics: Metrics
  readonly sessions: SessionSink
  /** What down-sampling asks of the outbox; without it every result leaves. */
  readonly windows?: Pick<Outbox, 'kept' | 'mark'>
  /** broker/topics.ts, handed in so that rooms stay apart. */
  matcher(streams: readonly Stream[]): (topic: string) => { readonly streams: readonly Stream[]; readonly machine: string | undefined; readonly fleet: string | undefined } | undefined
}

export function buildSnapshot(policy: Policy, parts: SnapshotParts): Snapshot {
  return atOnce(snapshotInPieces(policy, parts))
}

/** The same, a minimiser a piece. */
export function* snapshotInPieces(policy: Policy, parts: SnapshotParts): Pieces<Snapshot> {
  const entries: StreamEntry[] = []
  const inStock: Stock = { left: READY_MAX }
  for (const stream of policy.streams) entries.push(yield* streamEntry(policy, stream, parts, inStock))
  const match = parts.matcher(policy.streams)
  const matched = new WeakMap<object, Matched>()
  const scopes = new WeakMap<Machine, Scope>()
  return {
    policy,
    keyId: parts.keyId,
    streams: entries,
    match(topic) {
      const found = match(topic)
      if (found === undefined) return undefined
      // The matcher caches its answers by topic, and so do we by its answer.
      let known = matched.get(found)
      if (known === undefined) {
        known = { entries: found.streams.map((stream) => entries[stream.index] as StreamEntry), machine: found.machine, fleet: found.fleet }
        matched.set(found, known)
      }
      return known
    },
    scopeOf(machine) {
      let scope = scopes.get(machine)
      if (scope === undefined) {
        scope = { labels: machine.labels, fleet: machine.fleet, model: machine.model, country: machine.country ?? '' }
        scopes.set(machine, scope)
      }
      return scope
    },
    topicsOf: (recipient) => policy.outputs.filter((output) => output.recipient.id === recipient && output.to.via.includes('local')).map((output) => output.to.topic),
  }
}

function* streamEntry(policy: Policy, stream: Stream, parts: SnapshotParts, inStock: Stock): Pieces<StreamEntry> {
  const outputs: OutputEntry[] = []
  for (const output of policy.outputs) {
    const source = output.streams.find((one) => one.stream === stream)
    if (source !== undefined) outputs.push(yield* outputEntry(policy, output, source, parts, inStock))
  }
  const isSessions = policy.subject.sessions?.stream === stream.id
  return {
    stream,
    probe: createProbe(stream),
    session: isSessions ? sessionReader(policy, stream, parts.sessions) : undefined,
    choice: policy.subject.consent?.stream === stream.id ? choiceReader(policy.subject.consent, stream) : undefined,
    outputs,
    received: parts.metrics.stream(stream.id),
  }
}

function* outputEntry(policy: Policy, output: Output, source: OutputStream, parts: SnapshotParts, inStock: Stock): Pieces<OutputEntry> {
  const made: (ReadyMinimiser | undefined)[] = VARIANTS.map(() => undefined)
  const ready = (at: number): ReadyMinimiser => {
    const { plan, run } = compiled(planFor(output, source, VARIANTS[at] as Plan['variant']), parts)
    return (made[at] = { plan, run, categories: categoriesOf(plan) })
  }
  for (let at = 0; at < VARIANTS.length && inStock.left > 0; at++, inStock.left--) {
    ready(at)
    yield
  }
  const bases = new Map<string, BasisEntry | undefined>()
  return {
    output,
    source,
    made,
    ready,
    hasPairs: source.fields.some((field) => field.pair),
    basisFor(machineCountry, operatorCountry) {
      // Countries are a few hundred, so the table fills once and stays.
      const key = operatorCountry === undefined ? (machineCountry ?? '') : `${machineCountry ?? ''}|${operatorCountry}`
      let basis = bases.get(key)
      if (basis === undefined && !bases.has(key)) {
        basis = outputBasis(policy.basis, output, machineCountry, operatorCountry)
        if (bases.size < BASES_MAX) bases.set(key, basis)
      }
      return basis
    },
    counters: parts.metrics.output(output.id),
    failures: parts.metrics.counter('fields_failed_total', output.id),
    stopped: undefined,
    bytes: parts.metrics.counter('forwarded_bytes_total'),
    emission: source.emit === undefined || parts.windows === undefined ? undefined : createEmission(output.id, source, source.emit, parts.windows),
  }
}

/** Rules are taken only when what is generated for them compiles; should it fail here after all, the readable engine has the same result. */
function compiled(plan: Plan, parts: CompileOptions): ReturnType<typeof compilePlan> {
  try {
    return compilePlan(plan, parts)
  } catch {
    return compilePlan(plan, { ...parts, engine: 'interpreted' })
  }
}

const BASES_MAX = 4_096
/** Minimisers that are made with the set: an output takes a few milliseconds for each, and kilobytes. */
const READY_MAX = 1_000

interface Stock {
  left: number
}

function categoriesOf(plan: Plan): number {
  let bits = 0
  const add = (field: FieldShape | undefined): void => {
    if (field !== undefined) bits |= categoryBit(classificationOf(field).category)
  }
  for (const { steps } of nodesOf(plan.root)) for (const step of steps) add(step.field)
  for (const point of plan.points) add(point.lat[point.lat.length - 1])
  return bits
}

function sessionReader(policy: Policy, stream: Stream, sink: SessionSink): SessionReader {
  const rule = policy.subject.sessions as NonNullable<Policy['subject']['sessions']>
  const path = pathOf(stream.message, rule.operatorField) as FieldShape[]
  let leaving: string | undefined
  return {
    before(source, length, machine, eventMs, receivedMs) {
      leaving = undefined
      try {
        const tree = decodeTree(stream.message, source, 0, length)
        const scope: Scope = { labels: machine.labels, fleet: machine.fleet, model: machine.model, country: machine.country ?? '' }
        const slot = slotAt(tree, path) as Value | undefined
        const card = slot === undefined ? '' : nameOf(slot)
        if (evaluate(rule.signOn, tree, scope) === true) sink.signOn(machine, card, eventMs, receivedMs)
        else if (rule.signOff !== undefined && evaluate(rule.signOff, tree, scope) === true) leaving = card
        return 0
      } catch (error) {
        if (error instanceof Malformed) return error.code
        throw error
      }
    },
    after(machine, eventMs, receivedMs) {
      if (leaving === undefined) return false
      sink.signOff(machine, leaving, eventMs, receivedMs)
      leaving = undefined
      return true
    },
  }
}

function choiceReader(rule: ChoiceRule, stream: Stream): ChoiceReader {
  const reader = (field: string | undefined): ((tree: Tree) => string) => {
    const path = field === undefined ? undefined : pathOf(stream.message, field)
    if (path === undefined) return () => ''
    const members = path.at(-1)?.enum?.names
    return (tree) => {
      const slot = slotAt(tree, path) as Value | undefined
      if (slot === undefined) return members?.get(0) ?? ''
      return members === undefined ? nameOf(slot) : (members.get(Number(slot)) ?? '')
    }
  }
  const [card, purpose, choice, language, supersedes, evidence] = [rule.operatorField, rule.purposeField, rule.choiceField, rule.languageField, rule.supersedesField, rule.evidenceField].map(reader)
  const policy = rule.policyField === undefined ? undefined : reader(rule.policyField)
  return (source, length) => {
    try {
      const tree = decodeTree(stream.message, source, 0, length)
      return {
        card: card!(tree), purpose: purpose!(tree), says: rule.means.get(choice!(tree)), policy: policy?.(tree),
        language: language!(tree), supersedes: supersedes!(tree), evidence: evidence!(tree),
      }
    } catch (error) {
      if (error instanceof Malformed) return error.code
      throw error
    }
  }
}
