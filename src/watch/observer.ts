/**
 * What looks at live traffic beside the pipeline: shadow, trace, learning, recordings. None of it is there unless somebody asked for it,
 * each has an end, and none may hold a message up or change what becomes of it.
 */
import type { Decision } from '../domain/consent.ts'
import type { Ending } from '../domain/live.ts'
import type { Stream } from '../domain/policy.ts'
import type { Machine, Publish } from '../domain/ports.ts'

export interface Observer {
  /** A message that was decided; all three hold only until this returns. What it throws ends the observer, not the message. */
  decided(publish: Publish, stream: Stream, decision: Readonly<Decision>): void
  /** A message that was refused whole, by verdict code; `stream` as far as it was known. */
  refused?(publish: Publish, stream: Stream | undefined, code: number): void
  /** Other rules are in force from now on. */
  rulesChanged?(): void
  /** No more is handed over; called once. */
  ended(why: Ending): void
}

export interface ObserverParts {
  readonly clock: { now(): number }
  /** Of the registry; undefined when it is not there any more. */
  readonly machine: (id: string) => Machine | undefined
}

/** Those that look at the moment, a handful at most. Nobody looking costs the path one comparison. */
export class Observers {
  #all: readonly Observer[] = []
  readonly #failed: (error: unknown) => void

  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
  }

  add(observer: Observer): void {
    this.#all = [...this.#all, observer]
  }

  end(observer: Observer, why: Ending): void {
    if (!this.#all.includes(observer)) return
    this.#all = this.#all.filter((one) => one !== observer)
    observer.ended(why)
  }

  decided(publish: Publish, stream: Stream, decision: Readonly<Decision>): void {
    if (this.#all.length === 0) return
    for (const observer of this.#all) this.#guarded(observer, () => observer.decided(publish, stream, decision))
  }

  refused(publish: Publish, stream: Stream | undefined, code: number): void {
    if (this.#all.length === 0) return
    for (const observer of this.#all) this.#guarded(observer, () => observer.refused?.(publish, stream, code))
  }

  rulesChanged(): void {
    for (const observer of this.#all) this.#guarded(observer, () => observer.rulesChanged?.())
  }

  close(): void {
    for (const observer of this.#all) this.end(observer, 'closing')
  }

  #guarded(observer: Observer, look: () => void): void {
    try {
      look()
    } catch (error) {
      this.#failed(error)
      this.end(observer, 'failed')
    }
  }
}
