/**
 * What a set of rules would let out that another does not, and the other way round. Decided on what is carried out, never on texts:
 * the plans of both sets for every situation of the operator and every class of countries, with the gates that open them.
 *
 * `widened` means that somebody may learn more: something leaves that did not, finer, to somebody else, for longer, or in a case in
 * which it did not. What cannot be put in order counts as widened and says so. So a set without a widened entry is safe to activate.
 */
import type { AcceptedLint } from './config/lint.ts'
import { basisFor, EEA, Gate, gate, operatorFieldsAllowed, stricter } from './domain/basis.ts'
import { nobody, type Decision } from './domain/consent.ts'
import { atOnce, type Pieces } from './domain/pieces.ts'
import type { BasisEntry, Condition, Destination, Emit, Output, OutputStream, Point, Policy, Purpose, Recipient, Stream, Transform, Zone } from './domain/policy.ts'
import { classificationOf, type FieldShape, type MessageShape } from './domain/schema.ts'
import { planFor, stepsAlong, variantIndex, VARIANTS, type Plan, type PlanNode, type PlanStep } from './minimise/plan.ts'
import { formatDuration } from './minimise/quantity.ts'
import { isCoarserOrEqual, isDrop, specOf, textOfChain, type Moment, type Services } from './minimise/transforms.ts'
import { isZero, zeroOf, type Value } from './minimise/value.ts'

/** An accepted set, as far as it matters here. */
export interface Accepted {
  readonly policy: Policy
  /** Lints that `accept:` waives. */
  readonly accepted: readonly AcceptedLint[]
}

export interface Difference {
  /** Undefined when there was no set before: everything is new. */
  readonly before: SetName | undefined
  readonly after: SetName
  /** Widened ones first. */
  readonly changes: readonly Change[]
  readonly widened: number
  readonly narrowed: number
  readonly changed: number
}

export interface SetName {
  readonly hash: string
  readonly policy: string
}

export type ChangeVerdict = 'widened' | 'narrowed' | 'changed'

export interface Change {
  readonly verdict: ChangeVerdict
  /** False: which of both lets out more cannot be said, so it counts as widened. */
  readonly comparable: boolean
  /** Where in the rules file, `outputs.planner.streams.status.fields.position`; for schemas `schema.awp.v1.Status.soc`. */
  readonly where: string
  readonly output: string | undefined
  readonly stream: string | undefined
  /** Path of a field or name of a point; undefined when it is about more or other than one. */
  readonly field: string | undefined
  /** Situations of the operator, `yes`, `not set`, `nobody known`; empty = it does not depend on it. */
  readonly consent: readonly string[]
  /** Codes, `EEA`, `not listed`, `unknown`; empty = it does not depend on it. */
  readonly countries: readonly string[]
  readonly before: string
  readonly after: string
  /** Why it is judged so, where that is not plain to see; empty otherwise. */
  readonly why: string
}

/** Compares two accepted sets. Without an old one everything in the new one is a widening. */
export function differenceOf(old: Accepted | undefined, next: Accepted): Difference {
  return atOnce(differenceInPieces(old, next))
}

/** The same, an output and stream a piece. */
export function* differenceInPieces(old: Accepted | undefined, next: Accepted): Pieces<Difference> {
  const before = old?.policy ?? NOTHING
  const list = new Changes()
  const places = placesOf(before, next.policy)
  comparePolicy(before, next.policy, list)
  yield
  compareSubject(before, next.policy, places, list)
  yield
  compareStreams(before, next.policy, list)
  compareZones(before, next.policy, list)
  compareRecipients(before, next.policy, list)
  yield
  yield* compareOutputs(before, next.policy, places, list)
  compareBasis(before, next.policy, places, list)
  yield
  compareWaivers(old?.accepted ?? [], next.accepted, list)
  yield
  compareSchemas(before, next.policy, list)
  const changes = list.sorted()
  const count = (verdict: ChangeVerdict): number => changes.filter((one) => one.verdict === verdict).length
  return {
    before: old === undefined ? undefined : { hash: old.policy.hash, policy: old.policy.id },
    after: { hash: next.policy.hash, policy: next.policy.id },
    changes, widened: count('widened'), narrowed: count('narrowed'), changed: count('changed'),
  }
}

/** `2 widened, 1 narrowed, 0 changed`: for ledger, log and status. */
export function summaryOf({ widened, narrowed, changed }: Pick<Difference, 'widened' | 'narrowed' | 'changed'>): string {
  return `${widened} widened, ${narrowed} narrowed, ${changed} changed`
}

/** One line a change, and the count. */
export function textOfDifference({ changes, ...counts }: Pick<Difference, 'changes' | 'widened' | 'narrowed' | 'changed'>): string[] {
  if (changes.length === 0) return ['No difference in what leaves.']
  return [...changes.map(lineOf), '', summaryOf(counts)]
}

/** `widened   outputs.planner.streams.status.fields.position: 500 m grid -> 50 m grid (yes; everywhere)`. */
export function lineOf({ verdict, comparable, where, before, after, consent, countries, why }: Change): string {
  const cases = [consent.length === 0 ? '' : consent.length === SITUATIONS.length ? 'whatever the operator said' : consent.join(', '), countries.length === 0 ? '' : countries.join(', ')]
  const notes = [cases.filter((one) => one !== '').join('; '), why, comparable ? '' : 'cannot be compared'].filter((one) => one !== '')
  return `${verdict.padEnd(8)}  ${where}: ${before} -> ${after}${notes.map((note) => ` (${note})`).join('')}`
}

const NOTHING: Policy = {
  id: '', effective: undefined, notice: undefined, streams: [], subject: { sessions: undefined, sessionMaxMs: 0, quarantineMs: 0, lateLimitMs: 0 },
  purposes: [], basis: { entries: new Map(), groups: new Map() }, recipients: [], outputs: [], tests: [], hash: '',
}

const NONE = 'nothing'

// --------------------------------------------------------------------------------------------------------------- collecting

type Entry = Partial<Change> & Pick<Change, 'verdict' | 'where' | 'before' | 'after'>

class Changes {
  readonly #list: Change[] = []

  add(entry: Entry): void {
    this.#list.push({ comparable: true, output: undefined, stream: undefined, field: undefined, consent: [], countries: [], why: '', ...entry })
  }

  /** Widened, and it says that the two cannot be put in order. */
  incomparable(entry: Omit<Entry, 'verdict'>): void {
    this.add({ ...entry, verdict: 'widened', comparable: false })
  }

  /** For a number of which more is wider. Undefined is the most there is. */
  amount(entry: Omit<Entry, 'verdict' | 'before' | 'after'>, before: number | undefined, after: number | undefined, text: (value: number | undefined) => string): void {
    if (before === after) return
    const wider = (after ?? Number.POSITIVE_INFINITY) > (before ?? Number.POSITIVE_INFINITY)
    this.add({ ...entry, verdict: wider ? 'widened' : 'narrowed', before: text(before), after: text(after) })
  }

