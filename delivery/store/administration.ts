import { existsSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import type { StorageConfig } from "../config.ts";
import { StartError } from "../errors.ts";
import { isDataFolderInUse } from "./data-folder.ts";
import { readMigrations } from "./migrations.ts";
import { toPostgresStartError } from "./postgres-start-failure.ts";
import { PostgresConnection, readUniqueRules } from "./postgres.ts";
import type { Sql } from "./sql.ts";
import { findDamage } from "./sqlite-damage.ts";
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
  /** Runs what writes in one transaction. */
  transact<T>(fn: () => Promise<T>): Promise<T>;
  /** Runs what reads on one state of the database, while others go on to write. */
  snapshot<T>(fn: () => Promise<T>): Promise<T>;
  /** Damage of the file, one sentence each; PostgreSQL looks after its own. */
  findDamage(): Promise<readonly string[]>;
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
    ? await openSqlite(storage.dataDir, masterKeyFile)
    : await openPostgres(storage.databaseUrl, masterKeyFile);
}

async function openSqlite(dataDir: string, masterKeyFile: string): Promise<Administration> {
  const path = sqlitePathOf(dataDir);
  if (!existsSync(path)) {
    throw new StartError(
      "database_unusable",
      `There is no database in "${dataDir}": name the folder of the service with --data-dir.`,
    );
  }
  let sql: SqliteConnection | undefined;
  try {
    const connection = new SqliteConnection(path, { readOnly: false, busyTimeoutMs });
    sql = connection;
    connection.execute("pragma synchronous = full");
    const row = await connection.get("select user_version as version from pragma_user_version()");
    refuseOtherVersion(path, Number(row?.["version"]), readMigrations("sqlite").length);
    const run = async (statement: string): Promise<void> => {
      connection.execute(statement);
    };
    return {
      sql: connection,
      masterKeyFile,
      isServed: () => isDataFolderInUse(dataDir),
      transact: (fn) => inTransaction(fn, "begin immediate", run),
      snapshot: (fn) => onSnapshot(fn, "begin", run),
      findDamage: () => findDamage(connection),
      close: async () => {
        connection.close();
      },
    };
  } catch (cause) {
    sql?.close();
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
    const facts = await client.query<{ value: string }>("select value from facts where name = 'version'");
    const known = readMigrations("postgres").length;
    refuseOtherVersion(client.database ?? "", Number(facts.rows[0]?.value ?? 0), known);
    const run = (statement: string) => client.query(statement);
    const sql = new PostgresConnection(client, await readUniqueRules(client), { isWriter: true });
    return {
      sql,
      masterKeyFile,
      isServed: () => null,
      transact: (fn) => inTransaction(fn, "begin", run),
      snapshot: (fn) => onSnapshot(fn, "begin isolation level repeatable read, read only", run),
      findDamage: () => Promise.resolve([]),
      close: () => client.end(),
    };
  } catch (cause) {
    await client.end().catch(() => undefined);
    throw toPostgresStartError(client.database ?? "", cause);
  }
}

function refuseOtherVersion(name: string, version: number, known: number): void {
  if (version === known) return;
  throw new StartError(
    "database_unusable",
    `The database "${name}" has version ${version}, and this program works with version ${known}. ` +
      (version < known
        ? "Start the service once, which brings it up to date."
        : "Run the newer Hookplane that made it."),
  );
}

type Run = (statement: string) => Promise<unknown>;

async function inTransaction<T>(fn: () => Promise<T>, begin: string, run: Run): Promise<T> {
  await run(begin);
  try {
    const result = await fn();
    await run("commit");
    return result;
  } catch (error) {
    await endQuietly(run);
    throw error;
  }
}

async function onSnapshot<T>(fn: () => Promise<T>, begin: string, run: Run): Promise<T> {
  await run(begin);
  try {
    return await fn();
  } finally {
    await endQuietly(run);
  }
}

/** Some errors, such as a damaged page, have ended the transaction already. */
async function endQuietly(run: Run): Promise<void> {
  await run("rollback").catch(() => undefined);
}
