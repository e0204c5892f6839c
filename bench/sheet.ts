/**
 * What a run of benchmarks found: rows of figures and curves, on the screen as they come, in a file to be kept, in a table at the end,
 * and held against another run.
 *
 * A figure `x` of several rounds is their median, and `x_min` and `x_max` are its spread.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Curve } from './chart.ts'
import { growthOf } from './figures.ts'
import { GOALS, standing } from './goals.ts'
import type { Made } from './machine.ts'

export interface Row {
  readonly bench: string
  readonly case: string
  readonly [name: string]: string | number | boolean
}

export interface Saved {
  readonly made: Made
  readonly rows: readonly Row[]
  readonly curves: readonly Curve[]
}

export const RESULTS = join(import.meta.dirname, 'results')

/** Takes what the benchmarks find while they run. */
export class Sheet {
  readonly rows: Row[] = []
  readonly curves: Curve[] = []
  readonly #json: boolean
  readonly #write: (text: string) => void

  constructor(json: boolean, write: (text: string) => void = (text) => void process.stdout.write(text)) {
    this.#json = json
    this.#write = write
  }

  /** A line above rows; programs do not get it. */
  head(text: string): void {
    if (!this.#json) this.#write(`\n${text}\n`)
  }

  /** @param text  the row for people, without its end of line */
  row(row: Row, text: string): void {
    this.rows.push(row)
    this.#write(this.#json ? `${JSON.stringify(row)}\n` : `  ${text}\n`)
  }

  /** A curve with a row for each of its lines that says how it grows, when `expected` is given. */
  curve(curve: Curve): void {
    this.curves.push(curve)
    if (curve.expected === undefined) return
    for (const { name, points } of curve.lines) {
      const { growth, exponent, each, start, fit } = growthOf(points)
      this.row(
        { bench: 'curves', case: `${name} by ${curve.x}`, growth, expected: curve.expected, exponent, each, start, fit, holds: growth === curve.expected || (curve.expected === 'linear' && growth !== 'more than linear') },
        `${`${name} by ${curve.x}`.padEnd(84)} ${growth}: exponent ${exponent}, ${start} + ${each} each (${curve.y}), fit ${fit}`,
      )
    }
  }
}

/** A name stands for a file in bench/results. */
export function resultFile(name: string): string {
  return name.includes('/') || name.endsWith('.json') ? name : join(RESULTS, `${name}.json`)
}

/** @throws Error when it cannot be written */
export function save(file: string, saved: Saved): void {
  mkdirSync(dirname(file), { recursive: true })
  // A row a line: two runs are compared by eye with an ordinary diff.
  const list = (of: readonly unknown[]): string => of.map((one) => `    ${JSON.stringify(one)}`).join(',\n')
  writeFileSync(file, `{\n  "made": ${JSON.stringify(saved.made)},\n  "rows": [\n${list(saved.rows)}\n  ],\n  "curves": [\n${list(saved.curves)}\n  ]\n}\n`)
}

/** @throws Error when there is no such file, or it is none of ours */
export function readSaved(name: string): Saved {
  const file = resultFile(name)
  const saved = JSON.parse(readFileSync(file, 'utf8')) as Saved
  if (!Array.isArray(saved.rows) || saved.made === undefined) throw new Error(`${file} was not written by --save`)
  return saved
}

// ------------------------------------------------------------------------------------------------------------------- tables

/** All rows: the first figure with its spread, and what is a ratio; then what was promised. */
export function tableOf(rows: readonly Row[]): string {
  const lines = rows.filter(({ bench }) => bench !== 'curves').map((row) => {
    const [first = '', ...rest] = figuresOf(row)
    const ratios = rest.filter((name) => isRatio(name))
    return [row.bench, row.case, `${first} ${textOf(row, first)}`, ratios.map((name) => `${name} ${textOf(row, name)}`).join(', ')]
  })
  const goals = goalLines(rows)
  return [
    '', 'medians (spread), ratios', ...columns(lines),
    ...(goals.length === 0 ? [] : ['', 'what was promised', ...columns(goals)]), '',
  ].join('\n')
}

/** What stands in the README: each promise with its figure. */
export function markdownOf({ made, rows }: Saved): string {
  const { at, commit, changed, node, processor, processors, system, load, short, command } = made
  return [
    `\`${command}\` on ${at.slice(0, 10)}, commit ${commit}${changed ? ' with changes' : ''}, Node ${node}, ${processors} x ${processor}, ${system}, load average ${load} from other work${short ? ', short rounds' : ''}. Medians and, in brackets, the spread of the rounds.`,
    '', '| what | figure | promised |', '|---|---:|---:|',
    ...goalLines(rows).map(([what, found, promised, reached]) => `| ${what} | ${found} | ${promised}${reached === 'reached' ? '' : `: ${reached}`} |`), '',
  ].join('\n')
}

function goalLines(rows: readonly Row[]): string[][] {
  return GOALS.flatMap((goal) => {
    const row = rows.find((one) => one.bench === goal.bench && one.case.startsWith(goal.case))
    const found = row?.[goal.figure]
    if (row === undefined || typeof found !== 'number') return []
    const promised = goal.least === undefined ? `at most ${goal.most}` : `at least ${goal.least}`
    return [[goal.what, `${textOf(row, goal.figure)}${goal.unit}`, `${promised}${goal.unit}`, standing(goal, found)]]
  })
}

function figuresOf(row: Row): string[] {
  return Object.keys(row).filter((name) => typeof row[name] === 'number' && !/_(min|max)$/.test(name))
}

function textOf(row: Row, name: string): string {
  const [value, min, max] = [row[name], row[`${name}_min`], row[`${name}_max`]]
  const text = (one: unknown): string => (typeof one === 'number' ? one.toLocaleString('en', { maximumFractionDigits: 3 }) : String(one))
  return min === undefined ? text(value) : `${text(value)} (${text(min)} to ${text(max)})`
}

function columns(lines: readonly (readonly string[])[]): string[] {
  const widths = (lines[0] ?? []).map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)))
  return lines.map((line) => `  ${line.map((word, at) => word.padEnd(widths[at] ?? 0)).join('  ')}`.trimEnd())
}

