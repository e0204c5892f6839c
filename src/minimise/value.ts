/**
 * Values of fields as the readable engine and the transforms see them.
 * 32-bit integers, enums, float and double are numbers; 64-bit integers are bigints; strings are text; bytes are bytes.
 */
import type { FieldShape, ScalarType } from '../domain/schema.ts'

export type Value = number | bigint | boolean | string | Uint8Array

export type ValueKind = 'integer' | 'big' | 'float' | 'bool' | 'string' | 'bytes' | 'enum' | 'message'

const KINDS: Readonly<Record<ScalarType, ValueKind>> = {
  double: 'float', float: 'float',
  int32: 'integer', uint32: 'integer', sint32: 'integer', fixed32: 'integer', sfixed32: 'integer',
  int64: 'big', uint64: 'big', sint64: 'big', fixed64: 'big', sfixed64: 'big',
  bool: 'bool', string: 'string', bytes: 'bytes', enum: 'enum',
}

export function kindOf(field: FieldShape): ValueKind {
  return field.type === 'message' || field.type === 'group' ? 'message' : KINDS[field.type]
}

/** What a scalar field reads as when it is absent: the default that its schema gives, else the zero of its type. */
export function zeroOf(field: FieldShape): Value {
  if (field.initial !== undefined) return field.initial
  switch (kindOf(field)) {
    case 'big': return 0n
    case 'bool': return false
    case 'string': return ''
    case 'bytes': return EMPTY
    default: return 0
  }
}

const EMPTY = new Uint8Array(0)

/** Whether a value is its type's default, so that a field without presence leaves it out. -0.0 is not (rules-language 4.4). */
export function isZero(value: Value): boolean {
  if (typeof value === 'number') return Object.is(value, 0)
  if (typeof value === 'bigint') return value === 0n
  if (typeof value === 'boolean') return !value
  return value.length === 0
}

/** Canonical text of a value as a pseudonym's input and a topic level: UTF-8 text or decimal digits; bytes have none. */
export function textOf(value: Value): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value === 'boolean') return value ? 'true' : 'false'
  return undefined
}
