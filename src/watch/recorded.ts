/**
 * The file of a recording: raw messages, each with its machine and what was decided for it, sealed to a key that the gateway does not
 * have. Who writes can append and nothing else; who has the private key reads it elsewhere.
 *
 *   "parapet recording 1\n" | length of the head (4, big-endian) | head, JSON in clear | chunks
 *   chunk = length of what follows (4, big-endian) | AES-256-GCM ciphertext and tag (16)
 *
 * Key: HKDF-SHA256 [RFC 5869] of X25519(ephemeral, recipient) [RFC 7748], salt = SHA-256 of all before the chunks, info = "parapet/v1|recording|"
 * and both public keys. It serves one file, so nonces are counted: 1 byte that is 1 in the last chunk, 3 zeros, number of the chunk (8, big-endian),
 * which shows chunks that were moved, doubled, left out or cut off [STREAM, Hoang et al. 2015]. The length is authenticated too.
 * Plain: length of a JSON (4), the JSON, and the payload of a message.
 */
import { createCipheriv, createDecipheriv, createHash, createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync, hkdfSync, type KeyObject } from 'node:crypto'
import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs'
import { nobody, type Decision } from '../domain/consent.ts'
import { GatewayError } from '../domain/errors.ts'
import type { FleetId, MachineId, OperatorId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Policy } from '../domain/policy.ts'
import type { Machine } from '../domain/ports.ts'

/** In clear: tells of nobody. */
export interface RecordingHead {
  readonly version: 1
  readonly id: string
  readonly gateway: string
  /** Hash of the set under which everything in it was decided. */
  readonly rules: string
  readonly started: string
  /** When it is over at the latest, and when the gateway deletes it. */
  readonly until: string
  readonly deleted: string
  /** `keyId` of the key that opens it. */
  readonly to: string
  /** Public half of the key made for this file, 32 bytes base64url. */
  readonly ephemeral: string
}

/** Sealed, first in the file. */
export interface RecordingFrame {
  /** Stream -> full name of its message. */
  readonly streams: Readonly<Record<string, string>>
  /** By bit of the decisions. */
  readonly purposes: readonly string[]
  /** Whether operators stand in it by their ids, or as person-1, person-2. */
  readonly operators: boolean
  readonly stream: string | undefined
  readonly machine: string | undefined
}

/** What was decided, with purposes by name, so that other rules can be tried on it. */
export interface RecordedDecision {
  readonly known: boolean
  readonly yes: readonly string[]
  readonly siteYes: readonly string[]
  readonly no: readonly string[]
  readonly notice: readonly string[]
  readonly operator: string | undefined
  readonly country: string | undefined
  readonly otherCountry: string | undefined
  readonly furtherCountries: readonly string[] | undefined
  readonly concerned: readonly string[] | undefined
  /** Differs between sessions, and is that of no gateway. */
  readonly session: string
  readonly collection: boolean
}

export interface Recorded {
  readonly stream: string
  readonly machine: Machine
  readonly receivedAtMs: number
  readonly decision: RecordedDecision
  readonly payload: Uint8Array
}

// ------------------------------------------------------------------------------------------------------------------ keys

export interface RecordingKeys {
  /** PKCS #8 PEM, for the privacy role alone. */
  readonly privateKey: string
  /** SPKI PEM. */
  readonly publicKey: string
  readonly id: string
}

/** An X25519 key pair. */
export function createRecordingKeys(): RecordingKeys {
  const { privateKey, publicKey } = generateKeyPairSync('x25519')
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }), publicKey: publicKey.export({ type: 'spki', format: 'pem' }), id: keyId(rawOf(publicKey)),
  }
}

/** Names a public key: 16 hex digits. */
export function keyId(publicKey: Uint8Array): string {
  return createHash('sha256').update(publicKey).digest('hex').slice(0, 16)
}

/**
 * The 32 bytes of a public key in a PEM text, base64url.
 * @throws GatewayError RECORDING-KEY
 */
export function publicKeyIn(pem: string): string {
  // A private key would be read as its public half; it must not lie about where recordings are started.
  if (/PRIVATE KEY/.test(pem)) throw new GatewayError('RECORDING-KEY', 'This is a private key.', 'Give the public one (.pub), and keep the private one where recordings are read.')
  try {
    const key = createPublicKey(pem)
    if (key.asymmetricKeyType === 'x25519') return rawOf(key).toString('base64url')
  } catch {
    // Said below.
  }
  throw new GatewayError('RECORDING-KEY', 'This is no public key for recordings.', 'Make a pair with: parapet record keygen FILE.')
}

/**
 * The private key in a file, which nobody else may read.
 * @throws GatewayError RECORDING-KEY
 */
