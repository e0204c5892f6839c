/** A recording: what is in it, who can read it, what stays out of it, and when it goes. */
import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { MachineId, OperatorId, StreamId } from '../../src/domain/ids.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import type { RecordingView } from '../../src/domain/live.ts'
import type { Policy } from '../../src/domain/policy.ts'
import type { Machine } from '../../src/domain/ports.ts'
import { createLog } from '../../src/log.ts'
import { Observers } from '../../src/watch/observer.ts'
import { createRecordingKeys, decisionUnder, openRecording, publicKeyIn, readPrivateKey, type Recorded } from '../../src/watch/recorded.ts'
import { Recordings, type RecordingRequest } from '../../src/watch/recording.ts'
import { bytes, decisionOf, delimited, machineOf, policyOf, publishOf, PURPOSES, streamOf, varint } from './fixture.ts'

const NOON = Date.parse('2026-11-23T12:00:00Z')
const PRIVACY = { by: 'dpo', role: 'privacy' } as const
const STREAM = streamOf('report', 'up/{fleet}/{machine}/report')
const OTHER = streamOf('other', 'up/{fleet}/{machine}/other')
const TEXT = 'CANARY-text-4711'

const place = mkdtempSync(join(tmpdir(), 'parapet-recording-'))
const pair = createRecordingKeys()
const keyFile = join(place, 'dpo.key')
writeFileSync(keyFile, pair.privateKey, { mode: 0o600 })
afterAll(() => rmSync(place, { recursive: true, force: true }))

let folders = 0

const CARDS_OF = new Map([['CARD-1', { operator: 'op-anna' as OperatorId, hasSaidNo: true }], ['CARD-2', { operator: 'op-bo' as OperatorId, hasSaidNo: false }]])

interface Setting {
  readonly folder?: string
  readonly policy?: Policy
  readonly held?: Set<OperatorId>
  /** Who has said no, or was erased, while nothing ran. */
  readonly refused?: readonly string[]
  readonly erased?: readonly string[]
}

function open({ folder = join(place, `recordings-${++folders}`), policy = policyOf([STREAM, OTHER]), held = new Set<OperatorId>(), refused = [], erased = [] }: Setting = {}) {
  const clock = { ms: NOON, now: () => clock.ms }
  const ledger = { isHealthy: true }
  const logged: string[] = []
  const noted: Record<string, unknown>[] = []
  const machines = new Map<string, Machine>([...['SN-1', 'SN-2'].map((id) => machineOf(id)), machineOf('SN-off', 'off'), machineOf('SN-unknown', 'unknown')].map((machine) => [machine.id, machine]))
  const log = createLog({ level: 'debug', format: 'json', env: {}, stream: { write: (line) => logged.push(line) } })
  const observers = new Observers((error) => logged.push(String(error)))
  const recordings = new Recordings({
    folder, gateway: 'depot-7', clock, log, observers, policy: () => policy, machine: (id) => machines.get(id), held: () => held,
    seq: () => 41, ledgerHealthy: () => ledger.isHealthy, named: (card) => CARDS_OF.get(card), refusedSince: (seq) => (seq === 41 ? refused as OperatorId[] : []), isErased: (tag) => erased.some((id) => tag === Buffer.from(`operator ${id}`).toString('hex')),
    tagOf: (type, id) => Buffer.from(`${type} ${id}`).toString('hex'), note: (type, body) => void noted.push({ type, ...body }),
  })
  recordings.open(machines.values())
  const request: RecordingRequest = { to: publicKeyIn(pair.publicKey), reason: 'preview of rules 8', stream: undefined, machine: undefined, forMs: 900_000, bytes: 1_048_576, keepMs: 604_800_000, withOperators: false }
  return {
    folder, clock, ledger, logged, noted, held, machines, observers, recordings,
    start: (change: Partial<RecordingRequest> = {}): RecordingView => recordings.start({ ...request, ...change }, PRIVACY),
    send: (machine: string, operator: string | undefined, change: Parameters<typeof decisionOf>[1] = {}, stream = STREAM, payload = message(machine)) =>
      observers.decided(publishOf(machine, `up/north/${machine}/${stream.id}`, payload, clock.ms), stream, decisionOf(operator, change)),
  }
}

