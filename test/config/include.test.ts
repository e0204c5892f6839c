/**
 * `include:`: rules cut into files are the same rules, every finding names the file to mend, and what is in force hangs on the texts
 * that were accepted, not on what lies on disk.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { constant, oneof, record, array, assert, property } from 'fast-check'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { acceptRules } from '../../src/acceptance.ts'
import { AcceptedSets } from '../../src/accepted.ts'
import { loadRules, loadRulesFile, type LoadedRules } from '../../src/config/rules.ts'
import { watchNamed } from '../../src/config/watch.ts'
import { differenceOf } from '../../src/difference.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import { parapet } from '../cli/run.ts'
import { Folder, Stage, until } from '../e2e/stage.ts'
import { GOOD, SCHEMAS, TODAY } from './fixture.ts'

const folders: string[] = []
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })))

/** A folder with these files; the rules file is rules.yaml. */
function folderWith(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-include-'))
  folders.push(folder)
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

function load(files: Readonly<Record<string, string>>): LoadedRules {
  const folder = folderWith(files)
  return loadRulesFile(join(folder, 'rules.yaml'), { schemas: SCHEMAS, today: TODAY })
}

/** `file:line:col CODE`, files by their names in the folder. */
function findingsOf(files: Readonly<Record<string, string>>): string[] {
  const folder = folderWith(files)
  return loadRulesFile(join(folder, 'rules.yaml'), { schemas: SCHEMAS, today: TODAY }).findings.map(({ place, code }) => `${place.file.slice(folder.length + 1)}:${place.line}:${place.col} ${code}`)
}

/** Top-level sections of a text: key -> lines. */
function sectionsOf(text: string): Map<string, string> {
  return new Map(text.split(/^(?=[a-z_]+:)/m).map((section) => [section.slice(0, section.indexOf(':')), section]))
}

const SECTIONS = sectionsOf(GOOD)
const section = (...keys: readonly string[]): string => keys.map((key) => SECTIONS.get(key) as string).join('')
const whole = loadRules('rules.yaml', GOOD, { schemas: SCHEMAS, today: TODAY })

/** `file:line:col` of the only place of a text in a file. */
function placeOf(files: Readonly<Record<string, string>>, name: string, text: string): string {
  const before = files[name]?.split(text) ?? []
  expect(before, `${text} in ${name}`).toHaveLength(2)
  const lines = (before[0] as string).split('\n')
  return `${name}:${lines.length}:${(lines.at(-1) as string).length + 1}`
}

/** The good file in three. */
const CUT = {
  'rules.yaml': `${section('version', 'policy')}include: [streams.yaml, outputs/all.yaml]\n${section('subject', 'legal_basis')}`,
  'streams.yaml': section('streams', 'purposes'),
  'outputs/all.yaml': section('define', 'recipients', 'outputs', 'tests'),
}

/** The tests of the good file are right as text, but of their messages nothing is left to send. */
const passing = (text: string): string => text.replace(/^ {2}- name: (?:a yes|the app)\n.*\n.*\n/gm, '').replace('service: { machine_id: $any }', 'service: nothing')
/** The same with tests that pass. */
const PASSING = { ...CUT, 'outputs/all.yaml': passing(CUT['outputs/all.yaml']) }

describe('rules cut into files', () => {
  test('are the rules in one file', () => {
    const cut = load(CUT)
    expect(cut.findings).toEqual([])
    expect(cut.policy?.outputs.map((one) => one.id)).toEqual(['service', 'planning', 'shift'])
    expect(differenceOf({ policy: whole.policy!, accepted: [] }, { policy: cut.policy!, accepted: [] }).changes).toEqual([])
    expect(cut.policy?.tests.map((one) => one.name)).toEqual(whole.policy?.tests.map((one) => one.name))
  })

  test('wherever each entry stands: no finding, no difference, each test once', () => {
    const CUTTABLE = ['streams', 'purposes', 'legal_basis', 'recipients', 'outputs', 'tests']
    const entries = CUTTABLE.flatMap((key) => (SECTIONS.get(key) as string).split(/^(?= {2}\S)/m).slice(1).map((text) => ({ key, text })))
    const NAMES = ['rules.yaml', 'a.yaml', 'deep/b.yaml', 'deep/er/c.yml']
    const placed = record({ at: array(oneof(...NAMES.map((name) => constant(name))), { minLength: entries.length, maxLength: entries.length }) })
    assert(property(placed, ({ at }) => {
      const texts = new Map(NAMES.map((name) => [name, section('define')]))
      for (const name of NAMES) {
        for (const key of CUTTABLE) {
          const own = entries.filter((entry, index) => entry.key === key && at[index] === name)
          if (own.length > 0) texts.set(name, `${texts.get(name)}${key}:\n${own.map((entry) => entry.text).join('')}`)
        }
      }
      const { 'rules.yaml': rest, ...included } = Object.fromEntries(texts)
      const main = `${section('version', 'policy')}include: [${NAMES.slice(1).join(', ')}]\n${section('subject')}${rest}`
      const cut = loadRules('rules.yaml', main, { schemas: SCHEMAS, today: TODAY, included })
      expect(cut.findings).toEqual([])
      expect(differenceOf({ policy: whole.policy!, accepted: [] }, { policy: cut.policy!, accepted: [] }).changes).toEqual([])
      expect(cut.policy?.tests.map((one) => one.name).sort()).toEqual(whole.policy?.tests.map((one) => one.name).sort())
    }), { numRuns: Number(process.env.PARAPET_RUNS ?? 15) })
  })

  test('every file is part of the hash; without any it is as it always was', () => {
    const hashOf = (files: Readonly<Record<string, string>>): string | undefined => load(files).policy?.hash
    const hash = hashOf(CUT)
    expect(hash).toMatch(/^[0-9a-f]{64}$/)
    expect(hashOf(CUT)).toBe(hash)
    const others = [
      { ...CUT, 'streams.yaml': `${CUT['streams.yaml']}# a word more\n` },
      { ...CUT, 'outputs/all.yaml': `# a word more\n${CUT['outputs/all.yaml']}` },
      { ...CUT, 'rules.yaml': CUT['rules.yaml'].replace('streams.yaml', 'renamed.yaml'), 'renamed.yaml': CUT['streams.yaml'] },
    ].map(hashOf)
    expect(new Set([hash, ...others]).size).toBe(4)
    expect(whole.policy?.hash).toBe(createHash('sha256').update(`${GOOD}\u0000${SCHEMAS.hash}`).digest('hex'))
  })

  test('lists go one behind the other, and anchors of each file are its own', () => {
    const files = {
      ...CUT,
      'rules.yaml': `${CUT['rules.yaml']}define: { x: &shown { time_ms: keep } }\ntests:\n  - name: first\n    given: { stream: status, operator: none, consent: {}, message: { machine_id: SN-1 } }\n    expect: { planning: nothing }\n`,
    }
    const { policy, findings } = load(files)
    expect(findings).toEqual([])
    expect(policy?.tests.map((one) => [one.name, one.file?.split('/').at(-1)])).toEqual([['first', undefined], ...whole.policy!.tests.map((one) => [one.name, 'all.yaml'])])
  })
})

describe('a mistake', () => {
  const edited = (name: keyof typeof CUT, from: string, to: string): Record<string, string> => {
    expect(CUT[name]).toContain(from)
    return { ...CUT, [name]: CUT[name].replace(from, to) }
  }
  const named = (name: string): Record<string, string> => edited('rules.yaml', 'streams.yaml,', `${name},`)

  test.each<readonly [string, Record<string, string>, string, string, string]>([
    ['a field that the message does not have', edited('outputs/all.yaml', 'soc_pct_x10:', 'soc_pct_x1:'), 'outputs/all.yaml', 'soc_pct_x1:', 'UNKNOWN-FIELD'],
    ['a condition', edited('streams.yaml', 'msg.fix > 0', 'msg.fixx > 0'), 'streams.yaml', 'msg.fixx', 'CONDITION'],
    ['a recipient that no file has', edited('outputs/all.yaml', 'recipient: planner', 'recipient: planer'), 'outputs/all.yaml', 'planer', 'UNKNOWN-RECIPIENT'],
    ['a basis of a purpose that no file has', edited('rules.yaml', '    personalise: { basis: consent,', '    personalize: { basis: consent,'), 'rules.yaml', 'personalize', 'UNKNOWN-PURPOSE'],
    ['a stream of a test', edited('outputs/all.yaml', 'given: { stream: status, country: FR, operator: none', 'given: { stream: statuss, country: FR, operator: none'), 'outputs/all.yaml', 'statuss', 'UNKNOWN-STREAM'],
    ['a list where a map belongs, in the rules file', { ...CUT, 'rules.yaml': `${CUT['rules.yaml']}streams: []\n` }, 'rules.yaml', '[]', 'WRONG-TYPE'],
  ])('%s is reported where it is', (_, files, name, text, code) => {
    expect(findingsOf(files)).toContain(`${placeOf(files, name, text)} ${code}`)
  })

  test.each<readonly [string, Readonly<Record<string, string>>, readonly string[]]>([
    ['a key that the language does not have', edited('streams.yaml', '    topic: "up/{fleet}/{machine}/operator"', '    topik: "up/{fleet}/{machine}/operator"'), ['streams.yaml:9:3 MISSING-KEY', 'streams.yaml:10:5 UNKNOWN-KEY']],
    ['a top-level key that no file has', edited('streams.yaml', 'purposes:', 'purpose:'), ['streams.yaml:13:1 UNKNOWN-KEY']],
    ['a part that only the rules file has', { ...CUT, 'streams.yaml': `version: 1\npolicy: {}\n${CUT['streams.yaml']}` }, ['streams.yaml:1:1 INCLUDE', 'streams.yaml:2:1 INCLUDE']],
    ['parameters in an included file', { ...CUT, 'streams.yaml': `params: { a: 1 }\n${CUT['streams.yaml']}` }, ['streams.yaml:1:1 INCLUDE']],
    ['an include in an included file', { ...CUT, 'streams.yaml': `include: [outputs/all.yaml]\n${CUT['streams.yaml']}` }, ['streams.yaml:1:1 INCLUDE']],
    ['an empty file', { ...CUT, 'streams.yaml': '' }, ['streams.yaml:1:1 WRONG-TYPE']],
    ['a list', { ...CUT, 'streams.yaml': '- a\n' }, ['streams.yaml:1:1 WRONG-TYPE']],
    ['a map where a list belongs', { ...CUT, 'streams.yaml': `${CUT['streams.yaml']}tests: {}\n` }, ['streams.yaml:17:8 WRONG-TYPE']],
    ['no YAML', { ...CUT, 'streams.yaml': 'streams:\n\tx: 1\n' }, ['streams.yaml:2:1 YAML-TAB']],
    ['a file that is not there', named('stream.yaml'), ['rules.yaml:3:11 FILE-UNREADABLE']],
    ['a way up', named('../rules.yaml'), ['rules.yaml:3:11 BAD-VALUE']],
    ['a way up in the middle', named('outputs/../../x.yaml'), ['rules.yaml:3:11 BAD-VALUE']],
    ['an absolute path', named('/etc/passwd.yaml'), ['rules.yaml:3:11 BAD-VALUE']],
    ['a drive', named('"C:/x.yaml"'), ['rules.yaml:3:11 BAD-VALUE']],
    ['a back slash', named('outputs\\x.yaml'), ['rules.yaml:3:11 BAD-VALUE']],
    ['another kind of file', named('root.key'), ['rules.yaml:3:11 BAD-VALUE']],
    ['one file twice', named('outputs/all.yaml'), ['rules.yaml:3:10 BAD-VALUE']],
    ['no list', edited('rules.yaml', '[streams.yaml, outputs/all.yaml]', 'streams.yaml'), ['rules.yaml:3:10 WRONG-TYPE']],
    ['itself', named('rules.yaml'), ['rules.yaml:3:11 INCLUDE']],
    ['more files than may be', { ...CUT, 'rules.yaml': `version: 1\ninclude: [${Array.from({ length: LIMITS.includes + 1 }, (_, index) => `f${index}.yaml`).join(', ')}]\n` }, ['rules.yaml:2:10 BAD-VALUE']],
  ])('%s is reported where it is', (_, files, findings) => {
    expect(findingsOf(files)).toEqual(findings)
  })

  test('one key in two files names both places', () => {
    const { findings, policy } = load({ ...CUT, 'streams.yaml': `${CUT['streams.yaml']}recipients:\n  planner: { role: processor, region: EU }\n` })
    expect(policy).toBeUndefined()
    expect(findings.map((one) => `${one.code} ${one.place.file.split('/').at(-1)}:${one.place.line}:${one.place.col}`)).toEqual(['DUPLICATE all.yaml:5:3'])
    expect(findings[0]?.text).toMatch(/^"planner" of `recipients` stands here and in \S+streams\.yaml:18:3\. Rename or remove one of them\.$/)
  })

  test('an alias of another file says that anchors hold within one', () => {
    const { findings } = load({ ...CUT, 'outputs/all.yaml': section('recipients', 'outputs', 'tests'), 'rules.yaml': `${CUT['rules.yaml']}${section('define')}` })
    expect(findings.map((one) => one.code)).toEqual(['YAML-ALIAS'])
    expect(findings[0]?.place.file).toMatch(/outputs\/all\.yaml$/)
    expect(findings[0]?.text).toMatch(/anchor.*Anchors hold within one file/)
    const inMain = load({ ...CUT, 'rules.yaml': `${CUT['rules.yaml']}outputs: { x: *shown }\n` })
    expect(inMain.findings[0]?.text).toContain('Anchors hold within one file')
    expect(loadRules('one.yaml', 'a: *b\n', { schemas: SCHEMAS }).findings[0]?.text).not.toContain('Anchors hold')
  })

  test('what belongs to the gateway itself is not read, under whatever name it is asked for', () => {
    const folder = folderWith({ ...CUT, 'depot/machines.yaml': 'SN-4711: { fleet: north, model: SL10 }\n', 'depot/north/a.yaml': 'SN-4712: {}\n' })
    symlinkSync('depot/machines.yaml', join(folder, 'm.yaml'))
    const read = (name: string): readonly string[] => loadRules(join(folder, 'rules.yaml'), CUT['rules.yaml'].replace('streams.yaml,', `${name},`), {
      schemas: SCHEMAS, today: TODAY, apart: [join(folder, 'depot/machines.yaml'), join(folder, 'depot/north'), join(folder, 'nowhere.yaml')],
    }).findings.map(({ code, text }) => `${code} ${text}`)
    for (const name of ['depot/machines.yaml', 'm.yaml', 'depot/north/a.yaml']) expect(read(name)).toEqual([`INCLUDE The included file ${name} belongs to the gateway itself and holds no rules. Name a file with rules.`])
    expect(read('streams.yaml')).toEqual([])
  })

  test.skipIf(process.platform === 'win32')('a pipe is not waited for', () => {
    const folder = folderWith(CUT)
    rmSync(join(folder, 'streams.yaml'))
    execFileSync('mkfifo', [join(folder, 'streams.yaml')])
    expect(loadRulesFile(join(folder, 'rules.yaml'), { schemas: SCHEMAS, today: TODAY }).findings.map(({ code }) => code)).toEqual(['FILE-UNREADABLE'])
  })

  test('a link out of the folder is refused, one within it is not', () => {
    const outside = folderWith({ 'streams.yaml': CUT['streams.yaml'] })
    const folder = folderWith({ 'rules.yaml': CUT['rules.yaml'], 'outputs/all.yaml': CUT['outputs/all.yaml'], 'v1/streams.yaml': CUT['streams.yaml'] })
    const read = (): string[] => loadRulesFile(join(folder, 'rules.yaml'), { schemas: SCHEMAS, today: TODAY }).findings.map((one) => one.code)
    symlinkSync(join(outside, 'streams.yaml'), join(folder, 'streams.yaml'))
    expect(read()).toEqual(['INCLUDE'])
    rmSync(join(folder, 'streams.yaml'))
    symlinkSync('v1/streams.yaml', join(folder, 'streams.yaml'))
    expect(read()).toEqual([])
    // A folder that is a link to another one leads out too.
    rmSync(join(folder, 'streams.yaml'))
    symlinkSync(outside, join(folder, 'linked'))
    writeFileSync(join(folder, 'rules.yaml'), CUT['rules.yaml'].replace('streams.yaml', 'linked/streams.yaml'))
    expect(read()).toEqual(['INCLUDE'])
  })

  test('all files together have the bound of one', () => {
    const half = `# ${'x'.repeat(LIMITS.fileBytes / 2)}\n`
    const { findings } = loadRules('rules.yaml', 'version: 1\ninclude: [a.yaml, b.yaml]\n', { schemas: SCHEMAS, included: { 'a.yaml': `${half}streams: {}`, 'b.yaml': `${half}streams: {}` } })
    expect(findings.map((one) => `${one.code} ${one.place.line}:${one.place.col}`)).toEqual(['YAML-TOO-LARGE 2:19'])
  })

  test('a lint of an included file is waived from any file', () => {
    const bare = edited('outputs/all.yaml', '    arrival_visible: true\n', '')
    const { findings } = load(bare)
    expect(findings.map((one) => `${one.code} ${one.place.file.split('/').at(-1)}`)).toEqual(['ARRIVAL-TELLS-TIME all.yaml'])
    const waiver = 'accept: [{ code: arrival-tells-time, at: planning, why: "the planner polls once a day" }]\n'
    for (const name of ['rules.yaml', 'streams.yaml'] as const) {
      const { findings: rest, accepted } = load({ ...bare, [name]: `${bare[name]}${waiver}` })
      expect(rest).toEqual([])
      expect(accepted).toHaveLength(1)
    }
    // A waiver for nothing is reported in the file that it is in.
    const unused = { ...CUT, 'streams.yaml': `${CUT['streams.yaml']}${waiver}` }
    expect(findingsOf(unused)).toEqual([`${placeOf(unused, 'streams.yaml', 'planning')} ACCEPT-UNUSED`])
  })

  test('a failing test is reported in its file', async () => {
    const files = { ...PASSING, 'outputs/all.yaml': PASSING['outputs/all.yaml'].replace('planning: nothing', 'planning: { mode: $any }') }
    const folder = folderWith(files)
    const { policy, findings } = await acceptRules(join(folder, 'rules.yaml'), { schemas: SCHEMAS, today: TODAY })
    expect(policy).toBeUndefined()
    expect(findings.filter((one) => one.severity === 'error').map(({ code, place }) => [code, place])).toEqual([['TEST-FAILED', { file: join(folder, 'outputs/all.yaml'), line: Number(placeOf(files, 'outputs/all.yaml', '- name: a machine nobody').split(':')[1]), col: 1 }]])
  })
})

describe('accepted texts', () => {
  test('are enough: nothing is read from disk, and one that is missing is an error', () => {
    const { 'rules.yaml': main, ...included } = CUT
    const options = { schemas: SCHEMAS, today: TODAY, folder: '/nowhere' }
    expect(loadRules('rules.yaml', main, { ...options, included }).policy?.hash).toBe(load(CUT).policy?.hash)
    expect(loadRules('rules.yaml', main, { ...options, included: { 'streams.yaml': included['streams.yaml'] } }).findings.map((one) => one.code)).toEqual(['FILE-UNREADABLE'])
    expect(loadRules('rules.yaml', main, { ...options, included: {} }).policy).toBeUndefined()
  })

  test('are kept with the set; a set that was kept before there were any still loads', async () => {
    const folder = folderWith(PASSING)
    const { policy, text, included, params } = await acceptRules(join(folder, 'rules.yaml'), { schemas: SCHEMAS, today: TODAY })
    expect(included).toEqual({ 'streams.yaml': CUT['streams.yaml'], 'outputs/all.yaml': PASSING['outputs/all.yaml'] })
    new AcceptedSets(folder).activate({ file: 'rules.yaml', text, include: included, params, proto: {}, hash: policy!.hash })
    rmSync(join(folder, 'streams.yaml'))
    const kept = new AcceptedSets(folder).active!
    expect(kept.include).toEqual(included)
    expect((await acceptRules(kept.file, { schemas: SCHEMAS, today: TODAY, text: kept.text, included: kept.include!, params: kept.params })).policy?.hash).toBe(policy!.hash)

    const inOne = passing(GOOD)
    const before = { file: 'rules.yaml', text: inOne, proto: {}, hash: loadRules('rules.yaml', inOne, { schemas: SCHEMAS, today: TODAY }).policy!.hash }
    new AcceptedSets(folder).activate(before)
    const old = new AcceptedSets(folder).active!
    expect(old).toEqual(before)
    expect((await acceptRules(old.file, { schemas: SCHEMAS, today: TODAY, text: old.text, included: old.include ?? {}, params: old.params ?? {} })).policy?.hash).toBe(before.hash)
  })
})

test.each([['include', 5], ['include', ['a']], ['params', null], ['params', 'cell']] as const)('a kept set whose %s is %j is as good as none', (key, value) => {
  const folder = folderWith({ 'accepted/active.json': JSON.stringify({ file: 'rules.yaml', text: GOOD, proto: {}, hash: 'ab', [key]: value }) })
  expect(new AcceptedSets(folder).active).toBeUndefined()
})

describe('a watch over included files', () => {
  test('sees what changed between reading and watching, what appears, and what is named later', async () => {
    const folder = folderWith({ 'a.yaml': 'one' })
    const [a, b] = [join(folder, 'a.yaml'), join(folder, 'b.yaml')]
    const seen: (readonly string[])[] = []
    const watch = watchNamed((paths) => seen.push(paths), { debounceMs: 10, pollMs: 50 })
    // Read when it was another one.
    watch.use(new Map([[a, 'another state']]))
    await until(() => seen.length === 1, 'the change before the watch')
    expect(seen[0]).toEqual([a])
    watch.use(new Map([[b, 'absent']]))
    writeFileSync(b, 'two')
    await until(() => seen.length === 2, 'the new file')
    expect(seen[1]).toEqual([b])
    watch.close()
    writeFileSync(b, 'three, after the end')
    await new Promise((done) => setTimeout(done, 150))
    expect(seen).toHaveLength(2)
  })
})

describe('a running gateway', () => {
  interface Rules {
    readonly active?: { readonly hash: string }
    readonly refused?: { readonly findings: readonly { readonly code: string; readonly file: string; readonly line: number }[] }
  }
  interface Active { readonly active: { readonly hash: string; readonly text: string; readonly include?: Readonly<Record<string, string>> } }

  let folder: Folder
  let stage: Stage
  /** Line of `include:`. */
  let include: number
  const rules = (): Promise<Rules> => stage.admin<Rules>('GET', '/v1/rules')
  const hash = async (): Promise<string | undefined> => (await rules()).active?.hash

  beforeEach(async () => {
    folder = new Folder()
    const parts = sectionsOf(folder.read('rules/awp.yaml').replace(/^[^]*?(?=^version:)/m, ''))
    const text = (...keys: readonly string[]): string => keys.map((key) => parts.get(key) ?? '').join('')
    mkdirSync(folder.file('rules/outputs'))
    folder.edit('rules/awp.yaml', () => `${text('version', 'policy')}include: [streams.yaml, outputs/all.yaml]\n${text('subject', 'purposes', 'legal_basis')}`)
    include = folder.read('rules/awp.yaml').split('\n').findIndex((line) => line.startsWith('include:')) + 1
    writeFileSync(folder.file('rules/streams.yaml'), text('define', 'streams'))
    writeFileSync(folder.file('rules/outputs/all.yaml'), text('define', 'recipients', 'outputs', 'accept', 'tests'))
    stage = await Stage.open({ folder })
  })
  afterEach(() => stage.close())

  test('reads again when an included file changes, keeps what was accepted over restarts, and goes back to it', async () => {
    const first = await hash()
    expect(first).toMatch(/^[0-9a-f]{64}$/)
    folder.edit('rules/outputs/all.yaml', (text) => text.replace('hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: 18 min }'))
    await until(async () => (await hash()) !== first, 'the included file to be read')
    const second = await hash()
    const { active } = await stage.admin<Active>('GET', '/v1/rules/active')
    expect(active).toMatchObject({ hash: second, text: folder.read('rules/awp.yaml'), include: { 'streams.yaml': folder.read('rules/streams.yaml'), 'outputs/all.yaml': folder.read('rules/outputs/all.yaml') } })

    await stage.stop()
    stage = await Stage.open({ folder })
    expect(await hash()).toBe(second)

    // The file goes away: what is in force stays, and the finding names the line that includes it.
    const outputs = readFileSync(folder.file('rules/outputs/all.yaml'), 'utf8')
    rmSync(folder.file('rules/outputs/all.yaml'))
    await until(async () => (await rules()).refused !== undefined, 'the missing file to be noticed')
    expect((await rules()).refused?.findings).toMatchObject([{ code: 'FILE-UNREADABLE', file: 'awp.yaml', line: include }])
    await stage.stop()
    stage = await Stage.open({ folder })
    expect(await hash()).toBe(second)

    writeFileSync(folder.file('rules/outputs/all.yaml'), outputs.replace('recipient: rental-company', 'recipient: nobody-known'))
    await until(async () => (await rules()).refused?.findings[0]?.code === 'UNKNOWN-RECIPIENT', 'the file that came back to be read')
    expect((await rules()).refused?.findings[0]).toMatchObject({ file: 'outputs/all.yaml' })
    writeFileSync(folder.file('rules/outputs/all.yaml'), outputs)
    await until(async () => (await rules()).refused === undefined, 'the mended file to be read')

    expect((await stage.admin<Rules>('POST', '/v1/rules/rollback', {})).active?.hash).toBe(first)
    expect((await stage.admin<Active>('GET', '/v1/rules/active')).active.include?.['outputs/all.yaml']).toContain('hour_meter_s: { round: 6 min }')
  })

  test('compares files with what is active, and checks a text with the included files beside its own', async () => {
    const { host, port } = stage.gateway.addresses.admin
    const gateway = ['--url', `http://${host}:${port}`, '--token-file', stage.gateway.adminTokenFile]
    const diff = (): ReturnType<typeof parapet> => parapet(['diff', '--active', folder.file('rules/awp.yaml'), ...gateway], { cwd: folder.path })
    expect(await diff()).toMatchObject({ code: 0 })
    const { token } = await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: 'tuner', role: 'engineer' })
    const send = async (method: 'POST' | 'PUT', path: string, body: string): Promise<{ status: number; answer: unknown }> => {
      const response = await fetch(`http://${host}:${port}${path}`, { method, body, headers: { 'content-type': 'application/yaml', authorization: `Bearer ${token}` } })
      return { status: response.status, answer: await response.json() }
    }
    const main = folder.read('rules/awp.yaml')
    expect(await send('POST', '/v1/rules/validate', main)).toMatchObject({ status: 200, answer: { accepted: true } })
    expect(await send('POST', '/v1/rules/validate', main.replace('streams.yaml', 'stream.yaml'))).toMatchObject({ answer: { accepted: false, findings: [{ code: 'FILE-UNREADABLE', file: 'awp.yaml', line: include }] } })
    const before = await hash()
    expect(await send('PUT', '/v1/rules', `${main}# put\n`)).toMatchObject({ status: 200 })
    expect(await hash()).not.toBe(before)
    expect(folder.read('rules/awp.yaml')).toBe(`${main}# put\n`)
  })

  test('tells nobody who may only write rules what stands in its other files, wherever these lie', async () => {
    await stage.stop()
    renameSync(folder.file('machines.yaml'), folder.file('rules/machines.yaml'))
    folder.edit('gateway.yaml', (text) => text.replace(/^machines: .*$/m, 'machines: ./rules/machines.yaml'))
    stage = await Stage.open({ folder })
    const { token } = await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: 'looker', role: 'viewer' })
    const { host, port } = stage.gateway.addresses.admin
    const response = await fetch(`http://${host}:${port}/v1/rules/validate`, {
      method: 'POST', body: folder.read('rules/awp.yaml').replace('streams.yaml', 'machines.yaml'), headers: { 'content-type': 'application/yaml', authorization: `Bearer ${token}` },
    })
    const answer = await response.text()
    expect(JSON.parse(answer)).toMatchObject({ accepted: false, findings: [{ code: 'INCLUDE', file: 'awp.yaml', line: include }] })
    expect(answer).not.toContain('SN-')
  })
})
