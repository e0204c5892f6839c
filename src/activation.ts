/**
 * The life of a set of rules: read and checked, then in force or staged until somebody approves what it widens, then previous. What is
 * in force is durable before it is in force, and a refused file leaves it as it was.
 */
import { existsSync, realpathSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, relative } from 'node:path'
import type { ActiveRules, Reason, RulesState } from './admin/control.ts'
import { acceptRules, type Acceptance, type AcceptanceOptions } from './acceptance.ts'
import { AcceptedSets, type AcceptedFiles, type StagedFiles } from './accepted.ts'
import type { GatewayConfig } from './config/gateway.ts'
import { differenceInPieces, summaryOf, type Accepted, type Difference } from './difference.ts'
import { formatFinding, GatewayError, type Finding } from './domain/errors.ts'
import { LIMITS } from './domain/limits.ts'
import { calmly } from './domain/pieces.ts'
import type { Policy } from './domain/policy.ts'
import type { Clock } from './domain/ports.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { loadSchemas, schemasFromText, type Schemas } from './minimise/descriptor.ts'
import type { PseudonymKeys } from './minimise/pseudonym.ts'

export interface ActivationParts {
  readonly config: GatewayConfig
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly keys: PseudonymKeys
  readonly engine: NonNullable<AcceptanceOptions['engine']>
  /** Builds all that a set needs beside what is in force; what it resolves to is the one swap: every message is handled under exactly one set. */
  readonly prepare: (policy: Policy) => Promise<() => void>
  /** An event of the ledger. */
  readonly record: (type: 'rules.staged' | 'rules.approved' | 'rules.activated' | 'rules.discarded', body: Readonly<Record<string, unknown>>) => void
  readonly isClosing: () => boolean
  /** Included files that were looked for, absolute -> state before they were read. */
  readonly watch?: (files: ReadonlyMap<string, string>) => void
}

export class Activation {
  readonly #parts: ActivationParts
  readonly #config: GatewayConfig
  readonly #sets: AcceptedSets
  /** What is in force. */
  #active: InForce | undefined
  #activeSinceMs = 0
  /** What waits for approval, built; after a restart only once it is read again. */
  #stagedRules: Acceptance | undefined
  /** Of the set that the rules file holds. */
  #fileHash = ''
  #refused: { readonly atMs: number; readonly findings: readonly Finding[] } | undefined
  #turn: Promise<void> = Promise.resolve()
  /** Of those who only look: together they would use up what each of them leaves to the traffic. */
  #looking: Promise<void> = Promise.resolve()
  #lookers = 0

  constructor(parts: ActivationParts) {
    this.#parts = parts
    this.#config = parts.config
    this.#sets = new AcceptedSets(parts.config.data)
  }

  get activeSinceMs(): number {
    return this.#activeSinceMs
  }

