/**
 * What the gateway is held against, as a process of its own: aedes that relays what comes, or that takes it apart and puts it together
 * again with protobufjs, written well (baseline.ts), in authorizePublish. Forked by brokers.ts with one word, a RelaySetup as JSON.
 */
import { createServer, type AddressInfo, type Server } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { Aedes } from 'aedes'
import { typeOf } from '../test/e2e/stage.ts'
import { createBaseline } from './baseline.ts'
import { STATUS } from './minimise.ts'

export interface RelaySetup {
  readonly edits: boolean
  /** Mutual. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string } | undefined
}

/** Of both listeners; the one for recipients is never TLS, as with the gateway. */
export interface RelayPorts {
  readonly terminals: number
  readonly recipients: number
}

/** Connections that wait to be taken. */
const BACKLOG = 1_024
const { edits, tls } = JSON.parse(process.argv[2] ?? '{}') as RelaySetup
const edit = edits ? createBaseline(typeOf('status'), STATUS.dropped, (machine) => Buffer.from(machine.padEnd(16)).toString('base64url').slice(0, 22)) : undefined
const broker = await Aedes.createBroker(edit === undefined ? {} : {
  authorizePublish(_client, packet, done) {
    packet.payload = Buffer.from(edit.decodeEditEncode(packet.payload as Buffer))
    done(null)
  },
})
const listening = (server: Server): Promise<number> => new Promise((done) => {
  server.listen(0, '127.0.0.1', BACKLOG, () => done((server.address() as AddressInfo).port))
})
const recipients = await listening(createServer({ noDelay: true }, broker.handle))
const terminals = tls === undefined ? recipients : await listening(createTlsServer({ ...tls, noDelay: true, minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: true }, broker.handle))
process.send?.({ terminals, recipients } satisfies RelayPorts)
process.once('disconnect', () => process.exit(0))
