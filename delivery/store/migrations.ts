import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ClientBase } from "pg";
import { StartError } from "../errors.ts";
import type { SqliteConnection } from "./sqlite.ts";

/** The texts of `migrations/<database>/0001.sql` and so on, in order: the first brings a database to version 1. */
export function readMigrations(database: "sqlite" | "postgres"): readonly string[] {
  const folder = join(import.meta.dirname, "migrations", database);
  return readdirSync(folder)
    .filter((name) => /^\d{4}\.sql$/.test(name))
    .sort()
    .map((name) => readFileSync(join(folder, name), "utf8"));
}

/**
 * The advisory lock of PostgreSQL under which a node that starts makes what others may be about to make: any number that
 * nobody else uses.
 */
export const startLock = 4_220_010_420;
/** How long a node waits for another one's migration. */
const migrationWaitMs = 600_000;

/**
 * Brings an SQLite database to the newest version, one transaction for each step.
 *
 * @throws StartError `database_unusable` when the database is newer than this program
 */
export async function migrate(
  connection: SqliteConnection,
  path: string,
  migrations: readonly string[],
): Promise<void> {
  // Tables that are made anew are dropped first, which must not touch the rows that refer to them. References are checked
  // as a whole before the commit.
  connection.execute("pragma foreign_keys = off");
  for (let isNewest = false; !isNewest;) {
    // Read within the transaction: another process may be at the same work.
    connection.execute("begin immediate");
    const row = await connection.get("pragma user_version");
    const version = row?.["user_version"] as number;
    refuseNewer(path, version, migrations.length);
    const next = migrations[version];
    isNewest = next === undefined;
    if (next !== undefined) {
      connection.execute(`${next}; pragma user_version = ${version + 1}`);
      const [broken] = await connection.all("pragma foreign_key_check");
      if (broken) throw new Error(`rows of "${String(broken["table"])}" refer to others that are not there`);
    }
    connection.execute("commit");
  }
  connection.execute("pragma foreign_keys = on");
}

/**
 * Brings a PostgreSQL database to the newest version, one transaction for each step. Of nodes that start together one
 * does it, and the others wait.
 *
 * @param client a connection without limits on how long a statement may take
 * @throws StartError `database_unusable` when the database is newer than this program
 */
export async function migratePostgres(
  client: ClientBase,
  name: string,
  migrations: readonly string[],
): Promise<void> {
  for (let isNewest = false; !isNewest;) {
    await client.query(`begin; set local lock_timeout = ${migrationWaitMs}`);
    await client.query("select pg_advisory_xact_lock($1)", [startLock]);
    const version = await readPostgresVersion(client);
    refuseNewer(name, version, migrations.length);
    const next = migrations[version];
    isNewest = next === undefined;
    if (next !== undefined) {
      await client.query(next);
      await client.query(
        "insert into facts (name, value) values ('version', $1) on conflict (name) do update set value = excluded.value",
        [String(version + 1)],
      );
    }
    await client.query("commit");
  }
}

/** The version of a database; 0 for an empty one. */
export async function readPostgresVersion(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ known: boolean }>("select to_regclass('facts') is not null as known");
  if (rows[0]?.known !== true) return 0;
  const facts = await client.query<{ value: string }>("select value from facts where name = 'version'");
  return Number(facts.rows[0]?.value ?? 0);
}

function refuseNewer(name: string, version: number, known: number): void {
  if (version <= known) return;
  throw new StartError(
    "database_unusable",
    `The database "${name}" has version ${version}, and this program knows versions up to ${known}. ` +
      "Run the newer Hookplane that made it, or restore a backup from before the upgrade.",
  );
}
