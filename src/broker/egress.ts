/**
 * The broker that recipients subscribe at. It delivers minimised records and nothing else: clients may not publish, the engine has
 * no router (engine.ts), and `publish` walks over the sessions of the one recipient a record is for. So a recipient whose filter
 * would also match another's topics still gets only its own, and no notice about other clients exists at all.
 *
 * A record is asked for at the gate at each hand-over: live, queued and retained. For QoS 0 that is the socket write itself.
 * What a record was when it came is noted here (Handover), because the outbox changes its own object when it purges or swaps:
 * one whose revision has moved on is covered, whatever the gate says. What is out on a connection is noted with the connection
 * until it is acknowledged, so that a withdrawal knows which sockets still hold something of it.
 *
 * Persistent sessions outlive the process. A record is done for the outbox when it is with everybody who is connected and safe for
 * everybody who is not: what waits for an absent session is in the session store (in the outbox's file), and of what a connected one
 * has not acknowledged the outbox keeps its record, for a second or two; then it goes into the store as well, so that a slow
 * recipient holds up nobody. A crash sends again what was not acknowledged.
 */
import { Readable } from 'node:stream'
import type { Duplex } from 'node:stream'
import type { Aedes, Client, PublishPacket, Subscription } from 'aedes'
import type { RecipientId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, OnDelivered, OutboxRecord, PurgeReason, SessionStore } from '../domain/ports.ts'
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
  readonly onDelivered?: OnDelivered | undefined
  /** Keeps persistent sessions and retained copies over restarts. Default: in memory only. */
  readonly store?: SessionStore | undefined
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
  /**
   * Lets go of what a purge covers, before it returns: what waits for sessions, what they have not acknowledged, retained copies.
   * Withdrawal and device setting put the variant without consent in its place, where there is one. To be called before the
   * outbox purges the same, so that `covers` sees records as they were; those it has changed already count as covered.
   */
  purge(covers: (record: OutboxRecord) => boolean, reason?: PurgeReason): Purged
  readonly connections: number
  close(graceMs: number): Promise<void>
}

export interface Purged {
  /** Messages that the outbox does not know any more; it counts the others itself. */
  readonly purged: number
  readonly swapped: number
  /**
   * Waits until what was handed over before has passed and, for a moment, for acknowledgements; then resets the connections that still hold any of
   * it, unwritten or unacknowledged. Resolves with the frames that were out when the purge began: at most so many may have left.
   */
  readonly cut: () => Promise<number>
}

/** A record as it was handed over. */
interface Handover {
  /** What leaves: asked for at the gate and counted. */
  record: OutboxRecord
  /** The outbox's own object, its revision at the hand-over, and what it said of a withdrawal then. */
  source: OutboxRecord
  revision: number
  variant: Uint8Array | null | undefined
  /** The variant has taken the place of the payload here; in the outbox it does so too. */
  readonly swapped: boolean
  /** Purged: nothing of it may be written any more. */
  gone: boolean
  /** The outbox has its answer, and has forgotten it. */
  answered: boolean
  /** Connected persistent sessions that have neither acknowledged it nor put it into the store. */
  held: number
  /** To be called when there is none any more. */
  finish: (() => void) | undefined
}

/** A frame on a connection that is not known to have arrived. */
interface Flight {
  readonly handover: Handover
  /** QoS 0, which nobody acknowledges: bytes written to the connection up to the frame's end. */
  readonly end: number
}

