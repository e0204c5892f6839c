/**
 * JSON Schemas of every file a person writes. They say what may stand where and carry the hover text of editors; what a name
 * means or whether two settings fit each other is checked afterwards (check.ts). Transform arguments come from the catalogue.
 *
 * Alternatives are written as if/then/else, never as anyOf: so a mistake has one cause, and one sentence.
 */
import { BASES, CHOICES } from '../domain/policy.ts'
import { NAME } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { TRANSFORMS, type JsonSchema } from '../minimise/transforms.ts'

/** The schema of the rules file, its included files united with it and its parameters filled in. */
export function rulesSchema(): JsonSchema {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Parapet rules, version 1',
    description: 'A stream comes in, an output (one recipient, one purpose) goes out, a field leaves only if the output names it.',
    ...object({
      version: { const: 1, description: 'Version of the rules language. Always 1.' },
      include: {
        type: 'array',
        description: 'Further files with streams, purposes, outputs, tests and the like, in the folder of this file or below. They include nothing themselves.',
        minItems: 1,
        maxItems: LIMITS.includes,
        uniqueItems: true,
        items: { type: 'string', maxLength: 256, pattern: INCLUDED, errorMessage: 'a .yaml file in the folder of this one or below, e.g. outputs/telematics.yaml, without ".." and "\\"' },
      },
      params: params('Values with a name, for $(name) in the place of any value; the gateway file can give other ones.'),
      policy: object({
        id: { ...text, description: 'Name of the privacy policy or notice that the grants refer to.' },
        effective: { ...date, description: 'First day on which the notice is in force.' },
        notice: { ...text, description: 'Where people can read the notice.' },
      }, [], 'The notice that these rules carry out.'),
      define: { description: 'A free place for YAML anchors and merges. Nothing in it takes effect by itself.' },
      streams: named(stream(), 'What comes in: a topic pattern and a protobuf message type each.', { minProperties: 1, maxProperties: LIMITS.streams }),
      subject: subject(),
      purposes: named(object({
        about: { ...text, description: 'What the data is used for, in words the operator understands.' },
        clause: { ...text, description: 'The clause of the notice that this purpose rests on, e.g. "P10, P11".' },
        dpv: { ...text, description: 'Purpose term of the W3C Data Privacy Vocabulary, e.g. ServicePersonalisation.' },
        replaces: {
          description: 'Purposes of earlier rules that this one stands for under a new name: every no said to them holds here, no yes does.',
          if: { type: 'array' },
          then: { type: 'array', minItems: 1, maxItems: LIMITS.purposes, items: name },
          else: { ...name, errorMessage: 'the name of a purpose, or a list of them' },
        },
      }, ['about']), 'Why data is processed. Each purpose is a question that an operator can answer.', { maxProperties: LIMITS.purposes }),
      legal_basis: {
        type: 'object',
        description: 'On what ground each purpose rests, per place: a country (DE), a part of one (US-CA), a group (EEA or your own through `in:`), or default.',
        additionalProperties: {
          type: 'object',
          properties: { in: { $ref: '#/$defs/groups' } },
          additionalProperties: { $ref: '#/$defs/basis' },
          errorMessage: 'a map from purposes to bases, e.g. { improve.statistics: consent }',
        },
      },
      recipients: named({ $ref: '#/$defs/recipient' }, 'Who receives.'),
      outputs: named(output(), 'What goes out: one recipient and one purpose each. The only thing that can leave.', { minProperties: 1, maxProperties: LIMITS.outputs }),
      zones: named(zone(), 'Areas that `hide_in` refers to.'),
      fields: {
        type: 'object',
        description: 'Classification for schemas without our field options, keyed package.Message.field.',
        propertyNames: { pattern: '^[A-Za-z_][\\w]*(\\.[A-Za-z_][\\w]*)+$', errorMessage: 'package.Message.field' },
        additionalProperties: classification(),
      },
      accept: {
        type: 'array',
        description: 'Waives a lint, never a rule. Shown in diff, report and ledger.',
        items: object({
          code: { ...text, description: 'The code of the lint, e.g. precise-beside-heading.' },
          at: { ...text, description: 'Where: names from the finding\'s path in that order, e.g. recovery.position.' },
          why: { ...text, minLength: 3, description: 'Why it is acceptable; read by auditors.' },
          until: { ...date, description: 'Last day on which it holds.' },
        }, ['code', 'at', 'why']),
      },
      tests: { type: 'array', description: 'Run before the file is accepted.', items: test() },
    }, ['version', 'streams', 'outputs']),
    $defs: {
      duration,
      groups: {
        if: { type: 'array' },
        then: { type: 'array', items: name, minItems: 1 },
        else: { ...name, errorMessage: 'the name of a group, or a list of them' },
        description: 'Groups of your own that this place belongs to. Membership of the EEA is built in.',
      },
      basis: basis(),
      recipient: recipient({}),
      transform: transform(),
      chain: {
        description: 'A transform, or a list of them applied in order.',
        if: { type: 'array' },
        then: { type: 'array', minItems: 1, maxItems: 16, items: { $ref: '#/$defs/transform' } },
        else: { $ref: '#/$defs/transform' },
      },
      keyed: keyed(),
      treatment: {
        if: { type: 'object', required: ['by'] },
        then: { $ref: '#/$defs/keyed' },
        else: { $ref: '#/$defs/chain' },
      },
      rule: {
        description: 'What happens to the field: a transform, a list of them, a pair { consent: …, no_consent: … }, or a key-value list.',
        if: { type: 'object', anyOf: [{ required: ['consent'] }, { required: ['no_consent'] }] },
        then: object({
          consent: { $ref: '#/$defs/treatment', description: 'With the operator\'s valid yes for the purpose of the output.' },
          no_consent: { $ref: '#/$defs/treatment', description: 'What leaves without the yes: the same or coarser.' },
        }, ['consent', 'no_consent']),
        else: { $ref: '#/$defs/treatment' },
      },
      rules: {
        type: 'object',
        description: 'Field or point -> what happens to it. What is not named does not leave.',
        additionalProperties: { $ref: '#/$defs/rule' },
      },
    },
  }
}

