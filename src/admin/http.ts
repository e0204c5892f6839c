/**
 * The admin server: fastify around the route table. Who calls is settled before a body is read; every error is
 * problem+json [RFC 9457]; the document at /openapi.json is made from the same schemas that check requests and shape answers.
 */
import { isIP } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import stringifyCompiler from '@fastify/fast-json-stringify-compiler'
import type { Serializer, SerializerFactory } from '@fastify/fast-json-stringify-compiler'
import fastifySwagger from '@fastify/swagger'
import fastify from 'fastify'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, LightMyRequestResponse, InjectOptions } from 'fastify'
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock } from '../domain/ports.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { AuditEvent, Control } from './control.ts'
import { adminRoutes, HEALTH, READINESS, readinessAnswer, STATUS_OF_CODE } from './routes.ts'
import type { Route, Schema } from './routes.ts'
import { may, rolesWith } from './tokens.ts'
import type { Actor, Scope, Tokens } from './tokens.ts'

export interface AdminOptions {
  readonly control: Control
  readonly tokens: Tokens
  readonly metrics: Metrics
  readonly log: Log
  readonly clock: Clock
  readonly version: string
  /** Default 127.0.0.1. Anything that is not loopback needs `tls`. */
  readonly host?: string | undefined
  /** Default 8080; 0 = any free one. */
  readonly port?: number | undefined
  /** PEM texts; with `ca` the caller needs a client certificate too. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string | undefined; readonly crl?: string | undefined } | undefined
  /** Called for every change made through the API, and for every look at a person's data. */
  audit(event: AuditEvent): void
}

export interface Admin {
  /** Starts to listen. Error: ADMIN-OPEN for a host that is not loopback without TLS. */
  listen(): Promise<{ readonly host: string; readonly port: number }>
  /** New certificates for new connections. Error: what the TLS of Node throws; nothing has changed then. */
  renew(tls: NonNullable<AdminOptions['tls']>): void
  close(): Promise<void>
  /** One request without a socket, for tests. */
  inject(request: InjectOptions): Promise<LightMyRequestResponse>
}

