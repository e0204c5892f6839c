/** The simulated shift: what fleet, seed and time give, held against what a person who knows lifts would expect. */
import { gzipSync } from 'node:zlib'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import fc from 'fast-check'
import { chance } from '../../src/cli/simulate/random.ts'
import { canId, readRecordings } from '../../src/cli/simulate/recordings.ts'
import { crewsOf, readRoster } from '../../src/cli/simulate/roster.ts'
import type { Card, Roster } from '../../src/cli/simulate/roster.ts'
import { createShift } from '../../src/cli/simulate/shift.ts'
import { createMachine, STREAMS } from '../../src/cli/simulate/machine.ts'
import type { MachineSpec, Message } from '../../src/cli/simulate/machine.ts'
import { readYaml } from '../../src/config/yaml.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'

const root = resolve(import.meta.dirname, '../..')
const START = Date.UTC(2026, 10, 23, 7, 0, 0)
const MINUTE = 60_000
const schemas = loadSchemas([join(root, 'proto')])
const roster: Roster = readRoster(root, undefined, START)

function shiftOf(minutes: number, seed = 1, machines = roster.machines): Message[] {
  return createShift({ machines, cards: roster.cards, seed, startMs: START }).advance(START + minutes * MINUTE)
}

function ofMachine(messages: readonly Message[], id: string): Message[] {
  return messages.filter(({ machine }) => machine === id)
}
const ids = roster.machines.map(({ id }) => id)
const num = (message: Message, field: string): number => Number(message.body[field] ?? 0)

describe('determinism', () => {
  test('the same seed is the same shift, another seed another', () => {
    expect(shiftOf(3, 5)).toEqual(shiftOf(3, 5))
    expect(shiftOf(3, 5)).not.toEqual(shiftOf(3, 6))
  })

  test('it does not matter in what steps the time goes on', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 9_000 }), { maxLength: 30 }), (steps) => {
      const machines = roster.machines.slice(0, 2)
      const shift = createShift({ machines, cards: roster.cards, seed: 3, startMs: START })
      let at = START
      const made = steps.flatMap((step) => shift.advance((at += step)))
      expect([...made, ...shift.advance(START + 5 * MINUTE)]).toEqual(shiftOf(5, 3, machines))
    }), { numRuns: 10 })
  })

  test('a machine does the same whoever else is in the fleet', () => {
    // The crew decides who comes; the machine of a country of its own has the same crew in both fleets.
    const alone = roster.machines.filter(({ country }) => country === 'US-CA')
    expect(alone).toHaveLength(1)
    expect(ofMachine(shiftOf(10), alone[0]!.id).map(({ body }) => body)).toEqual(shiftOf(10, 1, alone).map(({ body }) => body))
  })

  test('numbers are spread evenly and repeat', () => {
    const random = chance('x')
    const counts = Array.from({ length: 10 }, () => 0)
    for (let i = 0; i < 20_000; i++) counts[random.whole(0, 9)]! += 1
    for (const count of counts) expect(count).toBeGreaterThan(1_800)
    expect(chance('a').bytes(8)).toEqual(chance('a').bytes(8))
    expect(chance('a').bytes(8)).not.toEqual(chance('b').bytes(8))
  })
})

