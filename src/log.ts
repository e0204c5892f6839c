/**
 * Logs without personal data (G8). The text of a line is a constant of the source, its fields come from one allow-list, and
 * fields that name a machine, a person, a client or an address are replaced by a tag that means nothing outside this process.
 * JSON for machines, one short readable line on a terminal.
 */
import { createHmac, randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { pino } from 'pino'
import { GatewayError } from './domain/errors.ts'

export const LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type Level = (typeof LEVELS)[number]

/**
 * What a line may carry, and how each field is made harmless:
 * `word` a name from our own configuration or source, anything else is hidden; `number` finite; `flag` boolean;
 * `file` a path of a configuration file; `tag` an identifier, always replaced by `tag(id)`; `error` class, code and frames, never the message of a foreign error.
 */
const FIELDS = {
  room: 'word', code: 'word', verdict: 'word', reason: 'word', state: 'word', command: 'word', listener: 'word', bridge: 'word', host: 'word',
  output: 'word', stream: 'word', recipient: 'word', purpose: 'word', policy: 'word', rules: 'word', previous: 'word', version: 'word',
  method: 'word', route: 'word', actor: 'word', role: 'word', action: 'word', field: 'word', signal: 'word',
  port: 'number', status: 'number', ms: 'number', count: 'number', bytes: 'number', records: 'number', seq: 'number', findings: 'number',
  machines: 'number', operators: 'number', connections: 'number', limit: 'number', offset: 'number', line: 'number', col: 'number', attempt: 'number',
  ready: 'flag', trial: 'flag', tls: 'flag',
  file: 'file',
  machine: 'tag', operator: 'tag', client: 'tag', address: 'tag', session: 'tag', holder: 'tag',
  error: 'error',
} as const

type Kind = (typeof FIELDS)[keyof typeof FIELDS]
interface KindTypes { word: string; number: number; flag: boolean; file: string; tag: string; error: unknown }
export type LogFields = { readonly [Name in keyof typeof FIELDS]?: KindTypes[(typeof FIELDS)[Name]] | undefined }

/**
 * Only a constant of the source is accepted as text: a text with a value in it has a type with room for any string,
 * whose record requires no key, and does not compile.
 */
type Constant<Text extends string> = Partial<Record<Text, unknown>> extends Record<Text, unknown> ? never : Text
type Write = <const Text extends string>(text: Constant<Text>, fields?: LogFields) => void

export interface Log {
  readonly debug: Write
  readonly info: Write
  readonly warn: Write
  readonly error: Write
  readonly level: Level
}

export interface LogOptions {
  /** From the gateway file; the environment variable PARAPET_LOG wins. Default info. */
  readonly level?: string | undefined
  /** `json` or `text`; default: text on a terminal, else json. */
  readonly format?: 'json' | 'text' | undefined
  /** Name of the gateway, in every line. */
  readonly gateway?: string | undefined
  /** Where lines go; default standard output, written synchronously so that the last lines before a crash are there. */
  readonly stream?: { write(line: string): unknown; readonly isTTY?: boolean | undefined } | undefined
  readonly env?: Readonly<Record<string, string | undefined>> | undefined
}

/** Makes the log of one process. Throws GatewayError LOG-LEVEL when the level does not exist. */
export function createLog(options: LogOptions = {}): Log {
  const level = (options.env ?? process.env)['PARAPET_LOG'] ?? options.level ?? 'info'
  if (!isLevel(level)) throw new GatewayError('LOG-LEVEL', 'The log level does not exist.', `Use one of ${LEVELS.join(', ')}.`)

  const out = options.stream ?? process.stdout
  const format = options.format ?? (out.isTTY === true ? 'text' : 'json')
  const stream = format === 'json' ? out : { write: (line: string) => out.write(readable(line)) }
  const base = options.gateway === undefined ? {} : { gateway: word(options.gateway) }
  const settings = {
    level, base, timestamp: pino.stdTimeFunctions.isoTime, messageKey: 'text',
    formatters: { level: (label: string) => ({ level: label }), log: harmless },
  }
  // Pino's own descriptor writer is the only one that is synchronous on a pipe too.
  const lines = options.stream === undefined && format === 'json' ? pino(settings, pino.destination({ fd: 1, sync: true })) : pino(settings, stream)

  const writer = (name: 'debug' | 'info' | 'warn' | 'error'): Write => (text, fields) => lines[name](fields ?? {}, text)
  return { debug: writer('debug'), info: writer('info'), warn: writer('warn'), error: writer('error'), level }
}

/** A log that says nothing; for tests and offline commands. */
export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, level: 'silent' }

/**
 * `#` and 8 hex digits in place of a machine, operator or client id: equal ids get equal tags within one process, and
 * nobody can go back from the tag or join the logs of two runs, because the key lives and dies with the process. [GDPR Art. 25]
 */
