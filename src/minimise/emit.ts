/**
 * Plan -> JavaScript text of the fast path. The text holds only words written here, integers, and names of values closed over;
 * nothing from a schema, a rules file or a message is ever pasted in (names of fields appear as field numbers).
 *
 * The function works in two steps over canonical input: scan every known field once, in field-number order, checking as strictly as
 * the interpreter would; then write what leaves. Whatever is not canonical (another order, duplicates, overlong varints, defaults on
 * the wire, unknown fields in the middle, anything malformed) answers `ODD` and the interpreter decides. Nothing is read into a
 * result before the scan has ended exactly at the message's end.
 */
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import type { Transform } from '../domain/policy.ts'
import { Verdict } from '../domain/verdict.ts'
import type { Expr } from './condition.ts'
import type { Plan, PlanPoint, PlanStep } from './plan.ts'
import { RANGES } from './number.ts'
import { wireTypeOf } from './tree.ts'
import { kindOf } from './value.ts'

export interface Emitted {
  readonly text: string
  /** What the text closes over, by name, in order: the parameters of the factory. */
  readonly needs: readonly Need[]
}

export type Need =
  | { readonly name: string; readonly kind: 'chain'; readonly step: PlanStep & { kind: 'value' } }
  | { readonly name: string; readonly kind: 'point'; readonly point: PlanPoint }
  | { readonly name: string; readonly kind: 'shape'; readonly field: FieldShape }
  | { readonly name: string; readonly kind: 'members'; readonly field: FieldShape }
  | { readonly name: string; readonly kind: 'topic' }
  | { readonly name: string; readonly kind: 'text'; readonly text: string }

/** The text, or undefined when the plan has a part that only the interpreter knows (nested messages, lists, times as messages). */
export function emit(plan: Plan): Emitted | undefined {
  if (plan.root.steps.some((step) => !isFast(step))) return undefined
  if ([...plan.header, ...plan.require].some((path) => path.includes('.'))) return undefined
  if (plan.points.some((point) => point.track !== undefined || point.lat.length > 1 || point.lon.length > 1 || !isPlainCondition(point.point.valid?.ast as Expr | undefined))) return undefined
  if (!isPlainCondition(plan.when?.ast as Expr | undefined)) return undefined
  // A number in the topic that a transform may drop cannot be told from a zero in the result; texts can.
  if (plan.root.steps.some((step) => step.kind === 'value' && step.chain.length > 0 && step.field.type !== 'string' && plan.topic.some((piece) => 'path' in piece && piece.path === step.path))) return undefined
  return new Emitter(plan).emit()
}

/** Plain fields under any chain; repeated fields and messages only when they leave whole, as they are. */
function isFast(step: PlanStep): boolean {
  if (step.kind === 'value') return !step.field.repeated || (step.chain.length === 0 && step.field.enum?.closed !== true)
  return step.kind === 'node' && keepsAll(step)
}

function keepsAll(step: PlanStep): boolean {
  if (step.kind === 'value') return step.chain.length === 0 && step.field.enum?.closed !== true
  const { field } = step
  return step.kind === 'node' && !field.map && field.type === 'message' && field.message === step.node.shape && field.message.fields.every((one) => one.enum?.closed !== true)
    && step.node.steps.length === field.message.fields.length && step.node.steps.every(keepsAll)
}

/** True when a condition reads single numbers and truth values only. */
function isPlainCondition(expr: Expr | undefined): boolean {
  if (expr === undefined) return true
  switch (expr.op) {
    case 'value': return typeof expr.value !== 'bigint'
    case 'field': return expr.path.length === 1 && isNumeric(expr.path[0] as FieldShape)
    case 'scope': return true
    case 'not': return isPlainCondition(expr.of)
    case '&&': case '||': case '==': case '!=': case '<': case '<=': case '>': case '>=': return isPlainCondition(expr.left) && isPlainCondition(expr.right)
    case 'in': return isPlainCondition(expr.left) && expr.list.every(isPlainCondition)
    case 'bit': return expr.bit < 31 && isPlainCondition(expr.of)
    default: return false
  }
}

