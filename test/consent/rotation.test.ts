/**
 * Rotation of the root key: what is stored opens with the new key alone, pseudonyms stay unless they are asked to change, the ledger says
 * what happened once, and a kill at any step leaves a folder that goes on as if nothing had been.
 */
import fs, { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openBooks, type Books } from '../../src/consent/books.ts'
import { createRootKey, loadRootKey, rotateRootKey, type RootKey } from '../../src/consent/root.ts'
import { settleRotation, type Rotation } from '../../src/consent/rotation.ts'
import { storageKeys } from '../../src/consent/storage.ts'
import type { OperatorId } from '../../src/domain/ids.ts'
import { openOutbox, type DurableOutbox } from '../../src/outlet/outbox.ts'
import { NOW, record, TestOutlet, turns } from '../contract/records.ts'

const clock = { now: () => NOW, monotonic: () => performance.now() }
const TENANT = 'demo'
const PERSON = 'op-ada' as OperatorId

interface Folder {
  readonly root: RootKey
  readonly books: Books
  readonly outbox: DurableOutbox
  readonly rotation: Rotation
  close(): Promise<void>
}

/** The start of a gateway, as far as keys go. */
function start(folder: string): Folder {
  const path = join(folder, 'root.key')
  const root = existsSync(path) ? loadRootKey(path) : createRootKey(path)
  const books = openBooks({ folder, root, tenant: TENANT, gateway: 'depot-7', clock })
  const outbox = openOutbox({ file: join(folder, 'outbox.db'), keys: storageKeys(root, TENANT), clock, sweepMs: 0 })
  const rotation = settleRotation({ keys: books.keys, ledger: books.ledger, root, path })
  return { root, books, outbox, rotation, close: async () => { await outbox.close(); books.close() } }
}

const rotations = ({ ledger }: Books): unknown[] => [...ledger.events({ type: 'key.rotated' })].map(({ body }) => ({ use: body?.['use'], from: body?.['from'], to: body?.['to'] }))
const lines = (folder: string): string[] => readFileSync(join(folder, 'root.key'), 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('#'))
const hexOf = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex')
const keyIds = (folder: string): Set<string> => {
  const ids = new Set<string>()
  for (const [name, tables] of [['keys.db', ['subject_row', 'gateway_row', 'period_row']], ['outbox.db', ['seals']]] as const) {
    const db = new DatabaseSync(join(folder, name))
    for (const table of tables) for (const row of db.prepare(`SELECT DISTINCT key_id FROM ${table}`).all()) ids.add(String(row['key_id']))
    db.close()
  }
  return ids
}

let folder: string
let row: string

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-rotation-'))
  const { books, outbox, close } = start(folder)
  books.identities.load([{ id: PERSON, kind: 'personal', country: 'DE', validFromMs: undefined, validToMs: undefined, cards: ['04-A1-77'] }])
  row = hexOf(books.keys.ensure('operator', PERSON, 'pseudonym'))
  books.ledger.append({ type: 'rules.activated', body: { rules: 'c0ffee' } })
  outbox.accept(record({ payload: 'waits', subjects: [PERSON] }))
  await new Promise((done) => outbox.committed(done))
  await close()
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Everything that was stored can be read. */
async function isWhole({ books, outbox }: Folder, what: string): Promise<void> {
  expect(books.ledger.verify(), what).toMatchObject({ ok: true })
  expect([...books.ledger.events({ type: 'rules.activated' })].map(({ body }) => body?.['rules']), what).toEqual(['c0ffee'])
  expect(books.identities.find('04-A1-77', NOW)?.operator, what).toBe(PERSON)
  expect(hexOf(books.keys.row('operator', PERSON, 'pseudonym')), what).toBe(row)
  const cloud = new TestOutlet('cloud')
  outbox.attach(cloud)
  await turns()
  expect(cloud.payloads, what).toEqual(['waits'])
  outbox.detach('cloud')
}

