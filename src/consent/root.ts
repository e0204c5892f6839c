/**
 * The root key: 32 random bytes in a text file that only its owner can read. It wraps the subject rows, keys the
 * pseudonyms' outer HMAC and is never used directly. Losing it ends every row and pseudonym; who has it and keys.db has all.
 */
import { hkdfSync, randomBytes } from 'node:crypto'
import { chmodSync, closeSync, fsyncSync, mkdirSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { GatewayError } from '../domain/errors.ts'
import type { Random } from '../domain/ports.ts'

export interface RootKey {
  /** Names the key without telling anything about it: 8 hex digits. Goes into every record made under it. */
  readonly id: string
  /** HKDF-SHA256(ikm = root, salt = UTF-8 tenant, info) [RFC 5869]; 32 bytes unless told. Purposes begin with `parapet/v1|`. */
  deriveKey(info: string, salt: string, bytes?: number): Uint8Array
  /** The 32 bytes, for the pseudonymiser only, which derives its keys itself. */
  readonly bytes: Uint8Array
  /** Older root keys, newest first: they open what was wrapped under them and make nothing new. */
  readonly former: readonly RootKey[]
}

/**
 * Makes a root key file. The folder is made 0700 when it does not exist, the file is 0600 and fsynced.
 * @throws GatewayError KEY-FILE-EXISTS
 */
export function createRootKey(path: string, random: Random = randomBytes): RootKey {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const root = rootKeyOf(random(32))
  let file: number
  try {
    file = openSync(path, 'wx', 0o600)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'EEXIST') throw error
    throw new GatewayError('KEY-FILE-EXISTS', `There is a root key at ${path} already.`, 'Keep it: everything sealed so far opens only with it. Choose another path for a new one.')
  }
  try {
    chmodSync(path, 0o600)
    writeSync(file, `${HEADER}${Buffer.from(root.bytes).toString('base64url')}\n`)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  syncFolder(dirname(path))
  return root
}

const HEADER = [
  '# Root key of a Parapet gateway: 32 random bytes, base64url. Keep it secret, keep a copy somewhere safe.',
  '# The first key is in use; keys on further lines are former ones that still open what they sealed.',
  '',
].join('\n')

/**
 * Reads a root key file: one key a line (43 characters base64url or 64 hex digits), `#` begins a comment.
 * @throws GatewayError KEY-FILE-MISSING, KEY-FILE-MODE, KEY-FILE-FORMAT, WEAK-KEY
 */
export function loadRootKey(path: string): RootKey {
  let text: string
  try {
    checkMode(path)
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('KEY-FILE-MISSING', `The root key file ${path} cannot be read.`, 'Make one with `parapet keys init`, or name the right file.')
  }
  const keys = text.split('\n').map((line) => line.replace(/#.*/, '').trim()).filter((line) => line !== '').map((line) => parseKey(line, path))
  const [first, ...rest] = keys
  if (first === undefined) throw new GatewayError('KEY-FILE-FORMAT', `The root key file ${path} holds no key.`, 'Make one with `parapet keys init`.')
  return rootKeyOf(first, rest.map((bytes) => rootKeyOf(bytes)))
}

/**
 * A root key from its bytes.
 * @throws GatewayError WEAK-KEY
 */
export function rootKeyOf(bytes: Uint8Array, former: readonly RootKey[] = []): RootKey {
  const weakness = weaknessOf(bytes)
  if (weakness !== undefined) {
    throw new GatewayError('WEAK-KEY', `This root key is not usable: ${weakness}.`, 'Make a random one with `parapet keys init`.')
  }
  const own = Uint8Array.from(bytes)
  const deriveKey = (info: string, salt: string, length = 32): Uint8Array => new Uint8Array(hkdfSync('sha256', own, Buffer.from(salt, 'utf8'), Buffer.from(info, 'utf8'), length))
  return {
    id: Buffer.from(deriveKey('parapet/v1|key-id', '', 4)).toString('hex'),
    deriveKey,
    bytes: own,
    former,
  }
}

/** Why a key must not be used, or undefined. A random key is caught with a probability below 1e-9. */
export function weaknessOf(bytes: Uint8Array): string | undefined {
  if (bytes.length !== 32) return `it has ${bytes.length} bytes instead of 32`
  const hex = Buffer.from(bytes).toString('hex')
  if (PUBLISHED.has(hex)) return 'it is published as a test key'
  const step = (bytes[1]! - bytes[0]!) & 0xff
  if (bytes.every((byte, i) => i === 0 || ((byte - bytes[i - 1]!) & 0xff) === step)) return 'its bytes are constant or count up or down'
  if (new Set(bytes).size < 16) return 'it repeats a few bytes'
  if (hex.slice(0, 32) === hex.slice(32)) return 'its halves are equal'
  if (bytes.every((byte) => byte >= 0x20 && byte < 0x7f)) return 'it is printable text, not random bytes'
  return undefined
}

/** Keys of well-known test vectors that look random. */
const PUBLISHED: ReadonlySet<string> = new Set([
  // NIST SP 800-38A F.1.5: AES-256.
  '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
  // RFC 5297 A.1 and A.2: AES-SIV.
  'fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff',
  '7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f',
  // RFC 8032 7.1: Ed25519 secret keys.
  '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
  '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
  'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
  // SHA-256 of nothing, "test", "password", "secret".
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  '5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8',
  '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b',
])

function parseKey(line: string, path: string): Uint8Array {
  if (/^[0-9a-fA-F]{64}$/.test(line)) return Buffer.from(line, 'hex')
  if (/^[A-Za-z0-9_-]{43}$/.test(line)) return Buffer.from(line, 'base64url')
  throw new GatewayError('KEY-FILE-FORMAT', `A line of ${path} is no key.`, 'A key is 43 characters of base64url or 64 hex digits, alone on its line.')
}

function checkMode(path: string): void {
  // Windows has no such modes; access there is up to the folder's list.
  if (process.platform === 'win32') return
  const { mode } = statSync(path)
  if ((mode & 0o077) !== 0) {
    throw new GatewayError('KEY-FILE-MODE', `The root key file ${path} can be read by others (mode ${(mode & 0o777).toString(8)}).`, `Run: chmod 600 ${path}`)
  }
  const folder = statSync(dirname(path)).mode
  // Who can write to the folder can put another key there; a sticky folder (such as /tmp) protects what is in it.
  if ((folder & 0o022) !== 0 && (folder & 0o1000) === 0) {
    throw new GatewayError('KEY-FILE-MODE', `Others can replace files beside the root key ${path}.`, `Run: chmod 700 ${dirname(path)}`)
  }
}

/** Makes a new name in a folder durable. Folders cannot be synced on Windows. */
export function syncFolder(path: string): void {
  if (process.platform === 'win32') return
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
