/**
 * One lift as its terminal reports it: the state of the machine, seeded chance and the time go in, messages come out.
 * Nothing here knows of sockets or clocks, so that the same shift can be published, shown and tested.
 *
 * Log-ins, platform height, tilt, load and faults are always generated: no public recording has them.
 */
import type { Chance } from './random.ts'
import type { RecordedBus, RecordedDrive, RecordedPath } from './recordings.ts'

/** Streams of the shipped rules and their messages. */
export const STREAMS = {
  status: { type: 'awp.v1.Status', qos: 1 },
  position: { type: 'awp.v1.Position', qos: 1 },
  track: { type: 'awp.v1.PositionBatch', qos: 1 },
  signals: { type: 'awp.v1.SignalBatch', qos: 0 },
  can: { type: 'awp.v1.CanBatch', qos: 0 },
  operator: { type: 'awp.v1.OperatorEvent', qos: 2 },
  session: { type: 'awp.v1.SessionSummary', qos: 1 },
  fault: { type: 'awp.v1.Fault', qos: 1 },
  safety: { type: 'awp.v1.SafetyEvent', qos: 2 },
  precheck: { type: 'awp.v1.PreUseCheck', qos: 1 },
  charge: { type: 'awp.v1.ChargeRecord', qos: 1 },
  comms: { type: 'awp.v1.CommsLog', qos: 1 },
  diag: { type: 'awp.v1.DiagLog', qos: 0 },
  device: { type: 'awp.v1.DeviceInfo', qos: 1 },
  consent: { type: 'awp.v1.ConsentChoice', qos: 2 },
} as const satisfies Record<string, { readonly type: string; readonly qos: 0 | 1 | 2 }>
export type StreamName = keyof typeof STREAMS

/** A message before it is encoded: `body` is in proto3 JSON form, with the field names of the .proto files. */
export interface Message {
  readonly machine: string
  readonly stream: StreamName
  readonly type: string
  readonly topic: string
  readonly qos: 0 | 1 | 2
  readonly atMs: number
  readonly body: Readonly<Record<string, unknown>>
}

export interface MachineSpec {
  readonly id: string
  readonly fleet: string
  readonly model: string
  readonly country: string | undefined
  /** As the registry says; travels in DeviceInfo. */
  readonly operatorCollection: 'on' | 'off' | 'unknown'
  /** Middle of the site, degrees. */
  readonly site: { readonly code: string; readonly lat: number; readonly lon: number }
}

/** Whoever holds a card up to the keypad. */
export interface Person {
  /** Card, PIN or number, as the keypad reads it. */
  readonly card: string
  /** What the card says, and the display greets with. */
  readonly name: string
}

export interface Recorded {
  readonly drive?: RecordedDrive | undefined
  readonly bus?: RecordedBus | undefined
  readonly path?: RecordedPath | undefined
}

export type SafetyName = 'tilt' | 'overload' | 'estop' | 'impact'

export interface SimulatedMachine {
  readonly spec: MachineSpec
  readonly person: Person | undefined
  readonly mode: Mode
  /** 0 to 100. */
  readonly soc: number
  /** Power up and dial in: device information, modem record, a few log lines. */
  connect(atMs: number): Message[]
  signOn(person: Person, atMs: number): Message[]
  /** A card or code that the keypad does not take. */
  failSignOn(card: string, atMs: number): Message[]
  /** The pre-use check that the person answers before the first lift. */
  check(atMs: number): Message[]
  /** Summary of the session, then the sign-off. */
  signOff(atMs: number): Message[]
  plug(atMs: number): Message[]
  unplug(atMs: number): Message[]
  raise(kind: SafetyName, atMs: number): Message[]
  fault(atMs: number): Message[]
  /** Moves the machine on to a time and reports what is due. */
  tick(atMs: number): Message[]
}

export type Mode = 'off' | 'drive' | 'lift' | 'idle' | 'charge'

