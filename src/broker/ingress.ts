/**
 * The broker that terminals talk to. A message comes in, goes through one synchronous call, and is acknowledged once what came
 * of it is safe. There is no way from here to a subscriber: the engine has no router (engine.ts), its store holds packet ids, a
 * terminal's own `down/` filters and commands for it (downlink.ts) but never a topic or payload that came in, and the packet is emptied
 * before the engine gets it back.
 */
import { Readable } from 'node:stream'
import type { Duplex } from 'node:stream'
import type { Aedes, Client, PublishPacket, Subscription } from 'aedes'
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, Command, Machine, Publish } from '../domain/ports.ts'
import type { BrokerLog, Count } from './counts.ts'
import { createDoor } from './door.ts'
import type { Visitor } from './door.ts'
import { Downlink } from './downlink.ts'
import type { CommandDone, DownlinkOptions, Mailbox } from './downlink.ts'
import { DONE, EmptyPersistence, NOT_FOUND, createEngine } from './engine.ts'
import type { OutgoingPacket } from './engine.ts'
import type { Guard, GuardLimits } from './guard.ts'
import { admitTerminal, terminalIdentity } from './identify.ts'
import type { Credentials, TerminalDirectory, Via } from './identify.ts'
import { contains } from './topics.ts'

export interface IngressOptions {
  readonly directory: TerminalDirectory
  readonly credentials: Credentials
  /**
   * The pipeline. Synchronous; must not keep the payload, which lies in the socket's buffer. What it returns is waited for before this
   * message is acknowledged; those of other terminals do not wait for it.
   */
  readonly handle: (publish: Publish, urgentOnly: boolean) => Promise<void> | undefined
  /** `Outbox.committed`: calls back once everything handled so far is safe, or with an error. */
  readonly committed: (callback: (error: Error | undefined) => void) => void
  /** So many messages were acknowledged so long after they came: PUBACK or PUBREC. */
  readonly onAcknowledged?: ((ms: number, messages: number) => void) | undefined
  /** Who may send commands to machines, and what keeps them. Default: nobody. */
  readonly downlink?: Pick<DownlinkOptions, 'rights' | 'store' | 'limits'> | undefined
  readonly clock: Clock
  readonly count: Count
  readonly log: BrokerLog
  readonly limits?: Partial<GuardLimits> | undefined
  readonly perIdentity?: number | undefined
  readonly connectsPerMinute?: number | undefined
  readonly heldBytesAll?: number | undefined
  /** Sessions of absent terminals whose packet ids are remembered; past it the oldest is forgotten and a resend may double. */
  readonly sessions?: number | undefined
}

export interface Ingress {
  readonly accept: (socket: Duplex, via: Via) => void
  readonly connections: number
  /** Takes a command to the terminal of a machine: see downlink.ts. */
  downlink(machine: string, command: Command, done: CommandDone): void
  /** After a reload of the registry: closes connections of machines that are gone or have another credential now. */
  recheck(): void
  /** Takes no further message, waits for commits at most so long, answers, closes. */
  close(graceMs: number): Promise<void>
}

/** One admitted connection of a terminal. */
interface Terminal {
  readonly identity: string
  readonly machine: Machine | undefined
  readonly key: string
  readonly via: Via
  readonly guard: Guard<Visitor<Terminal>>
  readonly client: Client
  readonly session: TerminalSession
  /** Commits asked for, in the order of the messages. */
  readonly batches: Batch[]
  /** Takes in the messages of this tick. */
  open: Batch | undefined
  /** A message that the outbox has no room for, and all that came behind it. */
  stalled: Stalled[]
  left: boolean
}

/**
 * The terminal keeps its message and its connection: it is acknowledged once there was room [G6]. The guard hands over no more than
 * `unanswered` of them, and they come out of what was read already.
 */
interface Stalled {
  /** Undefined: another copy of a QoS 2 message, whose first one waits before it. */
  readonly publish: Publish | undefined
  readonly id: number
  readonly answer: (error?: Error | null) => void
  /** When it came, on the monotonic clock. */
  readonly cameMs: number
  /** It was handled already, and only its acknowledgement waits. */
  readonly taken?: Taken
}

type Handled = Error | Promise<void> | undefined

interface Taken {
  readonly handled: Handled
  /** The commit that had it in it failed. */
  failed: Error | undefined
}

