/**
 * The catalogue of transforms (rules-language 5). One spec each: name, summary, argument, fields it fits, ISO/IEC 20889 class,
 * example, how the argument is read, whether one setting is coarser than another, and the code.
 * The parser, the lints, the JSON Schema, the documentation and `explain` all read these specs.
 */
import type { FieldShape, SubjectKind } from '../domain/schema.ts'
import { classificationOf } from '../domain/schema.ts'
import type { Transform } from '../domain/policy.ts'
import { NAME } from '../domain/ids.ts'
import { isGridSize } from './grid.ts'
import { RANGES, bucketOf, floorBig, floorNumber, roundBig, roundFloat, roundInteger } from './number.ts'
import { pseudonymNumber, type Pseudonymiser, type Rotate } from './pseudonym.ts'
import { formatDuration, parseDuration, parseMetres, parseQuantity } from './quantity.ts'
import { kindOf, type Value, type ValueKind } from './value.ts'

type Params = Readonly<Record<string, unknown>>
export type JsonSchema = Readonly<Record<string, unknown>>

/** What a transform is being applied to, while the rules file is read. */
export interface Subject {
  /** The leaf field; undefined for a point. */
  readonly field: FieldShape | undefined
  readonly point: boolean
  /** Unit of the stream's time when the field is it, so that `round_time` works without a classified unit. */
  readonly timeUnit: 's' | 'ms' | 'us' | 'ns' | 'timestamp' | undefined
  /** Dotted path, the default domain of a pseudonym. */
  readonly path: string
}

export type Reading = { readonly params: Params } | { readonly problem: string }

/** What a transform may need from outside the field, at run time. */
export interface Moment {
  /** Event time in ms, NaN when there is none. */
  eventMs: number
  /** Hex of the operator session, empty when there is none. */
  session: string
}

export type Apply = (value: Value, moment: Moment) => Value | undefined

/** Services that a bound transform may keep: made once per (output, field). */
export interface Services {
  pseudonym(params: Params, field: FieldShape): Pseudonymiser
}

export interface TransformSpec {
  readonly name: string
  readonly summary: string
  /** ISO/IEC 20889:2018 class of the technique. */
  readonly technique: string
  /** JSON Schema of the argument; the value after the colon. */
  readonly argument: JsonSchema
  /** May be written as a bare name. */
  readonly bare: boolean
  readonly fits: readonly (ValueKind | 'point')[]
  readonly example: string
  /** Rank in drop < constant < coarse < fine < keep, for provable coarseness. */
  readonly rank: 'drop' | 'constant' | 'coarse' | 'keep'
  /** True when a result under this transform counts as a generalisation for `no_consent` of a personal field (rules-language 4.3). */
  generalises(params: Params): boolean
  /** Whether `a` is coarser than or equal to `b`, both settings of this transform. */
  coarser(a: Params, b: Params): boolean
  read(argument: unknown, subject: Subject): Reading
  /** How the setting reads in `explain`. */
  text(params: Params): string
  /** Binds the code for one field. Points are handled by the plan (`grid`). Returns undefined from the result = drop and count. */
  bind(params: Params, field: FieldShape, services: Services): Apply
}

const NUMERIC: readonly ValueKind[] = ['integer', 'big', 'float']
const ALL: readonly (ValueKind | 'point')[] = ['integer', 'big', 'float', 'bool', 'string', 'bytes', 'enum', 'message', 'point']
const never = (): boolean => false
const always = (): boolean => true

const keep: TransformSpec = {
  name: 'keep',
  summary: 'The value leaves as it is.',
  technique: 'none',
  argument: { type: 'object', maxProperties: 0 },
  bare: true,
  fits: ALL,
  example: 'keep',
  rank: 'keep',
  generalises: never,
  coarser: always,
  read: () => ({ params: {} }),
  text: () => 'keep',
  bind: () => (value) => value,
}

