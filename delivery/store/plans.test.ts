import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, test } from "vitest";
import { firstIdAt } from "../core/ids.ts";
import { defaultOrganizationId } from "../core/organization.ts";
import { ChangeLog } from "./change-log.ts";
import { createHotPath } from "./hot-path.ts";
import { openSeal } from "./master-key.ts";
import {
  aDelivery,
  aMessage,
  anApplication,
  anAttempt,
  anEndpoint,
  fill,
  sceneTime,
  testDatabases,
} from "./scene.suite.ts";
import type { Row, Sql, Value } from "./sql.ts";
import { openSqliteStore, sqlitePathOf } from "./sqlite-store.ts";
import { SqliteConnection } from "./sqlite.ts";
import type { Store, Task } from "./store.ts";
import { createTx } from "./tables.ts";

const postgres = testDatabases.find(({ name }) => name === "PostgreSQL")!;
afterAll(() => postgres.close());

const application = anApplication();
const endpoint = anEndpoint(application);
const gone = anEndpoint(application);

/** What every event, every retention round, every recovery and every start does, each at least once. */
async function exercise(store: Pick<Store, "read" | "write" | "accept" | "settle" | "claim">): Promise<void> {
  const now = sceneTime + 1_000_000;
  const node = await store.write((tx) => tx.nodes.join(now));
  const { version } = (await store.read((tx) => tx.applications.get(application.id)))!;
  const answer = { key: "key", requestHash: "", status: 202, body: "", expiresAt: now + 1 };
  const pending = { state: "pending", attempts: 0, nextAttemptAt: now } as const;
  const messages = [null, "", ""].map((order) => ({
    message: aMessage(application, { createdAt: now }),
    order,
  }));
  for (const [index, { message, order }] of messages.entries()) {
    await store.accept({
      message,
      version,
      deliveries: [aDelivery(message, endpoint, { ...pending, order })],
      answer: index === 0 ? answer : null,
    });
  }
  const { due } = await store.claim([{ endpointId: endpoint.id, limit: 10 }], node, now);
  expect(due).toHaveLength(2);
  for (const { delivery, message } of due) {
    await store.settle({
      attempt: anAttempt(message, endpoint),
      delivery: { ...delivery, state: "succeeded", attempts: 1, nextAttemptAt: null, leasedBy: null },
      node,
      now,
      endpointState: null,
    });
  }

  const window = {
    applicationId: application.id,
    endpointId: endpoint.id,
    after: firstIdAt("msg", sceneTime),
    through: firstIdAt("msg", now - 1),
    limit: 20,
  };
  const stretch = { applicationId: application.id, after: "", before: sceneTime + 100, limit: 20 };
  const ids = messages.map(({ message }) => message.id).sort();
  const of = { applicationId: application.id, endpointId: endpoint.id };
  const task: Task = {
    id: "qtask_1",
    organizationId: defaultOrganizationId,
    applicationId: application.id,
    kind: "endpoint.recover",
    input: "{}",
    cursor: null,
    status: "running",
    done: 0,
    total: null,
    error: null,
    leasedBy: null,
    createdAt: now,
    updatedAt: now,
  };
  await store.write(async (tx) => {
    await tx.applications.find(defaultOrganizationId, "shop");
    await tx.applications.versions([application.id]);
    await tx.applications.list(defaultOrganizationId, { limit: 10 });
    await tx.endpoints.find(application.id, "main");
    await tx.endpoints.list(application.id, { limit: 10 });
    await tx.endpointStates.list(application.id);
    await tx.messages.find(application.id, "order-1");
    await tx.messages.list({ applicationId: application.id }, { limit: 10, descending: true });
    await tx.deliveries.find(ids[0]!, endpoint.id);
    await tx.deliveries.listByMessage(ids[0]!);
    await tx.deliveries.listDue();
    await tx.deliveries.countPending();
    await tx.deliveries.listHeads(endpoint.id, 10);

    const watched = { organizationId: defaultOrganizationId, applicationId: null };
    expect(await tx.recent.listApplications(watched, { limit: 10 })).toHaveLength(1);
    expect(await tx.recent.listEndpoints([application.id])).toHaveLength(1);
    const seen = await tx.recent.messageKeys([application.id], firstIdAt("msg", now), 100);
    expect(seen.map(({ id }) => id).toSorted()).toEqual(ids);
    expect(await tx.recent.listMessages(application.id, ids)).toHaveLength(3);
    // Their ids are those of the messages' time.
    const made = await tx.recent.attemptKeys([endpoint.id], firstIdAt("atmpt", now), 100);
    expect(made).toHaveLength(2);
    const attemptIds = made.map(({ id }) => id);
    expect(await tx.recent.listAttempts(endpoint.id, attemptIds)).toHaveLength(2);

    await tx.tasks.insert(task);
    await tx.tasks.list(defaultOrganizationId, {}, { limit: 10, descending: true });
    await tx.tasks.list(defaultOrganizationId, { applicationId: application.id }, { limit: 10 });
    const claimed = (await tx.tasks.claim(node))!;
    await tx.tasks.update({ ...claimed, done: 1 }, node);

    expect(await tx.replays.newest(application.id)).toBe(ids.at(-1));
    expect(await tx.replays.listSent(window)).toHaveLength(20);
    expect(await tx.replays.listAll(window)).toHaveLength(20);
    await tx.replays.listFull(application.id, ids);
    await tx.replays.reopen(of, [{ messageId: ids[0]!, order: null }], ["succeeded"], now);
    await tx.replays.reopen(of, [{ messageId: ids[1]!, order: "" }], ["succeeded"], now);
    await tx.replays.add(of, [{ messageId: ids[2]!, order: null }], now);
    await tx.replays.countWaiting(endpoint.id, now, 10);

    await tx.retention.takeTurn(node);
    expect(await tx.retention.listApplications("", 10)).toHaveLength(1);
    await tx.retention.oldestAt(application.id, "");
    expect(await tx.retention.removeMessages(stretch, false)).toMatchObject({ removed: 20 });
    expect(await tx.retention.removeMessages(stretch, true)).toMatchObject({ removed: 20 });
    expect(await tx.retention.expungePayloads({ ...stretch, limit: 10 })).toMatchObject({ removed: 10 });
    await tx.retention.expungeExpiredPayloads(now, 10);
    await tx.retention.listHolders();
    await tx.retention.listHeldEndpoints({ leasedBy: 0, afterEndpointId: "", limit: 10 });
    await tx.retention.removePending(gone.id, 0, 10);
    await tx.retention.removeStates("", 10);
    await tx.retention.removeTasks(now, 10);
    await tx.retention.notePayloadsExpunged(await tx.retention.payloadsExpungedUntil());
    await tx.idempotency.find("key", now);
    await tx.idempotency.prune(now, 10);
    await tx.tokens.prune(now, 10);
  });
  await store.write(async (tx) => {
    await tx.nodes.beat(node, now);
    await tx.nodes.bury(now - 1);
    await tx.nodes.leave(node);
  });
}

