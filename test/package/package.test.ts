/**
 * The package: what `npm pack` puts in, and that it runs where Node strips no types. The first part reads; the second builds, packs and
 * runs it beside the production packages of the lock file, in CI or with PARAPET_PACK=1, which also installs it through npm.
 */
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parapet } from '../cli/run.ts'

const root = resolve(import.meta.dirname, '../..')
const run = promisify(execFile)
const read = (name: string): unknown => JSON.parse(readFileSync(join(root, name), 'utf8'))
const manifest = read('package.json') as {
  readonly version: string
  readonly bin: Record<string, string>
  readonly exports: Record<string, string>
  readonly files: readonly string[]
  readonly dependencies: Record<string, string>
  readonly scripts: Record<string, string>
}
const lock = read('package-lock.json') as { readonly packages: Record<string, { readonly version?: string; readonly dev?: boolean; readonly hasInstallScript?: boolean; readonly integrity?: string }> }
/** Place below node_modules/ -> entry, without what only development needs. */
const production = Object.entries(lock.packages).filter(([place, { dev }]) => place !== '' && dev !== true)

const long = process.env['PARAPET_PACK'] !== undefined
const whole = long || process.env['CI'] !== undefined
const env = { ...process.env, NO_COLOR: '1', npm_config_update_notifier: 'false', npm_config_loglevel: 'error' }

/** What belongs into the package; dist/ is another matter. */
const BELONGS = /^(?:package\.json|README\.md|LICENSE|SECURITY\.md|CHANGELOG\.md|src\/bin\.js|proto\/[a-z]+\/v\d\/\w+\.proto|config\/(?:README\.md|(?:gateway|machines|operators|recipients)\.yaml|rules\/awp\.yaml|rules\/rules\.schema\.json|deploy\/[\w.-]+|monitoring\/[\w.-]+))$/

describe('what is packed', () => {
  const packed = run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, env, maxBuffer: 1 << 26 })
    .then(({ stdout }) => (JSON.parse(stdout) as [{ readonly files: readonly { readonly path: string; readonly mode: number }[] }])[0].files)

  test('is what was named, and no data, key or token of a gateway that ran here', async () => {
    const names = (await packed).map(({ path }) => path).filter((path) => !path.startsWith('dist/'))
    expect(names.filter((name) => !BELONGS.test(name))).toEqual([])
    expect(names).toEqual(expect.arrayContaining(['src/bin.js', 'config/gateway.yaml', 'config/rules/awp.yaml', 'proto/parapet/v1/privacy.proto', 'SECURITY.md', 'CHANGELOG.md', 'LICENSE']))
    // Every name in `files` is there, but for what the build makes.
    expect(manifest.files.filter((name) => name !== 'dist' && !existsSync(join(root, name)))).toEqual([])
  })

  test('has a command that can be executed and exports that exist', async () => {
    expect((await packed).find(({ path }) => path === manifest.bin['parapet'])?.mode).toBe(0o755)
    for (const target of Object.values(manifest.exports)) expect(existsSync(join(root, target)) || target.startsWith('./dist/')).toBe(true)
  })

  test('needs no install script, and every package has its hash', () => {
    expect(production.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([place]) => place)).toEqual([])
    expect(production.filter(([, { integrity }]) => integrity?.startsWith('sha512-') !== true).map(([place]) => place)).toEqual([])
    for (const version of Object.values(manifest.dependencies)) expect(version).toMatch(/^\d+\.\d+\.\d+$/)
    expect(Object.keys(manifest.scripts).filter((name) => /^(?:pre|post)?install$|^prepare$/.test(name))).toEqual([])
  })
})

