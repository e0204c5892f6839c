/**
 * The gateway file (design: listeners, folders, bridges, limits) -> GatewayConfig with every default filled in and every path absolute.
 */
import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { dirname, resolve } from 'node:path'
import type { Finding } from '../domain/errors.ts'
import { NAME } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Params } from '../domain/policy.ts'
import type { RecipientId } from '../domain/ids.ts'
import type { DownlinkRight } from '../domain/ports.ts'
import { parseDuration } from '../minimise/quantity.ts'
import { sorted } from './findings.ts'
import { gatewaySchema } from './schema.ts'
import { modeProblem, readSecret } from './secrets.ts'
import { downlinkFilter, downlinkProblem, isFilterWithin } from './topics.ts'
import { validator } from './validation.ts'
import { found, parseValue, parseYaml, readText, readYaml, type Path, type Yaml } from './yaml.ts'

export interface GatewayConfig {
  readonly file: string
  /** In ledger, metrics and client ids; the host name by default. */
  readonly name: string
  readonly tenant: string
  /** Folder of ledger, outbox and keys. */
  readonly data: string
  readonly rules: string
  /** Values for parameters of the rules file, in the place of those in it. */
  readonly params: Params | undefined
  readonly proto: readonly string[]
  /** Registries. A path that the file names exists; the default paths may not. */
  readonly machines: string
  readonly operators: string
  readonly recipients: string
  /** Whatever is read again when it changes: rules, schemas and registries. */
  readonly watched: readonly string[]
  readonly minimiser: 'compiled' | 'interpreted'
  /** Widening rules are accepted without approval; loopback only. */
  readonly trial: boolean
  /** A widening needs the approval of two different tokens. */
  readonly twoPerson: boolean
  readonly listen: { readonly terminals: ListenConfig; readonly recipients: ListenConfig; readonly recipients_ws?: WebListenConfig | undefined; readonly admin: ListenConfig }
  /** Who may send commands to machines. */
  readonly downlink: ReadonlyMap<RecipientId, DownlinkRight>
  readonly bridges: ReadonlyMap<string, BridgeConfig>
  readonly limits: GatewayLimits
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** One of so many messages is walked by the verifier; 0 = none. */
  readonly verifyEvery: number
}

export interface ListenConfig {
  readonly host: string
  readonly port: number
  /** PEM texts, read from the files that the gateway file names; with `ca` client certificates are demanded. */
  readonly tls: Pem | undefined
  /** Where they were read. */
  readonly tlsFiles?: Pem | undefined
  readonly loopback: boolean
}

export interface WebListenConfig extends ListenConfig {
  /** Of web pages that may connect, in lower case. */
  readonly origins: readonly string[]
}

export interface Pem {
  readonly cert: string
  readonly key: string
  readonly ca?: string
  readonly crl?: string
}

export interface BridgeConfig {
  readonly recipient: string
  readonly url: string
  readonly protocol: 4 | 5
  /** Messages on the way that are not yet acknowledged. */
  readonly window: number
  readonly clientId: string | undefined
  readonly credentialsFile: string | undefined
  /** PEM texts. */
  readonly tls: Partial<Pem> & { readonly serverName?: string }
  readonly keepaliveMs?: number | undefined
  /** MQTT filters of the commands that are taken from there. */
  readonly downlink?: readonly string[] | undefined
  readonly envelope?: boolean | undefined
  readonly batch?: {
    readonly messages: number
    readonly withinMs: number
    readonly compress: 'zstd' | 'none'
    readonly outputs: readonly string[] | undefined
  } | undefined
}

export interface GatewayLimits {
  readonly packetBytes: number
  readonly connections: number
  readonly messagesPerSecond: number
  readonly unanswered: number
  readonly outboxBytes: number
  readonly connectTimeMs: number
  readonly packetTimeMs: number
  /** New connections of one address; undefined = as many as come on loopback, the default elsewhere. */
  readonly addressConnects: { readonly perSecond: number; readonly burst: number } | undefined
  readonly identityConnectsPerMinute: number
}

export interface LoadedGateway {
  readonly config: GatewayConfig | undefined
  readonly findings: readonly Finding[]
}

/**
 * Reads the gateway file. Never throws for anything that stands in it.
 * @param set  overrides from the command line, each `listen.terminals.port=1893`; the right side is YAML
 */
