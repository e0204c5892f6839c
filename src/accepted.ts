/**
 * Accepted sets, kept in the data folder: each is a rules text with the schemas it was accepted with, so that what is in force is
 * never put together anew from what lies about. One is active, over restarts too, whatever becomes of the files; one may have been
 * active before it; one may be staged: accepted, but wider than the active one, and waiting for somebody to approve it.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Difference } from './difference.ts'
import type { Params } from './domain/policy.ts'

export interface AcceptedFiles {
  /** Name of the rules file, for findings. */
  readonly file: string
  readonly text: string
  /** Included files, as `include:` names them -> text; absent when there are none. */
  readonly include?: Readonly<Record<string, string>>
  /** Values of the declared parameters; absent when there are none. What the gateway file says now does not reach what is in force. */
  readonly params?: Params
  readonly proto: Readonly<Record<string, string>>
  readonly hash: string
  /** `policy: id`; absent in sets kept by earlier versions. */
  readonly policy?: string
  /** UTC day on which it was accepted: a waiver that runs out later does not end what is in force. */
  readonly day?: string
}

export interface StagedFiles extends AcceptedFiles {
  readonly sinceMs: number
  /** Name of a token, or `file`: the file was changed or read at a start. */
  readonly by: string
  /** Where it comes from; a file that changes again takes the place of one from the file. */
  readonly origin: 'file' | 'rollback'
  readonly approvals: readonly Approval[]
  readonly difference: Pick<Difference, 'changes' | 'widened' | 'narrowed' | 'changed'>
}

export interface Approval {
  /** Name of the token. */
  readonly by: string
  readonly reason: string
  readonly atMs: number
}

export class AcceptedSets {
  readonly #folder: string
  /** Both are asked for by every probe. */
  #isStaged: boolean
  #setAside: string | undefined

  constructor(data: string) {
    this.#folder = join(data, 'accepted')
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    this.#isStaged = this.staged !== undefined
    this.#setAside = this.#read('set-aside')?.hash
  }

  get isStaged(): boolean {
    return this.#isStaged
  }

  /** Undefined when there is none, or it cannot be read; the same for the others. */
  get active(): AcceptedFiles | undefined {
    return whole(this.#read('active'))
  }

  /** What was active before it. */
  get previous(): AcceptedFiles | undefined {
    return whole(this.#read('previous'))
  }

  get staged(): StagedFiles | undefined {
    return whole(this.#read('staged'))
  }

  /** Hash of the set that was discarded or rolled back: the file that still holds it is not taken again by itself. */
  get setAside(): string | undefined {
    return this.#setAside
  }

  /** Durable when it returns; a crash leaves the old or the new one whole. What was staged is no longer. */
  activate(files: AcceptedFiles): void {
    const before = this.active
    if (before?.hash !== files.hash) {
      if (before !== undefined) this.#write('previous', before)
      this.#write('active', files)
    }
    this.unstage()
  }

  stage(files: StagedFiles): void {
    this.#write('staged', files)
    this.#isStaged = true
  }

  unstage(): void {
    this.#remove('staged')
    this.#isStaged = false
  }

  /** Undefined takes the mark away. */
  putAside(hash: string | undefined): void {
    if (hash === undefined) this.#remove('set-aside')
    else this.#write('set-aside', { hash })
    this.#setAside = hash
  }

  #path(name: string): string {
    return join(this.#folder, `${name}.json`)
  }

  #read(name: string): Partial<StagedFiles> | undefined {
    if (!existsSync(this.#path(name))) return undefined
    try {
      return JSON.parse(readFileSync(this.#path(name), 'utf8')) as Partial<StagedFiles>
    } catch {
      return undefined
    }
  }

  #write(name: string, content: object): void {
    writeFileSync(`${this.#path(name)}.new`, JSON.stringify(content), { mode: 0o600, flush: true })
    renameSync(`${this.#path(name)}.new`, this.#path(name))
    // The new name too must outlive a power cut: the ledger says that it is in force.
    const folder = openSync(this.#folder, 'r')
    try {
      fsyncSync(folder)
    } finally {
      closeSync(folder)
    }
  }

  #remove(name: string): void {
    rmSync(this.#path(name), { force: true })
  }
}

function isMapOrAbsent(value: unknown): boolean {
  return value === undefined || (typeof value === 'object' && value !== null && !Array.isArray(value))
}

/** Anything else than what we wrote is as good as nothing (G3). */
function whole(read: Partial<StagedFiles> | undefined): StagedFiles | undefined {
  const isOurs = typeof read?.file === 'string' && typeof read.text === 'string' && typeof read.hash === 'string' && typeof read.proto === 'object' && [read.include, read.params].every(isMapOrAbsent)
  return isOurs ? (read as StagedFiles) : undefined
}
