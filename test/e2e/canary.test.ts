/**
 * Canaries [G8]: a random marker of its own in every field of every message, in an unknown field, in topic levels, client ids, user names,
 * wills, passwords, certificates, headers, tokens and queries. One gateway as it is run, at its most talkative, with a bridge, recipients that
 * are there and such that were away, a withdrawal, an end by an error that nobody caught, a second start and an end by SIGABRT. Then every
 * byte that came out of it anywhere is searched for every marker; in the data folder, which is sealed, there is none at all. What may be where stands in the tables below, written by hand from the rules file.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { connect, type IClientOptions, type MqttClient } from 'mqtt'
import protobuf from 'protobufjs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCertificate, type Certificate } from '../broker/certificates.ts'
import { Cloud } from '../outlet/cloud.ts'
import { encode, Folder, FREE_PORTS, MESSAGES, OWN_TOPICS, pause, PROJECT, typeOf, until } from './stage.ts'

// ---------------------------------------------------------------------------------------------------------------- markers

interface Marker {
  /** `status.display_text`, `will topic`. */
  readonly place: string
  readonly needles: readonly Buffer[]
}

const markers: Marker[] = []
/** Most texts are cut nowhere below 24 characters. */
const word = (): string => `K${randomBytes(8).toString('hex')}`

function marked(place: string, text = word()): string {
  markers.push({ place, needles: [Buffer.from(text)] })
  return text
}

const SN = marked('machine id', `SN-${word()}`)
const OPERATOR = marked('operator id', `op-${word()}`)
const CARD = marked('card')
const CN = marked('certificate name')
const STRANGER_CN = marked('certificate name of a stranger')
const [MODEL, SITE, HOLDER] = [marked('model'), marked('site label'), marked('holder')]
const LYON = { lat_e7: 457_640_430, lon_e7: 48_356_590 }

/** Fields that a message needs as they are; of closed sets there is nothing to mark. */
const GIVEN: Readonly<Record<string, () => unknown>> = { machine_id: () => SN, time_ms: () => Date.now(), operator_id: () => CARD, fix: () => 3, lamp: () => 4, ...Object.fromEntries(Object.entries(LYON).map(([name, value]) => [name, () => value])) }
const UNKNOWN = marked('unknown field')
/** Number 1000, a length, the text. */
const unknownField = Buffer.concat([Buffer.from([0xc2, 0x3e, UNKNOWN.length]), Buffer.from(UNKNOWN)])

/** A message with a marker in every field that is no enum or bool; numbers are looked for as they are written in the message, and as digits. */
function markedMessage(stream: string, given: Readonly<Record<string, unknown>> = {}): Buffer {
  const type = typeOf(stream)
  const message: Record<string, unknown> = {}
  for (const field of type.fieldsArray) {
    const { name, repeated } = field
    field.resolve()
    if (name in given) message[name] = given[name]
    else if (name in GIVEN) message[name] = GIVEN[name]!()
    else if (field.type === 'bool') message[name] = true
    else if (field.resolvedType instanceof protobuf.Enum) message[name] = repeated ? [1, 1] : 1
    else if (field.resolvedType !== null) continue
    else if (field.type === 'string') message[name] = repeated ? [marked(`${stream}.${name}`)] : marked(`${stream}.${name}`)
    else if (field.type === 'bytes') message[name] = Buffer.from(marked(`${stream}.${name}`))
    else if (['float', 'double'].includes(field.type)) continue
    else {
      const values = Array.from({ length: repeated ? 2 : 1 }, () => 2 ** 30 - randomBytes(3).readUIntBE(0, 3) * 32 - 7)
      message[name] = repeated ? values : values[0]
      // With its tag, or its neighbour: four bytes alone would be found by chance.
      const bytes = encode(stream, { [name]: message[name] })
      markers.push({ place: `${stream}.${name}`, needles: [bytes, ...values.map((value) => Buffer.from(String(value)))] })
    }
  }
  return Buffer.concat([encode(stream, message), unknownField])
}

