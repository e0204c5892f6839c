/**
 * Why something leaves or not, in words: for each output the gate and its ground, for each field what becomes of it and which line of
 * the rules says so. Shared by the command that explains a file and by what looks at live traffic.
 */
import { basisFor, Gate, type GateState } from './domain/basis.ts'
import type { Decision } from './domain/consent.ts'
import { LIMITS } from './domain/limits.ts'
import type { Basis, BasisEntry, Branch, FieldRule, Output, OutputStream, Policy, Stream, Transform } from './domain/policy.ts'
import { classificationOf, type FieldShape, type MessageShape } from './domain/schema.ts'
import { verdictName } from './domain/verdict.ts'
import type { Plan } from './minimise/plan.ts'
import { isDrop, textOfChain } from './minimise/transforms.ts'
import type { OutputPerformance } from './rehearsal.ts'

export interface Pair {
  readonly output: Output
  readonly source: OutputStream
}

export interface Standing {
  readonly pair: Pair
  readonly gate: GateState
  readonly basis: BasisEntry | undefined
  readonly plan: Plan
  readonly why: string
}

/** Why most fields do not leave. */
export const UNNAMED = 'the output does not name it'

export interface PlanLine extends Line {
  readonly action: string
  readonly why: string
}

export function planLines({ pair: { source }, gate, basis, plan }: Standing, decision: Readonly<Decision>): PlanLine[] {
  return linesOf(source.stream, [source]).map((line): PlanLine => {
    const rule = ruleAt(source, line.path)
    if (rule === undefined) return { ...line, rule, action: 'drop', why: UNNAMED }
    const branch = gate === Gate.yes ? rule.consent : rule.noConsent
    const at = rule.file === undefined ? `line ${rule.line}` : `line ${rule.line} of ${rule.file}`
    if (gate === Gate.closed) return { ...line, rule, action: 'drop', why: 'the output is closed' }
    const barred = !plan.variant.operatorFields && line.fields.some((field) => IDENTIFIES.has(classificationOf(field).subject))
    if (barred) return { ...line, rule, action: 'drop', why: barredText(basis, decision) }
    const action = actionOf(branch)
    const why = !rule.pair ? at : gate === Gate.yes ? `${at}, with the operator's yes` : `${at}, without the operator's yes`
    return { ...line, rule, action, why }
  })
}

function barredText(basis: BasisEntry | undefined, decision: Readonly<Decision>): string {
  if (basis?.basis === 'contract') return 'it identifies an operator, which no contract covers'
  return decision.collection ? 'it identifies an operator, and nobody is known' : 'it identifies an operator, and the device setting is off'
}

/** Why an output is open or closed, in one sentence. */
export function gateText(output: Output, state: GateState, basis: BasisEntry | undefined, decision: Readonly<Decision>, country: string | undefined): string {
  const place = country ?? 'an unknown country'
  if (basis === undefined) return `closed: ${output.purpose.id} is not listed for ${place}`
  const word = basis.basis.replaceAll('_', ' ')
  const bit = 1 << output.purpose.index
  if (state === Gate.yes) return `open on ${word} in ${place}, with the operator's yes`
  if (state === Gate.open) return `open on ${word} in ${place}, without a yes of the operator`
  if (basis.basis === 'forbidden') return `closed: ${output.purpose.id} is forbidden in ${place}`
  if (!decision.known) return `closed: ${word} in ${place}, and nobody is known`
  if ((decision.no & bit) !== 0) return `closed: ${word} in ${place}, and the operator said no`
  if (basis.basis === 'opt_out') return `closed: ${word} in ${place}, and the operator was not given the notice`
  return `closed: ${word} in ${place}, and there is no valid yes of the operator`
}

export const GATES: Readonly<Record<GateState, string>> = { [Gate.closed]: 'closed', [Gate.open]: 'open', [Gate.yes]: 'yes' }

export interface Change {
  readonly path: string
  readonly before: unknown
  readonly after: unknown
  readonly action: string
  readonly why: string
}

export function changes(lines: readonly PlanLine[], before: Readonly<Record<string, unknown>>, after: Readonly<Record<string, unknown>>, result: OutputPerformance): Change[] {
  return lines.flatMap((line): Change[] => {
    const [from, to] = [valueAt(before, line.path), valueAt(after, line.path)]
    if (from === undefined && to === undefined) return []
    const lost = result.sent !== undefined && to === undefined && line.action !== 'drop'
    const action = result.sent === undefined && line.action !== 'drop' ? 'not sent' : line.action
    const why = result.sent === undefined && line.action !== 'drop' ? verdictName(result.code) : lost ? `${line.why}; ${LOST}` : line.why
    return [{ path: line.path, before: from ?? null, after: to ?? null, action, why }]
  })
}

const LOST = 'absent, the default, or the transform could not be applied'

function valueAt(message: Readonly<Record<string, unknown>>, path: string): unknown {
  if (Object.hasOwn(message, path)) return message[path]
  let here: unknown = message
  for (const step of path.split('.')) here = typeof here === 'object' && here !== null ? (here as Record<string, unknown>)[step] : undefined
  return here
}

