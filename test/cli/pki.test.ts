/** The trial authority: what it makes is checked by Node, by openssl where there is one, and by real handshakes with the listener. */
import { execFileSync, spawnSync } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { certificateId, readRevocations } from '../../src/broker/revocation.ts'
import { listen } from '../../src/broker/listener.ts'
import type { Listener } from '../../src/broker/listener.ts'
import { runCommand } from '../../src/cli/command.ts'
import { makeCertificate, makeRevocationList } from '../../src/cli/pki/x509.ts'
import { testIo } from './io.ts'

const folder = mkdtempSync(join(tmpdir(), 'parapet-pki-'))
const table = { pki: () => import('../../src/cli/pki.ts') }
const file = (name: string): string => join(folder, 'pki', name)
const text = (name: string): string => readFileSync(file(name), 'utf8')
const certificate = (name: string): X509Certificate => new X509Certificate(text(name))
const hasOpenssl = spawnSync('openssl', ['version']).status === 0

async function pki(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = testIo('', {}, folder)
  const code = await runCommand(['pki', ...words], io, table)
  return { code, out: io.out(), err: io.err() }
}

beforeAll(async () => {
  for (const words of [['ca'], ['server', '--host', 'depot-7.example', '--host', '127.0.0.1', '--host', '2001:db8::7'], ['machine', 'SN-1'], ['machine', 'Bühne 7, links'], ['recipient', 'oem-cloud']]) {
    expect(await pki(...words)).toMatchObject({ code: 0, err: '' })
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('certificates', () => {
  test.each([
    ['server', 'CN=depot-7.example', 'DNS:depot-7.example, IP Address:127.0.0.1, IP Address:2001:DB8:0:0:0:0:0:7'],
    ['machine-SN-1', 'CN=SN-1', 'URI:urn:parapet:machine:SN-1'],
    ['machine-B%C3%BChne%207%2C%20links', 'CN=Bühne 7\\, links', 'URI:urn:parapet:machine:B%C3%BChne%207%2C%20links'],
    ['recipient-oem-cloud', 'CN=oem-cloud', 'URI:urn:parapet:recipient:oem-cloud'],
  ])('%s is signed by the authority and names %s', (name, subject, names) => {
    const [made, ca] = [certificate(`${name}.crt`), certificate('ca.crt')]
    expect([made.verify(ca.publicKey), made.checkIssued(ca), ca.verify(ca.publicKey), ca.ca, made.ca]).toEqual([true, true, true, true, false])
    expect([made.subject, made.subjectAltName]).toEqual([subject, names])
    expect(made.validToDate.getTime() - Date.now()).toBeGreaterThan(364 * 86_400_000)
  })

  test('keys and all else are for nobody else to read', () => {
    expect(statSync(join(folder, 'pki')).mode & 0o777).toBe(0o700)
    expect(readdirSync(join(folder, 'pki')).filter((name) => (statSync(file(name)).mode & 0o777) !== 0o600)).toEqual([])
  })

  test.runIf(hasOpenssl)('openssl finds nothing to object to, in its strict mode', () => {
    const names = readdirSync(join(folder, 'pki')).filter((name) => name.endsWith('.crt') && name !== 'ca.crt')
    const said = execFileSync('openssl', ['verify', '-x509_strict', '-crl_check', '-CAfile', file('ca.crt'), '-CRLfile', file('ca.crl'), ...names.map(file)], { encoding: 'utf8' })
    expect(said.trim().split('\n').filter((line) => line.endsWith(': OK')).length).toBe(names.length)
    for (const [purpose, name, status] of [['sslclient', 'machine-SN-1', 0], ['sslserver', 'machine-SN-1', 2], ['sslserver', 'server', 0], ['sslclient', 'server', 2]] as const) {
      expect(spawnSync('openssl', ['verify', '-purpose', purpose, '-CAfile', file('ca.crt'), file(`${name}.crt`)]).status).toBe(status)
    }
  })

  test('dates after 2049 are read as they were meant', () => {
    const untilMs = Date.UTC(2061, 4, 6, 7, 8, 9)
    expect(new X509Certificate(makeCertificate({ name: 'x', use: 'authority', fromMs: 0, untilMs }).cert).validToDate.getTime()).toBe(untilMs)
  })
})

describe('the revocation list', () => {
  let listener: Listener
  let arrivals: string[] = []

  beforeAll(async () => {
    listener = await listen({
      name: 'terminals', host: '127.0.0.1', port: 0, tls: { cert: text('server.crt'), key: text('server.key'), ca: text('ca.crt'), crl: text('ca.crl') },
      accept: (socket, { certificate: name }) => {
        arrivals.push(`${name}`)
        socket.resume().on('error', () => undefined)
      },
      count: () => undefined, log: { info: () => undefined, warn: () => undefined },
    })
  })
  afterAll(() => listener.close(10))

  /** Whether the gateway took the connection. */
  async function enters(name: string): Promise<boolean> {
    arrivals = []
    const socket = connect({ host: '127.0.0.1', servername: 'depot-7.example', port: listener.port, ca: text('ca.crt'), cert: text(`${name}.crt`), key: text(`${name}.key`) })
    const said = await new Promise<boolean>((resolve) => {
      socket.on('error', () => resolve(false)).on('close', () => resolve(false)).on('secureConnect', () => void setTimeout(() => resolve(arrivals.length === 1), 60))
    })
    socket.destroy()
    return said
  }

  test('keeps out who is on it, once the listener has it', async () => {
    expect([await enters('machine-SN-1'), await enters('recipient-oem-cloud')]).toEqual([true, true])
    const old = text('machine-SN-1.crt')
    expect(await pki('machine', 'SN-1')).toMatchObject({ code: 1, err: expect.stringContaining('--again') as string })
    expect((await pki('machine', 'SN-1', '--again')).code).toBe(0)
    const revoked = await pki('revoke', 'SN-1', '--format', 'json')
    expect((JSON.parse(revoked.out) as { revoked: string[] }).revoked).toEqual([new X509Certificate(old).serialNumber, certificate('machine-SN-1.crt').serialNumber])
    const list = readRevocations(text('ca.crl'))
    expect([old, text('machine-SN-1.crt'), text('recipient-oem-cloud.crt')].map((cert) => list.ids.has(certificateId(new X509Certificate(cert).raw)))).toEqual([true, true, false])
    expect(Math.abs(list.nextUpdateMs! - certificate('ca.crt').validToDate.getTime())).toBeLessThan(1_001)

    listener.renew({ cert: text('server.crt'), key: text('server.key'), ca: text('ca.crt'), crl: text('ca.crl') })
    expect([await enters('machine-SN-1'), await enters('recipient-oem-cloud')]).toEqual([false, true])
    if (hasOpenssl) {
      const said = spawnSync('openssl', ['verify', '-crl_check', '-CAfile', file('ca.crt'), '-CRLfile', file('ca.crl'), file('machine-SN-1.crt')], { encoding: 'utf8' })
      expect(said.stderr + said.stdout).toContain('certificate revoked')
      expect(execFileSync('openssl', ['crl', '-in', file('ca.crl'), '-CAfile', file('ca.crt'), '-noout', '-text'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })).toMatch(/CRL Number:\s+3/)
    }
    expect((await pki('machine', 'SN-1', '--again')).code).toBe(0)
    expect(await enters('machine-SN-1')).toBe(true)
  })

  test('revoking goes on where it was interrupted', async () => {
    expect((await pki('machine', 'SN-9')).code).toBe(0)
    const before = text('ca.crl')
    expect((await pki('revoke', 'SN-9')).code).toBe(0)
    writeFileSync(file('ca.crl'), before)
    expect((await pki('revoke', 'SN-9')).code).toBe(0)
    expect(readRevocations(text('ca.crl')).ids.has(certificateId(certificate('machine-SN-9.crt').raw))).toBe(true)
  })

  test.each(['', 'none', '-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----', '-----BEGIN X509 CRL-----\nMIQ=\n-----END X509 CRL-----'])('%j is none', (pem) => {
    expect(() => readRevocations(pem)).toThrow(expect.objectContaining({ code: 'CRL' }) as Error)
  })

  test('a list that was cut anywhere is none', () => {
    const made = makeRevocationList({ cert: text('ca.crt'), key: createPrivateKey(text('ca.key')) }, [{ serial: '01', atMs: 0 }], { number: 1, fromMs: 0, untilMs: 1 })
    const der = Buffer.from(made.replace(/-----[^-]+-----|\n/g, ''), 'base64')
    for (let length = 0; length < der.length; length++) {
      const cut = `-----BEGIN X509 CRL-----\n${der.subarray(0, length).toString('base64')}\n-----END X509 CRL-----`
      expect(() => readRevocations(cut)).toThrow(expect.objectContaining({ code: 'CRL' }) as Error)
    }
  })
})

test.each<[string, string[], number, RegExp]>([
  ['a second authority', ['ca'], 1, /There is an authority/],
  ['a server without a name', ['server'], 2, /--host/],
  ['a name that is none', ['server', '--host', 'a b', '--again'], 2, /host name/],
  ['a machine without an id', ['machine'], 2, /needs an ID/],
  ['an id with a slash', ['machine', 'a/b'], 2, /without "\/"/],
  ['longer than the authority', ['machine', 'SN-2', '--days', '9000'], 1, /The authority itself ends/],
  ['days that are none', ['machine', 'SN-2', '--days', '0'], 2, /whole number/],
  ['revoking what was not made', ['revoke', 'SN-404'], 1, /No certificate of this name/],
  ['no authority', ['machine', 'SN-2', '--dir', 'elsewhere'], 1, /parapet pki ca/],
])('%s is refused with a word on how to mend it', async (_what, words, code, words2) => {
  const said = await pki(...words)
  expect([said.code, said.err]).toEqual([code, expect.stringMatching(words2)])
})
