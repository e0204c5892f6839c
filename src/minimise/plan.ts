/**
 * A plan: the readable form of one minimiser, plain data. Everything that can leave is named in it and nothing else is;
 * both engines, `explain`, `diff` and the verifier read it.
 */
import { createHash } from 'node:crypto'
import type { Condition, FieldRule, Keyed, Output, OutputStream, Point, TimeRef, Transform } from '../domain/policy.ts'
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import { classificationOf } from '../domain/schema.ts'
import { isDrop } from './transforms.ts'
import { pathOf } from './tree.ts'

/** What of a decision shapes a minimiser. Few enough to build them all when rules are accepted. */
export interface Variant {
  /** The operator's valid yes for the output's purpose: pairs take their `consent` branch. */
  readonly consent: boolean
  /** Fields that identify an operator may be in the output (domain/basis.ts operatorFieldsAllowed). */
  readonly operatorFields: boolean
}

export const VARIANTS: readonly Variant[] = [
  { consent: false, operatorFields: false },
  { consent: false, operatorFields: true },
  { consent: true, operatorFields: false },
  { consent: true, operatorFields: true },
]

/** Index into VARIANTS without allocating. */
export function variantIndex(consent: boolean, operatorFields: boolean): number {
  return (consent ? 2 : 0) + (operatorFields ? 1 : 0)
}

export interface Plan {
  readonly output: string
  readonly stream: string
  readonly variant: Variant
  readonly message: MessageShape
  readonly root: PlanNode
  readonly points: readonly PlanPoint[]
  readonly when: Condition | undefined
  /** What is sent when the condition fails to evaluate and the basis is a legal obligation: only `personal: never` fields (rules-language 4.7). */
  readonly onError: Plan | undefined
  /** Paths of fields and names of points. */
  readonly require: readonly string[]
  /** Topic template in pieces: text, or the path of a field whose transformed value is filled in. */
  readonly topic: readonly TopicPiece[]
  /** Paths that do not count as content: machine, time and topic fields (rules-language 4.6). */
  readonly header: ReadonlySet<string>
  readonly time: TimeRef | undefined
  /** First 16 hex digits of the SHA-256 over the plan's content. */
  readonly id: string
}

export type TopicPiece = { readonly text: string } | { readonly path: string }

export interface PlanNode {
  readonly shape: MessageShape
  /** In field-number order. */
  readonly steps: readonly PlanStep[]
}

export type PlanStep =
  /** A scalar, or each element of a repeated scalar. */
  | { readonly kind: 'value'; readonly field: FieldShape; readonly path: string; readonly chain: readonly Transform[] }
  /** A message, each element of a repeated message, or each value of a map. */
  | { readonly kind: 'node'; readonly field: FieldShape; readonly path: string; readonly node: PlanNode }
  /** google.protobuf.Timestamp under transforms. */
  | { readonly kind: 'timestamp'; readonly field: FieldShape; readonly path: string; readonly chain: readonly Transform[] }
  | { readonly kind: 'keyed'; readonly field: FieldShape; readonly path: string; readonly keyed: PlanKeyed }

export interface PlanKeyed {
  readonly by: Keyed['by']
  readonly key: FieldShape
  /** What leaves of an element by key; keys that are not here are dropped with their element. */
  readonly nodes: ReadonlyMap<number, PlanNode>
}

export interface PlanPoint {
  readonly point: Point
  readonly lat: readonly FieldShape[]
  readonly lon: readonly FieldShape[]
  /** Steps of a delta track: repeated fields beside the base. */
  readonly track: { readonly dlat: readonly FieldShape[]; readonly dlon: readonly FieldShape[]; readonly dt: readonly FieldShape[] | undefined } | undefined
  readonly chain: readonly Transform[]
}

/**
 * The plan of one output for one stream and variant.
 * @param neverOnly  only fields of `personal: never` (the fallback of a legal record)
 */