describe('three quarters of an hour of the shipped fleet', () => {
  let shift: Message[] = []
  beforeAll(() => {
    shift = shiftOf(45)
  })

  test('names the streams, messages and topics of the shipped rules', () => {
    const rules = readYaml(join(root, 'config/rules/awp.yaml')).value as { streams: Record<string, { topic: string; message: string }> }
    expect(Object.fromEntries(Object.entries(STREAMS).map(([name, { type }]) => [name, type]))).toEqual(Object.fromEntries(Object.entries(rules.streams).map(([name, { message }]) => [name, message])))
    for (const { stream, machine, topic } of shift) {
      const spec = roster.machines.find(({ id }) => id === machine)!
      expect(topic).toBe(rules.streams[stream]!.topic.replace('{fleet}', spec.fleet).replace('{machine}', machine))
    }
  })

  test('has every stream in it but the choice on the display', () => {
    expect([...new Set(shift.map(({ stream }) => stream))].toSorted()).toEqual(Object.keys(STREAMS).filter((name) => name !== 'consent').toSorted())
  })

  test('every message is what its .proto file says, and loses nothing on the way', () => {
    const often: readonly string[] = ['status', 'signals', 'can']
    for (const { type, body } of shift.filter(({ stream }, at) => !often.includes(stream) || at % 37 === 0)) {
      const back = schemas.decode(type, schemas.encode(type, body))
      for (const [name, value] of Object.entries(body)) if (typeof value === 'string' && value !== '' && !/_(?:OFF|UNKNOWN)$/.test(value)) expect([name, back[name]]).toEqual([name, value])
      expect(Number(back['time_ms'])).toBe(body['time_ms'])
    }
  })

  test('sequence numbers have no gap, and times do not go back', () => {
    for (const id of ids) {
      const own = ofMachine(shift, id)
      expect(own.map(({ body }) => body['seq'])).toEqual(own.map((_, at) => at))
      // A track is stamped with its first fix, so the clock is that of the sending.
      for (let at = 1; at < own.length; at++) expect(own[at]!.atMs - own[at - 1]!.atMs).toBeGreaterThanOrEqual(-1)
    }
  })

  test('the battery empties at work and fills on the charger; the hour meter only runs at work', () => {
    for (const id of ids) {
      const own = ofMachine(shift, id).filter(({ stream }) => stream === 'status')
      for (let at = 1; at < own.length; at++) {
        const [before, after] = [own[at - 1]!, own[at]!]
        expect(num(after, 'hour_meter_s')).toBeGreaterThanOrEqual(num(before, 'hour_meter_s'))
        if (before.body['key_on'] === true && after.body['key_on'] === true && after.atMs - before.atMs < 2000) {
          expect(num(after, 'soc_pct_x10')).toBeLessThanOrEqual(num(before, 'soc_pct_x10'))
          expect(num(after, 'hour_meter_s') - num(before, 'hour_meter_s')).toBeLessThanOrEqual(2)
        }
      }
    }
    const charge = shift.filter(({ stream }) => stream === 'charge')
    expect(charge.length).toBeGreaterThan(10)
    for (const message of charge) expect(num(message, 'soc_end_pct_x10')).toBeGreaterThanOrEqual(num(message, 'soc_start_pct_x10'))
  })

  test('a platform stays within its reach, comes down before the machine drives, and goes up at all', () => {
    for (const { id, model } of roster.machines) {
      const own = ofMachine(shift, id).filter(({ stream }) => stream === 'status')
      const reach = 1000 * Number(/\d+$/.exec(model)![0])
      for (const message of own) {
        expect(num(message, 'platform_height_mm')).toBeLessThanOrEqual(reach)
        if (message.body['mode'] === 'MODE_DRIVE' || message.body['key_on'] === false) expect(num(message, 'platform_height_mm')).toBe(0)
        if (message.body['mode'] !== 'MODE_DRIVE') expect(num(message, 'drive_speed_mm_s')).toBe(0)
        expect(Math.abs(num(message, 'drive_speed_mm_s'))).toBeLessThanOrEqual(1_100)
      }
      expect(Math.max(...own.map((message) => num(message, 'platform_height_mm')))).toBeGreaterThan(2_000)
    }
  })

  test('machines stay on their site', () => {
    for (const { id, site } of roster.machines) {
      for (const message of ofMachine(shift, id).filter(({ stream }) => stream === 'position')) {
        const north = (num(message, 'lat_e7') / 1e7 - site.lat) * 111_320
        const east = (num(message, 'lon_e7') / 1e7 - site.lon) * 111_320 * Math.cos((site.lat * Math.PI) / 180)
        expect(Math.hypot(north, east)).toBeLessThan(150)
      }
    }
  })

  test('the steps of a track add up to where the machine was', () => {
    const tracks = shift.filter(({ stream }) => stream === 'track')
    expect(tracks.length).toBeGreaterThan(50)
    const statuses = new Map(shift.filter(({ stream }) => stream === 'status').map((message) => [`${message.machine}@${message.atMs}`, message]))
    for (const { machine, body } of tracks) {
      const lists = ['dlat_e7', 'dlon_e7', 'dt_ms', 'speed_cm_s'].map((name) => body[name] as number[])
      expect(new Set(lists.map((list) => list.length)).size).toBe(1)
      const [lat, lon, time] = [[body['lat0_e7'], ...lists[0]!], [body['lon0_e7'], ...lists[1]!], [body['time_ms'], ...lists[2]!]].map((list) => list.reduce((sum: number, one) => sum + Number(one), 0))
      const last = statuses.get(`${machine}@${time}`)
      expect([last?.body['lat_e7'], last?.body['lon_e7']]).toEqual([lat, lon])
    }
  })

  test('nobody is on two machines, and a card is named exactly while it is signed on', () => {
    const now = new Map<string, string>()
    const personal = new Set(roster.cards.filter(({ kind }) => kind === 'personal').map(({ card }) => card))
    let handovers = 0
    const last = new Map<string, string>()
    for (const { machine, stream, body } of shift.toSorted((one, other) => one.atMs - other.atMs)) {
      const card = String(body['operator_id'] ?? '')
      if (stream === 'operator' && body['op'] === 'SIGN_ON') {
        if (personal.has(card)) expect([...now.values()]).not.toContain(card)
        if (personal.has(card) && personal.has(last.get(machine) ?? '') && last.get(machine) !== card) handovers += 1
        now.set(machine, card)
        last.set(machine, card)
      } else if (stream === 'operator' && body['op'] === 'SIGN_OFF') {
        expect(now.get(machine)).toBe(card)
        now.delete(machine)
      } else if (stream !== 'operator' && stream !== 'session') expect(card).toBe(now.get(machine) ?? '')
    }
    expect(handovers).toBeGreaterThan(1)
  })

  test('a summary counts what was sent in its session', () => {
    const summaries = shift.filter(({ stream }) => stream === 'session')
    expect(summaries.length).toBeGreaterThan(5)
    for (const { machine, body } of summaries) {
      const [from, to] = [Number(body['start_ms']), Number(body['end_ms'])]
      const inside = ofMachine(shift, machine).filter(({ atMs }) => atMs >= from && atMs <= to)
      const safety = (kind: string): number => inside.filter((message) => message.body['kind'] === kind).length
      expect([body['tilt_events'], body['overload_events']]).toEqual([safety('SAFETY_TILT'), safety('SAFETY_OVERLOAD')])
      const worked = Number(body['drive_s']) + Number(body['lift_s']) + Number(body['idle_s'])
      expect(Math.abs(worked - (to - from) / 1000)).toBeLessThan(5)
    }
  })

  test('an address on the air is one that belongs to nobody', () => {
    for (const { body } of shift.filter(({ stream }) => stream === 'comms')) {
      expect(String(body['ip'])).toMatch(/^192\.0\.2\.\d+$/)
      expect(String(body['imsi'])).toMatch(/^00101\d{10}$/)
      expect(String(body['imei'])).toMatch(/^\d{15}$/)
      for (const mac of [...(body['wifi_bssid'] as string[]), ...(body['ble_mac'] as string[])]) expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2)
    }
  })
})

