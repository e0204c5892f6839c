/**
 * YAML with places. One walk turns the document into plain data and remembers where every value and key stands, through
 * anchors, aliases and merges: a place is always where the text to mend is written.
 * The one home of the `yaml` package.
 */
import { readFileSync, statSync } from 'node:fs'
import { Composer, Lexer, LineCounter, Parser, YAMLParseError, isAlias, isMap, isPair, isScalar, isSeq, parse, type CST, type Document } from 'yaml'
import type { Finding, Place } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { atOnce, type Pieces } from '../domain/pieces.ts'
import { CODES, type Code } from './codes.ts'
import { suggestion } from './nearest.ts'

/** Keys and list positions from the top, e.g. `['outputs', 'planner', 'to', 'qos']`. */
export type Path = readonly (string | number)[]

export interface Yaml {
  readonly file: string
  /** The text without a byte order mark; empty when the file could not be read or is too large. */
  readonly text: string
  /** Plain data with prototype-free objects; undefined when `findings` holds an error. */
  readonly value: unknown
  readonly findings: readonly Finding[]
  /** Values it holds, aliases written out. */
  readonly size?: number
  /** Where the value at a path stands, or its key; the nearest thing above when the path does not exist. */
  place(path: Path, of?: 'value' | 'key'): Place
  /** A place `at` characters into the text of a scalar; its start when the text is folded or escaped. */
  placeIn(path: Path, at: number): Place
  has(path: Path): boolean
}

/** Reads a file: bounded, UTF-8 only. Never throws; an unreadable file is a finding. */
export function readYaml(file: string): Yaml {
  const read = readText(file)
  return 'finding' in read ? broken(file, [read.finding]) : parseYaml(file, read.text)
}

/** Parses a text. Never throws. */
export function parseYaml(file: string, source: string): Yaml {
  return atOnce(yamlInPieces(file, source))
}

/** The same, for a gateway that goes on meanwhile. */
export function* yamlInPieces(file: string, source: string): Pieces<Yaml> {
  const text = source.startsWith('\uFEFF') ? source.slice(1) : source
  if (text.length > LIMITS.fileBytes) return broken(file, [tooLarge(file)])
  const lines = new LineCounter()
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(Math.max(0, Math.min(offset, text.length)))
    return { file, line: Math.max(1, line), col: Math.max(1, col) }
  }
  let document: Document.Parsed
  try {
    document = yield* documentOf(text, lines)
  } catch (error) {
    // Deep nesting ends in the library's own recursion.
    const sentence = error instanceof RangeError ? 'The text is nested too deeply.' : 'The text is no YAML.'
    return broken(file, [found('YAML-SYNTAX', { file, line: 1, col: 1 }, '', sentence)])
  }
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) return broken(file, [syntaxFinding(problem.code, problem.message, at(problem.pos[0]))], text)
  if (document.directives?.yaml.explicit === true && document.directives.yaml.version !== '1.2') {
    return broken(file, [found('YAML-SYNTAX', at(0), '', 'The file asks for YAML 1.1, where NO is false and 010 is 8.', 'Remove the %YAML line.')])
  }
  yield
  const walk = new Walk(at)
  const root = walk.read(document.contents, [])
  if (walk.findings.length > 0) return broken(file, walk.findings, text)
  return new Located(file, text, root, at)
}

/** What the library's `parseDocument` does, which has no pause. */
function* documentOf(text: string, lineCounter: LineCounter): Pieces<Document.Parsed> {
  // Keys are compared below: the library's own comparison is quadratic in the number of keys.
  const composer = new Composer({ version: '1.2', schema: 'core', merge: true, strict: true, uniqueKeys: false, prettyErrors: false, lineCounter })
  const parser = new Parser(lineCounter.addNewLine)
  lineCounter.addNewLine(0)
  const tokens: CST.Token[] = []
  let lexemes = 0
  for (const lexeme of new Lexer().lex(text)) {
    tokens.push(...parser.next(lexeme))
    if (++lexemes % LEXEMES === 0) yield
  }
  tokens.push(...parser.end())
  yield
  const [document, second] = [...composer.compose(tokens, true, text.length)] as Document.Parsed[]
  if (second !== undefined) document?.errors.push(new YAMLParseError([second.range[0], second.range[1]], 'MULTIPLE_DOCS', 'There are several documents.'))
  return document as Document.Parsed
}

