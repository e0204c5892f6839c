/**
 * The outlet to a cloud broker.
 *
 * The outbox is the memory: the bridge holds only what it was handed while it is connected, sends it in order within a window that
 * is the smaller of its own and the broker's Receive Maximum, and answers for a record when the broker has acknowledged it. When
 * the connection is lost everything goes back to the outbox at once, which hands it out again from the oldest record without an
 * answer: duplicates are a suffix sent again, recognisable by the stable id (G5).
 *
 * Every record is asked for at the gate, and its expiry looked at, right before it is written (G4). What the broker refuses for now
 * is sent again after a pause, together with what followed it of the same machine, so that the last word of each is in order; what
 * it refuses for good becomes a dead letter in the outbox. Nothing is dropped without a count.
 *
 * What may have left counts as disclosed, once per record: at the acknowledgement, at a refusal (the broker has read it), or when
 * the connection is lost under it.
 */
import type { OutputId } from '../domain/ids.ts'
import { UndeliverableError } from '../domain/errors.ts'
import type { Clock, OnDelivered, OutboxRecord, Outlet, PurgeSelector } from '../domain/ports.ts'
import { encodeBatch, encodeEnvelope, keyOf } from './batch.ts'
import type { BatchOptions } from './batch.ts'
import { isExpired } from './entry.ts'
import { Queue } from './lane.ts'
import { linkAddress, LINK_REASONS, openLink } from './link.ts'
import type { Link, LinkEnd, LinkMessage, LinkReason, LinkTerms } from './link.ts'
import { covers } from './selector.ts'

export interface BridgeOptions {
  /** Name in the gateway file; the credential in disclosure counts. */
  readonly name: string
  readonly url: string
  /** 4 = MQTT 3.1.1. */
  readonly protocol: 4 | 5
  /** PUBLISHes on the way; the broker may allow fewer. */
  readonly window: number
  readonly clientId: string
  readonly credentialsFile: string | undefined
  /** PEM texts. */
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly serverName?: string }
  readonly keepaliveMs?: number | undefined
  /** Each message is wrapped (proto/parapet/v1/envelope.proto): id, policy and purpose travel in 3.1.1, too. */
  readonly envelope?: boolean | undefined
  readonly batch?: BatchOptions | undefined
  readonly clock: Clock
  /** Whether this record may leave now. Synchronous; false drops and counts it. */
  readonly gate: (record: OutboxRecord) => boolean
  /** How long the recipient may keep messages of an output, by the rules in force. */
  readonly retentionMs: (output: OutputId) => number | undefined
  readonly onDelivered: OnDelivered
  /** The broker has acknowledged it. */
  readonly onAcknowledged?: ((record: OutboxRecord) => void) | undefined
  /** Connected: records may come, at most so many without an answer. Called again with every connection. */
  readonly onUp: (room: { readonly records: number; readonly bytes: number }) => void
  /** Not connected: nothing may come, and what was handed out and has no answer goes back. */
  readonly onDown: () => void
  readonly count: BridgeCounter
  readonly log: BridgeLog
  /** For the jitter; from 0 to below 1. */
  readonly random?: (() => number) | undefined
  readonly timing?: Partial<BridgeTiming> | undefined
}

export interface BridgeTiming {
  /** Between two attempts to connect, or to send again what was refused: drawn between the first and a bound that doubles up to the second. */
  readonly backOffMs: number
  readonly backOffMaxMs: number
  /** A connection that lasted so long was a good one: the next loss starts at the shortest pause again. */
  readonly stableMs: number
  readonly connectMs: number
  /** A record that waited longer in the gateway is marked as delayed. */
  readonly delayedMs: number
  /** How long `close` waits for acknowledgements. */
  readonly graceMs: number
}

export type BridgeCount =
  | 'connect' | 'sent' | 'acked' | 'retried' | 'dead' | 'gated' | 'expired' | 'dropped_qos0' | 'unknown' | 'batch' | 'saved_bytes'
export type BridgeCounter = (what: BridgeCount, by?: number) => void

export interface BridgeLogFields {
  readonly bridge?: string
  readonly reason?: string
  readonly code?: string
  readonly attempt?: number
  readonly ms?: number
  readonly limit?: number
}

