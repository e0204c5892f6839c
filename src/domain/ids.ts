/**
 * Branded identifiers: a machine id cannot be passed where an operator id is meant.
 * At run time each is a plain string (or number), so the hot path pays nothing.
 */
declare const brand: unique symbol
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name }

/** Serial number or other name of a machine, as the registry and the topic spell it. Personal data by linkage: never logged in clear. */
export type MachineId = Branded<string, 'MachineId'>
/** Our own subject id of a person, made at registration (`op-…`); never a card number, PIN or name. */
export type OperatorId = Branded<string, 'OperatorId'>
export type FleetId = Branded<string, 'FleetId'>
export type RecipientId = Branded<string, 'RecipientId'>
export type PurposeId = Branded<string, 'PurposeId'>
export type OutputId = Branded<string, 'OutputId'>
export type StreamId = Branded<string, 'StreamId'>

/** What output, stream, recipient, purpose, field and domain names must match (rules-language 5). */
export const NAME = /^[A-Za-z0-9_.-]+$/

/**
 * A card, PIN or number in the form in which two of them are compared: Unicode NFC, no outer spaces. `007` and `7` are two cards.
 * A field of bytes is read as lower-case hex.
 */
export function cardText(card: string): string {
  return card.normalize('NFC').toWellFormed().trim()
}

/**
 * An MQTT topic level that may safely be filled into a template: no separator, no wildcard, not empty, not a `$` topic, and no control
 * character or noncharacter [MQTT-1.5.3]: a broker may close the connection for one, and then every time that the message is sent again.
 */
export function isTopicLevel(text: string): boolean {
  return text.length > 0 && text.length <= 256 && !/[/+#\p{Cc}\p{Noncharacter_Code_Point}]/u.test(text) && !text.startsWith('$')
}
