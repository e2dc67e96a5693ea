import { mkdtempSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import type { StorageConfig } from "../config.ts";
import { openDataFolder } from "./data-folder.ts";
import { checkDatabase } from "./maintenance.ts";
import { readMigrations } from "./migrations.ts";
import { startPostgres, type PostgresServer } from "./postgres-server.suite.ts";
import { sqlitePathOf } from "./sqlite-store.ts";
import { migrateDatabase } from "./upgrade.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function makeStorage(databaseUrl: string | null = null): StorageConfig {
  const dataDir = mkdtempSync(join(tmpdir(), "hookplane-upgrade-"));
  cleanups.push(() => {
    rmSync(dataDir, { recursive: true });
  });
  return { dataDir, databaseUrl, masterKeyFile: null };
}

describe("migrateDatabase() on SQLite", () => {
  const newest = readMigrations("sqlite").length;

  test("makes a database, and leaves it alone afterwards", async () => {
    const storage = makeStorage();
    expect(await migrateDatabase(storage)).toEqual({ before: 0, after: newest });
    const folder = openDataFolder(storage.dataDir);
    // While a service uses it, too.
    expect(await migrateDatabase(storage)).toEqual({ before: newest, after: newest });
    folder.close();
    expect((await checkDatabase(storage)).problems).toEqual([]);
  });

  test("brings an older one to this version, but not under a service's hands", async () => {
    const storage = makeStorage();
    const path = sqlitePathOf(storage.dataDir);
    const [first] = readMigrations("sqlite");
    const database = new DatabaseSync(path);
    database.exec(`${first}; pragma user_version = 1`);
    database.close();
    const folder = openDataFolder(storage.dataDir);
    await expect(migrateDatabase(storage)).rejects.toMatchObject({ code: "data_folder_in_use" });
    folder.close();
    expect(await migrateDatabase(storage)).toEqual({ before: 1, after: newest });
  });

  test("refuses a newer one, and what is no database", async () => {
    const storage = makeStorage();
    await migrateDatabase(storage);
    const database = new DatabaseSync(sqlitePathOf(storage.dataDir));
    database.exec(`pragma user_version = ${newest + 1}`);
    database.close();
    await expect(migrateDatabase(storage)).rejects.toMatchObject({
      code: "database_unusable",
      message: expect.stringContaining(`has version ${newest + 1}`),
    });
  });
});

describe("migrateDatabase() on PostgreSQL", () => {
  let server: PostgresServer | undefined;
  afterAll(() => server?.close());
  const newest = readMigrations("postgres").length;

  test("makes the tables, and leaves them alone afterwards", async () => {
    server = await startPostgres();
    const storage = makeStorage(await server.createDatabase());
    expect(await migrateDatabase(storage)).toEqual({ before: 0, after: newest });
    expect(await migrateDatabase(storage)).toEqual({ before: newest, after: newest });
    expect((await checkDatabase(storage)).problems).toEqual([]);
  });

  test("says why it can do nothing, without the password", async () => {
    const url = "postgres://me:canary@127.0.0.1:9/hooks";
    const failure: unknown = await migrateDatabase(makeStorage(url)).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "database_unusable", message: expect.stringContaining('"hooks"') });
    expect(String(failure)).not.toContain("canary");
  });
});
