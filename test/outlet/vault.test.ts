/**
 * Encryption at rest: nothing that an outbox stores can be read or changed without the root key, what an earlier version left in clear is
 * encrypted, and a wrong key loses nothing. The form of the bytes is checked against Node's own AES in counter mode and its HMAC.
 */
import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { rootKeyOf } from '../../src/consent/root.ts'
import { storageKeys } from '../../src/consent/storage.ts'
import { UndeliverableError } from '../../src/domain/errors.ts'
import type { MachineId, OperatorId, RecipientId } from '../../src/domain/ids.ts'
import type { OutboxRecord, StorageKeys } from '../../src/domain/ports.ts'
import { openOutbox, type DurableOutbox, type OutboxOptions } from '../../src/outlet/outbox.ts'
import { Content, Vault } from '../../src/outlet/vault.ts'
import { STORAGE_KEYS, STORAGE_ROOT } from '../contract/keys.ts'
import { NOW, record, TestOutlet, text, turns } from '../contract/records.ts'

let folder: string
let file: string
let opened: DurableOutbox[]
let nowMs: number

function open(options: Partial<OutboxOptions> = {}): DurableOutbox {
  const outbox = openOutbox({ file, clock: { now: () => nowMs, monotonic: () => nowMs }, keys: STORAGE_KEYS, sweepMs: 0, retryMs: 1, ...options })
  opened.push(outbox)
  return outbox
}

/** As a file of the version before this one has it: nothing is encrypted, and it knows of no keys. */
function openInClear(): DurableOutbox {
  const { file, clock } = { file: join(folder, 'outbox.db'), clock: { now: () => nowMs, monotonic: () => nowMs } }
  const outbox = openOutbox({ file, clock, sweepMs: 0, retryMs: 1 })
  opened.push(outbox)
  return outbox
}

const committed = (outbox: DurableOutbox): Promise<Error | undefined> => new Promise((resolve) => outbox.committed(resolve))
const onDisk = (): string => readdirSync(folder).map((name) => readFileSync(join(folder, name)).toString('latin1')).join('')

async function close(outbox: DurableOutbox): Promise<void> {
  await outbox.close()
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-vault-'))
  file = join(folder, 'outbox.db')
  opened = []
  nowMs = NOW
})

afterEach(async () => {
  for (const outbox of opened) await outbox.close()
  rmSync(folder, { recursive: true })
})

test('keys as a former root key wrapped them are nowhere in the folder soon after the next start', async () => {
  const wrapped = (): string[] => {
    const db = new DatabaseSync(file)
    const found = db.prepare('SELECT wrapped FROM seals').all().map((row) => Buffer.from(row['wrapped'] as Uint8Array).toString('latin1'))
    db.close()
    return found
  }
  const before = open()
  before.accept(record({ payload: 'waits' }))
  await committed(before)
  await close(before)
  const old = wrapped()
  expect(old.every((one) => onDisk().includes(one))).toBe(true)
  open({ keys: storageKeys(rootKeyOf(createHash('sha256').update('the next root key').digest(), [STORAGE_ROOT]), 'demo'), sweepMs: 20 })
  await new Promise((resolve) => void setTimeout(resolve, 100))
  expect(old.filter((one) => onDisk().includes(one))).toEqual([])
})

/** Random, so that no word of the program can be one of them. */
const marks = (prefix: string): { readonly all: Set<string>; next(): string } => {
  const all = new Set<string>()
  let n = 0
  return { all, next: () => { const mark = `${prefix}${createHash('sha256').update(`${prefix}${Math.random()}${n++}`).digest('hex').slice(0, 20)}`; all.add(mark); return mark } }
}

