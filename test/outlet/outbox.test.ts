/**
 * The outbox on node:sqlite: the contract, and what only this implementation has: its file, its start-up checks, a disk that
 * refuses, damage, and what stays on the disk of what was deleted.
 */
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { UndeliverableError } from '../../src/domain/errors.ts'
import type { MachineId, OperatorId, OutputId } from '../../src/domain/ids.ts'
import type { Clock, OutboxRecord } from '../../src/domain/ports.ts'
import { checkSqlite } from '../../src/outlet/database.ts'
import { openOutbox } from '../../src/outlet/outbox.ts'
import type { DurableOutbox, OutboxOptions } from '../../src/outlet/outbox.ts'
import { outboxContract } from '../contract/outbox.ts'
import { STORAGE_KEYS } from '../contract/keys.ts'
import { NOW, record, TestOutlet, turns } from '../contract/records.ts'

outboxContract('node:sqlite', ({ folder, ...settings }) => openOutbox({ file: join(folder, 'outbox.db'), sweepMs: 0, retryMs: 1, ...settings }))
outboxContract('node:sqlite, encrypted', ({ folder, ...settings }) => openOutbox({ file: join(folder, 'outbox.db'), keys: STORAGE_KEYS, sweepMs: 0, retryMs: 1, ...settings }))

let folder: string
let file: string
let opened: DurableOutbox[]
let nowMs: number
const clock: Clock = { now: () => nowMs, monotonic: () => nowMs }

function open(options: Partial<OutboxOptions> = {}): DurableOutbox {
  const outbox = openOutbox({ file, clock, sweepMs: 0, retryMs: 1, ...options })
  opened.push(outbox)
  return outbox
}

const committed = (outbox: DurableOutbox): Promise<Error | undefined> => new Promise((resolve) => outbox.committed(resolve))

/** Every COMMIT fails with an SQLite code: 13 = disk full, 1034 = fsync failed. `mockRestore()` mends the disk. */
function refuseCommits(errcode: number): { mockRestore(): void } {
  const run = Object.getOwnPropertyDescriptor(StatementSync.prototype, 'run')!.value as StatementSync['run']
  return vi.spyOn(StatementSync.prototype, 'run').mockImplementation(function (this: StatementSync, ...values: Parameters<StatementSync['run']>) {
    if (this.sourceSQL === 'COMMIT') throw Object.assign(new Error('refused'), { errcode })
    return run.apply(this, values)
  } as StatementSync['run'])
}

/** Every byte of the outbox on the disk. */
const onDisk = (): string => readdirSync(folder).map((name) => readFileSync(join(folder, name)).toString('latin1')).join('')

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-outbox-'))
  file = join(folder, 'outbox.db')
  opened = []
  nowMs = NOW
})

afterEach(async () => {
  for (const outbox of opened) await outbox.close()
  rmSync(folder, { recursive: true })
})

