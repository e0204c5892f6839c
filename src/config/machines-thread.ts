/**
 * The thread in which a large registry is read: see loadMachinesAside. It hands over what it read in small pieces, each when it is
 * asked for: pieces that lie ready would all be taken in one go, with no time for messages in between.
 */
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import type { Finding } from '../domain/errors.ts'
import type { Machine } from '../domain/ports.ts'
import { loadMachines } from './machines.ts'

/** `accepted`: all machines have been sent. */
export type MachinesMessage = { readonly machines: readonly Machine[] } | { readonly accepted: boolean; readonly findings: readonly Finding[] }

/** Some 2 ms to take in. */
const PIECE = 500

if (parentPort !== null) {
  const { machines, findings } = loadMachines((workerData as { readonly path: string }).path)
  const all = [...(machines?.values() ?? [])]
  const send = (message: MachinesMessage): void => parentPort?.postMessage(message, [])
  for (let from = 0; from < all.length; from += PIECE) {
    send({ machines: all.slice(from, from + PIECE) })
    await once(parentPort, 'message')
  }
  send({ accepted: machines !== undefined, findings })
}
