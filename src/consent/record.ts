/**
 * A person's consent in the form that others can read: the consent records and receipt of ISO/IEC TS 27560:2023, written in
 * JSON-LD with the Data Privacy Vocabulary 2 [DPV, "Consent Records and Receipts as per ISO/IEC TS 27560:2023 using DPV"];
 * and the history that the person may ask for [GDPR Art. 15(1), 7(1)].
 *
 * One record per purpose. Its events are those of the ledger, and those of the rules that ended or carried over an answer.
 * What DPV has no word for is in our own namespace: the state in our words (DPV knows no objection and no yes for the site
 * alone), the way a field leaves, the ledger's numbers.
 */
import { createHash } from 'node:crypto'
import { basisFor, EEA } from '../domain/basis.ts'
import type { ConsentSource, ConsentState } from '../domain/consent.ts'
import type { HistoryEntry } from '../domain/history.ts'
import type { PurposeId } from '../domain/ids.ts'
import type { Basis, Policy, Recipient, Stream } from '../domain/policy.ts'
import type { StoredEvent } from '../domain/ports.ts'
import { classificationOf, type Classification } from '../domain/schema.ts'
import { isYes, passesOn, stateAfter } from './history.ts'
import { scopeIn, type Scope } from './scope.ts'
import { tag } from './sealing.ts'

/** A node of JSON-LD. */
export interface Node {
  readonly [key: string]: unknown
}

export interface RecordSource {
  /** The person's consent.* and notice.* events, in the order of the ledger. */
  readonly events: readonly StoredEvent[]
  /** All policy.* events of the ledger: what each yes covered, and when the rules ended one. */
  readonly rules: readonly StoredEvent[]
  /** The person in the record: stands for nobody outside of it (`principalOf`). */
  readonly principal: string
  /** The person's country, when the register has one. */
  readonly country: string | undefined
  /** The rules in force, if any. */
  readonly policy: Policy | undefined
  /** Who runs the gateway, and so answers for it. */
  readonly controller: { readonly id: string; readonly name: string }
}

export interface ReceiptOptions {
  /** Number of the receipt, a random UUID. */
  readonly id: string
  readonly atMs: number
  /** This purpose alone. */
  readonly purpose?: PurposeId | undefined
}

/**
 * The id of a person in exported records: 16 bytes made under the person's ledger row, base64url. It ends with the row, says
 * nothing to whoever has only the record, and joins with no pseudonym of any output.
 */
export function principalOf(row: Uint8Array): string {
  return tag(row, 'parapet/v1|record|principal').subarray(0, 16).toString('base64url')
}

/** What happened to a person's answers, oldest first; of one purpose, or of all with the notices given. */
export function historyEntries(source: Pick<RecordSource, 'events' | 'rules'>, purpose?: PurposeId): readonly HistoryEntry[] {
  return timeline(source).filter((step) => purpose === undefined || step.purpose === purpose || step.purpose === undefined).map(({ event, ...step }) => {
    const body = event.body ?? {}
    const sourceOf = body['source'] as ConsentSource | undefined
    return {
      seq: event.seq, id: event.uuid, day: event.day, type: event.type, atMs: timeOf(event),
      ...(step.purpose === undefined ? {} : { purpose: step.purpose, before: step.before, after: step.after }),
      ...present({
        source: sourceOf, role: event.body === undefined ? undefined : roleOf(event.type, sourceOf), by: body['by'], policy: body['policy'], language: body['language'],
        evidence: body['evidence'], expiresAtMs: body['expires_at'], givenAtMs: body['given_at'], machine: body['machine'], country: body['country'],
        recipients: step.scope?.recipients.map(({ id, role, region }) => `${id} (${role}, ${region})`),
        body: event.type.startsWith('policy.') ? undefined : event.body,
      }),
    } as HistoryEntry
  })
}

/**
 * The receipt: a wrapper around one record per purpose that the person was ever asked about or answered.
 * @returns a JSON-LD document; equal sources and options give equal documents
 */
