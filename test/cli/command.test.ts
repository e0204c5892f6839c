/** The frame: help for every command, what is said about wrong usage, exit codes. */
import { readdirSync } from 'node:fs'
import { execFileSync, spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { columns, COMMANDS, parse, runCommand } from '../../src/cli/command.ts'
import type { Command, CommandTable } from '../../src/cli/command.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import { testIo } from './io.ts'

const lift: Command = {
  name: 'lift',
  summary: 'move the platform',
  usage: ['up --height M [--note TEXT]...', 'down'],
  actions: [{ name: 'up', text: 'up' }, { name: 'down', text: 'down' }],
  words: [0, 1],
  options: [
    { name: 'height', arg: 'M', text: 'how far', choices: ['1', '2'] },
    { name: 'note', arg: 'TEXT', text: 'a note', many: true },
    { name: 'slow', text: 'slowly' },
  ],
  run: (args, io) => {
    io.stdout.write(JSON.stringify([args.action, args.words, args.get('height'), args.all('note'), args.has('slow')]))
    return Promise.resolve(0)
  },
}
const table = (command: Command): CommandTable => ({ [command.name]: () => Promise.resolve({ command }) })

async function run(argv: readonly string[], commands: CommandTable = table(lift)): Promise<{ code: number; out: string; err: string }> {
  const io = testIo()
  const code = await runCommand(argv, io, commands)
  return { code, out: io.out(), err: io.err() }
}

describe('arguments', () => {
  // prettier-ignore
  test.each([
    ['up',                                        ['up',   [],      undefined, [],         false]],
    ['down --slow',                               ['down', [],      undefined, [],         true]],
    ['up --height 2 --note a --note=b',           ['up',   [],      '2',       ['a', 'b'], false]],
    ['--height=1 up SN-1',                        ['up',   ['SN-1'], '1',      [],         false]],
    ['up --note=--slow',                          ['up',   [],      undefined, ['--slow'], false]],
    ['up --note= -- --height',                    ['up',   ['--height'], undefined, [''],  false]],
    ['up --note -5',                              ['up',   [],      undefined, ['-5'],     false]],
  ])('lift %s', async (line, expected) => {
    const { code, out } = await run(['lift', ...line.split(' ')])
    expect([code, JSON.parse(out)]).toEqual([0, JSON.parse(JSON.stringify(expected, (_key, value: unknown) => (value === undefined ? null : value)))])
  })

  // prettier-ignore
  test.each([
    ['',                          ''],
    ['lfit',                      'There is no command "lfit". Did you mean "lift"?'],
    ['constructor',               'There is no command "constructor".'],
    ['lift',                      'parapet lift needs one of up, down.'],
    ['lift upp',                  'parapet lift does not know "upp". Did you mean "up"?'],
    ['lift up --hieght 1',        'There is no option --hieght. Did you mean "height"?'],
    ['lift up --height',          'The option --height needs a value: --height M.'],
    ['lift up --height --slow',   'The option --height needs a value: --height M.'],
    ['lift up --height 3',        'The option --height is one of 1, 2.'],
    ['lift up --height 1 --height 2', 'The option --height is given twice.'],
    ['lift up --slow=yes',        'The option --slow takes no value.'],
    ['lift up -h1 -s',            'Options are written with two dashes, not -h1.'],
    ['lift up a b',               '"b" is one word too many.'],
  ])('%s -> 2', async (line, text) => {
    const { code, out, err } = await run(line === '' ? [] : line.split(' '))
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(text)
    expect(err).toMatch(/parapet (?:lift|COMMAND|)\s?--help/)
  })

  test('a needed option and a needed word are asked for', () => {
    const strict: Command = { ...lift, options: [{ name: 'operator', arg: 'ID', text: 'who', required: true }], words: [1, 1] }
    expect(() => parse(strict, ['up', 'SN-1'])).toThrow('The option --operator is needed.')
    expect(() => parse(strict, ['up', '--operator', 'x'])).toThrow('Something is missing')
  })
})

describe('failures', () => {
  const failing = (error: unknown): CommandTable => table({ ...lift, run: () => Promise.reject(error as Error) })

  test('an error of ours is its sentence and its mend', async () => {
    expect(await run(['lift', 'up'], failing(new GatewayError('NO-KEY', 'There is no key.', 'Run: parapet keys init')))).toEqual({ code: 1, out: '', err: 'parapet: There is no key. Run: parapet keys init\n' })
  })

  test('a foreign error says where it arose, not what it quotes', async () => {
    const { code, err } = await run(['lift', 'up'], failing(new TypeError('cannot read CANARY')))
    expect([code, err.split('\n')[0]]).toEqual([1, 'parapet: TypeError'])
    expect(err).toContain('command.test.ts')
    expect(err).not.toContain('CANARY')
  })
})

// A count that is none used to wait for ever; a time that is too long came back as a fault of the request.
test.each([
  [['subscribe', 'rental-company', '--count', 'x'], '--count is a whole number'],
  [['subscribe', 'rental-company', '--count', '0'], '--count is a whole number'],
  [['subscribe', 'rental-company', '--seconds', '-1'], '--seconds is a whole number'],
  [['learn', '--for', '8d'], '--for is a time such as 15m or 1h, at most 7d'],
  [['learn', '--for', '0s'], '--for is a time such as 15m or 1h, at most 7d'],
])('%j: says what the number may be', async (argv, sentence) => {
  const io = testIo('', { PARAPET_TOKEN: 'parapet_unused' })
  expect([await runCommand(argv, io), io.err()]).toEqual([2, expect.stringContaining(sentence)])
})

describe('help', () => {
  test('the overview and --version', async () => {
    expect(await run(['--help'])).toMatchObject({ code: 0, err: '', out: expect.stringContaining('lift   move the platform') as string })
    expect((await run(['--version'], COMMANDS)).out).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  test.each(Object.keys(COMMANDS))('parapet %s', async (name) => {
    const { command } = await COMMANDS[name]!()
    expect(command.name).toBe(name)
    expect(command.summary).toMatch(/^[a-z].*[^.]$/)
    for (const argv of [[name, '--help'], ['help', name], [name, '--nonsense', '-h']]) {
      const { code, out } = await run(argv, COMMANDS)
      expect(code).toBe(0)
      expect(out).toContain(`parapet ${name}: ${command.summary}`)
      for (const option of command.options) expect(out).toContain(`--${option.name}`)
      for (const action of command.actions ?? []) expect(out).toContain(action.name)
      // An option that the usage shows is one that there is.
      for (const [, shown] of command.usage.join(' ').matchAll(/--([a-z-]+)/g)) expect(command.options.map((option) => option.name)).toContain(shown)
    }
    expect(await run([name, '--formatt', 'json'], COMMANDS)).toMatchObject({ code: 2, out: '', err: expect.stringContaining('There is no option --formatt.') as string })
  })

  test('every command in the table is a file, and the overview names each', async () => {
    const files = new Set(readdirSync(new URL('../../src/cli/', import.meta.url)))
    const { out } = await run(['--help'], COMMANDS)
    for (const name of Object.keys(COMMANDS)) {
      expect(files).toContain(`${name}.ts`)
      expect(out).toMatch(new RegExp(`^ {2}${name} {2,}`, 'm'))
    }
  })

  test('columns are as wide as their widest cell', () => {
    expect(columns([['a', 'bb', 'c'], ['aaa', 'b', 'cccc']], '')).toEqual(['a     bb   c', 'aaa   b    cccc'])
  })
})

describe('the program', () => {
  const main = new URL('../../src/main.ts', import.meta.url).pathname

  test('runs unbuilt, with exit codes', () => {
    expect(execFileSync(process.execPath, [main, '--version'], { encoding: 'utf8' })).toMatch(/^\d/)
    const wrong = spawnSync(process.execPath, [main, 'conset'], { encoding: 'utf8' })
    expect([wrong.status, wrong.stderr]).toEqual([2, 'parapet: There is no command "conset". Did you mean "consent"? See: parapet --help\n'])
  })
})
