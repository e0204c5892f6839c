/** A stage for the broker tests: ingress and egress on loopback ports, invented machines and recipients, and a client that sees every byte. */
import { connect as connectSocket } from 'node:net'
import type { Socket } from 'node:net'
import { randomBytes } from 'node:crypto'
import { connectAsync } from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import { generate, parser } from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import { createEgress } from '../../src/broker/egress.ts'
import type { Egress, EgressOptions } from '../../src/broker/egress.ts'
import { createCredentials } from '../../src/broker/identify.ts'
import type { RecipientAccount } from '../../src/broker/identify.ts'
import { createIngress } from '../../src/broker/ingress.ts'
import type { Ingress, IngressOptions } from '../../src/broker/ingress.ts'
import { listen } from '../../src/broker/listener.ts'
import type { Listener } from '../../src/broker/listener.ts'
import type { FleetId, MachineId, OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { Clock, Machine, OutboxRecord, Publish } from '../../src/domain/ports.ts'

export const clock: Clock = { now: () => Date.now(), monotonic: () => performance.now() }

export function machine(id: string, more: Partial<Machine> = {}): Machine {
  return {
    id: id as MachineId, fleet: 'north' as FleetId, model: 'boom', labels: {}, country: 'DE', operatorCollection: 'on',
    holder: undefined, credential: undefined, certificate: undefined, ...more,
  }
}

export function account(id: string, more: Partial<RecipientAccount> = {}): RecipientAccount {
  return { id: id as RecipientId, user: id, credential: undefined, certificate: undefined, ...more }
}

export function record(recipient: string, topic: string, payload: string | Buffer, more: Partial<OutboxRecord> = {}): OutboxRecord {
  return {
    id: randomBytes(16), output: 'planner' as OutputId, recipient: recipient as RecipientId, stream: 'status' as StreamId, topic, qos: 1, retain: false,
    machine: 'SN-1' as MachineId, holder: undefined, subjects: [], machineOrder: 1, acquiredAtMs: 0, receivedAtMs: 0, purpose: 'service.operate' as PurposeId,
    basis: 'contract', country: 'DE', consentSeq: [], policy: 'p', rulesHash: 'h', plan: 'x', keyId: 'k', storageClass: 'ordinary', expiresAtMs: undefined,
    payload: Buffer.from(payload), payloadIfWithdrawn: undefined, categories: 0, via: ['local'], ...more,
  }
}

/** Counters and log lines, to be looked at afterwards. */
export function witness() {
  const counts = new Map<string, number>()
  const lines: { text: string; fields: unknown }[] = []
  const write = (text: string, fields?: unknown): void => void lines.push({ text, fields })
  return {
    counts, lines,
    count: (name: string, by = 1): void => void counts.set(name, (counts.get(name) ?? 0) + by),
    log: { info: write, warn: write },
    of: (name: string): number => counts.get(name) ?? 0,
  }
}
export type Witness = ReturnType<typeof witness>

export interface IngressStage extends Witness {
  readonly ingress: Ingress
  readonly listener: Listener
  readonly port: number
  readonly seen: Publish[]
  /** Taken at each look, so a test may add and remove. */
  readonly machines: Map<string, Machine>
  readonly close: () => Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Payloads are copied into `seen`, because the pipeline may not keep them. */
export async function startIngress(overrides: Partial<IngressOptions> = {}): Promise<IngressStage> {
  const seeing = witness()
  const seen: Publish[] = []
  const machines = new Map<string, Machine>([['SN-1', machine('SN-1')], ['SN-2', machine('SN-2')]])
  const ingress = await createIngress({
    directory: {
      machine: (id) => machines.get(id),
      machineByCertificate: (name) => [...machines.values()].find(({ certificate }) => certificate === name),
    },
    credentials: createCredentials(),
    handle: (publish) => void seen.push({ ...publish, payload: Buffer.from(publish.payload) }),
    committed: (callback) => callback(undefined),
    clock, count: seeing.count, log: seeing.log,
    ...overrides,
    limits: { messagesPerSecond: Infinity, controlPerSecond: Infinity, ...overrides.limits },
  })
  const listener = await listen({ name: 'terminals', host: '127.0.0.1', port: 0, accept: ingress.accept, count: seeing.count, log: seeing.log })
  const close = async (): Promise<void> => void await Promise.all([listener.close(1_000), ingress.close(200)])
  return {
    ...seeing, ingress, listener, port: listener.port, seen, machines, close, [Symbol.asyncDispose]: close,
  }
}

export interface EgressStage extends Witness {
  readonly egress: Egress
  readonly port: number
  readonly accounts: Map<string, RecipientAccount>
  readonly topics: Map<string, string[]>
  readonly delivered: { record: OutboxRecord; credential: string }[]
  readonly publish: (record: OutboxRecord) => Promise<number>
  readonly close: () => Promise<void>
}

export async function startEgress(overrides: Partial<EgressOptions> = {}): Promise<EgressStage> {
  const seeing = witness()
  const accounts = new Map([['planner-co', account('planner-co')], ['oem-cloud', account('oem-cloud')]])
  const topics = new Map([['planner-co', ['out/planning/{machine_id}']], ['oem-cloud', ['out/service/{stream}/{machine_id}', 'out/{area}/{machine_id}']]])
  const delivered: { record: OutboxRecord; credential: string }[] = []
  const egress = await createEgress({
    directory: {
      recipient: (id) => accounts.get(id),
      recipientByCertificate: (name) => [...accounts.values()].find(({ certificate }) => certificate === name),
    },
    credentials: createCredentials(),
    allowed: (recipient) => topics.get(recipient) ?? [],
    gate: () => true,
    onDelivered: (record, credential) => void delivered.push({ record, credential }),
    clock, count: seeing.count, log: seeing.log,
    ...overrides,
  })
  const listener = await listen({ name: 'recipients', host: '127.0.0.1', port: 0, accept: egress.accept, count: seeing.count, log: seeing.log })
  return {
    ...seeing, egress, port: listener.port, accounts, topics, delivered,
    publish: (given) => new Promise((resolve) => {
      egress.publish(given, resolve)
    }),
    async close() {
      await Promise.all([listener.close(1_000), egress.close(200)])
    },
  }
}

/** mqtt.js, which neither reconnects nor asks twice. */
export async function client(port: number, options: IClientOptions): Promise<MqttClient> {
  return connectAsync({ host: '127.0.0.1', port, protocolVersion: 4, reconnectPeriod: 0, connectTimeout: 5_000, ...options })
}

/** A client on bare bytes. */
export class RawClient {
  readonly socket: Socket
  readonly packets: Packet[] = []
  readonly closed: Promise<void>
  bytes = 0
  #wake: () => void = () => undefined

  /** @param to  a port, or a socket that is connected or about to be */
  constructor(to: number | Socket) {
    this.socket = typeof to === 'number' ? connectSocket({ host: '127.0.0.1', port: to, allowHalfOpen: true }) : to
    const read = parser({ protocolVersion: 4 })
    read.on('packet', (packet) => {
      this.packets.push(packet)
      this.#wake()
    })
    this.socket.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length
      read.parse(chunk)
    })
    this.socket.on('error', () => undefined)
    this.closed = new Promise((resolve) => {
      this.socket.on('end', () => this.socket.destroy())
      this.socket.on('close', () => {
        this.#wake()
        resolve()
      })
    })
  }

  send(...packets: Packet[]): void {
    this.socket.write(Buffer.concat(packets.map((packet) => generate(packet))))
  }

  write(bytes: Buffer | string): void {
    this.socket.write(bytes)
  }

  /** CONNECT and the return code of CONNACK. */
  async connect(username: string, more: Partial<Packet & { clientId: string; clean: boolean; keepalive: number; password: Buffer; will: unknown }> = {}): Promise<number> {
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: username, keepalive: 0, username, ...more } as Packet)
    const connack = await this.next('connack')
    return (connack as unknown as { returnCode: number }).returnCode
  }

  /** Takes the first packet of a kind out of what has come. */
  async next(cmd: Packet['cmd'], timeoutMs = 20_000): Promise<Packet> {
    const until = Date.now() + timeoutMs
    for (;;) {
      const at = this.packets.findIndex((packet) => packet.cmd === cmd)
      if (at !== -1) return this.packets.splice(at, 1)[0]!
      if (this.socket.destroyed || Date.now() > until) throw new Error(`no ${cmd} came`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(1, until - Date.now()))
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  /** Ids of all acknowledgements of a kind so far, in the order they came. */
  ids(cmd: Packet['cmd']): number[] {
    return this.packets.filter((packet) => packet.cmd === cmd).map(({ messageId }) => messageId ?? 0)
  }

  destroy(): void {
    this.socket.destroy()
  }

  [Symbol.dispose](): void {
    this.destroy()
  }
}

export function publishPacket(topic: string, payload: string | Buffer, qos: 0 | 1 | 2 = 0, messageId = 1, more: { dup?: boolean; retain?: boolean } = {}): Packet {
  return { cmd: 'publish', topic, payload, qos, dup: false, retain: false, ...(qos > 0 ? { messageId } : {}), ...more }
}

export async function until(condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > end) throw new Error('it did not come to pass in time')
    await pause(2)
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms))
}
