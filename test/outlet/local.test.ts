import { describe, expect, test } from 'vitest'
import type { OperatorId, OutputId } from '../../src/domain/ids.ts'
import type { OutboxRecord } from '../../src/domain/ports.ts'
import { localOutlet } from '../../src/outlet/local.ts'
import type { LocalPort } from '../../src/outlet/local.ts'
import { record } from '../contract/records.ts'

/** A broker that answers when told to. */
function broker(): LocalPort & { readonly open: { record: OutboxRecord; answer: (error: Error | undefined, deliveredTo: number) => void }[] } {
  const open: { record: OutboxRecord; answer: (error: Error | undefined, deliveredTo: number) => void }[] = []
  return { open, publish: (record, answer) => void open.push({ record, answer }) }
}

/** A record as an outbox hands it out: its revision moves on when it is purged. */
const tracked = (of: Parameters<typeof record>[0] = {}): OutboxRecord & { revision: number } => Object.assign(record(of), { revision: 0 })

describe('the local outlet', () => {
  test.each([
    ['three subscribers have it', undefined, 3, 'done', 0],
    ['nobody subscribes: done, and counted', undefined, 0, 'done', 1],
    ['the broker failed: not done', new Error('queue full'), 0, 'queue full', 0],
  ])('%s', (_, error, deliveredTo, expected, nobody) => {
    const port = broker()
    let counted = 0
    const outlet = localOutlet(port, { onNoSubscriber: () => counted++ })
    const answers: string[] = []
    outlet.send(record(), (result) => answers.push(result?.message ?? 'done'))
    expect(answers).toEqual([])
    port.open[0]!.answer(error, deliveredTo)
    port.open[0]!.answer(undefined, 1)
    expect([answers, counted]).toEqual([[expected], nobody])
  })

  test('a broker that throws has failed', () => {
    const outlet = localOutlet({ publish: () => { throw new Error('closed') } })
    const answers: (string | undefined)[] = []
    outlet.send(record(), (error) => answers.push(error?.message))
    expect(answers).toEqual(['closed'])
  })

  test('cut lets go of what was purged or swapped, and of nothing else', async () => {
    const port = broker()
    const outlet = localOutlet(port)
    const answers: string[] = []
    const [purged, kept] = [tracked(), tracked()]
    outlet.send(purged, (error) => answers.push(`purged: ${error?.message ?? 'done'}`))
    outlet.send(kept, (error) => answers.push(`kept: ${error?.message ?? 'done'}`))
    purged.revision++
    expect(await outlet.cut({ subject: 'op-ada' as OperatorId })).toEqual({ dropped: 0, onTheWire: 1 })
    expect(answers).toEqual(['purged: Cut by a purge.'])
    for (const { answer } of port.open) answer(undefined, 1)
    expect(answers).toEqual(['purged: Cut by a purge.', 'kept: done'])
  })

  test.each([
    ['of the person', {}, 1],
    ['of another person', { subjects: ['op-bob' as OperatorId] }, 0],
    ['of another output', { output: 'safety' as OutputId }, 0],
  ])('QoS 0 records %s, which no outbox tracks, are cut by the selector alone', async (_, of, expected) => {
    const outlet = localOutlet(broker())
    outlet.send(record({ qos: 0, ...of }), () => undefined)
    expect((await outlet.cut({ subject: 'op-ada' as OperatorId, output: 'planner' as OutputId })).onTheWire).toBe(expected)
  })

  test('a broker that can look into its queues says itself what it dropped', async () => {
    const port: LocalPort = { ...broker(), cut: async () => ({ dropped: 4, onTheWire: 2 }) }
    expect(await localOutlet(port).cut({ subject: 'op-ada' as OperatorId })).toEqual({ dropped: 4, onTheWire: 2 })
  })

  test('close gives back what has no answer', async () => {
    const outlet = localOutlet(broker())
    const answers: (string | undefined)[] = []
    outlet.send(record(), (error) => answers.push(error?.message))
    await outlet.close()
    expect(answers).toEqual(['The outlet is closed.'])
  })
})