export async function createAdmin(options: AdminOptions): Promise<Admin> {
  const { control, tokens, metrics, log, clock, tls } = options
  const host = options.host ?? '127.0.0.1'
  if (!isLoopback(host) && tls === undefined) {
    throw new GatewayError('ADMIN-OPEN', 'The admin listener is not on loopback and has no TLS.', 'Use 127.0.0.1 and a tunnel, or set listen.admin.tls.')
  }

  const lockout = createLockout(clock)
  const [perAddress, perToken] = [createAllowance(clock, LIMITS.adminAddressPerSecond, LIMITS.adminAddressBurst), createAllowance(clock, LIMITS.adminTokenPerSecond, LIMITS.adminTokenBurst)]
  const app = createServer(tls)
  const routes = adminRoutes(control, tokens)

  app.setErrorHandler((error: FastifyError, request, reply) => sendProblem(reply, problemOf(error, request, log)))
  app.setNotFoundHandler((request, reply) => sendProblem(reply, missing(request, routes)))
  app.addHook('onRequest', (request, _reply, next) => {
    // A probe is answered in any case: nobody restarts a gateway because somebody else asks too often.
    if (!PROBES.has(request.routeOptions.url ?? '') && !perAddress.take(neighbourhood(request.ip))) tooMany('address')
    next()
  })
  app.addHook('onSend', (_request, reply, _payload, done) => {
    // [OWASP API8] Nothing here is for caches, frames or type guessing.
    reply.headers({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'content-security-policy': 'default-src \'none\'; frame-ancestors \'none\'' })
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    const status = reply.statusCode
    metrics.count('admin_requests_total', 1, status < 400 ? 'ok' : status < 500 ? 'client_error' : 'server_error')
    // The pattern of the route, not its URL: that may hold the id of a person.
    const fields = { route: request.routeOptions.url ?? 'none', method: request.method, status, ms: Math.round(reply.elapsedTime), actor: actors.get(request)?.name }
    log.debug('admin request', fields)
    done()
  })

  function tooMany(whose: 'address' | 'token'): never {
    metrics.count('admin_limited_total')
    throw new Problem(429, 'TOO-MANY', `Too many requests of this ${whose}.`, 'Ask less often; it takes some again after a second.', { 'retry-after': '1' })
  }

  /** Who calls, as soon as it is settled. */
  const actors = new WeakMap<FastifyRequest, Actor>()

  function admit(request: FastifyRequest, scope: Scope): void {
    const { authorization } = request.headers
    const address = request.ip
    const presented = authorization === undefined ? undefined : (/^Bearer ([\w.~+/=-]{1,256})$/i.exec(authorization)?.[1] ?? '')
    const actor = presented === undefined ? undefined : tokens.find(presented)

    const seconds = lockout.remaining(address, actor)
    if (seconds > 0) {
      metrics.count('admin_denied_total')
      throw new Problem(429, 'LOCKED-OUT', 'Too many wrong tokens came from this address.', `Try again in ${seconds} s.`, { 'retry-after': String(seconds) })
    }
    if (presented === undefined) {
      const mend = 'Send "Authorization: Bearer TOKEN"; the first one is in data/admin.token.'
      throw new Problem(401, 'TOKEN-MISSING', 'This needs a token.', mend, { 'www-authenticate': 'Bearer' })
    }
    if (actor === undefined) {
      metrics.count('admin_denied_total')
      log.warn('admin token refused', { address })
      if (lockout.failed(address)) {
        log.warn('address locked out of the admin API', { address })
        options.audit({ atMs: clock.now(), action: 'access.locked_out', outcome: 'done', actor: undefined, role: undefined })
      }
      const mend = 'Make a new one with an admin token, or look into data/admin.token.'
      throw new Problem(401, 'TOKEN-WRONG', 'This token is not known.', mend, { 'www-authenticate': 'Bearer error="invalid_token"' })
    }
    if (!perToken.take(actor.name)) tooMany('token')
    lockout.passed(address, actor)
    actors.set(request, actor)
    if (!may(actor.role, scope)) {
      log.warn('admin scope refused', { actor: actor.name, role: actor.role, route: request.routeOptions.url })
      throw new Problem(403, 'SCOPE-MISSING', `The role ${actor.role} does not have the scope ${scope}.`, `Roles that have it: ${rolesWith(scope).join(', ')}.`)
    }
  }

  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Parapet admin API', version: options.version,
        description: 'Errors are problem+json. A token has one role; each operation names the roles that may call it under `security`.',
      },
      servers: [{ url: '/' }],
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'From data/admin.token, or made by POST /v1/tokens' } } },
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => (typeof json['$id'] === 'string' ? json['$id'] : `def-${index}`) },
  })
  app.addSchema(PROBLEM)

  // The document collects routes as they are added, so they come in a plugin after it.
  await app.register((server, _options, done) => {
    addOpenRoutes(server, options, (request) => admit(request, 'status:read'))
    for (const route of routes) {
      server.route({
        method: route.method,
        url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
        schema: schemaOf(route),
        bodyLimit: route.yaml === true ? LIMITS.adminRulesBytes : LIMITS.adminBodyBytes,
        onRequest: (request, _reply, next) => {
          admit(request, route.scope)
          // A body of another kind than the route's is refused before it is read.
          const yaml = YAML.test(request.headers['content-type'] ?? '')
          if ((route.method === 'POST' || route.method === 'PUT') && yaml !== (route.yaml === true)) throw wrongType(route)
          next()
        },
        handler: async (request, reply) => {
          const actor = actors.get(request)
          if (actor === undefined) throw new Error('a handler ran before its caller was settled')
          const event = { atMs: clock.now(), actor: actor.name, role: actor.role }
          try {
            const answer = await route.handle({
              params: request.params, query: request.query, body: request.body, actor,
              audit: (action, about = {}) => options.audit({ ...event, action, outcome: 'done', ...about }),
            })
            if (route.answer.type !== undefined) reply.type(route.answer.type)
            return await reply.code(route.answer.status).send(answer)
          } catch (error) {
            const code = error instanceof GatewayError ? error.code : 'INTERNAL'
            if (route.method !== 'GET') options.audit({ ...event, action: `refused.${route.id}`, outcome: 'refused', code })
            throw error instanceof GatewayError ? error : internal(error, log)
          }
        },
      })
    }
    done()
  })
  await app.ready()

  return {
    async listen() {
      const port = options.port ?? 8080
      await app.listen({ host, port }).catch((error: NodeJS.ErrnoException) => {
        throw new GatewayError('ADMIN-LISTEN', `The admin API cannot listen on ${host}:${port} (${error.code ?? 'error'}).`, 'Another program has the port, or this user may not take it: set listen.admin.port, also by --set listen.admin.port=8081.')
      })
      app.server.maxConnections = LIMITS.adminConnections
      const bound = app.server.address()
      if (bound === null || typeof bound === 'string') throw new GatewayError('ADMIN-ADDRESS', 'The admin listener has no address.')
      log.info('admin API listens', { host: bound.address, port: bound.port, tls: tls !== undefined })
      return { host: bound.address, port: bound.port }
    },
    renew(material) {
      const server: object = app.server
      if (server instanceof TlsServer) server.setSecureContext({ ...contextOf(material), minVersion: 'TLSv1.3' })
    },
    close: () => app.close(),
    inject: (request) => app.inject(request),
  }
}

