/**
 * Runs the tests of a rules file: messages through the real pipeline, compared field by field with what the file expects.
 * Clock, keys and cells are fixed, so a test gives the same result everywhere and for ever.
 *
 * `given` states what was decided; `steps` play sign-ons and consent changes through the gateway's own tables, on a ledger in memory.
 */
import { createHash } from 'node:crypto'
import { isYes } from './consent/history.ts'
import type { SqliteLedger } from './consent/ledger.ts'
import { SessionTracks } from './consent/sessions.ts'
import { ConsentTable } from './consent/state.ts'
import { clear, type ConsentState, type Decision } from './domain/consent.ts'
import { GatewayError } from './domain/errors.ts'
import { atOnce, type Pieces } from './domain/pieces.ts'
import type { OperatorId, PurposeId } from './domain/ids.ts'
import type { Output, Policy, RuleTest, Stream } from './domain/policy.ts'
import type { Clock, ConsentChange, EventFilter, Identity, Ledger, LedgerEvent, Machine, StoredEvent } from './domain/ports.ts'
import { Verdict, verdictName } from './domain/verdict.ts'
import type { Schemas } from './minimise/descriptor.ts'
import { stepsAlong } from './minimise/plan.ts'
import { parseDuration } from './minimise/quantity.ts'
import { verify } from './minimise/verify.ts'
import { compareFields, shownFields, type Mismatch, type Saved } from './comparison.ts'
import { decisionFor, machineOf, offlineKeys, offlineSession, rehearsalInPieces, type OutputPerformance, type People, type Performance, type Rehearsal } from './rehearsal.ts'

export interface TestReport {
  readonly tests: readonly TestResult[]
  readonly passed: number
  readonly failed: number
  readonly coverage: Coverage
}

export interface TestResult {
  readonly name: string
  readonly line: number
  /** The included file that it stands in; absent in the rules file itself. */
  readonly file?: string
  /** Empty = passed. */
  readonly failures: readonly Failure[]
}

export interface Failure {
  /** One-based; undefined for a test without steps. */
  readonly step: number | undefined
  /** Empty when it concerns the message as a whole. */
  readonly output: string
  /** Empty when it concerns the whole output. */
  readonly field: string
  /** As YAML would write it; `nothing` for an output or field that must be absent. */
  readonly expected: unknown
  readonly actual: unknown
  /** Why, where there is more to say. */
  readonly note: string | undefined
}

/** How often the tests looked at each output under a yes, a no and neither. */
export interface Coverage {
  readonly outputs: readonly { readonly output: string; readonly yes: number; readonly no: number; readonly notSet: number }[]
  /** Of the three states of every output, in per cent, rounded down. */
  readonly percent: number
}

/**
 * Never throws for what stands in a test: a message that cannot be encoded is a failure of its test.
 * @param engine  what the gateway minimises with; its results are held against those of the readable engine
 */
export function runTests(policy: Policy, schemas: Schemas, engine: 'generated' | 'interpreted' = 'generated'): TestReport {
  return atOnce(runTestsInPieces(policy, schemas, engine))
}

/** The same, a minimiser or a test a piece. */
export function* runTestsInPieces(policy: Policy, schemas: Schemas, engine: 'generated' | 'interpreted'): Pieces<TestReport> {
  const looked = new Map<string, { yes: number; no: number; notSet: number }>(policy.outputs.map((output) => [output.id, { yes: 0, no: 0, notSet: 0 }]))
  const tests: TestResult[] = []
  if (policy.tests.length > 0) {
    const cast = new Cast()
    const stage = new Stage(policy, schemas, looked, {
      given: yield* rehearsalInPieces(policy, { keys: KEYS, engine }), readable: yield* rehearsalInPieces(policy, { keys: KEYS, engine: 'interpreted' }),
      acted: yield* rehearsalInPieces(policy, { keys: KEYS, engine, people: cast }), cast,
    })
    for (const test of policy.tests) {
      yield
      tests.push({ name: test.name, line: test.line, ...(test.file === undefined ? {} : { file: test.file }), failures: stage.run(test) })
    }
  }
  return reportOf(tests, looked)
}

