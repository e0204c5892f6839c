/**
 * Random conditions with their meaning beside them, as the CEL specification gives it: 64-bit integers, division by zero an error,
 * `&&` and `||` that an error does not decide when the other side does.
 * Source: cel-spec, "Language definition".
 */
import type { Dice } from './dice.ts'
import type { OMessage, OValue } from './oracle.ts'
import type { FieldModel, MessageModel } from './schema.ts'

export interface Surroundings {
  readonly labels: Readonly<Record<string, string>>
  readonly fleet: string
  readonly country: string
}

export interface ConditionModel {
  readonly text: string
  /** Undefined is an evaluation error. */
  readonly holds: (message: OMessage, around: Surroundings) => boolean | undefined
}

export function randomCondition(dice: Dice, root: MessageModel, depth = 0): ConditionModel {
  const kind = dice.below(depth > 2 ? 3 : 6)
  if (kind < 3) return atom(dice, root)
  const left = randomCondition(dice, root, depth + 1)
  if (kind === 3) return { text: `!(${left.text})`, holds: (message, around) => negate(left.holds(message, around)) }
  const right = randomCondition(dice, root, depth + 1)
  // What decides alone: false for `&&`, true for `||`.
  const decisive = kind === 5
  return {
    text: `(${left.text} ${decisive ? '||' : '&&'} ${right.text})`,
    holds(message, around) {
      const both = [left.holds(message, around), right.holds(message, around)]
      return both.includes(decisive) ? decisive : both.includes(undefined) ? undefined : !decisive
    },
  }
}

function negate(value: boolean | undefined): boolean | undefined {
  return value === undefined ? undefined : !value
}

function atom(dice: Dice, root: MessageModel): ConditionModel {
  if (dice.chance(0.12)) {
    return dice.pick<ConditionModel>([
      { text: "machine.label.site != 'test'", holds: (_message, around) => around.labels.site !== 'test' },
      { text: "machine.label.absent == ''", holds: () => true },
      { text: "country in ['DE', 'FR']", holds: (_message, around) => around.country === 'DE' || around.country === 'FR' },
      { text: "machine.fleet.startsWith('nor')", holds: (_message, around) => around.fleet.startsWith('nor') },
    ])
  }
  const nested = root.fields.filter((field) => field.label === 'singular' && field.message !== undefined && !field.message.known && field.message.fields.length > 0)
  const above = nested.length > 0 && dice.chance(0.25) ? dice.pick(nested) : undefined
  const field = dice.pick((above?.message ?? root).fields)
  const name = `msg.${above === undefined ? '' : `${above.name}.`}${field.name}`
  const owner = (message: OMessage): OMessage | undefined => (above === undefined ? message : (message.get(above.number) as OMessage | undefined))
  if (field.label === 'map') return { text: 'true', holds: () => true }
  const has: ConditionModel = { text: `has(${name})`, holds: (message) => isPresent(owner(message)?.get(field.number), field) }
  if (field.type === 'message' || dice.chance(0.1)) return has
  if (field.label === 'repeated') return listAtom(dice, field, name, owner)
  const read = (message: OMessage): OValue => owner(message)?.get(field.number) ?? zero(field)
  const test = (text: string, holds: (value: never) => boolean | undefined): ConditionModel => ({ text: text.replaceAll('$', name), holds: (message) => holds(read(message) as never) })
  switch (field.type) {
    case 'bool': return dice.pick([test('$', (value: boolean) => value), test('$ == false', (value: boolean) => !value)])
    case 'bytes': return test('size($) > 3', (value: Uint8Array) => value.length > 3)
    case 'string': return dice.pick([test("$ == 'a'", (value: string) => value === 'a'), test("$.startsWith('SN')", (value: string) => value.startsWith('SN')), test("$ in ['P7', '']", (value: string) => value === 'P7' || value === ''), test('size($) < 2', (value: string) => [...value].length < 2)])
    case 'enum': {
      const [member, number] = dice.pick(field.enum?.members ?? [])
      return dice.pick([test(`$ == ${member}`, (value: number) => value === number), test(`$ in [${member}]`, (value: number) => value === number), test('$ > 1', (value: number) => value > 1)])
    }
    case 'double': case 'float': return dice.pick([test('$ > 1.5', (value: number) => value > 1.5), test('$ == 0.5', (value: number) => value === 0.5), test('!($ <= -3.0)', (value: number) => !(value <= -3)), test('$ != $', (value: number) => Number.isNaN(value))])
    default: {
      const limit = dice.pick([0, 1, 5, 100, 300_000_000, -1])
      const bit = dice.pick([0, 1, 7, 30, 31, 32, 63])
      return dice.pick([
        test(`$ > ${limit}`, (value: number | bigint) => value > limit), test(`$ <= ${limit}`, (value: number | bigint) => value <= limit), test(`$ == ${limit}`, (value: number | bigint) => BigInt(value) === BigInt(limit)),
        test(`$ in [0, ${limit}]`, (value: number | bigint) => [0n, BigInt(limit)].includes(BigInt(value))), test(`bit($, ${bit})`, (value: number | bigint) => ((BigInt(value) >> BigInt(bit)) & 1n) === 1n),
        test('100 / $ >= 1', (value: number | bigint) => (BigInt(value) === 0n ? undefined : 100n / BigInt(value) >= 1n)),
        test('$ % 3 == 0', (value: number | bigint) => BigInt(value) % 3n === 0n),
        test('$ * 4 > 10', (value: number | bigint) => (BigInt.asIntN(64, BigInt(value) * 4n) === BigInt(value) * 4n ? BigInt(value) * 4n > 10n : undefined)),
      ])
    }
  }
}

function listAtom(dice: Dice, field: FieldModel, name: string, owner: (message: OMessage) => OMessage | undefined): ConditionModel {
  const list = (message: OMessage): readonly OValue[] => (owner(message)?.get(field.number) as readonly OValue[] | undefined) ?? []
  if (/int|fixed/.test(field.type) && dice.chance(0.6)) {
    return dice.chance(0.5)
      ? { text: `${name}.exists(x, x > 10)`, holds: (message) => list(message).some((value) => (value as number | bigint) > 10) }
      : { text: `${name}.all(x, x < 1000)`, holds: (message) => list(message).every((value) => (value as number | bigint) < 1000) }
  }
  return { text: `size(${name}) > 1`, holds: (message) => list(message).length > 1 }
}

/** What an absent field reads as: the default of its schema, or the zero of its type. */
export function zero(field: FieldModel): OValue {
  if (field.initial !== undefined) return field.initial
  if (field.type === 'bool') return false
  if (field.type === 'string') return ''
  if (field.type === 'bytes') return new Uint8Array(0)
  return field.type.endsWith('64') ? 0n : 0
}

/** [cel-spec] has(): set, for fields with presence; not the default, for those without; not empty, for lists. */
function isPresent(value: OValue | undefined, field: FieldModel): boolean {
  if (value === undefined) return false
  if (field.label !== 'singular') return (value as readonly unknown[]).length > 0
  if (field.presence) return true
  if (value instanceof Uint8Array || typeof value === 'string') return value.length > 0
  return typeof value === 'number' ? !Object.is(value, 0) : value !== 0n && value !== false
}
