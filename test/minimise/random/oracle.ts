/**
 * The oracle: what must leave, worked out the slow and obvious way. protobufjs decodes, the rules language (sections 3.4, 4 and 5)
 * is applied to plain values as it is written, protobufjs encodes. Nothing here comes from src/minimise.
 *
 * Decided where the language is silent: a singular sub-message of which nothing is left does not leave, unless every field that it may
 * hold is kept as it is; elements of lists and map values stay, be they empty; an element or map entry whose transform cannot be applied
 * is dropped alone; a well-known type is a value with presence; what a message holds is no content where the message is none; a field of
 * a message that does not leave is missing; a text that is not valid UTF-8 reads as absent where the schema does not forbid it; numbers
 * that a closed enum does not have are unknown fields.
 */
import { createHmac, hkdfSync } from 'node:crypto'
import { isUtf8 } from 'node:buffer'
import { aessiv } from '@noble/ciphers/aes.js'
import protobuf from 'protobufjs'
import type { Transform, Zone } from '../../../src/domain/policy.ts'
import { zero, type Surroundings } from './condition.ts'
import { pathText, wrapped, type Chain, type KeyedModel, type OutputModel, type PointModel, type RuleModel } from './rules.ts'
import { oracleName, oracleText, type FieldModel, type MessageModel, type SchemaModel } from './schema.ts'

export type OScalar = number | bigint | boolean | string | Uint8Array
/** By field number. */
export type OMessage = Map<number, OValue>
/** A list of scalars or messages; map fields are lists of pairs. */
export type OValue = OScalar | OMessage | readonly OScalar[] | readonly OMessage[] | readonly (readonly [OScalar, OScalar | OMessage])[]

export interface Moment extends Surroundings {
  readonly eventMs: number
  /** Hex of the operator session; empty when there is none. */
  readonly session: string
  readonly root: Uint8Array
  readonly tenant: string
  /** The decision's part: the operator's yes, whether fields that identify an operator may leave, whether the basis is a legal obligation. */
  readonly consent: boolean
  readonly operatorFields: boolean
  readonly legal: boolean
}

export type Expected =
  /** `unsettled`: a tag or length of more than five bytes, which implementations of protobuf judge differently. */
  | { readonly kind: 'refused'; readonly unsettled: boolean }
  /** Every reason that holds; which of them is reported is not the language's business. */
  | { readonly kind: 'withheld'; readonly reasons: readonly string[] }
  | { readonly kind: 'sent'; readonly bytes: Uint8Array; readonly topic: string; readonly failures: number }

export interface Oracle {
  decode(bytes: Uint8Array): OMessage | Error
  encode(message: OMessage): Uint8Array
  expect(output: OutputModel, bytes: Uint8Array, moment: Moment): Expected
}

export function createOracle(schema: SchemaModel): Oracle {
  const types = protobuf.parse(oracleText(schema), new protobuf.Root(), { keepCase: true }).root
  types.resolveAll()
  const typeOf = (model: MessageModel): protobuf.Type => types.lookupType(`oracle.${oracleName(model)}`)
  const decode = (bytes: Uint8Array): OMessage | Error => {
    let read: protobuf.Message
    try {
      read = typeOf(schema.root).decode(strictReader(bytes))
    } catch (error) {
      return error as Error
    }
    return fromLibrary(read as unknown as Loose, schema.root)
  }
  const encode = (message: OMessage): Uint8Array => typeOf(schema.root).encode(toLibrary(message, schema.root) as unknown as protobuf.Message).finish()
  return {
    decode,
    encode,
    expect(output, bytes, moment) {
      const message = decode(bytes)
      if (message instanceof Error) return { kind: 'refused', unsettled: /invalid (tag|length) encoding/.test(message.message) }
      const state: State = { moment, failures: 0, dropped: new Set(), content: 0, header: headerOf(output), rules: [] }
      let rules = output.rules
      let require = output.require
      const holds = output.when === undefined ? true : output.when.holds(message, moment)
      if (holds === false) return { kind: 'withheld', reasons: ['when_false'] }
      if (holds === undefined) {
        // [4.7] In a legal record an error counts as true, and then only fields that are never personal leave.
        if (!moment.legal) return { kind: 'withheld', reasons: ['when_error'] }
        rules = rules.flatMap(neverPersonal)
        require = []
        state.neverOnly = true
      }
      const result = applyRules(message, rules, state)
      const reasons: string[] = []
      if (require.some((path) => isMissing(path, output, result, state))) reasons.push('required_missing')
      if (state.content === 0) reasons.push('empty')
      const topic = topicOf(output, result, state)
      if (topic === undefined) reasons.push('bad_topic_value')
      if (reasons.length > 0) return { kind: 'withheld', reasons }
      return { kind: 'sent', bytes: encode(result), topic: topic as string, failures: state.failures }
    },
  }
}

