/**
 * What a terminal says that its operator chose: who may be heard, and what becomes of it. It counts only for the person who was
 * signed on at that machine; a no also for a person who was there not long ago. What does not count changes nothing and is counted.
 *
 * The same message again (MQTT redelivery, a terminal that starts anew) is known by its hash, which the ledger has.
 */
import { LRUCache } from 'lru-cache'
import type { ConsentState } from '../domain/consent.ts'
import { GatewayError } from '../domain/errors.ts'
import { NAME, type MachineId, type OperatorId, type PurposeId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Choice } from '../domain/policy.ts'
import type { ConsentChange, IdentityRegister, Ledger, Machine } from '../domain/ports.ts'
import { isNo, isYes } from './history.ts'
import { frame, sha256 } from './sealing.ts'
import type { SessionTracks } from './sessions.ts'
import type { Changed, ConsentTable } from './state.ts'

export interface TerminalChoicesOptions {
  readonly ledger: Ledger
  readonly states: ConsentTable
  readonly sessions: Pick<SessionTracks, 'visited'>
  readonly identities: IdentityRegister
}

/** One message, as read; texts are empty when the message does not have them. */
export interface TerminalChoice {
  /** The machine that the connection belongs to. */
  readonly machine: Machine
  /** Who was signed on there when the choice was made, without any doubt. */
  readonly signedOn: OperatorId | undefined
  /** Card, code or number that the message names. */
  readonly card: string
  readonly purpose: string
  /** Undefined: the rules do not say what it means. */
  readonly says: Choice | undefined
  /** Undefined: the message has no such field, so it is the policy in force. */
  readonly policy: string | undefined
  readonly language: string
  readonly supersedes: string
  readonly evidence: string
  /** When it was made, by the terminal's clock; NaN = not said. */
  readonly eventMs: number
  readonly receivedMs: number
  /** How long ago a person may have signed on whose no still counts. */
  readonly lateLimitMs: number
  /** The message itself. */
  readonly payload: Uint8Array
}

export const CHOICE_RESULTS = ['recorded', 'repeated', 'not_understood', 'nobody', 'unknown_purpose', 'other_notice', 'stale', 'too_many'] as const
/** `recorded`: durable and in force. `repeated`: it was already. All others: it does not count. */
export type ChoiceResult = (typeof CHOICE_RESULTS)[number]

export interface ChoiceTaken {
  readonly result: ChoiceResult
  /** What was asked; undefined when nothing came of it that concerns messages on their way. */
  readonly change?: ConsentChange
  /** Undefined for a no that was in force already: its first copy may not have been carried out to the end. */
  readonly changed?: Changed
}

const EVIDENCE_CHARS = 4_096
const HOUR_MS = 3_600_000
const LANGUAGE = /^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$/

export class TerminalChoices {
  readonly #options: TerminalChoicesOptions
  /** Messages of each machine in its hour. */
  readonly #spent = new LRUCache<MachineId, { readonly fromMs: number; count: number; last: string }>({ maxSize: LIMITS.sessionMachines, sizeCalculation: () => 1 })

  constructor(options: TerminalChoicesOptions) {
    this.#options = options
  }

