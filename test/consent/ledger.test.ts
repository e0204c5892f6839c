import { createHash, createHmac } from 'node:crypto'
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Books } from '../../src/consent/books.ts'
import { atLeast, openDatabase } from '../../src/consent/database.ts'
import { auditChain, SqliteLedger } from '../../src/consent/ledger.ts'
import { macUnder } from '../../src/consent/sealing.ts'
import { SqliteSubjectKeys } from '../../src/consent/subjects.ts'
import { nobody } from '../../src/domain/consent.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import type { LedgerEvent } from '../../src/domain/ports.ts'
import { bytesOf, clockAt, copyOf, DAY, folder, machine, MORNING, op, open, policy, register, ROOT, says } from './fixture.ts'

const person = (id: string): NonNullable<LedgerEvent['subject']> => ({ type: 'operator', id })

/** A ledger with some history: notices, consent of three people, sessions, a device event. Closed again. */
function written(path: string): void {
  const clock = clockAt()
  const books = open(path, clock)
  register(books)
  books.usePolicy(policy())
  books.states.giveNotice(op('op-ada'), 'awp-2026-11', 'de', 'desk')
  for (const [who, about, state] of [
    ['op-ada', 'improve.statistics', 'granted'], ['op-ben', 'improve.statistics', 'refused'], ['op-cem', 'personalise', 'granted'],
    ['op-ada', 'improve.statistics', 'withdrawn'], ['op-ada', 'personalise', 'local_only'],
  ] as const) {
    clock.ms += 1_000
    books.states.change(says(who, about, state, { evidence: 'form 17/2026 signed at the desk', machine: machine('SN-CANARY-1').id }))
  }
  books.sessions.signOn(machine('SN-CANARY-1'), books.identities.find('CARD-1111', clock.ms), clock.ms, clock.ms)
  books.ledger.append({ type: 'device.collection', body: { machine: 'SN-CANARY-1', to: 'off' } })
  books.close()
}

