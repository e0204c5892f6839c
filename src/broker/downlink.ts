/**
 * Commands to machines: the one way on which something reaches a terminal, and it begins at a recipient or at a cloud, never at a terminal.
 * `downlink` looks at everything itself (who may, which machine, who has subscribed, at what QoS) and hands the command to the sessions of
 * that one machine; there is no router that could take it elsewhere.
 *
 * A session with clean session 0 gets its commands through a line that is on disk: stored, then sent, deleted when the terminal has
 * acknowledged. So one that is absent finds them in their order when it comes back, and a crash sends again what was not acknowledged.
 */
import type { Client, PublishPacket } from 'aedes'
import type { MachineId, RecipientId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, Command, CommandStore, DownlinkRight, Machine, StoredCommand } from '../domain/ports.ts'
import type { CommandRefusal, Count } from './counts.ts'
import type { OutgoingPacket } from './engine.ts'
import type { QueuedPacket } from './waiting.ts'
import { filterMatches, topicFault } from './topics.ts'

/** `sent`: to a terminal that is there; `stored`: it is on disk until the terminal has acknowledged it. */
export type CommandResult = 'sent' | 'stored' | CommandRefusal
/** An error: it could not be made safe, so it must not be acknowledged. */
export type CommandDone = (result: CommandResult | Error) => void

/** Whether a command was not the recipient's to send; it is then told so in the only way MQTT 3.1.1 has. */
export function isForbidden(result: CommandResult): boolean {
  return result === 'not_allowed' || result === 'retained' || result === 'too_big' || result === 'qos'
}

/** `down/FLEET/MACHINE/...`, or undefined when it is no topic of a command. */
export function addressOf(topic: string): { readonly fleet: string; readonly machine: string } | undefined {
  const [down, fleet, machine, ...rest] = topic.split('/')
  return down !== 'down' || fleet === undefined || fleet === '' || machine === undefined || machine === '' || rest.length === 0 ? undefined : { fleet, machine }
}

export interface DownlinkOptions {
  readonly rights: ReadonlyMap<RecipientId, DownlinkRight>
  readonly machine: (id: string) => Machine | undefined
  /** Keeps sessions and what waits for them over restarts. Default: in memory only. */
  readonly store?: CommandStore | undefined
  readonly limits?: Partial<Pick<typeof LIMITS, 'machineCommands' | 'machineCommandBytes' | 'commands' | 'commandBytes'>> | undefined
  readonly clock: Clock
  readonly count: Count
}

/** A terminal's session as far as commands are concerned. */
export interface Mailbox {
  readonly key: string
  readonly machine: MachineId
  readonly persistent: boolean
  /** Granted ones. */
  readonly filters: Map<string, 0 | 1 | 2>
  /** By place, in the order in which they came. */
  readonly waiting: Map<number, Waiting>
  client: Client | undefined
  /** What waited has been sent again, so that new ones may follow. */
  live: boolean
}

interface Waiting {
  readonly command: StoredCommand
  readonly packet: QueuedPacket
  isStored: boolean
}

/**
 * The engine throws away what has not a higher place than what it sent before on the connection under the same name. What is not stored
 * first overtakes what is.
 */
const AT_ONCE = 'at once'
/** How often what has waited too long is looked for. */
const SWEEP_MS = 1_000

export class Downlink {
  readonly #options: DownlinkOptions
  readonly #limits: Pick<typeof LIMITS, 'machineCommands' | 'machineCommandBytes' | 'commands' | 'commandBytes'>
  readonly #boxes = new Map<MachineId, Set<Mailbox>>()
  #number = 0
  #bytes = 0
  #places = 0
  readonly #sweepTimer: NodeJS.Timeout
  /** The engine's name, which every packet to a terminal bears. */
  brokerId = ''

  constructor(options: DownlinkOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#sweepTimer = setInterval(() => this.sweep(), SWEEP_MS).unref()
  }

