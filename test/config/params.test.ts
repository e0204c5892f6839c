/**
 * `params:`: a value with a name does what the value itself would do, a depot's own value is part of the hash and of the difference, and
 * whatever is wrong is said where the parameter stands.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { assert, property, subarray } from 'fast-check'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { acceptRules } from '../../src/acceptance.ts'
import { checkFiles } from '../../src/config/check-files.ts'
import { loadGatewayText } from '../../src/config/gateway.ts'
import { parseParam } from '../../src/config/params.ts'
import { editorSchema } from '../../src/config/schema.ts'
import { parseYaml } from '../../src/config/yaml.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import { differenceOf } from '../../src/difference.ts'
import type { Params } from '../../src/domain/policy.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { parapet } from '../cli/run.ts'
import { Folder, PROJECT, Stage, until } from '../e2e/stage.ts'
import { GOOD, load } from './fixture.ts'

/** The good file with values named instead of written, and what each name stands for. */
const NAMED: readonly (readonly [name: string, from: string, to: string, declared: string])[] = [
  ['window', 'round_time: 15m', 'round_time: $(window)', '15m'],
  ['cell', '{ grid: 500m }, no_consent', '{ grid: $(cell) }, no_consent', '500m'],
  ['qos', 'qos: 1', 'qos: $(qos)', '1'],
  ['visible', 'arrival_visible: true', 'arrival_visible: $(visible)', 'true'],
  ['fields', 'require: [position]', 'require: $(fields)', '[position]'],
  ['step', '{ round: 5 % }', '{ round: $(step) }', '5 %'],
  ['only.when', `"msg.key_on && machine.label.site != 'test'"`, '"$(only.when)"', `"msg.key_on && machine.label.site != 'test'"`],
  ['keeps', 'recipient_keeps: 30d', 'recipient_keeps: $(keeps)', '30d'],
  ['whole', 'operator_id: { pseudonym: { rotate: 30d } }', 'operator_id: { pseudonym: { rotate: $(whole) } }', '30d'],
  ['plain', 'time_ms: keep\n          position', 'time_ms: $(plain)\n          position', 'keep'],
]

function named(text: string, names: readonly string[] = NAMED.map(([name]) => name)): string {
  const used = NAMED.filter(([name]) => names.includes(name))
  const body = used.reduce((all, [, from, to]) => {
    expect(all.split(from), from).toHaveLength(2)
    return all.replace(from, () => to)
  }, text)
  return body.replace('streams:\n', () => `params:\n${used.map(([name, , , value]) => `  ${name}: ${value}\n`).join('')}streams:\n`)
}

const TEXT = named(GOOD)
const codes = (text: string, params: Params = {}): string[] => load(text, { params }).findings.map(({ code, place }) => `${code} ${place.line}:${place.col}`)
const at = (text: string, needle: string): string => {
  const lines = text.slice(0, text.indexOf(needle)).split('\n')
  expect(text.split(needle), needle).toHaveLength(2)
  return `${lines.length}:${(lines.at(-1) as string).length + 1}`
}
const changesOf = (from: Params, to: Params): string[] => {
  const [before, after] = [load(TEXT, { params: from }), load(TEXT, { params: to })].map((one) => ({ policy: one.policy!, accepted: one.accepted }))
  return [...new Set(differenceOf(before, after!).changes.map((one) => `${one.verdict} ${one.where}: ${one.before} -> ${one.after}`))]
}

