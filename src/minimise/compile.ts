/**
 * Plan -> minimiser. The generated function takes canonical input; whatever it calls odd goes to the interpreter with the same result.
 * `engine: 'interpreted'` lets the interpreter serve alone (gateway file `minimiser: interpreted`).
 */
import { hkdfSync } from 'node:crypto'
import { aessiv } from '@noble/ciphers/aes.js'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import type { Transform } from '../domain/policy.ts'
import type { FieldShape, MessageShape, SubjectKind } from '../domain/schema.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { Verdict } from '../domain/verdict.ts'
import { emit, type Emitted, type Need } from './emit.ts'
import type { Cell } from './grid.ts'
import { bindChain, createInterpreter, type Context, type Run } from './interpret.ts'
import type { Plan, PlanPoint, PlanStep } from './plan.ts'
import { bindMoves, fromE7, held, toE7 } from './points.ts'
import { createPseudonymiser, pseudonymNumber, type PseudonymKeys, type Pseudonymiser, type Rotate } from './pseudonym.ts'
import { RUNTIME, createSlots, fillSlot, lengthOf, type Slots } from './runtime.ts'
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

/**
 * The minimiser of a plan. Rules that change mostly stay as they are: an equal plan over the same message under the same keys has the
 * same minimiser, which then is as fast as it was before the change.
 */
export function compilePlan(plan: Plan, options: CompileOptions): Minimiser {
  let known = made.get(options.keys)
  if (known === undefined) made.set(options.keys, (known = new LRUCache({ max: LIMITS.minimisers })))
  // The digest says what of the message is taken and how; what its fields are, the message itself says.
  const name = `${options.engine}|${numberOf(plan.message)}|${plan.digest}`
  let minimiser = known.get(name)
  if (minimiser === undefined) known.set(name, (minimiser = make(plan, options)))
  return minimiser
}

const made = new WeakMap<PseudonymKeys, LRUCache<string, Minimiser>>()
const numbers = new WeakMap<MessageShape, number>()
let lastNumber = 0

function numberOf(message: MessageShape): number {
  let number = numbers.get(message)
  if (number === undefined) numbers.set(message, (number = ++lastNumber))
  return number
}

