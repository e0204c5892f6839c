/**
 * Lints (rules-language 6): what is allowed by the letter and still gives a person away. Each is one function in a table;
 * `accept:` waives one at a place, with a reason.
 */
import { EEA, Strictness, basisFor, strictness } from '../domain/basis.ts'
import type { Finding } from '../domain/errors.ts'
import type { Pieces } from '../domain/pieces.ts'
import type { BasisEntry, FieldRule, Keyed, Output, OutputStream, Transform } from '../domain/policy.ts'
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { pgnOf } from '../minimise/interpret.ts'
import { formatDuration } from '../minimise/quantity.ts'
import { isCoarserOrEqual, isDrop } from '../minimise/transforms.ts'
import { pathOf } from '../minimise/tree.ts'
import { kindOf } from '../minimise/value.ts'
import { basesOf, whereOf, type Source } from './check.ts'
import { CODES, type Code } from './codes.ts'
import { exposed, keyAsWritten, step, type Exposed } from './field-rules.ts'
import type { Findings, Where } from './findings.ts'
import { comparable } from './legal-basis.ts'
import { suggestion } from './nearest.ts'
import { territoryOf } from './places.ts'
import type { AcceptText } from './rules-file.ts'
import { placeholdersOf } from './topics.ts'

export interface Lint {
  readonly code: Code
  find(source: Source): Iterable<Hit>
}

export interface Hit {
  readonly where: Where
  readonly sentence: string
  readonly mend?: string
}

export function* lintPolicy(source: Source): Pieces<void> {
  for (const lint of LINTS) {
    for (const hit of lint.find(source)) source.findings.add(lint.code, hit.where, hit.sentence, hit.mend)
    yield
  }
}

/** In the order of rules-language 6. Severity, meaning and mend of a code stand in codes.ts. */
export const LINTS: readonly Lint[] = [
  { code: 'PRECISE-BESIDE-HEADING', find: preciseBesideHeading },
  { code: 'RAW-PERSONAL-TOPIC', find: rawPersonalTopic },
  { code: 'ROTATE-NEVER-PERSON', find: rotateNeverPerson },
  { code: 'ROTATION-UNDONE', find: rotationUndone },
  { code: 'ROTATION-DIFFERS', find: rotationDiffers },
  { code: 'COUNTER-BESIDE-PSEUDONYM', find: counterBesidePseudonym },
  { code: 'ARRIVAL-TELLS-TIME', find: arrivalTellsTime },
  { code: 'NO-TRANSFER', find: noTransfer },
  { code: 'PURPOSE-WITHOUT-CLAUSE', find: purposeWithoutClause },
  { code: 'PURPOSES-NOT-DECLARED', find: purposesNotDeclared },
  { code: 'PURPOSE-WITHOUT-BASIS', find: purposeWithoutBasis },
  { code: 'LAW-MISSING', find: (source) => entriesWith(source, (entry) => entry.basis === 'legal_obligation' && entry.law === undefined, 'rests on a legal obligation, but no law is named') },
  { code: 'ASSESSMENT-MISSING', find: (source) => entriesWith(source, (entry) => entry.basis === 'legitimate_interest' && entry.assessment === undefined, 'rests on a legitimate interest, but no assessment is named') },
  { code: 'SALE-OR-ADVERTISING', find: saleOrAdvertising },
  { code: 'EMPLOYEE-CONSENT', find: employeeConsent },
  { code: 'MIXED-TOPIC', find: mixedTopic },
  { code: 'BRIDGE-RECIPIENT', find: bridgeRecipient },
  { code: 'LOAD-BESIDE-OPERATOR', find: loadBesideOperator },
  { code: 'PGN-PERSONAL', find: pgnPersonal },
  { code: 'OUTPUT-BASIS-WEAKER', find: outputBasisWeaker },
  { code: 'HOLDER-SEES-REFUSAL', find: holderSeesRefusal },
  { code: 'NO-CONSENT-UNREACHABLE', find: noConsentUnreachable },
  { code: 'UNTESTED', find: untested },
]

// ------------------------------------------------------------------------------------------------------------ what is seen

/** What one output sends of one stream with the operator's yes, or without it. */
interface View {
  readonly output: Output
  readonly one: OutputStream
  readonly yes: boolean
  readonly leaves: readonly { readonly rule: FieldRule; readonly leaf: Exposed }[]
}

const viewsBySource = new WeakMap<Source, readonly View[]>()

