/**
 * One message through a policy without a gateway: for `filter`, `explain` and the tests of a rules file. It is the pipeline of the
 * gateway itself, between stand-ins for what surrounds it, so that what is shown here is what would leave.
 * Grid cells are never sticky here: what came before a message must not show in its result.
 */
import { hkdfSync } from 'node:crypto'
import { Gate, gate, operatorFieldsAllowed, type GateState } from './domain/basis.ts'
import { clear, nobody, type ConsentState, type Decision } from './domain/consent.ts'
import type { FleetId, MachineId, OperatorId, OutputId, StreamId } from './domain/ids.ts'
import type { BasisEntry, Output, Policy, Stream } from './domain/policy.ts'
import type { ConsentStates, Identity, IdentityRegister, Machine, Outbox, OutboxRecord, Sessions } from './domain/ports.ts'
import { atOnce, type Pieces } from './domain/pieces.ts'
import { Verdict } from './domain/verdict.ts'
import { isNo } from './consent/history.ts'
import type { Counter, Metrics } from './metrics.ts'
import type { Cells } from './minimise/cells.ts'
import { snap } from './minimise/grid.ts'
import { variantIndex, type Plan } from './minimise/plan.ts'
import { createFacts, createProbe, type Facts, type Probe } from './minimise/probe.ts'
import { derivedRows, type PseudonymKeys } from './minimise/pseudonym.ts'
import { createPipeline } from './pipeline.ts'
import { snapshotInPieces, type OutputEntry } from './snapshot.ts'

export interface RehearsalOptions {
  readonly keys: PseudonymKeys
  readonly engine?: 'generated' | 'interpreted'
  /** Only this output is tried; the others stay as if the rules had none. */
  readonly only?: OutputId | undefined
  /** Real attribution: operator sessions and consent over several messages. Without it each message brings its decision. */
  readonly people?: People
}

export interface People {
  readonly sessions: Sessions
  readonly consent: ConsentStates
  readonly identities: IdentityRegister
}

interface Rehearsed {
  readonly stream: StreamId
  readonly payload: Uint8Array
  /** Whom the terminal was authenticated as. */
  readonly machine: Machine
  readonly receivedAtMs: number
  /** What consent allows; ignored when the rehearsal has `people`. */
  readonly decision?: Decision
}

export interface Performance {
  /** How many outputs got something, or the refusal code (negative) of the whole message. */
  readonly code: number
  /** What was decided; nobody known when the message was refused before. */
  readonly decision: Readonly<Decision>
  readonly outputs: readonly OutputPerformance[]
}

/** What one output made of the message. */
export interface OutputPerformance {
  readonly output: Output
  readonly gate: GateState
  readonly basis: BasisEntry | undefined
  readonly plan: Plan
  /** 0 = sent; else a verdict code: the output's own, or the refusal of the whole message. */
  readonly code: number
  readonly sent: { readonly bytes: Uint8Array; readonly topic: string } | undefined
}

export interface Rehearsal {
  perform(message: Rehearsed): Performance
  /** What the message says of itself; 0 or a refusal code. The facts are reused. */
  probe(stream: StreamId, payload: Uint8Array): { readonly code: number; readonly facts: Facts }
}

/**
 * Sets a policy on the stage. Every minimiser of the outputs tried is compiled, so make one and use it for many messages.
 * @throws Error when a generated minimiser does not compile
 */
export function createRehearsal(policy: Policy, options: RehearsalOptions): Rehearsal {
  return atOnce(rehearsalInPieces(policy, options))
}

