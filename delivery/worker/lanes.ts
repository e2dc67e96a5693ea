export interface LaneLimits {
  /** Items that run at a time, in all lanes. */
  readonly totalConcurrency: number;
  /** Items that one lane holds, running ones counted. */
  readonly laneCapacity: number;
  /** Items that all lanes hold together. */
  readonly totalCapacity: number;
  /** Bytes that all items hold together. */
  readonly totalBytes: number;
}

/** What holds for one lane; as it was given last. */
export interface LaneRules {
  /** Items that run at a time. */
  readonly concurrency: number;
  /** Items that start in a second; null for no limit. */
  readonly ratePerSecond: number | null;
}

export interface LaneItem {
  readonly endpointId: string;
  readonly applicationId: string;
  readonly bytes: number;
}

export interface LanesOptions<Item> {
  readonly limits: LaneLimits;
  /**
   * Must not throw; may call `freeSlot` before it is done, so that the lane's next item starts while this one is held on.
   */
  readonly run: (item: Item, freeSlot: () => void) => Promise<void>;
  /** The lane has room again after something was turned away. */
  readonly onRoom: (endpointId: string, applicationId: string) => void;
  /**
   * Takes slots of an endpoint's rate and answers when the first of them is.
   *
   * @throws when the store cannot be asked; it is asked again later
   */
  readonly takeSlots: (endpointId: string, ratePerSecond: number, count: number) => Promise<number>;
  /** Milliseconds on the clock of `takeSlots`. */
  readonly now: () => number;
}

/** What all lanes of one application use. */
interface Share {
  size: number;
  bytes: number;
  running: number;
}

interface Lane<Item> {
  readonly endpointId: string;
  readonly applicationId: string;
  readonly share: Share;
  rules: LaneRules;
  waiting: Item[];
  /** Reserved, waiting and running. */
  size: number;
  bytes: number;
  /** Taken slots. */
  running: number;
  /** When a slot was freed last. */
  finishedAt: number;
  /** Something was turned away and waits in the store: nothing newer gets in before it. */
  isStarved: boolean;
  /** Slots of its rate that were taken and not used: how many, and when the next one is. */
  rateSlots: number;
  nextRateSlotAt: number;
  isTakingSlots: boolean;
  timer: NodeJS.Timeout | undefined;
}

const slotRetryMs = 1_000;
/** A receiver that has answered within this time keeps up. */
const keepsUpMs = 20;

/**
 * One lane for each endpoint, each with its own concurrency, rate and share of the memory, so that a slow endpoint holds
 * up nobody else's deliveries. What finds no room stays in the store; `onRoom` tells when to look there again.
 *
 * Memory and concurrency are shared by dynamic thresholds (Choudhury and Hahne, 1998): no lane, and no application, uses
 * more than is left free for all others. So one alone gets half of everything, each further one half of the rest, and a
 * newcomer always finds some.
 */
export class Lanes<Item extends LaneItem> {
  readonly #options: LanesOptions<Item>;
  readonly #limits: LaneLimits;
  readonly #lanes = new Map<string, Lane<Item>>();
  readonly #shares = new Map<string, Share>();
  /** Lanes that could run more, if others did not use so much; by application, in the order of their turns. */
  readonly #stalled = new Map<string, Set<Lane<Item>>>();
  #size = 0;
  #bytes = 0;
  #slotsTaken = 0;
  #running = 0;
  readonly #shortOfBytes = new Map<string, string>();
  #isStopped = false;
  #whenIdle: (() => void) | null = null;

  constructor(options: LanesOptions<Item>) {
    this.#options = options;
    this.#limits = options.limits;
  }

  /** How many items are held, in all lanes. */
  get size(): number {
    return this.#size;
  }

