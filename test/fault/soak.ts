/**
 * A gateway that works for a long time: terminals at a steady rate, a reader, a cloud whose line is cut again and again. Memory, open
 * files and the database stay as they are, and nothing is lost.
 *
 *     node test/fault/soak.ts [MINUTES=30] [MESSAGES-A-SECOND=300]
 *
 * The line is cut every five minutes, in shorter runs six times in all.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { Cloud } from '../outlet/cloud.ts'
import { command } from './command.ts'
import { type Arrival, judge, markerOf, pause, Plant, quantile, Reader, Terminal, until } from './plant.ts'
import { Proxy } from './proxy.ts'

export interface SoakOptions {
  readonly minutes: number
  readonly perSecond?: number
  readonly say?: (line: string) => void
}

export interface SoakResult {
  readonly minutes: number
  readonly acknowledged: number
  readonly lost: number
  readonly duplicates: number
  readonly cuts: number
  /** In the middle of the run, at its end, and what a straight line through the second half makes of it. */
  readonly rssMb: { readonly middle: number; readonly end: number; readonly perHour: number }
  readonly files: { readonly middle: number; readonly end: number }
  /** Database and log, at their largest in the first half and in the second. */
  readonly databaseMb: { readonly first: number; readonly second: number }
  readonly violations: readonly string[]
}

interface Sample { readonly atMs: number; readonly rssMb: number; readonly files: number; readonly databaseMb: number }

const MACHINES = 10

export async function soak({ minutes, perSecond = 300, say }: SoakOptions): Promise<SoakResult> {
  const violations: string[] = []
  const atCloud: Arrival[] = []
  const cloud = await Cloud.open({
    answer: ({ payload, connection, user }) => {
      atCloud.push({ marker: markerOf(payload), connection, id: user['parapet-id'] })
      cloud.got.length = 0
      return 0
    },
  })
  const proxy = await Proxy.open(cloud.port)
  const plant = new Plant({ machines: MACHINES, cloud: proxy.url })
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: n % 5 === 0 ? 2 : 1 }))
  const reader = new Reader('oem-cloud')
  const samples: Sample[] = []
  try {
    await plant.start()
    await reader.connect(plant.ports.recipients)
    for (const [n, terminal] of terminals.entries()) {
      await terminal.connect(plant.ports.terminals)
      await plant.grant(n, 'granted')
      await terminal.signOn()
    }
    const runMs = minutes * 60_000
    const cutEveryMs = Math.min(300_000, runMs / 6.5)
    const began = performance.now()
    let [given, cuts, nextSample] = [0, 0, 0]
    for (let at = 0; at < runMs; at = performance.now() - began) {
      for (const due = (at / 1_000) * perSecond; given < due; given++) terminals[given % MACHINES]!.give(1)
      for (const terminal of terminals) terminal.latencies.length = 0
      if (at > (cuts + 1) * cutEveryMs) {
        cuts++
        // In turn: reset, and dead without a word until it is reset.
        if (cuts % 2 === 0) proxy.now.dead = true
        else proxy.now.refuses = true
        if (cuts % 2 === 1) proxy.reset()
        setTimeout(() => {
          proxy.now.dead = proxy.now.refuses = false
          if (cuts % 2 === 0) proxy.reset()
        }, Math.min(20_000, cutEveryMs / 4))
      }
      if (at >= nextSample) {
        nextSample += Math.min(10_000, runMs / 60)
        samples.push({ atMs: at, rssMb: plant.rssKb / 1_024, files: plant.files, databaseMb: databaseMb(plant) })
        const last = samples.at(-1)!
        if (samples.length % 10 === 0) say?.(`${(at / 60_000).toFixed(1)} min: ${last.rssMb.toFixed(0)} MB, ${last.files} files, database ${last.databaseMb.toFixed(1)} MB, ${cuts} cuts, ${terminals.reduce((sum, { acked }) => sum + acked.size, 0)} acknowledged, ${violations.length} violations`)
      }
      await pause(5)
    }
    for (const terminal of terminals) terminal.stop()
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals', 30_000).catch((error: unknown) => violations.push(String(error)))
    await until(async () => (await plant.waiting()) === 0, 'the outbox to be empty', 150_000).catch((error: unknown) => violations.push(String(error)))
    reader.destroy()
    for (const terminal of terminals) terminal.destroy()
    await plant.kill('SIGTERM')
    violations.push(...plant.examine())
    const verdict = judge('the cloud', atCloud, terminals, cuts + 1)
    const local = judge('the reader', reader.arrivals, terminals, 0)
    violations.push(...verdict.violations, ...local.violations)
    if (reader.closes > 1) violations.push(`the reader was cut ${reader.closes} times`)

    const half = samples.filter(({ atMs }) => atMs > runMs / 2)
    const fifth = (from: number, of: (sample: Sample) => number): number => quantile(samples.filter(({ atMs }) => atMs >= runMs * from && atMs < runMs * (from + 0.2)).map(of), 0.5)
    const rssMb = { middle: Math.round(fifth(0.4, ({ rssMb: mb }) => mb)), end: Math.round(fifth(0.8, ({ rssMb: mb }) => mb)), perHour: Math.round(slope(half.map(({ atMs, rssMb: mb }) => [atMs / 3_600_000, mb]))) }
    const files = { middle: fifth(0.4, ({ files: n }) => n), end: fifth(0.8, ({ files: n }) => n) }
    const largest = (list: readonly Sample[]): number => Math.round(Math.max(...list.map(({ databaseMb: mb }) => mb)) * 10) / 10
    const sizes = { first: largest(samples.filter(({ atMs }) => atMs <= runMs / 2)), second: largest(half) }
    // The collector works in waves of some ten megabytes; a leak of one record in a hundred would be beyond that in half an hour.
    if (rssMb.end - rssMb.middle > WAVES_MB) violations.push(`memory grew from ${rssMb.middle} to ${rssMb.end} MB`)
    if (files.end > files.middle + 3) violations.push(`open files grew from ${files.middle} to ${files.end}`)
    if (sizes.second > sizes.first * 1.3 + 4) violations.push(`the database grew from ${sizes.first} to ${sizes.second} MB`)
    return {
      minutes, acknowledged: terminals.reduce((sum, { acked }) => sum + acked.size, 0), lost: verdict.lost + local.lost, duplicates: verdict.duplicates, cuts, rssMb, files, databaseMb: sizes, violations,
    }
  } finally {
    for (const client of [...terminals, reader]) client.destroy()
    await plant.remove()
    await proxy.close()
    await cloud.stop()
  }
}

const WAVES_MB = 30

function databaseMb(plant: Plant): number {
  return ['outbox.db', 'outbox.db-wal', 'ledger.db', 'ledger.db-wal'].reduce((sum, name) => sum + (statSync(join(plant.data, name), { throwIfNoEntry: false })?.size ?? 0), 0) / 1e6
}

/** Of the straight line through these points. [least squares] */
function slope(points: readonly (readonly [number, number])[]): number {
  const [x, y] = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis]!, 0) / points.length) as [number, number]
  const above = points.reduce((sum, [one, other]) => sum + (one - x) * (other - y), 0)
  return above / points.reduce((sum, [one]) => sum + (one - x) ** 2, 0)
}

if (import.meta.main) {
  const [minutes = '30', perSecond = '300'] = process.argv.slice(2)
  await command('soak', 0, (say) => soak({ minutes: Number(minutes), perSecond: Number(perSecond), say }))
}
