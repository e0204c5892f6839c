/**
 * .proto files -> MessageShape. The one home of protobufjs: it parses proto2, proto3 and editions files with custom options;
 * what leaves this file is plain data. It also converts between bytes and JSON for the tools (`filter`, `explain`, `decode`, tests),
 * never for the data path.
 */
import { LRUCache } from 'lru-cache'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import protobuf from 'protobufjs'
import { GatewayError } from '../domain/errors.ts'
import type { Classification, EnumShape, FieldShape, MessageShape, ScalarType, SubjectKind } from '../domain/schema.ts'

export interface Schemas {
  message(name: string): MessageShape | undefined
  /** Full names, sorted. */
  readonly messages: readonly string[]
  /** Files that could not be read or resolved, each a sentence with file and line. */
  readonly problems: readonly string[]
  /** SHA-256 (hex) over the names and texts of all files. */
  readonly hash: string
  /** Name -> text, as read: what is frozen with an accepted set. */
  readonly files: Readonly<Record<string, string>>
  /** The same schemas with fields classified by the rules file (`fields:`), keyed `package.Message.field`. */
  classify(overrides: ReadonlyMap<string, Partial<Classification>>): Schemas
  /** proto3 JSON mapping (original or lowerCamel names) -> bytes. Throws GatewayError with the path of what does not fit. */
  encode(name: string, json: unknown): Uint8Array
  /** Bytes -> proto3 JSON mapping with original names, known fields only. Throws GatewayError on malformed bytes. */
  decode(name: string, bytes: Uint8Array): Record<string, unknown>
}

/** Reads every .proto below the directories; imports are looked up in all of them and among the well-known types. */
export function loadSchemas(dirs: readonly string[]): Schemas {
  const files: Record<string, string> = {}
  const problems: string[] = []
  for (const dir of dirs) {
    if (!existsSync(dir)) {
      problems.push(`${dir}: this folder of .proto files does not exist.`)
      continue
    }
    for (const path of protoFiles(dir)) {
      const name = relative(dir, path).split(sep).join('/')
      const text = readFileSync(path, 'utf8')
      if (files[name] !== undefined && files[name] !== text) problems.push(`${path}: another folder has a different file of this name.`)
      files[name] ??= text
    }
  }
  // Rules are read again and again, their schemas hardly ever change; and what is compiled for a message serves as long as it is the same.
  const content = JSON.stringify([files, problems])
  let schemas = recent.get(content)
  if (schemas === undefined) recent.set(content, (schemas = build(files, problems)))
  return schemas
}

const recent = new LRUCache<string, Schemas>({ max: 4 })

/** The same from texts, name -> content; for tests and previews. */
export function schemasFromText(files: Readonly<Record<string, string>>): Schemas {
  return build(files, [])
}

const FILES_MAX = 10_000

function protoFiles(dir: string): string[] {
  const found: string[] = []
  for (const entry of readdirSync(dir, { recursive: true }) as string[]) {
    const path = join(dir, entry)
    if (entry.endsWith('.proto') && statSync(path).isFile()) found.push(path)
    if (found.length > FILES_MAX) throw new GatewayError('TOO-MANY-PROTOS', `${dir} holds more than ${FILES_MAX} .proto files.`, 'Name a smaller folder.')
  }
  return found.sort()
}

function build(files: Readonly<Record<string, string>>, problems: string[]): Schemas {
  const root = new protobuf.Root()
  root.addJSON(OPTION_MESSAGES)
  const parsed = new Set<string>()
  // It stands between names and texts where they are hashed: with one in a text two sets of files could have one hash.
  for (const name of Object.keys(files).sort()) if (files[name]?.includes('\u0000') === true) problems.push(`${name}: a NUL character stands in it, which no .proto file has.`)
  for (const name of Object.keys(files).sort()) parseFile(name, name, files, root, parsed, problems)
  try {
    root.resolveAll()
  } catch (error) {
    problems.push(`The .proto files do not fit together: ${(error as Error).message}.`)
  }
  const types = new Map<string, protobuf.Type>()
  collectTypes(root, types)
  const hash = createHash('sha256')
  for (const name of Object.keys(files).sort()) hash.update(`${name}\u0000${files[name]}\u0000`)
  return schemasOf(types, problems, hash.digest('hex'), files, new Map())
}