/** Reports of the same rules under different values as one, in the order of the tests of `policy`. */
export function joinedReport(policy: Policy, reports: readonly (Pick<TestReport, 'tests'> & Partial<Pick<TestReport, 'coverage'>>)[]): TestReport {
  const results = new Map(reports.flatMap((report) => report.tests).map((result) => [result.name, result]))
  const looked = new Map<string, Looked>(policy.outputs.map((output) => [output.id, { yes: 0, no: 0, notSet: 0 }]))
  for (const { output, yes, no, notSet } of reports.flatMap((report) => report.coverage?.outputs ?? [])) {
    const sum = looked.get(output)
    if (sum !== undefined) Object.assign(sum, { yes: sum.yes + yes, no: sum.no + no, notSet: sum.notSet + notSet })
  }
  return reportOf(policy.tests.flatMap((test) => results.get(test.name) ?? []), looked)
}

interface Looked {
  yes: number
  no: number
  notSet: number
}

function reportOf(tests: readonly TestResult[], looked: ReadonlyMap<string, Looked>): TestReport {
  const failed = tests.filter((test) => test.failures.length > 0).length
  const covered = [...looked.values()].reduce((sum, { yes, no, notSet }) => sum + Number(yes > 0) + Number(no > 0) + Number(notSet > 0), 0)
  return {
    tests,
    passed: tests.length - failed,
    failed,
    coverage: { outputs: [...looked].map(([output, counts]) => ({ output, ...counts })), percent: looked.size === 0 ? 100 : Math.floor((covered * 100) / (looked.size * 3)) },
  }
}

type Text = Readonly<Record<string, unknown>>

/** What one message of a test is judged by. */
interface Judgement {
  readonly step: number | undefined
  readonly expect: Text
  readonly others: boolean
  readonly never: readonly string[]
  readonly saved: Saved
}

interface Rehearsals {
  /** For tests of one message, which bring their decision. */
  readonly given: Rehearsal
  readonly readable: Rehearsal
  /** For tests with steps; the cast is new for each. */
  readonly acted: Rehearsal
  readonly cast: Cast
}

class Stage {
  readonly #policy: Policy
  readonly #schemas: Schemas
  readonly #looked: Map<string, { yes: number; no: number; notSet: number }>
  readonly #rehearsals: Rehearsals

  constructor(policy: Policy, schemas: Schemas, looked: Map<string, { yes: number; no: number; notSet: number }>, rehearsals: Rehearsals) {
    this.#policy = policy
    this.#schemas = schemas
    this.#looked = looked
    this.#rehearsals = rehearsals
  }

  run(test: RuleTest): Failure[] {
    try {
      return test.steps === undefined ? this.#runGiven(test, test.given ?? {}) : this.#runSteps(test, test.steps)
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
      return [failure(undefined, '', '', 'a message that the schema allows', undefined, error.message)]
    }
  }

