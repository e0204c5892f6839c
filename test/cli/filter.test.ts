/**
 * `parapet filter` against values made by other means: protobufjs for the bytes, node:crypto and integer arithmetic for the rest.
 */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encode, gridE7, pseudonym, Report } from './lift/oracle.ts'
import { parapet, type Said } from './run.ts'

const lift = resolve(import.meta.dirname, 'lift')
const rules = join(lift, 'rules.yaml')
const root = Uint8Array.from({ length: 32 }, (_, index) => index)
const WEEK = String(Math.floor(1_763_888_864_000 / 604_800_000))
const MONTH = String(Math.floor(1_763_888_864_000 / 2_592_000_000))
const DAY = String(Math.floor(1_763_888_864_000 / 86_400_000))

const message = {
  machine: 'SN-1', at_s: 1_763_888_864, driver: 'P7', tag: Buffer.from([1, 2, 3]), job: 77, lat_e7: 481_371_540, lon_e7: 115_761_240, load_kg: 137, tilt_cdeg: -150,
  temperature: 21.3, site: 'Zürich', note: 'hello', kind: 2, lamp: 0, cells: [1, 0, 300], fix: 3, secret: 'canary',
}

interface Varied {
  readonly tenant?: string
  readonly root?: Uint8Array
  readonly rows?: Readonly<Record<string, Uint8Array>>
}

/** What leaves of `message` with a yes, by hand; the pseudonyms by the oracle. */
function expected({ tenant = 'demo', root: key = root, rows }: Varied = {}): Record<string, unknown> {
  const made = (as: string, epoch: string, value: string | Uint8Array, row: Uint8Array | undefined): Buffer => pseudonym({ root: key, tenant, as, output: 'planner', epoch, value: Buffer.from(value), row })
  const job = made('job', WEEK, '77', Buffer.alloc(0)).readBigUInt64LE(0)
  return {
    machine: made('machine', WEEK, 'SN-1', rows?.['machine:SN-1']).toString('base64url'),
    at_s: 1_763_888_400,
    driver: made('operator', MONTH, 'P7', rows?.['operator:P7']).toString('base64url'),
    tag: made('badge', DAY, Buffer.from([1, 2, 3]), Buffer.alloc(0)),
    job: job.toString(),
    lat_e7: gridE7(481_371_540, 115_761_240, 500).lat,
    lon_e7: gridE7(481_371_540, 115_761_240, 500).lon,
    load_kg: 150,
    tilt_cdeg: -300,
    temperature: 21.5,
    site: 'Zür',
    note: 'h***o',
    kind: 2,
    lamp: 0,
    cells: [1, 0, 300],
  }
}

function frame(...messages: readonly Uint8Array[]): Buffer {
  return Buffer.concat(messages.map((one) => Report.encodeDelimited(Report.decode(one)).finish()).map((framed, index) => {
    // The length of what was given, not of what protobufjs would make of it.
    const body = messages[index] as Uint8Array
    return body.length < 128 ? Buffer.concat([Buffer.from([body.length]), body]) : body.length < 16_384 ? Buffer.concat([Buffer.from([(body.length & 127) | 128, body.length >> 7]), body]) : Buffer.from(framed)
  }))
}

function unframe(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let at = 0; at < bytes.length;) {
    const [low, high] = [bytes[at]!, bytes[at + 1]!]
    const [start, length] = low < 128 ? [at + 1, low] : [at + 2, (low & 127) + high * 128]
    found.push(bytes.subarray(start, start + length))
    at = start + length
  }
  return found
}

function filter(options: readonly string[], stdin: string | Uint8Array | readonly Uint8Array[]): Promise<Said> {
  return parapet(['filter', rules, '--output', 'planner', '--stream', 'report', ...options], { stdin, cwd: lift })
}

function counts(said: Said): { read: number; written: number; empty: number; refused: Record<string, number> } {
  return JSON.parse(said.err.trimEnd().split('\n').at(-1) ?? '') as ReturnType<typeof counts>
}

const france = ['--country', 'FR', '--consent', 'plan']

