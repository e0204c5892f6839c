/**
 * The framing guard: stands between one socket and the protocol engine and hands over only whole, well-formed packets,
 * no faster than they are answered. The engine itself has no cap on size, time, rate or work in progress.
 *
 * To the engine it is the connection: a Duplex whose `read` and `write` are our own, so that a chunk of good packets costs one
 * walk over its headers and is passed on as it came, and a burst of answers becomes one write to the socket.
 *
 * Order. PUBLISHes keep their order among themselves [MQTT-4.6.0-5], and DISCONNECT and the end of the stream wait behind them,
 * because what a terminal sent before it said goodbye is to be processed. Everything else passes a waiting PUBLISH: PINGREQ,
 * so that a terminal is not lost to its keep alive while we are slow; PUBREL and the acknowledgements, because they free what is
 * held on either side; SUBSCRIBE, UNSUBSCRIBE, whose order to a PUBLISH of the same client means nothing. A PUBREL cannot
 * overtake its own PUBLISH: a client sends it only after our PUBREC. Before the engine has sent CONNACK everything waits.
 *
 * Back-pressure is bounded: past `heldBytes` the socket is not read any more. Its keep alive then rests, for it is we who do not listen.
 */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { LIMITS } from '../domain/limits.ts'
import { Packet, connectFacts, packetFault, qosOf, uint16 } from './conformance.ts'
import type { KillReason } from './counts.ts'
import { Unacknowledged } from './unacknowledged.ts'

export interface GuardLimits {
  /** Size of the first packet, and of all that may wait before CONNACK. */
  readonly connectBytes: number
  readonly packetBytes: number
  readonly connectTimeMs: number
  /** First to last byte of one packet; also how long a closed half waits for its answers. */
  readonly packetTimeMs: number
  /** QoS 1 and 2 PUBLISHes handed over and not answered. */
  readonly unanswered: number
  /** PUBLISHes a second, with one second's worth as a burst; more are slowed, not cut. `Infinity` for no limit. */
  readonly messagesPerSecond: number
  /** All other packets; more end the connection. */
  readonly controlPerSecond: number
  /** Bytes of PUBLISHes that wait here; past it the socket is not read. */
  readonly heldBytes: number
  /** Bytes that wait for the peer to read; past it the connection is closed. */
  readonly unwrittenBytes: number
  /** How long the peer may read nothing at all while something waits for it. */
  readonly drainTimeMs: number
}

export const GUARD_LIMITS: GuardLimits = {
  connectBytes: LIMITS.connectBytes,
  packetBytes: LIMITS.packetBytes,
  connectTimeMs: LIMITS.connectTimeMs,
  packetTimeMs: LIMITS.packetTimeMs,
  unanswered: LIMITS.unanswered,
  messagesPerSecond: LIMITS.messagesPerSecond,
  controlPerSecond: controlRate(LIMITS.messagesPerSecond),
  heldBytes: LIMITS.heldBytes,
  unwrittenBytes: LIMITS.unwrittenBytes,
  drainTimeMs: LIMITS.drainTimeMs,
}

/** A QoS 2 message brings one PUBREL, and nobody needs four more packets beside it. */
export function controlRate(messagesPerSecond: number): number {
  return Math.max(1_000, messagesPerSecond * 5)
}

/** Held bytes of all connections of one broker together; past it nobody may hold anything and sockets are left unread. */
export interface HeldBudget {
  used: number
  readonly max: number
}

export interface GuardOptions {
  readonly limits: GuardLimits
  readonly onKill: (reason: KillReason) => void
  readonly watch: Watch
  readonly budget: HeldBudget
  /** Milliseconds that never step. */
  readonly monotonic: () => number
}

/** One timer for the deadlines of all guards: 10,000 of them are looked at in a fraction of a millisecond. */
export class Watch {
  readonly #guards = new Set<Guard<unknown>>()
  readonly #timer: NodeJS.Timeout
  /** Deadlines are met this much early rather than late. */
  readonly periodMs: number

