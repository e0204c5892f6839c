/**
 * Fail-points. Loaded in front of the gateway (`node --import test/fault/points.ts src/main.ts serve`), this module wraps what the
 * process does at thirteen places between a terminal's socket and the deletion of a delivered record, and at the n-th time that the
 * named one is reached the process kills itself with SIGKILL. Nothing in src knows of it: a gateway started as it is shipped has no
 * such point.
 *
 *     PARAPET_POINT="P5 12" PARAPET_CLOUD=PORT
 *
 * P0  bytes of a PUBLISH read            P5  inserted, before COMMIT         P9   PUBLISH written to the cloud
 * P1  framed and parsed                  P6  after COMMIT, before the answer P10  PUBACK of the cloud read
 * P2  decoded, before the decision       P7  PUBACK or PUBREC written        P11  deleted, before COMMIT
 * P3  decided                            P8  handed to the bridge            P12  after that COMMIT
 * P4  transformed, before the outbox
 */
import { Server, Socket, type AddressInfo } from 'node:net'
import { StatementSync, type SQLInputValue, type StatementResultingChanges } from 'node:sqlite'
import { MqttClient } from 'mqtt'
import { SessionTracks } from '../../src/consent/sessions.ts'
import { DurableOutbox } from '../../src/outlet/outbox.ts'

const [point = '', nth = '1'] = (process.env['PARAPET_POINT'] ?? '').split(' ')
const cloud = Number(process.env['PARAPET_CLOUD'] ?? 0)
let left = Number(nth)

function pass(name: string): void {
  if (name === point && --left === 0) process.kill(process.pid, 'SIGKILL')
}

/** The gateway opens the listener of the terminals first. */
let terminals = 0
const { listen } = Server.prototype
Server.prototype.listen = function (this: Server, ...words: unknown[]) {
  this.once('listening', () => {
    if (terminals === 0) terminals = (this.address() as AddressInfo).port
  })
  return (listen as (...words: unknown[]) => Server).apply(this, words)
}

type Data = Buffer | string | readonly { readonly chunk: Buffer | string }[]
type Inside = {
  push(this: Socket, chunk: Buffer | null, encoding?: BufferEncoding): boolean
  _writeGeneric(this: Socket, writev: boolean, data: Data, encoding: BufferEncoding, done: unknown): unknown
}

const sockets = Socket.prototype as unknown as Inside
const { push, _writeGeneric: write } = sockets

sockets.push = function (chunk, encoding) {
  const kind = chunk === null ? 0 : chunk[0]! >> 4
  if (kind === 3 && this.localPort === terminals) pass('P0')
  const more = push.call(this, chunk, encoding)
  if ((kind === 4 || kind === 5) && this.remotePort === cloud) pass('P10')
  return more
}

sockets._writeGeneric = function (writev, data, encoding, done) {
  const wrote = write.call(this, writev, data, encoding, done)
  if (this.localPort === terminals && starts(data, [4, 5])) pass('P7')
  else if (this.remotePort === cloud && starts(data, [3])) pass('P9')
  return wrote
}

function starts(data: Data, kinds: readonly number[]): boolean {
  if (typeof data === 'string') return false
  if (Buffer.isBuffer(data)) return kinds.includes(data[0]! >> 4)
  return (data as readonly { readonly chunk: Buffer | string }[]).some(({ chunk }) => Buffer.isBuffer(chunk) && kinds.includes(chunk[0]! >> 4))
}

const { decide } = SessionTracks.prototype
SessionTracks.prototype.decide = function (...words) {
  pass('P2')
  decide.apply(this, words)
  pass('P3')
}

const { accept } = DurableOutbox.prototype
DurableOutbox.prototype.accept = function (record) {
  pass('P4')
  accept.call(this, record)
}

/** PARAPET_FSYNC=N: the N-th group of records cannot be synced. */
let fsyncs = Number(process.env['PARAPET_FSYNC'] ?? 0)
type Run = (this: StatementSync, ...values: SQLInputValue[]) => StatementResultingChanges
let inserted = false
let deleted = false
const run = StatementSync.prototype.run as Run
StatementSync.prototype.run = function (this: StatementSync, ...values: SQLInputValue[]) {
  const sql = this.sourceSQL
  if (sql.startsWith('INSERT INTO records')) inserted = true
  else if (sql.startsWith('DELETE FROM records')) deleted = true
  if (sql !== 'COMMIT') return run.apply(this, values)
  if (inserted) pass('P5')
  if (deleted) pass('P11')
  // [sqlite.org/rescode.html#ioerr_fsync] As SQLite reports it: the transaction is not committed, and nobody knows what is on the disk.
  if (inserted && --fsyncs === 0) throw Object.assign(new Error('disk I/O error'), { code: 'ERR_SQLITE_ERROR', errcode: 1034, errstr: 'disk I/O error' })
  const result = run.apply(this, values)
  if (inserted) pass('P6')
  if (deleted) pass('P12')
  inserted = deleted = false
  return result
} as Run as typeof StatementSync.prototype.run

const clients = MqttClient.prototype as unknown as { publish(this: MqttClient, ...words: unknown[]): MqttClient }
const { publish } = clients
clients.publish = function (...words) {
  pass('P8')
  return publish.apply(this, words)
}

// What the engine's parser gives away is a whole packet.
const { EventEmitter } = await import('node:events')
const { emit } = EventEmitter.prototype
EventEmitter.prototype.emit = function (this: InstanceType<typeof EventEmitter>, name: string | symbol, ...words: unknown[]) {
  if (name === 'packet' && (words[0] as { readonly cmd?: string } | undefined)?.cmd === 'publish') pass('P1')
  return (emit as (...words: unknown[]) => boolean).call(this, name, ...words)
} as typeof emit
