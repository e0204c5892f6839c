/** Reads what pauses.ts has found out in a gateway that runs with it. */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PROJECT } from '../e2e/stage.ts'
import { until, type Plant, type StartOptions } from './plant.ts'

export interface Pauses {
  /** Longest pause of the event loop: by the clock, and in processor time of its thread. */
  readonly clockMs: number
  readonly cpuMs: number
  /** How late its turns came. */
  readonly p99Ms: number
}

export class Stopwatch {
  readonly #plant: Plant
  readonly #file: string
  readonly #everyMs: number

  /** @param everyMs  how often it looks: what goes on between two looks counts as one pause, and under full load a look each millisecond is a load itself */
  constructor(plant: Plant, everyMs = 1) {
    this.#plant = plant
    this.#everyMs = everyMs
    this.#file = join(plant.folder.file('.'), 'pauses.json')
  }

  /** What the gateway must be started with. */
  get options(): Pick<StartOptions, 'nodeOptions' | 'env'> {
    return { nodeOptions: ['--import', join(PROJECT, 'test/fault/pauses.ts')], env: { PARAPET_PAUSES: this.#file, PARAPET_PAUSES_EVERY: String(this.#everyMs) } }
  }

  /** Since the last time. */
  async read(): Promise<Pauses> {
    rmSync(this.#file, { force: true })
    this.#plant.signal('SIGUSR2')
    await until(() => existsSync(this.#file), 'the pauses', 5_000)
    return JSON.parse(readFileSync(this.#file, 'utf8')) as Pauses
  }
}
