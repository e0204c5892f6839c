/**
 * Damage of the outbox file (D3): one flipped bit, or the end cut off, at every 512 bytes. Whatever the damage, the outbox refuses to
 * open or says that it found damage, or everything in it leaves exactly as it was stored. Nothing leaves changed: no other payload, topic,
 * person, purpose or time, because all of them decide whether it may leave at all. And of a log that was torn while it was written,
 * what remains is a beginning of the commits.
 *
 *     node test/fault/damage.ts [FLIPS-A-BLOCK=16] [SEED]
 */
import { closeSync, cpSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { GatewayError } from '../../src/domain/errors.ts'
import type { MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { OutboxRecord, Outlet } from '../../src/domain/ports.ts'
import { openOutbox, type DurableOutbox } from '../../src/outlet/outbox.ts'
import { STORAGE_KEYS } from '../contract/keys.ts'
import { command } from './command.ts'
import { dice } from './depot.ts'

export interface DamageOptions {
  /** Bits flipped in each 512 bytes; 0 = one in every sixth. */
  readonly flips: number
  readonly seed: number
  readonly say?: (line: string) => void
}

export interface DamageResult {
  readonly bytes: number
  readonly flips: number
  readonly cuts: number
  /** What became of them: refused at the start, noticed while running, or without any effect. */
  readonly refused: number
  readonly noticed: number
  readonly harmless: number
  readonly altered: number
  readonly silentlyLost: number
  /** Logs cut at every 512 bytes, and commits that were left of them. */
  readonly logs: { readonly cuts: number; readonly fewest: number; readonly most: number }
  readonly violations: readonly string[]
}

const BLOCK = 512
const RECORDS = 240
const NOW = Date.UTC(2026, 10, 23, 9)

export async function damage({ flips, seed, say }: DamageOptions): Promise<DamageResult> {
  const random = dice(seed)
  const folder = mkdtempSync(join(tmpdir(), 'parapet-damage-'))
  const whole = join(folder, 'whole.db')
  const violations: string[] = []
  const tally = { flips: 0, cuts: 0, refused: 0, noticed: 0, harmless: 0, altered: 0, silentlyLost: 0 }
  try {
    const stored = await fill(whole)
    const bytes = readFileSync(whole)
    const blocks = Math.ceil(bytes.length / BLOCK)

    async function look(what: string, change: (file: string) => void): Promise<void> {
      const file = join(folder, 'copy.db')
      for (const name of [file, `${file}-wal`, `${file}-shm`]) rmSync(name, { force: true })
      cpSync(whole, file)
      change(file)
      const found = await readAll(file, stored)
      if (found.kind === 'refused') tally.refused++
      else if (found.kind === 'noticed') tally.noticed++
      else if (found.kind === 'harmless') tally.harmless++
      if (found.altered.length > 0) {
        tally.altered++
        violations.push(`${what}: left with another ${[...new Set(found.altered)].join(', ')}`)
      }
      if (found.lost > 0) {
        tally.silentlyLost++
        violations.push(`${what}: ${found.lost} records are gone without a word`)
      }
      if (found.fault !== undefined) violations.push(`${what}: ${found.fault}`)
    }

    await look('no damage', () => undefined)
    if (tally.harmless !== 1) throw new Error('the file is not read back whole')
    for (let block = 0; block < blocks; block++) {
      const many = flips === 0 ? Number(block % 6 === 0) : flips
      for (let n = 0; n < many; n++) {
        const at = Math.min(bytes.length - 1, block * BLOCK + Math.floor(random() * BLOCK))
        const bit = Math.floor(random() * 8)
        tally.flips++
        await look(`bit ${bit} of byte ${at} (page ${Math.floor(at / 8192) + 1})`, (file) => {
          const handle = openSync(file, 'r+')
          writeSync(handle, Buffer.from([bytes[at]! ^ (1 << bit)]), 0, 1, at)
          closeSync(handle)
        })
      }
      // Of nothing at all there is nothing to find out: an empty file is a new outbox.
      if (block > 0 && (flips > 0 || block % 12 === 5)) {
        tally.cuts++
        await look(`cut after ${block * BLOCK} bytes`, (file) => truncateSync(file, block * BLOCK))
      }
      if (block % 64 === 63) say?.(`${block + 1} of ${blocks} blocks: ${JSON.stringify(tally)}`)
    }
    const logs = await tornLogs(folder, flips === 0 ? 24 : 1, violations)
    return { bytes: bytes.length, ...tally, logs, violations: violations.slice(0, 100) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Every field that decides whether, where and until when a record leaves. */
const FIELDS = ['payload', 'payloadIfWithdrawn', 'topic', 'output', 'recipient', 'stream', 'machine', 'subjects', 'machineOrder', 'acquiredAtMs', 'expiresAtMs', 'purpose', 'basis', 'country', 'consentSeq', 'plan', 'qos', 'retain', 'storageClass'] as const

function shown(record: OutboxRecord, field: (typeof FIELDS)[number]): string {
  const value = record[field]
  return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : JSON.stringify(value ?? null)
}

function recordOf(n: number): OutboxRecord {
  const person = n % 5
  const id = Buffer.alloc(16)
  id.writeUInt32BE(n + 1, 4)
  return {
    id, output: (n % 3 === 0 ? 'planner' : 'service') as OutputId, recipient: (n % 3 === 0 ? 'site-planner' : 'oem-cloud') as RecipientId, stream: 'status' as StreamId, topic: `out/x/p-${person}`,
    qos: n % 7 === 0 ? 2 : 1, retain: false, machine: `SN-${person}` as MachineId, holder: undefined, subjects: [`op-${person}` as OperatorId], machineOrder: n + 1, acquiredAtMs: NOW + n, receivedAtMs: NOW + n,
    purpose: (n % 3 === 0 ? 'improve.statistics' : 'service.operate') as PurposeId, basis: n % 3 === 0 ? 'consent' : 'contract', country: 'FR', consentSeq: [person], policy: 'p', rulesHash: 'c0ffee', plan: `plan-${n % 3}`,
    keyId: 'k', storageClass: 'ordinary', expiresAtMs: NOW + 86_400_000 + n, payload: Buffer.from(`payload ${n} ${'x'.repeat(n % 40)}`),
    payloadIfWithdrawn: n % 3 === 0 ? null : n % 3 === 1 ? Buffer.from(`variant ${n}`) : undefined, categories: 3, via: ['local', 'cloud'],
  }
}

function open(file: string): DurableOutbox {
  return openOutbox({ file, keys: STORAGE_KEYS, clock: { now: () => NOW + 1_000, monotonic: () => performance.now() }, sweepMs: 0, retryMs: 5, probeMs: 60_000 })
}

async function fill(file: string): Promise<ReadonlyMap<string, OutboxRecord>> {
  const outbox = open(file)
  const stored = new Map<string, OutboxRecord>()
  for (let n = 0; n < RECORDS; n++) {
    const record = recordOf(n)
    stored.set(Buffer.from(record.id).toString('hex'), record)
    outbox.accept(record)
    if (n % 20 === 19) await new Promise<void>((done) => outbox.committed(() => done()))
  }
  outbox.sessions.save({ key: 'k', user: 'oem-cloud', recipient: 'oem-cloud' as RecipientId, filters: new Map([['out/x/+', 1]]) }, () => undefined)
  await outbox.close()
  return stored
}

interface Found {
  readonly kind: 'refused' | 'noticed' | 'harmless'
  readonly altered: readonly string[]
  readonly lost: number
  readonly fault?: string
}

/** Opens the file and lets everything leave. */
async function readAll(file: string, stored: ReadonlyMap<string, OutboxRecord>): Promise<Found> {
  let outbox: DurableOutbox
  try {
    outbox = open(file)
  } catch (error) {
    if (error instanceof GatewayError) return { kind: 'refused', altered: [], lost: 0 }
    return { kind: 'refused', altered: [], lost: 0, fault: `opening threw ${String(error)}` }
  }
  const altered: string[] = []
  const missing = new Map<string, Set<string>>()
  for (const name of ['local', 'cloud']) {
    missing.set(name, new Set(stored.keys()))
    const outlet: Outlet = {
      name,
      send(record, done) {
        const id = Buffer.from(record.id).toString('hex')
        const original = stored.get(id)
        if (original === undefined) altered.push('id')
        else for (const field of FIELDS) if (shown(record, field) !== shown(original, field)) altered.push(field)
        if (missing.get(name)?.delete(id) === false && original !== undefined) altered.push('number: sent twice')
        done(undefined)
      },
      cut: () => Promise.resolve({ dropped: 0, onTheWire: 0 }),
      close: () => Promise.resolve(),
    }
    try {
      outbox.attach(outlet)
    } catch (error) {
      return { kind: 'noticed', altered, lost: 0, ...(error instanceof GatewayError ? {} : { fault: `attaching threw ${String(error)}` }) }
    }
  }
  // Until nothing moves any more.
  let still = 0
  for (let last = -1; still < 6;) {
    await new Promise((done) => void setImmediate(done))
    const left = [...missing.values()].reduce((sum, { size }) => sum + size, 0)
    still = left === last ? still + 1 : 0
    last = left
  }
  const isNoticed = !outbox.healthy || outbox.stats.damaged > 0
  let fault: string | undefined
  await outbox.close().catch((error: unknown) => { fault = `closing threw ${String(error)}` })
  // What damage made look like a record under a legal hold does not leave, and is still there.
  const held = isNoticed ? new Set<string>() : heldIn(file)
  const gone = [...missing.values()].reduce((sum, ids) => sum + [...ids].filter((id) => !held.has(id)).length, 0)
  return { kind: isNoticed ? 'noticed' : 'harmless', altered, lost: isNoticed ? 0 : gone, ...(fault === undefined ? {} : { fault }) }
}

function heldIn(file: string): Set<string> {
  const db = new DatabaseSync(file)
  const ids = db.prepare('SELECT id FROM records WHERE state = 1').all().map((row) => Buffer.from(row['id'] as Uint8Array).toString('hex'))
  db.close()
  return new Set(ids)
}

/** A copy of file and log, taken while the outbox works, cut at every 512 bytes of the log: as a power cut leaves it. */
async function tornLogs(folder: string, step: number, violations: string[]): Promise<DamageResult['logs']> {
  const file = join(folder, 'busy.db')
  const outbox = open(file)
  const ids: string[] = []
  for (let group = 0; group < 12; group++) {
    for (let n = 0; n < 5; n++) {
      const record = recordOf(group * 5 + n)
      ids.push(Buffer.from(record.id).toString('hex'))
      outbox.accept(record)
    }
    await new Promise<void>((done) => outbox.committed(() => done()))
  }
  const [db, log] = [readFileSync(file), readFileSync(`${file}-wal`)]
  await outbox.close()
  const torn = join(folder, 'torn.db')
  let [cuts, fewest, most] = [0, Infinity, 0]
  for (let length = 0; length <= log.length; length = length === log.length ? length + 1 : Math.min(length + BLOCK * step, log.length)) {
    writeFileSync(torn, db)
    writeFileSync(`${torn}-wal`, log.subarray(0, length))
    cuts++
    let reopened: DurableOutbox
    try {
      reopened = open(torn)
    } catch (error) {
      violations.push(`a log cut after ${length} bytes cannot be opened: ${String(error)}`)
      continue
    }
    const sent: string[] = []
    reopened.attach({ name: 'cloud', send: (record, done) => { sent.push(Buffer.from(record.id).toString('hex')); done(undefined) }, cut: () => Promise.resolve({ dropped: 0, onTheWire: 0 }), close: () => Promise.resolve() })
    for (let turn = 0; turn < 8; turn++) await new Promise((done) => void setImmediate(done))
    if (sent.length % 5 !== 0 || sent.some((id, n) => id !== ids[n])) violations.push(`a log cut after ${length} bytes gives ${sent.length} records that are no beginning of the commits`)
    fewest = Math.min(fewest, sent.length / 5)
    most = Math.max(most, sent.length / 5)
    await reopened.close()
    for (const name of [torn, `${torn}-wal`]) if (existsSync(name)) rmSync(name)
  }
  if (most !== 12) violations.push(`of a whole log only ${most} of 12 commits are read`)
  return { cuts, fewest, most }
}

if (import.meta.main) {
  const [flips = '16', seed = String(Math.floor(Math.random() * 2 ** 31))] = process.argv.slice(2)
  await command('damage', Number(seed), (say) => damage({ flips: Number(flips), seed: Number(seed), say }))
}
