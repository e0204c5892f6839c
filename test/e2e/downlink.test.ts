/**
 * Commands through a whole gateway: from a recipient over WebSocket and from a cloud to terminals, over kill -9, and with everything that a
 * terminal sends meanwhile going where it went before. The gateway of the crash is a process of its own.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { connect, connectAsync, type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import { afterEach, describe, expect, it } from 'vitest'
import { Cloud } from '../outlet/cloud.ts'
import { Folder, FREE_PORTS, pause, PROJECT, Stage, until } from './stage.ts'

const open: (() => Promise<unknown> | void)[] = []
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close()
})

const DOWNLINK = 'downlink: { oem-cloud: { topics: ["down/{fleet}/{machine}/settings/#"] }, site-planner: { topics: ["down/{fleet}/{machine}/settings/#"], ttl: 1s } }\n'

function folderFor({ cloud }: { readonly cloud?: Cloud } = {}): Folder {
  const folder = new Folder()
  folder.edit('gateway.yaml', (text) => `${cloud === undefined ? text : text.replace('bridges: {}', `bridges: { cloud: { recipient: oem-cloud, url: "${cloud.url}", downlink: ["down/{fleet}/{machine}/settings/lights"] } }`)}\n${DOWNLINK}`)
  return folder
}

async function stageFor(options: { readonly cloud?: Cloud; readonly set?: readonly string[] } = {}): Promise<Stage> {
  const stage = await Stage.open({ folder: folderFor(options), set: ['listen.recipients_ws.port=0', ...(options.set ?? [])] })
  open.push(() => stage.close())
  return stage
}

/** A terminal that has subscribed to its downlink, and what it gets. */
async function listening(port: number, machine: string, options: IClientOptions = {}): Promise<{ client: MqttClient; got: IPublishPacket[]; texts: () => string[] }> {
  const got: IPublishPacket[] = []
  const client = connect({ host: '127.0.0.1', port, protocolVersion: 4, reconnectPeriod: 0, clientId: machine, username: machine, clean: false, ...options })
  open.push(() => void client.end(true))
  client.on('message', (_topic, _payload, packet) => void got.push(packet))
  client.on('error', () => undefined)
  await new Promise<void>((resolve, reject) => {
    client.once('connect', () => resolve())
    client.once('close', () => reject(new Error('closed')))
  })
  await client.subscribeAsync(`down/demo/${machine}/#`, { qos: 1 })
  return { client, got, texts: () => got.map(({ topic, payload }) => `${topic} ${String(payload)}`) }
}

async function sender(url: string, username = 'oem-cloud'): Promise<MqttClient> {
  const client = await connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0, clientId: 'dispatcher', username })
  client.on('error', () => undefined)
  open.push(() => void client.end(true))
  return client
}

const LIGHTS = 'down/demo/SN-1001/settings/lights'

