/**
 * Whoever is on call at three in the morning: for each of these problems, made with real files and sockets, /readyz names it and the next
 * step, /metrics has the series that moved, the log has a line with both, and none of the three says anything about a person or a machine.
 * When the problem is gone, so is the word of it. The problems come one after the other at one gateway, as they do.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type * as Verifier from '../../src/minimise/verify.ts'
import { Cloud } from '../outlet/cloud.ts'
import { Folder, Stage, until, type Terminal } from './stage.ts'

const faulty = vi.hoisted(() => ({ verifier: false }))
vi.mock('../../src/minimise/verify.ts', async (original) => {
  const real = await original<typeof Verifier>()
  return { ...real, verify: (...given: Parameters<typeof Verifier.verify>) => (faulty.verifier ? 'field 31 is not in the plan' : real.verify(...given)) }
})

const MACHINE = 'SN-CANARY-7f3a'
const CARD = 'CARD-CANARY-5b2e'
const GIB = 2 ** 30
const HOUR = 3_600_000

let stage: Stage
let folder: Folder
let cloud: Cloud
let terminal: Terminal
/** Acknowledged when there is room again. */
const unanswered: Promise<void>[] = []
const world = { aheadMs: 0, space: { freeBytes: 100 * GIB, sizeBytes: 200 * GIB } }
const clock = { now: () => Date.now() + world.aheadMs, monotonic: () => performance.now() }

interface Readiness {
  readonly ready: boolean
  readonly reasons: readonly { readonly code: string; readonly severity: string; readonly text: string; readonly mend?: string }[]
}
const readiness = (): Promise<Readiness> => stage.admin<Readiness>('GET', '/readyz')
const codes = async (): Promise<string[]> => (await readiness()).reasons.map(({ code }) => code)

async function start(): Promise<void> {
  stage = await Stage.open({ folder, clock, space: () => world.space, set: ['trial=false', 'verify=1', 'limits.outbox_bytes=1048576'] })
}

async function restart(): Promise<void> {
  await stage.stop()
  await start()
  terminal = await stage.terminal(MACHINE, { clientId: 'CANARY-modem' })
}

async function approve(): Promise<void> {
  const { staged } = await stage.admin<{ staged?: { hash: string } }>('GET', '/v1/rules')
  await stage.admin('POST', '/v1/rules/activate', { hash: staged?.hash, approve_widening: 'assessment 7' })
}

function send(): Promise<void> {
  return terminal.send('status', {
    time_ms: clock.now(), operator_id: CARD, lat_e7: 457_640_430, lon_e7: 48_356_590, fix: 3, key_on: true, soc_pct_x10: 825, hour_meter_s: 4_521_780, site_code: 'CANARY-site', display_text: 'Bonjour CANARY',
  })
}

beforeAll(async () => {
  cloud = await Cloud.open()
  folder = new Folder()
  folder.edit('rules/awp.yaml', (text) => text
    .replace('out/planning/{stream}/{machine_id}", qos: 1, via: [local]', 'out/planning/{stream}/{machine_id}", qos: 1, via: [local, cloud], share: 1 %'))
  folder.edit('gateway.yaml', (text) => text.replace('bridges: {}', `bridges: { cloud: { recipient: site-planner, url: "${cloud.url}", window: 8 } }`))
  folder.edit('machines.yaml', (text) => `${text}${MACHINE}: { fleet: demo, model: CANARY-26, labels: { site: CANARY-yard }, country: FR, operator_collection: on, holder: CANARY-rental }\n`)
  folder.edit('operators.yaml', (text) => `${text}- { id: op-CANARY, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["${CARD}"] }\n`)
  await start()
  await approve()
  terminal = await stage.terminal(MACHINE, { clientId: 'CANARY-modem' })
  await stage.consent('op-CANARY', 'granted', 'improve.statistics', 'service.operate')
  await terminal.send('operator', { time_ms: clock.now(), op: 'SIGN_ON', operator_id: CARD })
  await send()
  await until(() => cloud.got.length > 0, 'the cloud')
  await stage.drained()
}, 30_000)

afterAll(async () => {
  faulty.verifier = false
  await stage.close()
  await cloud.stop()
})

interface Problem {
  readonly what: string
  readonly code: string
  readonly severity: 'error' | 'warning'
  readonly inject: () => Promise<unknown> | void
  /** What the text must name, and what the next step. */
  readonly text: RegExp
  readonly mend: RegExp
  /** Besides `parapet_conditions`: a series, and what it must have become. */
  readonly series: string
  readonly moved: (value: number, before: number) => boolean
  readonly repair?: () => Promise<unknown> | void
}

