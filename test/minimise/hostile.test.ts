/**
 * Generated code and hostile names. Whatever fields, enum members, packages, outputs, labels, texts and paths are called, the text of
 * a generated minimiser consists of integers and of words written in the emitter, and is the same as for harmless names.
 * `UPDATE=1 npx vitest run test/minimise/hostile.test.ts` writes the golden files anew.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Condition, FieldRule, Output, OutputStream, Point, Transform } from '../../src/domain/policy.ts'
import type { OutputId, StreamId } from '../../src/domain/ids.ts'
import type { EnumShape, FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { isRefusal } from '../../src/domain/verdict.ts'
import { compilePlan, type Minimiser } from '../../src/minimise/compile.ts'
import { parseCondition } from '../../src/minimise/condition.ts'
import { schemasFromText } from '../../src/minimise/descriptor.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { RUNTIME } from '../../src/minimise/runtime.ts'
import { outputOf, streamOf } from './fixture.ts'

const folder = resolve(import.meta.dirname, '../golden')
const root = Buffer.from('9b1c7d3e5f6a8091a2b3c4d5e6f70819202122232425262728292a2b2c2d2e2f', 'hex')
const keys = { root, tenant: 'hostile', rows: derivedRows(root, 'hostile') }

/** Names that the .proto parser admits. */
const LAWFUL = ['isPrototypeOf', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'eval', 'arguments', 'return', 'await', 'minimise', 'valueOf', '__defineGetter__']

/** What no parser of ours admits, for shapes that came to be in some other way. */
const OUTLAWED = ['__proto__', "a'b", 'a"b', 'a`b', '$evil(1)', '*/ evil(1) /*', 'a\nevil(1)', 'a\u2028b', '\\u0027', '); evil(1); (', '//', '']

/** The schema with names in their places; what they are called is all that differs. */
function schemaText(names: readonly string[], pkg: string, message: string, member: string): string {
  const [a, b, c, d, e, f, g, h, i, j, k, l] = names
  return `
    syntax = "proto3";
    package ${pkg};
    enum Kind { ${member} = 0; OTHER_KIND = 1; }
    message Inner { uint32 ${a} = 1; string ${b} = 2; }
    message ${message} {
      string ${a} = 1; uint64 ${b} = 2; sint32 ${c} = 3; sint32 ${d} = 4; Kind ${e} = 5; bool ${f} = 6; double ${g} = 7; bytes ${h} = 8;
      repeated uint32 ${i} = 9; Inner ${j} = 10; oneof ${k} { string ${l} = 11; uint32 last_one = 12; }
    }`
}

const HARMLESS = Array.from({ length: 12 }, (_, at) => `plain_${at}`)

/** Rules that use every part of the emitter: runs, transforms, a point, a condition, topic, required fields. */
function outputFor(shape: MessageShape, words: { readonly text: string; readonly output: string; readonly topic: string }): { output: Output; source: OutputStream } {
  const field = (number: number): FieldShape => shape.byNumber.get(number) as FieldShape
  const name = (number: number): string => field(number).name
  const rule = (number: number, chain: readonly Transform[]): FieldRule => {
    const branch = { kind: 'chain', chain } as const
    return { path: name(number), target: { kind: 'field', fields: [field(number)] }, consent: branch, noConsent: branch, pair: false, line: 1 }
  }
  const one = (name: string, params: Record<string, unknown>): readonly Transform[] => [{ name, params }]
  const keep = one('keep', {})
  const point: Point = { name: words.text, kind: 'plain', lat: name(3), lon: name(4), dlat: undefined, dlon: undefined, dt: undefined, scale: 1e-7, valid: undefined }
  const grid = { kind: 'chain', chain: one('grid', { size: 500, sticky: true }) } as const
  const fields: FieldRule[] = [
    rule(1, one('pseudonym', { rotate: 'never', as: 'machine', subject: 'machine' })), rule(2, one('round_time', { ms: 900_000, wire: 900_000 })),
    { path: words.text, target: { kind: 'point', point }, consent: grid, noConsent: grid, pair: false, line: 1 },
    rule(5, keep), rule(6, keep), rule(7, one('round', { step: 0.5 })), rule(8, one('keep_bytes', { from: 0, to: 3 })), rule(9, keep), rule(10, keep),
    rule(11, one('map', { table: new Map([[words.text, words.text]]), else: words.text })), rule(12, one('clamp', { lo: 0, hi: 50 })),
  ]
  const source = streamOf(shape, fields, { when: conditionOf(field(6), field(5), words.text), require: [name(2), words.text] })
  const stream = { ...source.stream, id: words.text as StreamId, points: [point] }
  return { output: outputOf(words.topic.replace('{FIELD}', `{${name(1)}}`), [source], { id: words.output as OutputId }), source: { ...source, stream } }
}

