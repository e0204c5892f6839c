/**
 * Random schemas as a model of their own, written out twice: in proto2, proto3 or edition 2023 for the product, and in edition 2023
 * with every feature spelt out for the oracle. What a default of a syntax means is decided here, from the language specification,
 * and not taken from the product's reading.
 * Source: protobuf.dev "Language Guide (editions)", "Feature Settings for Editions".
 */
import type { Dice } from './dice.ts'

export type Scalar =
  | 'double' | 'float' | 'int32' | 'int64' | 'uint32' | 'uint64' | 'sint32' | 'sint64' | 'fixed32' | 'fixed64' | 'sfixed32' | 'sfixed64'
  | 'bool' | 'string' | 'bytes'

export interface EnumModel {
  readonly name: string
  readonly members: readonly (readonly [name: string, number: number])[]
  readonly closed: boolean
}

export interface MessageModel {
  readonly name: string
  readonly fields: FieldModel[]
  /** Comes with protobuf itself. */
  readonly known: boolean
}

export type Subject = 'none' | 'machine' | 'operator' | 'session'

export interface FieldModel {
  readonly number: number
  readonly name: string
  readonly type: Scalar | 'enum' | 'message'
  readonly enum: EnumModel | undefined
  readonly message: MessageModel | undefined
  readonly label: 'singular' | 'repeated' | 'map'
  /** Key type of a map. */
  readonly key: Scalar | undefined
  readonly oneof: string | undefined
  readonly presence: boolean
  readonly packed: boolean
  readonly utf8: boolean
  /** On the wire between start and end tags. */
  readonly group: boolean
  readonly subject: Subject
  readonly personal: 'never' | 'always'
  readonly time: boolean
  /** What the field reads as when it is absent, where that is not its type's zero. */
  readonly initial: number | bigint | boolean | string | undefined
  /** What stands before the type, and the options behind the number, in the product's text. */
  readonly prefix: string
  readonly options: readonly string[]
}

export interface SchemaModel {
  readonly syntax: 'proto2' | 'proto3' | '2023'
  /** Full name of the message that streams carry. */
  readonly root: MessageModel
  readonly messages: readonly MessageModel[]
  readonly enums: readonly EnumModel[]
  readonly fileFeatures: readonly string[]
}

export const PACKAGE = 'rnd.v1'

const SCALARS: readonly Scalar[] = [
  'double', 'float', 'int32', 'int64', 'uint32', 'uint64', 'sint32', 'sint64', 'fixed32', 'fixed64', 'sfixed32', 'sfixed64', 'bool', 'string', 'bytes',
]
const KEYS: readonly Scalar[] = ['int32', 'int64', 'uint32', 'uint64', 'sint32', 'sint64', 'fixed32', 'fixed64', 'sfixed32', 'sfixed64', 'bool', 'string', 'string']

/** Well-known types as protobuf defines them; all of them are proto3. */
const plain = (number: number, name: string, type: Scalar): FieldModel => ({
  number, name, type, enum: undefined, message: undefined, label: 'singular', key: undefined, oneof: undefined, presence: false, packed: false, utf8: true,
  group: false, subject: 'none', personal: 'always', time: false, initial: undefined, prefix: '', options: [],
})
export const TIMESTAMP: MessageModel = { name: 'google.protobuf.Timestamp', known: true, fields: [plain(1, 'seconds', 'int64'), plain(2, 'nanos', 'int32')] }
const DURATION: MessageModel = { name: 'google.protobuf.Duration', known: true, fields: [plain(1, 'seconds', 'int64'), plain(2, 'nanos', 'int32')] }
const DOUBLE_VALUE: MessageModel = { name: 'google.protobuf.DoubleValue', known: true, fields: [plain(1, 'value', 'double')] }
const STRING_VALUE: MessageModel = { name: 'google.protobuf.StringValue', known: true, fields: [plain(1, 'value', 'string')] }
const UINT64_VALUE: MessageModel = { name: 'google.protobuf.UInt64Value', known: true, fields: [plain(1, 'value', 'uint64')] }
const KNOWN = [TIMESTAMP, TIMESTAMP, DURATION, DOUBLE_VALUE, STRING_VALUE, UINT64_VALUE]

/** Defaults of a file. */
interface Defaults {
  readonly syntax: SchemaModel['syntax']
  readonly presence: boolean
  readonly packed: boolean
  readonly closed: boolean
  readonly utf8: boolean
  readonly delimited: boolean
}

