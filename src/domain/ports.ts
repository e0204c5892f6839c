/**
 * What the rooms offer each other, in words of the domain. The wiring (gateway.ts) introduces implementations to users;
 * no room imports another room's implementation.
 */
import type { ConsentSource, ConsentState, Decision } from './consent.ts'
import type { MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId, FleetId } from './ids.ts'
import type { Policy } from './policy.ts'

/** Wall clock for what is written down, monotonic clock for durations; injectable so that tests own time. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Milliseconds of a clock that never steps. */
  monotonic(): number
}

/** Cryptographic random bytes; injectable for reproducible tests only. */
export type Random = (bytes: number) => Uint8Array

// ---------------------------------------------------------------------------------------------------------------- machines

export interface Machine {
  readonly id: MachineId
  readonly fleet: FleetId
  readonly model: string
  readonly labels: Readonly<Record<string, string>>
  /** ISO 3166-1 alpha-2 or 3166-2; undefined = unknown. */
  readonly country: string | undefined
  /** [P7] The device setting: unknown counts as off. */
  readonly operatorCollection: 'on' | 'off' | 'unknown'
  /** Who has the machine (customer id), when known. */
  readonly holder: string | undefined
  /** scrypt record `scrypt$N$r$p$salt$hash`, or undefined: then only a loopback listener admits it. */
  readonly credential: string | undefined
  /** Name in the client certificate, when it differs from the id. */
  readonly certificate: string | undefined
}

export interface MachineRegistry {
  get(id: string): Machine | undefined
  readonly size: number
  all(): Iterable<Machine>
}

// --------------------------------------------------------------------------------------------------- subjects and identity

export type SubjectType = 'operator' | 'machine' | 'customer'
export type KeyUse = 'pseudonym' | 'sealed_field' | 'ledger' | 'evidence' | 'legal'

/**
 * Random 32-byte rows per subject and use, wrapped at rest, in a file of their own. Destroying a row ends what was made under it.
 */
export interface SubjectKeys {
  /** The row, or undefined when there is none or it was destroyed. Synchronous and cached: the minimiser calls it on a cache miss. */
  row(type: SubjectType, subject: string, use: KeyUse): Uint8Array | undefined
  /** The row, made on first use. Refuses (GatewayError SUBJECT-ENDED) a subject with a tombstone. */
  ensure(type: SubjectType, subject: string, use: KeyUse): Uint8Array
  /** Destroys all rows of a subject, writes the tombstone first, fsyncs. Returns how many rows were destroyed. */
  destroy(type: SubjectType, subject: string): number
  /** Bumped by every destroy, so that caches of values made under rows can be dropped. */
  readonly generation: number
}

export type IdentityKind = 'personal' | 'shared' | 'service'

export interface Identity {
  readonly operator: OperatorId
  readonly kind: IdentityKind
  readonly country: string | undefined
  readonly validFromMs: number
  readonly validToMs: number
}

/** hmac(card | PIN | number) -> operator. The clear card is never stored. */
export interface IdentityRegister {
  /** The identity a card, PIN or number stands for at a time; undefined for an unknown one, which creates no row. */
  find(credential: string, atMs: number): Identity | undefined
}

// ----------------------------------------------------------------------------------------------------------------- at rest

/** Wraps the random keys under which something is stored; what former root keys wrapped opens as well. */
export interface StorageKeys {
  /** Id of the root key in use. */
  readonly id: string
  /** Whether what this root key wrapped can be opened. */
  knows(id: string): boolean
  /** @param context  what the key is for: it unwraps for nothing else */
  wrap(key: Uint8Array, context: string): Uint8Array
  /** The key; undefined when the bytes are not those that `wrap` made, or made under another tenant or root key. */
  unwrap(id: string, wrapped: Uint8Array, context: string): Uint8Array | undefined
}

// ------------------------------------------------------------------------------------------------------------------ ledger

/** Reserved event types (design 4). */
export type LedgerType =
  | `consent.${'requested' | 'granted' | 'refused' | 'withdrawn' | 'objected' | 'local_only' | 'expired' | 'invalidated'}`
  | `notice.${string}` | `session.${'on' | 'off' | 'expired'}` | `device.${string}` | `policy.${string}` | `rules.${string}`
  | `key.${string}` | `recipient.${string}` | `disclosure.${string}` | `rights.${string}` | `hold.${string}`

