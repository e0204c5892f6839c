/**
 * Wiring: introduces the rooms to each other. Reads like the data path: terminals -> ingress -> pipeline -> outbox -> outlets.
 * The one file that knows all rooms.
 */
import { randomFillSync } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { AuditEvent, Control, Health, NewMachine, NewTrace, Reason, RulesState, Why } from './admin/control.ts'
import { createAdmin, type Admin } from './admin/http.ts'
import { addMachine } from './admin/registry.ts'
import { openTokens, type Actor, type Role } from './admin/tokens.ts'
import { Activation } from './activation.ts'
import { createCredentials, hashCredential } from './broker/identify.ts'
import { createEgress, type Egress } from './broker/egress.ts'
import { createIngress, type Ingress } from './broker/ingress.ts'
import { listen, type Listener, type TlsMaterial } from './broker/listener.ts'
import type { BrokerCount } from './broker/counts.ts'
import { createTopicMatcher } from './broker/topics.ts'
import { addressOf } from './broker/downlink.ts'
import { createWeb, type Web } from './broker/websocket.ts'
import { Certificates } from './certificates.ts'
import { Registries, type Read as RegistriesRead } from './registries.ts'
import type { GatewayConfig, ListenConfig } from './config/gateway.ts'
import { watchFiles, watchNamed, type NamedWatch } from './config/watch.ts'
import { openBooks, type Books } from './consent/books.ts'
import { receiptOf, type Cut } from './consent/receipts.ts'
import { consentReceipt, historyEntries, principalOf } from './consent/record.ts'
import { createRootKey, loadRootKey, type RootKey } from './consent/root.ts'
import { settleRotation } from './consent/rotation.ts'
import { storageKeys } from './consent/storage.ts'
import { Gate, gate, stricter } from './domain/basis.ts'
import { clear, nobody } from './domain/consent.ts'
import { GatewayError, type Finding } from './domain/errors.ts'
import type { MachineId, OperatorId, OutputId, PurposeId, RecipientId } from './domain/ids.ts'
import { calmly } from './domain/pieces.ts'
import type { Basis, BasisEntry, Policy, Stream } from './domain/policy.ts'
import type { Clock, ConsentChange, ConsentReceipt, OutboxRecord, PurgeReason, PurgeSelector, Random } from './domain/ports.ts'
import { Verdict, verdictName } from './domain/verdict.ts'
import { silentLog, type Log } from './log.ts'
import { CONDITIONS, createMetrics, type Metrics } from './metrics.ts'
import { createCells } from './minimise/cells.ts'
import { variantIndex } from './minimise/plan.ts'
import type { PseudonymKeys } from './minimise/pseudonym.ts'
import type { Bridge, BridgeCount } from './outlet/bridge.ts'
import type { CloudDownlink } from './outlet/downlink.ts'
import { localOutlet } from './outlet/local.ts'
import { openOutbox, type DurableOutbox } from './outlet/outbox.ts'
import type { Share } from './outlet/room.ts'
import { covers } from './outlet/selector.ts'
import { createPipeline, type Pipeline, type PipelineChoice } from './pipeline.ts'
import { Recollection } from './recollection.ts'
import { Learner, type LearnRequest } from './watch/learning.ts'
import { Observers } from './watch/observer.ts'
import { Shadow, type ShadowParts } from './watch/shadow.ts'
import { Traces } from './watch/trace.ts'
import { Recordings, type By, type RecordingRequest } from './watch/recording.ts'
import { summaryOf } from './difference.ts'
import { rehearsalInPieces } from './rehearsal.ts'
import { grantedScope, isScopeWider } from './scope.ts'
import { snapshotInPieces, type OutputEntry, type Snapshot } from './snapshot.ts'
import { Vitals, type Backlog, type Space } from './vitals.ts'

export interface GatewayOptions {
  readonly log?: Log
  readonly clock?: Clock
  readonly version?: string
  /** Asks the file system of a folder for its room. Default: the system. */
  readonly space?: (folder: string) => Space
}

export interface Gateway {
  /** Bound addresses, once started. */
  readonly addresses: { readonly terminals: Address; readonly recipients: Address; readonly recipients_ws?: Address | undefined; readonly admin: Address }
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
/** How long readiness speaks of an output without room after it was seen last; terminals try again twice a second. */
const FULL_MS = 10_000
/** Times at which cards change hands; past it the oldest are left out, and late data from before them may find another holder's pseudonym ready. */
const BORDERS = 4_095
const SWEEP_MS = 60_000
/** Machines whose key rows are made in one go, in some milliseconds. */
const MACHINES_AT_ONCE = 200
/** How long after its time a yes may go unnoticed while nobody asks for it; the gate closes at the instant in any case. */
const END_MS = 1_000
/** So far a clock may be set back without a word: NTP steps of a few seconds are ordinary. */
const CLOCK_BEHIND_MS = 60_000

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
  const running = new Running(config, { clock, log, metrics, books, consented, root, version: options.version ?? '0.0.0', first, space: options.space })
  try {
    // The outbox is open: it has wrapped its own anew.
    const { changed, kept } = settleRotation({ keys: books.keys, ledger: books.ledger, root, path: join(config.data, 'root.key') })
    for (const use of changed) log.info('a new root key is in use; keep a copy in a safe place', { reason: use })
    if (kept !== undefined) log.warn('the former root key could not be taken out of root.key and stays; nothing is sealed under it any more, unless the ledger is damaged', { error: kept })
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
  readonly space: GatewayOptions['space']
}

class Running implements Gateway, Control {
  readonly first: boolean
  readonly adminTokenFile: string
  readonly #config: GatewayConfig
  readonly #parts: Parts
  readonly #startedAtMs: number
  readonly #registries: Registries
  readonly #certificates: Certificates
  readonly #vitals: Vitals
  /** What /readyz named when it was last looked at, for the log: code and text without its numbers -> since when. */
  #told: ReadonlyMap<string, number> = new Map()
  readonly #outbox: DurableOutbox
  /** What the rules in force give each output of the outbox. */
  #shares: ReadonlyMap<OutputId, Share> = new Map()
  readonly #cells = createCells()
  readonly #keys: PseudonymKeys
  readonly #pipeline: Pipeline
  readonly #rules: Activation
  /** Of the files that the rules file includes. */
  readonly #included: NamedWatch
  readonly #tokens: ReturnType<typeof openTokens>
  readonly #recollection = new Recollection()
  readonly #observers: Observers
  readonly #traces: Traces
  /** The run of a candidate, or the last one that was. */
  #shadow: Shadow | undefined
  readonly #learner: Learner
  readonly #recordings: Recordings
  readonly #person = nobody()
  /** Ids of plans of earlier sets that nobody's yes was needed for. */
  readonly #coarse = new Set<string>()
  #ingress: Ingress | undefined
  #egress: Egress | undefined
  #bridges: readonly Bridge[] = []
  #cloudDownlinks: readonly CloudDownlink[] = []
  #web: Web | undefined
  #admin: Admin | undefined
  #adminAddress: Address = { host: '', port: 0 }
  #listeners: Listener[] = []
  #closing = false
  #registryFindings: readonly Finding[] = []
  /** Times at which a card changes hands, ascending: what was cached for one side does not serve the other. */
  #borders: readonly number[] = []
  #stopWatching: () => void = () => {}
  #sweepTimer: NodeJS.Timeout | undefined
  #endTimer: NodeJS.Timeout | undefined
  #verifying: ReturnType<Control['verifyLedger']> | undefined
  /** What the message in hand must wait for before it is acknowledged. */
  #carriedOut: Promise<void> | undefined

