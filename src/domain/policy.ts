/**
 * The rules in checked form: what config/load.ts + config/check.ts make of a rules file, and all that the rest may read.
 * Everything is resolved: names exist, numbers are in wire units, durations in milliseconds, lists are expanded.
 */
import type { OutputId, PurposeId, RecipientId, StreamId } from './ids.ts'
import type { FieldShape, MessageShape } from './schema.ts'

export interface Policy {
  /** `policy: id`, or the rules file's name; what a grant and a notice refer to. */
  readonly id: string
  readonly effective: string | undefined
  readonly notice: string | undefined
  readonly streams: readonly Stream[]
  readonly subject: SubjectRules
  /** At most 30: a purpose is a bit in a Decision; `index` is the bit number, in file order. */
  readonly purposes: readonly Purpose[]
  readonly basis: BasisTable
  readonly recipients: readonly Recipient[]
  readonly outputs: readonly Output[]
  readonly tests: readonly RuleTest[]
  /** Areas that `hide_in` names. */
  readonly zones?: ReadonlyMap<string, Zone>
  /** SHA-256 (hex) over rules, schemas and zones: the accepted set's name. */
  readonly hash: string
}

export interface Stream {
  readonly id: StreamId
  readonly index: number
  /** MQTT topic pattern with `{machine}`, `{fleet}`, `{stream}` or other single-level placeholders. */
  readonly topic: string
  readonly message: MessageShape
  /** Dotted path of a oneof member that must be set, e.g. `body.alarm`. */
  readonly case: string | undefined
  readonly machineField: string | undefined
  readonly operatorField: string | undefined
  readonly time: TimeRef | undefined
  readonly points: readonly Point[]
}

export interface TimeRef {
  readonly field: string
  /** Wire units per millisecond are derived from this; `timestamp` is google.protobuf.Timestamp. */
  readonly unit: 's' | 'ms' | 'us' | 'ns' | 'timestamp'
}

/** A position made of fields; addressable in outputs only by `name`. */
export interface Point {
  readonly name: string
  readonly kind: 'plain' | 'delta'
  /** Field paths. For `delta`: lat, lon are the base, dlat, dlon, dt the repeated steps. */
  readonly lat: string
  readonly lon: string
  readonly dlat: string | undefined
  readonly dlon: string | undefined
  readonly dt: string | undefined
  /** degrees = wire * scale: deg 1, e5 1e-5, e6 1e-6, e7 1e-7. */
  readonly scale: number
  /** CEL over `msg`; false = the point is absent. */
  readonly valid: Condition | undefined
}

/** A parsed and type-checked CEL expression. `ast` is the node tree of the CEL library, opaque outside minimise/condition.ts. */
export interface Condition {
  readonly text: string
  readonly ast: unknown
  /** Field paths that it reads. */
  readonly reads: readonly string[]
}

export interface SubjectRules {
  readonly sessions: SessionRule | undefined
  /** How a terminal says what its operator chose; left out: terminals have no say. */
  readonly consent?: ChoiceRule | undefined
  readonly sessionMaxMs: number
  readonly quarantineMs: number
  readonly lateLimitMs: number
}

export interface SessionRule {
  readonly stream: StreamId
  readonly signOn: Condition
  readonly signOff: Condition | undefined
  readonly operatorField: string
}

/** What an operator can say at a terminal: a state, or that the notice was shown. */
export const CHOICES = ['granted', 'local_only', 'refused', 'withdrawn', 'objected', 'notice'] as const
export type Choice = (typeof CHOICES)[number]

/** Where a consent message has what; paths of fields. */
export interface ChoiceRule {
  readonly stream: StreamId
  /** Card or code of the person; without it, or empty, it is whoever is signed on. */
  readonly operatorField: string | undefined
  readonly purposeField: string
  readonly choiceField: string
  /** Enum member or text of the choice field -> what it says. What is not listed says nothing. */
  readonly means: ReadonlyMap<string, Choice>
  /** The policy whose notice was on the display: a yes to another one than that in force is none. */
  readonly policyField: string | undefined
  readonly languageField: string | undefined
  /** Receipt or ledger sequence of the state that the choice replaces; empty = not said. */
  readonly supersedesField: string | undefined
  readonly evidenceField: string | undefined
}

export interface Purpose {
  readonly id: PurposeId
  readonly index: number
  readonly about: string
  readonly clause: string | undefined
  readonly dpv: string | undefined
  /** Purposes of earlier rules that this one stands for: it inherits every no said to them, and no yes. */
  readonly replaces?: readonly PurposeId[]
}

/** In the order of strictness within each group; see domain/basis.ts for what opens. */
export const BASES = [
  'contract', 'legal_obligation', 'vital_interest', 'public_interest', 'legitimate_interest', 'opt_out', 'consent', 'forbidden',
] as const
export type Basis = (typeof BASES)[number]

export interface BasisEntry {
  readonly basis: Basis
  readonly law: string | undefined
  readonly assessment: string | undefined
  readonly employeeConsent: string | undefined
}

