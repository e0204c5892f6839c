/**
 * What must hold of every plan and every message: an output shows nothing of what it does not name (G2), taking a consent away adds
 * nothing (G7), what left passes the verifier and comes through a plan that keeps everything unchanged, and no bytes make it throw.
 *
 * PARAPET_RUNS is the number of random schemas; PARAPET_SEED repeats a run.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BASES } from '../../src/domain/policy.ts'
import type { Basis, BasisEntry, Output, Transform } from '../../src/domain/policy.ts'
import { nobody, type Decision } from '../../src/domain/consent.ts'
import { gate, operatorFieldsAllowed } from '../../src/domain/basis.ts'
import { compilePlan, type Minimiser } from '../../src/minimise/compile.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { isCoarserOrEqual } from '../../src/minimise/transforms.ts'
import { verify } from '../../src/minimise/verify.ts'
import { outputOf } from './fixture.ts'
import { createDice, type Dice } from './random/dice.ts'
import type { OMessage, OValue } from './random/oracle.ts'
import { checkedOutput, randomOutput, wrapped, type Chain, type OutputModel, type RuleModel } from './random/rules.ts'
import type { FieldModel, SchemaModel } from './random/schema.ts'
import { compile, describeCase, keys, messageFor, randomGround, randomMoment, run, type Case, type Ground, type Outcome } from './random/trial.ts'
import { CANARY, randomMessage, toBytes, type WireRecord } from './random/wire.ts'
import { MARK, namedBy, vary } from './random/vary.ts'

const runs = Number(process.env.PARAPET_RUNS ?? 100)
const settings = { numRuns: runs, ...(process.env.PARAPET_SEED === undefined ? {} : { seed: Number(process.env.PARAPET_SEED) }) }
const timeout = 60_000 + runs * 500

function forSeeds(check: (dice: Dice, ground: Ground) => void): void {
  fc.assert(fc.property(fc.noShrink(fc.nat({ max: 2 ** 31 - 1 })), (seed) => {
    const dice = createDice(seed)
    check(dice, randomGround(dice))
  }), settings)
}

describe('G2: an output shows nothing of what it does not name', () => {
  test('messages that differ only there give the same verdict, topic and bytes, and no mark of it', () => {
    let sent = 0
    forSeeds((dice, ground) => {
      for (let at = 0; at < 4; at++) {
        const one: Case = { ...ground, output: randomOutput(dice, ground.schema), moment: randomMoment(dice) }
        const { source } = checkedOutput(one.output, one.shape)
        const reads = [...(source.when?.reads ?? []), ...source.stream.points.flatMap((point) => point.valid?.reads ?? [])]
        const named = namedBy(one.output, reads, one.moment.consent, one.moment.operatorFields)
        const { generated, interpreted } = compile(one)
        for (let index = 0; index < 4; index++) {
          const first = randomMessage(dice, one.schema.root, { odd: dice.pick([0, 0.1]), edge: 0.2 })
          const wanted = run(interpreted, toBytes(first), one.moment)
          const second = toBytes(vary(dice, one.schema.root, first, named))
          for (const engine of [generated, interpreted]) {
            const got = run(engine, second, one.moment)
            expect(got, describeCase(one, second)).toEqual(wanted)
            for (const mark of [MARK, CANARY]) expect(Buffer.from(got.hex, 'hex').includes(mark), describeCase(one, second)).toBe(false)
          }
          if (wanted.kind === 'sent') sent++
        }
      }
    })
    expect(sent).toBeGreaterThan(runs * 4)
  }, timeout)
})

describe('G7: taking a consent away adds nothing', () => {
  const purpose = (index: number): Output['purpose'] => ({ ...outputOf('out', []).purpose, index })
  const entry = (basis: Basis): BasisEntry => ({ basis, law: 'a law', assessment: undefined, employeeConsent: undefined })

  /** Every decision about one purpose: bit sets of one bit. */
  const decisions: Decision[] = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((bits) => [0, 1, 2, 3].flatMap((more) => [true, false].map((known): Decision => ({
    ...nobody(), known, collection: known || (more & 1) === 1, yes: bits & 1, siteYes: (bits & 1) | ((bits >> 1) & 1), no: (bits >> 2) & 1, notice: (more >> 1) & 1,
  }))))

  /** A yes for the site alone is a no to everything off it, and as little as an objection does that end with the yes. */
  const elsewhere = ({ yes, siteYes }: Decision): number => siteYes & ~yes

  /** Ways of allowing less. */
  const less: [string, (decision: Decision) => Decision][] = [
    ['the yes is gone', (decision) => ({ ...decision, yes: 0, siteYes: 0, no: decision.no | elsewhere(decision) })],
    ['the yes holds on the site only', (decision) => ({ ...decision, yes: 0 })],
    ['a no is there', (decision) => ({ ...decision, no: 1 })],
    ['a yes became a no', (decision) => ({ ...decision, yes: 0, siteYes: 0, no: 1 })],
    ['the notice of the policy in force was not given', (decision) => ({ ...decision, notice: 0 })],
    // Who objected and is not recognised cannot be told from others: legitimate interest is open to nobody known.
    ['nobody is known', (decision) => ({ ...nobody(), no: decision.no | elsewhere(decision), collection: decision.collection })],
  ]

  test.each(less)('%s: no gate opens further, on any basis', (_name, change) => {
    for (const basis of BASES) for (const reach of ['any', 'site'] as const) for (const decision of decisions) {
      const output = outputOf('out', [], { reach, purpose: purpose(0) })
      const changed = change(decision)
      expect(gate(output, entry(basis), changed), `${basis} ${reach} ${JSON.stringify(decision)}`).toBeLessThanOrEqual(gate(output, entry(basis), decision))
      expect(Number(operatorFieldsAllowed(output, entry(basis), changed))).toBeLessThanOrEqual(Number(operatorFieldsAllowed(output, entry(basis), decision)))
    }
  })

  test('another purpose\'s yes and no change nothing', () => {
    for (const basis of BASES) for (const decision of decisions) {
      const output = outputOf('out', [], { purpose: purpose(3) })
      const shifted = { ...decision, yes: decision.yes << 3, siteYes: decision.siteYes << 3, no: decision.no << 3, notice: decision.notice << 3 }
      const other = { ...shifted, yes: shifted.yes | 0b10111, siteYes: shifted.siteYes | 0b10111, no: shifted.no | 0b100101 }
      expect(gate(output, entry(basis), other)).toBe(gate(output, entry(basis), shifted))
    }
  })

  test('plans: no field and no finer value without the yes', () => {
    let pairs = 0
    forSeeds((dice, ground) => {
      const output = coarserWithout(dice, ground.schema)
      const moment = randomMoment(dice)
      const { output: checked, source } = checkedOutput(output, ground.shape)
      const engine = (consent: boolean, operatorFields: boolean): Minimiser => compilePlan(planFor(checked, source, { consent, operatorFields }), { keys, engine: 'interpreted' })
      const more = engine(true, moment.operatorFields || dice.chance(0.5))
      const fewer = engine(false, moment.operatorFields && more.plan.variant.operatorFields)
      for (let at = 0; at < 12; at++) {
        const one = randomMessage(dice, ground.schema.root, { odd: 0, edge: 0.1 })
        const other = nudge(dice, ground.schema, one)
        const [fine, fineOther] = [run(more, toBytes(one), moment), run(more, toBytes(other), moment)]
        const [coarse, coarseOther] = [run(fewer, toBytes(one), moment), run(fewer, toBytes(other), moment)]
        // At the end of a type a fine step may carry a value beyond it, so that it is dropped, where a coarse one does not.
        if (fine.failures > 0 || fineOther.failures > 0) continue
        const told = describeCase({ ...ground, output, moment: { ...moment, consent: false } }, toBytes(one))
        // No message and no field that was not there with the yes; `empty` is one whose values are all the defaults that are not written.
        if (coarse.kind === 'sent' && fine.reason !== 'empty') {
          expect(fine.kind, told).toBe('sent')
          expect(missing(ground, coarse, fine), told).toEqual([])
        }
        // Whoever could not tell two messages apart with the yes cannot without it.
        if (fine.kind === 'sent' && fine.hex === fineOther.hex) {
          expect(coarseOther.hex, told).toBe(coarse.hex)
          if (!Buffer.from(toBytes(one)).equals(toBytes(other))) pairs++
        }
      }
    })
    expect(pairs).toBeGreaterThan(runs / 10)
  }, timeout)
})

