import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, it } from 'vitest'
import { rootKeyOf } from '../../src/consent/root.ts'
import { SqliteSubjectKeys } from '../../src/consent/subjects.ts'
import { op, bytesOf, folder, ROOT } from './fixture.ts'

function keysIn(path: string, more: Partial<ConstructorParameters<typeof SqliteSubjectKeys>[0]> = {}): SqliteSubjectKeys {
  return new SqliteSubjectKeys({ folder: path, root: ROOT, tenant: 'demo', ...more })
}

describe('subject keys', () => {
  it('makes a random row per subject and use, the same again later', () => {
    const path = folder()
    const keys = keysIn(path)
    expect(keys.row('operator', 'op-ada', 'pseudonym')).toBeUndefined()
    const row = keys.ensure('operator', 'op-ada', 'pseudonym')
    expect(row).toHaveLength(32)
    expect(keys.ensure('operator', 'op-ada', 'pseudonym')).toEqual(row)
    const all = [row, keys.ensure('operator', 'op-ada', 'ledger'), keys.ensure('operator', 'op-ben', 'pseudonym'), keys.ensure('machine', 'op-ada', 'pseudonym')]
    expect(new Set(all.map((bytes) => Buffer.from(bytes).toString('hex'))).size).toBe(4)
    keys.close()
    const again = keysIn(path)
    expect(again.row('operator', 'op-ada', 'pseudonym')).toEqual(row)
    again.close()
  })

  it('cannot be made again from root key and id: two folders, two rows', () => {
    const rows = [folder(), folder()].map((path) => {
      const keys = keysIn(path)
      const row = keys.ensure('machine', 'SN-1', 'pseudonym')
      keys.close()
      return Buffer.from(row).toString('hex')
    })
    expect(rows[0]).not.toBe(rows[1])
  })

  it('makes many rows at once, or none when one of them ended', () => {
    const keys = keysIn(folder())
    keys.ensureMany('machine', ['SN-1', 'SN-2', 'SN-3'], ['pseudonym', 'sealed_field'])
    expect(keys.row('machine', 'SN-3', 'sealed_field')).toBeDefined()
    keys.destroy('machine', 'SN-2')
    expect(() => keys.ensureMany('machine', ['SN-4', 'SN-2'], ['legal'])).toThrow(/new id/)
    expect(keys.row('machine', 'SN-4', 'legal')).toBeUndefined()
    keys.close()
  })

  it('ends a subject for good', () => {
    const path = folder()
    const keys = keysIn(path)
    keys.ensure('operator', 'op-ada', 'pseudonym')
    keys.ensure('operator', 'op-ada', 'ledger')
    const ben = keys.ensure('operator', 'op-ben', 'ledger')
    const { generation } = keys
    expect(keys.destroy('operator', 'op-ada')).toBe(2)
    expect(keys.generation).toBeGreaterThan(generation)
    expect(keys.row('operator', 'op-ada', 'pseudonym')).toBeUndefined()
    expect(() => keys.ensure('operator', 'op-ada', 'pseudonym')).toThrow(expect.objectContaining({ code: 'SUBJECT-ENDED' }))
    expect(keys.row('operator', 'op-ben', 'ledger')).toEqual(ben)
    keys.close()
    const again = keysIn(path)
    expect(again.row('operator', 'op-ada', 'ledger')).toBeUndefined()
    expect(() => again.ensure('operator', 'op-ada', 'ledger')).toThrow(/erased/)
    again.close()
  })

  it('leaves no wrapped bytes behind, in the database or its log', () => {
    const path = folder()
    const keys = keysIn(path)
    for (let i = 0; i < 40; i++) keys.ensure('operator', `op-${i}`, 'ledger')
    keys.ensure('operator', 'op-ada', 'ledger')
    keys.close()
    const wrapped = wrappedRow(path, 'op-ada')
    expect([...bytesOf(path).values()].some((bytes) => bytes.includes(wrapped))).toBe(true)
    const again = keysIn(path)
    again.destroy('operator', 'op-ada')
    expect(piecesLeft(path, wrapped)).toEqual([])
    again.close()
    expect(piecesLeft(path, wrapped)).toEqual([])
  })

  it('a restored keys.db revives nobody', () => {
    const path = folder()
    const keys = keysIn(path)
    keys.ensure('operator', 'op-ada', 'ledger')
    keys.ensure('operator', 'op-ben', 'ledger')
    keys.openPeriod('2026-11-01')
    keys.close()
    copyFileSync(join(path, 'keys.db'), join(path, 'backup'))
    const later = keysIn(path)
    later.destroy('operator', 'op-ada')
    expect(later.destroyPeriods('2026-11-09')).toEqual(['2026-11-01'])
    later.close()
    copyFileSync(join(path, 'backup'), join(path, 'keys.db'))
    const restored = keysIn(path)
    expect(restored.row('operator', 'op-ada', 'ledger')).toBeUndefined()
    expect(restored.row('operator', 'op-ben', 'ledger')).toBeDefined()
    expect(restored.periodRow('2026-11-01')).toBeUndefined()
    // A later event of that day gets a row of its own, as after a clock that was wrong.
    expect(restored.openPeriod('2026-11-01').period).toBe('2026-11-01.1')
    restored.close()
  })

  it('notices tombstones that were cut off, changed or taken away', () => {
    const path = folder()
    const keys = keysIn(path)
    for (const id of ['a', 'b', 'c']) {
      keys.ensure('operator', id, 'ledger')
      keys.destroy('operator', id)
    }
    keys.close()
    const file = join(path, 'tombstones')
    const whole = readFileSync(file, 'utf8')
    const lines = whole.split('\n').slice(0, -1)
    expect(lines).toHaveLength(3)
    for (const broken of [lines.slice(0, 2), lines.slice(1), [lines[1], lines[0], lines[2]], [], [lines[0], lines[1], lines[2]!.replace('subject', 'period')]]) {
      writeFileSync(file, broken.map((line) => `${line}\n`).join(''))
      expect(() => keysIn(path)).toThrow(expect.objectContaining({ code: 'TOMBSTONES-DAMAGED' }))
    }
    // A line that a crash left unfinished was never acted upon.
    writeFileSync(file, `${whole}v1 subject 00`)
    keysIn(path).close()
    expect(readFileSync(file, 'utf8')).toBe(whole)
  })

  it('refuses another root key, another tenant, and a missing keys.db', () => {
    const path = folder()
    const keys = keysIn(path)
    keys.destroy('operator', 'op-x')
    keys.close()
    const other = rootKeyOf(createHash('sha256').update('another').digest())
    expect(() => keysIn(path, { root: other })).toThrow(expect.objectContaining({ code: 'ROOT-KEY-UNKNOWN' }))
    expect(() => keysIn(path, { tenant: 'other' })).toThrow(expect.objectContaining({ code: 'ROOT-KEY-UNKNOWN' }))
    for (const name of ['keys.db', 'keys.db-wal', 'keys.db-shm']) if (existsSync(join(path, name))) rmSync(join(path, name))
    expect(() => keysIn(path)).toThrow(expect.objectContaining({ code: 'KEYS-MISSING' }))
  })

  it('moves to a new root key', () => {
    const path = folder()
    const keys = keysIn(path)
    const row = keys.ensure('operator', 'op-ada', 'ledger')
    const { row: day } = keys.openPeriod('2026-11-23')
    keys.close()
    const fresh = createHash('sha256').update('the next root key').digest()
    const rotating = keysIn(path, { root: rootKeyOf(fresh, [ROOT]) })
    expect(rotating.row('operator', 'op-ada', 'ledger')).toEqual(row)
    expect(rotating.rewrap()).toBeGreaterThan(2)
    expect(rotating.rewrap()).toBe(0)
    rotating.close()
    const after = keysIn(path, { root: rootKeyOf(fresh) })
    expect(after.row('operator', 'op-ada', 'ledger')).toEqual(row)
    expect(after.periodRow('2026-11-23')).toEqual(day)
    after.close()
    expect(() => keysIn(path)).toThrow(expect.objectContaining({ code: 'ROOT-KEY-UNKNOWN' }))
  })

  it('keeps the rows of a person under a legal hold until it is lifted', () => {
    const keys = keysIn(folder())
    keys.ensure('operator', 'op-ada', 'ledger')
    keys.hold(op('op-ada'), 'case-4')
    expect(keys.erase(op('op-ada'))).toEqual({ erased: 0, held: 1 })
    expect(keys.row('operator', 'op-ada', 'ledger')).toBeDefined()
    keys.hold(op('op-ada'), undefined)
    expect(keys.erase(op('op-ada'))).toEqual({ erased: 1, held: 0 })
    expect(keys.row('operator', 'op-ada', 'ledger')).toBeUndefined()
    keys.close()
  })
})

/** What is stored for a person, read with SQLite and nothing of ours. */
function wrappedRow(path: string, id: string): Uint8Array {
  const keys = keysIn(path)
  const mark = keys.tagOf('operator', id)
  keys.close()
  const database = new DatabaseSync(join(path, 'keys.db'), { readOnly: true })
  const wrapped = database.prepare('SELECT wrapped FROM subject_row WHERE subject = ?').get(mark)?.['wrapped'] as Uint8Array
  database.close()
  expect(wrapped).toHaveLength(12 + 32 + 16)
  return wrapped
}

/** Files that hold any eight bytes in a row of something. */
function piecesLeft(path: string, secret: Uint8Array): string[] {
  const pieces = Array.from({ length: secret.length - 7 }, (_, i) => Buffer.from(secret.subarray(i, i + 8)))
  return [...bytesOf(path)].filter(([, bytes]) => pieces.some((piece) => bytes.includes(piece))).map(([name]) => name)
}