const drop: TransformSpec = {
  ...keep,
  name: 'drop',
  summary: 'The field does not leave.',
  technique: 'suppression (local)',
  example: 'drop',
  rank: 'drop',
  generalises: always,
  text: () => 'drop',
  bind: () => () => undefined,
}

const constant: TransformSpec = {
  name: 'constant',
  summary: 'Always the same value, whatever the machine sent.',
  technique: 'suppression (local)',
  argument: { type: ['number', 'string', 'boolean'] },
  bare: false,
  fits: ['integer', 'big', 'float', 'bool', 'string', 'enum'],
  example: 'constant: 0',
  rank: 'constant',
  generalises: always,
  coarser: always,
  read(argument, subject) {
    const field = subject.field as FieldShape
    const kind = kindOf(field)
    if (kind === 'bool' || kind === 'string') {
      return typeof argument === (kind === 'bool' ? 'boolean' : 'string') ? { params: { value: argument } } : { problem: `needs a ${kind === 'bool' ? 'true or false' : 'text'}` }
    }
    if (kind === 'enum') {
      const number = typeof argument === 'string' ? field.enum?.values.get(argument) : argument
      return Number.isInteger(number) && field.enum?.names.has(number as number) === true
        ? { params: { value: number } }
        : { problem: `needs a member of ${field.enum?.name}: ${[...(field.enum?.values.keys() ?? [])].slice(0, 12).join(', ')}` }
    }
    const number = readNumber(argument, field)
    return typeof number === 'string' ? { problem: number } : { params: { value: number } }
  },
  text: (params) => `constant ${String(params.value)}`,
  bind: (params, field) => {
    const value = (kindOf(field) === 'big' ? BigInt(params.value as number) : params.value) as Value
    return () => value
  },
}

const mask: TransformSpec = {
  name: 'mask',
  summary: 'All but the first and last characters become one character. The length stays visible; a text no longer than both together stays whole.',
  technique: 'suppression (masking)',
  argument: {
    type: 'object', additionalProperties: false,
    properties: {
      keep_first: { type: 'integer', minimum: 0, maximum: 1024, description: 'characters (strings) or bytes kept at the start' },
      keep_last: { type: 'integer', minimum: 0, maximum: 1024, description: 'characters (strings) or bytes kept at the end' },
      with: { type: 'string', minLength: 1, maxLength: 2, description: 'the character that replaces the others; "*" by default' },
    },
  },
  bare: false,
  fits: ['string', 'bytes'],
  example: 'mask: { keep_first: 2, keep_last: 2, with: "*" }',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => a.with === b.with && (a.first as number) <= (b.first as number) && (a.last as number) <= (b.last as number),
  read(argument, subject) {
    const given = argument as { keep_first?: number; keep_last?: number; with?: string }
    const sign = given.with ?? '*'
    if ([...sign].length !== 1) return { problem: 'needs exactly one character in `with`' }
    if (subject.field !== undefined && kindOf(subject.field) === 'bytes' && sign.charCodeAt(0) > 255) return { problem: 'needs a one-byte character in `with` for a bytes field' }
    return { params: { first: given.keep_first ?? 0, last: given.keep_last ?? 0, with: sign } }
  },
  text: (params) => `mask, keep first ${String(params.first)} and last ${String(params.last)}`,
  bind: (params) => {
    const first = params.first as number
    const last = params.last as number
    const sign = params.with as string
    return (value) => {
      if (typeof value === 'string') {
        const points = [...value]
        return points.map((point, at) => (at < first || at >= points.length - last ? point : sign)).join('')
      }
      const bytes = Uint8Array.from(value as Uint8Array)
      if (first < bytes.length - last) bytes.fill(sign.charCodeAt(0), first, bytes.length - last)
      return bytes
    }
  },
}

