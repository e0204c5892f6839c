/** The runner itself: a suite of our own tells whether it can tell good from bad. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startOpenBroker } from './broker.ts'
import type { OpenBroker } from './broker.ts'
import { pahoTests } from './paho.ts'
import { packetBytes, parseSequences, play } from './sequences.ts'
import { verdict } from './verdict.ts'

/** [name, must the connection end, steps, what is wrong]; all of the first list hold for any broker that obeys the standard, none of the second. */
const GOOD: Row[] = [
  ['a connection stands', false, []],
  ['a second CONNECT ends it [MQTT-3.1.0-2]', true, [send("10 r13 s4 'MQTT' 04 02 k0 s1 'a'")]],
  ['SUBACK', false, [send("82 r6 m9 s1 'g' 01"), receive('90 r3 m9 01')]],
  ['own message comes back', false, [send("82 r6 m9 s1 'g' 00"), receive('90 r3 m9 00'), send("30 r5 s1 'g' 'hi'"), receive("30 r5 s1 'g' 'hi'")]],
  ["another client's message comes", false, [send("82 r6 m9 s1 'o' 02"), receive('90 r3 m9 02'), { type: 'external_publish', topic: 'o', qos: 2, payload: 'hi' }, receive("34 r7 s1 'o' m1 'hi'")]],
  ['a packet in two pieces', false, [send("82 r6 m9 s1"), send("'h' 00"), receive('90 r3 m9 00')]],
]
const BAD: Row[] = [
  ['it should end, but stands', true, [], 'the end of the connection expected, it stayed open'],
  ['it should end without a word', true, [send('C0 00')], 'the end of the connection expected, d000 came'],
  ['it should stand, but ends', false, [send('F0 00')], 'PINGRESP, which shows that the connection stands: d000 expected, nothing came, then the connection closed'],
  ['other bytes than expected', false, [send("82 r6 m9 s1 'g' 01"), receive('90 r3 m9 02', 'SUBACK')], 'SUBACK: 9003000902 expected, 9003000901 came'],
  ['nothing comes', false, [receive('D0 00')], 'an answer: d000 expected, nothing came'],
  ['an answer that is not looked for', false, [send("A2 r5 m9 s1 'g'")], 'PINGRESP, which shows that the connection stands: d000 expected, b002 came'],
  ['less than expected', false, [send('C0 00'), receive('D0 00 D0')], 'an answer: d000d0 expected, d000 came'],
]

interface Raw {
  readonly type: string
  readonly payload: string
  readonly comment?: string
  readonly topic?: string
  readonly qos?: number
}
type Row = [name: string, ends: boolean, msgs: readonly Raw[], fault?: string]

function send(payload: string): Raw {
  return { type: 'send', payload }
}

function receive(payload: string, comment?: string): Raw {
  return { type: 'recv', payload, ...(comment === undefined ? {} : { comment }) }
}

function fileOf(rows: readonly Row[]): string {
  return JSON.stringify([{ group: 'own', ver: 4, tests: rows.map(([name, ends, msgs]) => ({ name, expect_disconnect: ends, msgs })) }])
}

describe('playing', () => {
  let broker: OpenBroker
  beforeAll(async () => void (broker = await startOpenBroker()))
  afterAll(async () => broker.close())

  it.each<Row>(GOOD)('passes: %s', async (name, ends, msgs) => {
    expect(await play(parseSequences('own.json', fileOf([[name, ends, msgs]]))[0]!, broker.port)).toBeUndefined()
  })

  it.each<Row>(BAD)('fails: %s', async (name, ends, msgs, fault) => {
    expect(await play(parseSequences('own.json', fileOf([[name, ends, msgs]]))[0]!, broker.port, { waitMs: 300 })).toBe(fault)
  })
})

describe('the format', () => {
  it.each([
    ['C0 00', 'c000'],
    ['C000', 'c000'],
    ["82 r6 m1234 s1 'p' 01", '820604d200017001'],
    ['i255 H258 k60 L65536', 'ff0102003c00010000'],
    ['v0 v127 v128 v16384', '007f8001808001'],
    ['r268435456', '8080808001'],
    ["'a b' 'ü'", '612062c3bc'],
    ["  ''  ", ''],
  ])('%s is %s', (line, bytes) => expect(packetBytes(line).toString('hex')).toBe(bytes))

  it.each(['C', 'C0 0', 'x1', "'open", 'm12a', 'C0,00'])('%s cannot be read', (line) => expect(() => packetBytes(line)).toThrow(line))

  it('a step that is not known is no step that is left out', () => {
    const text = fileOf([['strange', true, [{ type: 'wait', payload: '' }]]])
    expect(() => parseSequences('own.json', text)).toThrow('own strange: the step "wait" is not known')
  })

  it('a test says for itself what its group says for all, and a group may be switched off', () => {
    const text = JSON.stringify([
      { group: 'one', ver: 3, connect: false, tests: [{ name: 'a', msgs: [] }, { name: 'b', ver: 5, connect: true, expect_disconnect: false, msgs: [{ type: 'any' }] }] },
      { group: 'two', disable: true, tests: [{ name: 'c', msgs: [] }] },
      { group: 'three', tests: [{ name: 'd', msgs: [] }] },
    ])
    expect(parseSequences('own.json', text).map(({ id, version, connects, closes }) => [id, version, connects, closes])).toEqual([
      ['own.json: one a', 3, false, true],
      ['own.json: one b', 5, true, false],
      ['own.json: three d', 4, true, true],
    ])
  })

  it('the tests of a unittest class', () => {
    const source = 'class Test(unittest.TestCase):\n    def setUp(self):\n        pass\n    def testBasic(self):\n        pass\n    def will_test(self):\n        pass\n    def test_two(self):\n'
    expect(pahoTests(source)).toEqual(['testBasic', 'test_two'])
  })
})

