/** consent, ledger, status, machines and keys, against a real admin listener and real files. */
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { scryptSync } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { parse as parseYaml } from 'yaml'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { openBooks } from '../../src/consent/books.ts'
import { createRootKey, loadRootKey } from '../../src/consent/root.ts'
import { CANARY_OPERATOR, startAdmin } from '../admin/gateway.ts'
import type { TestAdmin } from '../admin/gateway.ts'
import { clockAt, op, policy, register, says } from '../consent/fixture.ts'
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

describe('parapet tokens', () => {
  const admin = (): TestIo => testIo('', { PARAPET_URL: url, PARAPET_TOKEN: gateway.tokens.admin })

  test('add: the token is in its file alone, works with its role, and is over when it is ended', async () => {
    const io = admin()
    const { code, out } = await run('tokens add tuning --role engineer --to tuning.token', io)
    expect(code).toBe(0)
    const file = join(io.cwd, 'tuning.token')
    const token = readFileSync(file, 'utf8').trim()
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(out).not.toContain(token)
    expect((await run('tokens list', admin())).out).toMatch(/^tuning +engineer /m)

    const engineer = (): TestIo => testIo('', { PARAPET_URL: url }, io.cwd)
    expect(await run('status --token-file tuning.token', engineer())).toMatchObject({ err: '' })
    expect((await run('tokens list --token-file tuning.token', engineer())).err).toContain('The role engineer does not have the scope tokens:write')
    expect((await run('tokens end tuning', admin())).out).toBe('The token tuning is ended.\n')
    expect(await run('status --token-file tuning.token', engineer())).toMatchObject({ code: 1, out: '' })
  })

  test('a file that is there is never written over, and one whose token was refused is not left behind', async () => {
    const io = admin()
    writeFileSync(join(io.cwd, 'kept'), 'mine')
    expect(await run('tokens add other --role viewer --to kept', io)).toMatchObject({ code: 1, err: expect.stringContaining('There is a file kept already') as string })
    expect(readFileSync(join(io.cwd, 'kept'), 'utf8')).toBe('mine')
    expect((await run('tokens add test-viewer --role viewer --to new', io)).err).toContain('A token of this name exists')
    expect(existsSync(join(io.cwd, 'new'))).toBe(false)
    expect((await run('tokens list', admin())).out).not.toMatch(/^other /m)
  })

  test.each(['tokens add', 'tokens add x --role engineer', 'tokens add x --role king --to f', 'tokens end', 'tokens list x'])('%s: wrong usage', async (line) => {
    expect(await run(line, admin())).toMatchObject({ code: 2 })
  })
})

