/** A shelf does what a Map does, also while it is being walked. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Shelf } from '../src/domain/shelf.ts'

const steps = fc.array(fc.oneof(
  fc.record({ what: fc.constantFrom('set', 'delete', 'get', 'has'), key: fc.integer({ min: 0, max: 20 }) }),
  fc.record({ what: fc.constant('clear'), key: fc.constant(0) }),
), { maxLength: 200 })

test('it is a Map from numbers', () => {
  fc.assert(fc.property(steps, (list) => {
    const [shelf, map] = [new Shelf<object>(), new Map<number, object>()]
    for (const { what, key } of list) {
      const item = { key }
      if (what === 'set') {
        shelf.set(key, item)
        map.set(key, item)
      } else if (what === 'delete') expect(shelf.delete(key)).toBe(map.delete(key))
      else if (what === 'get') expect(shelf.get(key)).toBe(map.get(key))
      else if (what === 'has') expect(shelf.has(key)).toBe(map.has(key))
      else {
        shelf.clear()
        map.clear()
      }
      expect(shelf.size).toBe(map.size)
    }
    expect([...shelf]).toEqual([...map])
    expect([...shelf.values()]).toEqual([...map.values()])
    expect([...shelf.keys()]).toEqual([...map.keys()])
  }))
})

test('the same in a crowd: numbers of any size, many at a time, whole runs that come and go', () => {
  const keys = fc.oneof(fc.maxSafeNat(), fc.integer({ min: 0, max: 300 }).map((n) => n * 2 ** 32), fc.integer({ min: 0, max: 3_000 }))
  const runs = fc.array(fc.record({ goes: fc.boolean(), from: keys, length: fc.integer({ min: 1, max: 400 }) }), { minLength: 1, maxLength: 30 })
  fc.assert(fc.property(runs, (list) => {
    const [shelf, map] = [new Shelf<number>(), new Map<number, number>()]
    for (const { goes, from, length } of list) {
      for (let key = from; key < from + length && Number.isSafeInteger(key); key++) {
        if (goes) expect(shelf.delete(key)).toBe(map.delete(key))
        else {
          shelf.set(key, key + 1)
          map.set(key, key + 1)
        }
      }
      expect(shelf.size).toBe(map.size)
      expect(shelf.lastKey).toBe([...map.keys()].at(-1))
    }
    for (const key of map.keys()) expect(shelf.get(key)).toBe(key + 1)
    expect([...shelf]).toEqual([...map])
  }), { numRuns: 200 })
})

test('a shelf that was long is as good as new when all has gone', () => {
  const shelf = new Shelf<number>()
  for (const round of [1, 2]) {
    for (let key = 0; key < 20_000; key++) shelf.set(key * round, key)
    for (let key = 0; key < 20_000; key++) expect(shelf.delete(key * round)).toBe(true)
    expect([shelf.size, shelf.lastKey, [...shelf]]).toEqual([0, undefined, []])
  }
})

test('what comes and goes while it is walked is seen and not seen, as with a Map', () => {
  fc.assert(fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 50 }), { minLength: 1 }), fc.array(fc.tuple(fc.integer({ min: 0, max: 50 }), fc.boolean()), { maxLength: 60 }), (keys, changes) => {
    const walk = (one: Shelf<string> | Map<number, string>): string[] => {
      for (const key of keys) one.set(key, `at first ${key}`)
      const seen: string[] = []
      let at = 0
      for (const item of one.values()) {
        seen.push(item)
        const [key, goes] = changes[at++] ?? [0, undefined]
        if (goes === true) one.delete(key)
        else if (goes === false) one.set(key, `then ${key}`)
      }
      return seen
    }
    expect(walk(new Shelf())).toEqual(walk(new Map()))
  }))
})
