/**
 * `parapet machines`: who may connect. `add` edits the registry file, which a running gateway reads again by itself; `list` asks the gateway.
 */
import { relative, resolve } from 'node:path'
import { addMachine, makePassword } from '../admin/registry.ts'
import type { FleetId, MachineId } from '../domain/ids.ts'
import { FORMAT, printJson, printTable, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import { CONFIG_OPTION, gatewayPath } from './gateway-file.ts'

export const command: Command = {
  name: 'machines',
  summary: 'add machines to the registry, or list them',
  usage: ['add ID --fleet F [--model M] [--country CC] [--operator-collection on|off] [--no-credential]', 'list'],
  actions: [
    { name: 'add', text: 'write an entry to the registry file and print its password once' },
    { name: 'list', text: 'the machines that a running gateway knows' },
  ],
  words: [0, 1],
  options: [
    { name: 'fleet', arg: 'F', text: 'the fleet level of its topics' },
    { name: 'model', arg: 'M', text: 'model name; rules may read it' },
    { name: 'country', arg: 'CC', text: 'where it works, ISO 3166: FR, US-CA; unknown = the strictest bases' },
    { name: 'operator-collection', arg: 'ON', text: 'its device setting; off or unknown: nothing about operators is collected', choices: ['on', 'off'] },
    { name: 'label', arg: 'NAME=TEXT', text: 'a label that rules may read', many: true },
    { name: 'holder', arg: 'H', text: 'who has the machine' },
    { name: 'no-credential', text: 'make no password: admitted by a certificate, or by name on a loopback listener' },
    { name: 'file', arg: 'FILE', text: 'the registry file, default that of the gateway file' },
    { name: 'broker', arg: 'HOST:PORT', text: 'listener for terminals in the lines that are printed, default 127.0.0.1:1883' },
    CONFIG_OPTION,
    FORMAT,
    ...GATEWAY_OPTIONS,
  ],
  run: (args, io) => (args.action === 'add' ? add(args, io) : list(args, io)),
}

async function add(args: Args, io: Io): Promise<number> {
  const [id] = args.words
  const fleet = args.get('fleet')
  if (id === undefined || fleet === undefined) throw new UsageError('machines add needs an ID and --fleet F. See: parapet machines --help')
  const country = args.get('country')
  if (country !== undefined && !/^[A-Z]{2}(?:-[A-Z0-9]{1,3})?$/.test(country)) throw new UsageError('--country is a code of ISO 3166 such as FR or US-CA.')

  const given = args.get('file')
  const file = given === undefined ? gatewayPath(io, args.get('config'), 'machines', './machines.yaml') : resolve(io.cwd, given)
  const password = args.has('no-credential') ? undefined : makePassword()
  const { hashCredential } = await import('../broker/identify.ts')
  const collection = args.get('operator-collection')
  addMachine(file, {
    id: id as MachineId, fleet: fleet as FleetId, model: args.get('model') ?? 'unknown', country, labels: labels(args), holder: args.get('holder'),
    operatorCollection: collection === 'on' || collection === 'off' ? collection : 'unknown', credential: password === undefined ? undefined : await hashCredential(password),
  })

  if (args.get('format') === 'json') printJson(io, { id, fleet, file, ...(password === undefined ? {} : { password }) })
  else io.stdout.write(`${admission(id, fleet, password, relative(io.cwd, file), args.get('broker') ?? '127.0.0.1:1883').join('\n')}\n`)
  return 0
}

function labels(args: Args): Record<string, string> {
  return Object.fromEntries(args.all('label').map((label) => {
    const [, name, value] = /^([A-Za-z0-9_.-]+)=([^]*)$/.exec(label) ?? []
    if (name === undefined || value === undefined) throw new UsageError('--label is written NAME=TEXT.')
    return [name, value]
  }))
}

/** What to type on the terminal's side: user name and client id are the id of the machine, the topic begins with its fleet and id. */
function admission(id: string, fleet: string, password: string | undefined, file: string, broker: string): string[] {
  const [, host = '127.0.0.1', port = '1883'] = /^(.*?)(?::(\d+))?$/.exec(broker) ?? []
  const topic = `up/${fleet}/${id}/status`
  const secret = password === undefined ? '' : ` -P ${quoted(password)}`
  const options = JSON.stringify({ protocolVersion: 4, clientId: id, username: id, ...(password === undefined ? {} : { password }) })
  return [
    `${id} of fleet ${fleet} is in ${file}; a running gateway takes it in by itself.`,
    ...(password === undefined
      ? ['It has no password: only a certificate or a loopback listener admits it.']
      : ['', `  user name   ${id}`, `  password    ${password}`, '', 'The password is shown once; the registry keeps only its scrypt record.']),
    '', 'With mosquitto_pub (status.bin is one protobuf message):',
    `  mosquitto_pub -V mqttv311 -h ${host} -p ${port} -i ${quoted(id)} -u ${quoted(id)}${secret} -q 1 -t ${quoted(topic)} -f status.bin`,
    '', 'With mqtt.js:',
    `  const terminal = await mqtt.connectAsync(${JSON.stringify(`mqtt://${host}:${port}`)}, ${options})`,
    `  await terminal.publishAsync(${JSON.stringify(topic)}, payload, { qos: 1 })`,
  ]
}

/** For a POSIX shell. */
function quoted(text: string): string {
  return /^[A-Za-z0-9_./-]+$/.test(text) && !text.startsWith('-') ? text : `'${text.replaceAll('\'', '\'\\\'\'')}'`
}

interface Listed {
  readonly id: string
  readonly fleet: string
  readonly model: string
  readonly country?: string
  readonly operator_collection: string
  readonly password: boolean
  readonly certificate?: string
}

async function list(args: Args, io: Io): Promise<number> {
  const gateway = gatewayClient(args, io)
  const machines: Listed[] = []
  let after: string | undefined
  do {
    const path = `/v1/machines?limit=1000${after === undefined ? '' : `&after=${encodeURIComponent(after)}`}`
    const page = await gateway.request<{ machines: readonly Listed[]; next?: string }>('GET', path)
    machines.push(...page.machines)
    after = page.next
  } while (after !== undefined)

  printTable(io, args, ['id', 'fleet', 'model', 'country', 'operators', 'admitted by'], machines.map((machine) => [
    machine.id, machine.fleet, machine.model, machine.country ?? 'unknown', machine.operator_collection,
    machine.password ? 'password' : machine.certificate === undefined ? 'name, on loopback' : 'certificate',
  ]), { machines })
  return 0
}
