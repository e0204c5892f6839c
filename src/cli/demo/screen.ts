/**
 * The demo's picture: what a terminal sent beside what each recipient received, as lines of text. Pure; the painter below
 * puts lines on a terminal without flicker.
 */
import type { MessageShape } from '../../domain/schema.ts'
import type { Column, Happening, Scene } from './scene.ts'

export interface View {
  readonly scene: Scene
  readonly elapsedS: number
  readonly totalS: number
  readonly nowMs: number
  /** Who is on the platform: `Anna, card A-1001`. */
  readonly person: string
  readonly caption: Caption
  readonly status: MessageShape
}

export interface Caption {
  readonly happens: string
  readonly look: string
  /** What the gateway answered. */
  readonly answer?: string | undefined
}

export type Style = 'bold' | 'dim' | 'changed' | 'same' | 'title'
type Run = readonly [text: string, style?: Style]
export type Line = readonly Run[]

/** A message is under way for so long before it counts as withheld. */
const UNDER_WAY_MS = 600
const WIDTH_MIN = 40
const FIELD_WIDTH = 20
const SENT_WIDTH = 16

/** Fields of Status, the most telling first; as many as fit are shown, in the order of the schema. */
const FIELDS = [
  'machine_id', 'time_ms', 'operator_id', 'lat_e7', 'lon_e7', 'mode', 'soc_pct_x10', 'platform_height_mm', 'hour_meter_s', 'display_text', 'site_code', 'platform_load_kg', 'session_ref', 'drive_speed_mm_s',
  'flags', 'key_on', 'pack_mv', 'pack_current_da', 'pack_temp_dc', 'seq', 'roll_cdeg', 'pitch_cdeg', 'fix',
] as const

/** One frame, at most `height` lines of at most `width` characters. */
export function frame(view: View, width: number, height: number): Line[] {
  const { scene, caption, nowMs } = view
  const wide = Math.max(WIDTH_MIN, width)
  const columns = scene.columns.map((column) => ({ column, fresh: column.body !== undefined && (column.receivedMs >= scene.statusMs || (column.expecting && nowMs - scene.statusMs < UNDER_WAY_MS)) }))
  const cell = Math.max(10, Math.floor((wide - FIELD_WIDTH - SENT_WIDTH - 1) / Math.max(1, columns.length)))

  const head: Line[] = [
    [[` Parapet demo   ${clock(view.elapsedS)} of ${clock(view.totalS)}   machine ${scene.machine}, ${view.person}`, 'title']],
    [],
    ...wrap(caption.happens, wide - 2).map((text): Line => [[` ${text}`, 'bold']]),
    ...wrap(`Look at ${caption.look}`, wide - 2).map((text): Line => [[` ${text}`]]),
    ...(caption.answer === undefined ? [] : wrap(caption.answer, wide - 2)).map((text): Line => [[` ${text}`, 'dim']]),
    [],
    [[' Status field'.padEnd(FIELD_WIDTH), 'bold'], ['terminal sends'.padEnd(SENT_WIDTH), 'bold'], ...columns.map(({ column }): Run => [column.recipient.padEnd(cell), 'bold'])],
    [[' '.repeat(FIELD_WIDTH + SENT_WIDTH), 'dim'], ...columns.map(({ fresh }): Run => [(fresh ? 'receives' : 'gets nothing').padEnd(cell), fresh ? 'same' : 'dim'])],
  ]
  const foot = footOf(scene, wide)
  const eventRoom = Math.max(2, Math.min(7, height - head.length - foot.length - 14))
  const happenings = scene.happenings.flatMap((one) => happeningLines(one, view, wide)).slice(0, eventRoom)
  const rows = Math.max(3, height - head.length - foot.length - eventRoom - 3)
  const lines: Line[] = [
    ...head,
    ...fieldRows(view, rows, cell, columns),
    [],
    [[' Other messages of this machine, newest first'.padEnd(Math.floor(wide / 2)), 'bold'], ['who received what of it', 'bold']],
    ...happenings,
    ...Array.from({ length: eventRoom - happenings.length }, (): Line => []),
    [],
    ...foot,
  ]
  return lines.slice(0, height)
}

