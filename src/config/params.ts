/**
 * `params:` of the rules file: values with a name, written there and, per depot, in the gateway file. `$(name)` stands for one as
 * the whole of a value, anywhere in the rules but in keys and names of tests.
 */
import type { Finding, Place } from '../domain/errors.ts'
import type { Params, ParamValue } from '../domain/policy.ts'
import { nearest, suggestion } from './nearest.ts'
import { PARAM } from './schema.ts'
import { found, NODES_MAX, parseValue, type Path, type Yaml } from './yaml.ts'

export interface Filled {
  /** The same document with the values in their places. */
  readonly yaml: Yaml
  /** What is in force of all that are declared, by name. */
  readonly params: Params
  /** Errors only; with one the document is not to be read on. */
  readonly findings: readonly Finding[]
  /** Declared and used nowhere. */
  readonly unused: readonly string[]
  /** Says in findings about a value that it comes from a parameter. */
  readonly explain: (finding: Finding) => Finding
}

/**
 * Fills in parameters. Never throws for anything that stands in the file.
 * @param given  values in the place of those that the file declares
 */
export function fillParams(yaml: Yaml, given: Params = {}): Filled {
  const root = yaml.value
  const declared = isMap(root) && isMap(root.params) ? (root.params as Params) : {}
  const findings = Object.keys(given).filter((name) => !Object.hasOwn(declared, name)).map((name) => found(
    'UNKNOWN-PARAM', yaml.place(['params'], 'key'), `params.${name}`, `A value is given for the parameter "${name}", which the rules file does not declare.`, mendFor(name, declared)))
  const params = Object.fromEntries(Object.keys(declared).sort().map((name) => [name, (Object.hasOwn(given, name) ? given[name] : declared[name]) as ParamValue]))
  const filling = new Filling(yaml, params)
  const value = isMap(root) ? filling.top(root) : {}
  const isChanged = isMap(root) && Object.keys(root).some((key) => value[key] !== root[key])
  const { uses } = filling
  const used = new Set(uses.map((use) => use.name))
  const nearby = new Nearby(uses)
  return {
    yaml: !isChanged ? yaml : new FilledYaml(yaml, value, uses),
    params,
    findings: [...findings, ...filling.findings],
    unused: Object.keys(declared).filter((name) => !used.has(name)),
    explain: (finding) => explained(finding, nearby, params, declared),
  }
}

/**
 * `cell=1km` of a command line.
 * @returns undefined when it is none
 */
export function parseParam(text: string): readonly [string, ParamValue] | undefined {
  const at = text.indexOf('=')
  const value = parseValue(text.slice(at + 1))
  const all: unknown[] = Array.isArray(value) ? value : [value]
  const isRight = at > 0 && PARAM.test(`$(${text.slice(0, at)})`) && all.every((one) => typeof one === 'string' || typeof one === 'boolean' || Number.isFinite(one))
  return isRight ? [text.slice(0, at), value as ParamValue] : undefined
}

interface Use {
  readonly name: string
  readonly path: Path
  readonly place: Place
}

/** Past these, findings about a value no longer say which parameter it comes from. */
const USES_MAX = 10_000
const FINDINGS_MAX = 50
/** Not filled in: what is fixed before, and the names and values of tests that are about the parameters themselves. */
const FIXED: ReadonlySet<string> = new Set(['version', 'include', 'params', 'define'])
const FIXED_IN_TEST: ReadonlySet<string> = new Set(['name', 'params'])
/** `$$(x)` is the text `$(x)`. */
const ESCAPED = /^\$(\$\([A-Za-z0-9_.-]+\))$/
const INSIDE = /(?<!\$)\$\([A-Za-z0-9_.-]+\)/
/** What people write who know it from elsewhere. */
const BRACES = /^\$\{([A-Za-z0-9_.-]+)\}$/

interface Done {
  readonly made: unknown
  readonly hasUse: boolean
}

class Filling {
  readonly uses: Use[] = []
  readonly findings: Finding[] = []
  readonly #yaml: Yaml
  readonly #params: Params
  /** What a list or map became: aliases share it. */
  readonly #done = { rules: new Map<object, Done>(), tests: new Map<object, Done>() }
  #size: number

  constructor(yaml: Yaml, params: Params) {
    this.#yaml = yaml
    this.#params = params
    this.#size = yaml.size ?? 0
  }

  top(root: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
    const made = Object.create(null) as Record<string, unknown>
    for (const [key, value] of Object.entries(root)) made[key] = FIXED.has(key) ? value : this.#walk(value, [key], key === 'tests')
    return made
  }

