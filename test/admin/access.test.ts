/** Who may what: every operation with every role, with none, and with a wrong token. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { adminRoutes } from '../../src/admin/routes.ts'
import type { Control } from '../../src/admin/control.ts'
import { ROLES } from '../../src/admin/tokens.ts'
import type { Role, Tokens } from '../../src/admin/tokens.ts'
import { createMetrics } from '../../src/metrics.ts'
import { CANARY_MACHINE, CANARY_OPERATOR, startAdmin } from './gateway.ts'
import type { TestAdmin } from './gateway.ts'

const yaml = { 'content-type': 'application/yaml' }
const CONSENT = `/v1/operators/${CANARY_OPERATOR}/consent`
const DENY = { purpose: 'improve.statistics', state: 'withdrawn' }
const GRANT = { purpose: 'improve.statistics', state: 'granted', evidence: 'signed form 2026-114' }

interface Row {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly url: string
  readonly body?: unknown
  readonly headers?: Record<string, string>
  readonly ok: number
  /** viewer, engineer, privacy, admin; yes or no. */
  readonly may: readonly [string, string, string, string]
}

// prettier-ignore
const TABLE: readonly Row[] = [
  //                                                                                                    viewer engineer privacy admin
  { method: 'GET',    url: '/v1/status',                                                     ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/rules',                                                      ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/rules/validate', body: 'version: 1\n', headers: yaml,        ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/rules/active',                                               ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'PUT',    url: '/v1/rules', body: 'version: 1\n', headers: yaml,                 ok: 200, may: ['no',  'yes', 'no',  'no'] },
  { method: 'POST',   url: '/v1/rules/activate', body: {},                                   ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/rules/activate', body: { hash: 'ab'.repeat(32), approve_widening: 'assessment 7' }, ok: 200, may: ['no', 'no', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/rules/rollback', body: {},                                   ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/rules/discard', body: {},                                    ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/rules/shadow?sample=50&minutes=5', body: 'version: 1\n', headers: yaml, ok: 201, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/rules/shadow',                                               ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'DELETE', url: '/v1/rules/shadow',                                               ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/keys',                                                       ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/outputs',                                                    ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'GET',    url: CONSENT,                                                          ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: CONSENT, body: DENY,                                              ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: CONSENT, body: GRANT,                                             ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: CONSENT, body: { purpose: 'improve.statistics', state: 'requested' }, ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: CONSENT, body: { ...GRANT, state: 'local_only' },                 ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: `${CONSENT}/receipt`,                                             ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: '/v1/ledger',                                                     ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: '/v1/ledger/events?type=consent.',                                ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: `/v1/operators/${CANARY_OPERATOR}/notice`, body: {},              ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: '/v1/sessions',                                                   ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: '/v1/machines',                                                   ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/machines', body: { id: 'SN-2', fleet: 'north' },             ok: 201, may: ['no',  'yes', 'no',  'yes'] },
  { method: 'GET',    url: `/v1/why?machine=${CANARY_MACHINE}&output=planner`,               ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/learning',                                                   ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/learning', body: {},                                         ok: 201, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'DELETE', url: '/v1/learning',                                                   ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/recordings',                                                 ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: '/v1/recordings', body: { to: 'A'.repeat(43), reason: 'preview of rules 8' }, ok: 201, may: ['no', 'no', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/recordings/r-0123456789abcdef/stop', body: {},               ok: 200, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'DELETE', url: '/v1/recordings/r-0123456789abcdef',                              ok: 204, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: '/v1/dead-letters?limit=5',                                       ok: 200, may: ['yes', 'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/dead-letters/retry', body: {},                               ok: 200, may: ['no',  'yes', 'no',  'yes'] },
  { method: 'POST',   url: '/v1/dead-letters/drop', body: { numbers: [7] },                  ok: 200, may: ['no',  'yes', 'no',  'yes'] },
  { method: 'POST',   url: '/v1/trace', body: { machine: CANARY_MACHINE },                   ok: 201, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'POST',   url: '/v1/trace', body: { machine: CANARY_MACHINE, values: true },     ok: 201, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'POST',   url: '/v1/trace', body: { operator: CANARY_OPERATOR },                 ok: 201, may: ['no',  'no',  'yes', 'yes'] },
  { method: 'GET',    url: '/v1/trace?after=0',                                              ok: 200, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'DELETE', url: '/v1/trace',                                                      ok: 204, may: ['no',  'yes', 'yes', 'yes'] },
  { method: 'GET',    url: '/v1/tokens',                                                     ok: 200, may: ['no',  'no',  'no',  'yes'] },
  { method: 'POST',   url: '/v1/tokens', body: { name: 'grafana', role: 'viewer' },          ok: 201, may: ['no',  'no',  'no',  'yes'] },
  { method: 'DELETE', url: '/v1/tokens/grafana',                                             ok: 204, may: ['no',  'no',  'no',  'yes'] },
]
const ORDER: readonly Role[] = ['viewer', 'engineer', 'privacy', 'admin']

describe('who may what', () => {
  let it: TestAdmin
  beforeAll(async () => {
    it = await startAdmin()
  })
  afterAll(() => it.admin.close())

  async function call(row: Row, authorization: string | undefined): Promise<{ status: number; body: string }> {
    const answer = await it.admin.inject({
      method: row.method, url: row.url, headers: { ...row.headers, ...(authorization === undefined ? {} : { authorization }) },
      ...(row.body === undefined ? {} : { payload: row.body as string | object }),
    })
    return { status: answer.statusCode, body: answer.body }
  }

  for (const row of TABLE) {
    test(`${row.method} ${row.url.replace(CANARY_OPERATOR, '{operator}').replace(CANARY_MACHINE, '{machine}')} ${JSON.stringify(row.body ?? '')}`, async () => {
      for (const [index, role] of ORDER.entries()) {
        const { status, body } = await call(row, `Bearer ${it.tokens[role]}`)
        expect(`${role}: ${status}`).toBe(`${role}: ${row.may[index] === 'yes' ? row.ok : 403}`)
        if (row.may[index] === 'no') expect(JSON.parse(body)).toMatchObject({ code: 'SCOPE-MISSING', status: 403 })
      }
      expect(await call(row, undefined)).toMatchObject({ status: 401 })
      it.clock.ms += 10_000_000
      expect(await call(row, `Bearer parapet_${'A'.repeat(43)}`)).toMatchObject({ status: 401 })
      expect(await call(row, 'Basic YWRtaW46YWRtaW4=')).toMatchObject({ status: 401 })
    })
  }

  test('the table has every route there is', () => {
    const routes = adminRoutes({} as Control, {} as Tokens).map(({ method, path }) => `${method} ${path}`)
    const pattern = (row: Row): string => `${row.method} ${(row.url.split('?')[0] ?? '').replace(CANARY_OPERATOR, '{operator}').replace('/grafana', '/{name}').replace('r-0123456789abcdef', '{id}')}`
    expect(new Set(TABLE.map(pattern))).toEqual(new Set(routes))
  })

  test('no role both tunes rules and reads who refused', () => {
    for (const scopes of Object.values(ROLES)) {
      expect((scopes as readonly string[]).filter((scope) => scope === 'rules:write' || scope === 'consent:read').length).toBeLessThan(2)
    }
  })

  test('who puts rules in place does not approve what they widen', () => {
    for (const scopes of Object.values(ROLES)) {
      expect((scopes as readonly string[]).filter((scope) => scope === 'rules:write' || scope === 'rules:approve').length).toBeLessThan(2)
    }
  })

  test('what an engineer is told of a machine is the same whether the person refused or was never asked', async () => {
    const url = `/v1/why?machine=${CANARY_MACHINE}&output=planner`
    const engineer: unknown = (await it.admin.inject({ url, headers: { authorization: `Bearer ${it.tokens.engineer}` } })).json()
    const privacy: unknown = (await it.admin.inject({ url, headers: { authorization: `Bearer ${it.tokens.privacy}` } })).json()
    expect(engineer).not.toHaveProperty('person')
    expect(engineer).toMatchObject({ messages: [{ result: 'forwarded' }, { result: 'closed' }] })
    expect(privacy).toMatchObject({ person: { no: true }, messages: [{ result: 'forwarded' }, { result: 'forbidden' }] })
  })

  test('what could tell what a person said is left out of a shadow run for those who may not read consent, however many machines had it', async () => {
    const rowsFor = async (role: Role): Promise<unknown> => (await it.admin.inject({ url: '/v1/rules/shadow', headers: { authorization: `Bearer ${it.tokens[role]}` } })).json()
    expect(await rowsFor('engineer')).toMatchObject({ left_out: true, rows: [{ output: 'service', what: 'only_candidate' }] })
    expect(await rowsFor('privacy')).toMatchObject({ left_out: false, rows: [{ output: 'service' }, { output: 'planner', what: 'only_active' }, { output: 'planner', what: 'same' }] })
  })

  test('health, readiness, metrics and the document need no token on loopback; metrics do from elsewhere', async () => {
    for (const [url, status] of [['/healthz', 200], ['/readyz', 503], ['/metrics', 200], ['/openapi.json', 200]] as const) {
      expect(`${url} ${(await it.admin.inject({ url })).statusCode}`).toBe(`${url} ${status}`)
    }
    expect((await it.admin.inject({ url: '/metrics', remoteAddress: '192.0.2.7' })).statusCode).toBe(401)
    expect((await it.admin.inject({ url: '/metrics', remoteAddress: '192.0.2.7', headers: { authorization: `Bearer ${it.tokens.viewer}` } })).statusCode).toBe(200)
  })
})

describe('how often', () => {
  test('a token has a thousand requests at once and two hundred a second; other tokens go on', async () => {
    const { admin, tokens, clock } = await startAdmin()
    const ask = (token: string): Promise<number> => admin.inject({ url: '/v1/keys', headers: { authorization: `Bearer ${token}` } }).then(({ statusCode }) => statusCode)
    const many = async (count: number): Promise<number> => (await Promise.all(Array.from({ length: count }, () => ask(tokens.viewer)))).filter((status) => status === 200).length
    expect(await many(1_050)).toBe(1_000)
    const refused = await admin.inject({ url: '/v1/keys', headers: { authorization: `Bearer ${tokens.viewer}` } })
    expect(refused.json()).toMatchObject({ status: 429, code: 'TOO-MANY' })
    expect(refused.headers['retry-after']).toBe('1')
    expect(await ask(tokens.engineer)).toBe(200)
    clock.ms += 500
    expect(await many(120)).toBe(100)
    await admin.close()
  })

  test('an address has two thousand, with whatever token or none; other addresses go on, and probes are answered in any case', async () => {
    const metrics = createMetrics()
    const { admin, tokens } = await startAdmin({ metrics })
    const ask = (url: string, remoteAddress: string): Promise<number> => admin.inject({ url, remoteAddress, headers: { authorization: `Bearer ${tokens.viewer}` } }).then(({ statusCode }) => statusCode)
    const got = await Promise.all(Array.from({ length: 2_020 }, () => admin.inject({ url: '/v1/nothing', remoteAddress: '192.0.2.9' })))
    expect(got.filter(({ statusCode }) => statusCode === 404)).toHaveLength(2_000)
    expect(await ask('/v1/keys', '192.0.2.9')).toBe(429)
    expect(await ask('/v1/keys', '192.0.2.10')).toBe(200)
    expect(await ask('/healthz', '192.0.2.9')).toBe(200)
    expect(metrics.counter('admin_limited_total').value).toBe(21)
    await admin.close()
  })
})

describe('lock-out', () => {
  const wrong = { authorization: `Bearer parapet_${'B'.repeat(43)}` }

  test('five wrong tokens lock an address out, longer each time; other addresses and callers already in go on', async () => {
    const { admin, tokens, clock, audited } = await startAdmin()
    const from = (remoteAddress: string, authorization: string): Promise<number> => admin.inject({ url: '/v1/status', remoteAddress, headers: { authorization } }).then(({ statusCode }) => statusCode)
    const guess = (remoteAddress: string): Promise<number> => from(remoteAddress, wrong.authorization)

    expect(await from('192.0.2.1', `Bearer ${tokens.viewer}`)).toBe(200)
    for (let count = 0; count < 5; count += 1) expect(await guess('192.0.2.1')).toBe(401)
    expect(await guess('192.0.2.1')).toBe(429)
    // A right guess from a locked address is not let in; who was in before is.
    expect(await from('192.0.2.1', `Bearer ${tokens.admin}`)).toBe(429)
    expect(await from('192.0.2.1', `Bearer ${tokens.viewer}`)).toBe(200)
    expect(await from('192.0.2.2', `Bearer ${tokens.admin}`)).toBe(200)
    expect(audited.filter(({ action }) => action === 'access.locked_out')).toHaveLength(1)
    expect(JSON.stringify(audited)).not.toContain('192.0.2.1')

    clock.ms += 60_001
    for (let count = 0; count < 5; count += 1) expect(await guess('192.0.2.1')).toBe(401)
    clock.ms += 60_001
    expect(await guess('192.0.2.1')).toBe(429)
    clock.ms += 60_001
    expect(await guess('192.0.2.1')).toBe(401)
    await admin.close()
  })

  test('the neighbours of an IPv6 host are that host; asking without a token is no guess', async () => {
    const { admin, tokens } = await startAdmin()
    for (let count = 0; count < 20; count += 1) expect((await admin.inject({ url: '/v1/status', remoteAddress: '2001:db8::1' })).statusCode).toBe(401)
    for (let count = 0; count < 5; count += 1) await admin.inject({ url: '/v1/status', remoteAddress: `2001:db8::${count + 1}`, headers: wrong })
    const { statusCode, headers } = await admin.inject({ url: '/v1/status', remoteAddress: '2001:db8:0:0:ffff::9', headers: { authorization: `Bearer ${tokens.admin}` } })
    expect([statusCode, headers['retry-after']]).toEqual([429, '60'])
    expect((await admin.inject({ url: '/v1/status', remoteAddress: '2001:db8:0:1::9', headers: { authorization: `Bearer ${tokens.admin}` } })).statusCode).toBe(200)
    await admin.close()
  })
})
