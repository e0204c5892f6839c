/**
 * Plays byte-level packet sequences against a broker: what is sent, what must come back, and whether the broker must then have closed
 * the connection. The format is that of the Mosquitto broker tests (test/broker/data/*.json), which are read where they lie.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { generate } from 'mqtt-packet'

export interface Sequence {
  /** `CONNECT.json: group name`, the same in every run. */
  readonly id: string
  /** Protocol level of the CONNECT that is sent first: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0. */
  readonly version: number
  readonly clientId: string
  /** Whether a CONNECT and its CONNACK 0 come before the steps. */
  readonly connects: boolean
  /** True: the broker must close the connection at the end. False: it must answer a PINGREQ. */
  readonly closes: boolean
  readonly steps: readonly Step[]
}

export type Step =
  | { readonly do: 'send'; readonly bytes: Buffer }
  | { readonly do: 'receive'; readonly bytes: Buffer; readonly what: string }
  /** Another client publishes this meanwhile. */
  | { readonly do: 'publish'; readonly topic: string; readonly payload: string; readonly qos: 0 | 1 | 2; readonly retain: boolean }

export interface PlayOptions {
  /** How long an answer or the end of the connection is waited for. */
  readonly waitMs?: number
}

/** Plays one sequence. Resolves to undefined when all came as it should, else to what did not. */
export async function play(sequence: Sequence, port: number, { waitMs = 1_000 }: PlayOptions = {}): Promise<string | undefined> {
  const peer = new Peer(port, waitMs)
  try {
    if (sequence.connects) {
      peer.send(connectPacket(sequence.clientId, sequence.version))
      await peer.receive(ACCEPTED, 'CONNACK')
    }
    for (const step of sequence.steps) {
      if (step.do === 'send') peer.send(step.bytes)
      else if (step.do === 'receive') await peer.receive(step.bytes, step.what)
      else await publishBeside(step, port, waitMs)
    }
    if (sequence.closes) {
      await peer.closed()
    } else {
      peer.send(generate({ cmd: 'pingreq' }))
      await peer.receive(PINGRESP, 'PINGRESP, which shows that the connection stands')
    }
    return undefined
  } catch (error) {
    if (error instanceof Mismatch) return error.message
    throw error
  } finally {
    peer.destroy()
  }
}

/** The sequences of all files in a folder, in the order of the names: some prepare what later ones look at. */
export function readSequences(folder: string): Sequence[] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json')).toSorted()
  return files.flatMap((file) => parseSequences(file, readFileSync(join(folder, file), 'utf8')))
}

/** @throws Error naming the sequence that is not understood: one that is passed over would count as neither good nor bad. */
export function parseSequences(file: string, text: string): Sequence[] {
  const groups = JSON.parse(text) as readonly Group[]
  return groups.filter(({ disable }) => disable !== true).flatMap((group) => group.tests.map((test): Sequence => {
    const clientId = `${group.group} ${test.name}`
    const version = test.ver ?? group.ver ?? 4
    return {
      id: `${file}: ${clientId}`,
      version,
      clientId,
      connects: test.connect ?? group.connect ?? true,
      closes: test.expect_disconnect ?? group.expect_disconnect ?? true,
      // Other versions are not played, and have steps of their own.
      steps: version > 4 ? [] : test.msgs.map((step) => readStep(step, clientId)),
    }
  }))
}

interface Group extends Defaults {
  readonly group: string
  readonly disable?: boolean
  readonly tests: readonly (Defaults & { readonly name: string; readonly msgs: readonly RawStep[] })[]
}

interface Defaults {
  readonly ver?: number
  readonly connect?: boolean
  readonly expect_disconnect?: boolean
}

interface RawStep {
  readonly type: string
  readonly payload?: string
  readonly comment?: string
  readonly topic?: string
  readonly qos?: 0 | 1 | 2
  readonly retain?: boolean
}

function readStep({ type, payload = '', comment, topic, qos, retain }: RawStep, where: string): Step {
  switch (type) {
    case 'send':
      return { do: 'send', bytes: packetBytes(payload) }
    case 'recv':
      return { do: 'receive', bytes: packetBytes(payload), what: comment ?? 'an answer' }
    case 'external_publish':
      if (topic === undefined || qos === undefined) throw new Error(`${where}: a message of another client has no topic or no QoS`)
      return { do: 'publish', topic, payload, qos, retain: retain ?? false }
    default:
      throw new Error(`${where}: the step "${type}" is not known`)
  }
}

/**
 * The bytes that a line such as `82 r6 m1 s1 'a' 00` stands for: two hex digits each; `i` one byte; `H` `k` `m` `s` two (any number, keep
 * alive, packet id, length of a string); `L` four; `v` `r` a variable length (any, remaining length), also longer than four bytes; text in quotes.
 */
export function packetBytes(line: string): Buffer {
  const parts: Buffer[] = []
  let rest = line.trim()
  while (rest !== '') {
    const token = /^'([^']*)'|^([a-zA-Z]?)([0-9a-fA-F]+)(?=\s|$)/.exec(rest)
    if (token === null) throw new Error(`"${line}" cannot be read at "${rest}"`)
    const [all, quoted, letter = '', digits = ''] = token
    parts.push(quoted === undefined ? numberBytes(letter, digits, line) : Buffer.from(quoted))
    rest = rest.slice(all.length).trimStart()
  }
  return Buffer.concat(parts)
}

