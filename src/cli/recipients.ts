/**
 * `parapet recipients`: who may subscribe. `add` edits the recipients file, which a running gateway reads again by itself.
 */
import { relative, resolve } from 'node:path'
import { addRecipient, makePassword } from '../admin/registry.ts'
import { FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { CONFIG_OPTION, gatewayPath } from './gateway-file.ts'

export const command: Command = {
  name: 'recipients',
  summary: 'give a recipient of the rules a password to subscribe with',
  usage: ['add NAME'],
  actions: [{ name: 'add', text: 'write a log-in to the recipients file and print its password once' }],
  words: [1, 1],
  options: [
    { name: 'file', arg: 'FILE', text: 'the recipients file, default that of the gateway file' },
    CONFIG_OPTION,
    FORMAT,
  ],
  run: add,
}

async function add(args: Args, io: Io): Promise<number> {
  const id = args.words[0]
  if (id === undefined) throw new UsageError('recipients add needs a NAME. See: parapet recipients --help')
  const given = args.get('file')
  const file = given === undefined ? gatewayPath(io, args.get('config'), 'recipients', './recipients.yaml') : resolve(io.cwd, given)
  const password = makePassword()
  const { hashCredential } = await import('../broker/identify.ts')
  addRecipient(file, id, await hashCredential(password))
  if (args.get('format') === 'json') printJson(io, { id, file, password })
  else {
    io.stdout.write([
      `${id} is in ${relative(io.cwd, file)}; a running gateway takes it in by itself.`,
      '', `  user name   ${id}`, `  password    ${password}`, '',
      'The password is shown once; the file keeps only its scrypt record. To look at what it gets:',
      `  PARAPET_PASSWORD=${password} parapet subscribe ${id}`, '',
    ].join('\n'))
  }
  return 0
}
