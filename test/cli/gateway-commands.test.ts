/** consent, status, machines and keys, against a real admin listener and real files. */
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { scryptSync } from 'node:crypto'
import { parse as parseYaml } from 'yaml'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { CANARY_OPERATOR, startAdmin } from '../admin/gateway.ts'
import type { TestAdmin } from '../admin/gateway.ts'
import { testIo } from './io.ts'
import type { TestIo } from './io.ts'

let gateway: TestAdmin
let url = ''
beforeAll(async () => {
  gateway = await startAdmin()
  const { host, port } = await gateway.admin.listen()
  url = `http://${host}:${port}`
})
afterAll(() => gateway.admin.close())

async function run(line: string, io: TestIo = testIo('', { PARAPET_URL: url, PARAPET_TOKEN: gateway.tokens.privacy })): Promise<{ code: number; out: string; err: string; io: TestIo }> {
  const argv = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
  const code = await runCommand(argv, io)
  return { code, out: io.out(), err: io.err(), io }
}

describe('parapet consent', () => {
  test('withdraw: receipt with what was purged and what had already left', async () => {
    const { code, out } = await run(`consent withdraw --operator ${CANARY_OPERATOR} --purpose improve.statistics`)
    expect(code).toBe(0)
    expect(out).toContain('improve.statistics is withdrawn')
    expect(out).toMatch(/queued messages\s+2 removed, 1 replaced/)
    expect(out).toMatch(/already on the wire\s+3/)
    expect(gateway.changes.at(-1)).toMatchObject({ state: 'withdrawn', by: 'test-privacy', source: 'agent' })
  })

  test.each([['refuse', 'refused'], ['object', 'objected'], ['grant --evidence form-7', 'granted'], ['grant --evidence form-7 --local-only', 'local_only']])('%s -> %s', async (words, state) => {
    expect((await run(`consent ${words} --operator ${CANARY_OPERATOR} --purpose a.b --format json`)).out).toContain(`"state": "${state}"`)
    expect(gateway.changes.at(-1)).toMatchObject({ state, purpose: 'a.b' })
  })

  test('show and notice', async () => {
    const { out } = await run(`consent show --operator ${CANARY_OPERATOR}`)
    expect(out).toMatch(/improve\.statistics\s+refused/)
    expect(out).toMatch(/40\s+2026-11-23\s+consent\.refused\s+purpose=improve\.statistics/)
    expect(JSON.parse((await run(`consent show --operator ${CANARY_OPERATOR} --format json`)).out)).toMatchObject({ operator: CANARY_OPERATOR, country: 'DE' })
    expect((await run(`consent notice --operator ${CANARY_OPERATOR} --policy awp-2026-11`)).out).toContain('awp-2026-11')
  })

  // prettier-ignore
  test.each([
    ['consent grant --operator x --purpose p',             2, 'consent grant needs --evidence'],
    ['consent withdraw --operator x',                      2, 'consent withdraw needs --purpose'],
    ['consent show --operator x --purpose p',              2, '--purpose does not go with consent show'],
    ['consent withdraw --purpose p',                       2, 'The option --operator is needed.'],
    ['consent withdraw --operator nobody --purpose p',     1, 'No operator has this id.'],
    ['consent withdraw --operator x --purpose p --url ftp://x', 1, 'cross a network in clear'],
    ['consent withdraw --operator x --purpose p --url http://192.0.2.1:8080', 1, 'cross a network in clear'],
    ['consent withdraw --operator x --purpose p --url nonsense', 2, '--url is not an address'],
    ['consent withdraw --operator x --purpose p --url http://127.0.0.1:1', 1, 'No gateway answers at http://127.0.0.1:1.'],
    ['consent withdraw --operator x --purpose p --token-file missing.token', 1, 'There is no token in missing.token.'],
  ])('%s -> %i', async (line, code, text) => {
    const result = await run(line)
    expect([result.code, result.out]).toEqual([code, ''])
    expect(result.err).toContain(text)
  })

  test('an engineer is refused, and told which roles are not', async () => {
    const { code, err } = await run(`consent show --operator ${CANARY_OPERATOR}`, testIo('', { PARAPET_URL: url, PARAPET_TOKEN: gateway.tokens.engineer }))
    expect([code, err]).toEqual([1, 'parapet: The role engineer does not have the scope consent:read. Roles that have it: privacy, admin.\n'])
  })

  test('the token is found in the data folder that the gateway file names', async () => {
    const io = testIo('', { PARAPET_URL: url })
    mkdirSync(join(io.cwd, 'config/keep'), { recursive: true })
    writeFileSync(join(io.cwd, 'config/gateway.yaml'), 'name: depot-7\ndata: ./keep   # here\n')
    writeFileSync(join(io.cwd, 'config/keep/admin.token'), readFileSync(join(gateway.data, 'admin.token')), { mode: 0o600 })
    expect((await run(`consent show --operator ${CANARY_OPERATOR}`, io)).code).toBe(0)
    chmodSync(join(io.cwd, 'config/keep/admin.token'), 0o644)
    expect((await run(`consent show --operator ${CANARY_OPERATOR}`, io)).err).toContain('admin.token can be read by others. Run: chmod 600')
  })
})