export function readPrivateKey(path: string): KeyObject {
  let pem: string
  try {
    // [IEC 62443-4-2 CR 1.5] Who can read the key can read every recording made to it.
    if (process.platform !== 'win32' && (statSync(path).mode & 0o077) !== 0) throw new GatewayError('RECORDING-KEY', `${path} can be read by others.`, `Run: chmod 600 ${path}`)
    pem = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('RECORDING-KEY', `The key file ${path} cannot be read.`)
  }
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType === 'x25519') return key
  } catch {
    // Said below.
  }
  throw new GatewayError('RECORDING-KEY', `The file ${path} holds no private key for recordings.`, 'It is the one that parapet record keygen made, not the .pub beside it.')
}

function rawOf(publicKey: KeyObject): Buffer {
  return Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url')
}

function publicKeyOf(raw: string): KeyObject {
  if (Buffer.from(raw, 'base64url').length !== 32) throw new GatewayError('RECORDING-KEY', 'This is no public key for recordings.', 'It is 32 bytes in base64url; parapet record start makes it of the .pub file.')
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: raw }, format: 'jwk' })
}

/** @throws GatewayError RECORDING-KEY  for a public key that makes no secret */
function contentKey(own: KeyObject, other: KeyObject, ephemeral: Buffer, recipient: Buffer, clear: Uint8Array): Buffer {
  let secret: Buffer
  try {
    // [RFC 7748 section 6.1] an all-zero secret is refused by the library.
    secret = diffieHellman({ privateKey: own, publicKey: other })
  } catch {
    throw new GatewayError('RECORDING-KEY', 'With this public key there is no secret.', 'Make a pair with: parapet record keygen FILE.')
  }
  const salt = createHash('sha256').update(clear).digest()
  return Buffer.from(hkdfSync('sha256', secret, salt, Buffer.concat([Buffer.from('parapet/v1|recording|', 'utf8'), ephemeral, recipient]), 32))
}

// --------------------------------------------------------------------------------------------------------------- sealing

const MAGIC = Buffer.from('parapet recording 1\n', 'latin1')
const HEAD_MAX = 4_096
const TAG = 16
/** A message with its JSON. */
const CHUNK_MAX = LIMITS.packetBytes + 65_536

/** Makes the bytes of one file, in order; knows the key for as long as it is written, and could not read what lies in another. */
export class Sealer {
  /** All before the first chunk. */
  readonly beginning: Buffer
  readonly #key: Buffer
  #number = 0

  /**
   * @param to  public key, 32 bytes base64url
   * @throws GatewayError RECORDING-KEY
   */
  constructor(to: string, head: Omit<RecordingHead, 'version' | 'to' | 'ephemeral'>) {
    const recipient = publicKeyOf(to)
    const { privateKey, publicKey } = generateKeyPairSync('x25519')
    const [ephemeral, raw] = [rawOf(publicKey), rawOf(recipient)]
    const { id, gateway, rules, started, until, deleted } = head
    const whole: RecordingHead = { version: 1, id, gateway, rules, started, until, deleted, to: keyId(raw), ephemeral: ephemeral.toString('base64url') }
    this.beginning = beginningOf(Buffer.from(JSON.stringify(whole), 'utf8'))
    this.#key = contentKey(privateKey, recipient, ephemeral, raw, this.beginning)
  }

  chunk(json: unknown, payload: Uint8Array = NOTHING, isLast = false): Buffer {
    const text = Buffer.from(JSON.stringify(json), 'utf8')
    const length = lengthOf(4 + text.length + payload.length + TAG)
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonceOf(this.#number++, isLast), { authTagLength: TAG })
    cipher.setAAD(length)
    return Buffer.concat([length, cipher.update(lengthOf(text.length)), cipher.update(text), cipher.update(payload), cipher.final(), cipher.getAuthTag()])
  }
}

const NOTHING = new Uint8Array(0)

function beginningOf(head: Uint8Array): Buffer {
  return Buffer.concat([MAGIC, lengthOf(head.length), head])
}

function lengthOf(bytes: number): Buffer {
  const length = Buffer.allocUnsafe(4)
  length.writeUInt32BE(bytes)
  return length
}

function nonceOf(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12)
  nonce[0] = isLast ? 1 : 0
  nonce.writeBigUInt64BE(BigInt(number), 4)
  return nonce
}

// --------------------------------------------------------------------------------------------------------------- reading

export interface OpenRecording {
  readonly head: RecordingHead
  readonly frame: RecordingFrame
  /**
   * In the order in which they came. What follows a place that is changed or cut is not given; what stands before it is whole.
   * @throws GatewayError RECORDING-CHANGED, RECORDING-CUT
   */
  messages(): Generator<Recorded>
  close(): void
}

