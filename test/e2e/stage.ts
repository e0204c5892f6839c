/**
 * A whole gateway for one test: a copy of config/ and proto/ in a folder of its own, free ports, terminals and recipients over real
 * sockets with mqtt.js, the admin API over HTTP. Payloads are made and read with protobufjs straight from the .proto files.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { connect } from 'mqtt'
import type { IClientOptions, IPublishPacket, MqttClient } from 'mqtt'
import protobuf from 'protobufjs'
import { loadGateway, type GatewayConfig } from '../../src/config/gateway.ts'
import type { Clock } from '../../src/domain/ports.ts'
import { createGateway, type Gateway, type GatewayOptions } from '../../src/gateway.ts'
import { createLog } from '../../src/log.ts'
import { ENGINE_SETTINGS } from '../engine.ts'

export const PROJECT = resolve(import.meta.dirname, '../..')

/** A copy of the shipped configuration that a test may change: `config/`, `proto/` and, after the first start, `config/data/`. */
export class Folder {
  readonly path = mkdtempSync(join(tmpdir(), 'parapet-e2e-'))

  /** Unless it is to be `asShipped`, the rules file comes without its own tests, which take most of a start. */
  constructor({ asShipped = false }: { readonly asShipped?: boolean } = {}) {
    cpSync(join(PROJECT, 'proto'), join(this.path, 'proto'), { recursive: true })
    cpSync(join(PROJECT, 'config'), join(this.path, 'config'), { recursive: true, filter: (source) => !source.startsWith(join(PROJECT, 'config/data')) })
    if (!asShipped) this.edit('rules/awp.yaml', (text) => text.slice(0, text.indexOf('\ntests:') + 1))
  }

  file(name: string): string {
    return join(this.path, 'config', name)
  }

  get data(): string {
    return this.file('data')
  }

  read(name: string): string {
    return readFileSync(this.file(name), 'utf8')
  }

  /** Changes the text of a file; a change that changes nothing is a mistake of the test. */
  edit(name: string, change: (text: string) => string): void {
    const before = this.read(name)
    const after = change(before)
    if (after === before) throw new Error(`the edit of ${name} found nothing to change`)
    writeFileSync(this.file(name), after)
  }

