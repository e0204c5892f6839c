import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadOperatorsText } from '../../src/config/operators.ts'
import type { OperatorEntry } from '../../src/consent/identities.ts'
import { clockAt, DAY, folder, MORNING, op, open, register } from './fixture.ts'

function entry(id: string, cards: readonly string[], more: Partial<OperatorEntry> = {}): OperatorEntry {
  return { id: op(id), kind: 'personal', country: undefined, validFromMs: undefined, validToMs: undefined, cards, ...more }
}

describe('whose card it is', () => {
  it('knows cards, PINs and numbers, and what kind of code they are', () => {
    const books = open(folder(), clockAt())
    register(books)
    const find = (card: string): string | undefined => books.identities.find(card, MORNING)?.operator
    expect(find('CARD-1111')).toBe('op-ada')
    expect(find(' PIN-77 ')).toBe('op-ben')
    expect(books.identities.find('CARD-2222', MORNING)).toMatchObject({ operator: 'op-ben', kind: 'personal', country: 'FR' })
    expect(books.identities.find('0000', MORNING)?.kind).toBe('shared')
    expect(books.identities.find('MASTER-9', MORNING)?.kind).toBe('service')
  })

  it('an unknown card stands for nobody and leaves nothing behind', () => {
    const books = open(folder(), clockAt())
    register(books)
    for (const card of ['CARD-9999', '', '   ', 'card-1111', 'op-ada']) expect(books.identities.find(card, MORNING)).toBeUndefined()
    expect(books.identities.knows(op('CARD-9999'))).toBe(false)
    expect(books.states.operators).toBe(0)
  })

  it('a re-issued card is a new person, from then on', () => {
    const clock = clockAt()
    const books = open(folder(), clock)
    books.identities.load([entry('op-ada', ['CARD-1'])])
    clock.ms += DAY
    expect(books.identities.load([entry('op-ada', []), entry('op-ben', ['CARD-1'])])).toMatchObject({ closed: 1, cards: 1 })
    expect(books.identities.find('CARD-1', clock.ms)?.operator).toBe('op-ben')
    // A message of yesterday that arrives today is still Ada's.
    expect(books.identities.find('CARD-1', clock.ms - 1)?.operator).toBe('op-ada')
    clock.ms += DAY
    books.identities.load([entry('op-ada', ['CARD-1']), entry('op-ben', [])])
    expect(books.identities.find('CARD-1', clock.ms)?.operator).toBe('op-ada')
    expect(books.identities.find('CARD-1', clock.ms - 1)?.operator).not.toBe('op-ada')
  })

  it('a replacement card is the same person; a lost one ends', () => {
    const clock = clockAt()
    const books = open(folder(), clock)
    books.identities.load([entry('op-ada', ['OLD'])])
    clock.ms += DAY
    books.identities.load([entry('op-ada', ['NEW'])])
    expect(books.identities.find('NEW', clock.ms)?.operator).toBe('op-ada')
    expect(books.identities.find('OLD', clock.ms)).toBeUndefined()
    expect(books.identities.find('OLD', clock.ms - 1)?.operator).toBe('op-ada')
  })

  it('cards with times', () => {
    const books = open(folder(), clockAt())
    books.identities.load([entry('op-ada', ['C'], { validToMs: MORNING }), entry('op-ben', ['C'], { validFromMs: MORNING })])
    expect(books.identities.find('C', MORNING - 1)?.operator).toBe('op-ada')
    expect(books.identities.find('C', MORNING)?.operator).toBe('op-ben')
    expect(books.identities.find('C', Number.NaN)).toBeUndefined()
  })

  it('says when any card changes hands, whether a list says the time or was read at it', () => {
    const clock = clockAt()
    const books = open(folder(), clock)
    expect(books.identities.borders(10)).toEqual([])
    books.identities.load([entry('op-ada', ['C', 'D']), entry('op-ben', ['E'], { validFromMs: MORNING - DAY })])
    expect(books.identities.borders(10)).toEqual([MORNING - DAY])
    clock.ms += DAY
    books.identities.load([entry('op-ada', ['D']), entry('op-ben', ['C', 'E'], { validFromMs: MORNING - DAY })])
    const borders = books.identities.borders(10)
    expect(borders).toEqual([MORNING - DAY, MORNING + DAY])
    expect(books.identities.borders(1)).toEqual([MORNING + DAY])
    // Between two borders, and before and after them all, every card stands for the same.
    for (const card of ['C', 'D', 'E']) {
      const holder = (at: number): string | undefined => books.identities.find(card, at)?.operator
      for (const [i, border] of borders.entries()) {
        const next = borders[i + 1] ?? border + 10 * DAY
        expect(new Set([border, (border + next) / 2, next - 1].map(holder)).size, `${card} after ${i}`).toBe(1)
      }
    }
    expect(books.identities.find('C', MORNING + DAY - 1)?.operator).toBe('op-ada')
    expect(books.identities.find('C', MORNING + DAY)?.operator).toBe('op-ben')
  })

  it('refuses a list that contradicts itself, whole, and without naming anybody', () => {
    const books = open(folder(), clockAt())
    register(books)
    const lists: readonly (readonly [string, readonly OperatorEntry[]])[] = [
      ['CARD-TWICE', [entry('op-a', ['X']), entry('op-b', ['X '])]],
      ['OPERATOR-TWICE', [entry('op-a', ['X']), entry('op-a', ['Y'])]],
      ['CARD-EMPTY', [entry('op-a', [' '])]],
      ['OPERATOR-ID', [entry('Ada Example', ['X'])]],
      ['OPERATOR-TIMES', [entry('op-a', ['X'], { validFromMs: 5, validToMs: 5 })]],
    ]
    for (const [code, list] of lists) {
      expect(() => books.identities.load(list)).toThrow(expect.objectContaining({ code }))
      try {
        books.identities.load(list)
      } catch (error) {
        expect(String(error)).not.toMatch(/op-[ab]|Ada/)
      }
    }
    expect(books.identities.find('CARD-1111', MORNING)?.operator).toBe('op-ada')
  })

  it('one person can be added while it runs, but not with somebody else\'s card', () => {
    const books = open(folder(), clockAt())
    register(books)
    books.identities.add(entry('op-dia', ['CARD-4444'], { country: 'AT' }))
    expect(books.identities.find('CARD-4444', MORNING)).toMatchObject({ operator: 'op-dia', country: 'AT' })
    expect(() => books.identities.add(entry('op-eve', ['CARD-1111']))).toThrow(expect.objectContaining({ code: 'CARD-TWICE' }))
    expect(books.identities.find('CARD-1111', MORNING)?.operator).toBe('op-ada')
    expect(books.identities.knows(op('op-eve'))).toBe(false)
  })

  it('an erased person stays erased: in a list read again, and in a restored file', () => {
    const path = folder()
    const books = open(path, clockAt())
    register(books)
    books.close()
    copyFileSync(join(path, 'identities.db'), join(path, 'backup'))
    const later = open(path, clockAt())
    for (const store of later.stores) store.erase(op('op-ada'))
    expect(later.identities.find('CARD-1111', MORNING)).toBeUndefined()
    expect(later.identities.load([entry('op-ada', ['CARD-1111']), entry('op-ben', ['CARD-2222'])])).toMatchObject({ ended: 1, operators: 1 })
    expect(later.identities.knows(op('op-ada'))).toBe(false)
    later.close()
    copyFileSync(join(path, 'backup'), join(path, 'identities.db'))
    const restored = open(path, clockAt())
    expect(restored.identities.find('CARD-1111', MORNING)).toBeUndefined()
    expect(restored.identities.knows(op('op-ada'))).toBe(false)
    expect(restored.identities.find('CARD-2222', MORNING)?.operator).toBe('op-ben')
  })
})

