/**
 * The consent of all operators as bit sets, 64 bytes each, rebuilt from the ledger before anything is forwarded.
 * What is not in the table is not_set. Changes are applied in the order of the ledger, never of a clock.
 */
import { LRUCache } from 'lru-cache'
import type { ConsentState, Decision } from '../domain/consent.ts'
import { GatewayError } from '../domain/errors.ts'
import type { OperatorId, PurposeId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Clock, ConsentChange, ConsentRow, ConsentStates, Ledger, LedgerType, NoticeGiven, StoredEvent, SubjectStore } from '../domain/ports.ts'
import type { Policy } from '../domain/policy.ts'
import { historyOf, isNo, isYes, passesOn, play, type History, type RulesTurn } from './history.ts'
import { canonical, isWider, scopeIn, type Scope } from './scope.ts'
import { sha256 } from './sealing.ts'

export interface ConsentTableOptions {
  readonly ledger: Ledger
  readonly clock: Clock
  /** Whether a person is registered: only then can anything be said for them. */
  readonly knows: (operator: OperatorId) => boolean
  /** What a yes to a purpose covers now; without it, what the policy's outputs say. Must be JSON. */
  readonly scopeOf?: (purpose: PurposeId) => unknown
  /** The newest clock time that an earlier run saw (`seenMs`): what had expired by then stays expired, whatever the clock says now. */
  readonly seenMs?: number
  /** Whether `now` goes beyond `granted`; without it, any field treated otherwise counts as wider. */
  readonly wider?: (granted: unknown, now: unknown) => boolean
  /**
   * Called when a yes has ended without the person: by its time, or because the rules became wider. The state is in force then,
   * in every row that ends with it. Not called for what the ledger tells at the start. It may come from within `fill`, `change`,
   * `show`, `usePolicy` or `sweep`, and must not throw. Decisions made before have a `seq` below that of the end, later ones do not.
   */
  readonly onEnded?: (operator: OperatorId, purpose: PurposeId, reason: 'expired' | 'invalidated', seq: number) => void
}

/** What a change did, with what a receipt says of it. */
export interface Changed {
  readonly seq: number
  readonly previous: ConsentState
  readonly state: ConsentState
  readonly atMs: number
  readonly policy: string
  /** Purposes that it was said to: the one named, and for a no those that stand for it in the rules in force. */
  readonly purposes: readonly PurposeId[]
}

/** One row is 64 bytes, a line of the processor's cache: 16 sets, of which four are used, or 8 numbers, of which three are used. */
const SETS = 16
const NUMBERS = 8
/** Places in a row. Sets of purposes, and of policies whose notice was given. */
const YES = 0
const LOCAL = 1
const NO = 2
const NOTICES = 3
/** Newest consent event. */
const SEQ = 2
/** Newest yes: what was acquired before it was not covered by it. */
const SINCE = 3
/** Not before this does any yes expire. */
const UNTIL = 4

/** A scope longer than this is stored once, with the policy, and by its hash in each grant. */
const SCOPE_IN_GRANT = 16_384
const NONE = Number.POSITIVE_INFINITY
/** A row whose person was erased. */
const ERASED = -1

export class ConsentTable implements ConsentStates, SubjectStore {
  readonly name = 'consent states'

  readonly #options: ConsentTableOptions
  readonly #ledger: Ledger
  readonly #rows = new Map<OperatorId, number>()
  readonly #ids: OperatorId[] = []
  /** Purpose -> bit. Purposes of the active policy have their index; others are parked. */
  #bits = new Map<PurposeId, number>()
  readonly #parked = new Map<PurposeId, Map<number, number>>()
  /** Policy -> bit in the notice column. */
  readonly #policies = new Map<string, number>()
  readonly #histories = new LRUCache<number, History>({ max: 1_024 })
  readonly #turns: RulesTurn[] = []
  readonly #held = new Set<OperatorId>()
  readonly #scopes = new Map<PurposeId, RecordedScope>()
  #policy: Policy | undefined
  #noticeMask = 0
  #allPurposes = 0
  #seenMs: number
  #nextEndMs = NONE