describe('a gateway with commands', () => {
  it('takes them over WebSocket, gives them to the one machine, and data goes on as before', async () => {
    const stage = await stageFor()
    const { terminals, recipients_ws: web } = stage.gateway.addresses
    const [one, two] = [await listening(terminals.port, 'SN-1001'), await listening(terminals.port, 'SN-1002')]
    const dispatcher = await sender(`ws://127.0.0.1:${web?.port}`)
    const data: string[] = []
    dispatcher.on('message', (topic) => void data.push(topic))
    await dispatcher.subscribeAsync('out/service/+/+', { qos: 1 })
    await dispatcher.publishAsync(LIGHTS, 'on', { qos: 1 })
    await until(() => one.got.length === 1, 'the command')
    expect([one.texts(), two.texts()]).toEqual([[`${LIGHTS} on`], []])
    const terminal = await stage.terminal('SN-1003')
    await terminal.send('status', { time_ms: Date.now(), key_on: true, soc_pct_x10: 825 })
    await until(() => data.length === 1, 'the data')
    const counters = await stage.counters()
    await until(async () => (await stage.counters()).get('parapet_broker_events_total{event="downlink.acknowledged"}') === 1, 'the acknowledgement')
    expect(counters.get('parapet_broker_events_total{event="downlink.stored"}')).toBe(1)
    expect(stage.gateway.control.status().listeners.map(({ name, connections }) => [name, connections])).toContainEqual(['recipients_ws', 1])
    expect(stage.logged.join('')).not.toContain('settings')
  })

  it('a terminal\'s own PUBLISH to its downlink, or another\'s, is data of an unknown topic and nothing else', async () => {
    const stage = await stageFor()
    const { terminals } = stage.gateway.addresses
    const [one, two] = [await listening(terminals.port, 'SN-1001'), await listening(terminals.port, 'SN-1002')]
    for (const topic of [LIGHTS, 'down/demo/SN-1002/settings/lights', 'ctl/oem-cloud/ack']) await one.client.publishAsync(topic, 'raw', { qos: 1, retain: true })
    await pause(50)
    expect([one.texts(), two.texts()]).toEqual([[], []])
    expect((await stage.counters()).get('parapet_messages_refused_total{reason="no_stream"}')).toBe(3)
  })

  it('a cloud sends within what its bridge takes; the rest is acknowledged and counted', async () => {
    const cloud = await Cloud.open()
    open.push(() => cloud.stop())
    const stage = await stageFor({ cloud })
    const one = await listening(stage.gateway.addresses.terminals.port, 'SN-1001')
    await until(() => cloud.subscribed.length === 1, 'the subscription')
    expect(cloud.subscribed[0]?.topic).toBe('down/+/+/settings/lights')
    const line = cloud.lines.find(({ connect: { clientId } }) => clientId === 'depot-7-cloud-commands')!
    for (const [index, topic] of [LIGHTS, 'down/demo/SN-1001/settings/other', 'down/demo/SN-404/settings/lights', 'down/other/SN-1001/settings/lights'].entries()) {
      line.send({ cmd: 'publish', topic, payload: `c${index}`, qos: 1, messageId: index + 1, dup: false, retain: false })
    }
    await until(() => cloud.taken.length === 4, 'all acknowledgements')
    await until(() => one.got.length === 1, 'the command')
    expect(one.texts()).toEqual([`${LIGHTS} c0`])
    const counters = await stage.counters()
    expect(['stored', 'not_allowed', 'unknown_machine', 'foreign_fleet'].map((name) => counters.get(`parapet_broker_events_total{event="downlink.${name}"}`))).toEqual([1, 1, 1, 1])
  })

  it('a cloud that does not grant its commands is named in readiness, and holds up nobody', async () => {
    const cloud = await Cloud.open()
    cloud.grant = 0x80
    open.push(() => cloud.stop())
    const stage = await stageFor({ cloud })
    await until(() => stage.gateway.control.health().reasons.some(({ text }) => text.includes('takes no commands (subscription')), 'readiness to say it')
    expect(stage.gateway.control.health().ready).toBe(true)
  })

  it('a right that is taken back takes with it what waits', async () => {
    const folder = folderFor()
    const first = await Stage.open({ folder })
    const one = await listening(first.gateway.addresses.terminals.port, 'SN-1001')
    one.client.end(true)
    const dispatcher = await sender(`mqtt://127.0.0.1:${first.gateway.addresses.recipients.port}`)
    await pause(50)
    await dispatcher.publishAsync(LIGHTS, 'on', { qos: 1 })
    await first.stop()
    folder.edit('gateway.yaml', (text) => text.replace(DOWNLINK, ''))
    await (await Stage.open({ folder })).stop()
    folder.edit('gateway.yaml', (text) => `${text}\n${DOWNLINK}`)
    const last = await Stage.open({ folder })
    open.push(() => last.close())
    const back = await listening(last.gateway.addresses.terminals.port, 'SN-1001')
    await pause(50)
    expect(back.texts()).toEqual([])
  })
})

// -------------------------------------------------------------------------------------------------------------------------- kill -9

/** PARAPET_RUNS=20 is the long form. */
const ROUNDS = Number(process.env['PARAPET_RUNS'] ?? 1)

/** A gateway in a process of its own that may be killed and started again on its folder. */
class Box {
  readonly folder: Folder
  /** Free ones at each start: a port that a killed gateway leaves may be somebody else's a moment later. */
  #ports: readonly number[] = []
  #child: ChildProcess | undefined

  constructor(folder: Folder) {
    this.folder = folder
  }

