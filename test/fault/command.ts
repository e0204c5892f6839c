/**
 * How the long forms of the fault tests talk: progress on stderr, the result as one line of JSON on stdout, exit code 1 when something
 * that must not happen did.
 */
export async function command(name: string, seed: number, play: (say: (line: string) => void) => Promise<{ readonly violations: readonly string[] }>): Promise<void> {
  const began = performance.now()
  const say = (line: string): void => void process.stderr.write(`${((performance.now() - began) / 1_000).toFixed(0).padStart(5)} s  ${line}\n`)
  say(`${name}, seed ${seed}`)
  const result = await play(say)
  process.stdout.write(`${JSON.stringify({ test: name, seed, seconds: Math.round((performance.now() - began) / 1_000), ...result })}\n`)
  // Timers of clients that were cut must not hold the process up.
  process.exit(result.violations.length === 0 ? 0 : 1)
}
