/** Transforms of what names somebody: pseudonym, encrypt. */
import type { FieldShape, SubjectKind } from '../../domain/schema.ts'
import { classificationOf } from '../../domain/schema.ts'
import { NAME } from '../../domain/ids.ts'
import { pseudonymNumber, type Rotate } from '../pseudonym.ts'
import { formatDuration, parseDuration } from '../quantity.ts'
import { never, type TransformSpec } from './spec.ts'

/** Characters of `as`: it is part of what keys are derived from, which has its own bound. */
const AS_LENGTH = 64

export const pseudonym: TransformSpec = {
  name: 'pseudonym',
  summary: 'A keyed stand-in that only this output has and that changes with the rotation; ends for good when the subject\'s row is destroyed.',
  technique: 'pseudonymisation (keyed, deterministic per epoch)',
  argument: {
    type: 'object', additionalProperties: false,
    properties: {
      rotate: { type: 'string', description: '`never` (default), a duration such as 7d, or `session`' },
      as: { type: 'string', pattern: NAME.source, maxLength: AS_LENGTH, description: 'what it stands for: machine, operator, session or a name of your own' },
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
    if (as.length > AS_LENGTH) return { problem: `stands for "${as.slice(0, 24)}…", which has more than ${AS_LENGTH} characters. Write a shorter name in \`as\`` }
    return { params: { rotate, as, subject: kind satisfies SubjectKind } }
  },
  text: (params) => `pseudonym of the ${String(params.as)}, ${params.rotate === 'never' ? 'never changes' : params.rotate === 'session' ? 'changes with each session' : `changes every ${formatDuration(params.rotate as number)}`}`,
  bind: (params, field, services) => {
    const maker = services.pseudonym(params, field)
    if (field.type === 'bytes') {
      return (value, moment) => maker.of(Buffer.from(value as Uint8Array).toString('hex'), moment.eventMs, moment.session, value as Uint8Array)
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

export const encrypt: TransformSpec = {
  name: 'encrypt',
  summary: 'Sealed with AES-SIV under the row of the subject that the field names: who holds the row can open it, and destroying the row ends that. The same value gives the same result.',
  technique: 'cryptographic (deterministic encryption)',
  argument: { type: 'object', maxProperties: 0 },
  bare: true,
  fits: ['string', 'bytes'],
  example: 'encrypt: {}',
  rank: 'coarse',
  generalises: never,
  coarser: () => true,
  read(_argument, subject) {
    const field = subject.field as FieldShape
    const kind = classificationOf(field).subject
    if (kind !== 'machine' && kind !== 'operator' && kind !== 'customer') {
      return { problem: 'fits fields that name a machine, an operator or a customer only, because it is their row that seals. Classify the field\'s subject, or use pseudonym' }
    }
    return { params: { subject: kind, as: kind } }
  },
  text: (params) => `sealed under the ${String(params.subject)}'s own key`,
  bind: (params, field, services) => (value, { eventMs }) => {
    if (field.type === 'string') {
      const sealed = value === '' ? undefined : services.seal(params, value as string, Buffer.from(value as string, 'utf8'), eventMs)
      return sealed === undefined ? undefined : Buffer.from(sealed).toString('base64url')
    }
    const bytes = value as Uint8Array
    return bytes.length === 0 ? undefined : services.seal(params, Buffer.from(bytes).toString('hex'), bytes, eventMs)
  },
}
