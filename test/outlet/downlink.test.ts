/** Commands from a cloud: a broker that does what the test says (cloud.ts), in either version of MQTT, and what the gateway makes of it. */
import { afterEach, describe, expect, test } from 'vitest'
import type { RecipientId } from '../../src/domain/ids.ts'
import type { Command } from '../../src/domain/ports.ts'
import { createCloudDownlink } from '../../src/outlet/downlink.ts'
import type { CloudDownlink, CloudDownlinkOptions } from '../../src/outlet/downlink.ts'
import { pause, until } from '../e2e/stage.ts'
import { Cloud } from './cloud.ts'
import type { CloudOptions } from './cloud.ts'

const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close()
})

const QUICK = { backOffMs: 10, backOffMaxMs: 40, stableMs: 10_000, connectMs: 1_000 }
const FILTERS = ['down/+/+/settings/#', 'down/north/+/clock']

interface Scene {
  readonly cloud: Cloud
  readonly intake: CloudDownlink
  readonly commands: Command[]
  /** The answers that are still owed. */
  readonly owed: ((error?: Error) => void)[]
  /** Sends one to the newest connection. */
  readonly send: (text: string, more?: { topic?: string; qos?: 0 | 1 | 2; id?: number; retain?: boolean; dup?: boolean }) => void
  readonly lines: string[]
}

async function scene(options: CloudOptions = {}, more: Partial<CloudDownlinkOptions> = {}, answersAtOnce = true): Promise<Scene> {
  const cloud = await Cloud.open(options)
  open.push(() => cloud.stop())
  const commands: Command[] = []
  const owed: ((error?: Error) => void)[] = []
  const lines: string[] = []
  const say = (text: string, fields?: object): void => void lines.push(`${text} ${JSON.stringify(fields)}`)
  const intake = createCloudDownlink({
    name: 'cloud', url: cloud.url, protocol: options.protocol ?? 5, clientId: 'depot-7-cloud-commands', credentialsFile: undefined, tls: {}, recipient: 'oem-cloud' as RecipientId, filters: FILTERS,
    right: { filters: FILTERS, qos: 1, payloadBytes: 100, ttlMs: 1_000 }, log: { info: say, warn: say }, timing: QUICK,
    take(command, done) {
      commands.push(command)
      if (answersAtOnce) done(undefined)
      else owed.push(done)
    },
    ...more,
  })
  open.push(() => intake.close())
  intake.open()
  return {
    cloud, intake, commands, owed, lines,
    send: (text, { topic = 'down/north/SN-1/settings/x', qos = 1, id = 1, retain = false, dup = false } = {}) => cloud.lines.at(-1)?.send({ cmd: 'publish', topic, payload: text, qos, retain, dup, ...(qos > 0 ? { messageId: id } : {}) }),
  }
}

