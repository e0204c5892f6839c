import { createPrivateKey, X509Certificate } from 'node:crypto'
import { connect as connectPlain } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls, getCACertificates, setDefaultCACertificates } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { generate } from 'mqtt-packet'
import { afterEach, describe, expect, it } from 'vitest'
import type { Via } from '../../src/broker/identify.ts'
import { listen } from '../../src/broker/listener.ts'
import type { Listener, ListenerOptions } from '../../src/broker/listener.ts'
import { makeCertificate as issue, makeRevocationList } from '../../src/cli/pki/x509.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import { makeCertificate } from './certificates.ts'
import { machine, pause, startIngress, until, witness } from './stage.ts'

const ca = makeCertificate({ names: ['Trial CA'], ca: true })
const otherCa = makeCertificate({ names: ['Other CA'], ca: true })
const server = makeCertificate({ names: ['gateway'], issuer: ca, ip: [127, 0, 0, 1] })
const tls = { cert: server.cert, key: server.key, ca: ca.cert }

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0)) await each.close()
})

async function start(options: Partial<ListenerOptions> = {}) {
  const seeing = witness()
  const arrivals: Via[] = []
  const sockets: Duplex[] = []
  const listener: Listener = await listen({
    name: 'terminals', host: '127.0.0.1', port: 0, count: seeing.count, log: seeing.log,
    accept: (socket, via) => {
      arrivals.push(via)
      sockets.push(socket)
      socket.on('error', () => undefined)
      socket.resume()
    },
    ...options,
  })
  open.push({ close: () => listener.close(10) })
  return { ...seeing, listener, arrivals, sockets }
}

/** Resolves with `open` when the server took the connection, else `closed`. TLS 1.3 clients learn of a refusal only after the handshake. */
async function dial(port: number, options: ConnectionOptions): Promise<'open' | 'closed'> {
  return new Promise((resolve) => {
    const socket = connectTls({ host: '127.0.0.1', port, ca: ca.cert, ...options })
    open.push({ close: () => socket.destroy() })
    socket.on('error', () => resolve('closed'))
    socket.on('close', () => resolve('closed'))
    socket.on('secureConnect', () => void setTimeout(() => resolve('open'), 60))
  })
}

describe('without TLS', () => {
  it.each(['127.0.0.1', 'localhost', '::1'])('on %s', async (host) => {
    const { listener, arrivals } = await start({ host })
    connectPlain(listener.port, listener.host).end()
    await until(() => arrivals.length === 1)
    expect(arrivals[0]).toEqual({ plain: true, certificate: undefined, address: listener.host })
  })

  it.each(['0.0.0.0', '::', '192.0.2.1', 'gateway.example', '127.0.0.1.example'])('not on %s', async (host) => {
    const refused = start({ host })
    await expect(refused).rejects.toThrow(GatewayError)
    await expect(refused).rejects.toMatchObject({ code: 'LISTEN-PLAIN' })
  })

  it('a port in use is an error with a mend', async () => {
    const { listener } = await start()
    await expect(start({ port: listener.port })).rejects.toMatchObject({ code: 'LISTEN', mend: expect.stringContaining('port') as string })
  })

  it('takes no more connections than it may', async () => {
    const { listener, arrivals, of } = await start({ connections: 2 })
    const sockets = Array.from({ length: 4 }, () => connectPlain(listener.port, '127.0.0.1').on('error', () => undefined))
    await until(() => of('kill.connections') === 2)
    expect(arrivals.length).toBe(2)
    for (const socket of sockets) socket.destroy()
  })

  it('closes what is open after the grace', async () => {
    const { listener, sockets } = await start()
    connectPlain(listener.port, '127.0.0.1').on('error', () => undefined)
    await until(() => sockets.length === 1)
    const from = performance.now()
    await listener.close(100)
    expect(performance.now() - from).toBeGreaterThan(90)
    expect(sockets[0]!.destroyed).toBe(true)
  })
})

