/**
 * The consent decision with the look-up of who is signed on, as the hot path asks for it: for 1,000 to 1,000,000 known operators, of
 * whom 1,000 are signed on at as many machines, spread over the whole table; then for few and many purposes, outputs and streams.
 * None of these may matter. What does is how many machines are asked for in random order, when what is known of them does not fit
 * the processor's cache any more: the last rows show it, up to the bounds of connections and of sessions.
 *
 * The ledger is a stand-in that gives everybody's yes at the start: a decision asks the real one only whether it is healthy.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Bench } from 'tinybench'
import type { SqliteLedger } from '../src/consent/ledger.ts'
import { SessionTracks } from '../src/consent/sessions.ts'
import { ConsentTable } from '../src/consent/state.ts'
import { nobody } from '../src/domain/consent.ts'
import type { MachineId, OperatorId, PurposeId, StreamId } from '../src/domain/ids.ts'
import { LIMITS } from '../src/domain/limits.ts'
import type { Output, Policy, Stream } from '../src/domain/policy.ts'
import type { Clock, Identity, Machine, StoredEvent } from '../src/domain/ports.ts'
import { median } from './figures.ts'
import type { BenchOptions } from './options.ts'
import type { Row } from './sheet.ts'

const OPERATORS = [1_000, 10_000, 100_000, 1_000_000] as const
const NOW_MS = 1_763_888_864_000
const CLOCK: Clock = { now: () => NOW_MS, monotonic: () => performance.now() }
/** Decisions a sample: the clock itself costs tens of nanoseconds. */
const CALLS = 1_000
const ROUNDS = 5
/** Bytes of a row in the decision table. */
const ROW_BYTES = 64

interface Size {
  readonly operators: number
  readonly machines: number
  readonly purposes: number
  readonly outputs: number
  readonly streams: number
}

const ORDINARY = { machines: 1_000, purposes: 8, outputs: 8, streams: 16 } as const
const SIZES: readonly Size[] = [
  ...OPERATORS.map((operators) => ({ operators, ...ORDINARY })),
  { ...ORDINARY, operators: 1_000_000, purposes: 1, outputs: 1, streams: 1 },
  { ...ORDINARY, operators: 1_000_000, purposes: LIMITS.purposes, outputs: LIMITS.outputs, streams: LIMITS.streams },
  { ...ORDINARY, operators: 1_000_000, machines: LIMITS.connections },
  { ...ORDINARY, operators: 1_000_000, machines: LIMITS.sessionMachines },
]

export async function run({ sheet, timeMs, isShort }: BenchOptions): Promise<void> {
  sheet.head('consent decision with session look-up')
  const points: (readonly [number, number])[] = []
  for (const [at, size] of SIZES.entries()) {
    // Short: a few and many operators, no more.
    if (isShort && at !== 0 && at !== OPERATORS.length - 1) continue
    const row = await measure(size, timeMs)
    sheet.row(row, `${row.case.padEnd(84)} ${String(row.ns).padStart(7)} ns  ${String(row.bytes_per_operator).padStart(5)} B an operator, ${ROW_BYTES} of them the row`)
    if (at < OPERATORS.length) points.push([size.operators, row.ns])
  }
  sheet.curve({ name: 'Consent decision', x: 'operators', y: 'ns a decision', log: 'x', expected: 'flat', lines: [{ name: 'decide', points }] })
}

