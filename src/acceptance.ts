/**
 * Whether a rules file may be used: it reads, its schemas resolve, no lint objects, every minimiser compiles, and its own tests
 * pass. `check` prints what this finds; `serve` takes the policy or keeps the one it has.
 */
import { loadRulesInPieces, unreadableRules, type LoadedRules, type RulesOptions } from './config/rules.ts'
import { readText } from './config/yaml.ts'
import { formatFinding, type Finding } from './domain/errors.ts'
import { atOnce, calmly, type Pieces } from './domain/pieces.ts'
import type { Params, Policy, RuleTest } from './domain/policy.ts'
import { compilePlan, type CompileOptions } from './minimise/compile.ts'
import { planFor, VARIANTS } from './minimise/plan.ts'
import type { PseudonymKeys } from './minimise/pseudonym.ts'
import { offlineKeys } from './rehearsal.ts'
import { joinedReport, runTestsInPieces, type Failure, type TestReport, type TestResult } from './rule-tests.ts'

export interface AcceptanceOptions extends RulesOptions {
  /** Keys to compile under; the tests always have their own, so that they give the same results everywhere. */
  readonly keys?: PseudonymKeys
  /** The text, when it is not the one on disk. */
  readonly text?: string
  /** What the gateway minimises with; `interpreted` neither compiles nor tries a generated function. */
  readonly engine?: CompileOptions['engine']
}

export interface Acceptance extends LoadedRules {
  readonly file: string
  /** What was read; empty when it could not be. */
  readonly text: string
  /** Undefined when the file cannot even be tested. */
  readonly report: TestReport | undefined
}

/** Reads and tries a rules file, a piece at a time. Never throws for anything that stands in it; `policy` is defined only when nothing objects. */
export async function acceptRules(file: string, options: AcceptanceOptions): Promise<Acceptance> {
  const read = options.text === undefined ? readText(file) : { text: options.text }
  if ('finding' in read) return { ...unreadableRules(read.finding, options), file, text: '', report: undefined }
  const { text } = read
  return calmly(function* () {
    return yield* tryRulesInPieces(yield* loadRulesInPieces(file, text, options), { file, text, keys: options.keys, engine: options.engine })
  }())
}

/**
 * Runs the tests of a policy, each under the values that it names itself, else under those in force.
 * @param policy  of `loaded`, maybe with fewer tests
 */
export function runAllTests(policy: Policy, loaded: LoadedRules, engine: NonNullable<AcceptanceOptions['engine']> = 'generated'): TestReport {
  return atOnce(allTestsInPieces(policy, loaded, engine))
}

function* allTestsInPieces(policy: Policy, loaded: LoadedRules, engine: NonNullable<AcceptanceOptions['engine']>): Pieces<TestReport> {
  const others = policy.tests.filter((test) => test.params !== undefined)
  const plain = yield* runTestsInPieces({ ...policy, tests: policy.tests.filter((test) => test.params === undefined) }, loaded.schemas, engine)
  if (others.length === 0) return plain
  const groups = Map.groupBy(others, ({ params = {} }) => JSON.stringify(Object.entries(params).sort(([a], [b]) => (a < b ? -1 : 1))))
  const reports: (Pick<TestReport, 'tests'> & Partial<TestReport>)[] = []
  for (const group of groups.values()) {
    yield
    const under = yield* loaded.underInPieces(group[0]?.params ?? {})
    // Rules that nothing objects to must be so under the values of their tests too.
    const tried = under.policy ?? (loaded.policy === undefined ? under.draft : undefined)
    if (tried === undefined) {
      reports.push({ tests: group.map((test) => untried(test, under)) })
      continue
    }
    const names = new Set(group.map((test) => test.name))
    reports.push(yield* runTestsInPieces({ ...tried, tests: tried.tests.filter((test) => names.has(test.name)) }, under.schemas, engine))
  }
  return joinedReport(policy, [plain, ...reports])
}

