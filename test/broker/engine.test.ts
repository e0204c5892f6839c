/** The engine has no router: shown with hooks that allow everything, so that nothing but its make-up can stop a message. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { EmptyPersistence, createEngine } from '../../src/broker/engine.ts'
import { RawClient, pause, publishPacket } from './stage.ts'

class Recorder extends EmptyPersistence {
  readonly calls: string[] = []

  override subscriptionsByTopic(): Promise<readonly never[]> {
    this.calls.push('subscriptionsByTopic')
    return super.subscriptionsByTopic()
  }

  override storeRetained(): Promise<void> {
    this.calls.push('storeRetained')
    return super.storeRetained()
  }

  override outgoingEnqueueCombi(...given: Parameters<EmptyPersistence['outgoingEnqueueCombi']>): Promise<void> {
    this.calls.push('outgoingEnqueueCombi')
    return super.outgoingEnqueueCombi(...given)
  }
}

it('moves nothing from one client to another, keeps nothing, and tells nobody about anybody', async () => {
  const persistence = new Recorder()
  const engine = await createEngine({ persistence, onError: (error) => { throw error } })
  const server = createServer((socket) => void engine.handle(socket))
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo

  using listening = new RawClient(port)
  await listening.connect('a', { clean: false })
  listening.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 2 }, { topic: '$SYS/#', qos: 1 }, { topic: 'x/+', qos: 0 }] })
  expect(await listening.next('suback')).toMatchObject({ granted: [2, 1, 0] })

  using sending = new RawClient(port)
  await sending.connect('b', { will: { topic: 'x/will', payload: Buffer.from('w'), qos: 1, retain: true } })
  for (const qos of [0, 1, 2] as const) {
    for (const retain of [false, true]) sending.send(publishPacket('x/y', 'm', qos, 10 + qos * 2 + Number(retain), { retain }))
  }
  await sending.next('puback')
  await sending.next('pubrec')
  sending.destroy()

  using late = new RawClient(port)
  await late.connect('c')
  late.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: '#', qos: 2 }, { topic: '$SYS/#', qos: 2 }] })
  await late.next('suback')
  await pause(50)
  expect([listening.packets, late.packets, persistence.calls]).toEqual([[], [], []])

  await new Promise<void>((resolve) => engine.close(resolve))
  server.close()
})