describe('away from the checkout', () => {
  const place = mkdtempSync(join(tmpdir(), 'parapet-away-'))
  afterAll(() => rmSync(place, { recursive: true, force: true }))

  test('rules are checked with the shipped schemas where there is no proto/, and with those in proto/ where there is one', async () => {
    const folder = join(place, 'rules')
    mkdirSync(folder)
    writeFileSync(join(folder, 'rules.yaml'), (await parapet(['init'], { cwd: folder })).out)
    expect(await parapet(['check', 'rules.yaml'], { cwd: folder })).toMatchObject({ code: 0 })
    mkdirSync(join(folder, 'proto'))
    expect(await parapet(['check', 'rules.yaml'], { cwd: folder })).toMatchObject({ code: 1, out: expect.stringContaining('UNKNOWN-MESSAGE') as string })
  })

  test.each(['config', 'proto'])('a trial does not write into a folder %s of somebody else', async (name) => {
    const folder = join(place, `trial-${name}`)
    mkdirSync(join(folder, name), { recursive: true })
    expect(await parapet(['serve', '--trial'], { cwd: folder })).toMatchObject({ code: 1, err: expect.stringContaining(`There is a folder ${name} here`) as string })
    expect(readdirSync(folder, { recursive: true })).toEqual([name])
  })

  test('only a trial makes a set-up of its own', async () => {
    const folder = join(place, 'serve')
    mkdirSync(folder)
    expect((await parapet(['serve'], { cwd: folder })).code).toBe(1)
    expect((await parapet(['serve', '--trial', '--config', 'gateway.yaml'], { cwd: folder })).code).toBe(1)
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('the bill of materials', () => {
  const place = mkdtempSync(join(tmpdir(), 'parapet-bom-'))
  afterAll(() => rmSync(place, { recursive: true, force: true }))

  test('has each production package of the lock file with its hash and licence, nothing else, and is the same each time', async () => {
    const [first, second] = [join(place, 'first.json'), join(place, 'second.json')]
    for (const file of [first, second]) await run(process.execPath, [join(root, 'test/package/sbom.ts'), file], { cwd: place, env })
    const bom = JSON.parse(readFileSync(first, 'utf8')) as {
      readonly serialNumber: string
      readonly components: readonly { readonly purl: string; readonly hashes: readonly { readonly alg: string; readonly content: string }[]; readonly licenses?: readonly unknown[] }[]
    }
    const hex = (integrity: string | undefined): string => Buffer.from((integrity ?? '').replace('sha512-', ''), 'base64').toString('hex')
    const wanted = new Map(production.map(([name, { version, integrity }]) => [`pkg:npm/${(name.split('node_modules/').at(-1) as string).replace('@', '%40')}@${version}`, hex(integrity)]))
    expect(wanted.size).toBeGreaterThan(100)
    expect(new Map(bom.components.map(({ purl, hashes }) => [purl, hashes.find(({ alg }) => alg === 'SHA-512')?.content]))).toEqual(wanted)
    expect(bom.components.filter(({ licenses = [] }) => licenses.length === 0).map(({ purl }) => purl)).toEqual([])
    expect(bom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.5', metadata: { component: { name: 'parapet', purl: `pkg:npm/parapet@${manifest.version}` } } })
    expect(bom.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(readFileSync(second, 'utf8')).toBe(readFileSync(first, 'utf8'))
  }, 60_000)
})

describe.skipIf(!whole)('the package, built', () => {
  const place = mkdtempSync(join(tmpdir(), 'parapet-package-'))
  const checkout = join(place, 'checkout')
  const tarball = join(place, `parapet-${manifest.version}.tgz`)
  // A copy, so that a checkout that somebody works in keeps its dist/, and a type error half-way through an edit stays theirs.
  beforeAll(async () => {
    for (const name of ['src', 'proto', 'config', 'test/package', 'package.json', 'package-lock.json', 'tsconfig.json', 'README.md', 'LICENSE', 'SECURITY.md', 'CHANGELOG.md', '.gitignore']) {
      cpSync(join(root, name), join(checkout, name), { recursive: true, filter: (source) => !source.startsWith(join(root, 'config/data')) })
    }
    symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'))
    await pack()
  }, 120_000)
  afterAll(() => rmSync(place, { recursive: true, force: true }))

  async function pack(): Promise<string> {
    await run('npm', ['pack', '--pack-destination', place], { cwd: checkout, env, maxBuffer: 1 << 26 })
    return createHash('sha256').update(readFileSync(tarball)).digest('hex')
  }

  test('is JavaScript with declarations and its bill of materials, the same bytes each time', async () => {
    const { stdout } = await run('tar', ['tzf', tarball], { maxBuffer: 1 << 26 })
    const names = stdout.trim().split('\n').map((name) => name.replace(/^package\//, ''))
    const modules = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => name.slice(0, -3))
    const made = names.filter((name) => name.startsWith('dist/')).map((name) => name.slice(5))
    expect(made.toSorted()).toEqual(['sbom.cdx.json', ...modules.flatMap((name) => [`${name}.js`, `${name}.d.ts`])].toSorted())
    expect(statSync(tarball).size).toBeLessThan(2_000_000)
    const before = createHash('sha256').update(readFileSync(tarball)).digest('hex')
    expect(await pack()).toBe(before)
  }, 60_000)

  test('runs beside the production packages alone', async () => {
    const folder = join(place, 'linked')
    const modules = join(folder, 'node_modules')
    mkdirSync(join(modules, '.bin'), { recursive: true })
    for (const [name] of production.filter(([at]) => !at.includes('/node_modules/') && existsSync(join(root, at)))) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      symlinkSync(join(root, name), join(folder, name))
    }
    mkdirSync(join(modules, 'parapet'))
    await run('tar', ['xzf', tarball, '-C', join(modules, 'parapet'), '--strip-components', '1'])
    await works(folder, [process.execPath, join(modules, 'parapet', manifest.bin['parapet'] as string)])
  }, 60_000)

  test.skipIf(!long)('installs through npm, without scripts', async () => {
    const folder = join(place, 'installed')
    mkdirSync(folder)
    await run('npm', ['install', tarball, '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'], { cwd: folder, env, maxBuffer: 1 << 26 })
    // No Node of the checkout on the path: what runs it has come with the package, or is the machine's own.
    const path = (process.env['PATH'] ?? '').split(':').filter((entry) => !entry.startsWith(root)).join(':')
    await works(folder, ['npx', 'parapet'], path)
  }, 180_000)

  /** The first steps of somebody who has just installed it, and the cache of compiled code beside the package. */
  async function works(folder: string, [program = '', ...first]: readonly string[], path = process.env['PATH']): Promise<void> {
    const own = { ...env, PATH: path, NODE_COMPILE_CACHE: undefined, NODE_OPTIONS: undefined }
    const said = async (...words: readonly string[]): Promise<string> => (await run(program, [...first, ...words], { cwd: folder, env: own, maxBuffer: 1 << 26 })).stdout
    expect(await said('--version')).toBe(`${manifest.version}\n`)
    writeFileSync(join(folder, 'rules.yaml'), await said('init'))
    expect(await said('check', 'rules.yaml')).toMatch(/0 errors, .* accepted as [0-9a-f]{16}\n$/)

    const [terminals, recipients, admin] = [await freePort(), await freePort(), await freePort()]
    const ports = ['--set', `listen.terminals.port=${terminals}`, '--set', `listen.recipients.port=${recipients}`, '--set', `listen.admin.port=${admin}`]
    // A group of its own: npx hands a signal on to nobody.
    const child = spawn(program, [...first, 'serve', '--trial', ...ports], { cwd: folder, env: own, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    let printed = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (printed += chunk.toString()))
    const ended = new Promise((done) => child.once('exit', done))
    try {
      await expect.poll(() => printed, { timeout: 30_000 }).toMatch(/depot-7 is ready/)
      expect(printed).toContain('npx parapet simulate')
      expect((await fetch(`http://127.0.0.1:${admin}/readyz`)).status).toBe(200)
      expect(JSON.parse(await said('status', '--url', `http://127.0.0.1:${admin}`, '--format', 'json'))).toMatchObject({ name: 'depot-7' })
    } finally {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGTERM')
      await ended
    }
    // Keys and ledger lie in the folder where it was started, not in the package.
    expect(readdirSync(join(folder, 'config/data'))).toContain('ledger.db')
    expect(existsSync(join(folder, 'node_modules/parapet/config/data'))).toBe(false)
    expect(await said('check', 'config/rules/awp.yaml', '--config', 'config/gateway.yaml')).toMatch(/^0 errors, 0 warnings/m)
    expect(readdirSync(join(folder, 'node_modules/parapet/node_modules/.cache/parapet')).length).toBeGreaterThan(0)
  }
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as { port: number }
  await new Promise<void>((closed) => server.close(() => closed()))
  return port
}
