/** Small builders of checked policy parts, so that engine tests need no rules file. */
import type { FieldRule, Output, OutputStream, Stream, Transform } from '../../src/domain/policy.ts'
import type { OutputId, PurposeId, RecipientId, StreamId } from '../../src/domain/ids.ts'
import type { FieldShape, MessageShape } from '../../src/domain/schema.ts'
import { pathOf } from '../../src/minimise/tree.ts'

export function ruleFor(shape: MessageShape, path: string, chain: readonly Transform[]): FieldRule {
  const branch = { kind: 'chain', chain } as const
  return { path, target: { kind: 'field', fields: pathOf(shape, path) as FieldShape[] }, consent: branch, noConsent: branch, pair: false, line: 1 }
}

export function streamOf(shape: MessageShape, fields: readonly FieldRule[], more: Partial<OutputStream> = {}): OutputStream {
  const stream: Stream = { id: 's' as StreamId, index: 0, topic: 'up/{machine}/s', message: shape, case: undefined, machineField: undefined, operatorField: undefined, time: undefined, points: [] }
  return { stream, when: undefined, require: [], emit: undefined, fields, ...more }
}

export function outputOf(topic: string, streams: readonly OutputStream[], more: Partial<Output> = {}): Output {
  return {
    id: 'cloud' as OutputId, index: 0,
    recipient: { id: 'r' as RecipientId, role: 'controller', group: undefined, region: 'EU', onSite: false, transfers: new Map(), privacyContact: undefined },
    purpose: { id: 'p' as PurposeId, index: 0, about: 'p', clause: undefined, dpv: undefined },
    basis: { basis: 'contract', law: undefined, assessment: undefined, employeeConsent: undefined },
    to: { topic, qos: 1, via: ['local'], sendWithinMs: undefined, retain: false },
    reach: 'any', recipientKeepsMs: undefined, arrivalVisible: false, despiteDeviceSetting: undefined, streams, ...more,
  }
}
