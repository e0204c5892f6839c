/**
 * Taking something out of `legal_basis:` never widens silently. What is judged is what opens, for everybody who can be at the machine and
 * in every country of ISO 3166-1, not an order of the bases.
 *
 * `PARAPET_RUNS=50 npx vitest run test/rules-change` is the long form; PARAPET_SEED repeats a run.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Findings } from '../../src/config/findings.ts'
import { readLegalBasis } from '../../src/config/legal-basis.ts'
import { COUNTRIES } from '../../src/config/places.ts'
import { loadRules } from '../../src/config/rules.ts'
import type { RulesFile } from '../../src/config/rules-file.ts'
import { parseYaml } from '../../src/config/yaml.ts'
import { differenceOf } from '../../src/difference.ts'
import { chainOf, opensMore, stricter } from '../../src/domain/basis.ts'
import type { PurposeId } from '../../src/domain/ids.ts'
import { BASES, type BasisTable, type Policy } from '../../src/domain/policy.ts'
import { loadSchemas, type Schemas } from '../../src/minimise/descriptor.ts'
import { GOOD, SCHEMAS, TODAY } from '../config/fixture.ts'
import { createDice, type Dice } from '../minimise/random/dice.ts'
import { basisOf, entryOf, ENTRIES, widenedFor, YES_UNTOLD } from './tables.ts'

const RUNS = Number(process.env['PARAPET_RUNS'] ?? 1)
const SEED = Number(process.env['PARAPET_SEED'] ?? 20_261_123)

type Rows = Record<string, Record<string, unknown>>

const A = 'improve.statistics' as PurposeId
const B = 'personalise' as PurposeId

/** The table of these rows, or the codes of what objects to it. */
function read(rows: Rows): BasisTable | readonly string[] {
  const yaml = parseYaml('rules.yaml', JSON.stringify({ legal_basis: rows }))
  const findings = new Findings(yaml)
  const purposes = [A, B].map((id, index) => ({ id, index, about: '', clause: undefined, dpv: undefined }))
  const { table } = readLegalBasis(yaml.value as RulesFile, purposes, findings)
  return findings.list.length === 0 ? table : findings.list.map((one) => one.code)
}

function isTable(made: BasisTable | readonly string[]): made is BasisTable {
  return !Array.isArray(made)
}

/** Every table with one thing less: a place, or one purpose of a place. */
function* shorter(rows: Rows): Iterable<{ readonly without: string; readonly rows: Rows }> {
  for (const [place, row] of Object.entries(rows)) {
    yield { without: place, rows: Object.fromEntries(Object.entries(rows).filter(([name]) => name !== place)) }
    for (const purpose of Object.keys(row)) {
      yield { without: `${place}.${purpose}`, rows: { ...rows, [place]: Object.fromEntries(Object.entries(row).filter(([name]) => name !== purpose)) } }
    }
  }
}

const PARTS = ['DE-BY', 'US-CA', 'US-TX', 'GB-ENG']
const EVERYWHERE: readonly (string | undefined)[] = [...COUNTRIES, ...PARTS, undefined]

/** Countries that the tables here treat apart, and one for each way of having no entry. */
const APART: readonly (string | undefined)[] = ['DE', 'DE-BY', 'AT', 'FR', 'ES', 'CH', 'GB', 'US', 'US-CA', 'US-TX', 'BR', undefined]

interface Widening {
  readonly country: string
  readonly purpose: string
  readonly from: string
  readonly to: string
  readonly people: readonly string[]
  /** An entry of the country's own, or one it had through a group it named, is gone, and another that the file has for it counts. */
  readonly isOwnGroup: boolean
}

function wideningsOf(old: BasisTable, next: BasisTable, purposes: readonly PurposeId[], countries = EVERYWHERE): readonly Widening[] {
  const found: Widening[] = []
  for (const purpose of purposes) {
    const withOperators = ![...old.entries.values()].some((row) => row.get(purpose)?.basis === 'contract')
    for (const country of countries) {
      const [was, is] = [basisOf(old, purpose, country, undefined), basisOf(next, purpose, country, undefined)]
      const people = widenedFor(was, is, withOperators)
      if (people.length === 0) continue
      const chain = country === undefined ? [] : chainOf(old, country)
      const isOwnGroup = country !== undefined && chainOf(next, country).some((place) => chain.includes(place) && next.entries.get(place)?.get(purpose) !== undefined)
      found.push({ country: country ?? 'unknown', purpose, from: was?.basis ?? 'closed', to: is?.basis ?? 'closed', people, isOwnGroup })
    }
  }
  return found
}