describe('parapet status', () => {
  test('says what is wrong and what to do, exit 1 while not ready', async () => {
    const { code, out } = await run('status')
    expect(code).toBe(1)
    expect(out).toContain('depot-7 (parapet 0.0.0-test) is not ready')
    expect(out).toContain('warning BRIDGE-DOWN The bridge cloud is not connected. Check its URL.')
    expect(out).toMatch(/terminals\s+127\.0\.0\.1:1883, 3 connected/)
    expect(out).toMatch(/planner\s+oem-cloud\s+improve\.statistics\s+7\s+closed 5/)
    expect(JSON.parse((await run('status --format json')).out)).toMatchObject({ ready: false, outputs: [{ id: 'planner' }] })
  })
})

describe('parapet keys', () => {
  test('init makes root.key once, 0600, and never prints it', async () => {
    const io = testIo()
    const { code, out } = await run('keys init --data keep', io)
    const file = join(io.cwd, 'keep/root.key')
    const key = readFileSync(file, 'utf8').split('\n').find((line) => /^[\w-]{43}$/.test(line))
    expect([code, (statSync(file).mode & 0o777).toString(8)]).toEqual([0, '600'])
    expect(out).toMatch(/^Root key [0-9a-f]{8} is in keep\/root\.key/)
    expect(out).not.toContain(key)
    const again = await run('keys init --data keep', io)
    expect([again.code, again.err]).toEqual([1, expect.stringContaining('There is a root key')])
    expect(readFileSync(file, 'utf8')).toContain(key)
  })
})

const REGISTRY = `# The machines of depot 7.
machines:
  SN-1: { fleet: north, model: boom, labels: { site: A }, country: FR }   # the old one
  "SN: 2":
    fleet: north
    model: scissor
  # SN-9 was sold

# end of file
`

