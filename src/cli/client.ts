/**
 * A running gateway as the commands see it: its admin API, with a token from a file or the environment. Tokens are never
 * taken from the command line, where every user of the machine could read them, and never sent in clear over a network.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { GatewayError } from '../domain/errors.ts'
import type { Args, Io, Option } from './command.ts'
import { UsageError } from './command.ts'
import { gatewayPath } from './gateway-file.ts'

/** Options of every command that talks to a gateway. */
export const GATEWAY_OPTIONS: readonly Option[] = [
  { name: 'url', arg: 'URL', text: 'admin API of the gateway, default http://127.0.0.1:8080 (or PARAPET_URL)' },
  { name: 'token-file', arg: 'FILE', text: 'file with the token, default admin.token in the data folder (or the token itself in PARAPET_TOKEN)' },
]

export interface GatewayClient {
  /** One request; a text as body is YAML. Throws GatewayError with the code, detail and mend of the problem that came back, or NO-GATEWAY. */
  request<Answer>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<Answer>
}

export function gatewayClient(args: Args, io: Io): GatewayClient {
  const base = baseOf(args.get('url') ?? io.env['PARAPET_URL'] ?? 'http://127.0.0.1:8080')
  const token = tokenOf(args, io)

  return {
    async request<Answer>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<Answer> {
      const payload = body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }
      const type = body === undefined ? {} : { 'content-type': typeof body === 'string' ? 'application/yaml' : 'application/json' }
      let response: Response
      try {
        const headers = { authorization: `Bearer ${token}`, ...type }
        response = await fetch(new URL(path, base), { method, headers, ...payload, redirect: 'error', signal: AbortSignal.timeout(30_000) })
      } catch {
        throw new GatewayError('NO-GATEWAY', `No gateway answers at ${base.origin}.`, 'Start it with: npm start. Or name it with --url.')
      }
      const text = await response.text()
      if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as Answer
      throw problem(response.status, text)
    },
  }
}

function baseOf(text: string): URL {
  if (!URL.canParse(text)) throw new UsageError('--url is not an address such as http://127.0.0.1:8080.')
  const url = new URL(text)
  const local = url.hostname === 'localhost' || url.hostname === '[::1]' || url.hostname.startsWith('127.')
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local)) {
    throw new GatewayError('TOKEN-IN-CLEAR', 'The token would cross a network in clear.', 'Use https, or a tunnel to 127.0.0.1.')
  }
  return url
}

function tokenOf(args: Args, io: Io): string {
  const file = args.get('token-file')
  const fromEnv = io.env['PARAPET_TOKEN']
  if (file === undefined && fromEnv !== undefined && fromEnv !== '') return fromEnv
  const tried = file === undefined ? [relative(io.cwd, join(gatewayPath(io, undefined, 'data', './data'), 'admin.token')), 'data/admin.token'] : [file]
  for (const path of tried.map((name) => resolve(io.cwd, name))) {
    if (!existsSync(path)) continue
    // [IEC 62443-4-2 CR 1.5] Who can read the file is whoever it names.
    if (process.platform !== 'win32' && (statSync(path).mode & 0o077) !== 0) {
      throw new GatewayError('TOKEN-MODE', `${path} can be read by others.`, `Run: chmod 600 ${path}`)
    }
    return readFileSync(path, 'utf8').trim()
  }
  throw new GatewayError('NO-TOKEN', `There is no token in ${[...new Set(tried)].join(' or ')}.`, 'The gateway writes admin.token into its data folder at first start; name it with --token-file.')
}

function problem(status: number, text: string): GatewayError {
  try {
    const { code, detail, mend } = JSON.parse(text) as { code?: unknown; detail?: unknown; mend?: unknown }
    if (typeof code === 'string' && typeof detail === 'string') return new GatewayError(code, detail, typeof mend === 'string' ? mend : undefined)
  } catch {
    // Not a problem document: whoever answered is not a gateway.
  }
  return new GatewayError('NO-GATEWAY', `The answer (status ${status}) is not a gateway's.`, 'Check --url.')
}
