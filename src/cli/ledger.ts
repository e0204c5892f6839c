/**
 * `parapet ledger`: proves that the record of consent is whole, and prints it. Works on a data folder, beside a running gateway
 * or on a copy, with or without the folder's keys; or through the admin API.
 */
import { existsSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import type { LedgerReport, NotedHead, SqliteLedger } from '../consent/ledger.ts'
import { GatewayError } from '../domain/errors.ts'
import { columns, FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import { CONFIG_OPTION, gatewayPath, gatewayText } from './gateway-file.ts'

export const command: Command = {
  name: 'ledger',
  summary: 'prove that the record of consent is whole, or print it',
  usage: [
    'verify [--data DIR | --url URL] [--head SEQ:HASH] [--head-key KEY] [--format json]',
    'export [--data DIR | --url URL] [--day DAY] [--type TYPE] [--after SEQ] [--bodies]',
  ],
  actions: [
    { name: 'verify', text: 'every event there, unchanged and in order, up to the signed head outside the database; exit 1 when not' },
    { name: 'export', text: 'one JSON object a line: the clear columns, which tell of nobody' },
  ],
  options: [
    { name: 'data', arg: 'DIR', text: 'data folder or a copy of it, default that of the gateway file' },
    { name: 'tenant', arg: 'T', text: 'tenant of the folder\'s keys, default that of the gateway file' },
    { name: 'head', arg: 'SEQ:HASH', text: 'a head that an earlier verify printed and that was noted elsewhere: notices even a whole folder put back from a backup' },
    { name: 'head-key', arg: 'KEY', text: 'public key of the heads, as verify prints it: checks the signature of a copy that came without keys' },
    { name: 'day', arg: 'DAY', text: 'events of this UTC day alone, 2026-11-23' },
    { name: 'type', arg: 'TYPE', text: 'events of this type alone; consent. means all that begin so' },
    { name: 'after', arg: 'SEQ', text: 'events after this number alone' },
    { name: 'bodies', text: 'what is sealed too, opened with root.key and keys.db of the data folder; never through --url' },
    FORMAT,
    CONFIG_OPTION,
    ...GATEWAY_OPTIONS,
  ],
  notes: 'With --url a running gateway does it (role privacy or admin), and notes that it was asked; otherwise the files are read, also beside a running gateway.\n'
    + 'Without root.key and keys.db the chain and the head are checked and no body is opened. --bodies prints personal data: whoever may read both files may.',
  run(args, io) {
    checkOptions(args)
    return args.action === 'verify' ? verify(args, io) : exportEvents(args, io)
  },
}

/** Which options go with which action, and with a gateway or a folder. */
function checkOptions(args: Args): void {
  const other = args.action === 'verify' ? ['day', 'type', 'after', 'bodies'] : ['head', 'head-key', 'format']
  for (const option of other) if (args.has(option)) throw new UsageError(`--${option} does not go with ledger ${args.action}. See: parapet ledger --help`)
  if (!args.has('url')) return
  for (const option of ['data', 'tenant', 'head', 'head-key', 'bodies', 'config']) {
    if (args.has(option)) throw new UsageError(`--${option} reads files and does not go with --url. See: parapet ledger --help`)
  }
}

// -------------------------------------------------------------------------------------------------------------------- verify

/** As the admin API answers, with what was looked at. */
interface Verified {
  readonly ok: boolean
  readonly events: number
  readonly head: { readonly seq: number; readonly hash: string }
  readonly signed?: { readonly seq: number; readonly day: string }
  readonly broken_at?: number
  readonly reason?: string
  readonly unindexed: number
  readonly days?: { readonly first: string; readonly last: string }
  readonly types: Readonly<Record<string, number>>
  readonly head_key?: string
  readonly checked?: readonly string[]
}

async function verify(args: Args, io: Io): Promise<number> {
  const where = args.get('url') ?? relative(io.cwd, folderOf(args, io))
  const verified = args.has('url') ? await gatewayClient(args, io).request<Verified>('GET', '/v1/ledger') : await verifyFiles(args, io)
  if (args.get('format') === 'json') printJson(io, verified)
  else io.stdout.write(`${page(where === '' ? '.' : where, verified).join('\n')}\n`)
  return verified.ok ? 0 : 1
}

async function verifyFiles(args: Args, io: Io): Promise<Verified> {
  const folder = folderOf(args, io)
  const noted = notedHead(args)
  const { auditChain } = await import('../consent/ledger.ts')
  if (!hasKeys(folder)) {
    const headKey = args.get('head-key')
    const report = auditChain(folder, headKey, noted)
    return answerOf(report, undefined, ['chain', headKey === undefined ? 'head, not its signature' : 'signed head'])
  }
  return withLedger(folder, args, io, (ledger) => {
    const report = ledger.report(noted)
    // A body that nobody ended the key of and that does not open is damage too: an unreadable withdrawal must not look like none.
    if (report.ok) for (const event of ledger.events()) void event
    const damage = ledger.damage
    return answerOf(damage === undefined || !report.ok ? report : { ...report, ok: false, reason: damage }, ledger.headKey, ['chain', 'signed head', 'keys.db\'s head', 'index', 'bodies that a key is left for'])
  })
}

function answerOf({ ok, events, head, signed, brokenAt, reason, unindexed, days, types }: LedgerReport, headKey: string | undefined, checked: readonly string[]): Verified {
  return {
    ok, events, head, ...(signed === undefined ? {} : { signed: { seq: signed.seq, day: signed.day } }), ...(brokenAt === undefined ? {} : { broken_at: brokenAt }), ...(reason === undefined ? {} : { reason }),
    unindexed, ...(days === undefined ? {} : { days }), types, ...(headKey === undefined ? {} : { head_key: headKey }), checked,
  }
}

function page(where: string, { ok, events, head, signed, broken_at: brokenAt, reason, unindexed, days, types, head_key: headKey, checked }: Verified): string[] {
  const span = days === undefined ? '' : days.first === days.last ? `, of ${days.first}` : `, ${days.first} to ${days.last}`
  return [
    `Ledger in ${where}: ${ok ? 'every event is there, unchanged and in order' : `BROKEN${brokenAt === undefined ? '' : ` at event ${brokenAt}`}`}`,
    ...columns([
      ...(reason === undefined ? [] : [['why', reason]]),
      ['events', `${events}${ok ? '' : ' hold'}${span}`],
      ['head', head.seq === 0 ? 'none' : `${head.seq}:${head.hash}`],
      ...(signed === undefined ? [] : [['signed head', `event ${signed.seq}, on ${signed.day}`]]),
      ...(checked === undefined || !ok ? [] : [['checked', checked.join(', ')]]),
      ...(unindexed === 0 ? [] : [['index', `${unindexed} entries are missing; the next start of the gateway makes them anew`]]),
      ...(headKey === undefined ? [] : [['head key', headKey]]),
      ...Object.entries(types).sort(([one], [other]) => (one < other ? -1 : 1)).map(([type, count], at) => [at === 0 ? 'types' : '', `${type} ${count}`]),
    ]),
    ...(ok
      ? ['Note head and head key elsewhere: with --head a later check notices even a whole data folder put back from a backup.']
      : ['While it is so, everybody counts as unknown. Stop the gateway and restore the data folder from a copy that verifies; keep this one as evidence.']),
  ]
}

function notedHead(args: Args): readonly NotedHead[] {
  const text = args.get('head')
  if (text === undefined) return []
  const [, seq, hash] = /^([0-9]{1,15}):([0-9a-f]{64})$/.exec(text) ?? []
  if (seq === undefined || hash === undefined) throw new UsageError('--head is written SEQ:HASH, as `ledger verify` prints it. See: parapet ledger --help')
  return [{ seq: Number(seq), hash }]
}

// -------------------------------------------------------------------------------------------------------------------- export

interface Line {
  readonly seq: number
  readonly uuid: string
  readonly type: string
  readonly schema: number
  readonly gateway: string
  readonly day: string
  readonly subject_tag?: string
  readonly key_id: string
  readonly prev: string
  readonly hash: string
}

async function exportEvents(args: Args, io: Io): Promise<number> {
  const after = args.get('after') ?? '0'
  if (!/^[0-9]{1,15}$/.test(after)) throw new UsageError('--after is a sequence number. See: parapet ledger --help')
  const day = args.get('day')
  if (day !== undefined && !/^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(day)) throw new UsageError('--day is written 2026-11-23. See: parapet ledger --help')
  if (args.has('url')) return exportFromGateway(args, io, after)
  const folder = folderOf(args, io)
  const type = args.get('type')
  const filter = { afterSeq: Number(after), ...(type === undefined ? {} : { type }), ...(day === undefined ? {} : { day }) }
  const { clearFile } = await import('../consent/ledger.ts')
  if (!args.has('bodies')) {
    for (const event of clearFile(folder, filter)) await print(io, lineOf(event))
    return 0
  }
  if (!hasKeys(folder)) throw new GatewayError('NO-KEYS', 'Nothing sealed can be opened: root.key or keys.db is not in the data folder.', 'Leave out --bodies, or run it where both are.')
  await withLedger(folder, args, io, async (ledger) => {
    const bodies = ledger.events({ afterSeq: filter.afterSeq, ...(type === undefined ? {} : { type }) })[Symbol.iterator]()
    for (const event of ledger.clear(filter)) {
      let opened = bodies.next()
      while (opened.done !== true && opened.value.seq < event.seq) opened = bodies.next()
      // null: its key was destroyed, and nobody can read it any more.
      await print(io, { ...lineOf(event), body: (opened.done === true ? undefined : opened.value.body) ?? null })
    }
  })
  return 0
}

async function exportFromGateway(args: Args, io: Io, after: string): Promise<number> {
  const gateway = gatewayClient(args, io)
  const query = new URLSearchParams({ limit: '1000', ...Object.fromEntries(['type', 'day'].flatMap((name) => (args.get(name) === undefined ? [] : [[name, args.get(name)!]]))) })
  let next: number | undefined = Number(after)
  while (next !== undefined) {
    query.set('after', String(next))
    const page: { readonly events: readonly Line[]; readonly next?: number } = await gateway.request('GET', `/v1/ledger/events?${query.toString()}`)
    for (const event of page.events) await print(io, event)
    next = page.next
  }
  return 0
}

function lineOf({ seq, uuid, type, schema, gateway, day, subjectTag, keyId, prev, hash }: ReturnType<SqliteLedger['clear']> extends Iterable<infer Event> ? Event : never): Line {
  return { seq, uuid, type, schema, gateway, day, ...(subjectTag === undefined ? {} : { subject_tag: subjectTag }), key_id: keyId, prev, hash }
}

/** Waits for whoever reads slowly, so that a long ledger is not held in memory. */
async function print(io: Io, line: object): Promise<void> {
  if (!io.stdout.write(`${JSON.stringify(line)}\n`)) await new Promise((resolve) => io.stdout.once('drain', resolve))
}

// --------------------------------------------------------------------------------------------------------------------- files

function folderOf(args: Args, io: Io): string {
  const data = args.get('data')
  const folder = data === undefined ? gatewayPath(io, args.get('config'), 'data', './data') : resolve(io.cwd, data)
  if (!existsSync(join(folder, 'ledger.db'))) throw new GatewayError('NO-LEDGER', `There is no ledger.db in ${relative(io.cwd, folder)}.`, 'Name the data folder with --data. If a gateway ran there, somebody took the ledger away.')
  return folder
}

function hasKeys(folder: string): boolean {
  return existsSync(join(folder, 'root.key')) && existsSync(join(folder, 'keys.db'))
}

/** The folder's ledger, opened to be looked at only. */
async function withLedger<Result>(folder: string, args: Args, io: Io, look: (ledger: SqliteLedger) => Result | Promise<Result>): Promise<Result> {
  const [{ SqliteLedger }, { SqliteSubjectKeys }, { loadRootKey }] = await Promise.all([import('../consent/ledger.ts'), import('../consent/subjects.ts'), import('../consent/root.ts')])
  const tenant = args.get('tenant') ?? gatewayText(io, args.get('config'), 'tenant').named ?? 'default'
  const keys = new SqliteSubjectKeys({ folder, root: loadRootKey(join(folder, 'root.key')), tenant, readOnly: true })
  try {
    const ledger = new SqliteLedger({ folder, keys, gateway: '', clock: { now: Date.now, monotonic: () => performance.now() }, readOnly: true })
    try {
      return await look(ledger)
    } finally {
      ledger.close()
    }
  } finally {
    keys.close()
  }
}
