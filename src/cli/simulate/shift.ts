/**
 * A shift of a whole fleet: who works where and when, hand-overs, breaks, charging, now and then a fault or a safety event.
 * Deterministic: fleet, seed and start give the same messages, however often and in whatever steps the time is moved on.
 */
import { createMachine } from './machine.ts'
import type { MachineSpec, Message, SafetyName, SimulatedMachine } from './machine.ts'
import { chance } from './random.ts'
import type { Chance } from './random.ts'
import { NOTHING_RECORDED } from './recordings.ts'
import type { Recordings } from './recordings.ts'
import { crewsOf } from './roster.ts'
import type { Card } from './roster.ts'

export interface ShiftOptions {
  readonly machines: readonly MachineSpec[]
  readonly cards: readonly Card[]
  readonly seed: number
  readonly startMs: number
  /** Time between two reports of a machine; default a second. */
  readonly tickMs?: number
  /** After so long the people change over; default 20 minutes. */
  readonly roundMs?: number
  readonly recordings?: Recordings
}

export interface Shift {
  readonly machines: readonly SimulatedMachine[]
  /** Everything the fleet sends up to a time, in the order in which it is sent. */
  advance(toMs: number): Message[]
  /** Everybody signs off. */
  end(atMs: number): Message[]
}

const ROUND_MS = 20 * 60_000
/** Average time between two faults, and between two safety events, of a machine at work. */
const FAULT_S = 600
const SAFETY_S = 420
/** A machine is due on the charger below this. */
const LOW_PCT = 22
/** Parts of a round in which people leave and arrive; in between nobody is on any machine, so nobody is on two. */
const BREAK_MS = 60_000

export function createShift(options: ShiftOptions): Shift {
  const { machines: specs, cards, seed, startMs, tickMs = 1000, roundMs = ROUND_MS, recordings = NOTHING_RECORDED } = options
  const crews = crewsOf(specs, cards)
  const stations = specs.map((spec, place): Station => {
    const random = chance(`${seed}/${spec.id}`)
    const crew = crews.find((one) => one.machines.includes(place))!
    const line = crew.machines.indexOf(place)
    return {
      machine: createMachine(spec, chance(`${seed}/${spec.id}/machine`), { drive: recordings.drive(place), bus: recordings.bus(place), path: recordings.path(place) }),
      random, offsetMs: Math.floor(random.next() * tickMs), plan: [], round: -1,
      cardOf: (round) => crew.cards[(line + round) % crew.cards.length],
      // Every fourth machine begins the day on the charger.
      charges: place % 4 === 3,
    }
  })
  const order = stations.toSorted((one, other) => one.offsetMs - other.offsetMs)
  let ticks = 0

  return {
    machines: stations.map(({ machine }) => machine),
    advance(toMs) {
      const made: Message[] = []
      for (;;) {
        const base = startMs + ticks * tickMs
        if (base + tickMs > toMs) return made
        for (const station of order) made.push(...work(station, Math.round(base + station.offsetMs)))
        ticks += 1
      }
    },
    end: (atMs) => order.flatMap(({ machine }) => machine.signOff(Math.round(atMs))),
  }

  function work(station: Station, atMs: number): Message[] {
    const { machine, random, plan } = station
    const round = Math.floor((atMs - startMs) / roundMs)
    const made: Message[] = []
    if (station.round < 0) made.push(...machine.connect(atMs))
    if (round !== station.round) {
      station.round = round
      plan.push(...planOf(station, round, startMs + round * roundMs, atMs))
    }
    while (plan.length > 0 && plan[0]!.atMs <= atMs) made.push(...plan.shift()!.act(atMs))
    if (machine.person !== undefined) {
      const seconds = tickMs / 1000
      if (random.happens(seconds / FAULT_S)) made.push(...machine.fault(atMs))
      if (random.happens(seconds / SAFETY_S)) made.push(...machine.raise(random.pick<SafetyName>(['tilt', 'tilt', 'overload', 'overload', 'estop', 'impact']), atMs))
    }
    made.push(...machine.tick(atMs))
    return made
  }

  /** Sign-on, check and sign-off of a round, or a round on the charger. */
  function planOf({ machine, random, cardOf, charges }: Station, round: number, roundStartMs: number, nowMs: number): Deed[] {
    const card = cardOf(round)
    const pause = Math.min(BREAK_MS, roundMs / 6)
    const endMs = roundStartMs + roundMs - pause / 2 - random.between(0, pause / 2)
    if (machine.soc < LOW_PCT || (charges && round === 0)) {
      return [{ atMs: nowMs, act: (atMs) => machine.plug(atMs) }, { atMs: endMs, act: (atMs) => machine.unplug(atMs) }]
    }
    if (card === undefined) return []
    // In the first round people come within seconds: whoever starts a simulation wants to see something.
    const onMs = roundStartMs + (round === 0 ? random.between(500, 4_000) : random.between(pause / 4, pause / 2))
    const deeds: Deed[] = [
      { atMs: onMs, act: (atMs) => machine.signOn(card, atMs) },
      { atMs: onMs + (round === 0 ? random.between(2_000, 4_000) : random.between(4_000, 12_000)), act: (atMs) => machine.check(atMs) },
      { atMs: endMs, act: (atMs) => machine.signOff(atMs) },
    ]
    if (card.kind === 'unknown' || random.happens(0.1)) deeds.unshift({ atMs: onMs - 2_000, act: (atMs) => machine.failSignOn(`X-${1000 + random.whole(0, 8999)}`, atMs) })
    return deeds
  }
}

interface Station {
  readonly machine: SimulatedMachine
  readonly random: Chance
  readonly offsetMs: number
  readonly plan: Deed[]
  round: number
  readonly cardOf: (round: number) => Card | undefined
  readonly charges: boolean
}

interface Deed {
  readonly atMs: number
  readonly act: (atMs: number) => Message[]
}
