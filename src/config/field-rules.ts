/**
 * What one output does with the fields of one stream: `keep:`, `fields:` and the output-wide `fields:` -> FieldRule[].
 * Every way of naming a field meets here, so that each field of the output has exactly one rule.
 */
import type { Branch, FieldRule, Keyed, Point, Stream, Target, Transform, Zone } from '../domain/policy.ts'
import { classificationOf, type FieldShape, type MessageShape } from '../domain/schema.ts'
import { transformedField } from '../minimise/known.ts'
import { RANGES } from '../minimise/number.ts'
import { TRANSFORMS, type Subject } from '../minimise/transforms.ts'
import { pathOf } from '../minimise/tree.ts'
import { kindOf, type ValueKind } from '../minimise/value.ts'
import type { Findings, Where } from './findings.ts'
import { suggestion } from './nearest.ts'
import type { ChainText, KeyedText, Named, OutputStreamText, RuleText, TransformText, TreatmentText } from './rules-file.ts'
import { fieldNames, partsOf } from './streams.ts'
import { placedAt, type Path } from './yaml.ts'

export interface FieldRuleInput {
  readonly output: string
  readonly stream: Stream
  /** The output-wide `fields:`. */
  readonly wide: Named<RuleText>
  readonly own: OutputStreamText
  readonly zones: ReadonlyMap<string, Zone>
}

/** @param origin receives where each rule stands, for later checks */
export function readFieldRules(input: FieldRuleInput, findings: Findings, origin: Map<object, Where>): FieldRule[] {
  const rules: FieldRule[] = []
  for (const { name, text, where } of namedFields(input, findings)) {
    const target = targetOf(name, input.stream, where, findings)
    if (target === undefined) continue
    const rule = readRule(name, text, target, input, where, findings)
    if (rule === undefined) continue
    origin.set(rule, { ...where, of: 'key' })
    rules.push(rule)
  }
  checkOverlaps(rules, findings, origin)
  return rules.sort((a, b) => compareNumbers(numbersOf(a.target, input.stream), numbersOf(b.target, input.stream)))
}

/** True when the stream has a point or field of this name. */
export function hasTarget(name: string, stream: Stream): boolean {
  return stream.points.some((point) => point.name === name) || pathOf(stream.message, name) !== undefined
}

// ------------------------------------------------------------------------------------------------------------ what is named

interface NamedField {
  readonly name: string
  readonly text: RuleText
  readonly where: Where
}

/** A stream's own entry wins over the output-wide one, and anything written out wins over what `not_personal` stands for. */
function namedFields(input: FieldRuleInput, findings: Findings): NamedField[] {
  const { own, wide, stream, output } = input
  const base: Path = ['outputs', output, 'streams', stream.id]
  const fields = new Map<string, NamedField>()
  for (const [name, text] of Object.entries(own.fields ?? {})) {
    fields.set(name, { name, text, where: { path: [...base, 'fields', name] } })
  }
  if (Array.isArray(own.keep)) {
    for (const [index, name] of (own.keep as readonly string[]).entries()) {
      const where = { path: [...base, 'fields', name], text: [...base, 'keep', index] }
      if (fields.has(name)) findings.add('FIELD-OVERLAP', where, `"${name}" stands in \`keep\` and in \`fields\`.`, 'Remove one of the two.')
      else fields.set(name, { name, text: 'keep', where })
    }
  }
  for (const [name, text] of Object.entries(wide)) {
    if (!fields.has(name) && hasTarget(name, stream)) fields.set(name, { name, text, where: { path: [...base, 'fields', name], text: ['outputs', output, 'fields', name] } })
  }
  if (own.keep === 'not_personal') {
    const taken = [...fields.keys()]
    const plain = notPersonal(stream)
    if (plain === undefined) findings.add('LIMIT', { path: [...base, 'keep'] }, `The message ${stream.message.name} has more fields than \`not_personal\` can stand for, because messages in it contain one another.`, 'Name the fields in a list, or under `fields:`.')
    for (const name of plain ?? []) {
      const written = taken.some((other) => other === name || other.startsWith(`${name}.`) || name.startsWith(`${other}.`))
      if (!written) fields.set(name, { name, text: 'keep', where: { path: [...base, 'fields', name], text: [...base, 'keep'] } })
    }
  }
  return [...fields.values()]
}

/**
 * Paths of all fields that the schema classifies `personal: never`, down to the leaves. Parts of points and of the time are
 * reached only through those; other members of the stream's oneof never occur. Undefined when they are too many to list.
 */
