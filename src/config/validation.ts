/**
 * Files against their JSON Schemas: ajv decides, and each of its errors becomes one finding at the line and column of its cause.
 * The one home of ajv.
 */
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import type { Finding } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { TRANSFORMS, type JsonSchema } from '../minimise/transforms.ts'
import type { Code } from './codes.ts'
import { nearest, suggestion } from './nearest.ts'
import { found, type Path, type Yaml } from './yaml.ts'

export interface Wording {
  /** Values and keys may be personal data (cards, serial numbers): findings then name places only. */
  readonly discreet?: boolean
  /** Where the value stands in the file when it is not the whole of it. */
  readonly under?: Path
}

export type Validator = (yaml: Yaml, value: unknown, wording?: Wording) => Finding[]

/** Compiles a schema once; the validator returns at most LIMITS.findings findings, none when the value fits. */
export function validator(schema: JsonSchema): Validator {
  let compiled: ValidateFunction | undefined
  return (yaml, value, wording = {}) => {
    compiled ??= ajv().compile(schema)
    if (compiled(value)) return []
    const findings: Finding[] = []
    const seen = new Set<string>()
    for (const error of compiled.errors ?? []) {
      const finding = findingOf(error, yaml, value, wording)
      if (finding === undefined) continue
      // One mistake in an argument can break several rules of the schema; the reader needs one sentence.
      const key = `${finding.path}\u0000${finding.code}\u0000${finding.code === 'UNKNOWN-KEY' || finding.code === 'MISSING-KEY' ? finding.text : ''}`
      if (seen.has(key)) continue
      seen.add(key)
      findings.push(finding)
      if (findings.length >= LIMITS.findings) break
    }
    return findings
  }
}

/** That our own schemas are schemas is a test's matter (test/config/schema.test.ts): checking them at each start takes as long as compiling them. */
function ajv(): Ajv2020 {
  const made = new Ajv2020({ meta: false, validateSchema: false, code: { optimize: false }, allErrors: true, strict: true, allowUnionTypes: true, strictRequired: false, verbose: true, $data: false, ownProperties: false, logger: false })
  made.addKeyword({ keyword: 'errorMessage', schemaType: 'string' })
  return made
}

function findingOf(error: ErrorObject, yaml: Yaml, root: unknown, wording: Wording): Finding | undefined {
  // The cause is reported by the branch that was taken, or by the rule for names.
  if (error.keyword === 'if' || error.propertyName !== undefined) return undefined
  const path = pathOf(error.instancePath, root)
  const make = (code: Code, at: Path, of: 'key' | 'value', sentence: string, mend?: string): Finding => {
    const full = [...(wording.under ?? []), ...at]
    const entry = wording.under?.length ?? 0
    const shown = wording.discreet === true ? full.map((step, index) => (index === entry && typeof step === 'string' ? '*' : step)) : full
    return found(code, yaml.place(full, of), shown.join('.'), sentence, mend)
  }
  const words = wordsOf(error)
  const name = nameOf(path, wording)
  const transform = transformAt(error, path)
  if (transform !== undefined) {
    const spec = TRANSFORMS.get(transform.name)
    return make('TRANSFORM-ARGUMENT', transform.path, 'value', `"${transform.name}" cannot take this argument.`, `Write it as in \`${spec?.example ?? transform.name}\`: ${spec?.summary ?? ''}`)
  }
  switch (error.keyword) {
    case 'additionalProperties':
      return unknownKey(error, path, make, wording)
    case 'required': {
      const missing = (error.params as { missingProperty: string }).missingProperty
      const described = (error.parentSchema?.properties as Record<string, JsonSchema> | undefined)?.[missing]?.description
      return make('MISSING-KEY', path, 'key', `${name} needs "${missing}".`, typeof described === 'string' ? `Add it: ${described}${missing === 'version' && path.length === 0 ? ' A file that another one includes is checked with that one.' : ''}` : undefined)
    }
    case 'propertyNames': {
      const given = (error.params as { propertyName: string }).propertyName
      const rule = (error.schema as JsonSchema).errorMessage
      return make('BAD-NAME', [...path, given], 'key', `${wording.discreet === true ? 'This' : quote(given, wording)} cannot be a name here.`, `Use ${String(rule ?? 'a shorter name')}.`)
    }
    case 'enum': case 'const': {
      const allowed = error.keyword === 'enum' ? (error.schema as unknown[]) : [error.schema]
      if (isTransformWord(error)) return bareTransform(error, path, make)
      const near = typeof error.data === 'string' ? nearest(error.data, allowed.filter((one) => typeof one === 'string')) : undefined
      return make('BAD-VALUE', path, 'value', `${name} is ${quote(error.data, wording)}, but must be ${words ?? list(allowed)}.`, near === undefined ? '' : `Did you mean "${near}"?`)
    }
    case 'type':
      return make('WRONG-TYPE', path, 'value', `${name} is ${kind(error.data)}, but must be ${words ?? typeWords(error.schema)}.`, typeMend(error))
    case 'pattern': case 'minLength': case 'maxLength': case 'maxProperties': case 'minProperties': case 'maxItems': case 'minItems': {
      if (words !== undefined) return make('BAD-VALUE', path, 'value', `${name} is ${quote(error.data, wording)}, but must be ${words}.`, '')
      return make('BAD-VALUE', path, 'value', `${name} ${BOUNDS[error.keyword]} ${String((error.params as { limit?: number }).limit)}.`, '')
    }
    case 'minimum': case 'maximum': case 'exclusiveMinimum': case 'exclusiveMaximum': {
      const { comparison, limit } = error.params as { comparison: string; limit: number }
      return make('BAD-VALUE', path, 'value', `${name} is ${quote(error.data, wording)}, but must be ${comparison} ${limit}.`, '')
    }
    case 'uniqueItems':
      return make('BAD-VALUE', path, 'value', `${name} names something twice.`, 'Remove one of the two.')
    default:
      return make('BAD-VALUE', path, 'value', `${name} ${error.message ?? 'does not fit'}.`, '')
  }
}