/** What must be right before files are united and parameters filled in. */
export function frameSchema(): JsonSchema {
  const { include, params: declared } = rulesSchema().properties as Readonly<Record<string, JsonSchema>>
  return { type: 'object', properties: { include: include as JsonSchema, params: declared as JsonSchema } }
}

/** What an included file may hold: maps and lists whose content is checked once they are united. */
export function partSchema(): JsonSchema {
  const { properties } = rulesSchema() as { readonly properties: Readonly<Record<string, JsonSchema>> }
  return object(Object.fromEntries(PARTS.map((key) => [key, key === 'define' ? {} : { type: properties[key]?.type as string, description: properties[key]?.description as string }])))
}

/** Keys of the rules file that an included file may have too. */
export const PARTS = ['define', 'streams', 'purposes', 'legal_basis', 'recipients', 'outputs', 'zones', 'fields', 'accept', 'tests'] as const

/**
 * The schema for editors, published as config/rules/rules.schema.json: of a rules file, of what it includes (a file without
 * `version`), and with `$(name)` in the place of any value.
 */
export function editorSchema(): JsonSchema {
  const { required, properties, $defs, ...rest } = rulesSchema() as JsonSchema & { readonly properties: Record<string, JsonSchema>; readonly $defs: Record<string, JsonSchema> }
  const open = (schemas: Record<string, JsonSchema>): Record<string, JsonSchema> => Object.fromEntries(Object.entries(schemas).map(([key, one]) => [key, FIXED.has(key) ? one : withParam(one)]))
  const only = Object.keys(properties).filter((key) => !(PARTS as readonly string[]).includes(key))
  return {
    ...rest,
    if: { required: ['version'] },
    then: { if: { required: ['include'] }, else: { required } },
    else: { properties: Object.fromEntries(only.map((key) => [key, false])) },
    properties: open(properties),
    $defs: { param: { type: 'string', pattern: PARAM.source, description: 'The value of a parameter.' }, ...open($defs) },
  }
}

