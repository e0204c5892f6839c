/**
 * How long it takes, at rates that the clock gives (load.ts, `offer`): from when a message was due to its PUBACK, which the gateway sends
 * after it is on the disk, and to the subscriber. First the most that goes through is measured; then shares of it are offered, to plain
 * aedes as well. At half of it: a withdrawal, reloads of the rules, and three times as much for a while.
 *
 * The disclosure of one person is withdrawn and given again by turns, with their machine's messages on the way. Times of the admin API
 * are a client's, with HTTP.
 */
import { writeFileSync } from 'node:fs'
import type { Histogram } from 'hdr-histogram-js'
import { pause } from '../test/e2e/stage.ts'
import type { Plant } from '../test/fault/plant.ts'
import { Stopwatch } from '../test/fault/stopwatch.ts'
import { benchRules, startBroker, startGateway, type Broker, type Job } from './brokers.ts'
import type { Line } from './chart.ts'
import { tryDisk, type DiskFound } from './disk.ts'
import { figure, median, rounded } from './figures.ts'
import { Lane, type Offered } from './load.ts'
import { apart, rssKb } from './machine.ts'
import type { BenchOptions } from './options.ts'
import type { Row, Sheet } from './sheet.ts'

/** A message a piece, as the clock gives them: the most that goes through is measured so, too. */
const JOB: Job = { qos: 1, atOnce: 1, terminals: 50, outputs: 1, yes: 1, tls: false, session: true }
/** Shares of the maximum; the figures at a half are promised and have rounds of their own. */
const LOADS = { full: [0.1, 0.25, 0.5, 0.75, 0.9], short: [0.5] } as const
const HALF = 0.5
const OVER = 3
/** Of the stopwatch: with a look each millisecond the worst moments were twice as long. */
const LOOK_MS = 5
/** What a terminal keeps without an answer when it is too much: many times what clients do by default (Paho: 20). Without a bound the system's socket buffers would hold seconds of it. */
const UNANSWERED = 1_000
const WINDOW_MS = 250
const NEVER_S = 60
/** After what counts as recovered. */
const REST_MS = 1_000

interface Lengths {
  readonly rounds: number
  readonly roundMs: number
  readonly withdrawals: number
  readonly reloads: number
  readonly overMs: number
  readonly afterMs: number
}

const FULL: Lengths = { rounds: 5, roundMs: 3_000, withdrawals: 100, reloads: 10, overMs: 10_000, afterMs: 6_000 }
const SHORT: Lengths = { rounds: 2, roundMs: 500, withdrawals: 10, reloads: 2, overMs: 1_000, afterMs: 1_500 }

/** What is running, and where its figures go. */
interface Trial {
  readonly sheet: Sheet
  readonly plant: Plant
  readonly stopwatch: Stopwatch
  readonly lane: Lane
  readonly most: number
  readonly lengths: Lengths
}

export async function run({ sheet, isShort, only }: BenchOptions): Promise<void> {
  const lengths = isShort ? SHORT : FULL
  let stopwatch: Stopwatch | undefined
  const gateway = await startGateway(JOB, (plant) => (stopwatch = new Stopwatch(plant, LOOK_MS)).options)
  const { plant } = gateway
  let aedes: Broker | undefined
  const lanes: Lane[] = []
  try {
    if (plant === undefined || stopwatch === undefined) throw new Error('the gateway did not start')
    aedes = await startBroker('aedes', JOB)
    const watch = stopwatch
    const other = aedes
    await apart([gateway, other], async () => {
      for (const broker of [gateway, other]) lanes.push(await Lane.open(broker, JOB))
      const most = await mostOf(lanes, lengths)
      sheet.head(`latency: ${JOB.terminals} terminals, QoS 1, durable; the most that goes through is ${most.toLocaleString('en')} /s`)
      sheet.row({ bench: 'latency', case: 'the most of parapet, 50 terminals, durable', per_second: most }, `${'the most'.padEnd(44)} ${most.toLocaleString('en').padStart(9)} /s`)
      const trial: Trial = { sheet, plant, stopwatch: watch, lane: lanes[0]!, most, lengths }
      const wanted = (name: string): boolean => only === undefined || name.includes(only)
      if (wanted('load')) await againstLoad(trial, lanes[1]!, isShort ? LOADS.short : LOADS.full)
      if (wanted('withdrawal')) await withdrawal(trial)
      if (wanted('reload')) await reload(trial)
      if (wanted('overload')) await overload(trial)
    })
  } finally {
    for (const lane of lanes) lane.close()
    await gateway.stop()
    await aedes?.stop()
  }
}