  /**
   * Durable and in force when it returns.
   * @throws GatewayError LEDGER-DAMAGED: the message must stay unacknowledged
   */
  take(choice: TerminalChoice): ChoiceTaken {
    const { says, purpose } = choice
    // A damaged ledger knows nobody; that must not look as if nobody had been there. Throws when it is.
    this.#options.ledger.flush()
    if (says === undefined) return { result: 'not_understood' }
    const operator = isNo(says as ConsentState) ? this.#whoSaysNo(choice) : this.#whoSaysYes(choice)
    if (operator === undefined) return { result: 'nobody' }
    if (says !== 'notice' && (!NAME.test(purpose) || purpose.length > 128)) return { result: 'unknown_purpose' }
    const standing = says === 'notice' ? undefined : this.#options.states.standing(operator, purpose as PurposeId)
    const endsYes = says !== 'notice' && isNo(says) && standing !== undefined && isYes(standing.state)
    if (this.#isSpent(choice) && !endsYes) return { result: 'too_many' }
    return says === 'notice' ? this.#giveNotice(choice, operator) : this.#change(choice, operator, says, standing?.state)
  }

  #change(choice: TerminalChoice, operator: OperatorId, state: Exclude<Choice, 'notice'>, standing: ConsentState | undefined): ChoiceTaken {
    const { states } = this.#options
    const messageId = sha256(frame('parapet/v1|choice', choice.machine.id, choice.payload)).toString('hex')
    const known = this.#find(operator, messageId, choice.supersedes)
    const change: ConsentChange = {
      operator, purpose: choice.purpose as PurposeId, state, source: 'terminal', by: undefined,
      evidence: choice.evidence === '' ? undefined : choice.evidence.length <= EVIDENCE_CHARS ? choice.evidence : `sha256:${sha256(choice.evidence).toString('hex')}`,
      language: LANGUAGE.test(choice.language) ? choice.language : undefined,
      expiresAtMs: undefined, machine: choice.machine.id, country: choice.machine.country,
      givenAtMs: Number.isFinite(choice.eventMs) ? choice.eventMs : undefined,
      supersedes: known.supersedes, messageId,
    }
    if (known.isRepeated || (isNo(state) && standing === state)) return { result: 'repeated', ...(standing !== undefined && isNo(standing) ? { change } : {}) }
    // [GDPR Art. 7(2)] A yes is one to what was on the display.
    if (!isNo(state) && !this.#isInForce(choice.policy)) return { result: 'other_notice' }
    try {
      return { result: 'recorded', change, changed: states.change(change) }
    } catch (error) {
      const result = error instanceof GatewayError ? REFUSALS[error.code] : undefined
      if (result === undefined) throw error
      return { result }
    }
  }

  #giveNotice(choice: TerminalChoice, operator: OperatorId): ChoiceTaken {
    const { states } = this.#options
    if (!this.#isInForce(choice.policy) || states.policyId === undefined) return { result: 'other_notice' }
    if (states.hasNotice(operator)) return { result: 'repeated' }
    states.giveNotice(operator, states.policyId, LANGUAGE.test(choice.language) ? choice.language : undefined, 'terminal')
    return { result: 'recorded' }
  }

  #isInForce(policy: string | undefined): boolean {
    return policy === undefined || policy === this.#options.states.policyId
  }

  /** A yes, or that the notice was shown: whoever was signed on at the time, and nobody else is named. */
  #whoSaysYes({ signedOn, card, eventMs }: TerminalChoice): OperatorId | undefined {
    if (signedOn === undefined || !Number.isFinite(eventMs)) return undefined
    return card === '' || this.#options.identities.find(card, eventMs)?.operator === signedOn ? signedOn : undefined
  }

  /** A no: whoever is named and was there, whatever the terminal's clock says. */
  #whoSaysNo({ signedOn, card, machine, eventMs, receivedMs, lateLimitMs }: TerminalChoice): OperatorId | undefined {
    if (card === '') return signedOn
    const { identities, sessions } = this.#options
    for (const atMs of [eventMs, receivedMs]) {
      const identity = Number.isFinite(atMs) ? identities.find(card, atMs) : undefined
      if (identity?.kind !== 'personal') continue
      if (identity.operator === signedOn || sessions.visited(machine.id, identity.operator, receivedMs - lateLimitMs)) return identity.operator
    }
    return undefined
  }

  /** Whether the ledger has the message already, and the sequence that it says it replaces: -1 for one that this person does not have. */
  #find(operator: OperatorId, messageId: string, supersedes: string): { readonly isRepeated: boolean; readonly supersedes: number | undefined } {
    const wanted = supersedes.trim().toLowerCase()
    let seq = wanted === '' ? undefined : /^\d{1,15}$/.test(wanted) ? Number(wanted) : -1
    let isRepeated = false
    for (const event of this.#options.ledger.events({ subject: { type: 'operator', id: operator }, type: 'consent.' })) {
      if (event.body?.['message_sha256'] === messageId) isRepeated = true
      if (seq === -1 && event.uuid === wanted) seq = event.seq
    }
    return { isRepeated, supersedes: seq }
  }

  /** A terminal that asks and asks is broken or hostile: each message reads the person's history, and each change is an fsync. */
  #isSpent({ machine, receivedMs, payload }: TerminalChoice): boolean {
    const hour = this.#spent.get(machine.id)
    const last = `${receivedMs} ${sha256(payload).toString('base64')}`
    if (hour === undefined || !(receivedMs >= hour.fromMs && receivedMs < hour.fromMs + HOUR_MS)) {
      this.#spent.set(machine.id, { fromMs: receivedMs, count: 1, last })
      return false
    }
    // One that came once and is tried again, as the outbox had no room, is one.
    if (hour.last !== last) hour.count++
    hour.last = last
    return hour.count > LIMITS.choicesPerHour
  }
}

/** Refusals that are final: the terminal gets its acknowledgement, or it would send the message for ever. */
const REFUSALS: Readonly<Record<string, ChoiceResult>> = {
  'STALE-GRANT': 'stale', 'UNKNOWN-PURPOSE': 'unknown_purpose', 'NO-RULES': 'unknown_purpose', 'UNKNOWN-OPERATOR': 'nobody', 'SUBJECT-ENDED': 'nobody',
}
