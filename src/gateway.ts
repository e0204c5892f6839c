/**
 * Wiring: introduces the rooms to each other. Reads like the data path: terminals -> ingress -> pipeline -> outbox -> outlets.
 * The one file that knows all rooms.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { AuditEvent, Control, Health, NewMachine, Reason, RulesState, Why } from './admin/control.ts'
import { createAdmin, type Admin } from './admin/http.ts'
import { addMachine } from './admin/registry.ts'
import { openTokens } from './admin/tokens.ts'
import { acceptRules, type Acceptance } from './acceptance.ts'
import { AcceptedSet } from './accepted.ts'
import { createCredentials, hashCredential } from './broker/identify.ts'
import { createEgress, type Egress } from './broker/egress.ts'
import { createIngress, type Ingress } from './broker/ingress.ts'
import { listen, type Listener, type TlsMaterial } from './broker/listener.ts'
import type { BrokerCount } from './broker/counts.ts'
import { createTopicMatcher } from './broker/topics.ts'
import { Registries } from './registries.ts'
import type { GatewayConfig, ListenConfig } from './config/gateway.ts'
import { watchFiles } from './config/watch.ts'
import { openBooks, type Books } from './consent/books.ts'
import { receiptOf } from './consent/receipts.ts'
import { createRootKey, loadRootKey, type RootKey } from './consent/root.ts'
import { Gate, gate, stricter } from './domain/basis.ts'
import { clear, nobody } from './domain/consent.ts'
import { GatewayError, type Finding } from './domain/errors.ts'
import type { MachineId, OperatorId, OutputId, PurposeId } from './domain/ids.ts'
import type { Basis, Policy } from './domain/policy.ts'
import type { Clock, ConsentChange, ConsentReceipt, OutboxRecord, PurgeSelector } from './domain/ports.ts'
import { Verdict, verdictName } from './domain/verdict.ts'
import { silentLog, type Log } from './log.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { createCells } from './minimise/cells.ts'
import { loadSchemas, schemasFromText } from './minimise/descriptor.ts'
import { variantIndex } from './minimise/plan.ts'
import type { PseudonymKeys } from './minimise/pseudonym.ts'
import { localOutlet } from './outlet/local.ts'
import { openOutbox, type DurableOutbox } from './outlet/outbox.ts'
import { createPipeline, type Pipeline } from './pipeline.ts'
import { Recollection } from './recollection.ts'
import { grantedScope, isScopeWider } from './scope.ts'
import { buildSnapshot, type OutputEntry, type Snapshot } from './snapshot.ts'

export interface GatewayOptions {
  readonly log?: Log
  readonly clock?: Clock
  readonly version?: string
}

export interface Gateway {
  /** Bound addresses, once started. */
  readonly addresses: { readonly terminals: Address; readonly recipients: Address; readonly admin: Address }
  readonly control: Control
  /** True when this start made the data folder: the first start. */
  readonly first: boolean
  /** Where the token of the first administrator lies. */
  readonly adminTokenFile: string
  /** Reads rules, schemas and registries again. Resolves with the findings that kept the old rules active, or none. */
  reload(): Promise<readonly Finding[]>
  /** Takes no further message, delivers and commits what can be, keeps the rest, closes. */
  close(): Promise<void>
}

export interface Address {
  readonly host: string
  readonly port: number
}

export const SYSTEM_CLOCK: Clock = { now: Date.now, monotonic: () => performance.now() }

const GRACE_MS = 3_000
const SWEEP_MS = 60_000

/** Opens everything and starts to listen. Throws GatewayError with the mend when it cannot. */
export async function createGateway(config: GatewayConfig, options: GatewayOptions = {}): Promise<Gateway> {
  const clock = options.clock ?? SYSTEM_CLOCK
  const log = options.log ?? silentLog
  const first = makeDataFolder(config.data)
  const root = rootKey(join(config.data, 'root.key'), log)
  const metrics = createMetrics()
  const consented: Consented = { policy: undefined, ended: () => {} }
  const books = openBooks({
    folder: config.data, root, tenant: config.tenant, gateway: config.name, clock,
    onDamage: () => log.error('the ledger is damaged: everybody counts as unknown until it is restored'),
    scopeOf: (purpose) => (consented.policy === undefined ? undefined : grantedScope(consented.policy, purpose)),
    wider: isScopeWider,
    onEnded: (operator, purpose) => consented.ended(operator, purpose),
  })
  const running = new Running(config, { clock, log, metrics, books, consented, root, version: options.version ?? '0.0.0', first })
  try {
    await running.open()
  } catch (error) {
    await running.close()
    throw error
  }
  return running
}

