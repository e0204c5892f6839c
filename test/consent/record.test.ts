/** The export of a person's consent, as another party would read it, and the history that the person is given. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { Ajv } from 'ajv'
import { describe, expect, it } from 'vitest'
import { loadRulesFile } from '../../src/config/rules.ts'
import type { Books } from '../../src/consent/books.ts'
import { consentReceipt, historyEntries, principalOf, type Node, type RecordSource } from '../../src/consent/record.ts'
import type { ConsentChange } from '../../src/domain/ports.ts'
import type { Policy } from '../../src/domain/policy.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { clockAt, DAY, folder, machine, MINUTE, MORNING, op, open, policy, purpose, register, says, type TestClock } from './fixture.ts'

const root = resolve(import.meta.dirname, '../..')
const schema = JSON.parse(readFileSync(resolve(import.meta.dirname, 'consent-27560.schema.json'), 'utf8')) as object
const ajv = new Ajv({ allErrors: true, strictTypes: false, formats: { uri: (text: string) => URL.canParse(text), date: /^\d{4}-\d\d-\d\d$/ } })
const isReceipt = ajv.compile(schema)

const RECEIPT = '3f0c1a52-6a0e-4a3c-9b86-2d1f6f0b9c11'
const AT = MORNING + 10 * DAY

/** Terms as the vocabularies spell them (DPV 2.3 with its extensions pd, loc, eu-gdpr; DCMI terms). */
const TERMS: Readonly<Record<string, ReadonlySet<string>>> = {
  dpv: new Set([
    'ConsentReceipt', 'ConsentRecord', 'ConsentNotice', 'DataSubject', 'DataController', 'DataProcessor', 'ThirdParty', 'Organisation', 'Process', 'Purpose', 'PersonalData', 'NonPersonalData',
    'Collect', 'Filter', 'Transmit', 'StorageLocation', 'StorageDuration', 'TemporalDuration', 'UntilTimeDuration', 'UntilEventDuration', 'IndeterminateDuration', 'ProvideConsent', 'WithdrawConsent',
    'DataSubjectRight', 'Required', 'Optional', 'ConsentUnknown', 'ConsentRequested', 'ConsentGiven', 'RenewedConsentGiven', 'ConsentRefused', 'ConsentWithdrawn', 'ConsentExpired', 'ConsentInvalidated',
    'ExpressedConsent', 'Consent', 'ContractPerformance', 'LegalObligation', 'LegitimateInterest', 'VitalInterest', 'PublicInterest', 'Pseudonymisation', 'Deidentification', 'EncryptionAtRest',
    'LocalEnvironmentScale', 'TechnicalServiceProvision', 'ServiceUsageAnalytics', 'ServicePersonalisation', 'LegalCompliance', 'FraudPreventionAndDetection', 'DirectMarketing', 'EnforceAccessControl',
    'PersonnelPerformanceMonitoring',
    'hasIdentifier', 'hasRecordOfActivity', 'hasDataSubject', 'hasNotice', 'hasEntity', 'hasDataController', 'hasDataProcessor', 'hasThirdParty', 'hasProcess', 'hasPurpose', 'hasProcessing',
    'hasPersonalData', 'hasData', 'hasDataSource', 'hasRecipient', 'hasStorageCondition', 'hasLocation', 'hasDuration', 'hasJurisdiction', 'hasLegalBasis', 'hasTechnicalMeasure', 'hasNecessity',
    'hasConsentControl', 'isExercisedAt', 'hasRight', 'hasConsentStatus', 'isIndicatedAtTime', 'isIndicatedBy', 'isImplementedByEntity', 'hasIndicationMethod', 'hasGeographicCoverage', 'hasName', 'hasContact',
  ]),
  pd: new Set(['UID', 'Authenticating', 'AuthenticationHistory', 'PerformanceAtWork', 'Vehicle', 'VehicleUsage', 'Location', 'DeviceBased', 'Communication', 'Picture', 'DeviceSoftware']),
  loc: new Set(['EU', 'EEA', 'CN', 'DE', 'FR', 'GB', 'US', 'US-CA']),
  'eu-gdpr': new Set(['A6-1-a', 'A6-1-b', 'A6-1-c', 'A6-1-d', 'A6-1-e', 'A6-1-f', 'A7-3', 'A15', 'A16', 'A17', 'A18', 'A20', 'A21']),
  dct: new Set(['conformsTo', 'identifier', 'created', 'modified', 'issued', 'date', 'language', 'publisher', 'audience', 'title', 'description', 'source']),
  skos: new Set(['broader']),
  rdf: new Set(['value']),
  schema: new Set(['url']),
  // Ours: what DPV has no word for.
  parapet: new Set(['role', 'state', 'sequence', 'recordedAt', 'category', 'leavesAs', 'evidenceSha256', 'scopeSha256', 'replaces', 'Machine', 'OptOut', 'Forbidden', 'UnknownJurisdiction']),
}
/** Namespaces that the prefixes must stand for. */
const NAMESPACES: Readonly<Record<string, string>> = {
  dpv: 'https://w3id.org/dpv#', pd: 'https://w3id.org/dpv/pd#', loc: 'https://w3id.org/dpv/loc#', 'eu-gdpr': 'https://w3id.org/dpv/legal/eu/gdpr#', dct: 'http://purl.org/dc/terms/',
  skos: 'http://www.w3.org/2004/02/skos/core#', rdf: 'http://www.w3.org/1999/02/22-rdf-syntax-ns#', schema: 'https://schema.org/',
}

