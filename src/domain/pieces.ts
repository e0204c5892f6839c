/**
 * Long work in pieces: a generator that stops wherever others may have their turn. At a command line it runs through; in the gateway
 * messages are handled between the pieces, so that a change of the rules holds nobody up.
 */
export type Pieces<Result> = Generator<undefined, Result, undefined>

/** Runs through. */
export function atOnce<Result>(work: Pieces<Result>): Result {
  for (;;) {
    const { done, value } = work.next()
    if (done === true) return value
  }
}

/**
 * Runs piece by piece, and lets the event loop go round whenever a slice is used up. A piece is never cut, so it should be short itself.
 * @param onSlice  told how long each slice took, in ms
 */
export async function calmly<Result>(work: Pieces<Result>, onSlice: (ms: number) => void = () => {}): Promise<Result> {
  for (;;) {
    const began = performance.now()
    let next: IteratorResult<undefined, Result>
    do next = work.next()
    while (next.done !== true && performance.now() - began < SLICE_MS)
    onSlice(performance.now() - began)
    if (next.done === true) return next.value
    await new Promise((resume) => void setImmediate(resume))
  }
}

/** Ten messages or so. */
const SLICE_MS = 2
