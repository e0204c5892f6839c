/**
 * Rules that widen something wait: over a file change, a SIGHUP, a restart and the API, until somebody who may says yes. Each test
 * starts from a gateway in which the shipped rules were approved once.
 */
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parapet } from '../cli/run.ts'
import { decode, Folder, OWN_TOPICS, Stage, until } from './stage.ts'

const STATUS = { time_ms: Date.now(), key_on: true, hour_meter_s: 4_521_780, seq: 4_711, soc_pct_x10: 833, fix: 3, lat_e7: 481_371_540, lon_e7: 115_761_240 }
const FINER = ['hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: 1 min }'] as const
const COARSER = ['hour_meter_s: { round: 6 min }', 'hour_meter_s: { round: 18 min }'] as const
/** 4521780 s in steps of 6 min (12560.5: away from zero), 1 min and 18 min. */
const [SIX, ONE, EIGHTEEN] = [4_521_960, 4_521_780, 4_521_960]

interface Rules {
  readonly active?: { readonly hash: string }
  readonly staged?: { readonly hash: string; readonly by: string; readonly widened: number; readonly needs: number; readonly changes: readonly { readonly where: string; readonly before: string; readonly after: string }[]; readonly approvals: readonly { readonly by: string }[] }
  readonly previous?: { readonly hash: string }
  readonly refused?: unknown
}
interface Readiness { readonly ready: boolean; readonly reasons: readonly { readonly code: string; readonly severity: string }[] }

let folder: Folder
let stage: Stage

const rules = (): Promise<Rules> => stage.admin<Rules>('GET', '/v1/rules')
const codes = async (): Promise<string[]> => (await stage.admin<Readiness>('GET', '/readyz')).reasons.map(({ code }) => code)
const edit = ([from, to]: readonly [string, string]): void => folder.edit('rules/awp.yaml', (text) => text.replace(from, to))

async function start(set: readonly string[] = []): Promise<void> {
  stage = await Stage.open({ folder, set: ['trial=false', ...set] })
}

async function restart(set: readonly string[] = []): Promise<void> {
  await stage.stop()
  await start(set)
}

async function token(role: string, name = role): Promise<string> {
  return (await stage.admin<{ token: string }>('POST', '/v1/tokens', { name, role })).token
}

async function approve(by?: string): Promise<Rules> {
  return stage.admin<Rules>('POST', '/v1/rules/activate', { hash: (await rules()).staged?.hash, approve_widening: 'assessment 7' }, by)
}

/** What the rental company gets of one message now. */
async function hours(): Promise<number | undefined> {
  // Without rules there is nothing to subscribe to.
  const recipient = await stage.recipient('rental-company', [OWN_TOPICS['rental-company'] as string]).catch(() => undefined)
  if (recipient === undefined) return undefined
  const terminal = await stage.terminal('SN-1001')
  await terminal.send('status', { ...STATUS, time_ms: Date.now() })
  await stage.settled([recipient])
  const [last] = recipient.take().slice(-1)
  recipient.client.end(true)
  terminal.client.end(true)
  return last === undefined ? undefined : Number(decode('status', last.payload as Buffer)['hour_meter_s'])
}

/** Types of the ledger about rules, with what they say. */
async function recorded(): Promise<readonly string[]> {
  const { events } = await stage.admin<{ events: readonly { readonly type: string }[] }>('GET', '/v1/ledger/events?type=rules.&limit=1000')
  return events.map(({ type }) => type.slice('rules.'.length))
}

beforeEach(async () => {
  folder = new Folder()
  await start()
})
afterEach(() => stage.close())

