/**
 * The routes of the admin API as one table: path, scope, schemas, and what each asks of Control. http.ts gives them a server.
 * Answers are built field by field and serialised by their schema, so that nothing leaves that is not named here.
 */
import { randomUUID } from 'node:crypto'
import { GatewayError } from '../domain/errors.ts'
import type { ClearEvent, HistoryEntry } from '../domain/history.ts'
import type { LearnReport, RecordingView, TracePage, TraceView } from '../domain/live.ts'
import type { ConsentChange, ConsentReceipt, DeadLetter, Machine } from '../domain/ports.ts'
import type { FleetId, MachineId, OperatorId, OutputId, PurposeId, StreamId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { Verdict } from '../domain/verdict.ts'
import type { VerdictName } from '../domain/verdict.ts'
import type { AuditEvent, ConsentView, Control, Health, LedgerView, OutputView, RulesState, ShadowView, Status, Why } from './control.ts'
import { makePassword } from './registry.ts'
import { may, ROLES, rolesWith } from './tokens.ts'
import type { Actor, Role, Scope, Tokens } from './tokens.ts'

export type Schema = Readonly<Record<string, unknown>>

/** What a handler gets; the parts are as their schemas say, because the server has checked them. */
export interface Call<Parts extends CallParts = CallParts> {
  readonly params: Parts['params']
  readonly query: Parts['query']
  readonly body: Parts['body']
  readonly actor: Actor
  /** Writes down a change, or a look at a person's data, in the caller's name. */
  readonly audit: (action: string, about?: Partial<Pick<AuditEvent, 'operator' | 'machine' | 'purpose' | 'detail'>>) => void
}
interface CallParts { readonly params: unknown; readonly query: unknown; readonly body: unknown }

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** In the form of OpenAPI: `/v1/operators/{operator}/consent`. */
  readonly path: string
  readonly id: string
  readonly tag: string
  readonly summary: string
  readonly scope: Scope
  readonly params?: Schema
  readonly query?: Schema
  readonly body?: Schema
  /** The body is a YAML text, up to LIMITS.adminRulesBytes. */
  readonly yaml?: true
  readonly answer: { readonly status: 200 | 201 | 204; readonly text: string; readonly schema?: Schema; readonly type?: 'application/ld+json' }
  readonly errors: readonly number[]
  handle(call: Call): unknown
}

/** Status of an error that a handler throws, by its code; any other GatewayError is 422. */
export const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  'UNKNOWN-OPERATOR': 404, 'UNKNOWN-MACHINE': 404, 'UNKNOWN-OUTPUT': 404, 'UNKNOWN-TOKEN': 404, 'UNKNOWN-TRACE': 404, 'NO-SHADOW': 404, 'UNKNOWN-STREAM': 404, 'UNKNOWN-RECORDING': 404,
  'MACHINE-EXISTS': 409, 'TOKEN-EXISTS': 409, 'TOKEN-LAST': 409, 'TOKEN-LIMIT': 409, 'SUBJECT-ENDED': 409, 'NOTHING-STAGED': 409, 'RULES-CHANGED': 409, 'SECOND-APPROVER': 409, 'NO-PREVIOUS': 409, 'STALE-GRANT': 409, 'SHADOW-RUNS': 409, 'TRACE-LIMIT': 409,
  'LEARNING-ON': 409, 'LEARNING-OFF': 409, 'RECORDING-ON': 409, 'RECORDING-LIMIT': 409, 'RECORDING-ROOM': 409, 'RECORDING-HELD': 409,
  'SCOPE-MISSING': 403, 'RULES-BUSY': 429,
  'LEDGER-DAMAGED': 503, 'READ-ONLY': 503, 'OUTBOX-UNHEALTHY': 503, 'OUTBOX-CLOSED': 503, 'NO-RULES': 503, 'CLOSING': 503,
}

