/**
 * One trial: a plan, a message, and three readings of them held against each other. A difference is reduced to the smallest case
 * that still shows it and told with everything that is needed to repeat it.
 */
import { isRefusal, verdictName } from '../../../src/domain/verdict.ts'
import { compilePlan, type Minimiser } from '../../../src/minimise/compile.ts'
import { schemasFromText } from '../../../src/minimise/descriptor.ts'
import { createContext } from '../../../src/minimise/interpret.ts'
import { planFor } from '../../../src/minimise/plan.ts'
import { derivedRows, type PseudonymKeys } from '../../../src/minimise/pseudonym.ts'
import { verify } from '../../../src/minimise/verify.ts'
import type { MessageShape } from '../../../src/domain/schema.ts'
import { ENGINE } from '../../engine.ts'
import { createDice, type Dice } from './dice.ts'
import { createOracle, type Expected, type Moment, type Oracle } from './oracle.ts'
import { checkedOutput, pathText, randomOutput, type OutputModel } from './rules.ts'
import { fieldText, protoText, randomSchema, type FieldModel, type SchemaModel } from './schema.ts'
import { corrupt, insideOf, randomMessage, toBytes, type WireRecord } from './wire.ts'

const root = Buffer.from('2d9a4c7be1f0586339a7d4c2b8e61f05a4d3c2b1e0f9887766554433221100ff', 'hex')
export const keys: PseudonymKeys = { root, tenant: 'ténant', rows: derivedRows(root, 'ténant') }

export interface Case {
  readonly schema: SchemaModel
  readonly output: OutputModel
  readonly shape: MessageShape
  readonly oracle: Oracle
  readonly moment: Moment
}

export interface Outcome {
  readonly kind: Expected['kind']
  readonly reason: string
  readonly hex: string
  readonly topic: string
  readonly failures: number
}

/** A random schema, as the product and as the oracle read it. */
export type Ground = Pick<Case, 'schema' | 'shape' | 'oracle'>

export function randomGround(dice: Dice): Ground {
  const schema = randomSchema(dice, dice.chance(0.5))
  const schemas = schemasFromText({ 'rnd.proto': protoText(schema) })
  if (schemas.problems.length > 0) throw new Error(`${schemas.problems.join(' ')}\n${protoText(schema)}`)
  return { schema, shape: schemas.message(schema.root.name) as MessageShape, oracle: createOracle(schema) }
}

/** Outputs of one schema, and messages for each. */
export const OUTPUTS = 3
export const MESSAGES = 12

export interface Tally {
  sent: number
  withheld: number
  refused: number
  generated: number
  all: number
}

/** All trials of one seed. Throws on the first difference. */
export function tryOut(seed: number, tally: Tally): void {
  const dice = createDice(seed)
  const ground = randomGround(dice)
  for (let at = 0; at < OUTPUTS; at++) {
    const one: Case = { ...ground, output: randomOutput(dice, ground.schema), moment: randomMoment(dice) }
    const { schema } = one
    const engines = compile(one)
    for (let index = 0; index < MESSAGES; index++) {
      tally[compare(one, engines, messageFor(dice, schema))]++
      tally.all++
      if (engines.generated.text !== undefined) tally.generated++
    }
  }
}

export function randomMoment(dice: Dice): Moment {
  return {
    eventMs: dice.pick([1_763_888_864_000, 1_763_888_864_000 + dice.below(1e9), Number.NaN]), session: dice.pick(['', '00112233445566778899aabbccddeeff']), root, tenant: keys.tenant,
    consent: dice.chance(0.5), operatorFields: dice.chance(0.5), legal: dice.chance(0.5),
    labels: dice.pick([{}, { site: 'test' }, { site: 'north' }]), fleet: dice.pick(['north', 'south']), country: dice.pick(['', 'DE', 'US']),
  }
}

export interface Message {
  readonly records: readonly WireRecord[]
  /** Bytes that no records make any more. */
  readonly broken: Uint8Array | undefined
}

/** Four in ten canonical, four oddly put, two broken. */
export function messageFor(dice: Dice, schema: SchemaModel): Message {
  const odd = dice.chance(0.4) ? 0 : dice.pick([0.03, 0.1, 0.3])
  const records = randomMessage(dice, schema.root, { odd, edge: dice.pick([0, 0.1, 0.5]) })
  return { records, broken: dice.chance(0.2) ? corrupt(dice, toBytes(records)) : undefined }
}

export interface Engines {
  readonly generated: Minimiser
  readonly interpreted: Minimiser
}

export function compile({ output, shape, moment }: Case): Engines {
  const { output: checked, source } = checkedOutput(output, shape)
  const plan = planFor(checked, source, { consent: moment.consent, operatorFields: moment.operatorFields })
  return { generated: compilePlan(plan, { keys, engine: ENGINE }), interpreted: compilePlan(plan, { keys, engine: 'interpreted' }) }
}

/** Holds the three against each other; a difference is told as the smallest case that shows it. */
function compare(one: Case, engines: Engines, message: Message): Expected['kind'] {
  const bytes = message.broken ?? toBytes(message.records)
  if (difference(one, engines, bytes) !== undefined) {
    const [least, left] = reduce(one, message)
    throw new Error(`${difference(least, compile(least), left)}\n${describeCase(least, left)}`)
  }
  return one.oracle.expect(one.output, bytes, one.moment).kind
}

