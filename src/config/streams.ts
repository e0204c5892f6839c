/**
 * `streams:` and `subject:` of the rules file -> Stream[] and SubjectRules. Names are resolved against the schemas here.
 */
import type { StreamId } from '../domain/ids.ts'
import type { ChoiceRule, Condition, Point, SessionRule, Stream, SubjectRules, TimeRef } from '../domain/policy.ts'
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { parseCondition } from '../minimise/condition.ts'
import type { Schemas } from '../minimise/descriptor.ts'
import { parseDuration } from '../minimise/quantity.ts'
import { pathOf } from '../minimise/tree.ts'
import { kindOf } from '../minimise/value.ts'
import type { Findings } from './findings.ts'
import { nearest, suggestion } from './nearest.ts'
import type { ChoiceText, PointText, RulesFile, StreamText } from './rules-file.ts'
import { topicProblem, topicShape } from './topics.ts'
import type { Path } from './yaml.ts'

/** Streams whose message exists; everything else wrong is a finding and left out of the stream. */
export function readStreams(rules: RulesFile, schemas: Schemas, findings: Findings): Stream[] {
  const streams: Stream[] = []
  for (const [id, text] of Object.entries(rules.streams)) {
    const message = messageOf(text.message, ['streams', id, 'message'], schemas, findings)
    if (message === undefined) continue
    streams.push(readStream(id as StreamId, streams.length, text, message, findings))
  }
  checkTopics(streams, findings)
  return streams
}

export function readSubject(rules: RulesFile, streams: readonly Stream[], findings: Findings): SubjectRules {
  const text = rules.subject ?? {}
  return {
    sessions: readSessions(rules, streams, findings),
    ...(text.consent === undefined ? {} : { consent: readChoices(text.consent, rules, streams, findings) }),
    sessionMaxMs: parseDuration(text.session_max) ?? 12 * 3_600_000,
    quarantineMs: parseDuration(text.handover_quarantine) ?? 120_000,
    lateLimitMs: parseDuration(text.late_limit) ?? 7 * 86_400_000,
  }
}

/** Dotted paths of all fields, for suggestions: two levels are as many as people mistype. */
export function fieldNames(message: MessageShape): string[] {
  const names: string[] = []
  for (const field of message.fields) {
    names.push(field.name)
    for (const inner of field.message?.fields ?? []) if (!field.map) names.push(`${field.name}.${inner.name}`)
    if (names.length > 500) break
  }
  return names
}

/** Reads a condition; the problem becomes a finding at the character where it is. */
export function readCondition(text: string, env: Parameters<typeof parseCondition>[1], path: Path, findings: Findings): Condition | undefined {
  const read = parseCondition(text, env)
  if ('condition' in read) return read.condition
  findings.add('CONDITION', { path, at: read.at ?? 0 }, `The condition ${read.problem}.`, meantIn(read.problem, env))
  return undefined
}

/** The field or member that was meant, where the problem is a name. */
function meantIn(problem: string, env: Parameters<typeof parseCondition>[1]): string | undefined {
  const [, field] = /^reads msg\.(\S+), which/.exec(problem) ?? []
  if (field !== undefined) return suggestion(field, fieldNames(env.msg))
  // The members stand in the problem itself, so far ones need not be listed again.
  const [, member, members] = /^names "([^"]+)", which is no member of \S+: ([^:]+)$/.exec(problem) ?? []
  const near = member === undefined ? undefined : nearest(member, (members as string).split(', '))
  return near === undefined ? undefined : `Did you mean "${near}"?`
}

function messageOf(name: string, path: Path, schemas: Schemas, findings: Findings): MessageShape | undefined {
  try {
    const message = schemas.message(name)
    if (message !== undefined) return message
  } catch (error) {
    findings.add('SCHEMA-PROBLEM', { path }, `The message ${name} cannot be used: ${(error as Error).message}`)
    return undefined
  }
  const known = schemas.messages.filter((one) => !one.startsWith('google.protobuf.'))
  findings.add('UNKNOWN-MESSAGE', { path }, `There is no message "${name}" in the .proto files.`, known.length === 0 ? 'No .proto file was found; name their folder with `proto:` in the gateway file or --proto.' : suggestion(name, known))
  return undefined
}

