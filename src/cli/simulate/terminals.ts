/**
 * The modem boxes of a simulated fleet: one MQTT connection each, under the name of its machine. While the gateway is away a
 * terminal keeps what it has to say and sends it late, marked as historical, as a real one does.
 */
import mqtt from 'mqtt'
import type { IClientOptions, MqttClient } from 'mqtt'
import { GatewayError } from '../../domain/errors.ts'
import type { Schemas } from '../../minimise/descriptor.ts'
import type { Message, StreamName } from './machine.ts'

export interface TerminalCounts {
  /** Handed over by the simulation. */
  made: number
  /** Written to a connection. */
  sent: number
  bytes: number
  /** QoS 1 and 2 sent, and acknowledged by the gateway. */
  asked: number
  acked: number
  /** Given up: the store of a terminal was full. */
  dropped: number
  readonly streams: Map<StreamName, { messages: number; bytes: number }>
}

export interface Terminals {
  readonly counts: Readonly<TerminalCounts>
  /** Terminals that the gateway holds a connection with now. */
  readonly connected: number
  /** Terminals that the gateway does not let in, by the reason it gave. */
  readonly refused: ReadonlyMap<string, number>
  /** Waiting in the terminals' stores. */
  readonly waiting: number
  /** Takes one message of the simulation; returns its encoded bytes. */
  publish(message: Message): Uint8Array
  /** Waits for acknowledgements, at most so long, then disconnects. */
  close(graceMs?: number): Promise<void>
}

/** QoS 1 and 2 messages of one terminal that are under way; the rest waits in its store. */
const WINDOW = 128
/** Messages that one terminal keeps while the gateway is away; then the oldest goes. */
const STORE_MAX = 4_000
const CONNECT_MS = 10_000
const CONNECT_AT_ONCE = 100
const RECONNECT_MS = 1_000
/** What waited longer than this is late. */
const LATE_MS = 5_000

/**
 * Connects a terminal for every machine.
 * Errors: NO-GATEWAY nobody answers, REFUSED every terminal is turned away.
 * @param url       `mqtt://HOST:PORT` of the terminals' listener
 * @param machines  ids: user names and client ids of the connections
 * @param now       clock that tells what is late; default the system's
 */
export async function connectTerminals(options: { readonly url: string; readonly machines: readonly string[]; readonly schemas: Schemas; readonly now?: () => number }): Promise<Terminals> {
  const { url, machines, schemas, now = Date.now } = options
  const counts: TerminalCounts = { made: 0, sent: 0, bytes: 0, asked: 0, acked: 0, dropped: 0, streams: new Map() }
  const refused = new Map<string, number>()
  const terminals = new Map<string, Terminal>()

  const reasons: Error[] = []
  for (let at = 0; at < machines.length; at += CONNECT_AT_ONCE) {
    await Promise.all(machines.slice(at, at + CONNECT_AT_ONCE).map((id) => openTerminal(id, url).then((terminal) => terminals.set(id, terminal), (error: unknown) => reasons.push(error as Error))))
    // Whoever nobody answers need not be asked a thousand times.
    if (terminals.size === 0) break
  }
  for (const reason of reasons) refused.set(reason.message, (refused.get(reason.message) ?? 0) + 1)
  if (terminals.size === 0) throw connectError(url, reasons[0])

  return {
    counts,
    refused,
    get connected() {
      return [...terminals.values()].filter((terminal) => terminal.client.connected).length
    },
    get waiting() {
      return [...terminals.values()].reduce((sum, terminal) => sum + terminal.store.length, 0)
    },
    publish(message) {
      const payload = schemas.encode(message.type, message.body)
      const terminal = terminals.get(message.machine)
      if (terminal === undefined) return payload
      counts.made += 1
      terminal.store.push({ message, payload, madeMs: now() })
      if (terminal.store.length > STORE_MAX) {
        terminal.store.shift()
        counts.dropped += 1
      }
      drain(terminal)
      return payload
    },
    async close(graceMs = 3_000) {
      const end = performance.now() + graceMs
      while (performance.now() < end && [...terminals.values()].some((terminal) => terminal.client.connected && (terminal.flying > 0 || terminal.store.length > 0))) {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await Promise.all([...terminals.values()].map(({ client }) => client.endAsync(true)))
    },
  }

  function drain(terminal: Terminal): void {
    const { client, store } = terminal
    while (store.length > 0 && client.connected && terminal.flying < WINDOW) {
      const { message, payload, madeMs } = store.shift()!
      const late = now() - madeMs > LATE_MS
      const bytes = late ? schemas.encode(message.type, { ...message.body, historical: true }) : payload
      counts.sent += 1
      counts.bytes += bytes.length
      const stream = counts.streams.get(message.stream) ?? { messages: 0, bytes: 0 }
      counts.streams.set(message.stream, stream)
      stream.messages += 1
      stream.bytes += bytes.length
      if (message.qos > 0) {
        counts.asked += 1
        terminal.flying += 1
      }
      client.publish(message.topic, bytes as Buffer, { qos: message.qos }, (error) => {
        if (message.qos === 0) return
        terminal.flying -= 1
        if (error === undefined || error === null) counts.acked += 1
        drain(terminal)
      })
    }
  }

  async function openTerminal(id: string, address: string): Promise<Terminal> {
    const settings: IClientOptions = {
      protocolVersion: 4, clientId: id, username: id, clean: true, keepalive: 30, connectTimeout: CONNECT_MS, reconnectPeriod: RECONNECT_MS, queueQoSZero: false, resubscribe: false,
    }
    const client = mqtt.connect(address, settings)
    const terminal: Terminal = { client, store: [], flying: 0 }
    // The first answer decides; later ones are the client's own business.
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve())
      client.once('error', reject)
      client.once('close', () => reject(new Error('closed without an answer')))
    }).catch(async (error: unknown) => {
      await client.endAsync(true)
      throw error
    })
    client.on('error', () => {})
    client.on('connect', () => drain(terminal))
    return terminal
  }
}

interface Terminal {
  readonly client: MqttClient
  readonly store: { readonly message: Message; readonly payload: Uint8Array; readonly madeMs: number }[]
  /** QoS 1 and 2 messages not yet acknowledged. */
  flying: number
}

function connectError(url: string, reason: Error | undefined): GatewayError {
  const code = (reason as NodeJS.ErrnoException | undefined)?.code
  if (code === 'ECONNREFUSED' || code === 'ENOTFOUND' || code === 'EHOSTUNREACH' || code === 'ETIMEDOUT') {
    return new GatewayError('NO-GATEWAY', `No gateway answers at ${url}.`, 'Start one with npm start, or name it with --url.')
  }
  return new GatewayError('REFUSED', `The gateway at ${url} lets none of the terminals in (${reason?.message ?? 'no reason given'}).`, 'Its machine registry must be the one that is simulated: name its gateway file with --config.')
}
