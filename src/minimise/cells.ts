/**
 * Sticky grid cells: a parked machine with GPS jitter near a border would show two cells and so give the border away.
 * A machine keeps its cell until it is more than 15 % of the size beyond the border (rules-language 5).
 */
import { M, rowCosine, snap, type Cell } from './grid.ts'

export interface Cells {
  /**
   * Like `snap`, but with memory.
   * @param place  output, point and size
   */
  snap(place: string, machine: string, latE7: number, lonE7: number, size: number, into: Cell): void
  /** What `snap` remembers from now on can be taken back with `undo`: a message that never left must not move a cell (G2). */
  begin(): void
  undo(): void
  /** Forgets a machine's cells. */
  forget(machine: string): void
}

const BEYOND = 0.15

/** @param max  machines remembered for each place; past it the one known longest is forgotten, which costs stickiness, never precision. */
export function createCells(max = 65_536): Cells {
  const places = new Map<string, Map<string, Cell>>()
  /** Cells moved since `begin`, and where they were. */
  const moved: { cell: Cell; readonly latE7: number; readonly lonE7: number }[] = []
  return {
    snap(place, machine, latE7, lonE7, size, into) {
      let kept = places.get(place)
      if (kept === undefined) places.set(place, (kept = new Map()))
      let last = kept.get(machine)
      if (last === undefined) {
        if (kept.size >= max) kept.delete(kept.keys().next().value as string)
        kept.set(machine, (last = { latE7: Number.NaN, lonE7: Number.NaN }))
      }
      // A cell that was never set is not a number and so holds nothing.
      if (!isWithin(last, latE7, lonE7, size)) {
        snap(latE7, lonE7, size, into)
        moved.push({ cell: last, latE7: last.latE7, lonE7: last.lonE7 })
        last.latE7 = into.latE7
        last.lonE7 = into.lonE7
        return
      }
      into.latE7 = last.latE7
      into.lonE7 = last.lonE7
    },
    begin() {
      if (moved.length > 0) moved.length = 0
    },
    undo() {
      for (let one = moved.pop(); one !== undefined; one = moved.pop()) {
        one.cell.latE7 = one.latE7
        one.cell.lonE7 = one.lonE7
      }
    },
    forget(machine) {
      for (const kept of places.values()) kept.delete(machine)
    },
  }
}

function isWithin(centre: Cell, latE7: number, lonE7: number, size: number): boolean {
  const reach = size * (0.5 + BEYOND)
  const north = Math.abs((latE7 - centre.latE7) / 1e7) * M
  const east = Math.abs((lonE7 - centre.lonE7) / 1e7) * M * rowCosine(centre.latE7)
  return north <= reach && east <= reach
}
