/**
 * Counters as plain numbers: a slot in a Float64Array behind a handle on the hot path (a few nanoseconds, no allocation), and
 * prom-client only when somebody scrapes. Names and label sets are fixed in one table; a label value is a verdict name, an
 * output or stream of the rules, or a member of a closed list, never something that came with a message (G8).
 */
import type { Metric, Registry } from 'prom-client'
import type { OutputId, StreamId } from './domain/ids.ts'
import { LIMITS } from './domain/limits.ts'
import { Verdict, verdictName } from './domain/verdict.ts'
import type { VerdictName } from './domain/verdict.ts'

/** Closed sets of label values. `output` and `stream` are filled by `useRules`, `bridge` and `destination` by `useBridges`, `version` and `node` by `useBuild`. */
const LABELS = {
  verdict: Object.keys(Verdict),
  listener: ['terminals', 'recipients', 'admin'],
  /** KILL_REASONS of broker/counts.ts. */
  kill: [
    'packet_too_big', 'connect_too_big', 'packet_too_slow', 'connect_late', 'malformed', 'protocol', 'topic', 'rate', 'keepalive', 'slow_reader',
    'unauthorised', 'outbox', 'connections', 'connect_rate', 'revoked', 'closing', 'withdrawal', 'taken_over',
  ],
  /** The rest of what broker/counts.ts counts, by its own names. */
  event: [
    'connect.admitted', 'connect.refused', 'connect.locked', 'received.qos0', 'received.qos1', 'received.qos2', 'received.duplicate', 'session.evicted', 'handle.failed', 'handle.no_room',
    'subscribe.granted', 'subscribe.refused', 'subscribe.revoked',
    'deliver.live', 'deliver.queued', 'deliver.gated', 'deliver.dropped_qos0', 'deliver.queue_full', 'deliver.retained_full', 'deliver.retained_gone',
    'downlink.sent', 'downlink.stored', 'downlink.acknowledged', 'downlink.expired', 'downlink.dropped', 'downlink.not_allowed', 'downlink.retained', 'downlink.too_big',
    'downlink.qos', 'downlink.unknown_machine', 'downlink.foreign_fleet', 'downlink.not_subscribed', 'downlink.absent', 'downlink.full', 'ctl.unused',
  ],
  session: ['on', 'off', 'expired', 'unknown_card', 'shared_card', 'handover', 'forgotten'],
  /** CHOICE_RESULTS of consent/choices.ts. */
  choice: ['recorded', 'repeated', 'not_understood', 'nobody', 'unknown_purpose', 'other_notice', 'stale', 'too_many'],
  purge: ['withdrawal', 'expiry', 'quota', 'erasure', 'device_setting', 'rules', 'dismissed'],
  result: ['accepted', 'refused', 'staged'],
  /** Closed by consent or rules since it was queued; past its time; QoS 0 that the connection could not take. */
  bridgeReason: ['gated', 'expired', 'dropped_qos0'],
  answer: ['ok', 'client_error', 'server_error'],
  memory: ['resident', 'heap', 'external'],
  delay: ['p50', 'p99', 'max'],
  /** What /readyz can name. */
  condition: [
    'NO-RULES', 'RULES-STAGED', 'RULES-SET-ASIDE', 'RULES-REFUSED', 'NO-MACHINES', 'REGISTRY-REFUSED', 'LEDGER-DAMAGED', 'CLOCK-UNSURE', 'OUTBOX-UNHEALTHY',
    'OUTBOX-FULL', 'OUTPUT-FULL', 'VERIFY-VIOLATION', 'BRIDGE-DOWN', 'BRIDGE-REFUSED', 'DEAD-LETTERS', 'CLOSING',
    'CERTIFICATE-EXPIRES', 'CERTIFICATE-EXPIRED', 'CERTIFICATE-REFUSED', 'CRL-EXPIRES', 'CRL-EXPIRED',
    'DISK-LOW', 'BACKLOG-OLD', 'EVENT-LOOP-SLOW',
  ],
} as const satisfies Record<string, readonly string[]>

/** Sets that are filled while the gateway runs, each up to LIMITS.labelValues. */
const OPEN_SETS = ['output', 'stream', 'bridge', 'destination', 'version', 'node'] as const
type OpenSet = (typeof OPEN_SETS)[number]
type LabelSet = keyof typeof LABELS | OpenSet
interface Family {
  readonly kind: 'counter' | 'gauge'
  readonly help: string
  readonly labels?: Readonly<Record<string, LabelSet>>
}

