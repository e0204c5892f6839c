/**
 * `parapet demo`: a gateway, a simulated fleet and every recipient in one process, over real MQTT connections, for a minute.
 * It shows what one terminal sends beside what each recipient receives, while consent is given and withdrawn.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { GatewayError } from '../domain/errors.ts'
import { columns, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import type { GatewayClient } from './client.ts'
import type { OutputTopic } from './demo/recipients.ts'
import type { Scene } from './demo/scene.ts'
import type { Caption, Line, Painter } from './demo/screen.ts'
import type { Stage, Step } from './demo/story.ts'
import type { Card } from './simulate/roster.ts'
import type { Message } from './simulate/machine.ts'
import type { TerminalCounts } from './simulate/terminals.ts'

export const command: Command = {
  name: 'demo',
  summary: 'a gateway, a fleet and all recipients, side by side for a minute',
  usage: ['[--seconds N]'],
  options: [{ name: 'seconds', arg: 'N', text: 'how long, 5 to 3600; default 60' }],
  notes: 'Uses free ports on 127.0.0.1 and a temporary folder, and leaves nothing behind. People, cards and machines are invented.\n'
    + 'On a terminal the picture is redrawn; elsewhere it is printed before every step. NO_COLOR turns colours off.',
  async run(args, io) {
    const totalS = secondsOf(args)
    const folder = mkdtempSync(join(tmpdir(), 'parapet-demo-'))
    try {
      return await perform(totalS, folder, io)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
}

const CONFIG = fileURLToPath(new URL('../../config/', import.meta.url))
const PROTO = fileURLToPath(new URL('../../proto', import.meta.url))
const FOCUS = 'SN-1001'
const SEED = 7
const TURN_MS = 100
const FRAME_MS = 200
const WIDTH = 100
const HEIGHT = 40
/** How long the demo waits for the service cloud's name of the machine in focus before the other machines start. */
const ALONE_MS = 4_000

function secondsOf(args: Args): number {
  const given = args.get('seconds')
  if (given === undefined) return 60
  const seconds = Number(given)
  if (given.trim() === '' || !(seconds >= 5 && seconds <= 3600)) throw new UsageError('--seconds is a number from 5 to 3600.')
  return seconds
}

