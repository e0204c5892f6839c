/**
 * A gateway that starts on a full outbox: how long until the first PUBACK, how much memory, how fast the backlog leaves while new
 * messages come in, and whether every machine's messages keep their order.
 *
 *     node test/fault/backlog.ts [RECORDS=1000000]
 *
 * The cloud reads and acknowledges as fast as it can. The time to the first PUBACK is from the start of the process, and is measured
 * on an empty outbox as well: the difference is what the backlog costs.
 */
import { randomBytes } from 'node:crypto'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { join } from 'node:path'
import { loadRootKey } from '../../src/consent/root.ts'
import { storageKeys } from '../../src/consent/storage.ts'
import type { MachineId, OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'
import { openOutbox } from '../../src/outlet/outbox.ts'
import { encode } from '../e2e/stage.ts'
import { command } from './command.ts'
import { Packets } from './copies.ts'
import { markerOf, pause, Plant, SPAN, statusOf, Terminal, until } from './plant.ts'

export interface BacklogOptions {
  readonly records: number
  /** New messages a second while the backlog leaves. */
  readonly ingest?: number
  readonly say?: (line: string) => void
  /** Further words for node, e.g. `--cpu-prof`. */
  readonly nodeOptions?: readonly string[]
}

export interface BacklogResult {
  readonly records: number
  readonly databaseMb: number
  readonly firstAckMs: number
  readonly firstAckEmptyMs: number
  /** Processor time of the same: what is left on a machine that others use as well. */
  readonly firstAckCpuMs: number
  readonly firstAckEmptyCpuMs: number
  readonly rssMb: { readonly empty: number; readonly started: number; readonly peak: number; readonly drained: number }
  readonly drainSeconds: number
  readonly drainPerSecond: number
  readonly ingestPerSecond: number
  /** From PUBLISH to PUBACK while the backlog leaves. */
  readonly ingestMs: { readonly median: number; readonly p99: number }
  readonly lost: number
  readonly violations: readonly string[]
}

const MACHINES = 20
export const FIRST_ACK_MS = 2_000
export const DRAIN_PER_SECOND = 5_000

export async function backlog({ records, ingest = 1_000, say, nodeOptions = [] }: BacklogOptions): Promise<BacklogResult> {
  const cloud = await FastCloud.open()
  const port = await freePort()
  const plant = new Plant({ machines: MACHINES, cloud: cloud.url, window: 256, set: [`listen.terminals.port=${port}`] })
  const violations: string[] = []
  const each = Math.floor(records / MACHINES)
  const stored = each * MACHINES
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: 1, window: 64, payload: (nth) => statusOf(n, each + nth) }))
  try {
    // The first start of all makes keys and rows.
    await plant.start({ warm: false })
    await plant.kill('SIGTERM')
    const empty = await firstAck(plant, port, 0)
    const emptyCpu = plant.cpuMs
    const emptyRss = plant.rssKb
    await plant.kill('SIGTERM')
    cloud.clear()
    say?.(`on an empty outbox the first PUBACK came after ${empty.toFixed(0)} ms`)
    const databaseMb = await fill(plant.folder.data, each)
    say?.(`${stored} records stored, ${databaseMb} MB`)

    await cloud.stop()
    const started = await firstAck(plant, port, 1, nodeOptions)
    const startedCpu = plant.cpuMs
    const startedRss = plant.rssKb
    say?.(`with the backlog after ${started.toFixed(0)} ms, at ${Math.round(startedRss / 1_024)} MB`)
    await plant.kill('SIGTERM')

    await cloud.start()
    await plant.start({ warm: false, nodeOptions })
    for (const terminal of terminals) await terminal.connect(port)
    let peak = plant.rssKb
    const began = performance.now()
    let given = 0
    let drained = 0
    let ticks = 0
    while (drained === 0) {
      await pause(10)
      const due = Math.floor(((performance.now() - began) / 1_000) * ingest)
      for (; given < due; given++) terminals[given % MACHINES]!.give(1)
      if (++ticks % 50 === 0) peak = Math.max(peak, plant.rssKb)
      if (cloud.backlogOf(each) >= stored) drained = performance.now()
      if (ticks % 500 === 0) say?.(`${cloud.backlogOf(each)} of the backlog have left, ${terminals.reduce((sum, { acked }) => sum + acked.size, 0)} of ${given} new ones are acknowledged`)
      if (performance.now() - began > DRAIN_LIMIT_MS + records) throw new Error('the backlog does not leave')
    }
    const seconds = (drained - began) / 1_000
    const ackedThen = terminals.reduce((sum, { acked }) => sum + acked.size, 0)
    for (const terminal of terminals) terminal.stop()
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals', 30_000)
    await until(async () => (await plant.waiting()) === 0, 'the outbox to be empty', 30_000)
    const latencies = terminals.flatMap((terminal) => terminal.latencies).sort((one, other) => one - other)
    const lost = stored + terminals.reduce((sum, { acked }) => sum + acked.size, 0) - cloud.distinct
    violations.push(...cloud.faults)
    if (lost !== 0) violations.push(`${lost} records never came`)
    if (started > FIRST_ACK_MS && records >= 1_000_000) violations.push(`the first PUBACK took ${started.toFixed(0)} ms`)
    if (stored / seconds < DRAIN_PER_SECOND && records >= 100_000) violations.push(`only ${Math.round(stored / seconds)} records a second left`)
    return {
      records: stored, databaseMb, firstAckMs: Math.round(started), firstAckEmptyMs: Math.round(empty), firstAckCpuMs: startedCpu, firstAckEmptyCpuMs: emptyCpu,
      rssMb: { empty: Math.round(emptyRss / 1_024), started: Math.round(startedRss / 1_024), peak: Math.round(peak / 1_024), drained: Math.round(plant.rssKb / 1_024) },
      drainSeconds: Math.round(seconds * 10) / 10, drainPerSecond: Math.round(stored / seconds), ingestPerSecond: Math.round(ackedThen / seconds),
      ingestMs: { median: Math.round((latencies[Math.floor(latencies.length / 2)] ?? 0) * 10) / 10, p99: Math.round((latencies[Math.floor(latencies.length * 0.99)] ?? 0) * 10) / 10 },
      lost, violations,
    }
  } finally {
    for (const terminal of terminals) terminal.destroy()
    await plant.remove()
    await cloud.stop()
  }
}

