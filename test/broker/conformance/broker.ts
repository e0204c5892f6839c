/**
 * A broker with open topics for suites that test brokers: anyone may publish and subscribe anything. What speaks MQTT is the product's
 * own: listener, door, guard and engine. What the product leaves out on purpose is put in again here: a router, a store of sessions and
 * wills, all three the engine's own. No option of the gateway leads here.
 */
import type { Client, ConnectPacket, PublishPacket, Subscription } from 'aedes'
import { createDoor } from '../../../src/broker/door.ts'
import { createEngine } from '../../../src/broker/engine.ts'
import type { EngineOptions } from '../../../src/broker/engine.ts'
import { listen } from '../../../src/broker/listener.ts'
import { witness } from '../stage.ts'

export interface OpenBroker {
  readonly port: number
  /** Counters of the broker room: why connections were closed. */
  readonly counts: ReadonlyMap<string, number>
  readonly close: () => Promise<void>
}

export interface OpenBrokerOptions {
  /** Filters whose subscription is answered with 0x80 [MQTT-3.9.3-1]. */
  readonly refusedFilters?: readonly string[]
}

/** Starts on a free loopback port. */
export async function startOpenBroker({ refusedFilters = [] }: OpenBrokerOptions = {}): Promise<OpenBroker> {
  const { counts, count, log } = witness()
  const door = createDoor<'anyone', object>({
    listener: 'terminals',
    // One identity, so that a client id means the same session whoever comes with it, as these suites expect.
    identify: () => 'anyone',
    admit: () => Promise.resolve({ code: 0, who: 'anyone' }),
    seat: () => ({}),
    left: () => undefined,
    will: 'discard',
    perIdentity: Infinity,
    connectsPerMinute: 1_000_000,
    limits: { messagesPerSecond: Infinity, controlPerSecond: Infinity },
    monotonic: () => performance.now(),
    count, log,
  })

  const engine = await createEngine({
    preConnect(client: Client, packet: ConnectPacket, done: (error: Error | null, go: boolean) => void) {
      const { will } = packet
      door.hooks.preConnect?.(client, packet, (error, go) => {
        if (will !== undefined) packet.will = will
        done(error, go)
      })
    },
    ...(door.hooks.authenticate === undefined ? {} : { authenticate: door.hooks.authenticate }),
    authorizePublish(client: Client | null, packet: PublishPacket, done: (error?: Error | null) => void) {
      done(null)
      // A will was not handed over by the guard and has no packet id.
      if (client !== null && packet.qos > 0 && packet.messageId !== undefined) door.guardOf(client).answered(1)
    },
    authorizeSubscribe(_client: Client, subscription: Subscription, done: (error: Error | null, granted?: Subscription | null) => void) {
      done(null, refusedFilters.includes(subscription.topic) ? null : subscription)
    },
    onError: (error) => log.warn('broker reported an error', { listener: 'terminals', error }),
    ...ROUTED,
  })
  Reflect.deleteProperty(engine, 'publish')
  const events: NodeJS.EventEmitter = engine
  events.on('connackSent', ({ returnCode }: { returnCode: number }, client: Client) => {
    // The sequences expect a broker's packet ids to begin at 1; the standard leaves that open, and the engine begins anywhere.
    if (returnCode === 0 && client.clean) (client as unknown as { _nextId: number })._nextId = 1
  })
  door.open(engine)
  const listener = await listen({ name: 'terminals', host: '127.0.0.1', port: 0, accept: door.accept, count, log })

  return {
    port: listener.port,
    counts,
    async close() {
      await Promise.all([listener.close(1_000), door.close(100)])
    },
  }
}

/** Undefined, and the engine takes its own. */
const ROUTED = { mq: undefined, persistence: undefined } as unknown as Pick<EngineOptions, 'persistence'>
