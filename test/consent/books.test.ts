import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, it } from 'vitest'
import { nobody } from '../../src/domain/consent.ts'
import { clockAt, copyOf, folder, HOUR, machine, op, open, policy, register, says } from './fixture.ts'

describe('the data folder', () => {
  it('is private, file by file', () => {
    const path = join(folder(), 'data')
    const books = open(path, clockAt())
    register(books)
    books.keys.destroy('operator', 'op-cem')
    books.ledger.append({ type: 'key.made', body: {} })
    expect(statSync(path).mode & 0o777).toBe(0o700)
    expect(readdirSync(path).sort()).toEqual(expect.arrayContaining(['identities.db', 'keys.db', 'ledger.db', 'ledger.head', 'tombstones']))
    for (const name of readdirSync(path)) expect(statSync(join(path, name)).mode & 0o777, name).toBe(0o600)
  })

  it('has no table that no SubjectStore answers for', () => {
    const path = folder()
    const books = open(path, clockAt())
    const stores = new Set(books.stores.map((store) => store.name))
    const owners: Record<string, string | undefined> = {
      'keys.db subject_row': 'subject keys',
      'identities.db operator': 'identities',
      'identities.db credential': 'identities',
      'ledger.db event': 'ledger',
      'ledger.db subject_event': 'ledger',
      // Nothing in them is about a person: rows of the gateway, of days, names of files.
      'keys.db gateway_row': undefined,
      'keys.db period_row': undefined,
      'keys.db fact': undefined,
      'ledger.db ledger': undefined,
    }
    const found = readdirSync(path).filter((name) => name.endsWith('.db')).flatMap((name) => {
      const database = new DatabaseSync(join(path, name), { readOnly: true })
      const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all().map((row) => `${name} ${String(row['name'])}`)
      database.close()
      return tables
    })
    expect(found.sort()).toEqual(Object.keys(owners).sort())
    for (const owner of Object.values(owners)) if (owner !== undefined) expect(stores).toContain(owner)
    // In memory: the decision table and the session tracks.
    expect(stores).toEqual(new Set(['subject keys', 'identities', 'ledger', 'sessions', 'consent states']))
  })

  it('from a backup revives no consent, whatever else was restored with it', () => {
    const path = folder()
    const clock = clockAt()
    const books = open(path, clock)
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.close()
    const backup = copyOf(path)
    const later = open(path, clock)
    later.usePolicy(policy())
    later.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    later.close()
    // An ordinary backup holds everything but keys.db and the tombstones.
    for (const name of ['keys.db', 'keys.db-wal', 'keys.db-shm', 'tombstones']) {
      if (existsSync(join(backup, name))) rmSync(join(backup, name))
      if (existsSync(join(path, name))) copyFileSync(join(path, name), join(backup, name))
    }
    const restored = open(backup, clock)
    restored.usePolicy(policy())
    expect(restored.ledger.healthy).toBe(false)
    expect(restored.states.fill(op('op-ada'), clock.ms, clock.ms, nobody())).toBe(false)
  })
})