describe('parapet machines add', () => {
  function folder(registry = REGISTRY): TestIo {
    const io = testIo()
    mkdirSync(join(io.cwd, 'config'))
    writeFileSync(join(io.cwd, 'config/gateway.yaml'), 'machines: ./machines.yaml\n')
    writeFileSync(join(io.cwd, 'config/machines.yaml'), registry)
    chmodSync(join(io.cwd, 'config/machines.yaml'), 0o640)
    return io
  }
  const registry = (io: TestIo): string => readFileSync(join(io.cwd, 'config/machines.yaml'), 'utf8')
  const machines = (io: TestIo): Record<string, Record<string, unknown>> => (parseYaml(registry(io)) as { machines: Record<string, Record<string, unknown>> }).machines

  test('writes one line, keeps the rest, prints the password once and the lines that admit the terminal', async () => {
    const io = folder()
    const { code, out, err } = await run('machines add SN-3 --fleet north --model boom-18 --country US-CA --operator-collection on --label site=B', io)
    expect([code, err]).toEqual([0, ''])
    const password = /password {4}(\S{32})\n/.exec(out)?.[1] ?? ''
    const credential = machines(io)['SN-3']?.['credential'] as string
    const [name, n, r, p, salt = '', hash] = credential.split('$')
    expect([name, scryptSync(password, Buffer.from(salt, 'base64url'), 32, { N: Number(n), r: Number(r), p: Number(p) }).toString('base64url')]).toEqual(['scrypt', hash])
    expect(machines(io)['SN-3']).toEqual({ fleet: 'north', model: 'boom-18', labels: { site: 'B' }, country: 'US-CA', operator_collection: 'on', credential })
    expect(out).toContain(`mosquitto_pub -V mqttv311 -h 127.0.0.1 -p 1883 -i SN-3 -u SN-3 -P ${password} -q 1 -t up/north/SN-3/status -f status.bin`)
    expect(out).toContain(`mqtt.connectAsync("mqtt://127.0.0.1:1883", {"protocolVersion":4,"clientId":"SN-3","username":"SN-3","password":"${password}"})`)
    expect(registry(io)).not.toContain(password)
    expect(registry(io).split('\n').filter((line) => !line.includes('SN-3:')).join('\n')).toBe(REGISTRY)
    expect((statSync(join(io.cwd, 'config/machines.yaml')).mode & 0o777).toString(8)).toBe('640')
    expect(existsSync(join(io.cwd, 'config/machines.yaml.new'))).toBe(false)
  })

  test('without a credential, as JSON', async () => {
    const io = folder()
    expect(JSON.parse((await run('machines add SN-3 --fleet north --no-credential --format json', io)).out)).toEqual({ id: 'SN-3', fleet: 'north', file: join(io.cwd, 'config/machines.yaml') })
    expect(machines(io)['SN-3']).toEqual({ fleet: 'north', model: 'unknown' })
  })

  // prettier-ignore
  test.each([
    ['block, no comment at the end', 'machines:\n  SN-1: { fleet: a, model: b }'],
    ['four blanks of indent',        'machines:\n    SN-1:\n        fleet: a\n        model: b\n'],
    ['another key after it',         'machines:\n  SN-1: { fleet: a, model: b }\n\n# more\nother: 1\n'],
    ['empty, in braces',             'machines: {}   # none yet\n'],
    ['empty, nothing',               'machines:\n'],
    ['windows line ends',            'machines:\r\n  SN-1: { fleet: a, model: b }\r\n'],
    ['top level',                    '# ours\nSN-1: { fleet: a, model: b }\n'],
    ['an empty file',                ''],
  ])('fits into a file: %s', async (_name, text) => {
    const io = folder(text)
    expect((await run('machines add SN-3 --fleet north --no-credential', io)).err).toBe('')
    const before = (parseYaml(text) ?? {}) as Record<string, unknown>
    const after = parseYaml(registry(io)) as Record<string, unknown>
    const entry = { 'SN-3': { fleet: 'north', model: 'unknown' } }
    expect(after).toEqual('machines' in before ? { ...before, machines: { ...(before['machines'] as object | null), ...entry } } : { ...before, ...entry })
    for (const comment of text.match(/#.*/g) ?? []) expect(registry(io)).toContain(comment)
  })

  test.each([['1001'], ['NO'], ['on'], ['a: b'], ['it\'s "it"'], ['ü-7'], ['null'], ['- x'], ['1e3'], ['a\u0085b'], ['~']])('an id that YAML would read otherwise: %j', async (id) => {
    const io = folder()
    expect(await runCommand(['machines', 'add', '--fleet', id, '--no-credential', '--', id], io)).toBe(0)
    expect(machines(io)[id]).toEqual({ fleet: id, model: 'unknown' })
    expect(Object.keys(machines(io))).toHaveLength(3)
  })

  // prettier-ignore
  test.each([
    ['machines add SN-1 --fleet north',        REGISTRY,                       1, 'A machine of this id is in the registry.'],
    ['machines add \'SN: 2\' --fleet north',   REGISTRY,                       1, 'A machine of this id is in the registry.'],
    ['machines add SN-1 --fleet north',        'SN-1: { fleet: a, model: b }', 1, 'A machine of this id is in the registry.'],
    ['machines add a/b --fleet north',         REGISTRY,                       1, 'cannot stand in a topic'],
    ['machines add SN-3 --fleet +',            REGISTRY,                       1, 'cannot stand in a topic'],
    ['machines add SN-3 --fleet n',            'machines: { SN-1: { fleet: a, model: b } }', 1, 'are written on one line'],
    ['machines add SN-3 --fleet n --file config', REGISTRY,                    1, 'is not a YAML file'],
    ['machines add SN-3 --fleet n --file nix.yaml', REGISTRY,                  1, 'cannot be read'],
    ['machines add SN-3 --fleet n --config nix.yaml', REGISTRY,                1, 'nix.yaml'],
    ['machines add SN-3 --fleet n --country france', REGISTRY,                 2, '--country is a code of ISO 3166'],
    ['machines add SN-3 --fleet n --label site', REGISTRY,                     2, '--label is written NAME=TEXT.'],
    ['machines add SN-3',                      REGISTRY,                       2, 'machines add needs an ID and --fleet F.'],
    ['machines import',                        REGISTRY,                       2, 'does not know "import"'],
  ])('%s, %#', async (line, text, code, message) => {
    const io = folder(text)
    const result = await run(line, io)
    expect([result.code, result.out]).toEqual([code, ''])
    expect(result.err).toContain(message)
    expect(registry(io)).toBe(text)
  })
})

test('parapet machines list', async () => {
  const { code, out } = await run('machines list')
  expect(code).toBe(0)
  expect(out).toMatch(/^id\s+fleet\s+model\s+country\s+operators\s+admitted by\nSN-CANARY-91c2\s+north\s+boom-18\s+DE\s+on\s+password\n$/)
})