  sorted(): Change[] {
    const rank = { widened: 0, narrowed: 1, changed: 2 }
    return this.#list.map((change, at) => ({ change, at })).sort((a, b) => rank[a.change.verdict] - rank[b.change.verdict] || a.at - b.at).map(({ change }) => change)
  }
}

// ---------------------------------------------------------------------------------------------------- countries and operators

/** A class of countries that the tables of both sets treat alike. */
interface Place {
  readonly label: string
  /** One country of it; undefined = the machine's country is not known. */
  readonly country: string | undefined
}

/** Every country that one of the tables names, one of the EEA that is not named, one that has no entry anywhere, and none. */
function placesOf(old: Policy, next: Policy): readonly Place[] {
  const tables = [old.basis, next.basis]
  const named = new Set(tables.flatMap(({ entries, groups }) => [...entries.keys(), ...groups.keys()]))
  const countries = [...named].filter((key) => /^[A-Z]{2}(-[A-Z0-9]{1,3})?$/.test(key)).sort()
  const rest = [...EEA].find((code) => !named.has(code))
  const unlisted = UNLISTED.find((code) => !named.has(code))
  return [
    ...countries.map((country) => ({ label: country, country })),
    ...(rest === undefined ? [] : [{ label: 'EEA', country: rest }]),
    ...(unlisted === undefined ? [] : [{ label: 'not listed', country: unlisted }]),
    { label: 'unknown', country: undefined },
  ]
}