export function planFor(output: Output, source: OutputStream, variant: Variant, neverOnly = false): Plan {
  const message = source.stream.message
  const root = new NodeDraft(message)
  const points: PlanPoint[] = []
  for (const rule of source.fields) addRule(root, points, rule, message, variant, neverOnly)
  const topic = topicPieces(output.to.topic, source.stream.id)
  const header = new Set(topic.flatMap((piece) => ('path' in piece ? [piece.path] : [])))
  if (source.stream.machineField !== undefined) header.add(source.stream.machineField)
  if (source.stream.time !== undefined) header.add(source.stream.time.field)
  for (const field of message.fields) {
    const { category, subject } = classificationOf(field)
    if (subject === 'machine' || category === 'time') header.add(field.name)
  }
  const plan = {
    output: output.id,
    stream: source.stream.id,
    variant,
    message,
    root: root.node(),
    points,
    when: neverOnly ? undefined : source.when,
    onError: !neverOnly && source.when !== undefined ? planFor(output, source, variant, true) : undefined,
    require: neverOnly ? [] : source.require,
    topic,
    header,
    time: source.stream.time,
  }
  return { ...plan, id: planId(plan) }
}

function addRule(root: NodeDraft, points: PlanPoint[], rule: FieldRule, message: MessageShape, variant: Variant, neverOnly: boolean): void {
  const branch = variant.consent ? rule.consent : rule.noConsent
  if (rule.target.kind === 'point') {
    if (branch.kind !== 'chain' || isDrop(branch.chain) || neverOnly) return
    const { point } = rule.target
    const at = (path: string | undefined): FieldShape[] => pathOf(message, path as string) as FieldShape[]
    const track = point.kind === 'delta' ? { dlat: at(point.dlat), dlon: at(point.dlon), dt: point.dt === undefined ? undefined : at(point.dt) } : undefined
    points.push({ point, lat: at(point.lat), lon: at(point.lon), track, chain: withoutKeep(branch.chain) })
    return
  }
  const path = rule.target.fields
  if (path.some((field) => isBarred(field, variant)) || (neverOnly && classificationOf(path[path.length - 1] as FieldShape).personal !== 'never')) return
  if (branch.kind === 'keyed') {
    root.keyed(path, branch.keyed, variant, neverOnly)
    return
  }
  if (isDrop(branch.chain)) return
  root.add(path, withoutKeep(branch.chain), variant, neverOnly)
}

/** A field that identifies an operator, where none may leave (rules-language 3.4, 4.3). */
function isBarred(field: FieldShape, variant: Variant): boolean {
  const { subject } = classificationOf(field)
  return !variant.operatorFields && (subject === 'operator' || subject === 'session')
}

/** `keep` is the absence of change; an empty chain in a plan means kept as it is. */
function withoutKeep(chain: readonly Transform[]): readonly Transform[] {
  return chain.filter((one) => one.name !== 'keep')
}

/** Collects steps of one message while rules with dotted paths are laid into it. */
class NodeDraft {
  private readonly shape: MessageShape
  private readonly steps = new Map<number, PlanStep | { readonly kind: 'draft'; readonly field: FieldShape; readonly path: string; readonly draft: NodeDraft }>()

  constructor(shape: MessageShape) {
    this.shape = shape
  }

  add(path: readonly FieldShape[], chain: readonly Transform[], variant: Variant, neverOnly: boolean, prefix = ''): void {
    const field = path[0] as FieldShape
    const name = prefix + field.name
    if (path.length > 1) {
      this.descend(field, name).add(path.slice(1), chain, variant, neverOnly, `${name}.`)
      return
    }
    if (field.message === undefined) {
      this.steps.set(field.number, { kind: 'value', field, path: name, chain })
    } else if (field.map && field.message.byNumber.get(2)?.message === undefined) {
      const value = field.message.byNumber.get(2) as FieldShape
      this.descend(field, name).steps.set(2, { kind: 'value', field: value, path: `${name}.value`, chain })
    } else if (chain.length > 0) {
      this.steps.set(field.number, { kind: 'timestamp', field, path: name, chain })
    } else {
      // A kept message keeps its known fields, all the way down, as they are frozen with the accepted set.
      this.keepAll(field, name, variant, neverOnly, 0)
    }
  }

