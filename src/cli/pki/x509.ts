/**
 * Writes X.509 certificates and revocation lists [RFC 5280] in DER, ECDSA P-256 with SHA-256 [RFC 5758]: as much of it as a small
 * authority for trials needs. Node reads certificates but does not make any.
 */
import { createHash, generateKeyPairSync, randomBytes, sign, X509Certificate, type KeyObject } from 'node:crypto'

/** PEM texts. */
export interface Issued {
  readonly cert: string
  readonly key: string
}

/** Who signs: its certificate, and its private key. */
export interface Authority {
  readonly cert: string
  readonly key: KeyObject
}

export interface CertificateWish {
  /** Common name; left out of the subject when longer than 64 characters [RFC 5280, A.1]. */
  readonly name: string
  readonly use: 'authority' | 'server' | 'client'
  readonly uris?: readonly string[]
  readonly hosts?: readonly string[]
  /** IPv4 or IPv6 addresses. */
  readonly addresses?: readonly string[]
  readonly fromMs: number
  readonly untilMs: number
}

/** Makes a key pair and a certificate for it; without an issuer it signs itself. */
export function makeCertificate(wish: CertificateWish, issuer?: Authority): Issued {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const subject = nameOf(wish.name)
  const isAuthority = wish.use === 'authority'
  const alternatives = [
    ...(wish.uris ?? []).map((uri) => tlv(0x86, Buffer.from(uri, 'latin1'))),
    ...(wish.hosts ?? []).map((host) => tlv(0x82, Buffer.from(host, 'latin1'))),
    ...(wish.addresses ?? []).map((address) => tlv(0x87, addressBytes(address))),
  ]
  const body = sequence(
    tlv(0xa0, integer(Buffer.from([2]))),
    // [RFC 5280, 4.1.2.2] positive, at most 20 bytes, unique: 126 random bits.
    integer(Buffer.concat([Buffer.from([0x40 | (randomBytes(1).readUInt8() & 0x3f)]), randomBytes(15)])),
    ECDSA_SHA256,
    issuer === undefined ? subject : partsOf(issuer.cert).subject,
    sequence(time(wish.fromMs), time(wish.untilMs)),
    subject,
    spki,
    tlv(0xa3, sequence(
      extension('2.5.29.19', sequence(...(isAuthority ? [TRUE, integer(Buffer.from([0]))] : [])), true),
      // [RFC 5280, 4.2.1.3] keyCertSign and cRLSign, or digitalSignature.
      extension('2.5.29.15', tlv(0x03, Buffer.from(isAuthority ? [1, 0x06] : [7, 0x80])), true),
      ...(isAuthority ? [] : [extension('2.5.29.37', sequence(oid(wish.use === 'server' ? '1.3.6.1.5.5.7.3.1' : '1.3.6.1.5.5.7.3.2')))]),
      ...(alternatives.length === 0 ? [] : [extension('2.5.29.17', sequence(...alternatives), wish.name.length > NAME_MAX)]),
      extension('2.5.29.14', tlv(0x04, keyId(spki))),
      extension('2.5.29.35', sequence(tlv(0x80, keyId(issuer === undefined ? spki : partsOf(issuer.cert).spki)))),
    )),
  )
  return {
    cert: pem('CERTIFICATE', signed(body, issuer?.key ?? privateKey)),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  }
}

export interface Revoked {
  /** Hexadecimal, as X509Certificate says it. */
  readonly serial: string
  readonly atMs: number
}

/**
 * A list of revoked certificates of an authority, as PEM.
 * @param number  grows from list to list [RFC 5280, 5.2.3]
 */
export function makeRevocationList(issuer: Authority, revoked: readonly Revoked[], { number, fromMs, untilMs }: { readonly number: number; readonly fromMs: number; readonly untilMs: number }): string {
  const { subject, spki } = partsOf(issuer.cert)
  const body = sequence(
    integer(Buffer.from([1])), ECDSA_SHA256, subject, time(fromMs), time(untilMs),
    // [RFC 5280, 5.1.2.6] absent when there are none.
    ...(revoked.length === 0 ? [] : [sequence(...revoked.map(({ serial, atMs }) => sequence(integer(Buffer.from(serial.length % 2 === 0 ? serial : `0${serial}`, 'hex')), time(atMs))))]),
    tlv(0xa0, sequence(
      extension('2.5.29.35', sequence(tlv(0x80, keyId(spki)))),
      extension('2.5.29.20', integer(bigEndian(number))),
    )),
  )
  return pem('X509 CRL', signed(body, issuer.key))
}

