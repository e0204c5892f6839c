/** config/monitoring: every series, label and label value that dashboard and alerts name exists, and every alert says what to do. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { Verdict } from '../../src/domain/verdict.ts'
import { COMMANDS } from '../../src/cli/command.ts'
import { CONDITIONS, createMetrics, FAMILIES, HISTOGRAMS } from '../../src/metrics.ts'

const root = resolve(import.meta.dirname, '../..')
const read = (name: string): string => readFileSync(join(root, name), 'utf8')

interface Alert {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}
interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number }
  readonly fieldConfig?: { readonly defaults: { readonly unit: string } }
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string; readonly refId: string }[]
}

const alerts = (parse(read('config/monitoring/alerts.yaml')) as { readonly groups: readonly { readonly name: string; readonly rules: readonly Alert[] }[] }).groups.flatMap(({ rules }) => rules)
const dashboard = JSON.parse(read('config/monitoring/grafana-dashboard.json')) as { readonly uid: string; readonly title: string; readonly panels: readonly Panel[]; readonly templating: { readonly list: readonly { readonly name: string }[] } }
const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map((target) => ({ title, ...target })))

/** Series -> its own labels. What Prometheus adds to each is in ADDED. */
const SERIES = new Map<string, readonly string[]>([
  ...Object.entries(FAMILIES).map(([name, family]) => [`parapet_${name}`, 'labels' in family ? Object.keys(family.labels) : []] as const),
  ...Object.entries(HISTOGRAMS).flatMap(([name, histogram]) => {
    const labels = 'labels' in histogram ? Object.keys(histogram.labels) : []
    return [[`parapet_${name}_bucket`, ['le', ...labels]], [`parapet_${name}_sum`, labels], [`parapet_${name}_count`, labels]] as const
  }),
])
const ADDED = ['instance', 'job']
const COUNTER = /_(?:total|bucket|sum|count)$/

interface Use {
  readonly series: string
  readonly matchers: readonly { readonly label: string; readonly is: string; readonly value: string }[]
  readonly range: boolean
}

function usesIn(expr: string): Use[] {
  return [...expr.matchAll(/\b(parapet_\w+|up)(?:\{([^}]*)\})?(\[[^\]]+\])?/g)].map(([, series = '', inner = '', range]) => ({
    series, range: range !== undefined,
    matchers: [...inner.matchAll(/(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g)].map(([, label = '', is = '', value = '']) => ({ label, is, value })),
  }))
}

/** What is wrong with an expression; empty when nothing is. */
async function wrongIn(expr: string): Promise<string[]> {
  const uses = usesIn(expr)
  const own = uses.flatMap(({ series }) => SERIES.get(series) ?? [])
  const wrong = uses.filter(({ series }) => series !== 'up' && !SERIES.has(series)).map(({ series }) => `there is no series ${series}`)
  for (const { series, matchers, range } of uses) {
    for (const { label, is, value } of matchers) {
      if (![...(SERIES.get(series) ?? []), ...ADDED].includes(label)) wrong.push(`${series} has no label ${label}`)
      else if (!ADDED.includes(label)) for (const one of is.includes('~') ? value.split('|') : [value]) if (!(await isValue(series, label, one))) wrong.push(`${series}{${label}} is never ${one}`)
    }
    if (range !== COUNTER.test(series) && !/predict_linear|changes/.test(expr) && !new RegExp(`${series}(?:\\{[^}]*\\})?(?: offset| > 0 unless)`).test(expr)) wrong.push(`${series} is a ${range ? 'gauge under a range' : 'counter without rate or increase'}`)
  }
  for (const [, list = ''] of expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g)) {
    for (const label of list.split(', ')) if (!own.includes(label) && !ADDED.includes(label)) wrong.push(`nothing in it has the label ${label}`)
  }
  return wrong
}

/** Asks the metrics themselves: a value outside a closed set is counted as `other`. Outputs, streams and bridges come from the rules. */
async function isValue(series: string, label: string, value: string): Promise<boolean> {
  const metrics = createMetrics()
  metrics.useRules(['o'] as never, ['s'] as never)
  metrics.useBridges(['b'])
  const name = series.replace('parapet_', '') as keyof typeof FAMILIES
  const family = FAMILIES[name] as { readonly labels?: Readonly<Record<string, string>> }
  const known: Readonly<Record<string, string>> = { output: 'o', stream: 's', bridge: 'b' }
  metrics.count(name, 1, ...Object.entries(family.labels ?? {}).map(([one, set]) => (one === label ? value : (known[set] ?? ''))))
  return (await metrics.text()).includes(`${label}="${value}"`)
}