/** The schema of the gateway file (config/gateway.yaml). */
export function gatewaySchema(): JsonSchema {
  const listener = (port: number, what: string): JsonSchema => object({
    host: { ...text, default: '127.0.0.1', description: 'Address to listen on. Anything but loopback needs `tls`.' },
    port: { type: 'integer', minimum: 0, maximum: 65_535, default: port, description: '0 takes any free port.' },
    tls: object({
      cert: { ...text, description: 'PEM file of the certificate chain.' },
      key: { ...text, description: 'PEM file of the private key.' },
      ca: { ...text, description: 'PEM file of the authority whose client certificates are accepted; with it TLS is mutual.' },
      crl: { ...text, description: 'PEM file of the revocation lists of `ca`. Whose certificate comes onto it is cut off within seconds.' },
    }, ['cert', 'key'], 'TLS 1.3. The files are read again when they change.'),
  }, [], what)
  const limit = (value: number, minimum: number, maximum: number, description: string): JsonSchema => ({ type: 'integer', minimum, maximum, default: value, description })
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Parapet gateway file',
    ...object({
      name: { ...name, default: 'gateway', description: 'Name of this gateway in ledger, metrics and logs.' },
      tenant: { ...name, default: 'default', description: 'Separates the pseudonyms of two customers under one root key. Never change it.' },
      data: { ...text, default: './data', description: 'Folder of ledger, outbox and keys; created with mode 0700.' },
      rules: { ...text, default: './rules/awp.yaml', description: 'The rules file.' },
      params: params('Values for parameters that the rules file declares, in the place of those written there.'),
      proto: { type: 'array', items: text, default: ['../proto'], description: 'Folders of .proto files.' },
      machines: { ...text, description: 'Registry of machines: a YAML file, a CSV file or a folder of them. Reloaded live.' },
      operators: { ...text, description: 'Cards, codes and numbers of operators. Reloaded live.' },
      recipients: { ...text, description: 'Log-ins of recipients at the egress broker. Reloaded live.' },
      minimiser: { enum: ['compiled', 'interpreted'], default: 'compiled', description: 'interpreted: the readable engine serves alone.' },
      trial: { type: 'boolean', default: false, description: 'Accepts widening rules by itself; loopback listeners only.' },
      two_person: { type: 'boolean', default: false, description: 'Rules that widen something need the approval of two different tokens.' },
      listen: object({
        terminals: listener(1883, 'Where machines connect.'),
        recipients: listener(1884, 'Where recipients subscribe.'),
        recipients_ws: object({
          ...(listener(1885, '')['properties'] as Record<string, JsonSchema>),
          origins: {
            type: 'array', maxItems: 64, uniqueItems: true, items: { type: 'string', pattern: '^https?://[^/?#@*\\s]+$', errorMessage: 'an origin such as https://planner.example.com' },
            description: 'Web pages that may connect. Default: none; clients that are no browser need not be named.',
          },
        }, [], 'Where recipients subscribe over WebSocket. Not there unless it is written.'),
        admin: listener(8080, 'The admin API.'),
      }),
      downlink: named(object({
        topics: { ...downlinkPatterns, description: 'Commands that it may send: down/{fleet}/{machine}/…, with + and # for levels that vary, or the names of a fleet and a machine.' },
        qos: { enum: [0, 1], default: 1, description: 'The highest. With 1 a command waits for a terminal that is absent.' },
        payload_bytes: { type: 'integer', minimum: 0, maximum: 262_144, default: LIMITS.commandPayloadBytes, description: 'Largest payload.' },
        ttl: { ...duration, default: '1d', description: 'How long a command waits for a terminal that is absent; at most 30 days.' },
      }, ['topics']), 'Recipients that may send commands to machines. Nobody else may.'),
      bridges: named(object({
        downlink: { ...downlinkPatterns, description: 'Commands that are taken from this broker, within what its recipient may send. Default: none.' },
        recipient: { ...name, description: 'The recipient whose broker this is; only its outputs may pass.' },
        url: { type: 'string', pattern: '^(mqtts?|wss?)://', errorMessage: 'an address such as mqtts://broker.example:8883', description: 'mqtts://host:port. Without TLS on loopback only.' },
        protocol: { enum: [4, 5], default: 5, description: 'MQTT 3.1.1 (4) or 5.' },
        window: { type: 'integer', minimum: 1, maximum: 65_535, default: 256, description: 'Messages on the way that are not yet acknowledged.' },
        client_id: { ...text, description: 'MQTT client id; made from gateway and bridge when left out.' },
        credentials_file: { ...text, description: 'File with user name and password on two lines, mode 0600.' },
        tls: object({
          ca: { ...text, description: 'PEM file of the authority of the other side.' },
          cert: { ...text, description: 'PEM file of our certificate.' },
          key: { ...text, description: 'PEM file of our private key.' },
          server_name: { ...text, description: 'Name in the certificate of the other side, when it is not the host of the url.' },
        }, [], 'Our own certificate and whom to trust.'),
        keepalive: { ...duration, default: '30s', description: 'A broker that says nothing for one and a half of it is given up.' },
        envelope: { type: 'boolean', default: false, description: 'Wraps each message into parapet.v1.Envelope: id, policy, purpose and retention also in 3.1.1.' },
        batch: object({
          messages: { type: 'integer', minimum: 2, maximum: 1_000, default: 100, description: 'Messages in one at most.' },
          within: { ...duration, default: '1s', description: 'How long the first of them waits at most.' },
          compress: { enum: ['zstd', 'none'], default: 'zstd' },
          outputs: { type: 'array', items: name, minItems: 1, uniqueItems: true, description: 'Outputs that are batched; all when left out.' },
        }, [], 'Several messages of one topic in one, each behind its length.'),
      }, ['recipient', 'url']), 'Connections to cloud brokers.'),
      limits: object({
        packet_bytes: limit(LIMITS.packetBytes, 1_024, 1_048_576, 'Largest MQTT packet from a terminal; past it the connection is closed and counted.'),
        connections: limit(LIMITS.connections, 1, 200_000, 'Terminals at the same time.'),
        messages_per_second: limit(LIMITS.messagesPerSecond, 1, 100_000, 'Per terminal; above it reading slows down.'),
        unanswered: limit(LIMITS.unanswered, 1, 1_024, 'PUBLISHes of one terminal in work at the same time.'),
        outbox_bytes: limit(LIMITS.outboxBytes, 1_048_576, 1_099_511_627_776, 'Size of the outbox; at it ordinary messages expire first, safety records last.'),
        address_connects_per_second: limit(LIMITS.addressConnectsPerSecond, 1, 100_000, 'New connections of one address; further ones are closed at once. On loopback only when it is written here.'),
        address_connect_burst: limit(LIMITS.addressConnectBurst, 1, 100_000, 'Of them at once, after a rest.'),
        identity_connects_per_minute: limit(LIMITS.identityConnectsPerMinute, 2, 1_000_000, 'New connections of one machine or recipient, half of them at once; further ones are refused, those that are open stay.'),
        connect_time: { ...duration, default: '5s', description: 'From the TCP accept to a complete CONNECT.' },
        packet_time: { ...duration, default: '10s', description: 'From the first to the last byte of one packet.' },
      }),
      log: object({ level: { enum: ['debug', 'info', 'warn', 'error', 'silent'], default: 'info' } }),
      verify: { type: 'integer', minimum: 0, maximum: 1_000_000, default: 100, description: 'One of so many messages is walked again by the verifier; 0 turns it off.' },
    }),
    $defs: {},
  }
}