/** Every counter and gauge there is. The key without prefix is what the rest of the product says; the scrape says `parapet_<key>`. */
export const FAMILIES = {
  messages_received_total: { kind: 'counter', help: 'PUBLISH packets from terminals that a stream matched.', labels: { stream: 'stream' } },
  messages_refused_total: { kind: 'counter', help: 'Messages that went to no output, by reason.', labels: { reason: 'verdict' } },
  received_bytes_total: { kind: 'counter', help: 'Payload bytes received from terminals.' },
  forwarded_bytes_total: { kind: 'counter', help: 'Payload bytes of minimised messages.' },
  output_forwarded_total: { kind: 'counter', help: 'Minimised messages handed on, by output.', labels: { output: 'output' } },
  output_withheld_total: { kind: 'counter', help: 'Messages an output did not get, by reason.', labels: { output: 'output', reason: 'verdict' } },
  fields_failed_total: { kind: 'counter', help: 'Fields dropped because their transform could not be applied.', labels: { output: 'output' } },
  delivered_total: { kind: 'counter', help: 'Messages that left the gateway, acknowledged by the recipient where QoS says so.', labels: { output: 'output' } },
  connections_total: { kind: 'counter', help: 'Connections accepted.', labels: { listener: 'listener' } },
  connections: { kind: 'gauge', help: 'Connections open now.', labels: { listener: 'listener' } },
  kills_total: { kind: 'counter', help: 'Connections closed by the gateway, by reason.', labels: { reason: 'kill' } },
  broker_events_total: { kind: 'counter', help: 'What else happened at the brokers.', labels: { event: 'event' } },
  wills_discarded_total: { kind: 'counter', help: 'Wills in a terminal\'s CONNECT, accepted and never sent.' },
  sessions: { kind: 'gauge', help: 'Operator sessions open now.' },
  session_events_total: { kind: 'counter', help: 'Sign-ons, sign-offs and their like.', labels: { event: 'session' } },
  // Without a state label on purpose: in a small crew a count of refusals beside a shift plan says who refused.
  consent_choices_total: { kind: 'counter', help: 'Consent messages of terminals, by whether they counted and why not; never by what they said.', labels: { result: 'choice' } },
  consent_changes_total: { kind: 'counter', help: 'Changes of consent of any kind.' },
  outbox_records: { kind: 'gauge', help: 'Messages waiting in the outbox.' },
  outbox_bytes: { kind: 'gauge', help: 'Bytes waiting in the outbox.' },
  outbox_limit_bytes: { kind: 'gauge', help: 'limits.outbox_bytes of the gateway file.' },
  queue_age_seconds: { kind: 'gauge', help: 'How long the oldest message waits that a destination has not taken; `sessions` = recipients that are away. 0 = none waits.', labels: { destination: 'destination' } },
  outbox_purged_total: { kind: 'counter', help: 'Messages removed from the outbox other than by delivery.', labels: { reason: 'purge' } },
  bridge_connected: { kind: 'gauge', help: '1 while the bridge is connected to its broker.', labels: { bridge: 'bridge' } },
  bridge_connects_total: { kind: 'counter', help: 'Attempts to connect.', labels: { bridge: 'bridge' } },
  bridge_in_flight: { kind: 'gauge', help: 'Messages sent and not yet acknowledged; at most bridge_window.', labels: { bridge: 'bridge' } },
  bridge_window: { kind: 'gauge', help: 'Messages that may be on the way: the smaller of the configured window and the broker\'s Receive Maximum.', labels: { bridge: 'bridge' } },
  bridge_sent_total: { kind: 'counter', help: 'Messages sent, repetitions included.', labels: { bridge: 'bridge' } },
  bridge_acked_total: { kind: 'counter', help: 'Messages acknowledged by the broker.', labels: { bridge: 'bridge' } },
  bridge_retried_total: { kind: 'counter', help: 'Messages that the broker refused for now.', labels: { bridge: 'bridge' } },
  bridge_unknown_total: { kind: 'counter', help: 'Messages on the way when the connection was lost: sent again, counted as disclosed.', labels: { bridge: 'bridge' } },
  bridge_dead_total: { kind: 'counter', help: 'Messages that the broker refused for good: kept aside in the outbox.', labels: { bridge: 'bridge' } },
  bridge_withheld_total: { kind: 'counter', help: 'Messages that were not sent when their turn came.', labels: { bridge: 'bridge', reason: 'bridgeReason' } },
  bridge_batches_total: { kind: 'counter', help: 'Batches sent.', labels: { bridge: 'bridge' } },
  bridge_saved_bytes_total: { kind: 'counter', help: 'Bytes that the compression of batches saved.', labels: { bridge: 'bridge' } },
  rules_loads_total: { kind: 'counter', help: 'Rules files read, by whether they were accepted.', labels: { result: 'result' } },
  ready: { kind: 'gauge', help: '1 when the gateway is ready.' },
  conditions: { kind: 'gauge', help: '1 while /readyz names this condition, 0 while it does not.', labels: { code: 'condition' } },
  admin_requests_total: { kind: 'counter', help: 'Requests to the admin API.', labels: { answer: 'answer' } },
  admin_denied_total: { kind: 'counter', help: 'Requests to the admin API with a wrong token, or from an address that is locked out.' },
  admin_limited_total: { kind: 'counter', help: 'Requests to the admin API that were too many for their token or address.' },
  disk_free_bytes: { kind: 'gauge', help: 'Free space of the file system that holds the data folder.' },
  disk_size_bytes: { kind: 'gauge', help: 'Size of the file system that holds the data folder.' },
  event_loop_delay_seconds: { kind: 'gauge', help: 'How late turns of the event loop came in the last 15 to 30 s.', labels: { quantile: 'delay' } },
  process_memory_bytes: { kind: 'gauge', help: 'Memory of the process.', labels: { kind: 'memory' } },
  process_cpu_seconds_total: { kind: 'counter', help: 'Processor time of the process.' },
  process_open_fds: { kind: 'gauge', help: 'File descriptors open now; 0 where the system does not say.' },
  process_handles: { kind: 'gauge', help: 'Sockets, timers and requests that keep the process alive.' },
  process_start_time_seconds: { kind: 'gauge', help: 'When the gateway started, seconds since the epoch.' },
  build_info: { kind: 'gauge', help: 'Always 1: which version runs, on which Node.', labels: { version: 'version', node: 'node' } },
} as const satisfies Record<string, Family>