export function loadGateway(file: string, set: readonly string[] = []): LoadedGateway {
  return readGateway(readYaml(file), set)
}

/** The same for a text in memory. */
export function loadGatewayText(file: string, text: string, set: readonly string[] = []): LoadedGateway {
  return readGateway(parseYaml(file, text), set)
}

/** True for addresses that only this host reaches. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.')) || /^::ffff:127\.\d+\.\d+\.\d+$/.test(bare)
}

const validate = validator(gatewaySchema())

function readGateway(yaml: Yaml, set: readonly string[]): LoadedGateway {
  if (yaml.findings.length > 0) return { config: undefined, findings: yaml.findings }
  const overrides = set.map(readOverride)
  const wrongSet = overrides.flatMap((one) => ('finding' in one ? [one.finding] : []))
  // An empty file means all defaults.
  const value = override(yaml.value ?? {}, overrides)
  const secrets = secretsIn(yaml, value)
  const findings = [...wrongSet, ...secrets, ...validate(yaml, value).filter((one) => !secrets.some((secret) => secret.path === one.path))]
  if (findings.length > 0) return { config: undefined, findings: sorted(placed(findings, overrides)) }
  const text = value as GatewayText
  const unreadable: Finding[] = []
  const config = withDefaults(yaml, text, unreadable)
  const wrong = placed([...unreadable, ...check(yaml, text, config)], overrides)
  return { config: wrong.length === 0 ? config : undefined, findings: sorted(wrong) }
}

// --------------------------------------------------------------------------------------------------------------- overrides

type Override = { readonly text: string; readonly path: Path; readonly value: unknown } | { readonly text: string; readonly finding: Finding }

function readOverride(text: string): Override {
  const at = text.indexOf('=')
  const path = text.slice(0, Math.max(0, at)).split('.')
  if (at < 1 || path.some((key) => !NAME.test(key) || key === '__proto__')) {
    return { text, finding: found('SET', placeOf(text), '', `"${at < 1 ? text : text.slice(0, at)}" is no override.`) }
  }
  return { text, path, value: parseValue(text.slice(at + 1)) }
}

function placeOf(text: string): Finding['place'] {
  const at = text.indexOf('=')
  // The value may be a secret that does not belong there.
  return { file: `--set ${at < 0 ? text : text.slice(0, at)}`, line: 1, col: 1 }
}

function override(value: unknown, overrides: readonly Override[]): unknown {
  const made = structuredClone(plain(value))
  for (const one of overrides) {
    if ('finding' in one || typeof made !== 'object' || made === null) continue
    let here = made as Record<string, unknown>
    for (const key of one.path.slice(0, -1)) {
      const next = here[key]
      here = (typeof next === 'object' && next !== null ? next : (here[key] = Object.create(null))) as Record<string, unknown>
    }
    here[one.path[one.path.length - 1] as string] = one.value
  }
  return made
}

/** structuredClone keeps no null prototypes; keys such as `constructor` are refused by the schema either way. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]))
}

/** Findings about an override are reported at the override. */
function placed(findings: readonly Finding[], overrides: readonly Override[]): Finding[] {
  return findings.map((finding) => {
    const cause = overrides.find((one) => 'path' in one && `${finding.path}.`.startsWith(`${one.path.join('.')}.`))
    return cause === undefined ? finding : { ...finding, place: placeOf(cause.text) }
  })
}

// ---------------------------------------------------------------------------------------------------------------- checking

const SECRET_KEYS = /^(password|passwd|passphrase|token|secret|credentials?|api_?key|root_?key|private_?key)$/i

