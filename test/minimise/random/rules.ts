/**
 * Random rules over a random schema: as a model that the oracle reads, and as the checked policy that the product reads.
 * Settings are in wire units, as the rules file's reader would hand them over, and fit their fields as rules-language 5 has it.
 */
import type { Branch, Condition, FieldRule, Output, OutputStream, Point, Transform, Zone } from '../../../src/domain/policy.ts'
import type { FieldShape, MessageShape } from '../../../src/domain/schema.ts'
import type { OutputId } from '../../../src/domain/ids.ts'
import { parseCondition } from '../../../src/minimise/condition.ts'
import { outputOf, streamOf } from '../fixture.ts'
import { randomCondition, type ConditionModel } from './condition.ts'
import type { Dice } from './dice.ts'
import { TIMESTAMP, type FieldModel, type MessageModel, type SchemaModel } from './schema.ts'

export type Chain = readonly Transform[]

export interface KeyedModel {
  readonly by: FieldModel
  readonly pgn: boolean
  readonly with: ReadonlyMap<string, Chain>
  readonly only: ReadonlyMap<number, ReadonlyMap<string, Chain>>
}

export interface PointModel {
  readonly name: string
  readonly lat: readonly FieldModel[]
  readonly lon: readonly FieldModel[]
  readonly scale: number
  readonly valid: ConditionModel | undefined
}

/** One entry of `fields:`. */
export type RuleModel =
  | { readonly kind: 'field'; readonly path: readonly FieldModel[]; readonly yes: Chain; readonly no: Chain }
  | { readonly kind: 'keyed'; readonly path: readonly FieldModel[]; readonly keyed: KeyedModel }
  | { readonly kind: 'point'; readonly point: PointModel; readonly yes: Chain; readonly no: Chain }

export interface OutputModel {
  readonly root: MessageModel
  readonly rules: readonly RuleModel[]
  readonly when: ConditionModel | undefined
  readonly require: readonly string[]
  /** Topic template: texts, and names of top-level fields. */
  readonly topic: string
  readonly machineField: string | undefined
  readonly timeField: string | undefined
}

const KEEP: Chain = [{ name: 'keep', params: {} }]
const DROP: Chain = [{ name: 'drop', params: {} }]

export function randomOutput(dice: Dice, schema: SchemaModel): OutputModel {
  const { root } = schema
  const point = dice.chance(0.35) ? randomPoint(dice, root) : undefined
  const parts = new Set(point === undefined ? [] : [point.lat.at(-1), point.lon.at(-1)])
  const rules: RuleModel[] = []
  if (point !== undefined) {
    const chain = (): Chain => dice.pick([KEEP, KEEP, DROP, grid(dice), grid(dice), hide(dice), [...hide(dice), ...grid(dice)]])
    const yes = chain()
    rules.push({ kind: 'point', point, yes, no: dice.chance(0.5) ? yes : chain() })
  }
  addRules(dice, root, [], rules, parts, dice.chance(0.2) ? 1 : dice.pick([0.3, 0.7]))
  const named = rules.flatMap((rule) => (rule.kind === 'field' && isPlainPath(rule.path) && (rule.path.length === 1 || dice.chance(0.3)) ? [pathText(rule.path)] : []))
  // Machine and time may lie in a message that is kept whole, or not be named at all.
  const plain = plainPaths(root, []).map(pathText)
  const inTopic = named.length > 0 && dice.chance(0.3) ? `/{${dice.pick(named)}}` : ''
  const paths = rules.map((rule) => (rule.kind === 'point' ? rule.point.name : pathText(rule.path)))
  return {
    root, rules,
    when: dice.chance(0.25) ? randomCondition(dice, root) : undefined,
    require: dice.chance(0.25) && paths.length > 0 ? [dice.pick(paths.filter((path) => !path.includes('.') || dice.chance(0.3)).concat(paths[0] as string))] : [],
    topic: `out/{stream}${inTopic}${dice.chance(0.1) ? '/x' : ''}`,
    machineField: dice.chance(0.3) && plain.length > 0 ? dice.pick(plain) : undefined,
    timeField: dice.chance(0.3) && plain.length > 0 ? dice.pick(plain) : undefined,
  }
}

export function pathText(path: readonly FieldModel[]): string {
  return path.map((field) => field.name).join('.')
}

