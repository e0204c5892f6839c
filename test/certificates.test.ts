/** Certificates of a running gateway: replaced, broken, ended and revoked while terminals are connected. Made with `parapet pki`. */
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Certificates } from '../src/certificates.ts'
import { runCommand } from '../src/cli/command.ts'
import { makeCertificate, makeRevocationList } from '../src/cli/pki/x509.ts'
import type { GatewayConfig } from '../src/config/gateway.ts'
import { createGateway, type Gateway } from '../src/gateway.ts'
import { silentLog } from '../src/log.ts'
import { testIo } from './cli/io.ts'
import { Folder, until } from './e2e/stage.ts'

const DAY = 86_400_000

describe('a gateway with mutual TLS', () => {
  const folder = new Folder()
  const at = (name: string): string => join(folder.path, 'pki', name)
  const read = (name: string): string => readFileSync(at(name), 'utf8')
  const clients: MqttClient[] = []
  let gateway: Gateway
  let port = 0

  async function pki(...words: string[]): Promise<void> {
    const io = testIo('', {}, folder.path)
    expect([await runCommand(['pki', ...words], io, { pki: () => import('../src/cli/pki.ts') }), io.err()]).toEqual([0, ''])
  }

  async function terminal(id: string): Promise<MqttClient> {
    const client = await connectAsync({
      protocol: 'mqtts', host: '127.0.0.1', port, protocolVersion: 4, clientId: 'terminal', reconnectPeriod: 0, connectTimeout: 3_000,
      ca: read('ca.crt'), cert: read(`machine-${id}.crt`), key: read(`machine-${id}.key`),
    })
    clients.push(client)
    return client
  }

  /** Of the certificate that the gateway shows now. */
  async function serial(): Promise<string> {
    const socket = connect({ host: '127.0.0.1', port, ca: read('ca.crt'), cert: read('machine-SN-1001.crt'), key: read('machine-SN-1001.key') })
    const found = await new Promise<string>((resolve) => {
      socket.on('error', () => resolve('')).on('secureConnect', () => resolve(socket.getPeerX509Certificate()?.serialNumber ?? ''))
    })
    socket.destroy()
    return found
  }

  const codes = (): string[] => gateway.control.health().reasons.map(({ code }) => code).filter((code) => /^(?:CERTIFICATE|CRL)/.test(code))

  beforeAll(async () => {
    await pki('ca')
    await pki('server', '--host', '127.0.0.1')
    await pki('machine', 'SN-1001')
    await pki('machine', 'SN-1002')
    const tls = `{ cert: ${at('server.crt')}, key: ${at('server.key')}, ca: ${at('ca.crt')}, crl: ${at('ca.crl')} }`
    gateway = await createGateway(folder.config([`listen.terminals.tls=${tls}`, `listen.recipients.tls=${tls}`, `listen.admin.tls=${tls}`]))
    port = gateway.addresses.terminals.port
  })
  afterAll(async () => {
    for (const client of clients) client.end(true)
    await gateway.close()
    folder.remove()
  })

  test('a new certificate is shown within seconds, a broken one never, and nobody is dropped', async () => {
    const client = await terminal('SN-1001')
    const first = await serial()
    expect(first).toBe(new X509Certificate(read('server.crt')).serialNumber)
    await pki('server', '--host', '127.0.0.1', '--again')
    const second = new X509Certificate(read('server.crt')).serialNumber
    await until(async () => (await serial()) === second, 'the new certificate', 10_000)

    copyFileSync(at('server.key'), at('server.key.kept'))
    writeFileSync(at('server.key'), makeCertificate({ name: 'x', use: 'server', fromMs: Date.now(), untilMs: Date.now() + DAY }).key)
    await until(() => codes().includes('CERTIFICATE-REFUSED'), 'the refusal', 10_000)
    expect(await serial()).toBe(second)
    rmSync(at('server.key'))
    await gateway.reload()
    expect(codes().filter((code) => code !== 'CERTIFICATE-REFUSED')).toEqual([])
    expect(gateway.control.health().reasons.find(({ code }) => code === 'CERTIFICATE-REFUSED')?.text).toContain('server.key')
    copyFileSync(at('server.key.kept'), at('server.key'))
    await until(() => codes().length === 0, 'the mended key', 10_000)
    expect([client.connected, await serial()]).toEqual([true, second])
  })

  test('who is revoked is out within seconds and stays out, and nobody else', async () => {
    const [good, bad] = [clients[0]!.connected ? clients[0]! : await terminal('SN-1001'), await terminal('SN-1002')]
    let closed = 0
    good.on('close', () => closed++)
    await pki('revoke', 'SN-1002')
    const began = performance.now()
    await until(() => !bad.connected, 'the end of the revoked one', 20_000)
    expect(performance.now() - began).toBeLessThan(60_000)
    // [RFC 8446, 4.4.2] A client learns what became of its certificate only after its side of the handshake.
    const closes = async (id: string): Promise<boolean> => {
      const socket = connect({ host: '127.0.0.1', port, ca: read('ca.crt'), cert: read(`machine-${id}.crt`), key: read(`machine-${id}.key`) })
      const closed = await new Promise<boolean>((resolve) => {
        socket.on('error', () => resolve(true)).on('close', () => resolve(true)).on('secureConnect', () => void setTimeout(() => resolve(false), 200))
      })
      socket.destroy()
      return closed
    }
    expect([await closes('SN-1002'), await closes('SN-1001')]).toEqual([true, false])
    expect([closed, good.connected]).toEqual([0, true])
  })
})

describe('what readiness says', () => {
  const now = Date.UTC(2026, 10, 20)
  const ca = makeCertificate({ name: 'CA', use: 'authority', fromMs: now - DAY, untilMs: now + 1_000 * DAY })
  const authority = { cert: ca.cert, key: createPrivateKey(ca.key) }
  const material = (days: number, listDays: number) => ({
    ...makeCertificate({ name: 'gateway', use: 'server', fromMs: now - 100 * DAY, untilMs: now + days * DAY }, authority), ca: ca.cert,
    crl: makeRevocationList(authority, [], { number: 1, fromMs: now - 100 * DAY, untilMs: now + listDays * DAY }),
  })
  const folder = new Folder()
  afterEach(() => folder.remove())

  test.each<[number, number, string[]]>([
    [400, 400, []],
    [15, 2, []],
    [13, 2, ['CERTIFICATE-EXPIRES warning']],
    [1 / 24, 0.9, ['CERTIFICATE-EXPIRES warning', 'CRL-EXPIRES warning']],
    [-1, 400, ['CERTIFICATE-EXPIRED error']],
    [400, -1, ['CRL-EXPIRED error']],
  ])('certificate for %d days more, list for %d: %j', (days, listDays, expected) => {
    const plain = { host: '127.0.0.1', port: 0, tls: undefined, loopback: true }
    const listen: GatewayConfig['listen'] = { terminals: { ...plain, tls: material(days, listDays) }, recipients: plain, admin: plain }
    const said: string[] = []
    new Certificates(listen, silentLog, () => now).tell((code, severity, text, mend) => {
      said.push(`${code} ${severity}`)
      expect(`${text} ${mend}`).toMatch(/terminals.*read by (?:itself|themselves)\.$/)
    })
    expect(said).toEqual(expected)
  })
})
