/** Transforms that fit any value: keep, drop, constant, map. */
import type { FieldShape } from '../../domain/schema.ts'
import { kindOf, type Value } from '../value.ts'
import { ALL, always, never, readNumber, type TransformSpec } from './spec.ts'

export const keep: TransformSpec = {
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

export const drop: TransformSpec = {
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

export const constant: TransformSpec = {
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

export const map: TransformSpec = {
  name: 'map',
  summary: 'Each listed value becomes another; everything else becomes `else`, or is dropped.',
  technique: 'generalisation (local)',
  argument: { type: 'object', minProperties: 1, additionalProperties: { type: ['string', 'number', 'boolean'] } },
  bare: false,
  fits: ['integer', 'big', 'string', 'bool', 'enum'],
  example: 'map: { SCISSOR: LIFT, BOOM: LIFT, else: drop }',
  rank: 'coarse',
  generalises: never,
  coarser: (a, b) => tableText(a) === tableText(b),
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

/** Equal for equal tables: order aside, and with the kinds of values told apart. */
function tableText(params: Readonly<Record<string, unknown>>): string {
  const text = (value: unknown): string => `${typeof value} ${String(value)}`
  const rows = [...(params.table as ReadonlyMap<Value, Value>)].map(([from, to]) => [text(from), text(to)])
  return JSON.stringify([rows.sort(([a = ''], [b = '']) => (a < b ? -1 : 1)), text(params.else)])
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
      return Number.isInteger(Number(text)) ? { value: Number(text) + 0 } : { problem: `"${text}" is no whole number` }
  }
}
