import { setTimeout as sleep } from "node:timers/promises";
import { firstIdAt } from "../core/ids.ts";
import type { Logger } from "../log.ts";
import type { StoredApplication, StretchResult } from "../store/retention.ts";
import type { Store, Tx } from "../store/store.ts";
import type { Membership } from "./membership.ts";

/** For how long what is kept. */
export interface RetentionRules {
  /** Finished messages with their deliveries and attempts; null for ever. */
  readonly retentionMs: number | null;
  /** Payloads of messages that do not say themselves; null for as long as their messages. */
  readonly payloadRetentionMs: number | null;
  /** Bytes of stored data above which the oldest finished messages go; null for no bound. */
  readonly retentionMaxBytes: number | null;
}

export interface RetentionOptions {
  readonly store: Store;
  readonly membership: Pick<Membership, "number" | "holds">;
  readonly rules: RetentionRules;
  readonly logger: Logger;
  /** Between two rounds; a minute by default. */
  readonly intervalMs?: number;
  /**
   * How long the statements of one transaction should take: 2 ms by default, for a database in this process, where
   * everything else waits for them and for their commit.
   */
  readonly transactionMs?: number;
  /** The longest rest after a transaction, in times of what that took; 64 by default. */
  readonly maxRestFactor?: number;
}

/** What one round has removed. */
export interface RetentionReport {
  /** Finished messages that were too old, or the oldest where there was too much. */
  readonly messages: number;
  readonly payloads: number;
  /** Messages of applications that are gone, and pending deliveries of endpoints that are. */
  readonly leftovers: number;
  /** Kept answers, tokens and tasks whose time was over. */
  readonly records: number;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** Rows of one transaction. */
const minBatch = 8;
const maxBatch = 1_000;
const firstBatch = 64;
/**
 * Removing a message writes about as much to the disk as delivering it has, and there the two meet: at first this work
 * rests for very long after each transaction, commit included. A round that takes longer than a minute has it rest less
 * from then on, but never for less than this many times as long as it works.
 */
const minRestFactor = 4;
const defaultMaxRestFactor = 64;
const paceMs = 60_000;
const paceStep = 1.5;
/** No rest is longer: it goes on, slowly, however busy the store is. */
const maxRestMs = 1_000;
/** Applications and endpoints that one read looks at. */
const pageSize = 200;
/** Finished tasks can be looked at for so long. */
const taskRetentionMs = 30 * 24 * 60 * 60_000;
/** When there is too much, this share more is removed, so that not every new message calls for it again. */
const sizeSlack = 0.02;
/** In one go, so that applications take turns. */
const sizeStretchMs = 60_000;
/** How often the size is asked for while messages are removed for it. */
const sizeIntervalMs = 1_000;
/** Where nothing could be removed although there is too much, it is said this often, and tried. */
const sizeRetryMs = 10 * 60_000;
/** Messages that are still to be delivered are passed over; how long they are not looked at again. */
const passedOverMs = 10 * 60_000;

/** How many rows one transaction takes, learned from how long the last ones took. */
class Batch {
  readonly #targetMs: number;
  size = firstBatch;

  constructor(targetMs: number) {
    this.#targetMs = targetMs;
  }

  /** A whole batch took so long. Halfway there each time: one measurement says little on a busy machine. */
  learn(ms: number): void {
    const wanted = (this.size * this.#targetMs) / Math.max(ms, 0.1);
    this.size = Math.round(Math.min(Math.max((this.size + wanted) / 2, minBatch), maxBatch, 2 * this.size));
  }
}

/** The node stops, or another one has taken over. */
class InterruptedError extends Error {
  override readonly name = "InterruptedError";
}

/**
 * Removes what has had its time: in the background, on one node at a time, in transactions of a few milliseconds with
 * rests in between, so that deliveries go on beside it. Never a message that an endpoint still has to get.
 */
export class RetentionWorker {
  readonly #options: RetentionOptions;
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<unknown> = Promise.resolve();
  /** Rows of different kinds cost differently. */
  readonly #batches: Readonly<Record<"messages" | "payloads" | "pending" | "records", Batch>>;
  /** Up to which message of an application there is nothing but what is still to be delivered. */
  readonly #passedOver = new Map<string, string>();
  #passedOverUntil = 0;
  #restFactor: number;
  /** Since when it has gone on at this pace. */
  #pacedAt = 0;
  #sizeRetryAt = 0;

  constructor(options: RetentionOptions) {
    this.#options = options;
    this.#restFactor = options.maxRestFactor ?? defaultMaxRestFactor;
    const createBatch = (): Batch => new Batch(options.transactionMs ?? 2);
    this.#batches = {
      messages: createBatch(),
      payloads: createBatch(),
      pending: createBatch(),
      records: createBatch(),
    };
  }

  /** Begins, and goes on until `stop`. */
  start(): void {
    this.#schedule(0);
  }

