/**
 * Sockets for terminals and recipients. Without TLS only on loopback; with it TLS 1.3 and, where a CA is given, a client
 * certificate from everybody.
 */
import type { X509Certificate } from 'node:crypto'
import { createServer as createPlainServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createSecureContext, createServer as createTlsServer } from 'node:tls'
import type { TLSSocket, Server as TlsServer } from 'node:tls'
import type { Duplex } from 'node:stream'
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { BrokerLog, Count } from './counts.ts'
import { certificateName } from './identify.ts'
import type { Via } from './identify.ts'
import { neighbourhood } from './lockout.ts'
import { Rate } from './rate.ts'
import { certificateId, readAuthorities, readRevocations } from './revocation.ts'

/** PEM text, not file names. */
export interface TlsMaterial {
  readonly cert: string | Buffer
  readonly key: string | Buffer
  /** Who signs client certificates. Without it clients need a user name and a credential. */
  readonly ca?: string | Buffer | undefined
  readonly crl?: string | Buffer | undefined
}

export interface ListenerOptions {
  readonly name: 'terminals' | 'recipients' | 'recipients_ws'
  readonly host: string
  /** 0 = any free one. */
  readonly port: number
  readonly tls?: TlsMaterial | undefined
  readonly connections?: number | undefined
  /** Connections of one address, before anything is read of them; further ones are reset. Default: on loopback as many as come, elsewhere LIMITS. */
  readonly perAddress?: { readonly perSecond: number; readonly burst: number } | undefined
  readonly accept: (socket: Duplex, via: Via) => void
  readonly count: Count
  readonly log: BrokerLog
}

export interface Listener {
  readonly host: string
  readonly port: number
  /**
   * New certificates for new connections; those that are open stay, but for the ones whose certificate is revoked now.
   * @throws GatewayError LISTEN-TLS, CRL; nothing has changed then
   */
  renew(tls: TlsMaterial): void
  /** Takes no further connection. The broker behind it closes those that are open; what it left after the grace is cut. */
  close(graceMs: number): Promise<void>
}

/** CONNECT must follow within LIMITS.connectTimeMs; the handshake before it gets as long again. */
const HANDSHAKE_MS = LIMITS.connectTimeMs
/** Finds peers that vanished without a word, below MQTT's keep alive. */
const TCP_KEEPALIVE_MS = 60_000

/**
 * @throws GatewayError LISTEN-PLAIN when the address is not loopback and there is no TLS, LISTEN when it cannot be had, LISTEN-TLS and CRL for material that cannot be used
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { name, host, port, tls, count, log } = options
  if (tls === undefined && !isLoopback(host)) throw plainRefused(name)

  const open = new Set<Socket>()
  const perAddress = options.perAddress ?? (isLoopback(host) ? undefined : { perSecond: LIMITS.addressConnectsPerSecond, burst: LIMITS.addressConnectBurst })
  const rate = perAddress === undefined ? undefined : new Rate({ ...perAddress, monotonic: () => performance.now() })
  const secure = tls === undefined ? undefined : secureServer(tls, options)
  const server: Server = createPlainServer({ allowHalfOpen: true }, (socket) => {
    const address = socket.remoteAddress
    if (rate !== undefined && !rate.take(neighbourhood(address))) {
      // Before the handshake, which costs a thousand times as much. A reset leaves nothing behind here.
      socket.on('error', () => undefined)
      socket.resetAndDestroy()
      return count('kill.connect_rate')
    }
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    socket.setNoDelay(true)
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS)
    if (secure === undefined) options.accept(socket, { plain: true, certificate: undefined, address })
    else secure.server.emit('connection', socket)
    return undefined
  })
  server.maxConnections = options.connections ?? LIMITS.connections
  server.on('drop', () => count('kill.connections'))

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(new GatewayError('LISTEN', `The ${name} listener cannot use port ${port} on ${host} (${error.code ?? 'unknown'}).`, 'Is another program using it? Choose another port under listen: in the gateway file.'))
    })
    server.listen({ host, port, backlog: 1_024 }, resolve)
  })
  const address = server.address() as AddressInfo
  // A name may resolve to anything: what counts is where the socket ended up.
  if (tls === undefined && !isLoopback(address.address)) {
    server.close()
    throw plainRefused(name)
  }
  // Errors of accept(2), such as too many open files: the next connection is tried again.
  server.removeAllListeners('error').on('error', (error) => log.warn('broker reported an error', { listener: name, error }))
  log.info('listening', { listener: name, host: address.address, port: address.port, tls: tls !== undefined })

  return {
    host: address.address,
    port: address.port,
    renew(material) {
      secure?.renew(material)
    },
    async close(graceMs) {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()))
      const cut = setTimeout(() => {
        for (const socket of open) socket.destroy()
      }, graceMs)
      await closed
      clearTimeout(cut)
      secure?.server.close()
      log.info('listener stopped', { listener: name })
    },
  }
}

interface SecureServer {
  /** Listens nowhere: it is given the sockets. */
  readonly server: TlsServer
  readonly renew: (tls: TlsMaterial) => void
}

