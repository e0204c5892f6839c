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
import type { MessageShape } from '../src/domain/schema.ts'
import { loadSchemas, schemasFromText } from '../src/minimise/descriptor.ts'
import { createContext } from '../src/minimise/interpret.ts'
import { planFor } from '../src/minimise/plan.ts'
import { offlineKeys } from '../src/rehearsal.ts'
import { outputOf, ruleFor, streamOf } from './minimise/fixture.ts'

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

/** What foreign schemas have and the shipped one has not. */
const nested = schemasFromText({
  'n.proto': `
    edition = "2023";
    package n;
    import "google/protobuf/timestamp.proto";
    enum Gear { option features.enum_type = CLOSED; NEUTRAL = 0; FORWARD = 1; REVERSE = 2; }
    message Wheel { string maker = 1; uint32 speed = 2; oneof worn { uint32 mm = 3; bool bare = 4; } }
    message Axle { repeated Wheel wheels = 1; uint32 load_kg = 2; string note = 3; }
    message Report {
      google.protobuf.Timestamp at = 1; Gear gear = 2; Axle front = 3; repeated Axle rear = 4; Wheel spare = 5;
      map<string, uint32> counts = 6; map<uint32, Wheel> named = 7; repeated uint32 temperatures = 8;
    }`,
})
const report = nested.message('n.Report') as MessageShape
const round = [{ name: 'round', params: { step: 10 } }]
const keep = [{ name: 'keep', params: {} }]
const nestedSource = streamOf(report, [
  ruleFor(report, 'at', [{ name: 'round_time', params: { ms: 900_000, wire: 900_000 } }]),   // a time as a message
  ruleFor(report, 'gear', keep),                                                              // members of a closed enum
  ruleFor(report, 'front.load_kg', round),                                                    // one member of a message
  ruleFor(report, 'rear.wheels.speed', keep), ruleFor(report, 'rear.load_kg', keep),          // some of lists in lists
  ruleFor(report, 'spare', keep),                                                             // a whole message with a oneof
  ruleFor(report, 'counts', keep), ruleFor(report, 'named.speed', keep),                      // maps: whole, and of the values a part
  ruleFor(report, 'temperatures', round),                                                     // a list under a transform
])
const nestedPlan = planFor(outputOf('out', [nestedSource]), nestedSource, { consent: true, operatorFields: true })

describe('generated minimisers', () => {
  test('messages in messages', () => {
    const { text } = compilePlan(nestedPlan, { keys, engine: 'generated' })
    const file = join(folder, 'nested.js')
    const made = `// Messages in messages. Made by the emitter; see test/golden.test.ts.\n${text}\n`
    if (process.env.UPDATE === '1') writeFileSync(file, made)
    expect(existsSync(file) ? readFileSync(file, 'utf8') : 'no golden file: run with UPDATE=1').toBe(made)
  })

  test('messages in messages are carried out by the generated function, with the result of the interpreter', () => {
    const wheel = { maker: 'Kettler', speed: 1_200, mm: 7 }
    const axle = { wheels: [wheel, {}, { ...wheel, maker: 'x'.repeat(200) }], load_kg: 444, note: 'left' }
    const message = nested.encode('n.Report', {
      at: '2026-05-04T10:20:30.5Z', gear: 'REVERSE', front: axle, rear: Array.from({ length: 3 }, () => axle), spare: { maker: 'y'.repeat(150), bare: true },
      counts: { a: 1, b: 0 }, named: { 7: wheel, 9: {} }, temperatures: [214, 0, 216],
    })
    const results = (['generated', 'interpreted'] as const).map((engine) => {
      let asked = 0
      // The interpreter is asked with the failures set back to zero; the generated function never sets them.
      const cx = Object.defineProperty(createContext(), 'failures', { get: () => 0, set: () => void asked++ })
      const scratch = Buffer.alloc(16_384)
      scratch.set(message)
      const end = compilePlan(nestedPlan, { keys, engine }).run(scratch, 0, message.length, scratch, message.length + 1, cx)
      return { hex: scratch.toString('hex', message.length + 1, end), asked }
    })
    expect(results[0]).toEqual({ hex: results[1]?.hex, asked: 0 })
    expect(nested.decode('n.Report', Buffer.from(results[0]?.hex ?? '', 'hex'))).toEqual({
      at: '2026-05-04T10:15:00Z', gear: 'REVERSE', front: { load_kg: 440 }, rear: Array.from({ length: 3 }, () => ({ wheels: [{ speed: 1_200 }, {}, { speed: 1_200 }], load_kg: 444 })),
      spare: { maker: 'y'.repeat(150), bare: true }, counts: { a: 1, b: 0 }, named: { 7: { speed: 1_200 }, 9: {} }, temperatures: [210, 0, 220],
    })
  })

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
    expect(readdirSync(folder).filter((name) => !name.startsWith('hostile-')).sort()).toEqual([...PLANS.map(([output, stream, yes]) => `${output}.${stream}.${yes ? 'yes' : 'no'}.js`), 'nested.js'].sort())
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
