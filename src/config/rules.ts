/**
 * The rules file -> a checked Policy, or findings that say where and how to mend it.
 * Reading goes outside in: YAML, JSON Schema, names, meaning (check.ts), lints (lint.ts). Each stage needs the one before it.
 */
import { createHash } from 'node:crypto'
import { basename, extname } from 'node:path'
import type { Finding } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Policy } from '../domain/policy.ts'
import type { Classification } from '../domain/schema.ts'
import type { Schemas } from '../minimise/descriptor.ts'
import { checkPolicy } from './check.ts'
import { Findings, sorted, type Where } from './findings.ts'
import { readLegalBasis, readPurposes } from './legal-basis.ts'
import { applyAccepted, lintPolicy, type AcceptedLint } from './lint.ts'
import { nearest, suggestion } from './nearest.ts'
import { readOutputs } from './outputs.ts'
import { readTests } from './rule-tests.ts'
import type { RulesFile } from './rules-file.ts'
import { rulesSchema } from './schema.ts'
import { readStreams, readSubject } from './streams.ts'
import { validator } from './validation.ts'
import { parseYaml, readYaml, type Yaml } from './yaml.ts'
import { readZones } from './zones.ts'

export interface RulesOptions {
  readonly schemas: Schemas
  /** Bridges of the gateway file, name -> recipient; without it `via` is not checked. */
  readonly bridges?: ReadonlyMap<string, { readonly recipient: string }>
  /** The day for `accept: until`, `2026-11-23`; today (UTC) when left out. */
  readonly today?: string
}

export interface LoadedRules {
  /** Accepted: no error of any kind. */
  readonly policy: Policy | undefined
  /** What could be built although lints or rules object: for previews, never for serving. */
  readonly draft: Policy | undefined
  /** In file order. */
  readonly findings: readonly Finding[]
  /** Lints that `accept:` waives; for diff, report and ledger. */
  readonly accepted: readonly AcceptedLint[]
  /** Schemas with the file's `fields:` applied. */
  readonly schemas: Schemas
}

/** Reads, resolves and checks a rules file that is in memory. Never throws for anything that stands in it. */
export function loadRules(file: string, text: string, options: RulesOptions): LoadedRules {
  return loadYaml(parseYaml(file, text), options)
}

/** The same for a file on disk. */
export function loadRulesFile(file: string, options: RulesOptions): LoadedRules {
  return loadYaml(readYaml(file), options)
}

const validate = validator(rulesSchema())

function loadYaml(yaml: Yaml, options: RulesOptions): LoadedRules {
  const refused = (list: readonly Finding[]): LoadedRules => ({ policy: undefined, draft: undefined, findings: sorted(list), accepted: [], schemas: options.schemas })
  if (yaml.findings.length > 0) return refused(yaml.findings)
  const wrong = validate(yaml, yaml.value)
  if (wrong.length > 0) return refused(wrong)

  const rules = yaml.value as RulesFile
  const findings = new Findings(yaml)
  const origin = new Map<object, Where>()
  for (const problem of options.schemas.problems) findings.add('SCHEMA-PROBLEM', { path: [] }, problem.endsWith('.') ? problem : `${problem}.`)
  const schemas = classify(rules, options.schemas, findings)
  const streams = readStreams(rules, schemas, findings)
  const purposes = readPurposes(rules, findings)
  const basis = readLegalBasis(rules, purposes, findings)
  const groups = new Set([...basis.table.groups.values()].flat())
  const zones = readZones(rules, findings)
  const { recipients, outputs } = readOutputs({ rules, streams: new Map(streams.map((one) => [one.id, one])), purposes, groups, zones }, findings, origin)
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
    hash: createHash('sha256').update(yaml.text).update('\u0000').update(schemas.hash).digest('hex'),
  }
  const source = { policy, rules, basis, origin, findings, bridges: options.bridges }
  const resolved = findings.errors === 0
  // Checks and lints on half a policy would report what follows from the mistakes above.
  if (resolved) {
    checkPolicy(source)
    lintPolicy(source)
  }
  const today = options.today ?? new Date().toISOString().slice(0, 10)
  const { kept, accepted } = applyAccepted(rules.accept ?? [], findings, { today, complete: resolved })
  const usable = !kept.some((one) => one.severity === 'error')
  return { policy: usable ? policy : undefined, draft: resolved ? policy : undefined, findings: bounded(sorted(kept), yaml), accepted, schemas }
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