  /** The table, as sets and as numbers over the same bytes. */
  #sets = new Int32Array(1_024 * SETS)
  #numbers = new Float64Array(this.#sets.buffer)

  /** Reads the whole ledger. When that fails the ledger is not healthy, and every decision is "nobody known". */
  constructor(options: ConsentTableOptions) {
    this.#options = options
    this.#ledger = options.ledger
    this.#seenMs = options.seenMs ?? 0
    if (!this.#ledger.healthy) return
    for (const event of this.#ledger.events({ type: ['consent.', 'notice.', 'policy.'] })) this.#replay(event)
  }

  get operators(): number {
    return this.#rows.size
  }

  /** The newest clock time seen. Expiry and the beginning of a yes go by it, so that a clock that steps back revives and backdates nothing. */
  get seenMs(): number {
    return this.#seenMs
  }

  usePolicy(policy: Policy): void {
    if (policy.purposes.length > LIMITS.purposes) throw new GatewayError('TOO-MANY-PURPOSES', `The rules have more than ${LIMITS.purposes} purposes.`, 'Join purposes that always have the same basis.')
    this.#moveBits(new Map(policy.purposes.map((purpose) => [purpose.id, purpose.index])))
    this.#policy = policy
    this.#allPurposes = policy.purposes.reduce((set, purpose) => set | (1 << purpose.index), 0)
    this.#noticeMask = 1 << this.#policyBit(policy.id)
    if (!this.#ledger.healthy) return
    for (const purpose of policy.purposes) this.#recordScope(policy, purpose.id)
    for (const { id, replaces } of policy.purposes) for (const replaced of replaces ?? []) this.#inherit(policy, id, replaced)
  }

  /**
   * See the port. The order of changes is that of this call, which is that of the ledger. A no counts from everybody and at any
   * time. A yes counts from the person (terminal, portal), or from an agent or administrator with evidence; it beats a no only
   * when it is the person's newer choice for certain (`checkYes`).
   * @throws GatewayError UNKNOWN-OPERATOR, UNKNOWN-PURPOSE, NO-RULES, STALE-GRANT, EVIDENCE-MISSING, EXPIRY-PAST, LEDGER-DAMAGED
   */
  change(change: ConsentChange): Changed {
    const { operator, purpose } = change
    const row = this.rowOf(operator)
    const yes = isYes(change.state)
    // Who left the register can still say no.
    if (row < 0 || (yes && !this.#options.knows(operator))) throw unknownOperator()
    const now = this.#time(this.#options.clock.now())
    this.#expireIfDue(row, now)
    const current = this.#historyOf(row).get(purpose)
    const heirs = isNo(change.state) ? this.#heirsOf(purpose) : []
    if (!this.#isActive(purpose) && (yes || (current === undefined && heirs.length === 0))) throw this.#unknownPurpose()
    if (yes) checkYes(change, current, now)
    const seq = this.#record(row, change, current, now)
    // A no under the former name of a purpose is a no to what it is called now.
    for (const heir of heirs) this.#record(row, { ...change, purpose: heir }, this.#historyOf(row).get(heir), now)
    const state = this.#historyOf(row).get(purpose)?.state ?? 'not_set'
    return { seq, previous: current?.state ?? 'not_set', state, atMs: now, policy: this.#policy?.id ?? '', purposes: [purpose, ...heirs] }
  }

  /** Appends a change and puts it in force. Returns its sequence. */
  #record(row: number, change: ConsentChange, current: ConsentRow | undefined, now: number): number {
    const { operator, purpose } = change
    const yes = isYes(change.state)
    const scope = yes && this.#policy !== undefined ? this.#scopeOf(this.#policy, purpose) : undefined
    const event = {
      type: `consent.${change.state}` as LedgerType,
      subject: { type: 'operator', id: operator },
      body: {
        at: now,
        operator,
        purpose,
        source: change.source,
        by: change.by,
        evidence: change.evidence,
        evidence_sha256: change.evidence === undefined ? undefined : sha256(change.evidence).toString('hex'),
        language: change.language,
        expires_at: yes ? change.expiresAtMs : undefined,
        machine: change.machine,
        country: change.country,
        given_at: change.givenAtMs,
        message_sha256: change.messageId,
        supersedes: current?.seq ?? 0,
        policy: this.#policy?.id ?? '',
        rules: this.#policy?.hash,
        scope: scope !== undefined && scope.text.length <= SCOPE_IN_GRANT ? scope.value : undefined,
        scope_sha256: scope?.sha256,
        scope_event: scope === undefined ? undefined : this.#scopes.get(purpose)?.seq,
      },
    } as const
    const seq = this.#ledger.append(event)
    this.#set(row, purpose, change.state, now, yes ? change.expiresAtMs : undefined, seq)
    // Who changes their mind often is not to wait for all of it to be read each time.
    const history = this.#histories.get(row)
    if (history !== undefined) play(history, { ...event, seq })
    return seq
  }

  /** No yes ends by its time before this. `sweep` when it has come, so that what waits is put right before it is asked for. */
  get nextEndMs(): number {
    return this.#nextEndMs
  }

  /** What a person's answer to a purpose is now; undefined when none was ever given. Cold. */
  standing(operator: OperatorId, purpose: PurposeId): ConsentRow | undefined {
    const row = this.#rows.get(operator)
    if (row === undefined || !this.#ledger.healthy) return undefined
    this.#expireIfDue(row, this.#time(this.#options.clock.now()))
    return this.#historyOf(row).get(purpose)
  }

  /** The policy in force, and whether a person was given its notice. */
  get policyId(): string | undefined {
    return this.#policy?.id
  }

  hasNotice(operator: OperatorId): boolean {
    const row = this.#rows.get(operator)
    return row !== undefined && (this.#sets[row * SETS + NOTICES]! & this.#noticeMask) !== 0
  }

  giveNotice(operator: OperatorId, policyId: string, language: string | undefined, by: string | undefined): number {
    const row = this.rowOf(operator)
    if (row < 0) throw unknownOperator()
    const seq = this.#ledger.append({
      type: 'notice.given', subject: { type: 'operator', id: operator },
      body: { operator, policy: policyId, language, by, at: this.#time(this.#options.clock.now()) },
    })
    this.#sets[row * SETS + NOTICES]! |= 1 << this.#policyBit(policyId)
    return seq
  }

  show(operator: OperatorId): { readonly rows: readonly ConsentRow[]; readonly notice: NoticeGiven | undefined; readonly notices: readonly NoticeGiven[]; readonly history: readonly StoredEvent[] } {
    const row = this.#rows.get(operator)
    if (row !== undefined) this.#expireIfDue(row, this.#time(this.#options.clock.now()))
    const events = [...this.#ledger.events({ subject: { type: 'operator', id: operator } })]
    const history = events.filter((event) => event.type.startsWith('consent.') || event.type.startsWith('notice.'))
    const notices = new Map<string, NoticeGiven>()
    for (const { type, body } of history) {
      if (type !== 'notice.given' || body === undefined) continue
      const given = { policy: String(body['policy']), atMs: Number(body['at']), language: body['language'] as string | undefined }
      // Of several for one policy the newest; in the order in which they were given.
      notices.delete(given.policy)
      notices.set(given.policy, given)
    }
    return { rows: [...historyOf(history, this.#turns).values()], notice: [...notices.values()].at(-1), notices: [...notices.values()], history }
  }

  fill(operator: OperatorId, eventMs: number, nowMs: number, into: Decision): boolean {
    if (!this.#ledger.healthy) return false
    const row = this.#rows.get(operator)
    if (row !== undefined) return this.fillRow(row, eventMs, nowMs, into)
    this.#time(nowMs)
    // Registered but nothing said yet: not_set.
    into.yes = into.siteYes = into.no = into.notice = into.seq = 0
    return this.#options.knows(operator)
  }

  /** Row of a person for `fillRow`, made on first use; -1 for who is not registered. Rows never move while the process lives. */
  rowOf(operator: OperatorId): number {
    const known = this.#rows.get(operator)
    if (known !== undefined) return known
    return this.#options.knows(operator) ? this.#addRow(operator) : -1
  }

  /**
   * Hot path: as `fill`, for a row.
   * Allocates nothing unless the data is older than the person's newest yes or a yes has just expired.
   */
  fillRow(row: number, eventMs: number, nowMs: number, into: Decision): boolean {
    const numbers = this.#numbers
    const sets = this.#sets
    const seq = numbers[row * NUMBERS + SEQ]
    if (seq === undefined || seq < 0) return false
    const now = this.#time(nowMs)
    // Written so that a time that is not a number counts as expired and as too early.
    if (!(now < numbers[row * NUMBERS + UNTIL]!)) this.#expire(row, now)
    let yes = sets[row * SETS + YES]!
    let local = sets[row * SETS + LOCAL]!
    if ((yes | local) !== 0 && !(eventMs >= numbers[row * NUMBERS + SINCE]!)) {
      const covered = this.#coveredAt(row, eventMs)
      yes &= covered
      local &= covered
    }
    into.yes = yes
    into.siteYes = yes | local
    into.no = sets[row * SETS + NO]!
    into.notice = (sets[row * SETS + NOTICES]! & this.#noticeMask) === 0 ? 0 : this.#allPurposes
    into.seq = numbers[row * NUMBERS + SEQ]!
    return true
  }

  /** Writes down what has expired, so that no clock that steps back brings it to life again. Call it every minute. */
  sweep(nowMs: number): void {
    const now = this.#time(nowMs)
    let next = NONE
    for (let row = 0; row < this.#ids.length; row++) {
      this.#expireIfDue(row, now)
      next = Math.min(next, this.#numbers[row * NUMBERS + UNTIL]!)
    }
    this.#nextEndMs = next
  }

  locate(subject: OperatorId): { readonly records: number } {
    return { records: this.#rows.has(subject) ? 1 : 0 }
  }

  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    const { rows, notice } = this.show(subject)
    for (const row of rows) yield { ...row }
    if (notice !== undefined) yield { notice: notice.policy, atMs: notice.atMs }
  }

  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    const row = this.#rows.get(subject)
    if (row === undefined) return { erased: 0, held: 0 }
    if (this.#held.has(subject)) return { erased: 0, held: 1 }
    this.#rows.delete(subject)
    this.#ids[row] = '' as OperatorId
    this.#sets[row * SETS + YES] = this.#sets[row * SETS + LOCAL] = this.#sets[row * SETS + NO] = this.#sets[row * SETS + NOTICES] = 0
    this.#numbers[row * NUMBERS + SEQ] = ERASED
    this.#numbers[row * NUMBERS + SINCE] = 0
    this.#numbers[row * NUMBERS + UNTIL] = NONE
    for (const parked of this.#parked.values()) parked.delete(row)
    this.#histories.delete(row)
    return { erased: 1, held: 0 }
  }

  hold(subject: OperatorId, caseId: string | undefined): void {
    if (caseId === undefined) this.#held.delete(subject)
    else this.#held.add(subject)
  }

  #addRow(operator: OperatorId): number {
    const row = this.#ids.length
    if (row * SETS === this.#sets.length) this.#grow()
    this.#numbers[row * NUMBERS + UNTIL] = NONE
    this.#rows.set(operator, row)
    this.#ids.push(operator)
    return row
  }

  #grow(): void {
    const grown = new Int32Array(this.#sets.length * 2)
    grown.set(this.#sets)
    this.#sets = grown
    this.#numbers = new Float64Array(grown.buffer)
  }

  #replay(event: StoredEvent): void {
    const { type, body, seq } = event
    if (body === undefined) return
    if (Number(body['at']) > this.#seenMs) this.#seenMs = Number(body['at'])
    if (type === 'policy.replaces') {
      this.#takeOver(body['purpose'] as PurposeId, body['replaces'] as PurposeId, seq, Number(body['at']))
      return
    }
    if (type === 'policy.scope') {
      const purpose = body['purpose'] as PurposeId
      this.#scopes.set(purpose, { seq, sha256: String(body['scope_sha256']), value: body['scope'] })
      if (body['wider'] === true) this.#invalidate(purpose, seq, Number(body['at']))
      return
    }
    if (!type.startsWith('consent.') && type !== 'notice.given') return
    const operator = body['operator'] as OperatorId
    // Everybody in the ledger who can be read is a person that was registered.
    const row = this.#rows.get(operator) ?? this.#addRow(operator)
    if (type === 'notice.given') {
      this.#sets[row * SETS + NOTICES]! |= 1 << this.#policyBit(String(body['policy']))
      return
    }
    this.#set(row, body['purpose'] as PurposeId, type.slice('consent.'.length) as ConsentState, Number(body['at']), body['expires_at'] as number | undefined, seq)
  }

  /** One consent event in bits. */
  #set(row: number, purpose: PurposeId, asked: ConsentState, atMs: number, expiresAtMs: number | undefined, seq: number): void {
    this.#numbers[row * NUMBERS + SEQ] = seq
    if (asked === 'requested') return
    let flags = this.#flags(row, purpose)
    if (asked === 'granted') flags = Flag.yes
    else if (asked === 'local_only') flags = Flag.local
    else if (isNo(asked)) flags = Flag.no
    else flags &= Flag.no
    this.#setFlags(row, purpose, flags)
    if (!isYes(asked)) return
    this.#numbers[row * NUMBERS + SINCE] = Math.max(this.#numbers[row * NUMBERS + SINCE]!, atMs)
    if (expiresAtMs === undefined) return
    this.#numbers[row * NUMBERS + UNTIL] = Math.min(this.#numbers[row * NUMBERS + UNTIL]!, expiresAtMs)
    this.#nextEndMs = Math.min(this.#nextEndMs, expiresAtMs)
  }

  #flags(row: number, purpose: PurposeId): number {
    const bit = this.#bits.get(purpose)
    if (bit === undefined) return this.#parked.get(purpose)?.get(row) ?? 0
    const mask = 1 << bit
    return ((this.#sets[row * SETS + YES]! & mask) === 0 ? 0 : Flag.yes) | ((this.#sets[row * SETS + LOCAL]! & mask) === 0 ? 0 : Flag.local) | ((this.#sets[row * SETS + NO]! & mask) === 0 ? 0 : Flag.no)
  }

  #setFlags(row: number, purpose: PurposeId, flags: number): void {
    let bit = this.#bits.get(purpose)
    if (bit === undefined && this.#policy === undefined && this.#bits.size < LIMITS.purposes) {
      // Before the first policy purposes take bits as they come; `usePolicy` moves them.
      bit = this.#bits.size
      this.#bits.set(purpose, bit)
    }
    if (bit === undefined) {
      const parked = this.#parked.get(purpose) ?? new Map<number, number>()
      if (flags === 0) parked.delete(row)
      else parked.set(row, flags)
      this.#parked.set(purpose, parked)
      return
    }
    const mask = 1 << bit
    this.#sets[row * SETS + YES] = (flags & Flag.yes) === 0 ? this.#sets[row * SETS + YES]! & ~mask : this.#sets[row * SETS + YES]! | mask
    this.#sets[row * SETS + LOCAL] = (flags & Flag.local) === 0 ? this.#sets[row * SETS + LOCAL]! & ~mask : this.#sets[row * SETS + LOCAL]! | mask
    this.#sets[row * SETS + NO] = (flags & Flag.no) === 0 ? this.#sets[row * SETS + NO]! & ~mask : this.#sets[row * SETS + NO]! | mask
  }

  /** States belong to purposes, bits to their places in the rules file: both are brought together again. */
  #moveBits(bits: Map<PurposeId, number>): void {
    const leaving = [...this.#bits].filter(([purpose, bit]) => bits.get(purpose) !== bit)
    const coming = [...bits.keys()].filter((purpose) => this.#parked.has(purpose) && !this.#bits.has(purpose))
    for (const [purpose, bit] of leaving) {
      const parked = new Map<number, number>()
      const mask = 1 << bit
      for (let row = 0; row < this.#ids.length; row++) {
        if (((this.#sets[row * SETS + YES]! | this.#sets[row * SETS + LOCAL]! | this.#sets[row * SETS + NO]!) & mask) === 0) continue
        parked.set(row, this.#flags(row, purpose))
        this.#sets[row * SETS + YES]! &= ~mask
        this.#sets[row * SETS + LOCAL]! &= ~mask
        this.#sets[row * SETS + NO]! &= ~mask
      }
      this.#parked.set(purpose, parked)
    }
    this.#bits = bits
    for (const purpose of new Set([...leaving.map(([purpose]) => purpose), ...coming])) {
      if (!bits.has(purpose)) continue
      const parked = this.#parked.get(purpose)
      this.#parked.delete(purpose)
      for (const [row, flags] of parked ?? []) this.#setFlags(row, purpose, flags)
    }
  }

  #policyBit(policy: string): number {
    const known = this.#policies.get(policy)
    if (known !== undefined) return known
    if (this.#policies.size < LIMITS.noticePolicies) {
      const bit = this.#policies.size
      this.#policies.set(policy, bit)
      return bit
    }
    // The notice longest known is forgotten, as if it had not been given.
    const [oldest, bit] = [...this.#policies].find(([, bit]) => 1 << bit !== this.#noticeMask)!
    this.#policies.delete(oldest)
    this.#policies.set(policy, bit)
    for (let row = 0; row < this.#ids.length; row++) this.#sets[row * SETS + NOTICES]! &= ~(1 << bit)
    return bit
  }

  #isActive(purpose: PurposeId): boolean {
    return this.#policy !== undefined && this.#bits.has(purpose)
  }

  #unknownPurpose(): GatewayError {
    if (this.#policy === undefined) return new GatewayError('NO-RULES', 'No rules are active, so there is no purpose to agree to.', 'Activate a rules file first.')
    return new GatewayError('UNKNOWN-PURPOSE', 'The active rules have no such purpose.', `They have: ${this.#policy.purposes.map((purpose) => purpose.id).join(', ')}.`)
  }

  #scopeOf(policy: Policy, purpose: PurposeId): { readonly value: unknown; readonly text: string; readonly sha256: string } {
    const value = this.#options.scopeOf?.(purpose) ?? scopeIn(policy, purpose)
    const text = canonical(value)
    return { value: JSON.parse(text) as unknown, text, sha256: sha256(text).toString('hex') }
  }

  /** Writes down what a purpose covers whenever that changes; a wider one ends every yes given before [P51, P53]. */
  #recordScope(policy: Policy, purpose: PurposeId): void {
    const scope = this.#scopeOf(policy, purpose)
    const before = this.#scopes.get(purpose)
    if (before?.sha256 === scope.sha256) return
    const judge = this.#options.wider ?? ((granted, now) => isWider(granted as Scope, now as Scope))
    const stored = scope.text.length <= LIMITS.ledgerBodyBytes / 2 ? scope.value : undefined
    const wider = before !== undefined && (before.value === undefined || stored === undefined || judge(before.value, scope.value))
    const at = this.#time(this.#options.clock.now())
    const seq = this.#ledger.append({
      type: 'policy.scope',
      body: { at, policy: policy.id, rules: policy.hash, purpose, scope: stored, scope_sha256: scope.sha256, wider },
    })
    this.#scopes.set(purpose, { seq, sha256: scope.sha256, value: stored })
    if (!wider) return
    for (const operator of this.#invalidate(purpose, seq, at)) this.#options.onEnded?.(operator, purpose, 'invalidated', seq)
  }

  /** Returns whose yes ended. */
  #invalidate(purpose: PurposeId, seq: number, atMs: number): readonly OperatorId[] {
    const ended: OperatorId[] = []
    this.#turns.push({ seq, purpose, atMs })
    for (let row = 0; row < this.#ids.length; row++) {
      const flags = this.#flags(row, purpose)
      if ((flags & (Flag.yes | Flag.local)) === 0) continue
      this.#setFlags(row, purpose, flags & Flag.no)
      this.#numbers[row * NUMBERS + SEQ] = seq
      ended.push(this.#ids[row]!)
    }
    this.#histories.clear()
    return ended
  }

  /** A renamed purpose takes over every no said to what it replaces; written down whenever there is somebody whom that changes. */
  #inherit(policy: Policy, purpose: PurposeId, replaced: PurposeId): void {
    if (this.#refusers(purpose, replaced).length === 0) return
    const at = this.#time(this.#options.clock.now())
    const seq = this.#ledger.append({ type: 'policy.replaces', body: { at, policy: policy.id, rules: policy.hash, purpose, replaces: replaced } })
    for (const operator of this.#takeOver(purpose, replaced, seq, at)) this.#options.onEnded?.(operator, purpose, 'invalidated', seq)
  }

  /** Returns whose yes ended. */
  #takeOver(purpose: PurposeId, replaced: PurposeId, seq: number, atMs: number): readonly OperatorId[] {
    const ended: OperatorId[] = []
    for (const row of this.#refusers(purpose, replaced, seq)) {
      if ((this.#flags(row, purpose) & (Flag.yes | Flag.local)) !== 0) ended.push(this.#ids[row]!)
      this.#setFlags(row, purpose, Flag.no)
      this.#numbers[row * NUMBERS + SEQ] = seq
    }
    this.#turns.push({ seq, purpose, atMs, replaced })
    this.#histories.clear()
    return ended
  }

  /** Rows whose no to a replaced purpose is one to its heir, and not yet written there. Only a yes to the heir needs the history. */
  #refusers(purpose: PurposeId, replaced: PurposeId, beforeSeq = Number.POSITIVE_INFINITY): readonly number[] {
    const rows = this.#bits.has(replaced) ? this.#ids.keys() : (this.#parked.get(replaced)?.keys() ?? [])
    return [...rows].filter((row) => {
      if ((this.#flags(row, replaced) & Flag.no) === 0) return false
      const own = this.#flags(row, purpose)
      if ((own & Flag.no) !== 0) return false
      if (own === 0) return true
      const events = this.#ledger.events({ subject: { type: 'operator', id: this.#ids[row]! }, type: 'consent.' })
      const history = historyOf([...events].filter(({ seq }) => seq < beforeSeq), this.#turns)
      return passesOn(history.get(replaced), history.get(purpose))
    })
  }

  #heirsOf(purpose: PurposeId): readonly PurposeId[] {
    return this.#policy?.purposes.filter(({ replaces }) => replaces?.includes(purpose) === true).map(({ id }) => id) ?? []
  }

  /** The newest of what any clock reading said. Not a number stays that, and counts as expired. */
  #time(nowMs: number): number {
    if (nowMs < this.#seenMs) return this.#seenMs
    if (nowMs > this.#seenMs) this.#seenMs = nowMs
    return nowMs
  }

  /** Purposes whose yes covers what was acquired at a time. Cold: reads the person's history, which is then kept for a while. */
  #coveredAt(row: number, eventMs: number): number {
    let covered = 0
    for (const { purpose, state, coversMs } of this.#historyOf(row).values()) {
      const bit = this.#bits.get(purpose)
      if (bit !== undefined && isYes(state) && coversMs !== undefined && coversMs <= eventMs) covered |= 1 << bit
    }
    return covered
  }

  #historyOf(row: number): History {
    const ready = this.#histories.get(row)
    if (ready !== undefined) return ready
    const history = historyOf(this.#ledger.events({ subject: { type: 'operator', id: this.#ids[row]! }, type: 'consent.' }), this.#turns)
    this.#histories.set(row, history)
    return history
  }

  #expireIfDue(row: number, nowMs: number): void {
    if (this.#numbers[row * NUMBERS + SEQ]! >= 0 && !(nowMs < this.#numbers[row * NUMBERS + UNTIL]!)) this.#expire(row, nowMs)
  }

  /** Ends what has expired, in the bits at once and in the ledger with the next commit. */
  #expire(row: number, nowMs: number): void {
    let until = NONE
    const operator = this.#ids[row]!
    const ended: { readonly purpose: PurposeId; readonly seq: number }[] = []
    for (const { purpose, state, expiresAtMs, seq } of this.#historyOf(row).values()) {
      if (!isYes(state) || expiresAtMs === undefined) continue
      if (nowMs < expiresAtMs) {
        until = Math.min(until, expiresAtMs)
        continue
      }
      this.#setFlags(row, purpose, 0)
      let endSeq = Number.POSITIVE_INFINITY
      try {
        const at = this.#time(this.#options.clock.now())
        endSeq = this.#ledger.enqueue({ type: 'consent.expired', subject: { type: 'operator', id: operator }, body: { at, operator, purpose, supersedes: seq } })
        this.#numbers[row * NUMBERS + SEQ] = endSeq
      } catch {
        // The ledger is not healthy, which closes everything; the bits are gone in any case.
      }
      ended.push({ purpose, seq: endSeq })
    }
    this.#numbers[row * NUMBERS + UNTIL] = until
    this.#histories.delete(row)
    for (const { purpose, seq } of ended) this.#options.onEnded?.(operator, purpose, 'expired', seq)
  }
}

const Flag = { yes: 1, local: 2, no: 4 } as const

interface RecordedScope {
  readonly seq: number
  readonly sha256: string
  readonly value: unknown
}

function unknownOperator(): GatewayError {
  return new GatewayError('UNKNOWN-OPERATOR', 'This operator is not registered.', 'Add the person to operators.yaml (or through the admin API) first.')
}

/**
 * Whether a yes counts. What restricts wins unless the yes is the same person's newer choice for certain; the ledger gives the
 * order, and clocks only take away:
 * - An agent or administrator needs evidence that the person gave it. [GDPR Art. 7(1)]
 * - One that names what it replaces counts if that is still the newest.
 * - One that names nothing must not be older than the newest answer, nor have been buffered for long, nor follow a no of another
 *   source or machine so closely that two clocks cannot tell which came first. Without an answer so far there is nothing to undo.
 */
function checkYes(change: ConsentChange, current: ConsentRow | undefined, now: number): void {
  const { source, supersedes, givenAtMs } = change
  if ((source === 'agent' || source === 'admin') && (change.evidence ?? '').trim() === '') {
    throw new GatewayError('EVIDENCE-MISSING', 'A grant needs evidence that the person gave it.', 'Say where it is, for example "signed form 2026-114".')
  }
  if (supersedes === undefined ? current !== undefined && isLate(change, current, now) : supersedes !== (current?.seq ?? 0)) {
    throw new GatewayError('STALE-GRANT', 'This yes was given before the newest change and does not name it.', 'Ask the person again.')
  }
  if (givenAtMs !== undefined && !(givenAtMs <= now + LIMITS.eventAheadMs)) throw new GatewayError('STALE-GRANT', 'This yes was given at a time to come.', 'Set the clock of the terminal.')
  if (change.expiresAtMs !== undefined && !(change.expiresAtMs > now)) throw new GatewayError('EXPIRY-PAST', 'This yes has expired already.', 'Give a time in the future, or none.')
}

/** Whether a yes may be older than the answer that stands. To be asked is no answer. */
function isLate({ source, machine, givenAtMs }: ConsentChange, current: ConsentRow, now: number): boolean {
  if (givenAtMs === undefined || current.state === 'requested') return false
  if (!(givenAtMs >= current.sinceMs && givenAtMs >= now - LIMITS.choiceFreshMs)) return true
  const isSame = current.source === source && current.machine === machine
  return isNo(current.state) && !isSame && !(givenAtMs >= current.sinceMs + LIMITS.choiceFreshMs)
}
