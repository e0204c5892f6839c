/**
 * Plan -> minimiser. The generated function takes canonical input; whatever it calls odd goes to the interpreter with the same result.
 * `engine: 'interpreted'` lets the interpreter serve alone (gateway file `minimiser: interpreted`).
 */
import { hkdfSync } from 'node:crypto'
import { aessiv } from '@noble/ciphers/aes.js'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import type { FieldShape, SubjectKind } from '../domain/schema.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { Verdict } from '../domain/verdict.ts'
import { emit, varintBytes, type Need } from './emit.ts'
import type { Cell } from './grid.ts'
import { bindChain, bindMoves, createInterpreter, fromE7, toE7, type Context, type Run } from './interpret.ts'
import type { Plan, PlanPoint, PlanStep } from './plan.ts'
import { createPseudonymiser, pseudonymNumber, type PseudonymKeys, type Pseudonymiser, type Rotate } from './pseudonym.ts'
import { RUNTIME } from './runtime.ts'
import type { Apply, Services } from './transforms.ts'
import { encodeTree, decodeScalar } from './tree.ts'
import { Cursor, Malformed } from './wire.ts'
import { isZero, kindOf, textOf, zeroOf, type Value } from './value.ts'

export interface Minimiser {
  readonly plan: Plan
  readonly run: Run
  /** The generated text; undefined when the interpreter serves alone. */
  readonly text: string | undefined
}

export interface CompileOptions {
  readonly keys: PseudonymKeys
  readonly engine: 'generated' | 'interpreted'
}

export function compilePlan(plan: Plan, options: CompileOptions): Minimiser {
  const services = servicesFor(plan.output, options.keys)
  const interpret = createInterpreter(plan, services)
  const emitted = options.engine === 'generated' ? emit(plan) : undefined
  if (emitted === undefined) return { plan, run: interpret, text: undefined }
  const fast = build(plan, emitted.text, emitted.needs, services)
  const odd = Verdict.odd.code
  let viewed: Uint8Array | undefined
  let view: DataView = new DataView(new ArrayBuffer(0))
  const run: Run = (source, start, end, target, at, cx) => {
    // The fast path needs a zero behind the message, which no tag begins with, and room to read words. Who prepares the buffer sees to it.
    if (end + SLACK <= source.length && source[end] === 0) {
      if (source !== viewed) {
        viewed = source
        view = new DataView(source.buffer, source.byteOffset, source.length)
      }
      const result = fast(source, view, start, end, target, at, cx)
      if (result !== odd) return result
    }
    cx.failures = 0
    return interpret(source, start, end, target, at, cx)
  }
  return { plan, run, text: emitted.text }
}

/** What transforms ask of keys: pseudonymisers and derived secrets, shared by the streams and variants of an output and made on first use. */
export function servicesFor(output: string, keys: PseudonymKeys): Services {
  let secrets: Secrets | undefined
  const derived: Secrets = (...question) => (secrets ??= sharedSecrets(keys))(...question)
  return {
    output,
    secret: (machine, use) => derived('machine', machine, 'machine', `parapet/v1|${use}|${output}`, 32, 0),
    seal(params, text, bytes, eventMs) {
      // [RFC 5297] AES-SIV with two 256-bit halves.
      const key = derived(params.subject as RowKind, text, params.as as string, `parapet/v1|sealed|${output}`, 64, eventMs)
      return key === undefined ? undefined : aessiv(key).encrypt(bytes)
    },
    pseudonym: (params) => sharedPseudonymiser(keys, { as: params.as as string, output, rotate: params.rotate as Rotate, subject: params.subject as SubjectKind }),
  }
}

type RowKind = 'machine' | 'operator' | 'customer'
type Secrets = (kind: RowKind, value: string, as: string, info: string, length: number, eventMs: number) => Uint8Array | undefined

const allSecrets = new WeakMap<PseudonymKeys, Secrets>()

/** HKDF of subjects' rows, kept until a row is destroyed. [RFC 5869] */
function sharedSecrets(keys: PseudonymKeys): Secrets {
  const known = allSecrets.get(keys)
  if (known !== undefined) return known
  const { rows } = keys
  const ready = new LRUCache<string, Uint8Array>({ max: LIMITS.pseudonymCache })
  const secrets: Secrets = (kind, value, as, info, length, eventMs) => {
    const name = `${rows.generationAt(eventMs)}|${kind}|${info}|${value}`
    let key = ready.get(name)
    if (key === undefined) {
      const row = value === '' ? undefined : rows.row(kind, value, as, eventMs)
      if (row === undefined) return undefined
      key = new Uint8Array(hkdfSync('sha256', row, NO_SALT, Buffer.from(info, 'utf8'), length))
      ready.set(name, key)
    }
    return key
  }
  allSecrets.set(keys, secrets)
  return secrets
}