/** None is in the EEA. Codes for private use [ISO 3166-1, 8.1.3] come last: no table can name all of them. */
const UNLISTED: readonly string[] = ['AQ', 'BV', 'HM', 'TF', 'GS', 'UM', 'PN', ...[...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'].map((letter) => `X${letter}`)]

/** What can be the case with the operator, for one purpose. Together they are all that a gate can tell apart; a test holds that. */
export interface Situation {
  readonly name: string
  /** @param bit  the purpose's */
  readonly decision: (bit: number) => Decision
}

function situation(name: string, known: boolean, parts: Partial<Record<'yes' | 'site' | 'no' | 'notice' | 'off', true>>): Situation {
  return {
    name,
    decision: (bit) => ({
      ...nobody(), known, collection: parts.off !== true,
      yes: parts.yes === true ? bit : 0, siteYes: parts.yes === true || parts.site === true ? bit : 0, no: parts.no === true ? bit : 0, notice: parts.notice === true ? bit : 0,
    }),
  }
}

export const SITUATIONS: readonly Situation[] = [
  situation('yes', true, { yes: true, notice: true }),
  situation('yes without the notice', true, { yes: true }),
  situation('yes for the site', true, { site: true, notice: true }),
  situation('yes for the site without the notice', true, { site: true }),
  situation('not set', true, { notice: true }),
  situation('notice not given', true, {}),
  situation('refused', true, { no: true, notice: true }),
  situation('refused without the notice', true, { no: true }),
  situation('nobody known', false, {}),
  situation('nobody known after a refusal', false, { no: true }),
  situation('nobody known after a yes for the site', false, { site: true }),
  situation('device setting off', false, { off: true }),
]

// ------------------------------------------------------------------------------------------------- policy, subject, streams

function comparePolicy(old: Policy, next: Policy, list: Changes): void {
  const text = ({ id, effective, notice }: Policy): string => [id, effective, notice].filter((one) => one !== undefined && one !== '').join(', ')
  if (old.id !== next.id && old.id !== '') list.add({ verdict: 'changed', where: 'policy', before: text(old), after: text(next), why: 'a notice given for the old policy no longer counts' })
  else if (text(old) !== text(next) && old.id !== '') list.add({ verdict: 'changed', where: 'policy', before: text(old), after: text(next) })
  for (const purpose of next.purposes) {
    const before = old.purposes.find((one) => one.id === purpose.id)
    if (before === undefined) continue
    const where = `purposes.${purpose.id}`
    const [was, is] = [purposeText(before), purposeText(purpose)]
    if (was !== is) list.add({ verdict: 'changed', where, before: was, after: is })
    // What a purpose replaces it inherits the noes of; forgetting one opens what somebody closed.
    const [lost, won] = [missing(before.replaces, purpose.replaces), missing(purpose.replaces, before.replaces)]
    if (lost.length > 0) list.add({ verdict: 'widened', where: `${where}.replaces`, before: lost.join(', '), after: NONE, why: 'a no to what was replaced no longer counts' })
    if (won.length > 0) list.add({ verdict: 'narrowed', where: `${where}.replaces`, before: NONE, after: won.join(', ') })
  }
}

function purposeText({ about, clause, dpv }: Purpose): string {
  return [about, clause, dpv].filter((one) => one !== undefined).join('; ')
}

function missing(from: readonly string[] | undefined, list: readonly string[] | undefined): string[] {
  return (from ?? []).filter((one) => list?.includes(one) !== true)
}

/** Who counts as known, for how long, and what a terminal says for whom: each opens what rests on a yes. */
function compareSubject(old: Policy, next: Policy, places: readonly Place[], list: Changes): void {
  if (old === NOTHING) return
  const [before, after] = [old.subject, next.subject]
  const text = (value: number | undefined): string => formatDuration(value ?? 0)
  // Who is no longer known has no yes, and no no either.
  const forgetful = next.outputs.filter((output) => forgetsNo(next, output, places)).map((output) => output.id)
  const known = (where: string, why: string, was: number, is: number): void => {
    if (is >= was || forgetful.length === 0) list.amount({ where, why }, was, is, text)
    else list.add({ verdict: 'widened', where, before: text(was), after: text(is), why: `${why}; with nobody known no objection counts in ${forgetful.join(', ')}` })
  }
  known('subject.session_max', 'how long somebody counts as signed on', before.sessionMaxMs, after.sessionMaxMs)
  known('subject.late_limit', 'how late a message is still somebody\'s', before.lateLimitMs, after.lateLimitMs)
  if (before.quarantineMs !== after.quarantineMs) {
    list.add({ verdict: after.quarantineMs < before.quarantineMs ? 'widened' : 'narrowed', where: 'subject.handover_quarantine', before: text(before.quarantineMs), after: text(after.quarantineMs) })
  }
  const differs = (where: string, one: unknown, other: unknown): void => {
    const [was, is] = [shown(one), shown(other)]
    if (was !== is) list.incomparable({ where, before: was, after: is })
  }
  differs('subject.sessions', before.sessions, after.sessions)
  differs('subject.consent', before.consent, after.consent)
}

/** Whether an output is open with nobody known where it is closed for somebody: by their answer, or by the basis of their own country. */
function forgetsNo(policy: Policy, output: Output, places: readonly Place[]): boolean {
  const bit = 1 << output.purpose.index
  const known = SITUATIONS.map(({ decision }) => decision(bit)).filter((decision) => decision.known)
  const bases = places.map((place) => basisAt(policy, output, place))
  return bases.some((here) => gate(output, here, { ...nobody(), collection: true }) !== Gate.closed
    && bases.some((theirs) => known.some((decision) => gate(output, stricter(here, theirs), decision) === Gate.closed)))
}

/** A value of the policy as text: conditions by what was written, maps as objects, in the order of names. */
function shown(value: unknown): string {
  if (value === undefined || value === null) return NONE
  if (value instanceof Map) return shown(Object.fromEntries(value))
  if (Array.isArray(value)) return `[${value.map(shown).join(', ')}]`
  if (typeof value === 'object') {
    if ('ast' in value && 'text' in value) return shown(value.text)
    return `{ ${Object.entries(value).filter(([, one]) => one !== undefined).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, one]) => `${name}: ${shown(one)}`).join(', ')} }`
  }
  return typeof value === 'bigint' ? `${value}n` : String(value)
}

function compareStreams(old: Policy, next: Policy, list: Changes): void {
  for (const stream of next.streams) {
    const before = old.streams.find((one) => one.id === stream.id)
    const where = `streams.${stream.id}`
    if (before === undefined) {
      const rival = rivalOf(stream, old)
      const added = { where, stream: stream.id, before: NONE, after: `${stream.message.name} on ${stream.topic}` }
      if (rival === undefined) list.add({ ...added, verdict: 'changed', why: 'what leaves of it is listed under the outputs' })
      else list.incomparable({ ...added, why: `takes messages from ${rival.id}` })
      continue
    }
    const taken = isUsed(old, before) && isUsed(next, stream)
    const differs = (part: string, was: string, is: string): void => {
      if (was === is) return
      if (taken) list.incomparable({ where: `${where}.${part}`, stream: stream.id, before: was, after: is })
      else list.add({ verdict: 'changed', where: `${where}.${part}`, stream: stream.id, before: was, after: is })
    }
    differs('topic', before.topic, stream.topic)
    differs('message', before.message.name, stream.message.name)
    differs('case', before.case ?? NONE, stream.case ?? NONE)
    differs('operator', before.operatorField ?? NONE, stream.operatorField ?? NONE)
    differs('time', shown(before.time), shown(stream.time))
    // A machine in the message that differs from the one that logged in refuses the message.
    if (before.machineField === undefined && stream.machineField !== undefined) list.add({ verdict: 'narrowed', where: `${where}.machine`, stream: stream.id, before: NONE, after: stream.machineField })
    else differs('machine', before.machineField ?? NONE, stream.machineField ?? NONE)
  }
  for (const stream of old.streams) {
    if (next.streams.some((one) => one.id === stream.id)) continue
    const rival = rivalOf(stream, next)
    const removed = { where: `streams.${stream.id}`, stream: stream.id, before: `${stream.message.name} on ${stream.topic}`, after: NONE }
    if (rival === undefined) list.add({ ...removed, verdict: 'changed' })
    else list.incomparable({ ...removed, why: `its messages may be taken as ${rival.id}` })
  }
}

/** Another stream in use whose topics may be those of this one, so that messages pass from the one to the other. */
function rivalOf(stream: Stream, policy: Policy): Stream | undefined {
  const levels = stream.topic.split('/')
  return policy.streams.find((other) => {
    if (other.id === stream.id || !isUsed(policy, other) || (other.topic === stream.topic && other.case !== undefined && stream.case !== undefined && other.case !== stream.case)) return false
    const theirs = other.topic.split('/')
    return levels.length === theirs.length && levels.every((level, at) => level === theirs[at] || level.includes('{') || (theirs[at] as string).includes('{'))
  })
}

/** Whether anything leaves of a stream, or it says who is there and what they chose. */
function isUsed(policy: Policy, stream: Stream): boolean {
  return policy.outputs.some((output) => output.streams.some((one) => one.stream === stream)) || policy.subject.sessions?.stream === stream.id || policy.subject.consent?.stream === stream.id
}

function compareZones(old: Policy, next: Policy, list: Changes): void {
  for (const [name, zone] of next.zones ?? []) {
    const before = old.zones?.get(name)
    if (before === undefined || shown(before) === shown(zone)) continue
    // A larger circle around the same centre covers the smaller one, also after each machine's own shift, which grows with it.
    if (covers(zone, before)) list.add({ verdict: 'narrowed', where: `zones.${name}`, before: shown(before), after: shown(zone) })
    else list.add({ verdict: 'widened', comparable: covers(before, zone), where: `zones.${name}`, before: shown(before), after: shown(zone) })
  }
}

function covers(outer: Zone, inner: Zone): boolean {
  if (outer.kind === 'circle' && inner.kind === 'circle') return outer.lat === inner.lat && outer.lon === inner.lon && outer.radiusM >= inner.radiusM
  return shown(outer) === shown(inner)
}

function compareRecipients(old: Policy, next: Policy, list: Changes): void {
  for (const { recipient, outputs } of recipientsOf(next)) {
    const before = recipientsOf(old).find((one) => one.recipient.id === recipient.id)?.recipient
    if (before === undefined) {
      if (old !== NOTHING) list.add({ verdict: 'widened', where: `recipients.${recipient.id}`, before: NONE, after: recipientText(recipient), why: `gets ${outputs.join(', ')}` })
      continue
    }
    const differs = (part: string, was: string | undefined, is: string | undefined): void => {
      if (was !== is) list.incomparable({ where: `recipients.${recipient.id}.${part}`, before: was ?? NONE, after: is ?? NONE })
    }
    differs('role', before.role, recipient.role)
    differs('group', before.group, recipient.group)
    differs('region', before.region, recipient.region)
    if (before.onSite !== recipient.onSite) list.add({ verdict: recipient.onSite ? 'widened' : 'narrowed', where: `recipients.${recipient.id}.on_site`, before: String(before.onSite), after: String(recipient.onSite) })
    for (const place of new Set([...before.transfers.keys(), ...recipient.transfers.keys()])) {
      const [was, is] = [before.transfers.get(place), recipient.transfers.get(place)]
      if (was !== is) list.add({ verdict: was === undefined ? 'widened' : is === undefined ? 'narrowed' : 'changed', where: `recipients.${recipient.id}.transfers.${place}`, before: was ?? NONE, after: is ?? NONE })
    }
    if (before.privacyContact !== recipient.privacyContact) list.add({ verdict: 'changed', where: `recipients.${recipient.id}.privacy_contact`, before: before.privacyContact ?? NONE, after: recipient.privacyContact ?? NONE })
  }
}

/** Recipients that get something, with the outputs that are theirs; a recipient may be written inside an output. */
function recipientsOf(policy: Policy): readonly { readonly recipient: Recipient; readonly outputs: readonly string[] }[] {
  const ids = [...new Set(policy.outputs.map((output) => output.recipient.id))]
  return ids.map((id) => {
    const outputs = policy.outputs.filter((output) => output.recipient.id === id)
    return { recipient: (outputs[0] as Output).recipient, outputs: outputs.map((output) => output.id) }
  })
}

function recipientText({ role, group, region, onSite }: Recipient): string {
  return [role, group, region, ...(onSite ? ['on site'] : [])].filter((one) => one !== undefined).join(', ')
}

function compareWaivers(old: readonly AcceptedLint[], next: readonly AcceptedLint[], list: Changes): void {
  const key = ({ finding }: AcceptedLint): string => `${finding.code.toLowerCase()} at ${finding.path}`
  const text = ({ why, until }: AcceptedLint): string => `waived${until === undefined ? '' : ` until ${until}`}: ${why}`
  for (const waiver of next) {
    const before = old.find((one) => key(one) === key(waiver))
    const where = `accept.${key(waiver)}`
    if (before === undefined) list.add({ verdict: 'widened', where, before: NONE, after: text(waiver), why: 'a lint no longer objects' })
    else if (before.until !== waiver.until) list.amount({ where }, before.until === undefined ? undefined : Date.parse(before.until), waiver.until === undefined ? undefined : Date.parse(waiver.until), (ms) => (ms === undefined ? 'without end' : new Date(ms).toISOString().slice(0, 10)))
    else if (before.why !== waiver.why) list.add({ verdict: 'changed', where, before: text(before), after: text(waiver) })
  }
  for (const waiver of old) if (!next.some((one) => key(one) === key(waiver))) list.add({ verdict: 'narrowed', where: `accept.${key(waiver)}`, before: text(waiver), after: NONE })
}

// ------------------------------------------------------------------------------------------------------------------ schemas

/** Of the messages that streams of both sets use. What of it leaves is under the outputs; here is what engineers should know of. */
function compareSchemas(old: Policy, next: Policy, list: Changes): void {
  const before = messagesOf(old)
  for (const [name, message] of messagesOf(next)) {
    const known = before.get(name)
    if (known === undefined) continue
    for (const field of message.fields) {
      const was = known.byName.get(field.name)
      const where = `schema.${name}.${field.name}`
      const numbered = known.byNumber.get(field.number)
      if (numbered !== undefined && numbered.name !== field.name) list.add({ verdict: 'changed', where, field: field.name, before: `number ${field.number} was ${numbered.name}`, after: fieldText(field), why: 'the number is used again' })
      else if (was === undefined) list.add({ verdict: 'changed', where, field: field.name, before: NONE, after: fieldText(field), why: 'a new field' })
      else if (fieldText(was) !== fieldText(field)) list.add({ verdict: 'changed', where, field: field.name, before: fieldText(was), after: fieldText(field) })
    }
    for (const field of known.fields) if (!message.byName.has(field.name) && !message.byNumber.has(field.number)) list.add({ verdict: 'changed', where: `schema.${name}.${field.name}`, field: field.name, before: fieldText(field), after: NONE })
  }
}

function messagesOf(policy: Policy): ReadonlyMap<string, MessageShape> {
  const all = new Map<string, MessageShape>()
  const visit = (message: MessageShape): void => {
    if (all.has(message.name)) return
    all.set(message.name, message)
    for (const field of message.fields) if (field.message !== undefined) visit(field.message)
  }
  for (const stream of policy.streams) visit(stream.message)
  return all
}

function fieldText(field: FieldShape): string {
  const type = `${field.repeated ? 'repeated ' : ''}${field.message?.name ?? field.enum?.name ?? field.type} = ${field.number}`
  if (field.classified === undefined) return `${type}, not classified`
  const { category, class: level, personal, subject, unit, scale } = classificationOf(field)
  return `${type}, ${category}, ${level}, ${personal}${subject === 'none' ? '' : `, names ${subject === 'operator' ? 'an' : 'a'} ${subject}`}${unit === '' ? '' : `, ${scale === 1 ? '' : `${scale} `}${unit}`}`
}

// ------------------------------------------------------------------------------------------------------------------ outputs

function* compareOutputs(old: Policy, next: Policy, places: readonly Place[], list: Changes): Pieces<void> {
  for (const output of next.outputs) {
    const before = old.outputs.find((one) => one.id === output.id)
    if (before !== undefined) compareFrame(before, output, list)
    for (const source of output.streams) {
      const was = before?.streams.find((one) => one.stream.id === source.stream.id)
      yield
      comparePair({ old, next, before: before === undefined || was === undefined ? undefined : { output: before, source: was }, after: { output, source } }, places, list)
    }
    for (const source of before?.streams ?? []) {
      if (!output.streams.some((one) => one.stream.id === source.stream.id)) list.add({ verdict: 'narrowed', where: `outputs.${output.id}.streams.${source.stream.id}`, output: output.id, stream: source.stream.id, before: `leaves: ${contentOf(source)}`, after: NONE })
    }
  }
  for (const output of old.outputs) {
    if (!next.outputs.some((one) => one.id === output.id)) list.add({ verdict: 'narrowed', where: `outputs.${output.id}`, output: output.id, before: `${output.streams.map((one) => one.stream.id).join(', ')} to ${output.recipient.id} for ${output.purpose.id}`, after: NONE })
  }
}

/** Who gets it, for what, for how long and on which way. */
function compareFrame(old: Output, next: Output, list: Changes): void {
  const at = (part: string): { where: string; output: string } => ({ where: `outputs.${next.id}.${part}`, output: next.id })
  if (old.recipient.id !== next.recipient.id) list.incomparable({ ...at('recipient'), before: old.recipient.id, after: next.recipient.id })
  if (old.purpose.id !== next.purpose.id) list.incomparable({ ...at('purpose'), before: old.purpose.id, after: next.purpose.id, why: 'a yes to the one is none to the other' })
  const duration = (ms: number | undefined): string => (ms === undefined ? 'not stated' : formatDuration(ms))
  list.amount({ ...at('recipient_keeps'), why: 'how long the recipient keeps it' }, old.recipientKeepsMs, next.recipientKeepsMs, duration)
  if (old.reach !== next.reach) list.add({ verdict: next.reach === 'any' ? 'widened' : 'narrowed', ...at('reach'), before: old.reach, after: next.reach })
  if (old.arrivalVisible !== next.arrivalVisible) list.add({ verdict: next.arrivalVisible ? 'widened' : 'narrowed', ...at('arrival_visible'), before: String(old.arrivalVisible), after: String(next.arrivalVisible), why: 'the arrival tells the time' })
  if (old.despiteDeviceSetting !== next.despiteDeviceSetting) list.add({ verdict: old.despiteDeviceSetting === undefined ? 'widened' : next.despiteDeviceSetting === undefined ? 'narrowed' : 'changed', ...at('despite_device_setting'), before: old.despiteDeviceSetting ?? NONE, after: next.despiteDeviceSetting ?? NONE })
  compareDestination(old.to, next.to, at, list)
}

function compareDestination(old: Destination, next: Destination, at: (part: string) => { where: string; output: string }, list: Changes): void {
  if (old.topic !== next.topic) {
    // Without a value for a placeholder a message is refused: fewer placeholders let more through.
    const gone = placeholders(old.topic).filter((name) => !placeholders(next.topic).includes(name))
    list.add({ verdict: gone.length > 0 ? 'widened' : 'changed', comparable: gone.length === 0, ...at('to.topic'), before: old.topic, after: next.topic, why: gone.length > 0 ? `messages without ${gone.join(', ')} leave too` : '' })
  }
  const [lost, won] = [missing(old.via, next.via), missing(next.via, old.via)]
  if (won.length > 0) list.add({ verdict: 'widened', ...at('to.via'), before: old.via.join(', '), after: next.via.join(', '), why: 'one way more' })
  else if (lost.length > 0) list.add({ verdict: 'narrowed', ...at('to.via'), before: old.via.join(', '), after: next.via.join(', ') })
  if (old.retain !== next.retain) list.add({ verdict: next.retain ? 'widened' : 'narrowed', ...at('to.retain'), before: String(old.retain), after: String(next.retain), why: 'the last message waits for whoever subscribes' })
  list.amount({ ...at('to.send_within'), why: 'how long it waits here' }, old.sendWithinMs, next.sendWithinMs, (ms) => (ms === undefined ? 'not stated' : formatDuration(ms)))
  const rest = ({ qos, share, atQuota }: Destination): string => shown({ qos, share, at_quota: atQuota })
  if (rest(old) !== rest(next)) list.add({ verdict: 'changed', ...at('to'), before: rest(old), after: rest(next) })
}

function placeholders(topic: string): string[] {
  return [...topic.matchAll(/\{([^}]*)\}/g)].map(([, name]) => name as string).filter((name) => name !== 'stream')
}

function contentOf({ fields }: OutputStream): string {
  const names = fields.map((rule) => rule.path)
  return `${names.slice(0, 12).join(', ')}${names.length > 12 ? ` and ${names.length - 12} more` : ''}`
}

interface Side {
  readonly output: Output
  readonly source: OutputStream
}

interface Compared {
  readonly old: Policy
  readonly next: Policy
  readonly before: Side | undefined
  readonly after: Side
}

/** What one output does with one stream: every situation in every class of countries, old against new. */
function comparePair(pair: Compared, places: readonly Place[], list: Changes): void {
  const { before, after } = pair
  const where = `outputs.${after.output.id}.streams.${after.source.stream.id}`
  const [was, is] = [before === undefined ? undefined : new Acts(before), new Acts(after)]
  const cells = new Map<string, { readonly found: Found; readonly cases: Map<string, Set<string>> }>()
  const known = new Map<string, readonly Found[]>()
  /** What differs where the one set has this basis and the other that; many countries share the answer. */
  const differences = (oldBasis: BasisEntry | undefined, newBasis: BasisEntry | undefined): readonly (readonly [situation: string, found: readonly Found[]])[] => SITUATIONS.map(({ name, decision }) => {
    const [one, other] = [was?.under(oldBasis, decision) ?? CLOSED, is.under(newBasis, decision)]
    const key = `${one.variant} ${one.legal} ${other.variant} ${other.legal}`
    let found = known.get(key)
    if (found === undefined) known.set(key, (found = compareActs(was, one, is, other, after.source)))
    return [name, found]
  })
  const note = (labels: readonly string[], situations: ReturnType<typeof differences>): void => {
    for (const [name, found] of situations) {
      for (const item of found) {
        const id = idOf(item)
        let cell = cells.get(id)
        if (cell === undefined) cells.set(id, (cell = { found: item, cases: new Map() }))
        for (const label of labels) cell.cases.set(label, (cell.cases.get(label) ?? new Set()).add(name))
      }
    }
  }
  const bases = new Map<string, { readonly old: BasisEntry | undefined; readonly next: BasisEntry | undefined; readonly labels: string[] }>()
  for (const place of places) {
    const [one, other] = [before === undefined ? undefined : basisAt(pair.old, before.output, place), basisAt(pair.next, after.output, place)]
    const key = `${one?.basis} ${other?.basis}`
    const same = bases.get(key)
    if (same === undefined) bases.set(key, { old: one, next: other, labels: [place.label] })
    else same.labels.push(place.label)
  }
  for (const one of bases.values()) note(one.labels, differences(one.old, one.next))
  // The stricter of the machine's and the operator's country counts. What that brings about is mostly one of the above; the rest is tried.
  const tried = new Set(bases.keys())
  for (const machine of bases.values()) {
    for (const person of bases.values()) {
      const [one, other] = [stricter(machine.old, person.old), stricter(machine.next, person.next)]
      const key = `${one?.basis} ${other?.basis}`
      if (tried.has(key)) continue
      tried.add(key)
      note([`${machine.labels[0]} with an operator of ${person.labels[0]}`], differences(one, other).map(([name, found]) => [name, found.filter((item) => item.verdict === 'widened' && !cells.has(idOf(item)))]))
    }
  }

  const labels = places.map((place) => place.label)
  for (const { found, cases } of cells.values()) {
    const { part, ...change } = found
    for (const [names, countries] of grouped(cases)) {
      list.add({
        ...change, output: after.output.id, stream: after.source.stream.id, where: `${where}${part === '' ? '' : `.${part}`}`,
        why: newOf(pair, change.field, change.verdict) ?? change.why,
        consent: names, countries: labels.every((label) => countries.includes(label)) ? ['everywhere'] : countries,
      })
    }
  }
  if (cells.size === 0 && before === undefined) list.add({ verdict: 'changed', where, output: after.output.id, stream: after.source.stream.id, before: NONE, after: `would be: ${contentOf(after.source)}`, why: 'closed everywhere' })
}

function idOf({ field, verdict, before, after, part, why }: Found): string {
  return [field, verdict, before, after, part, why].join('\u0000')
}

/** Countries with the same situations together. */
function grouped(cases: ReadonlyMap<string, ReadonlySet<string>>): ReadonlyMap<readonly string[], readonly string[]> {
  const groups = new Map<string, { readonly names: readonly string[]; readonly countries: string[] }>()
  for (const [country, names] of cases) {
    const key = [...names].join('\u0000')
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { names: [...names], countries: [country] })
    else group.countries.push(country)
  }
  return new Map([...groups.values()].map(({ names, countries }) => [names, countries]))
}

