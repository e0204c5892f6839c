/**
 * The benchmarks in short: they run, their output is as promised, and no speed has halved since the recorded run. The figures themselves are
 * for `npm run bench`; the bounds here are far from them, so that a loaded machine does not decide.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { waitOf } from '../bench/disk.ts'
import { chart, type Curve } from '../bench/chart.ts'
import { figure, growthOf } from '../bench/figures.ts'
import { GOALS, standing } from '../bench/goals.ts'
import { COPY, PROTOBUFJS, measure, preparedCase, report, timed } from '../bench/minimise.ts'
import { compare, comparisonText, markdownOf, readSaved, resultFile, Sheet, tableOf, type Row, type Saved } from '../bench/sheet.ts'

const PROJECT = join(import.meta.dirname, '..')
const recorded = readSaved('baseline')

/** A ratio of the recorded run: what is measured here may be half as good, no worse. */
function ratioOf(bench: string, name: string, of: string): number {
  const value = recorded.rows.find((row) => row.bench === bench && row.case === name)?.[of]
  if (typeof value !== 'number') throw new Error(`the recorded run has no ${of} of ${bench}, ${name}: npm run bench -- --save=baseline`)
  return value
}

describe('no speed has halved', () => {
  test('the minimiser beside protobufjs and a copy; nothing is allocated', { retry: 3, timeout: 60_000 }, async () => {
    const status = preparedCase('status')
    const rows = await measure(timed(status).filter(({ label }) => [COPY, 'minimiser', PROTOBUFJS].includes(label)), 100)
    const lines: string[] = []
    report('minimise', status, rows, new Sheet(true, (text) => lines.push(text)))
    const said = lines.map((line) => JSON.parse(line) as Row)
    for (const line of said) expect(Object.keys(line)).toEqual(['bench', 'case', 'ns', 'vs_protobufjs', 'vs_protobufjs_min', 'vs_protobufjs_max', 'vs_copy', 'vs_copy_min', 'vs_copy_max', 'allocated_bytes_per_message'])
    const [bench, name] = ['minimise', 'status 189 B: minimiser']
    expect(said[1]?.case).toBe(name)
    expect(said[1]?.['vs_protobufjs']).toBeGreaterThan(ratioOf(bench, name, 'vs_protobufjs') / 2)
    expect(said[1]?.['vs_copy']).toBeLessThan(ratioOf(bench, name, 'vs_copy') * 2)
    expect(said[1]?.['allocated_bytes_per_message']).toBe(0)
  })

  test('the gateway beside plain aedes, as it is run', { retry: 2, timeout: 120_000 }, async () => {
    const { code, said, complained } = await bench('gateway', '--short', '--only', 'QoS 1:', '--format', 'json')
    expect({ code, complained }).toEqual({ code: 0, complained: '' })
    const rows = said.trim().split('\n').map((line) => JSON.parse(line) as Row)
    const name = 'QoS 1: parapet, durable'
    const row = rows.find((one) => one.case === name)
    expect(row).toMatchObject({ bench: 'gateway', lost: 0 })
    // By the clock or by processor time: what another program does to one of them, it seldom does to both.
    const parts = (['vs_aedes', 'vs_aedes_by_cpu'] as const).map((of) => Number(row?.[of]) / ratioOf('gateway', name, of))
    expect(Math.max(...parts)).toBeGreaterThan(0.5)
  })
})

function bench(...words: string[]): Promise<{ readonly code: number | null; readonly said: string; readonly complained: string }> {
  const child = spawn(process.execPath, [join(PROJECT, 'bench/run.ts'), ...words], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NODE_NO_WARNINGS: '1' } })
  let [said, complained] = ['', '']
  child.stdout.on('data', (piece: Buffer) => { said += piece.toString() })
  child.stderr.on('data', (piece: Buffer) => { complained += piece.toString() })
  return new Promise((done) => child.once('close', (code) => done({ code, said, complained })))
}

describe('the command', () => {
  test.each([
    ['a benchmark that does not exist', ['speed'], 2, /no benchmark speed/],
    ['an option that does not exist', ['--fast'], 2, /--fast/],
    ['one file to compare', ['--compare', 'baseline'], 2, /two files/],
  ])('%s', async (_what, words, code, complaint) => {
    const found = await bench(...words)
    expect(found.code).toBe(code)
    expect(found.complained).toMatch(complaint)
    expect(found.said).toBe('')
  })
})

