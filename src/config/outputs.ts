/**
 * `recipients:` and `outputs:` of the rules file -> Recipient[] and Output[].
 */
import type { Pieces } from '../domain/pieces.ts'
import type { OutputId, RecipientId } from '../domain/ids.ts'
import type { Emit, FieldRule, Output, OutputStream, Purpose, Recipient, Stream, Zone } from '../domain/policy.ts'
import { parseCondition } from '../minimise/condition.ts'
import { parseDuration } from '../minimise/quantity.ts'
import { kindOf } from '../minimise/value.ts'
import { hasTarget, readFieldRules } from './field-rules.ts'
import type { Findings, Where } from './findings.ts'
import { readBasis } from './legal-basis.ts'
import { suggestion } from './nearest.ts'
import { placeHint, readPlace } from './places.ts'
import type { Named, OutputStreamText, OutputText, RecipientText, RulesFile } from './rules-file.ts'
import { fieldAt, readCondition } from './streams.ts'
import type { Path } from './yaml.ts'

export interface OutputsInput {
  readonly rules: RulesFile
  readonly streams: ReadonlyMap<string, Stream>
  readonly purposes: readonly Purpose[]
  /** Groups of the legal basis table: transfers and regions may name them. */
  readonly groups: ReadonlySet<string>
  readonly zones: ReadonlyMap<string, Zone>
}

export interface Outputs {
  readonly recipients: readonly Recipient[]
  readonly outputs: readonly Output[]
}

/** @param origin receives where each output, output stream and field rule stands */
export function* readOutputs(input: OutputsInput, findings: Findings, origin: Map<object, Where>): Pieces<Outputs> {
  const { rules } = input
  const recipients = new Map<string, Recipient>()
  for (const [id, text] of Object.entries(rules.recipients ?? {})) recipients.set(id, readRecipient(id, text, ['recipients', id], input.groups, findings))
  const outputs: Output[] = []
  for (const [id, text] of Object.entries(rules.outputs)) {
    const recipient = recipientOf(id, text, recipients, input, findings)
    const purpose = input.purposes.find((one) => one.id === text.purpose)
    if (purpose === undefined) findings.add('UNKNOWN-PURPOSE', { path: ['outputs', id, 'purpose'] }, `There is no purpose "${text.purpose}".`, suggestion(text.purpose, input.purposes.map((one) => one.id)))
    const streams = readOutputStreams(id, text, input, findings, origin)
    yield
    if (recipient === undefined || purpose === undefined) continue
    const output: Output = {
      id: id as OutputId,
      index: outputs.length,
      recipient,
      purpose,
      basis: text.basis === undefined ? undefined : readBasis(text.basis),
      to: {
        topic: text.to.topic,
        qos: text.to.qos ?? 1,
        via: text.to.via ?? ['local'],
        sendWithinMs: parseDuration(text.to.send_within),
        retain: text.to.retain ?? false,
        share: text.to.share === undefined ? undefined : Number.parseFloat(text.to.share) / 100,
        atQuota: text.to.at_quota,
      },
      reach: text.reach ?? 'any',
      recipientKeepsMs: parseDuration(text.recipient_keeps),
      arrivalVisible: text.arrival_visible ?? false,
      despiteDeviceSetting: text.despite_device_setting,
      streams,
    }
    origin.set(output, { path: ['outputs', id], of: 'key' })
    outputs.push(output)
  }
  return { recipients: [...recipients.values()], outputs }
}

function readRecipient(id: string, text: RecipientText, where: Path, groups: ReadonlySet<string>, findings: Findings): Recipient {
  const transfers = new Map<string, string>()
  for (const [key, tool] of Object.entries(text.transfers ?? {})) {
    const place = readPlace(key) ?? (key === 'EEA' || groups.has(key) ? key : undefined)
    if (place === undefined) findings.add('UNKNOWN-PLACE', { path: [...where, 'transfers', key], of: 'key' }, `"${key}" is no ISO 3166 code and no group of this file.`, placeHint(key))
    else transfers.set(place, tool)
  }
  const region = text.region === 'EU' || text.region === 'EEA' || groups.has(text.region) ? text.region : readPlace(text.region)
  if (region === undefined) findings.add('UNKNOWN-PLACE', { path: [...where, 'region'] }, `"${text.region}" is no ISO 3166 code, not EU and not EEA.`, placeHint(text.region))
  return {
    id: id as RecipientId,
    role: text.role,
    group: text.group,
    region: region ?? text.region,
    onSite: text.on_site ?? false,
    transfers,
    privacyContact: text.privacy_contact,
  }
}

function recipientOf(output: string, text: OutputText, recipients: Map<string, Recipient>, input: OutputsInput, findings: Findings): Recipient | undefined {
  const where: Path = ['outputs', output, 'recipient']
  if (typeof text.recipient === 'string') {
    const known = recipients.get(text.recipient)
    if (known === undefined) findings.add('UNKNOWN-RECIPIENT', { path: where }, `There is no recipient "${text.recipient}".`, recipients.size === 0 ? 'Describe it under `recipients:`, or write a map with id, role and region here.' : suggestion(text.recipient, recipients.keys()))
    return known
  }
  const id = text.recipient.id as string
  const made = readRecipient(id, text.recipient, where, input.groups, findings)
  const known = recipients.get(id)
  if (known === undefined) {
    recipients.set(id, made)
    return made
  }
  if (!sameRecipient(known, made)) findings.add('DUPLICATE', { path: [...where, 'id'] }, `The recipient "${id}" is described twice, and differently.`, 'Describe it once under `recipients:` and name it here.')
  return known
}

