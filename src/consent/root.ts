/**
 * The root key: 32 random bytes in a text file that only its owner can read. It wraps the subject rows and the keys of what waits in
 * the outbox, keys the pseudonyms' outer HMAC and is never used directly. Losing it ends every row and pseudonym; who has it and
 * keys.db has all.
 *
 * The file holds one key for both purposes, until the first rotation takes them apart: what is stored can be wrapped anew at any
 * time, but a new key for pseudonyms gives every machine and person a new name in every output. So a line may say what it is for.
 */
import { createHash, hkdfSync, randomBytes } from 'node:crypto'
import { chmodSync, closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { GatewayError } from '../domain/errors.ts'
import type { Random } from '../domain/ports.ts'

export interface RootKey {
  /** Names the key without telling anything about it: 8 hex digits. Goes into every record made under it. */
  readonly id: string
  /** HKDF-SHA256(ikm = root, salt = UTF-8 tenant, info) [RFC 5869]; 32 bytes unless told. Purposes begin with `parapet/v1|`. */
  deriveKey(info: string, salt: string, bytes?: number): Uint8Array
  /** The 32 bytes of pseudonyms, for the pseudonymiser only, which derives its keys itself. */
  readonly bytes: Uint8Array
  /** As `id`, of the key of pseudonyms: the same as `id` until the first rotation. */
  readonly pseudonymId: string
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
  try {
    writePrivate(path, `${HEADER}${textOf(root.bytes)}\n`)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'EEXIST') throw error
    throw new GatewayError('KEY-FILE-EXISTS', `There is a root key at ${path} already.`, 'Keep it: everything sealed so far opens only with it. Choose another path for a new one.')
  }
  syncFolder(dirname(path))
  return root
}

/**
 * Puts a new root key in front of those in the file, whole or not at all: a kill at any moment leaves the old file or the new one.
 * What was sealed so far is wrapped anew at the gateway's next start, which then forgets the former key (`forgetFormer`).
 * @param pseudonyms  the key of pseudonyms is replaced as well, and the old one is gone: every pseudonym changes, for good
 * @throws GatewayError KEY-ROTATIONS and those of `loadRootKey`
 */
export function rotateRootKey(path: string, { pseudonyms = false }: { readonly pseudonyms?: boolean } = {}, random: Random = randomBytes): RootKey {
  const { storage, pseudonym } = readKeys(path)
  if (storage.length > FORMER_MAX) throw new GatewayError('KEY-ROTATIONS', `${path} holds ${storage.length} keys that wait to be put to use.`, 'Start the gateway once: it wraps everything under the newest and forgets the others.')
  const next = random(32)
  // Each purpose has its own: who learns one does not have the other.
  const names = pseudonyms ? random(32) : pseudonym
  writeKeys(path, [next, ...storage], names)
  return rootKeyOf(next, storage.map((bytes) => rootKeyOf(bytes)), names)
}

/**
 * Takes the former keys out of the file; only when nothing refers to them any more. A file that was changed since it was read stays.
 * @param root  as read from the file
 * @throws GatewayError those of `loadRootKey`; what the disk throws when the file cannot be replaced, and then it is as it was
 */
export function forgetFormer(path: string, root: RootKey): void {
  const { storage, pseudonym } = readKeys(path)
  if (storage.length > 1 && idOf(storage[0]!) === root.id) writeKeys(path, storage.slice(0, 1), pseudonym)
}

function writeKeys(path: string, storage: readonly Uint8Array[], pseudonym: Uint8Array): void {
  const beside = `${path}.new`
  rmSync(beside, { force: true })
  writePrivate(beside, [HEADER, ...storage.map((bytes) => `storage ${textOf(bytes)}\n`), `pseudonym ${textOf(pseudonym)}\n`].join(''))
  renameSync(beside, path)
  syncFolder(dirname(path))
}