export function notPersonal(stream: Stream): readonly string[] | undefined {
  if (!notPersonalByStream.has(stream)) notPersonalByStream.set(stream, findNotPersonal(stream))
  return notPersonalByStream.get(stream)
}

const notPersonalByStream = new WeakMap<Stream, readonly string[] | undefined>()

function findNotPersonal(stream: Stream): string[] | undefined {
  const parts = new Set(stream.points.flatMap(partsOf))
  const found: string[] = []
  let steps = 0
  const walk = (message: MessageShape, prefix: string, above: readonly MessageShape[]): void => {
    for (const field of message.fields) {
      steps += 1
      if (steps > MOST_STEPS) return
      const path = prefix + field.name
      if (parts.has(path) || field.type === 'group' || !isInCase(path, field, message, stream)) continue
      const plain = field.message === undefined || field.map || field.message.name.startsWith('google.protobuf.')
      if (plain) {
        if (field.classified?.personal === 'never') found.push(path)
        continue
      }
      // A message that says of itself that it is personal is not opened up by what it holds.
      if (field.classified !== undefined && field.classified.personal !== 'never') continue
      if (above.includes(field.message as MessageShape) || above.length >= DEPTH) continue
      walk(field.message as MessageShape, `${path}.`, [...above, field.message as MessageShape])
    }
  }
  walk(stream.message, '', [stream.message])
  return steps > MOST_STEPS ? undefined : found
}

/** Fields looked at for `not_personal`: messages that contain one another would go on and on. */
const MOST_STEPS = 20_000

/** Deeper fields have to be named one by one. */
const DEPTH = 8

function isInCase(path: string, field: FieldShape, message: MessageShape, stream: Stream): boolean {
  if (stream.case === undefined || field.oneof === undefined) return true
  if (stream.case === path || stream.case.startsWith(`${path}.`)) return true
  const rival = pathOf(stream.message, stream.case)?.find((one) => message.byNumber.get(one.number) === one)
  return rival?.oneof !== field.oneof
}

// ------------------------------------------------------------------------------------------------------------------ targets

function targetOf(name: string, stream: Stream, where: Where, findings: Findings): Target | undefined {
  const point = stream.points.find((one) => one.name === name)
  if (point !== undefined) return { kind: 'point', point }
  const fields = pathOf(stream.message, name)
  const atKey: Where = { ...where, of: 'key' }
  if (fields === undefined) {
    findings.add('UNKNOWN-FIELD', atKey, `The message ${stream.message.name} has no field "${name}", and the stream "${stream.id}" no point of that name.`, suggestion(name, [...stream.points.map((one) => one.name), ...fieldNames(stream.message)]))
    return undefined
  }
  const owner = stream.points.find((one) => partsOf(one).some((part) => part === name || part.startsWith(`${name}.`)))
  if (owner !== undefined) {
    findings.add('PART-ADDRESSED', atKey, `"${name}" is part of the point "${owner.name}" and can be addressed only through it.`, `Write \`${owner.name}: { grid: 1km }\`, or remove the point.`)
    return undefined
  }
  if (stream.time?.unit === 'timestamp' && name.startsWith(`${stream.time.field}.`)) {
    findings.add('PART-ADDRESSED', atKey, `"${name}" is part of the stream's time "${stream.time.field}" and can be addressed only through it.`, `Write \`${stream.time.field}: { round_time: 15m }\`.`)
    return undefined
  }
  if (fields.some((field) => field.type === 'group')) {
    findings.add('TRANSFORM-TYPE', atKey, `"${name}" is a proto2 group, which never leaves.`, 'Remove the line.')
    return undefined
  }
  return { kind: 'field', fields }
}

/** One rule per field: neither a message and a field inside it, nor the same field twice. */
function checkOverlaps(rules: readonly FieldRule[], findings: Findings, origin: ReadonlyMap<object, Where>): void {
  const paths = new Set(rules.map((rule) => rule.path))
  for (const rule of rules) {
    const parts = rule.path.split('.')
    for (let length = 1; length < parts.length; length++) {
      const above = parts.slice(0, length).join('.')
      const where = origin.get(rule)
      if (rule.target.kind === 'field' && paths.has(above) && where !== undefined) {
        findings.add('FIELD-OVERLAP', { ...where, of: 'key' }, `"${rule.path}" lies inside "${above}", which has a rule of its own.`, `Remove the rule for "${above}" and name its fields one by one.`)
      }
    }
  }
}

function numbersOf(target: Target, stream: Stream): number[] {
  const fields = target.kind === 'field' ? target.fields : (pathOf(stream.message, target.point.lat) ?? [])
  return fields.map((field) => field.number)
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < Math.min(a.length, b.length); at++) if (a[at] !== b[at]) return a[at]! - b[at]!
  return a.length - b.length
}