/** Takes away rules, conditions, records and bytes as long as the three still differ. */
function reduce(one: Case, message: Message): [Case, Uint8Array] {
  const differs = (output: OutputModel, bytes: Uint8Array): boolean => {
    const smaller = { ...one, output }
    return difference(smaller, compile(smaller), bytes) !== undefined
  }
  let { output } = one
  let bytes = message.broken ?? toBytes(message.records)
  let { records } = message
  const isWhole = message.broken === undefined
  for (let again = true; again;) {
    again = false
    const outputs: OutputModel[] = [
      ...(output.when === undefined ? [] : [{ ...output, when: undefined }]), ...(output.require.length === 0 ? [] : [{ ...output, require: [] }]), ...(output.topic === 'out' ? [] : [{ ...output, topic: 'out' }]),
      ...output.rules.map((rule) => ({ ...output, rules: output.rules.filter((other) => other !== rule) })),
    ]
    const fewer = outputs.find((smaller) => differs(smaller, bytes))
    if (fewer !== undefined) {
      output = fewer
      again = true
    }
    const messages = isWhole ? less(records) : []
    const shorter = messages.find((smaller) => differs(output, toBytes(smaller)))
    if (shorter !== undefined) {
      records = shorter
      bytes = toBytes(records)
      again = true
    }
    if (isWhole) continue
    const cut = Array.from(bytes, (_byte, at) => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])).find((smaller) => differs(output, smaller))
    if (cut !== undefined) {
      bytes = cut
      again = true
    }
  }
  return [{ ...one, output }, bytes]
}

/** Every way of leaving one record out, at any level. */
function less(records: readonly WireRecord[]): WireRecord[][] {
  return records.flatMap((record, at) => [
    records.toSpliced(at, 1),
    ...less(insideOf(record) ?? []).map((body) => records.with(at, { ...record, body })),
  ])
}

function difference(one: Case, engines: Engines, bytes: Uint8Array): string | undefined {
  const fast = run(engines.generated, bytes, one.moment)
  const slow = run(engines.interpreted, bytes, one.moment)
  if (JSON.stringify(fast) !== JSON.stringify(slow)) return `generated ${JSON.stringify(fast)}\nbut interpreted ${JSON.stringify(slow)}`
  const wanted = one.oracle.expect(one.output, bytes, one.moment)
  if (wanted.kind === 'refused' && wanted.unsettled) return undefined
  if (slow.kind !== wanted.kind) return `the engines say ${slow.kind} (${slow.reason}) where the oracle says ${JSON.stringify(wanted)}`
  if (wanted.kind === 'withheld' && !wanted.reasons.includes(slow.reason)) return `withheld for ${slow.reason}, which is none of ${wanted.reasons.join(', ')}`
  if (wanted.kind !== 'sent') return undefined
  const hex = Buffer.from(wanted.bytes).toString('hex')
  if (slow.hex !== hex) return `sent ${slow.hex}\n not ${hex}`
  if (slow.topic !== wanted.topic) return `sent to ${slow.topic}, not ${wanted.topic}`
  if (slow.failures !== wanted.failures) return `counted ${slow.failures} failed transforms, not ${wanted.failures}`
  const found = verify(engines.interpreted.plan, wanted.bytes)
  return found === undefined ? undefined : `the verifier objects to a right result: ${found}`
}

export function run(minimiser: Minimiser, bytes: Uint8Array, moment: Moment): Outcome {
  const cx = createContext()
  cx.message = 1
  cx.eventMs = moment.eventMs
  cx.session = moment.session
  cx.legal = moment.legal
  cx.scope = { labels: moment.labels, fleet: moment.fleet, model: 'S10', country: moment.country }
  // As the pipeline does it: results lie behind the message, which ends with a zero.
  const scratch = Buffer.alloc(32_768, 0xee)
  scratch.set(bytes)
  scratch[bytes.length] = 0
  const from = bytes.length + 1
  const end = minimiser.run(scratch, 0, bytes.length, scratch, from, cx)
  if (end < 0) return { kind: isRefusal(end) ? 'refused' : 'withheld', reason: verdictName(end), hex: '', topic: '', failures: 0 }
  return { kind: 'sent', reason: '', hex: scratch.subarray(from, end).toString('hex'), topic: cx.topic, failures: cx.failures }
}

export function describeCase({ schema, output, moment }: Case, bytes: Uint8Array): string {
  const chain = (steps: readonly { name: string; params: object }[]): string => steps.map((step) => `${step.name}${JSON.stringify(step.params, readable)}`).join(' ')
  const typed = (path: readonly FieldModel[]): string => `${pathText(path)} (${path.map((field) => fieldText(field)).join(' / ')})`
  const rules = output.rules.map((rule) => {
    if (rule.kind === 'field') return `${typed(rule.path)}: ${chain(moment.consent ? rule.yes : rule.no)}`
    if (rule.kind === 'point') return `point ${typed(rule.point.lat)}, ${typed(rule.point.lon)} scale ${rule.point.scale} valid ${rule.point.valid?.text ?? 'always'}: ${chain(moment.consent ? rule.yes : rule.no)}`
    return `${typed(rule.path)}: by ${rule.keyed.by.name}${rule.keyed.pgn ? ' (pgn)' : ''} with ${JSON.stringify([...rule.keyed.with], readable)} only ${JSON.stringify([...rule.keyed.only].map(([key, own]) => [key, [...own]]), readable)}`
  })
  const { consent, operatorFields, legal, eventMs } = moment
  return [
    ...rules, `when ${output.when?.text ?? 'always'}; require ${output.require.join(', ') || '-'}; topic ${output.topic}; machine ${output.machineField ?? '-'}; time ${output.timeField ?? '-'}`,
    JSON.stringify({ consent, operatorFields, legal, eventMs }), `message ${Buffer.from(bytes).toString('hex')}`, '', protoText(schema),
  ].join('\n')
}

function readable(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value instanceof Map ? [...value] : value
}