export function consentReceipt(source: RecordSource, { id, atMs, purpose }: ReceiptOptions): Node {
  const steps = timeline(source)
  const purposes = [...new Set(steps.flatMap((step) => step.purpose ?? []))].filter((one) => purpose === undefined || one === purpose)
  const records = purposes.map((one) => recordOf(source, one, steps.filter((step) => step.purpose === one), steps))
  return {
    '@context': CONTEXT,
    '@id': `urn:uuid:${id}`,
    '@type': 'dpv:ConsentReceipt',
    'dct:conformsTo': `${PROFILE}${records.some((record) => record['dct:conformsTo'] === RECORD_GDPR) ? 'receipt-eu-gdpr' : 'receipt-record'}`,
    'dct:identifier': id,
    'dpv:hasIdentifier': id,
    'dct:created': timeText(atMs),
    'dct:publisher': partyId(source.controller.id),
    'dct:audience': 'dpv:DataSubject',
    'dpv:hasRecordOfActivity': records,
  }
}

// ------------------------------------------------------------------------------------------------------------------ timeline

/** An event with what it did to the person's answer to its purpose. */
interface Step {
  readonly event: StoredEvent
  /** Undefined for a notice, and for what nobody can read any more. */
  readonly purpose?: PurposeId
  readonly before: ConsentState
  readonly after: ConsentState
  readonly scope: Scope | undefined
}

/** Plays the person's events and those of the rules in the order of the ledger, as history.ts does, and keeps each step. */
function timeline({ events, rules }: Pick<RecordSource, 'events' | 'rules'>): readonly Step[] {
  const states = new Map<PurposeId, { readonly state: ConsentState; readonly seq: number }>()
  const scopes = new Map(rules.flatMap((event) => (event.type === 'policy.scope' && event.body !== undefined ? [[event.seq, event.body['scope'] as Scope | undefined]] : [])))
  const steps: Step[] = []
  const stateOf = (purpose: PurposeId): ConsentState => states.get(purpose)?.state ?? 'not_set'
  const add = (event: StoredEvent, purpose: PurposeId, after: ConsentState, scope?: Scope): void => {
    steps.push({ event, purpose, before: stateOf(purpose), after, scope })
    states.set(purpose, { state: after, seq: event.seq })
  }
  for (const event of [...events, ...rules].sort((one, other) => one.seq - other.seq)) {
    const { type, body } = event
    if (type.startsWith('policy.')) {
      if (body === undefined) continue
      const purpose = body['purpose'] as PurposeId
      if (type === 'policy.scope' && body['wider'] === true && isYes(stateOf(purpose))) add(event, purpose, 'invalidated')
      if (type !== 'policy.replaces') continue
      const [replaced, own] = [states.get(body['replaces'] as PurposeId), states.get(purpose)]
      if (replaced !== undefined && passesOn(answer(replaced), own === undefined ? undefined : answer(own))) add(event, purpose, replaced.state)
    } else if (type.startsWith('consent.') && body !== undefined) {
      const purpose = body['purpose'] as PurposeId
      const asked = type.slice('consent.'.length) as ConsentState
      const scope = (body['scope'] as Scope | undefined) ?? scopes.get(Number(body['scope_event']))
      add(event, purpose, stateAfter(stateOf(purpose), asked), isYes(asked) ? scope : undefined)
    } else {
      steps.push({ event, before: 'not_set', after: 'not_set', scope: undefined })
    }
  }
  return steps
}

/** As `passesOn` wants it: of a row it looks at state and sequence alone. */
function answer({ state, seq }: { readonly state: ConsentState; readonly seq: number }): NonNullable<Parameters<typeof passesOn>[0]> {
  return { purpose: '' as PurposeId, state, seq, sinceMs: 0, expiresAtMs: undefined, policy: undefined, source: undefined }
}

function roleOf(type: string, source: ConsentSource | undefined): HistoryEntry['role'] {
  if (source === 'terminal' || source === 'portal') return 'person'
  if (source === 'admin') return 'admin'
  if (source === 'agent' || type.startsWith('notice.')) return 'privacy'
  // Expiry and wider rules end a yes without anybody asking.
  return 'rules'
}

// -------------------------------------------------------------------------------------------------------------------- record

const PROFILE = 'https://w3id.org/dpv/schema/dpv-27560#'
const RECORD = `${PROFILE}record`
const RECORD_GDPR = `${PROFILE}record-eu-gdpr`