describe('the bytes are those that the rules language says', () => {
  test('every field of a message with a yes, to the byte', async () => {
    const said = await filter(france, frame(encode(message)))
    expect(said.code).toBe(0)
    const [result, ...more] = unframe(said.bytes)
    expect(more).toEqual([])
    expect(Report.toObject(Report.decode(result as Uint8Array), { longs: String })).toEqual(Report.toObject(Report.fromObject(expected()), { longs: String }))
    expect(Buffer.from(result as Uint8Array).equals(encode(expected()))).toBe(true)
    expect(said.bytes.includes('canary')).toBe(false)
    expect(said.err).toBe('{"read":1,"written":1,"empty":0,"refused":{}}\n')
  })

  test('without a yes where none is needed: no person, and a cell of 10 km', async () => {
    const said = await filter(['--country', 'DE'], frame(encode(message)))
    const { driver, ...rest } = expected()
    const cell = gridE7(481_371_540, 115_761_240, 10_000)
    expect(driver).toBeDefined()
    expect(Buffer.from(unframe(said.bytes)[0] as Uint8Array).equals(encode({ ...rest, lat_e7: cell.lat, lon_e7: cell.lon }))).toBe(true)
    // From the page of the rules language: the cell of this very position.
    expect(cell).toEqual({ lat: 481_045_600, lon: 116_261_200 })
  })

  test('JSON lines give the same values as proto3 JSON', async () => {
    const said = await filter([...france, '--format', 'json'], `${JSON.stringify({ ...message, tag: 'AQID' })}\n\n`)
    expect(encode(Report.toObject(Report.fromObject(JSON.parse(said.out) as Record<string, unknown>))).length).toBe(encode(expected()).length)
    expect(JSON.parse(said.out)).toEqual({ ...expected(), kind: 'BOOM', tag: (expected().tag as Buffer).toString('base64'), at_s: '1763888400' })
  })

  test('the grid, at random places, in e7 integers', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.integer({ min: -900_000_000, max: 900_000_000 }), fc.integer({ min: -1_800_000_000, max: 1_800_000_000 })), { minLength: 200, maxLength: 200 }), async (places) => {
      const said = await filter(['--country', 'DE'], frame(...places.map(([lat, lon]) => encode({ machine: 'SN-1', at_s: 1_763_888_864, lat_e7: lat, lon_e7: lon, fix: 1 }))))
      const got = unframe(said.bytes).map((bytes) => Report.decode(bytes) as unknown as { lat_e7: number; lon_e7: number })
      // Nobody stands on the point 0/0: that is how a terminal without a fix says so.
      const wanted = places.filter(([lat, lon]) => lat !== 0 || lon !== 0).map(([lat, lon]) => gridE7(lat, lon, 10_000))
      expect(got.map(({ lat_e7: lat, lon_e7: lon }) => ({ lat, lon }))).toEqual(wanted)
    }), { numRuns: 3 })
  })
})

describe('keys, tenant and rows', () => {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-filter-'))
  const file = (name: string, content: string | Uint8Array): string => {
    writeFileSync(join(folder, name), content, { mode: 0o644 })
    return join(folder, name)
  }
  const key = Buffer.from('b5c7d1e97a3f40218896aa5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f', 'hex')

  test.each([
    ['32 raw bytes', key],
    ['hex', `${key.toString('hex')}\n`],
    ['base64url', key.toString('base64url')],
    ['a key file of a gateway, with comments', `# Root key of a gateway\n${key.toString('base64url')}\n# a former one\n${root.join('')}\n`],
  ])('a key file with %s', async (_name, content) => {
    const said = await filter([...france, '--keys', file('root.key', content)], frame(encode(message)))
    expect(Buffer.from(unframe(said.bytes)[0] as Uint8Array).equals(encode(expected({ root: key })))).toBe(true)
  })

  test('another tenant makes other pseudonyms', async () => {
    const said = await filter([...france, '--tenant', 'acme'], frame(encode(message)))
    expect(Buffer.from(unframe(said.bytes)[0] as Uint8Array).equals(encode(expected({ tenant: 'acme' })))).toBe(true)
  })

  test('rows of a file replace the derived ones; who has no row has no pseudonym', async () => {
    const rows = { 'machine:SN-1': Buffer.alloc(32, 0xa1), 'operator:P7': Buffer.alloc(32, 0xb2) }
    const path = file('rows.json', JSON.stringify(Object.fromEntries(Object.entries(rows).map(([subject, row]) => [subject, row.toString('hex')]))))
    const said = await filter([...france, '--rows', path], frame(encode(message), encode({ ...message, driver: 'P8' }), encode({ ...message, machine: 'SN-2' })))
    const [first, second] = unframe(said.bytes)
    expect(Buffer.from(first as Uint8Array).equals(encode(expected({ rows })))).toBe(true)
    const { driver, ...rest } = expected({ rows })
    expect(driver).toBeDefined()
    expect(Buffer.from(second as Uint8Array).equals(encode(rest))).toBe(true)
    // Without its pseudonym the machine's topic cannot be made.
    expect(counts(said)).toEqual({ read: 3, written: 2, empty: 0, refused: { bad_topic_value: 1 } })
  })

  test.each([
    ['a short key', ['--keys', 'short'], 'abcd', /holds no root key/],
    ['rows that are a list', ['--rows', 'short'], '[1]', /is no JSON object/],
    ['a row of the wrong length', ['--rows', 'short'], '{"machine:SN-1": "00"}', /Entry 1 of .* is no row/],
  ])('%s is refused', async (_name, [option = ''], content, pattern) => {
    const said = await filter([...france, option, file('short', content)], '')
    expect(said.code).toBe(1)
    expect(said.err).toMatch(pattern)
  })
})