export function verdictOf(result: OutputPerformance): string {
  return result.code === 0 ? 'sent' : verdictName(result.code)
}

/**
 * Whether what an output makes of a message can tell what somebody said, or that somebody is there: then it is shown only to those who
 * may read consent. False only where every person, known or not, from whatever country, gets the same.
 */
export function hangsOnPerson(policy: Policy, output: Output): boolean {
  const bases = basesAnywhere(policy, output)
  if (bases.some((basis) => basis === undefined || !NEEDS_NOBODY.has(basis))) return true
  const isContract = bases.every((basis) => basis === 'contract')
  return output.streams.some((source) => source.fields.some((rule) => rule.pair || hasSession(rule.consent) || (!isContract && namesPerson(rule))))
}

/** Bases on which nothing that a person says closes an output. */
const NEEDS_NOBODY: ReadonlySet<Basis> = new Set(['contract', 'legal_obligation', 'vital_interest', 'public_interest'])

/** The basis in every place that the table names; undefined = closed there. A person's own country may be any of them. */
function basesAnywhere({ basis }: Policy, output: Output): (Basis | undefined)[] {
  if (output.basis !== undefined) return [output.basis.basis]
  return [...basis.entries].map(([place, row]) => (COUNTRY.test(place) ? basisFor(basis, place, output.purpose.id)?.basis : row.get(output.purpose.id)?.basis))
}

const COUNTRY = /^[A-Z]{2}(-[A-Z0-9]{1,3})?$/

function namesPerson({ target }: FieldRule): boolean {
  return target.kind === 'field' && target.fields.some((field) => IDENTIFIES.has(classificationOf(field).subject) || (field.message !== undefined && field === target.fields.at(-1)))
}

/** A pseudonym of the operator session is there only while somebody is signed on. */
function hasSession(branch: Branch): boolean {
  const chains = branch.kind === 'chain' ? [branch.chain] : [branch.keyed.with, ...branch.keyed.only.values()].flatMap((members) => [...members.values()])
  return chains.some((chain) => chain.some(({ params }) => params['rotate'] === 'session'))
}

const IDENTIFIES: ReadonlySet<string> = new Set(['operator', 'session'])

// ---------------------------------------------------------------------------------------------------------------- fields

/** What a table has a line for: a field, a point, or a message of which parts are named. */
export interface Line {
  readonly path: string
  readonly text: string
  readonly rule: FieldRule | undefined
  readonly fields: readonly FieldShape[]
}

/** Lines of a stream in field-number order; a point stands where its latitude does. Messages are opened where a rule names what is inside. */
export function linesOf(stream: Stream, sources: readonly OutputStream[]): Line[] {
  const points = stream.points.map((point) => ({ point, parts: [point.lat, point.lon, point.dlat, point.dlon, point.dt].filter((part) => part !== undefined) }))
  const named = new Set(sources.flatMap((source) => source.fields.map((rule) => rule.path)))
  const lines: Line[] = []
  const walk = (message: MessageShape, above: readonly FieldShape[], prefix: string): void => {
    for (const field of message.fields) {
      const path = prefix + field.name
      const fields = [...above, field]
      const owner = points.find(({ parts }) => parts.includes(path))
      if (owner !== undefined) {
        if (path === owner.point.lat) lines.push({ path: owner.point.name, text: 'position, additional, linkable', rule: undefined, fields })
        continue
      }
      const opened = [...named].some((name) => name.startsWith(`${path}.`)) || points.some(({ parts }) => parts.some((part) => part.startsWith(`${path}.`)))
      if (opened && field.message !== undefined && !field.repeated && fields.length <= LIMITS.depth) walk(field.message, fields, `${path}.`)
      else lines.push({ path, text: classText(field), rule: undefined, fields })
    }
  }
  walk(stream.message, [], '')
  return lines
}

function classText(field: FieldShape): string {
  if (field.classified === undefined) return 'not classified: additional, always'
  const { category, class: level, personal, subject } = classificationOf(field)
  return [category, level, personal, ...(subject === 'none' ? [] : [`names ${subject === 'operator' ? 'an' : 'a'} ${subject}`])].join(', ')
}

export function actionOf(branch: Branch): string {
  if (branch.kind === 'chain') return isDrop(branch.chain) ? 'drop' : textOfChain(branch.chain)
  const { by, with: every, only } = branch.keyed
  const members = (list: ReadonlyMap<string, readonly Transform[]>): string => [...list].map(([name, chain]) => `${name} ${isDrop(chain) ? 'drop' : textOfChain(chain)}`).join(', ')
  const keys = [...only].slice(0, 8).map(([key, own]) => [key, ...(own.size > 0 ? [members(own)] : [])].join(' '))
  return `by ${by.fn === 'none' ? by.member : `${by.fn}(${by.member})`}${every.size > 0 ? `, each with ${members(every)}` : ''}; only ${keys.join('; ')}${only.size > 8 ? '; …' : ''}`
}

export function ruleAt(source: OutputStream, path: string): FieldRule | undefined {
  return source.fields.find((rule) => rule.path === path)
}
