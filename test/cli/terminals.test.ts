/** The simulated terminals on the wire: against a real gateway, and against a broker that goes away. */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Aedes } from 'aedes'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { connectTerminals } from '../../src/cli/simulate/terminals.ts'
import type { Message } from '../../src/cli/simulate/machine.ts'
import { loadGateway } from '../../src/config/gateway.ts'
import { createGateway } from '../../src/gateway.ts'
import type { Gateway } from '../../src/gateway.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { testIo } from './io.ts'

const root = resolve(import.meta.dirname, '../..')
const schemas = loadSchemas([join(root, 'proto')])
const table = { simulate: () => import('../../src/cli/simulate.ts') }

async function simulate(line: string): Promise<{ code: number; out: string; err: string }> {
  const io = testIo()
  const code = await runCommand(['simulate', ...line.split(' ').filter((word) => word !== '')], io, table)
  return { code, out: io.out(), err: io.err() }
}

describe('a real gateway', () => {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-simulate-'))
  const file = join(folder, 'gateway.yaml')
  let gateway: Gateway
  let url = ''

  beforeAll(async () => {
    const shipped = (name: string): string => join(root, 'config', name)
    const free = { host: '127.0.0.1', port: 0 }
    writeFileSync(file, JSON.stringify({
      name: 'test', tenant: 'test', data: './data', rules: shipped('rules/awp.yaml'), proto: [join(root, 'proto')], machines: shipped('machines.yaml'), operators: shipped('operators.yaml'), recipients: shipped('recipients.yaml'),
      listen: { terminals: free, recipients: free, admin: free },
    }))
    gateway = await createGateway(loadGateway(file, ['trial=true']).config!)
    url = `mqtt://127.0.0.1:${gateway.addresses.terminals.port}`
  })
  afterAll(async () => {
    await gateway.close()
    rmSync(folder, { recursive: true })
  })

  test('takes a fast shift: all is acknowledged, each output gets or withholds its part', async () => {
    const { code, out } = await simulate(`--config ${file} --url ${url} --machines 4 --seconds 3 --speed 40`)
    expect(out).toContain(`4 of 4 terminals are connected to ${url}; seed 1, 40 times as fast.`)
    expect(out).toContain('Operator log-ins and the platform channels (height, tilt, load) are generated')
    const [, acked, asked] = /(\d+) of (\d+) messages of QoS 1 and 2 were acknowledged\./.exec(out) ?? []
    expect([code, acked]).toEqual([0, asked])
    expect(Number(asked)).toBeGreaterThan(300)
    const outputs = new Map<string, ReturnType<typeof gateway.control.outputs>[number]>(gateway.control.outputs().map((one) => [one.id, one]))
    // Nobody of this shift was asked anything: statistics and app stay shut, contract and law do not.
    expect(outputs.get('service-cloud')!.forwarded).toBeGreaterThan(300)
    expect(outputs.get('rental-billing')!.forwarded).toBeGreaterThan(300)
    expect(outputs.get('safety-record')!.forwarded).toBeGreaterThan(0)
    expect([outputs.get('site-planning')!.forwarded, outputs.get('operator-app')!.forwarded]).toEqual([0, 0])
    expect(outputs.get('site-planning')!.withheld.closed).toBeGreaterThan(300)
  })

  test('people sign off when the simulation ends', async () => {
    await simulate(`--config ${file} --url ${url} --machines 4 --seconds 1 --speed 20`)
    expect(gateway.control.sessions()).toEqual([])
  })

  // prettier-ignore
  test.each([
    ['--machines 11',                         2, 'The registry admits 10 machines by name, not 11.'],
    ['--machines 0',                          2, '--machines is a number from 1'],
    ['--machines 1.5',                        2, '--machines is a whole number.'],
    ['--rate 3 --speed 2',                    2, 'Give --rate or --speed, not both'],
    ['--url http://x',                        2, '--url is an address such as mqtt://127.0.0.1:1883.'],
    ['--url mqtt://127.0.0.1:1 --seconds 1',  1, 'No gateway answers at mqtt://127.0.0.1:1. Start one with npm start'],
    ['--data /parapet/nothing --seconds 1',   1, 'The folder /parapet/nothing does not exist.'],
  ])('%s -> %i', async (line, code, text) => {
    const result = await simulate(`--config ${file} ${line}`)
    expect([result.code, result.out]).toEqual([code, ''])
    expect(result.err).toContain(text)
  })
})

