/**
 * The whole gateway beside what one would otherwise run, over real sockets: (a) plain aedes that relays the same bytes, (b) aedes with
 * protobufjs decode-edit-encode in authorizePublish, written well (baseline.ts), (c) `parapet serve` with one output, the person signed
 * on and their yes given, durable outbox at QoS 1. Every broker is a process of its own on one processor, this process drives them from
 * another: eight terminals that publish status messages, one subscriber that reads everything at the same QoS. What counts is what
 * arrived, messages a second; all three take turns in short rounds, and ratios are taken within a round.
 *
 * (a) and (b) hold what they relay in memory only and acknowledge before it is relayed; (c) acknowledges after it is on the disk.
 * PARAPET_BENCH_PROFILE=FOLDER writes CPU profiles of (c), one per QoS, which slows it.
 */
import { fork, spawnSync, type ChildProcess } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { Aedes } from 'aedes'
import { generate, type Packet } from 'mqtt-packet'
import { encode, fieldNumbers, pause, typeOf, until } from '../test/e2e/stage.ts'
import { Packets } from '../test/fault/copies.ts'
import { Plant, Terminal } from '../test/fault/plant.ts'
import { createBaseline } from './baseline.ts'
import { CASES } from './minimise.ts'
import type { BenchOptions } from './run.ts'

const TERMINALS = 8
/** Messages of one terminal without an acknowledgement; at QoS 0, where nothing is acknowledged, that have not arrived. */
const WINDOW = 64
/** Messages of all terminals that are acknowledged or not and have not arrived: no side may run up a backlog instead of relaying. */
const ON_THE_WAY = 1_024
/** A terminal waits for room for so many, and sends them in one piece: a packet a piece would measure the system's calls. */
const AT_ONCE = 16
/** Different messages that each terminal sends by turns. */
const VARIANTS = 64
const SHORT_ROUND_MS = 250
/** Long enough for the engine to have compiled what is called. */
const WARM_UP_MS = 400
/** Of each round, at its start, that does not count. */
const RAMP_MS = 50
const NONE_LEFT_MS = 1_500

const KINDS = ['aedes', 'aedes + protobufjs', 'parapet'] as const
type Kind = (typeof KINDS)[number]
type Qos = 0 | 1

export async function run({ json, timeMs }: BenchOptions): Promise<void> {
  const isShort = timeMs < 500
  const [rounds, roundMs] = isShort ? [3, SHORT_ROUND_MS] : [7, timeMs * 1.2]
  const processors = processorsOf(process.pid)
  const pinned = processors.length > 1
  if (!json) process.stdout.write(`\ngateway: ${TERMINALS} terminals, one subscriber, ${pinned ? 'broker and generator on a processor each' : 'not pinned'}; medians of ${rounds} rounds by turns\n`)
  for (const qos of [1, 0] as const) {
    try {
      for (const row of await measure(qos, rounds, roundMs, processors)) report(row, json)
    } finally {
      if (pinned) pin(process.pid, processors)
    }
  }
}

interface Row {
  readonly name: string
  readonly perSecond: number
  readonly vsAedes: number
  /** Smallest and largest ratio of a round. */
  readonly spread: readonly [number, number]
  /** Processor time of the broker per message, microseconds, and the ratio that it gives: steadier where others load the machine; blind to waiting for the disk. */
  readonly cpuUs: number
  readonly vsAedesByCpu: number
  /** Share of a processor that this process took: near 1 it is the generator that is measured. */
  readonly generator: number
  readonly lost: number
}

function report({ name, perSecond, vsAedes, spread, cpuUs, vsAedesByCpu, generator, lost }: Row, json: boolean): void {
  if (json) process.stdout.write(`${JSON.stringify({ bench: 'gateway', case: name, per_second: perSecond, vs_aedes: vsAedes, vs_aedes_min: spread[0], vs_aedes_max: spread[1], broker_cpu_us: cpuUs, vs_aedes_by_cpu: vsAedesByCpu, generator_cpu: generator, lost })}\n`)
  else process.stdout.write(`  ${name.padEnd(44)} ${perSecond.toLocaleString('en').padStart(9)} /s  ${vsAedes.toFixed(2)}x aedes (${spread.map((one) => one.toFixed(2)).join(' to ')})  ${String(cpuUs).padStart(6)} us of the broker (${vsAedesByCpu.toFixed(2)}x)  generator ${generator.toFixed(2)}  lost ${lost}\n`)
}