function isNumeric(field: FieldShape): boolean {
  const kind = kindOf(field)
  return !field.repeated && (kind === 'integer' || kind === 'big' || kind === 'bool' || kind === 'enum' || kind === 'float')
}

/** How a field takes part. */
interface Role {
  readonly field: FieldShape
  /** Kept as it is: part of a copied run. */
  kept: boolean
  /** Its number or truth value is needed as `v<number>`. */
  value: boolean
  /** The start and end of its text or bytes are needed as `a<number>`, `b<number>`. */
  span: boolean
  step: PlanStep | undefined
}

class Emitter {
  private readonly plan: Plan
  private readonly lines: string[] = []
  private readonly locals: string[] = []
  private readonly needs: Need[] = []
  private readonly roles = new Map<number, Role>()
  private indent = 1

  constructor(plan: Plan) {
    this.plan = plan
    for (const field of plan.message.fields) this.roles.set(field.number, { field, kept: false, value: false, span: false, step: undefined })
    for (const step of plan.root.steps) {
      const role = this.role(step.field)
      role.step = step
      role.kept = step.kind !== 'value' || step.chain.length === 0
      if (!role.kept) this.wantValue(role)
    }
    for (const point of plan.points) {
      for (const field of [point.lat[0], point.lon[0]]) this.role(field as FieldShape).value = true
    }
    for (const expr of [plan.when?.ast, ...plan.points.map((point) => point.point.valid?.ast)]) this.wantFields(expr as Expr | undefined)
    for (const piece of plan.topic) {
      if ('path' in piece) {
        const field = plan.message.byName.get(piece.path)
        if (field !== undefined && this.role(field).kept) this.wantValue(this.role(field))
      }
    }
  }

  emit(): Emitted {
    this.scan()
    const scanned = this.lines.splice(0)
    this.write()
    const written = this.lines.splice(0)
    const head = [
      ...[...this.functions.values()].map((one) => one.text),
      'return function minimise(s, w, start, end, t, at, cx) {',
      `  if (at + (end - start) + ${this.growth()} > t.length) return ${Verdict.too_big.code}`,
      '  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0',
      ...(this.locals.length === 0 ? [] : [`  let ${this.locals.join(', ')}`]),
    ]
    return { text: [...head, ...scanned, ...written, '}'].join('\n'), needs: this.needs }
  }

  private role(field: FieldShape): Role {
    return this.roles.get(field.number) as Role
  }

  private wantValue(role: Role): void {
    if (isNumeric(role.field)) role.value = true
    else role.span = true
  }

  private wantFields(expr: Expr | undefined): void {
    if (expr === undefined) return
    if (expr.op === 'field') this.role(expr.path[0] as FieldShape).value = true
    for (const key of ['left', 'right', 'of'] as const) if (key in expr) this.wantFields((expr as unknown as Record<typeof key, Expr>)[key])
    if (expr.op === 'in') for (const item of expr.list) this.wantFields(item)
  }

  /** Bytes that an output can be longer than its input: transformed fields at their longest. */
  private growth(): number {
    let bytes = 16
    for (const role of this.roles.values()) if (role.step !== undefined && !role.kept) bytes += 48
    return bytes + this.plan.points.length * 40 + 4096
  }

  private line(text: string): void {
    this.lines.push('  '.repeat(this.indent) + text)
  }

  private block(opening: string, body: () => void, closing = '}'): void {
    this.line(opening)
    this.indent++
    body()
    this.indent--
    this.line(closing)
  }

  private need(need: Need): string {
    this.needs.push(need)
    return need.name
  }

  // ------------------------------------------------------------------------------------------------------------------ scan

  /** Functions for messages that leave whole. */
  private readonly functions = new Map<MessageShape, { readonly name: string; text: string }>()

  /** Runs of kept fields that lie next to each other among the schema's fields are copied in one piece. */
  private readonly runs: number[][] = []