const truncate: TransformSpec = {
  name: 'truncate',
  summary: 'Only the first n characters (strings, as code points) or bytes.',
  technique: 'generalisation (truncation)',
  argument: { type: 'integer', minimum: 0, maximum: 65_536 },
  bare: false,
  fits: ['string', 'bytes'],
  example: 'truncate: 4',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => (a.length as number) <= (b.length as number),
  read: (argument) => ({ params: { length: argument } }),
  text: (params) => `first ${String(params.length)}`,
  bind: (params) => {
    const length = params.length as number
    return (value) => {
      if (typeof value !== 'string') return (value as Uint8Array).subarray(0, length)
      // Code units never outnumber code points, so a short text needs no look at its surrogates.
      return value.length <= length ? value : [...value].slice(0, length).join('')
    }
  },
}

const keepBytes: TransformSpec = {
  name: 'keep_bytes',
  summary: 'Bytes from the first position up to, not including, the second.',
  technique: 'suppression (local)',
  argument: { type: 'array', minItems: 2, maxItems: 2, items: { type: 'integer', minimum: 0, maximum: 65_536 } },
  bare: false,
  fits: ['bytes'],
  example: 'keep_bytes: [0, 3]',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => (a.from as number) >= (b.from as number) && (a.to as number) <= (b.to as number),
  read(argument) {
    const [from, to] = argument as [number, number]
    return from < to ? { params: { from, to } } : { problem: 'needs a start below its end, as in [0, 3]' }
  },
  text: (params) => `bytes ${String(params.from)} to ${String(params.to)}`,
  bind: (params) => (value) => (value as Uint8Array).subarray(params.from as number, params.to as number),
}

const map: TransformSpec = {
  name: 'map',
  summary: 'Each listed value becomes another; everything else becomes `else`, or is dropped.',
  technique: 'generalisation (local)',
  argument: { type: 'object', minProperties: 1, additionalProperties: { type: ['string', 'number', 'boolean'] } },
  bare: false,
  fits: ['integer', 'big', 'string', 'bool', 'enum'],
  example: 'map: { SCISSOR: LIFT, BOOM: LIFT, else: drop }',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => JSON.stringify([...(a.table as Map<unknown, unknown>)].map(String)) === JSON.stringify([...(b.table as Map<unknown, unknown>)].map(String)) && String(a.else) === String(b.else),
  read(argument, subject) {
    const field = subject.field as FieldShape
    const table = new Map<Value, Value>()
    let otherwise: Value | undefined
    for (const [from, to] of Object.entries(argument as Record<string, unknown>)) {
      if (from === 'else') {
        if (to === 'drop') continue
        const read = readMember(to, field)
        if ('problem' in read) return read
        otherwise = read.value
        continue
      }
      const key = readMember(from, field)
      const value = readMember(to, field)
      if ('problem' in key) return key
      if ('problem' in value) return value
      table.set(key.value, value.value)
    }
    return { params: { table, else: otherwise } }
  },
  text: (params) => `map ${(params.table as Map<Value, Value>).size} values, else ${params.else === undefined ? 'drop' : String(params.else)}`,
  bind: (params) => {
    const table = params.table as ReadonlyMap<Value, Value>
    const otherwise = params.else as Value | undefined
    return (value) => table.get(value) ?? otherwise
  },
}

const flags: TransformSpec = {
  name: 'flags',
  summary: 'Only the listed bits of a bit field; the others become zero.',
  technique: 'suppression (local)',
  argument: {
    type: 'object', additionalProperties: false, required: ['bits'],
    properties: { bits: { type: 'array', items: { type: 'integer', minimum: 0, maximum: 63 }, uniqueItems: true, description: 'bit numbers, 0 is the lowest' } },
  },
  bare: false,
  fits: ['integer', 'big'],
  example: 'flags: { bits: [0, 1, 7] }',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => ((a.mask as bigint) & ~(b.mask as bigint)) === 0n,
  read(argument, subject) {
    const { bits } = argument as { bits: number[] }
    const field = subject.field as FieldShape
    const width = kindOf(field) === 'big' ? 64 : 32
    if (bits.some((bit) => bit >= width)) return { problem: `names a bit beyond the field's ${width}` }
    return { params: { mask: bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n) } }
  },
  text: (params) => `bits ${bitsOf(params.mask as bigint).join(', ')}`,
  bind: (params, field) => {
    const bits = params.mask as bigint
    if (kindOf(field) === 'big') {
      const signed = !field.type.startsWith('u') && !field.type.startsWith('f')
      return (value) => (signed ? BigInt.asIntN(64, BigInt.asUintN(64, value as bigint) & bits) : (value as bigint) & bits)
    }
    const small = Number(BigInt.asIntN(32, bits))
    const signed = field.type !== 'uint32' && field.type !== 'fixed32'
    return (value) => (signed ? (value as number) & small : ((value as number) & small) >>> 0)
  },
}

