import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { ServiceError } from "../errors.ts";
import { ChangeLog } from "./change-log.ts";
import { Checkpointer } from "./checkpointer.ts";
import { createHotPath, type HotPath } from "./hot-path.ts";
import { LogFile } from "./log-file.ts";
import { openSeal } from "./master-key.ts";
import { migrate, readMigrations } from "./migrations.ts";
import type { Seal } from "./seal.ts";
import { refuseDamage, refuseLostDatabase } from "./sqlite-damage.ts";
import { resultCode, SqliteConnection } from "./sqlite.ts";
import type { Acceptance, DueDelivery, EndpointClaim, Outcome, Store, StoreChanges, Tx } from "./store.ts";
import { toStartError } from "./start-failure.ts";
import { createTx } from "./tables.ts";

/** Writes that share one commit at most: it bounds how long the event loop is held by one. */
const maxBatch = 256;
/** Turns of the event loop that a commit waits at most for others to join it. */
const maxTurns = 8;
/** How long a write that nobody waits for may wait for another to share its commit with. */
const lazyMs = 2;
/** How long to wait for a lock of another process between two tries; the event loop goes on meanwhile. */
const lockRetryMs = 1;
/** Without the checkpointer's help, a commit that finds this many pages in the log moves them itself. */
const ownCheckpointPages = 65_536;
/** SQLite's result code for a lock that another process holds. */
const busyCode = 5;

interface Job {
  readonly run: () => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Opens the store in a data folder that this process holds (see `openDataFolder`), and makes or migrates its database.
 *
 * @param options `busyTimeoutMs`: how long a write waits for another process, such as a backup; 5 s by default.
 * `masterKeyFile`: `master.key` in the data folder by default. `onCheckpointError`: hears why the log could not be moved
 * into the database; nothing is lost, and it is tried again
 * @throws StartError when the database or its master key cannot be used
 */
export async function openSqliteStore(
  dataDir: string,
  {
    busyTimeoutMs = 5_000,
    masterKeyFile = null,
    onCheckpointError = () => undefined,
  }: {
    busyTimeoutMs?: number;
    masterKeyFile?: string | null;
    onCheckpointError?: (reason: string) => void;
  } = {},
): Promise<Store> {
  const path = sqlitePathOf(dataDir);
  let writer: SqliteConnection | undefined;
  try {
    refuseLostDatabase(path);
    writer = new SqliteConnection(path, { readOnly: false, busyTimeoutMs });
    // SQLite opens a file that may only be read all the same, and then every write would fail.
    accessSync(path, constants.R_OK | constants.W_OK);
    // A commit is on disk, not just with the operating system, before anybody hears of it: LogFile sees to that.
    writer.execute(
      `pragma journal_mode = wal; pragma synchronous = normal; pragma wal_autocheckpoint = ${ownCheckpointPages}; pragma cache_size = -16384`,
    );
    await refuseDamage(writer, path);
    await migrate(writer, path, readMigrations("sqlite"));
    const seal = await openSeal(writer, masterKeyFile ?? join(dataDir, "master.key"));
    const reader = new SqliteConnection(path, { readOnly: true, busyTimeoutMs });
    // From here on the event loop never waits for a lock.
    writer.execute("pragma busy_timeout = 0");
    const checkpointer = new Checkpointer(path, onCheckpointError);
    return new SqliteStore({ writer, reader, seal, checkpointer, log: new LogFile(path), busyTimeoutMs });
  } catch (error) {
    writer?.close();
    throw toStartError(path, error, {
      code: "database_unusable",
      remedy: "Restore it from your backup, or choose another folder with --data-dir.",
    });
  }
}

/** The database in a data folder. */
export function sqlitePathOf(dataDir: string): string {
  return join(dataDir, "hookplane.db");
}

class SqliteStore implements Store {
  readonly #writer: SqliteConnection;
  readonly #reader: SqliteConnection;
  readonly #writeTx: Tx;
  readonly #readTx: Tx;
  readonly #hotPath: HotPath;
  readonly #busyTimeoutMs: number;
  readonly #checkpointer: Checkpointer;
  readonly #log: LogFile;
  readonly #changes = new ChangeLog();
  readonly #listeners: ((changes: StoreChanges) => void)[] = [];
  #queue: Job[] = [];
  #flushing: Promise<void> | null = null;
  #lazyTimer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Why nothing can be written any more, until the next start. */
  #failure: Error | null = null;

  constructor(options: {
    readonly writer: SqliteConnection;
    readonly reader: SqliteConnection;
    readonly seal: Seal;
    readonly checkpointer: Checkpointer;
    readonly log: LogFile;
    readonly busyTimeoutMs: number;
  }) {
    const { writer, reader, seal } = options;
    this.#writer = writer;
    this.#reader = reader;
    this.#busyTimeoutMs = options.busyTimeoutMs;
    this.#checkpointer = options.checkpointer;
    this.#log = options.log;
    this.#writeTx = createTx(writer, this.#changes, seal);
    this.#hotPath = createHotPath(writer, this.#changes, this.#writeTx);
    this.#readTx = createTx(reader, new ChangeLog(), seal);
  }

  async read<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return await fn(this.#readTx);
  }

  write<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#enqueue(() => fn(this.#writeTx));
  }

  accept(acceptance: Acceptance): Promise<void> {
    return this.#enqueue(() => this.#hotPath.accept(acceptance));
  }

