/**
 * Rules that change again and again while messages come in, every second time to a file that must be refused, with a kill -9 in the
 * middle of a change now and then. Every message must have been handled under exactly one set of rules: what arrived is held against the
 * set that it names. Nothing is lost, the last good set stays, and a restart has the same one.
 *
 *     node test/fault/reload.ts [RELOADS=100] [SEED]
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { PROJECT } from '../e2e/stage.ts'
import { Cloud } from '../outlet/cloud.ts'
import { command } from './command.ts'
import { dice, markerOf, pause, Plant, quantile, SPAN, Terminal, until } from './plant.ts'
import { Stopwatch } from './stopwatch.ts'

export interface ReloadOptions {
  readonly reloads: number
  readonly seed: number
  /** Messages a second of all terminals. */
  readonly perSecond?: number
  /** kill -9 while rules change, so many times in all. */
  readonly kills?: number
  readonly say?: (line: string) => void
}

export interface ReloadResult {
  readonly reloads: number
  readonly refused: number
  readonly kills: number
  readonly acknowledged: number
  readonly lost: number
  /** Sets of rules under which messages arrived. */
  readonly sets: number
  /** Longest pause of the event loop without changes of the rules, and with them: by the clock, and in processor time of its thread. */
  readonly quietMs: Pauses
  readonly pauseMs: Pauses
  readonly ackMs: { readonly median: number; readonly p99: number; readonly worst: number }
  readonly violations: readonly string[]
}

interface Pauses { readonly clockMs: number; readonly cpuMs: number }
interface Rules { readonly active: { readonly hash: string; readonly policy: string }; readonly refused?: { readonly at: string } }

const MACHINES = 4
const TICK_MS = 20
/** What 825 becomes under each of the sets. */
const SETS = [{ rule: 'keep', soc: 825 }, { rule: '{ round: 50 }', soc: 850 }, { rule: '{ round: 100 }', soc: 800 }] as const

export async function reloads({ reloads: wanted, seed, perSecond = 200, kills = Math.floor(wanted / 25), say }: ReloadOptions): Promise<ReloadResult> {
  const random = dice(seed)
  const cloud = await Cloud.open()
  const plant = new Plant({ machines: MACHINES, cloud: cloud.url, planner: cloud.url })
  const rulesFile = plant.folder.file('rules/awp.yaml')
  const base = readFileSync(rulesFile, 'utf8')
  const good = SETS.map(({ rule }, n) => base.replace('id: faults,', `id: faults-${n},`).replace('soc_pct_x10: keep', `soc_pct_x10: ${rule}`))
  const bad = badOnes(base)
  const stopwatch = new Stopwatch(plant)
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: n === 0 ? 2 : 1 }))
  const violations: string[] = []
  const hashes = new Map<string, number>()
  let [refused, killed, current] = [0, 0, 0]
  const quiet = { clockMs: 0, cpuMs: 0 }
  const busy = { clockMs: 0, cpuMs: 0 }

  const start = async (): Promise<void> => {
    await plant.start(stopwatch.options)
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
  }
  const state = (): Promise<Rules> => plant.ask<Rules>('GET', '/v1/rules')
  const put = (text: string, whole: boolean): void => {
    // An editor may write in place; the gateway then sees a part of the file first.
    if (whole) {
      writeFileSync(`${rulesFile}.new`, text)
      renameSync(`${rulesFile}.new`, rulesFile)
    } else writeFileSync(rulesFile, text)
  }
  const pauses = async (into: { clockMs: number; cpuMs: number } | undefined): Promise<void> => {
    const read = await stopwatch.read()
    if (into === undefined) return
    into.clockMs = Math.max(into.clockMs, read.clockMs)
    into.cpuMs = Math.max(into.cpuMs, read.cpuMs)
  }
  const learn = async (): Promise<number> => {
    const { hash, policy } = (await state()).active
    const at = Number(policy.split('-')[1])
    const before = hashes.get(hash)
    if (before !== undefined && before !== at) violations.push(`two sets have the hash ${hash.slice(0, 8)}`)
    hashes.set(hash, at)
    return at
  }

  let feeding: NodeJS.Timeout | undefined
  try {
    put(good[0]!, true)
    await start()
    for (const [n, terminal] of terminals.entries()) {
      await plant.grant(n, 'granted')
      await terminal.signOn()
    }
    current = await learn()
    // Acquired after the yes, so that each message goes to both outputs.
    await pause(20)
    feeding = setInterval(() => {
      for (const terminal of terminals) if (terminal.left < perSecond) terminal.give(Math.max(1, Math.round((perSecond * TICK_MS) / 1_000 / MACHINES)))
    }, TICK_MS)
    // Warm, and what the loop's pauses are without any change.
    await pause(1_000)
    await pauses(undefined)
    await pause(1_500)
    await pauses(quiet)

    for (let n = 0; n < wanted; n++) {
      const isBad = n % 2 === 1
      const before = await state()
      const next = (current + 1 + Math.floor(random() * (SETS.length - 1))) % SETS.length
      put(isBad ? bad[Math.floor(n / 2) % bad.length]! : good[next]!, random() < 0.5)
      if (random() < 0.5) plant.signal('SIGHUP')
      if (killed < kills && n === Math.floor(((killed + 0.5) * wanted) / kills)) {
        await pause(random() * 300)
        await plant.kill()
        killed++
        const found = plant.examine()
        violations.push(...found)
        await start()
        const at = await learn()
        if (at !== current && at !== next) violations.push(`after a kill the set ${at} is active, neither the one before nor the one after`)
        current = at
        if (!isBad) await until(async () => (await learn()) === next, 'the set of the file after a kill', 20_000)
        if (!isBad) current = next
        await pauses(undefined)
        continue
      }
      if (isBad) {
        await until(async () => (await state()).refused?.at !== undefined && (await state()).refused?.at !== before.refused?.at, `the refusal of file ${n}`, 20_000)
        refused++
        if ((await learn()) !== current) violations.push(`a bad file changed the set (${n})`)
      } else {
        await until(async () => (await learn()) === next, `set ${next} (${n})`, 20_000)
        current = next
      }
      await pauses(busy)
      if (n % 10 === 9) say?.(`${n + 1} changes, ${refused} refused, ${killed} kills, longest pause ${busy.clockMs.toFixed(0)} ms (${busy.cpuMs.toFixed(0)} ms of processor time), ${violations.length} violations`)
    }

    clearInterval(feeding)
    for (const terminal of terminals) terminal.stop()
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals to be done', 30_000)
    await until(async () => (await plant.waiting()) === 0, 'everything to arrive', 60_000)
    for (const terminal of terminals) terminal.destroy()
    await plant.kill('SIGTERM')
    put(bad[0]!, true)
    await start()
    if ((await learn()) !== current) violations.push('a restart has another set')
    await plant.kill('SIGTERM')

    const lost = judge(cloud, terminals, hashes, violations)
    const latencies = terminals.flatMap((terminal) => terminal.latencies)
    return {
      reloads: wanted, refused, kills: killed, acknowledged: terminals.reduce((sum, { acked }) => sum + acked.size, 0), lost, sets: hashes.size,
      quietMs: rounded(quiet), pauseMs: rounded(busy),
      ackMs: { median: Math.round(quantile(latencies, 0.5)), p99: Math.round(quantile(latencies, 0.99)), worst: Math.round(Math.max(...latencies)) }, violations,
    }
  } finally {
    clearInterval(feeding)
    for (const terminal of terminals) terminal.destroy()
    await plant.remove()
    await cloud.stop()
  }
}

