/**
 * `npm run bench [-- NAME...] [OPTIONS]`: the benchmarks by name; all without one. Figures are ratios within one run.
 *
 * Exit code 1: something failed, 2: wrong usage.
 *
 *   --short           fewer cases and shorter rounds: less than a minute
 *   --only TEXT       only cases that have this in their name
 *   --format json     a line of JSON for each row, and nothing else
 *   --save[=FILE]     keeps the rows with machine, Node and commit; bench/results/DATE.json without a name
 *   --compare A B     what has changed from one kept run to another beyond the noise; exit code 1 when something is worse
 *   --markdown FILE   what was promised and reached, of a kept run, as it stands in the README
 *   --charts FILE     draws the curves of a kept run beside it
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { chart } from './chart.ts'
import { madeHere } from './machine.ts'
import type { BenchOptions } from './options.ts'
import { compare, comparisonText, markdownOf, readSaved, resultFile, save, Sheet, tableOf } from './sheet.ts'

const BENCHES: Readonly<Record<string, () => Promise<{ run(options: BenchOptions): Promise<void> }>>> = {
  minimise: () => import('./minimise.ts'),
  wasm: () => import('./wasm.ts'),
  decide: () => import('./decide.ts'),
  curves: () => import('./curves.ts'),
  outbox: () => import('./outbox.ts'),
  gateway: () => import('./gateway.ts'),
  latency: () => import('./latency.ts'),
  connections: () => import('./connections.ts'),
}

/** An experiment whose outcome is written down; it is run by its name. */
const BY_NAME_ONLY = ['wasm']

const TIME_MS = { full: 500, short: 100 } as const

try {
  process.exitCode = await main()
} catch (error) {
  const isUsage = error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')
  process.stderr.write(`${isUsage ? error.message : error instanceof Error ? error.stack : String(error)}\n`)
  process.exitCode = isUsage ? 2 : 1
}
// Sockets of a broker that was cut must not hold the process up.
process.exit()

async function main(): Promise<number> {
  // `--save` alone has no value, which parseArgs does not know.
  const words = process.argv.slice(2).map((word) => (word === '--save' ? '--save=' : word))
  const { values, positionals } = parseArgs({
    args: words, allowPositionals: true,
    options: {
      short: { type: 'boolean', default: false }, only: { type: 'string' }, format: { type: 'string', default: 'text' }, save: { type: 'string' }, compare: { type: 'boolean', default: false },
      markdown: { type: 'string' }, charts: { type: 'string' },
    },
  })
  const { short: isShort, only, format, save: kept, markdown, charts } = values
  if (values.compare) return compareFiles(positionals)
  if (markdown !== undefined) return say(markdownOf(readSaved(markdown)))
  if (charts !== undefined) return drawCharts(charts)

  const unknown = positionals.filter((name) => !(name in BENCHES))
  if (unknown.length > 0 || (format !== 'json' && format !== 'text')) {
    process.stderr.write(unknown.length > 0 ? `There is no benchmark ${unknown.join(', ')}. There are: ${Object.keys(BENCHES).join(', ')}.\n` : '--format is json or text.\n')
    return 2
  }
  const began = performance.now()
  const made = madeHere(['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : [])].join(' '), isShort)
  const sheet = new Sheet(format === 'json')
  const failed: string[] = []
  for (const name of positionals.length > 0 ? positionals : Object.keys(BENCHES).filter((one) => !BY_NAME_ONLY.includes(one))) {
    const bench = await BENCHES[name]!()
    const since = performance.now()
    try {
      await bench.run({ sheet, timeMs: isShort ? TIME_MS.short : TIME_MS.full, isShort, only })
    } catch (error) {
      // What was measured before and what comes after it is worth having.
      failed.push(name)
      process.stderr.write(`${name}: ${error instanceof Error ? error.stack : String(error)}\n`)
    }
    sheet.head(`  (${name}: ${Math.round((performance.now() - since) / 1_000)} s)`)
  }
  if (sheet.rows.length === 0 && failed.length === 0) {
    process.stderr.write(`No case has "${only}" in its name.\n`)
    return 2
  }
  const seconds = Math.round((performance.now() - began) / 1_000)
  if (format === 'text') say(`${tableOf(sheet.rows)}${seconds} s, load of the machine before it ${made.load}\n`)
  if (kept !== undefined) {
    const file = resultFile(kept === '' ? made.at.replaceAll(':', '').slice(0, 17) : kept)
    save(file, { made: { ...made, seconds }, rows: sheet.rows, curves: sheet.curves })
    process.stderr.write(`kept in ${file}\n`)
  }
  return failed.length === 0 ? 0 : 1
}

function say(text: string): number {
  process.stdout.write(text)
  return 0
}

function compareFiles([before, after, ...more]: readonly string[]): number {
  if (before === undefined || after === undefined || more.length > 0) {
    process.stderr.write('--compare takes two files, or names of files in bench/results.\n')
    return 2
  }
  const comparison = compare(readSaved(before), readSaved(after))
  say(comparisonText(comparison))
  return comparison.changes.some(({ verdict }) => verdict === 'worse') ? 1 : 0
}

/** NAME.json -> NAME-latency.svg and NAME-cost.svg. */
function drawCharts(name: string): number {
  const { curves } = readSaved(name)
  const stem = resultFile(name).replace(/\.json$/, '')
  const ofLoad = curves.filter(({ x }) => x.includes('load'))
  for (const [what, some, title] of [['latency', ofLoad, 'Latency against load'], ['cost', curves.filter((curve) => !ofLoad.includes(curve)), 'Cost against size']] as const) {
    if (some.length === 0) continue
    writeFileSync(`${stem}-${what}.svg`, chart(title, some))
    process.stderr.write(`drawn: ${stem}-${what}.svg\n`)
  }
  return 0
}
