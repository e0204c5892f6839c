/**
 * "Did you mean": the known word closest to a mistyped one.
 */

/** ` Did you mean "purpose"?`, or the first words there are, or nothing when there are none. */
export function suggestion(given: string, known: Iterable<string>): string {
  const words = [...known]
  const near = nearest(given, words)
  if (near !== undefined) return `Did you mean "${near}"?`
  if (words.length === 0) return ''
  const shown = words.slice(0, SHOWN)
  return `There is ${shown.join(', ')}${words.length > SHOWN ? `, and ${words.length - SHOWN} more` : ''}.`
}

/** The closest word, at most a third of the letters away. */
export function nearest(given: string, known: Iterable<string>): string | undefined {
  const lower = given.toLowerCase().slice(0, LENGTH_MAX)
  let best: string | undefined
  let bestDistance = Math.max(1, Math.floor(lower.length / 3)) + 1
  for (const word of known) {
    if (Math.abs(word.length - lower.length) >= bestDistance) continue
    const d = distance(lower, word.toLowerCase())
    if (d < bestDistance) [best, bestDistance] = [word, d]
  }
  return best
}

const SHOWN = 12
/** Longer words are never typing mistakes, and the comparison is quadratic. */
const LENGTH_MAX = 64

/** Edits between two words; two letters in the wrong order are one edit (optimal string alignment). */
function distance(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let d = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, before[j - 2]! + 1)
      row.push(d)
    }
    before = last
    last = row
  }
  return last[b.length]!
}
