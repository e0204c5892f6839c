/**
 * The disk by itself: what a gateway writes for a group, 16 KiB to a place in a ring of 8 MiB, forced out, 500 times a second. Nobody
 * who acknowledges only what is on the disk can be quicker than this, and where disks are shared it stands still at times.
 */
import { closeSync, fdatasyncSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs'

export interface DiskFound {
  /** Of one write with its fdatasync, milliseconds. */
  readonly syncMs: readonly number[]
  /** What one in a hundred messages that come at any time waits for the disk, at least: the write that is under way when it comes. */
  readonly waitP99Ms: number
}

const BYTES = 16_384
const RING = 8_388_608
const EVERY_MS = 2

/** Blocks its thread. @param file  made and removed; its folder must lie on the disk in question */
export function tryDisk(file: string, ms: number): DiskFound {
  const handle = openSync(file, 'w+', 0o600)
  const nap = new Int32Array(new SharedArrayBuffer(4))
  const syncMs: number[] = []
  try {
    writeSync(handle, Buffer.alloc(RING))
    fsyncSync(handle)
    const piece = Buffer.alloc(BYTES, 1)
    const began = performance.now()
    for (let at = 0; performance.now() - began < ms; at = (at + BYTES) % RING) {
      const since = performance.now()
      writeSync(handle, piece, 0, BYTES, at)
      fdatasyncSync(handle)
      const took = performance.now() - since
      syncMs.push(took)
      if (took < EVERY_MS) Atomics.wait(nap, 0, 0, EVERY_MS - took)
    }
    return { syncMs, waitP99Ms: waitOf(syncMs, performance.now() - began) }
  } finally {
    closeSync(handle)
    rmSync(file)
  }
}

/** So long that one hundredth of the time is spent in what is left of a write beyond it. */
export function waitOf(syncMs: readonly number[], totalMs: number): number {
  let [low, high] = [0, Math.max(0, ...syncMs)]
  for (let step = 0; step < 40; step++) {
    const middle = (low + high) / 2
    if (syncMs.reduce((sum, one) => sum + Math.max(0, one - middle), 0) > totalMs / 100) low = middle
    else high = middle
  }
  return high
}
