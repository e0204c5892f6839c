/**
 * The register of identities: whose card, code or number is whose, and when. The clear values stand only in this file and in
 * memory while it is read; findings name places, never values.
 */
import type { Finding } from '../domain/errors.ts'
import { cardText, type OperatorId } from '../domain/ids.ts'
import type { IdentityKind } from '../domain/ports.ts'
import { sorted } from './findings.ts'
import { unwrap } from './machines.ts'
import { placeHint, readPlace } from './places.ts'
import { operatorsSchema } from './schema.ts'
import { validator } from './validation.ts'
import { found, parseYaml, readYaml, type Path, type Yaml } from './yaml.ts'

export interface OperatorEntry {
  readonly id: OperatorId
  readonly kind: IdentityKind
  readonly country: string | undefined
  /** First moment of the first day, UTC; undefined when the file does not say. */
  readonly validFromMs: number | undefined
  /** First moment at which it is no longer valid. */
  readonly validToMs: number | undefined
  /** Cards, PINs and numbers as terminals send them. */
  readonly cards: readonly string[]
}

export interface LoadedOperators {
  /** Each person once; validities of one card do not overlap: the register takes them as they are. Undefined when anything is wrong. */
  readonly operators: readonly OperatorEntry[] | undefined
  readonly findings: readonly Finding[]
}

/** Reads the file. Never throws for anything that stands in it. */
export function loadOperators(file: string): LoadedOperators {
  return readOperators(readYaml(file))
}

/** The same for a text in memory. */
export function loadOperatorsText(file: string, text: string): LoadedOperators {
  return readOperators(parseYaml(file, text))
}

interface OperatorText {
  readonly id: string
  readonly kind: IdentityKind
  readonly country?: string
  readonly valid?: { readonly from?: string; readonly to?: string }
  readonly cards: readonly string[]
}

const validate = validator(operatorsSchema())

function readOperators(yaml: Yaml): LoadedOperators {
  if (yaml.findings.length > 0) return { operators: undefined, findings: yaml.findings }
  const { value, under } = unwrap(yaml.value ?? [], 'operators')
  const list = isEmptyMap(value) ? [] : value
  const wrong = validate(yaml, list, { discreet: true, under })
  if (wrong.length > 0) return { operators: undefined, findings: sorted(wrong) }
  const findings: Finding[] = []
  const entries: OperatorEntry[] = []
  const holders = new Map<string, OperatorEntry[]>()
  const ids = new Set<string>()
  for (const [index, text] of (list as readonly OperatorText[]).entries()) {
    const at: Path = [...under, index]
    const entry = readEntry(text, yaml, at, findings)
    if (ids.has(text.id)) findings.push(found('DUPLICATE-ID', yaml.place([...at, 'id']), '', 'Another entry has this id.', 'Give each person one entry with all cards, and a code that several people use an id of its own.'))
    ids.add(text.id)
    for (const [position, given] of text.cards.entries()) {
      const card = cardText(given)
      const others = holders.get(card) ?? []
      if (card === '') findings.push(found('BAD-VALUE', yaml.place([...at, 'cards', position]), '', 'This card is empty.', 'Remove it, or write the number in quotes.'))
      else if (others.includes(entry)) findings.push(found('DUPLICATE-ID', yaml.place([...at, 'cards', position]), '', 'This card stands twice in the entry: outer spaces and the form of accents do not count.', 'Remove one of the two.'))
      else if (others.some((other) => overlaps(other, entry))) findings.push(found('BAD-VALIDITY', yaml.place([...at, 'cards', position]), '', 'This card stands in another entry that is valid at the same time; outer spaces and the form of accents do not count.'))
      holders.set(card, [...others, entry])
    }
    entries.push(entry)
  }
  return { operators: findings.length === 0 ? entries : undefined, findings: sorted(findings) }
}

function overlaps(a: OperatorEntry, b: OperatorEntry): boolean {
  return (a.validFromMs ?? 0) < (b.validToMs ?? Number.POSITIVE_INFINITY) && (b.validFromMs ?? 0) < (a.validToMs ?? Number.POSITIVE_INFINITY)
}

function readEntry(text: OperatorText, yaml: Yaml, at: Path, findings: Finding[]): OperatorEntry {
  const country = text.country === undefined ? undefined : readPlace(text.country)
  if (text.country !== undefined && country === undefined) findings.push(found('UNKNOWN-PLACE', yaml.place([...at, 'country']), '', 'The country is no ISO 3166 code.', placeHint(text.country)))
  const day = (name: 'from' | 'to'): number | undefined => {
    const given = text.valid?.[name]
    if (given === undefined) return undefined
    const ms = Date.parse(`${given}T00:00:00Z`)
    if (!Number.isNaN(ms) && new Date(ms).toISOString().startsWith(given)) return ms
    findings.push(found('BAD-VALUE', yaml.place([...at, 'valid', name]), '', `${given} is no day of the calendar.`, ''))
    return undefined
  }
  const entry = { id: text.id as OperatorId, kind: text.kind, country, validFromMs: day('from'), validToMs: day('to'), cards: text.cards }
  if (entry.validToMs !== undefined && entry.validToMs <= (entry.validFromMs ?? 0)) findings.push(found('BAD-VALIDITY', yaml.place([...at, 'valid']), '', 'The validity ends before it begins.', 'Let `to` be a later day than `from`.'))
  return entry
}

function isEmptyMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0
}