/** Single values in single messages; a time of protobuf's own is one. */
function isPlainPath(path: readonly FieldModel[]): boolean {
  const leaf = path.at(-1) as FieldModel
  return path.every((field) => field.label === 'singular') && leaf.type !== 'message'
}

function plainPaths(message: MessageModel, above: readonly FieldModel[]): (readonly FieldModel[])[] {
  return message.fields.flatMap((field) => {
    const path = [...above, field]
    if (field.label !== 'singular') return []
    if (field.message === undefined || field.message.name === TIMESTAMP.name) return [path]
    return path.length < 3 && !field.message.known ? plainPaths(field.message, path) : []
  })
}

/** What is in a wrapper: a value that is there when the wrapper is. */
export function wrapped(field: FieldModel): FieldModel | undefined {
  const inner = field.message?.known === true && field.message.name.endsWith('Value') ? field.message.fields[0] : undefined
  return inner === undefined ? undefined : { ...inner, name: field.name, presence: true, subject: field.subject }
}

function addRules(dice: Dice, message: MessageModel, above: readonly FieldModel[], into: RuleModel[], parts: ReadonlySet<unknown>, density: number): void {
  for (const field of message.fields) {
    if (parts.has(field) || !dice.chance(density)) continue
    const path = [...above, field]
    const inner = field.message
    if (inner === undefined || inner.known) {
      const yes = randomChain(dice, field)
      into.push({ kind: 'field', path, yes, no: dice.chance(0.6) ? yes : randomChain(dice, field) })
      continue
    }
    // Keys are whole numbers of 32 bits.
    const numeric = inner.fields.filter((one) => one.label === 'singular' && ((isWhole(one) && !isWide(one)) || one.type === 'enum'))
    if (field.label === 'repeated' && numeric.length > 0 && dice.chance(0.35)) into.push({ kind: 'keyed', path, keyed: randomKeyed(dice, inner, numeric) })
    else if (above.length < 3 && (holds(inner, parts) || dice.chance(0.6))) addRules(dice, inner, path, into, parts, 0.5)
    else into.push({ kind: 'field', path, yes: dice.chance(0.9) ? KEEP : DROP, no: dice.chance(0.8) ? KEEP : DROP })
  }
}

/** Parts of a point are reached through it only, so what holds them is never kept whole. */
function holds(message: MessageModel, parts: ReadonlySet<unknown>, depth = 0): boolean {
  return parts.size > 0 && depth < 5 && message.fields.some((field) => parts.has(field) || (field.message !== undefined && holds(field.message, parts, depth + 1)))
}

function isWhole(field: FieldModel): boolean {
  return /int|fixed/.test(field.type)
}

function isWide(field: FieldModel): boolean {
  return field.type.endsWith('64')
}

function grid(dice: Dice): Chain {
  return [{ name: 'grid', params: { size: dice.pick([5, 100, 500, 10_000, 100_000]), sticky: dice.chance(0.3) } }]
}

/** Zones where the random positions lie: most are near the point of no latitude and longitude. */
function hide(dice: Dice): Chain {
  const zone: Zone = dice.chance(0.5)
    ? { kind: 'circle', lat: dice.pick([0, 40, -35]), lon: dice.pick([0, 40, -35]), radiusM: dice.pick([100, 500_000, 1_000_000]) }
    : { kind: 'polygon', corners: dice.pick([[[0, 0], [0, 45], [45, 45], [45, 0]], [[-10, -10], [10, 0], [-10, 10]], [[30, 30], [50, 30], [30, 50], [50, 50]]]) }
  return [{ name: 'hide_in', params: { names: ['zone'], zones: [zone] } }]
}

function randomPoint(dice: Dice, root: MessageModel): PointModel | undefined {
  const inner = root.fields.filter((field) => field.message !== undefined && !field.message.known && field.label === 'singular')
  const above = inner.length > 0 && dice.chance(0.3) ? [dice.pick(inner)] : []
  const owner = above[0]?.message ?? root
  const fit = owner.fields.filter((field) => field.label === 'singular' && field.oneof === undefined && field.subject === 'none' && !field.time && field.initial === undefined && /^(s?int|sfixed|double|float)/.test(field.type))
  const [lat, lon] = dice.shuffle(fit)
  if (lat === undefined || lon === undefined || (lat.type === 'double' || lat.type === 'float') !== (lon.type === 'double' || lon.type === 'float')) return undefined
  const scale = lat.type === 'double' || lat.type === 'float' ? 1 : dice.pick([1e-7, 1e-7, 1e-6, 1e-5])
  return { name: 'position', lat: [...above, lat], lon: [...above, lon], scale, valid: dice.chance(0.25) ? randomCondition(dice, root) : undefined }
}

