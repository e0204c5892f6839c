/**
 * Sticky grid cells: a parked machine with GPS jitter near a border would show two cells and so give the border away.
 * A machine keeps its cell until it is more than 15 % of the size beyond the border (rules-language 5).
 */
import { LRUCache } from 'lru-cache'
import { M, rowCosine, snap, type Cell } from './grid.ts'

export interface Cells {
  /**
   * Like `snap`, but with memory.
   * @param key  who and where: output, machine and point
   */
  snap(key: string, latE7: number, lonE7: number, size: number, into: Cell): void
  /** Forgets what was remembered for keys with this prefix. Returns how many. */
  forget(prefix: string): number
}

const BEYOND = 0.15

/** @param max  cells remembered; past it the longest unused is forgotten, which costs stickiness, never precision. */
export function createCells(max = 65_536): Cells {
  const kept = new LRUCache<string, Cell>({ max })
  return {
    snap(key, latE7, lonE7, size, into) {
      const last = kept.get(key)
      if (last !== undefined && isWithin(last, latE7, lonE7, size)) {
        into.latE7 = last.latE7
        into.lonE7 = last.lonE7
        return
      }
      snap(latE7, lonE7, size, into)
      kept.set(key, { latE7: into.latE7, lonE7: into.lonE7 })
    },
    forget(prefix) {
      let count = 0
      for (const key of [...kept.keys()]) if (key.startsWith(prefix) && kept.delete(key)) count++
      return count
    },
  }
}

function isWithin(centre: Cell, latE7: number, lonE7: number, size: number): boolean {
  const reach = size * (0.5 + BEYOND)
  const north = Math.abs((latE7 - centre.latE7) / 1e7) * M
  const east = Math.abs((lonE7 - centre.lonE7) / 1e7) * M * rowCosine(centre.latE7)
  return north <= reach && east <= reach
}
