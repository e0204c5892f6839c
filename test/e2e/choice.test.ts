/**
 * What an operator says on the machine's display, over real sockets: it counts when the terminal has its acknowledgement. Also what
 * ends a yes without the person: its time, wider rules, a device setting, each also over a restart.
 */
import { StatementSync } from 'node:sqlite'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { Folder, OWN_TOPICS, Stage, encode, pause, until, type Recipient, type Terminal } from './stage.ts'

/** See the arithmetic in shift.test.ts. */
const LYON = { lat_e7: 457_640_430, lon_e7: 48_356_590 }
const BOARD = `
  site-board:
    recipient: site-desk
    purpose: improve.statistics
    reach: site
    arrival_visible: true
    to: { topic: "out/board/{stream}", qos: 1, via: [local] }
    streams:
      status:
        keep: [key_on]
        fields: { soc_pct_x10: keep }
`

let folder: Folder
let stage: Stage
let live: Readonly<Record<string, Recipient>>
let anna: Terminal

beforeAll(async () => {
  folder = new Folder()
  folder.edit('rules/awp.yaml', (text) => text
    .replace('\nrecipients:\n', '\nrecipients:\n  site-desk: { role: processor, group: supplier, region: FR, on_site: true, transfers: { EEA: domestic, GB: adequacy, CN: standard_contract } }\n')
    .replace('\noutputs:\n', `\noutputs:\n${BOARD}`))
  folder.edit('recipients.yaml', (text) => `${text}\nsite-desk: { user: site-desk }\n`)
  await start()
})

afterAll(() => stage.close())

async function start(): Promise<void> {
  stage = await Stage.open({ folder })
  const topics = { ...OWN_TOPICS, 'site-desk': 'out/board/+' }
  live = Object.fromEntries(await Promise.all(Object.entries(topics).map(async ([name, filter]) => [name, await stage.recipient(name, [filter])] as const)))
  anna = await stage.terminal('SN-1001')
}

async function restart(meanwhile: () => void = () => {}): Promise<void> {
  await stage.stop()
  meanwhile()
  await start()
}

beforeEach(async () => {
  await signOn(anna, 'A-1001')
})

async function signOn(terminal: Terminal, card: string): Promise<void> {
  await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: card })
  await stage.settled(Object.values(live))
  for (const recipient of Object.values(live)) recipient.take()
}

function choice(about: string, what: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { time_ms: Date.now(), operator_id: 'A-1001', purpose: about, choice: what, policy_id: 'awp-2026-11', language: 'fr', ...more }
}

async function sendStatus(terminal = anna): Promise<void> {
  await terminal.send('status', { time_ms: Date.now(), operator_id: 'A-1001', ...LYON, fix: 3, key_on: true, soc_pct_x10: 825, hour_meter_s: 4_521_780 })
}

/** Who got something of a status about improve.statistics: the planner (elsewhere), the desk (on the site). */
async function after(terminal = anna): Promise<readonly string[]> {
  for (const recipient of Object.values(live)) recipient.take()
  await sendStatus(terminal)
  await stage.settled(Object.values(live))
  return ['site-planner', 'site-desk'].filter((name) => live[name]!.take().length > 0)
}

async function stateOf(operator: string, about = 'improve.statistics'): Promise<string | undefined> {
  const { purposes } = await stage.admin<{ purposes: { purpose: string; state: string; source?: string }[] }>('GET', `/v1/operators/${operator}/consent`)
  return purposes.find(({ purpose }) => purpose === about)?.state
}

async function results(): Promise<Record<string, number>> {
  const counters = [...(await stage.counters())].filter(([line]) => line.startsWith('parapet_consent_choices_total{'))
  return Object.fromEntries(counters.map(([line, value]) => [/result="(\w+)"/.exec(line)?.[1] ?? '', value]))
}

/** A session that outlives its connection: subscribed once, then away. */
async function absent(name: string, clientId: string): Promise<{ back(): Promise<number> }> {
  const filter = name === 'site-desk' ? 'out/board/+' : OWN_TOPICS[name]!
  await (await stage.recipient(name, [filter], { clean: false, clientId })).client.endAsync()
  await until(() => stage.gateway.control.status().listeners.find((one) => one.name === 'recipients')?.connections === Object.keys(live).length, 'the absent one to be gone')
  return {
    async back() {
      const again = await stage.recipient(name, [filter], { clean: false, clientId })
      await again.fence()
      const { length } = again.take()
      await again.client.endAsync()
      return length
    },
  }
}