const MODES: Readonly<Record<Mode, string>> = { off: 'MODE_OFF', drive: 'MODE_DRIVE', lift: 'MODE_LIFT', idle: 'MODE_IDLE', charge: 'MODE_CHARGE' }

const POSITION_MOVING_MS = 10_000
const POSITION_STILL_MS = 300_000
const STATUS_PARKED_MS = 600_000
const MINUTE_MS = 60_000
const COMMS_MS = 900_000
/** A gap longer than this (a paused simulation) is not driven through. */
const STEP_MAX_S = 600

/** A 48 V lead-acid pack as in most slab scissors. */
const PACK_AH = 225
const DEGREE_M = 111_320
/** Where one recorded path ends and the next begins the machine jumps; nothing reports the speed of that. */
const PATH_SPEED_MAX = 15
/** How far from the middle of the site a machine wanders. */
const SITE_M = 60

const FAULTS = [
  { spn: 168, fmi: 1, lamp: 2, oem: 'E-11 pack voltage low' },
  { spn: 1347, fmi: 5, lamp: 2, oem: 'E-27 pump valve open circuit' },
  { spn: 110, fmi: 0, lamp: 2, oem: 'E-31 motor hot' },
  { spn: 520_201, fmi: 14, lamp: 4, oem: 'E-02 height sensors differ' },
] as const

const CHECK_ITEMS = 8
const REMARKS = ['rail loose, told the yard', 'left rear tyre cut', 'horn weak'] as const

/**
 * A machine at rest on its site.
 * @param spec      who it is and where it works
 * @param random    its own chance: two machines must not share one
 * @param recorded  recordings that replace generated battery, speed, path or bus frames
 */