/** The whole evening: doors open, the story, the bill. */
async function perform(totalS: number, folder: string, io: Io): Promise<number> {
  const [{ createGateway }, { loadGateway }, { gatewayClient }, { loadSchemas }, { readRoster }, { createMachine }, { chance }, { createShift }, { connectTerminals }, { subscribeAll }, { createScene }, screen, story] = await Promise.all([
    import('../gateway.ts'), import('../config/gateway.ts'), import('./client.ts'), import('../minimise/descriptor.ts'), import('./simulate/roster.ts'), import('./simulate/machine.ts'), import('./simulate/random.ts'),
    import('./simulate/shift.ts'), import('./simulate/terminals.ts'), import('./demo/recipients.ts'), import('./demo/scene.ts'), import('./demo/screen.ts'), import('./demo/story.ts'),
  ])
  const file = join(folder, 'gateway.yaml')
  writeFileSync(file, gatewayFile())
  const { config, findings } = loadGateway(file, ['trial=true'])
  if (config === undefined) throw new GatewayError('CONFIG-FILE', findings[0]?.text ?? 'The gateway file of the demo is not usable.')
  const roster = readRoster(folder, file, Date.now())
  const spec = roster.machines.find(({ id }) => id === FOCUS)
  const [anna, ben] = ['op-anna', 'op-ben'].map((operator) => roster.cards.find((card) => card.operator === operator))
  if (spec === undefined || anna === undefined || ben === undefined) throw new GatewayError('CONFIG-FILE', `The demo needs ${FOCUS} in config/machines.yaml and op-anna and op-ben in config/operators.yaml.`)

  const closing: (() => Promise<unknown> | void)[] = []
  const stopping = new AbortController()
  const stop = (): void => stopping.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  closing.push(() => {
    process.removeListener('SIGINT', stop)
    process.removeListener('SIGTERM', stop)
  })

  try {
    const gateway = await createGateway(config)
    closing.unshift(() => gateway.close())
    const { terminals, recipients, admin } = gateway.addresses
    const api = gatewayClient(optionsOf({ url: `http://127.0.0.1:${admin.port}`, 'token-file': gateway.adminTokenFile }), io)
    const { outputs } = await api.request<{ outputs: readonly OutputTopic[] }>('GET', '/v1/outputs')
    const schemas = loadSchemas([PROTO])
    const scene = createScene(FOCUS, new Set(roster.machines.map(({ id }) => id)), story.STATUS_OUTPUTS.flatMap((id) => outputs.filter((one) => one.id === id).map((one) => ({ output: id, recipient: one.recipient }))))
    const subscribers = await subscribeAll(`mqtt://127.0.0.1:${recipients.port}`, outputs, schemas, (received) => scene.noteReceived(received))
    closing.unshift(() => subscribers.close())
    const fleet = await connectTerminals({ url: `mqtt://127.0.0.1:${terminals.port}`, machines: roster.machines.map(({ id }) => id), schemas })
    closing.unshift(() => fleet.close())
    for (const operator of ['op-anna', 'op-ben']) await api.request('POST', `/v1/operators/${operator}/notice`, {})
    for (const { operator, purpose } of story.BEFORE) await changeConsent(api, operator, purpose, 'granted')

    const publish = (messages: readonly Message[]): void => {
      for (const message of messages) scene.noteSent(message, fleet.publish(message).length)
    }
    const lift = createMachine(spec, chance(`${SEED}/${FOCUS}`))
    const others = createShift({
      machines: roster.machines.filter(({ id }) => id !== FOCUS), cards: roster.cards.filter((card) => card !== anna && card !== ben), seed: SEED, startMs: Date.now() + ALONE_MS,
    })
    const stage: Stage = {
      signOn: (who) => publish(lift.signOn(who === 'anna' ? anna : ben, Date.now())),
      signOff: () => publish(lift.signOff(Date.now())),
      check: () => publish(lift.check(Date.now())),
      overload: () => publish(lift.raise('overload', Date.now())),
      consent: (operator, purpose, state) => changeConsent(api, operator, purpose, state),
    }

    const status = schemas.message('awp.v1.Status')!
    const colour = io.stdout.isTTY === true && (io.env['NO_COLOR'] ?? '') === '' && io.env['TERM'] !== 'dumb'
    const live = io.stdout.isTTY === true && io.env['TERM'] !== 'dumb' ? screen.painter(io.stdout, colour) : undefined
    closing.unshift(() => live?.close())
    const picture = (elapsedS: number, caption: Caption, width: number, height: number): Line[] =>
      screen.frame({ scene, elapsedS, totalS, nowMs: Date.now(), person: personOn(lift.person as Card | undefined), caption, status }, width, height)

    publish(lift.connect(Date.now()))
    await play({
      totalS, steps: story.STORY, stretch: totalS / story.MINUTE_S, stage, stopped: () => stopping.signal.aborted, live,
      turn: (second) => {
        if (second) publish(lift.tick(Date.now()))
        if (scene.knows('service-cloud')) publish(others.advance(Date.now()))
      },
      draw: (elapsedS, caption) => live?.draw(picture(elapsedS, caption, live.width, live.height)),
      print: (elapsedS, caption) => {
        if (live === undefined) io.stdout.write(`${picture(elapsedS, caption, WIDTH, HEIGHT).map((line) => screen.paint(line, WIDTH, false)).join('\n')}\n${'-'.repeat(WIDTH)}\n`)
      },
    })
    await fleet.close()
    live?.close()
    const after = await api.request<{ outputs: readonly OutputCount[] }>('GET', '/v1/outputs')
    io.stdout.write(`${bill(scene, fleet.counts, after.outputs, screen.kilo).join('\n')}\n`)
    return 0
  } finally {
    for (const close of closing) await close()
  }
}

