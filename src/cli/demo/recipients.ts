/**
 * One subscriber per recipient, as a cloud would connect: it asks for the topics of its own outputs and decodes what comes.
 */
import mqtt from 'mqtt'
import { GatewayError } from '../../domain/errors.ts'
import type { Schemas } from '../../minimise/descriptor.ts'
import { STREAMS } from '../simulate/machine.ts'
import type { StreamName } from '../simulate/machine.ts'
import type { Received } from './scene.ts'

export interface OutputTopic {
  readonly id: string
  readonly recipient: string
  /** Template, `out/service/{stream}/{machine_id}`. */
  readonly topic: string
}

export interface Subscribers {
  close(): Promise<void>
}

/**
 * Connects and subscribes. Errors: REFUSED, the gateway does not grant a recipient its own topics.
 * @param url  `mqtt://HOST:PORT` of the recipients' listener
 */
export async function subscribeAll(url: string, outputs: readonly OutputTopic[], schemas: Schemas, onReceived: (received: Received) => void): Promise<Subscribers> {
  const clients = await Promise.all([...new Set(outputs.map(({ recipient }) => recipient))].map(async (recipient) => {
    const own = outputs.filter((output) => output.recipient === recipient)
    const client = await mqtt.connectAsync(url, { protocolVersion: 4, clientId: `demo-${recipient}`, username: recipient, clean: true, reconnectPeriod: 1000 })
    client.on('error', () => {})
    client.on('message', (topic, payload) => {
      const received = understand(topic, payload, own, schemas)
      if (received !== undefined) onReceived({ ...received, recipient, bytes: payload.length, atMs: Date.now() })
    })
    const granted = await client.subscribeAsync(own.map(({ topic }) => filterOf(topic)), { qos: 1 })
    if (granted.some(({ qos }) => qos > 2)) throw new GatewayError('REFUSED', `The gateway does not let ${recipient} subscribe to its own outputs.`)
    return client
  }))
  return {
    close: async () => {
      await Promise.all(clients.map((client) => client.endAsync(true)))
    },
  }
}

/** A placeholder is one level. */
export function filterOf(template: string): string {
  return template.split('/').map((level) => (level.includes('{') ? '+' : level)).join('/')
}

/** Which output and stream a topic belongs to, and what the payload says. */
export function understand(topic: string, payload: Uint8Array, outputs: readonly OutputTopic[], schemas: Schemas): { readonly output: string; readonly stream: StreamName; readonly body: Record<string, unknown> } | undefined {
  const levels = topic.split('/')
  for (const { id, topic: template } of outputs) {
    const parts = template.split('/')
    if (parts.length !== levels.length || !parts.every((part, at) => part.includes('{') || part === levels[at])) continue
    const stream = levels[parts.indexOf('{stream}')] as StreamName
    if (!Object.hasOwn(STREAMS, stream)) continue
    return { output: id, stream, body: schemas.decode(STREAMS[stream].type, payload) }
  }
  return undefined
}
