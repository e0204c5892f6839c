/** Disclosure counts of what nothing else on disk speaks of: never fewer after a crash, exact after an orderly stop. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { OperatorId } from '../../src/domain/ids.ts'
import { openOutbox, type DurableOutbox } from '../../src/outlet/outbox.ts'
import { record } from '../contract/records.ts'

let folders: string[]
let opened: DurableOutbox[]

function open(folder: string): DurableOutbox {
  const outbox = openOutbox({ file: join(folder, 'outbox.db'), sweepMs: 0 })
  opened.push(outbox)
  return outbox
}

function afterCrash(folder: string): DurableOutbox {
  const copy = mkdtempSync(join(tmpdir(), 'parapet-counts-'))
  folders.push(copy)
  cpSync(folder, copy, { recursive: true })
  return open(copy)
}

const total = (outbox: DurableOutbox): number => outbox.counts().reduce((sum, { count }) => sum + count, 0)

beforeEach(() => {
  folders = [mkdtempSync(join(tmpdir(), 'parapet-counts-'))]
  opened = []
})

afterEach(async () => {
  for (const outbox of opened) await outbox.close()
  for (const folder of folders) rmSync(folder, { recursive: true })
})

test.each([1, 63, 64, 65, 1_000])('after %i exits', async (exits) => {
  const outbox = open(folders[0]!)
  for (let n = 0; n < exits; n++) {
    outbox.onDelivered(record({ qos: 0, subjects: [n % 2 === 0 ? 'op-ada' : 'op-ben'] as OperatorId[] }), 'oem-cloud', true)
    // At every moment: what a crash leaves is not fewer, and not many more than are reserved for two people.
    if (n === 0 || n === exits - 1 || n === 64) {
      const found = total(afterCrash(folders[0]!))
      expect(found).toBeGreaterThanOrEqual(n + 1)
      expect(found).toBeLessThanOrEqual(n + 1 + 2 * Math.max(64, 2 * exits))
    }
  }
  await outbox.close()
  expect(total(open(folders[0]!))).toBe(exits)
})

test('an exit of a stored record reserves nothing', async () => {
  const outbox = open(folders[0]!)
  outbox.onDelivered(record(), 'oem-cloud')
  expect(total(afterCrash(folders[0]!))).toBe(0)
  await outbox.close()
  expect(total(open(folders[0]!))).toBe(1)
})