function readStream(id: StreamId, index: number, text: StreamText, message: MessageShape, findings: Findings): Stream {
  const path: Path = ['streams', id]
  const problem = topicProblem(text.topic)
  if (problem !== undefined) findings.add('STREAM-TOPIC', { path: [...path, 'topic'] }, `The topic pattern ${problem.sentence}`, problem.mend)
  const points = Object.entries(text.points ?? {}).map(([name, point]) => readPoint(name, point, message, [...path, 'points', name], findings))
  checkPoints(points, message, path, findings)
  return {
    id,
    index,
    topic: text.topic,
    message,
    case: text.case === undefined ? undefined : readCase(text.case, message, [...path, 'case'], findings),
    machineField: text.machine === undefined ? undefined : nameField(text.machine, message, [...path, 'machine'], findings),
    operatorField: text.operator === undefined ? undefined : nameField(text.operator, message, [...path, 'operator'], findings),
    time: text.time === undefined ? undefined : readTime(text.time, message, [...path, 'time'], findings),
    points,
  }
}

/** A field by its path, or a finding with the nearest name. */
export function fieldAt(path: string, message: MessageShape, where: Path, findings: Findings): FieldShape[] | undefined {
  const fields = pathOf(message, path)
  if (fields === undefined) findings.add('UNKNOWN-FIELD', { path: where }, `The message ${message.name} has no field "${path}".`, suggestion(path, fieldNames(message)))
  return fields
}

function singular(fields: readonly FieldShape[]): boolean {
  return fields.every((field) => !field.repeated && field.type !== 'group')
}

/** Field with the name of somebody or something: text, bytes or a whole number, one per message. */
function nameField(text: string, message: MessageShape, where: Path, findings: Findings): string | undefined {
  const fields = fieldAt(text, message, where, findings)
  if (fields === undefined) return undefined
  const kind = kindOf(fields[fields.length - 1] as FieldShape)
  if (!singular(fields) || !['string', 'integer', 'big', 'bytes'].includes(kind)) {
    findings.add('STREAM-FIELD', { path: where }, `"${text}" cannot name anybody: it must be one text or whole number per message.`)
    return undefined
  }
  return text
}

function readTime(text: NonNullable<StreamText['time']>, message: MessageShape, where: Path, findings: Findings): TimeRef | undefined {
  const path = [...where, 'field']
  const fields = fieldAt(text.field, message, path, findings)
  if (fields === undefined) return undefined
  const leaf = fields[fields.length - 1] as FieldShape
  if (leaf.message?.name === 'google.protobuf.Timestamp' && singular(fields)) {
    if (text.unit !== undefined) findings.add('STREAM-FIELD', { path: [...where, 'unit'] }, `"${text.field}" is a google.protobuf.Timestamp, which needs no unit.`, 'Remove `unit`.')
    return { field: text.field, unit: 'timestamp' }
  }
  if (!singular(fields) || !['integer', 'big', 'float'].includes(kindOf(leaf))) {
    findings.add('STREAM-FIELD', { path }, `"${text.field}" cannot be the time: it must be one number or google.protobuf.Timestamp per message.`)
    return undefined
  }
  if (text.unit === undefined) {
    findings.add('STREAM-FIELD', { path: where, of: 'key' }, `The time field "${text.field}" is a number without a unit.`, 'Add `unit: ms` (or s, us, ns).')
    return undefined
  }
  return { field: text.field, unit: text.unit }
}

/**
 * The member's field path. A oneof's own name may stand in the text (`body.alarm`); it is no field and drops out.
 */
function readCase(text: string, message: MessageShape, where: Path, findings: Findings): string | undefined {
  const names: string[] = []
  let here: MessageShape | undefined = message
  let last: FieldShape | undefined
  let group: string | undefined
  for (const part of text.split('.')) {
    const field: FieldShape | undefined = here?.byName.get(part)
    if (field === undefined || (group !== undefined && field.oneof !== group)) {
      if (here !== undefined && group === undefined && here.fields.some((one) => one.oneof === part)) {
        group = part
        continue
      }
      findings.add('UNKNOWN-FIELD', { path: where }, `The message ${message.name} has no oneof member "${text}".`, suggestion(text, memberNames(message)))
      return undefined
    }
    group = undefined
    names.push(part)
    last = field
    here = field.repeated ? undefined : field.message
  }
  if (last?.oneof === undefined || group !== undefined) {
    const members = memberNames(message)
    findings.add('STREAM-CASE', { path: where }, `"${text}" is no member of a oneof.`, members.length === 0 ? `The message ${message.name} has no oneof; remove \`case\`.` : suggestion(text, members))
    return undefined
  }
  return names.join('.')
}

function memberNames(message: MessageShape): string[] {
  const names: string[] = []
  for (const field of message.fields) {
    if (field.oneof !== undefined) names.push(field.name)
    if (!field.repeated) for (const inner of field.message?.fields ?? []) if (inner.oneof !== undefined) names.push(`${field.name}.${inner.name}`)
  }
  return names
}