type Make = (code: Code, at: Path, of: 'key' | 'value', sentence: string, mend?: string) => Finding

function unknownKey(error: ErrorObject, path: Path, make: Make, wording: Wording): Finding {
  const key = (error.params as { additionalProperty: string }).additionalProperty
  const known = Object.keys((error.parentSchema?.properties as object | undefined) ?? {})
  const at = [...path, key]
  if (isTransformWord(error)) {
    if (key === 'consent' || key === 'no_consent') return make('UNKNOWN-TRANSFORM', at, 'key', 'A pair stands around all that happens to a field, not inside it.', 'Write { consent: …, no_consent: … } right behind the name of the field, with a whole list or key-value list in each.')
    return make('UNKNOWN-TRANSFORM', at, 'key', `There is no transform "${key}".`, suggestion(key, known))
  }
  return make('UNKNOWN-KEY', at, 'key', `${nameOf(path, wording)} has no key ${wording.discreet === true && path.length === 0 ? 'of this name' : `"${key}"`}.`, suggestion(key, known))
}

/** `kep`, or `round` without its argument. */
function bareTransform(error: ErrorObject, path: Path, make: Make): Finding {
  const given = error.data
  if (typeof given !== 'string') return make('WRONG-TYPE', path, 'value', `${nameOf(path, {})} is ${kind(given)}, but must be a transform.`, 'Write keep, drop, or a map such as { round: 5 }.')
  const spec = TRANSFORMS.get(given)
  if (spec !== undefined) return make('TRANSFORM-ARGUMENT', path, 'value', `"${given}" needs an argument.`, `Write it as in \`${spec.example}\`.`)
  return make('UNKNOWN-TRANSFORM', path, 'value', `There is no transform "${given.slice(0, 60)}".`, suggestion(given, TRANSFORMS.keys()))
}

function isTransformWord(error: ErrorObject): boolean {
  return /^#\/\$defs\/transform\/(then\/additionalProperties|else\/enum)$/.test(error.schemaPath)
}

/** The transform in whose argument an error lies. */
function transformAt(error: ErrorObject, path: Path): { readonly name: string; readonly path: Path } | undefined {
  const name = /^#\/\$defs\/transform\/then\/properties\/([a-z_]+)\//.exec(error.schemaPath)?.[1]
  if (name === undefined) return undefined
  const index = path.lastIndexOf(name)
  return { name, path: index < 0 ? path : path.slice(0, index + 1) }
}

const BOUNDS: Readonly<Record<string, string>> = {
  minLength: 'must not be shorter than', maxLength: 'must not be longer than', minProperties: 'must not have fewer entries than', maxProperties: 'must not have more entries than',
  minItems: 'must not have fewer entries than', maxItems: 'must not have more entries than',
}

/** JSON pointer -> path; list positions become numbers by looking at the value. */
function pathOf(pointer: string, root: unknown): Path {
  const path: (string | number)[] = []
  let here = root
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    path.push(Array.isArray(here) ? Number(key) : key)
    here = (here as Record<string, unknown> | undefined)?.[key]
  }
  return path
}

function wordsOf(error: ErrorObject): string | undefined {
  const words = (error.parentSchema as JsonSchema | undefined)?.errorMessage
  return typeof words === 'string' ? words : undefined
}

function nameOf(path: Path, wording: Wording): string {
  const last = path[path.length - 1]
  if (last === undefined) return 'The file'
  if (typeof last === 'number') {
    const list = path[path.length - 2] ?? wording.under?.at(-1)
    return list === undefined ? `Entry ${last + 1}` : `Entry ${last + 1} of "${list}"`
  }
  return wording.discreet === true && path.length === 1 ? 'The entry' : `"${last}"`
}

function quote(value: unknown, wording: Wording): string {
  if (wording.discreet === true && typeof value !== 'object') return 'not right'
  if (typeof value === 'string') return `"${value.length > 60 ? `${value.slice(0, 60)}…` : value}"`
  return typeof value === 'object' ? kind(value) : String(value)
}

function kind(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  return typeof value === 'boolean' ? `${String(value)} (a truth value)` : typeof value === 'number' ? 'a number' : 'a text'
}

function typeWords(type: unknown): string {
  const words: Readonly<Record<string, string>> = { object: 'a map', array: 'a list', string: 'a text', number: 'a number', integer: 'a whole number', boolean: 'true or false', null: 'empty' }
  return (Array.isArray(type) ? type : [type]).map((one) => words[String(one)] ?? String(one)).join(' or ')
}

function typeMend(error: ErrorObject): string {
  if (error.data === null) return error.schema === 'object' ? 'Write {} if there is nothing to say.' : 'Write a value, or remove the key.'
  if (error.schema === 'string' && (typeof error.data === 'number' || typeof error.data === 'boolean')) return 'Put it in quotes.'
  return ''
}

function list(values: readonly unknown[]): string {
  const words = values.map(String)
  return words.length === 1 ? words[0]! : `one of ${words.join(', ')}`
}
