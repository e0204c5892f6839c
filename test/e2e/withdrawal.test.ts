/**
 * A withdrawal is final when it is answered (G4): nothing that it covers comes afterwards, by whatever way it was already under way.
 * The rules are the shipped ones, with a retained planning output and a field of the app that may be large.
 */
import { StatementSync } from 'node:sqlite'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { RawClient } from '../broker/stage.ts'
import { Folder, Stage, encode, pause, until, type Terminal } from './stage.ts'

const LYON = { lat_e7: 457_640_430, lon_e7: 48_356_590 }

let stage: Stage
let terminal: Terminal
const raw: RawClient[] = []

beforeAll(async () => {
  const folder = new Folder()
  folder.edit('rules/awp.yaml', (text) => text
    .replace('keep: [passed, list_version]', 'keep: [passed, list_version, items]')
    .replace('out/planning/{stream}/{machine_id}", qos: 1', 'out/planning/{stream}/{machine_id}", qos: 1, retain: true'))
  stage = await Stage.open({ folder })
  terminal = await stage.terminal('SN-1001')
  await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
})

afterAll(async () => {
  for (const each of raw) each.destroy()
  await stage.close()
})

beforeEach(async () => {
  await stage.consent('op-anna', 'granted', 'improve.statistics', 'personalise')
})

async function subscriber(name: string, clientId: string, filter: string | undefined, clean = true): Promise<RawClient> {
  const made = new RawClient(stage.gateway.addresses.recipients.port)
  raw.push(made)
  expect(await made.connect(name, { clientId, clean })).toBe(0)
  if (filter === undefined) return made
  made.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: filter, qos: 1 }] })
  await made.next('suback')
  return made
}

const published = ({ packets }: RawClient): number => packets.filter(({ cmd }) => cmd === 'publish').length

async function sendStatus(): Promise<void> {
  await terminal.send('status', { time_ms: Date.now(), operator_id: 'A-1001', ...LYON, fix: 3, key_on: true, soc_pct_x10: 825 })
}

describe('after the answer to a withdrawal', () => {
  it('a slow live reader at QoS 1 is reset, and the receipt counts what may have been on the wire', async () => {
    const slow = await subscriber('my-app', 'slow', 'out/app/precheck')
    slow.socket.pause()
    const large = encode('precheck', { machine_id: 'SN-1001', time_ms: Date.now(), operator_id: 'A-1001', passed: true, items: Array.from({ length: 200_000 }, () => 1) })
    for (let n = 0; n < 20; n++) await terminal.send('precheck', large)
    const [receipt] = await stage.consent('op-anna', 'withdrawn', 'personalise')
    // It acknowledged nothing. 4 MB: some of it the kernel holds, the rest the gateway.
    expect(receipt?.on_the_wire).toBe(20)
    slow.socket.resume()
    await slow.closed
    const came = published(slow)
    await pause(50)
    expect([published(slow), came <= 20]).toEqual([came, true])
    expect((await stage.counters()).get('parapet_kills_total{reason="withdrawal"}')).toBe(1)
  })

  it('an absent persistent session gets nothing of it', async () => {
    const first = await subscriber('site-planner', 'nightly', 'out/planning/+/+', false)
    first.destroy()
    await pause(30)
    for (let n = 0; n < 3; n++) await sendStatus()
    await stage.drained()
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    const again = await subscriber('site-planner', 'nightly', undefined, false)
    await pause(100)
    expect(published(again)).toBe(0)
    again.destroy()
  })

  it('a persistent session that had not acknowledged is not sent it again', async () => {
    const first = await subscriber('site-planner', 'daily', 'out/planning/+/+', false)
    await sendStatus()
    await until(() => published(first) > 0, 'the message')
    const [receipt] = await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    expect(receipt?.on_the_wire).toBe(1)
    await first.closed
    const again = await subscriber('site-planner', 'daily', undefined, false)
    await pause(100)
    expect(published(again)).toBe(0)
    again.destroy()
  })

  it('a new subscriber gets no retained copy; the control: it does while the yes stands', async () => {
    await sendStatus()
    await stage.drained()
    const before = await subscriber('site-planner', 'before', 'out/planning/+/+')
    await until(() => published(before) === 1, 'the retained copy')
    before.destroy()
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    const after = await subscriber('site-planner', 'after', 'out/planning/+/+')
    await pause(100)
    expect(published(after)).toBe(0)
    after.destroy()
  })

  it('a disk that refuses the deletion does not keep the recipients\' broker from letting go, and the answer says what is not done', async () => {
    const first = await subscriber('site-planner', 'weekly', 'out/planning/+/+', false)
    first.destroy()
    await pause(30)
    await sendStatus()
    await stage.drained()
    const run = StatementSync.prototype.run
    const refusing = vi.spyOn(StatementSync.prototype, 'run').mockImplementation(function (this: StatementSync, ...values) {
      // The outbox marks its transactions; the ledger, which comes first, is to work.
      if (this.sourceSQL.startsWith('BEGIN') && new Error().stack?.includes('outbox.ts') === true) throw Object.assign(new Error('disk I/O error'), { errcode: 10 })
      return run.apply(this, values)
    })
    try {
      await expect(stage.consent('op-anna', 'withdrawn', 'improve.statistics')).rejects.toThrow(/503.*in force.*could not delete/s)
    } finally {
      refusing.mockRestore()
    }
    const shown = await stage.admin<{ purposes: { purpose: string; state: string }[] }>('GET', '/v1/operators/op-anna/consent')
    expect(shown.purposes.find(({ purpose }) => purpose === 'improve.statistics')?.state).toBe('withdrawn')
    const again = await subscriber('site-planner', 'weekly', undefined, false)
    await pause(100)
    expect(published(again)).toBe(0)
  })
})
