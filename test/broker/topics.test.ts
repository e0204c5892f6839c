import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { contains, createTopicMatcher, filterFault, filterMatches, formatTopic, parseTemplate, topicFault } from '../../src/broker/topics.ts'
import { GatewayError } from '../../src/domain/errors.ts'
import { LIMITS } from '../../src/domain/limits.ts'

/** MQTT 4.7 written as a regular expression: the oracle for everything that matches. */
function asRegExp(pattern: string): RegExp {
  const levels = pattern.split('/')
  const last = levels.at(-1) === '#' ? levels.pop() : undefined
  const body = levels.map((level) => (level === '+' || level.startsWith('{') ? '[^/]*' : level.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))).join('/')
  if (last === undefined) return new RegExp(`^${body}$`, 's')
  return levels.length === 0 ? /^.*$/s : new RegExp(`^${body}(/.*)?$`, 's')
}

/** All topics of one to four levels over three names, one of which no pattern has. */
const TOPICS = (() => {
  const names = ['a', 'b', 'fresh']
  let row = names
  const all = [...names]
  for (let depth = 2; depth <= 4; depth++) {
    row = row.flatMap((topic) => names.map((name) => `${topic}/${name}`))
    all.push(...row)
  }
  return all
})()

const filters = fc
  .tuple(fc.array(fc.constantFrom('a', 'b', '+'), { minLength: 0, maxLength: 3 }), fc.boolean())
  .map(([levels, hash]) => [...levels, ...(hash || levels.length === 0 ? ['#'] : [])].join('/'))
const templates = fc.array(fc.constantFrom('a', 'b', '{x}', '{y}'), { minLength: 1, maxLength: 3 }).map((levels) => levels.join('/'))

