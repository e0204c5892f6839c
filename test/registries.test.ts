/** The operators file is taken over when it says something new, and only then: to do so means to encrypt each entry anew. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { GatewayConfig } from '../src/config/gateway.ts'
import { Registries } from '../src/registries.ts'

let folder: string
let registries: Registries

const ADA = '- { id: op-ada, kind: personal, cards: ["C-1"] }\n'
const BOB = '- { id: op-bob, kind: personal, cards: ["C-2"] }\n'
const BROKEN = '- { id: op-ada, cards: [C-1\n'

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'parapet-registries-'))
  for (const name of ['machines', 'recipients']) writeFileSync(join(folder, `${name}.yaml`), '[]\n')
  const at = (name: string): string => join(folder, `${name}.yaml`)
  registries = new Registries({ machines: at('machines'), operators: at('operators'), recipients: at('recipients') } as GatewayConfig)
})

afterEach(() => rmSync(folder, { recursive: true }))

/** Who is to be taken over after the file came to say this; undefined = nobody. And how much is wrong with it. */
function reload(text?: string): { readonly ids: readonly string[] | undefined; readonly wrong: boolean } {
  if (text === undefined) rmSync(join(folder, 'operators.yaml'))
  else writeFileSync(join(folder, 'operators.yaml'), text)
  const { operators, findings } = registries.use(registries.read())
  return { ids: operators?.map(({ id }) => id), wrong: findings.some(({ place }) => place.file.endsWith('operators.yaml')) }
}

const NOTHING_NEW = { ids: undefined, wrong: false }
const REFUSED = { ids: undefined, wrong: true }

test('once, and again when it has changed', () => {
  expect(reload(ADA)).toEqual({ ids: ['op-ada'], wrong: false })
  expect(reload(ADA)).toEqual(NOTHING_NEW)
  expect(reload(ADA + BOB)).toEqual({ ids: ['op-ada', 'op-bob'], wrong: false })
  expect(reload(ADA)).toEqual({ ids: ['op-ada'], wrong: false })
})

test('a file that is refused is refused each time, and the one before it is taken over anew', () => {
  reload(ADA)
  for (const wrong of [BROKEN, BROKEN, undefined]) expect(reload(wrong)).toEqual(REFUSED)
  expect(reload(ADA)).toEqual({ ids: ['op-ada'], wrong: false })
})

test('a list that could not be taken over is tried again although the file is the same', () => {
  reload(ADA)
  registries.operatorsRefused()
  expect(reload(ADA)).toEqual({ ids: ['op-ada'], wrong: false })
})
