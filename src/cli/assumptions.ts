/**
 * What a command assumes that a gateway would know: who is signed on, what they said, which machine it is, which keys there are.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { suggestion } from '../config/nearest.ts'
import { placeHint, readPlace } from '../config/places.ts'
import { nobody, type ConsentState, type Decision } from '../domain/consent.ts'
import { GatewayError } from '../domain/errors.ts'
import type { Policy } from '../domain/policy.ts'
import type { Machine } from '../domain/ports.ts'
import type { Facts } from '../minimise/probe.ts'
import type { PseudonymKeys } from '../minimise/pseudonym.ts'
import { decisionFor, machineOf, offlineKeys, offlineSession } from '../rehearsal.ts'
import type { Args, Io, Option } from './command.ts'
import { UsageError } from './command.ts'

export const ASSUMPTION_OPTIONS: readonly Option[] = [
  { name: 'consent', arg: 'P,…', text: 'purposes the operator said yes to, or none (default)' },
  { name: 'refused', arg: 'P,…', text: 'purposes the operator refused, withdrew or objected to' },
  { name: 'no-notice', text: 'the operator was not given the notice' },
  { name: 'country', arg: 'CC', text: 'where the machine works, ISO 3166: FR, US-CA; unknown when left out' },
  { name: 'operator', arg: 'ID', text: 'who is signed on, whatever the message says; none = nobody known' },
  { name: 'operator-country', arg: 'CC', text: 'country of the operator; the stricter of both counts' },
  { name: 'operator-collection', arg: 'ON', text: 'the device setting, on by default', choices: ['on', 'off'] },
  { name: 'machine', arg: 'ID', text: 'the machine; without it the one that the message names' },
  { name: 'fleet', arg: 'F', text: 'its fleet, for conditions' },
  { name: 'model', arg: 'M', text: 'its model, for conditions' },
  { name: 'label', arg: 'NAME=TEXT', text: 'one of its labels, for conditions', many: true },
  { name: 'now', arg: 'TIME', text: 'when the messages arrive, RFC 3339; without it each arrives when it was made' },
]

export const KEY_OPTIONS: readonly Option[] = [
  { name: 'keys', arg: 'FILE', text: 'root key: 32 bytes, or one line of hex or base64url; without it a published test key' },
  { name: 'rows', arg: 'FILE', text: 'JSON object of subject rows, {"machine:SN-1": "<64 hex>"}; without it rows are derived from the root key' },
  { name: 'tenant', arg: 'T', text: 'tenant of the gateway, default demo' },
]

export const ASSUMPTION_NOTES = [
  'A known, signed-on operator who was given the notice is assumed, also where the message names nobody: the one it names, or --operator.',
  'Nothing is consented to unless --consent says so.',
  'The published test key is 000102…1f; what is made under it protects nobody.',
].join('\n')

export interface Assumptions {
  /** What is assumed for a message with these facts. Both objects are reused while nothing changes. */
  of(facts: Facts): { readonly machine: Machine; readonly decision: Decision; readonly receivedAtMs: number }
}

/** @throws UsageError for names and codes that do not exist */
export function readAssumptions(args: Args, policy: Policy, keys: PseudonymKeys): Assumptions {
  const consent = new Map<string, ConsentState>()
  for (const purpose of purposes(args, 'consent', policy)) consent.set(purpose, 'granted')
  for (const purpose of purposes(args, 'refused', policy)) {
    if (consent.has(purpose)) throw new UsageError(`"${purpose}" cannot be both in --consent and in --refused.`)
    consent.set(purpose, 'refused')
  }
  const named = args.get('operator')
  const person = { consent, notice: !args.has('no-notice'), country: countryIn(args, 'operator-country') }
  const machineText = {
    fleet: args.get('fleet'), model: args.get('model'), labels: labels(args), country: countryIn(args, 'country'),
    operatorCollection: args.get('operator-collection') === 'off' ? 'off' as const : 'on' as const,
  }
  const now = timeIn(args)
  let machine: Machine | undefined
  let decision: Decision | undefined
  let who: string | undefined

  return {
    of(facts) {
      const id = args.get('machine') ?? (facts.machine === '' ? 'machine' : facts.machine)
      if (machine?.id !== id) machine = machineOf({ id, ...machineText })
      const operator = named === 'none' ? undefined : (named ?? (facts.operator === '' ? 'operator' : facts.operator))
      if (decision === undefined || who !== operator) {
        // [P7] With the device setting off nobody is known, whoever is there.
        decision = machineText.operatorCollection === 'off' ? nobody() : decisionFor(policy, { operator, ...person, session: operator === undefined ? '' : offlineSession(keys, operator) })
        who = operator
      }
      return { machine, decision, receivedAtMs: now ?? (Number.isNaN(facts.eventMs) ? Date.now() : facts.eventMs) }
    },
  }
}

