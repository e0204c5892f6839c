/**
 * A morning on ten machines: terminals and recipients over real sockets, three people, every stream of config/rules/awp.yaml.
 * What each recipient gets is compared with tables that were worked out by hand from the rules language, section 5; no code of the
 * product takes part in them. `<SN-1001>` stands for a pseudonym: what it is nobody can say beforehand, so it is held to be well
 * formed, always the same for the same machine or person within an output, and never the same for two, nor in two outputs.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Folder, OWN_TOPICS, Stage, encode, type Recipient, type Said, type Terminal } from './stage.ts'

// ---------------------------------------------------------------------------------------------------------------- the people

interface Person {
  readonly id: string
  /** What the keypad reads. */
  readonly card: string
}
/** From France. Says yes to everything, also to what is forbidden everywhere. */
const ANNA: Person = { id: 'op-anna', card: 'A-1001' }
/** From Germany. Never says anything. */
const BEN: Person = { id: 'op-ben', card: 'A-1002' }
/** From California. Was given the notice, says yes to four purposes, and takes all four back. */
const CARLA: Person = { id: 'op-carla', card: 'A-1003' }

const ALL_PURPOSES = ['service.operate', 'service.access_control', 'security.fraud', 'improve.statistics', 'personalise', 'marketing', 'operator.performance', 'legal.obligation']
const CARLAS_PURPOSES = ['service.operate', 'security.fraud', 'improve.statistics', 'personalise']

// -------------------------------------------------------------------------------------------------------------- the machines

/**
 * Where a machine stands, and the centres of the cells it stands in, all in 1e-7 degrees. Worked out for SN-1001, 45.7640430 N 4.8356590 E, 10 km:
 *   i = floor(45.7640430 * 111320 / 10000) = floor(509.445...) = 509         latitude  = 509.5 * 10000 / 111320 = 45.76895
 *   I = floor(45.7640430 * 111320 / 100000) = 50                             c = cos(50.5 * 100000 / 111320 degrees) = cos(45.36471) = 0.702591
 *   j = floor(4.8356590 * 111320 * 0.702591 / 10000) = floor(37.821...) = 37 longitude = 37.5 * 10000 / (111320 * 0.702591) = 4.79463
 * c is 0.702591 in the row of Lyon, Grenoble and Turin, 0.668357 in Munich, 0.595531 in Leeds, 0.832083 in Los Angeles and Sydney,
 * 0.620424 in Utrecht, 0.880504 in Changsha.
 */
interface Site {
  readonly model: 'scissor' | 'boom'
  readonly person: Person
  readonly at: Point
  readonly '10 km': Point
  readonly '1 km': Point
  readonly '500 m': Point
  /** Key off: no business of the planner or the app. */
  readonly parked?: true
  /** No satellite fix; the coordinates are old ones. */
  readonly noFix?: true
}
interface Point { readonly lat_e7: number; readonly lon_e7: number }
const e7 = (lat_e7: number, lon_e7: number): Point => ({ lat_e7, lon_e7 })

