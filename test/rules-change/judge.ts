/** A good file, and what edits of it tell beyond it. */
import type { AcceptedLint } from '../../src/config/lint.ts'
import { loadRules, type LoadedRules } from '../../src/config/rules.ts'
import { parseYaml } from '../../src/config/yaml.ts'
import type { Policy, Stream } from '../../src/domain/policy.ts'
import type { Schemas } from '../../src/minimise/descriptor.ts'
import { TODAY } from '../config/fixture.ts'
import { createDice } from '../minimise/random/dice.ts'
import type { Node } from './edits.ts'
import { messagesOf } from './messages.ts'
import { casesIn, namedBy, settingsWider, Stage, toldMore } from './oracle.ts'

export interface Good {
  readonly name: string
  readonly text: string
  readonly schemas: Schemas
}

interface AcceptedSet {
  readonly policy: Policy
  readonly accepted: readonly AcceptedLint[]
}

/** That an output is told more of a stream. */
export interface Told {
  readonly output: string
  readonly stream: string
  readonly how: string
}

const CASES = casesIn(['DE', 'FR', 'US', 'US-CA', 'GB', 'CN', 'BR', undefined])
const SEED = 7

/** Without the file's own tests, which would refuse most of what is to be judged here. */
export function untested(rules: string): string {
  const at = rules.indexOf('\ntests:')
  return at < 0 ? rules : rules.slice(0, at + 1)
}

export class Judge {
  readonly tree: Node
  readonly good: AcceptedSet
  readonly #file: Good
  readonly #stage: Stage
  readonly #payloads = new Map<string, readonly Uint8Array[]>()

  constructor(file: Good) {
    this.#file = file
    this.tree = parseYaml('rules.yaml', untested(file.text)).value as Node
    const good = this.load(this.tree)
    if (good === undefined) throw new Error(`${file.name} is not accepted`)
    this.good = good
    this.#stage = new Stage(good.policy)
  }

  load(tree: Node): AcceptedSet | undefined {
    const { policy, accepted } = this.#read(tree)
    return policy === undefined ? undefined : { policy, accepted }
  }

  /** Also what lints and rules object to, as long as it can be built: what differs is told of that, too. */
  draft(tree: Node): AcceptedSet | undefined {
    const { draft, accepted } = this.#read(tree)
    return draft === undefined ? undefined : { policy: draft, accepted }
  }

  #read(tree: Node): LoadedRules {
    return loadRules('rules.yaml', JSON.stringify(tree), { schemas: this.#file.schemas, today: TODAY, bridges: new Map([['cloud', { recipient: 'oem-cloud' }]]) })
  }

  /** What an edit lets out that the good file does not; undefined = nothing. */
  wider(next: Policy): string | undefined {
    const settings = settingsWider(this.good.policy, next)
    if (settings !== undefined) return settings
    for (const { output, stream, how } of this.told(this.#stage, new Stage(next))) return `${output}, ${stream}, ${how}`
    return undefined
  }

  /** What one set tells that another does not, message by message: at most one finding for each output, stream and way in which it stands. */
  *told(old: Stage, next: Stage): Iterable<Told> {
    const done = new Set<string>()
    for (const stream of next.policy.streams) {
      if (!next.policy.outputs.some((output) => output.streams.some((one) => one.stream === stream))) continue
      const same = old.policy.streams.find((one) => one.id === stream.id && one.message.name === stream.message.name)
      const payloads = this.#payloadsOf(same ?? stream)
      for (const one of CASES) {
        const key = `${stream.id} ${old.acts(one)} ${next.acts(one)}`
        if (done.has(key)) continue
        done.add(key)
        const was = same === undefined ? undefined : old.sent(same, payloads, one)
        for (const [output, now] of next.sent(stream, payloads, one)) {
          const found = toldMore(was?.get(output) ?? payloads.map(() => undefined), now, stream, namedBy(old.policy, output, stream))
          if (found !== undefined) yield { output, stream: stream.id, how: `in ${one.country ?? 'an unknown country'} (${one.person}, operator of ${one.operatorCountry ?? 'it'}): ${found}` }
        }
      }
    }
  }

  #payloadsOf(stream: Stream): readonly Uint8Array[] {
    const key = `${stream.id} ${stream.message.name}`
    let payloads = this.#payloads.get(key)
    if (payloads === undefined) this.#payloads.set(key, (payloads = messagesOf(stream, this.#file.schemas, createDice(SEED))))
    return payloads
  }
}
