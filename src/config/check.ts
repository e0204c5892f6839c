/**
 * What rules mean together: who may get what on which ground (rules-language 1, 3 and 4). Everything here is a rule: nothing
 * waives it. Names, types and arguments are already right when these checks run.
 */
import { strictness, Strictness } from '../domain/basis.ts'
import type { BasisEntry, FieldRule, Output, OutputStream, Policy } from '../domain/policy.ts'
import { classificationOf } from '../domain/schema.ts'
import { isBranchCoarser, isDrop, isGeneralising } from '../minimise/transforms.ts'
import { pathOf } from '../minimise/tree.ts'
import { kindOf } from '../minimise/value.ts'
import { exposed, step, type Exposed } from './field-rules.ts'
import type { Findings, Where } from './findings.ts'
import type { LegalBasis } from './legal-basis.ts'
import { suggestion } from './nearest.ts'
import type { RulesFile } from './rules-file.ts'
import { partsOf } from './streams.ts'
import { overlap, placeholdersOf, reservedLevel, topicProblem, topicShape } from './topics.ts'

/** A resolved rules file with the places of its parts. */
export interface Source {
  readonly policy: Policy
  readonly rules: RulesFile
  readonly basis: LegalBasis
  /** Output, OutputStream or FieldRule -> where it stands. */
  readonly origin: ReadonlyMap<object, Where>
  readonly findings: Findings
  readonly bridges: ReadonlyMap<string, { readonly recipient: string }> | undefined
}

export function checkPolicy(source: Source): void {
  for (const output of source.policy.outputs) {
    checkTopic(source, output)
    checkReach(source, output)
    for (const one of output.streams) {
      checkWhen(source, one)
      for (const rule of one.fields) checkRule(source, output, one, rule)
    }
  }
  checkTopicsApart(source)
  checkGrids(source)
}

export function whereOf(source: Source, part: object): Where {
  return source.origin.get(part) ?? { path: [] }
}

/** Every basis an output can have in some country, with the place that says so. */
export function basesOf(policy: Policy, output: Output): readonly PlacedBasis[] {
  let known = basesByOutput.get(output)
  if (known === undefined) basesByOutput.set(output, (known = findBases(policy, output)))
  return known
}

export interface PlacedBasis {
  /** Key of the table; empty for the output's own basis. */
  readonly place: string
  readonly entry: BasisEntry
}

const basesByOutput = new WeakMap<Output, readonly PlacedBasis[]>()

function findBases(policy: Policy, output: Output): readonly PlacedBasis[] {
  if (output.basis !== undefined) return [{ place: '', entry: output.basis }]
  return [...policy.basis.entries].flatMap(([place, row]) => {
    const entry = row.get(output.purpose.id)
    return entry === undefined ? [] : [{ place, entry }]
  })
}

/** True for a basis on which an output is open without the operator's yes and which is not exempt from 4.3. */
function opensWithoutYes(entry: BasisEntry): boolean {
  return strictness(entry.basis) < Strictness.consent && entry.basis !== 'legal_obligation' && entry.basis !== 'vital_interest'
}

// ------------------------------------------------------------------------------------------------------------------ fields

function checkRule(source: Source, output: Output, one: OutputStream, rule: FieldRule): void {
  const where = whereOf(source, rule)
  const { findings } = source
  if (rule.pair && !isBranchCoarser(rule.noConsent, rule.consent)) {
    findings.add('PAIR-NOT-COARSER', step(where, 'no_consent'), `Without consent "${rule.path}" would be finer than with it, or the two cannot be compared.`)
  }
  const bases = basesOf(source.policy, output)
  const withYes = exposed(rule, rule.consent, one.stream)
  const leaves = rule.pair ? [...withYes, ...exposed(rule, rule.noConsent, one.stream)] : withYes
  const contract = bases.find(({ entry }) => entry.basis === 'contract')
  const person = leaves.find((leaf) => leaf.identifies.includes('operator') || leaf.identifies.includes('session'))
  if (contract !== undefined && person !== undefined) {
    findings.add('CONTRACT-OPERATOR', where, `"${person.path}" identifies an operator, and "${output.id}" rests on a contract${contract.place === '' ? '' : ` in ${contract.place}`}.`)
    return
  }
  const open = bases.find(({ entry }) => opensWithoutYes(entry))
  if (open === undefined) return
  const personal = leaves.find((leaf) => leaf.additional || leaf.personal === 'always')
  if (personal === undefined) return
  const what = `"${personal.path}" is ${personal.additional ? 'additional' : 'always personal'}${personal.field !== undefined && personal.field.classified === undefined ? ' (it has no classification)' : ''}`
  const why = `"${output.id}" can be open without consent (${open.entry.basis}${open.place === '' ? '' : ` in ${open.place}`})`
  if (!rule.pair) {
    const pair = pairInstead(source, output, one, rule, leaves)
    findings.add('PAIR-MISSING', where, `${what}, and ${why}.`, personal.field?.classified === undefined && personal.point === undefined ? `Classify it under \`fields:\`, or write ${pair}.` : `Write ${pair}.`)
  } else if (exposed(rule, rule.noConsent, one.stream).some((leaf) => (leaf.additional || leaf.personal === 'always') && !isGeneralising(leaf.chain))) {
    findings.add('PAIR-NOT-GENERAL', step(where, 'no_consent'), `${what}, and ${why}, so what leaves without consent must be dropped or generalised.`)
  }
}

