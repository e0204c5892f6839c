/**
 * `parapet check`: everything short of running a rules file, its own tests included.
 */
import { dirname, relative, resolve } from 'node:path'
import { acceptRules, tryRules, type Acceptance } from '../acceptance.ts'
import { checkFiles } from '../config/check-files.ts'
import { formatFinding, type Finding } from '../domain/errors.ts'
import { failureLines } from './test.ts'
import { FORMAT, printJson } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { openSchemas, PARAM_OPTION, protoFolders, PROTO_NOTES, PROTO_OPTION, readParams, readRules } from './rules-source.ts'

export const command: Command = {
  name: 'check',
  summary: 'check a rules file and run its tests',
  usage: ['RULES [--config GATEWAY]'],
  words: [1, 1],
  options: [
    { name: 'config', arg: 'GATEWAY', text: 'with this gateway file: its bridges, folders, registries and values of parameters are checked too' },
    PARAM_OPTION,
    FORMAT,
    PROTO_OPTION,
  ],
  notes: `A file without an error here is what a gateway accepts. Errors are printed as file:line:col severity CODE text.\n${PROTO_NOTES}`,
  async run(args, io) {
    const file = args.words[0] ?? ''
    const { policy, accepted, report, findings: all } = await checked(args, io, file)
    const errors = all.filter((finding) => finding.severity === 'error').length
    const warnings = all.length - errors
    const tests = { passed: report?.passed ?? 0, failed: report?.failed ?? 0 }
    if (args.get('format') === 'json') {
      printJson(io, { file, accepted: policy !== undefined && errors === 0, hash: policy?.hash, errors, warnings, findings: all, waived: accepted, tests: { ...tests, coverage: report?.coverage } })
    } else {
      const lines = all.flatMap((finding) => [formatFinding(finding), ...(finding.code === 'TEST-FAILED' ? (report?.tests.find((test) => finding.text.startsWith(`The test "${test.name}" fails`))?.failures ?? []).flatMap(failureLines) : [])])
      io.stdout.write(`${[...lines, summary(errors > 0 ? undefined : policy?.hash, errors, warnings, accepted.length, tests, report === undefined)].join('\n')}\n`)
    }
    return policy === undefined || errors > 0 ? 1 : 0
  },
}

/** Findings of the rules file and its tests, and of what the gateway file puts around it. */
async function checked(args: Args, io: Io, file: string): Promise<Pick<Acceptance, 'policy' | 'accepted' | 'report'> & { readonly findings: readonly Finding[] }> {
  const config = args.get('config')
  const text = readRules(io, file)
  const params = readParams(args)
  if (config === undefined) return acceptRules(file, { schemas: openSchemas(args, io, file), text, params, folder: dirname(resolve(io.cwd, file)) })
  const { rules, gateway, findings } = checkFiles({ rules: resolve(io.cwd, file), gateway: resolve(io.cwd, config), proto: protoFolders(args, io, file), params })
  const tried = tryRules(rules, { file: resolve(io.cwd, file), text, engine: gateway?.minimiser === 'interpreted' ? 'interpreted' : 'generated' })
  const all = [...findings, ...tried.findings.filter((finding) => !rules.findings.includes(finding))]
  return { ...tried, findings: all.map((finding) => ({ ...finding, place: { ...finding.place, file: relative(io.cwd, finding.place.file) } })) }
}

function summary(hash: string | undefined, errors: number, warnings: number, waived: number, tests: { readonly passed: number; readonly failed: number }, untested: boolean): string {
  const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`
  const parts = [count(errors, 'error'), count(warnings, 'warning'), ...(waived > 0 ? [`${waived} waived`] : []), untested ? 'tests not run' : `${count(tests.passed, 'test')} passed${tests.failed > 0 ? `, ${tests.failed} failed` : ''}`]
  return `${parts.join(', ')}: ${hash === undefined ? 'refused' : `accepted as ${hash.slice(0, 16)}`}`
}