/** A few hundred lines at a time. */
const LEXEMES = 2_000

/** One scalar or flow value from a command line, such as the right side of `--set a.b=c`; text that is no YAML stays text. */
export function parseValue(text: string): unknown {
  try {
    return parse(text, { schema: 'core', logLevel: 'silent', maxAliasCount: 0 }) as unknown
  } catch {
    return text
  }
}

/** Reads a text file: bounded, UTF-8 only, byte order mark removed. */
export function readText(file: string): { readonly text: string } | { readonly finding: Finding } {
  const place = { file, line: 1, col: 1 }
  let bytes: Buffer
  try {
    if (statSync(file).size > LIMITS.fileBytes) return { finding: tooLarge(file) }
    bytes = readFileSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'does not exist' : code === 'EACCES' ? 'may not be read by this user' : code === 'EISDIR' ? 'is a folder' : `cannot be read (${code})`
    return { finding: found('FILE-UNREADABLE', place, '', `The file ${file} ${why}.`) }
  }
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) return { finding: found('YAML-ENCODING', place, '', 'The file is UTF-16.') }
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch {
    return { finding: found('YAML-ENCODING', { file, ...firstBadByte(bytes) }, '', 'The file is not UTF-8 here.') }
  }
}

/** Line, and file where that is not the document's own. */
export function placedAt(yaml: Yaml, { file, line }: Place): { readonly line: number; readonly file?: string } {
  return file === yaml.file ? { line } : { line, file }
}

/** A finding of a code at a place; the severity and, unless given, the mend are those of the code. */
export function found(code: Code, place: Place, path: string, sentence: string, mend: string = CODES[code].mend): Finding {
  return { severity: CODES[code].severity, code, place, path, text: mend === '' ? sentence : `${sentence} ${mend}` }
}

// --------------------------------------------------------------------------------------------------------------- the walk

/** What a node became. Shared by every alias of it. */
interface Read {
  readonly value: unknown
  readonly offset: number
  /** Nodes after expansion of aliases. */
  readonly size: number
  readonly children: Map<string, Child> | undefined
  /** Offset of the first character of a scalar's text when it stands in the source as it is. */
  readonly textAt: number | undefined
}

interface Child {
  readonly key: number
  readonly read: Read
}

/** Expanded nodes of one document: 20 outputs over 1,000 streams take about a third of it. */
export const NODES_MAX = 2_000_000
const DEPTH_MAX = 100
const FINDINGS_MAX = 50

class Walk {
  readonly findings: Finding[] = []
  readonly #anchors = new Map<string, unknown>()
  readonly #done = new Map<unknown, Read>()
  readonly #open = new Set<unknown>()
  readonly #place: (offset: number) => Place

  constructor(place: (offset: number) => Place) {
    this.#place = place
  }

  read(node: unknown, path: Path): Read {
    const offset = offsetOf(node)
    if (isAlias(node)) return this.#alias(node.source, offset, path)
    const anchor = (node as { anchor?: string } | null)?.anchor
    if (anchor !== undefined) this.#anchors.set(anchor, node)
    if (path.length > DEPTH_MAX) return this.#wrong('YAML-SYNTAX', offset, path, `The text is nested deeper than ${DEPTH_MAX} levels.`)
    this.#open.add(node)
    const read = isMap(node) ? this.#map(node.items, offset, path) : isSeq(node) ? this.#list(node.items, offset, path) : this.#scalar(node, offset, path)
    this.#open.delete(node)
    this.#done.set(node, read)
    if (read.size > NODES_MAX) return this.#wrong('YAML-TOO-LARGE', offset, path, 'With its aliases written out the file holds more than two million values.')
    return read
  }

  #alias(name: string, offset: number, path: Path): Read {
    const target = this.#anchors.get(name)
    if (target === undefined) return this.#wrong('YAML-ALIAS', offset, path, `The alias *${name} has no anchor &${name} before it.`, suggestion(name, this.#anchors.keys()))
    if (this.#open.has(target)) return this.#wrong('YAML-ALIAS', offset, path, `The alias *${name} stands inside what it stands for.`)
    return this.#done.get(target) as Read
  }

