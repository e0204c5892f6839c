/**
 * Typical mistakes in a rules file: what was written instead of what, where the finding must point (▸ stands right before the
 * character), its code, and words of the advice. Everything but the edited lines is the file that nothing objects to.
 */
/** Pairs of what stands in the good file (once) and what is written instead. */
export type Edits = readonly (readonly [string, string])[]

export interface Mistake {
  readonly name: string
  readonly edits: Edits
  readonly code: string
  /** Part of the sentence and the mend. */
  readonly says: string
  /**
   * How a reader who follows the advice writes it, when the message does not say "Did you mean": what stands then in the place of the edit
   * with the mark (else of the last), or all edits of the good file that it takes. Such a file is accepted.
   */
  readonly mended?: string | Edits
}

const one = (name: string, from: string, to: string, code: string, says: string, mended?: string | Edits): Mistake =>
  ({ name, edits: [[from, to]], code, says, ...(mended === undefined ? {} : { mended }) })

/** Ten that everybody makes. */
export const TYPICAL: readonly Mistake[] = [
  one('a tab', '  status:\n    topic: "up', '  status:\n▸\ttopic: "up', 'YAML-TAB', 'Use spaces.', '  status:\n    topic: "up'),
  one('a key typed wrong', '    purpose: service.operate\n', '    ▸purpos: service.operate\n', 'UNKNOWN-KEY', 'Did you mean "purpose"?', '    purpose: service.operate\n'),
  one('a field typed wrong', '          soc_pct_x10: [', '          ▸soc_pct_x01: [', 'UNKNOWN-FIELD', 'Did you mean "soc_pct_x10"?', '          soc_pct_x10: ['),
  one('a transform typed wrong', '{ grid: 1km }', '{ ▸gird: 1km }', 'UNKNOWN-TRANSFORM', 'Did you mean "grid"?', '{ grid: 1km }'),
  one('an argument of the wrong kind', '{ round: 5 % }', '{ round: ▸five }', 'TRANSFORM-ARGUMENT', 'Example: `round: 5 %`', '{ round: 5 % }'),
  one('a coordinate addressed directly', '        keep: [mode]', '        keep: [mode, ▸lat_e7]', 'PART-ADDRESSED', 'Write `position: { grid: 1km }`', '        keep: [mode]'),
  one('an operator under a contract', '          time_ms: keep\n', '          time_ms: keep\n          ▸operator_id: { pseudonym: { rotate: 7d } }\n', 'CONTRACT-OPERATOR', 'Remove the field', '          time_ms: keep\n'),
  one('a personal field without a pair', '          position: { consent: { grid: 500m }, no_consent: { grid: 10km } }', '          ▸position: { grid: 10km }', 'PAIR-MISSING', 'Write `position: { consent: { grid: 10km }, no_consent: { grid: 10km } }`.', '          position: { consent: { grid: 10km }, no_consent: { grid: 10km } }'),
  one('a country in three letters', '  DE:\n', '  ▸DEU:\n', 'UNKNOWN-PLACE', 'Write DE', '  DE:\n'),
  one('a purpose that is not declared', '    purpose: personalise', '    purpose: ▸personalize', 'UNKNOWN-PURPOSE', 'Did you mean "personalise"?', '    purpose: personalise'),
]

export const TEXT: readonly Mistake[] = [
  one('a key twice', '  app: { role', '  ▸planner: { role', 'YAML-DUPLICATE-KEY', 'first written in line 43', '  app: { role'),
  one('an alias without anchor', '{ <<: *shown }', '{ <<: ▸*show }', 'YAML-ALIAS', 'Did you mean "shown"?', '{ <<: *shown }'),
  one('an alias inside itself', '  shown: &shown { machine_id', '  shown: &shown { again: ▸*shown, machine_id', 'YAML-ALIAS', 'stands inside what it stands for', '  shown: &shown { machine_id'),
  one('an open bracket', '        keep: [mode]\n', '        keep: [mode\n', 'YAML-SYNTAX', 'close every [ and {', '        keep: [mode]\n'),
  one('a colon in a text', '  - name: a yes\n', '  - name: ▸a yes: of Anna\n', 'YAML-SYNTAX', 'Put the value in quotes', '  - name: "a yes: of Anna"\n'),
  one('a backtick', '  - name: a yes\n', '  - name: ▸`yes`\n', 'YAML-SYNTAX', 'in quotes', '  - name: "`yes`"\n'),
  one('a tag', '    message: lift.v1.OperatorEvent', '    message: ▸!proto lift', 'YAML-SYNTAX', 'Tags', '    message: lift.v1.OperatorEvent'),
  one('two documents', 'recipients:\n  cloud', '▸---\nrecipients:\n  cloud', 'YAML-SYNTAX', 'several documents', 'recipients:\n  cloud'),
  one('a number too large', 'message: { machine_id: SN-1 } }\n    expect: { service: { machine_id: $any }, planning: nothing', 'message: { time_ms: ▸9223372036854775807 } }\n    expect: { service: { machine_id: $any }, planning: nothing', 'YAML-NUMBER', 'Put it in quotes', 'message: { time_ms: "9223372036854775807" } }\n    expect: { service: { machine_id: $any }, planning: nothing'),
  one('a map as a key', 'recipients:\n  cloud', 'recipients:\n  ▸{ a: 1 }: x\n  cloud', 'YAML-KEY', 'plain word', 'recipients:\n  other: { role: processor, region: EU }\n  cloud'),
]