const STREAMS = Object.keys(MESSAGES)
/** `personal: NEVER` in the .proto files. */
const HARMLESS = new Set(STREAMS.flatMap((stream) => typeOf(stream).fieldsArray.filter((field) => JSON.stringify(field.options ?? {}).includes('"NEVER"') || JSON.stringify(field.parsedOptions ?? []).includes('"NEVER"')).map(({ name }) => `${stream}.${name}`)))
const harmlessOf = (...streams: readonly string[]): string[] => [...HARMLESS].filter((place) => streams.includes(place.split('.')[0] ?? ''))

/** What the rules let each recipient have as it came in. Everything else is dropped, replaced or made coarser. */
const LEAVES: Readonly<Record<string, readonly string[]>> = {
  'oem-cloud': [...harmlessOf('status', 'fault', 'safety', 'charge', 'comms', 'diag', 'device'), 'status.hour_meter_s', 'fault.occurrences', 'charge.cycles', 'diag.component'],
  'site-planner': [],
  'rental-company': ['machine id'],
  'security-desk': ['machine id', ...['ip', 'imei', 'imsi', 'iccid', 'apn', 'tx_kb', 'rx_kb', 'mcc', 'mnc'].map((name) => `comms.${name}`)],
  'safety-archive': ['machine id', ...harmlessOf('safety'), 'safety.value', 'fault.spn', 'fault.fmi', 'fault.source_address', 'precheck.items', 'precheck.list_version'],
  'my-app': ['session.drive_s', 'session.lift_s', 'session.lifts', 'session.energy_wh', 'precheck.list_version'],
}
/** The cloud gets what site-planner gets. */
const BRIDGED = LEAVES['site-planner'] ?? []

/** Routes whose purpose it is to show an id, to roles that may see it. */
const SHOWN: readonly { readonly route: RegExp; readonly roles: readonly string[]; readonly places: readonly string[] }[] = [
  { route: /^\/v1\/machines/, roles: ['engineer', 'privacy', 'admin'], places: ['machine id', 'model', 'site label', 'holder', 'certificate name'] },
  { route: /^\/v1\/(why|trace)/, roles: ['engineer', 'privacy', 'admin'], places: ['machine id'] },
  { route: /^\/v1\/(sessions|operators)/, roles: ['privacy', 'admin'], places: ['machine id', 'operator id'] },
  { route: /^\/v1\/operators/, roles: ['privacy', 'admin'], places: ['evidence of a grant', 'evidence on the display'] },
]

// ---------------------------------------------------------------------------------------------------------------- the box

/** `parapet serve`, and everything that it ever wrote. */
class Box {
  readonly written: Buffer[] = []
  readonly ended: Promise<number | string | null>
  readonly #child: ChildProcess

  constructor(folder: Folder, preload: string) {
    const set = [...FREE_PORTS, 'trial=true', 'log.level=debug'].flatMap((one) => ['--set', one])
    // No core, as the unit file has it: whoever lets the system write one has everything in it that was in memory.
    this.#child = spawn('/bin/sh', ['-c', 'ulimit -c 0; exec "$@"', 'sh', process.execPath, '--import', preload, join(PROJECT, 'src/main.ts'), 'serve', '--config', folder.file('gateway.yaml'), ...set], {
      stdio: ['ignore', 'pipe', 'pipe'], cwd: folder.path, env: { ...process.env, NODE_NO_WARNINGS: '1' },
    })
    this.#child.stdout?.on('data', (piece: Buffer) => this.written.push(piece))
    this.#child.stderr?.on('data', (piece: Buffer) => this.written.push(piece))
    this.ended = new Promise((done) => void this.#child.once('close', (code, signal) => done(code ?? signal)))
  }

  get text(): string {
    return Buffer.concat(this.written).toString('latin1')
  }

  async ready(): Promise<{ terminals: number; recipients: number; admin: number }> {
    await until(() => this.text.includes('"text":"serving"'), `the gateway to serve: ${this.text}`, 20_000)
    const lines = this.text.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as { text: string; listener?: string; port?: number })
    const port = (name: string): number => lines.find((line) => line.listener === name && line.text === 'listening')?.port ?? 0
    return { terminals: port('terminals'), recipients: port('recipients'), admin: lines.find((line) => line.text === 'admin API listens')?.port ?? 0 }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }
}

