/**
 * config/deploy: the container set-up, the broker beside it and the service unit. What they promise is read from their text; the commands
 * in them are run as they stand there, with their folders and ports replaced.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { Cloud } from '../outlet/cloud.ts'

const root = resolve(import.meta.dirname, '../..')
const deploy = join(root, 'config/deploy')
const read = (name: string): string => readFileSync(join(deploy, name), 'utf8')
const place = mkdtempSync(join(tmpdir(), 'parapet-deploy-'))
const children: ChildProcess[] = []
afterAll(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await new Promise((ended) => {
    child.once('exit', ended)
    child.kill('SIGKILL')
  })
  rmSync(place, { recursive: true, force: true })
})

interface Service {
  readonly image: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command: readonly string[]
  readonly user: string
  readonly network_mode?: string
  readonly networks?: readonly string[]
  readonly ports?: unknown
  readonly privileged?: unknown
  readonly cap_add?: unknown
  readonly environment?: unknown
  readonly read_only: boolean
  readonly cap_drop: readonly string[]
  readonly security_opt: readonly string[]
  readonly tmpfs: readonly string[]
  readonly volumes: readonly string[]
  readonly pids_limit: number
  readonly mem_limit: string
  readonly restart: string
  readonly healthcheck: { readonly test: readonly string[] }
}

const compose = parse(read('docker-compose.yaml')) as { readonly services: Readonly<Record<'cloud' | 'gateway', Service>>; readonly volumes: Readonly<Record<string, unknown>>; readonly networks: Readonly<Record<string, { readonly internal: boolean }>> }
const { cloud, gateway } = compose.services
const gatewayFile = parse(read('gateway.yaml')) as { readonly listen: Readonly<Record<string, { readonly host: string; readonly port: number }>>; readonly bridges: { readonly cloud: { readonly url: string } } }
const version = (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string }).version
/** `listener 18830 127.0.0.1` -> ['listener', '18830 127.0.0.1'] */
const broker = read('mosquitto.conf').split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => [line.split(' ')[0]!, line.split(' ').slice(1).join(' ')] as const)

