/**
 * The broker that recipients subscribe at. It delivers minimised records and nothing else: clients may not publish, the engine has
 * no router (engine.ts), and `publish` walks over the sessions of the one recipient a record is for. So a recipient whose filter
 * would also match another's topics still gets only its own, and no notice about other clients exists at all.
 *
 * A record is asked for at the gate at each hand-over: live, queued and retained. For QoS 0 that is the socket write itself.
 */
import { Readable } from 'node:stream'
import type { Duplex } from 'node:stream'
import type { Aedes, Client, PublishPacket, Subscription } from 'aedes'
import type { RecipientId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, OutboxRecord } from '../domain/ports.ts'
import type { BrokerLog, Count } from './counts.ts'
import { createDoor } from './door.ts'
import type { Visitor } from './door.ts'
import { DONE, EmptyPersistence, createEngine } from './engine.ts'
import type { OutgoingPacket } from './engine.ts'
import type { Guard, GuardLimits } from './guard.ts'
import { admitRecipient, recipientIdentity } from './identify.ts'
import type { Credentials, RecipientAccount, RecipientDirectory, Via } from './identify.ts'
import { contains, filterMatches } from './topics.ts'

export interface EgressOptions {
  readonly directory: RecipientDirectory
  readonly credentials: Credentials
  /** Topic templates of the recipient's own outputs under the rules in force. */
  readonly allowed: (recipient: RecipientId) => readonly string[]
  /** Whether this record may leave now. Synchronous; false drops and counts it. */
  readonly gate: (record: OutboxRecord) => boolean
  /** A record was handed to a client for the first time. `credential` is the recipient's account. */
  readonly onDelivered?: ((record: OutboxRecord, credential: string) => void) | undefined
  readonly clock: Clock
  readonly count: Count
  readonly log: BrokerLog
  readonly limits?: Partial<GuardLimits> | undefined
  readonly perIdentity?: number | undefined
  /** Messages and bytes that wait for one absent session; past it the oldest is dropped and counted. */
  readonly queueMessages?: number | undefined
  readonly queueBytes?: number | undefined
  readonly retained?: number | undefined
  /** Persistent sessions of one recipient; past it the longest absent is forgotten. */
  readonly sessions?: number | undefined
}

export interface Egress {
  readonly accept: (socket: Duplex, via: Via) => void
  /**
   * Sends a record to its recipient's sessions. `done` is called once it is written to all that are connected and queued for all
   * persistent ones that are not; `sessions` = how many that were, 0 for no_subscriber. The payload is copied before it returns.
   */
  publish(record: OutboxRecord, done: (sessions: number) => void): void
  /** After a reload of rules or accounts: takes back subscriptions that are not the recipient's any more, closes removed accounts. */
  recheck(): void
  /** Removes what waits for absent sessions, and retained copies. Returns how many. */
  purge(covers: (record: OutboxRecord) => boolean): number
  readonly connections: number
  close(graceMs: number): Promise<void>
}