describe('the first start', () => {
  it('forwards nothing until somebody approves, and says how; --trial approves by itself', async () => {
    expect(await stage.admin<Readiness>('GET', '/readyz')).toMatchObject({ ready: false, reasons: [{ code: 'NO-RULES', severity: 'error' }] })
    expect(await hours()).toBeUndefined()
    const { staged, active } = await rules()
    expect(active).toBeUndefined()
    expect(staged).toMatchObject({ by: 'file', needs: 1, approvals: [] })
    expect(staged?.widened).toBeGreaterThan(10)

    expect(await approve()).toMatchObject({ active: { hash: staged?.hash } })
    expect(await codes()).toEqual([])
    expect(await hours()).toBe(SIX)
    expect(await recorded()).toEqual(['staged', 'approved', 'activated'])

    const trial = await Stage.open()
    expect((await trial.admin<Readiness>('GET', '/readyz')).ready).toBe(true)
    await trial.close()
  })

  it('a restart before the approval forgets nothing', async () => {
    await restart()
    expect(await codes()).toEqual(['NO-RULES'])
    await approve()
    expect(await hours()).toBe(SIX)
    expect(await recorded()).toEqual(['staged', 'approved', 'activated'])
  })
})

describe('a set that widens something', () => {
  beforeEach(async () => {
    await approve()
  })

  it('waits while the old one serves: after a change of the file, over restarts, until it is approved', async () => {
    const before = (await rules()).active?.hash
    edit(FINER)
    await until(async () => (await rules()).staged !== undefined, 'the file to be read')
    const { active, staged } = await rules()
    expect(active?.hash).toBe(before)
    expect(staged?.changes).toMatchObject([{ verdict: 'widened', where: 'outputs.rental-billing.streams.status.fields.hour_meter_s', before: 'round to 360', after: 'round to 60', countries: ['everywhere'] }])
    expect(await stage.admin<Readiness>('GET', '/readyz')).toMatchObject({ ready: true, reasons: [{ code: 'RULES-STAGED', severity: 'warning' }] })
    expect(await hours()).toBe(SIX)

    await restart()
    expect(await codes()).toEqual(['RULES-STAGED'])
    expect((await rules()).active?.hash).toBe(before)
    expect(await hours()).toBe(SIX)

    expect(await approve()).toMatchObject({ active: { hash: staged?.hash }, previous: { hash: before } })
    expect(await hours()).toBe(ONE)
    await restart()
    expect(await codes()).toEqual([])
    expect(await hours()).toBe(ONE)
    expect((await recorded()).slice(3)).toEqual(['staged', 'activated', 'approved', 'activated', 'activated'])
  })

  it('written while the gateway was away waits at the start', async () => {
    await stage.stop()
    edit(FINER)
    await start()
    expect(await codes()).toEqual(['RULES-STAGED'])
    expect(await hours()).toBe(SIX)
  })

  it('is forgotten when the file goes back', async () => {
    edit(FINER)
    await stage.gateway.reload()
    edit([FINER[1], FINER[0]])
    await stage.gateway.reload()
    expect(await rules()).not.toHaveProperty('staged')
    expect((await recorded()).slice(-2)).toEqual(['staged', 'discarded'])
  })

  it('a broken file behind it changes nothing: it can still be approved as it was shown', async () => {
    edit(FINER)
    await stage.gateway.reload()
    edit([FINER[1], 'hour_metre_s: keep'])
    expect((await stage.gateway.reload()).length).toBeGreaterThan(0)
    expect((await codes()).sort()).toEqual(['RULES-REFUSED', 'RULES-STAGED'])
    await approve()
    expect(await hours()).toBe(ONE)
  })

  it('cannot be approved unseen: the hash is that of what was looked at', async () => {
    edit(FINER)
    await stage.gateway.reload()
    const seen = (await rules()).staged?.hash
    edit([FINER[1], 'hour_meter_s: keep'])
    await stage.gateway.reload()
    await expect(stage.admin('POST', '/v1/rules/activate', { hash: seen, approve_widening: 'assessment 7' })).rejects.toThrow(/409.*RULES-CHANGED/)
    await expect(stage.admin('POST', '/v1/rules/activate', { approve_widening: 'assessment 7' })).rejects.toThrow(/422.*REASON-MISSING/)
    expect(await hours()).toBe(SIX)
  })

  it('is not approved by the role that writes rules', async () => {
    const engineer = await token('engineer')
    edit(FINER)
    await stage.gateway.reload()
    await expect(approve(engineer)).rejects.toThrow(/403.*SCOPE-MISSING/)
    expect(await hours()).toBe(SIX)
    expect(await approve(await token('privacy'))).not.toHaveProperty('staged')
  })

  it('with two_person needs a second, different token', async () => {
    await restart(['two_person=true'])
    const [first, second] = [await token('privacy', 'dpo'), await token('admin', 'site-lead')]
    edit(FINER)
    await stage.gateway.reload()
    expect(await approve(first)).toMatchObject({ staged: { needs: 2, approvals: [{ by: 'dpo' }] } })
    await expect(approve(first)).rejects.toThrow(/409.*SECOND-APPROVER/)
    await restart(['two_person=true'])
    expect(await hours()).toBe(SIX)
    expect(await approve(second)).not.toHaveProperty('staged')
    expect(await hours()).toBe(ONE)
  })

  it('is discarded, stays so over SIGHUP and restart while the file holds it, and can be asked for again', async () => {
    edit(FINER)
    await stage.gateway.reload()
    await stage.admin('POST', '/v1/rules/discard', {})
    expect(await codes()).toEqual(['RULES-SET-ASIDE'])
    await stage.gateway.reload()
    await restart()
    expect(await codes()).toEqual(['RULES-SET-ASIDE'])
    expect(await hours()).toBe(SIX)
    expect(await stage.admin('POST', '/v1/rules/activate', {})).toMatchObject({ staged: { widened: 1 } })
    await expect(stage.admin('POST', '/v1/rules/discard', {})).resolves.not.toHaveProperty('staged')
    await expect(stage.admin('POST', '/v1/rules/discard', {})).rejects.toThrow(/409.*NOTHING-STAGED/)
  })

  it('a new field of the schema that nobody wrote waits, too', async () => {
    const file = join(folder.path, 'proto/awp/v1/status.proto')
    const text = readFileSync(file, 'utf8')
    writeFileSync(file, text.replace(/\n\}\s*$/, '\n  uint32 mast_mm = 900 [(parapet.v1.privacy) = { category: "posture", class: BASIC, personal: NEVER }];\n}\n'))
    await stage.gateway.reload()
    expect((await rules()).staged?.changes[0]).toMatchObject({ verdict: 'widened', where: 'outputs.service-cloud.streams.status.fields.mast_mm', why: 'new in the schema' })
  })

  it('what lies in the data folder under the hash of another set was approved by nobody', async () => {
    await stage.stop()
    const kept = join(folder.data, 'accepted/active.json')
    const changed = readFileSync(kept, 'utf8').replace(FINER[0], FINER[1])
    expect(changed).toContain(FINER[1])
    writeFileSync(kept, changed)
    edit(['recipient: rental-company', 'recipient: nobody-known'])
    await start()
    expect(await hours()).toBeUndefined()
    expect(await codes()).toContain('NO-RULES')
  })

  it('a copy of the data folder of a gateway without a readable active set starts closed', async () => {
    await stage.stop()
    copyFileSync(join(folder.data, 'tokens.json'), join(folder.data, 'accepted/active.json'))
    await start()
    expect((await codes())).toContain('NO-RULES')
    expect(await hours()).toBeUndefined()
  })
})

