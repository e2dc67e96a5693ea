import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ServiceError } from "../errors.ts";
import { bigintArray, byteaArray, textArray } from "./postgres-arrays.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { createPool, PostgresConnection, readUniqueRules, type PostgresSettings } from "./postgres.ts";
import { ConflictError, MissingError } from "./store.ts";

let server: PostgresServer;
let url: string;
beforeAll(async () => {
  server = await startPostgres();
  url = await server.createDatabase();
}, 120_000);
afterAll(() => server.close());

const settings = { maxConnections: 2, connectTimeoutMs: 10_000, statementTimeoutMs: 60_000 };

async function withConnection<T>(
  use: (sql: PostgresConnection) => Promise<T>,
  given: Partial<PostgresSettings> = {},
): Promise<T> {
  const pool = createPool({ ...settings, url, ...given });
  const client = await pool.connect();
  try {
    return await use(new PostgresConnection(client, await readUniqueRules(client), { isWriter: true }));
  } finally {
    client.release();
    await pool.end();
  }
}

/** A text that PostgreSQL can hold: without NUL and halves of characters. */
const text = fc.string({ unit: "binary" }).map((value) => value.replaceAll(/\0|\p{Surrogate}/gu, ""));

describe("arrays in binary", () => {
  test("arrive as they were sent, whatever is in them", async () => {
    await withConnection((sql) =>
      fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              text: fc.option(text),
              number: fc.option(fc.maxSafeInteger()),
              bytes: fc.option(fc.uint8Array({ maxLength: 2_000 })),
            }),
            { maxLength: 200 },
          ),
          async (items) => {
            const rows = await sql.all(
              "select * from unnest(?::text[], ?::bigint[], ?::bytea[]) with ordinality as given (text, number, bytes, place)",
              textArray(items, (item) => item.text),
              bigintArray(items, (item) => item.number),
              byteaArray(items, (item) => item.bytes),
            );
            expect(
              rows.map((row) => ({ ...row, bytes: row["bytes"] && Buffer.from(row["bytes"] as Buffer) })),
            ).toEqual(
              items.map((item, index) => ({
                ...item,
                bytes: item.bytes && Buffer.from(item.bytes),
                place: index + 1,
              })),
            );
          },
        ),
        { numRuns: 60 },
      ),
    );
  });

  test("have U+FFFD where PostgreSQL can hold nothing", async () => {
    const sent = ["a\0b", "\0", "\ud800"];
    await withConnection(async (sql) => {
      const rows = await sql.all(
        "select unnest(?::text[]) as text",
        textArray(sent, (item) => item),
      );
      expect(rows.map((row) => row["text"])).toEqual(["a\ufffdb", "\ufffd", "\ufffd"]);
    });
  });
});

describe("a connection", () => {
  test("syncs its commits and bounds its statements, whatever the server's own settings are", async () => {
    await server.query("alter role hookplane set synchronous_commit = off");
    await server.query("alter role hookplane set default_transaction_isolation = serializable");
    try {
      await withConnection(
        async (sql) => {
          const show = async (name: string) =>
            (await sql.get(`select current_setting('${name}') as value`))?.["value"];
          expect(await show("synchronous_commit")).toBe("on");
          expect(await show("statement_timeout")).toBe("1234ms");
          expect(await show("default_transaction_isolation")).toBe("read committed");
          expect(await show("enable_seqscan")).toBe("off");
          expect(await show("application_name")).toBe("hookplane");
        },
        { statementTimeoutMs: 1_234, session: { enable_seqscan: "off" } },
      );
    } finally {
      await server.query("alter role hookplane reset all");
    }
  });

  test("leaves a stronger promise than its own alone", async () => {
    await server.query("alter role hookplane set synchronous_commit = remote_apply");
    try {
      const row = await withConnection((sql) =>
        sql.get("select current_setting('synchronous_commit') as value"),
      );
      expect(row?.["value"]).toBe("remote_apply");
    } finally {
      await server.query("alter role hookplane reset all");
    }
  });

  test("tells conflicts by their columns, and rows that are missing", async () => {
    await server.query(
      `create table parents (id text primary key, a text, b text);
       create unique index some_parents on parents (b, a) where b is not null;
       create table children (id text references parents (id))`,
      url,
    );
    await withConnection(async (sql) => {
      const insert = "insert into parents (id, a, b) values (?, ?, ?)";
      await sql.run(insert, "1", "a", "b");
      await expect(sql.run(insert, "1", "c", "d")).rejects.toEqual(new ConflictError("parents.id"));
      await expect(sql.run(insert, "2", "a", "b")).rejects.toEqual(new ConflictError("parents.b, parents.a"));
      await expect(sql.run("insert into children (id) values (?)", "9")).rejects.toThrow(MissingError);
      expect(sql.failure).toBeInstanceOf(ConflictError);
    });
  });

  test("tells an outage from a mistake, and neither says what is in the rows", async () => {
    await server.query("create table checked (id text, secret text check (secret <> 'canary'))", url);
    await withConnection(
      async (sql) => {
        const slow: unknown = await sql.get("select pg_sleep(30)").catch((error: unknown) => error);
        expect(slow).toBeInstanceOf(ServiceError);
        expect(slow).toMatchObject({
          code: "unavailable",
          status: 503,
          retryAfterSeconds: 1,
          cause: { code: "57014" },
        });
        const wrong: unknown = await sql
          .run("insert into checked (id, secret) values ('1', 'canary')")
          .catch((error: unknown) => error);
        expect(wrong).not.toBeInstanceOf(ServiceError);
        expect(wrong).toMatchObject({ code: "23514" });
        expect(JSON.stringify(wrong)).not.toContain("canary");
        expect(String(wrong)).not.toContain("canary");
        await expect(sql.run("update checked set nothing = 1")).rejects.toThrow('column "nothing"');
      },
      { statementTimeoutMs: 200 },
    );
  });

  test("prepares its statements anew after another node has changed the tables", async () => {
    const pool = createPool({ ...settings, url });
    const client = await pool.connect();
    const sql = new PostgresConnection(client, new Map(), { isWriter: false });
    await server.query("create table grown (id text)", url);
    expect(await sql.all("select * from grown")).toEqual([]);
    await server.query("alter table grown add column more text", url);
    await expect(sql.all("select * from grown")).rejects.toMatchObject({ code: "unavailable" });
    client.release(true);
    await pool.end();
  });
});
