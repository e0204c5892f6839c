/**
 * `parapet explain`: what leaves and why. Without options everything at a glance; with them the plan for one situation, one message
 * before and after, or the generated function.
 */
import { outputBasis } from '../domain/basis.ts'
import { formatFinding, GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Output, Policy } from '../domain/policy.ts'
import { Verdict, verdictName } from '../domain/verdict.ts'
import type { LoadedRules } from '../config/rules.ts'
import { shownFields } from '../comparison.ts'
import { compilePlan } from '../minimise/compile.ts'
import { planFor, VARIANTS, type Plan } from '../minimise/plan.ts'
import { createFacts } from '../minimise/probe.ts'
import type { PseudonymKeys } from '../minimise/pseudonym.ts'
import { actionOf, changes, gateText, GATES, linesOf, planLines, ruleAt, verdictOf, type Pair, type Standing } from '../explanation.ts'
import { createRehearsal, standingOf } from '../rehearsal.ts'
import { ASSUMPTION_NOTES, ASSUMPTION_OPTIONS, KEY_OPTIONS, readAssumptions, readKeys, type Assumptions } from './assumptions.ts'
import { columns, FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { loadNamedRules, outputNamed, PARAM_OPTION, PROTO_NOTES, PROTO_OPTION, sourceOf, streamNamed } from './rules-source.ts'
import { yaml } from './test.ts'

export const command: Command = {
  name: 'explain',
  summary: 'say what leaves in which case, and why',
  usage: ['RULES', 'RULES [--output O] [--stream S] [--consent P,…] [--country CC] [--code]', 'RULES --stream S --message JSON [--output O] [--consent P,…] [--country CC]'],
  words: [1, 1],
  options: [
    { name: 'output', arg: 'O', text: 'one output; without it all' },
    { name: 'stream', arg: 'S', text: 'one stream; without it all' },
    { name: 'message', arg: 'JSON', text: 'runs this message (proto3 JSON), or the one on stdin for "-", and shows it before and after' },
    { name: 'code', text: 'prints the generated function' },
    ...ASSUMPTION_OPTIONS,
    ...KEY_OPTIONS,
    PARAM_OPTION,
    FORMAT,
    PROTO_OPTION,
  ],
  notes: `Without options: every field of every output, with the operator's yes and without it.\n${ASSUMPTION_NOTES}\n${PROTO_NOTES}`,
  async run(args, io) {
    const file = args.words[0] ?? ''
    const loaded = loadNamedRules(args, io, file)
    // A file with lints against it can be looked at, so that they can be understood.
    const policy = loaded.policy ?? loaded.draft
    for (const finding of loaded.findings) if (finding.severity === 'error') io.stderr.write(`${formatFinding(finding)}\n`)
    if (policy === undefined) throw new GatewayError('RULES-REFUSED', 'The rules file cannot be read as rules, so there is nothing to explain.', 'Mend what is listed above.')
    const pairs = pairsOf(args, policy)
    if (SITUATION.every((option) => !args.has(option))) return matrix(args, io, policy, pairs)
    const keys = readKeys(args, io)
    const assumptions = readAssumptions(args, policy, keys)
    if (args.has('message')) return message(args, io, { policy, loaded, keys, assumptions, pairs })
    return plans(args, io, { policy, keys, assumptions, pairs })
  },
}

/** Options that describe a case; without any of them all cases are shown. */
const SITUATION = ['output', 'stream', 'message', 'code', 'consent', 'refused', 'no-notice', 'country', 'operator', 'operator-country', 'operator-collection', 'machine', 'fleet', 'model', 'label', 'now']

function pairsOf(args: Args, policy: Policy): Pair[] {
  const [outputName, streamName] = [args.get('output'), args.get('stream')]
  const outputs = outputName === undefined ? policy.outputs : [outputNamed(policy, outputName)]
  const stream = streamName === undefined ? undefined : streamNamed(policy, streamName)
  if (outputName !== undefined && stream !== undefined) sourceOf(outputs[0] as Output, stream)
  return outputs.flatMap((output) => output.streams.filter((source) => stream === undefined || source.stream === stream).map((source) => ({ output, source })))
}

// ---------------------------------------------------------------------------------------------------------------- matrix

function matrix(args: Args, io: Io, policy: Policy, pairs: readonly Pair[]): number {
  const streams = policy.streams.map((stream) => ({ stream, takers: pairs.filter(({ source }) => source.stream === stream) }))
  const cell = ({ output, source }: Pair, path: string, yes: boolean): string => {
    const rule = ruleAt(source, path)
    if (rule === undefined || (!yes && needsYes(policy, output))) return '-'
    const action = actionOf(yes ? rule.consent : rule.noConsent)
    return action === 'drop' ? '-' : action
  }
  if (args.get('format') === 'json') {
    printJson(io, {
      outputs: policy.outputs.map((output) => ({ id: output.id, recipient: output.recipient.id, purpose: output.purpose.id, bases: Object.fromEntries(basesByPlace(policy, output)), needsYes: needsYes(policy, output) })),
      streams: streams.map(({ stream, takers }) => ({
        id: stream.id,
        message: stream.message.name,
        fields: linesOf(stream, takers.map(({ source }) => source)).map((line) => ({
          path: line.path, class: line.text,
          outputs: Object.fromEntries(takers.map((pair) => [pair.output.id, { yes: cell(pair, line.path, true), no: cell(pair, line.path, false) }])),
        })),
      })),
    })
    return 0
  }
  const text: string[] = []
  for (const output of policy.outputs) text.push(`${output.id}: to ${output.recipient.id} for ${output.purpose.id}; ${basisSummary(policy, output)}`)
  for (const { stream, takers } of streams) {
    text.push('', `${stream.id} (${stream.message.name})`)
    if (takers.length === 0) {
      text.push('  no output takes it: nothing of it leaves')
      continue
    }
    const lines = linesOf(stream, takers.map(({ source }) => source))
    const shown = lines.filter((line) => takers.some(({ source }) => ruleAt(source, line.path) !== undefined))
    text.push(...columns([
      ['field', 'what it is', ...takers.map(({ output }) => `${output.id}${needsYes(policy, output) ? ' (only with a yes)' : ''}`)],
      ...shown.map((line) => [line.path, line.text, ...takers.map((pair) => both(cell(pair, line.path, true), cell(pair, line.path, false), needsYes(policy, pair.output)))]),
    ]))
    const rest = lines.filter((line) => !shown.includes(line))
    if (rest.length > 0) text.push(`  nowhere: ${rest.map((line) => line.path).join(', ')}`)
  }
  io.stdout.write(`${text.join('\n')}\n`)
  return 0
}

function both(yes: string, no: string, onlyWithYes: boolean): string {
  return onlyWithYes || yes === no ? yes : `${yes} (without a yes: ${no === '-' ? 'drop' : no})`
}

function basesByPlace(policy: Policy, output: Output): [string, string][] {
  if (output.basis !== undefined) return [['everywhere', output.basis.basis]]
  return [...policy.basis.entries].flatMap(([place, row]): [string, string][] => {
    const entry = row.get(output.purpose.id)
    return entry === undefined ? [] : [[place, entry.basis]]
  })
}

function basisSummary(policy: Policy, output: Output): string {
  const places = new Map<string, string[]>()
  for (const [place, basis] of basesByPlace(policy, output)) places.set(basis, [...(places.get(basis) ?? []), place])
  if (places.size === 0) return 'no legal basis anywhere: always closed'
  return [...places].map(([basis, where]) => `${basis.replaceAll('_', ' ')} in ${where.join(', ')}`).join('; ')
}

/** True when the output is closed without the operator's yes wherever it can be open at all. */
function needsYes(policy: Policy, output: Output): boolean {
  const bases = basesByPlace(policy, output)
  return bases.every(([, basis]) => basis === 'consent' || basis === 'forbidden')
}

// ----------------------------------------------------------------------------------------------------------------- plans

interface Case {
  readonly policy: Policy
  readonly keys: PseudonymKeys
  readonly assumptions: Assumptions
  readonly pairs: readonly Pair[]
}

function plans(args: Args, io: Io, { policy, keys, assumptions, pairs }: Case): number {
  const { machine, decision } = assumptions.of(createFacts())
  const standings = pairs.map((pair): Standing => {
    const country = decision.known ? decision.country : undefined
    const standing = standingOf(pair.output, outputBasis(policy.basis, pair.output, machine.country, country), decision)
    const plan = planFor(pair.output, pair.source, VARIANTS[standing.variant] as Plan['variant'])
    return { pair, gate: standing.gate, basis: standing.basis, plan, why: gateText(pair.output, standing.gate, standing.basis, decision, machine.country) }
  })
  if (args.has('code')) return code(args, io, standings, keys)
  if (args.get('format') === 'json') {
    printJson(io, standings.map((standing) => ({
      ...headJson(standing),
      fields: planLines(standing, decision).map(({ path, text, action, why }) => ({ path, class: text, action, why })),
    })))
    return 0
  }
  const text = standings.flatMap((standing) => [
    ...head(standing),
    ...columns([['field', 'what it is', 'action', 'why'], ...planLines(standing, decision).map(({ path, text: what, action, why }) => [path, what, action, why])]),
    '',
  ])
  io.stdout.write(text.length === 0 ? 'No output takes this stream: nothing of it leaves.\n' : text.join('\n'))
  return 0
}

function head({ pair: { output, source }, plan, why }: Standing): string[] {
  return [
    `${output.id} <- ${source.stream.id}: ${why}`,
    `  topic    ${output.to.topic}`,
    ...(source.when === undefined ? [] : [`  when     ${source.when.text}   (whoever receives it learns that ${source.when.reads.join(', ') || 'it'} made it true)`]),
    ...(source.require.length === 0 ? [] : [`  require  ${source.require.join(', ')}`]),
    `  plan     ${plan.id}`,
  ]
}

function headJson({ pair: { output, source }, gate, basis, plan, why }: Standing): Readonly<Record<string, unknown>> {
  return {
    output: output.id, stream: source.stream.id, gate: GATES[gate], basis: basis?.basis ?? null, why, topic: output.to.topic,
    when: source.when?.text ?? null, discloses: source.when?.reads ?? [], require: source.require, plan: plan.id,
  }
}

function code(args: Args, io: Io, standings: readonly Standing[], keys: PseudonymKeys): number {
  const made = standings.map((standing) => ({ standing, minimiser: compilePlan(standing.plan, { keys, engine: 'generated' }) }))
  if (args.get('format') === 'json') {
    printJson(io, made.map(({ standing, minimiser }) => ({ ...headJson(standing), code: minimiser.text ?? null })))
    return 0
  }
  io.stdout.write(made.map(({ standing: { pair, plan, why }, minimiser }) => [
    `// ${pair.output.id} <- ${pair.source.stream.id}: ${why}; plan ${plan.id}`,
    minimiser.text ?? '// No function is generated: this plan has parts (conditions on texts or lists, tracks, required or topic fields inside messages) that the readable engine carries out.',
    '',
  ].join('\n')).join('\n'))
  return 0
}

// --------------------------------------------------------------------------------------------------------------- message

async function message(args: Args, io: Io, { policy, loaded, keys, assumptions, pairs }: Case & { readonly loaded: LoadedRules }): Promise<number> {
  const streamName = args.get('stream')
  if (streamName === undefined) throw new UsageError('--message needs --stream: which stream is it of?')
  const stream = streamNamed(policy, streamName)
  const payload = loaded.schemas.encode(stream.message.name, parseJson(args.get('message') === '-' ? await textOf(io) : (args.get('message') ?? '')))
  const rehearsal = createRehearsal(policy, { keys })
  const { facts } = rehearsal.probe(stream.id, payload)
  const assumed = assumptions.of(facts)
  const performance = rehearsal.perform({ stream: stream.id, payload, ...assumed })
  const before = shownFields(loaded.schemas.decode(stream.message.name, payload), stream)
  const results = performance.outputs.filter((result) => pairs.some(({ output }) => output.id === result.output.id)).map((result) => {
    const pair = pairs.find(({ output, source }) => output.id === result.output.id && source.stream.id === stream.id) as Pair
    const standing: Standing = { pair, gate: result.gate, basis: result.basis, plan: result.plan, why: gateText(result.output, result.gate, result.basis, performance.decision, assumed.machine.country) }
    const after = result.sent === undefined ? {} : shownFields(loaded.schemas.decode(stream.message.name, result.sent.bytes), stream)
    return { standing, result, after, lines: changes(planLines(standing, performance.decision), before, after, result) }
  })
  if (args.get('format') === 'json') {
    printJson(io, {
      stream: stream.id, refused: performance.code < 0 ? verdictName(performance.code) : null, before,
      outputs: results.map(({ standing, result, after, lines }) => ({ ...headJson(standing), verdict: verdictOf(result), topic: result.sent?.topic ?? null, after: result.sent === undefined ? null : after, fields: lines })),
    })
    return 0
  }
  if (performance.code < 0) io.stdout.write(`refused: ${Verdict[verdictName(performance.code)].text}; nothing leaves\n`)
  for (const { standing, result, lines } of results) {
    io.stdout.write(`${[
      `${standing.pair.output.id} <- ${stream.id}: ${standing.why}`,
      result.sent === undefined ? `  nothing is sent: ${Verdict[verdictName(result.code)].text}` : `  sent on ${result.sent.topic}: ${payload.length} bytes came, ${result.sent.bytes.length} leave`,
      ...columns([['field', 'before', 'after', 'action', 'why'], ...lines.map((line) => [line.path, brief(line.before), brief(line.after), line.action, line.why])]),
      '',
    ].join('\n')}\n`)
  }
  if (results.length === 0 && performance.code >= 0) io.stdout.write('No output takes this stream: nothing of it leaves.\n')
  return 0
}

function brief(value: unknown): string {
  const text = value === null ? '-' : yaml(value)
  return text.length > 48 ? `${text.slice(0, 47)}…` : text
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    throw new UsageError('--message is no JSON. Write it in single quotes: --message \'{"machine_id": "SN-1"}\'')
  }
}

async function textOf(io: Io): Promise<string> {
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of io.stdin) {
    pieces.push(Buffer.from(piece as Uint8Array))
    bytes += pieces[pieces.length - 1]!.length
    if (bytes > LIMITS.packetBytes * 4) throw new GatewayError('INPUT-LINE', 'The message on stdin is longer than any gateway takes.')
  }
  return Buffer.concat(pieces).toString('utf8')
}
