/**
 * `parapet consent`: what an operator allows, through the admin API of a running gateway.
 */
import { columns, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import type { GatewayClient } from './client.ts'

export const command: Command = {
  name: 'consent',
  summary: 'ask for, give, refuse, withdraw, object to, show or export the consent of an operator',
  usage: [
    'grant --operator ID --purpose P --evidence TEXT [--expires TIME] [--language L] [--local-only]',
    'refuse|withdraw|object|request --operator ID --purpose P',
    'notice --operator ID [--policy ID] [--language L]',
    'show --operator ID [--purpose P] [--format text|json|jsonld]',
    'export --operator ID [--purpose P]',
  ],
  actions: [
    { name: 'grant', text: 'record a yes that the person gave; says where the proof is' },
    { name: 'refuse', text: 'record a no to a question that was asked' },
    { name: 'withdraw', text: 'take a yes back; queued messages are purged before this returns' },
    { name: 'object', text: 'object to processing that rests on legitimate interest or opt-out' },
    { name: 'request', text: 'record that the person was asked; changes no answer' },
    { name: 'notice', text: 'record that the person was given the notice of a policy' },
    { name: 'show', text: 'state per purpose, and the history that the person may ask for: who asked, when, what was in force' },
    { name: 'export', text: 'consent receipt with a record per purpose, ISO/IEC TS 27560 in JSON-LD with the terms of DPV; as show --format jsonld' },
  ],
  options: [
    { name: 'operator', arg: 'ID', text: 'id of the operator as in operators.yaml; never a card or PIN', required: true },
    { name: 'purpose', arg: 'P', text: 'purpose of the rules file, for example improve.statistics' },
    { name: 'evidence', arg: 'TEXT', text: 'where the proof of the grant is, for example "signed form 2026-114"' },
    { name: 'expires', arg: 'TIME', text: 'when the grant ends by itself, RFC 3339' },
    { name: 'language', arg: 'L', text: 'language of the notice, for example de' },
    { name: 'policy', arg: 'ID', text: 'policy whose notice was given; default the one in force' },
    { name: 'local-only', text: 'a yes for outputs that stay on the site, and no others' },
    { name: 'format', arg: 'FORMAT', text: 'text (default) or json; show also jsonld', choices: ['text', 'json', 'jsonld'] },
    ...GATEWAY_OPTIONS,
  ],
  notes: 'Only a role that may read consent can use this: privacy or admin, not engineer. Every look and every change is recorded.\nIn an export the person has an id of its own, which means nothing outside of it.',
  async run(args, io) {
    const operator = args.get('operator') ?? ''
    checkOptions(args)
    const gateway = gatewayClient(args, io)
    const path = `/v1/operators/${encodeURIComponent(operator)}`
    if (args.action === 'export' || args.get('format') === 'jsonld') {
      const purpose = args.get('purpose')
      printJson(io, await gateway.request<object>('GET', `${path}/consent/receipt${purpose === undefined ? '' : `?purpose=${encodeURIComponent(purpose)}`}`))
      return 0
    }
    if (args.action === 'show') return show(await gateway.request<Consent>('GET', `${path}/consent`), args, io)
    if (args.action === 'notice') return notice(path, gateway, args, io)
    return change(path, gateway, args, io)
  },
}

const STATE: Readonly<Record<string, string>> = { grant: 'granted', refuse: 'refused', withdraw: 'withdrawn', object: 'objected', request: 'requested' }

/** Which options go with which action, beyond those that go with all. */
function checkOptions(args: Args): void {
  const allowed: Readonly<Record<string, readonly string[]>> = {
    grant: ['purpose', 'evidence', 'expires', 'language', 'local-only'],
    refuse: ['purpose', 'evidence', 'language'], withdraw: ['purpose', 'evidence', 'language'], object: ['purpose', 'evidence', 'language'],
    request: ['purpose', 'language'], show: ['purpose'], export: ['purpose'],
    notice: ['policy', 'language'],
  }
  const mine = allowed[args.action] ?? []
  for (const option of ['purpose', 'evidence', 'expires', 'language', 'policy', 'local-only']) {
    if (args.has(option) && !mine.includes(option)) throw new UsageError(`--${option} does not go with consent ${args.action}. See: parapet consent --help`)
  }
  if (args.get('format') === 'jsonld' && args.action !== 'show' && args.action !== 'export') throw new UsageError(`--format jsonld does not go with consent ${args.action}. See: parapet consent --help`)
  if (Object.hasOwn(STATE, args.action) && !args.has('purpose')) throw new UsageError(`consent ${args.action} needs --purpose. See: parapet consent --help`)
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
  readonly purposes: readonly { readonly purpose: string; readonly state: string; readonly since: string; readonly expires?: string; readonly policy?: string; readonly source?: string }[]
  readonly notice?: { readonly policy: string; readonly at: string; readonly language?: string }
  readonly history: readonly HistoryLine[]
  readonly looks: readonly { readonly at: string; readonly action: string; readonly role?: string }[]
}

interface HistoryLine {
  readonly seq: number
  readonly type: string
  readonly day: string
  readonly at?: string
  readonly purpose?: string
  readonly before?: string
  readonly after?: string
  readonly asked_by?: { readonly role: string; readonly source?: string; readonly token?: string }
  readonly policy?: string
  readonly language?: string
  readonly evidence?: string
  readonly expires?: string
  readonly given?: string
  readonly machine?: string
  readonly country?: string
  readonly recipients?: readonly string[]
}

function show(whole: Consent, args: Args, io: Io): number {
  const purpose = args.get('purpose')
  const consent = purpose === undefined ? whole : { ...whole, purposes: whole.purposes.filter((row) => row.purpose === purpose), history: whole.history.filter((event) => event.purpose === undefined || event.purpose === purpose) }
  if (args.get('format') === 'json') {
    printJson(io, consent)
    return 0
  }
  const { purposes, notice: given, history, looks } = consent
  const newest = looks.at(-1)
  io.stdout.write([
    `${consent.operator}${consent.country === undefined ? '' : `, ${consent.country}`}`,
    given === undefined ? 'No notice was given.' : `Notice of ${given.policy} given at ${given.at}${given.language === undefined ? '' : ` in ${given.language}`}.`,
    '', ...columns([['purpose', 'state', 'since', 'until', 'policy', 'source'], ...purposes.map((row) => [row.purpose, row.state, row.since, row.expires ?? '-', row.policy ?? '-', row.source ?? '-'])], ''),
    '', 'History',
    ...(history.length === 0 ? ['  nothing yet'] : columns(history.map((event) => [String(event.seq), event.at ?? event.day, what(event), whoAsked(event), under(event)]))),
    '', newest === undefined ? 'Nobody has looked at this through the API before.' : `Looked at through the API ${looks.length === 1 ? 'once' : `${looks.length} times`} before, last at ${newest.at} by the role ${newest.role ?? 'unknown'}.`,
    '',
  ].join('\n'))
  return 0
}

function what({ type, purpose, before, after, at }: HistoryLine): string {
  if (at === undefined) return `${type} (its key was destroyed)`
  return purpose === undefined ? type : `${purpose}: ${before} -> ${after}`
}

function whoAsked({ asked_by: by }: HistoryLine): string {
  if (by === undefined) return '-'
  return [by.role, ...(by.source === undefined || by.source === by.role ? [] : [`through ${by.source}`]), ...(by.token === undefined ? [] : [`(${by.token})`])].join(' ')
}

function under({ policy, evidence, language, expires, given, machine, country, recipients }: HistoryLine): string {
  const parts = { policy, evidence, language, until: expires, said: given, machine, country, recipients: recipients?.join(', ') }
  return Object.entries(parts).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])).join(' ')
}
