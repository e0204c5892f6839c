/**
 * `minimiser: interpreted` is the way out when generated functions are at fault: then none may be made, not even to try the rules. Here
 * every attempt to make one throws.
 */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Stage, encode, OWN_TOPICS } from './stage.ts'

vi.mock('../../src/minimise/emit.ts', async (original) => ({
  ...(await original<typeof import('../../src/minimise/emit.ts')>()),
  emit: () => {
    throw new Error('a fault of the emitter')
  },
}))

describe('when no function can be generated', () => {
  let stage: Stage | undefined
  afterEach(() => stage?.close())

  it('the readable engine serves alone', async () => {
    stage = await Stage.open({ set: ['minimiser=interpreted'] })
    const recipient = await stage.recipient('oem-cloud', [OWN_TOPICS['oem-cloud'] as string])
    const terminal = await stage.terminal('SN-1001')
    await terminal.send('status', encode('status', { machine_id: 'SN-1001', time_ms: Date.now(), soc_pct_x10: 833, key_on: true }))
    await stage.settled([recipient])
    expect(recipient.takeSaid().map(({ stream, message }) => [stream, message.soc_pct_x10])).toEqual([['status', 833]])
  })

  it('otherwise the rules are refused, and nothing is forwarded', async () => {
    stage = await Stage.open({ set: ['minimiser=compiled'] })
    expect((await stage.admin<{ ready: boolean }>('GET', '/readyz'))).toMatchObject({ ready: false })
    const recipient = await stage.recipient('oem-cloud', []).catch(() => undefined)
    const terminal = await stage.terminal('SN-1001')
    await terminal.send('status', { time_ms: Date.now(), soc_pct_x10: 833, key_on: true })
    expect(recipient?.got ?? []).toEqual([])
    expect((await stage.counters()).get('parapet_messages_refused_total{reason="no_rules"}')).toBe(1)
  })
})
