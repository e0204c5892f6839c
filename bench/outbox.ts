/**
 * The outbox beside the least that SQLite can do: accept and commit of groups of 200-byte records, against a loop that inserts the same
 * bytes into a table with a number and a blob (WAL, synchronous=FULL, one transaction a group); once for records that stay, once for
 * records that a destination answers for at once, against the same loop that also deletes the group before. Both sides take turns, so
 * that a disk that is busy for a while is busy for both.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../src/domain/ids.ts'
import type { OutboxRecord, Outlet } from '../src/domain/ports.ts'
import { openOutbox, type DurableOutbox } from '../src/outlet/outbox.ts'
import { figure, median } from './figures.ts'
import type { BenchOptions } from './options.ts'
import type { Row } from './sheet.ts'

const GROUPS = [1, 16, 256, 1_024] as const
const KINDS = ['stored', 'stored and delivered'] as const
/** Turns that each side has. */
const ROUNDS = 6
const MACHINES = 50
const PAYLOAD = Buffer.alloc(200, 7)
const NOW_MS = 1_763_888_864_000

export async function run({ sheet, timeMs, isShort }: BenchOptions): Promise<void> {
  sheet.head('outbox: accept and commit, 200 bytes a record')
  for (const kind of KINDS) {
    for (const group of isShort ? [256] : GROUPS) {
      const row = await measure(kind, group, timeMs)
      const { us_per_record: us, records_per_s: rate, bare_records_per_s: bare, ratio } = row
      sheet.row(row, `${row.case.padEnd(40)} ${String(us).padStart(8)} us  ${rate.toLocaleString('en').padStart(9)} /s   bare ${bare.toLocaleString('en').padStart(9)} /s   ${ratio.toFixed(2)}x`)
    }
  }
}

async function measure(kind: (typeof KINDS)[number], group: number, timeMs: number): Promise<Row & {
  readonly records_per_s: number; readonly us_per_record: number; readonly bare_records_per_s: number; readonly ratio: number
}> {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-bench-'))
  const outbox = openOutbox({ file: join(folder, 'outbox.db'), clock: { now: () => NOW_MS, monotonic: () => performance.now() }, sweepMs: 0 })
  const bare = new Bare(join(folder, 'bare.db'), kind === 'stored and delivered')
  if (kind === 'stored and delivered') outbox.attach(ANSWERS_AT_ONCE)
  const records = Array.from({ length: MACHINES }, (_, n) => recordOf(n))
  try {
    const ours: number[] = []
    const theirs: number[] = []
    await turn(timeMs / ROUNDS / 2, () => acceptGroup(outbox, records, group))
    await turn(timeMs / ROUNDS / 2, () => bare.group(group))
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(group * await turn(timeMs / ROUNDS, () => acceptGroup(outbox, records, group)))
      theirs.push(group * await turn(timeMs / ROUNDS, () => bare.group(group)))
    }
    const [rate, other] = [median(ours), median(theirs)]
    return {
      bench: 'outbox', case: `${kind}, groups of ${group}`, group, records_per_s: Math.round(rate), us_per_record: Math.round(1e8 / rate) / 100, bare_records_per_s: Math.round(other),
      ratio: Math.round((rate / other) * 100) / 100, ...figure('ratio', ours.map((one, round) => one / theirs[round]!)),
    }
  } finally {
    await outbox.close()
    bare.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Groups a second. */
async function turn(ms: number, one: () => Promise<void> | void): Promise<number> {
  const began = performance.now()
  let groups = 0
  do {
    await one()
    groups++
  } while (performance.now() - began < ms)
  return (groups * 1_000) / (performance.now() - began)
}

let order = 0

function acceptGroup(outbox: DurableOutbox, records: readonly Mutable[], group: number): Promise<void> {
  for (let n = 0; n < group; n++) {
    const record = records[n % MACHINES]!
    record.machineOrder = ++order
    outbox.accept(record)
  }
  return new Promise((done, failed) => outbox.committed((error) => (error === undefined ? done() : failed(error))))
}

type Mutable = { -readonly [Key in keyof OutboxRecord]: OutboxRecord[Key] }

function recordOf(n: number): Mutable {
  return {
    id: Buffer.alloc(16, n), output: 'planner' as OutputId, recipient: 'oem-cloud' as RecipientId, stream: 'status' as StreamId, topic: `out/planning/machine-${n}`, qos: 1, retain: false,
    machine: `SN-${n}` as MachineId, holder: undefined, subjects: [`op-${n}` as OperatorId], machineOrder: 0, acquiredAtMs: NOW_MS, receivedAtMs: NOW_MS, purpose: 'service.operate' as PurposeId,
    basis: 'contract', country: 'FR', consentSeq: [], policy: 'bench', rulesHash: 'c0ffee', plan: 'p', keyId: 'k', storageClass: 'ordinary', expiresAtMs: NOW_MS + 86_400_000, payload: PAYLOAD,
    payloadIfWithdrawn: undefined, categories: 1, via: ['cloud'],
  }
}

const ANSWERS_AT_ONCE: Outlet = {
  name: 'cloud', send: (_record, done) => done(undefined), cut: () => Promise.resolve({ dropped: 0, onTheWire: 0 }), close: () => Promise.resolve(),
}

/** What any queue on SQLite must do at least. */
class Bare {
  readonly #db: DatabaseSync
  readonly #insert
  readonly #begin
  readonly #commit
  readonly #delete
  readonly #deletes: boolean
  #last = 0

  constructor(file: string, deletes: boolean) {
    this.#deletes = deletes
    this.#db = new DatabaseSync(file)
    this.#db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE queue (number INTEGER PRIMARY KEY, body BLOB) STRICT')
    this.#insert = this.#db.prepare('INSERT INTO queue VALUES (?, ?)')
    this.#delete = this.#db.prepare('DELETE FROM queue WHERE number BETWEEN ? AND ?')
    this.#begin = this.#db.prepare('BEGIN IMMEDIATE')
    this.#commit = this.#db.prepare('COMMIT')
  }

  group(size: number): void {
    this.#begin.run()
    if (this.#deletes) this.#delete.run(this.#last - size + 1, this.#last)
    for (let n = 0; n < size; n++) this.#insert.run(++this.#last, PAYLOAD)
    this.#commit.run()
  }

  close(): void {
    this.#db.close()
  }
}
