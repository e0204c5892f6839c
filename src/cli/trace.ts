/**
 * `parapet trace`: what becomes of the messages of one machine, as they come, until Ctrl-C or its time is over.
 */
import { GatewayError } from '../domain/errors.ts'
import { UNNAMED } from '../explanation.ts'
import { columns, FORMAT, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS, type GatewayClient } from './client.ts'
import { minutesOf } from './shadow.ts'

const POLL_MS = 1_000

export const command: Command = {
  name: 'trace',
  summary: 'explain the messages of a machine as they come: output, field, action, reason',
  usage: ['--machine M [--for 10m] [--values]', '--operator ID [--for 10m] [--values]'],
  options: [
    { name: 'machine', arg: 'M', text: 'id of the machine' },
    { name: 'operator', arg: 'ID', text: 'messages about this person instead; for the roles privacy and admin' },
    { name: 'for', arg: 'DURATION', text: 'how long, default 10m, at most 1h' },
    { name: 'values', text: 'values before and after too; for the roles privacy and admin, and on record' },
    { name: 'count', arg: 'N', text: 'ends after so many messages' },
    FORMAT, ...GATEWAY_OPTIONS,
  ],
  notes: [
    'Shown is what is made of each message; whether `emit`, a full outbox or a missing subscriber keeps it afterwards says parapet why.',
    'To the role engineer messages are explained as if nobody were known at the machine, with what would be done with a yes beside it.',
    'With --format json each message is one object in one line. Start, end and each look at values are in the ledger.',
  ].join('\n'),
  async run(args, io) {
    const [machine, operator] = [args.get('machine'), args.get('operator')]
    if ((machine === undefined) === (operator === undefined)) throw new UsageError('trace needs --machine or --operator, one of the two. See: parapet trace --help')
    const minutes = minutesOf(args.get('for') ?? '10m', 60, '1h')
    const most = countOf(args)
    const gateway = gatewayClient(args, io)
    const trace = await gateway.request<Trace>('POST', '/v1/trace', { ...(machine === undefined ? { operator } : { machine }), minutes, values: args.has('values') })
    const stopped = Promise.withResolvers<void>()
    const stop = (): void => stopped.resolve()
    process.once('SIGINT', stop)
    try {
      if (args.get('format') !== 'json') io.stderr.write(`${begun(trace)}\n`)
      return await follow(gateway, trace.id, { args, io, most, stopped: stopped.promise })
    } finally {
      process.removeListener('SIGINT', stop)
    }
  },
}

interface Trace {
  readonly id: number
  readonly machine?: string
  readonly operator?: string
  readonly values: boolean
  readonly personal: boolean
  readonly ends: string
  readonly ending?: string
  readonly skipped: number
}

interface Page extends Trace {
  readonly dropped: number
  readonly entries: readonly Entry[]
}

interface Entry {
  readonly seq: number
  readonly at: string
  readonly machine: string
  readonly stream?: string
  readonly bytes: number
  readonly refused?: string
  readonly text?: string
  readonly person?: string
  readonly outputs: readonly {
    readonly output: string
    readonly result: string
    readonly text: string
    readonly why: string
    readonly bytes?: number
    readonly topic?: string
    readonly if_nobody_known: boolean
    readonly thinned: boolean
    readonly fields: readonly { readonly path: string; readonly action: string; readonly why: string; readonly with_yes?: string; readonly before?: string; readonly after?: string }[]
    readonly further_fields: number
  }[]
  readonly further_outputs: number
}

interface Following {
  readonly args: Args
  readonly io: Io
  readonly most: number
  readonly stopped: Promise<void>
}

