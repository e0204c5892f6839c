/**
 * Faults between the gateway and the cloud, and on the terminals' side of the line (N1 to N5). Whatever the line does, terminals are
 * served, what was acknowledged arrives, in order, and what arrives twice is a suffix that was sent again.
 *
 *     node test/fault/network.ts [SCALE=20] [SEED] [N1 N2 N3 N4 N5]
 *
 * SCALE 1 is the short form: seconds of outage, a few flaps. 20 is as in operation: ten minutes of outage, a hundred flaps.
 */
import { acknowledge, Cloud } from '../outlet/cloud.ts'
import { command } from './command.ts'
import { type Arrival, dice, judge, markerOf, pause, Plant, type PlantOptions, quantile, Reader, SPAN, Terminal, until } from './plant.ts'
import { Proxy } from './proxy.ts'

export interface NetworkOptions {
  readonly scale: number
  readonly seed: number
  readonly cases?: readonly string[]
  readonly say?: (line: string) => void
}

export interface NetworkResult {
  readonly cases: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly violations: readonly string[]
}

export async function network({ scale, seed, cases = Object.keys(CASES), say }: NetworkOptions): Promise<NetworkResult> {
  const violations: string[] = []
  const figures: Record<string, Readonly<Record<string, unknown>>> = {}
  const one = async (name: string): Promise<void> => {
    const random = dice(seed)
    figures[name] = await CASES[name]!({ scale, random, fail: (text) => violations.push(`${name}: ${text}`) })
    say?.(`${name} ${JSON.stringify(figures[name])}`)
  }
  // The short form waits for back-offs most of the time: all at once.
  if (scale <= 1) await Promise.all(cases.map(one))
  else for (const name of cases) await one(name)
  return { cases: figures, violations }
}

interface Given {
  readonly scale: number
  readonly random: () => number
  readonly fail: (text: string) => void
}

interface Site {
  readonly plant: Plant
  readonly cloud: Cloud
  readonly proxy: Proxy
  readonly terminals: readonly Terminal[]
  readonly reader: Reader
}

const MACHINES = 3

async function site(options: Partial<PlantOptions>, cloudOptions: Parameters<typeof Cloud.open>[0], play: (site: Site) => Promise<Readonly<Record<string, unknown>>>): Promise<Readonly<Record<string, unknown>>> {
  const cloud = await Cloud.open(cloudOptions)
  const proxy = await Proxy.open(cloud.port)
  const plant = new Plant({ machines: MACHINES, cloud: proxy.url, ...options })
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: n === 0 ? 2 : 1 }))
  const reader = new Reader('oem-cloud')
  try {
    await plant.start()
    await reader.connect(plant.ports.recipients)
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
    await until(() => cloud.lines.length > 0, 'the bridge to connect', 10_000)
    return await play({ plant, cloud, proxy, terminals, reader })
  } finally {
    for (const client of [...terminals, reader]) client.destroy()
    await plant.remove()
    await proxy.close()
    await cloud.stop()
  }
}

/** Sends on at a steady rate until told to stop. */
function beat(terminals: readonly Terminal[], perSecond: number): () => void {
  let given = 0
  const began = performance.now()
  const timer = setInterval(() => {
    const due = ((performance.now() - began) / 1_000) * perSecond
    for (; given < due; given++) terminals[given % terminals.length]!.give(1)
  }, 5)
  return () => clearInterval(timer)
}

/** After it everything that was acknowledged must be at the cloud. */
async function settle({ plant, terminals }: Site, { fail }: Given, limitMs: number): Promise<void> {
  for (const terminal of terminals) terminal.stop()
  await until(() => terminals.every((terminal) => terminal.done), 'the terminals', 20_000).catch((error: unknown) => fail(String(error)))
  await until(async () => (await plant.waiting()) === 0, 'the outbox to be empty', limitMs).catch((error: unknown) => fail(String(error)))
}

function look({ cloud, terminals, reader }: Site, { fail }: Given, occasions: number): { readonly acknowledged: number; readonly duplicates: number; readonly lost: number; readonly connects: number } {
  const arrivals: Arrival[] = cloud.got.map(({ payload, connection, user }) => ({ marker: markerOf(payload), connection, id: user['parapet-id'] }))
  const verdict = judge('the cloud', arrivals, terminals, occasions)
  const local = judge('the reader', reader.arrivals, terminals, 0)
  for (const text of [...verdict.violations, ...local.violations]) fail(text)
  if (verdict.renumbered > 0) fail(`${verdict.renumbered} messages came twice under different ids`)
  return { acknowledged: terminals.reduce((sum, { acked }) => sum + acked.size, 0), duplicates: verdict.duplicates, lost: verdict.lost, connects: cloud.connects.length }
}