export const SHAPE: readonly Mistake[] = [
  one('another version', 'version: 1', 'version: ▸2', 'BAD-VALUE', 'must be 1', 'version: 1'),
  { name: 'no outputs', edits: [['version: 1\n', '▸version: 1\n'], ['outputs:\n', 'define2:\n']], code: 'MISSING-KEY', says: 'needs "outputs"', mended: [] },
  one('an output without purpose', '  ▸'.slice(0, 2) + 'shift:\n    recipient: app\n    purpose: personalise\n', '  ▸shift:\n    recipient: app\n', 'MISSING-KEY', 'needs "purpose"', '  shift:\n    recipient: app\n    purpose: personalise\n'),
  one('a list instead of a map', '    streams:\n      operator:\n        keep: [op]\n', '    streams:\n      operator:\n        keep: ▸op\n', 'BAD-VALUE', 'a list of fields, or not_personal', '    streams:\n      operator:\n        keep: [op]\n'),
  one('a number as topic', '    to: { topic: "out/app/{stream}" }', '    to: { topic: ▸7 }', 'WRONG-TYPE', 'Put it in quotes', '    to: { topic: "7" }'),
  one('an empty stream', '        keep: [op]\n        fields: { operator_id: { pseudonym: { rotate: 30d } }, time_ms: keep }\n', '', 'WRONG-TYPE', 'Write {} if there is nothing to say', '        {}\n'),
  one('a quality of service that does not exist', 'qos: 1,', 'qos: ▸3,', 'BAD-VALUE', 'one of 0, 1, 2', 'qos: 2,'),
  one('a duration without unit', '  session_max: 12h', '  session_max: ▸12', 'WRONG-TYPE', 'a duration such as', '  session_max: 12h'),
  one('a duration in weeks', '  late_limit: 7d', '  late_limit: ▸1w', 'BAD-VALUE', 'a duration such as', '  late_limit: 7d'),
  one('a basis typed wrong', '    improve.statistics: opt_out', '    improve.statistics: ▸optout', 'BAD-VALUE', 'Did you mean "opt_out"?', '    improve.statistics: opt_out'),
  one('a basis written out and typed wrong', '{ basis: legitimate_interest, assessment', '{ basis: ▸legitimate_interests, assessment', 'BAD-VALUE', 'Did you mean "legitimate_interest"?'),
  one('a role that does not exist', '  planner: { role: processor', '  planner: { role: ▸procesor', 'BAD-VALUE', 'Did you mean "processor"?'),
  one('a name with a space', 'recipients:\n  cloud', 'zones: { ▸"north yard": { circle: { at: [48.1, 11.5], radius: 500m } } }\nrecipients:\n  cloud', 'BAD-NAME', 'letters, digits', 'zones: { north_yard: { circle: { at: [48.1, 11.5], radius: 500m } } }\nrecipients:\n  cloud'),
  one('half a pair', '{ consent: { grid: 1km }, no_consent: { grid: 10km } }', '{ consent: { grid: 1km } }', 'MISSING-KEY', 'needs "no_consent"', '{ consent: { grid: 1km }, no_consent: { grid: 100km } }'),
  one('two transforms in one map', '{ round: 5 % }', '▸{ round: 5 %, clamp: [0, 100] }', 'BAD-VALUE', 'several are a list', '{ clamp: [0, 1000] }, { round: 5 % }'),
  one('a transform without its argument', '          soc_pct_x10: [{ clamp: [0 %, 100 %] }, { round: 5 % }]', '          soc_pct_x10: ▸round', 'TRANSFORM-ARGUMENT', 'Write it as in `round: 5 %`', '          soc_pct_x10: { round: 5 % }'),
  one('a bare transform typed wrong', '          time_ms: keep\n', '          time_ms: ▸kep\n', 'UNKNOWN-TRANSFORM', 'Did you mean "keep"?'),
  one('an argument that the transform does not have', '{ machine_id: { pseudonym: { rotate: 7d } }', '{ machine_id: { pseudonym: ▸{ rotates: 7d } }', 'TRANSFORM-ARGUMENT', 'pseudonym: { rotate: 7d }', '{ machine_id: { pseudonym: { rotate: 7d } }'),
  one('no key of the language', 'recipients:\n  cloud', '▸accepts: []\nrecipients:\n  cloud', 'UNKNOWN-KEY', 'Did you mean "accept"?'),
]

