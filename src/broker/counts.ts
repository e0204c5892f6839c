/**
 * What the broker room counts and says. Closed lists: a name or sentence outside them does not compile, so nothing that came
 * over a socket can end up in a metric or a log line (G8).
 */

/** Why a connection was closed by us. */
export const KILL_REASONS = [
  /** A packet past LIMITS.packetBytes; a CONNECT past LIMITS.connectBytes. */
  'packet_too_big', 'connect_too_big',
  /** First to last byte of a packet took longer than LIMITS.packetTimeMs; no CONNECT within LIMITS.connectTimeMs. */
  'packet_too_slow', 'connect_late',
  /** Bytes that break MQTT; packets that may not come here or now, HTTP among them. */
  'malformed', 'protocol',
  /** A topic or a list of filters past our limits. */
  'topic',
  /** More control packets a second than any terminal needs. PUBLISH is slowed instead. */
  'rate',
  'keepalive',
  /** The peer does not read what it is sent. */
  'slow_reader',
  /** A recipient tried to publish. */
  'unauthorised',
  /** The outbox could not make a message safe: closed without an ack, so that the terminal sends it again. */
  'outbox',
  /** Too many connections of one identity, or of all. */
  'connections',
  /** Too many of them in a short time, of one address or one identity. */
  'connect_rate',
  /** The machine or recipient was removed or given another credential, or its certificate was revoked. */
  'revoked',
  /** Bytes that a withdrawal covers were out and not acknowledged. */
  'withdrawal',
  'closing',
] as const
export type KillReason = (typeof KILL_REASONS)[number]

/** Why a command did not go to a machine. */
export const COMMAND_REFUSALS = [
  /** The recipient has no right, or none to this topic; retained; larger or with a higher QoS than the right says. These end the recipient's connection. */
  'not_allowed', 'retained', 'too_big', 'qos',
  /** Not in the registry; in another fleet; has no session with a filter for it. */
  'unknown_machine', 'foreign_fleet', 'not_subscribed',
  /** QoS 0 for a terminal that is not there; no room for another one that waits. */
  'absent', 'full',
] as const
export type CommandRefusal = (typeof COMMAND_REFUSALS)[number]

export type BrokerCount =
  | `kill.${KillReason}`
  | 'connection' | 'connect.admitted' | 'connect.refused'
  /** Refused without a look at the password, because too many were wrong before. */
  | 'connect.locked'
  /** A will came in a terminal's CONNECT and was dropped. */
  | 'will'
  /** A QoS 2 message came again and was not handled twice. */
  | 'received.duplicate'
  /** The pipeline threw. Never in a sound gateway. */
  | 'handle.failed'
  /** The outbox was full or unhealthy: the message stays unacknowledged, QoS 0 is lost. */
  | 'handle.no_room'
  /** Sessions with remembered QoS 2 ids that were forgotten at the bound. */
  | 'session.evicted'
  | 'subscribe.granted' | 'subscribe.refused' | 'subscribe.revoked'
  | 'deliver.live' | 'deliver.queued' | 'deliver.gated' | 'deliver.dropped_qos0' | 'deliver.queue_full' | 'deliver.retained_full'
  /** Retained copies of outputs that the rules do not have any more. */
  | 'deliver.retained_gone'
  /** A command was handed to a connected terminal; waits for one; was acknowledged by it; waited too long; went with its session or machine. */
  | 'downlink.sent' | 'downlink.stored' | 'downlink.acknowledged' | 'downlink.expired' | 'downlink.dropped'
  | `downlink.${CommandRefusal}`
  /** A recipient acknowledged a notice; nothing waits for it yet. */
  | 'ctl.unused'

export type Count = (name: BrokerCount, by?: number) => void

/** The sentences this room logs. Fields are identifiers that the log replaces by tags, words of our own and numbers. */
export type BrokerSentence =
  | 'connection closed' | 'connection refused' | 'subscription refused' | 'subscription withdrawn'
  | 'somebody who guesses passwords is locked out'
  | 'listening' | 'listener stopped' | 'broker reported an error' | 'the outbox could not commit' | 'the pipeline failed on a message'

export interface BrokerLogFields {
  readonly listener?: string
  readonly reason?: string
  readonly code?: string
  readonly host?: string
  readonly port?: number
  readonly tls?: boolean
  readonly status?: number
  readonly machine?: string
  readonly recipient?: string
  readonly client?: string
  readonly error?: unknown
}

/** The part of the log that the broker room uses. */
export interface BrokerLog {
  readonly info: (text: BrokerSentence, fields?: BrokerLogFields) => void
  readonly warn: (text: BrokerSentence, fields?: BrokerLogFields) => void
}
