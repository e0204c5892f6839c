/**
 * The outbox: a durable queue of already minimised records, in a SQLite file of its own.
 *
 * What is promised. A record whose `committed` callback came without an error is on disk (WAL, synchronous=FULL: one fsync per
 * group) until every destination has answered for it, or until one of the counted reasons of `purge` took it (G1). Records of a
 * machine reach a destination in the order of `accept`; what a crash leaves unanswered is sent again, as a suffix (G5).
 *
 * Why write everything before sending anything. It is tempting to hand a record to a live local subscriber at once and to skip
 * the write if the subscriber acknowledges before the group commits. It would seldom save anything (an acknowledgement takes a
 * round trip, a group takes one turn of the event loop) and it would make a message visible that a crash then un-accepts and
 * the terminal sends again under another id. So there is one path: write, commit, answer the terminals, hand out, delete with
 * a later group. What makes it fast instead:
 * - Groups: what one turn of the event loop accepts goes into one transaction, together with the deletions, cursors and counts
 *   that are due. Under load the groups grow by themselves; when it is quiet nobody waits for a timer.
 * - Narrow rows: what neighbouring records share is stored once (envelopes.ts); no index besides the row number (stock.ts).
 * - Delivered records are still in memory when they leave, and are deleted as ranges of row numbers.
 * - Per destination a window of records handed out. A destination that falls behind holds no memory: it reads from the file.
 *
 * Per destination two marks are written with every group: all up to `done_through` is answered, nothing beyond
 * `handed_through` was ever handed out. So a restart repeats nothing that is known to be done, although another destination
 * still waits for the same record, and what lies between the marks may have left: it counts as disclosed.
 *
 * At the bound. `accept` throws OUTBOX-FULL when the quota of bytes is used up and OUTBOX-UNHEALTHY while the disk refuses: the
 * caller then leaves the message unacknowledged, and the terminal keeps it. `room` asks first, so that of the outputs of one
 * message all are taken or none.
 */
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import { GatewayError, UndeliverableError } from '../domain/errors.ts'
import type { MachineId, OperatorId, OutputId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, DeadLetter, Outbox, OutboxRecord, Outlet, PurgeReason, PurgeSelector, Slot, StorageKeys } from '../domain/ports.ts'
import { Shelf } from '../domain/shelf.ts'
import { Arena } from './arena.ts'
import { clearingEntry, RetainedAway } from './away.ts'
import { DisclosureCounts, UNKNOWN_CREDENTIAL } from './counts.ts'
import { Commands } from './commands.ts'
import { codeOf, damaged, isFatal, openDatabase, PAGE_BYTES, prepare, SPARE_PAGES } from './database.ts'
import type { Statements } from './database.ts'
import { DeadLetters } from './dead.ts'
import { Column, Entry, entryOf, isExpired, numberOr, onWithdrawalOf, OVERHEAD, plainLength, RECORD_BYTES, sizeOf, State } from './entry.ts'
import type { Row } from './entry.ts'
import { Destinations, Envelopes } from './envelopes.ts'
import type { Envelope } from './envelopes.ts'
import { goneOutlet } from './gone.ts'
import { Lane, Queue, WINDOW_BYTES, WINDOW_RECORDS } from './lane.ts'
import { covers, fateOf, namesNothing } from './selector.ts'
import type { Fate, Selector } from './selector.ts'
import { Room, type Share } from './room.ts'
import { Sessions } from './sessions.ts'
import { Stock } from './stock.ts'
import { Vault } from './vault.ts'
import { Windows } from './windows.ts'

export interface OutboxOptions {
  /** Path of the database file; its folder is made, 0700. */
  readonly file: string
  /** Encrypts what is stored (vault.ts). Without them it lies in clear; an encrypted file does not open without them. */
  readonly keys?: StorageKeys
  /** Default: the system's clocks. */
  readonly clock?: Clock
  /** Bytes of records waiting, default LIMITS.outboxBytes. The file may grow to a little more than this, never beyond twice. */
  readonly quotaBytes?: number
  /** What the rules in force say of an output's part of the quota. */
  readonly shareOf?: (output: OutputId) => Share | undefined
  /** Records in one transaction at most, default LIMITS.outboxGroupRecords. */
  readonly groupRecords?: number
  /** A legal hold: a record that a purge would take is then kept, frozen, and never sent. Default: none. */
  readonly held?: (record: OutboxRecord) => boolean
  /** What stands for a person in the disclosure counts. Default: the subject id itself. */
  readonly tag?: (subject: OperatorId) => string
  /** How often expired records are deleted, default 1,000 ms; 0 = only when `sweep` is called. */
  readonly sweepMs?: number
  /** How often a refusing disk is tried again, default 1,000 ms. */
  readonly probeMs?: number
  /** First pause after a destination failed; doubles up to 5 s. Default 100 ms. */
  readonly retryMs?: number
  /** Upper bound of the database file in pages, default from quotaBytes. At it the outbox is unhealthy until there is room. */
  readonly filePages?: number
}

/** How much a destination may hold unanswered. */
export interface Window {
  /** Default 4,096. */
  readonly records?: number
  /** Default 16 MiB. */
  readonly bytes?: number
}

/** Counters since the start; all only grow. */
export interface OutboxStats {
  accepted: number
  /** QoS 0 records handed straight to the outlets, and those for which there was no outlet. */
  straight: number
  straightLost: number
  commits: number
  commitFailures: number
  /** Answered by all destinations. */
  delivered: number
  /** Handed to a destination a second time, after a failure or a restart. */
  repeated: number
  purged: Record<PurgeReason, number>
  swapped: number
  held: number
  /** Failed their checksum: kept, never sent. */
  damaged: number
  /** Refused by a destination for good and kept aside now, also by a former run; and those beyond the bound, which were deleted. */
  dead: number
  deadDropped: number
  refusedFull: number
}

/** Opens (or makes) the outbox. Throws GatewayError when the file cannot be trusted: see `openDatabase`. */
export function openOutbox(options: OutboxOptions): DurableOutbox {
  return new DurableOutbox(options)
}

export class DurableOutbox implements Outbox {
  readonly #options: OutboxOptions
  readonly #clock: Clock
  readonly #room: Room
  readonly #groupRecords: number
  readonly #db: DatabaseSync
  readonly #sql: Statements
  readonly #stock = new Stock()
  readonly #vault: Vault
  readonly #destinations: Destinations
  readonly #envelopes: Envelopes
  readonly #counts: DisclosureCounts
  readonly #windows: Windows
  readonly #lanes: Lane[] = []
  /** Records in memory that more than one destination waits for, by sequence number. */
  readonly #shared = new Shelf<Entry>()
  /** Accepted, not committed. Purged ones stay in line (`gone`), so that callbacks keep their places. */
  #waiting: Entry[] = []
  #waitingGone = 0
  /** Answered by all destinations; deleted with the next group. */
  #retired: Entry[] = []
  /**
   * Stored with the next transaction, besides what was accepted: what is kept, frozen, for a legal hold when a recipient's session
   * let go of it, and what clears a retained message.
   */
  #besides: Entry[] = []
  #nextBesides: Entry[] = []
  /** Refused for good by a destination, answered by the others. */
  readonly #dead: DeadLetters
  /** Retained messages that bridges have taken away. */
  readonly #away: RetainedAway
  /** Destinations there are, `useDestinations`; undefined = not said yet. */
  #known: Known | undefined
  /** No record before this one waits. */
  #oldestSeq = 0
  readonly #lookedThrough = new WeakMap<Lane, number>()
  #lastSeq = 0
  /**
   * What a withdrawal took is still in the write-ahead log: it goes from there within a sweep, for nobody is kept waiting for that. After
   * a start as well: keys that were wrapped anew or forgotten are else in the file as they were, until the log is merged into it.
   */
  #isLogDue = true
  /** Behind this record some may lie in clear, of an earlier version. */
  #inClear: number | undefined
  /** Places in line: how many records were ever accepted, and how many of them have their answer. */
  #accepted = 0
  #answered = 0
  readonly #callbacks = new Queue<Waiter>()
  readonly #arena = new Arena()
  #immediate: NodeJS.Immediate | undefined
  #countTimer: NodeJS.Timeout | undefined
  #savedAt = -Infinity
  /**
   * The share of what it could get that a destination behind gets in a group. Each record makes work for the turn of the loop that
   * follows, and terminals wait for it: less after a long turn. What the disk took is not counted, for more records hardly lengthen it.
   */
  #pace = 1
  #flushedAt = -Infinity
  #pauses = 0
  #probeTimer: NodeJS.Timeout | undefined
  readonly #sweepTimer: NodeJS.Timeout | undefined
  #sweeps = 0
  #reason: string | undefined
  /** Unhealthy for good: after a failed fsync nobody knows what is on the disk, and after damage nothing else is to be trusted. */
  #fatal = false
  #fault: unknown
  /** Unhealthy, but deletions and marks can be written: what is stored goes on leaving, which makes room. */
  #draining = false
  #closed = false
  /** Purges that the disk refused: nothing is handed out before they are done. */
  readonly #owed: { readonly selector: Selector; readonly reason: PurgeReason }[] = []