function purposes(args: Args, option: string, policy: Policy): string[] {
  const text = args.get(option)
  if (text === undefined || text === 'none' || text === '') return []
  const ids: readonly string[] = policy.purposes.map((purpose) => purpose.id)
  return text.split(',').map((part) => part.trim()).map((id) => {
    if (!ids.includes(id)) throw new UsageError(`The rules have no purpose "${id}". ${suggestion(id, ids)}`)
    return id
  })
}

function countryIn(args: Args, option: string): string | undefined {
  const text = args.get(option)
  if (text === undefined) return undefined
  const place = readPlace(text)
  if (place === undefined) throw new UsageError(`--${option} "${text}" is no ISO 3166 code. ${placeHint(text) ?? 'Write FR, or US-CA.'}`)
  return place
}

function labels(args: Args): Record<string, string> {
  return Object.fromEntries(args.all('label').map((label) => {
    const at = label.indexOf('=')
    if (at < 1) throw new UsageError('--label is written NAME=TEXT.')
    return [label.slice(0, at), label.slice(at + 1)]
  }))
}

function timeIn(args: Args): number | undefined {
  const text = args.get('now')
  if (text === undefined) return undefined
  const ms = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms)) throw new UsageError('--now is a time such as 2026-11-23T08:00:00Z.')
  return ms
}

// ------------------------------------------------------------------------------------------------------------------ keys

/**
 * The keys that a command was given. Weak keys and any file mode are accepted: nothing is protected here.
 * @throws GatewayError KEY-FILE, ROWS-FILE
 */
export function readKeys(args: Args, io: Io): PseudonymKeys {
  const [keys, rows] = [args.get('keys'), args.get('rows')]
  return offlineKeys({
    root: keys === undefined ? undefined : rootIn(readFile(io, keys, 'KEY-FILE'), keys),
    rows: rows === undefined ? undefined : rowsIn(readFile(io, rows, 'ROWS-FILE').toString('utf8'), rows),
    tenant: args.get('tenant'),
  })
}

function readFile(io: Io, file: string, code: string): Buffer {
  try {
    return readFileSync(resolve(io.cwd, file))
  } catch {
    throw new GatewayError(code, `The file ${file} cannot be read.`)
  }
}

function rootIn(bytes: Buffer, file: string): Uint8Array {
  if (bytes.length === 32) return bytes
  const lines = bytes.toString('latin1').split('\n').map((one) => one.replace(/#.*/, '').trim()).filter((one) => one !== '')
  // A gateway's file says which key is of pseudonyms once there is more than one; until then the first is.
  const line = (lines.find((one) => one.startsWith('pseudonym')) ?? lines[0] ?? '').replace(/^(storage|pseudonym)\s+/, '')
  if (/^[0-9a-fA-F]{64}$/.test(line)) return Buffer.from(line, 'hex')
  if (/^[A-Za-z0-9_-]{43}=?$/.test(line)) return Buffer.from(line, 'base64url')
  throw new GatewayError('KEY-FILE', `The file ${file} holds no root key.`, 'It is 32 bytes, or one line of 64 hex digits or 43 characters base64url.')
}

function rowsIn(text: string, file: string): ReadonlyMap<string, Uint8Array> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    json = undefined
  }
  const mend = 'Write {"machine:SN-1": "<64 hex digits>"}, with machine, operator or customer before the colon and the value of the field behind it.'
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new GatewayError('ROWS-FILE', `The file ${file} is no JSON object.`, mend)
  return new Map(Object.entries(json).map(([subject, row], index) => {
    if (!/^(machine|operator|customer):[^]/.test(subject) || typeof row !== 'string' || !/^[0-9a-fA-F]{64}$/.test(row)) throw new GatewayError('ROWS-FILE', `Entry ${index + 1} of ${file} is no row.`, mend)
    return [subject, Buffer.from(row, 'hex')]
  }))
}
