/**
 * One connection to a cloud broker: dialled, used, ended. A new one is made for every attempt, so nothing that mqtt.js keeps (its
 * offline queue, its store, its packet ids) outlives a connection, and nothing is sent again but by the bridge. The session is
 * clean for the same reason: the outbox is the memory, not the broker.
 *
 * We dial ourselves. mqtt.js would take a password from the address and a proxy from the environment, and it hides the socket,
 * which a withdrawal must be able to reset.
 */
import { readFileSync, statSync } from 'node:fs'
import { connect as connectPlain, Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { connect as connectMqtt, MqttClient } from 'mqtt'
import type { IClientOptions, IClientPublishOptions, IConnackPacket, IStore } from 'mqtt'
import { GatewayError } from '../domain/errors.ts'

/** Where and how to connect. */
export interface LinkOptions {
  readonly address: LinkAddress
  /** 4 = MQTT 3.1.1. */
  readonly protocol: 4 | 5
  readonly clientId: string
  /** User name and password on two lines; read at every attempt, so that a new password needs no restart. */
  readonly credentialsFile: string | undefined
  /** PEM texts. Without `ca` the system's authorities. */
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly serverName?: string }
  readonly keepaliveS: number
  /** From the first SYN to CONNACK. */
  readonly connectMs: number
  /** A link that takes instead of sending: it subscribes, and keeps its session at the broker so that nothing is lost meanwhile. */
  readonly takes?: LinkIntake | undefined
}

export interface LinkIntake {
  readonly filters: readonly string[]
  /** Largest PUBLISH that the broker may send. */
  readonly packetBytes: number
  /** One after another. The broker hears of it (PUBACK) once `done` was called without an error; an error ends the link. */
  readonly take: (message: { readonly topic: string; readonly payload: Uint8Array; readonly qos: 0 | 1; readonly retain: boolean }, done: (error: Error | undefined) => void) => void
}

export interface LinkAddress {
  readonly href: string
  readonly host: string
  readonly port: number
  readonly secure: boolean
  readonly web: boolean
}

/** What the broker allows. [MQTT 5, 3.2.2.3] */
export interface LinkTerms {
  readonly receiveMaximum: number
  readonly maximumPacketSize: number
  readonly maximumQos: 0 | 1 | 2
  readonly retains: boolean
}

/** What leaves: nothing in it comes from the inbound envelope. */
export interface LinkMessage {
  readonly topic: string
  readonly payload: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  /** The rest is for MQTT 5; 3.1.1 has no place for it. */
  readonly contentType: string
  readonly expirySeconds: number | undefined
  readonly user: Readonly<Record<string, string>>
}

export interface LinkEvents {
  /** CONNACK said yes. */
  up(terms: LinkTerms): void
  /** Once, whatever ended it. No `answered` comes afterwards. */
  down(end: LinkEnd): void
  /** The socket takes more again. */
  drained(): void
}

export interface LinkEnd {
  readonly reason: LinkReason
  /** What Node, TLS or the broker called it: `ECONNREFUSED`, `0x87`. */
  readonly code: string
}

/** Why a connection ended or never came to be, and what to do about it. */
export const LINK_REASONS = {
  refused: 'Nothing listens at the address: check host and port of its url, and whether the broker runs.',
  unreachable: 'The host cannot be found or reached: check the url, name resolution and the route.',
  tls: 'The TLS handshake failed: check the certificate of the broker, `tls: ca` and `tls: server_name` of the bridge, and its own certificate.',
  credentials: 'Its credentials_file cannot be used: it must be readable by this user alone (mode 0600) and hold the user name and the password on two lines.',
  login: 'The broker does not admit it: check credentials_file, the certificate, and what the broker allows this client id.',
  client_id: 'The broker does not accept the client id: set client_id.',
  protocol: 'The broker does not speak this version of MQTT: set protocol to 4 or 5.',
  unavailable: 'The broker says that it cannot serve now: it is tried again by itself.',
  silent: 'The broker did not answer in time: look at the broker and at the network between.',
  closed: 'The broker or the network closed the connection: it is tried again by itself.',
  disconnected: 'The broker ended the connection and said why: see its log.',
  intruder: 'The broker sent what a broker may not send to a bridge: check that the url is the right one.',
  qos: 'The broker takes messages at QoS 0 only, which would lose them: use another broker.',
  subscription: 'The broker does not let us subscribe to commands: grant the log-in the topics under `downlink` of the bridge.',
  full: 'A command could not be stored, so it was not acknowledged: look at the disk that holds the data folder.',
  withdrawal: 'It was reset by the gateway because of a withdrawal and comes back by itself.',
  stopped: 'The gateway is stopping.',
} as const
export type LinkReason = keyof typeof LINK_REASONS

