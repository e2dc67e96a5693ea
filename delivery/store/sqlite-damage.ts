import { statSync } from "node:fs";
import { StartError } from "../errors.ts";
import type { SqliteConnection } from "./sqlite.ts";

/** A database up to this size is looked at as a whole at each start: about 0.1 s from memory, under a second from disk. */
const maxBytesLookedAt = 128 * 1024 * 1024;
/** The tables that grow with every event. */
const historyTables = ["messages", "deliveries", "attempts"];

/**
 * Refuses a write-ahead log without its database, which SQLite would take for a new one, and throw the log away.
 *
 * @throws StartError `database_unusable`
 */
export function refuseLostDatabase(path: string): void {
  const log = `${path}-wal`;
  if (sizeOf(path) > 0 || sizeOf(log) === 0) return;
  throw new StartError(
    "database_unusable",
    `The database "${path}" is missing or empty, and its log "${log}" is not. Restore both from where they were, or ` +
      "the database from your backup and delete the log.",
  );
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * Looks for damage, at a cost that a start can bear: in the whole of a small database, and in all but the history of a
 * large one. Damage elsewhere shows when the page is read, and `checkDatabase` finds it.
 *
 * @param maxBytes the size up to which a database is a small one; 128 MiB by default
 * @throws StartError `database_unusable`
 */
export async function refuseDamage(
  connection: SqliteConnection,
  path: string,
  maxBytes = maxBytesLookedAt,
): Promise<void> {
  const size = await connection.get(
    "select page_count * page_size as bytes from pragma_page_count(), pragma_page_size()",
  );
  const problems: string[] = [];
  if (Number(size?.["bytes"]) <= maxBytes) {
    problems.push(...(await runCheck(connection, "quick_check(1)")));
  } else {
    const tables = await connection.all("select name from sqlite_schema where type = 'table'");
    for (const { name } of tables as { name: string }[]) {
      if (!historyTables.includes(name))
        problems.push(...(await runCheck(connection, `quick_check("${name}")`)));
    }
  }
  const [problem] = problems;
  if (problem === undefined) return;
  throw new StartError(
    "database_unusable",
    `The database "${path}" is damaged (${problem}). Look at it with hookplane db check, and restore it from your backup.`,
  );
}

/** Every damage that SQLite finds in the whole database, however long that takes; 100 at most. */
export async function findDamage(connection: SqliteConnection): Promise<readonly string[]> {
  return await runCheck(connection, "integrity_check(100)");
}

async function runCheck(connection: SqliteConnection, check: string): Promise<string[]> {
  const rows = await connection.all(`pragma ${check}`);
  // What is told of one tree may be several lines.
  const lines = rows.flatMap((row) => String(Object.values(row)[0]).split("\n"));
  return lines.filter((line) => line !== "ok" && line !== "");
}
