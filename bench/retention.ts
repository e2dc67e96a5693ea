// What a database costs that has very many finished deliveries, and what removing them costs the others:
// `npm run bench:retention -- [--rows 1000000] [--database sqlite|postgres] [--rounds 3] [--data-dir <folder>]`.
//
// The store is filled beside the service's code, in the shape that it leaves behind, and measured through it: empty, full,
// and while the retention worker removes half of what there is.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Client } from "pg";
import { newId } from "../delivery/core/ids.ts";
import { createLogger } from "../delivery/log.ts";
import { openPostgresStore } from "../delivery/store/postgres-store.ts";
import {
  aDelivery,
  aMessage,
  anApplication,
  anAttempt,
  anEndpoint,
  fill,
} from "../delivery/store/scene.suite.ts";
import { openSqliteStore, sqlitePathOf } from "../delivery/store/sqlite-store.ts";
import type { DueDelivery, Store } from "../delivery/store/store.ts";
import { RetentionWorker } from "../delivery/worker/retention.ts";
import { describeMachine } from "./machine.ts";
import { startPostgres } from "./postgres.ts";
import { NumberList, toLatency, toSpread, type Latency, type Spread } from "./statistics.ts";

const { values: flags } = parseArgs({
  options: {
    rows: { type: "string", default: "1000000" },
    database: { type: "string", default: "sqlite" },
    rounds: { type: "string", default: "3" },
    "data-dir": { type: "string", default: tmpdir() },
  },
});
const rows = Number(flags.rows);
const rounds = Number(flags.rounds);
if (!(rows >= 1_000 && rounds >= 1) || !["sqlite", "postgres"].includes(flags.database)) {
  throw new Error(
    "Give --rows of at least 1000, --rounds of at least 1, and sqlite or postgres as --database.",
  );
}

/** Events of one measurement, and how many are under way at a time. */
const events = 10_000;
const concurrency = 64;
/** The open loop that is measured while messages are removed. */
const perSecond = 200;
const openLoopMs = 20_000;
/** Rows that one statement of the filling puts in. */
const chunk = 100_000;
const dayMs = 24 * 60 * 60_000;

/** A store with one application, whose events go to one endpoint; the finished ones are another's. */
interface Opened extends AsyncDisposable {
  readonly store: Store;
  /** What deliveries are held by. */
  readonly node: number;
  /** Of the application. */
  readonly version: number;
  readonly emptyPayload: string;
  query(text: string): Promise<readonly Record<string, unknown>[]>;
  /** Brings to disk, and into its statistics, what was put in. */
  rest(): Promise<void>;
}

interface Databases extends AsyncDisposable {
  /** One transaction of the store's retention, as the service has it. */
  readonly transactionMs: number;
  open(name: string): Promise<Opened>;
}

const logger = createLogger("warn");
const application = anApplication();
const endpoint = anEndpoint(application);
const others = anEndpoint(application);

