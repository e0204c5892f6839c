/**
 * A Map from whole numbers to items for what comes and goes all the time.
 *
 * A Map makes itself a new table each time that the old one is full of what was deleted, and one that has grown old makes it among the old
 * objects, where only the long collections look. Of Maps through which twenty thousand messages a second passed, that was 14 MB a second,
 * and nearly all for which there were long collections at all. Here nothing is made anew as long as it does not grow: keys lie in a hash
 * table with linear probing and deletion by shifting back [Knuth, TAOCP 3, 6.4, algorithm R], places are strung in the order in which
 * their keys came, and all of it is in typed arrays.
 */
export class Shelf<Item> {
  #size = 0
  /** By place: the item, its key, when it came (0 = free), and its neighbours. */
  #items: (Item | undefined)[] = []
  #keys: Float64Array = NUMBERS
  #cameAt: Float64Array = NUMBERS
  #next: Int32Array = PLACES
  #before: Int32Array = PLACES
  /** Places by hash of their keys, counted from 1; twice as many as there are places. */
  #table: Int32Array = PLACES
  #shift = 32
  #first = NONE
  #last = NONE
  /** Of the free places, strung by #next. */
  #free = NONE
  #came = 0

  get size(): number {
    return this.#size
  }

  /** The key that came last of those that are here. */
  get lastKey(): number | undefined {
    return this.#last === NONE ? undefined : this.#keys[this.#last]
  }

  has(key: number): boolean {
    return this.#placeOf(key) !== NONE
  }

  get(key: number): Item | undefined {
    const place = this.#placeOf(key)
    return place === NONE ? undefined : this.#items[place]
  }

  /** In the order of the keys' first coming, as with a Map. @param key  a whole number, at most 2^53 - 1 */
  set(key: number, item: Item): void {
    const known = this.#placeOf(key)
    if (known !== NONE) {
      this.#items[known] = item
      return
    }
    if (this.#free === NONE) this.#grow()
    const place = this.#free
    this.#free = this.#next[place]!
    this.#items[place] = item
    this.#keys[place] = key
    this.#cameAt[place] = ++this.#came
    this.#next[place] = NONE
    this.#before[place] = this.#last
    if (this.#last === NONE) this.#first = place
    else this.#next[this.#last] = place
    this.#last = place
    this.#size++
    this.#enter(key, place)
  }

  delete(key: number): boolean {
    const slot = this.#slotOf(key)
    if (slot === NONE) return false
    const place = this.#table[slot]! - 1
    this.#leave(slot)
    const [next, before] = [this.#next[place]!, this.#before[place]!]
    if (before === NONE) this.#first = next
    else this.#next[before] = next
    if (next === NONE) this.#last = before
    else this.#before[next] = before
    this.#items[place] = undefined
    this.#cameAt[place] = 0
    this.#next[place] = this.#free
    this.#free = place
    if (--this.#size === 0 && this.#items.length > KEPT) this.clear()
    return true
  }

  /** Takes no room any more either. */
  clear(): void {
    this.#size = 0
    this.#items = []
    this.#keys = this.#cameAt = NUMBERS
    this.#next = this.#before = this.#table = PLACES
    this.#shift = 32
    this.#first = this.#last = this.#free = NONE
  }

  /** Also what comes while it is being walked. */
  *keys(): Generator<number> {
    for (const [key] of this) yield key
  }

  /** Likewise. */
  *values(): Generator<Item> {
    for (const [, item] of this) yield item
  }

  *[Symbol.iterator](): Generator<[number, Item]> {
    for (let place = this.#first; place !== NONE;) {
      const cameAt = this.#cameAt[place]!
      const before = this.#before[place]!
      const beforeCameAt = before === NONE ? 0 : this.#cameAt[before]!
      yield [this.#keys[place]!, this.#items[place]!]
      // What was here may have gone meanwhile, and what was before it as well.
      if (this.#cameAt[place] === cameAt) place = this.#next[place]!
      else if (before !== NONE && this.#cameAt[before] === beforeCameAt) place = this.#next[before]!
      else for (place = this.#first; place !== NONE && this.#cameAt[place]! < cameAt;) place = this.#next[place]!
    }
  }

  #placeOf(key: number): number {
    const slot = this.#slotOf(key)
    return slot === NONE ? NONE : this.#table[slot]! - 1
  }

  #slotOf(key: number): number {
    if (this.#size === 0) return NONE
    const table = this.#table
    const mask = table.length - 1
    for (let slot = homeOf(key, this.#shift); table[slot] !== 0; slot = (slot + 1) & mask) if (this.#keys[table[slot]! - 1] === key) return slot
    return NONE
  }

  #enter(key: number, place: number): void {
    const table = this.#table
    const mask = table.length - 1
    let slot = homeOf(key, this.#shift)
    while (table[slot] !== 0) slot = (slot + 1) & mask
    table[slot] = place + 1
  }

  /** What was pushed on beyond the slot comes back to where it is looked for. */
  #leave(slot: number): void {
    const table = this.#table
    const mask = table.length - 1
    let empty = slot
    for (let at = (empty + 1) & mask; table[at] !== 0; at = (at + 1) & mask) {
      const home = homeOf(this.#keys[table[at]! - 1]!, this.#shift)
      if (((at - home) & mask) < ((at - empty) & mask)) continue
      table[empty] = table[at]!
      empty = at
    }
    table[empty] = 0
  }

  #grow(): void {
    const had = this.#items.length
    const places = Math.max(LEAST, had * 2)
    this.#keys = grown(this.#keys, new Float64Array(places))
    this.#cameAt = grown(this.#cameAt, new Float64Array(places))
    this.#next = grown(this.#next, new Int32Array(places))
    this.#before = grown(this.#before, new Int32Array(places))
    this.#table = new Int32Array(places * 2)
    this.#shift = Math.clz32(places * 2) + 1
    for (let place = 0; place < had; place++) this.#enter(this.#keys[place]!, place)
    for (let place = had; place < places; place++) {
      this.#items.push(undefined)
      this.#next[place] = place + 1
    }
    this.#next[places - 1] = NONE
    this.#free = had
  }
}

const NONE = -1
const NUMBERS = new Float64Array(0)
const PLACES = new Int32Array(0)
/** Places of a shelf that has something on it. */
const LEAST = 8
/** An empty shelf with more places lets go of them. */
const KEPT = 4_096

function grown<Numbers extends Float64Array | Int32Array>(from: Numbers, to: Numbers): Numbers {
  to.set(from)
  return to
}

/** By the golden ratio: neighbours lie far from each other. [Knuth, TAOCP 3, 6.4] @param shift  32 less the bits of a slot number */
function homeOf(key: number, shift: number): number {
  return Math.imul(key | 0, 0x9e3779b1) >>> shift
}
