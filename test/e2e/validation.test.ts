/** Checking rules for somebody through the admin API takes the gateway's time, so it is done one at a time, and only so many wait. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LIMITS } from '../../src/domain/limits.ts'
import { Stage } from './stage.ts'

let stage: Stage

beforeAll(async () => {
  stage = await Stage.open()
})
afterAll(() => stage.close())

test('what comes first is done first, however long it takes', async () => {
  const { control } = stage.gateway
  const done: string[] = []
  const check = async (name: string, text: string): Promise<void> => {
    await control.validateRules(text)
    done.push(name)
  }
  await Promise.all([check('long', stage.folder.read('rules/awp.yaml')), check('short', 'version: 1\n'), check('shorter', '')])
  expect(done).toEqual(['long', 'short', 'shorter'])
})

test('past the bound the next are refused, and later ones are not', async () => {
  const { host, port } = stage.gateway.addresses.admin
  const { token } = await stage.admin<{ token: string }>('POST', '/v1/tokens', { name: 'looker', role: 'viewer' })
  const send = async (): Promise<number> => (await fetch(`http://${host}:${port}/v1/rules/validate`, {
    method: 'POST', body: 'version: 1\n', headers: { 'content-type': 'application/yaml', authorization: `Bearer ${token}` },
  })).status
  const waiting = Array.from({ length: LIMITS.validations }, () => stage.gateway.control.validateRules(stage.folder.read('rules/awp.yaml')))
  await expect(stage.gateway.control.validateRules('version: 1\n')).rejects.toMatchObject({ code: 'RULES-BUSY' })
  expect(await send()).toBe(429)
  await Promise.all(waiting)
  expect(await send()).toBe(200)
})