const DRAIN_LIMIT_MS = 60_000

/** Milliseconds from the start of the process to the first PUBACK: a terminal that tries again and again. */
async function firstAck(plant: Plant, port: number, machine: number, nodeOptions: readonly string[] = []): Promise<number> {
  const started = plant.start({ warm: false, nodeOptions })
  const { startedAt } = plant
  // Of a stream that goes nowhere here: no sign-on, no yes, no output. It is acknowledged behind everything else all the same.
  const terminal = new Terminal(machine, { qos: 1, payload: () => encode('status', { machine_id: `M-${machine}` }) })
  terminal.give(1)
  while (terminal.firstAckAt === undefined) {
    // One try after the other, as a terminal does: tries side by side would take the session over from each other.
    if (!terminal.connected) await terminal.connect(port)
    await pause(5)
  }
  const took = terminal.firstAckAt - startedAt
  terminal.destroy()
  await started
  return took
}

/** As many records of every machine, done at the local destination, waiting for the cloud. Returns megabytes. */
async function fill(data: string, each: number): Promise<number> {
  const outbox = openOutbox({ file: join(data, 'outbox.db'), keys: storageKeys(loadRootKey(join(data, 'root.key')), 'demo'), groupRecords: 4_096 })
  outbox.attach({ name: 'local', send: (_record, done) => done(undefined), cut: () => Promise.resolve({ dropped: 0, onTheWire: 0 }), close: () => Promise.resolve() }, { records: 1e6, bytes: 1e9 })
  const now = Date.now()
  for (let nth = 1; nth <= each; nth++) {
    for (let machine = 0; machine < MACHINES; machine++) outbox.accept(recordOf(machine, nth, now))
    if (nth % 500 === 0) await new Promise<void>((done) => outbox.committed(() => done()))
  }
  await new Promise<void>((done) => outbox.committed(() => done()))
  await pause(20)
  const bytes = outbox.bytes
  await outbox.close()
  return Math.round(bytes / 1e6)
}