describe('who is there and what they said', () => {
  const person = { ...message, lat_e7: 0, lon_e7: 0 }
  // prettier-ignore
  test.each([
    // country, what is assumed                                   sent   with the person
    ['FR', [],                                                    false, false],
    ['FR', ['--consent', 'none'],                                 false, false],
    ['FR', ['--consent', 'plan'],                                 true,  true],
    ['FR', ['--consent', 'plan', '--operator', 'none'],           false, false],
    ['FR', ['--consent', 'plan', '--operator', 'P9'],             true,  true],
    ['FR', ['--consent', 'plan', '--operator-collection', 'off'], false, false],
    ['FR', ['--refused', 'plan'],                                 false, false],
    ['DE', [],                                                    true,  false],
    ['DE', ['--refused', 'plan'],                                 false, false],
    ['DE', ['--operator', 'none'],                                true,  false],
    ['DE', ['--operator-country', 'FR'],                          false, false],
    ['US', [],                                                    true,  false],
    ['US', ['--no-notice'],                                       false, false],
    ['US', ['--operator', 'none'],                                false, false],
    ['US', ['--consent', 'plan'],                                 true,  true],
    ['BR', ['--operator', 'none'],                                false, false],
    [undefined, ['--consent', 'plan'],                            true,  true],
    ['FR', ['--consent', 'plan', '--now', '2025-11-23T09:10:00Z'], true, true],
    // More than the seven days that a message may be late, and a clock that runs ahead: nobody known.
    ['FR', ['--consent', 'plan', '--now', '2025-12-23T09:10:00Z'], false, false],
    ['DE', ['--consent', 'plan', '--now', '2025-12-23T09:10:00Z'], true,  false],
    ['FR', ['--consent', 'plan', '--now', '2025-11-23T09:00:00Z'], false, false],
  ] as const)('%s %j', async (country, options, sent, withPerson) => {
    const said = await filter([...(country === undefined ? [] : ['--country', country]), ...options], frame(encode(person)))
    expect(counts(said)).toEqual({ read: 1, written: sent ? 1 : 0, empty: sent ? 0 : 1, refused: {} })
    expect(sent && Object.hasOwn(Report.decode(unframe(said.bytes)[0] as Uint8Array), 'driver')).toBe(withPerson)
  })
})