export function adminRoutes(control: Control, tokens: Tokens): readonly Route[] {
  return [
    route({
      method: 'GET', path: '/v1/status', id: 'getStatus', tag: 'operation', scope: 'status:read',
      summary: 'What runs: listeners, bridges, counts, the active rules, what needs attention',
      answer: { status: 200, text: 'The status', schema: STATUS }, errors: [],
      handle: () => statusAnswer(control.status(), control.health()),
    }),
    route({
      method: 'GET', path: '/v1/rules', id: 'getRules', tag: 'rules', scope: 'rules:read',
      summary: 'The active set, a set waiting for approval, and the findings of the last refused file',
      answer: { status: 200, text: 'The rules', schema: RULES }, errors: [],
      handle: () => rulesAnswer(control.rules()),
    }),
    route<{ params: unknown; query: unknown; body: string }>({
      method: 'POST', path: '/v1/rules/validate', id: 'validateRules', tag: 'rules', scope: 'rules:read',
      summary: 'Check a rules file as `parapet check` does, with the schemas of this gateway; changes nothing',
      yaml: true, body: { type: 'string', minLength: 1, maxLength: LIMITS.adminRulesBytes, description: 'The rules file; what it includes is read from beside the rules file of the gateway' },
      answer: { status: 200, text: 'What there is to say about the file; `accepted` is false when a finding is an error', schema: VALIDATION }, errors: [413, 415],
      handle: async ({ body }) => {
        const findings = await control.validateRules(body)
        return { accepted: !findings.some(({ severity }) => severity === 'error'), findings: findings.slice(0, LIMITS.findings).map(findingAnswer) }
      },
    }),
    route({
      method: 'GET', path: '/v1/rules/active', id: 'getActiveRules', tag: 'rules', scope: 'rules:read',
      summary: 'The text of the active set with the schemas it was accepted with, for `parapet diff --active`',
      answer: { status: 200, text: 'The set; nothing when none is active', schema: ACTIVE_RULES }, errors: [],
      handle: () => some('active', control.activeRules()),
    }),
    route<{ params: unknown; query: unknown; body: string }>({
      method: 'PUT', path: '/v1/rules', id: 'putRules', tag: 'rules', scope: 'rules:write',
      summary: 'Put a rules file in the place of the present one: active at once when it widens nothing for anybody, else staged until it is approved',
      yaml: true, body: { type: 'string', minLength: 1, maxLength: LIMITS.adminRulesBytes, description: 'The rules file; what it includes is read from beside the present one' },
      answer: { status: 200, text: 'What is active and what waits', schema: RULES }, errors: [413, 415, 422, 503],
      handle: async ({ body, actor, audit }) => {
        const state = await control.putRules(body, actor.name)
        audit('rules.put', some('detail', (state.staged ?? state.active)?.hash))
        return rulesAnswer(state)
      },
    }),
    route<{ params: unknown; query: unknown; body: { readonly approve_widening?: string; readonly hash?: string } }>({
      method: 'POST', path: '/v1/rules/activate', id: 'activateRules', tag: 'rules', scope: 'rules:activate',
      summary: 'Read the rules file again; with `approve_widening` approve the set that waits, for which the role must have rules:approve',
      body: ACTIVATE_BODY,
      answer: { status: 200, text: 'What is active and what waits', schema: RULES }, errors: [409, 413, 415, 422, 503],
      handle: async ({ body, actor, audit }) => {
        const reason = body.approve_widening?.trim()
        if (reason === undefined) {
          audit('rules.activate')
          return rulesAnswer(await control.activateRules(actor.name))
        }
        if (!may(actor.role, 'rules:approve')) throw new GatewayError('SCOPE-MISSING', 'This role may put rules in place, not approve what they widen.', `Roles that may: ${rolesWith('rules:approve').join(', ')}.`)
        if (reason.length < 3 || body.hash === undefined) throw new GatewayError('REASON-MISSING', 'An approval needs a reason and the hash of the set that was looked at.', 'GET /v1/rules has the hash and what the set widens.')
        const state = await control.approveRules(body.hash, reason, actor.name)
        audit('rules.approved', { detail: body.hash })
        return rulesAnswer(state)
      },
    }),
    route({
      method: 'POST', path: '/v1/rules/rollback', id: 'rollbackRules', tag: 'rules', scope: 'rules:activate',
      summary: 'Go back to the set that was active before; what that widens is staged',
      body: closed({}),
      answer: { status: 200, text: 'What is active and what waits', schema: RULES }, errors: [409, 413, 415, 422, 503],
      handle: async ({ actor, audit }) => {
        const state = await control.rollbackRules(actor.name)
        audit('rules.rollback', some('detail', (state.staged ?? state.active)?.hash))
        return rulesAnswer(state)
      },
    }),
    route({
      method: 'POST', path: '/v1/rules/discard', id: 'discardRules', tag: 'rules', scope: 'rules:activate',
      summary: 'Throw the set that waits away; the file that holds it is not taken until it changes or is asked for',
      body: closed({}),
      answer: { status: 200, text: 'What is active', schema: RULES }, errors: [409, 413, 415, 503],
      handle: async ({ actor, audit }) => {
        const state = await control.discardRules(actor.name)
        audit('rules.discarded')
        return rulesAnswer(state)
      },
    }),
    route<{ params: unknown; query: { readonly sample?: string; readonly minutes?: string }; body: string }>({
      method: 'POST', path: '/v1/rules/shadow', id: 'startShadow', tag: 'rules', scope: 'shadow:run',
      summary: 'Perform a rules file beside the active set on sampled live traffic, and count what it would change; nothing of it leaves',
      query: SHADOW_QUERY, yaml: true, body: { type: 'string', minLength: 1, maxLength: LIMITS.adminRulesBytes, description: 'The rules file' },
      answer: { status: 201, text: 'The run', schema: SHADOW }, errors: [409, 413, 415, 422, 503],
      handle: async ({ query, body, actor }) => shadowAnswer(await control.startShadow(body, { samplePercent: Number(query.sample ?? '10'), minutes: Number(query.minutes ?? '60'), asNobody: !may(actor.role, 'consent:read') }, actor.name), actor),
    }),
    route({
      method: 'GET', path: '/v1/rules/shadow', id: 'getShadow', tag: 'rules', scope: 'rules:read',
      summary: 'What the candidate would change, in counts; the last run when none goes on',
      answer: { status: 200, text: 'The run', schema: SHADOW }, errors: [404],
      handle: ({ actor }) => {
        const shadow = control.shadow()
        if (shadow === undefined) throw new GatewayError('NO-SHADOW', 'No candidate has run beside the active set since the gateway started.', 'Start one: parapet rules shadow FILE.')
        return shadowAnswer(shadow, actor)
      },
    }),
    route({
      method: 'DELETE', path: '/v1/rules/shadow', id: 'stopShadow', tag: 'rules', scope: 'shadow:run',
      summary: 'End the run; what it counted can still be read',
      answer: { status: 200, text: 'The run', schema: SHADOW }, errors: [404],
      handle: ({ actor }) => shadowAnswer(control.stopShadow(actor.name), actor),
    }),
    route<{ params: OperatorParams; query: unknown; body: unknown }>({
      method: 'GET', path: '/v1/operators/{operator}/consent', id: 'getConsent', tag: 'consent', scope: 'consent:read',
      summary: 'State per purpose, notice given, and the history that the person may ask for [GDPR Art. 15]',
      params: OPERATOR_PARAMS,
      answer: { status: 200, text: 'The consent', schema: CONSENT }, errors: [404],
      handle: ({ params, audit }) => {
        const view = control.consent(params.operator)
        if (view === undefined) throw unknownOperator()
        audit('consent.shown', { operator: params.operator })
        return consentAnswer(view)
      },
    }),
    route<{ params: OperatorParams; query: unknown; body: ConsentBody }>({
      method: 'POST', path: '/v1/operators/{operator}/consent', id: 'changeConsent', tag: 'consent', scope: 'consent:restrict',
      summary: 'Ask, refuse, withdraw, object, or grant (everywhere or on the site alone) with evidence; in force and durable when answered',
      params: OPERATOR_PARAMS, body: CONSENT_BODY,
      answer: { status: 200, text: 'The receipt', schema: RECEIPT }, errors: [404, 409, 413, 415, 422, 503],
      handle: async ({ params, body, actor, audit }) => {
        const receipt = await control.changeConsent(consentChange(params.operator, body, actor))
        audit(`consent.${body.state}`, { operator: params.operator, purpose: body.purpose, detail: receipt.receipt })
        return receiptAnswer(receipt)
      },
    }),
    route<{ params: OperatorParams; query: { readonly purpose?: PurposeId }; body: unknown }>({
      method: 'GET', path: '/v1/operators/{operator}/consent/receipt', id: 'exportConsent', tag: 'consent', scope: 'consent:read',
      summary: 'Consent receipt with one record per purpose, as ISO/IEC TS 27560 in terms of DPV, for the person or an authority',
      params: OPERATOR_PARAMS, query: closed({ purpose: { ...NAMED, description: 'This purpose alone' } }),
      answer: { status: 200, text: 'The receipt; it names the person by an id that means nothing elsewhere', schema: CONSENT_RECEIPT, type: 'application/ld+json' }, errors: [404],
      handle: ({ params, query, audit }) => {
        const id = randomUUID()
        const receipt = control.consentReceipt(params.operator, query.purpose, id)
        if (receipt === undefined) throw unknownOperator()
        audit('consent.exported', { operator: params.operator, detail: id, ...(query.purpose === undefined ? {} : { purpose: query.purpose }) })
        return receipt
      },
    }),
    route<{ params: OperatorParams; query: unknown; body: { readonly policy?: string; readonly language?: string } }>({
      method: 'POST', path: '/v1/operators/{operator}/notice', id: 'giveNotice', tag: 'consent', scope: 'consent:restrict',
      summary: 'Record that the person was given the notice of a policy [GDPR Art. 13]',
      params: OPERATOR_PARAMS, body: NOTICE_BODY,
      answer: { status: 200, text: 'What was recorded', schema: object({ operator: text(), policy: text(), seq: integer() }) }, errors: [404, 413, 415, 422, 503],
      handle: async ({ params, body, actor, audit }) => {
        const { operator, policy, seq } = await control.giveNotice(params.operator, body.policy, body.language, actor.name)
        audit('notice.given', { operator, detail: String(seq) })
        return { operator, policy, seq }
      },
    }),
    route<{ params: unknown; query: { readonly after?: string; readonly limit?: string }; body: unknown }>({
      method: 'GET', path: '/v1/machines', id: 'listMachines', tag: 'machines', scope: 'machines:read',
      summary: 'The machine registry, in the order of ids',
      query: PAGE,
      answer: { status: 200, text: 'Machines', schema: MACHINES }, errors: [],
      handle: ({ query }) => {
        const limit = Number(query.limit ?? '100')
        const { machines, total } = control.machines({ after: query.after, limit })
        const last = machines.at(-1)
        return { machines: machines.map(machineAnswer), total, ...(machines.length === limit && last !== undefined ? { next: last.id } : {}) }
      },
    }),
    route<{ params: unknown; query: unknown; body: MachineBody }>({
      method: 'POST', path: '/v1/machines', id: 'addMachine', tag: 'machines', scope: 'machines:write',
      summary: 'Admit a machine; its password is in this answer and nowhere else',
      body: MACHINE_BODY,
      answer: {
        status: 201, text: 'The machine and its password',
        schema: object({ machine: MACHINE, password: text('Shown once; absent when none was asked for') }, ['password']),
      },
      errors: [409, 413, 415, 422],
      handle: async ({ body, audit }) => {
        const password = body.credential ? makePassword() : undefined
        const machine = await control.addMachine({
          id: body.id, fleet: body.fleet, model: body.model, country: body.country, labels: body.labels, holder: body.holder,
          operatorCollection: body.operator_collection,
        }, password)
        audit('machine.added', { machine: machine.id })
        return { machine: machineAnswer(machine), ...some('password', password) }
      },
    }),
    route({
      method: 'GET', path: '/v1/sessions', id: 'listSessions', tag: 'consent', scope: 'consent:read',
      summary: 'Who is signed on at which machine now',
      answer: { status: 200, text: 'Sessions', schema: object({ sessions: list(object({ machine: text(), operator: text(), since: time() })) }) }, errors: [],
      handle: ({ audit }) => {
        audit('sessions.shown')
        return { sessions: control.sessions().map(({ machine, operator, sinceMs }) => ({ machine, operator, since: iso(sinceMs) })) }
      },
    }),
    route({
      method: 'GET', path: '/v1/ledger', id: 'verifyLedger', tag: 'ledger', scope: 'ledger:read',
      summary: 'Check the whole ledger: every event there, unchanged and in order, up to the signed head; a broken one closes all that rests on consent',
      answer: { status: 200, text: 'What was found; `ok` is false when it is broken', schema: LEDGER }, errors: [],
      handle: async ({ audit }) => {
        const report = await control.verifyLedger()
        audit('ledger.verified', { detail: report.ok ? String(report.head.seq) : 'broken' })
        return ledgerAnswer(report)
      },
    }),
    route<{ params: unknown; query: { readonly after?: string; readonly limit?: string; readonly type?: string; readonly day?: string }; body: unknown }>({
      method: 'GET', path: '/v1/ledger/events', id: 'listLedgerEvents', tag: 'ledger', scope: 'ledger:read',
      summary: 'Events in the order of the ledger, their clear columns alone: nothing in them tells of whom',
      query: LEDGER_PAGE,
      answer: { status: 200, text: 'Events', schema: LEDGER_EVENTS }, errors: [],
      handle: ({ query }) => {
        const limit = Number(query.limit ?? '100')
        const events = control.ledgerEvents({ after: Number(query.after ?? '0'), limit, type: query.type, day: query.day })
        const last = events.at(-1)
        return { events: events.map(ledgerEventAnswer), ...(events.length === limit && last !== undefined ? { next: last.seq } : {}) }
      },
    }),
    route({
      method: 'GET', path: '/v1/outputs', id: 'listOutputs', tag: 'operation', scope: 'status:read',
      summary: 'Outputs with what they got and what was withheld, by reason',
      answer: { status: 200, text: 'Outputs', schema: object({ outputs: list(OUTPUT) }) }, errors: [],
      handle: () => ({ outputs: control.outputs().map(outputAnswer) }),
    }),
    route<{ params: unknown; query: { readonly machine: MachineId; readonly output: OutputId }; body: unknown }>({
      method: 'GET', path: '/v1/why', id: 'why', tag: 'operation', scope: 'machines:read',
      summary: 'Why an output gets nothing, or something, from a machine',
      query: { ...closed({ machine: MACHINE_ID, output: NAMED }), required: ['machine', 'output'] },
      answer: { status: 200, text: 'The newest messages and their results', schema: WHY }, errors: [404],
      handle: ({ query, actor, audit }) => {
        const why = control.why(query.machine, query.output)
        if (why === undefined) throw new GatewayError('UNKNOWN-MACHINE', 'There is no such machine or no such output.', 'See: parapet machines list, and parapet status for the outputs (GET /v1/machines, GET /v1/outputs).')
        const personal = may(actor.role, 'consent:read')
        if (personal) audit('why.shown', { machine: query.machine })
        return whyAnswer(why, personal)
      },
    }),
    route({
      method: 'GET', path: '/v1/learning', id: 'getLearning', tag: 'operation', scope: 'learn:run',
      summary: 'What arrives that schemas and rules do not know: places, types, sizes and counts, never a value',
      answer: { status: 200, text: 'The newest run; nothing when there was none since the start', schema: object({ learning: LEARNING }, ['learning']) }, errors: [],
      handle: () => some('learning', maybe(control.learned(), learningAnswer)),
    }),
    route<{ params: unknown; query: unknown; body: { readonly stream?: StreamId; readonly seconds: number } }>({
      method: 'POST', path: '/v1/learning', id: 'startLearning', tag: 'operation', scope: 'learn:run',
      summary: 'Begin learn mode, for all streams or one; it ends by itself',
      body: LEARNING_BODY,
      answer: { status: 201, text: 'The run', schema: LEARNING }, errors: [404, 409, 413, 415, 422],
      handle: ({ body, audit }) => {
        const report = control.startLearning({ stream: body.stream, forMs: body.seconds * 1_000 })
        audit('learning.started', { detail: `${body.seconds} s` })
        return learningAnswer(report)
      },
    }),
    route({
      method: 'DELETE', path: '/v1/learning', id: 'stopLearning', tag: 'operation', scope: 'learn:run',
      summary: 'End learn mode; its report stays until the next run',
      answer: { status: 200, text: 'What it saw', schema: LEARNING }, errors: [409],
      handle: ({ audit }) => {
        const report = control.stopLearning()
        audit('learning.stopped')
        return learningAnswer(report)
      },
    }),
    route({
      method: 'GET', path: '/v1/recordings', id: 'listRecordings', tag: 'recordings', scope: 'recordings:write',
      summary: 'Recordings of raw traffic, the oldest first; what is in them can be read with the private key alone, elsewhere',
      answer: { status: 200, text: 'Recordings', schema: object({ recordings: list(RECORDING) }) }, errors: [],
      handle: ({ audit }) => {
        audit('recordings.listed')
        return { recordings: control.recordings().map(recordingAnswer) }
      },
    }),
    route<{ params: unknown; query: unknown; body: RecordingBody }>({
      method: 'POST', path: '/v1/recordings', id: 'startRecording', tag: 'recordings', scope: 'recordings:write',
      summary: 'Begin to record raw traffic, sealed to a public key, with a reason, for a limited time; one at a time',
      body: RECORDING_BODY,
      answer: { status: 201, text: 'The recording', schema: RECORDING }, errors: [404, 409, 413, 415, 422, 503],
      // The ledger has each before it happens, written where it happens.
      handle: ({ body, actor }) => recordingAnswer(control.startRecording({
        to: body.to, reason: body.reason, stream: body.stream, machine: body.machine, forMs: body.seconds * 1_000, bytes: body.bytes, keepMs: body.keep_seconds * 1_000, withOperators: body.with_operators,
      }, { by: actor.name, role: actor.role })),
    }),
    route<{ params: RecordingParams; query: unknown; body: unknown }>({
      method: 'POST', path: '/v1/recordings/{id}/stop', id: 'stopRecording', tag: 'recordings', scope: 'recordings:write',
      summary: 'End the recording that runs; its file stays until it is deleted',
      params: RECORDING_PARAMS, body: closed({}),
      answer: { status: 200, text: 'The recording', schema: RECORDING }, errors: [404, 413, 415],
      handle: ({ params, actor }) => recordingAnswer(control.stopRecording(params.id, { by: actor.name, role: actor.role })),
    }),
    route<{ params: RecordingParams; query: unknown; body: unknown }>({
      method: 'DELETE', path: '/v1/recordings/{id}', id: 'deleteRecording', tag: 'recordings', scope: 'recordings:write',
      summary: 'Delete a recording, also one that runs',
      params: RECORDING_PARAMS,
      answer: { status: 204, text: 'It is gone' }, errors: [404, 409],
      handle: ({ params, actor }) => control.deleteRecording(params.id, { by: actor.name, role: actor.role }),
    }),
    route<{ params: unknown; query: { readonly after?: string; readonly limit?: string }; body: unknown }>({
      method: 'GET', path: '/v1/dead-letters', id: 'listDeadLetters', tag: 'operation', scope: 'status:read',
      summary: 'Messages that a broker refused for good: where they come from and why, never what they say',
      query: DEAD_LETTER_PAGE,
      answer: { status: 200, text: 'Dead letters; `next` is where the next page starts', schema: object({ letters: list(DEAD_LETTER), next: integer() }, ['next']) }, errors: [],
      handle: ({ query }) => {
        const limit = Number(query.limit ?? '100')
        const letters = control.deadLetters({ after: Number(query.after ?? '0'), limit })
        const last = letters.at(-1)
        return { letters: letters.map(deadLetterAnswer), ...(letters.length === limit && last !== undefined ? { next: last.number } : {}) }
      },
    }),
    route<{ params: unknown; query: unknown; body: { readonly numbers?: readonly number[] } }>({
      method: 'POST', path: '/v1/dead-letters/retry', id: 'retryDeadLetters', tag: 'operation', scope: 'outbox:write',
      summary: 'Send dead letters once more to those who refused them, behind all that waits; all of them without numbers',
      body: DEAD_LETTERS_BODY,
      answer: { status: 200, text: 'How many', schema: object({ retried: integer() }) }, errors: [413, 415, 503],
      handle: ({ body, audit }) => {
        const retried = control.retryDeadLetters(body.numbers)
        audit('dead_letters.retried', { detail: String(retried) })
        return { retried }
      },
    }),
    route<{ params: unknown; query: unknown; body: { readonly numbers?: readonly number[] } }>({
      method: 'POST', path: '/v1/dead-letters/drop', id: 'dropDeadLetters', tag: 'operation', scope: 'outbox:write',
      summary: 'Delete dead letters, but for what a legal hold keeps; all of them without numbers',
      body: DEAD_LETTERS_BODY,
      answer: { status: 200, text: 'How many', schema: object({ dropped: integer() }) }, errors: [413, 415, 503],
      handle: ({ body, audit }) => {
        const dropped = control.dropDeadLetters(body.numbers)
        audit('dead_letters.dropped', { detail: String(dropped) })
        return { dropped }
      },
    }),
    route<{ params: unknown; query: unknown; body: TraceBody }>({
      method: 'POST', path: '/v1/trace', id: 'startTrace', tag: 'operation', scope: 'trace:run',
      summary: 'Explain the messages of one machine for a limited time; of one operator, or with values, for roles that may read consent',
      body: TRACE_BODY,
      answer: { status: 201, text: 'The trace; a token has at most one', schema: TRACE }, errors: [404, 409, 413, 415, 422],
      handle: ({ body, actor, audit }) => {
        const personal = may(actor.role, 'consent:read')
        if ((body.machine === undefined) === (body.operator === undefined)) throw new GatewayError('TRACE-OF', 'A trace is of a machine or of an operator, one of the two.', 'Give "machine" or "operator".')
        if (!personal && (body.values || body.operator !== undefined)) throw new GatewayError('SCOPE-MISSING', 'This role may trace a machine, without values.', `Roles that may see values and trace an operator: ${rolesWith('consent:read').join(', ')}.`)
        const view = control.startTrace({ machine: body.machine, operator: body.operator, minutes: body.minutes, values: body.values, who: actor, personal })
        audit('trace.started', { ...some('machine', body.machine), ...some('operator', body.operator), detail: `${body.minutes} min${body.values ? ', with values' : ''}` })
        return traceAnswer(view)
      },
    }),
    route<{ params: unknown; query: { readonly after?: string }; body: unknown }>({
      method: 'GET', path: '/v1/trace', id: 'getTrace', tag: 'operation', scope: 'trace:run',
      summary: 'What the trace of this token saw, a page at a time',
      query: TRACE_PAGE,
      answer: { status: 200, text: 'Messages, oldest first', schema: TRACE_ENTRIES }, errors: [404],
      handle: ({ query, actor, audit }) => {
        const page = control.trace(actor, Number(query.after ?? '0'))
        // Whoever's values are handed out can see that they were.
        if (page.values && page.entries.length > 0) {
          const about = some('machine', page.machine as MachineId | undefined)
          if (page.about.length === 0) audit('trace.shown', about)
          for (const operator of page.about) audit('trace.shown', { ...about, operator })
        }
        return tracePageAnswer(page)
      },
    }),
    route({
      method: 'DELETE', path: '/v1/trace', id: 'stopTrace', tag: 'operation', scope: 'trace:run',
      summary: 'End the trace of this token and forget what it saw',
      answer: { status: 204, text: 'It is ended' }, errors: [404],
      handle: ({ actor }) => control.stopTrace(actor),
    }),
    route({
      method: 'GET', path: '/v1/tokens', id: 'listTokens', tag: 'access', scope: 'tokens:write',
      summary: 'Tokens by name and role; the tokens themselves are nowhere',
      answer: { status: 200, text: 'Tokens', schema: object({ tokens: list(TOKEN) }) }, errors: [],
      handle: () => ({ tokens: tokens.list().map(({ name, role, created }) => ({ name, role, created })) }),
    }),
    route({
      method: 'GET', path: '/v1/keys', id: 'listKeys', tag: 'operation', scope: 'status:read',
      summary: 'The root keys by name and age; they are rotated where the file lies, by parapet keys rotate',
      answer: { status: 200, text: 'Keys', schema: KEYS }, errors: [],
      handle: () => {
        const { storage, pseudonyms, former, changedAtMs } = control.keys()
        return { storage, pseudonyms, former, changed: iso(changedAtMs) }
      },
    }),
    route<{ params: unknown; query: unknown; body: { readonly name: string; readonly role: Role } }>({
      method: 'POST', path: '/v1/tokens', id: 'createToken', tag: 'access', scope: 'tokens:write',
      summary: 'Make a token; it is in this answer and nowhere else',
      body: TOKEN_BODY,
      answer: { status: 201, text: 'The token', schema: object({ name: text(), role: text(), token: text('Shown once') }) }, errors: [409, 413, 415, 422],
      handle: ({ body, audit }) => {
        const token = tokens.create(body.name, body.role)
        audit('token.created', { detail: body.name })
        return { name: body.name, role: body.role, token }
      },
    }),
    route<{ params: { readonly name: string }; query: unknown; body: unknown }>({
      method: 'DELETE', path: '/v1/tokens/{name}', id: 'endToken', tag: 'access', scope: 'tokens:write',
      summary: 'End a token at once',
      params: { ...closed({ name: { ...NAMED, maxLength: 64 } }), required: ['name'] },
      answer: { status: 204, text: 'It is ended' }, errors: [404, 409],
      handle: ({ params, audit }) => {
        tokens.end(params.name)
        audit('token.ended', { detail: params.name })
      },
    }),
  ]
}

