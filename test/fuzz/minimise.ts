/**
 * Fuzzing of the minimiser: `node test/fuzz/minimise.ts [SECONDS] [SEED]`, 600 seconds and a seed from the clock by default.
 *
 * Messages are made from the grammar of their schema, with a mark in every text and bytes field that a plan does not name and in
 * unknown fields, and then changed: records doubled, moved, wrapped, renamed, their wire types swapped, bytes flipped, cut and put in.
 * Both engines take each of them under the plans of the shipped rules and of random ones. It ends with exit code 1 when one of them
 * throws, takes longer than LONG_MS, differs from the other, gives bytes that the verifier objects to, or lets out a mark that
 * protobufjs does not find in a field the plan names. The last lines tell how often each verdict came; one that never came is named.
 *
 * The work is done in a thread, so that an endless loop is seen as well and told with the seed that leads to it.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { loadRules } from '../../src/config/rules.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { Verdict, verdictName, type VerdictName } from '../../src/domain/verdict.ts'
import { compilePlan, type Minimiser } from '../../src/minimise/compile.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { VARIANTS, planFor, type Plan, type PlanNode } from '../../src/minimise/plan.ts'
import { verify } from '../../src/minimise/verify.ts'
import { createDice, type Dice } from '../minimise/random/dice.ts'
import { randomOutput, checkedOutput } from '../minimise/random/rules.ts'
import type { FieldModel, MessageModel } from '../minimise/random/schema.ts'
import { keys, randomGround } from '../minimise/random/trial.ts'
import { CANARY, corrupt, insideOf, randomMessage, randomUnknown, toBytes, type WireRecord } from '../minimise/random/wire.ts'

/** Far beyond any message of this size, even on a busy machine. */
const LONG_MS = 1_000
const SILENT_MS = 10_000

interface Job {
  readonly seconds: number
  readonly seed: number
  /** Number of the case in hand. */
  readonly beat: Int32Array
}

interface Report {
  readonly cases: number
  readonly verdicts: ReadonlyMap<VerdictName | 'sent', number>
  readonly longestMs: number
  readonly problem: string | undefined
}

function watch(seconds: number, seed: number): void {
  console.log(`fuzzing for ${seconds} s, seed ${seed}`)
  const beat = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(new URL(import.meta.url), { workerData: { seconds, seed, beat } satisfies Job })
  let last = -1
  let since = Date.now()
  const timer = setInterval(() => {
    const now = Atomics.load(beat, 0)
    if (now !== last) since = Date.now()
    last = now
    if (Date.now() - since < SILENT_MS) return
    console.error(`case ${now} of seed ${seed} does not end`)
    process.exit(1)
  }, 500)
  worker.on('error', (error) => {
    console.error(error)
    process.exit(1)
  })
  worker.on('message', (report: Report) => {
    clearInterval(timer)
    tell(report)
    process.exitCode = report.problem === undefined ? 0 : 1
  })
}

function tell({ cases, verdicts, longestMs, problem }: Report): void {
  for (const [name, count] of [...verdicts].sort((a, b) => b[1] - a[1])) console.log(`${String(count).padStart(10)}  ${name}`)
  const never = REACHABLE.filter((name) => !verdicts.has(name))
  console.log(`${cases} cases, longest ${longestMs.toFixed(1)} ms${never.length === 0 ? ', every verdict came' : `; never came: ${never.join(', ')}`}`)
  if (problem !== undefined) console.error(problem)
}

/** What a minimiser may answer; the others belong to the pipeline. `odd` stays inside. */
const REACHABLE: readonly VerdictName[] = [
  'truncated', 'bad_tag', 'bad_varint', 'bad_group', 'bad_utf8', 'too_deep', 'bad_topic_value', 'too_big', 'empty', 'required_missing', 'when_false', 'when_error',
]

// ------------------------------------------------------------------------------------------------------------------- plans

interface Target {
  readonly plan: Plan
  readonly generated: Minimiser
  readonly interpreted: Minimiser
  readonly model: MessageModel
  /** What protobufjs reads in the fields that the plan names, untransformed; one character a byte. */
  readonly named: (bytes: Uint8Array) => string
}

