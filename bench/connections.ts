/**
 * What a gateway takes without traffic: from its start to the first PUBACK, the memory of connections that say nothing, and how fast a
 * backlog leaves (test/fault/backlog.ts). Plain aedes holds as many connections beside it.
 */
import { pause } from '../test/e2e/stage.ts'
import { backlog } from '../test/fault/backlog.ts'
import { startBroker, type Broker, type Job } from './brokers.ts'
import { figure, rounded } from './figures.ts'
import { Client } from './load.ts'
import { filesAllowed, rssKb } from './machine.ts'
import type { BenchOptions } from './options.ts'
import type { Row } from './sheet.ts'

const IDLE = { full: 5_000, short: 1_000 } as const
/** The short form leaves it out: a few records have left before anybody looks, and test/fault/backlog.test.ts is about their order. */
const RECORDS = 100_000
const STARTS = { full: 5, short: 1 } as const
const JOB: Job = { qos: 1, terminals: 8, outputs: 1, yes: 1, tls: false }
/** What is open beside the connections. */
const SPARE_FILES = 200
const CONNECTS_AT_ONCE = 50
/** Without a timer a process gives memory back only when it is asked for more: so long it may come to rest. */
const REST = { full: 3_000, short: 500 } as const

export async function run({ sheet, isShort, only }: BenchOptions): Promise<void> {
  const length = isShort ? 'short' : 'full'
  const wanted = (name: string): boolean => only === undefined || name.includes(only)
  const add = (row: Row, text: string): void => sheet.row(row, `${row.case.padEnd(44)} ${text}`)
  sheet.head('connections, start and backlog')
  if (wanted('start')) {
    const found = await starts(STARTS[length])
    add({ bench: 'connections', case: 'start', ...figure('listens_ms', found.map(({ ms }) => ms), 0), ...figure('rss_mb', found.map(({ mb }) => mb), 0) }, `listens after ${found.map(({ ms }) => Math.round(ms)).join(', ')} ms, with ${found.map(({ mb }) => Math.round(mb)).join(', ')} MB`)
  }
  if (wanted('idle')) {
    // This process and the broker have a file each for a connection.
    const count = Math.min(IDLE[length], filesAllowed() - SPARE_FILES)
    if (count < IDLE[length]) sheet.head(`  only ${count} connections: this process may open ${filesAllowed()} files, see ulimit -n`)
    for (const kind of ['aedes', 'parapet'] as const) {
      const { each, before, tookMs } = await idle(kind, count, REST[length])
      add({ bench: 'connections', case: `${kind}, idle connections`, rss_kb_each: each, connections: count, rss_mb_before: before, connects_per_second: Math.round((count * 1_000) / tookMs) }, `${count} of them ${each} KB each on top of ${before} MB, ${Math.round((count * 1_000) / tookMs)} connected a second`)
    }
  }
  if (!isShort && wanted('backlog')) {
    const { records, drainPerSecond, ingestPerSecond, ingestMs, firstAckMs, firstAckEmptyMs, rssMb, lost, violations } = await backlog({ records: RECORDS })
    for (const violation of violations) sheet.head(`  ${violation}`)
    add(
      { bench: 'connections', case: 'backlog', drain_per_second: drainPerSecond, records, ingest_per_second: ingestPerSecond, ingest_p99_ms: ingestMs.p99, first_ack_ms: firstAckMs, first_ack_empty_ms: firstAckEmptyMs, peak_mb: rssMb.peak, lost, violations: violations.length },
      `${records} records leave at ${drainPerSecond.toLocaleString('en')} /s while ${ingestPerSecond} /s come in (PUBACK p99 ${ingestMs.p99} ms), first PUBACK after ${firstAckMs} ms (empty ${firstAckEmptyMs}), at most ${rssMb.peak} MB`,
    )
  }
}

/** As it is shipped, with nothing compiled before; the first start of a data folder, which makes keys, and then others of the same. */
async function starts(times: number): Promise<{ readonly ms: number; readonly mb: number }[]> {
  const found: { readonly ms: number; readonly mb: number }[] = []
  const broker = await startBroker('parapet', JOB)
  const { plant } = broker
  try {
    if (plant === undefined) throw new Error('the gateway did not start')
    for (let n = 0; n < times; n++) {
      await plant.kill('SIGTERM')
      await plant.start({ warm: false })
      found.push({ ms: performance.now() - plant.startedAt, mb: plant.rssKb / 1_024 })
    }
  } finally {
    await broker.stop()
  }
  return found
}

/** Kilobytes of one connection. */
async function idle(kind: 'aedes' | 'parapet', count: number, restMs: number): Promise<{ readonly each: number; readonly before: number; readonly tookMs: number }> {
  const broker: Broker = await startBroker(kind, { ...JOB, terminals: count, yes: 0 })
  const clients: Client[] = []
  try {
    // A few first: what the first connections of all make the engine load and compile is not a connection's.
    const open = async (from: number, to: number): Promise<void> => {
      for (let at = from; at < to; at += CONNECTS_AT_ONCE) {
        clients.push(...await Promise.all(Array.from({ length: Math.min(CONNECTS_AT_ONCE, to - at) }, (_, n) => Client.open(broker.terminals, undefined, `M-${at + n}`, `M-${at + n}`, SILENT))))
      }
    }
    const first = Math.floor(count / 20)
    await open(0, first)
    await pause(restMs)
    const before = rssKb(broker.pid)
    const began = performance.now()
    await open(first, count)
    const tookMs = performance.now() - began
    await pause(restMs)
    return { each: rounded((rssKb(broker.pid) - before) / (count - first), 1), before: Math.round(before / 1_024), tookMs }
  } finally {
    for (const { socket } of clients) socket.destroy()
    await broker.stop()
  }
}

const SILENT = { packet: (): void => undefined, read: (): void => undefined } as const
