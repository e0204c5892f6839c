/**
 * `parapet record`: raw traffic of a running gateway for previews of rules, sealed to a key that the gateway does not have.
 */
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { relative, resolve } from 'node:path'
import { suggestion } from '../config/nearest.ts'
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { createRecordingKeys, openRecording, publicKeyIn, readPrivateKey, type Recorded } from '../watch/recorded.ts'
import { columns, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS, type GatewayClient } from './client.ts'
import { bytesIn, secondsIn } from './durations.ts'
import { framed } from './messages.ts'
import { openSchemas, PROTO_NOTES, PROTO_OPTION } from './rules-source.ts'

export const command: Command = {
  name: 'record',
  summary: 'record raw traffic for previews, sealed to a key of the privacy role',
  usage: [
    'keygen FILE', 'start --to FILE.pub --reason TEXT [--stream S] [--machine M] [--for 15m] [--size 64MiB] [--keep 7d] [--with-operators]', 'stop', 'list', 'delete ID',
    'open RECORDING --key FILE [--stream S] [--format delimited|json] > OUT',
  ],
  actions: [
    { name: 'keygen', text: 'make a key pair: FILE (0600, for the privacy role alone) and FILE.pub' },
    { name: 'start', text: 'begin to record' },
    { name: 'stop', text: 'end the recording that runs' },
    { name: 'list', text: 'recordings with their files, and when they are deleted' },
    { name: 'delete', text: 'delete one' },
    { name: 'open', text: 'write the messages of a file to stdout' },
  ],
  words: [0, 1],
  options: [
    { name: 'to', arg: 'FILE', text: 'public key to which it is sealed' },
    { name: 'reason', arg: 'TEXT', text: 'why; goes into the ledger, so name no person' },
    { name: 'stream', arg: 'S', text: 'this stream alone' },
    { name: 'machine', arg: 'M', text: 'this machine alone' },
    { name: 'for', arg: 'TIME', text: 'how long, 15m when left out, 24h at most' },
    { name: 'size', arg: 'SIZE', text: 'how large, 64MiB when left out, 1GiB at most' },
    { name: 'keep', arg: 'TIME', text: 'when it is deleted, 7d from the start when left out, 30d at most' },
    { name: 'with-operators', text: 'operators by their ids; without it they are person-1, person-2' },
    { name: 'key', arg: 'FILE', text: 'private key that opens it' },
    { name: 'format', arg: 'FORMAT', text: 'of list: text (default) or json; of open: delimited (default), or json: proto3 JSON, one message a line', choices: ['text', 'delimited', 'json'] },
    PROTO_OPTION, ...GATEWAY_OPTIONS,
  ],
  notes: [
    'A recording is raw data, with every field that terminals send. It is the responsibility of the privacy role: start, end and deletion are in the ledger with',
    'the reason, and nobody reads it without the private key, the gateway included. Left out is whoever has said no to something, and every machine whose device',
    'setting is not on; a recording is deleted whole when somebody in it says no later. It ends by time, by size, and when the rules change.',
    'Needs the role privacy or admin. `parapet filter --recording` reads one with the machine and the decision of each message.',
    PROTO_NOTES,
  ].join('\n'),
  async run(args, io) {
    checkUsage(args)
    const [word = ''] = args.words
    switch (args.action) {
      case 'keygen': return keygen(word, io)
      case 'open': return open(word, args, io)
      default: return atGateway(args, io, gatewayClient(args, io))
    }
  },
}

const WORD: Readonly<Record<string, string>> = { keygen: 'FILE', open: 'RECORDING', delete: 'ID' }
const OPTIONS: Readonly<Record<string, readonly string[]>> = {
  keygen: [], start: ['to', 'reason', 'stream', 'machine', 'for', 'size', 'keep', 'with-operators', 'format', 'url', 'token-file'], stop: ['format', 'url', 'token-file'], list: ['format', 'url', 'token-file'],
  delete: ['url', 'token-file'], open: ['key', 'stream', 'format', 'proto'],
}
const NEEDED: Readonly<Record<string, readonly string[]>> = { start: ['to', 'reason'], open: ['key'] }

function checkUsage(args: Args): void {
  const { action, words } = args
  const see = 'See: parapet record --help'
  if (WORD[action] !== undefined && words.length === 0) throw new UsageError(`record ${action} needs ${WORD[action]}. ${see}`)
  if (WORD[action] === undefined && words.length > 0) throw new UsageError(`"${words[0]}" is one word too many. ${see}`)
  for (const { name } of command.options) if (args.has(name) && OPTIONS[action]?.includes(name) !== true) throw new UsageError(`--${name} does not go with record ${action}. ${see}`)
  for (const name of NEEDED[action] ?? []) if (!args.has(name)) throw new UsageError(`record ${action} needs --${name}. ${see}`)
  const format = args.get('format')
  if (format !== undefined && format === (action === 'open' ? 'text' : 'delimited')) throw new UsageError(`--format ${format} does not go with record ${action}. ${see}`)
}

function keygen(word: string, io: Io): number {
  const file = resolve(io.cwd, word)
  const { privateKey, publicKey, id } = createRecordingKeys()
  writeNew(file, privateKey, 0o600)
  try {
    writeNew(`${file}.pub`, publicKey, 0o644)
  } catch (error) {
    rmSync(file, { force: true })
    throw error
  }
  io.stdout.write(`Key ${id}: the private half is in ${relative(io.cwd, file)} (mode 0600), the public one in ${relative(io.cwd, file)}.pub.\nKeep the private one away from the gateway: it opens every recording made to it.\n`)
  return 0
}

