/**
 * The broker that recipients subscribe at. It delivers minimised records and nothing else: what clients publish goes nowhere here, but
 * for commands that are handed to the other side (downlink.ts); the engine has no router (engine.ts), and `publish` walks over the sessions of the one recipient a record is for. So a recipient whose filter
 * would also match another's topics still gets only its own, and no notice about other clients exists at all.
 *
 * A record is asked for at the gate at each hand-over: live, queued and retained. For QoS 0 that is the write itself, which reaches the
 * socket a turn later.
 * What a record was when it came is noted here (Handover), because the outbox changes its own object when it purges or swaps:
 * one whose revision has moved on is covered, whatever the gate says. What is out on a connection is noted with the connection
 * until it is acknowledged, so that a withdrawal knows which sockets still hold something of it.
 *
 * Persistent sessions outlive the process. A record is done for the outbox when it is with everybody who is connected and safe for
 * everybody who is not: what waits for an absent session is in the session store (in the outbox's file), and of what a connected one
 * has not acknowledged the outbox keeps its record, for a second or two; then it goes into the store as well, so that a slow
 * recipient holds up nobody. A crash sends again what was not acknowledged.
 */
import type { Duplex } from 'node:stream'
import type { Aedes, Client, PublishPacket, Subscription } from 'aedes'
import type { OutputId, RecipientId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, Command, OnDelivered, OutboxRecord, PurgeReason, SessionStore } from '../domain/ports.ts'
import { Shelf } from '../domain/shelf.ts'
import type { BrokerLog, Count } from './counts.ts'
import { purge } from './cut.ts'
import type { CutParts, Purged } from './cut.ts'
import { createDoor } from './door.ts'
import { Turns, addressOf, isForbidden } from './downlink.ts'
import type { CommandDone } from './downlink.ts'
import { createEngine } from './engine.ts'
import type { OutgoingPacket } from './engine.ts'
import type { GuardLimits } from './guard.ts'
import { Handovers, handoverOf, hasMoved, isTracked, letGoOf, numberedFrame, packetOf, publishFrame, recordOf } from './handover.ts'
import type { Handover } from './handover.ts'
import { admitRecipient, recipientIdentity } from './identify.ts'
import type { Credentials, RecipientAccount, RecipientDirectory, Via } from './identify.ts'
import { RetainedCopies } from './retained.ts'
import { dropRead, grantedQos, PRESENT, SubscriberStore, Subscribers } from './subscribers.ts'
import type { RecipientWaiting, Seat, Subscriber } from './subscribers.ts'
import { contains } from './topics.ts'
import type { QueuedPacket } from './waiting.ts'

export interface EgressOptions {
  readonly directory: RecipientDirectory
  readonly credentials: Credentials
  /** Topic templates of the recipient's own outputs under the rules in force. */
  readonly allowed: (recipient: RecipientId) => readonly string[]
  /** Whether this record may leave now. Synchronous; false drops and counts it. */
  readonly gate: (record: OutboxRecord) => boolean
  /** A record was handed to a client for the first time. `credential` is the recipient's account. */
  readonly onDelivered?: OnDelivered | undefined
  /** A legal hold: what would go without having arrived is kept by the store, and never leaves. Default: none. */
  readonly held?: ((record: OutboxRecord) => boolean) | undefined
  /** Whether the rules in force have the output; retained copies of others go at the start and with `recheck`. Default: they do. */
  readonly knows?: ((output: OutputId) => boolean) | undefined
  /** Takes a recipient's command to a machine. Default: no PUBLISH of a recipient is taken. */
  readonly downlink?: ((machine: string, command: Command, done: CommandDone) => void) | undefined
  /** Keeps persistent sessions and retained copies over restarts. Default: in memory only. */
  readonly store?: SessionStore | undefined
  readonly clock: Clock
  readonly count: Count
  readonly log: BrokerLog
  readonly limits?: Partial<GuardLimits> | undefined
  readonly perIdentity?: number | undefined
  readonly connectsPerMinute?: number | undefined
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
  /** What waits for persistent sessions, by recipient. Walks over all sessions: for people, not for the hot path. */
  waiting(): readonly RecipientWaiting[]
  readonly connections: number
  close(graceMs: number): Promise<void>
}

/** QoS 0 to a client with more than this unread is dropped: that is what QoS 0 means, and others need not wait. */
const CONGESTED_BYTES = 1_048_576
/** How soon somebody who does not read is looked at again. */
const CONGESTED_MS = 10
/** Handed in a turn to a subscriber that catches up: from about 200 messages of the usual size, two milliseconds, to eight times as many. */
const CATCH_UP_LEAST = 131_072
const CATCH_UP_MOST = 1_048_576
const CATCH_UP_EACH = 512
const PACKET_IDS = 65_535

