import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Findings } from '../../src/config/findings.ts'
import { readLegalBasis } from '../../src/config/legal-basis.ts'
import { COUNTRIES, readPlace } from '../../src/config/places.ts'
import type { RulesFile } from '../../src/config/rules-file.ts'
import { parseYaml } from '../../src/config/yaml.ts'
import { EEA, basisFor, chainOf, strictness } from '../../src/domain/basis.ts'
import type { PurposeId } from '../../src/domain/ids.ts'
import type { BasisTable } from '../../src/domain/policy.ts'
import { GOOD, load } from './fixture.ts'

const A = 'improve.statistics' as PurposeId
const B = 'personalise' as PurposeId

type Rows = Readonly<Record<string, Readonly<Record<string, string>>>>

/** Only the table, for the many of the properties; undefined when anything objects to it. */
function accepted(rows: Rows): BasisTable | undefined {
  const yaml = parseYaml('rules.yaml', JSON.stringify({ legal_basis: rows }))
  const findings = new Findings(yaml)
  const purposes = [A, B].map((id, index) => ({ id, index, about: '', clause: undefined, dpv: undefined }))
  const basis = readLegalBasis(yaml.value as RulesFile, purposes, findings)
  return findings.list.length === 0 ? basis.table : undefined
}

/** The table of a file with these rows, and the codes of what objects to it. */
function table(rows: Rows): { readonly table: BasisTable | undefined; readonly codes: readonly string[] } {
  const before = GOOD.slice(0, GOOD.indexOf('legal_basis:'))
  const after = GOOD.slice(GOOD.indexOf('recipients:'))
  const { draft, findings } = load(`${before}legal_basis: ${JSON.stringify(rows)}\n${after}`)
  return { table: draft?.basis, codes: findings.map((finding) => finding.code) }
}


describe('who is weaker than whom', () => {
  test.each<[string, Rows, string | undefined]>([
    ['a country stricter than its group', { EEA: { [A]: 'contract' }, DE: { [A]: 'consent' } }, undefined],
    ['a country weaker than its group', { EEA: { [A]: 'consent' }, DE: { [A]: 'opt_out' } }, 'BASIS-WEAKER'],
    ['open and open are equal', { EEA: { [A]: 'legitimate_interest' }, DE: { [A]: 'contract' } }, undefined],
    ['a part weaker than its country', { US: { [A]: 'consent' }, 'US-CA': { [A]: 'opt_out' } }, 'BASIS-WEAKER'],
    ['a part of no country in the table', { 'US-CA': { [A]: 'opt_out' } }, undefined],
    ['a country weaker than its own group', { CH: { in: 'ALPS', [A]: 'opt_out' }, ALPS: { [A]: 'consent' } }, 'BASIS-WEAKER'],
    ['a group weaker than the EEA of its member', { EEA: { [A]: 'consent' }, AT: { in: 'ALPS' }, ALPS: { [A]: 'contract' } }, 'BASIS-WEAKER'],
    ['a country outside the EEA is not bound by it', { EEA: { [A]: 'consent' }, CH: { [A]: 'contract' } }, undefined],
    ['a country that puts itself into the EEA is', { EEA: { [A]: 'consent' }, CH: { in: 'EEA', [A]: 'contract' } }, 'BASIS-WEAKER'],
    ['default as strict as the strictest', { EEA: { [A]: 'contract' }, DE: { [A]: 'consent' }, default: { [A]: 'consent' } }, undefined],
    ['default weaker than one', { EEA: { [A]: 'contract' }, DE: { [A]: 'consent' }, default: { [A]: 'opt_out' } }, 'BASIS-DEFAULT-WEAKER'],
    ['default opens what a country leaves closed', { FR: { [A]: 'consent' }, default: { [A]: 'consent', [B]: 'consent' } }, 'BASIS-DEFAULT-WEAKER'],
    ['default opens what the group of the country lists', { FR: { [A]: 'consent' }, EEA: { [A]: 'consent', [B]: 'consent' }, default: { [A]: 'consent', [B]: 'consent' } }, undefined],
    ['a group on a group', { EEA: { in: 'ALPS' }, ALPS: {} }, 'GROUP'],
    ['a group with the name of a country', { AT: { in: 'DE' }, DE: {} }, 'GROUP'],
  ])('%s', (_, rows, code) => {
    const found = table(rows).codes.filter((one) => one.startsWith('BASIS-') || one === 'GROUP')
    expect(found).toEqual(code === undefined ? [] : [code])
  })

  test('UK is GB, in the table and when asked', () => {
    const made = table({ UK: { [A]: 'consent' } }).table as BasisTable
    expect(basisFor(made, 'GB', A)?.basis).toBe('consent')
    expect(basisFor(made, 'UK', A)?.basis).toBe('consent')
  })
})

