/**
 * Plan -> JavaScript text of the fast path. The text holds only words written here, numbers, and names of values closed over;
 * nothing from a schema, a rules file or a message is ever pasted in (names of fields appear as field numbers).
 *
 * A function works in two steps over canonical input: scan every known field once, in field-number order, checking as strictly as
 * the interpreter would; then write what leaves. Whatever is not canonical (another order, duplicates, overlong varints, defaults on
 * the wire, unknown fields in the middle, anything malformed) answers `ODD` and the interpreter decides. A message that leaves in
 * part has a function of its own of the same form, `m0`, `m1`, …; one that leaves whole is only checked, by `k0`, `k1`, …, and copied.
 *
 * Names in the text: `s`, `w` the source and its view, `p` where it is read, `x` the four bytes there; `t`, `u` the target and its view,
 * `o` where it is written; `v<n>` the value of field n, `a<n>`, `b<n>` its start and end, `h<n>` whether it is there; `r<i>`, `e<i>` a run
 * of fields that are copied together; `c` whether there is content; `z` a reason to send nothing; `limit` where the target is too full to go on.
 */
import type { FieldShape, MessageShape } from '../domain/schema.ts'
import type { Transform } from '../domain/policy.ts'
import { LIMITS } from '../domain/limits.ts'
import { Verdict } from '../domain/verdict.ts'
import type { Expr } from './condition.ts'
import { M } from './grid.ts'
import { TIMESTAMP } from './known.ts'
import type { Plan, PlanNode, PlanPoint, PlanStep } from './plan.ts'
import { RANGES } from './number.ts'
import { SLOT } from './runtime.ts'
import { wireTypeOf } from './tree.ts'
import { kindOf } from './value.ts'

export interface Emitted {
  readonly text: string
  /** What the text closes over, by name, in order: the parameters of the factory. */
  readonly needs: readonly Need[]
  /** Bytes behind the message that the text may read before it notices the end. */
  readonly slack: number
}

export type Need =
  | { readonly name: string; readonly kind: 'chain'; readonly step: PlanStep & { kind: 'value' } }
  | { readonly name: string; readonly kind: 'pseudonym'; readonly step: PlanStep & { kind: 'value' } }
  | { readonly name: string; readonly kind: 'aside'; readonly step: PlanStep }
  | { readonly name: string; readonly kind: 'point'; readonly point: PlanPoint }
  | { readonly name: string; readonly kind: 'shape'; readonly field: FieldShape }
  | { readonly name: string; readonly kind: 'members'; readonly field: FieldShape }
  | { readonly name: string; readonly kind: 'topic' }
  | { readonly name: string; readonly kind: 'text'; readonly text: string }

/** The text, or undefined when the plan has a part that only the interpreter knows. */
export function emit(plan: Plan): Emitted | undefined {
  if ([...plan.require, ...plan.topic.map((piece) => ('path' in piece ? piece.path : ''))].some((path) => path.includes('.'))) return undefined
  if (plan.points.some((point) => point.track !== undefined || [...point.lat, ...point.lon].length > 2 || [...point.lat, ...point.lon].some((field) => field.initial !== undefined) || !isPlainCondition(point.point.valid?.ast as Expr | undefined))) return undefined
  if (!isPlainCondition(plan.when?.ast as Expr | undefined)) return undefined
  // A number in the topic that a transform may drop cannot be told from a zero in the result; texts can.
  if (plan.root.steps.some((step) => step.kind === 'value' && step.chain.length > 0 && step.field.type !== 'string' && plan.topic.some((piece) => 'path' in piece && piece.path === step.field.name))) return undefined
  return new Emitter(plan).emit()
}

/** True when a condition reads single numbers and truth values only. */
function isPlainCondition(expr: Expr | undefined): boolean {
  if (expr === undefined) return true
  switch (expr.op) {
    case 'value': return typeof expr.value !== 'bigint'
    case 'field': return expr.path.length === 1 && isReadable(expr.path[0] as FieldShape)
    case 'scope': return true
    case 'not': return isPlainCondition(expr.of)
    case '&&': case '||': case '==': case '!=': case '<': case '<=': case '>': case '>=': return isPlainCondition(expr.left) && isPlainCondition(expr.right)
    case 'in': return isPlainCondition(expr.left) && expr.list.every(isPlainCondition)
    case 'bit': return expr.bit < 31 && isPlainCondition(expr.of)
    default: return false
  }
}

/** A number or truth value that is zero where it is absent. */
function isReadable(field: FieldShape): boolean {
  return isNumeric(field) && field.initial === undefined
}

function isNumeric(field: FieldShape): boolean {
  const kind = kindOf(field)
  return !field.repeated && (kind === 'integer' || kind === 'big' || kind === 'bool' || kind === 'enum' || kind === 'float')
}

/** What the functions of one plan share. */
class Emitter {
  readonly plan: Plan
  readonly needs: Need[] = []
  /** Texts of `k` and `m` functions, in the order in which they were begun. */
  readonly functions: string[] = []
  private readonly checks = new Map<MessageShape, string>()
  private readonly parts = new Map<PlanNode | PlanStep, string>()
  /** Messages in part: what they hold that is no header is noted in a variable beside the functions. */
  hasNodes = false

  constructor(plan: Plan) {
    this.plan = plan
  }

  emit(): Emitted {
    const main = new Body(this, this.plan.message, this.plan.root.steps, true).whole()
    const text = [...(this.hasNodes ? ['let content = 0'] : []), ...this.functions, main].join('\n')
    // A field read past the end takes at most a tag, ten bytes of a varint and a word more; each can be mistaken once.
    return { text, needs: this.needs, slack: 16 * (this.plan.message.fields.length + 2) }
  }

  /** A name for something closed over; the same thing keeps its name. */
  need(letter: string, need: { [K in Need['kind']]: Omit<Extract<Need, { kind: K }>, 'name'> }[Need['kind']]): string {
    const known = this.needs.find((one) => one.kind === need.kind && ((one.kind === 'shape' && one.field === (need as typeof one).field) || (one.kind === 'members' && one.field.enum === (need as typeof one).field.enum) || (one.kind === 'text' && one.text === (need as typeof one).text)))
    if (known !== undefined) return known.name
    const name = `${letter}${this.needs.length}`
    this.needs.push({ ...need, name } as Need)
    return name
  }

