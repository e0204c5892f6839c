/** The documents for people: there, linked, without a dead link, and true where a machine can tell. */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const read = (name: string): string => readFileSync(join(root, name), 'utf8')
const DOCUMENTS = ['README.md', 'SECURITY.md', 'CHANGELOG.md', 'config/README.md', 'bench/README.md']

/** Headings as the anchors that GitHub makes of them. */
function anchors(text: string): Set<string> {
  return new Set([...text.replace(/^```[^]*?^```$/gm, '').matchAll(/^#{1,6} (.+)$/gm)].map(([, title = '']) => title.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-')))
}

function deadLinks(name: string, text: string): string[] {
  const links = [...text.replace(/^```[^]*?^```$/gm, '').matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target).filter((target) => !/^[a-z]+:/.test(target))
  return links.filter((target) => {
    const [path = '', anchor] = target.split('#')
    const file = path === '' ? join(root, name) : resolve(root, dirname(name), path)
    if (!existsSync(file)) return true
    return anchor !== undefined && (statSync(file).isDirectory() || !anchors(path === '' ? text : readFileSync(file, 'utf8')).has(anchor))
  })
}

describe('links', () => {
  test.each(DOCUMENTS)('%s has no dead one', (name) => {
    expect(deadLinks(name, read(name))).toEqual([])
  })

  test('a dead one is found', () => {
    expect(deadLinks('README.md', '# A title\n[a](nowhere.md) [b](#a-title) [c](#elsewhere) [d](SECURITY.md#run-it-safely) [e](SECURITY.md#not-there)')).toEqual(['nowhere.md', '#elsewhere', 'SECURITY.md#not-there'])
  })

  test('README.md leads to the others', () => {
    for (const name of ['SECURITY.md', 'CHANGELOG.md', 'config/README.md', 'config/deploy/parapet.service', 'config/deploy/docker-compose.yaml', 'config/monitoring/alerts.yaml']) expect(read('README.md')).toContain(`](${name})`)
  })
})

describe('SECURITY.md', () => {
  const text = read('SECURITY.md')

  test('says how to report, how long there is support, what holds and what does not', () => {
    expect([...text.matchAll(/^## (.+)$/gm)].map(([, title]) => title)).toEqual([
      'Report a weakness', 'Versions and support', 'What is protected, from whom', 'What holds', 'What it does not protect against', 'Run it safely',
    ])
    expect(text).toMatch(/private vulnerability reporting/)
    // [Regulation (EU) 2024/2847 Art. 71(2)] 11 September 2026 for Article 14, 11 December 2027 for the rest.
    expect(text).toMatch(/11 September 2026/)
    expect(text).toMatch(/11 December 2027/)
    expect(text).not.toMatch(/TODO|TBD|example\.(?:com|org)|<[a-z-]+>|\[[A-Z _]+\]/)
  })

  test('has the eight guarantees, and a row for the version at hand', () => {
    const holds = /^## What holds\n([^]*?)^## /m.exec(text)?.[1] ?? ''
    expect([...holds.matchAll(/^(\d)\. \*\*/gm)].map(([, number]) => Number(number))).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    const { version } = JSON.parse(read('package.json')) as { readonly version: string }
    expect(text).toContain(`| ${version.split('.').slice(0, 2).join('.')} |`)
  })
})

test('CHANGELOG.md has the version at hand, in the form that it names', () => {
  const text = read('CHANGELOG.md')
  const { version } = JSON.parse(read('package.json')) as { readonly version: string }
  expect(text).toMatch(/^# Changelog$/m)
  expect(text).toContain(version)
  for (const [, title = ''] of text.matchAll(/^## (.+)$/gm)) expect(title).toMatch(/^\[(?:Unreleased|\d+\.\d+\.\d+)\](?: - \d{4}-\d{2}-\d{2})?$/)
  for (const [, title] of text.matchAll(/^### (.+)$/gm)) expect(['Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security']).toContain(title)
})
