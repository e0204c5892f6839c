/**
 * A disk that is full (D1), that fails to sync (D2), and a quota that is reached (D4). No PUBACK for what is not stored, nothing
 * acknowledged is lost, the process lives, says why it is not ready, and goes on by itself when there is room again.
 *
 *     node test/fault/disk.ts [ROUNDS=5] [SEED] [D1 D2 D4]
 *
 * D1 uses a small tmpfs where mounting is permitted, and a limit on the size of files (RLIMIT_FSIZE) in any case.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cloud } from '../outlet/cloud.ts'
import { command } from './command.ts'
import { type Arrival, judge, markerOf, pause, Plant, type PlantOptions, Terminal, until } from './plant.ts'

export interface DiskOptions {
  readonly rounds: number
  readonly seed: number
  readonly cases?: readonly string[]
  readonly say?: (line: string) => void
}

export interface DiskResult {
  readonly cases: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly violations: readonly string[]
}

export async function disk({ rounds, cases = Object.keys(CASES), say }: DiskOptions): Promise<DiskResult> {
  const violations: string[] = []
  const figures: Record<string, Readonly<Record<string, unknown>>> = {}
  const one = async (name: string): Promise<void> => {
    figures[name] = await CASES[name]!(rounds, (text) => violations.push(`${name}: ${text}`))
    say?.(`${name} ${JSON.stringify(figures[name])}`)
  }
  if (rounds <= 1) await Promise.all(cases.map(one))
  else for (const name of cases) await one(name)
  return { cases: figures, violations }
}

type Fail = (text: string) => void
interface Site { readonly plant: Plant; readonly cloud: Cloud; readonly terminals: readonly Terminal[] }

const MACHINES = 2

async function site(options: Partial<PlantOptions>, play: (site: Site) => Promise<Readonly<Record<string, unknown>>>): Promise<Readonly<Record<string, unknown>>> {
  const cloud = await Cloud.open()
  const plant = new Plant({ machines: MACHINES, cloud: cloud.url, ...options })
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: n === 0 ? 1 : 2, window: 16 }))
  try {
    return await play({ plant, cloud, terminals })
  } finally {
    for (const terminal of terminals) terminal.destroy()
    await plant.remove()
    await cloud.stop()
  }
}

const acknowledged = (terminals: readonly Terminal[]): number => terminals.reduce((sum, { acked }) => sum + acked.size, 0)

/** Comes back as a terminal does, a second after it was cut; at once it would be a storm of its own making. */
function keepConnected(plant: Plant, terminals: readonly Terminal[]): () => void {
  const timer = setInterval(() => {
    for (const terminal of terminals) if (!terminal.connected && plant.running) void terminal.connect(plant.ports.terminals)
  }, 300)
  return () => clearInterval(timer)
}

/** Publishes until nothing is acknowledged any more. */
async function fillUp(terminals: readonly Terminal[], fail: Fail, limitMs: number): Promise<void> {
  const over = performance.now() + limitMs
  let last = -1
  for (;;) {
    for (const terminal of terminals) if (terminal.left < 100) terminal.give(500)
    await pause(400)
    const now = acknowledged(terminals)
    if (now === last) return
    last = now
    if (performance.now() > over) return fail('the disk was never full')
  }
}

async function readiness(plant: Plant): Promise<{ ready: boolean; codes: string[] }> {
  const said = await plant.ask<{ ready?: boolean; status?: string; reasons?: { code: string; severity: string }[] }>('GET', '/readyz')
  const codes = (said.reasons ?? []).map(({ code }) => code)
  return { ready: said.ready ?? said.status === 'ready', codes }
}

/** The cloud comes back, and everything acknowledged must be there. */
async function settle({ plant, cloud, terminals }: Site, fail: Fail, renumbered: number): Promise<{ readonly acknowledged: number; readonly duplicates: number }> {
  await until(() => terminals.every((terminal) => terminal.done), 'the terminals to be done', 30_000).catch((error: unknown) => fail(String(error)))
  await until(async () => (await plant.waiting()) === 0, 'the outbox to be empty', 60_000).catch((error: unknown) => fail(String(error)))
  const arrivals: Arrival[] = cloud.got.map(({ payload, connection, user }) => ({ marker: markerOf(payload), connection, id: user['parapet-id'] }))
  const verdict = judge('the cloud', arrivals, terminals, 50)
  for (const text of verdict.violations) fail(text)
  if (verdict.renumbered > renumbered) fail(`${verdict.renumbered} messages were stored twice`)
  return { acknowledged: acknowledged(terminals), duplicates: verdict.duplicates }
}

