import { existsSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import type { StorageConfig } from "../config.ts";
import { StartError } from "../errors.ts";
import { isDataFolderInUse } from "./data-folder.ts";
import { PostgresConnection, readUniqueRules } from "./postgres.ts";
import type { Sql } from "./sql.ts";
import { sqlitePathOf } from "./sqlite-store.ts";
import { SqliteConnection } from "./sqlite.ts";
import { toStartError } from "./start-failure.ts";

/** A connection to a database that is there, for a command that works beside the service or while it is stopped. */
export interface Administration {
  readonly sql: Sql;
  /** The file of the master keys. */
  readonly masterKeyFile: string;
  /** Whether a service surely runs that looks after the database; null where nobody can tell. */
  isServed(): boolean | null;
  transact<T>(fn: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

const connectTimeoutMs = 10_000;
/** How long a statement waits for the service's own writes. */
const busyTimeoutMs = 10_000;

/**
 * Connects to the database of a service, which stays as it is: nothing is made or migrated.
 *
 * @throws StartError when there is none, or it cannot be used
 */
export async function openAdministration(storage: StorageConfig): Promise<Administration> {
  const masterKeyFile = storage.masterKeyFile ?? join(storage.dataDir, "master.key");
  return storage.databaseUrl === null
    ? openSqlite(storage.dataDir, masterKeyFile)
    : await openPostgres(storage.databaseUrl, masterKeyFile);
}

function openSqlite(dataDir: string, masterKeyFile: string): Administration {
  const path = sqlitePathOf(dataDir);
  if (!existsSync(path)) {
    throw new StartError(
      "database_unusable",
      `There is no database in "${dataDir}": name the folder of the service with --data-dir.`,
    );
  }
  try {
    const sql = new SqliteConnection(path, { readOnly: false, busyTimeoutMs });
    sql.execute("pragma synchronous = full");
    return {
      sql,
      masterKeyFile,
      isServed: () => isDataFolderInUse(dataDir),
      transact: (fn) =>
        inTransaction(fn, async (statement) => {
          sql.execute(statement === "begin" ? "begin immediate" : statement);
        }),
      close: async () => {
        sql.close();
      },
    };
  } catch (cause) {
    throw toStartError(path, cause, { code: "database_unusable", remedy: "Restore it from your backup." });
  }
}

async function openPostgres(url: string, masterKeyFile: string): Promise<Administration> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: connectTimeoutMs,
    fallback_application_name: "hookplane",
  });
  // A connection that breaks tells so to the statement that is under way.
  client.on("error", () => undefined);
  try {
    await client.connect();
    const sql = new PostgresConnection(client, await readUniqueRules(client), { isWriter: true });
    return {
      sql,
      masterKeyFile,
      isServed: () => null,
      transact: (fn) => inTransaction(fn, (statement) => client.query(statement)),
      close: () => client.end(),
    };
  } catch (cause) {
    await client.end().catch(() => undefined);
    throw toStartError("PostgreSQL", cause, {
      code: "database_unusable",
      remedy: "Correct --database-url, or try again once the database can be reached.",
    });
  }
}

async function inTransaction<T>(
  fn: () => Promise<T>,
  run: (statement: "begin" | "commit" | "rollback") => Promise<unknown>,
): Promise<T> {
  await run("begin");
  try {
    const result = await fn();
    await run("commit");
    return result;
  } catch (error) {
    await run("rollback");
    throw error;
  }
}
