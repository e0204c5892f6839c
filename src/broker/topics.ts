/**
 * MQTT topics: which stream a topic belongs to, whether names and filters are well formed, how an output's topic is built,
 * and whether a subscription lies inside what somebody may have.
 *
 * Topics come from whoever is connected: every function here is bounded by the length of its input and by LIMITS.
 */
import { isUtf8 } from 'node:buffer'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../domain/errors.ts'
import { isTopicLevel } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'

/** What the matcher needs of a stream; policy streams have this shape. */
export interface StreamTopic {
  readonly id: string
  /** `up/{fleet}/{machine}/status`: placeholders fill whole levels, `{stream}` stands for the stream's own id. */
  readonly topic: string
}

export interface TopicMatch<S> {
  /** All streams with this topic shape, in the order given; more than one when they differ in `case`. */
  readonly streams: readonly S[]
  readonly machine: string | undefined
  readonly fleet: string | undefined
}

export interface TopicMatcher<S> {
  /** The streams of the most specific matching pattern, or undefined. The result is shared and must not be changed. */
  match(topic: string): TopicMatch<S> | undefined
}

/** Topics remembered by one matcher. Past it the one used longest ago is forgotten: a flood of new topics costs time, not memory. */
const CACHED_TOPICS = 16_384
/** Longer topics are matched but not remembered, so that the cache stays under some 10 MB whatever comes. */
const CACHED_LENGTH = 128

/**
 * Makes a matcher whose cost depends on the number of levels, not on the number of streams.
 * At each level a literal wins over a placeholder, from left to right. `$` topics and empty levels match no placeholder.
 * @throws GatewayError TOPIC-TEMPLATE, TOPIC-AMBIGUOUS, LIMIT-STREAMS
 */
export function createTopicMatcher<S extends StreamTopic>(streams: readonly S[]): TopicMatcher<S> {
  if (streams.length > LIMITS.streams) {
    throw new GatewayError('LIMIT-STREAMS', `There are ${streams.length} streams.`, `Stay within ${LIMITS.streams}.`)
  }
  const root = createNode<S>()
  for (const stream of streams) plant(root, stream)

  const cache = new LRUCache<string, TopicMatch<S>>({ max: CACHED_TOPICS })
  return {
    match(topic) {
      const known = cache.get(topic)
      if (known !== undefined) return known
      // [MQTT-4.7.2-1] A placeholder never stands for a topic that begins with $.
      const leaf = topic.charCodeAt(0) === DOLLAR ? undefined : find(root, topic, 0)
      if (leaf === undefined) return undefined
      const found: TopicMatch<S> = { streams: leaf.streams, machine: levelOf(topic, leaf.machineLevel), fleet: levelOf(topic, leaf.fleetLevel) }
      if (topic.length <= CACHED_LENGTH) cache.set(topic, found)
      return found
    },
  }
}

interface Leaf<S> {
  readonly streams: S[]
  readonly machineLevel: number
  readonly fleetLevel: number
  /** Names of the levels, to tell two spellings of one shape apart. */
  readonly shape: string
}

interface Node<S> {
  readonly literals: Map<string, Node<S>>
  any: Node<S> | undefined
  leaf: Leaf<S> | undefined
}

function createNode<S>(): Node<S> {
  return { literals: new Map(), any: undefined, leaf: undefined }
}

function plant<S extends StreamTopic>(root: Node<S>, stream: S): void {
  const levels = parseTemplate(stream.topic).levels.map((level) => (level.placeholder === 'stream' ? { literal: stream.id, placeholder: undefined } : level))
  let node = root
  for (const { literal, placeholder } of levels) {
    if (placeholder !== undefined) {
      node = node.any ??= createNode()
    } else {
      let next = node.literals.get(literal)
      if (next === undefined) node.literals.set(literal, (next = createNode()))
      node = next
    }
  }
  const shape = levels.map(({ placeholder }) => placeholder ?? '').join('/')
  const machineLevel = levels.findIndex(({ placeholder }) => placeholder === 'machine')
  const fleetLevel = levels.findIndex(({ placeholder }) => placeholder === 'fleet')
  node.leaf ??= { streams: [], machineLevel, fleetLevel, shape }
  if (node.leaf.machineLevel !== machineLevel || node.leaf.fleetLevel !== fleetLevel) {
    throw new GatewayError(
      'TOPIC-AMBIGUOUS',
      `The streams ${node.leaf.streams[0]?.id ?? ''} and ${stream.id} match the same topics but name the machine at different levels.`,
      'Use the same placeholders in both, or make one of them more specific.',
    )
  }
  node.leaf.streams.push(stream)
}

