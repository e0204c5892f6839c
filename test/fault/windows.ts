/**
 * Down-sampling through a whole gateway: machines that send all the time, an output that takes the last message of each window and
 * holds it to the window's end (`emit: { every, take: last, hold: true }`), kill -9, data that comes late, and people who withdraw. Of a
 * window at most one message leaves, at its end and not before, whatever happens; and when it leaves says nothing of when it was measured.
 *
 *     node test/fault/windows.ts [WINDOWS=40] [SEED]
 */
import { command } from './command.ts'
import { dice, pause, Plant, Reader, SPAN, statusOf, Terminal, until } from './plant.ts'

export interface WindowsOptions {
  readonly windows: number
  readonly seed: number
  /** Every so many windows the process is killed; 0 = never. */
  readonly killEvery?: number
  readonly everyS?: number
  readonly machines?: number
  readonly say?: (line: string) => void
}

export interface WindowsResult {
  readonly windows: number
  readonly acknowledged: number
  readonly arrived: number
  readonly kills: number
  readonly tooEarly: number
  /** From the end of the window to the arrival, of those windows in whose end the gateway was up. */
  readonly afterEndMs: { readonly median: number; readonly worst: number }
  /** Chi-square of event time within the window against arrival after its end, and against the place among those that left together; 16.3 is p = 0.001. */
  readonly chiSquare: { readonly delay: number; readonly place: number; readonly pairs: number }
  readonly violations: readonly string[]
}

/** 3 degrees of freedom, p = 0.00001: a run in a hundred thousand is refused by chance. */
const CRITICAL = 25.9