describe('a set that widens nothing', () => {
  beforeEach(async () => {
    await approve()
  })

  it('is active at once and needs nobody', async () => {
    edit(COARSER)
    await stage.gateway.reload()
    expect(await rules()).not.toHaveProperty('staged')
    expect(await hours()).toBe(EIGHTEEN)
    expect(await codes()).toEqual([])
  })

  it('goes in through the API by an engineer, and into the file; one that is refused leaves both', async () => {
    const engineer = await token('engineer')
    const { host, port } = stage.gateway.addresses.admin
    const put = async (text: string): Promise<{ status: number; body: Rules & { code?: string } }> => {
      const response = await fetch(`http://${host}:${port}/v1/rules`, { method: 'PUT', body: text, headers: { authorization: `Bearer ${engineer}`, 'content-type': 'application/yaml' } })
      return { status: response.status, body: (await response.json()) as Rules }
    }
    const text = folder.read('rules/awp.yaml')
    expect(await put(text.replace(FINER[0], 'hour_metre_s: keep'))).toMatchObject({ status: 422, body: { code: 'RULES-REFUSED' } })
    expect(folder.read('rules/awp.yaml')).toBe(text)
    const coarser = text.replace(...COARSER)
    expect(await put(coarser)).toMatchObject({ status: 200, body: { active: {} } })
    expect(folder.read('rules/awp.yaml')).toBe(coarser)
    expect(await put(text)).toMatchObject({ status: 200, body: { staged: { by: 'engineer', widened: 1 } } })
    expect(existsSync(folder.file('rules/awp.yaml.new'))).toBe(false)
  })

  it('is rolled back to what was before; what that widens waits again, and the file does not undo it', async () => {
    const old = (await rules()).active?.hash
    edit(COARSER)
    await stage.gateway.reload()
    const coarse = (await rules()).active?.hash
    expect(await stage.admin('POST', '/v1/rules/rollback', {})).toMatchObject({ active: { hash: coarse }, staged: { hash: old } })
    await stage.gateway.reload()
    expect(await approve()).toMatchObject({ active: { hash: old }, previous: { hash: coarse } })
    expect(await codes()).toEqual(['RULES-SET-ASIDE'])
    await restart()
    expect((await rules()).active?.hash).toBe(old)
    expect(await codes()).toEqual(['RULES-SET-ASIDE'])
    edit([COARSER[1], 'hour_meter_s: { round: 54 min }'])
    await stage.gateway.reload()
    expect(await codes()).toEqual([])
  })
})