const SITES: Readonly<Record<string, Site>> = {
  // France: Lyon, Grenoble
  'SN-1001': { model: 'scissor', person: ANNA, at: e7(457_640_430, 48_356_590), '10 km': e7(457_689_500, 47_946_300), '1 km': e7(457_644_600, 48_393_800), '500 m': e7(457_622_200, 48_361_800) },
  'SN-1002': { model: 'boom', person: BEN, at: e7(451_885_290, 57_245_240), '10 km': e7(452_299_700, 56_896_300), '1 km': e7(451_895_400, 57_215_900), '500 m': e7(451_873_000, 57_247_900) },
  // Germany: Munich; on SN-1004 the device setting is off
  'SN-1003': { model: 'scissor', person: BEN, at: e7(481_371_540, 115_761_240), '10 km': e7(481_045_600, 116_261_200), '1 km': e7(481_360_000, 115_790_700), '500 m': e7(481_382_500, 115_757_100) },
  'SN-1004': { model: 'boom', person: ANNA, at: e7(481_376_900, 117_012_400), '10 km': e7(481_045_600, 117_605_200), '1 km': e7(481_360_000, 117_000_400), '500 m': e7(481_382_500, 117_034_000) },
  // Great Britain: Leeds
  'SN-1005': { model: 'scissor', person: ANNA, at: e7(538_007_550, -15_490_770), '10 km': e7(537_639_200, -15_838_400), '1 km': e7(538_043_500, -15_461_300), '500 m': e7(538_021_000, -15_499_000) },
  // California: Los Angeles
  'SN-1006': { model: 'boom', person: CARLA, at: e7(340_522_340, -1_182_436_850), '10 km': e7(340_909_100, -1_182_694_100), '1 km': e7(340_504_900, -1_182_424_200), '500 m': e7(340_527_300, -1_182_451_200) },
  // the Netherlands: Utrecht
  'SN-1007': { model: 'scissor', person: CARLA, at: e7(520_907_370, 51_214_200), '10 km': e7(520_571_300, 51_400_400), '1 km': e7(520_885_700, 51_183_200), '500 m': e7(520_908_200, 51_219_400) },
  // China: Changsha, parked
  'SN-1008': { model: 'boom', person: ANNA, at: e7(282_282_090, 1_129_800_000), '10 km': e7(282_518_900, 1_129_898_100), '1 km': e7(282_294_300, 1_129_847_100), '500 m': e7(282_271_800, 1_129_821_600), parked: true },
  // country unknown to the register; it stands in Sydney, and has lost its satellites
  'SN-1009': { model: 'scissor', person: BEN, at: e7(-338_688_200, 1_512_092_900), '10 km': e7(-339_112_500, 1_511_970_000), '1 km': e7(-338_708_200, 1_512_131_900), '500 m': e7(-338_685_800, 1_512_104_900), noFix: true },
  // Italy: Turin; the device setting was never told, which counts as off
  'SN-1010': { model: 'boom', person: ANNA, at: e7(450_703_120, 76_868_560), '10 km': e7(450_503_100, 77_353_400), '1 km': e7(450_727_600, 76_905_900), '500 m': e7(450_705_200, 76_873_900) },
}

// ------------------------------------------------------------------------------------------------------------------ the times

/** 2026-11-23, UTC: as sent, and with the minute, the quarter hour and the hour in which it lies. */
interface Times { readonly at: number; readonly minute: number; readonly quarter: number; readonly hour: number }
const T0922: Times = { at: 1_795_425_764_000, minute: 1_795_425_720_000, quarter: 1_795_425_300_000, hour: 1_795_424_400_000 } // 09:22:44 09:22 09:15 09:00
const T0937: Times = { at: 1_795_426_664_000, minute: 1_795_426_620_000, quarter: 1_795_426_200_000, hour: 1_795_424_400_000 } // 09:37:44 09:37 09:30 09:00
const T0952: Times = { at: 1_795_427_564_000, minute: 1_795_427_520_000, quarter: 1_795_427_100_000, hour: 1_795_424_400_000 } // 09:52:44 09:52 09:45 09:00
const T1007: Times = { at: 1_795_428_464_000, minute: 1_795_428_420_000, quarter: 1_795_428_000_000, hour: 1_795_428_000_000 } // 10:07:44 10:07 10:00 10:00
const SECOND = 1_000
const TEN_DAYS = 864_000_000
/** 2026-12-03 09:22:44: another week of seven days and another month of thirty, counted from 1970. */
const LATER: Times = { at: T0922.at + TEN_DAYS, minute: T0922.minute + TEN_DAYS, quarter: T0922.quarter + TEN_DAYS, hour: T0922.hour + TEN_DAYS }

// --------------------------------------------------------------------------------------------------------- what a machine sends

type Op = 'SIGN_ON' | 'LOCK' | 'KEY_OFF'

