/**
 * Learn mode: what terminals send that schemas and rules do not know, by place, type and size, never by value. For a new firmware an
 * engineer sees what has to be added to the schema; until the rules name it, none of it leaves.
 */
import { GatewayError } from '../domain/errors.ts'
import type { StreamId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Ending, Learned, LearnedKind, LearnReport } from '../domain/live.ts'
import type { Stream } from '../domain/policy.ts'
import type { Machine, Publish } from '../domain/ports.ts'
import { classificationOf, type FieldShape, type MessageShape } from '../domain/schema.ts'
import { Verdict } from '../domain/verdict.ts'
import { decodeTree, isTree, pathOf, slotAt, wireTypeOf, type Slot } from '../minimise/tree.ts'
import { Cursor, Malformed, Wire } from '../minimise/wire.ts'
import type { Observer, Observers } from './observer.ts'

export interface LearnerParts {
  readonly clock: { now(): number }
  readonly observers: Observers
  /** All in force. */
  readonly streams: () => readonly Stream[]
  /** Those whose topic this is. */
  readonly streamsAt: (topic: string) => readonly Stream[]
  readonly machine: (id: string) => Machine | undefined
}

export interface LearnRequest {
  /** This stream alone; topics without a stream are then left out. */
  readonly stream: StreamId | undefined
  readonly forMs: number
}

export const LEARNED: Readonly<Record<LearnedKind, string>> = {
  field: 'a field number that the schema does not have',
  wire_type: 'a field in another wire type than the schema',
  enum: 'a number that the enum does not have',
  case: 'a member that no stream names',
  topic: 'a topic that no stream has',
}

