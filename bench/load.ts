/**
 * The load generator: terminals and subscribers of one broker as raw sockets with a few lines of MQTT 3.1.1, so that it is the broker
 * that is measured. Two ways to send:
 *
 * - `round`: by windows, as fast as the broker takes it (closed loop): how much goes through.
 * - `offer`: by the clock, whether the broker keeps up or not (open loop): how long it takes. A message's time counts from the moment it
 *   was due, not from when there was room to write it, so that a broker that stalls is not spared the messages of that time
 *   (coordinated omission). That moment stands in the payload, in a field that every side lets through.
 */
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { build, type Histogram } from 'hdr-histogram-js'
import { generate } from 'mqtt-packet'
import type { Issued } from '../src/cli/pki/x509.ts'
import { encode, pause, until } from '../test/e2e/stage.ts'
import { Packets } from '../test/fault/copies.ts'
import { machineCertificate, personOf, saidYes, type Broker, type Job, type Qos } from './brokers.ts'
import { cpuMs } from './machine.ts'
import { STATUS } from './minimise.ts'

/** Messages of one terminal without an acknowledgement; at QoS 0, where nothing is acknowledged, that have not arrived. */
const WINDOW = 64
/** Messages of all terminals that are acknowledged or not and have not arrived: no side may run up a backlog instead of relaying. With several outputs, so many PUBLISHes to subscribers. */
const ON_THE_WAY = 1_024
const ON_THE_WAY_OUT = 2_048
/** A round that has brought fewer than so many goes on, up to so many times as long. */
const LEAST = 20
const LONGEST = 20
/** A terminal waits for room for so many, and sends them in one piece: a packet a piece would measure the system's calls. */
const AT_ONCE = 16
/** Different messages that each terminal sends by turns; of all terminals so many. */
const VARIANTS = 64
const VARIANTS_ALL = 4_096
/** Of each round, at its start, that does not count. */
const RAMP_MS = 50
const NONE_LEFT_MS = 1_500
const NONE_LEFT_TRACKED_MS = 5_000
const WARM_AT_MOST_MS = 30_000
const CONNECTS_AT_ONCE = 50
const ADMIT_MS = 20_000

export interface Figure {
  readonly perSecond: number
  readonly cpuUs: number
  readonly generator: number
  readonly lost: number
}

export interface Offer {
  /** Messages without an answer that a terminal has at most; what is due beyond them waits there. Default: as many as there are packet ids. */
  readonly unanswered?: number
  readonly perSecond: number
  readonly ms: number
  /** What comes at once behind it; what was due until then and could not be written is forgotten. */
  readonly then?: { readonly perSecond: number; readonly ms: number }
  /** Remembers which were acknowledged and which arrived; costs memory. */
  readonly tracked?: boolean
  readonly each?: (sinceStartMs: number) => void
}

/** Times in microseconds, from when a message was due. */
export interface Offered {
  readonly due: number
  readonly written: number
  /** Until its acknowledgement came, and until the first subscriber had it. */
  readonly acked: Histogram
  readonly arrived: Histogram
  /** How late the generator wrote it: what of the times above is not the broker's, unless the broker did not read. */
  readonly late: Histogram
  /** Acknowledged and never arrived; only when tracked. */
  readonly lost: number
  /** When each acknowledgement came that took longer than 20 ms, milliseconds after the start; only when tracked. */
  readonly slowAtMs: readonly number[]
  /** Acknowledged before `then` began. */
  readonly ackedBefore: number
}

/** One broker with its terminals and subscribers. */
export class Lane {
  readonly #broker: Broker
  readonly #job: Job
  readonly #outputQos: Qos
  readonly #terminals: Terminal[] = []
  readonly #subscribers: Client[] = []
  readonly #most: number
  readonly #window: number
  readonly #atOnce: number
  /** Where the next free room is looked for, so that each terminal has its turn. */
  #next = 0
  readonly #openedMs = performance.now()
  #isSending = false
  #isClosed = false
  /** Of subscribers. */
  reconnects = 0
  #sent = 0
  /** PUBLISHes to subscribers that must come, and that came. */
  #expected = 0
  #arrived = 0
  #acked = 0
  #offer: Running | undefined
  /** The payload that arrived last. */
  newest: Buffer = Buffer.alloc(0)

