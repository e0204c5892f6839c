/**
 * `parapet rules`: which rules are in force in a running gateway, and what becomes of those that wait because they widen something.
 */
import { columns, FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import type { GatewayClient } from './client.ts'
import { lineOf, summaryOf, type Change } from '../difference.ts'
import { readRules } from './rules-source.ts'
import { shadow } from './shadow.ts'

/** Something waits for an approval. */
const WAITS = 3

export const command: Command = {
  name: 'rules',
  summary: 'show, try, activate, roll back or discard the rules of a running gateway',
  usage: ['list', 'activate [RULES] [--approve-widening REASON]', 'rollback [--approve-widening REASON]', 'discard', 'shadow RULES [--sample 10%] [--for 1h]', 'shadow [--stop]'],
  actions: [
    { name: 'list', text: 'what is active, what waits and what that widens' },
    { name: 'activate', text: 'put RULES in place, or read the file again; with a reason approve what it widens' },
    { name: 'rollback', text: 'go back to what was active before' },
    { name: 'discard', text: 'throw away what waits' },
    { name: 'shadow', text: 'run RULES beside the active ones on live traffic and count what they would change; without RULES show the counts' },
  ],
  words: [0, 1],
  options: [
    { name: 'approve-widening', arg: 'REASON', text: 'approves what waits; the reason goes into the ledger, so name no person' },
    { name: 'sample', arg: 'PERCENT', text: 'of the messages, for shadow, default 10%' },
    { name: 'for', arg: 'DURATION', text: 'how long shadow runs, default 1h, at most 24h' },
    { name: 'stop', text: 'ends the shadow run' },
    FORMAT, ...GATEWAY_OPTIONS,
  ],
  notes: 'What widens nothing for anybody is active at once. The rest waits for the role privacy or admin, and with `two_person: true` in the gateway\nfile for two different tokens. To put RULES in place needs the role engineer. Exit 3: something waits.\nA shadow run sends nothing, and compares what is made of each message before `emit` thins it. To start or end one needs the role engineer.',
  async run(args, io) {
    const reason = args.get('approve-widening')
    const [file] = args.words
    if (args.action === 'shadow') return shadow(args, io)
    const own = ['sample', 'for', 'stop'].find((option) => args.has(option))
    if (own !== undefined) throw new UsageError(`--${own} goes with rules shadow. See: parapet rules --help`)
    if (file !== undefined && args.action !== 'activate') throw new UsageError(`rules ${args.action} takes no file. See: parapet rules --help`)
    if (reason !== undefined && args.action !== 'activate' && args.action !== 'rollback') throw new UsageError(`--approve-widening does not go with rules ${args.action}. See: parapet rules --help`)
    const text = file === undefined ? undefined : readRules(io, file)
    const gateway = gatewayClient(args, io)
    const first = await asked(args.action, gateway, text, reason)
    const approving = reason === undefined ? undefined : first.staged
    if (approving !== undefined && args.get('format') !== 'json') io.stdout.write([...approving.changes.map(lineOf), '', ''].join('\n'))
    const state = approving === undefined ? first : await gateway.request<Rules>('POST', '/v1/rules/activate', { hash: approving.hash, approve_widening: reason })
    if (args.get('format') === 'json') printJson(io, state)
    else print(state, args, io)
    return state.staged === undefined ? 0 : WAITS
  },
}

interface Rules {
  readonly active?: { readonly hash: string; readonly policy: string; readonly active_since: string; readonly outputs: readonly string[] }
  readonly refused?: { readonly at: string; readonly findings: readonly unknown[] }
  readonly staged?: {
    readonly hash: string
    readonly policy: string
    readonly since: string
    readonly by: string
    readonly widened: number
    readonly narrowed: number
    readonly changed: number
    readonly changes: readonly Change[]
    readonly approvals: readonly { readonly by: string; readonly at: string; readonly reason: string }[]
    readonly needs: number
  }
  readonly previous?: { readonly hash: string; readonly policy: string }
}

async function asked(action: string, gateway: GatewayClient, text: string | undefined, reason: string | undefined): Promise<Rules> {
  switch (action) {
    case 'rollback': return gateway.request<Rules>('POST', '/v1/rules/rollback', {})
    case 'discard': return gateway.request<Rules>('POST', '/v1/rules/discard', {})
    case 'activate': {
      if (text !== undefined) return gateway.request<Rules>('PUT', '/v1/rules', text)
      // Who approves means what waits already; reading the file again could put another set in its place.
      const now = reason === undefined ? undefined : await gateway.request<Rules>('GET', '/v1/rules')
      return now?.staged === undefined ? gateway.request<Rules>('POST', '/v1/rules/activate', {}) : now
    }
    default: return gateway.request<Rules>('GET', '/v1/rules')
  }
}

function print({ active, refused, staged, previous }: Rules, args: Args, io: Io): void {
  const approvals = staged?.approvals ?? []
  io.stdout.write(`${[
    ...columns([
      ['active', active === undefined ? 'none: nothing is forwarded' : `${active.policy}, ${active.hash.slice(0, 12)}, since ${active.active_since}`],
      ...(previous === undefined ? [] : [['before', `${previous.policy}, ${previous.hash.slice(0, 12)}`]]),
      ...(refused === undefined ? [] : [['refused', `the file, at ${refused.at}, with ${refused.findings.length} findings`]]),
      ...(staged === undefined ? [] : [['waits', `${staged.policy}, ${staged.hash.slice(0, 12)}, since ${staged.since} (${staged.by}): ${summaryOf(staged)}`]]),
      ...approvals.map((one) => ['approved', `by ${one.by} at ${one.at}: ${one.reason}`]),
    ], ''),
    ...(staged === undefined ? [] : ['', ...staged.changes.map(lineOf), '', `It needs ${staged.needs - approvals.length === 1 ? 'an approval' : `${staged.needs - approvals.length} approvals`}: parapet rules activate --approve-widening REASON, or: parapet rules discard.`]),
    ...(staged === undefined && args.action === 'list' && refused !== undefined ? ['', 'Run parapet check on the rules file and mend what it says.'] : []),
  ].join('\n')}\n`)
}
