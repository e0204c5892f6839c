/** The numbers of the wire format, which are read and written in pieces for speed, against bigints (protobuf.dev "Encoding"). */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { verdictName } from '../../src/domain/verdict.ts'
import { Cursor, Malformed, Writer } from '../../src/minimise/wire.ts'
import { varint } from './random/wire.ts'

const number = fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.integer({ min: 0, max: 63 }).chain((bits) => fc.integer({ min: -2, max: 2 }).map((near) => BigInt.asUintN(64, (1n << BigInt(bits)) + BigInt(near)))))

describe('varints', () => {
  test('are written minimal', () => {
    fc.assert(fc.property(number, (value) => {
      const writer = new Writer()
      writer.varint(value)
      expect(Buffer.from(writer.finish())).toEqual(Buffer.from(varint(value)))
      const signed = new Writer()
      signed.varint(BigInt.asIntN(64, value))
      expect(Buffer.from(signed.finish())).toEqual(Buffer.from(varint(value)))
    }), { numRuns: 2_000 })
  })

  test('are read with needless bytes behind them, whole and by their low half', () => {
    fc.assert(fc.property(number, fc.nat({ max: 9 }), fc.boolean(), (value, pad, isFull) => {
      const bytes = Buffer.concat([Buffer.from([0xff]), varint(value, pad), Buffer.from([0x7f])])
      const cursor = new Cursor(bytes, 1, isFull ? bytes.length - 1 : bytes.length)
      expect(cursor.varint()).toBe(value)
      expect(cursor.at).toBe(bytes.length - 1)
      cursor.at = 1
      expect(cursor.varint32()).toBe(Number(BigInt.asUintN(32, value)))
      expect(cursor.at).toBe(bytes.length - 1)
      cursor.at = 1
      cursor.skip(8, 0)
      expect(cursor.at).toBe(bytes.length - 1)
    }), { numRuns: 2_000 })
  })

  test('of more than 64 bits lose what lies above', () => expect(new Cursor(Buffer.from('ffffffffffffffffff7f', 'hex'), 0, 10).varint()).toBe(2n ** 64n - 1n))

  test.each([
    ['end', 'ff', 'truncated'], ['do not end', 'ffffffffffffffffffff01', 'bad_varint'], ['are not there', '', 'truncated'],
  ])('that %s are malformed: %s', (_name, hex, expected) => {
    const bytes = Buffer.from(hex, 'hex')
    for (const read of [(cursor: Cursor) => cursor.varint(), (cursor: Cursor) => cursor.varint32(), (cursor: Cursor) => cursor.skip(8, 0), (cursor: Cursor) => cursor.tag(), (cursor: Cursor) => cursor.length()]) {
      expect(codeOf(() => read(new Cursor(bytes, 0, bytes.length)))).toBe(expected)
    }
  })

  test.each([['0a', 10], ['8a8080808000', 10], ['f8ffffff0f', 0xffff_fff8]])('tag %s is %i', (hex, expected) => expect(new Cursor(Buffer.from(hex, 'hex'), 0, hex.length / 2).tag()).toBe(expected))
  test.each(['00', '07', '0e', '0f', '8080808010', '8a80808080808080 8001'])('%s is no tag', (hex) => {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex')
    expect(codeOf(() => new Cursor(bytes, 0, bytes.length).tag())).toBe('bad_tag')
  })
})

test('what is closed has its length in front, however long it became', () => {
  for (const inner of [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
    const writer = new Writer()
    writer.tag(1, 2)
    const outer = writer.open()
    writer.raw(Buffer.from('ab'))
    const from = writer.open()
    writer.raw(Buffer.alloc(inner, 0x5a))
    writer.close(from)
    writer.raw(Buffer.from('c'))
    writer.close(outer)
    const body = Buffer.concat([Buffer.from('ab'), varint(BigInt(inner)), Buffer.alloc(inner, 0x5a), Buffer.from('c')])
    expect(Buffer.concat([Buffer.from([10]), varint(BigInt(body.length)), body]).equals(writer.finish())).toBe(true)
  }
})

function codeOf(read: () => unknown): string {
  try {
    read()
  } catch (error) {
    if (error instanceof Malformed) return verdictName(error.code)
    throw error
  }
  return 'read'
}