describe('a choice at the machine', () => {
  it('is in force when the terminal has its acknowledgement, in both directions', async () => {
    expect(await after()).toEqual([])
    await anna.send('consent', choice('improve.statistics', 'GRANT'))
    expect(await after()).toEqual(['site-planner', 'site-desk'])
    await anna.send('consent', choice('improve.statistics', 'WITHDRAW'))
    expect(await after()).toEqual([])
    await anna.send('consent', choice('improve.statistics', 'GRANT'), { qos: 2 })
    expect(await after()).toEqual(['site-planner', 'site-desk'])
    expect(await stateOf('op-anna')).toBe('granted')
  })

  it('a withdrawal empties what waits before it is acknowledged; the control: without it, it is delivered', async () => {
    await anna.send('consent', choice('improve.statistics', 'GRANT'))
    for (const [withdraws, delivered] of [[false, 1], [true, 0]] as const) {
      const planner = await absent('site-planner', `planner-${String(withdraws)}`)
      await sendStatus()
      await stage.settled(Object.values(live))
      if (withdraws) await anna.send('consent', choice('improve.statistics', 'WITHDRAW'))
      expect(await planner.back()).toBe(delivered)
    }
  })

  it('for this site only takes back what waits for elsewhere and leaves what stays on the site', async () => {
    await anna.send('consent', choice('improve.statistics', 'GRANT'))
    const [planner, desk] = [await absent('site-planner', 'planner-site'), await absent('site-desk', 'desk-site')]
    await sendStatus()
    await stage.settled(Object.values(live))
    await anna.send('consent', choice('improve.statistics', 'GRANT_LOCAL_ONLY'))
    expect([await planner.back(), await desk.back()]).toEqual([0, 1])
    expect(await after()).toEqual(['site-desk'])
  })

  it('goes to no output, in no form', async () => {
    for (const what of ['GRANT', 'REFUSE', 'NOTICE_SHOWN', 'CHOICE_UNSPECIFIED']) await anna.send('consent', choice('personalise', what))
    await stage.settled(Object.values(live))
    for (const recipient of Object.values(live)) expect(recipient.take(), recipient.name).toEqual([])
    expect(stage.logged.join('\n')).not.toMatch(/A-1001|op-anna|personalise/)
  })

  it('does not count for others, elsewhere, under another notice, or for what there is not; it is acknowledged and counted', async () => {
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    const before = await results()
    const elsewhere = await stage.terminal('SN-1002')
    await elsewhere.send('consent', choice('improve.statistics', 'GRANT'))
    await anna.send('consent', choice('improve.statistics', 'GRANT', { operator_id: 'A-1002' }))
    await anna.send('consent', choice('improve.statistics', 'GRANT', { policy_id: 'awp-2025-11' }))
    await anna.send('consent', choice('improve.everything', 'GRANT'))
    await anna.send('consent', choice('improve.statistics', 'CHOICE_UNSPECIFIED'))
    // Fresh, but two clocks cannot tell whether it came before the withdrawal a moment ago.
    await anna.send('consent', choice('improve.statistics', 'GRANT'))
    const now = await results()
    expect(Object.fromEntries(Object.entries(now).map(([name, value]) => [name, value - (before[name] ?? 0)]).filter(([, more]) => more !== 0)))
      .toEqual({ nobody: 2, other_notice: 1, unknown_purpose: 1, not_understood: 1, stale: 1 })
    expect(await stateOf('op-anna')).toBe('withdrawn')
    expect(await after()).toEqual([])
    // A machine that names itself otherwise is refused as a whole.
    await elsewhere.publish('up/demo/SN-1002/consent', encode('consent', { machine_id: 'SN-1001', ...choice('improve.statistics', 'GRANT') }))
    expect(await stateOf('op-anna')).toBe('withdrawn')
  })

  it('sent again is the same choice, before and after a restart', async () => {
    const [receipt] = await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    const message = encode('consent', { machine_id: 'SN-1001', ...choice('improve.statistics', 'GRANT', { supersedes: receipt!.receipt }) })
    await anna.publish('up/demo/SN-1001/consent', message)
    expect(await stateOf('op-anna')).toBe('granted')
    await anna.publish('up/demo/SN-1001/consent', message)
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    await anna.publish('up/demo/SN-1001/consent', message)
    await restart()
    await anna.publish('up/demo/SN-1001/consent', message)
    expect(await stateOf('op-anna')).toBe('withdrawn')
    expect((await results())['repeated']).toBe(1)
  })

  it('does not keep other terminals waiting: what they send is acknowledged meanwhile', async () => {
    await stage.consent('op-anna', 'granted', 'improve.statistics')
    const other = await stage.terminal('SN-1003')
    const order: string[] = []
    await Promise.all([
      anna.send('consent', choice('improve.statistics', 'WITHDRAW')).then(() => order.push('choice')),
      ...Array.from({ length: 20 }, () => other.send('status', { time_ms: Date.now(), key_on: true, hour_meter_s: 60 }).then(() => order.push('status'))),
    ])
    expect(order).toHaveLength(21)
    expect(await after()).toEqual([])
  })
})