describe('a file of operators', () => {
  const day = fc.option(fc.constantFrom('1969-12-31', '2024-01-01', '2025-07-01', '2026-11-23'), { nil: undefined })
  const card = fc.constantFrom('7', '07', ' 7', '7\u00a0', '', '  ', '\u00e9', 'e\u0301', '\u212b', '\u00c5', 'A-1', 'a-1', '\ud800', '\udfff')
  const entries = fc.array(fc.record({
    id: fc.constantFrom('op-ada', 'op-ben', 'op-cem', 'OP-ADA', '..', 'op ada', 'x'.repeat(128), 'x'.repeat(129)),
    kind: fc.constantFrom('personal', 'shared', 'service'),
    country: fc.option(fc.constantFrom('DE', 'UK', 'US-CA'), { nil: undefined }),
    valid: fc.option(fc.record({ from: day, to: day }), { nil: undefined }),
    cards: fc.array(card, { minLength: 1, maxLength: 3 }),
  }), { maxLength: 4 })

  it('that passes the check is one that the register takes', () => {
    const books = open(folder(), clockAt())
    let passed = 0
    let refused = 0
    fc.assert(fc.property(entries, (list) => {
      // JSON is YAML.
      const { operators, findings } = loadOperatorsText('operators.yaml', JSON.stringify(list))
      if (operators === undefined) {
        refused++
        expect(findings.length).toBeGreaterThan(0)
        for (const { place } of findings) expect([place.line >= 1, place.col >= 1]).toEqual([true, true])
        return
      }
      passed++
      expect(books.identities.load(operators).operators).toBe(operators.length)
    }), { numRuns: Number(process.env['RUNS'] ?? 400) })
    // Both happened, so that neither half is empty.
    expect(Math.min(passed, refused)).toBeGreaterThan(10)
  })

  it('what the register refuses is found at its place', () => {
    for (const [cards, second] of [[['A-9999'], {}], [[' A-9999'], {}], [['A-1'], { id: 'op-ada' }]] as const) {
      const text = `- { id: op-ada, kind: personal, cards: ["A-9999"] }\n- ${JSON.stringify({ id: 'op-dan', kind: 'personal', cards, ...second })}`
      const { operators, findings } = loadOperatorsText('operators.yaml', text)
      expect(operators).toBeUndefined()
      expect(findings.map(({ place }) => place.line)).toEqual([2])
    }
  })
})