const bucket: TransformSpec = {
  name: 'bucket',
  summary: 'The largest listed bound that is not above the value; below the first bound the first.',
  technique: 'generalisation (local)',
  argument: { type: 'array', minItems: 1, maxItems: 1024, items: { type: ['number', 'string'] } },
  bare: false,
  fits: NUMERIC,
  example: 'bucket: [0, 20 %, 50 %, 80 %]',
  rank: 'coarse',
  generalises: always,
  coarser: (a, b) => (a.bounds as number[]).every((bound) => (b.bounds as number[]).includes(bound)),
  read(argument, subject) {
    const bounds: number[] = []
    for (const item of argument as unknown[]) {
      const number = readNumber(item, subject.field as FieldShape)
      if (typeof number === 'string') return { problem: number }
      if (bounds.length > 0 && number <= (bounds[bounds.length - 1] as number)) return { problem: 'needs its bounds in ascending order' }
      bounds.push(number)
    }
    return { params: { bounds } }
  },
  text: (params) => `buckets from ${(params.bounds as number[]).slice(0, 8).join(', ')}`,
  bind: (params, field) => {
    const bounds = params.bounds as readonly number[]
    if (kindOf(field) === 'big') {
      const big = bounds.map(BigInt)
      return (value) => bucketOf(value as bigint, big)
    }
    return (value) => (Number.isFinite(value) ? bucketOf(value as number, bounds) : undefined)
  },
}

const clamp: TransformSpec = {
  name: 'clamp',
  summary: 'Values below the lower end become it, values above the upper end become that.',
  technique: 'generalisation (top and bottom coding)',
  argument: { type: 'array', minItems: 2, maxItems: 2, items: { type: ['number', 'string'] } },
  bare: false,
  fits: NUMERIC,
  example: 'clamp: [0 %, 100 %]',
  rank: 'coarse',
  generalises: always,
  coarser: (a, b) => (a.lo as number) >= (b.lo as number) && (a.hi as number) <= (b.hi as number),
  read(argument, subject) {
    const [lo, hi] = (argument as unknown[]).map((item) => readNumber(item, subject.field as FieldShape))
    if (typeof lo === 'string' || typeof hi === 'string') return { problem: typeof lo === 'string' ? lo : String(hi) }
    return (lo as number) <= (hi as number) ? { params: { lo, hi } } : { problem: 'needs its lower end first' }
  },
  text: (params) => `clamp ${String(params.lo)} to ${String(params.hi)}`,
  bind: (params, field) => {
    const lo = params.lo as number
    const hi = params.hi as number
    if (kindOf(field) === 'big') {
      const from = BigInt(lo)
      const to = BigInt(hi)
      return (value) => ((value as bigint) < from ? from : (value as bigint) > to ? to : value)
    }
    return (value) => (Number.isFinite(value) ? ((value as number) < lo ? lo : (value as number) > hi ? hi : value) : undefined)
  },
}