/** A field that `keep: not_personal` names by itself came with the schema: nobody wrote it. */
function newOf({ before, after }: Compared, field: string | undefined, verdict: ChangeVerdict): string | undefined {
  if (before === undefined || field === undefined || verdict !== 'widened') return undefined
  const [was, is] = [fieldAt(before.source.stream.message, field), fieldAt(after.source.stream.message, field)]
  if (is === undefined) return undefined
  if (was === undefined) return 'new in the schema'
  return before.source.fields.some((rule) => rule.path === field) || classText(was) === classText(is) ? undefined : `the schema says ${classText(is)} instead of ${classText(was)}`
}

function classText(field: FieldShape): string {
  const { class: level, personal, subject } = classificationOf(field)
  return `${level}, ${personal}${subject === 'none' ? '' : `, names ${subject === 'operator' ? 'an' : 'a'} ${subject}`}`
}

function fieldAt(message: MessageShape, path: string): FieldShape | undefined {
  let here: MessageShape | undefined = message
  let field: FieldShape | undefined
  for (const name of path.split('.')) {
    field = here?.byName.get(name)
    here = field?.message
  }
  return field
}

function basisAt(policy: Policy, output: Output, place: Place): BasisEntry | undefined {
  return output.basis ?? basisFor(policy.basis, place.country, output.purpose.id)
}