  private scan(): void {
    let run: number[] | undefined
    const oneofs = new Set<string>()
    for (const role of this.roles.values()) {
      const { field } = role
      if (field.oneof !== undefined && !oneofs.has(field.oneof)) {
        oneofs.add(field.oneof)
        this.locals.push(`f${oneofs.size} = 0`)
      }
      const member = field.oneof === undefined ? '' : `if (f${[...oneofs].indexOf(field.oneof) + 1} === 1) return -1; f${[...oneofs].indexOf(field.oneof) + 1} = 1`
      if (role.kept) {
        if (run === undefined) {
          run = []
          this.runs.push(run)
          this.locals.push(`r${this.runs.length} = -1`, `e${this.runs.length} = 0`)
        }
        run.push(field.number)
      } else {
        run = undefined
      }
      this.scanField(role, role.kept ? this.runs.length : 0, member)
    }
    // Fields unknown to the schema with higher numbers are what a newer firmware adds: stepped over, never copied.
    const last = this.plan.message.fields.at(-1)?.number ?? 0
    this.block('if (p !== end) {', () => {
      this.line(`p = skipUnknown(s, p, end, ${last})`)
      this.line('if (p !== end) return -1')
    })
  }

  private scanField(role: Role, run: number, member: string): void {
    const { field } = role
    const wire = field.packed ? 2 : wireTypeOf(field)
    const tag = field.number * 8 + wire
    const bytes = varintBytes(tag)
    const test = tagTest(bytes)
    if (role.value) this.locals.push(`v${field.number} = ${kindOf(field) === 'bool' ? 'false' : '0'}`)
    if (role.span) this.locals.push(`a${field.number} = 0`, `b${field.number} = 0`)
    const isNoted = role.step !== undefined && (field.presence || field.repeated)
    if (isNoted) this.locals.push(`h${field.number} = 0`)
    this.block(`if (${test}) {`, () => {
      if (member !== '') this.line(member)
      if (run !== 0) this.line(`if (r${run} < 0) r${run} = p`)
      if (isNoted) this.line(`h${field.number} = 1`)
      this.line(`p += ${bytes.length}`)
      if (role.kept && (field.repeated || field.message !== undefined)) this.scanWhole(field, test)
      else if (field.repeated) this.scanRepeated(field, test)
      else this.scanSingle(role)
      if (run !== 0) this.line(`e${run} = p`)
    })
  }

  /** What leaves whole is copied if it is canonical all the way down: `p` lies behind the first tag. */
  private scanWhole(field: FieldShape, test: string): void {
    const size = varintBytes(field.number * 8 + (field.packed ? 2 : wireTypeOf(field))).length
    if (!field.repeated || field.packed) {
      this.scanOne(field)
      return
    }
    this.block('for (;;) {', () => {
      this.scanOne(field)
      this.line(`if (!(p < end && ${test})) break`)
      this.line(`p += ${size}`)
    })
  }

  /** One value, message or packed list without its tag. */
  private scanOne(field: FieldShape): void {
    const role: Role = { field, kept: true, value: false, span: false, step: undefined }
    if (field.message === undefined && !field.packed) {
      if (field.repeated) this.scanNaN(field, 'p')
      this.scanSingle(field.repeated ? { ...role, kept: false } : role)
      return
    }
    this.scanSize()
    // An empty list or a singular message with nothing in it does not leave.
    if (field.packed || !field.repeated) this.line('if (n === 0) return -1')
    this.line('q = p + n')
    this.line('if (!(q <= end)) return -1')
    if (field.message !== undefined) {
      this.line(`if (${this.nested(field.message)}(s, w, p, q) < 0) return -1`)
      this.line('p = q')
      return
    }
    const width = wireTypeOf(field)
    if (width !== 0) {
      this.line(`if (n % ${width === 1 ? 8 : 4} !== 0) return -1`)
      if (field.type === 'float' || field.type === 'double') this.block(`for (k = p; k < q; k += ${width === 1 ? 8 : 4}) {`, () => this.scanNaN(field, 'k'))
      this.line('p = q')
      return
    }
    this.line('k = q')
    this.block('while (p < k) {', () => this.scanSingle({ ...role, field: { ...field, repeated: false, packed: false }, kept: false }))
    this.line('if (p !== k) return -1')
  }

