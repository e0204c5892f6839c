/**
 * [G4] A withdrawal is final when it is answered. People grant and withdraw at random instants while their machines publish as fast
 * as the gateway takes it, to live, slow, absent and returning readers, over restarts and kills.
 *
 *     node test/fault/withdrawal-race.ts [WITHDRAWALS] [SEED] [MESSAGES-PER-SECOND]
 *
 * The judge is the record of watched-gateway.ts: everything that the gateway handed to the kernel for a recipient, and every answer,
 * in one order. Each message carries its person and its time, so that a frame belongs to one grant. After the answer to a withdrawal
 *   - no frame that it covers is handed to the kernel, until a later yes, and then only data acquired under that yes;
 *   - none that was handed over before still waits in this process;
 *   - readers get at most as many as the receipt says were on the wire. (Frames at QoS 0 that the kernel has are nobody's to count.)
 */
import { fork, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'
import { generate, type Packet } from 'mqtt-packet'
import { FREE_PORTS, encode } from '../e2e/stage.ts'
import { EXACT_HEIGHT_MM, Packets, PURPOSES, copyOf, type RacePurpose } from './copies.ts'
import { depot, dice, machinesOf } from './depot.ts'

export interface RaceOptions {
  readonly withdrawals: number
  readonly seed: number
  /** People, each with a machine; every fifth is signed on at two. */
  readonly people?: number
  /** How many of them change their minds at the same time. */
  readonly atOnce?: number
  /** Times that the gateway is stopped and started, every second one with kill -9. */
  readonly restarts?: number
  /** Messages of all machines together in a second; without it as many as are answered. */
  readonly rate?: number | undefined
  readonly say?: (line: string) => void
}

export interface RaceResult {
  readonly withdrawals: number
  readonly restarts: number
  readonly published: number
  /** Frames resting on a yes that were handed to recipients' sockets. */
  readonly frames: number
  /** Frames that some withdrawal covered and that readers got after its answer; within the receipts. */
  readonly onTheWire: number
  /** The same at QoS 0, which no receipt counts. */
  readonly onTheWireQos0: number
  /** Sum of what the receipts say. */
  readonly receipts: number
  readonly violations: readonly string[]
  /** Milliseconds, ascending: in the gateway from the call to the receipt, and over HTTP as the caller sees it. */
  readonly gatewayMs: readonly number[]
  readonly httpMs: readonly number[]
}

export async function race(options: RaceOptions): Promise<RaceResult> {
  const run = new Race(options)
  try {
    return await run.play()
  } finally {
    await run.end()
  }
}

/** Granted or withdrawn, as answered or as the ledger has it. */
interface Change {
  readonly seq: number
  readonly state: string
  readonly atMs: number
}

interface Answer {
  readonly seq: number
  readonly at: string
  readonly on_the_wire: number
}

class Race {
  readonly people: number
  /** Between two messages of a machine, on average. */
  readonly pauseMs: number
  readonly #options: RaceOptions
  readonly #folder: ReturnType<typeof depot>
  readonly #records = mkdtempSync(join(tmpdir(), 'parapet-race-'))
  readonly #random: () => number
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 16 })
  readonly #watches: Watch[] = []
  /** Who is not changing their mind just now. */
  readonly #idle: number[]
  /** `PERSON PURPOSE` of every yes. */
  readonly #agreed = new Set<string>()
  #child: ChildProcess | undefined
  #ports = { terminals: 0, recipients: 0, admin: 0 }
  #up: Promise<void> = Promise.resolve()
  #over = false
  #wanted: number
  #starts = 0
  readonly #httpMs: number[] = []
  published = 0

  constructor(options: RaceOptions) {
    this.#options = options
    this.pauseMs = options.rate === undefined ? 0 : (((options.people ?? 20) * 6) / 5 / options.rate) * 1_000
    this.people = options.people ?? 20
    this.#idle = Array.from({ length: this.people }, (_, n) => n)
    this.#wanted = options.withdrawals
    this.#random = dice(options.seed)
    this.#folder = depot(this.people)
  }

  /** How many times the gateway was started before the one that runs. */
  get start(): number {
    return this.#starts - 1
  }

  get up(): Promise<void> {
    return this.#up
  }

  get over(): boolean {
    return this.#over
  }

  get ports(): { readonly terminals: number; readonly recipients: number } {
    return this.#ports
  }

  random(below = 1): number {
    return this.#random() * below
  }

  async play(): Promise<RaceResult> {
    await this.#start()
    for (const operator of this.#idle) await this.#grant(operator, PURPOSES[operator % 2]!)
    const busy = [
      ...machinesOf(this.people).map((machine) => new Terminal(this, machine).play()),
      ...['live', 'slow', 'stuck', 'nightly', 'fresh', 'qos0'].flatMap((habit) => ['site-planner', 'oem-cloud'].map((name) => new Reader(this, name, habit).play())),
    ]
    const restarts = this.#restarts()
    await Promise.race([this.#watchdog(), Promise.all(Array.from({ length: this.#options.atOnce ?? 3 }, () => this.#changeMinds()))])
    for (const operator of this.#idle) for (const purpose of PURPOSES) if (this.#agreed.has(`${operator} ${purpose}`)) await this.#withdraw(operator, purpose)
    await restarts
    // What is still under way has time to show itself.
    await pause(200)
    const truth = await this.#history()
    this.#over = true
    await this.#stop('stop')
    await Promise.all(busy)
    return this.#judge(truth)
  }

  async end(): Promise<void> {
    this.#over = true
    await this.#stop('SIGKILL')
    this.#agent.destroy()
    this.#folder.remove()
    rmSync(this.#records, { recursive: true, force: true })
  }

  /** A covered frame reached a reader. */
  seen(operator: number, purpose: RacePurpose, eventMs: number, qos: number, connection: string): void {
    const watch = this.#watches.findLast((one) => one.operator === operator && one.purpose === purpose)
    if (watch === undefined || eventMs >= watch.untilMs) return
    if (qos === 0) watch.lateQos0++
    else watch.late.push(connection)
  }

  // ---------------------------------------------------------------------------------------------------------------- gateway

  async #start(): Promise<void> {
    const up = Promise.withResolvers<void>()
    this.#up = up.promise
    const set = [...FREE_PORTS, 'limits.messages_per_second=100000', 'log.level=silent']
    const child = fork(join(import.meta.dirname, 'watched-gateway.ts'), [this.#folder.file('gateway.yaml'), join(this.#records, String(this.#starts++)), ...set], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    this.#child = child
    const ended = new Promise<never>((_, failed) => child.once('exit', () => failed(new Error('the gateway stopped before it was ready'))))
    ended.catch(() => undefined)
    this.#ports = await Promise.race([new Promise<typeof this.ports & { readonly admin: number }>((done) => child.once('message', (message) => done(message as never))), ended])
    up.resolve()
  }

  async #stop(how: 'stop' | 'SIGKILL'): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((done) => child.once('exit', done))
    if (how === 'stop') child.send('stop')
    else child.kill(how)
    await ended
  }

  /** A gateway or a reader that hangs must end the race, not the patience of who waits for it. */
  async #watchdog(): Promise<never> {
    for (let quiet = 0, before = -1; ; quiet++) {
      await pause(1_000, undefined, { ref: false })
      if (this.#watches.length !== before) quiet = 0
      before = this.#watches.length
      if (quiet > 30) throw new Error(`no withdrawal was answered for 30 s: ${before} of ${this.#options.withdrawals}, ${this.published} messages published, start ${this.#starts}`)
    }
  }

  async #restarts(): Promise<void> {
    const times = this.#options.restarts ?? 2
    for (let n = 0; n < times; n++) {
      const left = this.#options.withdrawals * (1 - (n + 1) / (times + 1))
      while (this.#wanted > left) await pause(5)
      await pause(this.random(20))
      await this.#stop(n % 2 === 0 ? 'SIGKILL' : 'stop')
      await this.#start()
      this.#options.say?.(`restart ${n + 1} of ${times}, ${this.#options.withdrawals - Math.max(0, this.#wanted)} withdrawals`)
    }
  }

  // ----------------------------------------------------------------------------------------------------------------- people

  /** One person after another changes their mind about a purpose, at random instants: about half of them have said yes at any time. */
  async #changeMinds(): Promise<void> {
    while (this.#wanted > 0) {
      const [operator] = this.#idle.splice(Math.floor(this.random(this.#idle.length)), 1) as [number]
      const purpose = PURPOSES[Math.floor(this.random(2))]!
      await pause(this.random(20))
      for (let turns = this.random(8); turns > 1; turns--) await turn()
      await (this.#agreed.has(`${operator} ${purpose}`) ? this.#withdraw(operator, purpose) : this.#grant(operator, purpose))
      this.#idle.push(operator)
    }
  }

  async #grant(operator: number, purpose: RacePurpose): Promise<void> {
    const before = this.#watches.findLast((watch) => watch.operator === operator && watch.purpose === purpose)
    if (before !== undefined) before.untilMs = Date.now()
    await this.#insist(operator, purpose, 'granted')
    this.#agreed.add(`${operator} ${purpose}`)
  }

  async #withdraw(operator: number, purpose: RacePurpose): Promise<void> {
    this.#wanted = Math.max(0, this.#wanted - 1)
    const began = performance.now()
    const { answer, tries } = await this.#insist(operator, purpose, 'withdrawn')
    if (tries === 1) this.#httpMs.push(performance.now() - began)
    this.#watches.push({ operator, purpose, seq: answer.seq, wire: answer.on_the_wire, untilMs: Infinity, late: [], lateQos0: 0 })
    this.#agreed.delete(`${operator} ${purpose}`)
  }

  /** As often as the gateway has to be asked because it was stopped in between. */
  async #insist(operator: number, purpose: RacePurpose, state: string): Promise<{ readonly answer: Answer; readonly tries: number }> {
    for (let tries = 1; ; tries++) {
      await this.#up
      try {
        const answer = await this.#ask<Answer>('POST', `/v1/operators/op-${operator}/consent`, { purpose, state, ...(state === 'granted' ? { evidence: 'form 7' } : {}) })
        return { answer, tries }
      } catch (error) {
        if (error instanceof Refused) throw error
        await pause(5)
      }
    }
  }

  #ask<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const token = readFileSync(join(this.#folder.data, 'admin.token'), 'utf8').trim()
    return new Promise((done, failed) => {
      const asked = request({ host: '127.0.0.1', port: this.#ports.admin, agent: this.#agent, method, path, headers: { authorization: `Bearer ${token}`, ...(text === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }) } }, (response) => {
        const pieces: Buffer[] = []
        response.on('data', (piece: Buffer) => pieces.push(piece))
        response.on('error', failed)
        response.on('end', () => {
          const said = Buffer.concat(pieces).toString('utf8')
          if (response.statusCode === 200) done(JSON.parse(said) as Answer)
          // A gateway that is stopping says so; everything else is a fault of the race.
          else failed(response.statusCode === 503 ? new Error(said) : new Refused(`${path}: ${response.statusCode} ${said}`))
        })
      })
      asked.on('error', failed)
      asked.end(text)
    })
  }

  async #history(): Promise<Map<string, Change[]>> {
    const truth = new Map<string, Change[]>()
    for (let operator = 0; operator < this.people; operator++) {
      const { history } = await this.#ask<{ history: { seq: number; type: string; body: { purpose: string; at: number } }[] }>('GET', `/v1/operators/op-${operator}/consent`)
      for (const { seq, type, body } of history) {
        const key = `${operator} ${body.purpose}`
        truth.set(key, [...(truth.get(key) ?? []), { seq, state: type.slice('consent.'.length), atMs: body.at }])
      }
    }
    return truth
  }

  // ------------------------------------------------------------------------------------------------------------------ judge

  #judge(truth: ReadonlyMap<string, readonly Change[]>): RaceResult {
    const violations: string[] = []
    const answered = new Map<string, number>()
    const gatewayMs: number[] = []
    let frames = 0
    /** Connections that are closed, and for each withdrawal those that were when it began: what lies there unread is out of reach. */
    const closed = new Set<string>()
    const begun = new Map<string, Set<string>>()
    const closedBefore = new Map<number, { readonly start: number; readonly sockets: ReadonlySet<string> }>()
    for (let start = 0; start < this.#starts; start++) {
      const text = readFileSync(join(this.#records, String(start)), 'utf8')
      // The last line of a killed gateway may be torn.
      for (const line of text.slice(0, text.lastIndexOf('\n')).split('\n')) {
        const word = line.split(' ')
        if (word[0] === 'H') violations.push(`held at the answer: ${line}`)
        else if (word[0] === 'C') closed.add(`${start} ${word[1]}`)
        else if (word[0] === 'B') begun.set(`${word[1]} ${word[2]}`, new Set(closed))
        else if (word[0] === 'A') {
          const [, operator, purpose, state, seq, at, , micros] = word as [string, string, string, string, string, string, string, string]
          answered.set(`${operator} ${purpose}`, Number(seq))
          closedBefore.set(Number(seq), { start, sockets: begun.get(`${operator} ${purpose}`) ?? new Set() })
          const stored = truth.get(`${operator} ${purpose}`)?.find((change) => change.seq === Number(seq))
          if (stored?.state !== state || stored.atMs !== Number(at)) violations.push(`an answer that the ledger does not know: ${line}`)
          if (state === 'withdrawn') gatewayMs.push(Number(micros) / 1_000)
        } else if (word[0] === 'F') {
          frames++
          const [, , operator, event, purpose] = word as [string, string, string, string, string]
          const since = answered.get(`${operator} ${purpose}`) ?? 0
          // The newest answered change counts, and a yes that came after it: nothing acquired before such a yes may leave.
          const allowing = truth.get(`${operator} ${purpose}`)?.find((change) => change.state === 'granted' && change.seq >= since)
          if (allowing === undefined || Number(event) < allowing.atMs) violations.push(`after the answer to change ${since}, start ${start}: ${line}`)
        }
      }
    }
    for (const watch of this.#watches) {
      const before = closedBefore.get(watch.seq)
      const late = watch.late.filter((connection) => before === undefined || (!before.sockets.has(connection) && Number(connection.split(' ')[0]) === before.start)).length
      if (late > watch.wire) violations.push(`readers got ${late} frames after the answer to change ${watch.seq}, the receipt says ${watch.wire} were on the wire`)
    }
    const sum = (of: (watch: Watch) => number): number => this.#watches.reduce((all, watch) => all + of(watch), 0)
    return {
      withdrawals: this.#watches.length, restarts: this.#starts - 1, published: this.published, frames, violations,
      onTheWire: sum(({ late }) => late.length), onTheWireQos0: sum(({ lateQos0 }) => lateQos0), receipts: sum(({ wire }) => wire),
      gatewayMs: gatewayMs.sort((a, b) => a - b), httpMs: this.#httpMs.sort((a, b) => a - b),
    }
  }
}