interface Stage {
  readonly books: Books
  readonly clock: TestClock
  readonly say: (state: ConsentChange['state'], more?: Partial<ConsentChange> & { readonly about?: string; readonly who?: string }) => void
  readonly receipt: (more?: Partial<RecordSource> & { readonly about?: string }) => Node
  readonly source: (more?: Partial<RecordSource>) => RecordSource
}

/** Ada's folder; each answer is a minute later than the one before. */
function stage(rules: Policy | undefined = policy()): Stage {
  const clock = clockAt()
  const books = open(folder(), clock)
  register(books)
  if (rules !== undefined) books.usePolicy(rules)
  const source = (more: Partial<RecordSource> = {}): RecordSource => ({
    events: books.states.show(op('op-ada')).history, rules: [...books.ledger.events({ type: 'policy.' })], policy: rules, country: 'DE', controller: { id: 'hire-co', name: 'Hire Co' },
    principal: principalOf(books.keys.row('operator', 'op-ada', 'ledger') ?? new Uint8Array(32)), ...more,
  })
  return {
    books, clock, source,
    say(state, { about = 'improve.statistics', who = 'op-ada', ...more } = {}) {
      clock.ms += MINUTE
      books.states.change(says(who, about, state, { evidence: 'form 17 of Ada', ...more }))
    },
    receipt: ({ about, ...more } = {}) => consentReceipt(source(more), { id: RECEIPT, atMs: AT, ...(about === undefined ? {} : { purpose: purpose(about) }) }),
  }
}

const recordsOf = (receipt: Node): Node[] => receipt['dpv:hasRecordOfActivity'] as Node[]
const eventsOf = (record: Node | undefined): Node[] => record?.['dpv:hasConsentStatus'] as Node[]
const typesOf = (record: Node | undefined): string[] => eventsOf(record).map((event) => (event['@type'] as string[]).join(' + '))

function checked(receipt: Node): Node {
  isReceipt(receipt)
  expect(isReceipt.errors ?? []).toEqual([])
  expect(unknownTerms(receipt)).toEqual([])
  return receipt
}

/** Keys, and values that are terms, which are not in the lists. */
function unknownTerms(node: unknown, path = ''): string[] {
  if (Array.isArray(node)) return node.flatMap((item) => unknownTerms(item, path))
  if (typeof node === 'object' && node !== null) return Object.entries(node).flatMap(([key, value]) => (key === '@context' ? [] : [...(key.startsWith('@') || isTerm(key) ? [] : [`key ${path}/${key}`]), ...unknownTerms(value, `${path}/${key}`)]))
  if (typeof node !== 'string' || !/^[a-z-]+:[A-Za-z]/.test(node) || /^(urn|https?):/.test(node)) return []
  return isTerm(node) ? [] : [`value ${path} ${node}`]
}

function isTerm(text: string): boolean {
  const [, prefix = '', name = ''] = /^([a-z-]+):(.+)$/.exec(text) ?? []
  return TERMS[prefix]?.has(name) === true
}

