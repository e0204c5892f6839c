/**
 * `parapet serve`: runs the gateway until it is told to stop. SIGHUP reads rules and registries again, SIGTERM and SIGINT drain and stop.
 */
import { cpSync, existsSync, readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { join, relative, resolve } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { formatFinding, GatewayError } from '../domain/errors.ts'
import type { Command, Io } from './command.ts'
import { columns, version } from './command.ts'
import { CONFIG_OPTION } from './gateway-file.ts'

/**
 * How the engine handles memory. What comes and goes here is gone within milliseconds; a long collection takes 50 to 100 ms in which
 * messages wait, and there is nearly nothing for it to find.
 * - Where a moment's backlog once made objects live long, those of that place are from then on made among the old ones, and each keeps the
 *   young ones alive that it points to: no.
 * - A long collection begins as soon as the old objects have less room left than all young ones could take, and that room is set by what
 *   was alive after the last one: it was nearly as small. They may grow to four times what is alive, the most that the engine would choose
 *   by itself, and never beyond the heap that it was given.
 */
const MEMORY = ['--no-allocation-site-pretenuring', '--heap-growing-percent=300'] as const

export const command: Command = {
  name: 'serve',
  summary: 'run the gateway',
  usage: ['[--config FILE] [--set a.b=c]...'],
  options: [
    CONFIG_OPTION,
    { name: 'set', arg: 'KEY=VALUE', text: 'overrides one key of the gateway file: --set listen.terminals.port=1993', many: true },
    { name: 'trial', text: 'approves widening rules by itself; loopback listeners only; where there is no gateway file it makes a set-up to start from' },
  ],
  notes: 'SIGHUP reads rules and registries again; SIGTERM and Ctrl-C deliver and store what is under way, then stop.',
  async run(args, io) {
    for (const flag of MEMORY) setFlagsFromString(flag)
    const [{ createGateway }, { createLog }, { loadGateway }] = await Promise.all([import('../gateway.ts'), import('../log.ts'), import('../config/gateway.ts')])
    const file = resolve(io.cwd, args.get('config') ?? 'config/gateway.yaml')
    if (args.has('trial') && !args.has('config') && !existsSync(file)) setUp(io)
    const { config, findings } = loadGateway(file, [...args.all('set'), ...(args.has('trial') ? ['trial=true'] : [])])
    for (const finding of findings) io.stderr.write(`${formatFinding(finding)}\n`)
    if (config === undefined) throw new GatewayError('CONFIG-FILE', `${relative(io.cwd, file)} is not usable.`, 'Mend what is listed above.')
    const log = createLog({ level: config.logLevel, gateway: config.name, env: io.env })

    // [G8] what a crash prints is class, code and frames; never a message that may quote data.
    process.on('uncaughtException', (error) => {
      log.error('stopped by an error that nobody caught', { error })
      process.exit(1)
    })
    const gateway = await createGateway(config, { log, version: version() })
    io.stdout.write([...banner(gateway, config.name, config.machines, relative(io.cwd, gateway.adminTokenFile), io), ''].join('\n'))
    log.info('serving', { port: gateway.addresses.terminals.port })
    // Otherwise kept when the process ends by itself: one that is killed would start as slowly the next time.
    flushCompileCache()

    const stopped = Promise.withResolvers<number>()
    const stop = (signal: NodeJS.Signals): void => {
      log.info('stopping', { signal })
      gateway.close().then(() => stopped.resolve(0), (error: unknown) => {
        log.error('could not stop cleanly', { error })
        stopped.resolve(1)
      })
    }
    process.once('SIGTERM', stop)
    process.once('SIGINT', stop)
    process.on('SIGHUP', () => {
      gateway.reload().catch((error: unknown) => log.error('the files could not be read again: what was in force stays', { error }))
    })
    return stopped.promise
  },
}

const PACKAGE = resolve(import.meta.dirname, '../..')
/** Named one by one, so that no keys or data of a gateway that runs there come along. */
const SHIPPED = ['config/gateway.yaml', 'config/machines.yaml', 'config/operators.yaml', 'config/recipients.yaml', 'config/rules', 'proto'] as const

/**
 * A trial in a folder without a gateway file begins with a copy of the set-up that comes with parapet. Served where it lies, keys and
 * ledger would be inside the package, which the next install throws away.
 * @throws GatewayError CONFIG-FILE  the folders are there already, with something else in them
 */
function setUp(io: Io): void {
  const taken = ['config', 'proto'].find((name) => existsSync(resolve(io.cwd, name)))
  if (taken !== undefined) throw new GatewayError('CONFIG-FILE', `There is a folder ${taken} here, but no config/gateway.yaml.`, 'Name the gateway file with --config, or start in an empty folder.')
  for (const name of SHIPPED) cpSync(join(PACKAGE, name), resolve(io.cwd, name), { recursive: true })
  io.stdout.write('There was no config/gateway.yaml: config/ and proto/ were made, to try out and to change.\n')
}

interface Started {
  readonly first: boolean
  readonly addresses: Readonly<Record<'terminals' | 'recipients' | 'admin', { readonly host: string; readonly port: number }>> & { readonly recipients_ws?: { readonly host: string; readonly port: number } | undefined }
  readonly control: { health(): { readonly ready: boolean; readonly reasons: readonly { readonly code: string; readonly text: string; readonly mend: string | undefined }[] } }
}

/** What listens where and what to try next, with lines that can be pasted. */
function banner(gateway: Started, name: string, machines: string, token: string, io: Io): string[] {
  const { terminals, recipients, recipients_ws: web, admin } = gateway.addresses
  const at = ({ host, port }: { readonly host: string; readonly port: number }): string => `${host.includes(':') ? `[${host}]` : host}:${port}`
  const health = gateway.control.health()
  const known = firstMachine(machines)
  const parapet = import.meta.filename.endsWith('.ts') ? 'npm run parapet --' : 'npx parapet'
  // On other ports than the usual ones a command must be told, or it asks another gateway.
  const elsewhere = admin.port === 8080 ? '' : ` --url http://${at(admin)} --token-file ${token}`
  return [
    '',
    `${name} ${health.ready ? 'is ready' : 'runs, but is not ready'}`,
    ...health.reasons.map(({ code, text, mend }) => `  ${code}: ${text} ${mend ?? ''}`),
    '',
    ...columns([
      ['terminals publish to', `mqtt://${at(terminals)}`, 'up/{fleet}/{machine}/{stream}, user name = machine id'],
      ['recipients subscribe at', `mqtt://${at(recipients)}`, 'out/…, user name = recipient id'],
      ...(web === undefined ? [] : [['  or over WebSocket at', `ws://${at(web)}`, 'the same']]),
      ['admin API', `http://${at(admin)}`, `/openapi.json, /readyz, /metrics; token in ${token}`],
    ]),
    '',
    ...(gateway.first ? ['This was the first start: keys and databases were made in the data folder. Keep a copy of its root.key in a safe place.', ''] : []),
    'Try next, in a second terminal:',
    ...columns([
      ['a shift of simulated machines', `${parapet} simulate --url mqtt://${at(terminals)}`],
      ['what a recipient gets', `${parapet} subscribe rental-company --url mqtt://${at(recipients)}`],
      ['what happens and what is withheld', `${parapet} status${elsewhere}`],
      ['admit a real terminal', `${parapet} machines add SN-2001 --fleet ${known.fleet} --country FR${terminals.port === 1883 ? '' : ` --broker ${at(terminals)}`}`],
      ['the same side by side, in a minute', parapet.startsWith('npx') ? `${parapet} demo` : 'npm run demo'],
    ]),
    '',
    `Admit a terminal on this machine without a password (loopback only): ${known.id} is in ${relative(io.cwd, machines)} already, so`,
    `  echo '{"machine_id":"${known.id}","time_ms":"now","key_on":true,"hour_meter_s":3600}' | ${parapet.replace('run', 'run -s')} encode --message awp.v1.Status > status.bin`,
    `  mosquitto_pub -V mqttv311 -h ${terminals.host} -p ${terminals.port} -i ${known.id} -u ${known.id} -q 1 -t up/${known.fleet}/${known.id}/status -f status.bin`,
    '',
  ]
}

/** A machine of the registry to show in the lines; the registry was read and checked before. */
function firstMachine(file: string): { readonly id: string; readonly fleet: string } {
  try {
    const [, id, fleet] = /^\s*([A-Za-z0-9_.-]+):\s*\{[^}]*\bfleet:\s*([A-Za-z0-9_.-]+)/m.exec(readFileSync(file, 'utf8')) ?? []
    return { id: id ?? 'SN-1001', fleet: fleet ?? 'demo' }
  } catch {
    return { id: 'SN-1001', fleet: 'demo' }
  }
}