export const NAMES: readonly Mistake[] = [
  one('a message typed wrong', '    message: lift.v1.Status', '    message: ▸lift.v1.Statsu', 'UNKNOWN-MESSAGE', 'Did you mean "lift.v1.Status"?', '    message: lift.v1.Status'),
  one('a field in the conditions typed wrong', 'valid: "msg.fix > 0"', 'valid: "▸msg.fixx > 0"', 'CONDITION', 'Did you mean "fix"?', 'valid: "msg.fix > 0"'),
  one('a member that the enum does not have', 'msg.op == SIGN_ON"', 'msg.op == ▸SIGNON"', 'CONDITION', 'SIGN_ON'),
  one('a condition that is no truth value', '"msg.fix > 0"', '"▸msg.fix"', 'CONDITION', 'must be true or false', '"msg.fix > 0"'),
  one('a stream that is not there', '    streams:\n      operator:', '    streams:\n      ▸operators:', 'UNKNOWN-STREAM', 'Did you mean "operator"?'),
  one('a consent stream that is not there', '  session_max: 12h', '  consent: { stream: ▸opertor, purpose: operator_id, choice: op, means: { SIGN_ON: granted } }\n  session_max: 12h', 'UNKNOWN-STREAM', 'Did you mean "operator"?'),
  one('a choice that the enum does not have', '  session_max: 12h', '  consent: { stream: operator, purpose: operator_id, choice: op, means: { ▸SIGN_ONN: granted } }\n  session_max: 12h', 'STREAM-FIELD', 'Did you mean "SIGN_ON"?'),
  one('a choice that is a number', '  session_max: 12h', '  consent: { stream: operator, purpose: operator_id, choice: ▸time_ms, means: { SIGN_ON: granted } }\n  session_max: 12h', 'STREAM-FIELD', 'must be one enum or text', '  session_max: 12h\n  consent: { stream: operator, purpose: operator_id, choice: op, means: { SIGN_ON: granted } }'),
  one('a choice that means nothing there is', '  session_max: 12h', '  consent: { stream: operator, purpose: operator_id, choice: op, means: { SIGN_ON: ▸grant } }\n  session_max: 12h', 'BAD-VALUE', 'one of granted, local_only', '  session_max: 12h\n  consent: { stream: operator, purpose: operator_id, choice: op, means: { SIGN_ON: granted } }'),
  one('a purpose that replaces one still there', 'clause: P12 }', 'clause: P12, replaces: ▸improve.statistics }', 'REPLACES', 'still defined', 'clause: P12 }'),
  one('a session stream that is not there', 'sessions: { stream: operator', 'sessions: { stream: ▸operater', 'UNKNOWN-STREAM', 'Did you mean "operator"?'),
  one('a recipient that is not there', '    recipient: planner', '    recipient: ▸planer', 'UNKNOWN-RECIPIENT', 'Did you mean "planner"?', '    recipient: planner'),
  one('a field for all streams that none has', 'fields: { <<: *shown }', 'fields: { <<: *shown, ▸voltage: keep }', 'UNKNOWN-FIELD', 'No stream of the output', 'fields: { <<: *shown, soc_pct_x10: { round: 5 % } }'),
  one('an output in a test', 'planning: nothing }', '▸planing: nothing }', 'UNKNOWN-OUTPUT', 'Did you mean "planning"?'),
  one('a purpose in a test', 'consent: { personalise: granted }', 'consent: { ▸personalize: granted }', 'UNKNOWN-PURPOSE', 'Did you mean "personalise"?'),
  one('a field in a test', '{ operator_id: $any, op: SIGN_ON }', '{ ▸operatr_id: $any, op: SIGN_ON }', 'UNKNOWN-FIELD', 'Did you mean "operator_id"?'),
  one('a country in a test', '{ stream: status, country: FR, operator: none', '{ stream: status, country: ▸fr, operator: none', 'UNKNOWN-PLACE', 'FR', '{ stream: status, country: FR, operator: none'),
  one('a purpose in the table', '    improve.statistics: opt_out', '    ▸improve.statistic: opt_out', 'UNKNOWN-PURPOSE', 'Did you mean "improve.statistics"?'),
  one('a country by its language', '{ stream: status, country: FR, operator: none', '{ stream: status, country: ▸EN, operator: none', 'UNKNOWN-PLACE', 'England is GB-ENG', '{ stream: status, country: GB-ENG, operator: none'),
  one('the European Union', '  EEA:\n', '  ▸EU:\n', 'UNKNOWN-PLACE', 'write EEA', '  EEA:\n'),
  one('a region in small letters', 'role: controller, group: affiliate, region: CN', 'role: controller, group: affiliate, region: ▸cn', 'UNKNOWN-PLACE', 'Write it in capitals: CN.', 'role: controller, group: affiliate, region: CN'),
  one('a test twice', '  - name: a yes', '  - name: ▸a machine nobody signed on to', 'DUPLICATE', 'a name of its own', '  - name: a yes of one\'s own'),
  one('a test without expectation', '    expect: { shift: { operator_id: $any, op: SIGN_ON } }\n', '', 'TEST', 'cannot fail', '    expect: { shift: nothing }\n'),
  one('one place twice', '  US:\n', '  UK: { service.operate: contract }\n  ▸GB: { service.operate: contract }\n  US:\n', 'DUPLICATE', 'same place', [['  US:\n', '  GB: { service.operate: contract, improve.statistics: consent, personalise: consent }\n  US:\n'], ['transfers: { EEA: scc } }', 'transfers: { EEA: scc, GB: idta } }'], ['  planner: { role: processor, region: EU }', '  planner: { role: processor, region: EU, transfers: { GB: adequacy } }'], ['group: subject, region: EU }', 'group: subject, region: EU, transfers: { GB: adequacy } }']]),
  one('a recipient described twice', '    recipient: planner', '    recipient: { id: ▸planner, role: controller, region: US }', 'DUPLICATE', 'Describe it once', '    recipient: planner'),
]

