import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
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
 * Brings the database to the newest version, one transaction for each step.
 *
 * @throws StartError `database_unusable` when the database is newer than this program
 */
export async function migrate(
  connection: SqliteConnection,
  path: string,
  migrations: readonly string[],
): Promise<void> {
  const row = await connection.get("pragma user_version");
  const version = row?.["user_version"] as number;
  if (version > migrations.length) {
    throw new StartError(
      "database_unusable",
      `The database "${path}" has version ${version}, and this program knows versions up to ${migrations.length}. ` +
        "Run the newer Hookplane that made it, or restore a backup from before the upgrade.",
    );
  }
  for (const [index, migration] of migrations.entries()) {
    if (index < version) continue;
    connection.execute(`begin immediate; ${migration}; pragma user_version = ${index + 1}; commit`);
  }
}
