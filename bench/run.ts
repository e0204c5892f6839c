/**
 * `npm run bench [-- NAME...] [--format json]`: the benchmarks by name; all without one. Figures are ratios within one run.
 */
const BENCHES: Readonly<Record<string, () => Promise<{ run(options: BenchOptions): Promise<void> }>>> = {
  minimise: () => import('./minimise.ts'),
  wasm: () => import('./wasm.ts'),
  decide: () => import('./decide.ts'),
  outbox: () => import('./outbox.ts'),
  gateway: () => import('./gateway.ts'),
}

export interface BenchOptions {
  readonly json: boolean
  /** Milliseconds a case is measured. */
  readonly timeMs: number
}

const words = process.argv.slice(2)
const json = words.includes('--format') ? words[words.indexOf('--format') + 1] === 'json' : words.includes('--format=json')
const names = words.filter((word, at) => !word.startsWith('-') && words[at - 1] !== '--format')
const unknown = names.filter((name) => !(name in BENCHES))
if (unknown.length > 0) {
  process.stderr.write(`There is no benchmark ${unknown.join(', ')}. There are: ${Object.keys(BENCHES).join(', ')}.\n`)
  process.exit(2)
}
for (const name of names.length > 0 ? names : Object.keys(BENCHES)) {
  const bench = await BENCHES[name]!()
  await bench.run({ json, timeMs: words.includes('--short') ? 100 : 500 })
}