const folder = new Folder()
const pem = (name: string, text: string): string => {
  const file = join(folder.path, name)
  writeFileSync(file, text, { mode: 0o600 })
  return file
}
/** An error whose message quotes what came in, as those of libraries do. */
const CRASH = marked('message of an error')
const preload = pem('crash.mjs', `process.on('SIGUSR2', () => { throw new TypeError('cannot read ' + ${JSON.stringify(CRASH)}) })\n`)

let cloud: Cloud
let box: Box
let ports: Awaited<ReturnType<Box['ready']>>
const clients: MqttClient[] = []
/** Every byte that each recipient got. */
const received = new Map<string, Buffer[]>()
const answers: { readonly role: string; readonly route: string; readonly body: string; readonly status: number }[] = []
let metrics = ''
const ends: (number | string | null)[] = []
/** Of both runs. */
const said: Buffer[] = []

const ca = makeCertificate({ names: ['Test authority'], ca: true })
const tlsOf = ({ cert, key }: Certificate): IClientOptions => ({ protocol: 'mqtts', ca: ca.cert, cert, key, rejectUnauthorized: false })

async function enter(options: IClientOptions, heard?: Buffer[]): Promise<MqttClient | undefined> {
  const client = connect({ host: '127.0.0.1', protocolVersion: 4, reconnectPeriod: 0, connectTimeout: 5_000, ...options })
  clients.push(client)
  client.on('error', () => undefined)
  if (heard !== undefined) client.stream.on('data', (piece: Buffer) => heard.push(piece))
  return new Promise((done) => {
    client.once('connect', () => done(client))
    client.once('close', () => done(undefined))
  })
}

function recipient(name: string, options: IClientOptions = {}): Promise<MqttClient | undefined> {
  const heard = received.get(name) ?? []
  received.set(name, heard)
  return enter({ port: ports.recipients, username: name, clientId: marked('client id of a recipient'), ...options }, heard)
}