function makeDataFolder(folder: string): boolean {
  const first = !existsSync(join(folder, 'root.key'))
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    chmodSync(folder, 0o700)
  } catch (error) {
    throw new GatewayError('DATA-FOLDER', `The data folder ${folder} cannot be used (${(error as NodeJS.ErrnoException).code ?? 'error'}).`, 'Make it a folder that this user owns and may write, or name another one under `data:`.')
  }
  return first
}

function rootKey(path: string, log: Log): RootKey {
  if (existsSync(path)) return loadRootKey(path)
  log.info('made a root key: keep a copy in a safe place, the ledger and all pseudonyms hang on it')
  return createRootKey(path)
}

/** What the books ask back: opened before the rules are known and before anything waits that a consent could cover. */
interface Consented {
  policy: Policy | undefined
  ended: (operator: OperatorId, purpose: PurposeId) => void
}

interface Parts {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly books: Books
  readonly consented: Consented
  readonly root: RootKey
  readonly version: string
  readonly first: boolean
}

class Running implements Gateway, Control {
  readonly first: boolean
  readonly adminTokenFile: string
  readonly #config: GatewayConfig
  readonly #parts: Parts
  readonly #startedAtMs: number
  readonly #registries: Registries
  readonly #outbox: DurableOutbox
  readonly #cells = createCells()
  readonly #keys: PseudonymKeys
  readonly #pipeline: Pipeline
  readonly #accepted: AcceptedSet
  readonly #tokens: ReturnType<typeof openTokens>
  readonly #recollection = new Recollection()
  readonly #person = nobody()
  #ingress: Ingress | undefined
  #egress: Egress | undefined
  #admin: Admin | undefined
  #adminAddress: Address = { host: '', port: 0 }
  #listeners: Listener[] = []
  #activeSinceMs = 0
  #refused: { readonly atMs: number; readonly findings: readonly Finding[] } | undefined
  #closing = false
  #registryFindings: readonly Finding[] = []
  /** Times at which a card changes hands, ascending: what was cached for one side does not serve the other. */
  #borders: readonly number[] = []
  #stopWatching: () => void = () => {}
  #sweepTimer: NodeJS.Timeout | undefined
  #reloading: Promise<readonly Finding[]> = Promise.resolve([])

