/**
 * Collects findings of one rules file, at places of its YAML.
 */
import type { Finding } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Code } from './codes.ts'
import { found, type Path, type Yaml } from './yaml.ts'

/** Where something stands: what it is called (`path`, matched by `accept: at`), and where its text is when that differs. */
export interface Where {
  readonly path: Path
  readonly text?: Path
  readonly of?: 'key' | 'value'
  /** Characters into the text. */
  readonly at?: number
}

export class Findings {
  readonly list: Finding[] = []
  readonly yaml: Yaml
  readonly #seen = new Set<string>()

  constructor(yaml: Yaml) {
    this.yaml = yaml
  }

  /** Adds a finding; the same sentence at the same place is said once. Without `mend` the code's own is used. */
  add(code: Code, where: Where, sentence: string, mend?: string): void {
    if (this.list.length >= FINDINGS_MAX) return
    const text = where.text ?? where.path
    const place = where.at !== undefined ? this.yaml.placeIn(text, where.at) : this.yaml.place(text, where.of)
    const finding = found(code, place, where.path.join('.'), sentence, mend)
    const key = `${code} ${place.line}:${place.col} ${finding.text}`
    if (this.#seen.has(key)) return
    this.#seen.add(key)
    this.list.push(finding)
  }

  get errors(): number {
    return this.list.filter((one) => one.severity === 'error').length
  }
}

/** More than are printed, so that `accept:` finds what it waives among them. */
const FINDINGS_MAX = LIMITS.findings * 50

/** By file, line, column, then code. */
export function sorted(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) =>
    compare(a.place.file, b.place.file) || a.place.line - b.place.line || a.place.col - b.place.col || compare(a.code, b.code) || compare(a.text, b.text))
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
