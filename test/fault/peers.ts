/**
 * Faults of those who talk to the gateway, and of its clock: a subscriber that stops to read (S7), terminals that send things twice
 * (Q1), a person who withdraws while the cloud is away (W1), a clock that jumps or stands still (C1).
 *
 *     node test/fault/peers.ts [ROUNDS=20] [SEED] [S7 Q1 W1 C1]
 */
import { connect, type Socket } from 'node:net'
import { generate, type Packet } from 'mqtt-packet'
import { Cloud } from '../outlet/cloud.ts'
import { decode, Folder, Stage } from '../e2e/stage.ts'
import { command } from './command.ts'
import { Packets } from './copies.ts'
import { dice, judge, markerOf, pause, Plant, type PlantOptions, Reader, SPAN, statusOf, Terminal, until } from './plant.ts'

export interface PeersOptions {
  readonly rounds: number
  readonly seed: number
  readonly cases?: readonly string[]
  readonly say?: (line: string) => void
}

export interface PeersResult {
  readonly cases: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly violations: readonly string[]
}

export async function peers({ rounds, seed, cases = Object.keys(CASES), say }: PeersOptions): Promise<PeersResult> {
  const violations: string[] = []
  const figures: Record<string, Readonly<Record<string, unknown>>> = {}
  for (const name of cases) {
    figures[name] = await CASES[name]!({ rounds, random: dice(seed), fail: (text) => violations.push(`${name}: ${text}`) })
    say?.(`${name} ${JSON.stringify(figures[name])}`)
  }
  return { cases: figures, violations }
}

interface Given {
  readonly rounds: number
  readonly random: () => number
  readonly fail: (text: string) => void
}

async function withPlant(options: PlantOptions, play: (plant: Plant) => Promise<Readonly<Record<string, unknown>>>): Promise<Readonly<Record<string, unknown>>> {
  const plant = new Plant(options)
  try {
    await plant.start()
    return await play(plant)
  } finally {
    await plant.remove()
  }
}