/** The schema of a registry of machines, id -> machine. */
export function machinesSchema(): JsonSchema {
  return {
    title: 'Parapet machines',
    type: 'object',
    propertyNames: { pattern: '^[^/+#\\u0000$][^/+#\\u0000]{0,255}$', errorMessage: 'a serial number without "/", "+" and "#"' },
    additionalProperties: object({
      fleet: { type: 'string', pattern: '^[^/+#\\u0000$][^/+#\\u0000]{0,255}$', errorMessage: 'a name without "/", "+" and "#"', description: 'The fleet level of its topics.' },
      model: { ...text, description: 'Model name; conditions may read it.' },
      labels: { type: 'object', maxProperties: 32, additionalProperties: { type: ['string', 'number', 'boolean'] }, propertyNames: { pattern: NAME.source }, description: 'Free labels; conditions read them as machine.label.NAME.' },
      country: { ...text, description: 'ISO 3166 code of the place where it works; unknown when left out.' },
      operator_collection: { enum: ['on', 'off', 'unknown'], default: 'unknown', description: '[Privacy policy P7] The device setting; unknown counts as off.' },
      holder: { ...text, description: 'The customer who has it.' },
      credential: { ...scrypt, description: 'Made by `parapet machines add`; without it only a loopback listener admits the machine.' },
      certificate: { ...text, description: 'Name in its client certificate, when that is not the id.' },
    }, ['fleet', 'model']),
  }
}

/** The schema of the operators' identities: a list of persons and what opens a machine for them. */
export function operatorsSchema(): JsonSchema {
  return {
    title: 'Parapet operators',
    type: 'array',
    items: object({
      id: { ...name, description: 'Our own id of the person (op-…); never a name.' },
      kind: { enum: ['personal', 'shared', 'service'], description: 'personal: one person. shared, service: never a yes.' },
      country: { ...text, description: 'ISO 3166 code; with the machine\'s the stricter counts.' },
      valid: object({
        from: { ...date, description: 'First day, UTC.' },
        to: { ...date, description: 'The first day on which it is no longer valid, UTC.' },
      }),
      cards: { type: 'array', minItems: 1, maxItems: 64, uniqueItems: true, items: { type: 'string', minLength: 1, maxLength: 256, errorMessage: 'a text in quotes' }, description: 'Card, PIN or personnel number as terminals send it.' },
    }, ['id', 'kind', 'cards']),
    errorMessage: 'a list of persons, each { id, kind, cards: [...] }',
  }
}

/** The schema of the recipients' log-ins, recipient -> log-in or list of log-ins. */
export function recipientsSchema(): JsonSchema {
  const login = object({
    user: { ...name, description: 'User name at the egress broker; the recipient\'s id when left out.' },
    credential: { ...scrypt, description: 'scrypt record of the password.' },
    certificate: { ...text, description: 'Name in its client certificate.' },
  })
  return {
    title: 'Parapet recipients',
    type: 'object',
    propertyNames: { pattern: NAME.source, errorMessage: NAME_WORDS },
    additionalProperties: { if: { type: 'array' }, then: { type: 'array', items: login, minItems: 1 }, else: login },
  }
}