/** What people look at. */
async function browse(store: Pick<Store, "read">): Promise<void> {
  const of = { applicationId: application.id, endpointId: endpoint.id };
  await store.read(async (tx) => {
    const [first] = await tx.messages.list(of, { limit: 10, descending: true });
    await tx.deliveries.listByEndpoint(endpoint.id, of, { limit: 10 });
    await tx.attempts.list({ ...of, messageId: first!.id }, { limit: 10, descending: true });
    await tx.attempts.list(of, { limit: 10, descending: true });
    await tx.replays.lastStatuses(endpoint.id, [first!.id]);
  });
}

async function insertScene(store: Store): Promise<void> {
  await store.write(async (tx) => {
    await tx.applications.insert(application);
    await tx.endpoints.insert(endpoint);
  });
}

describe("what is done all the time finds its rows by an index", () => {
  /** Tables that have few rows, however much is delivered, and indexes that are as small as the backlog. */
  const small = ["facts", "nodes", "organizations"];
  const smallIndexes = ["deliveries_pending", "deliveries_in_order", "tasks_open"];

  test("on SQLite, by its query plans", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hookplane-plans-"));
    const store = await openSqliteStore(folder);
    await insertScene(store);
    await store.close();
    const path = sqlitePathOf(folder);
    const database = new DatabaseSync(path);
    const query = async (text: string) => database.prepare(text).all();
    await fill({ query, emptyPayload: "x'7b7d'" }, endpoint, 1_000);
    const connection = new SqliteConnection(path, { readOnly: false, busyTimeoutMs: 1_000 });
    const recorder = new Recorder(connection);
    const seal = await openSeal(connection, join(folder, "master.key"));
    const tx = createTx(recorder, new ChangeLog(), seal);
    const recorded: Pick<Store, "read" | "write"> = { read: (fn) => fn(tx), write: (fn) => fn(tx) };
    await exercise({ ...recorded, ...createHotPath(recorder, new ChangeLog(), tx) });
    await browse(recorded);
    connection.close();

    const scans: string[] = [];
    for (const text of recorder.texts) {
      for (const row of database.prepare(`explain query plan ${text}`).all()) {
        const [, table = "", index = ""] =
          /^SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?/.exec(row["detail"] as string) ?? [];
        const isTable = database
          .prepare("select 1 from sqlite_schema where type = 'table' and name = ?")
          .get(table);
        if (isTable && !small.includes(table) && !smallIndexes.includes(index)) {
          scans.push(`${row["detail"] as string} in ${text}`);
        }
      }
    }
    database.close();
    rmSync(folder, { recursive: true });
    expect(recorder.texts.size).toBeGreaterThan(60);
    expect(scans).toEqual([]);
  });

  test("on PostgreSQL, by the rows that it has read, also before it knows anything about its tables", async () => {
    const opened = await postgres.open();
    const { store } = opened;
    await insertScene(store);
    const count = 50_000;
    await fill(opened, endpoint, count);
    await opened.query("select pg_stat_reset()");
    await exercise(store);
    await opened.query("analyze");
    await browse(store);
    // What a session has read is counted when it ends at the latest.
    await opened[Symbol.asyncDispose]();
    const growing = ["messages", "deliveries", "attempts"];
    const tables = await opened.query(
      "select relname as name, seq_tup_read, idx_tup_fetch from pg_stat_user_tables",
    );
    const indexes = await opened.query("select indexrelname as name, idx_tup_read from pg_stat_user_indexes");
    const readMuch = [
      ...tables.filter(
        ({ name, seq_tup_read }) => growing.includes(String(name)) && Number(seq_tup_read) > 0,
      ),
      ...tables.filter(({ idx_tup_fetch }) => Number(idx_tup_fetch) > count / 20),
      ...indexes.filter(({ idx_tup_read }) => Number(idx_tup_read) > count / 20),
    ];
    expect(readMuch).toEqual([]);
    // They were counted at all.
    expect(Number(indexes.find(({ name }) => name === "messages_pkey")!["idx_tup_read"])).toBeGreaterThan(20);
  });
});

/** Notes the texts of the statements that run. */
class Recorder implements Sql {
  readonly texts = new Set<string>();
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  get forUpdate(): string {
    return this.#sql.forUpdate;
  }

  get skipLocked(): string {
    return this.#sql.skipLocked;
  }

  get isListed(): string {
    return this.#sql.isListed;
  }

  has(column: string): string {
    return this.#sql.has(column);
  }

  all(text: string, ...values: readonly Value[]): Promise<Row[]> {
    this.texts.add(text);
    return this.#sql.all(text, ...values);
  }

  get(text: string, ...values: readonly Value[]): Promise<Row | undefined> {
    this.texts.add(text);
    return this.#sql.get(text, ...values);
  }

  run(text: string, ...values: readonly Value[]): Promise<number> {
    this.texts.add(text);
    return this.#sql.run(text, ...values);
  }
}