/** `(flag && label != TEXT) || kind == 0`, as a tree, because no condition could be written over outlawed names. */
function conditionOf(flag: FieldShape, kind: FieldShape, text: string): Condition {
  const bool = { kind: 'bool' } as const
  const label = { op: '!=', left: { op: 'scope', name: 'label', label: text, type: { kind: 'string' } }, right: { op: 'value', value: text, type: { kind: 'string' } }, type: bool }
  const number = { op: '==', left: { op: 'field', path: [kind], type: { kind: 'enum', enum: kind.enum as EnumShape } }, right: { op: 'value', value: 0, type: { kind: 'int' } }, type: bool }
  return { text, reads: [flag.name, kind.name], ast: { op: '||', left: { op: '&&', left: { op: 'field', path: [flag], type: bool }, right: label, type: bool }, right: number, type: bool } }
}

function compile(shape: MessageShape, words: { readonly text: string; readonly output: string; readonly topic: string }): Minimiser {
  const { output, source } = outputFor(shape, words)
  return compilePlan(planFor(output, source, { consent: false, operatorFields: true }), { keys, engine: 'generated' })
}

/** The same shapes under other names: fields, messages and members by turns. */
function renamed(shape: MessageShape, names: readonly string[], seen = new Map<MessageShape, MessageShape>()): MessageShape {
  const known = seen.get(shape)
  if (known !== undefined) return known
  const made = { ...shape, name: names[0] as string, fields: [] as FieldShape[], byName: new Map<string, FieldShape>(), byNumber: new Map<number, FieldShape>() }
  seen.set(shape, made)
  for (const [at, field] of shape.fields.entries()) {
    const name = `${names[at % names.length]}${at}`
    const members = field.enum === undefined ? undefined : { ...field.enum, values: new Map(names.map((one, number) => [one, number])), names: new Map(names.map((one, number) => [number, one])) }
    const one: FieldShape = { ...field, name, enum: members, oneof: field.oneof === undefined ? undefined : (names[1] as string), message: field.message === undefined ? undefined : renamed(field.message, names, seen) }
    made.fields.push(one)
    made.byName.set(name, one)
    made.byNumber.set(one.number, one)
  }
  return made
}

const PLAIN = { text: 'word', output: 'cloud', topic: 'out/{stream}/{FIELD}' }

const harmless = schemasFromText({ 'h.proto': schemaText(HARMLESS, 'plain', 'Message', 'NONE') }).message('plain.Message') as MessageShape
const expected = compile(harmless, PLAIN).text as string

// ------------------------------------------------------------------------------------------------------------ what the text is

/** Words of the emitter: those of the language, those of the function, those of the runtime. */
const WORDS = new Set([
  'return', 'function', 'let', 'const', 'if', 'else', 'for', 'while', 'break', 'minimise', 's', 'w', 'start', 'end', 't', 'u', 'at', 'cx', 'p', 'q', 'n', 'm', 'k', 'o', 'c', 'z', 'd', 'l', 'i', 'x', 'y',
  'from', 'to', 'limit', 'content', 'row', 'epoch', 'generation', 'words', 'doubles', 'mask', 'last', 'hash', 'slot', 'slots', 'make', 'generationAt', 'latE7', 'lonE7', 'topic', 'eventMs', 'cells', 'undefined',
  'length', 'getInt32', 'setInt32', 'setInt16', 'getBigInt64', 'setBigInt64', 'copyWithin', 'failures', 'scope', 'fleet', 'model', 'country', 'Math', 'imul', 'floor', 'min', 'max', 'Object', 'is', 'true', 'false', 'has',
  ...Object.keys(RUNTIME),
])

