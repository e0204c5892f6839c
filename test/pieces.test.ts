/** Work in pieces: the whole of it, in order, and others have their turn in between. */
import { describe, expect, test } from 'vitest'
import { atOnce, calmly, type Pieces } from '../src/domain/pieces.ts'

/** Pieces of a millisecond of work each. */
function* work(pieces: number, done: number[]): Pieces<string> {
  for (let n = 0; n < pieces; n++) {
    const until = performance.now() + 1
    while (performance.now() < until);
    done.push(n)
    yield
  }
  return 'all of it'
}

describe('long work', () => {
  test('runs through at a command line', () => {
    const done: number[] = []
    expect(atOnce(work(5, done))).toBe('all of it')
    expect(done).toEqual([0, 1, 2, 3, 4])
  })

  test('lets the event loop go round every few pieces', async () => {
    const [done, slices]: number[][] = [[], []]
    let turns = 0
    const others = setInterval(() => turns++, 0)
    const result = await calmly(work(60, done!), (ms) => slices!.push(ms))
    clearInterval(others)
    expect(result).toBe('all of it')
    expect(done).toHaveLength(60)
    // A slice is two milliseconds: of 60 pieces no more than a few share one.
    expect(slices!.length).toBeGreaterThan(15)
    expect(turns).toBeGreaterThan(5)
  })

  test('what it throws comes out, after what was done', async () => {
    const done: number[] = []
    const broken = function* (): Pieces<void> {
      yield* work(3, done)
      throw new Error('no further')
    }
    await expect(calmly(broken())).rejects.toThrow('no further')
    expect(done).toEqual([0, 1, 2])
  })
})