describe('docker-compose.yaml', () => {
  test.each(Object.entries(compose.services))('%s can do no more than it must', (_name, service) => {
    expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'], restart: 'unless-stopped' })
    expect(service.user).toMatch(/^[1-9]\d*:[1-9]\d*$/)
    expect(service.pids_limit).toBeGreaterThan(0)
    expect(service.mem_limit).toMatch(/^\d+[mg]$/)
    // Loopback is all there is; a secret has no place in an environment that `docker inspect` shows.
    for (const key of ['ports', 'privileged', 'cap_add', 'environment'] as const) expect(service[key]).toBeUndefined()
  })

  test('the gateway is this project\'s image, of this version, under the user and with the health check of the image', () => {
    const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8').replace(/\\\n\s*/g, '')
    expect(resolve(deploy, gateway.build?.context ?? '')).toBe(root)
    expect(existsSync(join(root, gateway.build?.dockerfile ?? ''))).toBe(true)
    expect(gateway.image).toBe(`parapet:${version}`)
    expect(gateway.user).toBe(/^USER (.*)$/m.exec(dockerfile)?.[1])
    expect(gateway.healthcheck.test).toEqual(['CMD', ...(JSON.parse(/^HEALTHCHECK .* CMD (\[.*\])$/m.exec(dockerfile)?.[1] ?? '[]') as string[])])
    expect(gateway.healthcheck.test.join(' ')).toContain(`:${gatewayFile.listen['admin']?.port}/healthz`)
    expect(gateway.volumes).toEqual([`${Object.keys(compose.volumes)[0]}:${(JSON.parse(/^VOLUME (.*)$/m.exec(dockerfile)?.[1] ?? '[]') as string[])[0]}`])
  })

  test('gateway and cloud meet on loopback of one namespace that has no way out', () => {
    expect(gateway.network_mode).toBe('service:cloud')
    expect(cloud.networks?.map((name) => compose.networks[name]?.internal)).toEqual([true])
    expect(Object.values(gatewayFile.listen).map(({ host }) => host)).toEqual(['127.0.0.1', '127.0.0.1', '127.0.0.1'])
    const [, listener] = broker.find(([option]) => option === 'listener') ?? []
    const [port, host] = (listener ?? '').split(' ')
    expect(gatewayFile.bridges.cloud.url).toBe(`mqtt://${host}:${port}`)
    expect(cloud.healthcheck.test.join(' ')).toContain(`-h ${host} -p ${port}`)
    // One namespace, so no port twice.
    const ports = [...Object.values(gatewayFile.listen).map((one) => one.port), Number(port)]
    expect(new Set(ports).size).toBe(ports.length)
  })

  test('what it mounts exists, and every command in its head is one', () => {
    for (const [from = ''] of cloud.volumes.map((text) => text.split(':'))) expect(existsSync(join(deploy, from))).toBe(true)
    expect(cloud.volumes.every((text) => text.endsWith(':ro'))).toBe(true)
    expect(cloud.command.at(-1)).toBe(cloud.volumes[0]?.split(':')[1])
    const commands = [...read('docker-compose.yaml').matchAll(/exec gateway node (src\/main\.ts \w+)((?: --[a-z-]+)?)/g)]
    expect(commands.map(([, words]) => words)).toEqual(['src/main.ts simulate', 'src/main.ts status'])
    for (const [, words = '', option = ''] of commands) {
      const { stdout, status } = spawnSync(process.execPath, [...words.split(' '), '--help'], { cwd: root, encoding: 'utf8' })
      expect(status).toBe(0)
      expect(stdout).toContain(option.trim())
    }
  })

  test('mosquitto.conf has options of Mosquitto 2.0 alone, and nobody but loopback is anonymous', () => {
    // [mosquitto.conf(5), 2.0]
    const known = ['listener', 'allow_anonymous', 'persistence', 'max_inflight_messages', 'max_queued_messages', 'max_packet_size', 'log_dest', 'log_type']
    expect(broker.map(([option]) => option).filter((option) => !known.includes(option))).toEqual([])
    expect(broker.filter(([option]) => option === 'listener').map(([, value]) => value.split(' ')[1])).toEqual(['127.0.0.1'])
  })

  test('the gateway\'s command serves, and a message reaches the cloud', async () => {
    const fake = await Cloud.open()
    const app = join(place, 'app')
    for (const name of ['src', 'proto', 'config', 'package.json']) cpSync(join(root, name), join(app, name), { recursive: true, filter: (source) => !source.startsWith(join(root, 'config/data')) })
    symlinkSync(join(root, 'node_modules'), join(app, 'node_modules'))
    const { words, ports } = await withFreePorts(gateway.command.slice(1).map((word) => word.replace('/data/', `${place}/data/`)))
    expect(gateway.command[0]).toBe('node')
    const served = start([...words, '--set', `bridges.cloud.url=${fake.url}`], app)
    await expect.poll(served.said, { timeout: 30_000 }).toMatch(/depot-trial is ready/)

    const sent = spawnSync(process.execPath, ['src/main.ts', 'simulate', '--machines', '1', '--seconds', '3', '--rate', '10', '--url', `mqtt://127.0.0.1:${ports.terminals}`], { cwd: app, encoding: 'utf8', timeout: 30_000 })
    expect(sent.status, sent.stderr).toBe(0)
    await expect.poll(() => fake.got.length, { timeout: 10_000 }).toBeGreaterThan(0)
    for (const { topic } of fake.got) expect(topic).toMatch(/^out\/service\/status\/[A-Za-z0-9_-]{22}$/)
    expect(Buffer.concat(fake.heard).toString('latin1')).not.toMatch(/SN-10\d\d/)
    served.child.kill('SIGTERM')
    expect(await served.ended).toBe(0)
    await fake.stop()
  }, 60_000)
})