/** Depth is bounded by the depth of the patterns, not of the topic. */
function find<S>(node: Node<S>, topic: string, from: number): Leaf<S> | undefined {
  const slash = topic.indexOf('/', from)
  const level = slash === -1 ? topic.slice(from) : topic.slice(from, slash)
  const literal = node.literals.get(level)
  if (literal !== undefined) {
    const leaf = slash === -1 ? literal.leaf : find(literal, topic, slash + 1)
    if (leaf !== undefined) return leaf
  }
  const { any } = node
  if (any === undefined || level === '') return undefined
  return slash === -1 ? any.leaf : find(any, topic, slash + 1)
}

function levelOf(topic: string, level: number): string | undefined {
  if (level < 0) return undefined
  let from = 0
  for (let passed = 0; passed < level; passed++) from = topic.indexOf('/', from) + 1
  const slash = topic.indexOf('/', from)
  return slash === -1 ? topic.slice(from) : topic.slice(from, slash)
}

// -------------------------------------------------------------------------------------------------------------- templates

interface TemplateLevel {
  readonly literal: string
  readonly placeholder: string | undefined
}

export interface TopicTemplate {
  readonly text: string
  readonly levels: readonly TemplateLevel[]
  /** Names without braces, in order. */
  readonly placeholders: readonly string[]
}

/**
 * Reads `out/{stream}/{machine_id}`. A placeholder fills one whole level.
 * @throws GatewayError TOPIC-TEMPLATE with what is wrong and how to mend it
 */
export function parseTemplate(text: string): TopicTemplate {
  const fault = topicFault(text)
  if (fault !== undefined) throw new GatewayError('TOPIC-TEMPLATE', `The topic "${text}" is not a topic: ${FAULT_TEXT[fault]}.`)
  if (text.startsWith('$')) throw new GatewayError('TOPIC-TEMPLATE', `The topic "${text}" begins with $.`, 'Such topics belong to brokers; choose another first level.')
  const levels = text.split('/').map((level): TemplateLevel => {
    const name = /^\{([A-Za-z0-9_.-]+)\}$/.exec(level)?.[1]
    if (name === undefined && /[{}]/.test(level)) {
      throw new GatewayError('TOPIC-TEMPLATE', `In the topic "${text}" the level "${level}" is part text, part placeholder.`, 'Let a placeholder fill a whole level: a/{machine}/b.')
    }
    return { literal: name === undefined ? level : '', placeholder: name }
  })
  const placeholders = levels.flatMap(({ placeholder }) => placeholder ?? [])
  const twice = placeholders.find((name, index) => placeholders.indexOf(name) !== index)
  if (twice !== undefined) {
    throw new GatewayError('TOPIC-TEMPLATE', `The topic "${text}" has {${twice}} twice.`, 'Give each placeholder a name of its own.')
  }
  return { text, levels, placeholders }
}

/**
 * Fills a template. Undefined when a value is not a safe topic level or the result breaks a limit: the message is then refused
 * as bad_topic_value, never repaired, because two values that a repair makes equal would share a topic.
 */
export function formatTopic(template: TopicTemplate, valueOf: (placeholder: string) => string | undefined): string | undefined {
  let topic = ''
  let separator = ''
  for (const { literal, placeholder } of template.levels) {
    const level = placeholder === undefined ? literal : valueOf(placeholder)
    if (level === undefined || (placeholder !== undefined && !isTopicLevel(level))) return undefined
    topic += separator + level
    separator = '/'
  }
  return topic.isWellFormed() && Buffer.byteLength(topic) <= LIMITS.topicBytes ? topic : undefined
}

// -------------------------------------------------------------------------------------------------------------- validity

export type TopicFault = 'empty' | 'too_long' | 'too_deep' | 'nul' | 'utf8' | 'wildcard'

const FAULT_TEXT: Readonly<Record<TopicFault, string>> = {
  empty: 'it is empty',
  too_long: `it is longer than ${LIMITS.topicBytes} bytes`,
  too_deep: `it has more than ${LIMITS.topicLevels} levels`,
  nul: 'it holds a NUL',
  utf8: 'it is not valid UTF-8',
  wildcard: 'it holds + or # where none may be',
}

/** What is wrong with a topic name, if anything. For text that did not come from the wire. */
export function topicFault(topic: string): TopicFault | undefined {
  if (!topic.isWellFormed()) return 'utf8'
  const bytes = Buffer.from(topic)
  return topicBytesFault(bytes, 0, bytes.length)
}

