import { scryptSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { admitRecipient, admitTerminal, checkCredential, clientKey, createCredentials, hashCredential, recipientIdentity, terminalIdentity } from '../../src/broker/identify.ts'
import type { RecipientDirectory, TerminalDirectory, Via } from '../../src/broker/identify.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import { account, machine } from './stage.ts'

const LOOPBACK: Via = { plain: true, certificate: undefined }
const TLS: Via = { plain: false, certificate: undefined }
const withCertificate = (certificate: string): Via => ({ plain: false, certificate })

/** A cheap record, so that the table below is quick. */
function recordOf(password: string): string {
  const salt = Buffer.from('0123456789abcdef')
  return `scrypt$1024$8$1$${salt.toString('base64url')}$${scryptSync(password, salt, 32, { N: 1_024, r: 8, p: 1 }).toString('base64url')}`
}

const machines = [
  machine('SN-open'), machine('SN-pass', { credential: recordOf('right') }), machine('SN-cert', { certificate: 'urn:awp:cert-1' }),
  machine('SN-both', { credential: recordOf('right'), certificate: 'cn-both' }),
]
const terminals: TerminalDirectory = { machine: (id) => machines.find((each) => each.id === id), machineByCertificate: (name) => machines.find(({ certificate }) => certificate === name) }
const accounts = [account('planner-co'), account('oem-cloud', { credential: recordOf('right') }), account('fleet-app', { certificate: 'app.example' })]
const recipients: RecipientDirectory = { recipient: (id) => accounts.find((each) => each.id === id), recipientByCertificate: (name) => accounts.find(({ certificate }) => certificate === name) }

describe('what a CONNECT claims to be', () => {
  it.each<[string, { clientId: string; username?: string }, Via, string | undefined]>([
    ['the user name', { clientId: 'modem', username: 'SN-1' }, LOOPBACK, 'SN-1'],
    ['the client id without a user name', { clientId: 'SN-1' }, LOOPBACK, 'SN-1'],
    ['the certificate before all else', { clientId: 'SN-2', username: 'SN-3' }, withCertificate('SN-open'), 'SN-open'],
    ['the machine that the certificate belongs to', { clientId: 'x' }, withCertificate('urn:awp:cert-1'), 'SN-cert'],
    ['nothing', { clientId: '' }, LOOPBACK, undefined],
    ['no topic level', { clientId: 'x', username: 'a/b' }, LOOPBACK, undefined],
    ['no topic level', { clientId: 'x', username: '#' }, LOOPBACK, undefined],
  ])('a terminal: %s', (_what, connect, via, identity) => expect(terminalIdentity(connect, via, terminals)).toBe(identity))

  it.each<[string, { clientId: string; username?: string }, Via, string | undefined]>([
    ['the user name', { clientId: 'x', username: 'planner-co' }, LOOPBACK, 'planner-co'],
    ['never the client id', { clientId: 'planner-co' }, LOOPBACK, undefined],
    ['the account that the certificate belongs to', { clientId: 'x', username: 'oem-cloud' }, withCertificate('app.example'), 'fleet-app'],
  ])('a recipient: %s', (_what, connect, via, identity) => expect(recipientIdentity(connect, via, recipients)).toBe(identity))
})

describe('who is admitted', () => {
  const credentials = createCredentials()
  const none = undefined
  it.each<[string, Via, string | undefined, number]>([
    ['SN-open', LOOPBACK, none, 0], ['SN-open', LOOPBACK, 'anything', 0], ['SN-open', TLS, none, 5], ['SN-open', TLS, 'anything', 5], ['SN-open', withCertificate('SN-open'), none, 0],
    ['SN-pass', LOOPBACK, none, 4], ['SN-pass', LOOPBACK, '', 4], ['SN-pass', LOOPBACK, 'wrong', 4], ['SN-pass', LOOPBACK, 'right', 0], ['SN-pass', TLS, 'right', 0], ['SN-pass', TLS, 'wrong', 4],
    ['SN-cert', LOOPBACK, none, 5], ['SN-cert', withCertificate('urn:awp:cert-1'), none, 0], ['SN-cert', withCertificate('SN-cert'), none, 5],
    ['SN-both', TLS, 'right', 0], ['SN-both', withCertificate('cn-both'), none, 0], ['SN-both', LOOPBACK, none, 4],
    ['SN-404', LOOPBACK, none, 0], ['SN-404', TLS, none, 5], ['SN-404', TLS, 'right', 5], ['SN-404', withCertificate('SN-404'), none, 5],
  ])('terminal %s via %j with password %s: %i', async (identity, via, password, code) => {
    const answer = await admitTerminal({ identity, via, password: password === undefined ? undefined : Buffer.from(password) }, terminals, credentials)
    expect(answer.code).toBe(code)
    if (answer.code === 0) expect(answer.who?.id).toBe(identity === 'SN-404' ? undefined : identity)
  })

  it.each<[string, Via, string | undefined, number]>([
    ['planner-co', LOOPBACK, none, 0], ['planner-co', TLS, none, 5], ['oem-cloud', LOOPBACK, none, 4], ['oem-cloud', TLS, 'right', 0], ['oem-cloud', TLS, 'wrong', 4],
    ['fleet-app', LOOPBACK, none, 5], ['fleet-app', withCertificate('app.example'), none, 0], ['unknown-gmbh', LOOPBACK, none, 5], ['unknown-gmbh', withCertificate('unknown-gmbh'), none, 5],
  ])('recipient %s via %j with password %s: %i', async (identity, via, password, code) => {
    expect((await admitRecipient({ identity, via, password: password === undefined ? undefined : Buffer.from(password) }, recipients, credentials)).code).toBe(code)
  })
})

describe('a registry that changes while a password is checked', () => {
  const was = machine('SN-1', { credential: recordOf('right') })
  const login = account('oem-cloud', { credential: recordOf('right') })
  it.each<[string, object | undefined, number]>([
    ['nothing', was, 0],
    ['it is in another fleet', { ...was, fleet: 'south' }, 0],
    ['it is gone', undefined, 3],
    ['it has another password', { ...was, credential: recordOf('next') }, 3],
    ['it needs a certificate', { ...was, credential: undefined, certificate: 'urn:awp:SN-1' }, 3],
  ])('a terminal: %s', async (_what, next, code) => {
    const machines = new Map<string, unknown>([['SN-1', was]])
    const answer = admitTerminal({ identity: 'SN-1', via: TLS, password: Buffer.from('right') }, { machine: (id) => machines.get(id) as typeof was | undefined, machineByCertificate: () => undefined }, createCredentials())
    machines.set('SN-1', next)
    expect(await answer).toEqual(code === 0 ? { code, who: next } : { code })
  })

  it.each<[string, object | undefined, number]>([
    ['nothing', login, 0],
    ['it is gone', undefined, 3],
    ['it has another password', { ...login, credential: recordOf('next') }, 3],
  ])('a recipient: %s', async (_what, next, code) => {
    const accounts = new Map<string, unknown>([['oem-cloud', login]])
    const answer = admitRecipient({ identity: 'oem-cloud', via: TLS, password: Buffer.from('right') }, { recipient: (id) => accounts.get(id) as typeof login | undefined, recipientByCertificate: () => undefined }, createCredentials())
    accounts.set('oem-cloud', next)
    expect(await answer).toEqual(code === 0 ? { code, who: next } : { code })
  })
})

describe('client ids', () => {
  it('two identities never have the same session key, whatever ids they present', () => {
    const name = fc.string({ minLength: 1, maxLength: 6, unit: fc.constantFrom('a', 'b', '-', ':', '.') })
    const any = fc.string({ maxLength: 8, unit: fc.constantFrom('a', 'b', '-', ':', '.', '/') })
    fc.assert(fc.property(name, any, name, any, (one, id, other, otherId) => {
      if (one !== other) expect(clientKey(one, id)).not.toBe(clientKey(other, otherId))
      else if (id !== otherId) expect(clientKey(one, id)).not.toBe(clientKey(other, otherId))
    }))
    expect(clientKey('a', '')).not.toBe(clientKey('a', ''))
  })
})

describe('credentials', () => {
  it('a record holds a random salt and is checked', async () => {
    const [one, two] = await Promise.all([hashCredential('secret'), hashCredential('secret')])
    expect(one).toMatch(/^scrypt\$16384\$8\$1\$[\w-]{22}\$[\w-]{43}$/)
    expect(one).not.toBe(two)
    expect(await checkCredential('secret', one)).toBe(true)
    expect(await checkCredential('Secret', one)).toBe(false)
  })

  it('agrees with RFC 7914, section 12', async () => {
    const hash = Buffer.from('fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640', 'hex')
    expect(await checkCredential('password', `scrypt$1024$8$16$${Buffer.from('NaCl').toString('base64url')}$${hash.toString('base64url')}`).catch((error: GatewayError) => error.code)).toBe('CREDENTIAL-RECORD')
    // The RFC's salts are shorter than the eight bytes we ask for, except this one's.
    const chloride = Buffer.from('7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887', 'hex')
    expect(await checkCredential('pleaseletmein', `scrypt$16384$8$1$${Buffer.from('SodiumChloride').toString('base64url')}$${chloride.toString('base64url')}`)).toBe(true)
  })

  it.each([
    '', 'secret', 'scrypt$', 'bcrypt$1024$8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA', 'scrypt$1000$8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA',
    'scrypt$1073741824$8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA', 'scrypt$1024$8$1$$', 'scrypt$1024$8$1$AAAAAAAAAAAAAAAA$AAAA', 'scrypt$1024$-8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA',
    'scrypt$1024$8$1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA$x',
  ])('the record %j admits nobody, and says so when read', async (record) => {
    await expect(checkCredential('secret', record)).rejects.toThrow(GatewayError)
    expect(await createCredentials().check(Buffer.from('secret'), record)).toBe('wrong')
  })

  it('a storm of reconnects costs one computation a credential, and at most two at a time', async () => {
    const credentials = createCredentials({ concurrency: 2 })
    const record = await hashCredential('secret')
    const from = performance.now()
    expect(await credentials.check(Buffer.from('secret'), record)).toBe('right')
    const once = performance.now() - from
    const again = performance.now()
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => credentials.check(Buffer.from('secret'), record)))
    expect(new Set(answers)).toEqual(new Set(['right']))
    expect(performance.now() - again).toBeLessThan(once * 10)
    // A wrong one is not let in by the memory of a right one, nor remembered as right.
    expect(await credentials.check(Buffer.from('wrong'), record)).toBe('wrong')
    expect(await credentials.check(Buffer.from('wrong'), record)).toBe('wrong')
    expect(await credentials.check(Buffer.from('secret'), recordOf('other'))).toBe('wrong')
  })

  it('past the bound it says busy instead of queueing without end', async () => {
    const credentials = createCredentials({ concurrency: 1, waiting: 3 })
    const record = recordOf('secret')
    const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => credentials.check(Buffer.from(`wrong ${index}`), record)))
    expect(answers.filter((answer) => answer === 'busy').length).toBe(6)
    expect(await credentials.check(Buffer.from('secret'), record)).toBe('right')
  })
})