export interface Link {
  /**
   * Writes one message. `answered` is called with the reason code of its PUBACK, PUBREC or PUBCOMP (0 in 3.1.1), for QoS 0 never.
   * False when the broker does not take packets of this size: nothing was written.
   */
  publish(message: LinkMessage, answered: (code: number) => void): boolean
  /** More would only wait in memory. */
  readonly congested: boolean
  /** A mark behind what was written so far, and the mark up to which everything has left this process. */
  readonly written: number
  readonly left: number
  /** Ends it now: what waits in this process or in the kernel does not leave. */
  reset(reason: LinkReason): void
  /** Says goodbye [MQTT-3.14] and resolves when the socket is closed. */
  end(): Promise<void>
}

/**
 * @throws GatewayError BRIDGE-URL
 */
export function linkAddress(url: string): LinkAddress {
  const parsed = URL.parse(url)
  const kind = parsed === null ? undefined : SCHEMES[parsed.protocol]
  if (parsed === null || kind === undefined || parsed.hostname === '' || parsed.username !== '' || parsed.password !== '') {
    throw new GatewayError('BRIDGE-URL', 'The url of a bridge is no address of a broker.', 'Write mqtts://host:port, and put the password into credentials_file.')
  }
  return {
    href: parsed.href, host: parsed.hostname.replace(/^\[|\]$/g, ''), port: parsed.port === '' ? kind.port : Number(parsed.port), secure: kind.secure, web: kind.web,
  }
}

/** Begins to connect. Exactly one `down` follows, sooner or later. */
export function openLink(options: LinkOptions, events: LinkEvents): Link {
  return new MqttLink(options, events)
}

class MqttLink implements Link {
  readonly #options: LinkOptions
  readonly #events: LinkEvents
  #raw: Socket | undefined
  /** What MQTT runs over: the socket, its TLS or its WebSocket. */
  #stream: Duplex | undefined
  #client: MqttClient | undefined
  #timer: NodeJS.Timeout | undefined
  #isUp = false
  #isDown = false
  #isSecured = false
  #terms: LinkTerms = NO_TERMS
  /** Said by the broker before it closes, or by us. */
  #end: LinkEnd | undefined
  /** Topic -> alias. [MQTT-3.3.2-8] */
  readonly #aliases = new Map<string, number>()
  #aliasMaximum = 0
  #published = 0
  /** Bytes read since the last whole packet. */
  #unparsed = 0

  constructor(options: LinkOptions, events: LinkEvents) {
    this.#options = options
    this.#events = events
    this.#timer = setTimeout(() => this.#fail({ reason: 'silent', code: 'CONNECT' }), options.connectMs)
    this.#dial()
  }

  get congested(): boolean {
    return this.#stream?.writableNeedDrain ?? true
  }

  get written(): number {
    return this.#stream instanceof Socket ? this.#stream.bytesWritten : this.#published
  }