function unknownOperator(): GatewayError {
  return new GatewayError('UNKNOWN-OPERATOR', 'No operator has this id.', 'Ids are those of operators.yaml, never a card or PIN.')
}

/**
 * [GDPR Art. 7(1), 7(3)] A yes through this API needs evidence that the person gave it; a no needs nothing.
 * Errors: EVIDENCE-MISSING, SCOPE-MISSING, EXPIRY-PAST.
 */
function consentChange(operator: OperatorId, body: ConsentBody, actor: Actor): ConsentChange {
  const yes = body.state === 'granted' || body.state === 'local_only'
  if (yes && !may(actor.role, 'consent:grant')) throw new GatewayError('SCOPE-MISSING', 'This role may restrict, not grant.', `Roles that may: ${rolesWith('consent:grant').join(', ')}.`)
  if (yes && (body.evidence ?? '').trim() === '') {
    throw new GatewayError('EVIDENCE-MISSING', 'A grant needs evidence that the person gave it.', 'Say where it is, for example "signed form 2026-114".')
  }
  const expiresAtMs = body.expires === undefined ? undefined : Date.parse(body.expires)
  if (expiresAtMs !== undefined && !(expiresAtMs > Date.now())) {
    throw new GatewayError('EXPIRY-PAST', 'The expiry is not a time in the future.', 'Give an RFC 3339 time, or leave it out.')
  }
  return {
    operator, purpose: body.purpose, state: body.state, source: actor.role === 'admin' ? 'admin' : body.source, by: actor.name,
    evidence: body.evidence, language: body.language, expiresAtMs, machine: undefined,
  }
}

