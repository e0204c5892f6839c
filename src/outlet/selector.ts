/**
 * Which records a purge or a cut covers: one reading of PurgeSelector for the outbox and for every outlet.
 */
import type { OutboxRecord, PurgeReason, PurgeSelector } from '../domain/ports.ts'

/** What a purge covers, or exactly these dead letters. */
export type Selector = PurgeSelector & { readonly numbers?: readonly number[] }

/** True when every field that the selector names fits the record. A record expires at its instant, not after it. */
export function covers(selector: PurgeSelector, record: OutboxRecord): boolean {
  if (selector.subject !== undefined && !record.subjects.includes(selector.subject)) return false
  if (selector.purpose !== undefined && record.purpose !== selector.purpose) return false
  if (selector.machine !== undefined && record.machine !== selector.machine) return false
  if (selector.output !== undefined && record.output !== selector.output) return false
  if (selector.expiredBeforeMs !== undefined && !(record.expiresAtMs !== undefined && record.expiresAtMs <= selector.expiredBeforeMs)) return false
  return selector.only === undefined || selector.only(record)
}

/** A selector that names nothing would cover everything; nobody means that. */
export function namesNothing(selector: PurgeSelector): boolean {
  return selector.subject === undefined && selector.purpose === undefined && selector.machine === undefined
    && selector.output === undefined && selector.expiredBeforeMs === undefined
}

/** What becomes of a record that a purge covers, before legal holds are asked. */
export type Fate = 'leave' | 'swap' | 'drop'

/** How a record was stored to react to a withdrawal; the numbers are in the database. */
export const OnWithdrawal = { nothing: 0, drop: 1, swap: 2 } as const

/**
 * [GDPR Art. 7(3)] A withdrawal takes what rested on the yes and leaves what did not: the variant without consent stays.
 * [P7] A device setting turned off leaves what would have been sent with nobody known: a record about an operator without
 * such a variant goes as well. All other reasons delete.
 */
export function fateOf(reason: PurgeReason, onWithdrawal: number, aboutOperator: boolean): Fate {
  if (reason !== 'withdrawal' && reason !== 'device_setting') return 'drop'
  if (onWithdrawal === OnWithdrawal.swap) return 'swap'
  if (onWithdrawal === OnWithdrawal.drop) return 'drop'
  return reason === 'device_setting' && aboutOperator ? 'drop' : 'leave'
}

/**
 * Whether an outlet must let go of a record that it was handed: it was swapped or purged since (its revision moved on), or it
 * is a QoS 0 record that the selector covers. No outbox tracks those, so they are cut on the safe side: QoS 0 may be lost.
 * @param revision  `record.revision` at the time of `send`
 */
export function isCut(record: OutboxRecord, revision: number, selector: PurgeSelector): boolean {
  return (record.revision ?? 0) !== revision || (record.qos === 0 && covers(selector, record))
}
