/**
 * How messages are packed for a bridge: several into one, and each with what the cloud has to know about it. Written by hand, as
 * both forms are fixed (proto/parapet/v1/envelope.proto) and small.
 */
import { zstdCompressSync } from 'node:zlib'
import type { OutboxRecord } from '../domain/ports.ts'

export interface BatchOptions {
  /** At most so many messages in one. */
  readonly messages: number
  /** The first of them waits at most so long. */
  readonly withinMs: number
  readonly compress: 'zstd' | 'none'
  /** Outputs that are batched; all when left out. */
  readonly outputs?: readonly string[] | undefined
}

/** Messages with the same key may share a batch: what stands outside of the payloads is the same for all of them. */
export function keyOf(record: OutboxRecord): string {
  return [record.topic, record.output, record.qos, record.retain, record.purpose, record.policy, record.rulesHash].join('\u0000')
}

/** Each message behind its length, a varint: what protobuf libraries read as delimited. `saved`: bytes less than without compression. */
export function encodeBatch(bodies: readonly Uint8Array[], { compress }: BatchOptions): { readonly bytes: Uint8Array; readonly saved: number } {
  const plain = Buffer.concat(bodies.flatMap((body) => [varint(body.length), body]))
  if (compress === 'none') return { bytes: plain, saved: 0 }
  // [RFC 8878]
  const bytes = zstdCompressSync(plain)
  return { bytes, saved: plain.length - bytes.length }
}

/** parapet.v1.Envelope around one message. */
export function encodeEnvelope(record: OutboxRecord, retentionMs: number | undefined, isDelayed: boolean): Uint8Array {
  return Buffer.concat([
    field(1, record.id),
    field(2, Buffer.from(record.policy)),
    field(3, Buffer.from(record.rulesHash)),
    field(4, Buffer.from(record.purpose)),
    ...(retentionMs === undefined ? [] : [Buffer.from([5 << 3]), varint(Math.round(retentionMs / 1000))]),
    ...(isDelayed ? [Buffer.from([6 << 3, 1])] : []),
    field(7, record.payload),
  ])
}

function field(number: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(bytes.length), bytes])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80)
    rest = Math.floor(rest / 0x80)
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}
