import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { checkFiles } from '../../src/config/check-files.ts'
import { formatFinding } from '../../src/domain/errors.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const shipped = { rules: join(root, 'config/rules/awp.yaml'), gateway: join(root, 'config/gateway.yaml') }

describe('what ships', () => {
  test('has no finding', () => {
    const checked = checkFiles({ ...shipped, today: '2026-11-23' })
    expect(checked.findings.map(formatFinding)).toEqual([])
    expect(checked.rules.policy?.outputs.map((output) => output.id)).toEqual(['service-cloud', 'site-planning', 'rental-billing', 'security-log', 'safety-record', 'operator-app'])
    expect(checked.gateway?.name).toBe('depot-7')
  })
})

describe('around the rules', () => {
  const folder = mkdtempSync(join(tmpdir(), 'parapet-check-'))
  const write = (name: string, text: string): string => {
    const path = join(folder, name)
    writeFileSync(path, text)
    return path
  }
  const check = (gateway: string): string[] =>
    checkFiles({ rules: shipped.rules, gateway: write('gateway.yaml', `proto: [${join(root, 'proto')}]\n${gateway}`), today: '2026-11-23' }).findings.map((finding) => `${finding.place.file.slice(folder.length + 1)}:${finding.place.line}:${finding.place.col} ${finding.code}`)

  test('registries are checked too', () => {
    write('machines.yaml', 'SN-1: { fleet: f }')
    write('operators.yaml', '- { id: op-a, kind: personal, cards: [7] }')
    write('recipients.yaml', 'oem-clud: {}')
    expect(check('')).toEqual(['machines.yaml:1:1 MISSING-KEY', 'operators.yaml:1:39 WRONG-TYPE', 'recipients.yaml:1:1 UNUSED-LOGIN'])
  })

  test('bridges must serve a recipient of the rules', () => {
    for (const name of ['machines.yaml', 'operators.yaml', 'recipients.yaml']) write(name, '')
    expect(check('bridges: { cloud: { recipient: oem-cloud, url: "mqtts://mqtt.example.com" } }')).toEqual([])
    expect(check('bridges: { cloud: { recipient: oem-clud, url: "mqtts://mqtt.example.com" } }')).toEqual(['gateway.yaml:2:32 UNKNOWN-RECIPIENT'])
  })

  test('a wrong gateway file does not hide what is wrong with the rules', () => {
    const rules = write('rules.yaml', 'version: 2\nstreams: {}\noutputs: {}\n')
    const gateway = write('gateway.yaml', 'nmae: x\n')
    expect(checkFiles({ rules, gateway }).findings.map((finding) => finding.code)).toEqual(['UNKNOWN-KEY', 'BAD-VALUE', 'BAD-VALUE', 'BAD-VALUE'])
  })

  test('a rules file that is not there', () => {
    expect(checkFiles({ rules: join(folder, 'none.yaml') }).findings.map((finding) => finding.code)).toEqual(['FILE-UNREADABLE'])
  })
})
