/** Transforms of texts and bytes: mask, truncate, keep_bytes. */
import { kindOf } from '../value.ts'
import { never, type TransformSpec } from './spec.ts'

export const mask: TransformSpec = {
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

export const truncate: TransformSpec = {
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

export const keepBytes: TransformSpec = {
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
