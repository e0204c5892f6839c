/** Messages of a schema that differ in one thing at a time, so that two of them meet under any rule that makes them alike. */
import type { Stream } from '../../src/domain/policy.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import type { Schemas } from '../../src/minimise/descriptor.ts'
import type { Dice } from '../minimise/random/dice.ts'

type Body = Record<string, unknown>

export const NOON = Date.UTC(2026, 10, 23, 12, 7, 8)
const MINUTE = 60_000
const DAY = 86_400_000
const LATER = [20_000, 4 * MINUTE, 25 * MINUTE, -3 * 60 * MINUTE, -2 * DAY, -20 * DAY]

/** A base message, then one for each other value of each field, then mixtures. */
export function messagesOf(stream: Stream, schemas: Schemas, dice: Dice, mixtures = 10): readonly Uint8Array[] {
  const base = filled(stream.message, stream, '')
  const bodies: Body[] = [base]
  for (const [path, values] of variations(stream.message, stream, '')) for (const value of values) bodies.push(changed(base, path, value))
  for (let at = 0; at < mixtures; at++) {
    const one = dice.pick(bodies)
    const [path, values] = dice.pick([...variations(stream.message, stream, '')])
    bodies.push(changed(one, path, dice.pick(values)))
  }
  return bodies.map((body) => schemas.encode(stream.message.name, body))
}

const DEPTH = 3

function filled(shape: MessageShape, stream: Stream, prefix: string): Body {
  return Object.fromEntries(shape.fields.flatMap((field): [string, unknown][] => {
    const path = prefix === '' ? field.name : `${prefix}.${field.name}`
    // Of a oneof the first member.
    if (field.oneof !== undefined && shape.fields.find((one) => one.oneof === field.oneof) !== field) return []
    const [first] = valuesOf(field, path, stream)
    return first === undefined ? [] : [[field.name, first]]
  }))
}

function* variations(shape: MessageShape, stream: Stream, prefix: string): Iterable<readonly [path: string, values: readonly unknown[]]> {
  for (const field of shape.fields) {
    const path = prefix === '' ? field.name : `${prefix}.${field.name}`
    const values = valuesOf(field, path, stream).slice(1)
    if (values.length > 0) yield [path, values]
    if (field.message !== undefined && !field.repeated && !field.map && path.split('.').length < DEPTH) yield* variations(field.message, stream, path)
  }
}

/** The first is that of the base message. */
function valuesOf(field: FieldShape, path: string, stream: Stream): readonly unknown[] {
  if (field.map) return []
  if (field.message !== undefined) {
    if (path.split('.').length >= DEPTH) return []
    const one = filled(field.message, stream, path)
    if (!field.repeated) return [one]
    const other = Object.fromEntries(Object.entries(one).map(([name, value]) => [name, typeof value === 'number' ? value + 1 : value]))
    return [[one, other], [], [one], [other]]
  }
  const values = singles(field, path, stream)
  return field.repeated ? [[values[0], values[1]], [], [values[0]], [values[0], values[2] ?? values[0]]] : values
}

function singles(field: FieldShape, path: string, stream: Stream): readonly unknown[] {
  if (stream.time?.field === path) return [NOON, ...LATER.map((ms) => NOON + ms), 0].map((ms) => Math.floor(stream.time?.unit === 's' ? ms / 1_000 : ms))
  const point = stream.points.find((one) => one.lat === path || one.lon === path)
  if (point !== undefined) return (path === point.lat ? [48.13715, 48.13725, 48.1402, 48.19, 52.5, 0] : [11.57612, 11.5764, 11.6, 12.9, 0]).map((deg) => (field.type === 'double' || field.type === 'float' ? deg : Math.round(deg / point.scale)))
  if (stream.machineField === path || path === 'machine_id') return ['SN-1', '']
  switch (field.type) {
    case 'string': return ['abcdefghijklmnopqrstuvwxyz-0123456789', 'abcdefghijklmnopqrstuvwxyz-0123456780', 'abcdefghijklmnopqrstuvwx', 'abcz', 'P8', 'a', 'a/b', '']
    case 'bytes': return ['AQIDBAUGBwg=', 'AQIDBAUGBwk=', 'AQIDBA==', 'CQ==', '']
    case 'bool': return [true, false]
    case 'enum': return [...(field.enum?.values.values() ?? [])].reverse().slice(0, 8)
    case 'float': case 'double': return [21.3, 21.4, 22.6, 25, 80, -7, 0]
    case 'uint32': case 'uint64': case 'fixed32': case 'fixed64': return [137, 138, 4, 5, 36, 52, 260, 700, 900, 9_300, 100_003, 0]
    default: return [137, 138, 4, -4, 36, 52, 260, 700, 900, 9_300, 100_003, 0]
  }
}

/** Under a path. A member of a oneof takes the place of the others by the encoder's rules, so they go. */
function changed(body: Body, path: string, value: unknown): Body {
  const [name, ...rest] = path.split('.') as [string, ...string[]]
  return { ...body, [name]: rest.length === 0 ? value : changed((body[name] as Body | undefined) ?? {}, rest.join('.'), value) }
}