export const STREAMS: readonly Mistake[] = [
  one('a wildcard in a pattern', '"up/{fleet}/{machine}/operator"', '▸"up/+/{machine}/operator"', 'STREAM-TOPIC', 'Write {name}', '"up/{any}/{machine}/operator"'),
  one('a placeholder that is part of a level', '"up/{fleet}/{machine}/operator"', '▸"up/{fleet}/m-{machine}/operator"', 'STREAM-TOPIC', 'fill a whole level', '"up/{fleet}/m/{machine}/operator"'),
  one('one topic for two streams', '"up/{fleet}/{machine}/operator"', '▸"up/{fleet}/{machine}/status"', 'STREAM-SHARED', 'Give each a `case`', '"up/{fleet}/{machine}/operators"'),
  one('a case without a oneof', '    message: lift.v1.OperatorEvent', '    message: lift.v1.OperatorEvent\n    case: ▸op', 'STREAM-CASE', 'has no oneof', '    message: lift.v1.OperatorEvent'),
  one('a time without unit', '    machine: machine_id\n    operator: operator_id\n    time: { field: time_ms, unit: ms }', '    machine: machine_id\n    operator: operator_id\n    ▸time: { field: time_ms }', 'STREAM-FIELD', 'unit: ms', '    machine: machine_id\n    operator: operator_id\n    time: { field: time_ms, unit: ms }'),
  one('a machine that is a position', '    machine: machine_id', '    machine: ▸temp_c', 'STREAM-FIELD', 'cannot name anybody', '    machine: site'),
  one('whole numbers as degrees', 'unit: e7, valid', 'unit: ▸deg, valid', 'POINT', 'Write `unit: e7`', 'unit: e7, valid'),
  one('a coordinate that is a text', 'lon: lon_e7', 'lon: ▸site', 'POINT', 'one number per message', 'lon: lon_e7'),
]

export const FIELDS: readonly Mistake[] = [
  one('a transform on the wrong type', '          time_ms: keep\n', '          time_ms: keep\n          mode: { ▸round: 5 }\n', 'TRANSFORM-TYPE', 'These fit', '          time_ms: keep\n          mode: { map: { MODE_DRIVE: MODE_DRIVE, else: MODE_OFF } }\n'),
  one('a unit of another family', '{ round: 5 % }', '{ round: ▸5 kg }', 'TRANSFORM-ARGUMENT', 'the field is in "%"', '{ round: 5 % }'),
  one('a grid that does not divide 100 km', '{ grid: 1km }', '{ grid: ▸300m }', 'TRANSFORM-ARGUMENT', 'divides 100 km', '{ grid: 500m }'),
  one('a field twice', '        keep: [mode]', '        keep: [mode, ▸soc_pct_x10]', 'FIELD-OVERLAP', 'Remove one of the two', '        keep: [mode]'),
  one('a message and its field', '        keep: [mode]', '        keep: [mode, header, ▸header.firmware]', 'FIELD-OVERLAP', 'name its fields one by one', '        keep: [mode, header.firmware]'),
  one('finer without consent', '{ consent: { grid: 1km }, no_consent: { grid: 10km } }', '{ consent: { grid: 10km }, no_consent: ▸{ grid: 1km } }', 'PAIR-NOT-COARSER', 'a multiple of the step or size', '{ consent: { grid: 10km }, no_consent: { grid: 100km } }'),
  one('a pair that cannot be compared', '          time_ms: keep\n', '          time_ms: keep\n          site: { consent: { truncate: 3 }, no_consent: ▸{ mask: { keep_first: 1 } } }\n', 'PAIR-NOT-COARSER', 'cannot be compared', '          time_ms: keep\n          site: { consent: { truncate: 3 }, no_consent: drop }\n'),
  one('500 m without consent', '{ consent: { grid: 500m }, no_consent: { grid: 10km } }', '{ consent: { grid: 100m }, no_consent: ▸{ grid: 500m } }', 'PAIR-NOT-GENERAL', 'grid of 1 km or more', '{ consent: { grid: 100m }, no_consent: { grid: 1km } }'),
  one('grids that do not nest', '{ consent: { grid: 500m }, no_consent: { grid: 10km } }', '{ consent: { grid: 400m }, no_consent: { grid: 10km } }', 'GRID-NEST', 'does not nest with the grid of 1000 m', '{ consent: { grid: 100m }, no_consent: { grid: 10km } }'),
  one('a personal condition', '"msg.key_on && machine', '"▸msg.mystery == \'x\' && machine'.replace('▸msg.', 'msg.▸'), 'WHEN-PERSONAL', 'no classification', '"msg.mode == MODE_LIFT && machine'),
  one('a condition on a place', '"msg.key_on && machine', '"msg.▸lat_e7 > 0 && machine', 'WHEN-PERSONAL', 'part of the point', '"msg.fix > 0 && machine'),
  one('a required field that does not leave', '        require: [position]', '        require: [▸fix]', 'REQUIRE-MISSING', 'nothing would ever be sent', '        require: [mode]'),
  one('down-sampling by a field that does not leave', '        require: [position]', '        require: [position]\n        emit: { every: 15m, take: { max: ▸load_kg } }', 'EMIT', 'Name a field', '        require: [position]\n        emit: { every: 15m, take: { max: soc_pct_x10 } }'),
  one('a field whose classification is missing', '        keep: [mode]', '        keep: [mode, ▸mystery]', 'PAIR-MISSING', 'Classify it under `fields:`, or write `mystery: { consent: keep, no_consent: drop }` in `fields:` instead of `keep:`', [['        keep: [mode]\n        fields:\n', '        keep: [mode]\n        fields:\n          mystery: { consent: keep, no_consent: drop }\n']]),
  one('a field without classification, classified', '        keep: [mode]', '        keep: [mode, ▸mystery]', 'PAIR-MISSING', 'has no classification', [['        keep: [mode]', '        keep: [mode, mystery]'], ['recipients:\n  cloud', 'fields: { lift.v1.Status.mystery: { class: basic, personal: never } }\nrecipients:\n  cloud']]),
  one('a personal field that is too fine for a pair of its own', '          position: { consent: { grid: 500m }, no_consent: { grid: 10km } }', '          ▸position: [{ grid: 100m }]', 'PAIR-MISSING', 'Write `position: { consent: [{ grid: 100m }], no_consent: drop }`, or a generalisation instead of drop', '          position: { consent: [{ grid: 100m }], no_consent: drop }'),
  one('a personal field for all streams', 'fields: { <<: *shown }', 'fields: { <<: *shown, ▸operator_id: { pseudonym: { rotate: 7d } } }', 'PAIR-MISSING', 'Write `operator_id: { consent: { pseudonym: { rotate: 7d } }, no_consent: drop }`', 'fields: { <<: *shown, operator_id: { consent: { pseudonym: { rotate: 7d } }, no_consent: drop } }'),
  one('a classification of a classified field', 'recipients:\n  cloud', 'fields: { ▸lift.v1.Status.photo: { class: basic, personal: never } }\nrecipients:\n  cloud', 'CLASSIFIED', 'The schema itself classifies', 'recipients:\n  cloud'),
]

