/**
 * The whole gateway beside what one would otherwise run, over real sockets: plain aedes that relays the same bytes, aedes with
 * protobufjs decode-edit-encode in authorizePublish, written well (baseline.ts), Mosquitto when it is installed, and `parapet serve`
 * with the person signed on and their yes given, durable outbox at QoS 1 and 2. Every broker is a process of its own on one processor,
 * this process drives them from another (load.ts). What counts is what arrived, messages a second; all take turns in short rounds, and
 * ratios are taken within a round.
 *
 * The relays hold what they relay in memory only and acknowledge before it is relayed; the gateway acknowledges after it is on the disk.
 * PARAPET_BENCH_PROFILE=FOLDER writes CPU profiles of it, which slows it. PARAPET_MOSQUITTO names a Mosquitto that is not in PATH.
 */
import { fieldNumbers } from '../test/e2e/stage.ts'
import { KINDS, mosquittoFile, mosquittoVersion, startBroker, type Job, type Kind } from './brokers.ts'
import { figure, median, rounded } from './figures.ts'
import { Lane, type Figure } from './load.ts'
import { apart, filesAllowed } from './machine.ts'
import type { BenchOptions } from './options.ts'
import type { Row, Sheet } from './sheet.ts'

interface Scenario {
  readonly name: string
  readonly job: Job
  readonly kinds: readonly Kind[]
  /** Is in the short form. */
  readonly short?: boolean
}

const BASE: Job = { qos: 1, terminals: 8, outputs: 1, yes: 1, tls: false }
const TWO = ['aedes', 'parapet'] as const

const SCENARIOS: readonly Scenario[] = [
  { name: 'QoS 1', job: BASE, kinds: KINDS, short: true },
  { name: 'QoS 0', job: { ...BASE, qos: 0 }, kinds: KINDS, short: true },
  { name: 'QoS 2', job: { ...BASE, qos: 2 }, kinds: KINDS },
  { name: 'QoS 1 in, QoS 0 out', job: { ...BASE, outputQos: 0 }, kinds: TWO },
  { name: '3 outputs', job: { ...BASE, outputs: 3 }, kinds: ['aedes', 'aedes + protobufjs', 'parapet'] },
  { name: '10 outputs', job: { ...BASE, outputs: 10 }, kinds: ['aedes', 'aedes + protobufjs', 'parapet'] },
  { name: 'half of the people said yes', job: { ...BASE, yes: 0.5 }, kinds: TWO },
  { name: 'nobody said yes', job: { ...BASE, yes: 0 }, kinds: TWO },
  { name: '1 terminal', job: { ...BASE, terminals: 1 }, kinds: TWO },
  { name: '100 terminals', job: { ...BASE, terminals: 100 }, kinds: TWO },
  { name: '1000 terminals', job: { ...BASE, terminals: 1_000 }, kinds: TWO },
  { name: '5000 terminals', job: { ...BASE, terminals: 5_000 }, kinds: TWO },
  { name: 'TLS 1.3', job: { ...BASE, tls: true }, kinds: ['aedes', 'mosquitto', 'parapet'] },
]

/** Rounds of the first two, whose figures are promised, and of the others. */
const ROUNDS = { promised: 7, others: 5, short: 3 } as const
const SHORT_ROUND_MS = 250
/** Long enough for the engine to have compiled what is called; rounds of the long form go on warming up before theirs. */
const WARM_UP_MS = 1_500
/** Open files beside the terminals of one lane: this process holds those of all. */
const SPARE_FILES = 200

export async function run({ sheet, timeMs, isShort, only }: BenchOptions): Promise<void> {
  sheet.head(`gateway: ${BASE.terminals} terminals, one subscriber for each output, brokers on one processor and the generator on another; medians of rounds by turns`)
  if (mosquittoFile() === undefined) sheet.head('  Mosquitto is not installed and stays out: apt-get install mosquitto, or name it in PARAPET_MOSQUITTO.')
  for (const [at, { name, job, kinds, short }] of SCENARIOS.entries()) {
    if ((isShort && short !== true && only === undefined) || (only !== undefined && !`${name}:`.includes(only))) continue
    if (filesAllowed() < job.terminals * kinds.length + SPARE_FILES) {
      sheet.head(`  ${name}: this process may open ${filesAllowed()} files only, see ulimit -n`)
      continue
    }
    const rounds = isShort ? ROUNDS.short : at < 2 ? ROUNDS.promised : ROUNDS.others
    const sides = kinds.filter((kind) => kind !== 'mosquitto' || mosquittoFile() !== undefined)
    await measure(name, job, sides, rounds, isShort ? SHORT_ROUND_MS : timeMs * 1.2, sheet)
  }
}

