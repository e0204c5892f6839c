/**
 * A Map from numbers to objects for what comes and goes all the time.
 *
 * A Map makes itself a new table whenever the old one is full of what was deleted; the old one keeps what was in it and points to the new
 * one. Once one of them is old enough to be left out of the quick collections, all that follow are kept alive by it, with what was in
 * them: of a Map through which twenty thousand messages a second pass nearly all grow old, and the long collections come every few seconds.
 * Here the Map holds numbers only, and the place of an object is emptied when it goes.
 */
export class Shelf<Item> {
  readonly #places = new Map<number, number>()
  readonly #items: (Item | undefined)[] = []
  readonly #free: number[] = []

  get size(): number {
    return this.#places.size
  }

  has(key: number): boolean {
    return this.#places.has(key)
  }

  get(key: number): Item | undefined {
    const place = this.#places.get(key)
    return place === undefined ? undefined : this.#items[place]
  }

  /** In the order of the keys' first coming, as with a Map. */
  set(key: number, item: Item): void {
    let place = this.#places.get(key)
    if (place === undefined) {
      place = this.#free.pop() ?? this.#items.length
      this.#places.set(key, place)
    }
    this.#items[place] = item
  }

  delete(key: number): boolean {
    const place = this.#places.get(key)
    if (place === undefined) return false
    this.#places.delete(key)
    this.#items[place] = undefined
    this.#free.push(place)
    return true
  }

  clear(): void {
    this.#places.clear()
    this.#items.length = this.#free.length = 0
  }

  keys(): MapIterator<number> {
    return this.#places.keys()
  }

  /** Also what comes while it is being walked. */
  *values(): Generator<Item> {
    for (const place of this.#places.values()) yield this.#items[place]!
  }

  *[Symbol.iterator](): Generator<[number, Item]> {
    for (const [key, place] of this.#places) yield [key, this.#items[place]!]
  }
}
