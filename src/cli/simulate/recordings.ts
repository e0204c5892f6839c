/**
 * Recorded data in place of generated numbers, where a folder with it is at hand: battery and speed of an electric vehicle, paths
 * of people, frames of a real bus. The folder layout is `rsk_twizy/telemetry_1hz.csv.gz`, `jd5055e_j1939/frames.csv.gz` and
 * `go_track/points.csv.gz`; each of the three may be absent. Log-ins, height, tilt, load and faults are in none of them.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { GatewayError } from '../../domain/errors.ts'

/** State of the battery and drive at a time. */
export interface RecordedDrive {
  /** SoC in per cent, speed in m/s as a lift drives, wind in m/s. */
  at(atMs: number): { readonly soc: number; readonly speed: number; readonly wind: number | undefined }
}

export interface RecordedBus {
  /** The frames of the next so many seconds, in proto3 JSON form of awp.v1.CanFrame. */
  next(seconds: number): readonly Readonly<Record<string, unknown>>[]
}

export interface RecordedPath {
  /** Metres east and north of where the path began, so long after it began. Each card has its own phone of the recording. */
  at(card: string, afterMs: number): readonly [number, number]
}

export interface Recordings {
  /** One sentence for each file: used, or absent and what is generated instead. */
  readonly notes: readonly string[]
  /** For a machine by its place in the fleet: each begins somewhere else in the recording. */
  drive(place: number): RecordedDrive | undefined
  bus(place: number): RecordedBus | undefined
  path(place: number): RecordedPath | undefined
}

/** The vehicle drove up to 80 km/h, a lift does about 4. */
const SPEED_SCALE = 1 / 20
/** Past it a file is not one of these recordings. */
const FILE_MAX = 64 * 1024 * 1024
const TEXT_MAX = 512 * 1024 * 1024
/** Frames of one message at most: a gap in the simulation does not make a packet that no gateway takes. */
const FRAMES_MAX = 400
/** Golden-section steps spread any number of machines over a recording without two close together. */
const SPREAD = 0.618_033_988_749_895

/** No recordings: everything is generated. */
export const NOTHING_RECORDED: Recordings = { notes: ['No recordings: every value is generated (--data DIR replays recorded ones).'], drive: () => undefined, bus: () => undefined, path: () => undefined }

/**
 * Reads what a folder holds. Errors: NO-DATA, the folder or all three recordings are missing; BAD-DATA, a file is not what its name says.
 * @param startMs  the time that the recordings are laid upon
 */
export function readRecordings(dir: string, startMs: number): Recordings {
  if (!existsSync(dir) || !statSync(dir).isDirectory()) throw new GatewayError('NO-DATA', `The folder ${dir} does not exist.`, 'Name the folder that holds rsk_twizy, jd5055e_j1939 or go_track, or leave --data out.')
  const drives = table(dir, 'rsk_twizy/telemetry_1hz.csv.gz', ['Soc', 'Speed', 'WindSpeedAv'])
  const frames = table(dir, 'jd5055e_j1939/frames.csv.gz', ['session', 't_ms', 'pgn', 'priority', 'source', 'destination', 'data_hex'])
  const points = table(dir, 'go_track/points.csv.gz', ['device_id', 'track_id', 'time', 'lat', 'lon'])
  if (drives === undefined && frames === undefined && points === undefined) {
    throw new GatewayError('NO-DATA', `The folder ${dir} holds none of the recordings.`, 'It should have rsk_twizy/telemetry_1hz.csv.gz, jd5055e_j1939/frames.csv.gz or go_track/points.csv.gz.')
  }
  const drive = drives && driveRecording(drives, startMs)
  const bus = frames && busRecording(frames)
  const path = points && pathRecording(points)
  return {
    notes: [
      drives === undefined ? 'No recording of a drive: battery and speed are generated.' : `Battery, wind${path === undefined ? ' and speed (a twentieth of a car\'s)' : ''}: ${drives.length} recorded seconds of an electric vehicle (RSK Twizy).`,
      frames === undefined ? 'No recording of a bus: CAN frames are generated.' : `CAN frames: ${frames.length} recorded frames of a tractor (John Deere 5055E).`,
      points === undefined ? 'No recorded paths: positions are generated.' : `Positions: ${points.length} recorded points of ${path?.phones ?? 0} phones (Go!Track), each path moved to the site as a whole.`,
    ],
    drive: (place) => drive?.(place),
    bus: (place) => bus?.(place),
    path: () => path,
  }
}

type Row = readonly string[]

/** Rows with the named columns, in that order; undefined when there is no such file. */
function table(dir: string, name: string, wanted: readonly string[]): Row[] | undefined {
  const file = join(dir, name)
  if (!existsSync(file)) return undefined
  const broken = (why: string): GatewayError => new GatewayError('BAD-DATA', `${file} ${why}.`, 'Take the file as it was delivered.')
  if (statSync(file).size > FILE_MAX) throw broken('is larger than any of the recordings')
  let text: string
  try {
    text = gunzipSync(readFileSync(file), { maxOutputLength: TEXT_MAX }).toString('utf8')
  } catch {
    throw broken('is no gzip file')
  }
  const [head = '', ...lines] = text.split(/\r?\n/)
  const places = wanted.map((column) => head.split(',').indexOf(column))
  if (places.includes(-1)) throw broken(`has no column ${wanted[places.indexOf(-1)]}`)
  const rows = lines.filter((line) => line !== '').map((line) => {
    const cells = line.split(',')
    return places.map((at) => cells[at] ?? '')
  })
  if (rows.length === 0) throw broken('has no rows')
  return rows
}

