/** What the figures must show, as ratios within one run wherever there is something to hold them against. */
export interface Goal {
  readonly what: string
  readonly bench: string
  /** The row whose case begins so. */
  readonly case: string
  readonly figure: string
  readonly unit: string
  /** What was set out to be reached, and what must hold in any case; the same when left out. */
  readonly least?: number
  readonly most?: number
  readonly must?: number
}

/** y = a x^b with b = 0.08: a tenfold size costs 1.2 times as much. */
const FLAT = [
  ['a decision, by operators', 'decide by operators'], ['a message, by fields in the rules', 'pipeline by fields named in the rules'], ['a message, by streams', 'pipeline by streams'],
] as const
const LINEAR = [['a message, by outputs', 'pipeline by outputs of the stream'], ['a message, by its bytes', 'pipeline by bytes of the message']] as const

export const GOALS: readonly Goal[] = [
  { what: 'status message, 25 fields: as fast as protobufjs decode-edit-encode', bench: 'minimise', case: 'status 189 B: minimiser', figure: 'vs_protobufjs', unit: 'x', least: 20, must: 10 },
  { what: 'the same beside copying its bytes', bench: 'minimise', case: 'status 189 B: minimiser', figure: 'vs_copy', unit: 'x', most: 5, must: 8 },
  { what: 'allocated for a message', bench: 'minimise', case: 'status 189 B: minimiser', figure: 'allocated_bytes_per_message', unit: ' B', most: 0 },
  { what: 'consent decision at 1,000,000 known operators', bench: 'decide', case: '1000000 operators, 1000 machines, 8 purposes', figure: 'ns', unit: ' ns', most: 100 },
  { what: 'gateway, QoS 1, durable: plain aedes = 1', bench: 'gateway', case: 'QoS 1: parapet, durable', figure: 'vs_aedes', unit: 'x', least: 0.6 },
  { what: 'gateway, QoS 0: plain aedes = 1', bench: 'gateway', case: 'QoS 0: parapet', figure: 'vs_aedes', unit: 'x', least: 0.75 },
  { what: 'message to PUBACK at half of the measured maximum, p99', bench: 'latency', case: 'parapet at 50 %', figure: 'ack_p99_ms', unit: ' ms', most: 20 },
  { what: 'event loop late at half of the maximum, p99', bench: 'latency', case: 'parapet at 50 %', figure: 'loop_p99_ms', unit: ' ms', most: 20 },
  { what: 'withdrawal acknowledged at half of the maximum, p99', bench: 'latency', case: 'withdrawal', figure: 'ack_p99_ms', unit: ' ms', most: 10 },
  { what: 'longest pause of a reload at half of the maximum, processor time', bench: 'latency', case: 'reload', figure: 'pause_cpu_ms', unit: ' ms', most: 20 },
  { what: 'acknowledged and lost in reloads', bench: 'latency', case: 'reload', figure: 'lost', unit: '', most: 0 },
  { what: 'acknowledged and lost at three times the maximum', bench: 'latency', case: 'overload', figure: 'lost', unit: '', most: 0 },
  { what: 'largest memory at three times the maximum', bench: 'latency', case: 'overload', figure: 'peak_mb', unit: ' MB', most: 1_024 },
  { what: 'after that, until the p99 is at most 20 ms again', bench: 'latency', case: 'overload', figure: 'recovery_s', unit: ' s', most: 5 },
  ...FLAT.map(([what, name]) => ({ what: `${what}: exponent of its growth`, bench: 'curves', case: name, figure: 'exponent', unit: '', most: 0.08 })),
  ...LINEAR.map(([what, name]) => ({ what: `${what}: exponent of its growth`, bench: 'curves', case: name, figure: 'exponent', unit: '', most: 1.1 })),
  { what: 'an idle connection', bench: 'connections', case: 'parapet, idle connections', figure: 'rss_kb_each', unit: ' KB', most: 50 },
]

/** Whether a goal is reached, at least what must hold is, or not even that. */
export function standing({ least, most, must = least ?? most }: Goal, found: number): 'reached' | 'not reached' | 'missed' {
  const holds = (bound: number): boolean => (least === undefined ? found <= bound : found >= bound)
  if (holds((least ?? most)!)) return 'reached'
  return holds(must!) ? 'not reached' : 'missed'
}