const folder = await mkdtemp(path.join(flags["data-dir"], "hookplane-retention-"));
try {
  const machine = describeMachine(folder);
  await using databases = flags.database === "sqlite" ? sqliteDatabases() : await postgresDatabases();
  await using empty = await databases.open("empty");
  await using full = await databases.open("full");
  const filledAt = Date.now();
  for (let done = 0; done < rows; done += chunk) {
    // Half of them are old enough to be removed.
    const from = filledAt - (done < rows / 2 ? 100 : 50) * dayMs + done;
    await fill(full, others, Math.min(chunk, rows - done), { from });
  }
  // What the filling has left to be written would slow down whatever is synced after it.
  await full.rest();
  const fillSeconds = (Date.now() - filledAt) / 1_000;
  const bytes = await full.store.sizeBytes();

  // In turns, so that whatever else the machine does meets both.
  const rates = [createRates(), createRates()] as const;
  for (let round = 0; round < rounds; round++) {
    await measure(empty, rates[0]);
    await measure(full, rates[1]);
  }

  const atRest = await openLoop(full);
  const whileBeginning = await openLoopBesideRemoval(full, databases.transactionMs);
  // As fast as it goes when it is very late.
  const whileLate = await openLoopBesideRemoval(full, databases.transactionMs, 4);

  console.log(
    JSON.stringify(
      {
        machine,
        database: flags.database,
        finishedDeliveries: rows,
        gigabytes: Number((bytes / 1e9).toFixed(2)),
        fillSeconds: Math.round(fillSeconds),
        perSecond: { empty: toSpreads(rates[0]), full: toSpreads(rates[1]) },
        acceptedMs: { atRest, whileBeginning, whileLate },
      },
      undefined,
      2,
    ),
  );
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Events a second that are accepted, settled, and claimed from the store: of each round. */
type Rates = Readonly<Record<"accept" | "settle" | "claim", number[]>>;

function createRates(): Rates {
  return { accept: [], settle: [], claim: [] };
}

function toSpreads({ accept, settle, claim }: Rates): Record<keyof Rates, Spread> {
  return { accept: toSpread(accept), settle: toSpread(settle), claim: toSpread(claim) };
}

async function measure(database: Opened, rates: Rates): Promise<void> {
  const { store, node } = database;
  const held: DueDelivery[] = [];
  const acceptHeld = async (): Promise<void> => {
    held.push(await accept(database, node));
  };
  rates.accept.push(await timed(() => inTurns(acceptHeld)));
  rates.settle.push(await timed(() => inTurns((index) => settle(database, held[index]!))));
  await inTurns(async () => {
    await accept(database, null);
  });
  const claimed: DueDelivery[] = [];
  rates.claim.push(
    await timed(async () => {
      while (claimed.length < events) {
        const { due } = await store.claim([{ endpointId: endpoint.id, limit: 128 }], node, Date.now());
        claimed.push(...due);
      }
    }),
  );
  await inTurns((index) => settle(database, claimed[index]!));
}

/** How long it takes to accept an event, of which so many come a second. */
async function openLoop(database: Opened): Promise<Latency> {
  const durations = new NumberList();
  const startedAt = performance.now();
  const running = new Set<Promise<void>>();
  for (let sent = 0; performance.now() - startedAt < openLoopMs; sent++) {
    const at = startedAt + (sent * 1_000) / perSecond;
    if (at > performance.now()) await sleep(at - performance.now());
    // A timer may go off a little early.
    const from = Math.min(at, performance.now());
    const event = accept(database, database.node)
      .then((due) => {
        durations.push(performance.now() - from);
        return settle(database, due);
      })
      .finally(() => running.delete(event));
    running.add(event);
  }
  await Promise.all(running);
  return toLatency(durations.toArray());
}

/** The same while messages are removed, and how many of those a second. */
async function openLoopBesideRemoval(
  database: Opened,
  transactionMs: number,
  maxRestFactor?: number,
): Promise<Latency & { readonly removedPerSecond: number }> {
  const { store, node } = database;
  const worker = new RetentionWorker({
    store,
    membership: { number: node, holds: () => true },
    rules: { retentionMs: 75 * dayMs, payloadRetentionMs: null, retentionMaxBytes: null },
    transactionMs,
    ...(maxRestFactor !== undefined && { maxRestFactor }),
    logger,
  });
  const count = async (): Promise<number> =>
    Number((await database.query("select count(*) as amount from messages"))[0]!["amount"]);
  const before = await count();
  worker.start();
  const latency = await openLoop(database);
  await worker.stop();
  const removed = before + latency.count - (await count());
  return { ...latency, removedPerSecond: Math.round(removed / (openLoopMs / 1_000)) };
}

/** @param node that holds the delivery at once; null for one that is to be claimed */
async function accept({ store, version }: Opened, node: number | null): Promise<DueDelivery> {
  const now = Date.now();
  const message = aMessage(application, { id: newId("msg", now), createdAt: now });
  const delivery = aDelivery(message, endpoint, {
    state: "pending",
    attempts: 0,
    nextAttemptAt: now,
    leasedBy: node,
  });
  await store.accept({ message, version, deliveries: [delivery], answer: null });
  return { message, delivery: { ...delivery, place: null } };
}

async function settle({ store, node }: Opened, { message, delivery }: DueDelivery): Promise<void> {
  const now = Date.now();
  const isRecorded = await store.settle({
    attempt: anAttempt(message, endpoint, { id: newId("atmpt", now), startedAt: now }),
    delivery: { ...delivery, state: "succeeded", attempts: 1, nextAttemptAt: null, leasedBy: null },
    node,
    now,
    endpointState: null,
  });
  if (!isRecorded) throw new Error(`"${message.id}" was not recorded`);
}

/** Does it for every event of a measurement, at most 64 at a time. */
async function inTurns(work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < events) await work(next++);
    }),
  );
}

/** How many of the events a second that takes. */
async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return Math.round(events / ((performance.now() - startedAt) / 1_000));
}

async function prepare(store: Store): Promise<Pick<Opened, "store" | "node" | "version">> {
  const node = await store.write(async (tx) => {
    await tx.applications.insert(application);
    await tx.endpoints.insert(endpoint);
    await tx.endpoints.insert(others);
    return await tx.nodes.join(Number.MAX_SAFE_INTEGER);
  });
  const { version } = (await store.read((tx) => tx.applications.get(application.id)))!;
  return { store, node, version };
}

function sqliteDatabases(): Databases {
  return {
    transactionMs: 2,
    async open(name) {
      const own = path.join(folder, name);
      await mkdir(own);
      const store = await openSqliteStore(own);
      const database = new DatabaseSync(sqlitePathOf(own), { timeout: 60_000 });
      // The filling alone: what it puts in need not be there after a crash.
      database.exec("pragma synchronous = off; pragma cache_size = -200000");
      return {
        ...(await prepare(store)),
        emptyPayload: "x'7b7d'",
        query: async (text) => database.prepare(text).all(),
        async rest() {
          database.exec("pragma synchronous = full; pragma wal_checkpoint(truncate)");
        },
        async [Symbol.asyncDispose]() {
          database.close();
          await store.close();
        },
      };
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

async function postgresDatabases(): Promise<Databases> {
  const server = await startPostgres(folder);
  return {
    transactionMs: 20,
    async open(name) {
      const url = await server.createDatabase(`retention_${name}`);
      const store = await openPostgresStore({ url, masterKeyFile: path.join(folder, `${name}.key`) });
      const client = new Client(url);
      await client.connect();
      return {
        ...(await prepare(store)),
        emptyPayload: String.raw`'\x7b7d'::bytea`,
        query: async (text) => (await client.query<Record<string, unknown>>(text)).rows,
        async rest() {
          await client.query("vacuum analyze");
          await client.query("checkpoint");
        },
        async [Symbol.asyncDispose]() {
          await client.end();
          await store.close();
        },
      };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