function recordOf(source: RecordSource, purpose: PurposeId, steps: readonly Step[], all: readonly Step[]): Node {
  const { policy, country } = source
  const first = steps[0]!
  const newest = steps.at(-1)!
  const said = steps.findLast(({ event }) => typeof event.body?.['country'] === 'string')?.event.body?.['country'] as string | undefined
  const place = said ?? country
  const isEuropean = place !== undefined && (EEA.has(place.slice(0, 2)) || place.slice(0, 2) === 'GB')
  // What was agreed to; before and after a yes, what the person was or would be asked for.
  const granted = isYes(newest.after) ? steps.findLast(({ scope }) => scope !== undefined)?.scope : undefined
  const scope = granted ?? (policy === undefined ? undefined : scopeIn(policy, purpose))
  const recipients = (scope?.recipients ?? []).filter(({ id }) => newest.after !== 'local_only' || recipientOf(policy, id)?.onSite === true)
  const id = first.event.type.startsWith('policy.') ? derivedId(source.principal, purpose) : first.event.uuid
  const basis = policy === undefined ? undefined : (policy.outputs.find((output) => output.purpose.id === purpose)?.basis ?? basisFor(policy.basis, place, purpose))?.basis
  const parties = new Map<string, Node>([[partyId(source.controller.id), party(source.controller.id, 'controller', source.controller.name, undefined, undefined)]])
  for (const { id: recipient, role, region } of recipients) parties.set(partyId(recipient), party(recipient, role, recipient, region, recipientOf(policy, recipient)?.privacyContact))
  const common = { purpose, place, isEuropean, basis, source }
  const processes = recipients.map((recipient) => processOf(common, recipient, scope!))
  return {
    '@id': `urn:uuid:${id}`,
    '@type': 'dpv:ConsentRecord',
    'dct:conformsTo': isEuropean ? RECORD_GDPR : RECORD,
    'dct:identifier': id,
    'dct:created': timeText(timeOf(first.event)),
    'dct:modified': timeText(timeOf(newest.event)),
    'dpv:hasDataSubject': { '@id': `urn:parapet:principal:${source.principal}`, '@type': 'dpv:DataSubject', 'dct:identifier': source.principal },
    'dpv:hasNotice': noticesOf(source, steps, all),
    'dpv:hasEntity': [...parties.values()],
    'dpv:hasDataController': controllersOf(source, recipients),
    // Without a recipient, as under a yes for a site that has none, the process still says what for.
    'dpv:hasProcess': processes.length > 0 ? processes : [processOf(common, undefined, scope)],
    'dpv:hasJurisdiction': jurisdiction(place),
    // What is open anyway rests on its own ground; what the yes makes finer, on the yes.
    'dpv:hasLegalBasis': [...new Set([basisTerm(basis, isEuropean), ...(isYes(newest.after) && basis !== undefined && basis !== 'forbidden' ? [basisTerm('consent', isEuropean)] : [])])],
    'dpv:hasConsentControl': {
      '@type': ['dpv:ProvideConsent', 'dpv:WithdrawConsent'],
      'dpv:isExercisedAt': 'At the display of a machine after sign-on, in the portal, or through customer service; at any time, with effect at once.',
    },
    'dpv:hasRight': rightsOf(isEuropean),
    'dpv:hasConsentStatus': steps.map((step, at) => statusOf(source, step, steps.slice(0, at), isEuropean)),
    'parapet:state': newest.after,
  }
}

interface Common {
  readonly purpose: PurposeId
  readonly place: string | undefined
  readonly isEuropean: boolean
  readonly basis: Basis | undefined
  readonly source: RecordSource
}