describe('stored form', () => {
  it('no file holds a person, card, machine, purpose, session, evidence or name in clear', () => {
    const path = folder()
    const clock = clockAt()
    const books = open(path, clock)
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-ada', 'improve.statistics', 'granted', { evidence: 'form 17/2026', machine: machine('SN-CANARY-1').id, by: 'desk-clerk' }))
    books.sessions.signOn(machine('SN-CANARY-1'), books.identities.find('CARD-1111', clock.ms), clock.ms, clock.ms)
    books.ledger.flush()
    const session = [...books.ledger.events({ type: 'session.on' })][1]!.body!['session'] as string
    expect(session).toMatch(/^[0-9a-f]{32}$/)
    const secrets = ['op-ada', 'op-ben', 'CARD-1111', 'CARD-2222', 'PIN-77', 'MASTER-9', 'SN-CANARY-1', 'improve.statistics', 'personalise', 'service.operate', 'form 17', 'desk-clerk', 'oem-cloud', 'awp-2026-11', session]
    const forms = secrets.flatMap((secret) => {
      const raw = Buffer.from(secret)
      return [raw, Buffer.from(raw.toString('hex')), Buffer.from(raw.toString('base64').replace(/=+$/, '')), Buffer.from(raw).reverse(), createHash('sha256').update(raw).digest(), createHash('sha1').update(raw).digest()]
    })
    const look = (): void => {
      const files = bytesOf(path)
      expect([...files.keys()]).toEqual(expect.arrayContaining(['ledger.db', 'ledger.head', 'keys.db', 'identities.db']))
      for (const [name, bytes] of files) for (const form of forms) expect(bytes.includes(form), `${name} holds ${form.toString('latin1')}`).toBe(false)
    }
    expect(bytesOf(path).get('ledger.db-wal')!.length).toBeGreaterThan(0)
    look()
    books.close()
    look()
    // The search can fail: what is meant to be in clear is found.
    const ledger = bytesOf(path).get('ledger.db')!
    for (const clear of ['consent.granted', 'session.on', 'depot-7', '2026-11-23']) expect(ledger.includes(clear)).toBe(true)
  })

  it('has the columns that it will always have', () => {
    const path = folder()
    written(path)
    const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
    const columns = database.prepare("SELECT name FROM pragma_table_info('event')").all().map((row) => row['name'])
    expect(columns).toEqual(['seq', 'uuid', 'type', 'schema', 'gateway', 'day', 'subject_tag', 'key_id', 'body', 'prev', 'hash'])
    const rows = database.prepare('SELECT * FROM event ORDER BY seq').all()
    expect(rows.map((row) => row['seq'])).toEqual(rows.map((_, i) => i + 1))
    expect(new Set(rows.map((row) => row['gateway']))).toEqual(new Set(['depot-7']))
    // One person's tags differ from event to event: without the row nobody can count who said no how often.
    const tags = rows.map((row) => row['subject_tag']).filter((tag) => tag !== null).map((tag) => Buffer.from(tag as Uint8Array).toString('hex'))
    expect(tags.length).toBeGreaterThan(6)
    expect(new Set(tags).size).toBe(tags.length)
    // Neither does a length tell anything: bodies are padded.
    for (const row of rows) expect(((row['body'] as Uint8Array).length - 12 - 16) % 128).toBe(0)
    expect(new Set(rows.map((row) => row['key_id']))).toEqual(new Set(['gateway', 'row', 'row+2026-11-23', 'gateway+2026-11-23']))
    expect(String(rows[0]!['type'])).toBe('policy.scope')
    database.close()
  })

  it('hashes the stored bytes alone: anybody can check the chain without a key', () => {
    const path = folder()
    written(path)
    const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
    const id = String(database.prepare('SELECT id FROM ledger').get()!['id'])
    let previous: Uint8Array = createHash('sha256').update(lp('parapet/v1|ledger|genesis', id)).digest()
    for (const row of database.prepare('SELECT * FROM event ORDER BY seq').all()) {
      const hash = hashOf(row, previous)
      expect(Buffer.from(row['hash'] as Uint8Array)).toEqual(hash)
      previous = hash
    }
    database.close()
  })

  it('the quick MAC of the index is HMAC-SHA256, for messages of any length, one after another', () => {
    for (const seed of [1, 2, 3]) {
      const key = createHash('sha256').update(String(seed)).digest()
      const mac = macUnder(key)
      for (const length of [0, 1, 32, 64, 88, 255, 256, 257, 1_000, 88]) {
        const message = Buffer.alloc(length, seed * 37 + length)
        expect([length, mac(message)]).toEqual([length, createHmac('sha256', key).update(message).digest('hex')])
      }
    }
  })

  it('a grant carries what must be proven later', () => {
    const books = open(folder(), clockAt())
    register(books)
    books.usePolicy(policy({ keepsMs: 30 * DAY }))
    const { seq } = books.states.change(says('op-ada', 'improve.statistics', 'granted', { evidence: 'form 17', expiresAtMs: MORNING + DAY, country: 'DE', source: 'terminal', machine: machine('SN-1').id }))
    const event = [...books.ledger.events({ subject: person('op-ada') })].find((event) => event.seq === seq)!
    expect(event).toMatchObject({ type: 'consent.granted', schema: 1, gateway: 'depot-7', day: '2026-11-23' })
    expect(event.body).toMatchObject({
      at: MORNING, operator: 'op-ada', purpose: 'improve.statistics', source: 'terminal', by: 'desk', evidence: 'form 17',
      evidence_sha256: createHash('sha256').update('form 17').digest('hex'), language: 'de', expires_at: MORNING + DAY, machine: 'SN-1', country: 'DE',
      supersedes: 0, policy: 'awp-2026-11',
      scope: {
        recipients: [{ id: 'oem-cloud', role: 'controller', region: 'EU', retentionMs: 30 * DAY }],
        fields: { 'oem-cloud/status.position': 'grid{"size":500}' },
      },
    })
    const again = books.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    expect([...books.ledger.events({ afterSeq: again.seq - 1 })][0]!.body).toMatchObject({ supersedes: seq })
  })

  it('refuses changes of what is written, through SQL too', () => {
    const path = folder()
    written(path)
    const database = new DatabaseSync(join(path, 'ledger.db'))
    expect(() => database.exec("UPDATE event SET type = 'consent.granted' WHERE seq = 3")).toThrow(/append-only/)
    expect(() => database.exec('DELETE FROM event WHERE seq = 3')).toThrow(/append-only/)
    database.close()
  })

  it('needs an SQLite that does not lose its log', () => {
    expect(['3.51.3', '3.51.10', '3.53.4', '4.0.0'].map(atLeast)).toEqual([true, true, true, true])
    expect(['3.51.2', '3.50.9', '3.7.0', '2.99.99', ''].map(atLeast)).toEqual([false, false, false, false, false])
    const path = folder()
    open(path, clockAt()).close()
    const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
    expect(database.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'wal' })
    database.close()
    const own = openDatabase(join(path, 'ledger-like.db'), 'CREATE TABLE IF NOT EXISTS t (x INTEGER) STRICT')
    // 2 = FULL: a commit is on the disk when it returns.
    expect(own.prepare('PRAGMA synchronous').get()).toEqual({ synchronous: 2 })
    expect(own.prepare('PRAGMA secure_delete').get()).toEqual({ secure_delete: 1 })
    own.close()
    expect(() => openDatabase(join(path, 'ledger-like.db'), 'CREATE TABLE IF NOT EXISTS u (x INTEGER) STRICT')).toThrow(expect.objectContaining({ code: 'DATABASE-FOREIGN' }))
  })
})

