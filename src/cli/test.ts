/**
 * `parapet test`: the tests that a rules file carries.
 */
import type { Coverage, Failure, TestReport, TestResult } from '../rule-tests.ts'
import { columns, FORMAT, printJson, UsageError } from './command.ts'
import type { Args, Command, Io } from './command.ts'
import { openRules, PARAM_OPTION, PROTO_NOTES, PROTO_OPTION } from './rules-source.ts'

export const command: Command = {
  name: 'test',
  summary: 'run the tests of a rules file',
  usage: ['RULES [--coverage N] [--only TEXT]'],
  words: [1, 1],
  options: [
    { name: 'coverage', arg: 'N', text: 'fail when less than N per cent of the outputs\' yes, no and not-set states were looked at' },
    { name: 'only', arg: 'TEXT', text: 'only tests whose name holds this text' },
    PARAM_OPTION,
    FORMAT,
    PROTO_OPTION,
  ],
  notes: `Clock, keys and cells are fixed, so a test gives the same result everywhere.\n${PROTO_NOTES}`,
  async run(args, io) {
    const threshold = thresholdOf(args)
    const file = args.words[0] ?? ''
    const loaded = openRules(args, io, file)
    const { policy } = loaded
    const { runAllTests } = await import('../acceptance.ts')
    const only = args.get('only')
    const report = runAllTests(only === undefined ? policy : { ...policy, tests: policy.tests.filter((test) => test.name.includes(only)) }, loaded)
    const tooLittle = threshold !== undefined && report.coverage.percent < threshold
    if (args.get('format') === 'json') printJson(io, { file, ...report, ...(threshold === undefined ? {} : { threshold }) })
    else print(io, file, report, threshold)
    return report.failed > 0 || tooLittle ? 1 : 0
  },
}

function thresholdOf(args: Args): number | undefined {
  const text = args.get('coverage')
  if (text === undefined) return undefined
  const number = Number(text.replace(/%$/, ''))
  if (!(number >= 0 && number <= 100) || text.trim() === '') throw new UsageError('--coverage is a number from 0 to 100.')
  return number
}

function print(io: Io, file: string, report: TestReport, threshold: number | undefined): void {
  const text = report.tests.flatMap((test) => (test.failures.length === 0 ? [`ok    ${test.name}`] : failed(file, test)))
  text.push(...(report.tests.length === 0 ? ['There are no tests. Add some under `tests:`; see config/README.md.'] : ['', ...coverageLines(report.coverage)]), '')
  text.push(`${report.passed} passed, ${report.failed} failed, coverage ${report.coverage.percent} %${threshold === undefined ? '' : report.coverage.percent < threshold ? ` (less than the ${threshold} % asked for)` : ` (${threshold} % asked for)`}`)
  io.stdout.write(`${text.join('\n')}\n`)
}

function failed(file: string, test: TestResult): string[] {
  return [`FAIL  ${test.name}   ${test.file ?? file}:${test.line}`, ...test.failures.flatMap(failureLines)]
}

/** One failure as the commands print it: where, what was expected, what came, why. */
export function failureLines({ step, output, field, expected, actual, note }: Failure): string[] {
  const where = [...(step === undefined ? [] : [`step ${step}`]), ...(output === '' ? [] : [output]), ...(field === '' ? [] : [field])].join(', ')
  return [
    `      ${where === '' ? 'the message' : where}`,
    `        expected  ${yaml(expected)}`,
    ...(actual === undefined ? [] : [`        got       ${yaml(actual)}`]),
    ...(note === undefined ? [] : [`        because   ${note}`]),
  ]
}

/** A value on one line as the rules file would write it. */
export function yaml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(yaml).join(', ')}]`
  if (typeof value === 'object' && value !== null) return `{ ${Object.entries(value).map(([key, one]) => `${key}: ${yaml(one)}`).join(', ')} }`
  if (typeof value === 'string') return /^[\w$][\w $./@-]*$/.test(value) || value === '' ? (value === '' ? '""' : value) : JSON.stringify(value)
  return Object.is(value, -0) ? '-0.0' : String(value)
}

function coverageLines({ outputs }: Coverage): string[] {
  const rows = outputs.map(({ output, yes, no, notSet }) => [output, String(yes), String(no), String(notSet)])
  return columns([['messages looked at, when the operator said', 'yes', 'no', 'nothing'], ...rows], '')
}
