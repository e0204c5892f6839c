/** Tokens on disk: who may read the files, what is in them, and what a damaged one does. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { openTokens } from '../../src/admin/tokens.ts'

const NOW = Date.parse('2026-11-23T12:00:00Z')

function open(data: string) {
  return openTokens(data, () => NOW)
}
function folder(): string {
  return join(mkdtempSync(join(tmpdir(), 'parapet-tokens-')), 'data')
}
function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8)
}

describe('first start', () => {
  test('makes one admin token; files 0600, folder 0700; only its hash is in tokens.json', () => {
    const data = folder()
    const tokens = open(data)
    const token = readFileSync(join(data, 'admin.token'), 'utf8').trimEnd()
    expect([tokens.first, tokens.adminFile]).toEqual([true, join(data, 'admin.token')])
    expect([mode(data), mode(join(data, 'admin.token')), mode(join(data, 'tokens.json'))]).toEqual(['700', '600', '600'])
    // 32 random bytes are 43 characters of base64url: twice the 128 bits that are asked for.
    expect(token).toMatch(/^parapet_[\w-]{43}$/)
    expect(tokens.find(token)).toEqual({ name: 'first-admin', role: 'admin' })
    const stored = readFileSync(join(data, 'tokens.json'), 'utf8')
    expect(stored).not.toContain(token)
    expect(stored).toContain(createHash('sha256').update(token).digest('hex'))
    expect(JSON.parse(stored)).toEqual({ version: 1, tokens: [{ name: 'first-admin', role: 'admin', created: '2026-11-23T12:00:00.000Z', sha256: createHash('sha256').update(token).digest('hex') }] })
  })

  test('two gateways never make the same token, and a second start makes none', () => {
    const [one, other] = [folder(), folder()]
    open(one)
    open(other)
    const token = readFileSync(join(one, 'admin.token'), 'utf8')
    expect(token).not.toBe(readFileSync(join(other, 'admin.token'), 'utf8'))
    rmSync(join(one, 'admin.token'))
    const again = open(one)
    expect(again.first).toBe(false)
    expect(existsSync(join(one, 'admin.token'))).toBe(false)
    expect(again.find(token.trimEnd())).toEqual({ name: 'first-admin', role: 'admin' })
  })
})

describe('tokens', () => {
  test('made, found after a restart, ended at once', () => {
    const data = folder()
    const tokens = open(data)
    const token = tokens.create('portal', 'privacy')
    expect(open(data).find(token)).toEqual({ name: 'portal', role: 'privacy' })
    tokens.end('portal')
    expect(tokens.find(token)).toBeUndefined()
    expect(open(data).find(token)).toBeUndefined()
    expect(open(data).list().map(({ name }) => name)).toEqual(['first-admin'])
  })

  test('nothing near a token is a token', () => {
    const tokens = open(folder())
    const token = tokens.create('portal', 'privacy')
    const near = ['', ' ', token.slice(0, -1), `${token} `, `${token}A`, token.toUpperCase(), token.slice(8), createHash('sha256').update(token).digest('hex')]
    for (const guess of near) expect(tokens.find(guess)).toBeUndefined()
  })

  test.each([
    ['a name with blanks', 'TOKEN-NAME', (t: ReturnType<typeof open>) => t.create('Ann Miller', 'viewer')],
    ['a name twice', 'TOKEN-EXISTS', (t: ReturnType<typeof open>) => t.create('first-admin', 'viewer')],
    ['the last admin ends itself', 'TOKEN-LAST', (t: ReturnType<typeof open>) => t.end('first-admin')],
    ['an unknown one is ended', 'UNKNOWN-TOKEN', (t: ReturnType<typeof open>) => t.end('portal')],
  ])('%s -> %s', (_name, code, act) => {
    const tokens = open(folder())
    expect(() => act(tokens)).toThrow(expect.objectContaining({ code }))
    expect(tokens.list()).toHaveLength(1)
  })

  test('there is a bound on their number', () => {
    const data = folder()
    open(data)
    const file = join(data, 'tokens.json')
    const { tokens: [first] } = JSON.parse(readFileSync(file, 'utf8')) as { tokens: [object] }
    writeFileSync(file, JSON.stringify({ version: 1, tokens: Array.from({ length: 256 }, (_, index) => ({ ...first, name: `t${index}` })) }))
    expect(() => open(data).create('one-more', 'viewer')).toThrow(expect.objectContaining({ code: 'TOKEN-LIMIT' }))
  })
})

describe('a file that is not right stops the start', () => {
  test.each([['640'], ['604'], ['666']])('mode %s', (bits) => {
    const data = folder()
    open(data)
    chmodSync(join(data, 'tokens.json'), Number.parseInt(bits, 8))
    expect(() => open(data)).toThrow(expect.objectContaining({ code: 'TOKENS-MODE' }))
  })

  test.each([
    ['empty', ''],
    ['cut off', '{"version":1,"tokens":[{"name":"a"'],
    ['another version', '{"version":2,"tokens":[]}'],
    ['a role that does not exist', JSON.stringify({ version: 1, tokens: [{ name: 'a', role: 'root', created: 'x', sha256: '0'.repeat(64) }] })],
    ['a role from the prototype', JSON.stringify({ version: 1, tokens: [{ name: 'a', role: 'constructor', created: 'x', sha256: '0'.repeat(64) }] })],
    ['a short hash', JSON.stringify({ version: 1, tokens: [{ name: 'a', role: 'admin', created: 'x', sha256: '00' }] })],
  ])('%s', (_name, text) => {
    const data = folder()
    open(data)
    writeFileSync(join(data, 'tokens.json'), text)
    expect(() => open(data)).toThrow(expect.objectContaining({ code: 'TOKENS-FORMAT' }))
  })
})