describe('with TLS', () => {
  const of = (names: string[], uris: string[] = [], issuer = ca) => makeCertificate({ names, uris, issuer })

  it.each([
    ['a common name', of(['SN-1']), 'SN-1'],
    ['a SAN URI before the common name', of(['SN-1'], ['urn:awp:SN-2']), 'urn:awp:SN-2'],
    ['a SAN URI alone', of([], ['urn:awp:SN-2']), 'urn:awp:SN-2'],
  ])('%s is the name', async (_what, { cert, key }, name) => {
    const { listener, arrivals } = await start({ tls })
    expect(await dial(listener.port, { cert, key })).toBe('open')
    expect(arrivals).toEqual([{ plain: false, certificate: name, address: '127.0.0.1' }])
  })

  it.each([
    ['no certificate', undefined, {}],
    ['one of another CA', of(['SN-1'], [], otherCa), {}],
    ['a self-signed one', makeCertificate({ names: ['SN-1'] }), {}],
    ['an expired one', makeCertificate({ names: ['SN-1'], issuer: ca, expired: true }), {}],
    ['two common names', of(['SN-1', 'SN-2']), {}],
    ['two SAN URIs', of(['SN-1'], ['urn:awp:SN-1', 'urn:awp:SN-2']), {}],
    ['a SAN URI with a comma and a quote in it', of(['SN-1'], ['urn:a", URI:urn:awp:SN-2']), {}],
    ['no name', of([]), {}],
    ['TLS 1.2', of(['SN-1']), { maxVersion: 'TLSv1.2' as const }],
  ])('%s gets no connection', async (_what, certificate, more) => {
    const { listener, arrivals } = await start({ tls })
    expect(await dial(listener.port, { ...(certificate === undefined ? {} : { cert: certificate.cert, key: certificate.key }), ...more })).toBe('closed')
    expect(arrivals).toEqual([])
  })

  it('without a CA nobody has a certificate, and nobody is plain', async () => {
    const { listener, arrivals } = await start({ tls: { cert: server.cert, key: server.key } })
    expect(await dial(listener.port, {})).toBe('open')
    expect(arrivals).toEqual([{ plain: false, certificate: undefined, address: '127.0.0.1' }])
  })

  it('bytes that are not TLS do no harm', async () => {
    const { listener, arrivals, of: count } = await start({ tls })
    connectPlain(listener.port, '127.0.0.1').on('error', () => undefined).end('GET / HTTP/1.1\r\n\r\n')
    await until(() => count('connect.refused') === 1)
    expect(arrivals).toEqual([])
  })

  it('takes new certificates for new connections and keeps the open ones', async () => {
    const { listener, arrivals, sockets } = await start({ tls })
    const { cert, key } = of(['SN-1'])
    expect(await dial(listener.port, { cert, key })).toBe('open')
    const renewed = makeCertificate({ names: ['gateway'], issuer: otherCa, ip: [127, 0, 0, 1] })
    listener.renew({ cert: renewed.cert, key: renewed.key, ca: otherCa.cert })
    expect(await dial(listener.port, { cert, key })).toBe('closed')
    const next = of(['SN-2'], [], otherCa)
    expect(await dial(listener.port, { cert: next.cert, key: next.key, ca: otherCa.cert })).toBe('open')
    expect([arrivals.length, sockets[0]!.destroyed]).toEqual([2, false])
  })

  describe('a file of authorities', () => {
    /** Stands for a public authority: whoever is in no file of ours is signed by one of those. */
    const everybody = getCACertificates('default')
    afterEach(() => setDefaultCACertificates(everybody))

    it.each([
      ['that is empty', '', 'LISTEN-TLS'],
      ['without a certificate', '# our authority\n', 'LISTEN-TLS'],
      ['of which the last certificate is cut off', `${ca.cert}${otherCa.cert.slice(0, 300)}`, 'LISTEN-TLS'],
      ['of which a certificate is none', ca.cert.replace(/\n.{20}/, `\n${'A'.repeat(20)}`), 'LISTEN-TLS'],
    ])('%s lets nobody in: it is refused and changes nothing', async (_what, wrong, code) => {
      setDefaultCACertificates([otherCa.cert])
      const { listener, arrivals } = await start({ tls })
      expect(() => listener.renew({ ...tls, ca: wrong })).toThrow(expect.objectContaining({ code }) as Error)
      const stranger = of(['SN-1'], [], otherCa)
      expect(await dial(listener.port, { cert: stranger.cert, key: stranger.key })).toBe('closed')
      const { cert, key } = of(['SN-1'])
      expect(await dial(listener.port, { cert, key })).toBe('open')
      expect(arrivals.length).toBe(1)
      await expect(start({ tls: { ...tls, ca: wrong } })).rejects.toMatchObject({ code })
    })

    it('may hold several, with words between them', async () => {
      const { listener } = await start({ tls: { ...tls, ca: `# the old one\r\n${ca.cert.replaceAll('\n', '\r\n')}# the next one\n${otherCa.cert}` } })
      for (const issuer of [ca, otherCa]) {
        const { cert, key } = of(['SN-1'], [], issuer)
        expect(await dial(listener.port, { cert, key })).toBe('open')
      }
    })
  })

  describe('when certificates are revoked', () => {
    const now = Date.now()
    const validity = { fromMs: now - 3_600_000, untilMs: now + 3_600_000 }
    const made = issue({ name: 'Trial CA', use: 'authority', ...validity })
    const authority = { cert: made.cert, key: createPrivateKey(made.key) }
    const client = (name: string) => issue({ name, use: 'client', ...validity }, authority)
    const gateway = issue({ name: 'gateway', use: 'server', addresses: ['127.0.0.1'], ...validity }, authority)
    const listOf = (...certificates: { readonly cert: string }[]): string => makeRevocationList(authority, certificates.map(({ cert }) => ({ serial: new X509Certificate(cert).serialNumber, atMs: now })), { number: 1, ...validity })
    const material = (crl: string, { cert, key } = gateway) => ({ cert, key, ca: made.cert, crl })

    it('those who are in with them are out at once, and nobody else', async () => {
      const { listener, sockets, of: count } = await start({ tls: material(listOf()) })
      const people = Array.from({ length: 12 }, (_, index) => client(`SN-${index}`))
      for (const { cert, key } of people) expect(await dial(listener.port, { cert, key, ca: made.cert })).toBe('open')
      listener.renew(material(listOf(people[3]!, people[7]!)))
      await until(() => sockets.filter((socket) => socket.destroyed).length === 2)
      await pause(20)
      expect(sockets.map((socket) => socket.destroyed)).toEqual(people.map((_, index) => index === 3 || index === 7))
      expect(count('kill.revoked')).toBe(2)
      for (const [index, { cert, key }] of people.entries()) expect(await dial(listener.port, { cert, key, ca: made.cert })).toBe(index === 3 || index === 7 ? 'closed' : 'open')
    })

    it('a new certificate of the gateway drops nobody', async () => {
      const { listener, sockets } = await start({ tls: material(listOf()) })
      const { cert, key } = client('SN-1')
      for (let index = 0; index < 5; index++) expect(await dial(listener.port, { cert, key, ca: made.cert })).toBe('open')
      for (let index = 0; index < 10; index++) listener.renew(material(listOf(), issue({ name: 'gateway', use: 'server', addresses: ['127.0.0.1'], ...validity }, authority)))
      await pause(50)
      expect(sockets.filter((socket) => socket.destroyed).length).toBe(0)
      expect(await dial(listener.port, { cert, key, ca: made.cert })).toBe('open')
    })

    it('no session is resumed with them', async () => {
      const { listener, arrivals } = await start({ tls: material(listOf()) })
      const { cert, key } = client('SN-1')
      const ticket = await new Promise<Buffer>((resolve) => {
        const socket = connectTls({ host: '127.0.0.1', port: listener.port, ca: made.cert, cert, key })
        open.push({ close: () => socket.destroy() })
        socket.on('session', resolve).on('error', () => undefined)
      })
      // The ticket is good for as long as nothing happens.
      expect(await dial(listener.port, { cert, key, ca: made.cert, session: ticket })).toBe('open')
      listener.renew(material(listOf({ cert })))
      const before = arrivals.length
      expect(await dial(listener.port, { ca: made.cert, session: ticket })).toBe('closed')
      expect(await dial(listener.port, { cert, key, ca: made.cert, session: ticket })).toBe('closed')
      expect(arrivals.length).toBe(before)
    })

    describe('with an authority between', () => {
      const between = makeCertificate({ names: ['Depot CA'], ca: true, issuer: ca })
      const below = (name: string) => {
        const { cert, key } = makeCertificate({ names: [name], issuer: between })
        return { cert: `${cert}${between.cert}`, key }
      }
      const listBy = ({ cert, privateKey }: typeof ca, ...certificates: { readonly cert: string }[]): string => makeRevocationList(
        { cert, key: privateKey }, certificates.map((one) => ({ serial: new X509Certificate(one.cert).serialNumber, atMs: now })), { number: 1, ...validity },
      )
      const lists = (...certificates: { readonly cert: string }[]) => ({ ...tls, crl: listBy(ca, ...certificates) + listBy(between) })

      it('whoever it signed is out with it', async () => {
        const { listener, sockets } = await start({ tls: lists() })
        for (const person of [below('SN-1'), of(['SN-2'])]) expect(await dial(listener.port, { ...person, ca: ca.cert })).toBe('open')
        listener.renew(lists(of(['SN-3'])))
        await pause(50)
        expect(sockets.map((socket) => socket.destroyed)).toEqual([false, false])
        listener.renew(lists(between))
        await until(() => sockets[0]!.destroyed)
        await pause(20)
        expect(sockets[1]!.destroyed).toBe(false)
        expect(await dial(listener.port, { ...below('SN-1'), ca: ca.cert })).toBe('closed')
      })

      it('and who came in by a resumed session, which does not name it, has to come again', async () => {
        const { listener, sockets, arrivals } = await start({ tls: lists() })
        const [person, direct] = [below('SN-1'), of(['SN-2'])]
        for (const { cert, key } of [person, direct]) {
          const session = await new Promise<Buffer>((resolve) => {
            const socket = connectTls({ host: '127.0.0.1', port: listener.port, ca: ca.cert, cert, key })
            socket.on('error', () => undefined).on('session', (ticket) => {
              socket.destroy()
              resolve(ticket)
            })
          })
          expect(await dial(listener.port, { cert, key, ca: ca.cert, session })).toBe('open')
        }
        expect([arrivals.map(({ certificate }) => certificate), (sockets[1] as TLSSocket).isSessionReused()]).toEqual([['SN-1', 'SN-1', 'SN-2', 'SN-2'], true])
        listener.renew(lists(between))
        await until(() => sockets[1]!.destroyed)
        await pause(20)
        expect(sockets[3]!.destroyed).toBe(false)
      })
    })

    it('an authority without a list of its own is refused, for nobody whose certificate it signed would come in', async () => {
      const { listener } = await start({ tls: material(listOf()) })
      const foreign = makeRevocationList({ cert: otherCa.cert, key: otherCa.privateKey }, [], { number: 1, ...validity })
      for (const [authorities, crl] of [[made.cert, foreign], [`${made.cert}${otherCa.cert}`, listOf()]] as const) {
        expect(() => listener.renew({ ...material(crl), ca: authorities })).toThrow(expect.objectContaining({ code: 'CRL' }) as Error)
      }
      listener.renew({ ...material(listOf() + foreign), ca: `${made.cert}${otherCa.cert}` })
      for (const { cert, key } of [client('SN-1'), of(['SN-2'], [], otherCa)]) expect(await dial(listener.port, { cert, key, ca: made.cert })).toBe('open')
    })

    it.each<[string, Parameters<Listener['renew']>[0], string]>([
      ['a key that is not the certificate\'s', { ...material(listOf()), key: client('x').key }, 'LISTEN-TLS'],
      ['half a certificate', { ...material(listOf()), cert: gateway.cert.slice(0, 200) }, 'LISTEN-TLS'],
      ['no revocation list', { ...material(listOf()), crl: 'none' }, 'LISTEN-TLS'],
    ])('%s is refused and changes nothing', async (_what, wrong, code) => {
      const { listener } = await start({ tls: material(listOf()) })
      const { cert, key } = client('SN-1')
      expect(() => listener.renew(wrong)).toThrow(expect.objectContaining({ code }) as Error)
      expect(await dial(listener.port, { cert, key, ca: made.cert })).toBe('open')
      await expect(start({ tls: wrong })).rejects.toMatchObject({ code })
    })
  })

  it('resets further connections of an address before the handshake, and takes them again after a rest', async () => {
    const { listener, arrivals, of: count } = await start({ tls, perAddress: { perSecond: 50, burst: 3 } })
    const { cert, key } = of(['SN-1'])
    const answers = await Promise.all(Array.from({ length: 8 }, () => dial(listener.port, { cert, key })))
    expect(answers.filter((answer) => answer === 'open').length).toBe(arrivals.length)
    expect(arrivals.length).toBeLessThanOrEqual(5)
    expect(count('kill.connect_rate')).toBe(8 - arrivals.length)
    await pause(100)
    expect(await dial(listener.port, { cert, key })).toBe('open')
  })

  it('a terminal is its certificate, whatever its CONNECT says', async () => {
    const stage = await startIngress()
    stage.machines.set('SN-3', machine('SN-3', { certificate: 'urn:awp:SN-3' }))
    open.push(stage)
    const { listener } = await start({ tls, accept: stage.ingress.accept })
    const { cert, key } = of(['SN-1'], ['urn:awp:SN-3'])
    const socket = connectTls({ host: '127.0.0.1', port: listener.port, ca: ca.cert, cert, key }).on('error', () => undefined)
    open.push({ close: () => socket.destroy() })
    socket.write(Buffer.concat([
      generate({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: 'SN-2', username: 'SN-2', keepalive: 0 }),
      generate({ cmd: 'publish', topic: 'up/north/SN-2/status', payload: 'x', qos: 0, dup: false, retain: false }),
    ]))
    await until(() => stage.seen.length === 1)
    await pause(10)
    expect(stage.seen[0]?.machine).toBe('SN-3')
  })
})
