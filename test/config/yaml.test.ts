import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseDocument } from 'yaml'
import { parseYaml, readYaml, yamlInPieces } from '../../src/config/yaml.ts'
import { GOOD, load } from './fixture.ts'

const at = (text: string, path: readonly (string | number)[], of?: 'key'): string => {
  const { line, col } = parseYaml('f', text).place(path, of)
  return `${line}:${col}`
}

describe('places', () => {
  const text = 'a:\n  b: [x, "y z"]\n  c: { d: 1 }\nbase: &base\n  one: 1\n  two: 2\nuse:\n  <<: *base\n  two: 22\nagain: *base\n'

  test.each([
    [['a'], 'value', '2:3'],
    [['a', 'b', 1], 'value', '2:10'],
    [['a', 'c', 'd'], 'key', '3:8'],
    [['a', 'c', 'd'], 'value', '3:11'],
    // Merged: where the text to mend stands.
    [['use', 'one'], 'value', '5:8'],
    [['use', 'two'], 'value', '9:8'],
    [['again', 'one'], 'key', '5:3'],
    // What does not exist is reported at the key of what should hold it.
    [['a', 'c', 'missing'], 'value', '3:3'],
  ] as const)('%j %s is at %s', (path, of, place) => {
    expect(at(text, path, of === 'key' ? 'key' : undefined)).toBe(place)
  })

  test('a byte order mark and Windows line ends move nothing', () => {
    expect(at(`\uFEFF${text}`, ['a', 'b', 1])).toBe('2:10')
    expect(at(text.replaceAll('\n', '\r\n'), ['use', 'two'])).toBe('9:8')
  })

  test.each([
    ['k: abc', 1, '1:5'],
    ['k: "abc"', 1, '1:6'],
    // Escapes and folding change the offsets, so the start of the text is named.
    ['k: "a\\tbc"', 3, '1:4'],
    ['k: >\n  abc\n  def\n', 3, '1:4'],
  ])('a character inside %j', (source, offset, place) => {
    const { line, col } = parseYaml('f', source).placeIn(['k'], offset)
    expect(`${line}:${col}`).toBe(place)
  })
})

describe('values', () => {
  test.each([
    ['NO: no', { NO: 'no' }],
    ['101: a', { 101: 'a' }],
    ['true: a', { true: 'a' }],
    ['d: 2026-11-01', { d: '2026-11-01' }],
    ['n: ~', { n: null }],
    ['o: 010', { o: 10 }],
    ['b: on', { b: 'on' }],
  ])('%s', (text, value) => {
    expect(JSON.parse(JSON.stringify(parseYaml('f', text).value))).toEqual(value)
  })

  test('the first of several merges wins, and what stands in the map itself wins over all', () => {
    const { value } = parseYaml('f', 'a: &a { x: 1, y: 1 }\nb: &b { x: 2, z: 2 }\nc: { <<: [*a, *b], z: 3 }')
    expect((value as { c: unknown }).c).toEqual({ z: 3, x: 1, y: 1 })
  })

  test('keys such as __proto__ are keys', () => {
    const { value } = parseYaml('f', '__proto__: { polluted: yes }\nconstructor: 1')
    expect(Object.keys(value as object)).toEqual(['__proto__', 'constructor'])
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })
})

describe('refusals', () => {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-yaml-'))
  const file = (name: string, content: string | Uint8Array): string => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }

  test.each([
    ['a file that is not there', join(folder, 'none.yaml'), 'FILE-UNREADABLE', '1:1'],
    ['a folder', folder, 'FILE-UNREADABLE', '1:1'],
    ['UTF-16', file('utf16.yaml', Buffer.from('\uFEFFversion: 1', 'utf16le')), 'YAML-ENCODING', '1:1'],
    ['Latin-1', file('latin1.yaml', Buffer.from('a: 1\nb: caf\u00e9\n', 'latin1')), 'YAML-ENCODING', '2:7'],
  ])('%s', (_, path, code, place) => {
    const [finding] = readYaml(path).findings
    expect(finding?.code).toBe(code)
    expect(`${finding?.place.line}:${finding?.place.col}`).toBe(place)
  })

  test('aliases that unfold without end are counted, not unfolded', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    for (let level = 1; level < 12; level++) lines.push(`a${level}: &a${level} [${Array.from({ length: 10 }, () => `*a${level - 1}`).join(', ')}]`)
    const started = performance.now()
    expect(parseYaml('f', lines.join('\n')).findings[0]?.code).toBe('YAML-TOO-LARGE')
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  test('deep nesting is refused, not a stack overflow', () => {
    for (const depth of [200, 3_000]) expect(parseYaml('f', '['.repeat(depth) + ']'.repeat(depth)).findings[0]?.code).toBe('YAML-SYNTAX')
  })

  test('YAML 1.1 is refused: there NO is false', () => {
    expect(parseYaml('f', '%YAML 1.1\n---\nNO: 1').findings[0]?.text).toContain('Remove the %YAML line.')
  })

  test('thirty thousand keys are read in linear time', () => {
    const text = Array.from({ length: 30_000 }, (_, index) => `k${index}: { a: 1 }`).join('\n')
    const started = performance.now()
    expect(parseYaml('f', text).findings).toEqual([])
    expect(performance.now() - started).toBeLessThan(15_000)
  })
})