describe('a value with a name', () => {
  test('is what is written', () => {
    const [plain, filled] = [load(GOOD), load(TEXT)]
    expect(filled.findings).toEqual([])
    expect(differenceOf({ policy: plain.policy!, accepted: [] }, { policy: filled.policy!, accepted: [] }).changes).toEqual([])
    expect(filled.params).toEqual({ window: '15m', cell: '500m', qos: 1, visible: true, fields: ['position'], step: '5 %', 'only.when': "msg.key_on && machine.label.site != 'test'", keeps: '30d', whole: '30d', plain: 'keep' })
  })

  test('is that whichever values have names', () => {
    const plain = load(GOOD)
    assert(property(subarray(NAMED.map(([name]) => name), { minLength: 1 }), (names) => {
      const filled = load(named(GOOD, names))
      expect(filled.findings).toEqual([])
      expect(differenceOf({ policy: plain.policy!, accepted: [] }, { policy: filled.policy!, accepted: [] }).changes).toEqual([])
    }), { numRuns: Number(process.env.PARAPET_RUNS ?? 10) })
  })

  test('may be another one at a depot; the difference says what that means', () => {
    expect(changesOf({}, { cell: '500m', qos: 1 })).toEqual([])
    expect(changesOf({}, { cell: '5km' })).toEqual(['narrowed outputs.planning.streams.status.fields.position: 500 m grid -> 5 km grid'])
    expect(changesOf({ cell: '5km' }, {})).toEqual(['widened outputs.planning.streams.status.fields.position: 5 km grid -> 500 m grid'])
    expect(changesOf({}, { keeps: '90d' })).toEqual([expect.stringMatching(/^widened outputs\.service/)])
  })

  test('is part of the hash, in whatever order and from wherever it comes', () => {
    const hash = (params: Params, text = TEXT): string | undefined => load(text, { params }).policy?.hash
    expect(hash({ cell: '5km', step: '10 %' })).toBe(hash({ step: '10 %', cell: '5km' }))
    // The same value given is the value of the file.
    expect(hash({ cell: '500m' })).toBe(hash({}))
    expect(new Set([hash({}), hash({ cell: '1km' }), hash({ cell: '5km' }), hash({ step: '10 %' })]).size).toBe(4)
  })

  test('is tried under other values a piece at a time, so that a gateway goes on meanwhile', () => {
    const work = load(TEXT).underInPieces({ cell: '1km' })
    let pieces = 1
    let step = work.next()
    for (; step.done !== true; step = work.next()) pieces++
    expect(pieces).toBeGreaterThan(5)
    expect(step.value.policy?.hash).toBe(load(TEXT, { params: { cell: '1km' } }).policy?.hash)
  })

  test('stands in maps of anchors as elsewhere, and in tests but not in their names', () => {
    const text = named(GOOD, ['cell', 'window']).replace('params:\n', 'params:\n  land: FR\n')
      .replace('name: no app\n    given: { stream: operator, country: FR', 'name: $(land)\n    given: { stream: operator, country: $(land)')
    const { policy, findings } = load(text, { params: { land: 'US' } })
    expect(findings).toEqual([])
    expect(policy?.tests.at(-1)).toMatchObject({ name: '$(land)', given: { country: 'US' } })
  })

  test('$$(x) is the text $(x)', () => {
    expect(load(GOOD.replace('about: "hours and battery"', () => 'about: $$(hours)')).policy?.purposes[0]?.about).toBe('$(hours)')
  })

  test('every place that takes a value takes it for editors too', () => {
    const validate = new Ajv2020({ strict: false }).compile(editorSchema())
    expect([validate(parseYaml('f', TEXT).value), validate.errors]).toEqual([true, null])
    expect(validate(parseYaml('f', TEXT.replace('qos: $(qos)', 'qos: $qos')).value)).toBe(false)
    expect(validate(parseYaml('f', 'streams: { s: { topic: "up/{machine}", message: a.B } }').value), 'an included file').toBe(true)
    expect(validate(parseYaml('f', 'streams: { s: { topic: "up/{machine}", message: a.B } }\nsubject: {}').value), 'an included file with a part of the rules file').toBe(false)
    expect(validate(parseYaml('f', 'version: 1\ninclude: [a.yaml, b/c.yaml]').value), 'a file that includes the rest').toBe(true)
    expect(validate(parseYaml('f', 'version: 1').value), 'a file without anything').toBe(false)
  })
})