const round: TransformSpec = {
  name: 'round',
  summary: 'The nearest multiple of the step, halves away from zero.',
  technique: 'generalisation (rounding)',
  argument: { type: ['number', 'string'] },
  bare: false,
  fits: NUMERIC,
  example: 'round: 5 %',
  rank: 'coarse',
  generalises: always,
  coarser: (a, b) => isMultiple(a.step as number, b.step as number),
  read(argument, subject) {
    const field = subject.field as FieldShape
    const step = readNumber(argument, field)
    if (typeof step === 'string') return { problem: step }
    return step > 0 ? { params: { step } } : { problem: 'needs a step above zero' }
  },
  text: (params) => `round to ${String(params.step)}`,
  bind: (params, field) => {
    const step = params.step as number
    if (kindOf(field) === 'big') {
      const big = BigInt(step)
      return (value) => inRange(roundBig(value as bigint, big), field)
    }
    if (kindOf(field) === 'float') return (value) => (Number.isFinite(value) ? roundFloat(value as number, step) : undefined)
    return (value) => inRange(roundInteger(value as number, step), field)
  },
}

const roundTime: TransformSpec = {
  name: 'round_time',
  summary: 'The start of the time window, counted from the epoch. Arrival tells the time again unless the output holds its messages.',
  technique: 'generalisation (rounding)',
  argument: { type: 'string', description: 'a duration such as 15m' },
  bare: false,
  fits: ['integer', 'big', 'float', 'message'],
  example: 'round_time: 15m',
  rank: 'coarse',
  generalises: (params) => (params.ms as number) >= 900_000,
  coarser: (a, b) => isMultiple(a.ms as number, b.ms as number),
  read(argument, subject) {
    const ms = parseDuration(argument)
    if (ms === undefined) return { problem: 'needs a duration such as 30s, 15m, 6h or 7d' }
    const field = subject.field as FieldShape
    if (kindOf(field) === 'message') {
      return field.message?.name === 'google.protobuf.Timestamp' ? { params: { ms, wire: ms } } : { problem: 'fits numbers and google.protobuf.Timestamp only' }
    }
    const unit = subject.timeUnit ?? classificationOf(field).unit
    const perMs = PER_MS[unit]
    if (perMs === undefined) return { problem: `needs a field whose unit is s, ms, us or ns; the schema says "${unit}". Name the field in the stream's \`time:\` or classify its unit` }
    const wire = (ms * perMs) / (subject.timeUnit === undefined ? classificationOf(field).scale : 1)
    if (kindOf(field) !== 'float' && !Number.isInteger(wire)) return { problem: `is no whole number of the field's unit (${unit})` }
    return { params: { ms, wire } }
  },
  text: (params) => `round time down to ${formatDuration(params.ms as number)}`,
  bind: (params, field) => {
    const wire = params.wire as number
    if (kindOf(field) === 'big') {
      const big = BigInt(wire)
      return (value) => inRange(floorBig(value as bigint, big), field)
    }
    if (kindOf(field) === 'float') return (value) => (Number.isFinite(value) ? Math.floor((value as number) / wire) * wire : undefined)
    return (value) => inRange(floorNumber(value as number, wire), field)
  },
}

