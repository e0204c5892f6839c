/**
 * Disclosure counts against those who received: a fake cloud and readers that note everything. Over every way out (bridge, live, after an
 * absence, retained, QoS 0) the counts equal what was seen; and when the process is killed, again and again, they are never fewer.
 *
 *     node test/fault/counts.ts [KILLS=40] [SEED]
 */
import { Cloud } from '../outlet/cloud.ts'
import { command } from './command.ts'
import { dice, pause, Plant, Reader, Terminal, until } from './plant.ts'

export interface CountsOptions {
  readonly kills: number
  readonly seed: number
  /** QoS of the outputs under which the process is killed. */
  readonly qos?: readonly (0 | 1 | 2)[]
  readonly say?: (line: string) => void
}

export interface CountsResult {
  /** Without a kill: what each way out was counted and seen. */
  readonly quiet: Readonly<Record<string, { readonly counted: number; readonly seen: number }>>
  /** With kills, per QoS of the output. */
  readonly killed: Readonly<Record<string, { readonly kills: number; readonly counted: number; readonly seen: number }>>
  readonly violations: readonly string[]
}

const MACHINES = 2

export async function counts({ kills, seed, qos: all = [1, 2, 0], say }: CountsOptions): Promise<CountsResult> {
  const violations: string[] = []
  const killed: Record<string, { kills: number; counted: number; seen: number }> = {}
  const withKill = async (qos: 0 | 1 | 2): Promise<void> => {
    killed[`QoS ${qos}`] = await withKills(qos, Math.max(1, Math.ceil(kills / all.length)), dice(seed + qos), violations)
    say?.(`with kills, QoS ${qos}: ${JSON.stringify(killed[`QoS ${qos}`])}`)
  }
  // Each has its own gateway; most of the time they start.
  const [quiet] = await Promise.all([undisturbed(violations), ...all.map(withKill)])
  say?.(`undisturbed: ${JSON.stringify(quiet)}`)
  return { quiet, killed, violations }
}

function sum(plant: Plant, of: (row: ReturnType<Plant['counts']>[number]) => boolean): number {
  return plant.counts().filter(of).reduce((total, { count }) => total + count, 0)
}

async function undisturbed(violations: string[]): Promise<CountsResult['quiet']> {
  const cloud = await Cloud.open()
  const plant = new Plant({ machines: MACHINES, cloud: cloud.url, serviceTo: ', retain: true' })
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: 1 }))
  const live = new Reader('oem-cloud', { name: 'live' })
  const twice = new Reader('oem-cloud', { name: 'twice', qos: 2 })
  const absent = new Reader('oem-cloud', { name: 'absent' })
  const planner = new Reader('site-planner')
  const newcomer = new Reader('oem-cloud', { name: 'newcomer', clean: true })
  const all = [live, twice, absent, planner, newcomer]
  try {
    await plant.start()
    for (const reader of [live, twice, absent, planner]) await reader.connect(plant.ports.recipients)
    absent.destroy()
    for (const [n, terminal] of terminals.entries()) {
      await terminal.connect(plant.ports.terminals)
      await plant.grant(n, 'granted')
      await terminal.signOn()
      terminal.give(150)
    }
    await until(() => terminals.every((terminal) => terminal.done), 'the terminals', 20_000)
    await until(async () => (await plant.waiting()) === 0, 'the outbox', 20_000)
    await absent.connect(plant.ports.recipients)
    await newcomer.connect(plant.ports.recipients)
    await until(() => absent.seen.size === 300 && newcomer.seen.size === MACHINES, 'those who came later', 10_000).catch((error: unknown) => violations.push(String(error)))
    await pause(100)
    for (const client of [...terminals, ...all]) client.destroy()
    await plant.kill('SIGTERM')
    const found = {
      bridge: { counted: sum(plant, ({ credential }) => credential === 'cloud'), seen: cloud.got.length },
      service: { counted: sum(plant, ({ credential, output }) => credential === 'oem-cloud' && output === 'service'), seen: [live, twice, absent, newcomer].reduce((total, { arrivals }) => total + arrivals.length, 0) },
      planning: { counted: sum(plant, ({ output }) => output === 'planning'), seen: planner.arrivals.length },
      unknown: { counted: sum(plant, ({ credential }) => credential === 'unknown'), seen: 0 },
    }
    for (const [name, { counted, seen }] of Object.entries(found)) if (counted !== seen) violations.push(`${name}: ${counted} disclosures are counted, ${seen} were seen`)
    if (planner.arrivals.length !== 300) violations.push(`the planner saw ${planner.arrivals.length} of 300`)
    // Each of these is about one person.
    const persons = new Set(plant.counts().filter(({ output }) => output === 'planning').map(({ subject }) => subject))
    if (persons.size !== MACHINES || persons.has('')) violations.push(`the planning messages are counted for ${persons.size} people`)
    return found
  } finally {
    for (const client of [...terminals, ...all]) client.destroy()
    await plant.remove()
    await cloud.stop()
  }
}

