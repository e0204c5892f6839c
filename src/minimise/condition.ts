/**
 * Conditions (`when`, `valid`, sign-on and sign-off): CEL, parsed by the CEL library, type-checked here against the schema so that
 * literals take the field's type and enum members are written by name, then turned into a small typed tree that both engines share.
 * An evaluation error is a value (undefined), never a throw: `false && error` is false, `true || error` is true, as CEL says.
 */
import { Environment } from '@marcbachmann/cel-js'
import type { Condition, Point } from '../domain/policy.ts'
import type { EnumShape, FieldShape, MessageShape } from '../domain/schema.ts'
import { isTree, pathOf, slotAt, type Slot, type Tree } from './tree.ts'
import { isZero, kindOf, zeroOf, type Value } from './value.ts'

export interface ConditionEnvironment {
  readonly msg: MessageShape
  /** Points may not be read; they are listed so that the error says so. */
  readonly points: readonly Point[]
  readonly machine: boolean
  readonly country: boolean
}

/** What a condition sees beside the message. */
export interface Scope {
  readonly labels: Readonly<Record<string, string>>
  readonly fleet: string
  readonly model: string
  readonly country: string
}

export const NO_SCOPE: Scope = { labels: {}, fleet: '', model: '', country: '' }

type Type =
  | { readonly kind: 'bool' | 'string' | 'bytes' | 'int' | 'double' }
  | { readonly kind: 'enum'; readonly enum: EnumShape }
  | { readonly kind: 'message' }
  | { readonly kind: 'list'; readonly of: Type }

/** Typed expression; `Condition.ast`. */
export type Expr =
  | { readonly op: 'value'; readonly value: boolean | number | bigint | string; readonly type: Type }
  | { readonly op: 'field'; readonly path: readonly FieldShape[]; readonly type: Type }
  | { readonly op: 'has'; readonly path: readonly FieldShape[]; readonly type: Type }
  | { readonly op: 'scope'; readonly name: 'fleet' | 'model' | 'country' | 'label'; readonly label: string; readonly type: Type }
  | { readonly op: 'variable'; readonly name: string; readonly type: Type }
  | { readonly op: 'not' | 'negate' | 'size'; readonly of: Expr; readonly type: Type }
  | { readonly op: '&&' | '||' | '==' | '!=' | '<' | '<=' | '>' | '>=' | '+' | '-' | '*' | '/' | '%' | 'startsWith' | 'endsWith' | 'contains'; readonly left: Expr; readonly right: Expr; readonly type: Type }
  | { readonly op: 'in'; readonly left: Expr; readonly list: readonly Expr[]; readonly type: Type }
  | { readonly op: 'bit'; readonly of: Expr; readonly bit: number; readonly type: Type }
  | { readonly op: 'exists' | 'all'; readonly list: Expr; readonly variable: string; readonly test: Expr; readonly type: Type }
  | { readonly op: '?:'; readonly test: Expr; readonly yes: Expr; readonly no: Expr; readonly type: Type }

export type Parsed = { readonly condition: Condition } | { readonly problem: string; readonly at?: number }

const BOOL: Type = { kind: 'bool' }
const INT: Type = { kind: 'int' }
const DOUBLE: Type = { kind: 'double' }
const STRING: Type = { kind: 'string' }

const parser = new Environment({ unlistedVariablesAreDyn: true, limits: { maxAstNodes: 500, maxDepth: 50, maxListElements: 100, maxMapEntries: 1, maxCallArguments: 8 } })

/** Parses and type-checks one condition; the problem is a sentence, `at` an offset in the text. */
export function parseCondition(text: string, env: ConditionEnvironment): Parsed {
  let root: Node
  try {
    root = parser.parse(text).ast as unknown as Node
  } catch (error) {
    return { problem: `is no valid condition: ${(error as Error).message.split('\n')[0]}` }
  }
  const reads = new Set<string>()
  try {
    const ast = check(root, { env, reads, variables: new Map() })
    if (ast.type.kind !== 'bool') throw new Problem('must be true or false, for example `msg.key_on` or `msg.fix > 0`', root)
    return { condition: { text, ast, reads: [...reads].sort() } }
  } catch (error) {
    if (error instanceof Problem) return { problem: error.message, at: error.at }
    throw error
  }
}