async function mostOf([lane, other]: readonly Lane[], { rounds, roundMs }: Lengths): Promise<number> {
  const figures: number[] = []
  // Once to warm up, the other side as well.
  await other!.round(roundMs / 3)
  await lane!.round(roundMs)
  for (let round = 0; round < rounds; round++) figures.push((await lane!.round(roundMs / 3)).perSecond)
  return Math.round(median(figures))
}

async function againstLoad({ sheet, plant, stopwatch, lane, most, lengths: { rounds, roundMs } }: Trial, aedes: Lane, loads: readonly number[]): Promise<void> {
  const points: Record<string, [number, number][]> = {}
  const disk: DiskFound[] = []
  for (const load of loads) {
    for (const [name, side] of [['parapet', lane], ['aedes', aedes]] as const) {
      const found: { readonly offered: Offered; readonly loopMs: number; readonly pauseMs: number }[] = []
      await stopwatch.read()
      for (let round = 0; round < (load === HALF ? rounds : Math.min(rounds, 3)); round++) {
        const offered = await side.offer({ perSecond: most * load, ms: roundMs })
        const { p99Ms, clockMs } = await stopwatch.read()
        found.push({ offered, loopMs: p99Ms, pauseMs: clockMs })
        // By turns with what is promised, for it is not the same disk a minute later.
        if (load === HALF && name === 'parapet') disk.push(tryDisk(plant.folder.file('disk.bin'), roundMs / 3))
      }
      const ms = (part: number, of: (one: Offered) => Histogram): number[] => found.map(({ offered }) => quantileMs(of(offered), part))
      const row: Row = {
        bench: 'latency', case: `${name} at ${load * 100} % of the most`,
        ...figure('ack_p50_ms', ms(50, ({ acked }) => acked), 3), ...figure('ack_p99_ms', ms(99, ({ acked }) => acked), 3), ack_p999_ms: rounded(median(ms(99.9, ({ acked }) => acked)), 3),
        ...figure('arrival_p50_ms', ms(50, ({ arrived }) => arrived), 3), ...figure('arrival_p99_ms', ms(99, ({ arrived }) => arrived), 3),
        generator_late_p99_ms: rounded(median(ms(99, ({ late }) => late)), 3),
        ...(name === 'parapet' ? { ...figure('loop_p99_ms', found.map(({ loopMs }) => loopMs), 3), ...figure('loop_worst_ms', found.map(({ pauseMs }) => pauseMs), 1) } : {}),
        per_second: Math.round(most * load),
      }
      sheet.row(row, `${row.case.padEnd(44)} ${Number(row['per_second']).toLocaleString('en').padStart(9)} /s  PUBACK p50 ${row['ack_p50_ms']} p99 ${row['ack_p99_ms']} ms  arrival p50 ${row['arrival_p50_ms']} p99 ${row['arrival_p99_ms']} ms  generator late p99 ${row['generator_late_p99_ms']} ms${name === 'parapet' ? `  loop p99 ${row['loop_p99_ms']} ms` : ''}`)
      for (const part of ['p50', 'p99']) (points[`${name}, PUBACK ${part}`] ??= []).push([load * 100, Number(row[`ack_${part}_ms`])])
    }
  }
  const syncMs = disk.flatMap((one) => one.syncMs).sort((one, other) => one - other)
  const row: Row = {
    bench: 'latency', case: 'the disk by itself, 16 KiB 500 times a second', ...figure('wait_p99_ms', disk.map(({ waitP99Ms }) => waitP99Ms), 3),
    sync_p50_ms: rounded(median(syncMs), 3), sync_p99_ms: rounded(syncMs[Math.floor(syncMs.length * 0.99)] ?? 0, 3), sync_worst_ms: rounded(syncMs.at(-1) ?? 0, 1),
  }
  sheet.row(row, `${row.case.padEnd(44)} sync p50 ${row['sync_p50_ms']} p99 ${row['sync_p99_ms']} worst ${row['sync_worst_ms']} ms  one message in a hundred waits ${row['wait_p99_ms']} ms (${row['wait_p99_ms_min']} to ${row['wait_p99_ms_max']})`)
  const lines: Line[] = Object.entries(points).map(([name, list]) => ({ name, points: list }))
  if (loads.length > 1) sheet.curve({ name: 'Latency against load', x: 'load, % of the most the gateway takes', y: 'ms from when a message was due', log: 'y', lines })
}

