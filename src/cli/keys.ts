/**
 * `parapet keys`: the root key file of a gateway.
 */
import { existsSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { UsageError, type Args, type Command, type Io } from './command.ts'
import { CONFIG_OPTION, gatewayPath } from './gateway-file.ts'

export const command: Command = {
  name: 'keys',
  summary: 'make or change the root key file of a gateway',
  usage: ['init [--data DIR]', 'rotate [--pseudonyms] [--data DIR]'],
  actions: [
    { name: 'init', text: 'make root.key (0600) in the data folder; never replaces one' },
    { name: 'rotate', text: 'put a new key in front of the one in use; the next start of the gateway wraps what is stored under it and forgets the old one' },
  ],
  options: [
    { name: 'data', arg: 'DIR', text: 'data folder, default that of the gateway file' },
    { name: 'pseudonyms', text: 'rotate: a new key of pseudonyms as well. Every pseudonym changes, and nobody can tell any more which new one was which old one' },
    CONFIG_OPTION,
  ],
  notes: [
    'Without its root key a gateway can open nothing it sealed: keep a copy in a safe place. With it and keys.db anybody can.',
    'A backup opens only with the root key of its day: keep the copies of former keys as long as backups made under them.',
  ].join('\n'),
  async run(args, io) {
    const file = fileOf(args, io)
    if (args.action === 'rotate') return rotate(file, args.has('pseudonyms'), io)
    if (args.has('pseudonyms')) throw new UsageError('--pseudonyms goes with rotate.')
    const { createRootKey } = await import('../consent/root.ts')
    const { id } = createRootKey(file)
    io.stdout.write(`Root key ${id} is in ${relative(io.cwd, file)} (mode 0600). Keep a copy in a safe place.\n`)
    return 0
  },
}

async function rotate(file: string, pseudonyms: boolean, io: Io): Promise<number> {
  const { rotateRootKey } = await import('../consent/root.ts')
  const { id, pseudonymId, former } = rotateRootKey(file, { pseudonyms })
  const name = relative(io.cwd, file)
  io.stdout.write([
    `Root key ${id} is in ${name}, before ${former[0]?.id ?? ''}.`,
    pseudonyms ? `Pseudonyms get the key ${pseudonymId}: every machine and person has another one from then on, in every output.` : `Pseudonyms stay as they are (key ${pseudonymId}).`,
    'It takes effect with the next start of the gateway, which wraps what is stored under it, notes it in the ledger and forgets the former key.',
    'Keep a copy of the file in a safe place, and the copy of the old one as long as backups made under it.',
    '',
  ].join('\n'))
  if (!existsSync(join(file, '..', 'keys.db'))) io.stderr.write('There is no keys.db beside it: nothing was sealed under the old key here.\n')
  return 0
}

function fileOf(args: Args, io: Io): string {
  const data = args.get('data')
  return join(data === undefined ? gatewayPath(io, args.get('config'), 'data', './data') : resolve(io.cwd, data), 'root.key')
}