describe('the file', () => {
  test('is readable by its owner alone, and so is its log', async () => {
    file = join(folder, 'data', 'outbox.db')
    const outbox = open()
    outbox.accept(record())
    await committed(outbox)
    expect(statSync(join(folder, 'data')).mode & 0o777).toBe(0o700)
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(statSync(`${file}-wal`).mode & 0o777).toBe(0o600)
  })

  test('holds every column that later work relies on', async () => {
    const outbox = open()
    outbox.accept(record({ variant: 'less' }))
    await outbox.close()
    const db = new DatabaseSync(file)
    const columns = (table: string): unknown[] => db.prepare(`SELECT name FROM pragma_table_info('${table}')`).all().map((row) => row['name'])
    expect(columns('records')).toEqual([
      'seq', 'envelope', 'via', 'machine_order', 'acquired_ms', 'received_ms', 'expires_ms', 'crc', 'id', 'payload', 'state', 'sealed', 'on_withdrawal',
      'payload_if_withdrawn', 'withdrawn_crc', 'dead_ms', 'dead_code',
    ])
    expect(columns('envelopes')).toEqual([
      'envelope', 'output', 'recipient', 'stream', 'topic', 'qos', 'retain', 'machine', 'holder', 'subjects', 'purpose', 'basis', 'country', 'consent_seq',
      'policy', 'rules_hash', 'plan', 'key_id', 'storage_class', 'categories', 'via', 'sealed', 'body',
    ])
    expect(db.prepare('SELECT count(*) AS n FROM sqlite_schema WHERE type = \'table\' AND sql NOT LIKE \'%STRICT%\' AND name NOT LIKE \'sqlite%\'').get()).toEqual({ n: 0 })
    db.close()
  })

  test('counts its openings, so that a machine order can go on rising', async () => {
    const first = open()
    expect(first.epoch).toBe(1)
    await first.close()
    expect(open().epoch).toBe(2)
  })

  test('1,000 records of one machine share an envelope; a withdrawal or the end of their use removes it', async () => {
    const outbox = open()
    for (let i = 0; i < 1_000; i++) outbox.accept(record({ variant: null }))
    outbox.accept(record({ machine: 'SN-2' as MachineId, subjects: [] }))
    await committed(outbox)
    outbox.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal')
    await outbox.close()
    const db = new DatabaseSync(file)
    expect(db.prepare('SELECT machine, subjects FROM envelopes').all()).toEqual([{ machine: 'SN-2', subjects: '[]' }])
    expect(db.prepare('SELECT count(*) AS n FROM envelope_subjects').get()).toEqual({ n: 0 })
    db.close()
  })

  test('an erased envelope is written again when its machine and person come back', async () => {
    const outbox = open()
    const cloud = new TestOutlet('cloud', true)
    for (let round = 0; round < 3; round++) {
      outbox.accept(record({ payload: `round ${round}` }))
      await committed(outbox)
      if (round < 2) outbox.purge({ subject: 'op-ada' as OperatorId }, 'erasure')
    }
    outbox.attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['round 2'])
  })

  test('erased and delivered content is not left in the file or its log', async () => {
    const outbox = open()
    const canary = { payload: 'CANARY-PAYLOAD', variant: 'CANARY-VARIANT', subjects: ['CANARY-PERSON'] as unknown as OperatorId[], machine: 'CANARY-MACHINE' as MachineId }
    for (let i = 0; i < 300; i++) outbox.accept(record(canary))
    outbox.accept(record({ payload: 'stays', subjects: [] }))
    await committed(outbox)
    expect(onDisk()).toContain('CANARY-PAYLOAD')
    outbox.purge({ subject: 'CANARY-PERSON' as OperatorId }, 'erasure')
    expect(onDisk()).not.toContain('CANARY')
    expect(onDisk()).toContain('stays')
  })

  test.each(['withdrawal', 'device_setting'] as const)('what a %s took is gone from the log as well, within a sweep', async (reason) => {
    const outbox = open({ sweepMs: 20 })
    for (let i = 0; i < 300; i++) outbox.accept(record({ payload: 'CANARY-FINE', variant: 'coarse' }))
    await committed(outbox)
    expect(outbox.purge({ subject: 'op-ada' as OperatorId }, reason).swapped).toBe(300)
    await new Promise((resolve) => void setTimeout(resolve, 100))
    expect([onDisk().includes('CANARY-FINE'), onDisk().includes('coarse')]).toEqual([false, true])
  })
})