  /**
   * Name of the function that writes a pseudonym of a text, which is nearly always ready: found by the bytes of the value, word by word,
   * and copied.
   */
  pseudonym(step: PlanStep & { kind: 'value' }): string {
    const ready = this.need('Q', { kind: 'pseudonym', step })
    const { rotate } = (step.chain[0] as Transform).params
    const [name, slots] = [`c${ready.slice(1)}`, `S${ready.slice(1)}`]
    this.functions.push([
      `let ${slots}`,
      `function ${name}(s, w, from, to, t, u, o, cx) {`,
      `  ${[...tagBytes(step.field), 22].map((byte) => `t[o++] = ${byte}`).join('; ')}`,
      `  const length = to - from, epoch = ${rotate === 'never' ? '0' : `Math.floor(cx.eventMs / ${Number(rotate)})`}, generation = ${ready}.generationAt(cx.eventMs)`,
      `  if (length === 0 || length > ${SLOT.valueBytes}) return ${ready}.make(s, from, to, t, o, -1, epoch, generation, cx)`,
      `  const { words, doubles } = (${slots} ??= ${ready}.slots())`,
      '  const mask = -1 >>> ((-length & 3) << 3), last = to - 1 - ((length - 1) & 3), end = w.getInt32(last, true) & mask',
      `  let hash = length, i = from`,
      `  for (; i < last; i += 4) hash = Math.imul(hash ^ w.getInt32(i, true), ${HASH})`,
      `  const slot = ((Math.imul(hash ^ end, ${HASH}) >>> 15) & ${SLOT.count - 1}) * ${SLOT.words}`,
      `  if (doubles[slot >> 1] === epoch && doubles[(slot >> 1) + 1] === generation && words[slot + ${SLOT.length}] === length) {`,
      `    let k = slot + ${SLOT.value}`,
      '    for (i = from; i < last && words[k] === w.getInt32(i, true); i += 4) k++',
      '    if (i >= last && words[k] === end) {',
      `      k = slot + ${SLOT.made}`,
      '      u.setInt32(o, words[k], true); u.setInt32(o + 4, words[k + 1], true); u.setInt32(o + 8, words[k + 2], true)',
      '      u.setInt32(o + 12, words[k + 3], true); u.setInt32(o + 16, words[k + 4], true); u.setInt16(o + 20, words[k + 5], true)',
      '      return o + 22',
      '    }',
      '  }',
      `  return ${ready}.make(s, from, to, t, o, slot, epoch, generation, cx)`,
      '}',
    ].join('\n'))
    return name
  }

  /** Name of the function that checks a message which leaves whole. */
  check(shape: MessageShape): string {
    const known = this.checks.get(shape)
    if (known !== undefined) return known
    const name = `k${this.checks.size}`
    this.checks.set(shape, name)
    const at = this.functions.push('') - 1
    this.functions[at] = new Body(this, shape, [], false).checker(name)
    return name
  }

  /** Name of the function that writes what leaves of a message: a node of the plan, or the entry of a map, by its step. */
  part(of: PlanNode | PlanStep, shape: MessageShape, steps: readonly PlanStep[]): string {
    const known = this.parts.get(of)
    if (known !== undefined) return known
    this.hasNodes = true
    const name = `m${this.parts.size}`
    this.parts.set(of, name)
    const at = this.functions.push('') - 1
    this.functions[at] = new Body(this, shape, steps, false).part(name)
    return name
  }
}

/** How a field takes part. */
interface Role {
  readonly field: FieldShape
  step: PlanStep | undefined
  /**
   * Leaves as it is, in a run with its neighbours; is written by a transform; is a message of which a part leaves; is carried out by the
   * interpreter, this field alone; or does not leave.
   */
  use: 'copied' | 'changed' | 'part' | 'aside' | 'none'
  /** Its number or truth value is needed as `v<number>`. */
  value: boolean
  /** Start and end of its text, bytes or message are needed as `a<number>`, `b<number>`. */
  span: boolean
  /** Whether it was there is needed as `h<number>`. */
  noted: boolean
}

/** Writes one function. */
class Body {
  private readonly shared: Emitter
  private readonly shape: MessageShape
  /** The function over the message itself, not over one inside it. */
  private readonly isMain: boolean
  private readonly lines: string[] = []
  private readonly locals: string[] = []
  private readonly roles = new Map<number, Role>()
  /** Fields of runs: kept fields that lie next to each other among the schema's fields are copied in one piece. */
  private readonly runs: FieldShape[][] = []
  private indent = 1

  constructor(shared: Emitter, shape: MessageShape, steps: readonly PlanStep[], isMain: boolean) {
    this.shared = shared
    this.shape = shape
    this.isMain = isMain
    for (const field of shape.fields) this.roles.set(field.number, { field, step: undefined, use: 'none', value: false, span: false, noted: false })
    for (const step of steps) {
      const role = this.role(step.field)
      role.step = step
      // A group is always left to the interpreter.
      role.use = step.field.type === 'group' ? 'none' : useOf(step)
      if (role.use === 'changed') this.wantValue(role)
      if (role.use === 'part' || role.use === 'aside') role.span = true
      role.noted = step.field.presence && role.use === 'changed'
    }
  }

  /** The function over the message itself. */
  whole(): string {
    const { plan } = this.shared
    for (const point of plan.points) for (const field of [point.lat[0], point.lon[0]]) this.role(field as FieldShape).value = true
    for (const expr of [plan.when?.ast, ...plan.points.map((point) => point.point.valid?.ast)]) this.wantFields(expr as Expr | undefined)
    for (const path of plan.require) {
      const field = plan.message.byName.get(path)
      if (field !== undefined && this.role(field).step !== undefined && (field.repeated || (field.presence && this.role(field).use === 'copied') || this.role(field).use === 'changed')) this.role(field).noted = true
    }
    this.scan()
    const scanned = this.lines.splice(0)
    this.writeMain()
    return [
      'function minimise(s, w, start, end, t, u, at, cx) {',
      `  const limit = t.length - (end - start) - ${this.growth(plan.points.length)}`,
      '  if (at > limit) return -1',
      `  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0, z = 0, x = w.getInt32(p, true)`,
      ...(this.locals.length === 0 ? [] : [`  let ${this.locals.join(', ')}`]),
      ...(this.shared.hasNodes ? ['  content = 0'] : []),
      ...scanned, ...this.lines, '}',
    ].join('\n')
  }