describe('alerts.yaml', () => {
  test.each(alerts.map((alert) => [alert.alert, alert] as const))('%s asks for what there is', async (_name, { expr }) => {
    expect(usesIn(expr).length).toBeGreaterThan(0)
    expect(await wrongIn(expr)).toEqual([])
  })

  test.each(alerts.map((alert) => [alert.alert, alert] as const))('%s says what is wrong and what to do', (_name, { labels, annotations, ...alert }) => {
    expect(alert.alert).toMatch(/^Parapet[A-Z]\w+$/)
    expect(['page', 'ticket']).toContain(labels['severity'])
    expect(annotations['summary']).toMatch(/\.$/)
    expect(annotations['mend']).toMatch(/\.$/)
    expect(alert.for ?? '1m').toMatch(/^\d+[smhd]$/)
    // Commands and codes that it names exist.
    for (const [, command = ''] of annotations['mend']!.matchAll(/`parapet (\w+)/g)) expect(Object.keys(COMMANDS)).toContain(command)
    for (const [, label = ''] of annotations['summary']!.matchAll(/\$labels\.(\w+)/g)) expect([...ADDED, ...usesIn(alert.expr).flatMap(({ series }) => SERIES.get(series) ?? [])]).toContain(label)
  })

  test('cover what must wake somebody, each under one name', () => {
    const names = alerts.map(({ alert }) => alert)
    expect(new Set(names).size).toBe(names.length)
    const conditions = new Set(alerts.flatMap(({ expr }) => usesIn(expr)).filter(({ series }) => series === 'parapet_conditions').flatMap(({ matchers }) => matchers.map(({ value }) => value)))
    expect([...conditions].toSorted()).toEqual(['BACKLOG-OLD', 'CLOCK-UNSURE', 'DISK-LOW', 'EVENT-LOOP-SLOW', 'LEDGER-DAMAGED', 'OUTBOX-UNHEALTHY', 'REGISTRY-REFUSED', 'RULES-REFUSED', 'RULES-STAGED', 'VERIFY-VIOLATION'])
    const asked = new Set(alerts.flatMap(({ expr }) => usesIn(expr).map(({ series }) => series)))
    for (const series of ['parapet_ready', 'parapet_bridge_connected', 'parapet_outbox_bytes', 'parapet_bridge_dead_total', 'parapet_kills_total', 'parapet_messages_received_total']) expect(asked).toContain(series)
  })
})

describe('grafana-dashboard.json', () => {
  test.each(queries.map((query) => [`${query.title} ${query.refId}`, query] as const))('%s asks for what there is', async (_name, { expr, legendFormat }) => {
    expect(usesIn(expr).length).toBeGreaterThan(0)
    expect(await wrongIn(expr)).toEqual([])
    const labels = [...ADDED, ...usesIn(expr).flatMap(({ series }) => SERIES.get(series) ?? [])]
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) expect(labels).toContain(label)
  })

  test('shows every family there is', () => {
    const shown = new Set(queries.flatMap(({ expr }) => usesIn(expr).map(({ series }) => series)))
    // What batches save is for whoever turned them on.
    expect([...SERIES.keys()].filter((series) => !shown.has(series))).toEqual(['parapet_bridge_batches_total', 'parapet_bridge_saved_bytes_total'])
  })

  test('is laid out: ids and places of their own, inside the width', () => {
    expect(dashboard).toMatchObject({ uid: 'parapet-gateway', title: 'Parapet gateway' })
    expect(dashboard.templating.list.map(({ name }) => name)).toEqual(['datasource', 'instance'])
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) => Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`))
    expect(new Set(cells).size).toBe(cells.length)
    for (const { gridPos: { x, w } } of dashboard.panels) expect(x + w).toBeLessThanOrEqual(24)
    for (const { type, fieldConfig } of dashboard.panels) if (type !== 'row') expect(fieldConfig?.defaults.unit).toBeTypeOf('string')
  })

  test('tells of nobody: no label names a machine, an operator or an address', () => {
    expect([...new Set([...SERIES.values()].flat())].toSorted()).toEqual(['answer', 'bridge', 'code', 'destination', 'event', 'kind', 'le', 'listener', 'node', 'output', 'quantile', 'reason', 'result', 'stream', 'version'])
  })
})

describe('the checks above', () => {
  test.each([
    ['rate(parapet_no_such_total[5m])', 'there is no series parapet_no_such_total'],
    ['parapet_ready{output="a"} == 0', 'parapet_ready has no label output'],
    ['sum by (bridge) (rate(parapet_kills_total[5m]))', 'nothing in it has the label bridge'],
    ['parapet_conditions{code="RULES-STAGD"} == 1', 'parapet_conditions{code} is never RULES-STAGD'],
    ['rate(parapet_kills_total{reason=~"rate|flood"}[5m])', 'parapet_kills_total{reason} is never flood'],
    ['parapet_kills_total > 5', 'parapet_kills_total is a counter without rate or increase'],
    ['rate(parapet_ready[5m])', 'parapet_ready is a gauge under a range'],
  ])('find %s', async (expr, complaint) => {
    expect(await wrongIn(expr)).toEqual([complaint])
  })

  test('the conditions are those that /readyz can name', () => {
    const named = ['src/gateway.ts', 'src/activation.ts', 'src/certificates.ts', 'src/vitals.ts'].flatMap((file) => [...read(file).matchAll(/\badd\('([A-Z][A-Z-]+)', '(?:error|warning)'/g)].map(([, code = '']) => code))
    expect(CONDITIONS.toSorted()).toEqual([...new Set(named)].toSorted())
    expect(Object.keys(Verdict)).toContain('unverified')
  })
})