describe('a new root key', () => {
  it('opens everything, is the only one left after a start, and the pseudonyms stay', async () => {
    const before = loadRootKey(join(folder, 'root.key'))
    const next = rotateRootKey(join(folder, 'root.key'))
    expect(statSync(join(folder, 'root.key')).mode & 0o777).toBe(0o600)
    expect(lines(folder).map((line) => line.split(' ')[0])).toEqual(['storage', 'storage', 'pseudonym'])
    expect([next.bytes, next.pseudonymId]).toEqual([before.bytes, before.id])
    expect(next.id).not.toBe(before.id)

    const started = start(folder)
    await isWhole(started, 'after the rotation')
    expect(started.rotation).toMatchObject({ changed: ['storage'], kept: undefined })
    expect(started.rotation.rewrapped).toBeGreaterThan(5)
    expect(rotations(started.books)).toEqual([{ use: 'storage', from: before.id, to: next.id }])
    await started.close()
    expect(lines(folder).map((line) => line.split(' ')[0])).toEqual(['storage', 'pseudonym'])
    expect(keyIds(folder)).toEqual(new Set([next.id]))
    expect(loadRootKey(join(folder, 'root.key'))).toMatchObject({ id: next.id, bytes: before.bytes, former: [] })

    const again = start(folder)
    await isWhole(again, 'after the start after that')
    expect(again.rotation).toEqual({ rewrapped: 0, changed: [], kept: undefined })
    expect(rotations(again.books)).toHaveLength(1)
    await again.close()
  })

  it('of pseudonyms is another one, the old one is gone, and the ledger says so', async () => {
    const before = loadRootKey(join(folder, 'root.key'))
    const next = rotateRootKey(join(folder, 'root.key'), { pseudonyms: true })
    expect(hexOf(next.bytes)).not.toBe(hexOf(before.bytes))
    expect(new Set([next.id, next.pseudonymId, before.id]).size).toBe(3)
    const started = start(folder)
    await isWhole(started, 'after the rotation')
    expect(started.rotation.changed).toEqual(['storage', 'pseudonyms'])
    expect(rotations(started.books)).toEqual([{ use: 'storage', from: before.id, to: next.id }, { use: 'pseudonyms', from: before.id, to: next.pseudonymId }])
    await started.close()
    expect(readFileSync(join(folder, 'root.key'), 'utf8')).not.toContain(Buffer.from(before.bytes).toString('base64url'))
  })

  it('several before a start are one change, and there is a bound', async () => {
    const path = join(folder, 'root.key')
    const first = loadRootKey(path).id
    for (let n = 0; n < 7; n++) rotateRootKey(path)
    expect(() => rotateRootKey(path)).toThrow(expect.objectContaining({ code: 'KEY-ROTATIONS' }))
    const started = start(folder)
    await isWhole(started, 'after seven')
    expect(rotations(started.books)).toEqual([{ use: 'storage', from: first, to: started.root.id }])
    await started.close()
    expect(lines(folder)).toHaveLength(2)
  })

  it('that is made while a gateway starts is not lost', async () => {
    const path = join(folder, 'root.key')
    rotateRootKey(path)
    const root = loadRootKey(path)
    const books = openBooks({ folder, root, tenant: TENANT, gateway: 'depot-7', clock })
    const outbox = openOutbox({ file: join(folder, 'outbox.db'), keys: storageKeys(root, TENANT), clock, sweepMs: 0 })
    const newest = rotateRootKey(path)
    settleRotation({ keys: books.keys, ledger: books.ledger, root, path })
    await outbox.close()
    books.close()
    expect(lines(folder)).toHaveLength(4)
    const started = start(folder)
    expect(started.root.id).toBe(newest.id)
    await isWhole(started, 'after the second')
    await started.close()
  })

  it('keeps the former one when the file cannot be replaced, and says so', async () => {
    rotateRootKey(join(folder, 'root.key'))
    const root = loadRootKey(join(folder, 'root.key'))
    const books = openBooks({ folder, root, tenant: TENANT, gateway: 'depot-7', clock })
    const { kept } = settleRotation({ keys: books.keys, ledger: books.ledger, root, path: join(folder, 'nowhere', 'root.key') })
    expect(kept).toBeInstanceOf(Error)
    books.close()
    expect(lines(folder)).toHaveLength(3)
    const started = start(folder)
    await isWhole(started, 'afterwards')
    await started.close()
  })

  it('a wrong line is refused without being quoted', () => {
    const path = join(folder, 'root.key')
    const [key] = lines(folder)
    for (const text of [`pseudonym ${key}`, `storage ${key}\npseudonym ${key}\npseudonym ${key}`, `wrap ${key}`, `storage ${key} ${key}`]) {
      writeFileSync(path, text)
      expect(() => loadRootKey(path), text.replaceAll(key!, 'KEY')).toThrow(expect.objectContaining({ code: 'KEY-FILE-FORMAT' }))
      expect(() => loadRootKey(path)).not.toThrow(new RegExp(key!.slice(0, 10)))
    }
  })
})

