/**
 * The arithmetic of rules-language 5 once more, from the text alone: HKDF from its definition, grids in exact integers.
 * Nothing here comes from src.
 */
import { createHmac } from 'node:crypto'
import { resolve } from 'node:path'
import protobuf from 'protobufjs'

export const Report = new protobuf.Root().loadSync(resolve(import.meta.dirname, 'proto/lift.proto'), { keepCase: true }).lookupType('lift.v1.Report')

export function encode(message: Record<string, unknown>): Uint8Array {
  return Report.encode(Report.fromObject(message)).finish()
}

/** [RFC 5869] for up to 32 bytes: extract, then one block of expand. */
function hkdf(ikm: Uint8Array, salt: string, info: string): Buffer {
  const prk = createHmac('sha256', Buffer.from(salt, 'utf8')).update(ikm).digest()
  return createHmac('sha256', prk).update(Buffer.concat([Buffer.from(info, 'utf8'), Buffer.from([1])])).digest()
}

function lp(bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

export interface PseudonymCase {
  readonly root: Uint8Array
  readonly tenant: string
  readonly as: string
  readonly output: string
  readonly epoch: string
  readonly value: Uint8Array
  /** The row; undefined = derived from the root as `filter` does; empty for a field that stands for nobody. */
  readonly row: Uint8Array | undefined
}

/** The 16 bytes. */
export function pseudonym({ root, tenant, as, output, epoch, value, row }: PseudonymCase): Buffer {
  const key = hkdf(root, tenant, `parapet/v1|pseudonym|${as}|${output}|${epoch}`)
  const r = row ?? hkdf(root, tenant, `parapet/v1|filter-row|${as}|${Buffer.from(value).toString('utf8')}`)
  return createHmac('sha256', key).update(Buffer.concat([lp(r), lp(value)])).digest().subarray(0, 16)
}

function floorDiv(a: bigint, b: bigint): bigint {
  return a / b - (a % b !== 0n && a < 0n !== b < 0n ? 1n : 0n)
}

/** Centre of the cell in e7 integers: latitude index and row exact in integers, longitude as the page says it. */
export function gridE7(latE7: number, lonE7: number, size: number): { readonly lat: number; readonly lon: number } {
  const M = 111_320
  const i = Number(floorDiv(BigInt(latE7) * BigInt(M), BigInt(size) * 10_000_000n))
  const row = Number(floorDiv(BigInt(latE7) * BigInt(M), 100_000n * 10_000_000n))
  const c = Math.max(0.01, Math.cos((((row + 0.5) * 100_000) / M / 180) * Math.PI))
  const j = Math.floor(((lonE7 / 1e7) * M * c) / size)
  const five = (degrees: number): number => Math.round(Number(degrees.toFixed(5)) * 1e5) * 100
  return { lat: five(Math.min(90, Math.max(-90, ((i + 0.5) * size) / M))), lon: five(Math.min(180, Math.max(-180, ((j + 0.5) * size) / (M * c)))) }
}