describe('a person who is erased', () => {
  it('leaves a chain that verifies, the same number of events, and nothing to read', () => {
    const path = folder()
    written(path)
    const books = open(path, clockAt(MORNING + 60_000))
    const { seq } = books.ledger.head
    const before = [...books.ledger.events({ subject: person('op-ada') })]
    expect(before.length).toBeGreaterThan(3)
    expect(before.every((event) => event.body !== undefined)).toBe(true)
    for (const store of books.stores) {
      expect(store.erase(op('op-ada')).held, store.name).toBe(0)
      expect(store.locate(op('op-ada')).records, store.name).toBe(0)
      expect([...store.export(op('op-ada'))].filter((row) => row['state'] !== 'destroyed'), store.name).toEqual([])
    }
    expect(books.ledger.verify()).toMatchObject({ ok: true, events: seq })
    expect(books.ledger.healthy).toBe(true)
    expect([...books.ledger.events({ subject: person('op-ada') })]).toEqual([])
    const after = [...books.ledger.events()]
    expect(after).toHaveLength(seq)
    for (const { seq } of before) expect(after[seq - 1]!.body).toBeUndefined()
    // The others are as they were.
    expect(after.filter((event) => event.body?.['operator'] === 'op-ben').length).toBeGreaterThan(0)
    books.close()
    const again = open(path, clockAt(MORNING + 120_000))
    expect(again.ledger.healthy).toBe(true)
    expect([...again.ledger.events()].filter((event) => event.body?.['operator'] === 'op-ada')).toEqual([])
    expect(again.ledger.verify().ok).toBe(true)
  })

  it('is not erased while a hold lasts', () => {
    const path = folder()
    written(path)
    const books = open(path, clockAt())
    for (const store of books.stores) store.hold(op('op-ada'), 'case-1')
    for (const store of books.stores.filter(({ name }) => name !== 'consent states')) {
      const { records } = store.locate(op('op-ada'))
      expect(store.erase(op('op-ada')), store.name).toEqual({ erased: 0, held: records })
    }
    expect([...books.ledger.events({ subject: person('op-ada') })].every((event) => event.body !== undefined)).toBe(true)
  })

  it('session events end with their day, for everybody', () => {
    const path = folder()
    written(path)
    const books = open(path, clockAt(MORNING + 20 * DAY))
    const sessions = (): number => [...books.ledger.events({ type: 'session.' })].filter((event) => event.body !== undefined).length
    expect(sessions()).toBe(2)
    const { records } = books.ledger.locate(op('op-ada'))
    books.sweep(MORNING + 2 * DAY)
    expect(sessions()).toBe(2)
    books.sweep(MORNING + 20 * DAY)
    expect(sessions()).toBe(0)
    expect(books.ledger.locate(op('op-ada')).records).toBe(records - 1)
    // Consent is untouched.
    expect(books.states.show(op('op-ada')).rows).toHaveLength(2)
    expect(books.ledger.verify().ok).toBe(true)
    books.close()
    expect(open(path, clockAt(MORNING + 20 * DAY)).ledger.healthy).toBe(true)
  })
})

describe('a write that fails', () => {
  afterEach(() => void vi.restoreAllMocks())

  /** SQLite refuses these statements from now on, as on a full or broken disk. */
  function failing(...statements: readonly string[]): void {
    const exec = DatabaseSync.prototype.exec
    vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function run(this: DatabaseSync, sql: string) {
      if (statements.includes(sql)) throw Object.assign(new Error('database or disk is full'), { errcode: 13 })
      return exec.call(this, sql)
    })
  }

  const failures: readonly (readonly [what: string, fail: (books: Books) => unknown])[] = [
    ['the commit', () => failing('COMMIT')],
    ['the commit, and taking it back', () => failing('COMMIT', 'ROLLBACK')],
    ['the beginning', () => failing('BEGIN IMMEDIATE')],
    ['the key of the day', (books) => vi.spyOn(books.keys, 'openPeriod').mockImplementation(() => { throw new Error('database or disk is full') })],
    ['the key of the person', (books) => vi.spyOn(books.keys, 'ensure').mockImplementation(() => { throw new Error('database or disk is full') })],
  ]

  it.each(failures)('%s: a sign-on makes nobody known, and whoever waits hears of it', (_, fail) => {
    const clock = clockAt()
    const damage: [string, boolean][] = []
    const books: Books = open(folder(), clock, { onDamage: (reason) => damage.push([reason, books.ledger.healthy]) })
    register(books)
    books.usePolicy(policy())
    const sign = (card: string): void => books.sessions.signOn(machine('SN-1'), books.identities.find(card, clock.ms), clock.ms, clock.ms)
    sign('CARD-1111')
    books.ledger.flush()
    const into = nobody()
    books.sessions.decide(machine('SN-1'), clock.ms, clock.ms, into)
    expect(into.known).toBe(true)
    fail(books)
    clock.ms += 60_000
    sign('CARD-1111')
    let thrown: unknown
    try {
      books.ledger.flush()
      books.ledger.append({ type: 'rules.activated', body: {} })
    } catch (error) {
      // Whoever catches it finds the ledger closed already.
      expect(books.ledger.healthy).toBe(false)
      thrown = error
    }
    expect(thrown).toBeInstanceOf(GatewayError)
    expect(thrown).toMatchObject({ code: 'LEDGER-DAMAGED' })
    expect(damage).toEqual([[expect.stringMatching(/^a write failed/), false]])
    books.sessions.decide(machine('SN-1'), clock.ms, clock.ms, into)
    expect(into).toEqual({ ...nobody(), collection: true })
    expect(books.states.fill(op('op-ada'), clock.ms, clock.ms, into)).toBe(false)
  })

  it('for a person erased just now is no damage', () => {
    const books = open(folder(), clockAt())
    register(books)
    books.keys.destroy('operator', 'op-ada')
    expect(() => books.ledger.enqueue({ type: 'session.on', subject: person('op-ada'), body: {} })).toThrow(expect.objectContaining({ code: 'SUBJECT-ENDED' }))
    expect(books.ledger.healthy).toBe(true)
  })
})

