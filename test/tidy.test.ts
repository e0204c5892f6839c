/** The form of the code is a test: who may import whom, one home for each package, no room called utils, docs beside errors. */
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const src = join(root, 'src')

/** Room or root file -> rooms and root files it may import beside itself. Domain is open to all and imports nothing. */
const MAY: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  minimise: [],
  consent: [],
  broker: [],
  outlet: [],
  'metrics.ts': [],
  'log.ts': [],
  'recollection.ts': [],
  'accepted.ts': ['difference.ts'],
  config: ['minimise'],
  admin: ['metrics.ts', 'log.ts'],
  'emission.ts': ['minimise'],
  'snapshot.ts': ['minimise', 'metrics.ts', 'emission.ts'],
  'pipeline.ts': ['minimise', 'metrics.ts', 'snapshot.ts'],
  'scope.ts': ['minimise', 'consent'],
  'registries.ts': ['config', 'broker'],
  'certificates.ts': ['config', 'broker', 'log.ts'],
  'vitals.ts': ['metrics.ts'],
  'rehearsal.ts': ['minimise', 'consent', 'metrics.ts', 'snapshot.ts', 'pipeline.ts'],
  'comparison.ts': ['minimise', 'rehearsal.ts'],
  'rule-tests.ts': ['minimise', 'consent', 'config', 'rehearsal.ts', 'comparison.ts', 'snapshot.ts', 'pipeline.ts'],
  'difference.ts': ['config', 'minimise'],
  'acceptance.ts': ['config', 'minimise', 'rehearsal.ts', 'rule-tests.ts'],
  'explanation.ts': ['minimise', 'rehearsal.ts'],
  watch: ['minimise', 'config', 'rehearsal.ts', 'comparison.ts', 'explanation.ts', 'acceptance.ts', 'metrics.ts', 'log.ts'],
  'activation.ts': ['admin', 'config', 'minimise', 'acceptance.ts', 'accepted.ts', 'difference.ts', 'metrics.ts', 'log.ts'],
  'gateway.ts': ['*'],
  cli: ['*'],
  'main.ts': ['cli'],
  'index.ts': ['gateway.ts', 'config', 'minimise', 'acceptance.ts'],
}

/** Package -> where it lives. */
const HOMES: Readonly<Record<string, readonly string[]>> = {
  aedes: ['broker'],
  'aedes-packet': ['broker'],
  'aedes-persistence': ['broker'],
  'mqtt-packet': ['broker'],
  ws: ['broker'],
  mqtt: ['outlet', 'cli'],
  protobufjs: ['minimise'],
  ajv: ['config'],
  yaml: ['config'],
  pino: ['log.ts'],
  'lru-cache': ['minimise', 'consent', 'broker', 'recollection.ts'],
  '@marcbachmann/cel-js': ['minimise'],
  '@noble/ciphers': ['minimise', 'consent'],
  fastify: ['admin'],
  '@fastify/fast-json-stringify-compiler': ['admin'],
  '@fastify/swagger': ['admin'],
  'light-my-request': ['admin'],
  'prom-client': ['metrics.ts'],
  'hdr-histogram-js': ['metrics.ts'],
}

interface Import {
  readonly from: string
  readonly room: string
  readonly target: string
}

const imports: Import[] = sources(src).flatMap((file) => {
  const name = relative(src, file).split(sep).join('/')
  const text = readFileSync(file, 'utf8')
  return [...text.matchAll(/(?:^import |^(?:import|export) [^'\n]* from |^\} from |\bimport\()'([^'\n]+)'/gm)].map((match) => ({ from: name, room: roomOf(name), target: match[1] as string }))
})

describe('imports', () => {
  test('follow the table', () => {
    const wrong = imports.filter(({ target }) => target.startsWith('.')).flatMap(({ from, room, target }) => {
      const other = roomOf(relative(src, resolve(src, dirname(from), target)).split(sep).join('/'))
      const allowed = MAY[room]
      if (allowed === undefined) return [`${from}: the table does not know "${room}"`]
      const isFine = other === room || (other === 'domain' && room !== 'domain') || allowed.includes('*') || allowed.includes(other)
      return isFine ? [] : [`${from} imports ${target}`]
    })
    expect(wrong).toEqual([])
  })

  test('domain imports nothing, not even Node', () => {
    expect(imports.filter(({ room, target }) => room === 'domain' && !target.startsWith('./')).map(({ from, target }) => `${from} imports ${target}`)).toEqual([])
  })

  test('each package has its home', () => {
    const wrong = imports.filter(({ target }) => !target.startsWith('.') && !target.startsWith('node:')).flatMap(({ from, room, target }) => {
      const name = target.startsWith('@') ? target.split('/').slice(0, 2).join('/') : (target.split('/')[0] as string)
      return HOMES[name]?.includes(room) === true ? [] : [`${from} imports ${target}`]
    })
    expect(wrong).toEqual([])
  })
})

describe('files', () => {
  test('no room or file is called utils, helpers, common or misc', () => {
    expect(sources(src).filter((file) => /(^|\/)(utils?|helpers?|common|misc)(\/|\.ts$)/.test(file))).toEqual([])
  })

  test('each begins by saying what it is for', () => {
    const silent = sources(src).filter((file) => {
      const text = readFileSync(file, 'utf8').replace(/^#!.*\n/, '')
      return !text.startsWith('/**') && !file.endsWith('main.ts')
    })
    expect(silent.map((file) => relative(src, file))).toEqual([])
  })

  test('the sources need no build: Node strips their types', () => {
    const wrong = sources(src).filter((file) => /^\s*(export\s+)?(enum|namespace)\s/m.test(readFileSync(file, 'utf8')))
    expect(wrong).toEqual([])
  })
})

function roomOf(name: string): string {
  return name.includes('/') ? (name.split('/')[0] as string) : name
}

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => join(folder, name))
}