/** The messages of one terminal that wait for the same commit. */
interface Batch {
  readonly answers: ((error?: Error | null) => void)[]
  /** When the first of them came, on the monotonic clock; the others came in the same tick but for those that waited for room. */
  readonly cameMs: number
  readonly waitedSinceMs: number[]
  /** QoS 2 ids that become stored with it. */
  readonly fresh: number[]
  /** QoS 2 ids that must have been stored before. */
  readonly repeated: number[]
  /** What else must be done before its messages are acknowledged. */
  awaited: Promise<void> | undefined
  /** Why the outbox did not take one of its messages: all of the batch stays unacknowledged. */
  refused: Error | undefined
  state: 'waiting' | 'safe' | 'failed'
}

/** What outlives a connection with clean session 0. */
interface TerminalSession {
  readonly ids: ReceiveIds
  /** Granted filters, all below the terminal's own `down/`. */
  readonly filters: Map<string, 0 | 1 | 2>
  readonly persistent: boolean
  /** Taken up again by a later connection. */
  present: boolean
  users: number
  /** Undefined when nobody may send commands, or for a machine that is not in the registry. */
  mailbox: Mailbox | undefined
}

/** Where a raw message's topic was, once it has been handled. */
const SINK = 'sink'
/** Answer of `handle`: not now. */
const NO_ROOM = new Error('The outbox has no room.')
/** How often a message that there was no room for is tried again. */
const RETRY_MS = 500
const EMPTY = Buffer.alloc(0)
/** Pseudo filter that makes the engine say "session present" [MQTT-3.2.2-2]; never granted to anybody. */
const PRESENT: Subscription = { topic: '$present', qos: 0 }

