/**
 * README.md is run: every block marked `sh`, in order, in a copy of the project with free ports; `sh background` keeps running.
 * A `text` block behind it is what it prints: line by line, in order, with numbers, times and keyed names left aside.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

interface Block {
  readonly line: number
  readonly script: string
  readonly background: boolean
  readonly output: string | undefined
}

const blocks: Block[] = [...readme.matchAll(/^```sh( background)?\n([^]*?)^```\n(?:```text\n([^]*?)^```\n)?/gm)].map(({ index, 1: background, 2: script, 3: output }) => ({
  line: readme.slice(0, index).split('\n').length, script: script ?? '', background: background !== undefined, output,
}))

describe('the tour', () => {
  const place = mkdtempSync(join(tmpdir(), 'parapet-readme-'))
  const running: ChildProcess[] = []
  const ports = new Map<string, string>()

  beforeAll(async () => {
    for (const name of ['src', 'proto', 'config', 'package.json', 'README.md']) cpSync(join(root, name), join(place, name), { recursive: true, filter: (source) => !source.startsWith(join(root, 'config/data')) })
    symlinkSync(join(root, 'node_modules'), join(place, 'node_modules'))
    for (const port of ['1883', '1884', '8080']) ports.set(port, String(await freePort()))
  })
  afterAll(async () => {
    for (const child of running) if (child.exitCode === null) await new Promise((ended) => {
      child.once('exit', ended)
      process.kill(-child.pid!, 'SIGTERM')
    })
    rmSync(place, { recursive: true, force: true })
  })

  function start({ script, background }: Block): { readonly child: ChildProcess; readonly said: () => string } {
    const own = [...ports].reduce((text, [from, to]) => text.replaceAll(from, to), script)
    const served = background ? own.replace(/^npm start$/m, `npm start -- ${['terminals', 'recipients', 'admin'].map((name, at) => `--set listen.${name}.port=${[...ports.values()][at]}`).join(' ')}`) : own
    const env = { ...process.env, PARAPET_URL: `http://127.0.0.1:${ports.get('8080')}`, NO_COLOR: '1', npm_config_update_notifier: 'false' }
    // A group of its own, so that npm's children end with it.
    const child = spawn('bash', ['-euo', 'pipefail', '-c', served.replace(/\bsimulate\b/, `simulate --url mqtt://127.0.0.1:${ports.get('1883')}`)], { cwd: place, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    running.push(child)
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()))
    return { child, said: () => [...ports].reduce((all, [from, to]) => all.replaceAll(`:${to}`, `:${from}`), text) }
  }

  test.each(blocks)('README.md:$line', async (block) => {
    const { child, said } = start(block)
    if (block.background) await expect.poll(said, { timeout: 20_000 }).toMatch(/is ready/)
    else expect(await new Promise((ended) => child.once('exit', ended)), said()).toBe(0)
    expect(missing(block.output ?? '', said()), said()).toBeUndefined()
  }, 60_000)
})

/** The first line of what should be printed that is not there, in order. */
function missing(expected: string, actual: string): string | undefined {
  const lines = actual.split('\n').map(form)
  let at = 0
  for (const line of expected.split('\n')) {
    if (line.trim() === '…' || line.trim() === '') continue
    const found = lines.indexOf(form(line), at)
    if (found < 0) return line
    at = found + 1
  }
  return undefined
}

/** What must be the same in every run: no identifiers, no numbers, no widths of columns, but which counters are zero. */
function form(line: string): string {
  return line
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME').replace(/\b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b/g, 'HASH')
    .replace(/[A-Za-z0-9_-]{22}(?=\s|,|$)/g, 'PSEUDONYM').replace(/[1-9]\d*(?:\.\d+)?/g, 'N').replace(/\s+/g, ' ').trim()
}

describe('the page', () => {
  test('has a tour that begins by starting a gateway', () => {
    expect(blocks.length).toBeGreaterThan(6)
    expect(blocks[0]).toMatchObject({ background: true, script: 'npm start\n' })
  })

  test('a missing line is noticed, whatever the numbers', () => {
    expect(missing('a 12 b\n…\nc', 'x\na 7 b\ny\nc')).toBeUndefined()
    expect(missing('a 12 b', 'a 0 b')).toBe('a 12 b')
    expect(missing('a\nb', 'b\na')).toBe('b')
  })

  test('links lead somewhere', () => {
    for (const [, target] of readme.matchAll(/\]\(([^)#]+)\)/g)) expect([target, existsSync(join(root, target!))]).toEqual([target, true])
    const heads = [...readme.matchAll(/^##+ (.+)$/gm)].map(([, text]) => text!.toLowerCase().replace(/[^a-z0-9 -]/g, '').replaceAll(' ', '-'))
    for (const [, anchor] of readme.matchAll(/\]\(#([^)]+)\)/g)) expect(heads).toContain(anchor)
  })

  test('the table of folders names what is there, and all rooms', () => {
    const named = [...readme.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name!).filter((name) => name !== 'config/data/')
    for (const name of named) expect([name, existsSync(join(root, name))]).toEqual([name, true])
    for (const room of ['domain', 'config', 'minimise', 'consent', 'broker', 'outlet', 'admin', 'cli']) expect(named).toContain(`src/${room}/`)
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as { port: number }
  await new Promise<void>((closed) => server.close(() => closed()))
  return port
}