/** @param flat  top-level scalars only: what the fast path is made for */
export function randomSchema(dice: Dice, flat: boolean): SchemaModel {
  const syntax = dice.pick(['proto3', 'proto3', 'proto2', '2023'] as const)
  const own = syntax === '2023'
  // Closed enums may not be without presence, so a file has one or the other.
  const implicit = own && dice.chance(0.4)
  const defaults: Defaults = {
    syntax,
    presence: syntax === 'proto2' || (own && !implicit),
    packed: syntax === 'proto3' || (own && !dice.chance(0.3)),
    closed: syntax === 'proto2' || (own && !implicit && dice.chance(0.4)),
    utf8: syntax === 'proto3' || (own && !dice.chance(0.3)),
    delimited: own && dice.chance(0.3),
  }
  const fileFeatures = !own ? [] : [
    ...(implicit ? ['field_presence = IMPLICIT'] : []), ...(defaults.packed ? [] : ['repeated_field_encoding = EXPANDED']),
    ...(defaults.closed ? ['enum_type = CLOSED'] : []), ...(defaults.utf8 ? [] : ['utf8_validation = NONE']), ...(defaults.delimited ? ['message_encoding = DELIMITED'] : []),
  ]
  const enums = Array.from({ length: 2 }, (_, at) => randomEnum(dice, at, defaults))
  const messages: MessageModel[] = []
  if (!flat) {
    for (let at = 0; at < 3; at++) {
      const message: MessageModel = { name: `${PACKAGE}.Part${at}`, fields: [], known: false }
      // Parts hold parts that were made before them; the first now and then holds itself.
      fill(dice, message, 2 + dice.below(6), defaults, enums, messages, at > 0)
      if (at === 0 && dice.chance(0.3)) message.fields.push({ ...plain((message.fields.at(-1)?.number ?? 0) + 1, 'again', 'int32'), type: 'message', message, presence: true, group: defaults.delimited, prefix: syntax === 'proto2' ? 'optional' : '' })
      messages.push(message)
    }
  }
  const root: MessageModel = { name: `${PACKAGE}.Root`, fields: [], known: false }
  fill(dice, root, 4 + dice.below(flat ? 24 : 14), defaults, enums, messages, !flat)
  messages.push(root)
  return { syntax, root, messages, enums, fileFeatures }
}

function randomEnum(dice: Dice, at: number, defaults: Defaults): EnumModel {
  const numbers = dice.shuffle([1, 2, 3, 5, 100, -1, 2_147_483_647, -2_147_483_648]).slice(0, 1 + dice.below(4))
  // The first member of a closed one may be any number.
  const all = defaults.closed && dice.chance(0.5) ? dice.shuffle([0, ...numbers]) : [0, ...numbers]
  return { name: `${PACKAGE}.Enum${at}`, closed: defaults.closed, members: all.map((number, index) => [`E${at}_M${index}`, number] as const) }
}

function fill(dice: Dice, message: MessageModel, count: number, defaults: Defaults, enums: readonly EnumModel[], parts: readonly MessageModel[], nested: boolean): void {
  let number = 0
  for (let at = 0; at < count; at++) {
    number += dice.chance(0.8) ? 1 : dice.pick([1, 2, 9, 14, 200, 3_000, 300_000])
    if (number >= 19_000 && number < 20_000) number = 20_000
    const last = message.fields.at(-1)
    // A oneof is two to four fields in a row.
    const isOneof = last?.oneof !== undefined ? dice.chance(0.6) : dice.chance(0.12)
    const oneof = !isOneof ? undefined : (last?.oneof ?? `pick${number}`)
    message.fields.push(randomField(dice, number, oneof, defaults, enums, parts, nested))
  }
}

