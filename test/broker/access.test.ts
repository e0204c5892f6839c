/**
 * Nobody is somebody else: random tries of one machine or recipient to publish, subscribe, take over and leave a will as another, by
 * password and by certificate, over real sockets. Each try is judged by what came of it, and the same judge sees the deeds of the
 * real owner, so that a judge who sees nothing is found out.
 *
 * `PARAPET_RUNS=1000 npx vitest run test/broker/access.test.ts` is the long form; PARAPET_SEED repeats a run.
 */
import { createPrivateKey, randomUUID, scryptSync, X509Certificate } from 'node:crypto'
import { connect as connectPlain } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import fc from 'fast-check'
import type { Packet } from 'mqtt-packet'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RecipientAccount, Via } from '../../src/broker/identify.ts'
import { listen } from '../../src/broker/listener.ts'
import type { Listener } from '../../src/broker/listener.ts'
import { makeCertificate as issue, makeRevocationList } from '../../src/cli/pki/x509.ts'
import { makeCertificate } from './certificates.ts'
import { account, machine, pause, publishPacket, RawClient, record, startEgress, startIngress } from './stage.ts'
import type { EgressStage, IngressStage } from './stage.ts'

const runs = Math.min(Number(process.env.PARAPET_RUNS ?? 200), 1_000)
const seed = process.env.PARAPET_SEED === undefined ? undefined : Number(process.env.PARAPET_SEED)

const ca = makeCertificate({ names: ['Trial CA'], ca: true })
const server = makeCertificate({ names: ['gateway'], issuer: ca, ip: [127, 0, 0, 1] })
const tls = { cert: server.cert, key: server.key, ca: ca.cert }

type Room = 'terminals' | 'recipients'
type Proof = 'password' | 'certificate'
const DEEDS = ['publish', 'subscribe', 'take over', 'will'] as const

interface Try {
  readonly room: Room
  readonly proof: Proof
  readonly deed: (typeof DEEDS)[number]
  /** Which of the forged names, client ids, topics and filters below. */
  readonly name: number
  readonly clientId: number
  readonly topic: number
  readonly filter: number
}

const tries: fc.Arbitrary<Try> = fc.record({
  room: fc.constantFrom<Room>('terminals', 'recipients'), proof: fc.constantFrom<Proof>('password', 'certificate'), deed: fc.constantFrom(...DEEDS),
  name: fc.nat({ max: 5 }), clientId: fc.nat({ max: 4 }), topic: fc.nat({ max: 4 }), filter: fc.nat({ max: 9 }),
})

/** What A may put into the user name when it is after V. */
const names = (a: string, v: string): (string | undefined)[] => [a, v, undefined, '', `${v}/modem`, `${v} `]
const clientIds = (v: string): string[] => ['modem', `${v}/modem`, v, '', `${v}/`]
const topics = (v: string): string[] => [`up/north/${v}/status`, `down/north/${v}/command`, `out/own-${v}/x`, v, `up/north/${v}/session`]
const filters = (v: string): string[] => [`down/north/${v}/#`, 'down/north/+/#', 'down/#', '#', '+/+/+/#', `$share/g/down/north/${v}/#`, `out/own-${v}/+`, `out/own-${v}/x`, 'out/#', 'out/+/x']