/** Everything in the text that is neither a number, nor an operator, nor a word of the emitter, nor a local name with a number. */
function strangers(text: string): string[] {
  const found: string[] = []
  for (const [token] of text.matchAll(/[A-Za-z_$][\w$]*|\d+(?:\.\d+)?(?:e[+-]?\d+)?|[\s]+|[^\w\s$]/g)) {
    const isWord = /^[A-Za-z_$]/.test(token)
    if (isWord ? !WORDS.has(token) && !/^[a-zA-Z]\d+$/.test(token) : /^[^\w\s]$/.test(token) && !'(){}[]=<>!&|+-*/%,;.?:^~'.includes(token)) found.push(token)
  }
  return [...found, ...(text.match(/\/\/|\/\*|\*\//g) ?? [])]
}

describe('the text of a generated minimiser', () => {
  test('is integers and words of the emitter', () => expect(strangers(expected)).toEqual([]))

  test('this check would find what does not belong', () => {
    for (const stray of ['constructor', "'a'", '`', '"', '// x', '/* */', '\\u0041', 'process', '${a}', '#', '@']) expect(strangers(`${expected} ${stray}`), stray).not.toEqual([])
  })

  test('is golden for hostile names that the parser admits', () => {
    const schemas = schemasFromText({ 'h.proto': schemaText(LAWFUL, 'prototype.constructor', 'hasOwnProperty', 'constructor') })
    expect(schemas.problems).toEqual([])
    const shape = schemas.message('prototype.constructor.hasOwnProperty') as MessageShape
    const { text } = compile(shape, { ...PLAIN, output: '__proto__' })
    expect(text).toBe(expected)
    golden('hostile-lawful', text as string)
  })

  test.each(OUTLAWED.map((name) => [name]))('is the same for shapes whose names are %j', (name) => {
    const words = { text: name, output: name, topic: `out/${name.replaceAll(/[{}]/g, '')}/{FIELD}` }
    expect(compile(renamed(harmless, [name, ...LAWFUL]), words).text).toBe(expected)
  })

  test('is golden for texts of rules with quotes, backticks, newlines and comment ends', () => {
    const { text } = compile(harmless, { text: '\'"`${1}*/\n\u2028//\\', output: "o'\"`", topic: "out/'\"`${1}*/\\n/{FIELD}" })
    expect(text).toBe(expected)
    golden('hostile-texts', text as string)
  })

  test('is golden for conditions written with hostile texts', () => {
    const parsed = parseCondition(String.raw`msg.plain_5 && machine.label.__proto__ != '\'"` + '`${1}*/' + String.raw`\n' && machine.fleet != "constructor" && country in ['\\', "//"]`, { msg: harmless, points: [], machine: true, country: true })
    if ('problem' in parsed) throw new Error(parsed.problem)
    const { output, source } = outputFor(harmless, PLAIN)
    const { text, run } = compilePlan(planFor(output, { ...source, when: parsed.condition }, { consent: false, operatorFields: true }), { keys, engine: 'generated' })
    expect(strangers(text as string)).toEqual([])
    golden('hostile-condition', text as string)
    // A label that is not set is empty, be it called as it may.
    const scratch = Buffer.alloc(8_192)
    scratch.set([0x30, 0x01])
    const cx = { ...createContext(), scope: { labels: {}, fleet: 'north', model: '', country: '//' } }
    const end = run(scratch, 0, 2, scratch, 3, cx)
    expect(isRefusal(end) || end >= 0).toBe(false)
  })

  test('numbers out of a rules file are pasted as numbers only', () => {
    const evil = { valueOf: () => 7, toString: () => '7); process.exit(1); (' }
    const branch = { kind: 'chain', chain: [{ name: 'clamp', params: { lo: evil, hi: evil } }, { name: 'round', params: { step: evil } }] } as const
    const field = harmless.byNumber.get(12) as FieldShape
    const source = streamOf(harmless, [{ path: field.name, target: { kind: 'field', fields: [field] }, consent: branch, noConsent: branch, pair: false, line: 1 }])
    const { text } = compilePlan(planFor(outputOf('out', [source]), source, { consent: false, operatorFields: true }), { keys, engine: 'generated' })
    expect(strangers(text as string)).toEqual([])
  })
})

function golden(name: string, text: string): void {
  const file = resolve(folder, `${name}.js`)
  const made = `// Made by the emitter; see test/minimise/hostile.test.ts.\n${text}\n`
  if (process.env.UPDATE === '1') writeFileSync(file, made)
  expect(existsSync(file) ? readFileSync(file, 'utf8') : 'no golden file: run with UPDATE=1').toBe(made)
}

describe('messages under hostile names', () => {
  test('a field called __proto__ is nothing that the parser reads: it is unknown, and never leaves', () => {
    const schemas = schemasFromText({ 'p.proto': 'syntax = "proto3"; package p; message M { string __proto__ = 1; string other = 2; }' })
    expect(schemas.message('p.M')?.fields.map((field) => field.name)).toEqual(['other'])
  })

  test('run as under harmless ones, and leave Object.prototype alone', () => {
    const before = Object.getOwnPropertyNames(Object.prototype)
    const schemas = schemasFromText({ 'h.proto': schemaText(LAWFUL, 'prototype.constructor', 'hasOwnProperty', 'constructor') })
    const shape = schemas.message('prototype.constructor.hasOwnProperty') as MessageShape
    const other = schemasFromText({ 'h.proto': schemaText(HARMLESS, 'plain', 'Message', 'NONE') })
    const fields = (names: readonly string[]): Record<string, unknown> => Object.fromEntries([
      [names[0], 'SN-1'], [names[1], '1763888864000'], [names[2], 481_371_540], [names[3], 115_761_240], [names[5], true], [names[6], 2.26], [names[7], Buffer.from('abcdef').toString('base64')],
      [names[8], [1, 2, 300]], [names[9], { [names[0] as string]: 5, [names[1] as string]: 'in' }], [names[11], 'word'],
    ])
    const results = [[shape, schemas.encode('prototype.constructor.hasOwnProperty', fields(LAWFUL))] as const, [harmless, other.encode('plain.Message', fields(HARMLESS))] as const].flatMap(([one, bytes]) => {
      const { output, source } = outputFor(one, PLAIN)
      return (['generated', 'interpreted'] as const).map((engine) => {
        const scratch = Buffer.alloc(8_192)
        scratch.set(bytes)
        const cx = createContext()
        const end = compilePlan(planFor(output, source, { consent: false, operatorFields: true }), { keys, engine }).run(scratch, 0, bytes.length, scratch, bytes.length + 1, cx)
        return [cx.topic, scratch.subarray(bytes.length + 1, end).toString('hex')].join(' ')
      })
    })
    expect(new Set(results).size).toBe(1)
    expect(results[0]).toMatch(/^out\/word\/[\w-]{22} 0a16/)
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before)
  })
})