/** Health for probes, numbers for a scraper on this machine, and the document: nothing in them is about a person. */
function addOpenRoutes(server: FastifyInstance, { control, metrics }: AdminOptions, admit: (request: FastifyRequest) => void): void {
  const open = { querystring: NO_QUERY, tags: ['operation'] }
  server.get('/healthz', {
    schema: {
      ...open, operationId: 'getHealth', summary: '200 while the process does its work, else 503',
      response: { 200: described('Alive', HEALTH), 503: described('A restart would help', HEALTH) },
    },
  }, (_request, reply) => {
    const { live } = control.health()
    return reply.code(live ? 200 : 503).send({ live })
  })
  server.get('/readyz', {
    schema: {
      ...open, operationId: 'getReadiness', summary: '200 when ready, else 503, with reasons and what to do',
      response: { 200: described('Ready', READINESS), 503: described('Not ready', READINESS) },
    },
  }, (_request, reply) => {
    const health = control.health()
    return reply.code(health.ready ? 200 : 503).send(readinessAnswer(health))
  })
  server.get('/metrics', {
    schema: {
      ...open, operationId: 'getMetrics', summary: 'Prometheus text; without a token from loopback only',
      security: [{}, { token: rolesWith('status:read') }],
      response: { 200: { description: 'Metrics', content: { 'text/plain': { schema: { type: 'string' } } } }, ...problems([401, 403, 429]) },
    },
    onRequest: (request, _reply, next) => {
      if (!isLoopback(request.ip) || request.headers.authorization !== undefined) admit(request)
      next()
    },
  }, async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()))
  server.get('/openapi.json', {
    schema: { ...open, operationId: 'getDocument', summary: 'This document', response: { 200: described('OpenAPI 3.1', { type: 'object', additionalProperties: true }), ...problems([429]) } },
  }, (_request, reply) => reply.send(server.swagger()))
}

// -------------------------------------------------------------------------------------------------------------------- server

const YAML = /^(?:application\/(?:x-)?yaml|text\/(?:x-)?yaml)\s*(?:;|$)/i

function createServer(tls: AdminOptions['tls']): FastifyInstance {
  const common = {
    logger: false,
    exposeHeadRoutes: false,
    bodyLimit: LIMITS.adminBodyBytes,
    routerOptions: { maxParamLength: 512, caseSensitive: true },
    forceCloseConnections: true,
    connectionTimeout: 30_000,
    requestTimeout: 10_000,
    keepAliveTimeout: 5_000,
    // Strict: what is wrong is said, never cut away or bent into shape.
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, useDefaults: true, allErrors: false } },
    schemaController: { compilersFactory: { buildSerializer: later(stringifyCompiler()) } },
    frameworkErrors: (_error: FastifyError, _request: FastifyRequest, reply: FastifyReply) => {
      sendProblem(reply, new Problem(400, 'BAD-URL', 'The address is not a valid URL.'))
    },
    clientErrorHandler(error: Error & { code?: string }, socket: NodeJS.WritableStream & { readonly destroyed?: boolean; destroy?(): void }) {
      if (error.code === 'ECONNRESET' || socket.destroyed === true) return
      const body = JSON.stringify(problemBody(new Problem(400, 'BAD-HTTP', 'This is not an HTTP request that can be read.')))
      socket.end(`HTTP/1.1 400 Bad Request\r\ncontent-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`)
    },
  }
  const secure = tls === undefined ? undefined : {
    ...contextOf(tls), minVersion: 'TLSv1.3' as const, handshakeTimeout: 5_000,
    ...(tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
  }
  const app = secure === undefined ? fastify(common) : (fastify({ ...common, https: secure }) as unknown as FastifyInstance)
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser(YAML, { parseAs: 'string' }, (_request, body, done) => done(null, body))
  return app
}

