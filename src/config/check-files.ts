/**
 * Everything short of running: the rules file with its schemas and, with a gateway file, what stands around it.
 */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Finding } from '../domain/errors.ts'
import type { Params } from '../domain/policy.ts'
import { loadSchemas } from '../minimise/descriptor.ts'
import { sorted } from './findings.ts'
import { loadGateway, type GatewayConfig } from './gateway.ts'
import { loadMachines } from './machines.ts'
import { suggestion } from './nearest.ts'
import { loadOperators } from './operators.ts'
import { loadRecipients } from './recipients.ts'
import { loadRulesFile, type LoadedRules } from './rules.ts'
import { found, readYaml } from './yaml.ts'

export interface CheckInput {
  readonly rules: string
  /** Gateway file: bridges, recipients, machines, operators and keys are checked too. */
  readonly gateway?: string
  readonly set?: readonly string[]
  /** Folders of .proto files beside those of the gateway file; `proto/` when there is neither. */
  readonly proto?: readonly string[]
  readonly today?: string
  /** Values for parameters, in the place of those in the gateway file and the rules file. */
  readonly params?: Params
}

export interface Checked {
  readonly rules: LoadedRules
  readonly gateway: GatewayConfig | undefined
  /** By file, line and column. */
  readonly findings: readonly Finding[]
}

export function checkFiles(input: CheckInput): Checked {
  const findings: Finding[] = []
  const gateway = input.gateway === undefined ? undefined : loadGateway(input.gateway, input.set)
  findings.push(...(gateway?.findings ?? []))
  const config = gateway?.config
  const folders = [...(config?.proto ?? (existsSync('proto') ? ['proto'] : [])), ...(input.proto ?? [])].map((folder) => resolve(folder))
  const rules = loadRulesFile(input.rules, {
    schemas: loadSchemas([...new Set(folders)]),
    ...(config === undefined ? {} : { bridges: config.bridges }),
    ...(input.today === undefined ? {} : { today: input.today }),
    params: { ...config?.params, ...input.params },
  })
  findings.push(...(config === undefined ? rules.findings : atGatewayFile(rules.findings, config)))
  if (config !== undefined) findings.push(...aroundTheRules(config, rules))
  return { rules, gateway: config, findings: sorted(findings) }
}

/** A value for a parameter that the rules do not declare is to be mended where it is given. */
function atGatewayFile(findings: readonly Finding[], config: GatewayConfig): Finding[] {
  const yaml = readYaml(config.file)
  return findings.map((finding) => {
    const name = finding.code === 'UNKNOWN-PARAM' && finding.path.startsWith('params.') ? finding.path.slice('params.'.length) : undefined
    return name !== undefined && yaml.has(['params', name]) ? { ...finding, place: yaml.place(['params', name], 'key') } : finding
  })
}

function aroundTheRules(config: GatewayConfig, rules: LoadedRules): Finding[] {
  const findings: Finding[] = []
  const known = rules.draft === undefined ? undefined : new Set(rules.draft.recipients.map((one) => one.id as string))
  // The gateway file's own check reports registries that it names and that are missing.
  if (existsSync(config.machines)) findings.push(...loadMachines(config.machines).findings)
  if (existsSync(config.operators)) findings.push(...loadOperators(config.operators).findings)
  if (existsSync(config.recipients)) findings.push(...loadRecipients(config.recipients, known).findings)
  const yaml = readYaml(config.file)
  for (const recipient of config.downlink.keys()) {
    const path = ['downlink', recipient]
    if (known !== undefined && !known.has(recipient)) findings.push(found('UNKNOWN-RECIPIENT', yaml.place(path, 'key'), path.join('.'), `The rules know no recipient "${recipient}".`, suggestion(recipient, known)))
  }
  for (const [name, bridge] of config.bridges) {
    const path = ['bridges', name, 'recipient']
    if (known !== undefined && !known.has(bridge.recipient)) findings.push(found('UNKNOWN-RECIPIENT', yaml.place(path), path.join('.'), `The rules know no recipient "${bridge.recipient}".`, suggestion(bridge.recipient, known)))
  }
  return findings
}