  /** A minimal length of at most three bytes into `n`. */
  private scanSize(): void {
    this.line('n = s[p++]')
    this.block('if (n > 127) {', () => {
      this.line('m = s[p++]; n = (n & 127) | ((m & 127) << 7)')
      this.line('if (m > 127) { m = s[p++]; n |= m << 14 }')
      this.line('if (!(m > 0 && m < 128)) return -1')
    })
  }

  /** Name of a function that checks a message which leaves whole; inside one, `end` is not followed by a zero, so every tag is bounded. */
  private nested(shape: MessageShape): string {
    const known = this.functions.get(shape)
    if (known !== undefined) return known.name
    const made = { name: `k${this.functions.size}`, text: '' }
    this.functions.set(shape, made)
    const outer = this.lines.splice(0)
    const { indent } = this
    this.indent = 1
    for (const field of shape.fields) {
      if (field.oneof !== undefined || field.map || field.type === 'group') {
        // Members of a oneof exclude one another; the interpreter sorts that out.
        this.line(`if (p < end && ${tagTest(varintBytes(field.number * 8 + wireTypeOf(field)))}) return -1`)
        continue
      }
      const bytes = varintBytes(field.number * 8 + (field.packed ? 2 : wireTypeOf(field)))
      this.block(`if (p < end && ${tagTest(bytes)}) {`, () => {
        this.line(`p += ${bytes.length}`)
        if (field.repeated || field.message !== undefined) this.scanWhole(field, tagTest(bytes))
        else this.scanSingle({ field, kept: true, value: false, span: false, step: undefined })
      })
    }
    made.text = [`function ${made.name}(s, w, p, end) {`, '  let q = 0, n = 0, m = 0, k = 0', ...this.lines, '  return p === end ? p : -1', '}'].join('\n')
    this.lines.splice(0, this.lines.length, ...outer)
    this.indent = indent
    return made.name
  }

  /** Other repeated fields never leave on the fast path; they are checked as the interpreter would and stepped over. */
  private scanRepeated(field: FieldShape, test: string): void {
    const shape = this.need({ name: `F${field.number}`, kind: 'shape', field })
    this.line(`p = stepOver(${shape}, s, p, end)`)
    this.line('if (p < 0) return -1')
    if (field.packed) return
    this.block(`while (${test}) {`, () => {
      this.line(`p = stepOver(${shape}, s, p + ${varintBytes(field.number * 8 + wireTypeOf(field)).length}, end)`)
      this.line('if (p < 0) return -1')
    })
  }

  private scanSingle(role: Role): void {
    const { field } = role
    const zeroIsOdd = !field.presence && role.kept
    switch (field.type) {
      case 'message': case 'group':
        this.line(`p = stepOver(${this.need({ name: `F${field.number}`, kind: 'shape', field })}, s, p, end)`)
        this.line('if (p < 0) return -1')
        return
      case 'string': case 'bytes':
        this.scanText(role, zeroIsOdd)
        return
      case 'fixed32': case 'sfixed32': case 'float': case 'fixed64': case 'sfixed64': case 'double':
        this.scanFixed(role, zeroIsOdd)
        return
      default:
        this.scanVarint(role, zeroIsOdd)
    }
  }

  private scanText(role: Role, zeroIsOdd: boolean): void {
    const { field } = role
    this.scanSize()
    if (zeroIsOdd) this.line('if (n === 0) return -1')
    this.line('q = p')
    this.line('p += n')
    this.line('if (!(p <= end)) return -1')
    if (role.span) this.line(`a${field.number} = q; b${field.number} = p`)
    if (field.type !== 'string') return
    this.line('for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break')
    this.line('for (; q < p; q++) if (s[q] > 127) break')
    this.line('if (q !== p && !isUtf8(s, q, p)) return -1')
  }