describe('a receipt', () => {
  it('has every field that the standard makes mandatory', () => {
    const { say, receipt, books } = stage(policy({ keepsMs: 30 * DAY, recipients: { 'oem-cloud': 'EU', 'site-office': 'FR' } }))
    books.states.giveNotice(op('op-ada'), 'awp-2026-11', 'de', 'desk')
    say('requested', { source: 'agent', evidence: undefined })
    say('granted', { expiresAtMs: MORNING + 30 * DAY, country: 'DE' })
    const made = checked(receipt())
    expect(made).toMatchObject({ '@id': `urn:uuid:${RECEIPT}`, 'dct:created': '2026-12-03T06:00:00.000Z', 'dct:conformsTo': 'https://w3id.org/dpv/schema/dpv-27560#receipt-eu-gdpr' })
    const [record] = recordsOf(made)
    expect(record).toMatchObject({
      'dct:conformsTo': 'https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr', 'dpv:hasJurisdiction': 'loc:DE', 'parapet:state': 'granted',
      'dpv:hasNotice': [{ '@id': 'urn:parapet:policy:awp-2026-11', 'dct:identifier': 'awp-2026-11', 'dct:language': 'de', 'dct:issued': '2026-11-23T06:00:00.000Z' }],
      'dpv:hasDataController': ['urn:parapet:party:hire-co', 'urn:parapet:party:oem-cloud', 'urn:parapet:party:site-office'],
    })
    const processes = record!['dpv:hasProcess'] as Node[]
    expect(processes).toHaveLength(2)
    expect(processes[1]).toMatchObject({
      'dpv:hasPurpose': { 'dct:identifier': 'improve.statistics', 'dct:source': 'P14' },
      'dpv:hasRecipient': ['urn:parapet:party:site-office'],
      'dpv:hasStorageCondition': [{ 'dpv:hasLocation': ['loc:FR'] }, { 'dpv:hasDuration': { '@type': 'dpv:TemporalDuration', 'rdf:value': 'P30D' } }],
      'dpv:hasPersonalData': [{ 'dct:identifier': 'status.position', 'parapet:leavesAs': 'grid{"size":500}' }],
      'dpv:hasTechnicalMeasure': ['dpv:EncryptionAtRest', 'dpv:Deidentification'],
    })
    expect(eventsOf(record)[1]).toMatchObject({
      '@type': ['dpv:ConsentGiven', 'dpv:ExpressedConsent'], 'dpv:isIndicatedAtTime': '2026-11-23T06:02:00.000Z', 'dpv:isIndicatedBy': 'dpv:DataSubject', 'dpv:hasLegalBasis': 'eu-gdpr:A6-1-a',
      'dpv:hasDuration': { '@type': 'dpv:UntilTimeDuration', 'rdf:value': '2026-12-23T06:00:00.000Z' }, 'parapet:evidenceSha256': expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    })
  })

  it('of the shipped rules: terms, categories and bases of every purpose', () => {
    const rules = loadRulesFile(resolve(root, 'config/rules/awp.yaml'), { schemas: loadSchemas([resolve(root, 'proto')]) }).policy!
    const { say, receipt } = stage(rules)
    for (const { id } of rules.purposes) say('granted', { about: id })
    const made = checked(receipt({ country: 'FR' }))
    const basis = Object.fromEntries(recordsOf(made).map((record) => [((record['dpv:hasProcess'] as Node[])[0]!['dpv:hasPurpose'] as Node)['dct:identifier'], (record['dpv:hasLegalBasis'] as string[])[0]]))
    expect(basis).toMatchObject({ 'service.operate': 'eu-gdpr:A6-1-b', 'security.fraud': 'eu-gdpr:A6-1-f', 'improve.statistics': 'eu-gdpr:A6-1-a', 'legal.obligation': 'eu-gdpr:A6-1-c', 'operator.performance': 'parapet:Forbidden' })
    const planning = recordsOf(made).find((record) => JSON.stringify(record).includes('urn:parapet:purpose:improve.statistics'))!
    const [process] = planning['dpv:hasProcess'] as Node[]
    expect(process).toMatchObject({ 'dpv:hasDataProcessor': 'urn:parapet:party:site-planner', 'dpv:hasPurpose': { 'skos:broader': 'dpv:ServiceUsageAnalytics' } })
    const fields = [...(process!['dpv:hasPersonalData'] as Node[]), ...(process!['dpv:hasData'] as Node[])]
    expect(fields.find((field) => field['dct:identifier'] === 'status.position')).toMatchObject({ '@type': 'dpv:PersonalData', 'skos:broader': 'pd:Location', 'dpv:hasNecessity': 'dpv:Optional', 'parapet:category': 'position', 'parapet:leavesAs': expect.stringContaining('500') as string })
    expect(fields.find((field) => field['dct:identifier'] === 'status.mode')).toMatchObject({ '@type': 'dpv:NonPersonalData', 'dpv:hasNecessity': 'dpv:Required' })
    expect(fields.find((field) => field['dct:identifier'] === 'status.machine_id')).toMatchObject({ 'skos:broader': 'pd:Vehicle' })
    // The notice in force has its address.
    expect(planning['dpv:hasNotice']).toMatchObject([{ '@id': rules.notice, 'dct:identifier': rules.id, 'schema:url': rules.notice }])
    expect(planning['dpv:hasEntity']).toMatchObject([{ 'dpv:hasName': 'Hire Co' }, { 'dpv:hasContact': 'dpo@example.com', 'dpv:hasLocation': 'loc:EU', 'parapet:role': 'processor' }])
  })

  it('elsewhere is of the general profile; an unknown country is said to be unknown', () => {
    const { say, receipt } = stage()
    say('granted')
    expect(checked(receipt({ country: 'US-CA' }))).toMatchObject({ 'dct:conformsTo': 'https://w3id.org/dpv/schema/dpv-27560#receipt-record', 'dpv:hasRecordOfActivity': [{ 'dpv:hasJurisdiction': 'loc:US-CA' }] })
    expect(recordsOf(checked(receipt({ country: undefined })))[0]).toMatchObject({ 'dpv:hasJurisdiction': 'parapet:UnknownJurisdiction', 'dct:conformsTo': 'https://w3id.org/dpv/schema/dpv-27560#record' })
  })

  it('names the person by an id of its own, and holds no card, name, machine, token or text of the evidence', () => {
    const { say, receipt, books } = stage()
    say('granted', { machine: machine('SN-CANARY').id, by: 'desk-clerk' })
    const text = JSON.stringify(receipt())
    const row = books.keys.row('operator', 'op-ada', 'ledger')!
    for (const secret of ['op-ada', 'CARD-1111', 'SN-CANARY', 'desk-clerk', 'form 17', Buffer.from(row).toString('hex'), Buffer.from(books.keys.tagOf('operator', 'op-ada')).toString('hex')]) expect(text).not.toContain(secret)
    expect(principalOf(row)).toMatch(/^[\w-]{22}$/)
    expect(principalOf(row)).toBe(principalOf(row))
    expect(principalOf(row)).not.toBe(principalOf(books.keys.ensure('operator', 'op-ben', 'ledger')))
  })

  it('is the same each time; only the number and time of the receipt are new', () => {
    const { say, source, receipt } = stage()
    say('granted')
    say('withdrawn')
    expect(receipt()).toEqual(receipt())
    const other = consentReceipt(source(), { id: '9a1b2c3d-0000-4000-8000-000000000000', atMs: AT + DAY })
    expect(recordsOf(other)).toEqual(recordsOf(receipt()))
    // A record is found by the first event, an event by its receipt.
    expect(recordsOf(receipt())[0]!['dct:identifier']).toBe(source().events[0]!.uuid)
    expect(eventsOf(recordsOf(receipt())[0]).map((event) => event['dct:identifier'])).toEqual(source().events.map((event) => event.uuid))
  })

  it('holds one record for each purpose, or the one that was asked for', () => {
    const { say, receipt } = stage()
    say('granted')
    say('refused', { about: 'personalise' })
    expect(recordsOf(checked(receipt())).map((record) => record['parapet:state'])).toEqual(['granted', 'refused'])
    expect(recordsOf(checked(receipt({ about: 'personalise' }))).map((record) => record['parapet:state'])).toEqual(['refused'])
    expect(recordsOf(checked(receipt({ about: 'service.operate' })))).toEqual([])
  })

  it('has no record of somebody erased, and none of anybody else', () => {
    const { say, receipt, books } = stage()
    say('granted')
    say('refused', { who: 'op-ben' })
    expect(recordsOf(receipt())).toHaveLength(1)
    for (const store of books.stores) store.erase(op('op-ada'))
    expect(recordsOf(checked(receipt()))).toEqual([])
  })

  it('without rules in force still says what was said', () => {
    const { say, receipt } = stage()
    say('granted')
    const [record] = recordsOf(checked(receipt({ policy: undefined })))
    expect(record).toMatchObject({ 'parapet:state': 'granted', 'dpv:hasProcess': [{ 'dpv:hasRecipient': ['urn:parapet:party:oem-cloud'] }] })
  })
})

