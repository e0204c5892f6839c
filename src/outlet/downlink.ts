/**
 * Commands from a cloud: a connection of its own beside the bridge's, which only takes. The bridge keeps no session at the broker, because
 * the outbox is its memory and packet ids of an old session would make the broker swallow new messages; this one must keep one, so that the
 * broker remembers what was sent while the gateway was away. Nothing is ever published here.
 */
import type { Command, DownlinkRight } from '../domain/ports.ts'
import type { RecipientId } from '../domain/ids.ts'
import type { BridgeLog, BridgeOptions, BridgeTiming } from './bridge.ts'
import { LINK_REASONS, linkAddress, openLink } from './link.ts'
import type { Link, LinkEnd } from './link.ts'

export interface CloudDownlinkOptions extends Pick<BridgeOptions, 'name' | 'url' | 'protocol' | 'clientId' | 'credentialsFile' | 'tls' | 'keepaliveMs' | 'random'> {
  /** In whose name commands come. */
  readonly recipient: RecipientId
  readonly filters: readonly string[]
  readonly right: DownlinkRight
  /** Calls back once the command is stored, delivered, or refused and counted; with an error when it could not be made safe. */
  readonly take: (command: Command, done: (error: Error | undefined) => void) => void
  readonly log: BridgeLog
  readonly timing?: Partial<Pick<BridgeTiming, 'backOffMs' | 'backOffMaxMs' | 'stableMs' | 'connectMs'>> | undefined
}

export interface CloudDownlink {
  readonly name: string
  readonly connected: boolean
  /** Why it is not connected, and what to do about it; undefined before the first attempt has failed. */
  readonly trouble: { readonly reason: string; readonly code: string; readonly mend: string } | undefined
  /** Starts to connect, and goes on until `close`. */
  open(): void
  close(): Promise<void>
}

/** @throws GatewayError BRIDGE-URL */
export function createCloudDownlink(options: CloudDownlinkOptions): CloudDownlink {
  return new Intake(options)
}

class Intake implements CloudDownlink {
  readonly name: string
  readonly #options: CloudDownlinkOptions
  readonly #address: ReturnType<typeof linkAddress>
  readonly #timing: Pick<BridgeTiming, 'backOffMs' | 'backOffMaxMs' | 'stableMs' | 'connectMs'>
  #link: Link | undefined
  #end: LinkEnd | undefined
  #isConnected = false
  #isClosing = false
  #attempt = 0
  #connectTimer: NodeJS.Timeout | undefined
  #stableTimer: NodeJS.Timeout | undefined

  constructor(options: CloudDownlinkOptions) {
    this.name = options.name
    this.#options = options
    this.#address = linkAddress(options.url)
    this.#timing = { ...TIMING, ...options.timing }
  }

  get connected(): boolean {
    return this.#isConnected
  }

  get trouble(): CloudDownlink['trouble'] {
    return this.#isConnected || this.#end === undefined ? undefined : { ...this.#end, mend: LINK_REASONS[this.#end.reason] }
  }

  open(): void {
    if (this.#isClosing || this.#link !== undefined) return
    const { protocol, clientId, credentialsFile, tls, keepaliveMs, filters, right, recipient: from, take } = this.#options
    this.#connectTimer = undefined
    // A link may end before `openLink` returns it.
    let isOver = false
    const link = openLink({
      address: this.#address, protocol, clientId, credentialsFile, tls, keepaliveS: Math.max(1, Math.round((keepaliveMs ?? KEEPALIVE_MS) / 1_000)), connectMs: this.#timing.connectMs,
      takes: {
        filters, packetBytes: right.payloadBytes + PACKET_BYTES,
        take: (message, done) => take({ ...message, from, within: filters }, done),
      },
    }, {
      up: () => {
        this.#isConnected = true
        this.#stableTimer = setTimeout(() => {
          this.#attempt = 0
        }, this.#timing.stableMs).unref()
        this.#options.log.info('the bridge is connected', { bridge: this.name, reason: 'commands' })
      },
      down: (end) => {
        isOver = true
        this.#down(end)
      },
      drained: () => undefined,
    })
    this.#link = isOver ? undefined : link
  }

  async close(): Promise<void> {
    this.#isClosing = true
    clearTimeout(this.#connectTimer)
    clearTimeout(this.#stableTimer)
    await this.#link?.end()
  }

  #down(end: LinkEnd): void {
    const isNews = this.#isConnected || this.#end?.reason !== end.reason
    this.#link = undefined
    this.#isConnected = false
    this.#end = end
    clearTimeout(this.#stableTimer)
    if (this.#isClosing) return
    const { backOffMs, backOffMaxMs } = this.#timing
    const bound = Math.min(backOffMaxMs, backOffMs * 2 ** Math.min(++this.#attempt, 30))
    const pauseMs = backOffMs + (this.#options.random ?? Math.random)() * Math.max(0, bound - backOffMs)
    if (isNews) this.#options.log.warn('the bridge is not connected', { bridge: this.name, reason: end.reason, code: end.code, attempt: this.#attempt, ms: Math.round(pauseMs) })
    this.#connectTimer = setTimeout(() => this.open(), pauseMs).unref()
  }
}

const TIMING = { backOffMs: 1_000, backOffMaxMs: 60_000, stableMs: 30_000, connectMs: 20_000 } as const
const KEEPALIVE_MS = 30_000
/** Of a PUBLISH beside its payload: header, topic, properties. */
const PACKET_BYTES = 8_192
