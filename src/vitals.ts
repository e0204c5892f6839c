/**
 * What the gateway stands on: room on the disk, the clock, the event loop, the process, and how long messages wait. Looked at every few
 * seconds, so that readiness costs nothing to ask for; the figures of the process are taken at a scrape.
 */
import { readdir } from 'node:fs/promises'
import { statfsSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Clock } from './domain/ports.ts'
import type { Metrics } from './metrics.ts'

export type AddReason = (code: string, severity: 'error' | 'warning', text: string, mend: string) => void

/** Of a file system, in bytes. */
export interface Space {
  readonly freeBytes: number
  readonly sizeBytes: number
}

export interface Backlog {
  /** `local`, or the name of a bridge. */
  readonly destination: string
  /** When the oldest message came that it has not taken; undefined when none waits. */
  readonly oldestAtMs: number | undefined
  /** `send_within` of the output that is thrown away first; undefined = none of them is. */
  readonly sendWithinMs: number | undefined
}

export interface VitalsParts {
  readonly clock: Clock
  /** The data folder. */
  readonly folder: string
  readonly space?: ((folder: string) => Space) | undefined
  /** By how much the outbox may still grow. */
  readonly outboxRoom: () => number
  readonly backlogs: () => readonly Backlog[]
}

export class Vitals {
  readonly #parts: VitalsParts
  readonly #space: (folder: string) => Space
  readonly #loop = new LoopDelay()
  /** Undefined while the system does not say. */
  #disk: Space | undefined
  #backlogs: readonly Backlog[] = []
  #at: { readonly now: number; readonly monotonic: number } | undefined
  #leap: { readonly atMs: number; readonly byMs: number } | undefined

  constructor(parts: VitalsParts) {
    this.#parts = parts
    this.#space = parts.space ?? spaceOf
    this.#lookAtDisk()
  }

  /** To be called every second or so. Never throws. */
  observe(): void {
    this.#lookAtClock()
    this.#lookAtDisk()
    this.#loop.roll()
    try {
      this.#backlogs = this.#parts.backlogs()
    } catch {
      // A disk that refuses is what the outbox itself tells of.
      this.#backlogs = []
    }
  }