/** What custom options extend; protobufjs bundles no descriptor.proto, and an extension of nothing cannot be resolved. */
const OPTION_MESSAGES = {
  google: {
    nested: {
      protobuf: {
        nested: Object.fromEntries(
          ['File', 'Message', 'Field', 'Oneof', 'Enum', 'EnumValue', 'Service', 'Method', 'ExtensionRange'].map((one) => [`${one}Options`, { fields: {}, extensions: [[1000, 536_870_911]] }]),
        ),
      },
    },
  },
}

function parseFile(name: string, from: string, files: Readonly<Record<string, string>>, root: protobuf.Root, parsed: Set<string>, problems: string[]): void {
  if (parsed.has(name)) return
  parsed.add(name)
  const text = files[name]
  if (text === undefined) {
    const common = protobuf.common.get(name)
    if (common?.nested !== undefined) root.addJSON(common.nested)
    else if (name !== 'google/protobuf/descriptor.proto') problems.push(`${from}: imports "${name}", which is in no folder of .proto files.`)
    return
  }
  try {
    const result = protobuf.parse(text.replace(LONG_DEFAULT, `$&, ${EXACT} = "$1"`), root, { keepCase: true })
    for (const other of [...(result.imports ?? []), ...(result.weakImports ?? [])]) parseFile(other, name, files, root, parsed, problems)
  } catch (error) {
    problems.push(`${name}: ${(error as Error).message}.`)
  }
}

/** The parser makes a floating point number of a default of 64 bits; its digits are kept beside it. */
const LONG_DEFAULT = /[[,]\s*default\s*=\s*(-?\d{16,}|0[xX][\da-fA-F]{13,})(?=\s*[\],])/g
const EXACT = '(parapet.exact_default)'

function collectTypes(space: protobuf.NamespaceBase, into: Map<string, protobuf.Type>): void {
  for (const nested of space.nestedArray) {
    if (nested instanceof protobuf.Type) into.set(nested.fullName.replace(/^\./, ''), nested)
    if (nested instanceof protobuf.Namespace) collectTypes(nested, into)
  }
}

function schemasOf(types: ReadonlyMap<string, protobuf.Type>, problems: readonly string[], hash: string, files: Readonly<Record<string, string>>, overrides: ReadonlyMap<string, Partial<Classification>>): Schemas {
  const shapes = new Map<string, MessageShape>()
  function typeOf(name: string): protobuf.Type {
    const type = types.get(name)
    if (type === undefined) throw new GatewayError('UNKNOWN-MESSAGE', `There is no message "${name}" in the .proto files.`)
    return type
  }
  return {
    problems,
    hash,
    files,
    messages: [...types.keys()].sort(),
    message: (name) => (types.has(name) ? shapeOf(types.get(name) as protobuf.Type, shapes, overrides) : undefined),
    classify: (more) => schemasOf(types, problems, hash, files, new Map([...overrides, ...more])),
    encode(name, json) {
      const type = typeOf(name)
      return type.encode(type.fromObject(fromJson(json, type, name) as Record<string, unknown>)).finish()
    },
    decode(name, bytes) {
      const type = typeOf(name)
      try {
        return toJson(type.toObject(type.decode(bytes), { longs: String, bytes: String, json: true }), type)
      } catch (error) {
        throw new GatewayError('MALFORMED', `The bytes are no ${name}: ${(error as Error).message}.`)
      }
    },
  }
}

// ------------------------------------------------------------------------------------------------------------------ shapes

const SCALARS = new Set<string>([
  'double', 'float', 'int32', 'int64', 'uint32', 'uint64', 'sint32', 'sint64', 'fixed32', 'fixed64', 'sfixed32', 'sfixed64', 'bool', 'string', 'bytes',
])

/** Features of a field as protobufjs resolves them for proto2, proto3 and editions alike. */
interface Features {
  readonly field_presence: string
  readonly enum_type: string
  readonly utf8_validation: string
  readonly repeated_field_encoding: string
  readonly message_encoding: string
}

function featuresOf(object: protobuf.ReflectionObject): Features {
  return (object as unknown as { readonly _features: Features })._features
}

