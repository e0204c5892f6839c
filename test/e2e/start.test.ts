/** `parapet serve` as a process of its own: quick to start, quick to stop, private files, and nothing lost when it is killed. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Folder, FREE_PORTS, PROJECT, encode, until } from './stage.ts'

class Serve {
  readonly child: ChildProcess
  readonly exited: Promise<number | NodeJS.Signals | null>
  readonly #began = performance.now()
  out = ''
  err = ''

  constructor(folder: Folder, set: readonly string[] = FREE_PORTS) {
    // Elsewhere than in the project, as a service manager would start it.
    this.child = spawn(process.execPath, [join(PROJECT, 'src/main.ts'), 'serve', '--trial', '--config', folder.file('gateway.yaml'), ...set.flatMap((one) => ['--set', one])], { cwd: folder.path, stdio: ['ignore', 'pipe', 'pipe'] })
    running.add(this.child)
    this.child.stdout?.on('data', (chunk: Buffer) => void (this.out += chunk.toString()))
    this.child.stderr?.on('data', (chunk: Buffer) => void (this.err += chunk.toString()))
    this.exited = new Promise((done) => void this.child.once('exit', (code, signal) => {
      running.delete(this.child)
      done(code ?? signal)
    }))
  }

  /** Address of a listener, as the start says it. */
  address(what: 'terminals publish to' | 'recipients subscribe at' | 'admin API'): string {
    return new RegExp(`^ +${what} +((?:mqtt|http)://\\S+)`, 'm').exec(this.out)?.[1] ?? ''
  }

  /** Milliseconds from the start to the first readyz that says yes. */
  async ready(): Promise<number> {
    await until(async () => {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.err}`)
      const url = this.address('admin API')
      return url !== '' && (await fetch(`${url}/readyz`)).status === 200
    }, 'readiness', 15_000)
    return performance.now() - this.#began
  }

  /** Milliseconds that a signal takes to end it, and how it ended. */
  async end(signal: NodeJS.Signals): Promise<{ readonly ms: number; readonly how: number | NodeJS.Signals | null }> {
    const began = performance.now()
    this.child.kill(signal)
    const how = await this.exited
    return { ms: performance.now() - began, how }
  }
}

const running = new Set<ChildProcess>()
const folder = new Folder({ asShipped: true })
let serve: Serve

afterAll(() => {
  for (const child of running) child.kill('SIGKILL')
  folder.remove()
})

async function client(url: string, username: string, options: { readonly clean?: boolean } = {}): Promise<MqttClient> {
  return connectAsync(url, { clientId: username, username, protocolVersion: 4, reconnectPeriod: 0, ...options })
}

async function admin<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(`${serve.address('admin API')}${path}`, {
    method, headers: { authorization: `Bearer ${readFileSync(join(folder.data, 'admin.token'), 'utf8').trim()}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return await response.json() as Answer
}

describe('the first start', () => {
  let ms: number
  beforeAll(async () => {
    serve = new Serve(folder)
    ms = await serve.ready()
  })

  it('is ready within seconds', () => {
    // Nothing but Node takes some 50 ms. On a machine so busy that it takes longer than 250, five seconds stretch likewise.
    const began = performance.now()
    spawnSync(process.execPath, ['-e', ''])
    const bare = performance.now() - began
    // About one and a half on a quiet machine; the bound is for gross regressions, also beside other work.
    expect(ms).toBeLessThan(10_000 * Math.max(1, bare / 250))
  })

  it('says what listens where and what to try next', () => {
    for (const what of ['terminals publish to', 'recipients subscribe at'] as const) expect(serve.address(what)).toMatch(/^mqtt:\/\/127\.0\.0\.1:\d+$/)
    expect(serve.out).toContain('depot-7 is ready')
    expect(serve.out).toContain('This was the first start')
    expect(serve.out).toContain('machines add')
  })

  it('shows no secret', () => {
    const said = serve.out + serve.err
    expect(said).not.toContain(readFileSync(join(folder.data, 'admin.token'), 'utf8').trim())
    for (const line of readFileSync(join(folder.data, 'root.key'), 'utf8').split('\n').filter((one) => /^[\w-]{43}$/.test(one))) expect(said).not.toContain(line)
  })

  // Fails for now: the line that the start prints for a recipient asks for `out/#`, which is refused.
  it('prints a line for a recipient that works as it stands', async () => {
    const [, recipient, url] = /npm run parapet -- subscribe (\S+) --url (\S+)/.exec(serve.out) ?? []
    const shown = spawnSync(process.execPath, ['src/main.ts', 'subscribe', recipient ?? '', '--url', url ?? '', '--seconds', '1'], { cwd: join(import.meta.dirname, '../..'), encoding: 'utf8', timeout: 20_000 })
    expect([shown.status, shown.stderr]).toEqual([0, ''])
  })

  it('keeps everything in its data folder to itself: folders 0700, files 0600, also while they are open', () => {
    const modes = (path: string): [string, string][] => [[path, (statSync(path).mode & 0o777).toString(8)], ...readdirSync(path, { withFileTypes: true }).flatMap((entry): [string, string][] => (
      entry.isDirectory() ? modes(join(path, entry.name)) : [[join(path, entry.name), (statSync(join(path, entry.name)).mode & 0o777).toString(8)]]))]
    const all = modes(folder.data)
    expect(all.length).toBeGreaterThan(10)
    expect(all.filter(([path, mode]) => mode !== (statSync(path).isDirectory() ? '700' : '600'))).toEqual([])
  })

  it('serves: a message goes in at one port and comes out at the other', async () => {
    const recipient = await client(serve.address('recipients subscribe at'), 'rental-company')
    await recipient.subscribeAsync('out/billing/+', { qos: 1 })
    const came = new Promise<string>((done) => void recipient.once('message', (topic) => done(topic)))
    const terminal = await client(serve.address('terminals publish to'), 'SN-1001')
    await terminal.publishAsync('up/demo/SN-1001/status', encode('status', { machine_id: 'SN-1001', time_ms: Date.now(), hour_meter_s: 7_200 }), { qos: 1 })
    expect(await came).toBe('out/billing/status')
    await Promise.all([recipient.endAsync(), terminal.endAsync()])
  })
})

describe('a second gateway on the same data folder', () => {
  it('does not start, and says why; the first goes on', async () => {
    const second = new Serve(folder)
    expect(await second.exited).toBe(1)
    expect(second.err).toContain('Another process')
    expect((await fetch(`${serve.address('admin API')}/readyz`)).status).toBe(200)
  })
})

describe('killed without warning', () => {
  it('what was answered is there at the next start', async () => {
    await admin('POST', '/v1/operators/op-anna/consent', { purpose: 'improve.statistics', state: 'granted', evidence: 'signed form 2026-116' })
    await admin('POST', '/v1/operators/op-ben/consent', { purpose: 'security.fraud', state: 'objected' })
    const terminal = await client(serve.address('terminals publish to'), 'SN-1001')
    await terminal.publishAsync('up/demo/SN-1001/operator', encode('operator', { machine_id: 'SN-1001', time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' }), { qos: 1 })
    const purposes = async (operator: string): Promise<unknown> => (await admin<{ purposes: unknown }>('GET', `/v1/operators/${operator}/consent`)).purposes
    const before = [await purposes('op-anna'), await purposes('op-ben')]
    const ended = await serve.end('SIGKILL')
    terminal.end(true)
    expect(ended.how).toBe('SIGKILL')

    serve = new Serve(folder)
    await serve.ready()
    expect(serve.out).not.toContain('This was the first start')
    expect([await purposes('op-anna'), await purposes('op-ben')]).toEqual(before)
    expect(before).toMatchObject([[{ purpose: 'improve.statistics', state: 'granted' }], [{ purpose: 'security.fraud', state: 'objected' }]])
    const { sessions } = await admin<{ sessions: { machine: string; operator: string }[] }>('GET', '/v1/sessions')
    expect(sessions).toMatchObject([{ machine: 'SN-1001', operator: 'op-anna' }])
  })
})

describe('the end', () => {
  it('SIGTERM: exit code 0 within two seconds, although clients are connected', async () => {
    const terminal = await client(serve.address('terminals publish to'), 'SN-1001')
    const recipient = await client(serve.address('recipients subscribe at'), 'oem-cloud', { clean: false })
    await recipient.subscribeAsync('out/service/+/+', { qos: 1 })
    const { ms, how } = await serve.end('SIGTERM')
    expect(how).toBe(0)
    expect(ms).toBeLessThan(2_000)
    for (const one of [terminal, recipient]) one.end(true)
  })
})

describe('a start that cannot be', () => {
  it('a mistake in the gateway file: exit code 1, place and mend', async () => {
    const broken = new Folder({ asShipped: true })
    broken.edit('gateway.yaml', (text) => text.replace('listen:', 'lisen:'))
    const one = new Serve(broken)
    expect(await one.exited).toBe(1)
    expect(one.err).toMatch(/gateway\.yaml:\d+:\d+ error [A-Z-]+ .*listen/)
    broken.remove()
  })

  it('a port that is taken: exit code 1, and which one', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await new Promise((done) => void taken.once('listening', done))
    const { port } = taken.address() as AddressInfo
    const one = new Serve(folder, [`listen.terminals.port=${port}`, ...FREE_PORTS.slice(1)])
    expect(await one.exited).toBe(1)
    expect(one.err).toContain(String(port))
    taken.close()
  })

  it('rules that were never accepted: it runs, is not ready, says why, and forwards nothing', async () => {
    const broken = new Folder()
    writeFileSync(broken.file('rules/awp.yaml'), 'version: 1\nstreams: nonsense\n')
    const one = new Serve(broken)
    await until(() => one.address('admin API') !== '', 'the start', 15_000)
    const response = await fetch(`${one.address('admin API')}/readyz`)
    expect([response.status, await response.json()]).toMatchObject([503, { ready: false, reasons: expect.arrayContaining([expect.objectContaining({ code: 'NO-RULES' })]) as unknown }])
    const terminal = await client(one.address('terminals publish to'), 'SN-1001')
    await terminal.publishAsync('up/demo/SN-1001/status', encode('status', { machine_id: 'SN-1001', time_ms: Date.now(), hour_meter_s: 7_200 }), { qos: 1 })
    expect(await (await fetch(`${one.address('admin API')}/metrics`)).text()).toContain('parapet_messages_refused_total{reason="no_rules"} 1')
    terminal.end(true)
    expect((await one.end('SIGTERM')).how).toBe(0)
    broken.remove()
  })
})
