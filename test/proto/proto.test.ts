/**
 * The schemas in proto/ keep their promises: every field says what it means for people, every message starts with the same header,
 * and config/README.md says the same as the .proto files. protobufjs reads the files here, without any code of ours in between.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import { describe, expect, it } from 'vitest'
import { CATEGORIES } from '../../src/domain/schema.ts'

const PROTO = join(import.meta.dirname, '../../proto')
const PRIVACY = readFileSync(join(PROTO, 'parapet/v1/privacy.proto'), 'utf8')
const AWP = readdirSync(join(PROTO, 'awp/v1')).sort().map((file) => readFileSync(join(PROTO, 'awp/v1', file), 'utf8'))
const DESCRIPTOR = readFileSync(join(import.meta.dirname, '../../node_modules/protobufjs/google/protobuf/descriptor.proto'), 'utf8')
const README = readFileSync(join(import.meta.dirname, '../../config/README.md'), 'utf8')

/** What one row of the classification says; the option as protobufjs hands it over. */
interface Privacy {
  readonly category?: string
  readonly class?: string
  readonly personal?: string
  readonly subject?: string
  readonly unit?: string
  readonly scale?: number
}

/** number, name, type, category, class, personal, subject */
const HEADER = [
  '1 string machine_id machine_identity BASIC LINKABLE MACHINE',
  '2 uint64 time_ms time BASIC LINKABLE NONE',
  '3 uint32 seq sequence BASIC LINKABLE NONE',
  '4 uint32 boot sequence BASIC LINKABLE NONE',
  '5 bool historical time BASIC NEVER NONE',
  '6 string operator_id identity ADDITIONAL ALWAYS OPERATOR',
  '7 uint64 session_ref session ADDITIONAL ALWAYS SESSION',
]

/** How a name's ending, its unit and its scale belong together. Longer endings first. */
const ENDINGS: readonly (readonly [ending: string, unit: string, scale: number | undefined])[] = [
  ['_e7', 'deg', 1e-7], ['_cdeg', 'deg', 0.01], ['_pct_x10', '%', 0.1], ['_pct', '%', undefined],
  ['_mm_s', 'm/s', 0.001], ['_cm_s', 'm/s', 0.01], ['_mm', 'm', 0.001], ['_cm', 'm', 0.01], ['_dm', 'm', 0.1],
  ['_mv', 'V', 0.001], ['_ma', 'A', 0.001], ['_da', 'A', 0.1], ['_dc', 'degC', 0.1], ['_wh', 'Wh', undefined],
  ['_kg', 'kg', undefined], ['_mg', 'gn', 0.001], ['_kb', 'kB', undefined], ['_dbm', 'dBm', undefined],
  ['_ms', 'ms', undefined], ['_us', 'us', undefined], ['_s', 's', undefined], ['_day', 'd', undefined],
]

const STREAM_MESSAGES = [
  'Status', 'Position', 'PositionBatch', 'SignalBatch', 'CanBatch', 'OperatorEvent', 'SessionSummary', 'Fault', 'SafetyEvent', 'PreUseCheck',
  'ChargeRecord', 'CommsLog', 'DiagLog', 'DeviceInfo', 'ConsentChoice', 'Media',
]
const PART_MESSAGES = ['Signal', 'CanFrame']

/** `//   13  battery           charge, ...` in privacy.proto. */
const LISTED = [...PRIVACY.matchAll(/^\/\/ {2,}(\d+) {2}([a-z_]+) {2,}\S/gm)].map((row) => [Number(row[1]), String(row[2])] as const)

const awp = messagesOf(AWP)

describe('categories', () => {
  it('are numbered without a gap, at most 29 beside `unclassified`', () => {
    expect(LISTED.map(([bit]) => bit)).toEqual(LISTED.map((_, index) => index + 1))
    expect(LISTED.length).toBeGreaterThan(20)
    expect(LISTED.length).toBeLessThan(30)
  })

  it('are the same in the schema and in the code', () => {
    expect(['unclassified', ...LISTED.map(([, name]) => name)]).toEqual([...CATEGORIES])
  })
})