async function measure(size: Size, timeMs: number): Promise<Row & { readonly ns: number; readonly bytes_per_operator: number }> {
  const { operators, purposes, outputs, streams } = size
  const before = memory()
  const states = new ConsentTable({ ledger: ledgerOf(operators), clock: CLOCK, knows: () => true })
  const perOperator = (memory() - before) / operators
  const rules = policyOf(size)
  states.usePolicy(rules)
  const sessions = new SessionTracks({ ledger: ledgerOf(0), states, clock: CLOCK })
  const machines = signedOn(sessions, size)
  const asked = shuffled(machines)
  const into = nobody()
  let at = 0
  let yes = 0
  const rounds: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const bench = new Bench({ time: timeMs / ROUNDS, warmup: round === 0, warmupTime: timeMs / 3 })
    bench.add('decide', () => {
      for (let i = 0; i < CALLS; i++) {
        sessions.decide(asked[at]!, NOW_MS, NOW_MS, into)
        yes += into.yes & 1
        if (++at === asked.length) at = 0
      }
    })
    await bench.run()
    const { result } = bench.tasks[0]!
    if (result.state !== 'completed' || yes === 0) throw new Error('nothing was decided')
    rounds.push(Math.round((result.latency.p50 * 1e6 * 10) / CALLS) / 10)
  }
  return {
    bench: 'decide', case: `${operators} operators, ${machines.length} machines, ${purposes} purposes, ${outputs} outputs, ${streams} streams`,
    ns: median(rounds), ns_min: Math.min(...rounds), ns_max: Math.max(...rounds), operators, machines: machines.length, row_bytes: ROW_BYTES, bytes_per_operator: Math.round(perOperator),
  }
}

/** As much of a ledger as the table and the sessions ask for. Everybody says yes to the first purpose. */
function ledgerOf(operators: number): SqliteLedger {
  let seq = operators
  const ledger: Pick<SqliteLedger, 'healthy' | 'events' | 'append' | 'enqueue' | 'flush'> = {
    healthy: true,
    *events(filter): Generator<StoredEvent> {
      if (filter?.subject !== undefined) return
      for (let n = 1; n <= operators; n++) {
        yield {
          seq: n, uuid: '', type: 'consent.granted', schema: 1, gateway: 'bench', day: '2025-11-23',
          body: { at: NOW_MS - 1_000, operator: `op-${n}`, purpose: 'p-0', source: 'portal' },
        }
      }
    },
    append: () => ++seq,
    enqueue: () => ++seq,
    flush: () => undefined,
  }
  return ledger as SqliteLedger
}

/** Machines with somebody signed on, spread over all operators. */
function signedOn(sessions: SessionTracks, { operators, machines: count }: Size): Machine[] {
  return Array.from({ length: count }, (_, n) => {
    const machine: Machine = { id: `SN-${n}` as MachineId, fleet: 'bench' as Machine['fleet'], model: 'boom', labels: {}, country: 'FR', operatorCollection: 'on', holder: undefined, credential: undefined, certificate: undefined }
    const identity: Identity = { operator: `op-${1 + Math.floor((n * operators) / count)}` as OperatorId, kind: 'personal', country: 'FR', validFromMs: 0, validToMs: Infinity }
    sessions.signOn(machine, identity, NOW_MS - 500, NOW_MS - 500)
    return machine
  })
}

function policyOf({ purposes, outputs, streams }: Size): Policy {
  const names = Array.from({ length: purposes }, (_, index) => ({ id: `p-${index}` as PurposeId, index, about: '', clause: undefined, dpv: undefined }))
  return {
    id: 'bench', effective: undefined, notice: undefined, tests: [], recipients: [], basis: { entries: new Map(), groups: new Map() }, hash: `${purposes}/${outputs}/${streams}`,
    subject: { sessions: undefined, sessionMaxMs: 43_200_000, quarantineMs: 120_000, lateLimitMs: 604_800_000 },
    purposes: names,
    streams: Array.from({ length: streams }, (_, index) => ({ id: `s-${index}` as StreamId, index }) as Stream),
    outputs: Array.from({ length: outputs }, (_, index) => ({ id: `o-${index}`, index, purpose: names[index % purposes]!, recipient: { id: `r-${index}`, role: 'processor', region: 'EU' }, streams: [] }) as unknown as Output),
  }
}

/** The same order each time. [Knuth, TAOCP 3.4.2 P] */
function shuffled<One>(list: readonly One[]): One[] {
  const order = [...list]
  let state = 1
  for (let i = order.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const j = Math.floor((state / 4_294_967_296) * (i + 1))
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Bytes in use on the heap and in arrays beside it. */
function memory(): number {
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