/** All views that some country can produce: an output that needs a yes everywhere has none without it. */
function viewsOf(source: Source): readonly View[] {
  const known = viewsBySource.get(source)
  if (known !== undefined) return known
  const views: View[] = []
  for (const output of source.policy.outputs) {
    const bases = basesOf(source.policy, output).map(({ entry }) => strictness(entry.basis))
    if (bases.every((level) => level === Strictness.forbidden)) continue
    const withoutYes = bases.some((level) => level < Strictness.consent)
    for (const one of output.streams) {
      for (const yes of withoutYes ? [true, false] : [true]) {
        const leaves = one.fields.flatMap((rule) => exposed(rule, yes ? rule.consent : rule.noConsent, one.stream).map((leaf) => ({ rule, leaf })))
        views.push({ output, one, yes, leaves })
      }
    }
  }
  viewsBySource.set(source, views)
  return views
}

function isRaw(chain: readonly Transform[]): boolean {
  return chain.every(keepsMost)
}

/** Whether a transform leaves the usual values of a field as they are: one that bites at the far ends alone hides nobody. */
function keepsMost({ name, params }: Transform): boolean {
  if (name === 'keep' || params.keeps === true) return true
  switch (name) {
    case 'truncate': return (params.length as number) >= WHOLE_TEXT
    case 'mask': return (params.first as number) + (params.last as number) >= WHOLE_TEXT
    case 'keep_bytes': return params.from === 0 && (params.to as number) >= WHOLE_TEXT
    case 'flags': return BigInt.asUintN(WHOLE_BITS, ~(params.mask as bigint)) === 0n
    case 'clamp': return (params.hi as number) - (params.lo as number) >= WHOLE_SPAN
    case 'bucket': return (params.bounds as readonly number[]).every((bound, at, all) => at === 0 || bound - (all[at - 1] as number) <= 1) && (params.bounds as readonly number[]).length >= WHOLE_SPAN
    case 'round': return (params.step as number) <= FINE_STEP
    case 'round_time': return (params.ms as number) <= 1_000
    case 'map': return [...(params.table as ReadonlyMap<unknown, unknown>)].every(([from, to]) => from === to)
    default: return false
  }
}

/** Characters or bytes within which serial numbers, cards and names mostly lie. */
const WHOLE_TEXT = 16
/** Bits that a counter of a shift fits into. */
const WHOLE_BITS = 12
/** Steps of the wire within which the values of a signal mostly lie. */
const WHOLE_SPAN = 100
/** Of degrees 11 m; of anything else too little to tell. */
const FINE_STEP = 1e-4

function pseudonymOf(chain: readonly Transform[]): Transform | undefined {
  return chain.find((one) => one.name === 'pseudonym')
}

function rotationText(transform: Transform): string {
  const { rotate } = transform.params
  return rotate === 'never' ? 'never changes' : rotate === 'session' ? 'changes with each session' : `changes every ${formatDuration(rotate as number)}`
}

/** Categories of schemas that have none of ours are told by name. */
function isForeign(leaf: Exposed): boolean {
  return leaf.category === 'other' || leaf.category === 'unclassified'
}

function lastName(leaf: Exposed): string {
  return leaf.path.slice(leaf.path.lastIndexOf('.') + 1)
}

function isOperatorField(leaf: Exposed): boolean {
  return leaf.identifies.includes('operator') || leaf.identifies.includes('session')
}

// ------------------------------------------------------------------------------------------------------- positions and time

const GRID_COARSE = 1_000

function isPrecisePosition(leaf: Exposed): boolean {
  const grid = leaf.chain.find((one) => one.name === 'grid')
  if (leaf.point !== undefined) return grid === undefined || (grid.params.size as number) < GRID_COARSE
  return leaf.category === 'position' && leaf.unit === 'deg' && isRaw(leaf.chain)
}

function isMotion(leaf: Exposed): boolean {
  return leaf.category === 'motion' || (isForeign(leaf) && /(^|_)(speed|velocity|heading|course|bearing)(_|$)/i.test(lastName(leaf)) && !/wind|fan|engine|rpm/i.test(lastName(leaf)))
}

function* preciseBesideHeading(source: Source): Iterable<Hit> {
  const moving = new Map<string, Exposed>()
  for (const view of viewsOf(source)) {
    const motion = view.leaves.find(({ leaf }) => isMotion(leaf) && isRaw(leaf.chain))
    if (motion !== undefined && !moving.has(`${view.output.id} ${view.yes}`)) moving.set(`${view.output.id} ${view.yes}`, motion.leaf)
  }
  for (const view of viewsOf(source)) {
    const beside = moving.get(`${view.output.id} ${view.yes}`)
    if (beside === undefined) continue
    for (const { rule, leaf } of view.leaves) {
      if (isPrecisePosition(leaf)) yield { where: whereOf(source, rule), sentence: `"${rule.path}" is finer than 1 km, and "${beside.path}" leaves as it is in the same output.` }
    }
  }
}

