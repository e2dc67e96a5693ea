/** Something with a time limit, to be extended. */
export class Timed {
  /** On the clock of `performance.now()`. */
  dueAt = 0;
  previous: Timed | null = null;
  next: Timed | null = null;

  /** Ends the watch over it; does nothing when there is none. */
  unlink(): void {
    if (!this.previous || !this.next) return;
    this.previous.next = this.next;
    this.next.previous = this.previous;
    this.previous = null;
    this.next = null;
  }
}

/** What has the same time limit, in the order in which it is due. */
interface Queue {
  /** Before the first and behind the last. */
  readonly ends: Timed;
  timer: NodeJS.Timeout;
}

/** The longest that Node's timers take. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * Watches over many time limits of few different lengths. All of one length share a timer, and most are taken out long
 * before it fires: a timer for each request costs about a microsecond more, a fifth of what sending one takes.
 */
export class Deadlines<Item extends Timed> {
  readonly #queues = new Map<number, Queue>();
  readonly #onDue: (item: Item, timeoutMs: number) => void;

  constructor(onDue: (item: Item, timeoutMs: number) => void) {
    this.#onDue = onDue;
  }

  /** Watches over the item until `unlink` is called on it, or it is due. */
  add(item: Item, timeoutMs: number, now: number): void {
    let queue = this.#queues.get(timeoutMs);
    if (!queue) {
      const ends = new Timed();
      ends.previous = ends;
      ends.next = ends;
      queue = { ends, timer: this.#arm(timeoutMs, timeoutMs) };
      this.#queues.set(timeoutMs, queue);
    }
    item.dueAt = now + timeoutMs;
    const { ends } = queue;
    item.next = ends;
    item.previous = ends.previous;
    if (ends.previous) ends.previous.next = item;
    ends.previous = item;
  }

  close(): void {
    for (const { timer } of this.#queues.values()) clearTimeout(timer);
    this.#queues.clear();
  }

  #arm(timeoutMs: number, delayMs: number): NodeJS.Timeout {
    const timer = setTimeout(
      () => {
        this.#fire(timeoutMs);
      },
      Math.min(delayMs, maxTimerMs),
    );
    // What is watched over keeps the process alive by itself.
    return timer.unref();
  }

  #fire(timeoutMs: number): void {
    const queue = this.#queues.get(timeoutMs);
    if (!queue) return;
    const now = performance.now();
    const { ends } = queue;
    while (ends.next && ends.next !== ends) {
      const item = ends.next as Item;
      if (item.dueAt > now) {
        queue.timer = this.#arm(timeoutMs, item.dueAt - now);
        return;
      }
      item.unlink();
      this.#onDue(item, timeoutMs);
    }
    this.#queues.delete(timeoutMs);
  }
}
