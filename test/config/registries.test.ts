import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseCsv } from '../../src/config/csv.ts'
import { loadMachines, readMachines } from '../../src/config/machines.ts'
import { loadOperatorsText } from '../../src/config/operators.ts'
import { loadRecipientsText } from '../../src/config/recipients.ts'
import { parseYaml } from '../../src/config/yaml.ts'

const machines = (text: string): ReturnType<typeof readMachines> => readMachines([parseYaml('machines.yaml', text)])
const csv = (text: string): ReturnType<typeof readMachines> => readMachines([parseCsv('machines.csv', text)])
const list = (loaded: { readonly findings: readonly { readonly code: string; readonly place: { readonly line: number; readonly col: number } }[] }): string[] =>
  loaded.findings.map(({ code, place }) => `${place.line}:${place.col} ${code}`)

const SCRYPT = 'scrypt$16384$8$1$c2FsdA$aGFzaA'

describe('machines', () => {
  const one = {
    id: 'SN-1', fleet: 'demo', model: 'boom', labels: { site: 'lyon-4', bay: '7' }, country: 'FR', operatorCollection: 'on', holder: 'rental',
    credential: SCRYPT, certificate: undefined,
  }

  test.each([
    ['under a key', `machines:\n  SN-1: { fleet: demo, model: boom, labels: { site: lyon-4, bay: 7 }, country: FR, operator_collection: on, holder: rental, credential: "${SCRYPT}" }`],
    ['as the file', `SN-1: { fleet: demo, model: boom, labels: { site: lyon-4, bay: 7 }, country: FR, operator_collection: on, holder: rental, credential: "${SCRYPT}" }`],
  ])('%s', (_, text) => {
    expect(machines(text)).toEqual({ machines: new Map([['SN-1', one]]), findings: [] })
  })

  test.each([
    ['commas', `id,fleet,model,label.site,label.bay,country,operator_collection,holder,credential\nSN-1,demo,boom,lyon-4,7,FR,on,rental,${SCRYPT}\n`],
    ['semicolons, quotes, Windows line ends, no last line end', `id;fleet;model;label.site;label.bay;country;operator_collection;holder;credential\r\n"SN-1";demo;"boom";lyon-4;7;FR;on;rental;${SCRYPT}`],
  ])('CSV with %s', (_, text) => {
    expect(csv(text)).toEqual({ machines: new Map([['SN-1', one]]), findings: [] })
  })

  test('what is not said is unknown, and unknown counts as off', () => {
    expect(machines('SN-1: { fleet: demo, model: boom }').machines?.get('SN-1')).toMatchObject({ country: undefined, operatorCollection: 'unknown', labels: {}, credential: undefined })
    expect(csv('id,fleet,model,country\nSN-1,demo,boom,\n').machines?.get('SN-1')).toMatchObject({ country: undefined, operatorCollection: 'unknown' })
  })

  test('UK is GB', () => {
    expect(machines('SN-1: { fleet: demo, model: boom, country: UK }').machines?.get('SN-1')?.country).toBe('GB')
  })

  test.each([
    ['SN-1: { fleet: demo }', ['1:1 MISSING-KEY']],
    ['SN-1: { fleet: demo, model: b, contry: FR }', ['1:32 UNKNOWN-KEY']],
    ['SN-1: { fleet: demo, model: b, country: Frankreich }', ['1:41 UNKNOWN-PLACE']],
    ['SN-1: { fleet: demo, model: b, operator_collection: true }', ['1:53 BAD-VALUE']],
    ['SN-1: { fleet: demo, model: b, credential: hunter2 }', ['1:44 BAD-VALUE']],
    ['"SN/1": { fleet: demo, model: b }', ['1:1 BAD-NAME']],
    ['"#": { fleet: demo, model: b }', ['1:1 BAD-NAME']],
    ['SN-1: { fleet: "a/b", model: b }', ['1:16 BAD-VALUE']],
    ['SN-1: { fleet: f, model: b }\nSN-1: { fleet: f, model: b }', ['2:1 YAML-DUPLICATE-KEY']],
    ['SN-1: { fleet: f, model: b, certificate: x }\nSN-2: { fleet: f, model: b, certificate: x }', ['2:29 DUPLICATE-ID']],
    ['SN-1: { fleet: f, model: b }\nSN-2: { fleet: f, model: b, certificate: SN-1 }', ['2:29 DUPLICATE-ID']],
    ['- SN-1', ['1:1 WRONG-TYPE']],
  ])('%s', (text, expected) => {
    const loaded = machines(text)
    expect(list(loaded)).toEqual(expected)
    expect(loaded.machines).toBeUndefined()
  })

  test.each([
    ['id,fleet,model\nSN-1,demo\n', ['2:1 BAD-CSV']],
    ['fleet,model\n', ['1:1 BAD-CSV']],
    ['', ['1:1 BAD-CSV']],
    ['id,fleet,model\n"SN-1,demo,boom\n', ['2:1 BAD-CSV']],
    ['id,fleet,model\n"SN"-1,demo,boom\n', ['2:1 BAD-CSV']],
    ['id,fleet,model\nSN-1,demo,boom\nSN-1,demo,boom\n', ['3:1 DUPLICATE-ID']],
    ['id,fleet,model,country\nSN-1,demo,boom,ZZ\n', ['2:16 UNKNOWN-PLACE']],
    ['id,fleet,modl\nSN-1,demo,boom\n', ['2:1 MISSING-KEY', '2:11 UNKNOWN-KEY']],
  ])('CSV %j', (text, expected) => {
    expect(list(csv(text))).toEqual(expected)
  })

  test('a line end inside quotes moves the lines after it', () => {
    expect(list(csv('id,fleet,model,holder\nSN-1,demo,boom,"a\nb"\nSN-2,demo,boom\n'))).toEqual(['4:1 BAD-CSV'])
  })

  test('a folder is read whole, and one id in two files is refused', () => {
    const folder = mkdtempSync(join(tmpdir(), 'parapet-machines-'))
    writeFileSync(join(folder, 'north.yaml'), 'SN-1: { fleet: north, model: boom }')
    writeFileSync(join(folder, 'south.csv'), 'id,fleet,model\nSN-2,south,boom\n')
    writeFileSync(join(folder, 'notes.txt'), 'nothing of ours')
    expect([...(loadMachines(folder).machines?.keys() ?? [])]).toEqual(['SN-1', 'SN-2'])
    writeFileSync(join(folder, 'west.yaml'), 'SN-2: { fleet: west, model: boom }')
    expect(list(loadMachines(folder))).toEqual(['1:1 DUPLICATE-ID'])
  })

  test('a file that is not there is a finding, an empty folder an empty registry', () => {
    expect(list(loadMachines('/nowhere/machines.yaml'))).toEqual(['1:1 FILE-UNREADABLE'])
    const folder = join(mkdtempSync(join(tmpdir(), 'parapet-machines-')), 'empty')
    mkdirSync(folder)
    expect(loadMachines(folder)).toEqual({ machines: new Map(), findings: [] })
  })

  test('findings name no machine', () => {
    for (const text of ['SN-4711: { fleet: demo }', 'SN-4711: { fleet: f, model: b, country: ZZ }', 'SN-4711: 5', 'a: { fleet: f, model: b, certificate: SN-4711 }\nSN-4711: { fleet: f, model: b }', 'SN/4711: {}', 'SN-4711: { fleet: f, model: b, credential: SN-4711 }']) {
      const loaded = machines(text)
      expect(loaded.findings.length).toBeGreaterThan(0)
      expect(JSON.stringify(loaded.findings)).not.toContain('4711')
    }
  })

  test('no text makes it throw', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.constantFrom('id', ',', ';', '"', '\n', '\r\n', 'SN-1', 'fleet', 'model', '\u0000', 'label.'), fc.string({ maxLength: 5 })), { maxLength: 40 }), (parts) => {
      const loaded = csv(parts.join(''))
      expect(loaded.machines !== undefined || loaded.findings.length > 0).toBe(true)
      machines(parts.join(''))
    }), { numRuns: 500 })
  })
})