export type FamilyName = keyof typeof FAMILIES
/** Codes of /readyz that `conditions` shows. */
export const CONDITIONS: readonly string[] = LABELS.condition
/** Upper bounds in seconds. A commit is an fsync: 0.1 ms on a good disk, seconds on a worn SD card. */
export const COMMIT_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5] as const
/** A terminal whose message there is no room for waits for its acknowledgement for as long as that lasts. */
const ACK_BUCKETS = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600] as const
/** From a millisecond, which is what the records' times tell, to a day: outages and recipients that are away count as they are. */
const DELIVERY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3_600, 21_600, 86_400] as const

/** Every histogram there is, in seconds. What is kept for a window on purpose counts from the end of the window. */
export const HISTOGRAMS = {
  commit_seconds: { help: 'Duration of one group commit of the outbox.', buckets: COMMIT_BUCKETS },
  ack_seconds: { help: 'From a message of a terminal, at QoS 1 or 2, to its acknowledgement.', buckets: ACK_BUCKETS },
  delivery_seconds: { help: 'From a message of a terminal to what came of it being handed to a recipient at this gateway.', buckets: DELIVERY_BUCKETS },
  cloud_ack_seconds: { help: 'From a message of a terminal to the acknowledgement of what came of it by the broker of a bridge.', buckets: DELIVERY_BUCKETS, labels: { bridge: 'bridge' } },
} as const satisfies Record<string, { readonly help: string; readonly buckets: readonly number[]; readonly labels?: Readonly<Record<string, LabelSet>> }>
export type HistogramName = keyof typeof HISTOGRAMS

/** One number. Kept by whoever counts, so that counting is an addition and nothing else. */
export interface Counter {
  add(by?: number): void
  /** For gauges. */
  set(value: number): void
  readonly value: number
}

/** Counts durations in fixed buckets; no allocation. */
export interface Histogram {
  /** @param times  so many messages that took as long */
  observe(seconds: number, times?: number): void
}

/** Counters of one output; the reason is the verdict code (negative) as the minimiser returned it. */
export interface OutputCounters {
  readonly forwarded: Counter
  withheld(code: number): void
  /** Reason -> count, those above zero. */
  reasons(): Partial<Record<VerdictName, number>>
}

