/**
 * `purposes:` and `legal_basis:` of the rules file -> Purpose[] and BasisTable, with the rules that keep a missing entry from
 * ever widening anything (rules-language 3.1).
 */
import { Strictness, chainOf, opensMore, strictness } from '../domain/basis.ts'
import type { PurposeId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { BasisEntry, BasisTable, Purpose } from '../domain/policy.ts'
import type { Findings, Where } from './findings.ts'
import { suggestion } from './nearest.ts'
import { placeHint, readPlace } from './places.ts'
import type { BasisText, Named, RulesFile } from './rules-file.ts'
import type { Path } from './yaml.ts'

/**
 * The purposes in file order. A file without `purposes:` has those that its outputs name.
 */
export function readPurposes(rules: RulesFile, findings: Findings): Purpose[] {
  if (rules.purposes !== undefined) {
    return Object.entries(rules.purposes).map(([id, text], index) => ({
      id: id as PurposeId, index, about: text.about, clause: text.clause, dpv: text.dpv,
      ...(text.replaces === undefined ? {} : { replaces: readReplaced(rules, id, [text.replaces].flat(), findings) }),
    }))
  }
  const ids = [...new Set(Object.values(rules.outputs).map((output) => output.purpose))]
  if (ids.length > LIMITS.purposes) findings.add('LIMIT', { path: ['outputs'], of: 'key' }, `The outputs name ${ids.length} purposes; at most ${LIMITS.purposes} are possible.`)
  return ids.slice(0, LIMITS.purposes).map((id, index) => ({ id: id as PurposeId, index, about: '', clause: undefined, dpv: undefined }))
}

/** A purpose that is still there has answers of its own: what replaces it would have two. */
function readReplaced(rules: RulesFile, id: string, replaced: readonly string[], findings: Findings): PurposeId[] {
  for (const old of replaced) {
    if (rules.purposes?.[old] === undefined) continue
    findings.add('REPLACES', { path: ['purposes', id, 'replaces'] }, `"${old}" is still defined, so "${id}" cannot stand for it.`, old === id ? 'Name the purpose of the earlier rules.' : `Remove the purpose "${old}", or remove it here.`)
  }
  return [...new Set(replaced)] as PurposeId[]
}

export function readBasis(text: BasisText): BasisEntry {
  if (typeof text === 'string') return { basis: text, law: undefined, assessment: undefined, employeeConsent: undefined }
  return { basis: text.basis, law: text.law, assessment: text.assessment, employeeConsent: text.employee_consent }
}

export interface LegalBasis {
  readonly table: BasisTable
  /** Place in the table -> how the file writes it (`GB` may stand as `UK`). */
  readonly written: ReadonlyMap<string, string>
}

export function readLegalBasis(rules: RulesFile, purposes: readonly Purpose[], findings: Findings): LegalBasis {
  const rows = rules.legal_basis ?? {}
  const ownGroups = new Set(Object.values(rows).flatMap((row) => groupsOf(row)).filter((group) => group !== 'EEA'))
  const entries = new Map<string, ReadonlyMap<PurposeId, BasisEntry>>()
  const groups = new Map<string, readonly string[]>()
  const written = new Map<string, string>()
  for (const [key, row] of Object.entries(rows)) {
    const where: Path = ['legal_basis', key]
    const country = readPlace(key)
    const place = country ?? (key === 'default' || key === 'EEA' || (ownGroups.has(key) && !isCode(key)) ? key : undefined)
    if (place === undefined) {
      findings.add('UNKNOWN-PLACE', { path: where, of: 'key' }, `"${key}" is no ISO 3166 code, not EEA, not default, and no country says \`in: ${key}\`.`, placeHint(key))
      continue
    }
    if (written.has(place)) {
      findings.add('DUPLICATE', { path: where, of: 'key' }, `"${key}" and "${written.get(place)}" are the same place.`, 'Merge the two entries.')
      continue
    }
    written.set(place, key)
    entries.set(place, readRow(row, where, purposes, findings))
    const own = groupsOf(row)
    if (own.length === 0) continue
    if (country === undefined) findings.add('GROUP', { path: [...where, 'in'] }, `"${key}" is no country, and only countries and their parts belong to groups.`, 'Write `in:` at each country.')
    else groups.set(place, own)
    for (const group of own) {
      if (isCode(group) || group === 'default') findings.add('GROUP', { path: [...where, 'in'] }, `"${group}" cannot be the name of a group.`, 'Use a name that is no country code.')
      else if (group !== 'EEA' && !(group in rows)) findings.add('GROUP', { path: [...where, 'in'] }, `The group "${group}" has no entry in \`legal_basis:\`.`, `Add one, or remove \`in: ${group}\`.`)
    }
  }
  const basis = { table: { entries, groups }, written }
  checkStrictness(basis, findings)
  return basis
}

function groupsOf(row: Named<unknown>): string[] {
  const groups = row.in
  return typeof groups === 'string' ? [groups] : Array.isArray(groups) ? (groups as string[]) : []
}

function isCode(text: string): boolean {
  return /^[A-Za-z]{2}(-|$)/.test(text)
}

function readRow(row: Named<unknown>, where: Path, purposes: readonly Purpose[], findings: Findings): ReadonlyMap<PurposeId, BasisEntry> {
  const entries = new Map<PurposeId, BasisEntry>()
  for (const [key, text] of Object.entries(row)) {
    if (key === 'in') continue
    const purpose = purposes.find((one) => one.id === key)
    if (purpose === undefined) findings.add('UNKNOWN-PURPOSE', { path: [...where, key], of: 'key' }, `There is no purpose "${key}".`, suggestion(key, purposes.map((one) => one.id)))
    else entries.set(purpose.id, readBasis(text as BasisText))
  }
  return entries
}

/** For comparing entries legitimate_interest counts as open, as the other bases that need no yes do (rules-language 3.1). */
export function comparable(entry: BasisEntry): number {
  const level = strictness(entry.basis)
  return level === Strictness.interest ? Strictness.open : level
}

/**
 * An entry may not be weaker than what it stands in front of, and `default` not weaker than any entry: so a country that loses
 * its entry, its group or its subdivision never gets more than the file said somewhere for it.
 */
function checkStrictness({ table, written }: LegalBasis, findings: Findings): void {
  for (const place of table.entries.keys()) {
    if (readPlace(place) === undefined) continue
    const chain = [...new Set(chainOf(table, place))].filter((one) => table.entries.has(one))
    for (const [at, nearer] of chain.entries()) {
      for (const [purpose, entry] of table.entries.get(nearer) ?? []) {
        for (const farther of chain.slice(at + 1)) {
          const other = table.entries.get(farther)?.get(purpose)
          if (other === undefined || comparable(entry) >= comparable(other)) continue
          findings.add('BASIS-WEAKER', { path: ['legal_basis', written.get(nearer) ?? nearer, purpose] },
            `"${purpose}" is ${entry.basis} in ${nearer}, but ${other.basis} in ${farther}, which ${place} belongs to.`, `Write ${other.basis} here, or something stricter.`)
        }
      }
    }
  }
  for (const [purpose, entry] of table.entries.get('default') ?? []) checkDefault(table, purpose, entry, findings)
}

/**
 * `default` takes the place of any entry that is taken out, so here the bases that need no yes are told apart: a contract instead of a
 * legitimate interest would open for who objected. What a place does not list is closed there; `default` must not open it either.
 */
function checkDefault(table: BasisTable, purpose: PurposeId, entry: BasisEntry, findings: Findings): void {
  const where: Where = { path: ['legal_basis', 'default', purpose] }
  for (const [place, row] of table.entries) {
    if (place === 'default') continue
    const other = row.get(purpose)
    if (other !== undefined && opensMore(entry.basis, other.basis)) {
      findings.add('BASIS-DEFAULT-WEAKER', where, `"${purpose}" is ${entry.basis} by default, but ${other.basis} in ${place}.`, `Write ${other.basis} here, or something stricter.`)
      return
    }
    if (other !== undefined || entry.basis === 'forbidden') continue
    const chain = place === 'EEA' ? [place] : readPlace(place) === undefined ? undefined : chainOf(table, place)
    if (chain !== undefined && !chain.some((one) => table.entries.get(one)?.has(purpose) === true)) {
      findings.add('BASIS-DEFAULT-WEAKER', where, `"${purpose}" is ${entry.basis} by default, but closed in ${place}, whose entry does not list it.`, `List "${purpose}" in ${place} too, or take it out here.`)
      return
    }
  }
}