/** True, false, or undefined for an evaluation error. */
export function evaluate(condition: Condition, tree: Tree, scope: Scope): boolean | undefined {
  const result = run(condition.ast as Expr, tree, scope, new Map())
  return typeof result === 'boolean' ? result : undefined
}

// ---------------------------------------------------------------------------------------------------------------- checking

interface Node {
  readonly op: string
  readonly args: unknown
  readonly start?: number
}

interface Checking {
  readonly env: ConditionEnvironment
  readonly reads: Set<string>
  readonly variables: ReadonlyMap<string, Type>
}

class Problem extends Error {
  readonly at: number
  constructor(text: string, node: Node) {
    super(text)
    this.at = node.start ?? 0
  }
}

/** `expected` is the other side's type, so that a literal or an enum member can take it. */
function check(node: Node, cx: Checking, expected?: Type): Expr {
  const args = node.args as Node[]
  switch (node.op) {
    case 'value': return literal(node, expected)
    case 'id': return identifier(node, cx, expected)
    case '.': return member(node, cx)
    case '!_': return { op: 'not', of: must(check(node.args as Node, cx, BOOL), 'bool', node), type: BOOL }
    case '-_': {
      const of = check(node.args as Node, cx, expected)
      if (of.type.kind !== 'int' && of.type.kind !== 'double') throw new Problem('can negate numbers only', node)
      return of.op === 'value' ? { ...of, value: -(of.value as number) } : { op: 'negate', of, type: of.type }
    }
    case '&&': case '||':
      return { op: node.op, left: must(check(args[0]!, cx, BOOL), 'bool', args[0]!), right: must(check(args[1]!, cx, BOOL), 'bool', args[1]!), type: BOOL }
    case '==': case '!=': case '<': case '<=': case '>': case '>=': return comparison(node.op, node, cx)
    case '+': case '-': case '*': case '/': case '%': return arithmetic(node.op, node, cx, expected)
    case 'in': return membership(node, cx)
    case '?:': {
      const test = must(check(args[0]!, cx, BOOL), 'bool', args[0]!)
      const yes = check(args[1]!, cx, expected)
      const no = check(args[2]!, cx, yes.type)
      if (yes.type.kind !== no.type.kind) throw new Problem('needs the same type on both sides of ":"', node)
      return { op: '?:', test, yes, no, type: yes.type }
    }
    case 'call': return call(node, cx)
    case 'rcall': return method(node, cx)
    default: throw new Problem(`uses "${node.op}", which conditions do not have`, node)
  }
}

function literal(node: Node, expected: Type | undefined): Expr {
  const value = node.args
  if (typeof value === 'boolean') return { op: 'value', value, type: BOOL }
  if (typeof value === 'string') return { op: 'value', value, type: STRING }
  if (typeof value === 'bigint') {
    if (expected?.kind === 'double') return { op: 'value', value: Number(value), type: DOUBLE }
    if (expected?.kind === 'enum') return { op: 'value', value: Number(value), type: expected }
    return { op: 'value', value: value >= -(2n ** 53n) && value <= 2n ** 53n ? Number(value) : value, type: INT }
  }
  if (typeof value === 'number') return { op: 'value', value, type: DOUBLE }
  throw new Problem('holds a value of a kind that conditions do not have', node)
}

function identifier(node: Node, cx: Checking, expected: Type | undefined): Expr {
  const name = node.args as string
  const variable = cx.variables.get(name)
  if (variable !== undefined) return { op: 'variable', name, type: variable }
  if (name === 'country' && cx.env.country) return { op: 'scope', name: 'country', label: '', type: STRING }
  if (expected?.kind === 'enum') {
    const number = expected.enum.values.get(name)
    if (number !== undefined) return { op: 'value', value: number, type: expected }
    throw new Problem(`names "${name}", which is no member of ${expected.enum.name}: ${[...expected.enum.values.keys()].slice(0, 12).join(', ')}`, node)
  }
  if (name === 'msg' || name === 'machine') throw new Problem(`needs a member after "${name}", such as \`${name === 'msg' ? 'msg.key_on' : 'machine.label.site'}\``, node)
  throw new Problem(`does not know "${name}"; it may read \`msg\`, \`machine\` and \`country\``, node)
}