// ------------------------------------------------------------------------------------------------- from and to the library

/** protobufjs steps over unknown varints of any length; the encoding allows ten bytes. */
function strictReader(bytes: Uint8Array): protobuf.Reader {
  const reader = protobuf.Reader.create(Uint8Array.from(bytes))
  const skip = reader.skip.bind(reader)
  reader.skip = (length) => {
    const from = reader.pos
    skip(length)
    if (length === undefined && reader.pos - from > 10) throw new Error('a varint of more than ten bytes')
    return reader
  }
  return reader
}

type Loose = Record<string, unknown>

function fromLibrary(read: Loose, model: MessageModel): OMessage {
  const made: OMessage = new Map()
  for (const field of model.fields) {
    const value = Object.hasOwn(read, field.name) ? read[field.name] : undefined
    if (value === undefined) continue
    if (field.label === 'map') {
      const pairs = pairsOf(value as Loose[], field)
      if (pairs.length > 0) made.set(field.number, pairs)
    } else if (Array.isArray(value)) {
      const list = value.map((one) => valueOf(one, field, field.type)).filter((one) => one !== undefined)
      if (list.length > 0) made.set(field.number, list as OScalar[])
    } else {
      const one = valueOf(value, field, field.type)
      if (one !== undefined) made.set(field.number, one)
    }
  }
  return made
}

/** One entry for each key; the last wins and stands where it came. */
function pairsOf(entries: readonly Loose[], field: FieldModel): (readonly [OScalar, OScalar | OMessage])[] {
  const keyField = { ...field, type: field.key as FieldModel['type'], message: undefined, enum: undefined, initial: undefined }
  const pairs = new Map<string, readonly [OScalar, OScalar | OMessage]>()
  for (const entry of entries) {
    const key = (Object.hasOwn(entry, 'key') ? valueOf(entry.key, keyField, keyField.type) : undefined) ?? zero(keyField)
    const value = (Object.hasOwn(entry, 'value') ? valueOf(entry.value, field, field.type) : undefined) ?? (field.message === undefined ? zero(field) : new Map())
    if (field.enum?.closed === true && !field.enum.members.some(([, number]) => number === value)) continue
    const name = String(key)
    pairs.delete(name)
    pairs.set(name, [key as OScalar, value as OScalar | OMessage])
  }
  return [...pairs.values()]
}

function valueOf(value: unknown, field: FieldModel, type: FieldModel['type']): OScalar | OMessage | undefined {
  if (type === 'message') return fromLibrary(value as Loose, field.message as MessageModel)
  if (type === 'string') {
    if (typeof value === 'string') return value
    return isUtf8(value as Uint8Array) ? Buffer.from(value as Uint8Array).toString('utf8') : undefined
  }
  if (type === 'bytes') return Uint8Array.from(value as Uint8Array)
  if (typeof value === 'object') {
    const { low, high, unsigned } = value as { low: number; high: number; unsigned: boolean }
    const bits = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)
    return unsigned ? bits : BigInt.asIntN(64, bits)
  }
  if (type.endsWith('64')) return BigInt(value as number)
  // One NaN for all.
  return Number.isNaN(value) ? Number.NaN : (value as number | boolean)
}

function toLibrary(message: OMessage, model: MessageModel): Loose {
  const made: Loose = {}
  for (const field of model.fields) {
    const value = message.get(field.number)
    if (value === undefined) continue
    const one = (item: OScalar | OMessage): unknown => (item instanceof Map ? toLibrary(item, field.message as MessageModel) : libraryScalar(item, field, field.type))
    if (field.label === 'map') made[field.name] = (value as readonly (readonly [OScalar, OScalar | OMessage])[]).map(([key, item]) => ({ key: libraryScalar(key, field, field.key as FieldModel['type']), value: one(item) }))
    else if (Array.isArray(value)) made[field.name] = (value as readonly OScalar[]).map(one)
    else made[field.name] = one(value as OScalar | OMessage)
  }
  return made
}

function libraryScalar(value: OScalar, field: FieldModel, type: FieldModel['type']): unknown {
  if (typeof value === 'bigint') return { low: Number(BigInt.asIntN(32, value)), high: Number(BigInt.asIntN(32, value >> 32n)), unsigned: type.startsWith('u') || type === 'fixed64' }
  if (typeof value === 'string' && !field.utf8) return Buffer.from(value)
  return value
}

// ------------------------------------------------------------------------------------------------------------------- rules

interface State {
  readonly moment: Moment
  failures: number
  /** Names of fields and points whose transform could not be applied. */
  readonly dropped: Set<string>
  content: number
  /** Paths of machine, time and topic fields. */
  readonly header: ReadonlySet<string>
  /** The rules that let something out here. */
  rules: readonly RuleModel[]
  neverOnly?: boolean
}