describe('a yes that ends without the person', () => {
  it('by its time: also for what waits', async () => {
    await stage.consent('op-anna', 'withdrawn', 'improve.statistics')
    const expires = new Date(Date.now() + 1_500).toISOString()
    await stage.admin('POST', '/v1/operators/op-anna/consent', { purpose: 'improve.statistics', state: 'granted', evidence: 'signed form 2026-114', expires })
    const planner = await absent('site-planner', 'planner-expiry')
    await sendStatus()
    await stage.settled(Object.values(live))
    await pause(1_600)
    await sendStatus()
    await stage.settled(Object.values(live))
    expect(await planner.back()).toBe(0)
    expect(await stateOf('op-anna')).toBe('expired')
  })

  it('because the rules became wider [P51]: also over a restart, until it is renewed; narrower rules change nothing', async () => {
    const grid = (from: string, to: string): void => folder.edit('rules/awp.yaml', (text) => text.replaceAll(`consent: { grid: ${from} }`, `consent: { grid: ${to} }`))
    await stage.consent('op-anna', 'granted', 'improve.statistics')
    expect(await after()).toEqual(['site-planner', 'site-desk'])
    const planner = await absent('site-planner', 'planner-wider')
    await sendStatus()
    await stage.settled(Object.values(live))

    grid('500m', '100m')
    expect(await stage.gateway.reload()).toEqual([])
    expect(await stateOf('op-anna')).toBe('invalidated')
    expect(await after()).toEqual([])
    expect(await planner.back()).toBe(0)
    // Continued use is no acceptance [P53].
    await signOn(anna, 'A-1001')
    expect(await after()).toEqual([])
    await restart()
    expect([await stateOf('op-anna'), await after()]).toEqual(['invalidated', []])
    const events = [...(await stage.admin<{ history: { type: string }[] }>('GET', '/v1/operators/op-anna/consent')).history].map(({ type }) => type)
    expect(events.filter((type) => type.startsWith('consent.')).at(-1)).toBe('consent.granted')
    expect(events).toContain('policy.scope')

    await anna.send('consent', choice('improve.statistics', 'GRANT'))
    expect(await stateOf('op-anna')).toBe('granted')
    expect(await after()).toEqual(['site-planner', 'site-desk'])
    grid('100m', '500m')
    expect(await stage.gateway.reload()).toEqual([])
    expect([await stateOf('op-anna'), await after()]).toEqual(['granted', ['site-planner', 'site-desk']])
    grid('500m', '250m')
    await restart()
    expect([await stateOf('op-anna'), await after()]).toEqual(['invalidated', []])
    grid('250m', '500m')
    await stage.gateway.reload()
  })

  it('because the device setting was turned off while the gateway was away: what waits about the person there is gone before anything leaves', async () => {
    await stage.consent('op-anna', 'granted', 'improve.statistics')
    const planner = await absent('site-planner', 'planner-setting')
    await sendStatus()
    await stage.settled(Object.values(live))
    await restart(() => folder.edit('machines.yaml', (text) => text.replace('country: FR,    operator_collection: on, holder: rental-sud', 'country: FR,    operator_collection: off, holder: rental-sud')))
    expect(await planner.back()).toBe(0)
    expect(stage.gateway.control.sessions()).toEqual([])
    expect(await after()).toEqual([])
    // A choice at a machine on which nobody is known is nobody's.
    await anna.send('consent', choice('improve.statistics', 'WITHDRAW'))
    expect(await stateOf('op-anna')).toBe('granted')
    await restart(() => folder.edit('machines.yaml', (text) => text.replace('operator_collection: off, holder: rental-sud', 'operator_collection: on, holder: rental-sud')))
    expect(await after()).toEqual([])
  })
})

