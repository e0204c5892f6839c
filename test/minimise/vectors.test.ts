/**
 * Published test vectors through the functions the product uses, and values of the rules language's own formulas that were computed
 * with another implementation (Python's hmac and hashlib; AES-SIV from AES blocks below).
 */
import { createCipheriv, createHmac, createSecretKey, hkdfSync } from 'node:crypto'
import { aessiv } from '@noble/ciphers/aes.js'
import { describe, expect, test } from 'vitest'
import type { Transform } from '../../src/domain/policy.ts'
import type { MessageShape } from '../../src/domain/schema.ts'
import { compilePlan, servicesFor } from '../../src/minimise/compile.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { createPseudonymiser, derivedRows, pseudonymKey, pseudonymNumber, type PseudonymKeys } from '../../src/minimise/pseudonym.ts'
import { ENGINES } from '../engine.ts'
import { outputOf, ruleFor, streamOf } from './fixture.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

describe('HMAC-SHA256 [RFC 4231]', () => {
  test.each([
    ['4.2', '0b'.repeat(20), Buffer.from('Hi There').toString('hex'), 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
    ['4.3', Buffer.from('Jefe').toString('hex'), Buffer.from('what do ya want for nothing?').toString('hex'), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'],
    ['4.4', 'aa'.repeat(20), 'dd'.repeat(50), '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe'],
    ['4.5', '0102030405060708090a0b0c0d0e0f10111213141516171819', 'cd'.repeat(50), '82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b'],
    ['4.6, first 16 bytes as in a pseudonym', '0c'.repeat(20), Buffer.from('Test With Truncation').toString('hex'), 'a3b6167473100ee06e0c796c2955552b'],
    ['4.7', 'aa'.repeat(131), Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First').toString('hex'), '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54'],
    ['4.8', 'aa'.repeat(131), Buffer.from('This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.').toString('hex'), '9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2'],
  ])('case %s', (_name, key, data, expected) => {
    // As a key object and in two pieces, which is how pseudonyms are made.
    const bytes = hex(data)
    const made = createHmac('sha256', createSecretKey(hex(key))).update(bytes.subarray(0, 7)).update(bytes.subarray(7)).digest()
    expect(made.subarray(0, expected.length / 2).toString('hex')).toBe(expected)
  })
})

describe('HKDF-SHA256 [RFC 5869]', () => {
  test.each([
    ['A.1', '0b'.repeat(22), '000102030405060708090a0b0c', 'f0f1f2f3f4f5f6f7f8f9', 42, '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865'],
    ['A.2', sequence(0x00, 80), sequence(0x60, 80), sequence(0xb0, 80), 82, 'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87'],
    ['A.3', '0b'.repeat(22), '', '', 42, '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8'],
  ])('case %s', (_name, key, salt, info, length, expected) => {
    expect(Buffer.from(hkdfSync('sha256', hex(key), hex(salt), hex(info), length)).toString('hex')).toBe(expected)
  })

  test('255 blocks are the most there is [RFC 5869, 2.3]', () => {
    expect(hkdfSync('sha256', hex('0b'), '', '', 255 * 32).byteLength).toBe(8_160)
    expect(() => hkdfSync('sha256', hex('0b'), '', '', 255 * 32 + 1)).toThrow()
  })
})

function sequence(from: number, count: number): string {
  return Buffer.from(Array.from({ length: count }, (_, at) => from + at)).toString('hex')
}

// --------------------------------------------------------------------------------------------------------------- pseudonyms

const root = Buffer.from(sequence(0, 32), 'hex')
const keys: PseudonymKeys = { root, tenant: 'depot-münchen', rows: derivedRows(root, 'depot-münchen') }

describe('pseudonyms as Python computes them', () => {
  test.each([
    ['machine', 'planner', 'never', '5b6fc40ecaaaeec55a6e9e479a03254a6e7c4784480a35cb3c89f9700da0c5b1'],
    ['operator', 'improve', '2916', 'f092dae82da897930d02fd5243eb5c5ed879bba69e4a8663f94fe17156bda524'],
    ['note', 'planner', 's:00112233445566778899aabbccddeeff', '2b0e2727cef50c7e6d0ec455eb40af04904385e4dcfa2cbd86c66478bd2eb4d8'],
  ])('key of %s in %s, epoch %s', (as, output, epoch, expected) => expect(Buffer.from(pseudonymKey(keys, { as, output }, epoch)).toString('hex')).toBe(expected))

  test.each([
    ['a machine, for good', 'machine', 'planner', 'machine', 'never', 'SN-1042', '00b121e3cea173539cd4c0bea0bf1a36'],
    ['an operator, seven days', 'operator', 'improve', 'operator', 604_800_000, 'P7', 'e4677314e921c0301397644d4dd7bbe5'],
    ['a text about nobody, a session', 'note', 'planner', 'none', 'session', 'Müller 😀', '0e3e8e04912285bd7199c2986f163a35'],
  ] as const)('%s', (_name, as, output, subject, rotate, value, expected) => {
    const maker = createPseudonymiser(keys, { as, output, rotate, subject })
    expect(Buffer.from(maker.of(value, 1_763_888_864_000, '00112233445566778899aabbccddeeff') as Uint8Array).toString('hex')).toBe(expected)
  })

  test('the eight-byte form of the largest number', () => {
    const maker = createPseudonymiser(keys, { as: 'serial', output: 'planner', rotate: 'never', subject: 'none' })
    expect(pseudonymNumber(maker.of('18446744073709551615', Number.NaN, '') as Uint8Array)).toBe(10_108_677_480_413_708_096n)
  })
})

// ------------------------------------------------------------------------------------------------------------------ AES-SIV

describe('AES-SIV [RFC 5297]', () => {
  const a1 = { key: hex('fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff'), ad: [hex('101112131415161718191a1b1c1d1e1f2021222324252627')], plain: hex('112233445566778899aabbccddee'), sealed: '85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c' }
  const a2 = {
    key: hex('7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f'),
    ad: [hex('00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100'), hex('102030405060708090a0'), hex('09f911029d74e35bd84156c5635688c0')],
    plain: hex('7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553'),
    sealed: '7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d',
  }

  test.each([['A.1', a1], ['A.2', a2]] as const)('%s through the library', (_name, { key, ad, plain, sealed }) => {
    expect(Buffer.from(aessiv(key, ...ad).encrypt(plain)).toString('hex')).toBe(sealed)
    expect(Buffer.from(aessiv(key, ...ad).decrypt(hex(sealed))).equals(plain)).toBe(true)
  })

  test.each([['A.1', a1], ['A.2', a2]] as const)('%s through the second implementation of this test', (_name, { key, ad, plain, sealed }) => expect(siv(key, ad, plain).toString('hex')).toBe(sealed))

  test.each([['A.1', a1], ['A.2', a2]] as const)('%s changed anywhere does not open', (_name, { key, ad, sealed }) => {
    for (let at = 0; at < sealed.length / 2; at++) {
      const changed = Uint8Array.from(hex(sealed))
      changed[at]! ^= 0x10
      expect(() => aessiv(key, ...ad).decrypt(changed)).toThrow()
    }
  })

  test('`encrypt` of bytes seals under the row that their hex digits name', () => {
    const row = createHmac('sha256', hmacKey(keys.tenant, keys.root)).update('parapet/v1|filter-row|operator|04a1b2ff\u0001').digest()
    const prk = createHmac('sha256', Buffer.alloc(32)).update(row).digest()
    const info = Buffer.from('parapet/v1|sealed|planner')
    const t1 = createHmac('sha256', prk).update(info).update(Buffer.from([1])).digest()
    const t2 = createHmac('sha256', prk).update(t1).update(info).update(Buffer.from([2])).digest()
    const plain = hex('04a1b2ff')
    const sealed = servicesFor('planner', keys).seal({ subject: 'operator', as: 'operator' }, '04a1b2ff', plain, 0)
    expect(Buffer.from(sealed as Uint8Array).toString('hex')).toBe(siv(Buffer.concat([t1, t2]), [], plain).toString('hex'))
  })

  test('`encrypt` seals under HKDF of the subject\'s row, and equal values alike', () => {
    // Python: HKDF(row of SN-1042, no salt, "parapet/v1|sealed|planner", 64)
    const key = hex('d72042dce294e600014ea4f3a6c0b867efbef23470ceaf8c5f67555abf05998089a64639541a176ebd21dd711dd36b2e07879a83d644d03d925c17fb82f94658')
    const plain = Buffer.from('SN-1042')
    const sealed = servicesFor('planner', keys).seal({ subject: 'machine', as: 'machine' }, 'SN-1042', plain, 0)
    expect(Buffer.from(sealed as Uint8Array).toString('hex')).toBe(siv(key, [], plain).toString('hex'))
  })
})

/** [RFC 5869, 2.2] The extracted key of the root under the tenant. */
function hmacKey(tenant: string, secret: Uint8Array): Buffer {
  return createHmac('sha256', Buffer.from(tenant, 'utf8')).update(secret).digest()
}

/** [RFC 5297, 2.4 and 2.6] S2V and CTR from AES blocks, written out. */
function siv(key: Uint8Array, associated: readonly Uint8Array[], plain: Uint8Array): Buffer {
  const [macKey, ctrKey] = [key.subarray(0, key.length / 2), key.subarray(key.length / 2)]
  let d = cmac(macKey, Buffer.alloc(16))
  for (const one of associated) d = xor(double(d), cmac(macKey, one))
  const last = plain.length >= 16
    ? Buffer.concat([plain.subarray(0, -16), xor(plain.subarray(-16), d)])
    : xor(double(d), pad(plain))
  const v = cmac(macKey, last)
  const q = Buffer.from(v)
  q[8]! &= 0x7f
  q[12]! &= 0x7f
  return Buffer.concat([v, createCipheriv(`aes-${ctrKey.length * 8}-ctr`, ctrKey, q).update(plain)])
}

/** [RFC 4493] */
function cmac(key: Uint8Array, message: Uint8Array): Buffer {
  const block = (input: Uint8Array): Buffer => createCipheriv(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false).update(input)
  const k1 = double(block(Buffer.alloc(16)))
  const full = Math.max(1, Math.ceil(message.length / 16))
  const rest = message.subarray((full - 1) * 16)
  let state: Buffer = Buffer.alloc(16)
  for (let at = 0; at < full - 1; at++) state = block(xor(state, message.subarray(at * 16, at * 16 + 16)))
  return block(xor(state, rest.length === 16 ? xor(rest, k1) : xor(pad(rest), double(k1))))
}

function double(block: Uint8Array): Buffer {
  const wide = BigInt.asUintN(128, BigInt(`0x${Buffer.from(block).toString('hex')}`) << 1n) ^ ((block[0] as number) > 127 ? 0x87n : 0n)
  return Buffer.from(wide.toString(16).padStart(32, '0'), 'hex')
}

function xor(a: Uint8Array, b: Uint8Array): Buffer {
  return Buffer.from(a.map((byte, at) => byte ^ (b[at] as number)))
}

function pad(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.from([0x80]), Buffer.alloc(15)]).subarray(0, 16)
}

// ------------------------------------------------------------------------------------------------------- masks and buckets

const schemas = schemasFromText({ 'v.proto': 'syntax = "proto3"; package v; message Record { string card = 1; uint32 score = 2; }' })
const shape = schemas.message('v.Record') as MessageShape

/** One value through a whole minimiser, by both engines. */
function through(field: 'card' | 'score', chain: readonly Transform[], value: string | number): unknown {
  const source = streamOf(shape, [ruleFor(shape, field, chain)])
  const plan = planFor(outputOf('out/{stream}', [source]), source, { consent: false, operatorFields: true })
  const bytes = schemas.encode('v.Record', { [field]: value })
  const results = ENGINES.map((engine) => {
    const scratch = Buffer.alloc(8_192)
    scratch.set(bytes)
    const end = compilePlan(plan, { keys, engine }).run(scratch, 0, bytes.length, scratch, bytes.length + 1, createContext())
    return schemas.decode('v.Record', scratch.subarray(bytes.length + 1, end))[field]
  })
  expect(results[0]).toEqual(results[1])
  return results[0]
}

describe('masks and buckets of the examples of Google Sensitive Data Protection', () => {
  test.each([
    ['1234-5678-9012-3456', 0, 5, '0', '00000000000000-3456', 'fourteen characters masked with a zero'],
    ['1234-5678-9012-3456', 0, 4, '*', '***************3456', 'all but the last four'],
    ['1234-5678-9012-3456', 4, 0, '*', '1234***************', 'all but the first four'],
    ['12345', 2, 0, '*', '12***', 'three from the end'],
    ['555-555-5555', 0, 5, '*', '*******-5555', 'all but the last five'],
    ['123', 2, 2, '*', '123', 'what is no longer than both ends together stays whole'],
  ])('%s, first %i and last %i kept, masked with %s: %s (%s)', (value, first, last, sign, expected) => {
    expect(through('card', [{ name: 'mask', params: { first, last, with: sign } }], value)).toBe(expected)
  })

  test.each([[1, 1], [30, 1], [31, 31], [65, 31], [66, 66], [100, 66], [1000, 66]])('%i of LOW 1-30, MEDIUM 31-65, HIGH 66-100 lies in the bucket from %i', (value, expected) => {
    expect(through('score', [{ name: 'bucket', params: { bounds: [1, 31, 66] } }], value)).toBe(expected)
  })

  // A bucket holds its lower end and not its upper; below the first bound is the first one.
  test.each([[9, 10], [10, 10], [19, 10], [20, 20], [79, 70], [80, 80], [88, 80], [89, 89], [4_000_000_000, 89]])('%i of tens from 10 to 89 lies in the bucket from %i', (value, expected) => {
    expect(through('score', [{ name: 'bucket', params: { bounds: [10, 20, 30, 40, 50, 60, 70, 80, 89] } }], value)).toBe(expected)
  })
})
