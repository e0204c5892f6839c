/**
 * The rules file as it is written: what the schema lets through, before names are resolved.
 */
import type { Basis, Choice, Params } from '../domain/policy.ts'
import type { Classification } from '../domain/schema.ts'

export type Named<T> = Readonly<Record<string, T>>

export interface RulesFile {
  readonly version: 1
  readonly include?: readonly string[]
  readonly params?: Params
  readonly policy?: { readonly id?: string; readonly effective?: string; readonly notice?: string }
  readonly streams: Named<StreamText>
  readonly subject?: {
    readonly sessions?: { readonly stream: string; readonly sign_on: string; readonly sign_off?: string; readonly operator: string }
    readonly consent?: ChoiceText
    readonly session_max?: string
    readonly handover_quarantine?: string
    readonly late_limit?: string
  }
  readonly purposes?: Named<{ readonly about: string; readonly clause?: string; readonly dpv?: string; readonly replaces?: string | readonly string[] }>
  readonly legal_basis?: Named<Named<BasisText | string | readonly string[]>>
  readonly recipients?: Named<RecipientText>
  readonly outputs: Named<OutputText>
  readonly zones?: Named<ZoneText>
  readonly fields?: Named<Partial<Classification>>
  readonly accept?: readonly AcceptText[]
  readonly tests?: readonly TestText[]
}

export interface ChoiceText {
  readonly stream: string
  readonly purpose: string
  readonly choice: string
  readonly means: Named<Choice>
  readonly operator?: string
  readonly policy?: string
  readonly language?: string
  readonly supersedes?: string
  readonly evidence?: string
}

export interface StreamText {
  readonly topic: string
  readonly message: string
  readonly case?: string
  readonly machine?: string
  readonly operator?: string
  readonly time?: { readonly field: string; readonly unit?: 's' | 'ms' | 'us' | 'ns' }
  readonly points?: Named<PointText>
}

export interface PointText {
  readonly kind?: 'plain' | 'delta'
  readonly lat: string
  readonly lon: string
  readonly dlat?: string
  readonly dlon?: string
  readonly dt?: string
  readonly unit: 'deg' | 'e5' | 'e6' | 'e7' | { readonly scale: number }
  readonly valid?: string
}

export type BasisText = Basis | { readonly basis: Basis; readonly law?: string; readonly assessment?: string; readonly employee_consent?: string }

export interface RecipientText {
  readonly id?: string
  readonly role: 'controller' | 'processor' | 'joint_controller'
  readonly group?: string
  readonly region: string
  readonly on_site?: boolean
  readonly transfers?: Named<string>
  readonly privacy_contact?: string
}

export interface OutputText {
  readonly recipient: string | RecipientText
  readonly purpose: string
  readonly basis?: BasisText
  readonly to: { readonly topic: string; readonly qos?: 0 | 1 | 2; readonly via?: readonly string[]; readonly send_within?: string; readonly retain?: boolean; readonly share?: string; readonly at_quota?: 'wait' | 'drop_oldest' }
  readonly reach?: 'any' | 'site'
  readonly recipient_keeps?: string
  readonly arrival_visible?: boolean
  readonly despite_device_setting?: string
  readonly fields?: Named<RuleText>
  readonly streams: Named<OutputStreamText>
}

export interface OutputStreamText {
  readonly keep?: 'not_personal' | readonly string[]
  readonly fields?: Named<RuleText>
  readonly when?: string
  readonly require?: readonly string[]
  readonly emit?: { readonly every?: string; readonly take?: 'first' | 'last' | { readonly max: string }; readonly on_change?: readonly string[]; readonly hold?: boolean }
}

export type TransformText = string | Named<unknown>
export type ChainText = TransformText | readonly TransformText[]
export interface KeyedText {
  readonly by: string
  readonly with?: Named<ChainText>
  readonly only: Named<Named<ChainText>>
}
export type TreatmentText = ChainText | KeyedText
export type RuleText = TreatmentText | { readonly consent: TreatmentText; readonly no_consent: TreatmentText }

export interface ZoneText {
  readonly circle?: { readonly at: readonly [number, number]; readonly radius: string }
  readonly polygon?: readonly (readonly [number, number])[]
}

export interface AcceptText {
  readonly code: string
  readonly at: string
  readonly why: string
  readonly until?: string
}

export interface TestText {
  readonly name: string
  readonly params?: Params
  readonly given?: Named<unknown>
  readonly expect?: Named<unknown>
  readonly steps?: readonly Named<unknown>[]
  readonly others?: 'nothing'
  readonly never_contains?: readonly (string | number)[]
}
