/**
 * Consent in the form the hot path reads: bit sets over purposes (bit = Purpose.index), plus the words for its history.
 */
import type { OperatorId } from './ids.ts'

/** [ISO/IEC TS 27560 / DPV consent status] Everything but `granted` and `local_only` is a no. */
export const CONSENT_STATES = [
  'not_set', 'requested', 'granted', 'local_only', 'refused', 'withdrawn', 'objected', 'expired', 'invalidated',
] as const
export type ConsentState = (typeof CONSENT_STATES)[number]

/** Where a change of consent came from. Any of the privacy role may restrict; only the person or evidence may grant. */
export type ConsentSource = 'terminal' | 'portal' | 'agent' | 'admin'

/**
 * What the current consent allows for (operator, machine, time). Written into by `decide`, read by the pipeline, never allocated per message.
 * In a hand-over quarantine it is the meet of both operators' decisions, with `known` false (rules-language 3.4).
 */
export interface Decision {
  /** A known person, personally identified, is signed on and attributable, and the machine's device setting is on. */
  known: boolean
  /** Valid, unexpired yes. */
  yes: number
  /** Yes for outputs that stay on the site (`local_only`), a superset of `yes`. */
  siteYes: number
  /** Refused, withdrawn, objected or opted out. */
  no: number
  /** Given the notice of the policy in force. Always all bits or none today, but a set so that it can become per purpose. */
  notice: number
  /** The operator, when `known`. */
  operator: OperatorId | undefined
  /**
   * Country of the operator, when the register has one: the stricter of it and the machine's counts (rules-language 3.1).
   * Set in a quarantine too, with `known` false: whoever may have been there is protected by their own country's basis.
   */
  country: string | undefined
  /** Another country that counts in a quarantine; undefined when there is one operator, or both have the same. */
  otherCountry: string | undefined
  /** The rest, when a third or fourth person handed over within one quarantine. All of them count. */
  furtherCountries: readonly string[] | undefined
  /**
   * Everybody whom the message may be about when `operator` does not say it: in a quarantine, after a sign-off, when message and
   * session name two people. A record of it is found, swapped and erased with each of them. Undefined = nobody.
   */
  concerned?: readonly OperatorId[] | undefined
  /** Random 16 bytes of the operator session, hex; empty when there is none. */
  session: string
  /** Ledger sequence of the newest consent event of this operator: goes into the outbox record. */
  seq: number
  /** Device setting `operator_collection` is on for this machine. */
  collection: boolean
}

/** Nobody known: what a message gets before, without or instead of an attribution (G3). */
export function nobody(): Decision {
  return {
    known: false, yes: 0, siteYes: 0, no: 0, notice: 0, operator: undefined, country: undefined, otherCountry: undefined, furtherCountries: undefined,
    concerned: undefined, session: '', seq: 0, collection: false,
  }
}

/** Resets a decision to "nobody known" in place. */
export function clear(decision: Decision): void {
  decision.known = false
  decision.yes = 0
  decision.siteYes = 0
  decision.no = 0
  decision.notice = 0
  decision.operator = undefined
  decision.country = undefined
  decision.otherCountry = undefined
  decision.furtherCountries = undefined
  decision.concerned = undefined
  decision.session = ''
  decision.seq = 0
  decision.collection = false
}
