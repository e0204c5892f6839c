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
  readonly time: TimeRef | undefined
  /** First 16 hex digits of the SHA-256 over the plan's content. */
  readonly id: string
  /** All of it: whoever takes one plan for another goes by this, for two plans with one short id can be searched for. */
  readonly digest: string
}

export type TopicPiece = { readonly text: string } | { readonly path: string }

/**
 * What leaves of one message. Messages that are kept with all they hold share one node for each type, so a plan is a graph: a type that
 * contains itself has a node that leads back to itself. Walk it with `nodesOf`, or in step with a message, whose depth is bounded.
 */
export interface PlanNode {
  readonly shape: MessageShape
  /** In field-number order. */
  readonly steps: readonly PlanStep[]
  /**
   * Every known field leaves as it is, all the way down. Such a message has nothing to hide, so it leaves whenever it is there, be it
   * empty. Any other singular message leaves only when something of it is left: an empty one would tell that what is not named was there.
   */
  readonly whole: boolean
}

export type PlanStep = {
  readonly field: FieldShape
  /** Machine, time and topic fields and what lies in them: no content on their own (rules-language 4.6). */
  readonly header: boolean
} & (
  /** A scalar, or each element of a repeated scalar. */
  | { readonly kind: 'value'; readonly chain: readonly Transform[] }
  /** A message, each element of a repeated message, or each value of a map. */
  | { readonly kind: 'node'; readonly node: PlanNode }
  /** A well-known type under transforms, single, repeated or as the values of a map: known.ts. */
  | { readonly kind: 'known'; readonly chain: readonly Transform[] }
  | { readonly kind: 'keyed'; readonly keyed: PlanKeyed }
)

/** Every node of a plan once, those that contain others before them. */
export function nodesOf(root: PlanNode): readonly PlanNode[] {
  const nodes = new Set([root])
  for (const { steps } of nodes) {
    for (const step of steps) {
      if (step.kind === 'node') nodes.add(step.node)
      else if (step.kind === 'keyed') for (const inner of step.keyed.nodes.values()) nodes.add(inner)
    }
  }
  return [...nodes]
}

/** The steps along a dotted path, or undefined where one of them is not in the plan. */
export function stepsAlong(root: PlanNode, path: string): readonly PlanStep[] | undefined {
  const steps: PlanStep[] = []
  let node: PlanNode | undefined = root
  for (const name of path.split('.')) {
    const step: PlanStep | undefined = node?.steps.find((one) => one.field.name === name)
    if (step === undefined) return undefined
    steps.push(step)
    node = step.kind === 'node' ? step.node : undefined
  }
  return steps
}

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
  const topic = topicPieces(output.to.topic, source.stream.id)
  const laying = new Laying(variant, neverOnly, headerPaths(topic, source))
  const root = new NodeDraft(message, laying)
  const points: PlanPoint[] = []
  for (const rule of source.fields) addRule(root, points, rule, message, laying)
  const plan = {
    output: output.id,
    stream: source.stream.id,
    variant,
    message,
    root: settled(root.node()),
    points,
    when: neverOnly ? undefined : source.when,
    onError: !neverOnly && source.when !== undefined ? planFor(output, source, variant, true) : undefined,
    require: neverOnly ? [] : source.require,
    topic,
    time: source.stream.time,
  }
  const digest = digestOf(plan)
  return { ...plan, id: digest.slice(0, 16), digest }
}

/** Header fields by what they are there for; others are by what the schema says of them. */
function headerPaths(topic: readonly TopicPiece[], { stream }: OutputStream): ReadonlySet<string> {
  const paths = new Set(topic.flatMap((piece) => ('path' in piece ? [piece.path] : [])))
  if (stream.machineField !== undefined) paths.add(stream.machineField)
  if (stream.time !== undefined) paths.add(stream.time.field)
  return paths
}

