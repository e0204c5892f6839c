/**
 * Adds a machine to the registry file as text: comments, order and style of what is there stay as people wrote them.
 * The gateway sees the change as it sees an edit by hand.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { GatewayError } from '../domain/errors.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { NewMachine } from './control.ts'

/** What stands in the file. */
export interface RegistryEntry extends NewMachine {
  /** `scrypt$N$r$p$salt$hash`, never the password. */
  readonly credential: string | undefined
  /** Name in its client certificate, when that is not its id. */
  readonly certificate?: string | undefined
}

/** A password for a terminal: 186 random bits as 32 characters that need no quoting anywhere. */
export function makePassword(): string {
  // A dash at the start would read as an option on a command line.
  return `p${randomBytes(24).toString('base64url').slice(1)}`
}

/**
 * Appends an entry to the machines of a YAML file: below its key `machines`, or at the top level when it has no such key.
 * Durable when it returns.
 * @throws GatewayError MACHINE-EXISTS, MACHINE-NAME, MACHINES-FILE (missing, a folder, not YAML, or of a form that cannot be added to)
 */
export function addMachine(file: string, entry: RegistryEntry): void {
  addMachines(file, [entry])
}

/** The same for many: all or, with an error, none. */
export function addMachines(file: string, entries: readonly RegistryEntry[]): void {
  if (!entries.every((entry) => isTopicLevel(entry.id) && isTopicLevel(entry.fleet))) {
    const mend = 'Leave out "/", "+", "#" and a "$" at the start; 256 characters at most.'
    throw new GatewayError('MACHINE-NAME', 'The id or fleet of a machine cannot stand in a topic.', mend)
  }
  if (!/\.ya?ml$/.test(file)) throw new GatewayError('MACHINES-FILE', `${file} is not a YAML file.`, 'A CSV file or a folder is edited by whatever made it.')
  replace(file, withMachines(read(file), entries, file))
}

/** The text with the entry in it; for `addMachine`, which see. */
export function withMachine(text: string, entry: RegistryEntry, file: string): string {
  return withMachines(text, [entry], file)
}

function withMachines(text: string, entries: readonly RegistryEntry[], file: string): string {
  const end = text.includes('\r\n') ? '\r\n' : '\n'
  const lines = text.split(/\r?\n/)
  const key = lines.findIndex((line) => /^(?:machines|"machines"|'machines')\s*:/.test(line))
  const block = key < 0 ? topLevel(lines) : below(lines, key, file)

  const ids = new Set<string>(entries.map(({ id }) => id))
  for (const line of lines.slice(block.from, block.to)) {
    if (ids.has(keyAt(line, block.indent) ?? '')) throw new GatewayError('MACHINE-EXISTS', 'A machine of this id is in the registry.', `Change its entry in ${file}, or take another id.`)
  }
  return [...lines.slice(0, block.to), ...entries.map((entry) => ' '.repeat(block.indent) + written(entry)), ...lines.slice(block.to)].join(end)
}

/**
 * Gives a recipient a password in the recipients file: a new log-in, or one that had none yet (`oem-cloud: {}`). Durable when it returns.
 * @param credential  scrypt record
 * @throws GatewayError RECIPIENT-EXISTS, RECIPIENT-NAME, RECIPIENTS-FILE
 */
export function addRecipient(file: string, id: string, credential: string): void {
  if (!isTopicLevel(id)) throw new GatewayError('RECIPIENT-NAME', 'This cannot be the name of a recipient.', 'Use the name that stands in the rules file.')
  replace(file, withRecipient(read(file), id, credential))
}

