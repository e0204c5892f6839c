/**
 * What a test expects of one output against what it got: exact in all fields, with points in degrees, and a few words for values
 * that cannot be written down (`$any`, `$save`, `$same`, `$differs`, `$sealed`) or must be absent (`nothing`).
 */
import { GatewayError } from './domain/errors.ts'
import type { Point, Stream } from './domain/policy.ts'
import type { FieldShape, MessageShape } from './domain/schema.ts'
import type { Schemas } from './minimise/descriptor.ts'

export type Saved = Map<string, string>

export interface Mismatch {
  /** Dotted path or the name of a point; empty for the whole output. */
  readonly field: string
  readonly expected: unknown
  readonly actual: unknown
  readonly note: string | undefined
}

export interface Expectations {
  readonly schemas: Schemas
  readonly stream: Stream
  readonly saved: Saved
  /** `save` only notes values down; `compare` only compares. */
  readonly phase: 'save' | 'compare'
  sealed(field: string): boolean
}

type Json = Record<string, unknown>
type Fields = Readonly<Record<string, unknown>>

/**
 * A message as tests write it: proto3 JSON, with the parts of each point as one `{ lat, lon }` in degrees. A track has its first
 * place so, and its steps beside it as the message has them: `{ lat, lon, dlat: […], dlon: […], dt: […] }`.
 */
export function shownFields(message: Fields, stream: Stream): Json {
  const shown = structuredClone(message) as Json
  for (const point of stream.points) {
    const lat = take(shown, point.lat.split('.'))
    const lon = take(shown, point.lon.split('.'))
    const steps = STEPS.flatMap((key) => {
      const path = point[key]
      const list = path === undefined ? undefined : take(shown, path.split('.'))
      return list === undefined ? [] : [[key, list] as const]
    })
    if (lat !== undefined || lon !== undefined || steps.length > 0) shown[point.name] = { lat: degrees(lat, point), lon: degrees(lon, point), ...Object.fromEntries(steps) }
  }
  return shown
}

/** The fields of a message as `shownFields` gives it: by their dotted paths, and points by their names. */
export function shownLeaves(shown: Fields, stream: Stream): Map<string, unknown> {
  const points = new Map(stream.points.map((point) => [point.name, point]))
  return new Map([...leavesOf(withoutPoints(shown, points), stream.message, ''), ...Object.entries(shown).filter(([name]) => points.has(name))])
}

/** Differences in the order of the expectation, then what was not expected at all. */
export function compareFields(expected: Fields, actual: Fields, cx: Expectations): Mismatch[] {
  const { stream } = cx
  const points = new Map(stream.points.map((point) => [point.name, point]))
  const wanted = nested(expected, points)
  const mismatches: Mismatch[] = []
  const rest = new Map(leavesOf(withoutPoints(actual, points), stream.message, ''))
  const places = new Map(Object.entries(actual).filter(([name]) => points.has(name)))

  for (const [name, value] of Object.entries(wanted)) {
    const point = points.get(name)
    if (name === '$rest') continue
    if (point === undefined) {
      mismatches.push(...compareTree({ [name]: value }, stream.message, '', rest, cx))
      continue
    }
    const got = places.get(name) as Position | undefined
    places.delete(name)
    mismatches.push(...compareValue(name, value, got, cx, () => isPosition(value) && got !== undefined && isSamePlace(value, got, point)))
  }
  if (cx.phase === 'save' || wanted.$rest === 'any') return mismatches
  for (const [field, value] of [...rest, ...places]) mismatches.push({ field, expected: 'nothing', actual: value, note: undefined })
  return mismatches
}

// ---------------------------------------------------------------------------------------------------------------- values

const NOTHING = 'nothing'

/** One expected value that is a word, or is compared by `same`. */
function compareValue(field: string, expected: unknown, actual: unknown, cx: Expectations, same: () => boolean): Mismatch[] {
  const mismatch = (note?: string): Mismatch[] => (cx.phase === 'save' ? [] : [{ field, expected, actual: actual ?? NOTHING, note }])
  const word = wordOf(expected)
  if (word === undefined) return expected === NOTHING ? (actual === undefined ? [] : mismatch()) : same() ? [] : mismatch()
  if (actual === undefined) return mismatch()
  const text = JSON.stringify(actual)
  if (word.kind === '$save') {
    if (cx.phase === 'save') cx.saved.set(word.name, text)
    return []
  }
  if (word.kind === '$any') return []
  if (word.kind === '$sealed') return cx.sealed(field) ? [] : mismatch('the value is not encrypted')
  const before = cx.saved.get(word.name)
  if (before === undefined) return mismatch(`nothing was saved as "${word.name}"`)
  return (before === text) === (word.kind === '$same') ? [] : mismatch(word.kind === '$same' ? `"${word.name}" is ${before}` : `it is the same as "${word.name}"`)
}

interface Word {
  readonly kind: '$any' | '$sealed' | '$save' | '$same' | '$differs'
  /** Under what the value is kept; empty where none is. */
  readonly name: string
}

function wordOf(value: unknown): Word | undefined {
  if (value === '$any' || value === '$sealed') return { kind: value, name: '' }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const [[kind, name] = ['', undefined], ...more] = Object.entries(value)
  if (more.length > 0 || (kind !== '$save' && kind !== '$same' && kind !== '$differs')) return undefined
  return { kind, name: String(name) }
}