  settle(outcome: Outcome): Promise<boolean> {
    return this.#enqueue(() => this.#hotPath.settle(outcome), true);
  }

  claim(
    claims: readonly EndpointClaim[],
    node: number,
    now: number,
    maxBytes?: number,
  ): Promise<{ due: readonly DueDelivery[]; nextDueAt: ReadonlyMap<string, number | null> }> {
    return this.#enqueue(() => this.#hotPath.claim(claims, node, now, maxBytes));
  }

  onChange(listener: (changes: StoreChanges) => void): void {
    this.#listeners.push(listener);
  }

  async now(): Promise<number> {
    return Date.now();
  }

  async sizeBytes(): Promise<number> {
    // Pages that deletions have freed are used again before the file grows.
    const row = await this.#reader.get(
      `select (page_count - freelist_count) * page_size as bytes
       from pragma_page_count(), pragma_freelist_count(), pragma_page_size()`,
    );
    return Number(row?.["bytes"]);
  }

  async ping(): Promise<void> {
    if (this.#failure) throw this.#failure;
    await this.#reader.get("select 1 from facts");
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#queue.length > 0) this.#startFlush();
    await this.#flushing;
    await this.#checkpointer.close();
    await this.#log.close();
    this.#reader.close();
    this.#writer.close();
  }

  #enqueue<T>(run: () => Promise<T>, isLazy = false): Promise<T> {
    if (this.#closed) return Promise.reject(new ServiceError("unavailable", "The service is stopping"));
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run, resolve: resolve as (value: unknown) => void, reject });
      if (isLazy && this.#flushing === null) {
        this.#lazyTimer ??= setTimeout(() => {
          this.#startFlush();
        }, lazyMs);
      } else this.#startFlush();
    });
  }

  #startFlush(): void {
    clearTimeout(this.#lazyTimer);
    this.#lazyTimer = undefined;
    this.#flushing ??= this.#flush();
  }

  async #flush(): Promise<void> {
    while (this.#queue.length > 0) {
      await this.#gather();
      const jobs = this.#queue.length > maxBatch ? this.#queue.splice(0, maxBatch) : this.#queue;
      if (jobs === this.#queue) this.#queue = [];
      try {
        if (this.#failure) throw this.#failure;
        const outcomes = (await this.#transact(jobs, false)) ?? (await this.#transact(jobs, true)) ?? [];
        await this.#sync();
        if (!this.#changes.isEmpty) for (const listener of this.#listeners) listener(this.#changes);
        for (const [index, outcome] of outcomes.entries()) {
          if (outcome.status === "fulfilled") jobs[index]?.resolve(outcome.value);
          else jobs[index]?.reject(outcome.reason);
        }
      } catch (cause) {
        for (const job of jobs) {
          job.reject(new ServiceError("unavailable", "The database cannot be written", { cause }));
        }
      }
      this.#changes.clear();
    }
    this.#flushing = null;
  }

  /**
   * Waits for a turn of the event loop, and for further ones as long as each brings more writes: a commit costs about as
   * much for a hundred as for one.
   */
  async #gather(): Promise<void> {
    let gathered = -1;
    for (let turns = 0; turns < maxTurns && gathered < this.#queue.length; turns++) {
      gathered = this.#queue.length;
      await new Promise(setImmediate);
    }
  }

  /**
   * Runs the jobs in one transaction. The usual case pays for nothing but that; when a job throws after it has changed
   * something, all is rolled back and the answer is null. With `guarded` each job has a savepoint, so that the ones that
   * throw fail alone.
   *
   * @throws when the transaction as a whole cannot be made
   */
  async #transact(jobs: readonly Job[], guarded: boolean): Promise<PromiseSettledResult<unknown>[] | null> {
    const outcomes: PromiseSettledResult<unknown>[] = [];
    this.#changes.clear();
    await this.#begin();
    try {
      for (const job of jobs) {
        const writesBefore = this.#writer.writes;
        if (guarded) this.#writer.execute("savepoint job");
        try {
          outcomes.push({ status: "fulfilled", value: await job.run() });
        } catch (reason) {
          // Some errors, such as a full disk, end the whole transaction.
          if (!this.#writer.inTransaction) throw reason;
          if (guarded) this.#writer.execute("rollback to job");
          else if (this.#writer.writes !== writesBefore) return null;
          outcomes.push({ status: "rejected", reason });
        }
        if (guarded) this.#writer.execute("release job");
      }
      this.#writer.execute("commit");
      this.#checkpointer.committed();
      return outcomes;
    } finally {
      if (this.#writer.inTransaction) this.#writer.execute("rollback");
    }
  }

  async #sync(): Promise<void> {
    try {
      await this.#log.sync();
    } catch (error) {
      // What the operating system could not write it may have forgotten: a later success would prove nothing.
      this.#failure = error instanceof Error ? error : new Error(String(error));
      throw this.#failure;
    }
  }

  /** Begins a transaction, waiting for other processes without holding the event loop. */
  async #begin(): Promise<void> {
    const giveUpAt = performance.now() + this.#busyTimeoutMs;
    for (;;) {
      try {
        this.#writer.execute("begin immediate");
        return;
      } catch (error) {
        if (resultCode(error) !== busyCode || performance.now() > giveUpAt) throw error;
        await new Promise((resolve) => setTimeout(resolve, lockRetryMs));
      }
    }
  }
}
