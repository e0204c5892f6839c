/**
 * `parapet filter` and the running gateway give the same bytes for the same messages; and what pseudonyms stand on in a gateway, the
 * random rows of its subjects, cannot be had from the root key, from another gateway, or from a file.
 */
import { createHmac } from 'node:crypto'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadRootKey } from '../../src/consent/root.ts'
import { SqliteSubjectKeys } from '../../src/consent/subjects.ts'
import { parapet } from '../cli/run.ts'
import { Folder, OWN_TOPICS, Stage, encode, type Recipient } from './stage.ts'

const TENANT = 'demo'

// ------------------------------------------------------------------------------------------------------------- who and where

interface Case {
  readonly name: string
  readonly machine: string
  /** Who is signed on. */
  readonly card?: string
  readonly said?: (stage: Stage) => Promise<unknown>
  /** The same, as `filter` is told. */
  readonly options: readonly string[]
}

const CASES: readonly Case[] = [
  {
    name: 'France, a yes to four purposes', machine: 'SN-1001', card: 'A-1001',
    said: (stage) => stage.consent('op-anna', 'granted', 'service.operate', 'security.fraud', 'improve.statistics', 'personalise'),
    options: ['--country', 'FR', '--operator-country', 'FR', '--consent', 'service.operate,security.fraud,improve.statistics,personalise'],
  },
  {
    name: 'Germany, never asked', machine: 'SN-1003', card: 'A-1002',
    options: ['--country', 'DE', '--operator-country', 'DE', '--no-notice'],
  },
  {
    name: 'California, told, and against the security log', machine: 'SN-1006', card: 'A-1003',
    said: async (stage) => Promise.all([stage.notice('op-carla'), stage.consent('op-carla', 'objected', 'security.fraud')]),
    options: ['--country', 'US-CA', '--operator-country', 'US-CA', '--refused', 'security.fraud'],
  },
  { name: 'country unknown, nobody there', machine: 'SN-1009', options: ['--operator', 'none'] },
]

/** Output, its recipient, its streams. */
const OUTPUTS: readonly (readonly [output: string, recipient: string, streams: readonly string[]])[] = [
  ['service-cloud', 'oem-cloud', ['status', 'fault', 'safety', 'charge', 'comms', 'diag', 'device']],
  ['site-planning', 'site-planner', ['status', 'position', 'charge']],
  ['rental-billing', 'rental-company', ['status']],
  ['security-log', 'security-desk', ['operator', 'comms']],
  ['safety-record', 'safety-archive', ['fault', 'safety', 'precheck']],
  ['operator-app', 'my-app', ['status', 'precheck', 'session']],
]
const STREAMS = [...new Set(OUTPUTS.flatMap(([, , streams]) => streams))]
/** The first case sends all of them, the others those whose outcome depends on the person. */
const PERSONAL = ['status', 'charge', 'operator', 'comms', 'precheck']
const streamsOf = (one: Case): readonly string[] => (one === CASES[0] ? STREAMS : PERSONAL)

// --------------------------------------------------------------------------------------------------------------- the messages