/** Made 0600 from the first moment, and durable but for its name. */
function writePrivate(path: string, text: string): void {
  const file = openSync(path, 'wx', 0o600)
  try {
    chmodSync(path, 0o600)
    writeSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

const HEADER = [
  '# Root key of a Parapet gateway: 32 random bytes, base64url. Keep it secret, keep a copy somewhere safe.',
  '# The first key is in use; keys on further lines are former ones that still open what they sealed.',
  '# A line that begins with "pseudonym" is the key of pseudonyms alone, and then those with "storage" are for what is stored.',
  '',
].join('\n')
/** Former keys in one file. */
const FORMER_MAX = 7

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}

/**
 * Reads a root key file: one key a line (43 characters base64url or 64 hex digits), perhaps with `storage` or `pseudonym` before it; `#`
 * begins a comment. Without a line for pseudonyms the first key serves both.
 * @throws GatewayError KEY-FILE-MISSING, KEY-FILE-MODE, KEY-FILE-FORMAT, WEAK-KEY
 */
export function loadRootKey(path: string): RootKey {
  const { storage, pseudonym } = readKeys(path)
  const [first, ...former] = storage
  return rootKeyOf(first!, former.map((bytes) => rootKeyOf(bytes)), pseudonym)
}

/** At least one key of storage. */
function readKeys(path: string): { readonly storage: readonly Uint8Array[]; readonly pseudonym: Uint8Array } {
  let text: string
  try {
    checkMode(path)
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('KEY-FILE-MISSING', `The root key file ${path} cannot be read.`, 'Make one with `parapet keys init`, or name the right file.')
  }
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim()).filter((line) => line !== '').map((line) => parseLine(line, path))
  const storage = lines.filter(({ use }) => use !== 'pseudonym').map(({ bytes }) => bytes)
  const own = lines.filter(({ use }) => use === 'pseudonym').map(({ bytes }) => bytes)
  if (storage.length === 0) throw new GatewayError('KEY-FILE-FORMAT', `The root key file ${path} holds no key.`, 'Make one with `parapet keys init`.')
  if (own.length > 1) throw new GatewayError('KEY-FILE-FORMAT', `The root key file ${path} holds two keys of pseudonyms.`, 'Keep the one in use: a copy of the file from before the last change tells which.')
  for (const { bytes } of lines) {
    refuseWeak(bytes)
    refusePublished(bytes)
  }
  return { storage, pseudonym: own[0] ?? storage[0]! }
}

/**
 * A root key from its bytes.
 * @throws GatewayError WEAK-KEY
 */
export function rootKeyOf(bytes: Uint8Array, former: readonly RootKey[] = [], pseudonyms: Uint8Array = bytes): RootKey {
  refuseWeak(bytes)
  refuseWeak(pseudonyms)
  const own = Uint8Array.from(bytes)
  return {
    id: idOf(own),
    deriveKey: (info, salt, length = 32) => derived(own, info, salt, length),
    bytes: Uint8Array.from(pseudonyms),
    pseudonymId: idOf(pseudonyms),
    former,
  }
}

function derived(key: Uint8Array, info: string, salt: string, length: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key, Buffer.from(salt, 'utf8'), Buffer.from(info, 'utf8'), length))
}

function idOf(key: Uint8Array): string {
  return Buffer.from(derived(key, 'parapet/v1|key-id', '', 4)).toString('hex')
}

function refuseWeak(bytes: Uint8Array): void {
  const weakness = weaknessOf(bytes)
  if (weakness !== undefined) throw new GatewayError('WEAK-KEY', `This root key is not usable: ${weakness}.`, 'Make a random one with `parapet keys init`.')
}

/** Keys that the tests of this program are run with are good in every other way: only a file is refused for them. */
function refusePublished(bytes: Uint8Array): void {
  if (!OF_TESTS.has(createHash('sha256').update(bytes).digest('hex'))) return
  throw new GatewayError('WEAK-KEY', 'This root key is not usable: it is published with the tests of this program.', 'Make a random one with `parapet keys init`.')
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

/** SHA-256 of the root keys that the tests use: the keys themselves need not stand here as well. */
const OF_TESTS: ReadonlySet<string> = new Set([
  // SHA-256 of a sentence each, in test/consent and test/contract.
  '3eb201b834d382a3217633fd6fcba4800bfde075e66fbaf57fd5826c1b88c1dd',
  'b4463dc4129b8e63b51ef9d543900ce2cce758ccc74da7d8b441fd00aa2a8937',
  'af91a78c8901cc1be80331c2b5f9061219fd0948e3422e5e912d2d6a4950d561',
  '0fb2ca7f8f54c03db83e3fd21e9ee2ac2b5cc668af733ad4667ef552aeadaa82',
  '9b697b141784c2c7d88553425b276f09115115bca3c322df3751ef43bfd94638',
  'dcb58f11a91cc48c63cb9d4ea099eab7cf55f11e4f12ebe7d688da633112197f',
  'f603c5ce447e63ec62ac9a6347fc2f98cdfd08a3a5461d3a302dba26e302a896',
  '9b53396fc3ed9fe854121a9f1b2ea817c0ed1e9a042a17c8015c98bee7770d46',
])

function parseLine(line: string, path: string): { readonly use: string | undefined; readonly bytes: Uint8Array } {
  const [, use, key = ''] = /^(?:(storage|pseudonym)\s+)?(\S+)$/.exec(line) ?? []
  if (/^[0-9a-fA-F]{64}$/.test(key)) return { use, bytes: Buffer.from(key, 'hex') }
  if (/^[A-Za-z0-9_-]{43}$/.test(key)) return { use, bytes: Buffer.from(key, 'base64url') }
  throw new GatewayError('KEY-FILE-FORMAT', `A line of ${path} is no key.`, 'A key is 43 characters of base64url or 64 hex digits, alone on its line but for `storage` or `pseudonym` before it.')
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