function randomKeyed(dice: Dice, inner: MessageModel, numeric: readonly FieldModel[]): KeyedModel {
  const by = dice.pick(numeric)
  const pgn = isWhole(by) && dice.chance(0.3)
  const members = (share: number): Map<string, Chain> =>
    new Map(inner.fields.filter(() => dice.chance(share)).map((field) => [field.name, field.message === undefined || field.message.known ? randomChain(dice, field) : KEEP] as const))
  const keys = pgn ? [0, 61_444, 65_253, 256] : by.type === 'enum' ? (by.enum?.members ?? []).map(([, number]) => number) : [0, 1, 2, 3, 7, 50]
  return { by, pgn, with: members(0.4), only: new Map(dice.shuffle(keys).slice(0, 1 + dice.below(4)).map((key) => [key, members(0.3)] as const)) }
}

/** A chain that fits the field. */
export function randomChain(dice: Dice, field: FieldModel): Chain {
  if (dice.chance(0.35)) return KEEP
  if (dice.chance(0.06)) return DROP
  const one = randomTransform(dice, field)
  if (one === undefined) return KEEP
  if (dice.chance(0.15)) return [one, randomTransform(dice, field) ?? one]
  return dice.chance(0.1) ? [...KEEP, one] : [one]
}

function randomTransform(dice: Dice, field: FieldModel): Transform | undefined {
  const make = (name: string, params: Record<string, unknown>): Transform => ({ name, params })
  const inner = wrapped(field)
  if (inner !== undefined) return randomTransform(dice, inner)
  if (field.message !== undefined) {
    const time = make('round_time', { ms: dice.pick([900_000, 7]), wire: 900_000 })
    if (field.message.name === TIMESTAMP.name) return time
    return field.message.name === 'google.protobuf.Duration' ? dice.pick([time, make('round', { step: dice.pick([0.5, 60, 1.5, 900]) })]) : undefined
  }
  const pseudonym = (): Transform => {
    const as = field.subject === 'none' ? field.name : field.subject
    // A row is found by text; what bytes are as text is not said.
    return make('pseudonym', { rotate: dice.pick(['never', 86_400_000, 604_800_000, 'session']), as, subject: field.type === 'bytes' ? 'none' : field.subject })
  }
  switch (field.type) {
    case 'double': case 'float':
      return dice.pick([
        make('round', { step: dice.pick([0.5, 0.1, 3, 2.5, 0.001, 1000, 0.3]) }), make('clamp', { lo: dice.pick([-5, 0, -0.5]), hi: dice.pick([5, 100.5, 1e9]) }),
        make('bucket', { bounds: [-10, 0, 10.5, 1000] }), make('constant', { value: dice.pick([0, 1.5, -0.25]) }), make('round_time', { ms: 60_000, wire: 60 }),
      ])
    case 'bool': return dice.pick([make('constant', { value: dice.chance(0.5) }), make('map', { table: new Map([[true, false]]), else: dice.chance(0.5) ? true : undefined })])
    case 'enum': {
      const numbers = (field.enum?.members ?? []).map(([, number]) => number)
      return dice.pick([make('constant', { value: dice.pick(numbers) }), make('map', { table: new Map(dice.shuffle(numbers).slice(0, 2).map((number) => [number, dice.pick(numbers)] as const)), else: dice.chance(0.5) ? dice.pick(numbers) : undefined })])
    }
    case 'string':
      return dice.pick([
        make('truncate', { length: dice.below(5) }), make('mask', { first: dice.below(3), last: dice.below(3), with: dice.pick(['*', 'x', '😀']) }), make('constant', { value: dice.pick(['', 'same', 'ü']) }),
        make('map', { table: new Map([['a', 'b'], ['P7', '']]), else: dice.chance(0.5) ? 'other' : undefined }), pseudonym(), pseudonym(),
        ...(field.subject === 'machine' || field.subject === 'operator' ? [make('encrypt', { subject: field.subject, as: field.subject })] : []),
      ])
    case 'bytes': return dice.pick([make('truncate', { length: dice.below(5) }), make('keep_bytes', { from: dice.below(3), to: 3 + dice.below(4) }), make('mask', { first: 1, last: dice.below(2), with: '*' }), pseudonym()])
    default: {
      const wide = isWide(field)
      const unsigned = /^(uint|fixed)/.test(field.type)
      const value = (number: number): number | bigint => (wide ? BigInt(number) : number)
      const low = unsigned ? 0 : dice.pick([-100, 0, -2_000_000])
      return dice.pick([
        make('round', { step: dice.pick([1, 5, 7, 50, 1000, 2_147_483_647]) }), make('clamp', { lo: low, hi: dice.pick([low, 100, 900_000]) }), make('bucket', { bounds: unsigned ? [0, 10, 500, 100_000] : [-500, 0, 10, 100_000] }),
        make('constant', { value: unsigned ? dice.pick([0, 7]) : dice.pick([0, -7]) }), make('flags', { mask: BigInt.asUintN(wide ? 64 : 32, dice.pick([0b1011n, 1n << 31n, 1n << 63n, 0n, -1n])) }),
        make('round_time', { ms: 900_000, wire: dice.pick([900, 900_000]) }), make('map', { table: new Map([[value(1), value(2)], [value(0), value(9)]]), else: dice.chance(0.5) ? value(3) : undefined }),
        ...(field.type === 'uint64' || field.type === 'fixed64' ? [pseudonym(), pseudonym()] : []),
      ])
    }
  }
}