describe('kill -9', () => {
  it('whatever was acknowledged is in force after the restart; nothing is half', async () => {
    const path = folder()
    const script = join(folder(), 'victim.ts')
    writeFileSync(script, `
      import { openBooks } from ${JSON.stringify(join(import.meta.dirname, '../../src/consent/books.ts'))}
      import { rootKeyOf } from ${JSON.stringify(join(import.meta.dirname, '../../src/consent/root.ts'))}
      import { createHash } from 'node:crypto'
      const root = rootKeyOf(createHash('sha256').update('root key of the consent tests').digest())
      const books = openBooks({ folder: process.argv[2], root, tenant: 'demo', gateway: 'depot-7', clock: { now: Date.now, monotonic: () => performance.now() } })
      books.identities.load([{ id: 'op-ada', kind: 'personal', country: 'DE', validFromMs: undefined, validToMs: undefined, cards: ['C'] }])
      const purposes = ['a', 'b'].map((id, index) => ({ id, index, about: id }))
      books.usePolicy({ id: 'p', hash: 'h', purposes, outputs: [], subject: { sessionMaxMs: 1e7, quarantineMs: 1e5, lateLimitMs: 1e9 } })
      console.log(JSON.stringify({ open: books.ledger.healthy, n: books.ledger.head.seq }))
      const box = { id: 'SN-1', operatorCollection: 'on' }
      for (let n = 0; ; n++) {
        const state = n % 2 === 0 ? 'granted' : 'withdrawn'
        const identity = books.identities.find('C', Date.now())
        books.sessions.signOn(box, identity, Date.now(), Date.now())
        const { seq } = books.states.change({ operator: 'op-ada', purpose: n % 3 === 0 ? 'b' : 'a', state, source: 'portal', by: 'x' })
        process.stdout.write(JSON.stringify({ seq, purpose: n % 3 === 0 ? 'b' : 'a', state }) + '\\n')
        if (n % 7 === 0) books.keys.ensure('machine', 'SN-' + n, 'pseudonym')
      }`)
    for (let round = 0; round < 6; round++) {
      const acked = await killedAfter(script, path, 150 + round * 37)
      const books = open(path, clockAt(Date.now()))
      expect(books.ledger.damage).toBeUndefined()
      expect(books.ledger.verify().ok).toBe(true)
      const last = new Map(acked.map((ack) => [ack.purpose, ack]))
      const rows = new Map(books.states.show(op('op-ada')).rows.map((row) => [row.purpose as string, row]))
      for (const [purpose, ack] of last) {
        const row = rows.get(purpose)!
        // One more change may have reached the disk without its acknowledgement.
        if (row.seq === ack.seq) expect(row.state).toBe(ack.state)
        else expect(row.seq).toBeGreaterThan(ack.seq)
      }
      expect(acked.length).toBeGreaterThan(0)
      expect(books.ledger.head.seq).toBeGreaterThanOrEqual(acked.at(-1)!.seq)
      books.close()
    }
  }, 60_000)
})

describe('the whole way', () => {
  it('sign on, say yes, say no, over a restart', () => {
    const path = folder()
    const clock = clockAt()
    const first = open(path, clock)
    register(first)
    first.usePolicy(policy())
    first.sessions.signOn(machine('SN-1'), first.identities.find('CARD-1111', clock.ms), clock.ms, clock.ms)
    first.states.change(says('op-ada', 'improve.statistics', 'granted'))
    first.close()
    clock.ms += HOUR
    const second = open(path, clock)
    second.usePolicy(policy())
    const into = nobody()
    second.sessions.decide(machine('SN-1'), clock.ms, clock.ms, into)
    expect(into).toMatchObject({ known: true, operator: 'op-ada', yes: 2 })
    second.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    second.sessions.decide(machine('SN-1'), clock.ms, clock.ms, into)
    expect(into).toMatchObject({ known: true, yes: 0, no: 2 })
  })
})

interface Ack {
  readonly seq: number
  readonly purpose: string
  readonly state: string
}

/** Runs the script until some time after its first acknowledgement, kills it, and returns what it acknowledged. */
async function killedAfter(script: string, path: string, ms: number): Promise<Ack[]> {
  const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  let started: (() => void) | undefined
  const begun = new Promise<void>((resolve) => { started = resolve })
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
    if (output.includes('"seq"')) started?.()
  })
  const ended = new Promise((resolve) => child.once('close', resolve))
  await begun
  await new Promise((resolve) => setTimeout(resolve, ms))
  child.kill('SIGKILL')
  await ended
  // The last line may be torn; a torn acknowledgement was not received.
  const lines = output.slice(0, output.lastIndexOf('\n')).split('\n')
  expect(JSON.parse(lines[0]!)).toMatchObject({ open: true })
  return lines.slice(1).map((line) => JSON.parse(line) as Ack)
}