function secureServer(tls: TlsMaterial, { name, accept, count, log }: ListenerOptions): SecureServer {
  let { revoked, authorities } = checked(tls)
  /** Who is in by a certificate, and by which. */
  const holders = new Map<TLSSocket, Held>()
  const server = createTlsServer(
    // [RFC 8446] Nothing older: terminals and recipients are provisioned by the same people as the gateway.
    { ...contextOf(tls), allowHalfOpen: true, minVersion: 'TLSv1.3', handshakeTimeout: HANDSHAKE_MS, requestCert: tls.ca !== undefined, rejectUnauthorized: tls.ca !== undefined },
    (socket: TLSSocket) => {
      const certificate = certificateName(socket)
      // Verified, but it names nobody, or two: not a connection to go on with.
      if (tls.ca !== undefined && certificate === undefined) return void socket.destroy()
      const peer = certificate === undefined ? undefined : socket.getPeerX509Certificate()
      if (peer !== undefined) {
        const held = heldBy(peer, authorities)
        // A session that is resumed [RFC 8446, 2.2] was verified when it began, and a handshake may have begun before the list came.
        if (held.ids.some((id) => revoked.has(id)) || peer.validToDate.getTime() < Date.now()) {
          count('connect.refused')
          return void socket.destroy()
        }
        holders.set(socket, held)
        socket.once('close', () => holders.delete(socket))
      }
      return accept(socket, { plain: false, certificate, address: socket.remoteAddress })
    },
  )
  // A failed handshake is the peer's matter; the socket is closed by Node.
  server.on('tlsClientError', () => count('connect.refused'))
  return {
    server,
    renew(material) {
      const next = checked(material)
      server.setSecureContext({ ...contextOf(material), minVersion: 'TLSv1.3' })
      const isMore = [...next.revoked].some((id) => !revoked.has(id))
      revoked = next.revoked
      authorities = next.authorities
      for (const [socket, { ids, isWhole }] of holders) {
        // Of whom not everybody who signed is known, nobody can tell: who is good comes back and is verified again.
        if (!ids.some((id) => revoked.has(id)) && (isWhole || !isMore)) continue
        count('kill.revoked')
        log.info('connection closed', { listener: name, reason: 'revoked' })
        socket.destroy()
      }
    },
  }
}

interface Held {
  /** Of the peer's certificate and of the authorities between it and ours, as lists know them. */
  readonly ids: readonly string[]
  /** Whether these are all: a session that is resumed does not say who signed. */
  readonly isWhole: boolean
}

function heldBy(peer: X509Certificate, authorities: readonly X509Certificate[]): Held {
  const ids: string[] = []
  let last = peer
  for (let one: X509Certificate | undefined = peer; one !== undefined && ids.length < CHAIN; one = one.issuerCertificate) {
    ids.push(certificateId(one.raw))
    last = one
  }
  return { ids, isWhole: authorities.some((authority) => authority.checkIssued(authority) && last.checkIssued(authority)) }
}

/** OpenSSL verifies no more than a hundred, and a handshake brings 64 KiB of them at most. */
const CHAIN = 100

/** @throws GatewayError LISTEN-TLS, CRL */
function checked(tls: TlsMaterial): { readonly revoked: ReadonlySet<string>; readonly authorities: readonly X509Certificate[] } {
  try {
    createSecureContext({ ...contextOf(tls), minVersion: 'TLSv1.3' })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    throw new GatewayError('LISTEN-TLS', `Certificate, key and authorities cannot be used together (${code}).`, 'Are they PEM files, and is the key that of the certificate? See parapet pki for a set to try.')
  }
  return { authorities: tls.ca === undefined ? [] : readAuthorities(tls.ca, tls.crl), revoked: tls.crl === undefined ? NONE : readRevocations(tls.crl).ids }
}

const NONE: ReadonlySet<string> = new Set()

function contextOf({ cert, key, ca, crl }: TlsMaterial): { cert: string | Buffer; key: string | Buffer; ca?: string | Buffer; crl?: string | Buffer } {
  return { cert, key, ...(ca === undefined ? {} : { ca }), ...(crl === undefined ? {} : { crl }) }
}

function plainRefused(name: string): GatewayError {
  return new GatewayError('LISTEN-PLAIN', `The ${name} listener would take connections without TLS from other machines.`, 'Give it tls: { cert, key, ca }, or host: 127.0.0.1.')
}

/** [RFC 1122, 3.2.1.3] 127.0.0.0/8, [RFC 4291, 2.5.3] ::1. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '::ffff:127.0.0.1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}
