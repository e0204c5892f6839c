/**
 * Lines in a field, as SVG: the same bytes for the same figures, readable on light and on dark ground, each line named where it ends.
 */
import type { Growth } from './figures.ts'

export interface Line {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface Curve {
  readonly name: string
  /** What the axes say; with `log` the axis has a decade at each mark. */
  readonly x: string
  readonly y: string
  readonly log?: 'x' | 'y' | 'both'
  /** What the lines must be; left out: nothing is said about it. */
  readonly expected?: Growth
  readonly lines: readonly Line[]
}

const [WIDTH, HEIGHT] = [480, 280]
/** Of the field, inside. */
const FIELD = { left: 64, top: 40, right: 24, bottom: 44 } as const
const COLOURS = ['one', 'two', 'three', 'four', 'five', 'six'] as const
const COLUMNS = 2

/** Several curves side by side, two a row. */
export function chart(title: string, curves: readonly Curve[]): string {
  const rows = Math.ceil(curves.length / COLUMNS)
  const width = WIDTH * Math.min(COLUMNS, Math.max(1, curves.length))
  const fields = curves.map((curve, at) => `<g transform="translate(${(at % COLUMNS) * WIDTH} ${Math.floor(at / COLUMNS) * HEIGHT})">\n${field(curve)}\n</g>`)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${rows * HEIGHT}" width="${width}" height="${rows * HEIGHT}" role="img" aria-label="${escaped(title)}">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
<rect class="ground" width="100%" height="100%"/>
${fields.join('\n')}
</svg>
`
}

// The colours keep a contrast of 3:1 and more to their ground, and lines differ in their marks as well.
const LIGHT = '.ground{fill:#fff}text{fill:#24292f}.grid{stroke:#d0d7de}.one{--c:#0550ae}.two{--c:#bc4c00}.three{--c:#1a7f37}.four{--c:#8250df}.five{--c:#bf3989}.six{--c:#6e5c00}'
const DARK = '.ground{fill:#0d1117}text{fill:#e6edf3}.grid{stroke:#30363d}.one{--c:#58a6ff}.two{--c:#f0883e}.three{--c:#56d364}.four{--c:#bc8cff}.five{--c:#f778ba}.six{--c:#e3b341}'
const STYLE = `text{font:12px system-ui,sans-serif}.name{font-weight:600;font-size:14px}.line{fill:none;stroke:var(--c);stroke-width:2}.mark,.label{fill:var(--c)}.grid{stroke-width:1}${LIGHT}@media(prefers-color-scheme:dark){${DARK}}`

function field({ name, x, y, log, lines }: Curve): string {
  const all = lines.flatMap(({ points }) => points)
  const across = axis(all.map(([value]) => value), log === 'x' || log === 'both')
  const up = axis(all.map(([, value]) => value), log === 'y' || log === 'both')
  const placeX = (value: number): number => round(FIELD.left + across.at(value) * (WIDTH - FIELD.left - FIELD.right))
  const placeY = (value: number): number => round(HEIGHT - FIELD.bottom - up.at(value) * (HEIGHT - FIELD.top - FIELD.bottom))
  const grid = [
    ...across.marks.map((mark) => `<line class="grid" x1="${placeX(mark)}" x2="${placeX(mark)}" y1="${FIELD.top}" y2="${HEIGHT - FIELD.bottom}"/><text x="${placeX(mark)}" y="${HEIGHT - FIELD.bottom + 16}" text-anchor="middle">${short(mark)}</text>`),
    ...up.marks.map((mark) => `<line class="grid" x1="${FIELD.left}" x2="${WIDTH - FIELD.right}" y1="${placeY(mark)}" y2="${placeY(mark)}"/><text x="${FIELD.left - 6}" y="${placeY(mark) + 4}" text-anchor="end">${short(mark)}</text>`),
  ]
  const ends = spaced(lines.map(({ points }) => placeY(points.at(-1)?.[1] ?? 0) - 8))
  const drawn = lines.map(({ name: label, points }, at) => [
    `<g class="${COLOURS[at % COLOURS.length]}"><polyline class="line" points="${points.map(([a, b]) => `${placeX(a)},${placeY(b)}`).join(' ')}"/>`,
    ...points.map(([a, b]) => mark(at, placeX(a), placeY(b))),
    `<text class="label" x="${WIDTH - FIELD.right}" y="${ends[at]}" text-anchor="end">${escaped(label)}</text></g>`,
  ].join(''))
  return [
    `<text class="name" x="12" y="20">${escaped(name)}</text>`, `<text x="12" y="36">${escaped(y)}</text>`,
    `<text x="${WIDTH - FIELD.right}" y="${HEIGHT - 8}" text-anchor="end">${escaped(x)}</text>`, ...grid, ...drawn,
  ].join('\n')
}

interface Axis {
  readonly marks: readonly number[]
  /** From 0 to 1. */
  at(value: number): number
}

/** Decades, or from 0 in steps of 1, 2 or 5. */
function axis(values: readonly number[], isLog: boolean): Axis {
  const [min, max] = [Math.min(...values), Math.max(...values)]
  if (isLog) {
    const [from, to] = [Math.floor(Math.log10(min)), Math.max(Math.floor(Math.log10(min)) + 1, Math.ceil(Math.log10(max)))]
    return { marks: Array.from({ length: to - from + 1 }, (_, n) => 10 ** (from + n)), at: (value) => (Math.log10(value) - from) / (to - from) }
  }
  const rough = (max || 1) / 4
  const decade = 10 ** Math.floor(Math.log10(rough))
  const step = decade * ([1, 2, 5, 10].find((times) => decade * times >= rough) ?? 10)
  const count = Math.ceil((max || 1) / step)
  return { marks: Array.from({ length: count + 1 }, (_, n) => Number((n * step).toPrecision(6))), at: (value) => value / (count * step) }
}

/** Labels one above the other do not touch. */
function spaced(places: readonly number[]): number[] {
  const result = [...places]
  let last = -Infinity
  for (const at of places.map((_, n) => n).sort((one, other) => places[one]! - places[other]!)) {
    last = result[at] = round(Math.max(places[at]!, last + 14))
  }
  return result
}

function mark(kind: number, x: number, y: number): string {
  if (kind % 3 === 0) return `<circle class="mark" cx="${x}" cy="${y}" r="3.5"/>`
  if (kind % 3 === 1) return `<rect class="mark" x="${round(x - 3)}" y="${round(y - 3)}" width="6" height="6"/>`
  return `<path class="mark" d="M${x} ${round(y - 4.5)}l4.5 8h-9z"/>`
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`
  if (value >= 1e3) return `${Number((value / 1e3).toPrecision(3))}k`
  return String(Number(value.toPrecision(3)))
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