/** One message of every stream, in the order in which it is sent, with all that a nosy terminal would put in. */
function sent(machine: string, op: Op, { at }: Times): [stream: string, message: Record<string, unknown>][] {
  const { model, person, at: point, parked, noFix } = SITES[machine] as Site
  const head = { machine_id: machine, time_ms: at, seq: 4711, boot: 12, operator_id: person.card, session_ref: 88 }
  const fix = noFix ? {} : { fix: 3 }
  const boom = model === 'boom' ? { boom_angle_cdeg: 4_210, boom_length_mm: 8_700, slew_cdeg: -1_500, wind_cm_s: 640 } : {}
  return [
    ['operator', { ...head, op, method: 'METHOD_CARD', certificate_valid: true, card_uid: 'BKG8fA==', display_name: 'A. Beispiel', certificate_no: 'PAL-000', certificate_expiry_day: 20_999, employer: 'Muster Bau' }],
    ['status', {
      ...head, ...point, ...fix, ...(parked ? {} : { key_on: true, mode: 'MODE_LIFT' }), ...boom, soc_pct_x10: 825, platform_height_mm: 9_300, drive_speed_mm_s: 420, pack_mv: 48_900,
      pack_current_da: -125, pack_temp_dc: 215, platform_load_kg: 125, pitch_cdeg: -40, roll_cdeg: 25, flags: 33, hour_meter_s: 4_521_780, site_code: 'LYS-4', display_text: 'Bonjour Anna',
    }],
    ['position', { ...head, ...point, ...fix, alt_dm: 1_730, speed_cm_s: 42, heading_cdeg: 9_000, hacc_cm: 180, sats: 14 }],
    ['track', { ...head, lat0_e7: point.lat_e7, lon0_e7: point.lon_e7, dlat_e7: [10, -20], dlon_e7: [5, 5], dt_ms: [1_000, 1_000], speed_cm_s: [42, 44] }],
    ['signals', { ...head, s: [{ id: 101, v: 1_234, dt_ms: 10 }, { id: 102, v: -5, dt_ms: 20 }] }],
    ['can', { ...head, f: [{ id: 217_056_256, data: 'AQIDBAUGBwg=', dt_us: 0 }], bus: 1, t0_us: at * 1_000 }],
    ['fault', { ...head, spn: 168, fmi: 1, source_address: 39, occurrences: 7, active: true, lamp: model === 'boom' ? 6 : 2, oem_code: 'E-42 call Ben' }],
    ['safety', { ...head, ...point, kind: 'SAFETY_OVERLOAD', severity: 'SEVERITY_ALARM', value: 104, duration_ms: 2_300, acc_mg: [12, -3, 1_004] }],
    ['precheck', { ...head, passed: true, items: ['CHECK_OK', 'CHECK_DEFECT', 'CHECK_OK'], list_version: 3, remark: 'rail loose, told Ben', photo_sha256: 'q83vASNFZ4k=' }],
    ['charge', { ...head, historical: true, state: 'CHARGE_BULK', out_mv: 54_200, out_ma: 18_500, soc_start_pct_x10: 212, soc_end_pct_x10: 1_003, soh_pct: 91, cycles: 612, cell_mv: [3_380, 3_391], cell_temp_dc: [221, -4] }],
    ['comms', {
      ...head, ip: '192.0.2.17', imei: '490154203237518', imsi: '001010123456789', iccid: '89010012345678901236', apn: 'iot.example', rssi_dbm: -87, tx_kb: 812, rx_kb: 95,
      mcc: 208, mnc: 1, lac: 4_321, cell_id: 8_765, wifi_bssid: ['02:00:5e:10:00:01'], ble_mac: ['02:00:5e:10:00:02'],
    }],
    ['diag', { ...head, level: 'DIAG_WARN', component: 'bms/cell-balancer/watchdog-task', text: 'card 04A1 of Anna rejected', blob: 'AAEC' }],
    ['device', { ...head, serial: machine, pin: 'XYZ0001008', oem: 'Example Lifts', model: 'EL-26', firmware: '4.2.1', hardware: 'C', operator_collection: 'SETTING_ON' }],
    ['session', {
      ...head, start_ms: at - 5_400_000, end_ms: at, drive_s: 1_260, lift_s: 3_480, idle_s: 660, lifts: 41, tilt_events: 1, overload_events: 2, score_pct_x10: 815, energy_wh: 5_300,
    }],
    ['consent', { ...head, purpose: 'improve.statistics', choice: 'NOTICE_SHOWN', policy_id: 'awp-2026-11', language: 'fr' }],
  ]
}