/** Pairs in which the part without consent is provably coarser, by settings that nest. */
function coarserWithout(dice: Dice, schema: SchemaModel): OutputModel {
  const model = randomOutput(dice, schema)
  const rules = model.rules.flatMap((rule): RuleModel[] => {
    if (rule.kind === 'keyed') return []
    const leaf = rule.kind === 'field' ? (rule.path.at(-1) as FieldModel) : undefined
    const no = coarser(dice, rule.yes, leaf === undefined ? undefined : (wrapped(leaf) ?? leaf))
    expect(isCoarserOrEqual(no, rule.yes)).toBe(true)
    return [{ ...rule, no }]
  })
  // Conditions and required fields are the same with and without; a topic would show a constant as a value of its own.
  return { ...model, rules, require: [], topic: 'out/{stream}' }
}

function coarser(dice: Dice, fine: Chain, field: FieldModel | undefined): Chain {
  if (dice.chance(0.25) || fine.some((one) => one.name === 'drop')) return [{ name: 'drop', params: {} }]
  const last = fine.at(-1) as Transform
  if (fine.length > 1 || dice.chance(0.2)) return fine
  const factor = dice.pick([1, 3, 9])
  switch (last.name) {
    case 'keep': return field === undefined ? [{ name: 'grid', params: { size: 500, sticky: false } }] : fine
    case 'round': return field?.type === 'float' || field?.type === 'double' || factor * (last.params.step as number) > 2 ** 31 ? fine : [{ name: 'round', params: { step: (last.params.step as number) * factor } }]
    case 'round_time': return [{ name: 'round_time', params: { ms: (last.params.ms as number) * factor, wire: (last.params.wire as number) * factor } }]
    case 'bucket': return [{ name: 'bucket', params: { bounds: (last.params.bounds as readonly number[]).filter((_bound, at) => at !== 1) } }]
    case 'truncate': return [{ name: 'truncate', params: { length: Math.floor((last.params.length as number) / 2) } }]
    case 'mask': return [{ name: 'mask', params: { ...last.params, first: 0 } }]
    case 'grid': return [{ name: 'grid', params: { ...last.params, size: 100_000 } }]
    case 'flags': return [{ name: 'flags', params: { mask: (last.params.mask as bigint) & 0b1001n } }]
    default: return fine
  }
}

