/**
 * The generated minimisers of a few plans of the shipped rules, as text: a change of the emitter shows up as a change of code that
 * a person can read. `UPDATE=1 vitest run test/golden.test.ts` writes them anew.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadRules } from '../src/config/rules.ts'
import type { Policy } from '../src/domain/policy.ts'
import { compilePlan } from '../src/minimise/compile.ts'
import { loadSchemas } from '../src/minimise/descriptor.ts'
import { planFor } from '../src/minimise/plan.ts'
import { offlineKeys } from '../src/rehearsal.ts'

const root = resolve(import.meta.dirname, '..')
const folder = join(root, 'test/golden')
const policy = loadRules('awp.yaml', readFileSync(join(root, 'config/rules/awp.yaml'), 'utf8'), { schemas: loadSchemas([join(root, 'proto')]) }).policy as Policy
const keys = offlineKeys()

// prettier-ignore
const PLANS = [
  // output,        stream,    with the operator's yes; what the plan shows
  ['service-cloud',  'status',   false],   // runs of kept fields, pseudonym, grid, topic from a field
  ['site-planning',  'status',   true],    // condition, required point, clamp and round, bucket
  ['rental-billing', 'status',   false],   // few fields of many
  ['security-log',   'operator', true],    // pseudonym of a person
  ['service-cloud',  'diag',     false],   // truncate
  ['safety-record',  'fault',    false],   // condition on a bit
] as const

describe('generated minimisers', () => {
  test.each(PLANS)('%s, %s, yes: %s', (outputId, streamId, yes) => {
    const output = policy.outputs.find((one) => one.id === outputId)!
    const plan = planFor(output, output.streams.find((one) => one.stream.id === streamId)!, { consent: yes, operatorFields: yes })
    const { text } = compilePlan(plan, { keys, engine: 'generated' })
    const file = join(folder, `${outputId}.${streamId}.${yes ? 'yes' : 'no'}.js`)
    const made = `// ${outputId} <- ${streamId}, ${yes ? 'with' : 'without'} the operator's yes. Made by the emitter; see test/golden.test.ts.\n${text}\n`
    if (process.env.UPDATE === '1') {
      mkdirSync(folder, { recursive: true })
      writeFileSync(file, made)
    }
    expect(text).toBeDefined()
    expect(existsSync(file) ? readFileSync(file, 'utf8') : 'no golden file: run with UPDATE=1').toBe(made)
  })

  test('there is no golden file that nothing is compared with', () => {
    // Those for hostile names have a test of their own.
    expect(readdirSync(folder).filter((name) => !name.startsWith('hostile-')).sort()).toEqual(PLANS.map(([output, stream, yes]) => `${output}.${stream}.${yes ? 'yes' : 'no'}.js`).sort())
  })

  test('nothing of a schema or a rules file is pasted into the text', () => {
    const names = new Set(policy.streams.flatMap((stream) => [stream.message.name, ...stream.message.fields.map((field) => field.name)]).filter((name) => name.length > 3))
    for (const output of policy.outputs) {
      for (const source of output.streams) {
        const { text = '' } = compilePlan(planFor(output, source, { consent: true, operatorFields: true }), { keys, engine: 'generated' })
        const words = new Set(text.match(/[A-Za-z_][A-Za-z0-9_]{3,}/g))
        expect([...names].filter((name) => words.has(name) && !['text', 'kind'].includes(name))).toEqual([])
        expect(text).not.toMatch(/['"`]/)
      }
    }
  })
})
