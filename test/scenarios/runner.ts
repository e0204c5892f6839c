/** Plays a scenario line by line and says what was expected and what left. */
import type { ConsentChange } from '../../src/domain/ports.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import type { OperatorId, PurposeId } from '../../src/domain/ids.ts'
import { clockAt, type TestClock } from '../consent/fixture.ts'
import { decode, encode } from '../e2e/stage.ts'
import { Bench, OUTPUTS, Station, type Depot, type MachineLine, type PersonLine, type Sent } from './depot.ts'
import { cardOf, MACHINES, PEOPLE, readStory, type Act, type Expected, type Line, type Person } from './story.ts'

/** What one line was to bring and what it brought, as text. */
export interface Outcome {
  readonly line: string
  readonly expected: readonly string[]
  /** Of the real thing under '', of deliberately wrong ones under their names. */
  readonly got: ReadonlyMap<string, readonly string[]>
}

/**
 * Plays a story: in a whole gateway where it is asked for, where messages wait, the terminal itself takes part in consent or the ledger
 * is damaged; else between the books.
 * With PARAPET_SCENARIOS=whole everything that can be is played in a whole gateway.
 */
export async function play(text: string, isWhole = false): Promise<readonly Outcome[]> {
  const { lines } = readStory(text)
  const acts = new Set(lines.map(({ act }) => act.do))
  const whole = isWhole || acts.has('away') || acts.has('choose') || acts.has('damage') || (process.env['PARAPET_SCENARIOS'] === 'whole' && !acts.has('erase'))
  // Only the time of day is the story's; connections live in real time.
  const clock: TestClock = { ...clockAt((lines[0] as Line).atMs), monotonic: () => performance.now() }
  const depot: Depot = whole ? new Station(clock) : Bench.open(clock)
  try {
    return await new Play(depot, clock).through(lines)
  } finally {
    await depot.close()
  }
}

/** Where every machine stands, and what becomes of it under each grid: the arithmetic of the rules' page, done by hand. */
const HERE = { lat_e7: 457_640_430, lon_e7: 48_356_590 }
const CELLS: Readonly<Record<number, string>> = {
  // 45.764043 degrees are 5,094,453.27 m: cell 50,944 of 100 m, whose middle is 5,094,450 m / 111,320 = 45.76401 degrees.
  457_640_100: '100 m cell',
  457_622_200: '500 m cell',
  457_644_600: '1 km cell',
  457_689_500: '10 km cell',
  457_640_430: 'exact position',
}