const NO_SALT = new Uint8Array(0)

const shared = new WeakMap<PseudonymKeys, Map<string, Pseudonymiser>>()

function sharedPseudonymiser(keys: PseudonymKeys, domain: Parameters<typeof createPseudonymiser>[1]): Pseudonymiser {
  let all = shared.get(keys)
  if (all === undefined) shared.set(keys, (all = new Map()))
  const name = `${domain.output}|${domain.as}|${domain.rotate}|${domain.subject}`
  let one = all.get(name)
  if (one === undefined) all.set(name, (one = createPseudonymiser(keys, domain)))
  return one
}

type Fast = (source: Uint8Array, view: DataView, start: number, end: number, target: Uint8Array, at: number, cx: Context) => number

/** Bytes behind a message that the fast path may read. */
const SLACK = 16

function build(plan: Plan, text: string, needs: readonly Need[], services: Services): Fast {
  const names = [...Object.keys(RUNTIME), ...needs.map((need) => need.name)]
  const values = [...Object.values(RUNTIME), ...needs.map((need) => bindNeed(need, plan, services))]
  try {
    // Plan ids are hex digits, so the name of the source is safe to paste.
    return new Function(...names, `"use strict"\n${text}\n//# sourceURL=minimise:${plan.id}`)(...values) as Fast
  } catch (error) {
    throw new Error(`The generated minimiser does not compile: ${(error as Error).message}\n${text}`, { cause: error })
  }
}

function bindNeed(need: Need, plan: Plan, services: Services): unknown {
  switch (need.kind) {
    case 'chain': return bindStep(need.step, services)
    case 'point': return bindPoint(need.point, services)
    case 'shape': return need.field
    case 'members': return need.field.enum?.names
    case 'text': return need.text
    case 'topic': return bindTopic(plan)
  }
}

// ------------------------------------------------------------------------------------------------------------------ chains

type ChainOfText = (s: Uint8Array, from: number, to: number, t: Uint8Array, o: number, cx: Context) => number
type ChainOfNumber = (value: number | boolean, t: Uint8Array, o: number, cx: Context) => number

/** A chain as generated code calls it: writes the whole field, returns the new offset, `o` for a default left out, -1 for dropped. */
function bindStep(step: PlanStep & { kind: 'value' }, services: Services): ChainOfText | ChainOfNumber {
  const { field, chain } = step
  const first = chain[0]
  if (chain.length === 1 && first?.name === 'pseudonym') return pseudonymOfText(field, services.pseudonym(first.params, field))
  const applies = bindChain(chain, field, services)
  const write = fieldWriter(field)
  const kind = kindOf(field)
  if (kind === 'string' || kind === 'bytes') {
    return (s, from, to, t, o, cx) => {
      const bytes = s.subarray(from as number, to as number)
      const value = kind === 'bytes' ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
      return write(applyAll(applies, value, cx as Context), t as Uint8Array, o as number)
    }
  }
  return (value: number | boolean, t: Uint8Array, o: number, cx: Context) => write(applyAll(applies, kind === 'big' ? BigInt(value) : value, cx), t, o)
}

function applyAll(applies: readonly Apply[], value: Value, cx: Context): Value | undefined {
  let result: Value | undefined = value
  for (const apply of applies) {
    result = apply(result, cx)
    if (result === undefined) return undefined
  }
  return result
}

/** Writes tag and value through the readable encoder; for transforms that have no inlined form. */
function fieldWriter(field: FieldShape): (value: Value | undefined, t: Uint8Array, o: number) => number {
  const shape = { name: '', fields: [field], byName: new Map(), byNumber: new Map([[field.number, field]]) }
  return (value, t, o) => {
    if (value === undefined) return -1
    if (!field.presence && isZero(value)) return o
    const bytes = encodeTree({ shape, slots: new Map([[field.number, value]]) }).finish()
    // Past the end on purpose: the caller sees that it did not fit.
    if (o + bytes.length > t.length) return t.length + 1
    t.set(bytes, o)
    return o + bytes.length
  }
}