// ------------------------------------------------------------------------------------------------------- what each output gets

type Rows = readonly (readonly [stream: string, message: Record<string, unknown>, topic: string])[]
const none: Rows = []
type Cell = '10 km' | '1 km' | '500 m'

/** The manufacturer: time to the minute, load to 50 kg (125 -> 150, halves away from zero), the machine under one lasting pseudonym. */
function serviceCloud(machine: string, cell: Cell, { minute }: Times): Rows {
  const { model, parked, noFix, [cell]: position } = SITES[machine] as Site
  const head = { machine_id: `<${machine}>`, time_ms: minute }
  const place = noFix ? {} : { ...position, fix: 3 }
  const boom = model === 'boom' ? { boom_angle_cdeg: 4_210, boom_length_mm: 8_700, slew_cdeg: -1_500, wind_cm_s: 640 } : {}
  const lamp = model === 'boom' ? 6 : 2
  const rows: [string, Record<string, unknown>][] = [
    ['status', {
      ...head, ...place, ...(parked ? {} : { key_on: true, mode: 'MODE_LIFT' }), ...boom, soc_pct_x10: 825, platform_height_mm: 9_300, pack_mv: 48_900, pack_current_da: -125,
      pack_temp_dc: 215, platform_load_kg: 150, pitch_cdeg: -40, roll_cdeg: 25, flags: 33, hour_meter_s: 4_521_780,
    }],
    ['fault', { ...head, spn: 168, fmi: 1, source_address: 39, occurrences: 7, active: true, lamp }],
    ['safety', { ...head, kind: 'SAFETY_OVERLOAD', severity: 'SEVERITY_ALARM', duration_ms: 2_300, acc_mg: [12, -3, 1_004] }],
    ['charge', {
      ...head, historical: true, state: 'CHARGE_BULK', out_mv: 54_200, out_ma: 18_500, soc_start_pct_x10: 212, soc_end_pct_x10: 1_003, soh_pct: 91, cycles: 612, cell_mv: [3_380, 3_391],
      cell_temp_dc: [221, -4],
    }],
    ['comms', { ...head, rssi_dbm: -87, tx_kb: 812, rx_kb: 95 }],
    ['diag', { ...head, level: 'DIAG_WARN', component: 'bms/cell-balancer/watchd' }],
    ['device', { ...head, oem: 'Example Lifts', model: 'EL-26', firmware: '4.2.1', hardware: 'C', operator_collection: 'SETTING_ON' }],
  ]
  return rows.map(([stream, message]) => [stream, message, `out/service/${stream}/<${machine}>`])
}

/**
 * The planner: quarter hours, charge in steps of 5 % (82.5 -> 85 %, 21.2 -> 20 %, 100.3 clamped to 100 %), height in classes (9.3 m is in the
 * one from 8 m). No status of a parked machine, no position without a fix.
 */
function sitePlanning(machine: string, cell: Cell, { quarter }: Times, name = machine): Rows {
  const { parked, noFix, [cell]: position } = SITES[machine] as Site
  const head = { machine_id: `<${name}>`, time_ms: quarter }
  const rows: [string, Record<string, unknown>][] = [
    ...(parked || noFix ? [] : [['status', { ...head, ...position, mode: 'MODE_LIFT', soc_pct_x10: 850, platform_height_mm: 8_000 }] as [string, Record<string, unknown>]]),
    ...(noFix ? [] : [['position', { ...head, ...position }] as [string, Record<string, unknown>]]),
    ['charge', { ...head, state: 'CHARGE_BULK', soc_start_pct_x10: 200, soc_end_pct_x10: 1_000 }],
  ]
  return rows.map(([stream, message]) => [stream, message, `out/planning/${stream}/<${name}>`])
}