describe('how a cost grows', () => {
  const sizes = [1_000, 10_000, 100_000, 1_000_000]
  test.each([
    ['a constant', (_x: number) => 80, 'flat'],
    ['a constant with 8 % of noise', (x: number) => (x % 7 === 0 ? 84 : 78), 'flat'],
    ['a logarithm', (x: number) => 40 * Math.log2(x), 'less than linear'],
    ['a straight line', (x: number) => 0.5 * x, 'linear'],
    ['a straight line on a base', (x: number) => 900 + 0.5 * x, 'linear'],
    ['x log x', (x: number) => x * Math.log2(x), 'more than linear'],
    ['a square', (x: number) => x * x, 'more than linear'],
  ])('%s', (_what, cost, expected) => {
    expect(growthOf(sizes.map((x) => [x, cost(x)])).growth).toBe(expected)
  })

  test('the line says what one more costs', () => {
    expect(growthOf([1, 3, 10, 30].map((x) => [x, 250 + 40 * x]))).toMatchObject({ start: 250, each: 40, fit: 1 })
  })
})

describe('what a disk makes wait', () => {
  // A hundredth of 10 s is 100 ms: of a stop of 150 ms those wait longer than 50 that come in its first 100.
  test.each<[string, number[], number]>([
    ['nobody when it is quick', [], 0], ['one stop', [150], 50], ['two stops count together', [100, 100], 50], ['short ones beside a long one', [...Array.from({ length: 100 }, () => 1), 120], 20],
  ])('%s', (_, syncMs, wait) => expect(waitOf(syncMs, 10_000)).toBeCloseTo(wait, 3))
})

describe('two runs beside each other', () => {
  const row = (ns: readonly number[], more: Partial<Row> = {}): Row => ({ bench: 'b', case: 'c', ...figure('ns', ns), ...more })
  const run = (rows: readonly Row[], made: Partial<Saved['made']> = {}): Saved => ({ made: { ...recorded.made, ...made }, rows, curves: [] })
  const verdicts = (before: Saved, after: Saved): string[] => compare(before, after).changes.map(({ figure: of, verdict }) => `${of} ${verdict}`)

  test.each([
    ['spreads that touch are noise', row([100, 110, 130]), row([125, 140, 150]), []],
    ['spreads apart, slower', row([100, 101, 102]), row([120, 121, 125]), ['ns worse']],
    ['spreads apart, faster', row([100, 101, 102]), row([80, 81, 82]), ['ns better']],
    ['spreads apart, but by 3 %: nothing', row([100, 100, 101]), row([103, 103, 104]), []],
    ['more a second is better', row([1], { ...figure('per_second', [10, 11]) }), row([1], { ...figure('per_second', [20, 21]) }), ['per_second better']],
    ['a ratio that falls is worse', row([1], { ...figure('vs_aedes', [0.6, 0.61]) }), row([1], { ...figure('vs_aedes', [0.4, 0.41]) }), ['vs_aedes worse']],
    ['what was taken once must differ by a quarter', row([1], { peak_mb: 100 }), row([1], { peak_mb: 120 }), []],
    ['and then counts', row([1], { peak_mb: 100 }), row([1], { peak_mb: 130 }), ['peak_mb worse']],
    ['one message lost is one too many', row([1], { lost: 0 }), row([1], { lost: 1 }), ['lost worse']],
  ])('%s', (_what, before, after, expected) => {
    expect(verdicts(run([before]), run([after]))).toEqual(expected)
  })

  test('of two machines only ratios and counts are compared, and rows that only one has are named', () => {
    const before = run([row([100], { ...figure('ratio', [2]), lost: 0 }), { bench: 'b', case: 'gone', ns: 1 }])
    const found = compare(before, run([row([500], { ...figure('ratio', [1]), lost: 0 })], { processor: 'another' }))
    expect(found).toMatchObject({ ratiosOnly: true, figures: 2, missing: ['b: gone'] })
    expect(found.changes.map(({ figure: of, verdict }) => [of, verdict])).toEqual([['ratio', 'worse']])
    expect(comparisonText(found)).toContain('-50 %')
  })

  test('a run beside itself has not changed', () => {
    const { changes, figures, missing } = compare(recorded, recorded)
    expect({ changes, missing }).toEqual({ changes: [], missing: [] })
    expect(figures).toBeGreaterThan(50)
  })
})