export interface Metrics {
  /** A handle for one series. A label value outside its closed set gives the series `other`. */
  counter(name: FamilyName, ...values: readonly string[]): Counter
  /** Counts once through the name; off the hot path. */
  count(name: FamilyName, by?: number, ...values: readonly string[]): void
  gauge(name: FamilyName, value: number, ...values: readonly string[]): void
  /** Hot path: a message that went nowhere, by verdict code. */
  refused(code: number): void
  output(id: OutputId): OutputCounters
  stream(id: StreamId): Counter
  /** Seconds of one group commit. */
  commit(seconds: number): void
  /** A handle for one series. */
  histogram(name: HistogramName, ...values: readonly string[]): Histogram
  /** Admits the outputs and streams of a rules set as label values; earlier ones keep their series. */
  useRules(outputs: Iterable<OutputId>, streams: Iterable<StreamId>): void
  /** Admits the names of bridges as label values. */
  useBridges(names: Iterable<string>): void
  /** Sets `build_info`. */
  useBuild(version: string, node: string): void
  /** Called before every scrape, to set gauges; the scrape waits for it. */
  onScrape(collect: () => void | Promise<void>): void
  /** [Prometheus text format 0.0.4] */
  text(): Promise<string>
  readonly contentType: string
}

export function createMetrics(): Metrics {
  const cells = createCells()
  const series = new Map<FamilyName, Map<string, { readonly values: readonly string[]; readonly counter: Counter }>>()
  const named = Object.fromEntries(OPEN_SETS.map((set) => [set, new Set<string>()])) as Record<OpenSet, Set<string>>
  for (const destination of DESTINATIONS) named.destination.add(destination)
  const outputs = new Map<string, OutputCounters>()
  const collectors: (() => void | Promise<void>)[] = []
  const histograms = new Map<HistogramName, Map<string, { readonly values: readonly string[]; readonly buckets: Buckets }>>()

  function labelsOf(name: FamilyName): readonly [string, LabelSet][] {
    const family: Family = FAMILIES[name]
    return Object.entries(family.labels ?? {})
  }

  function histogramLabels(name: HistogramName): readonly [string, LabelSet][] {
    const about: { readonly help: string; readonly labels?: Readonly<Record<string, LabelSet>> } = HISTOGRAMS[name]
    return Object.entries(about.labels ?? {})
  }

  function histogram(name: HistogramName, ...given: readonly string[]): Histogram {
    const values = histogramLabels(name).map(([, set], index) => admitted(set, given[index]))
    const key = values.join('\u0000')
    let family = histograms.get(name)
    if (family === undefined) histograms.set(name, (family = new Map()))
    let found = family.get(key)
    if (found === undefined) family.set(key, (found = { values, buckets: new Buckets(HISTOGRAMS[name].buckets) }))
    return found.buckets
  }

  function admitted(set: LabelSet, value: string | undefined): string {
    const known = set in named ? named[set as OpenSet].has(value ?? '') : (LABELS[set as keyof typeof LABELS] as readonly string[]).includes(value ?? '')
    return known && value !== undefined ? value : 'other'
  }

  function counter(name: FamilyName, ...given: readonly string[]): Counter {
    const values = labelsOf(name).map(([, set], index) => admitted(set, given[index]))
    const key = values.join('\u0000')
    let family = series.get(name)
    if (family === undefined) series.set(name, (family = new Map()))
    let found = family.get(key)
    if (found === undefined) family.set(key, (found = { values, counter: cells() }))
    return found.counter
  }

  /** Handles by verdict code, made on the first use of a code: at most 64 of them. */
  function byCode(make: (name: VerdictName) => Counter): { add(code: number): void; entries(): [VerdictName, number][] } {
    const handles: (Counter | undefined)[] = Array.from({ length: 64 })
    return {
      add(code) {
        const index = -code & 63
        ;(handles[index] ??= make(verdictName(code))).add()
      },
      entries: () => handles.flatMap((handle, index) => (handle === undefined ? [] : [[verdictName(-index), handle.value]])),
    }
  }

  function output(id: OutputId): OutputCounters {
    const known = outputs.get(id)
    if (known !== undefined) return known
    const reasons = byCode((name) => counter('output_withheld_total', id, name))
    const made: OutputCounters = {
      forwarded: counter('output_forwarded_total', id),
      withheld: (code) => reasons.add(code),
      reasons: () => Object.fromEntries(reasons.entries()),
    }
    // An output that the rules do not name counts as `other` until they do.
    if (named.output.has(id)) outputs.set(id, made)
    return made
  }

  const refusals = byCode((name) => counter('messages_refused_total', name))

  // A family without labels shows zero from the start, so that an alert on its rate has something to stand on.
  for (const name of Object.keys(FAMILIES) as FamilyName[]) if (labelsOf(name).length === 0) counter(name)
  for (const name of Object.keys(HISTOGRAMS) as HistogramName[]) if (histogramLabels(name).length === 0) histogram(name)
  const commits = histogram('commit_seconds')

  /** Loaded at the first scrape: a gateway that nobody scrapes does without. */
  let registry: Promise<Registry> | undefined
  async function openRegistry(): Promise<Registry> {
    const { Registry } = await import('prom-client')
    const made = new Registry()
    for (const name of Object.keys(FAMILIES) as FamilyName[]) {
      const { kind, help } = FAMILIES[name]
      register(made, `parapet_${name}`, kind, help, () =>
        [...(series.get(name)?.values() ?? [])].map(({ values, counter: { value } }) => ({
          value, labels: Object.fromEntries(labelsOf(name).map(([label], index) => [label, values[index] ?? 'other'])),
        })))
    }
    for (const name of Object.keys(HISTOGRAMS) as HistogramName[]) {
      register(made, `parapet_${name}`, 'histogram', HISTOGRAMS[name].help, () =>
        [...(histograms.get(name)?.values() ?? [])].flatMap(({ values, buckets }) =>
          buckets.samples(`parapet_${name}`, Object.fromEntries(histogramLabels(name).map(([label], index) => [label, values[index] ?? 'other'])))))
    }
    return made
  }

  return {
    counter,
    count: (name, by = 1, ...values) => counter(name, ...values).add(by),
    gauge: (name, value, ...values) => counter(name, ...values).set(value),
    refused: (code) => refusals.add(code),
    output,
    stream: (id) => counter('messages_received_total', id),
    commit: (seconds) => commits.observe(seconds),
    histogram,
    useRules(outputIds, streamIds) {
      for (const [set, ids] of [[named.output, outputIds], [named.stream, streamIds]] as const) {
        for (const id of ids) if (set.size < LIMITS.labelValues) set.add(id)
      }
    },
    useBridges: (names) => {
      for (const name of names) {
        if (named.bridge.size >= LIMITS.labelValues) return
        named.bridge.add(name)
        named.destination.add(name)
      }
    },
    useBuild: (version, node) => {
      named.version.add(version)
      named.node.add(node)
      counter('build_info', version, node).set(1)
    },
    onScrape: (collect) => void collectors.push(collect),
    async text() {
      for (const collect of collectors) await collect()
      return (await (registry ??= openRegistry())).metrics()
    },
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
  }
}