/** The part of the log that a bridge uses. */
export interface BridgeLog {
  readonly info: (text: 'the bridge is connected', fields?: BridgeLogFields) => void
  readonly warn: (text: 'the bridge is not connected' | 'the broker of the bridge refused a message for good' | 'the broker of the bridge refuses messages for now', fields?: BridgeLogFields) => void
}

export interface BridgeState {
  readonly connected: boolean
  /** Since when it is what it is. */
  readonly sinceMs: number
  /** Why it is not connected; undefined before the first attempt has failed. */
  readonly reason: LinkReason | undefined
  readonly code: string | undefined
  /** What to do about it. */
  readonly mend: string | undefined
  readonly inFlight: number
  /** In force: the smaller of the configured one and the broker's. */
  readonly window: number
  /** Refused for now: nothing is sent until the pause is over. */
  readonly resting: boolean
}

export interface Bridge extends Outlet {
  /** Starts to connect, and goes on until `close`. */
  open(): void
  readonly state: BridgeState
}

/** @throws GatewayError BRIDGE-URL */
export function createBridge(options: BridgeOptions): Bridge {
  return new CloudBridge(options)
}

/** A record in the bridge's hands. */
interface Held {
  readonly record: OutboxRecord
  revision: number
  /** Place in line. */
  readonly place: number
  readonly done: (error: Error | undefined) => void
  /** Refused so many times. */
  refusals: number
}

/** What goes out as one PUBLISH. */
interface Parcel {
  readonly items: Held[]
  readonly isBatch: boolean
}

/** A PUBLISH without an acknowledgement. */
interface Flight {
  readonly items: readonly Held[]
  readonly isBatch: boolean
  /** A message of the same machine before it was refused: it goes again, behind that one. */
  again: boolean
}

/** A QoS 0 frame: gone when so many bytes have left the process. */
interface Unread {
  readonly held: Held
  readonly end: number
}

interface OpenBatch {
  readonly items: Held[]
  timer: NodeJS.Timeout
}

class CloudBridge implements Bridge {
  readonly name: string
  readonly #options: BridgeOptions
  readonly #timing: BridgeTiming
  readonly #random: () => number
  readonly #address: ReturnType<typeof linkAddress>
  #link: Link | undefined
  #window = 0
  /** Where a broker that said Receive Maximum exceeded put the window. */
  #shrunk = Infinity
  #queue = new Queue<Parcel>()
  /** Records in the queue, in open batches and on the way. */
  #holding = 0
  #capacity = 0
  readonly #batches = new Map<string, OpenBatch>()
  readonly #flights = new Set<Flight>()
  #unread: Unread[] = []
  /** Refused for now, or behind such a one. */
  #again: Parcel[] = []
  #refusals = 0
  #restTimer: NodeJS.Timeout | undefined
  /** Ids of records that count as disclosed already and will be sent again. */
  readonly #counted = new Set<string>()
  #places = 0
  #isPumping = false
  #isClosing = false
  #attempt = 0
  #lastReset = -Infinity
  #connectTimer: NodeJS.Timeout | undefined
  #stableTimer: NodeJS.Timeout | undefined
  #isConnected = false
  #sinceMs: number
  #end: LinkEnd | undefined
  #settled: (() => void) | undefined

  constructor(options: BridgeOptions) {
    this.name = options.name
    this.#options = options
    this.#timing = { ...TIMING, ...options.timing }
    this.#random = options.random ?? Math.random
    this.#address = linkAddress(options.url)
    this.#sinceMs = options.clock.now()
  }

  get state(): BridgeState {
    const end = this.#isConnected ? undefined : this.#end
    return {
      connected: this.#isConnected, sinceMs: this.#sinceMs, reason: end?.reason, code: end?.code, mend: end === undefined ? undefined : LINK_REASONS[end.reason],
      inFlight: this.#flights.size, window: this.#isConnected ? this.#window : this.#options.window, resting: this.#restTimer !== undefined,
    }
  }

