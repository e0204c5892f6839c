/**
 * A gateway as it is run (`parapet serve`, a process of its own) with what stands around it in the fault tests: terminals that keep
 * count of what was acknowledged, readers with sessions, and the judge of what arrived. The payload of every message carries its own
 * marker (`seq`: number of the machine and of its message) and, in fields that no output names, the canary: bytes that must not leave.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { generate, type Packet } from 'mqtt-packet'
import { encode, Folder, FREE_PORTS, pause, PROJECT, until } from '../e2e/stage.ts'
import { Packets } from './copies.ts'
import { rulesHead } from './rules.ts'
import { storedOutbox } from './stored.ts'

export { dice } from './depot.ts'
export { pause, until }

/** Stands in every field that no output names. */
export const CANARY = 'CANARY-7f3a'
/** As image, unit and `npm start` have it. */
const AS_SHIPPED = ['--max-semi-space-size=64']
/** Messages of one machine have markers machine * SPAN + 1, + 2, … */
export const SPAN = 1_000_000

export interface PlantOptions {
  readonly machines: number
  /** Where the bridges go; left out: no bridge. `service` goes to both, `planning` only with its person's yes. */
  readonly cloud?: string | undefined
  readonly planner?: string | undefined
  readonly protocol?: 4 | 5
  readonly window?: number
  readonly keepalive?: string
  /** `emit:` of the planning output. */
  readonly emit?: string
  readonly serviceQos?: 0 | 1 | 2
  /** Further words of the service output's `to:`. */
  readonly serviceTo?: string
  /** Further fields of the service output, `, site_code: keep`. */
  readonly keeps?: string
  readonly set?: readonly string[]
  /** The data folder, when it is not that of the configuration. */
  readonly data?: string | undefined
}

export interface StartOptions {
  /** Where the process kills itself, see points.ts: `P5 12` = the 12th time that it comes to P5. */
  readonly point?: string | undefined
  /** Largest file that the process may write, in KiB (RLIMIT_FSIZE): a disk that is full for it. */
  readonly fileKib?: number
  readonly set?: readonly string[]
  /** Without: as shipped. With: what V8 compiled is kept for the next start of a test. */
  readonly warm?: boolean
  readonly env?: Readonly<Record<string, string>>
  readonly nodeOptions?: readonly string[]
}

export interface Ports { readonly terminals: number; readonly recipients: number; readonly admin: number }

export class Plant {
  readonly folder = new Folder()
  readonly #options: PlantOptions
  #process: ChildProcess | undefined
  ports: Ports = { terminals: 0, recipients: 0, admin: 0 }
  /** How the newest process ended; resolves when it has. */
  ended: Promise<{ readonly code: number | null; readonly signal: string | null }> = Promise.resolve({ code: null, signal: null })
  /** What it wrote to its log, at most the newest lines. */
  logged: string[] = []
  /** When the newest process was started, by the monotonic clock. */
  startedAt = 0

  constructor(options: PlantOptions) {
    this.#options = options
    const { folder } = this
    const people = Array.from({ length: options.machines }, (_, n) => n)
    writeFileSync(folder.file('rules/awp.yaml'), rulesOf(options))
    writeFileSync(folder.file('machines.yaml'), people.map((n) => `M-${n}: { fleet: demo, model: boom, country: FR, operator_collection: on }`).join('\n'))
    writeFileSync(folder.file('operators.yaml'), people.map((n) => `- { id: op-${n}, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["C-${n}"] }`).join('\n'))
    writeFileSync(folder.file('recipients.yaml'), 'oem-cloud: {}\nsite-planner: {}\n')
    const { cloud, planner, protocol = 5, window = 64, keepalive = '30s' } = options
    const bridge = (recipient: string, url: string): string => `{ recipient: ${recipient}, url: "${url}", protocol: ${protocol}, window: ${window}, keepalive: ${keepalive} }`
    const bridges = [...(cloud === undefined ? [] : [`cloud: ${bridge('oem-cloud', cloud)}`]), ...(planner === undefined ? [] : [`planner: ${bridge('site-planner', planner)}`])]
    folder.edit('gateway.yaml', (text) => text.replace('bridges: {}', `bridges: { ${bridges.join(', ')} }`).replace(/$/, '\n'))
  }