describe('operators', () => {
  const load = (text: string): ReturnType<typeof loadOperatorsText> => loadOperatorsText('operators.yaml', text)

  test('who has which card, and when', () => {
    const text = 'operators:\n  - { id: op-anna, kind: personal, country: UK, valid: { from: 2024-01-01, to: 2025-07-01 }, cards: ["A-1", "PIN-5501"] }\n  - { id: op-site, kind: shared, cards: ["0000"] }'
    const expected = [
      { id: 'op-anna', kind: 'personal', country: 'GB', validFromMs: Date.UTC(2024, 0, 1), validToMs: Date.UTC(2025, 6, 1), cards: ['A-1', 'PIN-5501'] },
      { id: 'op-site', kind: 'shared', country: undefined, validFromMs: undefined, validToMs: undefined, cards: ['0000'] },
    ]
    expect(load(text)).toEqual({ operators: expected, findings: [] })
    expect(load(text.slice('operators:\n'.length))).toEqual({ operators: expected, findings: [] })
    expect(load('').operators).toEqual([])
  })

  test('a card may pass on, but not be with two at once', () => {
    const anna = (to: string): string => `- { id: op-anna, kind: personal, valid: { to: ${to} }, cards: [A-1] }\n`
    expect(load(`${anna('2025-07-01')}- { id: op-ben, kind: personal, valid: { from: 2025-07-01 }, cards: [A-1] }`).findings).toEqual([])
    expect(list(load(`${anna('2025-07-02')}- { id: op-ben, kind: personal, valid: { from: 2025-07-01 }, cards: [A-1] }`))).toEqual(['2:70 BAD-VALIDITY'])
  })

  test.each([
    ['- { id: op-anna, kind: personal, cards: [1001] }', '1:42 WRONG-TYPE'],
    ['- { id: op-anna, kind: personel, cards: ["1"] }', '1:24 BAD-VALUE'],
    ['- { id: "Anna Beispiel", kind: personal, cards: ["1"] }', '1:9 BAD-VALUE'],
    ['- { id: op-anna, kind: personal }', '1:3 MISSING-KEY'],
    ['- { id: op-anna, kind: personal, cards: ["1"], country: ZZ }', '1:57 UNKNOWN-PLACE'],
    ['- { id: op-anna, kind: personal, cards: ["1"], valid: { from: 2025-02-30 } }', '1:63 BAD-VALUE'],
    ['- { id: op-anna, kind: personal, cards: ["1"], valid: { from: 2025-07-01, to: 2025-07-01 } }', '1:55 BAD-VALIDITY'],
    ['- { id: op-a, kind: personal, cards: ["1"] }\n- { id: op-a, kind: shared, cards: ["2"] }', '2:9 DUPLICATE-ID'],
    ['- { id: op-a, kind: personal, cards: ["1"], valid: { to: 2025-07-01 } }\n- { id: op-a, kind: personal, cards: ["2"], valid: { from: 2025-07-01 } }', '2:9 DUPLICATE-ID'],
    ['- { id: op-a, kind: personal, cards: ["1"] }\n- { id: op-b, kind: personal, cards: ["2", " 1"] }', '2:44 BAD-VALIDITY'],
    // A letter with its accent, and the same as a letter and an accent.
    ['- { id: op-a, kind: personal, cards: ["\u00e91"] }\n- { id: op-b, kind: personal, cards: ["e\u03011"] }', '2:39 BAD-VALIDITY'],
    ['- { id: op-a, kind: personal, cards: ["1", "1 "] }', '1:44 DUPLICATE-ID'],
    ['- { id: op-a, kind: personal, cards: ["1", "  "] }', '1:44 BAD-VALUE'],
  ])('%s', (text, expected) => {
    expect(list(load(text))).toEqual([expected])
    expect(load(text).operators).toBeUndefined()
  })

  test('findings name neither card nor person', () => {
    for (const text of ['- { id: op-4711, kind: personel, cards: [4711] }', '- { id: "op 4711", kind: personal, cards: ["4711", "4711"] }', '- { id: a, kind: personal, cards: ["4711"] }\n- { id: b, kind: personal, cards: ["4711"] }']) {
      const { findings } = load(text)
      expect(findings.length).toBeGreaterThan(0)
      expect(JSON.stringify(findings)).not.toContain('4711')
    }
  })
})