/**
 * The same compilers; what shapes an answer is made when the first such answer leaves. Three hundred of them at each start would make
 * terminals wait for what hardly any run of the gateway asks for.
 */
function later(compilers: SerializerFactory): SerializerFactory {
  return (...setting) => {
    const compile = compilers(...setting)
    return (route) => {
      let shape: Serializer | undefined
      return (answer) => (shape ??= compile(route))(answer)
    }
  }
}

function contextOf({ cert, key, ca, crl }: NonNullable<AdminOptions['tls']>): { cert: string; key: string; ca?: string; crl?: string } {
  return { cert, key, ...(ca === undefined ? {} : { ca }), ...(crl === undefined ? {} : { crl }) }
}

/** 127.0.0.0/8, ::1, their mapped form, and the name. */
function isLoopback(host: string): boolean {
  const address = host.replace(/^::ffff:/i, '')
  return address === 'localhost' || address === '::1' || (isIP(address) === 4 && address.startsWith('127.'))
}

function schemaOf(route: Route): Schema {
  const { status, text, schema, type } = route.answer
  const answer = schema === undefined ? { type: 'null', description: text } : described(text, schema, type)
  const errors = [400, 401, 403, 429, 500, ...route.errors].sort((one, other) => one - other)
  return {
    operationId: route.id, summary: route.summary, tags: [route.tag], security: [{ token: rolesWith(route.scope) }], 'x-scope': route.scope,
    querystring: route.query ?? NO_QUERY,
    ...(route.params === undefined ? {} : { params: route.params }),
    ...(route.body === undefined ? {} : { body: route.body }),
    ...(route.yaml === true ? { consumes: ['application/yaml'] } : {}),
    response: { [status]: answer, ...problems(errors) },
  }
}

const NO_QUERY: Schema = { type: 'object', additionalProperties: false, properties: {} }

function described(description: string, schema: Schema, type = 'application/json'): Schema {
  return { description, content: { [type]: { schema } } }
}

function problems(statuses: readonly number[]): Record<number, Schema> {
  return Object.fromEntries(statuses.map((status) => [status, { description: TITLES[status] ?? 'Error', content: { [PROBLEM_TYPE]: { schema: { $ref: 'Problem#' } } } }]))
}

// ------------------------------------------------------------------------------------------------------------------ problems

const PROBLEM_TYPE = 'application/problem+json'

/** [RFC 9457] `code` is for programs, `detail` and `mend` are for people. There is no `instance`: a path may hold the id of a person. */
const PROBLEM: Schema = {
  $id: 'Problem', type: 'object', additionalProperties: false, description: 'RFC 9457 problem details',
  properties: {
    type: { type: 'string', format: 'uri' }, title: { type: 'string' }, status: { type: 'integer' },
    detail: { type: 'string' }, code: { type: 'string' }, mend: { type: 'string' },
  },
  required: ['type', 'title', 'status', 'detail', 'code'],
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request', 401: 'Not authenticated', 403: 'Not allowed', 404: 'Not found', 405: 'Method not allowed', 409: 'Conflict',
  413: 'Too large', 415: 'Unsupported media type', 422: 'Not acceptable as it stands', 429: 'Too many requests', 500: 'Internal error', 503: 'Not available',
}

class Problem extends Error {
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly mend: string | undefined
  readonly headers: Readonly<Record<string, string>>

  constructor(status: number, code: string, detail: string, mend?: string, headers: Readonly<Record<string, string>> = {}) {
    super(detail)
    this.name = 'Problem'
    this.status = status
    this.code = code
    this.detail = detail
    this.mend = mend
    this.headers = headers
  }
}

function problemBody({ status, code, detail, mend }: Problem): Schema {
  const body = { type: `urn:parapet:problem:${code.toLowerCase()}`, title: TITLES[status] ?? 'Error', status, detail, code }
  return mend === undefined ? body : { ...body, mend }
}

function sendProblem(reply: FastifyReply, problem: Problem): void {
  // Serialised here: an error may arise before the route, and with it its schema, is known.
  void reply.code(problem.status).headers({ ...problem.headers, 'content-type': PROBLEM_TYPE }).serializer(JSON.stringify).send(problemBody(problem))
}

