/**
 * Those who mean the gateway no good, at its doors, while a terminal works on beside them: sockets that say nothing (S1), that say it a
 * byte at a time (S2), that stop in the middle (S3), that announce and send 256 MiB (S4), that come by the thousand (S5), one identity
 * that takes its own place over and over (S6), and damaged MQTT (F1).
 *
 *     node test/fault/abuse.ts [CONNECTIONS=100000] [SEED] [S1 S2 S3 S4 S5 S6 F1]
 */
import { spawn } from 'node:child_process'
import { connect, type Socket } from 'node:net'
import { generate, type Packet } from 'mqtt-packet'
import { command } from './command.ts'
import { Packets } from './copies.ts'
import { dice, judge, pause, Plant, quantile, Reader, SPAN, statusOf, Terminal, until } from './plant.ts'

export interface AbuseOptions {
  /** Damaged connections of F1. */
  readonly connections: number
  readonly seed: number
  readonly cases?: readonly string[]
  /** Times of the gateway file instead of the shipped 5 s and 10 s, and fewer rounds. */
  readonly isShort?: boolean
  readonly say?: (line: string) => void
}

export interface AbuseResult {
  readonly cases: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly violations: readonly string[]
}

export async function abuse({ connections, seed, cases = Object.keys(CASES), isShort = false, say }: AbuseOptions): Promise<AbuseResult> {
  const violations: string[] = []
  const figures: Record<string, Readonly<Record<string, unknown>>> = {}
  const times = isShort ? { connectMs: 1_000, packetMs: 2_000 } : { connectMs: 5_000, packetMs: 10_000 }
  for (const { names, set } of PLANTS) {
    const wanted = names.filter((name) => cases.includes(name))
    if (wanted.length === 0) continue
    const plant = new Plant({ machines: 8, set: [`limits.connect_time=${times.connectMs}ms`, `limits.packet_time=${times.packetMs}ms`, ...set] })
    try {
      await plant.start()
      const good = await Good.open(plant)
      for (const name of wanted) {
        const fail = (text: string): void => void violations.push(`${name}: ${text}`)
        const { returned, ...bystander } = await good.during(fail, () => CASES[name]!({ plant, good, connections, random: dice(seed), isShort, fail, ...times }))
        figures[name] = { ...returned, good: bystander }
        say?.(`${name} ${JSON.stringify(figures[name])}`)
      }
      await good.close((text) => violations.push(`${wanted.join(' ')}: ${text}`))
      for (const text of await wounds(plant)) violations.push(`${wanted.join(' ')}: ${text}`)
    } finally {
      await plant.remove()
    }
  }
  return { cases: figures, violations }
}

/** The limits that a case is about are as shipped; those that would keep it from getting through are out of its way. */
const PLANTS: readonly { readonly names: readonly string[]; readonly set: readonly string[] }[] = [
  { names: ['S1', 'S2', 'S3', 'S4', 'S6'], set: [] },
  // On loopback only when they are written.
  { names: ['S5'], set: ['limits.address_connects_per_second=20', 'limits.address_connect_burst=100'] },
  { names: ['F1'], set: ['limits.identity_connects_per_minute=1000000'] },
]

interface Given {
  readonly plant: Plant
  readonly good: Good
  readonly connections: number
  readonly random: () => number
  readonly isShort: boolean
  readonly connectMs: number
  readonly packetMs: number
  readonly fail: (text: string) => void
}

