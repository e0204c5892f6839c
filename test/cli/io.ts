/** A world for a command: what it prints is kept, nothing is read, the working directory is a fresh folder. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import type { Io } from '../../src/cli/command.ts'

export interface TestIo extends Io {
  readonly out: () => string
  readonly err: () => string
}

export function testIo(stdin: string | Uint8Array = '', env: Readonly<Record<string, string>> = {}, cwd: string = mkdtempSync(join(tmpdir(), 'parapet-cli-'))): TestIo {
  const [stdout, stderr] = [kept(), kept()]
  return {
    stdin: Readable.from([Buffer.from(stdin)]), stdout: stdout.stream, stderr: stderr.stream, env, cwd,
    out: stdout.text, err: stderr.text,
  }
}

function kept(): { readonly stream: Writable; readonly text: () => string } {
  const chunks: Buffer[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk)
      done()
    },
  })
  return { stream, text: () => Buffer.concat(chunks).toString() }
}
