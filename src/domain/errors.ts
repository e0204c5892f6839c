/**
 * One error class with a code for programs and a sentence for people. A sentence never holds personal data:
 * it names files, positions, fields and settings, not values from messages.
 */
export class GatewayError extends Error {
  readonly code: string
  /** What the reader can do about it; part of every message a person sees. */
  readonly mend: string | undefined

  constructor(code: string, message: string, mend?: string) {
    super(mend === undefined ? message : `${message} ${mend}`)
    this.name = 'GatewayError'
    this.code = code
    this.mend = mend
  }
}

export type Severity = 'error' | 'warning'

/** A place in a configuration file, one-based as editors count. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly col: number
}

/** Something `check` has to say about a file. Printed as `file:line:col severity CODE text`. */
export interface Finding {
  readonly severity: Severity
  /** Stable, upper case with hyphens: `UNKNOWN-FIELD`. Every code has an entry in config/README.md. */
  readonly code: string
  readonly place: Place
  /** A full sentence, followed by the mend. */
  readonly text: string
  /** The path in the file, e.g. `outputs.planner.streams.status.fields.soc`; matched by `accept: at`. */
  readonly path: string
}

export function formatFinding(finding: Finding): string {
  const { place } = finding
  return `${place.file}:${place.line}:${place.col} ${finding.severity} ${finding.code} ${finding.text}`
}

/**
 * An outlet's last word on a record: its destination will never take it. The outbox then keeps it aside instead of sending it
 * again (a dead letter). Any other error of an outlet means "not now".
 */
export class UndeliverableError extends Error {
  /** A reason code of the destination or a word of ours; never anything from the record. */
  readonly code: string

  constructor(code: string) {
    super(`The destination refused the message for good (${code}).`)
    this.name = 'UndeliverableError'
    this.code = code
  }
}