/** One record in every place in which an outbox keeps any, all of them marked. */
async function fillEverywhere(outbox: DurableOutbox, mark: () => string): Promise<void> {
  const marked = (of: Parameters<typeof record>[0] = {}): OutboxRecord => record({
    payload: mark(), variant: mark(), machine: mark() as MachineId, subjects: [mark() as OperatorId], topic: `out/x/${mark()}`, holder: mark(), ...of,
  })
  const refusing = new TestOutlet('refusing')
  outbox.attach(refusing)
  for (let n = 0; n < 20; n++) outbox.accept(marked())
  outbox.accept(marked({ via: ['refusing'] }))
  outbox.accept(marked({ retain: true, via: ['cloud', 'refusing'] }))
  for (const state of [0, 1]) {
    outbox.accept({ ...marked(), untilMs: NOW + 60_000, slot: { key: `planner|status|${mark()}|60000`, window: state, everyMs: 60_000, mark: mark() } })
  }
  outbox.accept({ ...marked(), slot: { key: `planner|status|${mark()}|60000`, window: 3, everyMs: 60_000, mark: mark() } })
  outbox.sessions.save({ key: 'reader', user: 'oem-cloud', recipient: 'oem-cloud' as RecipientId, filters: new Map([['out/x/+', 1]]) }, () => undefined)
  outbox.sessions.put('reader', { place: 1, record: marked(), qos: 1, messageId: undefined, released: false })
  outbox.sessions.retain(marked({ retain: true }))
  await committed(outbox)
  for (const { done } of refusing.open.splice(0)) done(new UndeliverableError('0x99'))
  await turns()
  nowMs += 1
  outbox.accept(marked())
  await committed(outbox)
  await turns()
}

