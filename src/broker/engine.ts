/**
 * The MQTT engine (aedes) with its router taken out. What is left speaks the protocol: CONNECT, acknowledgements, subscriptions,
 * sessions. It cannot move a message from one client to another: `publish` discards, and the emitter that would carry it has no
 * listeners. Ingress and egress are both built on it, so "never forward raw" holds by what is missing, not by a check.
 */
import { Readable } from 'node:stream'
import { Aedes } from 'aedes'
import type { AedesOptions, Client, PublishPacket, Subscription } from 'aedes'
import { LIMITS } from '../domain/limits.ts'

export interface EngineOptions extends AedesOptions {
  readonly persistence: Persistence
  readonly onError: (error: Error) => void
}

export async function createEngine(options: EngineOptions): Promise<Aedes> {
  const engine = new Aedes({
    mq: deafEmitter,
    // Deadlines and sizes are the guard's; the engine's own are set where they cannot fire first.
    connectTimeout: LIMITS.connectTimeMs * 4,
    drainTimeout: 60_000,
    maxTopicLevels: LIMITS.topicLevels,
    maxClientsIdLength: 65_535,
    maxInflightInbound: 0,
    // Also the period of a sweep over wills, of which there are none.
    heartbeatInterval: 3_600_000,
    ...options,
  })
  engine.publish = discard
  // Unhandled, this event would end the process.
  const events: NodeJS.EventEmitter = engine
  events.on('error', options.onError)
  await engine.listen()
  return engine
}

/** Client PUBLISHes after they were answered, wills, $SYS notices with client ids and filters: all end here. */
function discard(_packet: unknown, ...rest: readonly unknown[]): void {
  const done = rest.at(-1)
  if (typeof done === 'function') done(null)
}

const deafEmitter = {
  on(_topic: string, _listener: unknown, done?: () => void): void {
    if (done !== undefined) setImmediate(done)
  },
  removeListener(_topic: string, _listener: unknown, done?: () => void): void {
    if (done !== undefined) setImmediate(done)
  },
  emit(_packet: unknown, done?: () => void): void {
    done?.()
  },
  close(done?: () => void): void {
    done?.()
  },
}

/** What the engine asks of a store of sessions; aedes itself types it as `any`. */
export interface Persistence {
  setup(engine: unknown): Promise<void>
  addSubscriptions(client: Client, subscriptions: readonly Subscription[]): Promise<void>
  removeSubscriptions(client: Client, filters: readonly string[]): Promise<void>
  /** Of an earlier connection; one or more of them mean "session present". */
  subscriptionsByClient(client: { readonly id: string }): Promise<Subscription[]>
  subscriptionsByTopic(topic: string): Promise<readonly never[]>
  /** A clean session begins: everything of an earlier one is forgotten. */
  cleanSubscriptions(client: Client): Promise<void>
  cleanIncoming(client: Client): Promise<void>
  incomingStorePacket(client: Client, packet: PublishPacket): Promise<void>
  /** Resolves when the id is known, else rejects. */
  incomingGetPacket(client: Client, packet: { readonly cmd: string; readonly messageId?: number }): Promise<unknown>
  incomingDelPacket(client: Client, packet: { readonly messageId?: number }): Promise<void>
  outgoingEnqueue(subscription: { readonly clientId: string }, packet: PublishPacket): Promise<void>
  outgoingEnqueueCombi(subscriptions: readonly { readonly clientId: string }[], packet: PublishPacket): Promise<void>
  outgoingUpdate(client: Client, packet: OutgoingPacket): Promise<void>
  outgoingClearMessageId(client: Client, packet: OutgoingPacket): Promise<unknown>
  outgoingStream(client: Client): Readable
  createRetainedStream(pattern: string): Readable
  createRetainedStreamCombi(patterns: readonly string[]): Readable
  storeRetained(packet: PublishPacket): Promise<void>
  putWill(client: Client, will: unknown): Promise<void>
  getWill(client: Client): Promise<undefined>
  delWill(client: unknown): Promise<undefined>
  streamWill(): Readable
  destroy(): Promise<void>
}

/** A PUBLISH or PUBREL on its way to a client. */
export interface OutgoingPacket {
  readonly cmd: string
  messageId?: number
  readonly brokerId?: string
  readonly brokerCounter?: number
}

/** A store that keeps nothing. The two rooms override what they need. */
export class EmptyPersistence implements Persistence {
  // aedes looks at the constructor's name: it must be an async function.
  async setup(): Promise<void> {}
  addSubscriptions(_client: Client, _subscriptions: readonly Subscription[]): Promise<void> { return DONE }
  removeSubscriptions(_client: Client, _filters: readonly string[]): Promise<void> { return DONE }
  subscriptionsByClient(_client: { readonly id: string }): Promise<Subscription[]> { return Promise.resolve([]) }
  subscriptionsByTopic(): Promise<readonly never[]> { return Promise.resolve([]) }
  cleanSubscriptions(_client: Client): Promise<void> { return DONE }
  cleanIncoming(_client: Client): Promise<void> { return DONE }
  incomingStorePacket(_client: Client, _packet: PublishPacket): Promise<void> { return DONE }
  incomingGetPacket(_client: Client, _packet: { readonly cmd: string; readonly messageId?: number }): Promise<unknown> { return Promise.reject(NOT_FOUND) }
  incomingDelPacket(_client: Client, _packet: { readonly messageId?: number }): Promise<void> { return DONE }
  outgoingEnqueue(_subscription: { readonly clientId: string }, _packet: PublishPacket): Promise<void> { return DONE }
  outgoingEnqueueCombi(_subscriptions: readonly { readonly clientId: string }[], _packet: PublishPacket): Promise<void> { return DONE }
  outgoingUpdate(_client: Client, _packet: OutgoingPacket): Promise<void> { return DONE }
  outgoingClearMessageId(_client: Client, _packet: OutgoingPacket): Promise<unknown> { return DONE }
  outgoingStream(_client: Client): Readable { return Readable.from([]) }
  createRetainedStream(_pattern: string): Readable { return Readable.from([]) }
  createRetainedStreamCombi(_patterns: readonly string[]): Readable { return Readable.from([]) }
  storeRetained(): Promise<void> { return DONE }
  putWill(): Promise<void> { return DONE }
  getWill(): Promise<undefined> { return Promise.resolve(undefined) }
  delWill(): Promise<undefined> { return Promise.resolve(undefined) }
  streamWill(): Readable { return Readable.from([]) }
  destroy(): Promise<void> { return DONE }
}

export const DONE: Promise<void> = Promise.resolve()
export const NOT_FOUND = new Error('not found')
