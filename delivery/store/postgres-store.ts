import pg from "pg";
import { ServiceError, StartError } from "../errors.ts";
import { ChangeLog } from "./change-log.ts";
import { createLane, type Lane, type LaneOptions } from "./lane.ts";
import { openSeal } from "./master-key.ts";
import { migratePostgres, readMigrations, startLock } from "./migrations.ts";
import {
  acceptBatch,
  claimDue,
  hotSession,
  indexSession,
  settleBatch,
  type Claimed,
} from "./postgres-hot-path.ts";
import { createDoubts, type Doubts, type HeldDelivery } from "./postgres-doubts.ts";
import { readSize } from "./postgres-size.ts";
import { toPostgresStartError } from "./postgres-start-failure.ts";
import {
  createPool,
  PostgresConnection,
  readUniqueRules,
  toStoreError,
  wasRolledBack,
  type UniqueRules,
} from "./postgres.ts";
import type { Seal } from "./seal.ts";
import {
  ConflictError,
  MissingError,
  type Acceptance,
  type DueDelivery,
  type EndpointClaim,
  type Outcome,
  type Store,
  type StoreChanges,
  type Tx,
} from "./store.ts";
import { createTx } from "./tables.ts";

/** How a database is opened; times are bounds. */
export interface PostgresOptions {
  /** A `postgres://` URL; its `sslmode` and other parameters count as they do for libpq. Secret. */
  readonly url: string;
  /** Made where it is missing and the database is new. */
  readonly masterKeyFile: string;
  /** Connections of this process, at least 6. */
  readonly maxConnections?: number;
  /** How long making a connection, or waiting for one to be free, may take; 5 s by default. */
  readonly connectTimeoutMs?: number;
  /** How long a statement may take, its waiting for locks included; 10 s by default. A migration may take any time. */
  readonly statementTimeoutMs?: number;
}

/** Tries of a transaction that is rolled back in favor of others, before that is an outage. */
const maxTries = 8;
/** Batches of each kind that may be under way: while one waits for the disk, the next one is made. */
const acceptWidth = 2;
const settleWidth = 1;
const claimWidth = 1;
const orderedWidth = 1;
const hotConnections = acceptWidth + settleWidth + claimWidth + orderedWidth;
/** Bounds how long the event loop is held by making a batch, and the memory that both sides need for it. */
const maxBatch = 512;
const maxBatchBytes = 4 * 1024 * 1024;

/** How long a record that nobody waits for may wait for others to share its commit with. */
const settleLingerMs = 2;