export function createMachine(spec: MachineSpec, random: Chance, recorded: Recorded = {}): SimulatedMachine {
  const isBoom = spec.model.startsWith('boom')
  const reachMm = 1000 * Number(/(\d+)$/.exec(spec.model)?.[1] ?? 10)
  const modem = modemOf(random)
  const boot = random.whole(20, 400)
  let seq = 0
  let lastMs: number | undefined

  let mode: Mode = 'off'
  let modeUntilMs = 0
  let soc = random.between(55, 95)
  let hourS = random.between(300_000, 9_000_000)
  let packTemp = random.between(12, 22)
  let [east, north, heading] = [random.between(-SITE_M / 2, SITE_M / 2), random.between(-SITE_M / 2, SITE_M / 2), random.between(0, 360)]
  let speed = 0
  let cruise = 0
  let current = 0
  let height = 0
  let target = 0
  let slew = 0
  let pitch = random.between(-0.6, 0.6)
  let roll = random.between(-0.6, 0.6)
  let wind = random.between(1, 5)
  let cycles = random.whole(80, 900)
  let faultCount = random.whole(0, 6)

  let person: Person | undefined
  let session = freshSession(0, 0)
  let load = 0
  let chargeStart = 0
  let openFault: { readonly fault: (typeof FAULTS)[number]; readonly untilMs: number } | undefined
  const alarms = new Map<SafetyName, number>()

  let statusDueMs = 0
  let positionMs = 0
  let commsMs = 0
  let chargeMs = 0
  let track: { readonly atMs: number; readonly lat: number; readonly lon: number; readonly speed: number }[] = []

  function freshSession(ref: number, startMs: number) {
    return { ref, startMs, driveS: 0, liftS: 0, idleS: 0, lifts: 0, tilts: 0, overloads: 0, energyWh: 0 }
  }

  // ---------------------------------------------------------------------------------------------------------------- moving

  function move(atMs: number, seconds: number): void {
    if (atMs >= modeUntilMs) changeMode(atMs)
    const drive = recorded.drive?.at(atMs)
    speed = mode === 'drive' ? (drive !== undefined && recorded.path === undefined ? drive.speed : approach(speed, cruise, 0.4 * seconds)) : 0
    if (mode === 'drive') steer(seconds)
    if (recorded.path !== undefined && person !== undefined) follow(recorded.path, atMs, seconds)
    lift(atMs, seconds)

    pitch = approach(pitch, alarms.has('tilt') ? 3.4 : pitch + 0.05 * random.normal(), 0.5 * seconds)
    if (!alarms.has('tilt')) pitch = clamp(pitch, -1.8, 1.8)
    roll = clamp(roll + 0.04 * random.normal(), -1.8, 1.8)
    wind = drive?.wind ?? clamp(wind + 0.15 * random.normal(), 0, 12)

    current = mode === 'charge' ? chargeCurrent(soc) : person === undefined ? -0.4 : -(4 + (mode === 'drive' ? 30 + 60 * Math.abs(speed) : 0) + (height < target ? 110 : 0))
    // A recording shows one battery: its charge is taken as it is, so that the sum over a shift is a real one.
    soc = mode !== 'charge' && drive !== undefined ? drive.soc : clamp(soc + (100 * current * seconds) / (PACK_AH * 3600), 1, 100)
    packTemp = approach(packTemp, 18 + 0.12 * Math.abs(current), 0.002 * seconds)
    if (person !== undefined) {
      hourS += seconds
      session.energyWh += (-current * packVolts() * seconds) / 3600
      if (mode === 'drive') session.driveS += seconds
      else if (mode === 'lift') session.liftS += seconds
      else session.idleS += seconds
    }
    for (const [kind, untilMs] of alarms) if (atMs >= untilMs) alarms.delete(kind)
  }

  function changeMode(atMs: number): void {
    if (mode === 'charge' && soc < 99.5) return
    if (person === undefined) {
      mode = 'off'
      return
    }
    // The platform comes down before anything else happens.
    if (height > 0) {
      target = 0
      return
    }
    const driving = recorded.drive?.at(atMs)
    mode = driving !== undefined && driving.speed > 0 ? 'drive' : random.pick(['idle', 'drive', 'drive', 'lift', 'lift'] as const)
    modeUntilMs = atMs + 1000 * { idle: random.between(8, 40), drive: random.between(12, 50), lift: random.between(40, 160) }[mode as 'idle' | 'drive' | 'lift']
    cruise = random.between(0.35, 0.95)
    if (mode === 'lift') {
      session.lifts += 1
      target = random.between(0.35, 0.9) * reachMm
    }
  }

  /** Wanders; beyond the edge of the site it turns back to the middle. */
  function steer(seconds: number): void {
    const home = (Math.atan2(-east, -north) * 180) / Math.PI
    heading = Math.hypot(east, north) > SITE_M ? home : heading + 6 * random.normal() * Math.sqrt(seconds)
    heading = ((heading % 360) + 360) % 360
    east += Math.sin((heading * Math.PI) / 180) * speed * seconds
    north += Math.cos((heading * Math.PI) / 180) * speed * seconds
  }

  /** A recorded path, moved to the site as a whole: its shape stays, so whoever could be recognised by it still can. */
  function follow(path: RecordedPath, atMs: number, seconds: number): void {
    const [x, y] = path.at(person?.card ?? '', atMs - session.startMs)
    const [dx, dy] = [x - east, y - north]
    if (seconds > 0 && mode === 'drive') speed = Math.min(PATH_SPEED_MAX, Math.hypot(dx, dy) / seconds)
    if (dx !== 0 || dy !== 0) heading = ((Math.atan2(dx, dy) * 180) / Math.PI + 360) % 360
    east = x
    north = y
  }

  function lift(atMs: number, seconds: number): void {
    const down = 400 * seconds
    if (mode === 'lift' && height >= target && modeUntilMs - atMs < height / 0.4) target = 0
    if (mode !== 'lift') target = 0
    height = height < target ? Math.min(target, height + 250 * seconds) : Math.max(target, height - down)
    if (isBoom && mode === 'lift') slew = clamp(slew + 4 * random.normal(), -170, 170)
  }

  function packVolts(): number {
    return 46 + 0.055 * soc + 0.012 * current
  }

  // ------------------------------------------------------------------------------------------------------------- reporting

  function message(stream: StreamName, atMs: number, body: Readonly<Record<string, unknown>>): Message {
    const who = person === undefined ? {} : { operator_id: person.card, session_ref: session.ref }
    const { type, qos } = STREAMS[stream]
    return {
      machine: spec.id, stream, type, qos, atMs, topic: `up/${spec.fleet}/${spec.id}/${stream}`,
      body: { machine_id: spec.id, time_ms: Math.round(atMs), seq: seq++, boot, ...who, ...body },
    }
  }

  function here(): { readonly lat_e7: number; readonly lon_e7: number } {
    const lat = spec.site.lat + north / DEGREE_M
    const lon = spec.site.lon + east / (DEGREE_M * Math.cos((spec.site.lat * Math.PI) / 180))
    return { lat_e7: Math.round(lat * 1e7), lon_e7: Math.round(lon * 1e7) }
  }

  function flags(): number {
    const on = [alarms.has('tilt'), alarms.has('overload'), height > 2000, alarms.has('estop'), false, false, mode === 'charge']
    return on.reduce((bits, set, bit) => (set ? bits | (1 << bit) : bits), 0)
  }

  function displayText(): string {
    if (alarms.has('overload')) return 'OVERLOAD'
    if (alarms.has('tilt')) return 'TILT'
    if (mode === 'charge') return `CHARGING ${Math.round(soc)} %`
    return person === undefined ? 'SIGN ON' : `Hello ${person.name}`
  }

  function status(atMs: number): Message {
    const raised = height / reachMm
    const boom = { boom_angle_cdeg: Math.round(7000 * raised), boom_length_mm: Math.round(4000 + 0.8 * height), slew_cdeg: Math.round(100 * slew), wind_cm_s: Math.round(100 * wind) }
    return message('status', atMs, {
      ...here(), fix: 3, key_on: person !== undefined, mode: MODES[mode], soc_pct_x10: Math.round(10 * soc), platform_height_mm: Math.round(height),
      drive_speed_mm_s: Math.round(1000 * speed), pack_mv: Math.round(1000 * packVolts()), pack_current_da: Math.round(10 * current),
      pack_temp_dc: Math.round(10 * packTemp), platform_load_kg: Math.round(alarms.has('overload') ? load * 1.9 : load),
      pitch_cdeg: Math.round(100 * pitch), roll_cdeg: Math.round(100 * roll), ...(isBoom ? boom : {}),
      flags: flags(), hour_meter_s: Math.floor(hourS), site_code: spec.site.code.toUpperCase(), display_text: displayText(),
    })
  }

  function position(atMs: number): Message {
    return message('position', atMs, {
      ...here(), alt_dm: 1730 + Math.round(random.normal()), speed_cm_s: Math.round(100 * Math.abs(speed)), heading_cdeg: Math.round(100 * heading) % 36_000,
      hacc_cm: random.whole(80, 260), sats: random.whole(9, 16), fix: 3,
    })
  }

  function trackBatch(atMs: number): Message | undefined {
    const [first, ...rest] = track
    if (first === undefined || rest.length === 0) return undefined
    const steps = rest.map((fix, at) => ({ fix, before: track[at]! }))
    const made = message('track', first.atMs, {
      lat0_e7: first.lat, lon0_e7: first.lon, dlat_e7: steps.map(({ fix, before }) => fix.lat - before.lat), dlon_e7: steps.map(({ fix, before }) => fix.lon - before.lon),
      dt_ms: steps.map(({ fix, before }) => Math.round(fix.atMs - before.atMs)), speed_cm_s: rest.map((fix) => Math.round(100 * fix.speed)),
    })
    return { ...made, atMs }
  }

  function signals(atMs: number): Message {
    const values = [
      1000 * speed, height, 10 * soc, 1000 * packVolts(), 10 * current, 10 * packTemp, 100 * pitch, 100 * roll, load, 100 * wind,
      mode === 'drive' ? random.whole(200, 1000) : 0, mode === 'drive' ? random.whole(-200, 200) : 0, mode === 'lift' ? random.whole(-1000, 1000) : 0,
      height < target ? random.whole(140, 190) : 0, random.whole(20, 45), random.whole(20, 45), mode === 'drive' ? random.whole(300, 1800) : 0,
      mode === 'drive' ? random.whole(300, 1800) : 0, person === undefined ? 0 : 1, Math.floor(hourS), flags(), random.whole(4800, 5200), random.whole(0, 3), seq % 256, boot,
    ]
    return message('signals', atMs, { s: values.map((value, at) => ({ id: 101 + at, v: Math.round(value), dt_ms: at * 4 })) })
  }

  function can(atMs: number, seconds: number): Message {
    const frames = recorded.bus?.next(Math.max(0.001, seconds)) ?? generatedFrames()
    return message('can', atMs, { f: frames, bus: 0, t0_us: Math.round(atMs) * 1000 })
  }

  /** What a small J1939 network of an electric lift carries: drive and pump controllers, battery, hours. */
  function generatedFrames(): readonly Readonly<Record<string, unknown>>[] {
    const frame = (pgn: number, source: number, bytes: readonly number[], at: number): Readonly<Record<string, unknown>> => ({
      id: ((6 << 26) | (pgn << 8) | source) >>> 0, data: Buffer.from(bytes.map((byte) => byte & 255)).toString('base64'), dt_us: at,
    })
    const hours = Math.floor(hourS / 180)
    const frames = [
      frame(65_253, 0x27, [hours, hours >> 8, hours >> 16, hours >> 24, 255, 255, 255, 255], 1200),
      frame(65_271, 0xf3, [255, 255, 255, 255, packVolts() * 20, (packVolts() * 20) >> 8, 255, 255], 2400),
      frame(65_226, 0x27, [0, 255, 0, 0, 0, 0, 255, 255], 3600),
    ]
    for (let i = 0; i < 20; i++) frames.push(frame(65_280 + (i % 4), 0x31 + (i % 2), [...random.bytes(8)], 10_000 + i * 48_000))
    return frames
  }

  function charge(atMs: number): Message {
    const cell = Math.round((1000 * packVolts()) / 24)
    return message('charge', atMs, {
      state: soc > 99.4 ? 'CHARGE_DONE' : soc > 80 ? 'CHARGE_ABSORPTION' : 'CHARGE_BULK', out_mv: Math.round(1000 * packVolts()), out_ma: Math.round(1000 * Math.max(0, current)),
      soc_start_pct_x10: Math.round(10 * chargeStart), soc_end_pct_x10: Math.round(10 * soc), soh_pct: 92, cycles,
      cell_mv: Array.from({ length: 24 }, () => cell + random.whole(-12, 12)), cell_temp_dc: Array.from({ length: 4 }, () => Math.round(10 * packTemp) + random.whole(-6, 6)),
    })
  }

  function comms(atMs: number): Message {
    return message('comms', atMs, {
      ...modem, rssi_dbm: random.whole(-105, -62), tx_kb: random.whole(200, 2400), rx_kb: random.whole(10, 160), lac: 4321, cell_id: 8760 + random.whole(0, 9),
      wifi_bssid: [`02:00:5e:10:00:0${random.whole(1, 9)}`], ble_mac: [`02:00:5e:20:00:0${random.whole(1, 9)}`],
    })
  }

  function diag(atMs: number, level: 'DIAG_INFO' | 'DIAG_WARN', component: string, text: string): Message {
    return message('diag', atMs, { level, component, text })
  }

  function operatorEvent(atMs: number, op: string, card: string, more: Readonly<Record<string, unknown>> = {}): Message {
    return message('operator', atMs, { operator_id: card, op, method: card.startsWith('PIN') ? 'METHOD_PIN' : 'METHOD_CARD', ...more })
  }

  const machine: SimulatedMachine = {
    spec,
    get person() {
      return person
    },
    get mode() {
      return mode
    },
    get soc() {
      return soc
    },
    connect(atMs) {
      lastMs = atMs
      commsMs = atMs
      statusDueMs = atMs
      const setting = { on: 'SETTING_ON', off: 'SETTING_OFF', unknown: 'SETTING_UNKNOWN' }[spec.operatorCollection]
      return [
        message('device', atMs, { serial: spec.id, pin: `XYZ000${spec.id.replace(/\D/g, '')}`, oem: 'Example Lifts', model: spec.model, firmware: '4.2.1', hardware: 'C', operator_collection: setting }),
        diag(atMs, 'DIAG_INFO', 'boot', `boot ${boot} complete`),
        diag(atMs, 'DIAG_INFO', 'modem/dialer', `attached, address ${modem.ip}`),
        comms(atMs),
      ]
    },
    signOn(next, atMs) {
      const events = person === undefined ? [] : machine.signOff(atMs)
      session = freshSession(1 + Math.floor(random.next() * 2 ** 48), atMs)
      person = next
      load = random.whole(72, 108) + random.whole(0, 60)
      mode = 'idle'
      modeUntilMs = atMs + random.between(9_000, 14_000)
      statusDueMs = atMs
      return [...events, operatorEvent(atMs, 'SIGN_ON', next.card, {
        certificate_valid: true, card_uid: Buffer.from(random.bytes(4)).toString('base64'), display_name: next.name, certificate_no: `PAL-${random.digits(6)}`,
        certificate_expiry_day: 20_400 + random.whole(0, 1500), employer: 'Muster Bau',
      })]
    },
    failSignOn(card, atMs) {
      return [operatorEvent(atMs, 'SIGN_ON_FAILED', card, { fail_reason: 'FAIL_UNKNOWN_CARD' }), diag(atMs, 'DIAG_WARN', 'keypad', `card ${card} not accepted`)]
    },
    check(atMs) {
      const defect = random.happens(0.15)
      const items = Array.from({ length: CHECK_ITEMS }, (_, at) => (defect && at === 3 ? 'CHECK_DEFECT' : isBoom || at !== 6 ? 'CHECK_OK' : 'CHECK_NOT_FITTED'))
      return [message('precheck', atMs, { passed: true, items, list_version: 3, ...(defect ? { remark: random.pick(REMARKS) } : {}) })]
    },
    signOff(atMs) {
      if (person === undefined) return []
      const { ref, startMs, driveS, liftS, idleS, lifts, tilts, overloads, energyWh } = session
      const summary = {
        session_ref: ref, start_ms: Math.round(startMs), end_ms: Math.round(atMs), drive_s: Math.round(driveS), lift_s: Math.round(liftS), idle_s: Math.round(idleS), lifts,
        tilt_events: tilts, overload_events: overloads, score_pct_x10: Math.max(0, 1000 - 40 * tilts - 60 * overloads - random.whole(0, 60)), energy_wh: Math.max(0, Math.round(energyWh)),
      }
      // The summary is still of the session: at the sign-off itself nobody is signed on any more.
      const events = [message('session', atMs - 1, summary), operatorEvent(atMs, 'SIGN_OFF', person.card)]
      person = undefined
      load = 0
      speed = 0
      mode = 'off'
      height = 0
      target = 0
      alarms.clear()
      return [...events, status(atMs)]
    },
    plug(atMs) {
      mode = 'charge'
      modeUntilMs = atMs
      chargeStart = soc
      cycles += 1
      chargeMs = atMs
      current = chargeCurrent(soc)
      return [charge(atMs)]
    },
    unplug(atMs) {
      mode = 'off'
      return [charge(atMs)]
    },
    raise(kind, atMs) {
      const lasts = random.whole(1500, 9000)
      alarms.set(kind, atMs + lasts)
      if (kind === 'tilt') session.tilts += 1
      if (kind === 'overload') session.overloads += 1
      const value = { tilt: 340, overload: random.whole(101, 112), estop: 0, impact: random.whole(1800, 3200) }[kind]
      return [message('safety', atMs, {
        kind: { tilt: 'SAFETY_TILT', overload: 'SAFETY_OVERLOAD', estop: 'SAFETY_ESTOP', impact: 'SAFETY_IMPACT' }[kind],
        severity: kind === 'estop' ? 'SEVERITY_STOP' : 'SEVERITY_ALARM', value, duration_ms: lasts, acc_mg: [random.whole(-40, 40), random.whole(-40, 40), random.whole(960, 1040)], ...here(),
      })]
    },
    fault(atMs) {
      if (openFault !== undefined) return []
      const fault = random.pick(FAULTS)
      openFault = { fault, untilMs: atMs + random.whole(15_000, 90_000) }
      faultCount += 1
      return [
        message('fault', atMs, faultBody(fault, true)),
        diag(atMs, 'DIAG_WARN', 'dtc', `${fault.oem}${person === undefined ? '' : `, ${person.name} on the platform`}`),
      ]
    },
    tick(atMs) {
      const seconds = clamp((atMs - (lastMs ?? atMs)) / 1000, 0, STEP_MAX_S)
      lastMs = atMs
      move(atMs, seconds)
      return due(atMs, seconds)
    },
  }
  return machine

  /** What a machine sends at a time: all of it with somebody signed on, next to nothing when parked. */
  function due(atMs: number, seconds: number): Message[] {
    const made: Message[] = []
    if (openFault !== undefined && atMs >= openFault.untilMs) {
      made.push(message('fault', atMs, faultBody(openFault.fault, false)))
      openFault = undefined
    }
    if (person !== undefined || atMs >= statusDueMs) {
      made.push(status(atMs))
      statusDueMs = atMs + STATUS_PARKED_MS
    }
    if (atMs - positionMs >= (speed > 0 ? POSITION_MOVING_MS : POSITION_STILL_MS)) {
      made.push(position(atMs))
      positionMs = atMs
    }
    if (person !== undefined) {
      made.push(signals(atMs), can(atMs, seconds))
      made.push(...noteTrack(atMs))
    } else track = []
    if (mode === 'charge' && atMs - chargeMs >= MINUTE_MS) {
      made.push(charge(atMs))
      chargeMs = atMs
    }
    if (atMs - commsMs >= COMMS_MS) {
      made.push(comms(atMs))
      commsMs = atMs
    }
    return made
  }

  /** One fix a second at most; a batch when the minute is over. */
  function noteTrack(atMs: number): Message[] {
    const before = track.at(-1)
    if (before === undefined || atMs - before.atMs >= 1000) track.push({ atMs, lat: here().lat_e7, lon: here().lon_e7, speed: Math.abs(speed) })
    if (atMs - track[0]!.atMs < MINUTE_MS - 1000) return []
    const batch = trackBatch(atMs)
    track = []
    return batch === undefined ? [] : [batch]
  }

  function faultBody({ spn, fmi, lamp, oem }: (typeof FAULTS)[number], active: boolean): Readonly<Record<string, unknown>> {
    return { spn, fmi, source_address: 39, occurrences: faultCount, active, lamp: active ? lamp : 0, oem_code: oem }
  }
}

/** Addresses and numbers from ranges that belong to nobody: TEST-NET-1 [RFC 5737], the test network 001-01 [3GPP TS 23.003]. */
function modemOf(random: Chance) {
  return {
    ip: `192.0.2.${random.whole(1, 254)}`, imei: `0010100${random.digits(8)}`, imsi: `00101${random.digits(10)}`, iccid: `8900101${random.digits(13)}`, apn: 'iot.example', mcc: 1, mnc: 1,
  }
}

function chargeCurrent(soc: number): number {
  return soc > 99.4 ? 0 : soc > 80 ? 8 : 18.5
}

function approach(value: number, target: number, step: number): number {
  return value < target ? Math.min(target, value + step) : Math.max(target, value - step)
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value))
}
