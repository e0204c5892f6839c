/**
 * Who a connection is. A terminal is its client certificate's name, else its user name, else its client id; a recipient is its
 * certificate's name, else its user name. Nothing else in a CONNECT says anything about identity.
 *
 * The client id is never trusted: the engine knows a connection as `identity/hash of the client id`. An identity holds no slash, so two
 * identities can never have the same key, and taking over a session [MQTT-3.1.4-2] works within one identity only, whatever
 * client id somebody else presents. Terminals keep the client ids they have.
 */
import { createHash, createHmac, randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../domain/errors.ts'
import { isTopicLevel } from '../domain/ids.ts'
import type { RecipientId } from '../domain/ids.ts'
import type { Machine } from '../domain/ports.ts'

/** How a connection came in. */
export interface Via {
  /** On a loopback address without TLS: the only way in for an identity that has no credential. */
  readonly plain: boolean
  /** Verified name in the client certificate, when there is one. */
  readonly certificate: string | undefined
  /** Where from, as an IP address. */
  readonly address?: string | undefined
}

/** Reads the machine registry. Functions, so that a reload applies at the next look. */
export interface TerminalDirectory {
  readonly machine: (id: string) => Machine | undefined
  /** By `Machine.certificate`, for names that differ from the id. */
  readonly machineByCertificate: (name: string) => Machine | undefined
}

export interface RecipientAccount {
  /** The recipient of the rules file that the log-in serves. A recipient may have several log-ins. */
  readonly id: RecipientId
  /** MQTT user name of the log-in, unique among all; the directory is asked by it. */
  readonly user: string
  readonly credential: string | undefined
  readonly certificate: string | undefined
}

export interface RecipientDirectory {
  /** By user name. */
  readonly recipient: (user: string) => RecipientAccount | undefined
  readonly recipientByCertificate: (name: string) => RecipientAccount | undefined
}

/** [MQTT-3.2.2.3] */
export const ReturnCode = { identifier: 2, unavailable: 3, credentials: 4, notAuthorized: 5 } as const
export type ReturnCode = (typeof ReturnCode)[keyof typeof ReturnCode]

/** What a CONNECT claims. `identity` is unproven until `admit` has answered. */
export interface Claim {
  readonly identity: string
  readonly via: Via
  readonly password: Buffer | undefined
  /** Asked when its turn to be checked has come: false when nobody waits for the answer any more. */
  readonly wanted?: (() => boolean) | undefined
}

export type Admitted<Who> = { readonly code: 0; readonly who: Who } | { readonly code: ReturnCode }

interface Connect {
  readonly clientId: string
  readonly username?: string
}

/** The machine id that a terminal's CONNECT claims, or undefined when it claims none that could be one. */
export function terminalIdentity(connect: Connect, via: Via, directory: TerminalDirectory): string | undefined {
  if (via.certificate !== undefined) return machineOf(via.certificate, directory)?.id ?? usable(via.certificate)
  return usable(connect.username === undefined || connect.username === '' ? connect.clientId : connect.username)
}

export function recipientIdentity(connect: Connect, via: Via, directory: RecipientDirectory): string | undefined {
  if (via.certificate !== undefined) return usable(accountOf(via.certificate, directory)?.user ?? via.certificate)
  return usable(connect.username ?? '')
}

/**
 * The engine's client id: who, and a hash of the client id, for persistent sessions are stored under it and a client id may be a person's
 * name. An empty one [MQTT-3.1.3-6] is replaced by a random one.
 */
export function clientKey(identity: string, clientId: string): string {
  return `${identity}/${clientId === '' ? randomUUID() : createHash('sha256').update(clientId).digest('base64url').slice(0, 22)}`
}

function usable(name: string): string | undefined {
  return isTopicLevel(name) ? name : undefined
}

/**
 * Admits a terminal. `who` is undefined for a machine that is not in the registry: on a plain loopback listener it stays connected,
 * and everything it publishes is refused as unknown_machine, so that a missing registry entry does not become a reconnect storm.
 */
export async function admitTerminal(claim: Claim, directory: TerminalDirectory, credentials: Credentials): Promise<Admitted<Machine | undefined>> {
  const { via } = claim
  const find = (): Machine | undefined => (via.certificate === undefined ? directory.machine(claim.identity) : machineOf(via.certificate, directory))
  const machine = find()
  if (machine === undefined) return via.plain && via.certificate === undefined ? { code: 0, who: undefined } : { code: ReturnCode.notAuthorized }
  const code = await prove(machine, claim, credentials)
  return code === 0 ? stillThere(machine, find()) : { code }
}

/** Admits a recipient; unknown ones never. */
export async function admitRecipient(claim: Claim, directory: RecipientDirectory, credentials: Credentials): Promise<Admitted<RecipientAccount>> {
  const { via } = claim
  const find = (): RecipientAccount | undefined => (via.certificate === undefined ? directory.recipient(claim.identity) : accountOf(via.certificate, directory))
  const account = find()
  if (account === undefined) return { code: ReturnCode.notAuthorized }
  const code = await prove(account, claim, credentials)
  return code === 0 ? stillThere(account, find()) : { code }
}

/** The registry may have been read anew while the password was checked: what was proven must be what is asked for now. */
function stillThere<Who extends Proof>(proven: Who, now: Who | undefined): Admitted<Who> {
  return now !== undefined && now.credential === proven.credential && now.certificate === proven.certificate ? { code: 0, who: now } : { code: ReturnCode.unavailable }
}

interface Proof {
  readonly credential: string | undefined
  readonly certificate: string | undefined
}

/**
 * A certificate names a machine by the registry's `certificate`, else by the id of a machine that has no other name: as it is, or as
 * `urn:parapet:machine:ID`. One that says `urn:parapet:` and something else, such as a recipient's, is no machine's.
 */
function machineOf(name: string, directory: TerminalDirectory): Machine | undefined {
  const named = directory.machineByCertificate(name)
  if (named !== undefined) return named
  const id = idIn(name, 'machine')
  const machine = id === undefined ? undefined : directory.machine(id)
  return machine?.certificate === undefined || machine.certificate === name ? machine : undefined
}

const URN = 'urn:parapet:'

function idIn(name: string, kind: 'machine' | 'recipient'): string | undefined {
  if (!name.startsWith(URN)) return name
  const prefix = `${URN}${kind}:`
  if (!name.startsWith(prefix)) return undefined
  try {
    return decodeURIComponent(name.slice(prefix.length))
  } catch {
    return undefined
  }
}

function accountOf(name: string, directory: RecipientDirectory): RecipientAccount | undefined {
  const named = directory.recipientByCertificate(name)
  if (named !== undefined) return named
  const user = idIn(name, 'recipient')
  const account = user === undefined ? undefined : directory.recipient(user)
  return account?.certificate === undefined || account.certificate === name ? account : undefined
}

async function prove(known: Proof, { via, password, wanted }: Claim, credentials: Credentials): Promise<0 | ReturnCode> {
  // The TLS layer has verified the certificate, and it led to this entry.
  if (via.certificate !== undefined) return 0
  if (known.credential === undefined) return via.plain && known.certificate === undefined ? 0 : ReturnCode.notAuthorized
  if (password === undefined || password.length === 0) return ReturnCode.credentials
  const result = await credentials.check(password, known.credential, wanted)
  if (result === 'busy') return ReturnCode.unavailable
  return result === 'right' ? 0 : ReturnCode.credentials
}

/**
 * The name in a verified client certificate: the one SAN URI, else the one common name. Undefined when there is none or more than
 * one of the kind that counts, so that nobody can be two machines.
 */
export function certificateName(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  const names = certificate.subjectAltName ?? ''
  // Node quotes names with special characters; a name that needs quoting is not one of ours.
  if (names.includes('"')) return undefined
  const uris = names.split(', ').filter((name) => name.startsWith('URI:')).map((name) => name.slice(4))
  if (uris.length > 0) return uris.length === 1 ? uris[0] : undefined
  const common: unknown = certificate.toLegacyObject().subject.CN
  return typeof common === 'string' && common !== '' ? common : undefined
}

// ------------------------------------------------------------------------------------------------------------ credentials

/** [RFC 7914] 16 MiB and some 50 ms; OWASP's lower bound for passwords that people choose would be slower, ours are random. */
const COST = { N: 16_384, r: 8, p: 1 } as const
/** A record asking for more memory than this is refused, not computed. */
const RECORD_BYTES_MAX = 268_435_456
const PASSWORD_BYTES_MAX = 1_024

/** `scrypt$N$r$p$salt$hash`, salt and hash in base64url. */
export async function hashCredential(password: string | Buffer): Promise<string> {
  const salt = randomBytes(16)
  const hash = await derive(Buffer.from(password), salt, 32, COST)
  return `scrypt$${COST.N}$${COST.r}$${COST.p}$${salt.toString('base64url')}$${hash.toString('base64url')}`
}

/**
 * Compares in constant time, off the main thread.
 * @throws GatewayError CREDENTIAL-RECORD when the record is not one
 */
export async function checkCredential(password: string | Buffer, record: string): Promise<boolean> {
  const { N, r, p, salt, hash } = readRecord(record)
  const given = Buffer.from(password)
  if (given.length > PASSWORD_BYTES_MAX) return false
  return timingSafeEqual(await derive(given, salt, hash.length, { N, r, p }), hash)
}

export interface Credentials {
  /** @param wanted  asked when its turn has come, before anything is computed; `busy` when it says no */
  check(password: Buffer, record: string, wanted?: () => boolean): Promise<'right' | 'wrong' | 'busy'>
}

export interface CredentialsOptions {
  /** Checks computed at the same time. Each takes a thread of four that the files share. */
  readonly concurrency?: number
  /** Checks that wait; past it the answer is `busy`. */
  readonly waiting?: number
  /** How long a right answer is remembered, so that a thousand terminals that come back after an outage do not take the CPU. */
  readonly rememberMs?: number
  readonly remembered?: number
}

/** Checks credentials with bounded work. Only right answers are remembered, under a key that lives in this process. */
export function createCredentials({ concurrency = 2, waiting = 2_000, rememberMs = 600_000, remembered = 16_384 }: CredentialsOptions = {}): Credentials {
  const key = randomBytes(32)
  const right = new LRUCache<string, true>({ max: remembered, ttl: rememberMs })
  const queue: (() => void)[] = []
  let running = 0

  async function turn(): Promise<void> {
    if (running < concurrency) {
      running++
      return
    }
    await new Promise<void>((resolve) => void queue.push(resolve))
  }

  /** Passes the place on to the one who waits longest. */
  function leave(): void {
    const next = queue.shift()
    if (next === undefined) running--
    // A turn later: what follows from the answer, a lock-out, is known when the next one is asked whether it is wanted.
    else setImmediate(next)
  }

  return {
    async check(password, record, wanted = () => true) {
      const name = createHmac('sha256', key).update(record).update('\u0000').update(password).digest('base64')
      if (right.has(name)) return 'right'
      if (queue.length >= waiting) return 'busy'
      await turn()
      try {
        if (!wanted()) return 'busy'
        // Another connection with the same credential may have been checked while this one waited.
        if (!right.has(name) && !(await checkCredential(password, record))) return 'wrong'
        right.set(name, true)
        return 'right'
      } catch {
        // A record that cannot be read admits nobody (G3).
        return 'wrong'
      } finally {
        leave()
      }
    },
  }
}

interface Cost {
  readonly N: number
  readonly r: number
  readonly p: number
}

function readRecord(record: string): Cost & { readonly salt: Buffer; readonly hash: Buffer } {
  const [scheme, n = '', blocks = '', lanes = '', salt = '', hash = '', ...rest] = record.split('$')
  const [N, r, p] = [Number(n), Number(blocks), Number(lanes)]
  const read = { N, r, p, salt: Buffer.from(salt, 'base64url'), hash: Buffer.from(hash, 'base64url') }
  const sound =
    scheme === 'scrypt' && rest.length === 0 && [N, r, p].every((value) => Number.isSafeInteger(value) && value > 0) && N > 1 && (N & (N - 1)) === 0 &&
    128 * N * r <= RECORD_BYTES_MAX && p <= 16 && read.salt.length >= 8 && read.hash.length >= 16 && read.hash.length <= 64
  if (!sound) throw new GatewayError('CREDENTIAL-RECORD', 'A credential record cannot be read.', 'It reads scrypt$N$r$p$salt$hash; make a new one.')
  return read
}

function derive(password: Buffer, salt: Buffer, length: number, { N, r, p }: Cost): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // Node's default bound of 32 MiB is too small for the larger records we accept.
    scrypt(password, salt, length, { N, r, p, maxmem: 128 * N * r + 128 * r * p + 1_048_576 }, (error, key) => (error === null ? resolve(key) : reject(error)))
  })
}
