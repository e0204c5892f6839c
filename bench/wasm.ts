/**
 * An experiment: the plan of a flat message as a WebAssembly module, put together here byte by byte, beside the generated function.
 * It checks as strictly, gives the same bytes (checked before anything is timed), and answers ODD for what the interpreter decides.
 * Only what the benchmark's status plan needs is in it. Figures and what came of it: README.md.
 *
 * The messages lie in the module's memory, as a gateway's scratch buffer could; `in and out` copies them there and back as well.
 */
import type { FieldShape } from '../src/domain/schema.ts'
import type { Transform } from '../src/domain/policy.ts'
import { varintBytes } from '../src/minimise/emit.ts'
import { COSINES, M } from '../src/minimise/grid.ts'
import { createContext } from '../src/minimise/interpret.ts'
import type { Plan, PlanStep } from '../src/minimise/plan.ts'
import { createPseudonymiser } from '../src/minimise/pseudonym.ts'
import { SLOT } from '../src/minimise/runtime.ts'
import { wireTypeOf } from '../src/minimise/tree.ts'
import { COPY, EVENT_MS, KEYS, PROTOBUFJS, measure, preparedCase, report, timed } from './minimise.ts'
import type { BenchOptions } from './options.ts'

// ---------------------------------------------------------------------------------------------------------------- assembler

type Code = readonly (number | Code)[]
type Type = 'i32' | 'i64' | 'f64' | 'v128'
const TYPES: Readonly<Record<Type, number>> = { i32: 0x7f, i64: 0x7e, f64: 0x7c, v128: 0x7b }

/** Opcodes by name. [WebAssembly Core 2.0, section 5.4] */
const OP = {
  'i32.load': 0x28, 'i64.load': 0x29, 'f64.load': 0x2b, 'i32.load8_u': 0x2d, 'i32.load16_u': 0x2f, 'i32.store': 0x36, 'i64.store': 0x37, 'i32.store8': 0x3a, 'i32.store16': 0x3b,
  'i32.eqz': 0x45, 'i32.eq': 0x46, 'i32.ne': 0x47, 'i32.lt_s': 0x48, 'i32.gt_s': 0x4a, 'i32.gt_u': 0x4b, 'i32.le_s': 0x4c, 'i32.ge_s': 0x4e, 'i64.eqz': 0x50, 'i64.eq': 0x51, 'i64.gt_u': 0x56, 'f64.eq': 0x61, 'f64.lt': 0x63, 'f64.gt': 0x64, 'f64.le': 0x65,
  'i32.add': 0x6a, 'i32.sub': 0x6b, 'i32.mul': 0x6c, 'i32.div_u': 0x6e, 'i32.and': 0x71, 'i32.or': 0x72, 'i32.xor': 0x73, 'i32.shl': 0x74, 'i32.shr_s': 0x75, 'i32.shr_u': 0x76,
  'i64.ctz': 0x7a, 'i64.add': 0x7c, 'i64.sub': 0x7d, 'i64.mul': 0x7e, 'i64.div_u': 0x80, 'i64.and': 0x83, 'i64.or': 0x84, 'i64.xor': 0x85, 'i64.shl': 0x86, 'i64.shr_u': 0x88,
  'f64.floor': 0x9c, 'f64.add': 0xa0, 'f64.sub': 0xa1, 'f64.mul': 0xa2, 'f64.div': 0xa3, 'i32.wrap_i64': 0xa7, 'i32.trunc_f64_s': 0xaa, 'i64.extend_i32_u': 0xad, 'f64.convert_i32_s': 0xb7,
} as const

function op(name: keyof typeof OP, ...operands: Code[]): Code {
  // Loads and stores: no alignment promised, no offset.
  return [...operands, OP[name], ...(/load|store/.test(name) ? [0, 0] : [])]
}

function signed(value: bigint): number[] {
  const bytes: number[] = []
  for (let rest = value; ;) {
    const low = Number(rest & 127n)
    rest >>= 7n
    if ((rest === 0n && low < 64) || (rest === -1n && low > 63)) return [...bytes, low]
    bytes.push(low | 128)
  }
}