  constructor(limits: GuardLimits, monotonic: () => number) {
    this.periodMs = Math.min(250, Math.max(10, Math.min(limits.connectTimeMs, limits.packetTimeMs, limits.drainTimeMs) / 8))
    this.#timer = setInterval(() => {
      const now = monotonic()
      for (const guard of this.#guards) guard.check(now)
    }, this.periodMs).unref()
  }

  add(guard: Guard<unknown>): void {
    this.#guards.add(guard)
  }

  delete(guard: Guard<unknown>): void {
    this.#guards.delete(guard)
  }

  get guards(): ReadonlySet<Guard<unknown>> {
    return this.#guards
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

/** PUBLISHes that wait, as they lie in one chunk. */
interface Stretch {
  readonly bytes: Buffer
  from: number
  to: number
}

const Admit = { pass: 0, hold: 1, dead: 2 } as const
type Admission = (typeof Admit)[keyof typeof Admit]

/** Answers of #header: the packet's end, or one of these. */
const INCOMPLETE = -1
const KILLED = -2

const NOTHING = Buffer.alloc(0)
const SLAB_MIN = 256
const SLAB_MAX = 16_384
/** The peer gets this long to take our last bytes before the socket is destroyed. */
const FAREWELL_MS = 1_000

export class Guard<Session> extends Duplex {
  /** What the broker keeps beside this connection. */
  session: Session | undefined = undefined
  /** Set by the engine. */
  client: unknown = undefined

  readonly #socket: Duplex
  readonly #limits: GuardLimits
  readonly #options: GuardOptions

  // In.
  #ready: Buffer[] = []
  #parsing = false
  #held: Stretch[] = []
  #heldBytes = 0
  #unanswered = 0
  #tokens: number
  #controlTokens: number
  #refilledAt: number
  /** Start of an incomplete packet; `#have` bytes of it are filled, `#total` is 0 until its length is known. */
  #partial = NOTHING
  #have = 0
  #total = 0
  #partialSince = 0
  /** First byte after the fixed header of the packet that #header looked at last. */
  #body = 0
  #connected = false
  #opened = false
  #stopped = false
  #resting = false
  #ended = false
  #endedAt = 0
  #dead = false
  #keepaliveMs = 0
  #heardAt: number

  // Out.
  readonly #unacknowledged = new Unacknowledged()
  #slab = NOTHING
  #filled = 0
  #slabSize = SLAB_MIN
  #flushing = false
  #wantsDrain = false
  #handedBytes = 0
  #takenBytes = 0
  /** From the beginning: a first answer that is under way at the first look has waited since then, not since ever. */
  #takenAt: number

  constructor(socket: Duplex, options: GuardOptions) {
    super({ autoDestroy: false, emitClose: true, allowHalfOpen: true })
    this.#socket = socket
    this.#options = options
    this.#limits = options.limits
    this.#tokens = options.limits.messagesPerSecond
    this.#controlTokens = options.limits.controlPerSecond
    this.#refilledAt = this.#heardAt = options.monotonic()
    this.#takenAt = this.#heardAt
    // The engine corks and uncorks around every packet; our write gathers by itself, and without these it saves the ticks.
    const unneeded = this as { cork?: unknown; uncork?: unknown }
    unneeded.cork = undefined
    unneeded.uncork = undefined

    socket.on('data', this.#take)
    socket.on('drain', this.#drained)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onGone)
    socket.on('close', this.#onGone)
    options.watch.add(this)
  }

  /** CONNACK 0 has been sent: what waited for it may pass, once the engine has noticed, too. */
  open(): void {
    queueMicrotask(() => {
      const held = this.#held.splice(0)
      this.#options.budget.used -= this.#heldBytes
      this.#heldBytes = 0
      this.#opened = true
      for (const { bytes, from, to } of held) this.#sort(bytes, from, to)
      this.#rest()
      this.#release()
    })
  }

  /** So many QoS 1 or 2 PUBLISHes were answered. */
  answered(count: number): void {
    this.#unanswered -= count
    this.#release()
  }

  get unanswered(): number {
    return this.#unanswered
  }

  /** PUBLISH bytes that wait to be handed over. */
  get held(): number {
    return this.#heldBytes
  }

  /** Bytes written here that the kernel has not taken. */
  get unwritten(): number {
    return this.#filled + this.#socket.writableLength
  }

  /** All bytes written here so far; those up to `written - unwritten` are the kernel's. */
  get written(): number {
    return this.#handedBytes + this.#filled
  }

  /** Hands over no further PUBLISH; what is unanswered may still be answered. For an orderly stop. */
  stop(): void {
    this.#stopped = true
  }

  /** Counts the reason and closes at once. Bytes not yet in the kernel are gone. */
  kill(reason: KillReason): void {
    if (this.#dead) return
    this.#dead = true
    this.#options.onKill(reason)
    // What the kernel has not sent yet stays with it only after a reset; an ordinary close sends it.
    if (reason === 'withdrawal') resetSocket(this.#socket)
    else this.#socket.destroy()
    this.destroy()
  }

  /** Looks at all deadlines; called by the watch. */
  check(now: number): void {
    const { connectTimeMs, packetTimeMs, drainTimeMs } = this.#limits
    const soon = now + this.#options.watch.periodMs
    if (!this.#connected && soon - this.#heardAt >= connectTimeMs) return this.kill('connect_late')
    if (this.#have > 0 && !this.#resting && soon - this.#partialSince >= packetTimeMs) return this.kill('packet_too_slow')
    // [MQTT-3.1.2-24]
    if (this.#keepaliveMs > 0 && !this.#resting && !this.#ended && now - this.#heardAt >= this.#keepaliveMs) return this.kill('keepalive')
    if (this.#ended && soon - this.#endedAt >= packetTimeMs) return void this.destroy()

    const taken = this.#handedBytes - this.#socket.writableLength
    if (taken !== this.#takenBytes || this.#socket.writableLength === 0) {
      this.#takenBytes = taken
      this.#takenAt = now
    } else if (soon - this.#takenAt >= drainTimeMs) {
      return this.kill('slow_reader')
    }
    if (this.#held.length > 0) {
      this.#refill(now)
      this.#release()
    }
    return undefined
  }

  // -------------------------------------------------------------------------------------------------------------- reading

  /**
   * What the engine calls to get packets. It parses what it gets at once, and asks again from within the parser when a packet is
   * done without delay; its parser cannot be entered twice, so there is nothing more until that is over.
   */
  override read(size?: number | null): Buffer | null {
    if (size === 0 || this.#parsing) return null
    const chunk = this.#ready.shift()
    if (chunk === undefined) return null
    this.#parsing = true
    queueMicrotask(this.#parsed)
    return chunk
  }

  readonly #parsed = (): void => {
    this.#parsing = false
    this.#offer()
    if (this.#ended) this.#finish()
  }

  override _read(): void {}

  readonly #take = (chunk: Buffer): void => {
    if (this.#dead) return
    const now = this.#options.monotonic()
    this.#refill(now)
    let at = 0
    if (this.#have > 0) {
      at = this.#continue(chunk, now)
      if (at < 0) return
    }
    let from = at
    while (at < chunk.length) {
      const to = this.#header(chunk, at, chunk.length)
      if (to === KILLED) return
      if (to === INCOMPLETE || to > chunk.length) break
      const admission = this.#admit(chunk, at, this.#body, to, now)
      if (admission === Admit.dead) return
      if (admission === Admit.hold) {
        if (at > from) this.#ready.push(chunk.subarray(from, at))
        this.#hold(chunk, at, to)
        from = to
      }
      at = to
    }
    if (at > from) this.#ready.push(at - from === chunk.length ? chunk : chunk.subarray(from, at))
    if (at < chunk.length) this.#begin(chunk, at, now)
    this.#offer()
  }

  /**
   * Reads a fixed header at `at` and checks the size. Sets #body.
   * @returns end of the packet, INCOMPLETE when the header is not all there, KILLED
   */
  #header(bytes: Buffer, at: number, end: number): number {
    // [MQTT-3.1.0-1] Decided on the first byte, so that HTTP and TLS end here.
    if (!this.#connected && bytes[at] !== 0x10) return this.#fail(bytes[at]! >> 4 === Packet.connect ? 'malformed' : 'protocol')
    let length = 0
    let shift = 0
    for (let position = at + 1; ; position++) {
      if (shift > 21) return this.#fail('malformed') // [MQTT-2.2.3] at most four bytes
      if (position >= end) return INCOMPLETE
      const byte = bytes[position]!
      length |= (byte & 0x7f) << shift
      shift += 7
      if (byte < 0x80) {
        this.#body = position + 1
        break
      }
    }
    const to = this.#body + length
    if (to - at > (this.#connected ? this.#limits.packetBytes : this.#limits.connectBytes)) {
      return this.#fail(this.#connected ? 'packet_too_big' : 'connect_too_big')
    }
    return to
  }

  #fail(reason: KillReason): typeof KILLED {
    this.kill(reason)
    return KILLED
  }

  #admit(bytes: Buffer, from: number, body: number, to: number, now: number): Admission {
    this.#heardAt = now
    if (!this.#connected) return this.#admitConnect(bytes, from, body, to)
    const fault = packetFault(bytes, from, body, to)
    if (fault !== undefined) {
      this.kill(fault)
      return Admit.dead
    }
    const first = bytes[from]!
    const type = first >> 4
    if (type === Packet.publish) {
      return this.#held.length === 0 && this.#opened && this.#enter(first) ? Admit.pass : Admit.hold
    }
    if (--this.#controlTokens < 0) {
      this.kill('rate')
      return Admit.dead
    }
    if ((type === Packet.puback || type === Packet.pubrec || type === Packet.pubcomp) && !this.#unacknowledged.answers(type, uint16(bytes, body))) {
      this.kill('protocol') // [MQTT-4.8.0-1]
      return Admit.dead
    }
    return this.#opened && (type !== Packet.disconnect || this.#held.length === 0) ? Admit.pass : Admit.hold
  }

  #admitConnect(bytes: Buffer, from: number, body: number, to: number): Admission {
    const { fault, answer, keepalive } = connectFacts(bytes, from, body, to)
    if (fault !== undefined) {
      if (answer === undefined) this.kill(fault)
      else this.#refuse(answer, fault)
      return Admit.dead
    }
    this.#connected = true
    this.#keepaliveMs = keepalive * 1_500
    return Admit.pass
  }

  /** Whether one more PUBLISH may be handed over, and if so counts it. */
  #enter(first: number): boolean {
    const acknowledged = qosOf(first) !== 0
    if (this.#stopped || this.#tokens < 1 || (acknowledged && this.#unanswered >= this.#limits.unanswered)) return false
    this.#tokens--
    if (acknowledged) this.#unanswered++
    return true
  }

  #refill(now: number): void {
    const seconds = (now - this.#refilledAt) / 1_000
    this.#refilledAt = now
    const { messagesPerSecond, controlPerSecond } = this.#limits
    if (this.#tokens < messagesPerSecond) this.#tokens = Math.min(messagesPerSecond, this.#tokens + seconds * messagesPerSecond)
    if (this.#controlTokens < controlPerSecond) this.#controlTokens = Math.min(controlPerSecond, this.#controlTokens + seconds * controlPerSecond)
  }

  #hold(bytes: Buffer, from: number, to: number): void {
    const last = this.#held.at(-1)
    if (last !== undefined && last.bytes === bytes && last.to === from) last.to = to
    else this.#held.push({ bytes, from, to })
    this.#heldBytes += to - from
    this.#options.budget.used += to - from
    this.#rest()
  }

  /** Stops or resumes reading the socket. */
  #rest(): void {
    const { budget } = this.#options
    const max = this.#opened ? this.#limits.heldBytes : this.#limits.connectBytes
    if (!this.#resting && this.#heldBytes > 0 && (this.#heldBytes > max || budget.used > budget.max)) {
      this.#resting = true
      this.#socket.pause()
    } else if (this.#resting && (this.#heldBytes === 0 || (this.#heldBytes <= max / 2 && budget.used <= budget.max))) {
      this.#resting = false
      // The peer could not be heard meanwhile: its keep alive and the packet it was sending begin anew.
      this.#heardAt = this.#partialSince = this.#options.monotonic()
      this.#socket.resume()
    }
  }

  /** Hands over what need not wait for a PUBLISH, and holds the rest, so that packets of either kind keep their order. */
  #sort(bytes: Buffer, from: number, to: number): void {
    for (let at = from; at < to;) {
      const type = bytes[at]! >> 4
      const end = this.#header(bytes, at, to)
      if (type === Packet.publish || type === Packet.disconnect) this.#hold(bytes, at, end)
      else this.#ready.push(bytes.subarray(at, end))
      at = end
    }
  }

  /** Hands over what waited, as far as there is room. */
  readonly #release = (): void => {
    if (this.#dead || !this.#opened) return
    while (this.#held.length > 0) {
      const stretch = this.#held[0]!
      let at = stretch.from
      while (at < stretch.to) {
        const first = stretch.bytes[at]!
        if (first >> 4 === Packet.publish && !this.#enter(first)) break
        at = this.#header(stretch.bytes, at, stretch.to)
      }
      const size = at - stretch.from
      if (size > 0) this.#ready.push(stretch.bytes.subarray(stretch.from, at))
      this.#heldBytes -= size
      this.#options.budget.used -= size
      stretch.from = at
      if (at < stretch.to) break
      this.#held.shift()
    }
    if (this.#resting) this.#rest()
    this.#offer()
    if (this.#ended) this.#finish()
  }

  /**
   * Tells the engine that there is something to read until it has read it. The engine counts the packets it has begun and reads
   * again only when that count has come down to zero; every 'readable' takes one off. The count is its own attempt at
   * back-pressure, which we replace: without this a PINGREQ would wait for the PUBLISHes before it.
   */
  #offer(): void {
    for (let attempts = this.#limits.unanswered + 64; this.#ready.length > 0 && !this.#parsing && attempts > 0; attempts--) this.emit('readable')
  }

  /** Begins an incomplete packet with the rest of a chunk. */
  #begin(chunk: Buffer, at: number, now: number): void {
    const size = chunk.length - at
    const to = this.#header(chunk, at, chunk.length)
    if (to === KILLED) return
    this.#total = to === INCOMPLETE ? 0 : to - at
    this.#partial = Buffer.allocUnsafe(Math.max(size, this.#total === 0 ? 16 : Math.min(this.#total, 1_024)))
    chunk.copy(this.#partial, 0, at)
    this.#have = size
    this.#partialSince = now
  }

  /** Adds a chunk to the incomplete packet. Returns where the next packet begins in the chunk, or -1 when there is nothing more to do. */
  #continue(chunk: Buffer, now: number): number {
    let at = 0
    while (this.#total === 0) {
      if (at === chunk.length) return -1
      this.#partial[this.#have++] = chunk[at++]!
      const to = this.#header(this.#partial, 0, this.#have)
      if (to === KILLED) return -1
      if (to !== INCOMPLETE) this.#total = to
    }
    const size = Math.min(this.#total - this.#have, chunk.length - at)
    if (this.#have + size > this.#partial.length) {
      // Memory follows what really came, not what was announced.
      const larger = Buffer.allocUnsafe(Math.min(this.#total, Math.max(this.#have + size, this.#partial.length * 2)))
      this.#partial.copy(larger, 0, 0, this.#have)
      this.#partial = larger
    }
    chunk.copy(this.#partial, this.#have, at, at + size)
    this.#have += size
    if (this.#have < this.#total) return -1

    const packet = this.#partial.subarray(0, this.#total)
    this.#partial = NOTHING
    this.#have = this.#total = 0
    this.#header(packet, 0, packet.length)
    const admission = this.#admit(packet, 0, this.#body, packet.length, now)
    if (admission === Admit.dead) return -1
    if (admission === Admit.hold) this.#hold(packet, 0, packet.length)
    else this.#ready.push(packet)
    return at + size
  }

  // -------------------------------------------------------------------------------------------------------------- writing

  /**
   * What the engine calls, several times for one packet. Gathered over one turn of the loop: it writes each delivery from an immediate of
   * its own, and a system call for each would cost as much as all the rest of it.
   */
  override write(chunk: Uint8Array | string, ...rest: unknown[]): boolean {
    if (this.#dead || this.destroyed) return true
    const size = typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.length
    if (size > this.#slab.length - this.#filled) this.#makeRoom(size)
    if (typeof chunk === 'string') {
      this.#slab.write(chunk, this.#filled)
    } else if (size <= 2) {
      if (size > 0) this.#slab[this.#filled] = chunk[0]!
      if (size > 1) this.#slab[this.#filled + 1] = chunk[1]!
    } else {
      this.#slab.set(chunk, this.#filled)
    }
    this.#filled += size
    if (!this.#flushing) {
      this.#flushing = true
      setImmediate(this.#flush)
    }
    const done = rest.at(-1)
    if (typeof done === 'function') process.nextTick(done as () => void)

    if (this.unwritten > this.#limits.unwrittenBytes) this.kill('slow_reader')
    else if (this.unwritten > this.#socket.writableHighWaterMark) this.#wantsDrain = true
    return !this.#wantsDrain
  }

  /** A slab is given away with every flush and grows with what is written in one turn. */
  #makeRoom(size: number): void {
    if (this.#filled > 0) {
      this.#slabSize = Math.min(SLAB_MAX, this.#slabSize * 2)
      this.#hand()
    }
    this.#slab = Buffer.allocUnsafe(Math.max(size, this.#slabSize))
  }

  #hand(): void {
    if (this.#filled === 0) return
    this.#handedBytes += this.#filled
    const bytes = this.#slab.subarray(0, this.#filled)
    this.#unacknowledged.left(bytes)
    this.#socket.write(bytes)
    this.#slab = NOTHING
    this.#filled = 0
  }

  readonly #flush = (): void => {
    this.#flushing = false
    this.flush()
  }

  /** Hands over what was gathered, without waiting for the end of the turn. */
  flush(): void {
    if (this.#dead || this.destroyed || this.#filled === 0) return
    if (this.#filled < this.#slabSize / 4 && this.#slabSize > SLAB_MIN) this.#slabSize /= 2
    this.#hand()
    if (!this.#socket.writableNeedDrain) this.#drained()
  }

  readonly #drained = (): void => {
    if (!this.#wantsDrain) return
    this.#wantsDrain = false
    this.emit('drain')
  }

  override _write(_chunk: unknown, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    done()
  }

  // --------------------------------------------------------------------------------------------------------------- ending

  readonly #onEnd = (): void => {
    this.#ended = true
    this.#endedAt = this.#options.monotonic()
    this.#finish()
  }

  /** The peer has closed its half: once all it sent is processed and answered, so do we. */
  #finish(): void {
    if (this.#held.length === 0 && this.#ready.length === 0 && this.#unanswered <= 0) this.emit('end')
  }

  readonly #onGone = (): void => {
    this.#dead = true
    this.destroy()
  }

  /** Closes after an answer. */
  #refuse(answer: Buffer, reason: KillReason): void {
    this.#options.onKill(reason)
    this.#socket.write(answer)
    this.destroy()
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    const socket = this.#socket
    if (!this.#dead) {
      this.#hand()
      this.#dead = true
      socket.removeListener('data', this.#take)
      // Reads on and throws away: a socket closed with unread bytes resets, and the peer would not get our last ones.
      socket.resume()
      socket.end(() => socket.destroy())
      setTimeout(() => socket.destroy(), FAREWELL_MS).unref()
    } else {
      socket.destroy()
    }
    this.#options.watch.delete(this)
    this.#options.budget.used -= this.#heldBytes
    this.#heldBytes = 0
    this.#held = []
    this.#ready = []
    this.#partial = NOTHING
    this.#have = 0
    // Errors of a connection are counted where they arise; to the engine every end is an ordinary one.
    done(null)
  }
}

/** With TLS there is no reset: the bytes that the kernel has are sent, those before it are not. */
function resetSocket(socket: Duplex): void {
  if (socket instanceof TLSSocket || !('resetAndDestroy' in socket)) socket.destroy()
  else (socket as Socket).resetAndDestroy()
}