const fell = (value: number, before: number): boolean => value < before
const grew = (value: number, before: number): boolean => value > before
const config = (name: string, from: string, to: string): void => folder.edit(name, (text) => text.replace(from, to))

const PROBLEMS: readonly Problem[] = [
  {
    what: 'the cloud is down', code: 'BRIDGE-DOWN', severity: 'warning',
    inject: () => cloud.stop(),
    text: /bridge cloud is not connected since 20.*\(refused, /, mend: /whether the broker runs/,
    series: 'parapet_bridge_connected{bridge="cloud"}', moved: fell,
  },
  {
    what: 'while it is away, an output uses up its part of the outbox', code: 'OUTPUT-FULL', severity: 'warning',
    inject: () => {
      // The last ones get no acknowledgement until there is room again.
      for (let n = 0; n < 150; n++) unanswered.push(send())
    },
    text: /output site-planning/, mend: /share/,
    series: 'parapet_broker_events_total{event="handle.no_room"}', moved: grew,
  },
  {
    what: 'while it is away, messages grow old', code: 'BACKLOG-OLD', severity: 'warning',
    inject: () => void (world.aheadMs += 13 * HOUR),
    text: /bridge cloud have waited for 13 h; what waits for 24 h is thrown away/, mend: /parapet status/,
    series: 'parapet_queue_age_seconds{destination="cloud"}', moved: (value) => value > 13 * 3_600,
  },
  {
    what: 'the clock leaps', code: 'CLOCK-UNSURE', severity: 'warning',
    inject: () => void (world.aheadMs += HOUR),
    text: /leapt forward by/, mend: /See whether the time is right/,
    series: 'parapet_ready', moved: (value) => value === 1,
  },
  {
    what: 'the cloud refuses our log-in', code: 'BRIDGE-DOWN', severity: 'warning',
    inject: async () => {
      cloud.connack = { reasonCode: 0x87 }
      await cloud.start()
    },
    text: /bridge cloud .*\(login, /, mend: /check credentials_file/,
    series: 'parapet_bridge_connects_total{bridge="cloud"}', moved: grew,
    repair: async () => {
      cloud.connack = {}
      await until(() => stage.gateway.control.status().bridges[0]?.connected === true, 'the cloud', 30_000)
      await Promise.all(unanswered)
      await stage.drained()
      // An output without room is spoken of for ten seconds more.
      world.aheadMs += 11_000
      await until(async () => (await codes()).join() === 'CLOCK-UNSURE', 'nothing but the clock to be left')
    },
  },
  {
    what: 'the cloud refuses a message for good', code: 'DEAD-LETTERS', severity: 'warning',
    inject: async () => {
      cloud.answer = () => 0x99
      // The shift of before is over.
      await terminal.send('operator', { time_ms: clock.now(), op: 'SIGN_ON', operator_id: CARD })
      await send()
    },
    text: /refused 1 messages? for good/, mend: /parapet dead-letters/,
    series: 'parapet_bridge_dead_total{bridge="cloud"}', moved: grew,
    repair: async () => {
      cloud.answer = () => 0
      await stage.admin('POST', '/v1/dead-letters/drop', {})
    },
  },
  {
    what: 'the clock is set back', code: 'CLOCK-UNSURE', severity: 'warning',
    inject: async () => {
      // What somebody chooses has a time that was seen.
      await stage.consent('op-CANARY', 'granted', 'personalise')
      world.aheadMs -= 5 * HOUR
    },
    text: /before a time that was seen/, mend: /Set the clock/,
    series: 'parapet_ready', moved: (value) => value === 1,
    repair: () => void (world.aheadMs += 5 * HOUR),
  },
  {
    what: 'the disk is filling', code: 'DISK-LOW', severity: 'warning',
    inject: () => void (world.space = { freeBytes: 0.5 * GIB, sizeBytes: 200 * GIB }),
    text: /512 MiB of 200\.0 GiB left/, mend: /make room/,
    series: 'parapet_disk_free_bytes', moved: fell,
  },
  {
    what: 'the disk is nearly full', code: 'DISK-LOW', severity: 'error',
    inject: () => void (world.space = { freeBytes: 2 ** 20, sizeBytes: 200 * GIB }),
    text: /1 MiB left/, mend: /Make room on it now/,
    series: 'parapet_ready', moved: fell,
    repair: () => void (world.space = { freeBytes: 100 * GIB, sizeBytes: 200 * GIB }),
  },
  {
    what: 'the rules file has an error', code: 'RULES-REFUSED', severity: 'warning',
    inject: async () => {
      config('rules/awp.yaml', 'hour_meter_s: { round: 6 min }', 'hour_metre_CANARY: { round: 6 min }')
      await stage.gateway.reload()
    },
    text: /last accepted set stays/, mend: /parapet check/,
    series: 'parapet_rules_loads_total{result="refused"}', moved: grew,
    repair: async () => {
      config('rules/awp.yaml', 'hour_metre_CANARY: { round: 6 min }', 'hour_meter_s: { round: 6 min }')
      await stage.gateway.reload()
    },
  },
  {
    what: 'a wider set of rules waits', code: 'RULES-STAGED', severity: 'warning',
    inject: async () => {
      config('rules/awp.yaml', 'hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: 1 min }')
      await stage.gateway.reload()
    },
    text: /widens something/, mend: /parapet rules activate --approve-widening/,
    series: 'parapet_rules_loads_total{result="staged"}', moved: grew,
    repair: async () => {
      config('rules/awp.yaml', 'hour_meter_s: { round: 1 min }', 'hour_meter_s: { round: 6 min }')
      await stage.gateway.reload()
    },
  },
  {
    what: 'the registry of machines is broken', code: 'REGISTRY-REFUSED', severity: 'warning',
    inject: async () => {
      folder.edit('machines.yaml', (text) => `${text}SN-CANARY-8: { fleet: demo, modle: CANARY }\n`)
      await stage.gateway.reload()
    },
    text: /machines\.yaml:\d+:\d+ /, mend: /parapet check/,
    series: 'parapet_ready', moved: (value) => value === 1,
    repair: async () => {
      folder.edit('machines.yaml', (text) => text.replace(/SN-CANARY-8:.*\n/, ''))
      await stage.gateway.reload()
    },
  },
  {
    what: 'the verifier finds what may not be there', code: 'VERIFY-VIOLATION', severity: 'error',
    inject: async () => {
      faulty.verifier = true
      await send()
      faulty.verifier = false
    },
    text: /output [\w-]+ that its plan does not name/, mend: /minimiser: interpreted/,
    series: 'parapet_ready', moved: fell,
    repair: restart,
  },
  {
    what: 'the ledger is damaged', code: 'LEDGER-DAMAGED', severity: 'error',
    inject: async () => {
      await stage.stop()
      writeFileSync(join(folder.data, 'ledger.head'), '')
      await start()
    },
    text: /ledger cannot be trusted/, mend: /parapet ledger verify/,
    series: 'parapet_ready', moved: fell,
  },
]

const condition = (code: string): string => `parapet_conditions{code="${code}"}`

describe('on call', () => {
  it('with nothing wrong there is nothing to say', async () => {
    expect(await readiness()).toEqual({ ready: true, reasons: [] })
    const counters = await stage.counters()
    expect(counters.get('parapet_ready')).toBe(1)
    expect([...counters].filter(([line, value]) => line.startsWith('parapet_conditions') && value !== 0)).toEqual([])
  })

  it.each(PROBLEMS.map((problem) => [problem.what, problem] as const))('%s', async (_what, { code, severity, inject, text, mend, series, moved, repair }) => {
    const before = (await stage.counters()).get(series) ?? 0
    const [ran, spoken] = [stage, stage.logged.length]
    await inject()

    await until(async () => (await readiness()).reasons.some((one) => one.code === code && text.test(one.text)), `${code} at /readyz`, 10_000)
    const answer = await readiness()
    const reason = answer.reasons.find((one) => one.code === code && text.test(one.text))
    expect(reason).toMatchObject({ severity, mend: expect.stringMatching(mend) })
    if (severity === 'error') expect(answer.ready).toBe(false)

    await until(async () => moved((await stage.counters()).get(series) ?? 0, before), `${series} to move`, 10_000)
    expect((await stage.counters()).get(condition(code))).toBe(1)

    // A restart begins a log of its own.
    const lines = (): string[] => stage.logged.slice(stage === ran ? spoken : 0)
    await until(() => lines().some((line) => line.includes(`"code":"${code}"`) && text.test(line) && mend.test(line)), `a line of the log about ${code}`, 5_000)
    const line = JSON.parse(lines().find((one) => one.includes(`"code":"${code}"`) && text.test(one)) ?? '{}') as { readonly level?: string }
    expect(line.level).toBe(severity === 'error' ? 'error' : 'warn')

    const everything = `${stage.logged.join('')}${JSON.stringify(answer)}${[...await stage.counters()].join()}`
    expect(everything).not.toMatch(/CANARY/)

    if (repair === undefined) return
    await repair()
    await until(async () => !(await readiness()).reasons.some((one) => one.code === code && text.test(one.text)), `${code} to be gone`, 15_000)
  }, 40_000)
})
