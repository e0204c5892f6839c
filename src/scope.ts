/**
 * What a person says yes to, in a form that can be compared: a yes holds while the active rules are not wider (rules-language 3.3),
 * and making them coarser ends nobody's consent. Stored with each grant, so everything here is JSON.
 */
import { isWider, scopeIn, type Scope } from './consent/scope.ts'
import type { Branch, Policy, Transform } from './domain/policy.ts'
import type { PurposeId } from './domain/ids.ts'
import { isCoarserOrEqual, isDrop } from './minimise/transforms.ts'

export interface GrantedScope extends Scope {
  /** `recipient/stream.field` -> the chains that the outputs of this recipient apply with consent. */
  readonly chains: Readonly<Record<string, readonly (readonly Transform[])[]>>
}

export function grantedScope(policy: Policy, purpose: PurposeId): GrantedScope {
  const chains: Record<string, (readonly Transform[])[]> = {}
  for (const output of policy.outputs) {
    if (output.purpose.id !== purpose) continue
    for (const { stream, fields } of output.streams) {
      for (const rule of fields) {
        const chain = plainChain(rule.consent)
        if (chain !== undefined) (chains[`${output.recipient.id}/${stream.id}.${rule.path}`] ??= []).push(chain)
      }
    }
  }
  return { ...scopeIn(policy, purpose), chains }
}

/** Whether `now` lets out anything that `granted` did not: a recipient, a longer retention, a field, or a finer form of one. */
export function isScopeWider(granted: unknown, now: unknown): boolean {
  const before = granted as Partial<GrantedScope> & Scope
  const after = now as GrantedScope
  if (isWider({ ...before, fields: {} }, { ...after, fields: {} })) return true
  return Object.keys(after.fields).some((path) => {
    if (before.fields[path] === after.fields[path]) return false
    const allowed = before.chains?.[path]
    const wanted = after.chains[path]
    // What cannot be compared counts as wider.
    if (allowed === undefined || wanted === undefined) return true
    return !wanted.every((chain) => allowed.some((other) => isCoarserOrEqual(chain, other)))
  })
}

/** Transforms whose settings are plain JSON and can be compared; others are compared by their text alone. */
function plainChain(branch: Branch): readonly Transform[] | undefined {
  if (branch.kind !== 'chain' || isDrop(branch.chain)) return undefined
  return branch.chain.some(({ name }) => name === 'map' || name === 'flags' || name === 'hide_in') ? undefined : branch.chain
}