/** An output with something additional, always personal or about an operator in it. */
function isPersonalView(view: View): boolean {
  return view.leaves.some(({ leaf }) => leaf.additional || leaf.personal === 'always' || isOperatorField(leaf))
}

function* arrivalTellsTime(source: Source): Iterable<Hit> {
  for (const view of viewsOf(source)) {
    if (view.output.arrivalVisible || !isPersonalView(view)) continue
    const { emit } = view.one
    // A message leaves at the end of its window, so its arrival tells the window: that must be as coarse as the time in it.
    const heldMs = emit?.everyMs !== undefined && (emit.hold || emit.take !== 'first') ? emit.everyMs : 0
    for (const { rule, leaf } of view.leaves) {
      const rounding = leaf.chain.find((one) => one.name === 'round_time')?.params.ms as number | undefined
      if (rounding === undefined || (heldMs > 0 && heldMs % rounding === 0)) continue
      const how = heldMs === 0 ? 'leaves at once' : `is kept for ${formatDuration(heldMs)}`
      yield { where: whereOf(source, rule), sentence: `"${leaf.path}" is rounded to ${formatDuration(rounding)}, but each message of "${view.output.id}" ${how}, so its arrival tells the time.` }
      break
    }
  }
}

// -------------------------------------------------------------------------------------------------------------- pseudonyms

function* rawPersonalTopic(source: Source): Iterable<Hit> {
  for (const view of viewsOf(source)) {
    for (const name of placeholdersOf(view.output.to.topic)) {
      const found = view.leaves.find(({ leaf }) => leaf.path === name)
      if (found === undefined || found.leaf.personal === 'never' || !isRaw(found.leaf.chain)) continue
      const where: Where = { path: ['outputs', view.output.id, 'to', 'topic'], at: view.output.to.topic.indexOf(`{${name}}`) }
      yield { where, sentence: `The topic shows "${name}" as it is, and it is ${found.leaf.personal === 'always' ? 'always personal' : 'linkable to a person'}.` }
    }
  }
}

function* rotateNeverPerson(source: Source): Iterable<Hit> {
  for (const { leaves } of viewsOf(source)) {
    for (const { rule, leaf } of leaves) {
      if (!isOperatorField(leaf) && leaf.personal !== 'always') continue
      if (pseudonymOf(leaf.chain)?.params.rotate === 'never') yield { where: whereOf(source, rule), sentence: `The pseudonym of "${leaf.path}" never changes, and it stands for a person.` }
      // The same value seals to the same text, so to whoever cannot open it a sealed one is a pseudonym that lasts.
      else if (leaf.chain.some((one) => one.name === 'encrypt')) yield { where: whereOf(source, rule), sentence: `"${leaf.path}" is sealed to the same text each time, and it stands for a person.`, mend: 'Write `pseudonym: { rotate: 30d }` or less, or accept it where the recipient has to open it.' }
    }
  }
}

interface Shown {
  readonly view: View
  readonly rule: FieldRule
  readonly leaf: Exposed
  readonly subject: string
  /** `raw`, `never`, `session` or milliseconds. */
  readonly rotation: unknown
}

const shownBySource = new WeakMap<Source, readonly Shown[]>()

/** Every way in which a recipient is shown whom a message is about. */
function subjectsShown(source: Source): readonly Shown[] {
  const known = shownBySource.get(source)
  if (known !== undefined) return known
  const shown: Shown[] = []
  for (const view of viewsOf(source)) {
    for (const { rule, leaf } of view.leaves) {
      const rotation = isRaw(leaf.chain) ? 'raw' : leaf.chain.some((one) => one.name === 'encrypt') ? 'never' : pseudonymOf(leaf.chain)?.params.rotate
      if (rotation !== undefined) for (const subject of leaf.identifies) shown.push({ view, rule, leaf, subject, rotation })
    }
  }
  shownBySource.set(source, shown)
  return shown
}

function isRotating(rotation: unknown): boolean {
  return rotation === 'session' || typeof rotation === 'number'
}

