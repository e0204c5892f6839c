/**
 * The recipients' log-ins at the egress broker: recipient of the rules file -> who may log in for it.
 */
import type { Finding } from '../domain/errors.ts'
import { sorted } from './findings.ts'
import { unwrap } from './machines.ts'
import { recipientsSchema } from './schema.ts'
import { validator } from './validation.ts'
import { found, parseYaml, readYaml, type Path, type Yaml } from './yaml.ts'

export interface RecipientLogin {
  /** MQTT user name; the recipient's id unless the file says otherwise. */
  readonly user: string
  /** scrypt record, or undefined: then only a loopback listener admits the user name alone. */
  readonly credential: string | undefined
  /** Name in the client certificate. */
  readonly certificate: string | undefined
}

export interface LoadedRecipients {
  /** Undefined when anything is wrong. */
  readonly recipients: ReadonlyMap<string, readonly RecipientLogin[]> | undefined
  readonly findings: readonly Finding[]
}

/** Reads the file. @param known recipients of the rules file; a log-in for another one is a warning */
export function loadRecipients(file: string, known?: ReadonlySet<string>): LoadedRecipients {
  return readRecipients(readYaml(file), known)
}

/** The same for a text in memory. */
export function loadRecipientsText(file: string, text: string, known?: ReadonlySet<string>): LoadedRecipients {
  return readRecipients(parseYaml(file, text), known)
}

interface LoginText {
  readonly user?: string
  readonly credential?: string
  readonly certificate?: string
}

const validate = validator(recipientsSchema())

function readRecipients(yaml: Yaml, known: ReadonlySet<string> | undefined): LoadedRecipients {
  if (yaml.findings.length > 0) return { recipients: undefined, findings: yaml.findings }
  const { value, under } = unwrap(yaml.value ?? {}, 'recipients')
  const wrong = validate(yaml, value, { under })
  if (wrong.length > 0) return { recipients: undefined, findings: sorted(wrong) }
  const findings: Finding[] = []
  const recipients = new Map<string, readonly RecipientLogin[]>()
  const users = new Set<string>()
  const certificates = new Set<string>()
  for (const [id, given] of Object.entries(value as Readonly<Record<string, LoginText | readonly LoginText[]>>)) {
    const at: Path = [...under, id]
    if (known !== undefined && !known.has(id)) findings.push(found('UNUSED-LOGIN', yaml.place(at, 'key'), at.join('.'), `The rules file has no recipient "${id}".`))
    const texts = Array.isArray(given) ? (given as readonly LoginText[]) : [given as LoginText]
    const logins = texts.map((text) => ({ user: text.user ?? id, credential: text.credential, certificate: text.certificate }))
    for (const [index, login] of logins.entries()) {
      const where = yaml.place(Array.isArray(given) ? [...at, index] : at, 'key')
      if (users.has(login.user)) findings.push(found('DUPLICATE-ID', where, at.join('.'), `The user name "${login.user}" stands twice.`))
      if (login.certificate !== undefined && certificates.has(login.certificate)) findings.push(found('DUPLICATE-ID', where, at.join('.'), `The certificate name "${login.certificate}" stands twice.`))
      users.add(login.user)
      if (login.certificate !== undefined) certificates.add(login.certificate)
    }
    recipients.set(id, logins)
  }
  return { recipients: findings.some((one) => one.severity === 'error') ? undefined : recipients, findings: sorted(findings) }
}