  open(): void {
    if (this.#isClosing || this.#link !== undefined) return
    this.#connect()
  }

  send(record: OutboxRecord, done: (error: Error | undefined) => void): void {
    if (!this.#isConnected || this.#isClosing) return done(NOT_CONNECTED)
    if (record.qos === 0 && (this.#holding >= this.#capacity || this.#link?.congested === true)) {
      // Nobody else bounds these: QoS 0 by the rules may be lost, counted.
      this.#options.count('dropped_qos0')
      return done(undefined)
    }
    const held: Held = { record, revision: record.revision ?? 0, place: this.#places++, done, refusals: 0 }
    this.#holding++
    if (this.#options.batch === undefined || record.qos === 0 || isClearing(record) || !isBatched(this.#options.batch, record)) this.#queue.push({ items: [held], isBatch: false })
    else this.#gather(held, this.#options.batch)
    this.#pump()
  }

  /** To be called when the gate is closed and the outbox has purged. */
  async cut(selector: PurgeSelector): Promise<{ readonly dropped: number; readonly onTheWire: number }> {
    const isCovered = (held: Held): boolean => hasMoved(held) || (covers(selector, held.record) && (held.record.qos === 0 || !this.#options.gate(held.record)))
    let dropped = 0
    const without = (items: Held[]): Held[] => items.filter((held) => {
      if (!isCovered(held) || (held.record.qos > 0 && !isGone(held))) return true
      // A purged record has no answer to wait for any more. One that was swapped stays in its place, with what is left of it.
      dropped++
      this.#holding--
      return false
    })
    for (const batch of this.#batches.values()) batch.items.splice(0, Infinity, ...without(batch.items))
    const waiting = this.#queue.all().concat(this.#again.splice(0).map((parcel) => ({ ...parcel, again: true })))
    this.#queue.clear()
    for (const parcel of waiting) {
      const rest = { items: without(parcel.items), isBatch: parcel.isBatch }
      if (rest.items.length === 0) continue
      if ('again' in parcel) this.#again.push(rest)
      else this.#queue.push(rest)
    }

    const out = new Set<Held>()
    for (const { items } of this.#flights) for (const held of items) if (isCovered(held)) out.add(held)
    this.#forgetRead()
    for (const { held } of this.#unread) if (isCovered(held)) out.add(held)
    const untilMs = this.#options.clock.monotonic() + CUT_MS
    for (let turn = 1; turn <= 2 || (this.#holds(out) && (turn <= CUT_TURNS || this.#options.clock.monotonic() < untilMs)); turn++) {
      await new Promise((resolve) => void setImmediate(resolve))
      this.#forgetRead()
    }
    if (this.#holds(out)) this.#link?.reset('withdrawal')
    return { dropped, onTheWire: out.size }
  }

  /** Takes nothing more, waits for what is on the way, says goodbye. */
  async close(): Promise<void> {
    if (this.#isClosing) return
    this.#isClosing = true
    clearTimeout(this.#connectTimer)
    clearTimeout(this.#restTimer)
    this.#restTimer = undefined
    if (this.#flights.size > 0) {
      await new Promise<void>((resolve) => {
        const late = setTimeout(resolve, this.#timing.graceMs)
        this.#settled = () => {
          clearTimeout(late)
          resolve()
        }
      })
    }
    await this.#link?.end()
    this.#connectTimer = undefined
  }

  // ------------------------------------------------------------------------------------------------------------- connecting

  #connect(): void {
    const { protocol, clientId, credentialsFile, tls, keepaliveMs } = this.#options
    this.#connectTimer = undefined
    this.#options.count('connect')
    // A link may end before `openLink` returns it.
    let isOver = false
    const link = openLink({
      address: this.#address, protocol, clientId, credentialsFile, tls,
      keepaliveS: Math.max(1, Math.round((keepaliveMs ?? KEEPALIVE_MS) / 1000)), connectMs: this.#timing.connectMs,
    }, {
      up: (terms) => this.#up(terms),
      down: (end) => {
        isOver = true
        this.#down(end)
      },
      drained: () => this.#pump(),
    })
    this.#link = isOver ? undefined : link
  }

  #up(terms: LinkTerms): void {
    this.#isConnected = true
    this.#sinceMs = this.#options.clock.now()
    this.#end = undefined
    this.#window = Math.min(this.#options.window, terms.receiveMaximum, this.#shrunk) // [MQTT-3.3.4-9]
    // Room behind the window, so that the next messages are at hand when acknowledgements come: each hand-out costs a commit.
    this.#capacity = Math.min(ROOM_RECORDS, Math.max(this.#window * 2, ROOM_RECORDS_MIN, this.#options.batch === undefined ? 0 : this.#options.batch.messages * 4))
    this.#stableTimer = setTimeout(() => {
      this.#attempt = 0
      this.#shrunk = Infinity
    }, this.#timing.stableMs)
    this.#options.log.info('the bridge is connected', { bridge: this.name, limit: this.#window })
    this.#options.onUp({ records: this.#capacity, bytes: ROOM_BYTES })
  }

  #down(end: LinkEnd): void {
    const wasConnected = this.#isConnected
    const isNews = wasConnected || this.#end?.reason !== end.reason
    this.#link = undefined
    this.#isConnected = false
    clearTimeout(this.#stableTimer)
    clearTimeout(this.#restTimer)
    this.#restTimer = undefined
    if (wasConnected) this.#sinceMs = this.#options.clock.now()
    if (end.reason === 'disconnected') this.#learn(Number(end.code))
    this.#end = end
    if (wasConnected) this.#giveBack()
    if (this.#isClosing) return
    const now = this.#options.clock.monotonic()
    // A reset of ours is no fault of the broker: back at once, but not in a loop.
    const isOwn = end.reason === 'withdrawal' && now - this.#lastReset > this.#timing.backOffMs
    if (end.reason === 'withdrawal') this.#lastReset = now
    const pauseMs = isOwn ? 0 : this.#backOff(this.#attempt++)
    if (isNews) this.#options.log.warn('the bridge is not connected', { bridge: this.name, reason: end.reason, code: end.code, attempt: this.#attempt, ms: Math.round(pauseMs) })
    this.#connectTimer = setTimeout(() => this.#connect(), pauseMs)
    this.#connectTimer.unref()
  }

  /** What a DISCONNECT says about the messages on the way. [MQTT 5, 3.14.2.1] */
  #learn(code: number): void {
    if (code === RECEIVE_MAXIMUM_EXCEEDED) this.#shrunk = Math.max(1, this.#window >> 1)
    if (!ABOUT_A_MESSAGE.has(code)) return
    // It does not say which message it means: from here on they go one by one, until it is alone on the way.
    const [flight] = this.#flights
    if (flight === undefined || this.#flights.size > 1) this.#shrunk = 1
    else {
      this.#flights.clear()
      this.#options.log.warn('the broker of the bridge refused a message for good', { bridge: this.name, code: hex(code) })
      this.#setAside(flight.items, hex(code), true)
    }
  }

  /** Everything goes back to the outbox; what was on the way may have arrived. */
  #giveBack(): void {
    for (const { items } of this.#flights) for (const held of items) this.#disclose(held, true)
    this.#options.count('unknown', [...this.#flights].reduce((sum, { items }) => sum + items.length, 0))
    const all = [...[...this.#flights].flatMap(({ items }) => items), ...this.#again.flatMap(({ items }) => items), ...this.#queue.all().flatMap(({ items }) => items)]
    for (const { items, timer } of this.#batches.values()) {
      clearTimeout(timer)
      all.push(...items)
    }
    this.#flights.clear()
    this.#batches.clear()
    this.#queue.clear()
    this.#again = []
    this.#unread = []
    this.#holding = 0
    this.#options.onDown()
    for (const held of all) {
      if (held.record.qos === 0) this.#options.count('dropped_qos0')
      held.done(NOT_CONNECTED)
    }
    this.#settled?.()
  }

  /** Full jitter above a floor: a fleet that lost its cloud does not come back in step. */
  #backOff(attempt: number): number {
    const { backOffMs, backOffMaxMs } = this.#timing
    const bound = Math.min(backOffMaxMs, backOffMs * 2 ** Math.min(attempt + 1, 30))
    return backOffMs + this.#random() * Math.max(0, bound - backOffMs)
  }

  // ---------------------------------------------------------------------------------------------------------------- sending

  #gather(held: Held, options: BatchOptions): void {
    const key = keyOf(held.record)
    let batch = this.#batches.get(key)
    if (batch === undefined) {
      batch = { items: [], timer: setTimeout(() => this.#finish(key), options.withinMs) }
      this.#batches.set(key, batch)
    }
    batch.items.push(held)
    if (batch.items.length >= options.messages) this.#finish(key)
    // The outbox hands out no more: to wait for further messages would be to wait for the clock.
    else if (this.#holding >= this.#capacity) for (const one of [...this.#batches.keys()]) this.#finish(one)
  }

  #finish(key: string): void {
    const batch = this.#batches.get(key)
    if (batch === undefined) return
    clearTimeout(batch.timer)
    this.#batches.delete(key)
    if (batch.items.length > 0) this.#queue.push({ items: batch.items, isBatch: true })
    this.#pump()
  }

  #pump(): void {
    // An answer may call back into here.
    if (this.#isPumping) return
    this.#isPumping = true
    try {
      for (;;) {
        const link = this.#link
        if (link === undefined || !this.#isConnected || this.#isClosing || this.#restTimer !== undefined || link.congested) return
        if (this.#again.length > 0) {
          // What was refused goes before everything that came later, and only when nothing else is under way.
          if (this.#flights.size > 0) return
          this.#putBack()
        }
        const parcel = this.#queue.first
        if (parcel === undefined || this.#flights.size >= this.#window) return
        this.#queue.shift()
        this.#write(link, parcel)
      }
    } finally {
      this.#isPumping = false
    }
  }

  #putBack(): void {
    const all = [...this.#again, ...this.#queue.all()].sort((one, other) => placeOf(one) - placeOf(other))
    this.#again = []
    this.#queue.clear()
    for (const parcel of all) this.#queue.push(parcel)
  }

  #write(link: Link, parcel: Parcel): void {
    const now = this.#options.clock.now()
    const items = parcel.items.filter((held) => this.#mayLeave(held, now))
    const first = items[0]
    if (first === undefined) return
    const { record } = first
    const message = this.#messageOf(items, parcel.isBatch, now)
    if (record.qos === 0) {
      try {
        // Only the count will tell that it left: it is written first.
        this.#options.onDelivered(record, this.name, true)
      } catch {
        this.#options.count('dropped_qos0')
        this.#holding--
        return first.done(undefined)
      }
      if (!link.publish(message, ignore)) return this.#setAside(items, 'TOO-LARGE', false)
      this.#options.count('sent')
      this.#unread.push({ held: first, end: link.written })
      this.#forgetRead()
      this.#holding--
      return first.done(undefined)
    }
    const flight: Flight = { items, isBatch: parcel.isBatch, again: false }
    this.#flights.add(flight)
    if (link.publish(message, (code) => this.#answered(flight, code))) {
      this.#options.count('sent', items.length)
      return
    }
    this.#flights.delete(flight)
    // One of them may be too large for the rest.
    if (items.length > 1) for (const held of items) this.#write(link, { items: [held], isBatch: true })
    else this.#setAside(items, 'TOO-LARGE', false)
  }

  #mayLeave(held: Held, nowMs: number): boolean {
    const { record, done } = held
    if (hasMoved(held)) {
      if (isGone(held)) {
        this.#holding--
        done(undefined)
        return false
      }
      held.revision = record.revision ?? 0
    }
    const why = isExpired(record, nowMs) ? 'expired' : isClearing(record) || this.#options.gate(record) ? undefined : 'gated'
    if (why === undefined) return true
    this.#options.count(why)
    this.#holding--
    done(undefined)
    return false
  }

  #messageOf(items: readonly Held[], isBatch: boolean, nowMs: number): LinkMessage {
    const { record } = items[0] as Held
    const { envelope = false, batch } = this.#options
    const retentionMs = this.#options.retentionMs(record.output)
    const isDelayed = (one: OutboxRecord): boolean => nowMs - one.receivedAtMs > this.#timing.delayedMs
    const bodyOf = (one: OutboxRecord): Uint8Array => (envelope && !isClearing(one) ? encodeEnvelope(one, retentionMs, isDelayed(one)) : one.payload)
    const expiresAtMs = items.reduce<number | undefined>((soonest, { record: { expiresAtMs } }) => (expiresAtMs === undefined ? soonest : Math.min(expiresAtMs, soonest ?? Infinity)), undefined)
    let payload: Uint8Array
    let contentType = CONTENT_TYPE
    if (isBatch && batch !== undefined) {
      const bodies = items.map((held) => bodyOf(held.record))
      const packed = encodeBatch(bodies, batch)
      payload = packed.bytes
      contentType = `${CONTENT_TYPE}-delimited${batch.compress === 'zstd' ? '+zstd' : ''}`
      this.#options.count('batch')
      if (packed.saved > 0) this.#options.count('saved_bytes', packed.saved)
    } else {
      payload = bodyOf(record)
    }
    return {
      topic: record.topic, payload, qos: record.qos, retain: record.retain, contentType,
      // At least a second: what has expired was dropped already. [MQTT 5, 3.3.2.3.3]
      expirySeconds: expiresAtMs === undefined ? undefined : Math.max(1, Math.min(0xffff_ffff, Math.ceil((expiresAtMs - nowMs) / 1000))),
      user: {
        ...(isBatch ? { 'parapet-ids': Buffer.concat(items.map((held) => held.record.id)).toString('base64url') } : { 'parapet-id': Buffer.from(record.id).toString('hex') }),
        'parapet-policy': record.policy, 'parapet-rules': record.rulesHash, 'parapet-purpose': record.purpose,
        ...(retentionMs === undefined ? {} : { 'parapet-retention': durationOf(retentionMs) }),
        ...(items.some((held) => isDelayed(held.record)) ? { 'parapet-delayed': 'true' } : {}),
      },
    }
  }

  // ---------------------------------------------------------------------------------------------------------------- answers

  #answered(flight: Flight, code: number): void {
    if (!this.#flights.delete(flight)) return
    const meaning = meaningOf(code)
    if (meaning === 'taken' && flight.again) {
      // It arrived before its predecessor: it goes again behind it, and the later one counts.
      for (const held of flight.items) this.#disclose(held, true)
      this.#again.push({ items: [...flight.items], isBatch: flight.isBatch })
    } else if (meaning === 'taken') {
      this.#refusals = 0
      this.#options.count('acked', flight.items.length)
      for (const held of flight.items) {
        this.#disclose(held, false)
        this.#options.onAcknowledged?.(held.record)
        this.#holding--
        held.done(undefined)
      }
    } else if (meaning === 'never' || flight.items.some((held) => meaning === 'again' && ++held.refusals >= REFUSALS_MAX)) {
      this.#options.log.warn('the broker of the bridge refused a message for good', { bridge: this.name, code: hex(code) })
      this.#setAside(flight.items, hex(code), true)
    } else {
      this.#postpone(flight, code)
    }
    if (this.#flights.size === 0) this.#settled?.()
    this.#pump()
  }

  /** Refused for now. Nothing more is sent until the pause is over. */
  #postpone(flight: Flight, code: number): void {
    for (const held of flight.items) this.#disclose(held, true)
    this.#again.push({ items: [...flight.items], isBatch: flight.isBatch })
    const machines = new Set(flight.items.map((held) => held.record.machine))
    const place = placeOf(flight)
    for (const other of this.#flights) if (placeOf(other) > place && other.items.some((held) => machines.has(held.record.machine))) other.again = true
    this.#options.count('retried', flight.items.length)
    if (this.#restTimer !== undefined || this.#isClosing) return
    const pauseMs = this.#backOff(this.#refusals++)
    if (this.#refusals === 1) this.#options.log.warn('the broker of the bridge refuses messages for now', { bridge: this.name, code: hex(code), ms: Math.round(pauseMs) })
    this.#restTimer = setTimeout(() => {
      this.#restTimer = undefined
      this.#pump()
    }, pauseMs)
    this.#restTimer.unref()
  }

  #setAside(items: readonly Held[], code: string, hasLeft: boolean): void {
    this.#options.count('dead', items.length)
    for (const held of items) {
      if (hasLeft) this.#disclose(held, false)
      this.#holding--
      held.done(new UndeliverableError(code))
    }
  }

  /** Counts an exit once, however often the record is sent. */
  #disclose({ record }: Held, willRepeat: boolean): void {
    if (isClearing(record)) return
    const id = Buffer.from(record.id).toString('latin1')
    const isCounted = willRepeat ? this.#counted.has(id) : this.#counted.delete(id)
    if (!isCounted) this.#options.onDelivered(record, this.name)
    if (!willRepeat) return
    this.#counted.add(id)
    // Beyond the bound a repetition counts twice, never not at all.
    if (this.#counted.size > COUNTED) this.#counted.delete(this.#counted.values().next().value as string)
  }

  #holds(some: ReadonlySet<Held>): boolean {
    if (some.size === 0) return false
    for (const { items } of this.#flights) for (const held of items) if (some.has(held)) return true
    return this.#unread.some(({ held }) => some.has(held))
  }

  /** Takes out the QoS 0 frames that the kernel has. */
  #forgetRead(): void {
    if (this.#unread.length === 0) return
    const left = this.#link?.left ?? Infinity
    this.#unread = this.#unread.filter(({ end }) => end > left)
  }
}

const TIMING: BridgeTiming = { backOffMs: 1_000, backOffMaxMs: 60_000, stableMs: 30_000, connectMs: 20_000, delayedMs: 60_000, graceMs: 3_000 }
const KEEPALIVE_MS = 30_000
/** What the outbox may hand out without an answer. */
const ROOM_RECORDS = 4_096
const ROOM_RECORDS_MIN = 16
const ROOM_BYTES = 8_388_608
const COUNTED = 65_536
/** A message that is refused for now so often is refused for good: others wait behind it. */
const REFUSALS_MAX = 10
/** How long a cut waits for acknowledgements before it resets the connection. */
const CUT_TURNS = 25
const CUT_MS = 5
const CONTENT_TYPE = 'application/x-protobuf'
const RECEIVE_MAXIMUM_EXCEEDED = 0x93
/** Reason codes of DISCONNECT that mean a message and not the connection: topic name, packet too large, payload format, retain, QoS. */
const ABOUT_A_MESSAGE: ReadonlySet<number> = new Set([0x90, 0x95, 0x99, 0x9a, 0x9b])
const NOT_CONNECTED = new Error('The bridge is not connected.')

/**
 * What a reason code of PUBACK, PUBREC or PUBCOMP means for the message. [MQTT 5, 3.4.2.1, 3.5.2.1] `again`: this message was refused
 * and may be taken later; `later`: the broker takes nothing now (quota, rate, load); `never`: it will not take this message.
 */
export const ANSWERS: Readonly<Record<number, 'taken' | 'again' | 'later' | 'never'>> = {
  0x00: 'taken', 0x10: 'taken',
  0x80: 'again', 0x83: 'again', 0x91: 'again',
  0x97: 'later',
  0x87: 'never', 0x90: 'never', 0x99: 'never',
}

function meaningOf(code: number): 'taken' | 'again' | 'later' | 'never' {
  return ANSWERS[code] ?? (code < 0x80 ? 'taken' : 'again')
}

function isBatched(batch: BatchOptions, record: OutboxRecord): boolean {
  return batch.outputs === undefined || batch.outputs.includes(record.output)
}

/** The outbox has purged or swapped the record since it was handed out. */
function hasMoved({ record, revision }: Held): boolean {
  return (record.revision ?? 0) !== revision
}

/** It clears a retained message at the broker: tells nothing of anybody, and must leave as it is, whatever the rules say by now. [MQTT-3.3.1-10] */
function isClearing(record: OutboxRecord): boolean {
  return record.retain && record.payload.length === 0 && (record.revision ?? 0) === 0
}

/** Of a purged record no bytes are left; a swapped one has those of its variant. */
function isGone(held: Held): boolean {
  return held.record.qos === 0 || (hasMoved(held) && held.record.payload.length === 0)
}

function placeOf({ items }: { readonly items: readonly Held[] }): number {
  return items[0]?.place ?? 0
}

/** [ISO 8601-1, 5.5.2] */
function durationOf(ms: number): string {
  return ms % 86_400_000 === 0 ? `P${ms / 86_400_000}D` : `PT${Math.round(ms / 1000)}S`
}

function hex(code: number): string {
  return `0x${code.toString(16).padStart(2, '0')}`
}

function ignore(): void {
  // Nobody acknowledges QoS 0.
}