// ------------------------------------------------------------------------------------------------------------------- schemas

interface OperatorParams { readonly operator: OperatorId }

interface ConsentBody {
  readonly purpose: PurposeId
  readonly state: 'requested' | 'granted' | 'local_only' | 'refused' | 'withdrawn' | 'objected'
  readonly evidence?: string
  readonly language?: string
  readonly expires?: string
  readonly source: 'agent' | 'portal'
}

interface RecordingParams { readonly id: string }

interface RecordingBody {
  readonly to: string
  readonly reason: string
  readonly stream?: StreamId
  readonly machine?: MachineId
  readonly seconds: number
  readonly bytes: number
  readonly keep_seconds: number
  readonly with_operators: boolean
}

interface TraceBody {
  readonly machine?: MachineId
  readonly operator?: OperatorId
  readonly minutes: number
  readonly values: boolean
}

interface MachineBody {
  readonly id: MachineId
  readonly fleet: FleetId
  readonly model: string
  readonly country?: string
  readonly labels: Readonly<Record<string, string>>
  readonly holder?: string
  readonly operator_collection: 'on' | 'off' | 'unknown'
  readonly credential: boolean
}

function text(description?: string): Schema {
  return description === undefined ? { type: 'string' } : { type: 'string', description }
}
function integer(): Schema {
  return { type: 'integer' }
}
function flag(): Schema {
  return { type: 'boolean' }
}
function time(): Schema {
  return { type: 'string', format: 'date-time' }
}
function list(items: Schema): Schema {
  return { type: 'array', items }
}
/** An answer: every key is required but those named optional. */
function object(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []): Schema {
  return { type: 'object', additionalProperties: false, properties, required: Object.keys(properties).filter((key) => !optional.includes(key)) }
}
/** A request: unknown keys are errors. */
function closed(properties: Readonly<Record<string, Schema>>): Schema {
  return { type: 'object', additionalProperties: false, properties }
}