describe('removing an entry', () => {
  const places = ['EEA', 'DE', 'DE-BY', 'AT', 'FR', 'GB', 'US', 'US-CA', 'ALPS', 'default']
  const row = fc.record({ [A]: fc.constantFrom('contract', 'opt_out', 'consent', 'consent', 'forbidden'), [B]: fc.constantFrom('legitimate_interest', 'consent', 'consent', 'forbidden') }, { requiredKeys: [] })
  const rows = fc.uniqueArray(fc.tuple(fc.constantFrom(...places), row), { maxLength: 6, selector: ([place]) => place }).map((list): Rows => {
    const made = Object.fromEntries(list) as Record<string, Record<string, string>>
    const { ALPS, AT, ...rest } = made
    return ALPS === undefined || AT === undefined ? { ...rest, ...(AT === undefined ? {} : { AT }) } : { ...rest, ALPS, AT: { ...AT, in: 'ALPS' } }
  })
  const countries = [undefined, 'DE', 'DE-BY', 'DE-HE', 'AT', 'FR', 'GB', 'US', 'US-CA', 'US-TX', 'BR', 'CH']
  const closed = strictness('forbidden')
  const level = (made: BasisTable, country: string | undefined, purpose: PurposeId): number => {
    const entry = basisFor(made, country, purpose)
    // Open without a yes is one level, with an objection or without (the order that the rules language gives).
    return entry === undefined ? closed : entry.basis === 'legitimate_interest' ? strictness('contract') : strictness(entry.basis)
  }
  const without = (made: BasisTable, place: string): BasisTable => ({
    entries: new Map([...made.entries].filter(([key]) => key !== place)),
    groups: new Map([...made.groups].filter(([key]) => key !== place)),
  })

  test('never widens what a country gets, except back to what its own group says', () => {
    let tried = 0
    fc.assert(fc.property(rows, (made) => {
      const before = accepted(made)
      if (before === undefined) return
      tried += 1
      for (const place of before.entries.keys()) {
        const after = without(before, place)
        for (const country of countries) {
          for (const purpose of [A, B]) {
            if (level(after, country, purpose) >= level(before, country, purpose)) continue
            // The one way: a stricter entry of the country's own, or one that it had through a group it named, is gone, and what
            // is left is what a wider group of the same country says - never `default`, never open for want of an entry.
            const chain = country === undefined ? [] : chainOf(before, country)
            const farther = chain.slice(chain.indexOf(place) + 1).filter((one) => chainOf(after, country as string).includes(one))
            const source = chain.find((one) => before.entries.get(one)?.has(purpose) === true)
            expect(chain, `${country} ${purpose} without ${place}`).toContain(place)
            expect(source === place || before.groups.get(place)?.includes(source ?? '') === true).toBe(true)
            expect(farther.some((one) => after.entries.get(one)?.get(purpose) === basisFor(after, country, purpose))).toBe(true)
          }
        }
      }
    }), { numRuns: 4_000 })
    expect(tried).toBeGreaterThan(500)
  })

  test('default least of all: without it every place gets the same or nothing', () => {
    fc.assert(fc.property(rows, (made) => {
      const before = accepted(made)
      if (before === undefined) return
      for (const country of countries) for (const purpose of [A, B]) expect(level(without(before, 'default'), country, purpose)).toBeGreaterThanOrEqual(level(before, country, purpose))
    }), { numRuns: 1_000 })
  })
})

describe('places', () => {
  test('the countries are those of ISO 3166-1', () => {
    expect(COUNTRIES.size).toBe(249)
    // The runtime's own names are the oracle: a code without a name is none. It also names withdrawn and reserved codes.
    const names = new Intl.DisplayNames('en', { type: 'region', fallback: 'none' })
    const named = new Set<string>()
    for (let a = 65; a <= 90; a++) for (let b = 65; b <= 90; b++) if (names.of(String.fromCharCode(a, b)) !== undefined) named.add(String.fromCharCode(a, b))
    expect([...COUNTRIES].filter((code) => !named.has(code))).toEqual([])
    for (const member of EEA) expect(COUNTRIES.has(member)).toBe(true)
  })

  test.each([['DE', 'DE'], ['UK', 'GB'], ['UK-ENG', 'GB-ENG'], ['US-CA', 'US-CA'], ['de', undefined], ['EN', undefined], ['XX', undefined], ['EU', undefined], ['USA', undefined], ['US-', undefined], ['US-CALI', undefined]])('%s is %s', (text, place) => {
    expect(readPlace(text)).toBe(place)
  })
})