const CASES: Readonly<Record<string, (given: Given) => Promise<Readonly<Record<string, unknown>>>>> = {
  /** 2,000 sockets that never say a word. */
  S1: async ({ plant, connectMs, fail }) => {
    const lasted: Promise<number>[] = []
    for (let n = 0; n < 2_000; n += 100) {
      const some = Array.from({ length: 100 }, () => new Bad(plant.ports.terminals))
      await Promise.all(some.map((bad) => bad.connected))
      lasted.push(...some.map((bad) => bad.closedWithin(connectMs + LATE_MS)))
    }
    return closing(await Promise.all(lasted), connectMs, fail)
  },

  /** A CONNECT that grows byte by byte, always too slowly; every fourth closes its half after the first one. */
  S2: async ({ plant, connectMs, fail }) => {
    const whole = generate({ ...CONNECT, clientId: 'slow'.repeat(5), username: 'M-1' })
    const bads = Array.from({ length: 40 }, () => new Bad(plant.ports.terminals))
    await Promise.all(bads.map((bad) => bad.connected))
    let at = 0
    const drop = (): void => {
      for (const [n, bad] of bads.entries()) {
        if (n % 4 === 0 && at === 1) bad.socket.end()
        else bad.write(whole.subarray(at, at + 1))
      }
      at++
    }
    drop()
    const beat = setInterval(drop, connectMs / 5)
    const lasted = await Promise.all(bads.map((bad) => bad.closedWithin(connectMs + LATE_MS)))
    clearInterval(beat)
    return { bytes: at, ...closing(lasted, connectMs, fail) }
  },

  /** A PUBLISH that stops after its first byte, in its length, in its payload or one byte before its end, or drips; keep alive 0. */
  S3: async ({ plant, packetMs, fail }) => {
    const whole = generate({ cmd: 'publish', topic: 'up/demo/M-2/status', payload: statusOf(2, 1), qos: 1, dup: false, retain: false, messageId: 1 })
    const cuts = [1, 2, Math.floor(whole.length / 2), whole.length - 1]
    // Six of each machine: fewer than are let in at a time.
    const bads = Array.from({ length: 24 }, (_, n) => new Bad(plant.ports.terminals, { user: `M-${2 + (n % 4)}`, clientId: `half-${n}` }))
    await Promise.all(bads.map((bad) => bad.admitted))
    const from = performance.now()
    for (const [n, bad] of bads.entries()) bad.write(whole.subarray(0, cuts[Math.floor(n / 4) % cuts.length]))
    // Another byte from time to time is no way out.
    const drip = setInterval(() => {
      for (const bad of bads.slice(-8)) bad.write(whole.subarray(1, 2))
    }, packetMs / 3)
    const lasted = await Promise.all(bads.map((bad) => bad.closedWithin(packetMs + LATE_MS, from)))
    clearInterval(drip)
    return closing(lasted, packetMs, fail)
  },

  /** 256 MiB announced and sent, as CONNECT and as PUBLISH; and as much as is allowed, of which the last byte never comes. */
  S4: async ({ plant, fail }) => {
    const figures: Record<string, unknown> = {}
    // What the first ones make the heap grow by, the later ones find.
    await streamed(plant, true, 2)
    await pause(300)
    for (const [name, isConnect] of [['connect', true], ['publish', false]] as const) {
      const rss = new Rss(plant)
      const sent = await streamed(plant, isConnect, 6)
      const grownMb = rss.stop()
      figures[name] = { grownMb, sentMb: sent.map((bytes) => round(bytes / 2 ** 20)) }
      if (sent.some((bytes) => bytes >= HUGE)) fail(`${name}: all of 256 MiB was taken`)
      if (grownMb > MOST_MB) fail(`${name}: memory grew by ${grownMb} MB`)
    }
    const largest = Buffer.alloc(262_144 - 1, 0)
    generate({ cmd: 'publish', topic: 'up/demo/M-2/status', payload: Buffer.alloc(262_144 - 27), qos: 1, dup: false, retain: false, messageId: 1 }).copy(largest)
    const rss = new Rss(plant)
    const bads = Array.from({ length: 8 }, (_, n) => new Bad(plant.ports.terminals, { user: `M-${4 + (n % 4)}`, clientId: `large-${n}` }))
    await Promise.all(bads.map((bad) => bad.admitted))
    for (const bad of bads) bad.write(largest)
    await pause(500)
    const grownMb = rss.stop()
    const open = bads.filter((bad) => !bad.isClosed).length
    // Were they not let so far, nothing would have been held.
    if (open !== bads.length) fail(`of ${bads.length} packets of the largest size ${bads.length - open} were not awaited`)
    if (grownMb > MOST_MB) fail(`${bads.length} packets of the largest size: memory grew by ${grownMb} MB`)
    for (const bad of bads) bad.socket.destroy()
    return { ...figures, largest: { grownMb, packets: bads.length } }
  },

  /** 1,000 connections a second from one address, in turns with quiet. Another address notices little and still gets in. */
  S5: async ({ plant, good, isShort, fail }) => {
    const [seconds, rounds] = isShort ? [1.5, 1] : [5, 5]
    // Not those that were refused: further in, one identity is refused for its own rate under the same name.
    const passed = async (): Promise<number> => (await plant.counters()).get('parapet_connections_total{listener="terminals"}') ?? 0
    const [before, began] = [await passed(), performance.now()]
    const pairs: { quiet: number; flood: number }[] = []
    let [attempted, cameIn] = [0, 0]
    for (let n = 0; n < rounds; n++) {
      const flood = new Flood(plant.ports.terminals, seconds)
      await flood.ready
      const quiet = quantile(await good.latencies(() => pause(seconds * 1_000)), 0.99)
      const flooded = quantile(await good.latencies(async () => {
        const over = flood.go()
        // A terminal that comes in the middle of it, from elsewhere.
        await pause(300)
        const newcomer = new Bad(plant.ports.terminals, { user: 'M-3', clientId: `newcomer-${n}` })
        const got = await Promise.race([newcomer.admitted.then(() => true), pause(3_000).then(() => false)])
        newcomer.socket.destroy()
        if (got) cameIn++
        attempted += await over
      }), 0.99)
      pairs.push({ quiet, flood: flooded })
    }
    const letIn = (await passed()) - before
    const most = 100 + Math.ceil(((performance.now() - began) / 1_000) * 20) + rounds
    const ratio = quantile(pairs.map(({ quiet, flood }) => flood / quiet), 0.5)
    if (cameIn !== rounds) fail(`of ${rounds} terminals from another address ${cameIn} came in`)
    if (letIn > most) fail(`of ${attempted} connections ${letIn} were let in, of ${most} that may`)
    if (attempted < most * 3) fail(`only ${attempted} connections were tried: no flood`)
    const worst = Math.max(...pairs.map(({ flood }) => flood))
    // What the machine does beside it shows in a single pair: it must be both, in proportion and in itself.
    if (ratio > 10 && worst > 250) fail(`the other's p99 rose ${round(ratio)} times, to ${round(worst)} ms`)
    return { attempted, perSecond: Math.round(attempted / (seconds * rounds)), letIn, p99Ms: pairs.map(({ quiet, flood }) => ({ quiet: round(quiet), flood: round(flood) })), ratio: round(ratio) }
  },

  /** Two boxes with one name: each connection takes the place of the one before, with a message under way, until the rate is used up. */
  S6: async ({ plant, good, isShort, fail }) => {
    const open = async (): Promise<number> => (await plant.ask<{ listeners: { name: string; connections: number }[] }>('GET', '/v1/status')).listeners.find(({ name }) => name === 'terminals')?.connections ?? 0
    const attempts = isShort ? 200 : 2_000
    const [before, rss] = [await open(), new Rss(plant)]
    const began = performance.now()
    const all: Bad[] = []
    const acked = new Set<number>()
    let holder: Bad | undefined
    let [admitted, sent] = [0, 0]
    const say = (bad: Bad): void => {
      const nth = ++sent
      bad.publish(statusOf(7, nth), 'up/demo/M-7/status', () => acked.add(nth))
    }
    for (let n = 0; n < attempts; n++) {
      const bad = new Bad(plant.ports.terminals, { user: 'M-7', clientId: 'twin' })
      all.push(bad)
      await Promise.race([bad.admitted, bad.closed])
      if (!bad.wasAdmitted) continue
      admitted++
      holder = bad
      say(bad)
    }
    const grownMb = rss.stop()
    const most = 30 + Math.ceil((performance.now() - began) / 1_000) + 1
    if (admitted > most) fail(`${admitted} came in, of ${most} that may`)
    if (admitted < 10) fail(`only ${admitted} came in: nothing was taken over`)
    // [MQTT-3.1.4-2] The last one that came in stays, whatever is refused after it, and works.
    await until(() => all.every((bad) => bad === holder || bad.isClosed), 'the former holders to be closed', 5_000).catch((error: unknown) => fail(String(error)))
    if (holder === undefined || holder.isClosed) fail('the last one that came in was closed')
    else {
      say(holder)
      const nth = sent
      await until(() => acked.has(nth), 'the last holder to be answered').catch((error: unknown) => fail(String(error)))
    }
    await until(() => good.seen.isSupersetOf(new Set([...acked].map((nth) => 7 * SPAN + nth))), 'what was acknowledged').catch((error: unknown) => fail(String(error)))
    await until(async () => (await open()) <= before + 1, 'no connection but the last').catch((error: unknown) => fail(String(error)))
    holder?.socket.destroy()
    return { attempts, admitted, acknowledged: acked.size, perSecond: Math.round(attempts / ((performance.now() - began) / 1_000)), grownMb }
  },

  /** Recorded sessions, some packets left out or repeated, a few bytes damaged, cut anywhere, at both doors. */
  F1: async ({ plant, connections, random, fail }) => {
    const [began, before] = [performance.now(), await plant.counters()]
    let [done, hung] = [0, 0]
    const attack = async (): Promise<void> => {
      while (done < connections && plant.running) {
        const atRecipients = done++ % 3 === 2
        const bad = new Bad(atRecipients ? plant.ports.recipients : plant.ports.terminals)
        bad.socket.end(damaged(random, atRecipients))
        if ((await bad.closedWithin(FAREWELL_MS)) === Infinity) hung++
        bad.socket.destroy()
      }
    }
    await Promise.all(Array.from({ length: 50 }, attack))
    if (!plant.running) {
      fail(`the process ended: ${plant.logged.slice(-3).join(' ')}`)
      return { done }
    }
    const after = await plant.counters()
    const count = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0)
    const [admitted, malformed, failed] = [count('parapet_broker_events_total{event="connect.admitted"}'), count('parapet_kills_total{reason="malformed"}'), count('parapet_broker_events_total{event="handle.failed"}')]
    if (failed > 0) fail(`the pipeline threw ${failed} times`)
    if (hung > 0) fail(`${hung} connections whose half was closed stayed open for ${FAREWELL_MS} ms`)
    // Noise alone would show nothing: many must get in, and many must be told apart.
    if (admitted < connections / 20 || malformed < connections / 100) fail(`of ${connections} only ${admitted} came in and ${malformed} were malformed`)
    return { connections, perSecond: Math.round(connections / ((performance.now() - began) / 1_000)), admitted, malformed, protocol: count('parapet_kills_total{reason="protocol"}') }
  },
}

