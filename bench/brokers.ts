/**
 * The sides of a comparison, each a process of its own: plain aedes, aedes with protobufjs, Mosquitto when it is installed, and
 * `parapet serve` with as many outputs as are asked for, people signed on and their choices given.
 */
import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCertificate, type Issued } from '../src/cli/pki/x509.ts'
import { pause, until } from '../test/e2e/stage.ts'
import { Plant, type StartOptions } from '../test/fault/plant.ts'
import { rulesHead } from '../test/fault/rules.ts'
import { STATUS } from './minimise.ts'
import type { RelayPorts, RelaySetup } from './relay.ts'

export const KINDS = ['aedes', 'aedes + protobufjs', 'mosquitto', 'parapet'] as const
export type Kind = (typeof KINDS)[number]
export type Qos = 0 | 1 | 2

/** The job that all sides do. */
export interface Job {
  readonly qos: Qos
  /** Of the outputs; default: that of the terminals. At 0 nothing is stored. */
  readonly outputQos?: Qos
  readonly terminals: number
  /** Each has a subscriber of its own. */
  readonly outputs: number
  /** Share of the people who said yes; the outputs rest on it. */
  readonly yes: number
  readonly tls: boolean
  /** Messages that a terminal sends in one piece; default: 16, or a quarter of its window. */
  readonly atOnce?: number
  /** Subscribers have sessions, and come back when they were cut. */
  readonly session?: boolean
}

export interface Broker {
  readonly kind: Kind
  readonly pid: number
  readonly terminals: number
  readonly recipients: number
  readonly tls: boolean
  /** Who fetches what, a connection each. */
  readonly subscribers: readonly { readonly user: string; readonly filter: string }[]
  /** Only the gateway: its terminals must sign on, and it can be asked. */
  readonly plant: Plant | undefined
  said(): string
  stop(): Promise<void>
}

/** People; with more machines each is signed on at several. */
const PEOPLE = 64
const PROFILE = process.env.PARAPET_BENCH_PROFILE

export function personOf(machine: number, terminals: number): number {
  return machine % Math.min(PEOPLE, terminals)
}

export function saidYes(person: number, { terminals, yes }: Job): boolean {
  return person < Math.min(PEOPLE, terminals) * yes
}

export function startBroker(kind: Kind, job: Job): Promise<Broker> {
  return kind === 'parapet' ? startGateway(job) : kind === 'mosquitto' ? startMosquitto(job) : startAedes(kind, job)
}

interface Authority {
  readonly ca: string
  readonly server: Issued
  readonly key: KeyObject
}

let authority: Authority | undefined

/** One for all brokers. */
function ownAuthority(): Authority {
  if (authority === undefined) {
    const term = { fromMs: Date.now() - 3_600_000, untilMs: Date.now() + 86_400_000 }
    const made = makeCertificate({ name: 'bench', use: 'authority', ...term })
    const key = createPrivateKey(made.key)
    authority = { ca: made.cert, key, server: makeCertificate({ name: 'broker', use: 'server', addresses: ['127.0.0.1'], ...term }, { cert: made.cert, key }) }
  }
  return authority
}

/** What a terminal shows: TLS is mutual. */
export function machineCertificate(machine: string): Issued {
  const { ca, key } = ownAuthority()
  return makeCertificate({ name: machine, use: 'client', uris: [`urn:parapet:machine:${machine}`], fromMs: Date.now() - 3_600_000, untilMs: Date.now() + 86_400_000 }, { cert: ca, key })
}

function writePems(folder: string): void {
  const { ca, server } = ownAuthority()
  for (const [name, text] of [['ca.pem', ca], ['cert.pem', server.cert], ['key.pem', server.key]] as const) writeFileSync(join(folder, name), text, { mode: 0o600 })
}

async function startAedes(kind: 'aedes' | 'aedes + protobufjs', { tls, outputs }: Job): Promise<Broker> {
  const setup: RelaySetup = { edits: kind !== 'aedes', tls: tls ? { ...ownAuthority().server, ca: ownAuthority().ca } : undefined }
  const child: ChildProcess = fork(join(import.meta.dirname, 'relay.ts'), [JSON.stringify(setup)])
  const { terminals, recipients } = await new Promise<RelayPorts>((done, failed) => {
    child.once('message', (message) => done(message as RelayPorts))
    child.once('exit', () => failed(new Error(`${kind} did not start`)))
  })
  const ended = new Promise<void>((done) => child.once('exit', () => done()))
  return {
    kind, pid: child.pid ?? 0, terminals, recipients, tls, subscribers: relayed(outputs), plant: undefined, said: () => '',
    stop() {
      child.disconnect()
      return ended
    },
  }
}

/** A relay has no outputs: as many subscribers get the same. */
function relayed(outputs: number): Broker['subscribers'] {
  return Array.from({ length: outputs }, () => ({ user: 'site-planner', filter: 'up/+/+/status' }))
}

// -------------------------------------------------------------------------------------------------------------- Mosquitto

/** PARAPET_MOSQUITTO, or what is in PATH, or where Debian puts it; undefined when it is not installed. */
export function mosquittoFile(): string | undefined {
  const { PARAPET_MOSQUITTO: named } = process.env
  if (named !== undefined) return existsSync(named) ? named : undefined
  return [...(process.env.PATH ?? '').split(':'), '/usr/sbin'].map((folder) => join(folder, 'mosquitto')).find((file) => existsSync(file))
}