async function measure(qos: Qos, rounds: number, roundMs: number, processors: readonly number[]): Promise<Row[]> {
  const started = await Promise.allSettled(KINDS.map((kind) => (kind === 'parapet' ? startGateway(qos) : startAedes(kind))))
  const brokers = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason
    if (processors.length > 1) {
      for (const { pid } of brokers) pin(pid, processors.slice(0, 1))
      pin(process.pid, processors.slice(1, 2))
    }
    // Acquired after the yes, as it must hold from acquisition on; the same bytes for all.
    await pause(5)
    const messages = messagesAt(Date.now())
    const lanes: Lane[] = []
    for (const broker of brokers) lanes.push(await Lane.open(broker, qos, messages))
    for (const lane of lanes) await lane.round(Math.max(WARM_UP_MS, roundMs * 1.5))
    checkContent(lanes)
    const figures: Figure[][] = []
    for (let round = 0; round < rounds; round++) {
      // The order turns as well, so that nobody always comes after the same one.
      const turn: Figure[] = []
      for (let n = 0; n < lanes.length; n++) {
        const at = (n + round) % lanes.length
        turn[at] = await lanes[at]!.round(roundMs)
      }
      figures.push(turn)
    }
    for (const lane of lanes) lane.close()
    return KINDS.map((kind, at) => rowOf(kind, qos, figures, at))
  } finally {
    for (const broker of brokers) await broker.stop()
  }
}

