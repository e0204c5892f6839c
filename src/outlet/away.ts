/**
 * Retained messages at brokers that bridges lead to. What lies there is out of our hands, but who has it was told to keep it for
 * later subscribers; so after a withdrawal, an erasure or a device setting it is told to clear it. [GDPR Art. 17(2), 19]
 *
 * A row is written in the transaction after which the message is handed out, and goes in the one that stores the message that clears
 * it: a crash or an outage of the link between the two loses nothing.
 */
import { randomBytes } from 'node:crypto'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { LIMITS } from '../domain/limits.ts'
import type { PurgeReason } from '../domain/ports.ts'
import { Entry, onWithdrawalOf, RECORD_BYTES } from './entry.ts'
import type { Envelope, Envelopes } from './envelopes.ts'
import { covers, fateOf, OnWithdrawal } from './selector.ts'
import type { Selector } from './selector.ts'
import type { Vault } from './vault.ts'

/** The last retained message of a topic that a destination was handed. */
export interface Away {
  readonly destination: string
  readonly topic: string
  readonly envelope: Envelope
  readonly acquiredAtMs: number
  readonly onWithdrawal: number
}

export class RetainedAway {
  readonly #vault: Vault
  readonly #put: StatementSync
  readonly #delete: StatementSync
  /** By destination and topic, as noted. */
  readonly #rows = new Map<string, Away>()
  /** To be written. */
  readonly #fresh = new Set<string>()

  constructor(db: DatabaseSync, vault: Vault) {
    this.#vault = vault
    db.exec(TABLE)
    this.#put = db.prepare('INSERT OR REPLACE INTO retained_away (destination, topic, envelope, acquired_ms, on_withdrawal) VALUES (?, ?, ?, ?, ?)')
    this.#delete = db.prepare('DELETE FROM retained_away WHERE destination = ? AND topic = ?')
  }

  /** Reads what a former run left. */
  open(db: DatabaseSync, envelopeOf: (id: number) => Envelope | undefined): void {
    for (const row of db.prepare('SELECT destination, topic, envelope, acquired_ms, on_withdrawal FROM retained_away').all()) {
      const envelope = envelopeOf(Number(row['envelope']))
      if (envelope === undefined) continue
      // A topic may name a machine: the column has a tag of it.
      const away: Away = { destination: String(row['destination']), topic: envelope.topic, acquiredAtMs: Number(row['acquired_ms']), onWithdrawal: Number(row['on_withdrawal']), envelope }
      this.#rows.set(keyOf(away), away)
      if (!this.#vault.isOn || row['topic'] === this.#vault.tag(away.topic)) continue
      this.#delete.run(away.destination, String(row['topic']))
      this.#run(away)
    }
  }

  /** A message is about to be handed out. At the bound the oldest is forgotten and returned: it is to be cleared now, as nobody could later. */
  note(destination: string, { topic, envelope, acquiredAtMs, payloadIfWithdrawn }: Entry): Away | undefined {
    const away: Away = { destination, topic, envelope, acquiredAtMs, onWithdrawal: onWithdrawalOf(payloadIfWithdrawn) }
    const key = keyOf(away)
    this.#rows.delete(key)
    this.#rows.set(key, away)
    this.#fresh.add(key)
    const oldest = this.#rows.size > LIMITS.retained ? this.#rows.values().next().value : undefined
    if (oldest !== undefined) {
      this.#rows.delete(keyOf(oldest))
      this.#fresh.add(keyOf(oldest))
    }
    return oldest
  }

  get isDue(): boolean {
    return this.#fresh.size > 0
  }

  /** What a purge covers. What has expired or had to go for the room is not meant. */
  covered(selector: Selector, reason: PurgeReason): Away[] {
    if (selector.atLeastBytes !== undefined || selector.numbers !== undefined || !CLEARING.has(reason)) return []
    return [...this.#rows.values()].filter((away) => {
      const record = asRecord(away)
      return covers(selector, record) && fateOf(reason, away.onWithdrawal, record.subjects.length > 0) !== 'leave'
    })
  }

  /** Inside a transaction. */
  write(envelopes: Envelopes): void {
    for (const key of this.#fresh) {
      const away = this.#rows.get(key)
      if (away === undefined) {
        const [destination = '', topic = ''] = key.split('\n')
        this.#delete.run(destination, this.#vault.tag(topic))
        continue
      }
      if (away.envelope.id === 0) envelopes.store(away.envelope)
      this.#run(away)
    }
  }

  #run({ destination, topic, envelope, acquiredAtMs, onWithdrawal }: Away): void {
    this.#put.run(destination, this.#vault.tag(topic), envelope.id, acquiredAtMs, onWithdrawal)
  }

  /** Inside a transaction; `forget` follows after it. */
  delete({ destination, topic }: Away): void {
    this.#delete.run(destination, this.#vault.tag(topic))
  }

  forget(away: Away): void {
    const key = keyOf(away)
    if (this.#rows.get(key) === away) this.#rows.delete(key)
  }

  /** After COMMIT; after ROLLBACK everything is still to be written. */
  settle(): void {
    if (this.isDue) this.#fresh.clear()
  }

  /** Numbers of the envelopes that the rows lie in. */
  *envelopes(without: readonly Away[] = []): Generator<number> {
    for (const away of this.#rows.values()) if (!without.includes(away)) yield away.envelope.id
  }
}

/** The message that clears: no bytes, and nobody's. [MQTT-3.3.1-10] */
export function clearingEntry({ destination, topic, envelope }: Away, envelopes: Envelopes, nowMs: number): Entry {
  // Not ordinary: an output that lets its oldest go for the room must not let go of this.
  const of = envelopes.of({ ...envelope, topic, qos: 1, retain: true, subjects: [], consentSeq: [], categories: 0, storageClass: 'legal', via: [destination] })
  return new Entry(of, randomBytes(16), 0, nowMs, nowMs, undefined, NOTHING, undefined, RECORD_BYTES)
}

const CLEARING: ReadonlySet<PurgeReason> = new Set(['withdrawal', 'erasure', 'device_setting'])
const NOTHING = Buffer.alloc(0)

function keyOf({ destination, topic }: Pick<Away, 'destination' | 'topic'>): string {
  return `${destination}\n${topic}`
}

/** Enough of the message to be asked about; its bytes are not here. */
function asRecord({ envelope, acquiredAtMs, onWithdrawal }: Away): Entry {
  const variant = onWithdrawal === OnWithdrawal.nothing ? undefined : onWithdrawal === OnWithdrawal.drop ? null : NOTHING
  return new Entry(envelope, NOTHING, 0, acquiredAtMs, acquiredAtMs, undefined, NOTHING, variant, 0)
}

const TABLE = `
CREATE TABLE IF NOT EXISTS retained_away (
  destination TEXT NOT NULL, topic TEXT NOT NULL, envelope INTEGER NOT NULL, acquired_ms INTEGER NOT NULL, on_withdrawal INTEGER NOT NULL,
  PRIMARY KEY (destination, topic)
) STRICT, WITHOUT ROWID;`