describe('what is counted', () => {
  const good = encode(message)
  // prettier-ignore
  test.each([
    ['a heavy load: the condition is false',   encode({ ...message, load_kg: 5000 }),  { empty: 1 }],
    ['nothing but header fields',              encode({ machine: 'SN-1', at_s: 1 }),   { empty: 1 }],
    ['no machine: no topic',                   encode({ ...message, machine: '' }),    { refused: { bad_topic_value: 1 } }],
    ['cut inside a text',                      good.subarray(0, 3),                    { refused: { truncated: 1 } }],
    ['a text that is no UTF-8',                Buffer.concat([good, Buffer.from([0x62, 1, 0xff])]), { refused: { bad_utf8: 1 } }],
    ['no bytes',                               new Uint8Array(0),                      { refused: { empty_payload: 1 } }],
  ])('%s', async (_name, bytes, change) => {
    const said = await filter(france, Buffer.concat([Buffer.from([bytes.length & 127 | (bytes.length > 127 ? 128 : 0), ...(bytes.length > 127 ? [bytes.length >> 7] : [])]), bytes]))
    expect(counts(said)).toEqual({ read: 1, written: 0, empty: 0, refused: {}, ...change })
    expect(said.bytes.length).toBe(0)
    expect(said.code).toBe(0)
  })

  test('a machine that is not the one of the connection is refused', async () => {
    expect(counts(await filter([...france, '--machine', 'SN-2'], frame(good)))).toEqual({ read: 1, written: 0, empty: 0, refused: { foreign_machine: 1 } })
  })

  test('a message longer than any gateway takes is passed over, and the next one read', async () => {
    const length = 300_000
    const big = Buffer.concat([Buffer.from([(length & 127) | 128, ((length >> 7) & 127) | 128, length >> 14]), Buffer.alloc(length)])
    const said = await filter(france, [big.subarray(0, 1), big.subarray(1, 70_000), big.subarray(70_000), frame(good)])
    expect(counts(said)).toEqual({ read: 2, written: 1, empty: 0, refused: { too_big: 1 } })
  })
})

describe('the input', () => {
  test('comes in pieces of any size', async () => {
    const whole = frame(encode(message), encode({ ...message, note: 'x'.repeat(400) }), encode({ ...message, load_kg: 5000 }), encode(message))
    const all = await filter(france, whole)
    for (const size of [1, 2, 7, 129]) {
      const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, index) => whole.subarray(index * size, (index + 1) * size))
      const said = await filter(france, pieces)
      expect(said.bytes.equals(all.bytes)).toBe(true)
      expect(said.err).toBe(all.err)
    }
    expect(counts(all)).toEqual({ read: 4, written: 3, empty: 1, refused: {} })
  })

  test('ends inside a message: what came before is written, exit 1', async () => {
    const whole = frame(encode(message), encode(message))
    const said = await filter(france, whole.subarray(0, -1))
    expect(said.code).toBe(1)
    expect(unframe(said.bytes)).toHaveLength(1)
    expect(said.err.split('\n')[0]).toBe(`parapet: The input ends inside message 2, which begins at byte ${whole.length / 2}. The messages before it were handled.`)
    expect(counts(said)).toEqual({ read: 1, written: 1, empty: 0, refused: {} })
  })

  test('is no sequence of messages', async () => {
    const said = await filter(france, Buffer.alloc(20, 0xff))
    expect(said.code).toBe(1)
    expect(said.err).toContain('There is no message length at byte 0')
  })

  test('has a line that is no such message: the line is named, the value is not', async () => {
    const said = await filter([...france, '--format', 'json'], '{"machine":"SN-1"}\n{"machine":"SN-1","drivr":"Anna"}\n')
    expect(said.code).toBe(1)
    expect(said.err).toContain('Line 2 of the input is no lift.v1.Report')
    expect(said.err).not.toContain('Anna')
    expect(counts(said).read).toBe(1)
  })

  test.each([
    [['--output', 'planer', '--stream', 'report'], 'There is'],
    [['--output', 'planner', '--stream', 'reprt'], 'Did you mean "report"?'],
    [['--output', 'planner', '--stream', 'report', '--consent', 'plans'], 'Did you mean "plan"?'],
    [['--output', 'planner', '--stream', 'report', '--consent', 'plan', '--refused', 'plan'], 'cannot be both'],
    [['--output', 'planner', '--stream', 'report', '--country', 'XX'], 'is no ISO 3166 code'],
    [['--output', 'planner', '--stream', 'report', '--now', 'noon'], '--now is a time'],
    [['--output', 'planner'], '--stream is needed'],
  ])('wrong usage: %j', async (options, text) => {
    const said = await parapet(['filter', rules, ...options], { cwd: lift })
    expect(said.code).toBe(2)
    expect(said.err).toContain(text.startsWith('There') ? 'Did you mean "planner"?' : text)
  })
})