function processOf({ purpose, place, isEuropean, basis, source }: Common, recipient: Scope['recipients'][number] | undefined, scope: Scope | undefined): Node {
  const { policy } = source
  const described = policy?.purposes.find(({ id }) => id === purpose)
  const fields = recipient === undefined ? [] : Object.entries(scope?.fields ?? {}).filter(([path]) => path.startsWith(`${recipient.id}/`))
  const data = fields.map(([path, text]) => fieldNode(policy, path.slice(recipient!.id.length + 1), text))
  const location = recipient === undefined ? [] : [region(recipient.region)]
  return {
    '@type': 'dpv:Process',
    'dpv:hasPurpose': {
      '@id': `urn:parapet:purpose:${purpose}`, '@type': 'dpv:Purpose', 'dct:identifier': purpose,
      ...present({ 'skos:broader': described?.dpv === undefined ? undefined : termOf(described.dpv), 'dct:description': described?.about, 'dct:source': described?.clause }),
    },
    'dpv:hasProcessing': ['dpv:Collect', 'dpv:Filter', 'dpv:Transmit'],
    'dpv:hasPersonalData': data.filter((node) => node['@type'] === 'dpv:PersonalData'),
    'dpv:hasData': data.filter((node) => node['@type'] !== 'dpv:PersonalData'),
    'dpv:hasDataSource': 'parapet:Machine',
    ...(recipient === undefined ? { 'dpv:hasRecipient': [] } : { 'dpv:hasRecipient': [partyId(recipient.id)], [ROLE_PROPERTIES[recipient.role] ?? 'dpv:hasThirdParty']: partyId(recipient.id) }),
    'dpv:hasStorageCondition': [
      { '@type': 'dpv:StorageLocation', 'dpv:hasLocation': location },
      { '@type': 'dpv:StorageDuration', 'dpv:hasDuration': recipient?.retentionMs === undefined ? { '@type': 'dpv:IndeterminateDuration' } : { '@type': 'dpv:TemporalDuration', 'rdf:value': durationText(recipient.retentionMs) } },
    ],
    'dpv:hasJurisdiction': jurisdiction(place),
    'dpv:hasLegalBasis': basisTerm(basis, isEuropean),
    'dpv:hasTechnicalMeasure': measuresOf(fields.map(([, text]) => text)),
  }
}

/** `status.position` with what leaves of it. */
function fieldNode(policy: Policy | undefined, path: string, transform: string): Node {
  const classified = classificationIn(policy, path)
  const isPersonal = classified === undefined || classified.personal !== 'never'
  return {
    '@type': isPersonal ? 'dpv:PersonalData' : 'dpv:NonPersonalData',
    'dct:identifier': path,
    ...(isPersonal ? { 'skos:broader': CATEGORY_TERMS[classified?.category ?? ''] ?? 'dpv:PersonalData' } : {}),
    'dpv:hasNecessity': classified?.class === 'basic' ? 'dpv:Required' : 'dpv:Optional',
    ...present({ 'parapet:category': classified?.category }),
    'parapet:leavesAs': transform,
  }
}

/** The strictest classification on the way to a field; undefined when the rules in force do not know it. */
function classificationIn(policy: Policy | undefined, path: string): Classification | undefined {
  const stream = policy?.streams.find(({ id }) => path.startsWith(`${id}.`)) ?? policy?.outputs.flatMap((output): readonly Stream[] => output.streams.map((one) => one.stream)).find(({ id }) => path.startsWith(`${id}.`))
  const name = stream === undefined ? '' : path.slice(stream.id.length + 1)
  const point = stream?.points?.find((one) => one.name === name)
  const field = stream?.message?.byName.get((point?.lat ?? name).split('.')[0]!)
  return field === undefined ? undefined : classificationOf(field)
}