/** The good file with a stream of signals and one of frames in the output `service`. */
const KEYED_STREAMS = ['  operator:\n    topic: "up/{fleet}/{machine}/operator"', '  signals: { topic: "up/{machine}/s", message: lift.v1.Signals }\n  frames: { topic: "up/{machine}/f", message: lift.v1.Frames }\n  operator:\n    topic: "up/{fleet}/{machine}/operator"'] as const
const keyed = (name: string, streams: string, code: string, says: string, mended?: string): Mistake => {
  const beside = (text: string): string => `          position: { consent: { grid: 1km }, no_consent: { grid: 10km } }\n      ${text}\n`
  return { name, edits: [KEYED_STREAMS, ['          position: { consent: { grid: 1km }, no_consent: { grid: 10km } }\n', beside(streams)]], code, says, ...(mended === undefined ? {} : { mended: beside(mended) }) }
}

export const KEYED: readonly Mistake[] = [
  keyed('a key that is no number', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { ▸rpm: { v: keep } } } } }', 'BAD-NAME', 'Use a whole number', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { 190: { v: keep } } } } }'),
  keyed('a key with zeros before it', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { ▸"007": { v: keep } } } } }', 'BAD-NAME', 'Use a whole number', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { 7: { v: keep } } } } }'),
  keyed('a key-value list of something that is no list', 'signals: { fields: { machine_id: ▸{ by: id, only: { 7: { v: keep } } } } }', 'KEYED', 'no repeated message', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { 7: { v: keep } } } } }'),
  keyed('a key field typed wrong', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: ▸idd, only: { 7: { v: keep } } } } }', 'KEYED', 'Did you mean "id"?'),
  keyed('a key field typed wrong in a call', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(▸idd)", only: { 61444: { data: keep } } } } }', 'KEYED', 'Did you mean "id"?'),
  keyed('a call that does not exist', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: ▸"pgn(id)", only: { 61444: { data: keep } } } } }', 'BAD-VALUE', 'j1939_pgn(id)', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 61444: { data: keep } } } } }'),
  keyed('a member typed wrong', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: id, only: { 7: { ▸dat: keep } } } } }', 'UNKNOWN-FIELD', 'Did you mean "data"?'),
  keyed('a member of every entry typed wrong', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: id, with: { ▸di: keep }, only: { 7: { data: keep } } } } }', 'UNKNOWN-FIELD', 'has no field "di"', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: id, with: { id: keep }, only: { 7: { data: keep } } } } }'),
  keyed('a transform that does not fit a member', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: id, only: { 7: { data: { ▸round: 5 } } } } } }', 'TRANSFORM-TYPE', 'keep_bytes', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: id, only: { 7: { data: { keep_bytes: [0, 5] } } } } } }'),
  keyed('one key in two ways', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 61444: { data: keep }, ▸0xF004: { data: keep } } } } }', 'DUPLICATE', 'the same key, 61444', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 0xF004: { data: keep } } } } }'),
  keyed('a group in hexadecimal that names the machine', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 0xF004: { data: keep }, ▸0xFEEC: { data: keep } } } } }', 'PGN-PERSONAL', 'PGN 65260', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 0xF004: { data: keep } } } } }'),
  keyed('no keys', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: ▸{} } } }', 'BAD-VALUE', '{ 101: { v: keep } }', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { 101: { v: keep } } } } }'),
  keyed('members without keys', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, ▸s: { by: id, with: { v: keep } } } }', 'MISSING-KEY', 'needs "only"', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, with: { v: keep }, only: { 101: {} } } } }'),
  keyed('an identifier instead of a PGN', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { ▸217056256: { data: keep } } } } }', 'KEYED', 'Write the PGN', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 61444: { data: keep } } } } }'),
  keyed('a PGN with an address in it', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { ▸59905: { data: keep } } } } }', 'KEYED', 'Write 59904', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 59904: { data: keep } } } } }'),
  keyed('a pair for one member', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { 7: { v: { ▸consent: keep, no_consent: drop } } } } } }', 'UNKNOWN-TRANSFORM', 'not inside it', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { consent: { by: id, only: { 7: { v: keep } } }, no_consent: { by: id, only: { 7: { v: drop } } } } } }'),
  keyed('a list and a member of it', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s: { by: id, only: { 7: { v: keep } } }, ▸s.v: keep } }', 'FIELD-OVERLAP', 'name its fields one by one', 'signals: { fields: { machine_id: { pseudonym: { rotate: never } }, s.v: keep } }'),
  keyed('a group that names the machine', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 61444: { data: keep }, ▸65260: { data: keep } } } } }', 'PGN-PERSONAL', 'j1939_pgn(id)', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 61444: { data: keep } } } } }'),
  keyed('all groups', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, ▸f: keep } }', 'PGN-PERSONAL', 'j1939_pgn(id)', 'frames: { fields: { machine_id: { pseudonym: { rotate: never } }, f: { by: "j1939_pgn(id)", only: { 61444: { data: keep } } } } }'),
]