/** A key whose value would be a secret, or a value that looks like one, wherever it stands. */
function secretsIn(yaml: Yaml, value: unknown): Finding[] {
  const findings: Finding[] = []
  const walk = (here: unknown, path: Path): void => {
    if (typeof here === 'string' && /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(here)) findings.push(found('SECRET-IN-FILE', yaml.place(path), path.join('.'), `"${path[path.length - 1]}" holds a private key.`, 'Write it to a file with mode 0600 and name the file.'))
    if (typeof here === 'string' && /^[a-z]+:\/\/[^/@]*:[^/@]*@/i.test(here)) findings.push(found('SECRET-IN-FILE', yaml.place(path), path.join('.'), `"${path[path.length - 1]}" holds a password in its address.`, 'Remove it from the address and use `credentials_file`.'))
    if (typeof here !== 'object' || here === null) return
    for (const [key, inner] of Object.entries(here)) {
      const at = [...path, Array.isArray(here) ? Number(key) : key]
      if (SECRET_KEYS.test(key)) findings.push(found('SECRET-IN-FILE', yaml.place(at, 'key'), at.join('.'), `"${key}" would hold a secret in the gateway file.`, `Put it into a file of its own with mode 0600 and write \`${/^credential/i.test(key) ? 'credentials' : key.toLowerCase()}_file: FILE\`.`))
      else walk(inner, at)
    }
  }
  walk(value, [])
  return findings
}

function check(yaml: Yaml, text: GatewayText, config: GatewayConfig): Finding[] {
  const findings: Finding[] = []
  const add = (code: Parameters<typeof found>[0], path: Path, sentence: string, mend?: string): void => {
    findings.push(found(code, yaml.place(path), path.join('.'), sentence, mend))
  }
  for (const name of ['terminals', 'recipients', 'recipients_ws', 'admin'] as const) {
    const listener = config.listen[name]
    if (listener === undefined) continue
    const path: Path = ['listen', name, ...(text.listen?.[name]?.host === undefined ? [] : ['host'])]
    if (!listener.loopback && listener.tls === undefined) add('PLAIN-LISTENER', path, `The listener for ${name} on ${listener.host} can be reached from other hosts and has no TLS.`)
    if (listener.tls?.crl !== undefined && listener.tls.ca === undefined) add('MISSING-KEY', ['listen', name, 'tls', 'crl'], 'A revocation list needs `ca`: without it nobody has a certificate.')
    if (!listener.loopback && config.trial) add('TRIAL', ['trial'], `The trial mode is on, and the listener for ${name} can be reached from other hosts.`)
  }
  for (const name of ['machines', 'operators', 'recipients'] as const) {
    if (text[name] !== undefined && !existsSync(config[name])) add('FILE-UNREADABLE', [name], `The file ${config[name]} does not exist.`)
  }
  for (const [recipient, { topics, ttl }] of Object.entries(text.downlink ?? {})) {
    const path: Path = ['downlink', recipient, 'topics']
    for (const [at, pattern] of topics.entries()) {
      const problem = downlinkProblem(pattern)
      if (problem !== undefined) add('DOWNLINK-TOPIC', [...path, at], `The pattern "${pattern}" ${problem}`)
    }
    const ttlMs = parseDuration(ttl)
    if (ttlMs !== undefined && (ttlMs < 1_000 || ttlMs > LIMITS.commandTtlMs)) add('BAD-VALUE', ['downlink', recipient, 'ttl'], 'A command cannot wait for so long, or so short.', 'Write between 1s and 30d.')
  }
  for (const [name, { recipient, downlink = [] }] of Object.entries(text.bridges ?? {})) {
    const right = config.downlink.get(recipient as RecipientId)
    for (const [at, pattern] of downlink.entries()) {
      const path: Path = ['bridges', name, 'downlink', at]
      const problem = downlinkProblem(pattern)
      if (problem !== undefined) add('DOWNLINK-TOPIC', path, `The pattern "${pattern}" ${problem}`)
      else if (right?.filters.some((filter) => isFilterWithin(downlinkFilter(pattern), filter)) !== true) add('DOWNLINK-RIGHT', path, `The recipient "${recipient}" of the bridge "${name}" may not send all that "${pattern}" stands for.`)
    }
  }
  for (const [name, bridge] of config.bridges) {
    if (bridge.credentialsFile !== undefined && !existsSync(bridge.credentialsFile)) add('FILE-UNREADABLE', ['bridges', name, 'credentials_file'], `The file ${bridge.credentialsFile} does not exist.`)
    const exposed = bridge.credentialsFile === undefined ? undefined : modeProblem(bridge.credentialsFile)
    if (exposed !== undefined) add('SECRET-MODE', ['bridges', name, 'credentials_file'], exposed, `Run: chmod 600 ${bridge.credentialsFile}`)
    const path: Path = ['bridges', name, 'url']
    const url = URL.parse(bridge.url)
    if (url === null) add('BAD-VALUE', path, `The address of the bridge "${name}" is none.`, 'Write mqtts://host:port.')
    else if ((url.protocol === 'mqtt:' || url.protocol === 'ws:') && !isLoopback(url.hostname)) add('PLAIN-BRIDGE', path, `The bridge "${name}" would send data to ${url.hostname} without TLS.`)
    if ((bridge.tls.cert === undefined) !== (bridge.tls.key === undefined)) add('MISSING-KEY', ['bridges', name, 'tls'], 'A certificate needs its key, and a key its certificate.')
    if (bridge.batch !== undefined && bridge.protocol === 4 && bridge.envelope !== true) {
      add('BAD-VALUE', ['bridges', name, 'batch'], `MQTT 3.1.1 has no place for the ids of the messages in a batch of the bridge "${name}".`, 'Write `envelope: true`, or `protocol: 5`.')
    }
  }
  return findings
}