export function tag(id: string): string {
  return TAG.test(id) ? id : `#${createHmac('sha256', processKey).update(id).digest('hex').slice(0, 8)}`
}

/**
 * What may be said about an error. The message of our own errors holds no personal data by contract, and that of a system
 * error only a path; any other may quote its input (JSON.parse does), so only its class and where it arose remain.
 */
export function describeError(error: unknown): { readonly name: string; readonly code?: string; readonly message?: string; readonly frames?: readonly string[] } {
  if (error instanceof GatewayError) return { name: error.name, code: error.code, message: error.message }
  if (!(error instanceof Error)) return { name: typeof error }
  const code = 'code' in error && typeof error.code === 'string' && WORD.test(error.code) ? { code: error.code } : {}
  if ('syscall' in error && 'code' in error) return { name: error.name, ...code, message: systemText(error) }
  const name = WORD.test(error.name) ? error.name : 'Error'
  // The module loader says only which file it looked for.
  if ('code' in error && error.code === 'ERR_MODULE_NOT_FOUND') return { name, ...code, message: error.message }
  return { name, ...code, frames: framesOf(error) }
}

// ----------------------------------------------------------------------------------------------------------------------------

const TAG = /^#[0-9a-f]{8}$/
const WORD = /^[A-Za-z0-9_.:/{}*+-]{1,128}$/
const processKey = randomBytes(32)

function isLevel(text: string): text is Level {
  return (LEVELS as readonly string[]).includes(text)
}

/** A name of ours: no blanks, no quotes, not long. Whatever else arrives here was not a name and is hidden. */
function word(value: unknown): string {
  return typeof value === 'string' && WORD.test(value) ? value : '(hidden)'
}

const CLEAN: Readonly<Record<Kind, (value: unknown) => unknown>> = {
  word,
  number: (value) => (typeof value === 'number' && Number.isFinite(value) ? value : undefined),
  flag: (value) => value === true,
  file: (value) => (typeof value === 'string' ? value.slice(0, 512) : undefined),
  tag: (value) => (typeof value === 'string' ? tag(value) : undefined),
  error: describeError,
}

/** The allow-list applied: what has no entry in FIELDS is left out whatever it is, so a token or payload passed by mistake goes nowhere. */
function harmless(fields: Record<string, unknown>): Record<string, unknown> {
  const clean: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) {
    const kind = Object.hasOwn(FIELDS, name) ? FIELDS[name as keyof typeof FIELDS] : undefined
    if (kind !== undefined && value !== undefined) clean[name] = CLEAN[kind](value)
  }
  return clean
}

/** `ENOENT on open of root.key`: a system error without its own message, which would quote whatever path or address it was given. */
function systemText(error: Error): string {
  const { code, syscall, path } = error as NodeJS.ErrnoException
  return `${word(code)} on ${word(syscall)}${path === undefined ? '' : ` of ${basename(path)}`}`
}

/**
 * `function (file:line:col)` of the innermost frames. The message stands before them, may look like them, and stays behind;
 * if it is not where it should be, so do they.
 */
function framesOf(error: Error): string[] {
  const stack = error.stack ?? ''
  const start = stack.indexOf(error.message)
  return (start < 0 ? '' : stack.slice(start + error.message.length))
    .split('\n')
    .filter((line) => /^ {4}at /.test(line))
    .slice(0, 6)
    .map((line) => line.trim().replace(/^at /, '').replace(/(^|\(|\s)(?:file:\/\/)?\/[^\s():]*\/(?=[^/\s()]+:\d)/, '$1'))
    .filter((line) => /^[\w$.<>[\] ]*\(?(?:node:)?[\w./-]+:\d+:\d+\)?$/.test(line))
}

const COLOURS: Readonly<Record<string, string>> = { debug: '\u001b[2m', info: '', warn: '\u001b[33m', error: '\u001b[31m' }

/** One JSON line -> `12:31:05 info  terminals listen  host=127.0.0.1 port=1883`. */
function readable(line: string): string {
  const { time, level, text, gateway: _gateway, error, ...fields } = JSON.parse(line) as Record<string, unknown> & { time: string; level: string; text: string }
  const pairs = Object.entries(fields).map(([name, value]) => `${name}=${String(value)}`)
  if (error !== undefined) {
    const { name, code, message, frames } = error as ReturnType<typeof describeError>
    pairs.push([name, code, message, frames?.[0]].filter((part) => part !== undefined).join(' '))
  }
  const colour = COLOURS[level] ?? ''
  return `${time.slice(11, 19)} ${colour}${level.padEnd(5)}${colour === '' ? '' : '\u001b[0m'} ${text}${pairs.length === 0 ? '' : `  ${pairs.join(' ')}`}\n`
}