function writeNew(file: string, text: string, mode: number): void {
  try {
    writeFileSync(file, text, { flag: 'wx', mode, flush: true })
  } catch (error) {
    const exists = error instanceof Error && 'code' in error && error.code === 'EEXIST'
    throw new GatewayError('KEY-FILE-EXISTS', exists ? `There is a file ${file} already.` : `The file ${file} cannot be written.`, exists ? 'What was recorded to a key opens only with it, so none is replaced. Choose another path.' : 'Choose another path.')
  }
}

// ---------------------------------------------------------------------------------------------------------------- gateway

interface Recording {
  readonly id: string
  readonly file: string
  readonly running: boolean
  readonly ended?: string
  readonly by: string
  readonly to: string
  readonly stream?: string
  readonly started: string
  readonly until: string
  readonly deleted: string
  readonly bytes: number
  readonly messages: number
  readonly people: number
  readonly left_out: { readonly no: number; readonly device_setting: number }
  readonly held: boolean
}

async function atGateway(args: Args, io: Io, gateway: GatewayClient): Promise<number> {
  const isJson = args.get('format') === 'json'
  if (args.action === 'delete') {
    await gateway.request('DELETE', `/v1/recordings/${encodeURIComponent(args.words[0] ?? '')}`)
    io.stdout.write('The recording is deleted.\n')
    return 0
  }
  if (args.action === 'start') {
    const recording = await gateway.request<Recording>('POST', '/v1/recordings', startBody(args, io))
    if (isJson) printJson(io, recording)
    else io.stdout.write(`Recording ${recording.id} runs until ${recording.until}, sealed to the key ${recording.to}.\nIts file is ${recording.file}; it is deleted at ${recording.deleted}.\n`)
    return 0
  }
  const { recordings } = await gateway.request<{ readonly recordings: readonly Recording[] }>('GET', '/v1/recordings')
  if (args.action === 'stop') {
    const running = recordings.find((one) => one.running)
    if (running === undefined) throw new GatewayError('UNKNOWN-RECORDING', 'No recording is running.')
    const recording = await gateway.request<Recording>('POST', `/v1/recordings/${running.id}/stop`, {})
    if (isJson) printJson(io, recording)
    else io.stdout.write(`Recording ${recording.id} has ended: ${recording.messages} messages, ${recording.bytes} bytes, in ${recording.file}.\n${leftOut(recording)}`)
    return 0
  }
  if (isJson) printJson(io, { recordings })
  else if (recordings.length === 0) io.stdout.write('There are no recordings.\n')
  else {
    io.stdout.write(`${columns([
      ['id', 'state', 'started', 'until', 'deleted', 'messages', 'bytes', 'people', 'key', 'file'],
      ...recordings.map((one) => [
        one.id, one.running ? 'running' : `ended: ${one.ended ?? ''}`, one.started, one.until, one.held ? 'held' : one.deleted, String(one.messages), String(one.bytes), String(one.people), one.to, one.file,
      ]),
    ], '').join('\n')}\n`)
  }
  return 0
}

function startBody(args: Args, io: Io): Readonly<Record<string, unknown>> {
  const file = resolve(io.cwd, args.get('to') ?? '')
  const [stream, machine, time, size, keep] = [args.get('stream'), args.get('machine'), args.get('for'), args.get('size'), args.get('keep')]
  return {
    to: publicKeyIn(textOf(file)), reason: args.get('reason'), with_operators: args.has('with-operators'),
    ...(stream === undefined ? {} : { stream }), ...(machine === undefined ? {} : { machine }),
    ...(time === undefined ? {} : { seconds: secondsIn('for', time, LIMITS.recordingMs, '24h') }), ...(size === undefined ? {} : { bytes: bytesIn('size', size, LIMITS.recordingBytes, '1GiB') }), ...(keep === undefined ? {} : { keep_seconds: secondsIn('keep', keep, LIMITS.recordingKeepMs, '30d') }),
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    throw new GatewayError('RECORDING-KEY', `The key file ${file} cannot be read.`)
  }
}

function leftOut({ left_out: { no, device_setting: deviceSetting } }: Recording): string {
  if (no + deviceSetting === 0) return ''
  return `Left out: ${no} messages of people who have said no to something or of whom that cannot be told, ${deviceSetting} of machines whose device setting is not on.\n`
}

// ------------------------------------------------------------------------------------------------------------------- file

async function open(word: string, args: Args, io: Io): Promise<number> {
  const recording = openRecording(resolve(io.cwd, word), readPrivateKey(resolve(io.cwd, args.get('key') ?? '')))
  const { streams } = recording.frame
  const stream = args.get('stream') ?? recording.frame.stream
  const names = Object.keys(streams)
  if (stream !== undefined && streams[stream] === undefined) throw new UsageError(`The recording has no stream "${stream}". ${suggestion(stream, names)}`.trimEnd())
  const asJson = args.get('format') === 'json' ? jsonLine(streams, openSchemas(args, io)) : undefined
  // Messages of several streams could not be told apart again.
  if (stream === undefined && names.length > 1) throw new UsageError(`The recording has several streams: name one with --stream. It may have ${names.join(', ')}.`)
  let count = 0
  try {
    for (const message of recording.messages()) {
      if (stream !== undefined && message.stream !== stream) continue
      count++
      if (!io.stdout.write(asJson === undefined ? framed(message.payload) : asJson(message))) await once(io.stdout, 'drain')
    }
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error
    io.stderr.write(`parapet: ${error.message}\n`)
    return 1
  } finally {
    recording.close()
    io.stderr.write(`${JSON.stringify({ read: count })}\n`)
  }
  return 0
}

function jsonLine(streams: Readonly<Record<string, string>>, schemas: ReturnType<typeof openSchemas>): (message: Recorded) => string {
  return ({ stream, payload }) => `${JSON.stringify(schemas.decode(streams[stream] ?? '', payload))}\n`
}