/** A session: a connection, or the memory of one with clean session 0. */
interface Subscriber {
  readonly key: string
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

interface Seat {
  readonly account: RecipientAccount
  readonly client: Client
  readonly guard: Guard<Visitor<Seat>>
  readonly subscriber: Subscriber
}

/** QoS 0 to a client with more than this unread is dropped: that is what QoS 0 means, and others need not wait. */
const CONGESTED_BYTES = 1_048_576
const PRESENT: Subscription = { topic: '$present', qos: 0 }

/** An acknowledging recipient sends a packet for each message: as many as it can. */
const RECIPIENT_LIMITS = { controlPerSecond: Infinity } as const

export async function createEgress(options: EgressOptions): Promise<Egress> {
  const { directory, count, log, clock } = options
  const desks = new Map<RecipientId, Map<string, Subscriber>>()
  const retained = new RetainedCopies(options.retained ?? LIMITS.retained, count)
  /** Which record a payload belongs to. The engine wraps packets again and again but keeps the payload's buffer. */
  const records = new WeakMap<object, OutboxRecord>()
  const queueMessages = options.queueMessages ?? LIMITS.offlineMessages
  const queueBytes = options.queueBytes ?? LIMITS.offlineBytes

  const door = createDoor<RecipientAccount, Seat>({
    ...options,
    listener: 'recipients',
    limits: { ...RECIPIENT_LIMITS, ...options.limits },
    monotonic: () => clock.monotonic(),
    will: 'refuse',
    identify: (packet, via) => recipientIdentity(packet, via, directory),
    admit: (claim) => admitRecipient(claim, directory, options.credentials),
    seat(account, _identity, client, guard) {
      const subscriber = take(account.id, client.id, client.clean)
      const seat: Seat = { account, client, guard, subscriber }
      subscriber.seat = seat
      subscriber.live = false
      return seat
    },
    left({ client, subscriber }) {
      if (subscriber.seat?.client !== client) return
      subscriber.seat = undefined
      subscriber.live = false
      const desk = desks.get(subscriber.recipient)
      if (desk?.get(subscriber.key) !== subscriber) return
      desk.delete(subscriber.key)
      // Put back at the end: the first of the map is then the one absent longest.
      if (subscriber.persistent && (subscriber.filters.size > 0 || subscriber.queue.size > 0)) desk.set(subscriber.key, subscriber)
      if (desk.size === 0) desks.delete(subscriber.recipient)
    },
  })

  function take(recipient: RecipientId, key: string, clean: boolean): Subscriber {
    let desk = desks.get(recipient)
    if (desk === undefined) desks.set(recipient, (desk = new Map()))
    const known = desk.get(key)
    if (known !== undefined && known.persistent && !clean) {
      known.present = true
      return known
    }
    // [MQTT-3.1.2-6] A clean session ends an earlier one.
    const fresh: Subscriber = {
      key, recipient, persistent: !clean, filters: new Map(), queue: new OutgoingQueue(queueMessages, queueBytes, count), present: false, seat: undefined, live: false,
    }
    desk.set(key, fresh)
    if (desk.size > (options.sessions ?? LIMITS.recipientSessions)) {
      const oldest = [...desk.values()].find(({ seat, key: other }) => seat === undefined && other !== key)
      if (oldest !== undefined) {
        desk.delete(oldest.key)
        count('session.evicted')
      }
    }
    return fresh
  }

  // ------------------------------------------------------------------------------------------------------------- delivery

  function publish(record: OutboxRecord, done: (sessions: number) => void): void {
    let sessions = 0
    let writing = 1
    const written = (): void => {
      if (--writing === 0) done(sessions)
    }
    let payload: Buffer | undefined
    if (record.retain) retained.set(record, packetOf(record, own(record), record.qos, true))
    for (const subscriber of desks.get(record.recipient)?.values() ?? []) {
      const granted = grantedQos(subscriber, record.topic)
      if (granted === undefined) continue
      const qos = granted < record.qos ? granted : record.qos // [MQTT-3.8.4-6]
      if (subscriber.live && subscriber.seat !== undefined) {
        sessions++
        if (qos === 0) {
          writeNow(subscriber.seat, record)
        } else {
          payload ??= own(record)
          writing++
          subscriber.seat.client.publish(packetOf(record, payload, qos, false), written)
        }
      } else if (subscriber.persistent && qos > 0) {
        sessions++
        payload ??= own(record)
        count('deliver.queued')
        subscriber.queue.push(stamp(packetOf(record, payload, qos, false)))
      }
    }
    written()
  }

  /** A payload of its own: the record's may be part of a buffer that is written over. */
  function own(record: OutboxRecord): Buffer {
    const payload = Buffer.from(record.payload)
    records.set(payload, record)
    return payload
  }

  function stamp(packet: PublishPacket): QueuedPacket {
    const counters = engine as unknown as { counter: number }
    return { ...packet, brokerId: engine.id, brokerCounter: ++counters.counter }
  }

  function writeNow({ guard, account }: Seat, record: OutboxRecord): void {
    if (!options.gate(record)) return count('deliver.gated')
    if (guard.unwritten > CONGESTED_BYTES) return count('deliver.dropped_qos0')
    guard.write(publishFrame(record.topic, record.payload))
    count('deliver.live')
    return options.onDelivered?.(record, account.id)
  }

  /** The engine asks before every QoS 1 or 2 delivery and for retained copies. */
  function authorizeForward(client: Client, packet: PublishPacket): PublishPacket | null {
    const seat = door.seatOf(client)
    const record = typeof packet.payload === 'object' ? records.get(packet.payload) : undefined
    // Nothing leaves that is not a record, and no record but to its recipient.
    if (seat === undefined || record === undefined || record.recipient !== seat.account.id) return null
    const granted = grantedQos(seat.subscriber, packet.topic)
    if (granted === undefined || !options.gate(record)) {
      count('deliver.gated')
      return null
    }
    if (packet.retain && granted < packet.qos) packet.qos = granted
    if (!packet.dup) {
      count('deliver.live')
      options.onDelivered?.(record, seat.account.id)
    }
    return packet
  }

  // -------------------------------------------------------------------------------------------------------- subscriptions

  function authorizeSubscribe(client: Client, subscription: Subscription, answer: (error: Error | null, granted?: Subscription | null) => void): void {
    if (subscription === PRESENT) return answer(null, null)
    const seat = door.seatOf(client)
    const granted = seat !== undefined && grant(seat.subscriber, subscription)
    count(granted ? 'subscribe.granted' : 'subscribe.refused')
    if (!granted) log.info('subscription refused', { listener: 'recipients', ...(seat === undefined ? {} : { recipient: seat.account.id }) })
    return answer(null, granted ? subscription : null) // [MQTT-3.9.3-1] 0x80
  }

  function grant({ recipient, filters }: Subscriber, { topic, qos }: Subscription): boolean {
    if (!contains(topic, options.allowed(recipient))) {
      filters.delete(topic)
      return false
    }
    if (filters.size >= LIMITS.recipientFilters && !filters.has(topic)) return false
    filters.set(topic, qos)
    return true
  }

  function recheck(): void {
    for (const guard of door.guards) {
      const account = guard.session?.seat?.account
      if (account === undefined) continue
      const now = directory.recipient(account.id)
      if (now === undefined || now.credential !== account.credential || now.certificate !== account.certificate) guard.kill('revoked')
    }
    for (const [recipient, desk] of desks) {
      const allowed = options.allowed(recipient)
      for (const { filters, seat, key, queue } of desk.values()) {
        for (const filter of [...filters.keys()].filter((filter) => !contains(filter, allowed))) {
          filters.delete(filter)
          seat?.client.unsubscribe({ unsubscriptions: [filter] } as never, () => undefined)
          count('subscribe.revoked')
          log.info('subscription withdrawn', { listener: 'recipients', recipient })
        }
        if (directory.recipient(recipient) === undefined) {
          queue.clear()
          desk.delete(key)
        }
      }
    }
  }

  const engine: Aedes = await createEngine({
    ...door.hooks,
    authorizePublish(client, packet, answer) {
      // [MQTT-3.3.5-2] A refused PUBLISH can only be acknowledged or end the connection; an acknowledgement would be a lie.
      packet.payload = NOTHING
      if (client !== null) door.guardOf(client).kill('unauthorised')
      answer(new Error('recipients do not publish'))
    },
    authorizeSubscribe,
    authorizeForward: authorizeForward as never,
    persistence: new SubscriberStore((client) => door.seatOf(client)?.subscriber, (key) => find(key), retained),
    onError: (error) => log.warn('broker reported an error', { listener: 'recipients', error }),
  })

  function find(key: string): Subscriber | undefined {
    return desks.get(key.slice(0, key.indexOf('/')) as RecipientId)?.get(key)
  }

  const events: NodeJS.EventEmitter = engine
  events.on('unsubscribe', (filters: readonly string[], client: Client) => {
    for (const filter of filters) door.seatOf(client)?.subscriber.filters.delete(filter)
  })
  // A clean session may subscribe from CONNACK on; a persistent one is live when its queue has been replayed.
  events.on('connackSent', (_connack: unknown, client: Client) => {
    const subscriber = door.seatOf(client)?.subscriber
    if (subscriber === undefined) return
    if (!subscriber.persistent) subscriber.live = true
    // [MQTT-2.3.1-2] The engine begins at a random packet id, which a message that will be replayed may hold.
    const ids = client as unknown as { _nextId: number }
    ids._nextId = subscriber.queue.freeId ?? ids._nextId
  })
  events.on('clientReady', (client: Client) => {
    const subscriber = door.seatOf(client)?.subscriber
    if (subscriber === undefined || subscriber.seat?.client !== client) return
    subscriber.live = true
    // What came while the engine was replaying; it is in the queue already.
    for (const packet of subscriber.queue.unsent()) client.publish(packet, () => undefined)
  })
  door.open(engine)

  return {
    accept: door.accept,
    publish,
    recheck,
    purge(covers) {
      const covered = (packet: PublishPacket): boolean => {
        const record = records.get(packet.payload as Buffer)
        return record === undefined || covers(record)
      }
      let purged = retained.purge(covered)
      for (const desk of desks.values()) {
        for (const { queue } of desk.values()) purged += queue.purge(covered)
      }
      return purged
    },
    get connections() {
      return door.connections
    },
    close: door.close,
  }
}

/** Highest QoS granted by a filter that matches, undefined when none does. A message that several match is sent once [MQTT-3.3.5-1]. */
function grantedQos({ filters }: Subscriber, topic: string): 0 | 1 | 2 | undefined {
  let best: 0 | 1 | 2 | undefined
  for (const [filter, qos] of filters) {
    if ((best === undefined || qos > best) && filterMatches(filter, topic)) best = qos
  }
  return best
}

function packetOf({ topic }: OutboxRecord, payload: Buffer, qos: 0 | 1 | 2, retain: boolean): PublishPacket {
  return { cmd: 'publish', topic, payload, qos, retain, dup: false }
}

/** [MQTT-3.3] A whole PUBLISH at QoS 0, retain 0 [MQTT-3.3.1-9]. */
function publishFrame(topic: string, payload: Uint8Array): Buffer {
  const topicBytes = Buffer.byteLength(topic)
  const length = 2 + topicBytes + payload.length
  const lengthBytes = length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4
  const frame = Buffer.allocUnsafe(1 + lengthBytes + length)
  let at = 0
  frame[at++] = 0x30
  for (let rest = length; ; rest >>>= 7) {
    if (rest < 0x80) {
      frame[at++] = rest
      break
    }
    frame[at++] = (rest & 0x7f) | 0x80
  }
  at = frame.writeUInt16BE(topicBytes, at)
  at += frame.write(topic, at)
  frame.set(payload, at)
  return frame
}

const NOTHING = Buffer.alloc(0)

// ------------------------------------------------------------------------------------------------------------------ store

type QueuedPacket = PublishPacket & OutgoingPacket

/**
 * What one session has not acknowledged: PUBLISHes in order, a PUBREL in the place of its PUBLISH. Bounded by number and bytes.
 */
class OutgoingQueue {
  readonly #packets = new Map<number, QueuedPacket>()
  /** Packet id -> key in #packets. */
  readonly #byId = new Map<number, number>()
  readonly #max: number
  readonly #maxBytes: number
  readonly #count: Count
  #bytes = 0

