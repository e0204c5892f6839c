/** Counters: closed label sets, the text a scraper gets, and a scrape that reads what the hot path wrote. */
import { describe, expect, test } from 'vitest'
import { KILL_REASONS } from '../src/broker/counts.ts'
import type { OutputId, StreamId } from '../src/domain/ids.ts'
import { Verdict } from '../src/domain/verdict.ts'
import { COMMIT_BUCKETS, createMetrics, FAMILIES, HISTOGRAMS } from '../src/metrics.ts'

const planner = 'planner' as OutputId
const status = 'status' as StreamId

async function scrape(metrics: ReturnType<typeof createMetrics>): Promise<string[]> {
  return (await metrics.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
}

describe('counting', () => {
  test('what was counted is what is scraped', async () => {
    const metrics = createMetrics()
    metrics.useRules([planner], [status])
    const output = metrics.output(planner)
    output.forwarded.add()
    output.forwarded.add(2)
    output.withheld(Verdict.closed.code)
    output.withheld(Verdict.closed.code)
    output.withheld(Verdict.sampled.code)
    metrics.refused(Verdict.truncated.code)
    metrics.stream(status).add(5)
    metrics.count('received_bytes_total', 180)
    metrics.count('kills_total', 1, 'rate')
    metrics.gauge('outbox_records', 12)
    expect(output.reasons()).toEqual({ closed: 2, sampled: 1 })
    expect(await scrape(metrics)).toEqual(expect.arrayContaining([
      'parapet_output_forwarded_total{output="planner"} 3',
      'parapet_output_withheld_total{output="planner",reason="closed"} 2',
      'parapet_output_withheld_total{output="planner",reason="sampled"} 1',
      'parapet_messages_refused_total{reason="truncated"} 1',
      'parapet_messages_received_total{stream="status"} 5',
      'parapet_received_bytes_total 180',
      'parapet_kills_total{reason="rate"} 1',
      'parapet_outbox_records 12',
      'parapet_wills_discarded_total 0',
    ]))
  })

  test('every verdict code has a slot of its own', () => {
    const metrics = createMetrics()
    metrics.useRules([planner], [])
    const output = metrics.output(planner)
    for (const { code } of Object.values(Verdict)) {
      expect(code).toBeGreaterThan(-64)
      output.withheld(code)
    }
    expect(output.reasons()).toEqual(Object.fromEntries(Object.keys(Verdict).map((name) => [name, 1])))
  })

  test('handles stay valid while thousands of others are made', () => {
    const metrics = createMetrics()
    const outputs = Array.from({ length: 300 }, (_, index) => `o${index}` as OutputId)
    metrics.useRules(outputs, [])
    const first = metrics.output(outputs[0]!)
    for (const id of outputs) for (const { code } of Object.values(Verdict)) metrics.output(id).withheld(code)
    first.forwarded.add()
    expect(metrics.counter('output_forwarded_total', 'o0').value).toBe(1)
    expect(metrics.output(outputs[0]!)).toBe(first)
  })

  test('gauges are set when somebody looks', async () => {
    const metrics = createMetrics()
    metrics.onScrape(() => metrics.gauge('sessions', 3))
    expect(await scrape(metrics)).toContain('parapet_sessions 3')
  })
})

describe('labels', () => {
  test('a value outside its closed set is `other`, whatever it was', async () => {
    const metrics = createMetrics()
    metrics.useRules([planner], [status])
    metrics.count('kills_total', 1, 'CANARY-1')
    metrics.stream('CANARY-2' as StreamId).add()
    metrics.output('CANARY-3' as OutputId).forwarded.add()
    metrics.output('CANARY-3' as OutputId).withheld(Verdict.closed.code)
    metrics.count('kills_total', 1)
    const text = await metrics.text()
    expect(text).not.toContain('CANARY')
    expect(text).toContain('parapet_kills_total{reason="other"} 2')
    expect(text).toContain('parapet_output_withheld_total{output="other",reason="closed"} 1')
  })

  test('every reason for which the broker closes a connection has a series', async () => {
    const metrics = createMetrics()
    for (const reason of KILL_REASONS) metrics.count('kills_total', 1, reason)
    expect((await scrape(metrics)).filter((line) => line.startsWith('parapet_kills_total'))).toEqual(KILL_REASONS.map((reason) => `parapet_kills_total{reason="${reason}"} 1`))
  })

  test('an output that the rules name later gets a series of its own from then on', () => {
    const metrics = createMetrics()
    metrics.output(planner).forwarded.add()
    metrics.useRules([planner], [])
    metrics.output(planner).forwarded.add()
    expect(metrics.counter('output_forwarded_total', 'planner').value).toBe(1)
    expect(metrics.counter('output_forwarded_total', 'nobody').value).toBe(1)
  })

  test('their number is bounded over any number of reloads', async () => {
    const metrics = createMetrics()
    for (let reload = 0; reload < 3_000; reload += 1) {
      const id = `o${reload}` as OutputId
      metrics.useRules([id], [])
      metrics.output(id).forwarded.add()
    }
    expect((await scrape(metrics)).filter((line) => line.startsWith('parapet_output_forwarded_total'))).toHaveLength(2_049)
  })

  test('consent changes have no label: in a small crew it would say who refused', () => {
    expect(FAMILIES.consent_changes_total).not.toHaveProperty('labels')
  })
})

describe('the text', () => {
  test('follows the Prometheus format: help and type once per family, samples below', async () => {
    const metrics = createMetrics()
    metrics.count('kills_total', 1, 'rate')
    const blocks = (await metrics.text()).trimEnd().split('\n\n')
    expect(blocks).toHaveLength(Object.keys(FAMILIES).length + Object.keys(HISTOGRAMS).length)
    for (const block of blocks) {
      const [help, type, ...samples] = block.split('\n')
      const name = /^# HELP (parapet_[a-z_]+) \S/.exec(help ?? '')?.[1]
      expect(type).toMatch(new RegExp(`^# TYPE ${name} (counter|gauge|histogram)$`))
      if (type?.endsWith('counter') === true) expect(name).toMatch(/_total$/)
      for (const sample of samples) expect(sample).toMatch(/^parapet_[a-z_]+(?:\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? \d+(?:\.\d+)?(?:e-\d+)?$/)
    }
  })

  test('a histogram counts many at once, by bridge, and what a clock set back made negative as nothing', async () => {
    const metrics = createMetrics()
    metrics.useBridges(['cloud'])
    metrics.histogram('ack_seconds').observe(0.002, 40)
    metrics.histogram('cloud_ack_seconds', 'cloud').observe(3_000)
    metrics.histogram('cloud_ack_seconds', 'CANARY').observe(-5)
    const lines = await scrape(metrics)
    expect(lines).toEqual(expect.arrayContaining([
      'parapet_ack_seconds_bucket{le="0.001"} 0', 'parapet_ack_seconds_bucket{le="0.0025"} 40', 'parapet_ack_seconds_bucket{le="+Inf"} 40', 'parapet_ack_seconds_sum 0.08', 'parapet_ack_seconds_count 40',
      'parapet_cloud_ack_seconds_bucket{le="600",bridge="cloud"} 0', 'parapet_cloud_ack_seconds_bucket{le="3600",bridge="cloud"} 1', 'parapet_cloud_ack_seconds_sum{bridge="cloud"} 3000',
      'parapet_cloud_ack_seconds_bucket{le="0.001",bridge="other"} 1', 'parapet_cloud_ack_seconds_sum{bridge="other"} 0',
      // Those without labels are there from the start.
      'parapet_delivery_seconds_count 0',
    ]))
    expect(lines.join('')).not.toContain('CANARY')
  })

  test('which version runs is one series', async () => {
    const metrics = createMetrics()
    metrics.useBuild('1.2.3', 'v26.0.0')
    expect(await scrape(metrics)).toContain('parapet_build_info{version="1.2.3",node="v26.0.0"} 1')
  })

  test('the histogram of commits is cumulative, its count that of the last bucket', async () => {
    const metrics = createMetrics()
    for (const seconds of [0.00005, 0.0001, 0.003, 0.02, 9]) metrics.commit(seconds)
    const lines = (await scrape(metrics)).filter((line) => line.startsWith('parapet_commit_seconds'))
    const value = (le: string): number => Number(lines.find((line) => line.startsWith(`parapet_commit_seconds_bucket{le="${le}"}`))?.split(' ')[1])
    expect(lines).toHaveLength(COMMIT_BUCKETS.length + 3)
    expect([value('0.0001'), value('0.0025'), value('0.005'), value('0.025'), value('5'), value('+Inf')]).toEqual([2, 2, 3, 4, 4, 5])
    expect(lines).toContain('parapet_commit_seconds_count 5')
    expect(lines.find((line) => line.startsWith('parapet_commit_seconds_sum'))).toBe(`parapet_commit_seconds_sum ${0.00005 + 0.0001 + 0.003 + 0.02 + 9}`)
  })
})