describe('the verdict', () => {
  const outcomes = [{ id: 'a', fault: undefined }, { id: 'b', fault: 'broken' }, { id: 'c', fault: 'other' }]
  it.each<[string, readonly string[], boolean, readonly string[]]>([
    ['every failure is known', ['b', 'c'], true, ['Suite: 1/3 passed, 2 known to differ, 0 failed', '  differs: why', '    b', '      broken', '    c', '      other']],
    ['one is not', ['b'], false, ['Suite: 1/3 passed, 1 known to differ, 1 failed', '  FAILED c', '         other', '  differs: why', '    b', '      broken']],
    ['one that is known passes', ['a', 'b', 'c'], false, [
      'Suite: 1/3 passed, 2 known to differ, 0 failed', '  PASSED a', '         it is listed as one that fails: take it out of the list', '  differs: why', '    b', '      broken', '    c', '      other',
    ]],
    ['the list speaks of other suites, too', ['b', 'c', 'z'], true, ['Suite: 1/3 passed, 2 known to differ, 0 failed', '  differs: why', '    b', '      broken', '    c', '      other']],
  ])('%s', (_what, known, isGood, lines) => {
    expect(verdict('Suite', outcomes, known.map((id) => ({ id, because: 'why' })))).toEqual({ isGood, lines })
  })

  it('a suite without tests is no good one', () => expect(verdict('Suite', [], []).isGood).toBe(false))
})

describe('the command', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'parapet-suites-'))
    for (const [name, rows] of [['good', GOOD], ['bad', [...GOOD, BAD[1]!]]] as const) {
      const data = join(folder, name, 'test', 'broker', 'data')
      mkdirSync(data, { recursive: true })
      writeFileSync(join(data, 'OWN.json'), fileOf(rows))
    }
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  it.each<[string, (root: string) => Record<string, string>, number, readonly RegExp[]]>([
    ['without the variables it says so', () => ({}), 0, [/^Paho .*: not run\. Set PAHO_DIR to a checkout of https:/m, /^Mosquitto .*: not run\. Set MOSQUITTO_DIR to a checkout of https:/m]],
    ['an empty one is none', () => ({ PAHO_DIR: '' }), 0, [/Set PAHO_DIR/]],
    ['one that leads nowhere', (root) => ({ MOSQUITTO_DIR: join(root, 'good'), PAHO_DIR: root }), 2, [/^PAHO_DIR leads nowhere: there is no .*client_test\.py\. Name a checkout of/m]],
    ['a suite whose program is missing', (root) => {
      const script = join(root, 'interoperability', 'client_test.py')
      mkdirSync(join(root, 'interoperability'), { recursive: true })
      writeFileSync(script, '')
      return { PAHO_DIR: root, PATH: root }
    }, 2, [/^The suite of PAHO_DIR needs python3, which cannot be started\./m]],
    ['a suite that passes', (root) => ({ MOSQUITTO_DIR: join(root, 'good') }), 0, [/^Mosquitto .*: 6\/6 passed, 0 known to differ, 0 failed$/m, /Set PAHO_DIR/]],
    ['a suite that does not', (root) => ({ MOSQUITTO_DIR: join(root, 'bad') }), 1, [/: 6\/7 passed, 0 known to differ, 1 failed$/m, /^ {2}FAILED OWN\.json: own it should end without a word\n +the end of the connection expected, d000 came$/m]],
  ])('%s', (_what, variables, status, texts) => {
    const { PAHO_DIR: _paho, MOSQUITTO_DIR: _mosquitto, ...rest } = process.env
    const run = spawnSync(process.execPath, [join(import.meta.dirname, 'run.ts')], { env: { ...rest, ...variables(folder) }, encoding: 'utf8' })
    expect(run.status, run.stderr).toBe(status)
    for (const text of texts) expect(run.stdout + run.stderr).toMatch(text)
  })
})