describe('a mistake', () => {
  const cell = (text: string): string => GOOD.replace('{ grid: 500m }, no_consent', () => `{ grid: ${text} }, no_consent`)

  test.each<readonly [string, string, string, string]>([
    ['a name that is not declared', cell('$(cel)').replace('streams:\n', 'params: { cell: 500m }\nstreams:\n'), '$(cel)', 'UNKNOWN-PARAM'],
    ['a name where none is declared', cell('$(cell)'), '$(cell)', 'UNKNOWN-PARAM'],
    ['braces', cell('"${cell}"').replace('streams:\n', 'params: { cell: 500m }\nstreams:\n'), '"${cell}"', 'PARAM'],
    ['a part of a text', GOOD.replace('"hours and battery"', '"hours and $(what)"'), '"hours and $(what)"', 'PARAM'],
    ['a part of a condition', GOOD.replace('msg.fix > 0', 'msg.fix > $(fix)'), '"msg.fix > $(fix)"', 'PARAM'],
    ['a key', GOOD.replace('  personalise: { about', '  $(p): { about'), '$(p)', 'PARAM'],
    ['a map as value', GOOD.replace('streams:\n', 'params: { cell: { a: 1 } }\nstreams:\n'), '{ a: 1 }', 'WRONG-TYPE'],
    ['no value', GOOD.replace('streams:\n', 'params: { cell: }\nstreams:\n'), '}\nstreams:', 'WRONG-TYPE'],
    ['a list in a list', GOOD.replace('streams:\n', 'params: { cell: [[1]] }\nstreams:\n'), '[1]', 'WRONG-TYPE'],
    ['a name that is none', GOOD.replace('streams:\n', 'params: { "a b": 1 }\nstreams:\n'), '"a b"', 'BAD-NAME'],
    ['a value that fits no grid', named(GOOD, ['cell']).replace('cell: 500m', 'cell: 300s'), '$(cell)', 'TRANSFORM-ARGUMENT'],
    ['a name in a test', GOOD.replace('  - name: no app\n', '  - name: no app\n    params: { cell: 1km }\n'), 'cell: 1km }', 'UNKNOWN-PARAM'],
  ])('%s', (_, text, needle, code) => {
    expect(codes(text)).toEqual([`${code} ${at(text, needle)}`])
  })

  test('an unused one is said, because a depot that gives it changes nothing', () => {
    const text = GOOD.replace('streams:\n', 'params: { cell: 500m }\nstreams:\n')
    expect(load(text).policy).toBeDefined()
    expect(load(text).findings.map((one) => [one.severity, one.code, `${one.place.line}:${one.place.col}`])).toEqual([['warning', 'PARAM-UNUSED', at(text, 'cell: 500m }')]])
  })

  test('a value that is given for an undeclared name', () => {
    expect(load(TEXT, { params: { cel: '1km' } }).findings.map((one) => one.text)).toEqual(['A value is given for the parameter "cel", which the rules file does not declare. Did you mean "cell"?'])
    expect(codes(TEXT, { cel: '1km' })).toEqual([`UNKNOWN-PARAM ${at(TEXT, 'params:')}`])
  })

  test.each<readonly [string, Params, RegExp]>([
    ['of the wrong kind', { qos: 'once' }, /"qos" is "once".*Here \$\(qos\) is once, which was given in the place of the value in the file\./],
    ['that fits no place', { cell: '300s' }, /Here \$\(cell\) is 300s/],
    ['that makes the pair finer without consent', { cell: '20km' }, /Here \$\(cell\) is 20km/],
    ['a list where one value belongs', { window: ['15m', '30m'] }, /Here \$\(window\) is \[15m, 30m\]/],
    ['a list with a field that is not there', { fields: ['positon'] }, /Did you mean "position".*Here \$\(fields\) is \[positon\]/],
    ['a condition that cannot be read', { 'only.when': 'msg.keyon' }, /Here \$\(only\.when\) is msg\.keyon/],
    ['a transform that does not exist', { plain: 'kep' }, /no transform "kep".*Here \$\(plain\) is kep/],
  ])('a value %s is reported with its parameter, where it is used', (_, params, says) => {
    const { policy, findings } = load(TEXT, { params })
    expect(policy).toBeUndefined()
    expect(findings.filter((one) => says.test(one.text)).length, JSON.stringify(findings.map((one) => one.text))).toBeGreaterThan(0)
  })

  test('tests name so many different sets of values', () => {
    const with16 = (more: number): string => Array.from({ length: LIMITS.testParams + more }, (_, index) => (
      `  - { name: t${index}, params: { cell: ${5 * (index + 1)}km }, given: { stream: operator, message: { op: SIGN_ON } }, expect: { shift: nothing } }\n`)).join('')
    const text = named(GOOD, ['cell'])
    expect(codes(text + with16(0))).toEqual([])
    expect(codes(text + with16(0) + with16(0).replaceAll('name: t', 'name: again'))).toEqual([])
    expect(codes(text + with16(1)).map((one) => one.split(' ')[0])).toEqual(['LIMIT'])
  })

  test('what the file itself says is not called given', () => {
    expect(load(TEXT.replace('cell: 500m', 'cell: 300s')).findings[0]?.text).toMatch(/Here \$\(cell\) is 300s\.$/)
  })

  test('places in a list that was filled in are the place of the parameter', () => {
    const { findings } = load(TEXT, { params: { fields: ['position', 'positon'] } })
    expect(findings.map(({ place }) => `${place.line}:${place.col}`)).toEqual([at(TEXT, '$(fields)')])
  })

  test.each(['cell', '=1', 'a b=1', 'cell={ a: 1 }', 'cell=[[1]]', 'cell=~', 'cell=.nan'])('--param %s is none', (text) => {
    expect(parseParam(text)).toBeUndefined()
  })

  test('what --param reads', () => {
    expect(['cell=1km', 'a.b=2', 'on=true', 'to=[a, b]', 'x=a=b', 'e='].map(parseParam)).toEqual([['cell', '1km'], ['a.b', 2], ['on', true], ['to', ['a', 'b']], ['x', 'a=b'], undefined])
  })
})