/** The planner is behind a bridge to a broker that is not there: what is for it waits in the outbox. */
describe('what waits in the outbox for a cloud that is away', () => {
  interface Away { readonly stage: Stage; readonly terminal: Terminal; readonly folder: Folder }

  async function open(folder: Folder): Promise<Away> {
    const stage = await Stage.open({ folder })
    return { stage, terminal: await stage.terminal('SN-1001'), folder }
  }

  async function waiting(): Promise<Away> {
    const folder = new Folder()
    folder.edit('gateway.yaml', (text) => text.replace('bridges: {} ', 'bridges: { cloud: { recipient: site-planner, url: "mqtt://127.0.0.1:9" } } '))
    folder.edit('rules/awp.yaml', (text) => text.replace('out/planning/{stream}/{machine_id}", qos: 1, via: [local]', 'out/planning/{stream}/{machine_id}", qos: 1, via: [cloud]'))
    const away = await open(folder)
    await away.terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
    return away
  }

  const records = ({ stage }: Away): number => stage.gateway.control.status().outbox.records

  async function send({ terminal, stage }: Away): Promise<void> {
    await terminal.send('status', { time_ms: Date.now(), operator_id: 'A-1001', ...LYON, fix: 3, key_on: true })
    await until(() => stage.gateway.control.status().outbox.records <= 1, 'everything but the planner to be served')
  }

  const TABLE: readonly (readonly [string, (away: Away) => Promise<Away | void>, left: number])[] = [
    ['the control: nothing happened', async () => {}, 1],
    ['the control: over a restart', async ({ stage, folder }) => { await stage.stop(); return open(folder) }, 1],
    ['withdrawn at the machine', ({ terminal }) => terminal.send('consent', choice('improve.statistics', 'WITHDRAW')), 0],
    ['for the site only', ({ terminal }) => terminal.send('consent', choice('improve.statistics', 'GRANT_LOCAL_ONLY')), 0],
    ['another purpose', ({ terminal }) => terminal.send('consent', choice('personalise', 'REFUSE')), 1],
    ['expired while it waited', async (away) => { await pause(1_300); await send(away) }, 0],
    ['expired while the gateway was away', async ({ stage, folder }) => { await stage.stop(); await pause(1_300); return open(folder) }, 0],
    ['wider rules', async ({ stage, folder }) => { widen(folder); await stage.gateway.reload() }, 0],
    ['wider rules while the gateway was away', async ({ stage, folder }) => { await stage.stop(); widen(folder); return open(folder) }, 0],
    ['device setting turned off while the gateway was away', async ({ stage, folder }) => { await stage.stop(); switchOff(folder); return open(folder) }, 0],
    ['machine taken out of the registry while the gateway was away', async ({ stage, folder }) => {
      await stage.stop()
      folder.edit('machines.yaml', (text) => text.replace(/^SN-1001:.*$/m, ''))
      return { stage: await Stage.open({ folder }), terminal: undefined as unknown as Terminal, folder }
    }, 0],
  ]

  function widen(folder: Folder): void {
    folder.edit('rules/awp.yaml', (text) => text.replaceAll('consent: { grid: 500m }', 'consent: { grid: 100m }'))
  }

  function switchOff(folder: Folder): void {
    folder.edit('machines.yaml', (text) => text.replace('country: FR,    operator_collection: on', 'country: FR,    operator_collection: off'))
  }

  it.each(TABLE)('%s', async (situation, happens, left) => {
    const away = await waiting()
    const expires = situation.startsWith('expired') ? { expires: new Date(Date.now() + 1_200).toISOString() } : {}
    await away.stage.admin('POST', '/v1/operators/op-anna/consent', { purpose: 'improve.statistics', state: 'granted', evidence: 'signed form 2026-114', ...expires })
    await send(away)
    expect(records(away)).toBe(1)
    const now = (await happens(away)) ?? away
    try {
      await until(() => records(now) === left, `${left} left`, left === 1 ? 300 : 3_000)
    } finally {
      await now.stage.close()
    }
  })
})

