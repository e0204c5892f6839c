/**
 * Who may call the admin API. A token is 256 random bits, shown once; the file keeps its SHA-256 (a token that cannot be
 * guessed needs no slow hash), a name and one role. Roles are sets of scopes, not a ladder: who may tune rules cannot read who refused.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { GatewayError } from '../domain/errors.ts'
import { NAME } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'

/** What a route asks for. */
export const SCOPES = {
  'status:read': 'what runs, health, counters',
  'rules:read': 'the active rules and findings of a refused file; validate a candidate',
  'rules:write': 'put rules in place',
  'rules:activate': 'activate what widens nothing, roll back, discard a set that waits',
  'rules:approve': 'approve a set of rules that widens something',
  'outbox:write': 'send messages once more that a broker refused for good, or drop them',
  'machines:read': 'the machine registry; why nothing arrives',
  'machines:write': 'add and change machines',
  'consent:read': 'the consent of a person and its history; who is signed on',
  'consent:restrict': 'refuse, withdraw, object; record that the notice was given',
  'consent:grant': 'grant for a person, with evidence',
  'trace:run': 'explain messages of one machine for a limited time',
  'shadow:run': 'run other rules beside the active ones, for a limited time',
  'learn:run': 'report what schemas and rules do not know of what arrives, without values, for a limited time',
  'recordings:write': 'record raw traffic, sealed to a key of the caller; list, end and delete recordings',
  'ledger:read': 'events and proof of the ledger',
  'tokens:write': 'make and end tokens',
} as const
export type Scope = keyof typeof SCOPES

/**
 * No role has both `rules:write` and `consent:read`, and who puts rules in place does not approve what they widen. The admin owns the box: makes tokens, admits machines, and stands in for the
 * privacy role on a box that has nobody else (grants need evidence from anyone). For tuning rules the admin makes an engineer token; that is audited.
 */
export const ROLES = {
  viewer: ['status:read', 'rules:read'],
  engineer: ['status:read', 'rules:read', 'rules:write', 'rules:activate', 'outbox:write', 'machines:read', 'machines:write', 'trace:run', 'learn:run', 'shadow:run'],
  privacy: ['status:read', 'rules:read', 'rules:activate', 'rules:approve', 'machines:read', 'consent:read', 'consent:restrict', 'consent:grant', 'trace:run', 'learn:run', 'shadow:run', 'recordings:write', 'ledger:read'],
  admin: [
    'status:read', 'rules:read', 'rules:activate', 'rules:approve', 'outbox:write', 'machines:read', 'machines:write', 'consent:read', 'consent:restrict', 'consent:grant', 'trace:run', 'learn:run', 'shadow:run',
    'recordings:write', 'ledger:read', 'tokens:write',
  ],
} as const satisfies Record<string, readonly Scope[]>
export type Role = keyof typeof ROLES

export function may(role: Role, scope: Scope): boolean {
  return (ROLES[role] as readonly Scope[]).includes(scope)
}

/** Roles that hold a scope; for answers and the API document. */
export function rolesWith(scope: Scope): Role[] {
  return (Object.keys(ROLES) as Role[]).filter((role) => may(role, scope))
}

/** Who calls. The name is that of a token, never of a person. */
export interface Actor {
  readonly name: string
  readonly role: Role
}

export interface TokenEntry extends Actor {
  readonly created: string
}

export interface Tokens {
  /** The actor of a presented token, or undefined. Takes the same time whichever entry matches, or none. */
  find(token: string): Actor | undefined
  list(): readonly TokenEntry[]
  /** Makes a token and returns it in clear, once. Durable when it returns. Errors: TOKEN-NAME, TOKEN-EXISTS, TOKEN-LIMIT. */
  create(name: string, role: Role): string
  /** Ends a token at once. Errors: UNKNOWN-TOKEN, TOKEN-LAST. */
  end(name: string): void
}

/**
 * Opens data/tokens.json. At first start it makes the file and one admin token, which it writes to data/admin.token.
 * Both have mode 0600. Errors: TOKENS-MODE when others may read the file, TOKENS-FORMAT when it is not what we wrote.
 * @param data   data directory, made with 0700 when missing
 * @param nowMs  for the `created` of a new token
 */