/** An acknowledging recipient sends a packet for each message: as many as it can. */
const RECIPIENT_LIMITS = { controlPerSecond: Infinity } as const

export async function createEgress(options: EgressOptions): Promise<Egress> {
  const { directory, count, log, clock } = options
  const { store } = options
  const handovers = new Handovers()
  const retained = new RetainedCopies(options.retained ?? LIMITS.retained, count, store, lost)
  const subscribers = new Subscribers({
    max: options.queueMessages ?? LIMITS.offlineMessages, maxBytes: options.queueBytes ?? LIMITS.offlineBytes, handovers, store, count, lost,
  }, options.sessions ?? LIMITS.recipientSessions)

  const door = createDoor<RecipientAccount, Seat>({
    ...options,
    listener: 'recipients',
    limits: { ...RECIPIENT_LIMITS, ...options.limits },
    monotonic: () => clock.monotonic(),
    will: 'refuse',
    identify: (packet, via) => recipientIdentity(packet, via, directory),
    admit: (claim) => admitRecipient(claim, directory, options.credentials),
    seat(account, _identity, client, guard) {
      const subscriber = subscribers.take(account, client.id, client.clean)
      const seat: Seat = { account, client, guard, subscriber, flights: new Shelf(), unread: [], turns: new Turns() }
      subscriber.seat = seat
      subscriber.live = false
      return seat
    },
    left: (seat) => subscribers.left(seat),
  })

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
    for (const subscriber of subscribers.of(record.recipient)) {
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

  function isHeld(record: OutboxRecord): boolean {
    return store !== undefined && options.held?.(record) === true
  }

  /** [GDPR Art. 17(3)(e), 18(1)] What a legal hold asks for outlives the queue that it waited in; of what the outbox has purged it keeps it itself. */
  function lost(packet: PublishPacket): void {
    const handover = handovers.of(packet)
    if (handover === undefined || handover.frozen || hasMoved(handover) || !isHeld(handover.record)) return
    handover.frozen = true
    store?.hold({ ...recordOf(handover.record), payload: packet.payload as Buffer })
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
    const handover = handovers.of(packet)
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
  function noteSent(client: Client, packet: OutgoingPacket & { readonly payload?: string | Buffer }): void {
    const { cmd, messageId = 0 } = packet
    const seat = door.seatOf(client)
    const handover = handovers.of(packet)
    if (cmd === 'pubrel') seat?.flights.delete(messageId)
    else if (handover !== undefined && isTracked(handover)) seat?.flights.set(messageId, { handover, end: 0 })
  }

  function *seats(): Generator<Seat> {
    for (const guard of door.guards) {
      const seat = guard.session?.seat
      if (seat !== undefined) yield seat
    }
  }

  // ------------------------------------------------------------------------------------------------------------- commands

  /** All that a recipient may send: commands to machines, and what it answers to notices. */
  function authorizePublish(client: Client | null, packet: PublishPacket, answer: (error?: Error | null) => void): void {
    const seat = door.seatOf(client)
    const { topic, payload, qos, retain } = packet
    // The engine throws it away in any case.
    packet.topic = SINK
    packet.payload = NOTHING
    packet.retain = false
    if (seat === undefined) return answer(new Error('nobody publishes'))
    const { account: { id: from }, guard } = seat
    const ended = (reason: 'unauthorised' | 'outbox'): void => {
      guard.kill(reason)
      answer(new Error('not taken'))
    }
    const inTurn = seat.turns.take()
    const acknowledge = (): void => inTurn(() => {
      answer(null)
      if (qos > 0) guard.answered(1)
    })
    if (topic === `ctl/${from}/ack` && qos < 2 && !retain) {
      count('ctl.unused')
      return acknowledge()
    }
    const address = addressOf(topic)
    // [MQTT-3.3.5-2] A refused PUBLISH can only be acknowledged or end the connection; an acknowledgement would be a lie.
    if (options.downlink === undefined || address === undefined) {
      if (options.downlink !== undefined) count('downlink.not_allowed')
      return ended('unauthorised')
    }
    return options.downlink(address.machine, { from, topic, payload: payload as Buffer, qos, retain }, (result) => {
      if (result instanceof Error) return ended('outbox')
      return isForbidden(result) ? ended('unauthorised') : acknowledge()
    })
  }

  // -------------------------------------------------------------------------------------------------------- subscriptions

  /** Its own outputs, and the notices to it. */
  function allowedTo(recipient: RecipientId): readonly string[] {
    return [...options.allowed(recipient), `ctl/${recipient}/#`]
  }

  function authorizeSubscribe(client: Client, subscription: Subscription, answer: (error: Error | null, granted?: Subscription | null) => void): void {
    if (subscription === PRESENT) return answer(null, null)
    const seat = door.seatOf(client)
    const stored = (isGranted: boolean): void => {
      count(isGranted ? 'subscribe.granted' : 'subscribe.refused')
      if (!isGranted) log.info('subscription refused', { listener: 'recipients', ...(seat === undefined ? {} : { recipient: seat.account.id }) })
      answer(null, isGranted ? subscription : null) // [MQTT-3.9.3-1] 0x80
    }
    return seat === undefined ? stored(false) : grant(seat.subscriber, subscription, stored)
  }

  /** Whether the filter is the recipient's own; then `stored` is called when the session is kept with it, or with false when it cannot be. */
  function grant(subscriber: Subscriber, { topic, qos }: Subscription, stored: (isGranted: boolean) => void): void {
    const { recipient, filters } = subscriber
    const before = filters.get(topic)
    if (!contains(topic, allowedTo(recipient))) {
      filters.delete(topic)
      return stored(false)
    }
    if (filters.size >= LIMITS.recipientFilters && before === undefined) return stored(false)
    // Each save is a commit: who asks again and again for the same must not have one each time.
    if (before === qos) return stored(true)
    filters.set(topic, qos)
    return save(subscriber, (isStored) => {
      if (!isStored && filters.get(topic) === qos) {
        if (before === undefined) filters.delete(topic)
        else filters.set(topic, before)
        save(subscriber)
      }
      stored(isStored)
    })
  }

  /** [MQTT-3.1.2-4] False when the store cannot take it: a session that would not be there after a restart is not promised. */
  function save({ key, user, recipient, persistent, filters }: Subscriber, stored: (isStored: boolean) => void = () => undefined): void {
    if (!persistent || store === undefined) return stored(true)
    store.save({ key, user, recipient, filters }, (error) => {
      if (error !== undefined) log.warn('broker reported an error', { listener: 'recipients', error })
      stored(error === undefined)
    })
  }

  /** [MQTT-3.10.4-4] Forgotten at once, and in the store before UNSUBACK. */
  function unsubscribed(client: Client, filters: readonly string[]): Promise<void> {
    const subscriber = door.seatOf(client)?.subscriber
    if (subscriber === undefined || !filters.reduce((found, filter) => subscriber.filters.delete(filter) || found, false)) return Promise.resolve()
    return new Promise((resolve) => {
      save(subscriber, () => resolve())
    })
  }

  function recheck(): void {
    for (const { account, guard } of seats()) {
      const now = directory.recipient(account.user)
      if (now?.id !== account.id || now.credential !== account.credential || now.certificate !== account.certificate) guard.kill('revoked')
    }
    dropForeignCopies()
    for (const subscriber of [...subscribers.all()]) {
      const { recipient, user, filters, seat } = subscriber
      const allowed = allowedTo(recipient)
      const foreign = [...filters.keys()].filter((filter) => !contains(filter, allowed))
      for (const filter of foreign) {
        filters.delete(filter)
        seat?.client.unsubscribe({ unsubscriptions: [filter] } as never, () => undefined)
        count('subscribe.revoked')
        log.info('subscription withdrawn', { listener: 'recipients', recipient })
      }
      if (foreign.length > 0) save(subscriber)
      // A session belongs to a log-in, and a recipient may have several: those of the others stay.
      if (directory.recipient(user)?.id !== recipient) subscribers.forget(subscriber)
    }
  }

  function dropForeignCopies(): void {
    const { knows } = options
    const gone = knows === undefined ? 0 : retained.keepOnly(knows)
    if (gone > 0) count('deliver.retained_gone', gone)
  }

  const engine: Aedes = await createEngine({
    ...door.hooks,
    authorizePublish,
    authorizeSubscribe,
    authorizeForward: authorizeForward as never,
    persistence: new SubscriberStore({
      subscriberOf: (client) => door.seatOf(client)?.subscriber,
      find: (key) => subscribers.get(key),
      retained,
      unsubscribed,
      sent: noteSent,
      arrived: (client, id) => void door.seatOf(client)?.flights.delete(id),
    }),
    onError: (error) => log.warn('broker reported an error', { listener: 'recipients', error }),
  })

  const events: NodeJS.EventEmitter = engine
  // What a persistent session takes back is forgotten before (removeSubscriptions); the engine does not ask for others.
  events.on('unsubscribe', (filters: readonly string[], client: Client) => void unsubscribed(client, filters))
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
    catchUp(subscriber, subscriber.seat, client)
  })

  /**
   * [MQTT-4.4.0-1] What was sent and not acknowledged, then what was never sent; many in a turn: the engine's own replay, which finds
   * nothing, sends one. What comes meanwhile lines up behind it.
   */
  function catchUp(subscriber: Subscriber, seat: Seat, client: Client): void {
    const sent = subscriber.queue.sent()
    const unsent = subscriber.queue.unsent()
    // More with every turn: what comes meanwhile, in turns that may be long, must not keep it behind for ever.
    let share = CATCH_UP_LEAST
    let most = share
    const some = (): void => {
      if (subscriber.seat !== seat) return
      // Until all of it is read: the engine closes who never is done with reading for a minute, however steadily they read.
      if (seat.guard.unwritten > most) {
        most = 0
        return void setTimeout(some, CONGESTED_MS).unref()
      }
      most = share
      share = Math.min(CATCH_UP_MOST, share * 2)
      for (let bytes = 0; bytes < most;) {
        const { value: again } = sent.next()
        const packet = again ?? unsent.next().value
        if (packet === undefined) {
          subscriber.live = true
          return
        }
        bytes += (packet.cmd === 'publish' ? packet.payload.length : 0) + CATCH_UP_EACH
        if (again === undefined) client.publish(packet, () => undefined)
        else sendAgain(seat, again)
      }
      setImmediate(some)
    }
    some()
  }

  /** As the engine's replay would, under the id that it has or, if nobody knows that any more, the next one. */
  function sendAgain({ client, guard, subscriber: { queue } }: Seat, packet: QueuedPacket): void {
    if (packet.cmd === 'publish' && authorizeForward(client, packet) === null) return void queue.clear(packet)
    if (packet.messageId === undefined) {
      const ids = client as unknown as { _nextId: number }
      queue.update({ ...packet, messageId: ids._nextId })
      ids._nextId = (ids._nextId % PACKET_IDS) + 1
    }
    noteSent(client, packet)
    guard.write(numberedFrame(packet, packet.messageId!))
  }

  door.open(engine)
  restore()
  const keeper = store === undefined ? undefined : setInterval(() => {
    // Also of those that are still catching up: what they have not read must not take the room of all other recipients.
    for (const { seat, queue } of subscribers.all()) if (seat !== undefined) queue.keepOld()
  }, KEEP_MS).unref()

  /** What a former run left: sessions without a connection, and retained copies. */
  function restore(): void {
    const counters = engine as unknown as { counter: number }
    /** One for each record, as while it runs: several sessions may wait for it. */
    const known = new Map<string, Handover>()
    const packetFor = (record: OutboxRecord, qos: 0 | 1 | 2, retain: boolean): PublishPacket => {
      const payload = Buffer.from(record.payload)
      const id = Buffer.from(record.id).toString('latin1')
      let handover = known.get(id)
      if (handover === undefined || !payload.equals(handover.record.payload)) known.set(id, (handover = { ...handoverOf(record), answered: true }))
      handovers.set(payload, handover)
      return packetOf(record, payload, qos, retain)
    }
    for (const record of store?.retained() ?? []) retained.set(record, packetFor(record, record.qos, true))
    for (const { key, user, recipient, filters, waiting } of store?.sessions() ?? []) {
      const queue = subscribers.restore({ key, user, recipient, filters })
      for (const { place, record, qos, messageId, released } of waiting) {
        const packet = released ? ({ cmd: 'pubrel' } as unknown as PublishPacket) : packetFor(record, qos, false)
        queue.restore({ ...packet, brokerId: engine.id, brokerCounter: place, ...(messageId === undefined ? {} : { messageId }) })
        counters.counter = Math.max(counters.counter, place)
      }
    }
    dropForeignCopies()
  }

  const parts: CutParts = { handovers, retained, subscribers, seats, isHeld, clock }
  return {
    accept: door.accept,
    publish,
    recheck,
    purge: (covers, reason = 'withdrawal') => purge(parts, covers, reason),
    waiting: () => subscribers.waiting(),
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
const NOTHING = Buffer.alloc(0)
/** Where a command's topic was, once it has been taken. */
const SINK = 'sink'