const i32 = (value: number): Code => [0x41, ...signed(BigInt(value | 0))]
const i64 = (value: bigint): Code => [0x42, ...signed(BigInt.asIntN(64, value))]
const f64 = (value: number): Code => [0x44, ...new Uint8Array(new Float64Array([value]).buffer)]
const when = (test: Code, then: Code, otherwise: Code = []): Code => [test, 0x04, 0x40, then, ...(otherwise.length === 0 ? [] : [0x05, otherwise]), 0x0b]
/** Repeats while the test holds. */
const loop = (test: Code, body: Code): Code => [0x02, 0x40, 0x03, 0x40, test, op('i32.eqz'), 0x0d, 1, body, 0x0c, 0, 0x0b, 0x0b]
const vector = (items: readonly Code[]): Code => [varintBytes(items.length), items]
const section = (id: number, body: Code): Code => {
  const bytes = flat(body)
  return [id, varintBytes(bytes.length), bytes]
}
const flat = (code: Code): number[] => code.flatMap((one) => (typeof one === 'number' ? [one] : flat(one)))
const text = (value: string): Code => vector([...Buffer.from(value)].map((byte) => [byte]))

/** The locals of the one function, by name; the first are its parameters. */
const locals = new Map<string, Type>([['start', 'i32'], ['end', 'i32'], ['at', 'i32'], ['epoch', 'f64'], ['generation', 'f64']])
const PARAMS = locals.size

function get(name: string): Code {
  return [0x20, varintBytes([...locals.keys()].indexOf(name))]
}

function set(name: string, value: Code, type: Type = 'i32'): Code {
  if (!locals.has(name)) locals.set(name, type)
  return [value, 0x21, varintBytes([...locals.keys()].indexOf(name))]
}

const grow = (name: string, by: Code): Code => set(name, op('i32.add', get(name), by))
const vectorLoad = (at: Code): Code => [at, 0xfd, 0x00, 0, 0]
const vectorStore = (at: Code, value: Code): Code => [at, value, 0xfd, 0x0b, 0, 0]
/** The high bits of sixteen bytes. */
const bitmask = (of: Code): Code => [of, 0xfd, 0x64]

// ------------------------------------------------------------------------------------------------------------------- module

const OUT = 16_384
const SLOTS_AT = 1_048_576
const COSINES_AT = SLOTS_AT + SLOT.count * SLOT.words * 4
const PAGES = 32
const ODD: Code = [i32(-1), 0x0f]

/** The plan as a module that exports `memory` and `run(start, end, at, epoch, generation)`, and imports what makes a pseudonym on a miss. */
export function assemble(plan: Plan): Uint8Array<ArrayBuffer> {
  const body = flat([scan(plan), write(plan), get('o')])
  const code = flat([vector([...locals].slice(PARAMS).map(([, type]) => [1, TYPES[type]])), body, 0x0b])
  const types = vector([
    [0x60, vector([...locals].slice(0, PARAMS).map(([, type]) => [TYPES[type]])), vector([[TYPES.i32]])],
    [0x60, vector(Array.from({ length: 4 }, () => [TYPES.i32])), vector([[TYPES.i32]])],
  ])
  return Uint8Array.from(flat([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    section(1, types), section(2, vector([[text('js'), text('make'), 0x00, 1]])), section(3, vector([[0]])), section(5, vector([[0x00, varintBytes(PAGES)]])),
    section(7, vector([[text('memory'), 0x02, 0], [text('run'), 0x00, 1]])), section(10, vector([[varintBytes(code.length), code]])),
  ]))
}

const stepFor = (plan: Plan, field: FieldShape): PlanStep | undefined => plan.root.steps.find((step) => step.field === field)
const chainOf = (step: PlanStep | undefined): readonly Transform[] => (step?.kind === 'value' ? step.chain : [])
const isCopied = (step: PlanStep | undefined): boolean => step !== undefined && chainOf(step).length === 0
const isPoint = (plan: Plan, field: FieldShape): boolean => plan.points.some((point) => point.lat[0] === field || point.lon[0] === field)