/** What is sealed under the subject's row; plain when the event has no subject. */
export interface LedgerEvent {
  readonly type: LedgerType
  readonly subject?: { readonly type: SubjectType; readonly id: string }
  /** Machine, time, country, purpose, source, evidence, policy, scope, … */
  readonly body: Readonly<Record<string, unknown>>
}

export interface StoredEvent {
  readonly seq: number
  readonly uuid: string
  readonly type: string
  readonly schema: number
  readonly gateway: string
  /** UTC day, `2026-11-23`. */
  readonly day: string
  /** Undefined when the subject's row has been destroyed or the event has no readable body. */
  readonly body: Readonly<Record<string, unknown>> | undefined
}

export interface EventFilter {
  readonly subject?: { readonly type: SubjectType; readonly id: string }
  readonly type?: string | readonly string[]
  readonly afterSeq?: number
}

export interface Ledger {
  /** Appends and fsyncs before it returns the sequence number. */
  append(event: LedgerEvent): number
  /** Appends for the next group commit: durable when `flush` resolves. For sessions, which may be many. */
  enqueue(event: LedgerEvent): number
  /** Commits what `enqueue` took. */
  flush(): void
  /** In the order of their sequence. `type` is a type, or the beginning of several when it ends with a dot (`session.`), or a list of such. */
  events(filter?: EventFilter): Iterable<StoredEvent>
  /** Walks the chain. `ok: false` names the first sequence that does not verify. */
  verify(): { readonly ok: boolean; readonly events: number; readonly brokenAt: number | undefined; readonly reason: string | undefined }
  readonly head: { readonly seq: number; readonly hash: string }
  /** False after damage or an I/O error: everything then decides as "nobody known" (G3). */
  readonly healthy: boolean
  close(): void
}

// ----------------------------------------------------------------------------------------------------------------- consent

export interface ConsentChange {
  readonly operator: OperatorId
  readonly purpose: PurposeId
  readonly state: Exclude<ConsentState, 'not_set' | 'expired' | 'invalidated'>
  readonly source: ConsentSource
  /** Who asked through the admin API: a token name, never a person's name. */
  readonly by: string | undefined
  readonly evidence: string | undefined
  readonly language: string | undefined
  readonly expiresAtMs: number | undefined
  readonly machine: MachineId | undefined
  /** Country in which it was said, when known. */
  readonly country?: string | undefined
  /** When the person said it, if that was earlier than now (buffered on a terminal). A late yes must name what it supersedes. */
  readonly givenAtMs?: number | undefined
  /** Ledger sequence of the state that this change replaces, 0 for not_set; a yes that names another one than the newest is refused. */
  readonly supersedes?: number | undefined
  /** SHA-256 (hex) of the terminal's message: the same message again is no new change. */
  readonly messageId?: string | undefined
}

export interface ConsentRow {
  readonly purpose: PurposeId
  readonly state: ConsentState
  readonly sinceMs: number
  readonly expiresAtMs: number | undefined
  readonly policy: string | undefined
  readonly source: ConsentSource | undefined
  readonly seq: number
  /** With a yes: what was acquired before is not covered by it. That of the grant when `local_only` only narrowed it. */
  readonly coversMs?: number | undefined
  /** The machine at which it was said, when it was said at one. */
  readonly machine?: MachineId | undefined
  /** The replaced purpose from which this no was taken over. */
  readonly inheritedFrom?: PurposeId | undefined
}

/** That a person was given the notice of a policy. */
export interface NoticeGiven {
  readonly policy: string
  readonly atMs: number
  readonly language?: string | undefined
}

/** The answer to a consent change, given once it is durable and in force. */
export interface ConsentReceipt {
  readonly receipt: string
  readonly operator: OperatorId
  readonly purpose: PurposeId
  readonly state: ConsentState
  readonly seq: number
  readonly at: string
  readonly policy: string
  /** Messages purged or swapped because of it. */
  readonly purged: number
  readonly swapped: number
  /** Frames that were already on the wire when the gate closed (G4). */
  readonly onTheWire: number
}

