import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { watchFiles } from '../../src/config/watch.ts'

const stops: (() => void)[] = []
afterEach(() => stops.splice(0).forEach((stop) => stop()))

const QUIET = 40

interface Watched {
  readonly calls: (readonly string[])[]
  /** Waits for the next call. */
  next(): Promise<readonly string[]>
  still(): Promise<void>
}

function watched(paths: readonly string[], pollMs = 60_000): Watched {
  const calls: (readonly string[])[] = []
  let wake: (() => void) | undefined
  stops.push(watchFiles(paths, (changed) => {
    calls.push(changed)
    wake?.()
  }, { debounceMs: QUIET, pollMs }))
  let taken = 0
  return {
    calls,
    async next() {
      if (calls.length === taken) await new Promise<void>((resolve) => (wake = resolve))
      return calls[taken++] as readonly string[]
    },
    still: () => new Promise((resolve) => setTimeout(resolve, QUIET * 5)),
  }
}

function folder(): string {
  return mkdtempSync(join(tmpdir(), 'parapet-watch-'))
}

test('a file written in place, and several writes at once are one change', async () => {
  const file = join(folder(), 'rules.yaml')
  writeFileSync(file, 'a')
  const watch = watched([file])
  for (const text of ['ab', 'abc', 'abcd']) writeFileSync(file, text)
  expect(await watch.next()).toEqual([file])
  await watch.still()
  expect(watch.calls).toHaveLength(1)
})

test('a file replaced by rename, as editors do, twice', async () => {
  const at = folder()
  const file = join(at, 'rules.yaml')
  writeFileSync(file, 'a')
  const watch = watched([file])
  for (const text of ['b', 'c']) {
    writeFileSync(join(at, '.rules.yaml.swp'), text)
    renameSync(join(at, '.rules.yaml.swp'), file)
    expect(await watch.next()).toEqual([file])
  }
})

test('only the files that changed are named, and neighbours are nobody\'s business', async () => {
  const at = folder()
  const [one, two] = [join(at, 'one.yaml'), join(at, 'two.yaml')]
  writeFileSync(one, '1')
  writeFileSync(two, '2')
  const watch = watched([one, two])
  writeFileSync(join(at, 'three.yaml'), '3')
  await watch.still()
  expect(watch.calls).toEqual([])
  writeFileSync(two, '22')
  expect(await watch.next()).toEqual([two])
})

test('a folder whose files come, change and go', async () => {
  const at = folder()
  const machines = join(at, 'machines')
  mkdirSync(machines)
  const watch = watched([machines])
  writeFileSync(join(machines, 'north.yaml'), '1')
  expect(await watch.next()).toEqual([machines])
  writeFileSync(join(machines, 'north.yaml'), '22')
  expect(await watch.next()).toEqual([machines])
  unlinkSync(join(machines, 'north.yaml'))
  expect(await watch.next()).toEqual([machines])
})

test('a link that is switched to another file', async () => {
  const at = folder()
  writeFileSync(join(at, 'v1'), 'one')
  writeFileSync(join(at, 'v2'), 'two!')
  const file = join(at, 'rules.yaml')
  symlinkSync(join(at, 'v1'), file)
  const watch = watched([file])
  symlinkSync(join(at, 'v2'), join(at, 'next'))
  renameSync(join(at, 'next'), file)
  expect(await watch.next()).toEqual([file])
})

test('a file that appears and goes away; a folder that is not there yet is found by the regular look', async () => {
  const at = folder()
  const file = join(at, 'later', 'rules.yaml')
  const watch = watched([file], 30)
  mkdirSync(join(at, 'later'))
  writeFileSync(file, 'a')
  expect(await watch.next()).toEqual([file])
  rmSync(join(at, 'later'), { recursive: true })
  expect(await watch.next()).toEqual([file])
})

test('after the end nothing is reported', async () => {
  const file = join(folder(), 'rules.yaml')
  writeFileSync(file, 'a')
  const watch = watched([file])
  writeFileSync(file, 'ab')
  stops.splice(0).forEach((stop) => stop())
  await watch.still()
  expect(watch.calls).toEqual([])
})