describe('damage is found, and closes everything', () => {
  /** Changes the closed data folder, opens it again and expects the fault to be found at an event, or anywhere when undefined. */
  const faults: readonly (readonly [what: string, harm: (path: string) => void, at: number | undefined])[] = [
    ['one bit of a sealed body is flipped', (path) => sql(path, 'UPDATE event SET body = $bytes WHERE seq = 5', flipped(path, 'body', 5)), 5],
    ['one bit of a hash is flipped', (path) => sql(path, 'UPDATE event SET hash = $bytes WHERE seq = 5', flipped(path, 'hash', 5)), 5],
    ['one bit of a subject tag is flipped', (path) => sql(path, 'UPDATE event SET subject_tag = $bytes WHERE seq = 5', flipped(path, 'subject_tag', 5)), 5],
    ['a withdrawal is made a grant', (path) => sql(path, "UPDATE event SET type = 'consent.granted' WHERE type = 'consent.withdrawn'"), 8],
    ['a withdrawal is made a grant and its hash is made right', (path) => rewrite(path, 8, "UPDATE event SET type = 'consent.granted' WHERE seq = 8", false), 9],
    ['a withdrawal is made a grant and all hashes from there on are made right', (path) => rewrite(path, 8, "UPDATE event SET type = 'consent.granted' WHERE seq = 8", true), 13],
    ['a day is moved', (path) => sql(path, "UPDATE event SET day = '2026-11-22' WHERE seq = 2"), 2],
    ['another gateway is named', (path) => sql(path, "UPDATE event SET gateway = 'depot-8' WHERE seq = 2"), 2],
    ['an event in the middle is deleted', (path) => sql(path, 'DELETE FROM event WHERE seq = 6'), 6],
    ['an event is deleted and the later ones move up', (path) => sql(path, 'DELETE FROM event WHERE seq = 6; UPDATE event SET seq = seq - 1 WHERE seq > 6'), 6],
    ['the first event is deleted', (path) => sql(path, 'DELETE FROM event WHERE seq = 1'), 1],
    ['the last event is cut off', (path) => sql(path, 'DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)'), 13],
    ['the last five events are cut off', (path) => sql(path, 'DELETE FROM event WHERE seq > (SELECT max(seq) - 5 FROM event)'), 9],
    ['all events are deleted', (path) => sql(path, 'DELETE FROM event; DELETE FROM subject_event'), 1],
    ['two events change places', (path) => sql(path, 'UPDATE event SET seq = -1 WHERE seq = 5; UPDATE event SET seq = 5 WHERE seq = 8; UPDATE event SET seq = 8 WHERE seq = -1'), 5],
    ['an event is put before the first one', (path) => sql(path, "INSERT INTO event SELECT 0, uuid, type, schema, gateway, day, subject_tag, key_id, body, prev, hash FROM event WHERE seq = 1"), 0],
    ['an event is put behind the last one', (path) => sql(path, "INSERT INTO event SELECT 14, uuid, type, schema, gateway, day, subject_tag, key_id, body, prev, hash FROM event WHERE seq = 13"), 14],
    ['a withdrawal is given to nobody in the index', (path) => sql(path, "UPDATE subject_event SET subject = x'' WHERE seq = 8"), 8],
    ['a withdrawal is given to somebody else in the index', (path) => sql(path, 'UPDATE subject_event SET subject = (SELECT subject FROM subject_event WHERE seq = 6) WHERE seq = 8'), 8],
    ['a trigger is gone', (path) => sql(path, ''), undefined],
    ['an event is moved behind the last one', (path) => sql(path, 'UPDATE event SET seq = 99 WHERE seq = 8'), 8],
    ['an event of nobody gets an empty tag, so that its key seems to be destroyed', (path) => sql(path, "UPDATE event SET subject_tag = x'' WHERE seq = 1"), 1],
    ['an event of a person loses its tag', (path) => sql(path, 'UPDATE event SET subject_tag = NULL WHERE seq = 8'), 8],
    ['bytes move from one column to the next', (path) => sql(path, 'UPDATE event SET uuid = substr(uuid, 1, 15), subject_tag = CAST(substr(uuid, 16) || subject_tag AS BLOB) WHERE seq = 8'), 8],
    ['the MAC of an index entry is changed', (path) => sql(path, "UPDATE subject_event SET mac = x'00112233445566778899aabbccddeeff' WHERE seq = 8"), 8],
    ['the ledger gets another id', (path) => sql(path, "UPDATE ledger SET id = 'b58ce1a1-62ac-4f40-a3c5-b8d1e9c3ed27'"), undefined],
    ['yesterday\'s head is put back', (path) => restore(path, ['ledger.head']), undefined],
    ['the newer half of the head is overwritten', (path) => { const head = readFileSync(join(path, 'ledger.head'), 'latin1'); const at = head.slice(0, 512).includes(' 13 ') && !head.slice(512).includes(' 13 ') ? 0 : 512; writeFileSync(join(path, 'ledger.head'), `${head.slice(0, at)}${' '.repeat(512)}${head.slice(at + 512)}`) }, undefined],
    ['a hash in the head is changed', (path) => writeFileSync(join(path, 'ledger.head'), readFileSync(join(path, 'ledger.head'), 'latin1').replaceAll(/[0-9a-f]{64}/g, 'ab'.repeat(32))), undefined],
    ['the head in keys.db is taken away', (path) => keysSql(path, "DELETE FROM fact WHERE name = 'ledger-head'"), undefined],
    ['yesterday\'s ledger is put back', (path) => restore(path, ['ledger.db']), 13],
    ['yesterday\'s ledger and head are put back', (path) => restore(path, ['ledger.db', 'ledger.head']), 13],
    ['the ledger is taken away', (path) => remove(path, 'ledger.db'), undefined],
    ['the ledger and its head are taken away', (path) => { remove(path, 'ledger.db'); remove(path, 'ledger.head') }, undefined],
    ['the head is taken away', (path) => remove(path, 'ledger.head'), undefined],
    ['the head is emptied', (path) => writeFileSync(join(path, 'ledger.head'), ''), undefined],
    ['the head names an earlier event', (path) => writeFileSync(join(path, 'ledger.head'), readFileSync(join(path, 'ledger.head'), 'latin1').replaceAll(/ 1[23] (?=[0-9a-f]{64})/g, ' 11 ')), undefined],
    ['the database file is cut in half', (path) => { const file = readFileSync(join(path, 'ledger.db')); writeFileSync(join(path, 'ledger.db'), file.subarray(0, file.length / 2)) }, undefined],
    ['the database file is no database', (path) => writeFileSync(join(path, 'ledger.db'), 'hello, this is not a database at all, sorry'), undefined],
    ['a row of a person is gone from keys.db', (path) => keysSql(path, "DELETE FROM subject_row WHERE subject = (SELECT subject FROM subject_row WHERE use = 'ledger' LIMIT 1) OR 1"), undefined],
  ]

  it.each(faults)('%s', (_, harm, at) => {
    const path = folder()
    written(path)
    restorePoint(path)
    later(path)
    harm(path)
    const damage: string[] = []
    const books = open(path, clockAt(MORNING + 10 * 60_000), { onDamage: (reason) => damage.push(reason) })
    // Decided before anything asks for it: consent is closed from the first message on.
    expect(books.ledger.healthy).toBe(false)
    expect(damage).toHaveLength(1)
    expect(damage[0]).not.toMatch(/op-|SN-|statistics/)
    expect(() => books.ledger.append({ type: 'rules.activated', body: {} })).toThrow(expect.objectContaining({ code: 'LEDGER-DAMAGED' }))
    if (at !== undefined) expect(books.ledger.verify()).toMatchObject({ ok: false, brokenAt: at })
    closed(books)
  })

  /** Whatever the table was read from before the damage was found, nobody is known: not who said yes, not who is signed on. */
  function closed(books: Books): void {
    books.usePolicy(policy())
    const now = MORNING + 10 * 60_000
    const into = nobody()
    for (const who of ['op-ada', 'op-ben', 'op-cem']) expect(books.states.fill(op(who), now, now, into), who).toBe(false)
    try {
      books.sessions.signOn(machine('SN-1'), { operator: op('op-cem'), kind: 'personal', country: undefined, validFromMs: 0, validToMs: Number.MAX_SAFE_INTEGER }, now, now)
    } catch (error) {
      expect(error).toMatchObject({ code: 'LEDGER-DAMAGED' })
    }
    for (const id of ['SN-1', 'SN-CANARY-1']) {
      books.sessions.decide(machine(id), now, now, into)
      expect(into).toEqual({ ...nobody(), collection: true })
    }
    expect(() => books.states.change(says('op-cem', 'personalise', 'granted'))).toThrow(expect.objectContaining({ code: 'LEDGER-DAMAGED' }))
  }

  it('what the table above closes is open otherwise', () => {
    const path = folder()
    written(path)
    const books = open(path, clockAt(MORNING + 10 * 60_000))
    books.usePolicy(policy())
    const into = nobody()
    expect(books.states.fill(op('op-cem'), MORNING + 10 * 60_000, MORNING + 10 * 60_000, into)).toBe(true)
    // personalise is the third purpose.
    expect(into.yes).toBe(4)
  })

  it('every column of every event, changed at its beginning, middle and end', () => {
    const path = folder()
    written(path)
    const whole = readFileSync(join(path, 'ledger.db'))
    const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
    const rows = database.prepare('SELECT * FROM event ORDER BY seq').all()
    database.close()
    let tried = 0
    for (const row of rows) {
      const seq = Number(row['seq'])
      for (const [column, value] of Object.entries(row)) {
        if (column === 'seq' || value === null) continue
        // One place for each pair, so that the whole stays quick; over all events every column has all three.
        for (const place of [['first', 'middle', 'last'][(seq + column.length) % 3]!]) {
          writeFileSync(join(path, 'ledger.db'), whole)
          for (const side of ['ledger.db-wal', 'ledger.db-shm']) remove(path, side)
          sql(path, `UPDATE event SET ${column} = $bytes WHERE seq = ${seq}`, altered(value, place))
          const keys = new SqliteSubjectKeys({ folder: path, root: ROOT, tenant: 'demo', readOnly: true })
          const ledger = new SqliteLedger({ folder: path, keys, gateway: 'depot-7', clock: clockAt(), readOnly: true })
          expect(ledger.report(), `${column} of ${seq}, ${place}`).toMatchObject({ ok: false, brokenAt: seq, events: seq - 1 })
          const audit = auditChain(path, undefined)
          expect(audit, `${column} of ${seq}, ${place}, without keys`).toMatchObject({ ok: false, brokenAt: seq })
          ledger.close()
          keys.close()
          tried++
        }
      }
    }
    expect(tried).toBe(rows.reduce((sum, row) => sum + Object.values(row).filter((value) => value !== null).length - 1, 0))
  })

  // What a crash leaves: changes that are in the log and not yet in the database file.
  const logs: readonly (readonly [what: string, harm: (wal: Buffer) => Buffer | undefined])[] = [
    ['the log is taken away', () => undefined],
    ['the log is emptied', () => Buffer.alloc(0)],
    ['the last byte of the log is cut off', (wal) => wal.subarray(0, -1)],
    ['the log is cut in half', (wal) => wal.subarray(0, wal.length >> 1)],
    ['a byte of the last page in the log is changed', (wal) => flippedAt(wal, wal.length - 100)],
    ['a byte of the header of the log is changed', (wal) => flippedAt(wal, 17)],
  ]

  it.each(logs)('after a crash, %s', (_, harm) => {
    const path = folder()
    const books = open(path, clockAt())
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-cem', 'personalise', 'granted'))
    books.states.change(says('op-cem', 'personalise', 'withdrawn'))
    const killed = copyOf(path)
    for (const side of ['ledger.db-shm', 'keys.db-shm', 'identities.db-shm']) remove(killed, side)
    const intact = open(copyOf(killed), clockAt())
    expect([intact.ledger.healthy, intact.ledger.head.seq]).toEqual([true, 5])
    const wal = harm(readFileSync(join(killed, 'ledger.db-wal')))
    if (wal === undefined) remove(killed, 'ledger.db-wal')
    else writeFileSync(join(killed, 'ledger.db-wal'), wal)
    const again = open(killed, clockAt(MORNING + 10 * 60_000))
    expect(again.ledger.healthy).toBe(false)
    closed(again)
  })

  it('while it is untouched it is healthy: the table above can fail', () => {
    const path = folder()
    written(path)
    restorePoint(path)
    later(path)
    const books = open(path, clockAt(MORNING + 10 * 60_000))
    expect(books.ledger.healthy).toBe(true)
    expect(books.ledger.verify()).toEqual({ ok: true, events: 13, brokenAt: undefined, reason: undefined })
  })

  it('flips of single bytes all over the file are found, or touch nothing that is read', () => {
    const path = folder()
    written(path)
    const whole = readFileSync(join(path, 'ledger.db'))
    const truth = contentOf(path)
    const intact = truth()
    let found = 0
    for (let at = 7; at < whole.length; at += 397) {
      const harmed = Buffer.from(whole)
      harmed[at]! ^= 0x20
      writeFileSync(join(path, 'ledger.db'), harmed)
      remove(path, 'ledger.db-wal')
      remove(path, 'ledger.db-shm')
      const keys = new SqliteSubjectKeys({ folder: path, root: ROOT, tenant: 'demo', readOnly: true })
      const ledger = new SqliteLedger({ folder: path, keys, gateway: 'depot-7', clock: clockAt(), readOnly: true })
      if (!ledger.healthy || !ledger.verify().ok) found++
      else expect(truth(), `byte ${at}`).toBe(intact)
      ledger.close()
      keys.close()
    }
    expect(found).toBeGreaterThan(20)
  })

  it('a change beneath the running gateway is found by verify, which closes everything', () => {
    const path = folder()
    const books = open(path, clockAt())
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    expect(books.ledger.verify().ok).toBe(true)
    sql(path, 'DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)')
    expect(books.ledger.verify()).toMatchObject({ ok: false, brokenAt: 5 })
    expect(books.ledger.healthy).toBe(false)
    expect(() => books.states.change(says('op-ada', 'improve.statistics', 'granted'))).toThrow(/takes no entries/)
  })

  it('the head is as new as the last change of consent, also without an orderly stop', () => {
    const path = folder()
    const books = open(path, clockAt())
    register(books)
    books.usePolicy(policy())
    books.states.change(says('op-ada', 'improve.statistics', 'granted'))
    books.states.change(says('op-ada', 'improve.statistics', 'withdrawn'))
    const killed = copyOf(path)
    expect(open(copyOf(killed), clockAt()).ledger.healthy).toBe(true)
    sql(killed, 'DELETE FROM event WHERE seq = 5')
    expect(open(killed, clockAt()).ledger.damage).toMatch(/ends at event 4, the signed head at 5/)
  })

  it('an index entry that was deleted is missed by verify and found again at the next start', () => {
    const path = folder()
    written(path)
    sql(path, 'DELETE FROM subject_event WHERE seq IN (7, 8)')
    const keys = new SqliteSubjectKeys({ folder: path, root: ROOT, tenant: 'demo', readOnly: true })
    const reader = new SqliteLedger({ folder: path, keys, gateway: 'depot-7', clock: clockAt(), readOnly: true })
    expect(reader.report()).toMatchObject({ ok: true, unindexed: 2 })
    reader.close()
    keys.close()
    const books = open(path, clockAt(MORNING + 60_000))
    expect(books.ledger.report()).toMatchObject({ ok: true, unindexed: 0 })
    // The withdrawal is among them: it is in force.
    books.usePolicy(policy())
    expect(books.states.show(op('op-ada')).rows.find((row) => row.purpose === 'improve.statistics')?.state).toBe('withdrawn')
  })

  it('a gateway at work is checked a page at a time, and what it appends meanwhile counts', async () => {
    const books = open(folder(), clockAt())
    for (let i = 0; i < 1_200; i++) books.ledger.enqueue({ type: 'key.made', body: { i } })
    books.ledger.flush()
    const report = books.ledger.reportCalmly()
    books.ledger.append({ type: 'key.made', body: {} })
    expect(await report).toMatchObject({ ok: true, events: 1_201, head: { seq: 1_201 }, types: { 'key.made': 1_201 } })
    expect(books.ledger.healthy).toBe(true)
  })

  it('an index that was deleted is found again from the tags', () => {
    const path = folder()
    written(path)
    const before = open(path, clockAt())
    const history = [...before.ledger.events({ subject: person('op-ada') })].map((event) => event.seq)
    before.close()
    const database = new DatabaseSync(join(path, 'ledger.db'))
    database.exec('DELETE FROM subject_event')
    database.close()
    const books = open(path, clockAt())
    expect(books.ledger.healthy).toBe(true)
    expect([...books.ledger.events({ subject: person('op-ada') })].map((event) => event.seq)).toEqual(history)
  })
})