  /** Ends after the transaction under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#sweeping;
  }

  /** One round: whatever has had its time by now is gone when this resolves. Null when it is another node's turn. */
  async sweep(): Promise<RetentionReport | null> {
    const { store, rules } = this.#options;
    const { number } = this.#options.membership;
    if (!(await store.write((tx) => tx.retention.takeTurn(number)))) return null;
    this.#pacedAt = performance.now();
    const now = await store.now();
    if (now > this.#passedOverUntil) {
      this.#passedOver.clear();
      this.#passedOverUntil = now + passedOverMs;
    }
    const report: Mutable<RetentionReport> = { messages: 0, payloads: 0, leftovers: 0, records: 0 };
    const { records, payloads } = this.#batches;
    report.records += await this.#repeat(records, (tx, limit) => tx.idempotency.prune(now, limit));
    report.records += await this.#repeat(records, (tx, limit) => tx.tokens.prune(now, limit));
    report.records += await this.#repeat(records, (tx, limit) =>
      tx.retention.removeTasks(now - taskRetentionMs, limit),
    );
    report.leftovers += await this.#removeOfGoneEndpoints();
    for await (const application of this.#applications()) {
      if (application.isGone) report.leftovers += await this.#removeMessages(application.id, null, true);
      else if (rules.retentionMs !== null && application.oldestAt < now - rules.retentionMs) {
        report.messages += await this.#removeMessages(application.id, now - rules.retentionMs, false);
      }
    }
    report.payloads += await this.#repeat(payloads, (tx, limit) =>
      tx.retention.expungeExpiredPayloads(now, limit),
    );
    report.payloads += await this.#expungePayloads(now);
    report.messages += await this.#removeForSize(now);
    if (performance.now() - this.#pacedAt < paceMs / 2) {
      this.#restFactor = Math.min(
        this.#restFactor * paceStep,
        this.#options.maxRestFactor ?? defaultMaxRestFactor,
      );
    }
    return report;
  }

  #schedule(delayMs: number): void {
    if (this.#stopping.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#sweeping = this.#round().finally(() => {
        this.#schedule(this.#options.intervalMs ?? 60_000);
      });
    }, delayMs);
  }

  async #round(): Promise<void> {
    const { membership, logger } = this.#options;
    if (!membership.holds(membership.number)) return;
    const startedAt = performance.now();
    try {
      const report = await this.sweep();
      if (report === null || Object.values(report).every((count) => count === 0)) return;
      logger.info({ ...report, ms: Math.round(performance.now() - startedAt) }, "removed what had its time");
    } catch (error) {
      if (error instanceof InterruptedError) return;
      logger.error({ err: error }, "what had its time could not be removed; trying again");
    }
  }

  /** Everything that an index leads to, batch by batch. */
  async #repeat(batch: Batch, remove: (tx: Tx, limit: number) => Promise<number>): Promise<number> {
    let total = 0;
    for (;;) {
      const limit = batch.size;
      const { result, ms } = await this.#transact((tx) => remove(tx, limit));
      total += result;
      if (result < limit) return total;
      batch.learn(ms);
    }
  }

  async #removeMessages(applicationId: string, before: number | null, everything: boolean): Promise<number> {
    let removed = 0;
    for (;;) {
      const result = await this.#removeStretch(applicationId, before, everything);
      removed += result.removed;
      if (result.isEnd) return removed;
    }
  }

  /** The next stretch of an application's messages, behind what was passed over. */
  async #removeStretch(
    applicationId: string,
    before: number | null,
    everything: boolean,
  ): Promise<StretchResult> {
    const batch = this.#batches.messages;
    // Also where nothing is passed over: PostgreSQL would look at what was removed each time, until it is vacuumed.
    const after = this.#passedOver.get(applicationId) ?? "";
    const stretch = { applicationId, after, before, limit: batch.size };
    const { result, ms } = await this.#transact((tx) => tx.retention.removeMessages(stretch, everything));
    if (!result.isEnd) batch.learn(ms);
    this.#passedOver.set(applicationId, result.after);
    return result;
  }

  /** Pending deliveries of endpoints that are gone, whoever holds them; then what was learned of such endpoints. */
  async #removeOfGoneEndpoints(): Promise<number> {
    const { store } = this.#options;
    let removed = 0;
    for (const leasedBy of await store.read((tx) => tx.retention.listHolders())) {
      for (let afterEndpointId = ""; ;) {
        const place = { leasedBy, afterEndpointId, limit: pageSize };
        const page = await this.#read((tx) => tx.retention.listHeldEndpoints(place));
        for (const { endpointId, isGone } of page) {
          if (!isGone) continue;
          removed += await this.#repeat(this.#batches.pending, (tx, limit) =>
            tx.retention.removePending(endpointId, leasedBy, limit),
          );
        }
        if (page.length < pageSize) break;
        afterEndpointId = page.at(-1)?.endpointId ?? "";
      }
    }
    for (let after: string | null = ""; after !== null;) {
      const place: string = after;
      after = (await this.#transact((tx) => tx.retention.removeStates(place, pageSize))).result;
    }
    return removed;
  }

  /** Payloads whose time is the service's: since the last round, of all that have become too old. */
  async #expungePayloads(now: number): Promise<number> {
    const { payloadRetentionMs } = this.#options.rules;
    if (payloadRetentionMs === null) return 0;
    const before = now - payloadRetentionMs;
    const from = await this.#read((tx) => tx.retention.payloadsExpungedUntil());
    // Each round looks at each application: not more often than makes a difference.
    if (before - from < Math.min(60 * 60_000, payloadRetentionMs / 24)) return 0;
    let expunged = 0;
    for await (const application of this.#applications()) {
      if (application.oldestAt >= before) continue;
      const batch = this.#batches.payloads;
      let after = firstIdAt("msg", from);
      for (let isEnd = false; !isEnd;) {
        const stretch = { applicationId: application.id, after, before, limit: batch.size };
        const { result, ms } = await this.#transact((tx) => tx.retention.expungePayloads(stretch));
        expunged += result.removed;
        ({ after, isEnd } = result);
        if (!isEnd) batch.learn(ms);
      }
    }
    await this.#transact((tx) => tx.retention.notePayloadsExpunged(before));
    return expunged;
  }

  /** The oldest finished messages of all applications, as long as there is more than there may be. */
  async #removeForSize(now: number): Promise<number> {
    const { store, rules, logger } = this.#options;
    const bound = rules.retentionMaxBytes;
    if (bound === null || now < this.#sizeRetryAt) return 0;
    const size = await store.sizeBytes();
    if (size <= bound) return 0;
    // A database may tell its size anew only after a while: what was removed is counted along.
    const excess = size - bound * (1 - sizeSlack);
    let freed = 0;
    let removed = 0;
    let sizeAt = performance.now();
    const queue: StoredApplication[] = [];
    for await (const application of this.#applications()) queue.push(application);
    // Nothing is younger than now: rounds end.
    while (freed < excess) {
      queue.sort((left, right) => right.oldestAt - left.oldestAt);
      const oldest = queue.pop();
      if (oldest === undefined || oldest.oldestAt > now) break;
      const before = Math.max(oldest.oldestAt, queue.at(-1)?.oldestAt ?? 0) + sizeStretchMs;
      const result = await this.#removeStretch(oldest.id, before, oldest.isGone);
      removed += result.removed;
      freed += result.bytes;
      const after = this.#passedOver.get(oldest.id) ?? "";
      const oldestAt = await this.#read((tx) => tx.retention.oldestAt(oldest.id, after));
      if (oldestAt !== null) queue.push({ ...oldest, oldestAt });
      if (performance.now() - sizeAt < sizeIntervalMs) continue;
      sizeAt = performance.now();
      if ((await store.sizeBytes()) <= bound * (1 - sizeSlack)) return removed;
    }
    if (removed === 0) {
      this.#sizeRetryAt = now + sizeRetryMs;
      logger.warn(
        { bytes: size, retentionMaxBytes: bound },
        "there is more stored than there may be, and no finished message left to remove: what is pending is never removed",
      );
    }
    return removed;
  }

  async *#applications(): AsyncGenerator<StoredApplication> {
    for (let after = ""; ;) {
      const place = after;
      const page = await this.#read((tx) => tx.retention.listApplications(place, pageSize));
      yield* page;
      if (page.length < pageSize) return;
      after = page.at(-1)?.id ?? "";
    }
  }

  async #read<T>(read: (tx: Tx) => Promise<T>): Promise<T> {
    if (this.#stopping.signal.aborted) throw new InterruptedError();
    const result = await this.#options.store.read(read);
    await new Promise(setImmediate);
    return result;
  }

  /** One short transaction and the rest after it. `ms`: how long its statements took. */
  async #transact<T>(change: (tx: Tx) => Promise<T>): Promise<{ result: T; ms: number }> {
    const { store, membership } = this.#options;
    if (this.#stopping.signal.aborted || !membership.holds(membership.number)) throw new InterruptedError();
    const startedAt = performance.now();
    let ms = 0;
    const result = await store.write(async (tx) => {
      const beganAt = performance.now();
      const changed = await change(tx);
      ms = performance.now() - beganAt;
      return changed;
    });
    const endedAt = performance.now();
    if (endedAt - this.#pacedAt > paceMs) {
      this.#pacedAt = endedAt;
      this.#restFactor = Math.max(this.#restFactor / paceStep, Math.min(minRestFactor, this.#restFactor));
    }
    await this.#rest(Math.min(this.#restFactor * (endedAt - startedAt), maxRestMs));
    return { result, ms };
  }

  async #rest(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }
}
