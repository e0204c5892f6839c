/**
 * `parapet diff`: what leaves under one rules file that does not under another. Decided on what is carried out, so that two files
 * that read differently and do the same have no difference. Exit 3 when anything is widened for anybody.
 */
import { resolve } from 'node:path'
import { loadRules, type LoadedRules } from '../config/rules.ts'
import type { Params, Policy } from '../domain/policy.ts'
import { differenceOf, textOfDifference } from '../difference.ts'
import { formatFinding, GatewayError } from '../domain/errors.ts'
import { loadSchemas, schemasFromText } from '../minimise/descriptor.ts'
import { FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io, Option } from './command.ts'
import { gatewayClient, GATEWAY_OPTIONS } from './client.ts'
import { loadNamedRules, openRules, openSchemas, PARAM_OPTION, PROTO_NOTES, PROTO_OPTION, readParams } from './rules-source.ts'

const OLD_PROTO: Option = { name: 'old-proto', arg: 'DIR', text: 'schemas of OLD, when they are others than those of NEW', many: true }

const OLD_PARAM: Option = { name: 'old-param', arg: 'NAME=VALUE', text: 'values of the parameters of OLD, when they are others than those of NEW', many: true }

/** What leaves that did not: not a failure, but somebody has to say yes to it. */
const WIDENED = 3

export const command: Command = {
  name: 'diff',
  summary: 'say what would newly leave under other rules, what no longer, to whom and when',
  usage: ['OLD NEW', '--active NEW'],
  words: [1, 2],
  options: [
    { name: 'active', text: 'compares with what is active in a running gateway' },
    PARAM_OPTION, OLD_PARAM, OLD_PROTO, FORMAT, PROTO_OPTION, ...GATEWAY_OPTIONS,
  ],
  notes: `Exit 0: nothing is widened. Exit 3: something is, for somebody, or cannot be compared. Exit 1: a file has errors.\n${PROTO_NOTES}`,
  async run(args, io) {
    const [first = '', second] = args.words
    if (args.has('active') === (second !== undefined)) throw new UsageError('diff compares two files, or with --active one file with the active rules. See: parapet diff --help')
    const next = openRules(args, io, second ?? first)
    const difference = differenceOf(second === undefined ? await activeRules(args, io) : oldRules(args, io, first), next)
    if (args.get('format') === 'json') printJson(io, difference)
    else io.stdout.write(`${textOfDifference(difference).join('\n')}\n`)
    return difference.widened > 0 ? WIDENED : 0
  },
}

function oldRules(args: Args, io: Io, file: string): LoadedRules & { readonly policy: Policy } {
  const folders = args.all('old-proto')
  const schemas = folders.length === 0 ? openSchemas(args, io, file) : loadSchemas(folders.map((folder) => resolve(io.cwd, folder)))
  if (args.has('old-param')) return usable(loadNamedRules(args, io, file, { schemas, params: readParams(args, OLD_PARAM.name) }))
  const loaded = loadNamedRules(args, io, file, { schemas, params: {} })
  // A parameter may be new in NEW.
  return usable(loaded.under(Object.fromEntries(Object.entries(readParams(args)).filter(([name]) => Object.hasOwn(loaded.params, name)))))
}

/** The active set with the schemas that it was accepted with, from the gateway itself. */
async function activeRules(args: Args, io: Io): Promise<(LoadedRules & { readonly policy: Policy }) | undefined> {
  const { active } = await gatewayClient(args, io).request<{ readonly active?: ActiveRules }>('GET', '/v1/rules/active')
  return active === undefined ? undefined : usable(loadRules(active.file, active.text, { included: active.include ?? {}, params: active.params ?? {}, schemas: schemasFromText(active.proto), today: active.day }))
}

interface ActiveRules {
  readonly file: string
  readonly text: string
  readonly include?: Readonly<Record<string, string>>
  readonly params?: Params
  readonly proto: Readonly<Record<string, string>>
  readonly day: string
}

function usable(loaded: LoadedRules): LoadedRules & { readonly policy: Policy } {
  const { policy } = loaded
  if (policy !== undefined) return { ...loaded, policy }
  const errors = loaded.findings.filter((finding) => finding.severity === 'error')
  throw new GatewayError('RULES-REFUSED', `The old rules have ${errors.length === 1 ? 'an error' : `${errors.length} errors`}:\n${errors.map(formatFinding).join('\n')}`)
}