describe('start-up checks', () => {
  test.each([['3.51.2', false], ['3.7.17', false], ['2.9.9', false], ['0', false], ['3.51.3', true], ['3.53.4', true], ['4.0.0', true]])('SQLite %s: good enough is %s', (version, good) => {
    if (good) expect(() => checkSqlite(version)).not.toThrow()
    else expect(() => checkSqlite(version)).toThrow(expect.objectContaining({ code: 'OUTBOX-SQLITE' }))
  })

  test('a second gateway on the same file does not start', () => {
    open()
    expect(() => open()).toThrow(expect.objectContaining({ code: 'OUTBOX-LOCKED' }))
  })

  test('a file that is no database is not touched', () => {
    writeFileSync(file, 'Dear diary,\n'.repeat(1_000))
    expect(() => open()).toThrow(expect.objectContaining({ code: 'OUTBOX-DAMAGED' }))
    expect(readFileSync(file, 'utf8').slice(0, 11)).toBe('Dear diary,')
  })

  test('a database that is not ours is not touched', () => {
    const db = new DatabaseSync(file)
    db.exec('CREATE TABLE recipes (name TEXT)')
    db.close()
    const before = readFileSync(file)
    expect(() => open()).toThrow(expect.objectContaining({ code: 'OUTBOX-FORMAT' }))
    expect(readFileSync(file).equals(before)).toBe(true)
  })

  test('a file of a newer version is not opened', async () => {
    await open().close()
    const db = new DatabaseSync(file)
    db.exec('PRAGMA user_version = 99')
    db.close()
    expect(() => open()).toThrow(expect.objectContaining({ code: 'OUTBOX-FORMAT' }))
  })

  test.each([[0.5], [0.9]])('a file cut off at %f of its length is noticed', async (part) => {
    const outbox = open()
    for (let i = 0; i < 500; i++) outbox.accept(record({ payload: `${i} `.repeat(50) }))
    await outbox.close()
    truncateSync(file, Math.floor(statSync(file).size * part))
    expect(() => open()).toThrow(expect.objectContaining({ code: 'OUTBOX-DAMAGED' }))
  })

  test('a folder in the place of the file fails with what the system says', () => {
    mkdirSync(file)
    expect(() => open()).toThrow(/EISDIR/)
  })
})