describe('parapet.service', () => {
  const text = read('parapet.service')
  /** Section -> key -> values, in order. */
  const unit = new Map<string, Map<string, string[]>>()
  let section = new Map<string, string[]>()
  for (const line of text.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
    const head = /^\[(\w+)\]$/.exec(line)?.[1]
    if (head !== undefined) {
      unit.set(head, (section = new Map()))
      continue
    }
    const [, key = '', value = ''] = /^(\w+)=(.*)$/.exec(line) ?? []
    section.set(key, [...(section.get(key) ?? []), value])
  }
  const of = (key: string, from = 'Service'): string[] => unit.get(from)?.get(key) ?? []

  test('runs as a user of its own in a cage: two folders to write, no capability, no core dump', () => {
    expect([...unit.keys()]).toEqual(['Unit', 'Service', 'Install'])
    expect(Object.fromEntries(unit.get('Service') ?? [])).toMatchObject({
      User: ['parapet'], StateDirectory: ['parapet'], StateDirectoryMode: ['0700'], CacheDirectory: ['parapet'], CacheDirectoryMode: ['0700'], UMask: ['0077'],
      NoNewPrivileges: ['yes'], CapabilityBoundingSet: [''], AmbientCapabilities: [''], ProtectSystem: ['strict'], ProtectHome: ['yes'], PrivateTmp: ['yes'], PrivateDevices: ['yes'],
      RestrictAddressFamilies: ['AF_INET AF_INET6 AF_UNIX'], RestrictNamespaces: ['yes'], SystemCallArchitectures: ['native'], SystemCallFilter: ['@system-service', '~@privileged'],
      LimitCORE: ['0'], LimitNOFILE: ['65536'], Restart: ['always'], ExecReload: ['/bin/kill -HUP $MAINPID'],
    })
    // A JIT needs pages that are written and then executed.
    expect(of('MemoryDenyWriteExecute')).toEqual([])
    expect(of('StartLimitIntervalSec', 'Unit')).toEqual(['0'])
    expect(of('WantedBy', 'Install')).toEqual(['multi-user.target'])
  })

  test('serves, reads its files again when told to, and stops; it writes to its two folders alone', async () => {
    // The folders of the unit, here.
    const at: readonly (readonly [string, string])[] = [['/opt/parapet/node_modules/.bin/node', process.execPath], ['/opt/parapet/node_modules/parapet', root], ['/etc/parapet', join(place, 'etc')], ['/var/lib/parapet', join(place, 'state')], ['/var/cache/parapet', join(place, 'cache')]]
    const here = (word: string): string => at.reduce((all, [from, to]) => all.replace(from, to), word)
    mkdirSync(join(place, 'etc/config/rules'), { recursive: true })
    // As its head says: cp -r …/proto, and …/config/{*.yaml,rules}
    cpSync(join(root, 'proto'), join(place, 'etc/proto'), { recursive: true })
    for (const name of readdirSync(join(root, 'config')).filter((one) => one.endsWith('.yaml'))) cpSync(join(root, 'config', name), join(place, 'etc/config', name))
    cpSync(join(root, 'config/rules/awp.yaml'), join(place, 'etc/config/rules/awp.yaml'))
    const before = (readdirSync(join(place, 'etc'), { recursive: true, encoding: 'utf8' })).toSorted()
    const [program, ...given] = (of('ExecStart')[0] ?? '').split(' ').map(here)
    expect(program).toBe(process.execPath)
    expect(existsSync(given[0] ?? '')).toBe(true)
    const { words, ports } = await withFreePorts(given)
    const env = Object.fromEntries(of('Environment').flatMap((line) => line.split(' ')).map((pair) => [pair.split('=')[0]!, here(pair.slice(pair.indexOf('=') + 1))]))
    const served = start(words, place, env)
    await expect.poll(served.said, { timeout: 30_000 }).toMatch(/depot-7 runs, but is not ready/)

    // As its head says: somebody approves the first rules.
    const [, command = ''] = /^# {3}parapet (rules activate .*)$/m.exec(text) ?? []
    const approval = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => here(quoted ?? plain ?? ''))
    const approved = spawnSync(process.execPath, [join(root, 'src/main.ts'), ...approval, '--url', `http://127.0.0.1:${ports.admin}`], { cwd: place, encoding: 'utf8' })
    expect(approved.status, approved.stderr).toBe(0)
    expect((await fetch(`http://127.0.0.1:${ports.admin}/readyz`)).status).toBe(200)

    served.child.kill('SIGHUP')
    writeFileSync(join(place, 'etc/config/machines.yaml'), 'SN-1: { fleet: [ }\n')
    served.child.kill('SIGHUP')
    await expect.poll(async () => (await fetch(`http://127.0.0.1:${ports.admin}/readyz`)).text(), { timeout: 20_000 }).toContain('REGISTRY-REFUSED')
    served.child.kill('SIGTERM')
    expect(await served.ended).toBe(0)
    expect((readdirSync(join(place, 'etc'), { recursive: true, encoding: 'utf8' })).toSorted()).toEqual(before)
    expect(readdirSync(join(place, 'state'))).toContain('ledger.db')
    expect(statSync(join(place, 'state')).mode & 0o777).toBe(0o700)
    expect(readdirSync(join(place, 'cache')).length).toBeGreaterThan(0)
  }, 60_000)

  test.skipIf(spawnSync('systemd-analyze', ['--version']).status !== 0)('systemd has no objection, and calls the exposure OK', () => {
    const file = join(place, 'parapet.service')
    // Its program need not be installed here.
    writeFileSync(file, text.replaceAll('/opt/parapet/node_modules/.bin/node', process.execPath))
    expect(spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' }).stderr).toBe('')
    const rated = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=20', '--no-pager', file], { encoding: 'utf8' })
    expect(rated.status, rated.stdout.split('\n').slice(-3).join('\n')).toBe(0)
  })
})

function start(words: readonly string[], cwd: string, env: Readonly<Record<string, string>> = {}): { readonly child: ChildProcess; readonly said: () => string; readonly ended: Promise<unknown> } {
  const child = spawn(process.execPath, words, { cwd, env: { PATH: process.env['PATH'] ?? '', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
  return { child, said: () => said, ended: new Promise((done) => child.once('exit', done)) }
}

async function withFreePorts(words: readonly string[]): Promise<{ readonly words: readonly string[]; readonly ports: Readonly<Record<'terminals' | 'recipients' | 'admin', number>> }> {
  const ports = { terminals: await freePort(), recipients: await freePort(), admin: await freePort() }
  return { words: [...words, ...Object.entries(ports).flatMap(([name, port]) => ['--set', `listen.${name}.port=${port}`])], ports }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as { port: number }
  await new Promise<void>((closed) => server.close(() => closed()))
  return port
}