function message(machine: string): Uint8Array {
  return bytes(delimited(1, [...delimited(1, machine), ...varint(2, NOON)]), delimited(99, TEXT))
}

function read(file: string, key = keyFile): Recorded[] {
  const recording = openRecording(file, readPrivateKey(key))
  try {
    return [...recording.messages()]
  } finally {
    recording.close()
  }
}

/** What can be read before an error, and the error. */
function readSome(file: string): { readonly messages: readonly Recorded[]; readonly code: string } {
  const messages: Recorded[] = []
  try {
    const recording = openRecording(file, readPrivateKey(keyFile))
    try {
      for (const one of recording.messages()) messages.push(one)
    } finally {
      recording.close()
    }
  } catch (error) {
    return { messages, code: (error as { readonly code: string }).code }
  }
  return { messages, code: '' }
}

describe('what is in it', () => {
  test('payload, stream, machine, time and decision; the operator only on request', () => {
    const { start, send, recordings, clock } = open()
    const { id, file } = start()
    send('SN-1', 'op-anna')
    clock.ms += 1_000
    send('SN-2', undefined, { concerned: ['op-bo', 'op-anna'] as OperatorId[], otherCountry: 'DE' })
    send('SN-1', 'op-bo', {}, OTHER)
    expect(recordings.stop(id, PRIVACY)).toMatchObject({ running: false, ended: 'asked', messages: 3, people: 2 })
    expect(read(file)).toMatchObject([
      {
        stream: 'report', receivedAtMs: NOON, payload: Buffer.from(message('SN-1')),
        machine: { id: 'SN-1', fleet: 'north', model: 'scissor-SL10', labels: { site: 'A' }, country: 'FR', operatorCollection: 'on', holder: undefined, credential: undefined, certificate: undefined },
        decision: { known: true, yes: ['improve.statistics'], siteYes: ['improve.statistics'], no: [], notice: ['service', 'improve.statistics'], operator: 'person-1', collection: true },
      },
      { machine: { id: 'SN-2' }, receivedAtMs: NOON + 1_000, decision: { known: false, operator: undefined, concerned: ['person-2', 'person-1'], otherCountry: 'DE' } },
      { stream: 'other', machine: { id: 'SN-1' }, decision: { operator: 'person-2' } },
    ])

    const named = start({ withOperators: true })
    send('SN-1', 'op-anna')
    recordings.stop(named.id, PRIVACY)
    expect(read(named.file)).toMatchObject([{ decision: { operator: 'op-anna' } }])
  })

  test('sessions stay apart, and are those of no gateway', () => {
    const { start, send, recordings } = open()
    const { id, file } = start()
    for (const session of ['11'.repeat(16), '22'.repeat(16), '11'.repeat(16)]) send('SN-1', 'op-anna', { session })
    recordings.stop(id, PRIVACY)
    const [first, second, third] = read(file).map(({ decision }) => decision.session)
    expect(first).toMatch(/^[0-9a-f]{32}$/)
    expect([first === third, first === second, first === '11'.repeat(16)]).toEqual([true, false, false])
  })

  test('one stream or one machine alone', () => {
    const { start, send, recordings } = open()
    for (const [change, seen] of [[{ stream: 'other' as StreamId }, ['other SN-1']], [{ machine: 'SN-2' as MachineId }, ['report SN-2']]] as const) {
      const { id, file } = start(change)
      send('SN-1', 'op-anna')
      send('SN-2', 'op-anna')
      send('SN-1', 'op-anna', {}, OTHER)
      recordings.stop(id, PRIVACY)
      expect(read(file).map(({ stream, machine }) => `${stream} ${machine.id}`)).toEqual(seen)
    }
  })

  test('nobody who has said no to something, no machine whose setting is not on', () => {
    const { start, send, recordings } = open()
    const { id, file } = start()
    send('SN-1', 'op-anna', { no: 1 })
    send('SN-1', undefined, { no: 2, concerned: ['op-anna' as OperatorId] })
    send('SN-off', undefined)
    send('SN-unknown', undefined)
    send('SN-gone', undefined)
    expect(recordings.stop(id, PRIVACY)).toMatchObject({ messages: 0, people: 0, leftOut: { no: 2, deviceSetting: 3 } })
    expect(read(file)).toEqual([])
  })

  describe('nobody of whom it cannot be told whether they have said no', () => {
    const CARDS = { ...STREAM, operatorField: 'note', time: { field: 'header.time_ms', unit: 'ms' } } as const
    const SESSIONS = streamOf('sessions', 'up/{fleet}/{machine}/sessions')
    const CHOICES = streamOf('choices', 'up/{fleet}/{machine}/choices')
    const policy = policyOf([CARDS, SESSIONS, CHOICES])
    const asks = { ...policy, subject: { ...policy.subject, sessions: { stream: SESSIONS.id, operatorField: 'note' }, consent: { stream: CHOICES.id } } } as unknown as Policy
    const at = (ms: number, card = ''): Uint8Array => bytes(delimited(1, [...delimited(1, 'SN-1'), ...varint(2, ms)]), card === '' ? [] : delimited(13, card))
    const HOUR = 3_600_000

    // prettier-ignore
    test.each<[string, string | undefined, typeof STREAM, Uint8Array, number]>([
      // what, who is signed on, stream, message, recorded
      ['a known person, named by the message',              'op-bo',   CARDS,    at(NOON, 'CARD-2'),          1],
      ['nobody, and none is named',                         undefined, CARDS,    at(NOON),                    1],
      ['nobody, and the message names who has said no',     undefined, CARDS,    at(NOON, 'CARD-1'),          0],
      ['nobody, and the message names who has not',         undefined, CARDS,    at(NOON, 'CARD-2'),          1],
      ['nobody, and the message names an unknown card',     undefined, CARDS,    at(NOON, 'CARD-9'),          0],
      ['a clock ahead: nobody was asked about',             undefined, CARDS,    at(NOON + HOUR),             0],
      ['too late: nobody was asked about',                  undefined, CARDS,    at(NOON - 200 * HOUR),       0],
      ['late, but not too late',                            'op-bo',   CARDS,    at(NOON - HOUR, 'CARD-2'),   1],
      ['an unknown card that signs on',                     undefined, SESSIONS, at(NOON, 'CARD-9'),          0],
      ['what somebody chose, at another person\'s machine', 'op-bo',   CHOICES,  at(NOON, 'CARD-1'),          0],
    ])('%s', (_what, operator, stream, payload, messages) => {
      const { start, send, recordings } = open({ policy: asks })
      const { id } = start()
      send('SN-1', operator, {}, stream, payload)
      expect(recordings.stop(id, PRIVACY)).toMatchObject({ messages, leftOut: { no: 1 - messages, deviceSetting: 0 } })
    })

    test('whom a message names is in the recording, and takes it along', () => {
      const { start, send, recordings } = open({ policy: asks })
      start()
      send('SN-1', undefined, {}, CARDS, at(NOON, 'CARD-2'))
      expect(recordings.locate('op-bo' as OperatorId)).toEqual({ records: 1 })
      recordings.withdrawn('op-bo' as OperatorId)
      expect(recordings.list()).toEqual([])
    })

    test('nobody at all while the ledger cannot be read', () => {
      const { start, send, recordings, ledger } = open({ policy: asks })
      const { id } = start()
      ledger.isHealthy = false
      send('SN-1', undefined, {}, CARDS, at(NOON))
      expect(recordings.stop(id, PRIVACY)).toMatchObject({ messages: 0, leftOut: { no: 1 } })
    })
  })

  test('the decision under other rules: purposes by name, what is new to them nobody was asked for, a no goes with its purpose', () => {
    const { start, send, recordings } = open()
    const { id, file } = start()
    send('SN-1', 'op-anna')
    recordings.stop(id, PRIVACY)
    const [recorded] = read(file) as [Recorded]
    const [service, statistics] = PURPOSES as [(typeof PURPOSES)[number], (typeof PURPOSES)[number]]
    const other = policyOf([STREAM], 'cd'.repeat(32), [{ ...statistics, index: 0 }, { ...service, id: 'marketing' as typeof service.id, index: 1 }])
    expect(decisionUnder(other, recorded.decision)).toMatchObject({ known: true, yes: 1, siteYes: 1, no: 0, notice: 1, operator: 'person-1' })
    const heir = policyOf([STREAM], 'cd'.repeat(32), [{ ...service, id: 'rating' as typeof service.id, index: 3, replaces: [statistics.id] }])
    expect(decisionUnder(heir, recorded.decision)).toMatchObject({ yes: 0 })
    expect(decisionUnder(heir, { ...recorded.decision, yes: ['rating'], no: ['improve.statistics'] })).toMatchObject({ yes: 0, no: 8 })
  })
})