/** The same, a minimiser a piece. */
export function* rehearsalInPieces(policy: Policy, options: RehearsalOptions): Pieces<Rehearsal> {
  const { people, only } = options
  const played = only === undefined ? policy : { ...policy, outputs: policy.outputs.filter((output) => output.id === only) }
  const given = nobody()
  const decided = nobody()
  const verdicts = new Map<OutputEntry, number>()
  const sent = new Map<OutputId, OutboxRecord>()
  const stand = people ?? standIns(given)
  let on: Machine | undefined

  const pipeline = createPipeline({
    random: () => NO_ID,
    machines: () => ({ get: () => on, size: 1, all: () => [] }),
    sessions: stand.sessions,
    consent: stand.consent,
    identities: stand.identities,
    outbox: capture(sent),
    cells: PLAIN_CELLS,
    verifyEvery: 1,
    arrivalIsTime: people !== undefined,
    metrics: SILENT,
    ledgerHealthy: () => true,
    onDecision: (_stream, decision) => void Object.assign(decided, decision),
    onVerdict: (_publish, _stream, output, code) => void (output !== undefined && verdicts.set(output, code)),
  })
  const identify = (card: string, atMs: number): Identity | undefined => (card === '' ? undefined : stand.identities.find(card, atMs))
  const snapshot = yield* snapshotInPieces(people === undefined ? alwaysAsking(played) : played, {
    keys: options.keys,
    engine: options.engine ?? 'generated',
    keyId: '',
    metrics: SILENT,
    sessions: {
      signOn: (machine, card, eventMs, receivedMs) => stand.sessions.signOn(machine, identify(card, eventMs), eventMs, receivedMs),
      signOff: (machine, card, eventMs, receivedMs) => stand.sessions.signOff(machine, identify(card, eventMs), eventMs, receivedMs),
    },
    // A message is played on the stream that it is said to be of, whatever the topic.
    matcher: (streams) => {
      const all = new Map(streams.map((stream) => [stream.id as string, { streams: [stream], machine: undefined, fleet: undefined }]))
      return (topic) => all.get(topic)
    },
  })
  pipeline.swap(snapshot)
  const probes = new Map<string, Probe>(policy.streams.map((stream) => [stream.id, createProbe(stream)]))
  const facts = createFacts()

  return {
    perform(message) {
      on = message.machine
      verdicts.clear()
      sent.clear()
      clear(decided)
      Object.assign(given, message.decision ?? nobody())
      const code = pipeline.handle({ topic: message.stream, payload: message.payload, qos: 1, machine: message.machine.id, receivedAtMs: message.receivedAtMs, isWill: false })
      const entries = snapshot.streams.find((one) => one.stream.id === message.stream)?.outputs ?? []
      return {
        code,
        decision: { ...decided },
        outputs: entries.map((entry) => performanceOf(entry, message.machine, decided, code < 0 ? code : (verdicts.get(entry) ?? Verdict.failed.code), code < 0 ? undefined : sent.get(entry.output.id))),
      }
    },
    probe(stream, payload) {
      const probe = probes.get(stream)
      return { code: probe === undefined ? Verdict.no_stream.code : probe(payload, 0, payload.length, facts), facts }
    },
  }
}

function performanceOf(entry: OutputEntry, machine: Machine, decision: Readonly<Decision>, code: number, record: OutboxRecord | undefined): OutputPerformance {
  const standing = standingOf(entry.output, entry.basisFor(machine.country, decision.known ? decision.country : undefined), decision)
  return {
    output: entry.output,
    gate: standing.gate,
    basis: standing.basis,
    plan: (entry.made[standing.variant] ?? entry.ready(standing.variant)).plan,
    code: record === undefined ? code : 0,
    sent: record === undefined ? undefined : { bytes: record.payload, topic: record.topic },
  }
}

/** How an output stands for a decision, and which of its plans serves. A closed output has the plan that nobody's yes would give. */
export function standingOf(output: Output, basis: BasisEntry | undefined, decision: Readonly<Decision>): { readonly gate: GateState; readonly basis: BasisEntry | undefined; readonly variant: number } {
  const state = gate(output, basis, decision)
  return { gate: state, basis, variant: variantIndex(state === Gate.yes, basis !== undefined && operatorFieldsAllowed(output, basis, decision)) }
}

// --------------------------------------------------------------------------------------------------------- what is assumed

/** Who is there and what they said, as options and tests state it. */
export interface Assumed {
  /** Undefined = nobody known. */
  readonly operator: string | undefined
  /** Purpose -> state; what is not in it is not set. */
  readonly consent: ReadonlyMap<string, ConsentState>
  readonly notice: boolean
  /** Country of the operator, when it differs from the machine's. */
  readonly country: string | undefined
  /** 16 bytes in hex. */
  readonly session: string
}

/** The decision that an assumption amounts to. A person is signed on unless nobody is known. */
export function decisionFor(policy: Policy, assumed: Assumed): Decision {
  const decision = nobody()
  decision.collection = true
  if (assumed.operator === undefined) return decision
  decision.known = true
  decision.operator = assumed.operator as OperatorId
  decision.country = assumed.country
  decision.session = assumed.session
  for (const { id, index } of policy.purposes) {
    const state = assumed.consent.get(id)
    if (state === 'granted') decision.yes |= 1 << index
    if (state === 'granted' || state === 'local_only') decision.siteYes |= 1 << index
    if (state !== undefined && isNo(state)) decision.no |= 1 << index
    if (assumed.notice) decision.notice |= 1 << index
  }
  return decision
}

/** The root key of tests and of `filter` without --keys: published here, so nothing made under it protects anybody. Every gateway refuses it. */
export const OFFLINE_KEY: Uint8Array = Uint8Array.from({ length: 32 }, (_, index) => index)
const OFFLINE_TENANT = 'demo'

