/**
 * `include:` of the rules file: the files it names, read and united with it to one document in which every place is still the
 * file, line and column where the text stands. What is in force is put together from the texts that were accepted, never from disk.
 */
import { realpathSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve, sep } from 'node:path'
import type { Finding, Place } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { frameSchema, PARTS, partSchema, rulesSchema } from './schema.ts'
import { validator } from './validation.ts'
import { signatureOf } from './watch.ts'
import { broken, found, NODES_MAX, parseYaml, readText, type Path, type Yaml } from './yaml.ts'

export interface IncludeOptions {
  /** Texts of the included files by the name that `include:` gives them; read from disk when left out. */
  readonly included?: Readonly<Record<string, string>>
  /** Folder of the rules file, when that cannot be told from its name. */
  readonly folder?: string
  /** Files and folders that hold no rules, absolute: whoever may write rules must not learn through findings what stands in them. */
  readonly apart?: readonly string[]
}

export interface United {
  /** Main file and included ones as one; its `value` is undefined when `findings` holds an error. */
  readonly yaml: Yaml
  /** As `include:` names them -> text. */
  readonly included: Readonly<Record<string, string>>
  /** Absolute path -> state before it was read, of every file that was looked for; empty when nothing was read from disk. */
  readonly files: ReadonlyMap<string, string>
  readonly findings: readonly Finding[]
}

/** Reads what a rules file includes. Never throws for anything that stands in it. */
export function uniteFiles(main: Yaml, options: IncludeOptions = {}): United {
  const files = new Map<string, string>()
  const included: Record<string, string> = {}
  const refused = (findings: readonly Finding[]): United => ({ yaml: broken(main.file, findings), included, files, findings })
  if (main.findings.length > 0) return refused(main.findings.map((finding) => (/^include:/m.test(main.text) ? withinOneFile(finding) : finding)))
  const frame = isMap(main.value) ? validateFrame(main, main.value) : []
  if (frame.length > 0) return refused(frame)
  const names = (main.value as { readonly include?: readonly string[] } | null)?.include ?? []
  if (names.length === 0) return { yaml: main, included, files, findings: [] }

  const source = options.included === undefined ? fromDisk(main, options.folder ?? dirname(resolve(main.file)), files, options.apart ?? []) : fromTexts(main, options.included)
  const parts: Yaml[] = []
  const findings: Finding[] = []
  let [bytes, size] = [main.text.length, main.size ?? 0]
  for (const [index, name] of names.entries()) {
    const at: Path = ['include', index]
    const read = source(name, at)
    if (typeof read !== 'string') {
      findings.push(read)
      continue
    }
    included[name] = read
    const part = parseYaml(join(dirname(main.file), name), read)
    bytes += read.length
    size += part.size ?? 0
    if (bytes > LIMITS.fileBytes || size > NODES_MAX) return refused([found('YAML-TOO-LARGE', main.place(at), at.join('.'), 'With this file the rules are larger than the gateway reads.')])
    const wrong = part.findings.length > 0 ? part.findings.map(withinOneFile) : problemsOf(part, main.file)
    if (wrong.length > 0) findings.push(...wrong)
    else parts.push(part)
  }
  const united = new Union(main, parts)
  findings.push(...united.clashes)
  return findings.length > 0 ? refused(findings.slice(0, LIMITS.findings)) : { yaml: united, included, files, findings: [] }
}

const validateFrame = validator(frameSchema())
const validatePart = validator(partSchema())
/** What only the rules file itself says. */
const OWN: ReadonlySet<string> = new Set(Object.keys(rulesSchema().properties as object).filter((key) => !(PARTS as readonly string[]).includes(key)))

type Source = (name: string, at: Path) => string | Finding

