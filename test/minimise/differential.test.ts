/**
 * Three readings of one plan must agree to the byte: the generated function, the interpreter, and an oracle that decodes with
 * protobufjs and applies the rules language as it is written. Schemas, rules and messages are random; messages are canonical, or
 * changed in every way that protobuf allows, or broken.
 *
 * `PARAPET_RUNS=1000000 npx vitest run test/minimise/differential.test.ts` is the long form; PARAPET_SEED repeats a run.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ENGINE } from '../engine.ts'
import { MESSAGES, OUTPUTS, tryOut, type Tally } from './random/trial.ts'

const runs = Number(process.env.PARAPET_RUNS ?? 3_000)
const seed = process.env.PARAPET_SEED === undefined ? undefined : Number(process.env.PARAPET_SEED)

describe('generated = interpreted = oracle', () => {
  test(`for ${runs} random cases`, () => {
    const tally: Tally = { sent: 0, withheld: 0, refused: 0, generated: 0, all: 0 }
    fc.assert(fc.property(fc.noShrink(fc.nat({ max: 2 ** 31 - 1 })), (number) => tryOut(number, tally)), { numRuns: Math.ceil(runs / (OUTPUTS * MESSAGES)), ...(seed === undefined ? {} : { seed }) })
    // Without enough of each kind the agreement would say little; a short run may lack one.
    if (runs < 1_000) return
    expect(tally.sent / tally.all).toBeGreaterThan(0.3)
    expect(tally.withheld / tally.all).toBeGreaterThan(0.05)
    expect(tally.refused / tally.all).toBeGreaterThan(0.05)
    if (ENGINE === 'generated') expect(tally.generated / tally.all).toBeGreaterThan(0.1)
  }, 60_000 + runs * 5)
})