describe('the gateway file', () => {
  test('gives values, also through --set', () => {
    expect(loadGatewayText('/etc/g.yaml', 'params: { cell: 1km, via: [local] }', ['params.qos=0']).config?.params).toEqual({ cell: '1km', via: ['local'], qos: 0 })
    expect(loadGatewayText('/etc/g.yaml', '').config?.params).toBeUndefined()
    expect(loadGatewayText('/etc/g.yaml', 'params: { cell: { a: 1 } }').findings.map((one) => one.code)).toEqual(['WRONG-TYPE'])
  })
})

// ------------------------------------------------------------------------------------- the worked example of config/README.md

const folders: string[] = []
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })))

/** Blocks of the section, by the path in their first line. */
function example(): string {
  const readme = readFileSync(join(PROJECT, 'config/README.md'), 'utf8')
  const start = readme.indexOf('### Several files, and values per depot')
  const part = readme.slice(start, readme.indexOf('\n### ', start + 1))
  const folder = mkdtempSync(join(tmpdir(), 'parapet-params-'))
  folders.push(folder)
  for (const [, name, text] of part.matchAll(/^```yaml\n# (\S+)\n([^]*?)^```$/gm)) {
    mkdirSync(dirname(join(folder, 'config', name as string)), { recursive: true })
    writeFileSync(join(folder, 'config', name as string), text as string)
  }
  cpSync(join(PROJECT, 'proto'), join(folder, 'proto'), { recursive: true })
  return join(folder, 'config')
}

describe('the example in config/README.md', () => {
  const schemas = loadSchemas([join(PROJECT, 'proto')])

  test('is accepted with the values of the file and with those of the depot, each under its own hash', async () => {
    const folder = example()
    const file = join(folder, 'rules/depots.yaml')
    const { policy, findings, report } = await acceptRules(file, { schemas })
    expect(findings).toEqual([])
    expect(report).toMatchObject({ passed: 2, failed: 0 })
    const checked = checkFiles({ rules: file, gateway: join(folder, 'gateway.yaml') })
    expect(checked.findings).toEqual([])
    expect(checked.rules.params).toEqual({ cell: '5km', window: '15m' })
    const depot = await acceptRules(file, { schemas, params: checked.gateway?.params })
    expect(depot.findings).toEqual([])
    expect(depot.policy?.hash).not.toBe(policy?.hash)
  })

  test('a test without values of its own runs under those in force', async () => {
    const folder = example()
    const file = join(folder, 'rules/outputs/planner.yaml')
    writeFileSync(file, readFileSync(file, 'utf8').replace('    params: { cell: 1km }\n', ''))
    const run = (...argv: readonly string[]): ReturnType<typeof parapet> => parapet(['test', 'rules/depots.yaml', ...argv], { cwd: folder })
    expect(await run()).toMatchObject({ code: 0 })
    const other = await run('--param', 'cell=5km')
    expect(other.code).toBe(1)
    expect(other.out).toMatch(/^FAIL {2}.*rules\/outputs\/planner\.yaml:\d+$/m)
  })

  test('a test under values that the rules refuse fails', async () => {
    const folder = example()
    const file = join(folder, 'rules/outputs/planner.yaml')
    writeFileSync(file, readFileSync(file, 'utf8').replace('params: { cell: 1km }', 'params: { cell: 20km }'))
    const { report, policy } = await acceptRules(join(folder, 'rules/depots.yaml'), { schemas })
    expect(policy).toBeUndefined()
    expect(report).toMatchObject({ passed: 1, failed: 1 })
    expect(report?.tests.flatMap((one) => one.failures)[0]?.note).toMatch(/^under cell = 20km the rules are refused: .*PAIR/)
  })

  test('on the command line', async () => {
    const folder = example()
    const run = (...argv: readonly string[]): ReturnType<typeof parapet> => parapet(argv, { cwd: folder })
    expect(await run('check', 'rules/depots.yaml')).toMatchObject({ code: 0 })
    expect(await run('check', 'rules/depots.yaml', '--config', 'gateway.yaml')).toMatchObject({ code: 0 })
    expect(await run('check', 'rules/depots.yaml', '--config', 'gateway.yaml', '--param', 'cell=7km')).toMatchObject({ code: 1 })
    expect(await run('check', 'rules/depots.yaml', '--param', 'cell=5km')).toMatchObject({ code: 0 })
    expect((await run('check', 'rules/depots.yaml', '--param', 'cel=5km')).out).toContain('Did you mean "cell"?')
    expect(await run('check', 'rules/depots.yaml', '--param', 'cell')).toMatchObject({ code: 2 })
    expect(await run('check', 'rules/depots.yaml', '--param', 'cell=1km', '--param', 'cell=5km')).toMatchObject({ code: 2 })
    expect((await run('explain', 'rules/depots.yaml', '--param', 'cell=5km')).out).toContain('5 km grid')
    expect((await run('explain', 'rules/depots.yaml', '--output', 'planner')).out).toMatch(/line \d+ of rules\/outputs\/planner\.yaml/)
    // A finer cell at this depot than at others.
    expect(await run('diff', 'rules/depots.yaml', 'rules/depots.yaml', '--old-param', 'cell=5km')).toMatchObject({ code: 3 })
    expect(await run('diff', 'rules/depots.yaml', 'rules/depots.yaml', '--old-param', 'cell=1km', '--param', 'cell=5km')).toMatchObject({ code: 0 })
    expect(await run('diff', 'rules/depots.yaml', 'rules/depots.yaml', '--param', 'cell=5km')).toMatchObject({ code: 0 })
  })

  test('a value in the gateway file for a name that the rules do not declare is reported there', () => {
    const folder = example()
    writeFileSync(join(folder, 'gateway.yaml'), 'rules: ./rules/depots.yaml\nparams: { cel: 5km }\n')
    const { findings } = checkFiles({ rules: join(folder, 'rules/depots.yaml'), gateway: join(folder, 'gateway.yaml') })
    expect(findings.map(({ code, place }) => `${place.file.slice(folder.length + 1)}:${place.line}:${place.col} ${code}`)).toEqual(['gateway.yaml:2:11 UNKNOWN-PARAM'])
  })
})