/** mulberry32: the same messages in every run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

function messagesOf(stream: string, { machine, card }: Case, atMs: number, seed: number): Buffer[] {
  const random = seeded(seed)
  const up = (below: number): number => Math.floor(random() * below)
  const around = (size: number): number => up(2 * size + 1) - size
  const maybe = <T>(value: T): T | undefined => (random() < 0.7 ? value : undefined)
  const point = (): Record<string, number> => ({ lat_e7: around(900_000_000), lon_e7: around(1_800_000_000) })
  const bodies: Record<string, () => Record<string, unknown>> = {
    status: () => ({
      ...point(), fix: maybe(3), key_on: maybe(true), mode: up(5), soc_pct_x10: up(1_200), platform_height_mm: up(30_000), pack_current_da: around(4_000), platform_load_kg: up(400),
      hour_meter_s: up(2 ** 32), flags: up(128), site_code: 'LYS-4', display_text: maybe('Grüß Gott'),
    }),
    position: () => ({ ...point(), fix: maybe(2), speed_cm_s: up(200), alt_dm: around(10_000) }),
    operator: () => ({ op: ['LOCK', 'UNLOCK', 'SIGN_ON_FAILED'][up(3)], method: up(6), fail_reason: up(6), certificate_valid: maybe(true), display_name: 'A. Beispiel', card_uid: 'BKG8fA==' }),
    session: () => ({ drive_s: up(4_000), lift_s: up(4_000), idle_s: up(4_000), lifts: maybe(up(50)), energy_wh: up(9_000), score_pct_x10: up(1_000) }),
    fault: () => ({ spn: up(524_288), fmi: up(32), source_address: up(256), occurrences: up(100), active: maybe(true), lamp: up(16), oem_code: 'E-42' }),
    safety: () => ({ ...point(), kind: up(9), severity: up(4), value: around(1_000), duration_ms: up(10_000), acc_mg: [around(2_000), 0, around(2_000)] }),
    precheck: () => ({ passed: maybe(true), items: Array.from({ length: up(5) }, () => up(4)), list_version: maybe(3), remark: 'rail loose' }),
    charge: () => ({ state: up(6), out_mv: up(60_000), soc_start_pct_x10: up(1_200), soc_end_pct_x10: up(1_200), cycles: up(900), cell_mv: [3_380, 3_391], cell_temp_dc: [around(300)] }),
    comms: () => ({ ip: '192.0.2.17', imei: maybe('490154203237518'), apn: 'iot.example', rssi_dbm: around(100), tx_kb: up(1_000), mcc: 208, cell_id: up(9_999), ble_mac: ['02:00:5e:10:00:02'] }),
    diag: () => ({ level: up(5), component: maybe('bms/céll-balancer/watchdog-task'), text: 'card rejected' }),
    device: () => ({ serial: machine, oem: 'Example Lifts', model: maybe('EL-26'), firmware: '4.2.1', operator_collection: up(3) }),
  }
  const made = Array.from({ length: 24 }, (_, index) => {
    const whole = encode(stream, { machine_id: machine, ...(index % 8 === 7 ? {} : { time_ms: atMs + index }), seq: index, operator_id: maybe(card ?? 'A-1001') ?? '', ...defined((bodies[stream] as () => Record<string, unknown>)()) })
    // Valid but seldom seen: unknown fields before and behind, and a field that comes twice (the last one counts).
    if (index % 6 === 3) return Buffer.concat([UNKNOWN, whole, UNKNOWN])
    if (index % 6 === 5) return Buffer.concat([encode(stream, { seq: 1, boot: 7, historical: true }), whole])
    return whole
  })
  const last = made.at(-1) as Buffer
  // And one that ends inside a field: both refuse it.
  return [...made.slice(0, 12), last.subarray(0, last.length - 1), ...made.slice(12)]
}

const UNKNOWN = Buffer.from([0xc2, 0x3e, 0x03, 0x61, 0x62, 0x63])

function defined(message: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined))
}

/** Each message behind its length as a varint; these are shorter than 16,384 bytes. */
function delimited(messages: readonly Uint8Array[]): Buffer {
  return Buffer.concat(messages.flatMap((message) => [Buffer.from(message.length < 128 ? [message.length] : [(message.length & 127) | 128, message.length >> 7]), message]))
}

// ------------------------------------------------------------------------------------------------------------------ the tests

let stage: Stage
let recipients: Recipient[]
let rowsFile: string
/** `case stream` -> what went in, and what each recipient got of it. */
const runs = new Map<string, { readonly sent: Buffer[]; readonly got: Readonly<Record<string, Buffer>> }>()