export function openTokens(data: string, nowMs: () => number = Date.now): Tokens & { readonly first: boolean; readonly adminFile: string } {
  const file = join(data, 'tokens.json')
  const adminFile = join(data, 'admin.token')
  mkdirSync(data, { recursive: true, mode: 0o700 })

  const stored = readTokens(file)
  let entries: readonly Stored[] = stored ?? []

  function save(next: readonly Stored[]): void {
    writePrivate(file, `${JSON.stringify({ version: 1, tokens: next }, undefined, 2)}\n`)
    entries = next
  }

  const tokens: Tokens = {
    find(token) {
      const digest = sha256(token)
      let found: Actor | undefined
      // No early end: the time must not tell which entry matched.
      for (const { name, role, hash } of entries) if (timingSafeEqual(hash, digest)) found = { name, role }
      return found
    },
    list: () => entries.map(({ name, role, created }) => ({ name, role, created })),
    create(name, role) {
      if (!NAME.test(name) || name.length > 64) {
        throw new GatewayError('TOKEN-NAME', 'A token name has letters, digits, dot, dash and underscore, at most 64.', 'Name the use, not a person.')
      }
      if (entries.some((entry) => entry.name === name)) throw new GatewayError('TOKEN-EXISTS', 'A token of this name exists.', 'End it first, or take another name.')
      if (entries.length >= LIMITS.adminTokens) throw new GatewayError('TOKEN-LIMIT', `There are ${LIMITS.adminTokens} tokens.`, 'End one that is no longer used.')
      const token = `parapet_${randomBytes(32).toString('base64url')}`
      save([...entries, stamp({ name, role, created: new Date(nowMs()).toISOString(), sha256: sha256(token).toString('hex') })])
      return token
    },
    end(name) {
      const entry = entries.find((one) => one.name === name)
      if (entry === undefined) throw new GatewayError('UNKNOWN-TOKEN', 'There is no token of this name.')
      const rest = entries.filter((one) => one !== entry)
      if (!rest.some((one) => one.role === 'admin')) throw new GatewayError('TOKEN-LAST', 'This is the last admin token.', 'Make another admin token first.')
      save(rest)
    },
  }

  // The clear token goes to disk before the hash: a crash between the two leaves a first start to repeat, not a locked door.
  if (stored === undefined) {
    const token = `parapet_${randomBytes(32).toString('base64url')}`
    writePrivate(adminFile, `${token}\n`)
    save([stamp({ name: 'first-admin', role: 'admin', created: new Date(nowMs()).toISOString(), sha256: sha256(token).toString('hex') })])
  }
  return { ...tokens, first: stored === undefined, adminFile }
}

// ----------------------------------------------------------------------------------------------------------------------------

interface Stored extends TokenEntry {
  readonly sha256: string
  /** The digest as bytes; not enumerable, so that it stays out of the file. */
  readonly hash: Buffer
}

function stamp(entry: TokenEntry & { readonly sha256: string }): Stored {
  return Object.defineProperty({ ...entry }, 'hash', { value: Buffer.from(entry.sha256, 'hex'), enumerable: false }) as Stored
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function readTokens(file: string): readonly Stored[] | undefined {
  let text: string
  try {
    // [IEC 62443-4-2 CR 1.5] Permissions first: a file that others could write proves nothing about who is in it.
    if (process.platform !== 'win32' && (statSync(file).mode & 0o077) !== 0) {
      throw new GatewayError('TOKENS-MODE', `${file} can be read or written by others.`, `Run: chmod 600 ${file}, and make new tokens if somebody may have seen it.`)
    }
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  try {
    const { version, tokens } = JSON.parse(text) as { version?: unknown; tokens?: unknown }
    if (version === 1 && Array.isArray(tokens) && tokens.every(isEntry)) return tokens.map(stamp)
  } catch {
    // Not JSON: the same answer as JSON of another form.
  }
  throw new GatewayError('TOKENS-FORMAT', `${file} is not a token file.`, 'Restore it from a backup, or delete it: the next start makes a new admin token.')
}

function isEntry(value: unknown): value is TokenEntry & { readonly sha256: string } {
  if (typeof value !== 'object' || value === null) return false
  const { name, role, created, sha256: digest } = value as Record<string, unknown>
  return typeof name === 'string' && NAME.test(name) && typeof role === 'string' && Object.hasOwn(ROLES, role)
    && typeof created === 'string' && typeof digest === 'string' && /^[0-9a-f]{64}$/.test(digest)
}

/** Whole or not at all: written beside, synced, renamed. The mode is set when the file is made, so there is no moment when others can read it. */
function writePrivate(file: string, text: string): void {
  const beside = `${file}.new`
  rmSync(beside, { force: true })
  const handle = openSync(beside, 'wx', 0o600)
  try {
    writeSync(handle, text)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  renameSync(beside, file)
  if (process.platform === 'win32') return
  const folder = openSync(dirname(file), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