const pseudonym: TransformSpec = {
  name: 'pseudonym',
  summary: 'A keyed stand-in that only this output has and that changes with the rotation; ends for good when the subject\'s row is destroyed.',
  technique: 'pseudonymisation (keyed, deterministic per epoch)',
  argument: {
    type: 'object', additionalProperties: false,
    properties: {
      rotate: { type: 'string', description: '`never` (default), a duration such as 7d, or `session`' },
      as: { type: 'string', pattern: NAME.source, description: 'what it stands for: machine, operator, session or a name of your own' },
    },
  },
  bare: true,
  fits: ['string', 'bytes', 'big'],
  example: 'pseudonym: { rotate: 7d }',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => a.as === b.as && (a.rotate === b.rotate || b.rotate === 'never'),
  read(argument, subject) {
    const given = (argument ?? {}) as { rotate?: string; as?: string }
    const field = subject.field as FieldShape
    if (field.type !== 'string' && field.type !== 'bytes' && field.type !== 'uint64' && field.type !== 'fixed64') {
      return { problem: 'fits string, bytes, uint64 and fixed64 fields only' }
    }
    const rotate: Rotate | undefined = given.rotate === undefined || given.rotate === 'never' ? 'never' : given.rotate === 'session' ? 'session' : parseDuration(given.rotate)
    if (rotate === undefined) return { problem: 'needs `rotate: never`, `rotate: session` or a duration such as 7d' }
    const kind = classificationOf(field).subject
    const as = given.as ?? (kind === 'machine' || kind === 'operator' || kind === 'session' ? kind : subject.path)
    if (!NAME.test(as)) return { problem: `needs a name of letters, digits, "_", "." and "-" in \`as\`` }
    return { params: { rotate, as, subject: kind satisfies SubjectKind } }
  },
  text: (params) => `pseudonym of the ${String(params.as)}, ${params.rotate === 'never' ? 'never changes' : params.rotate === 'session' ? 'changes with each session' : `changes every ${formatDuration(params.rotate as number)}`}`,
  bind: (params, field, services) => {
    const maker = services.pseudonym(params, field)
    if (field.type === 'bytes') {
      return (value, moment) => maker.of(Buffer.from(value as Uint8Array).toString('latin1'), moment.eventMs, moment.session, value as Uint8Array)
    }
    if (field.type === 'string') {
      return (value, moment) => {
        const made = maker.of(value as string, moment.eventMs, moment.session)
        return made === undefined ? undefined : Buffer.from(made).toString('base64url')
      }
    }
    return (value, moment) => {
      const made = value === 0n && !field.presence ? undefined : maker.of(String(value), moment.eventMs, moment.session)
      return made === undefined ? undefined : pseudonymNumber(made)
    }
  },
}

const grid: TransformSpec = {
  name: 'grid',
  summary: 'The centre of the metric cell that holds the position. Sizes that divide one another nest exactly. A machine keeps its cell until it is 15 % beyond the border, unless `sticky: false`.',
  technique: 'generalisation (rounding)',
  argument: {
    anyOf: [
      { type: ['string', 'number'], description: 'size such as 500m or 10km' },
      { type: 'object', additionalProperties: false, required: ['size'], properties: { size: { type: ['string', 'number'] }, sticky: { type: 'boolean' } } },
    ],
  },
  bare: false,
  fits: ['point'],
  example: 'grid: 500m',
  rank: 'coarse',
  generalises: (params) => (params.size as number) >= 1_000,
  coarser: (a, b) => isMultiple(a.size as number, b.size as number),
  read(argument) {
    const given = typeof argument === 'object' && argument !== null ? (argument as { size: unknown; sticky?: boolean }) : { size: argument }
    const size = parseMetres(given.size)
    if (size === undefined || !isGridSize(size)) return { problem: 'needs a size in whole metres, at least 5 m, that divides 100 km: 5m, 100m, 500m, 1km, 10km, …' }
    return { params: { size, sticky: given.sticky ?? true } }
  },
  text: (params) => `${(params.size as number) >= 1000 ? `${(params.size as number) / 1000} km` : `${String(params.size)} m`} grid`,
  bind: () => () => undefined,
}

/** Name -> spec, in the order of the documentation. */
export const TRANSFORMS: ReadonlyMap<string, TransformSpec> = new Map(
  [keep, drop, constant, mask, truncate, keepBytes, map, flags, bucket, clamp, round, roundTime, pseudonym, grid].map((spec) => [spec.name, spec]),
)

export function specOf(transform: Transform): TransformSpec {
  const spec = TRANSFORMS.get(transform.name)
  if (spec === undefined) throw new Error(`no transform ${transform.name}`)
  return spec
}

/** `keep`, `drop`, `a, then b`. */
export function textOfChain(chain: readonly Transform[]): string {
  return chain.length === 0 ? 'drop' : chain.map((one) => specOf(one).text(one.params)).join(', then ')
}

