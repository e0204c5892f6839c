/**
 * What one transform is: the form of a spec, and what specs share. A spec is everything the product knows of a transform;
 * parser, lints, JSON Schema, documentation, `explain` and both engines read it.
 */
import type { FieldShape } from '../../domain/schema.ts'
import { classificationOf } from '../../domain/schema.ts'
import type { Zone } from '../../domain/policy.ts'
import type { Cells } from '../cells.ts'
import type { Cell } from '../grid.ts'
import { RANGES } from '../number.ts'
import type { Pseudonymiser } from '../pseudonym.ts'
import { parseQuantity } from '../quantity.ts'
import type { Value, ValueKind } from '../value.ts'

export type Params = Readonly<Record<string, unknown>>
export type JsonSchema = Readonly<Record<string, unknown>>

/** What a transform is being applied to, while the rules file is read. */
export interface Subject {
  /** The leaf field; undefined for a point. */
  readonly field: FieldShape | undefined
  readonly point: boolean
  /** The point is a delta-encoded track. */
  readonly track?: boolean
  /** The field with a track's times between points, if it has one. */
  readonly dt?: FieldShape
  /** Unit of the stream's time when the field is it, so that `round_time` works without a classified unit. */
  readonly timeUnit: 's' | 'ms' | 'us' | 'ns' | 'timestamp' | undefined
  /** Dotted path, the default domain of a pseudonym. */
  readonly path: string
  /** `zones:` of the rules file. */
  readonly zones?: ReadonlyMap<string, Zone>
}

/** `mend`: what to do, where an example of the transform would not help. */
export type Reading = { readonly params: Params } | { readonly problem: string; readonly mend?: string }

/** What a transform may need from outside the field, at run time. */
export interface Moment {
  /** Event time in ms, NaN when there is none. */
  eventMs: number
  /** Hex of the operator session, empty when there is none. */
  session: string
  /** The machine, whose row personalises zones and noise; empty offline means none. */
  machine: string
  /** Sticky cells, or undefined for plain ones (`filter`, tests). */
  cells: Cells | undefined
}

/** Undefined = cannot be applied: the field is dropped and counted. */
export type Apply = (value: Value, moment: Moment) => Value | undefined

/** Moves a position in place; false = cannot be applied, or hidden: the point is dropped. */
export type Move = (cell: Cell, moment: Moment) => boolean

/** Services that a bound transform may keep: made once per output. */
export interface Services {
  /** Whose results these are: another output's memory must not shape them. */
  readonly output: string
  pseudonym(params: Params, field: FieldShape): Pseudonymiser
  /** Seals bytes under the row of the subject that the value names; undefined without a row. */
  seal(params: Params, text: string, bytes: Uint8Array, eventMs: number): Uint8Array | undefined
  /** 32 secret bytes of a machine for a use, from its row; undefined without a row. */
  secret(machine: string, use: string): Uint8Array | undefined
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
  /** Binds the code for one field. */
  bind(params: Params, field: FieldShape, services: Services): Apply
  /** Binds the code for a point, for transforms that fit one. */
  move?(params: Params, point: string, services: Services): Move
  /** Binds the code for a google.protobuf.Timestamp or Duration, in nanoseconds. */
  time?(params: Params): (nanos: bigint) => bigint
}

export const NUMERIC: readonly ValueKind[] = ['integer', 'big', 'float']
export const ALL: readonly (ValueKind | 'point')[] = ['integer', 'big', 'float', 'bool', 'string', 'bytes', 'enum', 'message', 'point']
export const never = (): boolean => false
export const always = (): boolean => true

/** Whether `a` is a whole multiple of `b`. */
export function isMultiple(a: number, b: number): boolean {
  const ratio = a / b
  return ratio >= 1 && Math.abs(ratio - Math.round(ratio)) < 1e-9
}

export function isOddMultiple(a: number, b: number): boolean {
  return isMultiple(a, b) && Math.round(a / b) % 2 === 1
}

/** A parameter in wire units, or a problem as text. Integer fields take whole numbers within their type only. */
export function readNumber(value: unknown, field: FieldShape): number | string {
  const { unit, scale } = classificationOf(field)
  const read = parseQuantity(value, unit, scale)
  if ('problem' in read) return read.problem
  const range = RANGES[field.type]
  if (range !== undefined) {
    if (!Number.isSafeInteger(read.wire)) return `is ${read.wire} in wire units, which is no whole number as the field needs`
    if (BigInt(read.wire) < range[0] || BigInt(read.wire) > range[1]) return `lies outside what a ${field.type} can hold`
    // Whole numbers have one zero: -0 would be written although it is the default.
    return read.wire + 0
  }
  return read.wire
}

export function inRange<T extends number | bigint>(value: T, field: FieldShape): T | undefined {
  const range = RANGES[field.type]
  if (range === undefined) return value
  const big = BigInt(value)
  return big >= range[0] && big <= range[1] ? value : undefined
}