  /** Sessions of recipients: written with the records. */
  readonly sessions: Sessions
  /** Commands that wait for terminals, likewise. */
  readonly commands: Commands
  /** The output for which there was no room last, and when: terminals keep its messages. */
  fullSince: { readonly output: OutputId; readonly atMs: number } | undefined
  /** How many times the file was opened: the high part of a machine order that never goes back. */
  readonly epoch: number
  readonly stats: OutboxStats = {
    accepted: 0, straight: 0, straightLost: 0, commits: 0, commitFailures: 0, delivered: 0, repeated: 0,
    purged: { withdrawal: 0, expiry: 0, quota: 0, erasure: 0, device_setting: 0, rules: 0, dismissed: 0 }, swapped: 0, held: 0, damaged: 0, dead: 0, deadDropped: 0, refusedFull: 0,
  }

  constructor(options: OutboxOptions) {
    this.#options = options
    this.#clock = options.clock ?? SYSTEM_CLOCK
    const quota = options.quotaBytes ?? LIMITS.outboxBytes
    this.#room = new Room(quota, options.shareOf ?? NO_SHARE)
    this.#groupRecords = options.groupRecords ?? LIMITS.outboxGroupRecords
    this.#db = openDatabase(options.file, options.filePages ?? Math.ceil((quota * 2) / PAGE_BYTES) + SPARE_PAGES)
    try {
      this.#vault = this.#openVault(options.keys)
      this.#envelopes = new Envelopes(this.#db, this.#vault, (via) => this.#maskOf(via))
      this.#counts = new DisclosureCounts(this.#db, options.tag ?? String)
      this.#windows = new Windows(this.#db, this.#vault)
      this.#away = new RetainedAway(this.#db, this.#vault)
      this.#dead = new DeadLetters(this.#db, Math.min(DEAD_BYTES, quota / 16))
      this.#sql = prepare(this.#db)
      this.epoch = Number(this.#sql.nextEpoch.get()?.['epoch'])
      this.#destinations = this.#openLanes()
      // What an earlier version left in clear is encrypted in one piece with being read.
      this.#sql.begin.run()
      this.#envelopes.migrate()
      this.stats.damaged += this.#envelopes.mendSubjects()
      this.sessions = new Sessions({ db: this.#db, envelopes: this.#envelopes, vault: this.#vault, due: () => this.#scheduleSoon(), dueNow: () => this.#scheduleSave(), hold: (record) => this.#hold(record) })
      this.commands = new Commands({ db: this.#db, vault: this.#vault, due: () => this.#scheduleSoon(), dueNow: () => this.#scheduleSave() })
      this.#openStock()
      this.#sql.commit.run()
      this.#countUnknown()
    } catch (cause) {
      this.#db.close()
      const code = codeOf(cause) ?? (cause instanceof SyntaxError ? DAMAGED_TEXT : undefined)
      throw code === undefined ? cause : damaged(code)
    }
    const sweepMs = options.sweepMs ?? 1_000
    if (sweepMs > 0) this.#sweepTimer = setInterval(() => this.#sweepQuietly(), sweepMs).unref()
  }

  /** False while the disk refuses: accepts fail, nothing is handed out. */
  get healthy(): boolean {
    return this.#reason === undefined
  }

  /** Why not healthy, for people; undefined when healthy. */
  get reason(): string | undefined {
    return this.#reason
  }

  /** What made the outbox unhealthy when it was not the disk: for the log, as a defect of the program. */
  get fault(): unknown {
    return this.#fault
  }

  get depth(): number {
    return this.#stock.size - this.#retired.length + this.#besides.length + this.#waiting.length - this.#waitingGone + this.#windows.size
  }

  get bytes(): number {
    return this.#room.total
  }

  /** When the record that waits longest was received, ms since the epoch; undefined when none waits. Held records and dead letters do not count. */
  get oldestAtMs(): number | undefined {
    let oldest = this.#waiting.find((entry) => !entry.gone)?.receivedAtMs ?? Infinity
    for (const { receivedAtMs } of this.#windows.entries()) oldest = Math.min(oldest, receivedAtMs)
    if (this.#closed) return undefined
    const row = this.#sql.oldest.get(this.#oldestSeq) as unknown as Row | undefined
    if (row !== undefined) {
      this.#oldestSeq = Number(row[0])
      oldest = Math.min(oldest, Number(row[1]))
    }
    return oldest === Infinity ? undefined : oldest
  }

  /**
   * As `oldestAtMs`, of what one destination has not answered for. It looks at a piece of the file at a time and goes on from there when it is
   * asked again: behind millions of records for others it may take a few times to find the first.
   */
  oldestOf(name: string): number | undefined {
    const lane = this.#lanes.find((lane) => lane.name === name)
    if (lane === undefined || this.#closed) return undefined
    if (lane.handed.first !== undefined) return lane.handed.first.receivedAtMs
    const from = Math.max(lane.doneThrough + 1, this.#lookedThrough.get(lane) ?? 0)
    const to = Math.min(from + OLDEST_PIECE, this.#lastSeq)
    const row = this.#sql.oldestOf.get(from, to, lane.bit) as unknown as Row | undefined
    this.#lookedThrough.set(lane, row === undefined ? Math.max(from, to) : Number(row[0]))
    return row === undefined ? undefined : Number(row[1])
  }

  /** Records that a destination has not answered for. Walks over all that is stored, 10 ms for a million: for people, not for the hot path. */
  waiting(name: string): number {
    const lane = this.#lanes.find((lane) => lane.name === name)
    if (lane === undefined) return 0
    const waits = new Map<number, boolean>()
    return this.#stock.count(lane.doneThrough, (envelope) => {
      let its = waits.get(envelope)
      if (its === undefined) waits.set(envelope, (its = ((this.#envelopes.byId(envelope)?.mask ?? 0) & lane.bit) !== 0))
      return its
    })
  }

  /**
   * Whether a record with so many payload bytes (the variant without consent included) would be accepted now. An output that lets its
   * oldest records go does so here: not all of its bytes can go (those kept for a window), so that only afterwards is it known.
   */
  room(output: OutputId, storageClass: OutboxRecord['storageClass'], payloadBytes: number, besides = 0): boolean {
    const bytes = payloadBytes + RECORD_BYTES
    if (!this.healthy || this.#closed) return false
    const atLeastBytes = this.#room.fits(output, storageClass, bytes, besides) ? 0 : this.#room.over(output, bytes, besides)
    if (atLeastBytes > 0) this.purge({ output, atLeastBytes }, 'quota')
    if (this.#room.fits(output, storageClass, bytes, besides)) return true
    this.fullSince = { output, atMs: this.#clock.now() }
    return false
  }

  /**
   * Says which destinations there are. What waits for another one, now or later, is done with as far as that one is concerned:
   * a bridge that was removed must not keep it until it expires. Returns those of which something waited.
   * @param onGone  called for each record: a counter
   */
  useDestinations(names: ReadonlySet<string>, onGone: (record: OutboxRecord, destination: string) => void): readonly { readonly name: string; readonly records: number }[] {
    this.#known = { names, onGone }
    const gone = this.#lanes.filter((lane) => lane.outlet === undefined && !names.has(lane.name))
    const told = gone.map(({ name }) => ({ name, records: this.waiting(name) })).filter(({ records }) => records > 0)
    for (const lane of gone) this.#giveUp(lane)
    return told
  }

  #giveUp(lane: Lane): void {
    const { name } = lane
    lane.outlet = goneOutlet(name, (record) => {
      // [GDPR Art. 17(3)(e)] This is a deletion, and a hold may ask for it.
      if (record.qos > 0 && this.#options.held?.(record) === true) this.#hold(record)
      this.#known?.onGone(record, name)
    })
    this.#schedule()
  }

  /** Dead letters in the order in which they were received, those after a number. */
  deadLetters(after = 0, limit = 1_000): readonly DeadLetter[] {
    return this.#dead.numbers().filter((number) => number > after).slice(0, limit).flatMap((number) => this.#letter(number) ?? [])
  }

  #letter(number: number): DeadLetter | undefined {
    return this.#dead.letter(number, (id) => this.#envelopes.byId(id), (mask) => this.#lanes.filter((lane) => (mask & lane.bit) !== 0).map(({ name }) => name))
  }

  /**
   * Sends dead letters once more, to those who refused them and behind all that waits. Returns how many; a damaged one is not.
   * After a crash at the wrong moment one is both sent and still a dead letter.
   */
  retryDead(numbers: readonly number[] = this.#dead.numbers()): number {
    if (this.#closed) throw CLOSED
    if (!this.healthy) throw UNHEALTHY
    const letters: Entry[] = []
    for (const seq of new Set(numbers)) {
      const letter = this.#letter(seq)
      const row = letter !== undefined ? this.#sql.byNumber.get(seq) as unknown as Row | undefined : undefined
      const dead = row === undefined || Number(row[Column.state]) !== State.dead ? undefined : this.#restore(row)
      if (letter === undefined || dead === undefined) continue
      const { id, machineOrder, acquiredAtMs, receivedAtMs, expiresAtMs, payload, payloadIfWithdrawn, size } = dead
      const envelope = this.#envelopes.of({ ...dead.envelope, via: letter.refusedBy })
      this.#waiting.push(new Entry(envelope, id, machineOrder, acquiredAtMs, receivedAtMs, expiresAtMs, payload, payloadIfWithdrawn, size))
      this.#charge(envelope, size)
      this.#accepted++
      letters.push(dead)
    }
    if (letters.length > 0) this.committed((error) => this.#bury(error === undefined ? letters : []))
    this.#schedule()
    return letters.length
  }

  /** They wait again: what was kept aside goes with the next group. */
  #bury(letters: readonly Entry[]): void {
    for (const entry of letters) {
      if (!this.#dead.has(entry.seq)) continue
      this.#room.charge(undefined, -this.#dead.remove(entry.seq))
      this.#retired.push(entry)
    }
    this.stats.dead = this.#dead.size
    this.#schedule()
  }

  /** Deletes dead letters, but for what a legal hold keeps. Returns how many. Throws as `purge`. */
  dropDead(numbers: readonly number[] = this.#dead.numbers(), reason: PurgeReason = 'dismissed'): number {
    const known = numbers.filter((number) => this.#dead.has(number))
    return known.length === 0 ? 0 : this.#purge({ numbers: known }, reason).purged
  }

  /** Connects a way out, under its name. What waits for it goes out from now on. */
  attach(outlet: Outlet, window: Window = {}): void {
    const bit = this.#destinations.bit(outlet.name)
    const lane = this.#lanes.find((lane) => lane.bit === bit)!
    if (lane.outlet !== undefined) throw new GatewayError('OUTBOX-OUTLET', `An outlet named ${outlet.name} is attached already.`, 'Detach it first.')
    lane.outlet = outlet
    lane.records = window.records ?? WINDOW_RECORDS
    lane.bytes = window.bytes ?? WINDOW_BYTES
    lane.pauseMs = 0
    this.#schedule()
  }

  /** Disconnects a way out. What it has not answered for waits for the next of that name; answers that come later are ignored. */
  detach(name: string): void {
    const lane = this.#lanes.find((lane) => lane.name === name)
    if (lane?.outlet === undefined) return
    lane.outlet = undefined
    for (const entry of lane.handed.all()) entry.handed &= ~lane.bit
    lane.unanswered = 0
    lane.unansweredBytes = 0
    this.#rewind(lane)
  }

  /**
   * Takes a record for the next group commit; everything in it is copied. Throws GatewayError OUTBOX-FULL, OUTBOX-UNHEALTHY,
   * OUTBOX-CLOSED (the message must then stay unacknowledged) or OUTBOX-RECORD (the record is wrong and never will be right).
   */
  accept(record: OutboxRecord): void {
    if (this.#closed) throw CLOSED
    if (record.qos === 0) {
      this.#sendStraight(record)
      return
    }
    if (this.#reason !== undefined) throw UNHEALTHY
    checkRecord(record)
    const variant = record.payloadIfWithdrawn
    const size = RECORD_BYTES + record.payload.length + (variant?.length ?? 0)
    if (!this.#room.fits(record.output, record.storageClass, size)) this.#makeRoom(record, size)
    const entry = this.#copy(record, size)
    if (entry.slot !== undefined) this.#windows.accepted(entry, entry.slot)
    this.#waiting.push(entry)
    this.#charge(entry.envelope, size)
    this.#accepted++
    this.stats.accepted++
    this.#schedule()
  }

  /** For an output that lets its oldest records go. Throws OUTBOX-FULL for the others. */
  #makeRoom({ output, storageClass }: OutboxRecord, size: number): void {
    const atLeastBytes = this.#room.over(output, size)
    if (atLeastBytes > 0) this.purge({ output, atLeastBytes }, 'quota')
    if (this.#room.fits(output, storageClass, size)) return
    this.stats.refusedFull++
    throw FULL
  }

  #charge(envelope: Envelope | undefined, bytes: number): void {
    this.#room.charge(envelope?.output, bytes)
  }

  /** See the port. */
  kept(slot: Slot): OutboxRecord | null | undefined {
    return this.#windows.of(slot)
  }

  mark(key: string): string | undefined {
    return this.#windows.mark(key)
  }

  /** See the port. While nothing waits the callback runs before this returns. */
  committed(callback: (error: Error | undefined) => void): void {
    if (this.#answered === this.#accepted && this.#callbacks.length === 0) callback(undefined)
    else this.#callbacks.push({ place: this.#accepted, callback })
  }

  /**
   * One exit of a record, through the log-in that received it; every outlet calls it before it answers, and also when the
   * outcome is unknown. An arrow, so that it can be handed on as it is (OnDelivered).
   * @param isUnrecorded  nothing stored would tell after a crash that it left (QoS 0, a retained copy): called before it does.
   * Throws OUTBOX-UNHEALTHY when that cannot be written down; then it must not leave.
   */
  readonly onDelivered = (record: OutboxRecord, credential: string, isUnrecorded = false): void => {
    const envelope = record instanceof Entry ? record.envelope : this.#envelopes.of(record)
    if (this.#counts.note(envelope, credential, this.#clock.now(), isUnrecorded)) this.#writeCounts()
    // A stored record brings its own group commit; a QoS 0 one does not.
    this.#scheduleSoon()
  }

  /** A transaction of its own, as something is about to leave that only the counts know of. */
  #writeCounts(): void {
    if (this.#closed || (this.#reason !== undefined && !this.#draining)) throw UNHEALTHY
    try {
      this.#sql.begin.run()
      this.#counts.write()
      this.#sql.commit.run()
    } catch (cause) {
      this.#refuse(cause, [])
      throw UNHEALTHY
    }
    this.#counts.settle()
  }

  /** Machines of which a record about a person may wait; for the device settings that were turned off while the gateway was away. */
  machinesWithSubjects(): readonly MachineId[] {
    return this.#envelopes.machinesWithSubjects()
  }

  /** The disclosure counts as committed; for reports. */
  counts(): ReturnType<DisclosureCounts['rows']> {
    return this.#counts.rows()
  }

  /**
   * The one way of deletion other than delivery: in the line for the next group, in the file and in the hands of the outlets,
   * in one transaction. Afterwards `record.revision` has moved on for everything that an outlet holds and must not send.
   * Call `cut` of the outlets next: they look at it. Withdrawal and device setting swap in the variant without consent.
   * Throws GatewayError when the selector names nothing (OUTBOX-SELECTOR) or the disk refuses (OUTBOX-UNHEALTHY): what is in
   * memory is gone even then, nothing is handed out any more, and the purge is repeated before the outbox works again.
   */
  purge(selector: PurgeSelector, reason: PurgeReason): { readonly purged: number; readonly swapped: number; readonly held: number } {
    if (namesNothing(selector)) throw new GatewayError('OUTBOX-SELECTOR', 'A purge must name a subject, purpose, machine, output or time.')
    return this.#purge(selector, reason)
  }

  #purge(selector: Selector, reason: PurgeReason): PurgeResult {
    if (this.#closed) throw CLOSED
    const result = { purged: 0, swapped: 0, held: 0 }
    this.#purgeWaiting(selector, reason, result)
    try {
      this.#purgeStored(selector, reason, result)
    } catch (cause) {
      this.#takeAllBack(selector)
      if (this.#owed.length < OWED) this.#owed.push({ selector, reason })
      else this.#fatal = true
      this.#refuse(cause, [])
      throw UNHEALTHY
    }
    this.stats.purged[reason] += result.purged
    this.stats.swapped += result.swapped
    this.stats.held += result.held
    if (reason === 'erasure') this.#emptyLog()
    else if (reason === 'withdrawal' || reason === 'device_setting') this.#isLogDue = true
    return result
  }

  /**
   * Until the function that it returns is called nothing is committed and nothing is handed out: what is under way passes through a loop that
   * has nothing else to do. Terminals wait for their answers meanwhile, so it is for moments. Several may hold at a time.
   */
  pause(): () => void {
    this.#pauses++
    let isOver = false
    return () => {
      if (isOver) return
      isOver = true
      if (--this.#pauses === 0) this.#schedule()
    }
  }

  /** Deletes what has expired. Runs by itself every `sweepMs`. */
  sweep(nowMs: number = this.#clock.now()): { readonly purged: number; readonly held: number } {
    const dropped = this.dropDead(this.#dead.due(nowMs), 'expiry')
    if (this.#stock.expired(nowMs).length === 0 && !this.#waiting.some((entry) => isExpired(entry, nowMs)) && !this.#windows.someExpired(nowMs)) return { purged: dropped, held: 0 }
    const { purged, held } = this.purge({ expiredBeforeMs: nowMs }, 'expiry')
    return { purged: purged + dropped, held }
  }

  /** Lets records go whose window has ended. Runs by itself every `sweepMs`. Returns how many there were. */
  release(nowMs: number = this.#clock.now()): number {
    if (!this.healthy || this.#closed) return 0
    const due = this.#windows.release(nowMs)
    for (const entry of due) {
      if (entry.qos === 0) {
        this.#windows.finishInMemory(entry, entry.slot as Slot)
        entry.due = false
        this.#handStraight(entry)
        continue
      }
      this.#waiting.push(entry)
      this.#accepted++
    }
    if (due.length > 0) this.#schedule()
    return due.length
  }

  /** Commits what was accepted, keeps what is not answered for, closes the file. Close the outlets first. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#sweepTimer)
    clearTimeout(this.#probeTimer)
    for (const lane of this.#lanes) {
      clearTimeout(lane.timer)
      lane.outlet = undefined
    }
    this.#counts.calm(true)
    do this.#flush()
    while (this.healthy && (this.#waiting.length > 0 || this.#besides.length > 0 || this.#retired.length > 0 || this.sessions.isDue || this.commands.isDue || this.#away.isDue))
    this.#db.close()
  }

  // --------------------------------------------------------------------------------------------------------- group commit

  #schedule(): void {
    if (this.#immediate === undefined && (this.#reason === undefined || this.#draining) && !this.#closed) this.#immediate = setImmediate(() => this.#flush())
  }

  /** For what need not be on disk before anybody is answered. */
  #scheduleSoon(): void {
    if (this.#immediate === undefined && this.#countTimer === undefined && !this.#closed) this.#countTimer = setTimeout(() => this.#flush(), COUNT_MS).unref()
  }

  /** Somebody waits for it; but who asks again and again shall not have an fsync each time. */
  #scheduleSave(): void {
    if (this.#closed) throw CLOSED
    if (this.#reason !== undefined && !this.#draining) throw UNHEALTHY
    if (this.#clock.monotonic() - this.#savedAt < COUNT_MS) this.#scheduleSoon()
    else this.#schedule()
  }

  #hold(record: OutboxRecord): void {
    const size = RECORD_BYTES + record.payload.length + (record.payloadIfWithdrawn?.length ?? 0)
    const entry = this.#copy(record, size)
    entry.slot = entry.untilMs = undefined
    entry.state = State.held
    this.#besides.push(entry)
    this.#charge(entry.envelope, size)
    this.stats.held++
    this.#scheduleSoon()
  }

  /** Commits what waits, in groups, with everything else that is due. */
  #flush(): void {
    clearImmediate(this.#immediate)
    clearTimeout(this.#countTimer)
    this.#immediate = undefined
    this.#countTimer = undefined
    if ((this.#reason !== undefined && !this.#draining) || (this.#pauses > 0 && !this.#closed)) return
    const isLong = this.#clock.monotonic() - this.#flushedAt > LONG_TURN_MS
    this.#pace = isLong ? Math.max(PACE_LEAST, this.#pace - PACE_DOWN) : Math.min(1, this.#pace + PACE_UP)
    // Callbacks accept more; that is for the next turn, or a busy gateway would never come back to its sockets.
    let left = this.#waiting.length
    do {
      const size = this.#commitGroup(Math.min(left, this.#groupRecords))
      if (size === undefined) return
      left -= size
    } while (left > 0 && this.healthy && !this.#closed)
    this.#flushedAt = this.#clock.monotonic()
    if (this.#waiting.length > 0 || this.#lanes.some((lane) => lane.behind && lane.open && lane.room > 0)) this.#schedule()
  }

  /** One transaction; then the answers, then the hand-outs. Returns how many records it took; undefined = the disk refused. */
  #commitGroup(size: number): number | undefined {
    const group = size === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, size)
    this.#waiting = size === this.#waiting.length ? [] : this.#waiting.slice(size)
    const stored: Entry[] = []
    try {
      this.#sql.begin.run()
      // Deletions first: the insertions then reuse their pages, and the group writes less.
      this.#deleteRetired()
      this.#insert(this.#besides, stored)
      this.#insert(group, stored)
      this.sessions.write()
      this.commands.write()
      this.#counts.write()
      this.#choose(stored)
      this.#noteRetained()
      this.#away.write(this.#envelopes)
      this.#writeMarks()
      this.#sql.commit.run()
    } catch (cause) {
      this.#refuse(cause, group)
      return undefined
    }
    this.stats.commits++
    this.#waitingGone -= group.reduce((gone, entry) => gone + (entry.gone ? 1 : 0), 0)
    this.#arrived(stored)
    this.#windows.settle((entry) => this.#charge(entry.envelope, -entry.size))
    this.#settleWrites()
    for (const lane of this.#lanes) this.#arrive(lane)
    this.#answered += group.length
    this.#answer(undefined)
    for (const lane of this.#lanes) this.#send(lane)
    return size
  }

  #arrived(stored: readonly Entry[]): void {
    this.#lastSeq += stored.length
    for (const entry of stored) this.#stock.add(entry.seq, entry.envelope.id, entry.expiresAtMs)
    this.#besides = this.#nextBesides
    this.#nextBesides = []
  }

  #insert(group: readonly Entry[], stored: Entry[]): void {
    const { insert, insertWhole } = this.#sql
    const vault = this.#vault
    let seq = this.#lastSeq + stored.length
    for (const entry of group) {
      if (entry.gone) continue
      const envelope = entry.envelope
      if (envelope.id === 0) this.#envelopes.store(envelope)
      if (entry.slot !== undefined) {
        if (entry.untilMs !== undefined && !entry.due) {
          this.#windows.keep(entry, entry.slot)
          continue
        }
        this.#windows.finish(entry, entry.slot)
      }
      entry.seq = ++seq
      stored.push(entry)
      const variant = entry.payloadIfWithdrawn
      vault.protect(entry, envelope)
      if ((variant === undefined || variant === null) && entry.state === State.waiting) {
        insert.run(
          seq, envelope.id, envelope.mask, entry.machineOrder, entry.acquiredAtMs, entry.receivedAtMs, entry.expiresAtMs ?? null,
          vault.crc, entry.id, vault.payload, vault.sealed, onWithdrawalOf(variant),
        )
      } else {
        insertWhole.run(
          seq, envelope.id, envelope.mask, entry.machineOrder, entry.acquiredAtMs, entry.receivedAtMs, entry.expiresAtMs ?? null,
          vault.crc, entry.id, vault.payload, vault.sealed, entry.state, onWithdrawalOf(variant), vault.variant, vault.withdrawnCrc,
        )
      }
    }
  }

  /** Deletes as ranges: what is delivered in order lies side by side. Dead letters stay, aside, until they expire. */
  #deleteRetired(): void {
    this.#dead.write()
    const retired = this.#retired
    if (retired.length === 0) return
    retired.sort((one, other) => one.seq - other.seq)
    let from = retired[0]!.seq
    let to = from
    for (let i = 1; i < retired.length; i++) {
      const seq = retired[i]!.seq
      if (seq !== to + 1) {
        this.#sql.deleteRange.run(from, to)
        from = seq
      }
      to = seq
    }
    this.#sql.deleteRange.run(from, to)
  }

  /** After every COMMIT that ran #deleteRetired and counts.write. */
  #settleWrites(): void {
    for (const entry of this.#retired) this.#stock.remove(entry.seq)
    this.#retired.length = 0
    this.#dead.settle()
    this.#away.settle()
    const isAwaited = this.sessions.settle()
    if (this.commands.settle() || isAwaited) this.#savedAt = this.#clock.monotonic()
    this.#envelopes.settle()
    this.#counts.settle()
  }

  /**
   * The disk refused: nobody is told that the waiting records are safe, so the terminals will send them again. Accepts fail
   * until a probe finds the disk working.
   */
  #refuse(cause: unknown, group: readonly Entry[]): void {
    const code = codeOf(cause)
    try {
      if (this.#db.isTransaction) this.#sql.rollback.run()
    } catch {
      this.#fatal = true
    }
    this.#envelopes.undo()
    this.#counts.undo()
    this.sessions.refuse(UNHEALTHY)
    this.commands.refuse(UNHEALTHY)
    for (const lane of this.#lanes) lane.ready.length = 0
    for (const [seq, entry] of this.#shared) if (entry.hands === 0) this.#shared.delete(seq)
    for (const entry of group) if (!entry.gone) this.#charge(entry.envelope, -entry.size)
    for (const entry of this.#waiting) if (!entry.gone) this.#charge(entry.envelope, -entry.size)
    this.#windows.undo((entry) => this.#charge(entry.envelope, entry.size))
    this.#waiting = []
    this.#waitingGone = 0
    this.stats.commitFailures++
    this.#draining = false
    if (isFatal(code)) this.#fatal = true
    if (code === undefined) this.#fault = cause
    this.#reason = `The disk refused a commit (SQLite code ${code ?? 'none: a fault of the program'}).${this.#fatal ? ' Only a restart, which checks the file, can mend this.' : ''}`
    this.#answered = this.#accepted
    this.#answer(UNHEALTHY)
    this.#armProbe()
  }

  #armProbe(): void {
    clearTimeout(this.#probeTimer)
    if (!this.#fatal && !this.#closed) this.#probeTimer = setTimeout(() => this.#probe(), this.#options.probeMs ?? 1_000).unref()
  }

  /** First what must go, then what may leave, then whether there is room for more. */
  #probe(): void {
    const { begin, commit, probe, probeEnd, rollback } = this.#sql
    try {
      while (this.#owed.length > 0) {
        const { selector, reason } = this.#owed[0]!
        const result = { purged: 0, swapped: 0, held: 0 }
        this.#purgeStored(selector, reason, result)
        this.stats.purged[reason] += result.purged
        this.stats.swapped += result.swapped
        this.#owed.shift()
      }
      this.#draining = true
      this.#schedule()
      this.#emptyFullLog()
      begin.run()
      probe.run()
      probeEnd.run()
      commit.run()
      this.#reason = undefined
      this.#draining = false
    } catch (cause) {
      if (isFatal(codeOf(cause))) this.#fatal = true
      if (this.#db.isTransaction) rollback.run()
      this.#envelopes.undo()
      this.#counts.undo()
      this.#armProbe()
    }
  }

  /** What fills the disk may be the log itself, which is merged into the file only every few megabytes. */
  #emptyFullLog(): void {
    try {
      this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch (cause) {
      // No room for that either; what leaves may still make some.
      if (isFatal(codeOf(cause))) throw cause
    }
  }

  /** Calls back everybody whose records have their answer, first come first served. */
  #answer(error: Error | undefined): void {
    for (let waiter = this.#callbacks.first; waiter !== undefined && waiter.place <= this.#answered; waiter = this.#callbacks.first) {
      this.#callbacks.shift()
      try {
        waiter.callback(error)
      } catch (cause) {
        // One bad callback must not cost the others their answer; it still ends the process, as it would by itself.
        process.nextTick(() => {
          throw cause
        })
      }
    }
  }

  // --------------------------------------------------------------------------------------------------------- destinations

  /** Inside the transaction: what each destination gets after it, within its window. Nothing changes but `ready` and `after`. */
  #choose(stored: readonly Entry[]): void {
    const now = this.#clock.now()
    const last = this.#lastSeq + stored.length
    for (const lane of this.#lanes) {
      lane.ready.length = 0
      lane.after = lane.next
      lane.behindAfter = lane.behind
      if (lane.behind) {
        if (lane.open && lane.room > 0) this.#read(lane, stored, last, now)
        continue
      }
      let room = lane.open ? lane.room : 0
      let bytes = lane.bytes - lane.unansweredBytes
      lane.after = last + 1
      for (const entry of stored) {
        if ((entry.envelope.mask & lane.bit) === 0 || entry.state !== State.waiting || isExpired(entry, now)) continue
        if (room === 0 || bytes <= 0) {
          lane.after = entry.seq
          lane.behindAfter = true
          break
        }
        room--
        bytes -= entry.size
        lane.ready.push(entry)
      }
    }
  }

  /** Reads on in the file for a destination that is behind. */
  #read(lane: Lane, stored: readonly Entry[], last: number, now: number): void {
    // More than came in, or a destination that is behind would stay behind for as long as much comes in.
    const limit = Math.min(lane.room, Math.ceil((READ_RECORDS + stored.length) * this.#pace))
    const to = Math.min(lane.next + READ_SPAN - 1, last)
    let bytes = lane.bytes - lane.unansweredBytes
    lane.after = to + 1
    const rows = this.#sql.read.all(lane.next, to, lane.bit, limit) as unknown as Row[]
    if (rows.length === limit) lane.after = Number(rows[limit - 1]![Column.seq]) + 1
    for (const row of rows) {
      const seq = Number(row[Column.seq])
      if (bytes <= 0) {
        lane.after = seq
        break
      }
      const entry = seq > this.#lastSeq ? stored[seq - this.#lastSeq - 1] : this.#shared.get(seq) ?? this.#restore(row)
      if (entry === undefined) {
        this.#sql.setState.run(State.damaged, seq)
        this.stats.damaged++
        continue
      }
      if (isExpired(entry, now) || (entry.pending & lane.bit) === 0) continue
      bytes -= entry.size
      lane.ready.push(entry)
      // Another destination may read the same row in this very transaction.
      if (entry.pending !== lane.bit) this.#shared.set(seq, entry)
    }
    lane.behindAfter = lane.after <= last
  }

  /** A record as it lies in the file; undefined when it fails its checksum or its envelope is missing. */
  #restore(row: Row): Entry | undefined {
    const envelope = this.#envelopes.byId(Number(row[Column.envelope]))
    if (envelope === undefined) return undefined
    const entry = this.#vault.restore(row, envelope)
    if (entry === undefined) return undefined
    // A destination that is past this record has answered for it: while an answer is out, the record is in memory and shared.
    for (const lane of this.#lanes) if (entry.seq <= lane.doneThrough) entry.pending &= ~lane.bit
    return entry
  }

  /** Inside the transaction after which they are handed out. */
  #noteRetained(): void {
    for (const lane of this.#lanes) {
      for (const entry of lane.ready) if (entry.envelope.retain && entry.payload.length > 0) this.#noteAway(lane, entry)
    }
  }

  #noteAway(lane: Lane, entry: Entry): void {
    // Copies at the recipients' broker are its own to purge; and nothing is left where nothing goes.
    if (lane.name === 'local' || this.#known?.names.has(lane.name) === false) return
    const oldest = this.#away.note(lane.name, entry)
    if (oldest === undefined) return
    const clearing = clearingEntry(oldest, this.#envelopes, this.#clock.now())
    this.#nextBesides.push(clearing)
    this.#charge(clearing.envelope, clearing.size)
    this.#scheduleSoon()
  }

  #writeMarks(): void {
    for (const lane of this.#lanes) {
      const first = lane.handed.first ?? lane.ready[0]
      const done = (first?.seq ?? lane.after) - 1
      const handed = Math.max(lane.markedHanded, lane.after - 1)
      lane.doneAfter = done
      lane.handedAfter = handed
      if (done !== lane.markedDone || handed !== lane.markedHanded) this.#sql.mark.run(done, handed, lane.number)
    }
  }

  /** After COMMIT: the choice becomes real. From here on a purge finds the records among the handed ones. */
  #arrive(lane: Lane): void {
    lane.markedDone = lane.doneAfter
    lane.markedHanded = lane.handedAfter
    for (const entry of lane.ready) {
      if (entry.seq <= lane.repeatThrough) this.stats.repeated++
      entry.handed |= lane.bit
      entry.hands++
      lane.handed.push(entry)
      lane.unanswered++
      lane.unansweredBytes += entry.size
      if (entry.pending !== lane.bit) this.#shared.set(entry.seq, entry)
    }
    lane.next = lane.after
    lane.behind = lane.behindAfter
  }

  #send(lane: Lane): void {
    const { ready, outlet } = lane
    if (ready.length === 0) return
    lane.ready = []
    for (const entry of ready) {
      // A callback or an outlet may have purged or detached meanwhile.
      if (outlet === undefined || lane.outlet !== outlet || (entry.handed & lane.bit) === 0) continue
      const done = (error: Error | undefined): void => this.#settle(lane, outlet, entry, error)
      try {
        outlet.send(entry, done)
      } catch (cause) {
        done(cause instanceof Error ? cause : new Error('The outlet failed.'))
      }
    }
  }

  /** A destination's answer for one record. */
  #settle(lane: Lane, outlet: Outlet, entry: Entry, error: Error | undefined): void {
    if ((entry.handed & lane.bit) === 0 || lane.outlet !== outlet) return
    entry.handed &= ~lane.bit
    lane.unanswered--
    lane.unansweredBytes -= entry.size
    if (error === undefined || error instanceof UndeliverableError) {
      if (error !== undefined) {
        entry.refusedBy |= lane.bit
        entry.refusal = error.code
      }
      entry.pending &= ~lane.bit
      lane.pauseMs = 0
      if (entry.pending === 0) this.#retire(entry)
    } else {
      lane.failed = true
    }
    this.#advance(lane)
    this.#schedule()
  }

  #retire(entry: Entry): void {
    if (entry.refusedBy !== 0 && this.#dead.take(entry, this.#clock.now())) {
      this.stats.dead = this.#dead.size
      // It has a bound of its own, and takes nothing of its output's share.
      this.#charge(entry.envelope, -entry.size)
      this.#room.charge(undefined, entry.size)
      return
    }
    if (entry.refusedBy !== 0) this.stats.deadDropped++
    this.#retired.push(entry)
    this.#charge(entry.envelope, -entry.size)
    this.stats.delivered++
  }

  /** Lets go of the answered records at the head, so that `doneThrough` moves. */
  #advance(lane: Lane): void {
    for (let first = lane.handed.first; first !== undefined && (first.pending & lane.bit) === 0; first = lane.handed.first) {
      lane.handed.shift()
      this.#letGo(first)
    }
    if (lane.failed && lane.unanswered === 0) this.#rewind(lane)
  }

  /**
   * A destination that failed starts again from its oldest record without an answer, when nothing of it is out any more; all
   * after that is sent again, so that a machine's records stay in order.
   */
  #rewind(lane: Lane): void {
    const first = lane.handed.first
    if (first !== undefined) {
      lane.repeatThrough = lane.next - 1
      lane.next = first.seq
      lane.behind = true
    }
    for (const entry of lane.handed.all()) this.#letGo(entry)
    lane.handed.clear()
    if (!lane.failed) return
    lane.failed = false
    lane.pauseMs = Math.min(lane.pauseMs === 0 ? (this.#options.retryMs ?? 100) : lane.pauseMs * 2, RETRY_MS_MAX)
    clearTimeout(lane.timer)
    lane.timer = setTimeout(() => {
      lane.timer = undefined
      this.#schedule()
    }, lane.pauseMs).unref()
  }

  #letGo(entry: Entry): void {
    if (--entry.hands === 0) this.#shared.delete(entry.seq)
  }

  /** QoS 0 by its rules: never stored; without an outlet it is lost and counted. */
  #sendStraight(record: OutboxRecord): void {
    const entry = this.#copy(record, 0)
    if (entry.slot !== undefined) {
      if (entry.untilMs !== undefined && !entry.due) {
        // Event times name as many windows as they like, and no quota counts these.
        if (this.#windows.size >= STRAIGHT_KEPT && this.#windows.of(entry.slot) === undefined) this.stats.straightLost++
        else this.#windows.keepInMemory(entry, entry.slot)
        return
      }
      this.#windows.finishInMemory(entry, entry.slot)
    }
    this.#handStraight(entry)
  }

  #handStraight(entry: Entry): void {
    this.stats.straight++
    for (const lane of this.#lanes) {
      if ((entry.envelope.mask & lane.bit) === 0) continue
      try {
        if (lane.outlet === undefined) this.stats.straightLost++
        else {
          if (entry.envelope.retain) this.#noteAway(lane, entry)
          lane.outlet.send(entry, ignore)
        }
      } catch {
        this.stats.straightLost++
      }
    }
  }

  // ---------------------------------------------------------------------------------------------------------------- purge

  /** [GDPR Art. 17(3)(e), 18(1)] A legal hold keeps the record as it is; frozen, so that nothing of it leaves either. */
  #fate(record: OutboxRecord, reason: PurgeReason): Fate | 'hold' {
    const fate = fateOf(reason, onWithdrawalOf(record.payloadIfWithdrawn), record.subjects.length > 0)
    return fate !== 'leave' && this.#options.held?.(record) === true ? 'hold' : fate
  }

  #purgeWaiting(selector: Selector, reason: PurgeReason, result: PurgeResult): void {
    // The oldest are stored ones.
    if (selector.atLeastBytes !== undefined || selector.numbers !== undefined) return
    for (const entry of this.#waiting) {
      // What is on its way out of a window is still stored there.
      if (entry.gone || entry.due || !covers(selector, entry)) continue
      const fate = this.#fate(entry, reason)
      if (fate === 'drop') {
        this.#charge(entry.envelope, -entry.size)
        this.#waitingGone++
        entry.drop()
        result.purged++
      } else if (fate === 'swap') {
        this.#charge(entry.envelope, -entry.swap())
        result.swapped++
      } else if (fate === 'hold') {
        entry.state = State.held
        result.held++
      }
    }
  }

  /** The stored part of a purge: one transaction, then the records in the hands of the outlets. */
  #purgeStored(selector: Selector, reason: PurgeReason, result: PurgeResult): void {
    const { begin, commit, byNumber, remove, swap, setState } = this.#sql
    const handed = new Map<number, Entry>()
    for (const lane of this.#lanes) for (const entry of lane.handed.all()) handed.set(entry.seq, entry)
    const dropped: number[] = []
    const swapped: number[] = []
    const held: number[] = []
    const charges: [Envelope | undefined, number][] = []
    let bytes = 0
    let lookAgainMs = Infinity
    begin.run()
    this.#deleteRetired()
    // What recipients' sessions let go of in this purge goes in the same transaction, and what a hold keeps of it comes.
    const besides: Entry[] = []
    this.#insert(this.#besides, besides)
    this.sessions.write()
    this.commands.write()
    this.#counts.write()
    const { seqs, envelopes, ranges } = this.#find(selector)
    for (const entry of besides) if (envelopes.has(entry.envelope.id)) seqs.push(entry.seq)
    // What lies at a broker elsewhere is cleared by a message of its own, stored in this very transaction.
    this.#away.write(this.#envelopes)
    const away = this.#away.covered(selector, reason)
    const clearing = away.map((one) => clearingEntry(one, this.#envelopes, this.#clock.now()))
    this.#insert(clearing, besides)
    for (const one of away) this.#away.delete(one)
    const kept = this.#purgeKept(selector, reason)
    for (const seq of seqs) {
      // Delivered records are no longer there.
      const row = byNumber.get(seq) as unknown as Row | undefined
      if (row === undefined) continue
      const envelope = this.#envelopes.byId(Number(row[Column.envelope]))
      const record = envelope === undefined ? undefined : entryOf(row, envelope)
      let fate: Fate | 'hold' = record === undefined ? 'drop' : this.#fate(record, reason)
      if (record !== undefined && selector.expiredBeforeMs !== undefined && !isExpired(record, selector.expiredBeforeMs)) fate = 'leave'
      if (record !== undefined && selector.only?.(record) === false) fate = 'leave'
      // An output that lets its oldest go for the room still keeps what a law or somebody's safety asks for.
      if (selector.atLeastBytes !== undefined && record !== undefined && record.storageClass !== 'ordinary') fate = 'leave'
      // A damaged record has no variant that could be trusted.
      if (fate === 'swap' && row[Column.state] === State.damaged) fate = 'drop'
      if (fate === 'drop') {
        remove.run(seq)
        dropped.push(seq)
        charges.push([this.#dead.has(seq) ? undefined : envelope, -sizeOf(row)])
        bytes += sizeOf(row)
        if (selector.atLeastBytes === undefined || bytes < selector.atLeastBytes) continue
        // Oldest first, and that is enough: envelopes that others lie in stay.
        envelopes.clear()
        break
      }
      if (fate === 'swap') {
        swap.run(seq)
        swapped.push(seq)
        charges.push([this.#dead.has(seq) ? undefined : envelope, -plainLength(row, Column.payload)])
        this.#dead.remove(seq, plainLength(row, Column.payload))
      } else if (fate === 'hold') {
        if (row[Column.state] !== State.held) {
          setState.run(State.held, seq)
          held.push(seq)
          if (this.#dead.has(seq)) charges.push([undefined, -sizeOf(row)], [envelope, sizeOf(row)])
        }
        // Nobody tells when a hold ends.
        lookAgainMs = this.#clock.now() + HOLD_MS
      }
      envelopes.delete(Number(row[Column.envelope]))
    }
    for (const entry of this.#waiting) envelopes.delete(entry.envelope.id)
    for (const id of this.sessions.envelopes()) envelopes.delete(id)
    for (const id of this.#away.envelopes(away)) envelopes.delete(id)
    for (const entry of this.#windows.entries()) if (!kept.drop.includes(entry)) envelopes.delete(entry.envelope.id)
    this.#envelopes.delete(envelopes)
    for (const range of ranges) range.nextMs = Math.min(numberOr(this.#sql.nextExpiry.get(range.from, range.to, selector.expiredBeforeMs ?? 0)?.[0]) ?? Infinity, lookAgainMs)
    commit.run()

    this.#arrived(besides)
    for (const one of away) this.#away.forget(one)
    // Nobody was offered them: their destinations find them in the file.
    for (const entry of clearing) this.#charge(entry.envelope, entry.size)
    for (const lane of this.#lanes) if (besides.some((entry) => (entry.envelope.mask & lane.bit) !== 0)) lane.behind = true
    this.#settleWrites()
    this.#envelopes.forget(envelopes)
    for (const range of ranges) this.#stock.expiresNext(range.from, range.nextMs)
    for (const [envelope, change] of charges) this.#charge(envelope, change)
    for (const seq of dropped) {
      this.#stock.remove(seq)
      this.#dead.remove(seq)
      this.#takeBack(handed.get(seq))
    }
    for (const seq of held) {
      this.#dead.remove(seq)
      this.#takeBack(handed.get(seq))
    }
    this.stats.dead = this.#dead.size
    for (const seq of swapped) this.#swapHanded(handed.get(seq))
    for (const entry of kept.drop) this.#dropKept(entry)
    result.purged += dropped.length + kept.drop.length
    result.swapped += swapped.length + kept.swapped
    result.held += held.length + kept.held
    this.#schedule()
  }

  /** Records that are kept for the end of their window, inside the transaction of a purge. */
  #purgeKept(selector: Selector, reason: PurgeReason): { readonly drop: Entry[]; swapped: number; held: number } {
    const result = { drop: [] as Entry[], swapped: 0, held: 0 }
    if (selector.atLeastBytes !== undefined || selector.numbers !== undefined) return result
    for (const entry of this.#windows.entries()) {
      const slot = entry.slot as Slot
      if (!covers(selector, entry)) continue
      const fate = this.#fate(entry, reason)
      if (fate === 'drop') {
        if (entry.qos !== 0) this.#windows.remove(slot)
        result.drop.push(entry)
      } else if (fate === 'swap') {
        this.#charge(entry.envelope, -entry.swap())
        if (entry.qos !== 0) this.#windows.rewrite(entry, slot)
        result.swapped++
      } else if (fate === 'hold' && entry.state !== State.held) {
        entry.state = State.held
        if (entry.qos !== 0) this.#windows.rewrite(entry, slot)
        result.held++
      } else if (this.#owed.length > 0 && entry.qos !== 0) {
        // The file may have it as it was before a purge that the disk refused.
        this.#windows.rewrite(entry, slot)
      }
    }
    return result
  }

  #dropKept(entry: Entry): void {
    this.#windows.drop(entry.slot as Slot)
    if (entry.gone) return
    this.#charge(entry.envelope, -entry.size)
    if (entry.due) this.#waitingGone++
    entry.drop()
  }

  /** Stored records that may be covered. `envelopes`: those that are emptied if all of their records go. */
  #find(selector: Selector): { seqs: number[]; envelopes: Set<number>; ranges: ExpiryRange[] } {
    const { subject, purpose, machine, output, expiredBeforeMs } = selector
    if (subject !== undefined || purpose !== undefined || machine !== undefined || output !== undefined) {
      const envelopes = this.#envelopes.matching(selector)
      return { seqs: this.#stock.inEnvelopes(envelopes), envelopes, ranges: [] }
    }
    if (selector.numbers !== undefined) return { seqs: [...selector.numbers], envelopes: new Set(), ranges: [] }
    const seqs: number[] = []
    const ranges: ExpiryRange[] = this.#stock.expired(expiredBeforeMs!).map(({ from, to }) => ({ from, to, nextMs: undefined }))
    for (const { from, to } of ranges) {
      for (const row of this.#sql.expired.all(from, to, expiredBeforeMs!) as unknown as Row[]) seqs.push(Number(row[0]))
    }
    return { seqs, envelopes: new Set(), ranges }
  }

  /** A record that an outlet must not send any more: out of every window, its bytes out of reach, later answers ignored. */
  #takeBack(entry: Entry | undefined): void {
    if (entry === undefined) return
    const size = entry.size
    const lanes = this.#lanes.filter((lane) => (entry.handed & lane.bit) !== 0)
    for (const lane of lanes) {
      lane.unanswered--
      lane.unansweredBytes -= size
    }
    entry.drop()
    for (const lane of this.#lanes) this.#advance(lane)
  }

  #swapHanded(entry: Entry | undefined): void {
    if (entry === undefined) return
    const less = entry.swap()
    for (const lane of this.#lanes) if ((entry.handed & lane.bit) !== 0) lane.unansweredBytes -= less
  }

  /** After a purge that the disk refused: nothing covered is in anybody's hands; the rest is read again from the file. */
  #takeAllBack(selector: Selector): void {
    for (const lane of this.#lanes) {
      for (const entry of lane.handed.all()) {
        entry.handed &= ~lane.bit
        if (selector.numbers === undefined && covers(selector, entry)) entry.drop()
      }
      lane.unanswered = 0
      lane.unansweredBytes = 0
      this.#rewind(lane)
    }
    // What is kept for a window is in nobody's hands, and none is released before the purge is made up for.
  }

  /** Erased bytes shall not survive in the write-ahead log either. [GDPR Art. 17] */
  #emptyLog(): void {
    try {
      this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch (cause) {
      this.#refuse(cause, [])
      throw UNHEALTHY
    }
  }

  #sweepQuietly(): void {
    if (!this.healthy || this.#closed) return
    try {
      this.sweep()
      this.release()
      this.#encryptSome()
      if (this.#isLogDue) {
        this.#emptyLog()
        this.#isLogDue = false
      }
      if (++this.#sweeps % COLLECT_SWEEPS === 0) this.#collect()
    } catch (cause) {
      // A refusing disk is reported by `healthy`; anything else is a fault of ours.
      if (cause !== UNHEALTHY) throw cause
    }
  }

  /** Deletes envelopes that nothing refers to, and counts that are too old. */
  #collect(): void {
    const referred = this.#stock.envelopes()
    for (const entry of this.#waiting) referred.add(entry.envelope.id)
    for (const entry of [...this.#besides, ...this.#nextBesides]) referred.add(entry.envelope.id)
    for (const id of this.sessions.envelopes()) referred.add(id)
    for (const id of this.#away.envelopes()) referred.add(id)
    for (const entry of this.#windows.entries()) referred.add(entry.envelope.id)
    const idle = this.#envelopes.collect(referred)
    try {
      this.#sql.begin.run()
      this.#envelopes.delete(idle)
      this.#counts.prune(this.#clock.now())
      this.#counts.calm()
      this.#windows.prune(this.#clock.now() - WINDOWS_MS)
      this.#sql.commit.run()
    } catch (cause) {
      this.#refuse(cause, [])
      throw UNHEALTHY
    }
    this.#envelopes.forget(idle)
  }

  // ---------------------------------------------------------------------------------------------------------------- start

  #openLanes(): Destinations {
    const rows = this.#db.prepare('SELECT number, name, done_through, handed_through FROM destinations ORDER BY number').all()
    for (const row of rows) {
      const done = Number(row['done_through'])
      this.#lanes.push(new Lane(String(row['name']), Number(row['number']), done, Number(row['handed_through'])))
      this.#lastSeq = Math.max(this.#lastSeq, done, Number(row['handed_through']))
    }
    const add = this.#db.prepare('INSERT INTO destinations (number, name, done_through, handed_through) VALUES (?, ?, ?, ?)')
    return new Destinations(this.#lanes, (name, number) => {
      try {
        add.run(number, name, this.#lastSeq, this.#lastSeq)
      } catch (cause) {
        this.#refuse(cause, [])
        throw UNHEALTHY
      }
      const lane = new Lane(name, number, this.#lastSeq, this.#lastSeq)
      this.#lanes.push(lane)
      if (this.#known?.names.has(name) === false) this.#giveUp(lane)
    })
  }

  #openStock(): void {
    const rows = this.#db.prepare(`
      SELECT seq, envelope, expires_ms, ${RECORD_BYTES} + length(payload) + ifnull(length(payload_if_withdrawn), 0)
        - iif(sealed = 0, 0, iif(payload_if_withdrawn IS NULL, ${OVERHEAD}, ${OVERHEAD * 2})), via, state, dead_ms, sealed FROM records WHERE seq > ? ORDER BY seq LIMIT 10000`)
    rows.setReturnArrays(true)
    const mend = this.#db.prepare('UPDATE records SET via = ? WHERE seq = ?')
    const keys = new Set<number>()
    let last = 0
    for (let chunk = rows.all(last); chunk.length > 0; chunk = rows.all(last)) {
      for (const [seq, number, expiresMs, bytes, via, state, deadMs, sealed] of chunk as unknown as SQLOutputValue[][]) {
        last = Number(seq)
        const envelope = this.#envelopes.byId(Number(number))
        this.#stock.add(last, Number(number), numberOr(expiresMs))
        keys.add(Number(sealed))
        if (state === State.dead) {
          this.#dead.restore(last, Number(bytes), numberOr(deadMs) ?? 0)
          this.#room.charge(undefined, Number(bytes))
          continue
        }
        this.#charge(envelope, Number(bytes))
        // By this column a destination finds its records; no checksum covers it, for the envelope has it as well.
        if (envelope !== undefined && via !== envelope.mask) {
          mend.run(envelope.mask, last)
          this.stats.damaged++
        }
      }
    }
    this.stats.dead = this.#dead.size
    this.#away.open(this.#db, (id) => this.#envelopes.byId(id))
    this.#lastSeq = Math.max(this.#lastSeq, last)
    const kept = this.#windows.open(this.#db, (id) => this.#envelopes.byId(id), this.#clock.now())
    for (const entry of this.#windows.entries()) this.#charge(entry.envelope, entry.size)
    this.stats.damaged += kept + this.sessions.damaged + this.commands.damaged
    if (this.#vault.isOn && keys.has(0)) this.#inClear = 0
    // Whatever table has something encrypted; the records are many and were looked at above.
    const tables = this.#db.prepare("SELECT one.name AS name FROM pragma_table_list AS one, pragma_table_info(one.name) AS field WHERE field.name = 'sealed' AND one.name <> 'records'").all()
    for (const { name } of tables) for (const row of this.#db.prepare(`SELECT DISTINCT sealed FROM ${String(name)}`).all()) keys.add(Number(row['sealed']))
    this.#vault.prune(this.#db, keys)
  }

  #openVault(keys: StorageKeys | undefined): Vault {
    this.#db.exec('BEGIN IMMEDIATE')
    const vault = new Vault(this.#db, keys)
    this.#db.exec('COMMIT')
    return vault
  }

  /** Encrypts a few of the records that an earlier version stored in clear, until there are no more. */
  #encryptSome(): void {
    if (this.#inClear === undefined) return
    const { begin, commit, inClear, reseal } = this.#sql
    const vault = this.#vault
    const rows = inClear.all(this.#inClear, ENCRYPT_RECORDS) as unknown as Row[]
    try {
      begin.run()
      for (const row of rows) {
        const entry = this.#restore(row)
        if (entry === undefined) continue
        vault.protect(entry, entry.envelope)
        reseal.run(vault.payload, vault.crc, vault.variant, vault.withdrawnCrc, vault.sealed, entry.seq)
      }
      commit.run()
    } catch (cause) {
      this.#refuse(cause, [])
      throw UNHEALTHY
    }
    this.#inClear = rows.length < ENCRYPT_RECORDS ? undefined : Number(rows.at(-1)![Column.seq])
    // The bytes in clear are not to stay in the log either.
    if (this.#inClear === undefined) this.#emptyLog()
  }

  /** What lies between a destination's marks may have left before the crash; it counts as disclosed, now, before it is sent again. */
  #countUnknown(): void {
    const now = this.#clock.now()
    const { begin, commit, read, mark } = this.#sql
    begin.run()
    for (const lane of this.#lanes) {
      for (const row of read.all(lane.next, lane.repeatThrough, lane.bit, -1) as unknown as Row[]) {
        const envelope = this.#envelopes.byId(Number(row[Column.envelope]))
        if (envelope !== undefined) this.#counts.note(envelope, UNKNOWN_CREDENTIAL, now)
      }
      mark.run(lane.next - 1, lane.next - 1, lane.number)
    }
    this.#counts.write()
    commit.run()
    this.#counts.settle()
  }

  #maskOf(via: readonly string[]): number {
    let mask = 0
    for (const name of via) mask |= this.#destinations.bit(name)
    return mask
  }

  /** Our own copy of everything: the caller reuses its record and its buffers. */
  #copy(record: OutboxRecord, size: number): Entry {
    const variant = record.payloadIfWithdrawn
    // What waits for the end of a window outlives its neighbours, and would hold on to the whole arena that it lies in.
    const isAlone = record.untilMs !== undefined
    const entry = new Entry(
      this.#envelopes.of(record), this.#arena.keep(record.id, isAlone), record.machineOrder, Math.trunc(record.acquiredAtMs), Math.trunc(record.receivedAtMs),
      record.expiresAtMs === undefined ? undefined : Math.trunc(record.expiresAtMs),
      this.#arena.keep(record.payload, isAlone), variant === undefined || variant === null ? variant : this.#arena.keep(variant, isAlone), size,
    )
    entry.slot = record.slot
    entry.untilMs = record.untilMs
    return entry
  }
}

interface Waiter {
  /** Answered when so many records have their answer. */
  readonly place: number
  readonly callback: (error: Error | undefined) => void
}

interface Known {
  readonly names: ReadonlySet<string>
  readonly onGone: (record: OutboxRecord, destination: string) => void
}

interface PurgeResult {
  purged: number
  swapped: number
  held: number
}

interface ExpiryRange {
  readonly from: number
  readonly to: number
  nextMs: number | undefined
}

/** Records read from the file for one destination in one group beyond what came in, few so that it is answered soon; and the span of row numbers looked at. */
const READ_RECORDS = 64
const PACE_LEAST = 0.5
const PACE_DOWN = 0.25
const PACE_UP = 0.0625
/** From the end of a group to the next: with a destination behind, the loop does not rest in between. */
const LONG_TURN_MS = 4
const READ_SPAN = 50_000
const RETRY_MS_MAX = 5_000
/** Records looked at for the oldest of a destination: a millisecond or two. */
const OLDEST_PIECE = 5_000
/** Deliveries of QoS 0 records are counted at least this often. */
const COUNT_MS = 50
/** Windows open at a time beyond which a QoS 0 record for a further one is lost, counted. */
const STRAIGHT_KEPT = 65_536
const COLLECT_SWEEPS = 60
/** Records encrypted in one go after the first start of this version. */
const ENCRYPT_RECORDS = 2_000
/** What has expired under a legal hold is looked at again so often. */
const HOLD_MS = 3_600_000
const OWED = 1_024
/** SQLITE_CORRUPT, for a text in a row that cannot be read. */
const DAMAGED_TEXT = 11
/** How long it is remembered that a window is over: longer than any message may be late. */
const WINDOWS_MS = 30 * 86_400_000
const DEAD_BYTES = 67_108_864
const SYSTEM_CLOCK: Clock = { now: () => Date.now(), monotonic: () => performance.now() }

const NO_SHARE = (): undefined => undefined

// One instance each: at the bound they are thrown for every message.
const FULL = new GatewayError('OUTBOX-FULL', 'The outbox has reached its quota of bytes.', 'Bring back the destination that is away, or raise limits.outbox_bytes.')
const UNHEALTHY = new GatewayError('OUTBOX-UNHEALTHY', 'The disk of the outbox refuses writes.', 'Look at free space and at the health of the disk.')
const CLOSED = new GatewayError('OUTBOX-CLOSED', 'The outbox is closed.')

/** A wrong record must fail here and not in the group, where it would take its neighbours along. */
function checkRecord(record: OutboxRecord): void {
  const times = Number.isFinite(record.acquiredAtMs) && Number.isFinite(record.receivedAtMs) && (record.expiresAtMs === undefined || Number.isFinite(record.expiresAtMs))
  if (record.id.length !== 16 || record.via.length === 0 || !Number.isSafeInteger(record.machineOrder) || !Number.isSafeInteger(record.categories) || !times) {
    throw new GatewayError('OUTBOX-RECORD', 'A record needs an id of 16 bytes, a destination, a machine order and times.')
  }
}

function ignore(): void {
  // QoS 0: whatever the outlet answers, there is nothing to delete.
}
