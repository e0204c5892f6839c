/**
 * Every bound in one place, with where it comes from and what happens at it (G6). The gateway file may lower most of them.
 */
export const LIMITS = {
  /** MQTT packet from a terminal; past it the connection is closed and counted. 256 KiB holds a 64 KiB media chunk with room. */
  packetBytes: 262_144,
  /** The first packet (CONNECT), before anybody is authenticated. */
  connectBytes: 16_384,
  /** From the first to the last byte of one packet. */
  packetTimeMs: 10_000,
  /** From the TCP accept to a complete CONNECT. */
  connectTimeMs: 5_000,
  connections: 10_000,
  messagesPerSecond: 200,
  /** PUBLISHes of one terminal handed over and not yet answered; at it the guard stops handing over. */
  unanswered: 64,
  /** Bytes of PUBLISHes that wait for those before them, of one connection and of all; past it sockets are not read. */
  heldBytes: 1_048_576,
  heldBytesAll: 268_435_456,
  /** Bytes that wait for one peer to read, and how long it may read nothing at all; past it the connection is closed. */
  unwrittenBytes: 4_194_304,
  drainTimeMs: 3_000,
  /** Connections of one machine or recipient at a time; further ones are refused. */
  connectionsPerIdentity: 8,
  /** Connections of one address in a second, and at once after a rest; further ones are closed at once. Not on loopback unless the gateway file says so. */
  addressConnectsPerSecond: 20,
  addressConnectBurst: 100,
  /** Connections of one machine or recipient in a minute, half of them at once; further ones are refused and those that are open stay. */
  identityConnectsPerMinute: 60,
  /** Wrong passwords before an identity or address waits, first for loginLockMs, then twice as long each time up to loginLockMaxMs. */
  loginFailures: 5,
  loginLockMs: 60_000,
  loginLockMaxMs: 3_600_000,
  /** Identities and addresses remembered for that; the one seen longest ago is forgotten first. */
  loginEntries: 16_384,
  /** Subscriptions of one session; further ones are refused. */
  terminalFilters: 16,
  recipientFilters: 256,
  /** Messages and bytes for one absent recipient session, retained copies of all, persistent sessions of one recipient; the oldest goes first. */
  offlineMessages: 10_000,
  offlineBytes: 16_777_216,
  retained: 10_000,
  recipientSessions: 64,
  /** Commands and their bytes that wait for one machine's sessions, and for all; further ones are refused and counted. */
  machineCommands: 100,
  machineCommandBytes: 1_048_576,
  commands: 10_000,
  commandBytes: 67_108_864,
  /** How long a command may wait for its terminal at most, and how large it may be when the gateway file does not say. */
  commandTtlMs: 30 * 86_400_000,
  commandPayloadBytes: 4_096,
  /** Patterns of commands in one list of the gateway file. */
  commandPatterns: 64,
  /** Nesting of protobuf messages; deeper is refused. */
  depth: 32,
  /** A Decision is a 32-bit set; bits 30 and 31 stay free. */
  purposes: 30,
  streams: 1_000,
  outputs: 256,
  /** Result of one output; past it the output gets nothing of the message (`result_too_big`). */
  resultBytes: 262_144,
  /** Where results of ordinary messages lie; for more and larger ones it grows for as long as the message is in hand. */
  scratchBytes: 1_048_576,
  /** Pseudonyms kept ready per output. */
  pseudonymCache: 65_536,
  /** Compiled, of the rules in force and those before. */
  minimisers: 4_096,
  /** Tests, messages, findings printed. */
  findings: 200,
  /** Size of a YAML file; also of a rules file with all that it includes. */
  fileBytes: 16_777_216,
  /** Files that one rules file includes, parameters that it declares, and different sets of values that its tests name. */
  includes: 64,
  params: 256,
  testParams: 16,
  topicBytes: 1_024,
  topicLevels: 32,
  outboxBytes: 4_294_967_296,
  /** Records of the outbox in one transaction; what one turn accepts beyond it goes into further ones. 1,024 take about 3 ms. */
  outboxGroupRecords: 1_024,
  /** Group commit: whichever comes first. */
  commitRecords: 256,
  commitMs: 2,
  /** Rows of subjects and keys of the ledger kept ready in memory. */
  subjectRowCache: 65_536,
  /** Plain body of one ledger event; past it the event is refused (a scope that is too long is stored as its hash). */
  ledgerBodyBytes: 262_144,
  /** Events read from the ledger at a time. */
  ledgerPage: 512,
  /** Policies whose notices are remembered per operator in the decision table: the newest ones. */
  noticePolicies: 30,
  /** Sign-ons and sign-offs kept per machine; at it the oldest is forgotten, and what lies before is nobody's. */
  sessionMarks: 64,
  /** Machines with a session history; past it further machines have nobody known. */
  sessionMachines: 100_000,
  /** Sign-ons and sign-offs of one machine an hour; past it the machine's history is dropped and nobody is known for the rest of the hour. */
  sessionMarksPerHour: 120,
  /** How old a yes given at a terminal may be, and how sure its clock is: past it the yes must name the state that it replaces. */
  choiceFreshMs: 120_000,
  /** Consent messages of one machine an hour; past it only a no that ends a yes still counts. */
  choicesPerHour: 240,
  /** How far an event time may lie ahead of the gateway's clock; past it the clock is unsure and nobody is known. */
  eventAheadMs: 300_000,
  /** Request bodies of the admin API; past it the answer is 413. A rules file may be larger than the rest. */
  adminBodyBytes: 65_536,
  adminRulesBytes: 1_048_576,
  /** Connections to the admin listener; further ones are closed at once. */
  adminConnections: 256,
  /** Wrong tokens from one address before it is locked out, first for adminLockMs, then twice as long each time up to adminLockMaxMs. */
  adminFailures: 5,
  adminLockMs: 60_000,
  adminLockMaxMs: 900_000,
  /** Addresses whose failures are remembered; the one seen longest ago is forgotten first. */
  adminAddresses: 4_096,
  adminTokens: 256,
  /** Requests to the admin API of one token and of one address, in a second and at once after a rest; further ones are answered 429. */
  adminTokenPerSecond: 200,
  adminTokenBurst: 1_000,
  adminAddressPerSecond: 500,
  adminAddressBurst: 2_000,
  /** Looking at live traffic, shadow and trace each: messages that wait for it, and processor time in each second; past it a message is passed over, and counted. A few are taken in any case. */
  watchWaiting: 64,
  watchMsPerSecond: 50,
  watchLeast: 10,
  /** Lines of the report of a shadow run; differences in further places are counted together. */
  shadowRows: 1_000,
  /** How long a shadow run and a trace last at most. */
  shadowMs: 86_400_000,
  traceMs: 3_600_000,
  /** Traces at a time; messages and bytes kept of each, the oldest goes first; how long what it saw can be fetched after its end. */
  traces: 4,
  traceMessages: 500,
  traceBytes: 4_194_304,
  traceKeptMs: 60_000,
  /** Outputs and fields shown of one message, and characters of a value; the rest is counted or cut. */
  traceOutputs: 32,
  traceFields: 256,
  traceValue: 200,
  /** Values of one metric label; further ones count as `other`. */
  labelValues: 2_048,
  /** Rules that somebody has checked and that wait for it, a MiB each at most; at it the next are refused. */
  validations: 16,
  /** How far into the future an event time may lie before the terminal's clock counts as unsure; past it nobody is known. */
  aheadMs: 300_000,
  /** Learn mode: how long at most; messages looked at in a second, fields of one, findings of one; rows, past which findings are only counted. */
  learnMs: 604_800_000,
  learnPerSecond: 500,
  learnFields: 4_096,
  learnPerMessage: 64,
  learnRows: 1_000,
  /** Machines told apart in one row; levels of a topic that are shown; the largest number of an enum that is. */
  learnMachines: 100,
  learnLevels: 8,
  learnMember: 1_023,
  /** A recording: how long, how large and how long kept at most; a larger wish is refused. Files at a time; at it the next start is refused. */
  recordingMs: 86_400_000,
  recordingBytes: 1_073_741_824,
  recordingKeepMs: 2_592_000_000,
  recordings: 16,
  /** Free space that a recording must leave to the rest of the data folder. */
  recordingSpareBytes: 67_108_864,
} as const