function* rotationUndone(source: Source): Iterable<Hit> {
  const shown = subjectsShown(source)
  const lasting = new Map<string, Shown>()
  for (const one of shown) if (!isRotating(one.rotation)) lasting.set(`${one.view.output.recipient.id} ${one.subject}`, one)
  for (const one of shown) {
    const other = lasting.get(`${one.view.output.recipient.id} ${one.subject}`)
    if (!isRotating(one.rotation) || other === undefined || other.view.output === one.view.output) continue
    yield {
      where: whereOf(source, one.rule),
      sentence: `"${one.view.output.recipient.id}" gets the ${one.subject} here under a changing pseudonym and in "${other.view.output.id}" ${other.rotation === 'raw' ? 'as it is' : 'under a lasting one'}, so the two can be joined.`,
    }
  }
}

function* rotationDiffers(source: Source): Iterable<Hit> {
  const first = new Map<string, Shown>()
  for (const one of subjectsShown(source)) {
    if (!isRotating(one.rotation)) continue
    const key = `${one.view.output.recipient.id} ${one.view.one.stream.id} ${one.subject}`
    const other = first.get(key)
    if (other === undefined) first.set(key, one)
    else if (other.view.output !== one.view.output && other.rotation !== one.rotation && !(isHeld(other.view) && isHeld(one.view))) {
      yield {
        where: whereOf(source, one.rule),
        sentence: `"${one.view.output.recipient.id}" gets the stream "${one.view.one.stream.id}" twice at the same moment, and the pseudonym of the ${one.subject} ${rotationText(pseudonymOf(one.leaf.chain) as Transform)} here but ${rotationText(pseudonymOf(other.leaf.chain) as Transform)} in "${other.view.output.id}".`,
      }
    }
  }
}

function isHeld(view: View): boolean {
  return view.one.emit?.hold === true
}

function isCounter(leaf: Exposed): boolean {
  return leaf.category === 'counter' || leaf.category === 'sequence' || (isForeign(leaf) && /(^|_)(seq|seq_?no|sequence|boot|counter|count|cycles|odometer|hour_?meter|hours|mileage)(_|$)/i.test(lastName(leaf)))
}

function* counterBesidePseudonym(source: Source): Iterable<Hit> {
  for (const view of viewsOf(source)) {
    const rotating = view.leaves.find(({ leaf }) => isRotating(pseudonymOf(leaf.chain)?.params.rotate))
    if (rotating === undefined) continue
    for (const { rule, leaf } of view.leaves) {
      if (isCounter(leaf) && isRaw(leaf.chain)) yield { where: whereOf(source, rule), sentence: `"${leaf.path}" leaves as it is and only grows, so it joins the changing pseudonyms of "${rotating.leaf.path}".` }
    }
  }
}

// --------------------------------------------------------------------------------------------- purposes, bases, recipients

const GUARDED = ['EEA', 'GB', 'CN']

function* noTransfer(source: Source): Iterable<Hit> {
  const { policy } = source
  const places = [...policy.basis.entries.keys()].filter((place) => place !== 'default' && (place === 'EEA' || /^[A-Z]{2}(-|$)/.test(place)))
  for (const output of policy.outputs) {
    for (const origin of GUARDED) {
      const inside = places.filter((place) => territoryOf(place) === origin)
      const from = inside.filter((place) => {
        const entry = output.basis ?? (place === 'EEA' ? policy.basis.entries.get('EEA')?.get(output.purpose.id) : basisFor(policy.basis, place, output.purpose.id))
        return entry !== undefined && entry.basis !== 'forbidden'
      })
      const { transfers, region } = output.recipient
      if (from.length === 0 || territoryOf(region) === origin || transfers.has(origin) || from.every((place) => transfers.has(place))) continue
      yield { where: { path: ['outputs', output.id, 'recipient'] }, sentence: `Data from ${origin} goes to "${output.recipient.id}" in ${region}, which has no transfer tool for it.`, mend: `Add \`transfers: { ${origin}: scc }\` (or the tool in use) to the recipient, or make the purpose forbidden in ${origin}.` }
    }
  }
}

function* purposeWithoutClause(source: Source): Iterable<Hit> {
  if (source.rules.purposes === undefined) return
  for (const purpose of source.policy.purposes) {
    if (purpose.clause === undefined) yield { where: { path: ['purposes', purpose.id], of: 'key' }, sentence: `The purpose "${purpose.id}" names no clause of the notice.` }
  }
}

function* purposesNotDeclared(source: Source): Iterable<Hit> {
  if (source.rules.purposes === undefined) yield { where: { path: ['outputs'], of: 'key' }, sentence: `The file has no \`purposes:\`, so nobody can read what ${source.policy.purposes.map((one) => `"${one.id}"`).join(', ')} means.` }
}