  /** How many more bytes the items may hold together; one lane or application gets half of it at most. */
  get freeBytes(): number {
    return Math.max(this.#limits.totalBytes - this.#bytes, 0);
  }

  /** How many items run now, in all lanes. */
  get running(): number {
    return this.#running;
  }

  /** Keeps room for an item, to be pushed or released later; false when there is none. */
  reserve(item: LaneItem, rules: LaneRules): boolean {
    const lane = this.#lane(item, rules);
    if (lane.isStarved) return false;
    if (item.bytes > this.freeBytes) {
      this.#shortOfBytes.set(lane.endpointId, lane.applicationId);
      this.#dropIfEmpty(lane);
      return false;
    }
    if (this.#roomOf(lane) <= 0 || (lane.size > 0 && item.bytes > this.#bytesFor(lane))) {
      lane.isStarved = true;
      return false;
    }
    this.#hold(lane, item.bytes);
    return true;
  }

  /** Gives up a reservation. */
  release({ endpointId, bytes }: LaneItem): void {
    const lane = this.#lanes.get(endpointId);
    if (lane) this.#letGo(lane, bytes);
  }

  /** Takes an item whose room was reserved. */
  push(item: Item): void {
    const lane = this.#lanes.get(item.endpointId);
    if (!lane) throw new Error("no room was reserved");
    lane.waiting.push(item);
    this.#advance(lane);
  }

  /** Takes an item that is at hand anyhow, beyond the limits if need be. */
  force(item: Item, rules: LaneRules): void {
    const lane = this.#lane(item, rules);
    this.#hold(lane, item.bytes);
    lane.waiting.push(item);
    this.#advance(lane);
  }

  /** How many more items the endpoint's lane takes. When there is none, `onRoom` will tell. */
  roomFor(of: Pick<LaneItem, "endpointId" | "applicationId">, rules: LaneRules): number {
    const lane = this.#lane(of, rules);
    const hasBytes = this.freeBytes > 0 && (lane.size === 0 || this.#bytesFor(lane) > 0);
    const room = hasBytes ? this.#roomOf(lane) : 0;
    // Full of others' bytes, it has nothing that could end and tell.
    if (room <= 0 && lane.size === 0) this.#shortOfBytes.set(lane.endpointId, lane.applicationId);
    lane.isStarved = room <= 0 && lane.size > 0;
    this.#dropIfEmpty(lane);
    return Math.max(room, 0);
  }

  /**
   * Whether more waits in an endpoint's lane than it soon gets through, although its receiver keeps up: whoever brings
   * more had better be slowed down a little.
   */
  isBehind(endpointId: string): boolean {
    const lane = this.#lanes.get(endpointId);
    return (
      lane !== undefined &&
      lane.waiting.length > 2 * lane.rules.concurrency &&
      lane.rules.ratePerSecond === null &&
      this.#options.now() - lane.finishedAt < keepsUpMs
    );
  }

  /** Takes out what waits in an endpoint's lane. */
  drain(endpointId: string): Item[] {
    const lane = this.#lanes.get(endpointId);
    if (!lane) return [];
    const items = lane.waiting.splice(0);
    for (const { bytes } of items) this.#letGo(lane, bytes);
    return items;
  }

  /** Starts nothing more: what waits, or is pushed later, is for `takeWaiting`. */
  stop(): void {
    this.#isStopped = true;
    for (const lane of this.#lanes.values()) clearTimeout(lane.timer);
  }

  /** Hands out what has not begun to run. */
  takeWaiting(): Item[] {
    return [...this.#lanes.keys()].flatMap((endpointId) => this.drain(endpointId));
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    if (this.#running === 0) return;
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
  }

  #lane(of: Pick<LaneItem, "endpointId" | "applicationId">, rules: LaneRules): Lane<Item> {
    const { endpointId, applicationId } = of;
    let lane = this.#lanes.get(endpointId);
    if (lane) {
      lane.rules = rules;
      return lane;
    }
    let share = this.#shares.get(applicationId);
    if (!share) {
      share = { size: 0, bytes: 0, running: 0 };
      this.#shares.set(applicationId, share);
    }
    lane = {
      endpointId,
      applicationId,
      share,
      rules,
      waiting: [],
      size: 0,
      bytes: 0,
      running: 0,
      finishedAt: -Infinity,
      isStarved: false,
      rateSlots: 0,
      nextRateSlotAt: 0,
      isTakingSlots: false,
      timer: undefined,
    };
    this.#lanes.set(endpointId, lane);
    return lane;
  }

  #dropIfEmpty(lane: Lane<Item>): void {
    if (lane.size > 0 || lane.isTakingSlots) return;
    clearTimeout(lane.timer);
    this.#lanes.delete(lane.endpointId);
    this.#unstall(lane);
    if (lane.share.size === 0) this.#shares.delete(lane.applicationId);
  }

  #roomOf(lane: Lane<Item>): number {
    const free = this.#limits.totalCapacity - this.#size;
    const { ratePerSecond } = lane.rules;
    // What a slow rate does not send for seconds is better kept in the store.
    const capacity =
      ratePerSecond === null
        ? this.#limits.laneCapacity
        : Math.min(this.#limits.laneCapacity, Math.ceil(2 * ratePerSecond));
    const room = Math.min(capacity - lane.size, free - lane.size, free - lane.share.size);
    // A lane with nothing in it gets one thing always.
    return room <= 0 && lane.size === 0 ? 1 : room;
  }

  /** How many more bytes a lane with something in it may take: no more than is left free for all others. */
  #bytesFor({ bytes, share }: Lane<Item>): number {
    return this.freeBytes - Math.max(bytes, share.bytes);
  }

  #hold(lane: Lane<Item>, bytes: number): void {
    lane.size++;
    lane.bytes += bytes;
    lane.share.size++;
    lane.share.bytes += bytes;
    this.#size++;
    this.#bytes += bytes;
  }

  #letGo(lane: Lane<Item>, bytes: number): void {
    lane.size--;
    lane.bytes -= bytes;
    lane.share.size--;
    lane.share.bytes -= bytes;
    this.#size--;
    this.#bytes -= bytes;
    // Half empty: looking into the store for every single place would cost too much.
    if (lane.isStarved && lane.size <= Math.min(lane.rules.concurrency, this.#limits.laneCapacity) / 2) {
      lane.isStarved = false;
      this.#options.onRoom(lane.endpointId, lane.applicationId);
    }
    if (this.#shortOfBytes.size > 0 && this.freeBytes > 0) {
      const short = [...this.#shortOfBytes];
      this.#shortOfBytes.clear();
      for (const [endpointId, applicationId] of short) this.#options.onRoom(endpointId, applicationId);
    }
    this.#dropIfEmpty(lane);
  }

  #advance(lane: Lane<Item>): void {
    while (lane.waiting.length > 0 && lane.running < lane.rules.concurrency && !this.#isStopped) {
      if (!this.#hasSlotFor(lane)) {
        this.#stall(lane);
        return;
      }
      if (lane.rules.ratePerSecond !== null && !this.#useRateSlot(lane, lane.rules.ratePerSecond)) return;
      const item = lane.waiting.shift();
      if (item) void this.#start(lane, item);
    }
    this.#unstall(lane);
  }

  #hasSlotFor(lane: Lane<Item>): boolean {
    const free = this.#limits.totalConcurrency - this.#slotsTaken;
    return free > 0 && lane.running <= free && lane.share.running <= free;
  }

  /** Uses the next slot of the lane's rate if it is now; otherwise sees to it that the lane goes on when it is. */
  #useRateSlot(lane: Lane<Item>, ratePerSecond: number): boolean {
    if (lane.isTakingSlots) return false;
    if (lane.rateSlots === 0) {
      void this.#takeSlots(lane, ratePerSecond);
      return false;
    }
    const waitMs = lane.nextRateSlotAt - this.#options.now();
    if (waitMs > 0) {
      clearTimeout(lane.timer);
      lane.timer = setTimeout(() => {
        this.#advance(lane);
      }, waitMs);
      return false;
    }
    lane.rateSlots--;
    lane.nextRateSlotAt += 1_000 / ratePerSecond;
    return true;
  }

