/**
 * `parapet pki`: a small authority for trials, so that nobody tries out mutual TLS with a lax setting. Its key lies in a file;
 * a fleet in earnest has its certificates from the authority of its company.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { chmodSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { join, relative, resolve } from 'node:path'
import { modeProblem } from '../config/secrets.ts'
import { GatewayError } from '../domain/errors.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { quoted } from './machines.ts'
import { makeCertificate, makeRevocationList } from './pki/x509.ts'
import type { Authority, CertificateWish } from './pki/x509.ts'

export const command: Command = {
  name: 'pki',
  summary: 'certificates for a trial: an authority, the gateway, machines, recipients',
  usage: ['ca [--name NAME]', 'server --host NAME_OR_ADDRESS...', 'machine ID', 'recipient NAME', 'revoke NAME'],
  actions: [
    { name: 'ca', text: 'make the authority (ca.crt, ca.key) and its empty revocation list (ca.crl)' },
    { name: 'server', text: 'a certificate for the gateway (server.crt, server.key)' },
    { name: 'machine', text: 'a certificate for a terminal (machine-ID.crt and .key)' },
    { name: 'recipient', text: 'a certificate for a recipient (recipient-NAME.crt and .key)' },
    { name: 'revoke', text: 'put all certificates of machine-ID, recipient-NAME or server on the revocation list' },
  ],
  words: [0, 1],
  options: [
    { name: 'dir', arg: 'DIR', text: 'the folder of the authority, default ./pki' },
    { name: 'name', arg: 'NAME', text: 'name of the authority, default "Parapet trial CA"' },
    { name: 'host', arg: 'HOST', text: 'a name or address under which the gateway is reached', many: true },
    { name: 'days', arg: 'N', text: 'how long it is valid, default 3650 for the authority and 365 for the rest' },
    { name: 'again', text: 'a further certificate with a new key in the place of one that is there; the old one stays valid until it is revoked' },
    FORMAT,
  ],
  notes: 'For trials: whoever can read ca.key can be any machine and any recipient. In earnest take certificates from your company\'s authority, with a SAN URI urn:parapet:machine:ID or urn:parapet:recipient:NAME, or with a common name that the registry knows.',
  run: (args, io) => Promise.resolve(run(args, io)),
}

function run(args: Args, io: Io): number {
  const folder = resolve(io.cwd, args.get('dir') ?? './pki')
  const [word] = args.words
  if (args.action === 'ca' || args.action === 'server') {
    if (word !== undefined) throw new UsageError(`pki ${args.action} takes no word. See: parapet pki --help`)
  } else if (word === undefined) throw new UsageError(`pki ${args.action} needs ${args.action === 'machine' ? 'an ID' : 'a NAME'}. See: parapet pki --help`)
  switch (args.action) {
    case 'ca': return makeAuthority(folder, args, io)
    case 'revoke': return revoke(folder, word ?? '', args, io)
    default: return issue(folder, word ?? '', args, io)
  }
}

const DAY_MS = 86_400_000
/** Clocks of terminals may be behind. */
const EARLIER_MS = 3_600_000
const DAYS_MAX = 36_500
const FILE_NAME_MAX = 200

function daysOf(args: Args, fallback: number): number {
  const days = Number(args.get('days') ?? fallback)
  if (!Number.isInteger(days) || days < 1 || days > DAYS_MAX) throw new UsageError(`--days is a whole number from 1 to ${DAYS_MAX}.`)
  return days
}

function makeAuthority(folder: string, args: Args, io: Io): number {
  const name = args.get('name') ?? 'Parapet trial CA'
  if (name === '' || name.length > 64) throw new UsageError('--name has 1 to 64 characters.')
  if (existsSync(join(folder, 'ca.key'))) throw new GatewayError('PKI-EXISTS', `There is an authority in ${folder}.`, 'Use it, or name another folder with --dir.')
  const now = Date.now()
  const untilMs = now + daysOf(args, 3_650) * DAY_MS
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  chmodSync(folder, 0o700)
  const { cert, key } = makeCertificate({ name, use: 'authority', fromMs: now - EARLIER_MS, untilMs })
  write(join(folder, 'ca.crt'), cert)
  write(join(folder, 'ca.crl'), makeRevocationList({ cert, key: createPrivateKey(key) }, [], { number: 1, fromMs: now - EARLIER_MS, untilMs }))
  write(join(folder, LEDGER), `${COLUMNS.join(',')}\n`)
  // Last: with it the authority is there.
  write(join(folder, 'ca.key'), key)

  const at = (file: string): string => relative(io.cwd, join(folder, file))
  if (args.get('format') === 'json') printJson(io, { folder, name, until: new Date(untilMs).toISOString() })
  else {
    io.stdout.write([
      `The authority "${name}" is in ${relative(io.cwd, folder)}, until ${day(untilMs)}. It is for trials: whoever reads ${at('ca.key')} can be anybody.`,
      '', 'Next, a certificate for the gateway, under all names and addresses by which it is reached:',
      '  parapet pki server --host depot-7.example --host 192.0.2.7', '',
    ].join('\n'))
  }
  return 0
}

