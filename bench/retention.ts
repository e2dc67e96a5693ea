// What a database costs that has very many finished deliveries, and what removing them costs the others:
// `npm run bench:retention -- [--rows 1000000] [--database sqlite|postgres] [--rounds 3] [--data-dir <folder>]`.
//
// The store is filled beside the service's code, in the shape that it leaves behind, and measured through it: empty, full,
// and while the retention worker removes half of what there is.
import { mkdtemp, rm } from "node:fs/promises";
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

interface Opened extends AsyncDisposable {
  readonly store: Store;
  readonly emptyPayload: string;
  /** One transaction of the store's retention, as the service has it. */
  readonly transactionMs: number;
  query(text: string): Promise<readonly Record<string, unknown>[]>;
}

const logger = createLogger("warn");
const application = anApplication();
const endpoint = anEndpoint(application);
const others = anEndpoint(application);
let version = 0;

const folder = await mkdtemp(path.join(flags["data-dir"], "hookplane-retention-"));
try {
  const machine = describeMachine(folder);
  await using opened = flags.database === "sqlite" ? await openSqlite() : await openPostgres();
  const { store } = opened;
  await store.write(async (tx) => {
    await tx.applications.insert(application);
    await tx.endpoints.insert(endpoint);
    await tx.endpoints.insert(others);
  });
  version = (await store.read((tx) => tx.applications.get(application.id)))!.version;
  const node = await store.write((tx) => tx.nodes.join(Number.MAX_SAFE_INTEGER));

  const empty = await measure(store, node);
  // Half of them are old enough to be removed.
  const filledAt = Date.now();
  for (let done = 0; done < rows; done += chunk) {
    const from = filledAt - (done < rows / 2 ? 100 : 50) * dayMs + done;
    await fill(opened, others, Math.min(chunk, rows - done), { from });
  }
  if (flags.database === "postgres") await opened.query("analyze");
  const fillSeconds = (Date.now() - filledAt) / 1_000;
  const bytes = await store.sizeBytes();
  const full = await measure(store, node);

  const quiet = await openLoop(store, node, () => false);
  const worker = new RetentionWorker({
    store,
    membership: { number: node, holds: () => true },
    rules: { retentionMs: 75 * dayMs, payloadRetentionMs: null, retentionMaxBytes: null },
    transactionMs: opened.transactionMs,
    logger,
  });
  const startedAt = Date.now();
  let isSweeping = true;
  const sweeping = worker.sweep().finally(() => {
    isSweeping = false;
  });
  const beside = await openLoop(store, node, () => !isSweeping);
  const report = await sweeping;
  const sweepSeconds = (Date.now() - startedAt) / 1_000;

  console.log(
    JSON.stringify(
      {
        machine,
        database: flags.database,
        finishedDeliveries: rows,
        gigabytes: Number((bytes / 1e9).toFixed(2)),
        fillSeconds,
        perSecond: { empty, full },
        acceptedMs: { atRest: quiet, whileRemoving: beside },
        removed: { ...report, perSecond: Math.round((report?.messages ?? 0) / sweepSeconds) },
      },
      undefined,
      2,
    ),
  );
} finally {
  await rm(folder, { recursive: true, force: true });
}

interface Rates {
  readonly accept: Spread;
  readonly settle: Spread;
  readonly claim: Spread;
}

/** Events a second that are accepted, settled, and claimed from the store. */
async function measure(store: Store, node: number): Promise<Rates> {
  const rates = { accept: [] as number[], settle: [] as number[], claim: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const held: DueDelivery[] = [];
    rates.accept.push(
      await timed(() => inTurns(events, async () => void held.push(await accept(store, node)))),
    );
    rates.settle.push(await timed(() => inTurns(events, async (index) => settle(store, node, held[index]!))));
    await inTurns(events, async () => void (await accept(store, null)));
    const claimed: DueDelivery[] = [];
    rates.claim.push(
      await timed(async () => {
        while (claimed.length < events) {
          const { due } = await store.claim([{ endpointId: endpoint.id, limit: 128 }], node, Date.now());
          claimed.push(...due);
        }
      }),
    );
    await inTurns(events, async (index) => settle(store, node, claimed[index]!));
  }
  return { accept: toSpread(rates.accept), settle: toSpread(rates.settle), claim: toSpread(rates.claim) };
}

/** How long it takes to accept an event, of which so many come a second, until it is time to end. */
async function openLoop(store: Store, node: number, isOver: () => boolean): Promise<Latency> {
  const durations = new NumberList();
  const startedAt = performance.now();
  const running = new Set<Promise<void>>();
  for (let sent = 0; performance.now() - startedAt < openLoopMs && !isOver(); sent++) {
    const at = startedAt + (sent * 1_000) / perSecond;
    if (at > performance.now()) await sleep(at - performance.now());
    // A timer may go off a little early.
    const from = Math.min(at, performance.now());
    const event = accept(store, node)
      .then((due) => {
        durations.push(performance.now() - from);
        return settle(store, node, due);
      })
      .finally(() => running.delete(event));
    running.add(event);
  }
  await Promise.all(running);
  return toLatency(durations.toArray());
}

async function accept(store: Store, node: number | null): Promise<DueDelivery> {
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

async function settle(store: Store, node: number, { message, delivery }: DueDelivery): Promise<void> {
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

/** Does it so many times, at most 64 at a time. */
async function inTurns(times: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (next < times) await work(next++);
    }),
  );
}

/** How many of the events a second that takes. */
async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return Math.round(events / ((performance.now() - startedAt) / 1_000));
}

async function openSqlite(): Promise<Opened> {
  const store = await openSqliteStore(folder);
  const database = new DatabaseSync(sqlitePathOf(folder), { timeout: 60_000 });
  // The filling alone: what it puts in need not be there after a crash.
  database.exec("pragma synchronous = off; pragma cache_size = -200000");
  return {
    store,
    emptyPayload: "x'7b7d'",
    transactionMs: 2,
    query: async (text) => database.prepare(text).all(),
    async [Symbol.asyncDispose]() {
      database.close();
      await store.close();
    },
  };
}

async function openPostgres(): Promise<Opened> {
  const server = await startPostgres(folder);
  const url = await server.createDatabase("retention");
  const store = await openPostgresStore({ url, masterKeyFile: path.join(folder, "master.key") });
  const client = new Client(url);
  await client.connect();
  return {
    store,
    emptyPayload: String.raw`'\x7b7d'::bytea`,
    transactionMs: 20,
    query: async (text) => (await client.query<Record<string, unknown>>(text)).rows,
    async [Symbol.asyncDispose]() {
      await client.end();
      await store.close();
      await server[Symbol.asyncDispose]();
    },
  };
}
