/** What each output may take of the outbox, and what happens at the bound. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { OutputId } from '../../src/domain/ids.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'
import { openOutbox, type DurableOutbox, type OutboxOptions } from '../../src/outlet/outbox.ts'
import { record, TestOutlet, turns } from '../contract/records.ts'

let folder: string
let outbox: DurableOutbox

function start(options: Partial<OutboxOptions> = {}): void {
  outbox = openOutbox({ file: join(folder, 'outbox.db'), sweepMs: 0, quotaBytes: 100_000, ...options })
}

/** Accepts so many numbered records of 1,000 bytes. */
async function fill(output: string, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    expect(canTake(record({ output: output as OutputId, payload: String(n).padEnd(920, '.'), subjects: [] }))).toBe(true)
    if (n % 20 === 0) await turns(2)
  }
}

function canTake(given: OutboxRecord): boolean {
  try {
    outbox.accept(given)
    return true
  } catch (cause) {
    expect(cause).toMatchObject({ code: 'OUTBOX-FULL' })
    return false
  }
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-room-'))
})

afterEach(async () => {
  await outbox.close()
  rmSync(folder, { recursive: true })
})

describe('a quota of 100 records', () => {
  test('one output takes half of it, the others what is left but a tenth, safety and legal records that too', async () => {
    start()
    expect(await taken('cloud')).toBe(50)
    expect(await taken('planner')).toBe(40)
    expect(await taken('billing')).toBe(0)
    expect(await taken('safety', 'safety')).toBe(10)
    expect(await taken('legal', 'legal')).toBe(0)
  })

  test('is known again after a restart', async () => {
    start()
    await taken('cloud')
    await outbox.close()
    start()
    expect(await taken('cloud')).toBe(0)
    expect(await taken('planner')).toBe(40)
  })

  test('what was delivered makes room for its output', async () => {
    start()
    await taken('cloud')
    outbox.attach(new TestOutlet('cloud', true))
    await turns(10)
    expect(outbox.bytes).toBe(0)
    expect(outbox.room('cloud' as OutputId, 'ordinary', 920)).toBe(true)
  })

  test('an output with a share of its own keeps to it', async () => {
    start({ shareOf: (output) => (output === 'cloud' ? { bytes: 20_000, dropOldest: false } : undefined) })
    expect(await taken('cloud')).toBe(20)
  })

  test('an output that lets its oldest go takes everything and keeps the newest, in order', async () => {
    start({ shareOf: () => ({ bytes: 20_000, dropOldest: true }) })
    await fill('cloud', 200)
    await turns(3)
    expect(outbox.bytes).toBeLessThanOrEqual(20_000)
    expect(outbox.stats.purged.quota).toBe(200 - outbox.depth)
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    await turns(20)
    const left = cloud.payloads.map((payload) => Number.parseInt(payload, 10))
    expect(left.at(-1)).toBe(199)
    expect(left).toEqual(Array.from({ length: left.length }, (_, i) => 200 - left.length + i))
    expect(left.length).toBeGreaterThanOrEqual(18)
  })

  test('an output that lets its oldest go loses nothing when the others have taken the room, and says so before', async () => {
    start({ shareOf: (output) => (output === 'cloud' ? { bytes: 50_000, dropOldest: true } : { bytes: 100_000, dropOldest: false }) })
    await fill('cloud', 3)
    await fill('planner', 86)
    await turns(3)
    expect(outbox.room('cloud' as OutputId, 'ordinary', 8_000)).toBe(false)
    expect(canTake(record({ output: 'cloud' as OutputId, payload: 'x'.repeat(8_000), subjects: [] }))).toBe(false)
    expect([outbox.depth, outbox.stats.purged.quota]).toEqual([89, 0])
  })

  test('an output that lets its oldest go does not say that there is room when all it has is kept for the end of a window', async () => {
    start({ shareOf: () => ({ bytes: 20_000, dropOldest: true }) })
    for (let n = 0; n < 20; n++) expect(canTake({ ...record({ output: 'hourly' as OutputId, payload: 'x'.repeat(920), subjects: [] }), slot: { key: `SN-${n}`, window: 1, everyMs: 3_600_000, mark: undefined }, untilMs: 7_200_000 })).toBe(true)
    await turns(3)
    expect(outbox.room('hourly' as OutputId, 'ordinary', 920)).toBe(false)
    expect([outbox.depth, outbox.healthy]).toEqual([20, true])
  })

  test('an output that lets its oldest go keeps those of them that a law asks for', async () => {
    start({ shareOf: () => ({ bytes: 30_000, dropOldest: true }) })
    outbox.accept(record({ output: 'cloud' as OutputId, storageClass: 'legal', payload: 'overload', subjects: [] }))
    await fill('cloud', 60)
    await turns(3)
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    await turns(20)
    expect(outbox.stats.purged.quota).toBeGreaterThan(30)
    expect(cloud.payloads[0]).toBe('overload')
  })

  async function taken(output: string, storageClass: OutboxRecord['storageClass'] = 'ordinary'): Promise<number> {
    let n = 0
    while (n < 1_000) {
      const given = record({ output: output as OutputId, storageClass, payload: 'x'.repeat(920), subjects: [] })
      const said = outbox.room(given.output, storageClass, 920)
      expect(canTake(given)).toBe(said)
      if (!said) break
      if (++n % 20 === 0) await turns(2)
    }
    await turns(3)
    return n
  }
})