// ------------------------------------------------------------------------------------------------------------------- parts

/** `$(name)` as the whole of a value. */
export const PARAM = /^\$\(([A-Za-z0-9_.-]+)\)$/
/** Relative, downwards, and what people take for YAML; so that nothing else can be read through it. */
const INCLUDED = '^(?!\\.{1,2}/)[^/\\\\:\\u0000-\\u001f]+(/(?!\\.{1,2}/)[^/\\\\:\\u0000-\\u001f]+)*\\.ya?ml$'
/** Where no parameter is filled in. */
const FIXED: ReadonlySet<string> = new Set(['version', 'include', 'params', 'define'])

const NAME_WORDS = 'a name of letters, digits, "_", "." and "-"'
const text: JsonSchema = { type: 'string', minLength: 1, maxLength: 4_096 }
const name: JsonSchema = { type: 'string', pattern: NAME.source, maxLength: 128, errorMessage: NAME_WORDS }
const date: JsonSchema = { type: 'string', pattern: '^\\d{4}-\\d{2}-\\d{2}$', errorMessage: 'a day such as 2026-11-01' }
const duration: JsonSchema = { type: 'string', pattern: '^\\d+(\\.\\d+)?\\s*(ms|s|min|m|h|d)$', errorMessage: 'a duration such as 30s, 15m, 12h or 7d' }
const percent: JsonSchema = { type: 'string', pattern: '^(100|[1-9]?\\d(\\.\\d+)?)\\s*%$', errorMessage: 'a part such as 20 %' }
const scrypt: JsonSchema = { type: 'string', pattern: '^scrypt\\$', errorMessage: 'a scrypt record, never the password itself' }
const downlinkPatterns: JsonSchema = { type: 'array', items: text, minItems: 1, maxItems: LIMITS.commandPatterns, uniqueItems: true }
const path: JsonSchema = { type: 'string', minLength: 1, maxLength: 1_024, errorMessage: 'a field of the message, e.g. header.time_ms' }

function object(properties: Readonly<Record<string, JsonSchema>>, required: readonly string[] = [], description?: string): JsonSchema {
  return { type: 'object', additionalProperties: false, ...(required.length > 0 ? { required } : {}), properties, ...(description === undefined ? {} : { description }) }
}

function named(item: JsonSchema, description: string, more: JsonSchema = {}): JsonSchema {
  return { type: 'object', description, propertyNames: { pattern: NAME.source, maxLength: 128, errorMessage: NAME_WORDS }, additionalProperties: item, ...more }
}

function params(description: string): JsonSchema {
  const scalar = { type: ['string', 'number', 'boolean'], errorMessage: 'a text, a number, true or false, or a list of them' }
  return named({ if: { type: 'array' }, then: { type: 'array', maxItems: 1_000, items: scalar }, else: scalar }, description, { maxProperties: LIMITS.params })
}

/** The same schema with `$(name)` allowed for each value in it. */
function withParam(schema: JsonSchema): JsonSchema {
  const { description, ...rest } = schema
  const leaf = 'const' in rest || 'enum' in rest || (typeof rest.type === 'string' && rest.type !== 'object') || Array.isArray(rest.type)
  const each = (all: unknown): Record<string, JsonSchema> => Object.fromEntries(Object.entries(all as Record<string, JsonSchema>).map(([key, one]) => [key, withParam(one)]))
  const made: Record<string, unknown> = { ...rest }
  for (const key of ['items', 'additionalProperties', 'then', 'else']) if (typeof made[key] === 'object') made[key] = withParam(made[key] as JsonSchema)
  if (typeof made.properties === 'object') made.properties = each(made.properties)
  const said = description === undefined ? {} : { description }
  return leaf ? { ...said, anyOf: [made, { $ref: '#/$defs/param' }] } : { ...made, ...said }
}

function stream(): JsonSchema {
  return object({
    topic: { ...text, maxLength: LIMITS.topicBytes, description: 'Topic pattern; {machine}, {fleet} or any other {name} stands for one level.' },
    message: { ...text, description: 'Full name of the protobuf message, e.g. awp.v1.Status.' },
    case: { ...path, description: 'A oneof member that must be set. Streams may share a topic if they differ in it.' },
    machine: { ...path, description: 'Field with the machine; one that differs from the authenticated machine refuses the message.' },
    operator: { ...path, description: 'Field that names the operator.' },
    time: object({
      field: path,
      unit: { enum: ['s', 'ms', 'us', 'ns'], description: 'Leave it out for google.protobuf.Timestamp.' },
    }, ['field'], 'When it happened.'),
    points: named(point(), 'Positions made of fields; the parts can be addressed only through the name given here.'),
  }, ['topic', 'message'])
}

