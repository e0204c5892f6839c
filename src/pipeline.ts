/**
 * THE HOT PATH, top to bottom: match -> identify -> attribute -> decide -> minimise for every output -> accept.
 * Synchronous from the first line to the last; it allocates per forwarded message only the record that the outbox keeps.
 *
 * Two properties are held here and tested: all outputs or none for a malformed message, and no byte of the scratch buffer
 * outside an output's own range ever leaves (the outbox copies exactly that range before it returns).
 */
import { Gate, gate, operatorFieldsAllowed, stricter } from './domain/basis.ts'
import type { BasisEntry } from './domain/policy.ts'
import { clear, nobody, type Decision } from './domain/consent.ts'
import { GatewayError } from './domain/errors.ts'
import { LIMITS } from './domain/limits.ts'
import type { ConsentStates, IdentityRegister, Machine, MachineRegistry, Outbox, OutboxRecord, Publish, Random, Sessions, Slot } from './domain/ports.ts'
import type { OperatorId } from './domain/ids.ts'
import { Verdict, isRefusal } from './domain/verdict.ts'
import { createFacts } from './minimise/probe.ts'
import { createContext } from './minimise/interpret.ts'
import { variantIndex } from './minimise/plan.ts'
import { verify } from './minimise/verify.ts'
import type { Cells } from './minimise/cells.ts'
import type { OutputEntry, ReadChoice, ReadyMinimiser, Snapshot, StreamEntry } from './snapshot.ts'
import type { Metrics } from './metrics.ts'

export interface PipelineParts {
  readonly random: Random
  readonly machines: () => MachineRegistry
  readonly sessions: Sessions
  readonly consent: ConsentStates
  readonly identities: IdentityRegister
  readonly outbox: Outbox
  readonly cells: Cells
  readonly metrics: Metrics
  /** The ledger can be read and written: otherwise everything is decided as "nobody known" (G3). */
  readonly ledgerHealthy: () => boolean
  /** The decision of each message, for tools that explain it; the object is reused. */
  readonly onDecision?: (stream: StreamEntry, decision: Readonly<Decision>) => void
  /** A message without a time was measured when it came: in tests of rules, where a step says when that is. */
  readonly arrivalIsTime?: boolean
  /** One of so many results is walked again by the verifier; 1 = all, 0 or left out = none. */
  readonly verifyEvery?: number
  /** Where the order of machines' records begins: must grow from start to start. */
  readonly orderBase?: number
  /** What a terminal says that its operator chose; durable and in force when it returns. What it throws leaves the message unacknowledged. */
  readonly onChoice?: (choice: PipelineChoice) => void
  readonly onVerdict?: (publish: Publish, stream: StreamEntry | undefined, output: OutputEntry | undefined, code: number) => void
  /** Each message that was decided and has its room, once, before its records are handed over; the decision is reused. */
  readonly onDecided?: (publish: Publish, stream: StreamEntry, decision: Readonly<Decision>) => void
}

/** A message of the consent stream, and who was signed on at its time. */
export interface PipelineChoice extends ReadChoice {
  readonly machine: Machine
  readonly signedOn: OperatorId | undefined
  readonly eventMs: number
  readonly receivedMs: number
  readonly lateLimitMs: number
  readonly payload: Uint8Array
}

export interface Pipeline {
  /**
   * Takes one inbound PUBLISH. Returns how many outputs got something (>= 0) or a refusal code (< 0): both mean "acknowledge after
   * the outbox has committed". Throws only when the outbox cannot take the records: then the message must stay unacknowledged.
   * @param urgentOnly  earlier messages of the terminal wait for room: this one may pass them when a safety or legal record is in it
   */
  handle(publish: Publish, urgentOnly?: boolean): number
  /** One assignment: every message is handled under exactly one snapshot. Undefined = no rules: everything is refused. */
  swap(next: Snapshot | undefined): void
  readonly active: Snapshot | undefined
}

