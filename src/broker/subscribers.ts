/**
 * Sessions of recipients: who is there, what they subscribe to, what is out on their connections.
 */
import { Readable } from 'node:stream'
import type { Client, PublishPacket, Subscription } from 'aedes'
import type { RecipientId } from '../domain/ids.ts'
import type { SessionStore } from '../domain/ports.ts'
import { Shelf } from '../domain/shelf.ts'
import type { Count } from './counts.ts'
import type { Visitor } from './door.ts'
import type { Turns } from './downlink.ts'
import { DONE, EmptyPersistence } from './engine.ts'
import type { OutgoingPacket } from './engine.ts'
import type { Guard } from './guard.ts'
import type { Handover } from './handover.ts'
import type { RecipientAccount } from './identify.ts'
import type { RetainedCopies } from './retained.ts'
import { filterMatches } from './topics.ts'
import { OutgoingQueue } from './waiting.ts'
import type { QueueDesk, QueuedPacket } from './waiting.ts'

/** A session: a connection, or the memory of one with clean session 0. */
export interface Subscriber {
  readonly key: string
  /** The log-in that the session belongs to; nobody else can come back to it. */
  readonly user: string
  readonly recipient: RecipientId
  readonly persistent: boolean
  readonly filters: Map<string, 0 | 1 | 2>
  readonly queue: OutgoingQueue
  present: boolean
  /** Newest connection. */
  seat: Seat | undefined
  /** Delivered to directly; before that, records wait in the queue behind those that are being replayed. */
  live: boolean
}

export interface Seat {
  readonly account: RecipientAccount
  readonly client: Client
  readonly guard: Guard<Visitor<Seat>>
  readonly subscriber: Subscriber
  /** By packet id: QoS 1 and 2, until acknowledged. Only what a purge could concern. */
  readonly flights: Shelf<Flight>
  /** QoS 0, in the order they were written; those the kernel has are taken out at the next write. */
  unread: Flight[]
  /** What it published is acknowledged in its order. */
  readonly turns: Turns
}

/** A frame on a connection that is not known to have arrived. */
export interface Flight {
  readonly handover: Handover
  /** QoS 0, which nobody acknowledges: bytes written to the connection up to the frame's end. */
  readonly end: number
}

/** What waits for the persistent sessions of one recipient, in all. */
export interface RecipientWaiting {
  readonly recipient: RecipientId
  readonly sessions: number
  /** Of these, with a connection. */
  readonly connected: number
  readonly records: number
  readonly bytes: number
  /** When the gateway received the record that waits longest, ms since the epoch. */
  readonly oldestAtMs: number | undefined
}

export class Subscribers {
  /** All sessions by the engine's client id, and the same by recipient. */
  readonly #byKey = new Map<string, Subscriber>()
  readonly #byRecipient = new Map<RecipientId, Map<string, Subscriber>>()
  readonly #desk: QueueDesk
  readonly #max: number
  readonly #count: Count
  readonly #store: SessionStore | undefined

  /** @param max  sessions of one recipient; past it the longest absent is forgotten */
  constructor(desk: QueueDesk, max: number) {
    this.#desk = desk
    this.#max = max
    this.#count = desk.count
    this.#store = desk.store
  }

  get(key: string): Subscriber | undefined {
    return this.#byKey.get(key)
  }

  of(recipient: RecipientId): Iterable<Subscriber> {
    return this.#byRecipient.get(recipient)?.values() ?? []
  }

  all(): Iterable<Subscriber> {
    return this.#byKey.values()
  }

