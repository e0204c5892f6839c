/**
 * `parapet simulate`: a fleet of terminals that publish a believable shift to a running gateway.
 */
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { columns, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import type { TerminalCounts, Terminals } from './simulate/terminals.ts'

export const command: Command = {
  name: 'simulate',
  summary: 'terminals that publish a believable shift to a gateway',
  usage: ['[--machines N] [--seconds S] [--rate R | --speed X] [--seed N] [--data DIR] [--url URL] [--config FILE]'],
  options: [
    { name: 'machines', arg: 'N', text: 'how many machines of the registry take part; default all that are admitted by name' },
    { name: 'seconds', arg: 'S', text: 'stop after so long; default: at Ctrl-C, or with --speed when eight hours of shift are over' },
    { name: 'rate', arg: 'R', text: 'about so many messages a second over all terminals, by reporting more or less often; default three per machine at work' },
    { name: 'speed', arg: 'X', text: 'run the shift X times as fast; it then begins in the past, so that no message is dated in the future' },
    { name: 'seed', arg: 'N', text: 'another seed is another shift, the same seed the same; default 1' },
    { name: 'data', arg: 'DIR', text: 'replay recorded battery, speed, paths and CAN frames from this folder' },
    { name: 'url', arg: 'URL', text: 'the terminals\' listener, for example mqtt://127.0.0.1:1883; default the one in the gateway file' },
    { name: 'config', arg: 'FILE', text: 'gateway file whose machines and operators take part, default config/gateway.yaml' },
  ],
  notes: 'Log-ins, platform height, tilt, load, faults and safety events are generated, also with --data: no public recording has them.\n'
    + 'People change machines every 20 minutes of shift. Machines whose terminal has a password or certificate do not take part.',
  async run(args, io) {
    const plan = planOf(args)
    const [{ readRoster }, { createShift }, { NOTHING_RECORDED, readRecordings }, { connectTerminals }, { loadSchemas }] = await Promise.all([
      import('./simulate/roster.ts'), import('./simulate/shift.ts'), import('./simulate/recordings.ts'), import('./simulate/terminals.ts'), import('../minimise/descriptor.ts'),
    ])
    const roster = readRoster(io.cwd, args.get('config'), Date.now())
    const count = plan.machines ?? roster.machines.length
    if (count > roster.machines.length) {
      throw new UsageError(`The registry admits ${roster.machines.length} machines by name, not ${count}. Add some with: parapet machines add ID --fleet demo --no-credential`)
    }
    const machines = roster.machines.slice(0, count)
    const tickMs = plan.rate === undefined ? 1000 : Math.max(TICK_MIN_MS, (count * MESSAGES_PER_TICK * 1000) / plan.rate)
    const data = args.get('data')
    const recordings = data === undefined ? NOTHING_RECORDED : readRecordings(resolve(io.cwd, data), plan.startMs)
    const { host, port, tls } = roster.gateway.listen.terminals
    const url = plan.url ?? `mqtt${tls === undefined ? '' : 's'}://${host.includes(':') ? `[${host}]` : host}:${port}`
    const terminals = await connectTerminals({ url, machines: machines.map(({ id }) => id), schemas: loadSchemas([PROTO]) })
    const shift = createShift({ machines, cards: roster.cards, seed: plan.seed, startMs: plan.startMs, tickMs, recordings })

    const say = (line: string): boolean => io.stdout.write(`${line}\n`)
    say(`${terminals.connected} of ${count} terminals are connected to ${url}; seed ${plan.seed}${plan.speed === 1 ? '' : `, ${plan.speed} times as fast`}. Ctrl-C ends the shift.`)
    if (roster.locked > 0) say(`${roster.locked} more machines have a password or certificate and stay at home.`)
    for (const [reason, many] of terminals.refused) say(`${many} terminals were turned away: ${reason}.`)
    for (const note of recordings.notes) say(note)
    say('Operator log-ins and the platform channels (height, tilt, load) are generated, and so are faults and safety events.')

    const began = performance.now()
    const elapsedMs = (): number => performance.now() - began
    // A terminal whose clock runs ahead is one that nobody believes: a fast shift catches up with the clock and never overtakes it.
    const shiftMs = (): number => Math.min(plan.startMs + elapsedMs() * plan.speed, Date.now())
    const progress = progressOf(io, terminals)
    try {
      await until(plan.seconds, () => {
        for (const message of shift.advance(shiftMs())) terminals.publish(message)
        progress.show(elapsedMs() / 1000)
      })
      for (const message of shift.end(shiftMs())) terminals.publish(message)
    } finally {
      await terminals.close()
      progress.end()
    }
    say(summary(terminals, elapsedMs() / 1000).join('\n'))
    return terminals.counts.dropped === 0 && terminals.counts.acked === terminals.counts.asked && terminals.waiting === 0 ? 0 : 1
  },
}

const PROTO = fileURLToPath(new URL('../../proto', import.meta.url))
const TURN_MS = 50
/** Status, signals and bus frames; the rest is rare. */
const MESSAGES_PER_TICK = 3
const TICK_MIN_MS = 5
const SHIFT_S = 8 * 3600
const SPEED_MAX = 600

interface Plan {
  /** Undefined = where the gateway file lets terminals in. */
  readonly url: string | undefined
  readonly machines: number | undefined
  readonly seconds: number | undefined
  readonly rate: number | undefined
  readonly speed: number
  readonly seed: number
  readonly startMs: number
}

function planOf(args: Args): Plan {
  const url = args.get('url')
  if (url !== undefined && (!URL.canParse(url) || !/^mqtts?:$/.test(new URL(url).protocol))) throw new UsageError('--url is an address such as mqtt://127.0.0.1:1883.')
  if (args.has('rate') && args.has('speed')) throw new UsageError('Give --rate or --speed, not both: the one changes how often machines report, the other how fast their day goes by.')
  const speed = numberOf(args, 'speed', 1, SPEED_MAX) ?? 1
  const seconds = numberOf(args, 'seconds', 0.1, 31 * 86_400) ?? (speed > 1 ? SHIFT_S / speed : undefined)
  return {
    url, speed, seconds, rate: numberOf(args, 'rate', 0.1, 100_000), machines: wholeOf(args, 'machines', 1), seed: wholeOf(args, 'seed', 0) ?? 1,
    startMs: Date.now() - Math.round((speed - 1) * (seconds ?? 0) * 1000),
  }
}

function numberOf(args: Args, name: string, low: number, high: number): number | undefined {
  const given = args.get(name)
  if (given === undefined) return undefined
  const value = Number(given)
  if (given.trim() === '' || !(value >= low && value <= high)) throw new UsageError(`--${name} is a number from ${low} to ${high}.`)
  return value
}

function wholeOf(args: Args, name: string, low: number): number | undefined {
  const value = numberOf(args, name, low, 1_000_000)
  if (value !== undefined && !Number.isInteger(value)) throw new UsageError(`--${name} is a whole number.`)
  return value
}

/** Takes turns until the time is over or the process is asked to stop. */
async function until(seconds: number | undefined, turn: () => void): Promise<void> {
  const end = performance.now() + (seconds ?? Number.POSITIVE_INFINITY) * 1000
  const stopping = new AbortController()
  const stop = (): void => stopping.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  try {
    while (!stopping.signal.aborted && performance.now() < end) {
      turn()
      await new Promise((resolve) => setTimeout(resolve, TURN_MS))
    }
  } finally {
    process.removeListener('SIGINT', stop)
    process.removeListener('SIGTERM', stop)
  }
}

/** One line that changes in place on a terminal; elsewhere a line every ten seconds. */
function progressOf(io: Io, terminals: Terminals): { show(seconds: number): void; end(): void } {
  const live = io.stdout.isTTY === true
  const everyS = live ? 0.5 : 10
  let shownS = 0
  let sent = 0
  let written = false
  return {
    show(seconds) {
      if (seconds - shownS < everyS) return
      const { counts, connected, waiting } = terminals
      const line = `${seconds.toFixed(0).padStart(5)} s   sent ${counts.sent}   acknowledged ${counts.acked} of ${counts.asked}   ${Math.round((counts.sent - sent) / (seconds - shownS))}/s   ${connected} connected`
        + `${waiting > 0 ? `   ${waiting} waiting` : ''}${counts.dropped > 0 ? `   ${counts.dropped} dropped` : ''}`
      io.stdout.write(live ? `\r${line.slice(0, Math.max(20, (io.stdout.columns ?? 80) - 1))}\u001B[K` : `${line}\n`)
      shownS = seconds
      sent = counts.sent
      written = live
    },
    end() {
      if (written) io.stdout.write('\n')
    },
  }
}

function summary({ counts, waiting }: Terminals, seconds: number): string[] {
  const rows = [...counts.streams].toSorted(([, one], [, other]) => other.messages - one.messages)
  return [
    '',
    `${counts.sent} messages (${kilo(counts.bytes)}) in ${seconds.toFixed(1)} s, ${Math.round(counts.sent / Math.max(0.001, seconds))} a second.`,
    `${counts.acked} of ${counts.asked} messages of QoS 1 and 2 were acknowledged${unsettled(counts, waiting)}.`,
    ...columns([['stream', 'messages', 'bytes'], ...rows.map(([stream, one]) => [stream, String(one.messages), kilo(one.bytes)])]),
  ]
}

function unsettled(counts: Readonly<TerminalCounts>, waiting: number): string {
  return `${waiting > 0 ? `; ${waiting} never left their terminal` : ''}${counts.dropped > 0 ? `; ${counts.dropped} were dropped at the bound of a terminal's store` : ''}`
}

function kilo(bytes: number): string {
  return bytes < 10_000 ? `${bytes} B` : `${Math.round(bytes / 1000)} kB`
}
