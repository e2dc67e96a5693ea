import { ServiceError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Store } from "../store/store.ts";
import type { ScheduleClock } from "./schedule-clock.ts";

/** How long a node counts as alive after its last sign of life: then others take over what it held. */
export const nodeLeaseMs = 4_000;
/** How often it gives one. */
const beatMs = 1_000;
/** How often the time is kept that the schedule goes by. */
const keepTimeMs = 5_000;
/** The node stops acting this much before its time is over, for what is under way and for clocks that differ in pace. */
const marginMs = 1_000;

/** This process among those that deliver from one database. */
export interface Membership {
  /** The number that deliveries are taken under. */
  readonly number: number;
  /** Whether the process may act on what was taken under that number. */
  holds(number: number): boolean;
  /** Ends it: what the node still holds is given back. */
  close(): Promise<void>;
}

interface Joining {
  readonly store: Store;
  /** It goes on where that of the process before, or of another node, has come to. */
  readonly clock: ScheduleClock;
}

export interface MembershipOptions extends Joining {
  readonly logger: Logger;
  /** Deliveries of a node that is gone were given back. */
  readonly onBuried: () => void;
  /** Milliseconds since any moment; it goes on while the process is paused. */
  readonly monotonic?: () => number;
}

/** The membership of a node whose death its successor knows for sure, as with a data folder that only one can hold. */
export async function joinAlone({ store, clock }: Joining): Promise<Membership> {
  const keeping = await keepTime({ store, clock });
  const number = await store.write(async (tx) => {
    await tx.nodes.bury(Number.MAX_SAFE_INTEGER);
    // Nobody else looks whether its time is over.
    return await tx.nodes.join(0);
  });
  return {
    number,
    holds: (asked) => asked === number,
    async close() {
      await keeping.stop();
      await leave(store, number);
    },
  };
}

/**
 * The membership of one of several workers of a data folder, whose death the process that started it knows for sure.
 *
 * @param predecessor the worker whose place this one takes; null for none
 */
export async function joinWorkers(
  { store, clock }: Joining,
  predecessor: number | null,
): Promise<Membership> {
  const keeping = await keepTime({ store, clock });
  const number = await store.write(async (tx) => {
    if (predecessor !== null) await tx.nodes.leave(predecessor);
    return await tx.nodes.join(Number.MAX_SAFE_INTEGER - 1);
  });
  return {
    number,
    holds: (asked) => asked === number,
    async close() {
      await keeping.stop();
      await leave(store, number);
    },
  };
}

/**
 * Joins the nodes that share a database. A node that gives no sign of life for four seconds is buried by the others, and
 * what it held is theirs. Should it only have been paused, it finds its time over before it sends or records anything,
 * and joins anew under another number.
 */
export async function joinOthers(options: MembershipOptions): Promise<Membership> {
  const { store, clock, logger, onBuried, monotonic = () => performance.now() } = options;
  let number = 0;
  let validUntil = -Infinity;
  let beatAt = monotonic();
  /** Since when it has reached the database without a break; long ago for one that has just joined. */
  let inTouchSince = -Infinity;
  let isClosed = false;
  let timer: NodeJS.Timeout | undefined;
  let beating: Promise<void> = Promise.resolve();

  async function beat(): Promise<void> {
    const startedAt = monotonic();
    clock.setOffset((await store.now()) - Date.now());
    const now = clock.now();
    const isAlive = number !== 0 && (await store.write((tx) => tx.nodes.beat(number, now + nodeLeaseMs)));
    if (!isAlive) {
      if (number !== 0) logger.warn({ node: number }, "this node was taken for dead: it joins anew");
      number = await store.write((tx) => tx.nodes.join(now + nodeLeaseMs));
    }
    validUntil = startedAt + nodeLeaseMs - marginMs;
    if (startedAt - beatAt >= nodeLeaseMs) inTouchSince = startedAt;
    beatAt = startedAt;
    // After an outage of the database the others have been cut off as well, and give a sign of life as soon as they can.
    if (startedAt - inTouchSince < nodeLeaseMs) return;
    const buried = await store.write((tx) => tx.nodes.bury(now));
    if (buried.length > 0) {
      logger.warn({ nodes: buried }, "took over what nodes left that give no sign of life");
      onBuried();
    }
  }

  function schedule(): void {
    if (isClosed) return;
    timer = setTimeout(() => {
      beating = beat()
        .catch((error: unknown) => {
          logger.error({ err: error }, "the database cannot be told that this node is alive; trying again");
        })
        .finally(schedule);
    }, beatMs);
  }

  clock.setOffset((await store.now()) - Date.now());
  const keeping = await keepTime({ store, clock });
  await beat();
  schedule();
  return {
    get number() {
      return number;
    },
    holds: (asked) => asked === number && monotonic() < validUntil,
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await beating;
      await keeping.stop();
      await leave(store, number);
    },
  };
}

/**
 * Keeps in the store how far the schedule's clock has come, so that neither the next process nor another node falls behind
 * it: what is due at a time of a clock that was ahead would wait until the others have caught up.
 */
async function keepTime({ store, clock }: Joining): Promise<{ stop(): Promise<void> }> {
  const keep = async (): Promise<void> => {
    clock.notBefore(await store.write((tx) => tx.nodes.keepTime(clock.now())));
  };
  await keep();
  let keeping: Promise<void> | null = null;
  const timer = setInterval(() => {
    // In an outage of the database there is nothing to be kept, and nobody to go by it.
    keeping ??= keep()
      .catch(() => undefined)
      .finally(() => {
        keeping = null;
      });
  }, keepTimeMs);
  timer.unref();
  return {
    async stop() {
      clearInterval(timer);
      await keeping;
    },
  };
}

/** Gives back what a node holds; where the database cannot be written, its successor or another node will. */
async function leave(store: Store, number: number): Promise<void> {
  try {
    await store.write((tx) => tx.nodes.leave(number));
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
  }
}
