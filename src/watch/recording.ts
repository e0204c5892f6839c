/**
 * Recordings of raw traffic for previews of rules, asked for by the privacy role: sealed to its key, for a limited time, of a limited
 * size, written down in the ledger from start to deletion. Nothing is recorded of whoever has said no to something or of whom that cannot
 * be told, nor from a machine whose device setting is not on; and a recording goes whole when somebody in it says no later, for nobody here can take them out of it.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { appendFileSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statfsSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Decision } from '../domain/consent.ts'
import { GatewayError } from '../domain/errors.ts'
import type { MachineId, OperatorId, StreamId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Ending, RecordingView } from '../domain/live.ts'
import type { Policy, Stream } from '../domain/policy.ts'
import type { LedgerType, Machine, Publish, SubjectStore } from '../domain/ports.ts'
import type { Log } from '../log.ts'
import { createFacts, createProbe, type Probe } from '../minimise/probe.ts'
import type { Observer, Observers } from './observer.ts'
import { decisionJson, machineJson, Sealer, type ChunkJson } from './recorded.ts'

export interface RecordingsParts {
  /** Made when the first recording is, 0700. */
  readonly folder: string
  readonly gateway: string
  readonly clock: { now(): number }
  readonly log: Log
  readonly observers: Observers
  readonly policy: () => Policy | undefined
  readonly machine: (id: string) => Machine | undefined
  /** What stands on disk for somebody who is in a recording: means nothing without the keys. */
  readonly tagOf: (type: 'operator' | 'machine', id: string) => string
  /** Whether the person of a tag was erased. */
  readonly isErased: (tag: string) => boolean
  /** Number of the newest event of the ledger, and who has said no to something since one. */
  readonly seq: () => number
  /** Otherwise nobody can tell who has said no. */
  readonly ledgerHealthy: () => boolean
  /** Whose a card was, and whether they have said no to something; undefined when that cannot be told. */
  readonly named: (card: string, atMs: number) => { readonly operator: OperatorId; readonly hasSaidNo: boolean } | undefined
  readonly refusedSince: (seq: number) => Iterable<OperatorId>
  /** Of whom nothing may be destroyed. */
  readonly held: () => Iterable<OperatorId>
  /** Writes an event into the ledger. Throws when that is not possible. */
  readonly note: (type: LedgerType, body: Readonly<Record<string, unknown>>) => void
}

export interface RecordingRequest {
  /** Public key, 32 bytes base64url. */
  readonly to: string
  readonly reason: string
  readonly stream: StreamId | undefined
  readonly machine: MachineId | undefined
  readonly forMs: number
  readonly bytes: number
  readonly keepMs: number
  readonly withOperators: boolean
}

/** A token's name and role. */
export interface By {
  readonly by: string
  readonly role: string
}

export type DeletionReason = 'asked' | 'over' | 'withdrawal' | 'erasure' | 'device_setting' | 'unreadable'

export class Recordings implements SubjectStore {
  readonly name = 'recordings'
  readonly #parts: RecordingsParts
  readonly #kept = new Map<string, Kept>()
  #running: { readonly kept: Kept; readonly recorder: Recorder } | undefined

  constructor(parts: RecordingsParts) {
    this.#parts = parts
  }

