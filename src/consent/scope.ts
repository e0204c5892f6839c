/**
 * What a person says yes to: for one purpose, who gets which fields, how fine, and for how long. Stored with each grant;
 * a yes holds only while the active rules are not wider (rules-language 3.3).
 */
import type { Branch, Policy } from '../domain/policy.ts'
import type { PurposeId } from '../domain/ids.ts'

export interface Scope {
  readonly recipients: readonly { readonly id: string; readonly role: string; readonly region: string; readonly group: string | undefined; readonly retentionMs: number | undefined }[]
  /** `recipient/stream.field` -> what leaves of it with consent, as text. Dropped fields are not listed. */
  readonly fields: Readonly<Record<string, string>>
}

/** The scope of a purpose in a policy. Outputs of one recipient are taken together. */
export function scopeIn(policy: Policy, purpose: PurposeId): Scope {
  const recipients = new Map<string, Scope['recipients'][number]>()
  const fields = new Map<string, Set<string>>()
  for (const output of policy.outputs) {
    if (output.purpose.id !== purpose) continue
    const { id, role, region, group } = output.recipient
    const known = recipients.get(id)
    // No stated retention is longer than any stated one.
    const retentionMs = known !== undefined && (known.retentionMs === undefined || output.recipientKeepsMs === undefined)
      ? undefined
      : output.recipientKeepsMs === undefined ? undefined : Math.max(known?.retentionMs ?? 0, output.recipientKeepsMs)
    recipients.set(id, { id, role, region, group, retentionMs })
    for (const { stream, fields: rules } of output.streams) {
      for (const rule of rules) {
        const text = textOf(rule.consent)
        if (text === undefined) continue
        const path = `${id}/${stream.id}.${rule.path}`
        fields.set(path, (fields.get(path) ?? new Set()).add(text))
      }
    }
  }
  return {
    recipients: [...recipients.values()].sort((a, b) => (a.id < b.id ? -1 : 1)),
    fields: Object.fromEntries([...fields].sort(([a], [b]) => (a < b ? -1 : 1)).map(([path, texts]) => [path, [...texts].sort().join(' and ')])),
  }
}

/**
 * Whether `now` goes beyond what was granted: another recipient or role or region, a longer or unstated retention, another
 * field, or a field treated otherwise. Which of two transforms is finer is not judged here: otherwise counts as finer.
 */
export function isWider(granted: Scope, now: Scope): boolean {
  for (const recipient of now.recipients) {
    const before = granted.recipients.find((other) => other.id === recipient.id && other.role === recipient.role && other.region === recipient.region && other.group === recipient.group)
    if (before === undefined) return true
    if (before.retentionMs !== undefined && (recipient.retentionMs === undefined || recipient.retentionMs > before.retentionMs)) return true
  }
  return Object.entries(now.fields).some(([path, text]) => granted.fields[path] !== text)
}

/** JSON with sorted keys; Maps as objects, big integers as digits: equal values give equal text. */
export function canonical(value: unknown): string {
  if (value instanceof Map) return canonical(Object.fromEntries(value))
  if (value instanceof Set) return canonical([...value])
  if (typeof value === 'bigint') return value.toString()
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined && typeof inner !== 'function')
    return `{${entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join(',')}}`
  }
  return JSON.stringify(value) ?? 'null'
}

/** `[]` (drop) has no text: nothing leaves. */
function textOf(branch: Branch): string | undefined {
  if (branch.kind === 'keyed') return canonical(branch.keyed)
  if (branch.chain.length === 0 || branch.chain.some((transform) => transform.name === 'drop')) return undefined
  return branch.chain.map((transform) => (Object.keys(transform.params).length === 0 ? transform.name : `${transform.name}${canonical(transform.params)}`)).join(', ')
}
