/**
 * Topic patterns of streams and topic templates of outputs, as text: whether they are well formed and whether two can name the same topic.
 */
import { NAME } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'

export interface TopicProblem {
  readonly sentence: string
  readonly mend: string
}

/** What is wrong with a pattern or template; a placeholder fills one whole level. The sentence goes on from "The topic …". */
export function topicProblem(topic: string): TopicProblem | undefined {
  if (topic.includes('\u0000')) return { sentence: 'holds a NUL character.', mend: 'Remove it.' }
  if (Buffer.byteLength(topic) > LIMITS.topicBytes) return { sentence: `is longer than ${LIMITS.topicBytes} bytes.`, mend: 'Shorten it.' }
  if (/[+#]/.test(topic)) return { sentence: 'holds a wildcard (+ or #).', mend: 'Write {name} for a level that varies.' }
  if (topic.startsWith('$')) return { sentence: 'starts with "$", which belongs to the broker.', mend: 'Choose another first level.' }
  const levels = topic.split('/')
  if (levels.length > LIMITS.topicLevels) return { sentence: `has more than ${LIMITS.topicLevels} levels.`, mend: 'Shorten it.' }
  if (levels.includes('')) return { sentence: 'has an empty level.', mend: 'Remove the slash at the start or end, or the double slash.' }
  const seen = new Set<string>()
  for (const level of levels) {
    const name = placeholderOf(level)
    if (name === undefined) {
      if (/[{}]/.test(level)) return { sentence: `mixes text and a placeholder in the level "${level}".`, mend: 'Let a placeholder fill a whole level: a/{machine}/b.' }
      continue
    }
    if (!NAME.test(name)) return { sentence: `has the placeholder {${name}}, which is no name.`, mend: 'Use letters, digits, "_", "." and "-".' }
    if (seen.has(name)) return { sentence: `has the placeholder {${name}} twice.`, mend: 'Give each placeholder a name of its own.' }
    seen.add(name)
  }
  return undefined
}

export function placeholdersOf(topic: string): string[] {
  return topic.split('/').map(placeholderOf).filter((name) => name !== undefined)
}

/** Equal shapes match the same topics. `{stream}` in a stream's pattern stands for its own id. */
export function topicShape(topic: string, stream: string): string {
  return topic.split('/').map((level) => (level === '{stream}' ? stream : placeholderOf(level) !== undefined ? '+' : level)).join('/')
}

/** Whether two output templates can give the same topic; `{stream}` takes the ids of each one's streams. */
export function overlap(a: string, aStreams: ReadonlySet<string>, b: string, bStreams: ReadonlySet<string>): boolean {
  const left = a.split('/')
  const right = b.split('/')
  return left.length === right.length && left.every((level, index) => levelsMeet(level, aStreams, right[index] as string, bStreams))
}

/** First levels that no output may have: commands to machines, notices to recipients. */
const RESERVED: ReadonlySet<string> = new Set(['down', 'ctl'])

/** The reserved first level that an output's topic has, or can have. */
export function reservedLevel(topic: string, streams: ReadonlySet<string>): string | undefined {
  const first = topic.split('/', 1)[0] as string
  return [...RESERVED].find((level) => levelsMeet(first, streams, level, streams))
}

/** What is wrong with a pattern of commands. The sentence goes on from "The pattern …". */
export function downlinkProblem(pattern: string): string | undefined {
  const levels = pattern.split('/')
  const [down, fleet, machine, ...rest] = levels
  if (pattern.includes('\u0000') || Buffer.byteLength(pattern) > LIMITS.topicBytes || levels.length > LIMITS.topicLevels) return 'is longer than a topic may be, or holds a NUL character.'
  if (down !== 'down' || fleet === undefined || machine === undefined || rest.length === 0) return 'does not begin with down/{fleet}/{machine}/.'
  if (levels.includes('')) return 'has an empty level.'
  const odd = levels.find((level, at) => /[+#]/.test(level) && level !== '+' && !(level === '#' && at > 2 && at === levels.length - 1))
  if (odd !== undefined) return `has a wildcard where none may be ("${odd}").`
  const placeholder = levels.find((level, at) => /[{}]/.test(level) && !(at === 1 && level === '{fleet}') && !(at === 2 && level === '{machine}'))
  return placeholder === undefined ? undefined : `has a placeholder that is none here ("${placeholder}").`
}

/** The MQTT filter of a pattern of commands. */
export function downlinkFilter(pattern: string): string {
  return pattern.replace(/^down\/\{fleet\}\//, 'down/+/').replace(/^(down\/[^/]+\/)\{machine\}\//, '$1+/')
}

/** Whether whatever matches the one filter matches the other. */
export function isFilterWithin(filter: string, other: string): boolean {
  const [inner, outer] = [filter.split('/'), other.split('/')]
  for (const [at, level] of outer.entries()) {
    if (level === '#') return true
    const mine = inner[at]
    if (mine === undefined || mine === '#' || (level !== '+' && level !== mine)) return false
  }
  return inner.length === outer.length
}

function levelsMeet(a: string, aStreams: ReadonlySet<string>, b: string, bStreams: ReadonlySet<string>): boolean {
  const valuesA = a === '{stream}' ? aStreams : placeholderOf(a) === undefined ? new Set([a]) : undefined
  const valuesB = b === '{stream}' ? bStreams : placeholderOf(b) === undefined ? new Set([b]) : undefined
  return valuesA === undefined || valuesB === undefined || !valuesA.isDisjointFrom(valuesB)
}

function placeholderOf(level: string): string | undefined {
  return /^\{([^{}]*)\}$/.exec(level)?.[1]
}