  config(set: readonly string[] = []): GatewayConfig {
    const { config, findings } = loadGateway(this.file('gateway.yaml'), [...FREE_PORTS, ...AT_ONCE, ...ENGINE_SETTINGS, ...set])
    if (config === undefined) throw new Error(JSON.stringify(findings))
    return config
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

/** A widening edit of a test is in force at once; test/e2e/staging.test.ts turns it off. */
const AT_ONCE = ['trial=true'] as const

const PLENTY = { freeBytes: 2 ** 40, sizeBytes: 2 ** 41 } as const

export const FREE_PORTS = ['listen.terminals.port=0', 'listen.recipients.port=0', 'listen.admin.port=0'] as const

export interface StageOptions {
  readonly folder?: Folder
  readonly clock?: Clock
  readonly set?: readonly string[]
  /** Room on the disk; default: plenty, wherever the test runs. */
  readonly space?: GatewayOptions['space']
}

export class Stage {
  readonly folder: Folder
  readonly gateway: Gateway
  /** Everything the gateway logged, at debug level. */
  readonly logged: string[]
  readonly #open: MqttClient[] = []

  private constructor(folder: Folder, gateway: Gateway, logged: string[]) {
    this.folder = folder
    this.gateway = gateway
    this.logged = logged
  }

  static async open(options: StageOptions = {}): Promise<Stage> {
    const folder = options.folder ?? new Folder()
    const logged: string[] = []
    const log = createLog({ level: 'debug', format: 'json', env: {}, stream: { write: (line) => logged.push(line) } })
    const gateway = await createGateway(folder.config(options.set), { log, space: options.space ?? (() => PLENTY), ...(options.clock === undefined ? {} : { clock: options.clock }) })
    return new Stage(folder, gateway, logged)
  }

  /** Stops the gateway and its clients; the folder stays for the next start. */
  async stop(): Promise<void> {
    for (const client of this.#open) client.end(true)
    await this.gateway.close()
  }

  async close(): Promise<void> {
    await this.stop()
    this.folder.remove()
  }

  async terminal(machine: string, options: IClientOptions = {}): Promise<Terminal> {
    const client = await this.#connect(this.gateway.addresses.terminals.port, { clientId: machine, username: machine, ...options })
    return new Terminal(machine, client)
  }

  /** A recipient that has subscribed, at QoS 1, to filters of its own. */
  async recipient(name: string, filters: readonly string[], options: IClientOptions = {}): Promise<Recipient> {
    const got: IPublishPacket[] = []
    const client = await this.#connect(this.gateway.addresses.recipients.port, { clientId: name, username: name, ...options }, (packet) => got.push(packet))
    const recipient = new Recipient(name, filters, client, got)
    for (const filter of filters) await recipient.subscribe(filter)
    return recipient
  }

  async #connect(port: number, options: IClientOptions, arrived: (packet: IPublishPacket) => void = () => {}): Promise<MqttClient> {
    const client = connect({ host: '127.0.0.1', port, protocolVersion: 4, reconnectPeriod: 0, connectTimeout: 5_000, ...options })
    this.#open.push(client)
    // Before CONNACK: what waited for a persistent session may come in the same piece as it.
    client.on('message', (_topic, _payload, packet) => arrived(packet))
    await new Promise<void>((done, failed) => {
      client.once('connect', () => done())
      client.once('error', failed)
      client.once('close', () => failed(new Error('closed before it was admitted')))
    })
    client.on('error', () => undefined)
    // Small packets at once: waiting for the other side's delayed acknowledgement costs 40 ms each time.
    if (client.stream instanceof Socket) client.stream.setNoDelay(true)
    return client
  }

  /** Waits until everything accepted has been handed to the recipients' sockets. */
  async drained(): Promise<void> {
    await until(() => this.gateway.control.status().outbox.records === 0, 'the outbox to be empty')
  }

  /** After this, `got` of these recipients holds everything that had been sent before. */
  async settled(recipients: readonly Recipient[]): Promise<void> {
    await this.drained()
    await Promise.all(recipients.map((recipient) => recipient.fence()))
  }

  /** Asks the admin API with the token of the first administrator. */
  async admin<Answer>(method: 'GET' | 'POST', path: string, body?: unknown, token = readFileSync(this.gateway.adminTokenFile, 'utf8').trim()): Promise<Answer> {
    const { host, port } = this.gateway.addresses.admin
    const response = await fetch(`http://${host}:${port}${path}`, {
      method, headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok && path !== '/readyz') throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return (text === '' ? undefined : JSON.parse(text)) as Answer
  }

  async consent(operator: string, state: 'granted' | 'local_only' | 'refused' | 'withdrawn' | 'objected', ...purposes: readonly string[]): Promise<Receipt[]> {
    const receipts: Receipt[] = []
    for (const purpose of purposes) {
      receipts.push(await this.admin<Receipt>('POST', `/v1/operators/${operator}/consent`, { purpose, state, ...(state === 'granted' || state === 'local_only' ? { evidence: 'signed form 2026-114' } : {}) }))
    }
    return receipts
  }

  async notice(operator: string): Promise<void> {
    await this.admin('POST', `/v1/operators/${operator}/notice`, {})
  }

  /** Counters by their line without the value: `parapet_messages_refused_total{reason="truncated"}`. */
  async counters(): Promise<Map<string, number>> {
    const { host, port } = this.gateway.addresses.admin
    const text = await (await fetch(`http://${host}:${port}/metrics`)).text()
    return new Map(text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
  }
}

export interface Receipt {
  readonly receipt: string
  readonly state: string
  readonly seq: number
  readonly purged: number
  readonly swapped: number
  readonly on_the_wire: number
}

export class Terminal {
  readonly machine: string
  readonly client: MqttClient

  constructor(machine: string, client: MqttClient) {
    this.machine = machine
    this.client = client
  }

  /** Sends on the machine's own topic of a stream; resolves when the gateway has acknowledged. */
  async send(stream: string, message: Record<string, unknown> | Uint8Array, options: { readonly qos?: 0 | 1 | 2; readonly retain?: boolean } = {}): Promise<void> {
    const payload = message instanceof Uint8Array ? message : encode(stream, { machine_id: this.machine, ...message })
    await this.publish(`up/demo/${this.machine}/${stream}`, payload, options)
  }

  async publish(topic: string, payload: Uint8Array, { qos = 1, retain = false }: { readonly qos?: 0 | 1 | 2; readonly retain?: boolean } = {}): Promise<void> {
    await this.client.publishAsync(topic, Buffer.from(payload), { qos, retain })
  }
}

export class Recipient {
  readonly name: string
  readonly filters: readonly string[]
  readonly client: MqttClient
  readonly got: IPublishPacket[]

  constructor(name: string, filters: readonly string[], client: MqttClient, got: IPublishPacket[]) {
    this.name = name
    this.filters = filters
    this.client = client
    this.got = got
  }

  async subscribe(filter: string): Promise<void> {
    const [granted] = await this.client.subscribeAsync(filter, { qos: 1 })
    if (granted?.qos !== 1) throw new Error(`${this.name} may not subscribe to ${filter}`)
  }

  /** SUBACK comes behind every PUBLISH that was written before it: subscribing again is a fence. */
  async fence(): Promise<void> {
    await this.subscribe(this.filters[0] ?? '')
  }

  /** What came since the last time. */
  take(): IPublishPacket[] {
    return this.got.splice(0)
  }

  /** What came since the last time, readable. The stream is a level of the topic, as the rules file writes it. */
  takeSaid(): Said[] {
    return this.take().map((packet) => ({ topic: packet.topic, stream: packet.topic.split('/')[2] ?? '', message: decode(packet.topic.split('/')[2] ?? '', packet.payload as Buffer) }))
  }
}

export interface Said {
  readonly topic: string
  readonly stream: string
  readonly message: Record<string, unknown>
}

/** The filters under which each recipient gets everything that is meant for it. */
export const OWN_TOPICS: Readonly<Record<string, string>> = {
  'oem-cloud': 'out/service/+/+',
  'site-planner': 'out/planning/+/+',
  'rental-company': 'out/billing/+',
  'security-desk': 'out/security/+',
  'safety-archive': 'out/safety/+',
  'my-app': 'out/app/+',
}

// --------------------------------------------------------------------------------------------------------------- protobuf

/** Stream -> message, as config/rules/awp.yaml has it. */
export const MESSAGES: Readonly<Record<string, string>> = {
  status: 'Status', position: 'Position', track: 'PositionBatch', signals: 'SignalBatch', can: 'CanBatch', operator: 'OperatorEvent', session: 'SessionSummary', fault: 'Fault',
  safety: 'SafetyEvent', precheck: 'PreUseCheck', charge: 'ChargeRecord', comms: 'CommsLog', diag: 'DiagLog', device: 'DeviceInfo', consent: 'ConsentChoice',
}

const root = new protobuf.Root()
root.resolvePath = (_origin, target) => (target.startsWith('/') ? target : target.startsWith('google/') ? join(PROJECT, 'node_modules/protobufjs', target) : join(PROJECT, 'proto', target))
root.loadSync(readdirSync(join(PROJECT, 'proto/awp/v1')).map((file) => `awp/v1/${file}`), { keepCase: true })

export function typeOf(stream: string): protobuf.Type {
  return root.lookupType(`awp.v1.${MESSAGES[stream] ?? stream}`)
}

/** Names of fields that do not exist are mistakes of the test. */
export function encode(stream: string, message: Record<string, unknown>): Buffer {
  const type = typeOf(stream)
  for (const name of Object.keys(message)) if (type.fields[name] === undefined) throw new Error(`${type.name} has no field ${name}`)
  return Buffer.from(type.encode(type.fromObject(message)).finish())
}

/** Every field that is on the wire, and no other; a field that the schema does not have is an error. */
export function decode(stream: string, bytes: Uint8Array): Record<string, unknown> {
  const type = typeOf(stream)
  const foreign = fieldNumbers(bytes).filter((number) => type.fieldsById[number] === undefined)
  if (foreign.length > 0) throw new Error(`a ${type.name} left with unknown fields ${foreign.join()}`)
  return type.toObject(type.decode(bytes), { longs: Number, enums: String, bytes: String })
}

/** Numbers of the fields of a message, from its bytes alone. */
export function fieldNumbers(bytes: Uint8Array): number[] {
  const reader = protobuf.Reader.create(bytes)
  const numbers: number[] = []
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    numbers.push(tag >>> 3)
    reader.skipType(tag & 7)
  }
  return numbers
}

// ------------------------------------------------------------------------------------------------------------------- time

/** Waits for something that must come to pass. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 5_000): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`)
    await pause(2)
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((done) => void setTimeout(done, ms))
}