function sameRecipient(a: Recipient, b: Recipient): boolean {
  const text = (one: Recipient): string => JSON.stringify({ ...one, transfers: [...one.transfers].sort() })
  return text(a) === text(b)
}

function readOutputStreams(output: string, text: OutputText, input: OutputsInput, findings: Findings, origin: Map<object, Where>): OutputStream[] {
  const wide = text.fields ?? {}
  const made: OutputStream[] = []
  const present: Stream[] = []
  let complete = true
  for (const [id, own] of Object.entries(text.streams)) {
    const where: Path = ['outputs', output, 'streams', id]
    const stream = input.streams.get(id)
    if (stream === undefined) {
      complete = false
      // A stream whose message is missing has its own finding.
      if (!(id in input.rules.streams)) findings.add('UNKNOWN-STREAM', { path: where, of: 'key' }, `There is no stream "${id}".`, suggestion(id, Object.keys(input.rules.streams)))
      continue
    }
    present.push(stream)
    const one = readOutputStream(output, stream, wide, own, input, findings, origin)
    origin.set(one, { path: where, of: 'key' })
    made.push(one)
  }
  for (const name of complete ? Object.keys(wide) : []) {
    if (present.some((stream) => hasTarget(name, stream))) continue
    const names = present.flatMap((stream) => [...stream.points.map((point) => point.name), ...stream.message.byName.keys()])
    findings.add('UNKNOWN-FIELD', { path: ['outputs', output, 'fields', name], of: 'key' }, `No stream of the output has a field or point "${name}".`, suggestion(name, new Set(names)))
  }
  return made
}

function readOutputStream(output: string, stream: Stream, wide: Named<NonNullable<OutputText['fields']>[string]>, own: OutputStreamText, input: OutputsInput, findings: Findings, origin: Map<object, Where>): OutputStream {
  const where: Path = ['outputs', output, 'streams', stream.id]
  const before = findings.errors
  const fields = readFieldRules({ output, stream, wide, own, zones: input.zones }, findings, origin)
  const env: Parameters<typeof parseCondition>[1] = { msg: stream.message, points: stream.points, machine: true, country: true }
  const made: OutputStream = {
    stream,
    when: own.when === undefined ? undefined : readCondition(own.when, env, [...where, 'when'], findings),
    require: own.require ?? [],
    emit: own.emit === undefined ? undefined : readEmit(own.emit, stream, [...where, 'emit'], findings),
    fields,
  }
  // A field whose rule was refused above must not be reported a second time as missing.
  if (findings.errors === before) {
    checkRequire(made, where, findings)
    checkEmit(made, where, findings)
  }
  return made
}

function checkRequire(made: OutputStream, where: Path, findings: Findings): void {
  for (const [index, name] of made.require.entries()) {
    const rule = made.fields.find((one) => one.path === name)
    if (rule !== undefined && !neverLeaves(rule)) continue
    findings.add('REQUIRE-MISSING', { path: [...where, 'require', index] }, `The output requires "${name}", which ${rule === undefined ? 'it does not name' : 'it always drops'}, so nothing would ever be sent.`,
      rule === undefined ? suggestion(name, made.fields.map((one) => one.path)) : undefined)
  }
}

/** Down-sampling reads what the output is sent: a field that it is not sent cannot decide (G2). */
function checkEmit({ emit, fields }: OutputStream, where: Path, findings: Findings): void {
  const leaves = (name: string): boolean => fields.some((rule) => (rule.path === name || name.startsWith(`${rule.path}.`) || rule.path.startsWith(`${name}.`)) && !neverLeaves(rule))
  const names = [...(typeof emit?.take === 'object' ? [[emit.take.max, ['take', 'max']] as const] : []), ...(emit?.onChange ?? []).map((name, index) => [name, ['on_change', index]] as const)]
  for (const [name, at] of names) {
    if (!leaves(name)) findings.add('EMIT', { path: [...where, 'emit', ...at] }, `"${name}" does not leave in this output, so it cannot decide what is sent.`, 'Name a field that the output sends.')
  }
}

function neverLeaves(rule: FieldRule): boolean {
  return [rule.consent, rule.noConsent].every((branch) => branch.kind === 'chain' && branch.chain.some((one) => one.name === 'drop'))
}

function readEmit(text: NonNullable<OutputStreamText['emit']>, stream: Stream, where: Path, findings: Findings): Emit {
  if (text.every === undefined && text.on_change === undefined) findings.add('EMIT', { path: where, of: 'key' }, '`emit` says neither how often nor on what change.', 'Add `every: 15m` or `on_change: [FIELD]`.')
  if (text.hold === true && text.every === undefined) findings.add('EMIT', { path: [...where, 'hold'] }, '`hold` needs a window at whose end the message is sent.', 'Add `every: 15m`.')
  const max = typeof text.take === 'object' ? text.take.max : undefined
  if (max !== undefined) {
    const fields = fieldAt(max, stream.message, [...where, 'take', 'max'], findings)
    const leaf = fields?.at(-1)
    if (leaf !== undefined && (leaf.repeated || !['integer', 'big', 'float'].includes(kindOf(leaf)))) findings.add('EMIT', { path: [...where, 'take', 'max'] }, `"${max}" is no single number, so it has no largest value.`, 'Name a number field.')
  }
  for (const [index, name] of (text.on_change ?? []).entries()) {
    if (!hasTarget(name, stream)) fieldAt(name, stream.message, [...where, 'on_change', index], findings)
  }
  return {
    everyMs: parseDuration(text.every),
    take: typeof text.take === 'object' ? { max: text.take.max } : (text.take ?? 'last'),
    onChange: text.on_change ?? [],
    hold: text.hold ?? false,
  }
}