  constructor(max: number, maxBytes: number, count: Count) {
    this.#max = max
    this.#maxBytes = maxBytes
    this.#count = count
  }

  get size(): number {
    return this.#packets.size
  }

  /** The packet id after the one given last, when any is in use. */
  get freeId(): number | undefined {
    const last = [...this.#byId.keys()].at(-1)
    return last === undefined ? undefined : (last % 65_535) + 1
  }

  push(packet: QueuedPacket): void {
    const key = packet.brokerCounter ?? 0
    if (this.#packets.has(key)) return
    this.#packets.set(key, packet)
    this.#bytes += sizeOf(packet)
    while (this.#packets.size > this.#max || (this.#bytes > this.#maxBytes && this.#packets.size > 1)) {
      this.#remove(this.#packets.keys().next().value!)
      this.#count('deliver.queue_full')
    }
  }

  /** A packet got its id, or a PUBREL takes the place of the PUBLISH with the same id. */
  update(packet: OutgoingPacket): void {
    const id = packet.messageId ?? 0
    if (packet.cmd === 'pubrel') {
      const key = this.#byId.get(id)
      const published = key === undefined ? undefined : this.#packets.get(key)
      if (key === undefined || published === undefined) return
      this.#bytes -= sizeOf(published)
      this.#packets.set(key, { cmd: 'pubrel', messageId: id } as unknown as QueuedPacket)
      return
    }
    const queued = this.#packets.get(packet.brokerCounter ?? 0)
    if (queued === undefined) return
    queued.messageId = id
    this.#byId.set(id, packet.brokerCounter ?? 0)
  }

  /** Acknowledged, or refused at the gate before it got an id. */
  clear(packet?: OutgoingPacket): QueuedPacket | undefined {
    if (packet === undefined) {
      this.#packets.clear()
      this.#byId.clear()
      this.#bytes = 0
      return undefined
    }
    const key = packet.messageId === undefined ? packet.brokerCounter : this.#byId.get(packet.messageId)
    return key === undefined ? undefined : this.#remove(key)
  }

  /** Everything, also what is added while it is being sent. What was sent before is marked as sent again [MQTT-3.3.1-1]. */
  *replay(): Generator<QueuedPacket> {
    for (const packet of this.#packets.values()) {
      if (packet.cmd === 'publish' && packet.messageId !== undefined) packet.dup = true
      yield packet
    }
  }

  unsent(): readonly QueuedPacket[] {
    return [...this.#packets.values()].filter(({ cmd, messageId }) => cmd === 'publish' && messageId === undefined)
  }

  purge(covers: (packet: PublishPacket) => boolean): number {
    let purged = 0
    for (const [key, packet] of this.#packets) {
      if (packet.cmd !== 'publish' || !covers(packet)) continue
      this.#remove(key)
      purged++
    }
    return purged
  }

  #remove(key: number): QueuedPacket | undefined {
    const packet = this.#packets.get(key)
    if (packet === undefined) return undefined
    this.#packets.delete(key)
    if (packet.messageId !== undefined) this.#byId.delete(packet.messageId)
    this.#bytes -= sizeOf(packet)
    return packet
  }
}

function sizeOf(packet: QueuedPacket): number {
  return packet.cmd === 'publish' ? packet.payload.length + packet.topic.length + 64 : 0
}

/** The last message of each topic, for outputs that ask for it, per recipient. */
class RetainedCopies {
  readonly #copies = new Map<string, PublishPacket>()
  readonly #max: number
  readonly #count: Count

  constructor(max: number, count: Count) {
    this.#max = max
    this.#count = count
  }

  set({ recipient, topic }: OutboxRecord, packet: PublishPacket): void {
    const key = `${recipient}/${topic}`
    this.#copies.delete(key)
    this.#copies.set(key, packet)
    if (this.#copies.size <= this.#max) return
    this.#copies.delete(this.#copies.keys().next().value!)
    this.#count('deliver.retained_full')
  }

  *matching(filters: readonly string[]): Generator<PublishPacket> {
    for (const packet of this.#copies.values()) {
      if (filters.some((filter) => filterMatches(filter, packet.topic))) yield packet
    }
  }

  purge(covers: (packet: PublishPacket) => boolean): number {
    let purged = 0
    for (const [key, packet] of this.#copies) {
      if (!covers(packet)) continue
      this.#copies.delete(key)
      purged++
    }
    return purged
  }
}

/** The engine's view of sessions and retained copies, in memory. Filters are kept by `grant`. */
class SubscriberStore extends EmptyPersistence {
  readonly #subscriberOf: (client: Client) => Subscriber | undefined
  readonly #find: (key: string) => Subscriber | undefined
  readonly #retained: RetainedCopies

  constructor(subscriberOf: (client: Client) => Subscriber | undefined, find: (key: string) => Subscriber | undefined, retained: RetainedCopies) {
    super()
    this.#subscriberOf = subscriberOf
    this.#find = find
    this.#retained = retained
  }

  override subscriptionsByClient({ id }: { readonly id: string }): Promise<Subscription[]> {
    const subscriber = this.#find(id)
    if (subscriber?.present !== true) return Promise.resolve([])
    return Promise.resolve([...subscriber.filters].map(([topic, qos]): Subscription => ({ topic, qos })).concat(PRESENT))
  }

  override outgoingEnqueue({ clientId }: { readonly clientId: string }, packet: PublishPacket): Promise<void> {
    this.#find(clientId)?.queue.push(packet as QueuedPacket)
    return DONE
  }

  override outgoingUpdate(client: Client, packet: OutgoingPacket): Promise<void> {
    this.#subscriberOf(client)?.queue.update(packet)
    return DONE
  }

  override outgoingClearMessageId(client: Client, packet: OutgoingPacket): Promise<unknown> {
    return Promise.resolve(this.#subscriberOf(client)?.queue.clear(packet))
  }

  override outgoingStream(client: Client): Readable {
    return Readable.from(this.#subscriberOf(client)?.queue.replay() ?? [])
  }

  override createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.#retained.matching(filters))
  }
}

