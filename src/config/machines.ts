/**
 * The registry of machines: a YAML file, a CSV file, or a folder of them -> Machine by id.
 * Ids of machines are personal data by linkage: findings name places, not ids.
 */
import { readdirSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Finding } from '../domain/errors.ts'
import type { FleetId, MachineId } from '../domain/ids.ts'
import type { Machine } from '../domain/ports.ts'
import { parseCsv } from './csv.ts'
import { sorted } from './findings.ts'
import type { MachinesMessage } from './machines-thread.ts'
import { placeHint, readPlace } from './places.ts'
import { machinesSchema } from './schema.ts'
import { validator } from './validation.ts'
import { found, readText, readYaml, type Path, type Yaml } from './yaml.ts'

export interface LoadedMachines {
  /** Undefined when anything is wrong: whoever has a registry keeps it, whoever has none admits nobody. */
  readonly machines: ReadonlyMap<string, Machine> | undefined
  readonly findings: readonly Finding[]
}

/** Reads a file or all .yaml, .yml and .csv files of a folder. Never throws for anything that stands in them. */
export function loadMachines(path: string): LoadedMachines {
  const files = filesOf(path)
  if ('finding' in files) return { machines: undefined, findings: [files.finding] }
  return readMachines(files.map((file) => (extname(file) === '.csv' ? readCsv(file) : readYaml(file))))
}

/** Below this a file is read in some milliseconds, and a thread would cost more. */
const ASIDE_BYTES = 65_536

/**
 * The same in a thread of its own when there is much to read: 100,000 machines take seconds, and messages go on meanwhile.
 * @param signal  ends it; the answer is then that nothing was accepted
 */
export async function loadMachinesAside(path: string, signal: AbortSignal): Promise<LoadedMachines> {
  const files = filesOf(path)
  if ('finding' in files || files.reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0) < ASIDE_BYTES) return loadMachines(path)
  const thread = new Worker(new URL(import.meta.filename.endsWith('.ts') ? './machines-thread.ts' : './machines-thread.js', import.meta.url), { workerData: { path } })
  const machines = new Map<string, Machine>()
  const { promise, resolve } = Promise.withResolvers<LoadedMachines>()
  const failed = (): void => resolve({ machines: undefined, findings: signal.aborted ? [] : [found('LIMIT', { file: path, line: 1, col: 1 }, '', 'The machines could not be read: there was not memory enough.', 'Put them into CSV files in a folder: they need a third of it.')] })
  thread.on('message', (message: MachinesMessage) => {
    if ('machines' in message) {
      for (const machine of message.machines) machines.set(machine.id, machine)
      setImmediate(() => thread.postMessage('next', []))
    } else resolve({ machines: message.accepted ? machines : undefined, findings: message.findings })
  })
  // After its last message the thread ends as well, and that says nothing new.
  thread.on('error', failed).on('exit', failed)
  const end = (): void => void thread.terminate()
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  return promise.finally(() => signal.removeEventListener('abort', end))
}

/** Machines of several sources together; for texts in memory. */
export function readMachines(sources: readonly Yaml[]): LoadedMachines {
  const machines = new Map<string, Machine>()
  const certificates = new Set<string>()
  const findings: Finding[] = []
  for (const source of sources) {
    if (source.findings.length > 0) {
      findings.push(...source.findings)
      continue
    }
    const { value, under } = unwrap(source.value ?? {}, 'machines')
    const wrong = validate(source, value, { discreet: true, under })
    findings.push(...wrong)
    if (wrong.length > 0) continue
    for (const [id, text] of Object.entries(value as Readonly<Record<string, MachineText>>)) {
      const at = [...under, id]
      const machine = readMachine(id, text, source, at, findings)
      if (machines.has(id)) findings.push(found('DUPLICATE-ID', source.place(at, 'key'), '', 'A machine of this id stands in another file too.'))
      const name = machine.certificate ?? id
      if (!machines.has(id) && certificates.has(name)) findings.push(found('DUPLICATE-ID', source.place([...at, 'certificate'], 'key'), '', 'Another machine has this name in its certificate.'))
      certificates.add(name)
      machines.set(id, machine)
    }
  }
  return { machines: findings.length === 0 ? machines : undefined, findings: sorted(findings) }
}

/** The entries stand under a key of the registry's name, beside a place for anchors, or are the file. */
export function unwrap(value: unknown, name: string): { readonly value: unknown; readonly under: Path } {
  const wrapped = typeof value === 'object' && value !== null && !Array.isArray(value) && name in value && Object.keys(value).every((key) => key === name || key === 'define' || key === 'version')
  return wrapped ? { value: (value as Record<string, unknown>)[name] ?? {}, under: [name] } : { value, under: [] }
}

interface MachineText {
  readonly fleet: string
  readonly model: string
  readonly labels?: Readonly<Record<string, string | number | boolean>>
  readonly country?: string
  readonly operator_collection?: 'on' | 'off' | 'unknown'
  readonly holder?: string
  readonly credential?: string
  readonly certificate?: string
}

const validate = validator(machinesSchema())
const FILES_MAX = 10_000

function readMachine(id: string, text: MachineText, source: Yaml, at: Path, findings: Finding[]): Machine {
  const country = text.country === undefined ? undefined : readPlace(text.country)
  if (text.country !== undefined && country === undefined) findings.push(found('UNKNOWN-PLACE', source.place([...at, 'country']), '', `"${text.country.slice(0, 20)}" is no ISO 3166 code.`, placeHint(text.country)))
  return {
    id: id as MachineId,
    fleet: text.fleet as FleetId,
    model: text.model,
    labels: Object.fromEntries(Object.entries(text.labels ?? {}).map(([key, value]) => [key, String(value)])),
    country,
    operatorCollection: text.operator_collection ?? 'unknown',
    holder: text.holder,
    credential: text.credential,
    certificate: text.certificate,
  }
}

function filesOf(path: string): readonly string[] | { readonly finding: Finding } {
  try {
    if (!statSync(path).isDirectory()) return [path]
    const files = readdirSync(path).filter((name) => /\.(ya?ml|csv)$/.test(name) && !name.startsWith('.')).sort().map((name) => join(path, name))
    if (files.length > FILES_MAX) return { finding: found('LIMIT', { file: path, line: 1, col: 1 }, '', `The folder holds more than ${FILES_MAX} files.`, 'Put the machines into fewer files.') }
    return files
  } catch {
    // Reading the file says why it cannot be read.
    return [path]
  }
}

function readCsv(file: string): Yaml {
  const read = readText(file)
  if ('text' in read) return parseCsv(file, read.text)
  const place = (): Finding['place'] => read.finding.place
  return { file, text: '', value: undefined, findings: [read.finding], place, placeIn: place, has: () => false }
}
