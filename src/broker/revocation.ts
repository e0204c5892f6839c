/**
 * Revoked certificates. TLS refuses them when somebody connects; which of those who are in have been revoked since, and how long
 * a list is good for, must be read from the list itself. [RFC 5280, 5] in DER, no more of it than that.
 */
import { X509Certificate } from 'node:crypto'
import { GatewayError } from '../domain/errors.ts'

export interface Revocations {
  /** As `certificateId` gives them. */
  readonly ids: ReadonlySet<string>
  /** Of several lists the first to end; undefined when none says. After it TLS admits nobody. */
  readonly nextUpdateMs: number | undefined
  /** Names of the authorities whose lists they are, in DER. */
  readonly issuers: ReadonlySet<string>
}

/**
 * The certificates of those who sign for clients. TLS trusts every public authority when it is given an empty file, and passes over
 * a certificate that was cut off while it was written: neither is what the file stands for.
 * @param crl  with lists each authority needs its own, or TLS admits nobody whose certificate it signed
 * @throws GatewayError LISTEN-TLS, CRL
 */
export function readAuthorities(pem: string | Buffer, crl?: string | Buffer): readonly X509Certificate[] {
  const blocks = String(pem).split(/(?=-----BEGIN )/).filter((block) => block.startsWith('-----BEGIN '))
  let authorities: readonly X509Certificate[] = []
  try {
    authorities = blocks.map((block) => new X509Certificate(block))
  } catch {
    throw new GatewayError('LISTEN-TLS', 'The certificates of the authorities cannot be read.', MEND_AUTHORITIES)
  }
  if (authorities.length === 0) throw new GatewayError('LISTEN-TLS', 'The file of the authorities holds no certificate.', MEND_AUTHORITIES)
  const issuers = crl === undefined ? undefined : readRevocations(crl).issuers
  if (issuers !== undefined && authorities.some(({ raw }) => !issuers.has(subjectOf(raw)))) {
    throw new GatewayError('CRL', 'An authority has no revocation list: nobody whose certificate it signed would be admitted.', 'Put the lists of all authorities into one file, or take away the authority that is not used.')
  }
  return authorities
}

const MEND_AUTHORITIES = 'It is a PEM file with "BEGIN CERTIFICATE", such as ca.crt of parapet pki.'

/**
 * @param pem  one list or several
 * @throws GatewayError CRL
 */
export function readRevocations(pem: string | Buffer): Revocations {
  const lists = [...String(pem).matchAll(/-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----/g)].map(([, base64 = '']) => Buffer.from(base64, 'base64'))
  if (lists.length === 0) throw new GatewayError('CRL', 'The revocation list is none.', MEND)
  const ids = new Set<string>()
  const issuers = new Set<string>()
  let nextUpdateMs: number | undefined
  for (const bytes of lists) {
    const list = readList(bytes)
    issuers.add(list.issuer)
    for (const serial of list.serials) ids.add(`${list.issuer}:${serial}`)
    if (list.nextUpdateMs !== undefined) nextUpdateMs = Math.min(nextUpdateMs ?? Infinity, list.nextUpdateMs)
  }
  return { ids, nextUpdateMs, issuers }
}

/** Issuer and serial number: what a revocation list knows a certificate by. */
export function certificateId(der: Buffer): string {
  const body = enter(enter(element(der, 0)))
  // [RFC 5280, 4.1] version [0], serialNumber, signature, issuer
  const serial = body[0]?.tag === 0xa0 ? 1 : 0
  return `${nameOf(body[serial + 2])}:${serialOf(body[serial])}`
}

function subjectOf(der: Buffer): string {
  const body = enter(enter(element(der, 0)))
  // [RFC 5280, 4.1] … issuer, validity, subject
  return nameOf(body[body[0]?.tag === 0xa0 ? 5 : 4])
}

const MEND = 'It is a PEM file with "BEGIN X509 CRL", such as ca.crl of parapet pki.'

function readList(bytes: Buffer): { readonly issuer: string; readonly serials: readonly string[]; readonly nextUpdateMs: number | undefined } {
  try {
    // [RFC 5280, 5.1] version?, signature, issuer, thisUpdate, nextUpdate?, revokedCertificates?, [0]
    const body = enter(enter(element(bytes, 0)))
    const from = body[0]?.tag === INTEGER ? 1 : 0
    const issuer = nameOf(body[from + 1])
    const next = body[from + 3]
    const isDated = next?.tag === UTC_TIME || next?.tag === GENERALIZED_TIME
    const revoked = body[from + (isDated ? 4 : 3)]
    const serials = revoked?.tag === SEQUENCE ? children(revoked).map((entry) => serialOf(children(entry)[0])) : []
    return { issuer, serials, nextUpdateMs: isDated ? timeOf(next) : undefined }
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('CRL', 'The revocation list cannot be read.', MEND)
  }
}

const INTEGER = 0x02
const UTC_TIME = 0x17
const GENERALIZED_TIME = 0x18
const SEQUENCE = 0x30

interface Element {
  readonly tag: number
  readonly content: Buffer
  /** Where the next one begins. */
  readonly end: number
}

/** [X.690, 8.1] one-byte tags and definite lengths, as DER has them. */
function element(bytes: Buffer, at: number): Element {
  const tag = bytes.readUInt8(at)
  const first = bytes.readUInt8(at + 1)
  const more = first < 0x80 ? 0 : first & 0x7f
  if (more > 4) throw new RangeError('length')
  const length = more === 0 ? first : bytes.readUIntBE(at + 2, more)
  const from = at + 2 + more
  if ((tag & 0x1f) === 0x1f || from + length > bytes.length) throw new RangeError('element')
  return { tag, content: bytes.subarray(from, from + length), end: from + length }
}

function children({ content }: Element): Element[] {
  const found: Element[] = []
  for (let at = 0; at < content.length;) {
    const one = element(content, at)
    found.push(one)
    at = one.end
  }
  return found
}

/** What stands in the first part: of the outer sequence that is the signed body. */
function enter(outer: Element | readonly Element[]): Element[] {
  const one = Array.isArray(outer) ? (outer as readonly Element[])[0] : (outer as Element)
  if (one?.tag !== SEQUENCE) throw new RangeError('sequence')
  return children(one)
}

function nameOf(name: Element | undefined): string {
  if (name?.tag !== SEQUENCE) throw new RangeError('name')
  return name.content.toString('base64')
}

function serialOf(serial: Element | undefined): string {
  if (serial?.tag !== INTEGER) throw new RangeError('serial')
  return serial.content.toString('hex')
}

/** [RFC 5280, 4.1.2.5] YYMMDDHHMMSSZ up to 2049, else with four digits of the year. */
function timeOf({ tag, content }: Element): number {
  const text = content.toString('latin1')
  const full = tag === UTC_TIME ? `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}` : text
  const ms = Date.parse(full.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  if (Number.isNaN(ms)) throw new RangeError('time')
  return ms
}