export function createPipeline(parts: PipelineParts): Pipeline {
  const { sessions, consent, outbox, metrics } = parts
  let active: Snapshot | undefined
  const usual = Buffer.alloc(LIMITS.scratchBytes + LIMITS.packetBytes + 1)
  let scratch: Buffer = usual
  const receivedBytes = metrics.counter('received_bytes_total')
  const facts = createFacts()
  const decision = nobody()
  const context = createContext()
  context.cells = parts.cells
  // Results of the message in hand, one place per output of its stream.
  const from = new Int32Array(LIMITS.outputs)
  const to = new Int32Array(LIMITS.outputs)
  const withdrawnFrom = new Int32Array(LIMITS.outputs)
  const withdrawnTo = new Int32Array(LIMITS.outputs)
  const topics: string[] = Array.from({ length: LIMITS.outputs }, () => '')
  const bases: string[] = Array.from({ length: LIMITS.outputs }, () => '')
  const variants = new Int8Array(LIMITS.outputs)
  /** Why each gets nothing, and how many of its fields could not be transformed. */
  const verdicts = new Int16Array(LIMITS.outputs)
  const failed = new Int32Array(LIMITS.outputs)
  const fits = new Int8Array(LIMITS.outputs)
  const replaced = new Int8Array(LIMITS.outputs)
  const slots: (Slot | undefined)[] = Array.from({ length: LIMITS.outputs }, () => undefined)
  const untils: (number | undefined)[] = Array.from({ length: LIMITS.outputs }, () => undefined)
  const verifyEvery = parts.verifyEvery ?? 0
  let unverified = 0
  const orders = new Map<string, number>()
  const orderBase = parts.orderBase ?? 0

  function handle(publish: Publish, urgentOnly = false): number {
    const now = active
    if (now === undefined) return refuse(publish, undefined, Verdict.no_rules.code)
    if (publish.isWill) return refuse(publish, undefined, Verdict.will.code)

    // Match and identify: the topic, the connection and the registry must name the same machine and fleet.
    const matched = now.match(publish.topic)
    if (matched === undefined) return refuse(publish, undefined, Verdict.no_stream.code)
    const machine = parts.machines().get(publish.machine)
    if (machine === undefined) return refuse(publish, undefined, Verdict.unknown_machine.code)
    if (matched.machine !== undefined && matched.machine !== machine.id) return refuse(publish, undefined, Verdict.foreign_machine.code)
    if (matched.fleet !== undefined && matched.fleet !== machine.fleet) return refuse(publish, undefined, Verdict.foreign_fleet.code)
    const length = publish.payload.length
    if (length === 0) return refuse(publish, undefined, Verdict.empty_payload.code)
    if (length > LIMITS.packetBytes) return refuse(publish, undefined, Verdict.too_big.code)

    // Probe: streams that share a topic differ in the oneof member they carry.
    scratch = usual
    scratch.set(publish.payload, 0)
    scratch[length] = 0
    let entry: StreamEntry | undefined
    for (const candidate of matched.entries) {
      const fault = candidate.probe(scratch, 0, length, facts)
      if (fault < 0) return refuse(publish, candidate, fault)
      if (facts.caseHolds) {
        entry = candidate
        break
      }
    }
    if (entry === undefined) return refuse(publish, undefined, Verdict.no_case.code)
    if (facts.machine !== '' && facts.machine !== machine.id) return refuseReceived(publish, entry, Verdict.foreign_machine.code)

    // Attribute and decide: whatever is in doubt stays "nobody known".
    const at = Number.isNaN(facts.eventMs) ? publish.receivedAtMs : facts.eventMs
    // A sign-on without a time tells that somebody came, not when.
    const signMs = entry.stream.time === undefined || parts.arrivalIsTime === true ? at : facts.eventMs
    if (entry.session !== undefined) {
      const fault = entry.session.before(scratch, length, machine, signMs, publish.receivedAtMs)
      if (fault < 0) return refuseReceived(publish, entry, fault)
    }
    decide(now, entry, machine, at, publish.receivedAtMs)
    if (entry.session?.after(machine, signMs, publish.receivedAtMs) === true) forgetPerson(decision)
    if (entry.choice !== undefined && parts.onChoice !== undefined) {
      const read = entry.choice(scratch, length)
      if (typeof read === 'number') return refuseReceived(publish, entry, read)
      parts.onChoice({
        ...read, machine, signedOn: decision.known ? decision.operator : undefined, eventMs: facts.eventMs, receivedMs: publish.receivedAtMs,
        lateLimitMs: now.policy.subject.lateLimitMs, payload: publish.payload,
      })
      // What was chosen counts for this message, too.
      decide(now, entry, machine, at, publish.receivedAtMs)
    }
    parts.onDecision?.(entry, decision)

    // Minimise for every output into the scratch buffer, one result behind the other.
    context.eventMs = facts.eventMs
    context.session = decision.session
    context.machine = machine.id
    context.scope = now.scopeOf(machine)
    context.message++
    const outputs = entry.outputs
    let end: number = FIRST
    let count = 0
    for (let i = 0; i < outputs.length; i++) {
      const output = outputs[i] as OutputEntry
      to[i] = 0
      verdicts[i] = 0
      failed[i] = 0
      if (output.stopped !== undefined) {
        withhold(i, Verdict.output_stopped.code)
        continue
      }
      // The countries of whoever may be concerned count, also of people whose yes does not: the strictest of all (rules-language 3.1).
      const basis = stricterOf(output, machine.country)
      const state = gate(output.output, basis, decision)
      if (state === Gate.closed || basis === undefined) {
        withhold(i, basis === undefined || basis.basis === 'forbidden' ? Verdict.forbidden.code : Verdict.closed.code)
        continue
      }
      const variant = variantIndex(state === Gate.yes, operatorFieldsAllowed(output.output, basis, decision))
      context.legal = basis.basis === 'legal_obligation'
      context.failures = 0
      if (scratch.length - end < RESULT_ROOM) scratch = larger(scratch, end)
      parts.cells.begin()
      const minimiser = output.made[variant] ?? output.ready(variant)
      const result = minimiser.run(scratch, 0, length, scratch, end, context)
      failed[i] = context.failures
      if (result < 0) {
        parts.cells.undo()
        // [G3] one malformed message goes nowhere, not to some. But what is too long for one output is no reason to keep it from another (G2).
        if (result !== Verdict.too_big.code && isRefusal(result)) return refuseReceived(publish, entry, result)
        withhold(i, result === Verdict.too_big.code ? Verdict.result_too_big.code : result)
        continue
      }
      if (result - end > LIMITS.resultBytes) {
        parts.cells.undo()
        withhold(i, Verdict.result_too_big.code)
        continue
      }
      if (verifyEvery > 0 && ++unverified >= verifyEvery) {
        unverified = 0
        // The second of a pair of assertions: code that shares nothing with the minimiser looks at what it wrote.
        const found = verify(minimiser.plan, scratch, end, result)
        if (found !== undefined) {
          stop(now, output, found)
          withhold(i, Verdict.unverified.code)
          continue
        }
      }
      const { emission } = output
      if (emission !== undefined) {
        if (!emission.offer(machine.id, at, publish.receivedAtMs, scratch, end, result)) {
          parts.cells.undo()
          withhold(i, Verdict.sampled.code)
          continue
        }
        slots[i] = emission.slot
        untils[i] = emission.untilMs
        replaced[i] = emission.replaces ? 1 : 0
      }
      from[i] = end
      to[i] = result
      topics[i] = context.topic
      bases[i] = basis.basis
      variants[i] = variant
      end = result
      // What would be left after a withdrawal travels with the message, so that a queue can be put right without the raw bytes.
      withdrawnTo[i] = -1
      if (state === Gate.yes && output.hasPairs && !closesOnWithdrawal(basis.basis)) {
        if (scratch.length - end < RESULT_ROOM) scratch = larger(scratch, end)
        const without = variantIndex(false, (variant & 1) === 1)
        const plain = (output.made[without] ?? output.ready(without)).run(scratch, 0, length, scratch, end, context)
        withdrawnFrom[i] = end
        // A variant that would go to another topic cannot take this record's place.
        withdrawnTo[i] = plain < 0 || plain - end > LIMITS.resultBytes || context.topic !== topics[i] ? 0 : plain
        if (withdrawnTo[i] !== 0) end = plain
      }
      count++
    }
    context.decoded = undefined
    const taken = count === 0 ? 0 : makeRoom(entry, count, urgentOnly)
    note(publish, entry)
    parts.onDecided?.(publish, entry, decision)

    for (let i = 0; i < outputs.length; i++) {
      if (to[i] === 0) continue
      const output = outputs[i] as OutputEntry
      outbox.accept(recordOf(now, entry, output, i, machine, at, publish.receivedAtMs))
      // Of a window one message counts as forwarded; what gave its place to another was sampled away.
      if (output.emission !== undefined && replaced[i] === 1) output.counters.withheld(Verdict.sampled.code)
      else output.counters.forwarded.add()
      output.bytes.add((to[i] as number) - (from[i] as number))
      parts.onVerdict?.(publish, entry, output, 0)
    }
    return taken
  }

  /**
   * All results of a message are taken or none, and then the terminal keeps it. But a safety or legal record never waits for the
   * room of another output: what does not fit beside it is let go of and counted. [G6]
   */
  function makeRoom({ outputs }: StreamEntry, count: number, urgentOnly: boolean): number {
    let left = count
    let urgent = false
    let asked = 0
    for (let i = 0; i < outputs.length; i++) {
      if (to[i] === 0) continue
      const { output } = outputs[i] as OutputEntry
      const bytes = endOf(i) - (from[i] as number)
      fits[i] = output.to.qos === 0 || outbox.room(output.id, storageClassOf(bases[i] as string), bytes, asked) ? 1 : 0
      if (fits[i] === 1 && output.to.qos !== 0) asked += bytes + RECORD_BYTES
      if (fits[i] === 1 && storageClassOf(bases[i] as string) !== 'ordinary') urgent = true
      if (fits[i] === 0) left--
    }
    if (!urgent && (urgentOnly || left < count)) throw FULL
    if (left === count) return count
    for (let i = 0; i < outputs.length; i++) {
      if (to[i] === 0 || fits[i] === 1) continue
      to[i] = 0
      withhold(i, Verdict.quota.code)
    }
    return left
  }

  /** Where a result ends, with what would be left of it after a withdrawal. */
  function endOf(i: number): number {
    return Math.max(to[i] as number, withdrawnTo[i] as number)
  }

  /** The whole output stops, whatever stream it was that gave it away. */
  function stop(now: Snapshot, output: OutputEntry, found: string): void {
    for (const { outputs } of now.streams) {
      for (const one of outputs) if (one.output === output.output) one.stopped = found
    }
  }

  function stricterOf(output: OutputEntry, country: string | undefined): BasisEntry | undefined {
    let basis = output.basisFor(country, decision.country)
    if (decision.otherCountry !== undefined) basis = stricter(basis, output.basisFor(country, decision.otherCountry))
    for (const further of decision.furtherCountries ?? NOWHERE) basis = stricter(basis, output.basisFor(country, further))
    return basis
  }

  function decide(now: Snapshot, entry: StreamEntry, machine: Machine, eventMs: number, receivedAtMs: number): void {
    clear(decision)
    decision.collection = machine.operatorCollection === 'on'
    if (!parts.ledgerHealthy() || eventMs > receivedAtMs + LIMITS.aheadMs || eventMs < receivedAtMs - now.policy.subject.lateLimitMs) return
    // A stream whose messages carry their time, but this one does not: nobody can tell who was there. A no of who is there now still counts.
    const isTimeless = entry.stream.time !== undefined && Number.isNaN(facts.eventMs) && parts.arrivalIsTime !== true
    // [rules-language 4.9] Of a batch the whole span counts.
    const fromMs = facts.startMs < eventMs ? facts.startMs : eventMs
    const toMs = facts.endMs > eventMs ? facts.endMs : eventMs
    if (now.policy.subject.sessions === undefined) {
      // Without operator sessions the message itself names the operator, on a machine whose device setting is on.
      if (entry.stream.operatorField === undefined || facts.operator === '' || !decision.collection) return
      const identity = parts.identities.find(facts.operator, eventMs)
      if (identity === undefined || identity.kind !== 'personal') return
      if (toMs === Number.POSITIVE_INFINITY || !consent.fill(identity.operator, fromMs, receivedAtMs, decision)) return
      decision.known = true
      decision.operator = identity.operator
      decision.country = identity.country
      // A card that stands for somebody else at one end of a batch is nobody's.
      if (isTimeless || (toMs > fromMs && (holderOf(fromMs) !== identity.operator || holderOf(toMs) !== identity.operator))) forgetPerson(decision)
      return
    }
    if (toMs > fromMs) sessions.decideSpan(machine, fromMs, toMs, receivedAtMs, decision)
    else sessions.decide(machine, eventMs, receivedAtMs, decision)
    if (isTimeless) forgetPerson(decision)
    if (decision.known && facts.operator !== '') {
      // The message names an operator of its own: when it is not the one signed on, the stricter reading is that nobody is known.
      const named = parts.identities.find(facts.operator, eventMs)
      if (named?.operator !== decision.operator) forgetPerson(decision, named?.operator)
    }
  }

  function holderOf(atMs: number): OperatorId | undefined {
    return parts.identities.find(facts.operator, atMs)?.operator
  }

  function recordOf(now: Snapshot, entry: StreamEntry, output: OutputEntry, i: number, machine: Machine, acquiredAtMs: number, receivedAtMs: number): OutboxRecord {
    const order = (orders.get(machine.id) ?? orderBase) + 1
    orders.set(machine.id, order)
    const withdrawn = withdrawnTo[i] as number
    const minimiser = output.made[variants[i] as number] as ReadyMinimiser
    const known = decision.known && decision.operator !== undefined
    const subjects = known ? [decision.operator as OperatorId] : (decision.concerned ?? NOBODY)
    return {
      id: parts.random(16),
      output: output.output.id,
      recipient: output.output.recipient.id,
      stream: entry.stream.id,
      topic: topics[i] as string,
      qos: output.output.to.qos,
      retain: output.output.to.retain,
      machine: machine.id,
      holder: machine.holder,
      subjects,
      machineOrder: order,
      acquiredAtMs,
      receivedAtMs,
      purpose: output.output.purpose.id,
      basis: bases[i] as string,
      country: machine.country,
      consentSeq: subjects.length > 0 && decision.seq > 0 ? [decision.seq] : NO_EVENTS,
      policy: now.policy.id,
      rulesHash: now.policy.hash,
      plan: minimiser.plan.id,
      keyId: now.keyId,
      storageClass: storageClassOf(bases[i] as string),
      expiresAtMs: output.output.to.sendWithinMs === undefined ? undefined : (output.emission === undefined ? receivedAtMs : untils[i] ?? receivedAtMs) + output.output.to.sendWithinMs,
      payload: scratch.subarray(from[i], to[i]),
      payloadIfWithdrawn: subjects.length === 0 ? undefined
        : closesOnWithdrawal(bases[i] as string) ? null
        : withdrawn < 0 ? undefined
        : withdrawn === 0 ? null : scratch.subarray(withdrawnFrom[i], withdrawn),
      categories: minimiser.categories,
      via: output.output.to.via,
      slot: output.emission === undefined ? undefined : slots[i],
      untilMs: output.emission === undefined ? undefined : untils[i],
    }
  }

  function refuse(publish: Publish, entry: StreamEntry | undefined, code: number): number {
    metrics.refused(code)
    parts.onVerdict?.(publish, entry, undefined, code)
    return code
  }

  /** A message of a stream that is known: it counts as received as well. */
  function refuseReceived(publish: Publish, entry: StreamEntry, code: number): number {
    receive(publish, entry)
    return refuse(publish, entry, code)
  }

  function receive({ payload }: Publish, entry: StreamEntry): void {
    entry.received.add()
    receivedBytes.add(payload.length)
  }

  /** Why an output gets nothing. Counted by `note`: a message that the outbox has no room for comes again, and must not count each time. */
  function withhold(i: number, code: number): void {
    verdicts[i] = code
  }

  function note(publish: Publish, entry: StreamEntry): void {
    receive(publish, entry)
    const { outputs } = entry
    for (let i = 0; i < outputs.length; i++) {
      const output = outputs[i] as OutputEntry
      if ((failed[i] as number) > 0) output.failures.add(failed[i])
      const code = verdicts[i] as number
      if (code === 0) continue
      output.counters.withheld(code)
      parts.onVerdict?.(publish, entry, output, code)
    }
  }

  return {
    handle,
    swap(next) {
      active = next
    },
    get active() {
      return active
    },
  }
}