function point(): JsonSchema {
  const unit = {
    description: 'deg, e5, e6, e7, or { scale: 1e-6 }: degrees = wire value times scale.',
    if: { type: 'object' },
    then: object({ scale: { type: 'number', exclusiveMinimum: 0, maximum: 1 } }, ['scale']),
    else: { enum: ['deg', 'e5', 'e6', 'e7'] },
  }
  const common = { lat: path, lon: path, unit, valid: { ...text, description: 'CEL over msg; false means that there is no position.' } }
  return {
    if: { type: 'object', properties: { kind: { const: 'delta' } }, required: ['kind'] },
    then: object({ kind: { const: 'delta' }, ...common, dlat: path, dlon: path, dt: path }, ['lat', 'lon', 'dlat', 'dlon', 'unit']),
    else: object({ kind: { enum: ['plain', 'delta'] }, ...common }, ['lat', 'lon', 'unit']),
  }
}

function subject(): JsonSchema {
  return object({
    sessions: object({
      stream: { ...name, description: 'The stream of sign-on and sign-off events.' },
      sign_on: { ...text, description: 'CEL over msg, e.g. msg.op == SIGN_ON.' },
      sign_off: { ...text, description: 'CEL over msg, e.g. msg.op in [SIGN_OFF, KEY_OFF].' },
      operator: { ...path, description: 'Field with the card, code or number.' },
    }, ['stream', 'sign_on', 'operator'], 'Which events start and end operator sessions.'),
    consent: object({
      stream: { ...name, description: 'The stream on which a terminal says what its operator chose.' },
      operator: { ...path, description: 'Field with the card, code or number. Without it, or when it is empty, whoever is signed on.' },
      purpose: { ...path, description: 'Text field with the purpose, as this file names it.' },
      choice: { ...path, description: 'Enum or text field with the choice.' },
      means: {
        type: 'object',
        description: 'What each member (or text) of `choice` says. What is not listed is refused and counted.',
        minProperties: 1,
        maxProperties: 64,
        additionalProperties: { enum: CHOICES },
      },
      policy: { ...path, description: 'Text field with the policy whose notice was shown; a yes under another one than that in force is none.' },
      language: { ...path, description: 'Text field with the language of the notice.' },
      supersedes: { ...path, description: 'Field with the receipt or ledger sequence of the state that the choice replaces; a yes that was buffered must have it.' },
      evidence: { ...path, description: 'Bytes or text that show that the person chose; kept sealed.' },
    }, ['stream', 'purpose', 'choice', 'means'], 'How a terminal says what its operator chose. It counts only for the operator signed on there.'),
    session_max: { $ref: '#/$defs/duration', default: '12h', description: 'A session without sign-off ends after this.' },
    handover_quarantine: { $ref: '#/$defs/duration', default: '2m', description: 'After a change of operator the stricter of both decisions holds for so long.' },
    late_limit: { $ref: '#/$defs/duration', default: '7d', description: 'How late a message may be and still be attributed.' },
  }, [], 'Whose data it is.')
}

function basis(): JsonSchema {
  const word = { enum: BASES, description: 'forbidden > consent > opt_out > contract, legitimate_interest, legal_obligation, vital_interest, public_interest' }
  return {
    if: { type: 'object' },
    then: object({
      basis: word,
      law: { ...text, description: 'The law that obliges; needed for legal_obligation.' },
      assessment: { ...text, description: 'Reference of the balancing test; needed for legitimate_interest.' },
      employee_consent: { ...text, description: 'Reference that shows why employees can consent freely (works agreement, assessment).' },
    }, ['basis']),
    else: word,
  }
}

function recipient(more: Readonly<Record<string, JsonSchema>>): JsonSchema {
  return object({
    ...more,
    role: { enum: ['controller', 'processor', 'joint_controller'], description: '[GDPR Art. 4(7), 4(8), 26]' },
    group: { ...name, description: 'subject (the person\'s own), holder, affiliate, supplier, authority, …' },
    region: { ...text, description: 'Where the data goes: a country, or EU.' },
    on_site: { type: 'boolean', default: false, description: 'Stays on the site; may receive outputs with reach: site.' },
    transfers: { type: 'object', additionalProperties: name, description: 'Where data comes from -> transfer tool, e.g. { EEA: scc, GB: idta, CN: domestic }.' },
    privacy_contact: { ...text, description: 'Whom to ask.' },
  }, [...Object.keys(more), 'role', 'region'])
}