function scan(plan: Plan): Code {
  const code: Code[] = [set('p', get('start')), set('o', get('at')), set('x', op('i64.load', get('p')), 'i64')]
  let run = 0
  let isOpen = false
  for (const field of plan.message.fields) {
    if (field.repeated || field.message !== undefined || ![0, 2].includes(wireTypeOf(field))) throw new Error('only numbers and texts')
    const step = stepFor(plan, field)
    if (isCopied(step) && !isOpen) code.push(set(`r${++run}`, get('p')))
    if (!isCopied(step) && isOpen) code.push(set(`e${run}`, get('p')))
    isOpen = isCopied(step)
    const tag = varintBytes(field.number * 8 + wireTypeOf(field))
    const word = tag.reduce((sum, byte, at) => sum | (byte << (8 * at)), 0)
    code.push(when(op('i32.eq', op('i32.and', op('i32.wrap_i64', get('x')), i32(2 ** (8 * tag.length) - 1)), i32(word)), [
      set('y', op('i64.shr_u', get('x'), i64(BigInt(8 * tag.length))), 'i64'),
      wireTypeOf(field) === 2 ? scanText(plan, field, tag.length) : scanNumber(plan, field, tag.length),
      set('x', op('i64.load', get('p')), 'i64'),
    ]))
  }
  if (isOpen) code.push(set(`e${run}`, get('p')))
  return [code, when(op('i32.ne', get('p'), get('end')), ODD)]
}

function scanNumber(plan: Plan, field: FieldShape, skip: number): Code {
  const step = stepFor(plan, field)
  const zeroIsOdd = isCopied(step) && !field.presence
  const wide = field.type.endsWith('64')
  const top = field.type === 'uint32' || field.type === 'sint32' ? 15 : 7
  if (field.type === 'bool') {
    return [set('n', op('i32.and', op('i32.wrap_i64', get('y')), i32(255))), when(zeroIsOdd ? op('i32.ne', get('n'), i32(1)) : op('i32.gt_u', get('n'), i32(1)), ODD), grow('p', i32(skip + 1))]
  }
  const isWanted = isPoint(plan, field) || chainOf(step).length > 0
  return [
    // The last byte of the varint, counted from zero: the first without its high bit.
    set('n', op('i32.shr_u', op('i32.wrap_i64', op('i64.ctz', op('i64.and', op('i64.xor', get('y'), i64(-1n)), i64(0x8080_8080_8080_8080n)))), i32(3))),
    set('m', op('i32.and', op('i32.wrap_i64', op('i64.shr_u', get('y'), op('i64.extend_i32_u', op('i32.shl', get('n'), i32(3))))), i32(127))),
    when(zeroIsOdd ? op('i32.eqz', get('m')) : op('i32.and', op('i32.eqz', get('m')), op('i32.ne', get('n'), i32(0))), ODD),
    wide ? when(op('i32.gt_u', get('n'), i32(6)), ODD) : when(op('i32.gt_u', get('n'), i32(3)), when(op('i32.or', op('i32.gt_u', get('n'), i32(4)), op('i32.gt_u', get('m'), i32(top))), ODD)),
    grow('p', op('i32.add', get('n'), i32(skip + 1))),
    isWanted ? numberOf(field) : [],
  ]
}

/** Groups of seven bits moved together, two, four and eight at once. */
function numberOf(field: FieldShape): Code {
  const v = `v${field.number}`
  const fold = (low: bigint, by: bigint): Code => set('y', op('i64.or', op('i64.and', get('y'), i64(low)), op('i64.shr_u', op('i64.and', get('y'), i64(low << (8n * by))), i64(by))), 'i64')
  const folded = [
    set('y', op('i64.and', get('y'), op('i64.shr_u', i64(-1n), op('i64.extend_i32_u', op('i32.sub', i32(56), op('i32.shl', get('n'), i32(3)))))), 'i64'),
    fold(0x007f_007f_007f_007fn, 1n), fold(0x0000_3fff_0000_3fffn, 2n), fold(0x0fff_ffffn, 4n),
  ]
  if (field.type.endsWith('64')) return [folded, set(v, get('y'), 'i64')]
  const n = op('i32.wrap_i64', get('y'))
  return [folded, set(v, field.type === 'sint32' ? op('i32.xor', op('i32.shr_u', n, i32(1)), op('i32.sub', i32(0), op('i32.and', n, i32(1)))) : n)]
}