/** The pair that leaves with a yes what the rule lets leave now: without one the same where that is general enough, else nothing. */
function pairInstead({ rules }: Source, output: Output, one: OutputStream, rule: FieldRule, leaves: readonly Exposed[]): string {
  const wide = rules.outputs[output.id]
  const own = wide?.streams[one.stream.id]
  const written = own?.fields?.[rule.path] ?? (Array.isArray(own?.keep) && own.keep.includes(rule.path) ? undefined : wide?.fields?.[rule.path])
  const text = inFlow(written ?? 'keep')
  const isGeneral = leaves.every((leaf) => (!leaf.additional && leaf.personal !== 'always') || isGeneralising(leaf.chain))
  const pair = `\`${rule.path}: { consent: ${text}, no_consent: ${isGeneral ? text : 'drop'} }\``
  return `${pair}${written === undefined ? ' in `fields:` instead of `keep:`' : ''}${isGeneral ? '' : ', or a generalisation instead of drop'}`
}

/** A treatment on one line as the file would write it; a long one as an ellipsis. */
function inFlow(value: unknown): string {
  const text = flow(value)
  return text.length > FLOW_MAX ? '…' : text
}

const FLOW_MAX = 160

function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`
  if (typeof value === 'object' && value !== null) return Object.keys(value).length === 0 ? '{}' : `{ ${Object.entries(value).map(([key, inner]) => `${key}: ${flow(inner)}`).join(', ')} }`
  return typeof value === 'string' && !/^[\w.][\w .%-]*$/.test(value) ? JSON.stringify(value) : String(value)
}

// --------------------------------------------------------------------------------------------------------------- condition

/** What `when` reads is disclosed as one bit; about a person or a place not even that (rules-language 4.7). */
function checkWhen(source: Source, one: OutputStream): void {
  if (one.when === undefined) return
  const where = { path: [...whereOf(source, one).path, 'when'] }
  for (const path of one.when.reads) {
    const point = one.stream.points.find((candidate) => partsOf(candidate).includes(path))
    const personal = pathOf(one.stream.message, path)?.find((field, index, all) => (index === all.length - 1 || field.classified !== undefined) && classificationOf(field).personal === 'always')
    const at = Math.max(0, one.when.text.indexOf(path))
    if (point !== undefined) source.findings.add('WHEN-PERSONAL', { ...where, at }, `The condition reads "${path}", a part of the point "${point.name}".`)
    else if (personal !== undefined) source.findings.add('WHEN-PERSONAL', { ...where, at }, `The condition reads "${path}", which is always personal${personal.classified === undefined ? ' (it has no classification)' : ''}.`)
  }
}

// ------------------------------------------------------------------------------------------------------------------ topics

function checkTopic(source: Source, output: Output): void {
  const { findings } = source
  const where: Where = { path: ['outputs', output.id, 'to', 'topic'] }
  const problem = topicProblem(output.to.topic)
  if (problem !== undefined) {
    findings.add('TOPIC-TEMPLATE', where, `The topic ${problem.sentence}`, problem.mend)
    return
  }
  const reserved = reservedLevel(output.to.topic, new Set(output.streams.map(({ stream }) => stream.id)))
  if (reserved !== undefined) findings.add('TOPIC-RESERVED', where, `The topic of "${output.id}" can begin with "${reserved}/", which belongs to ${reserved === 'down' ? 'commands to machines' : 'notices to recipients'}.`)
  for (const name of placeholdersOf(output.to.topic)) {
    if (name === 'stream') continue
    const at = output.to.topic.indexOf(`{${name}}`)
    for (const one of output.streams) {
      const trouble = topicFieldTrouble(source, output, one, name)
      if (trouble === undefined) continue
      findings.add('TOPIC-FIELD', { ...where, at }, `In the stream "${one.stream.id}" the {${name}} of the topic ${trouble.why}.`, trouble.mend)
      break
    }
  }
}

function topicFieldTrouble(source: Source, output: Output, one: OutputStream, name: string): { readonly why: string; readonly mend?: string } | undefined {
  const rule = one.fields.find((candidate) => candidate.path === name)
  if (rule === undefined) {
    const usable = one.fields.filter((candidate) => candidate.target.kind === 'field').map((candidate) => candidate.path)
    return { why: 'is no field of the output', mend: `Name the field in the output, or use another. ${suggestion(name, ['stream', ...usable])}`.trim() }
  }
  if (rule.target.kind === 'point') return { why: 'is a position, which cannot be a topic level' }
  const leaf = rule.target.fields.at(-1)
  const kind = leaf === undefined ? 'message' : kindOf(leaf)
  if (kind === 'message' || kind === 'bytes' || kind === 'float' || rule.target.fields.some((field) => field.repeated)) return { why: 'is no single text or whole number' }
  const branches = [rule.consent, rule.noConsent]
  if (branches.some((branch) => branch.kind !== 'chain' || isDrop(branch.chain))) return { why: 'does not leave in every branch', mend: 'Use a field that always leaves: without it the message could not be sent.' }
  const operator = rule.target.fields.some((field) => ['operator', 'session'].includes(classificationOf(field).subject))
  const open = basesOf(source.policy, output).find(({ entry }) => strictness(entry.basis) < Strictness.opt_out)
  // Nobody known: the field is dropped (rules-language 3.4), the topic cannot be filled, and the whole message would be refused.
  if (operator && open !== undefined) return { why: `is dropped when nobody is signed on, although the output is open then (${open.entry.basis})`, mend: 'Use a field that always leaves.' }
  return undefined
}

/** Two recipients may not share a topic: who may read the one would read the other. */
function checkTopicsApart(source: Source): void {
  const outputs = source.policy.outputs.filter((output) => topicProblem(output.to.topic) === undefined)
  const streams = new Map(outputs.map((output) => [output, new Set<string>(output.streams.map((one) => one.stream.id))]))
  for (const [index, output] of outputs.entries()) {
    for (const other of outputs.slice(0, index)) {
      const meets = overlap(output.to.topic, streams.get(output) as Set<string>, other.to.topic, streams.get(other) as Set<string>)
      if (!meets) continue
      const where: Where = { path: ['outputs', output.id, 'to', 'topic'] }
      if (output.recipient !== other.recipient) {
        source.findings.add('TOPIC-CLASH', where, `The topics of "${other.id}" (for ${other.recipient.id}) and "${output.id}" (for ${output.recipient.id}) can be the same, so each would receive the other's data.`)
      } else if (topicShape(output.to.topic, '+') === topicShape(other.to.topic, '+')) {
        source.findings.add('TOPIC-CLASH', where, `The outputs "${other.id}" and "${output.id}" have the same topic, so the recipient cannot tell them apart.`)
      }
    }
  }
}

