/**
 * MQTT over WebSocket [MQTT 3.1.1, 6]: turns a connection of the listener into a stream of the bytes that its binary frames carry. Behind
 * it stand the same door and guard as behind a bare socket, so that every limit counts here as well; what is checked here is what they
 * cannot see: the request, the origin, kind and size of frames, and whether the peer is there.
 */
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import type { WebSocket } from 'ws'
import { LIMITS } from '../domain/limits.ts'
import type { Count } from './counts.ts'
import type { Via } from './identify.ts'

export interface WebOptions {
  /** Takes the stream as it would a socket. */
  readonly accept: (stream: Duplex, via: Via) => void
  /** Pages that may connect, as browsers name them: `https://planner.example.com`. Default: none. A client that is no browser names none. */
  readonly origins?: readonly string[] | undefined
  /** Largest message: no MQTT packet is larger, so nobody needs more. Default: LIMITS.packetBytes. */
  readonly messageBytes?: number | undefined
  /** From the connection to the end of the request. Default: LIMITS.connectTimeMs. */
  readonly requestTimeMs?: number | undefined
  /** From the first to the last byte of one message. Default: LIMITS.packetTimeMs. */
  readonly messageTimeMs?: number | undefined
  /** How often a peer is asked whether it is there; one that has not answered by the next time is cut off. Default: 30 s. */
  readonly pingMs?: number | undefined
  readonly count: Count
}

export interface Web {
  /** Takes a connection of a listener. */
  readonly accept: (socket: Duplex, via: Via) => void
  /** WebSockets open now. */
  readonly connections: number
  close(): void
}

const PING_MS = 30_000
/** A request has a dozen lines. */
const HEADER_BYTES = 8_192
/** Frames of one message, and pieces in which the network brings them: each costs memory, however few bytes it holds. */
const FRAGMENTS = 1_024
const CHUNKS = 16_384
/** [MQTT-6.0.0-4] */
const SUBPROTOCOL = 'mqtt'
const PATHS: ReadonlySet<string> = new Set(['/', '/mqtt'])

export function createWeb(options: WebOptions): Web {
  const { accept, count, messageBytes = LIMITS.packetBytes, requestTimeMs = LIMITS.connectTimeMs, messageTimeMs = LIMITS.packetTimeMs, pingMs = PING_MS } = options
  const origins = new Set(options.origins)
  const visits = new WeakMap<Duplex, Visit>()
  const open = new Set<WebStream>()

  const upgrades = new WebSocketServer({
    noServer: true, clientTracking: false, maxPayload: messageBytes, perMessageDeflate: false, skipUTF8Validation: true, autoPong: true,
    maxFragments: FRAGMENTS, maxBufferedChunks: CHUNKS,
    handleProtocols: () => SUBPROTOCOL,
  })
  const server = createServer({
    maxHeaderSize: HEADER_BYTES,
  }, (_request, response) => {
    // [RFC 9110, 15.5.22]
    count('connect.refused')
    response.writeHead(426, { Connection: 'close, Upgrade', Upgrade: 'websocket', 'Content-Type': 'text/plain' }).end('MQTT over WebSocket is spoken here.\n')
  })
  // Node would answer with a page of its own.
  server.on('clientError', (_error, socket) => {
    if (!socket.destroyed) count('connect.refused')
    socket.destroy()
  })
  server.on('upgrade', (request, socket: Duplex, head) => {
    const status = refusal(request, origins)
    const visit = visits.get(request.socket)
    if (status !== undefined || visit === undefined) return refuse(socket, status ?? '400 Bad Request', count)
    clearTimeout(visit.late)
    return upgrades.handleUpgrade(request, socket, head, (peer) => {
      const stream = new WebStream(peer, socket, { count, messageTimeMs })
      open.add(stream)
      stream.once('close', () => open.delete(stream))
      accept(stream, visit.via)
    })
  })
  // Whatever else is wrong with a handshake.
  upgrades.on('wsClientError', (_error, socket) => refuse(socket, '400 Bad Request', count))

  const pings = setInterval(() => {
    for (const stream of open) stream.ask()
  }, pingMs).unref()

  return {
    accept(socket, via) {
      // Node looks after the time of requests only where it listens itself.
      const late = setTimeout(() => {
        count('kill.connect_late')
        socket.destroy()
      }, requestTimeMs).unref()
      socket.once('close', () => clearTimeout(late))
      visits.set(socket, { via, late })
      server.emit('connection', socket)
    },
    get connections() {
      return open.size
    },
    close() {
      clearInterval(pings)
      for (const stream of open) stream.destroy()
      server.close()
    },
  }
}

