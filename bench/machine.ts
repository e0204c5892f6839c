/** What the benchmarks ask of the machine: which processors there are, who runs where, what a process has used, and what it was measured on. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem, type } from 'node:os'

/** What a result was made on. */
export interface Made {
  readonly at: string
  readonly commit: string
  /** The sources differed from the commit. */
  readonly changed: boolean
  readonly node: string
  readonly processor: string
  readonly processors: number
  readonly memory_gb: number
  readonly system: string
  /** Of other work on the machine, before it began: the load average of a minute. */
  readonly load: number
  readonly short: boolean
  readonly command: string
  readonly seconds: number
}

export function madeHere(command: string, isShort: boolean): Omit<Made, 'seconds'> {
  const git = (...words: string[]): string => spawnSync('git', words, { cwd: import.meta.dirname, encoding: 'utf8' }).stdout?.trim() ?? ''
  return {
    at: new Date().toISOString(), commit: git('rev-parse', '--short', 'HEAD'), changed: git('status', '--porcelain', '--', '../src', '.').split('\n').some((line) => line !== '' && !line.includes('bench/results/')),
    node: process.version.slice(1), processor: cpus()[0]?.model.trim() ?? '', processors: availableParallelism(), memory_gb: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release().split('.').slice(0, 2).join('.')}`, load: loadNow(), short: isShort, command,
  }
}

function loadNow(): number {
  return Number(fileOrNothing('/proc/loadavg').split(' ')[0]) || 0
}

/** Those that a process may run on; none where the system has no taskset. */
export function processorsOf(pid: number): number[] {
  const { stdout, status } = spawnSync('taskset', ['-c', '-p', String(pid)], { encoding: 'utf8' })
  if (status !== 0) return []
  return (stdout.split(': ')[1] ?? '').trim().split(',').flatMap((range) => {
    const [from = 0, to = from] = range.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, n) => from + n)
  })
}

/** All threads of a process. */
export function pin(pid: number, processors: readonly number[]): void {
  const { status } = spawnSync('taskset', ['-a', '-c', '-p', processors.join(), String(pid)], { stdio: 'ignore' })
  if (status !== 0) throw new Error(`process ${pid} cannot be pinned`)
}

/** Brokers on the first processor, this process on the second, for as long as `work` lasts; nobody anywhere in particular when there is one only. */
export async function apart<Result>(brokers: readonly { readonly pid: number }[], work: () => Promise<Result>): Promise<Result> {
  const processors = processorsOf(process.pid)
  if (processors.length < 2) return work()
  for (const { pid } of brokers) pin(pid, processors.slice(0, 1))
  pin(process.pid, processors.slice(1, 2))
  try {
    return await work()
  } finally {
    pin(process.pid, processors)
  }
}

/** Processor time of a process so far; 0 where the system does not tell. [proc(5), in ticks of 10 ms] */
export function cpuMs(pid: number): number {
  const words = fileOrNothing(`/proc/${pid}/stat`).split(') ')[1]?.split(' ') ?? []
  return (Number(words[11]) + Number(words[12])) * 10 || 0
}

/** Kilobytes that are resident; 0 where the system does not tell. */
export function rssKb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(fileOrNothing(`/proc/${pid}/status`))?.[1] ?? 0)
}

/** How many files this process may have open; many where the system does not tell. */
export function filesAllowed(): number {
  const most = /Max open files\s+(\d+)/.exec(fileOrNothing('/proc/self/limits'))?.[1]
  return most === undefined ? Infinity : Number(most)
}

function fileOrNothing(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