beforeAll(async () => {
  const folder = new Folder()
  folder.edit('rules/awp.yaml', (text) => text.replaceAll(/\{ grid: (\d+k?m) \}/g, '{ grid: { size: $1, sticky: false } }'))
  stage = await Stage.open({ folder })
  recipients = await Promise.all(Object.entries(OWN_TOPICS).map(([name, filter]) => stage.recipient(name, [filter])))
  for (const one of CASES) await one.said?.(stage)
  for (const [place, one] of CASES.entries()) {
    const terminal = await stage.terminal(one.machine)
    if (one.card !== undefined) await terminal.send('operator', { time_ms: Date.now(), op: 'SIGN_ON', operator_id: one.card })
    await stage.settled(recipients)
    for (const recipient of recipients) recipient.take()
    for (const [index, stream] of streamsOf(one).entries()) {
      const sent = messagesOf(stream, one, Date.now(), 100 * place + index)
      await Promise.all(sent.map((message) => terminal.send(stream, message)))
      await stage.settled(recipients)
      runs.set(`${one.name} ${stream}`, { sent, got: Object.fromEntries(recipients.map((recipient) => [recipient.name, delimited(recipient.take().map(({ payload }) => payload as Buffer))])) })
    }
  }
  rowsFile = join(stage.folder.path, 'rows.json')
  writeFileSync(rowsFile, JSON.stringify(Object.fromEntries([...storedRows(stage.folder)].map(([name, row]) => [name, Buffer.from(row).toString('hex')]))))
})

afterAll(() => stage.close())

/** The rows that the gateway made, by what stands in the fields: read from its data folder with its root key. */
function storedRows(folder: Folder): Map<string, Uint8Array> {
  const keys = new SqliteSubjectKeys({ folder: folder.data, root: loadRootKey(join(folder.data, 'root.key')), tenant: TENANT, readOnly: true })
  try {
    return new Map(([
      ['machine:SN-1001', keys.row('machine', 'SN-1001', 'pseudonym')], ['machine:SN-1003', keys.row('machine', 'SN-1003', 'pseudonym')], ['machine:SN-1006', keys.row('machine', 'SN-1006', 'pseudonym')],
      ['machine:SN-1009', keys.row('machine', 'SN-1009', 'pseudonym')], ['operator:A-1001', keys.row('operator', 'op-anna', 'pseudonym')], ['operator:A-1002', keys.row('operator', 'op-ben', 'pseudonym')],
      ['operator:A-1003', keys.row('operator', 'op-carla', 'pseudonym')],
    ] as const).flatMap(([name, row]) => (row === undefined ? [] : [[name, row] as const])))
  } finally {
    keys.close()
  }
}

function filter(output: string, stream: string, one: Case, options: readonly string[], stdin: Uint8Array): ReturnType<typeof parapet> {
  const { folder } = stage
  return parapet([
    'filter', folder.file('rules/awp.yaml'), '--proto', join(folder.path, 'proto'), '--output', output, '--stream', stream, ...one.options, '--machine', one.machine, '--fleet', 'demo',
    '--keys', join(folder.data, 'root.key'), '--tenant', TENANT, ...options,
  ], { stdin })
}

describe('filter and the gateway', () => {
  for (const one of CASES) {
    for (const [output, recipient, streams] of OUTPUTS) {
      it(`${one.name}: the same bytes for ${output}`, async () => {
        for (const stream of streams.filter((stream) => streamsOf(one).includes(stream))) {
          const { sent, got } = runs.get(`${one.name} ${stream}`) as { sent: Buffer[]; got: Record<string, Buffer> }
          const said = await filter(output, stream, one, ['--rows', rowsFile], delimited(sent))
          expect([stream, said.code, said.bytes.toString('hex')]).toEqual([stream, 0, got[recipient]?.toString('hex')])
          const counts = JSON.parse(said.err.trimEnd().split('\n').at(-1) ?? '') as { read: number; written: number; empty: number; refused: Record<string, number> }
          expect([stream, counts.read, counts.refused['truncated']]).toEqual([stream, sent.length, 1])
        }
      })
    }
  }

  it('what was compared is not nothing', () => {
    const bytes = (recipient: string): number[] => CASES.map(({ name }) => STREAMS.reduce((sum, stream) => sum + (runs.get(`${name} ${stream}`)?.got[recipient]?.length ?? 0), 0))
    const something = (recipient: string): boolean[] => bytes(recipient).map((count) => count > 0)
    expect(something('oem-cloud')).toEqual([true, true, true, true])
    expect(something('site-planner')).toEqual([true, false, true, false])
    expect(something('rental-company')).toEqual([true, true, true, true])
    expect(something('security-desk')).toEqual([true, true, false, true])
    expect(something('safety-archive')).toEqual([true, true, true, true])
    expect(something('my-app')).toEqual([true, false, false, false])
  })
})