  #map(items: readonly unknown[], offset: number, path: Path): Read {
    const value = Object.create(null) as Record<string, unknown>
    const children = new Map<string, Child>()
    const merged: Read[] = []
    let size = 1
    for (const pair of items) {
      if (!isPair(pair)) continue
      const keyOffset = offsetOf(pair.key, offset)
      if (isMergeKey(pair.key)) {
        merged.push(...this.#mergeSources(pair.value, keyOffset, [...path, '<<']))
        continue
      }
      const key = this.#key(pair.key, keyOffset, path)
      if (key === undefined) continue
      if (children.has(key)) {
        this.#wrong('YAML-DUPLICATE-KEY', keyOffset, [...path, key], `The key "${key}" stands here twice; it was first written in line ${this.#place(children.get(key)?.key ?? 0).line}.`)
        continue
      }
      const read = this.read(pair.value, [...path, key])
      value[key] = read.value
      children.set(key, { key: keyOffset, read })
      size += read.size
    }
    // What a map says itself wins over what it merges; of several merges the first wins.
    for (const source of merged) {
      for (const [key, child] of source.children ?? []) {
        if (children.has(key)) continue
        value[key] = child.read.value
        children.set(key, child)
        size += child.read.size
      }
    }
    return { value, offset, size, children, textAt: undefined }
  }

  #mergeSources(node: unknown, keyOffset: number, path: Path): Read[] {
    const reads = isSeq(node) ? node.items.map((item, index) => this.read(item, [...path, index])) : [this.read(node, path)]
    return reads.filter((read) => {
      const isObject = typeof read.value === 'object' && read.value !== null && !Array.isArray(read.value)
      if (!isObject && this.findings.length === 0) this.#wrong('YAML-ALIAS', keyOffset, path, 'Only maps can be merged with "<<".', 'Name the anchor of a map after "<<:".')
      return isObject
    })
  }

  #key(node: unknown, offset: number, path: Path): string | undefined {
    if (isAlias(node)) {
      const { value } = this.#alias(node.source, offset, path)
      if (typeof value === 'string') return value
    } else if (isScalar(node)) {
      const anchor = (node as { anchor?: string }).anchor
      if (anchor !== undefined) this.#anchors.set(anchor, node)
      this.#done.set(node, this.#scalar(node, offset, path))
      if (typeof node.value === 'string') return node.value
      // 101 and true are read as they are written.
      if (node.value !== null && node.source !== undefined && node.source !== '') return node.source
    }
    this.#wrong('YAML-KEY', offset, path, 'A key must be one plain word or number.')
    return undefined
  }

  #list(items: readonly unknown[], offset: number, path: Path): Read {
    const children = new Map<string, Child>()
    const value: unknown[] = []
    let size = 1
    items.forEach((item, index) => {
      const read = this.read(item, [...path, index])
      value.push(read.value)
      children.set(String(index), { key: read.offset, read })
      size += read.size
    })
    return { value, offset, size, children, textAt: undefined }
  }

  #scalar(node: unknown, offset: number, path: Path): Read {
    if (!isScalar(node)) return { value: null, offset, size: 1, children: undefined, textAt: undefined }
    const { value, source } = node
    if (typeof value === 'number' && source !== undefined && /^[+-]?\d+$/.test(source) && !Number.isSafeInteger(value)) {
      return this.#wrong('YAML-NUMBER', offset, path, `The number ${source.slice(0, 40)} is too large to be read exactly.`)
    }
    const quoted = node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE'
    const plain = node.type === 'PLAIN' || (quoted && source === value)
    return { value: value ?? null, offset, size: 1, children: undefined, textAt: plain ? offset + (quoted ? 1 : 0) : undefined }
  }

  #wrong(code: Code, offset: number, path: Path, sentence: string, mend?: string): Read {
    if (this.findings.length < FINDINGS_MAX) this.findings.push(found(code, this.#place(offset), path.join('.'), sentence, mend === '' ? undefined : mend))
    return { value: null, offset, size: 1, children: undefined, textAt: undefined }
  }
}

function isMergeKey(key: unknown): boolean {
  if (!isScalar(key)) return false
  return (typeof key.value === 'symbol' && key.value.description === '<<') || (key.value === '<<' && key.type === 'PLAIN')
}

function offsetOf(node: unknown, otherwise = 0): number {
  return (node as { range?: readonly number[] | null } | null)?.range?.[0] ?? otherwise
}