/** What nobody wrote down for the country: neither what its own wider group says, nor a consent whose yes was given. */
function isUnsaid({ isOwnGroup, people, from, to }: Widening): boolean {
  return !isOwnGroup && !(from === 'opt_out' && to === 'consent' && people.every((name) => YES_UNTOLD.has(name)))
}

describe('the order of the bases', () => {
  test('is what the gate does: whatever opens on a stricter one opens on a weaker one', () => {
    for (const one of ENTRIES) {
      for (const other of ENTRIES) {
        const more = widenedFor(other, one, one.basis !== 'contract' && other.basis !== 'contract')
        const told = more.filter((name) => !YES_UNTOLD.has(name))
        expect(opensMore(one.basis, other.basis), `${one.basis} against ${other.basis}: ${more.join('; ')}`).toBe(told.length > 0)
        if (more.length !== told.length && told.length === 0) expect([one.basis, other.basis]).toEqual(['consent', 'opt_out'])
      }
    }
  })

  // Rules-language 3.1.
  test('is forbidden > consent > opt_out > open', () => {
    for (const open of BASES.slice(0, 5)) expect([opensMore('consent', 'forbidden'), opensMore('opt_out', 'consent'), opensMore(open, 'opt_out')]).toEqual([true, true, true])
  })

  test('of two countries the one that lets out less counts, whichever is the machine\'s', () => {
    for (const one of [...ENTRIES, undefined]) {
      for (const other of [...ENTRIES, undefined]) {
        const made = stricter(one, other)
        for (const each of [one, other]) expect(widenedFor(each, made, false).filter((name) => !YES_UNTOLD.has(name)), `${one?.basis} and ${other?.basis}`).toEqual([])
      }
    }
  })
})

describe('a default that would take the place of something stricter', () => {
  test.each<[string, string, string, string | undefined]>([
    ['a contract instead of a legitimate interest opens for who objected', 'legitimate_interest', 'contract', 'BASIS-DEFAULT-WEAKER'],
    ['so does a public interest', 'legitimate_interest', 'public_interest', 'BASIS-DEFAULT-WEAKER'],
    ['so does a vital interest', 'legitimate_interest', 'vital_interest', 'BASIS-DEFAULT-WEAKER'],
    ['so does a legal obligation', 'legitimate_interest', 'legal_obligation', 'BASIS-DEFAULT-WEAKER'],
    ['a legal obligation lets by what a condition in error holds back', 'contract', 'legal_obligation', 'BASIS-DEFAULT-WEAKER'],
    ['a legal obligation has its own way past the device setting', 'public_interest', 'legal_obligation', 'BASIS-DEFAULT-WEAKER'],
    ['a legitimate interest instead of an opt-out opens for nobody known', 'opt_out', 'legitimate_interest', 'BASIS-DEFAULT-WEAKER'],
    ['an opt-out instead of consent opens for who was not asked', 'consent', 'opt_out', 'BASIS-DEFAULT-WEAKER'],
    ['anything instead of forbidden', 'forbidden', 'consent', 'BASIS-DEFAULT-WEAKER'],
    ['a legitimate interest instead of a contract', 'contract', 'legitimate_interest', undefined],
    ['a contract instead of a legal obligation', 'legal_obligation', 'contract', undefined],
    ['consent instead of an opt-out', 'opt_out', 'consent', undefined],
    ['the same', 'legitimate_interest', 'legitimate_interest', undefined],
  ])('%s', (_, entry, byDefault, code) => {
    for (const place of ['EEA', 'DE', 'US-CA']) {
      const made = read({ [place]: { [A]: entry }, default: { [A]: byDefault } })
      expect(isTable(made) ? undefined : made[0], place).toBe(code)
    }
  })
})

