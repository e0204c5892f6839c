/**
 * `parapet machines`: who may connect. `add` and `import` edit the registry, which a running gateway reads again by itself; `list` asks the gateway.
 */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { addMachine, addMachines, makePassword } from '../admin/registry.ts'
import { formatFinding, GatewayError } from '../domain/errors.ts'
import type { FleetId, MachineId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Machine } from '../domain/ports.ts'
import { FORMAT, printJson, printTable, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import { CONFIG_OPTION, gatewayPath } from './gateway-file.ts'

export const command: Command = {
  name: 'machines',
  summary: 'add machines to the registry, one or many, or list them',
  usage: ['import FILE.csv [--passwords OUT.csv]', 'add ID --fleet F [--model M] [--country CC] [--operator-collection on|off] [--no-credential]', 'list'],
  actions: [
    { name: 'add', text: 'write an entry to the registry file and print its password once' },
    { name: 'import', text: 'add the machines of a CSV file: id,fleet,model and, as wanted, country,operator_collection,holder,credential,certificate,label.NAME' },
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
    { name: 'passwords', arg: 'FILE', text: 'import: make passwords for machines that have neither credential nor certificate, and write them to this file (mode 0600); some twenty a second' },
    { name: 'file', arg: 'FILE', text: 'the registry: a YAML or CSV file or a folder, default that of the gateway file' },
    { name: 'broker', arg: 'HOST:PORT', text: 'listener for terminals in the lines that are printed, default 127.0.0.1:1883' },
    CONFIG_OPTION,
    FORMAT,
    ...GATEWAY_OPTIONS,
  ],
  run: (args, io) => (args.action === 'add' ? add(args, io) : args.action === 'import' ? importMany(args, io) : list(args, io)),
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

/** All of them or none: what is wrong with one is said before anything is written. */
async function importMany(args: Args, io: Io): Promise<number> {
  const [word] = args.words
  if (word === undefined || !word.endsWith('.csv')) throw new UsageError('machines import needs a FILE.csv. See: parapet machines --help')
  const { loadMachines } = await import('../config/machines.ts')
  const source = resolve(io.cwd, word)
  const { machines, findings } = loadMachines(source)
  for (const finding of findings) io.stderr.write(`${formatFinding(finding)}\n`)
  if (machines === undefined) return 1

  const given = args.get('file')
  const file = given === undefined ? gatewayPath(io, args.get('config'), 'machines', './machines.yaml') : resolve(io.cwd, given)
  const isFolder = statSync(file, { throwIfNoEntry: false })?.isDirectory() === true
  const before = existsSync(file) ? loadMachines(file) : { machines: new Map<string, Machine>(), findings: [] }
  for (const finding of before.findings) io.stderr.write(`${formatFinding(finding)}\n`)
  const there = before.machines
  if (there === undefined) throw new GatewayError('MACHINES-FILE', `The registry ${relative(io.cwd, file)} is not in order, so nothing was added.`, 'Mend what is listed above.')
  const known = [...machines.keys()].filter((id) => there.has(id)).length
  if (known > 0) throw new GatewayError('MACHINE-EXISTS', `${known} of ${machines.size} machines are in the registry already, so nothing was added.`, 'Take them out of one of the two.')

  if (!isFolder && !file.endsWith('.csv') && there.size + machines.size > YAML_MACHINES) {
    throw new GatewayError('MACHINES-FILE', `A YAML file with more than ${YAML_MACHINES} machines takes long to read.`, 'Make a folder, put both files into it, and name it under machines: in the gateway file.')
  }

  const passwords = args.get('passwords')
  const all = passwords === undefined ? [...machines.values()] : await withPasswords([...machines.values()], resolve(io.cwd, passwords))
  // As a folder the registry takes the file as a further one; by its name it can be replaced later.
  if (isFolder) await writeRegistry(join(file, basename(source)), all, true)
  else if (file.endsWith('.csv')) await writeRegistry(file, [...there.values(), ...all], false)
  else addMachines(file, all)
  if (args.get('format') === 'json') printJson(io, { added: machines.size, registry: file })
  else io.stdout.write(`${machines.size} machines are in ${relative(io.cwd, file)}; a running gateway takes them in by itself.\n${passwords === undefined ? '' : `Their passwords are in ${passwords}: bring them to the terminals, then delete it; the registry keeps only scrypt records.\n`}`)
  return 0
}

/** YAML takes ten times as long to read as CSV: so many take some four seconds. */
const YAML_MACHINES = 10_000

/** Writes the passwords first: a record in the registry whose password nobody has would shut the machine out. */
async function withPasswords(machines: readonly Machine[], file: string): Promise<Machine[]> {
  const [{ hashCredential }, { writeCsv }] = await Promise.all([import('../broker/identify.ts'), import('../config/csv.ts')])
  if (existsSync(file)) throw new GatewayError('PASSWORDS-FILE', `${file} exists already.`, 'Name another file: the passwords in it may still be needed.')
  const made = new Map(machines.filter(({ credential, certificate }) => credential === undefined && certificate === undefined).map(({ id }) => [id, makePassword()]))
  writeWhole(file, writeCsv([['id', 'password'], ...made]))
  const done: Machine[] = []
  for (let from = 0; from < machines.length; from += 4) {
    done.push(...await Promise.all(machines.slice(from, from + 4).map(async (machine) => {
      const password = made.get(machine.id)
      return password === undefined ? machine : { ...machine, credential: await hashCredential(password) }
    })))
  }
  return done
}

async function writeRegistry(file: string, machines: readonly Machine[], isNew: boolean): Promise<void> {
  if (isNew && existsSync(file)) throw new GatewayError('MACHINES-FILE', `${file} exists already, so nothing was added.`, 'Give the CSV file another name.')
  const { writeCsv } = await import('../config/csv.ts')
  const named = [...new Set(machines.flatMap((machine) => Object.keys(machine.labels)))].sort()
  const head = ['id', 'fleet', 'model', 'country', 'operator_collection', 'holder', 'credential', 'certificate', ...named.map((name) => `label.${name}`)]
  const rows = machines.map((machine) => [
    machine.id, machine.fleet, machine.model, machine.country ?? '', machine.operatorCollection === 'unknown' ? '' : machine.operatorCollection,
    machine.holder ?? '', machine.credential ?? '', machine.certificate ?? '', ...named.map((name) => machine.labels[name] ?? ''),
  ])
  const text = writeCsv([head, ...rows])
  if (Buffer.byteLength(text) > LIMITS.fileBytes) throw new GatewayError('MACHINES-FILE', `The file would be larger than ${LIMITS.fileBytes} bytes, so nothing was added.`, 'Use a folder of several CSV files.')
  writeWhole(file, text)
}

/** Whole or not at all: a gateway never reads half a registry. */
function writeWhole(file: string, text: string): void {
  const beside = `${file}.new`
  rmSync(beside, { force: true })
  const handle = openSync(beside, 'wx', (statSync(file, { throwIfNoEntry: false })?.mode ?? 0o600) & 0o777)
  try {
    writeFileSync(handle, text)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  renameSync(beside, file)
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
export function quoted(text: string): string {
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