describe('which stream a topic belongs to', () => {
  const matcher = createTopicMatcher([
    { id: 'status', topic: 'up/{fleet}/{machine}/status' },
    { id: 'fault', topic: 'up/{fleet}/{machine}/{stream}' },
    { id: 'alarm', topic: 'acme/v3/{machine}/tlm' },
    { id: 'info', topic: 'acme/v3/{machine}/tlm' },
    { id: 'own', topic: 'plain/topic' },
    { id: 'wide', topic: '{region}/v3/{machine}/tlm' },
  ])

  it.each([
    ['up/north/SN-1/status', ['status'], 'SN-1', 'north'],
    ['up/north/SN-1/fault', ['fault'], 'SN-1', 'north'],
    ['acme/v3/SN-1/tlm', ['alarm', 'info'], 'SN-1', undefined],
    ['eu/v3/SN-1/tlm', ['wide'], 'SN-1', undefined],
    ['plain/topic', ['own'], undefined, undefined],
  ])('%s', (topic, streams, machine, fleet) => {
    for (const round of ['first', 'from the cache']) {
      const match = matcher.match(topic)
      expect([round, match?.streams.map(({ id }) => id), match?.machine, match?.fleet]).toEqual([round, streams, machine, fleet])
    }
  })

  it.each(['up/north/SN-1', 'up/north/SN-1/status/x', 'up/north/SN-1/other', 'up//SN-1/status', 'up/north//status', '$SYS/v3/SN-1/tlm', '', '/', 'plain/topic/', 'UP/north/SN-1/status'])(
    'no stream has %j', (topic) => expect(matcher.match(topic)).toBeUndefined())

  it('goes back to a placeholder when the literal leads nowhere', () => {
    const both = createTopicMatcher([{ id: 'one', topic: 'a/b/c' }, { id: 'two', topic: 'a/{machine}/d' }])
    expect(both.match('a/b/d')?.streams.map(({ id }) => id)).toEqual(['two'])
    expect(both.match('a/b/c')?.streams.map(({ id }) => id)).toEqual(['one'])
  })

  it('agrees with the regular expression of the most specific pattern, for any set of patterns', () => {
    fc.assert(fc.property(fc.uniqueArray(templates, { minLength: 1, maxLength: 12 }), (patterns) => {
      // {x} and {y} are the same shape, and the matcher returns both.
      const streams = patterns.filter((pattern) => new Set(pattern.match(/\{.\}/g)).size === (pattern.match(/\{/g)?.length ?? 0)).map((topic, index) => ({ id: `s${index}`, topic }))
      const made = createTopicMatcher(streams)
      for (const topic of TOPICS) {
        const matching = streams.filter((stream) => asRegExp(stream.topic).test(topic))
        // Literal before placeholder from the left: the smallest when a literal is written 0 and a placeholder 1.
        const rank = (text: string): string => text.split('/').map((level) => (level.startsWith('{') ? '1' : '0')).join('')
        const best = matching.map(({ topic: text }) => rank(text)).toSorted()[0]
        expect(made.match(topic)?.streams.map(({ id }) => id) ?? []).toEqual(matching.filter(({ topic: text }) => rank(text) === best).map(({ id }) => id))
      }
    }), { numRuns: 100 })
  })

  it('takes no longer with 1,000 streams than with 10', () => {
    const of = (size: number) => createTopicMatcher(Array.from({ length: size }, (_, index) => ({ id: `s${index}`, topic: `up/{fleet}/{machine}/s${index}` })))
    const time = (made: ReturnType<typeof of>): number => {
      let best = Infinity
      for (let round = 0; round < 15; round++) {
        const from = performance.now()
        // New topics each time, so that the cache does not answer.
        for (let index = 0; index < 2_000; index++) made.match(`up/north/M${round}-${index}/s${index % 10}`)
        best = Math.min(best, performance.now() - from)
      }
      return best
    }
    const [few, many] = [of(10), of(1_000)]
    time(few)
    expect(time(many)).toBeLessThan(time(few) * 4)
  })

  it.each([
    ['two names for one level', [{ id: 'a', topic: 'x/{machine}/y' }, { id: 'b', topic: 'x/{fleet}/y' }], 'TOPIC-AMBIGUOUS'],
    ['a placeholder beside text', [{ id: 'a', topic: 'x/sn-{machine}' }], 'TOPIC-TEMPLATE'],
    ['a placeholder twice', [{ id: 'a', topic: 'x/{machine}/{machine}' }], 'TOPIC-TEMPLATE'],
    ['a wildcard', [{ id: 'a', topic: 'x/+/y' }], 'TOPIC-TEMPLATE'],
    ['a broker topic', [{ id: 'a', topic: '$SYS/{machine}' }], 'TOPIC-TEMPLATE'],
    ['an empty topic', [{ id: 'a', topic: '' }], 'TOPIC-TEMPLATE'],
    ['too many streams', Array.from({ length: LIMITS.streams + 1 }, (_, index) => ({ id: `s${index}`, topic: `x/s${index}` })), 'LIMIT-STREAMS'],
  ])('refuses %s', (_what, streams, code) => {
    expect(() => createTopicMatcher(streams)).toThrow(expect.objectContaining({ name: GatewayError.name, code }) as Error)
  })
})

describe('what is a topic', () => {
  it.each([
    ['up/north/SN-1/status', undefined], ['/', undefined], ['Größe/°C', undefined], ['日本/機械', undefined], ['$SYS/x', undefined],
    ['', 'empty'], ['a+b', 'wildcard'], ['a/#', 'wildcard'], ['a\u0000b', 'nul'], ['a\uD800', 'utf8'],
    ['x'.repeat(LIMITS.topicBytes), undefined], ['x'.repeat(LIMITS.topicBytes + 1), 'too_long'], ['ü'.repeat(LIMITS.topicBytes / 2 + 1), 'too_long'],
    [Array.from({ length: LIMITS.topicLevels }, () => 'x').join('/'), undefined], [Array.from({ length: LIMITS.topicLevels + 1 }, () => 'x').join('/'), 'too_deep'],
  ])('name %j: %s', (topic, fault) => expect(topicFault(topic)).toBe(fault))

  it.each([
    ['#', undefined], ['+', undefined], ['a/+/b', undefined], ['a/#', undefined], ['/+', undefined], ['+/+/#', undefined], ['$share/g/a', undefined],
    ['', 'empty'], ['a#', 'wildcard'], ['a/#/b', 'wildcard'], ['a+', 'wildcard'], ['a/b+/c', 'wildcard'], ['#/a', 'wildcard'], ['a\u0000', 'nul'],
    [Array.from({ length: LIMITS.topicLevels + 1 }, () => '+').join('/'), 'too_deep'],
  ])('filter %j: %s', (filter, fault) => expect(filterFault(filter)).toBe(fault))
})

describe('building an output topic', () => {
  const template = parseTemplate('out/{stream}/{machine_id}')
  const fill = (values: Record<string, string>) => formatTopic(template, (name) => values[name])

  it('fills the placeholders', () => expect(fill({ stream: 'status', machine_id: 'q8Zk' })).toBe('out/status/q8Zk'))
  it('keeps an empty first level', () => expect(formatTopic(parseTemplate('/a/{x}'), () => 'b')).toBe('/a/b'))
  it.each(['', 'a/b', '+', '#', 'a\u0000', 'a\n', 'a\u0085', 'a\uFFFE', 'a\u{1FFFF}', '$x', 'a\uD800', 'x'.repeat(257)])('refuses the value %j', (machine_id) =>
    expect(fill({ stream: 'status', machine_id })).toBeUndefined())
  it('refuses a missing value', () => expect(fill({ stream: 'status' })).toBeUndefined())
  it('refuses a result that is too long', () => {
    const long = parseTemplate(Array.from({ length: 5 }, (_, index) => `{p${index}}`).join('/'))
    expect(formatTopic(long, () => 'x'.repeat(250))).toBeUndefined()
  })
})

describe('whether a subscription lies inside what a recipient may have', () => {
  const own = ['out/planning/{machine_id}', 'out/service/{stream}/{machine_id}']
  it.each([
    ['out/planning/q8Zk', true], ['out/planning/+', true], ['out/service/+/+', true], ['out/service/status/+', true], ['out/service/+/q8Zk', true],
    ['#', false], ['+', false], ['+/#', false], ['out/#', false], ['out/planning/#', false], ['out/+/+', false], ['out/service/+', false], ['out/service/+/+/+', false],
    ['up/#', false], ['$SYS/#', false], ['$share/g/out/planning/+', false], ['', false], ['out/planning/a+', false], ['out/billing/x', false],
    ['out/planning', false], ['OUT/planning/+', false],
  ])('%s: %s', (filter, granted) => expect(contains(filter, own)).toBe(granted))

  it.each([
    ['down/north/SN-1/#', true], ['down/north/SN-1', true], ['down/north/SN-1/cmd/+', true], ['down/north/SN-1/+/#', true],
    ['down/north/+/#', false], ['down/north/SN-10/#', false], ['down/#', false], ['down/north/SN-1#', false],
  ])('a terminal below its own downlink, %s: %s', (filter, granted) => expect(contains(filter, ['down/north/SN-1/#'])).toBe(granted))

  it('nothing is contained in nothing', () => expect(contains('a', [])).toBe(false))

  it('is exactly: no topic matches the filter but none of the templates (compared with all topics of four levels)', () => {
    fc.assert(fc.property(filters, fc.array(templates, { maxLength: 4 }), (filter, patterns) => {
      const wanted = asRegExp(filter)
      const own = patterns.map(asRegExp)
      const inside = TOPICS.filter((topic) => wanted.test(topic)).every((topic) => own.some((pattern) => pattern.test(topic)))
      expect(contains(filter, patterns)).toBe(inside)
    }), { numRuns: 500 })
  })

  it('never grants more, when patterns may end in # too', () => {
    fc.assert(fc.property(filters, fc.array(fc.oneof(templates, filters), { maxLength: 4 }), (filter, patterns) => {
      const own = patterns.map(asRegExp)
      if (!contains(filter, patterns)) return
      for (const topic of TOPICS.filter((name) => asRegExp(filter).test(name))) expect(own.some((pattern) => pattern.test(topic))).toBe(true)
    }), { numRuns: 500 })
  })
})

describe('filter and topic', () => {
  it.each([
    ['sport/tennis/player1/#', 'sport/tennis/player1', true], ['sport/tennis/player1/#', 'sport/tennis/player1/ranking', true], ['#', 'sport', true],
    ['sport/+', 'sport', false], ['sport/+', 'sport/', true], ['+/+', '/finance', true], ['/+', '/finance', true], ['+', '/finance', false],
    ['#', '$SYS/x', false], ['+/x', '$SYS/x', false], ['$SYS/#', '$SYS/x', true], ['sport/tennis/+', 'sport/tennis/player1/ranking', false],
    ['a/b', 'a/bc', false], ['a/bc', 'a/b', false],
  ])('the examples of MQTT 4.7: %s and %s: %s', (filter, topic, matches) => expect(filterMatches(filter, topic)).toBe(matches))

  it('agrees with the regular expression', () => {
    fc.assert(fc.property(filters, (filter) => {
      for (const topic of TOPICS) expect(filterMatches(filter, topic)).toBe(asRegExp(filter).test(topic))
    }))
  })
})
