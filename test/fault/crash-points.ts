/**
 * kill -9 at each of thirteen places on the way of a message (points.ts), again and again on the same data. After every kill the
 * gateway starts on what is there, terminals send again what was not acknowledged, and at the end everything that ever was must be
 * everywhere: at the cloud, at readers that are always there and at one that mostly is not.
 *
 *     node test/fault/crash-points.ts [KILLS-A-POINT=20] [SEED] [POINT...]
 */
import { createHash } from 'node:crypto'
import { Cloud } from '../outlet/cloud.ts'
import { type Arrival, CANARY, dice, judge, markerOf, pause, Plant, quantile, Reader, SPAN, Terminal, until } from './plant.ts'
import { command } from './command.ts'

export interface CrashPointOptions {
  /** Kills at each point. */
  readonly kills: number
  readonly seed: number
  readonly points?: readonly string[]
  readonly say?: (line: string) => void
}

export interface CrashPointResult {
  readonly kills: number
  readonly acknowledged: number
  readonly lost: number
  readonly unfiltered: number
  /** Of everything that arrived more than once: in all, the longest row of one machine, and what came under a new stable id. */
  readonly duplicates: number
  readonly longestRow: number
  readonly renumbered: number
  readonly counted: number
  readonly seen: number
  /** From the start of the process to the first PUBACK, median and worst. */
  readonly restartMs: { readonly median: number; readonly worst: number }
  readonly violations: readonly string[]
}

/** With the largest number of times that a point is passed before the kill: some are passed once a message, others once a group. */
export const POINTS: Readonly<Record<string, number>> = {
  P0: 12, P1: 200, P2: 200, P3: 200, P4: 300, P5: 12, P6: 12, P7: 12, P8: 200, P9: 40, P10: 40, P11: 8, P12: 8,
}

const MACHINES = 4
const WINDOW = 8
const BRIDGE_WINDOW = 16
/** Messages that each terminal may send between two kills: enough that every point is reached. */
const A_ROUND = 400