// --------------------------------------------------------------------------------------------------------- for the product

export interface Checked {
  readonly output: Output
  readonly source: OutputStream
}

/** The same as the rules file's reader would hand it over. */
export function checkedOutput(model: OutputModel, shape: MessageShape): Checked {
  const points: Point[] = []
  const fields = model.rules.map((rule): FieldRule => {
    if (rule.kind === 'point') {
      const { point } = rule
      const made: Point = {
        name: point.name, kind: 'plain', lat: pathText(point.lat), lon: pathText(point.lon), dlat: undefined, dlon: undefined, dt: undefined,
        scale: point.scale, valid: point.valid === undefined ? undefined : parse(point.valid, shape),
      }
      points.push(made)
      return { path: point.name, target: { kind: 'point', point: made }, ...branches({ kind: 'chain', chain: rule.yes }, { kind: 'chain', chain: rule.no }) }
    }
    const target = { kind: 'field', fields: shapesAlong(shape, rule.path) } as const
    if (rule.kind === 'field') return { path: pathText(rule.path), target, ...branches({ kind: 'chain', chain: rule.yes }, { kind: 'chain', chain: rule.no }) }
    const keyed: Branch = { kind: 'keyed', keyed: { by: { member: rule.keyed.by.name, fn: rule.keyed.pgn ? 'j1939_pgn' : 'none' }, with: rule.keyed.with, only: rule.keyed.only } }
    return { path: pathText(rule.path), target, ...branches(keyed, keyed) }
  })
  const plain = streamOf(shape, fields, { when: model.when === undefined ? undefined : parse(model.when, shape), require: model.require })
  const time = model.timeField === undefined ? undefined : ({ field: model.timeField, unit: 'ms' } as const)
  const source: OutputStream = { ...plain, stream: { ...plain.stream, points, machineField: model.machineField, time } }
  return { output: outputOf(model.topic, [source], { id: 'rnd' as OutputId }), source }
}

function branches(consent: Branch, noConsent: Branch): { consent: Branch; noConsent: Branch; pair: boolean; line: number } {
  return { consent, noConsent, pair: consent !== noConsent, line: 1 }
}

export function shapesAlong(shape: MessageShape, path: readonly FieldModel[]): FieldShape[] {
  let here: MessageShape | undefined = shape
  return path.map((model) => {
    const field: FieldShape | undefined = here?.byName.get(model.name)
    if (field === undefined) throw new Error(`the product's schema has no ${pathText(path)}`)
    here = field.map ? field.message?.byNumber.get(2)?.message : field.message
    return field
  })
}

function parse(condition: ConditionModel, shape: MessageShape): Condition {
  const parsed = parseCondition(condition.text, { msg: shape, points: [], machine: true, country: true })
  if ('problem' in parsed) throw new Error(`${condition.text}: ${parsed.problem}`)
  return parsed.condition
}
