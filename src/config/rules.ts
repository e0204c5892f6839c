/**
 * The rules file -> a checked Policy, or findings that say where and how to mend it.
 * Reading goes outside in: YAML, JSON Schema, names, meaning (check.ts), lints (lint.ts). Each stage needs the one before it.
 */
import { createHash } from 'node:crypto'
import { basename, extname } from 'node:path'
import type { Finding } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { atOnce, type Pieces } from '../domain/pieces.ts'
import type { Params, Policy } from '../domain/policy.ts'
import type { Classification } from '../domain/schema.ts'
import type { Schemas } from '../minimise/descriptor.ts'
import { checkPolicy } from './check.ts'
import { Findings, sorted, type Where } from './findings.ts'
import { uniteFiles, type IncludeOptions, type United } from './include.ts'
import { readLegalBasis, readPurposes } from './legal-basis.ts'
import { applyAccepted, lintPolicy, type AcceptedLint } from './lint.ts'
import { nearest, suggestion } from './nearest.ts'
import { readOutputs } from './outputs.ts'
import { fillParams } from './params.ts'
import { readTests } from './rule-tests.ts'
import type { RulesFile } from './rules-file.ts'
import { rulesSchema } from './schema.ts'
import { readStreams, readSubject } from './streams.ts'
import { validator } from './validation.ts'
import { broken, readYaml, yamlInPieces, type Yaml } from './yaml.ts'
import { readZones } from './zones.ts'

export interface RulesOptions extends IncludeOptions {
  readonly schemas: Schemas
  /** Bridges of the gateway file, name -> recipient; without it `via` is not checked. */
  readonly bridges?: ReadonlyMap<string, { readonly recipient: string }>
  /** The day for `accept: until`, `2026-11-23`; today (UTC) when left out. */
  readonly today?: string
  /** Values for parameters that the file declares, in the place of those in it. */
  readonly params?: Params | undefined
}

export interface LoadedRules {
  /** Accepted: no error of any kind. */
  readonly policy: Policy | undefined
  /** What could be built although lints or rules object: for previews, never for serving. */
  readonly draft: Policy | undefined
  /** By file, line and column. */
  readonly findings: readonly Finding[]
  /** Lints that `accept:` waives; for diff, report and ledger. */
  readonly accepted: readonly AcceptedLint[]
  /** Schemas with the file's `fields:` applied. */
  readonly schemas: Schemas
  /** As `include:` names them -> text; with the text of the rules file and `params` all that the hash stands for, beside the schemas. */
  readonly included: Readonly<Record<string, string>>
  /** Values of all declared parameters. */
  readonly params: Params
  /** Included files on disk, absolute -> state before they were read. */
  readonly files: ReadonlyMap<string, string>
  /** The same texts with other values for some parameters. */
  under(params: Params): LoadedRules
  /** The same, for a gateway that goes on meanwhile. */
  underInPieces(params: Params): Pieces<LoadedRules>
}

/** Reads, resolves and checks a rules file that is in memory. Never throws for anything that stands in it. */
export function loadRules(file: string, text: string, options: RulesOptions): LoadedRules {
  return atOnce(loadRulesInPieces(file, text, options))
}

/** The same, for a gateway that goes on meanwhile. */
export function* loadRulesInPieces(file: string, text: string, options: RulesOptions): Pieces<LoadedRules> {
  const yaml = yield* yamlInPieces(file, text)
  yield
  return yield* loadUnited(uniteFiles(yaml, options), options)
}

/** The same for a file on disk. */
export function loadRulesFile(file: string, options: RulesOptions): LoadedRules {
  return loadYaml(readYaml(file), options)
}

/** What there is of a rules file that cannot be read. */
export function unreadableRules(finding: Finding, options: RulesOptions): LoadedRules {
  return loadYaml(broken(finding.place.file, [finding]), options)
}

const validate = validator(rulesSchema())

function loadYaml(yaml: Yaml, options: RulesOptions): LoadedRules {
  return atOnce(loadUnited(uniteFiles(yaml, options), options))
}