function member(node: Node, cx: Checking): Expr {
  const names = chain(node)
  const root = names[0] as string
  if (root === 'machine' && cx.env.machine) {
    if ((names[1] === 'fleet' || names[1] === 'model') && names.length === 2) return { op: 'scope', name: names[1], label: '', type: STRING }
    if (names[1] === 'label' && names.length === 3) return { op: 'scope', name: 'label', label: names[2] as string, type: STRING }
    throw new Problem('may read `machine.label.NAME`, `machine.fleet` and `machine.model`', node)
  }
  if (root !== 'msg') throw new Problem(`does not know "${root}"; it may read \`msg\`, \`machine\` and \`country\``, node)
  const path = fieldPath(names.slice(1), node, cx)
  return { op: 'field', path, type: typeOf(path, node) }
}

function chain(node: Node): string[] {
  if (node.op === 'id') return [node.args as string]
  if (node.op !== '.') throw new Problem('can read fields by name only', node)
  const [of, name] = node.args as [Node, string]
  return [...chain(of), name]
}

function fieldPath(names: readonly string[], node: Node, cx: Checking): FieldShape[] {
  const text = names.join('.')
  if (cx.env.points.some((point) => point.name === text)) throw new Problem(`reads the position "${text}"; a condition may not depend on where somebody is`, node)
  const path = pathOf(cx.env.msg, text)
  if (path === undefined) throw new Problem(`reads msg.${text}, which ${cx.env.msg.name} does not have`, node)
  if (path.slice(0, -1).some((field) => field.repeated)) throw new Problem(`reads through the repeated field in msg.${text}; use exists()`, node)
  cx.reads.add(text)
  return path
}

function typeOf(path: readonly FieldShape[], node: Node): Type {
  const field = path[path.length - 1] as FieldShape
  if (field.map) throw new Problem(`reads the map ${field.name}, which conditions cannot`, node)
  const one = scalarType(field)
  return field.repeated ? { kind: 'list', of: one } : one
}

function scalarType(field: FieldShape): Type {
  switch (kindOf(field)) {
    case 'integer': case 'big': return INT
    case 'float': return DOUBLE
    case 'bool': return BOOL
    case 'string': return STRING
    case 'bytes': return { kind: 'bytes' }
    case 'enum': return { kind: 'enum', enum: field.enum as EnumShape }
    default: return { kind: 'message' }
  }
}

/** Checks the side that has a type of its own first, so that the other can take it. */
function pair(node: Node, cx: Checking): [Expr, Expr] {
  const [left, right] = node.args as [Node, Node]
  const literalFirst = left.op === 'value' || left.op === 'id' || left.op === '-_'
  if (literalFirst && right.op !== 'value') {
    const second = check(right, cx)
    return [check(left, cx, second.type), second]
  }
  const first = check(left, cx)
  return [first, check(right, cx, first.type)]
}

function isNumber(type: Type): boolean {
  return type.kind === 'int' || type.kind === 'double' || type.kind === 'enum'
}

function comparison(op: '==' | '!=' | '<' | '<=' | '>' | '>=', node: Node, cx: Checking): Expr {
  const [left, right] = pair(node, cx)
  const same = left.type.kind === right.type.kind || (isNumber(left.type) && isNumber(right.type))
  if (!same) throw new Problem(`compares a ${left.type.kind} with a ${right.type.kind}`, node)
  if (left.type.kind === 'list' || left.type.kind === 'message' || left.type.kind === 'bytes') throw new Problem(`cannot compare a ${left.type.kind}`, node)
  if (left.type.kind === 'bool' && op !== '==' && op !== '!=') throw new Problem('cannot order true and false', node)
  return { op, left, right, type: BOOL }
}

function arithmetic(op: '+' | '-' | '*' | '/' | '%', node: Node, cx: Checking, expected: Type | undefined): Expr {
  const [one, other] = node.args as [Node, Node]
  const [left, right] = one.op === 'value' && other.op === 'value' ? [check(one, cx, expected), check(other, cx, expected)] : pair(node, cx)
  if (left.type.kind !== right.type.kind || (left.type.kind !== 'int' && left.type.kind !== 'double')) throw new Problem(`can use "${op}" on two whole numbers or two floating point numbers only`, node)
  if (op === '%' && left.type.kind === 'double') throw new Problem('can use "%" on whole numbers only', node)
  return { op, left, right, type: left.type }
}

