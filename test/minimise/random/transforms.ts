/**
 * Random key-value lists whose members are bit fields, bytes and sealed names, and what must leave of them by rules-language 4 and 5:
 * values are texts of bits and hex digits here, so that nothing of the product's arithmetic is repeated. Nothing comes from src/minimise.
 */
import { hkdfSync } from 'node:crypto'
import { aessiv } from '@noble/ciphers/aes.js'
import type { Transform } from '../../../src/domain/policy.ts'
import type { Dice } from './dice.ts'

/** The members of an entry; all of them without presence. */
export const MEMBERS = ['id', 'small', 'signed', 'wide', 'far', 'data', 'card', 'name'] as const
export type Member = (typeof MEMBERS)[number]

export const ENTRY = `message Entry { uint32 id = 1; uint32 small = 2; sint32 signed = 3; uint64 wide = 4; sfixed64 far = 5; bytes data = 6;
  bytes card = 7 [(parapet.v1.privacy) = { subject: OPERATOR }]; string name = 8 [(parapet.v1.privacy) = { subject: MACHINE }]; }`

/** Whole numbers as bigints, bytes in hex. */
export type Entry = Partial<Record<Member, bigint | string>>

type Chain = readonly Transform[]

export interface ListModel {
  readonly pgn: boolean
  readonly with: ReadonlyMap<Member, Chain>
  readonly only: ReadonlyMap<number, ReadonlyMap<Member, Chain>>
}

export interface Secrets {
  readonly root: Uint8Array
  readonly tenant: string
  readonly output: string
}

export function randomList(dice: Dice): ListModel {
  const pgn = dice.chance(0.5)
  const members = (share: number): Map<Member, Chain> => new Map(MEMBERS.filter(() => dice.chance(share)).map((member) => [member, randomChain(dice, member)] as const))
  const keys = pgn ? [0, 61_444, 65_253, 59_904, 0x1fee5] : [0, 1, 7, 4_294_967_295]
  return { pgn, with: members(0.4), only: new Map(dice.shuffle(keys).slice(0, 1 + dice.below(keys.length)).map((key) => [key, members(0.4)] as const)) }
}

function randomChain(dice: Dice, member: Member): Chain {
  const one = (name: string, params: Record<string, unknown> = {}): Chain => [{ name, params }]
  if (dice.chance(0.2)) return one('keep')
  if (dice.chance(0.1)) return one('drop')
  switch (member) {
    case 'id': case 'small': case 'signed': case 'wide': case 'far': {
      const width = member === 'wide' || member === 'far' ? 64 : 32
      const bits = Array.from({ length: dice.below(6) }, () => dice.pick([0, 1, 2, 7, 31, width - 1]))
      return one('flags', { mask: bits.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n) })
    }
    case 'data': {
      const from = dice.below(4)
      const keep = one('keep_bytes', { from, to: from + 1 + dice.below(4) })
      return dice.chance(0.3) ? [...keep, ...one('truncate', { length: dice.below(3) })] : keep
    }
    case 'card': return one('encrypt', { subject: 'operator', as: 'operator' })
    case 'name': return one('encrypt', { subject: 'machine', as: 'machine' })
  }
}

export function randomEntries(dice: Dice, model: ListModel): Entry[] {
  return Array.from({ length: dice.pick([0, 1, 3, 12]) }, () => {
    const key = dice.chance(0.7) ? dice.pick([...model.only.keys()]) : dice.below(300_000)
    // Priority and source are any; the destination of a group below format 240 too.
    const low = ((key >> 8) & 0xff) < 240 ? dice.below(256) : 0
    const id = model.pgn ? BigInt(dice.below(8)) * 2n ** 26n + BigInt(key + low) * 256n + BigInt(dice.below(256)) : BigInt(key)
    const number = (bits: number, signed: boolean): bigint => (signed ? BigInt.asIntN(bits, dice.big(bits)) : dice.big(bits))
    const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
    const all: Entry = {
      small: number(32, false), signed: number(32, true), wide: number(64, false), far: number(64, true), data: text(dice.bytes(dice.below(9))), card: text(dice.bytes(dice.below(5))),
      name: Buffer.from(dice.pick(['', 'SN-1', 'SN-2', 'ü'])).toString('hex'),
    }
    return { ...Object.fromEntries(Object.entries(all).filter(() => dice.chance(0.7))), id: id & 0xffff_ffffn }
  })
}

