import { describe, expect, test } from 'vitest'
import { CODES, type Code } from '../../src/config/codes.ts'
import { GOOD, load } from './fixture.ts'
import { MISTAKES, TYPICAL, type Mistake } from './mistakes.ts'

/** The edited text without the mark, and the line and column where the mark stood. */
function apply(mistake: Mistake, edits = mistake.edits): { readonly text: string; readonly line: number | undefined; readonly col: number | undefined } {
  let marked = GOOD
  for (const [from, to] of edits) {
    expect(marked.split(from).length, `"${from}" must stand exactly once in the good file`).toBe(2)
    marked = marked.replace(from, () => to)
  }
  const at = marked.indexOf('▸')
  if (at < 0) return { text: marked, line: undefined, col: undefined }
  const before = marked.slice(0, at).split('\n')
  return { text: marked.replace('▸', ''), line: before.length, col: (before[before.length - 1] as string).length + 1 }
}

test('the file without a mistake has no finding', () => {
  const loaded = load(GOOD)
  expect(loaded.findings).toEqual([])
  expect(loaded.policy).toBeDefined()
})

test('there are ten typical mistakes and more than forty in all', () => {
  expect(TYPICAL).toHaveLength(10)
  expect(MISTAKES.length).toBeGreaterThan(90)
})

describe('a mistake is reported where it is, with what to do', () => {
  test.each(MISTAKES)('$name: $code', (mistake) => {
    const { text, line, col } = apply(mistake)
    const loaded = load(text)
    const found = loaded.findings.filter((finding) => finding.code === mistake.code)
    expect(found.map((finding) => finding.text).join('\n'), loaded.findings.map((one) => `${one.place.line}:${one.place.col} ${one.code} ${one.text}`).join('\n')).toContain(mistake.says)
    if (line !== undefined) expect(found.map((finding) => `${finding.place.line}:${finding.place.col}`)).toContain(`${line}:${col}`)
    expect(found[0]?.severity).toBe(CODES[mistake.code as Code].severity)
    if (CODES[mistake.code as Code].severity === 'error') expect(loaded.policy).toBeUndefined()
  })
})

/** What the message tells to write instead of the word at its place; undefined when it tells something else. */
function corrected(mistake: Mistake): string | undefined {
  const { text } = apply(mistake)
  const finding = load(text).findings.find((one) => one.code === mistake.code)
  const meant = /Did you mean "([^"]+)"\?$/.exec(finding?.text ?? '')?.[1]
  if (finding === undefined || meant === undefined) return undefined
  const lines = text.split('\n')
  const line = lines[finding.place.line - 1] as string
  const [before, after] = [line.slice(0, finding.place.col - 1), line.slice(finding.place.col - 1)]
  lines[finding.place.line - 1] = before + after.replace(/^(\*|"|msg\.)?[\w.-]+/, (_word, sign = '') => `${sign}${meant}`)
  return lines.join('\n')
}

/** The file after somebody did what the message says, as the table writes it. */
function mended(mistake: Mistake): string | undefined {
  if (mistake.mended === undefined) return undefined
  if (typeof mistake.mended !== 'string') return apply(mistake, mistake.mended).text
  const marked = mistake.edits.findIndex(([, to]) => to.includes('▸'))
  const instead = mistake.edits.at(marked)?.[0] ?? ''
  return apply(mistake, mistake.edits.map(([from, to]) => [from, from === instead ? mistake.mended as string : to])).text
}

describe('who does what the message says has a file that is accepted', () => {
  test.each(MISTAKES)('$name: $code', (mistake) => {
    const files = [mended(mistake), corrected(mistake)].filter((text) => text !== undefined)
    expect(files).not.toEqual([])
    for (const text of files) {
      const { findings, policy } = load(text)
      expect(findings.map((one) => `${one.place.line}:${one.place.col} ${one.severity} ${one.code} ${one.text}`).filter((one) => one.includes(' error ') || one.includes(` ${mistake.code} `))).toEqual([])
      expect(policy).toBeDefined()
    }
  })

  test('the word that a message proposes is put in by the test itself', () => {
    expect(MISTAKES.filter((mistake) => corrected(mistake) !== undefined).length).toBeGreaterThan(25)
  })

  test('and what a message spells out stands in the file that followed it', () => {
    const strange = MISTAKES.filter((mistake) => mistake.mended !== undefined).flatMap((mistake) => {
      const text = load(apply(mistake).text).findings.find((finding) => finding.code === mistake.code)?.text ?? ''
      const spelt = [...text.matchAll(/(?:Write|Add) `([a-z_]+: [^`…]+)`/g)].map((match) => match[1] as string).filter((one) => !/[A-Z]{3}/.test(one))
      return spelt.filter((one) => !(mended(mistake) as string).includes(one)).map((one) => `${mistake.name}: ${one}`)
    })
    // The one offers two ways, of which the table takes the second; the other has its first way in the row after it.
    expect(strange).toEqual(['a coordinate addressed directly: position: { grid: 1km }', 'arrival tells the time: emit: { every: 15m, hold: true }'])
  })
})

test('a mistake does not drag findings along that only follow from it', () => {
  const noisy = TYPICAL.filter((mistake) => load(apply(mistake).text).findings.filter((finding) => finding.severity === 'error').length > 1)
  // A missing purpose is a wrong key and a missing one: two facts.
  expect(noisy.map((mistake) => mistake.name)).toEqual(['a key typed wrong'])
})

test('every sentence is one, and says what to do', () => {
  for (const mistake of MISTAKES) {
    for (const finding of load(apply(mistake).text).findings) {
      expect(finding.text, finding.text).toMatch(/^["`A-Z].*[.?`)]$/s)
      expect(finding.text, finding.text).not.toMatch(/must match|anyOf|undefined|\[object|#\//)
    }
  }
})

test('a holder may have what asks nobody and looks alike with a yes and without', () => {
  const holder = GOOD.replace('role: controller, group: affiliate, region: CN', 'role: controller, group: holder, region: CN').replace('{ consent: { grid: 1km }, no_consent: { grid: 10km } }', '{ consent: { grid: 10km }, no_consent: { grid: 10km } }')
  expect(load(holder).findings.filter(({ code }) => code === 'HOLDER-SEES-REFUSAL')).toEqual([])
})
