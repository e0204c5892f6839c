/** Random edits of a rules file's tree: what people do to one by hand, and what slips in with it. */
import type { Policy } from '../../src/domain/policy.ts'
import type { Dice } from '../minimise/random/dice.ts'

export type Node = { [name: string]: Node } | Node[] | string | number | boolean | null

type Branch = Exclude<Node, string | number | boolean | null>

interface Spot {
  readonly path: readonly (string | number)[]
  readonly owner: Branch
  readonly at: string | number
  readonly value: Node
}

/** Parts whose text has no meaning for what leaves. */
const IDLE = new Set(['define', 'tests', 'version'])

/** The tree with one to three edits. The given one stays as it is. */
export function edited(dice: Dice, tree: Node, policy: Policy): { readonly tree: Node; readonly edits: readonly string[] } {
  const made = structuredClone(tree)
  const edits: string[] = []
  for (let count = dice.chance(0.8) ? 1 : 2 + dice.below(2); edits.length < count;) {
    const spots = spotsOf(made)
    const told = dice.chance(0.5) ? blind(dice, spots) : aimed(dice, spots, policy)
    if (told !== undefined) edits.push(told)
  }
  return { tree: made, edits }
}

function spotsOf(tree: Node): Spot[] {
  const spots: Spot[] = []
  const walk = (owner: Branch, path: readonly (string | number)[]): void => {
    for (const [name, value] of Object.entries(owner) as [string, Node][]) {
      if (path.length === 0 && IDLE.has(name)) continue
      const at = Array.isArray(owner) ? Number(name) : name
      spots.push({ path: [...path, at], owner, at, value })
      if (typeof value === 'object' && value !== null) walk(value, [...path, at])
    }
  }
  walk(tree as Branch, [])
  return spots
}

function put({ owner, at }: Spot, value: Node): void {
  ;(owner as Record<string | number, Node>)[at] = value
}

function remove({ owner, at }: Spot): void {
  if (Array.isArray(owner)) owner.splice(at as number, 1)
  else delete owner[at as string]
}

/** Anything, anywhere. */
function blind(dice: Dice, spots: readonly Spot[]): string {
  const spot = dice.pick(spots)
  const where = spot.path.join('.')
  switch (dice.below(6)) {
    case 0: case 1:
      remove(spot)
      return `${where} gone`
    case 2: {
      const other = dice.pick(spots.filter((one) => one.owner === spot.owner))
      put(spot, structuredClone(other.value))
      put(other, structuredClone(spot.value))
      return `${where} and ${other.path.join('.')} swapped`
    }
    case 3: {
      // Of the same name elsewhere, or else of the same kind.
      const same = spots.filter((one) => one !== spot && typeof one.value === typeof spot.value && (one.at === spot.at || typeof one.at === 'number'))
      const other = same.length === 0 ? dice.pick(spots) : dice.pick(same)
      put(spot, structuredClone(other.value))
      return `${where} as ${other.path.join('.')}`
    }
    case 4: {
      if (Array.isArray(spot.owner)) {
        spot.owner.push(structuredClone(spot.value))
        return `${where} twice`
      }
      const name = dice.pick([...spots.flatMap((one) => (typeof one.at === 'string' ? [one.at] : [])), `${String(spot.at)}-2`])
      spot.owner[name] = structuredClone(spot.value)
      if (dice.chance(0.5)) remove(spot)
      return `${where} also or instead as ${name}`
    }
    default:
      put(spot, varied(dice, spot.value))
      return `${where} varied`
  }
}

const UNITS = ['s', 'm', 'h', 'd', '%', 'min', 'km', 'kg', '']
const WORDS = ['keep', 'drop', 'contract', 'consent', 'opt_out', 'legitimate_interest', 'legal_obligation', 'not_personal', 'last', 'first', 'EU', 'local', 'machine', 'never']

function varied(dice: Dice, value: Node): Node {
  if (typeof value === 'boolean') return !value
  if (typeof value === 'number') return dice.pick([value * 2, value * 3, Math.ceil(value / 2), Math.floor(value / 3), value + 1, -value, 0])
  if (typeof value !== 'string') return dice.pick(['keep', true, 1, {}, []])
  const number = /\d+/.exec(value)
  if (number !== null && dice.chance(0.7)) {
    const grown = value.replace(number[0], String(varied(dice, Number(number[0]))))
    return dice.chance(0.7) ? grown : grown.replace(/[a-z%]+$/, dice.pick(UNITS))
  }
  return dice.pick(WORDS)
}