/** As domain/ids.ts NAME; a purpose, output, policy or token. */
const NAMED: Schema = { type: 'string', pattern: '^[A-Za-z0-9_.-]{1,128}$' }
/** As domain/ids.ts isTopicLevel: what can stand between two slashes of a topic. */
const MACHINE_ID: Schema = { type: 'string', minLength: 1, maxLength: 256, pattern: '^[^$/+#\\u0000-\\u001f][^/+#\\u0000-\\u001f]*$' }
const COUNTRY: Schema = { type: 'string', pattern: '^[A-Z]{2}(-[A-Z0-9]{1,3})?$', description: 'ISO 3166-1 alpha-2 or 3166-2' }
const LANGUAGE: Schema = { type: 'string', pattern: '^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$', maxLength: 35, description: 'Language of the notice, BCP 47' }

const OPERATOR_PARAMS: Schema = { ...closed({ operator: { ...NAMED, description: 'Id of the operator; never a card, PIN or name' } }), required: ['operator'] }

const CONSENT_BODY: Schema = {
  ...closed({
    purpose: NAMED,
    state: { type: 'string', enum: ['requested', 'granted', 'local_only', 'refused', 'withdrawn', 'objected'], description: 'requested: the question was put; it changes no answer' },
    evidence: { type: 'string', maxLength: 4_096, description: 'Where the proof of the grant is; required for granted and local_only' },
    language: LANGUAGE,
    expires: { ...time(), description: 'When a grant ends by itself' },
    source: { type: 'string', enum: ['agent', 'portal'], default: 'agent', description: 'Customer service, or a portal at which the person was verified; an admin token always counts as admin' },
  }),
  required: ['purpose', 'state'],
}

const LEARNING_BODY: Schema = closed({
  stream: { ...NAMED, description: 'This stream alone' },
  seconds: { type: 'integer', minimum: 1, maximum: LIMITS.learnMs / 1_000, default: 3_600, description: 'When it ends by itself' },
})

const RECORDING_PARAMS: Schema = { ...closed({ id: { type: 'string', pattern: '^r-[0-9a-f]{16}$' } }), required: ['id'] }

const RECORDING_BODY: Schema = {
  ...closed({
    to: { type: 'string', pattern: '^[A-Za-z0-9_-]{43}$', description: 'Public X25519 key, 32 bytes base64url: parapet record keygen makes a pair' },
    reason: { type: 'string', minLength: 3, maxLength: 500, description: 'Goes into the ledger, so name no person' },
    stream: { ...NAMED, description: 'This stream alone' },
    machine: { ...MACHINE_ID, description: 'This machine alone' },
    seconds: { type: 'integer', minimum: 1, maximum: LIMITS.recordingMs / 1_000, default: 900, description: 'When it ends by itself' },
    bytes: { type: 'integer', minimum: 65_536, maximum: LIMITS.recordingBytes, default: 67_108_864, description: 'Size at which it ends' },
    keep_seconds: { type: 'integer', minimum: 1, maximum: LIMITS.recordingKeepMs / 1_000, default: 604_800, description: 'Counted from the start; then it is deleted' },
    with_operators: { type: 'boolean', default: false, description: 'Operators by their ids, not as person-1, person-2' },
  }),
  required: ['to', 'reason'],
}

const NOTICE_BODY: Schema = closed({ policy: { ...NAMED, description: 'The policy whose notice it was; the one in force when absent' }, language: LANGUAGE })

const MACHINE_BODY: Schema = {
  ...closed({
    id: MACHINE_ID,
    fleet: MACHINE_ID,
    model: { type: 'string', minLength: 1, maxLength: 128, default: 'unknown' },
    country: COUNTRY,
    labels: {
      type: 'object', maxProperties: 32, propertyNames: { pattern: '^[A-Za-z0-9_.-]{1,64}$' }, additionalProperties: { type: 'string', maxLength: 256 }, default: {},
    },
    holder: NAMED,
    operator_collection: { type: 'string', enum: ['on', 'off', 'unknown'], default: 'unknown', description: 'The device setting; unknown counts as off' },
    credential: { type: 'boolean', default: true, description: 'Make a password' },
  }),
  required: ['id', 'fleet'],
}

const PAGE: Schema = closed({
  after: { ...MACHINE_ID, description: 'Start after this id' },
  limit: { type: 'string', pattern: '^([1-9][0-9]{0,2}|1000)$', description: 'At most this many, 1 to 1000; 100 when absent' },
})

const LEDGER_PAGE: Schema = closed({
  after: { type: 'string', pattern: '^[0-9]{1,15}$', description: 'Start after this sequence number' },
  limit: { type: 'string', pattern: '^([1-9][0-9]{0,2}|1000)$', description: 'At most this many, 1 to 1000; 100 when absent' },
  type: { type: 'string', pattern: '^[a-z_.]{1,64}$', description: 'A type, or the beginning of several when it ends with a dot: consent.' },
  day: { type: 'string', pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}$', description: 'UTC day' },
})

const DEAD_LETTER_PAGE: Schema = closed({
  after: { type: 'string', pattern: '^[0-9]{1,15}$', description: 'Start after this number' },
  limit: { type: 'string', pattern: '^([1-9][0-9]{0,2}|1000)$', description: 'At most this many, 1 to 1000; 100 when absent' },
})
const DEAD_LETTERS_BODY: Schema = closed({
  numbers: { type: 'array', minItems: 1, maxItems: 1_000, uniqueItems: true, items: { type: 'integer', minimum: 1, maximum: Number.MAX_SAFE_INTEGER }, description: 'All when absent' },
})
const DEAD_LETTER = object({
  number: integer(), output: text(), recipient: text(), stream: text(), refused_by: list(text()), code: text('Reason code of the broker, or a word of the gateway'), bytes: integer(),
  received: time(), until: time(),
})

const SHADOW_QUERY: Schema = closed({
  sample: { type: 'string', pattern: '^([1-9][0-9]?|100)$', description: 'Percent of the messages, 1 to 100; 10 when absent' },
  minutes: { type: 'string', pattern: '^([1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)$', description: 'How long, 1 to 1440; 60 when absent' },
})