const SCALES = { deg: 1, e5: 1e-5, e6: 1e-6, e7: 1e-7 } as const

/** The point, whether its parts are right or not: a wrong one is reported here, and not again where outputs name it. */
function readPoint(name: string, text: PointText, message: MessageShape, where: Path, findings: Findings): Point {
  const delta = text.kind === 'delta'
  let unitChecked = false
  const scale = typeof text.unit === 'string' ? SCALES[text.unit] : text.unit.scale
  for (const key of ['lat', 'lon', 'dlat', 'dlon', 'dt'] as const) {
    const part = text[key]
    if (part === undefined) continue
    const fields = fieldAt(part, message, [...where, key], findings)
    if (fields === undefined) continue
    const leaf = fields[fields.length - 1] as FieldShape
    const steps = key.startsWith('d')
    const kind = kindOf(leaf)
    if (!singular(fields.slice(0, -1)) || leaf.repeated !== steps || leaf.map || !['integer', 'big', 'float'].includes(kind)) {
      findings.add('POINT', { path: [...where, key] }, `"${part}" cannot be ${steps ? 'the steps' : 'a coordinate'} of "${name}": it must be ${steps ? 'a repeated number' : 'one number per message'}.`)
    } else if (key === 'dt' || unitChecked) {
      continue
    } else if (scale !== 1 && kind === 'float') {
      unitChecked = true
      findings.add('POINT', { path: [...where, 'unit'] }, `"${part}" is a floating point number, so its unit is degrees.`, 'Write `unit: deg`.')
    } else if (scale === 1 && kind !== 'float') {
      unitChecked = true
      findings.add('POINT', { path: [...where, 'unit'] }, `"${part}" holds whole numbers, which as degrees would be 111 km apart.`, 'Write `unit: e7` (or e6, e5, { scale: … }).')
    }
  }
  const valid = text.valid === undefined ? undefined : readCondition(text.valid, { msg: message, points: [], machine: false, country: false }, [...where, 'valid'], findings)
  return { name, kind: delta ? 'delta' : 'plain', lat: text.lat, lon: text.lon, dlat: text.dlat, dlon: text.dlon, dt: text.dt, scale, valid }
}

/** Field paths a point is made of. */
export function partsOf(point: Point): string[] {
  return [point.lat, point.lon, point.dlat, point.dlon, point.dt].filter((part) => part !== undefined)
}

function checkPoints(points: readonly Point[], message: MessageShape, path: Path, findings: Findings): void {
  const owners = new Map<string, string>()
  for (const point of points) {
    const where = [...path, 'points', point.name]
    if (message.byName.has(point.name)) findings.add('POINT', { path: where, of: 'key' }, `"${point.name}" is also a field of ${message.name}.`, 'Give the point another name.')
    for (const part of partsOf(point)) {
      const owner = owners.get(part)
      if (owner !== undefined) findings.add('POINT', { path: where, of: 'key' }, `"${part}" is already a part of ${owner === point.name ? 'this point' : `the point "${owner}"`}.`, 'A field can be one part of one point.')
      owners.set(part, point.name)
    }
  }
}

/** Streams may share a topic if they read the same message and differ in `case`. */
function checkTopics(streams: readonly Stream[], findings: Findings): void {
  const shapes = new Map<string, Stream[]>()
  for (const stream of streams) {
    const shape = topicShape(stream.topic, stream.id)
    shapes.set(shape, [...(shapes.get(shape) ?? []), stream])
  }
  for (const shared of shapes.values()) {
    const first = shared[0] as Stream
    const cases = new Map<string, Stream>()
    for (const stream of shared) {
      const where: Path = ['streams', stream.id]
      if (shared.length > 1 && stream.case === undefined && findings.yaml.has([...where, 'case'])) continue
      if (shared.length > 1 && stream.case === undefined) {
        // Of two that say nothing, the second is the one that was added.
        if (stream === first && shared.some((one) => one !== first && one.case === undefined)) continue
        const other = shared.find((one) => one !== stream) as Stream
        findings.add('STREAM-SHARED', { path: [...where, 'topic'] }, `The streams "${other.id}" and "${stream.id}" have the same topic, and "${stream.id}" has no \`case\`.`)
      } else if (stream.message !== first.message) {
        findings.add('STREAM-SHARED', { path: [...where, 'message'] }, `The streams "${first.id}" and "${stream.id}" have the same topic but different messages.`, 'Give them different topics, or one message with a oneof.')
      } else if (stream.case !== undefined && cases.has(stream.case)) {
        findings.add('STREAM-SHARED', { path: [...where, 'case'] }, `The streams "${cases.get(stream.case)?.id}" and "${stream.id}" have the same topic and the same \`case\`.`, 'Remove one of them.')
      } else if (levels(stream.topic) !== levels(first.topic)) {
        findings.add('STREAM-SHARED', { path: [...where, 'topic'] }, `The streams "${first.id}" and "${stream.id}" match the same topics but name machine or fleet at different levels.`, 'Use the same placeholders in both.')
      }
      if (stream.case !== undefined && !cases.has(stream.case)) cases.set(stream.case, stream)
    }
  }
}