function randomField(dice: Dice, number: number, oneof: string | undefined, defaults: Defaults, enums: readonly EnumModel[], parts: readonly MessageModel[], nested: boolean): FieldModel {
  const { syntax } = defaults
  const isNested = nested && dice.chance(0.3)
  const message = !isNested ? undefined : parts.length > 0 && dice.chance(0.75) ? dice.pick(parts) : dice.pick(KNOWN)
  const chosen = message === undefined && dice.chance(0.12) ? dice.pick(enums) : undefined
  const type = message !== undefined ? 'message' : chosen !== undefined ? 'enum' : dice.pick(SCALARS)
  const label = oneof !== undefined ? 'singular' : dice.chance(0.2) ? 'repeated' : nested && dice.chance(0.12) ? 'map' : 'singular'
  const options: string[] = []
  const words: string[] = []
  // proto2 has groups only with a body in place; editions say it of any message field that is no map.
  let group = message !== undefined && label !== 'map' && defaults.delimited
  if (syntax === '2023' && message !== undefined && label !== 'map' && dice.chance(0.3)) {
    group = !group
    options.push(`features.message_encoding = ${group ? 'DELIMITED' : 'LENGTH_PREFIXED'}`)
  }
  let presence = label === 'singular' && (message !== undefined || oneof !== undefined || defaults.presence)
  if (label === 'singular' && oneof === undefined) {
    if (syntax === 'proto2') words.push(dice.chance(0.08) ? 'required' : 'optional')
    else if (syntax === 'proto3' && dice.chance(0.2)) {
      words.push('optional')
      presence = true
    } else if (syntax === '2023' && message === undefined && chosen === undefined && dice.chance(0.3)) {
      presence = !presence
      options.push(`features.field_presence = ${presence ? 'EXPLICIT' : 'IMPLICIT'}`)
    }
  }
  if (label === 'repeated') words.push('repeated')
  const packable = label === 'repeated' && message === undefined && type !== 'string' && type !== 'bytes'
  let packed = packable && defaults.packed
  if (packable && dice.chance(0.3)) {
    packed = !packed
    options.push(syntax === '2023' ? `features.repeated_field_encoding = ${packed ? 'PACKED' : 'EXPANDED'}` : `packed = ${packed}`)
  }
  const isText = type === 'string' || label === 'map'
  let utf8 = defaults.utf8
  if (syntax === '2023' && isText && dice.chance(0.2)) {
    utf8 = !utf8
    options.push(`features.utf8_validation = ${utf8 ? 'VERIFY' : 'NONE'}`)
  }
  const subject: Subject = label !== 'map' && dice.chance(message === undefined ? 0.15 : 0.05) ? dice.pick(['machine', 'operator', 'session'] as const) : 'none'
  const initial = randomInitial(dice, type, label === 'map' ? 'map' : label === 'singular' && presence && oneof === undefined && syntax !== 'proto3' ? 'stated' : presence ? 'enum' : 'none', chosen, options)
  const personal = dice.chance(0.5) ? 'never' : 'always'
  const time = label !== 'map' && dice.chance(0.05)
  if (subject !== 'none' || personal === 'never' || time) options.push(`(parapet.v1.privacy) = { category: "${time ? 'time' : 'operation'}", class: BASIC, personal: ${personal.toUpperCase()}, subject: ${subject.toUpperCase()} }`)
  return {
    number, name: `f${number}`, type, enum: chosen, message, label, key: label === 'map' ? dice.pick(KEYS) : undefined, oneof,
    presence, packed, utf8, group, subject, personal, time, initial, prefix: words.join(' '), options,
  }
}

/** Now and then a default is written into the schema; without one a closed enum begins with its first member. */
function randomInitial(dice: Dice, type: FieldModel['type'], place: 'stated' | 'enum' | 'map' | 'none', chosen: EnumModel | undefined, options: string[]): FieldModel['initial'] {
  if (type === 'message' || place === 'none') return undefined
  if (chosen !== undefined) {
    const [name, number] = place === 'stated' && dice.chance(0.2) ? dice.pick(chosen.members) : (chosen.members[0] as readonly [string, number])
    if (name !== chosen.members[0]?.[0]) options.push(`default = ${name}`)
    return number
  }
  if (place !== 'stated' || type === 'bytes' || !dice.chance(0.25)) return undefined
  const value = type === 'string' ? dice.pick(['a', 'SN-1', 'ü']) : type === 'bool' ? true : type === 'double' || type === 'float' ? dice.pick([0.5, -3, 2.5e6])
    : /^(uint|fixed)/.test(type) ? dice.pick([5, 300_000_000]) : dice.pick([5, -7, 300_000_000])
  if (!type.endsWith('64')) {
    options.push(`default = ${JSON.stringify(value)}`)
    return value
  }
  const wide = dice.chance(0.5) ? BigInt(value) : type === 'uint64' || type === 'fixed64' ? 18_446_744_073_709_551_613n : -9_223_372_036_854_775_807n
  options.push(`default = ${wide}`)
  return wide
}

// -------------------------------------------------------------------------------------------------------------------- text

function typeText(field: FieldModel): string {
  const name = field.message?.name ?? field.enum?.name ?? field.type
  return field.label === 'map' ? `map<${field.key}, ${name}>` : name
}