describe('states', () => {
  const said = 'dpv:ExpressedConsent'
  // prettier-ignore
  const table: readonly (readonly [what: string, say: readonly ConsentChange['state'][], types: readonly string[]])[] = [
    ['asked',                          ['requested'],                          ['dpv:ConsentRequested']],
    ['asked, said yes',                ['requested', 'granted'],               ['dpv:ConsentRequested', `dpv:ConsentGiven + ${said}`]],
    ['said no',                        ['refused'],                            ['dpv:ConsentRefused']],
    ['objected: a refusal in DPV',     ['objected'],                           ['dpv:ConsentRefused']],
    ['yes, taken back',                ['granted', 'withdrawn'],               [`dpv:ConsentGiven + ${said}`, 'dpv:ConsentWithdrawn']],
    ['yes, and yes again',             ['granted', 'granted'],                 [`dpv:ConsentGiven + ${said}`, `dpv:RenewedConsentGiven + ${said}`]],
    ['taken back, then a new yes',     ['granted', 'withdrawn', 'granted'],    [`dpv:ConsentGiven + ${said}`, 'dpv:ConsentWithdrawn', `dpv:ConsentGiven + ${said}`]],
    ['yes for the site alone',         ['local_only'],                         [`dpv:ConsentGiven + ${said}`]],
    ['asked again while it is yes: still yes', ['granted', 'requested'],       [`dpv:ConsentGiven + ${said}`, 'dpv:ConsentGiven']],
    ['asked again after a no: still no', ['refused', 'requested'],             ['dpv:ConsentRefused', 'dpv:ConsentRefused']],
  ]
  it.each(table)('%s', (_, states, types) => {
    const { say, receipt } = stage()
    for (const state of states) say(state)
    const [record] = recordsOf(checked(receipt()))
    expect(typesOf(record)).toEqual(types)
  })

  it('DPV tells no objection from a refusal; our own word does', () => {
    const { say, receipt } = stage()
    say('objected')
    expect(recordsOf(receipt())[0]).toMatchObject({ 'parapet:state': 'objected' })
  })

  it('a yes for the site alone names no recipient that is elsewhere', () => {
    const { say, receipt } = stage(policy({ recipients: { 'oem-cloud': 'CN', 'site-office': 'DE' } }))
    say('local_only')
    const source = policy({ recipients: { 'oem-cloud': 'CN', 'site-office': 'DE' } })
    const onSite: Policy = { ...source, outputs: source.outputs.map((output) => (output.recipient.id === 'site-office' ? { ...output, recipient: { ...output.recipient, onSite: true } } : output)) }
    const [record] = recordsOf(checked(receipt({ policy: onSite })))
    expect(JSON.stringify(record)).not.toContain('oem-cloud')
    expect((record!['dpv:hasProcess'] as Node[]).map((process) => process['dpv:hasRecipient'])).toEqual([['urn:parapet:party:site-office']])
    expect(eventsOf(record)[0]).toMatchObject({ 'dpv:hasGeographicCoverage': 'dpv:LocalEnvironmentScale', 'parapet:state': 'local_only' })
    // And with nobody on the site, nobody.
    expect(recordsOf(checked(receipt()))[0]).toMatchObject({ 'dpv:hasProcess': [{ 'dpv:hasRecipient': [], 'dpv:hasPersonalData': [] }] })
  })

  it('a yes whose time is over, and the next one', () => {
    const { say, receipt, books, clock } = stage()
    say('granted', { expiresAtMs: MORNING + 10 * MINUTE })
    clock.ms += 20 * MINUTE
    books.sweep(clock.ms)
    say('granted')
    const [record] = recordsOf(checked(receipt()))
    expect(typesOf(record)).toEqual(['dpv:ConsentGiven + dpv:ExpressedConsent', 'dpv:ConsentExpired', 'dpv:RenewedConsentGiven + dpv:ExpressedConsent'])
    expect(eventsOf(record)[1]).toMatchObject({ 'dpv:isIndicatedBy': 'urn:parapet:party:hire-co', 'dpv:hasIndicationMethod': 'its time was over' })
  })

  it('a yes that wider rules ended says so, and what had been agreed to is no longer what holds', () => {
    const { say, receipt, books, clock } = stage()
    say('granted')
    const wider = policy({ id: 'awp-2027-01', recipients: { 'oem-cloud': 'EU', 'new-partner': 'CN' } })
    clock.ms += MINUTE
    books.usePolicy(wider)
    const [record] = recordsOf(checked(receipt({ policy: wider })))
    expect(typesOf(record)).toEqual(['dpv:ConsentGiven + dpv:ExpressedConsent', 'dpv:ConsentInvalidated'])
    expect(record).toMatchObject({ 'parapet:state': 'invalidated' })
    expect(eventsOf(record)[1]).toMatchObject({ 'dpv:isIndicatedAtTime': '2026-11-23T06:02:00.000Z', 'dpv:hasIndicationMethod': 'the rules became wider than what was agreed to' })
    // While it held, it covered the old recipient alone.
    const before = recordsOf(receipt({ policy: wider, rules: [...books.ledger.events({ type: 'policy.' })].filter((event) => event.body?.['wider'] !== true) }))[0]
    expect((before!['dpv:hasProcess'] as Node[]).map((process) => process['dpv:hasRecipient'])).toEqual([['urn:parapet:party:oem-cloud']])
  })

  it('a no that a renamed purpose took over is one to it', () => {
    const { say, receipt, books, clock } = stage()
    say('refused', { about: 'personalise' })
    const renamed = policy({ id: 'awp-2027-01', purposes: ['service.operate', 'improve.statistics', 'app.feedback'] })
    const rules: Policy = { ...renamed, purposes: renamed.purposes.map((one) => (one.id === 'app.feedback' ? { ...one, replaces: [purpose('personalise')] } : one)) }
    clock.ms += MINUTE
    books.usePolicy(rules)
    expect(books.states.show(op('op-ada')).rows.find((row) => row.purpose === 'app.feedback')?.state).toBe('refused')
    const made = checked(receipt({ policy: rules, about: 'app.feedback' }))
    expect(typesOf(recordsOf(made)[0])).toEqual(['dpv:ConsentRefused'])
    expect(eventsOf(recordsOf(made)[0])[0]).toMatchObject({ 'parapet:replaces': 'personalise' })
  })

  it('ends in the state that is in force, whatever was said', () => {
    const { say, receipt, books } = stage()
    const states = ['requested', 'granted', 'local_only', 'refused', 'withdrawn', 'objected'] as const
    for (let i = 0; i < 60; i++) {
      const about = ['improve.statistics', 'personalise', 'service.operate'][(i * 7) % 3]!
      say(states[(i * i + 3 * i) % states.length]!, { about, source: 'portal' })
    }
    const shown = new Map(books.states.show(op('op-ada')).rows.map((row) => [row.purpose as string, row.state]))
    for (const [about, state] of shown) expect([about, recordsOf(receipt({ about }))[0]!['parapet:state']]).toEqual([about, state])
  })
})