  constructor(config: GatewayConfig, parts: Parts) {
    this.#config = config
    this.#parts = parts
    this.first = parts.first
    this.#startedAtMs = parts.clock.now()
    const { books, clock, metrics, root } = parts
    this.#registries = new Registries(config)
    this.#tokens = openTokens(config.data, () => clock.now())
    this.adminTokenFile = this.#tokens.adminFile
    this.#accepted = new AcceptedSet(config.data)
    this.#outbox = openOutbox({ file: join(config.data, 'outbox.db'), clock, quotaBytes: config.limits.outboxBytes, tag: (subject) => Buffer.from(books.keys.tagOf('operator', subject)).toString('hex') })
    const registries = this.#registries
    // A yes that ended by its time or by wider rules takes with it what waits under it, as a withdrawal does.
    parts.consented.ended = (subject, purpose) => {
      const selector: PurgeSelector = { subject, purpose }
      // It may be told from within a decision: the gate is closed at once, what recipients' queues hold is put right a turn later.
      // What the outbox still holds is asked again at the gate; a coarse message that needed no yes stays.
      setImmediate(() => {
        if (!this.#closing) void this.#egress?.purge((record) => covered(selector, record) && !this.#mayLeave(record), 'withdrawal').cut()
      })
    }
    this.#keys = {
      root: root.bytes,
      tenant: config.tenant,
      rows: {
        // A card in a field stands for its person: the row is the person's, whoever is signed on.
        row: (kind, value, _as, eventMs) => {
          // A card may pass from one person to another: it stands for who had it at the time of the event.
          const subject = kind === 'operator' ? (books.identities.find(value, eventMs > 0 ? eventMs : clock.now())?.operator ?? (books.identities.knows(value as OperatorId) ? value : undefined)) : value
          return subject === undefined ? undefined : books.keys.row(kind, subject, 'pseudonym')
        },
        generationAt: (eventMs) => {
          let interval = 0
          while (interval < this.#borders.length && (this.#borders[interval] as number) <= eventMs) interval++
          return (books.keys.generation + registries.generation) * 4_096 + interval
        },
      },
    }
    this.#pipeline = createPipeline({
      random: randomBytes,
      machines: () => registries.machines,
      sessions: books.sessions,
      consent: books.states,
      identities: books.identities,
      outbox: this.#outbox,
      cells: this.#cells,
      metrics,
      verifyEvery: config.verifyEvery,
      orderBase: this.#outbox.epoch * 2 ** 32,
      ledgerHealthy: () => books.ledger.healthy,
      onVerdict: (machine, stream, output, code) => this.#recollection.note(machine, stream?.stream.id, output?.output.id, code, clock.now()),
    })
  }

  get control(): Control {
    return this
  }

  get addresses(): Gateway['addresses'] {
    const [terminals, recipients] = this.#listeners.map((listener): Address => ({ host: listener.host, port: listener.port }))
    return { terminals: terminals as Address, recipients: recipients as Address, admin: this.#adminAddress }
  }

  // ----------------------------------------------------------------------------------------------------------- start, stop

  async open(): Promise<void> {
    const { log, clock, metrics } = this.#parts
    this.#loadRegistries()
    await this.#loadRules()
    const counting = (listener: string) => (name: BrokerCount, by?: number): void => this.#count(listener, name, by)
    const credentials = createCredentials()
    const broker = { clock, log, credentials }
    const [atTerminals, atRecipients] = [counting('terminals'), counting('recipients')]

    this.#egress = await createEgress({
      ...broker,
      count: atRecipients,
      directory: this.#registries,
      allowed: (recipient) => this.#pipeline.active?.topicsOf(recipient) ?? [],
      gate: (record) => this.#mayLeave(record),
      onDelivered: (record, credential) => {
        metrics.counter('delivered_total', record.output).add()
        this.#outbox.onDelivered(record, credential)
      },
    })
    const egress = this.#egress
    this.#outbox.attach(localOutlet({
      publish: (record, done) => egress.publish(record, (sessions) => done(undefined, sessions)),
      cut: async (selector) => {
        const { purged, swapped, cut } = egress.purge((record) => covered(selector, record))
        return { dropped: purged + swapped, onTheWire: await cut() }
      },
    }, { onNoSubscriber: (record) => metrics.output(record.output).withheld(NO_SUBSCRIBER) }))

    this.#ingress = await createIngress({
      ...broker,
      count: atTerminals,
      directory: this.#registries,
      handle: (publish) => void this.#pipeline.handle(publish),
      committed: (callback) => {
        const began = clock.monotonic()
        this.#outbox.committed((error) => {
          metrics.commit((clock.monotonic() - began) / 1000)
          callback(error)
        })
      },
      limits: { packetBytes: this.#config.limits.packetBytes, connectTimeMs: this.#config.limits.connectTimeMs, packetTimeMs: this.#config.limits.packetTimeMs, unanswered: this.#config.limits.unanswered, messagesPerSecond: this.#config.limits.messagesPerSecond },
    })
    const ingress = this.#ingress
    const { terminals, recipients, admin } = this.#config.listen
    this.#listeners.push(await listen({ name: 'terminals', ...endpoint(terminals), connections: this.#config.limits.connections, accept: (socket, via) => ingress.accept(socket, via), count: atTerminals, log }))
    this.#listeners.push(await listen({ name: 'recipients', ...endpoint(recipients), accept: (socket, via) => egress.accept(socket, via), count: atRecipients, log }))
    this.#admin = await createAdmin({
      control: this, tokens: this.#tokens, metrics, log, clock, version: this.#parts.version,
      host: admin.host, port: admin.port, tls: admin.tls, audit: (event) => this.#audit(event),
    })
    this.#adminAddress = await this.#admin.listen()
    metrics.onScrape(() => this.#gauges())
    this.#sweepTimer = setInterval(() => this.#parts.books.sweep(clock.now()), SWEEP_MS)
    this.#sweepTimer.unref()
    const schemaFolders = this.#config.proto.filter((folder) => existsSync(folder)).flatMap((folder) => readdirSync(folder, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
    this.#stopWatching = watchFiles([...this.#config.watched, ...schemaFolders], () => {
      this.reload().catch((error: unknown) => log.error('the files could not be read again: what was in force stays', { error }))
    })
  }

  /** One reload at a time; a second request while one runs reads the files again after it. */
  reload(): Promise<readonly Finding[]> {
    this.#reloading = this.#reloading.catch(() => []).then(async () => {
      if (this.#closing) return []
      this.#loadRegistries()
      const findings = await this.#loadRules()
      this.#ingress?.recheck()
      this.#egress?.recheck()
      return findings
    })
    return this.#reloading
  }

  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    this.#stopWatching()
    clearInterval(this.#sweepTimer)
    await this.#admin?.close()
    // A listener is closed when its connections are, which the brokers end.
    const listeners = this.#listeners.map((listener) => listener.close(GRACE_MS))
    await this.#ingress?.close(GRACE_MS)
    await this.#egress?.close(GRACE_MS)
    await Promise.all(listeners)
    await this.#outbox.close()
    this.#parts.books.close()
  }

  // ------------------------------------------------------------------------------------------------ registries and rules

  #loadRegistries(): void {
    const { log, books } = this.#parts
    const loaded = this.#registries.load()
    // [P7] first of all, whatever else goes wrong: switched off or unknown, no session is kept, and what waits about an operator there goes.
    // The sessions of all of them end before anything is purged: an outbox that fails must not keep one alive.
    for (const machine of loaded.collectionOff) books.sessions.forget(machine)
    for (const machine of loaded.collectionOff) {
      void this.#egress?.purge((record) => record.machine === machine && record.subjects.length > 0, 'device_setting').cut()
      try {
        this.#outbox.purge({ machine }, 'device_setting')
      } catch (error) {
        log.error('what waits about operators of a machine could not be purged after its device setting was turned off', { machine, error })
      }
    }
    this.#registryFindings = loaded.findings.filter((finding) => finding.severity === 'error')
    for (const finding of loaded.findings) log.error('a registry file was refused and the old entries stay', { code: finding.code, file: finding.place.file, line: finding.place.line, col: finding.place.col })
    if (loaded.operators !== undefined) {
      try {
        books.identities.load(loaded.operators)
        this.#borders = bordersOf(loaded.operators)
      } catch (error) {
        log.error('the operators file was refused and the old entries stay', { file: this.#config.operators, error })
      }
    }
    // Without a row there is no pseudonym; erased people get none back.
    books.keys.ensureMany('operator', (loaded.operators ?? []).map(({ id }) => id).filter((id) => books.identities.knows(id)), ['pseudonym'])
    books.keys.ensureMany('machine', this.#registries.machineIds(), ['pseudonym'])
  }

  /** Builds everything beside the old, swaps once; a refused file leaves the old set active. */
  async #loadRules(): Promise<readonly Finding[]> {
    const { log, metrics, clock } = this.#parts
    const schemas = loadSchemas(this.#config.proto)
    const acceptance = await acceptRules(this.#config.rules, { schemas, keys: this.#keys })
    let accepted = acceptance.policy === undefined ? undefined : acceptance
    metrics.count('rules_loads_total', 1, accepted === undefined ? 'refused' : 'accepted')
    if (accepted === undefined) {
      this.#refused = { atMs: clock.now(), findings: acceptance.findings }
      log.error('the rules file was refused', { file: this.#config.rules, findings: acceptance.findings.length, code: acceptance.findings[0]?.code ?? '', line: acceptance.findings[0]?.place.line ?? 0 })
      if (this.#pipeline.active !== undefined) return acceptance.findings
      // After a restart the last accepted set is still the one in force.
      const kept = this.#accepted.restore()
      if (kept === undefined) return acceptance.findings
      accepted = await acceptRules(kept.file, { schemas: schemasFromText(kept.proto), keys: this.#keys, text: kept.text })
      if (accepted.policy === undefined) return acceptance.findings
    } else {
      this.#refused = undefined
      this.#accepted.store({ file: accepted.file, text: accepted.text, proto: schemas.files, hash: accepted.policy?.hash ?? '' })
    }
    this.#activate(accepted)
    return acceptance.policy === undefined ? acceptance.findings : []
  }

  #activate(accepted: Acceptance): void {
    const { books, metrics, log, clock, root } = this.#parts
    const { policy } = accepted
    if (policy === undefined || policy.hash === this.#pipeline.active?.policy.hash) return
    metrics.useRules(policy.outputs.map((output) => output.id), policy.streams.map((stream) => stream.id))
    const identify = (card: string, atMs: number): ReturnType<typeof books.identities.find> => (card === '' ? undefined : books.identities.find(card, atMs))
    const snapshot: Snapshot = buildSnapshot(policy, {
      keys: this.#keys,
      engine: this.#config.minimiser === 'interpreted' ? 'interpreted' : 'generated',
      keyId: root.id,
      metrics,
      sessions: {
        // Durable before the terminal has its answer: a lost sign-off would leave a person signed on. A few a shift, so each has its own fsync.
        signOn: (machine, card, eventMs, receivedMs) => {
          const identity = identify(card, eventMs)
          metrics.count('session_events_total', 1, identity === undefined ? 'unknown_card' : identity.kind === 'shared' ? 'shared_card' : 'on')
          books.sessions.signOn(machine, identity, eventMs, receivedMs)
          books.ledger.flush()
        },
        signOff: (machine, card, eventMs, receivedMs) => {
          metrics.count('session_events_total', 1, 'off')
          books.sessions.signOff(machine, identify(card, eventMs), eventMs, receivedMs)
          books.ledger.flush()
        },
      },
      matcher: (streams) => {
        const matcher = createTopicMatcher(streams)
        return (topic) => matcher.match(topic)
      },
    })
    this.#parts.consented.policy = policy
    books.usePolicy(policy)
    const previous = this.#pipeline.active?.policy.hash ?? ''
    this.#pipeline.swap(snapshot)
    this.#activeSinceMs = clock.now()
    if (books.ledger.healthy) books.ledger.append({ type: 'rules.activated', body: { hash: policy.hash, policy: policy.id, previous } })
    log.info('rules are active', { rules: policy.hash.slice(0, 16), policy: policy.id })
  }

  // ---------------------------------------------------------------------------------------------------------------- leaving

  /** [G4] asked again at the moment of the write: what consent no longer covers does not leave. */
  #mayLeave(record: OutboxRecord): boolean {
    // Rules that no longer have the output, or close its purpose there, close what waits as well.
    const entry = this.#outputEntry(record)
    const here = entry?.basisFor(record.country, undefined)
    if (entry === undefined || here === undefined || here.basis === 'forbidden') return false
    if (record.payloadIfWithdrawn === undefined) return true
    const operator = record.subjects[0]
    if (operator === undefined) return false
    clear(this.#person)
    // [rules-language 3.3] the same grant from acquisition to egress: a later yes does not cover what was acquired before it.
    if (!this.#parts.books.ledger.healthy || !this.#parts.books.states.fill(operator, record.acquiredAtMs, this.#parts.clock.now(), this.#person)) return false
    this.#person.known = true
    // The operator's country counted when the record was made, and still does.
    const basis = stricter(here, { ...here, basis: record.basis as Basis })
    const state = gate(entry.output, basis, this.#person)
    // What carries the consent variant of a pair needs the yes; what any closing basis let through needs an open output.
    const isFine = entry.planIds.indexOf(record.plan) >= variantIndex(true, false)
    return record.payloadIfWithdrawn === null && basis?.basis !== 'consent' && !isFine ? state !== Gate.closed : state === Gate.yes
  }

  #stopped(): OutputId[] {
    const entries = this.#pipeline.active?.streams.flatMap((stream) => stream.outputs) ?? []
    return [...new Set(entries.filter((entry) => entry.stopped !== undefined).map((entry) => entry.output.id))]
  }

  #outputEntry(record: OutboxRecord): OutputEntry | undefined {
    const stream = this.#pipeline.active?.streams.find((one) => one.stream.id === record.stream)
    return stream?.outputs.find((one) => one.output.id === record.output)
  }

  // --------------------------------------------------------------------------------------------------------------- control

  async changeConsent(change: ConsentChange): Promise<ConsentReceipt> {
    const { books, metrics } = this.#parts
    // The ledger is fsynced and the table in force when this returns; from here on the gate is closed.
    const changed = books.states.change(change)
    metrics.count('consent_changes_total')
    if (change.state === 'granted' || change.state === 'local_only' || change.state === 'requested') return receiptOf(books.ledger, change, changed)
    const selector: PurgeSelector = { subject: change.operator, purpose: change.purpose }
    // The recipients' broker first: it sees the records as they were, and an outbox that fails must not keep it from letting go.
    const gone = this.#egress?.purge((record) => covered(selector, record) && record.payloadIfWithdrawn !== undefined)
    let stored = { purged: 0, swapped: 0 }
    let failure: unknown
    try {
      stored = this.#outbox.purge(selector, 'withdrawal')
    } catch (cause) {
      failure = cause
    }
    const onTheWire = (await gone?.cut()) ?? 0
    if (failure !== undefined) throw notDeleted(failure)
    return receiptOf(books.ledger, change, changed, { purged: stored.purged + (gone?.purged ?? 0), swapped: stored.swapped + (gone?.swapped ?? 0), onTheWire })
  }

  async giveNotice(operator: OperatorId, policy: string | undefined, language: string | undefined, by: string): ReturnType<Control['giveNotice']> {
    const id = policy ?? this.#pipeline.active?.policy.id
    if (id === undefined) throw new GatewayError('UNKNOWN-POLICY', 'No rules are active, so there is no notice to give.', 'Mend the rules file first.')
    return { operator, policy: id, seq: this.#parts.books.states.giveNotice(operator, id, language, by) }
  }

  consent(operator: OperatorId): ReturnType<Control['consent']> {
    const who = this.#parts.books.identities.who(operator)
    return who === undefined ? undefined : { operator, country: who.country, ...this.#parts.books.states.show(operator) }
  }

  async validateRules(yaml: string): Promise<readonly Finding[]> {
    return (await acceptRules(this.#config.rules, { schemas: loadSchemas(this.#config.proto), keys: this.#keys, text: yaml })).findings
  }

  machines(page: { readonly after: string | undefined; readonly limit: number }): ReturnType<Control['machines']> {
    const ids = this.#registries.machineIds().sort()
    const rest = page.after === undefined ? ids : ids.filter((id) => id > (page.after as string))
    return { machines: rest.slice(0, page.limit).flatMap((id) => this.#registries.machine(id) ?? []), total: ids.length }
  }

  async addMachine(entry: NewMachine, password: string | undefined): ReturnType<Control['addMachine']> {
    addMachine(this.#config.machines, { ...entry, credential: password === undefined ? undefined : await hashCredential(password) })
    await this.reload()
    const machine = this.#registries.machine(entry.id)
    if (machine === undefined) throw new GatewayError('MACHINES-FILE', 'The entry was written, but the file was not accepted.', `Run parapet check to see what is wrong with ${this.#config.machines}.`)
    return machine
  }

  sessions(): ReturnType<Control['sessions']> {
    return this.#registries.machineIds().flatMap((id) => {
      const current = this.#parts.books.sessions.current(id as MachineId)
      return current === undefined ? [] : [{ machine: id as MachineId, ...current }]
    })
  }

  outputs(): ReturnType<Control['outputs']> {
    return (this.#pipeline.active?.policy.outputs ?? []).map((output) => {
      const counters = this.#parts.metrics.output(output.id)
      return {
        id: output.id, recipient: output.recipient.id, purpose: output.purpose.id, topic: output.to.topic, qos: output.to.qos, via: output.to.via,
        stopped: this.#stopped().includes(output.id), forwarded: counters.forwarded.value, withheld: counters.reasons(),
      }
    })
  }

  why(machine: MachineId, output: OutputId): Why | undefined {
    const active = this.#pipeline.active
    const entry = this.#registries.machine(machine)
    const found = active?.policy.outputs.find((one) => one.id === output)
    if (entry === undefined || found === undefined || active === undefined) return undefined
    const basis = active.streams.flatMap((stream) => stream.outputs).find((one) => one.output === found)?.basisFor(entry.country, undefined)
    const messages = this.#recollection.of(machine, output).map((one) => ({ atMs: one.atMs, stream: one.stream, result: one.code === 0 ? ('forwarded' as const) : verdictName(one.code) }))
    clear(this.#person)
    this.#parts.books.sessions.decide(entry, this.#parts.clock.now(), this.#parts.clock.now(), this.#person)
    const bit = 1 << found.purpose.index
    const has = (bits: number): boolean => (bits & bit) !== 0
    return {
      machine, output, connected: false, country: entry.country, basis: basis?.basis, messages,
      person: { known: this.#person.known, yes: has(this.#person.yes), no: has(this.#person.no), notice: has(this.#person.notice), collection: entry.operatorCollection === 'on' },
      next: nextStep(messages.at(-1)?.result, basis === undefined),
    }
  }

  rules(): RulesState {
    const policy = this.#pipeline.active?.policy
    return {
      active: policy === undefined ? undefined : {
        hash: policy.hash, policy: policy.id, effective: policy.effective, activeSinceMs: this.#activeSinceMs,
        streams: policy.streams.map((one) => one.id), outputs: policy.outputs.map((one) => one.id), purposes: policy.purposes.map((one) => one.id),
      },
      refused: this.#refused,
      staged: undefined,
    }
  }

  health(): Health {
    const reasons: Reason[] = []
    const add = (code: string, severity: Reason['severity'], text: string, mend: string): void => void reasons.push({ code, severity, text, mend })
    if (this.#pipeline.active === undefined) add('NO-RULES', 'error', 'No rules were ever accepted: nothing is forwarded.', 'Run parapet check on the rules file and mend what it says.')
    if (this.#refused !== undefined) add('RULES-REFUSED', 'warning', 'The rules file was refused; the last accepted set stays active.', 'Run parapet check on the rules file and mend what it says.')
    if (this.#registries.machines.size === 0) add('NO-MACHINES', 'error', 'The registry holds no machine: every message is refused.', 'Run parapet check with --config on the gateway file and mend what it says of the machines.')
    for (const finding of this.#registryFindings.slice(0, 5)) add('REGISTRY-REFUSED', 'warning', `A registry file was refused, and its old entries stay: ${finding.place.file}:${finding.place.line}:${finding.place.col} ${finding.code}.`, 'Run parapet check with --config on the gateway file and mend what it says.')
    if (!this.#parts.books.ledger.healthy) add('LEDGER-DAMAGED', 'error', 'The ledger cannot be trusted: everybody counts as unknown and nothing is recorded.', 'Run parapet ledger verify, then restore the data folder from a backup.')
    if (!this.#outbox.healthy) add('OUTBOX-UNHEALTHY', 'error', 'The outbox cannot be written: QoS 1 and 2 stay unacknowledged.', 'Look at free space and health of the disk that holds the data folder.')
    else if (this.#outbox.bytes > this.#config.limits.outboxBytes * 0.9) add('OUTBOX-FULL', 'warning', 'The outbox is almost full.', 'See why its destinations do not take messages, or raise limits.outbox_bytes.')
    for (const output of this.#stopped()) add('VERIFY-VIOLATION', 'error', `The verifier found a field in the output ${output} that its plan does not name; the output is stopped.`, 'Set minimiser: interpreted in the gateway file, restart, and report the rules file.')
    if (this.#closing) add('CLOSING', 'error', 'The gateway is stopping.', 'Wait for the new one.')
    return { live: true, ready: reasons.every((reason) => reason.severity !== 'error'), reasons }
  }

  status(): ReturnType<Control['status']> {
    const { books } = this.#parts
    const policy = this.#pipeline.active?.policy
    return {
      name: this.#config.name, version: this.#parts.version, startedAtMs: this.#startedAtMs, trial: this.#config.trial,
      listeners: [
        { name: 'terminals', ...this.addresses.terminals, tls: this.#config.listen.terminals.tls !== undefined, connections: this.#ingress?.connections ?? 0 },
        { name: 'recipients', ...this.addresses.recipients, tls: this.#config.listen.recipients.tls !== undefined, connections: this.#egress?.connections ?? 0 },
        { name: 'admin', ...this.addresses.admin, tls: this.#config.listen.admin.tls !== undefined, connections: 0 },
      ],
      bridges: [],
      machines: this.#registries.machines.size, operators: books.states.operators, sessions: this.sessions().length,
      outbox: { records: this.#outbox.depth, bytes: this.#outbox.bytes, limitBytes: this.#config.limits.outboxBytes, oldestAtMs: undefined },
      ledger: { seq: books.ledger.head.seq, healthy: books.ledger.healthy },
      rules: policy === undefined ? undefined : { hash: policy.hash, policy: policy.id, activeSinceMs: this.#activeSinceMs },
    }
  }

  // --------------------------------------------------------------------------------------------------------------- counting

  #count(listener: string, name: BrokerCount, by = 1): void {
    const { metrics } = this.#parts
    if (name.startsWith('kill.')) metrics.count('kills_total', by, name.slice(5))
    else if (name === 'connection') metrics.count('connections_total', by, listener)
    else if (name === 'will') metrics.count('wills_discarded_total', by)
    else metrics.count('broker_events_total', by, name)
  }

  #gauges(): void {
    const { metrics } = this.#parts
    metrics.gauge('connections', this.#ingress?.connections ?? 0, 'terminals')
    metrics.gauge('connections', this.#egress?.connections ?? 0, 'recipients')
    metrics.gauge('sessions', this.sessions().length)
    metrics.gauge('outbox_records', this.#outbox.depth)
    metrics.gauge('outbox_bytes', this.#outbox.bytes)
    for (const [reason, count] of Object.entries(this.#outbox.stats.purged)) metrics.counter('outbox_purged_total', reason).set(count)
    metrics.gauge('ready', this.health().ready ? 1 : 0)
  }

  #audit(event: AuditEvent): void {
    // Changes of consent are ledger events of their own; the rest of what people do through the API is recorded here.
    const { books } = this.#parts
    if (!books.ledger.healthy || event.action.startsWith('consent.') && event.outcome === 'done' && event.action !== 'consent.shown') return
    const { operator, atMs, action, outcome, code, actor, role, machine, purpose, detail } = event
    books.ledger.append({ type: `disclosure.${action.replaceAll('.', '_')}`, ...(operator === undefined || !books.identities.knows(operator) ? {} : { subject: { type: 'operator', id: operator } }), body: { atMs, outcome, code, actor, role, machine, purpose, detail } })
  }
}

function endpoint({ host, port, tls }: ListenConfig): { host: string; port: number; tls?: TlsMaterial } {
  return tls === undefined ? { host, port } : { host, port, tls }
}

/** Ends of validity that lie between two owners of a card; at most 4,095, beyond which each reload clears caches anyway. */
function bordersOf(operators: readonly { readonly validFromMs: number | undefined; readonly validToMs: number | undefined }[]): number[] {
  const times = operators.flatMap(({ validFromMs, validToMs }) => [validFromMs, validToMs]).filter((time): time is number => time !== undefined)
  return [...new Set(times)].sort((a, b) => a - b).slice(-4_095)
}

/** Whether a purge concerns a record; the outbox has its own copy of this question beside its index. */
function covered(selector: PurgeSelector, record: OutboxRecord): boolean {
  return (selector.subject === undefined || record.subjects.includes(selector.subject))
    && (selector.purpose === undefined || record.purpose === selector.purpose)
    && (selector.machine === undefined || record.machine === selector.machine)
    && (selector.output === undefined || record.output === selector.output)
}

/** A withdrawal that is in force, but not through the outbox. Nothing covered leaves: what the outbox still stores is asked for at the gate before it does. */
function notDeleted(cause: unknown): GatewayError {
  const code = cause instanceof GatewayError ? cause.code : 'OUTBOX-UNHEALTHY'
  const done = 'The withdrawal is recorded and in force, and nothing that it covers leaves any more; but the outbox could not delete what it stores of it.'
  if (code === 'OUTBOX-CLOSED') return new GatewayError(code, done, 'The gateway is stopping: withdraw again once it is back.')
  return new GatewayError(code, done, 'The deletion is repeated by itself when the disk works again: look at its free space and health. Withdrawing again does no harm.')
}

function nextStep(last: string | undefined, isUnlisted: boolean): string {
  if (isUnlisted) return 'The purpose of this output is not listed for the machine\'s country: add it to legal_basis, or accept that it is closed there.'
  switch (last) {
    case undefined: return 'No message of this machine has reached this output\'s streams since the gateway started: look at the terminal\'s connection and topic.'
    case 'forwarded': return 'Messages are forwarded: look at the recipient\'s subscription.'
    case 'no_subscriber': return 'Messages are minimised, but the recipient has no subscription here: subscribe with its user name to the output\'s topics.'
    case 'closed': case 'forbidden': return 'The legal basis is not met for this message: see parapet explain for what each consent state gives.'
    case 'when_false': return 'The output\'s `when` is false for these messages: see parapet explain --message.'
    default: return `The last message was not forwarded (${last}): see parapet explain --message with a message of this kind.`
  }
}

const NO_SUBSCRIBER = Verdict.no_subscriber.code