/** Deadlines are met early by the gateway; what is added is the machine's. */
const LATE_MS = 1_000
const MOST_MB = 16
const HUGE = 2 ** 28
/** Time for a connection whose peer has said all: the gateway's answers, its farewell, and a machine that has other things to do. */
const FAREWELL_MS = 5_000
const CONNECT = { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, keepalive: 0 } as const

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function closing(lasted: readonly number[], limitMs: number, fail: (text: string) => void): Readonly<Record<string, unknown>> {
  const late = lasted.filter((ms) => ms > limitMs + LATE_MS).length
  if (late > 0) fail(`${late} of ${lasted.length} were open for more than ${limitMs + LATE_MS} ms`)
  return { sockets: lasted.length, closedMs: { first: Math.round(Math.min(...lasted)), last: Math.round(Math.max(...lasted)) } }
}

/** What a gateway that was not hurt does not say, and how it ends. */
async function wounds(plant: Plant): Promise<string[]> {
  const found = plant.logged.filter((line) => /nobody caught|broker reported an error|pipeline failed/.test(line)).slice(0, 3)
  if (!plant.running) return [...found, 'the process has ended']
  await plant.kill('SIGTERM')
  const { code } = await plant.ended
  return [...found, ...(code === 0 ? [] : [`it ended with ${code}`]), ...plant.examine()]
}