  #lookAtDisk(): void {
    try {
      this.#disk = this.#space(this.#parts.folder)
    } catch {
      this.#disk = undefined
    }
  }

  /** Set back is for who remembers the newest time that was seen; a leap forward shows only beside a clock that nobody can set. */
  #lookAtClock(): void {
    const { clock } = this.#parts
    const at = { now: clock.now(), monotonic: clock.monotonic() }
    const before = this.#at
    this.#at = at
    if (before === undefined) return
    const byMs = at.now - before.now - (at.monotonic - before.monotonic)
    if (byMs > LEAP_MS) this.#leap = { atMs: at.monotonic, byMs }
  }

  /** What /readyz has to say of it. */
  tell(add: AddReason): void {
    const disk = this.#disk
    if (disk !== undefined && disk.freeBytes < DISK_LAST_BYTES) {
      add('DISK-LOW', 'error', `The disk of the data folder has ${sizeOf(disk.freeBytes)} left: soon neither messages nor choices of people can be stored.`, 'Make room on it now. The gateway itself gives room back only as its destinations take their messages.')
    } else if (disk !== undefined && disk.freeBytes < Math.min(disk.sizeBytes / 10, DISK_BYTES)) {
      add('DISK-LOW', 'warning', `The disk of the data folder has ${sizeOf(disk.freeBytes)} of ${sizeOf(disk.sizeBytes)} left.`, 'See what fills it, and make room before the outbox has none.')
    } else if (disk !== undefined && disk.freeBytes < this.#parts.outboxRoom()) {
      add('DISK-LOW', 'warning', `The disk of the data folder has ${sizeOf(disk.freeBytes)} left, and the outbox may still grow by ${sizeOf(this.#parts.outboxRoom())}.`, 'Make room, or lower limits.outbox_bytes to what the disk can hold: then terminals keep their messages in time.')
    }
    const now = this.#parts.clock.monotonic()
    if (this.#leap !== undefined && now - this.#leap.atMs < LEAP_SHOWN_MS) {
      add('CLOCK-UNSURE', 'warning', `The clock leapt forward by ${durationOf(this.#leap.byMs)}: a yes with a term may have ended by it.`, 'See whether the time is right now. If it is, this goes by itself; if not, set it, and see what the ledger says was ended.')
    }
    for (const { destination, oldestAtMs, sendWithinMs } of this.#backlogs) {
      if (oldestAtMs === undefined) continue
      const ageMs = this.#parts.clock.now() - oldestAtMs
      if (ageMs <= (sendWithinMs === undefined ? BACKLOG_MS : sendWithinMs / 2)) continue
      const end = sendWithinMs === undefined ? '' : `; what waits for ${durationOf(sendWithinMs)} is thrown away, as its output says`
      add('BACKLOG-OLD', 'warning', `Messages for ${destination === 'local' ? 'recipients here' : `the bridge ${destination}`} have waited for ${durationOf(ageMs)}${end}.`, 'See parapet status for why they do not leave. If the outage lasts, give the output a longer `send_within`.')
    }
    if (this.#loop.isSlow) add('EVENT-LOOP-SLOW', 'warning', `The process is too busy: one turn in a hundred comes more than ${SLOW_MS} ms late, and everybody waits as long.`, 'See what else runs on this machine, and what came with the last change of rules: fewer machines for this gateway, or a faster processor.')
  }

  async gauges(metrics: Metrics): Promise<void> {
    const { clock } = this.#parts
    metrics.gauge('disk_free_bytes', this.#disk?.freeBytes ?? 0)
    metrics.gauge('disk_size_bytes', this.#disk?.sizeBytes ?? 0)
    const { p50, p99, max } = this.#loop.seconds
    metrics.gauge('event_loop_delay_seconds', p50, 'p50')
    metrics.gauge('event_loop_delay_seconds', p99, 'p99')
    metrics.gauge('event_loop_delay_seconds', max, 'max')
    for (const { destination, oldestAtMs } of this.#backlogs) metrics.gauge('queue_age_seconds', oldestAtMs === undefined ? 0 : Math.max(0, clock.now() - oldestAtMs) / 1_000, destination)
    const { rss, heapUsed, external } = process.memoryUsage()
    metrics.gauge('process_memory_bytes', rss, 'resident')
    metrics.gauge('process_memory_bytes', heapUsed, 'heap')
    metrics.gauge('process_memory_bytes', external, 'external')
    const { user, system } = process.cpuUsage()
    metrics.gauge('process_cpu_seconds_total', (user + system) / 1e6)
    metrics.gauge('process_handles', process.getActiveResourcesInfo().length)
    metrics.gauge('process_open_fds', await readdir('/proc/self/fd').then(({ length }) => length, () => 0))
  }

  close(): void {
    this.#loop.close()
  }
}

/** So much more than the time that passed must the clock show: NTP steps of a few seconds are ordinary. */
const LEAP_MS = 60_000
const LEAP_SHOWN_MS = 600_000
const DISK_BYTES = 1_073_741_824
/** What the write-ahead logs of three databases may take. */
const DISK_LAST_BYTES = 67_108_864
const BACKLOG_MS = 86_400_000
const SLOW_MS = 250

function spaceOf(folder: string): Space {
  const { bavail, blocks, bsize } = statfsSync(folder)
  return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize }
}

function sizeOf(bytes: number): string {
  return bytes < 1_073_741_824 ? `${Math.floor(bytes / 1_048_576)} MiB` : `${(bytes / 1_073_741_824).toFixed(1)} GiB`
}

function durationOf(ms: number): string {
  return ms < 120_000 ? `${Math.round(ms / 1_000)} s` : ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`
}

/** Delays of the window in hand and of the one before it, so that two who scrape do not take each other's figures away. */
class LoopDelay {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  #began = performance.now()
  #last: Delays = NO_DELAYS
  #slowWindows = 0

  constructor() {
    this.#histogram.enable()
  }

  get seconds(): Delays {
    const now = this.#now()
    return { p50: Math.max(now.p50, this.#last.p50), p99: Math.max(now.p99, this.#last.p99), max: Math.max(now.max, this.#last.max) }
  }

  /** Not for one long turn: for half a minute on end. */
  get isSlow(): boolean {
    return this.#slowWindows >= 2
  }

  roll(): void {
    if (performance.now() - this.#began < WINDOW_MS) return
    this.#last = this.#now()
    this.#slowWindows = this.#last.p99 * 1_000 > SLOW_MS ? this.#slowWindows + 1 : 0
    this.#began = performance.now()
    this.#histogram.reset()
  }

  close(): void {
    this.#histogram.disable()
  }

  /** What the histogram keeps is the time between two looks, of which the interval itself is no delay. */
  #now(): Delays {
    const histogram = this.#histogram
    if (histogram.count === 0) return NO_DELAYS
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1e3)
    return { p50: late(histogram.percentile(50)), p99: late(histogram.percentile(99)), max: late(histogram.max) }
  }
}

interface Delays {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const NO_DELAYS: Delays = { p50: 0, p99: 0, max: 0 }
const RESOLUTION_MS = 20
const WINDOW_MS = 15_000