/** What an output and stream do in one case: a variant of the plan, or nothing. */
interface Act {
  /** -1 = closed. */
  readonly variant: number
  /** On a legal obligation a condition that cannot be evaluated does not hold a message back. */
  readonly legal: boolean
}
const CLOSED: Act = { variant: -1, legal: false }

class Acts {
  readonly #side: Side
  readonly #plans = new Map<number, Plan>()

  constructor(side: Side) {
    this.#side = side
  }

  get source(): OutputStream {
    return this.#side.source
  }

  under(basis: BasisEntry | undefined, decision: (bit: number) => Decision): Act {
    const { output } = this.#side
    const decided = decision(1 << output.purpose.index)
    const state = gate(output, basis, decided)
    if (state === Gate.closed || basis === undefined) return CLOSED
    return { variant: variantIndex(state === Gate.yes, operatorFieldsAllowed(output, basis, decided)), legal: basis.basis === 'legal_obligation' }
  }

  plan(variant: number): Plan {
    let plan = this.#plans.get(variant)
    if (plan === undefined) this.#plans.set(variant, (plan = planFor(this.#side.output, this.#side.source, VARIANTS[variant] as Plan['variant'])))
    return plan
  }
}

/** One thing that differs between two plans. */
interface Found {
  readonly verdict: ChangeVerdict
  readonly comparable: boolean
  /** Behind `outputs.O.streams.S`: `fields.position`, `when`. */
  readonly part: string
  readonly field: string | undefined
  readonly before: string
  readonly after: string
  readonly why: string
}