const TRACE_BODY: Schema = closed({
  machine: { ...MACHINE_ID, description: 'Whose messages' },
  operator: { ...NAMED, description: 'Instead of a machine: messages that are about this person' },
  minutes: { type: 'integer', minimum: 1, maximum: 60, default: 10, description: 'How long' },
  values: { type: 'boolean', default: false, description: 'Values before and after; for roles that may read consent' },
})

const TRACE_PAGE: Schema = closed({ after: { type: 'string', pattern: '^[0-9]{1,15}$', description: 'Start after this sequence number' } })

const TOKEN_BODY: Schema = {
  ...closed({ name: { ...NAMED, maxLength: 64, description: 'What it is for, not who uses it' }, role: { type: 'string', enum: Object.keys(ROLES) } }),
  required: ['name', 'role'],
}

const REASON = object({ code: text(), severity: text(), text: text(), mend: text('What to do') }, ['mend'])
export const HEALTH = object({ live: flag() })
export const READINESS = object({ ready: flag(), reasons: list(REASON) })

const STATUS = object({
  name: text(), version: text(), started: time(), trial: flag(), ready: flag(), reasons: list(REASON),
  listeners: list(object({ name: text(), host: text(), port: integer(), tls: flag(), connections: integer() })),
  bridges: list(object({ name: text(), recipient: text(), connected: flag(), waiting: integer() })),
  machines: integer(), operators: integer(), sessions: integer(),
  outbox: object({ records: integer(), bytes: integer(), limit_bytes: integer(), oldest: time(), dead_letters: integer() }, ['oldest', 'dead_letters']),
  recipients: list(object({ recipient: text(), sessions: integer(), connected: integer(), records: integer(), bytes: integer(), oldest: time() }, ['oldest'])),
  ledger: object({ seq: integer(), healthy: flag() }),
  rules: object({ hash: text(), policy: text(), active_since: time() }),
}, ['rules', 'recipients'])

const FINDING = object({ severity: text(), code: text(), file: text('The rules file, or the included file'), line: integer(), col: integer(), path: text(), text: text() })
const VALIDATION = object({ accepted: flag(), findings: list(FINDING) })
const RULES = object({
  active: object({
    hash: text(), policy: text(), effective: text(), active_since: time(), streams: list(text()), outputs: list(text()), purposes: list(text()),
  }, ['effective']),
  refused: object({ at: time(), findings: list(FINDING) }),
  staged: object({
    hash: text(), policy: text(), since: time(), by: text('Name of the token, or file'), widened: integer(), narrowed: integer(), changed: integer(),
    changes: list(object({
      verdict: text('widened, narrowed or changed'), comparable: flag(), where: text(), consent: list(text()), countries: list(text()), before: text(), after: text(), why: text(),
    })),
    approvals: list(object({ by: text(), at: time(), reason: text() })), needs: { type: 'integer', description: 'How many different tokens must approve' },
  }),
  previous: object({ hash: text(), policy: text() }),
}, ['active', 'refused', 'staged', 'previous'])

const ACTIVE_RULES = object({
  active: object({
    file: text(), text: text(),
    include: { type: 'object', additionalProperties: { type: 'string' }, description: 'Name -> text of the included files' },
    params: { type: 'object', additionalProperties: true, description: 'Values of the parameters that the file declares' },
    proto: { type: 'object', additionalProperties: { type: 'string' }, description: 'Name -> text of the .proto files' }, hash: text(), day: text('On which it was accepted'),
  }, ['include', 'params']),
}, ['active'])

const ACTIVATE_BODY: Schema = closed({
  approve_widening: { type: 'string', minLength: 3, maxLength: 500, description: 'Why the widening is right; goes into the ledger, so name no person' },
  hash: { type: 'string', pattern: '^[0-9a-f]{64}$', description: 'Of the set that was looked at' },
})

const CONSENT = object({
  operator: text(), country: text(),
  purposes: list(object(
    { purpose: text(), state: text(), since: time(), expires: time(), policy: text(), source: text(), seq: integer() },
    ['expires', 'policy', 'source'],
  )),
  notice: object({ policy: text(), at: time(), language: text() }, ['language']),
  history: list(object({
    seq: integer(), id: text('Number of the event; for an answer, that of its receipt'), type: text(), day: text(), at: time(),
    purpose: text(), before: text('What was in force before'), after: text('What is in force since'),
    asked_by: object({ source: text('terminal, portal, agent or admin'), role: text('person, privacy, admin, or rules: nobody asked'), token: text() }, ['source', 'token']),
    policy: text('The policy in force then'), language: text(), evidence: text(), expires: time(), given: time(), machine: text(), country: text(),
    recipients: list(text('Who was to get what under the yes')),
    body: { type: 'object', additionalProperties: true, description: 'All that is stored of it; absent when its key has been destroyed, and for what the rules did' },
  }, ['at', 'purpose', 'before', 'after', 'asked_by', 'policy', 'language', 'evidence', 'expires', 'given', 'machine', 'country', 'recipients', 'body'])),
  looks: list(object({ at: time(), action: text(), role: text() }, ['role'])),
}, ['country', 'notice'])

const CONSENT_RECEIPT: Schema = {
  type: 'object', additionalProperties: true, description: 'dpv:ConsentReceipt; profile https://w3id.org/dpv/schema/dpv-27560#receipt-record',
  properties: {
    '@context': { type: 'object', additionalProperties: true },
    '@id': text(), '@type': text(), 'dct:identifier': text('Number of this receipt, in the ledger too'), 'dct:created': time(),
    'dpv:hasRecordOfActivity': list({ type: 'object', additionalProperties: true, description: 'dpv:ConsentRecord, one for each purpose' }),
  },
  required: ['@context', '@id', '@type', 'dct:identifier', 'dct:created', 'dpv:hasRecordOfActivity'],
}

const LEDGER = object({
  ok: flag(), events: integer(), head: object({ seq: integer(), hash: text() }), signed: object({ seq: integer(), day: text() }),
  broken_at: integer(), reason: text('Why it is broken'), unindexed: integer(), days: object({ first: text(), last: text() }),
  types: { type: 'object', additionalProperties: { type: 'integer' }, description: 'Type -> count' },
  head_key: text('Public key of the signed heads, base64 SPKI: keep it elsewhere'),
}, ['signed', 'broken_at', 'reason', 'days'])

const LEDGER_EVENTS = object({
  events: list(object({
    seq: integer(), uuid: text(), type: text(), schema: integer(), gateway: text(), day: text(), subject_tag: text('Differs from event to event, also for one person'),
    key_id: text(), prev: text(), hash: text(),
  }, ['subject_tag'])),
  next: { type: 'integer', description: 'Give this as `after` for the next page; absent on the last' },
}, ['next'])

const RECEIPT = object({
  receipt: text(), operator: text(), purpose: text(), state: text(), seq: integer(), at: text(), policy: text(),
  purged: integer(), swapped: integer(), on_the_wire: { type: 'integer', description: 'Frames that had already left when the gate closed' },
})

const MACHINE = object({
  id: text(), fleet: text(), model: text(), country: text(), labels: { type: 'object', additionalProperties: { type: 'string' } }, holder: text(),
  operator_collection: text(), password: { type: 'boolean', description: 'Whether it has one' }, certificate: text(),
}, ['country', 'holder', 'certificate'])

const MACHINES = object({
  machines: list(MACHINE), total: integer(), next: text('Give this as `after` for the next page; absent on the last'),
}, ['next'])

const OUTPUT = object({
  id: text(), recipient: text(), purpose: text(), topic: text(), qos: integer(), via: list(text()), stopped: flag(),
  forwarded: integer(), withheld: { type: 'object', additionalProperties: { type: 'integer' }, description: 'Verdict -> count' },
})