function addRule(root: NodeDraft, points: PlanPoint[], rule: FieldRule, message: MessageShape, laying: Laying): void {
  const { variant, neverOnly } = laying
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
  if (path.some((field) => isBarred(field, variant)) || laying.isOut(path[path.length - 1] as FieldShape)) return
  // What a message says of itself holds for the fields in it.
  if (neverOnly && path.some(({ classified }) => classified !== undefined && classified.personal !== 'never')) return
  if (branch.kind === 'keyed') root.keyed(path, branch.keyed)
  else if (!isDrop(branch.chain)) root.add(path, withoutKeep(branch.chain))
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

/** What holds for a whole plan while it is laid out, and the nodes of messages that are kept with all they hold. */
class Laying {
  readonly variant: Variant
  readonly neverOnly: boolean
  readonly headers: ReadonlySet<string>
  private readonly kept = new Map<MessageShape, PlanNode>()
  private readonly keptInHeader = new Map<MessageShape, PlanNode>()

  constructor(variant: Variant, neverOnly: boolean, headers: ReadonlySet<string>) {
    this.variant = variant
    this.neverOnly = neverOnly
    this.headers = headers
  }

  isOut(field: FieldShape): boolean {
    return isBarred(field, this.variant) || (this.neverOnly && classificationOf(field).personal !== 'never')
  }

  /** Known fields all the way down, as they are frozen with the accepted set; one node for each type. */
  keep(shape: MessageShape, header: boolean): PlanNode {
    const nodes = header ? this.keptInHeader : this.kept
    const known = nodes.get(shape)
    if (known !== undefined) return known
    const steps: PlanStep[] = []
    const node: PlanNode = { shape, steps, whole: true }
    // Registered before its fields are read: messages may contain themselves.
    nodes.set(shape, node)
    for (const field of fieldsOf(shape)) {
      if (this.isOut(field)) continue
      const inHeader = header || isHeaderField(field)
      steps.push(field.message === undefined ? { kind: 'value', field, header: inHeader, chain: [] } : { kind: 'node', field, header: inHeader, node: this.keep(shapeIn(field.message), inHeader) })
    }
    return node
  }
}

/** Of the entry of a map the value; the key comes with it. */
function fieldsOf(shape: MessageShape): readonly FieldShape[] {
  return shape.entry === true ? shape.fields.filter((field) => field.number === 2) : shape.fields
}

/** What a node of a message field is about: the message, or the message that a map has as its values. */
function shapeIn(message: MessageShape): MessageShape {
  return message.entry === true ? (message.byNumber.get(2)?.message ?? message) : message
}

function isHeaderField(field: FieldShape): boolean {
  const { category, subject } = classificationOf(field)
  return subject === 'machine' || category === 'time'
}

/** Collects steps of one message while rules with dotted paths are laid into it. */
class NodeDraft {
  private readonly shape: MessageShape
  private readonly laying: Laying
  private readonly prefix: string
  private readonly header: boolean
  private readonly steps = new Map<number, PlanStep | { readonly kind: 'draft'; readonly field: FieldShape; readonly header: boolean; readonly draft: NodeDraft }>()

  constructor(shape: MessageShape, laying: Laying, prefix = '', header = false) {
    this.shape = shape
    this.laying = laying
    this.prefix = prefix
    this.header = header
  }

  add(path: readonly FieldShape[], chain: readonly Transform[]): void {
    const field = path[0] as FieldShape
    if (path.length > 1) {
      this.descend(field).add(path.slice(1), chain)
      return
    }
    const header = this.isHeader(field)
    if (field.message === undefined) this.steps.set(field.number, { kind: 'value', field, header, chain })
    else if (shapeIn(field.message).entry === true) this.descend(field).add([field.message.byNumber.get(2) as FieldShape], chain)
    else if (chain.length > 0) this.steps.set(field.number, { kind: 'known', field, header, chain })
    else this.keep(field, header)
  }

  keyed(path: readonly FieldShape[], keyed: Keyed): void {
    const field = path[0] as FieldShape
    if (path.length > 1) {
      this.descend(field).keyed(path.slice(1), keyed)
      return
    }
    const shape = field.message as MessageShape
    const header = this.isHeader(field)
    const nodes = new Map<number, PlanNode>()
    for (const [key, own] of keyed.only) {
      const draft = new NodeDraft(shape, this.laying, this.pathOf(field), header)
      for (const [member, chain] of new Map([...keyed.with, ...own])) {
        const target = shape.byName.get(member) as FieldShape
        if (!isDrop(chain) && !this.laying.isOut(target)) draft.add([target], withoutKeep(chain))
      }
      nodes.set(key, draft.node())
    }
    this.steps.set(field.number, { kind: 'keyed', field, header, keyed: { by: keyed.by, key: shape.byName.get(keyed.by.member) as FieldShape, nodes } })
  }

  node(): PlanNode {
    const steps = [...this.steps.values()]
      .sort((a, b) => a.field.number - b.field.number)
      .map((step): PlanStep => (step.kind === 'draft' ? { kind: 'node', field: step.field, header: step.header, node: step.draft.node() } : step))
    return { shape: this.shape, steps, whole: false }
  }

  /** A kept message shares its type's node, unless one of its own fields is a header field because of where it stands. */
  private keep(field: FieldShape, header: boolean): void {
    const shape = shapeIn(field.message as MessageShape)
    const inside = `${this.pathOf(field)}.`
    if (header || ![...this.laying.headers].some((path) => path.startsWith(inside))) {
      this.steps.set(field.number, { kind: 'node', field, header, node: this.laying.keep(shape, header) })
      return
    }
    const draft = this.descend(field)
    for (const inner of fieldsOf(shape)) if (!this.laying.isOut(inner)) draft.add([inner], [])
  }

  /** The draft of a message field, a repeated one, or the values of a map. */
  private descend(field: FieldShape): NodeDraft {
    const known = this.steps.get(field.number)
    if (known?.kind === 'draft') return known.draft
    const header = this.isHeader(field)
    const draft = new NodeDraft(shapeIn(field.message as MessageShape), this.laying, this.pathOf(field), header)
    this.steps.set(field.number, { kind: 'draft', field, header, draft })
    return draft
  }

  private isHeader(field: FieldShape): boolean {
    return this.header || isHeaderField(field) || this.laying.headers.has(this.pathOf(field))
  }

  private pathOf({ name }: FieldShape): string {
    return this.prefix === '' ? name : `${this.prefix}.${name}`
  }
}

/** Marks the nodes that are whole: the largest set of nodes that keep every field and lead to such nodes only. */
function settled(root: PlanNode): PlanNode {
  // Those that contain others come last, so that one round is mostly enough.
  const nodes = [...nodesOf(root)].reverse() as { -readonly [K in keyof PlanNode]: PlanNode[K] }[]
  for (const node of nodes) node.whole = node.steps.length === fieldsOf(node.shape).length && node.steps.every((step) => step.kind === 'node' || (step.kind === 'value' && step.chain.length === 0))
  for (let isStable = false; !isStable;) {
    isStable = true
    for (const node of nodes) {
      if (!node.whole || node.steps.every((step) => step.kind !== 'node' || step.node.whole)) continue
      node.whole = false
      isStable = false
    }
  }
  return root
}

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

/** Content hash: equal plans have equal ids, whatever file they came from. Nodes are told by their number, for a plan is a graph. */
function digestOf({ root, onError, ...plan }: Omit<Plan, 'id' | 'digest'>): string {
  const nodes = nodesOf(root)
  const numbers = new Map(nodes.map((node, number) => [node, number]))
  const seen = JSON.stringify({ ...plan, onError: onError?.digest, nodes }, (key, value: unknown) => {
    if (key === 'shape' || key === 'message') return (value as MessageShape | undefined)?.name
    if (key === 'field' || key === 'key') return `${(value as FieldShape).number}:${(value as FieldShape).type}`
    if (key === 'node') return numbers.get(value as PlanNode)
    // Paths of fields; the circle of a zone has numbers under these names.
    if (Array.isArray(value) && (key === 'lat' || key === 'lon' || key === 'dlat' || key === 'dlon' || key === 'dt')) return (value as FieldShape[]).map((field) => field.number)
    if (key === 'ast') return undefined
    if (value instanceof Map) return [...value].map(([name, one]) => [String(name), numbers.get(one as PlanNode) ?? one])
    // JSON has one zero, but only the other one is written into a floating point field.
    if (Object.is(value, -0)) return '-0'
    return typeof value === 'bigint' ? `${value}n` : value
  })
  return createHash('sha256').update(seen).digest('hex')
}
