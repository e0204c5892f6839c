/**
 * `parapet learn`: what terminals send that schemas and rules do not know, so that an engineer can decide what becomes of it.
 */
import type { LearnedKind } from '../domain/live.ts'
import { LEARNED } from '../watch/learning.ts'
import { LIMITS } from '../domain/limits.ts'
import { columns, FORMAT, printJson, UsageError } from './command.ts'
import type { Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import { secondsIn } from './durations.ts'

export const command: Command = {
  name: 'learn',
  summary: 'report what terminals send that schemas and rules do not know, without values',
  usage: ['[--stream S] [--for 1h]', '--stop'],
  options: [
    { name: 'stream', arg: 'S', text: 'this stream alone' },
    { name: 'for', arg: 'TIME', text: 'begin anew, for so long: 1h (default of the first time) up to 7d' },
    { name: 'stop', text: 'end it' },
    FORMAT, ...GATEWAY_OPTIONS,
  ],
  notes: [
    'Shows the run that is on, or the last one; begins one when there was none. It ends by itself, and its report stays until the gateway stops.',
    'Values are never kept or shown: numbers of fields, wire types, sizes, counts, how many machines, the hour. Nothing of it leaves until an output names it.',
    'At most 500 messages a second are looked at, and a change of rules begins the report anew. Needs the role engineer, privacy or admin.',
  ].join('\n'),
  async run(args, io) {
    const stream = args.get('stream')
    const time = args.get('for')
    if (args.has('stop') && (stream !== undefined || time !== undefined)) throw new UsageError('--stop goes without --stream and --for. See: parapet learn --help')
    const gateway = gatewayClient(args, io)
    const known = args.has('stop') ? await gateway.request<Learning>('DELETE', '/v1/learning') : time !== undefined ? undefined : (await gateway.request<{ readonly learning?: Learning }>('GET', '/v1/learning')).learning
    const learning = known ?? await gateway.request<Learning>('POST', '/v1/learning', { seconds: secondsIn('for', time ?? '1h', LIMITS.learnMs, '7d'), ...(stream === undefined ? {} : { stream }) })
    const shown = stream === undefined ? learning : { ...learning, rows: learning.rows.filter((row) => row.stream === stream) }
    if (args.get('format') === 'json') printJson(io, shown)
    else print(shown, io)
    return 0
  },
}

interface Learning {
  readonly running: boolean
  readonly ended?: string
  readonly stream?: string
  readonly since: string
  readonly until: string
  readonly messages: { readonly read: number; readonly passed_over: number; readonly unreadable: number; readonly cut: number }
  readonly rows: readonly {
    readonly kind: LearnedKind
    readonly stream?: string
    readonly message?: string
    readonly at: string
    readonly wire?: string
    readonly smallest: number
    readonly largest: number
    readonly count: number
    readonly machines: number
    readonly first: string
    readonly last: string
    readonly proto?: string
    readonly rules?: string
    readonly next: string
  }[]
  readonly more: number
}

function print({ running, ended, stream, since, until, messages, rows, more }: Learning, io: Io): void {
  const { read, passed_over: passedOver, unreadable, cut } = messages
  const left = [passedOver > 0 ? `${passedOver} passed over` : '', unreadable > 0 ? `${unreadable} not readable` : '', cut > 0 ? `${cut} read in part` : ''].filter((part) => part !== '')
  io.stdout.write(`${[
    `Learn mode ${running ? `is on until ${until}` : `ended at ${until} (${ended ?? 'over'})`}, for ${stream === undefined ? 'all streams' : `the stream ${stream}`}; messages since ${since}: ${[`${read} read`, ...left].join(', ')}.`,
    ...(rows.length === 0 ? ['Nothing unknown was seen.'] : [
      '',
      ...columns([
        ['stream', 'where', 'what', 'wire', 'bytes', 'messages', 'machines', 'first', 'last'],
        ...rows.map((row) => [
          row.stream ?? '-', row.kind === 'field' ? `${row.message ?? ''} ${row.at}` : row.at, LEARNED[row.kind], row.wire ?? '-', row.smallest === row.largest ? String(row.smallest) : `${row.smallest}-${row.largest}`,
          String(row.count), row.machines >= LIMITS.learnMachines ? `>= ${LIMITS.learnMachines}` : String(row.machines), row.first.slice(0, 16), row.last.slice(0, 16),
        ]),
      ], ''),
      ...rows.flatMap((row) => ['', `${row.stream ?? 'topic'} ${row.at}: ${row.next}`, ...(row.proto === undefined ? [] : [`  .proto: ${row.proto}`]), ...(row.rules === undefined ? [] : [`  rules:  ${row.rules}`])]),
    ]),
    ...(more === 0 ? [] : ['', `${more} more findings have no row: there are ${LIMITS.learnRows} at most.`]),
  ].join('\n')}\n`)
}