const WHY = object({
  machine: text(), output: text(), connected: flag(), country: text(), basis: text(),
  messages: list(object({ at: time(), stream: text(), result: text(), text: text() }, ['stream'])),
  person: object({ known: flag(), yes: flag(), no: flag(), notice: flag(), collection: flag() }),
  next: text(),
}, ['country', 'basis', 'person'])

const LEARNING = object({
  running: flag(), ended: text('Why: asked, over, failed or closing'), stream: text(), since: time(), until: time(),
  messages: object({ read: integer(), passed_over: integer(), unreadable: integer(), cut: integer() }),
  rows: list(object({
    kind: text('field, wire_type, enum, case or topic'), stream: text(), message: text(), at: text('Where: numbers and names of the schema alone'), wire: text(),
    smallest: integer(), largest: integer(), count: { type: 'integer', description: 'Messages' },
    machines: { type: 'integer', description: `${LIMITS.learnMachines} stands for so many or more` }, first: { ...time(), description: 'The hour' }, last: time(),
    proto: text('A line for the schema'), rules: text('A line for the rules'), next: text('What to do'),
  }, ['stream', 'message', 'wire', 'proto', 'rules'])),
  more: { type: 'integer', description: 'Findings for which there was no row left' },
}, ['ended', 'stream'])

const RECORDING = object({
  id: text(), file: text('On the gateway'), running: flag(), ended: text('Why: asked, over, rules, failed, closing or lost'), by: text('Name of the token'), to: text('Id of the key that opens it'),
  stream: text(), started: time(), until: time(), deleted: { ...time(), description: 'When it is deleted by itself' }, bytes: integer(), messages: integer(), people: integer(),
  left_out: object({ no: integer(), device_setting: integer() }), held: { type: 'boolean', description: 'A legal hold keeps it although its time is over' },
}, ['ended', 'stream'])

const SET = object({ hash: text(), policy: text() })
const SHADOW = object({
  candidate: SET, active: SET, by: text('Name of the token'), sample: { type: 'integer', description: 'Percent' }, started: time(), ends: time(), ended: time(), ending: text('asked, over, rules, failed or closing'),
  seen: integer(), compared: integer(), skipped: { type: 'integer', description: 'Of the sample, for want of processor time' },
  rows: list(object({
    output: text('Absent for what becomes of the whole message'), stream: text(), field: text('Absent for what is about the whole message'),
    what: text('same, changed, only_active, only_candidate, other_topic, different, refused_by_active or refused_by_candidate'), reason: text('Why the other set did not send it'),
    count: integer(), machines: { type: 'integer', description: 'Counted up to 5' },
  }, ['output', 'field', 'reason'])),
  as_nobody: { type: 'boolean', description: 'Judged as if nobody were known: started by a role that may not read consent' },
  left_out: { type: 'boolean', description: 'What could tell what a person said is left out; roles that may read consent see it' },
  further: { type: 'integer', description: 'Differences in places for which there was no line left' },
  difference: text('Of the two sets as such'), asks_again: list(text('Purpose whose yes the candidate would end, as it is wider')),
  notice_again: { type: 'boolean', description: 'The candidate has another policy id: a notice given for the active one does not count for it' },
}, ['ended', 'ending'])

const TRACE_PROPERTIES = {
  id: integer(), machine: text(), operator: text(), values: flag(), personal: { type: 'boolean', description: 'False: explained as if nobody were known at the machine' },
  ends: time(), ending: text('asked, over, failed or closing'), skipped: { type: 'integer', description: 'Messages for which there was no processor time' },
}
const TRACE = object(TRACE_PROPERTIES, ['machine', 'operator', 'ending'])
const TRACE_ENTRIES = object({
  ...TRACE_PROPERTIES, dropped: { type: 'integer', description: 'Messages after `after` that were gone before they were asked for' },
  entries: list(object({
    seq: integer(), at: time(), machine: text(), stream: text(), bytes: integer(), refused: text(), text: text('Why the whole message was refused'), person: text(),
    outputs: list(object({
      output: text(), result: text('sent, or why not'), text: text(), why: text('How the output stands'), bytes: integer(), topic: text(),
      if_nobody_known: { type: 'boolean', description: 'Holds if nobody is known; with somebody there it may be otherwise' }, thinned: { type: 'boolean', description: '`emit` decides afterwards whether it leaves' },
      fields: list(object({ path: text(), action: text(), why: text(), with_yes: text('What is done instead with the operator\'s yes'), before: text('JSON, cut'), after: text('JSON, cut') }, ['with_yes', 'before', 'after'])),
      further_fields: integer(),
    }, ['bytes', 'topic'])),
    further_outputs: integer(),
  }, ['stream', 'refused', 'text', 'person'])),
}, ['machine', 'operator', 'ending'])

const KEYS = object({ storage: text('What is stored is sealed under it'), pseudonyms: text(), former: list(text()), changed: time() })
const TOKEN = object({ name: text(), role: text(), created: time() })

// ------------------------------------------------------------------------------------------------------------------- answers

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

/** An entry for a key that may be absent. */
function some<Value>(key: string, value: Value | undefined): Record<string, Value> {
  return value === undefined ? {} : { [key]: value }
}

export function readinessAnswer({ ready, reasons }: Health): Schema {
  return { ready, reasons: reasons.map(({ code, severity, text, mend }) => ({ code, severity, text, ...some('mend', mend) })) }
}

function statusAnswer(status: Status, health: Health): Schema {
  const { outbox, ledger, rules } = status
  return {
    name: status.name, version: status.version, started: iso(status.startedAtMs), trial: status.trial, ...readinessAnswer(health),
    listeners: status.listeners, bridges: status.bridges, machines: status.machines, operators: status.operators, sessions: status.sessions,
    outbox: {
      records: outbox.records, bytes: outbox.bytes, limit_bytes: outbox.limitBytes,
      ...some('oldest', outbox.oldestAtMs === undefined ? undefined : iso(outbox.oldestAtMs)), ...some('dead_letters', outbox.deadLetters),
    },
    ...some('recipients', status.recipients?.map(({ oldestAtMs, ...rest }) => ({ ...rest, ...some('oldest', oldestAtMs === undefined ? undefined : iso(oldestAtMs)) }))),
    ledger,
    ...some('rules', rules === undefined ? undefined : { hash: rules.hash, policy: rules.policy, active_since: iso(rules.activeSinceMs) }),
  }
}

function deadLetterAnswer({ number, output, recipient, stream, refusedBy, code, bytes, receivedAtMs, untilMs }: DeadLetter): Schema {
  return { number, output, recipient, stream, refused_by: refusedBy, code, bytes, received: iso(receivedAtMs), until: iso(untilMs) }
}

function rulesAnswer({ active, refused, staged, previous }: RulesState): Schema {
  return {
    ...some('active', active === undefined ? undefined : {
      hash: active.hash, policy: active.policy, ...some('effective', active.effective), active_since: iso(active.activeSinceMs),
      streams: active.streams, outputs: active.outputs, purposes: active.purposes,
    }),
    ...some('refused', refused === undefined ? undefined : { at: iso(refused.atMs), findings: refused.findings.slice(0, LIMITS.findings).map(findingAnswer) }),
    ...some('staged', staged === undefined ? undefined : {
      hash: staged.hash, policy: staged.policy, since: iso(staged.sinceMs), by: staged.by, widened: staged.widened, narrowed: staged.narrowed, changed: staged.changed,
      changes: staged.changes.slice(0, LIMITS.findings).map(({ verdict, comparable, where, consent, countries, before, after, why }) => ({ verdict, comparable, where, consent, countries, before, after, why })),
      approvals: staged.approvals.map(({ by, atMs, reason }) => ({ by, at: iso(atMs), reason })), needs: staged.needs,
    }),
    ...some('previous', previous),
  }
}

function findingAnswer({ severity, code, place, path, text }: Awaited<ReturnType<Control['validateRules']>>[number]): Schema {
  return { severity, code, file: place.file, line: place.line, col: place.col, path, text }
}