describe('messages', () => {
  it('are the set that the rules are written for', () => {
    expect([...awp.keys()].sort()).toEqual([...STREAM_MESSAGES, ...PART_MESSAGES].sort())
  })

  it('have every field classified', () => {
    expect(problemsOf(awp)).toEqual([])
  })

  it.each(STREAM_MESSAGES)('%s starts with the common header', (name) => {
    const fields = fieldsOf(awp.get(name))
    expect(fields.slice(0, HEADER.length).map((field) => {
      const privacy = privacyOf(field)
      return [field.id, field.type, field.name, privacy?.category, privacy?.class, privacy?.personal, privacy?.subject ?? 'NONE'].join(' ')
    })).toEqual(HEADER)
    expect(fields.slice(HEADER.length).every((field) => field.id >= 8 && !HEADER.some((line) => line.split(' ')[2] === field.name))).toBe(true)
  })

  it('name the unit in the field and say the same in the option', () => {
    const wrong: string[] = []
    for (const [message, type] of awp) {
      for (const field of fieldsOf(type)) {
        const found = ENDINGS.find(([ending]) => field.name.endsWith(ending))
        const { unit, scale } = privacyOf(field) ?? {}
        if (unit !== found?.[1] || scale !== found?.[2]) wrong.push(`${message}.${field.name}: ${String(unit)} ${String(scale)}`)
      }
    }
    expect(wrong).toEqual([])
  })

  it('resolve together with the descriptor that the option extends, as proto3', () => {
    const root = new protobuf.Root()
    for (const text of [DESCRIPTOR, PRIVACY, ...AWP]) protobuf.parse(text, root, { keepCase: true })
    root.resolveAll()
    expect(root.lookupType('google.protobuf.FieldOptions').fieldsById[50917]?.resolvedType?.fullName).toBe('.parapet.v1.FieldPrivacy')
    expect(root.lookupType('awp.v1.PositionBatch').fields.dt_ms?.packed).toBe(true)
    expect(root.lookupType('awp.v1.Status').fields.lat_e7?.hasPresence).toBe(false)
  })

  it('use each enum member name once in the package', () => {
    const names = enumsOf(AWP).flatMap((one) => Object.keys(one.values))
    expect(names.length).toBeGreaterThan(40)
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([])
  })

  it('hold the names that rules are written with', () => {
    for (const path of [
      'Status.lat_e7', 'Status.lon_e7', 'Status.fix', 'Status.key_on', 'Status.soc_pct_x10', 'PositionBatch.lat0_e7', 'PositionBatch.lon0_e7',
      'PositionBatch.dlat_e7', 'PositionBatch.dlon_e7', 'PositionBatch.dt_ms', 'SignalBatch.s', 'Signal.id', 'Signal.v', 'Signal.dt_ms',
      'CanBatch.f', 'CanFrame.id', 'CanFrame.data', 'CanFrame.dt_us', 'OperatorEvent.op', 'OperatorEvent.card_uid',
    ]) {
      const [message, field] = path.split('.') as [string, string]
      expect(awp.get(message)?.fields[field], path).toBeDefined()
    }
  })

  it('carry a scissor status in 25 fields and some 200 bytes', () => {
    const status = {
      machine_id: 'SN-1001', time_ms: 1763888864000, seq: 4711, boot: 12, historical: true, operator_id: 'A-1001-7f3c-4d11-9a60', session_ref: 9007199254740991,
      lat_e7: 457640430, lon_e7: 48356590, fix: 3, key_on: true, mode: 2, soc_pct_x10: 833, platform_height_mm: 9300, drive_speed_mm_s: -420, pack_mv: 48900,
      pack_current_da: -1250, pack_temp_dc: 215, platform_load_kg: 137, pitch_cdeg: -40, roll_cdeg: 25, flags: 33, hour_meter_s: 4521987,
      site_code: 'lyon-part-dieu-4', display_text: 'Platform up. Check above you before you lift further. Charge 83 %.',
    }
    const type = awp.get('Status') as protobuf.Type
    expect(Object.keys(status)).toHaveLength(25)
    expect(type.verify(status)).toBeNull()
    const bytes = type.encode(type.fromObject(status)).finish().length
    expect(bytes).toBeGreaterThan(180)
    expect(bytes).toBeLessThan(220)
  })
})

