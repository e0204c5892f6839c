/** Down-sampling end to end: rules -> pipeline -> outbox, with the clock in the test's hands. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadRules } from '../src/config/rules.ts'
import { createMetrics } from '../src/metrics.ts'
import { createCells } from '../src/minimise/cells.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import { openOutbox, type DurableOutbox } from '../src/outlet/outbox.ts'
import { createPipeline, type Pipeline, type PipelineParts } from '../src/pipeline.ts'
import { machineOf, offlineKeys } from '../src/rehearsal.ts'
import { buildSnapshot } from '../src/snapshot.ts'
import { ENGINE } from './engine.ts'
import { TestOutlet, turns } from './contract/records.ts'

const schemas = loadSchemas([resolve(import.meta.dirname, '../proto')])
const MINUTE = 60_000
/** 08:00 UTC. */
const EIGHT = Date.UTC(2026, 10, 23, 8)

let folder: string
let nowMs: number
let outbox: DurableOutbox
let pipeline: Pipeline
let metrics: ReturnType<typeof createMetrics>
let sent: { readonly atMs: number; readonly soc: number; readonly key: boolean }[]

function start(emit: string): void {
  const text = `
version: 1
policy: { id: p, effective: 2026-01-01, notice: "https://example.com/privacy" }
streams:
  status: { topic: "up/{fleet}/{machine}/status", message: awp.v1.Status, machine: machine_id, time: { field: time_ms, unit: ms } }
purposes: { service.operate: { about: "battery", clause: P10 } }
outputs:
  cloud:
    recipient: { id: oem-cloud, role: controller, region: EU }
    purpose: service.operate
    basis: contract
    to: { topic: "out/{machine_id}", qos: 1, via: [local] }
    streams:
      status:
        emit: ${emit}
        fields: { machine_id: { pseudonym: {} }, soc_pct_x10: { round: 10 }, key_on: keep, pack_mv: keep }
`
  const { policy, findings } = loadRules('emit.yaml', text, { schemas })
  if (policy === undefined) throw new Error(findings.map((one) => one.text).join('\n'))
  outbox = openOutbox({ file: join(folder, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs }, sweepMs: 0 })
  outbox.attach(Object.assign(new TestOutlet('local', true), {
    send: (record: { payload: Uint8Array }, done: (error: Error | undefined) => void) => {
      const message = schemas.decode('awp.v1.Status', record.payload)
      sent.push({ atMs: nowMs, soc: (message.soc_pct_x10 ?? 0) as number, key: (message.key_on ?? false) as boolean })
      done(undefined)
    },
  }))
  metrics = createMetrics()
  metrics.useRules(policy.outputs.map(({ id }) => id), policy.streams.map(({ id }) => id))
  const machine = machineOf({ id: 'SN-1', fleet: 'demo', country: 'FR' })
  pipeline = createPipeline({
    random: () => new Uint8Array(16), machines: () => ({ get: () => machine, size: 1, all: () => [] }),
    sessions: { decide: () => {} }, consent: {}, identities: { find: () => undefined }, outbox, cells: createCells(), metrics, verifyEvery: 1, ledgerHealthy: () => true,
  } as unknown as PipelineParts)
  pipeline.swap(buildSnapshot(policy, {
    keys: offlineKeys(), engine: ENGINE, keyId: '', metrics, sessions: { signOn: () => {}, signOff: () => {} }, windows: outbox,
    matcher: (streams) => () => ({ streams, machine: undefined, fleet: undefined }),
  }))
}

function status(atMs: number, body: { readonly soc?: number; readonly key?: boolean; readonly mv?: number }): void {
  const payload = schemas.encode('awp.v1.Status', { machine_id: 'SN-1', time_ms: String(atMs), soc_pct_x10: body.soc ?? 500, key_on: body.key ?? true, pack_mv: body.mv ?? 48_000 })
  pipeline.handle({ topic: 'up/demo/SN-1/status', payload, qos: 1, machine: 'SN-1', receivedAtMs: nowMs, isWill: false })
}

async function goOnTo(atMs: number): Promise<void> {
  await turns(3)
  nowMs = atMs
  outbox.release()
  await turns(3)
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-emission-'))
  nowMs = EIGHT
  sent = []
})

afterEach(async () => {
  await outbox.close()
  rmSync(folder, { recursive: true })
})