// ---------------------------------------------------------------------------------------------------------------- defaults

interface ListenerText {
  readonly host?: string
  readonly port?: number
  readonly tls?: Pem
}

interface WebListenerText extends ListenerText {
  readonly origins?: readonly string[]
}

interface GatewayText {
  readonly name?: string
  readonly tenant?: string
  readonly data?: string
  readonly rules?: string
  readonly params?: Params
  readonly proto?: readonly string[]
  readonly machines?: string
  readonly operators?: string
  readonly recipients?: string
  readonly minimiser?: 'compiled' | 'interpreted'
  readonly trial?: boolean
  readonly two_person?: boolean
  readonly listen?: { readonly terminals?: ListenerText; readonly recipients?: ListenerText; readonly recipients_ws?: WebListenerText; readonly admin?: ListenerText }
  readonly downlink?: Readonly<Record<string, { readonly topics: readonly string[]; readonly qos?: 0 | 1; readonly payload_bytes?: number; readonly ttl?: string }>>
  readonly bridges?: Readonly<Record<string, {
    readonly recipient: string; readonly url: string; readonly protocol?: 4 | 5; readonly window?: number; readonly client_id?: string; readonly credentials_file?: string
    readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string; readonly server_name?: string }
    readonly keepalive?: string; readonly envelope?: boolean; readonly downlink?: readonly string[]
    readonly batch?: { readonly messages?: number; readonly within?: string; readonly compress?: 'zstd' | 'none'; readonly outputs?: readonly string[] }
  }>>
  readonly limits?: {
    readonly packet_bytes?: number; readonly connections?: number; readonly messages_per_second?: number; readonly unanswered?: number
    readonly outbox_bytes?: number; readonly connect_time?: string; readonly packet_time?: string
    readonly address_connects_per_second?: number; readonly address_connect_burst?: number; readonly identity_connects_per_minute?: number
  }
  readonly log?: { readonly level?: GatewayConfig['logLevel'] }
  readonly verify?: number
}

