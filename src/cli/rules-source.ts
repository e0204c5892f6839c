/**
 * Where the rule commands find a rules file and the .proto files it speaks of.
 */
import { existsSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { parseParam } from '../config/params.ts'
import { loadRules, type LoadedRules } from '../config/rules.ts'
import { suggestion } from '../config/nearest.ts'
import { readText } from '../config/yaml.ts'
import { formatFinding, GatewayError } from '../domain/errors.ts'
import type { Output, OutputStream, Params, Policy, Stream } from '../domain/policy.ts'
import { loadSchemas, type Schemas } from '../minimise/descriptor.ts'
import type { Args, Io, Option } from './command.ts'
import { UsageError } from './command.ts'

export const PROTO_OPTION: Option = { name: 'proto', arg: 'DIR', text: 'a further folder of .proto files, beside ./proto and the proto/ above the rules file', many: true }

export const PROTO_NOTES = 'The .proto files are those in ./proto, in the nearest proto/ above the rules file, and in every --proto DIR; without one of the first two those that come with parapet.'

/** The schemas that come with parapet. */
export const OWN_PROTO = resolve(import.meta.dirname, '../../proto')

export const PARAM_OPTION: Option = { name: 'param', arg: 'NAME=VALUE', text: 'a value for a parameter of the rules file, in the place of the one there', many: true }

/**
 * The values of an option such as --param.
 * @throws UsageError  one is no NAME=VALUE, or a name is given twice
 */
export function readParams(args: Args, option = PARAM_OPTION.name): Params {
  const pairs = args.all(option).map((text) => {
    const pair = parseParam(text)
    if (pair === undefined) throw new UsageError(`--${option} ${text} is no value of a parameter. Write --${option} cell=500m: a text, a number, true or false, or a list of them.`)
    return pair
  })
  const twice = pairs.find(([name], index) => pairs.findIndex(([other]) => other === name) < index)
  if (twice !== undefined) throw new UsageError(`--${option} gives "${twice[0]}" twice.`)
  return Object.fromEntries(pairs)
}

/** The schemas of a command; see `protoFolders`. */
export function openSchemas(args: Args, io: Io, rulesFile?: string): Schemas {
  return loadSchemas(protoFolders(args, io, rulesFile))
}

/**
 * ./proto, the nearest proto/ at or above the rules file (without either the shipped one), and every --proto.
 * @throws GatewayError NO-PROTO  a folder that was named does not exist
 */
export function protoFolders(args: Args, io: Io, rulesFile?: string): readonly string[] {
  const named = args.all('proto').map((folder) => resolve(io.cwd, folder))
  const missing = named.find((folder) => !existsSync(folder))
  if (missing !== undefined) throw new GatewayError('NO-PROTO', `The folder ${relative(io.cwd, missing)} of --proto does not exist.`)
  const beside = join(resolve(io.cwd), 'proto')
  const above = rulesFile === undefined ? undefined : nearestProto(dirname(resolve(io.cwd, rulesFile)))
  const found = [...(existsSync(beside) ? [beside] : []), ...(above === undefined ? [] : [above])]
  return [...new Set([...(found.length === 0 ? [OWN_PROTO] : found), ...named])]
}

function nearestProto(folder: string): string | undefined {
  for (let here = folder; ; here = dirname(here)) {
    const proto = join(here, 'proto')
    if (existsSync(proto)) return proto
    if (here === dirname(here)) return undefined
  }
}

/** Text of the rules file that a command was given, read relative to where it was typed. */
export function readRules(io: Io, file: string): string {
  const read = readText(resolve(io.cwd, file))
  if ('finding' in read) throw new GatewayError(read.finding.code, read.finding.text)
  return read.text
}

/** The rules file that a command was given, with what it includes and the values of --param; see `LoadedRules` for what may be wrong. */
export function loadNamedRules(args: Args, io: Io, file: string, { schemas = openSchemas(args, io, file), params = readParams(args) }: { readonly schemas?: Schemas; readonly params?: Params } = {}): LoadedRules {
  return loadRules(file, readRules(io, file), { schemas, params, folder: dirname(resolve(io.cwd, file)) })
}

/**
 * Rules without an error of their own; their tests are not run.
 * @throws GatewayError RULES-REFUSED  with the findings, one a line
 */
export function openRules(args: Args, io: Io, file: string): LoadedRules & { readonly policy: Policy } {
  const loaded = loadNamedRules(args, io, file)
  const { policy } = loaded
  if (policy !== undefined) return { ...loaded, policy }
  const errors = loaded.findings.filter((finding) => finding.severity === 'error')
  throw new GatewayError('RULES-REFUSED', `The rules file has ${errors.length === 1 ? 'an error' : `${errors.length} errors`}:\n${errors.map(formatFinding).join('\n')}`)
}

/** @throws UsageError with the nearest name */
export function outputNamed(policy: Policy, name: string): Output {
  const output = policy.outputs.find((one) => one.id === name)
  if (output === undefined) throw new UsageError(`The rules have no output "${name}". ${suggestion(name, policy.outputs.map((one) => one.id))}`.trimEnd())
  return output
}

/** @throws UsageError with the nearest name */
export function streamNamed(policy: Policy, name: string): Stream {
  const stream = policy.streams.find((one) => one.id === name)
  if (stream === undefined) throw new UsageError(`The rules have no stream "${name}". ${suggestion(name, policy.streams.map((one) => one.id))}`.trimEnd())
  return stream
}

/** @throws UsageError when the output does not take the stream */
export function sourceOf(output: Output, stream: Stream): OutputStream {
  const source = output.streams.find((one) => one.stream === stream)
  if (source === undefined) throw new UsageError(`The output "${output.id}" does not take the stream "${stream.id}". It takes ${output.streams.map((one) => one.stream.id).join(', ')}.`)
  return source
}
