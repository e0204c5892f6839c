/**
 * Who and what takes part: the machines and operators of the gateway's own registries, so that what is simulated is let in.
 */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { loadGateway } from '../../config/gateway.ts'
import type { GatewayConfig } from '../../config/gateway.ts'
import { loadMachines } from '../../config/machines.ts'
import { loadOperators } from '../../config/operators.ts'
import type { OperatorEntry } from '../../config/operators.ts'
import { EEA } from '../../domain/basis.ts'
import { GatewayError, formatFinding } from '../../domain/errors.ts'
import type { Finding } from '../../domain/errors.ts'
import type { Machine } from '../../domain/ports.ts'
import type { MachineSpec } from './machine.ts'

export interface Roster {
  readonly gateway: GatewayConfig
  /** Admitted by name, in the order of the registry. */
  readonly machines: readonly MachineSpec[]
  /** Machines left out because their terminal has a password or certificate. */
  readonly locked: number
  readonly cards: readonly Card[]
}

export interface Card {
  /** Our own id of the person; undefined for a stranger. */
  readonly operator: string | undefined
  readonly card: string
  readonly name: string
  readonly kind: 'personal' | 'shared' | 'service' | 'unknown'
  readonly country: string | undefined
}

/**
 * Reads the registries that a gateway file names.
 * Errors: CONFIG-FILE, a file is missing or wrong; NO-MACHINES, nobody is admitted by name.
 * @param config  the gateway file; undefined = config/gateway.yaml or gateway.yaml in `cwd`
 * @param nowMs   cards that are not valid at this time stay in the drawer
 */
export function readRoster(cwd: string, config: string | undefined, nowMs: number): Roster {
  const file = config === undefined ? ['config/gateway.yaml', 'gateway.yaml'].map((name) => resolve(cwd, name)).find((path) => existsSync(path)) : resolve(cwd, config)
  if (file === undefined) throw new GatewayError('CONFIG-FILE', 'There is no config/gateway.yaml here.', 'Name the gateway file with --config: its machines and operators take part.')
  const loaded = loadGateway(file)
  const gateway = checked(loaded.config, loaded.findings)
  const registry = loadMachines(gateway.machines)
  const machines = [...checked(registry.machines, registry.findings).values()]
  const register = loadOperators(gateway.operators)
  const operators = checked(register.operators, register.findings)

  const open = machines.filter(({ credential, certificate }) => credential === undefined && certificate === undefined)
  if (open.length === 0) throw new GatewayError('NO-MACHINES', 'No machine in the registry is admitted by name alone.', 'Add one with: parapet machines add ID --fleet demo --no-credential')
  return { gateway, machines: open.map(specOf), locked: machines.length - open.length, cards: cardsOf(operators, nowMs) }
}

function checked<Value>(value: Value | undefined, findings: readonly Finding[]): Value {
  if (value !== undefined) return value
  const finding = findings.find(({ severity }) => severity === 'error')
  throw new GatewayError('CONFIG-FILE', finding === undefined ? 'A registry could not be read.' : formatFinding(finding))
}

function specOf({ id, fleet, model, country, labels, operatorCollection }: Machine): MachineSpec {
  const code = labels['site'] ?? 'yard'
  return { id, fleet, model, country, operatorCollection, site: { code, ...place(country, code) } }
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

/** The first card of everybody whose card is valid. */
function cardsOf(operators: readonly OperatorEntry[], nowMs: number): Card[] {
  return operators.flatMap(({ id, kind, country, cards: [card], validFromMs = Number.NEGATIVE_INFINITY, validToMs = Number.POSITIVE_INFINITY }) =>
    card === undefined || nowMs < validFromMs || nowMs >= validToMs ? [] : [{ operator: id, card, kind, name: nameOf(id), country }])
}

/** `op-anna` is Anna on her card. */
function nameOf(id: string): string {
  return id.replace(/^op-/, '').split('-').map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join(' ')
}

/** Whom the keypad admits and the gateway has never heard of. */
const VISITOR: Card = { operator: undefined, card: 'V-7731', name: 'Visitor', kind: 'unknown', country: undefined }

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