function scanText(plan: Plan, field: FieldShape, skip: number): Code {
  const step = stepFor(plan, field)
  return [
    set('n', op('i32.and', op('i32.wrap_i64', get('y')), i32(255))),
    when(op('i32.gt_u', get('n'), i32(127)), ODD),
    isCopied(step) ? when(op('i32.eqz', get('n')), ODD) : [],
    set('q', op('i32.add', get('p'), i32(skip + 1))), set('p', op('i32.add', get('q'), get('n'))),
    when(op('i32.gt_s', get('p'), get('end')), ODD),
    chainOf(step).length > 0 ? [set(`a${field.number}`, get('q')), set(`b${field.number}`, get('p'))] : [],
    loop(op('i32.le_s', op('i32.add', get('q'), i32(16)), get('p')), [when(bitmask(vectorLoad(get('q'))), ODD), grow('q', i32(16))]),
    when(op('i32.and', bitmask(vectorLoad(get('q'))), op('i32.sub', op('i32.shl', i32(1), op('i32.sub', get('p'), get('q'))), i32(1))), ODD),
  ]
}

function write(plan: Plan): Code {
  const code: Code[] = [plan.points.map((point) => snap(Number(point.chain[0]?.params.size), (point.lat[0] as FieldShape).number, (point.lon[0] as FieldShape).number))]
  let run = 0
  let wasCopied = false
  for (const field of plan.message.fields) {
    const step = stepFor(plan, field)
    const [only] = chainOf(step)
    if (isCopied(step) && !wasCopied) code.push(copy(`r${++run}`, `e${run}`))
    wasCopied = isCopied(step)
    if (only?.name === 'pseudonym') code.push(pseudonym(field))
    else if (only?.name === 'round_time') code.push(set('y', op('i64.mul', op('i64.div_u', get(`v${field.number}`), i64(BigInt(Number(only.params.wire)))), i64(BigInt(Number(only.params.wire)))), 'i64'), writeNumber(field))
    else if (only !== undefined) throw new Error(`no code for ${only.name}`)
    if (isPoint(plan, field)) {
      const n = get(`v${field.number}`)
      code.push(set('y', op('i64.extend_i32_u', op('i32.xor', op('i32.shl', n, i32(1)), op('i32.shr_s', n, i32(31)))), 'i64'), writeNumber(field))
    }
  }
  return code
}

/** `y` as a field; zero is left out. */
function writeNumber(field: FieldShape): Code {
  const put = (value: Code): Code => [op('i32.store8', get('o'), value), grow('o', i32(1))]
  return when(op('i32.eqz', op('i64.eqz', get('y'))), [
    varintBytes(field.number * 8).map((byte) => put(i32(byte))),
    loop(op('i64.gt_u', get('y'), i64(127n)), [put(op('i32.or', op('i32.wrap_i64', get('y')), i32(128))), set('y', op('i64.shr_u', get('y'), i64(7n)), 'i64')]),
    put(op('i32.wrap_i64', get('y'))),
  ])
}

function copy(r: string, e: string): Code {
  return [
    set('n', op('i32.sub', get(e), get(r))), set('q', i32(0)),
    loop(op('i32.lt_s', get('q'), get('n')), [vectorStore(op('i32.add', get('o'), get('q')), vectorLoad(op('i32.add', get(r), get('q')))), grow('q', i32(16))]),
    grow('o', get('n')),
  ]
}