/** In memory, without bounds on what is on the way, so that it is its speed that is measured and nothing is lost. */
async function startMosquitto({ tls, outputs }: Job): Promise<Broker> {
  const file = mosquittoFile()
  if (file === undefined) throw new Error('mosquitto is not installed')
  const folder = mkdtempSync(join(tmpdir(), 'parapet-mosquitto-'))
  const [terminals, recipients] = [await freePort(), await freePort()]
  if (tls) writePems(folder)
  writeFileSync(join(folder, 'mosquitto.conf'), [
    'per_listener_settings false', 'allow_anonymous true', 'persistence false', 'max_inflight_messages 0', 'max_queued_messages 0', 'set_tcp_nodelay true', 'log_type error',
    ...(process.getuid?.() === 0 ? ['user root'] : []),
    `listener ${terminals} 127.0.0.1`, ...(tls ? [`certfile ${join(folder, 'cert.pem')}`, `keyfile ${join(folder, 'key.pem')}`, `cafile ${join(folder, 'ca.pem')}`, 'require_certificate true', 'tls_version tlsv1.3'] : []), `listener ${recipients} 127.0.0.1`, '',
  ].join('\n'))
  const child = spawn(file, ['-c', join(folder, 'mosquitto.conf')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (piece: Buffer) => { said = (said + piece.toString()).slice(-2_000) })
  const ended = new Promise<void>((done) => child.once('exit', () => done()))
  process.once('exit', () => child.kill('SIGKILL'))
  await until(() => isOpen(recipients), `mosquitto: ${said}`)
  return {
    kind: 'mosquitto', pid: child.pid ?? 0, terminals, recipients, tls, subscribers: relayed(outputs), plant: undefined, said: () => said,
    async stop() {
      child.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export function mosquittoVersion(): string {
  const file = mosquittoFile()
  return file === undefined ? '' : (/version ([\d.]+)/.exec(spawnSync(file, ['-h'], { encoding: 'utf8' }).stdout)?.[1] ?? 'of an unknown version')
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise<void>((done) => void server.close(() => done()))
  return port
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      done(true)
    })
    socket.on('error', () => done(false))
  })
}

// ---------------------------------------------------------------------------------------------------------------- gateway

/** @param start  how, beside what the job asks for */
export async function startGateway(job: Job, start: (plant: Plant) => StartOptions = () => ({})): Promise<Broker> {
  const plant = new Plant({ machines: job.terminals, set: ['limits.unanswered=256'] })
  try {
    writeFileSync(plant.folder.file('rules/awp.yaml'), benchRules(job))
    const set: string[] = []
    if (job.tls) {
      writePems(plant.folder.file('.'))
      set.push('listen.terminals.tls={ cert: cert.pem, key: key.pem, ca: ca.pem }')
    }
    const { nodeOptions = [], ...rest } = start(plant)
    await plant.start({ ...rest, set: [...set, ...(rest.set ?? [])], nodeOptions: [...nodeOptions, ...(PROFILE === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${PROFILE}`])] })
    for (let person = 0; person < Math.min(PEOPLE, job.terminals); person++) if (saidYes(person, job)) await grantSoon(plant, person)
  } catch (error) {
    await plant.remove()
    throw error
  }
  return {
    kind: 'parapet', pid: plant.pid, terminals: plant.ports.terminals, recipients: plant.ports.recipients, tls: job.tls, plant,
    subscribers: Array.from({ length: job.outputs }, (_, n) => ({ user: recipientOf(n), filter: `out/o${n}/+` })),
    said: () => plant.logged.slice(-5).join(' '),
    async stop() {
      await plant.kill('SIGTERM')
      await plant.remove()
    },
  }
}

const AGAIN_MS = 100
const AGAIN_TIMES = 100

/** The admin API answers only so many requests a second. */
async function grantSoon(plant: Plant, person: number): Promise<void> {
  for (let times = 0; ; times++) {
    try {
      await plant.grant(person, 'granted')
      return
    } catch (error) {
      if (!String(error).includes(': 429') || times === AGAIN_TIMES) throw error
      await pause(AGAIN_MS)
    }
  }
}

/** By turns, as one recipient may have eight connections. */
function recipientOf(output: number): string {
  return output % 2 === 0 ? 'site-planner' : 'oem-cloud'
}

/** The benchmark's job (minimise.ts): six fields dropped, a pseudonym, a grid, round_time, the rest kept; on the ground of a yes. */
export function benchRules({ qos, outputQos = qos, outputs }: Job, policy = 'bench'): string {
  const special = new Set(['machine_id', 'time_ms', 'lat_e7', 'lon_e7', ...STATUS.dropped])
  const kept = Object.keys(STATUS.json).filter((name) => !special.has(name)).map((name) => `${name}: keep`)
  const output = (n: number): string => `
  o${n}:
    recipient: ${recipientOf(n)}
    purpose: improve.statistics
    to: { topic: "out/o${n}/{machine_id}", qos: ${outputQos}, via: [local], send_within: 24h }
    recipient_keeps: 30d
    arrival_visible: true
    streams:
      status: { fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: { round_time: 15m }, position: { grid: 500m }, ${kept.join(', ')} } }`
  const points = ', points: { position: { lat: lat_e7, lon: lon_e7, unit: e7, valid: "msg.fix > 0" } }'
  return `${rulesHead({ policy, status: points })}${Array.from({ length: outputs }, (_, n) => output(n)).join('')}\n`
}