export async function crashPoints({ kills, seed, points = Object.keys(POINTS), say }: CrashPointOptions): Promise<CrashPointResult> {
  const random = dice(seed)
  const cloud = await Cloud.open()
  const plant = new Plant({ machines: MACHINES, cloud: cloud.url, window: BRIDGE_WINDOW })
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: n === MACHINES - 1 ? 2 : 1, window: WINDOW }))
  const readers = { steady: new Reader('oem-cloud', { name: 'steady' }), second: new Reader('oem-cloud', { name: 'second', qos: 2 }), absent: new Reader('oem-cloud', { name: 'absent' }), planner: new Reader('site-planner') }
  const violations: string[] = []
  const restarts: number[] = []
  let done = 0

  async function connect(withAbsent: boolean): Promise<void> {
    const { steady, second, absent, planner } = readers
    for (const reader of withAbsent ? [steady, second, planner, absent] : [steady, second, planner]) await reader.connect(plant.ports.recipients)
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
  }

  function disconnect(): void {
    for (const client of [...Object.values(readers), ...terminals]) client.destroy()
  }

  async function round(point: string, nth: number): Promise<void> {
    await plant.start({ point: `${point} ${nth}` })
    const { startedAt } = plant
    const withAbsent = done % 5 === 0
    await connect(withAbsent)
    if (withAbsent) await caughtUp()
    for (const terminal of terminals) terminal.give(A_ROUND)
    const over = Date.now() + ROUND_MS
    while (plant.running && Date.now() < over) await Promise.race([plant.ended, new Promise((next) => void setTimeout(next, 100))])
    // A point that was not reached is no test of it.
    if (plant.running) {
      violations.push(`${point} was not reached ${nth} times in a round`)
      await plant.kill()
    }
    for (const terminal of terminals) terminal.stop()
    const first = Math.min(...terminals.map(({ firstAckAt }) => firstAckAt ?? Infinity))
    if (Number.isFinite(first)) restarts.push(first - startedAt)
    disconnect()
    const { code, signal } = await plant.ended
    if (signal !== 'SIGKILL') violations.push(`${point}: the gateway ended by itself (${code ?? signal}): ${plant.logged.slice(-3).join(' ')}`)
    for (const found of plant.examine()) violations.push(`${point} ${nth}: ${found}`)
    for (const found of account()) violations.push(`${point} ${nth}, kill ${done + 1}: ${found}`)
    done++
  }

  /** Until readers get nothing more of what waited for them: a session keeps ten thousand messages. */
  async function caughtUp(): Promise<void> {
    for (let before = -1, now = 0; plant.running && now !== before;) {
      before = now
      await Promise.race([plant.ended, pause(250)])
      now = Object.values(readers).reduce((sum, { arrivals }) => sum + arrivals.length, 0)
    }
  }

  /** G1, right after a kill: what was acknowledged has arrived, waits for its session, or waits in the outbox. */
  function account(): string[] {
    const { sessions, destinations } = plant.stored()
    const atCloud = new Set(cloud.got.map(({ payload }) => markerOf(payload)))
    const found: string[] = []
    const look = (name: string, of: (marker: number) => boolean): void => {
      const missing = terminals.flatMap(({ machine, acked }) => [...acked].map((nth) => machine * SPAN + nth)).filter((marker) => !of(marker))
      if (missing.length > 0) found.push(`${name}: ${missing.length} acknowledged messages are nowhere, the first ${missing[0]}`)
    }
    look('the cloud', (marker) => atCloud.has(marker) || destinations.get('cloud')?.has(marker) === true)
    for (const [name, reader] of Object.entries(readers)) {
      if (name === 'planner') continue
      const { seen } = reader
      // A session is stored under a hash of its client id.
      const waiting = sessions.get(`oem-cloud/${createHash('sha256').update(name).digest('base64url').slice(0, 22)}`)
      look(`reader ${name}`, (marker) => seen.has(marker) || waiting?.has(marker) === true || destinations.get('local')?.has(marker) === true)
    }
    return found
  }

  try {
    // Once: somebody is signed on at each machine and has said yes, so that the planning output flows as well.
    await plant.start()
    for (const [n, terminal] of terminals.entries()) {
      await terminal.connect(plant.ports.terminals)
      await plant.grant(n, 'granted')
      await terminal.signOn()
    }
    await readers.absent.connect(plant.ports.recipients)
    disconnect()
    await plant.kill()
    for (let turn = 0; turn < kills; turn++) {
      for (const point of points) await round(point, 1 + Math.floor(random() * (POINTS[point] ?? 1)))
      say?.(`${done} kills, ${terminals.reduce((sum, { acked }) => sum + acked.size, 0)} acknowledged, ${violations.length} violations`)
    }

    // Nothing is killed any more: everything must come to its end.
    await plant.start()
    await connect(true)
    const missing = (reader: Reader): boolean => terminals.some(({ machine, acked }) => [...acked].some((nth) => !reader.seen.has(machine * SPAN + nth)))
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals to be done', SETTLE_MS).catch((error: unknown) => violations.push(String(error)))
    await until(async () => (await plant.waiting()) === 0 && !Object.values(readers).some(missing), 'everything to arrive', SETTLE_MS).catch((error: unknown) => violations.push(String(error)))
    disconnect()
    await plant.kill('SIGTERM')
    violations.push(...plant.examine())
    const ledger = await plant.verifyLedger()
    if (ledger !== '') violations.push(`the ledger does not verify: ${ledger.slice(0, 200)}`)

    const atCloud: Arrival[] = cloud.got.map(({ payload, connection, user }) => ({ marker: markerOf(payload), connection, id: user['parapet-id'] }))
    const occasions = done * 2 + 2
    const verdicts = [judge('the cloud', atCloud, terminals, occasions), ...Object.entries(readers).map(([name, { arrivals }]) => judge(`reader ${name}`, arrivals, terminals, occasions))]
    const unfiltered = cloud.got.filter(({ payload, topic, user }) => payload.includes(CANARY) || `${topic}${JSON.stringify(user)}`.includes(CANARY)).length + Object.values(readers).reduce((sum, { canaries }) => sum + canaries, 0)
    for (const verdict of verdicts) violations.push(...verdict.violations)
    if (unfiltered > 0) violations.push(`${unfiltered} messages left with bytes that no output names`)
    const worst = Math.max(...verdicts.map(({ longest }) => longest))
    // What was on the way to the destination when the kill came, and what the terminal had not been told of.
    const bound = ROWS_A_KILL * (BRIDGE_WINDOW * 2 + WINDOW)
    if (verdicts[0]!.duplicates > done * (BRIDGE_WINDOW * 2 + MACHINES * WINDOW + BRIDGE_ROOM)) violations.push(`${verdicts[0]!.duplicates} duplicates at the cloud in ${done} kills`)
    if (verdicts[0]!.longest > bound) violations.push(`${verdicts[0]!.longest} duplicates of one machine in a row at the cloud, more than ${bound}`)
    const counted = plant.counts().reduce((sum, { count }) => sum + count, 0)
    const seen = new Set(atCloud.map(({ id }) => id)).size + Object.values(readers).reduce((sum, reader) => sum + reader.seen.size, 0)
    if (counted < seen) violations.push(`${counted} disclosures are counted, ${seen} were seen`)
    return {
      kills: done, acknowledged: terminals.reduce((sum, { acked }) => sum + acked.size, 0), lost: verdicts.reduce((sum, { lost }) => sum + lost, 0), unfiltered,
      duplicates: verdicts.reduce((sum, { duplicates }) => sum + duplicates, 0), longestRow: worst, renumbered: verdicts[0]!.renumbered, counted, seen,
      restartMs: { median: Math.round(quantile(restarts, 0.5)), worst: Math.round(Math.max(0, ...restarts)) }, violations,
    }
  } finally {
    disconnect()
    await plant.remove()
    await cloud.stop()
  }
}

const ROUND_MS = 20_000
const SETTLE_MS = 60_000
/** Acknowledged by the cloud, but the mark that says so was not committed yet. */
const BRIDGE_ROOM = 64
/** A row may go on through several kills in which nothing new came. */
const ROWS_A_KILL = 4

if (import.meta.main) {
  const [kills = '20', seed = String(Math.floor(Math.random() * 2 ** 31)), ...points] = process.argv.slice(2)
  await command('crash points', Number(seed), (say) => crashPoints({ kills: Number(kills), seed: Number(seed), say, ...(points.length === 0 ? {} : { points }) }))
}