async function measure(name: string, job: Job, kinds: readonly Kind[], rounds: number, roundMs: number, sheet: Sheet): Promise<void> {
  const started = await Promise.allSettled(kinds.map((kind) => startBroker(kind, job)))
  const brokers = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const lanes: Lane[] = []
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason
    const figures = await apart(brokers, async () => {
      for (const broker of brokers) lanes.push(await Lane.open(broker, job))
      for (const lane of lanes) await lane.warm(Math.max(WARM_UP_MS, roundMs * 1.5))
      if (job.yes === 1) checkContent(kinds, lanes)
      return turns(lanes, rounds, roundMs)
    })
    for (const [at, kind] of kinds.entries()) {
      const row = rowOf(name, kind, job, figures, at)
      sheet.row(row, textOf(row))
    }
  } finally {
    for (const lane of lanes) lane.close()
    for (const broker of brokers) await broker.stop()
  }
}

/** The order turns as well, so that nobody always comes after the same one. */
async function turns(lanes: readonly Lane[], rounds: number, roundMs: number): Promise<Figure[][]> {
  const figures: Figure[][] = []
  for (let round = 0; round < rounds; round++) {
    const turn: Figure[] = []
    for (let n = 0; n < lanes.length; n++) {
      const at = (n + round) % lanes.length
      turn[at] = await lanes[at]!.round(roundMs)
    }
    figures.push(turn)
  }
  return figures
}

/**
 * `broker_cpu_us` is processor time of the broker per message, and `vs_aedes_by_cpu` the ratio that it gives: steadier where others load
 * the machine, and blind to waiting for the disk. `generator_cpu` near 1 means that it is the generator that was measured.
 */
function rowOf(name: string, kind: Kind, { qos, outputQos = qos }: Job, figures: readonly (readonly Figure[])[], at: number): Row {
  const own = figures.map((turn) => turn[at]!)
  return {
    bench: 'gateway', case: `${name}: ${kind}${kind === 'parapet' && outputQos > 0 ? ', durable' : kind === 'mosquitto' ? ` ${mosquittoVersion()}` : ''}`,
    ...figure('per_second', own.map(({ perSecond }) => perSecond), 0),
    ...figure('vs_aedes', figures.map((turn) => turn[at]!.perSecond / turn[0]!.perSecond)),
    ...figure('broker_cpu_us', own.map(({ cpuUs }) => cpuUs)),
    vs_aedes_by_cpu: rounded(median(figures.map((turn) => turn[0]!.cpuUs / turn[at]!.cpuUs))),
    generator_cpu: rounded(median(own.map(({ generator }) => generator))), lost: own.reduce((sum, { lost }) => sum + lost, 0),
  }
}

function textOf(row: Row): string {
  return `${row.case.padEnd(52)} ${Number(row['per_second']).toLocaleString('en').padStart(9)} /s  ${Number(row['vs_aedes']).toFixed(2)}x aedes (${Number(row['vs_aedes_min']).toFixed(2)} to ${Number(row['vs_aedes_max']).toFixed(2)})  `
    + `${String(row['broker_cpu_us']).padStart(6)} us of the broker (${Number(row['vs_aedes_by_cpu']).toFixed(2)}x)  generator ${Number(row['generator_cpu']).toFixed(2)}  lost ${row['lost']}`
}

/** What arrives is what it should be: plain bytes from a relay, and from the others the same fields. */
function checkContent(kinds: readonly Kind[], lanes: readonly Lane[]): void {
  const fields = (kind: Kind): string | undefined => {
    const lane = lanes[kinds.indexOf(kind)]
    return lane === undefined ? undefined : fieldNumbers(lane.newest).sort((one, other) => one - other).join()
  }
  const [plain, edited, minimised] = [fields('aedes'), fields('aedes + protobufjs'), fields('parapet')]
  if (edited !== undefined && edited !== minimised) throw new Error(`the gateway lets out the fields ${minimised}, the hand-written broker ${edited}`)
  if (plain === minimised) throw new Error('nothing was taken out')
}