function quantileMs(of: Histogram, part: number): number {
  return of.getValueAtPercentile(part) / 1_000
}

/** Under load; `work` goes on while messages are offered, which end when it does. */
async function underLoad(lane: Lane, perSecond: number, mostMs: number, work: () => Promise<void>): Promise<Offered> {
  let failed: unknown
  const working = work().catch((error: unknown) => { failed = error })
  const offered = await lane.offer({ perSecond, ms: mostMs, tracked: true })
  await working
  if (failed !== undefined) throw failed
  return offered
}

/** Times between two, so that the last one's messages are on the way again, and the admin API is not asked too often. */
const BETWEEN_MS = 60

async function withdrawal({ sheet, plant, lane, most, lengths: { withdrawals } }: Trial): Promise<void> {
  const took: number[] = []
  let [swept, wire] = [0, 0]
  const { reconnects } = lane
  await underLoad(lane, most * HALF, withdrawals * (BETWEEN_MS * 2 + 20), async () => {
    await pause(BETWEEN_MS)
    for (let n = 0; n < withdrawals; n++) {
      const began = performance.now()
      const { purged, on_the_wire: onTheWire } = await plant.grant(0, 'withdrawn')
      took.push(performance.now() - began)
      swept += purged
      wire += onTheWire
      await pause(BETWEEN_MS / 3)
      await plant.grant(0, 'granted')
      await pause(BETWEEN_MS)
    }
  })
  const at = (part: number): number => rounded(took.toSorted((one, other) => one - other)[Math.min(took.length - 1, Math.floor(took.length * part))] ?? Number.NaN)
  const row = { bench: 'latency', case: 'withdrawal at 50 % of the most', ack_p50_ms: at(0.5), ack_p99_ms: at(0.99), ack_worst_ms: at(1), withdrawals, purged: swept, on_the_wire: wire, reconnects: lane.reconnects - reconnects }
  sheet.row(row, `${row.case.padEnd(44)} ${withdrawals} times  acknowledged p50 ${row.ack_p50_ms} p99 ${row.ack_p99_ms} worst ${row.ack_worst_ms} ms  purged ${swept}, on the wire ${wire}`)
}

const ASKED_TIMES = 300
/** What the pauses are under this load without a reload. */
const QUIET_MS = 600

