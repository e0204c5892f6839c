/**
 * [G1] [G5] What was acknowledged is never lost, whenever the process is killed: 20 times at random moments in a row, on the same
 * files.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openOutbox } from '../../src/outlet/outbox.ts'
import { STORAGE_KEYS } from '../contract/keys.ts'
import { TestOutlet, turns } from '../contract/records.ts'

const KILLS = 20

test(`${KILLS} times kill -9: 0 acknowledged records lost, repetitions only as a suffix, no delivery uncounted`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-crash-'))
  for (let run = 1; run <= KILLS; run++) await runAndKill(folder, run, Math.random() * 120)

  const outbox = openOutbox({ file: join(folder, 'outbox.db'), keys: STORAGE_KEYS, sweepMs: 0 })
  const rest = new TestOutlet('cloud', true)
  outbox.attach(rest)
  while (outbox.depth > 0) await turns()

  const lines = (name: string): string[] => readFileSync(join(folder, name), 'utf8').split('\n').filter((line) => line !== '')
  const withoutRun = (line: string): string => line.slice(line.indexOf(' ') + 1)
  const acked = lines('acked').map(withoutRun)
  const cloud = lines('cloud')
  const arrived = new Set([...cloud.map(withoutRun), ...rest.payloads])
  expect(acked.length).toBeGreaterThan(KILLS * 20)
  expect(acked.filter((line) => !arrived.has(line))).toEqual([])

  // Within a run a machine's records arrive in order; an order that goes back starts a new run or follows a failure.
  const first = new Map<string, number>()
  for (const line of [...cloud, ...rest.payloads.map((payload) => `last ${payload}`)]) {
    const [, machine, order] = line.split(' ')
    const newest = first.get(machine!) ?? 0
    if (!arrived.delete(`${machine} ${order}`)) continue
    expect(Number(order), `${machine} arrives for the first time after a later one`).toBeGreaterThan(newest)
    first.set(machine!, Number(order))
  }

  // Counts include what was delivered and not yet counted when the kill came: never fewer than the cloud saw.
  const counted = outbox.counts().reduce((sum, row) => sum + row.count, 0)
  expect(counted).toBeGreaterThanOrEqual(cloud.length)

  await outbox.close()
  rmSync(folder, { recursive: true })
}, 60_000)

/** Starts the child, lets it work for a while, kills it. */
async function runAndKill(folder: string, run: number, afterMs: number): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'child.ts'), folder, String(run)], { stdio: ['ignore', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.on('data', (chunk: Buffer) => { complaint += chunk.toString() })
  const ended = new Promise<string | null>((resolve) => child.on('exit', (_, signal) => resolve(signal)))
  await Promise.race([new Promise((resolve) => child.stdout.once('data', resolve)), ended])
  await new Promise((resolve) => setTimeout(resolve, afterMs))
  child.kill('SIGKILL')
  expect(await ended, complaint).toBe('SIGKILL')
}