describe('the check itself', () => {
  const head = 'syntax = "proto3"; package awp.v1; import "parapet/v1/privacy.proto";'
  const good = 'category: "motion", class: BASIC, personal: NEVER'
  it.each([
    ['no option', '', 'not classified'],
    ['another option only', '[deprecated = true]', 'not classified'],
    ['a look-alike option', `[(other.v1.privacy) = { ${good} }]`, 'not classified'],
    ['no category', '[(parapet.v1.privacy) = { class: BASIC, personal: NEVER }]', 'category undefined'],
    ['a category not listed', '[(parapet.v1.privacy) = { category: "speed", class: BASIC, personal: NEVER }]', 'category speed'],
    ['no class', '[(parapet.v1.privacy) = { category: "motion", personal: LINKABLE }]', 'class undefined'],
    ['no personal', '[(parapet.v1.privacy) = { category: "motion", class: BASIC }]', 'personal undefined'],
    ['a word that is none', '[(parapet.v1.privacy) = { category: "motion", class: BASIC, personal: SOMETIMES }]', 'personal SOMETIMES'],
    ['a key that is none', `[(parapet.v1.privacy) = { ${good}, level: 3 }]`, 'key level'],
    ['never, yet additional', '[(parapet.v1.privacy) = { category: "motion", class: ADDITIONAL, personal: NEVER }]', 'never personal, yet additional'],
    ['never, yet names somebody', `[(parapet.v1.privacy) = { ${good}, subject: OPERATOR }]`, 'never personal, yet names OPERATOR'],
  ])('notices %s', (_, option, problem) => {
    expect(problemsOf(messagesOf([`${head} message Bad { uint32 speed = 8 ${option}; }`]))).toEqual([`Bad.speed: ${problem}`])
  })

  it('lets a classified field pass', () => {
    expect(problemsOf(messagesOf([`${head} message Fine { uint32 speed = 8 [(parapet.v1.privacy) = { ${good} }]; }`]))).toEqual([])
  })

  it('looks into nested messages', () => {
    const text = `${head} message Outer { message Inner { uint32 a = 1; } Inner inner = 8 [(parapet.v1.privacy) = { ${good} }]; }`
    expect(problemsOf(messagesOf([text]))).toEqual(['Outer.Inner.a: not classified'])
  })
})

describe('config/README.md', () => {
  it('lists the common header', () => {
    for (const field of fieldsOf(awp.get('Status')).slice(0, HEADER.length)) expect(section('Header, in every message')).toContain(rowOf(field))
  })

  it.each([...STREAM_MESSAGES, ...PART_MESSAGES])('lists the fields of %s as the schema classifies them', (name) => {
    const expected = fieldsOf(awp.get(name)).filter((field) => PART_MESSAGES.includes(name) || field.id > HEADER.length).map(rowOf)
    expect(section(name).filter((line) => line.startsWith('| `'))).toEqual(expected)
  })

  it('lists every unit and every category', () => {
    const units = new Set([...awp.values()].flatMap(fieldsOf).map((field) => privacyOf(field)?.unit).filter((unit) => unit !== undefined))
    for (const unit of units) expect(section('Units').some((line) => line.startsWith(`| ${unit} |`)), unit).toBe(true)
    for (const [, category] of LISTED) expect(section('Categories').some((line) => line.includes(`\`${category}\``)), category).toBe(true)
  })
})

/** Short name (`Status`, `Outer.Inner`) -> type, of files in package awp.v1. */
function messagesOf(texts: readonly string[]): ReadonlyMap<string, protobuf.Type> {
  const found = new Map<string, protobuf.Type>()
  const visit = (space: protobuf.NamespaceBase): void => {
    for (const nested of space.nestedArray) {
      if (nested instanceof protobuf.Type) found.set(nested.fullName.replace('.awp.v1.', ''), nested)
      if (nested instanceof protobuf.Namespace) visit(nested)
    }
  }
  visit(packageOf(texts))
  return found
}

