/** Transforms of numbers: flags, bucket, clamp, round, round_time, noise. */
import { createHmac } from 'node:crypto'
import type { FieldShape } from '../../domain/schema.ts'
import { classificationOf } from '../../domain/schema.ts'
import { RANGES, bucketOf, floorBig, floorNumber, roundBig, roundFloat, roundInteger } from '../number.ts'
import { formatDuration, parseDuration, parseQuantity } from '../quantity.ts'
import { kindOf } from '../value.ts'
import { NUMERIC, always, inRange, isMultiple, isOddMultiple, never, readNumber, type Reading, type TransformSpec } from './spec.ts'

export const flags: TransformSpec = {
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

export const bucket: TransformSpec = {
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

export const clamp: TransformSpec = {
  name: 'clamp',
  summary: 'Values below the lower end become it, values above the upper end become that.',
  technique: 'generalisation (top and bottom coding)',
  argument: { type: 'array', minItems: 2, maxItems: 2, items: { type: ['number', 'string'] } },
  bare: false,
  fits: NUMERIC,
  example: 'clamp: [0 %, 100 %]',
  rank: 'coarse',
  // Within all that its type can hold, a number stays as it is.
  generalises: (params) => params.keeps !== true,
  coarser: (a, b) => (a.lo as number) >= (b.lo as number) && (a.hi as number) <= (b.hi as number),
  read(argument, subject) {
    const [lo, hi] = (argument as unknown[]).map((item) => readNumber(item, subject.field as FieldShape))
    if (typeof lo === 'string' || typeof hi === 'string') return { problem: typeof lo === 'string' ? lo : String(hi) }
    const range = RANGES[(subject.field as FieldShape).type]
    const keeps = range !== undefined && Number(lo) <= Number(range[0]) && Number(hi) >= Number(range[1]) ? { keeps: true } : {}
    return (lo as number) <= (hi as number) ? { params: { lo, hi, ...keeps } } : { problem: 'needs its lower end first' }
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

export const round: TransformSpec = {
  name: 'round',
  summary: 'The nearest multiple of the step, halves away from zero.',
  technique: 'generalisation (rounding)',
  argument: { type: ['number', 'string'] },
  bare: false,
  fits: [...NUMERIC, 'message'],
  example: 'round: 5 %',
  rank: 'coarse',
  // Rounding a whole number to 1 keeps it.
  generalises: (params) => params.keeps !== true,
  // Steps of 100 do not nest in steps of 50: 25 and 50 are both 50 under these, but 0 and 100 under those. Borders lie halfway, so only
  // an odd multiple has its own on borders of the smaller step. Exact for whole numbers; of floating point numbers one that lies on a
  // border may fall to either side in its last bit.
  coarser: (a, b) => a.step === b.step || b.keeps === true || isOddMultiple(a.step as number, b.step as number),
  read(argument, subject) {
    const field = subject.field as FieldShape
    if (kindOf(field) === 'message') return readLength(argument, field)
    const step = readNumber(argument, field)
    if (typeof step === 'string') return { problem: step }
    return step > 0 ? { params: step < 2 && kindOf(field) !== 'float' ? { step, keeps: true } : { step } } : { problem: 'needs a step above zero' }
  },
  text: (params) => `round to ${String(params.step)}`,
  bind: (params, field) => {
    const step = params.step as number
    if (kindOf(field) === 'big') {
      const big = BigInt(step)
      return (value) => inRange(roundBig(value as bigint, big), field)
    }
    if (kindOf(field) === 'float') return (value) => finite(roundFloat(value as number, step), field)
    return (value) => inRange(roundInteger(value as number, step), field)
  },
  time: (params) => {
    const step = nanosOf(params.step as number)
    return (nanos) => roundBig(nanos, step)
  },
}

/** The step of a google.protobuf.Duration, whose unit is the second. */
function readLength(argument: unknown, field: FieldShape): Reading {
  if (field.message?.name !== 'google.protobuf.Duration') return { problem: 'fits numbers and google.protobuf.Duration only; a Timestamp takes round_time' }
  const read = parseQuantity(argument, 's', 1)
  if ('problem' in read) return read
  const nanos = read.wire * 1e9
  if (!(nanos > 0.5) || Math.abs(nanos - Math.round(nanos)) > 1e-3 || read.wire > LONGEST_STEP) return { problem: 'needs a step of whole nanoseconds above zero and at most 100 years' }
  return { params: nanos < 1.5 ? { step: read.wire, keeps: true } : { step: read.wire } }
}

const LONGEST_STEP = 36_525 * 86_400

function nanosOf(seconds: number): bigint {
  const whole = Math.floor(seconds)
  return BigInt(whole) * 1_000_000_000n + BigInt(Math.round((seconds - whole) * 1e9))
}

export const roundTime: TransformSpec = {
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
      const isTime = field.message?.name === 'google.protobuf.Timestamp' || field.message?.name === 'google.protobuf.Duration'
      return isTime ? { params: { ms, wire: ms } } : { problem: 'fits numbers, google.protobuf.Timestamp and google.protobuf.Duration only' }
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
    if (kindOf(field) === 'float') return (value) => finite(Math.floor((value as number) / wire) * wire, field)
    return (value) => inRange(floorNumber(value as number, wire), field)
  },
  time: (params) => {
    const step = BigInt(params.ms as number) * 1_000_000n
    return (nanos) => floorBig(nanos, step)
  },
}

/** What is finite may round to what its type cannot hold: out of range, and so not applied. */
function finite(value: number, field: FieldShape): number | undefined {
  return Number.isFinite(field.type === 'float' ? Math.fround(value) : value) ? value : undefined
}

const PER_MS: Readonly<Record<string, number>> = { s: 0.001, ms: 1, us: 1_000, ns: 1_000_000 }

function bitsOf(maskBits: bigint): number[] {
  const bits: number[] = []
  for (let bit = 0; bit < 64; bit++) if (((maskBits >> BigInt(bit)) & 1n) === 1n) bits.push(bit)
  return bits
}

export const noise: TransformSpec = {
  name: 'noise',
  summary: 'Adds a whole number from the two-sided geometric (discrete Laplace) distribution. Memoised: the same machine, day and value get the same noise, so that repeating does not average it away.',
  technique: 'randomisation (noise addition)',
  argument: {
    type: 'object', additionalProperties: false, required: ['spread'],
    properties: { spread: { type: ['number', 'string'], description: 'mean absolute deviation, in the field\'s unit: 20 m' } },
  },
  bare: false,
  fits: ['integer', 'big'],
  example: 'noise: { spread: 20 kg }',
  rank: 'coarse',
  generalises: never,
  // Two draws together say more than one, however wide the second is.
  coarser: (a, b) => a.spread === b.spread && a.path === b.path,
  read(argument, subject) {
    const spread = readNumber((argument as { spread: unknown }).spread, subject.field as FieldShape)
    if (typeof spread === 'string') return { problem: spread }
    return spread > 0 ? { params: { spread, path: subject.path } } : { problem: 'needs a spread above zero' }
  },
  text: (params) => `noise with a spread of ${String(params.spread)}`,
  bind: (params, field, services) => {
    const spread = params.spread as number
    const use = `noise|${String(params.path)}`
    return (value, moment) => {
      const secret = services.secret(moment.machine, use)
      if (secret === undefined || !(moment.eventMs > 0)) return undefined
      const day = Math.floor(moment.eventMs / 86_400_000)
      const digest = createHmac('sha256', secret).update(`${day}|${String(value)}`).digest()
      const shift = discreteLaplace(spread, digest)
      return inRange(typeof value === 'bigint' ? value + BigInt(shift) : (value as number) + shift, field)
    }
  },
}

/**
 * The difference of two geometric variables is two-sided geometric with q = exp(-1/spread); uniform numbers of 52 bits each.
 * Source: Ghosh, Roughgarden, Sundararajan 2009.
 */
function discreteLaplace(spread: number, bytes: Buffer): number {
  const uniform = (at: number): number => (Number(bytes.readBigUInt64LE(at) >> 12n) + 0.5) / 2 ** 52
  const geometric = (u: number): number => Math.floor(Math.log(u) * -spread)
  return geometric(uniform(0)) - geometric(uniform(8))
}