/** The renter: the serial number, the hour, and the hour meter in steps of 6 min: 4521780 / 360 = 12560.5 -> 12561 * 360 = 4521960. */
function rentalBilling(machine: string, { hour }: Times): Rows {
  return [['status', { machine_id: machine, time_ms: hour, hour_meter_s: 4_521_960 }, 'out/billing/status']]
}

/** The security desk: log-ins and modem records, exactly timed; the person only with their yes, and then as a pseudonym. */
function securityLog(machine: string, op: Op, { at }: Times, person: string | undefined): Rows {
  const head = { machine_id: machine, time_ms: at }
  return [
    ['operator', { ...head, ...(person === undefined ? {} : { operator_id: `<${person}>` }), op, method: 'METHOD_CARD', certificate_valid: true }, 'out/security/operator'],
    ['comms', {
      ...head, ip: '192.0.2.17', imei: '490154203237518', imsi: '001010123456789', iccid: '89010012345678901236', apn: 'iot.example', tx_kb: 812, rx_kb: 95, mcc: 208, mnc: 1,
    }, 'out/security/comms'],
  ]
}

/** The safety archive: whatever anybody chose, exactly timed, a 500 m cell, no person. Of faults only those with the red lamp (bit 2). */
function safetyRecord(machine: string, { at }: Times): Rows {
  const { model, '500 m': position } = SITES[machine] as Site
  const head = { machine_id: machine, time_ms: at }
  const red: Rows = model === 'boom' ? [['fault', { ...head, spn: 168, fmi: 1, source_address: 39, active: true, lamp: 6 }, 'out/safety/fault']] : none
  return [
    ...red,
    ['safety', { ...head, ...position, kind: 'SAFETY_OVERLOAD', severity: 'SEVERITY_ALARM', value: 104, duration_ms: 2_300, acc_mg: [12, -3, 1_004] }, 'out/safety/safety'],
    ['precheck', { ...head, passed: true, items: ['CHECK_OK', 'CHECK_DEFECT', 'CHECK_OK'], list_version: 3 }, 'out/safety/precheck'],
  ]
}

/** The person's own app: no machine, quarter hours; no score and no idle time. */
function operatorApp(machine: string, { quarter }: Times, person: string): Rows {
  const { parked } = SITES[machine] as Site
  const head = { operator_id: `<${person}>`, time_ms: quarter }
  const status: Rows = parked ? none : [['status', { ...head, soc_pct_x10: 850 }, 'out/app/status']]
  return [
    ...status,
    ['precheck', { ...head, passed: true, list_version: 3 }, 'out/app/precheck'],
    ['session', { ...head, drive_s: 1_260, lift_s: 3_480, lifts: 41, energy_wh: 5_300 }, 'out/app/session'],
  ]
}

// ---------------------------------------------------------------------------------------------------------------- the morning

/** How an output stands: service (cell), planner (cell), security log (with the person, without, only what the modem says, closed), app. */
type Row = readonly [service: '10 km' | '1 km', planner: '10 km' | '500 m' | 'nothing', security: 'named' | 'nameless' | 'modem' | 'nothing', app: 'something' | 'nothing']

interface Phase {
  readonly name: string
  readonly times: Times
  readonly op: Op
  /** Said through the admin API a minute before. */
  readonly before?: (stage: Stage) => Promise<void>
  readonly rows: Readonly<Record<string, Row>>
}