class Play {
  readonly #depot: Depot
  readonly #clock: TestClock
  #machines: MachineLine[] = Object.entries(MACHINES).map(([id, country]) => ({ id, country, collection: 'on' }))
  #people: PersonLine[] = [
    ...Object.entries(PEOPLE).map(([who, country]): PersonLine => ({ id: idOf(who as Person), kind: 'personal', country, cards: [cardOf(who)] })),
    { id: 'op-depot', kind: 'shared', country: undefined, cards: [cardOf('the depot code')] },
    { id: 'op-service', kind: 'service', country: undefined, cards: [cardOf('the technician')] },
  ]
  /** Output and kind -> pseudonym as sent -> letter. */
  readonly #letters = new Map<string, Map<string, string>>()

  constructor(depot: Depot, clock: TestClock) {
    this.#depot = depot
    this.#clock = clock
  }

  async through(lines: readonly Line[]): Promise<readonly Outcome[]> {
    const outcomes: Outcome[] = []
    await this.#depot.register(this.#machines, this.#people)
    for (const { act, atMs, expect, text } of lines) {
      this.#clock.ms = atMs
      const isRefused = await within(text, this.#happen(act, atMs))
      const sent = await within(`after: ${text}`, this.#depot.taken())
      if (act.do === 'say' && (isRefused || expect === 'refused')) {
        outcomes.push({ line: text, expected: [expect === 'refused' ? 'not accepted' : 'accepted'], got: new Map([['', [isRefused ? 'not accepted' : 'accepted']]]) })
      }
      if (expect === undefined || expect === 'refused') continue
      const got = new Map([...sent].map(([name, list]) => [name, this.#describe(name, list, expect).sort(byOutput)]))
      outcomes.push({ line: text, expected: expect.flatMap(linesOf).sort(byOutput), got })
    }
    return outcomes
  }

  /** True when the gateway refused. */
  async #happen(act: Act, atMs: number): Promise<boolean> {
    const depot = this.#depot
    switch (act.do) {
      case 'sign': {
        await depot.publish(act.machine, 'operator', encode('operator', { machine_id: act.machine, ...(act.isTimeless ? {} : { time_ms: act.datedMs ?? atMs }), op: act.op, operator_id: act.card }))
        return false
      }
      case 'send': {
        await depot.publish(act.machine, STREAMS[act.what], encode(STREAMS[act.what], { ...common(act, atMs), ...body(act) }))
        return false
      }
      case 'choose': {
        await depot.publish(act.machine, 'consent', encode('consent', { machine_id: act.machine, time_ms: atMs, operator_id: act.card, purpose: act.purpose, choice: act.choice, policy_id: 'depot-2026', language: 'en' }))
        return false
      }
      case 'say': {
        try {
          await depot.change(this.#changeOf(act))
          return false
        } catch (error) {
          if (error instanceof GatewayError) return true
          throw error
        }
      }
      case 'notice': return await depot.notice(idOf(act.person)), false
      case 'setting': return await this.#alter(act.machine, { collection: act.to }), false
      case 'country': return await this.#alter(act.machine, { country: act.to }), false
      case 'remove': {
        this.#machines = this.#machines.filter(({ id }) => id !== act.machine)
        return await depot.register(this.#machines, this.#people), false
      }
      case 'card': {
        this.#people = this.#people.map((person) => ({
          ...person, cards: [...person.cards.filter((card) => card !== act.card), ...(act.to !== undefined && person.id === idOf(act.to) ? [act.card] : [])],
        }))
        return await depot.register(this.#machines, this.#people), false
      }
      case 'rules': return await depot.rules(act.which), false
      case 'restart': return await this.#restart(false), false
      case 'damage': return await this.#restart(true), false
      case 'away': return await depot.away(), false
      case 'back': return await depot.back(), false
      case 'erase': return depot.erase(idOf(act.person)), false
      case 'clock': return false
    }
  }

  async #restart(isDamaged: boolean): Promise<void> {
    await this.#depot.restart(isDamaged)
    await this.#depot.register(this.#machines, this.#people)
  }

  async #alter(machine: string, change: Partial<MachineLine>): Promise<void> {
    this.#machines = this.#machines.map((one) => (one.id === machine ? { ...one, ...change } : one))
    await this.#depot.register(this.#machines, this.#people)
  }

  #changeOf(act: Extract<Act, { do: 'say' }>): ConsentChange {
    const newest = this.#depot.rows(idOf(act.person)).find(({ purpose }) => purpose === act.purpose)?.seq ?? 0
    return {
      operator: idOf(act.person) as OperatorId, purpose: act.purpose as PurposeId, state: act.state, source: act.by === 'agent' ? 'agent' : act.givenMs === undefined ? 'portal' : 'terminal',
      by: 'desk', evidence: 'form 2026-114', language: 'en', expiresAtMs: act.untilMs, machine: undefined,
      ...(act.givenMs === undefined ? {} : { givenAtMs: act.givenMs }),
      ...(act.names === undefined ? {} : { supersedes: act.names === 'newest' ? newest : newest - 1 }),
    }
  }

  #describe(name: string, sent: readonly Sent[], expected: readonly Expected[]): string[] {
    const counts = new Map<string, number>()
    return sent.map(({ output, stream, payload }) => {
      const place = counts.get(output) ?? 0
      counts.set(output, place + 1)
      return `${output}: ${this.#terms(name, output, decode(stream, payload), expected.find((one) => one.output === output)?.messages[place] ?? []).join(', ')}`
    })
  }

  #terms(name: string, output: string, message: Readonly<Record<string, unknown>>, expected: readonly string[]): readonly string[] {
    const terms: string[] = []
    const latitude = message['lat_e7'] ?? message['lat0_e7']
    if (latitude !== undefined) terms.push(CELLS[Number(latitude)] ?? `latitude ${String(latitude)}`)
    if (message['operator_id'] !== undefined) terms.push(this.#letter(`${name} ${output}`, 'operator', message['operator_id'], expected))
    if (output === 'shift-energy' && message['machine_id'] !== undefined) terms.push(this.#letter(`${name} ${output}`, 'machine', message['machine_id'], expected))
    return terms.length === 0 ? ['recorded'] : terms
  }

  /** A pseudonym keeps the letter under which it was first expected. */
  #letter(where: string, what: string, value: unknown, expected: readonly string[]): string {
    const text = String(value)
    if (Object.keys(PEOPLE).some((who) => text === cardOf(who))) return `${what} in clear`
    const letters = this.#letters.get(`${where} ${what}`) ?? new Map<string, string>()
    this.#letters.set(`${where} ${what}`, letters)
    const wanted = expected.find((term) => term.startsWith(`${what} `))?.slice(what.length + 1)
    if (!letters.has(text)) letters.set(text, wanted !== undefined && ![...letters.values()].includes(wanted) ? wanted : `(another one, ${letters.size})`)
    return `${what} ${letters.get(text)}`
  }
}

