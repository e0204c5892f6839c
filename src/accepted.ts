/**
 * The last accepted set, kept in the data folder: rules text and the schemas it was accepted with, so that a restart with a broken
 * rules file serves what was in force, and never something else.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface AcceptedFiles {
  /** Name of the rules file, for findings. */
  readonly file: string
  readonly text: string
  readonly proto: Readonly<Record<string, string>>
  readonly hash: string
}

export class AcceptedSet {
  readonly #path: string

  constructor(data: string) {
    const folder = join(data, 'accepted')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    this.#path = join(folder, 'active.json')
  }

  /** Replaces the kept set in one step; a crash leaves the old or the new one whole. */
  store(files: AcceptedFiles): void {
    if (this.restore()?.hash === files.hash) return
    writeFileSync(`${this.#path}.new`, JSON.stringify(files), { mode: 0o600, flush: true })
    renameSync(`${this.#path}.new`, this.#path)
  }

  /** Undefined when there is none, or it cannot be read. */
  restore(): AcceptedFiles | undefined {
    if (!existsSync(this.#path)) return undefined
    try {
      return JSON.parse(readFileSync(this.#path, 'utf8')) as AcceptedFiles
    } catch {
      return undefined
    }
  }
}