describe('what is kept', () => {
  test('every promise has its figure in the recorded run', () => {
    const absent = GOALS.filter((goal) => !recorded.rows.some((row) => row.bench === goal.bench && row.case.startsWith(goal.case) && typeof row[goal.figure] === 'number'))
    expect(absent.map(({ what }) => what)).toEqual([])
  })

  test('a promise is reached, or what must hold is, or not even that', () => {
    const goal = { what: '', bench: '', case: '', figure: '', unit: '' }
    expect([25, 20, 12, 9].map((found) => standing({ ...goal, least: 20, must: 10 }, found))).toEqual(['reached', 'reached', 'not reached', 'missed'])
    expect([4, 5, 7, 9].map((found) => standing({ ...goal, most: 5, must: 8 }, found))).toEqual(['reached', 'reached', 'not reached', 'missed'])
    expect([0, 1].map((found) => standing({ ...goal, most: 0 }, found))).toEqual(['reached', 'missed'])
  })

  test('the README has its table', () => {
    expect(readFileSync(join(PROJECT, 'README.md'), 'utf8')).toContain(markdownOf(recorded))
  })

  test('the table at the end has every row with its spread', () => {
    expect(tableOf([{ bench: 'b', case: 'c', ...figure('per_second', [1_000, 2_000, 3_000], 0), ...figure('vs_aedes', [0.5, 0.6, 0.7]) }])).toContain('b  c  per_second 2,000 (1,000 to 3,000)  vs_aedes 0.6 (0.5 to 0.7)')
  })

  test('the charts are those of the recorded run', () => {
    const ofLoad = recorded.curves.filter(({ x }) => x.includes('load'))
    for (const [what, title, curves] of [['latency', 'Latency against load', ofLoad], ['cost', 'Cost against size', recorded.curves.filter((curve) => !ofLoad.includes(curve))]] as const) {
      const file = resultFile('baseline').replace('.json', `-${what}.svg`)
      expect(existsSync(file) ? readFileSync(file, 'utf8') : undefined).toBe(curves.length === 0 ? undefined : chart(title, curves))
    }
  })
})

describe('a chart', () => {
  const curve: Curve = { name: 'Cost & <size>', x: 'operators', y: 'ns', log: 'both', lines: [{ name: 'one', points: [[1_000, 80], [1_000_000, 90]] }, { name: 'two', points: [[1_000, 81], [1_000_000, 91]] }] }
  const drawn = chart('A "title"', [curve, { ...curve, name: 'second' }, { ...curve, name: 'third' }])

  test('is the same each time, well-formed, and for light and dark ground', () => {
    expect(chart('A "title"', [curve, { ...curve, name: 'second' }, { ...curve, name: 'third' }])).toBe(drawn)
    expect(drawn).toContain('prefers-color-scheme:dark')
    expect(drawn).toContain('Cost &amp; &lt;size&gt;')
    expect(drawn).not.toMatch(/NaN|Infinity|undefined/)
    const open: string[] = []
    for (const [, close, tag, self] of drawn.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
      if (close === '/') expect(open.pop()).toBe(tag)
      else if (self !== '/') open.push(tag!)
    }
    expect(open).toEqual([])
  })

  test('keeps every point inside, larger values higher, and names apart', () => {
    const [width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(drawn)!.slice(1).map(Number) as [number, number]
    expect([width, height]).toEqual([960, 560])
    const circles = [...drawn.matchAll(/<circle class="mark" cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)] as const)
    expect(circles).toHaveLength(6)
    for (const [x, y] of circles) expect(x > 0 && x < 480 && y > 0 && y < 280).toBe(true)
    expect(circles[1]![1]).toBeLessThan(circles[0]![1])
    const names = [...drawn.matchAll(/class="label" x="[\d.]+" y="([\d.]+)"/g)].slice(0, 2).map(([, y]) => Number(y))
    expect(Math.abs(names[0]! - names[1]!)).toBeGreaterThanOrEqual(14)
  })
})