/** [4.6] What alone is not worth a message: machine, time and topic fields. */
function headerOf(output: OutputModel): Set<string> {
  const names = [...output.topic.matchAll(/\{([\w.]+)\}/g)].map((match) => match[1] as string).filter((name) => name !== 'stream')
  if (output.machineField !== undefined) names.push(output.machineField)
  if (output.timeField !== undefined) names.push(output.timeField)
  return new Set(names)
}

/** A header field, or something in one. */
function isHeader(path: readonly FieldModel[], state: State): boolean {
  return path.some((field, at) => field.subject === 'machine' || field.time || state.header.has(pathText(path.slice(0, at + 1))))
}

function neverPersonal(rule: RuleModel): RuleModel[] {
  if (rule.kind === 'point') return []
  const leaf = rule.path.at(-1) as FieldModel
  return leaf.personal === 'never' ? [rule] : []
}

/** [3.4, 4.3] No field that identifies an operator where none may leave. */
function isBarred(field: FieldModel, state: State): boolean {
  return !state.moment.operatorFields && (field.subject === 'operator' || field.subject === 'session')
}

function chainOf(rule: RuleModel & { kind: 'field' | 'point' }, state: State): Chain {
  return state.moment.consent ? rule.yes : rule.no
}

function applyRules(message: OMessage, rules: readonly RuleModel[], state: State): OMessage {
  const result: OMessage = new Map()
  state.rules = rules.filter((rule) => rule.kind !== 'point' && !rule.path.some((field) => isBarred(field, state)) && (rule.kind === 'keyed' || !chainOf(rule, state).some((one) => one.name === 'drop')))
  for (const rule of state.rules) {
    if (rule.kind === 'point') continue
    descend(rule.path, [], message, result, state, (field, from, into, path) => {
      if (rule.kind === 'keyed') applyKeyed(field, rule.keyed, from, into, path, state)
      else applyChainTo(field, chainOf(rule, state), from, into, path, state)
    })
  }
  keepEmpty((message.size === 0 ? [] : [...new Set(state.rules.flatMap((rule) => (rule.kind === 'point' ? [] : [rule.path[0] as FieldModel])))]), [], message, result, state)
  for (const rule of rules) if (rule.kind === 'point') applyPoint(rule.point, chainOf(rule, state), message, result, state)
  return result
}

type Path = readonly FieldModel[]
type Leaf = (field: FieldModel, from: OMessage, into: OMessage, path: Path) => void

/** Goes down a path in step with the result; through every element of lists and every value of maps on the way. */
function descend(rest: Path, above: Path, from: OMessage, into: OMessage, state: State, leaf: Leaf): void {
  const field = rest[0] as FieldModel
  const path = [...above, field]
  if (rest.length === 1) {
    leaf(field, from, into, path)
    return
  }
  const value = from.get(field.number)
  if (value === undefined) return
  if (field.label === 'singular') {
    const known = into.get(field.number) as OMessage | undefined
    const child: OMessage = known ?? new Map()
    descend(rest.slice(1), path, value as OMessage, child, state, leaf)
    if (child.size > 0) into.set(field.number, child)
    return
  }
  // Elements stay, be they empty; several rules may reach into the same ones.
  if (!into.has(field.number)) {
    into.set(field.number, field.label === 'map' ? (value as readonly (readonly [OScalar, OMessage])[]).map(([key]) => [key, new Map()] as const) : (value as readonly OMessage[]).map(() => new Map()))
    count(path, state)
  }
  for (const [source, child] of elementsOf(field, value, into.get(field.number) as OValue)) descend(rest.slice(1), path, source, child, state, leaf)
}

/** Messages of a list or map and what is made of each. */
function elementsOf(field: FieldModel, from: OValue, into: OValue): [OMessage, OMessage][] {
  const message = (one: unknown): OMessage => (field.label === 'map' ? (one as readonly [OScalar, OMessage])[1] : one) as OMessage
  return (from as readonly unknown[]).map((one, at) => [message(one), message((into as readonly unknown[])[at])])
}

/** Messages whose fields are named one by one, and all of them kept, are there when they are empty. */
function keepEmpty(fields: readonly FieldModel[], above: Path, from: OMessage, into: OMessage, state: State): void {
  for (const field of fields) {
    const path = [...above, field]
    const value = from.get(field.number)
    const deeper = state.rules.flatMap((rule) => (rule.kind !== 'point' && rule.path.length > path.length && path.every((one, at) => rule.path[at] === one) ? [rule.path[path.length] as FieldModel] : []))
    if (value === undefined || deeper.length === 0) continue
    const inner = [...new Set(deeper)]
    if (field.label !== 'singular') {
      for (const [source, child] of elementsOf(field, value, into.get(field.number) as OValue)) keepEmpty(inner, path, source, child, state)
      continue
    }
    const child = (into.get(field.number) ?? new Map()) as OMessage
    keepEmpty(inner, path, value as OMessage, child, state)
    if (child.size > 0) into.set(field.number, child)
    else if (isKept(path, state)) placeEmpty(path, into, state)
  }
}