describe('the rows of subjects', () => {
  const one = CASES[0] as Case

  it('without them the fields that no row stands behind are the same, and the pseudonyms are others', async () => {
    const { sent, got } = runs.get(`${one.name} comms`) as { sent: Buffer[]; got: Record<string, Buffer> }
    const desk = await filter('security-log', 'comms', one, [], delimited(sent))
    expect(desk.bytes.equals(got['security-desk'] as Buffer)).toBe(true)
    const cloud = await filter('service-cloud', 'comms', one, [], delimited(sent))
    expect(cloud.bytes.length).toBe(got['oem-cloud']?.length)
    expect(cloud.bytes.equals(got['oem-cloud'] as Buffer)).toBe(false)
  })

  it('a stored row is not what filter derives from the root key and the value', () => {
    const root = Buffer.from(loadRootKey(join(stage.folder.data, 'root.key')).bytes)
    for (const [name, row] of storedRows(stage.folder)) {
      const [as = '', value = ''] = name.split(':')
      const derived = hkdf(root, TENANT, `parapet/v1|filter-row|${as}|${value}`)
      expect([name, row.length, Buffer.from(row).equals(derived)]).toEqual([name, 32, false])
    }
    expect(storedRows(stage.folder).size).toBe(7)
  })

  it('another gateway with the same root key, tenant, rules and machines has other rows, and so other pseudonyms', async () => {
    const folder = new Folder()
    mkdirSync(folder.data, { mode: 0o700 })
    copyFileSync(join(stage.folder.data, 'root.key'), join(folder.data, 'root.key'))
    const other = await Stage.open({ folder })
    try {
      const [here, there] = [storedRows(stage.folder), storedRows(folder)]
      expect([...there.keys()]).toEqual([...here.keys()])
      const values = [...here.values(), ...there.values()].map((row) => Buffer.from(row).toString('hex'))
      expect(new Set(values).size).toBe(14)

      const names: string[] = []
      for (const gateway of [stage, other]) {
        const cloud = await gateway.recipient('oem-cloud', ['out/service/device/+'], { clientId: 'comparison' })
        const terminal = await gateway.terminal('SN-1001', { clientId: 'comparison' })
        await terminal.send('device', { time_ms: Date.now(), model: 'EL-26' })
        await gateway.settled([cloud])
        names.push(...cloud.takeSaid().map(({ message }) => String(message['machine_id'])))
      }
      expect(names.length).toBe(2)
      expect(names[0]).not.toBe(names[1])
    } finally {
      await other.close()
    }
  })

  it('no file of the data folder holds a row in clear', () => {
    const files = readdirSync(stage.folder.data, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
    const holding = (secret: Uint8Array): string[] => {
      const forms = (['hex', 'base64', 'base64url'] as const).flatMap((form) => {
        const text = Buffer.from(secret).toString(form)
        return [Buffer.from(text.replaceAll('=', '')), Buffer.from(text.toUpperCase())]
      })
      return files.filter((file) => {
        const bytes = readFileSync(file)
        return [Buffer.from(secret), ...forms].some((form) => bytes.includes(form))
      })
    }
    // The search finds what is there: the root key stands in its own file, and in no other.
    expect(holding(loadRootKey(join(stage.folder.data, 'root.key')).bytes)).toEqual([join(stage.folder.data, 'root.key')])
    for (const [name, row] of storedRows(stage.folder)) expect([name, holding(row)]).toEqual([name, []])
    expect(files.map((file) => file.slice(stage.folder.data.length + 1))).toEqual(expect.arrayContaining(['keys.db', 'ledger.db', 'outbox.db', 'identities.db']))
  })
})

/** [RFC 5869] extract, then one block of expand: 32 bytes. */
function hkdf(ikm: Uint8Array, salt: string, info: string): Buffer {
  const prk = createHmac('sha256', Buffer.from(salt, 'utf8')).update(ikm).digest()
  return createHmac('sha256', prk).update(Buffer.concat([Buffer.from(info, 'utf8'), Buffer.from([1])])).digest()
}
