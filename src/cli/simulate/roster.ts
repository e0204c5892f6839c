/**
 * Who and what takes part: the machines and operators of the gateway's own registries, so that what is simulated is let in.
 */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { readYaml } from '../../config/yaml.ts'
import { EEA } from '../../domain/basis.ts'
import { GatewayError, formatFinding } from '../../domain/errors.ts'
import type { MachineSpec } from './machine.ts'

export interface Roster {
  /** Admitted by name, in the order of the registry. */
  readonly machines: readonly MachineSpec[]
  /** Machines left out because their terminal has a password or certificate. */
  readonly locked: number
  readonly cards: readonly Card[]
}

export interface Card {
  readonly card: string
  readonly name: string
  readonly kind: 'personal' | 'shared' | 'service' | 'unknown'
  readonly country: string | undefined
}

/**
 * Reads machines.yaml and operators.yaml, wherever the gateway file says they are.
 * Errors: CONFIG-FILE, a file is missing or not YAML; NO-MACHINES, nobody is admitted by name.
 * @param config   the gateway file; undefined = config/gateway.yaml or gateway.yaml in `cwd`
 * @param todayMs  cards that are not valid on this day stay in the drawer
 */
export function readRoster(cwd: string, config: string | undefined, todayMs: number): Roster {
  const file = config === undefined ? ['config/gateway.yaml', 'gateway.yaml'].map((name) => resolve(cwd, name)).find((path) => existsSync(path)) : resolve(cwd, config)
  if (file === undefined) throw new GatewayError('CONFIG-FILE', 'There is no config/gateway.yaml here.', 'Name the gateway file with --config: its machines and operators take part.')
  const gateway = record(read(file))
  const beside = (key: string): string => resolve(dirname(file), typeof gateway[key] === 'string' ? gateway[key] : `./${key}.yaml`)

  const entries = Object.entries(record(read(beside('machines'))))
  const open = entries.filter(([, entry]) => record(entry)['credential'] === undefined && record(entry)['certificate'] === undefined)
  if (open.length === 0) throw new GatewayError('NO-MACHINES', `No machine in ${beside('machines')} is admitted by name alone.`, 'Add one with: parapet machines add ID --fleet demo --no-credential')
  return { machines: open.map(([id, entry]) => machineOf(id, record(entry))), locked: entries.length - open.length, cards: cardsOf(read(beside('operators')), todayMs) }
}

function read(file: string): unknown {
  const { value, findings } = readYaml(file)
  const finding = findings.find(({ severity }) => severity === 'error')
  if (finding !== undefined) throw new GatewayError('CONFIG-FILE', formatFinding(finding))
  return value
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {}
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function machineOf(id: string, entry: Readonly<Record<string, unknown>>): MachineSpec {
  const country = text(entry['country'])
  const code = text(record(entry['labels'])['site']) ?? 'yard'
  const setting = entry['operator_collection']
  return {
    id, fleet: text(entry['fleet']) ?? 'demo', model: text(entry['model']) ?? 'scissor-SL10', country,
    operatorCollection: setting === 'on' || setting === 'off' ? setting : 'unknown', site: { code, ...place(country, code) },
  }
}

/** A town in each country of the shipped registry; anywhere else is somewhere in the middle of Europe. */
const TOWNS: Readonly<Record<string, readonly [number, number]>> = {
  FR: [45.76404, 4.83566], DE: [48.13715, 11.57612], GB: [53.79648, -1.54785], 'US-CA': [34.05223, -118.24368], NL: [52.09083, 5.12222],
  CN: [28.22821, 112.93881], IT: [45.07049, 7.68682], US: [41.87811, -87.6298],
}
const ELSEWHERE: readonly [number, number] = [50.11092, 8.68213]

/** A site lies within about a kilometre of the middle of its town. */
function place(country: string | undefined, code: string): { readonly lat: number; readonly lon: number } {
  const [lat, lon] = TOWNS[country ?? ''] ?? TOWNS[(country ?? '').slice(0, 2)] ?? ELSEWHERE
  let mixed = 17
  for (const letter of code) mixed = (mixed * 31 + letter.charCodeAt(0)) % 10_007
  return { lat: lat + ((mixed % 101) - 50) / 10_000, lon: lon + ((Math.floor(mixed / 101) % 101) - 50) / 10_000 }
}

function cardsOf(operators: unknown, todayMs: number): Card[] {
  const today = new Date(todayMs).toISOString().slice(0, 10)
  const cards: Card[] = []
  for (const entry of Array.isArray(operators) ? operators.map(record) : []) {
    const { from, to } = record(entry['valid'])
    const card = Array.isArray(entry['cards']) ? text(entry['cards'][0]) : undefined
    const kind = entry['kind']
    if (card === undefined || (kind !== 'personal' && kind !== 'shared' && kind !== 'service')) continue
    if ((text(from) ?? '') > today || (text(to) ?? '9999') <= today) continue
    cards.push({ card, kind, name: nameOf(text(entry['id']) ?? 'op'), country: text(entry['country']) })
  }
  return cards
}

/** `op-anna` is Anna on her card. */
function nameOf(id: string): string {
  return id.replace(/^op-/, '').split('-').map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join(' ')
}

/** Whom the keypad admits and the gateway has never heard of. */
const VISITOR: Card = { card: 'V-7731', name: 'Visitor', kind: 'unknown', country: undefined }

/**
 * Crews: machines near each other and the cards that go round on them, one per machine and round, so that nobody is in two places.
 * Each crew has its own people; places nobody is left for go to the shared code, a stranger's card, the workshop, or stand still.
 */
export interface Crew {
  /** Places of its machines in the fleet. */
  readonly machines: readonly number[]
  /** Card of machine i in round r: `cards[(i + r) % cards.length]`; undefined = the machine stands, or charges. At least as many as machines. */
  readonly cards: readonly (Card | undefined)[]
}

export function crewsOf(machines: readonly MachineSpec[], cards: readonly Card[]): Crew[] {
  const groups = new Map<string, number[]>()
  machines.forEach(({ country }, at) => groups.set(region(country), [...(groups.get(region(country)) ?? []), at]))
  const fillers = [...cards.filter(({ kind }) => kind !== 'personal'), VISITOR]
  return [...groups].map(([name, places]) => {
    const people = cards.filter(({ kind, country }) => kind === 'personal' && country !== undefined && region(country) === name)
    const line: (Card | undefined)[] = [...people]
    // A code painted on the machine may be used everywhere at once; more than all the fillers there is nobody.
    for (let at = 0; line.length < Math.max(2, places.length); at++) line.push(at < fillers.length ? fillers[at] : undefined)
    return { machines: places, cards: line }
  })
}

function region(country: string | undefined): string {
  const nation = (country ?? '').slice(0, 2)
  return EEA.has(nation) ? 'EEA' : nation
}
