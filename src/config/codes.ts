/**
 * Every code that a finding can have: what it means and what to do. Codes are stable: one that was published keeps its meaning.
 * `file` is about the text itself, `rule` can never be waived, `lint` can (`accept:`), `gateway` and `registry` are about the other files.
 */
import type { Severity } from '../domain/errors.ts'

export interface CodeEntry {
  readonly severity: Severity
  readonly kind: 'file' | 'rule' | 'lint' | 'gateway' | 'registry'
  /** What the code means, whatever the case at hand. */
  readonly sentence: string
  /** Follows the sentence of a finding that has no better advice of its own. */
  readonly mend: string
  /** A lint that `accept:` cannot waive. */
  readonly never?: true
}

export type Code = keyof typeof TABLE

const error = (kind: CodeEntry['kind'], sentence: string, mend: string): CodeEntry => ({ severity: 'error', kind, sentence, mend })
const warning = (kind: CodeEntry['kind'], sentence: string, mend: string): CodeEntry => ({ severity: 'warning', kind, sentence, mend })

const TABLE = {
  // the text
  'FILE-UNREADABLE': error('file', 'A file does not exist or cannot be read.', 'Check the path; relative paths count from the file that names them.'),
  'YAML-ENCODING': error('file', 'A file is not UTF-8.', 'Save it as UTF-8.'),
  'YAML-SYNTAX': error('file', 'The text is no YAML.', 'Compare the line with its neighbours: indentation, colons, quotes and brackets.'),
  'YAML-TAB': error('file', 'A tab is used for indentation.', 'Use spaces.'),
  'YAML-DUPLICATE-KEY': error('file', 'A key stands twice in one map.', 'Remove one of the two, or merge them.'),
  'YAML-ALIAS': error('file', 'An alias or merge does not name a usable anchor.', 'Define the anchor above its first use, outside of itself.'),
  'YAML-KEY': error('file', 'A key is no plain word or number.', 'Write it as one word, in quotes if need be.'),
  'YAML-NUMBER': error('file', 'A number is too large to be read exactly.', 'Put it in quotes.'),
  'YAML-TOO-LARGE': error('file', 'A file is larger than the gateway reads.', 'Split the fleet over several gateways, or use fewer aliases.'),

  // shape
  'UNKNOWN-KEY': error('file', 'A key is not part of the language.', 'Remove it.'),
  'MISSING-KEY': error('file', 'A key that is needed is missing.', 'Add it.'),
  'WRONG-TYPE': error('file', 'A value is of the wrong kind.', 'Write the kind of value that is asked for.'),
  'BAD-VALUE': error('file', 'A value is not one of those possible.', 'Write one of those named.'),
  'BAD-NAME': error('file', 'A name holds a character that names cannot have.', 'Use letters, digits, "_", "." and "-".'),
  'LIMIT': error('rule', 'There are more of something than the gateway can hold.', 'Merge or remove some.'),
  'DUPLICATE': error('rule', 'Two things have one name.', 'Rename or remove one of them.'),
  'MORE': warning('file', 'There are more findings than are printed.', 'Mend these first.'),

  // names
  'SCHEMA-PROBLEM': error('rule', 'A .proto file cannot be read or resolved.', 'Mend the .proto file, or name its folder right: with --proto, or under `proto:` of the gateway file.'),
  'UNKNOWN-MESSAGE': error('rule', 'A message type is in no .proto file.', 'Name a message with its package, e.g. awp.v1.Status.'),
  'UNKNOWN-FIELD': error('rule', 'A message has no such field.', 'Name a field as the .proto file writes it.'),
  'UNKNOWN-STREAM': error('rule', 'A stream is not defined.', 'Define it under `streams:`.'),
  'UNKNOWN-PURPOSE': error('rule', 'A purpose is not defined.', 'Define it under `purposes:`.'),
  'UNKNOWN-RECIPIENT': error('rule', 'A recipient is not defined.', 'Define it under `recipients:`.'),
  'UNKNOWN-OUTPUT': error('rule', 'An output is not defined.', 'Define it under `outputs:`.'),
  'UNKNOWN-BRIDGE': error('rule', 'The gateway file has no such bridge.', 'Define it under `bridges:` in the gateway file.'),
  'UNKNOWN-PLACE': error('rule', 'A code is no country, part of a country or group.', 'Use ISO 3166 codes such as DE or US-CA.'),
  'UNKNOWN-TRANSFORM': error('rule', 'A transform does not exist.', 'Use one that `parapet transforms` lists.'),
  'UNKNOWN-LINT': error('rule', '`accept:` names a code that no finding has.', 'Copy the code from the finding.'),
  'UNKNOWN-PARAM': error('rule', 'A parameter is not declared.', 'Declare it with a value under `params:` of the rules file.'),

  // several files, values
  'INCLUDE': error('rule', 'An included file holds what only the rules file may, or lies outside of its folder.', 'Move it into the rules file, or the file into the folder of the rules file.'),
  'PARAM': error('rule', 'A parameter is used in a way that it cannot be.', 'Let `$(name)` be the whole of a value.'),
  'PARAM-UNUSED': warning('rule', 'A parameter is used nowhere, so its value changes nothing.', 'Write `$(name)` where the value belongs, or remove it.'),

  // streams
  'STREAM-TOPIC': error('rule', 'The topic pattern of a stream is malformed.', 'Write levels and {names}, e.g. up/{fleet}/{machine}/status.'),
  'STREAM-SHARED': error('rule', 'Streams that share a topic cannot be told apart.', 'Give each a `case`, or another topic.'),
  'STREAM-CASE': error('rule', 'A `case` is no member of a oneof.', 'Name a oneof member.'),
  'STREAM-FIELD': error('rule', 'A field cannot play the part that the stream gives it.', 'Name another field.'),
  'ZONE': error('rule', 'A zone is no area on the ground.', 'Write a circle of 10 m to 50 km or a polygon, within ±90 and ±180 degrees.'),
  'POINT': error('rule', 'A point is not made of coordinates.', 'Name the fields with latitude and longitude and their unit.'),
  'CONDITION': error('rule', 'A condition cannot be read or does not fit the types of the message.', 'Use msg.FIELD, comparisons, &&, ||, !, in, has(), bit(), startsWith(); write enum members by name.'),

  // what leaves
  'PART-ADDRESSED': error('rule', 'A part of a point or of the time is addressed directly.', 'Address the point or the time.'),
  'FIELD-OVERLAP': error('rule', 'Two rules concern one field.', 'Keep one of them.'),
  'TRANSFORM-TYPE': error('rule', 'A transform does not fit the type of the field.', 'Use one that fits.'),
  'TRANSFORM-ARGUMENT': error('rule', 'The argument of a transform is missing or wrong.', 'Write it as in the example of `parapet transforms`.'),
  'KEYED': error('rule', 'A key-value list does not fit the message.', 'Use it on a repeated message whose key is a whole number of 32 bits.'),
  'EMIT': error('rule', 'The down-sampling is not complete.', 'Say `every` or `on_change`.'),
  'REQUIRE-MISSING': error('rule', 'A required field can never leave.', 'Name the field under `fields:` or `keep:`, or do not require it.'),
  'PAIR-MISSING': error('rule', 'A field about a person would leave without consent.', 'Write { consent: …, no_consent: drop } around what stands there, or a generalisation instead of drop.'),
  'PAIR-NOT-COARSER': error('rule', 'What leaves without consent is not provably coarser than with it.', 'Let `no_consent` be drop, or the same transform with a multiple of the step or size (of the step of `round` an odd one).'),
  'PAIR-NOT-GENERAL': error('rule', 'What leaves of a personal field without consent is neither dropped nor generalised.', 'Use drop, grid of 1 km or more, bucket, round, clamp, or round_time of 15m or more.'),
  'CONTRACT-OPERATOR': error('rule', 'A field that identifies an operator would leave under a contract.', 'Remove the field: a contract with the customer is no ground for data that identifies operators.'),
  'WHEN-PERSONAL': error('rule', 'A condition depends on a person or a place.', 'Use a field that says nothing about a person.'),
  'GRID-NEST': error('rule', 'Two grid sizes do not divide one another.', 'Use sizes such as 100m, 500m, 1km, 10km.'),

  // outputs
  'TOPIC-TEMPLATE': error('rule', 'The topic of an output is malformed.', 'Write levels, {stream} and {fields}, e.g. out/{stream}/{machine_id}.'),
  'TOPIC-FIELD': error('rule', 'A topic names a field that it cannot be filled with.', 'Use {stream} or a text or whole number that always leaves.'),
  'TOPIC-RESERVED': error('rule', 'An output can send on topics that belong to commands (down/…) or to notices to recipients (ctl/…).', 'Let its topic begin with another fixed level, e.g. out/….'),
  'TOPIC-CLASH': error('rule', 'Two outputs can send on the same topic.', 'Let their topics differ in a fixed level, e.g. out/planning/… and out/service/….'),
  'SITE-REACH': error('rule', 'An output that stays on the site could leave it.', 'Mark the recipient `on_site: true` if it is on the site, or remove `reach: site`.'),
  'DEVICE-SETTING': error('rule', 'The device setting is overridden without a legal obligation.', 'Remove `despite_device_setting`.'),

  // grounds
  'BASIS-WEAKER': error('rule', 'A legal basis is weaker than that of the group the place belongs to.', 'Write the basis of the group, or a stricter one.'),
  'BASIS-DEFAULT-WEAKER': error('rule', 'The default basis is weaker than that of some country.', 'Write the strictest basis of the table.'),
  'REPLACES': error('rule', 'A purpose replaces one that is still there.', 'Remove the old purpose, or `replaces`.'),
  'GROUP': error('rule', 'A group of places is not usable.', 'Name groups at countries, and give each group an entry.'),
  'CLASSIFIED': error('rule', '`fields:` classifies a field that the schema classifies already.', 'Remove the line, or change the option in the .proto file.'),

  // tests and waivers
  'TEST': error('rule', 'A test is not complete.', 'Write `given` and `expect`, or `steps`.'),
  'TEST-FAILED': error('rule', 'A test of the file does not come out as it expects.', 'Mend the rules, or what the test expects.'),
  'NOT-COMPILED': error('rule', 'No minimiser could be made of rules that are right: a fault of the gateway.', 'Set `minimiser: interpreted` in the gateway file and report it.'),
  'ACCEPT-RULE': error('rule', '`accept:` names a rule.', 'Mend what the rule reports.'),
  'ACCEPT-NEVER': error('rule', '`accept:` names a lint that cannot be waived.', 'Remove the purpose.'),
  'ACCEPT-EXPIRED': error('rule', 'A waiver has run out.', 'Mend the finding, or decide anew and write a later day.'),
  'ACCEPT-UNUSED': warning('rule', 'A waiver fits no finding.', 'Remove it, so that it cannot hide a later one.'),

  // lints
  'PRECISE-BESIDE-HEADING': error('lint', 'A precise position stands beside speed or heading.', 'Use a grid of 1 km or more, or leave speed and heading out or coarse.'),
  'RAW-PERSONAL-TOPIC': error('lint', 'A topic shows a personal field.', 'Use a pseudonym for the field, or a topic without it.'),
  'ROTATE-NEVER-PERSON': error('lint', 'A pseudonym of a person never changes.', 'Write `rotate: 30d` or less.'),
  'ROTATION-UNDONE': error('lint', 'A recipient can join changing pseudonyms through another output.', 'Let both outputs use pseudonyms that change alike, or give them to different recipients.'),
  'ROTATION-DIFFERS': error('lint', 'A recipient gets one message under pseudonyms that change at different times.', 'Use the same `rotate` in both, or hold both (`emit: { every: …, hold: true }`).'),
  'COUNTER-BESIDE-PSEUDONYM': error('lint', 'A counter joins the pseudonyms before and after a change.', 'Round the counter, leave it out, or write `rotate: never` if the machine may be recognised.'),
  'ARRIVAL-TELLS-TIME': error('lint', 'The arrival of a message tells the time that was rounded.', 'Add `emit: { every: 15m, hold: true }` to the stream of the output, with the step of the rounding or a multiple of it, or say openly `arrival_visible: true` on the output.'),
  'NO-TRANSFER': error('lint', 'Data leaves the EEA, GB or CN without a transfer tool.', 'Add the tool under `transfers:` of the recipient.'),
  'PURPOSE-WITHOUT-CLAUSE': error('lint', 'A purpose rests on no clause of the notice.', 'Add `clause: P14` (the clause that names it), or remove the purpose.'),
  'PURPOSES-NOT-DECLARED': warning('lint', 'The purposes are used but not described.', 'Add `purposes:` with what each is for and the clause of the notice.'),
  'PURPOSE-WITHOUT-BASIS': error('lint', 'A purpose has a legal basis nowhere.', 'Add it to `legal_basis:`, or write `basis:` on the output.'),
  'LAW-MISSING': error('lint', 'A legal obligation names no law.', 'Write { basis: legal_obligation, law: "…" }.'),
  'ASSESSMENT-MISSING': warning('lint', 'A legitimate interest names no assessment.', 'Write { basis: legitimate_interest, assessment: … }.'),
  'SALE-OR-ADVERTISING': { ...error('lint', 'Data would be sold or used for advertising.', 'Remove the purpose: this gateway does not serve it.'), never: true },
  'EMPLOYEE-CONSENT': error('lint', 'Employees in the EEA are asked for consent without a reference that it is free.', 'Write { basis: consent, employee_consent: "works agreement …" }.'),
  'MIXED-TOPIC': error('lint', 'Different messages go to one topic.', 'Put {stream} into the topic.'),
  'BRIDGE-RECIPIENT': error('lint', 'An output uses the bridge of another recipient.', 'Use a bridge of this recipient, or `via: [local]`.'),
  'LOAD-BESIDE-OPERATOR': error('lint', 'A load finer than 50 kg stands beside an operator or session.', 'Write { round: 50 kg }, or leave the operator out.'),
  'PGN-PERSONAL': error('lint', 'A J1939 parameter group leaves that names a machine, driver or place.', 'Name the groups that may leave, without it: { by: "j1939_pgn(id)", only: … }.'),
  'OUTPUT-BASIS-WEAKER': error('lint', 'The basis of an output is weaker than the table\'s for its purpose.', 'Remove `basis:` from the output, or choose another purpose.'),
  'HOLDER-SEES-REFUSAL': error('lint', 'A recipient that has the machine could tell who refused.', 'Give the holder only outputs whose basis asks nobody, such as contract, and fields that leave the same with a yes as without.'),
  'NO-CONSENT-UNREACHABLE': warning('lint', 'A branch without consent is never taken.', 'Write the `consent` branch alone, or change the basis.'),
  'UNTESTED': warning('lint', 'A branch of the rules is covered by no test.', 'Add a test for it.'),

  // the gateway file
  'SECRET-MODE': error('gateway', 'A file with a secret can be read by others.', 'Give it mode 0600 and the user that the gateway runs as.'),
  'SECRET-IN-FILE': error('gateway', 'A secret stands in the file itself.', 'Put it into a file of its own with mode 0600 and name that file.'),
  'PLAIN-LISTENER': error('gateway', 'A listener that can be reached from outside has no TLS.', 'Add `tls: { cert, key, ca }`, or listen on 127.0.0.1.'),
  'DOWNLINK-TOPIC': error('gateway', 'A pattern of commands is none.', 'Write down/{fleet}/{machine}/… with + and # for what varies.'),
  'DOWNLINK-RIGHT': error('gateway', 'A bridge takes commands that its recipient may not send.', 'Give the recipient the pattern under `downlink:`, or take it from the bridge.'),
  'PLAIN-BRIDGE': error('gateway', 'A bridge to another host has no TLS.', 'Use mqtts://.'),
  'TRIAL': error('gateway', 'The trial mode is on for listeners that are not loopback.', 'Remove `trial: true`, or listen on 127.0.0.1.'),
  'SET': error('gateway', 'An override of the command line cannot be read.', 'Write --set key.key=value.'),

  // registries
  'BAD-CSV': error('registry', 'A line of a CSV file cannot be read.', 'Write one value per column; quote values that hold commas.'),
  'DUPLICATE-ID': error('registry', 'Two entries have one id, certificate or card.', 'Remove or rename one of them.'),
  'BAD-VALIDITY': error('registry', 'A validity ends before it begins, or two of one card overlap.', 'Let one end on the day the other begins.'),
  'UNUSED-LOGIN': warning('registry', 'A recipient that is not in the rules has a log-in.', 'Remove it, or add the recipient to the rules.'),
} as const satisfies Record<string, CodeEntry>

/** Code -> meaning. */
export const CODES: Readonly<Record<Code, CodeEntry>> = TABLE
