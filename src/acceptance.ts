/**
 * Whether a rules file may be used: it reads, its schemas resolve, no lint objects, every minimiser compiles, and its own tests
 * pass. `check` prints what this finds; `serve` takes the policy or keeps the one it has.
 */
import { loadRules, type LoadedRules, type RulesOptions } from './config/rules.ts'
import { readText } from './config/yaml.ts'
import type { Finding } from './domain/errors.ts'
import type { Policy } from './domain/policy.ts'
import { compilePlan, type CompileOptions } from './minimise/compile.ts'
import type { Schemas } from './minimise/descriptor.ts'
import { planFor, VARIANTS } from './minimise/plan.ts'
import type { PseudonymKeys } from './minimise/pseudonym.ts'
import { offlineKeys } from './rehearsal.ts'
import { runTests, type Failure, type TestReport } from './rule-tests.ts'

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

/** Reads and tries a rules file. Never throws for anything that stands in it; `policy` is defined only when nothing objects. */
export async function acceptRules(file: string, options: AcceptanceOptions): Promise<Acceptance> {
  const read = options.text === undefined ? readText(file) : { text: options.text }
  if ('finding' in read) return { file, text: '', policy: undefined, draft: undefined, findings: [read.finding], accepted: [], schemas: options.schemas, report: undefined }
  return tryRules(loadRules(file, read.text, options), { file, text: read.text, keys: options.keys, engine: options.engine })
}

/** The part that comes after reading: compiles every minimiser and runs the tests. */
export function tryRules(loaded: LoadedRules, { file, text, keys = offlineKeys(), engine = 'generated' }: { readonly file: string; readonly text: string; readonly keys?: PseudonymKeys | undefined; readonly engine?: CompileOptions['engine'] | undefined }): Acceptance {
  const policy = loaded.policy ?? loaded.draft
  if (policy === undefined) return { ...loaded, file, text, report: undefined }
  // A file with lints against it is tested too: whoever mends it wants to see everything at once.
  const tried = compiledAndTested(policy, loaded.schemas, file, { keys, engine })
  if ('broken' in tried) return { ...loaded, policy: undefined, findings: [...loaded.findings, ...tried.broken], file, text, report: undefined }
  const { report } = tried
  const failed = report.tests.filter((test) => test.failures.length > 0).map((test): Finding => ({
    severity: 'error', code: 'TEST-FAILED', place: { file, line: test.line, col: 1 }, path: 'tests',
    text: `The test "${test.name}" fails: ${sentenceOf(test.failures[0] as Failure)}${test.failures.length > 1 ? ` (and ${test.failures.length - 1} more)` : ''}. See \`parapet test\`; mend the rules, or what the test expects.`,
  }))
  return { ...loaded, policy: failed.length > 0 ? undefined : loaded.policy, findings: [...loaded.findings, ...failed], file, text, report }
}

function compiledAndTested(policy: Policy, schemas: Schemas, file: string, options: CompileOptions): { readonly report: TestReport } | { readonly broken: readonly Finding[] } {
  const which = (): readonly Finding[] => uncompilable(policy, file, options)
  try {
    // Tests compile every minimiser; without tests nothing has been compiled yet.
    const broken = policy.tests.length === 0 ? which() : []
    return broken.length > 0 ? { broken } : { report: runTests(policy, schemas, options.engine) }
  } catch (error) {
    const broken = which()
    if (broken.length === 0) throw error
    return { broken }
  }
}

function uncompilable(policy: Policy, file: string, options: CompileOptions): Finding[] {
  const findings: Finding[] = []
  for (const output of policy.outputs) {
    for (const source of output.streams) {
      try {
        for (const variant of VARIANTS) compilePlan(planFor(output, source, variant), options)
      } catch {
        findings.push({
          severity: 'error', code: 'NOT-COMPILED', place: { file, line: source.fields[0]?.line ?? 1, col: 1 }, path: `outputs.${output.id}.streams.${source.stream.id}`,
          text: `No minimiser could be made for the stream "${source.stream.id}" of the output "${output.id}". This is a fault of the gateway: set \`minimiser: interpreted\` in the gateway file and report it.`,
        })
      }
    }
  }
  return findings
}

/** One difference in a sentence, without the values, which may be long. */
function sentenceOf(failure: Failure): string {
  const at = failure.step === undefined ? '' : `in step ${failure.step} `
  const what = failure.output === '' ? 'the message' : failure.field === '' ? `the output ${failure.output}` : `${failure.field} in ${failure.output}`
  return `${at}${what} is not as expected`
}