  /**
   * Takes up what a former run left, before anything is recorded; deletes what is due, and what nobody can say who is in it.
   * @param machines  all that are registered
   */
  open(machines: Iterable<Machine>): void {
    const { folder } = this.#parts
    if (!existsSync(folder)) return
    const ids = new Set(readdirSync(folder).flatMap((name) => /^(r-[0-9a-f]{16})\.(rec|json|who|json\.new)$/.exec(name)?.[1] ?? []))
    for (const id of ids) {
      const kept = readKept(folder, id)
      if (kept === undefined) {
        this.#remove(id)
        this.#note('disclosure.recording_deleted', { id, why: 'unreadable' })
      } else {
        this.#kept.set(id, kept)
        if (kept.state.ended === undefined) this.#ended(kept, 'lost')
      }
    }
    if (this.#kept.size === 0) return
    // [P7] A setting may have been turned off, or a machine have left, while the gateway was away.
    const on = new Set([...machines].filter(({ operatorCollection }) => operatorCollection === 'on').map(({ id }) => this.#mark('machine', id)))
    for (const kept of [...this.#kept.values()]) if ([...kept.who].some((mark) => mark.startsWith(MACHINE) && !on.has(mark))) this.#delete(kept, 'device_setting')
    // A process that is killed between a no and the deletion leaves both.
    for (const kept of [...this.#kept.values()]) if ([...kept.who].some((mark) => mark.startsWith(OPERATOR) && this.#parts.isErased(mark.slice(OPERATOR.length)))) this.#delete(kept, 'erasure')
    const since = Math.min(...[...this.#kept.values()].map(({ state }) => state.seq))
    if (Number.isFinite(since)) for (const operator of this.#parts.refusedSince(since)) this.withdrawn(operator)
    this.sweep()
  }

  /**
   * Begins one; the ledger has it before the first message is written.
   * @throws GatewayError RECORDING-ON, RECORDING-LIMIT, RECORDING-ROOM, RECORDING-BOUND, RECORDING-KEY, UNKNOWN-STREAM, UNKNOWN-MACHINE, NO-RULES, LEDGER-DAMAGED
   */
  start(request: RecordingRequest, { by, role }: By): RecordingView {
    const { folder, clock, gateway, observers } = this.#parts
    if (this.#running !== undefined) throw new GatewayError('RECORDING-ON', 'A recording is running.', 'End it with: parapet record stop.')
    if (this.#kept.size >= LIMITS.recordings) throw new GatewayError('RECORDING-LIMIT', `There are ${LIMITS.recordings} recordings.`, 'Delete one that is no longer needed: parapet record delete ID.')
    const policy = this.#checked(request)
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const { bavail, bsize } = statfsSync(folder)
    if (bavail * bsize < request.bytes + LIMITS.recordingSpareBytes) throw new GatewayError('RECORDING-ROOM', 'The disk has no room for a recording of this size.', 'Record less: parapet record start --size 16MiB. What waits for recipients needs the room.')
    const startedMs = clock.now()
    const id = `r-${randomBytes(8).toString('hex')}`
    const times = { started: iso(startedMs), until: iso(startedMs + request.forMs), deleted: iso(startedMs + request.keepMs) }
    const sealer = new Sealer(request.to, { id, gateway, rules: policy.hash, ...times })
    const to = (JSON.parse(sealer.beginning.toString('utf8', sealer.beginning.indexOf('{'))) as { to: string }).to
    const { stream, machine, withOperators, reason, bytes } = request
    this.#parts.note('disclosure.recording_started', { id, by, role, reason, to, stream, machine, rules: policy.hash, bytes, with_operators: withOperators, ...times })
    const kept: Kept = {
      file: join(folder, `${id}.rec`), who: new Set(),
      state: { id, by, to, stream, seq: this.#parts.seq(), startedMs, untilMs: startedMs + request.forMs, deletedMs: startedMs + request.keepMs, bytes: 0, messages: 0, leftOut: { no: 0, deviceSetting: 0 } },
    }
    writeState(folder, kept.state)
    this.#kept.set(id, kept)
    const recorder: Recorder = this.#recorder(kept, {
      request, kept, sealer, clock, policy, machine: this.#parts.machine, ledgerHealthy: this.#parts.ledgerHealthy, named: this.#parts.named,
      met: (mark) => {
        // On disk before anything of them is: after a crash it must be known who is in the file.
        appendDurably(join(folder, `${id}.who`), `${mark}\n`)
        kept.who.add(mark)
      },
      mark: (type, one) => this.#mark(type, one),
      end: (why) => observers.end(recorder, why),
      ended: (why) => {
        this.#running = undefined
        this.#ended(kept, why)
      },
    })
    this.#running = { kept, recorder }
    observers.add(recorder)
    return this.#view(kept)
  }

  /** @throws GatewayError UNKNOWN-RECORDING  none of this id is running */
  stop(id: string, by: By): RecordingView {
    const running = this.#running
    if (running === undefined || running.kept.state.id !== id) throw new GatewayError('UNKNOWN-RECORDING', 'No recording of this id is running.', 'See: parapet record list.')
    this.#note('disclosure.recording_stopped', { id, ...by })
    this.#parts.observers.end(running.recorder, 'asked')
    return this.#view(running.kept)
  }

  /** Oldest first. */
  list(): readonly RecordingView[] {
    return [...this.#kept.values()].map((kept) => this.#view(kept)).sort((a, b) => a.startedMs - b.startedMs)
  }

  /** @throws GatewayError UNKNOWN-RECORDING, RECORDING-HELD */
  delete(id: string, by: By): void {
    const kept = this.#kept.get(id)
    if (kept === undefined) throw new GatewayError('UNKNOWN-RECORDING', 'There is no recording of this id.', 'See: parapet record list.')
    if (!this.#delete(kept, 'asked', by)) throw new GatewayError('RECORDING-HELD', 'A legal hold keeps this recording.', 'It is deleted by itself when the hold is released.')
  }

  /** Deletes what is due. Every minute. */
  sweep(): void {
    const now = this.#parts.clock.now()
    for (const kept of [...this.#kept.values()]) {
      if (kept.state.due !== undefined) this.#delete(kept, kept.state.due)
      else if (now >= kept.state.deletedMs) this.#delete(kept, 'over')
    }
  }

  /** Somebody said no to something: what they are in goes whole. */
  withdrawn(operator: OperatorId): void {
    for (const kept of this.#with('operator', operator)) this.#delete(kept, 'withdrawal')
  }

  /** [P7] The device setting of a machine was turned off, or the machine left the registry. */
  switchedOff(machine: MachineId): void {
    for (const kept of this.#with('machine', machine)) this.#delete(kept, 'device_setting')
  }

  // ------------------------------------------------------------------------------------------------------ SubjectStore

  locate(subject: OperatorId): { readonly records: number } {
    return { records: this.#with('operator', subject).length }
  }

  /** That there is something, and until when: the gateway cannot read it. */
  *export(subject: OperatorId): Iterable<Readonly<Record<string, unknown>>> {
    for (const { state } of this.#with('operator', subject)) yield { recording: state.id, started: iso(state.startedMs), deleted: iso(state.deletedMs), sealed_to: state.to }
  }

  erase(subject: OperatorId): { readonly erased: number; readonly held: number } {
    const gone = this.#with('operator', subject).map((kept) => this.#delete(kept, 'erasure'))
    return { erased: gone.filter(Boolean).length, held: gone.filter((one) => !one).length }
  }

  /** Asked for with every deletion, see `held`; a released one is swept when it is due. */
  hold(): void {}

  // ------------------------------------------------------------------------------------------------------------- own

  /** @throws GatewayError */
  #checked({ stream, machine, forMs, bytes, keepMs, reason }: RecordingRequest): Policy {
    const policy = this.#parts.policy()
    if (policy === undefined) throw new GatewayError('NO-RULES', 'No rules are active, so nothing is decided that could be recorded.', 'Mend the rules file first.')
    if (reason.trim().length < 3) throw new GatewayError('REASON-MISSING', 'A recording needs a reason.', 'It goes into the ledger, so name no person.')
    if (!(forMs >= 1_000 && forMs <= LIMITS.recordingMs)) throw new GatewayError('RECORDING-BOUND', 'A recording lasts between a second and 24 hours.')
    if (!(bytes >= 65_536 && bytes <= LIMITS.recordingBytes)) throw new GatewayError('RECORDING-BOUND', 'A recording has between 64 KiB and 1 GiB.')
    if (!(keepMs >= forMs && keepMs <= LIMITS.recordingKeepMs)) throw new GatewayError('RECORDING-BOUND', 'A recording is kept for 30 days at most, and at least for as long as it lasts.')
    if (stream !== undefined && !policy.streams.some(({ id }) => id === stream)) throw new GatewayError('UNKNOWN-STREAM', 'The rules have no stream of this name.', 'See: parapet rules list.')
    if (machine !== undefined && this.#parts.machine(machine) === undefined) throw new GatewayError('UNKNOWN-MACHINE', 'There is no such machine.', 'See: parapet machines list.')
    return policy
  }

  #recorder(kept: Kept, parts: RecorderParts): Recorder {
    try {
      return new Recorder(parts)
    } catch (error) {
      this.#delete(kept, 'unreadable')
      this.#parts.log.error('a recording could not be begun', { error })
      throw new GatewayError('RECORDING-ROOM', 'The file of the recording cannot be written.', 'Look at the space and the owner of the data folder.')
    }
  }

  #mark(type: 'operator' | 'machine', id: string): string {
    return `${type === 'machine' ? MACHINE : OPERATOR}${this.#parts.tagOf(type, id)}`
  }

  #with(type: 'operator' | 'machine', id: string): Kept[] {
    if (this.#kept.size === 0) return []
    const mark = this.#mark(type, id)
    return [...this.#kept.values()].filter(({ who }) => who.has(mark))
  }

  #isHeld({ who }: Kept): boolean {
    for (const operator of this.#parts.held()) if (who.has(this.#mark('operator', operator))) return true
    return false
  }

  #ended(kept: Kept, why: Ending | 'lost'): void {
    const { folder, clock, log } = this.#parts
    const size = statSync(kept.file, { throwIfNoEntry: false })?.size ?? 0
    kept.state = { ...kept.state, ended: why, untilMs: Math.min(kept.state.untilMs, clock.now()), bytes: size }
    try {
      writeState(folder, kept.state)
    } catch (error) {
      log.error('the state of a recording could not be written; at the next start it counts as lost', { error })
    }
    this.#note('disclosure.recording_ended', { id: kept.state.id, why, messages: kept.state.messages, bytes: kept.state.bytes })
  }

  /** False when a legal hold keeps it: then it goes when the hold is released, and whoever writes it stops now. */
  #delete(kept: Kept, why: DeletionReason, by?: By): boolean {
    const { observers, folder, log } = this.#parts
    const { id } = kept.state
    if (this.#running?.kept === kept) observers.end(this.#running.recorder, 'asked')
    if (this.#isHeld(kept)) {
      if (kept.state.due !== undefined || why === 'over' || why === 'asked') return false
      kept.state = { ...kept.state, due: why }
      writeState(folder, kept.state)
      return false
    }
    try {
      this.#remove(id)
    } catch (error) {
      log.error('a recording could not be deleted; it is tried again every minute', { error })
      kept.state = { ...kept.state, due: why }
      return false
    }
    this.#kept.delete(id)
    this.#note('disclosure.recording_deleted', { id, why, ...by })
    return true
  }

  /** The messages first, who is in them last: a crash between leaves something that the next start deletes. */
  #remove(id: string): void {
    const { folder } = this.#parts
    for (const end of ['rec', 'json.new', 'json', 'who']) rmSync(join(folder, `${id}.${end}`), { force: true })
    syncFolder(folder)
  }

  /** What has happened is not undone because the ledger is damaged. */
  #note(type: LedgerType, body: Readonly<Record<string, unknown>>): void {
    try {
      this.#parts.note(type, body)
    } catch (error) {
      this.#parts.log.error('what became of a recording could not be written into the ledger', { error })
    }
  }

  #view(kept: Kept): RecordingView {
    const { id, by, to, stream, startedMs, untilMs, deletedMs, bytes, messages, leftOut, ended, due } = kept.state
    let people = 0
    for (const mark of kept.who) if (mark.startsWith(OPERATOR)) people++
    const held = (due !== undefined || deletedMs <= this.#parts.clock.now()) && this.#isHeld(kept)
    return { id, file: kept.file, running: ended === undefined, ended, by, to, stream, startedMs, untilMs, deletedMs, bytes, messages, people, leftOut, held }
  }
}

// --------------------------------------------------------------------------------------------------------------- one of them

/** Beside the sealed file, in clear; tells of nobody. */
interface State {
  readonly id: string
  readonly by: string
  readonly to: string
  readonly stream: StreamId | undefined
  /** Of the newest event of the ledger at the start. */
  readonly seq: number
  readonly startedMs: number
  readonly untilMs: number
  readonly deletedMs: number
  readonly bytes: number
  readonly messages: number
  readonly leftOut: { readonly no: number; readonly deviceSetting: number }
  readonly ended?: Ending | 'lost'
  /** To be deleted, and not yet: a hold kept it, or the disk refused. */
  readonly due?: DeletionReason
}

interface Kept {
  readonly file: string
  state: State
  /** Marks of operators and machines. */
  readonly who: Set<string>
}

interface RecorderParts {
  readonly request: RecordingRequest
  readonly kept: Kept
  readonly sealer: Sealer
  readonly policy: Policy
  readonly clock: { now(): number }
  readonly machine: (id: string) => Machine | undefined
  readonly ledgerHealthy: () => boolean
  readonly named: RecordingsParts['named']
  readonly mark: (type: 'operator' | 'machine', id: string) => string
  readonly met: (mark: string) => void
  readonly end: (why: Ending) => void
  readonly ended: (why: Ending) => void
}

class Recorder implements Observer {
  readonly #parts: RecorderParts
  readonly #fd: number
  readonly #timer: NodeJS.Timeout
  /** Sealed, and not yet written. */
  #waiting: Buffer[] = []
  #waitingBytes = 0
  /** A write failed: what would be written behind it could not be read. */
  #isBroken = false
  #bytes = 0
  #messages = 0
  #no = 0
  #deviceSetting = 0
  readonly #machines = new Map<Machine, number>()
  readonly #persons = new Map<OperatorId, string>()
  readonly #met = new Set<string>()
  readonly #probes = new Map<Stream, Probe>()
  readonly #facts = createFacts()
  /** Of this recording alone, and in no file: sessions stay apart in it and mean nothing beside it. */
  readonly #sessionKey = randomBytes(32)

  constructor(parts: RecorderParts) {
    this.#parts = parts
    const { request, policy, sealer } = parts
    this.#fd = openSync(parts.kept.file, 'wx', 0o600)
    this.#add(sealer.beginning)
    this.#add(sealer.chunk({
      kind: 'frame', streams: Object.fromEntries(policy.streams.map(({ id, message }) => [id, message.name])), purposes: [...policy.purposes].sort((a, b) => a.index - b.index).map(({ id }) => id),
      operators: request.withOperators, stream: request.stream, machine: request.machine,
    } satisfies ChunkJson))
    this.#timer = setInterval(() => this.#tick(), FLUSH_MS)
    this.#timer.unref()
  }

  decided(publish: Publish, stream: Stream, decision: Readonly<Decision>): void {
    const { request, kept, clock, end } = this.#parts
    if (clock.now() >= kept.state.untilMs) return end('over')
    if ((request.stream !== undefined && request.stream !== stream.id) || (request.machine !== undefined && request.machine !== publish.machine)) return
    const machine = this.#parts.machine(publish.machine)
    // [P7] With the setting off nothing about an operator is kept, and a raw message may hold a card.
    if (machine?.operatorCollection !== 'on') return void this.#deviceSetting++
    const also = this.#concernedToo(publish, stream, decision)
    if (decision.no !== 0 || also === undefined) return void this.#no++
    const size = publish.payload.length + OVERHEAD
    if (this.#bytes + size > request.bytes) return end('over')
    this.#meet('machine', machine.id)
    if (decision.operator !== undefined) this.#meet('operator', decision.operator)
    for (const one of decision.concerned ?? []) this.#meet('operator', one)
    for (const one of also) this.#meet('operator', one)
    const { sealer } = this.#parts
    let index = this.#machines.get(machine)
    if (index === undefined) {
      index = this.#machines.size
      this.#machines.set(machine, index)
      this.#add(sealer.chunk(machineJson(machine)))
    }
    const json: ChunkJson = { kind: 'message', stream: stream.id, machine: index, received: publish.receivedAtMs, decision: decisionJson(decision, (one) => this.#person(one), (id) => this.#session(id)) }
    this.#add(sealer.chunk(json, publish.payload))
    this.#messages++
  }

  /**
   * Whom the raw message may be about beside those whom the decision speaks for; undefined when one of them has said no to something, or
   * when nobody can tell: at a time that is too late or ahead nobody was asked about, and without a ledger nobody can be. What somebody
   * chose at the display is never recorded, whoever is signed on there: the choice may be a no. (G3)
   */
  #concernedToo({ payload, receivedAtMs }: Publish, stream: Stream, { known }: Readonly<Decision>): readonly OperatorId[] | undefined {
    const { policy: { subject }, ledgerHealthy } = this.#parts
    if (!ledgerHealthy() || subject.consent?.stream === stream.id) return undefined
    const named = stream.operatorField ?? (subject.sessions?.stream === stream.id ? subject.sessions.operatorField : undefined)
    if (named === undefined && stream.time === undefined) return NOBODY
    let probe = this.#probes.get(stream)
    if (probe === undefined) this.#probes.set(stream, (probe = createProbe({ ...stream, operatorField: named })))
    if (probe(payload, 0, payload.length, this.#facts) < 0) return undefined
    const { eventMs, operator } = this.#facts
    if (eventMs > receivedAtMs + LIMITS.aheadMs || eventMs < receivedAtMs - subject.lateLimitMs) return undefined
    // Of a known person the message names no other.
    if (known || operator === '') return NOBODY
    const who = this.#parts.named(operator, Number.isNaN(eventMs) ? receivedAtMs : eventMs)
    return who === undefined || who.hasSaidNo ? undefined : [who.operator]
  }

  /** Purposes and streams of others would stand beside these. */
  rulesChanged(): void {
    this.#parts.end('rules')
  }

  ended(why: Ending): void {
    clearInterval(this.#timer)
    try {
      if (!this.#isBroken) this.#add(this.#parts.sealer.chunk({ kind: 'end', why, messages: this.#messages } satisfies ChunkJson, undefined, true))
      this.#write()
      fsyncSync(this.#fd)
    } catch {
      // A disk that refuses: what is whole stays readable, and the file shows that its end is missing.
    } finally {
      closeSync(this.#fd)
      this.#tell()
      this.#parts.ended(why)
    }
  }

  #tick(): void {
    const { clock, kept, end } = this.#parts
    if (clock.now() >= kept.state.untilMs) return end('over')
    try {
      this.#write()
      this.#tell()
    } catch {
      end('failed')
    }
  }

  #tell(): void {
    const { kept } = this.#parts
    kept.state = { ...kept.state, bytes: this.#bytes, messages: this.#messages, leftOut: { no: this.#no, deviceSetting: this.#deviceSetting } }
  }

  #meet(type: 'operator' | 'machine', id: string): void {
    const key = `${type} ${id}`
    if (this.#met.has(key)) return
    this.#parts.met(this.#parts.mark(type, id))
    this.#met.add(key)
  }

  #person(operator: OperatorId): string {
    if (this.#parts.request.withOperators) return operator
    let person = this.#persons.get(operator)
    if (person === undefined) this.#persons.set(operator, (person = `person-${this.#persons.size + 1}`))
    return person
  }

  #session(id: string): string {
    return createHmac('sha256', this.#sessionKey).update(id).digest('hex').slice(0, 32)
  }

  #add(bytes: Buffer): void {
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    this.#bytes += bytes.length
    if (this.#waitingBytes >= FLUSH_BYTES) this.#write()
  }

  #write(): void {
    if (this.#isBroken) return
    const bytes = Buffer.concat(this.#waiting)
    this.#waiting = []
    this.#waitingBytes = 0
    this.#isBroken = true
    for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at)
    this.#isBroken = false
  }
}

const NOBODY: readonly OperatorId[] = []
const OPERATOR = 'o '
const MACHINE = 'm '
const FLUSH_BYTES = 65_536
const FLUSH_MS = 1_000
/** What a message takes beside its bytes, with room for a machine that is new and the end. */
const OVERHEAD = 16_384

/** State and people of a file; undefined when they cannot be told. */
function readKept(folder: string, id: string): Kept | undefined {
  try {
    const state = JSON.parse(readFileSync(join(folder, `${id}.json`), 'utf8')) as State
    const file = join(folder, `${id}.rec`)
    if (state.id !== id || !Number.isFinite(state.deletedMs) || !Number.isFinite(state.seq) || !existsSync(file)) return undefined
    const whoFile = join(folder, `${id}.who`)
    const who = existsSync(whoFile) ? readFileSync(whoFile, 'utf8').split('\n').filter((line) => line !== '') : []
    return { file, state, who: new Set(who) }
  } catch {
    return undefined
  }
}

/** Whole or not at all. */
function writeState(folder: string, state: State): void {
  const file = join(folder, `${state.id}.json`)
  writeFileSync(`${file}.new`, `${JSON.stringify(state)}\n`, { mode: 0o600, flush: true })
  renameSync(`${file}.new`, file)
  syncFolder(folder)
}

function appendDurably(file: string, text: string): void {
  appendFileSync(file, text, { mode: 0o600, flush: true })
}

function syncFolder(folder: string): void {
  if (process.platform === 'win32') return
  const handle = openSync(folder, 'r')
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