function placeEmpty(path: Path, into: OMessage, state: State): void {
  const { number, message } = path.at(-1) as FieldModel
  const fields = message?.fields ?? []
  into.set(number, new Map())
  // An empty header is none either.
  if (fields.length === 0 || fields.some((field) => !isHeader([...path, field], state))) count(path, state)
}

/** Whether a field leaves as it is: one rule keeps it or a message around it, or rules keep each of its fields. */
function isKept(path: Path, state: State): boolean {
  const field = path.at(-1) as FieldModel
  const isOn = (rule: RuleModel): boolean => rule.kind !== 'point' && rule.path.every((one, at) => path[at] === one)
  const isBelow = (rule: RuleModel): boolean => rule.kind !== 'point' && path.every((one, at) => rule.path[at] === one)
  const above = state.rules.find(isOn)
  if (above !== undefined) return above.kind === 'field' && chainOf(above, state).every((one) => one.name === 'keep') && (field.message === undefined || hidesNothing(field.message, state))
  return field.message !== undefined && state.rules.some(isBelow) && field.message.fields.every((inner) => isKept([...path, inner], state))
}

/** Whether nothing in a message that is kept whole stays behind, all the way down. */
function hidesNothing(model: MessageModel, state: State, seen = new Set<MessageModel>()): boolean {
  if (seen.has(model)) return true
  seen.add(model)
  return model.fields.every((field) => !isOut(field, state) && (field.message === undefined || hidesNothing(field.message, state, seen)))
}

function isOut(field: FieldModel, state: State): boolean {
  return isBarred(field, state) || (state.neverOnly === true && field.personal !== 'never')
}

function count(path: Path, state: State): void {
  if (!isHeader(path, state)) state.content++
}

function applyChainTo(field: FieldModel, chain: Chain, from: OMessage, into: OMessage, path: Path, state: State): void {
  const present = from.get(field.number)
  const steps = chain.filter((one) => one.name !== 'keep')
  if (field.message !== undefined) {
    if (present === undefined) return
    if (steps.length === 0) keepWhole(field, present, into, path, state)
    else changeKnown(field, steps, present, into, path, state)
    return
  }
  if (field.label === 'map') {
    const pairs = ((present ?? []) as readonly (readonly [OScalar, OScalar])[]).flatMap(([key, value]) => {
      const made = applyChain(steps, value, field, state.moment)
      if (made === undefined) state.failures++
      return made === undefined ? [] : [[key, made] as const]
    })
    if (pairs.length > 0) {
      into.set(field.number, pairs)
      count(path, state)
    }
    return
  }
  if (field.label === 'repeated') {
    const list = ((present ?? []) as readonly OScalar[]).flatMap((value) => {
      const made = applyChain(steps, value, field, state.moment)
      if (made === undefined) state.failures++
      return made === undefined ? [] : [made]
    })
    if (list.length > 0) {
      into.set(field.number, list)
      count(path, state)
    }
    return
  }
  // [4.4] Without presence absent and default are the same; a field with presence that is absent is never touched.
  if (present === undefined && field.presence) return
  const made = applyChain(steps, (present ?? zero(field)) as OScalar, field, state.moment)
  if (made === undefined) {
    state.failures++
    state.dropped.add(pathText(path))
  } else if (field.presence || !isDefault(made)) {
    into.set(field.number, made)
    count(path, state)
  }
}

/** A message kept whole: its known fields all the way down, except those that may not leave. */
function keepWhole(field: FieldModel, value: OValue, into: OMessage, path: Path, state: State): void {
  const model = field.message as MessageModel
  if (field.label === 'singular') {
    const child: OMessage = new Map()
    keepFields(model, value as OMessage, child, path, state)
    if (child.size > 0) into.set(field.number, child)
    else if (hidesNothing(model, state)) placeEmpty(path, into, state)
    return
  }
  const children = (value as readonly unknown[]).map((one) => {
    const child: OMessage = new Map()
    keepFields(model, (field.label === 'map' ? (one as readonly [OScalar, OMessage])[1] : one) as OMessage, child, path, state)
    return field.label === 'map' ? ([(one as readonly [OScalar, OMessage])[0], child] as const) : child
  })
  into.set(field.number, children as readonly OMessage[])
  count(path, state)
}

function keepFields(model: MessageModel, from: OMessage, into: OMessage, path: Path, state: State): void {
  for (const field of model.fields) if (!isOut(field, state)) applyChainTo(field, [], from, into, [...path, field], state)
}

