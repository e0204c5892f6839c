/** A gateway that exists only as data: what the admin API is tested against. Its people and machines are invented. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdmin } from '../../src/admin/http.ts'
import type { Admin, AdminOptions } from '../../src/admin/http.ts'
import type { AuditEvent, Control, RulesState, ShadowView } from '../../src/admin/control.ts'
import { openTokens } from '../../src/admin/tokens.ts'
import type { Role } from '../../src/admin/tokens.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import type { FleetId, MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { LearnReport, RecordingView, TracePage } from '../../src/domain/live.ts'
import type { ConsentChange, Machine } from '../../src/domain/ports.ts'
import { silentLog } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'

export const CANARY_OPERATOR = 'op-CANARY-7f3a' as OperatorId
export const CANARY_MACHINE = 'SN-CANARY-91c2' as MachineId
export const NOW = Date.parse('2026-11-23T12:00:00Z')

const machine: Machine = {
  id: CANARY_MACHINE, fleet: 'north' as FleetId, model: 'boom-18', labels: { site: 'A' }, country: 'DE', operatorCollection: 'on', holder: 'hire-co',
  credential: 'scrypt$16384$8$1$CANARYsalt$CANARYhash', certificate: undefined,
}

export interface TestAdmin {
  readonly admin: Admin
  readonly tokens: Readonly<Record<Role, string>>
  readonly audited: AuditEvent[]
  readonly changes: ConsentChange[]
  readonly data: string
  readonly clock: { ms: number }
}

export async function startAdmin(options: Partial<Pick<AdminOptions, 'log' | 'metrics' | 'host' | 'port'>> = {}, overrides: Partial<Control> = {}): Promise<TestAdmin> {
  const data = mkdtempSync(join(tmpdir(), 'parapet-admin-'))
  const tokens = openTokens(data, () => NOW)
  const audited: AuditEvent[] = []
  const changes: ConsentChange[] = []
  const clock = { ms: 0 }
  const admin = await createAdmin({
    control: { ...testControl(changes), ...overrides }, tokens, metrics: options.metrics ?? createMetrics(), log: options.log ?? silentLog, version: '0.0.0-test',
    clock: { now: () => NOW, monotonic: () => clock.ms }, audit: (event) => void audited.push(event), host: options.host, port: options.port ?? 0,
  })
  const made = (role: Role): string => tokens.create(`test-${role}`, role)
  return { admin, tokens: { viewer: made('viewer'), engineer: made('engineer'), privacy: made('privacy'), admin: made('admin') }, audited, changes, data, clock }
}

const SHADOW: ShadowView = {
  candidate: { hash: 'ef'.repeat(32), policy: 'awp-2026-12' }, active: { hash: 'ab'.repeat(32), policy: 'awp-2026-11' }, by: 'tuning', samplePercent: 10, asNobody: false, startedAtMs: NOW, endsAtMs: NOW + 3_600_000,
  endedAtMs: undefined, ended: undefined, seen: 1_000, compared: 100, skipped: 0, further: 0, difference: '1 widened, 0 narrowed, 0 changed', asksAgain: ['improve.statistics'], noticeAgain: true,
  rows: [
    { output: 'service', stream: 'status', field: 'seq', what: 'only_candidate', reason: '', count: 100, machines: 1, hangsOnPerson: false },
    { output: 'planner', stream: 'status', field: '', what: 'only_active', reason: 'closed', count: 7, machines: 1, hangsOnPerson: true },
    { output: 'planner', stream: 'status', field: '', what: 'same', reason: '', count: 93, machines: 5, hangsOnPerson: true },
  ],
}

const TRACE: Omit<TracePage, 'entries' | 'about'> = { id: 1, machine: CANARY_MACHINE, operator: undefined, values: true, personal: true, endsAtMs: NOW + 600_000, ended: undefined, skipped: 0, dropped: 0 }

/** One set active, a wider one waits. */
const RULES: RulesState = {
  active: undefined, refused: undefined, previous: { hash: 'cd'.repeat(32), policy: 'awp-2026-10' },
  staged: {
    hash: 'ef'.repeat(32), policy: 'awp-2026-12', sinceMs: NOW, by: 'file', widened: 1, narrowed: 0, changed: 0, needs: 2,
    changes: [{ verdict: 'widened', comparable: true, where: 'outputs.planner.streams.status.fields.seq', consent: ['yes'], countries: ['everywhere'], before: 'nothing', after: 'keep', why: '' }],
    approvals: [{ by: 'dpo', atMs: NOW, reason: 'assessment 7' }],
  },
}

