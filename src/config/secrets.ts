/**
 * Files that hold a secret: read only when nobody else can read them. [IEC 62443-4-2 CR 1.5] Who can read the key of a listener is the
 * gateway, and who can read the log-in of a bridge is the bridge.
 */
import { statSync } from 'node:fs'
import type { Finding } from '../domain/errors.ts'
import { found, readText } from './yaml.ts'

/** As `readText`, and a finding SECRET-MODE when others than the owner may read or write the file. */
export function readSecret(file: string): { readonly text: string } | { readonly finding: Finding } {
  const problem = modeProblem(file)
  return problem === undefined ? readText(file) : { finding: found('SECRET-MODE', { file, line: 1, col: 1 }, '', problem, `Run: chmod 600 ${file}`) }
}

/** What is wrong with the mode of a secret file, undefined when nothing is or there is no such file. Windows has no such modes. */
export function modeProblem(file: string): string | undefined {
  const mode = process.platform === 'win32' ? undefined : statSync(file, { throwIfNoEntry: false })?.mode
  return mode === undefined || (mode & 0o077) === 0 ? undefined : `The file ${file} can be read by others (mode ${(mode & 0o777).toString(8)}).`
}