describe('who comes', () => {
  test('only valid cards are in use, the first of each person', () => {
    // Emma has Dan's card since July 2025: it is hers, and Dan has none.
    expect(roster.cards.map(({ operator, card }) => [operator, card])).toEqual([
      ['op-anna', 'A-1001'], ['op-ben', 'A-1002'], ['op-carla', 'A-1003'], ['op-emma', 'A-1004'], ['op-feng', 'A-1006'], ['op-site-code', 'PIN-0000'], ['op-workshop', 'S-9001'],
    ])
    expect(readRoster(root, undefined, Date.UTC(2025, 0, 1)).cards.map(({ operator }) => operator)).not.toContain('op-emma')
  })

  test('in no round is a card of a crew on two of its machines', () => {
    const card = (name: string, kind: Card['kind'], country?: string): Card => ({ operator: name, card: name, name, kind, country })
    const people = [card('a', 'personal', 'FR'), card('b', 'personal', 'DE'), card('c', 'personal', 'CN'), card('code', 'shared')]
    const spec = (id: string, country: string): MachineSpec => ({ id, fleet: 'f', model: 'scissor-SL10', country, operatorCollection: 'on', site: { code: 's', lat: 0, lon: 0 } })
    const fleet = ['FR', 'DE', 'IT', 'NL', 'PL', 'CN'].map((country, at) => spec(`m${at}`, country))
    const crews = crewsOf(fleet, people)
    expect(crews.map(({ machines }) => machines)).toEqual([[0, 1, 2, 3, 4], [5]])
    for (const { machines, cards } of crews) {
      for (let round = 0; round < 7; round++) {
        const seen = machines.map((_, line) => cards[(line + round) % cards.length]).filter((one) => one !== undefined)
        expect(new Set(seen).size).toBe(seen.length)
      }
    }
  })
})