describe('who can read it', () => {
  test('nothing of a payload, machine or person is in clear, in files, ledger or log; nobody else may read the files', () => {
    const { start, send, recordings, folder, logged, noted } = open()
    const { id, file } = start()
    for (let count = 0; count < 400; count++) send('SN-1', 'op-anna', { concerned: ['op-bo' as OperatorId] }, STREAM, bytes(delimited(99, TEXT.repeat(20))))
    recordings.stop(id, PRIVACY)
    expect(read(file)).toHaveLength(400)
    const stored = readdirSync(folder).map((name) => readFileSync(join(folder, name)).toString('latin1')).join('\n')
    for (const text of [...stored.matchAll(/CANARY|SN-1|op-anna|op-bo|scissor/g), ...JSON.stringify(noted).matchAll(/CANARY|SN-1|op-/g), ...logged]) expect(text).toBeUndefined()
    if (process.platform !== 'win32') for (const name of readdirSync(folder)) expect([name, statSync(join(folder, name)).mode & 0o777]).toEqual([name, 0o600])
    expect(statSync(folder).mode & 0o777).toBe(0o700)
  })

  test('the same message twice is not the same bytes, in one file or in two', () => {
    const { start, send, recordings } = open()
    const sealed = [1, 2].map(() => {
      const { id, file } = start()
      send('SN-1', 'op-anna')
      send('SN-1', 'op-anna')
      recordings.stop(id, PRIVACY)
      return readFileSync(file)
    })
    const tails = sealed.map((one) => one.subarray(-600, -100).toString('hex'))
    expect(tails[0]).not.toBe(tails[1])
    const half = (tails[0] as string).slice(0, 64)
    expect((tails[0] as string).indexOf(half, 1)).toBe(-1)
  })

  test('another key, a public key, a key that others may read, a file that is none', () => {
    const { start, recordings } = open()
    const { id, file } = start()
    recordings.stop(id, PRIVACY)
    const write = (name: string, text: string, mode = 0o600): string => {
      const path = join(place, name)
      writeFileSync(path, text)
      chmodSync(path, mode)
      return path
    }
    expect(() => read(file, write('other.key', createRecordingKeys().privateKey))).toThrow(`sealed to the key ${pair.id}`)
    expect(() => read(file, write('public.key', pair.publicKey))).toThrow(/no private key for recordings/)
    expect(() => read(file, write('ed25519.key', generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' })))).toThrow(/no private key for recordings/)
    if (process.platform !== 'win32') expect(() => read(file, write('open.key', pair.privateKey, 0o644))).toThrow(/can be read by others/)
    expect(() => read(join(place, 'nowhere.rec'))).toThrow(/cannot be read/)
    expect(() => read(keyFile)).toThrow(/is no recording/)
    expect(() => publicKeyIn(pair.privateKey)).toThrow(/private key/)
    expect(() => publicKeyIn('hello')).toThrow(/no public key/)
  })

  test.each([['all zeros', 0], ['one', 1]])('a public key of small order, %s, is refused', (_text, first) => {
    const { start, recordings } = open()
    expect(() => start({ to: Buffer.from(Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? first : 0))).toString('base64url') })).toThrow(/there is no secret/)
    expect(recordings.list()).toEqual([])
  })
})

describe('a file that was changed or cut', () => {
  const { start, send, recordings } = open()
  const { id, file } = start()
  for (const operator of ['op-anna', undefined, 'op-bo']) send('SN-1', operator, {}, STREAM, bytes(varint(5, 7)))
  recordings.stop(id, PRIVACY)
  const whole = readFileSync(file)
  const messages = read(file)
  const changed = join(place, 'changed.rec')

  test('any byte: an error, and nothing but a beginning of what was recorded', () => {
    expect(messages).toHaveLength(3)
    const codes = new Map<string, number>()
    for (let at = 0; at < whole.length; at++) {
      const copy = Buffer.from(whole)
      copy[at]! ^= 1 << (at % 8)
      writeFileSync(changed, copy)
      const got = readSome(changed)
      expect([at, got.code !== '']).toEqual([at, true])
      expect(got.messages).toEqual(messages.slice(0, got.messages.length))
      codes.set(got.code, (codes.get(got.code) ?? 0) + 1)
    }
    expect([...codes.keys()].sort()).toEqual(['RECORDING-CHANGED', 'RECORDING-CUT', 'RECORDING-FILE', 'RECORDING-KEY'])
  })

  test('any cut: an error, and all whole messages before it', () => {
    const counts = new Set<number>()
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(changed, whole)
      truncateSync(changed, length)
      const got = readSome(changed)
      expect([length, /^RECORDING-(CUT|FILE)$/.test(got.code)]).toEqual([length, true])
      expect(got.messages).toEqual(messages.slice(0, got.messages.length))
      counts.add(got.messages.length)
    }
    expect([...counts]).toEqual([0, 1, 2, 3])
  })

  test('chunks that were moved, doubled, left out, added', () => {
    const head = 24 + whole.readUInt32BE(20)
    const chunks: Buffer[] = []
    for (let at = head; at < whole.length; at += 4 + whole.readUInt32BE(at)) chunks.push(whole.subarray(at, at + 4 + whole.readUInt32BE(at)))
    expect(chunks).toHaveLength(6)
    const of = (...order: readonly number[]): { readonly messages: readonly Recorded[]; readonly code: string } => {
      writeFileSync(changed, Buffer.concat([whole.subarray(0, head), ...order.map((index) => chunks[index] as Buffer)]))
      return readSome(changed)
    }
    expect(of(0, 1, 2, 3, 4, 5).code).toBe('')
    for (const order of [[0, 1, 3, 2, 4, 5], [0, 1, 2, 2, 3, 4, 5], [0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5, 5], [1, 2, 3, 4, 5], [0, 5]]) expect([order, of(...order).code]).toEqual([order, 'RECORDING-CHANGED'])
  })
})