class Refused extends Error {}

/** What readers get after the answer to a withdrawal. */
interface Watch {
  readonly operator: number
  readonly purpose: RacePurpose
  readonly seq: number
  readonly wire: number
  /** When the next yes was asked for: what was acquired from then on may be covered by it. */
  untilMs: number
  /** The connections, one entry a frame: `START PORT`. */
  readonly late: string[]
  lateQos0: number
}

/** A connection that speaks MQTT in bytes and comes back after every end. */
abstract class Peer {
  protected readonly race: Race
  protected readonly user: string
  protected socket: Socket | undefined
  /** `START PORT`, as the record of that start calls it. */
  protected connection = ''
  protected clean = true

  constructor(race: Race, user: string) {
    this.race = race
    this.user = user
  }

  async play(): Promise<void> {
    while (!this.race.over) {
      await Promise.race([this.race.up, pause(1_000)])
      await this.#visit().catch(() => pause(10))
    }
  }

  protected abstract readonly clientId: string
  protected abstract port(): number
  /** What happens on a connection after CONNACK; it ends when this does. */
  protected abstract admitted(socket: Socket): Promise<void>
  protected abstract heard(first: number, body: Buffer): void

  protected send(...packets: Packet[]): void {
    this.socket?.write(Buffer.concat(packets.map((packet) => generate(packet))))
  }