describe('one machine', () => {
  const spec: MachineSpec = { id: 'SN-1', fleet: 'f', model: 'boom-BL26', country: 'FR', operatorCollection: 'unknown', site: { code: 'x-1', lat: 45, lon: 5 } }
  const anna = { card: 'A-1', name: 'Anna' }

  test('a parked machine says next to nothing', () => {
    const machine = createMachine(spec, chance('p'))
    const made = [...machine.connect(START)]
    for (let second = 0; second <= 1800; second++) made.push(...machine.tick(START + second * 1000))
    const count = (stream: string): number => made.filter((one) => one.stream === stream).length
    expect({ status: count('status'), position: count('position'), signals: count('signals'), can: count('can'), comms: count('comms'), operator: count('operator') })
      .toEqual({ status: 4, position: 7, signals: 0, can: 0, comms: 3, operator: 0 })
    expect(made.every(({ body }) => body['operator_id'] === undefined)).toBe(true)
    expect(made[0]!.body['operator_collection']).toBe('SETTING_UNKNOWN')
  })

  test('an overload shows in the event, the flags and the display, and passes', () => {
    const machine = createMachine(spec, chance('o'))
    machine.connect(START)
    machine.signOn(anna, START)
    const [event] = machine.raise('overload', START + 1000)
    expect(event?.body).toMatchObject({ kind: 'SAFETY_OVERLOAD', operator_id: 'A-1' })
    const during = machine.tick(START + 2000).find(({ stream }) => stream === 'status')!
    expect([num(during, 'flags') & 2, during.body['display_text']]).toEqual([2, 'OVERLOAD'])
    const after = machine.tick(START + 30_000).find(({ stream }) => stream === 'status')!
    expect([num(after, 'flags') & 2, after.body['display_text']]).toEqual([0, 'Hello Anna'])
  })

  test('who signs on while another is on signs that one off first', () => {
    const machine = createMachine(spec, chance('h'))
    machine.connect(START)
    machine.signOn(anna, START)
    const made = machine.signOn({ card: 'A-2', name: 'Ben' }, START + 60_000)
    expect(made.map(({ stream, body }) => [stream, body['op'], body['operator_id']])).toEqual([['session', undefined, 'A-1'], ['operator', 'SIGN_OFF', 'A-1'], ['status', undefined, undefined], ['operator', 'SIGN_ON', 'A-2']])
    // The summary belongs to the session, which ends with the sign-off.
    expect(made[0]!.atMs).toBeLessThan(made[1]!.atMs)
  })
})

