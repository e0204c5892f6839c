/**
 * `parapet tokens`: who may use the admin API of a running gateway, one token for each use. A new one goes into a file that nobody else
 * reads, never to the screen, where a history or a recording would keep it.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { resolve } from 'node:path'
import { GatewayError } from '../domain/errors.ts'
import { FORMAT, printJson, printTable, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'

export const command: Command = {
  name: 'tokens',
  summary: 'make, list or end the tokens of the admin API',
  usage: ['list', 'add NAME --role engineer --to FILE', 'end NAME'],
  actions: [
    { name: 'list', text: 'names and roles; the tokens themselves are nowhere' },
    { name: 'add', text: 'make a token for a use and write it into FILE (0600), for --token-file' },
    { name: 'end', text: 'end a token at once' },
  ],
  words: [0, 1],
  options: [
    { name: 'role', arg: 'ROLE', text: 'viewer, engineer, privacy or admin', choices: ['viewer', 'engineer', 'privacy', 'admin'] },
    { name: 'to', arg: 'FILE', text: 'new file for the token' },
    FORMAT, ...GATEWAY_OPTIONS,
  ],
  notes: 'viewer sees the state; engineer puts rules in place and tries them; privacy approves what they widen, and sees and changes consent; admin makes tokens. Name the use, not a person. Needs the role admin.',
  run: (args, io) => (args.action === 'add' ? add(args, io) : args.action === 'end' ? end(args, io) : list(args, io)),
}

async function list(args: Args, io: Io): Promise<number> {
  if (args.words.length > 0) throw new UsageError('tokens list takes no name. See: parapet tokens --help')
  const answer = await gatewayClient(args, io).request<{ readonly tokens: readonly { readonly name: string; readonly role: string; readonly created: string }[] }>('GET', '/v1/tokens')
  printTable(io, args, ['name', 'role', 'since'], answer.tokens.map(({ name, role, created }) => [name, role, created]), answer)
  return 0
}

async function add(args: Args, io: Io): Promise<number> {
  const [name, role, to] = [args.words[0], args.get('role'), args.get('to')]
  if (name === undefined || role === undefined || to === undefined) throw new UsageError('tokens add needs a NAME, --role and --to. See: parapet tokens --help')
  const gateway = gatewayClient(args, io)
  const path = resolve(io.cwd, to)
  const file = opened(path, to)
  try {
    const { token } = await gateway.request<{ readonly token: string }>('POST', '/v1/tokens', { name, role })
    writeSync(file, `${token}\n`)
  } catch (error) {
    rmSync(path, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
  if (args.get('format') === 'json') printJson(io, { name, role, file: path })
  else io.stdout.write(`The token ${name} of the role ${role} is in ${to} (mode 0600). Use it with --token-file ${to}.\n`)
  return 0
}

/** Made before the token: one that cannot be kept should not be made. [IEC 62443-4-2 CR 1.5] */
function opened(path: string, shown: string): number {
  try {
    return openSync(path, 'wx', 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw new GatewayError('FILE-EXISTS', `There is a file ${shown} already.`, 'Choose another path.')
    throw new GatewayError('FILE-UNWRITABLE', `The file ${shown} cannot be written.`, 'Check the path and its folder.')
  }
}

async function end(args: Args, io: Io): Promise<number> {
  const name = args.words[0]
  if (name === undefined) throw new UsageError('tokens end needs a NAME. See: parapet tokens --help')
  await gatewayClient(args, io).request('DELETE', `/v1/tokens/${encodeURIComponent(name)}`)
  if (args.get('format') === 'json') printJson(io, { ended: name })
  else io.stdout.write(`The token ${name} is ended.\n`)
  return 0
}