export const OUTPUTS: readonly Mistake[] = [
  one('a zone that is not defined', '{ grid: 1km }', '[{ hide_in: ▸[depots] }, { grid: 1km }]', 'TRANSFORM-ARGUMENT', 'Define it under `zones:`', [['recipients:\n  cloud', 'zones: { depots: { circle: { at: [48.137, 11.575], radius: 500m } } }\nrecipients:\n  cloud'], ['{ consent: { grid: 1km }, no_consent: { grid: 10km } }', '{ consent: [{ hide_in: [depots] }, { grid: 1km }], no_consent: [{ hide_in: [depots] }, { grid: 10km }] }']]),
  one('longitude first', 'recipients:\n  cloud', 'zones: { depots: { circle: { at: ▸[111.5, 48.1], radius: 500m } } }\nrecipients:\n  cloud', 'ZONE', 'latitude first', 'zones: { depots: { circle: { at: [48.1, 111.5], radius: 500m } } }\nrecipients:\n  cloud'),
  one('a zone as large as a country', 'recipients:\n  cloud', 'zones: { depots: { circle: { at: [48.1, 11.5], radius: ▸500km } } }\nrecipients:\n  cloud', 'ZONE', '50 km', 'zones: { depots: { circle: { at: [48.1, 11.5], radius: 50km } } }\nrecipients:\n  cloud'),
  one('a zone of two kinds', 'recipients:\n  cloud', 'zones: { depots: ▸{ circle: { at: [48.1, 11.5], radius: 500m }, polygon: [[1, 1], [1, 2], [2, 2]] } }\nrecipients:\n  cloud', 'BAD-VALUE', 'a circle or a polygon', 'zones: { depots: { circle: { at: [48.1, 11.5], radius: 500m } } }\nrecipients:\n  cloud'),
  one('a wildcard in a topic', '"out/planning/{machine_id}"', '▸"out/planning/#"', 'TOPIC-TEMPLATE', 'wildcard', '"out/planning/{machine_id}"'),
  one('a topic with a field that does not leave', '"out/planning/{machine_id}"', '"out/planning/▸{seq}"', 'TOPIC-FIELD', 'no field of the output', '"out/planning/{mode}"'),
  one('a topic with a position', '"out/planning/{machine_id}"', '"out/planning/▸{position}"', 'TOPIC-FIELD', 'cannot be a topic level', '"out/planning/{stream}"'),
  one('an output where commands go', '"out/planning/{machine_id}"', '▸"down/planning/{machine_id}"', 'TOPIC-RESERVED', 'commands to machines', '"out/planning/{machine_id}"'),
  one('an output where notices go', '"out/planning/{machine_id}"', '▸"ctl/planner/{machine_id}"', 'TOPIC-RESERVED', 'notices to recipients', '"out/planning/{machine_id}"'),
  one('an output whose field may say where commands go', '"out/planning/{machine_id}"', '▸"{machine_id}/planning/x"', 'TOPIC-RESERVED', 'can begin with', '"out/planning/{machine_id}"'),
  one('two recipients on one topic', '"out/app/{stream}"', '▸"out/planning/{stream}"', 'TOPIC-CLASH', 'receive the other\'s data', '"out/app/{stream}"'),
  one('an output that stays on the site', '    arrival_visible: true', '    arrival_visible: true\n    reach: ▸site', 'SITE-REACH', 'on_site: true', '    arrival_visible: true'),
  one('a law that overrides the device setting', '    arrival_visible: true', '    arrival_visible: true\n    despite_device_setting: ▸"LAW 1"', 'DEVICE-SETTING', 'Remove', '    arrival_visible: true'),
  one('a country weaker than its group', '    improve.statistics: { basis: consent, employee_consent: "form EC-1" }', '    improve.statistics: { basis: consent, employee_consent: "form EC-1" }\n    personalise: ▸contract', 'BASIS-WEAKER', 'Write consent here', '    improve.statistics: { basis: consent, employee_consent: "form EC-1" }\n    personalise: { basis: consent, employee_consent: "form EC-1" }'),
  one('a default weaker than a country', '    improve.statistics: consent\n    personalise: consent\nrecipients', '    improve.statistics: ▸opt_out\n    personalise: consent\nrecipients', 'BASIS-DEFAULT-WEAKER', 'Write consent here', '    improve.statistics: consent\n    personalise: consent\nrecipients'),
  one('a group without entry', '  DE:\n', '  DE:\n    in: ▸DACH\n', 'GROUP', 'has no entry', '  DE:\n'),
  one('a waiver of a rule', 'recipients:\n  cloud', 'accept: [{ code: ▸pair-missing, at: service, why: "we like it" }]\nrecipients:\n  cloud', 'ACCEPT-RULE', 'rules cannot be waived', 'recipients:\n  cloud'),
  one('a waiver of advertising', 'recipients:\n  cloud', 'accept: [{ code: ▸sale-or-advertising, at: ads, why: "we like it" }]\nrecipients:\n  cloud', 'ACCEPT-NEVER', 'never', 'recipients:\n  cloud'),
  one('a waiver typed wrong', 'recipients:\n  cloud', 'accept: [{ code: ▸presice-beside-heading, at: planning, why: "theft" }]\nrecipients:\n  cloud', 'UNKNOWN-LINT', 'Did you mean "precise-beside-heading"?'),
  one('a waiver that ran out', 'recipients:\n  cloud', 'accept: [{ code: precise-beside-heading, at: planning, why: "theft", until: ▸2026-11-22 }]\nrecipients:\n  cloud', 'ACCEPT-EXPIRED', 'ended on 2026-11-22', 'recipients:\n  cloud'),
  one('a waiver of nothing', 'recipients:\n  cloud', 'accept: [{ code: precise-beside-heading, at: ▸planning, why: "theft" }]\nrecipients:\n  cloud', 'ACCEPT-UNUSED', 'Remove it', 'recipients:\n  cloud'),
]