  private scanFixed(role: Role, zeroIsOdd: boolean): void {
    const { field } = role
    const size = wireTypeOf(field) === 5 ? 4 : 8
    this.line(`if (p + ${size} > end) return -1`)
    if (zeroIsOdd) this.line(`if ((${Array.from({ length: size }, (_, at) => `s[p + ${at}]`).join(' | ')}) === 0) return -1`)
    if (role.kept) this.scanNaN(field, 'p')
    if (role.value) {
      this.line(`v${field.number} = ${{ float: 'readFloat', double: 'readDouble', fixed32: 'readFixed32', sfixed32: 'readSfixed32', fixed64: 'readFixed64', sfixed64: 'readSfixed64' }[field.type as 'float']}(s, p)`)
      if (field.type === 'fixed64' || field.type === 'sfixed64') this.line(`if (v${field.number} !== v${field.number}) return -1`)
    }
    this.line(`p += ${size}`)
  }

  /** Infinite or not a number: the interpreter writes the one form of NaN. */
  private scanNaN(field: FieldShape, p: string): void {
    if (field.type === 'float') this.line(`if ((s[${p} + 3] & 127) === 127 && s[${p} + 2] > 127) return -1`)
    if (field.type === 'double') this.line(`if ((s[${p} + 7] & 127) === 127 && s[${p} + 6] > 239) return -1`)
  }

  /** Minimal varints of the type's own width; negative int32, int64 and enums (ten bytes) are left to the interpreter. */
  private scanVarint(role: Role, zeroIsOdd: boolean): void {
    const { field } = role
    this.line('n = s[p++]')
    if (field.type === 'bool') {
      this.line(zeroIsOdd ? 'if (n !== 1) return -1' : 'if (n > 1) return -1')
      if (role.value) this.line(`v${field.number} = n === 1`)
      return
    }
    const isClosed = field.enum?.closed === true
    const otherwise = zeroIsOdd ? '} else if (n === 0) return -1' : '}'
    if (role.value || isClosed) this.block('if (n > 127) {', () => this.scanValue(field), otherwise)
    else this.block('if (n > 127) {', () => this.scanLength(field), otherwise)
    if (isClosed) this.line(`if (!${this.need({ name: `M${field.number}`, kind: 'members', field })}.has(n)) return -1`)
    if (!role.value) return
    if (field.type === 'sint32') this.line(`v${field.number} = (n >>> 1) ^ -(n & 1)`)
    else if (field.type === 'sint64') this.line(`v${field.number} = n % 2 === 0 ? n / 2 : -(n + 1) / 2`)
    else this.line(`v${field.number} = n`)
  }

  /** Largest fifth byte of a 32-bit varint. */
  private fifth(field: FieldShape): number {
    return field.type === 'uint32' || field.type === 'sint32' ? 15 : 7
  }

  /** The rest of a varint whose value is needed: 28 bits as an integer, what lies above by a multiplication. */
  private scanValue(field: FieldShape): void {
    const wide = isWide(field)
    this.line('n &= 127; q = s[p++]; n |= (q & 127) << 7')
    this.line('if (q > 127) { q = s[p++]; n |= (q & 127) << 14')
    this.line('if (q > 127) { q = s[p++]; n |= (q & 127) << 21')
    if (wide) {
      this.line('if (q > 127) { q = s[p++]; m = q & 127')
      this.line('if (q > 127) { q = s[p++]; m |= (q & 127) << 7')
      this.line('if (q > 127) { q = s[p++]; m |= (q & 127) << 14')
      this.line('if (q > 127) { q = s[p++]; m |= (q & 127) << 21 } } }')
      this.line(`n += m * 268435456; if (n > ${Number.MAX_SAFE_INTEGER}) return -1 }`)
    } else {
      this.line(`if (q > 127) { q = s[p++]; if (q > ${this.fifth(field)}) return -1; n += q * 268435456 }`)
    }
    this.line('} }')
    // An overlong varint ends in zero, an endless one goes on; both are for the interpreter.
    this.line('if (!(q > 0 && q < 128)) return -1')
  }

  /** The rest of a varint of which only the end matters. */
  private scanLength(field: FieldShape): void {
    if (isWide(field)) {
      this.line('m = p + 8')
      this.line('do { n = s[p++] } while (n > 127 && p < m)')
      this.line('if (!(n > 0 && n < 128)) return -1')
      return
    }
    this.line('n = s[p++]')
    this.line(`if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > ${this.fifth(field)}) return -1 } } }`)
    this.line('if (n === 0) return -1')
  }