/** @returns bytes that each could send before it was closed */
async function streamed(plant: Plant, isConnect: boolean, sockets: number): Promise<number[]> {
  const piece = Buffer.alloc(65_536)
  return Promise.all(Array.from({ length: sockets }, async (_, n) => {
    const bad = new Bad(plant.ports.terminals, isConnect ? undefined : { user: 'M-1', clientId: `huge-${n}` })
    await (isConnect ? bad.connected : bad.admitted)
    // [MQTT-2.2.3] 268,435,455 bytes, the most that can be announced.
    bad.write(Buffer.from([isConnect ? 0x10 : 0x32, 0xff, 0xff, 0xff, 0x7f]))
    let sent = 5
    while (sent < HUGE && (await bad.flush(piece))) sent += piece.length
    bad.socket.destroy()
    return sent
  }))
}

/** The most memory that a gateway takes beyond what it had. */
class Rss {
  readonly #plant: Plant
  readonly #before: number
  readonly #timer: NodeJS.Timeout
  #most: number

  constructor(plant: Plant) {
    this.#plant = plant
    this.#before = this.#most = plant.rssKb
    this.#timer = setInterval(() => this.#look(), 20)
  }

  /** @returns MB */
  stop(): number {
    clearInterval(this.#timer)
    this.#look()
    return round((this.#most - this.#before) / 1_024)
  }

  #look(): void {
    if (this.#plant.running) this.#most = Math.max(this.#most, this.#plant.rssKb)
  }
}

/** The terminal that works on, and who reads what it sends. */
class Good {
  readonly #terminal = new Terminal(0, { qos: 1, window: 8 })
  readonly #reader = new Reader('oem-cloud')
  #beat: NodeJS.Timeout | undefined

  static async open(plant: Plant): Promise<Good> {
    const good = new Good()
    await good.#reader.connect(plant.ports.recipients)
    await good.#terminal.connect(plant.ports.terminals)
    good.#beat = setInterval(() => {
      if (good.#terminal.unacked < 8) good.#terminal.give(1)
    }, 10)
    await good.latencies(() => pause(800))
    return good
  }

  /** Markers at the reader. */
  get seen(): Set<number> {
    return this.#reader.seen
  }

  /** Milliseconds from PUBLISH to PUBACK of what was acknowledged meanwhile. */
  async latencies(play: () => Promise<unknown>): Promise<readonly number[]> {
    const from = this.#terminal.latencies.length
    await play()
    return this.#terminal.latencies.slice(from)
  }

  async during<Returned>(fail: (text: string) => void, play: () => Promise<Returned>): Promise<{ readonly returned: Returned; readonly messages: number; readonly p50Ms: number; readonly p99Ms: number; readonly mostMs: number }> {
    let returned: Returned | undefined
    const began = performance.now()
    const latencies = await this.latencies(async () => { returned = await play() })
    if (this.#terminal.closes + this.#reader.closes > 0) fail('the good terminal or the good reader was cut')
    // It gives a hundred a second. A tenth is what the busiest machine leaves it; none is what a gateway that is blocked does.
    if (latencies.length < (performance.now() - began) / 100) fail(`the good terminal got only ${latencies.length} messages through`)
    return { returned: returned as Returned, messages: latencies.length, p50Ms: round(quantile(latencies, 0.5)), p99Ms: round(quantile(latencies, 0.99)), mostMs: round(quantile(latencies, 1)) }
  }

  /** Says what it lost. */
  async close(fail: (text: string) => void): Promise<void> {
    clearInterval(this.#beat)
    this.#terminal.stop()
    await until(() => this.#terminal.done, 'the good terminal', 20_000).catch((error: unknown) => fail(String(error)))
    await until(() => this.#reader.seen.isSupersetOf(this.#terminal.acked), 'the good reader', 10_000).catch((error: unknown) => fail(String(error)))
    // A damaged message of another machine may carry a number of this one's.
    const { arrivals } = this.#reader
    const mine = arrivals.filter(({ from }) => from === arrivals[0]?.from)
    for (const text of judge('the good reader', mine, [this.#terminal], 0).violations) fail(text)
    if (this.#reader.canaries > 0) fail('the canary left')
    this.#terminal.destroy()
    this.#reader.destroy()
  }
}

/** A connection on which everything may be said. */
class Bad {
  readonly socket: Socket
  readonly connected: Promise<void>
  /** CONNACK 0 came. Never resolves for one that was refused. */
  readonly admitted: Promise<void>
  readonly closed: Promise<void>
  isClosed = false
  wasAdmitted = false
  #connectedAt = 0
  #closedAt = 0
  #acknowledged: (() => void) | undefined

  constructor(port: number, name?: { readonly user: string; readonly clientId: string }) {
    this.socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.socket.on('error', () => undefined)
    this.connected = new Promise((done) => {
      const over = (): void => {
        if (this.#connectedAt === 0) this.#connectedAt = performance.now()
        done()
      }
      this.socket.once('connect', over)
      this.socket.once('close', over)
    })
    this.closed = new Promise((done) => void this.socket.once('close', () => {
      this.isClosed = true
      this.#closedAt = performance.now()
      done()
    }))
    let admit: () => void = () => undefined
    this.admitted = new Promise((done) => { admit = done })
    const packets = new Packets((first, body) => {
      if (first >> 4 === 2 && body[1] === 0) {
        this.wasAdmitted = true
        admit()
      } else if (first >> 4 === 4) this.#acknowledged?.()
    })
    this.socket.on('data', (piece: Buffer) => packets.push(piece))
    if (name !== undefined) this.write(generate({ ...CONNECT, clientId: name.clientId, username: name.user }))
  }

  write(bytes: Buffer): void {
    if (!this.socket.destroyed && this.socket.writable) this.socket.write(bytes)
  }

  /** Whether the kernel took them; false when there is nobody any more. */
  flush(bytes: Buffer): Promise<boolean> {
    return Promise.race([this.closed.then(() => false), new Promise<boolean>((done) => {
      if (this.socket.destroyed || !this.socket.writable) done(false)
      else this.socket.write(bytes, (error) => done(error === undefined || error === null))
    })])
  }

  publish(payload: Buffer, topic: string, acknowledged: () => void): void {
    this.#acknowledged = acknowledged
    this.write(generate({ cmd: 'publish', topic, payload, qos: 1, dup: false, retain: false, messageId: 1 }))
  }

  /** @returns milliseconds that it was open since `from`, by default since it was connected; Infinity when it still is after twice the time */
  async closedWithin(ms: number, from?: number): Promise<number> {
    await this.connected
    const gone = await Promise.race([this.closed.then(() => true), patience(ms * 2, this.closed)])
    if (gone) return this.#closedAt - (from ?? this.#connectedAt)
    this.socket.destroy()
    return Infinity
  }
}

function patience(ms: number, closed: Promise<void>): Promise<false> {
  return new Promise((done) => {
    const timer = setTimeout(() => done(false), ms)
    void closed.then(() => clearTimeout(timer))
  })
}

// ------------------------------------------------------------------------------------------------------------------ flood

/** Connections from 127.0.0.2, in a process of their own: here they would be in the way of those who measure. */
class Flood {
  readonly ready: Promise<void>
  readonly #child
  readonly #said: Promise<number>

  constructor(port: number, seconds: number) {
    this.#child = spawn(process.execPath, ['--input-type=module', '--eval', FLOOD, String(port), String(seconds), '1000'], { stdio: ['pipe', 'pipe', 'inherit'] })
    let text = ''
    let isReady: () => void = () => undefined
    this.ready = new Promise((done) => { isReady = done })
    this.#child.stdout.on('data', (piece: Buffer) => {
      text += piece.toString()
      if (text.includes('ready')) isReady()
    })
    this.#said = new Promise((done) => void this.#child.once('close', () => {
      isReady()
      done(Number(/made (\d+)/.exec(text)?.[1] ?? 0))
    }))
  }

  /** Resolves when it is over, with the number of connections that were tried. */
  go(): Promise<number> {
    this.#child.stdin.end('go')
    return this.#said
  }
}

const FLOOD = `
import { connect } from 'node:net'
const [port, seconds, perSecond] = process.argv.slice(1).map(Number)
const hello = Buffer.from('101400044d5154540482000000054d2d352d2d00034d2d35', 'hex')
hello[1] = hello.length - 2
process.stdin.once('data', () => {
  const began = performance.now()
  let made = 0
  const timer = setInterval(() => {
    const ms = performance.now() - began
    for (const goal = Math.min(ms, seconds * 1000) * perSecond / 1000; made < goal; made++) {
      const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' })
      socket.on('error', () => undefined)
      socket.write(hello)
      socket.resume()
    }
    if (ms < seconds * 1000) return
    clearInterval(timer)
    process.stdout.write('made ' + made, () => process.exit(0))
  }, 5)
})
process.stdout.write('ready ')
`

// ---------------------------------------------------------------------------------------------------------------- damage

const USERS = ['M-5', 'M-6', 'M-404', 'constructor', '__proto__', 'toString', ''] as const

function sessionOf(username: string, machine: number): readonly Packet[] {
  const topic = `up/demo/M-${machine}/status`
  const publish = (qos: 0 | 1 | 2, messageId: number): Packet => ({ cmd: 'publish', topic, payload: statusOf(machine, messageId), qos, dup: false, retain: false, messageId })
  return [
    { ...CONNECT, clean: false, clientId: `damaged-${username}`, keepalive: 10, username, will: { topic: 'w', payload: Buffer.from('x'), qos: 1, retain: true } },
    { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: `down/demo/M-${machine}/#`, qos: 1 }, { topic: 'out/planning/+', qos: 2 }] },
    publish(0, 1), publish(1, 2), publish(2, 3),
    { cmd: 'pubrel', messageId: 3 }, { cmd: 'puback', messageId: 4 }, { cmd: 'pubrec', messageId: 5 }, { cmd: 'pubcomp', messageId: 6 },
    { cmd: 'pingreq' }, { cmd: 'unsubscribe', messageId: 7, unsubscriptions: ['out/planning/+'] }, { cmd: 'disconnect' },
  ]
}

/** The bytes of one damaged connection. */
function damaged(random: () => number, atRecipients: boolean): Buffer {
  const below = (limit: number): number => Math.floor(random() * limit)
  const machine = 5 + below(2)
  const session = sessionOf(atRecipients && below(2) === 0 ? 'site-planner' : USERS[below(USERS.length)]!, machine)
  const packets = [...(below(8) === 0 ? [] : [session[0]!]), ...Array.from({ length: below(16) }, () => session[below(session.length)]!)]
  // A recipient with a will is refused at once: half of them have none.
  const bytes = [...Buffer.concat(packets.map((packet) => generate(packet.cmd === 'connect' && atRecipients && below(2) === 0 ? { ...packet, will: undefined as never } : packet)))]
  for (let n = below(4); n > 0 && bytes.length > 0; n--) {
    const [place, byte] = [below(bytes.length), below(256)]
    switch (below(5)) {
      case 0: bytes[place] = byte; break
      case 1: bytes[place] = bytes[place]! ^ (1 << (byte & 7)); break
      case 2: bytes.splice(place, 1); break
      case 3: bytes.splice(place, 0, byte); break
      default: bytes.splice(place, 0, ...bytes.slice(place, place + byte))
    }
  }
  return Buffer.from(below(3) === 0 ? bytes.slice(0, below(bytes.length + 1)) : bytes)
}

if (import.meta.main) {
  const [connections = '100000', seed = String(Math.floor(Math.random() * 2 ** 31)), ...cases] = process.argv.slice(2)
  await command('abuse', Number(seed), (say) => abuse({ connections: Number(connections), seed: Number(seed), say, ...(cases.length === 0 ? {} : { cases }) }))
}
