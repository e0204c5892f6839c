/** The arithmetic of the rules language against hand-computed rows, exact big-integer recomputation and published vectors. */
import { createHmac, hkdfSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compilePlan } from '../../src/minimise/compile.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { snap } from '../../src/minimise/grid.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { bucketOf, floorNumber, roundFloat, roundInteger } from '../../src/minimise/number.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { createPseudonymiser, derivedRows, pseudonymNumber } from '../../src/minimise/pseudonym.ts'
import { parseQuantity } from '../../src/minimise/quantity.ts'
import { TRANSFORMS, isCoarserOrEqual, isGeneralising } from '../../src/minimise/transforms.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import type { Transform } from '../../src/domain/policy.ts'
import { ENGINES } from '../engine.ts'
import { outputOf, ruleFor, streamOf } from './fixture.ts'

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
  test('of bytes stands under the row that their hex digits name, from both engines', () => {
    const proto = 'syntax = "proto3"; package p; message Card { bytes uid = 1 [(parapet.v1.privacy) = { subject: OPERATOR }]; }'
    const schemas = schemasFromText({ 'p.proto': proto })
    const shape = schemas.message('p.Card') as MessageShape
    const row = Buffer.alloc(32, 0x5a)
    const asked: string[] = []
    const rows = { generationAt: () => 0, row: (kind: string, value: string) => (asked.push(`${kind} ${value}`), kind === 'operator' && value === '04a1b2ff' ? row : undefined) }
    const source = streamOf(shape, [ruleFor(shape, 'uid', [{ name: 'pseudonym', params: { rotate: 'never', as: 'operator', subject: 'operator' } }])])
    const plan = planFor(outputOf('out', [source]), source, { consent: false, operatorFields: true })
    // Written out: key by HKDF, HMAC over the row and the raw bytes, each with its length before it.
    const key = Buffer.from(hkdfSync('sha256', root, 'tenant-1', 'parapet/v1|pseudonym|operator|cloud|never', 32))
    const expected = createHmac('sha256', key).update(Buffer.from('00000020', 'hex')).update(row).update(Buffer.from('0000000404a1b2ff', 'hex')).digest('hex').slice(0, 32)
    for (const engine of ENGINES) {
      const scratch = Buffer.alloc(256)
      scratch.set(Buffer.from('0a0404a1b2ff', 'hex'))
      const end = compilePlan(plan, { keys: { root, tenant: 'tenant-1', rows }, engine }).run(scratch, 0, 6, scratch, 7, createContext())
      expect(scratch.toString('hex', 7, end)).toBe(`0a10${expected}`)
    }
    expect([...new Set(asked)]).toEqual(['operator 04a1b2ff'])
  })

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
    ['an odd multiple of a step: borders lie on borders', [t('round', { step: 150 })], [t('round', { step: 50 })], true],
    ['an even multiple: 25 and 50 are 50 and 50, but 0 and 100', [t('round', { step: 100 })], [t('round', { step: 50 })], false],
    ['any step behind one that keeps whole numbers', [t('round', { step: 100 })], [t('round', { step: 1, keeps: true })], true],
    ['a cell without memory is finer than one with it', [t('grid', { size: 10_000, sticky: false })], [t('grid', { size: 500, sticky: true })], false],
    ['a coarser step before the last', [t('round', { step: 15 }), t('bucket', { bounds: [0, 20] })], [t('round', { step: 5 }), t('bucket', { bounds: [0, 20] })], false],
    ['a coarser last step', [t('round', { step: 5 }), t('bucket', { bounds: [0] })], [t('round', { step: 5 }), t('bucket', { bounds: [0, 20] })], true],
    ['a constant behind what drops some', [t('map', { table: new Map([['a', 'b']]), else: undefined }), t('constant', { value: 'x' })], [t('truncate', { length: 1 })], false],
    ['tables that only look alike', [t('map', { table: new Map([['a,b', 'c']]), else: undefined })], [t('map', { table: new Map([['a', 'b,c']]), else: undefined })], false],
    ['else undefined is not the word', [t('map', { table: new Map([['a', 'b']]), else: 'undefined' })], [t('map', { table: new Map([['a', 'b']]), else: undefined })], false],
    ['wider noise is another draw', [t('noise', { spread: 20, path: 'x' })], [t('noise', { spread: 10, path: 'x' })], false],
    ['a track of fewer points is not a part of one of more', [t('thin', { ms: 600_000, wire: 600_000 })], [t('thin', { ms: 300_000, wire: 300_000 })], false],
    ['one more step behind the same', [t('clamp', { lo: 0, hi: 5 }), t('round', { step: 5 })], [t('clamp', { lo: 0, hi: 5 })], true],
    ['nothing is coarser than a constant but drop', [t('round', { step: 5 })], [t('constant', { value: 1 })], false],
  ] as const)('%s', (_name, u, of, expected) => expect(isCoarserOrEqual(u, of)).toBe(expected))

  test.each([
    ['int32', [-(2 ** 31), 2 ** 31 - 1], false], ['int32', [-(2 ** 31) + 1, 2 ** 31 - 1], true], ['uint32', [0, 2 ** 32 - 1], false], ['uint32', [1, 2 ** 32 - 1], true],
  ] as const)('a clamp of %s to %s generalises: %s', (type, argument, expected) => {
    const field = schemasFromText({ 'a.proto': `syntax = "proto3"; package a; message M { ${type} x = 1; }` }).message('a.M')?.byName.get('x')
    const read = TRANSFORMS.get('clamp')?.read(argument, { field, point: false, timeUnit: undefined, path: 'x' })
    if (read === undefined || 'problem' in read) throw new Error('not read')
    expect(isGeneralising([{ name: 'clamp', params: read.params }])).toBe(expected)
  })
})