const BASES = ['contract', 'legal_obligation', 'vital_interest', 'public_interest', 'legitimate_interest', 'opt_out', 'consent', 'forbidden']
const TREATMENTS: readonly Node[] = [
  'keep', 'drop', { constant: 3 }, { constant: 'x' }, { constant: true }, { round: 5 }, { round: 15 }, { round: 100 }, { clamp: [0, 100] }, { clamp: [4, 300] }, { bucket: [0, 5, 100, 500] }, { bucket: [0, 100] },
  { flags: { bits: [0, 2] } }, { flags: { bits: [0] } }, { truncate: 3 }, { truncate: 24 }, { mask: { keep_first: 1 } }, { mask: { keep_last: 2 } }, { keep_bytes: [0, 3] }, { round_time: '15m' }, { round_time: '1h' }, { round_time: '1d' },
  { pseudonym: {} }, { pseudonym: { rotate: '7d' } }, { pseudonym: { rotate: '30d' } }, { pseudonym: { rotate: 'session' } }, { pseudonym: { rotate: '7d', as: 'machine' } }, 'encrypt', { grid: '500m' }, { grid: '10km' }, { grid: '100m' },
  { noise: { spread: 10 } },
]
const SPANS = ['5m', '15m', '30m', '1h', '1d', '7d', '30d', '400d']

type Table = Record<string, Node>