/** Compares an expected part of a message, taking what it names out of `rest`. */
function compareTree(expected: Fields, shape: MessageShape, prefix: string, rest: Map<string, unknown>, cx: Expectations): Mismatch[] {
  return Object.entries(expected).flatMap(([name, value]) => {
    const field = shape.byName.get(name)
    const path = `${prefix}${name}`
    if (field !== undefined && isPart(field) && isPlain(value) && wordOf(value) === undefined) {
      rest.delete(path)
      return compareTree(value, field.message as MessageShape, `${path}.`, rest, cx)
    }
    const got = takeAll(rest, path)
    const canonical = wordOf(value) === undefined && value !== NOTHING ? canonicalOf(field, path, value, cx) : undefined
    if (canonical !== undefined && 'problem' in canonical) return cx.phase === 'save' ? [] : [{ field: path, expected: value, actual: got ?? NOTHING, note: canonical.problem }]
    return compareValue(path, value, got, cx, () => canonical !== undefined && JSON.stringify(canonical.value) === JSON.stringify(got))
  })
}

/** A value as it would come back from the wire: enum names, 64-bit numbers as texts, base64; a default without presence is absence. */
function canonicalOf(field: FieldShape | undefined, path: string, value: unknown, cx: Expectations): { readonly value: unknown } | { readonly problem: string } {
  if (field === undefined) return { problem: `${cx.stream.message.name} has no such field` }
  const steps = path.split('.')
  const message = steps.reduceRight<unknown>((inner, step) => ({ [step]: inner }), value) as Json
  const { name } = cx.stream.message
  try {
    let back: unknown = cx.schemas.decode(name, cx.schemas.encode(name, message))
    for (const step of steps) back = (back as Json | undefined)?.[step]
    return { value: isDefault(field, back) ? undefined : back }
  } catch (error) {
    if (error instanceof GatewayError) return { problem: error.message }
    throw error
  }
}

function isDefault(field: FieldShape, value: unknown): boolean {
  if (field.repeated) return Array.isArray(value) && value.length === 0
  if (field.presence) return false
  return value === '' || value === false || value === '0' || Object.is(value, 0) || (field.enum !== undefined && value === field.enum.names.get(0))
}

// ------------------------------------------------------------------------------------------------------------- structure

function isPlain(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A singular message whose fields are compared one by one. Well-known types are values. */
function isPart(field: FieldShape): boolean {
  return field.message !== undefined && !field.repeated && !field.message.name.startsWith('google.protobuf.')
}

/** `header.time: x` -> `header: { time: x }`. */
function nested(expected: Fields, points: ReadonlyMap<string, Point>): Json {
  const made: Json = {}
  for (const [name, value] of Object.entries(expected)) {
    const steps = points.has(name) ? [name] : name.split('.')
    let here = made
    for (const step of steps.slice(0, -1)) {
      const inner = here[step]
      here = (isPlain(inner) ? (here[step] = { ...inner }) : (here[step] = {})) as Json
    }
    here[steps[steps.length - 1] as string] = value
  }
  return made
}

function withoutPoints(actual: Fields, points: ReadonlyMap<string, Point>): Fields {
  return Object.fromEntries(Object.entries(actual).filter(([name]) => !points.has(name)))
}

function leavesOf(message: Fields, shape: MessageShape, prefix: string): [string, unknown][] {
  return Object.entries(message).flatMap(([name, value]): [string, unknown][] => {
    const field = shape.byName.get(name)
    const inner = field !== undefined && isPart(field) && isPlain(value) ? leavesOf(value, field.message as MessageShape, `${prefix}${name}.`) : []
    return inner.length > 0 ? inner : [[`${prefix}${name}`, value]]
  })
}

/** The value at a path, or what lies below it put together again. */
function takeAll(rest: Map<string, unknown>, path: string): unknown {
  if (rest.has(path)) {
    const value = rest.get(path)
    rest.delete(path)
    return value
  }
  const below = [...rest].filter(([name]) => name.startsWith(`${path}.`))
  for (const [name] of below) rest.delete(name)
  return below.length === 0 ? undefined : Object.fromEntries(below.map(([name, value]) => [name.slice(path.length + 1), value]))
}

/** Removes and returns the value at a path; messages that this empties go too. */
function take(message: Json, path: readonly string[]): unknown {
  const [name = '', ...more] = path
  const value = message[name]
  if (more.length === 0) {
    delete message[name]
    return value
  }
  if (!isPlain(value)) return undefined
  const taken = take(value as Json, more)
  if (Object.keys(value).length === 0) delete message[name]
  return taken
}

// ---------------------------------------------------------------------------------------------------------------- points

const STEPS = ['dlat', 'dlon', 'dt'] as const

interface Position {
  readonly lat: number
  readonly lon: number
  readonly dlat?: unknown
  readonly dlon?: unknown
  readonly dt?: unknown
}

/** Seven decimals are a centimetre, and as fine as any of the integer units. */
function degrees(wire: unknown, point: Point): number {
  return Number((Number(wire ?? 0) * point.scale).toFixed(7))
}

function isPosition(value: unknown): value is Position {
  return isPlain(value) && typeof value.lat === 'number' && typeof value.lon === 'number' && Object.keys(value).every((key) => ['lat', 'lon', ...STEPS].includes(key))
}

function isSamePlace(a: Position, b: Position, point: Point): boolean {
  const unit = Math.max(point.scale === 1 ? 0 : point.scale, 1e-7)
  return Math.round(a.lat / unit) === Math.round(b.lat / unit) && Math.round(a.lon / unit) === Math.round(b.lon / unit)
    && STEPS.every((key) => JSON.stringify(a[key] ?? []) === JSON.stringify(b[key] ?? []))
}