function statusOf(source: RecordSource, { event, before, after }: Step, earlier: readonly Step[], isEuropean: boolean): Node {
  const body = event.body ?? {}
  const from = body['source'] as ConsentSource | undefined
  const isQuestion = event.type === 'consent.requested'
  const byPerson = from !== undefined && !isQuestion
  const isRenewed = byPerson && after === 'granted' && (before === 'granted' || earlier.some((step) => isYes(step.after))) && before !== 'withdrawn' && before !== 'refused' && before !== 'objected'
  const state = isRenewed ? 'dpv:RenewedConsentGiven' : STATE_TERMS[after]
  const expires = body['expires_at'] as number | undefined
  return {
    // Not its UUID alone: the first event gives that to the record, and two nodes of one name would become one.
    '@id': `urn:parapet:event:${event.uuid}`,
    '@type': isYes(after) && byPerson ? [state, 'dpv:ExpressedConsent'] : [state],
    'dct:identifier': event.uuid,
    'dpv:hasLegalBasis': isEuropean ? 'eu-gdpr:A6-1-a' : 'dpv:Consent',
    'dpv:isIndicatedAtTime': timeText((body['given_at'] as number | undefined) ?? timeOf(event)),
    'dpv:isIndicatedBy': byPerson ? 'dpv:DataSubject' : partyId(source.controller.id),
    ...(byPerson && from !== 'terminal' ? { 'dpv:isImplementedByEntity': partyId(source.controller.id) } : {}),
    'dpv:hasIndicationMethod': isQuestion ? (after === 'requested' ? 'the question was put' : 'the question was put again; the answer stands') : from === undefined ? END_METHODS[after] ?? 'taken over from a purpose that this one replaces' : METHODS[from],
    'dpv:hasDuration': isYes(after)
      ? expires === undefined ? { '@type': 'dpv:UntilEventDuration', 'rdf:value': 'withdrawal or objection, or rules that let out more' } : { '@type': 'dpv:UntilTimeDuration', 'rdf:value': timeText(expires) }
      : { '@type': 'dpv:UntilEventDuration', 'rdf:value': 'another answer' },
    ...(after === 'local_only' ? { 'dpv:hasGeographicCoverage': 'dpv:LocalEnvironmentScale' } : {}),
    ...present({
      'dpv:hasNotice': typeof body['policy'] === 'string' && body['policy'] !== '' ? noticeId(source, body['policy']) : undefined,
      'dct:language': body['language'], 'parapet:evidenceSha256': body['evidence_sha256'], 'parapet:scopeSha256': body['scope_sha256'],
      'parapet:replaces': event.type === 'policy.replaces' ? body['replaces'] : undefined,
    }),
    'parapet:recordedAt': timeText(timeOf(event)),
    'parapet:state': after,
    'parapet:sequence': event.seq,
  }
}

/** Notices that the person was given, and those of the policies under which the answers were given. */
function noticesOf(source: RecordSource, steps: readonly Step[], all: readonly Step[]): readonly Node[] {
  const notices = new Map<string, { language: string | undefined; givenMs: number | undefined }>()
  for (const { event } of steps) {
    const id = event.body?.['policy']
    if (typeof id === 'string' && id !== '') notices.set(id, { language: (event.body?.['language'] as string | undefined) ?? notices.get(id)?.language, givenMs: undefined })
  }
  for (const { event } of all) {
    const id = event.body?.['policy']
    if (event.type === 'notice.given' && typeof id === 'string') notices.set(id, { language: (event.body?.['language'] as string | undefined) ?? notices.get(id)?.language, givenMs: timeOf(event) })
  }
  if (notices.size === 0 && source.policy !== undefined) notices.set(source.policy.id, { language: undefined, givenMs: undefined })
  return [...notices].map(([id, { language, givenMs }]) => {
    const isActive = id === source.policy?.id
    return {
      '@id': noticeId(source, id),
      '@type': 'dpv:ConsentNotice',
      'dct:identifier': id,
      // [BCP 47] undetermined
      'dct:language': language ?? 'und',
      ...present({ 'dct:date': isActive ? source.policy?.effective : undefined, 'schema:url': isActive ? source.policy?.notice : undefined, 'dct:issued': givenMs === undefined ? undefined : timeText(givenMs) }),
    }
  })
}

function noticeId({ policy }: RecordSource, id: string): string {
  return id === policy?.id && policy.notice !== undefined && URL.canParse(policy.notice) ? policy.notice : `urn:parapet:policy:${id}`
}

function controllersOf({ controller }: RecordSource, recipients: Scope['recipients']): readonly string[] {
  return [controller.id, ...recipients.filter(({ role }) => role !== 'processor').map(({ id }) => id)].map(partyId)
}

/** The rules name a region, not a street; the contact is that of the rules. */
function party(id: string, role: string, name: string, where: string | undefined, contact: string | undefined): Node {
  return {
    '@id': partyId(id), '@type': ['dpv:Organisation', ROLE_TERMS[role] ?? 'dpv:ThirdParty'], 'dct:identifier': id, 'dpv:hasIdentifier': id, 'dpv:hasName': name,
    ...present({ 'dpv:hasLocation': where === undefined ? undefined : region(where), 'dpv:hasContact': contact }),
    'parapet:role': role,
  }
}

function partyId(id: string): string {
  return `urn:parapet:party:${id}`
}

