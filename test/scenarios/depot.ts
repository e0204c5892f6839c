/**
 * The gateway under a scenario, in two forms. `Bench` is the data path itself between real books: pipeline, minimisers, sessions,
 * consent, identities and ledger in a folder of their own. `Station` is the whole gateway with its brokers, for what happens to
 * messages that wait.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createTopicMatcher } from '../../src/broker/topics.ts'
import { loadRules } from '../../src/config/rules.ts'
import { openBooks, type Books } from '../../src/consent/books.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import type { MachineId, OperatorId } from '../../src/domain/ids.ts'
import type { Policy } from '../../src/domain/policy.ts'
import type { Clock, ConsentChange, ConsentRow, Identity, Machine, Outbox, OutboxRecord, Sessions } from '../../src/domain/ports.ts'
import { createMetrics } from '../../src/metrics.ts'
import { createCells } from '../../src/minimise/cells.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { createPipeline, type Pipeline } from '../../src/pipeline.ts'
import { machineOf } from '../../src/rehearsal.ts'
import { grantedScope, isScopeWider } from '../../src/scope.ts'
import { buildSnapshot, type Snapshot } from '../../src/snapshot.ts'
import { op, ROOT, type TestClock } from '../consent/fixture.ts'
import { Folder, pause, PROJECT, Stage, until, type Recipient, type Terminal } from '../e2e/stage.ts'
import type { RulesName } from './story.ts'

/** One message as a recipient gets it. */
export interface Sent {
  readonly output: string
  readonly stream: string
  readonly payload: Uint8Array
}

export interface MachineLine {
  readonly id: string
  readonly country: string | undefined
  readonly collection: 'on' | 'off' | 'unknown'
}

export interface PersonLine {
  readonly id: string
  readonly kind: 'personal' | 'shared' | 'service'
  readonly country: string | undefined
  readonly cards: readonly string[]
}

export interface Depot {
  publish(machine: string, stream: string, payload: Uint8Array): Promise<void>
  /** What came out since the last time: of the real thing under '', of deliberately wrong ones under their names. */
  taken(): Promise<ReadonlyMap<string, readonly Sent[]>>
  /** Throws GatewayError when it is not accepted. */
  change(change: ConsentChange): Promise<void>
  rows(operator: string): readonly ConsentRow[]
  notice(operator: string): Promise<void>
  register(machines: readonly MachineLine[], people: readonly PersonLine[]): Promise<void>
  rules(name: RulesName): Promise<void>
  restart(isDamaged: boolean): Promise<void>
  away(): Promise<void>
  back(): Promise<void>
  erase(operator: string): void
  close(): Promise<void>
}

const schemas = loadSchemas([join(PROJECT, 'proto')])
const FIRST = readFileSync(resolve(import.meta.dirname, 'rules.yaml'), 'utf8')

/** Variants of the rules, each a change of one kind against the first. */
const RULES: Readonly<Record<RulesName, string>> = {
  first: FIRST,
  wider: changed(FIRST, 'consent: { grid: 500m }', 'consent: { grid: 100m }'),
  coarser: changed(FIRST, 'consent: { grid: 500m }', 'consent: { grid: 1km }'),
  next: changed(FIRST, 'id: depot-2026', 'id: depot-2027'),
}

function changed(text: string, from: string, to: string): string {
  if (!text.includes(from)) throw new Error(`the rules do not say ${from}`)
  return text.replaceAll(from, to)
}

const policies = new Map<RulesName, Policy>()

function policyOf(name: RulesName): Policy {
  let policy = policies.get(name)
  if (policy === undefined) {
    const loaded = loadRules('rules.yaml', RULES[name], { schemas })
    if (loaded.policy === undefined) throw new Error(JSON.stringify(loaded.findings))
    policy = loaded.policy
    policies.set(name, policy)
  }
  return policy
}

/** Names of all outputs. */
export const OUTPUTS: readonly string[] = policyOf('first').outputs.map((output) => output.id)

// ------------------------------------------------------------------------------------------------------------------ bench

/** Nothing here is about what a disk keeps, so no disk is waited for where there is a file system in memory. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
process.env['TMPDIR'] = MEMORY

const metrics = createMetrics()
/** No machine moves. */
const cells = createCells()
const snapshots = new Map<RulesName, Snapshot>()
/** The bench that plays now: compiled minimisers are shared by all and look here for keys and sessions. */
let playing: Bench | undefined
let generation = 0

export class Bench implements Depot {
  readonly #clock: TestClock
  readonly #path = mkdtempSync(join(MEMORY, 'parapet-scenario-'))
  readonly #sent = new Map<string, Sent[]>([['', []], ...Object.keys(WRONG).map((name): [string, Sent[]] => [name, []])])
  readonly #signedOn = new Map<string, Identity>()
  #policy = policyOf('first')
  #which: RulesName = 'first'
  #machines = new Map<string, Machine>()
  #pipelines: ReadonlyMap<string, Pipeline>
  /** False while a wrong pipeline is at work, which must not sign anybody on or off. */
  isReal = true
  borders: readonly number[] = []
  books: Books

