/** Certificates for tests, made on the spot so that no key lies in the repository. [RFC 5280] in DER, ECDSA P-256 with SHA-256. */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

export interface Certificate {
  readonly cert: string
  readonly key: string
  readonly name: string
  readonly privateKey: KeyObject
}

export interface CertificateOptions {
  /** Common names; usually one. */
  readonly names: readonly string[]
  readonly uris?: readonly string[]
  readonly issuer?: Certificate
  readonly ca?: boolean
  readonly ip?: readonly number[]
  readonly expired?: boolean
}

export function makeCertificate({ names, uris = [], issuer, ca = false, ip, expired = false }: CertificateOptions): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const name = names.join('+')
  const now = Date.now()
  const alternatives = [...uris.map((uri) => tlv(0x86, Buffer.from(uri))), ...(ip === undefined ? [] : [tlv(0x87, Buffer.from(ip))])]
  const extensions = [
    extension('2.5.29.19', sequence(...(ca ? [tlv(0x01, Buffer.from([0xff]))] : [])), true),
    ...(alternatives.length > 0 ? [extension('2.5.29.17', sequence(...alternatives))] : []),
  ]
  const body = sequence(
    tlv(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ECDSA_SHA256,
    distinguished(issuer === undefined ? names : issuer.name.split('+')),
    sequence(time(now - 86_400_000 * 2), time(expired ? now - 86_400_000 : now + 86_400_000)),
    distinguished(names),
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...extensions)),
  )
  const signature = sign('sha256', body, issuer?.privateKey ?? privateKey)
  const der = sequence(body, ECDSA_SHA256, tlv(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = der.toString('base64').match(/.{1,64}/g)?.join('\n') ?? ''
  return {
    name, privateKey,
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  }
}

function tlv(tag: number, content: Buffer): Buffer {
  const size = content.length
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

function sequence(...parts: Buffer[]): Buffer {
  return tlv(0x30, Buffer.concat(parts))
}

function integer(bytes: Buffer): Buffer {
  return tlv(0x02, bytes)
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

function distinguished(names: readonly string[]): Buffer {
  return sequence(...names.map((name) => tlv(0x31, sequence(oid('2.5.4.3'), tlv(0x0c, Buffer.from(name))))))
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [tlv(0x01, Buffer.from([0xff]))] : []), tlv(0x04, value))
}

function time(ms: number): Buffer {
  return tlv(0x18, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`))
}

const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