  /**
   * Takes a command to the machine's sessions that have subscribed to its topic. What it keeps of the command it copies before it returns.
   * @param done  called when it is stored for all that keep a session, and handed to the others
   */
  downlink(machine: string, command: Command, done: CommandDone): void {
    const answer: CommandDone = (result) => {
      if (typeof result === 'string') this.#options.count(`downlink.${result}`)
      done(result)
    }
    const refusal = this.#refusal(machine, command)
    if (refusal !== undefined) return answer(refusal)
    const { topic, qos } = command
    const boxes = [...(this.#boxes.get(machine as MachineId) ?? [])]
    const reached = boxes.flatMap((box) => {
      const granted = grantedQos(box, topic)
      return granted === undefined ? [] : [{ box, qos: Math.min(qos, granted) }]
    })
    if (reached.length === 0) return answer('not_subscribed')
    const kept = reached.filter((one) => one.box.persistent && one.qos > 0)
    const now = reached.filter(({ box, qos: its }) => box.live && box.client !== undefined && !(box.persistent && its > 0))
    if (kept.length === 0 && now.length === 0) return answer('absent')
    if (!this.#hasRoom(boxes, kept.length, command)) return answer('full')

    // It lies in the socket's buffer. One copy serves all.
    const payload = Buffer.from(command.payload)
    for (const { box, qos: its } of now) box.client?.publish({ ...this.#packet(topic, payload, its === 0 ? 0 : 1, ++this.#places), brokerId: AT_ONCE } as QueuedPacket, () => undefined)
    if (kept.length === 0) return answer('sent')
    let left = kept.length
    let failed: Error | undefined
    const expiresAtMs = this.#options.clock.now() + (this.#options.rights.get(command.from)?.ttlMs ?? 0)
    for (const { box } of kept) {
      this.#put(box, { place: ++this.#places, topic, payload, expiresAtMs, messageId: undefined }, (error) => {
        failed ??= error
        if (--left === 0) answer(failed ?? 'stored')
      })
    }
    return undefined
  }

  /** Allow-list, identity and QoS; undefined = none of them is against it. */
  #refusal(machine: string, { from, topic, payload, qos, retain, within }: Command): CommandRefusal | undefined {
    const right = this.#options.rights.get(from)
    const address = addressOf(topic)
    const isAllowed = (filters: readonly string[]): boolean => filters.some((filter) => filterMatches(filter, topic))
    if (right === undefined || address?.machine !== machine || topicFault(topic) !== undefined || !isAllowed(right.filters) || (within !== undefined && !isAllowed(within))) return 'not_allowed'
    // [MQTT-3.3.1-5] A retained command would be given to a terminal long after it was meant.
    if (retain) return 'retained'
    if (payload.length > right.payloadBytes) return 'too_big'
    if (qos > right.qos) return 'qos'
    const known = this.#options.machine(machine)
    if (known === undefined) return 'unknown_machine'
    return known.fleet === address.fleet ? undefined : 'foreign_fleet'
  }

  #hasRoom(boxes: readonly Mailbox[], more: number, { payload, topic }: Command): boolean {
    if (more === 0) return true
    const bytes = more * (payload.length + topic.length)
    const { machineCommands, machineCommandBytes, commands, commandBytes } = this.#limits
    if (this.#number + more > commands || this.#bytes + bytes > commandBytes) return false
    let [number, its] = [more, bytes]
    for (const { waiting } of boxes) {
      number += waiting.size
      for (const { command } of waiting.values()) its += sizeOf(command)
    }
    return number <= machineCommands && its <= machineCommandBytes
  }

  #put(box: Mailbox, command: StoredCommand, done: (error: Error | undefined) => void): void {
    const waiting: Waiting = { command, packet: this.#packet(command.topic, command.payload as Buffer, 1, command.place), isStored: false }
    this.#add(box, waiting)
    const stored = (error: Error | undefined): void => {
      if (error !== undefined) {
        this.#remove(box, command.place)
        return done(error)
      }
      waiting.isStored = true
      if (box.live && box.waiting.get(command.place) === waiting) this.#send(box, waiting)
      return done(undefined)
    }
    const { store } = this.#options
    if (store === undefined) stored(undefined)
    else store.put(box.key, command, stored)
  }

  #send({ client }: Mailbox, { packet }: Waiting): void {
    if (client === undefined) return
    this.#options.count('downlink.sent')
    client.publish(packet, () => undefined)
  }

  #packet(topic: string, payload: Buffer, qos: 0 | 1, place: number): QueuedPacket {
    return { cmd: 'publish', topic, payload, qos, retain: false, dup: false, brokerId: this.brokerId, brokerCounter: place } as QueuedPacket
  }