class Located implements Yaml {
  readonly file: string
  readonly findings: readonly Finding[] = []
  readonly text: string
  readonly #root: Read
  readonly #at: (offset: number) => Place

  constructor(file: string, text: string, root: Read, at: (offset: number) => Place) {
    this.file = file
    this.text = text
    this.#root = root
    this.#at = at
  }

  get value(): unknown {
    return this.#root.value
  }

  get size(): number {
    return this.#root.size
  }

  place(path: Path, of: 'value' | 'key' = 'value'): Place {
    const { child, complete } = this.#find(path)
    // A path that does not exist is reported at the key of what should hold it.
    return this.#at(of === 'key' || !complete ? child.key : child.read.offset)
  }

  placeIn(path: Path, at: number): Place {
    const { child } = this.#find(path)
    const start = child.read.textAt
    const simple = start !== undefined && typeof child.read.value === 'string' && this.text.startsWith(child.read.value, start)
    return this.#at(simple ? start + at : child.read.offset)
  }

  has(path: Path): boolean {
    return this.#find(path).complete
  }

  #find(path: Path): { readonly child: Child; readonly complete: boolean } {
    let child: Child = { key: this.#root.offset, read: this.#root }
    for (const step of path) {
      const next = child.read.children?.get(String(step))
      if (next === undefined) return { child, complete: false }
      child = next
    }
    return { child, complete: true }
  }
}

// ---------------------------------------------------------------------------------------------------------------- findings

/** What could not be read. */
export function broken(file: string, findings: readonly Finding[], text = ''): Yaml {
  const place = (): Place => ({ file, line: 1, col: 1 })
  return { file, text, value: undefined, findings, size: 0, place, placeIn: place, has: () => false }
}

function tooLarge(file: string): Finding {
  return found('YAML-TOO-LARGE', { file, line: 1, col: 1 }, '', `The file is larger than ${LIMITS.fileBytes} bytes.`)
}

/** The library's codes -> a sentence and the mend; what is not listed keeps the library's words. */
const SYNTAX: Readonly<Record<string, readonly [Code, string, string?]>> = {
  TAB_AS_INDENT: ['YAML-TAB', 'A tab is used for indentation.'],
  BAD_INDENT: ['YAML-SYNTAX', 'The indentation does not fit what stands above, or a bracket is not closed.', 'Indent with two spaces per level and close every [ and {.'],
  MISSING_CHAR: ['YAML-SYNTAX', 'A character is missing here, mostly a closing quote or bracket, or the space after a colon.', 'Close it, or put the text in quotes.'],
  BLOCK_AS_IMPLICIT_KEY: ['YAML-SYNTAX', 'A colon with a space follows a value that is not in quotes.', 'Put the value in quotes.'],
  BAD_SCALAR_START: ['YAML-SYNTAX', 'A value cannot start with this character.', 'Put the value in quotes.'],
  MULTIPLE_DOCS: ['YAML-SYNTAX', 'The file holds several documents.', 'Remove the line "---", and with it what belongs to another file.'],
  MULTILINE_IMPLICIT_KEY: ['YAML-SYNTAX', 'A key runs over several lines; mostly a colon is missing in the line above.', 'Write `key: value` on one line.'],
  MISSING_COLON: ['YAML-SYNTAX', 'A colon is missing here.', 'Write `key: value`.'],
  TAG_RESOLVE_FAILED: ['YAML-SYNTAX', 'Tags such as !name are not part of these files.', 'Remove the tag, or put the value in quotes.'],
}

function syntaxFinding(code: string, message: string, place: Place): Finding {
  const known = SYNTAX[code]
  if (known === undefined) return found('YAML-SYNTAX', place, '', `The text is no YAML here: ${message.split('\n')[0]}.`)
  return known[2] === undefined ? found(known[0], place, '', known[1]) : found(known[0], place, '', known[1], known[2])
}

function firstBadByte(bytes: Buffer): { readonly line: number; readonly col: number } {
  let line = 1
  let start = 0
  for (let end = 0; end <= bytes.length; end++) {
    if (end < bytes.length && bytes[end] !== 0x0a) continue
    const text = bytes.subarray(start, end).toString('utf8')
    const bad = text.indexOf('\uFFFD')
    if (bad >= 0) return { line, col: bad + 1 }
    line += 1
    start = end + 1
  }
  return { line: 1, col: 1 }
}