  // ----------------------------------------------------------------------------------------------------------------- write

  private write(): void {
    if (this.plan.when !== undefined) this.line(`if (!(${this.condition(this.plan.when.ast as Expr)})) return ${Verdict.when_false.code}`)
    const required = new Set(this.plan.require)
    const points = this.plan.points.map((point, at) => this.preparePoint(point, at, required.has(point.point.name)))
    for (const role of this.roles.values()) {
      const { field, step } = role
      const point = points.find((one) => one.lat === field.number || one.lon === field.number)
      if (point !== undefined) this.writePointPart(point, field, field.number === point.lat ? 'y' : 'x')
      if (step === undefined) continue
      if (role.kept) {
        const run = this.runs.findIndex((one) => one[0] === field.number)
        if (run >= 0) this.copyRun(run + 1, this.runs[run] as number[])
        if (required.has(step.path) && (field.presence || field.repeated)) this.line(`if (h${field.number} === 0) return ${Verdict.required_missing.code}`)
      } else {
        this.writeTransformed(role, step as PlanStep & { kind: 'value' }, required.has(step.path))
      }
    }
    for (const path of required) {
      if (!points.some((one) => one.name === path) && !this.plan.root.steps.some((step) => step.path === path)) this.line(`return ${Verdict.required_missing.code}`)
    }
    this.line(`if (c === 0) return ${Verdict.empty.code}`)
    this.line(`if (o > t.length) return ${Verdict.too_big.code}`)
    this.writeTopic()
    this.line('return o')
  }

  private counts(path: string): boolean {
    return !this.plan.header.has(path)
  }

  private copyRun(run: number, fields: readonly number[]): void {
    this.block(`if (r${run} >= 0) {`, () => {
      const steps = this.plan.root.steps.filter((step) => fields.includes(step.field.number))
      if (steps.every((step) => this.counts(step.path))) this.line('c = 1')
      else if (steps.some((step) => this.counts(step.path))) this.line(`if (holdsContent(s, r${run}, e${run}, ${this.headerNumbers()})) c = 1`)
      this.line(`n = e${run} - r${run}`)
      this.line(`if (n > 24 && s === t) { t.copyWithin(o, r${run}, e${run}); o += n } else for (q = r${run}; q < e${run};) t[o++] = s[q++]`)
    })
  }

  /** Numbers of header fields as a literal set of integers. */
  private headerNumbers(): string {
    const numbers = this.plan.root.steps.filter((step) => !this.counts(step.path)).map((step) => step.field.number)
    return `[${numbers.join(', ')}]`
  }

  private writeTransformed(role: Role, step: PlanStep & { kind: 'value' }, required: boolean): void {
    const { field } = role
    const body = (): void => {
      const inline = isNumeric(field) ? inlineChain(step.chain, field, `v${field.number}`) : undefined
      if (inline !== undefined) {
        this.writeNumber(field, inline, step, required)
        return
      }
      const chain = this.need({ name: `C${field.number}`, kind: 'chain', step })
      const input = role.span ? `s, a${field.number}, b${field.number}` : `v${field.number}`
      this.line(`n = ${chain}(${input}, t, o, cx)`)
      this.block('if (n < 0) {', () => {
        this.line('cx.failures++')
        if (required) this.line(`return ${Verdict.required_missing.code}`)
      }, this.counts(step.path) ? '} else if (n > o) { o = n; c = 1 }' : '} else o = n')
    }
    if (field.presence) this.block(`if (h${field.number} === 1) {`, body, required ? `} else return ${Verdict.required_missing.code}` : '}')
    else body()
  }