  #walk(value: unknown, path: Path, isTest: boolean): unknown {
    if (typeof value === 'string') return this.#text(value, path, isTest)
    if (typeof value !== 'object' || value === null) return value
    const all = isTest ? this.#done.tests : this.#done.rules
    const done = all.get(value)
    if (done !== undefined && (!done.hasUse || this.uses.length >= USES_MAX)) return done.made
    const before = this.uses.length
    const changes: (readonly [string, unknown])[] = []
    for (const [key, one] of Object.entries(value)) {
      const step = Array.isArray(value) ? Number(key) : key
      if (isTest && path.length === 2 && FIXED_IN_TEST.has(key)) continue
      if (typeof step === 'string' && PARAM.test(key) && !isTest) this.#wrong('PARAM', [...path, key], 'key', `"${key}" is a key, and a parameter can only be a value.`, 'Write the key itself.')
      const made = this.#walk(one, [...path, step], isTest)
      if (made !== one) changes.push([key, made])
    }
    const made = changes.length === 0 ? value : copyOf(value, changes)
    all.set(value, { made, hasUse: this.uses.length > before || made !== value })
    return made
  }

  #text(text: string, path: Path, isTest: boolean): unknown {
    if (!text.includes('$')) return text
    const [, name] = PARAM.exec(text) ?? []
    if (name !== undefined) {
      if (Object.hasOwn(this.#params, name)) {
        const value = this.#params[name]
        this.#size += Array.isArray(value) ? value.length : 0
        if (this.#size > NODES_MAX) this.#wrong('YAML-TOO-LARGE', path, 'value', 'With its parameters filled in the file holds more than two million values.')
        if (this.uses.length < USES_MAX) this.uses.push({ name, path, place: this.#yaml.place(path) })
        return value
      }
      this.#wrong('UNKNOWN-PARAM', path, 'value', `There is no parameter "${name}".`, mendFor(name, this.#params))
      return text
    }
    const [, plain] = ESCAPED.exec(text) ?? []
    if (plain !== undefined) return plain
    // Messages and expectations of tests are free text.
    if (isTest) return text
    const [, braces] = BRACES.exec(text) ?? []
    if (braces !== undefined) this.#wrong('PARAM', path, 'value', `"${text}" is no parameter here.`, `Write $(${braces}).`)
    else if (INSIDE.test(text)) this.#wrong('PARAM', path, 'value', 'A parameter stands inside a longer text.', 'Let `$(name)` be the whole of the value, and the parameter the whole text.')
    return text
  }

  #wrong(code: 'PARAM' | 'UNKNOWN-PARAM' | 'YAML-TOO-LARGE', path: Path, of: 'key' | 'value', sentence: string, mend?: string): void {
    if (this.findings.length < FINDINGS_MAX) this.findings.push(found(code, this.#yaml.place(path, of), path.join('.'), sentence, mend))
  }
}

function copyOf(value: object, changes: readonly (readonly [string, unknown])[]): object {
  const made = (Array.isArray(value) ? [...(value as unknown[])] : Object.assign(Object.create(null), value)) as Record<string, unknown>
  for (const [key, one] of changes) made[key] = one
  return made
}

function mendFor(name: string, known: Params): string | undefined {
  const names = Object.keys(known)
  return names.length > 0 && (nearest(name, names) !== undefined || names.length < 12) ? suggestion(name, names) : undefined
}

/** The finding with the values of the parameters that it is about. */
function explained(finding: Finding, nearby: Nearby, params: Params, declared: Params): Finding {
  const names = [...nearby.of(finding)].slice(0, 3)
  if (names.length === 0 || finding.code === 'UNKNOWN-PARAM') return finding
  const said = names.map((name) => `$(${name}) is ${shown(params[name] as ParamValue)}${params[name] === declared[name] ? '' : ', which was given in the place of the value in the file'}`)
  return { ...finding, text: `${finding.text} Here ${said.join(', and ')}.` }
}

/** Finds parameters by the places and paths of findings: their value itself, something in it, or a rule or pair just around it. */
class Nearby {
  readonly #at = new Map<string, Set<string>>()
  readonly #within = new Map<string, Set<string>>()
  readonly #around = new Map<string, Set<string>>()

  constructor(uses: readonly Use[]) {
    const add = (map: Map<string, Set<string>>, key: string, name: string): void => void map.set(key, (map.get(key) ?? new Set()).add(name))
    for (const { name, path, place } of uses) {
      add(this.#at, textOf(place), name)
      add(this.#within, path.join('.'), name)
      for (const up of [1, 2]) if (path.length - up >= 3) add(this.#around, path.slice(0, -up).join('.'), name)
    }
  }

  of({ path, place }: Finding): ReadonlySet<string> {
    const names = new Set(this.#at.get(textOf(place)))
    const steps = path.split('.')
    for (let length = 1; length <= steps.length; length++) for (const name of this.#within.get(steps.slice(0, length).join('.')) ?? []) names.add(name)
    // What is said of one branch of a pair may come from the other.
    for (const name of this.#around.get(path.replace(/\.(?:no_)?consent$/, '')) ?? []) names.add(name)
    return names
  }
}

function textOf({ file, line, col }: Place): string {
  return `${line}:${col}:${file}`
}

function shown(value: ParamValue): string {
  const text = Array.isArray(value) ? `[${value.join(', ')}]` : String(value)
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Places of what was filled in are those of the `$(name)`. */
class FilledYaml implements Yaml {
  readonly file: string
  readonly text: string
  readonly value: unknown
  readonly size: number
  readonly findings: readonly Finding[] = []
  readonly #written: Yaml
  readonly #uses: ReadonlySet<string>

  constructor(written: Yaml, value: unknown, uses: readonly Use[]) {
    this.#written = written
    this.file = written.file
    this.text = written.text
    this.size = written.size ?? 0
    this.value = value
    this.#uses = new Set(uses.map((use) => keyOf(use.path)))
  }

  place(path: Path, of: 'value' | 'key' = 'value'): Place {
    const use = this.#useAt(path)
    return use === undefined || use.length === path.length ? this.#written.place(path, of) : this.#written.place(use)
  }

  placeIn(path: Path, at: number): Place {
    const use = this.#useAt(path)
    return use === undefined ? this.#written.placeIn(path, at) : this.#written.place(use)
  }

  has(path: Path): boolean {
    const use = this.#useAt(path)
    return use === undefined ? this.#written.has(path) : valueAt(this.value, path) !== undefined
  }

  #useAt(path: Path): Path | undefined {
    for (let length = 1; length <= path.length; length++) {
      const above = path.slice(0, length)
      if (this.#uses.has(keyOf(above))) return above
    }
    return undefined
  }
}

function keyOf(path: Path): string {
  return path.join('\u0000')
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((here, step) => (typeof here === 'object' && here !== null ? (here as Record<string | number, unknown>)[step] : undefined), value)
}
