/**
 * A whole gateway with a bridge: what goes to the cloud, what a withdrawal takes back from it, and that a cloud that is away holds
 * up nobody else. The rules are the shipped ones; the planning output also goes to the cloud.
 */
import { afterEach, describe, expect, it } from 'vitest'
import { acknowledge, Cloud, type CloudOptions, type Line } from '../outlet/cloud.ts'
import { decode, Folder, Stage, until, type Terminal } from './stage.ts'

const LYON = { lat_e7: 457_640_430, lon_e7: 48_356_590 }

const open: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

/** Folder and gateway file for a cloud; the gateway may be started several times on it. */
function folderFor(cloud: Cloud): Folder {
  const folder = new Folder()
  folder.edit('rules/awp.yaml', (text) => text.replace('out/planning/{stream}/{machine_id}", qos: 1, via: [local]', 'out/planning/{stream}/{machine_id}", qos: 1, via: [local, cloud]'))
  folder.edit('gateway.yaml', (text) => text.replace('bridges: {}', `bridges: { cloud: { recipient: site-planner, url: "${cloud.url}", window: 8 } }`))
  return folder
}

async function stageFor(options: CloudOptions = {}): Promise<{ cloud: Cloud; stage: Stage; terminal: Terminal }> {
  const cloud = await Cloud.open(options)
  open.push(() => cloud.stop())
  const stage = await Stage.open({ folder: folderFor(cloud) })
  open.push(() => stage.close())
  const terminal = await stage.terminal('SN-1001')
  await stage.consent('op-anna', 'granted', 'improve.statistics')
  await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
  return { cloud, stage, terminal }
}

const status = (terminal: Terminal): Promise<void> => terminal.send('status', { time_ms: Date.now(), operator_id: 'A-1001', ...LYON, fix: 3, key_on: true, soc_pct_x10: 825 })