async function withKills(qos: 0 | 1 | 2, kills: number, random: () => number, violations: string[]): Promise<{ kills: number; counted: number; seen: number }> {
  const cloud = await Cloud.open()
  const plant = new Plant({ machines: MACHINES, cloud: cloud.url, window: 16, serviceQos: qos, serviceTo: ', retain: true' })
  const terminals = Array.from({ length: MACHINES }, (_, n) => new Terminal(n, { qos: 1 }))
  const readers = [new Reader('oem-cloud', { name: 'one', qos: 1 }), new Reader('oem-cloud', { name: 'two', qos: 2 }), new Reader('oem-cloud', { name: 'three', clean: true })] as const
  try {
    for (let kill = 0; kill < kills; kill++) {
      await plant.start()
      for (const [n, reader] of readers.entries()) if (n !== 1 || kill % 3 !== 1) await reader.connect(plant.ports.recipients)
      for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
      const before = cloud.got.length + readers.reduce((total, { arrivals }) => total + arrivals.length, 0)
      for (const terminal of terminals) terminal.give(150)
      // As soon as so many have been seen.
      const more = 1 + Math.floor(random() * 300)
      const over = Date.now() + 5_000
      while (cloud.got.length + readers.reduce((total, { arrivals }) => total + arrivals.length, 0) < before + more && Date.now() < over) await new Promise((done) => void setImmediate(done))
      await plant.kill()
      // What is still in the sockets was received as well.
      await pause(20)
      for (const client of [...terminals, ...readers]) client.destroy()
      for (const terminal of terminals) terminal.stop()
    }
    await plant.start()
    for (const reader of readers) await reader.connect(plant.ports.recipients)
    for (const terminal of terminals) await terminal.connect(plant.ports.terminals)
    await until(async () => terminals.every((terminal) => terminal.done) && (await plant.waiting()) === 0, 'the rest', 30_000).catch((error: unknown) => violations.push(`QoS ${qos}: ${String(error)}`))
    await pause(100)
    for (const client of [...terminals, ...readers]) client.destroy()
    await plant.kill('SIGTERM')
    const counted = sum(plant, () => true)
    // A message that was sent again counts once; a QoS 0 one has no id, and each copy is its own.
    const atCloud = qos === 0 ? cloud.got.length : new Set(cloud.got.map(({ user }) => user['parapet-id'])).size
    const seen = atCloud + readers.reduce((total, { arrivals, seen: distinct }) => total + (qos === 0 ? arrivals.length : distinct.size), 0)
    if (counted < seen) violations.push(`QoS ${qos}: ${counted} disclosures are counted, ${seen} were seen`)
    return { kills, counted, seen }
  } finally {
    for (const client of [...terminals, ...readers]) client.destroy()
    await plant.remove()
    await cloud.stop()
  }
}

if (import.meta.main) {
  const [kills = '40', seed = String(Math.floor(Math.random() * 2 ** 31))] = process.argv.slice(2)
  await command('counts', Number(seed), (say) => counts({ kills: Number(kills), seed: Number(seed), say }))
}
