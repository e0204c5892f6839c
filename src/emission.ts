/**
 * Down-sampling (`emit`, rules-language 4.8): which of an output's results leave, and when. It looks at results only, never at the
 * message they were made of, so that nothing an output may not see decides what it is sent (G2).
 *
 * - `every: d`: windows of event time, floor(event time / d), per output, stream and machine; of each at most one message leaves.
 * - `take: first` leaves at once; with `hold: true`, and always for `last` and `max`, the message is kept to the end of its window,
 *   which is the next multiple of d on the gateway's clock: for data that comes late that is the end of the window it arrives in. So
 *   an arrival tells the window and nothing finer.
 * - `on_change: [fields]`: only a message in which one of these differs, as this output sees them, from the one that left last.
 *   Together with `every` both hold: at most one a window, and only when something changed.
 *
 * What is kept, which windows are over and what left last lies in the outbox, in the transaction of the records themselves.
 */
import { createHash } from 'node:crypto'
import type { Emit, OutputStream, Point } from './domain/policy.ts'
import type { Outbox, OutboxRecord, Slot } from './domain/ports.ts'
import type { FieldShape, MessageShape } from './domain/schema.ts'
import { decodeTree, encodeTree, isTree, pathOf, slotAt, type Slot as Part, type Tree } from './minimise/tree.ts'
import { textOf, type Value } from './minimise/value.ts'

/** The down-sampling of one output and stream. */
export interface Emission {
  /**
   * Asks for one result, `bytes[from, to)`. False = it does not leave (`sampled`). True = it does, as `slot` and `untilMs` of the
   * record say, which are then in `slot` and `untilMs` here until the next call.
   */
  offer(machine: string, eventMs: number, nowMs: number, bytes: Uint8Array, from: number, to: number): boolean
  readonly slot: Slot | undefined
  readonly untilMs: number | undefined
  /** It takes the place of a result that was kept, which then never leaves. */
  readonly replaces: boolean
}

/** @param outbox  what is kept for a window, and what left last */
export function createEmission(output: string, source: OutputStream, emit: Emit, outbox: Pick<Outbox, 'kept' | 'mark'>): Emission {
  const { message } = source.stream
  const everyMs = emit.everyMs
  const isKept = everyMs !== undefined && (emit.hold || emit.take !== 'first')
  const largest = typeof emit.take === 'object' ? (pathOf(message, emit.take.max) as FieldShape[]) : undefined
  const watched = emit.onChange.flatMap((name) => pathsOf(message, source.stream.points, name))
  let slot: Slot | undefined
  let untilMs: number | undefined
  let replaces = false

  return {
    offer(machine, eventMs, nowMs, bytes, from, to) {
      const key = `${output}|${source.stream.id}|${machine}|${everyMs ?? 0}`
      const tree = largest === undefined && watched.length === 0 ? undefined : decodeTree(message, bytes, from, to)
      const mark = tree === undefined || watched.length === 0 ? undefined : markOf(tree, watched)
      if (mark !== undefined && outbox.mark(key) === mark) return false
      // A clock that runs ahead must not keep a message for years.
      const atMs = everyMs !== undefined && eventMs > nowMs + everyMs ? nowMs : eventMs
      slot = { key, window: everyMs === undefined ? -1 : Math.floor(atMs / everyMs), everyMs: everyMs ?? 0, mark }
      untilMs = everyMs === undefined || !isKept ? undefined : endOf(slot.window, everyMs, nowMs)
      replaces = false
      if (everyMs === undefined) return true
      const kept = outbox.kept(slot)
      if (kept === null) return false
      if (kept === undefined) return true
      replaces = isBetter(tree, kept)
      return replaces
    },
    get slot() {
      return slot
    },
    get untilMs() {
      return untilMs
    },
    get replaces() {
      return replaces
    },
  }

  /** Whether a result takes the place of the one that is kept. */
  function isBetter(tree: Tree | undefined, kept: OutboxRecord): boolean {
    if (emit.take === 'first') return false
    if (largest === undefined || tree === undefined) return true
    const [mine, other] = [numberAt(tree, largest), numberAt(decodeTree(message, kept.payload), largest)]
    return Number.isNaN(other) || mine >= other
  }
}

/** The instant at which a window's message leaves: the window's end, or for late data the end of the window that is open now. */
function endOf(window: number, everyMs: number, nowMs: number): number {
  const end = (window + 1) * everyMs
  return end > nowMs ? end : (Math.floor(nowMs / everyMs) + 1) * everyMs
}

function pathsOf(message: MessageShape, points: readonly Point[], name: string): FieldShape[][] {
  const point = points.find((one) => one.name === name)
  if (point === undefined) return [pathOf(message, name) as FieldShape[]]
  const names = point.kind === 'delta' ? [point.lat, point.lon, point.dlat as string, point.dlon as string] : [point.lat, point.lon]
  return names.map((one) => pathOf(message, one) as FieldShape[])
}

/** NaN where the result has no such number. */
function numberAt(tree: Tree, path: readonly FieldShape[]): number {
  const part = slotAt(tree, path)
  if (part !== undefined) return Number(part as Value)
  return path.at(-1)?.presence === true ? Number.NaN : 0
}

/** A digest, so that no value is remembered. */
function markOf(tree: Tree, paths: readonly (readonly FieldShape[])[]): string {
  const hash = createHash('sha256')
  for (const path of paths) {
    const part = slotAt(tree, path)
    // Absent is not empty, and a list of two is not a list of one with a comma in it.
    hash.update(part === undefined ? '-' : framed(partText(part)))
  }
  return hash.digest('base64url').slice(0, 22)
}

function framed(text: string): string {
  return `${text.length}:${text}`
}

function partText(part: Part): string {
  if (Array.isArray(part)) return part.map((one) => framed(partText(one))).join('')
  if (part instanceof Uint8Array) return Buffer.from(part).toString('hex')
  return isTree(part) ? Buffer.from(encodeTree(part).finish()).toString('hex') : String(textOf(part))
}