/** The same message with one number a little different, so that results often stay equal. */
function nudge(dice: Dice, schema: SchemaModel, records: readonly WireRecord[]): WireRecord[] {
  const at = dice.below(records.length || 1)
  return records.map((record, index) => {
    const field = schema.root.fields.find((one) => one.number === record.number)
    return index === at && record.wire === 0 && typeof record.body === 'bigint' && field !== undefined && /int/.test(field.type) && record.body > 2n && record.body < 2n ** 30n
      ? { ...record, body: record.body - BigInt(dice.below(2)) * 2n }
      : record
  })
}

/** Paths of fields that are in one result and not in the other. Fields without presence may be hidden by being the default. */
function missing({ oracle, schema }: Ground, here: Outcome, there: Outcome): string[] {
  const read = (outcome: Outcome): OMessage => oracle.decode(Buffer.from(outcome.hex, 'hex')) as OMessage
  const walk = (one: OMessage, other: OMessage | undefined, fields: readonly FieldModel[], prefix: string): string[] => [...one].flatMap(([number, value]) => {
    const field = fields.find((each) => each.number === number) as FieldModel
    const match = other?.get(number)
    const path = `${prefix}${field.name}`
    if (match === undefined && (field.message === undefined || field.label !== 'singular')) return field.presence || field.label !== 'singular' ? [path] : []
    return field.label === 'singular' && field.message !== undefined ? walk(value as OMessage, match as OMessage | undefined, field.message.fields, `${path}.`) : lengthOf(value) > lengthOf(match as OValue) ? [path] : []
  })
  return walk(read(here), read(there), schema.root.fields, '')
}

