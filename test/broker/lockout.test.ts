/** Who guesses waits, who does not never does: the rules on a clock of our own, then over real sockets. */
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { createCredentials, hashCredential } from '../../src/broker/identify.ts'
import type { Credentials } from '../../src/broker/identify.ts'
import { createLockout, neighbourhood } from '../../src/broker/lockout.ts'
import { Rate } from '../../src/broker/rate.ts'
import { clock, machine, RawClient, startIngress, until } from './stage.ts'

const MINUTE = 60_000

function stage() {
  let now = 0
  const lockout = createLockout({ monotonic: () => now })
  return { lockout, wait: (ms: number) => void (now += ms), guess: (identity: string, address: string, times: number) => Array.from({ length: times }, () => lockout.failed(identity, address)) }
}

describe('a lock-out', () => {
  it('comes with the fifth failure and lasts 1, 2, 4 … 60 minutes', () => {
    const { lockout, wait, guess } = stage()
    for (const minutes of [1, 2, 4, 8, 16, 32, 60, 60]) {
      expect(guess('SN-1', '192.0.2.1', 5)).toEqual([false, false, false, false, true])
      expect(lockout.locked('SN-1', '192.0.2.1')).toBe(true)
      wait(minutes * MINUTE - 1)
      expect(lockout.locked('SN-1', '192.0.2.1')).toBe(true)
      wait(1)
      expect(lockout.locked('SN-1', '192.0.2.1')).toBe(false)
    }
  })

  it.each<[string, [string, string][], [string, string], boolean]>([
    ['the identity from elsewhere', [['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.2'], ['SN-1', '192.0.2.3'], ['SN-1', '192.0.2.4'], ['SN-1', '192.0.2.5']], ['SN-1', '198.51.100.1'], true],
    ['another identity', [['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1']], ['SN-2', '198.51.100.1'], false],
    ['another identity behind the same address', [['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1'], ['SN-1', '192.0.2.1']], ['SN-2', '192.0.2.1'], false],
    ['a sixth identity where five were tried', [['SN-1', '192.0.2.1'], ['SN-2', '192.0.2.1'], ['SN-3', '192.0.2.1'], ['SN-4', '192.0.2.1'], ['SN-5', '192.0.2.1']], ['SN-6', '192.0.2.1'], true],
    ['the same at another address', [['SN-1', '192.0.2.1'], ['SN-2', '192.0.2.1'], ['SN-3', '192.0.2.1'], ['SN-4', '192.0.2.1'], ['SN-5', '192.0.2.1']], ['SN-6', '192.0.2.2'], false],
    ['the next host of the same IPv6 network', [['SN-1', '2001:db8::1'], ['SN-2', '2001:db8::2'], ['SN-3', '2001:db8::3'], ['SN-4', '2001:db8::4'], ['SN-5', '2001:db8::5']], ['SN-6', '2001:db8::ffff'], true],
    ['a loopback address like any other', [['SN-1', '127.0.0.1'], ['SN-2', '127.0.0.1'], ['SN-3', '127.0.0.1'], ['SN-4', '127.0.0.1'], ['SN-5', '127.0.0.1']], ['SN-6', '127.0.0.1'], true],
  ])('%s', (_what, failures, [identity, address], locked) => {
    const { lockout } = stage()
    for (const failure of failures) lockout.failed(...failure)
    expect(lockout.locked(identity, address)).toBe(locked)
  })

  it('does not hold up who came in from there before, but for the same identity at the same address', () => {
    const { lockout, guess } = stage()
    lockout.passed('SN-1', '192.0.2.1')
    guess('SN-1', '203.0.113.9', 50)
    for (const other of ['a', 'b', 'c', 'd', 'e', 'f']) lockout.failed(other, '192.0.2.1')
    expect([lockout.locked('SN-1', '192.0.2.1'), lockout.locked('SN-1', '192.0.2.2'), lockout.locked('SN-7', '192.0.2.1')]).toEqual([false, true, true])
    guess('SN-1', '192.0.2.1', 5)
    expect(lockout.locked('SN-1', '192.0.2.1')).toBe(true)
  })

  it('remembers no more than it may', () => {
    const lockout = createLockout({ monotonic: () => 0, entries: 4 })
    for (let index = 0; index < 5; index++) lockout.failed('first', '192.0.2.1')
    expect(lockout.locked('first', '192.0.2.9')).toBe(true)
    for (let index = 0; index < 4; index++) lockout.failed(`later-${index}`, `198.51.100.${index}`)
    expect(lockout.locked('first', '192.0.2.9')).toBe(false)
  })

  it.each([
    ['192.0.2.1', '192.0.2.1'], ['::ffff:192.0.2.1', '192.0.2.1'], ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'], ['2001:db8::6', '2001:db8:0:0'], ['fe80::1%eth0', 'fe80:0:0:0'], ['::1', '0:0:0:0'], [undefined, ''],
  ])('%s counts as %s', (address, counted) => expect(neighbourhood(address)).toBe(counted))
})