/** A session: a connection, or the memory of one with clean session 0. */
interface Subscriber {
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

interface Seat {
  readonly account: RecipientAccount
  readonly client: Client
  readonly guard: Guard<Visitor<Seat>>
  readonly subscriber: Subscriber
  /** By packet id: QoS 1 and 2, until acknowledged. Only what a purge could concern. */
  readonly flights: Map<number, Flight>
  /** QoS 0, in the order they were written; those the kernel has are taken out at the next write. */
  unread: Flight[]
}

/** QoS 0 to a client with more than this unread is dropped: that is what QoS 0 means, and others need not wait. */
const CONGESTED_BYTES = 1_048_576
/** How long a purge waits for acknowledgements before it resets connections: at most so many turns of the event loop, and so long. */
const CUT_TURNS = 25
const CUT_MS = 5
const PACKET_IDS = 65_535
const PRESENT: Subscription = { topic: '$present', qos: 0 }

/** An acknowledging recipient sends a packet for each message: as many as it can. */
const RECIPIENT_LIMITS = { controlPerSecond: Infinity } as const

export async function createEgress(options: EgressOptions): Promise<Egress> {
  const { directory, count, log, clock } = options
  /** All sessions by the engine's client id, and the same by recipient. */
  const sessions = new Map<string, Subscriber>()
  const desks = new Map<RecipientId, Map<string, Subscriber>>()
  const { store } = options
  const retained = new RetainedCopies(options.retained ?? LIMITS.retained, count, store)
  /** What a payload belongs to. The engine wraps packets again and again but keeps the payload's buffer. */
  const handovers = new WeakMap<object, Handover>()
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
      const subscriber = take(account, client.id, client.clean)
      const seat: Seat = { account, client, guard, subscriber, flights: new Map(), unread: [] }
      subscriber.seat = seat
      subscriber.live = false
      return seat
    },
    left({ client, subscriber }) {
      if (subscriber.seat?.client !== client) return
      subscriber.seat = undefined
      subscriber.live = false
      if (sessions.get(subscriber.key) !== subscriber) return
      if (!subscriber.persistent || (subscriber.filters.size === 0 && subscriber.queue.size === 0)) {
        forget(subscriber)
        return
      }
      subscriber.queue.keep()
      // Put back at the end: the first of the map is then the one absent longest.
      const desk = desks.get(subscriber.recipient)
      desk?.delete(subscriber.key)
      desk?.set(subscriber.key, subscriber)
    },
  })

  function queueFor(key: string): OutgoingQueue {
    return new OutgoingQueue(queueMessages, queueBytes, count, handoverOfPacket, key, store)
  }

  function handoverOfPacket({ payload }: PublishPacket): Handover | undefined {
    return typeof payload === 'object' ? handovers.get(payload) : undefined
  }

  function remember(subscriber: Subscriber): Map<string, Subscriber> {
    let desk = desks.get(subscriber.recipient)
    if (desk === undefined) desks.set(subscriber.recipient, (desk = new Map()))
    desk.set(subscriber.key, subscriber)
    sessions.set(subscriber.key, subscriber)
    return desk
  }

  function forget({ key, recipient, persistent, queue }: Subscriber): void {
    sessions.delete(key)
    queue.clear()
    if (persistent) store?.forget(key)
    const desk = desks.get(recipient)
    if (desk?.delete(key) === true && desk.size === 0) desks.delete(recipient)
  }

  function take({ id: recipient, user }: RecipientAccount, key: string, clean: boolean): Subscriber {
    const known = sessions.get(key)
    if (known !== undefined && known.persistent && !clean && known.recipient === recipient) {
      known.present = true
      return known
    }
    // [MQTT-3.1.2-6] A clean session ends an earlier one; and so does a log-in that serves another recipient now.
    if (known !== undefined) forget(known)
    const fresh: Subscriber = {
      key, user, recipient, persistent: !clean, filters: new Map(), queue: queueFor(key), present: false, seat: undefined, live: false,
    }
    const desk = remember(fresh)
    if (desk.size > (options.sessions ?? LIMITS.recipientSessions)) {
      const oldest = [...desk.values()].find(({ seat, key: other }) => seat === undefined && other !== key)
      if (oldest !== undefined) {
        forget(oldest)
        count('session.evicted')
      }
    }
    return fresh
  }

  // ------------------------------------------------------------------------------------------------------------- delivery

  function publish(record: OutboxRecord, done: (sessions: number) => void): void {
    let reached = 0
    let writing = 1
    let handover: Handover | undefined
    let payload: Buffer | undefined
    const written = (): void => {
      if (--writing > 0) return
      const finish = (): void => {
        if (handover !== undefined) {
          handover.answered = true
          // Without a store nothing is answered for before it was delivered or queued, and the outbox may still change it.
          if (payload !== undefined && store !== undefined) letGoOf(handover, payload)
        }
        done(reached)
      }
      if (handover === undefined || handover.held === 0) finish()
      else handover.finish = finish
    }
    /** A payload of its own: the record's may be part of a buffer that is written over. */
    const own = (): Buffer => {
      if (payload === undefined) {
        payload = Buffer.from(record.payload)
        handovers.set(payload, (handover ??= handoverOf(record)))
      }
      return payload
    }
    if (record.retain) {
      retained.set(record, packetOf(record, own(), record.qos, true))
      store?.retain(record)
    }
    for (const subscriber of desks.get(record.recipient)?.values() ?? []) {
      const granted = grantedQos(subscriber, record.topic)
      if (granted === undefined) continue
      const qos = granted < record.qos ? granted : record.qos // [MQTT-3.8.4-6]
      if (subscriber.live && subscriber.seat !== undefined) {
        reached++
        if (qos === 0) {
          writeNow(subscriber.seat, (handover ??= handoverOf(record)), record.payload, false)
        } else {
          writing++
          subscriber.seat.client.publish(packetOf(record, own(), qos, false), written)
        }
      } else if (subscriber.persistent && qos > 0) {
        reached++
        // After a crash the outbox hands out again what it had no answer for: some of it waits here already.
        if (subscriber.queue.holds(record.id)) continue
        count('deliver.queued')
        subscriber.queue.push(stamp(packetOf(record, own(), qos, false)), subscriber.seat === undefined)
      }
    }
    written()
  }

  function stamp(packet: PublishPacket): QueuedPacket {
    const counters = engine as unknown as { counter: number }
    return { ...packet, brokerId: engine.id, brokerCounter: ++counters.counter }
  }

  function mayLeave(handover: Handover): boolean {
    return !handover.gone && !hasMoved(handover) && (handover.record.expiresAtMs ?? Infinity) > clock.now() && options.gate(handover.record)
  }

  function writeNow(seat: Seat, handover: Handover, payload: Uint8Array, retain: boolean): void {
    const { guard, account } = seat
    const { record } = handover
    if (!mayLeave(handover)) return count('deliver.gated')
    if (guard.unwritten > CONGESTED_BYTES) return count('deliver.dropped_qos0')
    // Of what is not stored only the count will tell that it left: it is written first.
    if (!isCounted(record, account.id, retain || record.qos === 0)) return count('deliver.gated')
    guard.write(publishFrame(record.topic, payload, retain))
    if (isTracked(handover)) {
      dropRead(seat)
      seat.unread.push({ handover, end: guard.written })
    }
    return count('deliver.live')
  }

  /** False when the exit cannot be counted, and so must not happen. */
  function isCounted(record: OutboxRecord, credential: string, isUnrecorded: boolean): boolean {
    try {
      options.onDelivered?.(record, credential, isUnrecorded)
      return true
    } catch (error) {
      log.warn('broker reported an error', { listener: 'recipients', error: error as Error })
      return false
    }
  }

  /** The engine asks before every QoS 1 or 2 delivery and for retained copies. */
  function authorizeForward(client: Client, packet: PublishPacket): PublishPacket | null {
    const seat = door.seatOf(client)
    const handover = typeof packet.payload === 'object' ? handovers.get(packet.payload) : undefined
    // Nothing leaves that is not a record, and no record but to its recipient.
    if (seat === undefined || handover === undefined || handover.record.recipient !== seat.account.id) return null
    const granted = grantedQos(seat.subscriber, packet.topic)
    if (granted === undefined || !mayLeave(handover)) {
      count('deliver.gated')
      return null
    }
    if (packet.retain) {
      if (granted < packet.qos) packet.qos = granted
      if (packet.qos === 0) {
        writeNow(seat, handover, packet.payload as Buffer, true)
        return null
      }
    }
    // The store hears the id of what a persistent session is sent, but not of the rest.
    if ((packet.retain || !seat.subscriber.persistent) && isTracked(handover) && !takeId(seat, packet, handover)) return null
    if (!packet.dup) {
      if (!isCounted(handover.record, seat.account.id, packet.retain)) {
        count('deliver.gated')
        return null
      }
      count('deliver.live')
    }
    return packet
  }

  /** Gives a packet the id that the engine would give it later, so that its acknowledgement can be recognised. */
  function takeId(seat: Seat, packet: PublishPacket, handover: Handover): boolean {
    const { flights, guard } = seat
    if (flights.size >= PACKET_IDS) {
      // [MQTT-2.3.1-2] No id is free: the peer has not acknowledged one of 65,535 messages.
      guard.kill('slow_reader')
      return false
    }
    const ids = seat.client as unknown as { _nextId: number }
    let id = ids._nextId
    while (flights.has(id)) id = (id % PACKET_IDS) + 1
    ids._nextId = (id % PACKET_IDS) + 1
    packet.messageId = id
    flights.set(id, { handover, end: 0 })
    return true
  }

  /** A persistent session is being sent a packet under its id, or has received it (PUBREC). */
  function noteSent(client: Client, { cmd, messageId = 0, payload }: OutgoingPacket & { readonly payload?: string | Buffer }): void {
    const seat = door.seatOf(client)
    const handover = typeof payload === 'object' ? handovers.get(payload) : undefined
    if (cmd === 'pubrel') seat?.flights.delete(messageId)
    else if (handover !== undefined && isTracked(handover)) seat?.flights.set(messageId, { handover, end: 0 })
  }

  // ---------------------------------------------------------------------------------------------------------------- purge

  function purge(covers: (record: OutboxRecord) => boolean, reason: PurgeReason = 'withdrawal'): Purged {
    const gone = new Set<Handover>()
    const instead = new Map<Handover, Buffer>()
    const swaps = reason === 'withdrawal' || reason === 'device_setting'

    function isCovered(handover: Handover): boolean {
      if (!gone.has(handover) && (handover.gone || hasMoved(handover) || covers(handover.record))) {
        handover.gone = true
        gone.add(handover)
      }
      return handover.gone
    }

    /** What becomes of a packet: it stays (undefined), it goes (null), or its payload is replaced. */
    function fate({ payload }: PublishPacket): Buffer | null | undefined {
      const handover = typeof payload === 'object' ? handovers.get(payload) : undefined
      if (handover === undefined) return null
      if (!isCovered(handover)) return undefined
      const variant = handover.swapped ? undefined : handover.variant
      if (!swaps || variant === undefined || variant === null) return null
      let other = instead.get(handover)
      if (other === undefined) {
        other = Buffer.from(variant)
        handovers.set(other, swappedOf(handover, other))
        instead.set(handover, other)
      }
      return other
    }

    retained.purge(fate)
    for (const { queue } of sessions.values()) queue.purge(fate)
    const out = new Set<Flight>()
    for (const seat of seats()) {
      dropRead(seat)
      for (const { handover } of flightsOf(seat)) isCovered(handover)
      for (const flight of flightsOf(seat)) if (gone.has(flight.handover)) out.add(flight)
    }
    const forgotten = [...gone].filter(({ answered }) => answered)
    return {
      purged: forgotten.filter((handover) => !instead.has(handover)).length,
      swapped: forgotten.filter((handover) => instead.has(handover)).length,
      cut: () => cut(gone, out),
    }
  }

  async function cut(gone: ReadonlySet<Handover>, out: Set<Flight>): Promise<number> {
    const until = clock.monotonic() + CUT_MS
    let holding: Seat[] = []
    for (let turn = 1; turn <= 2 || (holding.length > 0 && turn <= CUT_TURNS && clock.monotonic() < until); turn++) {
      await new Promise((resolve) => void setImmediate(resolve))
      holding = []
      for (const seat of seats()) {
        dropRead(seat)
        const mine = [...flightsOf(seat)].filter(({ handover }) => gone.has(handover))
        for (const flight of mine) out.add(flight)
        if (mine.length > 0) holding.push(seat)
      }
    }
    for (const { guard } of holding) guard.kill('withdrawal')
    return out.size
  }

  function *seats(): Generator<Seat> {
    for (const guard of door.guards) {
      const seat = guard.session?.seat
      if (seat !== undefined) yield seat
    }
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

  function grant(subscriber: Subscriber, { topic, qos }: Subscription): boolean {
    const { recipient, filters } = subscriber
    if (!contains(topic, options.allowed(recipient))) {
      filters.delete(topic)
      return false
    }
    if (filters.size >= LIMITS.recipientFilters && !filters.has(topic)) return false
    const before = filters.get(topic)
    // Each save is an fsync: who asks again and again for the same must not have one each time.
    if (before === qos) return true
    filters.set(topic, qos)
    if (save(subscriber)) return true
    if (before === undefined) filters.delete(topic)
    else filters.set(topic, before)
    return false
  }

  /** [MQTT-3.1.2-4] False when the store cannot take it: a session that would not be there after a restart is not promised. */
  function save({ key, user, recipient, persistent, filters }: Subscriber): boolean {
    if (!persistent || store === undefined) return true
    try {
      store.save({ key, user, recipient, filters })
      return true
    } catch (error) {
      log.warn('broker reported an error', { listener: 'recipients', error: error as Error })
      return false
    }
  }

  function recheck(): void {
    for (const { account, guard } of seats()) {
      const now = directory.recipient(account.user)
      if (now?.id !== account.id || now.credential !== account.credential || now.certificate !== account.certificate) guard.kill('revoked')
    }
    for (const subscriber of [...sessions.values()]) {
      const { recipient, user, filters, seat } = subscriber
      const allowed = options.allowed(recipient)
      const foreign = [...filters.keys()].filter((filter) => !contains(filter, allowed))
      for (const filter of foreign) {
        filters.delete(filter)
        seat?.client.unsubscribe({ unsubscriptions: [filter] } as never, () => undefined)
        count('subscribe.revoked')
        log.info('subscription withdrawn', { listener: 'recipients', recipient })
      }
      if (foreign.length > 0) save(subscriber)
      // A session belongs to a log-in, and a recipient may have several: those of the others stay.
      if (directory.recipient(user)?.id !== recipient) {
        forget(subscriber)
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
    persistence: new SubscriberStore({
      subscriberOf: (client) => door.seatOf(client)?.subscriber,
      find: (key) => sessions.get(key),
      retained,
      sent: noteSent,
      arrived: (client, id) => void door.seatOf(client)?.flights.delete(id),
    }),
    onError: (error) => log.warn('broker reported an error', { listener: 'recipients', error }),
  })

  const events: NodeJS.EventEmitter = engine
  events.on('unsubscribe', (filters: readonly string[], client: Client) => {
    const subscriber = door.seatOf(client)?.subscriber
    if (subscriber === undefined) return
    for (const filter of filters) subscriber.filters.delete(filter)
    save(subscriber)
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
  restore()
  const keeper = store === undefined ? undefined : setInterval(() => {
    for (const { live, queue } of sessions.values()) if (live) queue.keepOld()
  }, KEEP_MS).unref()

  /** What a former run left: sessions without a connection, and retained copies. */
  function restore(): void {
    const counters = engine as unknown as { counter: number }
    const packetFor = (record: OutboxRecord, qos: 0 | 1 | 2, retain: boolean): PublishPacket => {
      const payload = Buffer.from(record.payload)
      handovers.set(payload, { ...handoverOf(record), answered: true })
      return packetOf(record, payload, qos, retain)
    }
    for (const record of store?.retained() ?? []) retained.set(record, packetFor(record, record.qos, true))
    for (const { key, user, recipient, filters, waiting } of store?.sessions() ?? []) {
      const queue = queueFor(key)
      for (const { place, record, qos, messageId, released } of waiting) {
        const packet = released ? ({ cmd: 'pubrel' } as unknown as PublishPacket) : packetFor(record, qos, false)
        queue.restore({ ...packet, brokerId: engine.id, brokerCounter: place, ...(messageId === undefined ? {} : { messageId }) })
        counters.counter = Math.max(counters.counter, place)
      }
      remember({ key, user, recipient, persistent: true, filters: new Map(filters), queue, present: true, seat: undefined, live: false })
    }
  }

  return {
    accept: door.accept,
    publish,
    recheck,
    purge,
    get connections() {
      return door.connections
    },
    async close(graceMs) {
      clearInterval(keeper)
      await door.close(graceMs)
    },
  }
}

/** How long the outbox keeps what a connected session has not acknowledged: once to twice as long. */
const KEEP_MS = 1_000

/** Highest QoS granted by a filter that matches, undefined when none does. A message that several match is sent once [MQTT-3.3.5-1]. */
function grantedQos({ filters }: Subscriber, topic: string): 0 | 1 | 2 | undefined {
  let best: 0 | 1 | 2 | undefined
  for (const [filter, qos] of filters) {
    if ((best === undefined || qos > best) && filterMatches(filter, topic)) best = qos
  }
  return best
}

function handoverOf(record: OutboxRecord): Handover {
  return { record, source: record, revision: record.revision ?? 0, variant: record.payloadIfWithdrawn, swapped: false, gone: false, answered: false, held: 0, finish: undefined }
}

/** The outbox has done with it: what still waits here has bytes of its own, and holds on to none of the outbox's. */
function letGoOf(handover: Handover, payload: Buffer): void {
  if (hasMoved(handover)) return
  const variant = handover.variant === undefined || handover.variant === null ? handover.variant : Buffer.from(handover.variant)
  handover.record = handover.source = { ...recordOf(handover.record), payload, payloadIfWithdrawn: variant }
  handover.revision = 0
  handover.variant = variant
}

/** What is left of a hand-over after a withdrawal. Nothing in it rests on a yes any more. */
function swappedOf({ record, source, revision, variant, answered }: Handover, payload: Buffer): Handover {
  const rest: OutboxRecord = { ...recordOf(record), payload, payloadIfWithdrawn: undefined }
  return { record: rest, source, revision, variant, swapped: true, gone: false, answered, held: 0, finish: undefined }
}

/** A record of its own: the outbox's object answers by getters, which a spread would not see. */
function recordOf(record: OutboxRecord): OutboxRecord {
  const {
    id, output, recipient, stream, topic, qos, retain, machine, holder, subjects, machineOrder, acquiredAtMs, receivedAtMs, purpose, basis, country, consentSeq,
    policy, rulesHash, plan, keyId, storageClass, expiresAtMs, categories, via, payload, payloadIfWithdrawn,
  } = record
  return {
    id, output, recipient, stream, topic, qos, retain, machine, holder, subjects, machineOrder, acquiredAtMs, receivedAtMs, purpose, basis, country, consentSeq,
    policy, rulesHash, plan, keyId, storageClass, expiresAtMs, categories, via, payload, payloadIfWithdrawn,
  }
}

/** The outbox has purged or swapped the record since. A swap that was made here too is not news. */
function hasMoved({ source, revision, variant, swapped }: Handover): boolean {
  return (source.revision ?? 0) !== revision && !(swapped && source.payload === variant)
}

/** Whether there is anybody whose withdrawal, erasure or device setting could concern it. */
function isTracked({ variant, record }: Handover): boolean {
  return variant !== undefined || record.subjects.length > 0
}

function *flightsOf({ flights, unread }: Seat): Generator<Flight> {
  yield *flights.values()
  yield *unread
}

/** Takes out the QoS 0 frames that the kernel has. */
function dropRead(seat: Seat): void {
  const { unread, guard } = seat
  const taken = guard.written - guard.unwritten
  if (unread.length === 0 || unread[0]!.end > taken) return
  const first = unread.findIndex(({ end }) => end > taken)
  seat.unread = first === -1 ? [] : unread.slice(first)
}

function packetOf({ topic }: OutboxRecord, payload: Buffer, qos: 0 | 1 | 2, retain: boolean): PublishPacket {
  return { cmd: 'publish', topic, payload, qos, retain, dup: false }
}

/** [MQTT-3.3] A whole PUBLISH at QoS 0; retain is 1 only for a copy that a new subscription brings [MQTT-3.3.1-8, MQTT-3.3.1-9]. */
function publishFrame(topic: string, payload: Uint8Array, retain: boolean): Buffer {
  const topicBytes = Buffer.byteLength(topic)
  const length = 2 + topicBytes + payload.length
  const lengthBytes = length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x20_0000 ? 3 : 4
  const frame = Buffer.allocUnsafe(1 + lengthBytes + length)
  let at = 0
  frame[at++] = retain ? 0x31 : 0x30
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

/** What becomes of a packet: it stays (undefined), it goes (null), or its payload is replaced. */
type FateOf = (packet: PublishPacket) => Buffer | null | undefined

/**
 * What one session has not acknowledged: PUBLISHes in order, a PUBREL in the place of its PUBLISH. Bounded by number and bytes.
 * A packet is either held (a connected session has it, and the outbox has its record) or kept (it is in the store).
 */
class OutgoingQueue {
  readonly #packets = new Map<number, QueuedPacket>()
  /** Packet id -> key in #packets. */
  readonly #byId = new Map<number, number>()
  readonly #max: number
  readonly #maxBytes: number
  readonly #count: Count
  readonly #handoverOf: (packet: PublishPacket) => Handover | undefined
  readonly #session: string
  readonly #store: SessionStore | undefined
  /** By key in #packets: held, and for how many rounds of `keepOld`. */
  readonly #held = new Map<number, { readonly handover: Handover; isOld: boolean }>()
  /** Kept, but under no packet id yet: it is written when the session leaves. */
  readonly #unnumbered = new Set<number>()
  /** Record id -> key in #packets, of what a former run left. */
  readonly #restored = new Map<string, number>()
  #bytes = 0

  constructor(max: number, maxBytes: number, count: Count, handover: (packet: PublishPacket) => Handover | undefined, session: string, store: SessionStore | undefined) {
    this.#max = max
    this.#maxBytes = maxBytes
    this.#count = count
    this.#handoverOf = handover
    this.#session = session
    this.#store = store
  }

  get size(): number {
    return this.#packets.size
  }

  /** The packet id after the one given last, when any is in use. */
  get freeId(): number | undefined {
    const last = [...this.#byId.keys()].at(-1)
    return last === undefined ? undefined : (last % 65_535) + 1
  }

  /** @param absent  nobody is connected: it goes into the store at once */
  push(packet: QueuedPacket, absent = false): void {
    const key = packet.brokerCounter ?? 0
    if (this.#packets.has(key)) return
    this.#add(key, packet)
    if (this.#store !== undefined) {
      const handover = this.#handoverOf(packet)
      if (absent) this.#keep(key, packet)
      else if (handover !== undefined) {
        handover.held++
        this.#held.set(key, { handover, isOld: false })
      }
    }
    while (this.#packets.size > this.#max || (this.#bytes > this.#maxBytes && this.#packets.size > 1)) {
      this.#remove(this.#packets.keys().next().value!)
      this.#count('deliver.queue_full')
    }
  }

  /** A packet that the store gave back. */
  restore(packet: QueuedPacket): void {
    const key = packet.brokerCounter ?? 0
    this.#add(key, packet)
    if (packet.messageId !== undefined) this.#byId.set(packet.messageId, key)
    const handover = this.#handoverOf(packet)
    if (handover !== undefined) this.#restored.set(idOf(handover.record.id), key)
  }

  /** Whether a former run left this record here, and it waits still. */
  holds(id: Uint8Array): boolean {
    return this.#restored.size > 0 && this.#packets.get(this.#restored.get(idOf(id)) ?? -1)?.cmd === 'publish'
  }

  #add(key: number, packet: QueuedPacket): void {
    this.#packets.set(key, packet)
    this.#bytes += sizeOf(packet)
  }

  /** The session has left: everything goes into the store, under the ids that it was sent under. */
  keep(): void {
    for (const key of [...this.#held.keys(), ...this.#unnumbered]) {
      const packet = this.#packets.get(key)
      if (packet !== undefined) this.#keep(key, packet)
    }
    this.#unnumbered.clear()
  }

  /** What was not acknowledged since the last call goes into the store, and the outbox may forget it. */
  keepOld(): void {
    for (const [key, held] of this.#held) {
      const packet = this.#packets.get(key)
      if (held.isOld && packet !== undefined) this.#keep(key, packet)
      held.isOld = true
    }
  }

  #keep(key: number, packet: QueuedPacket): void {
    // That of the payload: after a withdrawal it is not the one that was handed over first.
    const handover = this.#handoverOf(packet)
    // What the outbox has purged meanwhile has lost what it said of a withdrawal: kept like that it would rest on nobody's yes.
    if (packet.cmd === 'publish' && handover !== undefined && !handover.gone && !hasMoved(handover)) {
      const record = { ...recordOf(handover.record), payload: packet.payload as Buffer }
      this.#store?.put(this.#session, { place: key, record, qos: packet.qos === 2 ? 2 : 1, messageId: packet.messageId, released: false })
      if (packet.messageId === undefined) this.#unnumbered.add(key)
    }
    this.#letGo(key)
  }

  /** The outbox need not keep it for this session any more. */
  #letGo(key: number): void {
    const handover = this.#held.get(key)?.handover
    if (handover === undefined) return
    this.#held.delete(key)
    if (--handover.held > 0) return
    const { finish } = handover
    handover.finish = undefined
    finish?.()
  }

  /** A packet got its id, or a PUBREL takes the place of the PUBLISH with the same id. */
  update(packet: OutgoingPacket): void {
    const id = packet.messageId ?? 0
    if (packet.cmd === 'pubrel') {
      const key = this.#byId.get(id)
      const published = key === undefined ? undefined : this.#packets.get(key)
      if (key === undefined || published === undefined) return
      this.#bytes -= sizeOf(published)
      const record = published.cmd === 'publish' ? this.#handoverOf(published)?.record : undefined
      this.#packets.set(key, { cmd: 'pubrel', messageId: id } as unknown as QueuedPacket)
      this.#unnumbered.delete(key)
      // [MQTT-4.3.3-1] Received: after a restart only the PUBREL is sent again.
      // It tells of nobody any more: an erasure need not find it.
      if (record !== undefined) this.#store?.put(this.#session, { place: key, record: { ...recordOf(record), subjects: [], consentSeq: [], payloadIfWithdrawn: undefined }, qos: 2, messageId: id, released: true })
      this.#letGo(key)
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
      for (const key of [...this.#packets.keys()]) this.#remove(key)
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

  purge(fateOf: FateOf): void {
    for (const [key, packet] of this.#packets) {
      if (packet.cmd !== 'publish') continue
      const fate = fateOf(packet)
      if (fate === undefined) continue
      if (fate === null) {
        this.#remove(key)
      } else {
        // In its place, so that a machine's messages keep their order.
        this.#bytes += fate.length - packet.payload.length
        packet.payload = fate
        if (!this.#held.has(key)) this.#keep(key, packet)
      }
    }
  }

  #remove(key: number): QueuedPacket | undefined {
    const packet = this.#packets.get(key)
    if (packet === undefined) return undefined
    this.#packets.delete(key)
    if (packet.messageId !== undefined) this.#byId.delete(packet.messageId)
    this.#bytes -= sizeOf(packet)
    this.#unnumbered.delete(key)
    const handover = this.#restored.size === 0 ? undefined : this.#handoverOf(packet)
    if (handover !== undefined) this.#restored.delete(idOf(handover.record.id))
    this.#store?.remove(this.#session, key)
    this.#letGo(key)
    return packet
  }
}

function idOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString('latin1')
}

function sizeOf(packet: QueuedPacket): number {
  return packet.cmd === 'publish' ? packet.payload.length + packet.topic.length + 64 : 0
}

/** The last message of each topic, for outputs that ask for it, per recipient. */
class RetainedCopies {
  readonly #copies = new Map<string, { readonly packet: PublishPacket; readonly record: OutboxRecord }>()
  readonly #max: number
  readonly #count: Count
  readonly #store: SessionStore | undefined

  constructor(max: number, count: Count, store: SessionStore | undefined) {
    this.#max = max
    this.#count = count
    this.#store = store
  }

  set(record: OutboxRecord, packet: PublishPacket): void {
    const key = `${record.recipient}/${record.topic}`
    this.#copies.delete(key)
    this.#copies.set(key, { packet, record })
    if (this.#copies.size <= this.#max) return
    this.#drop(this.#copies.keys().next().value!)
    this.#count('deliver.retained_full')
  }

  #drop(key: string): void {
    const copy = this.#copies.get(key)
    if (copy === undefined) return
    this.#copies.delete(key)
    this.#store?.unretain(copy.record.recipient, copy.record.topic)
  }

  *matching(filters: readonly string[]): Generator<PublishPacket> {
    for (const { packet } of this.#copies.values()) {
      if (filters.some((filter) => filterMatches(filter, packet.topic))) yield packet
    }
  }

  purge(fateOf: FateOf): void {
    for (const [key, { packet, record }] of this.#copies) {
      const fate = fateOf(packet)
      if (fate === null) {
        this.#drop(key)
      } else if (fate !== undefined) {
        packet.payload = fate
        this.#store?.retain({ ...recordOf(record), payload: fate, payloadIfWithdrawn: undefined })
      }
    }
  }
}

/** The engine's view of sessions and retained copies, in memory. Filters are kept by `grant`. */
class SubscriberStore extends EmptyPersistence {
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

  override outgoingStream(client: Client): Readable {
    return Readable.from(this.#given.subscriberOf(client)?.queue.replay() ?? [])
  }

  override createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.#given.retained.matching(filters))
  }
}

interface Bookkeeping {
  readonly subscriberOf: (client: Client) => Subscriber | undefined
  readonly find: (key: string) => Subscriber | undefined
  readonly retained: RetainedCopies
  readonly sent: (client: Client, packet: OutgoingPacket) => void
  readonly arrived: (client: Client, id: number) => void
}