/** Where machine and fleet stand. */
function levels(topic: string): string {
  const parts = topic.split('/')
  return `${parts.indexOf('{machine}')} ${parts.indexOf('{fleet}')}`
}

function readSessions(rules: RulesFile, streams: readonly Stream[], findings: Findings): SessionRule | undefined {
  const text = rules.subject?.sessions
  if (text === undefined) return undefined
  const where: Path = ['subject', 'sessions']
  const stream = streams.find((one) => one.id === text.stream)
  if (stream === undefined) {
    if (!(text.stream in rules.streams)) findings.add('UNKNOWN-STREAM', { path: [...where, 'stream'] }, `There is no stream "${text.stream}".`, suggestion(text.stream, Object.keys(rules.streams)))
    return undefined
  }
  const env = { msg: stream.message, points: stream.points, machine: false, country: false }
  const signOn = readCondition(text.sign_on, env, [...where, 'sign_on'], findings)
  const signOff = text.sign_off === undefined ? undefined : readCondition(text.sign_off, env, [...where, 'sign_off'], findings)
  const operatorField = nameField(text.operator, stream.message, [...where, 'operator'], findings)
  return signOn === undefined || operatorField === undefined ? undefined : { stream: stream.id, signOn, signOff, operatorField }
}

/** Without sessions nobody is signed on, so nobody could choose anything. */
function readChoices(text: ChoiceText, rules: RulesFile, streams: readonly Stream[], findings: Findings): ChoiceRule | undefined {
  const where: Path = ['subject', 'consent']
  if (rules.subject?.sessions === undefined) {
    findings.add('STREAM-FIELD', { path: where, of: 'key' }, 'A choice counts only for who is signed on, and without `sessions` nobody is.', 'Add `sessions:` beside it.')
  }
  const stream = streams.find((one) => one.id === text.stream)
  if (stream === undefined) {
    if (!(text.stream in rules.streams)) findings.add('UNKNOWN-STREAM', { path: [...where, 'stream'] }, `There is no stream "${text.stream}".`, suggestion(text.stream, Object.keys(rules.streams)))
    return undefined
  }
  if (stream.time === undefined) findings.add('STREAM-FIELD', { path: [...where, 'stream'] }, `The stream "${stream.id}" has no time, and a choice counts for who was signed on when it was made.`, 'Add `time:` to the stream.')
  const { message } = stream
  const optional = (key: 'operator' | 'policy' | 'language' | 'supersedes' | 'evidence'): string | undefined => {
    const field = text[key]
    return field === undefined ? undefined : nameField(field, message, [...where, key], findings)
  }
  const purposeField = nameField(text.purpose, message, [...where, 'purpose'], findings)
  const fields = fieldAt(text.choice, message, [...where, 'choice'], findings)
  const leaf = fields?.at(-1)
  if (leaf !== undefined && (!singular(fields!) || !['enum', 'string'].includes(kindOf(leaf)))) {
    findings.add('STREAM-FIELD', { path: [...where, 'choice'] }, `"${text.choice}" cannot be the choice: it must be one enum or text per message.`)
  }
  for (const member of Object.keys(text.means)) {
    if (leaf?.enum === undefined || leaf.enum.values.has(member)) continue
    findings.add('STREAM-FIELD', { path: [...where, 'means', member], of: 'key' }, `The enum ${leaf.enum.name} has no member "${member}".`, suggestion(member, [...leaf.enum.values.keys()]))
  }
  if (purposeField === undefined || leaf === undefined) return undefined
  return {
    stream: stream.id, operatorField: optional('operator'), purposeField, choiceField: text.choice, means: new Map(Object.entries(text.means)),
    policyField: optional('policy'), languageField: optional('language'), supersedesField: optional('supersedes'), evidenceField: optional('evidence'),
  }
}