// ------------------------------------------------------------------------------------------- coarser, as the word is meant

/**
 * Coarser means: whoever sees the result of T could work out that of U. So whatever is equal under T must be equal under U, for every
 * pair that is accepted; checked over whole small domains, not over samples of them.
 */
describe('what is equal under T is equal under every accepted U', () => {
  const services = { pseudonym: () => ({ of: () => undefined, period: 0, generationAt: () => 0 }), output: 'o', seal: () => undefined, secret: () => undefined }
  const moment = { eventMs: 0, session: '', machine: '', cells: undefined }
  const fieldOf = (type: string): FieldShape => ({ type, presence: false, name: 'f', classified: { category: 'other', class: 'basic', personal: 'never', subject: 'none', unit: 's', scale: 1 } }) as unknown as FieldShape

  /** A setting as the rules file writes it, read by its spec. */
  function read(name: string, argument: unknown, field: FieldShape): Transform | undefined {
    const made = TRANSFORMS.get(name)!.read(argument, { field, point: false, timeUnit: undefined, path: 'f' })
    return 'params' in made ? { name, params: made.params } : undefined
  }

  type Value = Parameters<ReturnType<NonNullable<ReturnType<typeof TRANSFORMS.get>>['bind']>>[0]

  function through(chain: readonly Transform[], field: FieldShape, value: Value): string {
    // A chain of nothing is `drop`.
    if (chain.length === 0) return 'dropped'
    let result: Value | undefined = value
    for (const one of chain) {
      result = TRANSFORMS.get(one.name)!.bind(one.params, field, services)(result, moment)
      if (result === undefined) return 'dropped'
    }
    return `${typeof result} ${result instanceof Uint8Array ? Buffer.from(result).toString('hex') : String(result)}`
  }

  /** Two values that T cannot tell apart and U can, or undefined. */
  function betrayed(u: readonly Transform[], t: readonly Transform[], field: FieldShape, domain: readonly Value[]): string | undefined {
    const seen = new Map<string, readonly [string, Value]>()
    for (const value of domain) {
      const under = through(t, field, value)
      const result = through(u, field, value)
      const before = seen.get(under)
      if (before === undefined) seen.set(under, [result, value])
      else if (before[0] !== result) return `${String(before[1])} and ${String(value)} are ${under}, but ${before[0]} and ${result}`
    }
    return undefined
  }

  const whole = Array.from({ length: 401 }, (_, at) => at - 200)
  const letters = ['', 'a', 'b', '*', '😀']
  const words = letters.flatMap((a) => letters.flatMap((b) => letters.flatMap((c) => letters.map((d) => a + b + c + d))))
  const ascending = fc.uniqueArray(fc.integer({ min: -30, max: 30 }), { minLength: 1, maxLength: 5 }).map((list) => list.sort((a, b) => a - b))
  const numeric: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
    round: fc.integer({ min: 1, max: 45 }),
    bucket: ascending,
    clamp: fc.tuple(fc.integer({ min: -40, max: 40 }), fc.nat({ max: 60 })).map(([lo, width]) => [lo, lo + width]),
    round_time: fc.integer({ min: 1, max: 40 }).map((seconds) => `${seconds}s`),
    flags: fc.uniqueArray(fc.nat({ max: 8 }), { maxLength: 6 }).map((bits) => ({ bits })),
    map: fc.tuple(fc.dictionary(fc.constantFrom('1', '2', '3'), fc.constantFrom(1, 2, 9), { minKeys: 1 }), fc.constantFrom('drop', 7)).map(([table, other]) => ({ ...table, else: other })),
    constant: fc.integer({ min: -3, max: 3 }),
  }
  const textual: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
    truncate: fc.nat({ max: 4 }),
    mask: fc.record({ keep_first: fc.nat({ max: 3 }), keep_last: fc.nat({ max: 3 }), with: fc.constantFrom('*', 'a') }),
    map: fc.tuple(fc.dictionary(fc.constantFrom('a', 'ab', 'b*'), fc.constantFrom('a', 'x'), { minKeys: 1 }), fc.constantFrom('drop', 'y')).map(([table, other]) => ({ ...table, else: other })),
    constant: fc.constantFrom('', 'a'),
  }
  const binary: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
    truncate: fc.nat({ max: 4 }),
    mask: fc.record({ keep_first: fc.nat({ max: 3 }), keep_last: fc.nat({ max: 3 }), with: fc.constantFrom('*', 'a') }),
    keep_bytes: fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 3 })).map(([from, more]) => [from, from + more + 1]),
  }
  const octets = ['', '61', '2a', '00'].flatMap((a, _at, all) => all.flatMap((b) => all.flatMap((c) => all.map((d) => Uint8Array.from(Buffer.from(a + b + c + d, 'hex'))))))

  /** A setting and a second one that is often the same or a multiple of it, so that many pairs are accepted. */
  const related = (arbitrary: fc.Arbitrary<unknown>): fc.Arbitrary<readonly [unknown, unknown]> => fc.tuple(arbitrary, arbitrary, fc.integer({ min: 1, max: 5 }), fc.nat({ max: 3 })).map(([a, b, k, mode]) => {
    if (mode === 0) return [a, a] as const
    if (mode === 1 && typeof a === 'number') return [a * k, a] as const
    if (mode === 1 && typeof a === 'string' && /^\d+s$/.test(a)) return [`${Number.parseInt(a, 10) * k}s`, a] as const
    if (mode === 1 && Array.isArray(a)) return [a.filter((_one, at) => (at + k) % 2 === 0), a] as const
    return [a, b] as const
  })

  const kinds = [
    ['sint32', numeric, whole], ['sint64', numeric, whole.map(BigInt)], ['string', textual, words], ['bytes', binary, octets],
  ] as const
  for (const [type, settings, domain] of kinds) {
    const field = fieldOf(type)
    test.each(Object.keys(settings))(`${type} under %s`, (name) => {
      let accepted = 0
      fc.assert(fc.property(related(settings[name] as fc.Arbitrary<unknown>), ([a, b]) => {
        const [u, t] = [read(name, a, field), read(name, b, field)]
        if (u === undefined || t === undefined || !isCoarserOrEqual([u], [t])) return
        accepted++
        expect(betrayed([u], [t], field, domain)).toBeUndefined()
      }), { numRuns: 300 })
      expect(accepted).toBeGreaterThan(30)
    })

    test(`${type} under chains of them`, () => {
      const names = Object.keys(settings)
      let accepted = 0
      const one = fc.constantFrom(...names).chain((name) => (settings[name] as fc.Arbitrary<unknown>).map((argument) => read(name, argument, field))).filter((made) => made !== undefined)
      const tail = fc.array(one, { maxLength: 2 })
      fc.assert(fc.property(tail, fc.constantFrom(...names).chain((name) => related(settings[name] as fc.Arbitrary<unknown>).map(([a, b]) => [read(name, a, field), read(name, b, field)] as const)), tail, tail, (before, [a, b], after, other) => {
        const t = b === undefined ? before : [...before, b]
        for (const u of [a === undefined ? before : [...before, a, ...after], [...other, ...(a === undefined ? [] : [a])], other]) {
          if (!isCoarserOrEqual(u, t)) continue
          accepted++
          expect(betrayed(u, t, field, domain)).toBeUndefined()
        }
      }), { numRuns: 400 })
      expect(accepted).toBeGreaterThan(100)
    })
  }

  test('floating point under round, but for the last bit of what lies on a border', () => {
    const field = fieldOf('double')
    const tenths = fc.constantFrom(0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 1, 1.5, 2.5, 3)
    let accepted = 0
    fc.assert(fc.property(tenths, tenths, (a, b) => {
      const [u, t] = [read('round', a, field) as Transform, read('round', b, field) as Transform]
      if (!isCoarserOrEqual([u], [t])) return
      accepted++
      const border = (x: number): boolean => [a, b].some((step) => Math.abs(Math.abs((x / step) % 1) - 0.5) < 1e-9)
      expect(betrayed([u], [t], field, Array.from({ length: 1_201 }, (_, at) => (at - 600) / 100).filter((x) => !border(x)))).toBeUndefined()
    }), { numRuns: 300 })
    expect(accepted).toBeGreaterThan(30)
  })

  test('positions under a grid without memory', () => {
    const sizes = fc.constantFrom(5, 100, 500, 1_000, 2_500, 10_000, 100_000)
    const near = fc.tuple(fc.integer({ min: -890_000_000, max: 890_000_000 }), fc.integer({ min: -1_790_000_000, max: 1_790_000_000 }), fc.array(fc.tuple(fc.integer({ min: -3_000, max: 3_000 }), fc.integer({ min: -3_000, max: 3_000 })), { minLength: 20, maxLength: 60 }))
    let together = 0
    fc.assert(fc.property(sizes, sizes, near, (a, b, [lat, lon, steps]) => {
      const grid = (size: number): Transform => ({ name: 'grid', params: { size, sticky: false } })
      if (!isCoarserOrEqual([grid(a)], [grid(b)])) return
      const seen = new Map<string, string>()
      for (const [north, east] of steps) {
        const at = (size: number): string => (snap(lat + north, lon + east, size, cell), `${cell.latE7} ${cell.lonE7}`)
        const under = at(b)
        if (seen.has(under)) together++
        expect(seen.get(under) ?? at(a)).toBe(at(a))
        seen.set(under, at(a))
      }
    }), { numRuns: 500 })
    expect(together).toBeGreaterThan(500)
  })
})
