/**
 * A cloud broker that does what a test tells it to, built on the packet codec alone. It keeps every PUBLISH that it read, in order,
 * with the number of the connection it came over.
 */
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TlsOptions } from 'node:tls'
import { generate, parser, type IConnackPacket, type IConnectPacket, type IPublishPacket, type ISubscription, type Packet } from 'mqtt-packet'

export interface CloudOptions {
  readonly protocol?: 4 | 5
  /** What CONNACK grants; `reasonCode` (returnCode in 3.1.1) other than 0 refuses. */
  readonly connack?: Partial<IConnackPacket> & { readonly properties?: IConnackPacket['properties'] }
  /** The answer to a PUBLISH: a reason code, or nothing at all. */
  readonly answer?: Answer
  readonly tls?: TlsOptions
}

/** @param nth  number of the PUBLISH on its connection, from 1 */
export type Answer = (publish: Arrived, nth: number, line: Line) => number | undefined

export interface Arrived {
  readonly topic: string
  readonly payload: Buffer
  readonly text: string
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly dup: boolean
  readonly packetId: number
  readonly connection: number
  readonly alias: number | undefined
  readonly contentType: string | undefined
  readonly expirySeconds: number | undefined
  readonly user: Readonly<Record<string, string>>
}

export interface Line {
  readonly socket: Socket
  readonly number: number
  readonly connect: IConnectPacket
  send(packet: Packet): void
}

export class Cloud {
  answer: Answer
  connack: NonNullable<CloudOptions['connack']>
  readonly got: Arrived[] = []
  /** What clients asked for, what they are granted, and the packet ids that they acknowledged. */
  readonly subscribed: ISubscription[] = []
  grant = 1
  readonly taken: number[] = []
  readonly lines: Line[] = []
  /** Every byte, of every connection. */
  readonly heard: Buffer[] = []
  /** When each CONNECT came, in ms of the monotonic clock. */
  readonly connects: number[] = []
  /** Of what was read and not answered, at most. */
  mostUnanswered = 0
  readonly #protocol: 4 | 5
  readonly #tls: TlsOptions | undefined
  #server: Server | undefined
  #port = 0
  readonly #sockets = new Set<Socket>()

  private constructor(options: CloudOptions) {
    this.#protocol = options.protocol ?? 5
    this.#tls = options.tls
    this.answer = options.answer ?? (() => 0)
    this.connack = options.connack ?? {}
  }

  static async open(options: CloudOptions = {}): Promise<Cloud> {
    const cloud = new Cloud(options)
    await cloud.start()
    return cloud
  }

  get url(): string {
    return `mqtt${this.#tls === undefined ? '' : 's'}://127.0.0.1:${this.#port}`
  }

  get port(): number {
    return this.#port
  }

  get texts(): string[] {
    return this.got.map(({ text }) => text)
  }

  /** On the same port as before. */
  async start(): Promise<void> {
    const server = this.#tls === undefined ? createServer() : createTlsServer(this.#tls)
    server.on(this.#tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => this.#accept(socket))
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    server.on('tlsClientError', () => undefined)
    this.#server = server
    await new Promise<void>((done) => void server.listen(this.#port, '127.0.0.1', done))
    this.#port = (server.address() as AddressInfo).port
  }

  /** Gone, as when the plug is pulled: every connection is reset. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    const closed = new Promise<void>((done) => void (server === undefined ? done() : server.close(() => done())))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #accept(socket: Socket): void {
    const version = { protocolVersion: this.#protocol }
    const parse = parser(version)
    const aliases = new Map<number, string>()
    const open = new Set<number>()
    let line: Line | undefined
    let nth = 0
    const send = (packet: Packet): void => {
      const id = (packet as { messageId?: number }).messageId
      if ((packet.cmd === 'puback' || packet.cmd === 'pubcomp' || (packet.cmd === 'pubrec' && (packet.reasonCode ?? 0) >= 0x80)) && id !== undefined) open.delete(id)
      if (!socket.destroyed) socket.write(generate(packet, version))
    }
    socket.on('error', () => undefined)
    parse.on('error', () => socket.destroy())
    parse.on('packet', (packet) => {
      if (packet.cmd === 'connect') {
        line = { socket, number: this.lines.length + 1, connect: packet, send }
        this.lines.push(line)
        this.connects.push(performance.now())
        send({ cmd: 'connack', sessionPresent: false, reasonCode: 0, returnCode: 0, ...this.connack })
      } else if (packet.cmd === 'publish' && line !== undefined) {
        const arrived = arrivedOf(packet, line.number, aliases)
        this.got.push(arrived)
        if (packet.qos > 0) open.add(packet.messageId ?? 0)
        this.mostUnanswered = Math.max(this.mostUnanswered, open.size)
        const code = this.answer(arrived, ++nth, line)
        if (code !== undefined && packet.qos > 0) acknowledge(line, arrived, code)
      } else if (packet.cmd === 'pubrel') {
        send({ cmd: 'pubcomp', messageId: packet.messageId ?? 0 })
      } else if (packet.cmd === 'pingreq') {
        send({ cmd: 'pingresp' })
      } else if (packet.cmd === 'subscribe') {
        this.subscribed.push(...packet.subscriptions)
        send({ cmd: 'suback', messageId: packet.messageId ?? 0, granted: packet.subscriptions.map(() => this.grant) })
      } else if (packet.cmd === 'puback') {
        this.taken.push(packet.messageId ?? 0)
      }
    })
    socket.on('data', (chunk: Buffer) => {
      this.heard.push(chunk)
      parse.parse(chunk)
    })
  }
}

/** PUBACK, or PUBREC for QoS 2. */
export function acknowledge(line: Line, { qos, packetId }: Arrived, code = 0): void {
  line.send({ cmd: qos === 2 ? 'pubrec' : 'puback', messageId: packetId, reasonCode: code })
}

function arrivedOf(packet: IPublishPacket, connection: number, aliases: Map<number, string>): Arrived {
  const alias = packet.properties?.topicAlias
  if (alias !== undefined && packet.topic !== '') aliases.set(alias, packet.topic)
  const topic = packet.topic === '' ? aliases.get(alias ?? 0) : packet.topic
  if (topic === undefined) throw new Error('an alias that was never set')
  const payload = Buffer.from(packet.payload)
  return {
    topic, payload, text: payload.toString(), qos: packet.qos, retain: packet.retain, dup: packet.dup, packetId: packet.messageId ?? 0, connection, alias,
    contentType: packet.properties?.contentType, expirySeconds: packet.properties?.messageExpiryInterval, user: { ...packet.properties?.userProperties } as Record<string, string>,
  }
}