// ------------------------------------------------------------------------------------------------------------------- rules

function readRule(name: string, text: RuleText, target: Target, input: FieldRuleInput, where: Where, findings: Findings): FieldRule | undefined {
  const at = placedAt(findings.yaml, findings.yaml.place(where.text ?? where.path, 'key'))
  if (isPair(text)) {
    const consent = readBranch(name, text.consent, target, input, step(where, 'consent'), findings)
    const noConsent = readBranch(name, text.no_consent, target, input, step(where, 'no_consent'), findings)
    return consent === undefined || noConsent === undefined ? undefined : { path: name, target, consent, noConsent, pair: true, ...at }
  }
  const branch = readBranch(name, text, target, input, where, findings)
  return branch === undefined ? undefined : { path: name, target, consent: branch, noConsent: branch, pair: false, ...at }
}

function isPair(text: RuleText): text is { readonly consent: TreatmentText; readonly no_consent: TreatmentText } {
  return typeof text === 'object' && 'consent' in text
}

function isKeyed(text: TreatmentText): text is KeyedText {
  return typeof text === 'object' && 'by' in text
}

export function step(where: Where, ...more: (string | number)[]): Where {
  return { path: [...where.path, ...more], text: [...(where.text ?? where.path), ...more] }
}

function readBranch(name: string, text: TreatmentText, target: Target, input: FieldRuleInput, where: Where, findings: Findings): Branch | undefined {
  if (isKeyed(text)) {
    const keyed = readKeyed(name, text, target, input.stream, where, findings)
    return keyed === undefined ? undefined : { kind: 'keyed', keyed }
  }
  const subject = subjectOf(name, target, input)
  const chain = readChain(text, subject, where, findings)
  return chain === undefined ? undefined : { kind: 'chain', chain }
}

function subjectOf(name: string, target: Target, { stream, zones }: FieldRuleInput): Subject {
  if (target.kind === 'point') {
    const { kind, dt } = target.point
    const times = dt === undefined ? undefined : pathOf(stream.message, dt)?.at(-1)
    return { field: undefined, point: true, track: kind === 'delta', timeUnit: undefined, path: name, zones, ...(times === undefined ? {} : { dt: times }) }
  }
  const leaf = target.fields[target.fields.length - 1] as FieldShape
  return { field: transformedField(leaf), point: false, timeUnit: stream.time?.field === name ? stream.time.unit : undefined, path: name }
}

/** The transforms of a chain with checked arguments; undefined when one of them is wrong. */
function readChain(text: ChainText, subject: Subject, where: Where, findings: Findings): Transform[] | undefined {
  const list = Array.isArray(text) ? (text as readonly TransformText[]) : [text as TransformText]
  const chain: Transform[] = []
  for (const [index, one] of list.entries()) {
    const transform = readTransform(one, subject, Array.isArray(text) ? step(where, index) : where, findings)
    if (transform === undefined) return undefined
    chain.push(transform)
  }
  return chain
}

function readTransform(text: TransformText, subject: Subject, where: Where, findings: Findings): Transform | undefined {
  const [name, argument] = typeof text === 'string' ? [text, undefined] : (Object.entries(text)[0] as [string, unknown])
  const spec = TRANSFORMS.get(name)
  if (spec === undefined) return undefined
  const atArgument = argument === undefined ? where : step(where, name)
  const kind = subject.point ? 'point' : kindOf(subject.field as FieldShape)
  if (!spec.fits.includes(kind)) {
    findings.add('TRANSFORM-TYPE', argument === undefined ? where : { ...atArgument, of: 'key' }, `"${name}" does not fit "${subject.path}", which is ${KIND_WORDS[kind]}.`, `These fit: ${fitting(kind).join(', ')}.`)
    return undefined
  }
  const read = spec.read(argument, subject)
  if ('params' in read) return { name, params: read.params }
  const { problem } = read
  findings.add('TRANSFORM-ARGUMENT', atArgument, `"${name}" on "${subject.path}"${problem.startsWith('"') ? ':' : ''} ${problem}${problem.endsWith('…') ? '' : '.'}`, read.mend ?? `Example: \`${spec.example}\`.`)
  return undefined
}

const KIND_WORDS: Readonly<Record<ValueKind | 'point', string>> = {
  integer: 'a whole number', big: 'a 64-bit whole number', float: 'a floating point number', bool: 'true or false', string: 'a text', bytes: 'bytes', enum: 'an enum',
  message: 'a message', point: 'a position',
}

