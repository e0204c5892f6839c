import { createHash, hkdfSync, randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createRootKey, loadRootKey, rootKeyOf, weaknessOf } from '../../src/consent/root.ts'
import { folder } from './fixture.ts'

const good = createHash('sha256').update('some key of this test').digest()

describe('root key file', () => {
  it('is made once, private, and read back', () => {
    const path = join(folder(), 'keys', 'root.key')
    const made = createRootKey(path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700)
    expect(loadRootKey(path).bytes).toEqual(made.bytes)
    expect(loadRootKey(path).id).toBe(made.id)
    expect(() => createRootKey(path)).toThrow(/already/)
    expect(loadRootKey(path).bytes).toEqual(made.bytes)
  })

  it('is refused when others can read it or replace it', () => {
    const path = join(folder(), 'root.key')
    createRootKey(path)
    for (const mode of [0o640, 0o604, 0o660, 0o620]) {
      chmodSync(path, mode)
      expect(() => loadRootKey(path)).toThrow(/chmod 600/)
    }
    chmodSync(path, 0o600)
    expect(loadRootKey(path).former).toEqual([])
    const open = join(folder(), 'open')
    mkdirSync(open)
    chmodSync(open, 0o777)
    createRootKey(join(open, 'root.key'))
    expect(() => loadRootKey(join(open, 'root.key'))).toThrow(/chmod 700/)
  })

  it('may hold former keys, hex or base64url, and comments', () => {
    const path = join(folder(), 'root.key')
    const [newer, older] = [randomBytes(32), randomBytes(32)]
    writeFileSync(path, `# made in spring\n${newer.toString('hex')}\n\n${older.toString('base64url')}  # until May\n`, { mode: 0o600 })
    const root = loadRootKey(path)
    expect(root.bytes).toEqual(Uint8Array.from(newer))
    expect(root.former.map((key) => key.bytes)).toEqual([Uint8Array.from(older)])
    expect(root.id).not.toBe(root.former[0]!.id)
  })

  it('says what is wrong without quoting the key', () => {
    const path = join(folder(), 'root.key')
    expect(() => loadRootKey(path)).toThrow(/keys init/)
    writeFileSync(path, 'c2VjcmV0LXNlY3JldA\n', { mode: 0o600 })
    expect(() => loadRootKey(path)).toThrow(/64 hex digits/)
    expect(() => loadRootKey(path)).not.toThrow(/c2VjcmV0/)
    writeFileSync(path, '# nothing\n')
    expect(() => loadRootKey(path)).toThrow(/holds no key/)
  })

  it('derives by purpose and tenant as HKDF says', () => {
    const root = rootKeyOf(good)
    const expected = new Uint8Array(hkdfSync('sha256', good, 'demo', 'parapet/v1|pseudonym|machine|planner|never', 32))
    expect(root.deriveKey('parapet/v1|pseudonym|machine|planner|never', 'demo')).toEqual(expected)
    expect(root.deriveKey('parapet/v1|pseudonym|machine|planner|never', 'other')).not.toEqual(expected)
    expect(root.deriveKey('x', 'demo', 16)).toHaveLength(16)
  })

  it('keeps the key out of the file name, the id and the text around it', () => {
    const path = join(folder(), 'root.key')
    const root = createRootKey(path)
    expect(readFileSync(path, 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toHaveLength(1)
    expect(Buffer.from(root.bytes).toString('hex')).not.toContain(root.id)
  })
})

describe('weak keys are refused', () => {
  const rows: readonly (readonly [what: string, hex: string])[] = [
    ['all zero', '00'.repeat(32)],
    ['all ff', 'ff'.repeat(32)],
    ['any constant', '5a'.repeat(32)],
    ['counting 00..1f, as in many documents', Array.from({ length: 32 }, (_, i) => i.toString(16).padStart(2, '0')).join('')],
    ['counting 80..9f (RFC 8439)', Array.from({ length: 32 }, (_, i) => (0x80 + i).toString(16)).join('')],
    ['counting down', Array.from({ length: 32 }, (_, i) => (255 - i).toString(16)).join('')],
    ['counting in steps of 17', Array.from({ length: 32 }, (_, i) => ((i * 17) & 255).toString(16).padStart(2, '0')).join('')],
    ['deadbeef again and again', 'deadbeef'.repeat(8)],
    ['two equal halves', good.toString('hex').slice(0, 32).repeat(2)],
    ['a sentence', Buffer.from('this is our very secret root key').toString('hex')],
    ['NIST AES-256 example', '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4'],
    ['RFC 8032 test 1', '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'],
    ['SHA-256 of nothing', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['too short', 'a1b2c3'],
  ]
  it.each(rows)('%s', (_, hex) => {
    expect(weaknessOf(Buffer.from(hex, 'hex'))).toBeTypeOf('string')
    expect(() => rootKeyOf(Buffer.from(hex, 'hex'))).toThrow(/keys init/)
  })

  it.each(['root key of the consent tests', 'some key of this test', 'root key of the outbox tests'])('a file with a key of the tests of this program: %s', (sentence) => {
    const path = join(folder(), 'root.key')
    const key = createHash('sha256').update(sentence).digest()
    for (const text of [key.toString('hex'), `${randomBytes(32).toString('hex')}\n${key.toString('base64url')}`, `${randomBytes(32).toString('hex')}\npseudonym ${key.toString('hex')}`]) {
      writeFileSync(path, text, { mode: 0o600 })
      expect(() => loadRootKey(path)).toThrow(expect.objectContaining({ code: 'WEAK-KEY' }))
    }
  })

  it('and no test makes a key from a sentence that a file would pass with', () => {
    const here = readdirSync(join(import.meta.dirname, '..'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => readFileSync(join(import.meta.dirname, '..', name), 'utf8'))
    const sentences = new Set(here.flatMap((text) => [...text.matchAll(/rootKeyOf\(createHash\('sha256'\)\.update\('([^']+)'\)/g)].map((match) => match[1]!)))
    expect(sentences.size).toBeGreaterThan(3)
    const path = join(folder(), 'root.key')
    for (const sentence of sentences) {
      writeFileSync(path, createHash('sha256').update(sentence).digest('hex'), { mode: 0o600 })
      expect(() => loadRootKey(path), sentence).toThrow(/published/)
    }
  })

  it('and random ones are not', () => {
    for (let i = 0; i < 2_000; i++) expect(weaknessOf(createHash('sha256').update(`key ${i}`).digest())).toBeUndefined()
  })
})