describe('the command line', () => {
  const run = (...argv: readonly string[]): ReturnType<typeof parapet> => {
    const { host, port } = stage.gateway.addresses.admin
    return parapet([...argv, '--url', `http://${host}:${port}`, '--token-file', stage.gateway.adminTokenFile], { cwd: folder.path })
  }

  it('list, activate, diff --active, rollback, discard', async () => {
    expect(await run('rules', 'list')).toMatchObject({ code: 3, out: expect.stringMatching(/^active +none: nothing is forwarded\nwaits .*\n\nwidened .*It needs an approval: parapet rules activate/s) as string })
    expect(await run('rules', 'activate', '--approve-widening', 'the first set')).toMatchObject({ code: 0, out: expect.stringMatching(/\nactive +awp-2026-11, [0-9a-f]{12}, since /) as string })
    expect(await run('diff', '--active', 'config/rules/awp.yaml')).toMatchObject({ code: 0, out: 'No difference in what leaves.\n' })
    edit(FINER)
    expect(await run('diff', '--active', 'config/rules/awp.yaml')).toMatchObject({ code: 3, out: expect.stringContaining('widened   outputs.rental-billing.streams.status.fields.hour_meter_s: round to 360 -> round to 60') as string })
    expect(await run('rules', 'activate')).toMatchObject({ code: 3 })
    expect(await run('rules', 'discard')).toMatchObject({ code: 0 })
    expect(await run('rules', 'discard')).toMatchObject({ code: 1, err: expect.stringContaining('No set of rules waits') as string })
    expect(await run('rules', 'activate')).toMatchObject({ code: 3 })
    expect(await run('rules', 'activate', '--approve-widening', 'assessment 7')).toMatchObject({ code: 0 })
    expect(await hours()).toBe(ONE)
    // Steps of 6 min have other borders than steps of 1 min, so neither is coarser.
    expect(await run('rules', 'rollback')).toMatchObject({ code: 3, out: expect.stringContaining('cannot be compared') as string })
    expect(await run('rules', 'rollback', '--approve-widening', 'too fine')).toMatchObject({ code: 0 })
    expect(await hours()).toBe(SIX)
    expect(await run('status')).toMatchObject({ out: expect.stringContaining('RULES-SET-ASIDE') as string })
    const listed = JSON.parse((await run('rules', 'list', '--format', 'json')).out) as Rules
    expect(listed.previous?.hash).toMatch(/^[0-9a-f]{64}$/)
    expect(await run('rules', 'list', 'x')).toMatchObject({ code: 2 })
    expect(await run('why', '--machine', 'SN-1001', '--output', 'rental-billing')).toMatchObject({ code: 0, out: expect.stringMatching(/basis +contract/) as string })
  })
})
