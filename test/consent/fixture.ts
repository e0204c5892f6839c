/** A data folder of its own, a clock that the test moves, and rules with a few purposes. All people are invented. */
import { createHash } from 'node:crypto'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { openBooks, type Books, type BooksOptions } from '../../src/consent/books.ts'
import { rootKeyOf, type RootKey } from '../../src/consent/root.ts'
import type { FleetId, MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { Output, Policy } from '../../src/domain/policy.ts'
import type { Clock, ConsentChange, Machine } from '../../src/domain/ports.ts'

export const ROOT: RootKey = rootKeyOf(createHash('sha256').update('root key of the consent tests').digest())
/** 2026-11-23 06:00 UTC. */
export const MORNING = Date.UTC(2026, 10, 23, 6)
export const MINUTE = 60_000
export const HOUR = 3_600_000
export const DAY = 86_400_000

export interface TestClock extends Clock {
  ms: number
}

export function clockAt(ms = MORNING): TestClock {
  return { ms, now() { return this.ms }, monotonic() { return this.ms } }
}

export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'parapet-consent-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A copy of a data folder, as a backup would be. */
export function copyOf(path: string): string {
  const copy = folder()
  cpSync(path, copy, { recursive: true })
  return copy
}

export function open(path: string, clock: Clock, more: Partial<BooksOptions> = {}): Books {
  const books = openBooks({ folder: path, root: ROOT, tenant: 'demo', gateway: 'depot-7', clock, ...more })
  onTestFinished(() => books.close())
  return books
}

/** Everything in a folder's files, by name. */
export function bytesOf(path: string): Map<string, Buffer> {
  return new Map(readdirSync(path).map((name) => [name, readFileSync(join(path, name))]))
}

export const op = (id: string): OperatorId => id as OperatorId
export const purpose = (id: string): PurposeId => id as PurposeId

export function machine(id: string, operatorCollection: Machine['operatorCollection'] = 'on'): Machine {
  return {
    id: id as MachineId, fleet: 'north' as FleetId, model: 'GS-1932', labels: {}, country: 'DE', operatorCollection,
    holder: undefined, credential: undefined, certificate: undefined,
  }
}

/** The people of the tests: Ada, Ben and Cem each have a card; the depot's code is shared, the technician's is for service. */
export function register(books: Books): void {
  books.identities.load([
    { id: op('op-ada'), kind: 'personal', country: 'DE', validFromMs: undefined, validToMs: undefined, cards: ['CARD-1111'] },
    { id: op('op-ben'), kind: 'personal', country: 'FR', validFromMs: undefined, validToMs: undefined, cards: ['CARD-2222', 'PIN-77'] },
    { id: op('op-cem'), kind: 'personal', country: undefined, validFromMs: undefined, validToMs: undefined, cards: ['CARD-3333'] },
    { id: op('op-depot'), kind: 'shared', country: undefined, validFromMs: undefined, validToMs: undefined, cards: ['0000'] },
    { id: op('op-service'), kind: 'service', country: undefined, validFromMs: undefined, validToMs: undefined, cards: ['MASTER-9'] },
  ])
}

export interface PolicyShape {
  readonly id?: string
  readonly purposes?: readonly string[]
  /** recipient -> region, for one output per recipient and purpose. */
  readonly recipients?: Readonly<Record<string, string>>
  readonly keepsMs?: number
}

export function policy(shape: PolicyShape = {}): Policy {
  const purposes = (shape.purposes ?? ['service.operate', 'improve.statistics', 'personalise']).map((id, index) => ({ id: purpose(id), index, about: id, clause: 'P14', dpv: undefined }))
  const outputs = Object.entries(shape.recipients ?? { 'oem-cloud': 'EU' }).flatMap(([id, region], r) => purposes.map((purpose, p): Output => ({
    id: `${id}-${p}` as OutputId, index: r * purposes.length + p,
    recipient: { id: id as RecipientId, role: 'controller', group: undefined, region, onSite: false, transfers: new Map(), privacyContact: undefined },
    purpose, basis: undefined, to: { topic: 'out/x', qos: 1, via: ['local'], sendWithinMs: undefined, retain: false }, reach: 'any',
    recipientKeepsMs: shape.keepsMs, arrivalVisible: false, despiteDeviceSetting: undefined,
    streams: [{
      stream: { id: 'status' as StreamId } as Output['streams'][number]['stream'], when: undefined, require: [], emit: undefined,
      fields: [{
        path: 'position', target: { kind: 'field', fields: [] }, pair: false, line: 1,
        consent: { kind: 'chain', chain: [{ name: 'grid', params: { size: 500 } }] }, noConsent: { kind: 'chain', chain: [] },
      }],
    }],
  })))
  return {
    id: shape.id ?? 'awp-2026-11', effective: undefined, notice: undefined, streams: [],
    subject: { sessions: undefined, sessionMaxMs: 12 * HOUR, quarantineMs: 2 * MINUTE, lateLimitMs: 7 * DAY },
    purposes, basis: { entries: new Map(), groups: new Map() }, recipients: [], outputs, tests: [],
    hash: createHash('sha256').update(JSON.stringify(shape)).digest('hex'),
  }
}

export function says(operator: string, about: string, state: ConsentChange['state'], more: Partial<ConsentChange> = {}): ConsentChange {
  return {
    operator: op(operator), purpose: purpose(about), state, source: 'portal', by: 'desk', evidence: undefined, language: 'de',
    expiresAtMs: undefined, machine: undefined, ...more,
  }
}