describe('a rate', () => {
  it('never lets through more than its burst and what has filled up since', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 20 }), fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }), (perSecond, burst, pauses) => {
      let now = 0
      const rate = new Rate({ perSecond, burst, monotonic: () => now })
      let taken = 0
      for (const pause of pauses) {
        now += pause
        if (rate.take('a')) taken++
        expect(taken).toBeLessThanOrEqual(burst + (now / 1_000) * perSecond + 1e-6)
      }
      now += ((burst + 1) / perSecond) * 1_000
      for (let index = 0; index < burst; index++) expect(rate.take('a')).toBe(true)
      expect(rate.take('b')).toBe(true)
    }), { numRuns: 200 })
  })
})

describe('over sockets', () => {
  const open: { close(): unknown }[] = []
  afterEach(async () => {
    for (const each of open.splice(0)) await each.close()
  })

  /** Counts what is really computed. */
  function counting(): Credentials & { computed: number } {
    const inner = createCredentials({ concurrency: 2 })
    const outer = {
      computed: 0,
      check: (password: Buffer, record: string, wanted: () => boolean = () => true) => inner.check(password, record, () => {
        const isWanted = wanted()
        if (isWanted) outer.computed++
        return isWanted
      }),
    }
    return outer
  }

  async function attempt(port: number, username: string, password: string): Promise<number> {
    const client = new RawClient(port)
    open.push({ close: () => client.destroy() })
    return client.connect(username, { clientId: `c-${open.length}`, password: Buffer.from(password) }).catch(() => -1).finally(() => client.destroy())
  }

  it('brute force on one machine ends with its fifth wrong password, in a row or all at once, and hurts nobody else', async () => {
    const credentials = counting()
    const record = await hashCredential('right')
    const ingress = await startIngress({ credentials })
    open.push(ingress)
    for (const id of ['SN-1', 'SN-2', 'SN-3']) ingress.machines.set(id, machine(id, { credential: record }))
    const inside = new RawClient(ingress.port)
    open.push({ close: () => inside.destroy() })
    expect(await inside.connect('SN-1', { clientId: 'inside', password: Buffer.from('right') })).toBe(0)

    expect([await attempt(ingress.port, 'SN-2', 'right'), await attempt(ingress.port, 'SN-3', 'wrong 0')]).toEqual([0, 4])
    const before = credentials.computed
    const codes = await Promise.all(Array.from({ length: 60 }, (_, index) => attempt(ingress.port, 'SN-3', `wrong ${index}`)))
    // Those that were being computed when the fifth failed are answered as they are.
    expect(credentials.computed - before).toBeLessThanOrEqual(5)
    expect(new Set(codes)).toEqual(new Set([4, 5]))
    expect(await attempt(ingress.port, 'SN-3', 'right')).toBe(5)
    expect(ingress.of('connect.locked')).toBeGreaterThanOrEqual(50)
    expect(ingress.lines.filter(({ text }) => text === 'somebody who guesses passwords is locked out').length).toBeGreaterThan(0)
    // The others, and what is open.
    expect([await attempt(ingress.port, 'SN-2', 'right'), await attempt(ingress.port, 'SN-1', 'right')]).toEqual([0, 0])
    inside.send({ cmd: 'pingreq' })
    expect((await inside.next('pingresp')).cmd).toBe('pingresp')
  })

  it('who tries one password with many names is locked out by address, and lets those in who came from there before', async () => {
    const record = await hashCredential('right')
    const ingress = await startIngress()
    open.push(ingress)
    for (let index = 0; index < 10; index++) ingress.machines.set(`SN-${index}`, machine(`SN-${index}`, { credential: record }))
    expect(await attempt(ingress.port, 'SN-9', 'right')).toBe(0)
    const codes: number[] = []
    for (let index = 0; index < 8; index++) codes.push(await attempt(ingress.port, `SN-${index}`, 'guess'))
    expect(codes).toEqual([4, 4, 4, 4, 4, 5, 5, 5])
    expect([await attempt(ingress.port, 'SN-8', 'right'), await attempt(ingress.port, 'SN-9', 'right')]).toEqual([5, 0])
  })

  it('two boxes with one name do not take the place of each other for long', async () => {
    const ingress = await startIngress({ connectsPerMinute: 20, clock: { now: clock.now, monotonic: () => 0 } })
    open.push(ingress)
    const boxes: RawClient[] = []
    const codes: number[] = []
    for (let index = 0; index < 14; index++) {
      const box = new RawClient(ingress.port)
      open.push({ close: () => box.destroy() })
      boxes.push(box)
      codes.push(await box.connect('SN-1', { clientId: 'twin' }))
    }
    expect(codes).toEqual([...Array.from({ length: 10 }, () => 0), 3, 3, 3, 3])
    await until(() => boxes[8]!.socket.destroyed)
    // The last one that came in stays, and other machines come in as before.
    boxes[9]!.send({ cmd: 'pingreq' })
    expect((await boxes[9]!.next('pingresp')).cmd).toBe('pingresp')
    expect([ingress.of('kill.connect_rate'), await attempt(ingress.port, 'SN-2', '')]).toEqual([4, 0])
  })
})
