/**
 * The catalogue of transforms (rules-language 5): every spec by name, and what can be said of chains of them.
 */
import type { Branch, Transform } from '../domain/policy.ts'
import { encrypt, pseudonym } from './transforms/identity.ts'
import { bucket, clamp, flags, noise, round, roundTime } from './transforms/numeric.ts'
import { grid, hideIn, thin } from './transforms/place.ts'
import { constant, drop, keep, map } from './transforms/plain.ts'
import { keepBytes, mask, truncate } from './transforms/text.ts'
import type { TransformSpec } from './transforms/spec.ts'

export type { Apply, JsonSchema, Moment, Move, Params, Reading, Services, Subject, TransformSpec } from './transforms/spec.ts'

/** Name -> spec, in the order of the documentation. */
export const TRANSFORMS: ReadonlyMap<string, TransformSpec> = new Map(
  [keep, drop, constant, mask, truncate, keepBytes, map, flags, bucket, clamp, round, roundTime, pseudonym, encrypt, grid, hideIn, thin, noise].map((spec) => [spec.name, spec]),
)

export function specOf(transform: Transform): TransformSpec {
  const spec = TRANSFORMS.get(transform.name)
  if (spec === undefined) throw new Error(`no transform ${transform.name}`)
  return spec
}

/** `keep`, `drop`, `a, then b`. */
export function textOfChain(chain: readonly Transform[]): string {
  return chain.length === 0 ? 'drop' : chain.map((one) => specOf(one).text(one.params)).join(', then ')
}

export function isDrop(chain: readonly Transform[]): boolean {
  return chain.length === 0 || chain.some((one) => one.name === 'drop')
}

/**
 * Whether chain `u` is provably coarser than or equal to chain `t` (rules-language 4.2): whoever sees the result of `t` could work out
 * that of `u`, so values that are equal under `t` are equal under `u`. drop < constant < coarse < keep. Accepted are: `t` with its last
 * step coarser of the same kind, or as it is, and more steps behind it. Steps before the last must be the same: a coarser one there
 * moves values across the borders of what follows (8 and 9 are 10 under `round: 5`, `bucket: [0, 10]`, not under `round: 15` before it).
 */
export function isCoarserOrEqual(u: readonly Transform[], t: readonly Transform[]): boolean {
  if (isDrop(u)) return true
  if (isDrop(t)) return false
  const reduced = (chain: readonly Transform[]): readonly Transform[] => chain.filter((one) => one.name !== 'keep')
  const coarse = reduced(u)
  const fine = reduced(t)
  if (fine.length === 0) return true
  // [G7] Where the finer one drops some values a constant would add a field, and with it a message, for those who said no.
  if (coarse[0]?.name === 'constant' && !fine.some((one) => one.name === 'map' && one.params.else === undefined)) return true
  if (coarse.length < fine.length) return false
  const last = fine.length - 1
  return fine.every((step, at) => {
    const other = coarse[at] as Transform
    return other.name === step.name && (at === last ? specOf(other).coarser(other.params, step.params) : isSame(other, step))
  })
}

function isSame(a: Transform, b: Transform): boolean {
  return specOf(a).coarser(a.params, b.params) && specOf(a).coarser(b.params, a.params)
}

/** The same for whole branches: of a key-value list fewer keys, fewer members and coarser ones are coarser. */
export function isBranchCoarser(u: Branch, t: Branch): boolean {
  if (u.kind === 'chain' && isDrop(u.chain)) return true
  if (u.kind === 'chain' && t.kind === 'chain') return isCoarserOrEqual(u.chain, t.chain)
  if (t.kind === 'chain') return t.chain.length > 0 && t.chain.every((one) => one.name === 'keep')
  if (u.kind === 'chain' || u.keyed.by.member !== t.keyed.by.member || u.keyed.by.fn !== t.keyed.by.fn) return false
  for (const [key, own] of u.keyed.only) {
    const fine = t.keyed.only.get(key)
    if (fine === undefined) return false
    const fineAll = new Map([...t.keyed.with, ...fine])
    for (const [member, chain] of new Map([...u.keyed.with, ...own])) if (!isCoarserOrEqual(chain, fineAll.get(member) ?? [])) return false
  }
  return true
}

/** Whether a chain may stand in the `no_consent` branch of a personal field (rules-language 4.3): drop, or a generalisation. */
export function isGeneralising(chain: readonly Transform[]): boolean {
  return isDrop(chain) || chain.some((one) => specOf(one).generalises(one.params))
}
