/** What a suite found, held against what is known to differ: nothing is hidden, and the list cannot grow stale. */
export interface Outcome {
  readonly id: string
  /** What did not come as it should; undefined when the test passed. */
  readonly fault: string | undefined
  /** What else is to be said of it. */
  readonly note?: string
}

/** A test that must fail, and why that is right, or known. */
export interface Known {
  readonly id: string
  readonly because: string
}

export interface Verdict {
  /** False for a failure that is not known, a known one that did not fail, and a suite without tests. */
  readonly isGood: boolean
  readonly lines: readonly string[]
}

/**
 * The score and each failure with its reason.
 * @param known  for all suites; those of other files than the outcomes are left alone
 */
export function verdict(name: string, outcomes: readonly Outcome[], known: readonly Known[]): Verdict {
  const reasons = new Map(known.map(({ id, because }) => [id, because]))
  const failed = outcomes.filter(({ fault }) => fault !== undefined)
  const isUnknown = ({ id }: Outcome): boolean => !reasons.has(id)
  const surprises = failed.filter(isUnknown)
  const mended = outcomes.filter(({ id, fault }) => fault === undefined && reasons.has(id))
  const lines = [`${name}: ${outcomes.length - failed.length}/${outcomes.length} passed, ${failed.length - surprises.length} known to differ, ${surprises.length} failed`]
  if (outcomes.length === 0) lines.push('  nothing was found to run: is this the right checkout?')
  for (const { id, note } of outcomes) if (note !== undefined) lines.push(`  note   ${id}`, `         ${note}`)
  for (const { id, fault } of surprises) lines.push(`  FAILED ${id}`, `         ${fault ?? ''}`)
  for (const { id } of mended) lines.push(`  PASSED ${id}`, '         it is listed as one that fails: take it out of the list')
  for (const [because, same] of Map.groupBy(failed.filter((one) => !isUnknown(one)), ({ id }) => reasons.get(id) ?? '')) {
    lines.push(`  differs: ${because}`)
    for (const { id, fault } of same) lines.push(`    ${id}`, `      ${fault ?? ''}`)
  }
  return { isGood: outcomes.length > 0 && surprises.length === 0 && mended.length === 0, lines }
}
