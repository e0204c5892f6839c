/**
 * kill -9 at random instants while people grant and withdraw and their machines publish. After each restart an answered change is in
 * force, an unanswered one is in force or absent, and nothing is half: the state, the ledger and what is stored to leave agree.
 *
 *     node test/fault/consent-crash.ts [KILLS] [SEED]
 *
 * Runs the gateway as it is run: `parapet serve`, its admin API, its sockets.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { generate, type Packet } from 'mqtt-packet'
import { connect, type Socket } from 'node:net'
import { FREE_PORTS, PROJECT, encode } from '../e2e/stage.ts'
import { EXACT_HEIGHT_MM, Packets, copyOf, type Copy, type RacePurpose } from './copies.ts'
import { depot, dice } from './depot.ts'
import { storedOutbox } from './stored.ts'

export interface CrashOptions {
  readonly kills: number
  readonly seed: number
  readonly say?: (line: string) => void
}

export interface CrashResult {
  readonly kills: number
  /** Changes that were answered. */
  readonly answered: number
  /** Changes that a kill left unanswered, and how many of them were in force afterwards. */
  readonly unanswered: number
  readonly inForce: number
  /** Messages published, and covered ones that readers got. */
  readonly published: number
  readonly received: number
  readonly violations: readonly string[]
}

export async function crash(options: CrashOptions): Promise<CrashResult> {
  const run = new Crash(options)
  try {
    return await run.play()
  } finally {
    await run.end()
  }
}

const PEOPLE = 4
/** One purpose each: what would be purged, and what would be swapped. */
const PURPOSE_OF: readonly RacePurpose[] = ['improve.statistics', 'improve.statistics', 'service.operate', 'service.operate']
const NOES = ['withdrawn', 'withdrawn', 'refused', 'objected'] as const

interface Person {
  readonly number: number
  readonly purpose: RacePurpose
  /** What is known to be in force. */
  state: string
  seq: number
  sinceMs: number
  /** Asked for and not answered. */
  pending: string | undefined
  /** Changes that the ledger must hold. */
  changes: number
}

interface Ports { readonly terminals: number; readonly recipients: number; readonly admin: number }

class Crash {
  readonly #options: CrashOptions
  readonly #random: () => number
  readonly #folder = depot(PEOPLE)
  readonly #people: readonly Person[] = PURPOSE_OF.map((purpose, number) => ({ number, purpose, state: 'not_set', seq: 0, sinceMs: 0, pending: undefined, changes: 0 }))
  readonly #violations: string[] = []
  readonly #tally = { answered: 0, unanswered: 0, inForce: 0, published: 0, received: 0 }
  #gateway: ChildProcess | undefined
  #ports: Ports = { terminals: 0, recipients: 0, admin: 0 }
  #round = 0

  constructor(options: CrashOptions) {
    this.#options = options
    this.#random = dice(options.seed)
  }

  async play(): Promise<CrashResult> {
    for (this.#round = 0; this.#round < this.#options.kills; this.#round++) {
      await this.#start()
      if (this.#round === 0) await this.#signOn()
      await this.#check()
      await this.#workUntilKilled()
      if (this.#round % 20 === 19) this.#options.say?.(`${this.#round + 1} kills, ${this.#tally.answered} changes answered, ${this.#violations.length} violations`)
    }
    await this.#start()
    await this.#check()
    return { kills: this.#options.kills, ...this.#tally, violations: this.#violations }
  }

  async end(): Promise<void> {
    await this.#kill()
    this.#folder.remove()
  }

  // ---------------------------------------------------------------------------------------------------------------- gateway

  async #start(): Promise<void> {
    const set = [...FREE_PORTS, 'log.level=error', 'limits.messages_per_second=10000'].flatMap((one) => ['--set', one])
    const gateway = spawn(process.execPath, [join(PROJECT, 'src/main.ts'), 'serve', '--trial', '--config', this.#folder.file('gateway.yaml'), ...set], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#gateway = gateway
    let banner = ''
    this.#ports = await new Promise<Ports>((done, failed) => {
      gateway.once('exit', (code) => failed(new Error(`round ${this.#round}: the gateway did not start again (${code}): ${banner}`)))
      gateway.stdout.on('data', (piece: Buffer) => {
        banner += piece.toString()
        const [terminals, recipients, admin] = [...banner.matchAll(/(?:mqtt|http):\/\/127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]))
        if (terminals !== undefined && recipients !== undefined && admin !== undefined) done({ terminals, recipients, admin })
      })
    })
  }

  async #kill(): Promise<void> {
    const gateway = this.#gateway
    if (gateway === undefined || gateway.exitCode !== null || gateway.signalCode !== null) return
    const ended = new Promise((done) => gateway.once('exit', done))
    gateway.kill('SIGKILL')
    await ended
  }