export function fieldText(field: FieldModel): string {
  const options = field.options.length === 0 ? '' : ` [${field.options.join(', ')}]`
  return `${field.prefix === '' ? '' : `${field.prefix} `}${typeText(field)} ${field.name} = ${field.number}${options}`
}

/** The .proto text that the product reads. */
export function protoText(schema: SchemaModel): string {
  const lines = [
    schema.syntax === '2023' ? 'edition = "2023";' : `syntax = "${schema.syntax}";`, `package ${PACKAGE};`,
    'import "google/protobuf/timestamp.proto";', 'import "google/protobuf/duration.proto";', 'import "google/protobuf/wrappers.proto";',
    ...schema.fileFeatures.map((feature) => `option features.${feature};`),
    ...schema.enums.map((one) => `enum ${shortName(one.name)} { ${one.members.map(([name, number]) => `${name} = ${number};`).join(' ')} }`),
  ]
  for (const message of schema.messages) {
    lines.push(`message ${shortName(message.name)} {`)
    let open: string | undefined
    for (const field of message.fields) {
      if (open !== undefined && field.oneof !== open) lines.push('  }')
      if (field.oneof !== undefined && field.oneof !== open) lines.push(`  oneof ${field.oneof} {`)
      open = field.oneof
      lines.push(`  ${fieldText(field)};`)
    }
    if (open !== undefined) lines.push('  }')
    lines.push('}')
  }
  return `${lines.join('\n')}\n`
}

export function shortName(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1)
}

/**
 * The same for the oracle's protobufjs: edition 2023, every feature spelt out, maps as the repeated messages that they are on the
 * wire (so that their order is seen), texts without verification as bytes (so that bad ones are seen), nothing required.
 */
export function oracleText(schema: SchemaModel): string {
  const lines = ['edition = "2023";', 'package oracle;', ...schema.enums.map((one) => `enum ${shortName(one.name)} { option features.enum_type = ${one.closed ? 'CLOSED' : 'OPEN'}; ${one.members.map(([name, number]) => `${name} = ${number};`).join(' ')} }`)]
  for (const message of [...schema.messages, ...new Set(KNOWN)]) {
    const entries: string[] = []
    lines.push(`message ${oracleName(message)} {`)
    let open: string | undefined
    for (const field of message.fields) {
      if (open !== undefined && field.oneof !== open) lines.push('  }')
      if (field.oneof !== undefined && field.oneof !== open) lines.push(`  oneof ${field.oneof} {`)
      open = field.oneof
      if (field.label === 'map') {
        const entry = `${oracleName(message)}_${field.name}`
        entries.push(`message ${entry} { ${oracleField('key', 1, field.key as Scalar, field, true)} ${oracleField('value', 2, undefined, field, true)} }`)
        lines.push(`  repeated ${entry} ${field.name} = ${field.number};`)
      } else {
        lines.push(`  ${field.label === 'repeated' ? 'repeated ' : ''}${oracleField(field.name, field.number, undefined, field, false)}`)
      }
    }
    if (open !== undefined) lines.push('  }')
    lines.push('}', ...entries)
  }
  return `${lines.join('\n')}\n`
}

export function oracleName(message: MessageModel): string {
  return message.known ? `Known${shortName(message.name)}` : shortName(message.name)
}

function oracleField(name: string, number: number, scalar: Scalar | undefined, field: FieldModel, entry: boolean): string {
  const features: string[] = []
  const kind = scalar ?? field.type
  // The number of a map's enum is judged by the oracle itself, because it decides about the whole entry.
  const type = kind === 'message' ? oracleName(field.message as MessageModel) : kind === 'enum' ? (entry ? 'int32' : shortName((field.enum as EnumModel).name)) : kind === 'string' && !field.utf8 ? 'bytes' : kind
  if (kind === 'message') features.push(`features.message_encoding = ${field.group ? 'DELIMITED' : 'LENGTH_PREFIXED'}`)
  else if (field.label === 'repeated') features.push(`features.repeated_field_encoding = ${field.packed ? 'PACKED' : 'EXPANDED'}`)
  else if (field.oneof === undefined) features.push(`features.field_presence = ${field.presence || entry ? 'EXPLICIT' : 'IMPLICIT'}`)
  if (type === 'string') features.push('features.utf8_validation = VERIFY')
  return `${type} ${name} = ${number}${features.length === 0 ? '' : ` [${features.join(', ')}]`};`
}
