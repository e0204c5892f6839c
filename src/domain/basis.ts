/**
 * When an output is open (rules-language 3.1, 3.2). Pure functions over the checked policy.
 */
import type { Decision } from './consent.ts'
import type { BasisEntry, BasisTable, Basis, Output } from './policy.ts'
import type { PurposeId } from './ids.ts'

/** Open to anybody < opt_out < consent < forbidden. */
export const Strictness = { open: 0, interest: 1, opt_out: 2, consent: 3, forbidden: 4 } as const

const STRICTNESS: Readonly<Record<Basis, number>> = {
  contract: Strictness.open,
  legal_obligation: Strictness.open,
  vital_interest: Strictness.open,
  public_interest: Strictness.open,
  legitimate_interest: Strictness.interest,
  opt_out: Strictness.opt_out,
  consent: Strictness.consent,
  forbidden: Strictness.forbidden,
}

/** 0 (open) to 4 (forbidden). For comparing entries, `legitimate_interest` counts as open (rules-language 3.1). */
export function strictness(basis: Basis): number {
  return STRICTNESS[basis]
}

/**
 * The same order, with those that need no yes told apart by what they let out: a legal obligation also when a condition cannot be
 * evaluated (rules-language 4.7) and with the device setting off (3.5), the others after a no too, a legitimate interest only without one.
 * A basis leaves open nothing that one of a lower step does not, but for this: a yes opens `consent` without the notice that `opt_out` asks for.
 */
const STEP: Readonly<Record<Basis, number>> = {
  legal_obligation: 0,
  vital_interest: 1,
  public_interest: 1,
  contract: 1,
  legitimate_interest: 2,
  opt_out: 3,
  consent: 4,
  forbidden: 5,
}

/** Whether something leaves on `one` for somebody for whom it does not on `other`. */
export function opensMore(one: Basis, other: Basis): boolean {
  return STEP[one] < STEP[other]
}

/** [EEA Agreement] the 27 member states of the EU, Iceland, Liechtenstein and Norway. */
export const EEA: ReadonlySet<string> = new Set([
  'AT', 'BE', 'BG', 'CY', 'CZ', 'DE', 'DK', 'EE', 'ES', 'FI', 'FR', 'GR', 'HR', 'HU', 'IE', 'IT', 'LT', 'LU', 'LV', 'MT', 'NL',
  'PL', 'PT', 'RO', 'SE', 'SI', 'SK', 'IS', 'LI', 'NO',
])

/** Places whose entries count for a country, nearest first: subdivision, country, its own groups, EEA. */
export function chainOf(table: BasisTable, country: string): readonly string[] {
  const code = country.toUpperCase().replace(/^UK(?=$|-)/, 'GB')
  const nation = code.slice(0, 2)
  const chain = code === nation ? [nation] : [code, nation]
  for (const place of [...chain]) chain.push(...(table.groups.get(place) ?? []))
  if (EEA.has(nation)) chain.push('EEA')
  return chain
}

/**
 * The basis of a purpose in a country, or undefined when the purpose is closed there.
 * `default` serves only a machine whose country is unknown or has no entry at all: a known country whose chain does not
 * list the purpose is closed, so that removing an entry never widens what a country gets.
 */
export function basisFor(table: BasisTable, country: string | undefined, purpose: PurposeId): BasisEntry | undefined {
  if (country !== undefined && country !== '') {
    const chain = chainOf(table, country).filter((place) => table.entries.has(place))
    if (chain.length > 0) {
      for (const place of chain) {
        const entry = table.entries.get(place)?.get(purpose)
        if (entry !== undefined) return entry
      }
      return undefined
    }
  }
  return table.entries.get('default')?.get(purpose)
}

/** The stricter of two, where undefined (not listed) is closed and therefore the strictest. */
export function stricter(one: BasisEntry | undefined, other: BasisEntry | undefined): BasisEntry | undefined {
  if (one === undefined || other === undefined) return undefined
  return opensMore(one.basis, other.basis) ? other : one
}

/** Basis of an output for a machine's country and, when the person has one, the operator's: the stricter. */
export function outputBasis(table: BasisTable, output: Output, machineCountry: string | undefined, operatorCountry: string | undefined): BasisEntry | undefined {
  if (output.basis !== undefined) return output.basis
  const here = basisFor(table, machineCountry, output.purpose.id)
  if (operatorCountry === undefined || operatorCountry === '' || operatorCountry === machineCountry) return here
  return stricter(here, basisFor(table, operatorCountry, output.purpose.id))
}

/** How an output stands for one message. */
export const Gate = {
  closed: 0,
  /** Open; pairs take their `no_consent` branch. */
  open: 1,
  /** Open with the operator's valid yes; pairs take their `consent` branch. */
  yes: 2,
} as const
export type GateState = (typeof Gate)[keyof typeof Gate]

/**
 * Whether an output is open for a decision (rules-language 3.2 to 3.5).
 * @param basis  what `outputBasis` gave; undefined is closed
 */
export function gate(output: Output, basis: BasisEntry | undefined, decision: Decision): GateState {
  if (basis === undefined) return Gate.closed
  const bit = 1 << output.purpose.index
  // [design 2] `local_only` is a no to everything off the site, whatever the basis asks for.
  const isLocal = output.reach !== 'site' && (decision.siteYes & ~decision.yes & bit) !== 0
  const valid = decision.known && ((output.reach === 'site' ? decision.siteYes : decision.yes) & bit) !== 0 && (decision.no & bit) === 0
  switch (basis.basis) {
    case 'forbidden':
      return Gate.closed
    case 'consent':
      return valid ? Gate.yes : Gate.closed
    case 'opt_out':
      // Open only for a known, signed-on operator who was given the notice and did not say no.
      if (!decision.known || (decision.notice & bit) === 0 || (decision.no & bit) !== 0 || isLocal) return Gate.closed
      return valid ? Gate.yes : Gate.open
    case 'legitimate_interest':
      // [GDPR Art. 21(1)] open unless objected; a refusal or withdrawal counts as an objection, never as less.
      if ((decision.no & bit) !== 0 || isLocal) return Gate.closed
      return valid ? Gate.yes : Gate.open
    default:
      return valid ? Gate.yes : Gate.open
  }
}

/**
 * Whether fields that identify an operator may be in this output at all.
 * Nobody known: dropped in every output (rules-language 3.4). Contract: never (4.3).
 */
export function operatorFieldsAllowed(output: Output, basis: BasisEntry, decision: Decision): boolean {
  if (basis.basis === 'contract') return false
  if (decision.known) return true
  // Device setting off or unknown: only a legal_obligation output with its own law differs (3.5).
  return !decision.collection && basis.basis === 'legal_obligation' && output.despiteDeviceSetting !== undefined
}
