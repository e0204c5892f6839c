/**
 * The shape of protobuf messages as the rest of the product sees it: what minimise/descriptor.ts makes of .proto files.
 * Plain data, no library types.
 */

export type ScalarType =
  | 'double' | 'float'
  | 'int32' | 'int64' | 'uint32' | 'uint64' | 'sint32' | 'sint64'
  | 'fixed32' | 'fixed64' | 'sfixed32' | 'sfixed64'
  | 'bool' | 'string' | 'bytes' | 'enum'

/** Who a field is about when its value alone names somebody or something (privacy.proto `subject`). */
export type SubjectKind = 'none' | 'machine' | 'operator' | 'session' | 'customer'

/**
 * Categories of privacy.proto in bit order: the index is the bit in the disclosure counts, so entries are only ever appended
 * (at most 30). Bit 0 is for fields without a classification. A test holds this list and the proto's comment together.
 */
export const CATEGORIES = [
  'unclassified', 'identity', 'credential', 'session', 'performance', 'machine_identity', 'customer', 'time', 'sequence', 'counter',
  'position', 'motion', 'operation', 'battery', 'load', 'posture', 'fault', 'safety', 'check', 'environment', 'network', 'free_text',
  'media', 'software', 'consent', 'can_raw',
] as const
export type Category = (typeof CATEGORIES)[number]

/** The category's bit; that of `unclassified` for a word that is not in the list. */
export function categoryBit(category: string): number {
  return 1 << Math.max(0, (CATEGORIES as readonly string[]).indexOf(category))
}

/** What proto/parapet/v1/privacy.proto says of a field, or the rules file's `fields:` for a foreign schema. */
export interface Classification {
  readonly category: string
  readonly class: 'basic' | 'additional'
  readonly personal: 'never' | 'linkable' | 'always'
  readonly subject: SubjectKind
  /** Unit of the physical value, e.g. `%`, `m`, `s`; empty when it has none. */
  readonly unit: string
  /** physical = wire * scale. */
  readonly scale: number
}

export interface EnumShape {
  readonly name: string
  /** Member name -> number; aliases keep the first name for a number. */
  readonly values: ReadonlyMap<string, number>
  readonly names: ReadonlyMap<number, string>
  /** proto2 semantics: numbers that are no member count as unknown fields. */
  readonly closed: boolean
}

export interface FieldShape {
  readonly number: number
  readonly name: string
  /** `message` and `group` carry `message`; `enum` carries `enum`. */
  readonly type: ScalarType | 'message' | 'group'
  readonly repeated: boolean
  /** Canonical encoding of a repeated scalar. */
  readonly packed: boolean
  /** True for a map field; `message` is then the entry type with fields 1 (key) and 2 (value). */
  readonly map: boolean
  /** Absence differs from the zero value: proto3 `optional`, proto2, oneof members, messages. */
  readonly presence: boolean
  readonly oneof: string | undefined
  /** Whether strings must be valid UTF-8 (proto3 and editions VERIFY). */
  readonly utf8: boolean
  readonly enum: EnumShape | undefined
  readonly message: MessageShape | undefined
  /** What an absent field reads as when that is not its type's zero: a `default` of the schema, or the first member of a closed enum. */
  readonly initial?: number | bigint | boolean | string | Uint8Array
  /** Undefined when neither the schema nor the rules classify the field: treated as additional, always personal. */
  readonly classified: Classification | undefined
}

export interface MessageShape {
  /** Full name without leading dot: `awp.v1.Status`. */
  readonly name: string
  /** In field-number order. */
  readonly fields: readonly FieldShape[]
  readonly byName: ReadonlyMap<string, FieldShape>
  readonly byNumber: ReadonlyMap<number, FieldShape>
  /** The entry of a map field: key 1 and value 2 are always written. */
  readonly entry?: true
}

/** What an unclassified field counts as: the strictest there is (G3). */
export const UNCLASSIFIED: Classification = {
  category: 'unclassified', class: 'additional', personal: 'always', subject: 'none', unit: '', scale: 1,
}

export function classificationOf(field: FieldShape): Classification {
  return field.classified ?? UNCLASSIFIED
}