  get left(): number {
    const waiting = Math.max(this.#stream?.writableLength ?? 0, this.#raw?.writableLength ?? 0)
    if (this.#stream instanceof Socket) return this.#stream.bytesWritten - waiting
    // Frames of a WebSocket have no bytes of their own to count by: all of them wait until nothing does.
    return waiting === 0 ? this.#published : 0
  }

  publish(message: LinkMessage, answered: (code: number) => void): boolean {
    const { payload, qos } = message
    if (sizeOf(message) > this.#terms.maximumPacketSize) return false // [MQTT-3.2.2-15]
    const asked: IClientPublishOptions = {
      // [MQTT-3.2.2-11], [MQTT-3.2.2-14]: what the broker cannot do is not asked for. QoS 1 in place of 2 may repeat, under the same id.
      qos: Math.min(qos, this.#terms.maximumQos) as 0 | 1 | 2, retain: message.retain && this.#terms.retains, dup: false,
    }
    this.#published++
    let topic = message.topic
    if (this.#options.protocol === 5) {
      const alias = this.#aliasOf(topic)
      if (alias < 0) topic = ''
      asked.properties = {
        contentType: message.contentType,
        userProperties: message.user,
        ...(message.expirySeconds === undefined ? {} : { messageExpiryInterval: message.expirySeconds }),
        ...(alias === 0 ? {} : { topicAlias: Math.abs(alias) }),
      }
    }
    const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length)
    if (qos === 0) {
      this.#client?.publish(topic, bytes, asked)
      return true
    }
    this.#client?.publish(topic, bytes, asked, (error) => {
      if (this.#isDown) return
      if (error === null || error === undefined) return answered(0)
      const code = (error as { readonly code?: unknown }).code
      if (typeof code === 'number') return answered(code)
      // Not an answer of the broker: mqtt.js gave up the message, so whatever became of it is unknown. Later, because it may be
      // walking over all of them, and ending it now would take away the rest under it.
      process.nextTick(() => this.#fail({ reason: 'closed', code: 'UNANSWERED' }))
    })
    return true
  }

  reset(reason: LinkReason): void {
    this.#fail({ reason, code: 'RESET' })
  }

  end(): Promise<void> {
    this.#end = { reason: 'stopped', code: 'END' }
    const client = this.#client
    if (client === undefined || !this.#isUp || this.#isDown) {
      this.#fail(this.#end)
      return Promise.resolve()
    }
    return new Promise((resolve) => {
      const late = setTimeout(() => {
        this.#fail(this.#end as LinkEnd)
        resolve()
      }, END_MS)
      client.once('close', () => {
        clearTimeout(late)
        resolve()
      })
      client.end(false)
    })
  }

  // ------------------------------------------------------------------------------------------------------------- connecting

  #dial(): void {
    const { address, tls } = this.#options
    const raw = connectPlain({ host: address.host, port: address.port, noDelay: true })
    this.#raw = raw
    const failed = (error: NodeJS.ErrnoException): void => this.#fail(endOf(error, address.secure && raw.bytesRead > 0 && !this.#isSecured))
    raw.on('error', failed)
    raw.on('close', () => this.#fail(this.#end ?? { reason: address.secure && !this.#isSecured ? 'tls' : 'closed', code: 'CLOSE' }))
    raw.once('connect', () => {
      if (!address.secure) return this.#greet(raw)
      try {
        const secured: TLSSocket = connectTls({
          socket: raw, minVersion: 'TLSv1.2', ...(tls.ca === undefined ? {} : { ca: tls.ca }), ...(tls.cert === undefined ? {} : { cert: tls.cert }), ...(tls.key === undefined ? {} : { key: tls.key }),
          host: address.host, ...(tls.serverName === undefined ? {} : { servername: tls.serverName }),
        }, () => {
          this.#isSecured = true
          this.#greet(secured)
        })
        secured.on('error', (error: NodeJS.ErrnoException) => this.#fail(endOf(error, !this.#isSecured)))
      } catch (error) {
        // Our own certificate or key is none.
        this.#fail(endOf(error as NodeJS.ErrnoException, true))
      }
    })
  }

  /** CONNECT over a socket that is ready. */
  #greet(socket: Socket): void {
    if (this.#isDown) return
    const { protocol, clientId, keepaliveS, connectMs, address, takes } = this.#options
    let login: { readonly username?: string; readonly password?: string }
    try {
      login = this.#login()
    } catch {
      return this.#fail({ reason: 'credentials', code: 'FILE' })
    }
    const options: IClientOptions = {
      protocolVersion: protocol, clientId, clean: takes === undefined, keepalive: keepaliveS, ...login,
      // Sending must not put off the ping: a peer that is gone takes what we send for a long time. An answer half a keep alive late ends it.
      reschedulePings: false,
      reconnectPeriod: 0, connectTimeout: connectMs * 2, queueQoSZero: false, resubscribe: false, outgoingStore: NO_STORE, incomingStore: NO_STORE,
      // The library's own debug output shows payloads.
      log: () => undefined,
      ...(protocol === 5 ? { properties: {
        receiveMaximum: takes === undefined ? 1 : INTAKE_WINDOW, maximumPacketSize: takes?.packetBytes ?? INBOUND_BYTES,
        sessionExpiryInterval: takes === undefined ? 0 : INTAKE_SESSION_S, requestResponseInformation: false,
      } } : {}),
    }
    const client = address.web
      ? connectMqtt(address.href, { ...options, wsOptions: { createConnection: () => socket, perMessageDeflate: false } })
      : new MqttClient((made) => {
        made.once('close', () => undefined)
        return socket as never
      }, options)
    this.#client = client
    this.#stream = client.stream
    client.on('error', (error) => this.#fail(this.#end ?? endOf(error as NodeJS.ErrnoException, false)))
    client.on('close', () => this.#fail(this.#end ?? { reason: 'closed', code: 'CLOSE' }))
    client.on('connect', (connack: IConnackPacket) => this.#admitted(connack))
    client.on('packetreceive', (packet) => {
      this.#unparsed = 0
      // What was asked for at QoS 1 comes with at most that.
      const isTaken = takes !== undefined && (packet.cmd === 'suback' || (packet.cmd === 'publish' && packet.qos < 2))
      if (!WELCOME.has(packet.cmd) && !isTaken) this.#fail({ reason: 'intruder', code: packet.cmd })
    })
    if (takes !== undefined) {
      client.handleMessage = ({ topic, payload, qos, retain }, done) => {
        if (this.#isDown) return
        takes.take({ topic, payload: Buffer.from(payload), qos: qos === 0 ? 0 : 1, retain }, (error) => {
          if (this.#isDown) return
          if (error === undefined) done()
          // Not acknowledged: it comes again with the next connection.
          else process.nextTick(() => this.#fail({ reason: 'full', code: 'NOT-STORED' }))
        })
      }
    }
    client.on('disconnect', ({ reasonCode = 0 }) => {
      this.#end = { reason: 'disconnected', code: hex(reasonCode) }
    })
    client.stream.on('drain', () => this.#events.drained())
    // A broker sends us acknowledgements. One that announces a huge packet must not fill the memory.
    socket.on('data', (chunk: Buffer) => {
      this.#unparsed += chunk.length
      if (this.#unparsed > UNPARSED_BYTES) this.#fail({ reason: 'intruder', code: 'SIZE' })
    })
  }

  #login(): { readonly username?: string; readonly password?: string } {
    const file = this.#options.credentialsFile
    if (file === undefined) return {}
    // [IEC 62443-4-2 CR 1.5] Who can read the file is whoever it names.
    if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0) throw new Error('others can read it')
    const [username, password] = readFileSync(file, 'utf8').split(/\r?\n/)
    if (username === undefined || username === '') throw new Error('no user name')
    return password === undefined || password === '' ? { username } : { username, password }
  }

  #admitted(connack: IConnackPacket): void {
    if (this.#isDown || this.#isUp) return
    const { receiveMaximum = 65_535, maximumPacketSize = Infinity, maximumQoS = 2, retainAvailable = true, topicAliasMaximum = 0 } = connack.properties ?? {}
    this.#terms = { receiveMaximum, maximumPacketSize, maximumQos: maximumQoS as 0 | 1 | 2, retains: retainAvailable }
    if (this.#terms.maximumQos === 0) return this.#fail({ reason: 'qos', code: '0' })
    // [MQTT5-3.2.2-21] Zero is a protocol error, and would be a connection over which nothing is ever sent.
    if (receiveMaximum === 0) return this.#fail({ reason: 'protocol', code: 'RECEIVE-MAXIMUM' })
    this.#aliasMaximum = Math.min(topicAliasMaximum, ALIASES)
    const { takes, protocol } = this.#options
    if (takes === undefined) return this.#ready()
    // What is retained there was said before anybody asked for it. [MQTT 5, 3.8.3.1]
    const asked = protocol === 5 ? { qos: 1, rh: 2, rap: true } as const : { qos: 1 } as const
    this.#client?.subscribe([...takes.filters], asked, (error, granted) => {
      if (this.#isDown) return
      if (error !== null || granted === undefined || granted.length < takes.filters.length || granted.some(({ qos }) => qos > 2)) this.#fail({ reason: 'subscription', code: 'SUBACK' })
      else this.#ready()
    })
  }

  #ready(): void {
    this.#isUp = true
    clearTimeout(this.#timer)
    this.#events.up(this.#terms)
  }

  /** First come, first served, without eviction: to move an alias costs the topic that it saves. */
  #aliasOf(topic: string): number {
    const known = this.#aliases.get(topic)
    if (known !== undefined) return -known
    if (this.#aliases.size >= this.#aliasMaximum) return 0
    const alias = this.#aliases.size + 1
    this.#aliases.set(topic, alias)
    return alias
  }

  #fail(end: LinkEnd): void {
    if (this.#isDown) return
    this.#isDown = true
    clearTimeout(this.#timer)
    const raw = this.#raw
    if (raw !== undefined && !raw.destroyed) {
      // Through TLS too: an orderly end would first deliver what the kernel holds.
      if (raw.connecting) raw.destroy()
      else raw.resetAndDestroy()
    }
    this.#stream?.destroy()
    // Stops the timers of the library.
    if (this.#client !== undefined) this.#client.end(true)
    this.#events.down(this.#end ?? end)
  }
}

/** Ours is the only memory: mqtt.js asks this one for what to send again, and there is nothing. */
const NO_STORE: IStore = {
  put(_packet, done) {
    done()
    return NO_STORE
  },
  del(packet, done) {
    done(undefined, packet as never)
    return NO_STORE
  },
  get(_packet, done) {
    done(new Error('Nothing is stored.'))
    return NO_STORE
  },
  createStream: () => new Readable({ objectMode: true, read() { this.push(null) } }) as never,
  close: (done) => done(),
}

const SCHEMES: Readonly<Record<string, { readonly port: number; readonly secure: boolean; readonly web: boolean }>> = {
  'mqtt:': { port: 1883, secure: false, web: false },
  'mqtts:': { port: 8883, secure: true, web: false },
  'ws:': { port: 80, secure: false, web: true },
  'wss:': { port: 443, secure: true, web: true },
}

const NO_TERMS: LinkTerms = { receiveMaximum: 1, maximumPacketSize: 0, maximumQos: 0, retains: false }
/** What a broker may send to a client that has subscribed to nothing. */
const WELCOME: ReadonlySet<string> = new Set(['connack', 'puback', 'pubrec', 'pubcomp', 'pingresp', 'disconnect'])
const INBOUND_BYTES = 65_536
/** Commands that a broker may send without an answer, and how long it keeps those for a gateway that is away. */
const INTAKE_WINDOW = 16
const INTAKE_SESSION_S = 86_400
const UNPARSED_BYTES = 1_048_576
const ALIASES = 1_024
const END_MS = 500

/** An upper bound of the PUBLISH. [MQTT 5, 3.3] */
function sizeOf({ topic, payload, contentType, user }: LinkMessage): number {
  let bytes = 5 + 2 + Buffer.byteLength(topic) + 2 + 4 + 5 + 3 + 3 + contentType.length + payload.length
  for (const [name, value] of Object.entries(user)) bytes += 5 + name.length + Buffer.byteLength(value)
  return bytes
}

const UNREACHABLE: ReadonlySet<string> = new Set(['ENOTFOUND', 'EAI_AGAIN', 'ENETUNREACH', 'EHOSTUNREACH', 'ETIMEDOUT', 'EADDRNOTAVAIL'])
/** CONNACK, by return code of 3.1.1 and by reason code of 5. */
const REFUSALS: Readonly<Record<number, LinkReason>> = {
  1: 'protocol', 2: 'client_id', 3: 'unavailable', 4: 'login', 5: 'login',
  0x84: 'protocol', 0x85: 'client_id', 0x86: 'login', 0x87: 'login', 0x88: 'unavailable', 0x89: 'unavailable', 0x8a: 'login', 0x8c: 'login', 0x9f: 'unavailable',
}

/** Only codes are kept: the message of a foreign error may hold anything. */
function endOf(error: NodeJS.ErrnoException & { readonly errors?: readonly NodeJS.ErrnoException[] }, inHandshake: boolean): LinkEnd {
  const code: unknown = error.code ?? error.errors?.[0]?.code
  if (typeof code === 'number') return { reason: REFUSALS[code] ?? 'disconnected', code: hex(code) }
  const name = typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : 'ERROR'
  if (name === 'ECONNREFUSED') return { reason: 'refused', code: name }
  if (UNREACHABLE.has(name)) return { reason: 'unreachable', code: name }
  if (inHandshake || /CERT|TLS|SSL|SIGNATURE|ISSUER/.test(name)) return { reason: 'tls', code: name }
  // mqtt.js and its parser have no codes for these.
  if (error.message === 'Keepalive timeout') return { reason: 'silent', code: 'KEEPALIVE' }
  return name === 'ERROR' ? { reason: 'intruder', code: 'PACKET' } : { reason: 'closed', code: name }
}

function hex(code: number): string {
  return `0x${code.toString(16).padStart(2, '0')}`
}