  /** One connection, from the first to the last byte. */
  async #visit(): Promise<void> {
    const socket = connect({ host: '127.0.0.1', port: this.port(), noDelay: true })
    this.socket = socket
    const { start } = this.race
    socket.once('connect', () => { this.connection = `${start} ${socket.localPort}` })
    const closed = new Promise<void>((done) => void socket.once('close', () => done()))
    socket.on('error', () => undefined)
    let admit: () => void = () => undefined
    const admitted = new Promise<void>((done) => { admit = done })
    const packets = new Packets((first, body) => {
      if (first >> 4 === 2) admit()
      else this.heard(first, body)
    })
    socket.on('data', (chunk: Buffer) => packets.push(chunk))
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: this.clean, clientId: this.clientId, username: this.user, keepalive: 0 })
    await Promise.race([admitted, closed])
    if (!socket.destroyed) await Promise.race([this.admitted(socket), closed])
    socket.destroy()
    await closed
  }

  protected isOpen(socket: Socket): boolean {
    return !socket.destroyed && !this.race.over
  }
}

const WINDOW = 8
/** One message in so many is large, so that sockets fill up, and one in so many is late, as after a loss of coverage. */
const LARGE = 20
const LATE = 10

/** A machine with its person signed on, publishing as fast as it is answered. */
class Terminal extends Peer {
  readonly clientId: string
  readonly #operator: number
  readonly #head: Buffer
  readonly #tail: Buffer
  readonly #largeTail: Buffer
  #signedOnMs = 0
  #nextId = 0
  #acked: () => void = () => undefined
  readonly #unanswered = new Map<number, Buffer>()

