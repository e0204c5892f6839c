/**
 * A running depot gets a new root key: what waits still arrives, pseudonyms stay as they are, and change only when that was asked for.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { loadRootKey, rotateRootKey } from '../../src/consent/root.ts'
import { decode, Folder, Stage, until } from './stage.ts'

let folder: Folder | undefined
afterEach(() => folder?.remove())

describe('parapet keys rotate', () => {
  it('takes effect with the next start; what waited arrives, pseudonyms stay, and change with --pseudonyms', async () => {
    folder = new Folder()
    const key = join(folder.data, 'root.key')
    const names: string[] = []
    /** One message while the recipient is away, one start later it comes for it. */
    async function round(rotate: () => void): Promise<void> {
      const first = await Stage.open({ folder: folder! })
      const early = await first.recipient('oem-cloud', ['out/service/+/+'], { clean: false, clientId: 'cloud' })
      const terminal = await first.terminal('SN-1001')
      const arrivedBefore = early.got.length
      await terminal.send('status', { time_ms: Date.now(), key_on: true, soc_pct_x10: 833 })
      await until(() => early.got.length > arrivedBefore, 'the message')
      names.push(String(decode('status', early.got.at(-1)!.payload as Buffer)['machine_id']))
      early.client.end(true)
      await terminal.send('status', { time_ms: Date.now(), key_on: true, soc_pct_x10: 801 })
      await first.stop()
      rotate()
      const second = await Stage.open({ folder: folder! })
      const late = await second.recipient('oem-cloud', [], { clean: false, clientId: 'cloud' })
      await until(() => late.got.some(({ payload }) => decode('status', payload as Buffer)['soc_pct_x10'] === 801), 'what waited')
      expect(second.logged.join('').includes('a new root key is in use')).toBe(true)
      await second.stop()
      expect(loadRootKey(key).former).toEqual([])
      // Keys are in no log line.
      for (const line of readFileSync(key, 'utf8').split('\n').filter((one) => one !== '' && !one.startsWith('#'))) expect(second.logged.join('')).not.toContain(line.split(' ').at(-1))
    }
    await round(() => void rotateRootKey(key))
    await round(() => void rotateRootKey(key, { pseudonyms: true }))
    await round(() => void rotateRootKey(key))
    expect(names[1]).toBe(names[0])
    expect(names[2]).not.toBe(names[1])
    expect(names.every((name) => name.length === 22)).toBe(true)
  }, 60_000)
})
