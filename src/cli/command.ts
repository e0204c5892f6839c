/**
 * The frame of the command line: a command is a table of options and a function from parsed arguments to an exit code.
 * Exit 0 fine, 1 findings or failure, 2 wrong usage. Nothing here touches the process, so that tests need none.
 */
import { readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { suggestion } from '../config/nearest.ts'
import { describeError } from '../log.ts'

/** What a command sees of the world. */
export interface Io {
  readonly stdin: Readable
  readonly stdout: Writable & { readonly isTTY?: boolean | undefined; readonly columns?: number | undefined }
  readonly stderr: Writable
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
}

export interface Option {
  /** Without the two dashes. */
  readonly name: string
  /** Name of its value in the help, `ID`; an option without one is a flag. */
  readonly arg?: string
  readonly text: string
  /** May be given more than once. */
  readonly many?: boolean
  readonly required?: boolean
  /** The only values there are. */
  readonly choices?: readonly string[]
}

export interface Command {
  readonly name: string
  /** One line, without a full stop. */
  readonly summary: string
  /** What follows `parapet NAME`, one line per form. */
  readonly usage: readonly string[]
  /** First word of the arguments, where the command has several deeds: `grant`, `list`. */
  readonly actions?: readonly { readonly name: string; readonly text: string }[]
  /** Words besides the action, least and most; default none. */
  readonly words?: readonly [number, number]
  readonly options: readonly Option[]
  /** A paragraph or two for the end of the help. */
  readonly notes?: string
  run(args: Args, io: Io): Promise<number>
}

/** Arguments as the table of a command allows them. */
export interface Args {
  /** Empty for a command without actions. */
  readonly action: string
  readonly words: readonly string[]
  has(option: string): boolean
  /** The value, or undefined when the option was not given. */
  get(option: string): string | undefined
  /** The values of a `many` option, in order. */
  all(option: string): readonly string[]
}

/** Wrong usage: exit 2, with a pointer to the help. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** For commands that print a table. */
export const FORMAT: Option = { name: 'format', arg: 'FORMAT', text: 'text (default) or json', choices: ['text', 'json'] }

/** Loaded when asked for, so that `parapet --version` does not wait for a broker. A command module imports what is heavy inside `run`. */
export const COMMANDS: CommandTable = {
  check: () => import('./check.ts'),
  consent: () => import('./consent.ts'),
  'dead-letters': () => import('./dead-letters.ts'),
  decode: () => import('./decode.ts'),
  demo: () => import('./demo.ts'),
  diff: () => import('./diff.ts'),
  encode: () => import('./encode.ts'),
  explain: () => import('./explain.ts'),
  filter: () => import('./filter.ts'),
  init: () => import('./init.ts'),
  keys: () => import('./keys.ts'),
  learn: () => import('./learn.ts'),
  ledger: () => import('./ledger.ts'),
  machines: () => import('./machines.ts'),
  pki: () => import('./pki.ts'),
  recipients: () => import('./recipients.ts'),
  record: () => import('./record.ts'),
  rules: () => import('./rules.ts'),
  serve: () => import('./serve.ts'),
  simulate: () => import('./simulate.ts'),
  status: () => import('./status.ts'),
  subscribe: () => import('./subscribe.ts'),
  test: () => import('./test.ts'),
  tokens: () => import('./tokens.ts'),
  trace: () => import('./trace.ts'),
  transforms: () => import('./transforms.ts'),
  why: () => import('./why.ts'),
}
export type CommandTable = Readonly<Record<string, () => Promise<{ readonly command: Command }>>>

/**
 * Runs one command line.
 * @param argv  what follows `parapet`
 * @returns     the exit code; never throws
 */
export async function runCommand(argv: readonly string[], io: Io, table: CommandTable = COMMANDS): Promise<number> {
  const [name, ...rest] = argv
  try {
    if (name === undefined) {
      io.stderr.write(await overview(table))
      return 2
    }
    if (name === '--version' || name === '-V') {
      io.stdout.write(`${version()}\n`)
      return 0
    }
    if (name === '--help' || name === '-h' || name === 'help') {
      const topic = name === 'help' ? rest.find((word) => !word.startsWith('-')) : undefined
      io.stdout.write(topic === undefined ? await overview(table) : help((await load(topic, table)).command))
      return 0
    }
    const { command } = await load(name, table)
    // Before parsing: who asks for help need not have the rest right.
    const end = rest.indexOf('--')
    if ((end < 0 ? rest : rest.slice(0, end)).some((word) => word === '--help' || word === '-h')) {
      io.stdout.write(help(command))
      return 0
    }
    return await command.run(parse(command, rest), io)
  } catch (error) {
    if (error instanceof UsageError) {
      io.stderr.write(`parapet: ${error.message}\n`)
      return 2
    }
    const { message, name: kind, code, frames } = describeError(error)
    // [G8] The message of an error that is not ours may quote data, so only where it arose is shown.
    io.stderr.write(`parapet: ${message ?? [kind, code].filter((part) => part !== undefined).join(' ')}\n`)
    for (const frame of frames ?? []) io.stderr.write(`    at ${frame}\n`)
    return 1
  }
}

/** The number in package.json. */
export function version(): string {
  const { version: number } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  return number
}

/**
 * Checks and sorts arguments by the table of a command.
 * @throws UsageError  unknown option or action (with a suggestion), missing or surplus value, option given twice, words missing or surplus
 */
export function parse(command: Command, argv: readonly string[]): Args {
  const see = `See: parapet ${command.name} --help`
  const wrong = (text: string): UsageError => new UsageError(`${text} ${see}`)
  const values = new Map<string, string[]>()
  const words: string[] = []

  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index] ?? ''
    if (word === '--') {
      words.push(...argv.slice(index + 1))
      break
    }
    if (!word.startsWith('--')) {
      if (/^-[A-Za-z]/.test(word)) throw wrong(`Options are written with two dashes, not ${word}.`)
      words.push(word)
      continue
    }
    const [, name = '', inline] = /^--([^=]*)(?:=([^]*))?$/.exec(word) ?? []
    const option = command.options.find((one) => one.name === name)
    if (option === undefined) throw wrong(`There is no option --${name}. ${suggestion(name, command.options.map((one) => one.name))}`.trimEnd())
    if (option.many !== true && values.has(name)) throw wrong(`The option --${name} is given twice.`)
    values.set(name, [...(values.get(name) ?? []), valueOf(option, inline, argv[index + 1], wrong)])
    if (option.arg !== undefined && inline === undefined) index += 1
  }

  const action = command.actions === undefined ? '' : actionOf(command, words.shift(), wrong)
  const [least, most] = command.words ?? [0, 0]
  if (words.length < least) throw wrong(`Something is missing: parapet ${command.name} ${command.usage[0] ?? ''}.`)
  if (words.length > most) throw wrong(`"${words[most]}" is one word too many.`)
  for (const { name, required } of command.options) if (required === true && !values.has(name)) throw wrong(`The option --${name} is needed.`)

  return { action, words, has: (name) => values.has(name), get: (name) => values.get(name)?.[0], all: (name) => values.get(name) ?? [] }
}