export interface BasisTable {
  /** Key: ISO 3166-1 alpha-2 (`DE`), 3166-2 (`US-CA`), a group (`EEA` or the file's own), or `default`. Inner key: purpose. */
  readonly entries: ReadonlyMap<string, ReadonlyMap<PurposeId, BasisEntry>>
  /** Place -> groups it belongs to through `in:`; EEA membership is built in and not listed here. */
  readonly groups: ReadonlyMap<string, readonly string[]>
}

export interface Recipient {
  readonly id: RecipientId
  readonly role: 'controller' | 'processor' | 'joint_controller'
  /** `subject` (the person's own), `holder` (who has the machine), `affiliate`, `supplier`, `authority`, … */
  readonly group: string | undefined
  readonly region: string
  readonly onSite: boolean
  /** Origin group or country -> transfer tool. */
  readonly transfers: ReadonlyMap<string, string>
  readonly privacyContact: string | undefined
}

export interface Output {
  readonly id: OutputId
  readonly index: number
  readonly recipient: Recipient
  readonly purpose: Purpose
  /** `basis:` on the output itself: the same in every country, instead of the table. */
  readonly basis: BasisEntry | undefined
  readonly to: Destination
  readonly reach: 'any' | 'site'
  readonly recipientKeepsMs: number | undefined
  readonly arrivalVisible: boolean
  /** Law that lets a `legal_obligation` output run although the machine's device setting is off. */
  readonly despiteDeviceSetting: string | undefined
  readonly streams: readonly OutputStream[]
}

export interface Destination {
  /** `out/{stream}/{machine_id}`: placeholders are `{stream}` and fields of the output, filled with transformed values. */
  readonly topic: string
  readonly qos: 0 | 1 | 2
  /** `local` and names of bridges. */
  readonly via: readonly string[]
  readonly sendWithinMs: number | undefined
  readonly retain: boolean
  /** Part of the outbox that the output may fill, 0 to 1. Default: half. */
  readonly share?: number | undefined
  /** At its share, or when the outbox is full: the terminal keeps the message, or the output's oldest ones go. Default: wait. */
  readonly atQuota?: 'wait' | 'drop_oldest' | undefined
}

export interface OutputStream {
  readonly stream: Stream
  readonly when: Condition | undefined
  /** Field or point names. */
  readonly require: readonly string[]
  readonly emit: Emit | undefined
  /** In field-number order of the (top-level) target; a point stands at its lat field. */
  readonly fields: readonly FieldRule[]
}

export interface Emit {
  readonly everyMs: number | undefined
  readonly take: 'first' | 'last' | { readonly max: string }
  readonly onChange: readonly string[]
  readonly hold: boolean
}

/** What one output does with one field, point or the members of a message field. */
export interface FieldRule {
  /** `soc_pct_x10`, `header.time`, or the name of a point. */
  readonly path: string
  readonly target: Target
  readonly consent: Branch
  /** Equal to `consent` when the rule is not written as a pair. */
  readonly noConsent: Branch
  readonly pair: boolean
  /** Where it stands in the file, for explain and findings. */
  readonly line: number
  /** The included file that it stands in; absent in the rules file itself. */
  readonly file?: string
}

export type Target =
  /** `fields` are the FieldShapes along the path; the last is the leaf. */
  | { readonly kind: 'field'; readonly fields: readonly FieldShape[] }
  | { readonly kind: 'point'; readonly point: Point }

export type Branch =
  /** Transforms in order; empty means drop. */
  | { readonly kind: 'chain'; readonly chain: readonly Transform[] }
  /** Key-value list (`by` / `with` / `only`) over a repeated message. */
  | { readonly kind: 'keyed'; readonly keyed: Keyed }

export interface Keyed {
  /** Member that holds the key, or `j1939_pgn(member)`. */
  readonly by: { readonly member: string; readonly fn: 'none' | 'j1939_pgn' }
  readonly with: ReadonlyMap<string, readonly Transform[]>
  readonly only: ReadonlyMap<number, ReadonlyMap<string, readonly Transform[]>>
}

/** An area on the ground, in degrees. */
export type Zone =
  | { readonly kind: 'circle'; readonly lat: number; readonly lon: number; readonly radiusM: number }
  /** Corners in order; the last is joined to the first. */
  | { readonly kind: 'polygon'; readonly corners: readonly (readonly [lat: number, lon: number])[] }

/** One transform with checked parameters in wire units. `name` is a key of the catalogue in minimise/transforms.ts. */
export interface Transform {
  readonly name: string
  readonly params: Readonly<Record<string, unknown>>
}

/** What a parameter of the rules may stand for. */
export type ParamValue = ParamScalar | readonly ParamScalar[]
export type ParamScalar = string | number | boolean
/** Name -> value. */
export type Params = Readonly<Record<string, ParamValue>>

/** A test in the rules file, kept as read; minimise and cli/test.ts interpret it. */
export interface RuleTest {
  readonly name: string
  readonly line: number
  /** The included file that it stands in; absent in the rules file itself. */
  readonly file?: string
  /** Values under which it runs, whatever is in force elsewhere. */
  readonly params?: Params
  readonly given: Readonly<Record<string, unknown>> | undefined
  readonly expect: Readonly<Record<string, unknown>> | undefined
  readonly steps: readonly Readonly<Record<string, unknown>>[] | undefined
  readonly others: 'nothing' | undefined
  readonly neverContains: readonly string[]
}