export async function createIngress(options: IngressOptions): Promise<Ingress> {
  const { directory, clock, count, log } = options
  const downlink = options.downlink === undefined ? undefined : new Downlink({ ...options.downlink, machine: directory.machine, clock, count })
  const sessions = createSessions(options.sessions ?? LIMITS.connections, count, ({ mailbox }) => {
    if (mailbox !== undefined) downlink?.close(mailbox)
  })
  const stalled = new Set<Terminal>()
  const { onAcknowledged } = options
  /** When the first message of the tick in hand came. */
  let cameMs = 0
  let retry: NodeJS.Timeout | undefined

  const door = createDoor<Machine | undefined, Terminal>({
    ...options,
    listener: 'terminals',
    monotonic: () => clock.monotonic(),
    will: 'discard',
    identify: (packet, via) => terminalIdentity(packet, via, directory),
    admit: (claim) => admitTerminal(claim, directory, options.credentials),
    seat(machine, identity, client, guard) {
      const key = client.id
      const via = guard.session?.via ?? { plain: false, certificate: undefined }
      const session = sessions.take(key, client.clean)
      if (machine !== undefined) session.mailbox ??= downlink?.open(key, machine.id, session.persistent, session.filters)
      if (session.mailbox !== undefined) {
        session.mailbox.client = client
        session.mailbox.live = false
      }
      return { identity, machine, key, via, guard, client, session, batches: [], open: undefined, stalled: [], left: false }
    },
    left(terminal) {
      terminal.left = true
      // It will send them again.
      for (const { publish, id } of terminal.stalled) if (publish?.qos === 2) terminal.session.ids.set(id, IdState.unknown)
      terminal.stalled = []
      const { mailbox } = terminal.session
      if (mailbox?.client === terminal.client) {
        mailbox.client = undefined
        mailbox.live = false
      }
      sessions.leave(terminal.key, terminal.session)
    },
  })

  function authorizePublish(client: Client | null, packet: PublishPacket, answer: (error?: Error | null) => void): void {
    const terminal = door.seatOf(client)
    // Wills are taken out of CONNECT, so there is no message without its terminal.
    if (terminal === undefined) return drop(packet, answer)
    const { qos } = packet
    if (qos > 0 && terminal.open === undefined) cameMs = clock.monotonic()

    if (qos === 2 && terminal.session.ids.get(packet.messageId ?? 0) !== IdState.unknown) {
      // [MQTT-4.3.3-2] The same id before PUBREL is the same message, whatever its DUP flag says.
      count('received.duplicate')
      empty(packet)
      if (terminal.stalled.length > 0) return stall(terminal, { publish: undefined, id: packet.messageId ?? 0, answer, cameMs })
      return repeat(terminal, packet.messageId ?? 0, answer)
    }

    const publish: Publish = {
      topic: packet.topic, payload: packet.payload as Buffer, qos, machine: terminal.identity, receivedAtMs: clock.now(), isWill: false,
    }
    const id = packet.messageId ?? 0
    // Behind one that waits everything waits, but for safety: that is taken at once and acknowledged in its turn. [MQTT-4.6.0-2]
    const isBehind = qos > 0 && terminal.stalled.length > 0
    const handled = handle(publish, isBehind)
    empty(packet)
    if (qos === 0) {
      // [MQTT-4.3.1-1] Nobody sends it again: lost, and counted.
      if (handled === NO_ROOM) count('handle.no_room')
      return answer(null)
    }
    if (isBehind && handled !== NO_ROOM) {
      if (qos === 2) terminal.session.ids.set(id, IdState.pending)
      return stall(terminal, { publish: { ...publish, payload: EMPTY }, id, answer, cameMs, taken: takenNow(handled) })
    }
    if (handled !== NO_ROOM) return take(terminal, { publish, id, answer, cameMs }, handled)
    if (terminal.stalled.length === 0) count('handle.no_room')
    if (qos === 2) terminal.session.ids.set(id, IdState.pending)
    // The payload lies in the socket's buffer.
    return stall(terminal, { publish: { ...publish, payload: Buffer.from(publish.payload) }, id, answer, cameMs })
  }

  /** What was handled before its turn; whether it was committed is asked now, for it may be known long before the turn comes. */
  function takenNow(handled: Handled): Taken {
    const taken: Taken = { handled, failed: undefined }
    options.committed((error) => void (taken.failed = error))
    return taken
  }

  /** Handled: acknowledged with its batch. */
  function take(terminal: Terminal, { publish, id, answer }: Stalled, handled: Handled): void {
    const batch = batchOf(terminal)
    if (handled instanceof Error) batch.refused ??= handled
    else if (handled !== undefined) batch.awaited = batch.awaited === undefined ? handled : Promise.all([batch.awaited, handled]).then(() => undefined)
    if (publish?.qos === 2) {
      terminal.session.ids.set(id, IdState.pending)
      batch.fresh.push(id)
    }
    batch.answers.push(answer)
  }

  function repeat(terminal: Terminal, id: number, answer: Stalled['answer']): void {
    batchOf(terminal).repeated.push(id)
    batchOf(terminal).answers.push(answer)
  }

  function stall(terminal: Terminal, one: Stalled): void {
    terminal.stalled.push(one)
    stalled.add(terminal)
    retry ??= setInterval(retryStalled, RETRY_MS).unref()
  }

  /** In the order in which they came, of each terminal as many as there is room for. */
  function retryStalled(): void {
    for (const terminal of stalled) {
      for (let first = terminal.stalled[0]; first !== undefined; first = terminal.stalled[0]) {
        const { taken } = first
        const handled = taken !== undefined ? (taken.failed ?? taken.handled) : first.publish === undefined ? undefined : handle(first.publish, false)
        if (handled === NO_ROOM) break
        terminal.stalled.shift()
        cameMs = clock.monotonic()
        batchOf(terminal).waitedSinceMs.push(first.cameMs)
        if (first.publish === undefined) repeat(terminal, first.id, first.answer)
        else take(terminal, first, handled)
      }
      if (terminal.stalled.length === 0) stalled.delete(terminal)
    }
    if (stalled.size > 0) return
    clearInterval(retry)
    retry = undefined
  }

  /** An error means that the outbox could not take the message: it must stay unacknowledged. */
  function handle(publish: Publish, urgentOnly: boolean): Handled {
    try {
      const awaited = options.handle(publish, urgentOnly)
      // Nobody waits for it at QoS 0, and a rejection that nobody takes would end the process.
      awaited?.catch(() => undefined)
      return awaited
    } catch (error) {
      // A ledger that cannot take a sign-off is no reason to lose it either.
      if (error instanceof GatewayError && error.code === 'OUTBOX-FULL') return NO_ROOM
      if (error instanceof GatewayError && (error.code.startsWith('OUTBOX-') || error.code.startsWith('LEDGER-'))) {
        count('handle.no_room')
        return error
      }
      // The pipeline refuses by verdict and does not throw. Should it, the message goes nowhere (G3) and is acknowledged:
      // sent again it would fail again, and take the connection down each time.
      count('handle.failed')
      log.warn('the pipeline failed on a message', { error })
      return undefined
    }
  }

  /** All messages of one read share one commit: `committed` covers whatever was handled before it is called. */
  function batchOf(terminal: Terminal): Batch {
    if (terminal.open !== undefined) return terminal.open
    const batch: Batch = { answers: [], cameMs, waitedSinceMs: [], fresh: [], repeated: [], awaited: undefined, refused: undefined, state: 'waiting' }
    terminal.open = batch
    terminal.batches.push(batch)
    queueMicrotask(() => {
      terminal.open = undefined
      options.committed((error) => {
        const failed = error ?? batch.refused
        if (failed !== undefined || batch.awaited === undefined) return settle(terminal, batch, failed)
        batch.awaited.then(() => settle(terminal, batch, undefined), (cause: unknown) => settle(terminal, batch, cause instanceof Error ? cause : new Error('not carried out')))
      })
    })
    return batch
  }

  function settle(terminal: Terminal, batch: Batch, error: Error | undefined): void {
    const { ids } = terminal.session
    batch.state = error === undefined ? 'safe' : 'failed'
    for (const id of batch.fresh) {
      if (ids.get(id) === IdState.pending) ids.set(id, error === undefined ? IdState.stored : IdState.unknown)
    }
    if (error !== undefined && !terminal.left) log.warn('the outbox could not commit', { error })

    // [MQTT-4.6.0-2] [MQTT-4.6.0-3] Answers leave in the order of the messages, in whatever order commits call back.
    let answered = 0
    while (terminal.batches[0] !== undefined && terminal.batches[0].state !== 'waiting') {
      const next = terminal.batches.shift()!
      if (terminal.left) continue
      // A repeated message is safe when its first copy is; that may have been lost with a commit of an earlier connection.
      if (next.state === 'failed' || next.repeated.some((id) => ids.get(id) !== IdState.stored)) {
        terminal.guard.kill('outbox')
        return
      }
      for (const answer of next.answers) answer(null)
      answered += next.answers.length
      if (onAcknowledged !== undefined) tell(next, onAcknowledged)
    }
    if (answered === 0 || terminal.left) return
    // A turn later it would wait for all that comes in meanwhile.
    terminal.guard.flush()
    terminal.guard.answered(answered)
  }

  function tell({ answers, cameMs: batchMs, waitedSinceMs }: Batch, acknowledged: (ms: number, messages: number) => void): void {
    const now = clock.monotonic()
    for (const since of waitedSinceMs) acknowledged(now - since, 1)
    if (answers.length > waitedSinceMs.length) acknowledged(now - batchMs, answers.length - waitedSinceMs.length)
  }

  /** Only a terminal's own downlink. Granted, but nothing is delivered there by the engine itself. */
  function authorizeSubscribe(client: Client, subscription: Subscription, answer: (error: Error | null, granted?: Subscription | null) => void): void {
    if (subscription === PRESENT) return answer(null, null)
    const session = door.seatOf(client)?.session
    const { topic, qos } = subscription
    const before = session?.filters.get(topic)
    const decided = (granted: boolean): void => {
      count(granted ? 'subscribe.granted' : 'subscribe.refused')
      answer(null, granted ? subscription : null) // [MQTT-3.9.3-1] 0x80
    }
    const granted = grant(door.seatOf(client), subscription)
    const mailbox = session?.mailbox
    if (downlink === undefined || mailbox === undefined || before === (granted ? qos : undefined)) return decided(granted)
    // A session that would not be there after a restart is not promised.
    return downlink.save(mailbox, (isStored) => {
      if (granted && !isStored && mailbox.filters.get(topic) === qos) {
        if (before === undefined) mailbox.filters.delete(topic)
        else mailbox.filters.set(topic, before)
      }
      decided(granted && isStored)
    })
  }

  const engine: Aedes = await createEngine({
    ...door.hooks,
    authorizePublish,
    authorizeSubscribe,
    persistence: new TerminalStore((client) => door.seatOf(client)?.session, sessions, downlink),
    onError: (error) => log.warn('broker reported an error', { listener: 'terminals', error }),
  })
  const events: NodeJS.EventEmitter = engine
  events.on('unsubscribe', (filters: readonly string[], client: Client) => {
    const session = door.seatOf(client)?.session
    if (session === undefined || !filters.reduce((found, filter) => session.filters.delete(filter) || found, false)) return
    if (session.mailbox !== undefined) downlink?.save(session.mailbox, () => undefined)
  })
  if (downlink !== undefined) {
    downlink.brokerId = engine.id
    events.on('connackSent', (_connack: unknown, client: Client) => {
      const mailbox = door.seatOf(client)?.session.mailbox
      if (mailbox === undefined || mailbox.client !== client) return
      if (!mailbox.persistent) mailbox.live = true
      // [MQTT-2.3.1-2] The engine begins at a random packet id, which a command that will be sent again may hold.
      const ids = client as unknown as { _nextId: number }
      ids._nextId = downlink.freeId(mailbox) ?? ids._nextId
    })
    events.on('clientReady', (client: Client) => {
      const mailbox = door.seatOf(client)?.session.mailbox
      if (mailbox !== undefined && mailbox.client === client) downlink.ready(mailbox)
    })
    for (const mailbox of downlink.restore()) sessions.restore(mailbox)
  }
  door.open(engine)

  return {
    accept: door.accept,
    get connections() {
      return door.connections
    },
    recheck() {
      for (const guard of door.guards) {
        const terminal = guard.session?.seat
        if (terminal === undefined) continue
        const now = directory.machine(terminal.identity)
        const was = terminal.machine
        if (now?.credential !== was?.credential || now?.certificate !== was?.certificate || now?.fleet !== was?.fleet) guard.kill('revoked')
        else if (now === undefined && !terminal.via.plain) guard.kill('revoked')
      }
      for (const { key } of downlink?.recheck() ?? []) sessions.forget(key)
    },
    downlink(machine, command, done) {
      if (downlink !== undefined) return downlink.downlink(machine, command, done)
      count('downlink.not_allowed')
      return done('not_allowed')
    },
    async close(graceMs) {
      await door.close(graceMs)
      downlink?.stop()
    },
  }
}

