/**
 * The process that crash.test.ts kills: an outbox under load.
 *
 *     node child.ts FOLDER RUN
 *
 * It accepts numbered records of four machines as fast as it may and writes down, in files whose content survives a kill:
 * what was acknowledged (`acked`) and what reached the cloud (`cloud`), one line `RUN MACHINE ORDER` each.
 */
import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { openOutbox } from '../../src/outlet/outbox.ts'
import { STORAGE_KEYS } from '../contract/keys.ts'
import { record } from '../contract/records.ts'
import type { MachineId } from '../../src/domain/ids.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'

const [folder, run] = process.argv.slice(2) as [string, string]
const acked = openSync(join(folder, 'acked'), 'a')
const cloud = openSync(join(folder, 'cloud'), 'a')
const outbox = openOutbox({ file: join(folder, 'outbox.db'), keys: STORAGE_KEYS, groupRecords: 32, retryMs: 1 })
const orders = [0, 0, 0, 0].map(() => outbox.epoch * 1_000_000)

let connection = 0

function arrive(one: OutboxRecord, done: (error: Error | undefined) => void): void {
  writeSync(cloud, `${run} ${one.machine} ${one.machineOrder}\n`)
  outbox.onDelivered(one, 'cloud-login')
  done(undefined)
}

outbox.attach({
  name: 'cloud',
  // The cloud takes a while, answers in order, and now and then the connection is lost, with everything that was on its way.
  send(one, done) {
    const mine = connection
    setTimeout(() => {
      if (mine === connection && one.machineOrder % 997 === 0 && Math.random() < 0.5) connection++
      if (mine !== connection) {
        done(new Error('connection lost'))
        return
      }
      arrive(one, done)
    }, 1)
  },
  cut: async () => ({ dropped: 0, onTheWire: 0 }),
  close: async () => undefined,
}, { records: 64 })

function turn(): void {
  for (let i = 0; i < 40; i++) {
    const machine = i % 4
    const order = ++orders[machine]!
    outbox.accept(record({ machine: `SN-${machine}` as MachineId, machineOrder: order, payload: `SN-${machine} ${order}` }))
    outbox.committed((error) => {
      if (error === undefined) writeSync(acked, `${run} SN-${machine} ${order}\n`)
    })
  }
  setTimeout(turn, 1)
}
turn()
writeSync(1, 'running\n')
