/**
 * A gateway whose writes to sockets are written down at the moment they are handed to the kernel; the process that
 * withdrawal-race.ts starts, stops and kills.
 *
 *     node watched-gateway.ts GATEWAY-FILE RECORD KEY=VALUE...
 *
 * The record has a line for each event, in the one order in which they happened in this process:
 *   F SOCKET OPERATOR EVENT-MS PURPOSE QOS       the last byte of a frame that rests on a yes was handed to a recipient's socket
 *   C SOCKET                                     a recipient's socket was closed or reset
 *   B OPERATOR PURPOSE                           a consent change begins
 *   A OPERATOR PURPOSE STATE SEQ AT WIRE MICROS  the answer to a consent change is about to be handed to the admin client's socket
 *   H SOCKET OPERATOR EVENT-MS PURPOSE           at that moment the kernel had not taken this frame, which the withdrawal covers
 * SOCKET is the port of the recipient's side. The record is on disk before an answer leaves; between answers it may be a few milliseconds behind.
 */
import { openSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { loadGateway } from '../../src/config/gateway.ts'
import type { Control } from '../../src/admin/control.ts'
import { createGateway, type Gateway } from '../../src/gateway.ts'
import { Packets, copyOf, type Copy } from './copies.ts'

const [file, recordFile, ...set] = process.argv.slice(2) as [string, string, ...string[]]
const record = openSync(recordFile, 'a')
let lines: string[] = []

function flush(): void {
  if (lines.length > 0) writeSync(record, `${lines.join('\n')}\n`)
  lines = []
}
setInterval(flush, 2).unref()

interface Watched {
  readonly number: number
  readonly socket: Socket
  readonly packets: Packets
  /** Covered frames that the kernel may not have taken yet. */
  pending: { readonly copy: Copy; readonly end: number }[]
  handed: number
}

type Handle = { readonly writeQueueSize: number } | null
type Chunk = Buffer | string | readonly { readonly chunk: Buffer | string; readonly encoding: BufferEncoding }[]
type Write = (this: Socket, writev: boolean, data: Chunk, encoding: BufferEncoding, done: unknown) => unknown

let ports: { recipients: number; admin: number } | undefined
const recipients = new Map<Socket, Watched>()
const micros = new Map<number, number>()

// Below this the bytes are the system's: nothing in the gateway stands between here and the kernel.
const prototype = Socket.prototype as unknown as { _writeGeneric: Write }
const write = prototype._writeGeneric
prototype._writeGeneric = function (writev, data, encoding, done) {
  const port = this.localPort
  if (ports !== undefined && port === ports.recipients) handToRecipient(this, data, encoding)
  else if (ports !== undefined && port === ports.admin) handToAdmin(data)
  return write.call(this, writev, data, encoding, done)
}

const { destroy } = Socket.prototype
Socket.prototype.destroy = function (error) {
  const watched = recipients.get(this)
  if (watched !== undefined) {
    lines.push(`C ${watched.number}`)
    recipients.delete(this)
  }
  return destroy.call(this, error)
}

function *piecesOf(data: Chunk, encoding: BufferEncoding): Generator<Buffer> {
  if (typeof data === 'string') yield Buffer.from(data, encoding)
  else if (Buffer.isBuffer(data)) yield data
  else for (const piece of data as readonly { readonly chunk: Buffer | string; readonly encoding: BufferEncoding }[]) yield *piecesOf(piece.chunk, piece.encoding)
}

function handToRecipient(socket: Socket, data: Chunk, encoding: BufferEncoding): void {
  const watched = recipients.get(socket) ?? watch(socket)
  forgetTaken(watched)
  for (const piece of piecesOf(data, encoding)) {
    watched.handed += piece.length
    watched.packets.push(piece)
  }
}

function watch(socket: Socket): Watched {
  const watched: Watched = {
    number: socket.remotePort ?? 0, socket, pending: [], handed: 0,
    packets: new Packets((first, body, end) => {
      const copy = copyOf(first, body)
      if (copy?.covered !== true) return
      lines.push(`F ${watched.number} ${copy.operator} ${copy.eventMs} ${copy.purpose} ${copy.qos}`)
      watched.pending.push({ copy, end })
    }),
  }
  recipients.set(socket, watched)
  return watched
}

/** The kernel has everything but what libuv holds for it. */
function forgetTaken(watched: Watched): void {
  const { _handle: handle } = watched.socket as unknown as { readonly _handle: Handle }
  // Without a handle the socket is closed: what libuv held is gone.
  const taken = watched.handed - (handle === null ? 0 : handle.writeQueueSize)
  if (handle === null || watched.pending.at(-1) === undefined || watched.pending.at(-1)!.end <= taken) watched.pending = []
  else watched.pending = watched.pending.filter(({ end }) => end > taken)
}

function handToAdmin(data: Chunk): void {
  const text = Buffer.concat([...piecesOf(data, 'utf8')]).toString('utf8')
  const at = text.indexOf('{"receipt"')
  if (at < 0) return
  const { operator, purpose, state, seq, at: answeredAt, on_the_wire: wire } = JSON.parse(text.slice(at)) as { operator: string; purpose: string; state: string; seq: number; at: string; on_the_wire: number }
  const number = operator.slice(3)
  lines.push(`A ${number} ${purpose} ${state} ${seq} ${Date.parse(answeredAt)} ${wire} ${Math.round(micros.get(seq) ?? 0)}`)
  micros.delete(seq)
  if (state === 'withdrawn') {
    for (const watched of recipients.values()) {
      forgetTaken(watched)
      for (const { copy } of watched.pending) if (String(copy.operator) === number && copy.purpose === purpose) lines.push(`H ${watched.number} ${number} ${copy.eventMs} ${purpose}`)
    }
  }
  flush()
}

const { config, findings } = loadGateway(file, [...set, 'trial=true'])
if (config === undefined) throw new Error(`the gateway file is not usable: ${JSON.stringify(findings)}`)
const gateway: Gateway & Partial<Control> = await createGateway(config)
const { changeConsent } = gateway.control
// How long the gateway itself takes, without HTTP.
gateway.changeConsent = async (change) => {
  lines.push(`B ${change.operator.slice(3)} ${change.purpose}`)
  const began = performance.now()
  const receipt = await changeConsent.call(gateway.control, change)
  micros.set(receipt.seq, (performance.now() - began) * 1_000)
  return receipt
}
ports = { recipients: gateway.addresses.recipients.port, admin: gateway.addresses.admin.port }
process.on('message', (message) => {
  if (message !== 'stop') return
  void gateway.close().then(() => {
    flush()
    process.exit(0)
  })
})
process.on('disconnect', () => process.exit(1))
process.send?.({ terminals: gateway.addresses.terminals.port, ...ports })
