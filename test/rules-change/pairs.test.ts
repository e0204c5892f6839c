/**
 * Pairs of random rules: of whatever the newer ones tell more, found by playing messages, `diff` names the output and the stream.
 * What it says and playing does not find is counted by kind: it may be right and need other messages, or be on the safe side.
 *
 * `PARAPET_RUNS=340 npx vitest run test/rules-change/pairs.test.ts` is the long form; PARAPET_SEED repeats a run.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { differenceOf, textOfDifference, type Change } from '../../src/difference.ts'
import { loadSchemas } from '../../src/minimise/descriptor.ts'
import { GOOD, SCHEMAS } from '../config/fixture.ts'
import { createDice } from '../minimise/random/dice.ts'
import { edited } from './edits.ts'
import { Judge } from './judge.ts'
import { settingsWider, Stage } from './oracle.ts'

const RUNS = Number(process.env['PARAPET_RUNS'] ?? 1)
const SEED = Number(process.env['PARAPET_SEED'] ?? 20_261_123)

const lifts = resolve(import.meta.dirname, '../cli/lift')
const JUDGES = [
  new Judge({ name: 'the rules of the lifts', text: readFileSync(join(lifts, 'rules.yaml'), 'utf8'), schemas: loadSchemas([lifts]) }),
  new Judge({ name: 'a small good file', text: GOOD, schemas: SCHEMAS }),
]

const pairs = 6 * RUNS

test(`${pairs} pairs of random rules`, { timeout: 120_000 * RUNS }, () => {
  const tally = { pairs: 0, told: 0, settings: 0, silent: 0, said: 0, saidOnly: 0 }
  const kinds = new Map<string, number>()
  for (let seed = SEED; tally.pairs < pairs; seed++) {
    const dice = createDice(seed)
    const judge = JUDGES[seed % JUDGES.length] as Judge
    const sides = [edited(dice, judge.tree, judge.good.policy), edited(dice, judge.tree, judge.good.policy)] as const
    const [old, next] = [judge.draft(sides[0].tree), judge.draft(edited(dice, sides[1].tree, judge.good.policy).tree)]
    if (old === undefined || next === undefined || JSON.stringify(sides[0].tree) === JSON.stringify(sides[1].tree)) continue
    tally.pairs++
    const difference = differenceOf(old, next)
    const wider = difference.changes.filter((one) => one.verdict === 'widened')
    const context = (): string => `seed ${seed}: from ${sides[0].edits.join('; ')} to ${sides[1].edits.join('; ')}\n${textOfDifference(difference).join('\n')}`

    const settings = settingsWider(old.policy, next.policy)
    if (settings !== undefined) {
      tally.settings++
      expect(wider.length, `${settings}\n${context()}`).toBeGreaterThan(0)
    }
    const found = new Set<string>()
    for (const { output, stream, how } of judge.told(new Stage(old.policy), new Stage(next.policy))) {
      if (found.has(`${output} ${stream}`)) continue
      found.add(`${output} ${stream}`)
      expect(wider.some((one) => isAbout(one, output, stream)), `${output}, ${stream}, ${how}\n${context()}`).toBe(true)
    }
    if (found.size > 0) tally.told++
    else if (wider.length === 0) tally.silent++
    for (const one of wider) {
      if (one.output === undefined || one.stream === undefined) continue
      tally.said++
      if (found.has(`${one.output} ${one.stream}`)) continue
      tally.saidOnly++
      kinds.set(kindOf(one), (kinds.get(kindOf(one)) ?? 0) + 1)
    }
  }
  process.stdout.write(`pairs: ${JSON.stringify(tally)}\nsaid and not found: ${[...kinds].sort((a, b) => b[1] - a[1]).map(([kind, count]) => `${count} ${kind}`).join(', ')}\n`)
  expect(tally.told).toBeGreaterThan(tally.pairs / 10)
  // Saying "widened" of everything would pass above; few pairs alone show little.
  expect(tally.silent).toBeGreaterThan(tally.pairs / 30 - 1)
  expect(tally.saidOnly).toBeLessThan(tally.said)
})

/** A change of the output and stream, of the output as a whole, or of what stands around all outputs. */
function isAbout({ output, stream }: Change, wanted: string, of: string): boolean {
  return (output === undefined || output === wanted) && (stream === undefined || stream === of)
}

/** `fields: pseudonym`, `when`, `emit`, `require`, `point`: without the names that are the file's own. */
function kindOf({ where, before, after, why }: Change): string {
  const part = /\.(when|emit|require|fields)(\.|$|,)/.exec(where)?.[1] ?? 'all of a stream'
  if (part !== 'fields') return part
  if (why === 'another definition of the point') return 'definition of a point'
  if (why !== '') return why
  const name = (text: string): string => /^(pseudonym|round time|round|clamp|map|mask|first|bits|buckets|keep|constant|nothing|\d+ k?m grid|sealed|noise)/.exec(text)?.[1]?.replace(/^\d+ k?m /, '') ?? 'other'
  return `${name(before)} -> ${name(after)}`
}