describe.each([4, 5] as const)('MQTT %i: a cloud with commands', (protocol) => {
  test('is asked for what the gateway file says, with a session that outlives the connection', async () => {
    const { cloud, intake } = await scene({ protocol })
    await until(() => intake.connected, 'the connection')
    expect(cloud.subscribed.map(({ topic, qos, rh }) => [topic, qos, rh])).toEqual(FILTERS.map((topic) => [topic, 1, protocol === 5 ? 2 : undefined]))
    const { clean, clientId, properties } = cloud.lines[0]!.connect
    expect([clean, clientId, (properties?.sessionExpiryInterval ?? 0) > 3_600]).toEqual([false, 'depot-7-cloud-commands', protocol === 5])
    expect(intake.trouble).toBeUndefined()
  })

  test('hears of a command once it was taken, one after the other', async () => {
    const { cloud, intake, send, commands, owed } = await scene({ protocol }, {}, false)
    await until(() => intake.connected, 'the connection')
    for (const id of [1, 2]) send(`c${id}`, { id })
    await until(() => commands.length === 1, 'the first')
    await pause(30)
    expect([cloud.taken, commands.length]).toEqual([[], 1])
    owed.shift()?.()
    await until(() => commands.length === 2, 'the second')
    expect(cloud.taken).toEqual([1])
    owed.shift()?.()
    await until(() => cloud.taken.length === 2, 'the second acknowledgement')
    expect(commands.map(({ from, topic, payload, qos, retain, within }) => [from, topic, String(payload), qos, retain, within])).toEqual([1, 2].map((id) => ['oem-cloud', 'down/north/SN-1/settings/x', `c${id}`, 1, false, FILTERS]))
  })

  test('one that could not be stored is not acknowledged: the connection ends, and it comes again', async () => {
    const { cloud, intake, send, owed, commands } = await scene({ protocol }, {}, false)
    await until(() => intake.connected, 'the connection')
    send('c1')
    await until(() => commands.length === 1, 'the command')
    owed.shift()?.(new Error('the disk refuses'))
    await until(() => cloud.lines.length === 2 && intake.connected, 'the next connection')
    expect(cloud.taken).toEqual([])
    send('c1', { dup: true })
    await until(() => commands.length === 2, 'the command again')
    owed.shift()?.()
    await until(() => cloud.taken.length === 1, 'its acknowledgement')
  })

  test('what comes before SUBACK is taken as well: the session was there already', async () => {
    const { cloud, commands, send } = await scene({ protocol })
    cloud.grant = 1
    await until(() => cloud.lines.length === 1, 'the connection')
    send('early')
    await until(() => cloud.taken.length === 1, 'its acknowledgement')
    expect(commands.map(({ payload }) => String(payload))).toEqual(['early'])
  })

  test('retained and QoS 0 are passed on as what they are', async () => {
    const { intake, send, commands } = await scene({ protocol })
    await until(() => intake.connected, 'the connection')
    send('r', { retain: true })
    send('q', { qos: 0 })
    await until(() => commands.length === 2, 'both')
    expect(commands.map(({ retain, qos }) => [retain, qos])).toEqual([[true, 1], [false, 0]])
  })

  test('that does not let us subscribe is named, and asked again', async () => {
    const { cloud, intake, lines } = await (async () => {
      const made = Cloud.open({ protocol })
      const given = await made
      given.grant = 0x80
      open.push(() => given.stop())
      return scene({ protocol }, { url: given.url }).then((one) => ({ ...one, cloud: given }))
    })()
    await until(() => cloud.lines.length >= 2, 'another attempt')
    expect(intake.connected).toBe(false)
    expect(intake.trouble).toMatchObject({ reason: 'subscription', mend: expect.stringContaining('grant') as string })
    expect(lines.filter((line) => line.includes('subscription')).length).toBe(1)
  })

  test('that sends at QoS 2 what was asked for at QoS 1 is no broker', async () => {
    const { cloud, intake, send, commands } = await scene({ protocol })
    await until(() => intake.connected, 'the connection')
    send('c', { qos: 2 })
    await until(() => cloud.lines.length === 2, 'the next connection')
    expect(commands).toEqual([])
  })

  test('is not sent anything, ever', async () => {
    const { cloud, intake, send, commands } = await scene({ protocol })
    await until(() => intake.connected, 'the connection')
    send('c')
    await until(() => commands.length === 1, 'the command')
    await intake.close()
    expect(cloud.got).toEqual([])
  })

  test('nothing of a command stands in the log', async () => {
    const { cloud, intake, send, lines, owed } = await scene({ protocol }, {}, false)
    await until(() => intake.connected, 'the connection')
    send('canary-4711', { topic: 'down/north/canary-4712/settings/x' })
    await until(() => owed.length === 1, 'the command')
    owed.shift()?.(new Error('canary-4713'))
    await until(() => cloud.lines.length === 2, 'the next connection')
    expect(lines.join('\n')).not.toContain('canary')
    expect(lines.length).toBeGreaterThan(1)
  })
})