  #runGiven(test: RuleTest, given: Text): Failure[] {
    const stream = this.#stream(given)
    const atMs = given.at === undefined ? undefined : timeOf(String(given.at), undefined, this.#day([given]))
    const payload = this.#encode(stream, given, atMs)
    const { facts } = this.#rehearsals.given.probe(stream.id, payload)
    const operator = given.operator === null ? undefined : (textOf(given.operator) ?? (facts.operator === '' ? ASSUMED_OPERATOR : facts.operator))
    const message = {
      stream: stream.id,
      payload,
      machine: machineIn(given, textOf(given.machine) ?? (facts.machine === '' ? ASSUMED_MACHINE : facts.machine)),
      receivedAtMs: atMs ?? (Number.isNaN(facts.eventMs) ? this.#day([given]) : facts.eventMs),
      decision: decisionFor(this.#policy, {
        operator, consent: statesIn(given.consent), notice: given.notice !== false, country: textOf(given.operator_country),
        session: operator === undefined ? '' : offlineSession(KEYS, operator),
      }),
    }
    const performance = this.#rehearsals.given.perform(message)
    const judgement = { step: undefined, expect: test.expect ?? {}, others: test.others === 'nothing', never: test.neverContains, saved: new Map<string, string>() }
    return [...this.#judge(performance, stream, judgement), ...disagreement(performance, this.#rehearsals.readable.perform(message))]
  }

  #runSteps(test: RuleTest, steps: readonly Text[]): Failure[] {
    const { acted: rehearsal, cast } = this.#rehearsals
    const machines = steps.filter((step) => step.message !== undefined).map((step) => this.#machineNamed(step)).filter((name) => name !== undefined)
    const failures: Failure[] = []
    const saved: Saved = new Map()
    const day = this.#day(steps)
    let now: number | undefined
    cast.begin(this.#policy, test.name)
    for (const [index, step] of steps.entries()) {
      now = timeOf(String(step.at), now, day)
      cast.nowMs = now
      for (const [operator, states] of Object.entries((step.consent as Readonly<Record<string, unknown>> | undefined) ?? {})) {
        for (const [purpose, state] of statesIn(states)) cast.change(operator as OperatorId, purpose as PurposeId, state)
      }
      if (step.message === undefined) continue
      const stream = this.#stream(step)
      const payload = this.#encode(stream, step, now)
      cast.override = step.operator === undefined ? undefined : { operator: step.operator === null ? undefined : (String(step.operator) as OperatorId) }
      cast.operatorCountry = textOf(step.operator_country)
      cast.notice = step.notice !== false
      const performance = rehearsal.perform({ stream: stream.id, payload, machine: machineIn(step, this.#machineNamed(step) ?? machines[0] ?? ASSUMED_MACHINE), receivedAtMs: now })
      failures.push(...this.#judge(performance, stream, {
        step: index + 1,
        expect: (step.expect as Text | undefined) ?? {},
        others: step.others === 'nothing' || test.others === 'nothing',
        never: [...test.neverContains, ...((step.never_contains as readonly unknown[] | undefined) ?? []).map(String)],
        saved,
      }))
    }
    return failures
  }

  #judge(performance: Performance, stream: Stream, judgement: Judgement): Failure[] {
    const { step, expect, others, never, saved } = judgement
    const failures: Failure[] = []
    const results = new Map<string, OutputPerformance>(performance.outputs.map((one) => [one.output.id, one]))
    const fields = new Map<string, Text>()
    for (const [id, one] of results) if (one.sent !== undefined) fields.set(id, shownFields(this.#schemas.decode(stream.message.name, one.sent.bytes), stream))
    const mismatches = compareOutputs(expect, fields, { schemas: this.#schemas, stream, saved, sealed: (output, field) => isSealed(results.get(output), field) })
    for (const { output, mismatch } of mismatches) failures.push(failure(step, output, mismatch.field, mismatch.expected, mismatch.actual, mismatch.actual === NOTHING && mismatch.field === '' ? reasonOf(performance, results.get(output)) : mismatch.note))

    for (const [id, one] of results) {
      const isNamed = Object.hasOwn(expect, id)
      if (performance.code >= 0 && (isNamed || others)) this.#look(one.output, performance.decision)
      const shown = fields.get(id)
      if (shown === undefined || one.sent === undefined) continue
      if (others && !isNamed) failures.push(failure(step, id, '', NOTHING, shown, 'the test says `others: nothing`'))
      const held = never.find((text) => contains(one.sent as NonNullable<typeof one.sent>, shown, text))
      if (held !== undefined) failures.push(failure(step, id, '', `no "${held}"`, shown, 'the test says `never_contains`'))
      const problem = verify(one.plan, one.sent.bytes)
      if (problem !== undefined) failures.push(failure(step, id, '', 'only what the plan names', shown, problem))
    }
    return failures
  }

  #look(output: Output, decision: Readonly<Decision>): void {
    const counts = this.#looked.get(output.id)
    if (counts === undefined) return
    const bit = 1 << output.purpose.index
    if ((decision.no & bit) !== 0) counts.no++
    else if (decision.known && ((output.reach === 'site' ? decision.siteYes : decision.yes) & bit) !== 0) counts.yes++
    else counts.notSet++
  }

  #stream(text: Text): Stream {
    const stream = this.#policy.streams.find((one) => one.id === text.stream)
    if (stream === undefined) throw new GatewayError('UNKNOWN-STREAM', 'The test names a stream that does not exist.')
    return stream
  }

  /** @param atMs  when the message was made, if it does not say so itself */
  #encode(stream: Stream, text: Text, atMs: number | undefined): Uint8Array {
    const message = { ...(text.message as Record<string, unknown>) }
    const { time } = stream
    if (atMs !== undefined && time !== undefined && !time.field.includes('.') && !Object.hasOwn(message, time.field)) {
      message[time.field] = time.unit === 'timestamp' ? new Date(atMs).toISOString() : String({ s: Math.floor(atMs / 1_000), ms: atMs, us: BigInt(atMs) * 1_000n, ns: BigInt(atMs) * 1_000_000n }[time.unit])
    }
    return this.#schemas.encode(stream.message.name, message)
  }

  #machineNamed(text: Text): string | undefined {
    if (text.machine !== undefined) return String(text.machine)
    const stream = this.#stream(text)
    const { facts } = this.#rehearsals.given.probe(stream.id, this.#encode(stream, text, undefined))
    return facts.machine === '' ? undefined : facts.machine
  }

  /** Midnight (UTC) of the first day that a message names; else of a day when the rules are in force. */
  #day(texts: readonly Text[]): number {
    for (const text of texts) {
      if (text.message === undefined) continue
      const stream = this.#stream(text)
      const { facts } = this.#rehearsals.given.probe(stream.id, this.#encode(stream, text, undefined))
      if (!Number.isNaN(facts.eventMs)) return Math.floor(facts.eventMs / DAY_MS) * DAY_MS
    }
    const effective = Date.parse(`${this.#policy.effective ?? ''}T00:00:00Z`)
    return Number.isNaN(effective) ? Date.UTC(2026, 0, 5) : effective
  }
}

const NOTHING = 'nothing'
const DAY_MS = 86_400_000
/** Who it is when a test does not say and the message does not either. */
const ASSUMED_OPERATOR = 'operator'
const ASSUMED_MACHINE = 'machine'
const KEYS = offlineKeys()

function failure(step: number | undefined, output: string, field: string, expected: unknown, actual: unknown, note: string | undefined): Failure {
  return { step, output, field, expected, actual, note }
}

interface Comparing {
  readonly schemas: Schemas
  readonly stream: Stream
  readonly saved: Saved
  sealed(output: string, field: string): boolean
}

/** Saves first, wherever they stand, so that one output may be compared with a later one. */
function compareOutputs(expect: Text, fields: ReadonlyMap<string, Text>, cx: Comparing): { readonly output: string; readonly mismatch: Mismatch }[] {
  const found: { readonly output: string; readonly mismatch: Mismatch }[] = []
  for (const phase of ['save', 'compare'] as const) {
    for (const [output, expected] of Object.entries(expect)) {
      const actual = fields.get(output)
      if (phase === 'compare' && (expected === NOTHING || actual === undefined)) {
        if (expected !== NOTHING || actual !== undefined) found.push({ output, mismatch: { field: '', expected, actual: actual ?? NOTHING, note: undefined } })
      } else if (expected !== NOTHING && actual !== undefined) {
        const mismatches = compareFields(expected as Text, actual, { schemas: cx.schemas, stream: cx.stream, saved: cx.saved, phase, sealed: (field) => cx.sealed(output, field) })
        for (const mismatch of mismatches) found.push({ output, mismatch })
      }
    }
  }
  return found
}

function reasonOf(performance: Performance, result: OutputPerformance | undefined): string {
  if (result === undefined && performance.code >= 0) return 'the output does not take this stream'
  const name = verdictName(performance.code < 0 ? performance.code : (result?.code ?? Verdict.failed.code))
  return `${performance.code < 0 ? 'the message was refused: ' : ''}${name}: ${Verdict[name].text}`
}

function isSealed(result: OutputPerformance | undefined, field: string): boolean {
  const step = result === undefined ? undefined : stepsAlong(result.plan.root, field)?.at(-1)
  return step?.kind === 'value' && step.chain.some((one) => one.name === 'encrypt')
}

/** Whether a text can be found in what an output sent: in its topic, its bytes, or as one of its values. */
function contains(sent: NonNullable<OutputPerformance['sent']>, shown: unknown, text: string): boolean {
  if (sent.topic.includes(text) || Buffer.from(sent.bytes).includes(Buffer.from(text, 'utf8'))) return true
  const holds = (value: unknown): boolean => (typeof value === 'object' && value !== null ? Object.values(value).some(holds) : String(value) === text)
  return holds(shown)
}

/** The generated functions and the readable engine must agree; a difference is a fault of the gateway, found before it serves. */
function disagreement(one: Performance, other: Performance): Failure[] {
  return one.outputs.flatMap((result, at) => {
    const twin = other.outputs[at]
    const same = twin !== undefined && twin.code === result.code && twin.sent?.topic === result.sent?.topic && Buffer.compare(twin.sent?.bytes ?? EMPTY, result.sent?.bytes ?? EMPTY) === 0
    return same ? [] : [failure(undefined, result.output.id, '', 'the same bytes from both engines', undefined, 'the generated minimiser and the interpreter disagree; set `minimiser: interpreted` in the gateway file and report it')]
  })
}

const EMPTY = new Uint8Array(0)

function textOf(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value as string | number)
}