function* loadUnited(united: United, options: RulesOptions): Pieces<LoadedRules> {
  const { included, files } = united
  const underInPieces = (params: Params): Pieces<LoadedRules> => loadUnited(united, { ...options, params: { ...options.params, ...params } })
  const under = (params: Params): LoadedRules => atOnce(underInPieces(params))
  const refused = (list: readonly Finding[], params: Params = {}): LoadedRules => ({ policy: undefined, draft: undefined, findings: sorted(list), accepted: [], schemas: options.schemas, included, files, params, under, underInPieces })
  if (united.findings.length > 0) return refused(united.findings)
  const { yaml, params, unused, explain, findings: unfilled } = fillParams(united.yaml, options.params)
  if (unfilled.length > 0) return refused(unfilled, params)
  yield
  const wrong = validate(yaml, yaml.value)
  if (wrong.length > 0) return refused(wrong.map(explain), params)

  yield
  const rules = yaml.value as RulesFile
  const findings = new Findings(yaml)
  const origin = new Map<object, Where>()
  for (const problem of options.schemas.problems) findings.add('SCHEMA-PROBLEM', { path: [] }, problem.endsWith('.') ? problem : `${problem}.`)
  const schemas = classify(rules, options.schemas, findings)
  yield
  const streams = readStreams(rules, schemas, findings)
  const purposes = readPurposes(rules, findings)
  const basis = readLegalBasis(rules, purposes, findings)
  const groups = new Set([...basis.table.groups.values()].flat())
  const zones = readZones(rules, findings)
  yield
  const { recipients, outputs } = yield* readOutputs({ rules, streams: new Map(streams.map((one) => [one.id, one])), purposes, groups, zones }, findings, origin)
  yield
  const policy: Policy = {
    id: rules.policy?.id ?? basename(yaml.file, extname(yaml.file)),
    effective: rules.policy?.effective,
    notice: rules.policy?.notice,
    streams,
    subject: readSubject(rules, streams, findings),
    purposes,
    basis: basis.table,
    recipients,
    outputs,
    zones,
    tests: readTests({ rules, streams, purposes, outputs }, findings),
    hash: hashOf(yaml.text, { included, params }, schemas),
  }
  for (const name of unused) findings.add('PARAM-UNUSED', { path: ['params', name], of: 'key' }, `The parameter "${name}" is used nowhere.`)
  const source = { policy, rules, basis, origin, findings, bridges: options.bridges }
  const resolved = findings.errors === 0
  // Checks and lints on half a policy would report what follows from the mistakes above.
  if (resolved) {
    yield
    checkPolicy(source)
    yield* lintPolicy(source)
  }
  const today = options.today ?? new Date().toISOString().slice(0, 10)
  const { kept, accepted } = applyAccepted(rules.accept ?? [], findings, { today, complete: resolved })
  const usable = !kept.some((one) => one.severity === 'error')
  return { policy: usable ? policy : undefined, draft: resolved ? policy : undefined, findings: bounded(sorted(kept.map(explain)), yaml), accepted, schemas, included, files, params, under, underInPieces }
}

/** Of everything that decides: texts, values, schemas. A file that neither includes nor declares anything is hashed as it always was. */
function hashOf(text: string, { included, params }: Pick<LoadedRules, 'included' | 'params'>, schemas: Schemas): string {
  const hash = createHash('sha256').update(text).update('\u0000')
  if (Object.keys(included).length + Object.keys(params).length > 0) hash.update(JSON.stringify([Object.entries(included), Object.entries(params)])).update('\u0000')
  return hash.update(schemas.hash).digest('hex')
}

/** `fields:` -> the same schemas, classified. What our own options say cannot be overridden here, only weakened would be the use of it. */
function classify(rules: RulesFile, schemas: Schemas, findings: Findings): Schemas {
  const overrides = new Map<string, Classification>()
  for (const [key, text] of Object.entries(rules.fields ?? {})) {
    const where: Where = { path: ['fields', key], of: 'key' }
    const messageName = key.slice(0, key.lastIndexOf('.'))
    const fieldName = key.slice(key.lastIndexOf('.') + 1)
    let message
    try {
      message = schemas.message(messageName)
    } catch {
      // The streams that use it report what is wrong with the message.
      continue
    }
    if (message === undefined) {
      findings.add('UNKNOWN-MESSAGE', where, `There is no message "${messageName}" in the .proto files.`, suggestion(messageName, schemas.messages.filter((one) => !one.startsWith('google.'))))
      continue
    }
    const field = message.byName.get(fieldName)
    if (field === undefined) {
      findings.add('UNKNOWN-FIELD', where, `The message ${messageName} has no field "${fieldName}".`, nearest(fieldName, message.byName.keys()) === undefined ? undefined : suggestion(fieldName, message.byName.keys()))
    } else if (field.classified !== undefined) {
      findings.add('CLASSIFIED', where, `The schema itself classifies "${key}".`)
    } else {
      overrides.set(key, {
        category: text.category ?? 'other', class: text.class ?? 'additional', personal: text.personal ?? 'always', subject: text.subject ?? 'none',
        unit: text.unit ?? '', scale: text.scale ?? 1,
      })
    }
  }
  return overrides.size === 0 ? schemas : schemas.classify(overrides)
}

function bounded(findings: readonly Finding[], yaml: Yaml): Finding[] {
  if (findings.length <= LIMITS.findings) return [...findings]
  // Errors first: a flood of warnings must not hide why the file is refused.
  const errors = findings.filter((one) => one.severity === 'error')
  const kept = sorted([...errors, ...findings.filter((one) => one.severity === 'warning')].slice(0, LIMITS.findings))
  const last = kept[kept.length - 1] as Finding
  return [...kept, { severity: last.severity, code: 'MORE', place: { file: yaml.file, line: last.place.line, col: last.place.col }, path: '', text: `There are ${findings.length - kept.length} findings more.` }]
}