describe('damage in the middle of a file', () => {
  /** Stores three records, then changes bytes of the middle one behind SQLite's back. */
  async function storeThenPatch(find: string, replacement: string): Promise<void> {
    const outbox = open()
    for (const payload of ['first payload', 'second payload', 'third payload']) outbox.accept(record({ payload }))
    await outbox.close()
    const at = readFileSync(file).toString('latin1').indexOf(find)
    expect(at).toBeGreaterThan(0)
    const descriptor = openSync(file, 'r+')
    writeSync(descriptor, Buffer.from(replacement, 'latin1'), 0, replacement.length, at)
    closeSync(descriptor)
  }

  test('a record with a flipped bit is kept and never sent; its neighbours are', async () => {
    await storeThenPatch('second payload', 'rfcond payload')
    const outbox = open()
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['first payload', 'third payload'])
    expect([outbox.stats.damaged, outbox.depth]).toEqual([1, 1])
    expect(outbox.purge({ subject: 'op-ada' as OperatorId }, 'erasure').purged).toBe(1)
    expect(outbox.depth).toBe(0)
  })

  test('a record that points to another envelope never leaves in that one', async () => {
    const outbox = open()
    outbox.accept(record({ payload: 'for the cloud' }))
    outbox.accept(record({ payload: 'for the app', topic: 'out/app/p-4711' }))
    await outbox.close()
    const db = new DatabaseSync(file)
    db.exec('UPDATE records SET envelope = 3 - envelope')
    db.close()
    const again = open()
    const cloud = new TestOutlet('cloud', true)
    again.attach(cloud)
    await turns()
    expect([cloud.sent.length, again.stats.damaged]).toEqual([0, 2])
  })

  test('a withdrawal finds what has lost the row by which its person is found', async () => {
    const outbox = open()
    outbox.accept(record({ payload: 'fine', variant: 'coarse' }))
    await committed(outbox)
    await outbox.close()
    const db = new DatabaseSync(file)
    expect(db.prepare('DELETE FROM envelope_subjects').run().changes).toBe(1)
    db.close()
    const again = open()
    expect(again.stats.damaged).toBe(1)
    expect(again.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal')).toEqual({ purged: 0, swapped: 1, held: 0 })
  })

  test('a flipped bit in the variant without consent is found before a withdrawal could bring it out', async () => {
    const outbox = open()
    outbox.accept(record({ payload: 'exact', variant: 'coarse' }))
    await outbox.close()
    const db = new DatabaseSync(file)
    db.exec('UPDATE records SET payload_if_withdrawn = CAST(\'coarsf\' AS BLOB)')
    db.close()
    const again = open()
    expect(again.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal').swapped).toBe(1)
    const cloud = new TestOutlet('cloud', true)
    again.attach(cloud)
    await turns()
    expect([cloud.sent.length, again.stats.damaged]).toEqual([0, 1])
  })
})

describe('a disk that refuses', () => {
  const full = { filePages: 40, probeMs: 5 }

  /** Fills the file until a commit is refused; returns how many records were acknowledged. */
  async function fill(outbox: DurableOutbox): Promise<number> {
    for (let acked = 0; ; acked++) {
      outbox.accept(record({ payload: 'x'.repeat(4_000) }))
      if (await committed(outbox) !== undefined) return acked
    }
  }

  test('callbacks get an error, accepts fail, and what was acknowledged is there', async () => {
    const outbox = open(full)
    const acked = await fill(outbox)
    expect(acked).toBeGreaterThan(10)
    expect([outbox.healthy, outbox.room('planner' as OutputId, 'ordinary', 1)]).toEqual([false, false])
    expect(outbox.reason).toMatch(/SQLite code 13/)
    expect(() => outbox.accept(record())).toThrow(expect.objectContaining({ code: 'OUTBOX-UNHEALTHY' }))
    expect(outbox.depth).toBe(acked)
    // A message without outputs needs no disk.
    let error: Error | undefined | 'not called' = 'not called'
    outbox.committed((result) => { error = result })
    expect(error).toBeUndefined()
    await outbox.close()
    const again = open()
    const cloud = new TestOutlet('cloud', true)
    again.attach(cloud)
    await turns(20)
    expect(cloud.sent).toHaveLength(acked)
  })

  test('everybody in the group and behind it is told, in order', async () => {
    const outbox = open({ ...full, groupRecords: 8 })
    await fill(outbox)
    await expect.poll(() => outbox.healthy, { timeout: 50 }).toBe(false)
    const again = open({ file: join(folder, 'other.db'), ...full, groupRecords: 8 })
    const told: string[] = []
    for (let i = 0; i < 200; i++) {
      again.accept(record({ payload: 'x'.repeat(4_000) }))
      again.committed((error) => told.push(`${i} ${error === undefined ? 'safe' : 'not safe'}`))
    }
    await turns()
    expect(told.map((line) => Number(line.split(' ')[0]))).toEqual(Array.from({ length: 200 }, (_, i) => i))
    const safe = told.filter((line) => line.endsWith(' safe') && !line.includes('not')).length
    expect(safe).toBeGreaterThan(0)
    expect(safe).toBeLessThan(200)
    expect(safe % 8).toBe(0)
    const { depth, bytes } = again
    expect(depth).toBe(safe)
    await again.close()
    const reopened = open({ file: join(folder, 'other.db') })
    expect([reopened.depth, reopened.bytes]).toEqual([depth, bytes])
  })

  test('what is stored goes on leaving, and when there is room accepts work again', async () => {
    const outbox = open(full)
    const acked = await fill(outbox)
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    await expect.poll(() => cloud.sent.length).toBe(acked)
    await expect.poll(() => outbox.healthy).toBe(true)
    outbox.accept(record({ payload: 'after the storm' }))
    expect(await committed(outbox)).toBeUndefined()
    await turns()
    expect(cloud.payloads.at(-1)).toBe('after the storm')
  })

  test('a purge that fails in the midst of a turn stops the groups of that turn as well', async () => {
    const outbox = open({ probeMs: 20, groupRecords: 2 })
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    await turns()
    const told: boolean[] = []
    for (let i = 0; i < 6; i++) {
      outbox.accept(record({ payload: `n ${i}`, variant: i < 4 ? null : undefined }))
      outbox.committed((error) => {
        told.push(error === undefined)
        if (i !== 0) return
        const disk = refuseCommits(13)
        expect(() => outbox.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal')).toThrow(expect.objectContaining({ code: 'OUTBOX-UNHEALTHY' }))
        disk.mockRestore()
      })
    }
    await turns()
    expect([outbox.healthy, cloud.sent.length]).toEqual([false, 0])
    expect(told).toEqual([true, false, false, false, false, false])
    await expect.poll(() => outbox.healthy).toBe(true)
    await turns()
    expect([cloud.sent.length, outbox.depth, outbox.bytes]).toEqual([0, 0, 0])
  })

  test('after a failed fsync nothing is trusted until a restart has checked the file', async () => {
    const outbox = open({ probeMs: 1 })
    outbox.accept(record({ payload: 'safe' }))
    expect(await committed(outbox)).toBeUndefined()
    outbox.accept(record({ payload: 'not safe' }))
    const disk = refuseCommits(1034)
    expect(await committed(outbox)).toMatchObject({ code: 'OUTBOX-UNHEALTHY' })
    disk.mockRestore()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(outbox.healthy).toBe(false)
    expect(outbox.reason).toMatch(/restart/)
    await outbox.close()
    const again = open()
    const cloud = new TestOutlet('cloud', true)
    again.attach(cloud)
    await turns()
    expect(cloud.payloads).toEqual(['safe'])
  })

  test('a group that failed leaves no trace: counts, envelopes and marks are as before, and the next one works', async () => {
    const outbox = open({ probeMs: 5 })
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    outbox.accept(record({ payload: 'first' }))
    await turns()
    outbox.onDelivered(cloud.open[0]!.record, 'cloud-login')
    cloud.answer()
    outbox.accept(record({ payload: 'lost, its terminal sends it again', topic: 'out/new' }))
    const disk = refuseCommits(13)
    expect(await committed(outbox)).toBeDefined()
    expect([outbox.depth, outbox.bytes, outbox.counts().length]).toEqual([0, 0, 0])
    disk.mockRestore()
    await expect.poll(() => outbox.healthy).toBe(true)
    outbox.accept(record({ payload: 'second', topic: 'out/new' }))
    expect(await committed(outbox)).toBeUndefined()
    await turns()
    expect(cloud.payloads).toEqual(['first', 'second'])
    expect(outbox.counts().map((row) => row.count)).toEqual([1])
    await outbox.close()
    const again = open()
    const after = new TestOutlet('cloud')
    again.attach(after)
    await turns()
    expect(after.sent.map((one) => `${one.topic} ${one.payload}`)).toEqual(['out/new second'])
  })

  test('a fault of the program stops the outbox instead of letting it guess', async () => {
    const fault = new TypeError('not a record')
    const outbox = open({ held: () => { throw fault }, probeMs: 1 })
    outbox.accept(record({ variant: null }))
    await committed(outbox)
    expect(() => outbox.purge({ subject: 'op-ada' as OperatorId }, 'withdrawal')).toThrow(expect.objectContaining({ code: 'OUTBOX-UNHEALTHY' }))
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect([outbox.healthy, outbox.fault, cloud.sent.length]).toEqual([false, fault, 0])
    await outbox.close()
    expect(open().depth).toBe(1)
  })

  test('a purge that the disk refused stops everything and is made up for before anything leaves', async () => {
    const outbox = open({ probeMs: 20 })
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud, { records: 2 })
    for (const payload of ['a', 'b', 'c']) outbox.accept(record({ payload, variant: null }))
    outbox.accept(record({ payload: 'other', subjects: [] }))
    outbox.accept(record({ payload: 'newer', variant: null, consentSeq: [99] }))
    await turns()
    expect(cloud.payloads).toEqual(['a', 'b'])
    const disk = refuseCommits(13)
    const only = (one: OutboxRecord): boolean => one.consentSeq[0] !== 99
    expect(() => outbox.purge({ subject: 'op-ada' as OperatorId, only }, 'withdrawal')).toThrow(expect.objectContaining({ code: 'OUTBOX-UNHEALTHY' }))
    for (const { record: held } of cloud.open) expect(held.payload).toHaveLength(0)
    cloud.answer(new Error('cut'))
    await turns()
    expect([outbox.healthy, cloud.sent.length]).toEqual([false, 2])
    disk.mockRestore()
    await expect.poll(() => outbox.healthy).toBe(true)
    await turns()
    cloud.answer()
    await turns()
    expect(cloud.payloads).toEqual(['a', 'b', 'other', 'newer'])
    expect(outbox.stats.purged.withdrawal).toBe(3)
    cloud.answer()
    await turns()
    expect([outbox.depth, outbox.bytes]).toEqual([0, 0])
  })
})

describe('the turns of the loop', () => {
  /** Groups of 200 beside a backlog, each after a turn of so many milliseconds: how many records leave with a group. */
  async function leaveWith(outbox: DurableOutbox, cloud: TestOutlet, turnMs: number): Promise<number> {
    const [before, groups] = [cloud.payloads.length, 20]
    for (let group = 0; group < groups; group++) {
      for (let n = 0; n < 200; n++) outbox.accept(record())
      nowMs += turnMs
      await committed(outbox)
    }
    return (cloud.payloads.length - before) / groups
  }

  test('a destination that is behind gets half as much after long ones, and more than comes in after short ones', async () => {
    const outbox = open()
    const cloud = new TestOutlet('cloud', true)
    for (let n = 0; n < 20_000; n++) outbox.accept(record())
    await committed(outbox)
    outbox.attach(cloud)
    // The first few groups find the pace.
    await leaveWith(outbox, cloud, 5)
    expect(await leaveWith(outbox, cloud, 5)).toBe(132)
    await leaveWith(outbox, cloud, 4)
    expect(await leaveWith(outbox, cloud, 4)).toBe(264)
  })

  test('while it is paused nothing is committed or handed out, until the last of those who paused it goes on', async () => {
    const outbox = open()
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    const [first, second] = [outbox.pause(), outbox.pause()]
    outbox.accept(record())
    let answers = 0
    outbox.committed(() => answers++)
    await turns()
    first()
    first()
    await turns()
    expect([answers, cloud.open.length, outbox.stats.commits]).toEqual([0, 0, 0])
    second()
    await turns()
    expect([answers, cloud.open.length, outbox.stats.commits]).toEqual([1, 1, 1])
  })

  test('a stop waits for nobody who paused it', async () => {
    const outbox = open()
    outbox.pause()
    outbox.accept(record())
    const answer = committed(outbox)
    await outbox.close()
    expect(await answer).toBeUndefined()
    expect(open().depth).toBe(1)
  })
})

describe('housekeeping', () => {
  test('it says of which machines something about a person waits, also after a restart', async () => {
    const outbox = open()
    outbox.accept(record({ machine: 'SN-1' as MachineId }))
    outbox.accept(record({ machine: 'SN-2' as MachineId, subjects: [] }))
    outbox.accept(record({ machine: 'SN-3' as MachineId, subjects: ['op-ada', 'op-bob'] as OperatorId[] }))
    await committed(outbox)
    expect([...outbox.machinesWithSubjects()].sort()).toEqual(['SN-1', 'SN-3'])
    await outbox.close()
    expect([...open().machinesWithSubjects()].sort()).toEqual(['SN-1', 'SN-3'])
  })

  test('it says since when something waits: not what is held or dead, and not what has left', async () => {
    const outbox = open({ held: (one) => one.subjects.includes('op-held' as OperatorId) })
    expect(outbox.oldestAtMs).toBeUndefined()
    outbox.accept(record({ receivedAtMs: NOW + 1, subjects: ['op-held'] as OperatorId[], variant: null }))
    for (let i = 2; i <= 4; i++) outbox.accept(record({ receivedAtMs: NOW + i }))
    expect(outbox.oldestAtMs).toBe(NOW + 1)
    await committed(outbox)
    outbox.purge({ subject: 'op-held' as OperatorId }, 'withdrawal')
    expect(outbox.oldestAtMs).toBe(NOW + 2)
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    await turns()
    const seen: (number | undefined)[] = []
    for (const answer of [new UndeliverableError('0x99'), undefined, undefined]) {
      cloud.open.shift()!.done(answer)
      await turns()
      seen.push(outbox.oldestAtMs)
    }
    expect(seen).toEqual([NOW + 3, NOW + 4, undefined])
    outbox.detach('cloud')
    outbox.accept({ ...record({ receivedAtMs: NOW + 9 }), slot: { key: 'k', window: 1, everyMs: 900_000 }, untilMs: NOW + 900_000 })
    await committed(outbox)
    expect(outbox.oldestAtMs).toBe(NOW + 9)
    await outbox.close()
    expect(open().oldestAtMs).toBe(NOW + 9)
  })

  test('it says of each destination since when something waits for it, also behind thousands of records for others', async () => {
    const outbox = open()
    outbox.useDestinations(new Set(['cloud', 'app']), () => undefined)
    expect([outbox.oldestOf('cloud'), outbox.oldestOf('app'), outbox.oldestOf('nobody')]).toEqual([undefined, undefined, undefined])
    for (let i = 1; i <= 12_000; i++) outbox.accept(record({ receivedAtMs: NOW + i, via: ['cloud'] }))
    outbox.accept(record({ receivedAtMs: NOW + 12_001, via: ['app'] }))
    await committed(outbox)
    expect(outbox.oldestOf('cloud')).toBe(NOW + 1)
    expect([outbox.oldestOf('app'), outbox.oldestOf('app'), outbox.oldestOf('app'), outbox.oldestOf('app')]).toEqual([undefined, undefined, NOW + 12_001, NOW + 12_001])
    const app = new TestOutlet('app')
    outbox.attach(app)
    await turns()
    expect(outbox.oldestOf('app')).toBe(NOW + 12_001)
    app.open.shift()!.done(undefined)
    await turns()
    expect([outbox.oldestOf('app'), outbox.oldestOf('cloud')]).toEqual([undefined, NOW + 1])
    outbox.accept(record({ receivedAtMs: NOW + 12_002, via: ['app', 'cloud'] }))
    await committed(outbox)
    await turns()
    expect(outbox.oldestOf('app')).toBe(NOW + 12_002)
    await outbox.close()
  })

  test('what waits for a bridge that was removed is given up and counted; what waits for others as well goes to them, and a hold keeps its copy', async () => {
    const first = open()
    first.accept(record({ payload: 'cloud alone', via: ['cloud'] }))
    first.accept(record({ payload: 'both', via: ['cloud', 'app'], subjects: [] }))
    first.accept(record({ payload: 'app alone', via: ['app'] }))
    first.accept(record({ payload: 'evidence', via: ['cloud'], subjects: ['op-held'] as OperatorId[] }))
    await committed(first)
    await first.close()
    const outbox = open({ held: (one) => one.subjects.includes('op-held' as OperatorId) })
    const gone: string[] = []
    const told = outbox.useDestinations(new Set(['app']), (one, name) => void gone.push(`${name} ${Buffer.from(one.payload).toString()}`))
    expect(told).toEqual([{ name: 'cloud', records: 3 }])
    await turns()
    expect(gone).toEqual(['cloud cloud alone', 'cloud both', 'cloud evidence'])
    expect(outbox.depth).toBe(3)
    const app = new TestOutlet('app', true)
    outbox.attach(app)
    // Rules that were approved before may name it still.
    outbox.accept(record({ payload: 'later', via: ['cloud'] }))
    outbox.accept(record({ payload: 'nor this one', via: ['other'] }))
    await turns()
    expect(app.payloads).toEqual(['both', 'app alone'])
    expect(gone.slice(3)).toEqual(['cloud later', 'other nor this one'])
    expect(outbox.depth).toBe(1)
    expect(outbox.counts()).toEqual([])
    await outbox.close()
    const again = open()
    expect([again.depth, again.useDestinations(new Set(['app']), () => undefined)]).toEqual([1, []])
    expect(again.purge({ subject: 'op-held' as OperatorId }, 'erasure').purged).toBe(1)
  })

  test('expired records go by themselves', async () => {
    const outbox = open({ sweepMs: 2 })
    outbox.accept(record({ expiresAtMs: NOW + 10 }))
    await committed(outbox)
    nowMs = NOW + 11
    await expect.poll(() => outbox.stats.purged.expiry).toBe(1)
    expect(outbox.depth).toBe(0)
  })

  test('a sweep looks again when the next record of the same part of the file expires', async () => {
    const outbox = open()
    for (let i = 1; i <= 50; i++) outbox.accept(record({ expiresAtMs: NOW + i }))
    await committed(outbox)
    for (let i = 1; i <= 50; i++) expect(outbox.sweep(NOW + i).purged).toBe(1)
    expect(outbox.sweep(NOW + 51).purged).toBe(0)
  })

  test('envelopes that nothing refers to are collected, those in use stay; a collected one is written again when it is needed', async () => {
    const outbox = open({ sweepMs: 1 })
    const cloud = new TestOutlet('cloud', true)
    outbox.attach(cloud)
    for (let i = 0; i < 100; i++) outbox.accept(record({ machine: `SN-${i}` as MachineId }))
    outbox.accept(record({ payload: 'waits', machine: 'SN-200' as MachineId, via: ['app'] }))
    await turns()
    expect(outbox.depth).toBe(1)
    outbox.detach('cloud')
    // Two rounds of 60 sweeps: the first one spares what was used since the last.
    await new Promise((resolve) => setTimeout(resolve, 400))
    outbox.accept(record({ payload: 'again', machine: 'SN-7' as MachineId }))
    await outbox.close()
    const db = new DatabaseSync(file)
    expect(db.prepare('SELECT machine FROM envelopes ORDER BY machine').all().map((row) => row['machine'])).toEqual(['SN-200', 'SN-7'])
    db.close()
    const again = open()
    const [app, next] = [new TestOutlet('app', true), new TestOutlet('cloud', true)]
    again.attach(app)
    again.attach(next)
    await turns()
    expect([...app.payloads, ...next.payloads]).toEqual(['waits', 'again'])
  })

  test('counts turn with the month and are kept for 24 months', async () => {
    const outbox = open({ sweepMs: 1, tag: (subject) => `tag of ${subject}` })
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    for (const at of [Date.UTC(2026, 10, 30, 23, 59, 59, 999), Date.UTC(2026, 11, 1), Date.UTC(2028, 9, 31)]) {
      nowMs = at
      outbox.accept(record())
      await turns()
      outbox.onDelivered(cloud.open[0]!.record, 'cloud-login')
      cloud.answer()
      await turns()
    }
    const months = (): string[] => outbox.counts().map((row) => `${row.month} ${row.subject} ${row.count}`)
    expect(months()).toEqual(['2026-11 tag of op-ada 1', '2026-12 tag of op-ada 1', '2028-10 tag of op-ada 1'])
    nowMs = Date.UTC(2028, 10, 1)
    await expect.poll(() => months().length).toBe(2)
    expect(months()).toEqual(['2026-12 tag of op-ada 1', '2028-10 tag of op-ada 1'])
  })

  test('deliveries of QoS 0 records are counted within 50 ms', async () => {
    const outbox = open()
    const cloud = new TestOutlet('cloud')
    outbox.attach(cloud)
    outbox.accept(record({ qos: 0 }))
    outbox.onDelivered(cloud.open[0]!.record, 'cloud-login')
    await expect.poll(() => outbox.counts().map((row) => row.count)).toEqual([1])
  })
})