function fieldRows({ scene, status }: View, rows: number, cell: number, columns: readonly { readonly column: Column; readonly fresh: boolean }[]): Line[] {
  const { status: sent } = scene
  if (sent === undefined) return [[[' (waiting for the first message)', 'dim']]]
  const shown = new Set<string>(FIELDS.slice(0, rows))
  return status.fields.filter(({ name }) => shown.has(name)).map(({ name }): Line => {
    const was = shownValue(status, name, sent[name])
    return [
      [` ${name}`.padEnd(FIELD_WIDTH)], [fit(was, SENT_WIDTH - 1).padEnd(SENT_WIDTH)],
      ...columns.map(({ column, fresh }): Run => {
        const got = fresh ? column.body?.[name] : undefined
        // Zero and absence are the same on the wire: only what was something can be seen to be missing.
        if (got === undefined) return [(isZero(sent[name]) ? '' : '·').padEnd(cell), 'dim']
        const is = shownValue(status, name, got)
        return [fit(is, cell - 1).padEnd(cell), is === was ? 'same' : 'changed']
      }),
    ]
  })
}

function isZero(value: unknown): boolean {
  return value === undefined || value === 0 || value === '' || value === false || value === '0'
}

/** A value as a person reads it: clock time, degrees, physical units of the schema. */
export function shownValue(shape: MessageShape, name: string, value: unknown): string {
  if (value === undefined) return ''
  if (name.endsWith('time_ms')) return new Date(Number(value)).toISOString().slice(11, 19)
  const { unit = '', scale = 1 } = shape.byName.get(name)?.classified ?? {}
  if (name === 'hour_meter_s') return `${(Number(value) / 3600).toFixed(2)} h`
  if (unit === 'deg' && scale < 1e-5) return (Number(value) * scale).toFixed(5)
  const number = typeof value === 'number' || (typeof value === 'string' && unit !== '' && Number.isFinite(Number(value)))
  if (number && scale !== 1) return `${(Number(value) * scale).toFixed(Math.min(2, Math.round(-Math.log10(scale))))}${unit === '' ? '' : ` ${unit}`}`
  if (number && unit !== '') return `${String(value)} ${unit}`
  return plain(value)
}

function plain(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? `[${value.length}]` : '{…}'
  return String(value).replace(/^(?:MODE|METHOD|SAFETY|SEVERITY|CHECK|FAIL)_/, '')
}

/** Of a message that was sent: what tells most, in this order. */
const TELLING: Readonly<Partial<Record<string, readonly string[]>>> = {
  operator: ['op', 'operator_id', 'display_name', 'certificate_no', 'fail_reason'],
  precheck: ['passed', 'operator_id', 'items', 'remark'],
  safety: ['kind', 'value', 'operator_id', 'lat_e7', 'lon_e7'],
  session: ['operator_id', 'score_pct_x10', 'idle_s', 'drive_s', 'lift_s'],
  fault: ['spn', 'fmi', 'operator_id', 'oem_code'],
  comms: ['ip', 'imei', 'imsi', 'cell_id'],
}
/** Of a message that was received: header fields, which every output has in its way, and long lists. */
const DULL: ReadonlySet<string> = new Set(['machine_id', 'time_ms', 'acc_mg', 'duration_ms', 'list_version', 'iccid', 'apn', 'mcc', 'mnc', 'rx_kb', 'tx_kb', 'source_address', 'lamp'])

