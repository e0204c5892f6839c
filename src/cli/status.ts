/**
 * `parapet status`: what a running gateway does and what needs attention. Exit 1 when it is not ready.
 */
import { columns, FORMAT, printJson } from './command.ts'
import type { Command } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'

export const command: Command = {
  name: 'status',
  summary: 'what a running gateway does, and what needs attention',
  usage: ['[--format json]'],
  options: [FORMAT, ...GATEWAY_OPTIONS],
  notes: 'Exit code 1 when the gateway is not ready.',
  async run(args, io) {
    const gateway = gatewayClient(args, io)
    const status = await gateway.request<Status>('GET', '/v1/status')
    const { outputs } = await gateway.request<{ outputs: readonly Output[] }>('GET', '/v1/outputs')
    if (args.get('format') === 'json') printJson(io, { ...status, outputs })
    else io.stdout.write(`${page(status, outputs).join('\n')}\n`)
    return status.ready ? 0 : 1
  },
}

interface Status {
  readonly name: string
  readonly version: string
  readonly started: string
  readonly ready: boolean
  readonly trial: boolean
  readonly reasons: readonly { readonly code: string; readonly severity: string; readonly text: string; readonly mend?: string }[]
  readonly listeners: readonly { readonly name: string; readonly host: string; readonly port: number; readonly tls: boolean; readonly connections: number }[]
  readonly bridges: readonly { readonly name: string; readonly recipient: string; readonly connected: boolean; readonly waiting: number }[]
  readonly machines: number
  readonly operators: number
  readonly sessions: number
  readonly outbox: { readonly records: number; readonly bytes: number; readonly limit_bytes: number; readonly oldest?: string; readonly dead_letters?: number }
  readonly recipients?: readonly { readonly recipient: string; readonly sessions: number; readonly connected: number; readonly records: number; readonly bytes: number; readonly oldest?: string }[]
  readonly ledger: { readonly seq: number; readonly healthy: boolean }
  readonly rules?: { readonly hash: string; readonly policy: string; readonly active_since: string }
}

interface Output {
  readonly id: string
  readonly recipient: string
  readonly purpose: string
  readonly stopped: boolean
  readonly forwarded: number
  readonly withheld: Readonly<Record<string, number>>
}

function page(status: Status, outputs: readonly Output[]): string[] {
  const { outbox, ledger, rules, recipients = [] } = status
  const full = Math.round((100 * outbox.bytes) / Math.max(1, outbox.limit_bytes))
  return [
    `${status.name} (parapet ${status.version}${status.trial ? ', trial' : ''}) is ${status.ready ? 'ready' : 'not ready'}; running since ${status.started}`,
    ...status.reasons.map(({ severity, code, text, mend }) => `${severity} ${code} ${text}${mend === undefined ? '' : ` ${mend}`}`),
    '',
    ...columns([
      ['rules', rules === undefined ? 'none active: nothing is forwarded' : `${rules.policy}, ${rules.hash.slice(0, 12)}, since ${rules.active_since}`],
      ['machines', String(status.machines)],
      ['operators', `${status.operators} known, ${status.sessions} signed on`],
      ['outbox', `${outbox.records} messages, ${full} % of its size${outbox.oldest === undefined ? '' : `, the oldest of ${outbox.oldest}`}`],
      ...((outbox.dead_letters ?? 0) === 0 ? [] : [['dead letters', `${outbox.dead_letters} messages that brokers refused for good`]]),
      ['ledger', `${ledger.seq} events, ${ledger.healthy ? 'sound' : 'DAMAGED'}`],
      ...status.listeners.map(({ name, host, port, tls, connections }) => [name, `${host}:${port}${tls ? ' TLS' : ''}, ${connections} connected`]),
      ...status.bridges.map(({ name, recipient, connected, waiting }) => [`bridge ${name}`, `to ${recipient}, ${connected ? 'connected' : 'NOT CONNECTED'}, ${waiting} waiting`]),
      ...recipients.map(({ recipient, sessions, connected, records, bytes, oldest }) => [
        `sessions of ${recipient}`,
        `${sessions}, ${connected} connected, ${records} messages waiting (${bytes} bytes)${oldest === undefined ? '' : `, the oldest of ${oldest}`}`,
      ]),
    ], ''),
    '',
    ...columns([['output', 'recipient', 'purpose', 'forwarded', 'withheld'], ...outputs.map((output) => [
      output.id, output.recipient, output.purpose, String(output.forwarded),
      output.stopped ? 'STOPPED by the verifier' : Object.entries(output.withheld).map(([reason, count]) => `${reason} ${count}`).join(', '),
    ])], ''),
  ]
}
