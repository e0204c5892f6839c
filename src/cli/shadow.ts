/**
 * `parapet rules shadow`: a candidate beside the active rules of a running gateway, and what it would change, in counts.
 */
import { formatFinding, GatewayError, type Finding } from '../domain/errors.ts'
import { Verdict, type VerdictName } from '../domain/verdict.ts'
import { parseDuration } from '../minimise/quantity.ts'
import { columns, printJson, UsageError } from './command.ts'
import type { Args, Io } from './command.ts'
import { gatewayClient, type GatewayClient } from './client.ts'
import { readRules } from './rules-source.ts'

/** Starts a run, ends it, or shows it. */
export async function shadow(args: Args, io: Io): Promise<number> {
  const [file] = args.words
  if (args.has('approve-widening')) throw new UsageError('A shadow run needs no approval: nothing of it leaves. See: parapet rules --help')
  if (file === undefined && (args.has('sample') || args.has('for'))) throw new UsageError('rules shadow needs a rules file to start. See: parapet rules --help')
  if (file !== undefined && args.has('stop')) throw new UsageError('--stop ends the run that goes on and takes no file. See: parapet rules --help')
  const path = file === undefined ? '/v1/rules/shadow' : `/v1/rules/shadow?sample=${percentOf(args)}&minutes=${minutesOf(args.get('for') ?? '1h', 1_440, '24h')}`
  const text = file === undefined ? undefined : readRules(io, file)
  const gateway = gatewayClient(args, io)
  const run = text === undefined ? await gateway.request<Run>(args.has('stop') ? 'DELETE' : 'GET', path) : await started(gateway, path, text, file ?? '')
  if (args.get('format') === 'json') printJson(io, run)
  else print(run, file, io)
  return 0
}

interface Run {
  readonly candidate: { readonly hash: string; readonly policy: string }
  readonly active: { readonly hash: string; readonly policy: string }
  readonly by: string
  readonly sample: number
  readonly started: string
  readonly ends: string
  readonly ended?: string
  readonly ending?: string
  readonly seen: number
  readonly compared: number
  readonly skipped: number
  readonly rows: readonly { readonly output?: string; readonly stream: string; readonly field?: string; readonly what: string; readonly reason?: string; readonly count: number; readonly machines: number }[]
  readonly as_nobody: boolean
  readonly left_out: boolean
  readonly further: number
  readonly difference: string
  readonly asks_again: readonly string[]
  readonly notice_again: boolean
}

async function started(gateway: GatewayClient, path: string, text: string, file: string): Promise<Run> {
  try {
    return await gateway.request<Run>('POST', path, text)
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'RULES-REFUSED') throw error
    // The refusal names the first finding; whoever mends the file wants all.
    const { findings } = await gateway.request<{ readonly findings: readonly (Omit<Finding, 'place'> & { readonly line: number; readonly col: number })[] }>('POST', '/v1/rules/validate', text)
    throw new GatewayError(error.code, ['The rules are refused, so they do not run:', ...findings.map(({ line, col, ...finding }) => formatFinding({ ...finding, place: { file, line, col } }))].join('\n'))
  }
}

/** Whole minutes of a duration. */
export function minutesOf(text: string, most: number, atMost: string): number {
  const minutes = Math.ceil((parseDuration(text) ?? Number.NaN) / 60_000)
  if (!(minutes >= 1 && minutes <= most)) throw new UsageError(`--for is a duration such as 10m or 1h, at most ${atMost}.`)
  return minutes
}

function percentOf(args: Args): number {
  const percent = Number(/^(\d{1,3})\s*%?$/.exec(args.get('sample') ?? '10%')?.[1])
  if (!(percent >= 1 && percent <= 100)) throw new UsageError('--sample is a share of the messages from 1% to 100%.')
  return percent
}

// ---------------------------------------------------------------------------------------------------------------------- text

const ENDINGS: Readonly<Record<string, string>> = {
  asked: 'ended', over: 'over', rules: 'ended, because other rules are in force', failed: 'ended by an error, which the log names', closing: 'ended with the gateway',
}

/** What a line says, for the whole message and for a field of it. */
const FINDINGS: Readonly<Record<string, string>> = {
  same: 'the same', changed: 'changed', only_active: 'no longer', only_candidate: 'newly', other_topic: 'on another topic', different: 'another value', refused_by_active: 'no longer refused', refused_by_candidate: 'newly refused',
}

function print(run: Run, file: string | undefined, io: Io): void {
  const set = ({ policy, hash }: Run['active']): string => `${policy}, ${hash.slice(0, 12)}`
  const differing = run.rows.filter((row) => row.what !== 'same')
  io.stdout.write(`${[
    ...columns([
      ['candidate', `${set(run.candidate)}: ${run.difference}`],
      ['beside', set(run.active)],
      [run.ended === undefined ? 'runs' : 'ran', `${run.started} to ${run.ended ?? run.ends}, ${run.sample} % of the messages, started by ${run.by}${run.ending === undefined ? '' : `; ${ENDINGS[run.ending] ?? run.ending}`}`],
      ['messages', `${run.seen} came, ${run.compared} compared${run.skipped === 0 ? '' : `, ${run.skipped} passed over for want of time`}`],
    ], ''),
    '',
    ...(run.rows.length === 0 ? [] : [...columns([['output', 'stream', 'field', 'messages', 'under the candidate'], ...run.rows.map((row) => [row.output ?? 'all', row.stream, row.field ?? '(whole message)', String(row.count), whatOf(row)])], ''), '']),
    ...(run.compared > 0 && differing.length === 0 && run.further === 0 ? ['Nothing that was compared would be otherwise.'] : []),
    ...(run.further === 0 ? [] : [`${run.further} more in places for which there was no line left.`]),
    ...(run.as_nobody ? ['Judged as if nobody were known. A run that the role privacy or admin starts goes by what people really said.'] : []),
    ...(run.left_out ? ['What hangs on a person\'s answer is shown to the roles privacy and admin.'] : []),
    ...(run.asks_again.length === 0 ? [] : [`A yes for ${run.asks_again.join(', ')} would end, as the candidate is wider than what was granted; compared as if it held.`]),
    ...(run.notice_again ? ['The candidate has another policy id, so its notice must be given before opt-out purposes open; compared as if it were.'] : []),
    `Next: parapet rules activate ${file ?? 'RULES'}${run.ended === undefined ? ', or end the run: parapet rules shadow --stop' : ''}`,
  ].join('\n')}\n`)
}

function whatOf({ what, reason, field }: Run['rows'][number]): string {
  const why = reason === undefined ? '' : `: ${Verdict[reason as VerdictName]?.text ?? reason}`
  const under = what === 'only_candidate' || what === 'refused_by_active' ? ' (before)' : ''
  return `${FINDINGS[what] ?? what}${field === undefined && why !== '' ? `${under}${why}` : ''}`
}