function valueOf(option: Option, inline: string | undefined, next: string | undefined, wrong: (text: string) => UsageError): string {
  if (option.arg === undefined) {
    if (inline !== undefined) throw wrong(`The option --${option.name} takes no value.`)
    return ''
  }
  // A value that begins with two dashes is more likely a forgotten one; `--name=--value` says that it is meant.
  const value = inline ?? (next?.startsWith('--') === true ? undefined : next)
  if (value === undefined) throw wrong(`The option --${option.name} needs a value: --${option.name} ${option.arg}.`)
  if (option.choices !== undefined && !option.choices.includes(value)) {
    throw wrong(`The option --${option.name} is one of ${option.choices.join(', ')}. ${nearestOf(value, option.choices)}`.trimEnd())
  }
  return value
}

function actionOf({ name, actions = [] }: Command, given: string | undefined, wrong: (text: string) => UsageError): string {
  const names = actions.map((action) => action.name)
  if (given === undefined) throw wrong(`parapet ${name} needs one of ${names.join(', ')}.`)
  if (!names.includes(given)) throw wrong(`parapet ${name} does not know "${given}". ${suggestion(given, names)}`)
  return given
}

/** The suggestion, where the list of choices is not already said. */
function nearestOf(value: string, choices: readonly string[]): string {
  const text = suggestion(value, choices)
  return text.startsWith('Did') ? text : ''
}

function load(name: string, table: CommandTable): Promise<{ readonly command: Command }> {
  const entry = Object.hasOwn(table, name) ? table[name] : undefined
  if (entry === undefined) throw new UsageError(`There is no command "${name}". ${suggestion(name, Object.keys(table))} See: parapet --help`)
  return entry()
}

// ---------------------------------------------------------------------------------------------------------------------- text

async function overview(table: CommandTable): Promise<string> {
  const commands = await Promise.all(Object.keys(table).map((name) => load(name, table)))
  return [
    'parapet: only what the rules and the operator\'s consent allow leaves the machine', '',
    'Usage', '  parapet COMMAND [OPTIONS]', '  parapet COMMAND --help', '',
    'Commands', ...columns(commands.map(({ command }) => [command.name, command.summary])), '',
    'Exit codes: 0 fine, 1 findings or failure, 2 wrong usage.', '',
  ].join('\n')
}

/** The help of one command. */
export function help({ name, summary, usage, actions, options, notes }: Command): string {
  const rows = options.map((option) => [
    `--${option.name}${option.arg === undefined ? '' : ` ${option.arg}`}`,
    `${option.text}${option.many === true ? '; may be repeated' : ''}${option.required === true ? '; needed' : ''}`,
  ])
  return [
    `parapet ${name}: ${summary}`, '',
    'Usage', ...usage.map((line) => `  parapet ${name} ${line}`.trimEnd()), '',
    ...(actions === undefined ? [] : ['Actions', ...columns(actions.map((action) => [action.name, action.text])), '']),
    'Options', ...columns([...rows, ['--help', 'this text']]), '',
    ...(notes === undefined ? [] : [notes, '']),
  ].join('\n')
}

/** Rows of text with columns as wide as their widest cell; the last one runs free. */
export function columns(rows: readonly (readonly string[])[], indent = '  '): string[] {
  const widths = rows.reduce<number[]>((all, row) => row.map((cell, index) => Math.max(all[index] ?? 0, cell.length)), [])
  return rows.map((row) => `${indent}${row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0))).join('   ')}`.trimEnd())
}

/** Prints rows under a head as text, or the data behind them as JSON. */
export function printTable(io: Io, args: Args, head: readonly string[], rows: readonly (readonly string[])[], data: unknown): void {
  if (args.get('format') === 'json') printJson(io, data)
  else io.stdout.write(`${columns([head, ...rows], '').join('\n')}\n`)
}

export function printJson(io: Io, data: unknown): void {
  io.stdout.write(`${JSON.stringify(data, undefined, 2)}\n`)
}