describe('how long', () => {
  test('by time, by size, and when the rules change', () => {
    const { start, send, recordings, clock, observers } = open()
    start({ forMs: 60_000 })
    clock.ms += 60_000
    send('SN-1', 'op-anna')
    expect(recordings.list()).toMatchObject([{ running: false, ended: 'over', messages: 0, untilMs: NOON + 60_000 }])

    const { file } = start({ bytes: 65_536 })
    for (let count = 0; count < 100; count++) send('SN-1', 'op-anna', {}, STREAM, new Uint8Array(2_000).fill(8))
    expect(recordings.list()[1]).toMatchObject({ ended: 'over' })
    expect(statSync(file).size).toBeLessThanOrEqual(65_536)
    expect(read(file).length).toBeGreaterThan(10)

    start()
    observers.rulesChanged()
    expect(recordings.list()[2]).toMatchObject({ ended: 'rules' })
  })

  test.each<[string, Partial<RecordingRequest>, RegExp]>([
    ['no reason', { reason: '  ' }, /needs a reason/],
    ['longer than a day', { forMs: LIMITS.recordingMs + 1 }, /between a second and 24 hours/],
    ['larger than 1 GiB', { bytes: LIMITS.recordingBytes + 1 }, /between 64 KiB and 1 GiB/],
    ['kept for more than 30 days', { keepMs: LIMITS.recordingKeepMs + 1 }, /30 days at most/],
    ['kept for less than it lasts', { keepMs: 1_000 }, /at least for as long as it lasts/],
    ['a stream that is not there', { stream: 'nowhere' as StreamId }, /no stream of this name/],
    ['a machine that is not there', { machine: 'SN-9' as MachineId }, /no such machine/],
    ['no key', { to: 'short' }, /no public key/],
  ])('%s is refused, and nothing is left of it', (_text, change, error) => {
    const { start, recordings, folder, noted } = open()
    expect(() => start(change)).toThrow(error)
    expect([recordings.list(), noted, existsSync(folder) ? readdirSync(folder) : []]).toEqual([[], [], []])
  })

  test('one at a time, sixteen in all', () => {
    const { start, recordings } = open()
    start()
    expect(() => start()).toThrow(/A recording is running/)
    for (let count = 0; count < LIMITS.recordings; count++) {
      recordings.stop(recordings.list().find((one) => one.running)!.id, PRIVACY)
      if (count + 1 < LIMITS.recordings) start()
    }
    expect(() => start()).toThrow(/There are 16 recordings/)
  })

  test('deleted when its time is over, by the sweep or at the next start', () => {
    const { start, recordings, clock, folder } = open()
    recordings.stop(start().id, PRIVACY)
    clock.ms += 604_800_000 - 1
    recordings.sweep()
    expect(recordings.list()).toHaveLength(1)
    clock.ms += 1
    recordings.sweep()
    expect([recordings.list(), readdirSync(folder)]).toEqual([[], []])

    recordings.stop(start({ keepMs: 900_000 }).id, PRIVACY)
    const next = open({ folder })
    expect(next.recordings.list()).toHaveLength(1)
    next.clock.ms = clock.ms + 900_000
    next.recordings.open(next.machines.values())
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('who is in it', () => {
  test('a no, later: the file goes whole, also one that is running; others stay', () => {
    const { start, send, recordings, noted, folder } = open()
    for (const people of [['op-anna', 'op-bo'], ['op-bo'], ['op-anna']]) {
      start()
      for (const operator of people) send('SN-1', operator)
      if (people.length > 1 || people[0] === 'op-bo') recordings.stop(recordings.list().at(-1)!.id, PRIVACY)
    }
    expect(recordings.locate('op-anna' as OperatorId)).toEqual({ records: 2 })
    expect([...recordings.export('op-anna' as OperatorId)]).toMatchObject([{ sealed_to: pair.id }, { sealed_to: pair.id }])
    recordings.withdrawn('op-anna' as OperatorId)
    expect(recordings.list()).toMatchObject([{ people: 1, running: false }])
    expect(readdirSync(folder)).toHaveLength(3)
    expect(noted.filter(({ type }) => type === 'disclosure.recording_deleted')).toMatchObject([{ why: 'withdrawal' }, { why: 'withdrawal' }])
    expect(recordings.erase('op-bo' as OperatorId)).toEqual({ erased: 1, held: 0 })
    expect(readdirSync(folder)).toEqual([])
  })

  test('whoever a message may be about counts, not the one who is signed on alone', () => {
    const { start, send, recordings } = open()
    start()
    send('SN-1', undefined, { concerned: ['op-anna', 'op-bo'] as OperatorId[] })
    recordings.withdrawn('op-bo' as OperatorId)
    expect(recordings.list()).toEqual([])
  })

  test('is known after a crash, too, and nobody knows: the file goes', () => {
    const { start, send, folder, recordings: lost } = open()
    const { id, file } = start()
    for (let count = 0; count < 400; count++) send('SN-1', 'op-anna', {}, STREAM, new Uint8Array(300).fill(8))
    // What a killed process leaves: no end, no count.
    const { recordings, noted } = open({ folder })
    expect(recordings.list()).toMatchObject([{ id, running: false, ended: 'lost', people: 1 }])
    expect(noted).toMatchObject([{ type: 'disclosure.recording_ended', why: 'lost' }])
    expect(readSome(file)).toMatchObject({ code: 'RECORDING-CUT' })
    expect(readSome(file).messages.length).toBeGreaterThan(100)
    recordings.withdrawn('op-anna' as OperatorId)
    expect(readdirSync(folder)).toEqual([])

    lost.stop(id, PRIVACY)
    const second = open({ folder })
    second.recordings.stop(second.start().id, PRIVACY)
    for (const name of readdirSync(folder).filter((one) => one.endsWith('.json'))) writeFileSync(join(folder, name), '{"id":')
    expect(open({ folder }).recordings.list()).toEqual([])
    expect(readdirSync(folder)).toEqual([])
  })

  test.each([['said no', { refused: ['op-anna'] }], ['was erased', { erased: ['op-anna'] }]])('somebody who %s just before the process was killed', (_what, setting) => {
    const { start, send, folder, recordings } = open()
    for (const operator of ['op-anna', 'op-bo']) {
      const { id } = start()
      send('SN-1', operator)
      recordings.stop(id, PRIVACY)
    }
    expect(open({ folder }).recordings.list()).toHaveLength(2)
    const [left, ...others] = open({ folder, ...setting }).recordings.list()
    expect(others).toEqual([])
    expect(read(left?.file ?? '')).toHaveLength(1)
  })

  test('a device setting that is turned off, now or while nothing ran', () => {
    const { start, send, recordings, folder } = open()
    for (const machine of ['SN-1', 'SN-2']) {
      const { id } = start()
      send(machine, undefined)
      recordings.stop(id, PRIVACY)
    }
    recordings.switchedOff('SN-1' as MachineId)
    expect(recordings.list()).toHaveLength(1)
    const next = open({ folder })
    expect(next.recordings.list()).toHaveLength(1)
    next.recordings.open([machineOf('SN-2', 'off')])
    expect(readdirSync(folder)).toEqual([])
  })

  test('a legal hold keeps the file until it is released', () => {
    const { start, send, recordings, held, folder, clock } = open()
    const { id } = start()
    send('SN-1', 'op-anna')
    held.add('op-anna' as OperatorId)
    expect(recordings.erase('op-anna' as OperatorId)).toEqual({ erased: 0, held: 1 })
    expect(recordings.list()).toMatchObject([{ id, running: false, held: true }])
    expect(() => recordings.delete(id, PRIVACY)).toThrow(/legal hold/)
    clock.ms += LIMITS.recordingKeepMs
    recordings.sweep()
    expect(open({ folder, held }).recordings.list()).toHaveLength(1)
    held.clear()
    recordings.sweep()
    expect(readdirSync(folder)).toEqual([])
  })
})

test('start, stop, end and deletion are in the ledger, with who and why; a ledger that refuses starts nothing', () => {
  const { start, recordings, noted, folder } = open()
  const { id } = start({ withOperators: true, stream: 'report' as StreamId })
  recordings.stop(id, PRIVACY)
  recordings.delete(id, PRIVACY)
  expect(noted).toMatchObject([
    { type: 'disclosure.recording_started', id, by: 'dpo', role: 'privacy', reason: 'preview of rules 8', to: pair.id, stream: 'report', with_operators: true, started: '2026-11-23T12:00:00.000Z' },
    { type: 'disclosure.recording_stopped', id, by: 'dpo' },
    { type: 'disclosure.recording_ended', id, why: 'asked', messages: 0 },
    { type: 'disclosure.recording_deleted', id, why: 'asked', by: 'dpo' },
  ])
  const refusing = new Recordings({
    folder, gateway: 'depot-7', clock: { now: () => NOON }, log: createLog({ level: 'silent', env: {} }), observers: new Observers(() => undefined), policy: () => policyOf([STREAM]), machine: () => undefined,
    seq: () => 0, ledgerHealthy: () => true, named: () => undefined, refusedSince: () => [], isErased: () => false, held: () => [], tagOf: () => '', note: () => { throw new Error('full') },
  })
  const request: RecordingRequest = { to: publicKeyIn(pair.publicKey), reason: 'why', stream: undefined, machine: undefined, forMs: 60_000, bytes: 65_536, keepMs: 60_000, withOperators: false }
  expect(() => refusing.start(request, PRIVACY)).toThrow('full')
  expect([refusing.list(), readdirSync(folder)]).toEqual([[], []])
})
