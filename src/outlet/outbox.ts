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
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { SQLOutputValue, StatementSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { GatewayError } from '../domain/errors.ts'
import type { OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, Outbox, OutboxRecord, Outlet, PurgeReason, PurgeSelector } from '../domain/ports.ts'
import { DisclosureCounts, UNKNOWN_CREDENTIAL } from './counts.ts'
import { Destinations, Envelopes } from './envelopes.ts'
import type { Envelope } from './envelopes.ts'
import { covers, fateOf, namesNothing, OnWithdrawal } from './selector.ts'
import { Stock } from './stock.ts'

export interface OutboxOptions {
  /** Path of the database file; its folder is made, 0700. */
  readonly file: string
  /** Default: the system's clocks. */
  readonly clock?: Clock
  /** Bytes of records waiting, default LIMITS.outboxBytes. The file may grow to a little more than this, never beyond twice. */
  readonly quotaBytes?: number
  /** Records in one transaction at most, default LIMITS.commitRecords. */
  readonly commitRecords?: number
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
  refusedFull: number
}

/** Opens (or makes) the outbox. Throws GatewayError when the file cannot be trusted: see `openDatabase`. */
export function openOutbox(options: OutboxOptions): DurableOutbox {
  return new DurableOutbox(options)
}

export class DurableOutbox implements Outbox {
  readonly #options: OutboxOptions
  readonly #clock: Clock
  readonly #quota: number
  readonly #commitRecords: number
  readonly #db: DatabaseSync
  readonly #sql: Statements
  readonly #stock = new Stock()
  readonly #destinations: Destinations
  readonly #envelopes: Envelopes
  readonly #counts: DisclosureCounts
  readonly #lanes: Lane[] = []
  /** Records in memory that more than one destination waits for, by sequence number. */
  readonly #shared = new Map<number, Entry>()
  /** Accepted, not committed. Purged ones stay in line (`gone`), so that callbacks keep their places. */
  #waiting: Entry[] = []
  #waitingGone = 0
  /** Answered by all destinations; deleted with the next group. */
  #retired: Entry[] = []
  #lastSeq = 0
  #bytes = 0
  /** Places in line: how many records were ever accepted, and how many of them have their answer. */
  #accepted = 0
  #answered = 0
  readonly #callbacks = new Queue<Waiter>()
  #arena = Buffer.alloc(0)
  #arenaUsed = 0
  #immediate: NodeJS.Immediate | undefined
  #countTimer: NodeJS.Timeout | undefined
  #probeTimer: NodeJS.Timeout | undefined
  readonly #sweepTimer: NodeJS.Timeout | undefined
  #sweeps = 0
  #reason: string | undefined
  #fatal = false
  #closed = false
  /** Purges that the disk refused: nothing is handed out before they are done. */
  readonly #owed: { readonly selector: PurgeSelector; readonly reason: PurgeReason }[] = []

  /** How many times the file was opened: the high part of a machine order that never goes back. */
  readonly epoch: number
  readonly stats: OutboxStats = {
    accepted: 0, straight: 0, straightLost: 0, commits: 0, commitFailures: 0, delivered: 0, repeated: 0,
    purged: { withdrawal: 0, expiry: 0, quota: 0, erasure: 0, device_setting: 0, rules: 0 }, swapped: 0, held: 0, damaged: 0, refusedFull: 0,
  }

  constructor(options: OutboxOptions) {
    this.#options = options
    this.#clock = options.clock ?? SYSTEM_CLOCK
    this.#quota = options.quotaBytes ?? LIMITS.outboxBytes
    this.#commitRecords = options.commitRecords ?? LIMITS.commitRecords
    this.#db = openDatabase(options.file, options.filePages ?? Math.ceil((this.#quota * 2) / PAGE_BYTES) + SPARE_PAGES)
    try {
      this.#envelopes = new Envelopes(this.#db, (via) => this.#maskOf(via))
      this.#counts = new DisclosureCounts(this.#db, options.tag ?? String)
      this.#sql = prepare(this.#db)
      this.epoch = Number(this.#sql.nextEpoch.get()?.['epoch'])
      this.#destinations = this.#openLanes()
      this.#openStock()
      this.#countUnknown()
    } catch (cause) {
      this.#db.close()
      throw cause instanceof GatewayError ? cause : damaged(codeOf(cause))
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

  get depth(): number {
    return this.#stock.size - this.#retired.length + this.#waiting.length - this.#waitingGone
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Whether records of so many payload bytes (variants without consent included) would be accepted now. */
  room(payloadBytes: number, records = 1): boolean {
    return this.healthy && !this.#closed && this.#bytes + payloadBytes + records * RECORD_BYTES <= this.#quota
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
    if (this.#bytes + size > this.#quota) {
      this.stats.refusedFull++
      throw FULL
    }
    this.#waiting.push(this.#copy(record, size))
    this.#bytes += size
    this.#accepted++
    this.stats.accepted++
    this.#schedule()
  }

  /** See the port. While nothing waits the callback runs before this returns. */
  committed(callback: (error: Error | undefined) => void): void {
    if (this.#answered === this.#accepted && this.#callbacks.length === 0) callback(undefined)
    else this.#callbacks.push({ place: this.#accepted, callback })
  }

  /**
   * One exit of a record, through the log-in that received it; every outlet calls it before it answers, and also when the
   * outcome is unknown. An arrow, so that it can be handed on as it is (OnDelivered).
   */
  readonly onDelivered = (record: OutboxRecord, credential: string): void => {
    const envelope = record instanceof Entry ? record.envelope : this.#envelopes.of(record)
    this.#counts.note(envelope, credential, this.#clock.now())
    // A stored record brings its own group commit; a QoS 0 one does not.
    if (this.#immediate === undefined && this.#countTimer === undefined && !this.#closed) {
      this.#countTimer = setTimeout(() => this.#flush(), COUNT_MS).unref()
    }
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
    if (this.#closed) throw CLOSED
    if (namesNothing(selector)) throw new GatewayError('OUTBOX-SELECTOR', 'A purge must name a subject, purpose, machine, output or time.')
    const result = { purged: 0, swapped: 0, held: 0 }
    this.#purgeWaiting(selector, reason, result)
    try {
      this.#purgeStored(selector, reason, result)
    } catch (cause) {
      for (const lane of this.#lanes) for (const entry of lane.handed.all()) if (covers(selector, entry)) this.#takeBack(entry)
      if (this.#owed.length < OWED) this.#owed.push({ selector, reason })
      else this.#fatal = true
      this.#refuse(cause)
      throw UNHEALTHY
    }
    this.stats.purged[reason] += result.purged
    this.stats.swapped += result.swapped
    this.stats.held += result.held
    // Erased bytes shall not survive in the write-ahead log either. [GDPR Art. 17]
    if (reason === 'erasure') this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    return result
  }

  /** Deletes what has expired. Runs by itself every `sweepMs`. */
  sweep(nowMs: number = this.#clock.now()): { readonly purged: number; readonly held: number } {
    if (this.#stock.expired(nowMs).length === 0 && this.#waiting.length === 0) return { purged: 0, held: 0 }
    return this.purge({ expiredBeforeMs: nowMs }, 'expiry')
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
    do this.#flush()
    while (this.healthy && (this.#waiting.length > 0 || this.#retired.length > 0))
    if (this.healthy) this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    this.#db.close()
  }

  // --------------------------------------------------------------------------------------------------------- group commit

  #schedule(): void {
    if (this.#immediate === undefined && this.#reason === undefined && !this.#closed) this.#immediate = setImmediate(() => this.#flush())
  }

  /** One transaction with everything that is due; then the answers, then the hand-outs. */
  #flush(): void {
    clearImmediate(this.#immediate)
    clearTimeout(this.#countTimer)
    this.#immediate = undefined
    this.#countTimer = undefined
    if (this.#reason !== undefined) return
    const group = this.#takeGroup()
    const stored: Entry[] = []
    try {
      this.#sql.begin.run()
      this.#insert(group, stored)
      this.#deleteRetired()
      this.#counts.write()
      this.#choose(stored)
      this.#writeMarks()
      this.#sql.commit.run()
    } catch (cause) {
      this.#dropGroup(group)
      this.#refuse(cause)
      return
    }
    this.stats.commits++
    this.#lastSeq += stored.length
    for (const entry of stored) this.#stock.add(entry.seq, entry.envelope.id, entry.expiresAtMs)
    this.#settleWrites()
    for (const lane of this.#lanes) this.#arrive(lane)
    this.#answered += group.length
    this.#answer(undefined)
    let more = this.#waiting.length > 0
    for (const lane of this.#lanes) {
      this.#send(lane)
      if (lane.behind && lane.open && lane.room > 0) more = true
    }
    if (more) this.#schedule()
  }

  #takeGroup(): Entry[] {
    const all = this.#waiting
    if (all.length <= this.#commitRecords) {
      this.#waiting = []
      this.#waitingGone = 0
      return all
    }
    this.#waiting = all.slice(this.#commitRecords)
    const group = all.slice(0, this.#commitRecords)
    for (const entry of group) if (entry.gone) this.#waitingGone--
    return group
  }

  #insert(group: readonly Entry[], stored: Entry[]): void {
    const { insert, insertWhole } = this.#sql
    let seq = this.#lastSeq
    for (const entry of group) {
      if (entry.gone) continue
      const envelope = entry.envelope
      if (envelope.id === 0) this.#envelopes.store(envelope)
      entry.seq = ++seq
      stored.push(entry)
      const variant = entry.payloadIfWithdrawn
      const seed = seedOf(envelope.id, entry.machineOrder)
      if (variant === undefined && entry.state === State.waiting) {
        insert.run(
          seq, envelope.id, envelope.mask, entry.machineOrder, entry.acquiredAtMs, entry.receivedAtMs, entry.expiresAtMs ?? null,
          crc32(entry.payload, seed), entry.id, entry.payload,
        )
      } else {
        insertWhole.run(
          seq, envelope.id, envelope.mask, entry.machineOrder, entry.acquiredAtMs, entry.receivedAtMs, entry.expiresAtMs ?? null,
          crc32(entry.payload, seed), entry.id, entry.payload, entry.state, onWithdrawalOf(variant), variant ?? null,
          variant === undefined || variant === null ? null : crc32(variant, seed),
        )
      }
    }
  }

  /** Deletes as ranges: what is delivered in order lies side by side. */
  #deleteRetired(): void {
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
    this.#envelopes.settle()
    this.#counts.settle()
  }

  /** After a failed group: nobody is told that these are safe, so the terminals will send them again. */
  #dropGroup(group: readonly Entry[]): void {
    for (const entry of [...group, ...this.#waiting]) if (!entry.gone) this.#bytes -= entry.size
    this.#waiting = []
    this.#waitingGone = 0
    for (const lane of this.#lanes) lane.ready.length = 0
  }

  /** Calls back everybody whose records have their answer, first come first served. */
  #answer(error: Error | undefined): void {
    for (let waiter = this.#callbacks.first; waiter !== undefined && waiter.place <= this.#answered; waiter = this.#callbacks.first) {
      this.#callbacks.shift()
      waiter.callback(error)
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
    const limit = Math.min(lane.room, READ_RECORDS)
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
    }
    lane.behindAfter = lane.after <= last
  }

  /** A record as it lies in the file; undefined when it fails its checksum or its envelope is missing. */
  #restore(row: Row): Entry | undefined {
    const envelope = this.#envelopes.byId(Number(row[Column.envelope]))
    if (envelope === undefined) return undefined
    const entry = entryOf(row, envelope)
    const seed = seedOf(envelope.id, entry.machineOrder)
    if (crc32(entry.payload, seed) !== row[Column.crc]) return undefined
    const variant = entry.payloadIfWithdrawn
    if (variant !== undefined && variant !== null && crc32(variant, seed) !== row[Column.withdrawnCrc]) return undefined
    // A destination that is past this record has answered for it: while an answer is out, the record is in memory and shared.
    for (const lane of this.#lanes) if (entry.seq <= lane.doneThrough) entry.pending &= ~lane.bit
    return entry
  }

  #writeMarks(): void {
    for (const lane of this.#lanes) {
      const first = lane.handed.first ?? lane.ready[0]
      const done = (first?.seq ?? lane.after) - 1
      const handed = Math.max(lane.handedThrough, lane.after - 1)
      if (done === lane.markedDone && handed === lane.markedHanded) continue
      this.#sql.mark.run(done, handed, lane.index)
      lane.doneAfter = done
      lane.handedAfter = handed
    }
  }

  /** After COMMIT: the choice becomes real. From here on a purge finds the records among the handed ones. */
  #arrive(lane: Lane): void {
    lane.markedDone = lane.doneAfter
    lane.markedHanded = lane.handedAfter
    for (const entry of lane.ready) {
      if (entry.seq <= lane.handedThrough) this.stats.repeated++
      entry.handed |= lane.bit
      entry.hands++
      lane.handed.push(entry)
      lane.unanswered++
      lane.unansweredBytes += entry.size
      if (entry.pending !== lane.bit) this.#shared.set(entry.seq, entry)
    }
    lane.next = lane.after
    lane.behind = lane.behindAfter
    lane.handedThrough = Math.max(lane.handedThrough, lane.after - 1)
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
    if (error === undefined) {
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
    this.#retired.push(entry)
    this.#bytes -= entry.size
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
    }, lane.pauseMs)
  }

  #letGo(entry: Entry): void {
    if (--entry.hands === 0) this.#shared.delete(entry.seq)
  }

  /** QoS 0 by its rules: never stored; without an outlet it is lost and counted. */
  #sendStraight(record: OutboxRecord): void {
    const entry = this.#copy(record, 0)
    this.stats.straight++
    for (const lane of this.#lanes) {
      if ((entry.envelope.mask & lane.bit) === 0) continue
      if (lane.outlet === undefined) this.stats.straightLost++
      else lane.outlet.send(entry, ignore)
    }
  }

  // ---------------------------------------------------------------------------------------------------------------- purge

  #fate(record: OutboxRecord, reason: PurgeReason): 'leave' | 'swap' | 'drop' | 'hold' {
    const fate = fateOf(reason, onWithdrawalOf(record.payloadIfWithdrawn), record.subjects.length > 0)
    return fate === 'drop' && this.#options.held?.(record) === true ? 'hold' : fate
  }

  #purgeWaiting(selector: PurgeSelector, reason: PurgeReason, result: PurgeResult): void {
    for (const entry of this.#waiting) {
      if (entry.gone || !covers(selector, entry)) continue
      const fate = this.#fate(entry, reason)
      if (fate === 'drop') {
        this.#bytes -= entry.size
        this.#waitingGone++
        entry.drop()
        result.purged++
      } else if (fate === 'swap') {
        this.#bytes -= entry.swap()
        result.swapped++
      } else if (fate === 'hold') {
        entry.state = State.held
        result.held++
      }
    }
  }

  #purgeStored(selector: PurgeSelector, reason: PurgeReason, result: PurgeResult): void {
    const handed = new Map<number, Entry>()
    for (const lane of this.#lanes) for (const entry of lane.handed.all()) handed.set(entry.seq, entry)
    const { begin, commit, byNumber, remove, swap, setState } = this.#sql
    const now = { purged: 0, swapped: 0, held: 0, bytes: 0 }
    const after: (() => void)[] = []
    const unused: number[] = []
    begin.run()
    this.#deleteRetired()
    this.#counts.write()
    const retired = new Set(this.#retired.map((entry) => entry.seq))
    const { seqs, envelopes } = this.#find(selector)
    for (const seq of seqs) {
      if (retired.has(seq)) continue
      const row = byNumber.get(seq) as Row | undefined
      if (row === undefined) continue
      const envelope = this.#envelopes.byId(Number(row[Column.envelope]))
      const entry = handed.get(seq)
      const stored = envelope === undefined ? undefined : entryOf(row, envelope)
      if (stored !== undefined && selector.expiredBeforeMs !== undefined && !isExpired(stored, selector.expiredBeforeMs)) continue
      let fate = stored === undefined ? 'drop' : this.#fate(stored, reason)
      // A damaged record has no variant that could be trusted.
      if (fate === 'swap' && row[Column.state] === State.damaged) fate = 'drop'
      if (fate === 'drop') {
        remove.run(seq)
        now.purged++
        now.bytes += sizeOf(row)
        after.push(() => {
          this.#stock.remove(seq)
          if (entry !== undefined) this.#takeBack(entry)
        })
      } else if (fate === 'swap') {
        swap.run(seq)
        now.swapped++
        now.bytes += byteLength(row[Column.payload])
        if (entry !== undefined) after.push(() => this.#swapHanded(entry))
      } else if (fate === 'hold') {
        if (row[Column.state] !== State.held) setState.run(State.held, seq)
        now.held++
        if (entry !== undefined) after.push(() => this.#takeBack(entry))
      }
    }
    commit.run()
    this.#settleWrites()
    for (const step of after) step()
    this.#bytes -= now.bytes
    result.purged += now.purged
    result.swapped += now.swapped
    result.held += now.held
    void unused
    void envelopes
  }
}
