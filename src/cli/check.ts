/**
 * `parapet check`: everything short of running a rules file, its own tests included.
 */
import { acceptRules } from '../acceptance.ts'
import { formatFinding, type Finding } from '../domain/errors.ts'
import { failureLines } from './test.ts'
import { FORMAT, printJson } from './command.ts'
import type { Command } from './command.ts'
import { openSchemas, PROTO_NOTES, PROTO_OPTION, readRules } from './rules-source.ts'

export const command: Command = {
  name: 'check',
  summary: 'check a rules file and run its tests',
  usage: ['RULES'],
  words: [1, 1],
  options: [FORMAT, PROTO_OPTION],
  notes: `A file without an error here is what a gateway accepts. Errors are printed as file:line:col severity CODE text.\n${PROTO_NOTES}`,
  async run(args, io) {
    const file = args.words[0] ?? ''
    const { policy, findings, accepted, report } = await acceptRules(file, { schemas: openSchemas(args, io, file), text: readRules(io, file) })
    const all: readonly Finding[] = findings
    const errors = all.filter((finding) => finding.severity === 'error').length
    const warnings = all.length - errors
    const tests = { passed: report?.passed ?? 0, failed: report?.failed ?? 0 }
    if (args.get('format') === 'json') {
      printJson(io, { file, accepted: policy !== undefined, hash: policy?.hash, errors, warnings, findings: all, waived: accepted, tests: { ...tests, coverage: report?.coverage } })
    } else {
      const lines = all.flatMap((finding) => [formatFinding(finding), ...(finding.code === 'TEST-FAILED' ? (report?.tests.find((test) => test.line === finding.place.line)?.failures ?? []).flatMap(failureLines) : [])])
      io.stdout.write(`${[...lines, summary(policy?.hash, errors, warnings, accepted.length, tests, report === undefined)].join('\n')}\n`)
    }
    return policy === undefined ? 1 : 0
  },
}

function summary(hash: string | undefined, errors: number, warnings: number, waived: number, tests: { readonly passed: number; readonly failed: number }, untested: boolean): string {
  const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`
  const parts = [count(errors, 'error'), count(warnings, 'warning'), ...(waived > 0 ? [`${waived} waived`] : []), untested ? 'tests not run' : `${count(tests.passed, 'test')} passed${tests.failed > 0 ? `, ${tests.failed} failed` : ''}`]
  return `${parts.join(', ')}: ${hash === undefined ? 'refused' : `accepted as ${hash.slice(0, 16)}`}`
}
