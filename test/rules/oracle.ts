/** Messages of the ten files as bytes, by protobufjs alone: what goes in, and what must come out. Nothing here comes from src. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import protobuf from 'protobufjs'

const folders = ['proto', '../../proto', '../../node_modules/protobufjs'].map((folder) => resolve(import.meta.dirname, folder))

class Root extends protobuf.Root {
  override resolvePath(_origin: string, target: string): string | null {
    return folders.map((folder) => join(folder, target)).find((file) => existsSync(file)) ?? null
  }
}

const root = new Root().loadSync(['acme/v3/envelope.proto', 'awp/v1/status.proto', 'awp/v1/signals.proto', 'awp/v1/can.proto', 'awp/v1/position.proto', 'awp/v1/operator.proto', 'awp/v1/event.proto'], { keepCase: true })
const { Reader, Writer } = protobuf

/** A message as the wire has it; fields that are not named are not written. Enums by name, 64-bit numbers as numbers. */
export function encode(type: string, message: Readonly<Record<string, unknown>>): Uint8Array {
  const shape = root.lookupType(type)
  return shape.encode(shape.fromObject(message)).finish()
}

/** Messages one after the other, each behind its length. */
export function framed(messages: readonly Uint8Array[]): Uint8Array {
  return messages.reduce((writer, message) => writer.bytes(message), Writer.create()).finish()
}

export function unframed(bytes: Uint8Array): Uint8Array[] {
  const reader = Reader.create(bytes)
  const found: Uint8Array[] = []
  while (reader.pos < reader.len) found.push(reader.bytes())
  return found
}