function recipientOf(policy: Policy | undefined, id: string): Recipient | undefined {
  return policy?.recipients.find((one) => one.id === id) ?? policy?.outputs.find(({ recipient }) => recipient.id === id)?.recipient
}

function rightsOf(isEuropean: boolean): readonly Node[] {
  const right = (term: string, title: string): Node => ({ '@type': isEuropean ? ['dpv:DataSubjectRight', term] : ['dpv:DataSubjectRight'], 'dct:title': title, 'dpv:isExercisedAt': 'Customer service, or the contact of the recipient.' })
  return [
    right('eu-gdpr:A7-3', 'Right to withdraw consent'), right('eu-gdpr:A15', 'Right of access'), right('eu-gdpr:A16', 'Right to rectification'), right('eu-gdpr:A17', 'Right to erasure'),
    right('eu-gdpr:A18', 'Right to restriction of processing'), right('eu-gdpr:A20', 'Right to data portability'), right('eu-gdpr:A21', 'Right to object'),
  ]
}

// --------------------------------------------------------------------------------------------------------------------- terms

const IRI = { '@type': '@id' } as const

/** Prefixes of the guide, and which properties name things rather than texts. */
const CONTEXT: Node = {
  dpv: 'https://w3id.org/dpv#',
  pd: 'https://w3id.org/dpv/pd#',
  loc: 'https://w3id.org/dpv/loc#',
  'eu-gdpr': 'https://w3id.org/dpv/legal/eu/gdpr#',
  dct: 'http://purl.org/dc/terms/',
  skos: 'http://www.w3.org/2004/02/skos/core#',
  rdf: 'http://www.w3.org/1999/02/22-rdf-syntax-ns#',
  xsd: 'http://www.w3.org/2001/XMLSchema#',
  schema: 'https://schema.org/',
  parapet: 'urn:parapet:terms:',
  ...Object.fromEntries([
    'dct:conformsTo', 'dct:publisher', 'dct:audience', 'dpv:hasRecordOfActivity', 'dpv:hasDataSubject', 'dpv:hasNotice', 'dpv:hasEntity', 'dpv:hasDataController', 'dpv:hasDataProcessor',
    'dpv:hasThirdParty', 'dpv:hasProcess', 'dpv:hasPurpose', 'dpv:hasProcessing', 'dpv:hasPersonalData', 'dpv:hasData', 'dpv:hasDataSource', 'dpv:hasRecipient', 'dpv:hasStorageCondition',
    'dpv:hasLocation', 'dpv:hasDuration', 'dpv:hasJurisdiction', 'dpv:hasLegalBasis', 'dpv:hasTechnicalMeasure', 'dpv:hasNecessity', 'dpv:hasConsentControl', 'dpv:hasRight',
    'dpv:hasConsentStatus', 'dpv:isIndicatedBy', 'dpv:isImplementedByEntity', 'dpv:hasGeographicCoverage', 'skos:broader', 'schema:url',
  ].map((property) => [property, IRI])),
  ...Object.fromEntries(['dct:created', 'dct:modified', 'dct:issued', 'dpv:isIndicatedAtTime', 'parapet:recordedAt'].map((property) => [property, { '@type': 'xsd:dateTime' }])),
}

/** [DPV consent status] An objection is a refusal there; a yes for the site alone is a yes with a geographic bound. */
const STATE_TERMS: Readonly<Record<ConsentState, string>> = {
  not_set: 'dpv:ConsentUnknown', requested: 'dpv:ConsentRequested', granted: 'dpv:ConsentGiven', local_only: 'dpv:ConsentGiven', refused: 'dpv:ConsentRefused',
  withdrawn: 'dpv:ConsentWithdrawn', objected: 'dpv:ConsentRefused', expired: 'dpv:ConsentExpired', invalidated: 'dpv:ConsentInvalidated',
}

const METHODS: Readonly<Record<ConsentSource, string>> = {
  terminal: 'choice at the display of a machine, by the person signed on there',
  portal: 'portal at which the person was verified',
  agent: 'customer service, which recorded what the person said',
  admin: 'administrator of the gateway, who recorded what the person said',
}
const END_METHODS: Partial<Readonly<Record<ConsentState, string>>> = {
  expired: 'its time was over', invalidated: 'the rules became wider than what was agreed to',
}