/**
 * Opens a file of a recording.
 * @throws GatewayError RECORDING-FILE, RECORDING-KEY, RECORDING-CHANGED, RECORDING-CUT
 */
export function openRecording(path: string, privateKey: KeyObject): OpenRecording {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch {
    throw new GatewayError('RECORDING-FILE', `The file ${path} cannot be read.`)
  }
  try {
    const reader = new ChunkReader(fd, path, privateKey)
    const frame = frameIn(reader.next()?.json)
    if (frame === undefined) throw reader.changed()
    return { head: reader.head, frame, messages: () => messagesIn(reader, frame), close: () => closeSync(fd) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

interface Chunk {
  readonly json: Readonly<Record<string, unknown>>
  readonly payload: Uint8Array
}

class ChunkReader {
  readonly head: RecordingHead
  readonly #fd: number
  readonly #path: string
  readonly #key: Buffer
  #at: number
  #number = 0
  #messages = 0
  #isOver = false

  constructor(fd: number, path: string, privateKey: KeyObject) {
    this.#fd = fd
    this.#path = path
    const start = this.#read(0, MAGIC.length + 4)
    const headBytes = start.length < MAGIC.length + 4 ? 0 : start.readUInt32BE(MAGIC.length)
    if (!start.subarray(0, MAGIC.length).equals(MAGIC) || headBytes > HEAD_MAX) throw new GatewayError('RECORDING-FILE', `${path} is no recording, or its beginning was changed.`)
    const head = this.#read(start.length, headBytes)
    this.head = headIn(head) ?? failed(new GatewayError('RECORDING-FILE', `${path} is no recording, or its beginning was changed.`))
    const recipient = rawOf(createPublicKey(privateKey))
    if (this.head.to !== keyId(recipient)) throw new GatewayError('RECORDING-KEY', `${path} is sealed to the key ${this.head.to}, and this is ${keyId(recipient)}.`, 'Give the private key of the pair to which it was started.')
    const ephemeral = Buffer.from(this.head.ephemeral, 'base64url')
    this.#key = contentKey(privateKey, publicKeyOf(this.head.ephemeral), ephemeral, recipient, beginningOf(head))
    this.#at = start.length + headBytes
  }

  /** The next chunk; undefined behind the last one. */
  next(): Chunk | undefined {
    const length = this.#read(this.#at, 4)
    if (this.#isOver) {
      if (length.length > 0) throw this.changed()
      return undefined
    }
    if (length.length < 4) throw this.#cut()
    const bytes = length.readUInt32BE(0)
    if (bytes < 4 + TAG || bytes > CHUNK_MAX) throw this.changed()
    const sealed = this.#read(this.#at + 4, bytes)
    const plain = this.#unsealed(sealed, length, false) ?? this.#unsealed(sealed, length, true)
    if (plain === undefined) {
      if (sealed.length < bytes) throw this.#cut()
      throw this.changed()
    }
    this.#at += 4 + bytes
    this.#number++
    const textBytes = plain.readUInt32BE(0)
    return { json: JSON.parse(plain.toString('utf8', 4, 4 + textBytes)) as Readonly<Record<string, unknown>>, payload: plain.subarray(4 + textBytes) }
  }

  passed(): void {
    this.#messages++
  }

  changed(): GatewayError {
    return new GatewayError('RECORDING-CHANGED', `${this.#path} was changed behind message ${this.#messages}.`, 'What stands before it is whole; nothing behind it can be trusted.')
  }

  #cut(): GatewayError {
    return new GatewayError('RECORDING-CUT', `${this.#path} ends behind message ${this.#messages} without its end.`, 'The messages before are whole. It is still being written, the gateway was stopped hard, or the file was cut.')
  }

  #unsealed(sealed: Buffer, length: Buffer, isLast: boolean): Buffer | undefined {
    if (sealed.length < length.readUInt32BE(0)) return undefined
    const decipher = createDecipheriv('aes-256-gcm', this.#key, nonceOf(this.#number, isLast), { authTagLength: TAG })
    decipher.setAAD(length)
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG))
    const plain = decipher.update(sealed.subarray(0, sealed.length - TAG))
    try {
      decipher.final()
    } catch {
      return undefined
    }
    this.#isOver = isLast
    return plain
  }

  /** As many of these bytes as there are. */
  #read(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, fstatSync(this.#fd).size - at)))
    const read = bytes.length === 0 ? 0 : readSync(this.#fd, bytes, 0, bytes.length, at)
    return bytes.subarray(0, read)
  }
}