function membership(node: Node, cx: Checking): Expr {
  const [left, right] = node.args as [Node, Node]
  if (right.op !== 'list') throw new Problem('needs a list in brackets after "in", such as `msg.op in [SIGN_ON, SIGN_OFF]`', node)
  const of = check(left, cx)
  const list = (right.args as Node[]).map((item) => {
    const one = check(item, cx, of.type)
    if (one.type.kind !== of.type.kind && !(isNumber(one.type) && isNumber(of.type))) throw new Problem(`compares a ${of.type.kind} with a ${one.type.kind}`, item)
    return one
  })
  return { op: 'in', left: of, list, type: BOOL }
}

function call(node: Node, cx: Checking): Expr {
  const [name, args] = node.args as [string, Node[]]
  if (name === 'has' && args.length === 1) {
    const names = chain(args[0]!)
    if (names[0] !== 'msg') throw new Problem('can ask has() of fields of `msg` only', node)
    return { op: 'has', path: fieldPath(names.slice(1), node, cx), type: BOOL }
  }
  if (name === 'bit' && args.length === 2) {
    const of = check(args[0]!, cx)
    const bit = args[1]!.op === 'value' ? Number(args[1]!.args) : Number.NaN
    if (of.type.kind !== 'int' || !Number.isInteger(bit) || bit < 0 || bit > 63) throw new Problem('needs a whole-number field and a bit from 0 to 63: `bit(msg.flags, 3)`', node)
    return { op: 'bit', of, bit, type: BOOL }
  }
  if (name === 'size' && args.length === 1) {
    const of = check(args[0]!, cx)
    if (of.type.kind !== 'list' && of.type.kind !== 'string' && of.type.kind !== 'bytes') throw new Problem('can take the size() of lists, texts and bytes', node)
    return { op: 'size', of, type: INT }
  }
  throw new Problem(`calls ${name}(), which conditions do not have; they have has(), bit(), size(), startsWith(), endsWith(), contains(), exists() and all()`, node)
}

function method(node: Node, cx: Checking): Expr {
  const [name, target, args] = node.args as [string, Node, Node[]]
  if ((name === 'startsWith' || name === 'endsWith' || name === 'contains') && args.length === 1) {
    return { op: name, left: must(check(target, cx), 'string', target), right: must(check(args[0]!, cx, STRING), 'string', args[0]!), type: BOOL }
  }
  if ((name === 'exists' || name === 'all') && args.length === 2 && args[0]!.op === 'id') {
    const list = check(target, cx)
    if (list.type.kind !== 'list' || list.type.of.kind === 'message') throw new Problem(`needs a repeated field of plain values before .${name}()`, node)
    const variable = args[0]!.args as string
    const test = must(check(args[1]!, { ...cx, variables: new Map([...cx.variables, [variable, list.type.of]]) }, BOOL), 'bool', args[1]!)
    return { op: name, list, variable, test, type: BOOL }
  }
  return call({ op: 'call', args: [name, args], start: node.start ?? 0 }, cx)
}

function must(expr: Expr, kind: Type['kind'], node: Node): Expr {
  if (expr.type.kind !== kind) throw new Problem(`needs a ${kind} here, not a ${expr.type.kind}`, node)
  return expr
}

// -------------------------------------------------------------------------------------------------------------- evaluation

type Result = Value | readonly Value[] | undefined