  /** The session that a connection takes up or begins. */
  take({ id: recipient, user }: RecipientAccount, key: string, clean: boolean): Subscriber {
    const known = this.#byKey.get(key)
    if (known !== undefined && known.persistent && !clean && known.recipient === recipient) {
      known.present = true
      return known
    }
    // [MQTT-3.1.2-6] A clean session ends an earlier one; and so does a log-in that serves another recipient now.
    if (known !== undefined) this.forget(known)
    const fresh: Subscriber = {
      key, user, recipient, persistent: !clean, filters: new Map(), queue: new OutgoingQueue(this.#desk, key), present: false, seat: undefined, live: false,
    }
    const mine = this.#remember(fresh)
    if (mine.size > this.#max) {
      const oldest = [...mine.values()].find(({ seat, key: other }) => seat === undefined && other !== key)
      if (oldest !== undefined) {
        this.forget(oldest)
        this.#count('session.evicted')
      }
    }
    return fresh
  }

  /** A session that the store gave back. */
  restore(session: Pick<Subscriber, 'key' | 'user' | 'recipient'> & { readonly filters: ReadonlyMap<string, 0 | 1 | 2> }): OutgoingQueue {
    const { key, user, recipient, filters } = session
    const queue = new OutgoingQueue(this.#desk, key)
    this.#remember({ key, user, recipient, persistent: true, filters: new Map(filters), queue, present: true, seat: undefined, live: false })
    return queue
  }

  #remember(subscriber: Subscriber): Map<string, Subscriber> {
    let mine = this.#byRecipient.get(subscriber.recipient)
    if (mine === undefined) this.#byRecipient.set(subscriber.recipient, (mine = new Map()))
    mine.set(subscriber.key, subscriber)
    this.#byKey.set(subscriber.key, subscriber)
    return mine
  }

  /** A connection has ended. */
  left({ client, subscriber }: Seat): void {
    if (subscriber.seat?.client !== client) return
    subscriber.seat = undefined
    subscriber.live = false
    if (this.#byKey.get(subscriber.key) !== subscriber) return
    if (!subscriber.persistent || (subscriber.filters.size === 0 && subscriber.queue.size === 0)) {
      this.forget(subscriber)
      return
    }
    subscriber.queue.keep()
    // Put back at the end: the first of the map is then the one absent longest.
    const mine = this.#byRecipient.get(subscriber.recipient)
    mine?.delete(subscriber.key)
    mine?.set(subscriber.key, subscriber)
  }

  forget({ key, recipient, persistent, queue }: Subscriber): void {
    this.#byKey.delete(key)
    queue.end()
    if (persistent) this.#store?.forget(key)
    const mine = this.#byRecipient.get(recipient)
    if (mine?.delete(key) === true && mine.size === 0) this.#byRecipient.delete(recipient)
  }

  /** Recipients that have persistent sessions, and what these have not acknowledged. */
  waiting(): RecipientWaiting[] {
    return [...this.#byRecipient].flatMap(([recipient, mine]) => {
      const persistent = [...mine.values()].filter((subscriber) => subscriber.persistent)
      if (persistent.length === 0) return []
      const sum = (of: (subscriber: Subscriber) => number): number => persistent.reduce((total, subscriber) => total + of(subscriber), 0)
      const oldest = Math.min(...persistent.map(({ queue }) => queue.oldestAtMs ?? Infinity))
      return [{
        recipient, sessions: persistent.length, connected: sum(({ seat }) => (seat === undefined ? 0 : 1)),
        records: sum(({ queue }) => queue.size), bytes: sum(({ queue }) => queue.bytes), oldestAtMs: oldest === Infinity ? undefined : oldest,
      }]
    })
  }
}

/** Highest QoS granted by a filter that matches, undefined when none does. A message that several match is sent once [MQTT-3.3.5-1]. */
export function grantedQos({ filters }: Subscriber, topic: string): 0 | 1 | 2 | undefined {
  let best: 0 | 1 | 2 | undefined
  for (const [filter, qos] of filters) {
    if ((best === undefined || qos > best) && filterMatches(filter, topic)) best = qos
  }
  return best
}

export function *flightsOf({ flights, unread }: Seat): Generator<Flight> {
  yield *flights.values()
  yield *unread
}

/** Takes out the QoS 0 frames that the kernel has. */
export function dropRead(seat: Seat): void {
  const { unread, guard } = seat
  const taken = guard.written - guard.unwritten
  if (unread.length === 0 || unread[0]!.end > taken) return
  const first = unread.findIndex(({ end }) => end > taken)
  seat.unread = first === -1 ? [] : unread.slice(first)
}

/** The engine's view of sessions and retained copies, in memory. Filters are kept by `grant`. */
export class SubscriberStore extends EmptyPersistence {
  readonly #given: Bookkeeping

  constructor(given: Bookkeeping) {
    super()
    this.#given = given
  }

  override subscriptionsByClient({ id }: { readonly id: string }): Promise<Subscription[]> {
    const subscriber = this.#given.find(id)
    if (subscriber?.present !== true) return Promise.resolve([])
    return Promise.resolve([...subscriber.filters].map(([topic, qos]): Subscription => ({ topic, qos })).concat(PRESENT))
  }

  override removeSubscriptions(client: Client, filters: readonly string[]): Promise<void> {
    return this.#given.unsubscribed(client, filters)
  }

  override outgoingEnqueue({ clientId }: { readonly clientId: string }, packet: PublishPacket): Promise<void> {
    this.#given.find(clientId)?.queue.push(packet as QueuedPacket)
    return DONE
  }

  override outgoingUpdate(client: Client, packet: OutgoingPacket): Promise<void> {
    this.#given.subscriberOf(client)?.queue.update(packet)
    this.#given.sent(client, packet)
    return DONE
  }

  override outgoingClearMessageId(client: Client, packet: OutgoingPacket): Promise<unknown> {
    if (packet.messageId !== undefined) this.#given.arrived(client, packet.messageId)
    return Promise.resolve(this.#given.subscriberOf(client)?.queue.clear(packet))
  }

  override createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.#given.retained.matching(filters))
  }
}

export interface Bookkeeping {
  readonly subscriberOf: (client: Client) => Subscriber | undefined
  readonly find: (key: string) => Subscriber | undefined
  readonly retained: RetainedCopies
  /** Resolves when the session is stored without them. */
  readonly unsubscribed: (client: Client, filters: readonly string[]) => Promise<void>
  readonly sent: (client: Client, packet: OutgoingPacket) => void
  readonly arrived: (client: Client, id: number) => void
}

/** Stands for a session that is there although it has no filter. */
export const PRESENT: Subscription = { topic: '$present', qos: 0 }