function issue(folder: string, id: string, args: Args, io: Io): number {
  const authority = openAuthority(folder)
  const now = Date.now()
  const untilMs = now + daysOf(args, 365) * DAY_MS
  const { file, wish } = wished(args, id)
  if (existsSync(join(folder, `${file}.crt`)) && !args.has('again')) {
    throw new GatewayError('PKI-EXISTS', `There is a certificate ${file}.crt.`, `Make a further one with --again, or revoke it first: parapet pki revoke ${file}`)
  }
  if (untilMs > authority.untilMs) throw new GatewayError('PKI-DAYS', `The authority itself ends on ${day(authority.untilMs)}.`, 'Take fewer --days, or make a new authority.')
  const { cert, key } = makeCertificate({ ...wish, fromMs: now - EARLIER_MS, untilMs }, authority)
  const { serialNumber } = new X509Certificate(cert)
  // On record before it exists: what was issued can be revoked.
  writeLedger(folder, [...readLedger(folder), { serial: serialNumber, file, untilMs, revokedMs: undefined }])
  write(join(folder, `${file}.key`), key)
  write(join(folder, `${file}.crt`), cert)

  const at = (name: string): string => quoted(relative(io.cwd, join(folder, name)))
  if (args.get('format') === 'json') {
    printJson(io, { cert: join(folder, `${file}.crt`), key: join(folder, `${file}.key`), serial: serialNumber, until: new Date(untilMs).toISOString() })
    return 0
  }
  io.stdout.write([`${at(`${file}.crt`)} and ${at(`${file}.key`)} are valid until ${day(untilMs)}.`, '', ...nextLines(args.action, id, at, file), ''].join('\n'))
  return 0
}