  #ask<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const token = readFileSync(join(this.#folder.data, 'admin.token'), 'utf8').trim()
    return new Promise((done, failed) => {
      const asked = request({ host: '127.0.0.1', port: this.#ports.admin, method, path, headers: { authorization: `Bearer ${token}`, ...(text === '' ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }) } }, (response) => {
        let said = ''
        response.setEncoding('utf8')
        response.on('data', (piece: string) => { said += piece })
        response.on('error', failed)
        response.on('end', () => {
          // An answer that the kill cut short was not received.
          if (!response.complete) failed(new Error('cut short'))
          else if (response.statusCode === 200) done(JSON.parse(said) as Answer)
          else failed(new Error(`${method} ${path}: ${response.statusCode} ${said}`))
        })
      })
      asked.on('error', failed)
      asked.end(text)
    })
  }

  // ------------------------------------------------------------------------------------------------------------------- work

  async #workUntilKilled(): Promise<void> {
    const readers = ['site-planner', 'oem-cloud'].map((name) => new Line(this.#ports.recipients, name, `${name}-nightly`, false))
    // They acknowledge nothing, so that their sessions hold what must be put right.
    for (const reader of readers) reader.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: reader.filter, qos: 1 }] })
    const terminals = this.#people.map(({ number }) => new Line(this.#ports.terminals, `M-${number}`, `M-${number}`, true))
    const beats = terminals.map((terminal, number) => setInterval(() => this.#publish(terminal, number), 1 + this.#random() * 3))
    let over = false
    const changing = this.#people.map((person) => this.#change(person, () => over))
    // Until the work is going on, however slow the box is; then any instant will do.
    const before = this.#tally.answered
    for (const untilMs = Date.now() + 5_000; this.#tally.answered === before && Date.now() < untilMs;) await pause(1)
    await pause(this.#random() * 120)
    for (let turns = this.#random() * 20; turns > 1; turns--) await new Promise((done) => void setImmediate(done))
    over = true
    await this.#kill()
    for (const beat of beats) clearInterval(beat)
    for (const line of [...readers, ...terminals]) line.destroy()
    await Promise.all(changing)
  }

  /** Once: that somebody is signed on must outlast every kill, too. */
  async #signOn(): Promise<void> {
    for (const { number } of this.#people) {
      const terminal = new Line(this.#ports.terminals, `M-${number}`, `M-${number}`, true)
      await terminal.admitted
      terminal.publish('operator', encode('operator', { machine_id: `M-${number}`, time_ms: Date.now(), op: 'SIGN_ON', operator_id: `C-${number}` }))
      await terminal.acknowledged()
      terminal.destroy()
    }
  }

  async #change(person: Person, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const isYes = person.state === 'granted' || person.state === 'local_only'
      const state = isYes ? NOES[Math.floor(this.#random() * NOES.length)]! : 'granted'
      person.pending = state
      try {
        const answer = await this.#ask<{ seq: number; at: string; state: string }>('POST', `/v1/operators/op-${person.number}/consent`, { purpose: person.purpose, state, ...(state === 'granted' ? { evidence: 'form 7' } : {}) })
        Object.assign(person, { state, seq: answer.seq, sinceMs: Date.parse(answer.at), pending: undefined })
        person.changes++
        this.#tally.answered++
      } catch (error) {
        if (!isOver()) this.#violations.push(`round ${this.#round}: a change failed although nobody had killed anything: ${String(error)}`)
        return
      }
      await pause(this.#random() * 8)
    }
  }

  #publish(terminal: Line, number: number, eventMs = Date.now()): void {
    if (!terminal.open) return
    terminal.publish('status', encode('status', { machine_id: `M-${number}`, time_ms: eventMs, seq: number, operator_id: `C-${number}`, fix: 3, key_on: true, platform_height_mm: EXACT_HEIGHT_MM }))
    this.#tally.published++
  }

  // ------------------------------------------------------------------------------------------------------------------ check

  async #check(): Promise<void> {
    const { ledger } = await this.#ask<{ ledger: { healthy: boolean } }>('GET', '/v1/status')
    if (!ledger.healthy) this.#violations.push(`round ${this.#round}: the ledger does not verify`)
    for (const person of this.#people) await this.#checkPerson(person)
    await this.#checkWhatLeaves()
    this.#checkStored()
  }

  async #checkPerson(person: Person): Promise<void> {
    const { purposes, history } = await this.#ask<{ purposes: { purpose: string; state: string; since: string; seq: number }[]; history: { type: string; body: { purpose: string } }[] }>('GET', `/v1/operators/op-${person.number}/consent`)
    const row = purposes.find(({ purpose }) => purpose === person.purpose)
    const is = row === undefined ? 'not_set' : row.state
    const seq = row?.seq ?? 0
    const { pending } = person
    if (pending !== undefined) this.#tally.unanswered++
    if (seq > person.seq && pending !== undefined && is === pending) {
      this.#tally.inForce++
      person.changes++
      person.sinceMs = Date.parse(row!.since)
    } else if (seq !== person.seq || is !== person.state) {
      this.#violations.push(`round ${this.#round}: person ${person.number} had ${person.state} (${person.seq}) answered and ${pending ?? 'nothing'} asked for, and has ${is} (${seq})`)
    }
    const stored = history.filter(({ type, body }) => type.startsWith('consent.') && body.purpose === person.purpose).length
    if (stored !== person.changes) this.#violations.push(`round ${this.#round}: the ledger holds ${stored} changes of person ${person.number}, not ${person.changes}`)
    Object.assign(person, { state: is, seq, pending: undefined, changes: stored })
  }

  /** What waited for sessions, what is retained, and a new message of everybody. */
  async #checkWhatLeaves(): Promise<void> {
    if (this.#round === 0) return
    const nightly = ['site-planner', 'oem-cloud'].map((name) => new Line(this.#ports.recipients, name, `${name}-nightly`, false))
    const fresh = ['site-planner', 'oem-cloud'].map((name) => new Line(this.#ports.recipients, name, `${name}-fresh`, true))
    for (const reader of fresh) reader.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: reader.filter, qos: 1 }] })
    await Promise.all([...nightly, ...fresh].map((reader) => reader.admitted))
    await Promise.all(fresh.map((reader) => reader.fence()))
    const terminals = this.#people.map(({ number }) => new Line(this.#ports.terminals, `M-${number}`, `M-${number}`, true))
    await Promise.all(terminals.map((terminal) => terminal.admitted))
    const nowMs = Date.now()
    for (const [number, terminal] of terminals.entries()) this.#publish(terminal, number, nowMs)
    await Promise.all(terminals.map((terminal) => terminal.acknowledged()))
    // What waited in the outbox when the kill came goes first.
    for (const untilMs = Date.now() + 20_000; Date.now() < untilMs;) {
      if ((await this.#ask<{ outbox: { records: number } }>('GET', '/v1/status')).outbox.records === 0) break
      await pause(5)
    }
    await Promise.all(fresh.map((reader) => reader.fence()))
    for (const reader of [...nightly, ...fresh]) {
      for (const copy of reader.copies) if (copy.covered) this.#judge(copy, reader.user)
    }
    for (const { number, purpose, state } of this.#people) {
      const arrived = fresh.some((reader) => reader.copies.some((copy) => copy.operator === number && copy.purpose === purpose && copy.covered && copy.eventMs === nowMs))
      if (arrived !== (state === 'granted')) this.#violations.push(`round ${this.#round}: person ${number} has ${state}, and the new message ${arrived ? 'left' : 'did not leave'}`)
    }
    for (const line of [...nightly, ...fresh, ...terminals]) line.destroy()
  }

  #judge(copy: Copy, user: string): void {
    this.#tally.received++
    const person = this.#people[copy.operator]!
    const isAllowed = person.purpose === copy.purpose && person.state === 'granted' && copy.eventMs >= person.sinceMs
    if (!isAllowed) this.#violations.push(`round ${this.#round}: ${user} got data of person ${copy.operator} from ${copy.eventMs}, ${person.state} since ${person.sinceMs}`)
  }

  /** Whatever of the outbox names a person and would be taken by a withdrawal must rest on the yes that is in force. */
  #checkStored(): void {
    const { db, subjectsOf, close } = storedOutbox(this.#folder.data, 'demo')
    const tables = db.prepare("SELECT one.name AS name FROM pragma_table_list AS one, pragma_table_info(one.name) AS field WHERE field.name = 'on_withdrawal'").all() as unknown as { name: string }[]
    if (tables.length === 0) throw new Error('the outbox has no table of records any more')
    for (const { name } of tables) {
      for (const row of db.prepare(`SELECT envelope, purpose, acquired_ms AS acquired FROM ${name} JOIN envelopes USING (envelope) WHERE on_withdrawal <> 0`).all()) {
        for (const subject of subjectsOf(row['envelope'])) {
          const person = this.#people[Number(subject.slice(3))]!
          const isAllowed = person.purpose === row['purpose'] && person.state === 'granted' && Number(row['acquired']) >= person.sinceMs
          if (!isAllowed) this.#violations.push(`round ${this.#round}: ${name} still holds data of person ${person.number} from ${String(row['acquired'])} for ${String(row['purpose'])}, ${person.state} since ${person.sinceMs}`)
        }
      }
    }
    close()
  }
}

/** One MQTT connection. */
class Line {
  readonly user: string
  readonly copies: Copy[] = []
  readonly admitted: Promise<void>
  readonly #socket: Socket
  readonly #waiting = new Map<number, () => void>()
  #id = 1

  constructor(port: number, user: string, clientId: string, clean: boolean) {
    this.user = user
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.#socket.on('error', () => undefined)
    let admit: () => void = () => undefined
    this.admitted = new Promise((done) => { admit = done })
    const packets = new Packets((first, body) => {
      const kind = first >> 4
      if (kind === 2) admit()
      else if (kind === 4 || kind === 9) {
        this.#waiting.get(body.readUInt16BE(0))?.()
        this.#waiting.delete(body.readUInt16BE(0))
      } else {
        const copy = copyOf(first, body)
        if (copy !== undefined) this.copies.push(copy)
      }
    })
    this.#socket.on('data', (piece: Buffer) => packets.push(piece))
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean, clientId, username: user, keepalive: 0 })
  }

  get open(): boolean {
    return !this.#socket.destroyed
  }

  get filter(): string {
    return this.user === 'oem-cloud' ? 'out/service/+' : 'out/planning/+'
  }

  send(packet: Packet): void {
    if (this.open) this.#socket.write(generate(packet))
  }

  publish(stream: string, payload: Buffer): void {
    const messageId = this.#nextId()
    this.#waiting.set(messageId, () => undefined)
    this.send({ cmd: 'publish', topic: `up/demo/${this.user}/${stream}`, payload, qos: 1, dup: false, retain: false, messageId })
  }

  /** Until everything published here is acknowledged. */
  async acknowledged(): Promise<void> {
    await Promise.all([...this.#waiting.keys()].map((id) => new Promise<void>((done) => void this.#waiting.set(id, done))))
  }

  /** SUBACK comes behind every PUBLISH that was written before it. */
  async fence(): Promise<void> {
    const messageId = this.#nextId()
    const answered = new Promise<void>((done) => void this.#waiting.set(messageId, done))
    this.send({ cmd: 'subscribe', messageId, subscriptions: [{ topic: this.filter, qos: 1 }] })
    await answered
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #nextId(): number {
    this.#id = (this.#id % 65_535) + 1
    return this.#id
  }
}

if (import.meta.main) {
  const kills = Number(process.argv[2] ?? 200)
  const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31))
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  say(`consent and kill -9: ${kills} kills, seed ${seed}`)
  const began = performance.now()
  const result = await crash({ kills, seed, say })
  say(`${result.kills} kills in ${((performance.now() - began) / 1_000).toFixed(0)} s: ${result.answered} changes answered; ${result.unanswered} unanswered, of which ${result.inForce} were in force and ${result.unanswered - result.inForce} absent`)
  say(`${result.published} messages published, ${result.received} covered ones received after restarts`)
  for (const violation of result.violations.slice(0, 20)) say(violation)
  say(result.violations.length === 0 ? 'whatever was answered was in force, and nothing was half' : `${result.violations.length} violations; seed ${seed}`)
  process.exitCode = result.violations.length === 0 ? 0 : 1
}