  #add(box: Mailbox, waiting: Waiting): void {
    box.waiting.set(waiting.command.place, waiting)
    this.#number++
    this.#bytes += sizeOf(waiting.command)
  }

  #remove(box: Mailbox, place: number): boolean {
    const waiting = box.waiting.get(place)
    if (waiting === undefined) return false
    box.waiting.delete(place)
    this.#number--
    this.#bytes -= sizeOf(waiting.command)
    this.#options.store?.remove(box.key, place)
    return true
  }

  // --------------------------------------------------------------------------------------------------------------- sessions

  /** Sessions that a former run left, with what waits for them. */
  restore(): Mailbox[] {
    return (this.#options.store?.terminals() ?? []).flatMap(({ key, machine, filters, waiting }) => {
      const box = this.open(key, machine, true, new Map(filters))
      // It was moved while nobody looked. One that is not known may be in a registry that cannot be read now, and comes in no earlier.
      if (this.#options.machine(machine) !== undefined && this.#isForeign(box)) {
        for (const _ of waiting) this.#options.count('downlink.dropped')
        this.close(box)
        return []
      }
      for (const command of waiting) {
        this.#places = Math.max(this.#places, command.place)
        const { topic, payload, place, messageId } = command
        // The gateway file says something else now.
        if (![...this.#options.rights.values()].some(({ filters: may }) => may.some((filter) => filterMatches(filter, topic)))) {
          this.#options.store?.remove(key, place)
          this.#options.count('downlink.dropped')
          continue
        }
        this.#add(box, { command, packet: { ...this.#packet(topic, Buffer.from(payload), 1, place), ...(messageId === undefined ? {} : { messageId }) }, isStored: true })
      }
      return box
    })
  }

  open(key: string, machine: MachineId, persistent: boolean, filters: Map<string, 0 | 1 | 2>): Mailbox {
    const box: Mailbox = { key, machine, persistent, filters, waiting: new Map(), client: undefined, live: false }
    let mine = this.#boxes.get(machine)
    if (mine === undefined) this.#boxes.set(machine, (mine = new Set()))
    mine.add(box)
    return box
  }

  /** The session has ended: what waits for it goes, counted. */
  close(box: Mailbox): void {
    const { key, machine, persistent, waiting } = box
    for (const place of [...waiting.keys()]) if (this.#remove(box, place)) this.#options.count('downlink.dropped')
    if (persistent) this.#options.store?.forget(key)
    const mine = this.#boxes.get(machine)
    if (mine?.delete(box) === true && mine.size === 0) this.#boxes.delete(machine)
    box.live = false
    box.client = undefined
  }

  /** [MQTT-3.1.2-4] `stored` hears false when the session cannot be kept with its filters. */
  save({ key, machine, persistent, filters }: Mailbox, stored: (isStored: boolean) => void): void {
    const { store } = this.#options
    if (!persistent || store === undefined) return stored(true)
    return store.save({ key, machine, filters }, (error) => stored(error === undefined))
  }

  /** [MQTT-4.4.0-1] [MQTT-4.6.0-1] What a session that is back has not acknowledged, in its order and under its ids. */
  *replay(box: Mailbox): Generator<QueuedPacket> {
    this.#expire(box)
    for (const { packet, isStored } of box.waiting.values()) {
      if (!isStored) continue
      if (packet.messageId !== undefined) packet.dup = true // [MQTT-3.3.1-1]
      this.#options.count('downlink.sent')
      yield packet
    }
  }

  /** What waited has been sent; that which came meanwhile follows. */
  ready(box: Mailbox): void {
    box.live = true
    for (const waiting of box.waiting.values()) if (waiting.isStored && waiting.packet.messageId === undefined) this.#send(box, waiting)
  }

  /** The packet id after the highest in use. */
  freeId({ waiting }: Mailbox): number | undefined {
    let last: number | undefined
    for (const { packet: { messageId } } of waiting.values()) if (messageId !== undefined) last = Math.max(last ?? 0, messageId)
    return last === undefined ? undefined : (last % 65_535) + 1
  }

  /** A command is about to leave under a packet id. */
  numbered(box: Mailbox, { brokerCounter = 0, messageId }: OutgoingPacket): void {
    const waiting = box.waiting.get(brokerCounter)
    if (waiting === undefined || messageId === undefined || waiting.packet.messageId === messageId) return
    waiting.packet.messageId = messageId
    // Written with the next commit; a PUBACK that comes before it takes it back.
    this.#options.store?.put(box.key, { ...waiting.command, messageId })
  }

  acknowledged(box: Mailbox, messageId: number): PublishPacket | undefined {
    for (const [place, { packet }] of box.waiting) {
      if (packet.messageId !== messageId) continue
      this.#remove(box, place)
      this.#options.count('downlink.acknowledged')
      return packet
    }
    return undefined
  }

  /** Of machines that are gone or in another fleet now. @returns their sessions, which are closed */
  recheck(): Mailbox[] {
    const gone: Mailbox[] = []
    for (const [id, boxes] of this.#boxes) {
      const isKnown = this.#options.machine(id) !== undefined
      for (const box of boxes) {
        if (isKnown && !this.#isForeign(box)) continue
        gone.push(box)
        this.close(box)
      }
    }
    return gone
  }

  #isForeign({ machine, filters }: Mailbox): boolean {
    const fleet = this.#options.machine(machine)?.fleet
    return [...filters.keys()].some((filter) => filter.split('/')[1] !== fleet)
  }

  sweep(): void {
    if (this.#number === 0) return
    for (const boxes of this.#boxes.values()) for (const box of boxes) this.#expire(box)
  }

  #expire(box: Mailbox): void {
    const now = this.#options.clock.now()
    for (const [place, { command }] of box.waiting) {
      if (command.expiresAtMs > now) continue
      this.#remove(box, place)
      this.#options.count('downlink.expired')
    }
  }

  /** Commands that wait. */
  get size(): number {
    return this.#number
  }

  stop(): void {
    clearInterval(this.#sweepTimer)
  }
}

/** Acknowledgements in the order of what they acknowledge, whatever is done first [MQTT-4.6.0-2]. */
export class Turns {
  readonly #line: { answer: (() => void) | undefined }[] = []

  /** @returns what is to be called with the answer once it is known */
  take(): (answer: () => void) => void {
    const mine: { answer: (() => void) | undefined } = { answer: undefined }
    this.#line.push(mine)
    return (answer) => {
      mine.answer = answer
      for (let first = this.#line[0]; first?.answer !== undefined; first = this.#line[0]) {
        this.#line.shift()
        first.answer()
      }
    }
  }
}

/** Highest QoS granted by a filter that matches; that of the topic itself goes before, because the engine goes by it. */
function grantedQos({ filters }: Mailbox, topic: string): 0 | 1 | 2 | undefined {
  const own = filters.get(topic)
  if (own !== undefined) return own
  let best: 0 | 1 | 2 | undefined
  for (const [filter, qos] of filters) {
    if ((best === undefined || qos > best) && filterMatches(filter, topic)) best = qos
  }
  return best
}

function sizeOf({ topic, payload }: StoredCommand): number {
  return topic.length + payload.length
}
