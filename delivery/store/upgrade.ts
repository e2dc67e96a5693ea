import { existsSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import type { StorageConfig } from "../config.ts";
import { openDataFolder } from "./data-folder.ts";
import { readMigrations, readPostgresVersion } from "./migrations.ts";
import { toPostgresStartError } from "./postgres-start-failure.ts";
import { openPostgresStore } from "./postgres-store.ts";
import { openSqliteStore, sqlitePathOf } from "./sqlite-store.ts";
import { SqliteConnection } from "./sqlite.ts";
import { toStartError } from "./start-failure.ts";

/** Versions of a database's tables; 0 for one that is not there or empty. */
export interface Upgrade {
  readonly before: number;
  readonly after: number;
}

const connectTimeoutMs = 10_000;

/**
 * Brings a database to this program's version, or makes it, as the start of a service does. One that is there already is
 * left alone, also while a service uses it.
 *
 * @throws StartError when the database is newer, in use, or cannot be used
 */
export async function migrateDatabase(storage: StorageConfig): Promise<Upgrade> {
  const { databaseUrl, dataDir, masterKeyFile } = storage;
  const before = databaseUrl === null ? await readVersion(dataDir) : await askVersion(databaseUrl);
  const after = readMigrations(databaseUrl === null ? "sqlite" : "postgres").length;
  if (before === after) return { before, after };
  if (databaseUrl !== null) {
    const store = await openPostgresStore({
      url: databaseUrl,
      masterKeyFile: masterKeyFile ?? join(dataDir, "master.key"),
    });
    await store.close();
    return { before, after };
  }
  const folder = openDataFolder(dataDir);
  try {
    const store = await openSqliteStore(dataDir, { masterKeyFile });
    await store.close();
    return { before, after };
  } finally {
    folder.close();
  }
}

async function readVersion(dataDir: string): Promise<number> {
  const path = sqlitePathOf(dataDir);
  if (!existsSync(path)) return 0;
  try {
    const connection = new SqliteConnection(path, { readOnly: true, busyTimeoutMs: connectTimeoutMs });
    try {
      const row = await connection.get("select user_version as version from pragma_user_version()");
      return Number(row?.["version"]);
    } finally {
      connection.close();
    }
  } catch (cause) {
    throw toStartError(path, cause, { code: "database_unusable", remedy: "Restore it from your backup." });
  }
}

async function askVersion(url: string): Promise<number> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: connectTimeoutMs,
    fallback_application_name: "hookplane",
  });
  // A connection that breaks tells so to the statement that is under way.
  client.on("error", () => undefined);
  try {
    await client.connect();
    return await readPostgresVersion(client);
  } catch (cause) {
    throw toPostgresStartError(client.database ?? "", cause);
  } finally {
    await client.end().catch(() => undefined);
  }
}