const PHASES: readonly Phase[] = [
  {
    name: '09:22, everybody signs on, nobody was asked yet; Carla was given the notice',
    times: T0922, op: 'SIGN_ON',
    before: async (stage) => stage.notice(CARLA.id),
    rows: {
      //           service  planner    security    app
      'SN-1001': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1002': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1003': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1004': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1005': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1006': ['10 km', '10 km', 'nameless', 'nothing'], // statistics are opt-out in California
      'SN-1007': ['10 km', 'nothing', 'nameless', 'nothing'], // the same Carla in the Netherlands: the stricter country counts
      'SN-1008': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1009': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1010': ['10 km', 'nothing', 'nameless', 'nothing'],
    },
  },
  {
    name: '09:37, Anna has said yes to everything, Carla to four purposes, Ben to nothing',
    times: T0937, op: 'LOCK',
    before: async (stage) => {
      await stage.consent(ANNA.id, 'granted', ...ALL_PURPOSES)
      await stage.consent(CARLA.id, 'granted', ...CARLAS_PURPOSES)
    },
    rows: {
      //           service  planner    security    app
      'SN-1001': ['1 km', '500 m', 'named', 'something'],
      'SN-1002': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1003': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1004': ['10 km', 'nothing', 'nameless', 'nothing'], // device setting off: as if nobody were there
      'SN-1005': ['1 km', '500 m', 'named', 'something'],
      'SN-1006': ['1 km', '500 m', 'named', 'something'],
      'SN-1007': ['1 km', '500 m', 'named', 'something'],
      'SN-1008': ['1 km', '500 m', 'named', 'something'],
      'SN-1009': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1010': ['10 km', 'nothing', 'nameless', 'nothing'], // device setting unknown
    },
  },
  {
    name: '09:52, Carla has taken everything back',
    times: T0952, op: 'LOCK',
    before: async (stage) => void await stage.consent(CARLA.id, 'withdrawn', ...CARLAS_PURPOSES),
    rows: {
      //           service  planner    security    app
      'SN-1001': ['1 km', '500 m', 'named', 'something'],
      'SN-1002': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1003': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1004': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1005': ['1 km', '500 m', 'named', 'something'],
      'SN-1006': ['10 km', 'nothing', 'nothing', 'nothing'], // a withdrawal counts as an objection too
      'SN-1007': ['10 km', 'nothing', 'nothing', 'nothing'],
      'SN-1008': ['1 km', '500 m', 'named', 'something'],
      'SN-1009': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1010': ['10 km', 'nothing', 'nameless', 'nothing'],
    },
  },
  {
    name: '10:07, all keys are off: nobody is there',
    times: T1007, op: 'KEY_OFF',
    rows: {
      //           service  planner    security    app
      'SN-1001': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1002': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1003': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1004': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1005': ['10 km', 'nothing', 'nameless', 'nothing'],
      // The record of the modem is about nobody now; turning the key off was still Carla's doing, who withdrew from this.
      'SN-1006': ['10 km', 'nothing', 'modem', 'nothing'],
      'SN-1007': ['10 km', 'nothing', 'modem', 'nothing'],
      'SN-1008': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1009': ['10 km', 'nothing', 'nameless', 'nothing'],
      'SN-1010': ['10 km', 'nothing', 'nameless', 'nothing'],
    },
  },
]

function expected(machine: string, row: Row, op: Op, times: Times, names: { readonly planner?: string; readonly person?: string } = {}): Record<string, Rows> {
  const [service, planner, security, app] = row
  const person = names.person ?? (SITES[machine] as Site).person.id
  return {
    'oem-cloud': serviceCloud(machine, service, times),
    'site-planner': planner === 'nothing' ? none : sitePlanning(machine, planner, times, names.planner),
    'rental-company': rentalBilling(machine, times),
    'security-desk': security === 'nothing' ? none : securityLog(machine, op, times, security === 'named' ? person : undefined).filter(([stream]) => security !== 'modem' || stream === 'comms'),
    'safety-archive': safetyRecord(machine, times),
    'my-app': app === 'nothing' ? none : operatorApp(machine, times, person),
  }
}

// ---------------------------------------------------------------------------------------------------------------- pseudonyms

/** Learns the first pseudonym of each label in each output, and puts the label in the place of that pseudonym from then on. */
class Pseudonyms {
  readonly #values = new Map<string, string>()