/** The shipped rules and registries, a fresh data folder beside this file, any free ports. */
function gatewayFile(): string {
  const shipped = (name: string): string => join(CONFIG, name)
  return JSON.stringify({
    name: 'demo', tenant: 'demo', data: './data', rules: shipped('rules/awp.yaml'), proto: [PROTO], machines: shipped('machines.yaml'), operators: shipped('operators.yaml'), recipients: shipped('recipients.yaml'),
    listen: { terminals: { host: '127.0.0.1', port: 0 }, recipients: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  })
}

function optionsOf(values: Readonly<Record<string, string>>): Args {
  return { action: '', words: [], has: (name) => name in values, get: (name) => values[name], all: () => [] }
}

function personOn(card: Card | undefined): string {
  return card === undefined ? 'nobody signed on' : `${card.name} signed on with card ${card.card}`
}

interface Receipt {
  readonly seq: number
  readonly purged: number
  readonly swapped: number
  readonly on_the_wire: number
}

async function changeConsent(api: GatewayClient, operator: string, purpose: string, state: 'granted' | 'withdrawn'): Promise<string> {
  const began = performance.now()
  const evidence = state === 'granted' ? { evidence: 'demo, shown on the display of the lift' } : {}
  const receipt = await api.request<Receipt>('POST', `/v1/operators/${operator}/consent`, { purpose, state, ...evidence })
  const removed = state === 'withdrawn' ? `; ${receipt.purged} queued messages removed, ${receipt.on_the_wire} already on the wire` : ''
  return `Answer of the gateway: ${purpose} is ${state}, in the ledger as event ${receipt.seq} and in force after ${Math.ceil(performance.now() - began)} ms${removed}.`
}

interface Play {
  readonly totalS: number
  readonly steps: readonly Step[]
  readonly stretch: number
  readonly stage: Stage
  readonly live: Painter | undefined
  readonly stopped: () => boolean
  /** Called ten times a second; `second` once a second. */
  readonly turn: (second: boolean) => void
  readonly draw: (elapsedS: number, caption: Caption) => void
  /** Called with the end of every step. */
  readonly print: (elapsedS: number, caption: Caption) => void
}

async function play({ totalS, steps, stretch, stage, stopped, turn, draw, print }: Play): Promise<void> {
  const began = performance.now()
  const elapsed = (): number => (performance.now() - began) / 1000
  let caption: Caption = steps[0]!.caption
  let next = 0
  let seconds = -1
  let drawnMs = 0
  while (!stopped() && elapsed() < totalS) {
    const step = steps[next]
    if (step !== undefined && elapsed() >= step.atS * stretch) {
      if (next > 0) print(elapsed(), caption)
      caption = step.caption
      next += 1
      const answer = await step.act(stage)
      if (answer !== undefined) caption = { ...caption, answer }
    }
    const second = Math.floor(elapsed()) > seconds
    if (second) seconds = Math.floor(elapsed())
    turn(second)
    if (performance.now() - drawnMs >= FRAME_MS) {
      draw(elapsed(), caption)
      drawnMs = performance.now()
    }
    await new Promise((resolve) => setTimeout(resolve, TURN_MS))
  }
  print(Math.min(totalS, elapsed()), caption)
}

interface OutputCount {
  readonly id: string
  readonly recipient: string
  readonly forwarded: number
  readonly withheld: Readonly<Record<string, number>>
}

const REASONS: Readonly<Record<string, string>> = {
  closed: 'no valid yes', forbidden: 'forbidden in the country', empty: 'nothing permitted left', when_false: 'condition not met', required_missing: 'a required field was missing', no_subscriber: 'nobody connected',
}

/** What went in and what came out, in the end. */
function bill(scene: Scene, counts: Readonly<TerminalCounts>, outputs: readonly OutputCount[], kilo: (bytes: number) => string): string[] {
  const got = (id: string): { readonly messages: number; readonly bytes: number } => scene.received.get(id) ?? { messages: 0, bytes: 0 }
  const silent = ['signals', 'can', 'track'].map((stream) => scene.sent.get(stream)?.bytes ?? 0).reduce((sum, bytes) => sum + bytes, 0)
  return [
    '',
    `The terminals sent ${counts.sent} messages, ${kilo(counts.bytes)}; ${counts.acked} of ${counts.asked} that ask for an acknowledgement have it.`,
    '',
    ...columns([
      ['recipient', 'output', 'received', 'bytes', 'withheld, and why'],
      ...outputs.map(({ id, recipient, withheld }) => [
        recipient, id, String(got(id).messages), kilo(got(id).bytes),
        Object.entries(withheld).filter(([, count]) => count > 0).map(([reason, count]) => `${count} ${REASONS[reason] ?? reason}`).join(', ') || 'nothing',
      ]),
    ], ' '),
    '',
    `No output names bus frames, raw signals or tracks: ${kilo(silent)} of ${kilo(counts.bytes)} stayed at the gateway for that alone.`,
    'Next: npm start, then the tour in README.md.',
  ]
}