function driveRecording(rows: readonly Row[], startMs: number): (place: number) => RecordedDrive {
  const soc = Float32Array.from(rows, ([cell]) => Number(cell))
  const speed = Float32Array.from(rows, ([, cell]) => (Number(cell) / 3.6) * SPEED_SCALE)
  const wind = Float32Array.from(rows, ([, , cell]) => Number(cell))
  return (place) => {
    const first = Math.floor(((place * SPREAD) % 1) * rows.length)
    return {
      at(atMs) {
        const row = (first + Math.max(0, Math.floor((atMs - startMs) / 1000))) % rows.length
        return { soc: finite(soc[row], 50), speed: finite(speed[row], 0), wind: Number.isFinite(wind[row]) ? wind[row] : undefined }
      },
    }
  }
}

function finite(value: number | undefined, otherwise: number): number {
  return value !== undefined && Number.isFinite(value) ? value : otherwise
}

function busRecording(rows: readonly Row[]): (place: number) => RecordedBus {
  return (place) => {
    let at = Math.floor(((place * SPREAD) % 1) * rows.length)
    return {
      next(seconds) {
        const made: Readonly<Record<string, unknown>>[] = []
        const [session, first] = rows[at]!
        while (made.length < FRAMES_MAX) {
          const [recording, time, pgn, priority, source, destination, hex = ''] = rows[at]!
          const after = Number(time) - Number(first)
          // A recording that ends is a shorter message, not one that spans two buses.
          if (recording !== session || after < 0 || after >= seconds * 1000) break
          made.push({ id: canId(Number(pgn), Number(priority), Number(source), Number(destination)), data: Buffer.from(hex, 'hex').toString('base64'), dt_us: Math.round(after * 1000) })
          at = (at + 1) % rows.length
          if (at === 0) break
        }
        return made
      },
    }
  }
}

/** [SAE J1939-21] 29 bits: priority, PGN, source. Below PDU format 240 the low byte of the PGN is the destination. */
export function canId(pgn: number, priority: number, source: number, destination: number): number {
  const toOne = ((pgn >> 8) & 255) < 240
  return ((priority << 26) | ((toOne ? (pgn & 0x3ff00) | (destination & 255) : pgn) << 8) | source) >>> 0
}

interface Leg { readonly times: readonly number[]; readonly east: readonly number[]; readonly north: readonly number[] }

const DEGREE_M = 111_320

function pathRecording(rows: readonly Row[]): RecordedPath & { readonly phones: number } {
  const phones = new Map<string, Map<string, Row[]>>()
  for (const row of rows) {
    const [phone = '', track = ''] = row
    const tracks = phones.get(phone) ?? new Map<string, Row[]>()
    phones.set(phone, tracks)
    tracks.set(track, [...(tracks.get(track) ?? []), row])
  }
  const paths = [...phones.values()].map((tracks) => legs([...tracks.values()]))
  const owners = new Map<string, number>()
  return {
    phones: phones.size,
    at(card, afterMs) {
      const owner = owners.get(card) ?? owners.size
      owners.set(card, owner)
      return pointAt(paths[owner % paths.length]!, Math.max(0, afterMs / 1000))
    },
  }
}

/** The tracks of one phone one after the other, each from where the one before began: metres, seconds. */
function legs(tracks: readonly (readonly Row[])[]): Leg {
  const [times, east, north]: [number[], number[], number[]] = [[], [], []]
  let start = 0
  for (const track of tracks) {
    const [, , from = '', lat0 = '0', lon0 = '0'] = track[0]!
    const width = DEGREE_M * Math.cos((Number(lat0) * Math.PI) / 180)
    for (const [, , time = '', lat, lon] of track) {
      const seconds = start + Math.max(0, (Date.parse(`${time.replace(' ', 'T')}Z`) - Date.parse(`${from.replace(' ', 'T')}Z`)) / 1000)
      if (!Number.isFinite(seconds) || seconds < (times.at(-1) ?? 0)) continue
      times.push(seconds)
      east.push((Number(lon) - Number(lon0)) * width)
      north.push((Number(lat) - Number(lat0)) * DEGREE_M)
    }
    start = (times.at(-1) ?? 0) + 60
  }
  return { times, east, north }
}

function pointAt({ times, east, north }: Leg, seconds: number): readonly [number, number] {
  const total = times.at(-1) ?? 0
  const at = total > 0 ? seconds % total : 0
  let [low, high] = [0, times.length - 1]
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (times[middle]! <= at) low = middle
    else high = middle
  }
  const span = times[high]! - times[low]!
  const share = span > 0 ? (at - times[low]!) / span : 0
  return [east[low]! + share * (east[high]! - east[low]!), north[low]! + share * (north[high]! - north[low]!)]
}