function numberBytes(letter: string, digits: string, line: string): Buffer {
  const width = WIDTHS[letter]
  if (width === undefined && letter !== 'v' && letter !== 'r') {
    const hex = letter + digits
    if (!/^([0-9a-fA-F]{2})+$/.test(hex)) throw new Error(`"${line}" holds "${hex}", which is neither a number nor whole bytes`)
    return Buffer.from(hex, 'hex')
  }
  if (!/^\d+$/.test(digits)) throw new Error(`"${line}" holds "${letter}${digits}", which is no number`)
  const value = Number(digits)
  if (width === undefined) return lengthBytes(value)
  const bytes = Buffer.alloc(width)
  bytes.writeUIntBE(value, 0, width)
  return bytes
}

const WIDTHS: Readonly<Record<string, number>> = { i: 1, H: 2, k: 2, m: 2, s: 2, L: 4 }

/** [MQTT-2.2.3], but of any length. */
function lengthBytes(value: number): Buffer {
  const bytes: number[] = []
  for (let left = value; ; left = Math.floor(left / 128)) {
    bytes.push((left % 128) + (left >= 128 ? 128 : 0))
    if (left < 128) return Buffer.from(bytes)
  }
}

const ACCEPTED = Buffer.from([0x20, 2, 0, 0])
const PINGRESP = Buffer.from([0xd0, 0])

function connectPacket(clientId: string, version: number): Buffer {
  const protocol = version === 3 ? { protocolId: 'MQIsdp' as const, protocolVersion: 3 as const } : { protocolId: 'MQTT' as const, protocolVersion: 4 as const }
  return generate({ cmd: 'connect', ...protocol, clientId, clean: true, keepalive: 60 })
}

/** Returns when the broker has taken the message: at QoS 0 when it has answered a PINGREQ behind it. */
async function publishBeside({ topic, payload, qos, retain }: Step & { do: 'publish' }, port: number, waitMs: number): Promise<void> {
  const peer = new Peer(port, waitMs)
  try {
    peer.send(connectPacket('beside', 4))
    await peer.receive(ACCEPTED, 'CONNACK of the other client')
    peer.send(generate({ cmd: 'publish', topic, payload, qos, retain, dup: false, ...(qos === 0 ? {} : { messageId: 1 }) }))
    if (qos === 1) await peer.receive(generate({ cmd: 'puback', messageId: 1 }), 'PUBACK of the other client')
    if (qos === 2) {
      await peer.receive(generate({ cmd: 'pubrec', messageId: 1 }), 'PUBREC of the other client')
      peer.send(generate({ cmd: 'pubrel', messageId: 1 }))
      await peer.receive(generate({ cmd: 'pubcomp', messageId: 1 }), 'PUBCOMP of the other client')
    }
    if (qos === 0) {
      peer.send(generate({ cmd: 'pingreq' }))
      await peer.receive(PINGRESP, 'PINGRESP of the other client')
    }
  } finally {
    peer.destroy()
  }
}

class Mismatch extends Error {}

/** One connection, read by need. */
class Peer {
  readonly #socket: Socket
  readonly #waitMs: number
  #arrived = Buffer.alloc(0)
  #closed = false
  #wake: () => void = () => undefined

  constructor(port: number, waitMs: number) {
    this.#waitMs = waitMs
    this.#socket = connect({ host: '127.0.0.1', port })
    this.#socket.on('data', (chunk: Buffer) => {
      this.#arrived = Buffer.concat([this.#arrived, chunk])
      this.#wake()
    })
    // A reset is an end like any other; 'close' follows.
    this.#socket.on('error', () => undefined)
    for (const event of ['end', 'close']) {
      this.#socket.on(event, () => {
        this.#closed = true
        this.#wake()
      })
    }
  }

  send(bytes: Buffer): void {
    if (!this.#closed) this.#socket.write(bytes)
  }

  /** The next bytes must be these. */
  async receive(bytes: Buffer, what: string): Promise<void> {
    await this.#until(() => this.#arrived.length >= bytes.length)
    const found = this.#arrived.subarray(0, bytes.length)
    this.#arrived = this.#arrived.subarray(found.length)
    if (found.equals(bytes)) return
    const end = this.#closed ? ', then the connection closed' : ''
    throw new Mismatch(`${what}: ${hex(bytes)} expected, ${hex(found)} came${found.length < bytes.length ? end : ''}`)
  }

  /** The connection must end without another byte. */
  async closed(): Promise<void> {
    await this.#until(() => this.#arrived.length > 0)
    if (this.#arrived.length > 0) throw new Mismatch(`the end of the connection expected, ${hex(this.#arrived)} came`)
    if (!this.#closed) throw new Mismatch('the end of the connection expected, it stayed open')
  }

  destroy(): void {
    this.#socket.destroy()
  }

  async #until(condition: () => boolean): Promise<void> {
    const end = performance.now() + this.#waitMs
    for (let left = this.#waitMs; left > 0 && !this.#closed && !condition(); left = end - performance.now()) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }
}

function hex(bytes: Uint8Array): string {
  return bytes.length === 0 ? 'nothing' : Buffer.from(bytes).toString('hex')
}
