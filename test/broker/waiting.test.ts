/** What a session has not acknowledged, as the engine asks for it when the session comes back. */
import { expect, test } from 'vitest'
import { Handovers } from '../../src/broker/handover.ts'
import { OutgoingQueue, type QueuedPacket } from '../../src/broker/waiting.ts'

/** Messages 1, 2, … in order; of those named the ids are known. */
function queueOf(messages: number, numbered: readonly number[]): OutgoingQueue {
  const queue = new OutgoingQueue({ max: 100, maxBytes: 100_000, handovers: new Handovers(), store: undefined, count: () => undefined, lost: () => undefined }, 'planner')
  for (let n = 1; n <= messages; n++) queue.push(packet(n))
  for (const n of numbered) queue.update({ ...packet(n), messageId: 100 + n })
  return queue
}

function packet(n: number): QueuedPacket {
  return { cmd: 'publish', topic: 'out/o/m', payload: Buffer.from(String(n)), qos: 1, retain: false, dup: false, brokerId: 'b', brokerCounter: n } as QueuedPacket
}

const textOf = ({ payload, dup }: QueuedPacket): string => `${String(payload)}${dup ? ' again' : ''}`

test.each([
  ['nothing was sent', [], [], ['1', '2', '3', '4']],
  ['all was sent', [1, 2, 3, 4], ['1 again', '2 again', '3 again', '4 again'], []],
  ['the first were sent', [1, 2], ['1 again', '2 again'], ['3', '4']],
  // After a crash: 1 and 2 were written down while the session was away, 3 and 4 when they had not been acknowledged for a while.
  ['the ids of the first are not known any more', [3, 4], ['1', '2', '3 again', '4 again'], []],
  ['the ids of some in between are not', [1, 3], ['1 again', '2', '3 again'], ['4']],
] as const)('%s: in order, whatever is known of it', (_, numbered, sentBefore, then) => {
  const queue = queueOf(4, numbered)
  const sent = [...queue.sent()].map((one) => {
    const text = textOf(one)
    // The engine numbers what it sends.
    if (one.messageId === undefined) queue.update({ ...one, messageId: 200 + Number(one.payload) })
    return text
  })
  expect(sent).toEqual(sentBefore)
  expect([...queue.unsent()].map(textOf)).toEqual(then)
})