function shapeOf(type: protobuf.Type, shapes: Map<string, MessageShape>, overrides: ReadonlyMap<string, Partial<Classification>>): MessageShape {
  const name = type.fullName.replace(/^\./, '')
  const known = shapes.get(name)
  if (known !== undefined) return known
  const fields: FieldShape[] = []
  const byName = new Map<string, FieldShape>()
  const byNumber = new Map<number, FieldShape>()
  const shape: MessageShape = { name, fields, byName, byNumber }
  // Registered before its fields are read: messages may contain themselves.
  shapes.set(name, shape)
  for (const field of [...type.fieldsArray].sort((a, b) => a.id - b.id)) {
    const made = fieldOf(field.resolve(), name, shapes, overrides)
    fields.push(made)
    byName.set(made.name, made)
    byNumber.set(made.number, made)
  }
  return shape
}

function fieldOf(field: protobuf.Field, owner: string, shapes: Map<string, MessageShape>, overrides: ReadonlyMap<string, Partial<Classification>>): FieldShape {
  const features = featuresOf(field)
  const resolved = field.resolvedType
  const map = field instanceof protobuf.MapField
  const repeated = field.repeated || map
  const message = map
    ? entryOf(field, owner, shapes, overrides)
    : resolved instanceof protobuf.Type ? shapeOf(resolved, shapes, overrides) : undefined
  const group = message !== undefined && !map && features.message_encoding === 'DELIMITED'
  const type = message !== undefined ? (group ? 'group' : 'message') : resolved instanceof protobuf.Enum ? 'enum' : (field.type as ScalarType)
  if (type !== 'message' && type !== 'group' && type !== 'enum' && !SCALARS.has(type)) throw new GatewayError('UNKNOWN-TYPE', `Field ${owner}.${field.name} has the type "${type}", which no .proto file defines.`)
  const oneof = field.partOf ?? undefined
  const synthetic = oneof?.isProto3Optional === true
  return {
    number: field.id,
    name: field.name,
    type,
    repeated,
    packed: field.repeated && message === undefined && type !== 'string' && type !== 'bytes' && features.repeated_field_encoding === 'PACKED',
    map,
    presence: !repeated && (message !== undefined || oneof !== undefined || features.field_presence !== 'IMPLICIT'),
    oneof: oneof !== undefined && !synthetic ? oneof.name : undefined,
    utf8: features.utf8_validation === 'VERIFY',
    enum: resolved instanceof protobuf.Enum && !map ? enumOf(resolved) : undefined,
    message,
    ...(features.field_presence === 'IMPLICIT' || repeated || message !== undefined ? {} : initialOf(field, type as ScalarType)),
    classified: classify(field, overrides.get(`${owner}.${field.name}`)),
  }
}

/** What an absent field reads as, when that is not zero: its `default`, or the first member of its enum. Source: proto2 language guide. */
function initialOf(field: protobuf.FieldBase, type: ScalarType): { readonly initial?: NonNullable<FieldShape['initial']> } {
  const options = field.options as Readonly<Record<string, number | string | boolean>> | undefined
  const stated = options?.default
  if (type === 'enum') {
    const first = field.typeDefault as number
    return first === 0 ? {} : { initial: first }
  }
  if (stated === undefined) return {}
  if (type === 'bytes') return { initial: Buffer.from(String(stated), 'utf8') }
  if (type === 'string') return { initial: String(stated) }
  if (type === 'bool') return { initial: stated === true }
  if (type.endsWith('64')) return { initial: BigInt(options?.[EXACT] ?? stated) }
  return { initial: type === 'float' ? Math.fround(Number(stated)) : Number(stated) }
}

