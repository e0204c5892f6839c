/**
 * Machines, operators and recipients as the files say, reloaded live. A file with an error leaves its old entries in force.
 * They change without a new rules set and are no part of it.
 */
import { hash } from 'node:crypto'
import type { RecipientAccount, RecipientDirectory, TerminalDirectory } from './broker/identify.ts'
import type { GatewayConfig } from './config/gateway.ts'
import { loadMachines, loadMachinesAside, type LoadedMachines } from './config/machines.ts'
import { loadOperators, loadOperatorsText, type LoadedOperators, type OperatorEntry } from './config/operators.ts'
import { loadRecipients, type LoadedRecipients } from './config/recipients.ts'
import { readText } from './config/yaml.ts'
import type { Finding } from './domain/errors.ts'
import type { MachineId, RecipientId } from './domain/ids.ts'
import { atOnce, calmly, type Pieces } from './domain/pieces.ts'
import type { Machine, MachineRegistry } from './domain/ports.ts'

export interface Reloaded {
  readonly findings: readonly Finding[]
  /** Undefined when the file was refused, or says what it said before. */
  readonly operators: readonly OperatorEntry[] | undefined
  /** Machines whose device setting was on before and is not now. */
  readonly collectionOff: readonly MachineId[]
}

/** What the three files say, not in force yet. */
export interface Read {
  readonly machines: LoadedMachines
  readonly operators: LoadedOperators
  readonly recipients: LoadedRecipients
  /** Digest of the operators file; undefined when it could not be read. */
  readonly operatorsMark: string | undefined
  /** Machines that were not known before. */
  readonly added: readonly string[]
}

export class Registries implements TerminalDirectory, RecipientDirectory {
  /** Grows with every reload; part of what makes cached pseudonyms stale. */
  generation = 0
  readonly #config: GatewayConfig
  #machines: ReadonlyMap<string, Machine> = new Map()
  #machinesByCertificate: ReadonlyMap<string, Machine> = new Map()
  #recipients: ReadonlyMap<string, RecipientAccount> = new Map()
  #recipientsByCertificate: ReadonlyMap<string, RecipientAccount> = new Map()
  #registry: MachineRegistry = registryOf(new Map())
  /** Of the operators file that is in force. Its text names people and is not kept. */
  #operatorsMark: string | undefined
  readonly #ending = new AbortController()

  constructor(config: GatewayConfig) {
    this.#config = config
  }

  /** Reads the three files. */
  read(): Read {
    return atOnce(this.#inPieces(loadMachines(this.#config.machines)))
  }

  /** The same without holding up messages, however many machines there are. */
  async readAside(): Promise<Read> {
    const machines = await loadMachinesAside(this.#config.machines, this.#ending.signal)
    return calmly(this.#inPieces(machines))
  }

  /** Ends a reading that is under way. */
  close(): void {
    this.#ending.abort()
  }

  *#inPieces(machines: LoadedMachines): Pieces<Read> {
    const added = [...(machines.machines?.keys() ?? [])].filter((id) => !this.#machines.has(id))
    yield
    const { operators, operatorsMark } = this.#readOperators()
    yield
    const recipients = loadRecipients(this.#config.recipients)
    // What takes them into use is a piece of its own.
    yield
    return { machines, operators, operatorsMark, recipients, added }
  }

  /** To take over a list of people means to decrypt and encrypt each of them anew: not when it is the one that is in force. */
  #readOperators(): Pick<Read, 'operators' | 'operatorsMark'> {
    const file = this.#config.operators
    const read = readText(file)
    if ('finding' in read) return { operators: loadOperators(file), operatorsMark: undefined }
    const operatorsMark = hash('sha256', read.text)
    return { operators: operatorsMark === this.#operatorsMark ? AS_BEFORE : loadOperatorsText(file, read.text), operatorsMark }
  }

  /** The list could not be taken over: the next reload tries it again, although the file is the same. */
  operatorsRefused(): void {
    this.#operatorsMark = undefined
  }

  /** Puts in force what was read. */
  use({ machines, operators, operatorsMark, recipients }: Read): Reloaded {
    const before = this.#machines
    if (machines.machines !== undefined) {
      this.#machines = machines.machines
      const byCertificate = new Map<string, Machine>()
      for (const one of this.#machines.values()) if (one.certificate !== undefined) byCertificate.set(one.certificate, one)
      this.#machinesByCertificate = byCertificate
      this.#registry = registryOf(this.#machines)
    }
    if (recipients.recipients !== undefined) {
      const accounts = [...recipients.recipients].flatMap(([id, logins]) => logins.map((login) => ({ user: login.user, account: { id: id as RecipientId, user: login.user, credential: login.credential, certificate: login.certificate } })))
      this.#recipients = new Map(accounts.map(({ user, account }) => [user, account]))
      this.#recipientsByCertificate = new Map(accounts.flatMap(({ account }) => (account.certificate === undefined ? [] : [[account.certificate, account]])))
    }
    this.#operatorsMark = operators === AS_BEFORE || operators.operators !== undefined ? operatorsMark : undefined
    this.generation++
    return {
      findings: [...machines.findings, ...operators.findings, ...recipients.findings],
      operators: operators.operators,
      collectionOff: [...before.values()].filter((one) => one.operatorCollection === 'on' && this.#machines.get(one.id)?.operatorCollection !== 'on').map((one) => one.id),
    }
  }

  get machines(): MachineRegistry {
    return this.#registry
  }

  machineIds(): string[] {
    return [...this.#machines.keys()]
  }

  // TerminalDirectory and RecipientDirectory are asked through unbound functions, so these are fields.
  readonly machine = (id: string): Machine | undefined => this.#machines.get(id)
  readonly machineByCertificate = (name: string): Machine | undefined => this.#machinesByCertificate.get(name)
  readonly recipient = (user: string): RecipientAccount | undefined => this.#recipients.get(user)
  readonly recipientByCertificate = (name: string): RecipientAccount | undefined => this.#recipientsByCertificate.get(name)
}

const AS_BEFORE: LoadedOperators = { operators: undefined, findings: [] }

function registryOf(machines: ReadonlyMap<string, Machine>): MachineRegistry {
  return { get: (id) => machines.get(id), size: machines.size, all: () => machines.values() }
}
