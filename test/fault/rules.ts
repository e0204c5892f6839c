/** The head of the rules of the fault tests and of the benchmarks: two streams, who is signed on, two purposes, two recipients. Outputs follow. */
export interface RulesHead {
  readonly policy: string
  /** Further words of the status stream. */
  readonly status?: string
}

export function rulesHead({ policy, status = '' }: RulesHead): string {
  return `
version: 1
policy: { id: ${policy}, effective: 2026-01-01, notice: "https://example.com/privacy" }
streams:
  status: { topic: "up/{fleet}/{machine}/status", message: awp.v1.Status, machine: machine_id, operator: operator_id, time: { field: time_ms, unit: ms }${status} }
  operator: { topic: "up/{fleet}/{machine}/operator", message: awp.v1.OperatorEvent, machine: machine_id, operator: operator_id, time: { field: time_ms, unit: ms } }
subject:
  sessions: { stream: operator, sign_on: "msg.op == SIGN_ON", sign_off: "msg.op in [SIGN_OFF, KEY_OFF]", operator: operator_id }
  session_max: 12h
  handover_quarantine: 2m
  late_limit: 7d
purposes:
  service.operate: { about: "service", clause: P10, dpv: TechnicalServiceProvision }
  improve.statistics: { about: "where machines work", clause: P14, dpv: ServiceUsageAnalytics }
legal_basis:
  default: { service.operate: contract, improve.statistics: { basis: consent, employee_consent: "form EC-1" } }
recipients:
  oem-cloud: { role: controller, group: affiliate, region: EU, transfers: { EEA: domestic }, privacy_contact: "dpo@example.com" }
  site-planner: { role: processor, group: supplier, region: EU, transfers: { EEA: domestic }, privacy_contact: "dpo@example.com" }
outputs:`
}
