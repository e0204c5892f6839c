/** What every benchmark is given. */
import type { Sheet } from './sheet.ts'

export interface BenchOptions {
  readonly sheet: Sheet
  /** Milliseconds a case is measured. */
  readonly timeMs: number
  /** Fewer cases and shorter rounds: the whole in less than a minute. */
  readonly isShort: boolean
  /** Only cases whose name has this in it; undefined = all. */
  readonly only: string | undefined
}