/** Prints what comes; ends the trace when nobody wants more of it. */
async function follow(gateway: GatewayClient, id: number, { args, io, most, stopped }: Following): Promise<number> {
  const isText = args.get('format') !== 'json'
  let isStopped = false
  void stopped.then(() => (isStopped = true))
  let [after, shown, skipped] = [0, 0, 0]
  for (;;) {
    const page = await gateway.request<Page>('GET', `/v1/trace?after=${after}`)
    if (page.id !== id) throw new GatewayError('TRACE-REPLACED', 'Another trace with the same token took the place of this one.', 'Each token has one trace at a time.')
    if (page.dropped > 0 && after > 0) io.stderr.write(`${page.dropped} messages were gone before they could be shown\n`)
    if (page.skipped > skipped) io.stderr.write(`${page.skipped - skipped} messages were passed over for want of processor time\n`)
    skipped = page.skipped
    for (const entry of page.entries.slice(0, most - shown)) io.stdout.write(isText ? `${textOf(entry, page.values).join('\n')}\n\n` : `${JSON.stringify(entry)}\n`)
    shown += page.entries.length
    after = page.entries.at(-1)?.seq ?? after
    if (isStopped || shown >= most) break
    if (page.entries.length > 0) continue
    if (page.ending !== undefined) {
      if (isText) io.stderr.write(`The trace has ended (${page.ending}).\n`)
      break
    }
    await Promise.race([stopped, new Promise((done) => void setTimeout(done, POLL_MS))])
  }
  await gateway.request('DELETE', '/v1/trace')
  return 0
}

function countOf(args: Args): number {
  const count = Number(args.get('count') ?? Number.POSITIVE_INFINITY)
  if (!(count >= 1)) throw new UsageError('--count is a number of messages.')
  return count
}

// ---------------------------------------------------------------------------------------------------------------------- text

function begun({ machine, operator, ends, personal, values }: Trace): string {
  const how = personal ? (values ? ', with values' : '') : '; explained as if nobody were known at the machine'
  return `Tracing ${machine === undefined ? `operator ${operator ?? ''}` : `machine ${machine}`} until ${ends} or Ctrl-C${how}`
}

function textOf(entry: Entry, values: boolean): string[] {
  const head = `${entry.at}  ${entry.machine}  ${entry.stream ?? 'no stream'}, ${entry.bytes} bytes${entry.person === undefined ? '' : `; ${entry.person}`}`
  if (entry.refused !== undefined) return [head, `  refused: ${entry.refused}; ${entry.text ?? ''}`]
  return [
    head,
    ...entry.outputs.flatMap((one) => [
      `  ${one.output}: ${one.why}${one.if_nobody_known ? ' (if nobody is known)' : ''}`,
      `    ${one.result === 'sent' ? `sent, ${one.bytes ?? 0} bytes${one.topic === undefined ? '' : ` on ${one.topic}`}${one.thinned ? ', unless `emit` thins it' : ''}` : `not sent: ${one.result}; ${one.text}`}`,
      ...columns(told(one).map((field) => [field.path, ...(values ? [field.before ?? '-', field.after ?? '-'] : []), actionText(field), field.why]), '      '),
      ...unnamed(one),
      ...(one.further_fields === 0 ? [] : [`      and ${one.further_fields} fields more`]),
    ]),
    ...(entry.outputs.length === 0 ? ['  no output takes this stream: nothing of it leaves'] : []),
    ...(entry.further_outputs === 0 ? [] : [`  and ${entry.further_outputs} outputs more`]),
  ]
}

type Explained = Entry['outputs'][number]

/** Of a closed output no field is worth a line but those that a yes would let out. */
function told({ fields, why }: Explained): Explained['fields'] {
  return fields.filter((field) => (why.startsWith('closed') ? field.with_yes !== undefined && field.with_yes !== 'drop' : field.why !== UNNAMED))
}

function unnamed({ fields, why }: Explained): string[] {
  if (why.startsWith('closed')) return []
  const names = fields.filter((field) => field.why === UNNAMED).map(({ path }) => path)
  return names.length === 0 ? [] : [`      not named by the output, so dropped: ${names.join(', ')}`]
}

function actionText({ action, with_yes: withYes }: Entry['outputs'][number]['fields'][number]): string {
  return withYes === undefined || withYes === action ? action : `${action} (with a yes: ${withYes})`
}