function statesIn(value: unknown): ReadonlyMap<string, ConsentState> {
  return new Map(Object.entries((value as Readonly<Record<string, ConsentState>> | undefined) ?? {}))
}

function machineIn(text: Text, id: string): Machine {
  const labels = Object.fromEntries(Object.entries((text.labels as Text | undefined) ?? {}).map(([name, value]) => [name, String(value)]))
  return machineOf({ id, fleet: textOf(text.fleet), model: textOf(text.model), labels, country: textOf(text.country), operatorCollection: text.operator_collection as Machine['operatorCollection'] | undefined })
}

/**
 * `08:00` (on the test's day, or the next time it is eight), `+5m` after the step before, or RFC 3339.
 * @throws GatewayError TEST-TIME
 */
function timeOf(text: string, beforeMs: number | undefined, day: number): number {
  const after = /^\+\s*(.+)$/.exec(text)
  const duration = after === null ? undefined : parseDuration(after[1])
  if (duration !== undefined) return (beforeMs ?? day) + duration
  const clock = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(text)
  if (clock !== null && Number(clock[1]) < 24 && Number(clock[2]) < 60 && Number(clock[3] ?? 0) < 60) {
    let at = day + (Number(clock[1]) * 3_600 + Number(clock[2]) * 60 + Number(clock[3] ?? 0)) * 1_000
    while (beforeMs !== undefined && at < beforeMs) at += DAY_MS
    return at
  }
  const iso = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(iso)) throw new GatewayError('TEST-TIME', `"${text.slice(0, 40)}" is no time of a test.`, 'Write "08:00", "+5m" or "2026-11-23T08:00:00Z".')
  return iso
}