interface Job<I, O> {
  readonly input: I;
  readonly resolve: (value: O) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Opens the store in a PostgreSQL database, which other nodes may share, and makes or migrates its tables in the schema
 * that new tables go to.
 *
 * @throws StartError when the database or its master key cannot be used
 */
export async function openPostgresStore({
  url,
  masterKeyFile,
  maxConnections = 10,
  connectTimeoutMs = 5_000,
  statementTimeoutMs = 10_000,
}: PostgresOptions): Promise<Store> {
  const name = databaseOf(url);
  const settings = { url, connectTimeoutMs, statementTimeoutMs };
  try {
    await prepareDatabase(url, name, connectTimeoutMs);
  } catch (error) {
    throw toPostgresStartError(name, error);
  }
  const tableConnections = Math.max(1, maxConnections - hotConnections);
  const pool = createPool({ ...settings, maxConnections: tableConnections, session: indexSession });
  const hotPool = createPool({ ...settings, maxConnections: hotConnections, session: hotSession });
  try {
    const client = await pool.connect();
    try {
      const rules = await readUniqueRules(client);
      const sql = new PostgresConnection(client, rules, { isWriter: true });
      // Of nodes that start together on a new database, one makes the key and the others find it.
      await sql.run("begin");
      await sql.get("select pg_advisory_xact_lock(?)", startLock);
      const seal = await openSeal(sql, masterKeyFile);
      await sql.run("commit");
      return new PostgresStore(pool, hotPool, rules, seal);
    } finally {
      client.release(client.getTransactionStatus() !== "I");
    }
  } catch (error) {
    await Promise.all([pool.end(), hotPool.end()]);
    throw toPostgresStartError(name, error);
  }
}

/** The database's own name, which may be told where its URL may not. */
function databaseOf(url: string): string {
  return decodeURIComponent(URL.parse(url)?.pathname.slice(1) ?? "") || "postgres";
}

async function prepareDatabase(url: string, name: string, connectTimeoutMs: number): Promise<void> {
  const client = new pg.Client({
    connectionString: url,
    fallback_application_name: "hookplane",
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
  });
  client.on("error", () => undefined);
  await client.connect();
  try {
    await refuseUnsuitable(client, name);
    await migratePostgres(client, name, readMigrations("postgres"));
  } finally {
    await client.end();
  }
}

const oldestVersion = 14;

async function refuseUnsuitable(client: pg.Client, name: string): Promise<void> {
  const { rows } = await client.query<{ version: number; encoding: string }>(
    `select current_setting('server_version_num')::int / 10000 as version,
       current_setting('server_encoding') as encoding`,
  );
  const { version, encoding } = rows[0] ?? { version: 0, encoding: "" };
  if (version < oldestVersion) {
    throw new StartError(
      "database_unusable",
      `The database "${name}" is on PostgreSQL ${version}: version ${oldestVersion} or newer is needed.`,
    );
  }
  if (encoding !== "UTF8") {
    throw new StartError(
      "database_unusable",
      `The database "${name}" has the encoding "${encoding}": make one with encoding UTF8.`,
    );
  }
}

/** What belongs to a connection as long as that lives. */
interface Session {
  readonly reading: Tx;
  readonly writing: Tx;
  readonly changes: ChangeLog;
  readonly writer: PostgresConnection;
}

class PostgresStore implements Store {
  readonly #pool: pg.Pool;
  readonly #hotPool: pg.Pool;
  readonly #rules: UniqueRules;
  readonly #seal: Seal;
  readonly #sessions = new WeakMap<pg.ClientBase, Session>();
  readonly #listeners: ((changes: StoreChanges) => void)[] = [];
  readonly #doubts: Doubts;
  readonly #accepts: Lane<Job<Acceptance, void>>;
  readonly #orderedAccepts: Lane<Job<Acceptance, void>>;
  readonly #settles: Lane<Job<Outcome, boolean>>;
  readonly #claims: Lane<Job<ClaimInput, Claimed>>;
  readonly #running = new Set<Promise<unknown>>();
  #closing: Promise<void> | null = null;