  keyed(path: readonly FieldShape[], keyed: Keyed, variant: Variant, neverOnly: boolean, prefix = ''): void {
    const field = path[0] as FieldShape
    const name = prefix + field.name
    if (path.length > 1) {
      this.descend(field, name).keyed(path.slice(1), keyed, variant, neverOnly, `${name}.`)
      return
    }
    const shape = field.message as MessageShape
    const nodes = new Map<number, PlanNode>()
    for (const [key, own] of keyed.only) {
      const draft = new NodeDraft(shape)
      for (const [member, chain] of new Map([...keyed.with, ...own])) {
        const target = shape.byName.get(member) as FieldShape
        if (isDrop(chain) || isBarred(target, variant) || (neverOnly && classificationOf(target).personal !== 'never')) continue
        draft.add([target], withoutKeep(chain), variant, neverOnly, `${name}.`)
      }
      nodes.set(key, draft.node())
    }
    this.steps.set(field.number, { kind: 'keyed', field, path: name, keyed: { by: keyed.by, key: shape.byName.get(keyed.by.member) as FieldShape, nodes } })
  }

  node(): PlanNode {
    const steps = [...this.steps.values()]
      .sort((a, b) => a.field.number - b.field.number)
      .map((step): PlanStep => (step.kind === 'draft' ? { kind: 'node', field: step.field, path: step.path, node: step.draft.node() } : step))
    return { shape: this.shape, steps }
  }

  private keepAll(field: FieldShape, name: string, variant: Variant, neverOnly: boolean, depth: number): void {
    const draft = this.descend(field, name)
    // A type that contains itself is kept to a fixed depth; what lies deeper does not leave.
    if (depth > KEEP_DEPTH) return
    for (const inner of draft.shape.fields) {
      if (draft.shape.entry === true && inner.number === 1) continue
      if (isBarred(inner, variant) || (neverOnly && classificationOf(inner).personal !== 'never')) continue
      if (inner.message === undefined) draft.steps.set(inner.number, { kind: 'value', field: inner, path: `${name}.${inner.name}`, chain: [] })
      else draft.keepAll(inner, `${name}.${inner.name}`, variant, neverOnly, depth + 1)
    }
  }

  /** The draft of a message field, a repeated one, or the values of a map. */
  private descend(field: FieldShape, path: string): NodeDraft {
    const known = this.steps.get(field.number)
    if (known?.kind === 'draft') return known.draft
    const own = field.message as MessageShape
    const shape = field.map ? (own.byNumber.get(2)?.message ?? own) : own
    const draft = new NodeDraft(shape)
    this.steps.set(field.number, { kind: 'draft', field, path, draft })
    return draft
  }
}

const KEEP_DEPTH = 8

/** `out/{stream}/{machine_id}` -> pieces; `{stream}` is filled here, fields at run time. */
export function topicPieces(template: string, stream: string): TopicPiece[] {
  const pieces: TopicPiece[] = []
  let text = ''
  for (const part of template.split(/(\{[^}]*\})/)) {
    if (part === '{stream}') text += stream
    else if (part.startsWith('{')) {
      if (text !== '') pieces.push({ text })
      text = ''
      pieces.push({ path: part.slice(1, -1) })
    } else text += part
  }
  if (text !== '') pieces.push({ text })
  return pieces
}

/** Content hash: equal plans have equal ids, whatever file they came from. */
function planId(plan: Omit<Plan, 'id'>): string {
  const seen = JSON.stringify(plan, (key, value: unknown) => {
    if (key === 'shape' || key === 'message') return (value as MessageShape | undefined)?.name
    if (key === 'field' || key === 'key') return `${(value as FieldShape).number}:${(value as FieldShape).type}`
    // Paths of fields; the circle of a zone has numbers under these names.
    if (Array.isArray(value) && (key === 'lat' || key === 'lon' || key === 'dlat' || key === 'dlon' || key === 'dt')) return (value as FieldShape[]).map((field) => field.number)
    if (key === 'ast') return undefined
    if (value instanceof Map) return [...value].map(([name, one]) => [String(name), one])
    if (value instanceof Set) return [...value].sort()
    return typeof value === 'bigint' ? `${value}n` : value
  })
  return createHash('sha256').update(seen).digest('hex').slice(0, 16)
}