describe('a kill during a rotation', () => {
  it.each([['of what is stored', {}], ['of pseudonyms too', { pseudonyms: true }]])('%s, at every write: the folder is whole, and the next start finishes it, once', async (_, options) => {
    const images: string[] = []
    const steps: string[] = []
    let isWatching = true
    const before = (step: string): void => {
      if (!isWatching) return
      isWatching = false
      // What the kernel holds at this moment is what a killed process leaves.
      const image = mkdtempSync(join(tmpdir(), 'parapet-killed-'))
      cpSync(folder, image, { recursive: true })
      images.push(image)
      steps.push(step)
      isWatching = true
    }
    const spies = (['openSync', 'writeSync', 'fsyncSync', 'fdatasyncSync', 'renameSync', 'rmSync'] as const).map((name) => {
      const real = fs[name] as (...words: unknown[]) => unknown
      return vi.spyOn(fs, name).mockImplementation(((...words: unknown[]) => {
        before(name)
        return real(...words)
      }) as never)
    })
    syncBuiltinESMExports()
    const exec = DatabaseSync.prototype.exec
    const run = StatementSync.prototype.run
    spies.push(vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function (this: DatabaseSync, sql: string) {
      if (sql === 'COMMIT') before('COMMIT')
      exec.call(this, sql)
    }) as never)
    spies.push(vi.spyOn(StatementSync.prototype, 'run').mockImplementation(function (this: StatementSync, ...values: Parameters<StatementSync['run']>) {
      if (/^(COMMIT|INSERT INTO fact|UPDATE seals)/.test(this.sourceSQL)) before(this.sourceSQL.slice(0, 16))
      return run.apply(this, values)
    } as StatementSync['run']) as never)
    try {
      rotateRootKey(join(folder, 'root.key'), options)
      const started = start(folder)
      isWatching = false
      await started.close()
    } finally {
      isWatching = false
      for (const spy of spies) spy.mockRestore()
      syncBuiltinESMExports()
    }
    // The key file twice (new, and without the former), keys.db, the outbox, and the ledger with its head.
    expect(images.length).toBeGreaterThan(15)
    expect(new Set(steps).size).toBeGreaterThan(5)
    const { length } = rotations(await opened(folder))
    for (const [n, image] of images.entries()) {
      const what = `killed before ${steps[n]} (${n + 1} of ${images.length})`
      const started = start(image)
      await isWhole(started, what)
      expect(rotations(started.books).length, what).toBeLessThanOrEqual(length)
      const { root } = started
      await started.close()
      expect(lines(image).filter((line) => line.startsWith('storage')).length, what).toBeLessThanOrEqual(1)
      expect(readdirSync(image), what).not.toContain('root.key.new')
      expect(keyIds(image), what).toEqual(new Set([root.id]))
      // A second start has nothing to do any more.
      const again = start(image)
      expect(again.rotation, what).toEqual({ rewrapped: 0, changed: [], kept: undefined })
      await again.close()
      rmSync(image, { recursive: true })
    }
  }, 60_000)
})

async function opened(folder: string): Promise<Books> {
  const started = start(folder)
  await started.close()
  return openBooks({ folder, root: loadRootKey(join(folder, 'root.key')), tenant: TENANT, gateway: 'depot-7', clock })
}