const LEARNING: LearnReport = {
  running: false, ended: 'over', stream: undefined, sinceMs: NOW, untilMs: NOW + 3_600_000, messages: { read: 12, passedOver: 0, unreadable: 1, cut: 0 }, more: 2,
  rows: [
    {
      kind: 'field', stream: 'status' as StreamId, message: 'awp.v1.Status', at: '99', wire: 'varint', smallest: 1, largest: 2, count: 12, machines: 3, firstMs: NOW, lastMs: NOW,
      proto: 'uint64 field_99 = 99;', rules: 'fields: { "awp.v1.Status.field_99": { class: additional, personal: always } }', next: 'Add it to awp.v1.Status.',
    },
    { kind: 'topic', stream: undefined, message: undefined, at: 'up/{fleet}/{machine}/{word}', wire: undefined, smallest: 4, largest: 4, count: 1, machines: 100, firstMs: NOW, lastMs: NOW, proto: undefined, rules: undefined, next: 'Write a stream.' },
  ],
}

const RECORDING: RecordingView = {
  id: 'r-0123456789abcdef', file: '/var/lib/parapet/recordings/r-0123456789abcdef.rec', running: false, ended: 'asked', by: 'test-privacy', to: 'ab'.repeat(8), stream: 'status' as StreamId,
  startedMs: NOW, untilMs: NOW + 900_000, deletedMs: NOW + 604_800_000, bytes: 4_096, messages: 7, people: 2, leftOut: { no: 1, deviceSetting: 3 }, held: false,
}