  get data(): string {
    return this.#options.data ?? this.folder.data
  }

  get pid(): number {
    return this.#process?.pid ?? 0
  }

  get running(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** Resolves when it listens. Rejects when it ended before that, with what it said. */
  async start({ point, fileKib, set = [], warm = true, env = {}, nodeOptions = [] }: StartOptions = {}): Promise<void> {
    const settings = [...FREE_PORTS, 'trial=true', 'log.level=warn', 'limits.messages_per_second=100000', 'limits.unanswered=256', ...(this.#options.data === undefined ? [] : [`data=${this.#options.data}`]), ...(this.#options.set ?? []), ...set].flatMap((one) => ['--set', one])
    const preload = point === undefined ? [] : ['--import', join(import.meta.dirname, 'points.ts')]
    const command = [process.execPath, ...AS_SHIPPED, ...nodeOptions, ...preload, join(PROJECT, 'src/main.ts'), 'serve', '--trial', '--config', this.folder.file('gateway.yaml'), ...settings]
    // SIGXFSZ is ignored, so that the write fails with EFBIG instead of ending the process.
    const line = fileKib === undefined ? command : ['/bin/sh', '-c', `trap '' XFSZ; ulimit -S -f ${fileKib * KIB_BLOCKS}; exec "$@"`, 'sh', ...command]
    if (warm) mkdirSync(CACHE, { recursive: true })
    this.startedAt = performance.now()
    const child = spawn(line[0]!, line.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_NO_WARNINGS: '1', ...(warm ? { NODE_COMPILE_CACHE: CACHE } : {}), ...(point === undefined ? {} : { PARAPET_POINT: point, PARAPET_CLOUD: String(this.#options.cloud?.split(':').at(-1) ?? 0) }), ...env },
    })
    this.#process = child
    running.add(child)
    child.once('exit', () => running.delete(child))
    this.ended = new Promise((done) => child.once('exit', (code, signal) => done({ code, signal })))
    child.stderr.on('data', (piece: Buffer) => {
      this.logged.push(...piece.toString().split('\n').filter((one) => one !== ''))
      if (this.logged.length > 500) this.logged.splice(0, 250)
    })
    let banner = ''
    this.ports = await new Promise<Ports>((done, failed) => {
      child.once('exit', (code, signal) => failed(new Error(`the gateway did not start (${code ?? signal}): ${this.logged.slice(-5).join(' ')} ${banner}`)))
      child.stdout.on('data', (piece: Buffer) => {
        banner += piece.toString()
        const [terminals, recipients, admin] = [...banner.matchAll(/(?:mqtts?|http):\/\/127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]))
        if (terminals === undefined || recipients === undefined || admin === undefined) return
        // Nothing leaves without rules, and no fault could be seen.
        if (banner.includes('NO-RULES')) failed(new Error(`the rules were refused: ${this.logged.slice(-5).join(' ')}`))
        else done({ terminals, recipients, admin })
      })
    })
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    if (this.running) this.#process?.kill(signal)
    await this.ended
  }

  /** A signal to the running process: SIGSTOP, SIGCONT. */
  signal(signal: NodeJS.Signals): void {
    if (this.running) this.#process?.kill(signal)
  }

  async remove(): Promise<void> {
    if (this.#process !== undefined) await this.kill()
    this.folder.remove()
  }

  ask<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const token = readFileSync(join(this.data, 'admin.token'), 'utf8').trim()
    return new Promise((done, failed) => {
      const headers = { authorization: `Bearer ${token}`, ...(text === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }) }
      const asked = request({ host: '127.0.0.1', port: this.ports.admin, method, path, headers }, (response) => {
        let said = ''
        response.setEncoding('utf8')
        response.on('data', (piece: string) => { said += piece })
        response.on('end', () => {
          if (response.statusCode === 200 || path === '/readyz') done((said === '' || !/^[[{]/.test(said) ? said : JSON.parse(said)) as Answer)
          else failed(new Error(`${method} ${path}: ${response.statusCode} ${said}`))
        })
      })
      asked.on('error', failed)
      asked.end(text)
    })
  }

  grant(person: number, state: 'granted' | 'withdrawn'): Promise<{ readonly purged: number; readonly swapped: number; readonly on_the_wire: number }> {
    return this.ask('POST', `/v1/operators/op-${person}/consent`, { purpose: 'improve.statistics', state, ...(state === 'granted' ? { evidence: 'form 7' } : {}) })
  }

  async counters(): Promise<Map<string, number>> {
    const text = await this.ask<string>('GET', '/metrics')
    return new Map(text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
  }

  async waiting(): Promise<number> {
    const { outbox } = await this.ask<{ outbox: { records: number } }>('GET', '/v1/status')
    return outbox.records
  }

  /** What waits for a bridge; dead letters, which are kept aside, do not. */
  async waitingFor(bridge: string): Promise<number> {
    const { bridges } = await this.ask<{ bridges: { name: string; waiting: number }[] }>('GET', '/v1/status')
    return bridges.find(({ name }) => name === bridge)?.waiting ?? 0
  }

  /** Kilobytes that are resident. */
  get rssKb(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1] ?? 0)
  }

  /** Processor time so far. [proc(5), in ticks of 10 ms] */
  get cpuMs(): number {
    const words = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return (Number(words[11]) + Number(words[12])) * 10
  }

  get files(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length
  }

  /** Looks at what a dead process left: every database is whole, and no canary lies in the outbox. To be called while nothing runs. */
  examine(): string[] {
    const found: string[] = []
    const copy = mkdtempSync(join(tmpdir(), 'parapet-examine-'))
    for (const name of readdirSync(this.data)) if (/\.db(-wal)?$/.test(name)) cpSync(join(this.data, name), join(copy, name))
    for (const name of readdirSync(copy).filter((one) => one.endsWith('.db'))) {
      const db = new DatabaseSync(join(copy, name))
      const said = String(db.prepare('PRAGMA integrity_check').get()?.['integrity_check'])
      if (said !== 'ok') found.push(`${name} is damaged: ${said}`)
      db.close()
    }
    for (const name of ['outbox.db', 'outbox.db-wal']) {
      const file = join(this.data, name)
      if (existsSync(file) && readFileSync(file).includes(CANARY)) found.push(`the canary lies in ${name}`)
    }
    rmSync(copy, { recursive: true, force: true })
    // Encrypted the canary would be hidden, not absent.
    const { db, plain, close } = storedOutbox(this.data, 'demo')
    for (const table of ['records', 'waiting', 'kept']) {
      for (const row of db.prepare(`SELECT payload, payload_if_withdrawn AS variant, sealed FROM ${table}`).all()) {
        if ([row['payload'], row['variant']].some((bytes) => Buffer.from(plain(bytes, row['sealed'])).includes(CANARY))) found.push(`the canary lies in ${table}`)
      }
    }
    close()
    return found
  }

  /**
   * Markers that a dead process left: per persistent session what waits for it, and per destination what it has not answered for.
   * To be called while nothing runs.
   */
  stored(): { readonly sessions: ReadonlyMap<string, ReadonlySet<number>>; readonly destinations: ReadonlyMap<string, ReadonlySet<number>> } {
    const { db, plain, close } = storedOutbox(this.data, 'demo')
    const sessions = new Map<string, Set<number>>()
    for (const { session } of db.prepare('SELECT session FROM sessions').all()) sessions.set(String(session), new Set())
    for (const row of db.prepare('SELECT holder, payload, sealed FROM waiting').all()) sessions.get(String(row['holder']).slice(2))?.add(markerOf(plain(row['payload'], row['sealed'])))
    const records = db.prepare('SELECT seq, via, payload, sealed FROM records WHERE state = 0').all().map((row) => ({ seq: Number(row['seq']), via: Number(row['via']), marker: markerOf(plain(row['payload'], row['sealed'])) }))
    const destinations = new Map<string, Set<number>>()
    for (const row of db.prepare('SELECT number, name, done_through FROM destinations').all()) {
      const [bit, done] = [1 << Number(row['number']), Number(row['done_through'])]
      destinations.set(String(row['name']), new Set(records.filter(({ seq, via }) => seq > done && (via & bit) !== 0).map(({ marker }) => marker)))
    }
    close()
    return { sessions, destinations }
  }

  /** Disclosure counts as stored. */
  counts(): { readonly output: string; readonly credential: string; readonly subject: string; readonly count: number }[] {
    const copy = mkdtempSync(join(tmpdir(), 'parapet-counts-'))
    for (const name of ['outbox.db', 'outbox.db-wal']) if (existsSync(join(this.data, name))) cpSync(join(this.data, name), join(copy, name))
    const db = new DatabaseSync(join(copy, 'outbox.db'))
    const rows = db.prepare('SELECT output, credential, subject, count FROM disclosure_counts').all()
    db.close()
    rmSync(copy, { recursive: true, force: true })
    return rows.map((row) => ({ output: String(row['output']), credential: String(row['credential']), subject: String(row['subject']), count: Number(row['count']) }))
  }

  /** `parapet ledger verify` on the stopped gateway's data. Empty when it verifies. */
  async verifyLedger(): Promise<string> {
    const child = spawn(process.execPath, [join(PROJECT, 'src/main.ts'), 'ledger', 'verify', '--data', this.data], { stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => { said += piece.toString() })
    const code = await new Promise<number | null>((done) => child.once('exit', done))
    return code === 0 ? '' : said
  }
}

/** A test that ends with an error leaves nothing behind. */
const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** `ulimit -f` of a POSIX shell counts blocks of 512 bytes. */
const KIB_BLOCKS = 2
const CACHE = join(tmpdir(), 'parapet-compiled')

/** The bytes of one status message: what the service output keeps, and the canary in what none does. */
export function statusOf(machine: number, nth: number, eventMs = Date.now()): Buffer {
  return encode('status', {
    machine_id: `M-${machine}`, time_ms: eventMs, seq: machine * SPAN + nth, operator_id: `C-${machine}`, fix: 3, key_on: true, soc_pct_x10: 825, pack_mv: 48_000,
    site_code: CANARY, display_text: `${CANARY} ${machine}`,
  })
}

/** The marker in a payload that left; -1 when there is none. */
export function markerOf(payload: Uint8Array): number {
  for (let at = 0; at < payload.length;) {
    const tag = payload[at++]!
    let value = 0
    let scale = 1
    for (;;) {
      const byte = payload[at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80 || at >= payload.length) break
      scale *= 128
    }
    if (tag >> 3 === 3 && (tag & 7) === 0) return value
    if ((tag & 7) === 2) at += value
  }
  return -1
}

// ---------------------------------------------------------------------------------------------------------------- clients

/** One MQTT connection of a client, as bytes. */
class Line {
  readonly socket: Socket
  readonly admitted: Promise<void>
  readonly closed: Promise<void>

  constructor(port: number, options: { readonly clientId: string; readonly user: string; readonly clean: boolean; readonly keepalive?: number }, arrived: (first: number, body: Buffer) => void) {
    this.socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.socket.on('error', () => undefined)
    let admit: () => void = () => undefined
    this.admitted = new Promise((done) => { admit = done })
    this.closed = new Promise((done) => void this.socket.once('close', () => done()))
    const packets = new Packets((first, body) => {
      if (first >> 4 === 2) admit()
      else arrived(first, body)
    })
    this.socket.on('data', (piece: Buffer) => packets.push(piece))
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: options.clean, clientId: options.clientId, username: options.user, keepalive: options.keepalive ?? 0 })
  }

  send(packet: Packet): void {
    if (!this.socket.destroyed) this.socket.write(generate(packet))
  }
}

export interface TerminalOptions {
  readonly qos: 1 | 2
  /** Messages without an acknowledgement at a time. */
  readonly window?: number
  readonly keepalive?: number
  /** Payload of the n-th message. Default: statusOf. */
  readonly payload?: (nth: number) => Buffer
}

/**
 * A terminal that behaves: it sends its messages in order, keeps each until it is acknowledged (PUBACK; PUBREC for QoS 2), and after a
 * lost connection sends again, in order and with DUP, what was not.
 */
export class Terminal {
  readonly machine: number
  readonly #options: TerminalOptions
  readonly #window: number
  #line: Line | undefined
  /** Given out so far, and how many it may give out. */
  sent = 0
  #goal = 0
  /** Packet id -> number of the message, in order; without an acknowledgement. */
  readonly #open = new Map<number, number>()
  /** QoS 2: PUBREC came, PUBCOMP did not. */
  readonly #released = new Set<number>()
  readonly acked = new Set<number>()
  /** Sent again after a reconnection. */
  repeated = 0
  /** Milliseconds from PUBLISH to acknowledgement, first sendings only. */
  readonly latencies: number[] = []
  readonly #sentAt = new Map<number, number>()
  /** When the first acknowledgement of the newest connection came. */
  firstAckAt: number | undefined
  closes = 0
  #id = 0

  constructor(machine: number, options: TerminalOptions) {
    this.machine = machine
    this.#options = options
    this.#window = options.window ?? 8
  }

  get connected(): boolean {
    return this.#line !== undefined && !this.#line.socket.destroyed
  }

  get unacked(): number {
    return this.#open.size
  }

  /** Given and not sent yet. */
  get left(): number {
    return this.#goal - this.sent
  }

  get done(): boolean {
    return this.sent === this.#goal && this.#open.size === 0 && this.#released.size === 0
  }

  async connect(port: number): Promise<void> {
    const name = `M-${this.machine}`
    const line = new Line(port, { clientId: name, user: name, clean: false, keepalive: this.#options.keepalive ?? 0 }, (first, body) => this.#arrived(first, body))
    this.#line = line
    this.firstAckAt = undefined
    void line.closed.then(() => {
      this.closes++
    })
    await Promise.race([line.admitted, line.closed])
    if (line.socket.destroyed) return
    // [MQTT-4.4.0-1]
    for (const id of this.#released) line.send({ cmd: 'pubrel', messageId: id })
    for (const [id, nth] of this.#open) {
      this.repeated++
      this.#write(id, nth, true)
    }
    this.#pump()
  }

  /** So many more messages. */
  give(more: number): void {
    this.#goal += more
    this.#pump()
  }

  stop(): void {
    this.#goal = this.sent
  }

  destroy(): void {
    this.#line?.socket.destroy()
  }

  /** Sends a packet as it is. */
  raw(packet: Packet): void {
    this.#line?.send(packet)
  }

  get socket(): Socket | undefined {
    return this.#line?.socket
  }

  #pump(): void {
    while (this.connected && this.sent < this.#goal && this.#open.size + this.#released.size < this.#window) {
      const nth = ++this.sent
      do this.#id = (this.#id % 65_535) + 1
      while (this.#open.has(this.#id) || this.#released.has(this.#id))
      this.#open.set(this.#id, nth)
      this.#sentAt.set(nth, performance.now())
      this.#write(this.#id, nth, false)
    }
  }

  #write(id: number, nth: number, dup: boolean): void {
    const payload = this.#options.payload?.(nth) ?? statusOf(this.machine, nth)
    this.#line?.send({ cmd: 'publish', topic: `up/demo/M-${this.machine}/status`, payload, qos: this.#options.qos, dup, retain: false, messageId: id })
  }

  #arrived(first: number, body: Buffer): void {
    const kind = first >> 4
    const id = body.length >= 2 ? body.readUInt16BE(0) : 0
    if (kind === 4 || kind === 5) {
      const nth = this.#open.get(id)
      if (nth !== undefined) {
        this.acked.add(nth)
        this.#open.delete(id)
        const sentAt = this.#sentAt.get(nth)
        this.#sentAt.delete(nth)
        if (sentAt !== undefined) this.latencies.push(performance.now() - sentAt)
      }
      this.firstAckAt ??= performance.now()
      if (kind === 5) {
        this.#released.add(id)
        this.#line?.send({ cmd: 'pubrel', messageId: id })
      }
    } else if (kind === 7) {
      this.#released.delete(id)
    }
    this.#pump()
  }

  /** A message to another stream, once; resolves with its acknowledgement. */
  async once(stream: string, message: Record<string, unknown>): Promise<void> {
    const name = `M-${this.machine}`
    let acknowledged: () => void = () => undefined
    const done = new Promise<void>((resolve) => { acknowledged = resolve })
    const line: Line = new Line(portOf(this.#line), { clientId: `${name}-once`, user: name, clean: true }, (first) => { if (first >> 4 === 4) acknowledged() })
    await line.admitted
    line.send({ cmd: 'publish', topic: `up/demo/${name}/${stream}`, payload: encode(stream, { machine_id: name, ...message }), qos: 1, dup: false, retain: false, messageId: 1 })
    await done
    line.socket.destroy()
  }

  signOn(eventMs = Date.now()): Promise<void> {
    return this.once('operator', { time_ms: eventMs, op: 'SIGN_ON', operator_id: `C-${this.machine}` })
  }
}

function portOf(line: Line | undefined): number {
  const port = line?.socket.remotePort
  if (port === undefined) throw new Error('the terminal is not connected')
  return port
}

/** What a destination saw, in order. */
export interface Arrival {
  readonly marker: number
  /** Number of the connection it came over. */
  readonly connection: number
  /** Stable id, where the way carries one. */
  readonly id?: string | undefined
  /** When it came, by this process's wall clock. */
  readonly atMs?: number | undefined
  /** At a local recipient: the last level of the topic, the machine's pseudonym. */
  readonly from?: string | undefined
}

export interface ReaderOptions {
  readonly name?: string
  readonly qos?: 1 | 2
  readonly clean?: boolean
  /** Acknowledges nothing. */
  readonly mute?: boolean
  readonly filter?: string
}

/** A local recipient with a session of its own. */
export class Reader {
  readonly user: 'oem-cloud' | 'site-planner'
  readonly arrivals: Arrival[] = []
  /** Markers of all that arrived. */
  readonly seen = new Set<number>()
  /** PUBLISHes that were not duplicates of an earlier one on this session, by DUP. */
  canaries = 0
  closes = 0
  readonly #options: ReaderOptions
  #line: Line | undefined
  #connections = 0
  #granted: (() => void) | undefined
  /** QoS 2: received, not released. */
  readonly #received = new Set<number>()
  readonly #names = new Map<string, string>()

  constructor(user: 'oem-cloud' | 'site-planner', options: ReaderOptions = {}) {
    this.user = user
    this.#options = options
  }

  get filter(): string {
    return this.#options.filter ?? (this.user === 'oem-cloud' ? 'out/service/+' : 'out/planning/+')
  }

  get connected(): boolean {
    return this.#line !== undefined && !this.#line.socket.destroyed
  }

  /** Connects, and subscribes the first time. */
  async connect(port: number): Promise<void> {
    const { name = this.user, clean = false, qos = 1 } = this.#options
    this.#connections++
    const connection = this.#connections
    const line = new Line(port, { clientId: name, user: this.user, clean }, (first, body) => this.#arrived(first, body, connection))
    this.#line = line
    void line.closed.then(() => {
      this.closes++
    })
    await Promise.race([line.admitted, line.closed])
    if (connection > 1 && !clean) return
    const granted = new Promise<void>((done) => { this.#granted = done })
    line.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: this.filter, qos }] })
    await Promise.race([granted, line.closed])
  }

  /** Stops to read, as a process that hangs does. */
  freeze(): void {
    this.#line?.socket.pause()
  }

  destroy(): void {
    this.#line?.socket.destroy()
  }

  #arrived(first: number, body: Buffer, connection: number): void {
    const kind = first >> 4
    if (kind === 9) return this.#granted?.()
    if (kind === 6) return this.#release(body.readUInt16BE(0))
    if (kind !== 3) return undefined
    const qos = (first >> 1) & 3
    const topicEnd = 2 + body.readUInt16BE(0)
    const payload = body.subarray(topicEnd + (qos > 0 ? 2 : 0))
    const id = qos > 0 ? body.readUInt16BE(topicEnd) : 0
    if (body.includes(CANARY)) this.canaries++
    // [MQTT-4.3.3-2] QoS 2: the same id before its PUBREL is the same message.
    if (qos < 2 || !this.#received.has(id)) {
      const marker = markerOf(payload)
      this.arrivals.push({ marker, connection, atMs: Date.now(), from: this.#nameOf(body.toString('latin1', 2, topicEnd)) })
      this.seen.add(marker)
    }
    if (this.#options.mute === true) return undefined
    if (qos === 1) this.#line?.send({ cmd: 'puback', messageId: id })
    if (qos === 2) {
      this.#received.add(id)
      this.#line?.send({ cmd: 'pubrec', messageId: id })
    }
    return undefined
  }

  /** One text for all messages of a machine, or a long run would keep millions. */
  #nameOf(topic: string): string {
    let name = this.#names.get(topic)
    if (name === undefined) this.#names.set(topic, (name = topic.slice(topic.lastIndexOf('/') + 1)))
    return name
  }

  #release(id: number): void {
    this.#received.delete(id)
    this.#line?.send({ cmd: 'pubcomp', messageId: id })
  }
}

// ------------------------------------------------------------------------------------------------------------------ judge

export interface Verdict {
  readonly lost: number
  readonly duplicates: number
  /** Duplicates that came under another stable id: the terminal sent them again. */
  readonly renumbered: number
  /** Most duplicates of one machine in a row. */
  readonly longest: number
  readonly violations: string[]
}

/**
 * Of each machine everything acknowledged is there; what is new comes in order and without a gap; and a step back is the beginning of
 * a suffix that was sent again: it goes on without a gap from there.
 * @param restarts  how often a suffix may have been sent again
 */
export function judge(destination: string, arrivals: readonly Arrival[], terminals: readonly Terminal[], restarts: number): Verdict {
  const violations: string[] = []
  let [lost, duplicates, renumbered, longest] = [0, 0, 0, 0]
  const byMachine = new Map<number, Arrival[]>()
  for (const arrival of arrivals) {
    const machine = Math.floor(arrival.marker / SPAN)
    const list = byMachine.get(machine)
    if (list === undefined) byMachine.set(machine, [arrival])
    else list.push(arrival)
  }
  for (const { machine, acked } of terminals) {
    const list = byMachine.get(machine) ?? []
    const ids = new Map<number, string | undefined>()
    let [previous, newest, back, row] = [0, 0, 0, 0]
    for (const { marker, id } of list) {
      const nth = marker - machine * SPAN
      if (nth <= newest) {
        duplicates++
        longest = Math.max(longest, ++row)
        if (id !== undefined && ids.get(nth) !== id) renumbered++
      } else {
        row = 0
      }
      if (nth !== previous + 1) {
        if (nth > newest) violations.push(`${destination}: of machine ${machine} message ${nth} came after ${previous}, before ${newest + 1}`)
        else back++
      }
      ids.set(nth, id)
      previous = nth
      newest = Math.max(newest, nth)
    }
    if (back > restarts) violations.push(`${destination}: of machine ${machine} something was sent again ${back} times, with ${restarts} occasions`)
    for (const nth of acked) {
      if (ids.has(nth)) continue
      lost++
      if (lost <= 5) violations.push(`${destination}: message ${nth} of machine ${machine} was acknowledged and never came`)
    }
  }
  return { lost, duplicates, renumbered, longest, violations: violations.slice(0, 20) }
}

/** Smallest value that the share `part` of the list does not exceed. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

// ------------------------------------------------------------------------------------------------------------------ rules

function rulesOf({ cloud, planner, emit, serviceQos = 1, serviceTo = '', keeps = '' }: PlantOptions): string {
  return `${rulesHead({ policy: 'faults' })}
  service:
    recipient: oem-cloud
    purpose: service.operate
    to: { topic: "out/service/{machine_id}", qos: ${serviceQos}, via: [${['local', ...(cloud === undefined ? [] : ['cloud'])].join(', ')}], send_within: 24h${serviceTo} }
    recipient_keeps: 30d
    streams: { status: { fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: keep, seq: keep, soc_pct_x10: keep${keeps} } } }
  planning:
    recipient: site-planner
    purpose: improve.statistics
    to: { topic: "out/planning/{machine_id}", qos: 1, via: [${['local', ...(planner === undefined ? [] : ['planner'])].join(', ')}], send_within: 24h }
    recipient_keeps: 30d
    streams: { status: { ${emit === undefined ? '' : `emit: ${emit}, `}fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: keep, seq: keep, pack_mv: keep } } }
`
}