interface Visit {
  readonly via: Via
  /** Runs out when no request has come. */
  readonly late: NodeJS.Timeout
}

/** What to answer instead of 101, if anything. */
function refusal({ headers, url = '/' }: IncomingMessage, origins: ReadonlySet<string>): string | undefined {
  if (!PATHS.has(url.split('?', 1)[0] as string)) return '404 Not Found'
  // [RFC 6455, 10.2] A page of anybody's would else reach a listener on loopback through the browser of whoever looks at it.
  if (headers.origin !== undefined && !origins.has(headers.origin.toLowerCase())) return '403 Forbidden'
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  // [MQTT-6.0.0-3]
  return offered.includes(SUBPROTOCOL) ? undefined : '400 Bad Request'
}

function refuse(socket: Duplex, status: string, count: Count): void {
  count('connect.refused')
  socket.on('error', () => undefined)
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy())
}

interface WebStreamOptions {
  readonly count: Count
  readonly messageTimeMs: number
}

/** The bytes of a WebSocket's messages, either way. Where a message ends means nothing [MQTT-6.0.0-2]. */
class WebStream extends Duplex {
  readonly #peer: WebSocket
  readonly #socket: Duplex
  readonly #count: Count
  /** Something came and no message with it: runs out when the rest does not come in time. */
  #slow: NodeJS.Timeout | undefined
  #isAsked = false

  constructor(peer: WebSocket, socket: Duplex, { count, messageTimeMs }: WebStreamOptions) {
    // One write at a time, so that the guard sees how much of what it wrote the kernel has.
    super({ readableHighWaterMark: 65_536, writableHighWaterMark: 65_536, emitClose: true, allowHalfOpen: false })
    this.#peer = peer
    this.#socket = socket
    this.#count = count
    // Before the library reads it, which may make whole messages of it.
    socket.prependListener('data', () => {
      this.#slow ??= setTimeout(() => this.#kill('packet_too_slow'), messageTimeMs).unref()
    })
    const heard = (): void => {
      clearTimeout(this.#slow)
      this.#slow = undefined
    }
    peer.on('message', (data, isBinary) => {
      heard()
      // [MQTT-6.0.0-1]
      if (!isBinary) return this.#kill('protocol')
      if (!this.push(data as Buffer)) peer.pause()
      return undefined
    })
    peer.on('ping', heard)
    peer.on('pong', () => {
      heard()
      this.#isAsked = false
    })
    peer.on('error', (error) => {
      const isTooBig = (error as NodeJS.ErrnoException).code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'
      this.#kill(isTooBig ? 'packet_too_big' : 'malformed')
    })
    peer.on('close', () => {
      heard()
      this.push(null)
    })
  }

  /** Asks whether the peer is there, and cuts it off when it has not answered the last time. One that we do not listen to cannot answer. */
  ask(): void {
    if (this.#peer.isPaused) {
      this.#isAsked = false
      return
    }
    if (this.#isAsked) return this.#kill('keepalive')
    this.#isAsked = true
    this.#peer.ping()
  }

  /** As of a socket: what the kernel has and has not sent is gone. */
  resetAndDestroy(): this {
    const socket = this.#socket
    if (socket instanceof Socket && !(socket instanceof TLSSocket)) socket.resetAndDestroy()
    return this.destroy()
  }

  override _read(): void {
    if (this.#peer.isPaused) this.#peer.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#peer.readyState !== this.#peer.OPEN) return done()
    // Closed under it: that is said by the end of the stream.
    this.#peer.send(chunk, { binary: true }, () => done())
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#peer.close()
    done()
  }

  override _destroy(_error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#slow)
    this.#peer.terminate()
    done(null)
  }

  #kill(reason: 'protocol' | 'malformed' | 'packet_too_big' | 'packet_too_slow' | 'keepalive'): void {
    if (this.destroyed) return
    this.#count(`kill.${reason}`)
    this.destroy()
  }
}