  private constructor(clock: TestClock) {
    this.#clock = clock
    this.books = this.#open()
    this.#pipelines = this.#start()
  }

  /** One at a time: the minimisers ask the newest. */
  static open(clock: TestClock): Bench {
    playing = new Bench(clock)
    return playing
  }

  async publish(machine: string, stream: string, payload: Uint8Array): Promise<void> {
    for (const [name, pipeline] of this.#pipelines) {
      this.isReal = name === ''
      pipeline.handle({ topic: `up/demo/${machine}/${stream}`, payload, qos: 1, machine, receivedAtMs: this.#clock.now(), isWill: false })
    }
    this.books.ledger.flush()
  }

  async taken(): Promise<ReadonlyMap<string, readonly Sent[]>> {
    return new Map([...this.#sent].map(([name, sent]) => [name, sent.splice(0)]))
  }

  signOn(machine: Machine, card: string, eventMs: number, receivedMs: number): void {
    if (!this.isReal) return
    const identity = this.#identify(card, eventMs)
    if (identity !== undefined) this.#signedOn.set(machine.id, identity)
    this.books.sessions.signOn(machine, identity, eventMs, receivedMs)
  }

  signOff(machine: Machine, card: string, eventMs: number, receivedMs: number): void {
    if (this.isReal) this.books.sessions.signOff(machine, this.#identify(card, eventMs), eventMs, receivedMs)
  }

  /** Who signed on last, whatever came after. */
  lastAt(machine: Machine): Identity | undefined {
    return this.#signedOn.get(machine.id)
  }

  async change(change: ConsentChange): Promise<void> {
    this.books.states.change(change)
  }

  rows(operator: string): readonly ConsentRow[] {
    return this.books.states.show(op(operator)).rows
  }

  async notice(operator: string): Promise<void> {
    this.books.states.giveNotice(op(operator), this.#policy.id, 'en', undefined)
  }

  async register(machines: readonly MachineLine[], people: readonly PersonLine[]): Promise<void> {
    generation++
    this.#machines = new Map(machines.map(({ id, country, collection }) => [id, machineOf({ id, fleet: 'demo', country, operatorCollection: collection })]))
    for (const { id, collection } of machines) if (collection !== 'on') this.books.sessions.forget(id as MachineId)
    this.books.identities.load(people.map(({ id, kind, country, cards }) => ({ id: op(id), kind, country, cards, validFromMs: undefined, validToMs: undefined })))
    this.borders = this.books.identities.borders(4_095)
    this.books.keys.ensureMany('operator', people.map(({ id }) => id).filter((id) => this.books.identities.knows(op(id))), ['pseudonym'])
    this.books.keys.ensureMany('machine', machines.map(({ id }) => id), ['pseudonym'])
  }

  async rules(name: RulesName): Promise<void> {
    this.#which = name
    this.#policy = policyOf(name)
    this.books.usePolicy(this.#policy)
    for (const pipeline of this.#pipelines.values()) pipeline.swap(this.#snapshot(name))
  }

  async restart(isDamaged: boolean): Promise<void> {
    this.books.close()
    if (isDamaged) damage(join(this.#path, 'ledger.db'))
    this.books = this.#open()
    this.#pipelines = this.#start()
  }

  away(): Promise<void> {
    throw new Error('messages wait only in a whole gateway')
  }

  back(): Promise<void> {
    return this.away()
  }

  erase(operator: string): void {
    generation++
    for (const store of this.books.stores) store.erase(op(operator))
  }

  async close(): Promise<void> {
    this.books.close()
    rmSync(this.#path, { recursive: true, force: true })
  }

  #identify(card: string, atMs: number): Identity | undefined {
    return card === '' ? undefined : this.books.identities.find(card, atMs)
  }

  get clock(): Clock {
    return this.#clock
  }

  #open(): Books {
    generation++
    return openBooks({
      folder: this.#path, root: ROOT, tenant: 'demo', gateway: 'scenario', clock: this.#clock,
      scopeOf: (purpose) => grantedScope(this.#policy, purpose), wider: isScopeWider,
    })
  }

  #start(): ReadonlyMap<string, Pipeline> {
    const { books } = this
    books.usePolicy(this.#policy)
    const pipelineOf = (name: string, sessions: Sessions): Pipeline => {
      const pipeline = createPipeline({
        random: () => new Uint8Array(16),
        machines: () => ({ get: (id) => this.#machines.get(id), size: this.#machines.size, all: () => this.#machines.values() }),
        sessions, consent: books.states, identities: books.identities,
        outbox: catching(this.#sent.get(name) as Sent[]), cells, metrics, verifyEvery: 1,
        ledgerHealthy: () => books.ledger.healthy,
      })
      pipeline.swap(this.#snapshot(this.#which))
      return pipeline
    }
    const wrong = Object.entries(WRONG).map(([name, decide]): [string, Pipeline] => {
      const sessions: Sessions = {
        ...STILL,
        decide: (machine, eventMs, nowMs, into) => {
          books.sessions.decide(machine, eventMs, nowMs, into)
          decide(into, this, machine, nowMs)
        },
        decideSpan: (machine, fromMs, toMs, nowMs, into) => {
          books.sessions.decideSpan(machine, fromMs, toMs, nowMs, into)
          decide(into, this, machine, nowMs)
        },
      }
      return [name, pipelineOf(name, sessions)]
    })
    return new Map([['', pipelineOf('', books.sessions)], ...wrong])
  }

  #snapshot(name: RulesName): Snapshot {
    let snapshot = snapshots.get(name)
    if (snapshot === undefined) {
      snapshot = buildSnapshot(policyOf(name), {
        keys: {
          root: ROOT.bytes,
          tenant: 'demo',
          rows: {
            row: (kind, value, _as, eventMs) => {
              const { books, clock } = playing!
              const subject = kind === 'operator' ? books.identities.find(value, eventMs > 0 ? eventMs : clock.now())?.operator : value
              return subject === undefined ? undefined : books.keys.row(kind, subject, 'pseudonym')
            },
            // As the gateway does: what was made for one side of a border does not serve the other.
            generationAt: (eventMs) => generation * 4_096 + playing!.borders.filter((border) => border <= eventMs).length,
          },
        },
        engine: 'interpreted', keyId: '', metrics,
        sessions: {
          signOn: (machine, card, eventMs, receivedMs) => playing!.signOn(machine, card, eventMs, receivedMs),
          signOff: (machine, card, eventMs, receivedMs) => playing!.signOff(machine, card, eventMs, receivedMs),
        },
        matcher: (streams) => {
          const matcher = createTopicMatcher(streams)
          return (topic) => matcher.match(topic)
        },
      })
      snapshots.set(name, snapshot)
    }
    return snapshot
  }
}

/** Keeps what is accepted; the pipeline uses its scratch buffer again. */
function catching(into: Sent[]): Outbox {
  return {
    accept: ({ output, stream, payload }: OutboxRecord) => void into.push({ output, stream, payload: Uint8Array.from(payload) }),
    room: () => true,
    committed: (callback) => callback(undefined),
    purge: () => ({ purged: 0, swapped: 0, held: 0 }),
    kept: () => undefined, mark: () => undefined,
    depth: 0, bytes: 0, close: () => Promise.resolve(),
  }
}

// ------------------------------------------------------------------------------------------------------- deliberately wrong

/** Decisions that are wrong on purpose, made of the right one: a row that all of them satisfy says nothing. */
export const WRONG: Readonly<Record<string, (into: Decision, bench: Bench, machine: Machine, nowMs: number) => void>> = {
  'everybody is known and said yes to everything': (into) => {
    Object.assign(into, nobody(), { known: true, collection: true, operator: into.operator ?? ('op-anna' as OperatorId), session: into.session === '' ? '00'.repeat(16) : into.session }, ALL_YES)
  },
  'nobody is ever known': (into) => {
    const { collection } = into
    Object.assign(into, nobody(), { collection })
  },
  'whoever is known said yes to everything': (into) => {
    if (into.known) Object.assign(into, ALL_YES)
  },
  'whoever signed on last is there for ever': (into, bench, machine, nowMs) => {
    const last = bench.lastAt(machine)
    if (last === undefined || !bench.books.states.fill(last.operator, nowMs, nowMs, into)) return
    Object.assign(into, { known: true, collection: true, operator: last.operator, country: last.country, session: '00'.repeat(16) })
  },
  'what was refused is forgotten': (into) => {
    into.no = 0
  },
  'where somebody comes from does not count': (into) => {
    into.country = undefined
    into.otherCountry = undefined
    into.furtherCountries = undefined
  },
}

const ALL_YES = { yes: -1, siteYes: -1, notice: -1, no: 0 } as const

/** Wrong pipelines look on: what happens is told to the real one. */
const STILL: Omit<Sessions, 'decide' | 'decideSpan'> = { signOn: () => {}, signOff: () => {}, current: () => undefined, forget: () => {}, sweep: () => {}, size: 0 }

/** One bit of the newest event that is not the last, as a failing disk or somebody with an editor would. */
function damage(file: string): void {
  const db = new DatabaseSync(file)
  db.exec('DROP TRIGGER IF EXISTS event_is_final')
  const { body } = db.prepare('SELECT body FROM event WHERE seq = 1').get() as { body: Uint8Array }
  body[0]! ^= 1
  db.prepare('UPDATE event SET body = ? WHERE seq = 1').run(body)
  db.close()
}

// ---------------------------------------------------------------------------------------------------------------- station

/** How long an acknowledgement is waited for. */
const UNANSWERED_MS = 2_000

export class Station implements Depot {
  readonly #clock: TestClock
  readonly #folder: Folder
  readonly #terminals = new Map<string, Terminal>()
  #recipients: Recipient[] = []
  #stage: Stage | undefined

  constructor(clock: TestClock) {
    this.#clock = clock
    this.#folder = new Folder()
    this.#write('first')
  }

  async publish(machine: string, stream: string, payload: Uint8Array): Promise<void> {
    let terminal = this.#terminals.get(machine)
    if (terminal === undefined) {
      terminal = await this.#on.terminal(machine).catch(() => undefined)
      // The door is the first that knows no such machine.
      if (terminal === undefined) return
      this.#terminals.set(machine, terminal)
    }
    // A message that cannot be acknowledged must not keep those behind it.
    await Promise.race([terminal.publish(`up/demo/${machine}/${stream}`, payload).catch(() => {}), pause(UNANSWERED_MS)])
  }

  async taken(): Promise<ReadonlyMap<string, readonly Sent[]>> {
    if (this.#recipients.length === 0) return new Map([['', []]])
    await this.#on.settled(this.#recipients)
    return new Map([['', this.#recipients.flatMap((recipient) => recipient.take().map(({ topic, payload }): Sent => {
      const [, output, stream] = topic.split('/') as [string, string, string]
      return { output, stream, payload: payload as Buffer }
    }))]])
  }

  async change(change: ConsentChange): Promise<void> {
    await this.#on.gateway.control.changeConsent(change)
  }

  rows(operator: string): readonly ConsentRow[] {
    return this.#on.gateway.control.consent(op(operator))?.rows ?? []
  }

  async notice(operator: string): Promise<void> {
    await this.#on.gateway.control.giveNotice(op(operator), undefined, 'en', 'desk')
  }

  /** JSON is YAML. */
  async register(machines: readonly MachineLine[], people: readonly PersonLine[]): Promise<void> {
    writeFileSync(this.#folder.file('machines.yaml'), JSON.stringify(Object.fromEntries(machines.map(({ id, country, collection }) => [id, { fleet: 'demo', model: 'GS-1932', country, operator_collection: collection }]))))
    writeFileSync(this.#folder.file('operators.yaml'), JSON.stringify(people))
    if (this.#stage === undefined) await this.#start()
    else await this.#on.gateway.reload()
  }

  async rules(name: RulesName): Promise<void> {
    this.#write(name)
    await this.#on.gateway.reload()
    if (this.#on.gateway.control.health().reasons.some(({ code }) => code === 'RULES-REFUSED')) throw new Error('the rules were refused')
  }

  async restart(isDamaged: boolean): Promise<void> {
    const wasThere = this.#recipients.length > 0
    await this.#on.stop()
    this.#terminals.clear()
    this.#recipients = []
    if (isDamaged) damage(join(this.#folder.data, 'ledger.db'))
    await this.#start(wasThere)
  }

  async away(): Promise<void> {
    await this.#on.settled(this.#recipients)
    await Promise.all(this.#recipients.map((recipient) => recipient.client.endAsync()))
    this.#recipients = []
    await until(() => this.#on.gateway.control.status().listeners.find(({ name }) => name === 'recipients')?.connections === 0, 'everybody to be gone')
  }

  async back(): Promise<void> {
    this.#recipients = await Promise.all(policyOf('first').recipients.map((recipient) => this.#on.recipient(recipient.id, policyOf('first').outputs
      .filter((output) => output.recipient === recipient || output.recipient.id === recipient.id).map((output) => `out/${output.id}/+`), { clean: false, clientId: recipient.id })))
  }

  erase(): void {
    throw new Error('nobody can be erased through the gateway yet')
  }

  async close(): Promise<void> {
    await this.#stage?.stop()
    this.#folder.remove()
  }

  get #on(): Stage {
    if (this.#stage === undefined) throw new Error('the gateway does not run')
    return this.#stage
  }

  async #start(isWatched = true): Promise<void> {
    this.#stage = await Stage.open({ folder: this.#folder, clock: this.#clock })
    if (isWatched) await this.back()
  }

  #write(name: RulesName): void {
    writeFileSync(this.#folder.file('rules/awp.yaml'), RULES[name])
    writeFileSync(this.#folder.file('recipients.yaml'), JSON.stringify(Object.fromEntries(policyOf(name).recipients.map(({ id }) => [id, {}]))))
  }
}

