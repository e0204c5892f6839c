/** The arithmetic of the rules language against hand-computed rows, exact big-integer recomputation and published vectors. */
import { createHmac, hkdfSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { snap } from '../../src/minimise/grid.ts'
import { bucketOf, floorNumber, roundFloat, roundInteger } from '../../src/minimise/number.ts'
import { createPseudonymiser, derivedRows, pseudonymNumber } from '../../src/minimise/pseudonym.ts'
import { parseQuantity } from '../../src/minimise/quantity.ts'
import { TRANSFORMS, isCoarserOrEqual } from '../../src/minimise/transforms.ts'
import type { FieldShape } from '../../src/domain/schema.ts'
import type { Transform } from '../../src/domain/policy.ts'

const cell = { latE7: 0, lonE7: 0 }

describe('grid', () => {
  test.each([
    // The worked example of the rules language: 10 km around Munich.
    ['Munich, 10 km', 481_371_540, 115_761_240, 10_000, 48.10456, 11.62612],
    ['on the equator and Greenwich', 1, 1, 1_000, 0.00449, 0.00449],
    ['south-west of both', -1, -1, 1_000, -0.00449, -0.00449],
    ['the north pole', 900_000_000, 0, 100_000, 90, 44.91556],
    ['the antimeridian', 0, 1_800_000_000, 100_000, 0.44916, 180],
  ])('%s', (_name, lat, lon, size, expectedLat, expectedLon) => {
    snap(lat, lon, size, cell)
    expect([cell.latE7 / 1e7, cell.lonE7 / 1e7]).toEqual([expectedLat, expectedLon])
  })

  test('rows are exact: floor of the fraction in big integers', () => {
    fc.assert(fc.property(fc.integer({ min: -900_000_000, max: 900_000_000 }), fc.constantFrom(5, 100, 500, 1_000, 10_000, 100_000), (lat, size) => {
      snap(lat, 0, size, cell)
      const product = BigInt(lat) * 111_320n
      const divisor = BigInt(size) * 10_000_000n
      const i = product / divisor - (product % divisor < 0n ? 1n : 0n)
      const centre = Math.min(90, Math.max(-90, ((Number(i) + 0.5) * size) / 111_320))
      expect(cell.latE7).toBe(Math.sign(centre) * Math.round(Math.abs(centre) * 1e5) * 100)
    }))
  })

  test('sizes that divide one another nest: equal small cells lie in equal large cells', () => {
    fc.assert(fc.property(fc.integer({ min: -800_000_000, max: 800_000_000 }), fc.integer({ min: -1_700_000_000, max: 1_700_000_000 }), fc.nat({ max: 40_000 }), fc.nat({ max: 40_000 }), (lat, lon, dLat, dLon) => {
      const small = (y: number, x: number): string => (snap(y, x, 500, cell), `${cell.latE7} ${cell.lonE7}`)
      const large = (y: number, x: number): string => (snap(y, x, 10_000, cell), `${cell.latE7} ${cell.lonE7}`)
      if (small(lat, lon) === small(lat + dLat, lon + dLon)) expect(large(lat, lon)).toBe(large(lat + dLat, lon + dLon))
    }), { numRuns: 5_000 })
  })
})

describe('numbers', () => {
  test.each([
    [7, 5, 5], [8, 5, 10], [-7, 5, -5], [-8, 5, -10], [25, 50, 50], [-25, 50, -50], [24, 50, 0], [0, 50, 0],
  ])('round(%i) to %i is %i: halves away from zero', (x, step, expected) => expect(roundInteger(x, step) + 0).toBe(expected))

  test.each([
    [0.25, 0.5, 0.5], [-0.25, 0.5, -0.5], [0.15, 0.1, Math.sign(1) * (Math.floor(0.15 * 10 + 0.5) / 10)], [1.234, 0.01, 1.23], [7.4, 2.5, 7.5], [3.5, 3, 3], [4.5, 3, 6],
  ])('round(%d) to %d is %d as a floating point number', (x, step, expected) => expect(roundFloat(x, step)).toBe(expected))

  test('minus zero survives rounding, because it is not the default', () => expect(Object.is(roundFloat(-0.2, 1), -0)).toBe(true))

  test.each([[0, 0], [4, 0], [5, 5], [9, 5], [10, 10], [99, 10], [-3, 0]])('bucket of %i is %i', (x, expected) => expect(bucketOf(x, [0, 5, 10])).toBe(expected))

  test('round_time floors, also before the epoch', () => {
    expect(floorNumber(1_763_888_864_000, 900_000)).toBe(1_763_888_400_000)
    expect(floorNumber(-1, 900_000)).toBe(-900_000)
  })

  test.each([
    ['5 %', '%', 0.1, 50], ['20 m', 'm', 0.001, 20_000], ['6 min', 's', 1, 360], ['1 h', 's', 1, 3_600], ['50 kg', 'kg', 1, 50], ['0.5 m/s', 'm/s', 0.001, 500],
  ])('%s on a field in %s with scale %d is %i on the wire', (text, unit, scale, wire) => expect(parseQuantity(text, unit, scale)).toEqual({ wire }))

  test('a unit of another family is refused', () => expect(parseQuantity('5 kg', '%', 0.1)).toHaveProperty('problem'))
})

describe('pseudonym', () => {
  const root = Buffer.from('c3a1f00d5eed4b1d9e8f7a6b5c4d3e2f1a0b9c8d7e6f50413223344556677889', 'hex')

  test('equals the formula written out with node:crypto', () => {
    const lp = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes])
    const hkdf = (info: string): Buffer => Buffer.from(hkdfSync('sha256', root, 'tenant-1', info, 32))
    const event = 1_763_888_864_000
    const key = hkdf(`parapet/v1|pseudonym|machine|planner|${Math.floor(event / 604_800_000)}`)
    const row = hkdf('parapet/v1|filter-row|machine|SN-1042')
    const expected = createHmac('sha256', key).update(lp(row)).update(lp(Buffer.from('SN-1042'))).digest().subarray(0, 16)
    const maker = createPseudonymiser({ root, tenant: 'tenant-1', rows: derivedRows(root, 'tenant-1') }, { as: 'machine', output: 'planner', rotate: 604_800_000, subject: 'machine' })
    expect(Buffer.from(maker.of('SN-1042', event, '')!).toString('hex')).toBe(expected.toString('hex'))
  })

  test('separates value, domain, output, tenant and epoch', () => {
    const made = (tenant: string, output: string, as: string, value: string, rotate: number | 'never'): string =>
      Buffer.from(createPseudonymiser({ root, tenant, rows: derivedRows(root, tenant) }, { as, output, rotate, subject: 'machine' }).of(value, 1_763_888_864_000, '')!).toString('hex')
    const all = [made('a', 'o', 'machine', 'x', 'never'), made('b', 'o', 'machine', 'x', 'never'), made('a', 'p', 'machine', 'x', 'never'), made('a', 'o', 'other', 'x', 'never'), made('a', 'o', 'machine', 'y', 'never'), made('a', 'o', 'machine', 'x', 86_400_000)]
    expect(new Set(all).size).toBe(all.length)
  })

  test('no row, no epoch, no session, no value: dropped', () => {
    const rows = { generationAt: () => 0, row: () => undefined }
    const of = (rotate: number | 'never' | 'session', value: string, event: number, given = derivedRows(root, 't')): unknown =>
      createPseudonymiser({ root, tenant: 't', rows: given }, { as: 'machine', output: 'o', rotate, subject: 'machine' }).of(value, event, '')
    expect(of('never', 'x', 1, rows)).toBeUndefined()
    expect(of(86_400_000, 'x', Number.NaN)).toBeUndefined()
    expect(of('session', 'x', 1)).toBeUndefined()
    expect(of('never', '', 1)).toBeUndefined()
  })

  test('the 8-byte form never reads as absent', () => {
    expect(pseudonymNumber(new Uint8Array(16))).toBe(1n)
    expect(pseudonymNumber(Uint8Array.of(1, 2, 0, 0, 0, 0, 0, 0))).toBe(0x201n)
  })
})

