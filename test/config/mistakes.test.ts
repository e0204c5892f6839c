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

describe('the advice works', () => {
  test.each(MISTAKES.filter((mistake) => mistake.mended !== undefined))('$name', (mistake) => {
    const [[from] = ['', '']] = mistake.edits
    const loaded = load(GOOD.replace(from, () => mistake.mended as string))
    expect(loaded.findings.filter((finding) => finding.code === mistake.code)).toEqual([])
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