function recordOf(machine: number, nth: number, now: number): OutboxRecord {
  return {
    id: randomBytes(16), output: 'service' as OutputId, recipient: 'oem-cloud' as RecipientId, stream: 'status' as StreamId, topic: `out/service/machine-${machine}`, qos: 1, retain: false,
    machine: `M-${machine}` as MachineId, holder: undefined, subjects: [], machineOrder: nth, acquiredAtMs: now, receivedAtMs: now, purpose: 'service.operate' as PurposeId, basis: 'contract',
    country: 'FR', consentSeq: [], policy: 'faults', rulesHash: 'a'.repeat(64), plan: 'p', keyId: 'k', storageClass: 'ordinary', expiresAtMs: now + 86_400_000,
    payload: encode('status', { machine_id: 'abcdefghijklmnopqrstuv', time_ms: now, seq: machine * SPAN + nth, soc_pct_x10: 825 }), payloadIfWithdrawn: undefined, categories: 1, via: ['local', 'cloud'],
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise<void>((done) => void server.close(() => done()))
  return port
}

/** An MQTT 5 broker that reads and acknowledges, and looks at nothing but markers. */
class FastCloud {
  readonly faults: string[] = []
  /** Newest message of each machine. */
  #newest = new Map<number, number>()
  distinct = 0
  #server: Server | undefined
  #port = 0
  readonly #sockets = new Set<{ destroy(): unknown }>()

  static async open(): Promise<FastCloud> {
    const cloud = new FastCloud()
    await cloud.start()
    return cloud
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.#port}`
  }

  clear(): void {
    this.#newest = new Map()
    this.distinct = 0
  }

  /** How much of the backlog has come. */
  backlogOf(each: number): number {
    let sum = 0
    for (const newest of this.#newest.values()) sum += Math.min(newest, each)
    return sum
  }

  async start(): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => this.#sockets.delete(socket))
      let answers: Buffer[] = []
      const packets = new Packets((first, body) => {
        const kind = first >> 4
        if (kind === 1) answers.push(CONNACK)
        else if (kind === 12) answers.push(PINGRESP)
        else if (kind === 3) answers.push(this.#publish(body))
      })
      socket.on('data', (piece: Buffer) => {
        packets.push(piece)
        if (answers.length > 0) socket.write(Buffer.concat(answers))
        answers = []
      })
    })
    this.#server = server
    await new Promise<void>((done) => void server.listen(this.#port, '127.0.0.1', done))
    this.#port = (server.address() as AddressInfo).port
  }

  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    const closed = new Promise<void>((done) => void (server === undefined ? done() : server.close(() => done())))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #publish(body: Buffer): Buffer {
    let at = 2 + body.readUInt16BE(0)
    const id = body.subarray(at, at + 2)
    at += 2
    let length = 0
    for (let shift = 0; ; shift += 7) {
      const byte = body[at++]!
      length |= (byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    const marker = markerOf(body.subarray(at + length))
    // Without a number: the message that asked for the first PUBACK.
    if (marker > 0) {
      const machine = Math.floor(marker / SPAN)
      const nth = marker - machine * SPAN
      const newest = this.#newest.get(machine) ?? 0
      if (nth === newest + 1) {
        this.#newest.set(machine, nth)
        this.distinct++
      } else if (nth > newest && this.faults.length < 10) {
        this.faults.push(`of machine ${machine} message ${nth} came after ${newest}`)
      }
    }
    return Buffer.concat([PUBACK, id])
  }
}

const CONNACK = Buffer.from([0x20, 3, 0, 0, 0])
const PINGRESP = Buffer.from([0xd0, 0])
const PUBACK = Buffer.from([0x40, 2])

if (import.meta.main) {
  const [records = '1000000', ...nodeOptions] = process.argv.slice(2)
  await command('backlog', 0, (say) => backlog({ records: Number(records), say, nodeOptions }))
}
