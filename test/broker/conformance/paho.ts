/** Runs the Paho interoperability tests for MQTT 3.1.1 (interoperability/client_test.py), each against a broker of its own. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startOpenBroker } from './broker.ts'
import type { Outcome } from './verdict.ts'

/** Tests at a time: they wait for seconds and work for milliseconds. */
const AT_ONCE = 4
const LIMIT_MS = 90_000
/** The filter that the suite expects to be refused. */
const REFUSED = 'test/nosubscribe'

/** @param script  the suite's client_test.py */
export async function playPaho(script: string): Promise<Outcome[]> {
  const waiting = pahoTests(readFileSync(script, 'utf8'))
  const outcomes = new Map<string, Outcome>(waiting.map((name) => [name, { id: `${NAME}: ${name}`, fault: 'not run' }]))
  const workers = Array.from({ length: AT_ONCE }, async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) outcomes.set(name, { id: `${NAME}: ${name}`, fault: await playOne(script, name) })
  })
  await Promise.all(workers)
  // The suite gives a broker half a second for some answers: on a busy machine a failure may be ours or the machine's. Alone, it counts.
  for (const [name, { id, fault }] of outcomes) {
    if (fault === undefined) continue
    const again = await playOne(script, name)
    outcomes.set(name, again === undefined ? { id, fault: again, note: `passed alone, after it had failed beside others (${fault})` } : { id, fault: again })
  }
  return [...outcomes.values()]
}

const NAME = 'client_test.py'

/** Methods that unittest takes for tests. */
export function pahoTests(source: string): string[] {
  return [...source.matchAll(/^ +def (test\w*)\(self\)/gm)].map((match) => match[1] as string)
}

async function playOne(script: string, name: string): Promise<string | undefined> {
  const broker = await startOpenBroker({ refusedFilters: [REFUSED] })
  try {
    const { code, output } = await python([join(import.meta.dirname, 'paho.py'), script, String(broker.port), name])
    if (code === 0) return undefined
    return code === undefined ? `not done within ${LIMIT_MS / 1_000} s` : lastError(output)
  } finally {
    await broker.close()
  }
}

/** The line that Python closes a traceback with; the first one tells the cause. */
function lastError(output: string): string {
  return /^(?!AssertionError: False != True)\w*(?:Error|Exception)\b.*$/m.exec(output)?.[0] ?? output.trim().split('\n').at(-1) ?? 'failed without a word'
}

function python(args: readonly string[]): Promise<{ code: number | undefined; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn('python3', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
    const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS)
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(limit)
      resolve({ code: code ?? undefined, output })
    })
  })
}