/** Well-known types under transforms are values that are there, whatever they become. */
function changeKnown(field: FieldModel, steps: Chain, value: OValue, into: OMessage, path: Path, state: State): void {
  const change = (one: OMessage): OMessage | undefined => changed(field, steps, one, state)
  if (field.label === 'singular') {
    const made = change(value as OMessage)
    if (made === undefined) {
      state.failures++
      state.dropped.add(pathText(path))
    } else {
      into.set(field.number, made)
      count(path, state)
    }
    return
  }
  const left = (value as readonly unknown[]).flatMap((one) => {
    const made = change((field.label === 'map' ? (one as readonly [OScalar, OMessage])[1] : one) as OMessage)
    if (made === undefined) state.failures++
    return made === undefined ? [] : [field.label === 'map' ? ([(one as readonly [OScalar, OMessage])[0], made] as const) : made]
  })
  if (left.length > 0) {
    into.set(field.number, left as readonly OMessage[])
    count(path, state)
  }
}

function changed(field: FieldModel, steps: Chain, value: OMessage, state: State): OMessage | undefined {
  const inner = wrapped(field)
  if (inner !== undefined) {
    const made = applyChain(steps, (value.get(1) ?? zero(inner)) as OScalar, inner, state.moment)
    return made === undefined ? undefined : new Map<number, OValue>(isDefault(made) ? [] : [[1, made]])
  }
  return changedTime(field.message?.name === 'google.protobuf.Duration', steps, (value.get(1) as bigint | undefined) ?? 0n, BigInt((value.get(2) as number | undefined) ?? 0))
}

const BILLION = 1_000_000_000n

/** Times are floored to a multiple since the epoch, lengths of time to a multiple or rounded; one whose parts are out of range is dropped. [timestamp.proto, duration.proto] */
function changedTime(isLength: boolean, steps: Chain, seconds: bigint, nanos: bigint): OMessage | undefined {
  if (isLength ? nanos <= -BILLION || nanos >= BILLION || seconds * nanos < 0n || !isLengthOfTime(seconds) : nanos < 0n || nanos >= BILLION) return undefined
  let total = seconds * BILLION + nanos
  for (const { name, params } of steps) {
    if (name === 'round_time') {
      total = floorTo(total, BigInt(params.ms as number) * 1_000_000n)
    } else {
      const step = BigInt((params.step as number) * 1e9)
      const size = total < 0n ? -total : total
      total = (total < 0n ? -1n : 1n) * ((size * 2n + step) / (step * 2n)) * step
    }
  }
  const whole = isLength ? total / BILLION : floorDiv(total, BILLION)
  if (isLength ? !isLengthOfTime(whole) : BigInt.asIntN(64, whole) !== whole) return undefined
  const rest = Number(total - whole * BILLION)
  return new Map<number, OValue>([...(whole === 0n ? [] : [[1, whole] as const]), ...(rest === 0 ? [] : [[2, rest] as const])])
}

function isLengthOfTime(seconds: bigint): boolean {
  return seconds >= -315_576_000_000n && seconds <= 315_576_000_000n
}

/** An element leaves only when its key is listed, and then only its listed members. */
function applyKeyed(field: FieldModel, keyed: KeyedModel, from: OMessage, into: OMessage, path: Path, state: State): void {
  const model = field.message as MessageModel
  const list: OMessage[] = []
  for (const element of (from.get(field.number) ?? []) as readonly OMessage[]) {
    const key = BigInt((element.get(keyed.by.number) ?? zero(keyed.by)) as number | bigint)
    const found = [...keyed.only].find(([one]) => BigInt(one) === (keyed.pgn ? pgn(key) : key))
    if (found === undefined) continue
    const result: OMessage = new Map()
    for (const [member, chain] of new Map([...keyed.with, ...found[1]])) {
      const inner = model.fields.find((one) => one.name === member) as FieldModel
      if (isOut(inner, state) || chain.some((one) => one.name === 'drop')) continue
      applyChainTo(inner, chain, element, result, [...path, inner], state)
    }
    list.push(result)
  }
  if (list.length > 0) {
    into.set(field.number, list)
    count(path, state)
  }
}

/** [SAE J1939-21] Data page, PDU format and, from format 240 on, PDU specific of a 29-bit identifier. */
function pgn(id: bigint): bigint {
  const format = (id >> 16n) & 0xffn
  return (id >> 8n) & 0x3ff00n | (format >= 240n ? (id >> 8n) & 0xffn : 0n)
}

// ------------------------------------------------------------------------------------------------------------------ points

function at(message: OMessage, path: readonly FieldModel[]): OValue | undefined {
  let here: OValue | undefined = message
  for (const field of path) here = (here as OMessage | undefined)?.get(field.number)
  return here
}