describe(`of ${runs} random tries to be somebody else`, () => {
  const closing: (() => unknown)[] = []
  let ingress: IngressStage
  let egress: EgressStage
  const ports = new Map<string, number>()
  const arrived = new Map<string, RecipientAccount>()
  let addresses = 0
  let number = 0

  beforeAll(async () => {
    ingress = await startIngress()
    egress = await startEgress()
    for (const [room, accept] of [['terminals', ingress.ingress.accept], ['recipients', egress.egress.accept]] as const) {
      for (const proof of ['password', 'certificate'] as const) {
        const listener = await listen({
          name: room, host: '127.0.0.1', port: 0, tls: proof === 'password' ? { cert: tls.cert, key: tls.key } : tls, count: () => undefined, log: ingress.log,
          // Each from an address of its own: no try is stopped by the failures of others.
          accept: (socket: Duplex, via: Via) => accept(socket, { ...via, address: `198.51.${addresses >> 8}.${addresses++ & 255}` }),
        })
        ports.set(`${room} ${proof}`, listener.port)
        closing.push(() => listener.close(10))
      }
    }
    closing.push(ingress.close, egress.close)
  })
  afterAll(async () => {
    for (const close of closing) await close()
  })

  /** One who is registered, with a password and a certificate of their own. */
  function person(room: Room): { id: string; password: string; certificate: ConnectionOptions } {
    const id = `${room === 'terminals' ? 'SN' : 'co'}-${number++}`
    const password = `password of ${id}`
    const salt = Buffer.from(`salt of ${id}`.padEnd(16))
    const credential = `scrypt$16$8$1$${salt.toString('base64url')}$${scryptSync(password, salt, 32, { N: 16, r: 8, p: 1 }).toString('base64url')}`
    if (room === 'terminals') ingress.machines.set(id, machine(id, { credential }))
    else {
      arrived.set(id, account(id, { credential }))
      egress.accounts.set(id, arrived.get(id)!)
      egress.topics.set(id, [`out/own-${id}/{machine_id}`])
    }
    const { cert, key } = makeCertificate({ names: [id], uris: [`urn:parapet:${room === 'terminals' ? 'machine' : 'recipient'}:${id}`], issuer: ca })
    return { id, password, certificate: { cert, key } }
  }

  function dial({ room, proof }: Try, certificate: ConnectionOptions): RawClient {
    const socket = connectTls({ host: '127.0.0.1', port: ports.get(`${room} ${proof}`)!, ca: ca.cert, ...(proof === 'certificate' ? certificate : {}) })
    return new RawClient(socket)
  }

  /**
   * Somebody with a proof acts on what belongs to V.
   * @returns what they achieved
   */
  async function act(one: Try, who: { certificate: ConnectionOptions; password: string }, username: string | undefined, victim: { id: string }, session: RawClient): Promise<string[]> {
    const { room, deed } = one
    const v = victim.id
    const mark = randomUUID()
    const achieved: string[] = []
    const client = dial(one, who.certificate)
    const will = deed === 'will' ? { will: { topic: topics(v)[one.topic]!, payload: Buffer.from(`will ${mark}`), qos: 1, retain: false } } : {}
    const code = await client.connect(username ?? '', {
      clientId: clientIds(v)[one.clientId]!, ...(username === undefined ? { username: undefined } : {}), ...(one.proof === 'password' && username !== undefined ? { password: Buffer.from(who.password) } : {}), ...will,
    } as never).catch(() => -1)
    if (code === 0 && deed === 'subscribe') {
      client.send({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic: filters(v)[one.filter]!, qos: 1 }] } as Packet)
      const suback = await client.next('suback').catch(() => undefined) as unknown as { granted: number[] } | undefined
      if (suback !== undefined && suback.granted[0]! < 128) achieved.push('granted')
      if (room === 'recipients') {
        await egress.publish(record(v, `out/own-${v}/x`, mark, { qos: 0 }))
        await pause(5)
        if (client.packets.some((packet) => packet.cmd === 'publish')) achieved.push('received')
      }
    }
    if (code === 0 && (room === 'terminals' || deed === 'publish')) {
      client.send(publishPacket(topics(v)[one.topic]!, mark, 1, 9))
      await client.next('puback', 2_000).catch(() => undefined)
      if (ingress.seen.some(({ payload, machine: as }) => payload.toString() === mark && as === v)) achieved.push('spoke as V')
    }
    client.destroy()
    await client.closed
    session.send({ cmd: 'pingreq' })
    if (await session.next('pingresp', 3_000).then(() => false, () => true)) achieved.push('took over')
    if (ingress.seen.some(({ payload }) => payload.toString() === `will ${mark}`)) achieved.push('left a will')
    return achieved
  }

  async function opened(one: Try, victim: { id: string; password: string; certificate: ConnectionOptions }): Promise<RawClient> {
    const session = dial(one, victim.certificate)
    expect(await session.connect(victim.id, { clientId: 'modem', clean: false, ...(one.proof === 'password' ? { password: Buffer.from(victim.password) } : {}) })).toBe(0)
    return session
  }

  it('none succeeds', async () => {
    const tally = new Map<string, number>()
    await fc.assert(fc.asyncProperty(tries, async (one) => {
      const [attacker, victim] = [person(one.room), person(one.room)]
      const session = await opened(one, victim)
      try {
        expect(await act(one, attacker, names(attacker.id, victim.id)[one.name], victim, session)).toEqual([])
        tally.set(one.deed, (tally.get(one.deed) ?? 0) + 1)
      } finally {
        session.destroy()
      }
    }), { numRuns: runs, ...(seed === undefined ? {} : { seed }) })
    expect([...tally.keys()].toSorted()).toEqual([...DEEDS].toSorted())
  }, 30_000 + runs * 200)

  it.each<[Room, Try['deed'], string[], Partial<Try>]>([
    ['terminals', 'publish', ['spoke as V', 'took over'], { clientId: 0 }],
    ['terminals', 'take over', ['spoke as V', 'took over'], { clientId: 0 }],
    ['terminals', 'subscribe', ['granted', 'spoke as V'], { clientId: 1, filter: 0 }],
    ['recipients', 'take over', ['took over'], { clientId: 0 }],
    ['recipients', 'subscribe', ['granted', 'received'], { clientId: 1, filter: 6 }],
  ])('the owner does: %s, %s', async (room, deed, achieved, more) => {
    for (const proof of ['password', 'certificate'] as const) {
      const one: Try = { room, proof, deed, name: 0, clientId: 0, topic: 0, filter: 0, ...more }
      const victim = person(room)
      const session = await opened(one, victim)
      expect(await act(one, victim, victim.id, victim, session)).toEqual(achieved)
      session.destroy()
    }
  })
})

