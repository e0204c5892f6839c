/**
 * What the demo has seen so far: what the terminal in focus sent last, what each recipient got of it, and how much of everything.
 * Pure book-keeping; screen.ts shows it.
 */
import type { Message, StreamName } from '../simulate/machine.ts'

export interface Column {
  readonly output: string
  readonly recipient: string
  /** The last Status of the machine in focus as this recipient got it. */
  body: Readonly<Record<string, unknown>> | undefined
  receivedMs: number
  /** It got the Status before the last one, so that it is expected to get this one too in a moment. */
  expecting: boolean
}

/** A message other than Status, and who got what of it. */
export interface Happening {
  readonly atMs: number
  readonly stream: StreamName
  readonly body: Readonly<Record<string, unknown>>
  readonly got: { readonly recipient: string; readonly body: Readonly<Record<string, unknown>> }[]
}

export interface Tally {
  messages: number
  bytes: number
}

export interface Received {
  readonly output: string
  readonly recipient: string
  readonly stream: string
  readonly body: Readonly<Record<string, unknown>>
  readonly bytes: number
  readonly atMs: number
}

export interface Scene {
  readonly machine: string
  readonly columns: readonly Column[]
  /** The newest first. */
  readonly happenings: readonly Happening[]
  /** The last Status of the machine in focus, and when it was sent. */
  readonly status: Readonly<Record<string, unknown>> | undefined
  readonly statusMs: number
  /** By stream; all terminals. */
  readonly sent: ReadonlyMap<string, Tally>
  /** By output. */
  readonly received: ReadonlyMap<string, Tally>
  noteSent(message: Message, bytes: number): void
  noteReceived(received: Received): void
  /** True once the service cloud's name for the machine in focus is known: other machines may start. */
  knows(output: string): boolean
}

/** Shown one by one; everything else is only counted. */
const SHOWN: ReadonlySet<string> = new Set(['operator', 'precheck', 'safety', 'fault', 'session', 'comms'])
const HAPPENINGS_MAX = 12

/**
 * @param machine  id of the machine in focus
 * @param fleet    ids of all machines, by which recipients who get them in clear are told apart
 * @param outputs  the outputs that get Status, with their recipients
 */
export function createScene(machine: string, fleet: ReadonlySet<string>, outputs: readonly { readonly output: string; readonly recipient: string }[]): Scene {
  const columns: Column[] = outputs.map((one) => ({ ...one, body: undefined, receivedMs: 0, expecting: false }))
  const happenings: Happening[] = []
  const sent = new Map<string, Tally>()
  const received = new Map<string, Tally>()
  /** Output -> what it calls the machine in focus, or the person on it. */
  const names = new Map<string, unknown>()
  let status: Readonly<Record<string, unknown>> | undefined
  let statusMs = 0

  /**
   * Whether a minimised message is of the machine in focus. A recipient who sees a pseudonym cannot tell, and neither can the demo:
   * it learns the name from the first message, while no other machine can have sent one.
   */
  function isFocus(output: string, body: Readonly<Record<string, unknown>>): boolean {
    const name = body['machine_id'] ?? body['operator_id']
    if (name === machine) return true
    if (typeof name !== 'string' || fleet.has(name)) return false
    if (!names.has(output)) names.set(output, name)
    return names.get(output) === name
  }

  return {
    machine, columns, happenings, sent, received,
    get status() {
      return status
    },
    get statusMs() {
      return statusMs
    },
    noteSent(message, bytes) {
      add(sent, message.stream, bytes)
      if (message.machine !== machine) return
      if (message.stream === 'status') {
        for (const column of columns) column.expecting = column.receivedMs >= statusMs
        status = message.body
        statusMs = message.atMs
      }
      if (!SHOWN.has(message.stream)) return
      happenings.unshift({ atMs: message.atMs, stream: message.stream, body: message.body, got: [] })
      if (happenings.length > HAPPENINGS_MAX) happenings.pop()
    },
    noteReceived({ output, recipient, stream, body, bytes, atMs }) {
      add(received, output, bytes)
      if (!isFocus(output, body)) return
      if (stream === 'status') {
        const column = columns.find((one) => one.output === output)
        if (column !== undefined) Object.assign(column, { body, receivedMs: atMs })
        return
      }
      const happening = happenings.find((one) => one.stream === stream && !one.got.some((got) => got.recipient === recipient))
      happening?.got.push({ recipient, body })
    },
    knows: (output) => names.has(output),
  }
}

function add(tallies: Map<string, Tally>, key: string, bytes: number): void {
  const tally = tallies.get(key) ?? { messages: 0, bytes: 0 }
  tallies.set(key, tally)
  tally.messages += 1
  tally.bytes += bytes
}
