/**
 * A small schema and a rules file that nothing objects to. Everything and everybody in it is invented.
 */
import { schemasFromText, type Schemas } from '../../src/minimise/descriptor.ts'
import { loadRules, type LoadedRules, type RulesOptions } from '../../src/config/rules.ts'

const PROTO = `
syntax = "proto3";
package lift.v1;

enum Mode { MODE_OFF = 0; MODE_DRIVE = 1; MODE_LIFT = 2; }
enum Op { OP_NONE = 0; SIGN_ON = 1; SIGN_OFF = 2; KEY_OFF = 3; }

message Status {
  string machine_id  = 1 [(parapet.v1.privacy) = { category: "machine_identity", class: BASIC, personal: LINKABLE, subject: MACHINE }];
  uint64 time_ms     = 2 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "ms" }];
  uint32 seq         = 3 [(parapet.v1.privacy) = { category: "sequence", class: BASIC, personal: LINKABLE }];
  string operator_id = 4 [(parapet.v1.privacy) = { category: "identity", class: ADDITIONAL, personal: ALWAYS, subject: OPERATOR }];
  sint32 lat_e7      = 5 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE, unit: "deg", scale: 1e-7 }];
  sint32 lon_e7      = 6 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE, unit: "deg", scale: 1e-7 }];
  uint32 fix         = 7 [(parapet.v1.privacy) = { category: "position", class: BASIC, personal: NEVER }];
  bool   key_on      = 8 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }];
  uint32 soc_pct_x10 = 9 [(parapet.v1.privacy) = { category: "battery", class: BASIC, personal: NEVER, unit: "%", scale: 0.1 }];
  sint32 speed_mm_s  = 10 [(parapet.v1.privacy) = { category: "motion", class: BASIC, personal: LINKABLE, unit: "m/s", scale: 0.001 }];
  uint32 load_kg     = 11 [(parapet.v1.privacy) = { category: "load", class: BASIC, personal: LINKABLE, unit: "kg" }];
  Mode   mode        = 12 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }];
  string site        = 13 [(parapet.v1.privacy) = { category: "customer", class: BASIC, personal: LINKABLE, subject: CUSTOMER }];
  bytes  photo       = 14 [(parapet.v1.privacy) = { category: "media", class: ADDITIONAL, personal: ALWAYS }];
  double temp_c      = 15 [(parapet.v1.privacy) = { category: "battery", class: BASIC, personal: NEVER, unit: "degC" }];
  repeated uint32 cells = 16 [(parapet.v1.privacy) = { category: "battery", class: BASIC, personal: NEVER }];
  Header header      = 17 [(parapet.v1.privacy) = { category: "software", class: BASIC, personal: NEVER }];
  string mystery     = 18;
}

message Header {
  string firmware = 1 [(parapet.v1.privacy) = { category: "software", class: BASIC, personal: NEVER }];
  string user     = 2 [(parapet.v1.privacy) = { category: "identity", class: ADDITIONAL, personal: ALWAYS, subject: OPERATOR }];
}

message OperatorEvent {
  string machine_id  = 1 [(parapet.v1.privacy) = { category: "machine_identity", class: BASIC, personal: LINKABLE, subject: MACHINE }];
  uint64 time_ms     = 2 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "ms" }];
  Op     op          = 3 [(parapet.v1.privacy) = { category: "session", class: BASIC, personal: LINKABLE }];
  string operator_id = 4 [(parapet.v1.privacy) = { category: "identity", class: ADDITIONAL, personal: ALWAYS, subject: OPERATOR }];
}

message Track {
  string          machine_id = 1 [(parapet.v1.privacy) = { category: "machine_identity", class: BASIC, personal: LINKABLE, subject: MACHINE }];
  uint64          time_ms    = 2 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "ms" }];
  sint32          lat0_e7    = 3 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE, unit: "deg", scale: 1e-7 }];
  sint32          lon0_e7    = 4 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE, unit: "deg", scale: 1e-7 }];
  repeated sint32 dlat_e7    = 5 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE, unit: "deg", scale: 1e-7 }];
  repeated sint32 dlon_e7    = 6 [(parapet.v1.privacy) = { category: "position", class: ADDITIONAL, personal: LINKABLE, unit: "deg", scale: 1e-7 }];
  repeated uint32 dt_ms      = 7 [(parapet.v1.privacy) = { category: "time", class: BASIC, personal: LINKABLE, unit: "ms" }];
}

message Signal { uint32 id = 1 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: NEVER }]; sint64 v = 2 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: LINKABLE }]; }
message Signals {
  string          machine_id = 1 [(parapet.v1.privacy) = { category: "machine_identity", class: BASIC, personal: LINKABLE, subject: MACHINE }];
  repeated Signal s          = 2 [(parapet.v1.privacy) = { category: "operation", class: BASIC, personal: LINKABLE }];
}

message Frame { fixed32 id = 1 [(parapet.v1.privacy) = { category: "can_raw", class: BASIC, personal: NEVER }]; bytes data = 2 [(parapet.v1.privacy) = { category: "can_raw", class: BASIC, personal: LINKABLE }]; }
message Frames {
  string         machine_id = 1 [(parapet.v1.privacy) = { category: "machine_identity", class: BASIC, personal: LINKABLE, subject: MACHINE }];
  repeated Frame f          = 2 [(parapet.v1.privacy) = { category: "can_raw", class: BASIC, personal: LINKABLE }];
}
`