/** Fastify's own errors, by code; their messages may quote the request and are not used. */
const FRAMEWORK: Readonly<Record<string, readonly [number, string, string, string]>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [415, 'MEDIA-TYPE', 'This body type is not understood here.', 'Send application/json, or application/yaml for a rules file.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: [400, 'EMPTY-BODY', 'The body is empty.', 'Send a JSON object.'],
  FST_ERR_CTP_INVALID_JSON_BODY: [400, 'BAD-JSON', 'The body is not JSON.', 'Check quotes and commas.'],
  FST_ERR_CTP_BODY_TOO_LARGE: [413, 'TOO-LARGE', 'The body is too large.', `The bound is ${LIMITS.adminBodyBytes} bytes, for a rules file ${LIMITS.adminRulesBytes}.`],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [400, 'BAD-LENGTH', 'The body is not as long as Content-Length says.', 'Send it again.'],
  FST_ERR_BAD_URL: [400, 'BAD-URL', 'The address is not a valid URL.', 'Escape it as RFC 3986 says.'],
}

function problemOf(error: FastifyError | GatewayError | Problem, request: FastifyRequest, log: Log): Problem {
  if (error instanceof Problem) return error
  if (error instanceof GatewayError) {
    const { mend } = error
    const detail = mend === undefined ? error.message : error.message.slice(0, -mend.length).trim()
    return new Problem(STATUS_OF_CODE[error.code] ?? 422, error.code, detail, mend)
  }
  if ('validation' in error && error.validation !== undefined) return invalid(error, request)
  const known = FRAMEWORK[error.code]
  if (known !== undefined) return new Problem(...known)
  if (error.statusCode !== undefined && error.statusCode < 500) return new Problem(400, 'BAD-REQUEST', 'The request cannot be read.', 'Check headers and body.')
  return internal(error, log)
}

function internal(error: unknown, log: Log): Problem {
  log.error('admin request failed', { error })
  return new Problem(500, 'INTERNAL', 'Something failed inside the gateway.', 'The log has where.')
}

/** Says which part and key is wrong and what would be right, never what was sent. */
function invalid({ validation, validationContext }: FastifyError, request: FastifyRequest): Problem {
  const first = validation?.[0]
  const part = { body: 'body', querystring: 'query', params: 'path', headers: 'header' }[validationContext ?? 'body'] ?? 'request'
  if (first === undefined) return new Problem(400, 'INVALID', `The ${part} is not as the API says.`, 'See /openapi.json.')
  if (first.keyword === 'additionalProperties') return new Problem(400, 'UNKNOWN-KEY', `The ${part} has a key that is not known here.`, keysOf(request, validationContext))
  if (first.keyword === 'required') return new Problem(400, 'MISSING-KEY', `The ${part} lacks the key ${String(first.params['missingProperty'])}.`, 'Add it.')
  // Only the first step of the path is a key of ours; further ones may be the caller's.
  const key = first.instancePath.split('/')[1]
  const place = key === undefined || key === '' ? `The ${part}` : `The ${part} key ${key}`
  const { allowedValues, limit, pattern, type, format } = first.params
  const rule = first.keyword === 'enum' && Array.isArray(allowedValues) ? `must be one of ${allowedValues.join(', ')}`
    : first.keyword === 'pattern' ? `must match ${String(pattern)}`
    : first.keyword === 'type' ? `must be of type ${String(type)}`
    : first.keyword === 'format' ? `must be a ${String(format)}`
    : first.keyword === 'maxLength' ? `must have at most ${String(limit)} characters`
    : first.keyword === 'minLength' ? `must have at least ${String(limit)} characters`
    : 'is not as the API says'
  return new Problem(400, 'INVALID', `${place} ${rule}.`, 'See /openapi.json.')
}

/** The keys there are, from the schema of the route: naming them helps, repeating the wrong one would quote the caller. */
function keysOf(request: FastifyRequest, part: FastifyError['validationContext']): string {
  const schema = part === undefined ? undefined : (request.routeOptions.schema as Readonly<Record<string, { readonly properties?: object } | undefined>> | undefined)?.[part]
  const keys = Object.keys(schema?.properties ?? {})
  return keys.length === 0 ? 'It takes none.' : `It takes: ${keys.join(', ')}.`
}

function wrongType(route: Route): Problem {
  return new Problem(415, 'MEDIA-TYPE', 'This body type is not understood here.', `Send ${route.yaml === true ? 'application/yaml' : 'application/json'}.`)
}