describe('a gateway with a bridge', () => {
  it('sends the cloud what its output allows, and says so', async () => {
    const { cloud, stage, terminal } = await stageFor()
    const before = cloud.got.length
    await status(terminal)
    await until(() => cloud.got.length > before, 'the cloud')
    const { topic, payload, user } = cloud.got.at(-1) as Cloud['got'][number]
    expect(topic).toMatch(/^out\/planning\/status\/[\w-]{22}$/)
    expect(decode('status', payload)).not.toHaveProperty('operator_id')
    expect(user).toMatchObject({ 'parapet-purpose': 'improve.statistics' })
    expect(user['parapet-id']).toMatch(/^[0-9a-f]{32}$/)
    await stage.drained()
    expect(stage.gateway.control.status().bridges).toEqual([{ name: 'cloud', recipient: 'site-planner', connected: true, waiting: 0 }])
    const counters = await stage.counters()
    expect(counters.get('parapet_bridge_connected{bridge="cloud"}')).toBe(1)
    expect(counters.get('parapet_bridge_acked_total{bridge="cloud"}')).toBe(cloud.got.length)
    expect(cloud.lines[0]?.connect.clientId).toBe('depot-7-cloud')
  })

  it('serves everybody else while the cloud is away, and the cloud when it is back', async () => {
    const { cloud, stage, terminal } = await stageFor()
    await until(() => stage.gateway.control.status().bridges[0]?.connected === true, 'the connection')
    await stage.drained()
    await cloud.stop()
    const planner = await stage.recipient('site-planner', ['out/planning/+/+'])
    const before = cloud.got.length
    for (let n = 0; n < 20; n++) await status(terminal)
    await until(() => planner.got.length === 20, 'the local recipient')
    const health = stage.gateway.control.health()
    expect(health.ready).toBe(true)
    expect(health.reasons.find(({ code }) => code === 'BRIDGE-DOWN')).toMatchObject({ severity: 'warning', text: expect.stringMatching(/^The bridge cloud is not connected since 20/) })
    expect(stage.gateway.control.status().bridges[0]).toMatchObject({ connected: false, waiting: 20 })
    await cloud.start()
    await until(() => cloud.got.length === before + 20, 'the cloud', 10_000)
    expect(cloud.got.slice(before).map(({ payload }) => payload)).toEqual(planner.got.map(({ payload }) => payload))
    await stage.drained()
    expect(stage.gateway.control.health().reasons).toEqual([])
  }, 15_000)

  it('a withdrawal takes back what the cloud has not acknowledged, and its receipt counts what was out', async () => {
    const { cloud, stage, terminal } = await stageFor({ answer: () => undefined })
    const already = cloud.got.length
    for (let n = 0; n < 20; n++) await status(terminal)
    await until(() => cloud.got.length === 8, 'the window')
    const [receipt] = await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    expect(receipt?.on_the_wire).toBe(8)
    expect((receipt?.purged ?? 0) + (receipt?.swapped ?? 0)).toBeGreaterThanOrEqual(20)
    const fine = new Set(cloud.got.map(({ payload }) => payload.toString('hex')))
    cloud.answer = () => 0
    await stage.drained()
    // What comes over the next connection is what needs no yes, if anything.
    for (const { payload, connection } of cloud.got) if (connection > 1) expect(fine.has(payload.toString('hex'))).toBe(false)
    expect(already).toBeLessThanOrEqual(8)
  })

  it('a stop waits for what is on the way; the next start goes on with the rest', async () => {
    const { cloud, stage, terminal } = await stageFor({
      answer: (arrived, _nth, line: Line) => {
        setTimeout(() => acknowledge(line, arrived), 5)
        return undefined
      },
    })
    for (let n = 0; n < 30; n++) await status(terminal)
    await stage.stop()
    const again = await Stage.open({ folder: stage.folder })
    open.push(() => again.stop())
    await again.drained()
    const ids = cloud.got.map(({ user }) => user['parapet-id'])
    expect([new Set(ids).size, ids.length]).toEqual([ids.length, ids.length])
    expect(ids.length).toBeGreaterThanOrEqual(30)
  })

  /** Of every name, id, card, topic and text that came in: nothing over the bridge, in the log, in metrics or in what needs no privacy role. */
  it.each([['MQTT 5', 5, ''], ['an envelope in 3.1.1', 4, ', protocol: 4, envelope: true'], ['batches', 5, ', batch: { messages: 4, within: 50ms, compress: zstd }']] as const)('shows nobody what came in: %s', async (_, protocol, more) => {
    const cloud = await Cloud.open({ protocol, answer: (_arrived, nth) => (protocol === 5 && nth === 2 ? 0x87 : 0) })
    open.push(() => cloud.stop())
    const folder = folderFor(cloud)
    if (more !== '') folder.edit('gateway.yaml', (text) => text.replace('window: 8', `window: 8${more}`))
    folder.edit('rules/awp.yaml', (text) => text.replace('        require: [position]\n', '        require: [position]\n        emit: { every: 1s, hold: true }\n'))
    folder.edit('machines.yaml', (text) => `${text}SN-CANARY-7f3a: { fleet: demo, model: CANARY-26, labels: { site: CANARY-yard }, country: FR, operator_collection: on, holder: CANARY-rental }\n`)
    folder.edit('operators.yaml', (text) => `${text}- { id: op-CANARY, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["CARD-CANARY-5b2e"] }\n`)
    const stage = await Stage.open({ folder })
    open.push(() => stage.close())
    const terminal = await stage.terminal('SN-CANARY-7f3a', { clientId: 'CANARY-modem' })
    const message = (): Record<string, unknown> => ({ time_ms: Date.now(), operator_id: 'CARD-CANARY-5b2e', ...LYON, fix: 3, key_on: true, soc_pct_x10: 825, site_code: 'CANARY-site', display_text: 'Bonjour CANARY' })
    await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'CARD-CANARY-5b2e', display_name: 'A. CANARY' })
    await terminal.send('consent', { time_ms: Date.now(), operator_id: 'CARD-CANARY-5b2e', purpose: 'improve.statistics', choice: 'GRANT', policy_id: 'awp-2026-11', evidence: Buffer.from('CANARY') })
    for (let n = 0; n < 6; n++) {
      await terminal.send('status', message())
      await new Promise((resolve) => void setTimeout(resolve, 350))
    }
    await until(() => cloud.got.length >= (protocol === 5 ? 2 : 1), 'the cloud', 8_000)
    await terminal.send('consent', { time_ms: Date.now(), operator_id: 'CARD-CANARY-5b2e', purpose: 'improve.statistics', choice: 'WITHDRAW' })
    const token = await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: 'tuner', role: 'engineer' })
    const seen: Readonly<Record<string, string>> = {
      'what the cloud heard': Buffer.concat(cloud.heard).toString('latin1'),
      'the log': stage.logged.join(''),
      metrics: [...await stage.counters()].join(),
      'what an engineer is told': JSON.stringify(await Promise.all(['/v1/status', '/v1/outputs', '/v1/rules', '/readyz'].map((path) => stage.admin<unknown>('GET', path, undefined, token.token)))),
    }
    for (const [where, text] of Object.entries(seen)) {
      expect(text.length, where).toBeGreaterThan(100)
      expect(text, where).not.toMatch(/CANARY/)
    }
  }, 30_000)
})
