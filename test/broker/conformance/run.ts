/**
 * Runs public MQTT suites against our own listener, guard and engine with open topics: `npm run conformance:mqtt`.
 * The suites are read where they lie and are no part of this project:
 *
 *   PAHO_DIR       a checkout of eclipse/paho.mqtt.testing   the interoperability tests for MQTT 3.1.1; needs python3
 *   MOSQUITTO_DIR  a checkout of eclipse-mosquitto/mosquitto  the packet sequences of test/broker/data for MQTT 3.1 and 3.1.1
 *
 * Prints the score and each failure. Those that are known to differ stand in expected.json with the reason; another failure, or one
 * of them that passes, makes the exit code 1. A variable that leads nowhere: 2. Without the variables: 0, and it says so.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { startOpenBroker } from './broker.ts'
import { playPaho } from './paho.ts'
import { play, readSequences } from './sequences.ts'
import { verdict } from './verdict.ts'
import type { Known, Outcome } from './verdict.ts'

interface Suite {
  readonly name: string
  readonly variable: string
  readonly repository: string
  /** What of the checkout is used. */
  readonly path: string
  /** A program that must be there. */
  readonly needs?: string
  readonly play: (path: string) => Promise<Outcome[]>
}

const SUITES: readonly Suite[] = [
  {
    name: 'Paho interoperability, MQTT 3.1.1', variable: 'PAHO_DIR', repository: 'https://github.com/eclipse/paho.mqtt.testing',
    path: 'interoperability/client_test.py', needs: 'python3', play: playPaho,
  },
  {
    name: 'Mosquitto packet sequences, MQTT 3.1 and 3.1.1', variable: 'MOSQUITTO_DIR', repository: 'https://github.com/eclipse-mosquitto/mosquitto',
    path: 'test/broker/data', play: playSequences,
  },
]

process.exitCode = await run(process.env)

async function run(environment: NodeJS.ProcessEnv): Promise<number> {
  const given = SUITES.flatMap((suite) => {
    const folder = environment[suite.variable]
    return folder === undefined || folder === '' ? [] : [{ ...suite, folder, path: resolve(folder, suite.path) }]
  })
  const wrong = given.filter(({ path }) => !existsSync(path))
  for (const { variable, repository, path } of wrong) console.error(`${variable} leads nowhere: there is no ${path}. Name a checkout of ${repository}.`)
  const helpless = given.filter(({ needs }) => needs !== undefined && spawnSync(needs, ['--version']).status !== 0)
  for (const { variable, needs } of helpless) console.error(`The suite of ${variable} needs ${needs ?? ''}, which cannot be started. Install it, or leave ${variable} out.`)
  if (wrong.length + helpless.length > 0) return 2
  for (const { name, variable, repository } of SUITES) {
    if (given.every((suite) => suite.variable !== variable)) console.log(`${name}: not run. Set ${variable} to a checkout of ${repository}.`)
  }

  const known = JSON.parse(readFileSync(join(import.meta.dirname, 'expected.json'), 'utf8')) as readonly { because: string; tests: readonly string[] }[]
  const list = known.flatMap(({ because, tests }): Known[] => tests.map((id) => ({ id, because })))
  let isGood = true
  for (const { name, path, play: playSuite } of given) {
    const found = verdict(name, await playSuite(path), list)
    for (const line of found.lines) console.log(line)
    isGood &&= found.isGood
  }
  return isGood ? 0 : 1
}

/** All on one broker, one after the other: some look at what others left. */
async function playSequences(folder: string): Promise<Outcome[]> {
  const broker = await startOpenBroker()
  const outcomes: Outcome[] = []
  for (const sequence of readSequences(folder)) {
    if (sequence.version <= 4) outcomes.push({ id: sequence.id, fault: await play(sequence, broker.port) })
  }
  await broker.close()
  return outcomes
}