function* messagesIn(reader: ChunkReader, { purposes }: RecordingFrame): Generator<Recorded> {
  const machines: Machine[] = []
  for (;;) {
    const chunk = reader.next()
    if (chunk === undefined) return
    // Authenticated, so written by a gateway: its form needs no second check.
    const json = chunk.json as unknown as ChunkJson
    if (json.kind === 'machine') machines.push(machineIn(json))
    else if (json.kind === 'message') {
      yield { stream: json.stream, machine: machines[json.machine] as Machine, receivedAtMs: json.received, decision: decisionIn(json.decision, purposes), payload: chunk.payload }
      reader.passed()
    }
  }
}

function headIn(bytes: Buffer): RecordingHead | undefined {
  try {
    const head = JSON.parse(bytes.toString('utf8')) as Partial<RecordingHead> | null
    return head?.version === 1 && typeof head.to === 'string' && typeof head.ephemeral === 'string' ? (head as RecordingHead) : undefined
  } catch {
    return undefined
  }
}

function frameIn(json: Chunk['json'] | undefined): RecordingFrame | undefined {
  return json?.['kind'] === 'frame' ? (json as unknown as RecordingFrame) : undefined
}

function failed(error: GatewayError): never {
  throw error
}

// ------------------------------------------------------------------------------------------------------------ JSON of chunks

/** What the sealed JSON of a chunk is. Nothing of a machine's log-in, and not who has it. */
export type ChunkJson =
  | ({ readonly kind: 'frame' } & RecordingFrame)
  | { readonly kind: 'machine'; readonly id: string; readonly fleet: string; readonly model: string; readonly country?: string | undefined; readonly labels: Readonly<Record<string, string>>; readonly collection: 'on' | 'off' | 'unknown' }
  | { readonly kind: 'message'; readonly stream: string; readonly machine: number; readonly received: number; readonly decision: DecisionJson }
  | { readonly kind: 'end'; readonly why: string; readonly messages: number }

interface DecisionJson extends Omit<Decision, 'operator' | 'concerned' | 'seq'> {
  readonly operator: string | undefined
  readonly concerned: readonly string[] | undefined
}

/** A machine as the registry has it, without what only log-ins and contracts need. */
export function machineJson({ id, fleet, model, country, labels, operatorCollection }: Machine): ChunkJson {
  return { kind: 'machine', id, fleet, model, country, labels, collection: operatorCollection }
}

/** @param person  what stands for an operator  @param session  what stands for a session */
export function decisionJson(decision: Readonly<Decision>, person: (operator: OperatorId) => string, session: (id: string) => string): DecisionJson {
  const { known, yes, siteYes, no, notice, operator, country, otherCountry, furtherCountries, concerned, collection } = decision
  return {
    known, yes, siteYes, no, notice, country, otherCountry, furtherCountries, collection,
    operator: operator === undefined ? undefined : person(operator), concerned: concerned?.map(person), session: decision.session === '' ? '' : session(decision.session),
  }
}

function machineIn(json: Extract<ChunkJson, { kind: 'machine' }>): Machine {
  return {
    id: json.id as MachineId, fleet: json.fleet as FleetId, model: json.model, country: json.country, labels: json.labels, operatorCollection: json.collection,
    holder: undefined, credential: undefined, certificate: undefined,
  }
}

function decisionIn(json: DecisionJson, purposes: readonly string[]): RecordedDecision {
  const named = (bits: number): readonly string[] => purposes.filter((_purpose, index) => (bits & (1 << index)) !== 0)
  return { ...json, operator: json.operator, concerned: json.concerned, yes: named(json.yes), siteYes: named(json.siteYes), no: named(json.no), notice: named(json.notice) }
}

/** The decision under other rules: a purpose that they do not have is left out, one that is new to them nobody was asked for. */
export function decisionUnder(policy: Policy, recorded: RecordedDecision): Decision {
  const bits = (names: readonly string[]): number => policy.purposes.reduce((all, { id, index }) => (names.includes(id) ? all | (1 << index) : all), 0)
  // [rules-language 3.3] What somebody said no to under a former name stays a no; a yes is not inherited.
  const no = policy.purposes.reduce((all, { id, index, replaces = [] }) => ([id, ...replaces].some((one) => recorded.no.includes(one)) ? all | (1 << index) : all), 0)
  return {
    ...nobody(), known: recorded.known, yes: bits(recorded.yes) & ~no, siteYes: bits(recorded.siteYes) & ~no, no, notice: bits(recorded.notice),
    operator: recorded.operator as OperatorId | undefined, country: recorded.country, otherCountry: recorded.otherCountry, furtherCountries: recorded.furtherCountries,
    concerned: recorded.concerned as readonly OperatorId[] | undefined, session: recorded.session, collection: recorded.collection,
  }
}
