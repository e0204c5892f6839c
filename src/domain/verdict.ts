/**
 * Why a message did not go on. One closed table: the number travels on the hot path, the name is the metric label,
 * the sentence is for people. Negative, because a minimiser returns either an end offset (>= 0) or one of these.
 *
 * kind `internal`: not final, the readable interpreter decides.
 * kind `withheld`: a policy "no" for one output; the message is fine.
 * kind `refused`:  the whole message goes nowhere (G3; all outputs or none).
 */
interface VerdictEntry {
  readonly code: number
  readonly kind: 'internal' | 'withheld' | 'refused'
  readonly text: string
}

export const Verdict = {
  odd:                { code: -1,  kind: 'internal', text: 'valid but not canonical; the interpreter takes it' },

  truncated:          { code: -2,  kind: 'refused',  text: 'the message ends inside a field' },
  bad_tag:            { code: -3,  kind: 'refused',  text: 'a field number is zero or out of range, or a wire type does not exist' },
  bad_varint:         { code: -4,  kind: 'refused',  text: 'a varint is longer than ten bytes' },
  bad_group:          { code: -5,  kind: 'refused',  text: 'a group is not closed, or closed without being open' },
  bad_utf8:           { code: -6,  kind: 'refused',  text: 'a string is not valid UTF-8' },
  too_deep:           { code: -7,  kind: 'refused',  text: 'messages are nested deeper than 32' },
  bad_topic_value:    { code: -8,  kind: 'withheld', text: 'a value for the output topic is empty or holds a separator, a wildcard or a control character' },
  too_big:            { code: -9,  kind: 'refused',  text: 'the result does not fit the scratch buffer' },
  failed:             { code: -10, kind: 'refused',  text: 'a rule failed on this message' },
  unverified:         { code: -11, kind: 'withheld', text: 'the verifier found something in an output that its plan does not name; the output is stopped' },

  result_too_big:     { code: -13, kind: 'withheld', text: 'what is left for the output is longer than a packet may be' },

  wrong_type:         { code: -12, kind: 'refused',  text: 'a field has another wire type than the schema: the message is of another type than its stream' },

  no_stream:          { code: -20, kind: 'refused',  text: 'no stream has this topic' },
  no_case:            { code: -21, kind: 'refused',  text: 'no stream names the member that this message carries' },
  unknown_machine:    { code: -22, kind: 'refused',  text: 'the machine is not in the registry' },
  foreign_machine:    { code: -23, kind: 'refused',  text: 'the topic or payload names another machine than the connection belongs to' },
  foreign_fleet:      { code: -24, kind: 'refused',  text: 'the topic names another fleet than the machine belongs to' },
  no_rules:           { code: -25, kind: 'refused',  text: 'no rules are active' },
  will:               { code: -26, kind: 'refused',  text: 'a will is accepted from a terminal and never sent' },
  empty_payload:      { code: -27, kind: 'refused',  text: 'the message has no bytes' },
  bad_time:           { code: -28, kind: 'refused',  text: 'the event time lies outside what the rules accept' },

  empty:              { code: -40, kind: 'withheld', text: 'nothing but machine, time and topic fields is left' },
  required_missing:   { code: -41, kind: 'withheld', text: 'a field that the output requires is missing' },
  when_false:         { code: -42, kind: 'withheld', text: 'the condition of the output is false' },
  when_error:         { code: -43, kind: 'withheld', text: 'the condition of the output could not be evaluated' },
  closed:             { code: -44, kind: 'withheld', text: 'the legal basis is not met: no valid consent, an objection, or nobody known' },
  forbidden:          { code: -45, kind: 'withheld', text: 'the purpose is forbidden or not listed in this country' },
  sampled:            { code: -46, kind: 'withheld', text: 'down-sampled by emit' },
  no_subscriber:      { code: -47, kind: 'withheld', text: 'nobody subscribes to the output here' },
  no_bridge:          { code: -51, kind: 'withheld', text: 'the bridge that it waited for is not in the gateway file any more' },
  output_stopped:     { code: -48, kind: 'withheld', text: 'the output was stopped by the verifier' },
  quota:              { code: -50, kind: 'withheld', text: 'the outbox has no room for this output; a safety record of the same message went on' },
  no_transfer:        { code: -49, kind: 'withheld', text: 'the recipient has no transfer tool for data from this country' },
} as const satisfies Record<string, VerdictEntry>

export type VerdictName = keyof typeof Verdict

const byCode = new Map<number, VerdictName>(
  (Object.entries(Verdict) as [VerdictName, VerdictEntry][]).map(([name, entry]) => [entry.code, name]),
)

/** Name of a negative code; the metric label. Unknown codes cannot occur and read as `failed`. */
export function verdictName(code: number): VerdictName {
  return byCode.get(code) ?? 'failed'
}

/** True when the whole message must go nowhere. */
export function isRefusal(code: number): boolean {
  return code < 0 && Verdict[verdictName(code)].kind === 'refused'
}