describe('a broker', () => {
  const closing: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0)) await close()
  })

  interface Stub { readonly port: number; readonly got: { readonly topic: string; readonly seq: number; readonly late: boolean }[]; stop(): Promise<void> }

  async function broker(port: number): Promise<Stub> {
    const got: Stub['got'] = []
    const aedes = await Aedes.createBroker({
      authenticate: (_client, username, _password, done) => done(null, username !== 'SN-LOCKED'),
      authorizePublish: (_client, packet, done) => {
        const { seq, historical } = schemas.decode('awp.v1.Status', packet.payload as Buffer)
        got.push({ topic: packet.topic, seq: Number(seq ?? 0), late: historical === true })
        done(null)
      },
    })
    const sockets = new Set<Socket>()
    const server: Server = createServer((socket) => {
      sockets.add(socket)
      aedes.handle(socket)
    })
    await new Promise<void>((ready) => server.listen(port, '127.0.0.1', ready))
    return {
      port: (server.address() as { port: number }).port, got,
      async stop() {
        for (const socket of sockets) socket.destroy()
        await new Promise<void>((ended) => server.close(() => ended()))
        await new Promise<void>((ended) => aedes.close(ended))
      },
    }
  }

  const message = (seq: number, atMs: number): Message => ({ machine: 'SN-1', stream: 'status', type: 'awp.v1.Status', topic: 'up/f/SN-1/status', qos: 1, atMs, body: { machine_id: 'SN-1', time_ms: atMs, seq } })

  test('that turns a machine away does not keep the others from working', async () => {
    const stub = await broker(0)
    closing.push(() => stub.stop())
    const url = `mqtt://127.0.0.1:${stub.port}`
    const terminals = await connectTerminals({ url, machines: ['SN-1', 'SN-LOCKED'], schemas })
    expect([terminals.connected, [...terminals.refused.values()]]).toEqual([1, [1]])
    await terminals.close()
    await expect(connectTerminals({ url, machines: ['SN-LOCKED'], schemas })).rejects.toThrow('lets none of the terminals in')
  })

  test('that was away gets what it missed in order, marked as late', async () => {
    const first = await broker(0)
    let now = 1_000_000
    const terminals = await connectTerminals({ url: `mqtt://127.0.0.1:${first.port}`, machines: ['SN-1'], schemas, now: () => now })
    closing.push(() => terminals.close(0))
    terminals.publish(message(1, now))
    await expect.poll(() => terminals.counts.acked).toBe(1)
    await first.stop()
    await expect.poll(() => terminals.connected).toBe(0)

    terminals.publish(message(2, now))
    now += 60_000
    terminals.publish(message(3, now))
    expect(terminals.waiting).toBe(2)
    const second = await broker(first.port)
    closing.push(() => second.stop())
    await expect.poll(() => terminals.counts.acked, { timeout: 5_000 }).toBe(3)
    expect(second.got.map(({ seq, late }) => [seq, late])).toEqual([[2, true], [3, false]])
  })

  test('that stays away is not waited for: past its bound a terminal forgets the oldest and counts it', async () => {
    const first = await broker(0)
    const terminals = await connectTerminals({ url: `mqtt://127.0.0.1:${first.port}`, machines: ['SN-1'], schemas })
    closing.push(() => terminals.close(0))
    await first.stop()
    await expect.poll(() => terminals.connected).toBe(0)
    for (let seq = 0; seq < 4_100; seq++) terminals.publish(message(seq, 1))
    expect([terminals.waiting, terminals.counts.dropped]).toEqual([4_000, 100])
  })
})