function* purposeWithoutBasis(source: Source): Iterable<Hit> {
  const { policy, rules } = source
  for (const purpose of policy.purposes) {
    if ([...policy.basis.entries.values()].some((row) => row.has(purpose.id))) continue
    const users = policy.outputs.filter((output) => output.purpose === purpose)
    const lacking = users.find((output) => output.basis === undefined)
    if (lacking !== undefined) yield { where: { path: ['outputs', lacking.id, 'purpose'] }, sentence: `The purpose "${purpose.id}" has a legal basis in no country, so "${lacking.id}" can never send anything.` }
    else if (users.length === 0 && rules.purposes !== undefined) yield { where: { path: ['purposes', purpose.id], of: 'key' }, sentence: `The purpose "${purpose.id}" has a legal basis in no country, and no output uses it.`, mend: 'Add it to `legal_basis:`, or remove the purpose.' }
  }
}

function* entriesWith(source: Source, wrong: (entry: BasisEntry) => boolean, what: string): Iterable<Hit> {
  for (const { entry, where, label } of allEntries(source)) if (wrong(entry)) yield { where, sentence: `${label} ${what}.` }
}

function* allEntries(source: Source): Iterable<{ readonly entry: BasisEntry; readonly where: Where; readonly label: string; readonly place: string; readonly purpose: string }> {
  for (const [place, row] of source.policy.basis.entries) {
    for (const [purpose, entry] of row) {
      yield { entry, place, purpose, where: { path: ['legal_basis', source.basis.written.get(place) ?? place, purpose] }, label: `"${purpose}" in ${place}` }
    }
  }
  for (const output of source.policy.outputs) {
    if (output.basis !== undefined) yield { entry: output.basis, place: '', purpose: output.purpose.id, where: { path: ['outputs', output.id, 'basis'] }, label: `The output "${output.id}"` }
  }
}

const SALE_IDS = /(^|[._-])(sale|sell|selling|resale|advertising|advertisement|ads|adtech)($|[._-])/i
/** [DPV 2] Purposes that are a sale of data or advertising. */
const SALE_TERMS = new Set(['SellDataToThirdParties', 'SellInsightsFromData', 'Advertising', 'PersonalisedAdvertising', 'TargetedAdvertising', 'NonPersonalisedAdvertising'])
const SALE_WORDS = /advertis|(sell|selling|sale) (of )?(the |personal |machine |telemetry |operator )*(data|information)|data brok/i