  get terminals(): number {
    return this.#ports[0] ?? 0
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.#ports[1] ?? 0}`
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [join(PROJECT, 'src/main.ts'), 'serve', '--trial', '--config', this.folder.file('gateway.yaml'), ...FREE_PORTS.flatMap((one) => ['--set', one])], { stdio: ['ignore', 'pipe', 'ignore'] })
    this.#child = child
    let banner = ''
    child.stdout.on('data', (piece: Buffer) => {
      banner += piece.toString()
      this.#ports = [...banner.matchAll(/(?:mqtt|http):\/\/127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]))
    })
    this.#ports = []
    await until(() => this.#ports.length >= 3, 'the gateway to serve', 30_000)
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined) return
    const gone = new Promise((resolve) => void child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }
}

async function boxFor(): Promise<Box> {
  const folder = folderFor()
  const box = new Box(folder)
  open.push(() => folder.remove(), () => box.kill())
  await box.start()
  return box
}

describe('over kill -9', () => {
  it('what was acknowledged to the sender arrives, in order, and nothing that the terminal has acknowledged comes again', async () => {
    const box = await boxFor()
    const first = await listening(box.terminals, 'SN-1001')
    const dispatcher = await sender(box.url)
    for (const id of [1, 2, 3]) await dispatcher.publishAsync(LIGHTS, `c${id}`, { qos: 1 })
    await until(() => first.got.length === 3, 'three commands')
    // Their acknowledgements are in the file within a moment; nobody is promised that.
    await pause(300)
    first.client.end(true)
    await pause(100)
    // Its time to live of a second goes on while nothing runs.
    const hasty = await sender(box.url, 'site-planner')
    await hasty.publishAsync(LIGHTS, 'old', { qos: 1 })
    for (let id = 4; id <= 40; id++) await dispatcher.publishAsync(LIGHTS, `c${id}`, { qos: 1 })
    await box.kill()
    await pause(1_000)
    // Not one of them lies there in clear.
    for (const name of readdirSync(box.folder.data).filter((one) => one.startsWith('outbox'))) expect(readFileSync(join(box.folder.data, name)).includes('settings/lights')).toBe(false)
    await box.start()
    const again = await sender(box.url)
    await again.publishAsync(LIGHTS, 'c41', { qos: 1 })
    const back = await listening(box.terminals, 'SN-1001')
    await until(() => back.got.length >= 38, 'what waited')
    await pause(100)
    expect(back.texts()).toEqual(Array.from({ length: 38 }, (_, index) => `${LIGHTS} c${index + 4}`))
  }, 60_000)

  it('in the middle of it: at most the unacknowledged come again, as a suffix, and none is missing', async () => {
    const box = await boxFor()
    const seen: string[] = []
    let sent = 0
    for (let round = 0; round < ROUNDS; round++) {
      const terminal = await listening(box.terminals, 'SN-1001')
      const dispatcher = await sender(box.url)
      const acknowledged: number[] = []
      for (let n = 0; n < 25; n++) {
        const id = ++sent
        dispatcher.publishAsync(LIGHTS, `c${id}`, { qos: 1 }).then(() => acknowledged.push(id), () => undefined)
        if (n % 5 === 0) await pause(3)
      }
      await until(() => acknowledged.length > 5, 'some acknowledgements')
      await box.kill()
      terminal.client.end(true)
      dispatcher.end(true)
      seen.push(...terminal.texts())
      await box.start()
      // Nothing that the sender was told is safe may be missing; what it was not told may be.
      const back = await listening(box.terminals, 'SN-1001')
      const missing = (): number[] => acknowledged.filter((id) => ![...seen, ...back.texts()].includes(`${LIGHTS} c${id}`))
      await until(() => missing().length === 0, `commands ${missing().join()} of round ${round}`, 5_000)
      await pause(100)
      const numbers = back.texts().map((text) => Number(text.slice(text.lastIndexOf('c') + 1)))
      // In order, and each at most once on a connection.
      expect(numbers).toEqual([...new Set(numbers)].toSorted((one, other) => one - other))
      seen.push(...back.texts())
      back.client.end(true)
      await pause(100)
    }
  }, 60_000 + ROUNDS * 30_000)
})
