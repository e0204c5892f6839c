/**
 * Records and outlets for tests of what stores or sends them.
 */
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import type { MachineId, OperatorId, OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { OutboxRecord, Outlet } from '../../src/domain/ports.ts'

/** Monday, 23 November 2026, 09:00 UTC. */
export const NOW = Date.UTC(2026, 10, 23, 9)

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
const bytes = (content: string): Buffer => Buffer.from(content)

let serial = 0
/** A plausible record; `payload` and `variant` may be given as text. */
export function record(of: Omit<Partial<OutboxRecord>, 'payload' | 'payloadIfWithdrawn'> & { payload?: string | undefined; variant?: string | null | undefined } = {}): OutboxRecord {
  const { payload, variant, ...rest } = of
  const id = Buffer.alloc(16)
  id.writeUInt32BE(++serial, 12)
  return {
    id, output: 'planner' as OutputId, recipient: 'oem-cloud' as RecipientId, stream: 'status' as StreamId, topic: 'out/planning/p-4711', qos: 1, retain: false,
    machine: 'SN-1' as MachineId, holder: undefined, subjects: ['op-ada' as OperatorId], machineOrder: serial, acquiredAtMs: NOW, receivedAtMs: NOW + 40,
    purpose: 'improve.statistics' as PurposeId, basis: 'consent', country: 'DE', consentSeq: [12], policy: 'awp-2026-11', rulesHash: 'c0ffee', plan: 'planner/status/1',
    keyId: 'k1', storageClass: 'ordinary', expiresAtMs: undefined, payload: bytes(payload ?? `message ${serial}`),
    payloadIfWithdrawn: variant === undefined || variant === null ? variant : bytes(variant), categories: 5, via: ['cloud'], ...rest,
  }
}

/** An outlet that remembers what it was sent and answers when told to. */
export class TestOutlet implements Outlet {
  readonly name: string
  /** Everything ever sent, as it was at the moment of `send`. */
  readonly sent: { readonly payload: string; readonly machine: string; readonly order: number; readonly id: string; readonly topic: string }[] = []
  readonly open: { readonly record: OutboxRecord; readonly revision: number; readonly done: (error: Error | undefined) => void }[] = []
  /** Answers at once. */
  automatic: boolean

  constructor(name: string, automatic = false) {
    this.name = name
    this.automatic = automatic
  }

  send(record: OutboxRecord, done: (error: Error | undefined) => void): void {
    this.sent.push({
      payload: text(record.payload), machine: record.machine, order: record.machineOrder, id: Buffer.from(record.id).toString('hex'), topic: record.topic,
    })
    if (this.automatic) done(undefined)
    else this.open.push({ record, revision: record.revision ?? 0, done })
  }

  /** Answers everything that is open, in order. */
  answer(error?: Error): void {
    for (const one of this.open.splice(0)) one.done(error)
  }

  get payloads(): string[] {
    return this.sent.map((one) => one.payload)
  }

  async cut(): Promise<{ dropped: number; onTheWire: number }> {
    return { dropped: 0, onTheWire: 0 }
  }

  async close(): Promise<void> {
    // Nothing to close.
  }
}

export async function turns(count = 6): Promise<void> {
  for (let i = 0; i < count; i++) await turnOfTheLoop()
}