export interface OfflineKeysText {
  readonly root?: Uint8Array | undefined
  readonly tenant?: string | undefined
  /** `machine:SN-1` -> 32 bytes; whoever is not in it has no row. Without it rows are derived from the root. */
  readonly rows?: ReadonlyMap<string, Uint8Array> | undefined
}

/** Keys for use without a gateway (rules-language 5). */
export function offlineKeys(text: OfflineKeysText = {}): PseudonymKeys {
  const { root = OFFLINE_KEY, tenant = OFFLINE_TENANT } = text
  return { root, tenant, rows: derivedRows(root, tenant, text.rows) }
}

/** The operator session of somebody who is assumed to be signed on: HKDF-SHA256(root, tenant, "parapet/v1|filter-session|OPERATOR"), 16 bytes in hex. */
export function offlineSession(keys: Pick<PseudonymKeys, 'root' | 'tenant'>, operator: string): string {
  return Buffer.from(hkdfSync('sha256', keys.root, Buffer.from(keys.tenant, 'utf8'), Buffer.from(`parapet/v1|filter-session|${operator}`, 'utf8'), 16)).toString('hex')
}

export interface MachineText {
  readonly id: string
  readonly fleet?: string | undefined
  readonly model?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly country?: string | undefined
  readonly operatorCollection?: 'on' | 'off' | 'unknown' | undefined
}

/** A machine as a registry would describe it. */
export function machineOf(text: MachineText): Machine {
  return {
    id: text.id as MachineId, fleet: (text.fleet ?? '') as FleetId, model: text.model ?? '', labels: text.labels ?? {}, country: text.country,
    operatorCollection: text.operatorCollection ?? 'on', holder: undefined, credential: undefined, certificate: undefined,
  }
}

// ------------------------------------------------------------------------------------------------------------- stand-ins

/** With the decision given, whoever the message names is the person who was assumed. */
function standIns(given: Decision): People {
  const identity = (): Identity | undefined => (given.operator === undefined ? undefined : { operator: given.operator, kind: 'personal', country: given.country, validFromMs: 0, validToMs: Number.MAX_SAFE_INTEGER })
  const decide = (machine: Machine, into: Decision): void => {
    clear(into)
    if (machine.operatorCollection === 'on') Object.assign(into, given)
  }
  return {
    sessions: {
      signOn: () => {}, signOff: () => {}, forget: () => {}, sweep: () => {}, current: () => undefined, size: 0,
      decide: (machine, _eventMs, _nowMs, into) => decide(machine, into),
      decideSpan: (machine, _fromMs, _toMs, _nowMs, into) => decide(machine, into),
    },
    consent: { usePolicy: () => {}, change: impossible, giveNotice: impossible, show: impossible, fill: impossible, operators: 0 },
    identities: { find: identity },
  }
}

function impossible(): never {
  throw new Error('the decision is given, so nobody asks')
}

/** Rules without operator sessions take the operator from the message alone; here the sessions are asked, which answer with what was given. */
function alwaysAsking(policy: Policy): Policy {
  if (policy.subject.sessions !== undefined) return policy
  const never = { text: 'false', ast: undefined, reads: [] }
  return { ...policy, subject: { ...policy.subject, sessions: { stream: '' as Stream['id'], signOn: never, signOff: undefined, operatorField: '' } } }
}

function capture(sent: Map<OutputId, OutboxRecord>): Outbox {
  return {
    // The pipeline uses its scratch buffer again, so the bytes are copied as the outbox would.
    accept: (record) => void sent.set(record.output, { ...record, payload: Uint8Array.from(record.payload) }),
    room: () => true,
    kept: () => undefined,
    mark: () => undefined,
    committed: (callback) => callback(undefined),
    purge: () => ({ purged: 0, swapped: 0, held: 0 }),
    depth: 0,
    bytes: 0,
    close: () => Promise.resolve(),
  }
}

const NO_ID = new Uint8Array(16)

const PLAIN_CELLS: Cells = { snap: (_place, _machine, latE7, lonE7, size, into) => snap(latE7, lonE7, size, into), begin: () => {}, undo: () => {}, forget: () => {} }

const NO_COUNTER: Counter = { add: () => {}, set: () => {}, value: 0 }

const SILENT: Metrics = {
  counter: () => NO_COUNTER, count: () => {}, gauge: () => {}, refused: () => {}, stream: () => NO_COUNTER, commit: () => {}, useRules: () => {}, useBridges: () => {}, useBuild: () => {}, onScrape: () => {},
  histogram: () => ({ observe: () => {} }),
  output: () => ({ forwarded: NO_COUNTER, withheld: () => {}, reasons: () => ({}) }),
  text: () => Promise.resolve(''), contentType: 'text/plain',
}
