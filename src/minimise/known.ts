/**
 * The well-known types of protobuf as values: a Timestamp is a time, a Duration a length of time, a wrapper the number or text it holds.
 * Transforms work on what they stand for; a value that was transformed leaves with its presence, be it the default.
 * Source: google/protobuf/{timestamp,duration,wrappers}.proto.
 */
import type { Transform } from '../domain/policy.ts'
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { specOf, type Apply, type Moment, type Services } from './transforms.ts'
import { emptyTree, type Tree } from './tree.ts'
import { isZero, zeroOf, type Value } from './value.ts'

/** Undefined = cannot be applied: the field, element or map entry is dropped and counted. */
export type ApplyKnown = (from: Tree, moment: Moment) => Tree | undefined

export const TIMESTAMP = 'google.protobuf.Timestamp'
export const DURATION = 'google.protobuf.Duration'
const WRAPPER = /^google\.protobuf\.(?:Double|Float|U?Int(?:32|64)|Bool|String|Bytes)Value$/

/** What transforms on a field work on: values of maps, what is inside a wrapper, else the field. */
export function transformedField(field: FieldShape): FieldShape {
  const value = field.map ? (field.message?.byNumber.get(2) as FieldShape) : field
  const wrapped = value.message === undefined ? undefined : wrappedIn(value.message)
  if (wrapped !== undefined) return { ...wrapped, presence: true, classified: field.classified }
  return value.message === undefined || isTime(value.message) ? value : field
}

/** The messages of a field; those in a map are its values. */
export function messageOf(field: FieldShape): MessageShape | undefined {
  return field.map ? field.message?.byNumber.get(2)?.message : field.message
}

/** Binds a chain to a well-known type. @throws Error for any other message, and for a transform that does not fit */
export function bindKnown(chain: readonly Transform[], field: FieldShape, services: Services): ApplyKnown {
  const message = messageOf(field)
  if (message !== undefined && wrappedIn(message) !== undefined) {
    const inner = transformedField(field)
    return applyWrapped(chain.map((one) => specOf(one).bind(one.params, inner, services)), inner)
  }
  if (message === undefined || !isTime(message)) throw new Error(`${chain[0]?.name} does not fit ${message?.name ?? field.type}`)
  const moves = chain.map((one) => {
    const move = specOf(one).time?.(one.params)
    if (move === undefined) throw new Error(`${one.name} does not fit ${message.name}`)
    return move
  })
  return message.name === TIMESTAMP ? applyTime(moves, readTimestamp, writeTimestamp) : applyTime(moves, readDuration, writeDuration)
}

function isTime(message: MessageShape): boolean {
  return message.name === TIMESTAMP || message.name === DURATION
}

function wrappedIn(message: MessageShape): FieldShape | undefined {
  return WRAPPER.test(message.name) ? message.byNumber.get(1) : undefined
}

function applyWrapped(chain: readonly Apply[], inner: FieldShape): ApplyKnown {
  return (from, moment) => {
    let value: Value | undefined = (from.slots.get(1) as Value | undefined) ?? zeroOf(inner)
    for (const apply of chain) {
      value = apply(value, moment)
      if (value === undefined) return undefined
    }
    const result = emptyTree(from.shape)
    if (!isZero(value)) result.slots.set(1, value)
    return result
  }
}

// ------------------------------------------------------------------------------------------------------------------- times

const SECOND = 1_000_000_000n
/** 10,000 years, which a Duration may not exceed. */
const LONGEST = 315_576_000_000n

interface Parts {
  readonly seconds: bigint
  readonly nanos: bigint
}

function applyTime(moves: readonly ((nanos: bigint) => bigint)[], read: (parts: Parts) => bigint | undefined, write: (nanos: bigint) => Parts | undefined): ApplyKnown {
  return (from) => {
    let total = read({ seconds: (from.slots.get(1) as bigint | undefined) ?? 0n, nanos: BigInt((from.slots.get(2) as number | undefined) ?? 0) })
    if (total === undefined) return undefined
    for (const move of moves) total = move(total)
    const parts = write(total)
    if (parts === undefined) return undefined
    const result = emptyTree(from.shape)
    if (parts.seconds !== 0n) result.slots.set(1, parts.seconds)
    if (parts.nanos !== 0n) result.slots.set(2, Number(parts.nanos))
    return result
  }
}

/** Nanoseconds always count forward. */
function readTimestamp({ seconds, nanos }: Parts): bigint | undefined {
  return nanos >= 0n && nanos < SECOND ? seconds * SECOND + nanos : undefined
}

function writeTimestamp(total: bigint): Parts | undefined {
  const rest = total % SECOND
  const nanos = rest < 0n ? rest + SECOND : rest
  const seconds = (total - nanos) / SECOND
  return BigInt.asIntN(64, seconds) === seconds ? { seconds, nanos } : undefined
}

/** Both parts have one sign. */
function readDuration({ seconds, nanos }: Parts): bigint | undefined {
  const isOne = nanos === 0n || seconds === 0n || seconds > 0n === nanos > 0n
  return isOne && nanos > -SECOND && nanos < SECOND && isDuration(seconds) ? seconds * SECOND + nanos : undefined
}

function writeDuration(total: bigint): Parts | undefined {
  const seconds = total / SECOND
  return isDuration(seconds) ? { seconds, nanos: total % SECOND } : undefined
}

function isDuration(seconds: bigint): boolean {
  return seconds >= -LONGEST && seconds <= LONGEST
}