function untried(test: RuleTest, under: LoadedRules): TestResult {
  const first = under.findings.find((finding) => finding.severity === 'error')
  const note = `under ${valuesOf(test.params ?? {})} the rules are refused${first === undefined ? '' : `: ${formatFinding(first)}`}`
  return { name: test.name, line: test.line, ...(test.file === undefined ? {} : { file: test.file }), failures: [{ step: undefined, output: '', field: '', expected: 'rules without an error', actual: undefined, note }] }
}

function valuesOf(params: Params): string {
  return Object.entries(params).map(([name, value]) => `${name} = ${Array.isArray(value) ? `[${value.join(', ')}]` : String(value)}`).join(', ')
}

interface Trial {
  readonly file: string
  readonly text: string
  readonly keys?: PseudonymKeys | undefined
  readonly engine?: CompileOptions['engine'] | undefined
}

/** The part that comes after reading: compiles every minimiser and runs the tests. */
export function tryRules(loaded: LoadedRules, trial: Trial): Acceptance {
  return atOnce(tryRulesInPieces(loaded, trial))
}

function* tryRulesInPieces(loaded: LoadedRules, { file, text, keys = offlineKeys(), engine = 'generated' }: Trial): Pieces<Acceptance> {
  const policy = loaded.policy ?? loaded.draft
  if (policy === undefined) return { ...loaded, file, text, report: undefined }
  // A file with lints against it is tested too: whoever mends it wants to see everything at once.
  const tried = yield* compiledAndTested(policy, loaded, file, { keys, engine })
  if ('broken' in tried) return { ...loaded, policy: undefined, findings: [...loaded.findings, ...tried.broken], file, text, report: undefined }
  const { report } = tried
  const failed = report.tests.filter((test) => test.failures.length > 0).map((test): Finding => ({
    severity: 'error', code: 'TEST-FAILED', place: { file: test.file ?? file, line: test.line, col: 1 }, path: 'tests',
    text: `The test "${test.name}" fails: ${sentenceOf(test.failures[0] as Failure)}${test.failures.length > 1 ? ` (and ${test.failures.length - 1} more)` : ''}. See \`parapet test\`; mend the rules, or what the test expects.`,
  }))
  return { ...loaded, policy: failed.length > 0 ? undefined : loaded.policy, findings: [...loaded.findings, ...failed], file, text, report }
}

function* compiledAndTested(policy: Policy, loaded: LoadedRules, file: string, options: CompileOptions): Pieces<{ readonly report: TestReport } | { readonly broken: readonly Finding[] }> {
  const broken = yield* uncompilable(policy, file, options)
  return broken.length > 0 ? { broken } : { report: yield* allTestsInPieces(policy, loaded, options.engine) }
}

function* uncompilable(policy: Policy, file: string, options: CompileOptions): Pieces<Finding[]> {
  const findings: Finding[] = []
  let left = TRIED_MAX
  for (const output of policy.outputs) {
    for (const source of output.streams) {
      if (left-- <= 0) return findings
      yield
      try {
        for (const variant of VARIANTS) compilePlan(planFor(output, source, variant), options)
      } catch {
        findings.push({
          severity: 'error', code: 'NOT-COMPILED', place: { file: source.fields[0]?.file ?? file, line: source.fields[0]?.line ?? 1, col: 1 }, path: `outputs.${output.id}.streams.${source.stream.id}`,
          text: `No minimiser could be made for the stream "${source.stream.id}" of the output "${output.id}". This is a fault of the gateway: set \`minimiser: interpreted\` in the gateway file and report it.`,
        })
      }
    }
  }
  return findings
}

/** Of thousands of outputs and streams that are alike the first tell; the gateway itself falls back to the readable engine. */
const TRIED_MAX = 250

/** One difference in a sentence, without the values, which may be long. */
function sentenceOf(failure: Failure): string {
  const at = failure.step === undefined ? '' : `in step ${failure.step} `
  const what = failure.output === '' ? 'the message' : failure.field === '' ? `the output ${failure.output}` : `${failure.field} in ${failure.output}`
  return `${at}${what} is not as expected`
}