const NAME_MAX = 64

function nameOf(name: string): Buffer {
  return name.length > NAME_MAX ? sequence() : sequence(tlv(0x31, sequence(oid('2.5.4.3'), tlv(0x0c, Buffer.from(name)))))
}

/** The subject of a certificate as its bytes stand there: names are compared as bytes [RFC 5280, 7.1], so they are copied, not written anew. */
function partsOf(cert: string): { readonly subject: Buffer; readonly spki: Buffer } {
  const certificate = new X509Certificate(cert)
  const body = children(children(certificate.raw)[0] ?? EMPTY)
  const subject = body[5]
  if (subject === undefined) throw new RangeError('not a certificate of version 3')
  return { subject, spki: certificate.publicKey.export({ type: 'spki', format: 'der' }) }
}

/** Whole elements inside an element. */
function children(whole: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let at = headerOf(whole, 0); at < whole.length;) {
    const more = (whole[at + 1] ?? 0) & 0x80 ? (whole[at + 1] ?? 0) & 0x7f : 0
    const length = more === 0 ? (whole[at + 1] ?? 0) : whole.readUIntBE(at + 2, more)
    found.push(whole.subarray(at, at + 2 + more + length))
    at += 2 + more + length
  }
  return found
}

function headerOf(bytes: Buffer, at: number): number {
  const first = bytes[at + 1] ?? 0
  return first & 0x80 ? 2 + (first & 0x7f) : 2
}

const EMPTY = Buffer.alloc(0)

/** [RFC 5280, 4.2.1.2 (1)] SHA-1 of the bits of the key; an identifier, not a protection. */
function keyId(spki: Buffer): Buffer {
  const bits = children(spki)[1] ?? EMPTY
  return createHash('sha1').update(bits.subarray(headerOf(bits, 0) + 1)).digest()
}

function signed(body: Buffer, key: KeyObject): Buffer {
  return sequence(body, ECDSA_SHA256, tlv(0x03, Buffer.concat([Buffer.from([0]), sign('sha256', body, key)])))
}

function pem(label: string, der: Buffer): string {
  return `-----BEGIN ${label}-----\n${der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END ${label}-----\n`
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [TRUE] : []), tlv(0x04, value))
}

/** [RFC 5280, 4.1.2.5] two digits of the year up to 2049, four from 2050. */
function time(ms: number): Buffer {
  const text = `${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`
  return Number(text.slice(0, 4)) < 2050 ? tlv(0x17, Buffer.from(text.slice(2))) : tlv(0x18, Buffer.from(text))
}

/** [RFC 4291, 2.2] */
function addressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail] = address.split('::')
  const groups = (text: string): number[] => text.split(':').filter((group) => group !== '').map((group) => Number.parseInt(group, 16))
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  const all = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right]
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 255]))
}

function bigEndian(value: number): Buffer {
  const hex = value.toString(16)
  return Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex')
}

// [X.690] tag, length, value.

function tlv(tag: number, content: Buffer): Buffer {
  const size = content.length
  const bytes = size < 128 ? EMPTY : bigEndian(size)
  return Buffer.concat([Buffer.from(size < 128 ? [tag, size] : [tag, 0x80 | bytes.length]), bytes, content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, Buffer.concat(parts))
}

/** Unsigned: a first bit that is set would make it negative. */
function integer(bytes: Buffer): Buffer {
  return tlv(0x02, (bytes[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes)
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const value of rest) {
    const digits = [value & 0x7f]
    for (let left = value >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80)
    bytes.push(...digits)
  }
  return tlv(0x06, Buffer.from(bytes))
}

const TRUE = Buffer.from([0x01, 0x01, 0xff])
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