/** A map on the wire is a repeated message with key 1 and value 2. */
function entryOf(field: protobuf.MapField, owner: string, shapes: Map<string, MessageShape>, overrides: ReadonlyMap<string, Partial<Classification>>): MessageShape {
  const resolved = field.resolvedType
  const value = resolved instanceof protobuf.Type ? shapeOf(resolved, shapes, overrides) : undefined
  const utf8 = featuresOf(field).utf8_validation === 'VERIFY'
  const classified = classify(field, overrides.get(`${owner}.${field.name}`))
  const base = { repeated: false, packed: false, map: false, presence: false, oneof: undefined, utf8, classified }
  const fields: FieldShape[] = [
    { ...base, number: 1, name: 'key', type: field.keyType as ScalarType, enum: undefined, message: undefined },
    {
      ...base, number: 2, name: 'value', type: value !== undefined ? 'message' : resolved instanceof protobuf.Enum ? 'enum' : (field.type as ScalarType),
      enum: resolved instanceof protobuf.Enum ? enumOf(resolved) : undefined, message: value, presence: value !== undefined,
      ...(resolved instanceof protobuf.Enum ? initialOf(field, 'enum') : {}),
    },
  ]
  return { name: `${owner}.${field.name}.Entry`, fields, byName: new Map(fields.map((one) => [one.name, one])), byNumber: new Map(fields.map((one) => [one.number, one])), entry: true }
}

function enumOf(source: protobuf.Enum): EnumShape {
  const names = new Map<number, string>()
  for (const [name, number] of Object.entries(source.values)) if (!names.has(number)) names.set(number, name)
  return { name: source.fullName.replace(/^\./, ''), values: new Map(Object.entries(source.values)), names, closed: featuresOf(source).enum_type === 'CLOSED' }
}

const OPTION = '(parapet.v1.privacy)'

/** Reads the field option of proto/parapet/v1/privacy.proto; rules override single keys. */
function classify(field: protobuf.FieldBase, override: Partial<Classification> | undefined): Classification | undefined {
  const stated = (field.parsedOptions as Record<string, unknown>[] | null)?.find((option) => OPTION in option)?.[OPTION] as Record<string, unknown> | undefined
  if (stated === undefined && override === undefined) return undefined
  const word = (key: string): string | undefined => (stated?.[key] === undefined ? undefined : String(stated[key]).toLowerCase())
  return {
    category: word('category') ?? 'other',
    // Whoever leaves a key out gets the strictest reading of it.
    class: word('class') === 'basic' ? 'basic' : 'additional',
    personal: (['never', 'linkable', 'always'] as const).find((one) => one === word('personal')) ?? 'always',
    subject: (['none', 'machine', 'operator', 'session', 'customer'] as const).find((one) => one === (word('subject') as SubjectKind | undefined)) ?? 'none',
    unit: stated?.unit === undefined ? '' : String(stated.unit),
    scale: stated?.scale === undefined ? 1 : Number(stated.scale),
    ...override,
  }
}

// -------------------------------------------------------------------------------------------------------------------- JSON

type Json = Record<string, unknown>