describe('the document', () => {
  it('has a context for every prefix, and no property that would be read as text where it names a thing', () => {
    const { say, receipt } = stage()
    say('local_only')
    const context = receipt()['@context'] as Record<string, unknown>
    for (const [prefix, namespace] of Object.entries(NAMESPACES)) expect([prefix, context[prefix]]).toEqual([prefix, namespace])
    const texts = new Set<string>()
    const visit = (node: unknown, key: string): void => {
      if (Array.isArray(node)) {
        for (const item of node) visit(item, key)
      } else if (typeof node === 'object' && node !== null) {
        for (const [name, value] of Object.entries(node)) if (name !== '@context') visit(value, name)
      } else if (typeof node === 'string' && !key.startsWith('@') && (isTerm(node) || node.startsWith('urn:parapet:')) && (context[key] as { '@type'?: string } | undefined)?.['@type'] !== '@id') {
        texts.add(key)
      }
    }
    visit(receipt(), '')
    expect([...texts]).toEqual([])
  })

  it('gives no two things one name', () => {
    const { say, receipt } = stage()
    say('requested')
    say('granted')
    say('refused', { about: 'personalise' })
    const names: string[] = []
    const visit = (node: unknown): void => {
      if (Array.isArray(node)) node.forEach(visit)
      else if (typeof node === 'object' && node !== null) {
        const { '@id': id, '@type': type } = node as Node
        // Persons, parties, purposes and notices are the same wherever they are named.
        if (typeof id === 'string' && !['dpv:DataSubject', 'dpv:Purpose', 'dpv:ConsentNotice'].includes(String(type)) && !id.startsWith('urn:parapet:party:')) names.push(id)
        Object.values(node).forEach(visit)
      }
    }
    visit(receipt())
    expect(names).toHaveLength(6)
    expect(new Set(names).size).toBe(names.length)
  })

  it('a word that is in no vocabulary is noticed, and so is a missing field', () => {
    const { say, receipt } = stage()
    say('granted')
    const made = structuredClone(receipt()) as Record<string, unknown>
    made['dpv:hasConsentRecord'] = 'dpv:ConsentTerminated'
    expect(unknownTerms(made)).toEqual(['key /dpv:hasConsentRecord', 'value /dpv:hasConsentRecord dpv:ConsentTerminated'])
    for (const field of ['dpv:hasDataSubject', 'dpv:hasNotice', 'dpv:hasProcess', 'dpv:hasJurisdiction', 'dpv:hasConsentControl', 'dpv:hasConsentStatus', 'dct:conformsTo', 'dct:identifier']) {
      const lacking = structuredClone(receipt()) as { 'dpv:hasRecordOfActivity': Record<string, unknown>[] }
      delete lacking['dpv:hasRecordOfActivity'][0]![field]
      expect([field, isReceipt(lacking)]).toEqual([field, false])
    }
  })
})