function wished(args: Args, id: string): { readonly file: string; readonly wish: Omit<CertificateWish, 'fromMs' | 'untilMs'> } {
  if (args.action === 'server') {
    const hosts = args.all('host')
    if (hosts.length === 0) throw new UsageError('pki server needs --host with a name or address of the gateway. See: parapet pki --help')
    for (const host of hosts) if (isIP(host) === 0 && !/^(?:\*\.)?[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*$/.test(host)) throw new UsageError('--host is a host name or an IP address.')
    return { file: 'server', wish: { name: hosts[0] ?? '', use: 'server', hosts: hosts.filter((host) => isIP(host) === 0), addresses: hosts.filter((host) => isIP(host) !== 0) } }
  }
  const kind = args.action === 'machine' ? 'machine' : 'recipient'
  if (!isTopicLevel(id)) throw new UsageError(`A ${kind} has a name without "/", "+" and "#".`)
  // What cannot stand in a URI is escaped [RFC 3986, 2.1]; file names get the same.
  const written = encodeURIComponent(id)
  if (written.length > FILE_NAME_MAX) throw new UsageError('The name is too long for a file name.')
  return { file: `${kind}-${written}`, wish: { name: id, use: 'client', uris: [`urn:parapet:${kind}:${written}`] } }
}

function nextLines(action: string, id: string, at: (file: string) => string, file: string): string[] {
  if (action === 'server') {
    return [
      'In the gateway file, below listen.terminals and listen.recipients (paths beside that file):',
      `  tls: { cert: ${at('server.crt')}, key: ${at('server.key')}, ca: ${at('ca.crt')}, crl: ${at('ca.crl')} }`,
    ]
  }
  const test = `--cafile ${at('ca.crt')} --cert ${at(`${file}.crt`)} --key ${at(`${file}.key`)}`
  return action === 'machine'
    ? ['It admits this machine once the registry has it (parapet machines add --no-credential); it needs no password. To try it:',
        `  mosquitto_pub -V mqttv311 -h HOST -p 8883 -i terminal ${test} -q 1 -t ${quoted(`up/FLEET/${id}/status`)} -f status.bin`]
    : ['It admits this recipient once the recipients file has it; it needs no password. To try it:',
        `  mosquitto_sub -V mqttv311 -h HOST -p 8884 -i reader ${test} -q 1 -t 'out/#'`]
}

function revoke(folder: string, name: string, args: Args, io: Io): number {
  const authority = openAuthority(folder)
  const wanted = name.replace(/^.*\//, '').replace(/\.(?:crt|key)$/, '')
  const entries = readLedger(folder)
  const named = entries.filter(({ file }) => file === wanted || file === `machine-${wanted}` || file === `recipient-${wanted}`)
  const valid = named.filter(({ revokedMs }) => revokedMs === undefined)
  // What is noted as revoked may not be on the list: the last time may have ended between the two.
  const hit = valid.length > 0 ? valid : named
  const files = [...new Set(hit.map(({ file }) => file))]
  if (hit.length === 0) throw new GatewayError('PKI-UNKNOWN', 'No certificate of this name was made here.', `See the file column of ${relative(io.cwd, join(folder, LEDGER))}.`)
  if (files.length > 1) throw new UsageError(`The name fits ${files.join(' and ')}: say which.`)
  const now = Date.now()
  const after = entries.map((entry) => (valid.includes(entry) ? { ...entry, revokedMs: now } : entry))
  const revoked = after.flatMap(({ serial, revokedMs }) => (revokedMs === undefined ? [] : [{ serial, atMs: revokedMs }]))
  // Good for as long as the authority: a list that ends shuts everybody out, and a trial has nobody who renews it.
  const list = makeRevocationList(authority, revoked, { number: revoked.length + 1, fromMs: now - EARLIER_MS, untilMs: authority.untilMs })
  writeLedger(folder, after)
  write(join(folder, 'ca.crl'), list)
  if (args.get('format') === 'json') printJson(io, { revoked: hit.map(({ serial }) => serial), list: join(folder, 'ca.crl') })
  else io.stdout.write(`${hit.length === 1 ? 'One certificate is' : `${hit.length} certificates are`} on the list ${relative(io.cwd, join(folder, 'ca.crl'))} now. A gateway that has it as crl: reads it again by itself and ends their connections.\n`)
  return 0
}

function openAuthority(folder: string): Authority & { readonly untilMs: number } {
  const problem = modeProblem(join(folder, 'ca.key'))
  if (problem !== undefined) throw new GatewayError('PKI-MODE', problem, `Run: chmod 600 ${join(folder, 'ca.key')}, and make a new authority if somebody may have read it.`)
  try {
    const cert = readFileSync(join(folder, 'ca.crt'), 'utf8')
    return { cert, key: createPrivateKey(readFileSync(join(folder, 'ca.key'))), untilMs: new X509Certificate(cert).validToDate.getTime() }
  } catch {
    throw new GatewayError('PKI-MISSING', `There is no authority in ${folder}.`, 'Make one: parapet pki ca. Another folder is named with --dir.')
  }
}

// ----------------------------------------------------------------------------------------------------------- what was issued

const LEDGER = 'issued.csv'
const COLUMNS = ['serial', 'file', 'until', 'revoked'] as const

interface Entry {
  readonly serial: string
  readonly file: string
  readonly untilMs: number
  readonly revokedMs: number | undefined
}

/** No column holds a comma: names are escaped as in URIs. */
function readLedger(folder: string): Entry[] {
  try {
    return readFileSync(join(folder, LEDGER), 'utf8').split('\n').slice(1).filter((line) => line !== '').map((line) => {
      const [serial = '', file = '', until = '', revoked = ''] = line.split(',')
      return { serial, file, untilMs: Date.parse(until), revokedMs: revoked === '' ? undefined : Date.parse(revoked) }
    })
  } catch {
    throw new GatewayError('PKI-MISSING', `${join(folder, LEDGER)} cannot be read.`, 'Without it nothing can be revoked: restore it, or make a new authority in another folder.')
  }
}

function writeLedger(folder: string, entries: readonly Entry[]): void {
  const lines = entries.map(({ serial, file, untilMs, revokedMs }) => [serial, file, new Date(untilMs).toISOString(), revokedMs === undefined ? '' : new Date(revokedMs).toISOString()].join(','))
  write(join(folder, LEDGER), [COLUMNS.join(','), ...lines, ''].join('\n'))
}

/** Whole or not at all, and for nobody else to read. */
function write(file: string, text: string): void {
  const beside = `${file}.new`
  rmSync(beside, { force: true })
  const handle = openSync(beside, 'wx', 0o600)
  try {
    writeFileSync(handle, text)
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  renameSync(beside, file)
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