function run(expr: Expr, tree: Tree, scope: Scope, variables: ReadonlyMap<string, Value>): Result {
  switch (expr.op) {
    case 'value': return expr.value
    case 'variable': return variables.get(expr.name)
    case 'field': return read(tree, expr.path)
    case 'has': return present(slotAt(tree, expr.path), expr.path[expr.path.length - 1] as FieldShape)
    case 'scope': return expr.name === 'label' ? (Object.hasOwn(scope.labels, expr.label) ? (scope.labels[expr.label] as string) : '') : scope[expr.name]
    case 'not': {
      const of = run(expr.of, tree, scope, variables)
      return typeof of === 'boolean' ? !of : undefined
    }
    case 'negate': {
      const of = run(expr.of, tree, scope, variables)
      return typeof of === 'bigint' ? -of : typeof of === 'number' ? -of : undefined
    }
    case 'size': {
      const of = run(expr.of, tree, scope, variables)
      return typeof of === 'string' ? [...of].length : (of as Uint8Array | undefined)?.length
    }
    case 'bit': {
      const of = run(expr.of, tree, scope, variables)
      return of === undefined ? undefined : ((BigInt(of as number) >> BigInt(expr.bit)) & 1n) === 1n
    }
    case 'in': {
      const left = run(expr.left, tree, scope, variables)
      return left === undefined ? undefined : expr.list.some((item) => equal(left as Value, run(item, tree, scope, variables) as Value))
    }
    case 'exists': case 'all': {
      const list = run(expr.list, tree, scope, variables) as readonly Value[]
      const results = list.map((item) => run(expr.test, tree, scope, new Map([...variables, [expr.variable, item]])))
      const decisive = expr.op === 'exists'
      return results.includes(decisive) ? decisive : results.includes(undefined) ? undefined : !decisive
    }
    case '?:': {
      const test = run(expr.test, tree, scope, variables)
      return test === undefined ? undefined : run(test === true ? expr.yes : expr.no, tree, scope, variables)
    }
    default: {
      const left = run(expr.left, tree, scope, variables) as Value | undefined
      const right = run(expr.right, tree, scope, variables) as Value | undefined
      return expr.type.kind === 'double' && left !== undefined && right !== undefined ? calculateFloat(expr.op, left as number, right as number) : binary(expr.op, left, right)
    }
  }
}

function read(tree: Tree, path: readonly FieldShape[]): Result {
  const leaf = path[path.length - 1] as FieldShape
  const slot = slotAt(tree, path)
  if (slot === undefined) return leaf.repeated ? [] : zeroOf(leaf)
  return slot as Value
}

function present(slot: Slot | undefined, leaf: FieldShape): boolean {
  if (slot === undefined) return false
  if (Array.isArray(slot)) return slot.length > 0
  return leaf.presence || isTree(slot) || !isZero(slot)
}

/** Whole numbers compare across 32 and 64 bits, which `===` would not. */
function equal(a: Value, b: Value): boolean {
  return typeof a === typeof b ? a === b : (typeof a === 'bigint' || typeof b === 'bigint') && BigInt(a as number) === BigInt(b as number)
}

function binary(op: string, left: Value | undefined, right: Value | undefined): Value | undefined {
  if (op === '&&') return left === false || right === false ? false : left === true && right === true ? true : undefined
  if (op === '||') return left === true || right === true ? true : left === false && right === false ? false : undefined
  if (left === undefined || right === undefined) return undefined
  switch (op) {
    case '==': return equalNumbers(left, right)
    case '!=': return !equalNumbers(left, right)
    case '<': return left < right
    case '<=': return left <= right
    case '>': return left > right
    case '>=': return left >= right
    case 'startsWith': return (left as string).startsWith(right as string)
    case 'endsWith': return (left as string).endsWith(right as string)
    case 'contains': return (left as string).includes(right as string)
    default: return calculate(op, left, right)
  }
}

function equalNumbers(left: Value, right: Value): boolean {
  // Mixed bigint and floating point compare by value with `<` and `>`, and so does equality.
  return typeof left === typeof right ? left === right : left >= right && left <= right
}

function calculateFloat(op: string, a: number, b: number): number {
  return op === '+' ? a + b : op === '-' ? a - b : op === '*' ? a * b : a / b
}

function calculate(op: string, left: Value, right: Value): Value | undefined {
  const a = BigInt(left as number)
  const b = BigInt(right as number)
  if ((op === '/' || op === '%') && b === 0n) return undefined
  const result = op === '+' ? a + b : op === '-' ? a - b : op === '*' ? a * b : op === '/' ? a / b : a % b
  // CEL integers are 64 bits wide; beyond that is an error.
  return BigInt.asIntN(64, result) === result ? result : undefined
}