describe('recipients', () => {
  const load = (text: string, known?: ReadonlySet<string>): ReturnType<typeof loadRecipientsText> => loadRecipientsText('recipients.yaml', text, known)

  test('one log-in or several', () => {
    expect(load(`recipients:\n  oem-cloud: {}\n  planner: [{ user: p1, credential: "${SCRYPT}" }, { user: p2, certificate: planner.example }]`).recipients).toEqual(new Map([
      ['oem-cloud', [{ user: 'oem-cloud', credential: undefined, certificate: undefined }]],
      ['planner', [{ user: 'p1', credential: SCRYPT, certificate: undefined }, { user: 'p2', credential: undefined, certificate: 'planner.example' }]],
    ]))
  })

  test.each([
    ['oem-cloud: { password: x }', '1:14 UNKNOWN-KEY'],
    ['oem-cloud: { credential: x }', '1:26 BAD-VALUE'],
    ['a: { user: u }\nb: { user: u }', '2:1 DUPLICATE-ID'],
    ['a: { certificate: c }\nb: { certificate: c }', '2:1 DUPLICATE-ID'],
    ['oem-cloud:', '1:11 WRONG-TYPE'],
  ])('%s', (text, expected) => {
    expect(list(load(text))).toEqual([expected])
  })

  test('a log-in for nobody in the rules is a warning', () => {
    const loaded = load('oem-cloud: {}\nold: {}', new Set(['oem-cloud']))
    expect(loaded.findings.map((finding) => [finding.severity, finding.code, finding.place.line])).toEqual([['warning', 'UNUSED-LOGIN', 2]])
    expect(loaded.recipients?.size).toBe(2)
  })
})
