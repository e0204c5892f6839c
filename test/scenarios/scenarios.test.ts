/** The table of scenarios, row by row; and whether each row could fail. */
import { afterAll, describe, expect, it, vi } from 'vitest'
import { WRONG } from './depot.ts'
import { play, type Outcome } from './runner.ts'
import { readStory } from './story.ts'
import { TABLE, type Scenario } from './table.ts'

// The story says when files are read again, and nobody else does.
vi.mock('../../src/config/watch.ts', () => ({ watchFiles: () => () => {}, watchNamed: () => ({ use: () => {}, close: () => {} }), signatureOf: () => '' }))

const ROWS: readonly Scenario[] = Object.values(TABLE).flat()
const played = new Map<Scenario, readonly Outcome[]>()

describe.each(Object.entries(TABLE))('%s', (_theme, rows) => {
  for (const row of rows) {
    const run = async (): Promise<void> => {
      const outcomes = await play(row.story, row.whole)
      played.set(row, outcomes)
      expect(outcomes.map((one) => [one.line, ...(one.got.get('') as readonly string[])])).toEqual(outcomes.map((one) => [one.line, ...one.expected]))
    }
    if (row.open === undefined) it(row.situation, run)
    else it.fails(`${row.situation} (open: ${row.open})`, run)
  }
})

describe('the table itself', () => {
  it('has at least 70 rows, each with a situation of its own', () => {
    expect(ROWS.length).toBeGreaterThanOrEqual(70)
    expect(new Set(ROWS.map(({ situation }) => situation)).size).toBe(ROWS.length)
  })

  it('understands no line that the grammar does not know', () => {
    for (const wrong of [
      '08:00 Anna signs in at Lyon-1', '08:00 Anna signs on at Paris', '08:00 Dora signs on at Lyon-1', 'Anna signs on at Lyon-1', '08:00 Lyon-1 sends a status dated yesterday',
      '-> service-cloud: 10 km cell', '08:00 Lyon-1 sends a status\n-> service-cloud: ten km cell', '08:00 Lyon-1 sends a status\n-> service-cloud 10 km cell',
      '08:00 Lyon-1 sends a status\n07:00 Lyon-1 sends a status\n-> nothing', '08:00 Lyon-1 sends a status',
    ]) expect(() => readStory(wrong), wrong).toThrow(/Not understood|No time|No such machine|An arrow|Time goes back|Nothing is expected/)
  })
})

/** Of a row that needs a whole gateway the story is made wrong instead: something that it turns on does not happen. */
const TURNS_ON: readonly RegExp[] = [
  / until \d\d:\d\d/g,
  /^.*(withdraws|objects|refuses|on this site only|the wider rules|the device setting).*\n/gm,
  /^.* chooses .*\n/gm,
  /^.*somebody changes a byte.*\n/gm,
  /^.* says yes .*\n/gm,
  /^.*Anna signs on.*\n/gm,
]

/** Whether a row that needs a whole gateway fails once something does not happen that it turns on. */
async function failsWithout({ story, whole }: Scenario): Promise<boolean> {
  for (const pattern of TURNS_ON) {
    const other = story.replaceAll(pattern, '')
    if (other !== story && !isKept(await play(other, whole), '')) return true
  }
  return false
}

function isKept(outcomes: readonly Outcome[], wrong: string): boolean {
  return outcomes.every(({ expected, got }) => !got.has(wrong) || same(got.get(wrong) as readonly string[], expected))
}

function same(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text, i) => text === other[i])
}

describe('against deliberate mistakes', () => {
  const killed = new Map<string, number>(Object.keys(WRONG).map((name) => [name, 0]))
  const survivors: string[] = []

  it('every row fails under one of them', async () => {
    for (const row of ROWS.filter(({ open }) => open === undefined)) {
      const outcomes = played.get(row) ?? (await play(row.story, row.whole))
      // A row that does not hold as it is says nothing here.
      if (!isKept(outcomes, '')) continue
      if (outcomes.some(({ got }) => got.size > 1)) {
        const killers = Object.keys(WRONG).filter((name) => !isKept(outcomes, name))
        for (const name of killers) killed.set(name, (killed.get(name) as number) + 1)
        if (killers.length === 0) survivors.push(row.situation)
        continue
      }
      if (!(await failsWithout(row))) survivors.push(row.situation)
    }
    expect(survivors).toEqual([])
  }, 60_000)

  afterAll(() => {
    console.info([...killed].map(([name, rows]) => `${rows} rows fail if ${name}`).join('\n'))
    if (survivors.length > 0) console.info(`Rows that no mistake makes fail:\n${survivors.join('\n')}`)
  })
})
