/**
 * What the public protobuf conformance runner talks to: requests on stdin, answers on stdout, each with a four-byte little-endian
 * length in front. A binary message goes through a minimiser whose plan names every field, so whatever comes back changed is a
 * difference between our reading of protobuf and everybody else's. JSON and text requests are answered `skipped`.
 * Started by run.ts; PARAPET_ENGINE=interpreted lets the interpreter serve alone.
 */
import { readFileSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Verdict, isRefusal, verdictName } from '../../src/domain/verdict.ts'
import { compilePlan, type Minimiser } from '../../src/minimise/compile.ts'
import { schemasFromText, type Schemas } from '../../src/minimise/descriptor.ts'
import { createContext } from '../../src/minimise/interpret.ts'
import { planFor } from '../../src/minimise/plan.ts'
import { derivedRows } from '../../src/minimise/pseudonym.ts'
import { verify } from '../../src/minimise/verify.ts'
import { outputOf, streamOf } from '../minimise/fixture.ts'
import { packageRoot } from './package.ts'

const BINARY = 1
const engine = process.env.PARAPET_ENGINE === 'interpreted' ? 'interpreted' : 'generated'
const root = Buffer.from('7d1f0a9e3c5b48d2a6e4f10b92c83d57e8a1b6c4d0f92e35471a8c6b5d3e2f10', 'hex')
const include = join(packageRoot(), 'include')

const protocol = schemasFromText({ 'conformance.proto': readFileSync(join(include, 'conformance/conformance.proto'), 'utf8') })

/** Package of a test message -> the file that defines it. */
const FILES: Readonly<Record<string, string>> = {
  'protobuf_test_messages.proto3': 'test_messages_proto3',
  'protobuf_test_messages.proto2': 'test_messages_proto2',
  'protobuf_test_messages.editions.proto3': 'test_messages_proto3_editions',
  'protobuf_test_messages.editions.proto2': 'test_messages_proto2_editions',
  'protobuf_test_messages.editions': 'test_messages_edition2023',
}

const minimisers = new Map<string, Minimiser | undefined>()
const scratch = Buffer.alloc(1_048_576)
const cx = createContext()

for (;;) {
  const head = readExactly(4)
  if (head === undefined) break
  const body = readExactly(head.readUInt32LE(0))
  if (body === undefined) break
  const answer = Buffer.from(protocol.encode('conformance.ConformanceResponse', answerTo(protocol.decode('conformance.ConformanceRequest', body))))
  const framed = Buffer.alloc(4 + answer.length)
  framed.writeUInt32LE(answer.length, 0)
  framed.set(answer, 4)
  for (let at = 0; at < framed.length;) at += writeSync(1, framed, at)
}

function answerTo(request: Record<string, unknown>): Record<string, unknown> {
  const name = request.message_type as string
  // The runner asks first for the tests that are known to fail; the list lies in a file instead.
  if (name === 'conformance.FailureSet') return { protobuf_payload: '' }
  const isBinary = request.json_payload === undefined && request.text_payload === undefined && request.jspb_payload === undefined
  if (!isBinary || (request.requested_output_format !== 'PROTOBUF' && request.requested_output_format !== BINARY)) return { skipped: 'binary only' }
  const minimiser = minimiserFor(name)
  if (minimiser === undefined) return { skipped: `no ${name}` }
  try {
    return minimise(minimiser, Buffer.from((request.protobuf_payload as string | undefined) ?? '', 'base64'))
  } catch (error) {
    return { runtime_error: (error as Error).stack ?? (error as Error).message }
  }
}

function minimise(minimiser: Minimiser, payload: Buffer): Record<string, unknown> {
  scratch.fill(0xee, 0, payload.length + 64)
  scratch.set(payload)
  // As the pipeline hands a message over: a zero behind it, then room.
  scratch[payload.length] = 0
  const from = payload.length + 1
  const end = minimiser.run(scratch, 0, payload.length, scratch, from, cx)
  if (end === Verdict.empty.code) return { protobuf_payload: '' }
  if (end < 0) return isRefusal(end) ? { parse_error: verdictName(end) } : { runtime_error: verdictName(end) }
  const found = verify(minimiser.plan, scratch, from, end)
  return found === undefined ? { protobuf_payload: scratch.subarray(from, end).toString('base64') } : { runtime_error: `verify: ${found}` }
}

function minimiserFor(name: string): Minimiser | undefined {
  if (!minimisers.has(name)) minimisers.set(name, build(name))
  return minimisers.get(name)
}

function build(name: string): Minimiser | undefined {
  const file = FILES[name.slice(0, name.lastIndexOf('.'))]
  if (file === undefined) return undefined
  const path = `google/protobuf/${file}.proto`
  const schemas: Schemas = schemasFromText({ [path]: readFileSync(join(include, path), 'utf8') })
  const shape = schemas.message(name)
  if (shape === undefined) return undefined
  // A kept message is kept all the way down, also where a type contains itself.
  const branch = { kind: 'chain', chain: [{ name: 'keep', params: {} }] } as const
  const source = streamOf(shape, shape.fields.map((field) => ({ path: field.name, target: { kind: 'field', fields: [field] }, consent: branch, noConsent: branch, pair: false, line: 1 })))
  return compilePlan(planFor(outputOf('out/{stream}', [source]), source, { consent: false, operatorFields: true }), { keys: { root, tenant: 'conformance', rows: derivedRows(root, 'conformance') }, engine })
}

function readExactly(count: number): Buffer | undefined {
  const buffer = Buffer.alloc(count)
  for (let at = 0; at < count;) {
    const read = readSync(0, buffer, at, count - at, null)
    if (read === 0) return undefined
    at += read
  }
  return buffer
}
