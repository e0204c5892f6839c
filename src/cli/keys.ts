/**
 * `parapet keys`: the root key file of a gateway.
 */
import { join, relative, resolve } from 'node:path'
import type { Command } from './command.ts'
import { CONFIG_OPTION, gatewayPath } from './gateway-file.ts'

export const command: Command = {
  name: 'keys',
  summary: 'make the root key file of a gateway',
  usage: ['init [--data DIR]'],
  actions: [{ name: 'init', text: 'make root.key (0600) in the data folder; never replaces one' }],
  options: [{ name: 'data', arg: 'DIR', text: 'data folder, default that of the gateway file' }, CONFIG_OPTION],
  notes: 'Without its root key a gateway can open nothing it sealed: keep a copy in a safe place. With it and keys.db anybody can.',
  async run(args, io) {
    const { createRootKey } = await import('../consent/root.ts')
    const data = args.get('data')
    const file = join(data === undefined ? gatewayPath(io, args.get('config'), 'data', './data') : resolve(io.cwd, data), 'root.key')
    const { id } = createRootKey(file)
    io.stdout.write(`Root key ${id} is in ${relative(io.cwd, file)} (mode 0600). Keep a copy in a safe place.\n`)
    return 0
  },
}