/** One line for each recipient of it, at least one. */
function happeningLines({ atMs, stream, body, got }: Happening, { nowMs }: View, width: number): Line[] {
  const half = Math.floor(width / 2)
  const left = ` ${new Date(atMs).toISOString().slice(11, 19)} ${stream.padEnd(9)}${brief(body, TELLING[stream] ?? Object.keys(body))}`
  const right = got.length === 0 ? [nowMs - atMs < UNDER_WAY_MS ? '' : 'nobody'] : got.map(({ recipient, body: part }) => `${recipient}: ${brief(part, Object.keys(part).filter((name) => !DULL.has(name))) || 'no more than the time'}`)
  return right.map((text, at): Line => [[(at === 0 ? fit(left, half - 1) : '').padEnd(half)], [fit(text, width - half), got.length === 0 ? 'dim' : 'changed']])
}

/** Values that speak for themselves stand without their names. */
const BARE: ReadonlySet<string> = new Set(['op', 'kind', 'display_name', 'method', 'severity'])

function brief(body: Readonly<Record<string, unknown>>, names: readonly string[]): string {
  return names.filter((name) => !isZero(body[name])).map((name) => {
    const value = body[name]
    if (name === 'lat_e7' || name === 'lon_e7') return (Number(value) / 1e7).toFixed(3)
    if (name === 'operator_id') return `by ${fit(plain(value), 9)}`
    if (name === 'items' && Array.isArray(value)) return `${value.length} items`
    return BARE.has(name) ? plain(value) : `${name}=${plain(value)}`
  }).join(' ')
}

function footOf(scene: Scene, width: number): Line[] {
  const sum = (tallies: Iterable<{ readonly messages: number; readonly bytes: number }>): { messages: number; bytes: number } => [...tallies].reduce((all: { messages: number; bytes: number }, one) => ({ messages: all.messages + one.messages, bytes: all.bytes + one.bytes }), { messages: 0, bytes: 0 })
  const sent = sum(scene.sent.values())
  const received = sum(scene.received.values())
  const text = ` All terminals sent ${sent.messages} messages, ${kilo(sent.bytes)}; all recipients together received ${received.messages}, ${kilo(received.bytes)}.`
  return [[[fit(text, width), 'bold']]]
}

export function kilo(bytes: number): string {
  return bytes < 10_000 ? `${bytes} B` : `${Math.round(bytes / 1000)} kB`
}

export function clock(seconds: number): string {
  const whole = Math.floor(seconds)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

/** At most so many characters; what is cut shows it. */
function fit(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

// --------------------------------------------------------------------------------------------------------------------- paint

const CODES: Readonly<Record<Style, string>> = { bold: '1', dim: '2', changed: '33', same: '32', title: '7' }

/** A line as text, cut to the width; with colours where they are wanted. */
export function paint(line: Line, width: number, colour: boolean): string {
  let room = width
  let text = ''
  for (const [part, style] of line) {
    const cut = part.slice(0, room)
    room -= cut.length
    text += colour && style !== undefined && cut !== '' ? `\u001B[${CODES[style]}m${cut}\u001B[0m` : cut
  }
  return colour ? text : text.trimEnd()
}

export interface Painter {
  draw(lines: readonly Line[]): void
  readonly width: number
  readonly height: number
  /** Gives the terminal back as it was. */
  close(): void
}

interface Screen {
  write(text: string): unknown
  readonly columns?: number | undefined
  readonly rows?: number | undefined
}

/** Draws over the last frame in one write, on the alternate screen, at the size that the terminal has at that moment. */
export function painter(screen: Screen, colour: boolean): Painter {
  screen.write('\u001B[?1049h\u001B[?25l')
  let closed = false
  return {
    get width() {
      return screen.columns ?? 100
    },
    get height() {
      return screen.rows ?? 40
    },
    draw(lines) {
      const [width, height] = [this.width, this.height]
      // The last column stays free: a terminal that wraps there would scroll.
      const text = lines.slice(0, height).map((line) => `${paint(line, width - 1, colour)}\u001B[K`).join('\r\n')
      // Synchronized output where the terminal knows it; the others ignore it.
      screen.write(`\u001B[?2026h\u001B[H${text}\u001B[J\u001B[?2026l`)
    },
    close() {
      if (closed) return
      closed = true
      screen.write('\u001B[?25h\u001B[?1049l')
    },
  }
}