// ----------------------------------------------------------------------------------------------------------------- the rest

function checkReach(source: Source, output: Output): void {
  const { findings } = source
  const base = ['outputs', output.id]
  if (output.reach === 'site' && !output.recipient.onSite) findings.add('SITE-REACH', { path: [...base, 'reach'] }, `The recipient "${output.recipient.id}" is not marked \`on_site: true\`.`)
  if (output.reach === 'site' && output.to.via.some((via) => via !== 'local')) findings.add('SITE-REACH', { path: [...base, 'to', 'via'] }, 'An output that stays on the site cannot use a bridge.', 'Write `via: [local]`, or remove `reach: site`.')
  const bases = basesOf(source.policy, output)
  if (output.despiteDeviceSetting !== undefined && !bases.some(({ entry }) => entry.basis === 'legal_obligation')) {
    findings.add('DEVICE-SETTING', { path: [...base, 'despite_device_setting'] }, `"${output.id}" rests on a legal obligation in no country.`)
  }
  for (const [index, via] of output.to.via.entries()) {
    if (via === 'local' || source.bridges === undefined || source.bridges.has(via)) continue
    findings.add('UNKNOWN-BRIDGE', { path: [...base, 'to', 'via', index] }, `The gateway file has no bridge "${via}".`, suggestion(via, ['local', ...source.bridges.keys()]))
  }
}

/** Cells of two sizes that do not nest can be laid over each other to find a smaller one (rules-language 5). */
function checkGrids(source: Source): void {
  const sizes: number[] = []
  for (const { rule, size } of gridsOf(source.policy)) {
    if (sizes.includes(size)) continue
    const clash = sizes.find((other) => Math.max(size, other) % Math.min(size, other) !== 0)
    if (clash !== undefined) source.findings.add('GRID-NEST', whereOf(source, rule), `The grid of ${size} m does not nest with the grid of ${clash} m elsewhere in the file.`)
    sizes.push(size)
  }
}

function* gridsOf(policy: Policy): Iterable<{ readonly rule: FieldRule; readonly size: number }> {
  for (const output of policy.outputs) {
    for (const one of output.streams) {
      for (const rule of one.fields) {
        for (const branch of rule.pair ? [rule.consent, rule.noConsent] : [rule.consent]) {
          if (branch.kind !== 'chain') continue
          for (const transform of branch.chain) if (transform.name === 'grid') yield { rule, size: transform.params.size as number }
        }
      }
    }
  }
}