function withDefaults(yaml: Yaml, text: GatewayText, findings: Finding[]): GatewayConfig {
  const base = dirname(resolve(yaml.file))
  const at = (path: string): string => resolve(base, path)
  const pem = (path: string, where: Path): string => {
    const read = where.at(-1) === 'key' ? readSecret(at(path)) : readText(at(path))
    // To Node an empty list of authorities is no list, and then every public authority counts.
    if ('text' in read && read.text.trim() === '') findings.push(found('FILE-UNREADABLE', yaml.place(where), where.join('.'), `The file ${at(path)} is empty.`))
    if ('text' in read) return read.text
    findings.push({ ...read.finding, place: yaml.place(where), path: where.join('.') })
    return ''
  }
  const listener = (name: 'terminals' | 'recipients' | 'recipients_ws' | 'admin', port: number): ListenConfig => {
    const given = text.listen?.[name]
    const host = given?.host ?? '127.0.0.1'
    const tlsFiles = given?.tls === undefined ? undefined : (Object.fromEntries(Object.entries(given.tls).map(([kind, file]) => [kind, at(file as string)])) as unknown as Pem)
    return { host, port: given?.port ?? port, tls: given?.tls === undefined ? undefined : (pems(given.tls, ['listen', name, 'tls'], pem) as Pem), tlsFiles, loopback: isLoopback(host) }
  }
  const limits = text.limits ?? {}
  const web = text.listen?.recipients_ws
  const files = {
    rules: at(text.rules ?? './rules/awp.yaml'),
    proto: (text.proto ?? ['../proto']).map(at),
    machines: at(text.machines ?? './machines.yaml'),
    operators: at(text.operators ?? './operators.yaml'),
    recipients: at(text.recipients ?? './recipients.yaml'),
  }
  return {
    file: resolve(yaml.file),
    name: text.name ?? (hostname().replace(/[^A-Za-z0-9_.-]/g, '-') || 'gateway'),
    tenant: text.tenant ?? 'default',
    data: at(text.data ?? './data'),
    ...files,
    params: text.params,
    watched: [files.rules, ...files.proto, files.machines, files.operators, files.recipients],
    minimiser: text.minimiser ?? 'compiled',
    trial: text.trial ?? false,
    twoPerson: text.two_person ?? false,
    listen: {
      terminals: listener('terminals', 1883), recipients: listener('recipients', 1884), admin: listener('admin', 8080),
      ...(web === undefined ? {} : { recipients_ws: { ...listener('recipients_ws', 1885), origins: (web.origins ?? []).map((origin) => origin.toLowerCase()) } }),
    },
    downlink: new Map(Object.entries(text.downlink ?? {}).map(([recipient, { topics, qos = 1, payload_bytes: payloadBytes = LIMITS.commandPayloadBytes, ttl }]) => [
      recipient as RecipientId, { filters: topics.map(downlinkFilter), qos, payloadBytes, ttlMs: parseDuration(ttl) ?? 86_400_000 },
    ])),
    bridges: new Map(Object.entries(text.bridges ?? {}).map(([name, bridge]) => [name, {
      recipient: bridge.recipient,
      url: bridge.url,
      protocol: bridge.protocol ?? 5,
      window: bridge.window ?? 256,
      clientId: bridge.client_id,
      credentialsFile: bridge.credentials_file === undefined ? undefined : at(bridge.credentials_file),
      tls: bridgeTls(bridge.tls ?? {}, ['bridges', name, 'tls'], pem),
      keepaliveMs: parseDuration(bridge.keepalive),
      downlink: bridge.downlink?.map(downlinkFilter),
      envelope: bridge.envelope,
      batch: bridge.batch === undefined ? undefined : {
        messages: bridge.batch.messages ?? 100, withinMs: parseDuration(bridge.batch.within) ?? 1_000, compress: bridge.batch.compress ?? 'zstd', outputs: bridge.batch.outputs,
      },
    }])),
    limits: {
      packetBytes: limits.packet_bytes ?? LIMITS.packetBytes,
      connections: limits.connections ?? LIMITS.connections,
      messagesPerSecond: limits.messages_per_second ?? LIMITS.messagesPerSecond,
      unanswered: limits.unanswered ?? LIMITS.unanswered,
      outboxBytes: limits.outbox_bytes ?? LIMITS.outboxBytes,
      connectTimeMs: parseDuration(limits.connect_time) ?? LIMITS.connectTimeMs,
      packetTimeMs: parseDuration(limits.packet_time) ?? LIMITS.packetTimeMs,
      addressConnects: limits.address_connects_per_second === undefined && limits.address_connect_burst === undefined ? undefined : {
        perSecond: limits.address_connects_per_second ?? LIMITS.addressConnectsPerSecond, burst: limits.address_connect_burst ?? LIMITS.addressConnectBurst,
      },
      identityConnectsPerMinute: limits.identity_connects_per_minute ?? LIMITS.identityConnectsPerMinute,
    },
    logLevel: text.log?.level ?? 'info',
    verifyEvery: text.verify ?? 100,
  }
}

function bridgeTls({ server_name: serverName, ...files }: Partial<Pem> & { readonly server_name?: string }, where: Path, read: (file: string, where: Path) => string): BridgeConfig['tls'] {
  return { ...pems(files, where, read), ...(serverName === undefined ? {} : { serverName }) }
}

function pems(files: Partial<Pem>, where: Path, read: (file: string, where: Path) => string): Partial<Pem> {
  return Object.fromEntries(Object.entries(files).map(([name, file]) => [name, read(file as string, [...where, name])]))
}