  /** Writes a whole number that a chain of plain arithmetic made. */
  private writeNumber(field: FieldShape, expression: string, step: PlanStep & { kind: 'value' }, required: boolean): void {
    const [low, high] = RANGES[field.type] as readonly [bigint, bigint]
    const wide = kindOf(field) === 'big'
    const last = step.chain[step.chain.length - 1]
    if (step.chain.length === 1 && last?.name === 'round_time' && field.type.startsWith('u')) {
      const d = Number(last.params.wire)
      // Exact below 2^53: the quotient may come out one too large by rounding, never more.
      this.line(`n = Math.floor(v${field.number} / ${d}) * ${d}; if (n > v${field.number}) n -= ${d}`)
    } else {
      this.line(`n = ${expression}`)
    }
    // Zigzag doubles the number, so a sint64 beyond 2^52 is for the interpreter.
    const exact = field.type === 'sint64' ? 2 ** 52 : Number.MAX_SAFE_INTEGER
    const min = wide ? (low < 0n ? -exact : 0) : Number(low)
    const max = wide ? exact : Number(high)
    const out = wide ? 'return -1' : `{ cx.failures++${required ? `; return ${Verdict.required_missing.code}` : ''} }`
    this.line(`if (n > ${max} || n < ${min}) ${out}`)
    this.block(field.presence ? 'else {' : 'else if (n !== 0) {', () => {
      if (this.counts(step.path)) this.line('c = 1')
      this.writeTag(field)
      this.writeVarint(field)
    })
  }

  private writeTag(field: FieldShape): void {
    this.line(varintBytes(field.number * 8 + wireTypeOf(field)).map((byte) => `t[o++] = ${byte}`).join('; '))
  }

  /** Writes `n`, which is within the field's range. */
  private writeVarint(field: FieldShape): void {
    if (field.type === 'sint32') this.line('n = ((n << 1) ^ (n >> 31)) >>> 0')
    else if (field.type === 'sint64') this.line('n = n < 0 ? -n * 2 - 1 : n * 2')
    // Halves are small integers: a double as an argument would be an allocation.
    const write = isWide(field) ? 'm = Math.floor(n / 268435456); o = writeHalves(t, o, (n - m * 268435456) | 0, m)' : 'while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n'
    this.line(field.type === 'int32' || field.type === 'int64' || field.type === 'enum' ? `if (n < 0) o = writeNegative(t, o, n); else { ${write} }` : write)
  }

  private preparePoint(step: PlanPoint, at: number, required: boolean): { lat: number; lon: number; at: number; name: string } {
    const lat = step.lat[0] as FieldShape
    const lon = step.lon[0] as FieldShape
    const move = this.need({ name: `P${at}`, kind: 'point', point: step })
    this.locals.push(`w${at} = 0`, `y${at} = 0`, `x${at} = 0`)
    const valid = step.point.valid === undefined ? '' : ` && (${this.condition(step.point.valid.ast as Expr)})`
    // [rules-language 4.4] all parts zero: no position. -0.0 is not zero.
    this.block(`if ((${this.notZero(lat)} || ${this.notZero(lon)})${valid}) {`, () => {
      if (step.chain.length === 0) {
        this.line(`w${at} = 1; y${at} = v${lat.number}; x${at} = v${lon.number}; c = 1`)
      } else {
        this.line(`if (${move}(v${lat.number}, v${lon.number}, cx)) { w${at} = 1; y${at} = moved.lat; x${at} = moved.lon; c = 1 }`)
        this.line(`else { cx.failures++${required ? `; return ${Verdict.required_missing.code}` : ''} }`)
      }
    }, required ? `} else return ${Verdict.required_missing.code}` : '}')
    return { lat: lat.number, lon: lon.number, at, name: step.point.name }
  }

  private notZero(field: FieldShape): string {
    return kindOf(field) === 'float' ? `!Object.is(v${field.number}, 0)` : `v${field.number} !== 0`
  }

  private writePointPart(point: { at: number }, field: FieldShape, axis: 'x' | 'y'): void {
    const value = `${axis}${point.at}`
    const zero = field.presence ? 'true' : kindOf(field) === 'float' ? `!Object.is(${value}, 0)` : `${value} !== 0`
    this.block(`if (w${point.at} === 1 && ${zero}) {`, () => {
      this.writeTag(field)
      if (field.type === 'double') this.line(`o = writeDouble(t, o, ${value})`)
      else if (field.type === 'float') this.line(`o = writeFloat(t, o, ${value})`)
      else if (wireTypeOf(field) === 5) this.line(`o = writeFixed32(t, o, ${value})`)
      else if (wireTypeOf(field) === 1) this.line(`o = writeFixed64(t, o, ${value})`)
      else {
        this.line(`n = ${value}`)
        this.writeVarint(field)
      }
    })
  }