/** The text with the log-in in it; for `addRecipient`, which see. */
export function withRecipient(text: string, id: string, credential: string): string {
  const end = text.includes('\r\n') ? '\r\n' : '\n'
  const lines = text.split(/\r?\n/)
  const key = lines.findIndex((line) => /^recipients\s*:\s*(?:#.*)?$/.test(line))
  const block = key < 0 ? topLevel(lines) : below(lines, key, 'the file')
  const entry = `${' '.repeat(block.indent)}${scalar(id)}: { credential: ${scalar(credential)} }`
  const known = lines.findIndex((line, at) => at >= block.from && at < block.to && keyAt(line, block.indent) === id)
  if (known < 0) return [...lines.slice(0, block.to), entry, ...lines.slice(block.to)].join(end)
  if (!/:\s*\{\s*\}\s*(?:#.*)?$/.test(lines[known] ?? '')) throw new GatewayError('RECIPIENT-EXISTS', 'This recipient has a log-in already.', 'Change its entry by hand; several log-ins of one recipient are a list.')
  return [...lines.slice(0, known), entry, ...lines.slice(known + 1)].join(end)
}

interface Block {
  /** Lines that may hold entries, and the line before which a new one goes. */
  readonly from: number
  readonly to: number
  readonly indent: number
}

function topLevel(lines: readonly string[]): Block {
  return { from: 0, to: afterLast(lines, 0, lines.length), indent: 0 }
}

function below(lines: string[], key: number, file: string): Block {
  const value = lines[key]?.replace(/^[^:]*:\s*/, '').replace(/(?:^|\s)#.*$/, '').trim() ?? ''
  if (value === '{}') lines[key] = (lines[key] ?? '').replace(/\s*\{\}/, '')
  else if (value !== '') throw new GatewayError('MACHINES-FILE', `The machines of ${file} are written on one line.`, 'Put each machine on a line of its own below "machines:".')

  const next = lines.findIndex((line, index) => index > key && /^[^\s#]/.test(line))
  const to = next < 0 ? lines.length : next
  const first = lines.slice(key + 1, to).find((line) => /^\s+[^\s#]/.test(line))
  return { from: key + 1, to: afterLast(lines, key + 1, to), indent: first === undefined ? 2 : first.length - first.trimStart().length }
}

/** After the last line that says something: a comment or blank line at the end of a block belongs to what follows. */
function afterLast(lines: readonly string[], from: number, to: number): number {
  let end = to
  while (end > from && /^\s*(?:#.*)?$/.test(lines[end - 1] ?? '')) end -= 1
  return end
}

/** The key that a line at this indent begins with, unquoted. */
function keyAt(line: string, indent: number): string | undefined {
  const match = /^( *)(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^\s#"'][^#]*?))\s*:(?:\s|$)/.exec(line)
  if (match === null || match[1]?.length !== indent) return undefined
  const [, , double, single, plain] = match
  return double === undefined ? (single?.replaceAll('\'\'', '\'') ?? plain) : (JSON.parse(`"${double}"`) as string)
}

/** One entry on one line, in the order in which the shipped file has its keys. */
function written(entry: RegistryEntry): string {
  const labels = Object.entries(entry.labels).map(([name, value]) => `${scalar(name)}: ${scalar(value)}`)
  const pairs = [
    ['fleet', scalar(entry.fleet)], ['model', scalar(entry.model)], ['labels', labels.length === 0 ? undefined : `{ ${labels.join(', ')} }`],
    ['country', entry.country === undefined ? undefined : scalar(entry.country)],
    ['operator_collection', entry.operatorCollection === 'unknown' ? undefined : entry.operatorCollection],
    ['holder', entry.holder === undefined ? undefined : scalar(entry.holder)],
    ['credential', entry.credential === undefined ? undefined : scalar(entry.credential)],
    ['certificate', entry.certificate === undefined ? undefined : scalar(entry.certificate)],
  ]
  return `${scalar(entry.id)}: { ${pairs.filter(([, value]) => value !== undefined).map(([key, value]) => `${key}: ${value}`).join(', ')} }`
}

/** Plain where every YAML reads a text, else in double quotes, whose escapes are those of JSON. */
function scalar(text: string): string {
  const plain = /^[A-Za-z][A-Za-z0-9_.-]*$/.test(text) && !/^(?:y|n|yes|no|on|off|true|false|null|nan|inf)$/i.test(text)
  return plain ? text : JSON.stringify(text).replaceAll(/[\u007f-\u009f\u2028\u2029\ufeff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function read(file: string): string {
  try {
    if (statSync(file).size > LIMITS.fileBytes) throw new GatewayError('MACHINES-FILE', `${file} is larger than ${LIMITS.fileBytes} bytes.`, 'Use a folder of files.')
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('MACHINES-FILE', `${file} cannot be read.`, 'Name the registry with `machines:` in the gateway file; it may begin empty.')
  }
}

/** Whole or not at all: a reader never sees half a registry. */
function replace(file: string, text: string): void {
  const beside = `${file}.new`
  rmSync(beside, { force: true })
  const handle = openSync(beside, 'wx', 0o600)
  try {
    writeSync(handle, text)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  chmodSync(beside, statSync(file).mode & 0o777)
  renameSync(beside, file)
}