// ------------------------------------------------------------------------------------------------------------- the people

/** The gateway's own tables over a ledger in memory. Every name stands for itself as a card, and for one person. */
class Cast implements People {
  /** The clock of the test. */
  nowMs = 0
  /** Set for a step that says who is there itself: then the sessions are not asked. */
  override: { readonly operator: OperatorId | undefined } | undefined
  operatorCountry: string | undefined
  notice = true

  #states: ConsentTable | undefined
  #tracks: SessionTracks | undefined
  readonly #told = new Set<string>()
  #policy: Policy | undefined

  begin(policy: Policy, name: string): void {
    // Time never goes back for those who write it down, and each test begins its own.
    this.nowMs = 0
    const clock: Clock = { now: () => this.nowMs, monotonic: () => this.nowMs }
    const ledger = new MemoryLedger()
    let drawn = 0
    this.#policy = policy
    this.#told.clear()
    this.#states = new ConsentTable({ ledger, clock, knows: () => true })
    this.#states.usePolicy(policy)
    // The sessions use of the ledger only what the port offers, and `endDays`, which here has nothing to end.
    this.#tracks = new SessionTracks({
      ledger: ledger as unknown as SqliteLedger, states: this.#states, clock, rules: policy.subject,
      random: (bytes) => createHash('sha256').update(`${name}\u0000${drawn++}`).digest().subarray(0, bytes),
    })
  }

  change(operator: OperatorId, purpose: PurposeId, state: ConsentState): void {
    const states = this.#of(operator)
    if (state === 'not_set') return
    const before = states.show(operator).rows.find((row) => row.purpose === purpose)
    states.change({
      operator, purpose, state: state as ConsentChange['state'], source: 'portal', by: undefined, evidence: undefined, language: undefined,
      expiresAtMs: undefined, machine: undefined, supersedes: isYes(state) ? (before?.seq ?? 0) : undefined,
    })
  }

  readonly identities = {
    find: (credential: string): Identity | undefined => {
      const operator = this.override === undefined ? (credential as OperatorId) : this.override.operator
      if (operator === undefined) return undefined
      this.#of(operator)
      return { operator, kind: 'personal', country: this.operatorCountry, validFromMs: 0, validToMs: Number.MAX_SAFE_INTEGER }
    },
  }

  readonly consent: People['consent'] = {
    usePolicy: () => {},
    change: (change) => this.#of(change.operator).change(change),
    giveNotice: (operator, policy, language, by) => this.#of(operator).giveNotice(operator, policy, language, by),
    show: (operator) => this.#of(operator).show(operator),
    fill: (operator, eventMs, nowMs, into) => {
      const known = this.#of(operator).fill(operator, eventMs, nowMs, into)
      if (!this.notice) into.notice = 0
      return known
    },
    operators: 0,
  }

  readonly sessions: People['sessions'] = {
    signOn: (machine, identity, eventMs, receivedMs) => this.#tracks?.signOn(machine, identity, eventMs, receivedMs),
    signOff: (machine, identity, eventMs, receivedMs) => this.#tracks?.signOff(machine, identity, eventMs, receivedMs),
    decide: (machine, eventMs, nowMs, into) => {
      if (this.override === undefined) this.#tracks?.decide(machine, eventMs, nowMs, into)
      else this.#decideAsTold(machine, eventMs, nowMs, into)
      if (!this.notice) into.notice = 0
    },
    decideSpan: (machine, fromMs, toMs, nowMs, into) => {
      if (this.override === undefined) this.#tracks?.decideSpan(machine, fromMs, toMs, nowMs, into)
      else this.#decideAsTold(machine, fromMs, nowMs, into)
      if (!this.notice) into.notice = 0
    },
    current: (machine) => this.#tracks?.current(machine),
    forget: (machine) => this.#tracks?.forget(machine),
    sweep: () => {},
    size: 0,
  }

  #decideAsTold(machine: Machine, eventMs: number, nowMs: number, into: Decision): void {
    clear(into)
    const operator = this.override?.operator
    into.collection = machine.operatorCollection === 'on'
    if (operator === undefined || !into.collection || !this.#of(operator).fill(operator, eventMs, nowMs, into)) return
    into.known = true
    into.operator = operator
    into.country = this.operatorCountry
    into.session = offlineSession(KEYS, operator)
  }

  /** The table, in which this person is known and was given the notice. */
  #of(operator: OperatorId): ConsentTable {
    const states = this.#states as ConsentTable
    if (!this.#told.has(operator)) {
      this.#told.add(operator)
      states.giveNotice(operator, (this.#policy as Policy).id, undefined, undefined)
    }
    return states
  }
}