describe('group commit', () => {
  it('an enqueued event is durable after flush and not before', () => {
    const path = folder()
    const books = open(path, clockAt())
    const seen = (): number => {
      const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
      const count = Number(database.prepare('SELECT count(*) AS n FROM event').get()!['n'])
      database.close()
      return count
    }
    const first = books.ledger.enqueue({ type: 'key.made', body: {} })
    expect(books.ledger.enqueue({ type: 'key.made', body: {} })).toBe(first + 1)
    expect(seen()).toBe(0)
    books.ledger.flush()
    expect(seen()).toBe(2)
    books.ledger.enqueue({ type: 'key.made', body: {} })
    books.ledger.append({ type: 'key.made', body: {} })
    expect(seen()).toBe(4)
  })

  it('commits by itself at the end of the turn', async () => {
    const path = folder()
    const books = open(path, clockAt())
    books.ledger.enqueue({ type: 'key.made', body: {} })
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    const copy = copyOf(path)
    expect(open(copy, clockAt()).ledger.head.seq).toBe(1)
  })

  it('reads events by subject, type, beginning of a type and sequence, over pages', () => {
    const books = open(folder(), clockAt())
    for (let i = 0; i < 1_300; i++) books.ledger.enqueue({ type: i % 2 === 0 ? 'key.made' : 'key.makes', body: { i } })
    const made = [...books.ledger.events({ type: 'key.made' })]
    expect(made.map((event) => event.body!['i'])).toEqual(Array.from({ length: 650 }, (_, i) => i * 2))
    expect([...books.ledger.events({ type: 'key.' })]).toHaveLength(1_300)
    expect([...books.ledger.events({ afterSeq: 1_290 })].map((event) => event.seq)).toEqual([1291, 1292, 1293, 1294, 1295, 1296, 1297, 1298, 1299, 1300])
    expect([...books.ledger.events({ type: 'rules.' })]).toEqual([])
    expect(new Set(made.map((event) => event.uuid)).size).toBe(650)
    expect(made[0]!.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it('refuses a body beyond the bound and stays as it was', () => {
    const books = open(folder(), clockAt())
    expect(() => books.ledger.append({ type: 'key.made', body: { text: 'x'.repeat(300_000) } })).toThrow(expect.objectContaining({ code: 'LEDGER-BODY' }))
    expect(books.ledger.append({ type: 'key.made', body: {} })).toBe(1)
    expect(books.ledger.verify().ok).toBe(true)
  })
})

/** The hash of an event as the stored form says, written a second time. */
function hashOf(row: Record<string, SQLOutputValue>, previous: Uint8Array): Uint8Array {
  const clear = lp('parapet/v1|ledger|event', u64(Number(row['seq'])), row['uuid'] as Uint8Array, String(row['type']), u64(Number(row['schema'])), String(row['gateway']), String(row['day']), (row['subject_tag'] as Uint8Array | null) ?? '', String(row['key_id']))
  return createHash('sha256').update(lp(clear, row['body'] as Uint8Array, previous)).digest()
}

function lp(...parts: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => {
    const bytes = Buffer.from(part as string)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    return [length, bytes]
  }))
}

function u64(n: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(n))
  return bytes
}

