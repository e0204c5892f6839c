/**
 * Runs the public protobuf conformance suite against the minimiser with an identity plan: `node test/conformance/run.ts`.
 * Options after the name go to the runner, e.g. `--test NAME` for one case. PARAPET_ENGINE=interpreted tests the interpreter alone.
 *
 * The tests that must fail are listed in failures.txt with their reasons; a test that fails beside them, or one of them that
 * passes, makes the exit code 1.
 *
 * The runner is a binary for glibc 2.38 and newer. On an older Linux unpack libc6, libstdc++6 and libgcc-s1 of a newer distribution
 * into a folder (`dpkg-deb -x FILE.deb FOLDER` for each) and name it: PARAPET_GLIBC=FOLDER. Only the runner uses it; the
 * tested process starts with the system's own libraries.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from './package.ts'

const GLIBC = [2, 38] as const

const folder = mkdtempSync(join(tmpdir(), 'parapet-conformance-'))
let status = 1
try {
  status = run(process.argv.slice(2))
} finally {
  rmSync(folder, { recursive: true })
}
process.exit(status)

function run(options: readonly string[]): number {
  const command = runner()
  if (command === undefined) return 2
  const list = join(import.meta.dirname, 'failures.txt')
  const args = [...command.slice(1), '--maximum_edition', '2023', '--enforce_recommended', '--failure_list', list, '--output_dir', folder, ...options, wrapper()]
  const result = spawnSync(command[0] as string, args, { stdio: 'inherit' })
  if (result.error !== undefined) throw result.error
  return result.status ?? 1
}

/** The runner's command line up to its options, or undefined where it cannot start. */
function runner(): readonly string[] | undefined {
  const arch = process.platform === 'darwin' ? 'x64' : process.arch
  const binary = join(packageRoot(), 'bin', `conformance_test_runner-${process.platform}-${arch}`)
  if (!existsSync(binary)) {
    console.error(`The package has no runner for ${process.platform}-${arch}. It has linux-x64 and darwin-x64.`)
    return undefined
  }
  if (process.platform !== 'linux' || isNewEnough()) return [binary]
  const root = process.env.PARAPET_GLIBC
  const libraries = root === undefined ? '' : join(root, 'usr/lib/x86_64-linux-gnu')
  const loader = join(libraries, 'ld-linux-x86-64.so.2')
  if (root === undefined || !existsSync(loader)) {
    console.error(`The runner needs glibc ${GLIBC.join('.')} or newer; this system has ${glibc()}. Unpack libc6, libstdc++6 and libgcc-s1 of a newer distribution into a folder and name it: PARAPET_GLIBC=FOLDER.`)
    return undefined
  }
  return [loader, '--library-path', libraries, binary]
}

function glibc(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime ?? '0.0'
}

function isNewEnough(): boolean {
  const [major = 0, minor = 0] = glibc().split('.').map(Number)
  return major > GLIBC[0] || (major === GLIBC[0] && minor >= GLIBC[1])
}

/** The runner starts one program without arguments, and once for each of its suites. */
function wrapper(): string {
  const path = join(folder, 'testee')
  writeFileSync(path, `#!/bin/sh\nunset LD_LIBRARY_PATH\nexec '${process.execPath}' '${join(import.meta.dirname, 'testee.ts')}'\n`)
  chmodSync(path, 0o755)
  return path
}
