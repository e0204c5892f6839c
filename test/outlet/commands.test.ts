/** Commands in the outbox's file: they outlive the process until they are acknowledged. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { MachineId } from '../../src/domain/ids.ts'
import type { StoredCommand } from '../../src/domain/ports.ts'
import { openOutbox } from '../../src/outlet/outbox.ts'
import type { DurableOutbox } from '../../src/outlet/outbox.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function place(): string {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-commands-'))
  folders.push(folder)
  return join(folder, 'outbox.db')
}

const KEY = 'SN-1/box'
const FILTERS = new Map<string, 0 | 1 | 2>([['down/north/SN-1/#', 1]])
const command = (at: number, more: Partial<StoredCommand> = {}): StoredCommand => ({
  place: at, topic: 'down/north/SN-1/settings', payload: Buffer.from(`command ${at}`), expiresAtMs: 1_000_000, messageId: undefined, ...more,
})

const saved = (outbox: DurableOutbox): Promise<Error | undefined> => new Promise((resolve) => {
  outbox.commands.save({ key: KEY, machine: 'SN-1' as MachineId, filters: FILTERS }, resolve)
})
const put = (outbox: DurableOutbox, one: StoredCommand, key = KEY): Promise<Error | undefined> => new Promise((resolve) => {
  outbox.commands.put(key, one, resolve)
})
const left = (outbox: DurableOutbox): string[] => outbox.commands.terminals().flatMap(({ key, filters, waiting }) => waiting.map(({ place: at, payload, messageId }) => `${key} ${[...filters.keys()].join()} ${at} ${String(payload)} ${messageId ?? '-'}`))


describe('commands that wait', () => {
  it('are there after a restart, in their order, with the filters of their session', async () => {
    const file = place()
    const outbox = openOutbox({ file })
    expect(await saved(outbox)).toBeUndefined()
    for (const at of [1, 2, 3]) expect(await put(outbox, command(at))).toBeUndefined()
    outbox.commands.remove(KEY, 2)
    outbox.commands.put(KEY, command(3, { messageId: 77 }))
    await outbox.close()
    const again = openOutbox({ file })
    expect(left(again)).toEqual(['SN-1/box down/north/SN-1/# 1 command 1 -', 'SN-1/box down/north/SN-1/# 3 command 3 77'])
    expect(again.commands.terminals()).toEqual([])
    again.commands.forget(KEY)
    await again.close()
    const last = openOutbox({ file })
    expect([left(last), last.commands.size]).toEqual([[], 0])
    await last.close()
  })

  it('one that is acknowledged before the next commit never touches the disk', async () => {
    const outbox = openOutbox({ file: place() })
    await saved(outbox)
    const commits = outbox.stats.commits
    outbox.commands.put(KEY, command(1))
    outbox.commands.remove(KEY, 1)
    expect([outbox.commands.isDue, outbox.stats.commits]).toEqual([false, commits])
    await outbox.close()
  })

  it('a session that was never stored is forgotten without a word to the disk', async () => {
    const outbox = openOutbox({ file: place() })
    outbox.commands.forget('SN-9/box')
    expect(outbox.commands.isDue).toBe(false)
    await outbox.close()
  })

  it('go with their session, and without one nobody keeps them', async () => {
    const file = place()
    const outbox = openOutbox({ file })
    await saved(outbox)
    await put(outbox, command(1))
    await put(outbox, command(1), 'SN-2/box')
    await outbox.close()
    const again = openOutbox({ file })
    expect(left(again)).toEqual(['SN-1/box down/north/SN-1/# 1 command 1 -'])
    again.commands.forget(KEY)
    await again.close()
    const last = new DatabaseSync(file)
    expect(last.prepare('SELECT count(*) AS n FROM commands').get()).toEqual({ n: 0 })
    last.close()
  })

  it('what waited for a session that ended does not wait for the next one of its name', async () => {
    const file = place()
    const outbox = openOutbox({ file })
    await saved(outbox)
    // One that is stored, and one that is not; and at once the next session under the same name.
    await put(outbox, command(1))
    outbox.commands.put(KEY, command(2))
    outbox.commands.forget(KEY)
    await saved(outbox)
    await outbox.close()
    const again = openOutbox({ file })
    expect([again.commands.terminals().map(({ waiting }) => waiting), again.commands.size]).toEqual([[[]], 0])
    await again.close()
  })

  it('a disk that is full: who waits hears of it, and what was promised before stays', async () => {
    const file = place()
    const outbox = openOutbox({ file, filePages: 90, probeMs: 60_000 })
    await saved(outbox)
    let promised = 0
    let failure: Error | undefined
    for (let at = 1; at <= 40 && failure === undefined; at++) {
      failure = await put(outbox, command(at, { payload: Buffer.alloc(30_000, at) }))
      if (failure === undefined) promised = at
      else outbox.commands.remove(KEY, at)
    }
    expect([promised > 0, String(failure), outbox.healthy]).toEqual([true, expect.stringContaining('disk'), false])
    await outbox.close()
    const again = openOutbox({ file })
    expect(again.commands.terminals().flatMap(({ waiting }) => waiting.map(({ place: at }) => at))).toEqual(Array.from({ length: promised }, (_, index) => index + 1))
    await again.close()
  })

  it('damaged ones go, counted; the others stay', async () => {
    const file = place()
    const outbox = openOutbox({ file })
    await saved(outbox)
    for (const at of [1, 2, 3]) await put(outbox, command(at))
    await outbox.close()
    const db = new DatabaseSync(file)
    db.exec("UPDATE commands SET body = zeroblob(40) WHERE place = 1; UPDATE commands SET place = 9 WHERE place = 2")
    db.close()
    const again = openOutbox({ file })
    expect(left(again)).toEqual(['SN-1/box down/north/SN-1/# 3 command 3 -'])
    expect([again.commands.damaged, again.stats.damaged]).toEqual([2, 2])
    await again.close()
  })

  it('nobody is promised anything once the outbox is closed', async () => {
    const outbox = openOutbox({ file: place() })
    await outbox.close()
    expect(String(await put(outbox, command(1)))).toContain('closed')
  })

  it('whatever comes and goes: what was promised and not taken back is there after a restart', async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant('put' as const), at: fc.nat(7) }), fc.record({ do: fc.constant('number' as const), at: fc.nat(7) }),
      fc.record({ do: fc.constant('remove' as const), at: fc.nat(7) }), fc.record({ do: fc.constant('commit' as const), at: fc.constant(0) }),
    )
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const file = place()
      const outbox = openOutbox({ file, sweepMs: 0 })
      await saved(outbox)
      /** place -> message id of what must be there. */
      const model = new Map<number, number | undefined>()
      const promises: Promise<unknown>[] = []
      for (const [nth, { do: what, at }] of steps.entries()) {
        if (what === 'commit') await Promise.all(promises.splice(0))
        else if (what === 'remove') {
          outbox.commands.remove(KEY, at)
          model.delete(at)
        } else if (what === 'number') {
          if (!model.has(at)) continue
          outbox.commands.put(KEY, command(at, { messageId: nth + 1 }))
          model.set(at, nth + 1)
        } else {
          promises.push(put(outbox, command(at)))
          model.set(at, undefined)
        }
      }
      await outbox.close()
      const again = openOutbox({ file, sweepMs: 0 })
      const found = new Map(again.commands.terminals().flatMap(({ waiting }) => waiting).map(({ place: at, messageId }) => [at, messageId]))
      expect(found).toEqual(new Map([...model].toSorted(([one], [other]) => one - other)))
      await again.close()
    }), { numRuns: Number(process.env['PARAPET_RUNS'] ?? 20) })
  })
})