/** Changes an event and makes its hash right again; with `all`, those of all later events too, as somebody with much time would. */
function rewrite(path: string, seq: number, text: string, all: boolean): void {
  sql(path, text)
  const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
  const rows = database.prepare('SELECT * FROM event WHERE seq >= ? ORDER BY seq').all(seq)
  database.close()
  let previous = rows[0]!['prev'] as Uint8Array
  for (const row of all ? rows : rows.slice(0, 1)) {
    const hash = hashOf(row, previous)
    sql(path, `UPDATE event SET hash = $bytes WHERE seq = ${String(row['seq'])}`, hash)
    sql(path, `UPDATE event SET prev = $bytes WHERE seq = ${String(row['seq'])}`, previous)
    previous = hash
  }
}

/** Runs SQL on the closed ledger as somebody with the file would: without the triggers, which are put back. */
function sql(path: string, text: string, bytes?: Uint8Array | string | number): void {
  const database = new DatabaseSync(join(path, 'ledger.db'))
  database.exec('PRAGMA synchronous = OFF')
  const triggers = database.prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").all().map((row) => String(row['sql']))
  database.exec('DROP TRIGGER event_is_final; DROP TRIGGER event_stays')
  if (bytes === undefined) database.exec(text)
  else database.prepare(text).run({ bytes })
  if (text !== '') for (const trigger of triggers) database.exec(trigger)
  else database.exec('CREATE TRIGGER event_stays AFTER INSERT ON event BEGIN SELECT 1; END')
  database.close()
}

