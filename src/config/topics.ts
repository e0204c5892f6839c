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

function levelsMeet(a: string, aStreams: ReadonlySet<string>, b: string, bStreams: ReadonlySet<string>): boolean {
  const valuesA = a === '{stream}' ? aStreams : placeholderOf(a) === undefined ? new Set([a]) : undefined
  const valuesB = b === '{stream}' ? bStreams : placeholderOf(b) === undefined ? new Set([b]) : undefined
  return valuesA === undefined || valuesB === undefined || !valuesA.isDisjointFrom(valuesB)
}

function placeholderOf(level: string): string | undefined {
  return /^\{([^{}]*)\}$/.exec(level)?.[1]
}