function applyPoint(point: PointModel, chain: Chain, message: OMessage, into: OMessage, state: State): void {
  if (chain.some((one) => one.name === 'drop') || state.neverOnly === true) return
  const [latField, lonField] = [point.lat.at(-1) as FieldModel, point.lon.at(-1) as FieldModel]
  const lat = at(message, point.lat) as OScalar | undefined
  const lon = at(message, point.lon) as OScalar | undefined
  // [4.4] All parts zero, or not valid: there is no position.
  if ((lat === undefined || isDefault(lat)) && (lon === undefined || isDefault(lon))) return
  if (point.valid !== undefined && point.valid.holds(message, state.moment) !== true) return
  const moves = chain.filter((one) => one.name !== 'keep')
  if (moves.length === 0) {
    put(into, point.lat, lat ?? zero(latField) as OScalar)
    put(into, point.lon, lon ?? zero(lonField) as OScalar)
    state.content++
    return
  }
  let cell: readonly [number, number] | undefined = [toE7(lat ?? 0, point.scale), toE7(lon ?? 0, point.scale)]
  for (const one of moves) {
    if (cell === undefined) break
    if (one.name === 'grid') cell = gridCell(cell[0], cell[1], one.params.size as number)
    else if (!isOnGlobe(cell[0], cell[1]) || (one.params.zones as readonly Zone[]).some((zone) => isInside(zone, (cell as readonly [number, number])[0] / 1e7, (cell as readonly [number, number])[1] / 1e7))) cell = undefined
  }
  if (cell === undefined) {
    state.failures++
    state.dropped.add(point.name)
    return
  }
  put(into, point.lat, fromE7(cell[0], point.scale, latField))
  put(into, point.lon, fromE7(cell[1], point.scale, lonField))
  state.content++
}

function put(into: OMessage, path: readonly FieldModel[], value: OScalar): void {
  const leaf = path.at(-1) as FieldModel
  if (!leaf.presence && isDefault(value)) return
  let here = into
  for (const field of path.slice(0, -1)) {
    if (!here.has(field.number)) here.set(field.number, new Map())
    here = here.get(field.number) as OMessage
  }
  here.set(leaf.number, value)
}

/** [5] Degrees are first rounded to e7 integers. */
function toE7(value: OScalar, scale: number): number {
  if (typeof value === 'bigint') return Number(value) * Math.round(scale * 1e7)
  return halfAway((value as number) * Math.round(scale * 1e7))
}

function fromE7(e7: number, scale: number, field: FieldModel): OScalar {
  if (field.type === 'double' || field.type === 'float') return e7 / 1e7
  const wire = halfAway(e7 / Math.round(scale * 1e7))
  return field.type.endsWith('64') ? BigInt(wire) : wire
}

function isOnGlobe(latE7: number, lonE7: number): boolean {
  return Math.abs(latE7) <= 90e7 && Math.abs(lonE7) <= 180e7
}

/** Within a polygon by counting the edges to the east; within twice the radius of a circle, because there is no machine whose secret would move it. */
function isInside(zone: Zone, lat: number, lon: number): boolean {
  if (zone.kind === 'circle') {
    const apart = ((lon - zone.lon + 540) % 360) - 180
    return Math.hypot((lat - zone.lat) * 111_320, apart * 111_320 * Math.cos((zone.lat * Math.PI) / 180)) <= zone.radiusM * 2
  }
  const crossings = zone.corners.filter(([aLat, aLon], at) => {
    const [bLat, bLon] = zone.corners[(at + 1) % zone.corners.length] as readonly [number, number]
    const [low, high] = aLat < bLat ? [aLat, bLat] : [bLat, aLat]
    return low <= lat && lat < high && aLon + ((lat - aLat) / (bLat - aLat)) * (bLon - aLon) > lon
  })
  return crossings.length % 2 === 1
}

/** [5] grid: centres of cells, degrees times 1e7; undefined outside the globe. */
export function gridCell(latE7: number, lonE7: number, size: number): readonly [number, number] | undefined {
  if (!isOnGlobe(latE7, lonE7)) return undefined
  const M = 111_320
  const i = Number(floorDiv(BigInt(latE7) * BigInt(M), BigInt(size) * 10_000_000n))
  const row = Number(floorDiv(BigInt(latE7) * BigInt(M), 100_000n * 10_000_000n))
  const c = Math.max(0.01, Math.cos((((row + 0.5) * 100_000) / M) * (Math.PI / 180)))
  const j = Math.floor(((lonE7 / 1e7) * M * c) / size)
  const within = (degrees: number, limit: number): number => Math.max(-limit, Math.min(limit, degrees))
  return [halfAway(within(((i + 0.5) * size) / M, 90) * 1e5) * 100, halfAway(within(((j + 0.5) * size) / (M * c), 180) * 1e5) * 100]
}

// ------------------------------------------------------------------------------------------------------- require and topic

function isMissing(name: string, output: OutputModel, result: OMessage, state: State): boolean {
  if (state.dropped.has(name)) return true
  const rule = output.rules.find((one) => (one.kind === 'point' ? one.point.name : pathText(one.path)) === name)
  if (rule === undefined) return true
  if (rule.kind === 'point') return at(result, rule.point.lat) === undefined && at(result, rule.point.lon) === undefined
  if (!state.rules.includes(rule)) return true
  return valueAt(rule.path, result) === undefined
}

