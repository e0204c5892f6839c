/**
 * `parapet init`: a rules file to start from. Every field of a message is in it with what the schema says of it and a treatment that
 * is safe to begin with; what should not leave without a thought is there as a comment.
 */
import { existsSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { loadRules } from '../config/rules.ts'
import { suggestion } from '../config/nearest.ts'
import { formatFinding, GatewayError } from '../domain/errors.ts'
import { classificationOf, type FieldShape, type MessageShape } from '../domain/schema.ts'
import { loadSchemas, type Schemas } from '../minimise/descriptor.ts'
import { kindOf } from '../minimise/value.ts'
import type { Args, Command, Io } from './command.ts'
import { UsageError } from './command.ts'
import { OWN_PROTO } from './rules-source.ts'

const OUTPUT = 'cloud'

export const command: Command = {
  name: 'init',
  summary: 'print a commented rules file to start from',
  usage: ['[--proto FILE --message NAME] > rules.yaml'],
  options: [
    { name: 'proto', arg: 'FILE', text: 'the .proto file of the terminals; without it the schemas that come with parapet' },
    { name: 'message', arg: 'NAME', text: 'message with its package, acme.v3.Alarm; default awp.v1.Status' },
  ],
  notes: 'What is printed passes `parapet check` as it is. Lines with a # are fields that do not leave: read what the schema says of them first.',
  run(args, io) {
    const { schemas, name } = messageOf(args, io)
    io.stdout.write(starter(schemas, schemas.message(name) as MessageShape))
    return Promise.resolve(0)
  },
}

function messageOf(args: Args, io: Io): { readonly schemas: Schemas; readonly name: string } {
  const file = args.get('proto')
  const path = file === undefined ? undefined : resolve(io.cwd, file)
  if (path !== undefined && !existsSync(path)) throw new GatewayError('NO-PROTO', `There is no file ${file}.`)
  const schemas = loadSchemas([...new Set([...(path === undefined ? [] : [rootOf(path)]), OWN_PROTO])])
  const problem = schemas.problems[0]
  if (problem !== undefined) throw new GatewayError('SCHEMA-PROBLEM', problem)
  const name = args.get('message') ?? (path === undefined ? 'awp.v1.Status' : undefined)
  if (name === undefined) throw new UsageError('With --proto goes --message NAME. See: parapet init --help')
  if (schemas.message(name) === undefined) throw new UsageError(`There is no message "${name}". ${suggestion(name, schemas.messages.filter((one) => !one.startsWith('google.')))}`.trimEnd())
  return { schemas, name }
}

/** Imports are looked up from a folder called proto above the file, or from where it lies. */
function rootOf(file: string): string {
  for (let folder = dirname(file); folder !== dirname(folder); folder = dirname(folder)) if (basename(folder) === 'proto') return folder
  return dirname(file)
}

/** One line of the output's fields. */
interface Line {
  readonly path: string
  readonly text: string
  readonly note: string
  /** Does not leave as it stands. */
  readonly idle: boolean
}

interface Sketch {
  readonly message: MessageShape
  readonly stream: string
  readonly machine: FieldShape | undefined
  readonly operator: FieldShape | undefined
  readonly time: { readonly field: FieldShape; readonly unit: string } | undefined
  readonly point: { readonly lat: FieldShape; readonly lon: FieldShape; readonly unit: string } | undefined
}

function starter(schemas: Schemas, message: MessageShape): string {
  const sketch: Sketch = { message, stream: (message.name.split('.').at(-1) as string).toLowerCase(), machine: namedBy(message, 'machine'), operator: namedBy(message, 'operator'), time: timeOf(message), point: pointOf(message) }
  let lines = linesOf(sketch)
  // What the checks object to does not leave either; each round takes at least one field out.
  for (;;) {
    const text = render(sketch, lines)
    const errors = loadRules('rules.yaml', text, { schemas }).findings.filter((finding) => finding.severity === 'error')
    if (errors.length === 0) return text
    const guilty = new Set(errors.map((finding) => lines.find((line) => !line.idle && (finding.path.endsWith(`.fields.${line.path}`) || finding.path.includes(`.fields.${line.path}.`)))?.path))
    const next = lines.map((line) => (guilty.has(line.path) ? { ...line, idle: true } : line))
    if (next.every((line, at) => line.idle === lines[at]?.idle)) throw new GatewayError('INIT', `No starter can be made for ${message.name}: ${formatFinding(errors[0]!)}`)
    lines = next
  }
}

function namedBy(message: MessageShape, subject: 'machine' | 'operator'): FieldShape | undefined {
  return message.fields.find((field) => field.type === 'string' && !field.repeated && classificationOf(field).subject === subject)
}

function timeOf({ fields }: MessageShape): Sketch['time'] {
  const field = fields.find((one) => one.classified?.category === 'time' && !one.repeated && one.oneof === undefined && ['s', 'ms', 'us', 'ns'].includes(one.classified.unit) && kindOf(one) !== 'message')
  return field === undefined ? undefined : { field, unit: classificationOf(field).unit }
}

function pointOf({ fields, byName }: MessageShape): Sketch['point'] {
  const lat = fields.find((field) => field.name.startsWith('lat') && !field.repeated && field.message === undefined)
  const lon = lat === undefined ? undefined : ['lon', 'lng', 'long'].map((name) => byName.get(lat.name.replace('lat', name))).find((field) => field !== undefined)
  if (lat === undefined || lon === undefined || lon.repeated) return undefined
  const scale = lat.classified?.scale ?? 1
  const unit = { 1e-5: 'e5', 1e-6: 'e6', 1e-7: 'e7' }[scale] ?? (/e([567])$/.exec(lat.name)?.[0] ?? 'deg')
  return { lat, lon, unit }
}

function linesOf(sketch: Sketch): Line[] {
  return sketch.message.fields.flatMap((field): Line[] => {
    if (field === sketch.point?.lat) return [{ path: 'position', text: '{ consent: { grid: 1km }, no_consent: { grid: 10km } }', note: `${field.name} and ${sketch.point.lon.name}: a site with the person's yes, a town without`, idle: false }]
    if (field === sketch.point?.lon) return []
    const { text, idle } = treatment(field, sketch)
    return [{ path: field.name, text, note: noteOf(field), idle }]
  })
}

function treatment(field: FieldShape, { machine, time }: Sketch): { readonly text: string; readonly idle: boolean } {
  const { category, class: level, personal, subject, unit } = classificationOf(field)
  if (field === machine) return { text: '{ pseudonym: { rotate: 7d } }', idle: false }
  if (field === time?.field) return { text: '{ round_time: 15m }', idle: false }
  if (field.classified === undefined) return { text: '{ consent: keep, no_consent: drop }', idle: true }
  if (subject === 'operator' || subject === 'session') return { text: '{ consent: { pseudonym: { rotate: 30d } }, no_consent: drop }', idle: true }
  if (level === 'additional' || personal === 'always') return { text: '{ consent: keep, no_consent: drop }', idle: true }
  if (category === 'load' && unit === 'kg') return { text: '{ round: 50 kg }', idle: false }
  return { text: 'keep', idle: personal !== 'never' }
}

function noteOf(field: FieldShape): string {
  if (field.classified === undefined) return 'not classified, so the strictest holds: say what it is under fields:'
  const { category, class: level, personal, subject, unit, scale } = field.classified
  return [category, level, `personal ${personal}`, ...(subject === 'none' ? [] : [`names ${subject === 'operator' ? 'an' : 'a'} ${subject}`]), ...(unit === '' ? [] : [`in ${scale === 1 ? '' : `${scale} `}${unit}`])].join(', ')
}

function render({ message, stream, machine, operator, time, point }: Sketch, lines: readonly Line[]): string {
  const width = Math.max(...lines.map((line) => line.path.length + line.text.length + (line.idle ? 4 : 2)))
  const unclassified = message.fields.filter((field) => field.classified === undefined)
  const leaving = lines.some((line) => !line.idle)
  const hasMachine = lines.some((line) => line.path === machine?.name && !line.idle)
  return [
    '# yaml-language-server: $schema=./rules.schema.json',
    '#',
    `# Rules for ${message.name}. A field leaves only if an output below names it; lines with a # are fields that do not leave.`,
    '# Next: parapet check rules.yaml, parapet explain rules.yaml, parapet test rules.yaml.',
    'version: 1',
    'policy: { id: starter-1 }                   # what grants and notices refer to: a new id for every new notice',
    '',
    'streams:',
    `  ${stream}:`,
    `    topic: "up/{fleet}/{machine}/${stream}"`,
    `    message: ${message.name}`,
    machine === undefined ? '    # machine: FIELD                        # the field that names the machine, if there is one: it must be the machine that logged in' : `    machine: ${machine.name}                     # must be the machine that logged in`,
    operator === undefined ? '    # operator: FIELD                       # the field that names the operator, if there is one' : `    operator: ${operator.name}`,
    time === undefined ? '    # time: { field: FIELD, unit: ms }      # when it was measured, in s, ms, us or ns: sessions, windows and pseudonyms go by it' : `    time: { field: ${time.field.name}, unit: ${time.unit} }`,
    ...(point === undefined ? ['    # points: { position: { lat: FIELD, lon: FIELD, unit: deg } }   # or e5, e6, e7: what grid and hide_in need'] : [`    points: { position: { lat: ${point.lat.name}, lon: ${point.lon.name}, unit: ${point.unit} } }`]),
    '',
    'purposes:',
    '  service.operate: { about: "what the machine needs to be kept running", clause: "clause of your notice" }',
    '',
    'legal_basis:                                # per country: DE: { … }; default is for those that are not listed',
    '  default: { service.operate: contract }',
    '',
    'recipients:',
    '  my-cloud: { role: controller, region: EU, privacy_contact: "privacy@example.com" }',
    '',
    'outputs:',
    `  ${OUTPUT}:`,
    '    recipient: my-cloud',
    '    purpose: service.operate',
    `    to: { topic: "out/{stream}${hasMachine ? `/{${machine?.name}}` : ''}", qos: 1, via: [local], send_within: 24h }`,
    '    recipient_keeps: 30d',
    '    arrival_visible: true                   # each message leaves at once, so its arrival tells the time better than a rounded field',
    '    streams:',
    `      ${stream}:`,
    `        fields:${leaving ? '' : ' {}                          # without the {} as soon as a line below is without its #'}`,
    ...lines.map(({ path, text, note, idle }) => `          ${idle ? '# ' : ''}${`${path}: ${text}`.padEnd(width - (idle ? 2 : 0))}  # ${note}`),
    '',
    ...(unclassified.length === 0 ? [] : [
      'fields: {}                                  # what fields are that the schema does not classify, without the {} as soon as there is an entry; below the strictest, which holds without one',
      ...unclassified.map((field) => `  # "${message.name}.${field.name}": { category: other, class: additional, personal: always }`),
      '',
    ]),
    'tests:',
    '  - name: an empty message gives nothing',
    `    given: { stream: ${stream}, country: FR, operator: none, message: {} }`,
    `    expect: { ${OUTPUT}: nothing }`,
    '  - name: nor does it with a yes',
    `    given: { stream: ${stream}, country: FR, operator: P7, consent: { service.operate: granted }, message: {} }`,
    `    expect: { ${OUTPUT}: nothing }`,
    '',
  ].join('\n')
}