function* saleOrAdvertising(source: Source): Iterable<Hit> {
  for (const purpose of source.policy.purposes) {
    const term = purpose.dpv?.replace(/^.*[:#]/, '') ?? ''
    if (SALE_IDS.test(purpose.id) || SALE_TERMS.has(term) || SALE_WORDS.test(purpose.about)) {
      const declared = source.rules.purposes !== undefined
      const output = source.policy.outputs.find((one) => one.purpose === purpose)
      const where: Where = declared ? { path: ['purposes', purpose.id], of: 'key' } : { path: ['outputs', output?.id ?? '', 'purpose'] }
      yield { where, sentence: `The purpose "${purpose.id}" is the sale of data or advertising.` }
    }
  }
}

function* employeeConsent(source: Source): Iterable<Hit> {
  const personal = new Set(viewsOf(source).filter((view) => view.yes && isPersonalView(view)).map((view) => view.output.purpose.id as string))
  for (const { entry, place, purpose, where, label } of allEntries(source)) {
    const european = place === 'EEA' || EEA.has(place.slice(0, 2)) || [...source.policy.basis.groups].some(([member, groups]) => EEA.has(member.slice(0, 2)) && groups.includes(place))
    if (european && entry.basis === 'consent' && entry.employeeConsent === undefined && personal.has(purpose)) {
      yield { where, sentence: `${label} rests on consent, operators are employees, and nothing says why they can consent freely.` }
    }
  }
}

function* outputBasisWeaker(source: Source): Iterable<Hit> {
  for (const output of source.policy.outputs) {
    if (output.basis === undefined) continue
    for (const [place, row] of source.policy.basis.entries) {
      const entry = row.get(output.purpose.id)
      if (entry === undefined || comparable(output.basis) >= comparable(entry)) continue
      yield { where: { path: ['outputs', output.id, 'basis'] }, sentence: `The output says ${output.basis.basis} everywhere, but \`legal_basis:\` says ${entry.basis} for "${output.purpose.id}" in ${place}.` }
      break
    }
  }
}

/**
 * Who has the machine knows who works on it. Whatever such a recipient gets only with a person's yes, or until their no, tells by
 * being there or not who refused; and so does a field that is there, or finer, only with the yes.
 */
function* holderSeesRefusal(source: Source): Iterable<Hit> {
  for (const output of source.policy.outputs) {
    const { recipient } = output
    if (recipient.group !== 'holder') continue
    const asking = basesOf(source.policy, output).find(({ entry }) => strictness(entry.basis) > Strictness.open && strictness(entry.basis) < Strictness.forbidden)
    if (asking !== undefined) {
      yield { where: { path: ['outputs', output.id, 'recipient'] }, sentence: `"${recipient.id}" has the machine, and "${output.id}" rests on ${asking.entry.basis} somewhere: whether a message comes tells who refused.` }
      continue
    }
    for (const { fields } of output.streams) {
      for (const rule of fields) {
        if (rule.pair && !isAlike(rule)) yield { where: whereOf(source, rule), sentence: `"${recipient.id}" has the machine, and "${rule.path}" leaves otherwise with a yes than without: it tells who refused.` }
      }
    }
  }
}

/** Whether a pair leaves the same with a yes as without. */
function isAlike({ consent, noConsent }: FieldRule): boolean {
  return consent.kind === 'chain' && noConsent.kind === 'chain' && isCoarserOrEqual(consent.chain, noConsent.chain) && isCoarserOrEqual(noConsent.chain, consent.chain)
}

function* noConsentUnreachable(source: Source): Iterable<Hit> {
  for (const output of source.policy.outputs) {
    const bases = basesOf(source.policy, output)
    if (bases.length === 0 || bases.some(({ entry }) => strictness(entry.basis) < Strictness.consent)) continue
    for (const one of output.streams) {
      for (const rule of one.fields) {
        if (!rule.pair || (rule.noConsent.kind === 'chain' && isDrop(rule.noConsent.chain))) continue
        yield { where: step(whereOf(source, rule), 'no_consent'), sentence: `"${output.id}" is closed without consent in every country, so this branch is never taken.` }
      }
    }
  }
}

// -------------------------------------------------------------------------------------------------------- topics and bridges

function* mixedTopic(source: Source): Iterable<Hit> {
  for (const output of source.policy.outputs) {
    if (placeholdersOf(output.to.topic).includes('stream')) continue
    const messages = new Map(output.streams.map((one) => [one.stream.message.name, one.stream.id]))
    if (messages.size > 1) yield { where: { path: ['outputs', output.id, 'to', 'topic'] }, sentence: `The streams ${[...messages.values()].slice(0, 4).join(', ')} have different messages and go to one topic, so the recipient cannot decode them.` }
  }
}

function* bridgeRecipient(source: Source): Iterable<Hit> {
  for (const output of source.policy.outputs) {
    for (const [index, via] of output.to.via.entries()) {
      const bridge = source.bridges?.get(via)
      if (bridge !== undefined && bridge.recipient !== output.recipient.id) {
        yield { where: { path: ['outputs', output.id, 'to', 'via', index] }, sentence: `The bridge "${via}" belongs to "${bridge.recipient}", but the output is for "${output.recipient.id}".` }
      }
    }
  }
}

// --------------------------------------------------------------------------------------------------------- machine's data

const LOAD_FINE_KG = 50
const KILOGRAMS: Readonly<Record<string, number>> = { g: 0.001, kg: 1, t: 1_000 }

/** Smallest difference in kilograms that still shows; 0 when the value leaves as it is. */
function loadStep(leaf: Exposed): number {
  const perWire = leaf.scale * (KILOGRAMS[leaf.unit] ?? 1)
  let finest = 0
  for (const { name, params } of leaf.chain) {
    if (name === 'constant') return Number.POSITIVE_INFINITY
    if (name === 'round') finest = Math.max(finest, (params.step as number) * perWire)
    if (name === 'bucket') {
      const bounds = params.bounds as readonly number[]
      finest = Math.max(finest, Math.min(...bounds.slice(1).map((bound, index) => (bound - bounds[index]!) * perWire)))
    }
  }
  return finest
}

function* loadBesideOperator(source: Source): Iterable<Hit> {
  for (const view of viewsOf(source)) {
    const person = view.leaves.find(({ leaf }) => isOperatorField(leaf))
    if (person === undefined) continue
    for (const { rule, leaf } of view.leaves) {
      const load = leaf.category === 'load' || (isForeign(leaf) && (leaf.unit in KILOGRAMS || /(^|_)(load|weight|mass)(_|$)/i.test(lastName(leaf))))
      if (load && loadStep(leaf) < LOAD_FINE_KG) yield { where: whereOf(source, rule), sentence: `"${leaf.path}" is finer than 50 kg beside "${person.leaf.path}": it tells a person's weight.` }
    }
  }
}

/** [SAE J1939-71, -81, -21] address claim, transport protocol, component, software and vehicle identification, vehicle position, driver identification. */
const PERSONAL_PGNS = new Set([60_160, 60_416, 60_928, 65_259, 65_260, 65_256, 65_131, 65_132, 65_267])

function* pgnPersonal(source: Source): Iterable<Hit> {
  for (const output of source.policy.outputs) {
    for (const one of output.streams) {
      for (const rule of one.fields) {
        for (const branch of rule.pair ? [rule.consent, rule.noConsent] : [rule.consent]) {
          const where = rule.pair ? step(whereOf(source, rule), branch === rule.consent ? 'consent' : 'no_consent') : whereOf(source, rule)
          const named = branch.kind === 'keyed' ? groupsNamed(branch.keyed, rule) : undefined
          const frames = exposed(rule, branch, one.stream).find((leaf) => isFrameData(leaf, one.stream.message))
          if (named === undefined && frames !== undefined) yield { where, sentence: `"${frames.path}" leaves of every frame on the bus, so also of those that name a machine, a driver or a place.` }
          for (const { pgn, key } of named ?? []) yield { where: { ...step(where, 'only', key), of: 'key' }, sentence: `PGN ${pgn} names a machine, a driver or a place, or carries other frames in pieces.` }
        }
      }
    }
  }
}

/** Bytes of a bus frame: as the schema says, or in a schema that says nothing bytes beside an identifier in a message named for its bus. */
function isFrameData({ field, path, category }: Exposed, message: MessageShape): boolean {
  if (field?.type !== 'bytes') return false
  if (field.classified !== undefined) return category === 'can_raw'
  const owner = pathOf(message, path)?.at(-2)?.message ?? message
  return owner.fields.some((one) => isFrameId(one, owner))
}

function isFrameId(field: FieldShape, owner: MessageShape): boolean {
  if (field.classified !== undefined) return field.classified.category === 'can_raw'
  return kindOf(field) === 'integer' && !field.repeated && /(^|_)(id|identifier|can_?id|arbitration_?id)$/i.test(field.name) && /can|frame|j1939/i.test(owner.name.slice(owner.name.lastIndexOf('.') + 1))
}

/** The personal groups of which something leaves; undefined for a list whose key is no identifier of a frame. */
function groupsNamed(keyed: Keyed, rule: FieldRule): { readonly pgn: number; readonly key: string }[] | undefined {
  const { by, with: every, only } = keyed
  const message = rule.target.kind === 'field' ? rule.target.fields.at(-1)?.message : undefined
  const key = message?.byName.get(by.member)
  if (by.fn === 'none' && (key === undefined || !isFrameId(key, message as MessageShape))) return undefined
  return [...only].flatMap(([number, own]) => {
    const pgn = by.fn === 'j1939_pgn' ? number : pgnOf(number)
    // Identifiers of 11 bits have no PGN.
    const isGroup = by.fn === 'j1939_pgn' || number > 0x7ff
    const leaves = [...new Map([...every, ...own]).values()].some((chain) => !isDrop(chain))
    return isGroup && PERSONAL_PGNS.has(pgn) && leaves ? [{ pgn, key: keyAsWritten(keyed, number) }] : []
  })
}

// ------------------------------------------------------------------------------------------------------------------- tests

/** A test's message, as far as the text alone tells. */
interface TestPoint {
  readonly stream: unknown
  readonly consent: Readonly<Record<string, unknown>> | undefined
  readonly outputs: ReadonlySet<string>
  readonly others: boolean
}

/** Which branches no test reaches, told from the tests' text; `parapet test` measures it by running them. */
function* untested(source: Source): Iterable<Hit> {
  const points = testPoints(source)
  if (points.length === 0) {
    yield { where: { path: ['tests'], of: 'key' }, sentence: 'The file has no tests.' }
    return
  }
  for (const output of source.policy.outputs) {
    const bases = basesOf(source.policy, output).map(({ entry }) => strictness(entry.basis))
    if (bases.every((level) => level === Strictness.forbidden)) continue
    for (const one of output.streams) {
      const here = points.filter((point) => point.stream === one.stream.id && (point.outputs.has(output.id) || point.others))
      const both = bases.includes(Strictness.consent) || bases.includes(Strictness.opt_out) || one.fields.some((rule) => rule.pair)
      const said = (point: TestPoint): unknown => point.consent?.[output.purpose.id]
      // A step's consent depends on the steps before it: it counts for both.
      const yes = here.some((point) => point.outputs.has(output.id) && (point.consent === undefined || said(point) === 'granted'))
      const no = here.some((point) => point.consent === undefined || said(point) !== 'granted')
      const missing = !both ? (here.length > 0 ? undefined : 'at all') : !yes && !no ? 'at all' : !yes ? 'with consent' : !no ? 'without consent' : undefined
      if (missing !== undefined) yield { where: whereOf(source, one), sentence: `No test covers the stream "${one.stream.id}" of "${output.id}" ${missing}.` }
    }
  }
}

function testPoints(source: Source): TestPoint[] {
  return source.policy.tests.flatMap((test): TestPoint[] => {
    if (test.given !== undefined) {
      const expect = test.expect ?? {}
      return [{ stream: test.given.stream, consent: (test.given.consent as Readonly<Record<string, unknown>> | undefined) ?? {}, outputs: new Set(Object.keys(expect)), others: test.others === 'nothing' }]
    }
    return (test.steps ?? []).map((one) => ({ stream: one.stream, consent: undefined, outputs: new Set(Object.keys((one.expect as object | undefined) ?? {})), others: one.others === 'nothing' || test.others === 'nothing' }))
  })
}

// ------------------------------------------------------------------------------------------------------------------ accept

/** A lint that the file waives. */
export interface AcceptedLint {
  readonly finding: Finding
  readonly why: string
  readonly until: string | undefined
}

export interface Accepted {
  readonly kept: Finding[]
  readonly accepted: AcceptedLint[]
}

/**
 * Takes out what `accept:` waives. Only lints can be waived, some never; a waiver that has run out or fits nothing is a finding.
 * @param today     day as `2026-11-23`
 * @param complete  false when the lints did not run, so that a waiver without its lint means nothing
 */
export function applyAccepted(texts: readonly AcceptText[], findings: Findings, { today, complete }: { readonly today: string; readonly complete: boolean }): Accepted {
  const accepted = new Map<Finding, AcceptedLint>()
  const lints = findings.list.filter((one) => CODES[one.code as Code]?.kind === 'lint')
  for (const [index, text] of texts.entries()) {
    const path = ['accept', index]
    const code = text.code.toUpperCase() as Code
    const entry = Object.hasOwn(CODES, code) ? CODES[code] : undefined
    const all = LINTS.map((lint) => lint.code.toLowerCase())
    if (entry === undefined) {
      findings.add('UNKNOWN-LINT', { path: [...path, 'code'] }, `There is no lint "${text.code}".`, suggestion(text.code, all))
    } else if (entry.kind !== 'lint') {
      findings.add('ACCEPT-RULE', { path: [...path, 'code'] }, `"${text.code}" is a rule, and rules cannot be waived.`)
    } else if (entry.never === true) {
      findings.add('ACCEPT-NEVER', { path: [...path, 'code'] }, `"${text.code}" can never be waived.`)
    } else if (text.until !== undefined && !isDay(text.until)) {
      findings.add('BAD-VALUE', { path: [...path, 'until'] }, `${text.until} is no day of the calendar.`, '')
    } else if (text.until !== undefined && text.until < today) {
      findings.add('ACCEPT-EXPIRED', { path: [...path, 'until'] }, `The waiver of "${text.code}" at ${text.at} ended on ${text.until}.`)
    } else {
      const waived = lints.filter((one) => one.code === code && fits(text.at, one.path))
      for (const finding of waived) if (!accepted.has(finding)) accepted.set(finding, { finding, why: text.why, until: text.until })
      if (waived.length === 0 && complete) findings.add('ACCEPT-UNUSED', { path: [...path, 'at'] }, `Nothing at ${text.at} needs the waiver of "${text.code}".`)
    }
  }
  return { kept: findings.list.filter((one) => !accepted.has(one)), accepted: [...accepted.values()] }
}

/** Whether the names of `at` stand in the path in that order: `recovery.position` fits outputs.recovery.streams.status.fields.position. */
function fits(at: string, path: string): boolean {
  const names = at.split('.')
  let next = 0
  for (const part of path.split('.')) if (part === names[next]) next += 1
  return next === names.length
}

function isDay(text: string): boolean {
  const time = Date.parse(`${text}T00:00:00Z`)
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text)
}
