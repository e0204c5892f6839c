/**
 * What is told of live traffic that somebody looks at: traces, learn mode, recordings. Plain data, as the API shows it.
 */
import type { OperatorId, StreamId } from './ids.ts'
import type { VerdictName } from './verdict.ts'

/** `asked`: by somebody; `over`: its time or size; `rules`: it cannot go on under other rules; `failed`: it threw; `closing`: the gateway stops. */
export type Ending = 'asked' | 'over' | 'rules' | 'failed' | 'closing'

export interface TraceView {
  readonly id: number
  readonly machine: string | undefined
  readonly operator: OperatorId | undefined
  readonly values: boolean
  /** False: explained as if nobody were known. */
  readonly personal: boolean
  readonly endsAtMs: number
  /** Why it ended; what it saw can still be fetched for a minute. */
  readonly ended: Ending | undefined
  /** Messages of it for which there was no time, and that went from the ring before they were asked for. */
  readonly skipped: number
  readonly dropped: number
}

export interface TracePage extends TraceView {
  readonly entries: readonly TraceEntry[]
  /** People whose values are in the entries. */
  readonly about: readonly OperatorId[]
}

/** One message. */
export interface TraceEntry {
  readonly seq: number
  readonly atMs: number
  readonly machine: string
  readonly stream: string | undefined
  readonly bytes: number
  /** The whole message was refused. */
  readonly refused: VerdictName | undefined
  /** Who was decided to be there, in words; undefined where that is not shown. */
  readonly person: string | undefined
  readonly outputs: readonly TraceOutput[]
  readonly furtherOutputs: number
}

export interface TraceOutput {
  readonly output: string
  readonly result: 'sent' | VerdictName
  /** Of the result, or how the output stands: `open on contract in FR, without a yes of the operator`. */
  readonly text: string
  readonly why: string
  readonly bytes: number | undefined
  /** Only with values: it is filled with transformed ones. */
  readonly topic: string | undefined
  /** What is shown holds if nobody is known; with somebody there it may be otherwise. */
  readonly ifNobodyKnown: boolean
  /** `emit` decides afterwards whether it leaves. */
  readonly thinned: boolean
  readonly fields: readonly TraceField[]
  readonly furtherFields: number
}

/** A field of the message, or one that the output adds. */
export interface TraceField {
  readonly path: string
  readonly action: string
  readonly why: string
  /** What is done instead with the operator's yes; only where the person is not shown. */
  readonly withYes: string | undefined
  /** JSON, cut; undefined without values, or when the field is absent. */
  readonly before: string | undefined
  readonly after: string | undefined
}

/** One thing that is not known, seen in so many messages. */
export interface Learned {
  readonly kind: LearnedKind
  readonly stream: StreamId | undefined
  /** Full name of the message in which it stands. */
  readonly message: string | undefined
  /** `header/99` a field by number in a known parent, `fix = 7` an enum number, `body.alarm` a member, `up/{fleet}/{machine}/{word}` a topic. */
  readonly at: string
  readonly wire: string | undefined
  /** Bytes of the value, of the whole message for members and topics. */
  readonly smallest: number
  readonly largest: number
  /** Messages. */
  readonly count: number
  /** LIMITS.learnMachines stands for so many or more. */
  readonly machines: number
  /** The hour. */
  readonly firstMs: number
  readonly lastMs: number
  /** What to write, for a field and an enum number. */
  readonly proto: string | undefined
  readonly rules: string | undefined
  readonly next: string
}

export type LearnedKind = 'field' | 'wire_type' | 'enum' | 'case' | 'topic'

export interface LearnReport {
  readonly running: boolean
  /** Why it ended. */
  readonly ended: Ending | undefined
  readonly stream: StreamId | undefined
  /** Since when rows are counted: the start, or the newest change of rules. */
  readonly sinceMs: number
  /** When it ends or has ended. */
  readonly untilMs: number
  /** `passed_over`: more came in a second than are looked at. `unreadable`: not protobuf, or not whole; nothing is told of those. */
  readonly messages: { readonly read: number; readonly passedOver: number; readonly unreadable: number; readonly cut: number }
  readonly rows: readonly Learned[]
  /** Findings in messages for which there was no row left. */
  readonly more: number
}

export interface RecordingView {
  readonly id: string
  readonly file: string
  readonly running: boolean
  /** Why it ended; `lost`: the gateway did not come to end it. */
  readonly ended: Ending | 'lost' | undefined
  readonly by: string
  readonly to: string
  readonly stream: StreamId | undefined
  readonly startedMs: number
  /** When it ends at the latest, or has ended. */
  readonly untilMs: number
  /** When it is deleted by itself. */
  readonly deletedMs: number
  readonly bytes: number
  readonly messages: number
  readonly people: number
  /** Messages that were not recorded: somebody concerned has said no or may have, or the device setting is not on. */
  readonly leftOut: { readonly no: number; readonly deviceSetting: number }
  /** A legal hold keeps it although its time is over. */
  readonly held: boolean
}
