export interface LaneLimits {
  /** Slots of one lane: items that run at a time. */
  readonly concurrency: number;
  /** Items that one lane holds, running ones counted. */
  readonly laneCapacity: number;
  /** Items that all lanes hold together. As many as may run at a time have room in their lane even beyond it. */
  readonly totalCapacity: number;
  /** Bytes that all items hold together. */
  readonly totalBytes: number;
}

interface Lane<Item> {
  readonly waiting: Item[];
  /** Reserved, waiting and running. */
  size: number;
  /** Taken slots. */
  running: number;
  /** Something was turned away and waits in the store: nothing newer gets in before it. */
  isStarved: boolean;
}

/**
 * One lane for each endpoint, each with its own concurrency and its own share of the memory, so that a slow endpoint
 * holds up nobody else's deliveries. What finds no room stays in the store; `onRoom` tells when to look there again.
 */
export class Lanes<Item extends { readonly endpointId: string; readonly bytes: number }> {
  readonly #limits: LaneLimits;
  readonly #run: (item: Item, freeSlot: () => void) => Promise<void>;
  readonly #onRoom: () => void;
  readonly #lanes = new Map<string, Lane<Item>>();
  #size = 0;
  #bytes = 0;
  #running = 0;
  #isShortOfBytes = false;
  #isStopped = false;
  #whenIdle: (() => void) | null = null;

  /**
   * @param run must not throw; may call `freeSlot` before it is done, so that the lane's next item starts while this
   * one is held on
   */
  constructor(
    limits: LaneLimits,
    run: (item: Item, freeSlot: () => void) => Promise<void>,
    onRoom: () => void,
  ) {
    this.#limits = limits;
    this.#run = run;
    this.#onRoom = onRoom;
  }

  /** How many items are held, in all lanes. */
  get size(): number {
    return this.#size;
  }

  /** How many items run now, in all lanes. */
  get running(): number {
    return this.#running;
  }

  /** Keeps room for an item, to be pushed or released later; false when there is none. */
  reserve(endpointId: string, bytes: number): boolean {
    if (this.#bytes + bytes > this.#limits.totalBytes) {
      this.#isShortOfBytes = true;
      return false;
    }
    const lane = this.#lane(endpointId);
    lane.isStarved ||= !this.#hasRoom(lane);
    if (lane.isStarved) return false;
    this.#hold(lane, bytes);
    return true;
  }

  release(endpointId: string, bytes: number): void {
    const lane = this.#lane(endpointId);
    lane.size--;
    this.#size--;
    this.#bytes -= bytes;
    const hasRoom = lane.isStarved && lane.size < this.#limits.concurrency;
    const hasBytes = this.#isShortOfBytes && this.#bytes < this.#limits.totalBytes / 2;
    if (hasRoom) lane.isStarved = false;
    if (hasBytes) this.#isShortOfBytes = false;
    if (lane.size === 0) this.#lanes.delete(endpointId);
    if (hasRoom || hasBytes) this.#onRoom();
  }

  /** Takes an item whose room was reserved. */
  push(item: Item): void {
    const lane = this.#lane(item.endpointId);
    lane.waiting.push(item);
    this.#advance(lane);
  }

  /** Takes an item that is at hand anyhow, beyond the limits if need be. */
  force(item: Item): void {
    this.#hold(this.#lane(item.endpointId), item.bytes);
    this.push(item);
  }

  /** How many items may be claimed at once now. */
  get claimable(): number {
    // Also when all is full: lanes with little in them get theirs.
    return Math.max(this.#limits.concurrency, Math.min(256, this.#limits.totalCapacity - this.#size));
  }

  /** The endpoints whose lanes have no room; `onRoom` is called when one of them has again. */
  takeBusy(): string[] {
    const busy = [];
    for (const [endpointId, lane] of this.#lanes) {
      if (this.#hasRoom(lane)) continue;
      lane.isStarved = true;
      busy.push(endpointId);
    }
    return busy;
  }

  /** Starts nothing more: what waits, or is pushed later, is for `takeWaiting`. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Hands out what has not begun to run. */
  takeWaiting(): Item[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.waiting.splice(0));
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    if (this.#running === 0) return;
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
  }

  #lane(endpointId: string): Lane<Item> {
    let lane = this.#lanes.get(endpointId);
    if (!lane) {
      lane = { waiting: [], size: 0, running: 0, isStarved: false };
      this.#lanes.set(endpointId, lane);
    }
    return lane;
  }

  #hasRoom(lane: Lane<Item>): boolean {
    if (lane.size < this.#limits.concurrency) return true;
    return lane.size < this.#limits.laneCapacity && this.#size < this.#limits.totalCapacity;
  }

  #hold(lane: Lane<Item>, bytes: number): void {
    lane.size++;
    this.#size++;
    this.#bytes += bytes;
  }

  async #start(lane: Lane<Item>, item: Item): Promise<void> {
    let hasSlot = true;
    lane.running++;
    this.#running++;
    const freeSlot = (): void => {
      if (!hasSlot) return;
      hasSlot = false;
      lane.running--;
      this.#advance(lane);
    };
    await this.#run(item, freeSlot);
    this.#running--;
    this.release(item.endpointId, item.bytes);
    freeSlot();
    if (this.#running === 0) this.#whenIdle?.();
  }

  #advance(lane: Lane<Item>): void {
    while (lane.running < this.#limits.concurrency && !this.#isStopped) {
      const item = lane.waiting.shift();
      if (!item) return;
      void this.#start(lane, item);
    }
  }
}