  constructor(config: GatewayConfig, parts: Parts) {
    this.#config = config
    this.#parts = parts
    this.first = parts.first
    this.#startedAtMs = parts.clock.now()
    const { books, clock, metrics, root } = parts
    this.#registries = new Registries(config)
    this.#certificates = new Certificates(config.listen, parts.log, () => clock.now())
    this.#observers = new Observers((error) => parts.log.error('what looked at the traffic failed and has ended; the traffic goes on', { error }))
    this.#tokens = openTokens(config.data, () => clock.now())
    this.adminTokenFile = this.#tokens.adminFile
    this.#outbox = openOutbox({ file: join(config.data, 'outbox.db'), keys: storageKeys(root, config.tenant), clock, quotaBytes: config.limits.outboxBytes, shareOf: (output) => this.#shares.get(output), held: (record) => record.subjects.some((subject) => books.holds.has(subject)), tag: (subject) => Buffer.from(books.keys.tagOf('operator', subject)).toString('hex') })
    this.#vitals = new Vitals({ clock, folder: config.data, space: parts.space, outboxRoom: () => config.limits.outboxBytes - this.#outbox.bytes, backlogs: () => this.#backlogs() })
    metrics.useBuild(parts.version, process.version)
    metrics.gauge('process_start_time_seconds', this.#startedAtMs / 1_000)
    const registries = this.#registries
    // A yes that ended by its time or by wider rules takes with it what waits under it, as a withdrawal does.
    parts.consented.ended = (subject, purpose) => {
      // It may be told from within a decision: the gate is closed at once, what waits is put right a turn later.
      setImmediate(() => {
        if (this.#closing || !books.ledger.healthy) return
        this.#traces.erase(subject)
        this.#cutBack({ subject, purpose, only: (record) => !this.#mayLeave(record) }, 'withdrawal').catch((error: unknown) => {
          parts.log.error('what waits under a consent that has ended could not be purged; it does not leave either', { error })
        })
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
      random: pooledRandom(),
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
      onChoice: (choice) => this.#takeChoice(choice),
      onVerdict: (publish, stream, output, code) => {
        this.#recollection.note(publish.machine, stream?.stream.id, output?.output.id, code, clock.now())
        if (output === undefined) this.#observers.refused(publish, stream?.stream, code)
      },
      onDecided: (publish, { stream }, decision) => this.#observers.decided(publish, stream, decision),
    })
    const seen = { clock, observers: this.#observers, machine: registries.machine }
    this.#learner = new Learner({
      ...seen,
      streams: () => this.#pipeline.active?.policy.streams ?? [],
      streamsAt: (topic) => this.#pipeline.active?.match(topic)?.entries.map(({ stream }) => stream) ?? [],
    })
    this.#recordings = new Recordings({
      ...seen, folder: join(config.data, 'recordings'), gateway: config.name, log: parts.log,
      policy: () => this.#pipeline.active?.policy,
      tagOf: (type, id) => Buffer.from(books.keys.tagOf(type, id)).toString('hex'),
      isErased: (tag) => books.keys.ended(Buffer.from(tag, 'hex')),
      seq: () => books.ledger.head.seq,
      ledgerHealthy: () => books.ledger.healthy,
      named: (card, atMs) => {
        const identity = books.identities.find(card, atMs)
        clear(this.#person)
        if (identity?.kind !== 'personal' || !books.states.fill(identity.operator, atMs, clock.now(), this.#person)) return undefined
        return { operator: identity.operator, hasSaidNo: this.#person.no !== 0 }
      },
      refusedSince: (afterSeq) => (books.ledger.healthy ? [...books.ledger.events({ type: NOES, afterSeq })].flatMap(({ body }) => (body === undefined ? [] : [body['operator'] as OperatorId])) : []),
      held: () => books.holds.keys(),
      note: (type, body) => void books.ledger.append({ type, body: { atMs: clock.now(), ...body } }),
    })
    this.#included = watchNamed(() => this.#readAgain())
    this.#rules = new Activation({
      config, clock, log: parts.log, metrics, keys: this.#keys, engine: engineOf(config),
      prepare: (policy) => this.#prepare(policy),
      record: (type, body) => this.#recordRules(type, body),
      isClosing: () => this.#closing,
      watch: (files) => this.#included.use(files),
    })
    this.#traces = new Traces({
      clock, machine: (id) => registries.machine(id), keys: this.#keys, rules: () => this.#rules.inForce, observers: this.#observers,
      failed: (error) => parts.log.error('a trace failed and has ended; the traffic goes on', { error }),
      ended: ({ machine, operator, by, role }, why) => this.#audit({ atMs: clock.now(), action: 'trace.ended', outcome: 'done', actor: by, role: role as Role, ...(machine === undefined ? {} : { machine: machine as MachineId }), ...(operator === undefined ? {} : { operator }), detail: why }),
    })
  }

  get control(): Control {
    return this
  }

  get addresses(): Gateway['addresses'] {
    const [terminals, recipients, web] = this.#listeners.map((listener): Address => ({ host: listener.host, port: listener.port }))
    return { terminals: terminals as Address, recipients: recipients as Address, ...(web === undefined ? {} : { recipients_ws: web }), admin: this.#adminAddress }
  }

  // ----------------------------------------------------------------------------------------------------------- start, stop

  async open(): Promise<void> {
    const { log, clock, metrics } = this.#parts
    const read = this.#registries.read()
    this.#useRegistries(read)
    this.#parts.books.keys.ensureMany('machine', this.#registries.machineIds(), ['pseudonym'])
    this.#recordings.open(this.#registries.machines.all())
    await this.#rules.load()
    const counting = (listener: string) => (name: BrokerCount, by?: number): void => this.#count(listener, name, by)
    const credentials = createCredentials()
    const broker = { clock, log, credentials, connectsPerMinute: this.#config.limits.identityConnectsPerMinute }
    const perAddress = this.#config.limits.addressConnects
    const [atTerminals, atRecipients] = [counting('terminals'), counting('recipients')]
    const [acknowledgement, delivery] = [metrics.histogram('ack_seconds'), metrics.histogram('delivery_seconds')]

    this.#egress = await createEgress({
      ...broker,
      count: atRecipients,
      directory: this.#registries,
      allowed: (recipient) => this.#pipeline.active?.topicsOf(recipient) ?? [],
      gate: (record) => this.#mayLeave(record),
      held: (record) => record.subjects.some((subject) => this.#parts.books.holds.has(subject)),
      knows: (output) => this.#pipeline.active?.policy.outputs.some(({ id }) => id === output) ?? true,
      downlink: this.#config.downlink.size === 0 ? undefined : (machine, command, done) => this.#ingress === undefined ? done(NOT_OPEN) : this.#ingress.downlink(machine, command, done),
      store: this.#outbox.sessions,
      onDelivered: (record, credential, isUnrecorded) => {
        metrics.counter('delivered_total', record.output).add()
        // A retained copy tells a newcomer how things stood; that it is old is no delay.
        if (isUnrecorded !== true || !record.retain) delivery.observe((clock.now() - readyMs(record)) / 1_000)
        this.#outbox.onDelivered(record, credential, isUnrecorded)
      },
    })
    const egress = this.#egress
    // What waits for a bridge that was removed is given up, counted; before the others are attached, so that none of theirs is.
    const gone = this.#outbox.useDestinations(new Set(['local', ...this.#config.bridges.keys()]), (record) => metrics.output(record.output).withheld(NO_BRIDGE))
    for (const { name, records } of gone) log.warn('messages waited for a bridge that the gateway file does not name any more; they are given up', { bridge: name, records })
    // What ended or was switched off while nothing ran, before anything is handed out and before anybody can connect.
    this.#parts.books.sweep(clock.now())
    this.#purgeSwitchedOff(egress)
    void egress.purge((record) => record.payloadIfWithdrawn !== undefined && !this.#mayLeave(record)).cut()
    this.#outbox.attach(localOutlet({
      publish: (record, done) => egress.publish(record, (sessions) => done(undefined, sessions)),
      cut: async (selector) => {
        const { purged, swapped, cut } = egress.purge((record) => covers(selector, record))
        return { dropped: purged + swapped, onTheWire: await cut() }
      },
    }, { onNoSubscriber: (record) => {
      // Where a bridge takes it as well, nobody here is no loss.
      if (record.via.length === 1) metrics.output(record.output).withheld(NO_SUBSCRIBER)
    } }))
    await this.#openBridges()

    this.#ingress = await createIngress({
      ...broker,
      count: atTerminals,
      directory: this.#registries,
      handle: (publish) => {
        this.#carriedOut = undefined
        this.#pipeline.handle(publish)
        return this.#carriedOut
      },
      committed: (callback) => {
        const began = clock.monotonic()
        this.#outbox.committed((error) => {
          metrics.commit((clock.monotonic() - began) / 1000)
          callback(error)
        })
      },
      onAcknowledged: (ms, messages) => acknowledgement.observe(ms / 1_000, messages),
      downlink: this.#config.downlink.size === 0 ? undefined : { rights: this.#config.downlink, store: this.#outbox.commands },
      limits: { packetBytes: this.#config.limits.packetBytes, connectTimeMs: this.#config.limits.connectTimeMs, packetTimeMs: this.#config.limits.packetTimeMs, unanswered: this.#config.limits.unanswered, messagesPerSecond: this.#config.limits.messagesPerSecond },
    })
    const ingress = this.#ingress
    // Nobody may send commands any more.
    if (this.#config.downlink.size === 0) for (const { key } of this.#outbox.commands.terminals()) this.#outbox.commands.forget(key)
    const { terminals, recipients, recipients_ws: web, admin } = this.#config.listen
    this.#listeners.push(await listen({ name: 'terminals', ...endpoint(terminals), connections: this.#config.limits.connections, perAddress, accept: (socket, via) => ingress.accept(socket, via), count: atTerminals, log }))
    const admit: typeof egress.accept = (socket, via) => {
      this.#endDue()
      egress.accept(socket, via)
    }
    this.#listeners.push(await listen({ name: 'recipients', ...endpoint(recipients), perAddress, accept: admit, count: atRecipients, log }))
    if (web !== undefined) {
      const { connectTimeMs, packetTimeMs } = this.#config.limits
      this.#web = createWeb({ accept: admit, origins: web.origins, requestTimeMs: connectTimeMs, messageTimeMs: packetTimeMs, count: atRecipients })
      this.#listeners.push(await listen({ name: 'recipients_ws', ...endpoint(web), perAddress, accept: this.#web.accept, count: atRecipients, log }))
    }
    await this.#openCloudDownlinks(ingress)
    this.#admin = await createAdmin({
      control: this, tokens: this.#tokens, metrics, log, clock, version: this.#parts.version,
      host: admin.host, port: admin.port, tls: admin.tls, audit: (event) => this.#audit(event),
    })
    this.#adminAddress = await this.#admin.listen()
    for (const [index, name] of (['terminals', 'recipients', 'recipients_ws'] as const).entries()) this.#certificates.use(name, (pem) => this.#listeners[index]?.renew(pem))
    this.#certificates.use('admin', (pem) => this.#admin?.renew(pem))
    metrics.onScrape(() => this.#gauges())
    metrics.onScrape(() => this.#vitals.gauges(metrics))
    this.#vitals.observe()
    this.#tellLog()
    this.#sweepTimer = setInterval(() => {
      this.#parts.books.sweep(clock.now())
      this.#recordings.sweep()
      egress.purge((record) => record.expiresAtMs !== undefined && record.expiresAtMs <= clock.now(), 'expiry')
    }, SWEEP_MS)
    this.#sweepTimer.unref()
    this.#endTimer = setInterval(() => {
      this.#endDue()
      this.#shadow?.endIfOver()
      this.#traces.sweep()
      this.#vitals.observe()
      this.#tellLog()
    }, END_MS)
    this.#endTimer.unref()
    const schemaFolders = this.#config.proto.filter((folder) => existsSync(folder)).flatMap((folder) => readdirSync(folder, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
    const stopWatching = watchFiles([...this.#config.watched, ...schemaFolders], () => this.#readAgain())
    const stopCertificates = watchFiles(this.#certificates.files, () => this.#certificates.renew())
    this.#stopWatching = () => {
      stopWatching()
      stopCertificates()
    }
  }

  #readAgain(): void {
    this.reload().catch((error: unknown) => this.#parts.log.error('the files could not be read again: what was in force stays', { error }))
  }

  /** A bridge takes records only while it is connected: what waits for it stays in the file, and a cloud that is away costs no memory. */
  async #openBridges(): Promise<void> {
    const { bridges, name: gateway } = this.#config
    if (bridges.size === 0) return
    const { clock, log, metrics } = this.#parts
    const { createBridge } = await import('./outlet/bridge.ts')
    metrics.useBridges(bridges.keys())
    this.#bridges = [...bridges].map(([name, config]) => {
      const cloudAck = metrics.histogram('cloud_ack_seconds', name)
      const bridge: Bridge = createBridge({
        name, url: config.url, protocol: config.protocol, window: config.window, clientId: config.clientId ?? `${gateway}-${name}`, credentialsFile: config.credentialsFile,
        tls: config.tls, keepaliveMs: config.keepaliveMs, envelope: config.envelope, batch: config.batch, clock, log,
        gate: (record) => this.#mayLeave(record),
        retentionMs: (output) => this.#pipeline.active?.policy.outputs.find((one) => one.id === output)?.recipientKeepsMs,
        onDelivered: (record, credential, isUnrecorded) => {
          metrics.counter('delivered_total', record.output).add()
          this.#outbox.onDelivered(record, credential, isUnrecorded)
        },
        onAcknowledged: (record) => cloudAck.observe((clock.now() - readyMs(record)) / 1_000),
        onUp: (room) => this.#outbox.attach(bridge, room),
        onDown: () => this.#outbox.detach(name),
        count: (what, by = 1) => this.#countBridge(name, what, by),
      })
      return bridge
    })
    for (const bridge of this.#bridges) bridge.open()
  }

  /** A bridge's commands come over a connection of their own, and go the way of a recipient's. */
  async #openCloudDownlinks(ingress: Ingress): Promise<void> {
    const { bridges, name: gateway, downlink } = this.#config
    const taking = [...bridges].filter(([, config]) => config.downlink !== undefined)
    if (taking.length === 0) return
    const { createCloudDownlink } = await import('./outlet/downlink.ts')
    this.#cloudDownlinks = taking.flatMap(([name, { downlink: filters = [], recipient, clientId, url, protocol, credentialsFile, tls, keepaliveMs }]) => {
      const right = downlink.get(recipient as RecipientId)
      return right === undefined ? [] : createCloudDownlink({
        name, url, protocol, credentialsFile, tls, keepaliveMs, clientId: `${clientId ?? `${gateway}-${name}`}-commands`, recipient: recipient as RecipientId, filters, right, log: this.#parts.log,
        take: (command, done) => ingress.downlink(addressOf(command.topic)?.machine ?? '', command, (result) => done(result instanceof Error ? result : undefined)),
      })
    })
    for (const one of this.#cloudDownlinks) one.open()
  }

  /** One reload at a time; a second request while one runs reads the files again after it. */
  reload(): Promise<readonly Finding[]> {
    if (this.#closing) return Promise.resolve([])
    this.#certificates.renew()
    return this.#rules.inTurn(async () => {
      await this.#reloadRegistries()
      if (this.#closing) return []
      const findings = await this.#rules.load()
      this.#ingress?.recheck()
      this.#egress?.recheck()
      return findings
    })
  }

  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    this.#stopWatching()
    this.#registries.close()
    this.#included.close()
    this.#observers.close()
    await this.#rules.settled()
    clearInterval(this.#sweepTimer)
    clearInterval(this.#endTimer)
    this.#vitals.close()
    await this.#admin?.close()
    // A listener is closed when its connections are, which the brokers end.
    const listeners = this.#listeners.map((listener) => listener.close(GRACE_MS))
    await Promise.all(this.#cloudDownlinks.map((one) => one.close()))
    await this.#ingress?.close(GRACE_MS)
    await Promise.all([this.#egress?.close(GRACE_MS), ...this.#bridges.map((bridge) => bridge.close())])
    this.#web?.close()
    await Promise.all(listeners)
    await this.#outbox.close()
    this.#parts.books.close()
  }

  // ------------------------------------------------------------------------------------------------ registries and rules

  /** However many machines there are, messages go on between the pieces. */
  async #reloadRegistries(): Promise<void> {
    const read = await this.#registries.readAside()
    // Before they are known: without a row there is no pseudonym.
    for (let from = 0; from < read.added.length && !this.#closing; from += MACHINES_AT_ONCE) {
      this.#parts.books.keys.ensureMany('machine', read.added.slice(from, from + MACHINES_AT_ONCE), ['pseudonym'])
      await new Promise((resume) => void setImmediate(resume))
    }
    if (!this.#closing) this.#useRegistries(read)
  }

  #useRegistries(read: RegistriesRead): void {
    const { log, books } = this.#parts
    const loaded = this.#registries.use(read)
    // [P7] first of all, whatever else goes wrong: switched off or unknown, no session is kept, and what waits about an operator there goes.
    // The sessions of all of them end before anything is purged: an outbox that fails must not keep one alive.
    for (const machine of loaded.collectionOff) {
      books.sessions.forget(machine)
      this.#cells.forget(machine)
      this.#traces.forget({ machine })
      this.#recordings.switchedOff(machine)
    }
    for (const machine of loaded.collectionOff) {
      void this.#egress?.purge((record) => record.machine === machine && record.subjects.length > 0, 'device_setting').cut()
      try {
        this.#outbox.purge({ machine }, 'device_setting')
      } catch (error) {
        log.error('what waits about operators of a machine could not be purged after its device setting was turned off', { machine, error })
      }
      for (const bridge of this.#bridges) void bridge.cut({ machine })
    }
    this.#registryFindings = loaded.findings.filter((finding) => finding.severity === 'error')
    for (const finding of loaded.findings) log.error('a registry file was refused and the old entries stay', { code: finding.code, file: finding.place.file, line: finding.place.line, col: finding.place.col })
    if (loaded.operators !== undefined) {
      try {
        books.identities.load(loaded.operators)
        this.#borders = books.identities.borders(BORDERS)
      } catch (error) {
        this.#registries.operatorsRefused()
        log.error('the operators file was refused and the old entries stay', { file: this.#config.operators, error })
      }
    }
    // Without a row there is no pseudonym; erased people get none back.
    books.keys.ensureMany('operator', (loaded.operators ?? []).map(({ id }) => id).filter((id) => books.identities.knows(id)), ['pseudonym'])
  }

  /** [P7] A device setting may have been turned off, or a machine have left, while the gateway was away. */
  #purgeSwitchedOff(egress: Egress): void {
    const { sessions } = this.#parts.books
    const isOn = (machine: MachineId): boolean => this.#registries.machine(machine)?.operatorCollection === 'on'
    for (const machine of [...this.#registries.machineIds() as MachineId[], ...[...sessions.list()].map((session) => session.machine)]) if (!isOn(machine)) sessions.forget(machine)
    void egress.purge((record) => record.subjects.length > 0 && !isOn(record.machine), 'device_setting').cut()
    for (const machine of this.#outbox.machinesWithSubjects()) if (!isOn(machine)) this.#outbox.purge({ machine }, 'device_setting')
  }

  #recordRules(type: `rules.${string}`, body: Readonly<Record<string, unknown>>): void {
    const { ledger } = this.#parts.books
    if (ledger.healthy) ledger.append({ type, body })
  }

  /** Builds everything beside the old while messages go on; returns the swap. */
  async #prepare(policy: Policy): Promise<() => void> {
    const { books, metrics, root } = this.#parts
    metrics.useRules(policy.outputs.map((output) => output.id), policy.streams.map((stream) => stream.id))
    const identify = (card: string, atMs: number): ReturnType<typeof books.identities.find> => (card === '' ? undefined : books.identities.find(card, atMs))
    const snapshot: Snapshot = await calmly(snapshotInPieces(policy, {
      keys: this.#keys,
      engine: engineOf(this.#config),
      keyId: root.pseudonymId,
      metrics,
      windows: this.#outbox,
      sessions: {
        // Durable before the terminal has its answer: a lost sign-off would leave a person signed on. A few a shift, so each has its own fsync.
        // A ledger that was damaged before holds nothing up: nobody is known until it is restored.
        signOn: (machine, card, eventMs, receivedMs) => {
          const identity = identify(card, eventMs)
          metrics.count('session_events_total', 1, identity === undefined ? 'unknown_card' : identity.kind === 'shared' ? 'shared_card' : 'on')
          books.sessions.signOn(machine, identity, eventMs, receivedMs)
          if (books.ledger.healthy) books.ledger.flush()
        },
        signOff: (machine, card, eventMs, receivedMs) => {
          metrics.count('session_events_total', 1, 'off')
          books.sessions.signOff(machine, identify(card, eventMs), eventMs, receivedMs)
          if (books.ledger.healthy) books.ledger.flush()
        },
      },
      matcher: matcherOf,
    }))
    return () => {
      this.#shares = new Map(policy.outputs.map(({ id, to }) => [id, { bytes: to.share === undefined ? undefined : to.share * this.#config.limits.outboxBytes, dropOldest: to.atQuota === 'drop_oldest' }]))
      this.#rememberCoarse()
      this.#parts.consented.policy = policy
      books.usePolicy(policy)
      this.#pipeline.swap(snapshot)
      this.#observers.rulesChanged()
    }
  }

  /** Of the set that goes what was made without a yes: some of it waits still. */
  #rememberCoarse(): void {
    for (const { outputs } of this.#pipeline.active?.streams ?? []) {
      for (const { made } of outputs) for (const at of COARSE) if (made[at] !== undefined) this.#coarse.add(made[at].plan.id)
    }
    for (const id of this.#coarse) {
      if (this.#coarse.size <= COARSE_PLANS) break
      this.#coarse.delete(id)
    }
  }

  // ---------------------------------------------------------------------------------------------------------------- leaving

  /** Ends what has expired before a recipient asks for what waits: it then gets the variant without the yes, where there is one. */
  #endDue(): void {
    const { books, clock } = this.#parts
    if (clock.now() >= books.states.nextEndMs) books.states.sweep(clock.now())
  }

  /** [G4] asked again at the moment of the write: what consent no longer covers does not leave. */
  #mayLeave(record: OutboxRecord): boolean {
    // Rules that no longer have the output, or close its purpose there, close what waits as well.
    const entry = this.#outputEntry(record)
    const here = entry?.basisFor(record.country, undefined)
    if (entry === undefined || here === undefined || here.basis === 'forbidden') return false
    if (record.payloadIfWithdrawn === undefined) return true
    // A message that may be about several people leaves if it may for each of them.
    return record.subjects.length > 0 && record.subjects.every((operator) => this.#mayLeaveFor(operator, record, entry, here))
  }

  #mayLeaveFor(operator: OperatorId, record: OutboxRecord, entry: OutputEntry, here: BasisEntry): boolean {
    clear(this.#person)
    // [rules-language 3.3] the same grant from acquisition to egress: a later yes does not cover what was acquired before it.
    if (!this.#parts.books.ledger.healthy || !this.#parts.books.states.fill(operator, record.acquiredAtMs, this.#parts.clock.now(), this.#person)) return false
    this.#person.known = true
    // The operator's country counted when the record was made, and still does.
    const basis = stricter(here, { ...here, basis: record.basis as Basis })
    const state = gate(entry.output, basis, this.#person)
    // What carries the consent variant of a pair needs the yes; what any closing basis let through needs an open output.
    const isOf = (variant: number): boolean => (entry.made[variant] ?? entry.ready(variant)).plan.id === record.plan
    // A plan that nobody knows any more may have been one of a yes. (G3)
    const isCoarse = COARSE.some(isOf) || this.#coarse.has(record.plan)
    return record.payloadIfWithdrawn === null && basis?.basis !== 'consent' && isCoarse ? state !== Gate.closed : state === Gate.yes
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
    return receiptOf(books.ledger, change, changed, await this.#carryOut(change, changed.purposes))
  }

  /** A message of the consent stream: in force when this returns, acknowledged once nothing that it covers can leave any more. */
  #takeChoice(choice: PipelineChoice): void {
    const { books, metrics } = this.#parts
    const { result, change, changed } = books.choices.take(choice)
    metrics.count('consent_choices_total', 1, result)
    if (changed !== undefined) metrics.count('consent_changes_total')
    if (change === undefined) return
    this.#carriedOut = this.#carryOut(change, changed?.purposes ?? [change.purpose]).then(() => undefined)
    // Should the outbox refuse the message now, nobody waits for this; a rejection that nobody takes would end the process.
    this.#carriedOut.catch(() => undefined)
  }

  /** [G4] What a change that is in force does to messages on their way. Before it returns the queues are purged; it resolves when the sockets are. */
  async #carryOut({ operator, state }: ConsentChange, purposes: readonly PurposeId[]): Promise<Cut | undefined> {
    if (state === 'granted' || state === 'requested') return undefined
    this.#traces.erase(operator)
    this.#recordings.withdrawn(operator)
    // A yes for this site only leaves what stays on it, and what needs no yes.
    const only = state === 'local_only' ? (record: OutboxRecord) => !this.#mayLeave(record) : undefined
    const cuts = await Promise.all(purposes.map((purpose) => this.#cutBack({ subject: operator, purpose, ...(only === undefined ? {} : { only }) }, 'withdrawal')))
    return cuts.reduce((sum, one) => ({ purged: sum.purged + one.purged, swapped: sum.swapped + one.swapped, onTheWire: sum.onTheWire + one.onTheWire }))
  }

  /** Takes back what a selector covers, from the recipients' broker and the outbox. Both are purged before this returns. */
  async #cutBack(selector: PurgeSelector, reason: PurgeReason): Promise<Cut> {
    // The recipients' broker first: it sees the records as they were, and an outbox that fails must not keep it from letting go.
    const gone = this.#egress?.purge((record) => covers(selector, record) && record.payloadIfWithdrawn !== undefined, reason)
    let stored = { purged: 0, swapped: 0 }
    let failure: unknown
    try {
      stored = this.#outbox.purge(selector, reason)
    } catch (cause) {
      failure = cause
    }
    // Their windows next: what was purged or swapped does not leave, and a connection that holds some of it is reset.
    const bridges = this.#bridges.map((bridge) => bridge.cut(selector))
    // The person waits for what is on its way to the sockets; groups of other messages would come in between.
    const goOn = this.#outbox.pause()
    let onTheWire = 0
    try {
      onTheWire = (await gone?.cut()) ?? 0
    } finally {
      goOn()
    }
    const more = (await Promise.all(bridges)).reduce((sum, cut) => sum + cut.onTheWire, 0)
    if (failure !== undefined) throw notDeleted(failure)
    return { purged: stored.purged + (gone?.purged ?? 0), swapped: stored.swapped + (gone?.swapped ?? 0), onTheWire: onTheWire + more }
  }

  async giveNotice(operator: OperatorId, policy: string | undefined, language: string | undefined, by: string): ReturnType<Control['giveNotice']> {
    const id = policy ?? this.#pipeline.active?.policy.id
    if (id === undefined) throw new GatewayError('UNKNOWN-POLICY', 'No rules are active, so there is no notice to give.', 'Mend the rules file first.')
    return { operator, policy: id, seq: this.#parts.books.states.giveNotice(operator, id, language, by) }
  }

  consent(operator: OperatorId): ReturnType<Control['consent']> {
    const who = this.#parts.books.identities.who(operator)
    if (who === undefined) return undefined
    const { books } = this.#parts
    const { rows, notice, history } = books.states.show(operator)
    const looks = [...books.ledger.events({ subject: { type: 'operator', id: operator }, type: 'disclosure.' })].flatMap(({ type, body }) => (
      body === undefined || !/_(shown|exported)$/.test(type) ? [] : [{ atMs: Number(body['atMs']), action: type.slice('disclosure.'.length), role: body['role'] as string | undefined }]
    ))
    return { operator, country: who.country, rows, notice, history: historyEntries({ events: history, rules: [...books.ledger.events({ type: 'policy.' })] }), looks }
  }

  consentReceipt(operator: OperatorId, purpose: PurposeId | undefined, receipt: string): ReturnType<Control['consentReceipt']> {
    const { books, clock } = this.#parts
    const who = books.identities.who(operator)
    const row = books.keys.row('operator', operator, 'ledger')
    if (who === undefined) return undefined
    return consentReceipt({
      events: books.states.show(operator).history, rules: [...books.ledger.events({ type: 'policy.' })], policy: this.#pipeline.active?.policy,
      // Nobody has a row before the first event about them; then there is nothing to export either.
      principal: row === undefined ? 'none' : principalOf(row), country: who.country, controller: { id: this.#config.tenant, name: this.#config.tenant },
    }, { id: receipt, atMs: clock.now(), purpose })
  }

  verifyLedger(): ReturnType<Control['verifyLedger']> {
    const { ledger } = this.#parts.books
    this.#verifying ??= ledger.reportCalmly().then((report) => ({ ...report, headKey: ledger.headKey })).finally(() => {
      this.#verifying = undefined
    })
    return this.#verifying
  }

  ledgerEvents({ after, limit, type, day }: Parameters<Control['ledgerEvents']>[0]): ReturnType<Control['ledgerEvents']> {
    return [...this.#parts.books.ledger.clear({ afterSeq: after, limit, ...(type === undefined ? {} : { type }), ...(day === undefined ? {} : { day }) })]
  }

  rules(): RulesState {
    return this.#rules.state()
  }

  activeRules(): ReturnType<Control['activeRules']> {
    return this.#rules.active()
  }

  validateRules(yaml: string): Promise<readonly Finding[]> {
    return this.#rules.validate(yaml)
  }

  putRules(yaml: string, by: string): Promise<RulesState> {
    return this.#rules.put(yaml, by)
  }

  activateRules(by: string): Promise<RulesState> {
    return this.#rules.activate(by)
  }

  approveRules(hash: string, reason: string, by: string): Promise<RulesState> {
    return this.#rules.approve(hash, reason, by)
  }

  rollbackRules(by: string): Promise<RulesState> {
    return this.#rules.rollback(by)
  }

  discardRules(by: string): Promise<RulesState> {
    return this.#rules.discard(by)
  }

  startShadow(yaml: string, { samplePercent, minutes, asNobody }: Parameters<Control['startShadow']>[1], by: string): ReturnType<Control['startShadow']> {
    return this.#rules.inTurn(async () => {
      if (this.#shadow !== undefined && this.#shadow.report().ended === undefined) throw new GatewayError('SHADOW-RUNS', 'A candidate runs beside the active set already.', 'See parapet rules shadow, or end it: parapet rules shadow --stop.')
      const { clock, log } = this.#parts
      const { set, difference } = await this.#rules.candidate(yaml)
      const active = this.#rules.inForce
      if (active === undefined) throw new GatewayError('NO-RULES', 'No rules are active, so there is nothing to run beside.', 'Put a first set in place: parapet rules activate FILE.')
      const asksAgain = set.policy.purposes.flatMap(({ id }) => (active.policy.purposes.some((one) => one.id === id) && isScopeWider(grantedScope(active.policy, id), grantedScope(set.policy, id)) ? [id] : []))
      // What both sides need is made here a piece at a time, and found ready below.
      for (const { policy } of [active, set]) await calmly(rehearsalInPieces(policy, { keys: this.#keys, engine: 'interpreted' }))
      const shadow = new Shadow({ active, candidate: set, samplePercent, asNobody, forMs: minutes * 60_000, by, difference: summaryOf(difference), asksAgain }, {
        clock, keys: this.#keys, matcher: matcherOf, machine: (id) => this.#registries.machine(id),
        end: (one, why, error) => {
          if (error !== undefined) log.error('the shadow run failed and has ended; the traffic goes on', { error })
          this.#observers.end(one, why)
        },
        ended: ({ candidate, ended, compared, skipped, stoppedBy }) => this.#recordRules('rules.shadow_ended', { hash: candidate.hash, policy: candidate.policy, by: stoppedBy ?? by, why: ended, compared, skipped }),
      })
      this.#recordRules('rules.shadow_started', { hash: set.policy.hash, policy: set.policy.id, active: active.policy.hash, by, sample: samplePercent, minutes, difference: summaryOf(difference) })
      this.#shadow = shadow
      this.#observers.add(shadow)
      return shadow.report()
    })
  }

  shadow(): ReturnType<Control['shadow']> {
    this.#shadow?.endIfOver()
    return this.#shadow?.report()
  }

  stopShadow(by: string): ReturnType<Control['stopShadow']> {
    const shadow = this.#shadow
    if (shadow === undefined || shadow.endIfOver() || shadow.report().ended !== undefined) throw new GatewayError('NO-SHADOW', 'No candidate runs beside the active set.', 'Start one: parapet rules shadow FILE.')
    shadow.stoppedBy(by)
    this.#observers.end(shadow, 'asked')
    return shadow.report()
  }

  startTrace({ machine, operator, minutes, values, who, personal }: NewTrace): ReturnType<Control['startTrace']> {
    if (machine !== undefined && this.#registries.machine(machine) === undefined) throw new GatewayError('UNKNOWN-MACHINE', 'There is no such machine.', 'See: parapet machines list (GET /v1/machines).')
    if (operator !== undefined && !this.#parts.books.identities.knows(operator)) throw new GatewayError('UNKNOWN-OPERATOR', 'No operator has this id.', 'Ids are those of operators.yaml, never a card or PIN.')
    return this.#traces.start({ machine, operator, forMs: minutes * 60_000, values, by: who.name, role: who.role, personal })
  }

  trace({ name, role }: Actor, after: number): ReturnType<Control['trace']> {
    return this.#traces.read({ by: name, role }, after)
  }

  stopTrace({ name, role }: Actor): void {
    this.#traces.stop({ by: name, role })
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

  keys(): ReturnType<Control['keys']> {
    const { id, pseudonymId, former } = this.#parts.root
    return { storage: id, pseudonyms: pseudonymId, former: former.map((root) => root.id), changedAtMs: Math.floor(statSync(join(this.#config.data, 'root.key')).mtimeMs) }
  }

  learned(): ReturnType<Control['learned']> {
    return this.#learner.report()
  }

  startLearning(request: LearnRequest): ReturnType<Control['startLearning']> {
    return this.#learner.start(request)
  }

  stopLearning(): ReturnType<Control['stopLearning']> {
    return this.#learner.stop()
  }

  recordings(): ReturnType<Control['recordings']> {
    return this.#recordings.list()
  }

  startRecording(request: RecordingRequest, by: By): ReturnType<Control['startRecording']> {
    if (!this.#parts.books.ledger.healthy) throw new GatewayError('LEDGER-DAMAGED', 'The ledger cannot be written, so nothing is recorded.', 'Run parapet ledger verify, then restore the data folder from a backup.')
    return this.#recordings.start(request, by)
  }

  stopRecording(id: string, by: By): ReturnType<Control['stopRecording']> {
    return this.#recordings.stop(id, by)
  }

  deleteRecording(id: string, by: By): void {
    this.#recordings.delete(id, by)
  }

  deadLetters({ after, limit }: Parameters<Control['deadLetters']>[0]): ReturnType<Control['deadLetters']> {
    return this.#outbox.deadLetters(after, limit)
  }

  retryDeadLetters(numbers: readonly number[] | undefined): number {
    return this.#outbox.retryDead(numbers)
  }

  dropDeadLetters(numbers: readonly number[] | undefined): number {
    return this.#outbox.dropDead(numbers)
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

  health(): Health {
    const reasons: Reason[] = this.#rules.reasons()
    const add = (code: string, severity: Reason['severity'], text: string, mend: string): void => void reasons.push({ code, severity, text, mend })
    if (this.#registries.machines.size === 0) add('NO-MACHINES', 'error', 'The registry holds no machine: every message is refused.', 'Run parapet check with --config on the gateway file and mend what it says of the machines.')
    for (const finding of this.#registryFindings.slice(0, 5)) add('REGISTRY-REFUSED', 'warning', `A registry file was refused, and its old entries stay: ${finding.place.file}:${finding.place.line}:${finding.place.col} ${finding.code}.`, 'Run parapet check with --config on the gateway file and mend what it says.')
    if (!this.#parts.books.ledger.healthy) add('LEDGER-DAMAGED', 'error', 'The ledger cannot be trusted: everybody counts as unknown and nothing is recorded.', 'Run parapet ledger verify, then restore the data folder from a backup.')
    const behindMs = this.#parts.books.states.seenMs - this.#parts.clock.now()
    if (behindMs > CLOCK_BEHIND_MS) add('CLOCK-UNSURE', 'warning', 'The clock stands before a time that was seen already: consent goes by the newer one.', 'Set the clock. If it was wrong before and stood in the future, consent given then counts from that time on.')
    if (!this.#outbox.healthy) add('OUTBOX-UNHEALTHY', 'error', 'The outbox cannot be written: QoS 1 and 2 stay unacknowledged.', 'Look at free space and health of the disk that holds the data folder.')
    else if (this.#outbox.bytes > this.#config.limits.outboxBytes * 0.9) add('OUTBOX-FULL', 'warning', 'The outbox is almost full.', 'See why its destinations do not take messages, or raise limits.outbox_bytes.')
    const full = this.#outbox.fullSince
    if (full !== undefined && this.#parts.clock.now() - full.atMs < FULL_MS) add('OUTPUT-FULL', 'warning', `The output ${full.output} has used up its part of the outbox: terminals keep their messages for it.`, 'See why its destinations do not take messages, or give it a larger `share` or `at_quota: drop_oldest`.')
    for (const output of this.#stopped()) add('VERIFY-VIOLATION', 'error', `The verifier found a field in the output ${output} that its plan does not name; the output is stopped.`, 'Set minimiser: interpreted in the gateway file, restart, and report the rules file.')
    for (const { name, state } of this.#bridges) {
      // A warning: a cloud that is away holds up nothing but what is meant for it.
      if (state.reason !== undefined && state.mend !== undefined) add('BRIDGE-DOWN', 'warning', `The bridge ${name} is not connected since ${new Date(state.sinceMs).toISOString()} (${state.reason}, ${state.code ?? ''}).`, state.mend)
      else if (state.resting) add('BRIDGE-REFUSED', 'warning', `The broker of the bridge ${name} refuses messages for now.`, 'Look at its quota and its log; the bridge goes on by itself.')
    }
    for (const { name, trouble } of this.#cloudDownlinks) {
      if (trouble !== undefined) add('BRIDGE-DOWN', 'warning', `The bridge ${name} takes no commands (${trouble.reason}, ${trouble.code}).`, trouble.mend)
    }
    if (this.#outbox.stats.dead > 0) add('DEAD-LETTERS', 'warning', `Brokers refused ${this.#outbox.stats.dead} messages for good; they are kept aside for seven days.`, 'See parapet dead-letters list; mend what the broker objects to, then retry or drop them.')
    this.#certificates.tell(add)
    this.#vitals.tell(add)
    if (this.#closing) add('CLOSING', 'error', 'The gateway is stopping.', 'Wait for the new one.')
    return { live: true, ready: reasons.every((reason) => reason.severity !== 'error'), reasons }
  }

  /** What /readyz names also stands in the log, once when it begins and once when it has ended. */
  #tellLog(): void {
    const { log, clock } = this.#parts
    const before = this.#told
    const now = new Map<string, number>()
    for (const { code, severity, text, mend } of this.health().reasons) {
      const key = `${code} ${text.replaceAll(/[\d.:TZ-]+/g, '')}`
      if (now.has(key)) continue
      now.set(key, before.get(key) ?? clock.monotonic())
      // A message of ours with its next step: texts with values in them come into the log as errors only.
      if (!before.has(key)) log[severity === 'error' ? 'error' : 'warn']('readiness names a problem', { code, error: new GatewayError(code, text, mend ?? '') })
    }
    for (const [key, sinceMs] of before) if (!now.has(key)) log.info('readiness names a problem no more', { code: key.slice(0, key.indexOf(' ')), ms: Math.round(clock.monotonic() - sinceMs) })
    this.#told = now
  }

  #backlogs(): Backlog[] {
    const outputs = this.#pipeline.active?.policy.outputs ?? []
    return ['local', ...this.#config.bridges.keys()].map((destination) => {
      const times = outputs.flatMap(({ to }) => (to.sendWithinMs !== undefined && to.via.includes(destination) ? [to.sendWithinMs] : []))
      return { destination, oldestAtMs: this.#outbox.oldestOf(destination), sendWithinMs: times.length === 0 ? undefined : Math.min(...times) }
    })
  }

  status(): ReturnType<Control['status']> {
    const { books } = this.#parts
    const policy = this.#pipeline.active?.policy
    return {
      name: this.#config.name, version: this.#parts.version, startedAtMs: this.#startedAtMs, trial: this.#config.trial,
      listeners: [
        { name: 'terminals', ...this.addresses.terminals, tls: this.#config.listen.terminals.tls !== undefined, connections: this.#ingress?.connections ?? 0 },
        { name: 'recipients', ...this.addresses.recipients, tls: this.#config.listen.recipients.tls !== undefined, connections: (this.#egress?.connections ?? 0) - (this.#web?.connections ?? 0) },
        ...(this.addresses.recipients_ws === undefined ? [] : [{ name: 'recipients_ws', ...this.addresses.recipients_ws, tls: this.#config.listen.recipients_ws?.tls !== undefined, connections: this.#web?.connections ?? 0 }]),
        { name: 'admin', ...this.addresses.admin, tls: this.#config.listen.admin.tls !== undefined, connections: 0 },
      ],
      bridges: this.#bridges.map(({ name, state }) => ({ name, recipient: this.#config.bridges.get(name)?.recipient as RecipientId, connected: state.connected, waiting: this.#outbox.waiting(name) })),
      machines: this.#registries.machines.size, operators: books.states.operators, sessions: this.sessions().length,
      outbox: { records: this.#outbox.depth, bytes: this.#outbox.bytes, limitBytes: this.#config.limits.outboxBytes, oldestAtMs: this.#outbox.oldestAtMs, deadLetters: this.#outbox.stats.dead },
      recipients: this.#egress?.waiting() ?? [],
      ledger: { seq: books.ledger.head.seq, healthy: books.ledger.healthy },
      rules: policy === undefined ? undefined : { hash: policy.hash, policy: policy.id, activeSinceMs: this.#rules.activeSinceMs },
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

  #countBridge(bridge: string, what: BridgeCount, by: number): void {
    const { metrics } = this.#parts
    switch (what) {
      case 'connect': return metrics.count('bridge_connects_total', by, bridge)
      case 'batch': return metrics.count('bridge_batches_total', by, bridge)
      case 'gated': case 'expired': case 'dropped_qos0': return metrics.count('bridge_withheld_total', by, bridge, what)
      default: return metrics.count(`bridge_${what}_total`, by, bridge)
    }
  }

  #gauges(): void {
    const { metrics } = this.#parts
    metrics.gauge('connections', this.#ingress?.connections ?? 0, 'terminals')
    metrics.gauge('connections', this.#egress?.connections ?? 0, 'recipients')
    metrics.gauge('sessions', this.sessions().length)
    metrics.gauge('outbox_records', this.#outbox.depth)
    metrics.gauge('outbox_bytes', this.#outbox.bytes)
    metrics.gauge('outbox_limit_bytes', this.#config.limits.outboxBytes)
    for (const [reason, count] of Object.entries(this.#outbox.stats.purged)) metrics.counter('outbox_purged_total', reason).set(count)
    for (const { name, state } of this.#bridges) {
      metrics.gauge('bridge_connected', state.connected ? 1 : 0, name)
      metrics.gauge('bridge_in_flight', state.inFlight, name)
      metrics.gauge('bridge_window', state.window, name)
    }
    const waiting = this.#egress?.waiting().flatMap(({ oldestAtMs }) => oldestAtMs ?? []) ?? []
    metrics.gauge('queue_age_seconds', waiting.length === 0 ? 0 : Math.max(0, this.#parts.clock.now() - Math.min(...waiting)) / 1_000, 'sessions')
    const { ready, reasons } = this.health()
    metrics.gauge('ready', ready ? 1 : 0)
    for (const code of CONDITIONS) metrics.gauge('conditions', reasons.some((reason) => reason.code === code) ? 1 : 0, code)
  }

  #audit(event: AuditEvent): void {
    // Changes of consent are ledger events of their own; the rest of what people do through the API is recorded here.
    const { books } = this.#parts
    if (!books.ledger.healthy || event.action.startsWith('consent.') && event.outcome === 'done' && event.action !== 'consent.shown' && event.action !== 'consent.exported') return
    const { operator, atMs, action, outcome, code, actor, role, machine, purpose, detail } = event
    books.ledger.append({ type: `disclosure.${action.replaceAll('.', '_')}`, ...(operator === undefined || !books.identities.knows(operator) ? {} : { subject: { type: 'operator', id: operator } }), body: { atMs, outcome, code, actor, role, machine, purpose, detail } })
  }
}

/** When a message could leave: what is kept for a window on purpose, at its end. */
function readyMs({ receivedAtMs, untilMs }: OutboxRecord): number {
  return untilMs !== undefined && untilMs > receivedAtMs ? untilMs : receivedAtMs
}

/** Plans of earlier sets that are remembered; past it the oldest are not, and what waits of them needs a yes. */
const COARSE_PLANS = 65_536
/** Variants without the operator's yes. */
const COARSE = [variantIndex(false, false), variantIndex(false, true)]

function matcherOf(streams: readonly Stream[]): ReturnType<ShadowParts['matcher']> {
  const matcher = createTopicMatcher(streams)
  return (topic) => matcher.match(topic)
}

function endpoint({ host, port, tls }: ListenConfig): { host: string; port: number; tls?: TlsMaterial } {
  return tls === undefined ? { host, port } : { host, port, tls }
}

function engineOf({ minimiser }: GatewayConfig): 'generated' | 'interpreted' {
  return minimiser === 'interpreted' ? 'interpreted' : 'generated'
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
    case 'closed': case 'forbidden': case 'no_transfer': return 'The legal basis is not met for this message: see parapet explain for what each consent state gives.'
    case 'when_false': return 'The output\'s `when` is false for these messages: see parapet explain --message.'
    default: return `The last message was not forwarded (${last}): see parapet explain --message with a message of this kind.`
  }
}

/**
 * Random bytes from a pool, as one call to the system for each record costs more than minimising it. What it returns holds until the pool is
 * filled again, so whoever keeps it copies it, as the outbox does.
 */
function pooledRandom(): Random {
  const pool = Buffer.alloc(8_192)
  let used = pool.length
  return (bytes) => {
    if (used + bytes > pool.length) {
      randomFillSync(pool)
      used = 0
    }
    used += bytes
    return pool.subarray(used - bytes, used)
  }
}

/** Events after which nothing recorded of the person stays. */
const NOES = ['consent.refused', 'consent.withdrawn', 'consent.objected', 'consent.local_only']

const NOT_OPEN = new Error('the gateway is starting')
const NO_SUBSCRIBER = Verdict.no_subscriber.code
const NO_BRIDGE = Verdict.no_bridge.code