  private constructor(broker: Broker, job: Job) {
    this.#broker = broker
    this.#job = job
    this.#outputQos = job.outputQos ?? job.qos
    this.#most = Math.min(ON_THE_WAY, Math.floor(ON_THE_WAY_OUT / job.outputs))
    const share = Math.max(1, Math.floor(this.#most / job.terminals))
    this.#window = Math.min(WINDOW, share)
    this.#atOnce = job.atOnce ?? Math.min(AT_ONCE, Math.ceil(this.#window / 4))
  }

  static async open(broker: Broker, job: Job): Promise<Lane> {
    const lane = new Lane(broker, job)
    for (let n = 0; n < broker.subscribers.length; n++) await lane.#subscribe(n)
    for (let machine = 0; machine < job.terminals; machine += CONNECTS_AT_ONCE) {
      const some = Array.from({ length: Math.min(CONNECTS_AT_ONCE, job.terminals - machine) }, (_, n) => machine + n)
      lane.#terminals.push(...await Promise.all(some.map((one) => lane.#terminal(one))))
    }
    // Acquired after the sign-on and the yes, as it must hold from acquisition on.
    await pause(5)
    const eventMs = Date.now()
    for (const terminal of lane.#terminals) terminal.load(job, eventMs)
    return lane
  }

  async #subscribe(n: number): Promise<void> {
    const { user, filter } = this.#broker.subscribers[n]!
    let granted = false
    const client = await Client.open(this.#broker.recipients, undefined, `${user}-${n}`, user, {
      packet: (from, first, body) => {
        if (first >> 4 === SUBACK) granted = true
        else this.#delivered(from, n, first, body)
      },
      read: () => this.#pumpAll(),
    }, this.#job.session !== true)
    this.#subscribers[n] = client
    // A withdrawal resets a connection that holds what it covers; what else was on it comes again over the next one.
    client.socket.once('close', () => {
      if (this.#isClosed) return
      this.reconnects++
      void this.#subscribe(n)
    })
    client.socket.write(generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: filter, qos: this.#outputQos }] }))
    await until(() => granted, 'the subscription')
  }

  async #terminal(machine: number): Promise<Terminal> {
    const name = `M-${machine}`
    let isSignedOn = this.#broker.plant === undefined
    let terminal: Terminal | undefined
    const client = await Client.open(this.#broker.terminals, this.#broker.tls ? machineCertificate(name) : undefined, name, name, {
      packet: (_from, first, body) => {
        if (terminal === undefined || !isSignedOn) isSignedOn = true
        else this.#answered(terminal, first, body)
      },
      read: () => {
        if (terminal !== undefined) this.#pump(terminal)
      },
    })
    // A relay asks nobody.
    terminal = new Terminal(machine, this.#broker.plant === undefined || saidYes(personOf(machine, this.#job.terminals), this.#job), client)
    if (!isSignedOn) {
      const payload = encode('operator', { machine_id: name, time_ms: Date.now(), op: 'SIGN_ON', operator_id: `C-${personOf(machine, this.#job.terminals)}` })
      client.socket.write(generate({ cmd: 'publish', topic: `up/demo/${name}/operator`, payload, qos: 1, dup: false, retain: false, messageId: 1 }))
      await until(() => isSignedOn, 'a sign-on', ADMIT_MS)
    }
    return terminal
  }

  close(): void {
    this.#isClosed = true
    for (const { client } of this.#terminals) client.socket.destroy()
    for (const client of this.#subscribers) client.socket.destroy()
  }

  // -------------------------------------------------------------------------------------------------------- as fast as it goes

  /** Rounds that do not count, until every terminal has had its turn: a machine's first message has rows made for it, on the disk. */
  async warm(ms: number): Promise<void> {
    const began = performance.now()
    do await this.round(ms)
    while (this.#sent < this.#job.terminals * 2 && performance.now() - began < WARM_AT_MOST_MS)
  }

  /** Sends for so long, then waits until all of it has arrived. */
  async round(ms: number): Promise<Figure> {
    this.#isSending = true
    const before = this.#done
    const cpu = cpuMs(this.#broker.pid)
    this.#pumpAll()
    await pause(RAMP_MS)
    const [began, counted, own] = [performance.now(), this.#done, process.cpuUsage()]
    await pause(ms)
    while (this.#done - counted < LEAST && performance.now() - began < ms * LONGEST) await pause(ms / 10)
    const tookMs = performance.now() - began
    const during = this.#done - counted
    const { user, system } = process.cpuUsage(own)
    this.#isSending = false
    const lost = await this.#settle()
    if (lost > 0 && this.#outputQos > 0) throw new Error(`${this.#broker.kind} lost ${lost} acknowledged messages`)
    if (during === 0) throw new Error(`${this.#broker.kind} let nothing through: ${this.#broker.said()}`)
    return { perSecond: (during * 1_000) / tookMs, cpuUs: ((cpuMs(this.#broker.pid) - cpu) * 1_000) / (this.#done - before), generator: (user + system) / 1_000 / tookMs, lost }
  }

  /** Messages that every subscriber has; where some are meant for nobody, those that were acknowledged. */
  get #done(): number {
    return this.#job.yes < 1 ? this.#acked : this.#arrived / this.#subscribers.length
  }

  /** Waits until everything came that must. Returns how many never did. */
  async #settle(): Promise<number> {
    // What a session brings twice must not stand for what has not come: where each message is known, they are what is waited for.
    const offer = this.#offer?.isTracked === true ? this.#offer : undefined
    const missing = (): number => (offer?.missing ?? Math.max(0, this.#expected - this.#arrived)) + (this.#job.qos === 0 ? 0 : this.#sent - this.#acked)
    for (let [quiet, last] = [performance.now(), missing()]; missing() > 0 && performance.now() - quiet < (offer === undefined ? NONE_LEFT_MS : NONE_LEFT_TRACKED_MS);) {
      await pause(2)
      if (missing() !== last) [quiet, last] = [performance.now(), missing()]
    }
    const lost = this.#expected - this.#arrived
    this.#expected = this.#arrived
    return Math.max(0, lost)
  }

  #pumpAll(): void {
    if (!this.#isSending) return
    for (let n = 0; n < this.#terminals.length && this.#room > 0; n++) {
      this.#pump(this.#terminals[this.#next]!)
      this.#next = (this.#next + 1) % this.#terminals.length
    }
  }

  get #room(): number {
    return this.#most - (this.#expected - this.#arrived) / this.#subscribers.length
  }

  #pump(terminal: Terminal): void {
    if (!this.#isSending) return
    const onTheWay = (this.#expected - this.#arrived) / this.#subscribers.length
    const { terminals, qos } = this.#job
    // At QoS 0 nothing tells whose messages have arrived: each terminal may have its share of what is still allowed on the way.
    const room = Math.floor(qos === 0 ? Math.ceil((terminals * this.#window - onTheWay) / terminals) : Math.min(this.#window - terminal.unacked, this.#most - onTheWay))
    if (room < this.#atOnce) return
    terminal.write(room, qos)
    this.#count(terminal, room)
  }

  #count(terminal: Terminal, messages: number): void {
    this.#sent += messages
    if (terminal.isOpen) this.#expected += messages * this.#subscribers.length
  }

  #answered(terminal: Terminal, first: number, body: Buffer): void {
    const kind = first >> 4
    const id = kind === PUBACK || kind === PUBREC || kind === PUBCOMP ? body.readUInt16BE(0) : 0
    if (kind === PUBREC) terminal.client.answers.push(word(PUBREL, id))
    if (kind !== PUBACK && kind !== PUBCOMP) return
    terminal.unacked--
    this.#acked++
    this.#offer?.acked(terminal, id)
  }

  #delivered(client: Client, at: number, first: number, body: Buffer): void {
    const kind = first >> 4
    if (kind === PUBREL_KIND) client.answers.push(word(PUBCOMP_WORD, body.readUInt16BE(0)))
    if (kind !== PUBLISH) return
    this.#arrived++
    const qos = (first >> 1) & 3
    if (qos !== this.#outputQos) throw new Error(`${this.#broker.kind} delivered at QoS ${qos}`)
    const topicEnd = 2 + body.readUInt16BE(0)
    if (qos > 0) client.answers.push(word(qos === 1 ? PUBACK_WORD : PUBREC_WORD, body.readUInt16BE(topicEnd)))
    const payload = body.subarray(topicEnd + (qos > 0 ? 2 : 0))
    if (at === 0) this.#offer?.arrived(stampIn(payload))
    if (this.#arrived % 1_000 === 1) this.newest = Buffer.from(payload)
  }

  // ------------------------------------------------------------------------------------------------------------- by the clock

  /** Messages that became due at an even pace, over all terminals by turns. Resolves when all that was written is answered for. QoS 1. */
  async offer(wish: Offer): Promise<Offered> {
    if (this.#job.qos !== 1) throw new Error('an offer is made at QoS 1')
    const offer = new Running(wish, this.#terminals, this.#openedMs)
    this.#offer = offer
    await offer.run((terminal, messages) => this.#count(terminal, messages))
    await this.#settle()
    this.#offer = undefined
    return offer.found()
  }
}

/** Bytes that the system has not taken: past it a terminal keeps what is due. */
const UNTAKEN = 65_536
/** Packet ids without an answer at a time. [MQTT-2.3.1-4] */
const IDS = 60_000
const SLOW_MS = 20
const HIGHEST_US = 120_000_000

class Running {
  readonly #wish: Offer
  readonly #terminals: readonly Terminal[]
  readonly #startMs = performance.now()
  readonly #originMs: number
  readonly #baseUs: number
  readonly #acked = histogram()
  readonly #arrived = histogram()
  readonly #late = histogram()
  /** Stamps of what was acknowledged; what arrives is taken out. */
  readonly #open = new Set<number>()
  readonly #came = new Set<number>()
  readonly #slowAtMs: number[] = []
  #ackedBefore: number | undefined
  #due = 0
  #written = 0

  /** @param originMs  from which the stamps count, so that no two offers of a lane have the same */
  constructor(wish: Offer, terminals: readonly Terminal[], originMs: number) {
    this.#wish = wish
    this.#originMs = originMs
    this.#baseUs = Math.ceil((this.#startMs - originMs) * 1_000)
    this.#terminals = terminals
    for (const terminal of terminals) terminal.begin()
  }

  /** @param count  told of what is written */
  run(count: (terminal: Terminal, messages: number) => void): Promise<void> {
    const { perSecond, ms, then, each } = this.#wish
    let [rate, fromMs, fromDue] = [perSecond, 0, 0]
    return new Promise((done) => {
      const turn = (): void => {
        const since = performance.now() - this.#startMs
        if (then !== undefined && this.#ackedBefore === undefined && since >= ms) {
          for (const terminal of this.#terminals) terminal.due.length = terminal.written
          this.#ackedBefore = this.#acked.totalCount
          ;[rate, fromMs, fromDue] = [then.perSecond, since, this.#due]
        }
        for (const now = fromDue + Math.floor(((since - fromMs) * rate) / 1_000); this.#due < now; this.#due++) {
          this.#terminals[this.#due % this.#terminals.length]!.due.push(Math.round(this.#baseUs + fromMs * 1_000 + ((this.#due - fromDue) * 1e6) / rate))
        }
        for (const terminal of this.#terminals) {
          const messages = this.#write(terminal)
          if (messages > 0) count(terminal, messages)
        }
        each?.(since)
        if (since < ms + (then?.ms ?? 0)) setImmediate(turn)
        else done()
      }
      turn()
    })
  }

  #write(terminal: Terminal): number {
    const { due, client } = terminal
    const free = Math.min(due.length - terminal.written, (this.#wish.unanswered ?? IDS) - terminal.unacked)
    if (free <= 0 || client.socket.writableLength > UNTAKEN) return 0
    const stamps = due.slice(terminal.written, terminal.written + Math.min(free, AT_ONCE * 4))
    terminal.written += stamps.length
    this.#written += stamps.length
    const nowUs = (performance.now() - this.#originMs) * 1_000
    for (const stamp of stamps) this.#late.recordValue(Math.max(0, nowUs - stamp))
    terminal.write(stamps.length, 1, stamps)
    return stamps.length
  }

  /** Answers come in the order of the messages. [MQTT-4.6.0-2] */
  acked(terminal: Terminal, id: number): void {
    const expected = (terminal.firstId + terminal.answered - 1) % 65_535 + 1
    const stamp = terminal.due[terminal.answered++]
    if (stamp === undefined || id !== expected) throw new Error(`the acknowledgement of ${id} came, of ${expected} should`)
    const now = performance.now()
    const tookUs = (now - this.#originMs) * 1_000 - stamp
    this.#acked.recordValue(Math.min(HIGHEST_US, Math.max(0, tookUs)))
    if (this.#wish.tracked !== true) return
    if (tookUs > SLOW_MS * 1_000) this.#slowAtMs.push(now - this.#startMs)
    if (terminal.isOpen && !this.#came.delete(stamp)) this.#open.add(stamp)
  }

  get isTracked(): boolean {
    return this.#wish.tracked === true
  }

  /** Acknowledged and not arrived. */
  get missing(): number {
    return this.#open.size
  }

  arrived(stamp: number): void {
    // Of an offer before this one.
    if (stamp < this.#baseUs) return
    this.#arrived.recordValue(Math.min(HIGHEST_US, Math.max(0, (performance.now() - this.#originMs) * 1_000 - stamp)))
    if (this.#wish.tracked === true && !this.#open.delete(stamp)) this.#came.add(stamp)
  }

  found(): Offered {
    return { due: this.#due, written: this.#written, acked: this.#acked, arrived: this.#arrived, late: this.#late, lost: this.#open.size, slowAtMs: this.#slowAtMs, ackedBefore: this.#ackedBefore ?? this.#acked.totalCount }
  }
}

function histogram(): Histogram {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: HIGHEST_US, numberOfSignificantValueDigits: 3 })
}

// ---------------------------------------------------------------------------------------------------------------- messages

/** What stands in the frames and is written over: both have as many bytes whatever they say, for decades and for an hour. */
const STAMP_FIELD = 'hour_meter_s'
const STAMP_NUMBER = 27
const STAMP_LEAST = 2 ** 28
const STAMP_BYTES = 5
const TIME_BYTES = 6

interface Frame {
  readonly bytes: Buffer
  readonly idAt: number
  readonly stampAt: number
  readonly timeAt: number
}

class Terminal {
  readonly client: Client
  /** What it sends is let out. */
  readonly isOpen: boolean
  readonly #machine: number
  #frames: readonly Frame[] = []
  #turn = 0
  #id = 1
  unacked = 0
  /** When messages were due, microseconds after the lane was opened; how many of them are written, and answered; and the first one's packet id. */
  due: number[] = []
  written = 0
  answered = 0
  firstId = 0

  constructor(machine: number, isOpen: boolean, client: Client) {
    this.#machine = machine
    this.isOpen = isOpen
    this.client = client
  }

  /** Payloads of about 190 bytes that differ in their numbers; the same for every broker. */
  load(job: Job, eventMs: number): void {
    const machine = this.#machine
    const variants = Math.max(1, Math.min(VARIANTS, Math.floor(VARIANTS_ALL / job.terminals)))
    this.#frames = Array.from({ length: variants }, (_, n) => {
      const payload = encode('status', {
        ...STATUS.json, machine_id: `M-${machine}`, operator_id: `C-${personOf(machine, job.terminals)}`, time_ms: eventMs + n, seq: 123_456 + n, pack_mv: 48_200 + n,
        lat_e7: 481_371_540 + (machine % 1_000) * 1_000 + n * 10, [STAMP_FIELD]: STAMP_LEAST + n,
      })
      const bytes = generate({ cmd: 'publish', topic: `up/demo/M-${machine}/status`, payload, qos: job.qos, dup: false, retain: false, ...(job.qos === 0 ? {} : { messageId: 1 }) })
      const from = bytes.length - payload.length
      return { bytes, idAt: from - 2, stampAt: placeOf(bytes, from, STAMP_LEAST + n, STAMP_BYTES), timeAt: placeOf(bytes, from, eventMs + n, TIME_BYTES) }
    })
  }

  begin(): void {
    this.due = []
    this.written = this.answered = 0
    this.firstId = (this.#id % 65_535) + 1
  }

  /** @param stamps  one for each: then it also says that it was acquired now */
  write(messages: number, qos: Qos, stamps?: readonly number[]): void {
    const frames = Array.from({ length: messages }, () => this.#frames[this.#turn++ % this.#frames.length]!)
    const bytes = Buffer.concat(frames.map((frame) => frame.bytes))
    const nowMs = stamps === undefined ? 0 : Date.now()
    let at = 0
    for (const [n, frame] of frames.entries()) {
      if (qos > 0) {
        this.#id = (this.#id % 65_535) + 1
        bytes.writeUInt16BE(this.#id, at + frame.idAt)
      }
      if (stamps !== undefined) {
        putVarint(bytes, at + frame.stampAt, STAMP_LEAST + stamps[n]!, STAMP_BYTES)
        putVarint(bytes, at + frame.timeAt, nowMs, TIME_BYTES)
      }
      at += frame.bytes.length
    }
    if (qos > 0) this.unacked += messages
    this.client.socket.write(bytes)
  }
}

function placeOf(bytes: Buffer, from: number, value: number, length: number): number {
  const wanted = Buffer.alloc(length)
  putVarint(wanted, 0, value, length)
  const at = bytes.indexOf(wanted, from)
  if (at < 0) throw new Error('the message has no such number')
  return at
}

function putVarint(bytes: Buffer, at: number, value: number, length: number): void {
  let rest = value
  for (let n = 0; n < length; n++) {
    bytes[at + n] = (rest % 128) | (n === length - 1 ? 0 : 0x80)
    rest = Math.floor(rest / 128)
  }
}

/** Microseconds after the lane was opened; negative when the message has none. */
function stampIn(payload: Buffer): number {
  for (let at = 0; at < payload.length;) {
    let tag = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = payload[at++]!
      tag += (byte & 0x7f) * scale
      if (byte < 0x80) break
    }
    const kind = tag & 7
    if (kind === 1) at += 8
    else if (kind === 5) at += 4
    else {
      let value = 0
      for (let scale = 1; ; scale *= 128) {
        const byte = payload[at++]!
        value += (byte & 0x7f) * scale
        if (byte < 0x80) break
      }
      if (tag >>> 3 === STAMP_NUMBER) return value - STAMP_LEAST
      if (kind === 2) at += value
    }
  }
  return -1
}

// ----------------------------------------------------------------------------------------------------------------- sockets

const CONNACK = 2
const PUBLISH = 3
const PUBACK = 4
const PUBREC = 5
const PUBREL_KIND = 6
const PUBCOMP = 7
const SUBACK = 9
/** Packets of four bytes: kind and flags, length, packet id. */
const PUBACK_WORD = 0x40
const PUBREC_WORD = 0x50
const PUBREL = 0x62
const PUBCOMP_WORD = 0x70

function word(first: number, id: number): number {
  return ((first << 24) | (2 << 16) | id) >>> 0
}

interface Reading {
  packet(client: Client, first: number, body: Buffer): void
  /** After all packets of a piece, when their answers have left. */
  read(): void
}

/** A connection whose answers to one read leave in one write. */
export class Client {
  readonly socket: Socket
  readonly answers: number[] = []

  private constructor(socket: Socket) {
    this.socket = socket
  }

  static async open(port: number, tls: Issued | undefined, clientId: string, user: string, reading: Reading, clean = true): Promise<Client> {
    // Who the broker is, is not what is measured.
    const socket = tls !== undefined ? connectTls({ host: '127.0.0.1', port, ...tls, rejectUnauthorized: false }).setNoDelay(true) : connect({ host: '127.0.0.1', port, noDelay: true })
    const client = new Client(socket)
    let admitted = false
    const packets = new Packets((first, body) => {
      if (first >> 4 === CONNACK) admitted = body[1] === 0
      else reading.packet(client, first, body)
    })
    socket.on('error', () => undefined)
    socket.on('data', (piece: Buffer) => {
      packets.push(piece)
      client.flush()
      reading.read()
    })
    socket.write(generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean, clientId, username: user, keepalive: 0 }))
    await until(() => admitted, 'a connection to be admitted', ADMIT_MS)
    return client
  }

  /** Writes the answers that have come up. */
  flush(): void {
    const { answers } = this
    if (answers.length === 0) return
    const bytes = Buffer.allocUnsafe(answers.length * 4)
    for (let n = 0; n < answers.length; n++) bytes.writeUInt32BE(answers[n]!, n * 4)
    answers.length = 0
    this.socket.write(bytes)
  }
}