/** A twice as large scratch buffer with the same beginning: for a large message with many outputs, and given back with the next message. */
function larger(scratch: Buffer, end: number): Buffer {
  const next = Buffer.alloc(scratch.length * 2)
  scratch.copy(next, 0, 0, end)
  return next
}

/** What a result may need on its way, beyond what it may be in the end. */
const RESULT_ROOM = LIMITS.resultBytes + LIMITS.packetBytes + 65_536

/** Where results begin in the scratch buffer: behind the largest message and the zero that ends it. */
const FIRST = LIMITS.packetBytes + 1
/** What the outbox charges for a record beside its bytes, and a little more. */
const RECORD_BYTES = 128
const FULL = new GatewayError('OUTBOX-FULL', 'The outbox has no room for this message.')

const NOBODY: readonly OperatorId[] = []
const NO_EVENTS: readonly number[] = []
const NOWHERE: readonly string[] = []

/** Bases on which a withdrawal, refusal or objection closes the output rather than making it coarser. */
function closesOnWithdrawal(basis: string): boolean {
  return basis === 'consent' || basis === 'opt_out' || basis === 'legitimate_interest'
}

/** Keeps what forbids and whom the message may be about, drops what allows. */
function forgetPerson(decision: Decision, other?: OperatorId): void {
  if (decision.operator !== undefined) decision.concerned = other === undefined ? [decision.operator] : [decision.operator, other]
  decision.known = false
  decision.yes = 0
  decision.siteYes = 0
  decision.notice = 0
  decision.operator = undefined
  decision.session = ''
}

function storageClassOf(basis: string): OutboxRecord['storageClass'] {
  return basis === 'legal_obligation' ? 'legal' : basis === 'vital_interest' ? 'safety' : 'ordinary'
}