  /** The function over a message inside it, of which a part leaves: the new end in the target, or -1. */
  part(name: string): string {
    this.scan()
    this.writeFields([])
    this.line('return o')
    return [
      `function ${name}(s, w, p, end, t, u, o, cx, d) {`,
      `  const limit = t.length - (end - p) - ${this.growth(0)}`,
      `  if (o > limit || d >= ${LIMITS.depth}) return -1`,
      '  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)',
      ...(this.locals.length === 0 ? [] : [`  let ${this.locals.join(', ')}`]),
      ...this.lines, '}',
    ].join('\n')
  }

  /** The function over a message that leaves whole: its end, or -1. */
  checker(name: string): string {
    for (const role of this.roles.values()) role.use = 'copied'
    this.scanFields(false)
    return [`function ${name}(s, w, p, end, d) {`, `  if (d >= ${LIMITS.depth}) return -1`, '  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)', ...(this.locals.length === 0 ? [] : [`  let ${this.locals.join(', ')}`]), ...this.lines, '  return p === end ? p : -1', '}'].join('\n')
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

  /** Bytes that a result can be longer than its input, transforms that are called aside: numbers at their longest, lengths, and whole words at the end of a run. */
  private growth(points: number): number {
    return 32 + 32 * this.roles.size + 40 * points
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

  // ------------------------------------------------------------------------------------------------------------------ scan

  private scan(): void {
    this.scanFields(true)
    if (this.shape.entry === true) {
      this.line('if (p !== end) return -1')
      return
    }
    // Fields unknown to the schema with higher numbers are what a newer firmware adds: stepped over, never copied.
    const last = this.shape.fields.at(-1)?.number ?? 0
    this.block('if (p !== end) {', () => {
      this.line(`p = skipUnknown(s, p, end, ${last})`)
      this.line('if (p !== end) return -1')
    })
  }

  private scanFields(copies: boolean): void {
    let run: FieldShape[] | undefined
    const oneofs: string[] = []
    const roles = [...this.roles.values()]
    for (let at = 0; at < roles.length; at++) {
      const role = roles[at] as Role
      const { field } = role
      let member = ''
      if (field.oneof !== undefined) {
        if (!oneofs.includes(field.oneof)) this.locals.push(`f${oneofs.push(field.oneof)} = 0`)
        const flag = `f${oneofs.indexOf(field.oneof) + 1}`
        member = `if (${flag} === 1) return -1; ${flag} = 1`
      }
      if (copies && role.use === 'copied' && run === undefined) {
        run = []
        this.runs.push(run)
        this.locals.push(`r${this.runs.length} = 0`, `e${this.runs.length} = 0`)
        this.line(`r${this.runs.length} = p`)
      } else if (role.use !== 'copied' && run !== undefined) {
        this.line(`e${this.runs.length} = p`)
        run = undefined
      }
      run?.push(field)
      const alike = this.countAlike(roles, at)
      if (alike < 3) {
        this.scanField(role, member)
        continue
      }
      run?.push(...roles.slice(at + 1, at + alike).map((one) => one.field))
      this.scanLoop(roles.slice(at, at + alike))
      at += alike - 1
    }
    if (run !== undefined) this.line(`e${this.runs.length} = p`)
  }

  /** How many fields from one on are numbers that are only checked, all in the same way, with tags that count up by eight. */
  private countAlike(roles: readonly Role[], at: number): number {
    const first = roles[at] as Role
    if (this.shape.entry === true || !isOnlyChecked(first) || this.isMixed(first.field)) return 1
    const tag = tagBytes(first.field)
    let count = 1
    for (; ; count++) {
      const next = roles[at + count]
      if (next === undefined || !isOnlyChecked(next) || next.use !== first.use || next.field.presence !== first.field.presence || next.field.number !== first.field.number + count) return count
      if (restOf(next.field) !== restOf(first.field) || tag.length > 2 || tagBytes(next.field).length !== tag.length || tagBytes(next.field)[1] !== tag[1]) return count
    }
  }

  /** Fields that are checked alike, in a loop: less code, which all outputs together have to keep in the processor's cache. */
  private scanLoop(roles: readonly Role[]): void {
    const [first, last] = [roles[0] as Role, roles.at(-1) as Role]
    const tag = tagBytes(first.field)
    this.block(`for (k = ${wordOf(tag)}; k <= ${wordOf(tagBytes(last.field))}; k += 8) {`, () => {
      this.block(`if (${this.isMain ? '' : 'p < end && '}(x & ${2 ** (8 * tag.length) - 1}) === k) {`, () => {
        this.scanVarint(first, !first.field.presence && first.use === 'copied', tag.length)
        this.line('x = w.getInt32(p, true)')
      })
    })
  }

  private scanField(role: Role, member: string): void {
    const { field } = role
    const tag = tagBytes(field)
    if (role.value) this.locals.push(`v${field.number} = ${kindOf(field) === 'bool' ? 'false' : '0'}`)
    if (role.span) this.locals.push(`a${field.number} = 0`, `b${field.number} = 0`)
    if (role.noted) this.locals.push(`h${field.number} = 0`)
    const test = `${this.isMain ? '' : 'p < end && '}${tagTest(tag)}`
    const body = (): void => {
      if (member !== '') this.line(member)
      if (role.noted) this.line(`h${field.number} = 1`)
      if (role.use === 'copied' && this.isMixed(field) && counts(role)) this.line(`${this.content()} = 1`)
      if (field.type === 'group') this.line('return -1')
      else if (role.use === 'part') this.scanPart(role, test)
      else if (role.use === 'aside') this.scanAside(field, test)
      else if (role.use === 'copied' && (field.repeated || field.message !== undefined)) this.scanWhole(field, test)
      else if (field.repeated || field.message !== undefined) this.scanOver(field, test)
      else this.scanScalar(role, this.shape.entry !== true && !field.presence && role.use === 'copied', tag.length)
      this.line('x = w.getInt32(p, true)')
    }
    // Key and value of a map entry are always there.
    if (this.shape.entry === true) this.line(`if (!(${test})) return -1`)
    if (this.shape.entry === true) body()
    else this.block(`if (${test}) {`, body)
  }

  /** What leaves whole is copied if it is canonical all the way down. */
  private scanWhole(field: FieldShape, test: string): void {
    if (!field.repeated || field.packed) {
      this.scanElement(field, tagBytes(field).length)
      return
    }
    if (field.map) {
      this.locals.push(`g${field.number} = 0`)
      this.line(`g${field.number} = p`)
    }
    this.scanAll(test, () => this.scanElement(field, tagBytes(field).length))
    // The last of several entries with one key wins; the interpreter sorts that out.
    if (field.map) this.line(`if (repeatsKey(s, g${field.number}, p, ${tagBytes(field).length})) return -1`)
  }

  /** Elements with a tag each, one behind the other. */
  private scanAll(test: string, element: () => void): void {
    this.block('for (;;) {', () => {
      element()
      this.line('if (!(p < end)) break')
      this.line('x = w.getInt32(p, true)')
      this.line(`if (!(${test.replace('p < end && ', '')})) break`)
    })
  }

  /** One element, message or packed list behind a tag of `skip` bytes. */
  private scanElement(field: FieldShape, skip: number): void {
    if (field.message === undefined && !field.packed) {
      this.scanScalar({ field, step: undefined, use: 'copied', value: false, span: false, noted: false }, false, skip)
      return
    }
    this.scanSize(skip)
    // A list of nothing does not leave.
    if (field.packed) this.line('if (n === 0) return -1')
    this.line('q = p + n')
    this.line('if (!(q <= end)) return -1')
    if (field.message !== undefined) {
      this.line(`if (${this.shared.check(field.message)}(s, w, p, q, ${this.deeper()}) < 0) return -1`)
      this.line('p = q')
      return
    }
    this.scanPacked(field)
  }

  /** Elements of a packed list from `p` to `q`. */
  private scanPacked(field: FieldShape): void {
    const wire = wireTypeOf(field)
    if (wire !== 0) {
      const size = wire === 1 ? 8 : 4
      this.line(`if (n % ${size} !== 0) return -1`)
      if (field.type === 'float' || field.type === 'double') this.block(`for (; p < q; p += ${size}) {`, () => this.scanNaN(field))
      this.line('p = q')
      return
    }
    this.line('m = q')
    this.block('while (p < m) {', () => {
      this.line('x = w.getInt32(p, true)')
      this.scanVarint({ field, step: undefined, use: 'copied', value: false, span: false, noted: false }, false, 0)
    })
    this.line('if (p !== m) return -1')
  }

  /** A message, or messages, of which a part leaves: where they lie. What they hold is checked when it is written. */
  private scanPart({ field }: Role, test: string): void {
    const skip = tagBytes(field).length
    // A condition may end it before anything is written, and a malformed message has to be refused all the same.
    const check = this.isMain && this.shared.plan.when !== undefined ? `isMessage(${this.shared.need('F', { kind: 'shape', field })}, s, p, q)` : undefined
    const element = (): void => {
      this.scanSize(skip)
      this.line('q = p + n')
      this.line('if (!(q <= end)) return -1')
      if (check !== undefined) this.line(`if (!${check}) return -1`)
      if (!field.repeated) this.line(`a${field.number} = p; b${field.number} = q`)
      this.line('p = q')
    }
    if (!field.repeated) {
      element()
      return
    }
    this.line(`a${field.number} = p`)
    this.scanAll(test, element)
    if (field.map) this.line(`if (repeatsKey(s, a${field.number}, p, ${skip})) return -1`)
    this.line(`b${field.number} = p`)
  }

  /** What the interpreter carries out: where it lies, tags included. */
  private scanAside(field: FieldShape, test: string): void {
    this.line(`a${field.number} = p`)
    this.scanOver(field, test)
    this.line(`b${field.number} = p`)
  }

  /** Messages and lists of which nothing leaves: checked as the interpreter would and stepped over. */
  private scanOver(field: FieldShape, test: string): void {
    const skip = tagBytes(field).length
    const element = (): void => {
      this.line(`p = stepOver(${this.shared.need('F', { kind: 'shape', field })}, s, p + ${skip}, end, ${this.isMain ? '0' : 'd'})`)
      this.line('if (p < 0) return -1')
    }
    if (!field.repeated || field.packed) element()
    else this.scanAll(test, element)
  }

  /** How deep a message inside this one lies. */
  private deeper(): string {
    return this.isMain ? '1' : 'd + 1'
  }

  private scanScalar(role: Role, zeroIsOdd: boolean, skip: number): void {
    switch (role.field.type) {
      case 'string': case 'bytes':
        this.scanText(role, zeroIsOdd, skip)
        return
      case 'fixed32': case 'sfixed32': case 'float': case 'fixed64': case 'sfixed64': case 'double':
        this.scanFixed(role, zeroIsOdd, skip)
        return
      default:
        this.scanVarint(role, zeroIsOdd, skip)
    }
  }

  /** A minimal length of at most three bytes behind a tag of `skip` bytes into `n`. */
  private scanSize(skip: number): void {
    const at = this.inWord(skip)
    this.line(`n = (x >>> ${8 * at}) & 255`)
    this.line(`p += ${at + 1}`)
    this.block('if (n > 127) {', () => {
      this.line('m = s[p++]; n = (n & 127) | ((m & 127) << 7)')
      this.line('if (m > 127) { m = s[p++]; n |= m << 14 }')
      this.line('if (!(m > 0 && m < 128)) return -1')
    })
  }

  /** Where in the word `x` a value begins that lies behind a tag of `skip` bytes; behind a long tag the word is read anew. */
  private inWord(skip: number): number {
    if (skip <= 2) return skip
    this.line(`p += ${skip}`)
    this.line('x = w.getInt32(p, true)')
    return 0
  }

  private scanText(role: Role, zeroIsOdd: boolean, skip: number): void {
    const { field } = role
    this.scanSize(skip)
    if (zeroIsOdd) this.line('if (n === 0) return -1')
    this.line('q = p')
    this.line('p += n')
    this.line('if (!(p <= end)) return -1')
    if (role.span) this.line(`a${field.number} = q; b${field.number} = p`)
    if (field.type !== 'string') return
    this.line('for (; q + 16 <= p; q += 16) if (((w.getInt32(q, true) | w.getInt32(q + 4, true) | w.getInt32(q + 8, true) | w.getInt32(q + 12, true)) & 0x80808080) !== 0) break')
    this.line('for (; q + 4 <= p; q += 4) if ((w.getInt32(q, true) & 0x80808080) !== 0) break')
    // Of the last word, the bytes before the end.
    this.line('if (q < p && (q + 4 <= p || (w.getInt32(q, true) & (0x80808080 >>> ((4 - p + q) << 3))) !== 0) && !isUtf8(s, q, p)) return -1')
  }

  private scanFixed(role: Role, zeroIsOdd: boolean, skip: number): void {
    const { field } = role
    const size = wireTypeOf(field) === 5 ? 4 : 8
    this.line(`p += ${skip}`)
    this.line(`if (p + ${size} > end) return -1`)
    if (zeroIsOdd) this.line(`if (${size === 4 ? 'w.getInt32(p, true)' : '(w.getInt32(p, true) | w.getInt32(p + 4, true))'} === 0) return -1`)
    if (role.use === 'copied') this.scanNaN(field)
    if (role.value) {
      this.line(`v${field.number} = ${{ float: 'readFloat', double: 'readDouble', fixed32: 'readFixed32', sfixed32: 'readSfixed32', fixed64: 'readFixed64', sfixed64: 'readSfixed64' }[field.type as 'float']}(s, p)`)
      if (field.type === 'fixed64' || field.type === 'sfixed64') this.line(`if (v${field.number} !== v${field.number}) return -1`)
    }
    this.line(`p += ${size}`)
  }

  /** Infinite or not a number: the interpreter writes the one form of NaN. */
  private scanNaN(field: FieldShape): void {
    if (field.type === 'float') this.line('if ((s[p + 3] & 127) === 127 && s[p + 2] > 127) return -1')
    if (field.type === 'double') this.line('if ((s[p + 7] & 127) === 127 && s[p + 6] > 239) return -1')
  }

  /**
   * A minimal varint of the type's own width behind a tag of `skip` bytes. One and two bytes, the usual case, are judged within the word
   * that holds the tag. Values that a double cannot hold, and negative ones of 64 bits that are not just copied, are left to the interpreter.
   */
  private scanVarint(role: Role, zeroIsOdd: boolean, skip: number): void {
    const { field } = role
    const at = this.inWord(skip)
    const shift = 8 * at
    if (field.type === 'bool') {
      this.line(zeroIsOdd ? `if ((x & ${255 << shift}) !== ${1 << shift}) return -1` : `if ((x & ${254 << shift}) !== 0) return -1`)
      if (role.value) this.line(`v${field.number} = (x & ${1 << shift}) !== 0`)
      this.line(`p += ${at + 1}`)
      return
    }
    const isClosed = field.enum?.closed === true
    const second = shift === 16 ? 'x >= 0' : `(x & ${0x8000 << shift}) === 0`
    if (role.value || isClosed) {
      const two = `n = ((x >>> ${shift}) & 127) | ((x >>> ${shift + 1}) & 16256)`
      this.line(`if ((x & ${128 << shift}) === 0) { n = (x >>> ${shift}) & 127; ${zeroIsOdd ? 'if (n === 0) return -1; ' : ''}p += ${at + 1} }`)
      this.line(`else if (${second}) { ${two}; if (n < 128) return -1; p += ${at + 2} }`)
      this.block(`else {`, () => {
        this.line(`${two}; p += ${at + 2}`)
        this.scanValue(field)
      })
      if (isClosed) this.line(`if (${this.isNoMember(field)}) return -1`)
      if (!role.value) return
      if (field.type === 'sint32') this.line(`v${field.number} = (n >>> 1) ^ -(n & 1)`)
      else if (field.type === 'sint64') this.line(`v${field.number} = n % 2 === 0 ? n / 2 : -(n + 1) / 2`)
      else this.line(`v${field.number} = n`)
      return
    }
    this.line(`if ((x & ${128 << shift}) === 0) { ${zeroIsOdd ? `if ((x & ${127 << shift}) === 0) return -1; ` : ''}p += ${at + 1} }`)
    this.line(`else if (${second}) { if ((x & ${0x7f00 << shift}) === 0) return -1; p += ${at + 2} }`)
    this.line(`else { p = ${restOf(field)}(s, p + ${at + 2}); if (p < 0) return -1 }`)
  }

  /** Whether `n` is no member of a closed enum. */
  private isNoMember(field: FieldShape): string {
    const members = [...(field.enum?.names.keys() ?? [])]
    const highest = Math.max(...members)
    if (highest + 1 === members.length && Math.min(...members) === 0) return `n >>> 0 > ${highest}`
    return `!${this.shared.need('M', { kind: 'members', field })}.has(n)`
  }

  /** The third byte of a varint and what follows, into `n`: 28 bits as an integer, what lies above by a multiplication. */
  private scanValue(field: FieldShape): void {
    this.line('q = s[p++]; n |= (q & 127) << 14')
    this.line('if (q > 127) { q = s[p++]; n |= (q & 127) << 21')
    if (isWide(field)) {
      this.line('if (q > 127) { q = s[p++]; m = q & 127')
      this.line('if (q > 127) { q = s[p++]; m |= (q & 127) << 7')
      this.line('if (q > 127) { q = s[p++]; m |= (q & 127) << 14')
      this.line('if (q > 127) { q = s[p++]; m |= (q & 127) << 21 } } }')
      this.line(`n += m * 268435456; if (n > ${Number.MAX_SAFE_INTEGER}) return -1 }`)
    } else {
      this.line(`if (q > 127) { q = s[p++]; ${field.type === 'uint32' ? 'if (q > 15) return -1; n += q * 268435456' : field.type === 'sint32' ? 'if (q > 15) return -1; n |= q << 28' : 'n |= q << 28'}`)
      // Ten bytes of a negative number: the sign fills the fifth to the ninth.
      this.line(field.type === 'uint32' || field.type === 'sint32' ? '}' : 'if (q > 7) { if (q < 248 || w.getInt32(p, true) !== -1 || s[p + 4] !== 1) return -1; p += 5; q = 1 } }')
    }
    // An overlong varint ends in zero, an endless one goes on; both are for the interpreter.
    this.line('} if (!(q > 0 && q < 128)) return -1')
  }

  // ----------------------------------------------------------------------------------------------------------------- write

  private writeMain(): void {
    const { plan } = this.shared
    if (plan.when !== undefined) this.line(`if (!(${this.condition(plan.when.ast as Expr)})) return ${Verdict.when_false.code}`)
    const points = plan.points.map((point, at) => this.preparePoint(point, at))
    this.writeFields(points)
    for (const path of plan.require) {
      if (!points.some((one) => one.name === path) && !plan.root.steps.some((step) => step.field.name === path)) this.line(`z = ${Verdict.required_missing.code}`)
    }
    // Only here, so that a message inside that proves malformed is refused first.
    if (plan.require.length > 0) this.line('if (z !== 0) return z')
    this.line(this.shared.hasNodes ? `if (c === 0 && content === 0) return ${Verdict.empty.code}` : `if (c === 0) return ${Verdict.empty.code}`)
    if (plan.topic.every((piece) => 'text' in piece)) this.line(`cx.topic = ${this.constantOf(plan.topic.map((piece) => ('text' in piece ? piece.text : '')).join(''))}`)
    else this.line(`if (!${this.shared.need('T', { kind: 'topic' })}(t, u, at, o, cx)) return ${Verdict.bad_topic_value.code}`)
    this.line('return o')
  }

  private writeFields(points: readonly Placed[]): void {
    for (const role of this.roles.values()) {
      const { field, step } = role
      const point = points.find((one) => one.lat === field.number || one.lon === field.number)
      if (point !== undefined) this.writePointPart(point, field, field.number === point.lat ? 'y' : 'x')
      if (role.use === 'copied') {
        const run = this.runs.findIndex((one) => one[0] === field)
        if (run >= 0) this.copyRun(run)
        if (role.noted && step !== undefined && this.isRequired(step)) this.line(`if (h${field.number} === 0) ${this.missing()}`)
      }
      if (role.use === 'changed') this.writeChanged(role, step as PlanStep & { kind: 'value' })
      if (role.use === 'part') this.writePart(role, step as PlanStep)
      if (role.use === 'aside') this.writeAside(role, step as PlanStep)
      // A group that was there would have ended the scan.
      if (role.use === 'none' && step !== undefined && this.isRequired(step)) this.line(this.missing())
    }
  }

  private isRequired(step: PlanStep): boolean {
    return this.isMain && this.shared.plan.require.includes(step.field.name)
  }

  private missing(): string {
    return `z = ${Verdict.required_missing.code}`
  }

  private content(): string {
    return this.isMain ? 'c' : 'content'
  }

  /** Whether the run that a field is in has both content and header fields: then the content fields say so as they are scanned. */
  private isMixed(field: FieldShape): boolean {
    const run = this.runs.find((one) => one.includes(field))
    if (run === undefined) return false
    const roles = [...this.roles.values()]
    const from = roles.findIndex((role) => role.field === run[0])
    const to = roles.findIndex((role, at) => at > from && role.use !== 'copied')
    const all = roles.slice(from, to < 0 ? undefined : to)
    return all.some(counts) && !all.every(counts)
  }

  private copyRun(at: number): void {
    const [r, e] = [`r${at + 1}`, `e${at + 1}`]
    const roles = (this.runs[at] as FieldShape[]).map((field) => this.role(field))
    this.block(`if (${e} > ${r}) {`, () => {
      if (this.shape.entry !== true && roles.every(counts)) this.line(`${this.content()} = 1`)
      this.line(`n = ${e} - ${r}`)
      this.line(`if (n > 256 && s === t) t.copyWithin(o, ${r}, ${e})`)
      this.line(`else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(${r} + q))`)
      this.line('o += n')
    })
  }

  private writeChanged(role: Role, step: PlanStep & { kind: 'value' }): void {
    const { field } = role
    const required = this.isRequired(step)
    const body = (): void => {
      const inline = isNumeric(field) ? inlineChain(step.chain, field, `v${field.number}`) : undefined
      if (inline !== undefined) {
        this.writeNumber(field, inline, step, required)
        return
      }
      const chain = isReadyPseudonym(step) ? this.shared.pseudonym(step) : this.shared.need('C', { kind: 'chain', step })
      const input = role.span ? `s, w, a${field.number}, b${field.number}, t, u` : `v${field.number}, t`
      this.line(`n = ${chain}(${input}, o, cx)`)
      this.line('if (n > limit) return -1')
      this.line(`if (n < 0) { cx.failures++${required ? `; ${this.missing()}` : ''} }`)
      this.line(!step.header ? `else if (n > o) { o = n; ${this.content()} = 1 }` : 'else o = n')
    }
    if (field.presence) this.block(`if (h${field.number} === 1) {`, body, required ? `} else ${this.missing()}` : '}')
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
    const out = wide ? 'return -1' : `{ cx.failures++${required ? `; ${this.missing()}` : ''} }`
    this.line(`if (n > ${max} || n < ${min}) ${out}`)
    this.block(field.presence ? 'else {' : 'else if (n !== 0) {', () => {
      if (!step.header) this.line(`${this.content()} = 1`)
      this.writeTag(field)
      this.writeVarint(field)
    })
  }

  /** Messages in part: the body is written behind one byte for its length, and moved on if the length needs more. */
  private writePart(role: Role, step: PlanStep): void {
    const { field } = role
    const tag = tagBytes(field)
    const begin = `o + ${tag.length + 1}`
    const close = (end: string): void => {
      this.writeTag(field)
      this.line(`o = closeLength(t, o, ${end})`)
      this.line('if (o > limit) return -1')
    }
    const required = this.isRequired(step)
    const content = `${this.content()} = 1`
    const call = (from: string, to: string): string =>
      step.kind === 'known' ? `floorTime(s, ${from}, ${to}, t, ${begin}, ${Number(step.chain[0]?.params.ms)})` : `${this.partOf(step as PlanStep & { kind: 'node' })}(s, w, ${from}, ${to}, t, u, ${begin}, cx, ${this.deeper()})`
    if (field.repeated) {
      this.block(`for (p = a${field.number}; p < b${field.number};) {`, () => {
        if (!step.header) this.line(content)
        this.line(`p += ${tag.length}`)
        this.line('n = s[p++]')
        this.line('if (n > 127) { m = s[p++]; n = (n & 127) | ((m & 127) << 7); if (m > 127) n |= s[p++] << 14 }')
        this.line(`m = ${call('p', 'p + n')}`)
        this.line('if (m < 0) return -1')
        this.line('p += n')
        close('m')
      })
      if (required) this.line(`if (h${field.number} === 0) ${this.missing()}`)
      return
    }
    this.block(`if (b${field.number} > 0) {`, () => {
      this.line(`n = ${call(`a${field.number}`, `b${field.number}`)}`)
      this.line('if (n < 0) return -1')
      if (step.kind === 'known') {
        if (!step.header) this.line(content)
        close('n')
      } else if (this.shape.entry === true) {
        close('n')
      } else if (step.kind === 'node' && step.node.whole) {
        if (!step.header && (step.node.steps.length === 0 || step.node.steps.some((one) => !one.header))) this.line(`if (n === ${begin}) ${content}`)
        close('n')
      } else {
        // An empty message would tell that hidden fields were there.
        this.block(`if (n > ${begin}) {`, () => close('n'), required ? `} else ${this.missing()}` : '}')
      }
    }, required ? `} else ${this.missing()}` : '}')
  }

  /** What the interpreter makes of one field alone; nothing of it may be left, and that is no reason to stop. */
  private writeAside({ field }: Role, step: PlanStep): void {
    const required = this.isRequired(step)
    this.block(`if (b${field.number} > 0) {`, () => {
      this.line(`n = ${this.shared.need('A', { kind: 'aside', step })}(s, a${field.number}, b${field.number}, t, o, cx)`)
      this.line(`if (n > limit || (n < 0 && n !== ${Verdict.empty.code})) return -1`)
      this.line(`if (n > 0) { o = n${step.header ? '' : `; ${this.content()} = 1`} }${required ? ` else ${this.missing()}` : ''}`)
    }, required ? `} else ${this.missing()}` : '}')
  }

  /** Name of the function for what leaves of a message field: for a map, of an entry whose key is copied. */
  private partOf(step: PlanStep & { kind: 'node' }): string {
    const { field, node, header } = step
    const { message } = field as { message: MessageShape }
    if (!field.map) return this.shared.part(node, node.shape, node.steps)
    const key: PlanStep = { kind: 'value', field: message.byNumber.get(1) as FieldShape, header, chain: [] }
    return this.shared.part(step, message, [key, node.shape === message ? (node.steps[0] as PlanStep) : { kind: 'node', field: message.byNumber.get(2) as FieldShape, header, node }])
  }

  private writeTag(field: FieldShape): void {
    this.line(tagBytes(field).map((byte) => `t[o++] = ${byte}`).join('; '))
  }

  /** Writes `n`, which is within the field's range. */
  private writeVarint(field: FieldShape): void {
    if (field.type === 'sint32') this.line('n = ((n << 1) ^ (n >> 31)) >>> 0')
    else if (field.type === 'sint64') this.line('n = n < 0 ? -n * 2 - 1 : n * 2')
    // Halves are small integers: a double as an argument would be an allocation.
    const write = isWide(field) ? 'm = Math.floor(n / 268435456); o = writeHalves(t, o, (n - m * 268435456) | 0, m)' : 'while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n'
    this.line(field.type === 'int32' || field.type === 'int64' || field.type === 'enum' ? `if (n < 0) o = writeNegative(t, o, n); else { ${write} }` : write)
  }

  private preparePoint(step: PlanPoint, at: number): Placed {
    const lat = step.lat[0] as FieldShape
    const lon = step.lon[0] as FieldShape
    const required = this.shared.plan.require.includes(step.point.name)
    this.locals.push(`w${at} = 0`, `y${at} = 0`, `x${at} = 0`)
    const valid = step.point.valid === undefined ? '' : ` && (${this.condition(step.point.valid.ast as Expr)})`
    // [rules-language 4.4] all parts zero: no position. -0.0 is not zero.
    this.block(`if ((${this.notZero(lat)} || ${this.notZero(lon)})${valid}) {`, () => {
      if (step.chain.length === 0) {
        this.line(`w${at} = 1; y${at} = v${lat.number}; x${at} = v${lon.number}; c = 1`)
      } else {
        const move = `${this.shared.need('P', { kind: 'point', point: step })}(v${lat.number}, v${lon.number}, cx)`
        const place = `w${at} = 1; y${at} = moved.latE7; x${at} = moved.lonE7; c = 1`
        if (isPlainGrid(step)) {
          const { params } = step.chain[0] as Transform
          const inside = `v${lat.number} >= -900000000 && v${lat.number} <= 900000000 && v${lon.number} >= -1800000000 && v${lon.number} <= 1800000000`
          this.block(`if (${params.sticky === true ? 'cx.cells === undefined && ' : ''}${inside}) {`, () => this.snapInline(at, lat.number, lon.number, Number(params.size)))
          this.line(`else if (${move}) { ${place} }`)
        } else {
          this.line(`if (${move}) { ${place} }`)
        }
        this.line(`else { cx.failures++${required ? `; ${this.missing()}` : ''} }`)
      }
    }, required ? `} else ${this.missing()}` : '}')
    return { lat: lat.number, lon: lon.number, at, name: step.point.name }
  }

  /** grid.ts in place: the row and column of the cell, then its centre. Quotients by multiplication are put right by exact products. */
  private snapInline(at: number, lat: number, lon: number, size: number): void {
    const rows = 100_000 / size
    this.line(`const l = v${lat} * ${M}`)
    this.line(`let i = Math.floor(l * ${1 / (size * 1e7)})`)
    this.line(`if (i * ${size * 1e7} > l) i--`)
    this.line(`else if ((i + 1) * ${size * 1e7} <= l) i++`)
    this.line(`const row = cosines[((i + ${101 * rows}) / ${rows}) | 0]`)
    this.line(`const y = ((i + 0.5) * ${size}) / ${M}`)
    this.line(`const x = ((Math.floor(((v${lon} / 10000000) * ${M} * row) / ${size}) + 0.5) * ${size}) / (${M} * row)`)
    this.line(`y${at} = (y > 90 ? 9000000 : y < -90 ? -9000000 : y < 0 ? -Math.floor(0.5 - y * 100000) : Math.floor(y * 100000 + 0.5)) * 100`)
    this.line(`x${at} = (x > 180 ? 18000000 : x < -180 ? -18000000 : x < 0 ? -Math.floor(0.5 - x * 100000) : Math.floor(x * 100000 + 0.5)) * 100`)
    this.line(`w${at} = 1; c = 1`)
  }

  private notZero(field: FieldShape): string {
    return kindOf(field) === 'float' ? `!Object.is(v${field.number}, 0)` : `v${field.number} !== 0`
  }

  private writePointPart(point: Placed, field: FieldShape, axis: 'x' | 'y'): void {
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
    return this.shared.need('K', { kind: 'text', text })
  }
}

function useOf(step: PlanStep): Role['use'] {
  const { field } = step
  if (leavesWhole(step)) return 'copied'
  switch (step.kind) {
    case 'value': return field.repeated ? 'aside' : 'changed'
    // A scalar in a map that a transform drops takes its key along.
    case 'node': return step.node.shape.entry === true && !step.node.steps.some(leavesWhole) ? 'aside' : 'part'
    case 'known': return isRoundedTime(step) ? 'part' : 'aside'
    case 'keyed': return 'aside'
  }
}

function isRoundedTime({ field, chain }: PlanStep & { kind: 'known' }): boolean {
  return !field.repeated && field.message?.name === TIMESTAMP && chain.length === 1 && chain[0]?.name === 'round_time' && Number.isSafeInteger(chain[0].params.ms)
}

/** Whether a step takes all of a field, all the way down, so that its bytes can be copied, and all of them are content or none. */
function leavesWhole(step: PlanStep): boolean {
  if (step.kind === 'value') return step.chain.length === 0
  if (step.kind !== 'node' || !step.node.whole) return false
  return step.field.repeated || step.header || isContent(step.node, new Set())
}

/** Whether everything in a node counts as content. */
function isContent(node: PlanNode, seen: Set<PlanNode>): boolean {
  if (seen.has(node)) return true
  seen.add(node)
  return node.steps.every((step) => !step.header && (step.kind !== 'node' || step.field.repeated || isContent(step.node, seen)))
}

/** Whether a copied field is content. */
function counts({ step }: Role): boolean {
  return step?.header !== true
}

/** A pseudonym that is the same for a whole period, so that it can be kept ready. */
function isReadyPseudonym({ field, chain }: PlanStep & { kind: 'value' }): boolean {
  const [only] = chain
  return chain.length === 1 && only?.name === 'pseudonym' && field.type === 'string' && only.params.rotate !== 'session'
}

/** Multiplier of the hash over a value's words: 2^32 divided by the golden ratio, odd. */
const HASH = 0x9e37_79b1 | 0

/** Whether a point is degrees times 1e7 and goes to a grid, which is called straight. */
function isPlainGrid({ point, lat, lon, chain }: PlanPoint): boolean {
  const isWhole = [...lat, ...lon].every((field) => field.type === 'sint32' || field.type === 'int32' || field.type === 'sfixed32')
  return isWhole && Math.abs(point.scale - 1e-7) < 1e-16 && chain.length === 1 && chain[0]?.name === 'grid'
}

/** A point that was moved, before its parts are written: field numbers, and its place among the points. */
interface Placed {
  readonly lat: number
  readonly lon: number
  readonly at: number
  readonly name: string
}

function isWide(field: FieldShape): boolean {
  return field.type === 'int64' || field.type === 'uint64' || field.type === 'sint64'
}

/** Name of the function for the third byte of a varint and what follows. */
function restOf(field: FieldShape): string {
  return isWide(field) ? 'restOfLong' : field.type === 'uint32' || field.type === 'sint32' ? 'restOf' : 'restOfSigned'
}

/** A single varint of which only the end matters. */
function isOnlyChecked({ field, use, value, span, noted }: Role): boolean {
  const isVarint = field.message === undefined && wireTypeOf(field) === 0 && field.type !== 'bool' && field.enum?.closed !== true
  return isVarint && !field.repeated && field.oneof === undefined && (use === 'copied' || use === 'none') && !value && !span && !noted
}

/** The first four bytes of a tag as a little-endian word. */
function wordOf(tag: readonly number[]): number {
  return tag.slice(0, 4).reduce((sum, byte, at) => sum | (byte << (8 * at)), 0)
}

function tagBytes(field: FieldShape): number[] {
  return varintBytes(field.number * 8 + (field.packed ? 2 : wireTypeOf(field)))
}

/** Whether the word `x` begins with a tag. Behind the message lies a zero, which begins no tag. */
function tagTest(bytes: readonly number[]): string {
  const word = wordOf(bytes)
  if (bytes.length < 4) return `(x & ${2 ** (8 * bytes.length) - 1}) === ${word}`
  return bytes.length === 4 ? `x === ${word}` : `x === ${word} && s[p + 4] === ${bytes[4]}`
}

/** An arithmetic expression for chains that whole numbers can take without a call; `v` is a name. */
function inlineChain(chain: readonly Transform[], field: FieldShape, v: string): string | undefined {
  const kind = kindOf(field)
  if ((kind !== 'integer' && kind !== 'big') || wireTypeOf(field) !== 0) return undefined
  const unsigned = field.type.startsWith('u')
  let expression = v
  for (const one of chain) {
    // What its type cannot hold is no result, also when something follows that could.
    if (one !== chain.at(-1) && (one.name === 'round' || one.name === 'round_time')) return undefined
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