/** A ledger that lives as long as one test. */
class MemoryLedger implements Ledger {
  readonly #events: (StoredEvent & { readonly subject: LedgerEvent['subject'] })[] = []
  readonly healthy = true

  append(event: LedgerEvent): number {
    return this.enqueue(event)
  }

  enqueue({ type, subject, body }: LedgerEvent): number {
    const seq = this.#events.length + 1
    this.#events.push({ seq, uuid: '', type, schema: 1, gateway: '', day: '', body, subject })
    return seq
  }

  flush(): void {}

  events(filter: EventFilter = {}): Iterable<StoredEvent> {
    const types = typeof filter.type === 'string' ? [filter.type] : filter.type
    return this.#events.filter((event) => event.seq > (filter.afterSeq ?? 0) && (types === undefined || types.some((type) => (type.endsWith('.') ? event.type.startsWith(type) : event.type === type))) && (filter.subject === undefined || event.subject?.id === filter.subject.id))
  }

  endDays(): number {
    return 0
  }

  verify(): ReturnType<Ledger['verify']> {
    return { ok: true, events: this.#events.length, brokenAt: undefined, reason: undefined }
  }

  get head(): { readonly seq: number; readonly hash: string } {
    return { seq: this.#events.length, hash: '' }
  }

  close(): void {}
}
