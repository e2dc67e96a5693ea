import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { emptyPolicy } from "../core/policy.ts";
import { migrate, readMigrations } from "./migrations.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { openPostgresStore } from "./postgres-store.ts";
import { createSeal } from "./seal.ts";
import { openSqliteStore } from "./sqlite-store.ts";
import { SqliteConnection } from "./sqlite.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "hookplane-migrations-"));
  cleanups.push(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** A database as the first version made it, with a row or more in each table. */
function makeFirstVersion(folder: string): void {
  const key = randomBytes(32);
  writeFileSync(join(folder, "master.key"), `${key.toString("base64")}\n`);
  const seal = createSeal([key]);
  const database = new DatabaseSync(join(folder, "hookplane.db"));
  database.exec(
    `pragma journal_mode = wal; begin; ${readMigrations("sqlite")[0] ?? ""}; pragma user_version = 1; commit`,
  );
  const insert = (table: string, row: Record<string, null | number | string | Uint8Array>): void => {
    const names = Object.keys(row);
    database
      .prepare(`insert into ${table} (${names.join(", ")}) values (${names.map(() => "?").join(", ")})`)
      .run(...Object.values(row));
  };
  insert("facts", { name: "master_key", value: seal.close("right", "facts.master_key") });
  for (const n of [1, 2]) {
    insert("applications", {
      ...{
        id: `app_${n}`,
        uid: n === 1 ? "shop" : null,
        name: `Shop ${n}`,
        dialect: "svix",
        throttle_rate: 5,
      },
      ...{ metadata: '{"team":"web"}', created_at: 1, updated_at: 2 },
    });
    const id = `ep_${n}`;
    insert("endpoints", {
      ...{ id, application_id: `app_${n}`, uid: "main", target_hash: "a hash", pre_target_hash: null },
      url: seal.close("https://example.com/hook", `${id}.url`),
      ...{ description: "the hook", filter_types: '["order.paid"]', channels: null },
      headers: seal.close('{"authorization":"Bearer 1"}', `${id}.headers`),
      ...{ disabled: 0, throttle_rate: null, version: 3, metadata: '{"a":"b"}' },
      settings: seal.close('{"method":"POST"}', `${id}.settings`),
      secrets: seal.close('[{"key":"whsec_1","expiresAt":null}]', `${id}.secrets`),
      ...{ created_at: 1, updated_at: 2 },
    });
  }
  insert("event_types", {
    ...{
      name: "order.paid",
      description: "An order was paid",
      archived: 0,
      deprecated: 1,
      schemas: '{"1":{}}',
    },
    ...{ feature_flags: '["beta"]', group_name: "orders", created_at: 1, updated_at: 2 },
  });
  const delivery = { endpoint_id: "ep_1", application_id: "app_1", trigger_type: "scheduled" };
  for (const [id, state, nextAttemptAt, leasedUntil] of [
    ["msg_1", "pending", 3_000, 9_000],
    ["msg_2", "pending", 5_000, null],
    ["msg_3", "succeeded", null, null],
    ["msg_4", "failed", null, null],
  ] as const) {
    insert("messages", {
      ...{
        id,
        application_id: "app_1",
        event_type: "order.paid",
        event_id: `event of ${id}`,
        channels: '["eu"]',
      },
      ...{ tags: '["first"]', payload: Buffer.from(`{ "id": "${id}" }`), created_at: 1_000 },
    });
    insert("deliveries", {
      ...{ ...delivery, message_id: id, state, attempts: state === "pending" ? 0 : 1 },
      ...{ next_attempt_at: nextAttemptAt, leased_until: leasedUntil },
      claimable_at: leasedUntil ?? nextAttemptAt,
    });
  }
  insert("attempts", {
    ...{ ...delivery, id: "atmpt_1", message_id: "msg_3", url: "https://example.com/hook", succeeded: 1 },
    ...{ response_status_code: 200, response: "thanks", duration_ms: 12, started_at: 1_001 },
  });
  insert("idempotency", { key: "k", request_hash: "h", status: 202, body: "{}", expires_at: 9e12 });
  database.close();
}

describe("the migrations of SQLite", () => {
  test("bring a database of the first version along with all that it holds", async () => {
    const folder = makeFolder();
    makeFirstVersion(folder);
    const store = await openSqliteStore(folder);
    cleanups.push(() => store.close());

    const application = await store.read((tx) => tx.applications.find("default", "shop"));
    expect(application).toEqual({
      ...{ id: "app_1", organizationId: "default", uid: "shop", name: "Shop 1", dialect: "svix" },
      ...{ throttleRate: 5, policy: emptyPolicy, metadata: { team: "web" }, createdAt: 1, updatedAt: 2 },
    });
    expect(await store.read((tx) => tx.organizations.find("default"))).toBeDefined();
    expect(await store.read((tx) => tx.endpoints.list("app_1"))).toEqual([
      {
        ...{ id: "ep_1", applicationId: "app_1", uid: "main", url: "https://example.com/hook" },
        ...{ description: "the hook", filterTypes: ["order.paid"], channels: null },
        ...{ headers: { authorization: "Bearer 1" }, disabled: false, throttleRate: null, version: 3 },
        ...{ metadata: { a: "b" }, settings: { method: "POST" }, policy: emptyPolicy, tls: null },
        ...{ secrets: [{ key: "whsec_1", expiresAt: null }], createdAt: 1, updatedAt: 2 },
      },
    ]);
    expect(await store.read((tx) => tx.endpoints.find("app_2", "main"))).toMatchObject({ id: "ep_2" });
    expect(await store.read((tx) => tx.eventTypes.find("default", "order.paid"))).toEqual({
      ...{ organizationId: "default", name: "order.paid", description: "An order was paid", archived: false },
      ...{ deprecated: true, schemas: '{"1":{}}', featureFlags: ["beta"], groupName: "orders" },
      ...{ createdAt: 1, updatedAt: 2 },
    });
    const message = await store.read((tx) => tx.messages.find("app_1", "event of msg_1"));
    expect(message).toMatchObject({
      ...{ id: "msg_1", eventType: "order.paid", channels: ["eu"], tags: ["first"], createdAt: 1_000 },
      ...{ orderingKey: null, payloadExpiresAt: null },
    });
    expect(Buffer.from(message?.payload ?? "").toString()).toBe('{ "id": "msg_1" }');
    expect(await store.read((tx) => tx.attempts.find("msg_3", "atmpt_1"))).toMatchObject({
      ...{ response: "thanks", succeeded: true, durationMs: 12 },
    });
    expect(await store.read((tx) => tx.idempotency.find("k", 1))).toMatchObject({ status: 202 });

    // What was waiting or on its way is due; what had ended has.
    expect(await store.read((tx) => tx.deliveries.listDue())).toEqual(
      new Map([["ep_1", { applicationId: "app_1", at: 3_000 }]]),
    );
    const { due } = await store.claim([{ endpointId: "ep_1", limit: 9 }], 1, 9_000);
    expect(due.map(({ delivery }) => delivery)).toEqual(
      ["msg_1", "msg_2"].map((messageId, n) => ({
        ...{ messageId, endpointId: "ep_1", applicationId: "app_1", state: "pending", attempts: 0 },
        ...{ nextAttemptAt: [3_000, 5_000][n], leasedBy: 1, trigger: "scheduled", place: null },
      })),
    );
    const ended = await store.read((tx) => tx.deliveries.find("msg_4", "ep_1"));
    expect(ended).toMatchObject({ state: "failed", attempts: 1 });

    // The rules that rows must keep are those of a new database.
    await expect(
      store.write((tx) =>
        tx.applications.insert({ ...(application as NonNullable<typeof application>), id: "app_9" }),
      ),
    ).rejects.toThrow("applications.organization_id, applications.uid");
    expect(await store.write((tx) => tx.applications.delete("app_2"))).toBe(true);
  });

  test("leave a database at the version before, when one of them fails", async () => {
    const folder = makeFolder();
    makeFirstVersion(folder);
    const path = join(folder, "hookplane.db");
    const connection = new SqliteConnection(path, { readOnly: false, busyTimeoutMs: 0 });
    const broken = [
      ...readMigrations("sqlite"),
      "create table half (id text); insert into nowhere values (1)",
    ];
    await expect(migrate(connection, path, broken)).rejects.toThrow("nowhere");
    connection.close();
    const store = await openSqliteStore(folder);
    expect(await store.read((tx) => tx.applications.list("default", { limit: 9 }))).toHaveLength(2);
    await store.close();
  });

  test("are made once by processes that begin at the same time", async () => {
    const folder = makeFolder();
    makeFirstVersion(folder);
    const module = pathToFileURL(join(import.meta.dirname, "sqlite-store.ts")).href;
    const program = `
      import { openSqliteStore } from ${JSON.stringify(module)};
      const store = await openSqliteStore(${JSON.stringify(folder)}, { busyTimeoutMs: 60_000 });
      console.log((await store.read((tx) => tx.applications.list("default", { limit: 9 }))).length);
      await store.close();`;
    const run = promisify(execFile);
    const results = await Promise.all(
      [1, 2, 3].map(() => run(process.execPath, ["--input-type=module", "-e", program])),
    );
    expect(results.map(({ stdout }) => stdout)).toEqual(["2\n", "2\n", "2\n"]);
  });
});

/** Of each table: its columns, each with its kind and whether it may be null, and what its indexes are about. */
type Schema = Record<string, { columns: Record<string, string>; indexes: string[] }>;

function readSqliteSchema(path: string): Schema {
  const database = new DatabaseSync(path);
  const ask = (text: string, ...values: string[]) =>
    database.prepare(text).all(...values) as Record<string, string | number | null>[];
  const schema: Schema = {};
  for (const { name } of ask(
    "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'",
  )) {
    const table = String(name);
    const columns = ask("select * from pragma_table_info(?)", table);
    const indexes = ask("select * from pragma_index_list(?)", table).map((index) => {
      const keys = ask("select name from pragma_index_info(?) order by seqno", String(index["name"]));
      const [{ sql = null } = {}] = ask(
        "select sql from sqlite_schema where name = ?",
        String(index["name"]),
      );
      const condition = /where (.*)$/s.exec(String(sql ?? ""))?.[1];
      return toIndex({
        name: sql === null ? null : String(index["name"]),
        isUnique: index["unique"] === 1,
        columns: keys.map((key) => String(key["name"])),
        condition,
      });
    });
    // The key of a table with a number for it is the place of its rows, and needs no index.
    const numbered = columns.filter((column) => column["pk"] === 1 && column["type"] === "INTEGER");
    if (numbered.length === 1 && columns.filter((column) => Number(column["pk"]) > 0).length === 1) {
      indexes.push(toIndex({ name: null, isUnique: true, columns: [String(numbered[0]?.["name"])] }));
    }
    schema[table] = {
      columns: Object.fromEntries(
        columns.map((column) => [
          String(column["name"]),
          `${String(column["type"]).toLowerCase()}${column["notnull"] === 1 || Number(column["pk"]) > 0 ? "" : " or null"}`,
        ]),
      ),
      indexes: indexes.sort(),
    };
  }
  database.close();
  return schema;
}

async function readPostgresSchema(server: PostgresServer, url: string): Promise<Schema> {
  const schema: Schema = {};
  const kinds: Record<string, string> = { bigint: "integer", bytea: "blob" };
  for (const row of await server.query(
    "select table_name, column_name, data_type, is_nullable from information_schema.columns where table_schema = 'public'",
    url,
  )) {
    const {
      table_name: table = "",
      column_name: column = "",
      data_type: type = "",
    } = row as Record<string, string>;
    schema[table] ??= { columns: {}, indexes: [] };
    schema[table].columns[column] = `${kinds[type] ?? type}${row["is_nullable"] === "YES" ? " or null" : ""}`;
  }
  for (const row of await server.query(
    `select tables.relname as table, indexes.relname as name, indisunique as is_unique,
       (select array_agg(attname::text order by place) from unnest(indkey) with ordinality as keys (number, place)
        join pg_attribute on attrelid = indrelid and attnum = number) as columns,
       pg_get_expr(indpred, indrelid) as condition,
       exists (select 1 from pg_constraint where conindid = indexrelid) as is_unnamed
     from pg_index join pg_class as tables on tables.oid = indrelid join pg_class as indexes on indexes.oid = indexrelid
     where tables.relnamespace = 'public'::regnamespace`,
    url,
  )) {
    schema[String(row["table"])]?.indexes.push(
      toIndex({
        name: row["is_unnamed"] === true ? null : String(row["name"]),
        isUnique: row["is_unique"] === true,
        columns: row["columns"] as string[],
        condition: row["condition"] as string | null,
      }),
    );
  }
  for (const { indexes } of Object.values(schema)) indexes.sort();
  return schema;
}

function toIndex(index: {
  readonly name: string | null;
  readonly isUnique: boolean;
  readonly columns: readonly string[];
  readonly condition?: string | null | undefined;
}): string {
  // PostgreSQL tells the condition with brackets and types.
  const condition = index.condition
    ?.toLowerCase()
    .replaceAll(/[()]|::text/g, "")
    .replaceAll(/\s+/g, " ");
  return [
    index.isUnique ? "unique" : "index",
    index.name ?? "",
    `(${index.columns.join(", ")})`,
    condition === undefined ? "" : `where ${condition}`,
  ]
    .filter(Boolean)
    .join(" ");
}

describe("the migrations of PostgreSQL", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 120_000);
  afterAll(() => server.close());

  test("end with the tables, columns and indexes that those of SQLite end with", async () => {
    const folder = makeFolder();
    await (await openSqliteStore(folder)).close();
    const url = await server.createDatabase();
    await (
      await openPostgresStore({ url, masterKeyFile: join(folder, "master.key") })
    )
      .close()
      .catch(() => undefined);
    const sqlite = readSqliteSchema(join(folder, "hookplane.db"));
    expect(Object.keys(sqlite)).toEqual(expect.arrayContaining(["applications", "deliveries", "tasks"]));
    expect(await readPostgresSchema(server, url)).toEqual(sqlite);
  });

  test("are made once by nodes that start at the same time", async () => {
    const url = await server.createDatabase();
    const masterKeyFile = join(makeFolder(), "master.key");
    const stores = await Promise.all([1, 2, 3].map(() => openPostgresStore({ url, masterKeyFile })));
    for (const store of stores) {
      expect(await store.read((tx) => tx.organizations.list({ limit: 9 }))).toHaveLength(1);
      await store.close();
    }
    // All of them have the key that the first one made.
    await (await openPostgresStore({ url, masterKeyFile })).close();
    const [{ value } = {}] = await server.query("select value from facts where name = 'version'", url);
    expect(value).toBe(String(readMigrations("postgres").length));
  });

  test("leave a database that is newer than the program as it is", async () => {
    const url = await server.createDatabase();
    const options = { url, masterKeyFile: join(makeFolder(), "master.key") };
    await (await openPostgresStore(options)).close();
    await server.query("update facts set value = '999' where name = 'version'", url);
    await expect(openPostgresStore(options)).rejects.toMatchObject({
      code: "database_unusable",
      message: expect.stringMatching(
        /^The database "test_.*" has version 999, and this program knows versions up to \d+\. Run the newer/,
      ) as string,
    });
  });
});
