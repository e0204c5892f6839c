/**
 * The data folder of the fault tests: invented people, each with a machine, and rules whose outputs show whose data they carry
 * (`seq` is the number of the person) and whether it took a yes to let them out (copies.ts).
 */
import { writeFileSync } from 'node:fs'
import { Folder } from '../e2e/stage.ts'
import { rulesHead } from './rules.ts'

/** `op-0` with card `C-0` at `M-0` and so on; every fifth person is signed on at a second machine, `N-0`, `N-5`, … */
export function depot(people: number): Folder {
  const folder = new Folder()
  const machines = machinesOf(people).map((machine) => `${machine}: { fleet: demo, model: boom, country: FR, operator_collection: on }`)
  const operators = Array.from({ length: people }, (_, n) => `- { id: op-${n}, kind: personal, country: FR, valid: { from: 2024-01-01 }, cards: ["C-${n}"] }`)
  writeFileSync(folder.file('rules/awp.yaml'), RULES)
  writeFileSync(folder.file('machines.yaml'), machines.join('\n'))
  writeFileSync(folder.file('operators.yaml'), operators.join('\n'))
  writeFileSync(folder.file('recipients.yaml'), 'oem-cloud: {}\nsite-planner: {}\n')
  return folder
}

export function machinesOf(people: number): string[] {
  return [...Array.from({ length: people }, (_, n) => `M-${n}`), ...Array.from({ length: Math.floor(people / 5) }, (_, n) => `N-${n * 5}`)]
}

const RULES = `${rulesHead({ policy: 'race' })}
  planning:
    recipient: site-planner
    purpose: improve.statistics
    to: { topic: "out/planning/{machine_id}", qos: 1, retain: true, via: [local], send_within: 24h }
    recipient_keeps: 30d
    streams: { status: { fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: keep, seq: keep, platform_height_mm: keep, site_code: keep } } }
  pulse:
    recipient: site-planner
    purpose: improve.statistics
    to: { topic: "out/pulse-at/{machine_id}", qos: 0, via: [local], send_within: 24h }
    recipient_keeps: 30d
    streams: { status: { fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: keep, seq: keep, platform_height_mm: keep } } }
  service:
    recipient: oem-cloud
    purpose: service.operate
    to: { topic: "out/service/{machine_id}", qos: 2, retain: true, via: [local], send_within: 24h }
    recipient_keeps: 30d
    streams:
      status:
        fields: { machine_id: { pseudonym: { rotate: never } }, time_ms: keep, seq: keep, platform_height_mm: { consent: keep, no_consent: { round: 10 m } } }
`

/** A value below 1; the same for the same seed [mulberry32]. */
export function dice(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