/** Destinations that every gateway has. */
const DESTINATIONS = ['local', 'sessions'] as const

class Buckets implements Histogram {
  readonly #bounds: Float64Array
  /** One more than there are bounds, and the sum. */
  readonly #counts: Float64Array

  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.from(bounds)
    this.#counts = new Float64Array(bounds.length + 2)
  }

  observe(seconds: number, times = 1): void {
    // A clock that was set back between the two ends of a duration.
    const value = seconds > 0 ? seconds : 0
    let index = 0
    while (index < this.#bounds.length && value > (this.#bounds[index] as number)) index += 1
    this.#counts[index]! += times
    this.#counts[this.#bounds.length + 1]! += value * times
  }

  samples(name: string, labels: Sample['labels']): Sample[] {
    let total = 0
    const buckets = [...this.#bounds, '+Inf'].map((le, index): Sample => ({ metricName: `${name}_bucket`, value: (total += this.#counts[index] ?? 0), labels: { le, ...labels } }))
    return [...buckets, { metricName: `${name}_sum`, value: this.#counts[this.#bounds.length + 1] ?? 0, labels }, { metricName: `${name}_count`, value: total, labels }]
  }
}

/** Hands out slots of arrays that never move, so that a handle stays valid while others are added. */
function createCells(): () => Counter {
  let chunk = new Float64Array(256)
  let used = 0
  return () => {
    if (used === chunk.length) {
      chunk = new Float64Array(256)
      used = 0
    }
    return new Cell(chunk, used++)
  }
}

class Cell implements Counter {
  readonly #cells: Float64Array
  readonly #index: number

  constructor(cells: Float64Array, index: number) {
    this.#cells = cells
    this.#index = index
  }

  add(by = 1): void {
    this.#cells[this.#index]! += by
  }

  set(value: number): void {
    this.#cells[this.#index] = value
  }

  get value(): number {
    return this.#cells[this.#index]!
  }
}

interface Sample {
  readonly metricName?: string
  readonly value: number
  readonly labels: Readonly<Record<string, string | number>>
}

/** Gives prom-client a metric that reads our cells when asked, instead of one that keeps numbers of its own. */
function register(registry: Registry, name: string, type: 'counter' | 'gauge' | 'histogram', help: string, read: () => Sample[]): void {
  const metric = { name, help, type, aggregator: 'sum', get: () => Promise.resolve({ name, help, type, aggregator: 'sum', values: read() }) }
  registry.registerMetric(metric as unknown as Metric)
}
