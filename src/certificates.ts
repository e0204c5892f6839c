/**
 * The certificates of the listeners: read again when their files change, put to use when they can be, and watched for their end.
 * New ones that cannot be used leave the old ones in force, and readiness says so.
 */
import { X509Certificate } from 'node:crypto'
import { readAuthorities, readRevocations } from './broker/revocation.ts'
import type { GatewayConfig, Pem } from './config/gateway.ts'
import { readSecret } from './config/secrets.ts'
import { readText } from './config/yaml.ts'
import { GatewayError } from './domain/errors.ts'
import type { Log } from './log.ts'

export type ListenerName = keyof GatewayConfig['listen']
export type AddReason = (code: string, severity: 'error' | 'warning', text: string, mend: string) => void

export class Certificates {
  /** Whatever must be watched. */
  readonly files: readonly string[]
  readonly #held = new Map<ListenerName, Held>()
  readonly #log: Log
  readonly #now: () => number

  constructor(listen: GatewayConfig['listen'], log: Log, now: () => number) {
    this.#log = log
    this.#now = now
    for (const name of Object.keys(listen) as ListenerName[]) {
      const { tls, tlsFiles } = listen[name] ?? {}
      if (tls !== undefined) this.#held.set(name, { files: tlsFiles, pem: tls, ends: endsOf(tls), refused: undefined, renew: () => {} })
    }
    this.files = [...new Set([...this.#held.values()].flatMap(({ files }) => Object.values(files ?? {}) as string[]))]
  }

  /** @param renew  puts new ones to use; throws when it cannot, and has changed nothing then */
  use(name: ListenerName, renew: (pem: Pem) => void): void {
    const held = this.#held.get(name)
    if (held !== undefined) held.renew = renew
  }

  /** Reads the files; what has changed is put to use. Never throws. */
  renew(): void {
    for (const [name, held] of this.#held) {
      if (held.files === undefined) continue
      try {
        const pem = readAll(held.files)
        const isSame = Object.entries(pem).every(([kind, text]) => held.pem[kind as keyof Pem] === text)
        if (!isSame) {
          const ends = endsOf(pem)
          refuseUnfit(pem, ends, this.#now())
          held.renew(pem)
          held.pem = pem
          held.ends = ends
          this.#log.info('new TLS files are in use', { listener: name })
        }
        held.refused = undefined
      } catch (error) {
        // Certificate and key are seldom replaced in one go: the next change is looked at again.
        const { code, message } = error instanceof GatewayError ? error : new GatewayError('LISTEN-TLS', 'The TLS files cannot be used.')
        if (held.refused !== message) this.#log.warn('new TLS files were refused and the old ones stay', { listener: name, code })
        held.refused = message
      }
    }
  }

  /** What /readyz has to say of them. */
  tell(add: AddReason): void {
    const now = this.#now()
    for (const [name, { ends, refused }] of this.#held) {
      if (refused !== undefined) add('CERTIFICATE-REFUSED', 'warning', `The TLS files of the listener for ${name} were refused, and those before them stay: ${refused}`, 'Mend the files; they are read again by themselves.')
      const certificate = `The certificate of the listener for ${name}`
      if (ends.certificateMs <= now) add('CERTIFICATE-EXPIRED', 'error', `${certificate} has expired on ${day(ends.certificateMs)}: nobody should trust it any more.`, 'Put a new certificate and key in the place of the old ones; they are read by themselves.')
      else if (ends.certificateMs - now < WARN_MS) add('CERTIFICATE-EXPIRES', 'warning', `${certificate} expires on ${day(ends.certificateMs)}.`, 'Put a new certificate and key in the place of the old ones; they are read by themselves.')
      const list = `The revocation list of the listener for ${name}`
      if (ends.listMs <= now) add('CRL-EXPIRED', 'error', `${list} has ended on ${day(ends.listMs)}: nobody with a certificate is admitted.`, 'Fetch a new list from the authority; it is read by itself.')
      else if (ends.listMs - now < WARN_LIST_MS) add('CRL-EXPIRES', 'warning', `${list} ends on ${new Date(ends.listMs).toISOString()}; after that nobody with a certificate is admitted.`, 'Fetch a new list from the authority; it is read by itself.')
    }
  }
}

interface Held {
  readonly files: Pem | undefined
  pem: Pem
  ends: Ends
  refused: string | undefined
  renew: (pem: Pem) => void
}

interface Ends {
  readonly certificateMs: number
  /** Infinity without a list. */
  readonly listMs: number
}

const WARN_MS = 14 * 86_400_000
/** Lists are renewed by the week or day. */
const WARN_LIST_MS = 86_400_000

function readAll(files: Pem): Pem {
  return Object.fromEntries(Object.entries(files).map(([kind, file]) => {
    const read = kind === 'key' ? readSecret(file as string) : readText(file as string)
    if ('finding' in read) throw new GatewayError('LISTEN-TLS', read.finding.text)
    return [kind, read.text]
  })) as unknown as Pem
}

/** @throws GatewayError LISTEN-TLS, CRL */
function endsOf({ cert, ca, crl }: Pem): Ends {
  let certificateMs: number
  try {
    certificateMs = new X509Certificate(cert).validToDate.getTime()
  } catch {
    throw new GatewayError('LISTEN-TLS', 'The certificate of a listener cannot be read.', 'It is a PEM file that begins with the listener\'s own certificate, those of its authorities after it.')
  }
  if (ca !== undefined) readAuthorities(ca, crl)
  return { certificateMs, listMs: crl === undefined ? Infinity : (readRevocations(crl).nextUpdateMs ?? Infinity) }
}

function refuseUnfit({ cert }: Pem, ends: Ends, now: number): void {
  if (ends.certificateMs <= now) throw new GatewayError('LISTEN-TLS', `The new certificate has expired on ${day(ends.certificateMs)}.`)
  if (new X509Certificate(cert).validFromDate.getTime() > now) throw new GatewayError('LISTEN-TLS', 'The new certificate is not valid yet.')
  if (ends.listMs <= now) throw new GatewayError('CRL', `The new revocation list has ended on ${day(ends.listMs)}.`)
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