function output(): JsonSchema {
  return object({
    recipient: {
      description: 'A name from `recipients:`, or a recipient written out here.',
      if: { type: 'object' },
      then: recipient({ id: name }),
      else: { ...name, errorMessage: 'the name of a recipient, or a map with id, role and region' },
    },
    purpose: { ...name, description: 'Why the recipient gets it.' },
    basis: { $ref: '#/$defs/basis', description: 'The same in every country, instead of the table in `legal_basis:`.' },
    to: object({
      topic: { ...text, maxLength: LIMITS.topicBytes, description: 'Topic with {stream} and names of fields of the output, filled with the transformed values.' },
      qos: { enum: [0, 1, 2], default: 1 },
      via: { type: 'array', items: name, minItems: 1, uniqueItems: true, default: ['local'], description: 'local (subscribers here) and names of bridges.' },
      send_within: { $ref: '#/$defs/duration', description: 'What could not be sent by then expires.' },
      retain: { type: 'boolean', default: false, description: 'The broker keeps the last message of each topic.' },
      share: { ...percent, default: '50 %', description: 'Part of the outbox that this output may fill; the last tenth is for safety and legal records.' },
      at_quota: { enum: ['wait', 'drop_oldest'], default: 'wait', description: 'At its share: the terminal keeps the message, or the oldest ones of this output go and are counted.' },
    }, ['topic']),
    reach: { enum: ['any', 'site'], default: 'any', description: 'site: only for recipients on the site; there local_only is a yes.' },
    recipient_keeps: { $ref: '#/$defs/duration', description: 'How long the recipient may keep it; part of what is granted.' },
    arrival_visible: { type: 'boolean', default: false, description: 'Says openly that the moment of arrival tells what round_time took.' },
    despite_device_setting: { ...text, description: 'The law that lets a legal_obligation output run although the device setting is off.' },
    fields: { $ref: '#/$defs/rules', description: 'For every stream below that has the field; the stream\'s own entry wins.' },
    streams: named(object({
      keep: {
        description: 'Plain fields, or not_personal: all fields that the schema classifies as never personal, frozen when the file is accepted.',
        if: { type: 'array' },
        then: { type: 'array', items: path, uniqueItems: true },
        else: { const: 'not_personal', errorMessage: 'a list of fields, or not_personal' },
      },
      fields: { $ref: '#/$defs/rules' },
      when: { ...text, description: 'CEL over msg, machine and country; only messages for which it is true.' },
      require: { type: 'array', items: path, uniqueItems: true, description: 'Without these fields nothing is sent.' },
      emit: object({
        every: { $ref: '#/$defs/duration', description: 'One message per machine and window of event time.' },
        take: {
          description: 'Which message of the window: first, last, or the one with the largest value of a field.',
          if: { type: 'object' },
          then: object({ max: path }, ['max']),
          else: { enum: ['first', 'last'] },
        },
        on_change: { type: 'array', items: path, minItems: 1, uniqueItems: true, description: 'Send when one of these has changed.' },
        hold: { type: 'boolean', default: false, description: 'Send at the window\'s end, so that arrival does not tell the time.' },
      }, [], 'Down-sampling on event time.'),
    }), 'Which streams feed the output, and what leaves of each.', { minProperties: 1 }),
  }, ['recipient', 'purpose', 'to', 'streams'])
}

/** One transform: a bare name, or a map with one key. */
function transform(): JsonSchema {
  const specs = [...TRANSFORMS.values()]
  return {
    description: 'What happens to the value.',
    if: { type: 'object' },
    then: {
      type: 'object',
      minProperties: 1,
      maxProperties: 1,
      additionalProperties: false,
      properties: Object.fromEntries(specs.map((spec) => [spec.name, { ...spec.argument, description: `${spec.summary} Example: ${spec.example}` }])),
      errorMessage: 'one transform; several are a list: [ { clamp: [0, 100] }, { round: 5 } ]',
    },
    else: { enum: specs.filter((spec) => spec.bare).map((spec) => spec.name), errorMessage: 'a transform such as keep, drop or { round: 5 }' },
  }
}