describe('a running gateway', () => {
  let folder: Folder
  let stage: Stage
  const active = async (): Promise<{ readonly hash: string; readonly params?: Params } | undefined> => (await stage.admin<{ active?: { hash: string; params?: Params } }>('GET', '/v1/rules/active')).active
  const start = async (...set: readonly string[]): Promise<void> => {
    stage = await Stage.open({ folder, set })
  }

  beforeEach(() => {
    folder = new Folder()
    folder.edit('rules/awp.yaml', (text) => text.replace('hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: $(hours) }').replace('streams:\n', 'params: { hours: 6 min }\nstreams:\n'))
  })
  afterEach(() => stage.close())

  test('keeps the values with what is in force; a finer one at the next start waits', async () => {
    await start()
    const first = await active()
    expect(first?.params).toEqual({ hours: '6 min' })
    await stage.stop()
    await start()
    expect((await active())?.hash).toBe(first?.hash)
    await stage.stop()

    await start('trial=false', 'params.hours=1 min')
    expect((await active())?.hash).toBe(first?.hash)
    const { staged } = await stage.admin<{ staged?: { hash: string; changes: { where: string; before: string; after: string }[] } }>('GET', '/v1/rules')
    expect(staged?.changes).toMatchObject([{ where: 'outputs.rental-billing.streams.status.fields.hour_meter_s', before: 'round to 360', after: 'round to 60' }])
    await stage.admin('POST', '/v1/rules/activate', { hash: staged?.hash, approve_widening: 'assessment 7' })
    expect(await active()).toMatchObject({ hash: staged?.hash, params: { hours: '1 min' } })
    await stage.stop()
    // The file goes bad: what was approved is put together from what was kept, with its value.
    folder.edit('rules/awp.yaml', (text) => text.replace('version: 1', 'version: 2'))
    await start('trial=false', 'params.hours=1 min')
    expect(await active()).toMatchObject({ hash: staged?.hash, params: { hours: '1 min' } })
    await until(async () => (await stage.admin<{ refused?: unknown }>('GET', '/v1/rules')).refused !== undefined, 'the bad file to be refused')
  })
})