function grant(terminal: Terminal | undefined, { topic, qos }: Subscription): boolean {
  if (terminal?.machine === undefined) return false
  const { machine, session: { filters } } = terminal
  if (!contains(topic, [`down/${machine.fleet}/${machine.id}/#`])) {
    filters.delete(topic)
    return false
  }
  if (filters.size >= LIMITS.terminalFilters && !filters.has(topic)) return false
  filters.set(topic, qos)
  return true
}

function drop(packet: PublishPacket, answer: (error?: Error | null) => void): void {
  empty(packet)
  answer(null)
}

/** Takes topic, payload and flags out of the packet that goes back to the engine. */
function empty(packet: PublishPacket): void {
  packet.topic = SINK
  packet.payload = EMPTY
  packet.retain = false
  packet.dup = false
}

// --------------------------------------------------------------------------------------------------------------- sessions

const IdState = { unknown: 0, pending: 1, stored: 2 } as const

/**
 * State of each of the 65,535 packet ids, in pages that exist while they hold something. At most 64 KiB for a terminal that never
 * sends PUBREL, 256 bytes for one that does.
 */
export class ReceiveIds {
  readonly #pages: (Uint8Array | undefined)[] = []
  readonly #used: number[] = []
  size = 0

  get(id: number): number {
    return this.#pages[id >> 8]?.[id & 255] ?? IdState.unknown
  }