function rowOf(kind: Kind, qos: Qos, figures: readonly (readonly Figure[])[], at: number): Row {
  const own = figures.map((turn) => turn[at]!)
  const ratios = figures.map((turn) => turn[at]!.perSecond / turn[0]!.perSecond)
  return {
    name: `QoS ${qos}: ${kind}${kind === 'parapet' && qos === 1 ? ', durable' : ''}`, perSecond: Math.round(median(own.map(({ perSecond }) => perSecond))),
    vsAedes: rounded(median(ratios)), spread: [rounded(Math.min(...ratios)), rounded(Math.max(...ratios))],
    cpuUs: rounded(median(own.map(({ cpuUs }) => cpuUs))), vsAedesByCpu: rounded(median(figures.map((turn) => turn[0]!.cpuUs / turn[at]!.cpuUs))), generator: rounded(median(own.map(({ generator }) => generator))), lost: own.reduce((sum, { lost }) => sum + lost, 0),
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100
}

/** What arrives is what it should be: plain bytes from (a), and from (b) and (c) the same fields. */
function checkContent(lanes: readonly Lane[]): void {
  const [plain, edited, minimised] = lanes.map(({ newest }) => fieldNumbers(newest).sort((one, other) => one - other).join())
  if (edited !== minimised) throw new Error(`the gateway lets out the fields ${minimised}, the hand-written broker ${edited}`)
  if (plain === edited) throw new Error('nothing was taken out')
}

// ---------------------------------------------------------------------------------------------------------------- traffic

const STATUS = CASES.find(({ name }) => name === 'status')!

/** Per terminal: payloads of about 190 bytes that differ in their numbers. */
function messagesAt(eventMs: number): readonly (readonly Buffer[])[] {
  return Array.from({ length: TERMINALS }, (_, machine) => Array.from({ length: VARIANTS }, (__, n) => encode('status', {
    ...STATUS.json, machine_id: `M-${machine}`, operator_id: `C-${machine}`, time_ms: eventMs + n, seq: 123_456 + n, pack_mv: 48_200 + n, lat_e7: 481_371_540 + machine * 1_000_000 + n * 10,
  })))
}

interface Figure {
  readonly perSecond: number
  readonly cpuUs: number
  readonly generator: number
  readonly lost: number
}

/** One broker with its terminals and its subscriber. */
class Lane {
  readonly #broker: Broker
  readonly #qos: Qos
  readonly #frames: readonly (readonly Frame[])[]
  readonly #terminals: Socket[] = []
  readonly #unacked = new Int32Array(TERMINALS)
  readonly #ids = new Int32Array(TERMINALS)
  readonly #turns = new Int32Array(TERMINALS)
  #subscriber: Socket | undefined
  #sent = 0
  #arrived = 0
  #isSending = false
  #granted: () => void = () => undefined
  /** Packet ids of what one read brought, answered in one write. */
  readonly #answers: number[] = []
  /** The payload that arrived last. */
  newest: Buffer = Buffer.alloc(0)

  private constructor(broker: Broker, qos: Qos, messages: readonly (readonly Buffer[])[]) {
    this.#broker = broker
    this.#qos = qos
    this.#frames = messages.map((payloads, machine) => payloads.map((payload) => frameOf(`up/demo/M-${machine}/status`, payload, qos)))
  }

  static async open(broker: Broker, qos: Qos, messages: readonly (readonly Buffer[])[]): Promise<Lane> {
    const lane = new Lane(broker, qos, messages)
    const subscriber = await lane.#connect(broker.recipients, 'site-planner', (first, body) => lane.#delivered(first, body))
    lane.#subscriber = subscriber
    let granted = false
    lane.#granted = () => { granted = true }
    subscriber.write(generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: broker.filter, qos }] }))
    await until(() => granted, 'the subscription')
    for (let machine = 0; machine < TERMINALS; machine++) {
      lane.#terminals.push(await lane.#connect(broker.terminals, `M-${machine}`, (first) => {
        if (first >> 4 === PUBACK) lane.#unacked[machine]!--
      }, () => lane.#pump(machine)))
    }
    return lane
  }

  /** Sends for so long, then waits until all of it has arrived. */
  async round(ms: number): Promise<Figure> {
    this.#isSending = true
    const [sent, arrived] = [this.#sent, this.#arrived]
    const cpu = cpuMs(this.#broker.pid)
    this.#pumpAll()
    await pause(RAMP_MS)
    const [began, before, own] = [performance.now(), this.#arrived, process.cpuUsage()]
    await pause(ms)
    const tookMs = performance.now() - began
    const during = this.#arrived - before
    const { user, system } = process.cpuUsage(own)
    this.#isSending = false
    const lost = await this.#settle()
    if (lost > 0 && this.#qos > 0) throw new Error(`${this.#broker.kind} lost ${lost} acknowledged messages`)
    if (during === 0) throw new Error(`${this.#broker.kind} let nothing through: ${this.#broker.said()}`)
    return { perSecond: (during * 1_000) / tookMs, cpuUs: ((cpuMs(this.#broker.pid) - cpu) * 1_000) / (this.#arrived - arrived), generator: (user + system) / 1_000 / tookMs, lost: Math.min(lost, this.#sent - sent) }
  }

  /** How many never came. */
  async #settle(): Promise<number> {
    for (let [quiet, last] = [performance.now(), this.#arrived]; this.#arrived < this.#sent && performance.now() - quiet < NONE_LEFT_MS;) {
      await pause(2)
      if (this.#arrived !== last) [quiet, last] = [performance.now(), this.#arrived]
    }
    const lost = this.#sent - this.#arrived
    this.#sent = this.#arrived
    return lost
  }

  close(): void {
    for (const socket of [...this.#terminals, this.#subscriber]) socket?.destroy()
  }

  #pumpAll(): void {
    for (let machine = 0; machine < TERMINALS; machine++) this.#pump(machine)
  }

  #pump(machine: number): void {
    if (!this.#isSending) return
    const onTheWay = this.#sent - this.#arrived
    // At QoS 0 nothing tells whose messages have arrived: each terminal may have its share of what is still allowed on the way.
    const room = this.#qos === 0 ? Math.ceil((TERMINALS * WINDOW - onTheWay) / TERMINALS) : Math.min(WINDOW - this.#unacked[machine]!, ON_THE_WAY - onTheWay)
    if (room < AT_ONCE) return
    const frames = this.#frames[machine]!
    const next = Array.from({ length: room }, () => frames[this.#turns[machine]!++ % VARIANTS]!)
    const bytes = Buffer.concat(next.map((frame) => frame.bytes))
    if (this.#qos === 1) {
      let at = 0
      for (const frame of next) {
        this.#ids[machine] = (this.#ids[machine]! % 65_535) + 1
        bytes.writeUInt16BE(this.#ids[machine]!, at + frame.idAt)
        at += frame.bytes.length
      }
      this.#unacked[machine]! += room
    }
    this.#sent += room
    this.#terminals[machine]!.write(bytes)
  }

  #delivered(first: number, body: Buffer): void {
    if (first >> 4 === SUBACK) return this.#granted()
    if (first >> 4 !== PUBLISH) return undefined
    this.#arrived++
    const qos = (first >> 1) & 3
    if (qos !== this.#qos) throw new Error(`${this.#broker.kind} delivered at QoS ${qos}`)
    const topicEnd = 2 + body.readUInt16BE(0)
    if (qos > 0) this.#answers.push(body.readUInt16BE(topicEnd))
    if (this.#arrived % 1_000 === 1) this.newest = Buffer.from(body.subarray(topicEnd + qos * 2))
    return undefined
  }

  #answer(): void {
    const ids = this.#answers
    if (ids.length > 0) {
      const bytes = Buffer.allocUnsafe(ids.length * 4)
      for (let n = 0; n < ids.length; n++) bytes.writeUInt32BE(((PUBACK << 28) | (2 << 16) | ids[n]!) >>> 0, n * 4)
      ids.length = 0
      this.#subscriber?.write(bytes)
    }
    this.#pumpAll()
  }

  async #connect(port: number, name: string, arrived: (first: number, body: Buffer) => void, read: () => void = () => this.#answer()): Promise<Socket> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    let admitted = false
    const packets = new Packets((first, body) => {
      if (first >> 4 === CONNACK) admitted = body[1] === 0
      else arrived(first, body)
    })
    socket.on('error', () => undefined)
    socket.on('data', (piece: Buffer) => {
      packets.push(piece)
      read()
    })
    socket.write(generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: name, username: name, keepalive: 0 }))
    await until(() => admitted, `${this.#broker.kind} to admit ${name}`)
    return socket
  }
}

const CONNACK = 2
const PUBLISH = 3
const PUBACK = 4
const SUBACK = 9

interface Frame {
  readonly bytes: Buffer
  readonly idAt: number
}

function frameOf(topic: string, payload: Buffer, qos: Qos): Frame {
  const packet: Packet = { cmd: 'publish', topic, payload, qos, dup: false, retain: false, ...(qos === 0 ? {} : { messageId: 1 }) }
  const bytes = generate(packet)
  return { bytes, idAt: bytes.length - payload.length - 2 }
}

// ---------------------------------------------------------------------------------------------------------------- brokers

interface Broker {
  readonly kind: Kind
  readonly pid: number
  readonly terminals: number
  readonly recipients: number
  readonly filter: string
  said(): string
  stop(): Promise<void>
}

async function startAedes(kind: Exclude<Kind, 'parapet'>): Promise<Broker> {
  const child: ChildProcess = fork(import.meta.filename, [kind])
  const port = await new Promise<number>((done, failed) => {
    child.once('message', (message) => done(Number(message)))
    child.once('exit', () => failed(new Error(`${kind} did not start`)))
  })
  const pid = child.pid ?? 0
  const ended = new Promise<void>((done) => child.once('exit', () => done()))
  return {
    kind, pid, terminals: port, recipients: port, filter: 'up/#', said: () => '',
    stop() {
      child.disconnect()
      return ended
    },
  }
}

async function startGateway(qos: Qos): Promise<Broker> {
  const plant = new Plant({ machines: TERMINALS, set: ['limits.unanswered=256'] })
  try {
    writeFileSync(plant.folder.file('rules/awp.yaml'), rulesOf(qos))
    await plant.start(PROFILE === undefined ? {} : { nodeOptions: ['--cpu-prof', `--cpu-prof-dir=${PROFILE}`] })
    for (let machine = 0; machine < TERMINALS; machine++) {
      const terminal = new Terminal(machine, { qos: 1 })
      await terminal.connect(plant.ports.terminals)
      await terminal.signOn()
      await plant.grant(machine, 'granted')
      terminal.destroy()
      await pause(5)
    }
  } catch (error) {
    await plant.remove()
    throw error
  }
  return {
    kind: 'parapet', pid: plant.pid, terminals: plant.ports.terminals, recipients: plant.ports.recipients, filter: 'out/planning/+', said: () => plant.logged.slice(-5).join(' '),
    async stop() {
      await plant.kill('SIGTERM')
      await plant.remove()
    },
  }
}

const PROFILE = process.env.PARAPET_BENCH_PROFILE

/** The benchmark's job (minimise.ts): six fields dropped, a pseudonym, a grid, round_time, the rest kept; on the ground of a yes. */
function rulesOf(qos: Qos): string {
  const special = new Set(['machine_id', 'time_ms', 'lat_e7', 'lon_e7', ...STATUS.dropped])
  const kept = Object.keys(STATUS.json).filter((name) => !special.has(name)).map((name) => `${name}: keep`)
  return `
version: 1
policy: { id: bench, effective: 2026-01-01, notice: "https://example.com/privacy" }
streams:
  status: { topic: "up/{fleet}/{machine}/status", message: awp.v1.Status, machine: machine_id, operator: operator_id, time: { field: time_ms, unit: ms }, points: { position: { lat: lat_e7, lon: lon_e7, unit: e7, valid: "msg.fix > 0" } } }
  operator: { topic: "up/{fleet}/{machine}/operator", message: awp.v1.OperatorEvent, machine: machine_id, operator: operator_id, time: { field: time_ms, unit: ms } }
subject:
  sessions: { stream: operator, sign_on: "msg.op == SIGN_ON", sign_off: "msg.op in [SIGN_OFF, KEY_OFF]", operator: operator_id }
  session_max: 12h
  handover_quarantine: 2m
  late_limit: 7d
purposes:
  improve.statistics: { about: "where machines work", clause: P14, dpv: ServiceUsageAnalytics }
legal_basis:
  default: { improve.statistics: { basis: consent, employee_consent: "form EC-1" } }
recipients:
  oem-cloud: { role: controller, group: affiliate, region: EU, transfers: { EEA: domestic }, privacy_contact: "dpo@example.com" }
  site-planner: { role: processor, group: supplier, region: EU, transfers: { EEA: domestic }, privacy_contact: "dpo@example.com" }
outputs:
  planning:
    recipient: site-planner
    purpose: improve.statistics
    to: { topic: "out/planning/{machine_id}", qos: ${qos}, via: [local], send_within: 24h }
    recipient_keeps: 30d
    arrival_visible: true
    streams:
      status: { fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: { round_time: 15m }, position: { grid: 500m }, ${kept.join(', ')} } }
`
}

// --------------------------------------------------------------------------------------------------------------- processor

/** Those that a process may run on; none where the system has no taskset. */
function processorsOf(pid: number): number[] {
  const { stdout, status } = spawnSync('taskset', ['-c', '-p', String(pid)], { encoding: 'utf8' })
  if (status !== 0) return []
  return (stdout.split(': ')[1] ?? '').trim().split(',').flatMap((range) => {
    const [from = 0, to = from] = range.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, n) => from + n)
  })
}

/** All threads of a process. */
function pin(pid: number, processors: readonly number[]): void {
  const { status } = spawnSync('taskset', ['-a', '-c', '-p', processors.join(), String(pid)], { stdio: 'ignore' })
  if (status !== 0) throw new Error(`process ${pid} cannot be pinned`)
}

/** Processor time of a process so far; 0 where the system does not tell. [proc(5), in ticks of 10 ms] */
function cpuMs(pid: number): number {
  try {
    const words = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return (Number(words[11]) + Number(words[12])) * 10
  } catch {
    return 0
  }
}

// ------------------------------------------------------------------------------------------------- the process of (a) and (b)

async function serve(kind: string): Promise<void> {
  const edit = kind === 'aedes + protobufjs' ? createBaseline(typeOf('status'), STATUS.dropped, (machine) => Buffer.from(machine.padEnd(16)).toString('base64url').slice(0, 22)) : undefined
  const broker = await Aedes.createBroker(edit === undefined ? {} : {
    authorizePublish(_client, packet, done) {
      packet.payload = Buffer.from(edit.decodeEditEncode(packet.payload as Buffer))
      done(null)
    },
  })
  const server = createServer({ noDelay: true }, broker.handle)
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
  process.once('disconnect', () => process.exit(0))
}

if (process.argv[1] === import.meta.filename) await serve(process.argv[2] ?? '')