const CASES: Readonly<Record<string, (given: Given) => Promise<Readonly<Record<string, unknown>>>>> = {
  /** Five that stop to read, in every way there is, beside one that reads: they are cut within 5 s, and it does not notice. */
  S7: ({ fail }) => withPlant({ machines: 2, keeps: ', site_code: keep' }, async (plant) => {
    const filler = 'x'.repeat(8_000)
    const payload = (machine: number) => (nth: number): Buffer => encodeWide(machine, nth, filler)
    const terminals = [0, 1].map((n) => new Terminal(n, { qos: 1, window: 8, payload: payload(n) }))
    const good = new Reader('oem-cloud', { name: 'good' })
    const frozen = [
      new Reader('oem-cloud', { name: 'frozen-1', qos: 1 }), new Reader('oem-cloud', { name: 'frozen-2', qos: 1, clean: true }), new Reader('oem-cloud', { name: 'frozen-3', qos: 2 }),
      new Reader('oem-cloud', { name: 'frozen-4', clean: true, qos: 2 }), new Reader('oem-cloud', { name: 'frozen-5', qos: 1 }),
    ]
    for (const reader of [good, ...frozen]) await reader.connect(plant.ports.recipients)
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
    let over = false
    const beat = setInterval(() => {
      if (!over) for (const terminal of terminals) if (terminal.unacked < 4) terminal.give(3)
    }, 4)
    await pause(1_000)
    const rate = async (ms: number): Promise<number> => {
      const [from, at] = [good.arrivals.length, performance.now()]
      await pause(ms)
      return ((good.arrivals.length - from) * 1_000) / (performance.now() - at)
    }
    const before = await rate(1_500)
    for (const reader of frozen) reader.freeze()
    const frozenAt = performance.now()
    // A socket that is not read does not tell that it was closed: the gateway knows whom it has.
    const connections = async (): Promise<number> => (await plant.ask<{ listeners: { name: string; connections: number }[] }>('GET', '/v1/status')).listeners.find(({ name }) => name === 'recipients')?.connections ?? 0
    let [least, turns] = [Infinity, 0]
    const rates: number[] = []
    while ((await connections()) > 1 && performance.now() - frozenAt < 20_000) {
      rates.push(await rate(250))
      turns++
      least = Math.min(least, rates.at(-1)!)
    }
    const cutMs = performance.now() - frozenAt
    const during = rates.reduce((sum, one) => sum + one, 0) / Math.max(1, turns)
    over = true
    clearInterval(beat)
    for (const terminal of terminals) terminal.stop()
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals', 20_000).catch((error: unknown) => fail(String(error)))
    await until(() => terminals.every(({ machine, acked }) => [...acked].every((nth) => good.seen.has(machine * SPAN + nth))), 'the reader', 20_000).catch((error: unknown) => fail(String(error)))
    // From the moment that the kernel took nothing more: until then nobody can know. It takes a few megabytes.
    const filled = (MOST_KERNEL_BYTES / (8_000 * Math.max(1, during))) * 1_000
    if (cutMs > 5_000 + filled) fail(`frozen subscribers were cut after ${cutMs.toFixed(0)} ms`)
    if (during < before * 0.8) fail(`the other's rate fell from ${before.toFixed(0)} to ${during.toFixed(0)} a second`)
    for (const text of judge('the reader', good.arrivals, terminals, 0).violations) fail(text)
    for (const one of [good, ...frozen, ...terminals]) one.destroy()
    return { cutMs: Math.round(cutMs), perSecond: { before: Math.round(before), during: Math.round(during) } }
  }),

  /** QoS 2: the same id before its PUBREL is the same message; afterwards it is a new one. Over a lost connection, too. */
  Q1: ({ rounds, fail, random }) => withPlant({ machines: 1 }, async (plant) => {
    const reader = new Reader('oem-cloud')
    await reader.connect(plant.ports.recipients)
    let sent = 0
    let copies = 0
    for (let round = 0; round < Math.max(3, rounds); round++) {
      const answers: { kind: number; id: number }[] = []
      const line = new Raw(plant.ports.terminals, (kind, id) => answers.push({ kind, id }))
      await line.admitted
      const count = (kind: number, id: number): number => answers.filter((one) => one.kind === kind && one.id === id).length
      const id = 1 + Math.floor(random() * 60_000)
      const repeats = 1 + Math.floor(random() * 4)
      const publish = (nth: number, dup: boolean, qos: 1 | 2 = 2): void => line.send({ cmd: 'publish', topic: 'up/demo/M-0/status', payload: statusOf(0, nth), qos, dup, retain: false, messageId: id })
      publish(++sent, false)
      for (let n = 0; n < repeats; n++) {
        publish(sent, n % 2 === 0)
        copies++
      }
      await until(() => count(5, id) === repeats + 1, 'a PUBREC for each copy')
      // A lost connection between PUBREC and PUBREL: the session remembers.
      line.destroy()
      const again = new Raw(plant.ports.terminals, (kind, one) => answers.push({ kind, id: one }))
      await again.admitted
      again.send({ cmd: 'publish', topic: 'up/demo/M-0/status', payload: statusOf(0, sent), qos: 2, dup: true, retain: false, messageId: id })
      copies++
      await until(() => count(5, id) === repeats + 2, 'a PUBREC for the copy')
      again.send({ cmd: 'pubrel', messageId: id })
      await until(() => count(7, id) === 1, 'a PUBCOMP')
      // Released twice is answered twice. [MQTT-4.3.3-2]
      again.send({ cmd: 'pubrel', messageId: id })
      await until(() => count(7, id) === 2, 'a second PUBCOMP').catch((error: unknown) => fail(String(error)))
      again.send({ cmd: 'publish', topic: 'up/demo/M-0/status', payload: statusOf(0, ++sent), qos: 2, dup: false, retain: false, messageId: id })
      await until(() => count(5, id) === repeats + 3, 'a PUBREC for the id used again')
      again.send({ cmd: 'pubrel', messageId: id })
      await until(() => count(7, id) === 3, 'the id used again')
      again.destroy()
    }
    await until(() => reader.seen.size === sent, 'the reader').catch((error: unknown) => fail(String(error)))
    await pause(100)
    const stored = reader.arrivals.length
    if (stored !== sent) fail(`${sent} messages and ${copies} copies gave ${stored} at the reader`)
    reader.destroy()
    return { messages: sent, copies, stored }
  }),

  /** [G4] What waits for a cloud that is away is gone with the yes it rests on, also when the process dies right after the answer. */
  W1: async ({ rounds, fail, random }) => {
    const planner = await Cloud.open()
    let [purged, wire, stored, late] = [0, 0, 0, 0]
    try {
      return await withPlant({ machines: 2, planner: planner.url, window: 32 }, async (plant) => {
        const [covered, other] = [0, 1].map((n) => new Terminal(n, { qos: 1, window: 32 })) as [Terminal, Terminal]
        const connect = async (): Promise<void> => {
          for (const terminal of [covered, other]) await terminal.connect(plant.ports.terminals)
        }
        await connect()
        await plant.grant(1, 'granted')
        for (const terminal of [covered, other]) await terminal.signOn()
        for (let round = 0; round < Math.max(2, rounds); round++) {
          const away = round % 2 === 0
          await plant.grant(0, 'granted')
          await pause(20)
          if (away) await planner.stop()
          const from = covered.sent
          for (const terminal of [covered, other]) terminal.give(60)
          await until(() => covered.acked.size > from + 10 + Math.floor(random() * 20), 'some to be stored')
          if (away) await until(() => covered.done && other.done, 'all to be stored')
          const receipt = await plant.grant(0, 'withdrawn')
          const answeredAt = planner.got.length
          purged += receipt.purged
          wire += receipt.on_the_wire
          if (away && receipt.purged + receipt.swapped < 60) fail(`of 60 stored messages ${receipt.purged} were purged`)
          if (away && round % 4 === 0) {
            // What was answered is on the disk.
            await plant.kill()
            for (const found of plant.examine()) fail(found)
            await plant.start()
            await connect()
          }
          await until(() => covered.done && other.done, 'the terminals', 20_000)
          if (away) {
            await planner.start()
            stored += 60
          }
          await until(async () => (await plant.waitingFor('planner')) === 0, 'the cloud to have everything', 90_000).catch((error: unknown) => fail(String(error)))
          // After the answer only what was on the wire may still be read by the cloud.
          const after = planner.got.slice(answeredAt).filter(({ payload }) => Math.floor(markerOf(payload) / SPAN) === 0).length
          late += after
          if (after > (away ? 0 : receipt.on_the_wire)) fail(`round ${round}: ${after} covered messages came after the answer, ${receipt.on_the_wire} were on the wire`)
        }
        const others = new Set(planner.got.map(({ payload }) => markerOf(payload)))
        for (const nth of other.acked) if (!others.has(SPAN + nth)) fail(`message ${nth} of the other person is gone`)
        for (const terminal of [covered, other]) terminal.destroy()
        return { purged, onTheWire: wire, cameLate: late, storedWhileAway: stored }
      })
    } finally {
      await planner.stop()
    }
  },

  /**
   * A clock that jumps by an hour and by ten years, both ways, and one that stands still. Terminals are served, nothing that rested on a
   * yes leaves under a yes that came later, a yes with an end is over when either clock says so, and messages with an end are gone at it.
   */
  C1: async ({ fail }) => {
    const HOUR = 3_600_000
    const YEAR = 365.25 * 24 * HOUR
    let skew = 0
    let frozen: number | undefined
    const clock = { now: () => frozen ?? Date.now() + skew, monotonic: () => performance.now() }
    const stage = await Stage.open({ clock, folder: new Folder() })
    const jumps: Record<string, string> = {}
    try {
      const terminal = await stage.terminal('SN-1001')
      const planner = await stage.recipient('site-planner', ['out/planning/+/+'])
      const service = await stage.recipient('oem-cloud', ['out/service/+/+'])
      const send = async (): Promise<{ planner: number; service: number }> => {
        const before = { planner: planner.got.length, service: service.got.length }
        await terminal.send('status', { time_ms: clock.now(), operator_id: 'A-1001', lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, soc_pct_x10: 825 })
        await stage.settled([planner, service])
        return { planner: planner.got.length - before.planner, service: service.got.length - before.service }
      }
      const signOn = (): Promise<void> => terminal.send('operator', { time_ms: clock.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
      await stage.consent('op-anna', 'granted', 'improve.statistics')
      await signOn()
      await send()
      const fine = placeOf(planner.got.at(-1))
      if (fine === undefined) fail('with the yes no place leaves: the test shows nothing')
      for (const [name, move] of Object.entries({ 'an hour on': HOUR, 'an hour back': -HOUR, 'two hours back': -2 * HOUR, 'back to now': 2 * HOUR, 'ten years on': 10 * YEAR, 'ten years back': -10 * YEAR, 'another ten years back': -10 * YEAR, 'to now': 10 * YEAR })) {
        skew += move
        const got = await send().catch((error: unknown) => {
          fail(`${name}: ${String(error)}`)
          return { planner: 0, service: 0 }
        })
        jumps[name] = `${got.service} service, ${got.planner} planning`
        if (got.service !== 1) fail(`${name}: ${got.service} service messages instead of one`)
        const { reasons } = stage.gateway.control.health()
        const isBack = clock.now() < Date.now() - 60_000 || skew < 0
        if (isBack && move < -60_000 && !reasons.some(({ code }) => code === 'CLOCK-UNSURE')) fail(`${name}: nobody says that the clock is unsure`)
      }
      // Withdrawn at a wrong hour is withdrawn at every hour: the order of the ledger counts, not the clock.
      skew = -5 * HOUR
      await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
      for (const at of [-5 * HOUR, 0, 5 * HOUR]) {
        skew = at
        await signOn()
        const got = await send()
        if (got.planner > 1) fail(`after the withdrawal ${got.planner} planning messages left`)
        if (got.planner > 0 && placeOf(planner.got.at(-1)) === fine) fail('after the withdrawal the finer place left')
      }
      // Standing still: what lasts is measured by the other clock.
      frozen = clock.now()
      const began = performance.now()
      for (let n = 0; n < 5; n++) await send()
      jumps['standing still'] = `5 messages in ${(performance.now() - began).toFixed(0)} ms`
      if (!stage.gateway.control.health().live) fail('not live with a clock that stands still')
      return jumps
    } finally {
      await stage.close()
    }
  },
}

/** What a socket's two ends may take before anybody notices that one of them does not read. */
const MOST_KERNEL_BYTES = 10_000_000

function encodeWide(machine: number, nth: number, filler: string): Buffer {
  return Buffer.concat([statusOf(machine, nth), SITE_CODE, lengthOf(filler.length), Buffer.from(filler)])
}

/** Field 28, length-delimited: the last one on the wire counts. */
const SITE_CODE = Buffer.from([0xe2, 0x01])

function lengthOf(length: number): Buffer {
  return Buffer.from([(length & 0x7f) | 0x80, length >> 7])
}

/** Where a message that left says the machine is. */
function placeOf(packet: { readonly payload: string | Buffer } | undefined): string | undefined {
  if (packet === undefined) return undefined
  const { lat_e7: lat, lon_e7: lon } = decode('status', packet.payload as Buffer)
  return lat === undefined ? undefined : `${String(lat)} ${String(lon)}`
}

/** A terminal's connection on which everything is said by hand. */
class Raw {
  readonly admitted: Promise<void>
  readonly #socket: Socket

  constructor(port: number, answered: (kind: number, id: number) => void) {
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.#socket.on('error', () => undefined)
    let admit: () => void = () => undefined
    this.admitted = new Promise((done) => { admit = done })
    const packets = new Packets((first, body) => {
      if (first >> 4 === 2) admit()
      else if (body.length >= 2) answered(first >> 4, body.readUInt16BE(0))
    })
    this.#socket.on('data', (piece: Buffer) => packets.push(piece))
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: false, clientId: 'M-0', username: 'M-0', keepalive: 0 })
  }

  send(packet: Packet): void {
    this.#socket.write(generate(packet))
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

if (import.meta.main) {
  const [rounds = '20', seed = String(Math.floor(Math.random() * 2 ** 31)), ...cases] = process.argv.slice(2)
  await command('peers', Number(seed), (say) => peers({ rounds: Number(rounds), seed: Number(seed), say, ...(cases.length === 0 ? {} : { cases }) }))
}