  set(id: number, state: number): void {
    const number = id >> 8
    const page = (this.#pages[number] ??= new Uint8Array(256))
    const change = Number(state !== IdState.unknown) - Number(page[id & 255] !== IdState.unknown)
    page[id & 255] = state
    const used = (this.#used[number] ?? 0) + change
    this.#used[number] = used
    this.size += change
    if (used === 0) this.#pages[number] = undefined
  }
}

interface Sessions {
  take(key: string, clean: boolean): TerminalSession
  leave(key: string, session: TerminalSession): void
  find(key: string): TerminalSession | undefined
  /** One that a former run left. */
  restore(mailbox: Mailbox): void
  /** Its machine is gone. */
  forget(key: string): void
}

/**
 * Persistent sessions by client key. Those without a connection are kept up to a bound, oldest out first.
 * @param ended  called for each that is over, those with clean session 1 too
 */
function createSessions(max: number, count: Count, ended: (session: TerminalSession) => void): Sessions {
  const connected = new Map<string, TerminalSession>()
  const absent = new Map<string, TerminalSession>()

  function forget(key: string): void {
    const known = connected.get(key) ?? absent.get(key)
    connected.delete(key)
    absent.delete(key)
    if (known !== undefined) ended(known)
  }

  function stay(key: string, session: TerminalSession): void {
    absent.set(key, session)
    if (absent.size <= max) return
    forget(absent.keys().next().value!)
    count('session.evicted')
  }

  return {
    take(key, clean) {
      if (clean) {
        // [MQTT-3.1.2-6]
        forget(key)
        return { ids: new ReceiveIds(), filters: new Map(), persistent: false, present: false, users: 1, mailbox: undefined }
      }
      const known = connected.get(key) ?? absent.get(key)
      absent.delete(key)
      const session = known ?? { ids: new ReceiveIds(), filters: new Map(), persistent: true, present: false, users: 0, mailbox: undefined }
      session.present = known !== undefined
      session.users++
      connected.set(key, session)
      return session
    },
    leave(key, session) {
      session.users--
      if (session.users === 0 && !session.persistent) ended(session)
      if (session.users > 0 || connected.get(key) !== session) return
      connected.delete(key)
      if (session.ids.size === 0 && session.filters.size === 0) ended(session)
      else stay(key, session)
    },
    find: (key) => connected.get(key) ?? absent.get(key),
    restore(mailbox) {
      stay(mailbox.key, { ids: new ReceiveIds(), filters: mailbox.filters, persistent: true, present: false, users: 0, mailbox })
    },
    forget,
  }
}

/** The engine's view of the sessions: ids, filters and commands, nothing that came from a terminal. Filters are kept by `grant`. */
class TerminalStore extends EmptyPersistence {
  readonly #sessionOf: (client: Client) => TerminalSession | undefined
  readonly #sessions: Sessions
  readonly #downlink: Downlink | undefined

  constructor(sessionOf: (client: Client) => TerminalSession | undefined, sessions: Sessions, downlink: Downlink | undefined) {
    super()
    this.#sessionOf = sessionOf
    this.#sessions = sessions
    this.#downlink = downlink
  }

  override outgoingUpdate(client: Client, packet: OutgoingPacket): Promise<void> {
    const mailbox = this.#sessionOf(client)?.mailbox
    if (mailbox !== undefined) this.#downlink?.numbered(mailbox, packet)
    return DONE
  }

  override outgoingClearMessageId(client: Client, { messageId }: OutgoingPacket): Promise<unknown> {
    const mailbox = this.#sessionOf(client)?.mailbox
    return mailbox === undefined || messageId === undefined ? DONE : Promise.resolve(this.#downlink?.acknowledged(mailbox, messageId))
  }

  override outgoingStream(client: Client): Readable {
    const mailbox = this.#sessionOf(client)?.mailbox
    return Readable.from(mailbox === undefined ? [] : (this.#downlink?.replay(mailbox) ?? []))
  }

  override subscriptionsByClient({ id }: { readonly id: string }): Promise<Subscription[]> {
    const session = this.#sessions.find(id)
    if (session?.present !== true) return Promise.resolve([])
    return Promise.resolve([...session.filters].map(([topic, qos]): Subscription => ({ topic, qos })).concat(PRESENT))
  }

  /** Always "known" for a PUBLISH: it has been handled, all that is left for the engine is to send PUBREC. */
  override incomingGetPacket(client: Client, packet: { readonly cmd: string; readonly messageId?: number }): Promise<unknown> {
    if (packet.cmd === 'publish') return KNOWN
    return this.#sessionOf(client)?.ids.get(packet.messageId ?? 0) === IdState.unknown ? Promise.reject(NOT_FOUND) : KNOWN
  }

  override incomingDelPacket(client: Client, packet: { readonly messageId?: number }): Promise<void> {
    this.#sessionOf(client)?.ids.set(packet.messageId ?? 0, IdState.unknown)
    return DONE
  }
}

const KNOWN = Promise.resolve(true)