async function reload({ sheet, plant, stopwatch, lane, most, lengths: { reloads } }: Trial): Promise<void> {
  const pauses: { readonly clockMs: number; readonly cpuMs: number }[] = []
  const file = plant.folder.file('rules/awp.yaml')
  let quiet = { clockMs: 0, cpuMs: 0 }
  const offered = await underLoad(lane, most * HALF, reloads * 600 + QUIET_MS + 500, async () => {
    await pause(300)
    await stopwatch.read()
    await pause(QUIET_MS)
    quiet = await stopwatch.read()
    for (let n = 0; n < reloads; n++) {
      const policy = `bench-${n}`
      await stopwatch.read()
      writeFileSync(file, benchRules(JOB, policy))
      // Not more often: asking is load as well, and there is a limit to it.
      for (let times = 0; (await plant.ask<{ active: { policy: string } }>('GET', '/v1/rules')).active.policy !== policy; times++) {
        if (times > ASKED_TIMES) throw new Error(`the rules ${policy} did not become active`)
        await pause(BETWEEN_MS)
      }
      pauses.push(await stopwatch.read())
    }
  })
  const row: Row = {
    bench: 'latency', case: 'reload at 50 % of the most', ...figure('pause_ms', pauses.map(({ clockMs }) => clockMs), 1), pause_cpu_ms: rounded(Math.max(...pauses.map(({ cpuMs }) => cpuMs)), 1),
    quiet_ms: rounded(quiet.clockMs, 1), quiet_cpu_ms: rounded(quiet.cpuMs, 1), ack_p99_ms: rounded(quantileMs(offered.acked, 99), 3), reloads, lost: offered.lost,
  }
  sheet.row(row, `${row.case.padEnd(44)} ${reloads} times  longest pause ${row['pause_ms_max']} ms, ${row['pause_cpu_ms']} ms of processor time (without: ${row['quiet_ms']} and ${row['quiet_cpu_ms']} ms)  PUBACK p99 ${row['ack_p99_ms']} ms  lost ${row['lost']}`)
}

/** Three times what goes through, then half of it: how much memory, what was lost, and how long until all is as before. */
async function overload({ sheet, plant, lane, most, lengths: { overMs, afterMs } }: Trial): Promise<void> {
  const before = rssKb(plant.pid)
  let peak = before
  let next = 0
  const offered = await lane.offer({
    perSecond: most * OVER, ms: overMs, unanswered: UNANSWERED, then: { perSecond: most * HALF, ms: afterMs }, tracked: true,
    each(since) {
      if (since < next) return
      next = since + MEMORY_MS
      peak = Math.max(peak, rssKb(plant.pid))
    },
  })
  const row = {
    bench: 'latency', case: 'overload, 3 times the most', acked_per_second: Math.round((offered.ackedBefore * 1_000) / overMs), offered_per_second: Math.round(most * OVER),
    before_mb: Math.round(before / 1_024), peak_mb: Math.round(peak / 1_024), recovery_s: recoveredAfter(offered, overMs, afterMs), lost: offered.lost,
  }
  sheet.row(row, `${row.case.padEnd(44)} ${row.offered_per_second.toLocaleString('en').padStart(9)} /s offered, ${row.acked_per_second.toLocaleString('en')} acknowledged  memory ${row.before_mb} -> ${row.peak_mb} MB  recovery ${row.recovery_s} s  lost ${row.lost}`)
}

const MEMORY_MS = 100

/**
 * Seconds until the 99th percentile of all that follows is at most 20 ms, in quarters of one; a second must follow. One pause of the
 * collector later on is part of how it was before as well, so it is the rest that is judged, not its worst quarter.
 */
function recoveredAfter({ slowAtMs, acked, ackedBefore }: Offered, overMs: number, afterMs: number): number {
  const windows = Math.ceil(afterMs / WINDOW_MS)
  const allowed = (acked.totalCount - ackedBefore) / windows / 100
  const slow = Array.from({ length: windows }, () => 0)
  for (const atMs of slowAtMs) {
    const window = Math.floor((atMs - overMs) / WINDOW_MS)
    if (window >= 0) slow[Math.min(window, windows - 1)]!++
  }
  const first = slow.findIndex((_, from) => slow.slice(from).reduce((sum, count) => sum + count, 0) <= allowed * (windows - from))
  return first === -1 || (windows - first) * WINDOW_MS < REST_MS ? NEVER_S : rounded((first * WINDOW_MS) / 1_000)
}
