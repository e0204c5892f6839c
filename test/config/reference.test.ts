/** The reference in config/README.md is made from the specs: transforms and finding codes. `UPDATE=1 npx vitest run test/config/reference.test.ts` writes it anew. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CODES } from '../../src/config/codes.ts'
import { runCommand } from '../../src/cli/command.ts'
import { testIo } from '../cli/io.ts'

const file = resolve(import.meta.dirname, '../../config/README.md')

/** Text between `<!-- NAME -->` and `<!-- /NAME -->`. */
function section(text: string, name: string): string {
  const [, body] = new RegExp(`<!-- ${name} -->\\n([\\s\\S]*?)<!-- /${name} -->`).exec(text) ?? []
  return body ?? ''
}

async function transforms(): Promise<string> {
  const io = testIo()
  expect(await runCommand(['transforms', '--format', 'markdown'], io)).toBe(0)
  return io.out()
}

function codes(): string {
  const rows = Object.entries(CODES).map(([code, { severity, kind, sentence, mend, never }]) => `| \`${code}\` | ${severity}${kind === 'lint' && never !== true ? ', can be accepted' : ''} | ${sentence} ${mend} |`)
  return ['| code | | what it means, and the mend |', '| --- | --- | --- |', ...rows, ''].join('\n')
}

describe('config/README.md', () => {
  test.each([['transforms', transforms], ['codes', () => Promise.resolve(codes())]] as const)('has the %s as the specs say', async (name, make) => {
    const text = readFileSync(file, 'utf8')
    const made = await make()
    if (process.env.UPDATE === '1') writeFileSync(file, text.replace(new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- /${name} -->)`), (_all, open: string, close: string) => `${open}${made}${close}`))
    expect(section(readFileSync(file, 'utf8'), name)).toBe(made)
  })
})