  constructor(pool: pg.Pool, hotPool: pg.Pool, rules: UniqueRules, seal: Seal) {
    this.#pool = pool;
    this.#hotPool = hotPool;
    this.#rules = rules;
    this.#seal = seal;
    this.#doubts = createDoubts(pool, (changes) => {
      this.#tell(changes);
    });
    const accepting: LaneOptions<Job<Acceptance, void>> = {
      width: acceptWidth,
      maxJobs: maxBatch,
      maxBytes: maxBatchBytes,
      lingerMs: 0,
      bytesOf: ({ input }) => (input.message.payload?.length ?? 0) + (input.answer?.body.length ?? 0),
      keysOf: ({ input: { message, answer } }) => {
        const keys = [message.id];
        if (message.eventId !== null) keys.push(`event ${message.applicationId} ${message.eventId}`);
        if (answer) keys.push(`answer ${answer.key}`);
        return keys;
      },
    };
    this.#accepts = createLane(accepting, (jobs) => this.#acceptAll(this.#accepts, jobs));
    // One batch after the other, so that those of one publisher get their places as they came.
    this.#orderedAccepts = createLane({ ...accepting, width: orderedWidth }, (jobs) =>
      this.#acceptAll(this.#orderedAccepts, jobs),
    );
    this.#settles = createLane(
      {
        width: settleWidth,
        maxJobs: maxBatch,
        maxBytes: maxBatchBytes,
        lingerMs: settleLingerMs,
        bytesOf: ({ input: { attempt } }) => attempt?.response.length ?? 0,
        keysOf: ({ input: { delivery } }) => [`${delivery.messageId} ${delivery.endpointId}`],
      },
      (jobs) => this.#settleAll(jobs),
    );
    this.#claims = createLane(
      { width: claimWidth, maxJobs: 1, maxBytes: Infinity, lingerMs: 0, bytesOf: () => 0, keysOf: () => [] },
      (jobs) => this.#claimAll(jobs),
    );
  }

  read<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#with((_, { reading }) => fn(reading));
  }

  write<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    if (this.#closing) return Promise.reject(stopping());
    return this.#with(async (client, session) => {
      let isRepeated = false;
      for (let tries = 1; ; tries++) {
        try {
          return await this.#transact(client, session, fn);
        } catch (error) {
          // Somebody else may have been first to make what this one looked for and did not find: now it is found.
          const failed = session.writer.failure;
          const isLost: boolean =
            !isRepeated && (failed instanceof ConflictError || failed instanceof MissingError);
          if (!isLost && (!wasRolledBack(failed) || tries === maxTries)) throw error;
          isRepeated ||= isLost;
        }
      }
    });
  }

  accept(acceptance: Acceptance): Promise<void> {
    const isOrdered = acceptance.deliveries.some(({ order }) => order !== null);
    return this.#push(isOrdered ? this.#orderedAccepts : this.#accepts, acceptance);
  }

  settle(outcome: Outcome): Promise<boolean> {
    // In an order, the next one waits for it.
    return this.#push(this.#settles, outcome, outcome.delivery.place !== null);
  }

  claim(claims: readonly EndpointClaim[], node: number, now: number, maxBytes?: number): Promise<Claimed> {
    return this.#push(this.#claims, { claims, node, now, maxBytes });
  }

  onChange(listener: (changes: StoreChanges) => void): void {
    this.#listeners.push(listener);
  }

  now(): Promise<number> {
    return this.#ask("select floor(extract(epoch from clock_timestamp()) * 1000)::bigint as answer");
  }

  sizeBytes(): Promise<number> {
    return this.#inspect(readSize);
  }

  async ping(): Promise<void> {
    await this.#ask("select count(*) as answer from (select 1 from facts limit 1) as known");
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    // What was begun is done before the connections go; a write may still be on its way to one.
    const lanes = [this.#accepts, this.#orderedAccepts, this.#settles, this.#claims];
    await Promise.all(lanes.map((lane) => lane.drain()));
    await Promise.allSettled(this.#running);
    await this.#doubts.close();
    await Promise.all([this.#pool.end(), this.#hotPool.end()]);
  }

  #push<I, O>(lane: Lane<Job<I, O>>, input: I, isUrgent = true): Promise<O> {
    if (this.#closing) return Promise.reject(stopping());
    return new Promise((resolve, reject) => {
      lane.push({ input, resolve, reject }, isUrgent);
    });
  }

  async #ask(text: string): Promise<number> {
    return await this.#inspect(async (client) => {
      const { rows } = await client.query<{ answer: number }>(text);
      return rows[0]?.answer ?? 0;
    });
  }

  /** Runs something that throws nothing but what the database does. */
  #inspect<T>(fn: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.#with((client) => this.#translated(fn(client)));
  }

  /** Runs something on a connection of the general pool. */
  #with<T>(fn: (client: pg.PoolClient, session: Session) => Promise<T>): Promise<T> {
    const running = this.#borrow(this.#pool, (client) => fn(client, this.#sessionOf(client)));
    this.#running.add(running);
    const done = (): void => {
      this.#running.delete(running);
    };
    running.then(done, done);
    return running;
  }

  async #borrow<T>(pool: pg.Pool, fn: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    if (pool.ending) throw stopping();
    const client = await this.#translated(pool.connect());
    try {
      const result = await fn(client);
      client.release();
      return result;
    } catch (error) {
      const isUsable = client.getTransactionStatus() === "I" && (!isOutage(error) || wasRolledBack(error));
      client.release(!isUsable);
      throw error;
    }
  }

  async #translated<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      throw toStoreError(error, this.#rules);
    }
  }

  #sessionOf(client: pg.ClientBase): Session {
    let session = this.#sessions.get(client);
    if (session === undefined) {
      const changes = new ChangeLog();
      const reader = new PostgresConnection(client, this.#rules, { isWriter: false });
      const writer = new PostgresConnection(client, this.#rules, { isWriter: true });
      session = {
        reading: createTx(reader, new ChangeLog(), this.#seal),
        writing: createTx(writer, changes, this.#seal),
        changes,
        writer,
      };
      this.#sessions.set(client, session);
    }
    return session;
  }

  async #transact<T>(
    client: pg.PoolClient,
    { writing, writer, changes }: Session,
    fn: (tx: Tx) => Promise<T>,
  ): Promise<T> {
    writer.reset();
    changes.clear();
    try {
      await writer.run("begin");
      const result = await fn(writing);
      // The database has undone everything at the first error, whether or not the function has made light of it.
      const { failure } = writer;
      if (failure !== null) throw failure;
      await writer.run("commit");
      this.#tell(changes);
      return result;
    } catch (error) {
      await client.query("rollback").catch(() => undefined);
      throw error;
    }
  }

  #tell(changes: ChangeLog): void {
    if (changes.isEmpty) return;
    for (const listener of this.#listeners) listener(changes);
  }

  #acceptAll(lane: Lane<Job<Acceptance, void>>, jobs: readonly Job<Acceptance, void>[]): Promise<void> {
    return this.#runBatch(
      lane,
      jobs,
      (client, changes, batch) => acceptBatch(client, changes, batch),
      (job, refusal) => {
        if (refusal === undefined) job.resolve();
        else job.reject(refusal);
      },
      ({ deliveries }) => deliveries,
    );
  }

  #settleAll(jobs: readonly Job<Outcome, boolean>[]): Promise<void> {
    return this.#runBatch(
      this.#settles,
      jobs,
      (client, changes, batch) => settleBatch(client, changes, batch),
      (job, isSettled) => {
        job.resolve(isSettled);
      },
      () => [],
    );
  }

  /**
   * Does a batch in one transaction, and each job by itself where one of them spoils it for the others.
   *
   * @param heldBy what the node would hold of a job's without knowing, if the transaction was committed unheard
   */
  async #runBatch<I, O, R>(
    lane: Lane<Job<I, O>>,
    jobs: readonly Job<I, O>[],
    run: (client: pg.ClientBase, changes: ChangeLog, batch: readonly I[]) => Promise<R[]>,
    answer: (job: Job<I, O>, result: R) => void,
    heldBy: (input: I) => readonly HeldDelivery[],
  ): Promise<void> {
    const inputs = jobs.map(({ input }) => input);
    let used: pg.PoolClient | undefined;
    for (let tries = 1; ; tries++) {
      const changes = new ChangeLog();
      try {
        const results = await this.#borrow(this.#hotPool, (client) => {
          used = client;
          return this.#translated(run(client, changes, inputs));
        });
        this.#tell(changes);
        for (const [index, job] of jobs.entries()) answer(job, results[index] as R);
        return;
      } catch (error) {
        if (wasRolledBack(error) && tries < maxTries) continue;
        if (jobs.length > 1 && !isOutage(error)) break;
        if (used !== undefined) this.#doubts.add(used, inputs.flatMap(heldBy));
        for (const job of jobs) job.reject(error);
        // Where there is no connection to be had, the others need not wait for that one by one.
        if (used === undefined) for (const job of lane.takeWaiting()) job.reject(error);
        return;
      }
    }
    for (const job of jobs) await this.#runBatch(lane, [job], run, answer, heldBy);
  }

  async #claimAll([job]: readonly Job<ClaimInput, Claimed>[]): Promise<void> {
    if (job === undefined) return;
    const { claims, node, now, maxBytes } = job.input;
    let used: pg.PoolClient | undefined;
    let claimed: Claimed | undefined;
    try {
      const result = await this.#borrow(this.#hotPool, async (client) => {
        used = client;
        const found = await this.#translated(claimDue(client, claims, node, now, maxBytes));
        claimed = found;
        await this.#translated(client.query("commit"));
        return found;
      });
      job.resolve(result);
    } catch (error) {
      const due: readonly DueDelivery[] = claimed?.due ?? [];
      if (used !== undefined)
        this.#doubts.add(
          used,
          due.map(({ delivery }) => delivery),
        );
      job.reject(error);
    }
  }
}

interface ClaimInput {
  readonly claims: readonly EndpointClaim[];
  readonly node: number;
  readonly now: number;
  readonly maxBytes: number | undefined;
}

function isOutage(error: unknown): boolean {
  return error instanceof ServiceError && error.code === "unavailable";
}

function stopping(): ServiceError {
  return new ServiceError("unavailable", "The service is stopping");
}