  /** A row as it came, with labels where the wanted row has some. A pseudonym that belongs to another label is left as it is. */
  labelled(recipient: string, [stream, message, topic]: Rows[number], wanted: Rows[number] | undefined): Rows[number] {
    let [named, address] = [message, topic]
    for (const field of ['machine_id', 'operator_id'] as const) {
      const [label, value] = [wanted?.[1][field], message[field]]
      if (typeof label !== 'string' || typeof value !== 'string' || !label.startsWith('<')) continue
      const key = `${recipient} ${label}`
      if (!this.#values.has(key) && ![...this.#values.values()].includes(value)) this.#values.set(key, value)
      if (this.#values.get(key) !== value) continue
      named = { ...named, [field]: label }
      address = address.replace(value, label)
    }
    return [stream, named, address]
  }

  all(): { readonly recipient: string; readonly label: string; readonly value: string }[] {
    return [...this.#values].map(([key, value]) => ({ recipient: key.slice(0, key.indexOf(' ')), label: key.slice(key.indexOf(' ') + 1), value }))
  }
}

// ------------------------------------------------------------------------------------------------------------------ the tests

const CANARY = 'canary-in-an-unknown-field'
/** Field 1000, length-delimited: no schema has it. */
const UNKNOWN = Buffer.concat([Buffer.from([0xc2, 0x3e, CANARY.length]), Buffer.from(CANARY)])

let stage: Stage
let now = T0922.at - 60 * SECOND
let recipients: Recipient[]
const terminals = new Map<string, Terminal>()
/** Everything that came, in order, by phase. */
const came = new Map<string, Readonly<Record<string, Said[]>>>()
const raw: Buffer[] = []
const pseudonyms = new Pseudonyms()

beforeAll(async () => {
  stage = await Stage.open({ folder: new Folder({ asShipped: true }), clock: { now: () => now, monotonic: () => performance.now() } })
  recipients = await Promise.all(Object.entries(OWN_TOPICS).map(([name, filter]) => stage.recipient(name, [filter])))
  for (const machine of Object.keys(SITES)) terminals.set(machine, await stage.terminal(machine))
  for (const recipient of recipients) recipient.client.on('message', (_topic, payload) => void raw.push(payload))
})

afterAll(() => stage.close())

/** One machine sends its messages, at all qualities of service, and everything that comes of them arrives. */
async function send(machine: string, messages: readonly (readonly [string, Record<string, unknown>])[]): Promise<void> {
  const terminal = terminals.get(machine) as Terminal
  for (const [index, [stream, message]] of messages.entries()) {
    const last = index === messages.length - 1
    await terminal.send(stream, Buffer.concat([encode(stream, message), UNKNOWN]), { qos: last ? 1 : ([1, 0, 2] as const)[index % 3] as 0 | 1 | 2 })
  }
}

async function collected(): Promise<Record<string, Said[]>> {
  await stage.settled(recipients)
  return Object.fromEntries(recipients.map((recipient) => [recipient.name, recipient.takeSaid()]))
}

/** As the tables write it: `[stream, message, topic]` with the labels of known pseudonyms. */
function asRows(recipient: string, said: readonly Said[], wanted: Rows): Rows {
  return said.map(({ stream, message, topic }, index) => pseudonyms.labelled(recipient, [stream, message, topic], wanted[index]))
}

for (const phase of PHASES) {
  describe(phase.name, () => {
    beforeAll(async () => {
      now = phase.times.at - 60 * SECOND
      await phase.before?.(stage)
      now = phase.times.at
      for (const machine of Object.keys(SITES)) {
        await send(machine, sent(machine, phase.op, phase.times))
        came.set(`${phase.name} ${machine}`, await collected())
      }
    })

    for (const machine of Object.keys(SITES)) {
      it(`${machine}: ${(phase.rows[machine] as Row).join(', ')}`, () => {
        const wanted = expected(machine, phase.rows[machine] as Row, phase.op, phase.times)
        const got = came.get(`${phase.name} ${machine}`) ?? {}
        expect(Object.fromEntries(Object.entries(got).map(([recipient, said]) => [recipient, asRows(recipient, said, wanted[recipient] ?? none)]))).toEqual(wanted)
      })
    }
  })

  // Before the clock moves on: it never goes back, and neither does a yes.
  if (phase !== PHASES[1]) continue
  describe('all at once', () => {
    it('ten machines at the same time give each recipient the same as one after the other', async () => {
      await Promise.all(Object.keys(SITES).map((machine) => send(machine, sent(machine, phase.op, phase.times))))
      const got = await collected()
      for (const { name } of recipients) {
        const before = Object.keys(SITES).flatMap((machine) => came.get(`${phase.name} ${machine}`)?.[name] ?? [])
        expect([name, got[name]?.map((one) => JSON.stringify(one)).sort()]).toEqual([name, before.map((one) => JSON.stringify(one)).sort()])
      }
    })
  })
}

describe('a hand-over', () => {
  const at = T1007.at + 60 * SECOND
  it.each([
    { after: 0, planner: 'nothing' }, { after: 119, planner: 'nothing' }, { after: 120, planner: '500 m' },
  ] as const)('$after s after Anna took over from Ben, who left a minute before, the planner gets $planner', async ({ after, planner }) => {
    const times = { at: at + after * SECOND, minute: 0, quarter: T1007.quarter, hour: 0 }
    now = times.at
    const site = { ...SITES['SN-1002'] as Site, person: ANNA }
    const head = { machine_id: 'SN-1002', time_ms: times.at, operator_id: site.person.card }
    const wanted: Rows = planner === 'nothing' ? none : [['position', { machine_id: '<SN-1002>', time_ms: times.quarter, ...site[planner] }, 'out/planning/position/<SN-1002>']]
    await send('SN-1002', [...(after === 0 ? [['operator', { ...head, op: 'SIGN_ON' }] as const] : []), ['position', { ...head, ...site.at, fix: 3 }]])
    const got = await collected()
    expect(asRows('site-planner', got['site-planner'] ?? [], wanted)).toEqual(wanted)
  })
})

describe('ten days later', () => {
  it('the planner, the app and the security desk see somebody new, the manufacturer the same machine', async () => {
    now = LATER.at
    await send('SN-1001', sent('SN-1001', 'SIGN_ON', LATER))
    const wanted = expected('SN-1001', ['1 km', '500 m', 'named', 'something'], 'SIGN_ON', LATER, { planner: 'SN-1001 in another week', person: 'op-anna in another month' })
    const got = await collected()
    expect(Object.fromEntries(Object.entries(got).map(([recipient, said]) => [recipient, asRows(recipient, said, wanted[recipient] ?? none)]))).toEqual(wanted)
  })
})

describe('pseudonyms', () => {
  it('are 16 bytes in base64url, one for each machine or person in each output', () => {
    const all = pseudonyms.all()
    // 10 machines for the manufacturer; for the planner 6 and one again in another week; Anna and Carla, and Anna again, for desk and app.
    expect(Object.fromEntries([...new Set(all.map(({ recipient }) => recipient))].map((name) => [name, all.filter(({ recipient }) => recipient === name).map(({ label }) => label).sort()]))).toEqual({
      'oem-cloud': Object.keys(SITES).map((machine) => `<${machine}>`).sort(),
      'site-planner': ['<SN-1001 in another week>', '<SN-1001>', '<SN-1002>', '<SN-1005>', '<SN-1006>', '<SN-1007>', '<SN-1008>'],
      'security-desk': ['<op-anna in another month>', '<op-anna>', '<op-carla>'],
      'my-app': ['<op-anna in another month>', '<op-anna>', '<op-carla>'],
    })
    for (const { value } of all) expect(value).toMatch(/^[A-Za-z0-9_-]{21}[AQgw]$/)
  })

  it('no two are the same, in no two outputs', () => {
    const all = pseudonyms.all().map(({ value }) => value)
    expect(new Set(all).size).toBe(all.length)
  })
})

describe('the whole morning', () => {
  it('let nothing out that no schema names', () => {
    expect(raw.length).toBeGreaterThan(500)
    expect(raw.filter((payload) => payload.includes(CANARY))).toEqual([])
  })
})