function keysSql(path: string, text: string): void {
  const database = new DatabaseSync(join(path, 'keys.db'))
  database.exec(text)
  database.close()
}

/** A stored value with one bit, character or number changed. */
function altered(value: SQLOutputValue, place: string): Uint8Array | string | number {
  if (typeof value === 'number') return value + 1
  if (typeof value === 'string') {
    const at = place === 'first' ? 0 : place === 'middle' ? value.length >> 1 : value.length - 1
    return `${value.slice(0, at)}${value[at] === 'x' ? 'y' : 'x'}${value.slice(at + 1)}`
  }
  const bytes = value as Uint8Array
  return flippedAt(bytes, place === 'first' ? 0 : place === 'middle' ? bytes.length >> 1 : bytes.length - 1)
}

function flippedAt(bytes: Uint8Array, at: number): Buffer {
  const changed = Buffer.from(bytes)
  changed[at]! ^= 1
  return changed
}

function flipped(path: string, column: string, seq: number): Uint8Array {
  const database = new DatabaseSync(join(path, 'ledger.db'))
  const bytes = Uint8Array.from(database.prepare(`SELECT ${column} AS bytes FROM event WHERE seq = ?`).get(seq)!['bytes'] as Uint8Array)
  database.close()
  bytes[bytes.length >> 1]! ^= 1
  return bytes
}

/** All rows as text, read without our code. */
function contentOf(path: string): () => string {
  return () => {
    const database = new DatabaseSync(join(path, 'ledger.db'), { readOnly: true })
    const rows = database.prepare('SELECT event.*, subject FROM event LEFT JOIN subject_event USING (seq) ORDER BY seq').all()
    database.close()
    return JSON.stringify(rows.map((row) => Object.values(row).map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value))))
  }
}

function restorePoint(path: string): void {
  for (const name of ['ledger.db', 'ledger.head']) copyFileSync(join(path, name), join(path, `${name}.backup`))
}

/** The day after the backup: Cem withdraws. */
function later(path: string): void {
  const clock = clockAt(MORNING + 5 * 60_000)
  const books: Books = open(path, clock)
  expect(books.ledger.head.seq).toBe(12)
  books.usePolicy(policy())
  books.states.change(says('op-cem', 'personalise', 'withdrawn'))
  expect(books.ledger.head.seq).toBe(13)
  books.close()
}

function restore(path: string, names: readonly string[]): void {
  for (const name of names) copyFileSync(join(path, `${name}.backup`), join(path, name))
}

function remove(path: string, name: string): void {
  if (existsSync(join(path, name))) rmSync(join(path, name))
}