function compareActs(was: Acts | undefined, one: Act, is: Acts, other: Act, source: OutputStream): readonly Found[] {
  const found: Found[] = []
  const whole = (verdict: ChangeVerdict, before: string, after: string): Found => ({ verdict, comparable: true, part: '', field: undefined, before, after, why: '' })
  const leaving = (acts: Acts | undefined, act: Act): boolean => acts !== undefined && act.variant >= 0 && !isEmpty(acts.plan(act.variant))
  const [did, does] = [leaving(was, one), leaving(is, other)]
  if (!did && !does) return []
  if (!did) return [whole('widened', NONE, `leaves: ${contentOf(source)}`)]
  if (!does) return [whole('narrowed', `leaves: ${contentOf((was as Acts).source)}`, NONE)]
  comparePlans((was as Acts).plan(one.variant), is.plan(other.variant), { was: one.legal, is: other.legal }, found)
  compareEmit((was as Acts).source.emit, source.emit, found)
  return found
}

/** A plan of which nothing but header fields could leave never sends anything (rules-language 4.6). */
function isEmpty(plan: Plan): boolean {
  return plan.points.length === 0 && plan.root.steps.every((step) => step.header)
}

// -------------------------------------------------------------------------------------------------------------------- plans

function comparePlans(old: Plan, next: Plan, legal: { readonly was: boolean; readonly is: boolean }, found: Found[]): void {
  const add = (entry: Partial<Found> & Pick<Found, 'part' | 'verdict' | 'before' | 'after'>): void => void found.push({ comparable: true, field: undefined, why: '', ...entry })
  new NodeComparison(found, '', next.topic.flatMap((piece) => ('path' in piece ? [piece.path] : []))).compare(old.root, next.root, '')
  comparePoints(old, next, found)
  compareWhen(old, next, add)
  const [lost, won] = [missing(old.require, next.require), missing(next.require, old.require)]
  const names = (list: readonly string[]): string => (list.length === 0 ? NONE : list.join(', '))
  if (lost.length > 0) add({ verdict: 'widened', comparable: won.length === 0, part: 'require', before: names(old.require), after: names(next.require), why: 'messages without it leave too' })
  else if (won.length > 0) add({ verdict: 'narrowed', part: 'require', before: names(old.require), after: names(next.require) })
  // Only where a condition of both can fail; one without a condition never does.
  const [failed, fails] = [legal.was ? old.onError : undefined, legal.is ? next.onError : undefined]
  if (fails === undefined || isEmpty(fails)) return
  if (old.when === undefined) return
  if (failed === undefined) add({ verdict: 'widened', part: 'when', before: NONE, after: 'fields that are never personal', why: 'when the condition cannot be evaluated' })
  else new NodeComparison(found, ', when the condition cannot be evaluated').compare(failed.root, fails.root, '')
}

/** [rules-language 4.7] Whether a message arrives tells what the condition reads. */
function compareWhen(old: Plan, next: Plan, add: (entry: Partial<Found> & Pick<Found, 'part' | 'verdict' | 'before' | 'after'>) => void): void {
  const [was, is] = [old.when, next.when]
  if (was?.text === is?.text) return
  const text = (condition: Condition | undefined): string => (condition === undefined ? 'every message' : condition.text)
  const base = { part: 'when', before: text(was), after: text(is) }
  if (is === undefined) add({ ...base, verdict: 'widened' })
  else if (was === undefined && isTold(is, old)) add({ ...base, verdict: 'narrowed' })
  else add({ ...base, verdict: 'widened', comparable: false, why: `tells one bit of ${is.reads.length === 0 ? 'the machine' : is.reads.join(', ')}` })
}

/** Whether everything that a condition reads leaves as it is anyway. */
function isTold(condition: Condition, plan: Plan): boolean {
  return condition.reads.length > 0 && !/\b(machine|country)\b/.test(condition.text) && condition.reads.every((path) => {
    const steps = stepsAlong(plan.root, path)
    const last = steps?.at(-1)
    return last?.kind === 'value' && last.chain.length === 0 && steps!.every((step) => !step.field.repeated)
  })
}

function compareEmit(old: Emit | undefined, next: Emit | undefined, found: Found[]): void {
  const text = (emit: Emit | undefined): string => (emit === undefined ? 'every message' : shown({ every: emit.everyMs === undefined ? undefined : formatDuration(emit.everyMs), take: emit.take, on_change: emit.onChange, hold: emit.hold }))
  if (text(old) === text(next)) return
  const base = { part: 'emit', field: undefined, before: text(old), after: text(next), why: '' }
  // It looks at results alone, so to thin them out tells nothing that they did not.
  if (old === undefined) found.push({ ...base, verdict: 'narrowed', comparable: true })
  else if (next === undefined) found.push({ ...base, verdict: 'widened', comparable: true })
  else {
    const same = shown({ take: old.take, on: old.onChange }) === shown({ take: next.take, on: next.onChange })
    const thinner = (a: Emit, b: Emit): boolean => same && (a.hold || !b.hold) && (a.everyMs === b.everyMs || (b.onChange.length === 0 && a.everyMs !== undefined && (b.everyMs === undefined || a.everyMs % b.everyMs === 0)))
    const narrower = thinner(next, old)
    found.push({ ...base, verdict: narrower ? 'narrowed' : 'widened', comparable: narrower || thinner(old, next) })
  }
}

