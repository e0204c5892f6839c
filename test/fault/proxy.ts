/**
 * A TCP proxy that spoils what runs over it: delay, a narrow line, bytes that dribble, a line that goes dead without a word, a reset.
 * Settings hold for what comes from then on, in both directions.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

export interface Spoiled {
  /** Milliseconds that each piece is late, on each way. */
  delayMs: number
  /** Bytes a second, on each way. */
  bytesPerSecond: number
  /** One piece of so many is handed on a byte at a time. 0 = none. */
  dribble: number
  /** Nothing passes any more, and nobody is told: no FIN, no reset. */
  dead: boolean
  /** New connections are reset at once. */
  refuses: boolean
}

export class Proxy {
  readonly now: Spoiled = { delayMs: 0, bytesPerSecond: Infinity, dribble: 0, dead: false, refuses: false }
  /** When each connection was tried, in ms of the monotonic clock. */
  readonly tries: number[] = []
  /** Called with everything that the client sends, before it is handed on; true = cut the line instead of handing it on. */
  onUpstream: ((piece: Buffer) => boolean) | undefined
  /** The same for what the server sends. */
  onDownstream: ((piece: Buffer) => boolean) | undefined
  readonly #target: number
  #server: Server | undefined
  #port = 0
  readonly #sockets = new Set<Socket>()

  private constructor(target: number) {
    this.#target = target
  }

  static async open(target: number): Promise<Proxy> {
    const proxy = new Proxy(target)
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => proxy.#accept(client))
    proxy.#server = server
    await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
    proxy.#port = (server.address() as AddressInfo).port
    return proxy
  }

  get port(): number {
    return this.#port
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.#port}`
  }

  get connections(): number {
    return this.#sockets.size / 2
  }

  /** RST on everything that is connected. */
  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  async close(): Promise<void> {
    const server = this.#server
    const closed = new Promise<void>((done) => void (server === undefined ? done() : server.close(() => done())))
    this.reset()
    await closed
  }

  #accept(client: Socket): void {
    this.tries.push(performance.now())
    client.on('error', () => undefined)
    if (this.now.refuses) {
      client.resetAndDestroy()
      return
    }
    const server = connect({ host: '127.0.0.1', port: this.#target, noDelay: true })
    server.on('error', () => undefined)
    for (const [one, other, watch] of [[client, server, () => this.onUpstream], [server, client, () => this.onDownstream]] as const) {
      this.#sockets.add(one)
      const way = new Way(other, this.now)
      one.on('data', (piece: Buffer) => {
        if (this.now.dead) return
        if (watch()?.(piece) === true) this.reset()
        else way.hand(piece)
      })
      one.on('end', () => {
        if (!this.now.dead) setTimeout(() => other.end(), this.now.delayMs)
      })
      one.on('close', () => {
        this.#sockets.delete(one)
        if (!this.now.dead) other.destroy()
      })
    }
  }
}

/** One direction of one connection. */
class Way {
  readonly #to: Socket
  readonly #now: Spoiled
  /** When the line is free again. */
  #freeAt = 0
  #pieces = 0
  readonly #line: { readonly piece: Buffer; readonly at: number }[] = []

  constructor(to: Socket, now: Spoiled) {
    this.#to = to
    this.#now = now
  }

  hand(piece: Buffer): void {
    const { delayMs, bytesPerSecond, dribble } = this.#now
    if (dribble > 0 && ++this.#pieces % dribble === 0 && piece.length < 4_096) {
      for (let at = 0; at < piece.length; at++) this.#late(piece.subarray(at, at + 1), delayMs, bytesPerSecond)
    } else {
      this.#late(piece, delayMs, bytesPerSecond)
    }
  }

  #late(piece: Buffer, delayMs: number, bytesPerSecond: number): void {
    const now = performance.now()
    if (delayMs === 0 && bytesPerSecond === Infinity && this.#line.length === 0) {
      this.#to.write(piece)
      return
    }
    this.#freeAt = Math.max(this.#freeAt, now + delayMs) + (bytesPerSecond === Infinity ? 0 : (piece.length / bytesPerSecond) * 1_000)
    this.#line.push({ piece, at: this.#freeAt })
    if (this.#line.length === 1) this.#arm()
  }

  /** One timer at a time: two of different lengths may fire in the wrong order. */
  #arm(): void {
    const first = this.#line[0]
    if (first === undefined) return
    setTimeout(() => {
      while (this.#line[0] !== undefined && this.#line[0].at <= performance.now() + 1) {
        const { piece } = this.#line.shift()!
        if (!this.#now.dead && !this.#to.destroyed) this.#to.write(piece)
      }
      this.#arm()
    }, Math.max(0, first.at - performance.now()))
  }
}