/** The same slots and the same hash as in the generated function. */
function pseudonym(field: FieldShape): Code {
  const HASH = i32(0x9e37_79b1)
  const [a, b] = [get(`a${field.number}`), get(`b${field.number}`)]
  const word = (at: string): Code => op('i32.load', get(at))
  return [
    op('i32.store8', get('o'), i32(field.number * 8 + 2)), op('i32.store8', op('i32.add', get('o'), i32(1)), i32(22)), grow('o', i32(2)),
    set('n', op('i32.sub', b, a)),
    when(op('i32.gt_u', op('i32.sub', get('n'), i32(1)), i32(SLOT.valueBytes - 1)), ODD),
    set('last', op('i32.sub', op('i32.sub', b, i32(1)), op('i32.and', op('i32.sub', get('n'), i32(1)), i32(3)))),
    set('tail', op('i32.and', word('last'), op('i32.shr_u', i32(-1), op('i32.shl', op('i32.and', op('i32.sub', i32(0), get('n')), i32(3)), i32(3))))),
    set('m', get('n')), set('q', a),
    loop(op('i32.lt_s', get('q'), get('last')), [set('m', op('i32.mul', op('i32.xor', get('m'), word('q')), HASH)), grow('q', i32(4))]),
    set('m', op('i32.mul', op('i32.xor', get('m'), get('tail')), HASH)),
    set('slot', op('i32.add', i32(SLOTS_AT), op('i32.mul', op('i32.and', op('i32.shr_u', get('m'), i32(15)), i32(SLOT.count - 1)), i32(SLOT.words * 4)))),
    set('ready', i32(0)),
    when(op('i32.and', op('i32.and', op('f64.eq', op('f64.load', get('slot')), get('epoch')), op('f64.eq', op('f64.load', op('i32.add', get('slot'), i32(8))), get('generation'))), op('i32.eq', op('i32.load', op('i32.add', get('slot'), i32(SLOT.length * 4))), get('n'))), [
      set('q', a), set('k', op('i32.add', get('slot'), i32(SLOT.value * 4))), set('ready', i32(1)),
      loop(op('i32.lt_s', get('q'), get('last')), [when(op('i32.ne', word('k'), word('q')), set('ready', i32(0))), grow('q', i32(4)), grow('k', i32(4))]),
      when(op('i32.ne', word('k'), get('tail')), set('ready', i32(0))),
    ]),
    when(get('ready'), [
      vectorStore(get('o'), vectorLoad(op('i32.add', get('slot'), i32(SLOT.made * 4)))),
      op('i64.store', op('i32.add', get('o'), i32(14)), op('i64.load', op('i32.add', get('slot'), i32(SLOT.made * 4 + 14)))),
    ], when(op('i32.lt_s', [a, b, get('o'), get('slot'), 0x10, 0], i32(0)), ODD)),
    grow('o', i32(22)),
  ]
}

/** grid.ts over `v<lat>` and `v<lon>`, in place. */
function snap(size: number, lat: number, lon: number): Code {
  const rows = 100_000 / size
  const real = (name: string, value: Code): Code => set(name, value, 'f64')
  const degrees = (name: string): Code => op('f64.convert_i32_s', get(name))
  const whole = (name: string): Code => op('i32.mul', [get(name), f64(0), 0x63, 0x04, TYPES.i32, op('i32.sub', i32(0), op('i32.trunc_f64_s', op('f64.floor', op('f64.sub', f64(0.5), get(name))))), 0x05, op('i32.trunc_f64_s', op('f64.floor', op('f64.add', get(name), f64(0.5)))), 0x0b], i32(100))
  const centre = (index: string): Code => op('f64.mul', op('f64.add', get(index), f64(0.5)), f64(size))
  return when(op('i32.or', get(`v${lat}`), get(`v${lon}`)), [
    when(op('i32.or', op('i32.gt_u', op('i32.add', get(`v${lat}`), i32(900_000_000)), i32(1_800_000_000)), op('f64.gt', op('f64.mul', degrees(`v${lon}`), degrees(`v${lon}`)), f64(1_800_000_000 ** 2))), ODD),
    real('l', op('f64.mul', degrees(`v${lat}`), f64(M))),
    real('i', op('f64.floor', op('f64.mul', get('l'), f64(1 / (size * 1e7))))),
    when(op('f64.gt', op('f64.mul', get('i'), f64(size * 1e7)), get('l')), real('i', op('f64.sub', get('i'), f64(1))), when(op('f64.le', op('f64.mul', op('f64.add', get('i'), f64(1)), f64(size * 1e7)), get('l')), real('i', op('f64.add', get('i'), f64(1))))),
    real('row', op('f64.load', op('i32.add', i32(COSINES_AT), op('i32.shl', op('i32.div_u', op('i32.add', op('i32.trunc_f64_s', get('i')), i32(101 * rows)), i32(rows)), i32(3))))),
    real('j', op('f64.floor', op('f64.div', op('f64.mul', op('f64.mul', op('f64.div', degrees(`v${lon}`), f64(1e7)), f64(M)), get('row')), f64(size)))),
    // Beyond the poles and the date line the interpreter decides; the generated function stops at them.
    real('l', op('f64.mul', op('f64.div', centre('i'), f64(M)), f64(1e5))), set(`v${lat}`, whole('l')),
    real('l', op('f64.mul', op('f64.div', centre('j'), op('f64.mul', f64(M), get('row'))), f64(1e5))), set(`v${lon}`, whole('l')),
  ])
}

