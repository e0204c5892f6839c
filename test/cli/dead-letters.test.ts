/** dead-letters and what status says of queues, against a real admin listener. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../src/cli/command.ts'
import { startAdmin } from '../admin/gateway.ts'
import type { TestAdmin } from '../admin/gateway.ts'
import { testIo } from './io.ts'

let gateway: TestAdmin
let url = ''
beforeAll(async () => {
  gateway = await startAdmin()
  const { host, port } = await gateway.admin.listen()
  url = `http://${host}:${port}`
})
afterAll(() => gateway.admin.close())

async function run(line: string, role: 'engineer' | 'viewer' = 'engineer'): Promise<{ code: number; out: string; err: string }> {
  const io = testIo('', { PARAPET_URL: url, PARAPET_TOKEN: gateway.tokens[role] })
  const code = await runCommand(line.split(' '), io)
  return { code, out: io.out(), err: io.err() }
}

describe('parapet dead-letters', () => {
  test('list: number, where from, who refused it and why; exit 1 as there is one', async () => {
    const { code, out } = await run('dead-letters list', 'viewer')
    expect(code).toBe(1)
    expect(out).toMatch(/7\s+planner\s+oem-cloud\s+status\s+cloud\s+0x99\s+99\s+2026-11-23T12:00:00\.000Z\s+2026-11-30T12:00:00\.000Z/)
    expect(JSON.parse((await run('dead-letters list --format json')).out)).toMatchObject({ letters: [{ number: 7, refused_by: ['cloud'] }] })
  })

  test.each([
    ['dead-letters retry 7 9', 0, '2 messages wait again.'], ['dead-letters retry --all', 0, '1 message waits again.'],
    ['dead-letters drop 7 7', 0, '1 message is deleted.'], ['dead-letters drop --all', 0, '1 message is deleted.'],
  ] as const)('%s', async (line, code, text) => {
    expect(await run(line)).toMatchObject({ code, out: `${text}\n` })
  })

  test.each(['dead-letters retry', 'dead-letters drop 7 --all', 'dead-letters drop seven', 'dead-letters drop 0', 'dead-letters list 7', 'dead-letters'])('wrong usage: %s', async (line) => {
    const { code, err } = await run(line)
    expect(code).toBe(2)
    expect(err).toMatch(/dead-letters/)
  })

  test('a viewer may look, not drop', async () => {
    expect(await run('dead-letters drop --all', 'viewer')).toMatchObject({ code: 1, err: expect.stringContaining('outbox:write') as string })
  })
})

test('status shows dead letters and what waits for recipients, by recipient and nothing closer', async () => {
  const { out } = await run('status')
  expect(out).toMatch(/dead letters\s+3 messages that brokers refused for good/)
  expect(out).toMatch(/sessions of site-planner\s+2, 1 connected, 40 messages waiting \(9000 bytes\), the oldest of 2026-11-23T12:00:00\.000Z/)
  expect(JSON.parse((await run('status --format json')).out)).toMatchObject({
    outbox: { dead_letters: 3, oldest: '2026-11-23T12:00:00.000Z' }, recipients: [{ recipient: 'site-planner', sessions: 2, connected: 1, records: 40, bytes: 9_000, oldest: '2026-11-23T12:00:00.000Z' }],
  })
})
