/**
 * What the admin API may ask of the gateway. gateway.ts implements it; routes.ts is its only caller. Everything here is
 * plain data, so that the API can be tested without a gateway and the gateway without HTTP.
 */
import type { LearnReport, RecordingView, TracePage, TraceView } from '../domain/live.ts'
import type { ConsentChange, ConsentReceipt, ConsentRow, DeadLetter, Machine, NoticeGiven } from '../domain/ports.ts'
import type { Finding } from '../domain/errors.ts'
import type { ClearEvent, HistoryEntry } from '../domain/history.ts'
import type { FleetId, MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../domain/ids.ts'
import type { Params } from '../domain/policy.ts'
import type { VerdictName } from '../domain/verdict.ts'
import type { Actor, Role } from './tokens.ts'

export interface Control {
  /** Cheap: asked by probes every second. Says nothing personal. */
  health(): Health
  status(): Status
  rules(): RulesState
  /** Checks a rules file as `parapet check` would, with the gateway's own schemas and zones. Changes nothing. */
  validateRules(yaml: string): Promise<readonly Finding[]>
  /** The active set as it was accepted, for a comparison elsewhere. */
  activeRules(): ActiveRules | undefined
  /** Writes the rules file and takes it as a change of the file. Errors: RULES-REFUSED, RULES-FILE. */
  putRules(yaml: string, by: string): Promise<RulesState>
  /** Reads the files again, also one that was set aside. What widens something is staged. */
  activateRules(by: string): Promise<RulesState>
  /** Approves the staged set of this hash; with `two_person` the second, different token activates it. Errors: NOTHING-STAGED, RULES-CHANGED, SECOND-APPROVER, RULES-REFUSED. */
  approveRules(hash: string, reason: string, by: string): Promise<RulesState>
  /** Goes back to the set that was active before; what that widens is staged. Errors: NO-PREVIOUS, RULES-REFUSED. */
  rollbackRules(by: string): Promise<RulesState>
  /** Throws the staged set away. Errors: NOTHING-STAGED. */
  discardRules(by: string): Promise<RulesState>
  /** Performs a candidate beside the active set on sampled live traffic. Errors: RULES-REFUSED, NO-RULES, SHADOW-RUNS. */
  startShadow(yaml: string, run: { readonly samplePercent: number; readonly minutes: number; readonly asNobody: boolean }, by: string): Promise<ShadowView>
  /** The run that goes on, or the last one; undefined when there was none since the start. */
  shadow(): ShadowView | undefined
  /** Ends the run. Errors: NO-SHADOW. */
  stopShadow(by: string): ShadowView

  /** Explains the messages of a machine or an operator for a limited time; a caller has at most one. Errors: UNKNOWN-MACHINE, UNKNOWN-OPERATOR, TRACE-LIMIT. */
  startTrace(trace: NewTrace): TraceView
  /** What the caller's trace saw after a sequence number. Errors: UNKNOWN-TRACE. */
  trace(who: Actor, after: number): TracePage
  /** Ends the caller's trace and forgets what it saw. Errors: UNKNOWN-TRACE. */
  stopTrace(who: Actor): void

  /**
   * Resolves once the change is durable and in force, and for a withdrawal once nothing covered can leave any more (G4).
   * Errors: UNKNOWN-OPERATOR, UNKNOWN-PURPOSE, LEDGER-DAMAGED.
   */
  changeConsent(change: ConsentChange): Promise<ConsentReceipt>
  /** Records that the person was shown the notice of a policy; undefined = the policy in force. Errors: UNKNOWN-OPERATOR, UNKNOWN-POLICY. */
  giveNotice(operator: OperatorId, policy: string | undefined, language: string | undefined, by: string): Promise<NoticeReceipt>
  /** Undefined when nobody of this id is known. */
  consent(operator: OperatorId): ConsentView | undefined
  /**
   * The person's consent as ISO/IEC TS 27560 receipt with one record per purpose, JSON-LD in terms of DPV. Undefined when nobody of this id is known.
   * @param receipt  number of the receipt, a UUID
   */
  consentReceipt(operator: OperatorId, purpose: PurposeId | undefined, receipt: string): Readonly<Record<string, unknown>> | undefined

  /** Walks the ledger while the gateway goes on; several who ask at a time get one walk. What is broken closes everything (G3). */
  verifyLedger(): Promise<LedgerView>
  /** The clear columns, which tell of nobody. */
  ledgerEvents(page: { readonly after: number; readonly limit: number; readonly type: string | undefined; readonly day: string | undefined }): readonly ClearEvent[]

  /** Machines in the order of their ids, after a given one. */
  machines(page: { readonly after: string | undefined; readonly limit: number }): { readonly machines: readonly Machine[]; readonly total: number }
  /**
   * Adds to the registry file and takes it into use. Of the password only its scrypt record is kept; undefined = none.
   * Errors: MACHINE-EXISTS, MACHINE-NAME, MACHINES-FILE.
   */
  addMachine(entry: NewMachine, password: string | undefined): Promise<Machine>
  /** Who is signed on now. */
  sessions(): readonly SessionView[]
  outputs(): readonly OutputView[]
  /** Names of the root keys and since when; nothing that helps to find out a key. */
  keys(): KeysView
  /** What learn mode has seen in its newest run; undefined when there was none. */
  learned(): LearnReport | undefined
  /** Errors: LEARNING-ON, LEARN-TIME, UNKNOWN-STREAM. */
  startLearning(request: { readonly stream: StreamId | undefined; readonly forMs: number }): LearnReport
  /** Errors: LEARNING-OFF. */
  stopLearning(): LearnReport
  /** Oldest first. */
  recordings(): readonly RecordingView[]
  /** Writes its own events into the ledger. Errors: RECORDING-…, REASON-MISSING, UNKNOWN-STREAM, UNKNOWN-MACHINE, NO-RULES, LEDGER-DAMAGED. */
  startRecording(request: NewRecording, by: { readonly by: string; readonly role: Role }): RecordingView
  /** Errors: UNKNOWN-RECORDING. */
  stopRecording(id: string, by: { readonly by: string; readonly role: Role }): RecordingView
  /** Errors: UNKNOWN-RECORDING, RECORDING-HELD. */
  deleteRecording(id: string, by: { readonly by: string; readonly role: Role }): void
  /** Answers "nothing arrives". Undefined when machine or output do not exist. */
  why(machine: MachineId, output: OutputId): Why | undefined
  /** Messages that a broker refused for good, in the order in which they were received, after a number. */
  deadLetters(page: { readonly after: number; readonly limit: number }): readonly DeadLetter[]
  /** Sends them once more, behind all that waits; undefined = all. Returns how many. Errors: OUTBOX-UNHEALTHY. */
  retryDeadLetters(numbers: readonly number[] | undefined): number
  /** Deletes them, but for what a legal hold keeps; undefined = all. Returns how many. Errors: OUTBOX-UNHEALTHY. */
  dropDeadLetters(numbers: readonly number[] | undefined): number
}

export interface Health {
  /** The process does its work; false only when a restart would help. */
  readonly live: boolean
  readonly ready: boolean
  /** Why not ready, or what a person should look at although it is. Never names a machine or a person. */
  readonly reasons: readonly Reason[]
}

export interface Reason {
  /** Stable: NO-RULES, RULES-REFUSED, LEDGER-DAMAGED, OUTBOX-FULL, DISK-LOW, BRIDGE-DOWN, CLOCK-UNSURE, CLOSING, … */
  readonly code: string
  readonly severity: 'error' | 'warning'
  readonly text: string
  /** The next step. */
  readonly mend: string | undefined
}

export interface Status {
  readonly name: string
  readonly version: string
  readonly startedAtMs: number
  readonly trial: boolean
  readonly listeners: readonly { readonly name: string; readonly host: string; readonly port: number; readonly tls: boolean; readonly connections: number }[]
  readonly bridges: readonly { readonly name: string; readonly recipient: RecipientId; readonly connected: boolean; readonly waiting: number }[]
  readonly machines: number
  readonly operators: number
  readonly sessions: number
  readonly outbox: { readonly records: number; readonly bytes: number; readonly limitBytes: number; readonly oldestAtMs: number | undefined; readonly deadLetters?: number }
  /** What waits for recipients' persistent sessions. */
  readonly recipients?: readonly { readonly recipient: RecipientId; readonly sessions: number; readonly connected: number; readonly records: number; readonly bytes: number; readonly oldestAtMs: number | undefined }[]
  readonly ledger: { readonly seq: number; readonly healthy: boolean }
  readonly rules: { readonly hash: string; readonly policy: string; readonly activeSinceMs: number } | undefined
}

export interface RulesState {
  /** Undefined: none was ever accepted, nothing is forwarded. */
  readonly active: {
    readonly hash: string
    readonly policy: string
    readonly effective: string | undefined
    readonly activeSinceMs: number
    readonly streams: readonly StreamId[]
    readonly outputs: readonly OutputId[]
    readonly purposes: readonly PurposeId[]
  } | undefined
  /** The last file read, when it was not accepted; the active set stayed. */
  readonly refused: { readonly atMs: number; readonly findings: readonly Finding[] } | undefined
  /** Accepted but wider than the active set: waits for approval. */
  readonly staged: StagedRules | undefined
  /** What was active before; a rollback goes there. */
  readonly previous?: { readonly hash: string; readonly policy: string } | undefined
}

export interface StagedRules {
  readonly hash: string
  readonly policy: string
  readonly sinceMs: number
  /** Name of the token, or `file`. */
  readonly by: string
  /** What it does beside the active set, the widened first. */
  readonly changes: readonly RulesChange[]
  readonly widened: number
  readonly narrowed: number
  readonly changed: number
  readonly approvals: readonly { readonly by: string; readonly atMs: number; readonly reason: string }[]
  /** How many different tokens must approve. */
  readonly needs: 1 | 2
}

/** A Change of difference.ts. */
export interface RulesChange {
  readonly verdict: 'widened' | 'narrowed' | 'changed'
  readonly comparable: boolean
  readonly where: string
  readonly consent: readonly string[]
  readonly countries: readonly string[]
  readonly before: string
  readonly after: string
  readonly why: string
}

export interface ActiveRules {
  readonly file: string
  readonly text: string
  /** Included files, as `include:` names them -> text. */
  readonly include?: Readonly<Record<string, string>>
  readonly params?: Params
  readonly proto: Readonly<Record<string, string>>
  readonly hash: string
  /** On which it was accepted: `accept: until` is judged by it. */
  readonly day: string
}

/** A ShadowReport of watch/shadow.ts. Counts, never values. */
export interface ShadowView {
  readonly candidate: { readonly hash: string; readonly policy: string }
  readonly active: { readonly hash: string; readonly policy: string }
  readonly by: string
  readonly samplePercent: number
  readonly asNobody: boolean
  readonly startedAtMs: number
  readonly endsAtMs: number
  readonly endedAtMs: number | undefined
  readonly ended: string | undefined
  readonly seen: number
  readonly compared: number
  readonly skipped: number
  readonly rows: readonly {
    readonly output: string
    readonly stream: string
    readonly field: string
    readonly what: string
    readonly reason: string
    readonly count: number
    /** Counted up to 5. */
    readonly machines: number
    /** For those who may read consent: routes.ts leaves it out for everybody else. */
    readonly hangsOnPerson: boolean
  }[]
  readonly further: number
  readonly difference: string
  readonly asksAgain: readonly string[]
  readonly noticeAgain: boolean
}

export interface NewTrace {
  readonly machine: MachineId | undefined
  readonly operator: OperatorId | undefined
  readonly minutes: number
  readonly values: boolean
  readonly who: Actor
  /** Whether the caller may read consent. */
  readonly personal: boolean
}

export interface NoticeReceipt {
  readonly operator: OperatorId
  readonly policy: string
  readonly seq: number
}

export interface ConsentView {
  readonly operator: OperatorId
  readonly country: string | undefined
  readonly rows: readonly ConsentRow[]
  readonly notice: NoticeGiven | undefined
  /** What the person may ask for, oldest first. */
  readonly history: readonly HistoryEntry[]
  /** Who looked at this through the API, oldest first. */
  readonly looks: readonly { readonly atMs: number; readonly action: string; readonly role: string | undefined }[]
}

export interface LedgerView {
  readonly ok: boolean
  readonly events: number
  /** The last event that holds. */
  readonly head: { readonly seq: number; readonly hash: string }
  /** The newest head outside the database whose signature is right. */
  readonly signed: { readonly seq: number; readonly day: string } | undefined
  readonly brokenAt: number | undefined
  readonly reason: string | undefined
  /** Events without an entry in the index, which the next start makes anew. */
  readonly unindexed: number
  readonly days: { readonly first: string; readonly last: string } | undefined
  readonly types: Readonly<Record<string, number>>
  /** Public key of the heads' signatures, base64 SPKI. */
  readonly headKey: string
}

export interface NewMachine {
  readonly id: MachineId
  readonly fleet: FleetId
  readonly model: string
  readonly country: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly holder: string | undefined
  readonly operatorCollection: 'on' | 'off' | 'unknown'
}

export interface SessionView {
  readonly machine: MachineId
  readonly operator: OperatorId
  readonly sinceMs: number
}

export interface OutputView {
  readonly id: OutputId
  readonly recipient: RecipientId
  readonly purpose: PurposeId
  readonly topic: string
  readonly qos: 0 | 1 | 2
  readonly via: readonly string[]
  /** The verifier stopped it, or false. */
  readonly stopped: boolean
  readonly forwarded: number
  readonly withheld: Partial<Record<VerdictName, number>>
}

export interface Why {
  readonly machine: MachineId
  readonly output: OutputId
  readonly connected: boolean
  readonly country: string | undefined
  /** Basis of the output's purpose there; undefined = not listed, closed. */
  readonly basis: string | undefined
  /** The newest last. At most 32. */
  readonly messages: readonly { readonly atMs: number; readonly stream: StreamId | undefined; readonly result: 'forwarded' | VerdictName }[]
  /**
   * What the consent of whoever is signed on says, for the privacy role only: routes.ts leaves it out for everybody else,
   * so implementations need not look at who asks.
   */
  readonly person: { readonly known: boolean; readonly yes: boolean; readonly no: boolean; readonly notice: boolean; readonly collection: boolean } | undefined
  /** One sentence: what to do next. Must not say anything that `person` says. */
  readonly next: string
}

export interface NewRecording {
  /** Public key, 32 bytes base64url. */
  readonly to: string
  readonly reason: string
  readonly stream: StreamId | undefined
  readonly machine: MachineId | undefined
  readonly forMs: number
  readonly bytes: number
  readonly keepMs: number
  readonly withOperators: boolean
}

/** One change, or one look at a person's data, through the API. `operator` and `machine` are clear: who stores it seals them, nobody logs them. */
export interface AuditEvent {
  readonly atMs: number
  /** `consent.granted`, `notice.given`, `machine.added`, `token.created`, `consent.shown`, `access.locked_out`, … */
  readonly action: string
  readonly outcome: 'done' | 'refused'
  /** Code of the refusal. */
  readonly code?: string
  readonly actor: string | undefined
  readonly role: Role | undefined
  readonly operator?: OperatorId
  readonly machine?: MachineId
  readonly purpose?: PurposeId
  /** Token name for token.*, ledger sequence or receipt for others. */
  readonly detail?: string
}

export interface KeysView {
  /** Names of keys: 8 hex digits. What is stored is sealed under the first. */
  readonly storage: string
  readonly pseudonyms: string
  /** Still in the file after a rotation, until everything is sealed under the first. */
  readonly former: readonly string[]
  /** When the file was last changed: made, rotated, or rid of former keys. */
  readonly changedAtMs: number
}