/** In-memory consent of all operators, rebuilt from the ledger. One 64-byte row per operator. */
export interface ConsentStates {
  /** Makes the purposes known: bit = Purpose.index. Called on every activation of rules; re-maps existing states by purpose id. */
  usePolicy(policy: Policy): void
  /** Durable (ledger appended and fsynced) and in force when it returns. Throws GatewayError on an unknown operator or purpose. */
  change(change: ConsentChange): { readonly seq: number; readonly previous: ConsentState }
  /** Records that the person was shown the notice of a policy. */
  giveNotice(operator: OperatorId, policyId: string, language: string | undefined, by: string | undefined): number
  show(operator: OperatorId): { readonly rows: readonly ConsentRow[]; readonly notice: NoticeGiven | undefined; readonly notices?: readonly NoticeGiven[]; readonly history: readonly StoredEvent[] }
  /**
   * Hot path: fills yes, siteYes, no, notice, seq for one operator and data acquired at `eventMs`, which a yes given later does
   * not cover; expiry and every no count as of `nowMs`. False when the operator is unknown.
   */
  fill(operator: OperatorId, eventMs: number, nowMs: number, into: Decision): boolean
  readonly operators: number
}

/** Operator sessions per machine, attributed by event time (rules-language 3.4, 3.5). */
export interface Sessions {
  /**
   * A sign-on. `identity` undefined = unknown card: ends the session of who was there, starts none.
   * Does nothing but end sessions when the machine's device setting is not `on`.
   */
  signOn(machine: Machine, identity: Identity | undefined, eventMs: number, receivedMs: number): void
  signOff(machine: Machine, identity: Identity | undefined, eventMs: number, receivedMs: number): void
  /**
   * Hot path: who was signed on at `eventMs`, as a full decision from session, device setting and consent.
   * Leaves `into` as "nobody known" whenever there is any doubt.
   */
  decide(machine: Machine, eventMs: number, nowMs: number, into: Decision): void
  /** As `decide` for a message that spans a time: when who is there changes inside, nobody is known and all refusals count (rules-language 4.9). */
  decideSpan(machine: Machine, fromMs: number, toMs: number, nowMs: number, into: Decision): void
  current(machine: MachineId): { readonly operator: OperatorId; readonly sinceMs: number } | undefined
  /** Ends all sessions of a machine and forgets its history (device setting turned off). */
  forget(machine: MachineId): void
  sweep(nowMs: number): void
  readonly size: number
}

// ------------------------------------------------------------------------------------------------------------------ outbox

/** A minimised message on its way out. Everything in it was made by a minimiser or by us; nothing was copied from the inbound envelope. */
export interface OutboxRecord {
  /** 16 random bytes made at enqueue; travels as the stable message id. */
  readonly id: Uint8Array
  readonly output: OutputId
  readonly recipient: RecipientId
  readonly stream: StreamId
  readonly topic: string
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly machine: MachineId
  readonly holder: string | undefined
  /** Operators whose data or decision is in it; empty when nobody was known. */
  readonly subjects: readonly OperatorId[]
  /** Gapless per machine, so that order can be restored and checked (G5). */
  readonly machineOrder: number
  readonly acquiredAtMs: number
  readonly receivedAtMs: number
  readonly purpose: PurposeId
  readonly basis: string
  readonly country: string | undefined
  readonly consentSeq: readonly number[]
  readonly policy: string
  readonly rulesHash: string
  readonly plan: string
  readonly keyId: string
  readonly storageClass: 'ordinary' | 'safety' | 'legal'
  readonly expiresAtMs: number | undefined
  readonly payload: Uint8Array
  /** What the no-consent variant would have been; null = purge on withdrawal; undefined = withdrawal does not touch it. */
  readonly payloadIfWithdrawn: Uint8Array | null | undefined
  /** Category bits for the disclosure count. */
  readonly categories: number
  /** `local` or a bridge's name. */
  readonly via: readonly string[]
  /** Moves on when the record is swapped or purged while an outlet holds it: an outlet notes it at `send` and compares before it writes. Absent = 0. */
  readonly revision?: number
  /** Down-sampling: the window that the record stands for. Of the records of one slot at most one leaves, over restarts too. */
  readonly slot?: Slot | undefined
  /** With `slot`: kept until then; a later record of the slot takes its place. Absent = it leaves now, and the slot is over. */
  readonly untilMs?: number | undefined
}