/** [4.4] Without presence a field is there with its zero value, where the message that holds it is there. */
function valueAt(path: Path, result: OMessage): OValue | undefined {
  const leaf = path.at(-1) as FieldModel
  const isSingle = path.slice(0, -1).every((field) => field.label === 'singular')
  const owner = isSingle ? (path.length === 1 ? result : (at(result, path.slice(0, -1)) as OMessage | undefined)) : undefined
  return owner === undefined ? undefined : (owner.get(leaf.number) ?? (leaf.label === 'singular' && !leaf.presence ? zero(leaf) : undefined))
}

function topicOf(output: OutputModel, result: OMessage, state: State): string | undefined {
  let topic = ''
  for (const part of output.topic.split(/(\{[\w.]+\})/)) {
    if (!part.startsWith('{')) {
      topic += part
      continue
    }
    const name = part.slice(1, -1)
    const level = name === 'stream' ? 's' : levelOf(name, output, result, state)
    if (level === undefined || level === '' || level.length > 256 || /[/+#\u0000-\u001f\u007f-\u009f\ufdd0-\ufdef\ufffe\uffff]/.test(level) || level.startsWith('$')) return undefined
    topic += level
  }
  return topic
}

function levelOf(name: string, output: OutputModel, result: OMessage, state: State): string | undefined {
  const rule = output.rules.find((one) => one.kind === 'field' && pathText(one.path) === name)
  if (rule === undefined || rule.kind === 'point' || !state.rules.includes(rule) || state.dropped.has(name)) return undefined
  const field = rule.path.at(-1) as FieldModel
  const value = valueAt(rule.path, result)
  if (value === undefined || value instanceof Uint8Array) return undefined
  if (field.enum !== undefined) return field.enum.members.find(([, number]) => number === value)?.[0] ?? String(value)
  return String(value)
}

// -------------------------------------------------------------------------------------------------------------- transforms

function isDefault(value: OScalar): boolean {
  if (typeof value === 'number') return Object.is(value, 0)
  if (typeof value === 'bigint') return value === 0n
  if (typeof value === 'boolean') return !value
  return value.length === 0
}

/** [4.5] In order; undefined when one cannot be applied. */
function applyChain(chain: Chain, value: OScalar, field: FieldModel, moment: Moment): OScalar | undefined {
  let result: OScalar | undefined = value
  for (const one of chain) result = result === undefined ? undefined : applyOne(one, result, field, moment)
  return result
}

function applyOne({ name, params }: Transform, value: OScalar, field: FieldModel, moment: Moment): OScalar | undefined {
  switch (name) {
    case 'constant': return field.type.endsWith('64') ? BigInt(params.value as number) : (params.value as OScalar)
    case 'mask': return mask(value as string | Uint8Array, params.first as number, params.last as number, params.with as string)
    case 'truncate': return typeof value === 'string' ? [...value].slice(0, params.length as number).join('') : (value as Uint8Array).slice(0, params.length as number)
    case 'keep_bytes': return (value as Uint8Array).slice(params.from as number, params.to as number)
    case 'map': {
      const table = params.table as ReadonlyMap<OScalar, OScalar>
      return table.has(value) ? table.get(value) : (params.else as OScalar | undefined)
    }
    case 'flags': return flags(value as number | bigint, params.mask as bigint, field)
    case 'encrypt': return encrypt(value as string, params.as as string, moment)
    case 'pseudonym': return pseudonym(value as string | Uint8Array | bigint, params, field, moment)
    default: return typeof value === 'bigint' || isWhole(field) ? whole(name, params, BigInt(value as number | bigint), field) : fraction(name, params, value as number, field)
  }
}

function isWhole(field: FieldModel): boolean {
  return field.type !== 'double' && field.type !== 'float'
}

/** Integers, without any rounding of the machine's own. */
function whole(name: string, params: Transform['params'], value: bigint, field: FieldModel): OScalar | undefined {
  const result = ((): bigint => {
    switch (name) {
      case 'round': {
        const step = BigInt(params.step as number)
        const size = value < 0n ? -value : value
        const near = ((size * 2n + step) / (step * 2n)) * step
        return value < 0n ? -near : near
      }
      case 'round_time': return floorTo(value, BigInt(params.wire as number))
      case 'clamp': return value < BigInt(params.lo as number) ? BigInt(params.lo as number) : value > BigInt(params.hi as number) ? BigInt(params.hi as number) : value
      case 'bucket': {
        const bounds = (params.bounds as readonly number[]).map(BigInt)
        return bounds.filter((bound) => bound <= value).at(-1) ?? (bounds[0] as bigint)
      }
      default: throw new Error(`the oracle knows no ${name}`)
    }
  })()
  const bits = field.type.endsWith('64') ? 64 : 32
  const fits = /^(uint|fixed)/.test(field.type) ? BigInt.asUintN(bits, result) : BigInt.asIntN(bits, result)
  // [4.5] Out of range: it cannot be applied.
  if (fits !== result) return undefined
  return bits === 64 ? result : Number(result)
}

function fraction(name: string, params: Transform['params'], value: number, field: FieldModel): number | undefined {
  if (!Number.isFinite(value)) return undefined
  const result = ((): number => {
    switch (name) {
      case 'round': {
        const step = params.step as number
        const n = Math.round(1 / step)
        return n >= 1 && Math.abs(1 / step - n) < 1e-9 ? halfAway(value * n) / n : halfAway(value / step) * step
      }
      case 'round_time': return Math.floor(value / (params.wire as number)) * (params.wire as number)
      case 'clamp': return value < (params.lo as number) ? (params.lo as number) : value > (params.hi as number) ? (params.hi as number) : value
      case 'bucket': return (params.bounds as readonly number[]).filter((bound) => bound <= value).at(-1) ?? ((params.bounds as readonly number[])[0] as number)
      default: throw new Error(`the oracle knows no ${name}`)
    }
  })()
  return Number.isFinite(field.type === 'float' ? Math.fround(result) : result) ? result : undefined
}

function halfAway(value: number): number {
  const down = Math.trunc(value)
  return Math.abs(value - down) < 0.5 ? down : down + (value < 0 ? -1 : 1)
}

function floorDiv(value: bigint, by: bigint): bigint {
  const down = value / by
  return down * by > value ? down - 1n : down
}

function floorTo(value: bigint, step: bigint): bigint {
  return floorDiv(value, step) * step
}

function mask(value: string | Uint8Array, first: number, last: number, sign: string): string | Uint8Array {
  const points: (string | number)[] = typeof value === 'string' ? [...value] : [...value]
  const masked = points.map((point, index) => (index < first || index >= points.length - last ? point : typeof value === 'string' ? sign : sign.charCodeAt(0)))
  return typeof value === 'string' ? masked.join('') : Uint8Array.from(masked as number[])
}

function flags(value: number | bigint, bits: bigint, field: FieldModel): number | bigint {
  const width = field.type.endsWith('64') ? 64 : 32
  const kept = BigInt.asUintN(width, BigInt(value)) & bits
  const signed = /^(uint|fixed)/.test(field.type) ? kept : BigInt.asIntN(width, kept)
  return width === 64 ? signed : Number(signed)
}

/** [5] AES-SIV under HKDF(R, "parapet/v1|sealed|OUTPUT"); texts as base64url. */
function encrypt(value: string, as: string, moment: Moment): string | undefined {
  if (value === '') return undefined
  const row = hkdfSync('sha256', moment.root, Buffer.from(moment.tenant), Buffer.from(`parapet/v1|filter-row|${as}|${value}`), 32)
  const key = hkdfSync('sha256', Buffer.from(row), Buffer.alloc(0), Buffer.from('parapet/v1|sealed|rnd'), 64)
  return Buffer.from(aessiv(Buffer.from(key)).encrypt(Buffer.from(value))).toString('base64url')
}

/** [5] HMAC-SHA256(K, lp(R) || lp(value)), first 16 bytes; K from the root by HKDF; here with the rows of `filter`. */
function pseudonym(value: string | Uint8Array | bigint, params: Transform['params'], field: FieldModel, moment: Moment): OScalar | undefined {
  const bytes = typeof value === 'bigint' ? Buffer.from(String(value)) : Buffer.from(value as Uint8Array)
  // Nothing names nobody.
  if (bytes.length === 0 || (value === 0n && !field.presence)) return undefined
  const { rotate, as, subject } = params as { rotate: number | string; as: string; subject: string }
  const epoch = rotate === 'never' ? 'never' : rotate === 'session' ? (moment.session === '' ? undefined : `s:${moment.session}`) : moment.eventMs > 0 ? String(Math.floor(moment.eventMs / (rotate as number))) : undefined
  if (epoch === undefined) return undefined
  const derive = (info: Buffer): Buffer => Buffer.from(hkdfSync('sha256', moment.root, Buffer.from(moment.tenant), info, 32))
  const key = derive(Buffer.from(`parapet/v1|pseudonym|${as}|rnd|${epoch}`))
  const row = subject === 'machine' || subject === 'operator' || subject === 'customer' ? derive(Buffer.concat([Buffer.from(`parapet/v1|filter-row|${as}|`), bytes])) : Buffer.alloc(0)
  const framed = (part: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, part.length >> 8, part.length & 255]), part])
  const made = createHmac('sha256', key).update(framed(row)).update(framed(bytes)).digest().subarray(0, 16)
  if (field.type === 'string') return made.toString('base64url')
  if (field.type === 'bytes') return Uint8Array.from(made)
  const number = made.readBigUInt64LE(0)
  return number === 0n ? 1n : number
}