function fitting(kind: ValueKind | 'point'): string[] {
  return [...TRANSFORMS.values()].filter((spec) => spec.fits.includes(kind)).map((spec) => spec.name)
}

// -------------------------------------------------------------------------------------------------------- key-value lists

function readKeyed(name: string, text: KeyedText, target: Target, stream: Stream, where: Where, findings: Findings): Keyed | undefined {
  const field = target.kind === 'field' ? target.fields[target.fields.length - 1] : undefined
  const message = field?.message
  if (field === undefined || message === undefined || !field.repeated || field.map) {
    findings.add('KEYED', where, `"${name}" is no repeated message, so it has no keys.`, target.kind === 'point' ? 'Write a transform such as { grid: 1km }.' : undefined)
    return undefined
  }
  const call = /^j1939_pgn\((\w+)\)$/.exec(text.by)
  const member = call?.[1] ?? text.by
  const key = message.byName.get(member)
  if (key === undefined || key.repeated || !['integer', 'enum'].includes(kindOf(key))) {
    const numbers = message.fields.filter((one) => !one.repeated && ['integer', 'enum'].includes(kindOf(one))).map((one) => one.name)
    findings.add('KEYED', { ...step(where, 'by'), at: text.by.indexOf(member, call === null ? 0 : 'j1939_pgn('.length) }, `The message ${message.name} has no whole number "${member}" that could be the key.`, suggestion(member, numbers))
    return undefined
  }
  const before = findings.list.length
  const withMembers = readMembers(text.with ?? {}, message, name, stream, step(where, 'with'), findings)
  const only = new Map<number, ReadonlyMap<string, readonly Transform[]>>()
  const written = new Map<number, string>()
  for (const [id, members] of Object.entries(text.only)) {
    const number = Number(id)
    const at = step(where, 'only', id)
    const problem = call === null ? keyProblem(number, key) : pgnProblem(number)
    const twin = written.get(number)
    if (problem !== undefined) findings.add('KEYED', { ...at, of: 'key' }, `"${id}" ${problem.sentence}.`, problem.mend)
    if (twin !== undefined) findings.add('DUPLICATE', { ...at, of: 'key' }, `"${id}" and "${twin}" are the same key, ${number}.`, 'Merge the two.')
    written.set(number, id)
    only.set(number, readMembers(members, message, name, stream, at, findings))
  }
  if (findings.list.length > before) return undefined
  writtenByOnly.set(only, written)
  return { by: { member, fn: call === null ? 'none' : 'j1939_pgn' }, with: withMembers, only }
}

/** How the file writes a key of a list: 61444 may stand as 0xF004. */
export function keyAsWritten({ only }: Keyed, key: number): string {
  return writtenByOnly.get(only)?.get(key) ?? String(key)
}

const writtenByOnly = new WeakMap<object, ReadonlyMap<number, string>>()

interface KeyProblem {
  readonly sentence: string
  readonly mend: string
}

function keyProblem(number: number, key: FieldShape): KeyProblem | undefined {
  const [, most] = RANGES[key.type] ?? [0n, 0n]
  return number > Number(most) ? { sentence: `is more than the key "${key.name}" can hold`, mend: `Its largest value is ${most}.` } : undefined
}

/** [SAE J1939-21] 18 bits; the low byte of a PDU1 group (format below 240) is the destination of each frame and no part of the number. */
function pgnProblem(number: number): KeyProblem | undefined {
  if (number > 0x3_ffff) return { sentence: 'is no PGN: these have 18 bits', mend: 'Write the PGN, not the identifier of a frame.' }
  const isAddressed = ((number >> 8) & 0xff) < 240 && (number & 0xff) !== 0
  return isAddressed ? { sentence: 'is no PGN: its low byte would be the address that a frame goes to', mend: `Write ${number & ~0xff}.` } : undefined
}

function readMembers(text: Named<ChainText>, message: MessageShape, list: string, stream: Stream, where: Where, findings: Findings): ReadonlyMap<string, readonly Transform[]> {
  const members = new Map<string, readonly Transform[]>()
  for (const [name, chainText] of Object.entries(text)) {
    const field = message.byName.get(name)
    const at = step(where, name)
    if (field === undefined) {
      findings.add('UNKNOWN-FIELD', { ...at, of: 'key' }, `The message ${message.name} has no field "${name}".`, suggestion(name, [...message.byName.keys()]))
      continue
    }
    const path = `${list}.${name}`
    const chain = readChain(chainText, { field: transformedField(field), point: false, timeUnit: stream.time?.field === path ? stream.time.unit : undefined, path }, at, findings)
    if (chain !== undefined) members.set(name, chain)
  }
  return members
}