function lengthOf(value: OValue): number {
  return Array.isArray(value) ? value.length : 0
}

describe('what leaves', () => {
  test('passes the verifier, and a plan that keeps everything leaves it as it is', () => {
    let sent = 0
    forSeeds((dice, ground) => {
      const one: Case = { ...ground, output: randomOutput(dice, ground.schema), moment: randomMoment(dice) }
      const { interpreted } = compile(one)
      const keep: Chain = [{ name: 'keep', params: {} }]
      const all: OutputModel = { ...one.output, when: undefined, require: [], topic: 'out', machineField: undefined, timeField: undefined, rules: ground.schema.root.fields.map((field) => ({ kind: 'field', path: [field], yes: keep, no: keep })) }
      const again = compile({ ...one, output: all, moment: { ...one.moment, operatorFields: true } })
      for (let at = 0; at < 10; at++) {
        const { records, broken } = messageFor(dice, ground.schema)
        const bytes = broken ?? toBytes(records)
        const first = run(interpreted, bytes, one.moment)
        if (first.kind !== 'sent') continue
        sent++
        const result = Buffer.from(first.hex, 'hex')
        expect(verify(interpreted.plan, result), describeCase(one, bytes)).toBeUndefined()
        for (const engine of [again.generated, again.interpreted]) {
          const second = run(engine, result, one.moment)
          // Nothing but machine and time fields is nothing to send.
          if (second.kind === 'sent') expect(second.hex, describeCase(one, bytes)).toBe(first.hex)
          else expect(second.reason).toBe('empty')
        }
      }
    })
    expect(sent).toBeGreaterThan(runs * 2)
  }, timeout)

  test('random bytes give a verdict and never a throw, from both engines the same', () => {
    forSeeds((dice, ground) => {
      const one: Case = { ...ground, output: randomOutput(dice, ground.schema), moment: randomMoment(dice) }
      const { generated, interpreted } = compile(one)
      for (let at = 0; at < 30; at++) {
        // Mostly small bytes, which make plausible tags.
        const bytes = dice.bytes(dice.below(60)).map((byte) => (dice.chance(0.6) ? byte & 0x3f : byte))
        expect(run(generated, bytes, one.moment), describeCase(one, bytes)).toEqual(run(interpreted, bytes, one.moment))
      }
    })
  }, timeout)

  test('the verifier finds what does not belong', () => {
    let found = 0
    forSeeds((dice, ground) => {
      const one: Case = { ...ground, output: randomOutput(dice, ground.schema), moment: randomMoment(dice) }
      const { interpreted } = compile(one)
      const result = run(interpreted, toBytes(randomMessage(dice, ground.schema.root, { odd: 0, edge: 0 })), one.moment)
      if (result.kind !== 'sent') return
      const bytes = Buffer.from(result.hex, 'hex')
      const top = new Set([...interpreted.plan.root.steps.map((step) => step.field.number), ...interpreted.plan.points.flatMap((point) => [point.lat[0]?.number, point.lon[0]?.number])])
      const number = [1, 2, 3, 4, 5, 600].find((each) => !top.has(each))
      if (number === undefined) return
      found++
      const stray = toBytes([{ number, wire: 2, body: Buffer.from(MARK), pad: { tag: 0, value: 0, length: 0 } }])
      expect(verify(interpreted.plan, Buffer.concat([stray, bytes]))).toBeDefined()
      expect(verify(interpreted.plan, Buffer.concat([bytes, stray]))).toBeDefined()
    })
    expect(found).toBeGreaterThan(runs / 4)
  }, timeout)
})