describe('masks and buckets as a well-known data loss prevention service documents them', () => {
  const field = { type: 'string', presence: false } as FieldShape
  const apply = (transform: Transform, value: string): unknown => TRANSFORMS.get(transform.name)!.bind(transform.params, field, { pseudonym: () => ({ of: () => undefined, period: 0, generationAt: () => 0 }), output: 'o', seal: () => undefined, secret: () => undefined })(value, { eventMs: 0, session: '', machine: '', cells: undefined })
  test('keep the last four of a card', () => expect(apply({ name: 'mask', params: { first: 0, last: 4, with: '*' } }, '1234567890123456')).toBe('************3456'))
  test('reverse order of three', () => expect(apply({ name: 'mask', params: { first: 2, last: 0, with: '*' } }, '12345')).toBe('12***'))
  test('code points, not code units', () => expect(apply({ name: 'mask', params: { first: 1, last: 1, with: '*' } }, '😀ab😀')).toBe('😀**😀'))
  test('truncate counts code points', () => expect(apply({ name: 'truncate', params: { length: 2 } }, '😀é😀')).toBe('😀é'))
})

describe('provable coarseness', () => {
  const t = (name: string, params: Record<string, unknown> = {}): Transform => ({ name, params })
  test.each([
    ['drop is coarser than anything', [], [t('keep')], true],
    ['a larger grid that is a multiple', [t('grid', { size: 10_000, sticky: true })], [t('grid', { size: 500, sticky: true })], true],
    ['a finer grid is not', [t('grid', { size: 500, sticky: true })], [t('grid', { size: 10_000, sticky: true })], false],
    ['steps that do not divide', [t('round', { step: 7 })], [t('round', { step: 5 })], false],
    ['anything is coarser than keep', [t('round', { step: 5 })], [t('keep')], true],
    ['keep is not coarser than a bucket', [t('keep')], [t('bucket', { bounds: [0, 5] })], false],
    ['fewer bounds of the same', [t('bucket', { bounds: [0, 10] })], [t('bucket', { bounds: [0, 5, 10] })], true],
    ['different kinds cannot be compared', [t('round', { step: 5 })], [t('clamp', { lo: 0, hi: 5 })], false],
    ['one more step behind the same', [t('clamp', { lo: 0, hi: 5 }), t('round', { step: 5 })], [t('clamp', { lo: 0, hi: 5 })], true],
    ['nothing is coarser than a constant but drop', [t('round', { step: 5 })], [t('constant', { value: 1 })], false],
  ] as const)('%s', (_name, u, of, expected) => expect(isCoarserOrEqual(u, of)).toBe(expected))
})