/** One window of a down-sampled output (rules-language 4.8). */
export interface Slot {
  /** Output, stream, machine and length of the windows. */
  readonly key: string
  /** floor(event time / everyMs); -1 where there are no windows and only `mark` counts. */
  readonly window: number
  readonly everyMs: number
  /** Stands for the fields whose change lets a message go (`on_change`); remembered of the one that left last. */
  readonly mark?: string | undefined
}

/** `dismissed`: by hand, of dead letters. */
export type PurgeReason = 'withdrawal' | 'expiry' | 'quota' | 'erasure' | 'device_setting' | 'rules' | 'dismissed'

export interface PurgeSelector {
  readonly subject?: OperatorId
  readonly purpose?: PurposeId
  readonly machine?: MachineId
  readonly output?: OutputId
  readonly expiredBeforeMs?: number
  /** The oldest of what the rest covers, until at least so many bytes are free. */
  readonly atLeastBytes?: number
  /** Of what the rest covers, only the records for which this is true; asked again when a refusing disk made the purge wait. */
  readonly only?: (record: OutboxRecord) => boolean
}

export interface Outbox {
  /**
   * Takes a record for the next group commit. The payload is copied before it returns (the caller reuses its scratch buffer).
   * QoS 0 records are never stored: they go straight to the outlets.
   */
  accept(record: OutboxRecord): void
  /**
   * Whether a record with so many payload bytes would be taken now: asked first for each, so that of one message all are taken or none.
   * @param besides  bytes of the message's other records that were asked for before
   */
  room(output: OutputId, storageClass: OutboxRecord['storageClass'], payloadBytes: number, besides?: number): boolean
  /** What is kept for a window; null when the window is over; undefined when nothing was accepted for it yet. */
  kept(slot: Slot): OutboxRecord | null | undefined
  /** `Slot.mark` of the record of this key that left last. */
  mark(key: string): string | undefined
  /** Calls back, in the order of calls, once everything accepted before is committed (or at once if nothing is waiting). `error` = not safe: do not ack. */
  committed(callback: (error: Error | undefined) => void): void
  /** The one way of deletion other than delivery. Withdrawal swaps in `payloadIfWithdrawn` where there is one. */
  purge(selector: PurgeSelector, reason: PurgeReason): { readonly purged: number; readonly swapped: number; readonly held: number }
  /** Records waiting, per destination. */
  readonly depth: number
  readonly bytes: number
  close(): Promise<void>
}

/** What a session of a recipient has not acknowledged: one message, or of a QoS 2 message that was received its packet id alone. */
export interface StoredDelivery {
  /** Its place in the session's line; grows. */
  readonly place: number
  readonly record: OutboxRecord
  readonly qos: 1 | 2
  /** Under which it was sent, if it was. */
  readonly messageId: number | undefined
  /** [MQTT-4.3.3] PUBREC came: only PUBREL is left to be sent. */
  readonly released: boolean
}

export interface StoredSession {
  readonly key: string
  readonly user: string
  readonly recipient: RecipientId
  readonly filters: ReadonlyMap<string, 0 | 1 | 2>
  /** In the order of their places. */
  readonly waiting: readonly StoredDelivery[]
}

/**
 * Sessions of recipients with what waits for them, and retained copies, over restarts. Writes go into the outbox's next group commit,
 * and so into the same transaction as the deletion of the record at the latest: a message is always in one of the two.
 */
export interface SessionStore {
  /** What a former run left. */
  sessions(): readonly StoredSession[]
  retained(): readonly OutboxRecord[]
  /** Calls back when it is durable, or with GatewayError OUTBOX-UNHEALTHY or OUTBOX-CLOSED. All that come within a moment share a commit. */
  save(session: Omit<StoredSession, 'waiting'>, stored: (error: Error | undefined) => void): void
  forget(key: string): void
  /** Takes a copy; the same place again replaces what is there. */
  put(key: string, delivery: StoredDelivery): void
  remove(key: string, place: number): void
  /** Takes a copy that a legal hold asks for: kept as it is, found by every later purge, and sent to nobody. */
  hold(record: OutboxRecord): void
  /** One for each recipient and topic. */
  retain(record: OutboxRecord): void
  unretain(recipient: RecipientId, topic: string): void
}