function consentAnswer({ operator, country, rows, notice, history, looks }: ConsentView): Schema {
  return {
    operator, ...some('country', country),
    purposes: rows.map((row) => ({
      purpose: row.purpose, state: row.state, since: iso(row.sinceMs), ...some('expires', row.expiresAtMs === undefined ? undefined : iso(row.expiresAtMs)),
      ...some('policy', row.policy), ...some('source', row.source), seq: row.seq,
    })),
    ...some('notice', notice === undefined ? undefined : { policy: notice.policy, at: iso(notice.atMs), ...some('language', notice.language) }),
    history: history.map(historyAnswer),
    looks: looks.map(({ atMs, action, role }) => ({ at: iso(atMs), action, ...some('role', role) })),
  }
}

function historyAnswer(entry: HistoryEntry): Schema {
  const { seq, id, type, day, source, role, by } = entry
  return {
    seq, id, type, day, ...some('at', maybeIso(entry.atMs)), ...some('purpose', entry.purpose), ...some('before', entry.before), ...some('after', entry.after),
    ...some('asked_by', role === undefined ? undefined : { role, ...some('source', source), ...some('token', by) }),
    ...some('policy', entry.policy), ...some('language', entry.language), ...some('evidence', entry.evidence), ...some('expires', maybeIso(entry.expiresAtMs)),
    ...some('given', maybeIso(entry.givenAtMs)), ...some('machine', entry.machine), ...some('country', entry.country), ...some('recipients', entry.recipients), ...some('body', entry.body),
  }
}

function maybeIso(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : iso(ms)
}

function ledgerAnswer({ ok, events, head, signed, brokenAt, reason, unindexed, days, types, headKey }: LedgerView): Schema {
  return {
    ok, events, head: { seq: head.seq, hash: head.hash }, ...some('signed', signed === undefined ? undefined : { seq: signed.seq, day: signed.day }),
    ...some('broken_at', brokenAt), ...some('reason', reason), unindexed, ...some('days', days), types, head_key: headKey,
  }
}

function ledgerEventAnswer({ seq, uuid, type, schema, gateway, day, subjectTag, keyId, prev, hash }: ClearEvent): Schema {
  return { seq, uuid, type, schema, gateway, day, ...some('subject_tag', subjectTag), key_id: keyId, prev, hash }
}

function receiptAnswer({ onTheWire, ...receipt }: ConsentReceipt): Schema {
  return { ...receipt, on_the_wire: onTheWire }
}

function machineAnswer(machine: Machine): Schema {
  return {
    id: machine.id, fleet: machine.fleet, model: machine.model, ...some('country', machine.country), labels: machine.labels, ...some('holder', machine.holder),
    operator_collection: machine.operatorCollection, password: machine.credential !== undefined, ...some('certificate', machine.certificate),
  }
}

function maybe<Value, Answer>(value: Value | undefined, answer: (value: Value) => Answer): Answer | undefined {
  return value === undefined ? undefined : answer(value)
}

function learningAnswer({ running, ended, stream, sinceMs, untilMs, messages, rows, more }: LearnReport): Schema {
  return {
    running, ...some('ended', ended), ...some('stream', stream), since: iso(sinceMs), until: iso(untilMs),
    messages: { read: messages.read, passed_over: messages.passedOver, unreadable: messages.unreadable, cut: messages.cut },
    rows: rows.map((row) => ({
      kind: row.kind, ...some('stream', row.stream), ...some('message', row.message), at: row.at, ...some('wire', row.wire), smallest: row.smallest, largest: row.largest, count: row.count,
      machines: row.machines, first: iso(row.firstMs), last: iso(row.lastMs), ...some('proto', row.proto), ...some('rules', row.rules), next: row.next,
    })),
    more,
  }
}

function recordingAnswer(recording: RecordingView): Schema {
  const { id, file, running, ended, by, to, stream, startedMs, untilMs, deletedMs, bytes, messages, people, leftOut, held } = recording
  return {
    id, file, running, ...some('ended', ended), by, to, ...some('stream', stream), started: iso(startedMs), until: iso(untilMs), deleted: iso(deletedMs), bytes, messages, people,
    left_out: { no: leftOut.no, device_setting: leftOut.deviceSetting }, held,
  }
}

function outputAnswer(output: OutputView): Schema {
  const { id, recipient, purpose, topic, qos, via, stopped, forwarded, withheld } = output
  return { id, recipient, purpose, topic, qos, via, stopped, forwarded, withheld }
}

/** Reasons that could tell an objection from a question never asked read alike for everybody but the privacy role. */
const SAME_TO_OTHERS: ReadonlySet<string> = new Set<VerdictName>(['closed', 'forbidden', 'no_transfer'])

function whyAnswer(why: Why, personal: boolean): Schema {
  const messages = why.messages.map(({ atMs, stream, result }) => {
    const shown = !personal && SAME_TO_OTHERS.has(result) ? 'closed' : result
    return { at: iso(atMs), ...some('stream', stream), result: shown, text: shown === 'forwarded' ? 'handed on' : Verdict[shown].text }
  })
  return {
    machine: why.machine, output: why.output, connected: why.connected, ...some('country', why.country), ...some('basis', why.basis),
    messages, ...some('person', personal ? why.person : undefined), next: why.next,
  }
}

/** However many machines had it: a candidate could be written so that one of them makes the difference between two rows. */
function shadowAnswer(shadow: ShadowView, actor: Actor): Schema {
  const personal = may(actor.role, 'consent:read')
  const rows = shadow.rows.filter((row) => personal || !row.hangsOnPerson)
  return {
    candidate: shadow.candidate, active: shadow.active, by: shadow.by, sample: shadow.samplePercent, started: iso(shadow.startedAtMs), ends: iso(shadow.endsAtMs),
    ...some('ended', maybeIso(shadow.endedAtMs)), ...some('ending', shadow.ended), seen: shadow.seen, compared: shadow.compared, skipped: shadow.skipped,
    rows: rows.map(({ output, stream, field, what, reason, count, machines }) => ({ ...some('output', output || undefined), stream, ...some('field', field || undefined), what, ...some('reason', reason || undefined), count, machines })),
    // Said whether or not there is any: that something was left out would tell as much.
    as_nobody: shadow.asNobody, left_out: !personal && !shadow.asNobody, further: shadow.further, difference: shadow.difference, asks_again: shadow.asksAgain, notice_again: shadow.noticeAgain,
  }
}

function traceAnswer({ id, machine, operator, values, personal, endsAtMs, ended, skipped }: TraceView): Schema {
  return { id, ...some('machine', machine), ...some('operator', operator), values, personal, ends: iso(endsAtMs), ...some('ending', ended), skipped }
}

function tracePageAnswer(page: TracePage): Schema {
  return {
    ...traceAnswer(page), dropped: page.dropped,
    entries: page.entries.map((entry) => ({
      seq: entry.seq, at: iso(entry.atMs), machine: entry.machine, ...some('stream', entry.stream), bytes: entry.bytes,
      ...(entry.refused === undefined ? {} : { refused: entry.refused, text: Verdict[entry.refused].text }), ...some('person', entry.person),
      outputs: entry.outputs.map(({ output, result, text, why, bytes, topic, ifNobodyKnown, thinned, fields, furtherFields }) => ({
        output, result, text, why, ...some('bytes', bytes), ...some('topic', topic), if_nobody_known: ifNobodyKnown, thinned,
        fields: fields.map(({ path, action, why: ground, withYes, before, after }) => ({ path, action, why: ground, ...some('with_yes', withYes), ...some('before', before), ...some('after', after) })),
        further_fields: furtherFields,
      })),
      further_outputs: entry.furtherOutputs,
    })),
  }
}

/** Lets each handler name the types of its parts, which its schemas have checked by then. */
function route<Parts extends CallParts>(entry: Omit<Route, 'handle'> & { handle(call: Call<Parts>): unknown }): Route {
  return entry as Route
}