describe('no text makes the loader throw', () => {
  const lines = GOOD.split('\n')
  const fragment = fc.oneof(
    fc.constantFrom(...lines),
    fc.constantFrom('  ', '- ', ': ', '&a ', '*a', '<<: *a', '{ ', ' }', '[', ']', '"', "'", '|', '>', '#', '?', '!!', '%', '\t', '\u0000', '\uFEFF', '__proto__: 1', 'version: 1', 'streams:', 'outputs:'),
    fc.string({ unit: 'binary', maxLength: 20 }),
  )

  test('random text', () => {
    fc.assert(fc.property(fc.array(fragment, { maxLength: 30 }), fc.constantFrom('', '\n', '\n  '), (parts, separator) => {
      const loaded = load(parts.join(separator))
      expect(loaded.policy).toBeUndefined()
      expect(loaded.findings.length).toBeGreaterThan(0)
    }), { numRuns: 300 })
  })

  test('the good file with lines lost, doubled and changed', () => {
    const edit = fc.record({ line: fc.nat(lines.length - 1), kind: fc.constantFrom('drop', 'double', 'replace', 'cut', 'swap'), text: fragment, at: fc.nat(40) })
    fc.assert(fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      const changed = [...lines]
      for (const { line, kind, text, at } of edits) {
        const here = changed[line] ?? ''
        if (kind === 'drop') changed[line] = ''
        if (kind === 'double') changed[line] = `${here}\n${here}`
        if (kind === 'replace') changed[line] = text
        if (kind === 'cut') changed[line] = here.slice(0, at)
        if (kind === 'swap') [changed[line], changed[at]] = [changed[at] ?? '', here]
      }
      const loaded = load(changed.join('\n'))
      // Either accepted, or at least one error says why not.
      expect(loaded.policy !== undefined || loaded.findings.some((finding) => finding.severity === 'error')).toBe(true)
      for (const finding of loaded.findings) expect(finding.place.line).toBeGreaterThan(0)
    }), { numRuns: 300 })
  })

  test('random data in the shape of YAML', () => {
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom('streams', 'outputs', 'legal_basis', 'purposes', 'recipients', 'tests', 'accept', 'fields', 'subject', 'zones'), (value, key) => {
      const loaded = load(`${GOOD.replace(new RegExp(`^${key}:`, 'm'), `define_${key}:`)}\n${JSON.stringify(key)}: ${JSON.stringify(value)}\n`)
      for (const finding of loaded.findings) expect(finding.text).not.toMatch(/undefined|\[object/)
    }), { numRuns: 300 })
  })
})

describe('read in pieces', () => {
  const folder = resolve(import.meta.dirname, '../..')
  const files = ['config', 'test'].flatMap((name) => readdirSync(join(folder, name), { recursive: true, encoding: 'utf8' }).filter((one) => /\.ya?ml$/.test(one) && !one.startsWith('data')).map((one) => join(folder, name, one)))

  test('gives what the library gives in one piece, wherever the pauses fall', () => {
    expect(files.length).toBeGreaterThan(10)
    for (const file of files) {
      // Keys stay here as they are written, `0xF004` too.
      const text = readFileSync(file, 'utf8').replace(/0x[0-9A-F]+:/g, (hex) => `${Number(hex.slice(0, -1))}:`)
      const whole = parseDocument(text, { version: '1.2', schema: 'core', merge: true, uniqueKeys: false })
      // Merged keys may come in another order.
      const same = whole.errors.length > 0 || isDeepStrictEqual(JSON.parse(JSON.stringify(parseYaml(file, text).value)), JSON.parse(JSON.stringify(whole.toJS({ maxAliasCount: -1 }))))
      expect(same, file).toBe(true)
    }
  })

  test('stops often in a long text', () => {
    const pieces = yamlInPieces('x.yaml', Array.from({ length: 5_000 }, (_, n) => `key${n}: [1, { a: b }]`).join('\n'))
    let many = 0
    while (pieces.next().done !== true) many++
    expect(many).toBeGreaterThan(20)
  })
})