  /** Builds everything beside the old, swaps once; a refused file leaves the old set active, and one that widens something waits for approval. */
  async load(by = FILE): Promise<readonly Finding[]> {
    const { log, metrics, clock } = this.#parts
    const schemas = loadSchemas(this.#config.proto)
    const acceptance = await acceptRules(this.#config.rules, { ...this.#asked, schemas })
    const { policy } = acceptance
    this.#parts.watch?.(acceptance.files)
    metrics.count('rules_loads_total', 1, policy === undefined ? 'refused' : 'accepted')
    // After a restart the set that was approved last is in force, whatever the file says now.
    if (this.#active === undefined) await this.#restore(acceptance)
    if (policy === undefined) {
      this.#refused = { atMs: clock.now(), findings: acceptance.findings }
      const first = acceptance.findings.find((finding) => finding.severity === 'error')
      log.error('the rules file was refused', { file: first?.place.file ?? this.#config.rules, findings: acceptance.findings.length, code: first?.code ?? '', line: first?.place.line ?? 0 })
      return acceptance.findings
    }
    this.#fileHash = policy.hash
    await this.#propose(acceptance, { file: acceptance.file, text: acceptance.text, ...partsOf({ include: acceptance.included, params: acceptance.params }), proto: schemas.files, hash: policy.hash, policy: policy.id, day: dayOf(clock.now()) }, { by, origin: 'file' })
    this.#refused = undefined
    return []
  }

  /** How the rules file is read, as far as the gateway file says. Its other files are nothing to include: they hold cards and log-ins. */
  get #asked(): Omit<AcceptanceOptions, 'schemas'> {
    const { bridges, params, file, machines, operators, recipients } = this.#config
    const secrets = [...bridges.values()].flatMap(({ credentialsFile }) => credentialsFile ?? [])
    return { keys: this.#parts.keys, engine: this.#parts.engine, bridges, params, apart: [file, machines, operators, recipients, ...secrets] }
  }

  async #restore(fromFile: Acceptance): Promise<void> {
    const kept = this.#sets.active
    if (kept === undefined) return
    const acceptance = fromFile.policy?.hash === kept.hash ? fromFile : await this.#acceptKept(kept)
    if (acceptance.policy !== undefined) this.#enforce(acceptance, { by: 'start' }, await this.#parts.prepare(acceptance.policy))
    else this.#parts.log.error('the set of rules that was in force is no longer accepted by this version', { rules: kept.hash.slice(0, 16), code: acceptance.findings.find((finding) => finding.severity === 'error')?.code ?? '' })
  }

  /** With the included files, values and schemas of then, and judged by the day on which it was accepted. What has another hash by now is not what was approved. */
  async #acceptKept(kept: AcceptedFiles): Promise<Acceptance> {
    const acceptance = await acceptRules(kept.file, { schemas: schemasFromText(kept.proto), keys: this.#parts.keys, engine: this.#parts.engine, text: kept.text, included: kept.include ?? {}, params: kept.params ?? {}, bridges: this.#config.bridges, ...(kept.day === undefined ? {} : { today: kept.day }) })
    return acceptance.policy === undefined || acceptance.policy.hash === kept.hash ? acceptance : { ...acceptance, policy: undefined }
  }

  /** Activates what widens nothing for anybody; stages the rest. */
  async #propose(acceptance: Acceptance, files: AcceptedFiles, { by, origin }: { readonly by: string; readonly origin: StagedFiles['origin'] }): Promise<void> {
    const { log, metrics, clock } = this.#parts
    const waiting = this.#sets.staged
    if (acceptance.policy === undefined) return
    if (files.hash === this.#active?.policy.hash) {
      // The file holds what is active again, so what it held in between is no longer wanted.
      if (waiting?.origin === 'file') this.#discard(waiting, by)
      return
    }
    if (origin === 'file' && this.#sets.setAside === files.hash) return
    if (waiting?.hash === files.hash && !this.#config.trial) {
      this.#stagedRules = acceptance
      return
    }
    const difference = await calmly(differenceInPieces(this.#active, { policy: acceptance.policy, accepted: acceptance.accepted }))
    if (difference.widened === 0 || this.#config.trial) {
      await this.#take(acceptance, files, { by: difference.widened === 0 ? by : 'trial', difference: summaryOf(difference) }, origin)
      return
    }
    if (waiting !== undefined) this.#discard(waiting, by)
    this.#sets.stage({ ...files, sinceMs: clock.now(), by, origin, approvals: [], difference: { ...difference, changes: difference.changes.slice(0, LIMITS.findings) } })
    this.#stagedRules = acceptance
    metrics.count('rules_loads_total', 1, 'staged')
    this.#parts.record('rules.staged', { hash: files.hash, policy: files.policy, active: this.#active?.policy.hash ?? '', by, difference: summaryOf(difference) })
    log.warn('rules that widen something wait for approval', { rules: files.hash.slice(0, 16) })
  }

  /** Durable first, then in force. */
  async #take(acceptance: Acceptance, files: AcceptedFiles, note: Note, origin: StagedFiles['origin']): Promise<void> {
    if (acceptance.policy === undefined) return
    const swap = await this.#parts.prepare(acceptance.policy)
    const { staged: waiting, active } = this.#sets
    if (waiting !== undefined && waiting.hash !== files.hash) this.#discard(waiting, note.by)
    this.#sets.putAside(origin === 'rollback' ? active?.hash : undefined)
    this.#sets.activate(files)
    this.#stagedRules = undefined
    this.#enforce(acceptance, note, swap)
  }

  #discard(waiting: StagedFiles, by: string): void {
    this.#sets.unstage()
    this.#stagedRules = undefined
    this.#parts.record('rules.discarded', { hash: waiting.hash, policy: waiting.policy, by })
  }

  #enforce(acceptance: Acceptance, note: Note, swap: () => void): void {
    const { policy } = acceptance
    if (policy === undefined || policy.hash === this.#active?.policy.hash) return
    const previous = this.#active?.policy.hash ?? ''
    swap()
    this.#active = { policy, accepted: acceptance.accepted, schemas: acceptance.schemas }
    this.#activeSinceMs = this.#parts.clock.now()
    this.#parts.record('rules.activated', { hash: policy.hash, policy: policy.id, previous, ...note })
    this.#parts.log.info('rules are active', { rules: policy.hash.slice(0, 16), policy: policy.id })
  }

  /** One change of the rules at a time, and none while the files are being read. */
  inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(() => {
      if (this.#parts.isClosing()) throw new GatewayError('CLOSING', 'The gateway is stopping.')
      return work()
    })
    this.#turn = result.then(() => undefined, () => undefined)
    return result
  }

  /** Resolves when nothing is read or changed any more. */
  settled(): Promise<void> {
    return this.#turn
  }

  state(): RulesState {
    const policy = this.#active?.policy
    const { staged, previous } = this.#sets
    return {
      active: policy === undefined ? undefined : {
        hash: policy.hash, policy: policy.id, effective: policy.effective, activeSinceMs: this.#activeSinceMs,
        streams: policy.streams.map((one) => one.id), outputs: policy.outputs.map((one) => one.id), purposes: policy.purposes.map((one) => one.id),
      },
      refused: this.#refused === undefined ? undefined : { ...this.#refused, findings: this.#refused.findings.map((finding) => this.#named(finding)) },
      staged: staged === undefined ? undefined : {
        hash: staged.hash, policy: staged.policy ?? '', sinceMs: staged.sinceMs, by: staged.by, ...staged.difference, approvals: staged.approvals, needs: this.#config.twoPerson ? 2 : 1,
      },
      previous: previous === undefined ? undefined : { hash: previous.hash, policy: previous.policy ?? '' },
    }
  }

  /** What readiness says of the rules. */
  reasons(): Reason[] {
    const reasons: Reason[] = []
    const add = (code: string, severity: Reason['severity'], text: string, mend: string): void => void reasons.push({ code, severity, text, mend })
    const { isStaged, setAside } = this.#sets
    if (this.#active === undefined && !isStaged) add('NO-RULES', 'error', 'No rules were ever accepted: nothing is forwarded.', 'Run parapet check on the rules file and mend what it says.')
    if (this.#active === undefined && isStaged) add('NO-RULES', 'error', 'No rules were ever approved: nothing is forwarded.', 'Approve the ones that wait: parapet rules activate --approve-widening REASON. For a trial on this machine alone: parapet serve --trial.')
    else if (isStaged) add('RULES-STAGED', 'warning', 'The rules file holds a set that widens something; the old one stays active until it is approved.', 'See parapet rules list, then parapet rules activate --approve-widening REASON, or parapet rules discard.')
    if (this.#fileHash !== '' && this.#fileHash === setAside) add('RULES-SET-ASIDE', 'warning', 'The rules file holds a set that was discarded or rolled back; it is not in force.', 'Change the file, or take it after all: parapet rules activate.')
    if (this.#refused !== undefined) add('RULES-REFUSED', 'warning', 'The rules file was refused; the last accepted set stays active.', 'Run parapet check on the rules file and mend what it says.')
    return reasons
  }

  /**
   * Files that the text includes are those beside the rules file. One at a time.
   * @throws GatewayError RULES-BUSY
   */
  async validate(yaml: string): Promise<readonly Finding[]> {
    if (this.#lookers >= LIMITS.validations) throw new GatewayError('RULES-BUSY', 'Many other rules are being checked.', 'Try again in a moment, or use parapet check.')
    this.#lookers++
    const looked = this.#looking.then(() => acceptRules(this.#config.rules, { ...this.#asked, schemas: loadSchemas(this.#config.proto), text: yaml })).finally(() => this.#lookers--)
    this.#looking = looked.then(() => undefined, () => undefined)
    return (await looked).findings.map((finding) => this.#named(finding))
  }

  /** The file as `include:` names it. */
  #named(finding: Finding): Finding {
    return { ...finding, place: { ...finding.place, file: relative(dirname(this.#config.rules), finding.place.file) } }
  }

  get inForce(): InForce | undefined {
    return this.#active
  }

  /**
   * A set that is only looked at: checked as one that is put in place, and compared with what is in force.
   * @throws GatewayError RULES-REFUSED
   */
  async candidate(yaml: string): Promise<{ readonly set: InForce; readonly difference: Difference }> {
    const { policy, findings, accepted, schemas } = await acceptRules(this.#config.rules, { ...this.#asked, schemas: loadSchemas(this.#config.proto), text: yaml })
    if (policy === undefined) throw refusedRules(findings.map((finding) => this.#named(finding)))
    const set = { policy, accepted, schemas }
    return { set, difference: await calmly(differenceInPieces(this.#active, set)) }
  }

  active(): ActiveRules | undefined {
    const kept = this.#sets.active
    return kept === undefined || kept.hash !== this.#active?.policy.hash ? undefined : { file: basename(kept.file), text: kept.text, ...partsOf(kept), proto: kept.proto, hash: kept.hash, day: kept.day ?? dayOf(this.#parts.clock.now()) }
  }

  put(yaml: string, by: string): Promise<RulesState> {
    return this.inTurn(async () => {
      const { policy, findings } = await acceptRules(this.#config.rules, { ...this.#asked, schemas: loadSchemas(this.#config.proto), text: yaml })
      if (policy === undefined) throw refusedRules(findings.map((finding) => this.#named(finding)))
      // The file stays what the gateway goes by: the next start reads it again.
      this.#writeRules(yaml)
      this.#sets.putAside(undefined)
      await this.load(by)
      return this.state()
    })
  }

  #writeRules(yaml: string): void {
    const file = existsSync(this.#config.rules) ? realpathSync(this.#config.rules) : this.#config.rules
    try {
      writeFileSync(`${file}.new`, yaml, { mode: existsSync(file) ? statSync(file).mode : 0o644, flush: true })
      renameSync(`${file}.new`, file)
    } catch (error) {
      throw new GatewayError('RULES-FILE', `The rules file ${this.#config.rules} cannot be written (${(error as NodeJS.ErrnoException).code ?? 'error'}).`, 'Let this user write it and its folder, or change the file where it comes from.')
    }
  }

  activate(by: string): Promise<RulesState> {
    return this.inTurn(async () => {
      this.#sets.putAside(undefined)
      const findings = await this.load(by)
      if (findings.length > 0) throw refusedRules(findings.map((finding) => this.#named(finding)))
      return this.state()
    })
  }

  approve(hash: string, reason: string, by: string): Promise<RulesState> {
    return this.inTurn(async () => {
      const { staged } = this.#sets
      if (staged === undefined) throw NOTHING_STAGED()
      if (staged.hash !== hash) throw new GatewayError('RULES-CHANGED', 'The set that waits is another one than you looked at.', 'Look at it again: parapet rules list.')
      if (staged.approvals.some((one) => one.by === by)) throw new GatewayError('SECOND-APPROVER', 'This token has approved the set already.', 'A second, different token must approve it: see two_person in the gateway file.')
      const acceptance = this.#stagedRules?.policy?.hash === hash ? this.#stagedRules : await this.#acceptKept(staged)
      if (acceptance.policy === undefined) throw refusedRules(acceptance.findings.map((finding) => this.#named(finding)))
      const approvals = [...staged.approvals, { by, reason, atMs: this.#parts.clock.now() }]
      const { sinceMs, origin, difference, ...files } = staged
      this.#parts.record('rules.approved', { hash, policy: staged.policy, by, reason, difference: summaryOf(difference), of: this.#config.twoPerson ? 2 : 1 })
      if (this.#config.twoPerson && approvals.length < 2) this.#sets.stage({ ...staged, approvals })
      else await this.#take(acceptance, { file: files.file, text: files.text, ...partsOf(files), proto: files.proto, hash, ...(files.policy === undefined ? {} : { policy: files.policy }), ...(files.day === undefined ? {} : { day: files.day }) }, { by: approvals.map((one) => one.by).join(', '), reason, difference: summaryOf(difference), sinceMs }, origin)
      return this.state()
    })
  }

  rollback(by: string): Promise<RulesState> {
    return this.inTurn(async () => {
      const { previous } = this.#sets
      if (previous === undefined) throw new GatewayError('NO-PREVIOUS', 'No set of rules was active before this one.', 'Change the rules file instead.')
      const acceptance = await this.#acceptKept(previous)
      if (acceptance.policy === undefined) throw refusedRules(acceptance.findings.map((finding) => this.#named(finding)))
      await this.#propose(acceptance, previous, { by, origin: 'rollback' })
      return this.state()
    })
  }

  discard(by: string): Promise<RulesState> {
    return this.inTurn(() => {
      const { staged } = this.#sets
      if (staged === undefined) throw NOTHING_STAGED()
      if (staged.origin === 'file') this.#sets.putAside(staged.hash)
      this.#discard(staged, by)
      return Promise.resolve(this.state())
    })
  }
}

/** Of a set, what not every set has. */
function partsOf({ include = {}, params = {} }: Pick<AcceptedFiles, 'include' | 'params'>): Pick<AcceptedFiles, 'include' | 'params'> {
  return { ...(Object.keys(include).length === 0 ? {} : { include }), ...(Object.keys(params).length === 0 ? {} : { params }) }
}

/** A set with the schemas that it was accepted with. */
export interface InForce extends Accepted {
  readonly schemas: Schemas
}

/** Who changed the rules when it was nobody through the API. */
const FILE = 'file'

/** What the ledger keeps of an activation. */
interface Note {
  /** Name of a token, `file`, `start` or `trial`. */
  readonly by: string
  readonly reason?: string
  readonly difference?: string
  /** Since when it waited. */
  readonly sinceMs?: number
}

const NOTHING_STAGED = (): GatewayError => new GatewayError('NOTHING-STAGED', 'No set of rules waits for approval.', 'See parapet rules list.')

function refusedRules(findings: readonly Finding[]): GatewayError {
  const errors = findings.filter((finding) => finding.severity === 'error')
  const first = errors[0]
  return new GatewayError('RULES-REFUSED', `The rules have ${errors.length === 1 ? 'an error' : `${errors.length} errors`}${first === undefined ? '' : `: ${formatFinding(first)}`}`, 'The rules in force stay. parapet check lists everything.')
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