function isTable(value: Node | undefined): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Where a mistake would cost something: treatments, lists of fields, conditions, bases, ways. Undefined = it does not fit this spot. */
function aimed(dice: Dice, spots: readonly Spot[], policy: Policy): string | undefined {
  const outputs = spots.filter(({ path, value }) => path[0] === 'outputs' && path.length === 2 && isTable(value))
  const sources = spots.filter(({ path, value }) => path[0] === 'outputs' && path.length === 4 && path[2] === 'streams' && isTable(value))
  if (outputs.length === 0) return undefined
  const lists = spots.filter(({ path, at, value }) => path[0] === 'outputs' && at === 'fields' && isTable(value))
  const rules = lists.flatMap(({ value, path }) => Object.entries(value as Table).map(([at, own]): Spot => ({ path: [...path, at], owner: value as Table, at, value: own })))
  const source = sources.length === 0 ? undefined : dice.pick(sources)
  const stream = policy.streams.find((one) => one.id === source?.at)
  const names = [...(stream?.message.fields ?? []).map((field) => field.name), ...(stream?.points ?? []).map((point) => point.name)]
  const name = names.length === 0 ? 'x' : dice.pick(names)
  const own = source?.value as Table | undefined
  const rule = rules.length === 0 ? undefined : dice.pick(rules)
  const output = dice.pick(outputs).value as Table
  const said = (what: string): string => `${source?.path.join('.')}: ${what}`
  switch (dice.below(16)) {
    case 0: case 1: {
      if (rule === undefined) return undefined
      const treatment = structuredClone(dice.pick(TREATMENTS))
      put(rule, treatment)
      return `${rule.path.join('.')} = ${JSON.stringify(treatment)}`
    }
    case 2: case 3: {
      if (rule === undefined) return undefined
      const [consent, no] = isTable(rule.value) && 'consent' in rule.value ? [rule.value['consent'] as Node, rule.value['no_consent'] as Node] : [rule.value, dice.pick(['drop', ...TREATMENTS])]
      const made = dice.pick<Node>([{ consent: no, no_consent: consent }, { consent, no_consent: no }, consent, no, { consent: 'keep', no_consent: no }, { consent, no_consent: 'drop' }])
      put(rule, structuredClone(made))
      return `${rule.path.join('.')} = ${JSON.stringify(made)}`
    }
    case 4: {
      if (rule === undefined) return undefined
      const chain = Array.isArray(rule.value) ? rule.value : [rule.value]
      const more = structuredClone(dice.pick(TREATMENTS))
      const made = dice.chance(0.5) ? [...chain, more] : [more, ...chain]
      put(rule, structuredClone(made))
      return `${rule.path.join('.')} = ${JSON.stringify(made)}`
    }
    case 5: case 6: {
      if (own === undefined) return undefined
      const fields = isTable(own['fields']) ? own['fields'] : (own['fields'] = {})
      const treatment = structuredClone(dice.pick(TREATMENTS))
      fields[name] = dice.chance(0.3) ? { consent: treatment, no_consent: 'drop' } : treatment
      return said(`${name} = ${JSON.stringify(fields[name])}`)
    }
    case 7: {
      if (own === undefined) return undefined
      own['keep'] = dice.chance(0.3) ? 'not_personal' : [...(Array.isArray(own['keep']) ? own['keep'] : []), name]
      return said(`keep ${JSON.stringify(own['keep'])}`)
    }
    case 8: {
      if (own === undefined) return undefined
      const kind = stream?.message.byName.get(name)?.type
      const test = kind === 'bool' ? `msg.${name}` : kind === 'string' ? `msg.${name} != ''` : `msg.${name} > ${dice.pick([0, 5, 100])}`
      const when = dice.pick([test, `!(${test})`, `country == 'DE'`, `machine.label.site != 'test'`, ...(typeof own['when'] === 'string' ? [`${own['when']} && ${test}`, `${own['when']} || ${test}`, `!(${own['when']})`] : [])])
      own['when'] = when
      return said(`when ${when}`)
    }
    case 9: {
      if (own === undefined) return undefined
      if (dice.chance(0.5)) delete own['require']
      else own['require'] = [...(Array.isArray(own['require']) ? own['require'] : []), name]
      return said(`require ${JSON.stringify(own['require'])}`)
    }
    case 10: {
      if (own === undefined) return undefined
      const every = dice.pick(SPANS.slice(0, 5))
      own['emit'] = dice.pick<Node>([{ every }, { every, take: 'first' }, { every, take: 'last', hold: true }, { every, take: { max: name } }, { on_change: [name] }, { every, on_change: [name] }])
      return said(`emit ${JSON.stringify(own['emit'])}`)
    }
    case 11: {
      const places = spots.filter(({ path }) => path[0] === 'legal_basis' && path.length === 3)
      if (places.length === 0) return undefined
      const place = dice.pick(places)
      put(place, { basis: dice.pick(BASES), law: 'L', assessment: 'A', employee_consent: 'E' })
      return `${place.path.join('.')} = ${JSON.stringify((place.owner as Table)[place.at as string])}`
    }
    case 12: {
      const key = dice.pick(['basis', 'recipient', 'purpose', 'reach', 'recipient_keeps', 'arrival_visible', 'despite_device_setting'])
      const value: Record<string, () => Node> = {
        basis: () => ({ basis: dice.pick(BASES), law: 'L', assessment: 'A', employee_consent: 'E' }),
        recipient: () => dice.pick(policy.recipients).id, purpose: () => dice.pick(policy.purposes).id, reach: () => dice.pick(['any', 'site']),
        recipient_keeps: () => dice.pick(SPANS), arrival_visible: () => dice.chance(0.5), despite_device_setting: () => 'L',
      }
      output[key] = (value[key] as () => Node)()
      return `${key} of an output = ${JSON.stringify(output[key])}`
    }
    case 13: {
      const to = output['to']
      if (!isTable(to)) return undefined
      const key = dice.pick(['topic', 'qos', 'via', 'send_within', 'retain'])
      const value: Record<string, () => Node> = {
        topic: () => dice.pick([`${String(to['topic'])}/x`, String(to['topic']).replace(/\/\{[^}]*\}$/, ''), `out/{stream}/{${name}}`]), qos: () => dice.below(3),
        via: () => dice.pick([['local'], ['local', 'cloud'], ['cloud']]), send_within: () => dice.pick(SPANS), retain: () => dice.chance(0.5),
      }
      to[key] = (value[key] as () => Node)()
      return `to.${key} of an output = ${JSON.stringify(to[key])}`
    }
    case 14: {
      const point = spots.filter(({ path }) => path[0] === 'streams' && path[2] === 'points' && path.length === 4)
      if (point.length === 0) return undefined
      const table = dice.pick(point).value as Table
      const key = dice.pick(['valid', 'unit', 'swap'])
      if (key === 'swap') [table['lat'], table['lon']] = [table['lon'] as Node, table['lat'] as Node]
      else if (key === 'unit') table['unit'] = dice.pick(['deg', 'e5', 'e6', 'e7'])
      else if (dice.chance(0.5)) delete table['valid']
      else table['valid'] = dice.pick(['msg.fix > 1', 'msg.seq > 5', 'msg.key_on'])
      return `${key} of a point`
    }
    default: {
      const subject = spots.filter(({ path }) => path[0] === 'subject' && path.length === 2)
      const recipients = spots.filter(({ path, value }) => path[0] === 'recipients' && path.length === 2 && isTable(value))
      if (dice.chance(0.5) && subject.length > 0) {
        const spot = dice.pick(subject)
        put(spot, typeof spot.value === 'string' ? dice.pick(SPANS) : varied(dice, spot.value))
        return `${spot.path.join('.')} = ${JSON.stringify((spot.owner as Table)[spot.at as string])}`
      }
      if (recipients.length === 0) return undefined
      const spot = dice.pick(recipients)
      const table = spot.value as Table
      const key = dice.pick(['role', 'region', 'group', 'on_site'])
      table[key] = { role: dice.pick(['controller', 'processor']), region: dice.pick(['EU', 'DE', 'US', 'CN']), group: dice.pick(['affiliate', 'supplier', 'holder']), on_site: true }[key] as Node
      return `${key} of ${spot.path.join('.')} = ${JSON.stringify(table[key])}`
    }
  }
}
