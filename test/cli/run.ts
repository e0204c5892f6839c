/** Runs one command line as `parapet` would, and gives back what it said. */
import { Readable, Writable } from 'node:stream'
import { runCommand } from '../../src/cli/command.ts'
import { testIo } from './io.ts'

export interface Said {
  readonly code: number
  readonly out: string
  readonly bytes: Buffer
  readonly err: string
}

/** @param stdin one piece, or several that arrive one after the other */
export async function parapet(argv: readonly string[], options: { readonly stdin?: string | Uint8Array | readonly Uint8Array[]; readonly cwd?: string } = {}): Promise<Said> {
  const { stdin = '', cwd } = options
  const io = testIo()
  const [out, err]: [Buffer[], Buffer[]] = [[], []]
  const into = (list: Buffer[]): Writable => new Writable({ write: (piece: Buffer, _encoding, done) => done(void list.push(piece) as undefined) })
  const pieces = typeof stdin === 'string' || stdin instanceof Uint8Array ? [Buffer.from(stdin)] : stdin
  const code = await runCommand(argv, { ...io, stdin: Readable.from(pieces), stdout: into(out), stderr: into(err), cwd: cwd ?? io.cwd })
  const bytes = Buffer.concat(out)
  return { code, out: bytes.toString('utf8'), bytes, err: Buffer.concat(err).toString('utf8') }
}