describe('nothing lies in clear', () => {
  test('of what waits, is kept for a window or a session, is retained here or elsewhere, or was refused: in no file, before and after checkpoint and VACUUM', async () => {
    const { all, next } = marks('')
    const outbox = open()
    await fillEverywhere(outbox, next)
    expect(outbox.stats.dead).toBeGreaterThan(0)
    expect(all.size).toBeGreaterThan(150)
    const found = (): string[] => { const bytes = onDisk(); return [...all].filter((mark) => bytes.includes(mark)) }
    expect(found()).toEqual([])
    await close(outbox)
    expect(found()).toEqual([])
    const db = new DatabaseSync(file)
    for (const table of ['records', 'waiting', 'kept', 'windows', 'envelopes', 'retained_away']) expect(db.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n'], table).toBeGreaterThan(0)
    db.exec('VACUUM; PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()
    expect(found()).toEqual([])
  })

  test('and the same marks are found when nothing is encrypted', async () => {
    const { all, next } = marks('')
    const outbox = openInClear()
    await fillEverywhere(outbox, next)
    const bytes = onDisk()
    expect([...all].filter((mark) => !bytes.includes(mark))).toEqual([])
  })

  test('a name stands for the same tag in one file, and for another in another file', async () => {
    const tags = new Set<string>()
    for (const name of ['one.db', 'two.db']) {
      file = join(folder, name)
      const outbox = open()
      outbox.accept(record({ machine: 'SN-1' as MachineId, topic: 'a' }))
      outbox.accept(record({ machine: 'SN-1' as MachineId, topic: 'b' }))
      await committed(outbox)
      await close(outbox)
      const db = new DatabaseSync(file)
      const seen = db.prepare('SELECT DISTINCT machine FROM envelopes').all().map((row) => String(row['machine']))
      db.close()
      expect(seen).toHaveLength(1)
      tags.add(seen[0]!)
    }
    expect(tags.size).toBe(2)
  })
})

describe('what is stored', () => {
  test.each([0, 1, 60, 5_000])('is authenticated by HMAC-SHA-256 as Node computes it: a text of %i letters', (length) => {
    const db = new DatabaseSync(':memory:')
    const vault = new Vault(db, STORAGE_KEYS)
    vault.sealValue(Content.window, 'before')
    const sealed = Buffer.from(vault.sealValue(Content.kept, 'x'.repeat(length))!)
    const { wrapped } = db.prepare('SELECT wrapped FROM seals WHERE number = ?').get(vault.sealed) as { wrapped: Uint8Array }
    const secret = STORAGE_KEYS.unwrap(STORAGE_KEYS.id, wrapped, `outbox ${vault.sealed}`)!
    const key = Buffer.from(hkdfSync('sha256', secret, '', 'parapet/v1|at-rest|tag', 32))
    const [ciphertext, place, tag] = [sealed.subarray(0, -22), sealed.readUIntBE(sealed.length - 22, 6), sealed.subarray(-16)]
    const said = Buffer.concat([Buffer.from(Float64Array.of(ciphertext.length, Content.kept, 0, 0, 0, 0, 0, place).buffer), Buffer.alloc(16), ciphertext])
    expect(createHmac('sha256', key).update(said).digest().subarray(0, 16).toString('hex')).toBe(tag.toString('hex'))
    expect(vault.openValue(Content.kept, vault.sealed, sealed)).toBe('x'.repeat(length))
    db.close()
  })

  test('opens with nothing but HKDF and AES in counter mode, at every length', async () => {
    const sizes = [0, 1, 3, 15, 16, 17, 200, 4_095, 8_192, 8_193, 65_536, 70_001, 5]
    const outbox = open()
    const payloads = sizes.map((size, n) => Buffer.alloc(size, n + 1))
    for (const payload of payloads) outbox.accept({ ...record(), payload })
    await committed(outbox)
    await close(outbox)
    const db = new DatabaseSync(file)
    const secrets = new Map(db.prepare('SELECT number, key_id, wrapped FROM seals').all().map((row) => [Number(row['number']), STORAGE_KEYS.unwrap(String(row['key_id']), row['wrapped'] as Uint8Array, `outbox ${String(row['number'])}`)!]))
    const places = new Set<string>()
    for (const [n, row] of db.prepare('SELECT payload, sealed FROM records ORDER BY seq').all().entries()) {
      const stored = row['payload'] as Uint8Array
      const counter = Buffer.alloc(16)
      counter.set(stored.subarray(-22, -16), 10)
      places.add(counter.toString('hex'))
      const key = Buffer.from(hkdfSync('sha256', secrets.get(Number(row['sealed']))!, '', 'parapet/v1|at-rest|cipher', 32))
      expect(createDecipheriv('aes-256-ctr', key, counter).update(stored.subarray(0, -22)).equals(payloads[n]!), `${sizes[n]} bytes`).toBe(true)
    }
    db.close()
    // An empty payload uses nothing of the key stream; of the others no two share a place.
    expect(places.size).toBeGreaterThanOrEqual(sizes.length - 1)
    const cloud = new TestOutlet('cloud', true)
    open().attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(payloads.map((payload) => text(payload)))
  })

  test('uses another key after every start, and forgets those that nothing refers to', async () => {
    const numbers = (): number[] => {
      const db = new DatabaseSync(file)
      const found = db.prepare('SELECT number FROM seals ORDER BY number').all().map((row) => Number(row['number']))
      db.close()
      return found
    }
    for (let start = 0; start < 3; start++) await close(open())
    expect(numbers()).toEqual([1, 4])
    const outbox = open()
    outbox.accept(record({ payload: 'kept by the fifth' }))
    await committed(outbox)
    await close(outbox)
    await close(open())
    await close(open())
    expect(numbers()).toEqual([1, 5, 7])
    const cloud = new TestOutlet('cloud', true)
    open().attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['kept by the fifth'])
  })

  test('any changed byte of a sealed payload, of what decides about it or of its envelope keeps the record, and its neighbours leave', async () => {
    const outbox = open()
    for (let n = 0; n < 4; n++) outbox.accept(record({ payload: `message ${n}`, variant: `less ${n}`, machine: `SN-${n}` as MachineId, subjects: [`op-${n}` as OperatorId], consentSeq: [n] }))
    await committed(outbox)
    await close(outbox)
    const original = `${file}.whole`
    cpSync(file, original)
    const one = 'WHERE seq = (SELECT min(seq) FROM records)'
    const other = '(SELECT max(seq) FROM records)'
    const changes: readonly (readonly [string, string])[] = [
      ['payload, first byte', `UPDATE records SET payload = flipped(payload, 0) ${one}`],
      ['payload, place in the key stream', `UPDATE records SET payload = flipped(payload, length(payload) - 17) ${one}`],
      ['payload, tag', `UPDATE records SET payload = flipped(payload, length(payload) - 1) ${one}`],
      ['payload of another', `UPDATE records SET payload = (SELECT payload FROM records WHERE seq = ${other}) ${one}`],
      ['variant of another', `UPDATE records SET payload_if_withdrawn = (SELECT payload_if_withdrawn FROM records WHERE seq = ${other}) ${one}`],
      ['variant in the place of the payload', `UPDATE records SET payload = payload_if_withdrawn ${one}`],
      ['no variant', `UPDATE records SET on_withdrawal = 0, payload_if_withdrawn = NULL ${one}`],
      ['expiry', `UPDATE records SET expires_ms = ${NOW * 2} ${one}`],
      ['time', `UPDATE records SET acquired_ms = acquired_ms + 1 ${one}`],
      ['order', `UPDATE records SET machine_order = machine_order + 1 ${one}`],
      ['id', `UPDATE records SET id = randomblob(16) ${one}`],
      ['the envelope of somebody else', `UPDATE records SET envelope = (SELECT max(envelope) FROM envelopes) ${one}`],
      ['its envelope has the body of another', 'UPDATE envelopes SET body = (SELECT body FROM envelopes ORDER BY envelope DESC LIMIT 1) WHERE envelope = (SELECT min(envelope) FROM envelopes)'],
      ['its envelope is found under another machine', "UPDATE envelopes SET machine = 'x' WHERE envelope = (SELECT min(envelope) FROM envelopes)"],
      ['its envelope is found under another purpose', "UPDATE envelopes SET purpose = 'x' WHERE envelope = (SELECT min(envelope) FROM envelopes)"],
      ['said to be in clear', `UPDATE records SET sealed = 0 ${one}`],
      ['said to be under another key', `UPDATE records SET sealed = 99 ${one}`],
      ['too short to be sealed', `UPDATE records SET payload = x'00' ${one}`],
    ]
    for (const [what, change] of changes) {
      cpSync(original, file)
      const db = new DatabaseSync(file)
      db.function('flipped', (bytes, at) => Uint8Array.from(bytes as Uint8Array, (byte, n) => (n === at ? byte ^ 1 : byte)))
      expect(db.prepare(change).run().changes, what).toBe(1)
      db.close()
      const again = open()
      const cloud = new TestOutlet('cloud', true)
      again.attach(cloud)
      await turns()
      expect(cloud.payloads, what).toEqual(['message 1', 'message 2', 'message 3'])
      expect(again.stats.damaged, what).toBeGreaterThan(0)
      await close(again)
    }
  })

  test('any bytes, over any number of starts, come back as they were', async () => {
    const seed = Number(process.env['PARAPET_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
    const numRuns = Number(process.env['PARAPET_RUNS'] ?? 10)
    await fc.assert(fc.asyncProperty(fc.array(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 }), { minLength: 1, maxLength: 4 }), async (starts) => {
      const at = mkdtempSync(join(tmpdir(), 'parapet-vault-'))
      file = join(at, 'outbox.db')
      for (const payloads of starts) {
        const outbox = open()
        for (const payload of payloads) outbox.accept({ ...record(), payload })
        await committed(outbox)
        await close(outbox)
      }
      const got: string[] = []
      const last = open()
      last.attach({ name: 'cloud', send: (one, done) => { got.push(Buffer.from(one.payload).toString('hex')); done(undefined) }, cut: () => Promise.resolve({ dropped: 0, onTheWire: 0 }), close: () => Promise.resolve() })
      for (let n = 0; n < 4; n++) await turns()
      await close(last)
      rmSync(at, { recursive: true })
      expect(got).toEqual(starts.flat().map((payload) => Buffer.from(payload).toString('hex')))
    }), { seed, numRuns })
    file = join(folder, 'outbox.db')
  })
})

describe('keys', () => {
  const next = rootKeyOf(createHash('sha256').update('the next root key of the outbox tests').digest(), [STORAGE_ROOT])
  const foreign = storageKeys(rootKeyOf(createHash('sha256').update('somebody else').digest()), 'demo')
  const wrong: readonly (readonly [string, StorageKeys | undefined, RegExp])[] = [
    ['another root key', foreign, new RegExp(`needs the root key ${STORAGE_ROOT.id}, and root.key holds ${foreign.id}`)],
    ['another tenant', storageKeys(STORAGE_ROOT, 'other'), /of another tenant/],
    ['none at all', undefined, /there is no key/],
  ]
  test.each(wrong)('%s: a clear error, and nothing is lost', async (_, keys, words) => {
    const outbox = open()
    outbox.accept(record({ payload: 'still there' }))
    await committed(outbox)
    await close(outbox)
    const refuse = (): DurableOutbox => openOutbox({ file, ...(keys === undefined ? {} : { keys }), sweepMs: 0 })
    expect(refuse).toThrow(words)
    expect(refuse).toThrow(expect.objectContaining({ code: 'OUTBOX-KEY' }))
    const cloud = new TestOutlet('cloud', true)
    open().attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['still there'])
  })

  test('a new root key: everything opens, and afterwards without the former one', async () => {
    const outbox = open()
    outbox.accept(record({ payload: 'from before' }))
    await committed(outbox)
    await close(outbox)
    await close(open({ keys: storageKeys(next, 'demo') }))
    const db = new DatabaseSync(file)
    expect(db.prepare('SELECT DISTINCT key_id FROM seals').all()).toEqual([{ key_id: next.id }])
    db.close()
    const cloud = new TestOutlet('cloud', true)
    const alone = open({ keys: storageKeys(rootKeyOf(createHash('sha256').update('the next root key of the outbox tests').digest()), 'demo') })
    alone.attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['from before'])
    await close(alone)
    expect(() => openOutbox({ file, keys: STORAGE_KEYS })).toThrow(expect.objectContaining({ code: 'OUTBOX-KEY' }))
  })
})

