/** What the gateway stands on: from when readiness speaks of the disk, the clock, the backlog and the event loop, and what a scrape says. */
import { afterEach, describe, expect, it } from 'vitest'
import { createMetrics } from '../src/metrics.ts'
import { Vitals, type Backlog, type Space } from '../src/vitals.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30
const HOUR = 3_600_000

const open: Vitals[] = []
afterEach(() => {
  for (const vitals of open.splice(0)) vitals.close()
})

function stand(start: Partial<{ space: Space | undefined; room: number; backlogs: readonly Backlog[] }> = {}) {
  const world = { nowMs: Date.UTC(2026, 10, 23, 8), monotonicMs: 5_000, space: { freeBytes: 100 * GIB, sizeBytes: 200 * GIB } as Space | undefined, room: 4 * GIB, backlogs: [] as readonly Backlog[], ...start }
  const vitals = new Vitals({
    clock: { now: () => world.nowMs, monotonic: () => world.monotonicMs }, folder: '/data', outboxRoom: () => world.room, backlogs: () => world.backlogs,
    space: (folder) => {
      if (folder !== '/data' || world.space === undefined) throw new Error('ENOENT')
      return world.space
    },
  })
  open.push(vitals)
  const told = (): string[] => {
    const lines: string[] = []
    vitals.tell((code, severity, text, mend) => {
      expect(mend).toMatch(/^[A-Z].*\.$/s)
      lines.push(`${severity} ${code} ${text}`)
    })
    return lines
  }
  /** So much time goes by, and the clock shows so much more or less. */
  const pass = (ms: number, leapMs = 0): void => {
    world.monotonicMs += ms
    world.nowMs += ms + leapMs
    vitals.observe()
  }
  return { world, vitals, told, pass }
}

describe('the disk', () => {
  it.each<[what: string, freeMib: number, sizeGib: number, roomGib: number, says: RegExp | undefined]>([
    ['plenty', 100 * 1_024, 200, 4, undefined],
    ['little of a large one, but enough', 5 * 1_024, 200, 4, undefined],
    ['less than a gibibyte', 1_023, 200, 0.1, /^warning DISK-LOW .* 1023 MiB of 200\.0 GiB left/],
    ['a gibibyte', 1_024, 200, 0.1, undefined],
    ['less than a tenth of a small one', 390, 4, 0.1, /^warning DISK-LOW .* 390 MiB of 4\.0 GiB left/],
    ['a tenth of a small one', 420, 4, 0.1, undefined],
    ['enough, but less than the outbox may still take', 3 * 1_024, 200, 4, /^warning DISK-LOW .* has 3\.0 GiB left, and the outbox may still grow by 4\.0 GiB/],
    ['hardly any', 63, 200, 4, /^error DISK-LOW .* has 63 MiB left/],
    ['none', 0, 200, 4, /^error DISK-LOW .* has 0 MiB left/],
  ])('%s: %i MiB of %i GiB, the outbox may grow by %d GiB', (_what, freeMib, sizeGib, roomGib, says) => {
    const { told } = stand({ space: { freeBytes: freeMib * MIB, sizeBytes: sizeGib * GIB }, room: roomGib * GIB })
    expect(told()).toEqual(says === undefined ? [] : [expect.stringMatching(says)])
  })

  it('is looked at again with every observation, and of one that does not answer nothing is said', () => {
    const { world, told, pass } = stand()
    world.space = { freeBytes: 0, sizeBytes: GIB }
    expect(told()).toEqual([])
    pass(1_000)
    expect(told()).toHaveLength(1)
    world.space = undefined
    pass(1_000)
    expect(told()).toEqual([])
  })
})

describe('the clock', () => {
  it('a leap forward is told for ten minutes; steps of a few seconds, a long pause and a step back are not', () => {
    const { told, pass } = stand()
    pass(1_000)
    pass(1_000, 5_000)
    pass(20 * 60_000)
    pass(1_000, -2 * HOUR)
    expect(told()).toEqual([])
    pass(1_000, 2 * HOUR)
    expect(told()).toEqual([expect.stringMatching(/^warning CLOCK-UNSURE The clock leapt forward by 2 h/)])
    pass(599_000)
    expect(told()).toHaveLength(1)
    pass(2_000)
    expect(told()).toEqual([])
  })
})

describe('the backlog', () => {
  it.each<[ageH: number, withinH: number | undefined, says: RegExp | undefined]>([
    [11.9, 24, undefined], [12.1, 24, /bridge cloud have waited for 12 h; what waits for 24 h is thrown away/],
    [23, undefined, undefined], [25, undefined, /bridge cloud have waited for 25 h\./],
  ])('of %d h under send_within %s h', (ageH, withinH, says) => {
    const { world, told, pass } = stand()
    world.backlogs = [
      { destination: 'cloud', oldestAtMs: world.nowMs - ageH * HOUR, sendWithinMs: withinH === undefined ? undefined : withinH * HOUR },
      { destination: 'local', oldestAtMs: undefined, sendWithinMs: HOUR },
    ]
    pass(1)
    expect(told()).toEqual(says === undefined ? [] : [expect.stringMatching(says)])
  })
})

describe('a scrape', () => {
  it('has disk, queues, event loop and process', async () => {
    const { world, vitals, pass } = stand()
    const metrics = createMetrics()
    metrics.useBridges(['cloud'])
    metrics.onScrape(() => vitals.gauges(metrics))
    world.backlogs = [{ destination: 'cloud', oldestAtMs: world.nowMs - 90_000, sendWithinMs: undefined }, { destination: 'local', oldestAtMs: undefined, sendWithinMs: undefined }]
    pass(0)
    // One turn of the loop takes a fifth of a second; the delay shows when it is over.
    await new Promise((done) => void setTimeout(done, 50))
    for (const end = performance.now() + 200; performance.now() < end;);
    await new Promise((done) => void setTimeout(done, 50))
    const text = await metrics.text()
    const value = (series: string): number => Number(new RegExp(`^${series.replaceAll(/[{}"]/g, '\\$&')} (.*)$`, 'm').exec(text)?.[1])
    expect([value('parapet_disk_free_bytes'), value('parapet_disk_size_bytes')]).toEqual([100 * GIB, 200 * GIB])
    expect([value('parapet_queue_age_seconds{destination="cloud"}'), value('parapet_queue_age_seconds{destination="local"}')]).toEqual([90, 0])
    expect(value('parapet_event_loop_delay_seconds{quantile="max"}')).toBeGreaterThan(0.15)
    expect(value('parapet_event_loop_delay_seconds{quantile="p50"}')).toBeLessThan(value('parapet_event_loop_delay_seconds{quantile="max"}'))
    expect(value('parapet_process_memory_bytes{kind="resident"}')).toBeGreaterThan(value('parapet_process_memory_bytes{kind="heap"}'))
    expect(value('parapet_process_cpu_seconds_total')).toBeGreaterThan(0)
    if (process.platform === 'linux') expect(value('parapet_process_open_fds')).toBeGreaterThan(3)
  })
})
