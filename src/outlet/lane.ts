/**
 * One destination as the outbox sees it: what it holds, what it has answered for, where it goes on.
 */
import type { Outlet } from '../domain/ports.ts'
import type { Entry } from './entry.ts'

/** What the outbox knows of one destination. */
export class Lane {
  readonly name: string
  readonly number: number
  readonly bit: number
  outlet: Outlet | undefined
  records = WINDOW_RECORDS
  bytes = WINDOW_BYTES
  /** First record that was not handed out. */
  next: number
  /** There is more in the file than in memory: new records wait their turn. */
  behind = true
  /** Handed out, ascending, from the oldest without an answer. */
  readonly handed = new Queue<Entry>()
  unanswered = 0
  unansweredBytes = 0
  /** Chosen in the open transaction, and where that leaves `next` and `behind`. */
  ready: Entry[] = []
  after = 0
  behindAfter = false
  /** The marks: as chosen in the open transaction, as committed. */
  doneAfter: number
  handedAfter: number
  markedDone: number
  markedHanded: number
  /** What goes out up to here goes out a second time. */
  repeatThrough: number
  failed = false
  pauseMs = 0
  timer: NodeJS.Timeout | undefined

  constructor(name: string, number: number, doneThrough: number, handedThrough: number) {
    this.name = name
    this.number = number
    this.bit = 1 << number
    this.next = doneThrough + 1
    this.repeatThrough = handedThrough
    this.markedDone = this.markedHanded = this.doneAfter = this.handedAfter = doneThrough
  }

  /** Takes records now. */
  get open(): boolean {
    return this.outlet !== undefined && !this.failed && this.timer === undefined
  }

  get room(): number {
    if (this.unansweredBytes >= this.bytes) return 0
    // The second bound: while the oldest record has no answer, those answered behind it stay listed.
    return Math.max(0, Math.min(this.records - this.unanswered, this.records * 4 - this.handed.length))
  }

  /** All up to here is answered. */
  get doneThrough(): number {
    return (this.handed.first?.seq ?? this.next) - 1
  }
}

/** First in, first out; shifting costs nothing, and what was shifted is let go of at once: kept for a while it would grow old in the heap. */
export class Queue<Item> {
  #items: (Item | undefined)[] = []
  #head = 0

  get length(): number {
    return this.#items.length - this.#head
  }

  get first(): Item | undefined {
    return this.#items[this.#head]
  }

  push(item: Item): void {
    this.#items.push(item)
  }

  shift(): void {
    this.#items[this.#head++] = undefined
    if (this.#head === this.#items.length) this.clear()
    else if (this.#head >= 1_024 && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
  }

  all(): Item[] {
    return this.#items.slice(this.#head) as Item[]
  }

  clear(): void {
    this.#items = []
    this.#head = 0
  }
}

export const WINDOW_RECORDS = 4_096
export const WINDOW_BYTES = 16_777_216