function ask(method: string, path: string, headers: Readonly<Record<string, string>>, body?: unknown): Promise<{ status: number; body: string }> {
  return new Promise((done, failed) => {
    const asked = request({ host: '127.0.0.1', port: ports.admin, method, path, headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) } }, (response) => {
      let text = ''
      response.on('data', (piece: Buffer) => (text += piece.toString('latin1')))
      response.on('end', () => done({ status: response.statusCode ?? 0, body: `${JSON.stringify(response.headers)}${text}` }))
    })
    asked.on('error', failed)
    asked.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

async function admin(path: string, body: unknown): Promise<string> {
  const { status, body: text } = await ask('POST', path, bearer(readFileSync(join(folder.data, 'admin.token'), 'utf8').trim()), body)
  if (status >= 300) throw new Error(`POST ${path}: ${status} ${text}`)
  return text
}

function comeBack(): Promise<MqttClient | undefined> {
  return enter({
    port: ports.terminals, ...tlsOf(makeCertificate({ names: [CN], issuer: ca })), clientId: marked('client id of a terminal'),
    will: { topic: `up/demo/${SN}/${marked('will topic')}`, payload: Buffer.from(marked('will')), qos: 1, retain: false },
  })
}

async function makeTraffic(): Promise<void> {
  // Those who are there, and one who was and comes back.
  for (const [name, filter] of Object.entries(OWN_TOPICS)) await (await recipient(name))?.subscribeAsync(filter, { qos: 1 })
  const nightly = { clientId: marked('client id of a session'), clean: false }
  const before = await recipient('rental-company', nightly)
  await before?.subscribeAsync('out/billing/+', { qos: 1 })
  await before?.endAsync()

  const terminal = await comeBack()
  if (terminal === undefined) throw new Error(`the terminal was not admitted: ${box.text.slice(-2_000)}`)
  await admin(`/v1/operators/${OPERATOR}/notice`, {})
  for (const purpose of ['service.operate', 'improve.statistics', 'personalise', 'security.fraud']) {
    await admin(`/v1/operators/${OPERATOR}/consent`, { purpose, state: 'granted', evidence: marked('evidence of a grant'), language: 'fr', source: 'portal' })
  }
  const publish = (topic: string, payload: Buffer, qos: 0 | 1 | 2 = 1): Promise<unknown> => terminal.publishAsync(topic, payload, { qos, retain: qos === 2 })
  await publish(`up/demo/${SN}/operator`, markedMessage('operator', { op: 'SIGN_ON' }))
  await publish(`up/demo/${SN}/consent`, markedMessage('consent'))
  await publish(`up/demo/${SN}/consent`, encode('consent', { machine_id: SN, time_ms: Date.now(), operator_id: CARD, purpose: 'improve.statistics', choice: 'GRANT', policy_id: 'awp-2026-11', evidence: Buffer.from(marked('evidence on the display')) }))
  for (const stream of STREAMS) if (stream !== 'consent') for (const qos of [0, 1, 2] as const) await publish(`up/demo/${SN}/${stream}`, markedMessage(stream, stream === 'operator' ? { op: 'UNLOCK' } : {}), qos)
  await publish(`up/demo/${SN}/${marked('topic of no stream')}`, Buffer.from(marked('payload of no stream')))
  await publish(`up/${marked('foreign fleet')}/${SN}/status`, markedMessage('status'))
  await publish(`up/demo/${marked('foreign machine')}/status`, markedMessage('status'))
  await publish(`up/demo/${SN}/status`, markedMessage('status', { machine_id: marked('foreign machine in the payload') }))
  await publish(`up/demo/${SN}/status`, markedMessage('status', { operator_id: marked('unknown card') }))
  await publish(`up/demo/${SN}/status`, markedMessage('status').subarray(0, -3))
  await publish(`up/demo/${SN}/status`, Buffer.from(marked('no protobuf')))
  await terminal.subscribeAsync(`down/demo/${marked('filter of a terminal')}/#`).catch(() => undefined)

  // Who is not let in.
  await enter({ port: ports.terminals, ...tlsOf(makeCertificate({ names: [STRANGER_CN], issuer: ca })), clientId: marked('client id of a stranger'), username: marked('user name of a stranger'), password: marked('password of a stranger') })
  await recipient(marked('unknown recipient'), { password: marked('password of a recipient') })
  await recipient('my-app', { will: { topic: marked('will topic of a recipient'), payload: Buffer.from(marked('will of a recipient')), qos: 0, retain: false } })
  const talker = await recipient('my-app')
  await talker?.subscribeAsync(`out/${marked('filter of a recipient')}/#`).catch(() => undefined)
  await talker?.publishAsync(marked('topic of a recipient'), marked('payload of a recipient'))

  await until(() => cloud.got.length > 0, 'the cloud', 10_000)
  await pause(300)
  // One more after the withdrawal, with what waits for the absent session as it was.
  await admin(`/v1/operators/${OPERATOR}/consent`, { purpose: 'improve.statistics', state: 'withdrawn', source: 'portal' })
  await publish(`up/demo/${SN}/status`, markedMessage('status'))
  await recipient('rental-company', nightly)
  await pause(300)
}

/** Every GET that the document names, with every role, with none, and with a wrong token; what is sent along has markers. */
async function askEverything(): Promise<void> {
  const tokens = new Map<string, string>()
  for (const role of ['viewer', 'engineer', 'privacy', 'admin']) {
    const text = await admin('/v1/tokens', { name: role, role })
    tokens.set(role, marked(`token of ${role}`, /"token":"([^"]+)"/.exec(text)?.[1] ?? ''))
  }
  for (const role of ['engineer', 'privacy']) await ask('POST', '/v1/trace', bearer(tokens.get(role) ?? ''), { machine: SN })
  const { paths } = JSON.parse(/\{"openapi".*$/s.exec((await ask('GET', '/openapi.json', {})).body)?.[0] ?? '{}') as { readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly parameters?: readonly { readonly name: string; readonly in: string }[] }>>>> }
  const NAMED: Readonly<Record<string, string>> = { operator: OPERATOR, machine: SN, output: 'site-planning' }
  for (const [path, { get }] of Object.entries(paths)) {
    if (get === undefined) continue
    const url = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => NAMED[name] ?? 'none')
    const query = (get.parameters ?? []).filter((one) => one.in === 'query' && one.name in NAMED).map(({ name }) => `${name}=${NAMED[name]}`).join('&')
    for (const [role, token] of [...tokens, ['none', undefined], ['wrong', marked('wrong token')]] as const) {
      const headers = { ...(token === undefined ? {} : bearer(token)), 'user-agent': marked('user agent'), cookie: `a=${marked('cookie')}`, 'x-request-id': marked('header') }
      answers.push({ role, route: path, ...await ask('GET', `${url}${query === '' ? '' : `?${query}`}`, headers) })
      if (role === 'admin') answers.push({ role, route: path, ...await ask('GET', `${url}?${marked('query')}=${marked('value of a query')}`, headers) })
    }
  }
  answers.push({ role: 'none', route: 'nothing', ...await ask('GET', `/${marked('path')}`, {}) })
  metrics = (await ask('GET', '/metrics', {})).body
}