/** No such path, or a path that has other methods. [RFC 9110 15.5.6] The latter names them. */
function missing(request: FastifyRequest, routes: readonly Route[]): Problem {
  const path = request.url.split('?')[0] ?? ''
  const methods = [
    ...routes.filter((route) => new RegExp(`^${route.path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path)).map(({ method }) => method),
    ...(['/healthz', '/readyz', '/metrics', '/openapi.json'].includes(path) ? ['GET'] : []),
  ]
  if (methods.length === 0) return new Problem(404, 'NO-ROUTE', 'There is nothing at this address.', 'See /openapi.json.')
  return new Problem(405, 'METHOD', 'This address has other methods.', `Use ${methods.join(' or ')}.`, { allow: methods.join(', ') })
}

const PROBES: ReadonlySet<string> = new Set(['/healthz', '/readyz'])

// ------------------------------------------------------------------------------------------------------------------ how often

interface Allowance {
  /** False: too often, and nothing was taken. */
  take(key: string): boolean
}

/** A bucket for each key, which fills by the second and empties by the request. One that is forgotten is full again. */
function createAllowance(clock: Clock, perSecond: number, burst: number): Allowance {
  const buckets = new Map<string, { left: number; atMs: number }>()
  return {
    take(key) {
      const now = clock.monotonic()
      const bucket = buckets.get(key) ?? { left: burst, atMs: now }
      // Seen last = forgotten last.
      buckets.delete(key)
      buckets.set(key, bucket)
      const oldest = buckets.keys().next().value
      if (buckets.size > LIMITS.adminAddresses && oldest !== undefined) buckets.delete(oldest)
      bucket.left = Math.min(burst, bucket.left + ((now - bucket.atMs) / 1_000) * perSecond)
      bucket.atMs = now
      if (bucket.left < 1) return false
      bucket.left -= 1
      return true
    },
  }
}

// ------------------------------------------------------------------------------------------------------------------- lock-out

interface Lockout {
  /** Seconds until the address may try again; 0 = now. A caller who came in from there before is not held up by somebody else's guesses. */
  remaining(address: string, actor: Actor | undefined): number
  /** True when this failure locks the address out. */
  failed(address: string): boolean
  passed(address: string, actor: Actor): void
}

/** [IEC 62443-4-2 CR 1.11] After five wrong tokens an address waits a minute, then two, then four, to a quarter of an hour. */
function createLockout(clock: Clock): Lockout {
  interface Entry { failures: number; locks: number; untilMs: number; lastMs: number; readonly known: Set<string> }
  const entries = new Map<string, Entry>()

  /** Seen last = forgotten last. */
  function touch(address: string): Entry {
    const key = neighbourhood(address)
    const now = clock.monotonic()
    let entry = entries.get(key)
    if (entry === undefined || now - entry.lastMs > LIMITS.adminLockMaxMs * 2) {
      entry = { failures: 0, locks: 0, untilMs: 0, lastMs: now, known: entry?.known ?? new Set() }
    }
    entries.delete(key)
    entries.set(key, entry)
    const oldest = entries.keys().next().value
    if (entries.size > LIMITS.adminAddresses && oldest !== undefined) entries.delete(oldest)
    return entry
  }

  return {
    remaining(address, actor) {
      const entry = entries.get(neighbourhood(address))
      if (entry === undefined || (actor !== undefined && entry.known.has(actor.name))) return 0
      return Math.max(0, Math.ceil((entry.untilMs - clock.monotonic()) / 1_000))
    },
    failed(address) {
      const entry = touch(address)
      entry.lastMs = clock.monotonic()
      entry.failures += 1
      if (entry.failures < LIMITS.adminFailures) return false
      entry.untilMs = entry.lastMs + Math.min(LIMITS.adminLockMs * 2 ** entry.locks, LIMITS.adminLockMaxMs)
      entry.locks += 1
      entry.failures = 0
      return true
    },
    passed(address, actor) {
      const { known } = touch(address)
      if (known.size < LIMITS.adminTokens) known.add(actor.name)
    },
  }
}

/** An IPv6 host has a whole /64 to itself, so that is what counts as one address. */
function neighbourhood(address: string): string {
  const plain = address.replace(/^::ffff:/i, '')
  if (isIP(plain) !== 6) return plain
  const [head = '', tail] = plain.split('::')
  const groups = head.split(':').filter((group) => group !== '')
  const missingGroups = tail === undefined ? 0 : 8 - groups.length - tail.split(':').filter((group) => group !== '').length
  return [...groups, ...Array.from({ length: missingGroups }, () => '0'), ...(tail ?? '').split(':')].slice(0, 4).join(':')
}
