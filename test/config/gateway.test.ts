import { mkdtempSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isLoopback, loadGatewayText, type GatewayConfig } from '../../src/config/gateway.ts'

const folder = mkdtempSync(join(tmpdir(), 'parapet-gateway-'))
const FILE = join(folder, 'gateway.yaml')
for (const name of ['cert.pem', 'key.pem', 'ca.pem', 'cloud.json', 'machines.csv']) writeFileSync(join(folder, name), `text of ${name}`, { mode: 0o600 })
writeFileSync(join(folder, 'open.pem'), 'text of open.pem', { mode: 0o640 })
writeFileSync(join(folder, 'empty.pem'), '\n')

function load(text: string, set: readonly string[] = []): GatewayConfig {
  const { config, findings } = loadGatewayText(FILE, text, set)
  expect(findings).toEqual([])
  return config as GatewayConfig
}

/** `line:col CODE` of the first finding, and its text. */
function refused(text: string, set: readonly string[] = []): { readonly at: string; readonly text: string } {
  const { config, findings } = loadGatewayText(FILE, text, set)
  expect(config).toBeUndefined()
  const [first] = findings
  return { at: `${first?.place.line}:${first?.place.col} ${first?.code}`, text: first?.text ?? '' }
}

describe('an empty file is a gateway', () => {
  test('with every default', () => {
    expect(load('')).toEqual({
      file: FILE,
      name: hostname().replace(/[^A-Za-z0-9_.-]/g, '-'),
      tenant: 'default',
      data: join(folder, 'data'),
      rules: join(folder, 'rules/awp.yaml'),
      proto: [join(folder, '../proto')],
      machines: join(folder, 'machines.yaml'),
      operators: join(folder, 'operators.yaml'),
      recipients: join(folder, 'recipients.yaml'),
      watched: [join(folder, 'rules/awp.yaml'), join(folder, '../proto'), join(folder, 'machines.yaml'), join(folder, 'operators.yaml'), join(folder, 'recipients.yaml')],
      minimiser: 'compiled',
      trial: false,
      twoPerson: false,
      listen: {
        terminals: { host: '127.0.0.1', port: 1883, tls: undefined, loopback: true },
        recipients: { host: '127.0.0.1', port: 1884, tls: undefined, loopback: true },
        admin: { host: '127.0.0.1', port: 8080, tls: undefined, loopback: true },
      },
      bridges: new Map(),
      downlink: new Map(),
      limits: { packetBytes: 262_144, connections: 10_000, messagesPerSecond: 200, unanswered: 64, outboxBytes: 4_294_967_296, connectTimeMs: 5_000, packetTimeMs: 10_000, addressConnects: undefined, identityConnectsPerMinute: 60 },
      logLevel: 'info',
      verifyEvery: 100,
    })
  })

  test('paths stand beside the file, keys are read', () => {
    const config = load(`
data: /var/lib/parapet
machines: machines.csv
listen: { terminals: { host: 0.0.0.0, port: 8883, tls: { cert: cert.pem, key: key.pem, ca: ca.pem } } }
bridges: { cloud: { recipient: oem-cloud, url: "mqtts://mqtt.example.com:8883", credentials_file: cloud.json, tls: { ca: ca.pem } } }
limits: { connect_time: 2s, address_connects_per_second: 5, identity_connects_per_minute: 10 }
`)
    expect(config.data).toBe('/var/lib/parapet')
    expect(config.machines).toBe(join(folder, 'machines.csv'))
    expect(config.listen.terminals).toEqual({ host: '0.0.0.0', port: 8883, tls: { cert: 'text of cert.pem', key: 'text of key.pem', ca: 'text of ca.pem' }, tlsFiles: { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem'), ca: join(folder, 'ca.pem') }, loopback: false })
    expect(config.bridges.get('cloud')).toEqual({
      recipient: 'oem-cloud', url: 'mqtts://mqtt.example.com:8883', protocol: 5, window: 256, clientId: undefined,
      credentialsFile: join(folder, 'cloud.json'), tls: { ca: 'text of ca.pem' },
    })
    expect(config.limits).toMatchObject({ connectTimeMs: 2_000, addressConnects: { perSecond: 5, burst: 100 }, identityConnectsPerMinute: 10 })
    const { bridges } = load('bridges: { c: { recipient: r, url: "mqtts://h", keepalive: 1m, envelope: true, tls: { server_name: mqtt.example.com }, batch: { within: 500ms, outputs: [planner] } } }')
    expect(bridges.get('c')).toMatchObject({
      keepaliveMs: 60_000, envelope: true, tls: { serverName: 'mqtt.example.com' }, batch: { messages: 100, withinMs: 500, compress: 'zstd', outputs: ['planner'] },
    })
  })
})

describe('what is not there unless it is written', () => {
  test('a listener for WebSockets, for no web page', () => {
    expect(load('').listen.recipients_ws).toBeUndefined()
    expect(load('listen: { recipients_ws: {} }').listen.recipients_ws).toEqual({ host: '127.0.0.1', port: 1885, tls: undefined, tlsFiles: undefined, loopback: true, origins: [] })
    expect(load('listen: { recipients_ws: { port: 9, origins: ["https://Planner.example.com:8443"] } }').listen.recipients_ws).toMatchObject({ port: 9, origins: ['https://planner.example.com:8443'] })
  })

  test('commands to machines, for those named and within what they are given', () => {
    const config = load(`
downlink:
  oem-cloud: { topics: ["down/{fleet}/{machine}/settings/#", "down/north/{machine}/x"], payload_bytes: 64, ttl: 90s }
  planner: { topics: ["down/{fleet}/SN-1/+"], qos: 0 }
bridges:
  cloud: { recipient: oem-cloud, url: "mqtts://h", downlink: ["down/north/{machine}/settings/clock", "down/north/{machine}/x"] }
  other: { recipient: oem-cloud, url: "mqtts://h" }
`)
    expect(config.downlink).toEqual(new Map([
      ['oem-cloud', { filters: ['down/+/+/settings/#', 'down/north/+/x'], qos: 1, payloadBytes: 64, ttlMs: 90_000 }],
      ['planner', { filters: ['down/+/SN-1/+'], qos: 0, payloadBytes: 4_096, ttlMs: 86_400_000 }],
    ]))
    expect([config.bridges.get('cloud')?.downlink, config.bridges.get('other')?.downlink]).toEqual([['down/north/+/settings/clock', 'down/north/+/x'], undefined])
  })
})

describe('what is refused, where, and what to do', () => {
  test.each<[string, string, string, string]>([
    ['a key typed wrong', 'lisen: {}', '1:1 UNKNOWN-KEY', 'Did you mean "listen"?'],
    ['a nested key typed wrong', 'listen:\n  terminals: { hots: "::1" }', '2:16 UNKNOWN-KEY', 'Did you mean "host"?'],
    ['a port that is none', 'listen: { admin: { port: 80800 } }', '1:26 BAD-VALUE', '<= 65535'],
    ['a listener for everybody without TLS', 'listen:\n  terminals:\n    host: 0.0.0.0', '3:11 PLAIN-LISTENER', 'tls: { cert, key, ca }'],
    ['an IPv6 listener for everybody', 'listen: { recipients: { host: "::" } }', '1:31 PLAIN-LISTENER', '127.0.0.1'],
    ['a name is not loopback', 'listen: { admin: { host: depot-7.example } }', '1:26 PLAIN-LISTENER', 'TLS'],
    ['a certificate without its key', 'listen: { admin: { tls: { cert: cert.pem } } }', '1:20 MISSING-KEY', 'needs "key"'],
    ['an empty list of authorities', 'bridges: { cloud: { recipient: a, url: "mqtts://mqtt.example.com", tls: { ca: empty.pem } } }', '1:79 FILE-UNREADABLE', 'empty.pem is empty'],
    ['a certificate that is not there', 'listen: { admin: { tls: { cert: none.pem, key: key.pem } } }', '1:33 FILE-UNREADABLE', 'does not exist'],
    ['a key that others can read', 'listen: { admin: { tls: { cert: cert.pem, key: open.pem } } }', '1:48 SECRET-MODE', 'chmod 600'],
    ['a log-in that others can read', 'bridges: { cloud: { recipient: r, url: "mqtts://h", credentials_file: open.pem } }', '1:71 SECRET-MODE', 'chmod 600'],
    ['a registry that is not there', 'machines: none.yaml', '1:11 FILE-UNREADABLE', 'does not exist'],
    ['a password', 'bridges:\n  cloud: { recipient: r, url: "mqtts://h", password: hunter2 }', '2:44 SECRET-IN-FILE', 'password_file'],
    ['credentials', 'bridges: { cloud: { recipient: r, url: "mqtts://h", credentials: { user: u } } }', '1:53 SECRET-IN-FILE', 'credentials_file'],
    ['a token somewhere', 'listen: { admin: { token: abc } }', '1:20 SECRET-IN-FILE', 'token_file'],
    ['a password in an address', 'bridges: { cloud: { recipient: r, url: "mqtts://u:p@h" } }', '1:40 SECRET-IN-FILE', 'credentials_file'],
    ['a key in the text', 'listen: { admin: { tls: { cert: c, key: "-----BEGIN PRIVATE KEY-----" } } }', '1:41 SECRET-IN-FILE', '0600'],
    ['a certificate of a bridge without its key', 'bridges: { c: { recipient: r, url: "mqtts://h", tls: { cert: cert.pem } } }', '1:54 MISSING-KEY', 'needs its key'],
    ['a batch in 3.1.1 without the envelope', 'bridges: { c: { recipient: r, url: "mqtts://h", protocol: 4, batch: { messages: 10 } } }', '1:69 BAD-VALUE', 'envelope: true'],
    ['a WebSocket listener for everybody', 'listen: { recipients_ws: { host: 0.0.0.0 } }', '1:34 PLAIN-LISTENER', '127.0.0.1'],
    ['an origin with a path', 'listen: { recipients_ws: { origins: ["https://planner.example.com/map"] } }', '1:38 BAD-VALUE', 'an origin such as'],
    ['any origin', 'listen: { recipients_ws: { origins: ["*"] } }', '1:38 BAD-VALUE', 'an origin such as'],
    ['commands outside of down/', 'downlink: { r: { topics: ["up/{fleet}/{machine}/x"] } }', '1:27 DOWNLINK-TOPIC', 'does not begin with down/'],
    ['commands without a topic', 'downlink: { r: { topics: ["down/{fleet}/{machine}"] } }', '1:27 DOWNLINK-TOPIC', 'does not begin with down/'],
    ['commands to everything', 'downlink: { r: { topics: ["down/#"] } }', '1:27 DOWNLINK-TOPIC', 'does not begin with down/'],
    ['commands with a # amid', 'downlink: { r: { topics: ["down/+/+/#/x"] } }', '1:27 DOWNLINK-TOPIC', 'wildcard where none may be ("#")'],
    ['commands with half a wildcard', 'downlink: { r: { topics: ["down/+/SN+/x"] } }', '1:27 DOWNLINK-TOPIC', 'wildcard where none may be ("SN+")'],
    ['commands with a placeholder of a field', 'downlink: { r: { topics: ["down/{fleet}/{machine}/{stream}"] } }', '1:27 DOWNLINK-TOPIC', '{stream}'],
    ['commands with the placeholders in each other\'s place', 'downlink: { r: { topics: ["down/{machine}/{fleet}/x"] } }', '1:27 DOWNLINK-TOPIC', '{machine}'],
    ['commands with an empty level', 'downlink: { r: { topics: ["down/{fleet}//x"] } }', '1:27 DOWNLINK-TOPIC', 'empty level'],
    ['no commands', 'downlink: { r: { topics: [] } }', '1:26 BAD-VALUE', ''],
    ['commands that must arrive once', 'downlink: { r: { topics: ["down/+/+/x"], qos: 2 } }', '1:47 BAD-VALUE', '0, 1'],
    ['commands that wait for ever', 'downlink: { r: { topics: ["down/+/+/x"], ttl: 900d } }', '1:47 BAD-VALUE', '30d'],
    ['a bridge with commands that its recipient may not send', 'downlink: { r: { topics: ["down/{fleet}/{machine}/settings"] } }\nbridges: { c: { recipient: r, url: "mqtts://h", downlink: ["down/{fleet}/{machine}/#"] } }', '2:60 DOWNLINK-RIGHT', 'may not send all'],
    ['a bridge with commands of nobody', 'bridges: { c: { recipient: r, url: "mqtts://h", downlink: ["down/{fleet}/{machine}/x"] } }', '1:60 DOWNLINK-RIGHT', 'under `downlink:`'],
    ['a bridge with commands outside of down/', 'bridges: { c: { recipient: r, url: "mqtts://h", downlink: ["cmd/#"] } }', '1:60 DOWNLINK-TOPIC', 'does not begin'],
    ['a bridge in clear', 'bridges: { cloud: { recipient: r, url: "mqtt://mqtt.example.com" } }', '1:40 PLAIN-BRIDGE', 'mqtts'],
    ['trial for everybody', 'trial: true\nlisten: { admin: { host: 0.0.0.0, tls: { cert: cert.pem, key: key.pem } } }', '1:8 TRIAL', 'Remove'],
    ['too large a packet', 'limits: { packet_bytes: 99999999 }', '1:25 BAD-VALUE', '<= 1048576'],
    ['no map', '- a', '1:1 WRONG-TYPE', 'must be a map'],
  ])('%s', (_, text, at, says) => {
    const finding = refused(text)
    expect(finding.at).toBe(at)
    expect(finding.text).toContain(says)
  })

  test('a secret is not repeated', () => {
    for (const text of ['bridges: { c: { recipient: r, url: "mqtts://u:hunter2@h" } }', 'listen: { admin: { password: hunter2 } }']) expect(refused(text).text).not.toContain('hunter2')
    expect(JSON.stringify(loadGatewayText(FILE, '', ['listen.admin.token=hunter2']))).not.toContain('hunter2')
  })
})

describe('--set', () => {
  test('wins over the file and makes what is missing', () => {
    const config = load('listen: { terminals: { port: 1 } }', ['listen.terminals.port=1893', 'listen.admin.host=::1', 'proto=[a, b]', 'name=depot-8', 'trial=true', 'limits.connect_time=1s'])
    expect([config.listen.terminals.port, config.listen.admin.host, config.proto, config.name, config.trial, config.limits.connectTimeMs]).toEqual([1893, '::1', [join(folder, 'a'), join(folder, 'b')], 'depot-8', true, 1_000])
  })

  test.each([
    ['listen.terminals.prot=1', 'UNKNOWN-KEY'],
    ['listen.terminals.port=high', 'WRONG-TYPE'],
    ['listen.terminals.host=0.0.0.0', 'PLAIN-LISTENER'],
    ['nonsense', 'SET'],
    ['=1', 'SET'],
    ['__proto__.x=1', 'SET'],
    ['a..b=1', 'SET'],
  ])('%s is refused as %s, at the override', (set, code) => {
    const { findings } = loadGatewayText(FILE, 'listen: { terminals: { port: 1 } }', [set])
    expect(findings[0]?.code).toBe(code)
    expect(findings[0]?.place.file).toBe(`--set ${set.includes('=') ? set.slice(0, set.indexOf('=')) : set}`)
  })

  test('never throws', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), fc.constantFrom('', 'name=', 'listen.', 'limits.connections=', 'proto='), (text, prefix) => {
      expect(Array.isArray(loadGatewayText(FILE, '', [prefix + text]).findings)).toBe(true)
    }), { numRuns: 200 })
  })
})

test.each([
  ['127.0.0.1', true], ['127.8.8.8', true], ['::1', true], ['[::1]', true], ['localhost', true], ['::ffff:127.0.0.1', true],
  ['0.0.0.0', false], ['::', false], ['10.0.0.1', false], ['127.0.0.1.example.com', false], ['localhost.example.com', false], ['', false],
])('%s is loopback: %s', (host, loopback) => {
  expect(isLoopback(host)).toBe(loopback)
})