beforeAll(async () => {
  cloud = await Cloud.open()
  const server = makeCertificate({ names: ['localhost'], issuer: ca, ip: [127, 0, 0, 1] })
  const [certFile, keyFile, caFile] = [pem('server.crt', server.cert), pem('server.key', server.key), pem('ca.crt', ca.cert)]
  folder.edit('rules/awp.yaml', (text) => text.replace('out/planning/{stream}/{machine_id}", qos: 1, via: [local]', 'out/planning/{stream}/{machine_id}", qos: 1, via: [local, cloud], retain: true'))
  folder.edit('gateway.yaml', (text) => text
    .replace('bridges: {}', `bridges: { cloud: { recipient: site-planner, url: "${cloud.url}", window: 8 } }`)
    .replace(/(terminals: +\{ host: 127\.0\.0\.1, port: 1883)/, `$1, tls: { cert: "${certFile}", key: "${keyFile}", ca: "${caFile}" }`))
  folder.edit('machines.yaml', (text) => `${text}${SN}: { fleet: demo, model: ${MODEL}, labels: { site: ${SITE} }, country: FR, operator_collection: on, holder: ${HOLDER}, certificate: ${CN} }\n`)
  folder.edit('operators.yaml', (text) => `${text}- { id: ${OPERATOR}, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["${CARD}"] }\n`)
  box = new Box(folder, preload)
  ports = await box.ready()
  await makeTraffic()
  await askEverything()
  box.kill('SIGUSR2')
  ends.push(await box.ended)
  said.push(...box.written)

  box = new Box(folder, preload)
  ports = await box.ready()
  const terminal = await comeBack()
  for (const stream of STREAMS) await terminal?.publishAsync(`up/demo/${SN}/${stream}`, markedMessage(stream, stream === 'operator' ? { op: 'SIGN_ON' } : {}), { qos: 1 })
  box.kill('SIGABRT')
  ends.push(await box.ended)
  said.push(...box.written)
}, 60_000)

afterAll(async () => {
  for (const client of clients) client.end(true)
  box.kill('SIGKILL')
  await box.ended
  await cloud.stop()
  folder.remove()
})

/** Places whose marker is in the bytes and may not be. */
function found(bytes: Buffer, allowed: readonly string[] = []): string[] {
  return [...new Set(markers.filter(({ place, needles }) => !allowed.includes(place) && needles.some((needle) => bytes.includes(needle))).map(({ place }) => place))]
}

describe('of all that came in, nothing is', () => {
  it('(the control) where there was nothing to find: every stream arrived, and what may leave left', () => {
    expect(markers.length).toBeGreaterThan(300)
    for (const stream of STREAMS) expect(metrics).toMatch(new RegExp(`parapet_messages_received_total\\{stream="${stream}"\\} [1-9]`))
    const got = (name: string): string[] => markers.filter(({ needles }) => needles.some((needle) => Buffer.concat(received.get(name) ?? []).includes(needle))).map(({ place }) => place)
    expect(got('rental-company')).toContain('machine id')
    expect(got('security-desk')).toEqual(expect.arrayContaining(['comms.imsi', 'comms.mcc', 'machine id']))
    expect(got('oem-cloud')).toEqual(expect.arrayContaining(['device.model', 'status.hour_meter_s', 'charge.cell_mv', 'status.roll_cdeg']))
    expect(cloud.got.length).toBeGreaterThan(0)
    expect(ends).toEqual([1, 'SIGABRT'])
    expect(Buffer.concat(said).includes('stopped by an error that nobody caught')).toBe(true)
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThan(40)
  })

  it('in the log at debug level, in what the process wrote besides, and in its last words', () => {
    expect(Buffer.concat(said).length).toBeGreaterThan(10_000)
    expect(found(Buffer.concat(said))).toEqual([])
  })

  it('in the metrics', () => {
    expect(metrics.length).toBeGreaterThan(5_000)
    expect(found(Buffer.from(metrics))).toEqual([])
  })

  it('in an answer of the API, but where it is asked for by who may', () => {
    const leaks = answers.flatMap(({ role, route, body }) => {
      const allowed = SHOWN.filter((one) => one.route.test(route) && one.roles.includes(role)).flatMap(({ places }) => places)
      return found(Buffer.from(body, 'latin1'), allowed).map((place) => `${place} in ${route} for ${role}`)
    })
    expect(leaks).toEqual([])
  })

  it('in what a recipient or the cloud got, but what the rules say', () => {
    expect(received.size).toBeGreaterThanOrEqual(Object.keys(OWN_TOPICS).length)
    const leaks = [...received].flatMap(([name, heard]) => found(Buffer.concat(heard), LEAVES[name] ?? []).map((place) => `${place} at ${name in LEAVES ? name : 'somebody unknown'}`))
    expect(leaks).toEqual([])
    expect(found(Buffer.concat(cloud.heard), BRIDGED)).toEqual([])
    for (const { connect: packet } of cloud.lines) expect(found(Buffer.from(JSON.stringify(packet)))).toEqual([])
  })

  it('in a file of the data folder', () => {
    const files = readdirSync(folder.data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
    expect(files.map((file) => file.slice(folder.data.length + 1))).toEqual(expect.arrayContaining(['outbox.db', 'ledger.db', 'keys.db']))
    // Neither was moved into its database nor emptied when the process was killed.
    for (const name of ['outbox.db-wal', 'ledger.db-wal']) expect([name, statSync(join(folder.data, name)).size > 50_000]).toEqual([name, true])
    expect(files.flatMap((file) => found(readFileSync(file)).map((place) => `${place} in ${file.slice(folder.data.length + 1)}`))).toEqual([])
  })

  it('in a file that the process left where it ran', () => {
    // No core, no report, no heap.
    expect(readdirSync(folder.path).toSorted()).toEqual(['ca.crt', 'config', 'crash.mjs', 'proto', 'server.crt', 'server.key'])
  })
})