/** Where no yes is needed for the coarse form of a pair, which waits beside the finer one of those who said yes. */
describe('what waits on opt_out when the rules become wider', () => {
  it.each([
    ['the finer form goes with the yes that it rests on', true, 0],
    ['the coarse form rests on nobody\'s yes', false, 1],
  ])('%s', async (_what, isGranted, left) => {
    const folder = new Folder()
    folder.edit('gateway.yaml', (text) => text.replace('bridges: {} ', 'bridges: { cloud: { recipient: site-planner, url: "mqtt://127.0.0.1:9" } } '))
    folder.edit('rules/awp.yaml', (text) => text.replace('out/planning/{stream}/{machine_id}", qos: 1, via: [local]', 'out/planning/{stream}/{machine_id}", qos: 1, via: [cloud]'))
    folder.edit('machines.yaml', (text) => text.replace(/(SN-1001:.*country: )FR/, '$1US'))
    folder.edit('operators.yaml', (text) => text.replace(/(op-anna,.*country: )FR/, '$1US'))
    const stage = await Stage.open({ folder })
    try {
      await stage.notice('op-anna')
      if (isGranted) await stage.consent('op-anna', 'granted', 'improve.statistics')
      const terminal = await stage.terminal('SN-1001')
      await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: 'A-1001' })
      await terminal.send('status', { time_ms: Date.now(), operator_id: 'A-1001', ...LYON, fix: 3, key_on: true })
      const records = (): number => stage.gateway.control.status().outbox.records
      await until(() => records() === 1, 'everything but the planner to be served')
      // A later yes does not cover it, and its end is no end of anything in it.
      if (!isGranted) await stage.consent('op-anna', 'granted', 'improve.statistics')
      // Another plan than the one that the waiting message was made by.
      folder.edit('rules/awp.yaml', (text) => text.replaceAll('consent: { grid: 500m }', 'consent: { grid: 100m }').replace('platform_height_mm: { bucket: [0 m, 4 m,', 'platform_height_mm: { bucket: [0 m, 2 m, 4 m,'))
      expect(await stage.gateway.reload()).toEqual([])
      await until(() => records() === left, `${left} left`, left === 1 ? 300 : 3_000)
      await pause(100)
      expect(records()).toBe(left)
    } finally {
      await stage.close()
    }
  })
})

describe('a disk that refuses', () => {
  it('holds up a withdrawal at the machine, and does not end the gateway: what could not be purged is nobody\'s crash', async () => {
    const folder = new Folder()
    folder.edit('rules/awp.yaml', (text) => text.replace('\noutputs:\n', `
outputs:
  choices:
    recipient: oem-cloud
    purpose: service.operate
    arrival_visible: true
    to: { topic: "out/choices", qos: 1, via: [local] }
    streams:
      consent: { keep: [policy_id] }
`))
    const stage = await Stage.open({ folder })
    const rejected: unknown[] = []
    const note = (reason: unknown): void => void rejected.push(reason)
    process.on('unhandledRejection', note)
    const run = Object.getOwnPropertyDescriptor(StatementSync.prototype, 'run')!.value as StatementSync['run']
    const disk = vi.spyOn(StatementSync.prototype, 'run')
    try {
      const terminal = await stage.terminal('SN-1001')
      await signOn(terminal, 'A-1001')
      await stage.consent('op-anna', 'granted', 'improve.statistics')
      await sendStatus(terminal)
      await stage.drained()
      disk.mockImplementation(function (this: StatementSync, ...values: Parameters<StatementSync['run']>) {
        // The outbox's disk, not the ledger's.
        if (this.sourceSQL === 'COMMIT' && new Error().stack?.includes('/outlet/') === true) throw Object.assign(new Error('refused'), { errcode: 13 })
        return run.apply(this, values)
      } as StatementSync['run'])
      let isAcked = false
      terminal.client.publish('up/demo/SN-1001/consent', Buffer.from(encode('consent', { machine_id: 'SN-1001', ...choice('improve.statistics', 'WITHDRAW') })), { qos: 1 }, (error) => { isAcked = error === undefined || error === null })
      await pause(300)
      expect([isAcked, rejected]).toEqual([false, []])
      const { purposes } = await stage.admin<{ purposes: { purpose: string; state: string }[] }>('GET', '/v1/operators/op-anna/consent')
      expect(purposes).toContainEqual(expect.objectContaining({ purpose: 'improve.statistics', state: 'withdrawn' }))
    } finally {
      disk.mockRestore()
      process.off('unhandledRejection', note)
      await stage.close()
    }
  })
})
