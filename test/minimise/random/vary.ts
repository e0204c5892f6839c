/**
 * A second message that differs from a first one only in what an output does not name: other values, other unknown fields, another
 * order. What is not named carries a mark that may never be seen in a result.
 */
import type { Dice } from './dice.ts'
import type { OutputModel } from './rules.ts'
import type { FieldModel, MessageModel } from './schema.ts'
import { insideOf, randomMessage, randomUnknown, unknownNumber, type WireRecord } from './wire.ts'

export const MARK = 'unnamed-51c9'

/** What an output names of a message: a field whole, or parts of it. */
export type Named = Map<string, Named | 'whole'>

/** @param paths more that the output reads: of conditions */
export function namedBy(output: OutputModel, paths: readonly string[], consent: boolean, operatorFields: boolean): Named {
  const named: Named = new Map()
  const isBarred = (field: FieldModel): boolean => !operatorFields && (field.subject === 'operator' || field.subject === 'session')
  for (const rule of output.rules) {
    const chain = rule.kind === 'keyed' ? [] : consent ? rule.yes : rule.no
    if (chain.some((one) => one.name === 'drop')) continue
    if (rule.kind === 'point') for (const path of [rule.point.lat, rule.point.lon]) name(named, path.map((field) => field.name))
    else if (!rule.path.some(isBarred)) name(named, rule.path.map((field) => field.name))
  }
  for (const path of paths) name(named, path.split('.'))
  return named
}

function name(named: Named, path: readonly string[]): void {
  const [first, ...rest] = path as [string, ...string[]]
  const known = named.get(first)
  if (rest.length === 0) named.set(first, 'whole')
  else if (known !== 'whole') {
    const inner: Named = known ?? new Map()
    named.set(first, inner)
    name(inner, rest)
  }
}

export function vary(dice: Dice, model: MessageModel, records: readonly WireRecord[], named: Named | 'whole'): WireRecord[] {
  const of = (field: FieldModel): Named | 'whole' | undefined => (named === 'whole' ? 'whole' : named.get(field.name))
  // Which member of a oneof is set is one piece of knowledge: as long as one of them is named, none is touched.
  const isFixed = (field: FieldModel): boolean => of(field) !== undefined || (field.oneof !== undefined && model.fields.some((other) => other.oneof === field.oneof && of(other) !== undefined))
  const left: WireRecord[] = []
  const blank = model.fields.filter((field) => isBlank(field, of(field), records))
  for (const record of records) {
    const field = model.fields.find((one) => one.number === record.number)
    if (field === undefined || !isFixed(field) || blank.includes(field)) continue
    const inner = insideOf(record)
    const part = of(field)
    // Entries of maps are messages of their own: key and value are named, whatever the value's parts are.
    if (inner === undefined || field.message === undefined || field.label === 'map' || part === undefined) left.push(record)
    else left.push({ ...record, body: vary(dice, field.message, inner, part) })
  }
  for (const field of blank) {
    const body = vary(dice, field.message as MessageModel, [], of(field) as Named)
    if (dice.chance(0.5)) left.push({ number: field.number, wire: field.group ? 3 : 2, body, pad: { tag: 0, value: 0, length: 0 } })
  }
  const others = model.fields.filter((field) => !isFixed(field))
  const fresh = dice.chance(0.2) ? [] : marked(randomMessage(dice, { ...model, fields: others }, { odd: 0, edge: 0.2 }), others)
  const unknown = Array.from({ length: dice.chance(0.5) ? dice.below(4) : 0 }, () => randomUnknown(dice, unknownNumber(dice, model)))
  return interleave(dice, model, [...left, ...fresh, ...unknown])
}

/**
 * A message of which a part is named, and nothing of that part is there: whether the rest of it is, nobody may see. Not so where a field
 * without presence is named: it exists when its message does.
 */
function isBlank(field: FieldModel, part: Named | 'whole' | undefined, records: readonly WireRecord[]): boolean {
  const { message } = field
  if (message === undefined || field.label !== 'singular' || field.oneof !== undefined || part === undefined || part === 'whole') return false
  const named = message.fields.filter((inner) => part.has(inner.name))
  return named.length < message.fields.length && named.every((inner) => (inner.presence || inner.label !== 'singular') && inner.oneof === undefined)
    && records.every((record) => record.number !== field.number || insideOf(record)?.every((inner) => named.every((one) => one.number !== inner.number)) === true)
}

/** Texts and bytes of fields that are not named become the mark. */
function marked(records: readonly WireRecord[], fields: readonly FieldModel[]): WireRecord[] {
  return records.map((record) => {
    const field = fields.find((one) => one.number === record.number)
    return field?.label !== 'map' && (field?.type === 'string' || field?.type === 'bytes') ? { ...record, body: Buffer.from(MARK) } : record
  })
}

/** Another order that means the same: what belongs to one field or one oneof keeps its order. */
function interleave(dice: Dice, model: MessageModel, records: readonly WireRecord[]): WireRecord[] {
  const queues = new Map<string, WireRecord[]>()
  for (const record of records) {
    const field = model.fields.find((one) => one.number === record.number)
    const key = field?.oneof ?? String(record.number)
    queues.set(key, [...(queues.get(key) ?? []), record])
  }
  const mixed: WireRecord[] = []
  while (queues.size > 0) {
    const key = dice.pick([...queues.keys()])
    const queue = queues.get(key) as WireRecord[]
    mixed.push(queue.shift() as WireRecord)
    if (queue.length === 0) queues.delete(key)
  }
  return mixed
}
