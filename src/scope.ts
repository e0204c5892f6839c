/**
 * What a person says yes to, in a form that can be compared: a yes holds while the active rules are not wider (rules-language 3.3),
 * and making them coarser ends nobody's consent. Stored with each grant, so everything here is JSON.
 */
import { isWider, scopeIn, type Scope } from './consent/scope.ts'
import type { Branch, Keyed, Policy, Transform } from './domain/policy.ts'
import type { PurposeId } from './domain/ids.ts'
import { isBranchCoarser, isDrop } from './minimise/transforms.ts'

export interface GrantedScope extends Scope {
  /** `recipient/stream.field` -> what the outputs of this recipient do with consent. */
  readonly chains: Readonly<Record<string, readonly Stored[]>>
}

/** A branch as JSON: a chain, or a key-value list with its members by name. */
type Stored = readonly Transform[] | StoredKeyed

interface StoredKeyed {
  readonly by: Keyed['by']
  readonly with: Readonly<Record<string, readonly Transform[]>>
  readonly only: Readonly<Record<string, StoredKeyed['with']>>
}

export function grantedScope(policy: Policy, purpose: PurposeId): GrantedScope {
  const chains: Record<string, Stored[]> = {}
  for (const output of policy.outputs) {
    if (output.purpose.id !== purpose) continue
    for (const { stream, fields } of output.streams) {
      for (const rule of fields) {
        const stored = storedBranch(rule.consent)
        if (stored !== undefined) (chains[`${output.recipient.id}/${stream.id}.${rule.path}`] ??= []).push(stored)
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
    return !wanted.every((one) => allowed.some((other) => isBranchCoarser(branchOf(one), branchOf(other))))
  })
}

/** Undefined for a branch of which nothing leaves, or whose settings are not plain JSON: that is compared by its text alone. */
function storedBranch(branch: Branch): Stored | undefined {
  if (branch.kind === 'chain') return !isDrop(branch.chain) && isPlain(branch.chain) ? branch.chain : undefined
  const { by, with: every, only } = branch.keyed
  if (![every, ...only.values()].every((members) => [...members.values()].every(isPlain))) return undefined
  return { by, with: Object.fromEntries(every), only: Object.fromEntries([...only].map(([key, members]) => [String(key), Object.fromEntries(members)])) }
}

function isPlain(chain: readonly Transform[]): boolean {
  return !chain.some(({ name }) => name === 'map' || name === 'flags' || name === 'hide_in')
}

function branchOf(stored: Stored): Branch {
  if (!('by' in stored)) return { kind: 'chain', chain: stored }
  const only = Object.entries(stored.only).map(([key, members]) => [Number(key), new Map(Object.entries(members))] as const)
  return { kind: 'keyed', keyed: { by: stored.by, with: new Map(Object.entries(stored.with)), only: new Map(only) } }
}