/** proto3 JSON -> what protobufjs takes: names normalised, well-known types unfolded, unknown keys refused. */
function fromJson(json: unknown, type: protobuf.Type, path: string): unknown {
  if (type.fullName === '.google.protobuf.Timestamp' && typeof json === 'string') {
    const ms = Date.parse(json)
    if (Number.isNaN(ms)) throw new GatewayError('BAD-JSON', `${path} is no RFC 3339 time.`)
    const fraction = /\.(\d{1,9})/.exec(json)?.[1] ?? ''
    return { seconds: String(Math.floor(ms / 1000)), nanos: Number(fraction.padEnd(9, '0')) }
  }
  if (type.fullName === '.google.protobuf.Duration' && typeof json === 'string') {
    const match = /^(-?)(\d+)(?:\.(\d{1,9}))?s$/.exec(json)
    if (match === null) throw new GatewayError('BAD-JSON', `${path} is no duration such as "1.5s".`)
    return { seconds: `${match[1]}${match[2]}`, nanos: Number(`${match[1]}${(match[3] ?? '').padEnd(9, '0')}`) }
  }
  if (isWrapper(type) && (typeof json !== 'object' || json === null)) {
    return { value: json }
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new GatewayError('BAD-JSON', `${path} must be an object.`)
  const made: Json = {}
  for (const [key, value] of Object.entries(json as Json)) {
    const field = type.fieldsArray.find((one) => one.name === key || one.jsonName === key)
    if (field === undefined) throw new GatewayError('BAD-JSON', `${path} has no field "${key}".`, `It has ${type.fieldsArray.map((one) => one.name).slice(0, 20).join(', ')}.`)
    if (value === null) continue
    made[field.name] = fieldFromJson(value, field.resolve(), `${path}.${key}`)
  }
  return made
}

function fieldFromJson(value: unknown, field: protobuf.Field, path: string): unknown {
  const resolved = field.resolvedType
  const single = (one: unknown, at: string): unknown => {
    if (resolved instanceof protobuf.Type) return fromJson(one, resolved, at)
    if (resolved instanceof protobuf.Enum) {
      const number = typeof one === 'number' ? one : resolved.values[String(one)]
      if (number === undefined) throw new GatewayError('BAD-JSON', `${at} is no member of ${resolved.name}.`, `Members: ${Object.keys(resolved.values).slice(0, 20).join(', ')}.`)
      return number
    }
    if (field.type === 'bytes') return typeof one === 'string' ? Buffer.from(one, 'base64') : one
    if (field.type === 'string') {
      if (typeof one !== 'string') throw new GatewayError('BAD-JSON', `${at} must be a text.`)
      return one
    }
    if (field.type === 'bool') {
      if (typeof one !== 'boolean') throw new GatewayError('BAD-JSON', `${at} must be true or false.`)
      return one
    }
    if (field.type === 'double' || field.type === 'float') return Number(one)
    const integer = typeof one === 'number' ? one : typeof one === 'string' ? Number(one) : Number.NaN
    if (!Number.isInteger(integer)) throw new GatewayError('BAD-JSON', `${at} must be a whole number.`)
    return one
  }
  if (field instanceof protobuf.MapField) {
    if (typeof value !== 'object' || Array.isArray(value)) throw new GatewayError('BAD-JSON', `${path} must be an object.`)
    return Object.fromEntries(Object.entries(value as Json).map(([key, one]) => [key, single(one, `${path}.${key}`)]))
  }
  if (!field.repeated) return single(value, path)
  if (!Array.isArray(value)) throw new GatewayError('BAD-JSON', `${path} must be a list.`)
  return value.map((one, at) => single(one, `${path}[${at}]`))
}

/** protobufjs object -> proto3 JSON: enum names, base64url-free base64, RFC 3339 for the well-known times. */
function toJson(object: Json, type: protobuf.Type): Json {
  const made: Json = {}
  for (const field of type.fieldsArray) {
    const value = object[field.name]
    if (value === undefined) continue
    const resolved = field.resolve().resolvedType
    const single = (one: unknown): unknown => {
      if (resolved instanceof protobuf.Enum) return resolved.valuesById[one as number] ?? one
      return resolved instanceof protobuf.Type ? messageToJson(one as Json, resolved) : one
    }
    made[field.name] = field instanceof protobuf.MapField
      ? Object.fromEntries(Object.entries(value as Json).map(([key, one]) => [key, single(one)]))
      : Array.isArray(value) ? value.map(single) : single(value)
  }
  return made
}

function messageToJson(object: Json, type: protobuf.Type): unknown {
  if (type.fullName === '.google.protobuf.Timestamp') {
    const nanos = Number(object.nanos ?? 0)
    const whole = new Date(Number(object.seconds ?? 0) * 1000).toISOString().slice(0, 19)
    return `${whole}${fractionOf(nanos)}Z`
  }
  if (type.fullName === '.google.protobuf.Duration') {
    const seconds = BigInt((object.seconds as string | number | undefined) ?? 0)
    const nanos = Number(object.nanos ?? 0)
    // Both parts have the sign.
    return `${seconds < 0n || nanos < 0 ? '-' : ''}${seconds < 0n ? -seconds : seconds}${fractionOf(Math.abs(nanos))}s`
  }
  if (isWrapper(type)) return toJson(object, type).value ?? ZEROS[type.fields.value?.type as string] ?? 0
  return toJson(object, type)
}

/** Three, six or nine digits behind the point, or none. */
function fractionOf(nanos: number): string {
  return nanos === 0 ? '' : `.${String(nanos).padStart(9, '0').replace(/(000)+$/, '')}`
}

/** What a wrapper holds when it is empty. */
const ZEROS: Readonly<Record<string, unknown>> = { string: '', bytes: '', bool: false, int64: '0', uint64: '0' }

function isWrapper(type: protobuf.Type): boolean {
  return /^\.google\.protobuf\.(\w+)Value$/.test(type.fullName) && type.fieldsArray.length === 1 && type.fields.value !== undefined
}
