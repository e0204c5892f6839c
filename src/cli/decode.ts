/**
 * `parapet decode`: a payload or a capture in readable form.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { suggestion } from '../config/nearest.ts'
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { classificationOf, type FieldShape, type MessageShape } from '../domain/schema.ts'
import { Verdict, verdictName } from '../domain/verdict.ts'
import type { Schemas } from '../minimise/descriptor.ts'
import { decodeTree, isTree, type Slot, type Tree } from '../minimise/tree.ts'
import { Cursor, Malformed } from '../minimise/wire.ts'
import { columns, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { openSchemas, PROTO_NOTES, PROTO_OPTION } from './rules-source.ts'

export const command: Command = {
  name: 'decode',
  summary: 'show a payload or a capture of messages in readable form',
  usage: ['FILE --message awp.v1.Status [--as single|delimited]'],
  words: [1, 1],
  options: [
    { name: 'message', arg: 'NAME', text: 'full name of the message type', required: true },
    { name: 'as', arg: 'FORM', text: 'single payload, or messages each behind its length; found out when left out', choices: ['single', 'delimited'] },
    { name: 'format', arg: 'FORMAT', text: 'text (default), or json: proto3 JSON, one object a line', choices: ['text', 'json'] },
    PROTO_OPTION,
  ],
  notes: `"-" reads stdin. Fields that the schema does not know are shown by number and size only: they never leave a gateway.\n${PROTO_NOTES}`,
  async run(args, io) {
    const schemas = openSchemas(args, io)
    const name = args.get('message') ?? ''
    const shape = schemas.message(name)
    if (shape === undefined) throw new UsageError(`There is no message "${name}" in the .proto files. ${suggestion(name, schemas.messages.filter((one) => !one.startsWith('google.')))}`.trimEnd())
    const bytes = await readAll(args.words[0] ?? '', io)
    const messages = split(bytes, shape, args.get('as'))
    for (const [index, message] of messages.entries()) print(args, io, { schemas, shape, message, title: messages.length > 1 ? `message ${index + 1}, ${message.length} bytes` : `${message.length} bytes` })
    return 0
  },
}

async function readAll(file: string, io: Io): Promise<Uint8Array> {
  if (file !== '-') {
    try {
      return readFileSync(resolve(io.cwd, file))
    } catch {
      throw new GatewayError('FILE-UNREADABLE', `The file ${file} cannot be read.`)
    }
  }
  const pieces: Buffer[] = []
  let length = 0
  for await (const piece of io.stdin) {
    pieces.push(Buffer.from(piece as Uint8Array))
    length += pieces[pieces.length - 1]!.length
    if (length > LIMITS.fileBytes) throw new GatewayError('INPUT-LENGTH', `There are more than ${LIMITS.fileBytes} bytes on stdin.`, 'Show a part of it.')
  }
  return Buffer.concat(pieces)
}

/** A capture is recognised by its lengths, which lead exactly to the end, and by messages that read without an unknown field. */
function split(bytes: Uint8Array, shape: MessageShape, form: string | undefined): Uint8Array[] {
  if (form === 'single') return [bytes]
  const parts = partsOf(bytes)
  if (form === 'delimited') {
    if (parts === undefined) throw new GatewayError('INPUT-TRUNCATED', 'The input is no sequence of messages that each stand behind their length.', 'Try --as single.')
    return parts
  }
  return parts !== undefined && parts.length > 0 && parts.every((part) => isClean(part, shape)) && !isClean(bytes, shape) ? parts : [bytes]
}

function partsOf(bytes: Uint8Array): Uint8Array[] | undefined {
  const parts: Uint8Array[] = []
  const cursor = new Cursor(bytes, 0, bytes.length)
  try {
    while (cursor.at < bytes.length) {
      const end = cursor.length()
      parts.push(bytes.subarray(cursor.at, end))
      cursor.at = end
    }
    return parts
  } catch (error) {
    if (error instanceof Malformed) return undefined
    throw error
  }
}

function isClean(bytes: Uint8Array, shape: MessageShape): boolean {
  try {
    decodeTree(shape, bytes)
    return unknownFields(bytes, shape).length === 0
  } catch (error) {
    if (error instanceof Malformed) return false
    throw error
  }
}

/** Top-level fields that the schema does not have, as rows of a table. */
function unknownFields(bytes: Uint8Array, shape: MessageShape): string[][] {
  const rows: string[][] = []
  const cursor = new Cursor(bytes, 0, bytes.length)
  while (cursor.at < bytes.length) {
    const tag = cursor.tag()
    const from = cursor.at
    cursor.skip(tag, 0)
    if (!shape.byNumber.has(tag >>> 3)) rows.push([String(tag >>> 3), '(unknown)', `${WIRE[tag & 7] ?? 'group'}, ${cursor.at - from} bytes`, 'never leaves'])
  }
  return rows
}

const WIRE: Readonly<Record<number, string>> = { 0: 'varint', 1: '64 bits', 2: 'length-delimited', 3: 'group', 5: '32 bits' }

interface Shown {
  readonly schemas: Schemas
  readonly shape: MessageShape
  readonly message: Uint8Array
  readonly title: string
}

function print(args: Args, io: Io, { schemas, shape, message, title }: Shown): void {
  let tree: Tree
  try {
    tree = decodeTree(shape, message)
  } catch (error) {
    if (!(error instanceof Malformed)) throw error
    throw new GatewayError('MALFORMED', `The ${title.startsWith('message') ? title : 'input'} is no ${shape.name}: ${Verdict[verdictName(error.code)].text}.`)
  }
  if (args.get('format') === 'json') io.stdout.write(`${JSON.stringify(schemas.decode(shape.name, message))}\n`)
  else io.stdout.write(`${[`${shape.name}, ${title}`, ...columns([...rowsOf(tree, ''), ...unknownFields(message, shape)]), ''].join('\n')}\n`)
}

function rowsOf(tree: Tree, prefix: string): string[][] {
  return tree.shape.fields.flatMap((field): string[][] => {
    const slot = tree.slots.get(field.number)
    if (slot === undefined) return []
    const path = `${prefix}${field.name}`
    if (isTree(slot)) return [[String(field.number), path, '', classText(field)], ...rowsOf(slot, `${path}.`)]
    if (Array.isArray(slot) && slot.some(isTree)) return slot.flatMap((one, index) => rowsOf(one as Tree, `${path}[${index}].`))
    return [[String(field.number), path, valueText(field, slot), classText(field)]]
  })
}

function valueText(field: FieldShape, slot: Slot): string {
  if (Array.isArray(slot)) return `[${slot.map((one) => valueText(field, one)).join(', ')}]`
  if (slot instanceof Uint8Array) return `${Buffer.from(slot).toString('hex').slice(0, 64)}${slot.length > 32 ? '…' : ''} (${slot.length} bytes)`
  if (typeof slot === 'string') return JSON.stringify(slot)
  const { unit, scale } = classificationOf(field)
  const name = field.enum?.names.get(Number(slot))
  if (name !== undefined) return name
  if (typeof slot === 'boolean' || isTree(slot)) return String(slot)
  const physical = Number((Number(slot) * scale).toPrecision(12))
  return unit === '' || scale === 1 ? `${String(slot)}${unit === '' ? '' : ` ${unit}`}` : `${String(slot)} (${physical} ${unit})`
}

function classText(field: FieldShape): string {
  const { category, class: level, personal } = classificationOf(field)
  return `${category}, ${level}, ${personal}`
}