export async function windows({ windows: total, seed, killEvery = 4, everyS = 2, machines = 24, say }: WindowsOptions): Promise<WindowsResult> {
  const everyMs = everyS * 1_000
  const random = dice(seed)
  const plant = new Plant({ machines, emit: `{ every: ${everyS}s, take: last, hold: true }` })
  const violations: string[] = []
  /** Event time of each message, by marker. */
  const eventOf = new Map<number, number>()
  const pending = new Map<number, number>()
  /** When each was meant to be sent. A machine that stands still for a moment makes messages late and their windows late together; what was drawn beforehand knows nothing of it. */
  const drawnOf = new Map<number, number>()
  let drawn = 0
  const terminals = Array.from({ length: machines }, (_, n) => new Terminal(n, {
    qos: 1,
    payload(nth) {
      const marker = n * SPAN + nth
      // The same bytes when it is sent again.
      const eventMs = eventOf.get(marker) ?? pending.get(n) ?? Date.now()
      eventOf.set(marker, eventMs)
      if (!drawnOf.has(marker)) drawnOf.set(marker, drawn)
      return statusOf(n, nth, eventMs)
    },
  }))
  const planner = new Reader('site-planner')
  const downs: { readonly from: number; to: number }[] = []
  const withdrawn = new Map<number, number>()
  let kills = 0

  const send = (machine: number, eventMs: number): void => {
    pending.set(machine, eventMs)
    terminals[machine]!.give(1)
    pending.delete(machine)
  }
  const connect = async (): Promise<void> => {
    await planner.connect(plant.ports.recipients)
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
  }
  try {
    await plant.start()
    await connect()
    for (const [n, terminal] of terminals.entries()) {
      await plant.grant(n, 'granted')
      await terminal.signOn()
    }
    const begins = (Math.floor(Date.now() / everyMs) + 1) * everyMs
    for (let window = 0; window < total; window++) {
      const from = begins + window * everyMs
      const due: { readonly at: number; readonly what: () => void | Promise<void> }[] = []
      for (let machine = 0; machine < machines; machine++) {
        // 0 withdraws, 1 and 2 are the ones whose data comes late.
        if (machine === 2 && window % 4 < 2) continue
        const many = 1 + Math.floor(random() * 3)
        for (let n = 0; n < many; n++) due.push({ at: from + 20 + random() * (everyMs - 120), what: () => send(machine, Date.now()) })
      }
      // Late for a window that is over, and late for one of which nothing had come.
      if (window % 4 === 3) due.push({ at: from + everyMs / 2, what: () => send(1, from - 2 * everyMs + 10) })
      if (window % 4 === 2) due.push({ at: from + everyMs / 3, what: () => send(2, from - 2 * everyMs + 10) })
      if (window === Math.floor(total / 2)) due.push({ at: from + everyMs / 2, what: () => plant.grant(0, 'withdrawn').then(() => void withdrawn.set(0, Date.now())) })
      if (killEvery > 0 && window % killEvery === killEvery - 1 && window < total - 1) {
        due.push({
          at: from + random() * (everyMs - 200),
          what: async () => {
            downs.push({ from: Date.now(), to: Infinity })
            await plant.kill()
            kills++
            for (const client of [planner, ...terminals]) client.destroy()
            for (const found of plant.examine()) violations.push(found)
            await plant.start()
            await connect()
            downs.at(-1)!.to = Date.now()
          },
        })
      }
      for (const { at, what } of due.sort((one, other) => one.at - other.at)) {
        if (at > Date.now()) await pause(at - Date.now())
        drawn = at
        await what()
      }
      if (from + everyMs > Date.now()) await pause(from + everyMs - Date.now())
      if (window % 10 === 9) say?.(`${window + 1} windows, ${planner.arrivals.length} messages arrived, ${violations.length} violations`)
    }
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals', 20_000)
    // The end of the last window, and of the one in which late data may have come.
    await pause(2 * everyMs + 1_500)
    for (const client of [planner, ...terminals]) client.destroy()
    await plant.kill('SIGTERM')

    // What should have come: of every machine and window the last that was acknowledged.
    const arrived = new Map<string, { readonly marker: number; readonly atMs: number }[]>()
    for (const { marker, atMs = 0 } of planner.arrivals) {
      const machine = Math.floor(marker / SPAN)
      const key = `${machine} ${Math.floor(eventOf.get(marker)! / everyMs)}`
      arrived.set(key, [...(arrived.get(key) ?? []), { marker, atMs }])
    }
    const expected = new Map<string, number>()
    for (const { machine, acked } of terminals) {
      for (const nth of [...acked].sort((one, other) => one - other)) expected.set(`${machine} ${Math.floor(eventOf.get(machine * SPAN + nth)! / everyMs)}`, machine * SPAN + nth)
    }
    let tooEarly = 0
    const after: number[] = []
    const pairs: { readonly offset: number; readonly delay: number; readonly end: number }[] = []
    for (const [key, list] of arrived) {
      const [machine, window] = key.split(' ').map(Number) as [number, number]
      const end = (window + 1) * everyMs
      if (new Set(list.map(({ marker }) => marker)).size > 1) violations.push(`of machine ${machine} ${list.length} messages of one window left`)
      const { marker, atMs } = list[0]!
      const isLate = (machine === 1 || machine === 2)
      if (atMs < end) {
        tooEarly++
        violations.push(`of machine ${machine} a message left ${end - atMs} ms before its window's end`)
      }
      const wasDown = downs.some(({ from, to }) => from < end + 2_000 && to > end - 500)
      // On a busy machine a message of a window's last moments may come in after it: that is late data, which leaves a window later.
      if (!wasDown && !isLate && atMs - end < everyMs) {
        after.push(atMs - end)
        pairs.push({ offset: drawnOf.get(marker)! - window * everyMs, delay: atMs - end, end })
      }
    }
    for (const [key, marker] of expected) {
      const [machine, window] = key.split(' ').map(Number) as [number, number]
      const wasWithdrawn = withdrawn.get(machine)
      const got = arrived.get(key)
      if (wasWithdrawn !== undefined) {
        if (got !== undefined && got[0]!.atMs > wasWithdrawn + 50) violations.push(`machine ${machine}: a held message left after the withdrawal`)
        continue
      }
      if (got === undefined) violations.push(`machine ${machine}: of the window ${window} nothing left although message ${marker - machine * SPAN} was acknowledged`)
      else if (machine > 2 && got[0]!.marker !== marker && !downs.some(({ from, to }) => from < (window + 1) * everyMs && to > (window + 1) * everyMs - 300)) {
        violations.push(`machine ${machine}: of the window ${window} message ${got[0]!.marker - machine * SPAN} left, the last was ${marker - machine * SPAN}`)
      }
    }
    if (arrived.size === 0) violations.push('nothing arrived')
    // Over all windows: only where windows are long beside the moments in which a busy machine stands still. Such a moment at a
    // window's end makes the whole window late, and its last messages too late to be its last ones: both at once, for no reason of the gateway's.
    const delay = chiSquare(pairs.map(({ offset, delay: late }) => [offset / everyMs, late]))
    // Among those that left together, who came first: what stands still delays them all, so this holds on any machine.
    const places: [number, number][] = []
    for (const end of new Set(pairs.map((pair) => pair.end))) {
      const together = pairs.filter((pair) => pair.end === end)
      for (const [place, { offset }] of together.sort((one, other) => one.delay - other.delay).entries()) if (together.length >= 8) places.push([offset / everyMs, place / together.length])
    }
    const place = chiSquare(places)
    if (everyS >= 5 && delay > CRITICAL) violations.push(`the time of arrival tells the time of the event: chi-square ${delay.toFixed(1)}`)
    if (place > CRITICAL) violations.push(`the order of arrival tells the order of the events: chi-square ${place.toFixed(1)}`)
    after.sort((one, other) => one - other)
    return {
      windows: total, acknowledged: terminals.reduce((sum, { acked }) => sum + acked.size, 0), arrived: arrived.size, kills, tooEarly,
      afterEndMs: { median: after[Math.floor(after.length / 2)] ?? 0, worst: after.at(-1) ?? 0 }, chiSquare: { delay: Math.round(delay * 10) / 10, place: Math.round(place * 10) / 10, pairs: pairs.length },
      violations: violations.slice(0, 30),
    }
  } finally {
    for (const client of [planner, ...terminals]) client.destroy()
    await plant.remove()
  }
}

/** Of a table of four quarters of the first value by the halves of the second. [Pearson] */
function chiSquare(pairs: readonly (readonly [number, number])[]): number {
  if (pairs.length < 40) return 0
  const seconds = pairs.map(([, second]) => second).sort((one, other) => one - other)
  const median = seconds[Math.floor(seconds.length / 2)]!
  const table = Array.from({ length: 4 }, () => [0, 0])
  for (const [first, second] of pairs) table[Math.min(3, Math.max(0, Math.floor(first * 4)))]![second < median ? 0 : 1]!++
  const columns = [0, 1].map((column) => table.reduce((sum, row) => sum + row[column]!, 0))
  let chi = 0
  for (const row of table) {
    const inRow = row[0]! + row[1]!
    for (const [column, inColumn] of columns.entries()) {
      const due = (inRow * inColumn) / pairs.length
      if (due > 0) chi += (row[column]! - due) ** 2 / due
    }
  }
  return chi
}

if (import.meta.main) {
  const [many = '40', seed = String(Math.floor(Math.random() * 2 ** 31))] = process.argv.slice(2)
  await command('windows', Number(seed), (say) => windows({ windows: Number(many), seed: Number(seed), say, everyS: 5, machines: 60 }))
}
