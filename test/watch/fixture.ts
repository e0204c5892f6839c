/** A small schema with a oneof, an enum and a personal field, streams over it, and messages written field by field. Everybody is invented. */
import type { FleetId, MachineId, OperatorId, PurposeId, StreamId } from '../../src/domain/ids.ts'
import type { Policy, Purpose, Stream } from '../../src/domain/policy.ts'
import type { Machine, Publish } from '../../src/domain/ports.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import type { Classification } from '../../src/domain/schema.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'

export const schemas = schemasFromText({
  'lift.proto': `
    syntax = "proto3";
    package lift.v1;
    enum Mode { MODE_UNSPECIFIED = 0; DRIVE = 1; LIFT = 2; }
    enum Reason { REASON_UNSPECIFIED = 0; TIRED = 1; }
    message Header { string machine_id = 1; uint64 time_ms = 2; }
    message Alarm { uint32 code = 1; }
    message Speed { sint32 mm_s = 1; }
    message Load { uint32 kg = 1; }
    message Report {
      Header header = 1;
      Mode mode = 2;
      Reason reason = 3;
      repeated Mode modes = 4;
      fixed32 counter = 5;
      map<string, Load> loads = 6;
      string note = 13;
      oneof body { Alarm alarm = 10; Speed speed = 11; Load load = 12; }
    }
  `,
}).classify(new Map<string, Partial<Classification>>([
  ...['Report.mode', 'Report.modes', 'Report.header', 'Report.counter', 'Header.machine_id'].map((field) => [`lift.v1.${field}`, { category: 'operation', class: 'basic', personal: 'never' }] as const),
  ['lift.v1.Report.reason', { category: 'performance', class: 'additional', personal: 'always' }] as const,
]))

export function streamOf(id: string, topic: string, path?: string): Stream {
  const message = schemas.message('lift.v1.Report')
  if (message === undefined) throw new Error('the schema has no Report')
  return { id: id as StreamId, index: 0, topic, message, case: path, machineField: undefined, operatorField: undefined, time: undefined, points: [] }
}

export const PURPOSES: readonly Purpose[] = ['service', 'improve.statistics'].map((id, index) => ({ id: id as PurposeId, index, about: '', clause: undefined, dpv: undefined }))

/** As far as recordings look at one. */
export function policyOf(streams: readonly Stream[], hash = 'ab'.repeat(32), purposes = PURPOSES): Policy {
  return { id: 'lift-1', hash, streams, purposes, subject: { sessions: undefined, sessionMaxMs: 43_200_000, quarantineMs: 120_000, lateLimitMs: 604_800_000 } } as unknown as Policy
}

export function machineOf(id: string, operatorCollection: Machine['operatorCollection'] = 'on'): Machine {
  return {
    id: id as MachineId, fleet: 'north' as FleetId, model: 'scissor-SL10', labels: { site: 'A' }, country: 'FR', operatorCollection, holder: 'CANARY-holder',
    credential: 'scrypt$CANARY-credential', certificate: 'CANARY-certificate',
  }
}

export function publishOf(machine: string, topic: string, payload: Uint8Array, receivedAtMs: number): Publish {
  return { topic, payload, qos: 1, machine, receivedAtMs, isWill: false }
}

export function decisionOf(operator: string | undefined, change: Partial<Decision> = {}): Decision {
  return { ...nobody(), collection: true, ...(operator === undefined ? {} : { known: true, operator: operator as OperatorId, yes: 2, siteYes: 2, notice: 3, session: '11'.repeat(16) }), ...change }
}

// ------------------------------------------------------------------------------------------------------- bytes by hand

export function varint(number: number, value: number): number[] {
  return [...bare(number * 8), ...bare(value)]
}

export function delimited(number: number, content: readonly number[] | string): number[] {
  const bytes = typeof content === 'string' ? [...Buffer.from(content, 'utf8')] : content
  return [...bare(number * 8 + 2), ...bare(bytes.length), ...bytes]
}

export function bare(value: number): number[] {
  const bytes: number[] = []
  for (let left = value; ; left = Math.floor(left / 128)) {
    if (left < 128) return [...bytes, left]
    bytes.push((left % 128) | 128)
  }
}

export function bytes(...parts: readonly (readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flat())
}
