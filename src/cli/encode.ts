/**
 * `parapet encode`: JSON to one protobuf payload, for trying out a terminal.
 */
import { GatewayError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Command } from './command.ts'
import { openSchemas, PROTO_NOTES, PROTO_OPTION } from './rules-source.ts'

export const command: Command = {
  name: 'encode',
  summary: 'make a payload from JSON, for trying out a terminal',
  usage: ["--message awp.v1.Status < status.json > status.bin"],
  options: [{ name: 'message', arg: 'NAME', text: 'full name of the message type', required: true }, PROTO_OPTION],
  notes: `Reads one object in the proto3 JSON mapping from stdin and writes its bytes to stdout. "now" as the value of time_ms is the present time.\n${PROTO_NOTES}`,
  async run(args, io) {
    const pieces: Buffer[] = []
    let length = 0
    for await (const piece of io.stdin) {
      const bytes = Buffer.from(piece as Uint8Array)
      length += bytes.length
      if (length > LIMITS.packetBytes) throw new GatewayError('INPUT-LENGTH', `There are more than ${LIMITS.packetBytes} bytes on stdin.`, 'A message must fit a packet.')
      pieces.push(bytes)
    }
    let json: unknown
    try {
      json = JSON.parse(Buffer.concat(pieces).toString('utf8'))
    } catch (error) {
      throw new GatewayError('BAD-JSON', `Stdin is no JSON: ${(error as Error).message}.`)
    }
    if (typeof json === 'object' && json !== null && (json as { time_ms?: unknown }).time_ms === 'now') (json as { time_ms: unknown }).time_ms = String(Date.now())
    io.stdout.write(openSchemas(args, io).encode(args.get('message') ?? '', json))
    return 0
  },
}