describe('parapet consent', () => {
  test('withdraw: receipt with what was purged and what had already left', async () => {
    const { code, out } = await run(`consent withdraw --operator ${CANARY_OPERATOR} --purpose improve.statistics`)
    expect(code).toBe(0)
    expect(out).toContain('improve.statistics is withdrawn')
    expect(out).toMatch(/queued messages\s+2 removed, 1 replaced/)
    expect(out).toMatch(/already on the wire\s+3/)
    expect(gateway.changes.at(-1)).toMatchObject({ state: 'withdrawn', by: 'test-privacy', source: 'agent' })
  })

  test.each([['refuse', 'refused'], ['object', 'objected'], ['request', 'requested'], ['grant --evidence form-7', 'granted'], ['grant --evidence form-7 --local-only', 'local_only']])('%s -> %s', async (words, state) => {
    expect((await run(`consent ${words} --operator ${CANARY_OPERATOR} --purpose a.b --format json`)).out).toContain(`"state": "${state}"`)
    expect(gateway.changes.at(-1)).toMatchObject({ state, purpose: 'a.b' })
  })

  test('show and notice', async () => {
    const { out } = await run(`consent show --operator ${CANARY_OPERATOR}`)
    expect(out).toMatch(/improve\.statistics\s+refused/)
    // When, what was in force before and after, who asked, under which policy.
    expect(out).toMatch(/40\s+2026-11-23T12:00:00\.000Z\s+improve\.statistics: requested -> refused\s+person through portal\s+policy=awp-2026-11/)
    expect(out).toContain('Looked at through the API once before, last at 2026-11-23T12:00:00.000Z by the role privacy.')
    expect(JSON.parse((await run(`consent show --operator ${CANARY_OPERATOR} --format json`)).out)).toMatchObject({ operator: CANARY_OPERATOR, country: 'DE' })
    expect((await run(`consent notice --operator ${CANARY_OPERATOR} --policy awp-2026-11`)).out).toContain('awp-2026-11')
  })

  test('one purpose alone', async () => {
    const shown = JSON.parse((await run(`consent show --operator ${CANARY_OPERATOR} --purpose personalise --format json`)).out) as { purposes: unknown; history: unknown }
    expect([shown.purposes, shown.history]).toEqual([[], []])
    expect((await run(`consent show --operator ${CANARY_OPERATOR} --purpose improve.statistics`)).out).toContain('requested -> refused')
  })

  test.each([['export'], ['show --format jsonld']])('%s: the receipt in JSON-LD', async (words) => {
    const { code, out } = await run(`consent ${words} --operator ${CANARY_OPERATOR} --purpose personalise`)
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ '@type': 'dpv:ConsentReceipt', 'dpv:hasRecordOfActivity': [{ 'parapet:purpose': 'personalise', 'dpv:hasConsentStatus': [{ '@type': ['dpv:ConsentRefused'] }] }] })
  })

  // prettier-ignore
  test.each([
    ['consent grant --operator x --purpose p',             2, 'consent grant needs --evidence'],
    ['consent withdraw --operator x',                      2, 'consent withdraw needs --purpose'],
    ['consent show --operator x --evidence e',             2, '--evidence does not go with consent show'],
    ['consent request --operator x',                       2, 'consent request needs --purpose'],
    ['consent request --operator x --purpose p --evidence e', 2, '--evidence does not go with consent request'],
    ['consent withdraw --operator x --purpose p --format jsonld', 2, '--format jsonld does not go with consent withdraw'],
    ['consent export --operator nobody',                   1, 'No operator has this id.'],
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

describe('parapet ledger', () => {
  const clock = clockAt()

  /** A data folder with keys and ten events: notices, answers, a change of rules. */
  function dataFolder(): TestIo {
    const io = testIo()
    const data = join(io.cwd, 'keep')
    const books = openBooks({ folder: data, root: createRootKey(join(data, 'root.key')), tenant: 'hire-co', gateway: 'depot-7', clock })
    register(books)
    books.usePolicy(policy())
    books.states.giveNotice(op('op-ada'), 'awp-2026-11', 'de', 'desk')
    for (const state of ['requested', 'granted', 'withdrawn', 'granted', 'refused'] as const) {
      clock.ms += 60_000
      books.states.change(says('op-ada', 'improve.statistics', state, { evidence: 'form 17', source: 'agent' }))
    }
    books.ledger.append({ type: 'rules.activated', body: { hash: 'ab' } })
    books.close()
    mkdirSync(join(io.cwd, 'config'))
    writeFileSync(join(io.cwd, 'config/gateway.yaml'), 'tenant: hire-co\ndata: ../keep\n')
    return io
  }
  const harm = (io: TestIo, sql: string): void => {
    const database = new DatabaseSync(join(io.cwd, 'keep/ledger.db'))
    const triggers = database.prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").all().map((row) => String(row['sql']))
    database.exec(`DROP TRIGGER event_is_final; DROP TRIGGER event_stays; ${sql}; ${triggers.join(';')}`)
    database.close()
  }

  test('verify: whole, with head and counts; without the keys the chain alone', async () => {
    const io = dataFolder()
    const { code, out } = await run('ledger verify', io)
    expect(code).toBe(0)
    expect(out).toContain('Ledger in keep: every event is there, unchanged and in order')
    expect(out).toMatch(/events\s+10, of 2026-11-23/)
    expect(out).toMatch(/head\s+10:[0-9a-f]{64}/)
    expect(out).toMatch(/signed head\s+event 10, on 2026-11-23/)
    expect(out).toMatch(/consent\.granted 2/)
    expect(out).not.toMatch(/op-ada|improve\.statistics|form 17/)
    const whole = JSON.parse((await run('ledger verify --format json', testIo('', {}, io.cwd))).out) as { ok: boolean; head: { seq: number; hash: string }; head_key: string }
    expect(whole).toMatchObject({ ok: true, events: 10, head: { seq: 10 }, unindexed: 0 })
    // An auditor's copy: the ledger and its head, nothing else.
    for (const name of ['root.key', 'keys.db', 'tombstones', 'identities.db']) rmSync(join(io.cwd, 'keep', name))
    const audit = async (words = ''): Promise<{ code: number; out: string }> => run(`ledger verify ${words}`, testIo('', {}, io.cwd))
    expect((await audit()).out).toMatch(/checked\s+chain, head, not its signature/)
    expect((await audit(`--head-key ${whole.head_key} --head 10:${whole.head.hash}`)).out).toMatch(/checked\s+chain, signed head/)
    const other = 'MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='
    expect(await audit(`--head-key ${other}`)).toMatchObject({ code: 1, out: expect.stringContaining('another key signed it') as string })
    expect(await audit(`--head 7:${whole.head.hash}`)).toMatchObject({ code: 1, out: expect.stringContaining('event 7 is not the one that the head noted elsewhere names') as string })
  })

  // prettier-ignore
  test.each([
    ['an event is gone',       'DELETE FROM event WHERE seq = 6',                                       6,  'event 6 is missing'],
    ['the end is cut off',     'DELETE FROM event WHERE seq > 8',                                       9,  'the ledger ends at event 8, the signed head at 10'],
    ['a refusal became a yes', "UPDATE event SET type = 'consent.granted' WHERE seq = 9",               9,  'event 9 was changed'],
  ])('verify: %s', async (_name, sql, at, why) => {
    const io = dataFolder()
    harm(io, sql)
    const { code, out } = await run('ledger verify', io)
    expect(code).toBe(1)
    expect(out).toContain(`BROKEN at event ${at}`)
    expect(out).toContain(why)
    expect(out).toContain('restore the data folder from a copy that verifies')
    expect(JSON.parse((await run('ledger verify --format json', testIo('', {}, io.cwd))).out)).toMatchObject({ ok: false, broken_at: at })
  })

  test('verify: the whole folder was put back from a backup; only a head noted elsewhere tells', async () => {
    const io = dataFolder()
    cpSync(join(io.cwd, 'keep'), join(io.cwd, 'yesterday'), { recursive: true })
    const books = openBooks({ folder: join(io.cwd, 'keep'), root: loadRootKey(join(io.cwd, 'keep/root.key')), tenant: 'hire-co', gateway: 'depot-7', clock })
    books.ledger.append({ type: 'rules.activated', body: { hash: 'cd' } })
    const { seq, hash } = books.ledger.head
    books.close()
    const look = async (words: string): Promise<{ code: number; out: string }> => run(`ledger verify ${words}`, testIo('', {}, io.cwd))
    expect((await look(`--head ${seq}:${hash}`)).code).toBe(0)
    expect((await look('--data yesterday')).code).toBe(0)
    expect(await look(`--data yesterday --head ${seq}:${hash}`)).toMatchObject({ code: 1, out: expect.stringContaining('the head noted elsewhere at 11: events were cut off or an old copy was restored') as string })
  })

  test('export: clear columns without keys; bodies only when asked for and with the folder\'s keys', async () => {
    const io = dataFolder()
    const lines = async (words: string, cwd = io.cwd): Promise<Record<string, unknown>[]> => (await run(`ledger export ${words}`, testIo('', {}, cwd))).out.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>)
    const all = await lines('')
    expect(all.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    expect(Object.keys(all[4]!)).toEqual(['seq', 'uuid', 'type', 'schema', 'gateway', 'day', 'subject_tag', 'key_id', 'prev', 'hash'])
    expect(JSON.stringify(all)).not.toMatch(/op-ada|improve\.statistics|form 17/)
    expect((await lines('--type consent.granted')).map(({ seq }) => seq)).toEqual([6, 8])
    expect((await lines('--type consent. --after 7')).map(({ seq }) => seq)).toEqual([8, 9])
    expect(await lines('--day 2026-11-22')).toEqual([])
    expect((await lines('--day 2026-11-23 --type rules.')).map(({ seq }) => seq)).toEqual([10])
    expect((await lines('--bodies --type consent. --after 7')).map(({ seq, body }) => [seq, (body as { purpose: string }).purpose])).toEqual([[8, 'improve.statistics'], [9, 'improve.statistics']])
    rmSync(join(io.cwd, 'keep/root.key'))
    expect((await run('ledger export --bodies', testIo('', {}, io.cwd))).err).toContain('root.key or keys.db is not in the data folder')
    expect(await lines('')).toEqual(all)
  })

  test('through the admin API: verify and export, clear columns alone, for the privacy role', async () => {
    const { code, out } = await run(`ledger verify --url ${url}`)
    expect([code, out.split('\n')[0]]).toEqual([0, `Ledger in ${url}: every event is there, unchanged and in order`])
    expect(out).toMatch(/head key\s+MCowBQ==/)
    const exported = await run(`ledger export --url ${url} --after 39`)
    expect(exported.out.trim().split('\n').map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual([40, 41])
    expect(await run(`ledger verify --url ${url}`, testIo('', { PARAPET_TOKEN: gateway.tokens.engineer }))).toMatchObject({ code: 1, err: 'parapet: The role engineer does not have the scope ledger:read. Roles that have it: privacy, admin.\n' })
  })

  // prettier-ignore
  test.each([
    ['ledger verify',                             1, 'There is no ledger.db in data.'],
    ['ledger verify --data nix',                  1, 'There is no ledger.db in nix.'],
    ['ledger verify --head 12',                   1, 'There is no ledger.db'],
    ['ledger verify --bodies',                    2, '--bodies does not go with ledger verify'],
    ['ledger export --head 1:2',                  2, '--head does not go with ledger export'],
    ['ledger export --after x',                   2, '--after is a sequence number'],
    ['ledger export --day yesterday',             2, '--day is written 2026-11-23'],
    ['ledger export --bodies --url http://127.0.0.1:1', 2, '--bodies reads files and does not go with --url'],
    ['ledger verify --url http://127.0.0.1:1',    1, 'No gateway answers at http://127.0.0.1:1.'],
    ['ledger mend',                               2, 'parapet ledger does not know "mend"'],
  ])('%s -> %i', async (line, code, text) => {
    const result = await run(line)
    expect([result.code, result.out]).toEqual([code, ''])
    expect(result.err).toContain(text)
  })

  test('a head in the wrong form, another tenant', async () => {
    const io = dataFolder()
    expect(await run('ledger verify --head 12', io)).toMatchObject({ code: 2, err: expect.stringContaining('--head is written SEQ:HASH') as string })
    expect(await run('ledger verify --tenant other', testIo('', {}, io.cwd))).toMatchObject({ code: 1, err: expect.stringContaining('sealed under another root key or tenant') as string })
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

describe('parapet recipients add', () => {
  const before = '# who may log in\noem-cloud: {}\nsite-planner: { certificate: planner.example }\n'
  function folder(): TestIo {
    const io = testIo()
    mkdirSync(join(io.cwd, 'config'))
    writeFileSync(join(io.cwd, 'config/gateway.yaml'), 'recipients: ./recipients.yaml\n')
    writeFileSync(join(io.cwd, 'config/recipients.yaml'), before)
    return io
  }
  const file = (io: TestIo): string => readFileSync(join(io.cwd, 'config/recipients.yaml'), 'utf8')

  test.each(['oem-cloud', 'battery-lab'])('gives %s a password, shows it once and keeps its record', async (id) => {
    const io = folder()
    const { code, out, err } = await run(`recipients add ${id}`, io)
    expect([code, err]).toEqual([0, ''])
    const password = /password {4}(\S{32})\n/.exec(out)?.[1] ?? ''
    const credential = (parseYaml(file(io)) as Record<string, { credential: string }>)[id]!.credential
    const [name, n, r, p, salt = '', hash] = credential.split('$')
    expect([name, scryptSync(password, Buffer.from(salt, 'base64url'), 32, { N: Number(n), r: Number(r), p: Number(p) }).toString('base64url')]).toEqual(['scrypt', hash])
    expect(file(io)).not.toContain(password)
    expect(file(io).split('\n').filter((line) => !line.startsWith(id))).toEqual(before.split('\n').filter((line) => !line.startsWith(id)))
  })

  test('leaves a log-in that is there alone', async () => {
    const io = folder()
    expect((await run('recipients add site-planner', io)).err).toContain('has a log-in already')
    expect(file(io)).toBe(before)
  })
})

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

  test.each([['1001'], ['NO'], ['on'], ['a: b'], ['it\'s "it"'], ['ü-7'], ['null'], ['- x'], ['1e3'], ['~']])('an id that YAML would read otherwise: %j', async (id) => {
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
    ['machines add \'a\u0085b\' --fleet north', REGISTRY,                    1, 'cannot stand in a topic'],
    ['machines add SN-3 --fleet n',            'machines: { SN-1: { fleet: a, model: b } }', 1, 'are written on one line'],
    ['machines add SN-3 --fleet n --file config', REGISTRY,                    1, 'is not a YAML file'],
    ['machines add SN-3 --fleet n --file nix.yaml', REGISTRY,                  1, 'cannot be read'],
    ['machines add SN-3 --fleet n --config nix.yaml', REGISTRY,                1, 'nix.yaml'],
    ['machines add SN-3 --fleet n --country france', REGISTRY,                 2, '--country is a code of ISO 3166'],
    ['machines add SN-3 --fleet n --label site', REGISTRY,                     2, '--label is written NAME=TEXT.'],
    ['machines add SN-3',                      REGISTRY,                       2, 'machines add needs an ID and --fleet F.'],
    ['machines import',                        REGISTRY,                       2, 'needs a FILE.csv'],
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