  constructor(race: Race, machine: string) {
    super(race, machine)
    this.clientId = machine
    this.#operator = Number(machine.slice(2))
    this.#head = encode('status', { machine_id: machine })
    const tail = { seq: this.#operator, operator_id: `C-${this.#operator}`, fix: 3, key_on: true, platform_height_mm: EXACT_HEIGHT_MM }
    this.#tail = encode('status', tail)
    this.#largeTail = encode('status', { ...tail, site_code: 'x'.repeat(120_000) })
  }

  protected port(): number {
    return this.race.ports.terminals
  }

  protected async admitted(socket: Socket): Promise<void> {
    if (this.#signedOnMs === 0) {
      this.#signedOnMs = Date.now()
      this.#publish('operator', encode('operator', { machine_id: this.user, time_ms: this.#signedOnMs, op: 'SIGN_ON', operator_id: `C-${this.#operator}` }))
    }
    // [MQTT-4.4.0-1] What was not answered is sent again: data from before a stop, and from before many a withdrawal.
    for (const bytes of this.#unanswered.values()) socket.write(bytes)
    socket.once('close', () => this.#acked())
    while (this.isOpen(socket)) {
      while (this.#unanswered.size < WINDOW && this.race.pauseMs === 0) this.#publish('status', this.#status())
      if (this.race.pauseMs > 0) {
        await pause(this.race.random(2 * this.race.pauseMs))
        if (this.#unanswered.size < WINDOW) this.#publish('status', this.#status())
      } else await new Promise<void>((done) => { this.#acked = done })
    }
  }

  protected heard(first: number, body: Buffer): void {
    if (first >> 4 !== 4) return
    this.#unanswered.delete(body.readUInt16BE(0))
    this.#acked()
  }

  #status(): Buffer {
    const late = this.race.random(LATE) < 1 ? this.race.random(400) : 0
    const eventMs = Math.max(this.#signedOnMs + 1, Math.floor(Date.now() - late))
    const tail = this.race.random(LARGE) < 1 ? this.#largeTail : this.#tail
    return Buffer.concat([this.#head, encode('status', { time_ms: eventMs }), tail])
  }

  #publish(stream: string, payload: Buffer): void {
    do this.#nextId = (this.#nextId % 65_535) + 1
    while (this.#unanswered.has(this.#nextId))
    const bytes = generate({ cmd: 'publish', topic: `up/demo/${this.user}/${stream}`, payload, qos: 1, dup: false, retain: false, messageId: this.#nextId })
    this.#unanswered.set(this.#nextId, bytes)
    this.race.published++
    this.socket?.write(bytes)
  }
}

/**
 * A recipient. `live` reads and acknowledges at once; `slow` stops reading now and then and acknowledges in heaps; `stuck` stops for
 * so long that the kernel may take no more; `nightly` is a persistent session that comes, leaves some unacknowledged and goes;
 * `fresh` comes for the retained copies and goes; `qos0` is live.
 */
class Reader extends Peer {
  readonly clientId: string
  protected override readonly clean: boolean
  readonly #habit: string
  #owed: Packet[] = []

  constructor(race: Race, user: string, habit: string) {
    super(race, user)
    this.#habit = habit
    this.clientId = `${user}-${habit}`
    this.clean = habit !== 'nightly'
  }

  protected port(): number {
    return this.race.ports.recipients
  }

  protected async admitted(socket: Socket): Promise<void> {
    this.#owed = []
    const qos = this.#habit === 'qos0' ? 0 : 2
    const topics = this.user === 'oem-cloud' ? ['out/service/+'] : ['out/planning/+', 'out/pulse-at/+']
    this.send({ cmd: 'subscribe', messageId: 1, subscriptions: topics.map((topic) => ({ topic, qos })) })
    if (this.#habit === 'fresh') return pause(this.race.random(60))
    if (this.#habit === 'nightly') {
      await pause(this.race.random(60))
      // Goes without a word, and stays away for a while.
      socket.destroy()
      return pause(this.race.random(60))
    }
    while (this.isOpen(socket)) {
      await pause(5 + this.race.random(40))
      if ((this.#habit !== 'slow' && this.#habit !== 'stuck') || !this.isOpen(socket)) continue
      socket.pause()
      await pause(this.race.random(this.#habit === 'stuck' ? 4_000 : 150))
      socket.resume()
      await pause(this.race.random(20))
      if (this.socket === socket) this.#pay()
    }
  }

  protected heard(first: number, body: Buffer): void {
    const kind = first >> 4
    const copy = copyOf(first, body)
    if (copy?.covered === true) this.race.seen(copy.operator, copy.purpose, copy.eventMs, copy.qos, this.connection)
    if (copy !== undefined && copy.qos > 0) this.#owed.push({ cmd: copy.qos === 1 ? 'puback' : 'pubrec', messageId: copy.packetId } as Packet)
    if (kind === 6) this.#owed.push({ cmd: 'pubcomp', messageId: body.readUInt16BE(0) } as Packet)
    const isPrompt = this.#habit === 'live' || this.#habit === 'qos0' || (this.#habit === 'nightly' && this.race.random() < 0.9)
    if (isPrompt) this.#pay()
  }

  #pay(): void {
    if (this.#owed.length === 0) return
    this.send(...this.#owed)
    this.#owed = []
  }
}

/** `p50 1.2 ms, p90 …` of ascending milliseconds. */
export function percentiles(ms: readonly number[]): string {
  const at = (share: number): string => (ms[Math.min(ms.length - 1, Math.floor(ms.length * share))] ?? Number.NaN).toFixed(1)
  return `p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms`
}

if (import.meta.main) {
  const withdrawals = Number(process.argv[2] ?? 1_000)
  const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31))
  const rate = process.argv[4] === undefined ? undefined : Number(process.argv[4])
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  say(`withdrawal race: ${withdrawals} withdrawals, seed ${seed}`)
  const began = performance.now()
  const result = await race({ withdrawals, seed, restarts: Math.max(2, Math.round(withdrawals / 100)), rate, say })
  const seconds = (performance.now() - began) / 1_000
  say(`${result.withdrawals} withdrawals answered, ${result.restarts} restarts, ${result.published} messages published and ${result.frames} covered frames written in ${seconds.toFixed(0)} s`)
  say(`answer, in the gateway: ${percentiles(result.gatewayMs)}`)
  say(`answer, over HTTP:      ${percentiles(result.httpMs)}`)
  say(`on the wire by the receipts ${result.receipts}, read after the answer ${result.onTheWire} (and ${result.onTheWireQos0} at QoS 0)`)
  for (const violation of result.violations.slice(0, 20)) say(violation)
  say(result.violations.length === 0 ? 'no covered frame was written after an answer' : `${result.violations.length} violations; seed ${seed}`)
  process.exitCode = result.violations.length === 0 ? 0 : 1
}