  /** The topic is put together from values that were just written; a constant topic costs nothing. */
  private writeTopic(): void {
    const topic = this.need({ name: 'topicOf', kind: 'topic' })
    this.line(`if (!${topic}(t, at, o, cx)) return ${Verdict.bad_topic_value.code}`)
  }

  // ------------------------------------------------------------------------------------------------------------- condition

  private condition(expr: Expr): string {
    switch (expr.op) {
      case 'value': return typeof expr.value === 'string' ? this.constantOf(expr.value) : String(expr.value)
      case 'field': return `v${(expr.path[0] as FieldShape).number}`
      case 'scope': return expr.name === 'label' ? `labelOf(cx.scope, ${this.constantOf(expr.label)})` : `cx.scope.${expr.name}`
      case 'not': return `!(${this.condition(expr.of)})`
      case '&&': case '||': return `(${this.condition(expr.left)} ${expr.op} ${this.condition(expr.right)})`
      case '==': return `(${this.condition(expr.left)} === ${this.condition(expr.right)})`
      case '!=': return `(${this.condition(expr.left)} !== ${this.condition(expr.right)})`
      case '<': case '<=': case '>': case '>=': return `(${this.condition(expr.left)} ${expr.op} ${this.condition(expr.right)})`
      case 'in': return `(${expr.list.map((item) => `${this.condition(expr.left)} === ${this.condition(item)}`).join(' || ')})`
      case 'bit': return `((Math.floor(${this.condition(expr.of)} / ${2 ** expr.bit}) & 1) === 1)`
      default: throw new Error(`condition ${expr.op} is not plain`)
    }
  }

  /** Texts of conditions are closed over, never pasted in. */
  private constantOf(text: string): string {
    const known = this.needs.find((need) => need.kind === 'text' && need.text === text)
    return known?.name ?? this.need({ name: `K${this.needs.length}`, kind: 'text', text })
  }
}

function isWide(field: FieldShape): boolean {
  return field.type === 'int64' || field.type === 'uint64' || field.type === 'sint64'
}

/** Whether the bytes at `p` are a tag. Behind the message lies a zero, which is no tag, so that `p` needs no comparison with `end`. */
function tagTest(bytes: readonly number[]): string {
  return bytes.length === 2 ? `w.getUint16(p, true) === ${bytes[0]! + bytes[1]! * 256}` : bytes.map((byte, at) => `s[p${at === 0 ? '' : ` + ${at}`}] === ${byte}`).join(' && ')
}

/** An arithmetic expression for chains that whole numbers can take without a call; `v` is a name. */
function inlineChain(chain: readonly Transform[], field: FieldShape, v: string): string | undefined {
  const kind = kindOf(field)
  if ((kind !== 'integer' && kind !== 'big') || wireTypeOf(field) !== 0) return undefined
  const unsigned = field.type.startsWith('u')
  let expression = v
  for (const one of chain) {
    switch (one.name) {
      case 'constant': expression = String(Number(one.params.value)); break
      case 'clamp': expression = `Math.min(${Number(one.params.hi)}, Math.max(${Number(one.params.lo)}, ${expression}))`; break
      case 'round': expression = unsigned ? `roundUnsigned(${expression}, ${Number(one.params.step)})` : `roundInteger(${expression}, ${Number(one.params.step)})`; break
      case 'round_time': expression = `${unsigned ? 'floorUnsigned' : 'floorNumber'}(${expression}, ${Number(one.params.wire)})`; break
      default: return undefined
    }
  }
  return expression
}

/** Bytes of a varint below 2^35. */
export function varintBytes(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 127) {
    bytes.push((rest % 128) | 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return bytes
}