describe('the history that a person may ask for', () => {
  it('says who asked, when, under which policy, and what was in force before and after', () => {
    const { say, source, books, clock } = stage()
    books.states.giveNotice(op('op-ada'), 'awp-2026-11', 'de', 'desk')
    say('requested', { source: 'agent', by: 'desk', evidence: undefined })
    say('granted', { source: 'terminal', by: undefined, evidence: undefined, machine: machine('SN-1').id })
    say('withdrawn', { source: 'portal', by: 'portal' })
    say('granted', { source: 'admin', by: 'first-admin' })
    clock.ms += MINUTE
    books.usePolicy(policy({ id: 'awp-2027-01', recipients: { 'oem-cloud': 'EU', 'new-partner': 'CN' } }))
    const entries = historyEntries(source())
    // prettier-ignore
    expect(entries.map(({ type, before, after, role, source: from, by, policy: under, machine: where, recipients }) => [type, before, after, role, from, by, under, where, recipients])).toEqual([
      ['notice.given',      undefined,   undefined,     'privacy', undefined,  'desk',        'awp-2026-11', undefined, undefined],
      ['consent.requested', 'not_set',   'requested',   'privacy', 'agent',    'desk',        'awp-2026-11', undefined, undefined],
      ['consent.granted',   'requested', 'granted',     'person',  'terminal', undefined,     'awp-2026-11', 'SN-1',    ['oem-cloud (controller, EU)']],
      ['consent.withdrawn', 'granted',   'withdrawn',   'person',  'portal',   'portal',      'awp-2026-11', undefined, undefined],
      ['consent.granted',   'withdrawn', 'granted',     'admin',   'admin',    'first-admin', 'awp-2026-11', undefined, ['oem-cloud (controller, EU)']],
      ['policy.scope',      'granted',   'invalidated', 'rules',   undefined,  undefined,     'awp-2027-01', undefined, undefined],
    ])
    expect(entries.map(({ atMs }) => atMs)).toEqual([0, 1, 2, 3, 4, 5].map((minutes) => MORNING + minutes * MINUTE))
    expect(entries[3]).toMatchObject({ id: source().events[3]!.uuid, evidence: 'form 17 of Ada', language: 'de' })
    // All that is stored of the person's own events; of the rules' only what they did.
    expect(entries.map(({ body }) => body !== undefined)).toEqual([true, true, true, true, true, false])
  })

  it('of one purpose; notices stay', () => {
    const { say, source, books } = stage()
    books.states.giveNotice(op('op-ada'), 'awp-2026-11', 'de', 'desk')
    say('granted')
    say('refused', { about: 'personalise' })
    expect(historyEntries(source(), purpose('personalise')).map(({ type }) => type)).toEqual(['notice.given', 'consent.refused'])
  })

  it('of an event whose key was destroyed only that there was one', () => {
    const { source } = stage()
    expect(historyEntries({ ...source(), events: [{ seq: 9, uuid: 'u', type: 'consent.granted', schema: 1, gateway: 'depot-7', day: '2026-11-23', body: undefined }] })).toEqual([
      { seq: 9, id: 'u', day: '2026-11-23', type: 'consent.granted', atMs: undefined },
    ])
  })
})