function testControl(changes: ConsentChange[]): Control {
  const known = (operator: OperatorId): void => {
    if (operator !== CANARY_OPERATOR) throw new GatewayError('UNKNOWN-OPERATOR', 'No operator has this id.', 'See operators.yaml.')
  }
  return {
    health: () => ({ live: true, ready: false, reasons: [{ code: 'BRIDGE-DOWN', severity: 'warning', text: 'The bridge cloud is not connected.', mend: 'Check its URL.' }] }),
    status: () => ({
      name: 'depot-7', version: '0.0.0-test', startedAtMs: NOW, trial: false,
      listeners: [{ name: 'terminals', host: '127.0.0.1', port: 1883, tls: false, connections: 3 }],
      bridges: [{ name: 'cloud', recipient: 'oem-cloud' as RecipientId, connected: false, waiting: 12 }],
      machines: 1, operators: 1, sessions: 1, outbox: { records: 12, bytes: 3400, limitBytes: 4_294_967_296, oldestAtMs: NOW, deadLetters: 3 }, ledger: { seq: 41, healthy: true },
      recipients: [{ recipient: 'site-planner' as RecipientId, sessions: 2, connected: 1, records: 40, bytes: 9_000, oldestAtMs: NOW }],
      rules: { hash: 'ab'.repeat(32), policy: 'awp-2026-11', activeSinceMs: NOW },
    }),
    rules: () => ({
      active: { hash: 'ab'.repeat(32), policy: 'awp-2026-11', effective: '2026-11-01', activeSinceMs: NOW, streams: ['status' as StreamId], outputs: ['planner' as OutputId], purposes: ['improve.statistics' as PurposeId] },
      refused: { atMs: NOW, findings: [{ severity: 'error', code: 'UNKNOWN-FIELD', place: { file: 'awp.yaml', line: 4, col: 7 }, text: 'There is no field sok.', path: 'outputs.planner' }] },
      staged: undefined,
    }),
    validateRules: (yaml) => Promise.resolve(yaml.includes('version: 1') ? [] : [{ severity: 'error', code: 'VERSION', place: { file: 'rules.yaml', line: 1, col: 1 }, text: 'The version is missing.', path: '' }]),
    activeRules: () => ({ file: 'awp.yaml', text: 'version: 1', proto: { 'awp.proto': 'syntax = "proto3";' }, hash: 'ab'.repeat(32), day: '2026-11-23' }),
    putRules: () => Promise.resolve(RULES),
    activateRules: () => Promise.resolve(RULES),
    approveRules: () => Promise.resolve(RULES),
    rollbackRules: () => Promise.resolve(RULES),
    discardRules: () => Promise.resolve(RULES),
    startShadow: () => Promise.resolve(SHADOW),
    shadow: () => SHADOW,
    stopShadow: () => SHADOW,
    startTrace: ({ machine, operator, values, personal }) => ({ ...TRACE, machine, operator, values, personal }),
    trace: () => ({
      ...TRACE, about: [CANARY_OPERATOR],
      entries: [{
        seq: 1, atMs: NOW, machine: CANARY_MACHINE, stream: 'status', bytes: 60, refused: undefined, person: 'a known person is signed on', furtherOutputs: 0,
        outputs: [{ output: 'planner', result: 'closed', text: 'the legal basis is not met', why: 'closed: consent in DE, and the operator said no', bytes: undefined, topic: undefined, ifNobodyKnown: false, thinned: false, fields: [{ path: 'soc', action: 'drop', why: 'the output is closed', withYes: undefined, before: '"CANARY"', after: undefined }], furtherFields: 0 }],
      }],
    }),
    stopTrace: () => {},
    changeConsent: (change) => {
      known(change.operator)
      changes.push(change)
      return Promise.resolve({ receipt: 'r-1', operator: change.operator, purpose: change.purpose, state: change.state, seq: 42, at: new Date(NOW).toISOString(), policy: 'awp-2026-11', purged: 2, swapped: 1, onTheWire: 3 })
    },
    giveNotice: (operator, policy) => {
      known(operator)
      return Promise.resolve({ operator, policy: policy ?? 'awp-2026-11', seq: 43 })
    },
    consent: (operator) => (operator !== CANARY_OPERATOR ? undefined : {
      operator, country: 'DE', notice: { policy: 'awp-2026-11', atMs: NOW },
      rows: [{ purpose: 'improve.statistics' as PurposeId, state: 'refused', sinceMs: NOW, expiresAtMs: undefined, policy: 'awp-2026-11', source: 'portal', seq: 40 }],
      history: [{
        seq: 40, id: 'u-40', type: 'consent.refused', day: '2026-11-23', atMs: NOW, purpose: 'improve.statistics' as PurposeId, before: 'requested', after: 'refused', source: 'portal', role: 'person',
        policy: 'awp-2026-11', body: { purpose: 'improve.statistics' },
      }],
      looks: [{ atMs: NOW, action: 'consent_shown', role: 'privacy' }],
    }),
    consentReceipt: (operator, purpose, receipt) => (operator !== CANARY_OPERATOR ? undefined : {
      '@context': { dpv: 'https://w3id.org/dpv#' }, '@id': `urn:uuid:${receipt}`, '@type': 'dpv:ConsentReceipt', 'dct:identifier': receipt, 'dct:created': new Date(NOW).toISOString(),
      'dpv:hasRecordOfActivity': [{ '@type': 'dpv:ConsentRecord', 'parapet:purpose': purpose ?? 'improve.statistics', 'dpv:hasConsentStatus': [{ '@type': ['dpv:ConsentRefused'] }] }],
    }),
    verifyLedger: () => Promise.resolve({
      ok: true, events: 41, head: { seq: 41, hash: 'cd'.repeat(32) }, signed: { seq: 41, day: '2026-11-23' }, brokenAt: undefined, reason: undefined, unindexed: 0,
      days: { first: '2026-11-01', last: '2026-11-23' }, types: { 'consent.refused': 1, 'policy.scope': 40 }, headKey: 'MCowBQ==',
    }),
    ledgerEvents: ({ after, limit, type }) => [40, 41].filter((seq) => seq > after).slice(0, limit).map((seq) => ({
      seq, uuid: `u-${seq}`, type: type ?? 'consent.refused', schema: 1, gateway: 'depot-7', day: '2026-11-23', subjectTag: 'ab'.repeat(32), keyId: 'row', prev: 'ab'.repeat(32), hash: 'cd'.repeat(32),
    })),
    machines: () => ({ machines: [machine], total: 1 }),
    addMachine: (entry, password) => {
      if (entry.id === CANARY_MACHINE) throw new GatewayError('MACHINE-EXISTS', 'A machine of this id exists.', 'Choose another id.')
      return Promise.resolve({ ...machine, id: entry.id, fleet: entry.fleet, credential: password === undefined ? undefined : 'scrypt$CANARY' })
    },
    learned: () => LEARNING,
    startLearning: ({ stream }) => ({ ...LEARNING, running: true, stream }),
    stopLearning: () => LEARNING,
    recordings: () => [RECORDING],
    startRecording: (_request, { by }) => ({ ...RECORDING, running: true, ended: undefined, by }),
    stopRecording: (id) => ({ ...RECORDING, id }),
    deleteRecording: (id) => {
      if (id !== RECORDING.id) throw new GatewayError('UNKNOWN-RECORDING', 'There is no recording of this id.')
    },
    sessions: () => [{ machine: CANARY_MACHINE, operator: CANARY_OPERATOR, sinceMs: NOW }],
    outputs: () => [{ id: 'planner' as OutputId, recipient: 'oem-cloud' as RecipientId, purpose: 'improve.statistics' as PurposeId, topic: 'out/planning/{machine_id}', qos: 1, via: ['local'], stopped: false, forwarded: 7, withheld: { closed: 5 } }],
    keys: () => ({ storage: '0a1b2c3d', pseudonyms: '4e5f6071', former: ['8293a4b5'], changedAtMs: NOW }),
    deadLetters: ({ after }) => (after > 0 ? [] : [{ number: 7, output: 'planner' as OutputId, recipient: 'oem-cloud' as RecipientId, stream: 'status' as StreamId, refusedBy: ['cloud'], code: '0x99', bytes: 99, receivedAtMs: NOW, untilMs: NOW + 604_800_000 }]),
    retryDeadLetters: (numbers) => numbers?.length ?? 1,
    dropDeadLetters: (numbers) => numbers?.length ?? 1,
    why: (id, output) => (id !== CANARY_MACHINE ? undefined : {
      machine: id, output, connected: true, country: 'DE', basis: 'consent', next: 'Wait for a message.',
      messages: [{ atMs: NOW, stream: 'status' as StreamId, result: 'forwarded' }, { atMs: NOW, stream: 'status' as StreamId, result: 'forbidden' }],
      person: { known: true, yes: false, no: true, notice: true, collection: true },
    }),
  }
}