function rounded({ clockMs, cpuMs }: Pauses): Pauses {
  return { clockMs: Math.round(clockMs * 10) / 10, cpuMs: Math.round(cpuMs * 10) / 10 }
}

/** A wrong key, half a file, a test that fails, a field that does not exist, no YAML at all, a purpose without a basis. */
function badOnes(base: string): string[] {
  return [
    base.replace('outputs:', 'outptus:'),
    base.slice(0, Math.floor(base.length / 2)),
    `${base}tests:\n  - { name: wrong, given: { stream: status, country: FR, message: { machine_id: M-1, time_ms: 1763888864000, seq: 1 } }, expect: { service: nothing } }\n`,
    base.replace('soc_pct_x10: keep', 'soc_pct_x11: keep'),
    '\u0000\u0001: [',
    base.replace('service.operate: contract, ', ''),
  ]
}

/** Returns how many acknowledged messages are nowhere. */
function judge(cloud: Cloud, terminals: readonly Terminal[], hashes: ReadonlyMap<string, number>, violations: string[]): number {
  const schemas = loadSchemas([join(PROJECT, 'proto')])
  const under = { service: new Map<number, Set<string>>(), planning: new Map<number, Set<string>>() }
  for (const { topic, payload, user } of cloud.got) {
    const output = topic.startsWith('out/service/') ? 'service' : 'planning'
    const hash = user['parapet-rules'] ?? ''
    const marker = markerOf(payload)
    const set = hashes.get(hash)
    if (set === undefined) violations.push(`${marker} came under rules that never were active`)
    else if (output === 'service' && Number(schemas.decode('awp.v1.Status', payload)['soc_pct_x10']) !== SETS[set]!.soc) violations.push(`${marker} says it was handled under set ${set}, and was not`)
    const known = under[output].get(marker) ?? new Set()
    under[output].set(marker, known.add(hash))
  }
  let lost = 0
  for (const { machine, acked } of terminals) {
    for (const nth of acked) {
      const marker = machine * SPAN + nth
      const [service, planning] = [under.service.get(marker), under.planning.get(marker)]
      if (service === undefined || planning === undefined) lost++
      // Sent again after a kill it may have been handled twice, but each time under one set for both.
      else if ([...service].sort().join() !== [...planning].sort().join()) violations.push(`${marker} was handled under one set for one output and under another for the other`)
    }
  }
  if (lost > 0) violations.push(`${lost} acknowledged messages did not arrive`)
  return lost
}

if (import.meta.main) {
  const [count = '100', seed = String(Math.floor(Math.random() * 2 ** 31))] = process.argv.slice(2)
  await command('reload', Number(seed), (say) => reloads({ reloads: Number(count), seed: Number(seed), say }))
}