function comparePoints(old: Plan, next: Plan, found: Found[]): void {
  const push = (name: string, verdict: ChangeVerdict, comparable: boolean, before: string, after: string, why = ''): void => void found.push({ verdict, comparable, part: `fields.${name}`, field: name, before, after, why })
  for (const { point, chain } of next.points) {
    const was = old.points.find((one) => one.point.name === point.name)
    if (was === undefined) {
      push(point.name, 'widened', true, NONE, chainText(chain))
      continue
    }
    if (definition(was.point) !== definition(point)) {
      const added = was.point.valid === undefined && point.valid !== undefined && definition({ ...point, valid: undefined }) === definition(was.point) && isTold(point.valid, old)
      push(point.name, added ? 'narrowed' : 'widened', added, definition(was.point), definition(point), 'another definition of the point')
    }
    compareChains(was.chain, chain, (verdict, comparable) => push(point.name, verdict, comparable, chainText(was.chain), chainText(chain)))
  }
  for (const { point, chain } of old.points) if (!next.points.some((one) => one.point.name === point.name)) push(point.name, 'narrowed', true, chainText(chain), NONE)
}

function definition(point: Point): string {
  return shown({ ...point, name: undefined })
}

/** Walks two plans in step. They are graphs where messages contain themselves, so each pair of nodes is seen once. */
class NodeComparison {
  readonly #found: Found[]
  readonly #context: string
  readonly #topic: readonly string[]
  readonly #seen = new Map<PlanNode, Set<PlanNode | undefined>>()

  /** @param topic  paths of the fields that fill the topic */
  constructor(found: Found[], context: string, topic: readonly string[] = []) {
    this.#found = found
    this.#context = context
    this.#topic = topic
  }

  compare(old: PlanNode | undefined, next: PlanNode, prefix: string): void {
    const seen = this.#seen.get(next) ?? new Set()
    if (seen.has(old)) return
    this.#seen.set(next, seen.add(old))
    for (const step of next.steps) this.#step(old?.steps.find((one) => one.field.number === step.field.number), step, `${prefix}${step.field.name}`)
    for (const step of old?.steps ?? []) {
      if (!next.steps.some((one) => one.field.number === step.field.number)) this.#push(`${prefix}${step.field.name}`, 'narrowed', true, stepText(step), NONE)
    }
    // A message that is kept whole leaves also when nothing is in it.
    if (old !== undefined && next.whole && !old.whole && prefix !== '') this.#push(prefix.slice(0, -1), 'widened', false, 'when something is in it', 'whenever it is there')
  }

  #step(old: PlanStep | undefined, next: PlanStep, path: string): void {
    if (old === undefined) {
      if (next.kind === 'node' && !next.node.whole) this.compare(undefined, next.node, `${path}.`)
      else if (next.kind === 'keyed') for (const [key, node] of next.keyed.nodes) this.compare(undefined, node, `${path}.${key}.`)
      else this.#push(path, 'widened', true, NONE, stepText(next))
      return
    }
    const [was, is] = [wireText(old.field), wireText(next.field)]
    if (was !== is) {
      this.#push(path, 'widened', false, `${stepText(old)} of ${was}`, `${stepText(next)} of ${is}`, 'another field of the schema under this number')
      return
    }
    // [rules-language 4.4] A zero is not written; where a transform makes something else of it, it counts as content.
    if ('chain' in old && 'chain' in next && !next.header && isMadeOfZero(next) && !isMadeOfZero(old)) this.#push(path, 'widened', true, stepText(old), stepText(next), 'messages in which it is zero and nothing else leave too')
    else if ('chain' in old && 'chain' in next && isConstant(next.chain) && old.chain.some((one) => mayFail(one, next.field))) this.#push(path, 'widened', true, stepText(old), stepText(next), 'messages in which nothing could be made of it have it, too')
    else if ('chain' in old && 'chain' in next && this.#topic.includes(path) && !isLevel(old) && chainText(old.chain) !== chainText(next.chain)) this.#push(path, 'widened', true, stepText(old), stepText(next), 'messages in which it could fill no topic leave too')
    if (old.header && !next.header) this.#push(path, 'widened', true, 'no content by itself', 'counts as content', 'messages with nothing else leave too')
    this.#content(old, next, path)
  }

  #content(old: PlanStep, next: PlanStep, path: string): void {
    if (next.kind === 'node' && old.kind === 'node') this.compare(old.node, next.node, `${path}.`)
    else if (next.kind === 'keyed' && old.kind === 'keyed') this.#keyed(old, next, path)
    else if ('chain' in next && 'chain' in old) compareChains(old.chain, next.chain, (verdict, comparable) => this.#push(path, verdict, comparable, stepText(old), stepText(next)))
    // Everything of the old one was there to see; a part of it, or a transform of it, tells less.
    else if (old.kind === 'node' && old.node.whole) this.#push(path, 'narrowed', true, stepText(old), stepText(next))
    else this.#push(path, 'widened', next.kind === 'node' && next.node.whole, stepText(old), stepText(next))
  }

  #keyed(old: PlanStep & { readonly kind: 'keyed' }, next: PlanStep & { readonly kind: 'keyed' }, path: string): void {
    const by = ({ keyed }: typeof old): string => (keyed.by.fn === 'none' ? keyed.by.member : `${keyed.by.fn}(${keyed.by.member})`)
    if (by(old) !== by(next) || wireText(old.keyed.key) !== wireText(next.keyed.key)) {
      this.#push(path, 'widened', false, `by ${by(old)}`, `by ${by(next)}`)
      return
    }
    for (const [key, node] of next.keyed.nodes) this.compare(old.keyed.nodes.get(key), node, `${path}.${key}.`)
    for (const key of old.keyed.nodes.keys()) if (!next.keyed.nodes.has(key)) this.#push(`${path}.${key}`, 'narrowed', true, 'leaves', NONE)
  }

  #push(path: string, verdict: ChangeVerdict, comparable: boolean, before: string, after: string, why = ''): void {
    this.#found.push({ verdict, comparable, part: `fields.${path}${this.#context}`, field: path, before, after, why })
  }
}

/** Whether something is written of a field that has its type's zero. */
function isMadeOfZero(step: PlanStep): boolean {
  const { field } = step
  if (!('chain' in step) || field.repeated || field.presence || field.type === 'message' || field.type === 'group') return false
  let now: Value | undefined = zeroOf(field)
  for (const one of step.chain) {
    // What depends on keys makes something of whatever it gets.
    if (KEYED.has(one.name)) return true
    now = specOf(one).bind(one.params, field, NO_SERVICES)(now, NO_MOMENT)
    if (now === undefined) return false
  }
  return !isZero(now)
}

