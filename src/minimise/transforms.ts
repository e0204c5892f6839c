/**
 * The catalogue of transforms (rules-language 5): every spec by name, and what can be said of chains of them.
 */
import type { Transform } from '../domain/policy.ts'
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
 * Whether chain `u` is provably coarser than or equal to chain `t` (rules-language 4.2):
 * drop < constant < coarse < keep; the same chain, each step coarser of the same kind, or `t` followed by more steps.
 */
export function isCoarserOrEqual(u: readonly Transform[], t: readonly Transform[]): boolean {
  if (isDrop(u)) return true
  if (isDrop(t)) return false
  const reduced = (chain: readonly Transform[]): readonly Transform[] => chain.filter((one) => one.name !== 'keep')
  const coarse = reduced(u)
  const fine = reduced(t)
  if (fine.length === 0) return true
  if (coarse.some((one) => one.name === 'constant')) return true
  if (fine.some((one) => one.name === 'constant')) return false
  if (coarse.length < fine.length) return false
  // What follows a result can only lose more of it.
  return fine.every((step, at) => {
    const other = coarse[at] as Transform
    return other.name === step.name && specOf(step).coarser(other.params, step.params) && (coarse.length === fine.length || sameSetting(other, step))
  })
}

function sameSetting(a: Transform, b: Transform): boolean {
  return specOf(a).coarser(a.params, b.params) && specOf(a).coarser(b.params, a.params)
}

/** Whether a chain may stand in the `no_consent` branch of a personal field (rules-language 4.3): drop, or a generalisation. */
export function isGeneralising(chain: readonly Transform[]): boolean {
  return isDrop(chain) || chain.some((one) => specOf(one).generalises(one.params))
}