// --------------------------------------------------------------------------------------------------------------- comparison

export interface Change {
  readonly bench: string
  readonly case: string
  readonly figure: string
  readonly before: string
  readonly after: string
  /** (after - before) / before. */
  readonly share: number
  readonly verdict: 'better' | 'worse' | 'changed'
}

export interface Comparison {
  readonly changes: readonly Change[]
  /** Figures that were held against each other. */
  readonly figures: number
  /** Rows that only one of the two has. */
  readonly missing: readonly string[]
  /** The two machines differ: only ratios were looked at. */
  readonly ratiosOnly: boolean
}

/** Less than this is nothing, whatever the spreads say. */
const LEAST = 0.05
/** A figure that was taken once must differ by so much. */
const LEAST_ONCE = 0.25

/**
 * What differs beyond the noise: the spreads of the two runs do not touch, and the medians differ by 5 % or more; a figure without a
 * spread differs by 25 % or more. When nothing has changed, all seven rounds of one run lie beyond all seven of the other once in 1,700
 * times by chance; with three rounds (`--short`) it is once in ten.
 */
export function compare(before: Saved, after: Saved): Comparison {
  const ratiosOnly = before.made.processor !== after.made.processor || before.made.processors !== after.made.processors || before.made.node !== after.made.node || before.made.short !== after.made.short
  const keyOf = ({ bench, case: name }: Row): string => `${bench}: ${name}`
  const others = new Map(after.rows.map((row) => [keyOf(row), row]))
  const missing = [...before.rows.filter((row) => !others.has(keyOf(row))), ...after.rows.filter((row) => !before.rows.some((one) => keyOf(one) === keyOf(row)))].map(keyOf)
  const changes: Change[] = []
  let figures = 0
  for (const row of before.rows) {
    const other = others.get(keyOf(row))
    if (other === undefined) continue
    for (const name of figuresOf(row)) {
      const [old, now] = [row[name], other[name]]
      if (typeof old !== 'number' || typeof now !== 'number' || (ratiosOnly && !isRatio(name) && !isCount(name))) continue
      figures++
      if (!differs(row, other, name, old, now)) continue
      const direction = directionOf(name)
      const verdict = direction === 0 ? 'changed' : Math.sign(now - old) === direction ? 'better' : 'worse'
      changes.push({ bench: row.bench, case: row.case, figure: name, before: textOf(row, name), after: textOf(other, name), share: old === 0 ? Infinity : (now - old) / Math.abs(old), verdict })
    }
  }
  return { changes, figures, missing, ratiosOnly }
}

export function comparisonText({ changes, figures, missing, ratiosOnly }: Comparison): string {
  const lines = changes.map(({ bench, case: name, figure: of, before, after, share, verdict }) => [verdict, bench, name, of, before, '->', after, Number.isFinite(share) ? `${share > 0 ? '+' : ''}${(share * 100).toFixed(0)} %` : ''])
  return [
    ...(ratiosOnly ? ['The two were made on different machines, versions of Node or lengths: only ratios and counts are compared.'] : []),
    ...columns(lines),
    `${figures} figures, ${changes.length} beyond the noise${missing.length === 0 ? '' : `; only in one of the two: ${missing.length} rows`}.`, '',
  ].join('\n')
}

function differs(row: Row, other: Row, name: string, old: number, now: number): boolean {
  if (isCount(name)) return old !== now
  if (Math.abs(now - old) < Math.abs(old) * LEAST) return false
  const [min, max, otherMin, otherMax] = [row[`${name}_min`], row[`${name}_max`], other[`${name}_min`], other[`${name}_max`]]
  if (typeof min !== 'number' || typeof max !== 'number' || typeof otherMin !== 'number' || typeof otherMax !== 'number') return Math.abs(now - old) > Math.abs(old) * LEAST_ONCE
  return max < otherMin || otherMax < min
}

/** Of two figures of one run: says the same on another machine. */
export function isRatio(name: string): boolean {
  return /^(vs_|ratio)/.test(name) && !/_(min|max)$/.test(name)
}

/** Must not differ at all. */
function isCount(name: string): boolean {
  return /^(lost|allocated_bytes_per_message)$/.test(name)
}

/** 1: more is better, -1: less is better, 0: neither. */
function directionOf(name: string): -1 | 0 | 1 {
  if (/per_second|records_per_s$|^ratio$|^vs_(aedes|protobufjs)/.test(name)) return 1
  return /(^|_)(ns|us|ms|s|kb|mb|bytes|copy|lost|exponent)(_|$)/.test(name) ? -1 : 0
}