/** A fleet that lost its cloud tries again at most once a second, and not in step. */
function checkPace(tries: readonly number[], fail: (text: string) => void): number {
  const gaps = tries.slice(1).map((at, n) => at - tries[n]!)
  if (gaps.some((gap) => gap < 990)) fail(`two attempts to connect within ${Math.min(...gaps).toFixed(0)} ms`)
  return Math.round(Math.min(Infinity, ...gaps))
}

const CASES: Readonly<Record<string, (given: Given) => Promise<Readonly<Record<string, unknown>>>>> = {
  /** The cloud is down. */
  N1: (given) => site({}, {}, async (here) => {
    const { cloud, plant, terminals, proxy } = here
    const stop = beat(terminals, 300)
    await pause(500)
    const before = terminals.flatMap(({ latencies }) => latencies.splice(0))
    proxy.now.refuses = true
    await cloud.stop()
    proxy.reset()
    await pause(given.scale <= 1 ? 1_500 : given.scale * 30_000)
    const queued = await plant.waiting()
    const during = terminals.flatMap(({ latencies }) => latencies.splice(0))
    if (queued === 0) given.fail('nothing waits although the cloud is away')
    await cloud.start()
    proxy.now.refuses = false
    await pause(200)
    stop()
    await settle(here, given, 90_000)
    const paceMs = checkPace(proxy.tries, given.fail)
    return { ...look(here, given, 4), queued, medianMs: { before: round(quantile(before, 0.5)), during: round(quantile(during, 0.5)) }, leastMsBetweenTries: paceMs }
  }),

  /** A slow line: 10 kB a second, half a second there and back, some pieces byte by byte. */
  N2: (given) => site({ window: 256 }, {}, async (here) => {
    const { terminals, proxy } = here
    const stopFirst = beat(terminals, 200)
    await pause(400)
    stopFirst()
    await until(() => terminals.every((terminal) => terminal.unacked === 0), 'the terminals')
    const before = terminals.flatMap(({ latencies }) => latencies.splice(0))
    Object.assign(proxy.now, { delayMs: 250, bytesPerSecond: 10_000, dribble: 20 })
    const stop = beat(terminals, given.scale <= 1 ? 60 : 200)
    await pause(given.scale <= 1 ? 1_500 : 5_000)
    stop()
    const during = terminals.flatMap(({ latencies }) => latencies.splice(0))
    await settle(here, given, 300_000)
    const median = { before: round(quantile(before, 0.5)), during: round(quantile(during, 0.5)) }
    // The line to the cloud is no business of a terminal's.
    if (median.during > median.before * 10 + 50) given.fail(`terminals wait ${median.during} ms for an answer, ${median.before} ms on a good line`)
    const found = look(here, given, 1)
    if (found.connects !== 1) given.fail('a slow line was given up')
    return { ...found, medianMs: median }
  }),

  /** A line that comes and goes, also between a PUBLISH and its PUBACK. */
  N3: (given) => site({ window: 16 }, {}, async (here) => {
    const { terminals, proxy } = here
    const flaps = given.scale <= 1 ? 2 : given.scale * 5
    const stop = beat(terminals, 200)
    for (let flap = 0; flap < flaps; flap++) {
      const way = flap % 3
      let cut = false
      await until(() => proxy.connections > 0, 'the bridge to come back', 90_000)
      await pause(100 + given.random() * 200)
      if (way === 0) {
        // The cloud has it, and its answer is lost.
        proxy.onDownstream = (piece) => (cut = piece[0]! >> 4 === 4)
        await until(() => cut, 'a PUBACK', 10_000)
        proxy.onDownstream = undefined
      } else if (way === 1) {
        proxy.reset()
      } else {
        proxy.onUpstream = (piece) => (cut = piece[0]! >> 4 === 3)
        await until(() => cut, 'a PUBLISH', 10_000)
        proxy.onUpstream = undefined
      }
      proxy.now.refuses = true
      await pause(200 + given.random() * (given.scale <= 1 ? 200 : 4_800))
      proxy.now.refuses = false
    }
    stop()
    await settle(here, given, 90_000)
    const paceMs = checkPace(proxy.tries, given.fail)
    const found = look(here, given, flaps + 1)
    if (found.duplicates > flaps * 32) given.fail(`${found.duplicates} duplicates in ${flaps} flaps`)
    return { ...found, flaps, leastMsBetweenTries: paceMs }
  }),

  /** A line that is dead without anybody having said so, on either side. */
  N4: (given) => site({ keepalive: '2s' }, {}, async (here) => {
    const { plant, terminals, proxy } = here
    const stop = beat(terminals, 100)
    await pause(300)
    stop()
    const mute = new Terminal(0, { qos: 1, keepalive: 1 })
    const diedAt = performance.now()
    proxy.now.dead = true
    // One that promised a packet a second and says nothing. [MQTT-3.1.2-24]
    const silent = new Reader('oem-cloud', { name: 'silent', clean: true })
    mute.destroy()
    silent.destroy()
    await until(async () => (await plant.ask<{ bridges: { connected: boolean }[] }>('GET', '/v1/status')).bridges[0]?.connected === false, 'the bridge to notice', 10_000)
    const bridgeMs = performance.now() - diedAt
    if (bridgeMs > 3_000 + SLACK_MS) given.fail(`the bridge noticed after ${bridgeMs.toFixed(0)} ms, with a keep alive of 2 s`)
    proxy.now.dead = false
    proxy.reset()
    const lonely = new Terminal(1, { qos: 1, keepalive: 1 })
    terminals[1]!.destroy()
    await lonely.connect(plant.ports.terminals)
    const saidAt = performance.now()
    await until(() => !lonely.connected, 'the gateway to give up the terminal', 10_000)
    const terminalMs = performance.now() - saidAt
    if (terminalMs > 1_500 + SLACK_MS || terminalMs < 1_000) given.fail(`the terminal was given up after ${terminalMs.toFixed(0)} ms, with a keep alive of 1 s`)
    await settle(here, given, 60_000)
    return { ...look(here, given, 3), bridgeMs: Math.round(bridgeMs), terminalMs: Math.round(terminalMs) }
  }),

  /** A broker that refuses. 0x97 quota: again; 0x87 not authorised: a dead letter; DISCONNECT 0x93: a smaller window; 0x95: the one that is too large is set aside. */
  N5: (given) => {
    const refused = new Map<number, number>()
    let quota = true
    let shout: number | undefined
    return site({ window: 32 }, {
      answer: ({ payload }, _nth, line) => {
        const marker = markerOf(payload) % SPAN
        if (marker === NEVER) return 0x87
        if (quota && marker % 10 === 3 && (refused.get(marker) ?? 0) < 1) {
          refused.set(marker, (refused.get(marker) ?? 0) + 1)
          return 0x97
        }
        if (shout === 0x93) {
          shout = undefined
          line.send({ cmd: 'disconnect', reasonCode: 0x93 })
          line.socket.end()
          return undefined
        }
        if (marker === TOO_LARGE) {
          line.send({ cmd: 'disconnect', reasonCode: 0x95 })
          line.socket.end()
          return undefined
        }
        return 0
      },
    }, async (here) => {
      const { cloud, plant, terminals } = here
      for (const terminal of terminals) terminal.give(40)
      await until(async () => terminals.every((terminal) => terminal.done) && (await plant.waitingFor('cloud')) === 0, 'what was refused for now', 30_000).catch((error: unknown) => given.fail(String(error)))
      quota = false
      const counters = await plant.counters()
      const dead = counters.get('parapet_bridge_dead_total{bridge="cloud"}') ?? 0
      const retried = counters.get('parapet_bridge_retried_total{bridge="cloud"}') ?? 0
      if (dead !== MACHINES) given.fail(`${dead} dead letters, not ${MACHINES}`)
      if (retried === 0) given.fail('nothing was tried again')
      shout = 0x93
      const before = cloud.connects.length
      for (const terminal of terminals) terminal.give(20)
      await until(() => cloud.connects.length > before, 'the bridge to come back', 10_000)
      cloud.mostUnanswered = 0
      cloud.answer = (arrived, _nth, line) => {
        setTimeout(() => acknowledge(line, arrived), 5)
        return undefined
      }
      for (const terminal of terminals) terminal.give(30)
      await until(async () => terminals.every((terminal) => terminal.done) && (await plant.waitingFor('cloud')) === 0, 'the rest', 30_000).catch((error: unknown) => given.fail(String(error)))
      const window = cloud.mostUnanswered
      if (window > 16) given.fail(`after 0x93 the window was ${window} of 32`)
      // Nothing that was acknowledged is without a trace: it arrived, or it is a dead letter.
      const seen = new Set(cloud.got.map(({ payload }) => markerOf(payload)))
      for (const { machine, acked } of terminals) for (const nth of acked) if (!seen.has(machine * SPAN + nth)) given.fail(`message ${nth} of machine ${machine} vanished`)
      return { acknowledged: terminals.reduce((sum, { acked }) => sum + acked.size, 0), dead, retried, windowAfter0x93: window }
    })
  },
}

const NEVER = 7
/** Not reached in the short form: the bridge's own tests have it. */
const TOO_LARGE = 9_999
/** Timers of a busy machine. */
const SLACK_MS = 1_500

function round(ms: number): number {
  return Math.round(ms * 10) / 10
}

if (import.meta.main) {
  const [scale = '20', seed = String(Math.floor(Math.random() * 2 ** 31)), ...cases] = process.argv.slice(2)
  await command('network', Number(seed), (say) => network({ scale: Number(scale), seed: Number(seed), say, ...(cases.length === 0 ? {} : { cases }) }))
}