// ---------------------------------------------------------------------------------------------------------------- exposure

/** One leaf that leaves, under which transforms, and what it says about people. */
export interface Exposed {
  readonly path: string
  readonly field: FieldShape | undefined
  readonly point: Point | undefined
  readonly chain: readonly Transform[]
  readonly personal: 'never' | 'linkable' | 'always'
  readonly additional: boolean
  readonly identifies: readonly string[]
  readonly category: string
  readonly unit: string
  readonly scale: number
}

/**
 * Everything that can leave through one branch of a rule. A kept message stands for all its leaves; what the messages above a
 * leaf say about people holds for the leaf too.
 */
export function exposed(rule: FieldRule, branch: Branch, stream: Stream): readonly Exposed[] {
  // Every check and lint asks for it; a branch belongs to one rule.
  let known = exposedByBranch.get(branch)
  if (known === undefined) exposedByBranch.set(branch, (known = expose(rule, branch, stream)))
  return known
}

const exposedByBranch = new WeakMap<Branch, readonly Exposed[]>()

function expose(rule: FieldRule, branch: Branch, stream: Stream): Exposed[] {
  if (branch.kind === 'keyed') {
    const above = rule.target.kind === 'field' ? rule.target.fields : []
    const message = above[above.length - 1]?.message
    const leaves: Exposed[] = []
    for (const members of [branch.keyed.with, ...branch.keyed.only.values()]) {
      for (const [name, chain] of members) {
        const field = message?.byName.get(name)
        if (field !== undefined && leavesField(chain)) leaves.push(...leavesOf([...above, field], `${rule.path}.${name}`, chain))
      }
    }
    return leaves
  }
  if (!leavesField(branch.chain)) return []
  if (rule.target.kind === 'field') return leavesOf(rule.target.fields, rule.path, branch.chain)
  const { point } = rule.target
  const parts = partsOf(point).flatMap((part) => {
    const fields = pathOf(stream.message, part)
    return fields === undefined ? [] : [leafOf(fields, part, branch.chain)]
  })
  const personal = parts.some((part) => part.personal === 'always') ? 'always' : parts.some((part) => part.personal === 'linkable') ? 'linkable' : 'never'
  return [{
    path: rule.path, field: undefined, point, chain: branch.chain, personal, additional: parts.some((part) => part.additional),
    identifies: parts.flatMap((part) => part.identifies), category: 'position', unit: 'deg', scale: point.scale,
  }]
}

function leavesField(chain: readonly Transform[]): boolean {
  return chain.length > 0 && !chain.some((one) => one.name === 'drop')
}

function leavesOf(fields: readonly FieldShape[], path: string, chain: readonly Transform[], seen: Map<string, number> = new Map()): Exposed[] {
  const leaf = fields[fields.length - 1] as FieldShape
  const inner = leaf.message
  if (inner === undefined || leaf.map || fields.length > DEPTH || fields.slice(0, -1).some((field) => field.message === inner) || (inner.name.startsWith('google.protobuf.') && leaf.classified !== undefined)) {
    return [leafOf(fields, path, chain)]
  }
  // Messages that contain one another have more paths than can be counted. What lies in one says the same of people wherever what is above says the same.
  const above = new Set(fields.flatMap(({ classified: one }) => (one === undefined ? [] : [`${one.personal} ${one.class} ${one.subject}`])))
  const key = `${inner.name}: ${[...above].sort().join()}`
  const times = seen.get(key) ?? 0
  if (times >= ALIKE) return []
  seen.set(key, times + 1)
  return inner.fields.flatMap((field) => leavesOf([...fields, field], `${path}.${field.name}`, chain, seen))
}

/** How often a message is looked into under messages that say the same of people. */
const ALIKE = 32

function leafOf(fields: readonly FieldShape[], path: string, chain: readonly Transform[]): Exposed {
  const leaf = fields[fields.length - 1] as FieldShape
  const own = classificationOf(leaf)
  const all = [own, ...fields.slice(0, -1).flatMap((field) => (field.classified === undefined ? [] : [field.classified]))]
  const personal = all.some((one) => one.personal === 'always') ? 'always' : all.some((one) => one.personal === 'linkable') ? 'linkable' : 'never'
  return {
    path, field: leaf, point: undefined, chain, personal, additional: all.some((one) => one.class === 'additional'),
    identifies: all.map((one) => one.subject).filter((one) => one !== 'none'), category: own.category, unit: own.unit, scale: own.scale,
  }
}