function isConstant(chain: readonly Transform[]): boolean {
  return chain[0]?.name === 'constant'
}

/** Whether a transform makes nothing of some values: the field is dropped then (rules-language 4.5). */
function mayFail({ name, params }: Transform, { type }: FieldShape): boolean {
  if (name === 'map') return params.else === undefined
  if (name === 'bucket' || name === 'clamp') return type === 'double' || type === 'float'
  return !['keep', 'constant', 'mask', 'truncate', 'keep_bytes', 'flags'].includes(name)
}

/** Whether the result always fits into a topic: numbers do, and of texts those that are made here. */
function isLevel({ field, ...step }: PlanStep): boolean {
  return field.type !== 'string' || ('chain' in step && (isConstant(step.chain) || step.chain.at(-1)?.name === 'pseudonym'))
}

const KEYED: ReadonlySet<string> = new Set(['pseudonym', 'encrypt', 'noise'])
const NO_SERVICES = {} as Services
const NO_MOMENT: Moment = { eventMs: Number.NaN, session: '', machine: '', cells: undefined }

function stepText(step: PlanStep): string {
  if (step.kind === 'node') return step.node.whole ? 'keep, with all in it' : 'parts of it'
  if (step.kind === 'keyed') return `${step.keyed.nodes.size} keys of it`
  return chainText(step.chain)
}

/** In a plan an empty chain means kept. */
function chainText(chain: readonly Transform[]): string {
  return textOfChain(asRule(chain))
}

function asRule(chain: readonly Transform[]): readonly Transform[] {
  return chain.length === 0 ? KEEP : chain
}
const KEEP: readonly Transform[] = [{ name: 'keep', params: {} }]

/** What of a field shapes its bytes. */
function wireText({ name, type, repeated, map, presence, oneof, message, enum: members }: FieldShape): string {
  return `${repeated ? 'repeated ' : ''}${map ? 'map ' : ''}${message?.name ?? members?.name ?? type} ${name}${presence ? ', may be absent' : ''}${oneof === undefined ? '' : `, one of ${oneof}`}`
}

function compareChains(old: readonly Transform[], next: readonly Transform[], differ: (verdict: ChangeVerdict, comparable: boolean) => void): void {
  const [coarser, finer] = [isChainCoarser(next, old), isChainCoarser(old, next)]
  if (coarser && finer) {
    // Constants are as coarse as one another.
    if (chainText(old) !== chainText(next)) differ('changed', true)
  } else if (coarser) differ('narrowed', true)
  else differ('widened', finer)
}

/** Whether `u` is provably coarser than or equal to `t`, also in what the transforms' names do not say: zones, wire units, whose row it is. */
function isChainCoarser(u: readonly Transform[], t: readonly Transform[]): boolean {
  const [coarse, fine] = [asRule(u), asRule(t)]
  if (!isCoarserOrEqual(coarse, fine)) return false
  if (isDrop(coarse) || coarse[0]?.name === 'constant' || fine.every((one) => one.name === 'keep')) return true
  const reduced = coarse.filter((one) => one.name !== 'keep')
  return fine.filter((one) => one.name !== 'keep').every((step, at) => {
    const other = reduced[at] as Transform
    switch (step.name) {
      case 'hide_in': return zonesOf(step).every(([name, zone]) => zonesOf(other).some(([same, larger]) => same === name && covers(larger, zone)))
      case 'pseudonym': case 'encrypt': return step.params.subject === other.params.subject
      case 'round_time': return step.params.wire === other.params.wire || (other.params.wire as number) % (step.params.wire as number) === 0
      default: return true
    }
  })
}

function zonesOf({ params }: Transform): readonly (readonly [string, Zone])[] {
  return (params.names as readonly string[]).map((name, at) => [name, (params.zones as readonly Zone[])[at] as Zone])
}

// ------------------------------------------------------------------------------------------------------------- legal basis

/** The basis itself, beside what it opens, so that a reader sees the cause of what the outputs list. */
function compareBasis(old: Policy, next: Policy, places: readonly Place[], list: Changes): void {
  for (const output of next.outputs) {
    const before = old.outputs.find((one) => one.id === output.id)
    if (before?.basis === undefined && output.basis === undefined) continue
    if (before !== undefined) addBasis(list, `outputs.${output.id}.basis`, output.id, before, output, [{ label: 'everywhere', old: before.basis, next: output.basis }])
  }
  for (const purpose of next.purposes) {
    const taker = next.outputs.find((output) => output.purpose.id === purpose.id && output.basis === undefined)
    if (!old.purposes.some((one) => one.id === purpose.id)) continue
    const bases = places.map((place) => ({ label: place.label, old: basisFor(old.basis, place.country, purpose.id), next: basisFor(next.basis, place.country, purpose.id) }))
    addBasis(list, `legal_basis.${purpose.id}`, undefined, taker, taker, bases)
  }
}

function addBasis(list: Changes, where: string, output: string | undefined, before: Output | undefined, after: Output | undefined, bases: readonly { readonly label: string; readonly old: BasisEntry | undefined; readonly next: BasisEntry | undefined }[]): void {
  const groups = new Map<string, { readonly was: BasisEntry | undefined; readonly is: BasisEntry | undefined; readonly countries: string[] }>()
  for (const one of bases) {
    const [was, is] = [basisText(one.old), basisText(one.next)]
    if (was === is) continue
    const group = groups.get(`${was}\u0000${is}`)
    if (group === undefined) groups.set(`${was}\u0000${is}`, { was: one.old, is: one.next, countries: [one.label] })
    else group.countries.push(one.label)
  }
  for (const { was, is, countries } of groups.values()) {
    const verdict = before === undefined || after === undefined ? 'changed' : opening(before, was, after, is)
    list.add({ verdict, where, output, before: basisText(was), after: basisText(is), countries })
  }
}

/** What a basis opens against what another does, in any situation. Fields about the operator count where the output has some. */
function opening(before: Output, was: BasisEntry | undefined, after: Output, is: BasisEntry | undefined): ChangeVerdict {
  let verdict: ChangeVerdict = 'changed'
  for (const { decision } of SITUATIONS) {
    const [one, other] = [gate(before, was, decision(1 << before.purpose.index)), gate(after, is, decision(1 << after.purpose.index))]
    if (other > one) return 'widened'
    if (other < one) verdict = 'narrowed'
  }
  return verdict
}

function basisText(entry: BasisEntry | undefined): string {
  if (entry === undefined) return 'not listed, closed'
  const notes = [entry.law, entry.assessment, entry.employeeConsent].filter((one) => one !== undefined)
  return notes.length === 0 ? entry.basis : `${entry.basis} (${notes.join('; ')})`
}