/** The entries that leave, in order; members that are zero or empty are not there. */
export function expectedList(model: ListModel, entries: readonly Entry[], secrets: Secrets): Entry[] {
  return entries.flatMap((entry) => {
    const id = (entry.id ?? 0n) as bigint
    const own = model.only.get(model.pgn ? group(id) : Number(id))
    if (own === undefined) return []
    const left: Entry = {}
    for (const [member, chain] of [...model.with, ...own]) {
      delete left[member]
      const made = apply(chain, member, entry[member] ?? (member === 'data' || member === 'card' || member === 'name' ? '' : 0n), secrets)
      if (made !== undefined && made !== 0n && made !== '') left[member] = made
    }
    return [left]
  })
}

/** [SAE J1939-21] Bits of an identifier, from the top: 3 priority, 2 pages, 8 format, 8 destination or extension, 8 source. */
function group(id: bigint): number {
  const bits = id.toString(2).padStart(32, '0').slice(3)
  const [pages, format, specific] = [bits.slice(3, 5), bits.slice(5, 13), bits.slice(13, 21)]
  return Number.parseInt(pages + format + (Number.parseInt(format, 2) < 240 ? '00000000' : specific), 2)
}

function apply(chain: Chain, member: Member, value: bigint | string, secrets: Secrets): bigint | string | undefined {
  let result: bigint | string | undefined = value
  for (const { name, params } of chain) {
    if (result === undefined) return undefined
    if (name === 'drop') result = undefined
    else if (name === 'flags') result = onlyBits(result as bigint, params.mask as bigint, member)
    else if (name === 'keep_bytes') result = (result as string).slice((params.from as number) * 2, (params.to as number) * 2)
    else if (name === 'truncate') result = (result as string).slice(0, (params.length as number) * 2)
    else if (name === 'encrypt') result = sealed(result as string, member, params.as as string, secrets)
  }
  return result
}

/** Bit by bit, in two's complement. */
function onlyBits(value: bigint, mask: bigint, member: Member): bigint {
  const width = member === 'wide' || member === 'far' ? 64 : 32
  const digits = (number: bigint): string => BigInt.asUintN(width, number).toString(2).padStart(width, '0')
  const wanted = digits(mask)
  const left = BigInt(`0b${[...digits(value)].map((digit, at) => (wanted[at] === '1' ? digit : '0')).join('')}`)
  return member === 'signed' || member === 'far' ? BigInt.asIntN(width, left) : left
}

/** AES-SIV under HKDF(R, "parapet/v1|sealed|OUTPUT"), R = HKDF(root, tenant, "parapet/v1|filter-row|AS|value"); bytes are named by their hex digits. */
function sealed(hex: string, member: Member, as: string, { root, tenant, output }: Secrets): string | undefined {
  if (hex === '') return undefined
  const value = Buffer.from(hex, 'hex')
  const row = hkdfSync('sha256', root, tenant, `parapet/v1|filter-row|${as}|${member === 'name' ? value.toString('utf8') : hex}`, 32)
  const key = hkdfSync('sha256', new Uint8Array(row), new Uint8Array(0), `parapet/v1|sealed|${output}`, 64)
  const made = Buffer.from(aessiv(new Uint8Array(key)).encrypt(value))
  return member === 'name' ? Buffer.from(made.toString('base64url')).toString('hex') : made.toString('hex')
}