const BASIS_TERMS: Readonly<Record<Basis, readonly [general: string, gdpr: string]>> = {
  consent: ['dpv:Consent', 'eu-gdpr:A6-1-a'],
  contract: ['dpv:ContractPerformance', 'eu-gdpr:A6-1-b'],
  legal_obligation: ['dpv:LegalObligation', 'eu-gdpr:A6-1-c'],
  vital_interest: ['dpv:VitalInterest', 'eu-gdpr:A6-1-d'],
  public_interest: ['dpv:PublicInterest', 'eu-gdpr:A6-1-e'],
  legitimate_interest: ['dpv:LegitimateInterest', 'eu-gdpr:A6-1-f'],
  // DPV has no word for these two.
  opt_out: ['parapet:OptOut', 'parapet:OptOut'],
  forbidden: ['parapet:Forbidden', 'parapet:Forbidden'],
}

function basisTerm(basis: Basis | undefined, isEuropean: boolean): string {
  return BASIS_TERMS[basis ?? 'forbidden'][isEuropean ? 1 : 0]
}

const ROLE_TERMS: Readonly<Record<string, string>> = { controller: 'dpv:DataController', processor: 'dpv:DataProcessor', joint_controller: 'dpv:DataController' }
const ROLE_PROPERTIES: Readonly<Record<string, string>> = { controller: 'dpv:hasDataController', processor: 'dpv:hasDataProcessor', joint_controller: 'dpv:hasDataController' }

/** Category of privacy.proto -> term of DPV-PD. */
const CATEGORY_TERMS: Readonly<Record<string, string>> = {
  identity: 'pd:UID', credential: 'pd:Authenticating', session: 'pd:AuthenticationHistory', performance: 'pd:PerformanceAtWork', machine_identity: 'pd:Vehicle', time: 'pd:VehicleUsage',
  sequence: 'pd:VehicleUsage', counter: 'pd:VehicleUsage', position: 'pd:Location', motion: 'pd:VehicleUsage', operation: 'pd:VehicleUsage', battery: 'pd:VehicleUsage', load: 'pd:VehicleUsage',
  posture: 'pd:VehicleUsage', fault: 'pd:VehicleUsage', safety: 'pd:VehicleUsage', check: 'pd:VehicleUsage', network: 'pd:DeviceBased', free_text: 'pd:Communication', media: 'pd:Picture',
  software: 'pd:DeviceSoftware',
}

/** Transforms as technical measures. */
function measuresOf(texts: readonly string[]): readonly string[] {
  const measures = new Set<string>()
  for (const text of texts) {
    if (/\bpseudonym\b/.test(text)) measures.add('dpv:Pseudonymisation')
    if (/\b(grid|round|round_time|bucket|truncate|mask|noise|hide_in|thin)\b/.test(text)) measures.add('dpv:Deidentification')
  }
  return ['dpv:EncryptionAtRest', ...[...measures].sort()]
}

/** A purpose's `dpv:` in the rules: a bare term is one of DPV's. */
function termOf(dpv: string): string {
  return dpv.includes(':') ? dpv : `dpv:${dpv}`
}

/** [ISO 3166] Where nobody knows the country, the strictest rules hold. */
function jurisdiction(place: string | undefined): string {
  return place === undefined ? 'parapet:UnknownJurisdiction' : `loc:${place}`
}

function region(code: string): string {
  return `loc:${code}`
}

function timeOf(event: StoredEvent): number | undefined {
  const at = event.body?.['at']
  return typeof at === 'number' ? at : undefined
}

/** ISO 8601 in UTC. */
function timeText(ms: number | undefined): string {
  return new Date(ms ?? 0).toISOString()
}

/** [ISO 8601] `P30D`, or hours and less where it is no number of days. */
function durationText(ms: number): string {
  return ms % 86_400_000 === 0 ? `P${ms / 86_400_000}D` : `PT${Math.ceil(ms / 1_000)}S`
}

/** [RFC 9562 5.8] For a record that began with the rules and not with an answer: the same each time it is written. */
function derivedId(principal: string, purpose: PurposeId): string {
  const bytes = createHash('sha256').update(JSON.stringify(['parapet/v1|record', principal, purpose])).digest()
  bytes[6] = (bytes[6]! & 0x0f) | 0x80
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}

function present(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}