describe('a 1 Hz stream', () => {
  /** An hour of it: soc falls by 1 per mille a second from 3,600. */
  async function hour(restartAt?: number): Promise<void> {
    const emit = '{ every: 15m, take: last, hold: true }'
    start(emit)
    for (let second = 0; second < 3_600; second++) {
      if (second % 60 === 0) await goOnTo(EIGHT + second * 1_000)
      nowMs = EIGHT + second * 1_000
      if (second === restartAt) {
        await outbox.close()
        start(emit)
      }
      status(nowMs, { soc: 3_600 - second })
    }
    await goOnTo(EIGHT + 60 * MINUTE)
  }

  test('with `every: 15m, hold` sends one message a window, at its end: the last one', async () => {
    await hour()
    expect(sent.map(({ atMs }) => (atMs - EIGHT) / MINUTE)).toEqual([15, 30, 45, 60])
    expect(sent.map(({ soc }) => soc)).toEqual([2_700, 1_800, 900, 0])
  })

  test('also over a restart', async () => {
    await hour(1_000)
    expect(sent.map(({ atMs }) => (atMs - EIGHT) / MINUTE)).toEqual([15, 30, 45, 60])
  })
})

test('late data of a window that was sent is skipped, of one that was not it leaves at the end of the window that is open', async () => {
  start('{ every: 15m, take: last, hold: true }')
  status(EIGHT + MINUTE, { soc: 400 })
  await goOnTo(EIGHT + 20 * MINUTE)
  expect(sent).toHaveLength(1)
  status(EIGHT + 2 * MINUTE, { soc: 410 })
  status(EIGHT - 60 * MINUTE, { soc: 300 })
  await goOnTo(EIGHT + 29 * MINUTE)
  expect(sent).toHaveLength(1)
  await goOnTo(EIGHT + 30 * MINUTE)
  expect(sent.map(({ soc, atMs }) => [soc, (atMs - EIGHT) / MINUTE])).toEqual([[400, 20], [300, 30]])
  expect((await metrics.text()).split('\n').filter((line) => line.includes('sampled')).join()).toMatch(/ 1$/)
})

test('`first` leaves at once and the rest of its window not at all', async () => {
  start('{ every: 15m, take: first }')
  for (const minute of [1, 2, 14, 16]) {
    await goOnTo(EIGHT + minute * MINUTE)
    status(nowMs, { soc: minute * 10 })
  }
  await goOnTo(EIGHT + 17 * MINUTE)
  expect(sent.map(({ soc }) => soc)).toEqual([10, 160])
})

test('`max` keeps the message with the largest value, as the output sees it', async () => {
  start('{ every: 15m, take: { max: soc_pct_x10 } }')
  for (const soc of [410, 640, 500, 636]) status(EIGHT + MINUTE, { soc, key: soc === 636 })
  await goOnTo(EIGHT + 15 * MINUTE)
  // 636 is 640 after rounding: the later one of equals.
  expect(sent.map(({ soc, key }) => [soc, key])).toEqual([[640, true]])
})

test('`on_change` sends when a field differs from what left last, over a restart too', async () => {
  const emit = '{ on_change: [soc_pct_x10, key_on] }'
  start(emit)
  for (const [soc, key] of [[500, true], [502, true], [504, false], [501, false], [506, false]] as const) {
    status(nowMs, { soc, key })
    await turns(3)
  }
  await outbox.close()
  start(emit)
  status(nowMs, { soc: 511, key: false })
  status(nowMs, { soc: 511, key: true })
  await turns(3)
  expect(sent.map(({ soc, key }) => [soc, key])).toEqual([[500, true], [500, false], [510, false], [510, true]])
})

test('a terminal whose clock runs ahead keeps nothing back for years', async () => {
  start('{ every: 15m, hold: true }')
  status(EIGHT + 400 * 86_400_000, {})
  await goOnTo(EIGHT + 15 * MINUTE)
  expect(sent).toHaveLength(1)
})

test('when a message leaves tells its window and nothing finer: send times do not depend on event times', async () => {
  start('{ every: 1m, take: last, hold: true }')
  // Events at a random second of 600 windows; a contingency table of event second (before or after the middle) by send second.
  let seed = 4_711
  const random = (): number => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) / 2 ** 32
  const table = new Map<string, [number, number]>()
  for (let window = 0; window < 600; window++) {
    const began = EIGHT + window * MINUTE
    const second = Math.floor(random() * 60)
    nowMs = began + second * 1_000
    status(nowMs, { mv: 48_000 + window })
    // The sweep runs each second, at a phase of its own.
    const before = sent.length
    for (let tick = second; sent.length === before && tick < 130; tick++) await goOnTo(began + tick * 1_000 + 17)
    const at = String((sent.at(-1)!.atMs - began) % MINUTE)
    const row = table.get(at) ?? [0, 0]
    row[second < 30 ? 0 : 1]++
    table.set(at, row)
  }
  expect(sent).toHaveLength(600)
  // All leave at one second of the minute: chi-square with no degree of freedom left, which is independence itself.
  expect([...table.keys()]).toEqual(['17'])
})