// ---------------------------------------------------------------------------------------------------------------- commands

/** What a recipient, or a cloud in its name, wants to tell a machine. Made outside: nothing of it came from a terminal. */
export interface Command {
  readonly from: RecipientId
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** Topic filters that it must match beside those of the recipient's right: what a bridge was told to take. */
  readonly within?: readonly string[] | undefined
}

/** Which commands a recipient may send (gateway file, `downlink:`). */
export interface DownlinkRight {
  /** MQTT filters below `down/FLEET/MACHINE/`, `+` where the file has a placeholder. */
  readonly filters: readonly string[]
  readonly qos: 0 | 1
  readonly payloadBytes: number
  /** How long a command waits for an absent terminal. */
  readonly ttlMs: number
}

/** A command that waits for a terminal's PUBACK. */
export interface StoredCommand {
  /** Its place in the session's line; grows. */
  readonly place: number
  readonly topic: string
  readonly payload: Uint8Array
  readonly expiresAtMs: number
  /** Under which it was sent, if it was. */
  readonly messageId: number | undefined
}

/** A terminal's session with clean session 0 that has subscribed to its downlink. */
export interface StoredTerminal {
  readonly key: string
  readonly machine: MachineId
  readonly filters: ReadonlyMap<string, 0 | 1 | 2>
  /** In the order of their places. */
  readonly waiting: readonly StoredCommand[]
}

/** Sessions of terminals with the commands that wait for them, over restarts. Callbacks: durable, or GatewayError OUTBOX-UNHEALTHY or OUTBOX-CLOSED. */
export interface CommandStore {
  /** What a former run left. */
  terminals(): readonly StoredTerminal[]
  save(terminal: Omit<StoredTerminal, 'waiting'>, stored: (error: Error | undefined) => void): void
  /** With all that waits for it. */
  forget(key: string): void
  /** The same place again replaces what is there. Must not be changed afterwards. */
  put(key: string, command: StoredCommand, stored?: (error: Error | undefined) => void): void
  remove(key: string, place: number): void
}

/** A way out of the gateway. */
export interface Outlet {
  readonly name: string
  /**
   * Sends one record. Calls `done(undefined)` when it is in every hand it should be in, so that it may be deleted.
   * Returns how many frames were covered by withdrawal later through `cut`.
   */
  send(record: OutboxRecord, done: (error: Error | undefined) => void): void
  /** Withdrawal: drops what is not yet handed to the kernel and resets sockets that hold covered bytes. Resolves when that is so. */
  cut(selector: PurgeSelector): Promise<{ readonly dropped: number; readonly onTheWire: number }>
  close(): Promise<void>
}

/**
 * Called once for every exit, in the transaction that deletes the record where there is one.
 * `isUnrecorded`: there is none, so it is called before anything leaves, and throws when nothing may.
 */
export type OnDelivered = (record: OutboxRecord, credential: string, isUnrecorded?: boolean) => void

// ---------------------------------------------------------------------------------------------------------------- subjects' rights

/** Implemented by everything that holds something about a person; a test fails for a table or cache that is not registered. */
export interface SubjectStore {
  readonly name: string
  locate(subject: OperatorId): { readonly records: number }
  export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>>
  erase(subject: OperatorId): { readonly erased: number; readonly held: number }
  hold(subject: OperatorId, caseId: string | undefined): void
}

// ---------------------------------------------------------------------------------------------------------------- messages

/** One inbound PUBLISH as the pipeline sees it. */
export interface Publish {
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  /** What the connection was authenticated as. */
  readonly machine: string
  readonly receivedAtMs: number
  readonly isWill: boolean
}

/** What may be known of a dead letter: nothing of what it says, and not whom it is about. */
export interface DeadLetter {
  /** By which it is retried or dropped. */
  readonly number: number
  readonly output: OutputId
  readonly recipient: RecipientId
  readonly stream: StreamId
  /** Destinations that refused it. */
  readonly refusedBy: readonly string[]
  /** A reason code of the destination (`0x99`), or a word of ours (`TOO-LARGE`). */
  readonly code: string
  /** Of the payload. */
  readonly bytes: number
  readonly receivedAtMs: number
  /** When it goes by itself. */
  readonly untilMs: number
}
