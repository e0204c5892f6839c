/**
 * Where a gateway keeps its things, for commands that work beside it: read from the gateway file, else where a new one would put them.
 */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { readYaml } from '../config/yaml.ts'
import { GatewayError, formatFinding } from '../domain/errors.ts'
import type { Io, Option } from './command.ts'

export const CONFIG_OPTION: Option = { name: 'config', arg: 'FILE', text: 'the gateway file, default config/gateway.yaml or gateway.yaml' }

/**
 * A path that the gateway file names, absolute.
 * @param config    as given by --config; undefined = look at the usual places
 * @param fallback  used when there is no gateway file or it does not say; relative to the gateway file, else to the working directory
 * @throws GatewayError CONFIG-FILE  the named file is missing or not YAML
 */
export function gatewayPath(io: Io, config: string | undefined, key: 'data' | 'machines' | 'recipients', fallback: string): string {
  const { file, named } = gatewayText(io, config, key)
  return resolve(file === undefined ? io.cwd : dirname(file), named ?? fallback)
}

/**
 * A text of the gateway file as it stands there, and the file; both undefined when there is none.
 * @throws GatewayError CONFIG-FILE
 */
export function gatewayText(io: Io, config: string | undefined, key: string): { readonly file: string | undefined; readonly named: string | undefined } {
  const file = config === undefined ? ['config/gateway.yaml', 'gateway.yaml'].map((name) => resolve(io.cwd, name)).find((path) => existsSync(path)) : resolve(io.cwd, config)
  if (file === undefined) return { file, named: undefined }
  const { value, findings } = readYaml(file)
  const finding = findings.find(({ severity }) => severity === 'error')
  if (finding !== undefined) throw new GatewayError('CONFIG-FILE', formatFinding(finding))
  const named: unknown = typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[key] : undefined
  return { file, named: typeof named === 'string' ? named : undefined }
}