/** A line that does not come to its end is said by name. */
async function within<Result>(line: string, result: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`Still not done: ${line}`)), LINE_MS)
  })
  try {
    return await Promise.race([result, late])
  } finally {
    clearTimeout(timer)
  }
}

const LINE_MS = 10_000

const STREAMS = { status: 'status', charge: 'charge', track: 'track', tilt: 'safety', trapped: 'safety' } as const

function common(act: Extract<Act, { do: 'send' }>, atMs: number): Record<string, unknown> {
  return {
    machine_id: act.claims ?? act.machine,
    ...(act.isTimeless ? {} : { time_ms: act.datedMs ?? atMs }),
    ...(act.card === '' ? {} : { operator_id: act.card }),
  }
}

function body(act: Extract<Act, { do: 'send' }>): Record<string, unknown> {
  switch (act.what) {
    case 'status': return { ...HERE, fix: 3, key_on: true }
    case 'charge': return { state: 'CHARGE_BULK' }
    case 'tilt': return { ...HERE, kind: 'SAFETY_TILT', severity: 'SEVERITY_ALARM' }
    case 'trapped': return { ...HERE, kind: 'SAFETY_GROUND_RESCUE', severity: 'SEVERITY_ALARM' }
    case 'track': {
      const step = 60_000
      const steps = ((act.untilMs as number) - (act.datedMs as number)) / step
      return { lat0_e7: HERE.lat_e7, lon0_e7: HERE.lon_e7, dlat_e7: Array.from({ length: steps }, () => 0), dlon_e7: Array.from({ length: steps }, () => 0), dt_ms: Array.from({ length: steps }, () => step) }
    }
  }
}

function linesOf({ output, messages }: Expected): string[] {
  if (!OUTPUTS.includes(output)) throw new Error(`There is no output ${output}.`)
  return messages.map((terms) => `${output}: ${terms.join(', ')}`)
}

/** Of one output the order counts, of several it does not: the sort is stable. */
function byOutput(one: string, other: string): number {
  const [a, b] = [one, other].map((line) => line.slice(0, line.indexOf(':'))) as [string, string]
  return a < b ? -1 : a > b ? 1 : 0
}

function idOf(person: Person): string {
  return `op-${person.toLowerCase()}`
}
