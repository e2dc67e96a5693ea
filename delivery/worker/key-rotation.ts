import { setTimeout } from "node:timers/promises";
import type { Logger } from "../log.ts";
import type { Store } from "../store/store.ts";

/** How often the file of the master keys is looked at. */
const lookEveryMs = 2_000;
/** How often everything is gone through again while an older key is there: another node may have used it meanwhile. */
const recheckEveryMs = 60_000;
/** Endpoints that are sealed anew in one transaction: it holds other writes up for a few milliseconds. */
const batchSize = 50;
const betweenBatchesMs = 10;

/** Looks after the secrets in the database when a master key is added. */
export interface KeyRotation {
  /** Ends it after the transaction under way; what is left is done after the next start. */
  close(): Promise<void>;
}

/**
 * Watches the master keys: once there is a newer one, what is written is sealed with it, and everything that older ones
 * have sealed is sealed anew, little by little.
 *
 * @param options `everyMs`: how often it looks, 2 s by default
 */
export function openKeyRotation(options: {
  store: Pick<Store, "read" | "write">;
  logger: Logger;
  everyMs?: number;
}): KeyRotation {
  const { store, logger, everyMs = lookEveryMs } = options;
  const closing = new AbortController();
  let complaint = "";
  let done: { keyId: string; at: number } | null = null;

  async function look(): Promise<void> {
    const [newest, ...older] = await store.read((tx) => tx.resealing.refreshKeys());
    complaint = "";
    if (newest === undefined || older.length === 0) return;
    const isKnown = done?.keyId === newest;
    if (isKnown && performance.now() - (done?.at ?? 0) < recheckEveryMs) return;
    if (!isKnown) logger.info({ masterKey: newest, older }, "sealing with a newer master key");
    const { count, failed, isWhole } = await resealAll();
    if (!isWhole) return;
    done = { keyId: newest, at: performance.now() };
    if (failed.length > 0) {
      logger.error({ masterKey: newest, endpoints: failed }, "sealed texts that no master key opens");
    } else if (count > 0 || !isKnown) {
      logger.info(
        { masterKey: newest, endpoints: count, older },
        "everything is sealed with the newest master key",
      );
    }
  }

  async function resealAll(): Promise<{ count: number; failed: string[]; isWhole: boolean }> {
    const failed: string[] = [];
    let count = 0;
    for (let after: string | null = ""; after !== null;) {
      if (closing.signal.aborted) return { count, failed, isWhole: false };
      const from: string = after;
      const batch = await store.write((tx) => tx.resealing.reseal(from, batchSize));
      count += batch.count;
      failed.push(...batch.failed);
      after = batch.last;
      await pause(betweenBatchesMs);
    }
    return { count, failed, isWhole: true };
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        await look();
      } catch (error) {
        // The keys that are known go on. Once is enough for what stays wrong.
        const message = error instanceof Error ? error.message : String(error);
        if (message !== complaint) logger.error({ err: error }, "the master keys cannot be looked after");
        complaint = message;
      }
      await pause(everyMs);
    }
  }

  async function pause(ms: number): Promise<void> {
    try {
      await setTimeout(ms, undefined, { signal: closing.signal, ref: false });
    } catch {
      // It was closed.
    }
  }

  const running = run();
  return {
    async close() {
      closing.abort();
      await running;
    },
  };
}