  async #takeSlots(lane: Lane<Item>, ratePerSecond: number): Promise<void> {
    lane.isTakingSlots = true;
    // A tenth of a second's worth at a time: few questions, and little lost when what waits goes elsewhere.
    const count = Math.min(lane.waiting.length, Math.max(1, Math.ceil(ratePerSecond / 10)));
    try {
      lane.nextRateSlotAt = await this.#options.takeSlots(lane.endpointId, ratePerSecond, count);
      lane.rateSlots = count;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, slotRetryMs));
    }
    lane.isTakingSlots = false;
    this.#dropIfEmpty(lane);
    this.#advance(lane);
  }

  async #start(lane: Lane<Item>, item: Item): Promise<void> {
    let hasSlot = true;
    lane.running++;
    lane.share.running++;
    this.#slotsTaken++;
    this.#running++;
    const freeSlot = (): void => {
      if (!hasSlot) return;
      hasSlot = false;
      lane.finishedAt = this.#options.now();
      lane.running--;
      lane.share.running--;
      this.#slotsTaken--;
      // Whoever had to wait comes first, this lane's next item behind them: else those who have slots would keep them.
      if (this.#stalled.size === 0) this.#advance(lane);
      else if (lane.waiting.length > 0) this.#stall(lane);
      this.#advanceStalled();
    };
    await this.#options.run(item, freeSlot);
    this.#running--;
    freeSlot();
    this.#letGo(lane, item.bytes);
    if (this.#running === 0) this.#whenIdle?.();
  }

  #stall(lane: Lane<Item>): void {
    const lanes = this.#stalled.get(lane.applicationId);
    if (lanes) lanes.add(lane);
    else this.#stalled.set(lane.applicationId, new Set([lane]));
  }

  #unstall(lane: Lane<Item>): void {
    if (this.#stalled.size === 0) return;
    const lanes = this.#stalled.get(lane.applicationId);
    if (lanes?.delete(lane) && lanes.size === 0) this.#stalled.delete(lane.applicationId);
  }

  /** Lets the next lane go on that others have kept from it: an application after the other, and a lane after the other. */
  #advanceStalled(): void {
    for (let turns = this.#stalled.size; turns > 0; turns--) {
      const [turn] = this.#stalled;
      if (turn === undefined) return;
      const [applicationId, lanes] = turn;
      this.#stalled.delete(applicationId);
      this.#stalled.set(applicationId, lanes);
      // A lane may wait for its rate rather than take the slot, or use too much already itself.
      for (let tries = lanes.size; tries > 0; tries--) {
        const free = this.#limits.totalConcurrency - this.#slotsTaken;
        if (free <= 0) return;
        const [lane] = lanes;
        if (lane === undefined || lane.share.running > free) break;
        this.#unstall(lane);
        const before = this.#slotsTaken;
        this.#advance(lane);
        if (this.#slotsTaken > before) return;
      }
    }
  }
}