describe('recordings', () => {
  // prettier-ignore
  test.each([
    [60928, 6, 0x47, 255, 0x18eeff47],
    [61444, 3, 0x00, 255, 0x0cf00400],
    [65226, 6, 0x27, 255, 0x18feca27],
    [59904, 6, 0xf9, 0x00, 0x18ea00f9],
  ])('PGN %i of priority %i from %i to %i', (pgn, priority, source, destination, id) => {
    expect(canId(pgn, priority, source, destination).toString(16)).toBe(id.toString(16))
  })

  function folder(files: Readonly<Record<string, string>>): string {
    const dir = mkdtempSync(join(tmpdir(), 'parapet-data-'))
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(dir, name.split('/')[0]!), { recursive: true })
      writeFileSync(join(dir, name), name.endsWith('.gz') && text !== 'no gzip' ? gzipSync(text) : text)
    }
    return dir
  }
  const drive = `trip,Date,Time,Soc,Speed,Mode,LAT,LON,ALT,GpsSpeed,Temperature,Humidity,Weather,WindSpeedAv\n${Array.from({ length: 600 }, (_, at) => `T1,d,t,${(61.5).toFixed(2)},${at % 2 === 0 ? 36 : 72},N,0,0,0,0,20,60,Clouds,2.49`).join('\n')}\n`
  const frames = `session,t_ms,pgn,priority,source,destination,data_hex\n${Array.from({ length: 500 }, (_, at) => `s${Math.floor(at / 250)},${(at % 250) * 10},61444,3,0,255,F07D8A00${(at % 250).toString(16).padStart(2, '0')}FFFFFF`).join('\n')}\n`
  const points = `device_id,track_id,time,lat,lon,vehicle\n${Array.from({ length: 300 }, (_, at) => `7,1,2014-09-13 07:${String(Math.floor(at / 60)).padStart(2, '0')}:${String(at % 60).padStart(2, '0')},-10.9,${(-37 + at * 1e-5).toFixed(6)},car`).join('\n')}\n`

  test('replace battery, speed and bus frames, and say so', () => {
    const recordings = readRecordings(folder({ 'rsk_twizy/telemetry_1hz.csv.gz': drive, 'jd5055e_j1939/frames.csv.gz': frames }), START)
    expect(recordings.notes.join(' ')).toMatch(/600 recorded seconds.*500 recorded frames.*positions are generated/)
    const made = createShift({ machines: roster.machines.slice(0, 1), cards: roster.cards, seed: 1, startMs: START, recordings }).advance(START + 3 * MINUTE)
    const working = made.filter(({ stream, body }) => stream === 'status' && body['key_on'] === true)
    expect(working.length).toBeGreaterThan(100)
    for (const message of working) expect(num(message, 'soc_pct_x10')).toBe(615)
    // 36 and 72 km/h of a car are 0.5 and 1 m/s of a lift.
    expect(new Set(working.filter(({ body }) => body['mode'] === 'MODE_DRIVE').map((message) => num(message, 'drive_speed_mm_s')))).toEqual(new Set([500, 1000]))
    const batches = made.filter(({ stream }) => stream === 'can').map(({ body }) => body['f'] as { id: number; data: string; dt_us: number }[])
    expect(batches[1]![0]!.id).toBe(0x0cf00400)
    expect(Math.max(...batches.map((batch) => batch.length))).toBe(100)
    for (const batch of batches) for (const { dt_us } of batch) expect(dt_us).toBeLessThan(1_000_000)
    // Frame after frame: the counter in the data goes on where the last message ended.
    const counters = batches.flat().slice(0, 300).map(({ data }) => Buffer.from(data, 'base64')[4]!)
    for (let at = 1; at < counters.length; at++) expect([(counters[at - 1]! + 1) % 250, counters[at]]).toEqual([counters[at], counters[at]])
  })

  test('move a path to the site as a whole', () => {
    const recordings = readRecordings(folder({ 'go_track/points.csv.gz': points }), START)
    const spec = roster.machines[0]!
    const made = createShift({ machines: [spec], cards: roster.cards, seed: 1, startMs: START, recordings }).advance(START + 4 * MINUTE)
    const east = made.filter(({ stream, body }) => stream === 'status' && body['key_on'] === true).map((message) => (num(message, 'lon_e7') / 1e7 - spec.site.lon) * 111_320 * Math.cos((spec.site.lat * Math.PI) / 180))
    // 1e-5 degrees a second, 10.9 degrees from the equator: 1.093 m.
    for (let at = 40; at < 100; at++) expect(east[at]! - east[at - 1]!).toBeCloseTo(1.093, 1)
  })

  // prettier-ignore
  test.each([
    ['no folder',      undefined,                                            'does not exist'],
    ['an empty one',   {},                                                   'holds none of the recordings'],
    ['no gzip',        { 'go_track/points.csv.gz': 'no gzip' },              'is no gzip file'],
    ['other columns',  { 'go_track/points.csv.gz': 'a,b\n1,2\n' },           'has no column device_id'],
    ['no rows',        { 'go_track/points.csv.gz': points.split('\n')[0]! }, 'has no rows'],
  ])('%s is refused with a sentence', (_name, files, text) => {
    expect(() => readRecordings(files === undefined ? join(tmpdir(), 'parapet-nothing-here') : folder(files as Record<string, string>), START)).toThrow(text)
  })
})