describe('who gets no CONNACK 0', () => {
  const now = Date.now()
  const day = 86_400_000
  const issued = issue({ name: 'Trial CA 2', use: 'authority', fromMs: now - 10 * day, untilMs: now + day })
  const authority = { cert: issued.cert, key: createPrivateKey(issued.key) }
  const of = (uri: string, fromMs = now - day, untilMs = now + day) => issue({ name: 'x', use: 'client', uris: [uri], fromMs, untilMs }, authority)
  const gateway = issue({ name: 'gateway', use: 'server', addresses: ['127.0.0.1'], fromMs: now - day, untilMs: now + day }, authority)
  const revoked = of('urn:parapet:machine:SN-1')
  const list = makeRevocationList(authority, [{ serial: new X509Certificate(revoked.cert).serialNumber, atMs: now }], { number: 2, fromMs: now - day, untilMs: now + day })
  const good = of('urn:parapet:machine:SN-1')
  const foreign = makeCertificate({ names: ['SN-1'], issuer: ca })
  let ingress: IngressStage
  let listener: Listener

  beforeAll(async () => {
    ingress = await startIngress()
    listener = await listen({ name: 'terminals', host: '127.0.0.1', port: 0, tls: { cert: gateway.cert, key: gateway.key, ca: issued.cert, crl: list }, accept: ingress.ingress.accept, count: ingress.count, log: ingress.log })
  })
  afterAll(async () => {
    await listener.close(10)
    await ingress.close()
  })

  it.each<[string, ConnectionOptions | undefined, boolean]>([
    ['a good certificate does', good, true],
    ['no certificate', {}, false],
    ['a certificate of another authority', foreign, false],
    ['an expired one', of('urn:parapet:machine:SN-1', now - 3 * day, now - day), false],
    ['one that is not valid yet', of('urn:parapet:machine:SN-1', now + day / 2, now + day), false],
    ['a revoked one', revoked, false],
    ['a server\'s', gateway, false],
    ['a machine that is not registered', of('urn:parapet:machine:SN-404'), false],
    ['a recipient of the name of a machine', of('urn:parapet:recipient:SN-1'), false],
    ['a good one under TLS 1.2', { ...good, maxVersion: 'TLSv1.2' }, false],
    ['no TLS', undefined, false],
  ])('%s', async (_what, options, admitted) => {
    const socket = options === undefined ? connectPlain(listener.port, '127.0.0.1') : connectTls({ host: '127.0.0.1', port: listener.port, ca: issued.cert, ...options })
    const client = new RawClient(socket)
    const code = await client.connect('SN-1', { clientId: 'SN-1' }).catch(() => -1)
    client.destroy()
    expect(code === 0).toBe(admitted)
  })
})