function fromDisk(main: Yaml, folder: string, files: Map<string, string>, apart: readonly string[]): Source {
  return (name, at) => {
    const path = join(folder, name)
    // Noted before it is read: a change in between is seen by whoever watches it.
    files.set(path, signatureOf(path))
    let real: string
    try {
      real = realpathSync(path)
    } catch {
      return found('FILE-UNREADABLE', main.place(at), at.join('.'), `The included file ${name} does not exist or cannot be read.`, 'Check the path; it counts from the folder of the rules file.')
    }
    if (real === realPath(join(folder, basename(main.file)))) return found('INCLUDE', main.place(at), at.join('.'), 'The rules file includes itself.', 'Remove the line.')
    if (!real.startsWith(withSep(realpathSync(folder)))) return found('INCLUDE', main.place(at), at.join('.'), `The included file ${name} is a link to a place outside of the folder of the rules file.`, 'Put the file itself there.')
    const isApart = apart.map(realPath).some((one) => one !== undefined && (real === one || real.startsWith(withSep(one))))
    if (isApart) return found('INCLUDE', main.place(at), at.join('.'), `The included file ${name} belongs to the gateway itself and holds no rules.`, 'Name a file with rules.')
    // A pipe would be waited for, and with it everybody.
    if (statSync(real, { throwIfNoEntry: false })?.isFile() !== true) return found('FILE-UNREADABLE', main.place(at), at.join('.'), `The included ${name} is no file.`, 'Put a file there.')
    const read = readText(real)
    return 'text' in read ? read.text : { ...read.finding, place: { ...read.finding.place, file: join(dirname(main.file), name) } }
  }
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

function withSep(folder: string): string {
  return folder.endsWith(sep) ? folder : `${folder}${sep}`
}

function fromTexts(main: Yaml, texts: Readonly<Record<string, string>>): Source {
  return (name, at) => (Object.hasOwn(texts, name) ? texts[name] as string : found('FILE-UNREADABLE', main.place(at), at.join('.'), `The text of the included file ${name} is not there.`))
}

/** Shape of the top of an included file; what lies below is checked once all are united. */
function problemsOf(part: Yaml, mainFile: string): Finding[] {
  const own = isMap(part.value) ? Object.keys(part.value).filter((key) => OWN.has(key)) : []
  if (own.length === 0) return validatePart(part, part.value)
  return own.map((key) => found('INCLUDE', part.place([key], 'key'), key,
    key === 'include' ? 'An included file includes nothing itself.' : `"${key}" stands only in the rules file itself.`,
    key === 'include' ? `Name all files under \`include:\` of ${basename(mainFile)}.` : `Move it to ${basename(mainFile)}.`))
}

function withinOneFile(finding: Finding): Finding {
  return finding.code === 'YAML-ALIAS' && finding.text.includes('has no anchor') ? { ...finding, text: `${finding.text} Anchors hold within one file: an alias cannot name one of another file.` } : finding
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

// --------------------------------------------------------------------------------------------------------------- the union

/** Where an entry of a united map or list stands. */
interface Entry {
  readonly yaml: Yaml
  readonly path: Path
}

/** Maps united, lists one behind the other, the main file first. */
class Union implements Yaml {
  readonly file: string
  readonly text: string
  readonly value: unknown
  readonly size: number
  readonly findings: readonly Finding[] = []
  /** Entries that two files have. */
  readonly clashes: readonly Finding[]
  readonly #main: Yaml
  readonly #entries: ReadonlyMap<string, ReadonlyMap<string, Entry>>
  /** First file with the key. */
  readonly #first: ReadonlyMap<string, Yaml>

  constructor(main: Yaml, parts: readonly Yaml[]) {
    this.#main = main
    this.file = main.file
    this.text = main.text
    this.size = parts.reduce((sum, part) => sum + (part.size ?? 0), main.size ?? 0)
    const value = Object.assign(Object.create(null), main.value) as Record<string, unknown>
    const entries = new Map<string, Map<string, Entry>>()
    const first = new Map<string, Yaml>()
    const clashes: Finding[] = []
    for (const part of parts) {
      for (const [top, held] of Object.entries(part.value as object)) {
        // Anchors hold within one file, and nothing else in it takes effect.
        if (top === 'define') continue
        const above = value[top]
        if (above === undefined) first.set(top, part)
        // What is of the wrong kind in the main file is reported there.
        if (Array.isArray(held) ? above !== undefined && !Array.isArray(above) : above !== undefined && !isMap(above)) continue
        const known = entries.get(top) ?? entriesOf(main, top, above)
        entries.set(top, known)
        if (Array.isArray(held)) {
          const list = [...(above as unknown[] | undefined ?? [])]
          for (const [index, one] of (held as unknown[]).entries()) {
            known.set(String(list.length), { yaml: part, path: [top, index] })
            list.push(one)
          }
          value[top] = list
          continue
        }
        const map = Object.assign(Object.create(null), above) as Record<string, unknown>
        for (const [key, one] of Object.entries(held as object)) {
          const other = known.get(key)
          if (other === undefined) {
            known.set(key, { yaml: part, path: [top, key] })
            map[key] = one
          } else {
            const { file, line, col } = other.yaml.place(other.path, 'key')
            clashes.push(found('DUPLICATE', part.place([top, key], 'key'), `${top}.${key}`, `"${key}" of \`${top}\` stands here and in ${file}:${line}:${col}.`))
          }
        }
        value[top] = map
      }
    }
    this.value = value
    this.#entries = entries
    this.#first = first
    this.clashes = clashes
  }

  place(path: Path, of: 'value' | 'key' = 'value'): Place {
    const entry = this.#find(path)
    return entry.yaml.place(entry.path, of)
  }

  placeIn(path: Path, at: number): Place {
    const entry = this.#find(path)
    return entry.yaml.placeIn(entry.path, at)
  }

  has(path: Path): boolean {
    const entry = this.#find(path)
    return entry.yaml.has(entry.path)
  }

  #find(path: Path): Entry {
    const [top, key, ...rest] = path
    const entry = key === undefined ? undefined : this.#entries.get(String(top))?.get(String(key))
    return entry === undefined ? { yaml: this.#first.get(String(top)) ?? this.#main, path } : { yaml: entry.yaml, path: [...entry.path, ...rest] }
  }
}

function entriesOf(yaml: Yaml, top: string, value: unknown): Map<string, Entry> {
  if (Array.isArray(value)) return new Map(value.map((_, index) => [String(index), { yaml, path: [top, index] }]))
  return new Map(Object.keys(value ?? {}).map((key) => [key, { yaml, path: [top, key] }]))
}
