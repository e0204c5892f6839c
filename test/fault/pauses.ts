/**
 * Loaded in front of a gateway (`--import`), this tells how long its event loop was away at a time. At SIGUSR2 the longest pauses since
 * the last one are written to PARAPET_PAUSES as JSON: by the clock, and by the processor time of the thread, which other programs on
 * the machine do not lengthen; and how late one turn in a hundred came.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const file = process.env['PARAPET_PAUSES'] ?? ''
let [clock, cpu] = [performance.now(), used()]
let worst = { clockMs: 0, cpuMs: 0 }
const everyMs = Number(process.env['PARAPET_PAUSES_EVERY'] ?? 1)
const delays = monitorEventLoopDelay({ resolution: everyMs })
delays.enable()

function used(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}

setInterval(() => {
  const [now, nowCpu] = [performance.now(), used()]
  worst = { clockMs: Math.max(worst.clockMs, now - clock), cpuMs: Math.max(worst.cpuMs, nowCpu - cpu) }
  ;[clock, cpu] = [now, nowCpu]
}, everyMs).unref()

process.on('SIGUSR2', () => {
  // What is kept is the time between two looks; the interval itself is no delay.
  const p99Ms = delays.count === 0 ? 0 : Math.max(0, delays.percentile(99) / 1e6 - everyMs)
  writeFileSync(`${file}.new`, JSON.stringify({ ...worst, p99Ms }))
  renameSync(`${file}.new`, file)
  worst = { clockMs: 0, cpuMs: 0 }
  delays.reset()
})