function enumsOf(texts: readonly string[]): protobuf.Enum[] {
  return packageOf(texts).nestedArray.filter((one) => one instanceof protobuf.Enum)
}

function packageOf(texts: readonly string[]): protobuf.Namespace {
  const root = new protobuf.Root()
  for (const text of [PRIVACY, ...texts]) protobuf.parse(text, root, { keepCase: true })
  return root.lookup('awp.v1') as protobuf.Namespace
}

function fieldsOf(type: protobuf.Type | undefined): protobuf.Field[] {
  return [...(type?.fieldsArray ?? [])].sort((a, b) => a.id - b.id)
}

function privacyOf(field: protobuf.Field): Privacy | undefined {
  const options = field.parsedOptions as Record<string, unknown>[] | null
  return options?.find((option) => '(parapet.v1.privacy)' in option)?.['(parapet.v1.privacy)'] as Privacy | undefined
}

/** The words of the option's enums, read from privacy.proto itself. */
function words(name: string): string[] {
  const root = protobuf.parse(PRIVACY, new protobuf.Root(), { keepCase: true }).root
  return Object.keys(root.lookupEnum(`parapet.v1.FieldPrivacy.${name}`).values).filter((word) => !word.endsWith('_UNSPECIFIED'))
}

function problemsOf(messages: ReadonlyMap<string, protobuf.Type>): string[] {
  const classes = words('Class')
  const personals = words('Personal')
  const subjects = words('Subject')
  const problems: string[] = []
  for (const [message, type] of messages) {
    for (const field of fieldsOf(type)) {
      const privacy = privacyOf(field)
      const say = (text: string): void => void problems.push(`${message}.${field.name}: ${text}`)
      if (privacy === undefined) {
        say('not classified')
        continue
      }
      if (!LISTED.some(([, category]) => category === privacy.category)) say(`category ${privacy.category}`)
      if (!classes.includes(privacy.class ?? '')) say(`class ${privacy.class}`)
      if (!personals.includes(privacy.personal ?? '')) say(`personal ${privacy.personal}`)
      if (!subjects.includes(privacy.subject ?? 'NONE')) say(`subject ${privacy.subject}`)
      for (const key of Object.keys(privacy)) if (!['category', 'class', 'personal', 'subject', 'unit', 'scale'].includes(key)) say(`key ${key}`)
      // `keep: not_personal` takes these without asking, so they must be fit to leave without anybody's consent.
      if (privacy.personal === 'NEVER' && privacy.class === 'ADDITIONAL') say('never personal, yet additional')
      if (privacy.personal === 'NEVER' && (privacy.subject ?? 'NONE') !== 'NONE') say(`never personal, yet names ${privacy.subject}`)
    }
  }
  return problems
}

/** Lines of the README below a heading, up to the next one. */
function section(heading: string): string[] {
  const lines = README.split('\n')
  const start = lines.findIndex((line) => line.replace(/^#+ /, '') === heading && line.startsWith('#'))
  expect(start, `config/README.md has no heading "${heading}"`).toBeGreaterThanOrEqual(0)
  const rest = lines.slice(start + 1)
  const end = rest.findIndex((line) => line.startsWith('#'))
  return end < 0 ? rest : rest.slice(0, end)
}

function rowOf(field: protobuf.Field): string {
  const privacy = privacyOf(field) ?? {}
  const type = `${field.repeated ? 'repeated ' : ''}${field.type}`
  const subject = privacy.subject === undefined ? '' : privacy.subject.toLowerCase()
  const unit = privacy.unit === undefined ? '' : privacy.scale === undefined ? privacy.unit : `${privacy.scale} ${privacy.unit}`
  const cells = [`\`${field.name}\``, field.id, type, privacy.category, privacy.class?.toLowerCase(), privacy.personal?.toLowerCase(), subject, unit]
  return `| ${cells.join(' | ')} |`
}
