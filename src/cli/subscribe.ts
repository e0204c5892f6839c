/**
 * `parapet subscribe`: what a recipient gets, decoded, until Ctrl-C. A recipient's own program is an ordinary MQTT client; this one
 * knows the rules file, and so which message type lies behind a topic.
 */
import { GatewayError } from '../domain/errors.ts'
import type { Policy } from '../domain/policy.ts'
import { UsageError } from './command.ts'
import type { Args, Command } from './command.ts'
import { openRules, PROTO_OPTION } from './rules-source.ts'

export const command: Command = {
  name: 'subscribe',
  summary: 'show what a recipient gets, decoded',
  usage: ['RECIPIENT [--rules config/rules/awp.yaml] [--url mqtt://127.0.0.1:1884] [--count N] [--seconds S]'],
  words: [1, 1],
  options: [
    { name: 'rules', arg: 'FILE', text: 'the rules file, default config/rules/awp.yaml' },
    { name: 'url', arg: 'URL', text: 'listener for recipients, default mqtt://127.0.0.1:1884' },
    { name: 'count', arg: 'N', text: 'ends after so many messages' },
    { name: 'seconds', arg: 'S', text: 'ends after so long' },
    PROTO_OPTION,
  ],
  notes: 'Logs in with the recipient\'s id as user name and without a password, which a loopback listener admits; the password of another one is read from the environment variable PARAPET_PASSWORD.',
  async run(args, io) {
    const recipient = args.words[0] ?? ''
    const most = numberOf(args, 'count', Number.POSITIVE_INFINITY)
    const seconds = numberOf(args, 'seconds', undefined)
    const { policy, schemas } = openRules(args, io, args.get('rules') ?? 'config/rules/awp.yaml')
    const topics = topicsOf(policy, recipient)
    if (topics.length === 0) throw new UsageError(`No output with "via: [local]" goes to "${recipient}". There are ${[...new Set(policy.outputs.map((output) => output.recipient.id))].join(', ')}.`)
    const { connectAsync } = await import('mqtt')
    const url = args.get('url') ?? 'mqtt://127.0.0.1:1884'
    const password = io.env.PARAPET_PASSWORD
    const client = await connectAsync(url, { clientId: `${recipient}-show`, username: recipient, reconnectPeriod: 0, protocolVersion: 4, ...(password === undefined ? {} : { password }) }).catch((error: unknown) => {
      throw new GatewayError('NOT-CONNECTED', `The gateway at ${url} did not let "${recipient}" in: ${(error as Error).message}.`, (error as { code?: number }).code === 5 || (error as { code?: number }).code === 4 ? `It has no such log-in: add "${recipient}: {}" to config/recipients.yaml, or set PARAPET_PASSWORD.` : 'Start it with npm start, or name its listener with --url.')
    })
    const ended = Promise.withResolvers<number>()
    let seen = 0
    client.on('message', (topic, payload) => {
      const found = topics.find(({ pattern }) => pattern.test(topic))
      if (found === undefined || seen >= most) return
      io.stdout.write(`${topic}  ${payload.length} bytes  ${JSON.stringify(schemas.decode(found.message, payload))}\n`)
      if (++seen >= most) ended.resolve(0)
    })
    client.on('close', () => ended.resolve(1))
    await client.subscribeAsync([...new Set(topics.map(({ filter }) => filter))], { qos: 1 })
    if (seconds !== undefined) setTimeout(() => ended.resolve(0), seconds * 1_000).unref()
    process.once('SIGINT', () => ended.resolve(0))
    const code = await ended.promise
    await client.endAsync(true)
    return code
  },
}

function numberOf<Otherwise>(args: Args, option: string, otherwise: Otherwise): number | Otherwise {
  const text = args.get(option)
  if (text === undefined) return otherwise
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new UsageError(`--${option} is a whole number from 1 to 999999.`)
  return Number(text)
}

/** Filters of a recipient's own outputs, and which message type lies behind each topic. */
function topicsOf(policy: Policy, recipient: string): { readonly filter: string; readonly pattern: RegExp; readonly message: string }[] {
  return policy.outputs.filter((output) => output.recipient.id === recipient && output.to.via.includes('local')).flatMap((output) => output.streams.map(({ stream }) => {
    const levels = output.to.topic.replaceAll('{stream}', stream.id).split('/')
    const pattern = levels.map((level) => level.split(/\{[^}]*\}/).map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^/]+')).join('/')
    return { filter: levels.map((level) => (level.includes('{') ? '+' : level)).join('/'), pattern: new RegExp(`^${pattern}$`), message: stream.message.name }
  }))
}
