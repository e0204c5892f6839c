import { readFileSync, writeFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect, test } from 'vitest'
import { editorSchema, frameSchema, gatewaySchema, machinesSchema, operatorsSchema, partSchema, recipientsSchema, rulesSchema } from '../../src/config/schema.ts'
import { parseYaml } from '../../src/config/yaml.ts'
import { TRANSFORMS } from '../../src/minimise/transforms.ts'
import { GOOD } from './fixture.ts'

const PUBLISHED = new URL('../../config/rules/rules.schema.json', import.meta.url)

test('config/rules/rules.schema.json is what the code generates (UPDATE=1 writes it)', () => {
  const generated = `${JSON.stringify(editorSchema(), null, 2)}\n`
  if (process.env.UPDATE === '1') writeFileSync(PUBLISHED, generated)
  expect(readFileSync(PUBLISHED, 'utf8')).toBe(generated)
})

test('it is a schema for any editor: plain draft 2020-12, nothing of ours needed', () => {
  const validate = new Ajv2020({ strict: false }).compile(JSON.parse(readFileSync(PUBLISHED, 'utf8')) as object)
  expect(validate(parseYaml('f', GOOD).value)).toBe(true)
  expect(validate(parseYaml('f', GOOD.replace('purpose: personalise', 'purpos: personalise')).value)).toBe(false)
})

test.each([
  ['rules', rulesSchema()], ['gateway', gatewaySchema()], ['machines', machinesSchema()], ['operators', operatorsSchema()], ['recipients', recipientsSchema()], ['frame', frameSchema()], ['part', partSchema()],
] as const)('the %s schema is a schema: what the gateway does not check at its start', (_, schema) => {
  expect(new Ajv2020({ strict: false }).validateSchema(schema)).toBe(true)
})

test('every transform of the catalogue is in it, with its summary as hover text', () => {
  const { properties } = (rulesSchema().$defs as { transform: { then: { properties: Record<string, { description: string }> } } }).transform.then
  expect(Object.keys(properties)).toEqual([...TRANSFORMS.keys()])
  for (const [name, spec] of TRANSFORMS) expect(properties[name]?.description).toContain(spec.summary)
})

test.each([
  ['rules', rulesSchema()], ['gateway', gatewaySchema()], ['machines', machinesSchema()], ['operators', operatorsSchema()], ['recipients', recipientsSchema()],
] as const)('no key of the %s schema takes what it does not know', (_, schema) => {
  // Free by intent: YAML anchors, labels, messages of tests.
  const open: string[] = []
  const walk = (here: unknown, path: string): void => {
    if (typeof here !== 'object' || here === null) return
    const node = here as Record<string, unknown>
    if (node.type === 'object' && node.additionalProperties === undefined && !path.includes('/if')) open.push(path)
    for (const [key, inner] of Object.entries(node)) walk(inner, `${path}/${key}`)
  }
  walk(schema, '')
  expect(open.filter((path) => !/\/tests\/|\/keep$|maxProperties|properties\/(keep|drop|encrypt)$/.test(path))).toEqual([])
})