export function isDrop(chain: readonly Transform[]): boolean {
  return chain.length === 0 || chain.some((one) => one.name === 'drop')
}

/**
 * Whether chain `u` is provably coarser than or equal to chain `t` (rules-language 4.2):
 * drop < constant < coarse < keep; the same chain, each step coarser of the same kind, or `t` followed by more steps.
 */
export function isCoarserOrEqual(u: readonly Transform[], t: readonly Transform[]): boolean {
  if (isDrop(u)) return true
  if (isDrop(t)) return false
  const reduced = (chain: readonly Transform[]): readonly Transform[] => chain.filter((one) => one.name !== 'keep')
  const coarse = reduced(u)
  const fine = reduced(t)
  if (fine.length === 0) return true
  if (coarse.some((one) => one.name === 'constant')) return true
  if (fine.some((one) => one.name === 'constant')) return false
  if (coarse.length < fine.length) return false
  // What follows a result can only lose more of it.
  return fine.every((step, at) => {
    const other = coarse[at] as Transform
    return other.name === step.name && specOf(step).coarser(other.params, step.params) && (coarse.length === fine.length || sameSetting(other, step))
  })
}

function sameSetting(a: Transform, b: Transform): boolean {
  return specOf(a).coarser(a.params, b.params) && specOf(a).coarser(b.params, a.params)
}

/** Whether a chain may stand in the `no_consent` branch of a personal field (rules-language 4.3): drop, or a generalisation. */
export function isGeneralising(chain: readonly Transform[]): boolean {
  return isDrop(chain) || chain.some((one) => specOf(one).generalises(one.params))
}

const PER_MS: Readonly<Record<string, number>> = { s: 0.001, ms: 1, us: 1_000, ns: 1_000_000 }

function isMultiple(a: number, b: number): boolean {
  const ratio = a / b
  return ratio >= 1 && Math.abs(ratio - Math.round(ratio)) < 1e-9
}

/** A parameter in wire units, or a problem as text. Integer fields take whole numbers within their type only. */
function readNumber(value: unknown, field: FieldShape): number | string {
  const { unit, scale } = classificationOf(field)
  const read = parseQuantity(value, unit, scale)
  if ('problem' in read) return read.problem
  const range = RANGES[field.type]
  if (range !== undefined) {
    if (!Number.isSafeInteger(read.wire)) return `is ${read.wire} in wire units, which is no whole number as the field needs`
    if (BigInt(read.wire) < range[0] || BigInt(read.wire) > range[1]) return `lies outside what a ${field.type} can hold`
  }
  return read.wire
}

type Member = { readonly value: Value } | { readonly problem: string }

function readMember(given: unknown, field: FieldShape): Member {
  const text = String(given)
  switch (kindOf(field)) {
    case 'enum': {
      const number = field.enum?.values.get(text) ?? Number(given)
      return field.enum?.names.has(number) === true ? { value: number } : { problem: `"${text}" is no member of ${field.enum?.name}` }
    }
    case 'bool':
      return text === 'true' || text === 'false' ? { value: text === 'true' } : { problem: 'needs true or false' }
    case 'string':
      return { value: text }
    case 'big':
      return /^-?\d+$/.test(text) ? { value: BigInt(text) } : { problem: `"${text}" is no whole number` }
    default:
      return Number.isInteger(Number(text)) ? { value: Number(text) } : { problem: `"${text}" is no whole number` }
  }
}

function inRange<T extends number | bigint>(value: T, field: FieldShape): T | undefined {
  const range = RANGES[field.type]
  if (range === undefined) return value
  const big = BigInt(value)
  return big >= range[0] && big <= range[1] ? value : undefined
}

function bitsOf(maskBits: bigint): number[] {
  const bits: number[] = []
  for (let bit = 0; bit < 64; bit++) if (((maskBits >> BigInt(bit)) & 1n) === 1n) bits.push(bit)
  return bits
}