function shippedTargets(): Target[] {
  const root = resolve(import.meta.dirname, '../..')
  const schemas = loadSchemas([join(root, 'proto')])
  const { policy } = loadRules('awp.yaml', readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8'), { schemas })
  if (policy === undefined) throw new Error('the shipped rules are not accepted')
  return policy.outputs.flatMap((output) => output.streams.flatMap((source) => VARIANTS.map((variant) => {
    const plan = planFor(output, source, variant)
    const { name } = plan.message
    return targetOf(plan, (bytes) => {
      try {
        return Buffer.from(schemas.encode(name, namedPart(plan.root, schemas.decode(name, bytes)))).toString('latin1')
      } catch (error) {
        // Of tags and lengths of more than five bytes implementations think differently: nothing can be said then.
        if (/invalid (tag|length) encoding/.test((error as Error).message)) return CANARY
        throw error
      }
    })
  })))
}

function targetOf(plan: Plan, named: Target['named']): Target {
  return { plan, generated: compilePlan(plan, { keys, engine: 'generated' }), interpreted: compilePlan(plan, { keys, engine: 'interpreted' }), model: modelOf(plan.message, new Map()), named }
}

/** The parts of a decoded message that a plan names. */
function namedPart(node: PlanNode, json: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(node.steps.flatMap((step) => {
    const value = json[step.field.name]
    if (value === undefined) return []
    const inner = (one: unknown): unknown => (step.kind === 'node' && typeof one === 'object' && one !== null ? namedPart(step.node, one as Record<string, unknown>) : one)
    const isMap = step.kind === 'node' && step.field.map
    return [[step.field.name, isMap ? Object.fromEntries(Object.entries(value as object).map(([key, one]) => [key, inner(one)])) : Array.isArray(value) ? value.map(inner) : inner(value)]]
  }))
}

/** The model of a schema that was read, so that messages can be made from its grammar. */
function modelOf(shape: MessageShape, seen: Map<MessageShape, MessageModel>): MessageModel {
  const known = seen.get(shape)
  if (known !== undefined) return known
  const model: MessageModel = { name: shape.name, fields: [], known: false }
  seen.set(shape, model)
  for (const field of shape.fields) model.fields.push(fieldModel(field, seen))
  return model
}

function fieldModel(field: FieldShape, seen: Map<MessageShape, MessageModel>): FieldModel {
  const value = field.map ? (field.message?.byNumber.get(2) as FieldShape) : field
  const isMessage = value.message !== undefined
  return {
    number: field.number, name: field.name, type: isMessage ? 'message' : (value.type as FieldModel['type']), message: isMessage ? modelOf(value.message, seen) : undefined,
    enum: value.enum === undefined ? undefined : { name: value.enum.name, closed: value.enum.closed, members: [...value.enum.values] },
    label: field.map ? 'map' : field.repeated ? 'repeated' : 'singular', key: field.map ? (field.message?.byNumber.get(1)?.type as FieldModel['key']) : undefined,
    oneof: field.oneof, presence: field.presence, packed: field.packed, utf8: field.utf8, group: field.type === 'group', subject: 'none', personal: 'always', time: false, initial: undefined, prefix: '', options: [],
  }
}

// -------------------------------------------------------------------------------------------------------------------- runs

const scratch = Buffer.alloc(1_048_576)
const cx = createContext()

function fuzz({ seconds, seed, beat }: Job): Report {
  const until = Date.now() + seconds * 1_000
  const verdicts = new Map<VerdictName | 'sent', number>()
  const shipped = shippedTargets()
  let longestMs = 0
  let cases = 0
  try {
    for (; Date.now() < until; cases++) {
      Atomics.store(beat, 0, cases)
      const dice = createDice((seed + cases) | 0)
      const target = dice.chance(0.7) ? dice.pick(shipped) : randomTarget(dice)
      // A plan is worth more than one message.
      for (let at = 0; at < 20; at++) {
        const bytes = mutated(dice, target)
        const began = performance.now()
        const result = attempt(target, bytes, dice)
        longestMs = Math.max(longestMs, performance.now() - began)
        verdicts.set(result, (verdicts.get(result) ?? 0) + 1)
        if (longestMs > LONG_MS) throw new Error(`took ${longestMs} ms: ${Buffer.from(bytes).toString('hex')}`)
      }
    }
  } catch (error) {
    return { cases, verdicts, longestMs, problem: `case ${cases} of seed ${seed}: ${(error as Error).stack ?? (error as Error).message}` }
  }
  return { cases, verdicts, longestMs, problem: undefined }
}

function randomTarget(dice: Dice): Target {
  const ground = randomGround(dice)
  const output = randomOutput(dice, ground.schema)
  const { output: checked, source } = checkedOutput(output, ground.shape)
  const plan = planFor(checked, source, dice.pick(VARIANTS))
  // The whole message, as the oracle reads it: marks are in unknown fields only.
  const everything = (bytes: Uint8Array): string => {
    const read = ground.oracle.decode(bytes)
    return read instanceof Error ? '' : Buffer.from(ground.oracle.encode(read)).toString('latin1')
  }
  return targetOf(plan, everything)
}

/** Runs one message through both engines. Throws a sentence about what is wrong. */
function attempt(target: Target, bytes: Uint8Array, dice: Dice): VerdictName | 'sent' {
  const { generated, interpreted, plan } = target
  const eventMs = dice.pick([1_763_888_864_000, Number.NaN])
  const room = dice.chance(0.02) ? dice.below(60) : scratch.length
  const legal = dice.chance(0.5)
  const run = (minimiser: Minimiser): { code: number; hex: string; topic: string } => {
    Object.assign(cx, { eventMs, legal, topic: '', session: '00112233445566778899aabbccddeeff', machine: 'SN-1042' })
    const buffer = room === scratch.length ? scratch : Buffer.alloc(bytes.length + room)
    buffer.set(bytes)
    buffer.fill(0, bytes.length, Math.min(buffer.length, bytes.length + 32))
    const from = Math.min(buffer.length, bytes.length + 1)
    const end = minimiser.run(buffer, 0, bytes.length, buffer, from, cx)
    return { code: Math.min(end, 0), hex: end < 0 ? '' : buffer.subarray(from, end).toString('hex'), topic: end < 0 ? '' : cx.topic }
  }
  const fast = run(generated)
  const slow = run(interpreted)
  const told = (text: string): Error => new Error(`${text}\nplan ${plan.output} ${plan.stream} ${JSON.stringify(plan.variant)}\nmessage ${Buffer.from(bytes).toString('hex')}\ngenerated ${JSON.stringify(fast)}\ninterpreted ${JSON.stringify(slow)}`)
  // The fast path asks for more room than it needs, so where room is short the engines may differ in that one verdict.
  if (JSON.stringify(fast) !== JSON.stringify(slow) && fast.code !== Verdict.too_big.code) throw told('the engines differ')
  if (slow.code < 0) return verdictName(slow.code)
  const result = Buffer.from(slow.hex, 'hex')
  const found = verify(plan, result)
  if (found !== undefined) throw told(`the verifier objects: ${found}`)
  // A change of a tag can bring a mark into a named field: then it may leave.
  if (result.includes(CANARY) && !target.named(bytes).includes(CANARY)) throw told('a mark came out that no named field holds')
  return 'sent'
}

// --------------------------------------------------------------------------------------------------------------- mutations

function mutated(dice: Dice, { model, plan }: Target): Uint8Array {
  const named = new Set([...plan.root.steps.map((step) => step.field.number), ...plan.points.flatMap(({ lat, lon }) => [lat[0]?.number, lon[0]?.number])])
  let records: WireRecord[] = randomMessage(dice, model, { odd: dice.pick([0, 0.05, 0.2]), edge: dice.pick([0, 0.3]) })
    .map((record) => (named.has(record.number) || record.wire !== 2 || insideOf(record) !== undefined ? record : { ...record, body: Buffer.from(CANARY) }))
  for (let times = dice.below(4); times > 0; times--) records = changed(dice, records)
  let bytes = toBytes(records)
  for (let times = dice.chance(0.5) ? dice.below(4) : 0; times > 0; times--) bytes = corrupt(dice, bytes)
  return bytes
}

/** One change of the record tree: grammatical in form, whatever it means. */
function changed(dice: Dice, records: readonly WireRecord[]): WireRecord[] {
  if (records.length === 0) return [randomUnknown(dice, 1 + dice.below(40))]
  const at = dice.below(records.length)
  const record = records[at] as WireRecord
  const inner = insideOf(record)
  if (inner !== undefined && dice.chance(0.5)) return records.with(at, { ...record, body: changed(dice, inner) })
  switch (dice.below(8)) {
    case 0: return [...records, record]
    case 1: return records.toSpliced(dice.below(records.length), 0, randomUnknown(dice, 1 + dice.below(40)))
    case 2: return dice.shuffle(records)
    case 3: return records.with(at, { ...record, number: 1 + dice.below(40) })
    case 4: return records.with(at, { ...record, pad: { tag: dice.below(2), value: dice.below(9), length: dice.below(4) } })
    case 5: return records.with(at, nest(record, dice.pick([2, 3] as const), dice.pick([1, 2, 30, 31, 32, 33, 40])))
    case 6: return records.with(at, { ...record, wire: 2, body: dice.pick([Buffer.from(CANARY), Buffer.alloc(0), dice.bytes(8), Buffer.alloc(dice.pick([127, 128, 300, 17_000]), 0x61)]) })
    default: return records.with(at, { ...record, wire: 0, body: dice.big(64) })
  }
}

/** A record inside itself, so many levels deep. */
function nest(record: WireRecord, wire: 2 | 3, levels: number): WireRecord {
  let inner = record
  for (let level = 0; level < levels; level++) inner = { number: record.number, wire, body: [inner], pad: { tag: 0, value: 0, length: 0 } }
  return inner
}

if (isMainThread) {
  const seconds = Number(process.argv[2] ?? 600)
  const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31)
  if (!(seconds > 0) || !Number.isInteger(seed)) {
    console.error('usage: node test/fuzz/minimise.ts [SECONDS] [SEED]')
    process.exit(2)
  }
  watch(seconds, seed)
} else {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort?.postMessage(fuzz(workerData as Job))
}
