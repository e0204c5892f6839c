/**
 * `parapet consent`: what an operator allows, through the admin API of a running gateway.
 */
import { columns, FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import type { GatewayClient } from './client.ts'

export const command: Command = {
  name: 'consent',
  summary: 'give, refuse, withdraw, object to or show the consent of an operator',
  usage: [
    'grant --operator ID --purpose P --evidence TEXT [--expires TIME] [--language L] [--local-only]',
    'refuse|withdraw|object --operator ID --purpose P',
    'notice --operator ID [--policy ID] [--language L]',
    'show --operator ID',
  ],
  actions: [
    { name: 'grant', text: 'record a yes that the person gave; says where the proof is' },
    { name: 'refuse', text: 'record a no to a question that was asked' },
    { name: 'withdraw', text: 'take a yes back; queued messages are purged before this returns' },
    { name: 'object', text: 'object to processing that rests on legitimate interest or opt-out' },
    { name: 'notice', text: 'record that the person was given the notice of a policy' },
    { name: 'show', text: 'state per purpose, and the history that the person may ask for' },
  ],
  options: [
    { name: 'operator', arg: 'ID', text: 'id of the operator as in operators.yaml; never a card or PIN', required: true },
    { name: 'purpose', arg: 'P', text: 'purpose of the rules file, for example improve.statistics' },
    { name: 'evidence', arg: 'TEXT', text: 'where the proof of the grant is, for example "signed form 2026-114"' },
    { name: 'expires', arg: 'TIME', text: 'when the grant ends by itself, RFC 3339' },
    { name: 'language', arg: 'L', text: 'language of the notice, for example de' },
    { name: 'policy', arg: 'ID', text: 'policy whose notice was given; default the one in force' },
    { name: 'local-only', text: 'a yes for outputs that stay on the site, and no others' },
    FORMAT,
    ...GATEWAY_OPTIONS,
  ],
  notes: 'Only a role that may read consent can use this: privacy or admin, not engineer.',
  async run(args, io) {
    const operator = args.get('operator') ?? ''
    checkOptions(args)
    const gateway = gatewayClient(args, io)
    const path = `/v1/operators/${encodeURIComponent(operator)}`
    if (args.action === 'show') return show(await gateway.request<Consent>('GET', `${path}/consent`), args, io)
    if (args.action === 'notice') return notice(path, gateway, args, io)
    return change(path, gateway, args, io)
  },
}

const STATE: Readonly<Record<string, string>> = { grant: 'granted', refuse: 'refused', withdraw: 'withdrawn', object: 'objected' }

/** Which options go with which action, beyond those that go with all. */
function checkOptions(args: Args): void {
  const allowed: Readonly<Record<string, readonly string[]>> = {
    grant: ['purpose', 'evidence', 'expires', 'language', 'local-only'],
    refuse: ['purpose', 'evidence', 'language'], withdraw: ['purpose', 'evidence', 'language'], object: ['purpose', 'evidence', 'language'],
    notice: ['policy', 'language'],
  }
  const mine = allowed[args.action] ?? []
  for (const option of ['purpose', 'evidence', 'expires', 'language', 'policy', 'local-only']) {
    if (args.has(option) && !mine.includes(option)) throw new UsageError(`--${option} does not go with consent ${args.action}. See: parapet consent --help`)
  }
  if (mine.includes('purpose') && !args.has('purpose')) throw new UsageError(`consent ${args.action} needs --purpose. See: parapet consent --help`)
  if (args.action === 'grant' && !args.has('evidence')) {
    throw new UsageError('consent grant needs --evidence: where is the proof that the person said yes? See: parapet consent --help')
  }
}

interface Receipt {
  readonly receipt: string
  readonly operator: string
  readonly purpose: string
  readonly state: string
  readonly seq: number
  readonly at: string
  readonly policy: string
  readonly purged: number
  readonly swapped: number
  readonly on_the_wire: number
}

async function change(path: string, gateway: GatewayClient, args: Args, io: Io): Promise<number> {
  const given = { evidence: args.get('evidence'), expires: args.get('expires'), language: args.get('language') }
  const state = args.has('local-only') ? 'local_only' : STATE[args.action]
  const receipt = await gateway.request<Receipt>('POST', `${path}/consent`, { purpose: args.get('purpose'), state, ...given })
  if (args.get('format') === 'json') printJson(io, receipt)
  else {
    io.stdout.write(`${receipt.purpose} is ${receipt.state} for ${receipt.operator}: in force and durable.\n`)
    io.stdout.write(`${columns([
      ['receipt', receipt.receipt], ['at', receipt.at], ['ledger', `event ${receipt.seq}`], ['policy', receipt.policy],
      ['queued messages', `${receipt.purged} removed, ${receipt.swapped} replaced by what needs no consent`],
      ['already on the wire', String(receipt.on_the_wire)],
    ]).join('\n')}\n`)
  }
  return 0
}

async function notice(path: string, gateway: GatewayClient, args: Args, io: Io): Promise<number> {
  const body = { policy: args.get('policy'), language: args.get('language') }
  const answer = await gateway.request<{ operator: string; policy: string; seq: number }>('POST', `${path}/notice`, body)
  if (args.get('format') === 'json') printJson(io, answer)
  else io.stdout.write(`The notice of ${answer.policy} is recorded as given to ${answer.operator} (ledger event ${answer.seq}).\n`)
  return 0
}

interface Consent {
  readonly operator: string
  readonly country?: string
  readonly purposes: readonly { readonly purpose: string; readonly state: string; readonly since: string; readonly policy?: string; readonly source?: string }[]
  readonly notice?: { readonly policy: string; readonly at: string }
  readonly history: readonly { readonly seq: number; readonly type: string; readonly day: string; readonly body?: Readonly<Record<string, unknown>> }[]
}

function show(consent: Consent, args: Args, io: Io): number {
  if (args.get('format') === 'json') {
    printJson(io, consent)
    return 0
  }
  const { purposes, notice: given, history } = consent
  io.stdout.write([
    `${consent.operator}${consent.country === undefined ? '' : `, ${consent.country}`}`,
    given === undefined ? 'No notice was given.' : `Notice of ${given.policy} given at ${given.at}.`,
    '', ...columns([['purpose', 'state', 'since', 'policy', 'source'], ...purposes.map((row) => [row.purpose, row.state, row.since, row.policy ?? '-', row.source ?? '-'])], ''),
    '', 'History',
    ...(history.length === 0 ? ['  nothing yet'] : columns(history.map(({ seq, day, type, body }) => [String(seq), day, type, body === undefined ? '(its key was destroyed)' : line(body)]))),
    '',
  ].join('\n'))
  return 0
}

function line(body: Readonly<Record<string, unknown>>): string {
  return Object.entries(body)
    .filter(([, value]) => typeof value === 'string' || typeof value === 'number')
    .map(([key, value]) => `${key}=${String(value)}`)
    .join(' ')
}