const FOREIGN = `
syntax = "proto3";
package acme.v3;
import "google/protobuf/timestamp.proto";

message Envelope {
  string machine = 1;
  google.protobuf.Timestamp at = 2;
  oneof body { Alarm alarm = 3; Note note = 4; }
}
message Alarm { uint32 cause = 1; string remark = 2; uint32 speed = 3; double weight = 4; }
message Note { string text = 1; }
message Plain { string machine = 1; uint64 t = 2; }
`

export const SCHEMAS: Schemas = schemasFromText({ 'lift/v1/lift.proto': PROTO, 'acme/v3/acme.proto': FOREIGN })

/** Accepted without a single finding. */
export const GOOD = `version: 1
policy: { id: demo-1, effective: 2026-11-01, notice: "https://example.com/privacy" }
define:
  shown: &shown { machine_id: { pseudonym: { rotate: 7d } }, time_ms: { round_time: 15m } }
streams:
  status:
    topic: "up/{fleet}/{machine}/status"
    message: lift.v1.Status
    machine: machine_id
    operator: operator_id
    time: { field: time_ms, unit: ms }
    points: { position: { lat: lat_e7, lon: lon_e7, unit: e7, valid: "msg.fix > 0" } }
  operator:
    topic: "up/{fleet}/{machine}/operator"
    message: lift.v1.OperatorEvent
    time: { field: time_ms, unit: ms }
subject:
  sessions: { stream: operator, sign_on: "msg.op == SIGN_ON", sign_off: "msg.op in [SIGN_OFF, KEY_OFF]", operator: operator_id }
  session_max: 12h
  handover_quarantine: 2m
  late_limit: 7d
purposes:
  service.operate: { about: "hours and battery", clause: P10 }
  improve.statistics: { about: "where machines work", clause: P14 }
  personalise: { about: "the operator's own app", clause: P12 }
legal_basis:
  EEA:
    service.operate: contract
    improve.statistics: { basis: legitimate_interest, assessment: LIA-3 }
    personalise: { basis: consent, employee_consent: "form EC-1" }
  DE:
    improve.statistics: { basis: consent, employee_consent: "form EC-1" }
  US:
    service.operate: contract
    improve.statistics: opt_out
    personalise: consent
  default:
    service.operate: contract
    improve.statistics: consent
    personalise: consent
recipients:
  cloud: { role: controller, group: affiliate, region: CN, transfers: { EEA: scc } }
  planner: { role: processor, region: EU }
  app: { role: processor, group: subject, region: EU }
outputs:
  service:
    recipient: cloud
    purpose: service.operate
    to: { topic: "out/service/{stream}/{machine_id}", qos: 1, via: [local], send_within: 24h }
    recipient_keeps: 30d
    streams:
      status:
        keep: not_personal
        fields:
          machine_id: { pseudonym: { rotate: never } }
          time_ms: keep
          position: { consent: { grid: 1km }, no_consent: { grid: 10km } }
  planning:
    recipient: planner
    purpose: improve.statistics
    to: { topic: "out/planning/{machine_id}" }
    arrival_visible: true
    fields: { <<: *shown }
    streams:
      status:
        when: "msg.key_on && machine.label.site != 'test'"
        require: [position]
        keep: [mode]
        fields:
          position: { consent: { grid: 500m }, no_consent: { grid: 10km } }
          soc_pct_x10: [{ clamp: [0 %, 100 %] }, { round: 5 % }]
  shift:
    recipient: app
    purpose: personalise
    to: { topic: "out/app/{stream}" }
    streams:
      operator:
        keep: [op]
        fields: { operator_id: { pseudonym: { rotate: 30d } }, time_ms: keep }
tests:
  - name: a machine nobody signed on to
    given: { stream: status, country: FR, operator: none, consent: {}, message: { machine_id: SN-1 } }
    expect: { service: { machine_id: $any }, planning: nothing }
  - name: a yes
    given: { stream: status, country: FR, operator: P7, consent: { service.operate: granted, improve.statistics: granted }, message: { machine_id: SN-1 } }
    expect: { service: { machine_id: $any }, planning: { machine_id: $any, $rest: any } }
  - name: the app
    given: { stream: operator, country: FR, operator: P7, consent: { personalise: granted }, message: { op: SIGN_ON } }
    expect: { shift: { operator_id: $any, op: SIGN_ON } }
  - name: no app
    given: { stream: operator, country: FR, operator: P7, consent: {}, message: { op: SIGN_ON } }
    expect: { shift: nothing }
`

export const TODAY = '2026-11-23'

export function load(text: string, options: Partial<RulesOptions> = {}): LoadedRules {
  return loadRules('rules.yaml', text, { schemas: SCHEMAS, today: TODAY, ...options })
}