// ---------------------------------------------------------------------------------------------------------------------- run

export async function run({ sheet, timeMs }: BenchOptions): Promise<void> {
  const prepared = preparedCase('status')
  const { plan, bytes, scratch, fast } = prepared
  const maker = createPseudonymiser(KEYS, { as: 'machine', output: plan.output, rotate: 604_800_000, subject: 'machine' })
  const { instance } = await WebAssembly.instantiate(assemble(plan), { js: { make } })
  const { memory, run: minimise } = instance.exports as { memory: WebAssembly.Memory; run: (start: number, end: number, at: number, epoch: number, generation: number) => number }
  const inside = Buffer.from(memory.buffer)
  inside.fill(0xff, SLOTS_AT, COSINES_AT)
  inside.set(new Uint8Array(COSINES.buffer), COSINES_AT)
  const cx = { ...createContext(), eventMs: EVENT_MS }
  const epoch = (): number => Math.floor(cx.eventMs / 604_800_000)

  function make(from: number, to: number, o: number, slot: number): number {
    const made = maker.of(inside.toString('utf8', from, to), cx.eventMs, '')
    if (made === undefined) return -1
    inside.writeDoubleLE(epoch(), slot)
    inside.writeDoubleLE(maker.generationAt(cx.eventMs), slot + 8)
    inside.writeInt32LE(to - from, slot + SLOT.length * 4)
    inside.fill(0, slot + SLOT.value * 4, slot + SLOT.made * 4)
    inside.copy(inside, slot + SLOT.value * 4, from, to)
    inside.write(Buffer.from(made).toString('base64url'), slot + SLOT.made * 4, 'latin1')
    inside.copy(inside, o, slot + SLOT.made * 4, slot + SLOT.made * 4 + 22)
    return 0
  }

  const { length } = bytes
  bytes.copy(inside)
  const expected = fast[0]!(scratch, 0, length, scratch, OUT, cx)
  const call = (): number => minimise(0, length, OUT, epoch(), maker.generationAt(cx.eventMs))
  const ends = [call(), call()]
  if (!ends.every((end) => end === expected) || Buffer.compare(inside.subarray(OUT, expected), scratch.subarray(OUT, expected)) !== 0) throw new Error(`the module gives other bytes: ${ends.join(', ')}, not ${expected}`)

  const target = Buffer.alloc(OUT)
  let sink = 0
  const rows = await measure([
    ...timed(prepared).filter(({ label }) => [COPY, 'minimiser', PROTOBUFJS].includes(label)),
    { label: 'module, scratch in its memory', outputs: 1, call: () => void (sink = (sink + call()) | 0) },
    {
      label: 'module, copied in and out', outputs: 1, call: () => {
        bytes.copy(inside)
        inside[length] = 0
        const end = call()
        sink = (sink + inside.copy(target, 0, OUT, end)) | 0
      },
    },
  ], timeMs)
  if (sink === 0) throw new Error('nothing was measured')
  report('wasm', prepared, rows, sheet)
}
