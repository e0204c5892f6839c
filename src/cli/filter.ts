/**
 * `parapet filter`: one output of a rules file over recorded messages, with the minimiser that a gateway would use.
 */
import { once } from 'node:events'
import { resolve } from 'node:path'
import { GatewayError } from '../domain/errors.ts'
import type { OutputId } from '../domain/ids.ts'
import type { Policy, Stream } from '../domain/policy.ts'
import { Verdict, isRefusal, verdictName } from '../domain/verdict.ts'
import type { Schemas } from '../minimise/descriptor.ts'
import { createRehearsal } from '../rehearsal.ts'
import { decisionUnder, openRecording, readPrivateKey, type Recorded } from '../watch/recorded.ts'
import { ASSUMPTION_NOTES, ASSUMPTION_OPTIONS, KEY_OPTIONS, readAssumptions, readKeys } from './assumptions.ts'
import { UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { delimited, framed, lines, TOO_BIG } from './messages.ts'
import { openRules, outputNamed, PARAM_OPTION, PROTO_NOTES, PROTO_OPTION, sourceOf, streamNamed } from './rules-source.ts'

export const command: Command = {
  name: 'filter',
  summary: 'minimise recorded messages for one output, from stdin to stdout',
  usage: [
    'RULES --output O --stream S [--consent P,…] [--country CC] [--operator ID|none] [--format delimited|json] < IN > OUT',
    'RULES --output O --stream S --recording FILE --key FILE [--format delimited|json] > OUT',
  ],
  words: [1, 1],
  options: [
    { name: 'output', arg: 'O', text: 'the output of the rules file', required: true },
    { name: 'stream', arg: 'S', text: 'the stream that the messages are of', required: true },
    ...ASSUMPTION_OPTIONS,
    ...KEY_OPTIONS,
    { name: 'format', arg: 'FORMAT', text: 'delimited (default): each message behind its length as a varint; json: one object a line', choices: ['delimited', 'json'] },
    { name: 'recording', arg: 'FILE', text: 'a recording instead of stdin: each message with the machine and the decision of its time' },
    { name: 'key', arg: 'FILE', text: 'private key that opens the recording' },
    PARAM_OPTION,
    PROTO_OPTION,
  ],
  notes: [
    ASSUMPTION_NOTES,
    'The result equals that of a gateway with the same rules, keys, tenant and rows, where grid cells are not sticky.',
    'The last line on stderr counts: read, written, empty (withheld by rule, consent or condition) and refused, by reason.',
    PROTO_NOTES,
  ].join('\n'),
  async run(args, io) {
    const { policy, schemas } = openRules(args, io, args.words[0] ?? '')
    const output = outputNamed(policy, args.get('output') ?? '')
    const { stream } = sourceOf(output, streamNamed(policy, args.get('stream') ?? ''))
    if (args.has('key') && !args.has('recording')) throw new UsageError('--key goes with --recording. See: parapet filter --help')
    return filter(args, io, { stream, schemas, minimise: minimiserOf(args, io, { policy, output: output.id, stream }) })
  },
}

interface Counts {
  read: number
  written: number
  empty: number
  readonly refused: Record<string, number>
}

/** The result, or the verdict code that says why there is none. */
type Minimise = (message: Uint8Array, recorded?: Recorded) => Uint8Array | number

function minimiserOf(args: Args, io: Io, { policy, output, stream }: { readonly policy: Policy; readonly output: OutputId; readonly stream: Stream }): Minimise {
  const keys = readKeys(args, io)
  const assumptions = readAssumptions(args, policy, keys)
  const rehearsal = createRehearsal(policy, { keys, only: output })
  return (message, recorded) => {
    const { facts } = rehearsal.probe(stream.id, message)
    const known = recorded === undefined ? assumptions.of(facts) : { machine: recorded.machine, decision: decisionUnder(policy, recorded.decision), receivedAtMs: recorded.receivedAtMs }
    const { code, outputs: [result] } = rehearsal.perform({ stream: stream.id, payload: message, ...known })
    return result?.sent?.bytes ?? (code < 0 ? code : (result?.code ?? Verdict.failed.code))
  }
}

interface Filtering {
  readonly stream: Stream
  readonly schemas: Schemas
  readonly minimise: Minimise
}

async function filter(args: Args, io: Io, { stream, schemas, minimise }: Filtering): Promise<number> {
  const counts: Counts = { read: 0, written: 0, empty: 0, refused: {} }
  const type = stream.message.name
  let failed = false
  try {
    const recording = args.get('recording')
    if (recording !== undefined) {
      await filterRecording(recording, args, io, { stream, schemas, minimise }, counts)
    } else if (args.get('format') === 'json') {
      for await (const batch of lines(io.stdin)) {
        const results = batch.flatMap((line) => tallied(minimise(encoded(line, type, schemas)), counts))
        await write(io, Buffer.from(results.map((bytes) => `${JSON.stringify(schemas.decode(type, bytes))}\n`).join('')))
      }
    } else {
      for await (const batch of delimited(io.stdin)) {
        const results = batch.flatMap((message) => tallied(message === TOO_BIG ? Verdict.too_big.code : minimise(message), counts))
        await write(io, Buffer.concat(results.map(framed)))
      }
    }
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error
    io.stderr.write(`parapet: ${error.message}\n`)
    failed = true
  }
  io.stderr.write(`${JSON.stringify(counts)}\n`)
  return failed ? 1 : 0
}

/** As the messages came, each under what was decided for it then, with purposes by their names. */
async function filterRecording(file: string, args: Args, io: Io, { stream, schemas, minimise }: Filtering, counts: Counts): Promise<void> {
  const surplus = ASSUMPTION_OPTIONS.find(({ name }) => args.has(name))
  if (surplus !== undefined) throw new UsageError(`A recording says of each message what --${surplus.name} would assume. See: parapet filter --help`)
  const key = args.get('key')
  if (key === undefined) throw new UsageError('--recording needs --key, the private key that opens it.')
  const recording = openRecording(resolve(io.cwd, file), readPrivateKey(resolve(io.cwd, key)))
  try {
    const type = recording.frame.streams[stream.id]
    if (type !== stream.message.name) throw new GatewayError('RECORDING-STREAM', `The recording has ${type === undefined ? 'no stream' : `${type} in the stream`} "${stream.id}".`, `It has ${Object.keys(recording.frame.streams).join(', ')}.`)
    for (const message of recording.messages()) {
      if (message.stream !== stream.id) continue
      for (const bytes of tallied(minimise(message.payload, message), counts)) {
        await write(io, args.get('format') === 'json' ? Buffer.from(`${JSON.stringify(schemas.decode(type, bytes))}\n`) : framed(bytes))
      }
    }
  } finally {
    recording.close()
  }
}

function tallied(result: Uint8Array | number, counts: Counts): Uint8Array[] {
  counts.read++
  if (typeof result !== 'number') {
    counts.written++
    return [result]
  }
  // A topic that cannot be made is a fault of the message; every other "no" of an output is policy.
  if (isRefusal(result) || result === Verdict.bad_topic_value.code) counts.refused[verdictName(result)] = (counts.refused[verdictName(result)] ?? 0) + 1
  else counts.empty++
  return []
}

function encoded({ number, text }: { readonly number: number; readonly text: string }, type: string, schemas: Schemas): Uint8Array {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new GatewayError('INPUT-JSON', `Line ${number} of the input is no JSON.`, 'Write one message a line.')
  }
  try {
    return schemas.encode(type, json)
  } catch (error) {
    throw new GatewayError('INPUT-JSON', `Line ${number} of the input is no ${type}: ${error instanceof GatewayError ? error.message : 'a value does not fit its field.'}`)
  }
}

async function write(io: Io, bytes: Uint8Array): Promise<void> {
  if (bytes.length > 0 && !io.stdout.write(bytes)) await once(io.stdout, 'drain')
}
