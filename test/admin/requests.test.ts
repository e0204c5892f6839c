/** What goes in and comes out: form of errors, bounds, the document, and that nothing about a person ends in a log line. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import * as fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import stringifyCompiler from '@fastify/fast-json-stringify-compiler'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse as parseYaml } from 'yaml'
import type { Control } from '../../src/admin/control.ts'
import { adminRoutes, HEALTH, READINESS } from '../../src/admin/routes.ts'
import type { Tokens } from '../../src/admin/tokens.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import { createLog } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { CANARY_MACHINE, CANARY_OPERATOR, startAdmin } from './gateway.ts'
import type { TestAdmin } from './gateway.ts'

const CONSENT = `/v1/operators/${CANARY_OPERATOR}/consent`
let it: TestAdmin
beforeAll(async () => {
  it = await startAdmin()
})
afterAll(() => it.admin.close())

async function send(method: 'GET' | 'POST' | 'DELETE' | 'PUT', url: string, payload?: string | object, type = 'application/json', on: TestAdmin = it) {
  const headers = { authorization: `Bearer ${on.tokens.admin}`, ...(payload === undefined ? {} : { 'content-type': type }) }
  return on.admin.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) })
}

test('of every answer the shaper can be made: the server makes each when the first such answer leaves', () => {
  const compile = stringifyCompiler()({}, {})
  const answers = adminRoutes({} as Control, {} as Tokens).flatMap(({ id, answer: { schema } }) => (schema === undefined ? [] : [{ id, schema }]))
  expect(answers.length).toBeGreaterThan(20)
  for (const { id, schema } of [...answers, { id: 'health', schema: HEALTH }, { id: 'readiness', schema: READINESS }]) {
    expect(() => compile({ method: 'GET', url: '/', httpStatus: '200', schema }), id).not.toThrow()
  }
})

describe('problems [RFC 9457]', () => {
  // prettier-ignore
  const TABLE = [
    // method  url                        body                                                                          status code
    ['POST',   CONSENT,                   '{"purpose":',                                                                400, 'BAD-JSON'],
    ['POST',   CONSENT,                   '',                                                                           400, 'EMPTY-BODY'],
    ['POST',   CONSENT,                   'null',                                                                       400, 'INVALID'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"withdrawn","why":"CANARY"}',                         400, 'UNKNOWN-KEY'],
    ['POST',   CONSENT,                   '{"purpose":"a"}',                                                            400, 'MISSING-KEY'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"CANARY"}',                                           400, 'INVALID'],
    ['POST',   CONSENT,                   '{"purpose":7,"state":"withdrawn"}',                                          400, 'INVALID'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"invalidated"}',                                      400, 'INVALID'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"not_set"}',                                          400, 'INVALID'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"expired"}',                                          400, 'INVALID'],
    ['GET',    `${CONSENT}/receipt?CANARY=1`, undefined,                                                                400, 'UNKNOWN-KEY'],
    ['GET',    `${CONSENT}/receipt?purpose=a%20CANARY`, undefined,                                                      400, 'INVALID'],
    ['GET',    '/v1/operators/op-CANARY-none/consent/receipt', undefined,                                               404, 'UNKNOWN-OPERATOR'],
    ['GET',    '/v1/ledger/events?limit=1001', undefined,                                                               400, 'INVALID'],
    ['GET',    '/v1/ledger/events?after=-1', undefined,                                                                 400, 'INVALID'],
    ['GET',    '/v1/ledger/events?day=CANARY', undefined,                                                               400, 'INVALID'],
    ['GET',    '/v1/ledger/events?type=consent%25CANARY', undefined,                                                    400, 'INVALID'],
    ['POST',   CONSENT,                   '{"__proto__":{},"purpose":"a","state":"withdrawn"}',                         400, 'BAD-JSON'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"granted"}',                                          422, 'EVIDENCE-MISSING'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"local_only","evidence":"  "}',                       422, 'EVIDENCE-MISSING'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"granted","evidence":"e","expires":"2020-01-01T00:00:00Z"}', 422, 'EXPIRY-PAST'],
    ['POST',   CONSENT,                   '{"purpose":"a","state":"granted","evidence":"e","expires":"tomorrow"}',      400, 'INVALID'],
    ['POST',   '/v1/operators/op-CANARY-none/consent', '{"purpose":"a","state":"withdrawn"}',                           404, 'UNKNOWN-OPERATOR'],
    ['GET',    '/v1/operators/op-CANARY-none/consent', undefined,                                                       404, 'UNKNOWN-OPERATOR'],
    ['GET',    '/v1/operators/CANARY%20Miller/consent', undefined,                                                      400, 'INVALID'],
    ['POST',   '/v1/machines',            `{"id":"${CANARY_MACHINE}","fleet":"north"}`,                                 409, 'MACHINE-EXISTS'],
    ['POST',   '/v1/machines',            '{"id":"a/CANARY","fleet":"north"}',                                          400, 'INVALID'],
    ['POST',   '/v1/machines',            '{"id":"$SYS-CANARY","fleet":"north"}',                                       400, 'INVALID'],
    ['POST',   '/v1/machines',            '{"id":"a","fleet":"north","labels":{"the CANARY":"x"}}',                     400, 'INVALID'],
    ['POST',   '/v1/machines',            '{"id":"a","fleet":"north","credential":"yes"}',                              400, 'INVALID'],
    ['POST',   '/v1/machines',            JSON.stringify({ id: 'CANARY'.repeat(11_000), fleet: 'n' }),                  413, 'TOO-LARGE'],
    ['GET',    '/v1/machines?limit=0',    undefined,                                                                    400, 'INVALID'],
    ['GET',    '/v1/machines?limit=1001', undefined,                                                                    400, 'INVALID'],
    ['GET',    '/v1/status?CANARY=1',     undefined,                                                                    400, 'UNKNOWN-KEY'],
    ['GET',    '/v1/why?machine=SN-1',    undefined,                                                                    400, 'MISSING-KEY'],
    ['GET',    '/v1/why?machine=CANARY&output=planner', undefined,                                                      404, 'UNKNOWN-MACHINE'],
    ['POST',   '/v1/tokens',              '{"name":"test-admin","role":"viewer"}',                                      409, 'TOKEN-EXISTS'],
    ['POST',   '/v1/tokens',              '{"name":"x","role":"CANARY"}',                                               400, 'INVALID'],
    ['DELETE', '/v1/tokens/CANARY',       undefined,                                                                    404, 'UNKNOWN-TOKEN'],
    ['DELETE', '/v1/status',              undefined,                                                                    405, 'METHOD'],
    ['PUT',    CONSENT,                   '{}',                                                                         405, 'METHOD'],
    ['GET',    '/v1/CANARY',              undefined,                                                                    404, 'NO-ROUTE'],
    ['GET',    '/v1/operators/%zz/consent', undefined,                                                                  400, 'BAD-URL'],
  ] as const

  for (const [method, url, body, status, code] of TABLE) {
    test(`${method} ${url.slice(0, 50)} ${(body ?? '').slice(0, 60)} -> ${status} ${code}`, async () => {
      const answer = await send(method, url, body)
      expect(answer.headers['content-type']).toBe('application/problem+json')
      const problem: Record<string, unknown> = answer.json()
      expect(problem).toMatchObject({ status, code, type: `urn:parapet:problem:${code.toLowerCase()}` })
      expect(answer.statusCode).toBe(status)
      expect(problem['detail']).toMatch(/^[A-Z].*\.$/)
      expect(Object.keys(problem).every((key) => ['type', 'title', 'status', 'detail', 'code', 'mend'].includes(key))).toBe(true)
      // What was sent is not said back.
      expect(answer.body).not.toContain('CANARY')
    })
  }

  test('an unknown key is answered with the known ones', async () => {
    expect((await send('POST', CONSENT, { purpose: 'a', state: 'withdrawn', until: 'x' })).json()).toMatchObject({ mend: 'It takes: purpose, state, evidence, language, expires, source.' })
  })

  test('a rules file may be up to 1 MiB, of YAML only', async () => {
    const url = '/v1/rules/validate'
    expect((await send('POST', url, `version: 1\n#${'x'.repeat(900_000)}`, 'application/yaml')).json()).toEqual({ accepted: true, findings: [] })
    expect((await send('POST', url, 'nothing', 'text/yaml; charset=utf-8')).json()).toMatchObject({ accepted: false, findings: [{ code: 'VERSION', line: 1, col: 1 }] })
    expect((await send('POST', url, 'x'.repeat(1_048_577), 'application/yaml')).statusCode).toBe(413)
    expect((await send('POST', url, '{"version": 1}')).statusCode).toBe(415)
    expect((await send('POST', url, 'version: 1', 'text/plain')).statusCode).toBe(415)
    expect((await send('POST', CONSENT, 'purpose: a', 'application/yaml')).statusCode).toBe(415)
  })

  test('a failure inside says nothing of itself to the caller, and to the log only where it was', async () => {
    const lines: string[] = []
    const broken = await startAdmin({ log: createLog({ format: 'json', level: 'debug', env: {}, stream: { write: (line) => lines.push(line) } }) }, {
      consent: (operator) => JSON.parse(`{"${operator}`) as never,
      changeConsent: ({ operator }) => Promise.reject(new TypeError(`cannot read ${operator}`)),
    })
    for (const answer of [await send('GET', CONSENT, undefined, undefined, broken), await send('POST', CONSENT, { purpose: 'a', state: 'withdrawn' }, undefined, broken)]) {
      expect(answer.json()).toMatchObject({ status: 500, code: 'INTERNAL' })
      expect(answer.body).not.toContain('CANARY')
    }
    expect(lines.join('')).toContain('admin request failed')
    expect(lines.join('')).toContain('requests.test.ts')
    expect(lines.join('')).not.toContain('CANARY')
    expect(broken.audited.map(({ action, outcome, code }) => [action, outcome, code])).toEqual([['refused.changeConsent', 'refused', 'INTERNAL']])
    await broken.admin.close()
  })

  test('an error of ours keeps its code and mend; a damaged ledger is 503', async () => {
    const damaged = await startAdmin({}, { changeConsent: () => Promise.reject(new GatewayError('LEDGER-DAMAGED', 'The ledger does not verify.', 'Run: parapet ledger verify')) })
    const answer = await send('POST', CONSENT, { purpose: 'a', state: 'withdrawn' }, undefined, damaged)
    expect(answer.json()).toMatchObject({ status: 503, code: 'LEDGER-DAMAGED', detail: 'The ledger does not verify.', mend: 'Run: parapet ledger verify' })
    await damaged.admin.close()
  })
})

describe('changes', () => {
  test('a withdrawal goes to the gateway as it was sent, is audited and answered with a receipt', async () => {
    const own = await startAdmin()
    const headers = { authorization: `Bearer ${own.tokens.privacy}` }
    const answer = await own.admin.inject({ method: 'POST', url: CONSENT, headers, payload: { purpose: 'improve.statistics', state: 'withdrawn', source: 'portal', language: 'de' } })
    expect(answer.json()).toEqual({
      receipt: 'r-1', operator: CANARY_OPERATOR, purpose: 'improve.statistics', state: 'withdrawn', seq: 42, at: '2026-11-23T12:00:00.000Z', policy: 'awp-2026-11', purged: 2, swapped: 1, on_the_wire: 3,
    })
    expect(own.changes).toEqual([{
      operator: CANARY_OPERATOR, purpose: 'improve.statistics', state: 'withdrawn', source: 'portal', by: 'test-privacy',
      evidence: undefined, language: 'de', expiresAtMs: undefined, machine: undefined,
    }])
    expect(own.audited).toEqual([{
      atMs: Date.parse('2026-11-23T12:00:00Z'), actor: 'test-privacy', role: 'privacy', action: 'consent.withdrawn', outcome: 'done',
      operator: CANARY_OPERATOR, purpose: 'improve.statistics', detail: 'r-1',
    }])
    await own.admin.close()
  })

  test('a grant by an admin token says so, whatever source it names', async () => {
    await send('POST', CONSENT, { purpose: 'a', state: 'granted', evidence: 'form 7', source: 'portal', expires: '2126-01-01T00:00:00Z' })
    expect(it.changes.at(-1)).toMatchObject({ state: 'granted', source: 'admin', evidence: 'form 7', expiresAtMs: Date.UTC(2126, 0, 1) })
  })

  test('every look at a person and every change is audited; refusals of changes too', async () => {
    const own = await startAdmin()
    await send('GET', CONSENT, undefined, undefined, own)
    await send('GET', `${CONSENT}/receipt?purpose=improve.statistics`, undefined, undefined, own)
    await send('GET', '/v1/ledger', undefined, undefined, own)
    await send('GET', '/v1/sessions', undefined, undefined, own)
    await send('POST', `/v1/operators/${CANARY_OPERATOR}/notice`, {}, undefined, own)
    await send('POST', '/v1/machines', { id: 'SN-2', fleet: 'north' }, undefined, own)
    await send('POST', '/v1/tokens', { name: 'grafana', role: 'viewer' }, undefined, own)
    await send('DELETE', '/v1/tokens/grafana', undefined, undefined, own)
    await send('POST', '/v1/operators/nobody/consent', { purpose: 'a', state: 'withdrawn' }, undefined, own)
    expect(own.audited.map(({ action }) => action)).toEqual([
      'consent.shown', 'consent.exported', 'ledger.verified', 'sessions.shown', 'notice.given', 'machine.added', 'token.created', 'token.ended', 'refused.changeConsent',
    ])
    await own.admin.close()
  })

  test('what was asked of a person changes no answer and needs no evidence', async () => {
    expect((await send('POST', CONSENT, { purpose: 'improve.statistics', state: 'requested', language: 'fr' })).json()).toMatchObject({ state: 'requested', receipt: 'r-1' })
    expect(it.changes.at(-1)).toMatchObject({ state: 'requested', evidence: undefined, language: 'fr' })
  })

  test('a person\'s consent: who asked, when, and what was in force', async () => {
    expect((await send('GET', CONSENT)).json()).toEqual({
      operator: CANARY_OPERATOR, country: 'DE', notice: { policy: 'awp-2026-11', at: '2026-11-23T12:00:00.000Z' },
      purposes: [{ purpose: 'improve.statistics', state: 'refused', since: '2026-11-23T12:00:00.000Z', policy: 'awp-2026-11', source: 'portal', seq: 40 }],
      history: [{
        seq: 40, id: 'u-40', type: 'consent.refused', day: '2026-11-23', at: '2026-11-23T12:00:00.000Z', purpose: 'improve.statistics', before: 'requested', after: 'refused',
        asked_by: { role: 'person', source: 'portal' }, policy: 'awp-2026-11', body: { purpose: 'improve.statistics' },
      }],
      looks: [{ at: '2026-11-23T12:00:00.000Z', action: 'consent_shown', role: 'privacy' }],
    })
  })

  test('the receipt is JSON-LD, whole as the gateway made it, and its number is audited', async () => {
    const own = await startAdmin()
    const answer = await send('GET', `${CONSENT}/receipt?purpose=personalise`, undefined, undefined, own)
    expect(answer.headers['content-type']).toMatch(/^application\/ld\+json/)
    const receipt: Record<string, unknown> = answer.json()
    expect(receipt).toMatchObject({ '@context': { dpv: 'https://w3id.org/dpv#' }, 'dpv:hasRecordOfActivity': [{ '@type': 'dpv:ConsentRecord', 'parapet:purpose': 'personalise', 'dpv:hasConsentStatus': [{ '@type': ['dpv:ConsentRefused'] }] }] })
    expect(receipt['dct:identifier']).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(own.audited).toMatchObject([{ action: 'consent.exported', operator: CANARY_OPERATOR, purpose: 'personalise', detail: receipt['dct:identifier'] }])
    await own.admin.close()
  })

  test('the ledger: a verdict, and clear columns in pages that end', async () => {
    expect((await send('GET', '/v1/ledger')).json()).toMatchObject({ ok: true, events: 41, head: { seq: 41 }, signed: { seq: 41, day: '2026-11-23' }, unindexed: 0, types: { 'policy.scope': 40 }, head_key: 'MCowBQ==' })
    const first: { events: { seq: number }[]; next?: number } = (await send('GET', '/v1/ledger/events?limit=1&after=39')).json()
    expect([first.events.map(({ seq }) => seq), first.next]).toEqual([[40], 40])
    const rest: { events: Record<string, unknown>[] } = (await send('GET', '/v1/ledger/events?after=40&type=consent.refused&day=2026-11-23')).json()
    expect(rest).not.toHaveProperty('next')
    expect(rest.events.map((event) => Object.keys(event).sort())).toEqual([['day', 'gateway', 'hash', 'key_id', 'prev', 'schema', 'seq', 'subject_tag', 'type', 'uuid']])
    const broken = await startAdmin({}, { verifyLedger: () => Promise.resolve({ ok: false, events: 5, head: { seq: 5, hash: 'ab' }, signed: undefined, brokenAt: 6, reason: 'event 6 is missing', unindexed: 0, days: undefined, types: {}, headKey: 'k' }) })
    expect((await send('GET', '/v1/ledger', undefined, undefined, broken)).json()).toEqual({ ok: false, events: 5, head: { seq: 5, hash: 'ab' }, broken_at: 6, reason: 'event 6 is missing', unindexed: 0, types: {}, head_key: 'k' })
    await broken.admin.close()
  })

  test('a new machine gets a password that is nowhere but in the answer', async () => {
    const answer: { machine: { password: boolean }; password: string } = (await send('POST', '/v1/machines', { id: 'SN-3', fleet: 'north' })).json()
    expect(answer.password).toMatch(/^[\w-]{32}$/)
    expect(answer.machine.password).toBe(true)
    expect((await send('POST', '/v1/machines', { id: 'SN-4', fleet: 'north', credential: false })).json()).not.toHaveProperty('password')
    const listed = (await send('GET', '/v1/machines')).body
    expect(listed).toContain(CANARY_MACHINE)
    expect(listed).not.toMatch(/scrypt|CANARYhash/)
  })

  test('pages of machines end', async () => {
    const page: { next?: string } = (await send('GET', '/v1/machines?limit=1')).json()
    expect(page.next).toBe(CANARY_MACHINE)
    expect((await send('GET', '/v1/machines')).json()).not.toHaveProperty('next')
  })
})

describe('the document', () => {
  interface Operation {
    readonly operationId: string
    readonly summary: string
    readonly security?: readonly Record<string, readonly string[]>[]
    readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema: Record<string, unknown> }[]
    readonly requestBody?: { readonly content: Record<string, { readonly schema: Record<string, unknown> }> }
    readonly responses: Record<string, { readonly description: string; readonly content?: Record<string, { readonly schema: unknown }> }>
  }
  interface Document {
    readonly openapi: string
    readonly info: { readonly title: string; readonly version: string }
    readonly paths: Record<string, Record<string, Operation>>
    readonly components: { readonly schemas: Record<string, unknown>; readonly securitySchemes: Record<string, unknown> }
  }
  async function document(): Promise<Document> {
    return (await it.admin.inject({ url: '/openapi.json' })).json()
  }

  test('is OpenAPI 3.1 in its structure', async () => {
    const { openapi, info, paths, components } = await document()
    expect(openapi).toBe('3.1.0')
    expect(info).toMatchObject({ title: 'Parapet admin API', version: '0.0.0-test' })
    expect(Object.keys(components.schemas)).toEqual(['Problem'])
    const ids = new Set<string>()
    for (const [path, item] of Object.entries(paths)) {
      expect(path).toMatch(/^\/(v1\/|healthz$|readyz$|metrics$|openapi\.json$)/)
      for (const [method, operation] of Object.entries(item)) {
        expect(['get', 'post', 'put', 'delete']).toContain(method)
        expect(ids.has(operation.operationId)).toBe(false)
        ids.add(operation.operationId)
        expect(operation.summary.length).toBeGreaterThan(5)
        // Each placeholder of the path is a required path parameter, and the other way round.
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
        const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
        expect(declared.map(({ name }) => name)).toEqual(inPath)
        expect(declared.every(({ required }) => required === true)).toBe(true)
        for (const { in: where, schema } of operation.parameters ?? []) expect([where, typeof schema]).toEqual([where === 'path' ? 'path' : 'query', 'object'])
        for (const [status, { description, content }] of Object.entries(operation.responses)) {
          expect(status).toMatch(/^[2-5]\d\d$/)
          expect(description).not.toBe('Default Response')
          const types = Object.keys(content ?? {})
          if (status === '204') expect(types).toEqual([])
          else if (Number(status) >= 400 && path.startsWith('/v1/')) expect(types).toEqual(['application/problem+json'])
          else expect(types).toHaveLength(1)
        }
        if (path.startsWith('/v1/')) expect(operation.security?.[0]).toHaveProperty('token')
        else if (path !== '/metrics') expect(operation.security).toBeUndefined()
      }
    }
    for (const [, name = ''] of JSON.stringify(paths).matchAll(/"\$ref":"([^"]*)"/g)) expect(name).toBe('#/components/schemas/Problem')
    expect(JSON.stringify({ paths, components })).not.toMatch(/"\$id"|Default Response|"nullable"/)
  })

  test('every schema in it is JSON Schema 2020-12, which is what OpenAPI 3.1 asks for', async () => {
    const { paths, components } = await document()
    const ajv = new Ajv2020({ strict: true, validateFormats: false })
    ajv.addKeyword({ keyword: 'example' })
    const schemas: { where: string; schema: unknown }[] = Object.entries(components.schemas).map(([where, schema]) => ({ where, schema }))
    for (const [path, item] of Object.entries(paths)) {
      for (const [method, { parameters = [], requestBody, responses }] of Object.entries(item)) {
        const where = `${method} ${path}`
        for (const { name, schema } of parameters) schemas.push({ where: `${where} ${name}`, schema })
        for (const { content = {} } of [requestBody ?? {}, ...Object.values(responses)]) for (const { schema } of Object.values(content)) schemas.push({ where, schema })
      }
    }
    expect(schemas.length).toBeGreaterThan(200)
    for (const { where, schema } of schemas) expect([where, ajv.validateSchema(schema as object) === true ? [] : ajv.errorsText(ajv.errors)]).toEqual([where, []])
  })

  // The meta-schema is no part of this project: schemas/v3.1/schema.yaml or .json of the OpenAPI Initiative's specification.
  const metaSchema = process.env['OPENAPI_SCHEMA']
  test.runIf(metaSchema !== undefined)('is OpenAPI 3.1 by the meta-schema at OPENAPI_SCHEMA', async () => {
    // Ajv does not resolve a dynamic anchor in a definition; that every schema is one is tested above.
    const text = readFileSync(metaSchema ?? '', 'utf8').replaceAll(/(["']?)\$dynamicRef\1: *(["'])#meta\2/g, '$1$ref$1: $2#/$defs/schema$2').replaceAll(/"?\$dynamicAnchor"?: *"?meta"?,?/g, '')
    const validate = new Ajv2020({ strict: false, validateFormats: false }).compile(parseYaml(text) as object)
    const found = await document()
    expect([validate(found), validate.errors]).toEqual([true, null])
    expect(validate({ ...found, paths: { '/v1/x': { get: { responses: { 99: {} } } } } })).toBe(false)
  })

  test('random requests made from it, with every role and none: no 5xx, no success the document does not allow', async () => {
    const { paths } = await document()
    const operations = Object.entries(paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => ({ path, method, operation })))
    const own = await startAdmin({}, { health: () => ({ live: true, ready: true, reasons: [] }) })
    // Otherwise the generated DELETEs and POSTs would change who may what while the test runs.
    const stable = operations.filter(({ path }) => !path.startsWith('/v1/tokens'))
    const roles = fc.constantFrom('viewer', 'engineer', 'privacy', 'admin', undefined)
    const value = fc.oneof(fc.string({ unit: 'binary', maxLength: 40 }), fc.constantFrom(CANARY_OPERATOR, CANARY_MACHINE, 'planner', 'withdrawn', 'granted', 'north', '1'))
    await fc.assert(fc.asyncProperty(fc.constantFrom(...stable), roles, fc.array(value, { minLength: 12, maxLength: 12 }), fc.jsonValue(), fc.boolean(), async ({ path, method, operation }, role, values, junk, wellFormed) => {
      let next = 0
      const draw = (): string => values[next++ % values.length] ?? ''
      const url = path.replaceAll(/\{\w+\}/g, () => encodeURIComponent(draw()))
      const query = (operation.parameters ?? []).filter((parameter) => parameter.in === 'query').map(({ name }) => `${name}=${encodeURIComponent(draw())}`)
      const [type, media] = Object.entries(operation.requestBody?.content ?? {})[0] ?? []
      const properties = Object.keys((media?.schema['properties'] ?? {}) as object)
      const body = type === undefined ? undefined : type.includes('yaml') ? draw() : JSON.stringify(wellFormed ? Object.fromEntries(properties.map((key) => [key, draw()])) : junk)
      const answer = await own.admin.inject({
        method: method.toUpperCase() as 'GET' | 'POST', url: `${url}${query.length === 0 ? '' : `?${query.join('&')}`}`,
        headers: { ...(role === undefined ? {} : { authorization: `Bearer ${own.tokens[role]}` }), ...(type === undefined ? {} : { 'content-type': type }) },
        ...(body === undefined ? {} : { payload: body }),
      })
      expect(answer.statusCode).toBeLessThan(500)
      const allowed = operation.security === undefined || operation.security.some((entry) => entry['token'] === undefined || (role !== undefined && entry['token'].includes(role)))
      if (!allowed) expect([400, 401, 403, 404]).toContain(answer.statusCode)
    }), { numRuns: 400 })
    await own.admin.close()
  })
})

describe('the listener', () => {
  test('stays on loopback unless it has TLS', async () => {
    for (const host of ['0.0.0.0', '::', '192.0.2.1', 'depot.example']) await expect(startAdmin({ host })).rejects.toMatchObject({ code: 'ADMIN-OPEN' })
  })

  test('serves over a real socket, and answers what is not HTTP with a problem', async () => {
    const { host, port } = await it.admin.listen()
    const status = await new Promise<number | undefined>((resolve, reject) => {
      httpRequest({ host, port, path: '/healthz', agent: false }, (response) => {
        response.resume()
        response.on('end', () => resolve(response.statusCode))
      }).on('error', reject).end()
    })
    expect(status).toBe(200)
    const garbage = await new Promise<string>((resolve, reject) => {
      const socket = connect(port, host, () => socket.write('CANARY not http at all\r\n\r\n'))
      let text = ''
      socket.on('data', (bytes) => (text += bytes.toString())).on('close', () => resolve(text)).on('error', reject)
    })
    expect(garbage).toMatch(/^HTTP\/1\.1 400 [^]*"code":"BAD-HTTP"/)
    expect(garbage).not.toContain('CANARY')
  })
})

test('no id, token or body ends in the log, at debug level, over every route', async () => {
  const lines: string[] = []
  const log = createLog({ format: 'json', level: 'debug', gateway: 'depot-7', env: {}, stream: { write: (line) => lines.push(line) } })
  const metrics = createMetrics()
  const own = await startAdmin({ log, metrics })
  await send('GET', CONSENT, undefined, undefined, own)
  await send('POST', CONSENT, { purpose: 'CANARY-purpose', state: 'granted', evidence: 'CANARY evidence' }, undefined, own)
  await send('POST', CONSENT, '{"CANARY', undefined, own)
  await send('GET', `/v1/why?machine=${CANARY_MACHINE}&output=planner`, undefined, undefined, own)
  await send('GET', '/v1/operators/op-CANARY-unknown/consent', undefined, undefined, own)
  await send('GET', '/CANARY', undefined, undefined, own)
  for (const authorization of ['Bearer CANARY-token', 'Basic CANARY']) await own.admin.inject({ url: CONSENT, headers: { authorization, 'user-agent': 'CANARY' }, remoteAddress: '192.0.2.77' })
  const text = lines.join('')
  expect(lines.length).toBeGreaterThanOrEqual(10)
  expect(text).toContain('/v1/operators/:operator/consent')
  expect(text).not.toContain('CANARY')
  expect(text).not.toContain('192.0.2.77')
  for (const token of Object.values(own.tokens)) expect(text).not.toContain(token)
  expect(await metrics.text()).not.toContain('CANARY')
  await own.admin.close()
})