function keyed(): JsonSchema {
  return object({
    by: { type: 'string', pattern: '^([A-Za-z_]\\w*|j1939_pgn\\([A-Za-z_]\\w*\\))$', errorMessage: 'a member such as id, or j1939_pgn(id)', description: 'The member that holds the key; j1939_pgn(id) takes the PGN of a 29-bit CAN identifier.' },
    with: { type: 'object', additionalProperties: { $ref: '#/$defs/chain' }, description: 'Members that leave with every entry that `only` names.' },
    only: {
      type: 'object',
      minProperties: 1,
      maxProperties: 4_096,
      errorMessage: 'a map from at least one key to its members, e.g. { 101: { v: keep } }',
      propertyNames: { pattern: '^(0|[1-9]\\d{0,9}|0x[0-9A-Fa-f]{1,8})$', errorMessage: 'a whole number such as 61444, or 0xF004' },
      additionalProperties: { type: 'object', additionalProperties: { $ref: '#/$defs/chain' }, errorMessage: 'a map from members to transforms, e.g. { v: keep }' },
      description: 'Key -> what leaves of the entry, member by member; it wins over `with`. Entries with other keys do not leave.',
    },
  }, ['by', 'only'], 'A list of key-value entries, such as numbered signals or CAN frames. A pair stands around the whole list.')
}

function zone(): JsonSchema {
  const degrees = { type: 'array', minItems: 2, maxItems: 2, items: { type: 'number', minimum: -180, maximum: 180 }, errorMessage: 'a latitude and a longitude, e.g. [48.137, 11.575]' }
  return { minProperties: 1, maxProperties: 1, errorMessage: 'a circle or a polygon', ...object({
    circle: object({ at: degrees, radius: { type: 'string', pattern: '^\\d+(\\.\\d+)?\\s*(m|km)$', errorMessage: 'a length such as 500m' } }, ['at', 'radius']),
    polygon: { type: 'array', minItems: 3, maxItems: 1_000, items: degrees, errorMessage: 'a list of at least three corners' },
  }) }
}

function classification(): JsonSchema {
  return object({
    category: { ...name, description: 'Category of the data, as in the schema option.' },
    class: { enum: ['basic', 'additional'], description: 'additional leaves only with consent or coarsened.' },
    personal: { enum: ['never', 'linkable', 'always'], description: 'How the value relates to a person.' },
    subject: { enum: ['none', 'machine', 'operator', 'session', 'customer'], description: 'Whom the value alone names.' },
    unit: { type: 'string', maxLength: 16, description: 'Unit of the physical value, e.g. "%".' },
    scale: { type: 'number', exclusiveMinimum: 0, description: 'physical = wire value times scale.' },
  }, ['class', 'personal'])
}

function test(): JsonSchema {
  const expect = {
    type: 'object',
    description: 'Output -> nothing, or the exact fields that leave.',
    additionalProperties: { if: { type: 'object' }, then: { type: 'object' }, else: { const: 'nothing', errorMessage: 'nothing, or a map of the fields that leave' } },
  }
  const states = { type: 'object', additionalProperties: { enum: ['not_set', 'requested', 'granted', 'local_only', 'refused', 'withdrawn', 'objected', 'expired', 'invalidated'] } }
  const message = { type: 'object', description: 'The message as the terminal sends it, in proto3 JSON with the field names of the schema.' }
  const common = {
    stream: { ...name, description: 'The stream it comes in on.' },
    machine: { type: ['string', 'number'], description: 'The machine that sends.' },
    fleet: text,
    labels: { type: 'object', additionalProperties: { type: ['string', 'number', 'boolean'] } },
    model: text,
    country: { ...text, description: 'ISO 3166 code of the machine; unknown when left out.' },
    operator_country: { ...text, description: 'ISO 3166 code of the operator.' },
    operator_collection: { enum: ['on', 'off', 'unknown'], description: 'The device setting; on when left out.' },
    notice: { type: 'boolean', description: 'Whether the operator was given the notice; true when left out.' },
    message,
  }
  const never = { type: 'array', items: { type: ['string', 'number'] }, description: 'Texts that no output may contain.' }
  const others = { const: 'nothing', description: 'Outputs that are not named must send nothing.' }
  return object({
    name: text,
    params: params('Values under which this test runs, whatever is in force elsewhere.'),
    given: object({ ...common, operator: { type: ['string', 'null'], description: 'Who is signed on; null = nobody.' }, consent: { ...states, description: 'Purpose -> state of the operator\'s consent.' }, at: text }, ['stream', 'message']),
    expect,
    steps: {
      type: 'array',
      minItems: 1,
      description: 'A sequence of messages and consent changes.',
      items: object({ ...common, at: { ...text, description: '"08:00", or after the step before: "+5m".' }, operator: { type: ['string', 'null'] }, consent: { type: 'object', additionalProperties: states, description: 'Operator -> purpose -> state.' }, expect, others, never_contains: never }, ['at']),
    },
    others,
    never_contains: never,
  }, ['name'])
}