/** Pseudonyms of string, bytes and number fields with the field's bytes kept ready: a hit copies them. */
function pseudonymOfText(field: FieldShape, maker: Pseudonymiser): ChainOfText | ChainOfNumber {
  const kind = kindOf(field)
  const write = fieldWriter(field)
  if (kind !== 'string') {
    if (kind === 'bytes') {
      return (s, from, to, t, o, cx) => {
        const bytes = Buffer.from((s as Uint8Array).subarray(from as number, to as number))
        return write(maker.of(bytes.toString('latin1'), (cx as Context).eventMs, (cx as Context).session, bytes), t as Uint8Array, o as number)
      }
    }
    return (value: number | boolean, t: Uint8Array, o: number, cx: Context) => {
      const made = value === 0 && !field.presence ? undefined : maker.of(String(value), cx.eventMs, cx.session)
      return write(made === undefined ? undefined : pseudonymNumber(made), t, o)
    }
  }
  return pseudonymOfString(field, maker)
}

/** Slots of the ready-made pseudonyms of one field: a direct-mapped table by a hash of the value's bytes. */
let viewedTarget: Uint8Array | undefined
let targetView: DataView = new DataView(new ArrayBuffer(0))

/** A view of the buffer that results go to; it is nearly always the same one. */
function viewOf(target: Uint8Array): DataView {
  if (target !== viewedTarget) {
    viewedTarget = target
    targetView = new DataView(target.buffer, target.byteOffset, target.length)
  }
  return targetView
}

const SLOTS = 4_096
const KEY_BYTES = 40

/** Ready pseudonyms as columns: key bytes, key length, 22 characters, epoch, generation. */
interface Slots {
  readonly keys: Uint8Array
  readonly lengths: Uint8Array
  readonly values: Uint8Array
  readonly words: DataView
  readonly epochs: Float64Array
  readonly generations: Float64Array
}

const allSlots = new WeakMap<Pseudonymiser, Slots>()

/** One table for each pseudonymiser, whichever streams and variants use it. */
function slotsOf(maker: Pseudonymiser): Slots {
  let slots = allSlots.get(maker)
  if (slots === undefined) {
    const values = new Uint8Array(SLOTS * 24)
    slots = {
      keys: new Uint8Array(SLOTS * KEY_BYTES), lengths: new Uint8Array(SLOTS), values, words: new DataView(values.buffer),
      epochs: new Float64Array(SLOTS).fill(Number.NaN), generations: new Float64Array(SLOTS).fill(-1),
    }
    allSlots.set(maker, slots)
  }
  return slots
}

/**
 * The hot case: a short text whose pseudonym is ready. Finds it by the raw bytes, without making a string, and copies 22 characters.
 * A slot is taken over by whoever comes last; the result never depends on what was cached.
 */
function pseudonymOfString(field: FieldShape, maker: Pseudonymiser): ChainOfText {
  const tag = varintBytes(field.number * 8 + 2)
  let slots: Slots | undefined
  return (s, from, to, t, o, cx) => {
    const { keys, lengths, values, words, epochs, generations } = (slots ??= slotsOf(maker))
    const length = to - from
    let at = o
    for (let i = 0; i < tag.length; i++) t[at++] = tag[i]!
    t[at++] = 22
    let hash = length
    const isShort = length <= KEY_BYTES && maker.period !== 0
    if (isShort) {
      for (let i = from; i < to; i++) hash = (Math.imul(hash, 31) + s[i]!) | 0
      const slot = (hash ^ (hash >>> 15)) & (SLOTS - 1)
      const generation = maker.generationAt(cx.eventMs)
      const epoch = maker.period === Number.POSITIVE_INFINITY ? 0 : Math.floor(cx.eventMs / maker.period)
      if (epochs[slot] === epoch && lengths[slot] === length && generations[slot] === generation) {
        let i = from
        for (let k = slot * KEY_BYTES; i < to && keys[k] === s[i]; k++) i++
        if (i === to) {
          const k = slot * 24
          const w = viewOf(t)
          w.setInt32(at, words.getInt32(k))
          w.setInt32(at + 4, words.getInt32(k + 4))
          w.setInt32(at + 8, words.getInt32(k + 8))
          w.setInt32(at + 12, words.getInt32(k + 12))
          w.setInt32(at + 16, words.getInt32(k + 16))
          w.setInt16(at + 20, words.getInt16(k + 20))
          return at + 22
        }
      }
      const made = maker.of(textAt(s, from, to), cx.eventMs, cx.session)
      if (made === undefined) return -1
      epochs[slot] = epoch
      lengths[slot] = length
      generations[slot] = generation
      for (let i = 0; i < length; i++) keys[slot * KEY_BYTES + i] = s[from + i]!
      for (let i = 0, text = Buffer.from(made).toString('base64url'); i < 22; i++) t[at++] = values[slot * 24 + i] = text.charCodeAt(i)
      return at
    }
    const made = maker.of(textAt(s, from, to), cx.eventMs, cx.session)
    if (made === undefined) return -1
    for (let i = 0, text = Buffer.from(made).toString('base64url'); i < 22; i++) t[at++] = text.charCodeAt(i)
    return at
  }
}