/** Starts and ends runs, one at a time, and keeps the report of the newest. */
export class Learner {
  readonly #parts: LearnerParts
  #run: LearningRun | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(parts: LearnerParts) {
    this.#parts = parts
  }

  /** @throws GatewayError LEARNING-ON, LEARN-TIME, UNKNOWN-STREAM */
  start(request: LearnRequest): LearnReport {
    const { observers, streams } = this.#parts
    if (this.#run?.ending === undefined && this.#run !== undefined) throw new GatewayError('LEARNING-ON', 'Learn mode is on already.', 'Look at it with: parapet learn. End it with: parapet learn --stop.')
    if (!(request.forMs >= 1_000 && request.forMs <= LIMITS.learnMs)) throw new GatewayError('LEARN-TIME', 'Learn mode lasts between a second and seven days.', 'Give a time such as 1h.')
    if (request.stream !== undefined && !streams().some(({ id }) => id === request.stream)) throw new GatewayError('UNKNOWN-STREAM', 'The rules have no stream of this name.', 'See: parapet rules list.')
    const run = new LearningRun(this.#parts, request)
    this.#run = run
    observers.add(run)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => observers.end(run, 'over'), request.forMs)
    this.#timer.unref()
    return run.report()
  }

  /** @throws GatewayError LEARNING-OFF */
  stop(): LearnReport {
    const run = this.#run
    if (run === undefined || run.ending !== undefined) throw new GatewayError('LEARNING-OFF', 'Learn mode is not on.', 'Start it with: parapet learn --for 1h.')
    clearTimeout(this.#timer)
    this.#parts.observers.end(run, 'asked')
    return run.report()
  }

  /** Of the newest run, also when it is over; undefined when there was none since the start. */
  report(): LearnReport | undefined {
    return this.#run?.report()
  }
}

/** Of one kind at one place. */
interface Row {
  readonly kind: LearnedKind
  readonly stream: StreamId | undefined
  readonly message: string | undefined
  readonly at: string
  readonly wire: string | undefined
  readonly field: FieldShape | undefined
  readonly number: number | undefined
  smallest: number
  largest: number
  count: number
  readonly machines: Set<string>
  firstMs: number
  lastMs: number
}

type Sight = Pick<Row, 'kind' | 'message' | 'at' | 'wire' | 'field' | 'number' | 'smallest' | 'largest'>

/** In one message, by key. */
type Sights = Map<string, Sight>

class LearningRun implements Observer {
  readonly #parts: LearnerParts
  readonly #request: LearnRequest
  readonly #rows = new Map<string, Row>()
  #sinceMs: number
  #untilMs: number
  #second = 0
  #inSecond = 0
  #read = 0
  #passedOver = 0
  #unreadable = 0
  #cut = 0
  #more = 0
  ending: Ending | undefined

  constructor(parts: LearnerParts, request: LearnRequest) {
    this.#parts = parts
    this.#request = request
    this.#sinceMs = parts.clock.now()
    this.#untilMs = this.#sinceMs + request.forMs
  }

  decided(publish: Publish, stream: Stream): void {
    if (this.#takes(stream.id)) this.#walk(publish, stream)
  }

  refused(publish: Publish, stream: Stream | undefined, code: number): void {
    if (code === Verdict.no_stream.code) {
      if (this.#takes(undefined)) this.#note(publish, undefined, topicSight(publish, this.#parts))
    } else if (code === Verdict.no_case.code) {
      const streams = this.#parts.streamsAt(publish.topic)
      const own = streams.find(({ id }) => id === this.#request.stream) ?? streams[0]
      if (own !== undefined && this.#takes(own.id)) this.#walk(publish, own, caseSights(publish, streams))
    } else if (stream !== undefined && this.#takes(stream.id)) {
      // A message of another type than its stream: all its numbers mean something else, so only what does not fit is told.
      this.#walk(publish, stream, undefined, code === Verdict.wrong_type.code)
    }
  }

  /** What was unknown may be known now, and the other way round. */
  rulesChanged(): void {
    this.#rows.clear()
    this.#more = 0
    this.#sinceMs = this.#parts.clock.now()
  }

  ended(why: Ending): void {
    this.ending = why
    this.#untilMs = Math.min(this.#untilMs, this.#parts.clock.now())
  }

  report(): LearnReport {
    return {
      running: this.ending === undefined, ended: this.ending, stream: this.#request.stream, sinceMs: this.#sinceMs, untilMs: this.#untilMs,
      messages: { read: this.#read, passedOver: this.#passedOver, unreadable: this.#unreadable, cut: this.#cut },
      rows: [...this.#rows.values()].map(learnedOf).sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || compare(a.stream ?? '', b.stream ?? '') || compare(a.at, b.at)),
      more: this.#more,
    }
  }

  /** Whether one more of this stream is looked at; the clock decides as well as the timer, which may be late. */
  #takes(stream: StreamId | undefined): boolean {
    if (this.#request.stream !== undefined && this.#request.stream !== stream) return false
    const now = this.#parts.clock.now()
    if (now >= this.#untilMs) {
      this.#parts.observers.end(this, 'over')
      return false
    }
    const second = Math.floor(now / 1_000)
    if (second !== this.#second) {
      this.#second = second
      this.#inSecond = 0
    }
    if (++this.#inSecond > LIMITS.learnPerSecond) {
      this.#passedOver++
      return false
    }
    return true
  }

  #walk(publish: Publish, stream: Stream, sights: Sights = new Map(), isForeign = false): void {
    const walker = new Walker(publish.payload, sights)
    try {
      walker.walk(stream.message)
    } catch (error) {
      if (!(error instanceof Malformed)) throw error
      // What looked like numbers of fields may have been anything.
      this.#unreadable++
      return
    }
    if (walker.isCut) this.#cut++
    for (const [key, sight] of sights) if (isForeign && (sight.kind !== 'wire_type' || sight.at.includes('.'))) sights.delete(key)
    this.#note(publish, stream.id, sights)
  }

  #note(publish: Publish, stream: StreamId | undefined, sights: Sights): void {
    this.#read++
    const hourMs = Math.floor(publish.receivedAtMs / HOUR_MS) * HOUR_MS
    for (const [key, sight] of sights) {
      const full = `${stream ?? ''} ${key}`
      let row = this.#rows.get(full)
      if (row === undefined) {
        if (this.#rows.size >= LIMITS.learnRows) {
          this.#more++
          continue
        }
        row = { ...sight, stream, count: 0, machines: new Set(), firstMs: hourMs, lastMs: hourMs }
        this.#rows.set(full, row)
      }
      row.count++
      row.smallest = Math.min(row.smallest, sight.smallest)
      row.largest = Math.max(row.largest, sight.largest)
      row.firstMs = Math.min(row.firstMs, hourMs)
      row.lastMs = Math.max(row.lastMs, hourMs)
      if (row.machines.size < LIMITS.learnMachines) row.machines.add(publish.machine)
    }
  }
}

const HOUR_MS = 3_600_000
const KINDS = Object.keys(LEARNED) as LearnedKind[]
const WIRES: Readonly<Record<number, string>> = {
  [Wire.varint]: 'varint', [Wire.fixed64]: '64 bits', [Wire.bytes]: 'length-delimited', [Wire.startGroup]: 'group', [Wire.fixed32]: '32 bits',
}

// ------------------------------------------------------------------------------------------------------------------ walking

/** One pass over the bytes by the schema; keeps no value. */
class Walker {
  /** The message has more fields than are looked at. */
  isCut = false
  readonly #cursor: Cursor
  readonly #sights: Sights
  #fields = 0

  constructor(bytes: Uint8Array, sights: Sights) {
    this.#cursor = new Cursor(bytes, 0, bytes.length)
    this.#sights = sights
  }

  /** @throws Malformed */
  walk(shape: MessageShape, path = '', isPersonal = false, depth = 0, group = 0): void {
    if (depth >= LIMITS.depth) throw new Malformed(Verdict.too_deep.code)
    const cursor = this.#cursor
    while (cursor.at < cursor.end) {
      const tag = cursor.tag()
      if ((tag & 7) === Wire.endGroup) {
        if (group !== 0 && tag >>> 3 === group) return
        throw new Malformed(Verdict.bad_group.code)
      }
      if (++this.#fields > LIMITS.learnFields) {
        // The rest is stepped over, so that a message that is not whole is still noticed.
        this.isCut = true
        cursor.skip(tag, depth)
        continue
      }
      const field = shape.byNumber.get(tag >>> 3)
      if (field === undefined) this.#skipped(tag, depth, 'field', shape, `${path === '' ? '' : `${path}/`}${tag >>> 3}`, undefined)
      else this.#field(field, tag, shape, path === '' ? field.name : `${path}.${field.name}`, isPersonal || classificationOf(field).personal === 'always', depth)
    }
    if (group !== 0) throw new Malformed(Verdict.bad_group.code)
  }

  #field(field: FieldShape, tag: number, shape: MessageShape, path: string, isPersonal: boolean, depth: number): void {
    const cursor = this.#cursor
    const wire = tag & 7
    const isRight = wire === wireTypeOf(field)
    if (isRight && field.message !== undefined) {
      const outer = cursor.end
      if (wire === Wire.bytes) cursor.end = cursor.length()
      this.walk(field.message, path, isPersonal, depth + 1, wire === Wire.bytes ? 0 : field.number)
      cursor.end = outer
    } else if (isRight && field.enum !== undefined) {
      this.#member(field, shape, path, isPersonal)
    } else if (!isRight && wire === Wire.bytes && field.enum !== undefined && field.repeated) {
      const outer = cursor.end
      cursor.end = cursor.length()
      while (cursor.at < cursor.end) this.#member(field, shape, path, isPersonal)
      cursor.end = outer
    } else if (isRight || (wire === Wire.bytes && field.repeated && field.message === undefined && field.type !== 'string' && field.type !== 'bytes')) {
      cursor.skip(tag, depth)
    } else {
      this.#skipped(tag, depth, 'wire_type', shape, path, field)
    }
  }

  #member(field: FieldShape, shape: MessageShape, path: string, isPersonal: boolean): void {
    const from = this.#cursor.at
    const number = this.#cursor.varint32() | 0
    if (field.enum?.names.has(number) === true) return
    // A number that no schema would give to a member may be anything; one of a field that always names a person may name one.
    const shown = isPersonal || number < 0 || number > LIMITS.learnMember ? undefined : number
    this.#sight({ kind: 'enum', message: shape.name, at: `${path} = ${shown ?? 'hidden'}`, wire: 'varint', field, number: shown }, this.#cursor.at - from)
  }

  #skipped(tag: number, depth: number, kind: 'field' | 'wire_type', shape: MessageShape, at: string, field: FieldShape | undefined): void {
    const cursor = this.#cursor
    const from = cursor.at
    cursor.skip(tag, depth)
    // Of what stands behind its length, the length is not counted.
    const size = (tag & 7) === Wire.bytes ? contentSize(cursor.at - from) : cursor.at - from
    this.#sight({ kind, message: shape.name, at, wire: WIRES[tag & 7], field, number: tag >>> 3 }, size)
  }

  #sight(sight: Omit<Sight, 'smallest' | 'largest'>, size: number): void {
    const key = `${sight.kind} ${sight.at} ${sight.wire}`
    const known = this.#sights.get(key)
    if (known !== undefined) this.#sights.set(key, { ...known, smallest: Math.min(known.smallest, size), largest: Math.max(known.largest, size) })
    else if (this.#sights.size < LIMITS.learnPerMessage) this.#sights.set(key, { ...sight, smallest: size, largest: size })
    else this.isCut = true
  }
}

/** Bytes behind a length that is written as short as it can be, of both together. */
function contentSize(bytes: number): number {
  for (let head = 1, limit = 128; ; head++, limit *= 128) if (bytes - head < limit) return bytes - head
}

/** The member that is set where streams ask for others. */
function caseSights({ payload }: Publish, streams: readonly Stream[]): Sights {
  const sights: Sights = new Map()
  for (const [message, own] of Map.groupBy(streams, (stream) => stream.message)) {
    for (const parent of new Set(own.flatMap(({ case: path }) => (path === undefined ? [] : [path.split('.').slice(0, -1).join('.')])))) {
      const named = own.flatMap(({ case: path }) => (path === undefined ? [] : [pathOf(message, path)?.at(-1)]))
      const oneof = named[0]?.oneof
      const holder = parent === '' ? message : pathOf(message, parent)?.at(-1)?.message
      for (const member of setMembers(message, parent, payload)) {
        if (holder === undefined || member.oneof !== oneof || named.includes(member)) continue
        const at = parent === '' ? member.name : `${parent}.${member.name}`
        sights.set(`case ${at}`, { kind: 'case', message: holder.name, at, wire: undefined, field: member, number: undefined, smallest: payload.length, largest: payload.length })
      }
    }
  }
  return sights
}

function setMembers(message: MessageShape, parent: string, payload: Uint8Array): readonly FieldShape[] {
  let holder: Slot | undefined
  try {
    const tree = decodeTree(message, payload)
    holder = parent === '' ? tree : slotAt(tree, pathOf(message, parent) ?? [])
  } catch (error) {
    if (!(error instanceof Malformed)) throw error
  }
  if (!isTree(holder)) return []
  const { slots, shape } = holder
  return shape.fields.filter((field) => field.oneof !== undefined && slots.has(field.number))
}

/** The form of a topic alone: words of the streams' own topics stand as they are, everything else for itself. */
function topicSight({ topic, payload, machine }: Publish, { streams, machine: registered }: LearnerParts): Sights {
  const fleet = registered(machine)?.fleet
  const words = new Set(streams().flatMap(({ id, topic: pattern }) => [id as string, ...pattern.split('/')]))
  const levels = topic.split('/')
  const form = levels.slice(0, LIMITS.learnLevels).map((level) => (
    level === machine || registered(level) !== undefined ? '{machine}' : level === fleet ? '{fleet}' : words.has(level) && !/[{}]/.test(level) ? level : '{word}'
  ))
  const at = [...form, ...(levels.length > form.length ? ['…'] : [])].join('/')
  return new Map([[`topic ${at}`, { kind: 'topic', message: undefined, at, wire: undefined, field: undefined, number: undefined, smallest: payload.length, largest: payload.length }]])
}

// ------------------------------------------------------------------------------------------------------------------ telling

function learnedOf(row: Row): Learned {
  const { kind, stream, message, at, wire, smallest, largest, count, firstMs, lastMs } = row
  return { kind, stream, message, at, wire, smallest, largest, count, machines: row.machines.size, firstMs, lastMs, ...adviceOf(row) }
}

/** What the schema could say of each wire type, the likeliest first. */
const TYPES: Readonly<Record<string, readonly string[]>> = {
  varint: ['uint64', 'int64', 'sint64', 'bool', 'an enum'], '64 bits': ['double', 'fixed64', 'sfixed64'], '32 bits': ['float', 'fixed32', 'sfixed32'],
  'length-delimited': ['bytes', 'string', 'a message', 'a packed list'], group: ['bytes'],
}
const NEVER = 'It never leaves until an output names it.'

function adviceOf({ kind, message, at, wire, field, number }: Row): Pick<Learned, 'proto' | 'rules' | 'next'> {
  switch (kind) {
    case 'field': {
      const [type = 'bytes', ...others] = TYPES[wire ?? ''] ?? []
      const name = `field_${number}`
      return {
        proto: wire === 'group' ? undefined : `${type} ${name} = ${number};`,
        rules: `fields: { "${message}.${name}": { class: additional, personal: always } }`,
        next: `Ask the maker of the terminal what it is. Add it to ${message} in its .proto file${others.length === 0 ? '' : ` (${type}, or ${others.join(', ')})`}, and classify it there or under \`fields:\`. ${NEVER}`,
      }
    }
    case 'wire_type':
      return { proto: undefined, rules: undefined, next: `The schema has ${message}.${field?.name} as ${field?.type}: another firmware, or another message on this stream's topic. Compare its .proto file with the maker's.` }
    case 'enum':
      return {
        proto: number === undefined ? undefined : `${(field?.enum?.name ?? 'MEMBER').split('.').at(-1)?.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()}_${number} = ${number};`,
        rules: undefined,
        next: number === undefined
          ? `The number is not shown, since it may tell of a person or is none that a schema would have. Compare the enum ${field?.enum?.name} with the maker's. ${NEVER}`
          : `Add a member to the enum ${field?.enum?.name}. Where a rule keeps the field, the number leaves already if the enum is open; \`map\` with \`else\` says what an unknown one becomes.`,
      }
    case 'case':
      return { proto: undefined, rules: undefined, next: `Write a stream with \`case: ${at}\` and name it in the outputs that may have it. ${NEVER}` }
    default:
      return { proto: undefined, rules: undefined, next: `Write a stream with this topic and its message. {word} stands for a level that may be anything, so it is not shown: the maker of the terminal knows it. ${NEVER}` }
  }
}

function compare(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0
}
