/** What a log line may say: constants, names of ours, numbers; never what came from a terminal or a person. */
import * as fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { GatewayError } from '../src/domain/errors.ts'
import { createLog, describeError, tag } from '../src/log.ts'
import type { LogFields, LogOptions } from '../src/log.ts'

const CANARY = 'CANARY 4711'

function capture(options: LogOptions = {}) {
  const lines: string[] = []
  const log = createLog({ level: 'debug', format: 'json', env: {}, stream: { write: (line) => lines.push(line) }, ...options })
  return { log, lines, last: () => JSON.parse(lines.at(-1) ?? '') as Record<string, unknown> }
}

describe('fields', () => {
  test('an identifier is a tag: same id, same tag, and not the id', () => {
    const { log, last } = capture()
    log.info('machine connected', { machine: 'SN-4711', client: 'SN-4711', operator: 'op-anna' })
    const { machine, client, operator } = last()
    expect(machine).toMatch(/^#[0-9a-f]{8}$/)
    expect([client, tag('SN-4711')]).toEqual([machine, machine])
    expect(operator).not.toBe(machine)
  })

  test('a tag that was made before stays as it is', () => {
    const { log, last } = capture()
    log.info('machine connected', { machine: tag('SN-4711') })
    expect(last()['machine']).toBe(tag('SN-4711'))
  })

  test('what is not on the list is left out, what is not a name is hidden', () => {
    const { log, lines, last } = capture()
    const fields = { payload: CANARY, token: CANARY, password: CANARY, topic: CANARY, output: CANARY, port: CANARY, ms: Number.NaN, ready: CANARY, stream: { deep: CANARY }, constructor: CANARY, code: 'OK' }
    log.info('something', fields as unknown as LogFields)
    expect(lines.join('')).not.toContain('CANARY')
    expect(last()).toEqual({ level: 'info', time: expect.any(String) as string, output: '(hidden)', stream: '(hidden)', ready: false, code: 'OK', text: 'something' })
  })

  test('no string that is not a name gets through any field', () => {
    const { log, lines } = capture()
    fc.assert(fc.property(fc.string({ unit: 'binary', minLength: 4 }), fc.constantFrom('room', 'output', 'machine', 'operator', 'address', 'port', 'ready', 'payload', 'msg', 'text', 'level', 'time'), (value, name) => {
      fc.pre(!/^[A-Za-z0-9_.:/{}*+-]{1,128}$/.test(value))
      const marked = `${value} §§`
      lines.length = 0
      log.info('x', { [name]: marked } as LogFields)
      expect(lines.join('')).not.toContain('§§')
    }), { numRuns: 300 })
  })
})

describe('errors', () => {
  test('one of ours is shown with code and sentence', () => {
    expect(describeError(new GatewayError('LEDGER-DAMAGED', 'The ledger does not verify.', 'Run: parapet ledger verify'))).toEqual({
      name: 'GatewayError', code: 'LEDGER-DAMAGED', message: 'The ledger does not verify. Run: parapet ledger verify',
    })
  })

  test('a foreign one without its message, which may quote its input', () => {
    let error: unknown
    try {
      JSON.parse(`{"name": ${CANARY}`)
    } catch (caught) {
      error = caught
    }
    expect((error as Error).message).toContain('CANARY')
    const { log, lines } = capture()
    log.error('it failed', { error })
    expect(lines.join('')).not.toContain('CANARY')
    expect(lines.join('')).toContain('log.test.ts')
  })

  test('a message of several lines that looks like frames does not come in as one', () => {
    const error = new Error(`first\n    at ${CANARY} (x.ts:1:1)\n    at CANARY (/home/CANARY/x.ts)`)
    expect(JSON.stringify(describeError(error))).not.toContain('CANARY')
    error.message = 'changed afterwards'
    expect(describeError(error)).toEqual({ name: 'Error', frames: [] })
  })

  test('a system error keeps code, call and file name, not its folder', () => {
    let error: unknown
    try {
      readFileSync('/nonexistent/of-Ann-Miller/root.key')
    } catch (caught) {
      error = caught
    }
    expect(describeError(error)).toEqual({ name: 'Error', code: 'ENOENT', message: 'ENOENT on open of root.key' })
  })

  test.each([['a string', CANARY], ['nothing', undefined], ['an object', { message: CANARY }]])('%s thrown is only a type', (_name, thrown) => {
    expect(JSON.stringify(describeError(thrown))).not.toContain('CANARY')
  })
})

describe('levels and form', () => {
  test('level from the file, PARAPET_LOG wins; a wrong one is said', () => {
    expect(capture({ level: 'warn' }).log.level).toBe('warn')
    expect(capture({ level: 'warn', env: { PARAPET_LOG: 'debug' } }).log.level).toBe('debug')
    expect(() => capture({ level: 'loud' })).toThrow(expect.objectContaining({ code: 'LOG-LEVEL' }))
    const { log, lines } = capture({ level: 'warn' })
    log.info('not shown')
    log.warn('shown')
    expect(lines).toHaveLength(1)
  })

  test('readable on a terminal, JSON elsewhere', () => {
    const { log, lines } = capture({ format: undefined, stream: { isTTY: true, write: (line: string) => lines.push(line) }, gateway: 'depot-7' })
    log.info('terminals listen', { host: '127.0.0.1', port: 1883 })
    log.warn('rules refused', { file: 'config/rules/awp.yaml', error: new GatewayError('BAD', 'No.') })
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d info {2}terminals listen {2}host=127\.0\.0\.1 port=1883\n$/)
    expect(lines[1]).toContain('rules refused  file=config/rules/awp.yaml GatewayError BAD No.')
    const json = capture({ format: undefined, gateway: 'depot-7' })
    json.log.info('terminals listen', { port: 1883 })
    expect(json.last()).toMatchObject({ level: 'info', gateway: 'depot-7', text: 'terminals listen', port: 1883 })
    expect(json.last()).not.toHaveProperty('hostname')
  })

  test('a text with a value in it does not compile', () => {
    const { log } = capture()
    const machine: string = 'SN-4711'
    // @ts-expect-error the text must be a constant of the source
    log.info(`machine ${machine} connected`)
    // @ts-expect-error fields are those of the allow-list
    log.info('machine connected', { payload: machine })
    expect(log.level).toBe('debug')
  })
})