describe('a file in which nothing is encrypted yet', () => {
  test('is read, and then nothing of it lies in clear any more', async () => {
    const { all, next } = marks('')
    const before = openInClear()
    await fillEverywhere(before, next)
    const dead = before.deadLetters()
    const depth = before.depth
    await close(before)
    expect(onDisk()).toContain([...all][0])

    const after = open()
    expect(after.depth).toBe(depth)
    expect(after.deadLetters()).toEqual(dead)
    expect(after.bytes).toBe(before.bytes)
    const bytesBefore = after.bytes
    const machines = after.machinesWithSubjects()
    expect(machines.every((machine) => all.has(machine))).toBe(true)
    // What the sweep of a running gateway does.
    await close(after)
    const swept = open({ sweepMs: 5 })
    const found = (): string[] => { const bytes = onDisk(); return [...all].filter((mark) => bytes.includes(mark)) }
    for (let n = 0; n < 200 && found().length > 0; n++) await new Promise((done) => void setTimeout(done, 10))
    expect(found()).toEqual([])
    expect(swept.bytes).toBe(bytesBefore)
    expect(swept.stats.damaged).toBe(0)
    expect(swept.deadLetters()).toEqual(dead)
    const [session] = swept.sessions.sessions()
    expect(session?.waiting.map(({ record: one }) => all.has(text(one.payload)))).toEqual([true])
    expect(swept.sessions.retained().map((one) => all.has(text(one.payload)) && all.has(one.topic.slice('out/x/'.length)))).toEqual([true])
    const cloud = new TestOutlet('cloud', true)
    swept.attach(cloud)
    await turns(20)
    expect(cloud.payloads.length).toBeGreaterThanOrEqual(20)
    expect(cloud.payloads.filter((payload) => payload !== '' && !all.has(payload))).toEqual([])
  })

  test('purges reach what came from it and what came after', async () => {
    const before = openInClear()
    before.accept(record({ payload: 'old', variant: null, subjects: ['op-1' as OperatorId] }))
    before.accept(record({ payload: 'old of another', variant: null, subjects: ['op-2' as OperatorId], machine: 'SN-2' as MachineId }))
    await committed(before)
    await close(before)
    const after = open()
    after.accept(record({ payload: 'new', variant: null, subjects: ['op-1' as OperatorId] }))
    await committed(after)
    expect(after.purge({ subject: 'op-1' as OperatorId }, 'withdrawal').purged).toBe(2)
    const cloud = new TestOutlet('cloud', true)
    after.attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['old of another'])
    expect(after.purge({ machine: 'SN-2' as MachineId }, 'erasure').purged).toBe(0)
  })
})