describe('a table with one entry less', () => {
  const weighted = ['contract', 'legal_obligation', 'vital_interest', 'public_interest', 'legitimate_interest', 'legitimate_interest', 'opt_out', 'opt_out', 'consent', 'consent', 'consent', 'forbidden']
  const places = ['EEA', 'DE', 'DE-BY', 'AT', 'FR', 'CH', 'GB', 'US', 'US-CA', 'ALPS', 'NORTH', 'default', 'default']
  const groups: Readonly<Record<string, readonly string[]>> = { AT: ['ALPS'], CH: ['ALPS', 'EEA'], DE: ['NORTH', 'ALPS'], GB: ['NORTH'], 'DE-BY': ['ALPS'] }

  /** Bases lean towards strict ones as places come later, so that many tables are accepted. */
  function randomRows(dice: Dice): Rows {
    const rows: Rows = {}
    const level = { [A]: dice.below(weighted.length), [B]: dice.below(weighted.length) }
    const basis = (purpose: PurposeId, place: string): string => weighted[place === 'default' ? Math.max(level[purpose] ?? 0, dice.below(weighted.length)) : dice.chance(0.7) ? (level[purpose] ?? 0) : dice.below(weighted.length)] as string
    for (const place of dice.shuffle(places).slice(0, 1 + dice.below(6))) {
      rows[place] = Object.fromEntries([A, B].flatMap((purpose) => (dice.chance(0.75) ? [[purpose, basis(purpose, place)]] : [])))
    }
    for (const [place, names] of Object.entries(groups)) {
      const own = names.filter((name) => (name in rows || name === 'EEA') && dice.chance(0.6))
      if (rows[place] !== undefined && own.length > 0) rows[place] = { ...rows[place], in: own }
    }
    for (const name of ['ALPS', 'NORTH']) if (!Object.values(rows).some((row) => (row['in'] as string[] | undefined)?.includes(name))) delete rows[name]
    return rows
  }

  const tables = 400 * RUNS
  test(`is refused, or opens nothing that nobody wrote down for the country (${tables} random tables)`, { timeout: 30_000 * RUNS }, () => {
    const tally = { accepted: 0, shorter: 0, refused: 0, ownGroup: 0, yesUntold: 0 }
    for (let at = 0; at < tables; at++) {
      const rows = randomRows(createDice(SEED + at))
      const old = read(rows)
      if (!isTable(old)) continue
      tally.accepted++
      for (const less of shorter(rows)) {
        const next = read(less.rows)
        tally.shorter++
        if (!isTable(next)) {
          tally.refused++
          continue
        }
        const found = wideningsOf(old, next, [A, B])
        const unsaid = found.filter(isUnsaid)
        if (found.some((one) => one.isOwnGroup)) tally.ownGroup++
        else if (found.length > 0) tally.yesUntold++
        expect(unsaid, `seed ${SEED + at}, ${JSON.stringify(rows)} without ${less.without}`).toEqual([])
        if (at % 4 === 0) expect(pairsUnsaid(old, next), `seed ${SEED + at}, ${JSON.stringify(rows)} without ${less.without}`).toEqual([])
      }
    }
    process.stdout.write(`tables: ${JSON.stringify(tally)}\n`)
    expect(tally.accepted).toBeGreaterThan(tables / 8)
    expect(tally.refused).toBeGreaterThan(tally.shorter / 20)
    expect(tally.ownGroup).toBeGreaterThan(0)
  })

  /** The same for a machine of one country and an operator of another: what opens more must do so for one of the two alone. */
  function pairsUnsaid(old: BasisTable, next: BasisTable): readonly string[] {
    const said = new Set(wideningsOf(old, next, [A, B], APART).map(({ country, purpose }) => `${country} ${purpose}`))
    return [A, B].flatMap((purpose) => APART.flatMap((machine) => APART.flatMap((operator) => {
      if (operator === undefined || said.has(`${machine ?? 'unknown'} ${purpose}`) || said.has(`${operator} ${purpose}`)) return []
      const more = widenedFor(basisOf(old, purpose, machine, operator), basisOf(next, purpose, machine, operator), false).filter((name) => !YES_UNTOLD.has(name))
      return more.length === 0 ? [] : [`${purpose}: ${machine} with ${operator}: ${more.join('; ')}`]
    })))
  }
})

// ------------------------------------------------------------------------------------------------------------- whole files