function textAt(s: Uint8Array, from: number, to: number): string {
  return Buffer.from(s.buffer, s.byteOffset + from, to - from).toString('utf8')
}

// ------------------------------------------------------------------------------------------------------------------ points

const cell: Cell = { latE7: 0, lonE7: 0 }

/** Moves a position through its chain into RUNTIME.moved; false when it cannot be applied. */
function bindPoint(step: PlanPoint, services: Services): (lat: number, lon: number, cx: Context) => boolean {
  const { scale } = step.point
  const latField = step.lat[0] as FieldShape
  const lonField = step.lon[0] as FieldShape
  const moves = bindMoves(step, services)
  const isE7 = Math.abs(scale - 1e-7) < 1e-16 && isWhole(latField) && isWhole(lonField)
  const [only] = moves
  if (isE7 && only !== undefined && moves.length === 1) {
    // The usual case, straight: one transform on fields that are degrees times 1e7 already.
    return (lat, lon, cx) => {
      cell.latE7 = lat
      cell.lonE7 = lon
      if (!only(cell, cx)) return false
      RUNTIME.moved.lat = cell.latE7
      RUNTIME.moved.lon = cell.lonE7
      return true
    }
  }
  return (lat, lon, cx) => {
    cell.latE7 = toE7(lat, scale)
    cell.lonE7 = toE7(lon, scale)
    for (const move of moves) if (!move(cell, cx)) return false
    RUNTIME.moved.lat = Number(fromE7(cell.latE7, scale, latField))
    RUNTIME.moved.lon = Number(fromE7(cell.lonE7, scale, lonField))
    return true
  }
}

function isWhole(field: FieldShape): boolean {
  return field.type !== 'double' && field.type !== 'float'
}

// ------------------------------------------------------------------------------------------------------------------- topic

/** Puts the topic together from the result just written; the last one is remembered, as a machine's topic rarely changes. */
function bindTopic(plan: Plan): (t: Uint8Array, from: number, to: number, cx: Context) => boolean {
  if (plan.topic.every((piece) => 'text' in piece)) {
    const topic = plan.topic.map((piece) => ('text' in piece ? piece.text : '')).join('')
    return (_t, _from, _to, cx) => {
      cx.topic = topic
      return true
    }
  }
  // A field that this variant drops has no value, not even a default one.
  const fields = plan.topic.map((piece) => ('path' in piece ? plan.root.steps.find((step) => step.path === piece.path)?.field : undefined))
  return (t, from, to, cx) => {
    let topic = ''
    for (let at = 0; at < plan.topic.length; at++) {
      const piece = plan.topic[at] as Plan['topic'][number]
      if ('text' in piece) {
        topic += piece.text
        continue
      }
      const field = fields[at]
      const text = field === undefined ? undefined : topicText(field, t, from, to)
      if (text === undefined || !isTopicLevel(text)) return false
      topic += text
    }
    cx.topic = topic
    return true
  }
}

/** Text of a singular field in canonical bytes. */
function topicText(field: FieldShape, t: Uint8Array, from: number, to: number): string | undefined {
  const cursor = new Cursor(t, from, to)
  try {
    while (cursor.at < to) {
      const tag = cursor.tag()
      if (tag >>> 3 !== field.number) {
        cursor.skip(tag, 0)
        continue
      }
      const value = decodeScalar(field, cursor)
      if (value === undefined) return undefined
      return field.enum === undefined ? textOf(value) : (field.enum.names.get(value as number) ?? String(value))
    }
  } catch (error) {
    if (error instanceof Malformed) return undefined
    throw error
  }
  // Left out because it is the default; a field with presence is really absent.
  const zero = zeroOf(field)
  return field.presence ? undefined : field.enum === undefined ? textOf(zero) : field.enum.names.get(0)
}
