/**
 * What a legal basis lets happen, found by asking the gate for everybody who can be there and whatever they can have said: the oracle
 * for "wider" in the tests of legal_basis tables. Nothing in it knows an order of bases.
 */
import { Gate, basisFor, gate, operatorFieldsAllowed, outputBasis } from '../../src/domain/basis.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import type { PurposeId } from '../../src/domain/ids.ts'
import { BASES, type BasisEntry, type BasisTable, type Output } from '../../src/domain/policy.ts'

/** Somebody, or nobody, with an answer to the one purpose there is. */
export interface Person {
  readonly name: string
  readonly decision: Decision
}

/** The purpose's answer -> yes, yes for the site, no. Asking, an expired and an invalidated yes are the same as none. */
const ANSWERS: Readonly<Record<string, readonly [yes: number, site: number, no: number]>> = {
  yes: [1, 1, 0], 'yes for the site': [0, 1, 0], 'not set': [0, 0, 0], refused: [0, 0, 1],
}

export const PEOPLE: readonly Person[] = [
  ...Object.entries(ANSWERS).flatMap(([answer, [yes, siteYes, no]]) => [true, false].map((told) => ({
    name: `${answer}${told ? '' : ', no notice'}`, decision: { ...nobody(), known: true, collection: true, yes, siteYes, no, notice: told ? 1 : 0 },
  }))),
  { name: 'nobody known', decision: { ...nobody(), collection: true } },
  { name: 'quarantine after a no', decision: { ...nobody(), collection: true, no: 1 } },
  { name: 'quarantine after a yes for the site', decision: { ...nobody(), collection: true, siteYes: 1 } },
  { name: 'device setting off', decision: nobody() },
]

/** An output of the one purpose, which stays on the site or not, and runs on a law against the device setting or not. */
const OUTPUTS: readonly Output[] = (['any', 'site'] as const).flatMap((reach) => [undefined, 'a law'].map((despiteDeviceSetting) => ({ purpose: { index: 0 }, reach, despiteDeviceSetting }) as unknown as Output))

/**
 * For whom `next` lets out more than `old`: opens what was closed, takes the finer branch, lets operator fields out, or sends what a
 * condition that cannot be evaluated held back. Undefined entries are closed.
 * @param withOperators  whether outputs of the purpose can have fields that name an operator; not beside a contract (CONTRACT-OPERATOR)
 */
export function widenedFor(old: BasisEntry | undefined, next: BasisEntry | undefined, withOperators: boolean): readonly string[] {
  const key = `${old?.basis}|${next?.basis}|${withOperators}`
  let known = widened.get(key)
  if (known === undefined) widened.set(key, (known = compared(old, next, withOperators)))
  return known
}
const widened = new Map<string, readonly string[]>()

function compared(old: BasisEntry | undefined, next: BasisEntry | undefined, withOperators: boolean): readonly string[] {
  return PEOPLE.filter(({ decision }) => OUTPUTS.some((output) => {
    const [before, after] = [gate(output, old, decision), gate(output, next, decision)]
    if (after !== before || next === undefined || old === undefined || after === Gate.closed) return after > before
    if (withOperators && operatorFieldsAllowed(output, next, decision) && !operatorFieldsAllowed(output, old, decision)) return true
    return next.basis === 'legal_obligation' && old.basis !== 'legal_obligation'
  })).map(({ name }) => name)
}

export const entryOf = (basis: string): BasisEntry => ({ basis: basis as BasisEntry['basis'], law: 'L', assessment: 'A', employeeConsent: 'E' })
export const ENTRIES: readonly BasisEntry[] = BASES.map(entryOf)

/** Said yes, and was not given the notice of the policy in force: a yes opens consent and the missing notice closes opt_out. */
export const YES_UNTOLD: ReadonlySet<string> = new Set(['yes, no notice', 'yes for the site, no notice'])

/** The basis for a machine of one country and an operator of another. */
export function basisOf(table: BasisTable, purpose: PurposeId, machine: string | undefined, operator: string | undefined): BasisEntry | undefined {
  return operator === undefined ? basisFor(table, machine, purpose) : outputBasis(table, { purpose: { id: purpose, index: 0 } } as Output, machine, operator)
}