const CASES: Readonly<Record<string, (rounds: number, fail: Fail) => Promise<Readonly<Record<string, unknown>>>>> = {
  /** Full, twice over: as a file system, and as a limit for the process. */
  D1: async (_rounds, fail) => {
    const [filesystem, limit] = await Promise.all([full(fail, 'filesystem'), full(fail, 'limit')])
    return { filesystem, limit }
  },

  /** A failed fsync: what is on the disk is unknown from then on, and the outbox takes nothing more until a restart has looked. */
  D2: (_rounds, fail) => site({}, async (here) => {
    const { plant, cloud, terminals } = here
    await plant.start({ point: 'none', env: { PARAPET_FSYNC: '20' } })
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
    const stop = keepConnected(plant, terminals)
    await fillUp(terminals, fail, 20_000)
    const before = acknowledged(terminals)
    await pause(1_500)
    if (acknowledged(terminals) !== before) fail('something was acknowledged after the disk had failed to sync')
    const { ready, codes } = await readiness(plant)
    if (ready || !codes.includes('OUTBOX-UNHEALTHY')) fail(`after a failed fsync it says ${ready ? 'ready' : 'not ready'}: ${codes.join()}`)
    for (const terminal of terminals) terminal.stop()
    await plant.kill()
    for (const found of plant.examine()) fail(found)
    await plant.start()
    const found = await settle(here, fail, 2 * 16 * MACHINES)
    stop()
    return { ...found, acknowledgedBefore: before, arrivedBefore: cloud.got.length }
  }),

  /** The quota: the terminal keeps the message and its connection, and what is stored leaves when it can. */
  D4: (_rounds, fail) => site({ set: ['limits.outbox_bytes=1048576'] }, async (here) => {
    const { plant, cloud, terminals } = here
    await plant.start()
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
    await until(() => cloud.lines.length > 0, 'the bridge')
    await cloud.stop()
    const stop = keepConnected(plant, terminals)
    await fillUp(terminals, fail, 20_000)
    const stored = acknowledged(terminals)
    const closes = terminals.reduce((sum, terminal) => sum + terminal.closes, 0)
    const { reasons } = await plant.ask<{ reasons: { code: string }[] }>('GET', '/readyz')
    const codes = reasons.map(({ code }) => code)
    await cloud.start()
    for (const terminal of terminals) terminal.stop()
    const found = await settle(here, fail, 0)
    stop()
    if (closes > 0) fail(`terminals were cut ${closes} times at the quota`)
    return { ...found, storedAtQuota: stored, closes, codes }
  }),
}

async function full(fail: Fail, how: 'filesystem' | 'limit'): Promise<Readonly<Record<string, unknown>>> {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-disk-'))
  let mounted = false
  if (how === 'filesystem') {
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_KIB}k`, 'tmpfs', folder], { stdio: 'ignore' })
      mounted = true
    } catch {
      rmSync(folder, { recursive: true, force: true })
      return { skipped: 'mounting is not permitted' }
    }
  }
  const say: Fail = (text) => fail(`${how}: ${text}`)
  try {
    return await site(mounted ? { data: folder } : {}, async (here) => {
      const { plant, cloud, terminals } = here
      // The first start makes keys; then the limit can be near.
      if (mounted) writeFileSync(join(folder, 'ballast'), Buffer.alloc(SMALL_KIB * 256))
      if (mounted) await plant.start()
      else {
        await plant.start()
        await plant.kill('SIGTERM')
        await plant.start({ fileKib: SMALL_KIB / 2 })
      }
      for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
      await until(() => cloud.lines.length > 0, 'the bridge')
      await cloud.stop()
      const stop = keepConnected(plant, terminals)
      await fillUp(terminals, say, 30_000)
      const stored = acknowledged(terminals)
      const { ready, codes } = await readiness(plant)
      if (ready || !codes.includes('OUTBOX-UNHEALTHY')) say(`with a full disk it says ${ready ? 'ready' : 'not ready'}: ${codes.join()}`)
      if (!plant.running) say('the gateway ended')
      // Room again, without a restart, for what the terminals still hold.
      for (const terminal of terminals) terminal.stop()
      if (mounted) rmSync(join(folder, 'ballast'))
      else execFileSync('prlimit', ['--pid', String(plant.pid), '--fsize=unlimited'])
      // The disk itself is small, and looked at four times a minute.
      await until(async () => !(await readiness(plant)).codes.includes('OUTBOX-UNHEALTHY'), 'the outbox to be written again', 10_000).catch((error: unknown) => say(String(error)))
      const roomAt = performance.now()
      await until(() => acknowledged(terminals) > stored, 'the first acknowledgement', 10_000).catch((error: unknown) => say(String(error)))
      const resumedMs = Math.round(performance.now() - roomAt)
      await cloud.start()
      const found = await settle(here, say, 0)
      stop()
      await plant.kill('SIGTERM')
      return { ...found, storedWhenFull: stored, codes, resumedMs }
    })
  } finally {
    if (mounted) execFileSync('umount', [folder])
    rmSync(folder, { recursive: true, force: true })
  }
}

const SMALL_KIB = 2_048

if (import.meta.main) {
  const [rounds = '5', seed = '0', ...cases] = process.argv.slice(2)
  await command('disk', Number(seed), (say) => disk({ rounds: Number(rounds), seed: Number(seed), say, ...(cases.length === 0 ? {} : { cases }) }))
}