function make(plan: Plan, options: CompileOptions): Minimiser {
  const services = servicesFor(plan.output, options.keys)
  const interpret = createInterpreter(plan, services)
  const emitted = options.engine === 'generated' ? emit(plan) : undefined
  if (emitted === undefined) return { plan, run: interpret, text: undefined }
  const run = build(plan, emitted, interpret, services)
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
  const ready = new LRUCache<string, Uint8Array>({ maxSize: LIMITS.pseudonymCache, sizeCalculation: () => 1 })
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

/**
 * What every generated function is called through. It is part of the text, so that the engine can specialise it for the one function
 * behind it. The fast path needs a zero behind the message, which no tag begins with, and room to read and write words; who prepares
 * the buffer sees to it.
 */
const ENTRANCE = `
let source, target, w, u
return function run(s, start, end, t, at, cx) {
  if (end + slack <= s.length && s[end] === 0 && (s !== t || at > end)) {
    if (s !== source) { source = s; w = new DataView(s.buffer, s.byteOffset, s.length) }
    if (t !== target) { target = t; u = new DataView(t.buffer, t.byteOffset, t.length) }
    const result = minimise(s, w, start, end, t, u, at, cx)
    if (result !== ${Verdict.odd.code}) return result
  }
  cx.failures = 0
  return interpret(s, start, end, t, at, cx)
}`

function build(plan: Plan, { text, needs, slack }: Emitted, interpret: Run, services: Services): Run {
  const closed: Readonly<Record<string, unknown>> = { ...RUNTIME, slack, interpret, ...Object.fromEntries(needs.map((need) => [need.name, bindNeed(need, plan, services)])) }
  try {
    // Plan ids are hex digits, so the name of the source is safe to paste.
    return new Function(...Object.keys(closed), `"use strict"\n${text}\n${ENTRANCE}\n//# sourceURL=minimise:${plan.id}`)(...Object.values(closed)) as Run
  } catch (error) {
    throw new Error(`The generated minimiser does not compile: ${(error as Error).message}\n${text}`, { cause: error })
  }
}

function bindNeed(need: Need, plan: Plan, services: Services): unknown {
  switch (need.kind) {
    case 'chain': return bindStep(need.step, services)
    case 'pseudonym': return readyPseudonyms(services.pseudonym((need.step.chain[0] as Transform).params, need.step.field))
    case 'aside': return createInterpreter(planOf(need.step, plan), services)
    case 'point': return bindPoint(need.point, services)
    case 'shape': return need.field
    case 'members': return need.field.enum?.names
    case 'text': return need.text
    case 'topic': return bindTopic(plan)
  }
}

/** The plan of one field alone, as content whatever it is: what the interpreter makes of it is put between the other fields. */
function planOf(step: PlanStep, plan: Plan): Plan {
  const { field } = step
  const message: MessageShape = { name: '', fields: [field], byName: new Map([[field.name, field]]), byNumber: new Map([[field.number, field]]) }
  return { ...plan, message, root: { shape: message, steps: [{ ...step, header: false }], whole: false }, points: [], when: undefined, onError: undefined, require: [], topic: [], id: '' }
}

// ------------------------------------------------------------------------------------------------------------------ chains

type ChainOfText = (s: Uint8Array, w: DataView, from: number, to: number, t: Uint8Array, u: DataView, o: number, cx: Context) => number
type ChainOfNumber = (value: number | boolean, t: Uint8Array, o: number, cx: Context) => number

/** A chain as generated code calls it: writes the whole field, returns the new offset, `o` for a default left out, -1 for dropped. */
function bindStep(step: PlanStep & { kind: 'value' }, services: Services): ChainOfText | ChainOfNumber {
  const { field, chain } = step
  const first = chain[0]
  if (chain.length === 1 && first?.name === 'pseudonym') return pseudonymOf(field, services.pseudonym(first.params, field))
  const applies = bindChain(chain, field, services)
  const write = fieldWriter(field)
  const kind = kindOf(field)
  if (kind === 'string' || kind === 'bytes') {
    return (s, _w, from, to, t, _u, o, cx) => {
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

/** Pseudonyms of bytes and number fields, and of texts that rotate with the session. */
function pseudonymOf(field: FieldShape, maker: Pseudonymiser): ChainOfText | ChainOfNumber {
  const kind = kindOf(field)
  const write = fieldWriter(field)
  if (kind !== 'string') {
    if (kind === 'bytes') {
      return (s, _w, from, to, t, _u, o, cx) => {
        const bytes = Buffer.from((s as Uint8Array).subarray(from as number, to as number))
        return write(maker.of(bytes.toString('hex'), (cx as Context).eventMs, (cx as Context).session, bytes), t as Uint8Array, o as number)
      }
    }
    return (value: number | boolean, t: Uint8Array, o: number, cx: Context) => {
      const made = value === 0 && !field.presence ? undefined : maker.of(String(value), cx.eventMs, cx.session)
      return write(made === undefined ? undefined : pseudonymNumber(made), t, o)
    }
  }
  return (s, _w, from, to, t, _u, o, cx) => {
    const made = maker.of(textAt(s, from, to), cx.eventMs, cx.session)
    return write(made === undefined ? undefined : Buffer.from(made.buffer, made.byteOffset, made.length).toString('base64url'), t, o)
  }
}

const allSlots = new WeakMap<Pseudonymiser, Slots>()

/** One table for each pseudonymiser, whichever streams and variants use it; made on first use. */
function slotsOf(maker: Pseudonymiser): Slots {
  let slots = allSlots.get(maker)
  if (slots === undefined) allSlots.set(maker, (slots = createSlots()))
  return slots
}

/** What the generated function asks of pseudonyms of texts: it looks into the slots itself and makes one on a miss. */
interface ReadyPseudonyms {
  slots(): Slots
  generationAt(eventMs: number): number
  /** Writes the characters and takes the slot over, if it is not negative. Returns the new offset, -1 for dropped. */
  make(s: Uint8Array, from: number, to: number, t: Uint8Array, o: number, slot: number, epoch: number, generation: number, cx: Context): number
}

function readyPseudonyms(maker: Pseudonymiser): ReadyPseudonyms {
  return {
    slots: () => slotsOf(maker),
    generationAt: (eventMs) => maker.generationAt(eventMs),
    make(s, from, to, t, o, slot, epoch, generation, cx) {
      const made = maker.of(textAt(s, from, to), cx.eventMs, cx.session)
      if (made === undefined) return -1
      const text = Buffer.from(made.buffer, made.byteOffset, made.length).toString('base64url')
      for (let i = 0; i < text.length; i++) t[o + i] = text.charCodeAt(i)
      if (slot >= 0) fillSlot(slotsOf(maker), slot, epoch, generation, s.subarray(from, to), t.subarray(o, o + text.length))
      return o + text.length
    },
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
      RUNTIME.moved.latE7 = cell.latE7
      RUNTIME.moved.lonE7 = cell.lonE7
      return true
    }
  }
  return (lat, lon, cx) => {
    cell.latE7 = toE7(lat, scale)
    cell.lonE7 = toE7(lon, scale)
    for (const move of moves) if (!move(cell, cx)) return false
    RUNTIME.moved.latE7 = Number(fromE7(cell.latE7, scale, latField))
    RUNTIME.moved.lonE7 = Number(fromE7(cell.lonE7, scale, lonField))
    // What its field cannot hold is no result.
    return held(RUNTIME.moved.latE7, latField) !== undefined && held(RUNTIME.moved.lonE7, lonField) !== undefined
  }
}

function isWhole(field: FieldShape): boolean {
  return field.type !== 'double' && field.type !== 'float'
}

// ------------------------------------------------------------------------------------------------------------------- topic

/** Puts the topic together from the result just written. */
type BuildTopic = (t: Uint8Array, u: DataView, from: number, to: number, cx: Context) => boolean

function bindTopic(plan: Plan): BuildTopic {
  // A field that this variant drops has no value, not even a default one.
  const fields = plan.topic.map((piece) => ('path' in piece ? plan.root.steps.find((step) => step.field.name === piece.path)?.field : undefined))
  const build: BuildTopic = (t, _u, from, to, cx) => {
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
  const [only, ...others] = fields.filter((field) => field !== undefined)
  const isUsual = only?.type === 'string' && others.length === 0 && plan.topic.filter((piece) => 'path' in piece).length === 1
  return isUsual ? rememberedTopics(only.number, build) : build
}

/** Topics kept for values of up to 44 bytes; a place is taken over by whoever comes last. */
const TOPICS = { count: 256, words: 12, valueBytes: 44 } as const

/** A topic with one text in it is nearly always one that was put together before: found by the bytes of the text, word by word. */
function rememberedTopics(number: number, build: BuildTopic): BuildTopic {
  const words = new Int32Array(TOPICS.count * TOPICS.words)
  const topics: string[] = []
  return (t, u, from, to, cx) => {
    const at = lengthOf(t, from, to, number)
    const length = at < 0 ? 0 : t[at]!
    // The last word may reach beyond the text.
    if (length === 0 || length > TOPICS.valueBytes || at + length + 4 > t.length) return build(t, u, from, to, cx)
    const last = at + 1 + ((length - 1) & ~3)
    const end = u.getInt32(last, true) & (-1 >>> ((-length & 3) << 3))
    const place = (Math.imul(end ^ u.getInt32(at + 1, true) ^ length, 0x9e37_79b1) >>> 15) & (TOPICS.count - 1)
    let k = place * TOPICS.words
    if (words[k] === length) {
      k++
      let i = at + 1
      for (; i < last && words[k] === u.getInt32(i, true); i += 4) k++
      if (i >= last && words[k] === end) {
        cx.topic = topics[place] as string
        return true
      }
    }
    if (!build(t, u, from, to, cx)) return false
    k = place * TOPICS.words
    words[k++] = length
    for (let i = at + 1; i < last; i += 4) words[k++] = u.getInt32(i, true)
    words[k] = end
    topics[place] = cx.topic
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