/** The same for the bytes [from, to) of a packet; on the path of every PUBLISH, so ASCII costs one pass and nothing else. */
export function topicBytesFault(bytes: Uint8Array, from: number, to: number): TopicFault | undefined {
  if (to - from < 1) return 'empty' // [MQTT-4.7.3-1]
  if (to - from > LIMITS.topicBytes) return 'too_long'
  let levels = 1
  let ascii = true
  for (let at = from; at < to; at++) {
    const byte = bytes[at]!
    if (byte === SLASH) levels++
    else if (byte === PLUS || byte === HASH) return 'wildcard' // [MQTT-3.3.2-2]
    else if (byte === 0) return 'nul' // [MQTT-1.5.3-2] [MQTT-4.7.3-2]
    else if (byte >= 0x80) ascii = false
  }
  if (levels > LIMITS.topicLevels) return 'too_deep'
  // [MQTT-1.5.3-1] Overlong forms and surrogates (U+D800 to U+DFFF) count as not UTF-8.
  return ascii || isUtf8(bytes.subarray(from, to)) ? undefined : 'utf8'
}

/** What is wrong with a topic filter, if anything. */
export function filterFault(filter: string): TopicFault | undefined {
  if (filter === '') return 'empty' // [MQTT-4.7.3-1]
  if (!filter.isWellFormed()) return 'utf8'
  if (Buffer.byteLength(filter) > LIMITS.topicBytes) return 'too_long'
  if (filter.includes('\u0000')) return 'nul'
  const levels = filter.split('/')
  if (levels.length > LIMITS.topicLevels) return 'too_deep'
  for (const [index, level] of levels.entries()) {
    // [MQTT-4.7.1-2] # is a level of its own and the last; [MQTT-4.7.1-3] + is a level of its own.
    if (level.includes('#') && (level !== '#' || index !== levels.length - 1)) return 'wildcard'
    if (level.includes('+') && level !== '+') return 'wildcard'
  }
  return undefined
}

// ---------------------------------------------------------------------------------------------------------- subscriptions

/**
 * Whether everything that a subscription filter can match lies inside one of the patterns.
 * A pattern is an output's topic template (a placeholder stands for any one level) or a filter such as `down/north/SN-1/#`.
 * Filters that begin with `$` (`$SYS`, `$share`) are never contained, malformed ones neither.
 *
 * Looking at the patterns one by one loses nothing while none ends in `#`: a `+` of the filter takes endlessly many values, so
 * some value occurs in no pattern, and the pattern that covers it has a placeholder there.
 */
export function contains(filter: string, patterns: Iterable<string>): boolean {
  if (filter.startsWith('$') || filterFault(filter) !== undefined) return false
  const wanted = filter.split('/')
  for (const pattern of patterns) {
    if (isWithin(wanted, pattern.split('/'))) return true
  }
  return false
}

function isWithin(wanted: readonly string[], pattern: readonly string[]): boolean {
  for (const [index, allowed] of pattern.entries()) {
    // [MQTT-4.7.1-2] `a/#` also matches `a`, so the filter may end just here.
    if (allowed === '#') return true
    const level = wanted[index]
    if (level === undefined || level === '#') return false
    if (allowed !== '+' && !PLACEHOLDER.test(allowed) && allowed !== level) return false
  }
  return wanted.length === pattern.length
}

/** [MQTT-4.7] Whether a filter matches a topic. Both must be well formed. */
export function filterMatches(filter: string, topic: string): boolean {
  // [MQTT-4.7.2-1]
  if (topic.charCodeAt(0) === DOLLAR && filter.charCodeAt(0) !== DOLLAR) return false
  let at = 0
  let from = 0
  for (;;) {
    if (filter.charCodeAt(at) === HASH) return true
    const end = endOfLevel(filter, at)
    const to = endOfLevel(topic, from)
    const same = filter.charCodeAt(at) === PLUS || (end - at === to - from && filter.startsWith(topic.slice(from, to), at))
    if (!same) return false
    if (to === topic.length) return end === filter.length || (filter.charCodeAt(end + 1) === HASH && end + 2 === filter.length)
    if (end === filter.length) return false
    at = end + 1
    from = to + 1
  }
}

function endOfLevel(text: string, from: number): number {
  const slash = text.indexOf('/', from)
  return slash === -1 ? text.length : slash
}

const PLACEHOLDER = /^\{[^{}]*\}$/
const DOLLAR = 0x24
const SLASH = 0x2f
const PLUS = 0x2b
const HASH = 0x23