describe('a whole file with one entry less', () => {
  const root = resolve(import.meta.dirname, '../..')
  const shipped = loadSchemas([join(root, 'proto')])
  const untested = (text: string): string => text.slice(0, text.indexOf('\ntests:') + 1)
  const table = (text: string, rows: string): string => text.replace(/\nlegal_basis:[\s\S]*?\n(?=recipients:)/, `\nlegal_basis:\n${rows}\n`)

  // The table of the rules language's own example, on a file that has its purposes.
  const example = table(untested(GOOD), `  EEA: { service.operate: contract, improve.statistics: { basis: legitimate_interest, assessment: LIA-3 }, personalise: { basis: consent, employee_consent: EC-1 } }
  DE:  { improve.statistics: { basis: consent, employee_consent: EC-1 } }
  US:  { service.operate: contract, improve.statistics: opt_out, personalise: consent }
  default: { service.operate: contract, improve.statistics: consent, personalise: consent }`)

  const files: readonly (readonly [name: string, text: string, schemas: Schemas])[] = [
    ['the shipped rules', untested(readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8')), shipped],
    ['the rules of the scenarios', readFileSync(join(root, 'test/scenarios/rules.yaml'), 'utf8'), shipped],
    ['the example of the rules language', example, SCHEMAS],
    ['with a group of one\'s own', table(example, `  ALPS: { improve.statistics: consent, service.operate: contract }
  CH: { in: ALPS, personalise: consent }
  US: { service.operate: contract, improve.statistics: opt_out, personalise: consent }
  default: { service.operate: contract, improve.statistics: consent, personalise: consent }`), SCHEMAS],
  ]

  test.each(files)('%s', (_, text, schemas) => {
    const load = (rules: string): { readonly policy: Policy | undefined } => {
      const { draft, findings } = loadRules('rules.yaml', rules, { schemas, today: TODAY })
      const errors = findings.filter((one) => one.severity === 'error' && one.code !== 'EMPLOYEE-CONSENT')
      return { policy: errors.length === 0 ? draft : undefined }
    }
    const old = load(text).policy as Policy
    expect(old).toBeDefined()
    const rows = parseYaml('rules.yaml', text).value as { readonly legal_basis: Rows }
    let [tried, reported] = [0, 0]
    for (const less of shorter(rows.legal_basis)) {
      const next = load(text.replace(/\nlegal_basis:[\s\S]*?\n(?=(# -+.*\n\n)?recipients:)/, `\nlegal_basis: ${JSON.stringify(less.rows)}\n`)).policy
      if (next === undefined) continue
      tried++
      const found = wideningsOf(old.basis, next.basis, old.purposes.map((one) => one.id))
      expect(found.filter(isUnsaid), `without ${less.without}`).toEqual([])
      // What the file itself says for the country may come back; it is said to be wider, and so waits for an approval.
      const used = found.filter(({ purpose }) => old.outputs.some((output) => output.purpose.id === purpose && output.basis === undefined))
      const { widened } = differenceOf({ policy: old, accepted: [] }, { policy: next, accepted: [] })
      if (used.length > 0) {
        reported++
        expect(widened, `without ${less.without}: ${JSON.stringify(used)}`).toBeGreaterThan(0)
      }
    }
    expect(tried).toBeGreaterThan(3)
    process.stdout.write(`${_}: ${tried} shorter tables accepted, ${reported} said to be wider\n`)
  })

  test('taking out what is stricter than its own group is said to be wider', () => {
    const of = (text: string): Policy => loadRules('rules.yaml', text, { schemas: SCHEMAS, today: TODAY }).draft as Policy
    const { changes } = differenceOf({ policy: of(example), accepted: [] }, { policy: of(example.replace(/ {2}DE:.*\n/, '')), accepted: [] })
    expect(changes.find((one) => one.stream === 'status')).toMatchObject({ verdict: 'widened', countries: ['DE'] })
  })
})

test('an entry is what it says', () => {
  expect(ENTRIES.map((one) => one.basis)).toEqual(BASES)
  expect(widenedFor(entryOf('consent'), undefined, true)).toEqual([])
  expect(widenedFor(undefined, entryOf('vital_interest'), true).length).toBeGreaterThan(8)
})
