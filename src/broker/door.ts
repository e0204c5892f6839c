/**
 * The way from a socket to an admitted client, the same for terminals and recipients: a guard around the socket, the claim in
 * CONNECT, its proof, the number of connections one identity may have.
 */
import type { Duplex } from 'node:stream'
import type { Aedes, AedesOptions, Client, ConnectPacket } from 'aedes'
import { LIMITS } from '../domain/limits.ts'
import type { BrokerLog, Count, KillReason } from './counts.ts'
import { GUARD_LIMITS, Guard, Watch, controlRate } from './guard.ts'
import type { GuardLimits, HeldBudget } from './guard.ts'
import { ReturnCode, clientKey } from './identify.ts'
import type { Admitted, Claim, Via } from './identify.ts'
import { createLockout } from './lockout.ts'
import { Rate } from './rate.ts'

export interface DoorOptions<Who, Seat> {
  readonly listener: 'terminals' | 'recipients'
  /** Identity that a CONNECT claims; undefined when it claims none. */
  readonly identify: (packet: ConnectPacket, via: Via) => string | undefined
  readonly admit: (claim: Claim) => Promise<Admitted<Who>>
  /** Makes what the room keeps beside an admitted connection. */
  readonly seat: (who: Who, identity: string, client: Client, guard: Guard<Visitor<Seat>>) => Seat
  /** An admitted connection has ended. */
  readonly left: (seat: Seat) => void
  /** `discard`: a will is accepted and dropped; `refuse`: the CONNECT is refused. Either way no will reaches the engine. */
  readonly will: 'discard' | 'refuse'
  readonly count: Count
  readonly log: BrokerLog
  readonly monotonic: () => number
  readonly limits?: Partial<GuardLimits> | undefined
  /** Connections of one identity at a time. */
  readonly perIdentity?: number | undefined
  /** Connections of one identity in a minute, half of them at once. */
  readonly connectsPerMinute?: number | undefined
  /** Held bytes of all connections together. */
  readonly heldBytesAll?: number | undefined
}

/** What hangs on a guard. */
export interface Visitor<Seat> {
  readonly via: Via
  identity: string
  key: string
  /** Return code that CONNACK will carry, decided before the identity is looked at. */
  refusal: ReturnCode | undefined
  seat: Seat | undefined
}

export interface Door<Seat> {
  /** Hooks for the engine. */
  readonly hooks: Pick<AedesOptions, 'preConnect' | 'authenticate'>
  /** Connects the engine; before this nothing is accepted. */
  open(engine: Aedes): void
  readonly accept: (socket: Duplex, via: Via) => void
  guardOf(client: Client): Guard<Visitor<Seat>>
  seatOf(client: Client | null): Seat | undefined
  readonly guards: Iterable<Guard<Visitor<Seat>>>
  readonly connections: number
  /** Lets what was handed over be answered, then closes everything. */
  readonly close: (graceMs: number) => Promise<void>
}