export const LINTED: readonly Mistake[] = [
  { name: 'speed beside a position', edits: [['        keep: [mode]', '        keep: [mode, speed_mm_s]'], ['          position: { consent: { grid: 500m }', '          ▸position: { consent: { grid: 500m }']], code: 'PRECISE-BESIDE-HEADING', says: 'or coarse', mended: '          position: { consent: { grid: 1km }' },
  one('the machine in a topic', '          machine_id: { pseudonym: { rotate: never } }', '          machine_id: keep', 'RAW-PERSONAL-TOPIC', 'Use a pseudonym', '          machine_id: { pseudonym: { rotate: never } }'),
  one('a person who never changes', '{ operator_id: { pseudonym: { rotate: 30d } }', '{ ▸operator_id: { pseudonym: { rotate: never } }', 'ROTATE-NEVER-PERSON', 'rotate: 30d', '{ operator_id: { pseudonym: { rotate: 30d } }'),
  one('a lasting and a changing pseudonym for one recipient', '    recipient: planner', '    recipient: cloud', 'ROTATION-UNDONE', 'can be joined', '    recipient: planner'),
  { name: 'two rotations for one recipient', edits: [['          machine_id: { pseudonym: { rotate: never } }', '          machine_id: { pseudonym: { rotate: 30d } }'], ['    recipient: planner', '    recipient: cloud']], code: 'ROTATION-DIFFERS', says: 'every 7d', mended: [['          machine_id: { pseudonym: { rotate: never } }', '          machine_id: { pseudonym: { rotate: 7d } }'], ['    recipient: planner', '    recipient: cloud']] },
  one('a counter beside a changing pseudonym', '        keep: [mode]', '        keep: [mode, ▸seq]', 'COUNTER-BESIDE-PSEUDONYM', 'Round the counter', '        keep: [mode]'),
  one('arrival tells the time', '    arrival_visible: true\n', '', 'ARRIVAL-TELLS-TIME', 'arrival_visible: true', '    arrival_visible: true\n'),
  one('arrival tells the time of what could be held', '    arrival_visible: true\n', '', 'ARRIVAL-TELLS-TIME', 'emit: { every: 15m, hold: true }', [['    arrival_visible: true\n', ''], ['        require: [position]', '        require: [position]\n        emit: { every: 15m, hold: true }']]),
  one('no transfer tool', ', transfers: { EEA: scc } }', ' }', 'NO-TRANSFER', 'transfers: { EEA: scc }', ', transfers: { EEA: scc } }'),
  one('no clause', '{ about: "where machines work", clause: P14 }', '{ about: "where machines work" }', 'PURPOSE-WITHOUT-CLAUSE', 'clause: P14', '{ about: "where machines work", clause: P14 }'),
  one('a purpose without a basis', 'purposes:\n', 'purposes:\n  ▸security.fraud: { about: "theft", clause: P6 }\n', 'PURPOSE-WITHOUT-BASIS', 'no country', 'purposes:\n'),
  one('an obligation without law', '    improve.statistics: opt_out', '    improve.statistics: ▸legal_obligation', 'LAW-MISSING', 'law:', '    improve.statistics: { basis: legal_obligation, law: "29 CFR 1926.453" }'),
  one('an interest without assessment', '{ basis: legitimate_interest, assessment: LIA-3 }', '▸legitimate_interest', 'ASSESSMENT-MISSING', 'assessment', '{ basis: legitimate_interest, assessment: LIA-9 }'),
  one('advertising', 'purposes:\n', 'purposes:\n  ▸partner.ads: { about: "offers", clause: P6 }\n', 'SALE-OR-ADVERTISING', 'does not serve it', 'purposes:\n'),
  one('employees asked without reference', '    personalise: { basis: consent, employee_consent: "form EC-1" }', '    personalise: ▸consent', 'EMPLOYEE-CONSENT', 'employee_consent', '    personalise: { basis: consent, employee_consent: "works agreement 7" }'),
  { name: 'two messages on one topic', edits: [['        keep: [op]\n', '        keep: [op]\n'], ['"out/app/{stream}" }\n    streams:\n', '▸"out/app" }\n    streams:\n      status: {}\n']], code: 'MIXED-TOPIC', says: 'Put {stream} into the topic', mended: '"out/app/{stream}" }\n    streams:\n      status: {}\n' },
  one('the weight of a person', '        fields: { operator_id: { pseudonym: { rotate: 30d } }, time_ms: keep }', '        fields: { operator_id: { pseudonym: { rotate: 30d } }, time_ms: keep }\n      status: { fields: { operator_id: { pseudonym: { rotate: 30d } }, ▸load_kg: { round: 20 kg } } }', 'LOAD-BESIDE-OPERATOR', 'round: 50 kg', '        fields: { operator_id: { pseudonym: { rotate: 30d } }, time_ms: keep }\n      status: { fields: { operator_id: { pseudonym: { rotate: 30d } }, load_kg: { round: 50 kg } } }'),
  one('an output weaker than the table', '    purpose: personalise\n', '    purpose: personalise\n    basis: ▸opt_out\n', 'OUTPUT-BASIS-WEAKER', 'Remove `basis:`', '    purpose: personalise\n'),
  { name: 'a holder who sees who refused', edits: [['  planner: { role: processor, region: EU }', '  planner: { role: processor, group: holder, region: EU }'], ['    recipient: planner', '    recipient: ▸planner']], code: 'HOLDER-SEES-REFUSAL', says: 'whether a message comes tells who refused', mended: [['  planner: { role: processor, region: EU }', '  planner: { role: processor, group: holder, region: EU }'], ['    purpose: improve.statistics\n', '    purpose: service.operate\n'], ['{ consent: { grid: 500m }, no_consent: { grid: 10km } }', '{ consent: { grid: 10km }, no_consent: { grid: 10km } }']] },
  { name: 'a holder who sees it from the cell', edits: [['role: controller, group: affiliate, region: CN', 'role: controller, group: holder, region: CN'], ['          position: { consent: { grid: 1km }', '          ▸position: { consent: { grid: 1km }']], code: 'HOLDER-SEES-REFUSAL', says: 'the same with a yes as without', mended: [['role: controller, group: affiliate, region: CN', 'role: controller, group: holder, region: CN'], ['{ consent: { grid: 1km }, no_consent: { grid: 10km } }', '{ consent: { grid: 10km }, no_consent: { grid: 10km } }']] },
  one('a branch that is never taken', '{ operator_id: { pseudonym: { rotate: 30d } }', '{ operator_id: { consent: { pseudonym: { rotate: 30d } }, no_consent: ▸{ constant: x } }', 'NO-CONSENT-UNREACHABLE', 'alone', '{ operator_id: { pseudonym: { rotate: 30d } }'),
  one('no test', '  - name: no app\n    given: { stream: operator, country: FR, operator: P7, consent: {}, message: { op: SIGN_ON } }\n    expect: { shift: nothing }\n', '', 'UNTESTED', 'without consent', '  - name: no app\n    given: { stream: operator, country: FR, operator: P7, consent: {}, message: { op: SIGN_ON } }\n    expect: { shift: nothing }\n'),
]

export const MISTAKES: readonly Mistake[] = [...TYPICAL, ...TEXT, ...SHAPE, ...NAMES, ...STREAMS, ...FIELDS, ...KEYED, ...OUTPUTS, ...LINTED]
