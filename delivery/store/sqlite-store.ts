import { existsSync } from "node:fs";
import { join } from "node:path";
import { ServiceError, StartError } from "../errors.ts";
import { createApplications } from "./applications.ts";
import { createAttempts } from "./attempts.ts";
import { createDeliveries } from "./deliveries.ts";
import { createEndpoints } from "./endpoints.ts";
import { createEventTypes } from "./event-types.ts";
import { createIdempotency } from "./idempotency.ts";
import { loadMasterKey } from "./master-key.ts";
import { createMessages } from "./messages.ts";
import { migrate, readMigrations } from "./migrations.ts";
import { createSeal, type Seal } from "./seal.ts";
import { SqliteConnection } from "./sqlite.ts";
import type { Changes, Sql } from "./sql.ts";
import type { Store, Tx } from "./store.ts";

/** Writes that share one commit at most: it bounds how long the event loop is held by one. */
const maxBatch = 512;
interface Job {
  readonly fn: (tx: Tx) => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Opens the store in a data folder that this process holds (see `openDataFolder`), and makes or migrates its database.
 *
 * @param options `busyTimeoutMs`: how long a write waits for another process, such as a backup; 5 s by default
 * @throws StartError when the database, or the master key beside it, cannot be used
 */
export async function openSqliteStore(
  dataDir: string,
  { busyTimeoutMs = 5_000 }: { busyTimeoutMs?: number } = {},
): Promise<Store> {
  const path = join(dataDir, "hookplane.db");
  const masterKey = loadMasterKey(join(dataDir, "master.key"), !existsSync(path));
  const seal = createSeal(masterKey);
  let writer: SqliteConnection | undefined;
  try {
    writer = new SqliteConnection(path, { readOnly: false, busyTimeoutMs });
    // Synchronous full: a commit is on disk, not just with the operating system, before anybody hears of it.
    writer.execute("pragma journal_mode = wal; pragma synchronous = full; pragma wal_autocheckpoint = 4000");
    await migrate(writer, path, readMigrations());
    await checkMasterKey(writer, seal, dataDir);
    const reader = new SqliteConnection(path, { readOnly: true, busyTimeoutMs });
    return new SqliteStore(writer, reader, seal);
  } catch (error) {
    writer?.close();
    if (error instanceof StartError) throw error;
    throw new StartError(
      "database_unusable",
      `The database "${path}" cannot be used: ${error instanceof Error ? error.message : String(error)}. ` +
        "Restore it from your backup, or choose another folder with --data-dir.",
      { cause: error },
    );
  }
}

/** Opens what the database was made with, so that a wrong key shows now and not at the first delivery. */
async function checkMasterKey(sql: Sql, seal: Seal, dataDir: string): Promise<void> {
  const place = "facts.master_key";
  const known = await sql.get("select value from facts where name = 'master_key'");
  if (!known) {
    await sql.run("insert into facts (name, value) values ('master_key', ?)", seal.close("right", place));
    return;
  }
  try {
    seal.open(known["value"] as string, place);
  } catch (cause) {
    throw new StartError(
      "master_key_unusable",
      `The master key "${join(dataDir, "master.key")}" is not the one that this database was made with. ` +
        "Restore the file from your backup.",
      { cause },
    );
  }
}

class SqliteStore implements Store {
  readonly #writer: SqliteConnection;
  readonly #reader: SqliteConnection;
  readonly #writeTx: Tx;
  readonly #readTx: Tx;
  readonly #changed = new Set<string>();
  readonly #listeners: ((applicationIds: ReadonlySet<string>) => void)[] = [];
  #queue: Job[] = [];
  #flushing: Promise<void> | null = null;
  #closed = false;

  constructor(writer: SqliteConnection, reader: SqliteConnection, seal: Seal) {
    this.#writer = writer;
    this.#reader = reader;
    this.#writeTx = createTx(writer, this.#changed, seal);
    this.#readTx = createTx(reader, new Set(), seal);
  }

  async read<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return await fn(this.#readTx);
  }

  write<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new ServiceError("unavailable", "The service is stopping"));
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ fn, resolve: resolve as (value: unknown) => void, reject });
      this.#flushing ??= this.#flush();
    });
  }

  onChange(listener: (applicationIds: ReadonlySet<string>) => void): void {
    this.#listeners.push(listener);
  }

  async ping(): Promise<void> {
    await this.#reader.get("select 1 from facts");
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#flushing;
    this.#reader.close();
    this.#writer.close();
  }

  async #flush(): Promise<void> {
    while (this.#queue.length > 0) {
      // All callbacks of this turn of the event loop get to queue their writes first.
      await new Promise(setImmediate);
      const jobs = this.#queue.splice(0, maxBatch);
      try {
        const outcomes = (await this.#transact(jobs, false)) ?? (await this.#transact(jobs, true)) ?? [];
        if (this.#changed.size > 0) for (const listener of this.#listeners) listener(this.#changed);
        for (const [index, outcome] of outcomes.entries()) {
          if (outcome.status === "fulfilled") jobs[index]?.resolve(outcome.value);
          else jobs[index]?.reject(outcome.reason);
        }
      } catch (cause) {
        for (const job of jobs) {
          job.reject(new ServiceError("unavailable", "The database cannot be written", { cause }));
        }
      }
      this.#changed.clear();
    }
    this.#flushing = null;
  }

  /**
   * Runs the jobs in one transaction. The usual case pays for nothing but that; when a job throws, all is rolled back
   * and the answer is null. With `guarded` each job has a savepoint, so that the ones that throw fail alone.
   *
   * @throws when the transaction as a whole cannot be made
   */
  async #transact(jobs: readonly Job[], guarded: boolean): Promise<PromiseSettledResult<unknown>[] | null> {
    const outcomes: PromiseSettledResult<unknown>[] = [];
    this.#writer.execute("begin immediate");
    try {
      for (const job of jobs) {
        if (guarded) this.#writer.execute("savepoint job");
        try {
          outcomes.push({ status: "fulfilled", value: await job.fn(this.#writeTx) });
        } catch (reason) {
          // Some errors, such as a full disk, end the whole transaction.
          if (!this.#writer.inTransaction) throw reason;
          if (!guarded) return null;
          this.#writer.execute("rollback to job");
          outcomes.push({ status: "rejected", reason });
        }
        if (guarded) this.#writer.execute("release job");
      }
      this.#writer.execute("commit");
      return outcomes;
    } finally {
      if (this.#writer.inTransaction) this.#writer.execute("rollback");
    }
  }
}

function createTx(sql: Sql, changes: Changes, seal: Seal): Tx {
  return {
    applications: createApplications(sql, changes),
    endpoints: createEndpoints(sql, changes, seal),
    eventTypes: createEventTypes(sql),
    messages: createMessages(sql),
    deliveries: createDeliveries(sql),
    attempts: createAttempts(sql),
    idempotency: createIdempotency(sql),
  };
}