export function createDoor<Who, Seat>(options: DoorOptions<Who, Seat>): Door<Seat> {
  type Place = Guard<Visitor<Seat>>
  const { listener, count, monotonic } = options
  const controlPerSecond = controlRate(options.limits?.messagesPerSecond ?? LIMITS.messagesPerSecond)
  const limits: GuardLimits = { ...GUARD_LIMITS, controlPerSecond, ...options.limits }
  const perIdentity = options.perIdentity ?? LIMITS.connectionsPerIdentity
  const perMinute = options.connectsPerMinute ?? LIMITS.identityConnectsPerMinute
  const connects = new Rate({ perSecond: perMinute / 60, burst: Math.max(1, perMinute / 2), monotonic })
  const lockout = createLockout({ monotonic })
  const watch = new Watch(limits, monotonic)
  const budget: HeldBudget = { used: 0, max: options.heldBytesAll ?? LIMITS.heldBytesAll }
  const places = new Set<Place>()
  const byIdentity = new Map<string, Set<Place>>()
  const log = sparing(options.log, monotonic)
  let engine: Aedes | undefined

  function accept(socket: Duplex, via: Via): void {
    if (engine === undefined || engine.closed) return void socket.destroy()
    const visitor: Visitor<Seat> = { via, identity: '', key: '', refusal: undefined, seat: undefined }
    const guard: Place = new Guard(socket, { limits, watch, budget, monotonic, onKill: killed })
    guard.session = visitor
    places.add(guard)
    guard.once('close', () => {
      places.delete(guard)
      leave(guard, visitor)
    })
    count('connection')
    engine.handle(guard)
  }

  function killed(reason: KillReason): void {
    count(`kill.${reason}`)
    log.info('connection closed', { listener, reason })
  }

  function leave(guard: Place, visitor: Visitor<Seat>): void {
    const same = byIdentity.get(visitor.identity)
    if (same?.delete(guard) === true && same.size === 0) byIdentity.delete(visitor.identity)
    if (visitor.seat !== undefined) options.left(visitor.seat)
  }

  function preConnect(client: Client, packet: ConnectPacket, done: (error: Error | null, go: boolean) => void): void {
    const visitor = guardOf(client).session
    if (visitor === undefined) return done(null, false)
    // The guard keeps the keep alive, because only it knows whether it was listening.
    packet.keepalive = 0
    if (packet.will !== undefined) {
      delete packet.will
      if (options.will === 'discard') count('will')
      else visitor.refusal = ReturnCode.notAuthorized
    }
    const identity = options.identify(packet, visitor.via)
    if (identity === undefined) visitor.refusal ??= ReturnCode.identifier
    visitor.identity = identity ?? ''
    visitor.key = packet.clientId = clientKey(visitor.identity, packet.clientId)
    return done(null, true)
  }

  async function admit(client: Client, password: Buffer | undefined): Promise<ReturnCode | 0> {
    const guard = guardOf(client)
    const visitor = guard.session
    if (visitor === undefined) return ReturnCode.unavailable
    if (visitor.refusal !== undefined) return visitor.refusal
    const answer = await prove(visitor, password, guard)
    if (answer.code !== 0) return answer.code
    if (guard.destroyed) return ReturnCode.unavailable
    // Two boxes that carry the same name would take the place of each other without end; the one that is in stays. Asked only of those
    // who have proven who they are, so that nobody else can use up what is theirs.
    if (!connects.take(visitor.identity)) {
      count('kill.connect_rate')
      return ReturnCode.unavailable
    }

    let same = byIdentity.get(visitor.identity)
    if (same === undefined) byIdentity.set(visitor.identity, (same = new Set()))
    // [MQTT-3.1.4-2] The same client id again replaces the earlier connection and takes no further place.
    const replaces = [...same].some((other) => other.session?.key === visitor.key)
    if (!replaces && same.size >= perIdentity) {
      count('kill.connections')
      return ReturnCode.unavailable
    }
    same.add(guard)
    visitor.seat = options.seat(answer.who, visitor.identity, client, guard)
    return 0
  }

  /** A certificate cannot be guessed; whatever else proves an identity can, and is slow to check. */
  async function prove({ identity, via }: Visitor<Seat>, password: Buffer | undefined, guard: Place): Promise<Admitted<Who>> {
    if (via.certificate !== undefined) return options.admit({ identity, via, password })
    const isLocked = (): boolean => lockout.locked(identity, via.address)
    // Those that wait for their turn were begun before the last failure was known.
    const answer = isLocked() ? LOCKED : await options.admit({ identity, via, password, wanted: () => !guard.destroyed && !isLocked() })
    if (answer.code === 0) lockout.passed(identity, via.address)
    else if (answer === LOCKED || (answer.code === ReturnCode.unavailable && isLocked())) {
      count('connect.locked')
      return LOCKED
    } else if (answer.code !== ReturnCode.unavailable && lockout.failed(identity, via.address)) {
      options.log.warn('somebody who guesses passwords is locked out', { listener, [listener === 'terminals' ? 'machine' : 'recipient']: identity })
    }
    return answer
  }

  function authenticate(client: Client, _user: unknown, password: Buffer | undefined, done: (error: AuthenticationError | null, ok: boolean) => void): void {
    admit(client, password).then(
      (code) => {
        if (code === 0) return done(null, true)
        count('connect.refused')
        log.info('connection refused', { listener, status: code })
        return done(new AuthenticationError(code), false)
      },
      () => done(new AuthenticationError(ReturnCode.unavailable), false),
    )
  }

  function guardOf(client: Client): Place {
    return client.conn as unknown as Place
  }

  return {
    hooks: { preConnect, authenticate },
    open(given) {
      engine = given
      const events: NodeJS.EventEmitter = given
      events.on('connackSent', ({ returnCode }: { returnCode: number }, client: Client) => {
        if (returnCode !== 0) return
        count('connect.admitted')
        guardOf(client).open()
      })
    },
    accept,
    guardOf,
    seatOf: (client) => (client === null ? undefined : guardOf(client).session?.seat),
    guards: places,
    get connections() {
      return places.size
    },
    async close(graceMs) {
      for (const guard of places) guard.stop()
      const until = monotonic() + graceMs
      while (monotonic() < until && [...places].some((guard) => guard.unanswered > 0)) {
        await new Promise((resolve) => void setTimeout(resolve, 5))
      }
      const closed = [...places].map((guard) => new Promise((resolve) => void guard.once('close', resolve)))
      for (const guard of places) guard.destroy()
      await Promise.all(closed)
      await new Promise<void>((resolve) => (engine === undefined ? resolve() : engine.close(resolve)))
      watch.close()
    },
  }
}

const LOCKED = { code: ReturnCode.notAuthorized } as const

class AuthenticationError extends Error {
  readonly returnCode: ReturnCode

  constructor(returnCode: ReturnCode) {
    super('refused')
    this.returnCode = returnCode
  }
}

const LINES_PER_SECOND = 20

/** At most so many lines a second: a flood of bad connections must not fill the disk. The counters see all of them. */
function sparing(log: BrokerLog, monotonic: () => number): BrokerLog {
  let second = 0
  let lines = 0
  function allowed(): boolean {
    const now = Math.floor(monotonic() / 1_000)
    if (now !== second) {
      second = now
      lines = 0
    }
    return ++lines <= LINES_PER_SECOND
  }
  return {
    info(text, fields) {
      if (allowed()) log.info(text, fields)
    },
    warn(text, fields) {
      if (allowed()) log.warn(text, fields)
    },
  }
}
